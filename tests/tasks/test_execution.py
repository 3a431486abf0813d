"""Execution with real threads, a real SQLite ledger and an exchange that misbehaves on demand.

The exchange keeps the truth: what arrived, how often, what filled. Market time is the test's: it moves by a second
when nothing is in flight, as in lock-step, so minutes pass in milliseconds and no test depends on the machine's pace.
"""

import sqlite3
import threading
from collections import Counter
from dataclasses import dataclass, replace
from datetime import date
from queue import SimpleQueue

import pytest

from strategy.actions import Alert, Enter, Exit, ExitReason, Explanation
from strategy.events import Command, CommandKind, Fill, IntentClosed, Outcome, Side, Tick, Timer
from strategy.instruments import Contract, OptionType, Quantity, Underlying
from strategy.orders import OrderPolicy, Reply
from tasks.broker import (
    AuthenticationDead,
    BrokerOrder,
    BrokerUnavailable,
    IpRefused,
    OrderOutcomeUnknown,
    OrderRejected,
    OrderStatus,
    OrderUpdate,
    RateLimited,
)
from tasks.clock import real_now_ms
from tasks.feed import FeedConnected, FeedName
from tasks.inbox import Inbox
from tasks.ledger.records import SessionKey
from tasks.ledger.store import Ledger
from tasks.orders.execution import Execution

KEY = SessionKey(account="1000000009", underlying=Underlying.NIFTY, mode="rehearsal", day=date(2026, 11, 20))
CONTRACT = Contract(
    underlying=Underlying.NIFTY,
    expiry=date(2026, 11, 23),
    strike_points=24_500,
    option_type=OptionType.CE,
    segment="NSE_FNO",
    security_id="47317",
    trading_symbol="NIFTY-Nov2026-24500-CE",
    lot_size=65,
    tick_size_paise=5,
    freeze_quantity=1800,
)
NINE_THIRTY_MS = 1_795_060_800_000 + 14_400_000
PRICE = 100_00
OPEN = {OrderStatus.TRANSIT, OrderStatus.PENDING, OrderStatus.PART_TRADED}


@dataclass
class Placed:
    """An order at the exchange."""

    new: object
    broker_order_id: str
    status: OrderStatus = OrderStatus.PENDING
    filled: int = 0
    value_paise: int = 0
    modified: int = 0
    message: str = ""


class Exchange:
    """A broker in this process. `faults` are taken one per PLACE; `fills` says how much of an order fills, and when."""

    def __init__(self, inbox, now_ms):
        self.inbox = inbox
        self.now_ms = now_ms
        self.lock = threading.RLock()
        self.placed = {}
        self.received = Counter()
        self.calls = []
        self.faults = []
        self.fills = "all"  # all, none, half, on_modify, on_cancel
        self.pushes = "once"  # once, never, twice, backwards
        self.down = False
        self.hidden = 0  # how many readings do not show an order yet
        self.released = threading.Event()  # lets a hanging PLACE go on

    # the broker's protocol

    def place(self, order):
        fault = self.enter(f"place {order.client_order_id}", take_fault=True)
        match fault:
            case "hang":
                assert self.released.wait(30), "the test never released the request"
            case "reject":
                raise OrderRejected("RMS: fund limit insufficient")
            case "unavailable":
                raise BrokerUnavailable("connection refused")
            case "limited":
                raise RateLimited("too many requests", retry_after_s=3.0)
            case "dead":
                raise AuthenticationDead("Invalid Token")
            case "ip":
                raise IpRefused("Invalid IP")
            case "lose_request":
                raise OrderOutcomeUnknown("read timed out")
            case "broken_before":
                raise KeyError("orderId")
        with self.lock:
            self.received[order.client_order_id] += 1
            placed = Placed(order, f"9{len(self.placed):08}")
            self.placed[order.client_order_id] = placed
            if self.fills == "all":
                self.fill(placed, order.quantity)
            if self.fills == "half":
                self.fill(placed, order.quantity // 2)
            self.push(placed)
        if fault == "lose_reply":
            raise OrderOutcomeUnknown("read timed out")
        if fault == "broken_after":
            raise KeyError("orderId")
        return "" if fault == "no_number" else placed.broker_order_id

    def modify(self, broker_order_id, order):
        self.enter(f"modify {order.client_order_id} {order.limit_paise}")
        with self.lock:
            placed = self.by_number(broker_order_id)
            if placed.status not in OPEN:
                raise OrderRejected("Incorrect request for order and cannot be processed")
            placed.new = order
            placed.modified += 1
            if self.fills == "on_modify":
                self.fill(placed, order.quantity - placed.filled)
            self.push(placed)

    def cancel(self, broker_order_id):
        self.enter(f"cancel {broker_order_id}")
        with self.lock:
            placed = self.by_number(broker_order_id)
            if self.fills == "on_cancel" and placed.status in OPEN:
                self.fill(placed, placed.new.quantity - placed.filled)
                self.push(placed)
            if placed.status not in OPEN:
                raise OrderRejected("Incorrect request for order and cannot be processed")
            placed.status = OrderStatus.CANCELLED
            self.push(placed)

    def find_order(self, client_order_id):
        self.enter("find")
        with self.lock:
            found = self.placed.get(client_order_id)
            return None if found is None or self.is_hidden() else self.shown(found)

    def orders(self):
        self.enter("book")
        with self.lock:
            return () if self.is_hidden() else tuple(map(self.shown, self.placed.values()))

    # its inside

    def enter(self, call, *, take_fault=False):
        with self.lock:
            self.calls.append(call)
            if self.down:
                raise BrokerUnavailable("the broker is down")
            return self.faults.pop(0) if take_fault and self.faults else None

    def is_hidden(self):
        self.hidden -= 1
        return self.hidden >= 0

    def by_number(self, broker_order_id):
        return next(p for p in self.placed.values() if p.broker_order_id == broker_order_id)

    def fill(self, placed, quantity, price=PRICE):
        placed.filled += quantity
        placed.value_paise += quantity * price
        whole = placed.filled == placed.new.quantity
        placed.status = OrderStatus.TRADED if whole else OrderStatus.PART_TRADED

    def shown(self, placed):
        return BrokerOrder(
            broker_order_id=placed.broker_order_id,
            client_order_id=placed.new.client_order_id,
            security=placed.new.contract.security,
            side=placed.new.side,
            status=placed.status,
            quantity=placed.new.quantity,
            filled_quantity=placed.filled,
            filled_value_paise=placed.value_paise,
            limit_paise=placed.new.limit_paise,
            message=placed.message,
            updated_at_ms=self.now_ms(),
        )

    def push(self, placed):
        if self.pushes == "never":
            return
        latest = OrderUpdate(at_ms=self.now_ms(), order=self.shown(placed))
        earlier = replace(latest.order, status=OrderStatus.PENDING, filled_quantity=0, filled_value_paise=0)
        sequence = {
            "once": [latest],
            "twice": [latest, latest],
            "backwards": [latest, replace(latest, order=earlier)],
        }
        for update in sequence[self.pushes]:
            self.inbox.put(update)


class Floor:
    """A session's surroundings: clock, inbox, exchange, ledger, execution; and the loop that drives them."""

    def __init__(self, ledger, tmp_path, *, workers=6):
        self.at_ms = NINE_THIRTY_MS
        self.inbox = Inbox()
        self.exchange = Exchange(self.inbox, lambda: self.at_ms)
        self.ledger = ledger
        self.journal_path = tmp_path / "journal" / "orders.jsonl"
        ledger.open_session(KEY, "k3f")
        self.fence = ledger.leases.take_over(KEY, "floor", NINE_THIRTY_MS).fence
        self.workers = workers
        self.executions = []
        self.heard = []
        self.next_intent = 1
        self.begin()

    def begin(self, ledger=None):
        self.execution = Execution(
            broker=self.exchange,
            ledger=ledger or self.ledger,
            inbox=self.inbox,
            now_ms=lambda: self.at_ms,
            session_id=KEY.session_id,
            fence=self.fence,
            prefix="261120N-k3f",
            policy=OrderPolicy(),
            product="MARGIN",
            journal_path=self.journal_path,
            workers=self.workers,
        )
        self.executions.append(self.execution)

    def kill(self):
        """The process is gone, and with it the records that waited to be written."""
        scribe = self.execution._scribe
        scribe._keep = lambda _: None
        with scribe._changed:
            scribe._waiting.clear()
            scribe._closing.set()
            scribe._changed.notify_all()
        scribe._thread.join(5.0)
        self.inbox.drain()

    def restart(self):
        """A new process: takes the lease, lets the ledger take in the journal, recovers from its rows."""
        self.fence = self.ledger.leases.take_over(KEY, "floor", self.at_ms).fence
        self.begin()
        self.execution.take_in_journal()
        intents = self.ledger.intents(KEY.session_id)
        events = [
            event
            for intent in intents
            for order in intent.orders
            for event in self.ledger.order_events(order.client_order_id)
        ]
        self.heard.clear()
        self.heard += self.execution.recover(intents, events, self.ledger.fills(KEY.session_id))

    def decide(self, kind, quantity, price):
        number, self.next_intent = self.next_intent, self.next_intent + 1
        common = {
            "at_ms": self.at_ms,
            "intent": number,
            "trade": 1,
            "contract": CONTRACT,
            "quantity": Quantity(quantity),
            "reference_paise": price,
            "why": Explanation(facts={"close": 24_512.3}),
        }
        action = Enter(**common) if kind is Enter else Exit(reason=ExitReason.STOP_LOSS, **common)
        self.execution.submit(action)
        return number

    def enter(self, quantity=65):
        return self.decide(Enter, quantity, PRICE)

    def exit(self, quantity=65):
        return self.decide(Exit, quantity, PRICE)

    def take(self, event):
        self.heard += self.execution.on_event(event)

    def settle(self):
        """Everything that can happen at this moment happens."""
        while True:
            event = self.inbox.get(5.0 if not self.execution.idle() else 0.0)
            if event is not None:
                self.take(event)
            elif self.execution.idle():
                return
            else:
                raise AssertionError("a request was never answered")

    def run(self, seconds=1, *, until_closed=False):
        for _ in range(seconds):
            self.settle()
            if until_closed and not self.execution.open_intents():
                return
            self.at_ms += 1_000
            self.take(Timer(at_ms=self.at_ms))
        self.settle()
        assert not until_closed or not self.execution.open_intents(), self.execution.open_intents()

    def quote(self, bid, ask):
        self.take(Tick(at_ms=self.at_ms, security=CONTRACT.security, price_paise=bid, bid_paise=bid, ask_paise=ask))

    # what is known

    def ends(self):
        return {end.intent: end.outcome for end in self.heard if isinstance(end, IntentClosed)}

    def filled(self, intent):
        return sum(fill.quantity for fill in self.heard if isinstance(fill, Fill) and fill.intent == intent)

    def alerts(self):
        return [alert.kind for alert in self.heard if isinstance(alert, Alert)]

    def recorded(self):
        """(units, paise) of all fills in the ledger."""
        assert self.execution.flush(10.0)
        fills = [fill for *_, fill in self.ledger.fills(KEY.session_id)]
        return sum(fill.quantity for fill in fills), sum(fill.value_paise for fill in fills)

    def truth(self):
        """(units, paise) that really filled."""
        orders = self.exchange.placed.values()
        return sum(order.filled for order in orders), sum(order.value_paise for order in orders)

    def kinds(self, client_order_id="261120N-k3f-1-0"):
        assert self.execution.flush(10.0)
        return [event.kind for event in self.ledger.order_events(client_order_id)]

    def places(self):
        return [call for call in self.exchange.calls if call.startswith("place")]


@pytest.fixture(params=[1, 6], ids=["one worker", "six workers"])
def floor(request, sqlite_ledger_url, tmp_path):
    yield from _floor(sqlite_ledger_url, tmp_path, workers=request.param)


@pytest.fixture
def wide_floor(sqlite_ledger_url, tmp_path):
    yield from _floor(sqlite_ledger_url, tmp_path, workers=6)


def _floor(url, tmp_path, *, workers):
    ledger = Ledger(url, urgent_timeout_s=0.2, patient_timeout_s=0.5)
    floor = Floor(ledger, tmp_path, workers=workers)
    yield floor
    floor.exchange.released.set()
    for execution in floor.executions:
        execution.close(patience_s=1.0)
    ledger.close()
    assert all(count == 1 for count in floor.exchange.received.values()), "an order was sent twice"


@pytest.fixture
def locked(sqlite_ledger_url):
    """A switch that locks the ledger's database, as a stuck process would."""
    other = sqlite3.connect(sqlite_ledger_url.removeprefix("sqlite:///"), isolation_level=None, check_same_thread=False)

    class Switch:
        def on(self):
            other.execute("BEGIN IMMEDIATE")

        def off(self):
            if other.in_transaction:
                other.execute("ROLLBACK")

    switch = Switch()
    yield switch
    switch.off()
    other.close()


def test_an_entry_fills_and_the_ledger_knows_all_of_it(floor):
    intent = floor.enter()
    floor.run(until_closed=True)
    assert floor.ends() == {intent: Outcome.FILLED}
    assert floor.filled(intent) == 65
    assert floor.recorded() == floor.truth() == (65, 65 * PRICE)
    assert set(floor.kinds()) == {"SENT", "ACCEPTED", "SEEN"}
    (record,) = floor.ledger.intents(KEY.session_id)
    assert (record.side, record.quantity, record.purpose) == (Side.BUY, 65, "ENTRY")
    assert record.orders[0].limit_paise == 101_00
    assert record.why == {"close": 24_512.3}


def test_a_large_intent_goes_out_in_slices(floor):
    intent = floor.enter(4_550)  # 70 lots; 27 lots are the most below the freeze quantity
    floor.run(until_closed=True)
    assert sorted(placed.new.quantity for placed in floor.exchange.placed.values()) == [1_040, 1_755, 1_755]
    assert floor.filled(intent) == 4_550
    assert floor.recorded() == floor.truth()


@pytest.mark.parametrize("fault", ["lose_reply", "broken_after", "no_number"])
@pytest.mark.parametrize("pushes", ["once", "never"])
def test_a_reply_lost_after_acceptance_is_found_and_not_sent_again(floor, monkeypatch, fault, pushes):
    reported = SimpleQueue()
    monkeypatch.setattr(threading, "excepthook", lambda args: reported.put(args.exc_type))
    floor.exchange.faults = [fault]
    floor.exchange.pushes = pushes
    floor.exchange.hidden = 3
    intent = floor.exit()
    floor.run(30, until_closed=True)
    assert floor.ends() == {intent: Outcome.FILLED}
    assert floor.recorded() == floor.truth() == (65, 65 * PRICE)
    assert len(floor.places()) == 1
    if fault == "broken_after":
        assert reported.get(timeout=5.0) is KeyError, "a broken adapter is reported, not hidden"
    assert reported.empty()
    if pushes == "never":
        assert "order_unknown" in floor.alerts()


@pytest.mark.parametrize("fault", ["lose_request", "broken_before"])
def test_a_request_lost_before_acceptance_ends_as_absent_and_may_be_decided_anew(floor, monkeypatch, fault):
    monkeypatch.setattr(threading, "excepthook", lambda _: None)
    floor.exchange.faults = [fault]
    first = floor.exit()
    floor.run(14)
    assert floor.ends() == {}, "absent too early"
    floor.run(10, until_closed=True)
    assert floor.ends() == {first: Outcome.CANCELLED}
    assert floor.kinds() == ["SENT", "UNKNOWN", "ABSENT"]
    again = floor.exit()
    floor.run(10, until_closed=True)
    assert floor.ends()[again] == Outcome.FILLED
    assert list(floor.exchange.received) == ["261120N-k3f-2-0"]


@pytest.mark.parametrize(
    ("fault", "alert"),
    [
        ("reject", "order_rejected"),
        ("dead", "broker_authentication_dead"),
        ("ip", "broker_ip_refused"),
    ],
)
@pytest.mark.parametrize("kind", [Enter, Exit])
def test_a_definite_refusal_ends_the_intent(floor, fault, alert, kind):
    floor.exchange.faults = [fault]
    intent = floor.decide(kind, 65, PRICE)
    floor.run(until_closed=True)
    assert floor.ends() == {intent: Outcome.REJECTED}
    assert floor.alerts() == [alert]
    assert floor.kinds() == ["SENT", "REFUSED"]


@pytest.mark.parametrize(("fault", "why"), [("unavailable", "connection refused"), ("limited", "too many requests")])
def test_of_an_unsent_entry_nothing_remains_and_people_hear_why(floor, fault, why):
    floor.exchange.faults = [fault]
    intent = floor.enter()
    floor.run(until_closed=True)
    assert floor.ends() == {intent: Outcome.CANCELLED}
    assert not floor.exchange.placed
    [said] = [one for one in floor.heard if isinstance(one, Alert)]
    assert said.kind == "entry_not_sent"
    assert said.message.endswith(f"is dropped, nothing was sent: {why}")


def test_an_exit_outlasts_a_broker_that_is_down_for_minutes(floor):
    floor.exchange.down = True
    intent = floor.exit()
    floor.run(240)
    assert floor.ends() == {}
    assert floor.alerts() == ["exit_not_sent"]
    floor.exchange.down = False
    floor.run(10, until_closed=True)
    assert floor.ends() == {intent: Outcome.FILLED}
    assert floor.exchange.received == {"261120N-k3f-1-0": 1}


def test_a_broker_that_goes_down_after_accepting_is_read_when_it_is_back(floor):
    floor.exchange.pushes = "never"
    floor.exchange.fills = "none"
    intent = floor.exit()
    floor.run(2)
    floor.exchange.down = True
    floor.exchange.fill(floor.exchange.placed["261120N-k3f-1-0"], 65)
    floor.run(120)
    assert floor.ends() == {}
    floor.exchange.down = False
    floor.run(12, until_closed=True)
    assert floor.ends() == {intent: Outcome.FILLED}
    assert floor.recorded() == floor.truth()


@pytest.mark.parametrize("pushes", ["once", "never", "twice", "backwards"])
@pytest.mark.parametrize("fills", ["all", "half", "on_modify", "on_cancel"])
def test_pushes_may_be_missing_repeated_or_out_of_order(floor, pushes, fills):
    floor.exchange.pushes = pushes
    floor.exchange.fills = fills
    intent = floor.enter(130)
    floor.run(2)
    floor.quote(104_00, 104_50)
    floor.run(60, until_closed=True)
    assert floor.filled(intent) == {"half": 65}.get(fills, 130)
    assert floor.ends() == {intent: Outcome.PARTIALLY_FILLED if fills == "half" else Outcome.FILLED}
    assert floor.recorded() == floor.truth()


def test_an_entry_that_never_fills_is_cancelled(floor):
    floor.exchange.fills = "none"
    intent = floor.enter()
    floor.run(60, until_closed=True)
    assert floor.ends() == {intent: Outcome.CANCELLED}
    assert floor.exchange.placed["261120N-k3f-1-0"].status is OrderStatus.CANCELLED


def test_an_exit_that_does_not_fill_follows_the_market_down_and_shouts(floor):
    floor.exchange.fills = "none"
    floor.exit()
    for step in range(40):
        floor.quote(PRICE - step * 100, PRICE - step * 100 + 50)
        floor.run(3)
    limits = [int(call.split()[2]) for call in floor.exchange.calls if call.startswith("modify")]
    assert limits == sorted(limits, reverse=True)
    assert len(limits) == 20, "stays below the 25 modifications that the broker allows"
    assert "exit_hard_to_fill" in floor.alerts()
    assert floor.ends() == {1: Outcome.CANCELLED}, "the session sells the rest under a new intent"


def test_given_up_before_and_after_the_answer(floor):
    floor.exchange.fills = "none"
    floor.execution.cancel_entry(floor.enter())
    second = floor.enter()
    floor.run(2)
    floor.execution.cancel_entry(second)
    floor.run(20, until_closed=True)
    assert floor.ends() == {1: Outcome.CANCELLED, 2: Outcome.CANCELLED}


def test_a_fill_wins_against_the_cancellation(floor):
    floor.exchange.fills = "on_cancel"
    intent = floor.enter()
    floor.run(2)
    floor.execution.cancel_entry(intent)
    floor.run(20, until_closed=True)
    assert floor.ends() == {intent: Outcome.FILLED}
    assert floor.recorded() == floor.truth()


def test_without_the_ledger_an_entry_is_refused(floor, locked):
    locked.on()
    intent = floor.enter()
    floor.settle()
    assert floor.ends() == {intent: Outcome.CANCELLED}
    assert not floor.exchange.calls, "nothing may be sent that is not recorded"
    locked.off()
    assert floor.execution.flush(10.0)
    assert floor.ledger.intents(KEY.session_id) == ()


def test_without_the_ledger_an_exit_goes_out_from_the_journal_and_the_ledger_gets_it_later(floor, locked):
    locked.on()
    intent = floor.exit()
    floor.run(until_closed=True)
    assert floor.ends() == {intent: Outcome.FILLED}
    assert "exit_without_ledger" in floor.alerts()
    assert floor.journal_path.read_text().count("IntentRecord") == 1
    locked.off()
    assert floor.recorded() == floor.truth() == (65, 65 * PRICE)
    assert set(floor.kinds()) == {"SENT", "ACCEPTED", "SEEN"}
    floor.execution.close()
    assert floor.journal_path.read_bytes() == b"", "taken in"


def test_an_exit_from_the_journal_survives_the_death_of_the_process(floor, locked):
    locked.on()
    floor.exchange.faults = ["lose_reply"]
    floor.exchange.pushes = "never"
    floor.exit()
    floor.settle()
    floor.kill()
    locked.off()
    floor.restart()
    assert floor.execution.open_intents() == (1,)
    floor.run(30, until_closed=True)
    assert floor.ends() == {1: Outcome.FILLED}
    assert floor.recorded() == floor.truth()
    assert len(floor.places()) == 1


def test_a_lost_lease_stops_everything_but_reading(floor):
    floor.exchange.fills = "none"
    floor.exit()
    floor.run(2)
    floor.ledger.leases.take_over(KEY, "another", floor.at_ms)
    second = floor.exit()
    floor.run(30)
    third = floor.enter()
    floor.run(30)
    assert floor.ends() == {second: Outcome.REJECTED, third: Outcome.REJECTED}
    assert "lease_lost" in floor.alerts()
    writes = [call for call in floor.exchange.calls if call.split()[0] not in {"find", "book"}]
    assert writes == ["place 261120N-k3f-1-0"], "another process trades now"
    floor.exchange.fill(floor.exchange.placed["261120N-k3f-1-0"], 65)
    floor.run(10, until_closed=True)
    assert floor.filled(1) == 65, "what fills is still known"
    assert [record.intent for record in floor.ledger.intents(KEY.session_id)] == [1]


@pytest.mark.parametrize("hung", ["before the order is sent", "while the order rests"])
def test_who_hung_after_the_commit_asks_for_the_lease_before_anything_goes_out(floor, monkeypatch, hung):
    floor.exchange.fills = "none"
    if hung == "before the order is sent":
        commit = floor.ledger.record_intent

        def commit_and_hang(intent, **options):
            commit(intent, **options)
            replaced()

        monkeypatch.setattr(floor.ledger, "record_intent", commit_and_hang)

    def replaced():
        floor.ledger.leases.take_over(KEY, "another", floor.at_ms)
        monkeypatch.setattr("tasks.orders.fence.real_now_ms", lambda: real_now_ms() + 2_000)

    number = floor.exit()
    if hung == "while the order rests":
        floor.run(2)
        replaced()
    floor.run(30)
    writes = [call.split()[0] for call in floor.exchange.calls if call.split()[0] not in {"find", "book"}]
    assert writes == ([] if hung == "before the order is sent" else ["place"]), "another process trades now"
    assert "lease_lost" in floor.alerts()
    assert floor.ends() == ({number: Outcome.REJECTED} if not writes else {})


def test_a_hanging_request_does_not_hold_up_the_exit_of_another_order(wide_floor):
    floor = wide_floor
    floor.exchange.faults = ["hang"]
    hanging = floor.enter()
    leaving = floor.exit()
    while leaving not in floor.ends():
        event = floor.inbox.get(5.0)
        assert event is not None, "the exit waits for the hanging entry"
        floor.take(event)
    assert floor.execution.open_intents() == (hanging,)
    assert not floor.execution.idle()
    floor.exchange.released.set()
    floor.run(5, until_closed=True)
    assert floor.ends()[hanging] == Outcome.FILLED


def test_a_request_that_hangs_for_long_is_looked_up_and_not_taken_for_absent(sqlite_ledger_url, tmp_path):
    """Reading has a thread of its own: it goes on while a writer hangs."""
    for floor in _floor(sqlite_ledger_url, tmp_path, workers=3):
        floor.exchange.faults = ["hang"]
        floor.exit()
        while "place 261120N-k3f-1-0" not in floor.exchange.calls:
            threading.Event().wait(0.001)
        for _ in range(60):
            floor.at_ms += 1_000
            floor.take(Timer(at_ms=floor.at_ms))
            if floor.execution._asked > 1:  # a look-up is on its way beside the hanging request
                event = floor.inbox.get(5.0)
                assert event is not None, "the reading waits for the hanging request"
                floor.take(event)
        assert "find" in floor.exchange.calls
        assert "order_unknown" in floor.alerts()
        assert floor.ends() == {}
        floor.exchange.released.set()
        floor.run(10, until_closed=True)
        assert floor.ends() == {1: Outcome.FILLED}


def test_an_order_that_cannot_be_found_by_our_id_is_found_in_the_book(floor):
    """Dhan answers 404 to a look-up by correlation id while the order is in transit."""
    floor.exchange.faults = ["lose_reply"]
    floor.exchange.pushes = "never"
    floor.exchange.find_order = lambda _: None
    intent = floor.exit()
    floor.run(30, until_closed=True)
    assert floor.ends() == {intent: Outcome.FILLED}
    assert floor.recorded() == floor.truth()


def test_a_fill_that_was_pushed_to_nobody_is_read_as_soon_as_the_updates_are_back(floor):
    """The broker does not repeat what it pushed while the socket was down."""
    floor.exchange.pushes = "never"
    floor.exchange.fills = "none"
    intent = floor.exit()
    floor.run(3)  # the next reading would be due in two seconds
    floor.exchange.fill(floor.exchange.placed["261120N-k3f-1-0"], 65)
    floor.take(FeedConnected(at_ms=floor.at_ms, feed=FeedName.MARKET, connections=2))
    floor.settle()
    assert floor.ends() == {}, "the market feed says nothing of orders"
    floor.take(FeedConnected(at_ms=floor.at_ms, feed=FeedName.ORDERS, connections=2))
    floor.settle()
    assert floor.ends() == {intent: Outcome.FILLED}
    assert floor.recorded() == floor.truth() == (65, 65 * PRICE)


def test_events_for_others_pass_by(floor):
    floor.enter()
    floor.take(Command(at_ms=floor.at_ms, command_id="c", kind=CommandKind.HALT))
    floor.take(object())
    floor.run(until_closed=True)
    assert floor.ends() == {1: Outcome.FILLED}


def test_one_worker_keeps_the_order_of_requests(sqlite_ledger_url, tmp_path):
    for floor in _floor(sqlite_ledger_url, tmp_path, workers=1):
        floor.enter(4_550)
        floor.exit()
        floor.settle()
        assert floor.places() == [f"place 261120N-k3f-{name}" for name in ("1-0", "1-1", "1-2", "2-0")]


def test_idle_means_that_no_call_is_in_flight_and_no_answer_waits(floor):
    assert floor.execution.idle()
    floor.enter()
    assert not floor.execution.idle()
    floor.settle()
    assert floor.execution.idle()


SCRIPTS = {
    "plain": ([], "all", "once"),
    "reply lost": (["lose_reply"], "all", "never"),
    "request lost": (["lose_request"], "all", "once"),
    "partial": ([], "half", "never"),
    "re-priced": ([], "on_modify", "once"),
    "race": ([], "on_cancel", "never"),
    "refused": (["reject"], "all", "once"),
}


@pytest.mark.parametrize("kind", [Enter, Exit])
@pytest.mark.parametrize("script", SCRIPTS.values(), ids=SCRIPTS)
@pytest.mark.parametrize("lives", [0, 1, 2, 4, 7, 12])
def test_killed_after_any_event_a_restart_finds_the_truth(wide_floor, kind, script, lives):
    """The process dies after `lives` events (its queue of records with it); the next one recovers and finishes."""
    floor = wide_floor
    floor.exchange.faults, floor.exchange.fills, floor.exchange.pushes = list(script[0]), script[1], script[2]
    floor.decide(kind, 130, PRICE)
    for number in range(lives):
        event = floor.inbox.get(0.0 if floor.execution.idle() else 5.0)
        if event is None:
            floor.at_ms += 1_000
            event = Timer(at_ms=floor.at_ms)
        if number == 2:
            floor.quote(95_00, 106_00)
        floor.take(event)
    on_their_way = floor.execution._asked
    while on_their_way:  # they end somehow; their answers reach nobody
        on_their_way -= isinstance(floor.inbox.get(5.0), Reply)
    floor.kill()
    floor.restart()
    known = sum(fill.quantity for *_, fill in floor.ledger.fills(KEY.session_id))
    floor.exchange.fills = "on_cancel" if kind is Enter else "on_modify"
    floor.quote(90_00, 110_00)
    floor.run(90, until_closed=True)
    assert floor.recorded() == floor.truth()
    assert known + floor.filled(1) == floor.truth()[0]
    assert sum(floor.exchange.received.values()) <= 1
