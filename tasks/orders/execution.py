"""Between the session's decisions and the broker: commits intents, sends orders, reports what became of them.

All decisions are `strategy.desk`'s, made on the loop's thread; this file does the I/O around them. Broker
calls run on daemon threads and come back through the inbox as `Reply` events.

Invariants:
1. An intent is in the ledger before the first of its orders is sent. While the ledger is unavailable an entry
   is refused; an exit goes out with its intent in the local journal (fsynced), which the ledger takes in
   later.
2. Once the lease is lost nothing is placed, modified or cancelled any more, also of what was committed before
   (`fence`); reading goes on.
3. Every request gets exactly one reply, whatever the broker's adapter does.
4. A call that hangs holds up neither the loop nor, with more than one worker, an order of another intent; from three
   workers on, reading has threads of its own. One worker does everything in order (lock-step).
5. Each time the order updates connect, every live order is read: what was pushed meanwhile is not repeated.
6. `submit`, `cancel_entry`, `on_event`, `recover` and `idle` belong to the loop's thread.
"""

import logging
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import assert_never

from strategy.actions import Alert, CancelEntry, Enter, Exit, Severity
from strategy.desk import Commit, Desk, DeskEvent, DeskOutput, next_due_ms, quoted, restored, step
from strategy.events import Fill, IntentClosed, Side, Tick, Timer
from strategy.order_news import recall
from strategy.orders import Answer, Ask, FillStep, OrderFact, OrderPolicy, Purpose, PushesMissed, Reply, Request
from tasks.broker import Broker, BrokerError, NewOrder, OrderUpdate, RateLimited
from tasks.clock import Deadline, pause, real_now_ms
from tasks.feed import FeedConnected, FeedName
from tasks.inbox import Inbox
from tasks.ledger import LeaseLost, LedgerRefused, LedgerUnavailable
from tasks.ledger.records import FillRecord, IntentRecord, OrderEventRecord
from tasks.orders.fence import Fence
from tasks.orders.journal import Journal, OrderLedger, replay_journal
from tasks.orders.lane import Lane
from tasks.orders.records import (
    answer_of,
    event_record,
    fill_record,
    fill_step,
    intent_record,
    is_same,
    order_fact,
    restored_intent,
    seen,
)
from tasks.orders.scribe import Scribe

__all__ = ["Execution", "OrderLedger", "replay_journal"]

LOG = logging.getLogger(__name__)

COMMIT_PATIENCE_S = 0.5  # real time for attempts to begin; with the last one's own limit an exit waits about 1 s
COMMIT_PAUSE_S = 0.05
LEASE_LOST_RETRY_MS = 10_000

Heard = Fill | IntentClosed | Alert


class Execution:
    """The session's hands. Feed every event of the inbox to `on_event`; tell the session what it returns."""

    def __init__(
        self,
        *,
        broker: Broker,
        ledger: OrderLedger,
        inbox: Inbox[object],
        now_ms: Callable[[], int],
        session_id: str,
        fence: int,
        prefix: str,
        policy: OrderPolicy,
        product: str,
        journal_path: Path,
        workers: int = 6,
    ) -> None:
        self._broker = broker
        self._ledger = ledger
        self._inbox = inbox
        self._now_ms = now_ms
        self._session_id = session_id
        self._fence = Fence(ledger, session_id, fence)
        self._policy = policy
        self._product = product
        self._desk = Desk(prefix=prefix)
        self._ticks: dict[str, Tick] = {}  # the latest since the desk was last told anything
        self._due_ms: int | None = None
        self._attends = False  # an order may still move by itself: a Timer has something to look at
        self._asked = 0  # requests whose reply has not been taken up
        self._heard: list[Heard] = []
        self._submitted: Enter | Exit | None = None  # what is being committed
        self._withheld: dict[int, tuple[Answer, str]] = {}  # intents that may not be sent, and why
        self._journal = Journal(journal_path)
        self._scribe = Scribe(ledger, self._journal, self._complain)
        readers = workers // 3
        self._writes = Lane("orders", workers - readers)
        self._reads = Lane("look-ups", readers) if readers else self._writes

    def submit(self, action: Enter | Exit) -> None:
        """Commit the intent, then send its orders; what becomes of it comes out of `on_event`."""
        self._submitted = action
        self._take(replace(action, at_ms=self._now_ms()))
        self._submitted = None

    def cancel_entry(self, intent: int) -> None:
        """Stop buying: cancel what is still open of an entry."""
        self._take(CancelEntry(at_ms=self._now_ms(), intent=intent))

    def on_event(self, event: object) -> tuple[Heard, ...]:
        """Take up one event of the inbox; return what the session and people should hear, in order."""
        match event:
            case Tick():
                # Ticks are most of what there is and move no order: the desk takes the latest with what comes next.
                self._ticks[event.security] = event
            case Timer():
                if self._attends:
                    self._take(event)
            case Reply():
                self._asked -= 1
                self._take(event)
            case OrderUpdate():
                self._take(seen(event.order, event.at_ms, from_book=False))
            case FeedConnected(feed=FeedName.ORDERS):
                self._take(PushesMissed(at_ms=event.at_ms))
            case Alert():
                self._heard.append(event)
            case _:
                pass  # meant for others
        if self._due_ms is not None and (now_ms := self._now_ms()) >= self._due_ms:
            self._take(Timer(at_ms=now_ms))
        if not self._heard:
            return ()
        heard = tuple(self._heard)
        self._heard.clear()
        return heard

    def take_in_journal(self) -> int:
        """Let the ledger take in what went to the journal; how many records. LedgerUnavailable: nothing is lost."""
        return 0 if self._journal.is_empty else self._journal.replay(self._ledger)

    def recover(
        self,
        intents: Iterable[IntentRecord],
        events: Iterable[OrderEventRecord],
        fills: Iterable[tuple[str, int, Side, FillRecord]],
    ) -> tuple[Heard, ...]:
        """Take up a session's orders from its ledger, before the first event.

        What the ledger does not prove to be over is looked up at the broker; the session hears the missing
        fills and the end of exactly the intents that `open_intents` names afterwards. Recorded fills are not
        told again. Call `take_in_journal` before these rows are read.
        """
        facts: dict[str, list[OrderFact]] = {}
        for record in events:
            facts.setdefault(record.client_order_id, []).append(order_fact(record))
        steps: dict[str, list[FillStep]] = {}
        for order_id, _, _, fill in fills:
            steps.setdefault(order_id, []).append(fill_step(fill))
        now_ms = self._now_ms()
        taken = [
            restored_intent(
                record,
                lambda order: recall(
                    order,
                    tuple(facts.get(order.client_order_id, ())),
                    tuple(steps.get(order.client_order_id, ())),
                    now_ms,
                ),
            )
            for record in intents
        ]
        self._desk = restored(self._desk, taken)
        self._attends = True
        for number in self._desk.open_intents:
            LOG.warning("intent %d was open when the last run ended; asking the broker", number)
        return self.on_event(Timer(at_ms=now_ms))

    def idle(self) -> bool:
        """True when no broker call is in flight and no reply waits."""
        return self._asked == 0

    def open_intents(self) -> tuple[int, ...]:
        """Intents whose end is still to be told, ascending."""
        return self._desk.open_intents

    def flush(self, patience_s: float) -> bool:
        """Wait until the ledger has everything that happened to orders; False when it has not in time."""
        return self._scribe.flush(patience_s)

    def close(self, patience_s: float = 5.0) -> None:
        """Stop sending and write down what is known; what the ledger does not take goes to the journal."""
        self._writes.close()
        self._reads.close()
        self._scribe.close(patience_s)
        try:
            taken = self.take_in_journal()
        except LedgerUnavailable as away:
            LOG.warning("order records stay in %s until the next start: %s", self._journal.path, away)
        else:
            if taken:
                LOG.info("the ledger took in %d records of %s", taken, self._journal.path)

    # decisions out

    def _take(self, event: DeskEvent) -> None:
        if self._ticks:
            self._desk = quoted(self._desk, self._ticks)
            self._ticks.clear()
        self._desk, outputs = step(self._desk, event, self._policy)
        for output in outputs:
            self._carry_out(output)
        self._due_ms = next_due_ms(self._desk)
        self._attends = any(intent.is_live for intent in self._desk.intents.values())

    def _carry_out(self, output: DeskOutput) -> None:
        match output:
            case Commit():
                self._commit(output)
            case Request():
                self._ask(output)
            case OrderFact():
                if not self._is_unrecorded(output.client_order_id):
                    self._scribe.write(event_record(output))
            case FillStep():
                self._scribe.write(fill_record(output))
            case Fill() | IntentClosed() | Alert():
                self._heard.append(output)
            case _:
                assert_never(output)

    def _ask(self, request: Request) -> None:
        self._asked += 1
        withheld = self._withheld_reply(request)
        if withheld is not None:
            self._inbox.put(withheld)
            return
        lane = self._reads if request.ask is Ask.LOOK_UP else self._writes
        lane.put(lambda: self._perform(request))

    def _withheld_reply(self, request: Request) -> Reply | None:
        if request.ask is Ask.LOOK_UP:
            return None
        if request.ask is Ask.PLACE:
            answer, why = self._withheld.get(self._intent_of(request.client_order_id), (None, ""))
            if answer is not None:
                return self._reply(request, answer, why)
        return self._fenced_reply(request) if self._fence.lost else None

    def _fenced_reply(self, request: Request) -> Reply:
        if request.ask is Ask.PLACE:
            return self._reply(request, Answer.REJECTED, self._fence.lost)
        reply = self._reply(request, Answer.NOTHING_SENT, self._fence.lost)
        return replace(reply, retry_after_ms=LEASE_LOST_RETRY_MS)

    # the commit

    def _commit(self, commit: Commit) -> None:
        """Have the ledger take the intent, or decide what happens without it."""
        assert self._submitted is not None, "only what was submitted is committed"
        record = intent_record(self._submitted, commit.orders, session_id=self._session_id, fence=self._fence.number)
        if self._fence.lost:
            self._withheld[commit.intent] = (Answer.REJECTED, self._fence.lost)
            return
        try:
            self._record_patiently(record)
        except LeaseLost as lost:
            self._lose_lease(lost)
            self._withheld[commit.intent] = (Answer.REJECTED, self._fence.lost)
        except LedgerUnavailable as away:
            if record.purpose == Purpose.EXIT:
                self._send_without_ledger(record, away)
            else:
                self._withheld[commit.intent] = (Answer.NOTHING_SENT, f"ledger: {away}")

    def _record_patiently(self, record: IntentRecord) -> None:
        deadline = Deadline(COMMIT_PATIENCE_S)
        while True:
            self._fence.asked(real_now_ms())
            try:
                self._ledger.record_intent(record)
            except LedgerRefused:
                raise
            except LedgerUnavailable:
                if deadline.passed:
                    raise
                pause(COMMIT_PAUSE_S)
            else:
                return

    def _lose_lease(self, lost: LeaseLost) -> None:
        if self._fence.lose(lost):
            self._complain("lease_lost", f"no order is sent any more: {lost}")

    def _send_without_ledger(self, record: IntentRecord, away: LedgerUnavailable) -> None:
        text = f"exit intent {record.intent} goes out without the ledger ({away})"
        try:
            self._journal.append(record)
        except OSError as fault:
            # To stay in the position because a disk is full would be worse than an order only the log knows.
            text = f"{text}, and the journal failed too ({fault}): {record}"
            LOG.critical("%s", text)
        self._scribe.write(record)
        self._heard.append(self._alert("exit_without_ledger", text))

    def _is_unrecorded(self, client_order_id: str) -> bool:
        return self._intent_of(client_order_id) in self._withheld

    # the broker, on other threads

    def _perform(self, request: Request) -> None:
        reply = self._reply(request, Answer.UNKNOWN, "the broker's adapter failed; its error is in the log")
        try:
            reply = self._unfit_reply(request) or self._answer(request)
        finally:
            self._inbox.put(replace(reply, at_ms=self._now_ms()))

    def _unfit_reply(self, request: Request) -> Reply | None:
        """What is answered instead of sending, where this process may have been replaced since the commit."""
        if request.ask is Ask.LOOK_UP:
            return None
        try:
            self._fence.demand()
        except LeaseLost as lost:
            self._lose_lease(lost)
            return self._fenced_reply(request)
        except LedgerUnavailable as away:
            if request.ask is Ask.PLACE and request.side is Side.BUY:
                return self._reply(request, Answer.NOTHING_SENT, f"ledger: {away}")
        return None

    def _answer(self, request: Request) -> Reply:
        try:
            match request.ask:
                case Ask.PLACE:
                    number = self._broker.place(self._new_order(request))
                    return replace(self._reply(request, Answer.ACCEPTED), broker_order_id=number)
                case Ask.MODIFY:
                    self._broker.modify(request.broker_order_id, self._new_order(request))
                    return self._reply(request, Answer.ACCEPTED)
                case Ask.CANCEL:
                    self._broker.cancel(request.broker_order_id)
                    return self._reply(request, Answer.ACCEPTED)
                case Ask.LOOK_UP:
                    return self._look_up(request)
        except RateLimited as limited:
            wait_ms = round(limited.retry_after_s * 1000)
            return replace(self._reply(request, Answer.NOTHING_SENT, str(limited)), retry_after_ms=wait_ms)
        except BrokerError as fault:
            return self._reply(request, answer_of(fault), str(fault))

    def _look_up(self, request: Request) -> Reply:
        """By our id, then in the whole book: what is not found by id right after it was sent may be there."""
        found = self._broker.find_order(request.client_order_id)
        if found is None:
            found = next((order for order in self._broker.orders() if is_same(order, request)), None)
        if found is None:
            return self._reply(request, Answer.ABSENT)
        sighting = seen(found, self._now_ms(), from_book=True)
        return replace(self._reply(request, Answer.FOUND), seen=sighting)

    def _new_order(self, request: Request) -> NewOrder:
        return NewOrder(
            client_order_id=request.client_order_id,
            contract=request.contract,
            side=request.side,
            quantity=request.quantity,
            limit_paise=request.limit_paise,
            product=self._product,
        )

    def _reply(self, request: Request, answer: Answer, message: str = "") -> Reply:
        return Reply(
            at_ms=self._now_ms(),
            ask=request.ask,
            client_order_id=request.client_order_id,
            answer=answer,
            message=message,
        )

    # small things

    def _intent_of(self, client_order_id: str) -> int:
        return int(client_order_id.rsplit("-", 2)[1])

    def _alert(self, kind: str, message: str) -> Alert:
        return Alert(at_ms=self._now_ms(), kind=kind, severity=Severity.CRITICAL, message=message)

    def _complain(self, kind: str, message: str) -> None:
        """From any thread: the alert comes out of `on_event`."""
        self._inbox.put(self._alert(kind, message))
