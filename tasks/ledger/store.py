"""The ledger's one door: record what happened, read it back, derive the rest.

Every method may raise LedgerUnavailable (LedgerRefused where repeating cannot help); nothing else of a
database gets out. migrate(url) first; a Ledger on a schema that is not this code's is refused.

    Ledger(url).close()      url: sqlite:///path or postgresql+psycopg://user@host/name

    sessions   open_session(key, salt) -> the salt that holds (the first opening's)
               record_start(SessionStart) · starts(session_id)
               session_ids(day=, underlying=, mode=) · key_of(session_id)
               record_arming(ArmingRecord) · armings(account, underlying, since)
    orders     record_intent(IntentRecord)       one commit; LeaseLost when its fence is not the current one
               demand_lease(session_id, fence)   the same question, and nothing is written
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
    analytics  record_day_columns / day_columns(first, last, layout) · tick_columns(session_id, security)
    earlier    record_imported(trades, candles) · imported_trades() · imported_candles()
    replay     record_heard(session_id, fence, number, events) · heard(session_id) · tick_count(session_id)
    lease      leases.take, take_over, renew, release, holder (lease.py)

Invariants:
1. Recording the same thing twice is a no-op; recording something else under the same key is refused.
2. An intent and all its orders are one commit, and the lease is checked inside it.
3. The fills of an order never overlap: the quantity of an order is the sum of its fills.
"""

# ruff: noqa: S608  SQL is put together from names in this package alone; every value is a parameter

from collections.abc import Iterable
from datetime import date
from typing import Any

from strategy.events import Side, Tick
from strategy.instruments import Underlying
from tasks.ledger import LedgerUnavailable, columns, commands, evening, history, orders, sessions, trades
from tasks.ledger.columns import DayColumns
from tasks.ledger.database import (
    PATIENT_TIMEOUT_S,
    SCHEMA_REVISION,
    URGENT_TIMEOUT_S,
    VERSION_TABLE,
    Database,
    open_database,
)
from tasks.ledger.lease import Leases
from tasks.ledger.records import (
    ArmingRecord,
    CandleRecord,
    ChargeRecord,
    CommandRecord,
    DecisionRecord,
    DifferenceRecord,
    FillRecord,
    ImportedCandle,
    ImportedTrade,
    IntentRecord,
    OrderEventRecord,
    ReconciliationRecord,
    SessionKey,
    SessionStart,
    TradeRecord,
)
from tasks.ledger.rows import Row, Wire


def migrate(url: str) -> None:
    """Create the ledger of `url`, or bring its schema up to this code's. LedgerUnavailable."""
    from tasks.ledger.migrations.run import migrate as bring_up  # noqa: PLC0415  Alembic is slow to import

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
        self._database = open_database(url, urgent_timeout_s=urgent_timeout_s, patient_timeout_s=patient_timeout_s)
        self.leases = Leases(self._database)
        try:
            _check_schema(self._database)
        except BaseException:
            self._database.close()
            raise

    @property
    def place(self) -> str:
        """Where the rows are, for people; without a password."""
        return self._database.place

    @property
    def wire(self) -> Wire:
        """How `rows` shows times and dates of this database."""
        return self._database.wire

    def close(self) -> None:
        """Give the connections back; idempotent."""
        self._database.close()

    def rows(self, sql: str, *values: Any) -> list[Row]:
        """Any question to the tables and views (`trade`, `day_total`), with `?` for values; reads only."""
        return self._database.rows(sql, *values)

    # Sessions

    def open_session(self, key: SessionKey, salt: str) -> str:
        """Record the session, once; the salt of its first opening holds."""
        return sessions.open_session(self._database, key, salt)

    def record_start(self, start: SessionStart) -> None:
        """One start of the trading process; each holds a fence of its own."""
        sessions.record_start(self._database, start)

    def starts(self, session_id: str) -> tuple[SessionStart, ...]:
        """The starts of a session, first to last."""
        return sessions.starts(self._database, session_id)

    def session_ids(
        self, *, day: date | None = None, underlying: Underlying | None = None, mode: str | None = None
    ) -> tuple[str, ...]:
        """Ids of the sessions that match, by day."""
        return sessions.session_ids(self._database, day=day, underlying=underlying, mode=mode)

    def living_session_ids(self, now_ms: int) -> tuple[str, ...]:
        """Sessions that trade now: their last start holds the lease and keeps it alive."""
        return sessions.living_session_ids(self._database, now_ms)

    def uncompared_session_ids(self) -> tuple[str, ...]:
        """Ids of the sessions that were not compared with the broker since they last started."""
        return sessions.uncompared_session_ids(self._database)

    def key_of(self, session_id: str) -> SessionKey:
        """The key of a recorded session; LookupError for any other."""
        return sessions.key_of(self._database, session_id)

    def record_arming(self, arming: ArmingRecord) -> None:
        """The operator's next word about real money on a day; LedgerRefused when its number is taken."""
        sessions.record_arming(self._database, arming)

    def armings(self, account: str, underlying: Underlying, since: date) -> tuple[ArmingRecord, ...]:
        """What was said about the days from `since` on, by day, first to last; of a day the last word counts."""
        return sessions.armings(self._database, account, underlying, since)

    # Orders

    def record_intent(self, intent: IntentRecord, *, already_sent: bool = False) -> None:
        """Commit the intent and its orders; LeaseLost when its fence is not current, and nothing is recorded.

        `already_sent` is for an intent read back from the journal: it happened, so the lease is not asked.
        """
        orders.record_intent(self._database, intent, already_sent=already_sent)

    def demand_lease(self, session_id: str, fence: int) -> None:
        """Return where `fence` is the session's current one; LeaseLost otherwise. Writes nothing."""
        orders.demand_lease(self._database, session_id, fence)

    def record_order_event(self, event: OrderEventRecord) -> None:
        """One thing learnt about an order."""
        orders.record_order_event(self._database, event)

    def record_fill(self, fill: FillRecord) -> bool:
        """One execution; False when the ledger has its quantity already (an update came twice, or late)."""
        return orders.record_fill(self._database, fill)

    def intents(self, session_id: str) -> tuple[IntentRecord, ...]:
        """The intents of a session with their orders, in order."""
        return orders.intents(self._database, session_id)

    def order_events(self, client_order_id: str) -> tuple[OrderEventRecord, ...]:
        """What happened to an order, in the order in which it was recorded."""
        return orders.order_events(self._database, client_order_id)

    def fills(self, session_id: str) -> tuple[tuple[str, int, Side, FillRecord], ...]:
        """(client_order_id, intent, side, fill) of a session, in order of time."""
        return orders.fills(self._database, session_id)

    # History

    def record_decisions(self, decisions: Iterable[DecisionRecord]) -> None:
        """Decisions that send no order, in one commit."""
        history.record_decisions(self._database, decisions)

    def record_candles(self, candles: Iterable[CandleRecord]) -> None:
        """Closed candles, in one commit; the first recording of a candle counts."""
        history.record_candles(self._database, candles)

    def record_ticks(self, session_id: str, ticks: Iterable[Tick]) -> None:
        """Ticks in their order of arrival, in one commit; the same batch again changes nothing."""
        history.record_ticks(self._database, session_id, ticks)

    def decisions(self, session_id: str, kind: str | None = None) -> tuple[DecisionRecord, ...]:
        """Decisions of a session (of one kind), in the order in which they were recorded."""
        return history.decisions(self._database, session_id, kind)

    def candles(self, session_id: str, seconds: int) -> tuple[CandleRecord, ...]:
        """Candles of one length, oldest first."""
        return history.candles(self._database, session_id, seconds)

    def ticks(self, session_id: str) -> tuple[Tick, ...]:
        """All ticks of a session, in their order of arrival."""
        return history.ticks(self._database, session_id)

    def tick_count(self, session_id: str) -> int:
        """How many ticks of a session are recorded."""
        return history.tick_count(self._database, session_id)

    def record_heard(self, session_id: str, fence: int, number: int, events: str) -> None:
        """The next piece of what the rules of one start heard beside ticks; the same number again changes nothing."""
        history.record_heard(self._database, session_id, fence, number, events)

    def heard(self, session_id: str) -> tuple[tuple[int, int, str], ...]:
        """(fence, number, events) of a session, in order; `tasks.trading.heard` reads them."""
        return history.heard(self._database, session_id)

    # Commands

    def request_command(self, command: CommandRecord) -> None:
        """Ask the session for something; its loop reads open_commands."""
        commands.request_command(self._database, command)

    def open_commands(self, session_id: str) -> tuple[CommandRecord, ...]:
        """Requests without an answer, oldest first."""
        return commands.open_commands(self._database, session_id)

    def answer_command(self, command_id: str, answer: str, at_ms: int) -> bool:
        """Say what became of a command; False when it was answered before (that answer holds)."""
        return commands.answer_command(self._database, command_id, answer, at_ms)

    def command(self, command_id: str) -> CommandRecord | None:
        """A command with its answer, if it has one; None for an unknown id."""
        return commands.command(self._database, command_id)

    # The evening

    def record_charges(self, charges: Iterable[ChargeRecord]) -> None:
        """Charges of executed orders; other amounts than recorded become the order's next revision."""
        evening.record_charges(self._database, charges)

    def charges(self, session_id: str) -> tuple[ChargeRecord, ...]:
        """The charges that count, by order."""
        return evening.charges(self._database, session_id)

    def record_reconciliation(
        self, session_id: str, run_id: str, at_ms: int, state: str, differences: Iterable[DifferenceRecord]
    ) -> None:
        """One comparison with the broker, and all that it found, in one commit."""
        evening.record_reconciliation(
            self._database, session_id, run_id=run_id, at_ms=at_ms, state=state, differences=differences
        )

    def reconciliations(self, session_id: str) -> tuple[ReconciliationRecord, ...]:
        """The comparisons of a session, in the order in which they were recorded."""
        return evening.reconciliations(self._database, session_id)

    def trades(self, session_id: str) -> tuple[TradeRecord, ...]:
        """Round trips of the session, derived from its intents, fills and charges."""
        return trades.read_trades(self._database, session_id)

    def record_day_columns(self, packed: DayColumns, layout: int) -> None:
        """A session's closed trades, packed for analytics; the same again changes nothing."""
        columns.record_day_columns(self._database, packed, layout)

    def day_columns(self, first: date | None, last: date | None, layout: int) -> dict[str, DayColumns]:
        """Packed trades by session, of the days from `first` to `last`."""
        return columns.day_columns(self._database, first, last, layout)

    def tick_columns(self, session_id: str, security: str) -> tuple[list[int], list[int]]:
        """Times (Unix milliseconds) and prices (paise) of one security's ticks, in their order of arrival."""
        return history.tick_columns(self._database, session_id, security)

    # What an earlier bot recorded

    def record_imported(self, trades: Iterable[ImportedTrade], candles: Iterable[ImportedCandle]) -> None:
        """Rows of an earlier bot; those that are known are left as they are."""
        columns.record_imported_trades(self._database, trades)
        columns.record_imported_candles(self._database, candles)

    def imported_trades(self) -> tuple[ImportedTrade, ...]:
        """Trades of earlier bots, by day and time."""
        return columns.imported_trades(self._database)

    def imported_candles(self) -> tuple[ImportedCandle, ...]:
        """Candles of earlier bots, in order of time."""
        return columns.imported_candles(self._database)


def _check_schema(database: Database) -> None:
    found = database.rows(f"SELECT version_num FROM {VERSION_TABLE}")
    if found != [(SCHEMA_REVISION,)]:
        revision = found[0][0] if found else "none"
        raise LedgerUnavailable(
            f"expected schema {SCHEMA_REVISION} in the ledger {database.place}, found {revision};"
            " bring it up to date with migrate(url), or run the code that it belongs to"
        )
