"""Intents, their orders, what was learnt about them, and their fills.

Invariants:
1. An intent and all its orders are one commit, made before anything is sent; the lease is checked inside it.
2. Fills of an order never overlap: the quantity that an order filled is the sum of its fills.
3. The same again is a no-op; something else under the same key is refused.
"""

# ruff: noqa: S608  SQL is put together from names in this package alone; every value is a parameter

from functools import partial
from typing import Any

from strategy.events import Side
from tasks.ledger import LeaseLost, LedgerRefused
from tasks.ledger.database import Database, Transaction, insert_sql
from tasks.ledger.lease import lease_lost_text
from tasks.ledger.recording import as_stored, encoded_row, read
from tasks.ledger.records import FillRecord, IntentRecord, OrderEventRecord, OrderRecord
from tasks.ledger.rows import Rows, Shape, Wire, fingerprint

INTENT = Shape(IntentRecord, without=["orders"])
ORDER = Shape(OrderRecord)
ORDER_EVENT = Shape(OrderEventRecord)
FILL = Shape(FillRecord)

_NEW_INTENT = insert_sql("intent", INTENT.columns, skip_known=True)
_ORDER_COLUMNS = ("session_id", "intent", *ORDER.columns)
_NEW_ORDER = insert_sql("client_order", _ORDER_COLUMNS, skip_known=False)
_NEW_EVENT = insert_sql("order_event", (*ORDER_EVENT.columns, "fingerprint"), skip_known=True)
_NEW_FILL = insert_sql("fill", FILL.columns, skip_known=True)
_FENCE = (
    "SELECT lease.fence, lease.owner FROM session JOIN lease ON lease.account = session.account"
    " AND lease.underlying = session.underlying AND lease.mode = session.mode WHERE session.session_id = ?"
)
_MAY_RECORD = (
    "SELECT 1 FROM session JOIN lease ON lease.account = session.account AND lease.underlying = session.underlying"
    " AND lease.mode = session.mode WHERE session.session_id = ? AND lease.fence = ? AND lease.owner IS NOT NULL"
    " AND NOT EXISTS (SELECT 1 FROM intent WHERE intent.session_id = ? AND intent.intent = ?)"
)
_ORDERS = (
    "SELECT o.intent, " + ", ".join(f"o.{column}" for column in ORDER.columns) + " FROM client_order o"
    " WHERE o.session_id = ?{also} ORDER BY o.intent, o.slice_number"
)
_INTENTS = f"SELECT {INTENT.listed} FROM intent o WHERE o.session_id = ?{{also}} ORDER BY o.intent"
_FILLS = (
    "SELECT i.intent, i.side, " + ", ".join(f"f.{column}" for column in FILL.columns) + " FROM intent i"
    " JOIN client_order o ON o.session_id = i.session_id AND o.intent = i.intent"
    " JOIN fill f ON f.client_order_id = o.client_order_id"
    " WHERE i.session_id = ? ORDER BY f.at, i.intent, o.slice_number, f.cumulative_quantity"
)


def record_intent(database: Database, intent: IntentRecord, *, already_sent: bool) -> None:
    """Commit the intent and its orders; LeaseLost when its fence is not current, and nothing is recorded."""
    row = encoded_row(INTENT, database.wire, intent)
    orders = [encoded_row(ORDER, database.wire, order) for order in intent.orders]
    if not already_sent and database.insert_if(
        (_MAY_RECORD, (intent.session_id, intent.fence, intent.session_id, intent.intent)),
        [
            ("intent", INTENT.columns, row),
            *(("client_order", _ORDER_COLUMNS, (intent.session_id, intent.intent, *order)) for order in orders),
        ],
    ):
        return
    # Known already, sent already, or the lease is another's: find out which, and say so.

    def work(transaction: Transaction) -> None:
        if not already_sent:
            _check_fence(transaction.rows, database.share_lock, intent.session_id, intent.fence)
        if transaction.run(_NEW_INTENT, *row):
            for order in orders:
                transaction.run(_NEW_ORDER, intent.session_id, intent.intent, *order)
            return
        known = _intents(transaction.rows, database.wire, " AND o.intent = ?", intent.session_id, intent.intent)
        if known != (as_stored(INTENT, intent, orders=tuple(intent.orders)),):
            raise LedgerRefused(
                f"expected intent {intent.intent} of {intent.session_id} to be new or as recorded, found"
                " another one under that number; nothing was recorded: count on from intents(session_id)"
            )

    database.write(work, urgent=True)


def demand_lease(database: Database, session_id: str, fence: int) -> None:
    """Return where `fence` is the session's current one; LeaseLost otherwise."""
    _check_fence(partial(database.rows, urgent=True), "", session_id, fence)


def record_order_event(database: Database, event: OrderEventRecord) -> None:
    """One thing learnt about an order."""
    row = encoded_row(ORDER_EVENT, database.wire, event)
    database.write(lambda transaction: transaction.run(_NEW_EVENT, *row, fingerprint(*row)), urgent=True)


def record_fill(database: Database, fill: FillRecord) -> bool:
    """One execution; False when the ledger has its quantity already (an update came twice, or late)."""
    row = encoded_row(FILL, database.wire, fill)

    def work(transaction: Transaction) -> bool:
        order = transaction.rows(
            f"SELECT 1 FROM client_order WHERE client_order_id = ?{database.row_lock}",
            fill.client_order_id,
        )
        if not order:
            raise LedgerRefused(
                f"expected the fill of a recorded order, found {fill.client_order_id!r};"
                " nothing was recorded: record its intent first"
            )
        known = transaction.rows(
            "SELECT COALESCE(MAX(cumulative_quantity), 0) FROM fill WHERE client_order_id = ?",
            fill.client_order_id,
        )[0][0]
        if fill.cumulative_quantity <= known:
            return False
        begins = fill.cumulative_quantity - fill.quantity
        if begins < known:
            raise LedgerRefused(
                f"expected a fill of {fill.client_order_id} that begins at {known}, found one from {begins}"
                f" to {fill.cumulative_quantity}: it would count units twice; derive the step from fills()"
            )
        return bool(transaction.run(_NEW_FILL, *row))

    return database.write(work, urgent=True)


def intents(database: Database, session_id: str) -> tuple[IntentRecord, ...]:
    """The intents of a session with their orders, in order."""
    return _intents(database.rows, database.wire, "", session_id)


def order_events(database: Database, client_order_id: str) -> tuple[OrderEventRecord, ...]:
    """What happened to an order, in the order in which it was recorded."""
    return read(database, ORDER_EVENT, "order_event WHERE client_order_id = ? ORDER BY number", client_order_id)


def fills(database: Database, session_id: str) -> tuple[tuple[str, int, Side, FillRecord], ...]:
    """(client_order_id, intent, side, fill) of a session, in order of time."""
    decode = FILL.decoder(database.wire)
    return tuple((row[2], row[0], Side(row[1]), decode(row[2:])) for row in database.rows(_FILLS, session_id))


def _check_fence(rows: Rows, share_lock: str, session_id: str, fence: int) -> None:
    found = rows(_FENCE + share_lock, session_id)
    current, owner = found[0] if found else (None, None)
    if current != fence or not owner:
        raise LeaseLost(lease_lost_text(session_id, fence, current, owner))


def _intents(rows: Rows, wire: Wire, also: str, *values: Any) -> tuple[IntentRecord, ...]:
    decode, decode_order = INTENT.decoder(wire), ORDER.decoder(wire)
    # Intents first: their orders were committed with them, so none of these can be without its own.
    found = rows(_INTENTS.format(also=also), *values)
    orders: dict[int, list[OrderRecord]] = {}
    for intent, *order in rows(_ORDERS.format(also=also), *values):
        orders.setdefault(intent, []).append(decode_order(tuple(order)))
    number = INTENT.columns.index("intent")
    return tuple(decode(row, orders=tuple(orders.get(row[number], ()))) for row in found)
