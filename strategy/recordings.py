"""Recorded days of an index turned back into ticks, by a rule stated here.

Two kinds of files are read, told apart by their header:

* one-minute bars `Instrument,Date,Time,Open,High,Low,Close` (Date YYYYMMDD, Time HH:MM of the bar's start, IST).
  The minute goes open -> low -> high -> close when it closed above its open, open -> high -> low -> close otherwise;
  the corners lie at seconds 0, 20, 40 and 59, with a tick every second on the straight lines between them;
* five-second candles `close_time_ist,high,low,close` (further columns are ignored). Three ticks per candle, at two
  thirds and one third of five seconds before its close and at the close itself: low, high, close when it closed
  above the candle before, high, low, close otherwise.

Invariants:
1. A candle rebuilt from the ticks of one bar has that bar's open, high, low and close.
2. Gaps in the file stay gaps; nothing is invented to fill them.
3. Ticks are strictly ascending in time.
"""

import csv
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import date, datetime
from itertools import pairwise

from strategy.calendar import IST

MINUTE_COLUMNS = ("Instrument", "Date", "Time", "Open", "High", "Low", "Close")
CANDLE_COLUMNS = ("close_time_ist", "high", "low", "close")
CORNER_SECONDS = (0, 20, 40, 59)
FIVE_SECONDS_MS = 5_000
# A hole in the recording longer than this is taken for a pause of trading when no calendar knows the day.
_SESSION_GAP_MS = 20 * 60_000

Point = tuple[int, int]  # (Unix milliseconds, paise)
Span = tuple[int, int]  # [from, until), Unix milliseconds


class RecordingError(Exception):
    """The recording cannot be played; the message says what was expected, what was found and what to do."""


@dataclass(frozen=True, slots=True)
class Bar:
    """One row of a recording: a minute by its start, or five seconds by their close (whose open is its close)."""

    at_ms: int
    open_paise: int
    high_paise: int
    low_paise: int
    close_paise: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Recording:
    """The bars of every day in a file, and the instrument it names ("" where it names none)."""

    source: str
    instrument: str
    minutes: bool  # one-minute bars; otherwise five-second candles
    bars: dict[date, list[Bar]]

    def points(self, day: date) -> tuple[Point, ...]:
        """The ticks of `day`. Raises RecordingError for a day that is not recorded."""
        return tuple(self._points(self.of(day)))

    def previous_close_paise(self, day: date) -> int:
        """The last price of the recorded day before, else the day's own open."""
        before = [known for known in self.bars if known < day]
        return self.bars[max(before)][-1].close_paise if before else self.of(day)[0].open_paise

    def windows(self, day: date) -> tuple[Span, ...]:
        """When the day traded, as far as its bars show: whole minutes, split where it paused."""
        length_ms = 60_000 if self.minutes else 1
        edges: list[list[int]] = []
        for bar in self.of(day):
            if not edges or bar.at_ms - edges[-1][1] > _SESSION_GAP_MS:
                edges.append([bar.at_ms, bar.at_ms])
            edges[-1][1] = bar.at_ms + length_ms
        return tuple((opens // 60_000 * 60_000, -(-closes // 60_000) * 60_000) for opens, closes in edges)

    def of(self, day: date) -> list[Bar]:
        """The bars of `day`. Raises RecordingError for a day that is not recorded."""
        bars = self.bars.get(day)
        if bars is None:
            days = sorted(self.bars)
            nearest = min(days, key=lambda known: abs((known - day).days))
            raise RecordingError(
                f"expected {day} in the recording {self.source}, found {len(days)} day(s) from {days[0]} to"
                f" {days[-1]} without it (nearest: {nearest}); choose one of them with --day"
            )
        return bars

    def _points(self, bars: list[Bar]) -> Iterator[Point]:
        last_ms = 0
        previous: int | None = None
        for bar in bars:
            rising = previous is None or bar.close_paise > previous
            previous = bar.close_paise
            for at, price in minute_points(bar) if self.minutes else candle_points(bar, rising=rising):
                last_ms = max(at, last_ms + 1)  # candles of a live recorder overlap by milliseconds
                yield last_ms, price


def parse_recording(lines: Iterable[str], source: str) -> Recording:
    """Read the lines of a file of either kind; `source` names it in errors. Raises RecordingError."""
    rows = csv.DictReader(lines)
    header = tuple(rows.fieldnames or ())
    if header[: len(MINUTE_COLUMNS)] == MINUTE_COLUMNS:
        return _read_minutes(source, rows)
    if header[: len(CANDLE_COLUMNS)] == CANDLE_COLUMNS:
        return _read_candles(source, rows)
    raise RecordingError(
        f"expected the columns {','.join(MINUTE_COLUMNS)} or {','.join(CANDLE_COLUMNS)} in {source}, "
        f"found {','.join(header) or 'an empty file'}; convert the recording to one of the two"
    )


def minute_points(bar: Bar) -> Iterator[Point]:
    """The ticks of one minute bar."""
    rising = bar.close_paise > bar.open_paise
    extremes = (bar.low_paise, bar.high_paise) if rising else (bar.high_paise, bar.low_paise)
    corners = list(zip(CORNER_SECONDS, (bar.open_paise, *extremes, bar.close_paise), strict=True))
    for (left_s, left), (right_s, right) in pairwise(corners):
        span = right_s - left_s
        for step in range(span):
            yield bar.at_ms + (left_s + step) * 1000, left + (right - left) * step // span
    yield bar.at_ms + CORNER_SECONDS[-1] * 1000, bar.close_paise


def candle_points(bar: Bar, *, rising: bool) -> Iterator[Point]:
    """The ticks of one five-second candle."""
    first, second = (bar.low_paise, bar.high_paise) if rising else (bar.high_paise, bar.low_paise)
    yield bar.at_ms - 2 * FIVE_SECONDS_MS // 3, first
    yield bar.at_ms - FIVE_SECONDS_MS // 3, second
    yield bar.at_ms, bar.close_paise


def _read_minutes(source: str, rows: "csv.DictReader[str]") -> Recording:
    bars: dict[date, list[Bar]] = {}
    midnights: dict[str, datetime] = {}
    instrument = ""
    for row in rows:
        try:
            midnight = midnights.get(row["Date"])
            if midnight is None:
                midnight = datetime.strptime(row["Date"], "%Y%m%d").replace(tzinfo=IST)
                midnights[row["Date"]] = midnight
            hour, minute = row["Time"].split(":")
            start_ms = _ms(midnight) + (int(hour) * 60 + int(minute)) * 60_000
            bar = Bar(start_ms, *[_paise(row[name]) for name in ("Open", "High", "Low", "Close")])
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise _bad_row(source, rows.line_num, row, error) from error
        instrument = row["Instrument"]
        _append(bars.setdefault(midnight.date(), []), bar, source, rows.line_num)
    return _finished(source, instrument, bars, minutes=True)


def _read_candles(source: str, rows: "csv.DictReader[str]") -> Recording:
    bars: dict[date, list[Bar]] = {}
    for row in rows:
        try:
            closes = datetime.fromisoformat(row["close_time_ist"])
            high, low, close = (_paise(row[name]) for name in ("high", "low", "close"))
        except (ValueError, KeyError, TypeError) as error:
            raise _bad_row(source, rows.line_num, row, error) from error
        if closes.tzinfo is None:
            closes = closes.replace(tzinfo=IST)
        bar = Bar(_ms(closes), close, high, low, close)
        _append(bars.setdefault(closes.astimezone(IST).date(), []), bar, source, rows.line_num)
    return _finished(source, "", bars, minutes=False)


def _append(day: list[Bar], bar: Bar, source: str, line: int) -> None:
    if day and bar.at_ms <= day[-1].at_ms:
        moment = datetime.fromtimestamp(bar.at_ms / 1000, IST).isoformat(timespec="seconds")
        raise RecordingError(
            f"expected rows in order of time in {source}, found {moment} on line {line} after a later or equal one;"
            " sort the file by time and drop doubles"
        )
    lowest, highest = min(bar.open_paise, bar.close_paise), max(bar.open_paise, bar.close_paise)
    if not bar.low_paise <= lowest <= highest <= bar.high_paise:
        raise RecordingError(
            f"expected low <= open, close <= high on line {line} of {source}, found paise"
            f" {bar.low_paise}, {bar.open_paise}, {bar.close_paise}, {bar.high_paise}; repair or drop the row"
        )
    day.append(bar)


def _bad_row(source: str, line: int, row: dict[str, str], error: Exception) -> RecordingError:
    return RecordingError(
        f"expected a date, a time and prices on line {line} of {source}, found {list(row.values())} ({error});"
        " repair or drop the row"
    )


def _finished(source: str, instrument: str, bars: dict[date, list[Bar]], *, minutes: bool) -> Recording:
    if not bars:
        raise RecordingError(f"expected at least one row in {source}, found only a header; record a day first")
    return Recording(source=source, instrument=instrument, minutes=minutes, bars=bars)


def _paise(text: str) -> int:
    price = float(text)
    if not 0 < price < 10_000_000:
        raise ValueError(f"not a price: {text}")
    return round(price * 100)


def _ms(moment: datetime) -> int:
    return round(moment.timestamp() * 1000)
