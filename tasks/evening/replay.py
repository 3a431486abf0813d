"""The proof of a day: what the rules heard, told to them again, must make them say the same, decision by decision.

A recording is the ticks (table `tick`) and everything else that the rules heard between them (table `heard`), with what
each start began with. Nothing else goes into a decision, so nothing has to be guessed: no clock, no order of threads.

Invariants:
1. Nothing is sent and, but for the verdict, nothing is written; a verdict that is known is not written twice.
2. What a crash cut off is said, not guessed: decisions after the last piece that is complete are left out, and counted.
3. A verdict of "same" was earned: it counts the decisions that were compared, and zero is no proof.

Not compared: positions taken over at a start (nobody decided them), answers to commands, and alerts of others than the
rules. An exit or an entry that was decided and could not be sent has no row; the end that the rules heard of it stands
for it.
"""

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import zip_longest
from typing import Any

from strategy.actions import (
    Action,
    Alert,
    CandleClosed,
    Enter,
    EntryRefused,
    Exit,
    ExitReason,
    Halted,
    LimitsTightened,
    Resumed,
    StopMoved,
)
from strategy.events import IntentClosed, Outcome, SessionEvent, Tick
from strategy.params import Params
from strategy.session import start, step
from tasks.clock import ist
from tasks.ledger.records import ADOPTED, DecisionRecord, IntentRecord
from tasks.ledger.rows import detail_text
from tasks.ledger.store import Ledger
from tasks.orders.records import intent_record
from tasks.trading.decisions import candle_record, decision_record
from tasks.trading.heard import Beginning, Ending, RareEvent, read_heard

SAME, DIFFERENT, UNPROVEN = "same", "different", "unproven"
KIND = "replay"  # of the decision row that keeps the verdict
_BY_THE_RULES = frozenset({"stop_moved", "entry_refused", "halted", "resumed", "limits_tightened"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """The first decision on which the recording and the replay do not agree. Empty text: there is none."""

    at_ms: int
    what: str
    recorded: str
    replayed: str

    def __str__(self) -> str:
        return (
            f"{ist(self.at_ms):%H:%M:%S.%f}"[:-3]
            + f" {self.what}: recorded {self.recorded or 'nothing'}, replayed {self.replayed or 'nothing'}"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What a replay came to."""

    state: str  # same, different or unproven
    compared: int  # decisions that are the same
    ticks: int
    at_ms: int  # of the last event
    difference: Difference | None = None
    gaps: tuple[str, ...] = ()  # what the recording lacks

    def __str__(self) -> str:
        match self.state:
            case "same":
                said = f"Replayed: {self.ticks:,} ticks give the same {self.compared:,} decisions"
            case "different":
                said = f"Replay differs after {self.compared:,} equal decisions: {self.difference}"
            case _:
                said = "Not proven by replay"
        return "; ".join((said, *self.gaps))


@dataclass(frozen=True, slots=True, kw_only=True)
class Recording:
    """One start as it was recorded."""

    fence: int
    params: Params
    beginning: Beginning
    events: tuple[SessionEvent, ...]
    ticks: int
    ends_at_ms: int | None  # None: the recording reaches its end; else what is complete reaches to here, excluded
    dropped: int = 0


@dataclass(slots=True)
class _Said:
    """Decisions of a day in comparable form, each kind in its own order."""

    candles: list[tuple[int, str]] = field(default_factory=list)
    intents: list[tuple[int, str]] = field(default_factory=list)
    decisions: list[tuple[int, str]] = field(default_factory=list)
    alerts: list[tuple[int, str]] = field(default_factory=list)


def recordings(ledger: Ledger, session_id: str, ticks: Sequence[Tick] | None = None) -> list[Recording]:
    """What was recorded of each start, in order; `ticks` where they were read already.

    ValueError for a damaged recording; LedgerUnavailable.
    """
    params = {begun.fence: begun.params for begun in ledger.starts(session_id)}
    pieces: dict[int, list[str]] = {}
    for fence, _, events in ledger.heard(session_id):
        pieces.setdefault(fence, []).append(events)
    ticks = ledger.ticks(session_id) if ticks is None else ticks
    begun = {fence: read_heard(texts[0])[0] for fence, texts in pieces.items()}
    firsts = [found.ticks_before for found in begun.values() if isinstance(found, Beginning)]
    if len(firsts) != len(begun):
        raise ValueError("expected each start's recording to begin with what it was given; the recording is damaged")
    until = [*firsts[1:], len(ticks)]
    return [
        _recording(fence, Params.model_validate(params[fence]), pieces[fence], ticks[first:last])
        for fence, first, last in zip(pieces, firsts, until, strict=True)
    ]


def _recording(fence: int, params: Params, texts: Sequence[str], ticks: Sequence[Tick]) -> Recording:
    heard = [each for text in texts for each in read_heard(text)]
    beginning = heard[0]
    assert isinstance(beginning, Beginning)
    rare = [each for each in heard if isinstance(each, tuple)]
    ending = heard[-1] if isinstance(heard[-1], Ending) else None
    ends_at_ms = None
    if ending is None:
        # The last piece may have been written without the decisions it led to.
        last = [each for each in read_heard(texts[-1]) if isinstance(each, tuple)]
        ends_at_ms = last[0][1].at_ms if last else beginning.at_ms
    return Recording(
        fence=fence,
        params=params,
        beginning=beginning,
        events=tuple(_in_order(rare, ticks, with_rest=ending is not None)),
        ticks=len(ticks),
        ends_at_ms=ends_at_ms,
        dropped=ending.dropped + (ending.ticks - len(ticks)) if ending is not None else 0,
    )


def _in_order(
    rare: Iterable[tuple[int, RareEvent]], ticks: Sequence[Tick], *, with_rest: bool
) -> Iterator[SessionEvent]:
    told = 0
    for after, event in rare:
        yield from ticks[told:after]
        told = max(told, after)
        yield event
    if with_rest:
        yield from ticks[told:]


def replayed(recording: Recording) -> Iterator[Action]:
    """What the rules say to a recording, in order."""
    beginning, params = recording.beginning, recording.params
    state, actions = start(
        beginning.plan, params, at_ms=beginning.at_ms, warmup=beginning.warmup, history=beginning.history
    )
    yield from actions
    for event in recording.events:
        state, actions = step(state, event, beginning.plan, params)
        yield from actions


def prove(ledger: Ledger, session_id: str, ticks: Sequence[Tick] | None = None) -> Verdict:
    """Replay a session and compare; `ticks` where they were read already. LedgerUnavailable passes through."""
    try:
        return _proven(ledger, session_id, ticks)
    except ValueError as damaged:
        return Verdict(state=UNPROVEN, compared=0, ticks=0, at_ms=0, gaps=(str(damaged),))


def _proven(ledger: Ledger, session_id: str, ticks: Sequence[Tick] | None) -> Verdict:
    found = recordings(ledger, session_id, ticks)
    if not found:
        gap = "this session was not recorded for a replay"
        return Verdict(state=UNPROVEN, compared=0, ticks=0, at_ms=0, gaps=(gap,))
    unsent = {
        event.intent
        for recording in found
        for event in recording.events
        if isinstance(event, IntentClosed) and event.outcome is Outcome.REJECTED
    }
    holes = _holes(found)
    theirs, ours = _recorded(ledger, session_id, found[0].params), _Said()
    for recording in found:
        _note(ours, session_id, replayed(recording))
    sent = {text.split(" ", 1)[0] for _, text in theirs.intents}
    ours.intents = [
        (at_ms, text)
        for at_ms, text in ours.intents
        if text.split(" ", 1)[0] in sent or int(text.split(" ", 1)[0]) not in unsent
    ]
    # Others raise alerts too: only what the rules said is looked for.
    said = set(theirs.alerts)
    pairs = {
        "candle": (theirs.candles, ours.candles),
        "order": (theirs.intents, ours.intents),
        "decision": (theirs.decisions, ours.decisions),
        "alert": ([alert for alert in ours.alerts if alert in said], ours.alerts),
    }
    compared, left_out, differences = 0, 0, []
    for what, (recorded, again) in pairs.items():
        kept = [[said for said in side if not _inside(holes, said[0])] for side in (recorded, again)]
        left_out += len(recorded) - len(kept[0])
        same, difference = _first_difference(what, *kept)
        compared += same
        if difference is not None:
            differences.append(difference)
    gaps = []
    if left_out:
        gaps.append(f"{left_out} decisions around {len(holes)} crashes are not proven: their ticks were not written")
    dropped = sum(recording.dropped for recording in found)
    if dropped:
        gaps.append(f"{dropped} ticks are missing in the recording")
    state = SAME if compared else UNPROVEN
    if differences:
        state = UNPROVEN if dropped else DIFFERENT
    return Verdict(
        state=state,
        compared=compared,
        ticks=sum(recording.ticks for recording in found),
        at_ms=_last_ms(found),
        difference=min(differences, key=lambda difference: difference.at_ms, default=None),
        gaps=tuple(gaps),
    )


def record_verdict(ledger: Ledger, session_id: str, verdict: Verdict) -> None:
    """Keep a verdict with the session's decisions; the same again changes nothing. Without events there is none."""
    if not verdict.at_ms:
        return
    ledger.record_decisions(
        [
            DecisionRecord(
                session_id=session_id,
                at_ms=verdict.at_ms,
                kind=KIND,
                reason=verdict.state,
                detail={"message": str(verdict), "compared": verdict.compared, "ticks": verdict.ticks},
            )
        ]
    )


def _holes(found: Sequence[Recording]) -> list[tuple[int, int]]:
    """[from, until) of what crashes cut off; the next start's recording begins where a hole ends."""
    nexts = [recording.beginning.at_ms for recording in found[1:]]
    ends = [*nexts, 1 << 62]
    return [
        (recording.ends_at_ms, end)
        for recording, end in zip(found, ends, strict=True)
        if recording.ends_at_ms is not None
    ]


def _inside(holes: Iterable[tuple[int, int]], at_ms: int) -> bool:
    return any(begin <= at_ms < end for begin, end in holes)


def _last_ms(found: Sequence[Recording]) -> int:
    last = found[-1]
    return max((event.at_ms for event in last.events), default=last.beginning.at_ms)


def _recorded(ledger: Ledger, session_id: str, params: Params) -> _Said:
    said = _Said()
    for candle in ledger.candles(session_id, params.candle_seconds):
        said.candles.append((candle.start_ms + 1_000 * candle.seconds, _text(candle._asdict())))
    for intent in ledger.intents(session_id):
        if intent.reason not in {ADOPTED, ExitReason.UNRECORDED}:
            said.intents.append((intent.decided_at_ms, _intent_text(intent)))
    for decision in ledger.decisions(session_id):
        if decision.kind == "alert":
            said.alerts.append((decision.at_ms, _decision_text(decision)))
        elif decision.kind in _BY_THE_RULES:
            said.decisions.append((decision.at_ms, _decision_text(decision)))
    return said


def _note(said: _Said, session_id: str, actions: Iterable[Action]) -> None:
    """Add what was said, as the ledger would keep it: what is recorded already is not recorded twice."""
    candles, others = {at_ms for at_ms, _ in said.candles}, {*said.decisions, *said.alerts}
    for action in actions:
        match action:
            case CandleClosed():
                at_ms = action.start_ms + 1_000 * action.seconds
                if at_ms not in candles:
                    candles.add(at_ms)
                    said.candles.append((at_ms, _text(candle_record(session_id, action)._asdict())))
            case Enter() | Exit():
                record = intent_record(action, (), session_id=session_id, fence=0)
                said.intents.append((action.at_ms, _intent_text(record)))
            case Alert() | StopMoved() | EntryRefused() | Halted() | Resumed() | LimitsTightened():
                one = (action.at_ms, _decision_text(decision_record(session_id, action)))
                if one not in others:
                    others.add(one)
                    (said.alerts if isinstance(action, Alert) else said.decisions).append(one)


def _intent_text(intent: IntentRecord) -> str:
    """The number first, then all that was decided; not the orders, which the market made of it."""
    values = asdict(replace(intent, orders=(), fence=0))
    return f"{intent.intent} {intent.purpose} {intent.contract_name} {_text(values)}"


def _decision_text(decision: DecisionRecord) -> str:
    return f"{decision.kind} {decision.reason} {_text(dict(decision.detail))}"


def _text(values: dict[str, Any]) -> str:
    """Values as JSON keeps them, in one order."""
    plain = {name: value if isinstance(value, int | float | dict) else str(value) for name, value in values.items()}
    return json.dumps(json.loads(detail_text(plain)), sort_keys=True)


def _first_difference(
    what: str, recorded: Sequence[tuple[int, str]], again: Sequence[tuple[int, str]]
) -> tuple[int, Difference | None]:
    """How many are equal from the beginning, and the first that are not."""
    for number, (theirs, ours) in enumerate(zip_longest(recorded, again)):
        if theirs != ours:
            at_ms = min(said[0] for said in (theirs, ours) if said is not None)
            texts = _apart(theirs[1] if theirs else "", ours[1] if ours else "")
            return number, Difference(at_ms=at_ms, what=what, recorded=texts[0], replayed=texts[1])
    return len(recorded), None


def _apart(recorded: str, replayed: str) -> tuple[str, str]:
    """Two texts without the values on which they agree, where both have the same fields."""
    heads, bodies = zip(
        *((text.partition("{")[0], text.partition("{")[2]) for text in (recorded, replayed)), strict=True
    )
    if not all(bodies):
        return recorded, replayed
    values = [_flat(json.loads("{" + body)) for body in bodies]
    differing = [name for name in values[0] if values[0][name] != values[1].get(name)]
    differing += [name for name in values[1] if name not in values[0]]
    first, second = (
        " ".join((head.strip(), *(f"{name}={side.get(name)}" for name in differing))).strip()
        for head, side in zip(heads, values, strict=True)
    )
    return first, second


def _flat(values: dict[str, Any]) -> dict[str, Any]:
    nested = {name: value for name, value in values.items() if isinstance(value, dict)}
    return {name: value for name, value in values.items() if name not in nested} | {
        f"{name}.{inner}": value for name, within in nested.items() for inner, value in within.items()
    }
