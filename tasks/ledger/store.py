"""The ledger's one door: record what happened, read it back, derive the rest.

Every method may raise LedgerUnavailable (LedgerRefused where repeating cannot help); nothing else of a database
gets out. migrate(url) first; a Ledger on a schema that is not this code's is refused.

    Ledger(url).close()      url: sqlite:///path or postgresql+psycopg://user@host/name

    sessions   open_session(key, salt) -> the salt that holds (the first opening's)
               record_start(SessionStart) · starts(session_id) · session_ids(day=, underlying=, mode=) · key_of(session_id)
    orders     record_intent(IntentRecord)       one commit; LeaseLost when its fence is not the current one
               record_order_event(OrderEventRecord) · record_fill(FillRecord) -> bool (False: known already)
               intents(session_id) · order_events(client_order_id)
               fills(session_id) [(client_order_id, intent, side, FillRecord)]
    history    record_decisions / record_candles / record_ticks(session_id, [Tick]) in batches
               decisions(session_id, kind=None) · candles(session_id, seconds) · ticks(session_id)
    commands   request_command(CommandRecord) · open_commands(session_id) · command(id)
               answer_command(id, answer, at_ms) -> bool (False: answered already)
    evening    record_charges([ChargeRecord]) · charges(session_id)
               record_reconciliation(session_id, run_id, at_ms, state, differences)
               reconciliations(session_id) · trades(session_id) -> tuple[TradeRecord, ...]
    lease      leases.take, take_over, renew, release, holder (lease.py)

Invariants:
1. Recording the same thing twice is a no-op; recording something else under the same key is refused.
2. An intent and all its orders are one commit, and the lease is checked inside it.
3. The fills of an order never overlap: the quantity of an order is the sum of its fills.
"""

from collections.abc import Callable, Iterable, Sequence
from datetime import date
from typing import Any, TypeVar

from strategy.events import Side, Tick
from strategy.instruments import Underlying
from tasks.ledger import LeaseLost, LedgerRefused, LedgerUnavailable
from tasks.ledger.database import (
    PATIENT_TIMEOUT_S,
    SCHEMA_REVISION,
    URGENT_TIMEOUT_S,
    VERSION_TABLE,
    Transaction,
    insert_sql,
    open_database,
)
from tasks.ledger.lease import Leases, lease_lost_text
from tasks.ledger.records import (
    CandleRecord,
    ChargeRecord,
    CommandRecord,
    DecisionRecord,
    DifferenceRecord,
    FillRecord,
    IntentRecord,
    OrderEventRecord,
    OrderRecord,
    ReconciliationRecord,
    SessionKey,
    SessionStart,
    TradeRecord,
)
from tasks.ledger.rows import Row, Rows, Shape, SqliteWire, clean, fingerprint
from tasks.ledger.trades import read_trades

R = TypeVar("R")

START = Shape(SessionStart)
INTENT = Shape(IntentRecord, without=["orders"])
ORDER = Shape(OrderRecord)
ORDER_EVENT = Shape(OrderEventRecord)
FILL = Shape(FillRecord)
DECISION = Shape(DecisionRecord)
CANDLE = Shape(CandleRecord)
TICK = Shape(Tick)
COMMAND = Shape(CommandRecord, without=["answer", "answered_at_ms"])
CHARGE = Shape(ChargeRecord)
DIFFERENCE = Shape(DifferenceRecord)


def migrate(url: str) -> None:
    """Create the ledger of `url`, or bring its schema up to this code's. LedgerUnavailable."""
    from tasks.ledger.migrations.run import migrate as bring_up  # noqa: PLC0415  Alembic takes seconds to import

    bring_up(url)


class Ledger:
    """An open ledger. Safe to use from several threads; `leases` says who may trade."""

    def __init__(
        self,
        url: str,
        *,
        urgent_timeout_s: float = URGENT_TIMEOUT_S,
        patient_timeout_s: float = PATIENT_TIMEOUT_S,
    ) -> None:
        self._database = open_database(
            url, urgent_timeout_s=urgent_timeout_s, patient_timeout_s=patient_timeout_s
        )
        self.leases = Leases(self._database)
        self._wire = self._database.wire
        try:
            self._check_schema()
        except BaseException:
            self._database.close()
            raise

    @property
    def place(self) -> str:
        """Where the rows are, for people; without a password."""
        return self._database.place

    def close(self) -> None:
        """Give the connections back; idempotent."""
        self._database.close()

    # sessions

    def open_session(self, key: SessionKey, salt: str) -> str:
        """Record the session, once; the salt of its first opening holds."""
        row = (
            key.session_id,
            key.account,
            str(key.underlying),
            key.mode,
            self._wire.day(key.day),
            clean(salt),
        )

        def work(transaction: Transaction) -> str:
            transaction.run(
                insert_sql(
                    "session",
                    ["session_id", "account", "underlying", "mode", "day", "salt"],
                    skip_known=True,
                ),
                *row,
            )
            found = transaction.rows("SELECT salt FROM session WHERE session_id = ?", key.session_id)
            return str(found[0][0])

        return self._database.write(work)

    def record_start(self, start: SessionStart) -> None:
        """One start of the trading process; each holds a fence of its own."""
        self._record_once("session_start", START, start, ["session_id", "fence"])

    def starts(self, session_id: str) -> tuple[SessionStart, ...]:
        """The starts of a session, first to last."""
        return self._read(START, "session_start WHERE session_id = ? ORDER BY fence", session_id)

    def session_ids(
        self, *, day: date | None = None, underlying: Underlying | None = None, mode: str | None = None
    ) -> tuple[str, ...]:
        """Ids of the sessions that match, by day."""
        wanted = {
            "day": None if day is None else self._wire.day(day),
            "underlying": None if underlying is None else str(underlying),
            "mode": mode,
        }
        filters = {column: value for column, value in wanted.items() if value is not None}
        where = "".join(f" AND {column} = ?" for column in filters)
        rows = self._database.rows(
            f"SELECT session_id FROM session WHERE 1 = 1{where} ORDER BY day, session_id",  # noqa: S608  constants only
            *filters.values(),
        )
        return tuple(row[0] for row in rows)

    def key_of(self, session_id: str) -> SessionKey:
        """The key of a recorded session; LookupError for any other."""
        rows = self._database.rows(
            "SELECT account, underlying, mode, day FROM session WHERE session_id = ?", session_id
        )
        if not rows:
            raise LookupError(
                f"expected a session of this ledger, found {session_id!r}; session_ids() lists what there is"
            )
        account, underlying, mode, day = rows[0]
        return SessionKey(
            account=account, underlying=Underlying(underlying), mode=mode, day=self._wire.date(day)
        )

    # orders

    def record_intent(self, intent: IntentRecord, *, already_sent: bool = False) -> None:
        """Commit the intent and its orders; LeaseLost when the fence is not current, and nothing is recorded.

        `already_sent` is for an intent read back from the journal: it happened, so the lease is not asked.
        """
        row = _encoded(INTENT.encoder(self._wire), [intent])[0]
        orders = [
            (intent.session_id, intent.intent, *values)
            for values in _encoded(ORDER.encoder(self._wire), intent.orders)
        ]

        def work(transaction: Transaction) -> None:
            if not already_sent:
                self._check_fence(transaction, intent.session_id, intent.fence)
            if transaction.run(insert_sql("intent", INTENT.columns, skip_known=True), *row):
                for order in orders:
                    transaction.run(_ORDER_SQL, *order)
                return
            known = self._intents(transaction.rows, " AND i.intent = ?", intent.session_id, intent.intent)
            if known != (_as_stored(INTENT, intent, orders=tuple(intent.orders)),):
                raise LedgerRefused(
                    f"expected intent {intent.intent} of {intent.session_id} to be new or as recorded, found"
                    " another one under that number; count intents on from intents(session_id)"
                )

        self._database.write(work, urgent=True)

    def record_order_event(self, event: OrderEventRecord) -> None:
        """One thing learnt about an order."""
        row = _encoded(ORDER_EVENT.encoder(self._wire), [event])[0]
        columns = (*ORDER_EVENT.columns, "fingerprint")
        sql = insert_sql("order_event", columns, skip_known=True)
        self._database.write(lambda transaction: transaction.run(sql, *row, fingerprint(*row)), urgent=True)

    def record_fill(self, fill: FillRecord) -> bool:
        """One execution; False when the ledger has its quantity already (an update came twice, or late)."""
        row = _encoded(FILL.encoder(self._wire), [fill])[0]

        def work(transaction: Transaction) -> bool:
            order = transaction.rows(
                f"SELECT 1 FROM client_order WHERE client_order_id = ?{self._database.row_lock}",  # noqa: S608  constants only
                fill.client_order_id,
            )
            if not order:
                raise LedgerRefused(
                    f"expected the fill of a recorded order, found {fill.client_order_id!r};"
                    " record its intent first"
                )
            known = transaction.rows(
                "SELECT COALESCE(MAX(cumulative_quantity), 0) FROM fill WHERE client_order_id = ?",
                fill.client_order_id,
            )[0][0]
            if fill.cumulative_quantity <= known:
                return False
            if fill.cumulative_quantity - fill.quantity < known:
                raise LedgerRefused(
                    f"expected a fill of {fill.client_order_id} from {known} on, found one from"
                    f" {fill.cumulative_quantity - fill.quantity} to {fill.cumulative_quantity}: it would"
                    " count units twice; derive the step from fills(session_id)"
                )
            return bool(transaction.run(insert_sql("fill", FILL.columns, skip_known=True), *row))

        return self._database.write(work, urgent=True)

    def intents(self, session_id: str) -> tuple[IntentRecord, ...]:
        """The intents of a session with their orders, in order."""
        return self._intents(self._database.rows, "", session_id)

    def order_events(self, client_order_id: str) -> tuple[OrderEventRecord, ...]:
        """What happened to an order, in the order in which it was recorded."""
        return self._read(
            ORDER_EVENT, "order_event WHERE client_order_id = ? ORDER BY number", client_order_id
        )

    def fills(self, session_id: str) -> tuple[tuple[str, int, Side, FillRecord], ...]:
        """(client_order_id, intent, side, fill) of a session, in order of time."""
        listed = ", ".join(f"f.{column}" for column in FILL.columns)
        rows = self._database.rows(
            f"SELECT i.intent, i.side, {listed}"  # noqa: S608  constants only
            " FROM intent i"
            " JOIN client_order o ON o.session_id = i.session_id AND o.intent = i.intent"
            " JOIN fill f ON f.client_order_id = o.client_order_id"
            " WHERE i.session_id = ? ORDER BY f.at, i.intent, o.slice_number, f.cumulative_quantity",
            session_id,
        )
        decode = FILL.decoder(self._wire)
        return tuple((row[2], row[0], Side(row[1]), decode(row[2:])) for row in rows)

    # history

    def record_decisions(self, decisions: Iterable[DecisionRecord]) -> None:
        """Decisions that send no order, in one commit."""
        rows = [(*row, fingerprint(*row)) for row in _encoded(DECISION.encoder(self._wire), decisions)]
        self._insert_new("decision", (*DECISION.columns, "fingerprint"), rows)

    def record_candles(self, candles: Iterable[CandleRecord]) -> None:
        """Closed candles, in one commit; the first recording of a candle counts."""
        self._insert_new("candle", CANDLE.columns, _encoded(CANDLE.encoder(self._wire), candles))

    def record_ticks(self, session_id: str, ticks: Sequence[Tick]) -> None:
        """Ticks in their order of arrival, in one commit. The same batch again changes nothing."""
        rows = _encoded(TICK.encoder(self._wire), ticks)

        def work(transaction: Transaction) -> None:
            batch = transaction.rows(
                "INSERT INTO tick_batch (session_id, fingerprint) VALUES (?, ?)"
                " ON CONFLICT DO NOTHING RETURNING batch",
                session_id,
                fingerprint(*rows),
            )
            if batch:
                numbered = ((batch[0][0], number, *row) for number, row in enumerate(rows))
                transaction.insert("tick", ("batch", "number", *TICK.columns), numbered)

        if rows:
            self._database.write(work)

    def decisions(self, session_id: str, kind: str | None = None) -> tuple[DecisionRecord, ...]:
        """Decisions of a session (of one kind), in the order in which they were recorded."""
        if kind is None:
            return self._read(DECISION, "decision WHERE session_id = ? ORDER BY number", session_id)
        return self._read(
            DECISION, "decision WHERE session_id = ? AND kind = ? ORDER BY number", session_id, kind
        )

    def candles(self, session_id: str, seconds: int) -> tuple[CandleRecord, ...]:
        """Candles of one length, oldest first."""
        return self._read(
            CANDLE, "candle WHERE session_id = ? AND seconds = ? ORDER BY start", session_id, seconds
        )

    def ticks(self, session_id: str) -> tuple[Tick, ...]:
        """All ticks of a session, in their order of arrival."""
        return self._read(
            TICK,
            "tick t JOIN tick_batch b ON b.batch = t.batch WHERE b.session_id = ? ORDER BY t.batch, t.number",
            session_id,
        )

    # commands

    def request_command(self, command: CommandRecord) -> None:
        """Ask the session for something; its loop reads open_commands."""
        self._record_once("command", COMMAND, command, ["command_id"])

    def open_commands(self, session_id: str) -> tuple[CommandRecord, ...]:
        """Requests without an answer, oldest first."""
        return self._commands("c.session_id = ? AND a.command_id IS NULL", session_id)

    def answer_command(self, command_id: str, answer: str, at_ms: int) -> bool:
        """Say what became of a command; False when it was answered before (that answer holds)."""
        sql = insert_sql("command_answer", ["command_id", "answer", "answered_at"], skip_known=True)
        row = (command_id, clean(answer), self._wire.moment(at_ms))
        return bool(self._database.write(lambda transaction: transaction.run(sql, *row)))

    def command(self, command_id: str) -> CommandRecord | None:
        """A command with its answer, if it has one; None for an unknown id."""
        found = self._commands("c.command_id = ?", command_id)
        return found[0] if found else None

    # evening

    def record_charges(self, charges: Iterable[ChargeRecord]) -> None:
        """Charges of executed orders; other amounts than recorded become the order's next revision."""
        columns = ("revision", *CHARGE.columns)
        rows = _encoded(CHARGE.encoder(self._wire), charges)

        def work(transaction: Transaction) -> None:
            for row in rows:
                newest = transaction.rows(
                    f"SELECT {', '.join(columns)} FROM charge WHERE client_order_id = ?"  # noqa: S608  constants only
                    " ORDER BY revision DESC LIMIT 1",
                    row[0],
                )
                if newest and newest[0][1:] == row:
                    continue
                revision = newest[0][0] + 1 if newest else 1
                transaction.run(insert_sql("charge", columns, skip_known=False), revision, *row)

        self._database.write(work)

    def charges(self, session_id: str) -> tuple[ChargeRecord, ...]:
        """The charges that count, by order."""
        listed = ", ".join(f"c.{column}" for column in CHARGE.columns)
        rows = self._database.rows(
            f"SELECT {listed} FROM charge c JOIN client_order o ON o.client_order_id = c.client_order_id"  # noqa: S608  constants only
            " WHERE o.session_id = ? AND NOT EXISTS (SELECT 1 FROM charge newer"
            " WHERE newer.client_order_id = c.client_order_id AND newer.revision > c.revision)"
            " ORDER BY o.intent, o.slice_number",
            session_id,
        )
        decode = CHARGE.decoder(self._wire)
        return tuple(decode(row) for row in rows)

    def record_reconciliation(
        self, session_id: str, run_id: str, at_ms: int, state: str, differences: Iterable[DifferenceRecord]
    ) -> None:
        """One comparison with the broker, and all that it found, in one commit."""
        rows = _encoded(DIFFERENCE.encoder(self._wire), differences)

        def work(transaction: Transaction) -> None:
            number = transaction.rows(
                insert_sql("reconciliation", ["session_id", "run_id", "at", "state"], skip_known=True)
                + " RETURNING number",
                session_id,
                run_id,
                self._wire.moment(at_ms),
                clean(state),
            )
            if number:
                numbered = ((number[0][0], position, *row) for position, row in enumerate(rows))
                transaction.insert("difference", ("reconciliation", "number", *DIFFERENCE.columns), numbered)

        self._database.write(work)

    def reconciliations(self, session_id: str) -> tuple[ReconciliationRecord, ...]:
        """The comparisons of a session, in the order in which they were recorded."""
        listed = ", ".join(f"d.{column}" for column in DIFFERENCE.columns)
        differences: dict[int, list[DifferenceRecord]] = {}
        decode = DIFFERENCE.decoder(self._wire)
        for number, *row in self._database.rows(
            f"SELECT d.reconciliation, {listed} FROM difference d"  # noqa: S608  constants only
            " JOIN reconciliation r ON r.number = d.reconciliation"
            " WHERE r.session_id = ? ORDER BY d.reconciliation, d.number",
            session_id,
        ):
            differences.setdefault(number, []).append(decode(tuple(row)))
        return tuple(
            ReconciliationRecord(
                session_id=session_id,
                run_id=run_id,
                at_ms=self._wire.at_ms(at),
                state=state,
                differences=tuple(differences.get(number, ())),
            )
            for number, run_id, at, state in self._database.rows(
                "SELECT number, run_id, at, state FROM reconciliation WHERE session_id = ? ORDER BY number",
                session_id,
            )
        )

    def trades(self, session_id: str) -> tuple[TradeRecord, ...]:
        """Round trips of the session, derived from its intents, fills and charges (trades.py)."""
        return read_trades(self._database, session_id)

    def rows(self, sql: str, *values: Any) -> list[Row]:
        """Any question to the tables and views (`trade`, `day_total`), with `?` for values; reads only."""
        return self._database.rows(sql, *values)

    # inside

    def _check_schema(self) -> None:
        found = self._database.rows(f"SELECT version_num FROM {VERSION_TABLE}")  # noqa: S608  a constant
        if found != [(SCHEMA_REVISION,)]:
            revision = found[0][0] if found else "none"
            raise LedgerUnavailable(
                f"expected schema {SCHEMA_REVISION} in the ledger {self.place}, found {revision};"
                " bring it up to date with migrate(url), or run the code that it belongs to"
            )

    def _check_fence(self, transaction: Transaction, session_id: str, fence: int) -> None:
        found = transaction.rows(_FENCE_SQL + self._database.share_lock, session_id)
        current, owner = found[0] if found else (None, None)
        if current != fence or not owner:
            raise LeaseLost(lease_lost_text(session_id, fence, current, owner))

    def _record_once(self, table: str, shape: Shape[Any], record: Any, key: Sequence[str]) -> None:
        row = _encoded(shape.encoder(self._wire), [record])[0]
        where = " AND ".join(f"{column} = ?" for column in key)
        values = [row[shape.columns.index(column)] for column in key]

        def work(transaction: Transaction) -> None:
            if transaction.run(insert_sql(table, shape.columns, skip_known=True), *row):
                return
            known = transaction.rows(f"SELECT {shape.listed} FROM {table} WHERE {where}", *values)  # noqa: S608  constants only
            decode = shape.decoder(self._wire)
            if [decode(found) for found in known] != [_as_stored(shape, record)]:
                raise LedgerRefused(
                    f"expected a new {table} or the same as recorded, found another one under {values};"
                    " nothing was recorded: use an id (or a fence) of its own"
                )

        self._database.write(work)

    def _insert_new(self, table: str, columns: Sequence[str], rows: Sequence[Row]) -> None:
        if rows:
            self._database.write(lambda transaction: transaction.insert_new(table, columns, rows))

    def _read(self, shape: Shape[Any], source: str, *values: Any) -> tuple[Any, ...]:
        decode = shape.decoder(self._wire)
        rows = self._database.rows(f"SELECT {shape.listed} FROM {source}", *values)  # noqa: S608  constants only
        return tuple(decode(row) for row in rows)

    def _intents(self, rows: Rows, and_where: str, *values: Any) -> tuple[IntentRecord, ...]:
        decode, decode_order = INTENT.decoder(self._wire), ORDER.decoder(self._wire)
        order_columns = ", ".join(f"o.{column}" for column in ORDER.columns)
        orders: dict[int, list[OrderRecord]] = {}
        for intent, *row in rows(
            f"SELECT o.intent, {order_columns} FROM client_order o JOIN intent i"  # noqa: S608  constants only
            f" ON i.session_id = o.session_id AND i.intent = o.intent WHERE i.session_id = ?{and_where}"
            " ORDER BY o.intent, o.slice_number",
            *values,
        ):
            orders.setdefault(intent, []).append(decode_order(tuple(row)))
        number = INTENT.columns.index("intent")
        return tuple(
            decode(row, orders=tuple(orders.get(row[number], ())))
            for row in rows(
                f"SELECT {INTENT.listed} FROM intent i WHERE i.session_id = ?{and_where} ORDER BY i.intent",  # noqa: S608  constants only
                *values,
            )
        )

    def _commands(self, where: str, *values: Any) -> tuple[CommandRecord, ...]:
        decode = COMMAND.decoder(self._wire)
        listed = ", ".join(f"c.{column}" for column in COMMAND.columns)
        rows = self._database.rows(
            f"SELECT a.answer, a.answered_at, {listed} FROM command c"  # noqa: S608  constants only
            " LEFT JOIN command_answer a ON a.command_id = c.command_id"
            f" WHERE {where} ORDER BY c.requested_at, c.command_id",
            *values,
        )
        return tuple(
            decode(
                row[2:],
                answer=row[0],
                answered_at_ms=None if row[1] is None else self._wire.at_ms(row[1]),
            )
            for row in rows
        )


_ORDER_SQL = insert_sql("client_order", ("session_id", "intent", *ORDER.columns), skip_known=False)
_FENCE_SQL = (
    "SELECT lease.fence, lease.owner FROM session JOIN lease ON lease.account = session.account"
    " AND lease.underlying = session.underlying AND lease.mode = session.mode WHERE session.session_id = ?"
)


def _encoded(encode: Callable[[Any], Row], records: Iterable[Any]) -> list[Row]:
    try:
        return [encode(record) for record in records]
    except (TypeError, ValueError, OverflowError) as fault:
        raise LedgerRefused(
            f"expected numbers, text and times that a database can keep, found a record with others: {fault}"
        ) from fault


def _as_stored(shape: Shape[R], record: R, **others: Any) -> R:
    """The record as it would be read back (explanations as JSON knows them)."""
    wire = SqliteWire()
    return shape.decoder(wire)(shape.encoder(wire)(record), **others)
