"""The broker's books of a session's day beside the ledger's, compared and recorded.

Reading is here, the comparison is `strategy.reconcile`. Nothing is mended: a difference is recorded, with a remedy.
"""

from collections import defaultdict
from collections.abc import Iterable

from strategy.events import Side
from strategy.reconcile import Book, OrderFacts, Reconciliation, reconcile
from tasks.broker import Broker, BrokerOrder, BrokerTrade, OrderStatus
from tasks.ledger.records import DifferenceRecord, OrderEventRecord
from tasks.ledger.store import Ledger

CLEAN = "clean"
MISMATCHED = "mismatched"


def reconcile_session(
    ledger: Ledger, broker: Broker, session_id: str, *, run_id: str, at_ms: int, day_over: bool = True
) -> Reconciliation:
    """Compare, record and return what was found. BrokerUnavailable and LedgerUnavailable pass through."""
    key = ledger.key_of(session_id)
    prefix = key.order_prefix(ledger.open_session(key, salt=""))
    found = reconcile(
        ledger=ledger_book(ledger, session_id),
        broker=broker_book(broker.orders(), broker.trades(), securities=_securities(ledger, session_id)),
        is_ours=lambda client_order_id: client_order_id.startswith(f"{prefix}-"),
        day_over=day_over,
    )
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
    state = CLEAN if found.agrees else MISMATCHED
    ledger.record_reconciliation(session_id, run_id, at_ms, state, differences)
    return found


def ledger_book(ledger: Ledger, session_id: str) -> Book:
    """What the ledger says was ordered and is held."""
    filled: dict[str, list[int]] = defaultdict(lambda: [0, 0])
    net: dict[str, int] = defaultdict(int)
    intents = ledger.intents(session_id)
    security_of = {order.client_order_id: intent.security for intent in intents for order in intent.orders}
    for client_order_id, _, side, fill in ledger.fills(session_id):
        filled[client_order_id][0] += fill.quantity
        filled[client_order_id][1] += fill.value_paise
        net[security_of[client_order_id]] += fill.quantity if side is Side.BUY else -fill.quantity
    orders = []
    for intent in intents:
        for order in intent.orders:
            events = ledger.order_events(order.client_order_id)
            quantity, value_paise = filled[order.client_order_id]
            orders.append(
                OrderFacts(
                    client_order_id=order.client_order_id,
                    broker_order_id=next((event.broker_order_id for event in events if event.broker_order_id), ""),
                    security=intent.security,
                    side=intent.side,
                    quantity=order.quantity,
                    filled_quantity=quantity,
                    filled_value_paise=value_paise,
                    is_open=not any(_is_end(event) for event in events),
                )
            )
    return Book(orders=tuple(orders), net_quantities=dict(net))


def _is_end(event: OrderEventRecord) -> bool:
    if event.kind in {"REFUSED", "ABSENT"}:
        return True
    return event.status in set(OrderStatus) and OrderStatus(event.status).is_final


def broker_book(orders: Iterable[BrokerOrder], trades: Iterable[BrokerTrade], *, securities: frozenset[str]) -> Book:
    """What the broker says, for these securities; money and positions from the single trades of its trade book."""
    filled: dict[str, list[int]] = defaultdict(lambda: [0, 0])
    net: dict[str, int] = defaultdict(int)
    for trade in trades:
        filled[trade.broker_order_id][0] += trade.quantity
        filled[trade.broker_order_id][1] += trade.quantity * trade.price_paise
        if trade.security in securities:
            net[trade.security] += trade.quantity if trade.side is Side.BUY else -trade.quantity
    return Book(
        orders=tuple(
            OrderFacts(
                client_order_id=order.client_order_id,
                broker_order_id=order.broker_order_id,
                security=order.security,
                side=order.side,
                quantity=order.quantity,
                filled_quantity=filled[order.broker_order_id][0],
                filled_value_paise=filled[order.broker_order_id][1],
                is_open=not order.status.is_final,
            )
            for order in orders
        ),
        net_quantities=dict(net),
    )


def _securities(ledger: Ledger, session_id: str) -> frozenset[str]:
    return frozenset(intent.security for intent in ledger.intents(session_id))
