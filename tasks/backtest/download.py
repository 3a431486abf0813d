"""The broker's one-minute candles as recordings: months of an index, and the life of options that still trade.

    candles/NIFTY/2026-10.csv                       a month that is over: never asked for again
    candles/NIFTY/2026-11-until-20.csv              a month so far: replaced by the next download
    candles/NIFTY-options/2026-11-23.csv            an expiry: all strikes near the index, as far as the broker has them

The broker forgets an option when it expires. Who downloads every evening keeps what it was worth.

Invariants:
1. A file is there whole or not at all, so a download that was killed goes on after the last month it finished.
2. Nothing is made up: a minute that the broker does not have is missing in the file, and the day is said.
3. Rows are in order of time, each minute once, low <= open, close <= high; what is not is left out and counted.
"""

import csv
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, time, timedelta
from io import StringIO
from pathlib import Path
from typing import Any, Final, Protocol

from strategy.calendar import OutsideKnownData, ist_ms, trading_day
from strategy.instruments import Contract, Index, OptionType, atm_strike_points
from strategy.recordings import MINUTE_COLUMNS
from tasks.backtest.options import OPTION_COLUMNS
from tasks.backtest.prices import read_days
from tasks.broker import BrokerUnavailable, IndexCandle, RateLimited
from tasks.clock import ist, pause

MINUTE_S: Final = 60
# The broker's newest minute may come late or change.
SETTLED_MS: Final = 5 * 60_000
ATTEMPTS_MAX: Final = 4
WAIT_S: Final = 2.0
# The longest that an option is asked back for: weekly ones live five weeks, and calls take a quarter.
OPTION_DAYS: Final = 60
Hear = Callable[[int, int], None]  # (files or contracts done, of so many)


class CandleSource(Protocol):
    """Who has candles."""

    def candles(self, security: str, first: date, last: date, seconds: int) -> tuple[IndexCandle, ...]:
        """Intraday candles, ascending; at most 90 days a call."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Stretch:
    """One file of a download."""

    file: Path
    candles: int
    asked: bool  # False: it was there already
    left_out: int = 0
    short_days: tuple[date, ...] = ()  # trading days with fewer minutes than they had

    def __str__(self) -> str:
        """One line for people."""
        if not self.asked:
            return f"{self.file.name}: there already"
        if not self.candles:
            return f"{self.file.stem}: the broker has no candles"
        faults = f", {self.left_out} impossible ones left out" if self.left_out else ""
        short = f"; minutes are missing on {', '.join(map(str, self.short_days[:5]))}" if self.short_days else ""
        more = f" and {len(self.short_days) - 5} more days" if len(self.short_days) > 5 else ""
        return f"{self.file.name}: {self.candles} candles{faults}{short}{more}"


def download_index(
    source: CandleSource, index: Index, folder: Path, *, first: date, last: date, hear: Hear | None = None
) -> tuple[Stretch, ...]:
    """Every month from `first` through `last` as a file in `folder`; `last` is a day that is over.

    BrokerUnavailable after several attempts; the months before are kept.
    """
    folder.mkdir(parents=True, exist_ok=True)
    found = []
    wanted = months(first, last)
    for begin, end in wanted:
        whole = (end + timedelta(days=1)).day == 1
        name = f"{begin:%Y-%m}"
        file = folder / (f"{name}.csv" if whole else f"{name}-until-{end:%d}.csv")
        if file.exists():
            stretch = Stretch(file=file, candles=0, asked=False)
        else:
            candles = _ask(source, index.security, begin, end)
            sound = sound_candles(candles)
            if sound:
                _write(file, MINUTE_COLUMNS, ([index.underlying, *_moment(c), *_prices(c)] for c in sound))
            stretch = Stretch(
                file=file,
                candles=len(sound),
                asked=True,
                left_out=len(candles) - len(sound),
                short_days=short_days(sound, begin, end),
            )
        if file.exists():
            for older in folder.glob(f"{name}-until-*.csv"):
                if older != file:
                    older.unlink()
        found.append(stretch)
        if hear is not None:
            hear(len(found), len(wanted))
    return tuple(found)


def download_options(
    source: CandleSource,
    contracts: Mapping[tuple[int, OptionType], Contract],
    strikes: Iterable[int],
    folder: Path,
    *,
    last: date,
    hear: Hear | None = None,
) -> Stretch:
    """The life so far of one expiry's contracts at `strikes`, with those that its file has already."""
    folder.mkdir(parents=True, exist_ok=True)
    expiry = next(iter(contracts.values())).expiry
    underlying = next(iter(contracts.values())).underlying
    file = folder / f"{expiry}.csv"
    wanted = set(strikes) | _strikes_in(file)
    chosen = [contract for (strike, _), contract in sorted(contracts.items()) if strike in wanted]
    rows: list[list[Any]] = []
    left_out = 0
    for number, contract in enumerate(chosen, 1):
        candles = _ask(source, contract.security, last - timedelta(days=OPTION_DAYS), last)
        sound = sound_candles(candles)
        left_out += len(candles) - len(sound)
        name = [underlying, expiry.isoformat(), contract.strike_points, str(contract.option_type)]
        rows += [[*name, *_moment(candle), *_prices(candle)] for candle in sound]
        if hear is not None:
            hear(number, len(chosen))
    if rows:
        _write(file, OPTION_COLUMNS, rows)
    return Stretch(file=file, candles=len(rows), asked=True, left_out=left_out)


def strikes_around(files: Sequence[Stretch], index: Index, beyond: int) -> range:
    """Where the index has been in the last two files, and so many strikes further on both sides."""
    recorded = read_days([stretch.file for stretch in files[-2:] if stretch.file.exists()], index.underlying, "")
    step = index.strike_step_points
    low, high = (
        atm_strike_points(index, edge)
        for edge in (
            min(int(one.spot_paise.min()) for one in recorded),
            max(int(one.spot_paise.max()) for one in recorded),
        )
    )
    return range(low - beyond * step, high + beyond * step + 1, step)


def is_over(day: date, now_ms: int) -> bool:
    """Whether the candles of `day` are final: its last minute has been over for a while."""
    try:
        today = trading_day(day)
    except OutsideKnownData:
        return False
    return today is None or now_ms >= today.close_ms + SETTLED_MS


def months(first: date, last: date) -> list[tuple[date, date]]:
    """The calendar months that the days lie in, whole but for the last, which ends at `last`."""
    found = []
    begin = first.replace(day=1)
    while begin <= last:
        after = (begin + timedelta(days=31)).replace(day=1)
        found.append((begin, min(last, after - timedelta(days=1))))
        begin = after
    return found


def sound_candles(candles: Sequence[IndexCandle]) -> list[IndexCandle]:
    """Those that a market can have had, each minute once."""
    found: list[IndexCandle] = []
    for candle in candles:
        inner = (candle.open_paise, candle.close_paise)
        ascending = not found or candle.start_ms > found[-1].start_ms
        if ascending and 0 < candle.low_paise <= min(inner) <= max(inner) <= candle.high_paise:
            found.append(candle)
    return found


def short_days(candles: Iterable[IndexCandle], first: date, last: date) -> tuple[date, ...]:
    """Trading days, as far as the calendar is known, with fewer candles in their hours than they have minutes."""
    minutes: dict[date, set[int]] = {}
    for candle in candles:
        minutes.setdefault(ist(candle.start_ms).date(), set()).add(candle.start_ms)
    found = []
    for number in range(first.toordinal(), last.toordinal() + 1):
        day = date.fromordinal(number)
        try:
            today = trading_day(day)
        except OutsideKnownData:
            continue
        wanted = {
            start_ms
            for window in (today.windows if today else ())
            for start_ms in range(window.open_ms, min(window.close_ms, _index_end_ms(day)), MINUTE_S * 1000)
        }
        if wanted - minutes.get(day, set()):
            found.append(day)
    return tuple(found)


def _index_end_ms(day: date) -> int:
    """15:15, when the shares' auction begins: options trade on, and what index candles do is nowhere said."""
    return ist_ms(day, time(15, 15))


def _ask(source: CandleSource, security: str, first: date, last: date) -> tuple[IndexCandle, ...]:
    for attempt in range(1, ATTEMPTS_MAX + 1):
        try:
            return source.candles(security, first, last, MINUTE_S)
        except RateLimited as error:
            wait_s = error.retry_after_s
            if attempt == ATTEMPTS_MAX:
                raise
        except BrokerUnavailable:
            wait_s = WAIT_S * attempt
            if attempt == ATTEMPTS_MAX:
                raise
        pause(wait_s)
    raise AssertionError("the last attempt returns or raises")


def _moment(candle: IndexCandle) -> tuple[str, str]:
    at = ist(candle.start_ms)
    return f"{at:%Y%m%d}", f"{at:%H:%M}"


def _prices(candle: IndexCandle) -> list[str]:
    four = (candle.open_paise, candle.high_paise, candle.low_paise, candle.close_paise)
    return [f"{paise // 100}.{paise % 100:02d}" for paise in four]


def _write(file: Path, header: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    text = StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    unfinished = file.with_suffix(".part")
    with unfinished.open("w", encoding="utf-8") as out:
        out.write(text.getvalue())
        out.flush()
        os.fsync(out.fileno())
    unfinished.replace(file)


def _strikes_in(file: Path) -> set[int]:
    if not file.exists():
        return set()
    with file.open(encoding="utf-8", newline="") as rows:
        return {int(row["Strike"]) for row in csv.DictReader(rows)}
