"""Which days index options trade, and in which hours. Days and hours are IST; NSE and BSE keep the same ones.

Invariants:
1. A day outside the known data is refused (`OutsideKnownData`); None means "known not to be a trading day".
2. The windows of a trading day are in order and apart; a window includes its opening and excludes its close.
3. What an operator says about a day replaces everything packaged about that day.
"""

from dataclasses import dataclass
from datetime import date, datetime, time, timedelta, timezone
from functools import cache
from itertools import pairwise
from typing import Any

from strategy.facts import (
    OPERATOR,
    FactsInvalid,
    OutsideKnownData,
    Row,
    doubts,
    in_force,
    overlay,
    packaged,
    parse,
    read_rows,
)

__all__ = [
    "OutsideKnownData",
    "SessionFacts",
    "TradingDay",
    "Window",
    "closed_because",
    "session_facts",
    "trading_day",
]

# India has kept one offset since 1945; a fixed one needs no time-zone files.
IST = timezone(timedelta(hours=5, minutes=30), "IST")
SATURDAY = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """One stretch of continuous trading, [open, close)."""

    open: time
    close: time
    open_ms: int
    close_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TradingDay:
    """The hours of one day on which index options trade."""

    day: date
    name: str  # what is special about it; "" for an ordinary day
    windows: tuple[Window, ...]
    expiry_close: time | None  # when a contract that expires today stops; None: with everything else
    entry_latest: time | None  # entry cutoffs may not be later
    unconfirmed: tuple[str, ...]  # sources of what is assumed about the day

    @property
    def open_ms(self) -> int:
        """The first opening."""
        return self.windows[0].open_ms

    @property
    def close_ms(self) -> int:
        """The last close."""
        return self.windows[-1].close_ms

    def is_open(self, at_ms: int) -> bool:
        """Whether the market trades at that moment (a break between two windows is closed)."""
        return any(window.open_ms <= at_ms < window.close_ms for window in self.windows)

    def at(self, of_day: time) -> int:
        """The moment of a time of this day."""
        return ist_ms(self.day, of_day)

    def close_ms_of(self, expiry: date) -> int:
        """When a contract of that expiry stops trading today."""
        if expiry != self.day or self.expiry_close is None:
            return self.close_ms
        return min(self.close_ms, ist_ms(self.day, self.expiry_close))


@dataclass(frozen=True, slots=True, kw_only=True)
class HoursRow(Row):
    """The hours of ordinary days from `since` on."""

    since: date
    open: time
    close: time
    expiry_close: time | None = None
    entry_latest: time | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SpecialRow(Row):
    """A day with windows of its own."""

    day: date
    name: str
    windows: tuple[tuple[time, time], ...]
    expiry_close: time | None = None
    entry_latest: time | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class HolidayRow(Row):
    """A day without trading."""

    day: date
    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionFacts:
    """All that is known about trading days, from `since` through `through`."""

    since: date
    through: date
    hours: tuple[HoursRow, ...]
    special: tuple[SpecialRow, ...]
    holidays: tuple[HolidayRow, ...]


@cache
def session_facts(operator_toml: str = "") -> SessionFacts:
    """The packaged facts under an operator's own rows (the text of a TOML file in the same form)."""
    base = _read(packaged("sessions.toml"), "sessions.toml")
    over = _read(operator_toml, OPERATOR, since=base.since, through=base.through)
    said = {row.day for row in over.special} | {row.day for row in over.holidays}
    facts = SessionFacts(
        since=over.since,
        through=over.through,
        hours=overlay(base.hours, over.hours, key=lambda row: row.since),
        special=tuple(row for row in base.special if row.day not in said) + over.special,
        holidays=tuple(row for row in base.holidays if row.day not in said) + over.holidays,
    )
    _demand_sound(facts)
    return facts


def trading_day(day: date, facts: SessionFacts | None = None) -> TradingDay | None:
    """The hours of `day`; None if it is known not to be a trading day.

    Raises OutsideKnownData where the facts end.
    """
    facts = _covering(day, facts)
    special = next((row for row in facts.special if row.day == day), None)
    if special is None and closed_because(day, facts) is not None:
        return None
    hours = in_force(facts.hours, day)
    assert hours is not None, "the facts are checked to have hours for every covered day"
    # The hours of an ordinary day say nothing about a special one.
    row: SpecialRow | HoursRow = special or hours
    return TradingDay(
        day=day,
        name=special.name if special else "",
        windows=tuple(
            Window(open=start, close=end, open_ms=ist_ms(day, start), close_ms=ist_ms(day, end))
            for start, end in (special.windows if special else ((hours.open, hours.close),))
        ),
        expiry_close=row.expiry_close,
        entry_latest=row.entry_latest,
        unconfirmed=doubts(row),
    )


def closed_because(day: date, facts: SessionFacts | None = None) -> str | None:
    """Why there is no trading on `day`, for people; None on a trading day. Raises OutsideKnownData."""
    facts = _covering(day, facts)
    if any(row.day == day for row in facts.special):
        return None
    for row in facts.holidays:
        if row.day == day:
            return f"{row.name} ({row.source})"
    return f"{day:%A}" if day.weekday() >= SATURDAY else None


def ist_ms(day: date, of_day: time) -> int:
    """The moment of an IST wall-clock time, Unix milliseconds."""
    return round(datetime.combine(day, of_day, IST).timestamp() * 1000)


def _covering(day: date, facts: SessionFacts | None) -> SessionFacts:
    facts = facts or session_facts()
    if facts.since <= day <= facts.through:
        return facts
    raise OutsideKnownData(
        f"trading days are known from {facts.since} through {facts.through}; {day} is outside. "
        "Add the exchange's holiday list to the operator's facts file, with a [covers] table that reaches it."
    )


def _read(text: str, where: str, since: date = date.max, through: date = date.min) -> SessionFacts:
    document = parse(text, where)
    covers = document.get("covers", {})
    unknown = sorted(covers.keys() - {"since", "through"})
    ends = (covers.get("since", since), covers.get("through", through))
    if unknown or not all(isinstance(end, date) and not isinstance(end, datetime) for end in ends):
        raise FactsInvalid(f"{where}: [covers] must hold the dates since and through, found {covers}")
    return SessionFacts(
        since=ends[0],
        through=ends[1],
        hours=read_rows(document, "hours", HoursRow, where),
        special=read_rows(document, "special", SpecialRow, where, {"windows": _windows}),
        holidays=read_rows(document, "holiday", HolidayRow, where),
    )


def _windows(found: Any) -> tuple[tuple[time, time], ...]:
    windows = tuple((start, end) for start, end in found)
    if not windows or not all(isinstance(edge, time) for window in windows for edge in window):
        raise ValueError("expected pairs of times, [[09:15:00, 15:30:00]]")
    return windows


def _demand_sound(facts: SessionFacts) -> None:
    if facts.since > facts.through or in_force(facts.hours, facts.since) is None:
        raise FactsInvalid(
            f"the facts cover {facts.since} through {facts.through}; expected an [[hours]] row from then or "
            f"before, found the earliest at {min((row.since for row in facts.hours), default=None)}"
        )
    for hours in facts.hours:
        _demand_in_order(f"[[hours]] since {hours.since}", ((hours.open, hours.close),))
    days = [row.day for row in facts.special] + [row.day for row in facts.holidays]
    for day in days:
        if days.count(day) > 1:
            raise FactsInvalid(f"{day} is named more than once as special or holiday; one row may speak of a day")
    for special in facts.special:
        _demand_in_order(f"[[special]] {special.day}", special.windows)


def _demand_in_order(where: str, windows: tuple[tuple[time, time], ...]) -> None:
    edges = [edge for window in windows for edge in window]
    if any(earlier >= later for earlier, later in pairwise(edges)):
        raise FactsInvalid(f"{where}: opening and closing times must rise, found {[str(edge) for edge in edges]}")
