"""What the rules of a start heard beside ticks, in the ledger's language: one line of JSON per event.

    ["beginning", {...}]               what `strategy.session.start` was given
    [17, 1763610301000]                a Timer, after 17 ticks of this start
    [17, "Fill", {...}]                any other event
    ["ending", {...}]                  the recording reaches to the end of this start

Invariants:
1. Reading what was written gives equal values.
2. With the ticks this is everything that a decision depended on.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass, fields
from datetime import date
from types import MappingProxyType
from typing import Any, TypeAlias

from pydantic import TypeAdapter

from strategy.actions import Halted, LimitsTightened, Resumed, StopMoved
from strategy.candles import Candle
from strategy.charges import Rates
from strategy.events import Caution, Command, Fill, IntentClosed, PoisonedTick, Timer
from strategy.history import History, PastIntent, UnknownPosition
from strategy.instruments import Contract, Index
from strategy.plan import DayPlan

RareEvent: TypeAlias = Timer | Fill | IntentClosed | Command | Caution | PoisonedTick


@dataclass(frozen=True, slots=True, kw_only=True)
class Beginning:
    """What one start gave the rules; its settings are in the start's own record."""

    plan: DayPlan
    at_ms: int
    warmup: tuple[Candle, ...]
    history: History
    ticks_before: int  # of earlier starts of the session, recorded


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """How much was recorded: `ticks` of this start, and `dropped` ones that are missing."""

    ticks: int
    dropped: int


Heard: TypeAlias = Beginning | Ending | tuple[int, RareEvent]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Beginning:
    """A Beginning in shapes that JSON has: no keys of two parts, no two types that look alike."""

    at_ms: int
    ticks_before: int
    day: date
    index: Index
    hours: tuple[tuple[int, int], ...]
    entry_start_ms: int
    entry_cutoff_ms: int
    squareoff_ms: int
    lot_size: int
    rates: Rates
    contracts: tuple[Contract, ...]
    warmup: tuple[Candle, ...]
    intents: tuple[PastIntent, ...]
    stops: tuple[StopMoved, ...]
    halts: tuple[tuple[bool, int, str], ...]  # (lifted, at, reason)
    limits: tuple[LimitsTightened, ...]
    unknown: tuple[UnknownPosition, ...]


_BEGINNING = TypeAdapter(_Beginning)
_ENDING = TypeAdapter(Ending)
_EVENTS: dict[str, TypeAdapter[Any]] = {
    kind.__name__: TypeAdapter(kind) for kind in (Fill, IntentClosed, Command, Caution, PoisonedTick)
}
_OF_PLAN = [field.name for field in fields(DayPlan) if field.name not in {"contracts", "index_security"}]


def heard_text(heard: Iterable[Heard]) -> str:
    """The lines of some events."""
    return "\n".join(_line(each) for each in heard)


def read_heard(text: str) -> list[Heard]:
    """The events of some lines. ValueError for a line that is none."""
    return [_read(json.loads(line)) for line in text.splitlines()]


def _line(heard: Heard) -> str:
    match heard:
        case Beginning():
            return json.dumps(["beginning", _BEGINNING.dump_python(_plain(heard), mode="json")])
        case Ending():
            return json.dumps(["ending", _ENDING.dump_python(heard, mode="json")])
        case (after, Timer(at_ms=at_ms)):
            return f"[{after}, {at_ms}]"
        case (after, event):
            name = type(event).__name__
            return json.dumps([after, name, _EVENTS[name].dump_python(event, mode="json")])


def _read(line: list[Any]) -> Heard:
    match line:
        case ["beginning", values]:
            return _whole(_BEGINNING.validate_json(json.dumps(values)))
        case ["ending", values]:
            return _ENDING.validate_python(values)
        case [int(after), int(at_ms)]:
            return after, Timer(at_ms=at_ms)
        case [int(after), str(name), values] if name in _EVENTS:
            return after, _EVENTS[name].validate_json(json.dumps(values))
    raise ValueError(f"expected an event that was heard, found {line!r:.200}; the recording is damaged")


def _plain(beginning: Beginning) -> _Beginning:
    plan, history = beginning.plan, beginning.history
    return _Beginning(
        at_ms=beginning.at_ms,
        ticks_before=beginning.ticks_before,
        contracts=tuple(plan.contracts.values()),
        warmup=beginning.warmup,
        intents=history.intents,
        stops=history.stops,
        halts=tuple((isinstance(said, Resumed), said.at_ms, said.reason) for said in history.halts),
        limits=history.limits,
        unknown=history.unknown,
        **{name: getattr(plan, name) for name in _OF_PLAN},
    )


def _whole(plain: _Beginning) -> Beginning:
    plan = DayPlan(
        index_security=plain.index.security,
        contracts=MappingProxyType(
            {(contract.strike_points, contract.option_type): contract for contract in plain.contracts}
        ),
        **{name: getattr(plain, name) for name in _OF_PLAN},
    )
    halts = tuple(
        Resumed(at_ms=at_ms, reason=reason) if lifted else Halted(at_ms=at_ms, reason=reason)
        for lifted, at_ms, reason in plain.halts
    )
    history = History(intents=plain.intents, stops=plain.stops, halts=halts, limits=plain.limits, unknown=plain.unknown)
    return Beginning(
        plan=plan, at_ms=plain.at_ms, warmup=plain.warmup, history=history, ticks_before=plain.ticks_before
    )
