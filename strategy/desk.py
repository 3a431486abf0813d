"""The desk: intents of the session as orders at the broker, from "buy" and "sell" to fills and the end.

`step` is the only way in. The session says `Enter`, `Exit` and `CancelEntry` and hears `Fill` and
`IntentClosed`; all that lies between (slices, doubts, re-pricing) is here and in the order modules.

Invariants:
1. What the orders of an intent have filled plus what they may still fill never exceeds the intent's quantity,
   orders in doubt included. So an exit never sells more than it was told to.
2. The orders of an intent are fixed when it is committed; the `Commit` comes before any request about them.
   What an ended intent left undone is the session's to decide anew, under a new intent.
3. `IntentClosed` comes exactly once per intent, when none of its orders can fill any more, after its last
   `Fill`. The one exception is a broker that contradicts itself (an order it refused or did not have comes
   alive): its fill is told all the same, with a critical alert, because the position is what was filled,
   always.
4. Only timers and answers move time; ticks are prices and nothing else.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from strategy.actions import Alert, CancelEntry, Enter, Exit, Severity
from strategy.events import Fill, IntentClosed, Outcome, Tick, Timer
from strategy.instruments import Contract
from strategy.order_news import learn
from strategy.order_work import act, due_ms, reading_due
from strategy.orders import (
    Ending,
    FillStep,
    Order,
    OrderFact,
    OrderPolicy,
    Outputs,
    Purpose,
    PushesMissed,
    Reply,
    Request,
    Seen,
    client_order_id,
    slices,
)
from strategy.pricing import best_opposite_paise, limit_price_paise


@dataclass(frozen=True, slots=True, kw_only=True)
class Intent:
    """What the session wants, and the orders that it became."""

    intent: int
    purpose: Purpose
    contract: Contract
    quantity: int
    reference_paise: int
    orders: tuple[Order, ...]
    closed: bool = False

    @property
    def filled_quantity(self) -> int:
        """Units filled so far."""
        return sum(order.filled_quantity for order in self.orders)

    @property
    def is_live(self) -> bool:
        """True while any of its orders may fill."""
        return any(not order.is_closed for order in self.orders)


@dataclass(frozen=True, slots=True, kw_only=True)
class Commit:
    """These orders of an intent must be in the ledger before any request about them goes out."""

    intent: int
    orders: tuple[Order, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Desk:
    """All intents of the day and the latest quotes. `prefix` begins the ids of all orders of the session."""

    prefix: str
    intents: Mapping[int, Intent] = field(default_factory=dict)
    quotes: Mapping[str, Tick] = field(default_factory=dict)
    now_ms: int = 0

    @property
    def open_intents(self) -> tuple[int, ...]:
        """Intents that will still be closed, ascending."""
        return tuple(sorted(number for number, intent in self.intents.items() if not intent.closed))


DeskEvent = Enter | Exit | CancelEntry | Tick | Timer | PushesMissed | Reply | Seen
DeskOutput = Commit | Request | OrderFact | FillStep | Fill | IntentClosed | Alert


def step(desk: Desk, event: DeskEvent, policy: OrderPolicy) -> tuple[Desk, tuple[DeskOutput, ...]]:
    """Return the desk after `event` and what to do about it, in order."""
    if isinstance(event, Tick):
        return quoted(desk, {event.security: event}), ()
    desk = replace(desk, now_ms=max(desk.now_ms, event.at_ms))
    match event:
        case Enter() | Exit():
            return _open(desk, event, policy)
        case CancelEntry():
            return _give_up(desk, event.intent, policy)
        case Timer():
            return _attend(desk, policy)
        case PushesMissed():
            return _attend(_with_readings_due(desk), policy)
        case Reply() | Seen():
            return _tell(desk, event, policy)


def quoted(desk: Desk, quotes: Mapping[str, Tick]) -> Desk:
    """The desk after the latest ticks of some securities; nothing is ever done about a tick alone."""
    return replace(desk, quotes={**desk.quotes, **quotes})


def next_due_ms(desk: Desk) -> int | None:
    """When a Timer will find something to do; None while only answers can move anything."""
    dues = [due_ms(order) for intent in desk.intents.values() for order in intent.orders]
    return min((due for due in dues if due is not None), default=None)


def restored(desk: Desk, intents: Iterable[Intent]) -> Desk:
    """The desk with intents taken up from the ledger; what cannot fill any more counts as closed and told."""
    taken = {intent.intent: replace(intent, closed=not intent.is_live) for intent in intents}
    return replace(desk, intents={**desk.intents, **taken})


def _open(desk: Desk, action: Enter | Exit, policy: OrderPolicy) -> tuple[Desk, tuple[DeskOutput, ...]]:
    purpose = Purpose.ENTRY if isinstance(action, Enter) else Purpose.EXIT
    if action.intent in desk.intents:
        text = f"intent {action.intent} was submitted twice; the second one is ignored"
        return desk, (_alert(desk, "intent_repeated", text),)
    try:
        orders = _orders(desk, action, purpose, policy)
    except ValueError as fault:
        closed = IntentClosed(at_ms=desk.now_ms, intent=action.intent, outcome=Outcome.REJECTED, message=str(fault))
        return desk, (_alert(desk, "intent_impossible", f"intent {action.intent}: {fault}"), closed)
    intent = Intent(
        intent=action.intent,
        purpose=purpose,
        contract=action.contract,
        quantity=action.quantity,
        reference_paise=action.reference_paise,
        orders=orders,
    )
    desk, said = _settle(desk, intent, orders, (), policy)
    return desk, (Commit(intent=action.intent, orders=orders), *said)


def _orders(desk: Desk, action: Enter | Exit, purpose: Purpose, policy: OrderPolicy) -> tuple[Order, ...]:
    contract = action.contract
    limit_paise = limit_price_paise(
        purpose.side,
        reference_paise=action.reference_paise,
        buffer=policy.buffer,
        tick_size_paise=contract.tick_size_paise,
    )
    parts = slices(action.quantity, contract.freeze_quantity, contract.lot_size)
    return tuple(
        Order(
            client_order_id=client_order_id(desk.prefix, action.intent, number),
            intent=action.intent,
            purpose=purpose,
            contract=contract,
            quantity=quantity,
            number=number,
            limit_paise=limit_paise,
            write_due_ms=desk.now_ms,
        )
        for number, quantity in enumerate(parts)
    )


def _give_up(desk: Desk, number: int, policy: OrderPolicy) -> tuple[Desk, tuple[DeskOutput, ...]]:
    intent = desk.intents.get(number)
    if intent is None or intent.closed or intent.purpose is not Purpose.ENTRY:
        return desk, ()  # it ended before the wish to end it
    orders = tuple(
        order if order.is_closed else replace(order, unwanted=True, message="cancelled by the session")
        for order in intent.orders
    )
    return _settle(desk, intent, orders, (), policy)


def _attend(desk: Desk, policy: OrderPolicy) -> tuple[Desk, tuple[DeskOutput, ...]]:
    said: list[DeskOutput] = []
    for intent in tuple(desk.intents.values()):
        if intent.is_live:
            desk, outputs = _settle(desk, intent, intent.orders, (), policy)
            said += outputs
    return desk, tuple(said)


def _with_readings_due(desk: Desk) -> Desk:
    """The desk with a look-up due of every order that the broker may have; one on its way may be too old."""
    return replace(
        desk,
        intents={
            number: replace(intent, orders=tuple(reading_due(order, desk.now_ms) for order in intent.orders))
            for number, intent in desk.intents.items()
        },
    )


def _tell(desk: Desk, news: Reply | Seen, policy: OrderPolicy) -> tuple[Desk, tuple[DeskOutput, ...]]:
    for intent in desk.intents.values():
        for position, order in enumerate(intent.orders):
            if _is_about(news, order):
                changed, said = learn(order, news, policy, desk.now_ms)
                orders = (*intent.orders[:position], changed, *intent.orders[position + 1 :])
                return _settle(desk, intent, orders, said, policy)
    return desk, ()  # not ours: an order that a person or another program placed


def _is_about(news: Reply | Seen, order: Order) -> bool:
    if news.client_order_id:
        return news.client_order_id == order.client_order_id
    return news.broker_order_id != "" and news.broker_order_id == order.broker_order_id


def _settle(
    desk: Desk, intent: Intent, orders: tuple[Order, ...], learnt: Outputs, policy: OrderPolicy
) -> tuple[Desk, tuple[DeskOutput, ...]]:
    """Do what is due for an intent whose orders are now `orders`; close it when none can fill any more."""
    quote = desk.quotes.get(intent.contract.security)
    best_paise = best_opposite_paise(intent.purpose.side, quote, intent.reference_paise)
    said = _with_fills(intent, learnt)
    acted: list[Order] = []
    for order in orders:
        changed, outputs = act(order, policy, desk.now_ms, best_paise)
        acted.append(changed)
        said += _with_fills(intent, outputs)
    settled = replace(intent, orders=tuple(acted))
    if not settled.is_live and not settled.closed:
        settled = replace(settled, closed=True)
        said.append(_closed(settled, desk.now_ms))
    return replace(desk, intents={**desk.intents, intent.intent: settled}), tuple(said)


def _with_fills(intent: Intent, outputs: Outputs) -> list[DeskOutput]:
    """Each fill step is followed by the session's word for it."""
    said: list[DeskOutput] = []
    for output in outputs:
        said.append(output)
        if isinstance(output, FillStep):
            said.append(
                Fill(
                    at_ms=output.at_ms,
                    intent=intent.intent,
                    side=intent.purpose.side,
                    quantity=output.quantity,
                    value_paise=output.value_paise,
                )
            )
    return said


def _closed(intent: Intent, at_ms: int) -> IntentClosed:
    if intent.filled_quantity >= intent.quantity:
        outcome = Outcome.FILLED
    elif intent.filled_quantity > 0:
        outcome = Outcome.PARTIALLY_FILLED
    elif any(order.ending is Ending.REFUSED for order in intent.orders):
        outcome = Outcome.REJECTED
    else:
        outcome = Outcome.CANCELLED
    short = [order.message for order in intent.orders if order.ending is not Ending.FILLED and order.message]
    return IntentClosed(at_ms=at_ms, intent=intent.intent, outcome=outcome, message=short[-1] if short else "")


def _alert(desk: Desk, kind: str, text: str) -> Alert:
    return Alert(at_ms=desk.now_ms, kind=kind, severity=Severity.CRITICAL, message=text)
