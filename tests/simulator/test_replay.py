"""Recordings: every bar comes back from its ticks; a bad file says what is wrong and what to do."""

from datetime import date, datetime
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simulator.replay import read_recording
from strategy.calendar import IST
from strategy.recordings import Bar, RecordingError, candle_points, minute_points

MINUTES = "Instrument,Date,Time,Open,High,Low,Close\n"
CANDLES = "close_time_ist,high,low,close,recorded_supertrend_7_4\n"


@st.composite
def bars(draw) -> Bar:
    low = draw(st.integers(1_000_000, 9_000_000))
    high = low + draw(st.integers(0, 50_000))
    opened, closed = draw(st.integers(low, high)), draw(st.integers(low, high))
    return Bar(1_700_000_040_000, opened, high, low, closed)


@settings(deadline=None)
@given(bars())
def test_a_minute_rebuilt_from_its_ticks_is_the_recorded_minute(bar):
    points = list(minute_points(bar))
    prices = [price for _, price in points]
    assert (prices[0], max(prices), min(prices), prices[-1]) == (
        bar.open_paise, bar.high_paise, bar.low_paise, bar.close_paise,
    )  # fmt: skip
    assert [at for at, _ in points] == [bar.at_ms + second * 1000 for second in range(60)]


@settings(deadline=None)
@given(bars())
def test_a_rising_minute_visits_its_low_first_and_a_falling_one_its_high(bar):
    prices = [price for _, price in minute_points(bar)]
    corner = prices[20]
    assert corner == (bar.low_paise if bar.close_paise > bar.open_paise else bar.high_paise)
    assert prices[40] == (bar.high_paise if bar.close_paise > bar.open_paise else bar.low_paise)


@settings(deadline=None)
@given(bars(), st.booleans())
def test_a_five_second_candle_ends_with_its_close_at_its_time(bar, rising):
    points = list(candle_points(bar, rising=rising))
    assert sorted(price for _, price in points[:2]) == sorted((bar.low_paise, bar.high_paise))
    assert points[0][1] == (bar.low_paise if rising else bar.high_paise)
    assert points[-1] == (bar.at_ms, bar.close_paise)
    assert points[0][0] > bar.at_ms - 5_000


def written(folder: Path, text: str) -> Path:
    file = folder / "recording.csv"
    file.write_text(text)
    return file


def test_the_previous_close_is_the_last_price_of_the_recorded_day_before(tmp_path):
    file = written(
        tmp_path,
        MINUTES + "NIFTY,20240301,15:29,100,101,99,100.5\nNIFTY,20240304,09:15,102,103,101,102.5\n",
    )
    recording = read_recording(file)
    assert recording.path(date(2024, 3, 4)).previous_close_paise == 100_50
    assert recording.path(date(2024, 3, 1)).previous_close_paise == 100_00


def test_gaps_stay_gaps_and_overlapping_candles_stay_in_order(tmp_path):
    file = written(
        tmp_path,
        CANDLES + "2026-02-05T09:19:07.815+05:30,101,99,100,0\n2026-02-05T09:19:12.810+05:30,102,100,101,0\n"
        "2026-02-05T10:30:00.000+05:30,103,101,102,0\n",
    )
    recording = read_recording(file)
    day = date(2026, 2, 5)
    path = recording.path(day)
    assert len(path.at_ms) == 9
    assert path.at_ms == sorted(set(path.at_ms))
    assert path.at_ms[6] - path.at_ms[5] > 4_000_000
    assert len(recording.windows(day)) == 2


def test_a_candle_rises_or_falls_against_the_one_before(tmp_path):
    rows = "".join(
        f"2026-02-05T09:19:{second:02d}.000+05:30,{close + 1},{close - 1},{close},0\n"
        for second, close in ((5, 100), (10, 101), (15, 99))
    )
    path = read_recording(written(tmp_path, CANDLES + rows)).path(date(2026, 2, 5))
    assert path.price_paise == [99_00, 101_00, 100_00, 100_00, 102_00, 101_00, 100_00, 98_00, 99_00]


BROKEN = {
    "no file": (None, "check the path"),
    "another table": ("time,price\n1,2\n", "expected the columns Instrument,Date,Time,Open,High,Low,Close or"),
    "empty": ("", "an empty file"),
    "only a header": (MINUTES, "found only a header"),
    "not a number": (MINUTES + "NIFTY,20240301,09:15,100,x,99,100\n", "on line 2"),
    "not a date": (MINUTES + "NIFTY,2024-03-01,09:15,100,101,99,100\n", "on line 2"),
    "a short row": (MINUTES + "NIFTY,20240301,09:15,100,101\n", "on line 2"),
    "high below low": (MINUTES + "NIFTY,20240301,09:15,100,98,99,100\n", "expected low <= open, close <= high"),
    "a negative price": (MINUTES + "NIFTY,20240301,09:15,-1,98,-2,-1\n", "not a price"),
    "not a number at all": (MINUTES + "NIFTY,20240301,09:15,nan,nan,nan,nan\n", "not a price"),
    "out of order": (
        MINUTES + "NIFTY,20240301,09:16,100,101,99,100\nNIFTY,20240301,09:15,100,101,99,100\n",
        "sort the file by time",
    ),
    "a row twice": (
        MINUTES + "NIFTY,20240301,09:16,100,101,99,100\nNIFTY,20240301,09:16,100,101,99,100\n",
        "drop doubles",
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_recording_is_refused_with_a_next_step(name, tmp_path):
    text, complaint = BROKEN[name]
    file = tmp_path / "missing.csv" if text is None else written(tmp_path, text)
    with pytest.raises(RecordingError, match=r"(?s)expected.*found") as refusal:
        read_recording(file)
    assert complaint in str(refusal.value)


def test_bytes_that_are_no_text_are_refused(tmp_path):
    file = tmp_path / "recording.csv"
    file.write_bytes(b"\xff\xfe\x00\x01" * 100)
    with pytest.raises(RecordingError, match="not text"):
        read_recording(file)


def test_a_day_that_is_not_recorded_is_named_with_the_nearest(tmp_path):
    recording = read_recording(written(tmp_path, MINUTES + "NIFTY,20240301,09:15,100,101,99,100\n"))
    with pytest.raises(RecordingError, match="nearest: 2024-03-01"):
        recording.path(date(2024, 5, 1))


def test_the_recorded_sensex_day_is_read_whole(recordings):
    path = read_recording(recordings / "sensex_2026-02-05_5s.csv").path(date(2026, 2, 5))
    assert len(path.at_ms) == 3 * 3480
    assert datetime.fromtimestamp(path.at_ms[-1] / 1000, IST).time().isoformat() == "14:30:04.096000"
    assert path.price_paise[-1] == 83_228_99


def test_the_recorded_saturday_has_its_two_windows(recordings):
    recording = read_recording(recordings / "nifty_2024_1min.csv")
    assert len(recording.bars) == 156
    day = date(2024, 3, 2)
    hours = [
        tuple(datetime.fromtimestamp(edge / 1000, IST).strftime("%H:%M") for edge in window)
        for window in recording.windows(day)
    ]
    assert hours == [("09:15", "10:00"), ("11:30", "12:30")]
    assert len(recording.path(day).at_ms) == 105 * 60
