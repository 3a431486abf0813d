"""Signals: both timeframes see the same candles as charts do, whoever closes them; warm-up is trading."""

from datetime import date, time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from strategy import indicator_arrays
from strategy.calendar import ist_ms
from strategy.candles import Candle, candles_of
from strategy.params import Params
from strategy.signals import apply_candle, close_htf, no_signals, warm_up

OPEN_MS = ist_ms(date(2026, 11, 19), time(9, 15))
WALK = st.lists(st.integers(-30_00, 30_00), min_size=60, max_size=160)


def params(**settings):
    small = {"supertrend_period": 3, "supertrend_multiplier": 1.5, "macd_fast": 3, "macd_slow": 6, "macd_signal": 3}
    return Params(**(small | {"htf_seconds": 15} | settings))


def ticks_of(walk, step_ms=2_000):
    price, ticks = 24_500_00, []
    for number, move in enumerate(walk):
        price += move
        ticks.append((OPEN_MS + number * step_ms, price))
    return ticks


def columns(candles):
    return [np.array([getattr(c, name) / 100 for c in candles]) for name in ("high_paise", "low_paise", "close_paise")]


@given(WALK)
def test_signals_equal_the_indicators_over_all_candles(walk):
    """SuperTrend, MACD and the higher timeframe's SuperTrend are those of the whole series, to the last bit."""
    settings = params()
    ticks = ticks_of(walk)
    base = candles_of(ticks, 5)[:-1]
    signals = warm_up(base, settings)
    high, low, close = columns(base)
    line, direction = indicator_arrays.supertrend(high, low, close, 3, 1.5)
    assert signals.direction == direction[-1]
    assert signals.line_points == (None if direction[-1] == 0 else line[-1])
    macd, signal = indicator_arrays.macd(close, 3, 6, 3)
    assert signals.macd_points == (None if np.isnan(macd[-1]) else macd[-1])
    assert signals.macd_signal_points == (None if np.isnan(signal[-1]) else signal[-1])
    closed_htf = [
        candle
        for candle in candles_of([t for t in ticks if t[0] < base[-1].end_ms], 15)
        if candle.end_ms <= base[-1].end_ms
    ]
    if closed_htf:
        _, longer = indicator_arrays.supertrend(*columns(closed_htf), 3, 1.5)
        assert signals.htf_direction == longer[-1]


@given(WALK)
def test_a_flip_is_a_change_between_known_directions(walk):
    """The first known direction is no flip; each later change is one, on its own candle only."""
    settings = params(htf_filter=False)
    signals, directions = no_signals(settings), [0]
    for candle in candles_of(ticks_of(walk), 5):
        signals = apply_candle(signals, candle, closed_by_ms=candle.end_ms, params=settings)
        directions.append(signals.direction)
        assert signals.flipped == (directions[-2] != 0 and directions[-1] != directions[-2])


def test_the_longer_candle_speaks_first():
    """On the minute both close; the base candle is judged with the minute's new direction."""
    settings = params(htf_seconds=15)
    base = [Candle(OPEN_MS + n * 5_000, 5, 100_00, 100_00, 100_00, 100_00) for n in range(3)]
    signals = no_signals(settings)
    for candle in base[:2]:
        signals = apply_candle(signals, candle, closed_by_ms=candle.end_ms, params=settings)
    assert signals.htf_candle is not None
    signals = apply_candle(signals, base[2], closed_by_ms=base[2].end_ms, params=settings)
    assert signals.htf_candle is None
    assert signals.htf_supertrend[5] == 1  # one longer candle seen


def test_a_longer_candle_whose_last_part_is_silent_closes_with_the_next_tick_or_the_clock():
    settings = params(htf_seconds=15)
    first = Candle(OPEN_MS, 5, 100_00, 100_00, 100_00, 100_00)
    signals = apply_candle(no_signals(settings), first, closed_by_ms=OPEN_MS + 5_000, params=settings)
    assert close_htf(signals, OPEN_MS + 14_999, settings) is signals
    by_clock = close_htf(signals, OPEN_MS + 15_000, settings)
    assert by_clock.htf_supertrend[5] == 1
    late = Candle(OPEN_MS + 30_000, 5, 101_00, 101_00, 101_00, 101_00)
    by_tick = apply_candle(signals, late, closed_by_ms=OPEN_MS + 35_000, params=settings)
    assert by_tick.htf_supertrend[5] == 1
    assert by_tick.htf_candle.start_ms == OPEN_MS + 30_000
    at_once = apply_candle(no_signals(settings), first, closed_by_ms=OPEN_MS + 40_000, params=settings)
    assert at_once.htf_supertrend[5] == 1


@given(WALK)
def test_longer_candles_of_the_broker_do_not_count_twice(walk):
    """A warm-up with both timeframes equals one of base candles alone, where they cover the same time."""
    settings = params()
    ticks = ticks_of(walk)
    longer = candles_of(ticks, 15)[:-1]
    end = longer[-1].end_ms if longer else 0
    base = [candle for candle in candles_of(ticks, 5)[:-1] if candle.end_ms <= end]
    after = [candle for candle in candles_of(ticks, 5)[:-1] if candle.end_ms > end]
    assert warm_up([*base, *after], settings) == warm_up([*longer, *base, *after], settings)


def test_a_warm_up_begins_anew_where_the_level_proved_wrong():
    """A restart after a wrong level has the indicators of the running session: those since the right one."""
    settings = params()
    good = candles_of(ticks_of([100, -300, 200] * 30), 5)[:-1]
    wrong = [Candle(OPEN_MS - 10_000, 5, 99, 99, 99, 99), Candle(OPEN_MS - 5_000, 5, 99, 99, 99, 99)]
    assert warm_up([*wrong, *good], settings) == warm_up(good, settings)


def test_a_filter_that_is_off_builds_nothing():
    settings = params(htf_filter=False)
    signals = warm_up([Candle(OPEN_MS + n * 5_000, 5, 100, 100, 100, 100) for n in range(9)], settings)
    assert signals.htf_candle is None
    assert signals.htf_direction == 0


def test_candles_of_another_length_are_refused():
    with pytest.raises(ValueError, match="must be of 5 or 15 seconds, found 30"):
        warm_up([Candle(OPEN_MS, 30, 1, 1, 1, 1)], params())
