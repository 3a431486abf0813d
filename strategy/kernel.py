"""The same rules compiled, for sweeps over many settings. `strategy.session.step` is the rule; this is its shadow.

Candles first: candles once per length, SuperTrend, MACD and the higher timeframe once per distinct setting, then a walk
from event to event (candle, fill, exit, squareoff) that looks into a minute's ticks only where the premium's range
in it can touch an exit or move the stop.

Invariants:
1. Entries, exits, prices, times and reasons are those of the step, driven as `tasks.backtest.replay` drives it; tests
   hold this over random days and settings. Where the two differ, this file is wrong.
2. Money and times are integers. Floats are combined in the order of `strategy.indicators` and never fused; the
   premiums are those of `strategy.premiums`, compiled from its own text.
3. A live session never imports this file (it needs numba).

What is compiled is kept beside the other compiled files of this package, under a name made of the sources it was
compiled from.
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from types import FunctionType
from typing import Any, Final, NamedTuple, TypeAlias

import numba
import numpy as np
from numba import config
from numpy.typing import NDArray

from strategy import premiums
from strategy.actions import ExitReason
from strategy.charges import Rates
from strategy.params import Params
from strategy.plan import DayPlan

Ints: TypeAlias = NDArray[np.int64]
Floats: TypeAlias = NDArray[np.float64]
Numbers: TypeAlias = NDArray[np.int32]  # half the memory: prices, and places in arrays
Bytes: TypeAlias = NDArray[np.int8]

_SOURCES = b"".join(Path(file).read_bytes() for file in (__file__, premiums.__file__))
VERSION: Final = hashlib.sha256(_SOURCES).hexdigest()[:12]
config.CACHE_DIR = str(Path(__file__).parent / "__pycache__" / f"kernel-{VERSION}")

REASONS: Final = (
    ExitReason.DAILY_MAX_LOSS,
    ExitReason.MAX_LOSS_PER_TRADE,
    ExitReason.TARGET,
    ExitReason.STOP_LOSS,
    ExitReason.TRAILING_STOP,
    ExitReason.REVERSAL,
    ExitReason.SQUAREOFF,
)
_DAILY, _PER_TRADE, _TARGET, _STOP, _TRAILED, _REVERSAL, _SQUAREOFF = range(len(REASONS))
# The columns of a trade.
COLUMNS: Final = (
    "day",
    "strike_points",
    "is_call",
    "quantity",
    "entry_decided_ms",
    "entry_ms",
    "buy_value_paise",
    "exit_decided_ms",
    "exit_ms",
    "sell_value_paise",
    "reason",
    "stop_paise",
    "gross_paise",
    "charges_paise",
    "net_paise",
)
_NEVER = 1 << 62
_MINUTE_MS = 60_000
_DAY_MS = 86_400_000
_OPEN_OF_DAY_MS = 13_500_000  # 09:15 IST in UTC
# After so many candles an average over `period` has forgotten its beginning to the last bit (a tenth of one period
# remains after 2.3 of them, so 53 bits take 37), and the bands have been set anew, nearly always.
_EARLY_PERIODS, _EARLY_CANDLES = 64, 256
# One grid step of air on both sides: premiums rise and fall with the index but for the last bit of a float.
_AIR_PAISE = 5


def _compiled(function: Callable[..., Any], **inner: Any) -> Any:
    """`function` compiled as it stands, with compiled versions of the functions it calls."""
    bound = FunctionType(function.__code__, {**function.__globals__, **inner}, function.__name__)
    return numba.njit(cache=True, nogil=True, error_model="numpy")(bound)


_jit = numba.njit(cache=True, nogil=True, error_model="numpy")
_value = _compiled(premiums.value_of, _cumulative=_compiled(premiums._cumulative))  # noqa: SLF001 (its own text)
_quote = _compiled(premiums.quote_of, value_of=_value, smile_at=_compiled(premiums.smile_at))


class SettingRefused(ValueError):
    """A setting that the kernel does not know; the message names it."""


class Rules(NamedTuple):
    """The settings of a walk as plain numbers. Times in milliseconds, money in paise; 0 is off where it is optional."""

    flip_only: bool
    macd: bool
    htf: bool
    entries: bool
    moneyness: int
    lots: int
    risk_paise: int
    trades_max: int
    daily_paise: int
    per_trade_paise: int
    stop_paise: int
    target_paise: int
    trail_start_paise: int
    trail_step_paise: int
    hold_ms: int
    cooldown_ms: int
    gap_ms: int
    stale_ms: int
    grace_ms: int
    pause_losses: int
    pause_ms: int
    stop_losses: int
    lock_from_paise: int
    lock_percent: float
    spread_percent: float
    slippage_paise: int
    volatility: float
    spread: float
    step_points: int


class Days(NamedTuple):
    """The days as arrays, one element each (`first_tick`, `first_block`, `first_window` have one more)."""

    first_tick: Ints
    first_block: Ints
    first_window: Ints
    window_open_ms: Ints
    window_close_ms: Ints
    entry_start_ms: Ints
    entry_cutoff_ms: Ints
    squareoff_ms: Ints
    expiry_ms: Ints
    lot_size: Ints
    brokerage_paise: Ints
    charge_numerators: Ints  # days x (stt, exchange, sebi, stamp, gst)
    charge_denominators: Ints


class Ticks(NamedTuple):
    """All ticks, and the range of each minute that has any."""

    at_ms: Ints
    spot_paise: Numbers
    block_first: Ints  # the first tick of each minute, and the end
    block_low: Ints
    block_high: Ints


class Candles(NamedTuple):
    """Closed candles of all days. What only a few of them are asked for, `_closing_of` and `_middle_at` work out."""

    high: Floats  # index points, as the indicators see them
    low: Floats
    close: Floats
    last_tick: Numbers
    renewed_tick: Numbers  # since when the contracts were watched that were on its last tick
    first_of_day: Ints  # days + 1
    length_ms: int
    grace_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class DayFacts:
    """What the kernel must know of a day beside its ticks."""

    plan: DayPlan
    expiry_ms: int


def rules_of(params: Params, *, slippage_paise: int, volatility: float, spread: float, step_points: int) -> Rules:
    """The settings as the kernel takes them. Raises SettingRefused."""
    if params.bypass_market_hours:
        raise SettingRefused("bypass_market_hours: past days have hours; leave it out")
    return Rules(
        flip_only=params.flip_only,
        macd=params.macd_confirmation,
        htf=params.htf_filter,
        entries=params.entries_enabled,
        moneyness=params.moneyness,
        lots=params.lots,
        risk_paise=params.risk_per_trade_paise,
        trades_max=params.max_trades_per_day,
        daily_paise=params.daily_max_loss_paise,
        per_trade_paise=params.max_loss_per_trade_paise,
        stop_paise=params.stop_loss_paise,
        target_paise=params.target_paise,
        trail_start_paise=params.trail_start_paise,
        trail_step_paise=params.trail_step_paise,
        hold_ms=params.min_hold_seconds * 1000,
        cooldown_ms=params.order_cooldown_seconds * 1000,
        gap_ms=params.min_trade_gap_seconds * 1000,
        stale_ms=params.stale_after_ms,
        grace_ms=params.candle_grace_ms,
        pause_losses=params.pause_after_losses,
        pause_ms=params.pause_minutes * 60_000,
        stop_losses=params.stop_losses_per_day,
        lock_from_paise=params.profit_lock_from_paise,
        lock_percent=params.profit_lock_percent,
        spread_percent=params.max_spread_percent,
        slippage_paise=slippage_paise,
        volatility=volatility,
        spread=spread,
        step_points=step_points,
    )


def days_of(facts: Sequence[DayFacts], first_tick: Ints, first_block: Ints) -> Days:
    """The days as arrays."""
    plans = [one.plan for one in facts]
    windows = [window for plan in plans for window in plan.hours]
    fractions = [_charge_fractions(plan.rates) for plan in plans]
    return Days(
        first_tick=first_tick,
        first_block=first_block,
        first_window=np.cumsum([0] + [len(plan.hours) for plan in plans]).astype(np.int64),
        window_open_ms=_ints(opens for opens, _ in windows),
        window_close_ms=_ints(closes for _, closes in windows),
        entry_start_ms=_ints(plan.entry_start_ms for plan in plans),
        entry_cutoff_ms=_ints(plan.entry_cutoff_ms for plan in plans),
        squareoff_ms=_ints(plan.squareoff_ms for plan in plans),
        expiry_ms=_ints(one.expiry_ms for one in facts),
        lot_size=_ints(plan.lot_size for plan in plans),
        brokerage_paise=_ints(plan.rates.brokerage_paise_per_order for plan in plans),
        charge_numerators=np.array([[one.numerator for one in row] for row in fractions], dtype=np.int64),
        charge_denominators=np.array([[one.denominator for one in row] for row in fractions], dtype=np.int64),
    )


def _charge_fractions(rates: Rates) -> tuple[Fraction, ...]:
    return (rates.stt_on_sell, rates.exchange_on_both, rates.sebi_on_both, rates.stamp_on_buy, rates.gst)


def _ints(values: Any) -> Ints:
    return np.array(list(values), dtype=np.int64)


@_jit
def ticks_of(at_ms, spot_paise, first_tick):
    """The minutes of all days: (first tick of each and the end, lowest, highest, first minute of each day and the end)."""
    count = len(at_ms)
    size = 0
    for day in range(len(first_tick) - 1):
        first, end = first_tick[day], first_tick[day + 1]
        if end > first:
            size += min(end - first, at_ms[end - 1] // _MINUTE_MS - at_ms[first] // _MINUTE_MS + 1)
    block_first = np.empty(size + 1, np.int64)
    block_low = np.empty(size, np.int64)
    block_high = np.empty(size, np.int64)
    first_block = np.empty(len(first_tick), np.int64)
    blocks = 0
    usual = 1
    for day in range(len(first_tick) - 1):
        first_block[day] = blocks
        i, end = first_tick[day], first_tick[day + 1]
        while i < end:
            until_ms = at_ms[i] // _MINUTE_MS * _MINUTE_MS + _MINUTE_MS
            block_first[blocks] = i
            after = _first_at(until_ms, at_ms, i, end, usual)
            low = high = spot_paise[i]
            for j in range(i + 1, after):
                price = spot_paise[j]
                low = price if price < low else low
                high = price if price > high else high
            block_low[blocks], block_high[blocks] = low, high
            blocks += 1
            usual, i = after - i, after
    first_block[-1] = blocks
    block_first[blocks] = count
    return block_first[: blocks + 1].copy(), block_low[:blocks].copy(), block_high[:blocks].copy(), first_block


@_jit
def _first_at(until_ms, at_ms, i, end, usual):
    """The first tick at or after `until_ms`, or `end`. Intervals mostly have as many ticks as the one before them."""
    after = i + usual
    if after < end and (at_ms[after - 1] < until_ms) & (at_ms[after] >= until_ms):
        return after
    after = i + 1
    while after < end and at_ms[after] < until_ms:
        after += 1
    return after


def candles_of(at_ms, spot_paise, first_tick, seconds, step_points):
    """Candles of `seconds` of all days: (high, low, close, last tick, renewed tick, first of each day)."""
    # An upper bound: the intervals of each day, and not more than its ticks.
    edges = ((at_ms[a], at_ms[b - 1], b - a) for a, b in pairwise(first_tick.tolist()) if b > a)
    count = sum(min(ticks, int(last - first) // (seconds * 1000) + 2) for first, last, ticks in edges)
    # Numpy asks for memory in large pages, which halves the time until such arrays can be written.
    prices = np.empty(count), np.empty(count), np.empty(count)
    places = np.empty(count, np.int32), np.empty(count, np.int32)
    first_of_day = np.empty(len(first_tick), np.int64)
    found = _fill_candles(at_ms, spot_paise, first_tick, seconds, step_points, *prices, *places, first_of_day)
    return (*(column[:found] for column in (*prices, *places)), first_of_day)


@_jit
def _fill_candles(
    at_ms, spot_paise, first_tick, seconds, step_points, high, low, close, last_tick, renewed, first_of_day
):
    """Write the candles; returns how many there are."""
    length_ms = seconds * 1000
    days = len(first_tick) - 1
    k, usual = 0, 1
    for day in range(days):
        first_of_day[day] = k
        i, end = first_tick[day], first_tick[day + 1]
        band_low, band_high, since = 1.0, 0.0, 0
        end_ms = 0
        while i < end:
            if at_ms[i] - end_ms >= length_ms:  # the first of the day, or after a hole
                end_ms = _interval_ms(at_ms[i], length_ms)
            end_ms += length_ms
            after = _first_at(end_ms, at_ms, i, end, usual)
            # Paise as floats: the processor has the larger of two floats without a jump.
            top = bottom = price = float(spot_paise[i])
            for j in range(i + 1, after):
                price = float(spot_paise[j])
                top = price if price > top else top
                bottom = price if price < bottom else bottom
            if (bottom < band_low) | (top > band_high):
                for j in range(i, after):
                    if spot_paise[j] < band_low or spot_paise[j] > band_high:
                        since, around = j, _middle_at(spot_paise[j], step_points) * 100
                        band_low, band_high = around - step_points * 75.0, around + step_points * 75.0
            high[k] = top / 100
            low[k] = bottom / 100
            close[k] = price / 100
            last_tick[k] = after - 1
            renewed[k] = since
            k += 1
            usual, i = after - i, after
    first_of_day[days] = k
    return k


@_jit
def _interval_ms(at_ms, length_ms):
    """The start of the interval that holds `at_ms`."""
    return at_ms - ((at_ms - _OPEN_OF_DAY_MS) % _DAY_MS) % length_ms


@_jit
def _middle_at(spot_paise, step_points):
    """The strike nearest to the index."""
    return (spot_paise + step_points * 50) // (step_points * 100) * step_points


@_jit
def _closing_of(ticks, days, candles, day, c):
    """How candle `c` closed: (the session's time then, until when all was over, its key).

    By the next tick, or by the clock, which allows for the grace. A key orders events: 4 x tick for its index price,
    + 1 its quotes, + 2 fills, + 3 what comes after it.
    """
    last = np.int64(candles.last_tick[c])
    following, end = last + 1, days.first_tick[day + 1]
    # The clock would have waited beyond the candle's end for the grace.
    if following < end and ticks.at_ms[following] <= ticks.at_ms[last] + candles.grace_ms:
        return ticks.at_ms[following], ticks.at_ms[following], 4 * following
    end_ms = _interval_ms(ticks.at_ms[last], candles.length_ms) + candles.length_ms
    timer_ms = (end_ms + candles.grace_ms + 999) // 1000 * 1000
    if following < end and ticks.at_ms[following] <= timer_ms:
        return ticks.at_ms[following], ticks.at_ms[following], 4 * following
    return timer_ms, timer_ms - candles.grace_ms, 4 * last + 3


# -- indicators ------------------------------------------------------------------------------------------------------


@_jit
def _true_range(high, low, last):
    """No last (NaN) is neither above nor below."""
    return (last if last > high else high) - (last if last < low else low)


@_jit
def _tightened(upper, lower, up, last, middle, reach, close):
    """The bands and the side of them after a candle. `|`, not `or`: a jump that nobody can foresee costs more."""
    band = middle + reach
    upper = band if (band < upper) | (last > upper) else upper
    band = middle - reach
    lower = band if (band > lower) | (last < lower) else lower
    return upper, lower, (close >= lower) if up else (close > upper)


@_jit
def _next(state, high, low, close, length, multiplier):
    """SuperTrend's state after one more candle: (average true range, upper band, lower band, up, last close)."""
    atr, upper, lower, up, last = state
    atr = (atr * (length - 1.0) + _true_range(high, low, last)) / length
    upper, lower, up = _tightened(upper, lower, up, last, (high + low) * 0.5, multiplier * atr, close)
    return atr, upper, lower, up, close


@_jit
def _begun(highs, lows, closes, first, period, multiplier):
    """The state after the `period` candles from `first` on, with nothing before them."""
    total, last = 0.0, np.nan
    for k in range(first, first + period):
        total += _true_range(highs[k], lows[k], last)
        last = closes[k]
    atr = total / float(period)
    middle, reach = (highs[first + period - 1] + lows[first + period - 1]) * 0.5, multiplier * atr
    return atr, middle + reach, middle - reach, False, last


@_jit
def _run(state, highs, lows, closes, first, end, period, multiplier, directions):
    """Go on from `state` over the candles [first, end), write their directions; the state after them."""
    length = float(period)
    for k in range(first, end):
        state = _next(state, highs[k], lows[k], closes[k], length, multiplier)
        directions[k] = 1 if state[3] else -1
    return state


@_jit
def _before(highs, lows, closes, first, period, multiplier, directions):
    """The state before candle `first`, of a run that began some candles earlier."""
    begin = first - _EARLY_PERIODS * period - _EARLY_CANDLES
    state = _begun(highs, lows, closes, begin, period, multiplier)
    return _run(state, highs, lows, closes, begin + period, first, period, multiplier, directions)


@_jit
def directions_of(highs, lows, closes, period, multiplier):
    """SuperTrend's direction after each candle: +1 up, -1 down, 0 not known yet.

    Each candle waits for the one before it, and the processor has little to do meanwhile. So four parts of a long row
    go side by side. A part begins some candles early, from nothing: averages and bands forget what they began with.
    That it came to the very state, to the last bit, in which the part before it ends is checked; if not, it is done
    again from there.
    """
    count, length = len(closes), float(period)
    directions = np.zeros(count, np.int8)
    if count < period:
        return directions
    a = _begun(highs, lows, closes, 0, period, multiplier)
    directions[period - 1] = -1
    part = (count - period) // 4
    if part < 2 * (_EARLY_PERIODS * period + _EARLY_CANDLES):
        _run(a, highs, lows, closes, period, count, period, multiplier, directions)
        return directions
    second, third, fourth = period + part, period + 2 * part, period + 3 * part
    b = b_first = _before(highs, lows, closes, second, period, multiplier, directions)
    c = c_first = _before(highs, lows, closes, third, period, multiplier, directions)
    d = d_first = _before(highs, lows, closes, fourth, period, multiplier, directions)
    # Unsigned: no place is asked whether it counts from the end.
    i, j, m, n = np.uint64(period), np.uint64(second), np.uint64(third), np.uint64(fourth)
    for k in range(np.uint64(part)):
        a = _next(a, highs[i + k], lows[i + k], closes[i + k], length, multiplier)
        b = _next(b, highs[j + k], lows[j + k], closes[j + k], length, multiplier)
        c = _next(c, highs[m + k], lows[m + k], closes[m + k], length, multiplier)
        d = _next(d, highs[n + k], lows[n + k], closes[n + k], length, multiplier)
        directions[i + k] = 1 if a[3] else -1
        directions[j + k] = 1 if b[3] else -1
        directions[m + k] = 1 if c[3] else -1
        directions[n + k] = 1 if d[3] else -1
    if a != b_first:
        b = _run(a, highs, lows, closes, second, third, period, multiplier, directions)
    if b != c_first:
        c = _run(b, highs, lows, closes, third, fourth, period, multiplier, directions)
    if c != d_first:
        d = _run(c, highs, lows, closes, fourth, fourth + part, period, multiplier, directions)
    _run(d, highs, lows, closes, fourth + part, count, period, multiplier, directions)
    return directions


@_jit
def changes_of(directions):
    """The candles whose direction is not that of the candle before, in order."""
    count = len(directions)
    changes = np.empty(count, np.int64)  # memory that is not written to costs nothing
    found = 0
    for k in range(1, count):
        changes[found] = k
        found += directions[k] != directions[k - 1]
    return changes[:found].copy()


@_jit
def macd_sides_of(closes, fast, slow, smoothing):
    """On which side of its signal line the MACD is after each candle: +1 on or above, -1 below, 0 not known yet."""
    count = len(closes)
    sides = np.zeros(count, np.int8)
    fast_new, slow_new, signal_new = 2.0 / (fast + 1.0), 2.0 / (slow + 1.0), 2.0 / (smoothing + 1.0)
    fast_old, slow_old, signal_old = 1.0 - fast_new, 1.0 - slow_new, 1.0 - signal_new
    ready = slow + smoothing - 1
    fast_ema, slow_ema, seed, signal = 0.0, 0.0, 0.0, 0.0
    for k in range(min(ready, count)):
        close, seen = closes[k], k + 1
        fast_ema = _ema(fast_ema, close, seen, fast)
        slow_ema = _ema(slow_ema, close, seen, slow)
        if seen >= slow:
            macd = fast_ema - slow_ema
            seed += macd
            if seen == ready:
                signal = seed / smoothing
                sides[k] = 1 if macd >= signal else -1
    for k in range(ready, count):
        close = closes[k]
        fast_ema = fast_new * close + fast_old * fast_ema
        slow_ema = slow_new * close + slow_old * slow_ema
        macd = fast_ema - slow_ema
        signal = signal_new * macd + signal_old * signal
        sides[k] = 1 if macd >= signal else -1
    return sides


@_jit
def _ema(ema, value, seen, period):
    if seen < period:
        return ema + value
    if seen == period:
        return (ema + value) / period
    new = 2.0 / (period + 1.0)
    return new * value + (1.0 - new) * ema


@_jit
def longer_of(at_ms, last_tick, highs, lows, closes, seconds):
    """Candles of the higher timeframe out of shorter ones: (number of each one's, high, low, close, end)."""
    count = len(last_tick)
    length_ms = seconds * 1000
    number = np.empty(count, np.int32)
    g, end_ms = -1, 0
    for k in range(count):
        if at_ms[last_tick[k]] >= end_ms:
            g += 1
            end_ms = _interval_ms(at_ms[last_tick[k]], length_ms) + length_ms
        number[k] = g
    high = np.empty(g + 1, np.float64)
    low = np.empty(g + 1, np.float64)
    close = np.empty(g + 1, np.float64)
    end = np.empty(g + 1, np.int64)
    g = -1
    for k in range(count):
        if number[k] != g:
            g = number[k]
            end[g] = _interval_ms(at_ms[last_tick[k]], length_ms) + length_ms
            high[g], low[g] = highs[k], lows[k]
        else:
            high[g], low[g] = max(high[g], highs[k]), min(low[g], lows[k])
        close[g] = closes[k]
    return number, high, low, close, end


@_jit
def _longer_at(number, end_ms, directions, c, over_ms):
    """The higher timeframe's direction as candle `c` is judged, once all before `over_ms` is over."""
    g = number[c] if over_ms >= end_ms[number[c]] else number[c] - 1
    return directions[g] if g >= 0 else 0


@_jit
def _half_up(amount, numerator, denominator):
    return (2 * amount * numerator + denominator) // (2 * denominator)


@_jit
def _charges(days, day, value_paise, is_sale):
    if value_paise == 0:
        return 0
    tops, bottoms = days.charge_numerators[day], days.charge_denominators[day]
    brokerage = days.brokerage_paise[day]
    exchange = _half_up(value_paise, tops[1], bottoms[1])
    sebi = _half_up(value_paise, tops[2], bottoms[2])
    own = 0 if is_sale else 3
    tax = _half_up(value_paise, tops[own], bottoms[own])
    return brokerage + exchange + sebi + tax + _half_up(brokerage + exchange + sebi, tops[4], bottoms[4])


@_jit
def _left_ms(days, day, at_ms):
    return days.expiry_ms[day] - at_ms // _MINUTE_MS * _MINUTE_MS


@_jit
def _quote_at(ticks, days, day, i, strike, is_call, rules):
    left_ms = _left_ms(days, day, ticks.at_ms[i])
    return _quote(ticks.spot_paise[i], strike, left_ms, is_call, rules.volatility, rules.spread)


@_jit
def _is_open(days, day, at_ms):
    for window in range(days.first_window[day], days.first_window[day + 1]):
        if days.window_open_ms[window] <= at_ms < days.window_close_ms[window]:
            return True
    return False


@_jit
def _upper_paise(stop, bought, rules):
    """The lowest premium that reaches the target or moves the stop."""
    upper = _NEVER
    if rules.target_paise:
        upper = bought + rules.target_paise
    if rules.trail_start_paise:
        start, step = rules.trail_start_paise, rules.trail_step_paise
        beyond = stop - bought - start + step  # how much of the way has moved the stop
        steps = beyond // step + 1 if stop >= bought and beyond >= 0 else 0
        upper = min(upper, bought + start + steps * step)
    return upper


@_jit
def _block_of(ticks, days, day, i):
    """The minute that holds tick `i`: nearly always so many after the first as the clock says."""
    first_block, end_block = days.first_block[day], days.first_block[day + 1]
    passed = ticks.at_ms[i] // _MINUTE_MS - ticks.at_ms[days.first_tick[day]] // _MINUTE_MS
    block = min(first_block + passed, end_block - 1)
    if ticks.block_first[block] <= i < ticks.block_first[block + 1]:
        return block
    return first_block + np.searchsorted(ticks.block_first[first_block : end_block + 1], i, side="right") - 1


@_jit
def _quiet(far, near, lowest, highest, strike, left_ms, is_call, lower, upper, rules):
    """A range of the index in which the premium is surely between `lower` and `upper`; empty: (1, 0).

    At `far` the premium is `lowest`, at `near` `highest`; between them it rises with the index (falls, for a put).
    """
    bottom, top = lower + _AIR_PAISE, upper - _AIR_PAISE
    first, last = far, near
    if lowest <= bottom:
        if highest <= bottom:
            return 1, 0
        first = _reach(near, far, highest - bottom, lowest - bottom, bottom, 1, strike, left_ms, is_call, rules)
    if highest >= top:
        if lowest >= top:
            return 1, 0
        last = _reach(far, near, top - lowest, top - highest, top, -1, strike, left_ms, is_call, rules)
    return (first, last) if is_call else (last, first)


@_jit
def _reach(inside, outside, gained, missing, limit, sign, strike, left_ms, is_call, rules):
    """How far from `inside` towards `outside` the premium surely stays on its side of `limit`: nearly all of the way.

    `gained` is how much it is on that side at `inside`, `missing` (not positive) at `outside`. Each guess goes to where
    a straight line says, and a little back; only a level that was quoted and found inside is believed.
    """
    for _ in range(4):
        gap = outside - inside
        if gained <= 2 * _AIR_PAISE or abs(gap) <= 1:
            break
        guess = inside + int(gap * ((gained - 0.5 * _AIR_PAISE) / (gained - missing)))
        if guess == inside:
            break
        premium = _quote(guess, strike, left_ms, is_call, rules.volatility, rules.spread)[0]
        if (premium - limit) * sign > 0:
            inside, gained = guess, (premium - limit) * sign
        else:
            outside, missing = guess, (premium - limit) * sign
    return inside


@_jit
def _watch_exits(ticks, days, day, i, until, strike, is_call, quantity, bought, stop, realised, rules):
    """The first tick of [i, until) with a risk exit of what was `bought` at: (tick or -1, reason, stop)."""
    if i >= until:
        return -1, 0, stop
    block = _block_of(ticks, days, day, i)
    trailed = False
    # The highest premium at which a loss ends it.
    ending = -_NEVER
    if rules.daily_paise:
        ending = bought + (-realised - rules.daily_paise) // quantity
    if rules.per_trade_paise:
        ending = max(ending, bought + -rules.per_trade_paise // quantity)
    lower, upper = max(stop, ending), _upper_paise(stop, bought, rules)
    while i < until:
        block_end = min(ticks.block_first[block + 1], until)
        left_ms = _left_ms(days, day, ticks.at_ms[i])
        far, near = ticks.block_low[block], ticks.block_high[block]
        if not is_call:
            far, near = near, far
        lowest = _quote(far, strike, left_ms, is_call, rules.volatility, rules.spread)[0]
        if lowest - _AIR_PAISE > lower and upper == _NEVER:
            i = block_end
            block += 1
            continue
        highest = _quote(near, strike, left_ms, is_call, rules.volatility, rules.spread)[0]
        if lowest - _AIR_PAISE <= lower or highest + _AIR_PAISE >= upper:
            quiet_low, quiet_high = _quiet(far, near, lowest, highest, strike, left_ms, is_call, lower, upper, rules)
            while i < block_end:
                if quiet_low <= ticks.spot_paise[i] <= quiet_high:
                    i += 1
                    continue
                price = _quote(ticks.spot_paise[i], strike, left_ms, is_call, rules.volatility, rules.spread)[0]
                if price <= lower or price >= upper:
                    gained = price - bought
                    if rules.daily_paise and realised + quantity * gained <= -rules.daily_paise:
                        return i, _DAILY, stop
                    if rules.per_trade_paise and quantity * gained <= -rules.per_trade_paise:
                        return i, _PER_TRADE, stop
                    if rules.target_paise and gained >= rules.target_paise:
                        return i, _TARGET, stop
                    if stop and price <= stop:
                        return i, _TRAILED if trailed else _STOP, stop
                    if rules.trail_start_paise and gained >= rules.trail_start_paise:
                        start, step = rules.trail_start_paise, rules.trail_step_paise
                        locked = max(0, start - step + (gained - start) // step * step)
                        if bought + locked > stop:
                            stop, trailed = bought + locked, True
                            lower, upper = max(lower, stop), _upper_paise(stop, bought, rules)
                            quiet_low, quiet_high = _quiet(
                                far, near, lowest, highest, strike, left_ms, is_call, lower, upper, rules
                            )
                i += 1
        i = block_end
        block += 1
    return -1, 0, stop


@_jit
def _was_watched(trades, first, count, renewed, strike, is_call):
    """Whether a contract beside the watched strikes was held when the wish for contracts was last renewed."""
    for row in range(first, count):
        if trades[row, 15] < renewed <= trades[row, 16]:
            return trades[row, 1] == strike and (trades[row, 2] == 1) == is_call
    return False


@_jit
def walk(
    ticks,
    days,
    candles,
    directions,
    changes,
    sides,
    longer_number,
    longer_end,
    longer_all,
    rules,
    trades_per_day,
):
    """All trades of all days: one row each, the columns of COLUMNS first."""
    count_days = len(days.lot_size)
    trades = np.empty((count_days * trades_per_day, 17), np.int64)
    count = 0
    pointer = 0  # into changes
    step = rules.step_points
    for day in range(count_days):
        first_tick, end_tick = days.first_tick[day], days.first_tick[day + 1]
        if first_tick == end_tick:
            continue
        start_ms, cutoff_ms, squareoff_ms = days.entry_start_ms[day], days.entry_cutoff_ms[day], days.squareoff_ms[day]
        opened_at_ms = days.window_open_ms[days.first_window[day]]
        if not rules.entries or opened_at_ms - _MINUTE_MS >= cutoff_ms:
            continue
        k, end_candle = candles.first_of_day[day], candles.first_of_day[day + 1]
        lot_size = days.lot_size[day]
        lots = rules.lots
        if rules.risk_paise:
            lots = min(lots, rules.risk_paise // (rules.stop_paise * lot_size))
        if lots < 1:
            continue
        quantity = lots * lot_size
        # The first Timer at or after the squareoff, and the first tick after it.
        timer_ms = max((squareoff_ms + 999) // 1000 * 1000, opened_at_ms - _MINUTE_MS + 1000)
        past_squareoff = first_tick + np.searchsorted(ticks.at_ms[first_tick:end_tick], timer_ms, side="right")
        squareoff_key = 4 * (past_squareoff - 1) + 3
        realised, filled, halted = 0, 0, False
        last_order_ms, last_entry_ms, paused_until_ms = 0, 0, 0
        losses, stop_losses, net, best = 0, 0, 0, 0
        first_of_day = count
        waits = False  # a reversal's own candle is judged when its exit has filled
        waiting_tick, waiting_candle, after_key = 0, 0, -1
        while not halted and filled < rules.trades_max:
            # -- the next entry ------------------------------------------------------------------------------
            found = False
            strike, is_call, reference, decided_ms, since = 0, False, 0, 0, 0
            if waits:
                waits = False
                c, decided_ms, since = waiting_candle, ticks.at_ms[waiting_tick], waiting_tick
                direction = directions[c]
                fits = start_ms <= decided_ms < cutoff_ms and _is_open(days, day, decided_ms)
                fits = fits and decided_ms - last_order_ms >= rules.cooldown_ms
                fits = fits and decided_ms - last_entry_ms >= rules.gap_ms and decided_ms >= paused_until_ms
                fits = fits and direction != 0
                if fits and rules.flip_only:
                    fits = c > 0 and directions[c - 1] * direction < 0
                if fits and rules.macd:
                    fits = sides[c] == direction
                if fits and rules.htf:
                    # A Timer may have ended the longer candle in the meantime.
                    _, over_ms, _ = _closing_of(ticks, days, candles, day, c)
                    over_ms = max(over_ms, (decided_ms - 1) // 1000 * 1000 - rules.grace_ms)
                    fits = _longer_at(longer_number, longer_end, longer_all, c, over_ms) == direction
                if fits:
                    is_call = direction > 0
                    strike = _middle_at(ticks.spot_paise[since], step)
                    strike += rules.moneyness * step if is_call else -rules.moneyness * step
                    last, bid, ask = _quote_at(ticks, days, day, since, strike, is_call, rules)
                    found = _spread_fits(bid, ask, rules)
                    reference = ask
            while not found and k < end_candle:
                if rules.flip_only:
                    while pointer < len(changes) and changes[pointer] < k:
                        pointer += 1
                    if pointer == len(changes) or changes[pointer] >= end_candle:
                        k = end_candle
                        break
                    k = changes[pointer]
                c = k
                k += 1
                # What is known without the ticks comes first: most candles go no further.
                direction = directions[c]
                if direction == 0 or (rules.flip_only and directions[c - 1] * direction >= 0):
                    continue
                if rules.macd and sides[c] != direction:
                    continue
                decided_ms, over_ms, key = _closing_of(ticks, days, candles, day, c)
                if key <= after_key:
                    continue
                if decided_ms >= cutoff_ms:
                    k = end_candle
                    break
                if decided_ms < start_ms:
                    continue
                if rules.htf and _longer_at(longer_number, longer_end, longer_all, c, over_ms) != direction:
                    continue
                last_tick = candles.last_tick[c]
                if decided_ms - ticks.at_ms[last_tick] > rules.stale_ms:
                    continue
                if decided_ms - last_order_ms < rules.cooldown_ms or decided_ms - last_entry_ms < rules.gap_ms:
                    continue
                if decided_ms < paused_until_ms or not _is_open(days, day, decided_ms):
                    continue
                is_call = direction > 0
                since = key // 4
                at_the_money = _middle_at(ticks.spot_paise[since], step)
                strike = at_the_money + (rules.moneyness * step if is_call else -rules.moneyness * step)
                renewed = candles.renewed_tick[c]
                if abs(at_the_money - _middle_at(ticks.spot_paise[renewed], step)) > step and not _was_watched(
                    trades, first_of_day, count, renewed, strike, is_call
                ):
                    continue
                last, bid, ask = _quote_at(ticks, days, day, last_tick, strike, is_call, rules)
                if not _spread_fits(bid, ask, rules):
                    continue
                reference = ask
                found = True
            if not found:
                break
            # -- it fills on the next tick ------------------------------------------------------------------
            i = since + 1
            if i >= end_tick or i >= past_squareoff:
                break
            last, bid, ask = _quote_at(ticks, days, day, i, strike, is_call, rules)
            bought = max(reference, ask) + rules.slippage_paise
            value = quantity * bought
            opened_ms = ticks.at_ms[i]
            filled += 1
            stop = max(0, bought - rules.stop_paise) if rules.stop_paise else 0
            # -- the reversal, the squareoff, and what comes before them ---------------------------------------
            against = -1 if is_call else 1
            reversal_key, reversal, reversed_ms = _NEVER, -1, 0
            r = k
            while r < end_candle:
                reversed_ms, _, reversal_key = _closing_of(ticks, days, candles, day, r)
                if reversal_key > 4 * i + 2 and reversed_ms - opened_ms >= rules.hold_ms:
                    break
                r += 1
            if r < end_candle and directions[r] != against:
                # The next candle on which the direction changes turns it against the trade.
                while pointer < len(changes) and changes[pointer] < k:
                    pointer += 1
                turn = pointer
                while turn < len(changes) and changes[turn] <= r:
                    turn += 1
                r = changes[turn] if turn < len(changes) else end_candle
                if r < end_candle:
                    reversed_ms, _, reversal_key = _closing_of(ticks, days, candles, day, r)
            if r < end_candle:
                reversal = r
            else:
                reversal_key = _NEVER
            exit_key, reason, exit_decided_ms = squareoff_key, _SQUAREOFF, timer_ms
            if reversal_key < exit_key or (reversal_key == exit_key and reversed_ms < timer_ms):
                exit_key, reason, exit_decided_ms = reversal_key, _REVERSAL, reversed_ms
            until = exit_key // 4 if exit_key % 4 == 0 else exit_key // 4 + 1
            hit, hit_reason, stop = _watch_exits(
                ticks, days, day, i + 1, until, strike, is_call, quantity, bought, stop, realised, rules
            )
            quoted = until - 1
            if hit >= 0:
                exit_key, reason, exit_decided_ms, quoted = 4 * hit + 1, hit_reason, ticks.at_ms[hit], hit
            halted = reason == _DAILY
            # -- the exit fills on the next tick, or at the end of the ticks -------------------------------------
            last, bid, ask = _quote_at(ticks, days, day, quoted, strike, is_call, rules)
            reference = bid or last
            f = exit_key // 4 + 1
            if rules.daily_paise and exit_key % 4 == 0:
                # The quote of the tick that closed the candle comes after the decision, and may breach the day's limit.
                # It is worked out only if twice what the index moved could take it there, or the minute changed.
                moved = 2 * abs(np.int64(ticks.spot_paise[f - 1]) - ticks.spot_paise[quoted]) + 2 * _AIR_PAISE
                another = ticks.at_ms[f - 1] // _MINUTE_MS != ticks.at_ms[quoted] // _MINUTE_MS
                if another or realised + quantity * (last - moved) - value <= -rules.daily_paise:
                    last, bid, ask = _quote_at(ticks, days, day, f - 1, strike, is_call, rules)
                    halted = halted or realised + quantity * last - value <= -rules.daily_paise
            if f < end_tick:
                last, bid, ask = _quote_at(ticks, days, day, f, strike, is_call, rules)
                price = max(5, min(reference, bid) - rules.slippage_paise)
                exit_ms = ticks.at_ms[f]
                if rules.daily_paise and realised + quantity * last - value <= -rules.daily_paise:
                    halted = True
            else:
                price = max(5, reference - rules.slippage_paise)
                exit_ms = max(exit_decided_ms, (ticks.at_ms[end_tick - 1] + 999) // 1000 * 1000)
            sold = quantity * price
            charges = _charges(days, day, value, False) + _charges(days, day, sold, True)
            row = trades[count]
            row[0], row[1], row[2], row[3] = day, strike, 1 if is_call else 0, quantity
            row[4], row[5], row[6] = decided_ms, opened_ms, value
            row[7], row[8], row[9] = exit_decided_ms, exit_ms, sold
            row[10], row[11] = reason, stop
            row[12], row[13], row[14] = sold - value, charges, sold - value - charges
            row[15], row[16] = since, f
            count += 1
            # -- what follows from it ----------------------------------------------------------------------------
            realised += sold - value
            if rules.daily_paise and realised <= -rules.daily_paise:
                halted = True
            last_order_ms, last_entry_ms = exit_decided_ms, opened_ms
            gained = row[14]
            losses = losses + 1 if gained < 0 else 0
            if rules.pause_losses and losses >= rules.pause_losses:
                paused_until_ms = exit_ms + rules.pause_ms
            elif rules.pause_losses:
                paused_until_ms = 0
            stop_losses += 1 if reason == _STOP else 0
            net += gained
            best = max(best, net)
            if rules.stop_losses and stop_losses >= rules.stop_losses:
                halted = True
            if rules.lock_from_paise and best >= rules.lock_from_paise:
                if (best - net) * 100 >= best * rules.lock_percent:
                    halted = True
            if f >= end_tick or f >= past_squareoff:
                break
            after_key = 4 * f + 2
            if reason == _REVERSAL:
                waits = reversal + 1 >= end_candle
                if not waits:
                    waits = _closing_of(ticks, days, candles, day, reversal + 1)[2] > after_key
                waiting_tick, waiting_candle = f, reversal
    return trades[:count]


@_jit
def _spread_fits(bid, ask, rules):
    if rules.spread_percent == 0.0:
        return True
    if bid == 0 or ask == 0:
        return False
    return not (ask - bid) * 200 > rules.spread_percent * (ask + bid)
