"""Closed trades of any number of days as columns of numbers, and the choice of some of them.

Invariants:
1. A record is one trade; what is not known of it (no tick was recorded, no price was noted) is UNKNOWN, never 0.
2. Choosing copies numbers and changes none; choosing everything copies nothing.

Money is integer paise, times are Unix milliseconds, hours and weekdays are India's.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from functools import cached_property
from typing import Any, Self, TypeAlias

import numpy as np
from numpy.typing import NDArray

from strategy.metrics import Ints, known

Flags: TypeAlias = NDArray[np.bool_]

# Bytes of the ledger are read as this; another shape is another number.
LAYOUT = 1
RECORD = np.dtype(
    [
        ("entry_at_ms", "<i8"),  # the first purchase
        ("exit_at_ms", "<i8"),  # the last sale
        ("buy_value_paise", "<i8"),
        ("sell_value_paise", "<i8"),
        ("charges_paise", "<i8"),
        ("mae_paise", "<i8"),  # worst open P&L while held, 0 or less
        ("mfe_paise", "<i8"),  # best open P&L while held, 0 or more
        ("entry_slippage_paise", "<i8"),  # paid more than the price it was decided at would have cost
        ("exit_slippage_paise", "<i8"),  # received less than that
        ("entry_delay_ms", "<i8"),  # from the decision to the last fill
        ("exit_delay_ms", "<i8"),
        ("trade", "<i4"),
        ("quantity", "<i4"),  # units
        ("lots", "<i4"),
        ("strike_points", "<i4"),
        ("expiry", "<i4"),  # days since 1970-01-01
        ("reason", "<i2"),  # place in the list of exit reasons
        ("put", "<i1"),  # 0: call, 1: put
    ]
)
EPOCH_ORDINAL = date(1970, 1, 1).toordinal()
IST_MS = 19_800_000
HOUR_MS = 3_600_000
OPTION_TYPES = ("CE", "PE")


@dataclass(frozen=True, slots=True)
class SessionName:
    """What a session is called by: its day, index and mode ("imported": another program's)."""

    day: date
    index: str
    mode: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TradeFilter:
    """Which trades; what is empty or None filters nothing."""

    first: date | None = None
    last: date | None = None
    indices: frozenset[str] = frozenset()
    modes: frozenset[str] = frozenset()  # "imported" is in only where it is named
    directions: frozenset[str] = frozenset()  # CE, PE
    reasons: frozenset[str] = frozenset()
    weekdays: frozenset[int] = frozenset()  # 0: Monday
    hours: frozenset[int] = frozenset()  # of the entry
    expiry_day: bool | None = None  # only trades of contracts that expire that day, or only others

    def admits(self, session: SessionName) -> bool:
        """Whether a session's trades come into question at all."""
        return (
            (self.first is None or session.day >= self.first)
            and (self.last is None or session.day <= self.last)
            and (not self.indices or session.index in self.indices)
            and (session.mode in self.modes if self.modes else session.mode != "imported")
            and (not self.weekdays or session.day.weekday() in self.weekdays)
        )


@dataclass(frozen=True)
class ClosedTrades:
    """Trades of many sessions, a column for each field of RECORD; `session` and `reason` are places in the lists."""

    columns: Mapping[str, NDArray[Any]]
    session: NDArray[np.int32]
    sessions: tuple[SessionName, ...]
    reasons: tuple[str, ...]

    @classmethod
    def joined(
        cls, sessions: Sequence[SessionName], packed: Sequence[bytes], reasons: Sequence[tuple[str, ...]]
    ) -> Self:
        """Put together what each session packed: its records as bytes and the exit reasons that they number."""
        counts = [len(part) // RECORD.itemsize for part in packed]
        session = np.repeat(np.arange(len(sessions), dtype=np.int32), counts)
        columns: dict[str, NDArray[Any]] = {
            name: np.empty(sum(counts), dtype=kind) for name, (kind, *_) in (RECORD.fields or {}).items()
        }
        begin = 0
        # Session by session: the bytes of one fit the processor's cache, those of all together do not.
        for part, count in zip(packed, counts, strict=True):
            records = np.frombuffer(part, dtype=RECORD)
            for name, column in columns.items():
                column[begin : begin + count] = records[name]
            begin += count
        names = tuple(sorted({name for listed in reasons for name in listed}))
        if any(listed != names for listed in reasons):
            # Every session numbers its own reasons: from (session, its number) to the place among all of them.
            widest = max(len(listed) for listed in reasons)
            place = {name: number for number, name in enumerate(names)}
            places = np.zeros((len(sessions), widest), dtype=np.int16)
            for number, listed in enumerate(reasons):
                places[number, : len(listed)] = [place[name] for name in listed]
            columns["reason"] = places[session, columns["reason"]]
        return cls(columns, session, tuple(sessions), names)

    def __len__(self) -> int:
        return len(self.session)

    @cached_property
    def net_paise(self) -> Ints:
        """Result of each trade after charges."""
        return self.gross_paise - self.column("charges_paise")

    @cached_property
    def gross_paise(self) -> Ints:
        """Result of each trade before charges."""
        return self.column("sell_value_paise") - self.column("buy_value_paise")

    @cached_property
    def entry_hour(self) -> Ints:
        """The hour of India's clock in which each trade was entered."""
        return (self.column("entry_at_ms") + IST_MS) // HOUR_MS % 24

    @cached_property
    def on_expiry_day(self) -> Flags:
        """Whether each trade's contract expired on its day."""
        days = self._of_sessions([session.day.toordinal() - EPOCH_ORDINAL for session in self.sessions])
        flags: Flags = self.column("expiry") == days
        return flags

    @cached_property
    def weekday(self) -> Ints:
        """The weekday of each trade, 0 is Monday."""
        return self._of_sessions([session.day.weekday() for session in self.sessions])

    def column(self, name: str) -> Ints:
        """A column of RECORD."""
        return self.columns[name]

    def known(self, name: str) -> Ints:
        """The known values of a column."""
        return known(self.column(name))

    def codes(self, names: Sequence[str]) -> tuple[Ints, tuple[str, ...]]:
        """Each trade's place among the sorted distinct `names` (one per session), and these."""
        distinct = tuple(sorted(set(names)))
        place = {name: number for number, name in enumerate(distinct)}
        return self._of_sessions([place[name] for name in names]), distinct

    def select(self, wanted: TradeFilter) -> "ClosedTrades":
        """The trades that pass every filter; the sessions stay as they are."""
        admitted = [wanted.admits(session) for session in self.sessions]
        tests: list[Flags] = []
        if not all(admitted):
            tests.append(np.array(admitted, dtype=np.bool_)[self.session])
        if wanted.directions:
            tests.append(np.isin(self.column("put"), [OPTION_TYPES.index(name) for name in wanted.directions]))
        if wanted.reasons:
            places = [number for number, name in enumerate(self.reasons) if name in wanted.reasons]
            tests.append(np.isin(self.column("reason"), places))
        if wanted.hours:
            tests.append(np.isin(self.entry_hour, sorted(wanted.hours)))
        if wanted.expiry_day is not None:
            tests.append(self.on_expiry_day == wanted.expiry_day)
        if not tests:
            return self
        chosen = np.logical_and.reduce(tests)
        columns = {name: column[chosen] for name, column in self.columns.items()}
        return ClosedTrades(columns, self.session[chosen], self.sessions, self.reasons)

    def _of_sessions(self, values: Sequence[int]) -> Ints:
        spread: Ints = np.array(values, dtype=np.int64)[self.session] if values else np.empty(0, dtype=np.int64)
        return spread
