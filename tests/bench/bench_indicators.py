"""SuperTrend(10, 3) and MACD(12, 26, 9), ours against talipp, in one run and in turns.

    python tests/bench/bench_indicators.py

Prints ratios of processor time; what else the machine does is left out. Two uses are compared like for like:
a closed candle is added, or the candle so far is brought up to date with a tick (talipp: `update`, which removes and
adds; ours: one step from the state before the candle, which is a value and still there).
"""

import random
import statistics
import time

import numpy as np
from rows import Row, report
from talipp import indicators as talipp
from talipp.ohlcv import OHLCV

from strategy.indicator_arrays import macd, supertrend
from strategy.indicators import Macd, SuperTrend

CANDLES = 6_000
CHUNK = 100
TICKS = 5  # of a candle


def random_walk():
    """(high, low, close) after each of the five ticks of each candle."""
    draw = random.Random(1)
    price, candles = 25_000.0, []
    for _ in range(CANDLES):
        path = []
        for _ in range(TICKS):
            price += draw.gauss(0, 2)
            path.append(price)
        candles.append([(max(path[: n + 1]), min(path[: n + 1]), path[n]) for n in range(TICKS)])
    return candles


def in_turns(candles, per_tick):
    """Seconds of each chunk, (talipp's, ours), both fed the same."""
    trend, momentum = SuperTrend(10, 3.0), Macd(12, 26, 9)
    trend_step, momentum_step = trend.step, momentum.step
    trend_state, momentum_state = trend.start, momentum.start
    their_trend, their_macd = talipp.SuperTrend(10, 3), talipp.MACD(12, 26, 9)
    times = []
    for begin in range(0, len(candles), CHUNK):
        chunk = candles[begin : begin + CHUNK]
        bars = [[OHLCV(close, high, low, close) for high, low, close in ticks] for ticks in chunk]
        closed = [ticks[-1] for ticks in chunk]
        began = time.thread_time()
        if per_tick:
            for first, *later in bars:
                their_trend.add(first)
                their_macd.add(first.close)
                for bar in later:
                    their_trend.update(bar)
                    their_macd.update(bar.close)
        else:
            for *_, bar in bars:
                their_trend.add(bar)
                their_macd.add(bar.close)
        between = time.thread_time()
        if per_tick:
            for ticks in chunk:
                before_trend, before_momentum = trend_state, momentum_state
                for high, low, close in ticks:
                    trend_state = trend_step(before_trend, high, low, close)
                    momentum_state = momentum_step(before_momentum, close)
        else:
            for high, low, close in closed:
                trend_state = trend_step(trend_state, high, low, close)
                momentum_state = momentum_step(momentum_state, close)
        times.append((between - began, time.thread_time() - between))
    return times[1:]


def over_arrays(candles):
    """Seconds of one pass over all closed candles."""
    high, low, close = (np.array(column) for column in zip(*(ticks[-1] for ticks in candles), strict=True))
    began = time.thread_time()
    supertrend(high, low, close, 10, 3.0)
    macd(close, 12, 26, 9)
    return time.thread_time() - began


def main():
    """Medians over chunks."""
    candles, rows = random_walk(), []
    for per_tick, what, count in (
        (False, "a closed candle", CHUNK),
        (True, "a tick of the open candle", CHUNK * TICKS),
    ):
        times = in_turns(candles, per_tick)
        ratio = statistics.median(theirs / ours for theirs, ours in times)
        us = statistics.median(ours for _, ours in times) / count * 1e6
        rows.append(Row(f"SuperTrend + MACD, {what}", f"{us:.2f} us", "talipp", ratio, None if per_tick else 20))
    theirs = statistics.median(theirs for theirs, _ in in_turns(candles, per_tick=False)) / CHUNK * CANDLES
    ours = statistics.median(over_arrays(candles) for _ in range(9))
    rows.append(Row("SuperTrend + MACD, over arrays", f"{ours / CANDLES * 1e6:.2f} us", "talipp", theirs / ours))
    report("The two indicators, candle by candle and uncompiled; medians", rows)


if __name__ == "__main__":
    main()
