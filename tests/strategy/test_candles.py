"""Candles: boundaries, closing, gaps, and ticks that are not used; for all six intervals."""

import csv
from datetime import date, time
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from strategy.calendar import ist_ms
from strategy.candles import Candle, IndexTicks, candles_of, interval_start_ms, merge, take_tick, take_time
from strategy.contradictions import CANDLE_SECONDS

DAY = date(2026, 11, 19)
OPEN_MS = ist_ms(DAY, time(9, 15))
ALL = pytest.mark.parametrize("seconds", CANDLE_SECONDS)
RECORDED = Path(__file__).resolve().parents[3] / "shared" / "data" / "market" / "nifty_2024_1min.csv"


def take(prices, seconds=5):
    """The index after (offset_ms from 09:15, paise), and the candles that closed."""
    spot, closed = IndexTicks(), []
    for offset_ms, price in prices:
        spot, candle = take_tick(spot, OPEN_MS + offset_ms, price, seconds)
        if candle:
            closed.append(candle)
    return spot, closed


@ALL
def test_boundaries_are_aligned_to_the_open(seconds):
    """09:15:00 starts a candle; the millisecond before belongs to the one before; every boundary repeats."""
    length = seconds * 1000
    assert interval_start_ms(OPEN_MS, seconds) == OPEN_MS
    assert interval_start_ms(OPEN_MS - 1, seconds) == OPEN_MS - length
    assert interval_start_ms(OPEN_MS + length - 1, seconds) == OPEN_MS
    assert interval_start_ms(OPEN_MS + length, seconds) == OPEN_MS + length


@pytest.mark.parametrize("seconds", [3600, 7200, 420, 1500])
def test_longer_boundaries_are_aligned_to_the_open_of_each_day(seconds):
    """An hour starts at 09:15, 10:15, …; lengths that do not divide a day start anew each morning."""
    for day in (DAY, date(2026, 11, 20)):
        morning = ist_ms(day, time(9, 15))
        assert interval_start_ms(morning, seconds) == morning
        assert interval_start_ms(morning + seconds * 1000 + 1, seconds) == morning + seconds * 1000


@ALL
@given(start=st.integers(0, 6 * 3600 * 1000))
def test_the_first_tick_never_moves_a_boundary(seconds, start):
    """Whenever the process starts, its candles begin on the same grid."""
    _, closed = take([(start, 100), (start + seconds * 1000, 101), (start + 2 * seconds * 1000, 102)], seconds)
    assert len(closed) == 2
    assert all((candle.start_ms - OPEN_MS) % (seconds * 1000) == 0 for candle in closed)


@ALL
@pytest.mark.parametrize("opening", [time(18), time(18, 15), time(11, 30), time(13, 45), time(10, 7)])
def test_a_session_that_opens_at_an_odd_time_keeps_the_grid(seconds, opening):
    """An evening session, a second window, an opening inside an interval: the first candle is that of the grid."""
    open_ms, length = ist_ms(DAY, opening), seconds * 1000
    spot, closed = IndexTicks(), []
    for number in range(3):
        spot, candle = take_tick(spot, open_ms + number * length, 100_00 + number, seconds)
        closed += [candle] if candle else []
    first = open_ms - (open_ms - OPEN_MS) % length
    assert [candle.start_ms for candle in closed] == [first, first + length]
    assert [candle.open_paise for candle in closed] == [100_00, 100_01]


@ALL
def test_the_last_millisecond_belongs_to_the_candle_and_the_next_one_closes_it(seconds):
    end = seconds * 1000
    spot, closed = take([(0, 100_00), (end - 1, 105_00)], seconds)
    assert closed == []
    assert spot.candle == Candle(OPEN_MS, seconds, 100_00, 105_00, 100_00, 105_00, 2)
    _, closed = take([(0, 100_00), (end - 1, 105_00), (end, 101_00)], seconds)
    assert closed == [Candle(OPEN_MS, seconds, 100_00, 105_00, 100_00, 105_00, 2)]


@ALL
def test_the_clock_closes_a_candle_at_its_end_and_not_before(seconds):
    spot, _ = take([(0, 100_00)], seconds)
    end_ms = OPEN_MS + seconds * 1000
    same, none = take_time(spot, end_ms - 1)
    assert (same, none) == (spot, None)
    after, closed = take_time(spot, end_ms)
    assert closed == spot.candle
    assert after.candle is None
    assert take_time(after, end_ms + 1) == (after, None)  # once


@ALL
def test_an_interval_without_a_tick_yields_no_candle(seconds):
    length = seconds * 1000
    _, closed = take([(0, 100), (5 * length, 101), (6 * length, 102)], seconds)
    assert [candle.start_ms - OPEN_MS for candle in closed] == [0, 5 * length]


@ALL
def test_late_ticks_are_counted_and_dropped(seconds):
    """Older than the open candle is late; so is anything older than the end of a candle that the clock closed."""
    length = seconds * 1000
    spot, _ = take([(0, 100_00), (length, 101_00)], seconds)
    late, closed = take_tick(spot, OPEN_MS + length - 1, 99_00, seconds)
    assert closed is None
    assert late == spot._replace(faults=spot.faults._replace(late=1))
    shut, _ = take_time(spot, OPEN_MS + 2 * length)
    late, closed = take_tick(shut, OPEN_MS + 2 * length - 1, 99_00, seconds)
    assert closed is None
    assert late == shut._replace(faults=shut.faults._replace(late=1))
    fresh, _ = take_tick(shut, OPEN_MS + 2 * length, 99_00, seconds)
    assert fresh.candle.start_ms == OPEN_MS + 2 * length


def test_a_tick_out_of_order_inside_the_candle_is_used():
    """Only what is older than the open candle is late; the feed's clock never runs back for it."""
    spot, _ = take([(1_000, 100_00), (3_000, 101_00), (2_000, 99_00)])
    assert spot.candle == Candle(OPEN_MS, 5, 100_00, 101_00, 99_00, 99_00, 3)
    assert spot.last_at_ms == OPEN_MS + 3_000
    assert spot.faults == IndexTicks().faults


def test_duplicates_change_a_counter_only():
    spot, _ = take([(1_000, 100_00)])
    again, closed = take_tick(spot, OPEN_MS + 1_000, 100_00, 5)
    assert closed is None
    assert again == spot._replace(faults=spot.faults._replace(duplicate=1))
    same_time, _ = take_tick(spot, OPEN_MS + 1_000, 100_05, 5)
    assert same_time.candle.ticks == 2
    same_price, _ = take_tick(spot, OPEN_MS + 1_001, 100_00, 5)
    assert same_price.candle.ticks == 2


@pytest.mark.parametrize("price", [0, -1])
def test_poison_is_counted_and_not_used(price):
    spot, _ = take([(1_000, 100_00)])
    after, closed = take_tick(spot, OPEN_MS + 9_000, price, 5)
    assert closed is None
    assert after == spot._replace(faults=spot.faults._replace(poisoned=1))


@pytest.mark.parametrize(("price", "is_leap"), [(120_00, False), (120_01, True), (80_00, False), (79_99, True)])
def test_more_than_a_fifth_away_is_quarantined(price, is_leap):
    """20 % is still a price; a paisa more is not. The next price is judged by the last good one."""
    spot, _ = take([(1_000, 100_00)])
    after, _ = take_tick(spot, OPEN_MS + 2_000, price, 5)
    assert after.faults.leap == is_leap
    assert after.last_paise == (100_00 if is_leap else price)
    assert after.last_at_ms == OPEN_MS + (1_000 if is_leap else 2_000)


def test_a_leap_closes_no_candle():
    spot, _ = take([(1_000, 100_00)])
    after, closed = take_tick(spot, OPEN_MS + 6_000, 200_00, 5)
    assert closed is None
    assert after.candle == spot.candle


def leaps(prices):
    """A spot at 100.00 and then (offset_ms, paise) of one leap after another."""
    return take([(1_000, 100_00), *prices])


def test_leaps_that_agree_are_the_market_after_ten():
    """The tenth opens a candle at the new level; the open candle of the old one is dropped, not closed."""
    spot, closed = leaps([(2_000 + n, 200_00 + n) for n in range(9)])
    assert (spot.last_paise, spot.faults.leap, closed) == (100_00, 9, [])
    spot, candle = take_tick(spot, OPEN_MS + 7_000, 205_00, 5)
    assert candle is None
    assert spot.candle == Candle(OPEN_MS + 5_000, 5, 205_00, 205_00, 205_00, 205_00)
    assert (spot.last_paise, spot.last_at_ms, spot.faults.leap) == (205_00, OPEN_MS + 7_000, 9)
    assert spot.doubt == IndexTicks().doubt
    back, _ = take_tick(spot, OPEN_MS + 7_001, 100_00, 5)
    assert (back.last_paise, back.doubt.leaps) == (205_00, 1)


def test_a_leap_to_yet_another_level_is_the_first_of_its_own():
    prices = [(2_000 + n, 200_00) for n in range(9)] + [(3_000 + n, 300_00) for n in range(9)]
    spot, _ = leaps(prices)
    assert (spot.last_paise, spot.doubt) == (100_00, (9, 300_00, OPEN_MS + 3_008))
    spot, _ = take_tick(spot, OPEN_MS + 3_009, 300_00, 5)
    assert spot.last_paise == 300_00


@pytest.mark.parametrize(
    "prices",
    [
        [(2_000, 200_00)] * 30,  # one packet, sent again and again
        [(2_000, 200_00 + n) for n in range(30)],  # all of one moment
        [(2_000 + n, 200_00 if n % 2 else 300_00) for n in range(30)],  # they do not agree with each other
        [(2_000 + n, 200_00 if n % 10 != 9 else 100_00) for n in range(30)],  # the market speaks in between
    ],
)
def test_leaps_that_prove_nothing(prices):
    spot, _ = leaps(prices)
    assert spot.last_paise == 100_00


def test_what_is_recorded_of_a_wrong_level_makes_no_candles():
    """A replay of the ticks sees what the session saw after it knew."""
    wrong = [(OPEN_MS + n * 1_000, 999_00) for n in range(7)]
    right = [(OPEN_MS + 7_000 + n * 1_000, 100_00 + n) for n in range(30)]
    (first, *_) = candles_of(wrong + right, 5)
    assert first.start_ms == OPEN_MS + 15_000
    assert first.open_paise == 100_09


PRICES = st.lists(st.tuples(st.integers(0, 120_000), st.integers(90_00, 105_00)), max_size=60)


@given(PRICES)
def test_whatever_the_ticks_candles_are_sound(prices):
    """Low <= open, close <= high; in order and apart; every used tick is in exactly one candle."""
    spot, closed = take(prices)
    candles = [*closed, *([spot.candle] if spot.candle else [])]
    for candle in candles:
        assert candle.low_paise <= min(candle.open_paise, candle.close_paise)
        assert candle.high_paise >= max(candle.open_paise, candle.close_paise)
    assert all(before.end_ms <= after.start_ms for before, after in pairwise(candles))
    assert sum(candle.ticks for candle in candles) + sum(spot.faults) == len(prices)


@given(PRICES, st.lists(st.integers(0, 130_000), max_size=10))
def test_who_closes_a_candle_does_not_change_it(prices, clocks):
    """Ticks in order give the same candles whether ticks or the clock close them."""
    prices = sorted(prices)
    events = sorted([(at, 1, price) for at, price in prices] + [(at, 0, 0) for at in clocks])
    spot, closed = IndexTicks(), []
    for at, is_tick, price in events:
        if is_tick:
            spot, candle = take_tick(spot, OPEN_MS + at, price, 5)
        else:
            spot, candle = take_time(spot, OPEN_MS + at)
        closed += [candle] if candle else []
    by_ticks, closed_by_ticks = take(prices)
    open_ = [spot.candle] if spot.candle else []
    assert closed + open_ == closed_by_ticks + [by_ticks.candle] * bool(by_ticks.candle)


@given(PRICES, st.sampled_from([15, 30, 60]))
def test_merged_candles_are_the_candles_of_the_longer_interval(prices, seconds):
    """The higher timeframe built from base candles equals the one built from ticks."""
    ticks = [(OPEN_MS + at, price) for at, price in sorted(prices)]
    merged = []
    for candle in candles_of(ticks, 5):
        if merged and candle.start_ms < merged[-1].end_ms:
            merged[-1] = merge(merged[-1], candle, seconds)
        else:
            merged.append(merge(None, candle, seconds))
    assert tuple(merged) == candles_of(ticks, seconds)


def test_a_candle_is_merged_into_its_own_interval_only():
    longer = Candle(OPEN_MS, 60, 1, 1, 1, 1)
    with pytest.raises(AssertionError):
        merge(longer, Candle(OPEN_MS + 60_000, 5, 1, 1, 1, 1), 60)


@pytest.mark.skipif(not RECORDED.exists(), reason="the recorded market is not part of the project")
@pytest.mark.parametrize("seconds", [300, 900])
def test_recorded_minutes_make_the_candles_of_longer_intervals(seconds):
    """A real day of one-minute bars, replayed as ticks (open, extremes, close), gives bars of 5 and 15 minutes."""
    with RECORDED.open() as lines:
        rows = [row for row in csv.DictReader(lines) if row["Date"] == "20240102"]
    day = date(2024, 1, 2)
    ticks, expected = [], {}
    for row in rows:
        start = ist_ms(day, time.fromisoformat(row["Time"]))
        open_, high, low, close = (round(float(row[name]) * 100) for name in ("Open", "High", "Low", "Close"))
        ticks += [(start, open_), (start + 1, high), (start + 2, low), (start + 59_999, close)]
        key = (start - ist_ms(day, time(9, 15))) // (seconds * 1000)
        bar = expected.setdefault(key, [open_, high, low, close])
        bar[1:] = [max(bar[1], high), min(bar[2], low), close]
    candles = candles_of(ticks, seconds)
    assert [[c.open_paise, c.high_paise, c.low_paise, c.close_paise] for c in candles] == list(expected.values())
