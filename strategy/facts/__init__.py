"""Dated facts about the market: TOML files beside this module, and the little that is needed to read them.

Everything here changes by circular, so every row carries its date, its source, and whether that source was
seen (`confirmed`, true unless the row says otherwise). An operator lays rows of their own over the packaged
ones, in the same form.

Invariants:
1. A day outside what a file covers is refused (`OutsideKnownData`), never guessed.
2. A row with an unknown, missing or ill-typed key is refused (`FactsInvalid`) with its place and what was
   expected.
"""

import hashlib
import tomllib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import MISSING, dataclass, fields
from datetime import date, datetime
from functools import cache
from importlib.resources import files
from typing import Any, Protocol, TypeVar, get_type_hints

FILES = ("sessions.toml", "contracts.toml", "charges.toml")
# An operator's file may hold any of them.
TABLES = (
    *("covers", "hours", "special", "holiday"),
    *("lot", "freeze", "expiry"),
    *("brokerage", "stt", "exchange_transaction", "sebi", "stamp", "gst"),
)
OPERATOR = "the operator's facts"


class OutsideKnownData(LookupError):
    """The facts say nothing about this day; trading on a guess is refused."""


class FactsInvalid(ValueError):
    """A facts file says something that cannot be understood or contradicts itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """What every fact carries."""

    source: str
    confirmed: bool = True


class Dated(Protocol):
    """A row that holds from a day on."""

    @property
    def since(self) -> date:
        """The first day."""
        ...


RowT = TypeVar("RowT", bound=Row)
DatedT = TypeVar("DatedT", bound=Dated)


@cache
def packaged(name: str) -> str:
    """The text of a packaged file."""
    return files(__name__).joinpath(name).read_text(encoding="utf-8")


def facts_version(operator_toml: str = "") -> str:
    """A short fingerprint of all facts in force, for the record of a session."""
    digest = hashlib.sha256()
    for text in (*map(packaged, FILES), operator_toml):
        digest.update(text.encode())
        digest.update(b"\0")
    return digest.hexdigest()[:12]


def parse(text: str, where: str) -> dict[str, Any]:
    """The tables of a TOML text; only TABLES are allowed in it."""
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as fault:
        raise FactsInvalid(f"{where} is not valid TOML: {fault}") from fault
    unknown = sorted(document.keys() - set(TABLES))
    if unknown:
        raise FactsInvalid(f"{where}: unknown table {', '.join(unknown)}; expected {', '.join(TABLES)}")
    return document


def read_rows(
    document: Mapping[str, Any],
    table: str,
    kind: type[RowT],
    where: str,
    convert: Mapping[str, Callable[[Any], Any]] | None = None,
) -> tuple[RowT, ...]:
    """The rows of `[[table]]` as values of `kind`; `convert` turns what TOML has into what a field wants."""
    rows = document.get(table, [])
    if not isinstance(rows, list):
        raise FactsInvalid(f"{where}: {table} must be rows, written [[{table}]]")
    return tuple(
        _read_row(row, kind, f"{where}: [[{table}]] number {number}", convert or {})
        for number, row in enumerate(rows, 1)
    )


def _read_row(
    row: Mapping[str, Any], kind: type[RowT], where: str, convert: Mapping[str, Callable[[Any], Any]]
) -> RowT:
    wanted = {field.name: field for field in fields(kind)}
    unknown = sorted(row.keys() - wanted.keys())
    if unknown:
        raise FactsInvalid(f"{where}: unknown key {', '.join(unknown)}; expected {', '.join(wanted)}")
    missing = [name for name, field in wanted.items() if field.default is MISSING and name not in row]
    if missing:
        raise FactsInvalid(f"{where}: missing {', '.join(missing)}")
    hints = get_type_hints(kind)
    values: dict[str, Any] = {}
    for name, found in row.items():
        if name in convert:
            try:
                values[name] = convert[name](found)
            except (TypeError, ValueError, ArithmeticError) as fault:
                raise FactsInvalid(f"{where}: {name} = {found!r} cannot be read: {fault}") from fault
            continue
        # To isinstance a bool is an int and a datetime is a date.
        exact = hints[name] is bool or not isinstance(found, bool | datetime)
        if not exact or not isinstance(found, hints[name]):
            raise FactsInvalid(f"{where}: {name} must be {_plain(hints[name])}, found {found!r}")
        values[name] = found
    return kind(**values)


def _plain(hint: Any) -> str:
    return getattr(hint, "__name__", str(hint))


def in_force(rows: Sequence[DatedT], day: date) -> DatedT | None:
    """The row with the latest `since` that is not after `day`; None if all begin later."""
    begun = [row for row in rows if row.since <= day]
    return max(begun, key=lambda row: row.since) if begun else None


def overlay(base: Iterable[RowT], over: Iterable[RowT], key: Callable[[RowT], object]) -> tuple[RowT, ...]:
    """The base's rows without those that `over` replaces (same key), then the rows of `over`."""
    rows = tuple(over)
    replaced = {key(row) for row in rows}
    return tuple(row for row in base if key(row) not in replaced) + rows


def doubts(*rows: Row | None) -> tuple[str, ...]:
    """What to tell a person about the rows whose source was not seen."""
    return tuple(row.source for row in rows if row is not None and not row.confirmed)
