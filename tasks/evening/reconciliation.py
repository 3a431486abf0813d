"""The broker's books of a session's day beside the ledger's, compared and recorded.

Reading is here, the comparison is `strategy.reconcile`. Nothing is mended: a difference is recorded, with a remedy.

Invariants:
1. What another session of the bot did in the same account is that session's affair: it is neither foreign nor ours.
2. An answer that cannot be had is an error (BrokerUnavailable), never an empty book.
3. The same comparison twice is recorded once.
4. A position that was taken over is units without an order: what stands for it in the ledger was never sent.

Today's day is compared with the order book, the trade book and the positions. These three show one day only; a past
day is compared with the settled trade history, which has fills and charges, but no orders that did not fill.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from strategy.charges import Charges, compare_with_statement
from strategy.events import Side
from strategy.params import Mode
from strategy.reconcile import (
    REMEDIES,
    Book,
    Difference,
    Kind,
    OrderFacts,
    Reconciliation,
    reconcile,
)
from tasks.broker import (
    Broker,
    BrokerOrder,
    BrokerPosition,
    BrokerTrade,
    BrokerUnavailable,
    OrderStatus,
    SettledTrade,
)
from tasks.ledger.records import ADOPTED, DifferenceRecord, IntentRecord, OrderEventRecord, SessionKey
from tasks.ledger.store import Ledger

CLEAN = "clean"
MISMATCHED = "mismatched"
# The ledger has fills at average prices, of which the broker gives four decimals of a rupee. Ticks are five paise.
PRICE_TOLERANCE_PAISE = 0.01


def reconcile_session(
    ledger: Ledger, broker: Broker, session_id: str, *, run_id: str, at_ms: int, day_over: bool = True
) -> Reconciliation:
    """Compare, record and return what was found. BrokerUnavailable and LedgerUnavailable pass through."""
    found = compare_session(ledger, broker, session_id, day_over=day_over)
    record_comparison(ledger, session_id, found, run_id=run_id, at_ms=at_ms)
    return found


def compare_session(
    ledger: Ledger, broker: Broker, session_id: str, *, day_over: bool = True, past_day: bool = False
) -> Reconciliation:
    """Both sides read and compared. BrokerUnavailable, also where a past day is not settled yet."""
    key = ledger.key_of(session_id)
    ours = ledger_book(ledger, session_id)
    elsewhere = _others(ledger, key)
    if past_day and key.mode != Mode.PAPER:
        settled = broker.settled_trades(key.day)
        if not settled and any(order.filled_quantity for order in ours.orders):
            raise BrokerUnavailable(f"the trade history has nothing of {key.day} yet; compare again later")
        theirs = settled_book(settled, ours)
    else:
        settled = ()
        theirs = broker_book(broker.orders(), broker.trades(), broker.positions())
    prefix = f"{key.order_prefix(ledger.open_session(key, salt=''))}-"
    found = reconcile(
        ledger=ours,
        broker=elsewhere.removed_from(theirs),
        is_ours=lambda client_order_id: client_order_id.startswith(prefix),
        day_over=day_over,
        price_tolerance_paise=PRICE_TOLERANCE_PAISE,
    )
    billed = tuple(_billed_otherwise(ledger, session_id, ours, settled))
    return Reconciliation(matched=found.matched, differences=found.differences + billed)


def record_comparison(ledger: Ledger, session_id: str, found: Reconciliation, *, run_id: str, at_ms: int) -> None:
    """Keep the comparison, if it is not the same as the one before. LedgerUnavailable."""
    differences = tuple(
        DifferenceRecord(
            kind=difference.kind,
            subject=difference.subject,
            expected=difference.expected,
            found=difference.found,
            detail={"remedy": difference.remedy},
        )
        for difference in found.differences
    )
    ledger.record_reconciliation(session_id, run_id, at_ms, CLEAN if found.agrees else MISMATCHED, differences)


# What the ledger says


def ledger_book(ledger: Ledger, session_id: str) -> Book:
    """What the ledger says was ordered, taken over and is held."""
    filled: dict[str, list[int]] = defaultdict(lambda: [0, 0])
    net: dict[str, int] = defaultdict(int)
    taken_over: dict[str, int] = defaultdict(int)
    intents = {intent.intent: intent for intent in ledger.intents(session_id)}
    for client_order_id, number, side, fill in ledger.fills(session_id):
        intent = intents[number]
        filled[client_order_id][0] += fill.quantity
        filled[client_order_id][1] += fill.value_paise
        net[intent.security] += fill.quantity if side is Side.BUY else -fill.quantity
        if intent.reason == ADOPTED:
            taken_over[intent.security] += fill.quantity
    orders = []
    for intent in intents.values():
        if intent.reason == ADOPTED:
            continue
        for order in intent.orders:
            events = ledger.order_events(order.client_order_id)
            quantity, value_paise = filled[order.client_order_id]
            orders.append(
                OrderFacts(
                    client_order_id=order.client_order_id,
                    broker_order_id=_broker_order_id(events),
                    security=intent.security,
                    side=intent.side,
                    quantity=order.quantity,
                    filled_quantity=quantity,
                    filled_value_paise=value_paise,
                    # Killed between the last fill and the word of the broker's end, a start asks no more: it is filled.
                    is_open=quantity < order.quantity and not any(_is_end(event) for event in events),
                )
            )
    return Book(orders=tuple(orders), net_quantities=dict(net), taken_over=dict(taken_over))


def _broker_order_id(events: Sequence[OrderEventRecord]) -> str:
    return next((event.broker_order_id for event in events if event.broker_order_id), "")


def _is_end(event: OrderEventRecord) -> bool:
    if event.kind in {"REFUSED", "ABSENT"}:
        return True
    return event.status in set(OrderStatus) and OrderStatus(event.status).is_final


# What the broker says


def broker_book(
    orders: Iterable[BrokerOrder], trades: Iterable[BrokerTrade], positions: Iterable[BrokerPosition]
) -> Book:
    """Money from the single trades; where the trade book is behind the order book, from the order's average."""
    traded: dict[str, list[int]] = defaultdict(lambda: [0, 0])
    for trade in trades:
        traded[trade.broker_order_id][0] += trade.quantity
        traded[trade.broker_order_id][1] += trade.quantity * trade.price_paise
    net: dict[str, int] = defaultdict(int)
    for position in positions:
        net[position.security] += position.net_quantity
    facts = []
    for order in orders:
        quantity, value_paise = traded[order.broker_order_id]
        if quantity < order.filled_quantity:
            quantity, value_paise = order.filled_quantity, order.filled_value_paise
        facts.append(
            OrderFacts(
                client_order_id=order.client_order_id,
                broker_order_id=order.broker_order_id,
                security=order.security,
                side=order.side,
                quantity=order.quantity,
                filled_quantity=quantity,
                filled_value_paise=value_paise,
                is_open=not order.status.is_final,
            )
        )
    return Book(orders=tuple(facts), net_quantities=dict(net))


def settled_book(settled: Iterable[SettledTrade], ours: Book) -> Book:
    """A past day out of its trade history: what filled, and nothing held beyond what that leaves.

    The history does not show our ids. An order of the ledger that the broker never numbered is therefore found
    missing, and its fills foreign.
    """
    orders: dict[str, OrderFacts] = {}
    numbers = {order.broker_order_id for order in ours.orders}
    net: dict[str, int] = defaultdict(int)
    by_others: dict[str, int] = defaultdict(int)
    for row in settled:
        trade = row.trade
        known = orders.get(trade.broker_order_id)
        orders[trade.broker_order_id] = OrderFacts(
            client_order_id="",
            broker_order_id=trade.broker_order_id,
            security=trade.security,
            side=trade.side,
            quantity=None,
            filled_quantity=trade.quantity + (known.filled_quantity if known else 0),
            filled_value_paise=trade.quantity * trade.price_paise + (known.filled_value_paise if known else 0),
            is_open=False,
        )
        units = trade.quantity if trade.side is Side.BUY else -trade.quantity
        net[trade.security] += units
        by_others[trade.security] += 0 if trade.broker_order_id in numbers else units
    for security, units in ours.taken_over.items():
        net[security] += max(0, units - max(0, by_others[security]))  # held since an earlier day
    unfilled = tuple(order for order in ours.orders if not order.filled_quantity and not order.is_open)
    shown = {order.broker_order_id for order in orders.values()}
    # An order without a fill is not in the history, which says nothing about it.
    silent = tuple(order for order in unfilled if order.broker_order_id not in shown)
    return Book(orders=(*orders.values(), *silent), net_quantities=dict(net))


# What other sessions of the bot did


@dataclass(frozen=True, slots=True)
class _Others:
    """Orders and securities that belong to other sessions of the same account, day and mode."""

    client_order_ids: frozenset[str]
    broker_order_ids: frozenset[str]
    securities: frozenset[str]

    def removed_from(self, book: Book) -> Book:
        """The book without them."""
        return Book(
            orders=tuple(
                order
                for order in book.orders
                if order.client_order_id not in self.client_order_ids
                and order.broker_order_id not in self.broker_order_ids
            ),
            net_quantities={
                security: units for security, units in book.net_quantities.items() if security not in self.securities
            },
        )


def _others(ledger: Ledger, key: SessionKey) -> _Others:
    intents: list[IntentRecord] = []
    for session_id in ledger.session_ids(day=key.day, mode=key.mode):
        other = ledger.key_of(session_id)
        if other.account == key.account and other.underlying != key.underlying:
            intents += ledger.intents(session_id)
    ids = [order.client_order_id for intent in intents for order in intent.orders]
    numbered = (_broker_order_id(ledger.order_events(client_order_id)) for client_order_id in ids)
    return _Others(
        client_order_ids=frozenset(ids),
        broker_order_ids=frozenset(number for number in numbered if number),
        securities=frozenset(intent.security for intent in intents),
    )


# What the broker billed


def _billed_otherwise(
    ledger: Ledger, session_id: str, ours: Book, settled: Iterable[SettledTrade]
) -> Iterator[Difference]:
    numbers = {order.broker_order_id for order in ours.orders if order.broker_order_id}
    rows = [row.charges_paise for row in settled if row.trade.broker_order_id in numbers]
    sent = {order.client_order_id for order in ours.orders}
    priced = [record for record in ledger.charges(session_id) if record.client_order_id in sent]
    if not rows or not priced:
        return
    charges = [
        Charges(
            brokerage_paise=record.brokerage_paise,
            stt_paise=record.stt_paise,
            exchange_paise=record.exchange_paise,
            sebi_paise=record.sebi_paise,
            stamp_paise=record.stamp_paise,
            gst_paise=record.gst_paise,
        )
        for record in priced
    ]
    for billed in compare_with_statement(charges, rows):
        if not billed.agrees:
            yield Difference(
                kind=Kind.CHARGES,
                subject=billed.component.removesuffix("_paise"),
                expected=f"{billed.ours_paise} paise",
                found=f"{float(billed.billed_paise):.2f} paise",
                remedy=REMEDIES[Kind.CHARGES],
            )
