"""A candle through SuperTrend(10, 3) and MACD(12, 26, 9): ours against talipp, in one run, interleaved.

Prints ratios; absolute times depend on the machine and on what else it does.
"""

import random
import statistics
import time

import numpy as np
from talipp import indicators as talipp
from talipp.ohlcv import OHLCV

from strategy.indicators import Macd, SuperTrend, macd, supertrend

ROUNDS = 11
CANDLES = 6_000
WARM = 100


def random_walk() -> list[tuple[float, float, float]]:
    """(high, low, close) of candles of five ticks each."""
    draw = random.Random(1)
    price, candles = 25_000.0, []
    for _ in range(CANDLES):
        path = [price + draw.gauss(0, 2) for _ in range(5)]
        price = path[-1]
        candles.append((max(path), min(path), price))
    return candles


def ours_s(candles: list[tuple[float, float, float]]) -> float:
    """Seconds per candle, step by step."""
    trend, momentum = SuperTrend(10, 3.0), Macd(12, 26, 9)
    trend_step, momentum_step = trend.step, momentum.step
    trend_state, momentum_state = trend.start, momentum.start
    for high, low, close in candles[:WARM]:
        trend_state = trend_step(trend_state, high, low, close)
        momentum_state = momentum_step(momentum_state, close)
    began = time.perf_counter()
    for high, low, close in candles[WARM:]:
        trend_state = trend_step(trend_state, high, low, close)
        momentum_state = momentum_step(momentum_state, close)
    return (time.perf_counter() - began) / (len(candles) - WARM)


def arrays_s(candles: list[tuple[float, float, float]]) -> float:
    """Seconds per candle, all at once."""
    high, low, close = (np.array(column) for column in zip(*candles, strict=True))
    began = time.perf_counter()
    supertrend(high, low, close, 10, 3.0)
    macd(close, 12, 26, 9)
    return (time.perf_counter() - began) / len(candles)


def talipp_s(candles: list[tuple[float, float, float]]) -> float:
    """Seconds per candle, step by step."""
    trend, momentum = talipp.SuperTrend(10, 3), talipp.MACD(12, 26, 9)
    values = [OHLCV(close, high, low, close) for high, low, close in candles]
    for value in values[:WARM]:
        trend.add(value)
        momentum.add(value.close)
    began = time.perf_counter()
    for value in values[WARM:]:
        trend.add(value)
        momentum.add(value.close)
    return (time.perf_counter() - began) / (len(candles) - WARM)


def main() -> None:
    """Time the three in turns and print medians of the ratios."""
    candles = random_walk()
    rounds = [(talipp_s(candles), ours_s(candles), arrays_s(candles)) for _ in range(ROUNDS)]
    stepped = statistics.median(theirs / ours for theirs, ours, _ in rounds)
    batch = statistics.median(theirs / arrays for theirs, _, arrays in rounds)
    microseconds = statistics.median(ours for _, ours, _ in rounds) * 1e6
    print(f"SuperTrend + MACD, one candle: {stepped:.1f} x faster than talipp ({microseconds:.2f} us here)")
    print(f"SuperTrend + MACD over arrays: {batch:.1f} x faster than talipp")


if __name__ == "__main__":
    main()
