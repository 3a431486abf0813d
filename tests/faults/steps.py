"""The steps of a trading process at which it can be killed, and the hands that kill it there.

Installed by `runner.py` in the process that is to die, around the functions of the unmodified bot. Nothing else of the
bot is changed.

Invariants:
1. A kill is SIGKILL to the process itself: no handler, no `finally`, no flush runs after it.
2. Passages are counted from 1, over all threads of the process.
"""

import importlib
import os
import select
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

BEFORE, AFTER, ANSWERED = "before", "after", "answered"


@dataclass(frozen=True, slots=True)
class Step:
    """Before or after a call of `place` ("module:Class.method") whose arguments satisfy `which`."""

    place: str
    when: str
    which: Callable[..., bool] | None = None


def _purpose(wanted: str) -> Callable[..., bool]:
    return lambda _ledger, intent, **_: intent.purpose == wanted


def _reason(wanted: str) -> Callable[..., bool]:
    return lambda _ledger, intent, **_: intent.reason == wanted


def _halt(_recorder: Any, decision: Any) -> bool:
    return bool(decision.kind == "halted")


def _side(wanted: str) -> Callable[..., bool]:
    return lambda _broker, order: order.side == wanted


def _kind(*wanted: str) -> Callable[..., bool]:
    return lambda _ledger, event: event.kind in wanted


def _event(wanted: str, **fields: Any) -> Callable[..., bool]:
    def matches(_execution: Any, event: Any) -> bool:
        return type(event).__name__ == wanted and all(test(event) for test in fields.values())

    return matches


def _request(method: str) -> Callable[..., bool]:
    return lambda connection: connection.asked[0] == method and connection.asked[1].startswith("/v2/orders")


def _some(_ledger: Any, rows: Any, *_: Any) -> bool:
    return bool(rows)


LEDGER = "tasks.ledger.store:Ledger"
BROKER = "tasks.broker.dhan:DhanBroker"
EXECUTION = "tasks.orders.execution:Execution"
LEASES = "tasks.ledger.lease:Leases"
WIRE = "urllib3.connection:HTTPConnection.getresponse"
SESSION = "tasks.trading.session"


def is_index(event: Any) -> bool:
    """A tick of the index itself."""
    return event.security.startswith("IDX_I:")


STEPS: dict[str, Step] = {
    # the start of a process
    "migration, before": Step("tasks.connect:migrate", BEFORE),
    "migration, half-way": Step("alembic.op:create_table", AFTER),
    "migration, after": Step("tasks.connect:migrate", AFTER),
    "session row, after": Step(f"{LEDGER}.open_session", AFTER),
    "lease, before taking": Step(f"{LEASES}.take", BEFORE),
    "lease, taken": Step(f"{LEASES}.take", AFTER),
    "lease, renewed": Step(f"{LEASES}.renew", AFTER),
    "start row, before": Step(f"{LEDGER}.record_start", BEFORE),
    "start row, after": Step(f"{LEDGER}.record_start", AFTER),
    # an entry's life
    "entry intent, before the commit": Step(f"{LEDGER}.record_intent", BEFORE, _purpose("ENTRY")),
    "entry intent, committed": Step(f"{LEDGER}.record_intent", AFTER, _purpose("ENTRY")),
    "entry, before sending": Step(f"{BROKER}.place", BEFORE, _side("BUY")),
    "entry, reply read": Step(f"{BROKER}.place", AFTER, _side("BUY")),
    # an exit's life
    "exit intent, before the commit": Step(f"{LEDGER}.record_intent", BEFORE, _purpose("EXIT")),
    "exit intent, committed": Step(f"{LEDGER}.record_intent", AFTER, _purpose("EXIT")),
    "exit, before sending": Step(f"{BROKER}.place", BEFORE, _side("SELL")),
    "exit, reply read": Step(f"{BROKER}.place", AFTER, _side("SELL")),
    # on the wire
    "order, sent and not answered yet": Step(WIRE, BEFORE, _request("POST")),
    "order, accepted and the reply lost": Step(WIRE, ANSWERED, _request("POST")),
    "modification, sent and not answered yet": Step(WIRE, BEFORE, _request("PUT")),
    "modification, done and the reply lost": Step(WIRE, ANSWERED, _request("PUT")),
    "cancellation, sent and not answered yet": Step(WIRE, BEFORE, _request("DELETE")),
    "cancellation, done and the reply lost": Step(WIRE, ANSWERED, _request("DELETE")),
    # what became of it
    "reply, before it is taken up": Step(f"{EXECUTION}.on_event", BEFORE, _event("Reply")),
    "reply, taken up": Step(f"{EXECUTION}.on_event", AFTER, _event("Reply")),
    "outcome, before it is recorded": Step(f"{LEDGER}.record_order_event", BEFORE, _kind("ACCEPTED")),
    "outcome, recorded": Step(f"{LEDGER}.record_order_event", AFTER, _kind("ACCEPTED")),
    "sending, recorded": Step(f"{LEDGER}.record_order_event", AFTER, _kind("SENT")),
    "end of an order, before it is recorded": Step(f"{LEDGER}.record_order_event", BEFORE, _kind("SEEN")),
    "end of an order, recorded": Step(f"{LEDGER}.record_order_event", AFTER, _kind("SEEN")),
    "order update, before it is taken up": Step(f"{EXECUTION}.on_event", BEFORE, _event("OrderUpdate")),
    "fill, seen": Step(
        f"{EXECUTION}.on_event", AFTER, _event("OrderUpdate", filled=lambda update: update.order.filled_quantity > 0)
    ),
    "fill, before it is recorded": Step(f"{LEDGER}.record_fill", BEFORE),
    "fill, recorded": Step(f"{LEDGER}.record_fill", AFTER),
    # what else the loop hears
    "index tick": Step(f"{EXECUTION}.on_event", AFTER, _event("Tick", index=is_index)),
    "option tick": Step(f"{EXECUTION}.on_event", AFTER, _event("Tick", option=lambda tick: not is_index(tick))),
    "timer": Step(f"{EXECUTION}.on_event", AFTER, _event("Timer")),
    "command, before it is taken up": Step(f"{EXECUTION}.on_event", BEFORE, _event("Command")),
    "command, before its answer is recorded": Step(f"{LEDGER}.answer_command", BEFORE),
    "command, answered": Step(f"{LEDGER}.answer_command", AFTER),
    # history
    "candle, closed": Step("tasks.trading.recorder:Recorder.candle", BEFORE),
    "candles, before they are recorded": Step(f"{LEDGER}.record_candles", BEFORE, _some),
    "candles, recorded": Step(f"{LEDGER}.record_candles", AFTER, _some),
    "decisions, before they are recorded": Step(f"{LEDGER}.record_decisions", BEFORE, _some),
    "decisions, recorded": Step(f"{LEDGER}.record_decisions", AFTER, _some),
    "ticks, before they are recorded": Step(f"{LEDGER}.record_ticks", BEFORE),
    # recovery
    "recovery, before the journal": Step(f"{EXECUTION}.take_in_journal", BEFORE),
    "recovery, before the orders are taken up": Step(f"{EXECUTION}.recover", BEFORE),
    "recovery, orders taken up": Step(f"{EXECUTION}.recover", AFTER),
    "recovery, before the positions are read": Step(f"{BROKER}.positions", BEFORE),
    "recovery, positions read": Step(f"{BROKER}.positions", AFTER),
    "look-up, before asking": Step(f"{BROKER}.find_order", BEFORE),
    "look-up, answered": Step(f"{BROKER}.find_order", AFTER),
    "adoption, before": Step(f"{SESSION}:record_adoption", BEFORE),
    "adoption, after": Step(f"{SESSION}:record_adoption", AFTER),
    # the day's loss limit
    "daily loss, before the exit's commit": Step(f"{LEDGER}.record_intent", BEFORE, _reason("daily_max_loss")),
    "daily loss, exit committed": Step(f"{LEDGER}.record_intent", AFTER, _reason("daily_max_loss")),
    "daily loss, halt decided": Step("tasks.trading.recorder:Recorder.decision", BEFORE, _halt),
    # the end of the day
    "squareoff, before the exit is submitted": Step(
        f"{EXECUTION}.submit", BEFORE, lambda _, action: getattr(action, "reason", "") == "squareoff"
    ),
    "squareoff, exit submitted": Step(
        f"{EXECUTION}.submit", AFTER, lambda _, action: getattr(action, "reason", "") == "squareoff"
    ),
    "session over": Step(f"{SESSION}:_finish", BEFORE),
    "closing, before the last order records": Step("tasks.orders.scribe:Scribe.close", BEFORE),
    "lease, before it is given back": Step(f"{LEASES}.release", BEFORE),
    "lease, given back": Step(f"{LEASES}.release", AFTER),
    "charges, before they are recorded": Step(f"{LEDGER}.record_charges", BEFORE),
    "charges, recorded": Step(f"{LEDGER}.record_charges", AFTER),
    "reconciliation, before it is recorded": Step(f"{LEDGER}.record_reconciliation", BEFORE),
    "reconciliation, recorded": Step(f"{LEDGER}.record_reconciliation", AFTER),
}


class Reaper:
    """Counts passages and kills the process at the one that was asked for, or lets the thread hang there.

    With `hangs_until` the passing thread waits for that file, as one does in a request or a commit that hangs; the
    process lives on and believes that it trades.
    """

    def __init__(self, log: Path, *, step: str = "", nth: int = 0, hangs_until: Path | None = None) -> None:
        self.passages: Counter[str] = Counter()
        self._log = log
        self._step = step  # "" with nth: the nth passage of any step
        self._nth = nth
        self._hangs_until = hangs_until
        self._lock = threading.Lock()

    def install(self) -> None:
        """Put the hands around every step's place."""
        by_place: dict[str, list[tuple[str, Step]]] = {}
        for name, step in STEPS.items():
            by_place.setdefault(step.place, []).append((name, step))
        for place, steps in by_place.items():
            self._wrap(place, steps)
        _remember_requests()

    def passed(self, name: str) -> None:
        """A step was passed; this may be the last thing the process does."""
        with self._lock:
            self.passages[name] += 1
            reached = self.passages[name] if self._step else self.passages.total()
            if not self._nth or reached != self._nth or self._step not in ("", name):
                return
            with self._log.open("a") as log:
                log.write(f"{name}\n")
            if self._hangs_until is None:
                os.kill(os.getpid(), signal.SIGKILL)
        while self._hangs_until is not None and not self._hangs_until.exists():
            time.sleep(0.01)

    def _wrap(self, place: str, steps: list[tuple[str, Step]]) -> None:
        owner, name = owner_of(place)
        original = getattr(owner, name)
        reaper = self

        def wrapped(*args: Any, **kwargs: Any) -> Any:
            concerned = [(step_name, step.when) for step_name, step in steps if not step.which or step.which(*args)]
            for step_name, when in concerned:
                if when == BEFORE:
                    reaper.passed(step_name)
            for step_name, when in concerned:
                if when == ANSWERED:
                    select.select([args[0].sock], [], [], 30)
                    reaper.passed(step_name)
            done = original(*args, **kwargs)
            for step_name, when in concerned:
                if when == AFTER:
                    reaper.passed(step_name)
            return done

        setattr(owner, name, wrapped)


def owner_of(place: str) -> tuple[Any, str]:
    """The object that has what "module:Class.method" names, and the name."""
    module, _, path = place.partition(":")
    *outer, name = path.split(".")
    owner: Any = importlib.import_module(module)
    for part in outer:
        owner = getattr(owner, part)
    return owner, name


def _remember_requests() -> None:
    owner, name = owner_of("urllib3.connection:HTTPConnection.putrequest")
    original = getattr(owner, name)

    def putrequest(connection: Any, method: str, url: str, *args: Any, **kwargs: Any) -> Any:
        connection.asked = (method, url)
        return original(connection, method, url, *args, **kwargs)

    setattr(owner, name, putrequest)
