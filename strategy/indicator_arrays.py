"""SuperTrend and MACD over whole arrays: what `strategy.indicators` says candle by candle, for those who have them all.

Invariants: equal to the steps to the last bit (the same order of operations; seeds summed from left to right), and no
value depends on a later candle. Prices in any one unit, as floats; results in the same unit. A live session needs
neither this file nor numpy.
"""

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from strategy.indicators import demand_macd_periods, demand_period

Floats: TypeAlias = NDArray[np.float64]


def true_range(high: Floats, low: Floats, close: Floats) -> Floats:
    """max(high - low, |high - previous close|, |low - previous close|); the first is high - low."""
    _demand_equal_lengths(high, low, close)
    ranges: Floats = high - low
    last = close[:-1]
    ranges[1:] = np.where(last < low[1:], high[1:] - last, np.where(last > high[1:], last - low[1:], ranges[1:]))
    return ranges


def atr(high: Floats, low: Floats, close: Floats, period: int) -> Floats:
    """Wilder's average true range; NaN before candle `period`."""
    demand_period("ATR period", period)
    averages = np.full(len(close), np.nan)
    ranges = true_range(high, low, close).tolist()
    if len(ranges) < period:
        return averages
    length = float(period)
    weight = length - 1.0
    average = _sum_in_order(ranges[:period]) / length
    known = [average]
    for true in ranges[period:]:
        average = (average * weight + true) / length
        known.append(average)
    averages[period - 1 :] = known
    return averages


def supertrend(
    high: Floats, low: Floats, close: Floats, period: int, multiplier: float
) -> tuple[Floats, NDArray[np.int8]]:
    """Line (NaN before candle `period`) and direction (0 there) of every candle."""
    return supertrend_over(atr(high, low, close, period), high, low, close, multiplier)


def supertrend_over(
    averages: Floats, high: Floats, low: Floats, close: Floats, multiplier: float
) -> tuple[Floats, NDArray[np.int8]]:
    """`supertrend` over an ATR that is already there: a sweep over multipliers shares it."""
    lines = np.full(len(close), np.nan)
    directions = np.zeros(len(close), dtype=np.int8)
    first = int(np.argmin(np.isnan(averages))) if len(averages) else 0
    if not len(averages) or np.isnan(averages[first]):
        return lines, directions
    middle = (high[first:] + low[first:]) * 0.5
    reach = multiplier * averages[first:]
    uppers: list[float] = (middle + reach).tolist()
    lowers: list[float] = (middle - reach).tolist()
    closes: list[float] = close[first:].tolist()
    upper, lower, last, direction = uppers[0], lowers[0], closes[0], -1
    known_lines, known_directions = [upper], [direction]
    for basic_upper, basic_lower, now in zip(uppers[1:], lowers[1:], closes[1:], strict=True):
        if basic_upper < upper or last > upper:
            upper = basic_upper
        if basic_lower > lower or last < lower:
            lower = basic_lower
        if direction < 0:
            if now > upper:
                direction = 1
        elif now < lower:
            direction = -1
        last = now
        known_lines.append(lower if direction > 0 else upper)
        known_directions.append(direction)
    lines[first:] = known_lines
    directions[first:] = known_directions
    return lines, directions


def ema(values: Floats, period: int) -> Floats:
    """Exponential average with weight 2 / (period + 1); NaN before value number `period`."""
    demand_period("EMA period", period)
    averages = np.full(len(values), np.nan)
    series = values.tolist()
    if len(series) < period:
        return averages
    new = 2.0 / (period + 1.0)
    old = 1.0 - new
    average = _sum_in_order(series[:period]) / period
    known = [average]
    for value in series[period:]:
        average = new * value + old * average
        known.append(average)
    averages[period - 1 :] = known
    return averages


def macd(close: Floats, fast: int, slow: int, smoothing: int) -> tuple[Floats, Floats]:
    """MACD line (NaN before close number `slow`) and signal line (NaN before `slow + smoothing - 1`)."""
    demand_macd_periods(fast, slow, smoothing)
    line: Floats = ema(close, fast) - ema(close, slow)
    signal = np.full(len(close), np.nan)
    signal[slow - 1 :] = ema(line[slow - 1 :], smoothing)
    return line, signal


def _sum_in_order(values: list[float]) -> float:
    # sum() compensates rounding from Python 3.12 on; the steps cannot.
    total = 0.0
    for value in values:
        total += value
    return total


def _demand_equal_lengths(high: Floats, low: Floats, close: Floats) -> None:
    if not len(high) == len(low) == len(close):
        raise ValueError(
            f"high, low and close must be equally long, found {len(high)}, {len(low)} and {len(close)} values"
        )
