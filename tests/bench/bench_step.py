"""What a decision costs, beside the update of the same two indicators by talipp.

    python tests/bench/bench_step.py

Prints medians of this machine and moment, and ratios; only the ratios are worth quoting. All filters are on. It is no
test: a slow machine is not a fault.

What is compared with what: one tick with one tick. talipp is told of each index tick with `update`, as someone must who
wants its indicators to be current; `step` takes the same tick through the whole rule set. Our rules look at closed
candles only, and talipp can be used so too (`add`, once per candle, nothing in between): that is printed as well, per
candle and beside a tick of ours, so that nobody need take the first comparison on trust.
"""

import random
import statistics
import time
from datetime import date

from rows import Row, report
from talipp.indicators import MACD, SuperTrend
from talipp.ohlcv import OHLCV

from strategy.calendar import ist_ms, trading_day
from strategy.charges import rates_on
from strategy.events import Tick, Timer
from strategy.instruments import INDICES, Contract, OptionType, Underlying
from strategy.params import Params
from strategy.plan import plan_day
from strategy.session import start, step

DAY = date(2026, 11, 19)
SECONDS = 1_200
ROUNDS = 5
INDEX = INDICES[Underlying.NIFTY]


def chain():
    """Calls and puts around the walk."""
    return [
        Contract(
            underlying=Underlying.NIFTY,
            expiry=date(2026, 11, 23),
            strike_points=strike,
            option_type=option_type,
            segment="NSE_FNO",
            security_id=f"{strike}{option_type}",
            trading_symbol=f"NIFTY-{strike}-{option_type}",
            lot_size=65,
            tick_size_paise=5,
            freeze_quantity=1800,
        )
        for strike in range(22_000, 27_000, 50)
        for option_type in OptionType
    ]


def events(seed=7):
    """Twenty minutes: four index ticks and six option ticks a second, and a Timer."""
    dice = random.Random(seed)
    at_ms, spot = ist_ms(DAY, trading_day(DAY).windows[0].open), 24_500_00
    contracts = [contract for contract in chain() if 24_400 <= contract.strike_points <= 24_600]
    for _ in range(SECONDS):
        for part in range(4):
            spot += dice.randint(-2_00, 2_00)
            yield Tick(at_ms=at_ms + part * 250, security=INDEX.security, price_paise=spot)
        for contract in dice.sample(contracts, 6):
            price = 100_00 + dice.randint(-50, 50)
            yield Tick(
                at_ms=at_ms + 900,
                security=contract.security,
                price_paise=price,
                bid_paise=price - 5,
                ask_paise=price + 5,
            )
        at_ms += 1_000
        yield Timer(at_ms=at_ms)


def measure_step():
    """Nanoseconds of each step, by kind."""
    params = Params(trail_start_points=10, trail_step_points=5, target_points=60, max_loss_per_trade=3_000)
    plan = plan_day(
        params,
        day=DAY,
        today=trading_day(DAY),
        index=INDEX,
        contracts=chain(),
        rates=rates_on(DAY, "NSE"),
        at_ms=0,
    )
    state, _ = start(plan, params, at_ms=ist_ms(DAY, trading_day(DAY).windows[0].open))
    costs = {"index tick": [], "index tick that closes a candle": [], "option tick": [], "timer": []}
    for event in list(events()):
        candle = state.signals.candle
        began = time.perf_counter_ns()
        state, _ = step(state, event, plan, params)
        cost = time.perf_counter_ns() - began
        if isinstance(event, Timer):
            kind = "timer"
        elif event.security != INDEX.security:
            kind = "option tick"
        else:
            kind = "index tick" if state.signals.candle is candle else "index tick that closes a candle"
        costs[kind].append(cost)
    return costs


def measure_talipp():
    """Nanoseconds of SuperTrend(7, 4) and MACD(12, 26, 9): of each `update` within a candle, and of each `add`."""
    trend, macd, candle = SuperTrend(7, 4), MACD(12, 26, 9), None
    costs = {"update": [], "add": []}
    for event in events():
        if isinstance(event, Timer) or event.security != INDEX.security:
            continue
        price, number = event.price_paise / 100, event.at_ms // 5_000
        if candle is None or candle[0] != number:
            candle = (number, OHLCV(price, price, price, price))
            kind, on_trend, on_macd = "add", trend.add, macd.add
        else:
            was = candle[1]
            candle = (number, OHLCV(was.open, max(was.high, price), min(was.low, price), price))
            kind, on_trend, on_macd = "update", trend.update, macd.update
        began = time.perf_counter_ns()
        on_trend(candle[1])
        on_macd(price)
        costs[kind].append(time.perf_counter_ns() - began)
    return costs


def medians(rounds):
    """Microseconds by kind; the first part of each round is warm-up."""
    return {
        kind: statistics.median(cost for costs in rounds for cost in costs[kind][len(costs[kind]) // 20 :]) / 1000
        for kind in rounds[0]
    }


def main():
    """Both in turns, so that both meet the same machine."""
    rounds = [(measure_step(), measure_talipp()) for _ in range(ROUNDS)]
    ours = medians([costs for costs, _ in rounds])
    theirs = medians([costs for _, costs in rounds])
    ticks = ("index tick", "index tick that closes a candle", "option tick")
    everything = [{"any tick": [cost for kind in ticks for cost in costs[kind]]} for costs, _ in rounds]
    ours |= medians(everything)
    counts = {kind: len(rounds[0][0][kind]) for kind in ticks}
    mean = sum(ours[kind] * count for kind, count in counts.items()) / sum(counts.values())
    rows = [Row(f"step, {kind}", f"{us:.2f} us", "5 us", us / 5) for kind, us in ours.items()]
    rows.append(
        Row("step, a tick on average, closed candles included", f"{mean:.2f} us", "5 us", mean / 5, 1.0, most=True)
    )
    rows += [
        Row(
            "the whole step of a tick",
            f"{ours['any tick']:.2f} us",
            f"talipp, two indicators: {told}",
            theirs[kind] / ours["any tick"],
        )
        for kind, told in (("update", "a tick"), ("add", "a candle"))
    ]
    report("A decision, all filters on, uncompiled; medians", rows)


if __name__ == "__main__":
    main()
