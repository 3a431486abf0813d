"""Recorded index prices of many days as arrays of ticks, whatever they were recorded as.

Read are one-minute bars and five-second candles (`strategy.recordings` says how they become ticks) and ticks
(`at_ms,security,price_paise`, further columns are ignored), as CSV or Parquet, one file or many.

Invariants:
1. Ticks of a day are in order of time; what a session would not use (out of order, repeated, not positive, a leap of
   more than a fifth) is left out and counted.
2. Nothing is invented: a hole in the file is a hole in the ticks.
3. A day comes from one file; a second file with it is refused.
"""

import csv
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from itertools import chain, pairwise
from pathlib import Path
from typing import Any, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from strategy.calendar import IST
from strategy.candles import LEAP_PARTS, is_leap
from strategy.events import Tick
from strategy.recordings import CORNER_SECONDS, FIVE_SECONDS_MS, Bar, RecordingError, parse_recording
from tasks.ledger.records import SessionKey

Ints: TypeAlias = NDArray[np.int64]

TICK_COLUMNS = ("at_ms", "security", "price_paise")
_IST_MS = 19_800_000
_DAY_MS = 86_400_000
_PARQUET = (".parquet", ".pq")


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordedDay:
    """The ticks of one day, equally long arrays. Times are Unix milliseconds, prices paise."""

    day: date
    at_ms: Ints
    spot_paise: Ints
    # Of bars: the bar of each tick, and its price had the bar visited its other extreme first. Of ticks: None.
    bar: Ints | None = None
    other_paise: Ints | None = None
    bar_seconds: int = 0
    unused: int = 0  # ticks left out

    def part(self, keep: NDArray[np.bool_] | slice) -> "RecordedDay":
        """The ticks of `keep`."""
        return RecordedDay(
            day=self.day,
            at_ms=self.at_ms[keep],
            spot_paise=self.spot_paise[keep],
            bar=None if self.bar is None else self.bar[keep],
            other_paise=None if self.other_paise is None else self.other_paise[keep],
            bar_seconds=self.bar_seconds,
            unused=self.unused,
        )


def read_days(files: Sequence[Path], instrument: str, security: str) -> tuple[RecordedDay, ...]:
    """All days of all files, oldest first. Raises RecordingError.

    Args:
        files: CSV or Parquet.
        instrument: the index that bars must name, such as NIFTY; a file that names none is taken.
        security: the index in files of ticks, such as IDX_I:13.
    """
    found: dict[date, Path] = {}
    days: list[RecordedDay] = []
    for file in files_of(files):
        for recorded in _read(file, instrument, security):
            if recorded.day in found:
                raise RecordingError(
                    f"expected each day in one file, found {recorded.day} in {found[recorded.day].name} and in"
                    f" {file.name}; leave one of them out"
                )
            found[recorded.day] = file
            days.append(recorded)
    return tuple(sorted(days, key=lambda recorded: recorded.day))


class TickLedger(Protocol):
    """What of the ledger a recording reads."""

    def key_of(self, session_id: str) -> SessionKey:
        """Who and what the session is."""
        ...

    def ticks(self, session_id: str) -> tuple[Tick, ...]:
        """All ticks of a session, in their order of arrival."""
        ...


def session_days(ledger: TickLedger, session_ids: Sequence[str], security: str) -> tuple[RecordedDay, ...]:
    """The index ticks that our own sessions recorded. Raises RecordingError where there are none."""
    days = []
    for session_id in session_ids:
        ticks = [tick for tick in ledger.ticks(session_id) if tick.security == security]
        if not ticks:
            raise RecordingError(f"expected ticks of {security} in session {session_id}, found none in the ledger")
        at_ms = np.array([tick.at_ms for tick in ticks], dtype=np.int64)
        prices = np.array([tick.price_paise for tick in ticks], dtype=np.int64)
        days.append(day_of_ticks(ledger.key_of(session_id).day, at_ms, prices))
    return tuple(days)


def days_of_bars(bars: dict[date, list[Bar]], *, minutes: bool) -> Iterator[RecordedDay]:
    """Each day's bars as ticks, by the rule of `strategy.recordings`."""
    for day, rows in bars.items():
        table = np.array([(bar.at_ms, bar.open_paise, bar.high_paise, bar.low_paise, bar.close_paise) for bar in rows])
        at_ms, prices, others = (minute_ticks if minutes else _candle_ticks)(*table.T.astype(np.int64))
        count = at_ms.shape[1]
        flat = at_ms.ravel()
        order = np.arange(len(flat))
        # Candles of a live recorder overlap by milliseconds: each tick is later than the one before it.
        ascending = np.maximum.accumulate(flat - order) + order
        yield RecordedDay(
            day=day,
            at_ms=ascending,
            spot_paise=prices.ravel(),
            bar=np.repeat(np.arange(len(rows)), count),
            other_paise=others.ravel(),
            bar_seconds=60 if minutes else 5,
        )


def day_of_ticks(day: date, at_ms: Ints, price_paise: Ints) -> RecordedDay:
    """One day's ticks as they arrived, without those that a session would not use."""
    count = len(at_ms)
    good = price_paise > 0
    at_ms, price_paise = at_ms[good], price_paise[good]
    good = at_ms >= np.maximum.accumulate(at_ms) if len(at_ms) else np.ones(0, dtype=bool)
    at_ms, price_paise = at_ms[good], price_paise[good]
    good = np.ones(len(at_ms), dtype=bool)
    good[1:] = (np.diff(at_ms) != 0) | (np.diff(price_paise) != 0)
    at_ms, price_paise = at_ms[good], price_paise[good]
    good = _without_leaps(price_paise)
    at_ms, price_paise = at_ms[good], price_paise[good]
    return RecordedDay(day=day, at_ms=at_ms, spot_paise=price_paise, unused=count - len(at_ms))


def _without_leaps(prices: Ints) -> NDArray[np.bool_]:
    """Which prices are within a fifth of the last one that was used.

    A day that would lose most of its ticks that way began with an error (a session believes ten ticks in a row and
    begins anew): then the day's middle price says what is near.
    """
    if len(prices) < 2 or not bool((np.abs(np.diff(prices)) * LEAP_PARTS > prices[:-1]).any()):
        return np.ones(len(prices), dtype=bool)
    good = _near(prices, int(prices[0]))
    return good if good.sum() * 2 >= len(prices) else _near(prices, int(np.median(prices)))


def _near(prices: Ints, last: int) -> NDArray[np.bool_]:
    good = np.ones(len(prices), dtype=bool)
    for number, price in enumerate(prices.tolist()):
        good[number] = not is_leap(price, last)
        last = price if good[number] else last
    return good


def minute_ticks(start_ms: Ints, open_: Ints, high: Ints, low: Ints, close: Ints) -> tuple[Ints, Ints, Ints]:
    """Times, prices, and prices the other way round: one row per bar, one column per second."""
    rising = close > open_
    corners = np.stack((open_, np.where(rising, low, high), np.where(rising, high, low), close), axis=1)
    others = corners[:, (0, 2, 1, 3)]
    seconds = np.arange(CORNER_SECONDS[-1] + 1)
    return start_ms[:, None] + seconds * 1000, _straight(corners), _straight(others)


def _straight(corners: Ints) -> Ints:
    """Prices of each second on the straight lines between the corners, rounded down."""
    columns = []
    for number, (left_s, right_s) in enumerate(pairwise(CORNER_SECONDS)):
        left, right = corners[:, number, None], corners[:, number + 1, None]
        columns.append(left + (right - left) * np.arange(right_s - left_s) // (right_s - left_s))
    return np.concatenate((*columns, corners[:, -1:]), axis=1)


def _candle_ticks(close_ms: Ints, _open: Ints, high: Ints, low: Ints, close: Ints) -> tuple[Ints, Ints, Ints]:
    rising = np.ones(len(close), dtype=bool)
    rising[1:] = close[1:] > close[:-1]
    first, second = np.where(rising, low, high), np.where(rising, high, low)
    before = np.array((2 * FIVE_SECONDS_MS // 3, FIVE_SECONDS_MS // 3, 0))
    prices, others = np.stack((first, second, close), axis=1), np.stack((second, first, close), axis=1)
    return close_ms[:, None] - before, prices, others


def _read(file: Path, instrument: str, security: str) -> Iterator[RecordedDay]:
    try:
        if file.suffix.lower() in _PARQUET:
            columns = _parquet(file)
            if set(TICK_COLUMNS) <= columns.keys():
                yield from _tick_days(columns, security, file)
                return
            yield from _bar_days(_lines_of(columns), instrument, file)
            return
        with file.open(newline="", encoding="utf-8-sig") as lines:
            header = next(lines, "")
            if header.strip().split(",")[:3] == list(TICK_COLUMNS):
                yield from _tick_days(_tick_table(chain((header,), lines)), security, file)
            else:
                yield from _bar_days(chain((header,), lines), instrument, file)
    except OSError as error:
        raise RecordingError(f"expected a readable recording, found {error}; check the path") from error
    except UnicodeDecodeError as error:
        raise RecordingError(f"expected text or Parquet, found bytes in {file} that are neither: {error}") from error


def _bar_days(lines: Iterable[str], instrument: str, file: Path) -> Iterator[RecordedDay]:
    recording = parse_recording(lines, file.name)
    if recording.instrument not in ("", instrument):
        raise RecordingError(
            f"expected bars of {instrument} in {file.name}, found {recording.instrument}; say --set"
            f" index={recording.instrument}"
        )
    yield from days_of_bars(recording.bars, minutes=recording.minutes)


def _tick_table(lines: Iterable[str]) -> dict[str, list[Any]]:
    rows = list(csv.DictReader(lines))
    return {name: [row[name] for row in rows] for name in TICK_COLUMNS}


def _tick_days(columns: dict[str, list[Any]], security: str, file: Path) -> Iterator[RecordedDay]:
    ours = np.array([name == security for name in columns["security"]], dtype=bool)
    if not ours.any():
        found = ", ".join(sorted(set(columns["security"]))[:5]) or "none"
        raise RecordingError(f"expected ticks of {security} in {file.name}, found ticks of {found}; say --set index=")
    try:
        at_ms = np.array(columns["at_ms"], dtype=np.int64)[ours]
        prices = np.array(columns["price_paise"], dtype=np.int64)[ours]
    except (ValueError, TypeError) as error:
        raise RecordingError(f"expected whole numbers in {file.name}, found {error}; repair the file") from error
    number = (at_ms + _IST_MS) // _DAY_MS
    for ordinal in np.unique(number).tolist():
        of_day = number == ordinal
        day = datetime.fromtimestamp(int(ordinal) * _DAY_MS / 1000, IST).date()
        yield day_of_ticks(day, at_ms[of_day], prices[of_day])


def _parquet(file: Path) -> dict[str, list[Any]]:
    try:
        import pyarrow.parquet as pq  # noqa: PLC0415 (an optional package)
    except ImportError as missing:
        raise RecordingError("Parquet needs the package pyarrow: install the project with [sweep]") from missing
    try:
        columns: dict[str, list[Any]] = pq.read_table(file).to_pydict()
    except ValueError as error:
        raise RecordingError(f"expected Parquet in {file}, found {error}; write it again") from error
    return columns


def files_of(names: Iterable[Path]) -> tuple[Path, ...]:
    """The recordings that are meant: a folder stands for the CSV and Parquet files in it, by name."""
    found: list[Path] = []
    for name in names:
        inside = [file for file in sorted(name.glob("*")) if file.suffix.lower() in {".csv", *_PARQUET}]
        if name.is_dir() and not inside:
            raise RecordingError(f"expected CSV or Parquet files in the folder {name}, found none")
        found += inside or [name]
    return tuple(found)


def columns_of(file: Path, columns: Sequence[str]) -> Iterator[dict[str, str]]:
    """The rows of a table that has these columns, as text. Raises RecordingError."""
    try:
        if file.suffix.lower() in _PARQUET:
            rows = csv.DictReader(_lines_of(_parquet(file)))
        else:
            rows = csv.DictReader(file.read_text(encoding="utf-8-sig").splitlines())
    except (OSError, UnicodeDecodeError) as error:
        raise RecordingError(f"expected a readable CSV or Parquet file, found {error}; check the path") from error
    if not set(columns) <= set(rows.fieldnames or ()):
        raise RecordingError(
            f"expected the columns {','.join(columns)} in {file.name}, found {','.join(rows.fieldnames or ['none'])}"
        )
    yield from rows


def _lines_of(columns: dict[str, list[Any]]) -> Iterator[str]:
    """A table of bars as the lines of a CSV file, so that there is one reader of bars."""
    yield ",".join(columns)
    for row in zip(*columns.values(), strict=True):
        yield ",".join(value.isoformat() if isinstance(value, datetime) else str(value) for value in row)
