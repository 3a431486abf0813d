"""Whatever the broker, the network and the order of events do: nothing is sent twice, no fill is lost, all intents end.

A model of a broker keeps the truth. A random scheduler lets requests arrive, get lost, hang or be refused; lets the
exchange fill, reject and cancel; pushes old and new sightings in any order, some without a price; fails readings;
and crashes the desk, which then goes on from a random prefix of what it had recorded. Then the broker heals.
"""

from collections import Counter
from dataclasses import dataclass, field, replace
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from strategy.actions import CancelEntry, Enter, Exit, ExitReason, Explanation
from strategy.desk import Commit, Desk, Intent, next_due_ms, restored, step
from strategy.events import Fill, IntentClosed, Outcome, Tick, Timer
from strategy.instruments import Quantity
from strategy.order_news import recall
from strategy.orders import (
    BROKER_MODIFICATIONS_MAX,
    Answer,
    Ask,
    BookStatus,
    FillStep,
    Order,
    OrderFact,
    OrderPolicy,
    Reply,
    Request,
    Seen,
)

from .conftest import CONTRACT

SMALL_FREEZE = replace(CONTRACT, freeze_quantity=130)
POLICY = OrderPolicy(timeout_ms=3_000, modifications_max=5)
VISIBLE_AFTER_MS = 10_000  # an order that arrived is in the book by then (the desk allows for 15 s)
OPEN = (BookStatus.TRANSIT, BookStatus.PENDING, BookStatus.PART_TRADED)


@dataclass
class TrueOrder:
    """What is really at the broker under one id."""

    request: Request
    broker_order_id: str
    arrived_ms: int
    status: BookStatus = BookStatus.TRANSIT
    filled: int = 0
    value_paise: int = 0
    modifications: int = 0
    sightings: list = field(default_factory=list)

    def sighting(self, at_ms, *, from_book):
        return Seen(
            at_ms=at_ms,
            client_order_id=self.request.client_order_id,
            broker_order_id=self.broker_order_id,
            status=self.status,
            filled_quantity=self.filled,
            filled_value_paise=self.value_paise,
            limit_paise=self.request.limit_paise,
            from_book=from_book,
        )

    def note(self, at_ms):
        self.sightings.append(self.sighting(at_ms, from_book=False))

    def fill(self, quantity, price_paise, at_ms):
        self.filled += quantity
        self.value_paise += quantity * price_paise
        whole = self.filled == self.request.quantity
        self.status = BookStatus.TRADED if whole else BookStatus.PART_TRADED
        self.note(at_ms)

    def end(self, status, at_ms):
        self.status = status
        self.note(at_ms)


class World:
    """The desk, the true broker and everything in between; `chance` decides all."""

    def __init__(self, chance: Random) -> None:
        self.chance = chance
        # How bad this world is: requests that get lost, readings that fail, orders that the book shows late.
        self.lost, self.unreadable, self.hidden = (chance.choice([0.0, 0.2, 0.7]) for _ in range(3))
        self.now_ms = 1_000_000
        self.desk = Desk(prefix="261120N-k3f")
        self.orders: dict[str, TrueOrder] = {}
        self.in_flight: list[tuple[Request, int]] = []
        self.arrived: Counter = Counter()
        self.committed: dict[int, tuple[Order, ...]] = {}
        self.intents: dict[int, Enter | Exit] = {}
        self.ledger: list[OrderFact | FillStep] = []
        self.told: Counter = Counter()  # units per intent: recorded before a crash plus told since
        self.told_paise: Counter = Counter()
        self.closed: dict[int, Outcome] = {}

    # the desk's side

    def tell(self, event) -> None:
        before = self.desk
        self.desk, said = step(self.desk, event, POLICY)
        assert step(before, event, POLICY) == (self.desk, said), "a step depends on its arguments alone"
        for output in said:
            match output:
                case Commit():
                    assert output.intent not in self.committed
                    self.committed[output.intent] = output.orders
                    assert sum(order.quantity for order in output.orders) == self.intents[output.intent].quantity
                case Request():
                    self.check_request(output)
                    self.in_flight.append((output, self.now_ms))
                case OrderFact() | FillStep():
                    self.ledger.append(output)
                case Fill():
                    assert output.intent not in self.closed, "a fill after the end of its intent"
                    assert output.quantity > 0
                    assert output.value_paise > 0
                    self.told[output.intent] += output.quantity
                    self.told_paise[output.intent] += output.value_paise
                    assert self.told[output.intent] <= self.filled(output.intent), "a fill that never happened"
                case IntentClosed():
                    self.check_closed(output)

    def check_request(self, request: Request) -> None:
        number = int(request.client_order_id.rsplit("-", 2)[1])
        assert any(order.client_order_id == request.client_order_id for order in self.committed[number])
        kinds = [Ask.LOOK_UP] if request.ask is Ask.LOOK_UP else [Ask.PLACE, Ask.MODIFY, Ask.CANCEL]
        for other, _ in self.in_flight:
            assert other.client_order_id != request.client_order_id or other.ask not in kinds
        assert request.limit_paise > 0
        assert request.limit_paise % SMALL_FREEZE.tick_size_paise == 0
        if request.ask is Ask.PLACE:
            assert request.client_order_id not in self.orders, "sent although it is at the broker"

    def check_closed(self, closed: IntentClosed) -> None:
        number = closed.intent
        assert number not in self.closed, "closed twice"
        self.closed[number] = closed.outcome
        assert not any(order.status in OPEN for order in self.true_orders(number)), "closed while it may fill"
        on_the_way = [r for r, _ in self.in_flight if r.ask is Ask.PLACE and r.client_order_id not in self.orders]
        ids = {order.client_order_id for order in self.committed.get(number, ())}
        assert not ids & {request.client_order_id for request in on_the_way}, "closed with an order on its way"
        assert self.told[number] == self.filled(number), "a fill was lost"
        assert self.told_paise[number] == sum(order.value_paise for order in self.true_orders(number))
        quantity = self.intents[number].quantity
        expected = {True: {Outcome.FILLED}}.get(self.told[number] == quantity) or (
            {Outcome.PARTIALLY_FILLED} if self.told[number] else {Outcome.REJECTED, Outcome.CANCELLED}
        )
        assert closed.outcome in expected

    def crash(self) -> None:
        """A new process takes up what had reached the ledger; answers on the way are lost, requests may arrive."""
        kept = self.ledger[: self.chance.randint(0, len(self.ledger))]
        self.ledger = kept
        for request, _ in self.in_flight:
            if request.ask is Ask.PLACE and request.client_order_id not in self.orders and self.chance.random() < 0.5:
                self.arrive(request)
        self.in_flight.clear()
        self.told.clear()
        self.told_paise.clear()
        self.closed.clear()
        intents = []
        for number, orders in self.committed.items():
            action = self.intents[number]
            recalled = []
            for order in orders:
                mine = [record for record in kept if record.client_order_id == order.client_order_id]
                steps = tuple(record for record in mine if isinstance(record, FillStep))
                facts = tuple(record for record in mine if isinstance(record, OrderFact))
                recalled.append(recall(order, facts, steps, self.now_ms))
                self.told[number] += sum(fill.quantity for fill in steps)
                self.told_paise[number] += sum(fill.value_paise for fill in steps)
            intents.append(
                Intent(
                    intent=number,
                    purpose=orders[0].purpose,
                    contract=SMALL_FREEZE,
                    quantity=action.quantity,
                    reference_paise=action.reference_paise,
                    orders=tuple(recalled),
                )
            )
        self.desk = restored(Desk(prefix="261120N-k3f"), intents)
        for number in self.committed:
            if number not in self.desk.open_intents:
                self.closed[number] = Outcome.FILLED  # told by the ledger; the desk says nothing more
                assert self.told[number] == self.filled(number), "taken for ended with a fill missing"
        self.tell(Timer(at_ms=self.now_ms))

    # the broker's side

    def true_orders(self, number: int) -> list[TrueOrder]:
        return [
            self.orders[o.client_order_id] for o in self.committed.get(number, ()) if o.client_order_id in self.orders
        ]

    def filled(self, number: int) -> int:
        return sum(order.filled for order in self.true_orders(number))

    def arrive(self, request: Request) -> TrueOrder:
        self.arrived[request.client_order_id] += 1
        assert self.arrived[request.client_order_id] == 1, "the broker received an order twice"
        order = TrueOrder(request, f"9{len(self.orders):09}", self.now_ms)
        self.orders[request.client_order_id] = order
        order.note(self.now_ms)
        return order

    def reply(self, request: Request, answer: Answer, **more) -> None:
        self.tell(
            Reply(at_ms=self.now_ms, ask=request.ask, client_order_id=request.client_order_id, answer=answer, **more)
        )

    def answer_one(self, *, healthy: bool) -> None:
        """Let the broker treat one request that is on its way, and answer it."""
        if not self.in_flight:
            return
        request, asked_ms = self.in_flight.pop(0 if healthy else self.chance.randrange(len(self.in_flight)))
        order = self.orders.get(request.client_order_id)
        if request.ask is Ask.LOOK_UP:
            self.answer_look_up(request, order, asked_ms, healthy=healthy)
        elif request.ask is Ask.PLACE:
            self.answer_place(request, order, healthy=healthy)
        elif not healthy and self.chance.random() < 0.15:
            self.reply(request, Answer.NOTHING_SENT, message="away", retry_after_ms=1_000)
        elif not healthy and self.chance.random() < 0.1:
            self.reply(request, self.chance.choice([Answer.AUTHENTICATION_DEAD, Answer.IP_REFUSED]), message="no")
        elif not healthy and self.chance.random() < self.lost:
            if self.chance.random() < 0.5:
                self.treat(request, order)
            self.reply(request, Answer.UNKNOWN, message="timeout")
        else:
            self.reply(request, Answer.ACCEPTED if self.treat(request, order) else Answer.REJECTED)

    def treat(self, request: Request, order: TrueOrder) -> bool:
        if order.status not in OPEN:
            return False
        if request.ask is Ask.CANCEL:
            if order.status is BookStatus.TRANSIT:
                return False
            if self.chance.random() < 0.7:  # else: cancelled at the exchange a little later, or filled first
                order.end(BookStatus.CANCELLED, self.now_ms)
            return True
        order.modifications += 1
        assert order.modifications < BROKER_MODIFICATIONS_MAX
        buying = request.side == "BUY"
        assert (request.limit_paise > order.request.limit_paise) is buying, "re-priced away from being filled"
        order.request = request
        return True

    def answer_place(self, request: Request, order: TrueOrder | None, *, healthy: bool) -> None:
        if not healthy and self.chance.random() < self.lost:
            if order is None and self.chance.random() < 0.6:
                self.arrive(request)
            self.reply(request, Answer.UNKNOWN, message="timeout")
        elif not healthy and order is None and self.chance.random() < 0.2:
            self.reply(request, Answer.NOTHING_SENT, message="away", retry_after_ms=500)
        elif not healthy and order is None and self.chance.random() < 0.15:
            refusals = [Answer.REJECTED, Answer.AUTHENTICATION_DEAD, Answer.IP_REFUSED]
            self.reply(request, self.chance.choice(refusals), message="no funds")
        else:
            order = order or self.arrive(request)
            self.reply(request, Answer.ACCEPTED, broker_order_id=order.broker_order_id)

    def answer_look_up(self, request: Request, order: TrueOrder | None, asked_ms: int, *, healthy: bool) -> None:
        if not healthy and self.chance.random() < self.unreadable:
            self.reply(request, self.chance.choice([Answer.NOTHING_SENT, Answer.UNKNOWN]), message="away")
            return
        shown = order is not None and asked_ms >= order.arrived_ms
        if shown and asked_ms < order.arrived_ms + VISIBLE_AFTER_MS:
            shown = self.chance.random() >= self.hidden
        if shown:
            self.reply(request, Answer.FOUND, seen=order.sighting(self.now_ms, from_book=True))
        else:
            self.reply(request, Answer.ABSENT)

    # what may happen

    def pass_time(self) -> None:
        self.now_ms += self.chance.choice([0, 100, 500, 1_000, 2_500, 6_000])
        self.tell(Timer(at_ms=self.now_ms))
        due_ms = next_due_ms(self.desk)
        assert due_ms is None or due_ms > self.now_ms, "something due was not done"

    def tick(self) -> None:
        price = self.chance.randrange(5, 20_000, 5)
        spread = self.chance.choice([0, 5, 50])
        bid = max(price - spread, 0)
        self.tell(
            Tick(
                at_ms=self.now_ms,
                security=SMALL_FREEZE.security,
                price_paise=price,
                bid_paise=bid,
                ask_paise=price + spread,
            )
        )

    def let_arrive(self) -> None:
        """A request whose answer hangs reaches the broker."""
        waiting = [r for r, _ in self.in_flight if r.ask is Ask.PLACE and r.client_order_id not in self.orders]
        if waiting:
            self.arrive(self.chance.choice(waiting))

    def exchange(self) -> None:
        live = [order for order in self.orders.values() if order.status in OPEN]
        if not live:
            return
        order = self.chance.choice(live)
        if order.status is BookStatus.TRANSIT:
            order.end(self.chance.choice([BookStatus.PENDING] * 4 + [BookStatus.REJECTED]), self.now_ms)
        elif self.chance.random() < 0.8:
            quantity = self.chance.choice([65, order.request.quantity])
            order.fill(
                min(quantity, order.request.quantity - order.filled), self.chance.randrange(5, 20_000, 5), self.now_ms
            )
        else:
            order.end(self.chance.choice([BookStatus.CANCELLED, BookStatus.EXPIRED]), self.now_ms)

    def push(self) -> None:
        sightings = [sighting for order in self.orders.values() for sighting in order.sightings]
        if not sightings:
            return
        sighting = replace(self.chance.choice(sightings), at_ms=self.now_ms)
        if self.chance.random() < 0.1:
            sighting = replace(sighting, filled_value_paise=0)
        if self.chance.random() < 0.1:
            sighting = replace(sighting, filled_quantity=0, filled_value_paise=0)
        if self.chance.random() < 0.1:
            sighting = replace(sighting, client_order_id="")
        self.tell(sighting)

    def repeat_reply(self) -> None:
        """An answer that nobody waits for changes nothing that matters."""
        ids = [order.client_order_id for orders in self.committed.values() for order in orders]
        waiting = {(request.client_order_id, request.ask) for request, _ in self.in_flight}
        if ids:
            order_id, ask = self.chance.choice(ids), self.chance.choice(list(Ask))
            if (order_id, ask) not in waiting:
                self.tell(
                    Reply(at_ms=self.now_ms, ask=ask, client_order_id=order_id, answer=self.chance.choice(list(Answer)))
                )

    def decide(self) -> None:
        number = len(self.intents) + 1
        if number > 4:
            return
        common = {
            "at_ms": self.now_ms,
            "intent": number,
            "trade": number,
            "contract": SMALL_FREEZE,
            "quantity": Quantity(65 * self.chance.choice([1, 2, 3, 5])),
            "reference_paise": self.chance.randrange(5, 20_000, 5),
            "why": Explanation(),
        }
        action = Enter(**common) if self.chance.random() < 0.5 else Exit(reason=ExitReason.STOP_LOSS, **common)
        self.intents[number] = action
        self.tell(action)

    def give_up(self) -> None:
        if self.intents:
            self.tell(CancelEntry(at_ms=self.now_ms, intent=self.chance.choice(list(self.intents))))

    def heal(self) -> None:
        """From now on the broker answers, shows and fills; every intent must end within minutes."""
        for _ in range(400):
            if not self.desk.open_intents:
                return
            self.now_ms += 1_000
            self.tell(Timer(at_ms=self.now_ms))
            while self.in_flight:
                self.answer_one(healthy=True)
            for order in self.orders.values():
                if order.status is BookStatus.TRANSIT:
                    order.end(BookStatus.PENDING, self.now_ms)
                elif order.status in OPEN:
                    order.fill(order.request.quantity - order.filled, 10_000, self.now_ms)
        raise AssertionError(f"still open: {self.desk.open_intents} {self.desk.intents}")


@settings(max_examples=400, deadline=None)
@given(seed=st.integers(0, 2**48), steps=st.integers(10, 120), crashes=st.booleans())
def test_no_chaos_loses_a_fill_sends_twice_or_leaves_an_intent_open(seed, steps, crashes):
    chance = Random(seed)
    world = World(chance)
    happenings = [
        world.decide,
        world.pass_time,
        world.pass_time,
        world.tick,
        world.let_arrive,
        world.exchange,
        world.exchange,
        world.push,
        world.push,
        world.repeat_reply,
        lambda: world.answer_one(healthy=False),
        lambda: world.answer_one(healthy=False),
        lambda: world.answer_one(healthy=False),
        world.give_up,
    ]
    if crashes:
        happenings.append(world.crash)
    world.decide()
    for _ in range(steps):
        chance.choice(happenings)()
    world.heal()
    assert set(world.closed) == set(world.intents)
    assert all(count == 1 for count in world.arrived.values())
