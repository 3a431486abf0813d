"""What a decision costs, beside the update of the same two indicators by talipp.

    python tests/bench/bench_step.py

Prints medians of this machine and moment, and their ratio; only the ratio is worth quoting. All filters are on. It is
no test: a slow machine is not a fault.
"""

import random
import statistics
import time
from datetime import date

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
SECONDS = 3_600
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
    """An hour: four index ticks and six option ticks a second, and a Timer."""
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
    """Nanoseconds of one candle through SuperTrend(7, 4) and MACD(12, 26, 9)."""
    dice, close, costs = random.Random(7), 24_500.0, []
    trend, macd = SuperTrend(7, 4), MACD(12, 26, 9)
    for _ in range(3_000):
        close += dice.uniform(-5, 5)
        candle = OHLCV(close, close + 2, close - 2, close)
        began = time.perf_counter_ns()
        trend.add(candle)
        macd.add(close)
        costs.append(time.perf_counter_ns() - began)
    return costs


def main():
    """Both in turns, so that both meet the same machine."""
    rounds = [(measure_step(), measure_talipp()) for _ in range(3)]
    talipp_ns = statistics.median(cost for _, costs in rounds for cost in costs[100:])
    print(f"talipp, SuperTrend and MACD of one candle   {talipp_ns / 1000:8.2f} us")
    everything = []
    for kind in rounds[0][0]:
        costs = [cost for found, _ in rounds for cost in found[kind]]
        everything += costs if kind != "timer" else []
        median = statistics.median(costs)
        print(f"step, {kind:<37} {median / 1000:8.2f} us   talipp / step = {talipp_ns / median:5.1f}")
    median = statistics.median(everything)
    print(
        f"step, any tick                              {median / 1000:8.2f} us   talipp / step = {talipp_ns / median:5.1f}"
    )


if __name__ == "__main__":
    main()
