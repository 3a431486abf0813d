"""How a record becomes a row and a row a record: by the names and types of the record's own fields.

Invariants:
1. A field `<name>_ms` is the column `<name>`, an aware UTC time; every other field has its own name.
2. Whatever a record holds can be stored: text loses what no database takes (NUL, half characters), explanations
   what JSON has no word for. Only a whole number that is none (a float of paise, say) is refused.
3. `decode(encode(record)) == record` for every record whose explanation is plain JSON.
"""

import json
import math
import typing
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta, timezone
from enum import StrEnum
from functools import lru_cache
from hashlib import blake2b
from operator import attrgetter, index
from types import UnionType
from typing import Any, Generic, Protocol, TypeVar

R = TypeVar("R")
Row = tuple[Any, ...]
Rows = Callable[..., list[Row]]  # rows(sql, *values), of a database or inside one of its transactions

IST = timezone(timedelta(hours=5, minutes=30))  # India keeps no summer time
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MS = timedelta(milliseconds=1)


class Wire:
    """How one database's driver takes and gives times and dates."""

    @staticmethod
    def moment(at_ms: int) -> Any:
        """Unix milliseconds as what the driver stores."""
        return EPOCH + at_ms * MS

    def moments(self, at_ms: Collection[int]) -> list[Any]:
        """`moment` of each."""
        return list(map(self.moment, at_ms))

    @staticmethod
    def at_ms(moment: Any) -> int:
        """A stored time as Unix milliseconds."""
        return int((moment - EPOCH) // MS)

    @staticmethod
    def day(day: date) -> Any:
        """A date as what the driver stores."""
        return day

    @staticmethod
    def date(day: Any) -> Any:
        """A stored date."""
        return day

    @staticmethod
    def detail(text: Any) -> Any:
        """A stored explanation."""
        return text


class SqliteWire(Wire):
    """SQLite has no times: UTC as text of fixed width, so that text order is time order."""

    @staticmethod
    def moment(at_ms: int) -> str:
        """E.g. "2026-11-20 03:45:00.123000", the form that SQLAlchemy reads as well."""
        return _moment_texts((index(at_ms),))[0]

    def moments(self, at_ms: Collection[int]) -> list[str]:
        """`moment` of each."""
        return _moment_texts(map(index, at_ms))

    @staticmethod
    def at_ms(moment: Any) -> int:
        """A stored time as Unix milliseconds."""
        return (datetime.fromisoformat(moment).replace(tzinfo=UTC) - EPOCH) // MS

    @staticmethod
    def day(day: date) -> str:
        """E.g. "2026-11-20"."""
        return day.isoformat()

    @staticmethod
    def date(day: Any) -> date:
        """A stored date."""
        return date.fromisoformat(day)

    @staticmethod
    def detail(text: Any) -> Any:
        """A stored explanation."""
        return json.loads(text)


PLAIN_WIRE = Wire()
SQLITE_WIRE = SqliteWire()


_SECONDS = tuple(f":{second:02}." for second in range(60))
_THOUSANDTHS = tuple(f"{ms:03}000" for ms in range(1000))


@lru_cache(maxsize=1024)
def _minute_text(minute: int) -> str:
    return f"{EPOCH + timedelta(minutes=minute):%Y-%m-%d %H:%M}"


def _moment_texts(at_ms: Iterable[int]) -> list[str]:
    return [f"{_minute_text(ms // 60_000)}{_SECONDS[ms // 1000 % 60]}{_THOUSANDTHS[ms % 1000]}" for ms in at_ms]


def moment_text(at_ms: int) -> str:
    """A moment for people: IST, to the second."""
    return f"{EPOCH.astimezone(IST) + at_ms * MS:%Y-%m-%d %H:%M:%S} IST"


def clean(text: str) -> str:
    """`text` as every database takes it; a broker's message may hold anything."""
    if text.isascii() and "\0" not in text:
        return str(text)
    return str(text).encode("utf-8", "replace").decode().replace("\0", "")


_STRICT_JSON = json.JSONEncoder(allow_nan=False).encode  # json.dumps makes an encoder for each call


def detail_text(detail: Mapping[str, Any]) -> str:
    """An explanation as JSON; what JSON has no word for is written as text, and never stops a recording."""
    try:
        text = _STRICT_JSON(dict(detail))
    except (TypeError, ValueError):
        return json.dumps(_plain(detail))
    # PostgreSQL takes neither NUL nor half of a surrogate pair, however they are escaped.
    return json.dumps(_plain(detail)) if "\\u0000" in text or "\\ud" in text else text


def _plain(value: Any) -> Any:
    match value:
        case None | bool() | int():
            return value
        case float():
            return value if math.isfinite(value) else str(value)
        case str():
            return clean(value)
        case Mapping():
            return {clean(str(key)): _plain(item) for key, item in value.items()}
        case list() | tuple() | set() | frozenset():
            return [_plain(item) for item in value]
        case _:
            return clean(str(value))


def fingerprint(*parts: Any) -> str:
    """Sixteen bytes of hash over the parts, as hex: equal content, equal fingerprint."""
    return blake2b("\x1f".join(map(str, parts)).encode("utf-8", "replace"), digest_size=16).hexdigest()


def _number(value: float | None) -> float | None:
    """A float of the database; what is not a number is not known."""
    return float(value) if value is not None and math.isfinite(value) else None


def _cleaned(texts: Collection[str]) -> list[str]:
    """`clean` of each; a column says the same again and again, so each text is looked at once."""
    known = {text: clean(text) for text in set(texts)}
    return list(map(known.__getitem__, texts))


def _numbers(values: Collection[float | None]) -> list[float | None]:
    """`_number` of each."""
    if None not in values and all(map(math.isfinite, typing.cast("Collection[float]", values))):
        return list(map(float, typing.cast("Collection[float]", values)))
    return list(map(_number, values))


class ManyRows(Protocol):
    """A list of rows, or what is like one."""

    def __len__(self) -> int:
        """How many."""
        ...

    def __iter__(self) -> Iterator[Row]:
        """One after the other; more than once."""
        ...


class Batch:
    """Rows that are kept by column: a row is a tuple only while it is written, so a day leaves nothing to collect."""

    def __init__(self, columns: Sequence[Collection[Any]]) -> None:
        self._columns = columns

    def __len__(self) -> int:
        return len(self._columns[0])

    def __iter__(self) -> Iterator[Row]:
        return zip(*self._columns, strict=True)


class Shape(Generic[R]):
    """One record type as the columns of a table; `without` are fields that live in another table.

    `numbers` are times that stay numbers.
    """

    def __init__(self, record: type[R], *, without: Sequence[str] = (), numbers: Sequence[str] = ()) -> None:
        self._record = record
        hints = typing.get_type_hints(record)
        # A named tuple or a dataclass: both have their fields annotated in order.
        self.fields = tuple(name for name in hints if name not in without)
        self.columns = tuple(name.removesuffix("_ms") for name in self.fields)
        self._hints = tuple(hints[name] for name in self.fields)
        self._numbers = frozenset(numbers)
        self._value_of = tuple(map(attrgetter, self.fields))
        self._values_of = attrgetter(*self.fields)
        self._is_whole_tuple = issubclass(record, tuple) and not without
        self._encoders: dict[Wire, list[Callable[[Any], Any]]] = {}
        self._decoders: dict[Wire, Callable[..., R]] = {}

    @property
    def listed(self) -> str:
        """The columns for a SELECT or an INSERT."""
        return ", ".join(self.columns)

    def row(self, wire: Wire, record: R) -> Row:
        """The values of a record's row. TypeError, ValueError or OverflowError for what is not of its type."""
        return tuple([step(value) for step, value in zip(self._steps(wire), self._values_of(record), strict=True)])

    def encode(self, wire: Wire, records: Iterable[R]) -> Batch:
        """A row per record. TypeError, ValueError or OverflowError for what is not of its type.

        Column by column: a batch of candles spends its time in C, not in a loop per row.
        """
        found = tuple(records)
        columns: Iterable[Collection[Any]]
        if self._is_whole_tuple and found:
            columns = zip(*typing.cast("tuple[Row, ...]", found), strict=True)
        else:
            columns = (tuple(map(value, found)) for value in self._value_of)
        steps = self._steps(wire)
        return Batch([_by_column(step, wire)(column) for step, column in zip(steps, columns, strict=True)])

    def _steps(self, wire: Wire) -> list[Callable[[Any], Any]]:
        steps = self._encoders.get(wire)
        if steps is None:
            steps = self._encoders[wire] = [
                index if name in self._numbers else _encode(name, hint, wire)
                for name, hint in zip(self.fields, self._hints, strict=True)
            ]
        return steps

    def decoder(self, wire: Wire) -> Callable[..., R]:
        """A function from the values of a row (and the fields that live elsewhere) to a record."""
        decode_row = self._decoders.get(wire)
        if decode_row is None:
            decode_row = self._decoders[wire] = self._new_decoder(wire)
        return decode_row

    def _new_decoder(self, wire: Wire) -> Callable[..., R]:
        steps = [(name, _decode(name, hint, wire)) for name, hint in zip(self.fields, self._hints, strict=True)]

        def decode(row: Row, **others: Any) -> R:
            values = {
                name: value if step is None or value is None else step(value)
                for (name, step), value in zip(steps, row, strict=True)
            }
            return self._record(**values, **others)

        return decode


def _without_none(hint: Any) -> Any:
    """The type of `X | None`, or of `X`."""
    if typing.get_origin(hint) not in (typing.Union, UnionType):
        return hint
    return next(kind for kind in typing.get_args(hint) if kind is not type(None))


def _encode(name: str, hint: Any, wire: Wire) -> Callable[[Any], Any]:
    plain = _without_none(hint)
    step = _encode_plain(name, plain, wire)
    if plain is hint or step is _number:
        return step
    return lambda value: None if value is None else step(value)


def _encode_plain(name: str, hint: Any, wire: Wire) -> Callable[[Any], Any]:
    if hint is int:
        return wire.moment if name.endswith("_ms") else index
    if hint is float:
        return _number
    if hint is bool:
        return bool
    if hint is date:
        return wire.day
    if typing.get_origin(hint) is Mapping:
        return detail_text
    return clean


def _by_column(step: Callable[[Any], Any], wire: Wire) -> Callable[[Collection[Any]], Collection[Any]]:
    """What does at once what `step` does value by value."""
    if step is clean:
        return _cleaned
    if step is _number:
        return _numbers
    if step is wire.moment:
        return wire.moments
    return lambda values: list(map(step, values))


def _decode(name: str, hint: Any, wire: Wire) -> Callable[[Any], Any] | None:
    plain = _without_none(hint)
    if typing.get_origin(plain) is Mapping:
        return wire.detail
    if plain is int and name.endswith("_ms"):
        return wire.at_ms
    if plain is date:
        return wire.date
    if isinstance(plain, type) and issubclass(plain, StrEnum | bool):
        return plain
    return None
