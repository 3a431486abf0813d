"""This project as one engine among the others: a process that reads jobs as lines and answers with CPU seconds.

    python ours.py DAYS [bars]        then lines such as {"job": "sweep"}; with `bars` also jobs on bars

It makes the same days from the same seed as everybody's bars are made from, and keeps its ticks; bars only for `bars`.
"""

import json
import resource
import statistics
import sys
import time
from datetime import date, timedelta

import numpy as np

from strategy import kernel
from strategy.calendar import trading_day
from strategy.instruments import Underlying
from strategy.params import Params
from tasks.backtest.compiled import CompiledMarket
from tasks.backtest.market import MarketModel, past_market
from tasks.backtest.prices import day_of_ticks

# The rules in play beside the indicators' filters, which are on by default.
RULES = {"stop_loss_points": 25, "trail_start_points": 15, "trail_step_points": 5, "daily_max_loss": 5_000}
FULL = Params(**RULES, target_points=40, supertrend_period=10, supertrend_multiplier=3.0)


def cpu_seconds():
    """Of this process, all threads, and of those it has waited for."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


def made_up_days(count):
    """Days of one-second ticks, a random walk that is busier at the ends of the day."""
    dice = np.random.Generator(np.random.PCG64(11))
    day, price, found = date(2024, 1, 1), 22_000_00.0, []
    shape = np.concatenate((np.linspace(1.6, 0.8, 9_000), np.full(7_500, 0.8), np.linspace(0.8, 1.3, 6_000)))
    while len(found) < count:
        if (today := trading_day(day)) is not None and len(today.windows) == 1 and not today.name:
            steps = dice.normal(0, 90, len(shape)) * shape
            prices = np.rint((price + np.cumsum(steps)) / 5).astype(np.int64) * 5
            price = float(np.clip(prices[-1], 15_000_00, 30_000_00))
            found.append(day_of_ticks(day, today.open_ms + np.arange(len(shape)) * 1000, prices))
        day += timedelta(days=1)
    return found


def market_of(days):
    """The days as the kernel takes them."""
    return CompiledMarket(past_market(made_up_days(days), Underlying.NIFTY, first=None, last=None).days, MarketModel())


def bars_of(market):
    """High, low and close of the five-second bars."""
    made = kernel.candles_of(market.ticks.at_ms, market.ticks.spot_paise, market.first_tick, 5, 50)
    return made[:3]


def pairs_of(directions, changes):
    """The simple rule: where it turns up, and where it then turns down; the first value of all is no turn."""
    found = np.empty((len(changes) // 2 + 1, 2), np.int64)
    count, bought = 0, -1
    for k in changes:
        if directions[k] > 0:
            bought = k
        elif bought >= 0:
            found[count, 0], found[count, 1] = bought, k
            count, bought = count + 1, -1
    return found[:count]


def anew(market):
    """The market with nothing but its ticks."""
    market.forget(market.ticks.at_ms, market.ticks.spot_paise)
    return market


def combinations(count=100):
    """Like the peers': 4 periods, 5 multipliers, then pairs of target and trailing stop, as many as are asked for."""
    pairs = max(1, count // 20)
    for period in (7, 10, 14, 20):
        for multiplier in (2.0, 2.5, 3.0, 3.5, 4.0):
            for number in range(pairs):
                target, trail = 10.0 + 40.0 * number / pairs, 5.0 + 15.0 * number / pairs
                yield FULL.model_copy(
                    update={
                        "supertrend_period": period,
                        "supertrend_multiplier": multiplier,
                        "target_points": round(target * 20) / 20,
                        "trail_start_points": round(trail * 20) / 20,
                        "trail_step_points": round(trail * 10) / 20,
                    }
                )


def sweep(market, count=100):
    """Trades of all combinations, from ticks."""
    market = anew(market)
    return sum(len(market.trades(params)) for params in combinations(count))


def reading(at_ms, spot_paise):
    """The floor for candles: each time and price is looked at once, in order."""
    later, highest = 0, 0.0
    for i in range(1, len(at_ms)):
        later += at_ms[i] > at_ms[i - 1]
        highest += spot_paise[i] * 0.01
    return later, highest


def averaging(ranges, period):
    """The floor for SuperTrend: the recursion of its average true range, and nothing else."""
    length = float(period)
    weight, average = length - 1.0, 0.0
    for one in ranges:
        average = (average * weight + one) / length
    return average


def main():
    """Answer jobs until the input ends."""
    market = market_of(int(sys.argv[1]))
    jobs = {"full": lambda: len(anew(market).trades(FULL)), "sweep": lambda: sweep(market)}
    if sys.argv[2:] == ["bars"]:
        jobs |= jobs_on_bars(market)
    for work in jobs.values():
        work()
    print(json.dumps({"ready": True}), flush=True)
    for line in sys.stdin:
        job = json.loads(line)
        answer(jobs[job["job"]], job["at_least_s"])


def jobs_on_bars(market):
    """What is measured of the kernel's parts."""
    high, low, close = bars_of(market)
    ranges = high - low
    read, average, pairs = (kernel._compiled(one) for one in (reading, averaging, pairs_of))
    ticks, first_tick = market.ticks, market.first_tick

    def flip():
        directions = kernel.directions_of(high, low, close, 10, 3.0)
        return pairs(directions, kernel.changes_of(directions))

    return {
        "flip": flip,
        "candles": lambda: len(kernel.candles_of(ticks.at_ms, ticks.spot_paise, first_tick, 5, 50)),
        "reading": lambda: read(ticks.at_ms, ticks.spot_paise)[0],
        "supertrend": lambda: len(kernel.directions_of(high, low, close, 10, 3.0)),
        "averaging": lambda: average(ranges, 10),
    }


def answer(work, at_least_s):
    """Do it, often enough; say what it took."""
    spent, trades = [], None
    while sum(spent) < at_least_s:
        began = cpu_seconds()
        trades = work()
        spent.append(cpu_seconds() - began)
    if isinstance(trades, np.ndarray):
        trades = trades.tolist()
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"seconds": statistics.median(spent), "trades": trades, "peak_mb": peak_mb}), flush=True)


if __name__ == "__main__":
    main()
