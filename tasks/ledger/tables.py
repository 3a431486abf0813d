"""The tables: how the ledger keeps what happened, with its rules as constraints of the database itself.

Invariants, all held by the database (SQLite and PostgreSQL alike):
1. Every table but `lease` is append-only: triggers refuse UPDATE and DELETE (migrations/history.py).
2. Every table has a natural key, so recording twice is a no-op.
3. Money is whole paise in BIGINT, quantities are whole units; times are aware UTC.
4. Nothing derivable is stored: positions, P&L, counters and halts are read from fills and decisions. The one
   exception serves speed and decides nothing: `day_columns`.

SQLModel tables do not validate values; the constraints do. The store writes with the raw drivers and never
loads this module: it serves the migrations, the comparison of schema and models, and ad-hoc queries.
"""

from datetime import date, datetime
from typing import Any, ClassVar

from sqlalchemy import (
    JSON,
    BigInteger,
    CheckConstraint,
    Double,
    ForeignKeyConstraint,
    Index,
    Integer,
    MetaData,
    UniqueConstraint,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlmodel import Field, SQLModel

PAISE = BigInteger
DETAIL = JSON().with_variant(JSONB, "postgresql")
# A table with a natural key is one tree on SQLite, by that key: fewer pages to sync in a commit.
ONE_TREE = {"sqlite_with_rowid": False}
# PostgreSQL would ask for a candle's session row by row: there, a trigger asks batch by batch (migration 0005).
SQLITE_ALONE = "fk_candle_session_id"
# SQLite numbers rows by itself only for a column declared exactly INTEGER PRIMARY KEY.
ROW_NUMBER = BigInteger().with_variant(Integer, "sqlite")


def money(*columns: str, least: int = 0) -> tuple[CheckConstraint, ...]:
    """Each column is a whole number of paise and at least `least` (SQLite would keep a fraction)."""
    return tuple(_whole(column, least, f"{column.removesuffix('_paise')}_whole_paise") for column in columns)


def units(*columns: str, least: int = 1) -> tuple[CheckConstraint, ...]:
    """Each column is a whole number of units and at least `least`."""
    return tuple(_whole(column, least, f"{column}_whole_units") for column in columns)


def _whole(column: str, least: int, name: str) -> CheckConstraint:
    return CheckConstraint(f"{column} >= {least} AND {column} = CAST({column} AS BIGINT)", name=name)


class LedgerTable(SQLModel):
    """Where all tables of the ledger are listed, and how their constraints are named."""

    metadata: ClassVar[MetaData] = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_N_name)s",
            "pk": "pk_%(table_name)s",
        }
    )


class SessionRow(LedgerTable, table=True):
    """One trading day of one index in one account and mode; a restart is the same session."""

    __tablename__ = "session"
    __table_args__ = (
        UniqueConstraint("account", "underlying", "mode", "day"),
        CheckConstraint("mode IN ('rehearsal', 'paper', 'live')", name="mode_known"),
        Index(None, "day"),
        ONE_TREE,
    )

    session_id: str = Field(primary_key=True)
    account: str
    underlying: str
    mode: str
    day: date
    salt: str


class SessionStartRow(LedgerTable, table=True):
    """One start of the trading process. It holds a fencing number of its own."""

    __tablename__ = "session_start"
    __table_args__ = (CheckConstraint("fence > 0", name="fence_positive"), ONE_TREE)

    session_id: str = Field(primary_key=True, foreign_key="session.session_id")
    fence: int = Field(primary_key=True, sa_type=BigInteger)
    run_id: str
    started_at: datetime
    params: dict[str, Any] = Field(sa_type=DETAIL)
    code_version: str
    facts_version: str


class IntentRow(LedgerTable, table=True):
    """What the session decided to send, committed before any of its orders is."""

    __tablename__ = "intent"
    __table_args__ = (
        CheckConstraint(
            "(purpose = 'ENTRY' AND side = 'BUY') OR (purpose = 'EXIT' AND side = 'SELL')",
            name="entries_buy_and_exits_sell",
        ),
        CheckConstraint("option_type IN ('CE', 'PE')", name="option_type_known"),
        CheckConstraint("fence > 0", name="fence_positive"),
        *units("quantity"),
        *units("lot_size"),
        *units("freeze_quantity", least=0),
        *money("reference_paise"),
        *money("tick_size_paise"),
        ONE_TREE,
    )

    session_id: str = Field(primary_key=True, foreign_key="session.session_id")
    intent: int = Field(primary_key=True)
    trade: int
    purpose: str
    side: str
    security: str
    trading_symbol: str
    contract_name: str
    strike_points: int
    option_type: str
    expiry: date
    lot_size: int
    tick_size_paise: int = Field(sa_type=PAISE)
    freeze_quantity: int
    quantity: int
    reference_paise: int = Field(sa_type=PAISE)
    reason: str
    why: dict[str, Any] = Field(sa_type=DETAIL)
    decided_at: datetime
    fence: int = Field(sa_type=BigInteger)


class ClientOrderRow(LedgerTable, table=True):
    """An order as it is about to be sent; an intent above the freeze quantity has several."""

    __tablename__ = "client_order"
    __table_args__ = (
        ForeignKeyConstraint(["session_id", "intent"], ["intent.session_id", "intent.intent"]),
        UniqueConstraint("session_id", "intent", "slice_number"),
        CheckConstraint("length(client_order_id) BETWEEN 1 AND 20", name="id_fits_the_broker"),
        *units("quantity"),
        *money("limit_paise", least=1),
        ONE_TREE,
    )

    client_order_id: str = Field(primary_key=True)
    session_id: str
    intent: int
    slice_number: int
    quantity: int
    limit_paise: int = Field(sa_type=PAISE)


class OrderEventRow(LedgerTable, table=True):
    """One thing that happened to an order, as it was learnt. The fingerprint is that of all other columns."""

    __tablename__ = "order_event"
    __table_args__ = (
        UniqueConstraint("client_order_id", "fingerprint"),
        *units("filled_quantity", least=0),
        *money("limit_paise"),
        Index(None, "broker_order_id"),
    )

    number: int | None = Field(default=None, primary_key=True, sa_type=ROW_NUMBER)
    client_order_id: str = Field(foreign_key="client_order.client_order_id")
    at: datetime
    kind: str
    status: str
    broker_order_id: str
    filled_quantity: int
    limit_paise: int = Field(sa_type=PAISE)
    message: str
    fingerprint: str


class FillRow(LedgerTable, table=True):
    """One execution: the step of an order from one cumulative quantity to the next."""

    __tablename__ = "fill"
    __table_args__ = (
        *units("quantity"),
        CheckConstraint("cumulative_quantity >= quantity", name="step_within_cumulative"),
        *money("value_paise", least=1),
        ONE_TREE,
    )

    client_order_id: str = Field(primary_key=True, foreign_key="client_order.client_order_id")
    cumulative_quantity: int = Field(primary_key=True)
    quantity: int
    value_paise: int = Field(sa_type=PAISE)
    at: datetime


class DecisionRow(LedgerTable, table=True):
    """A decision that sends no order. The fingerprint is that of all other columns."""

    __tablename__ = "decision"
    __table_args__ = (UniqueConstraint("session_id", "fingerprint"), Index(None, "session_id", "kind"))

    number: int | None = Field(default=None, primary_key=True, sa_type=ROW_NUMBER)
    session_id: str = Field(foreign_key="session.session_id")
    at: datetime
    kind: str
    reason: str
    detail: dict[str, Any] = Field(sa_type=DETAIL)
    fingerprint: str


class CandleRow(LedgerTable, table=True):
    """A closed candle of the index with the indicators after it; the first recording of a candle counts."""

    __tablename__ = "candle"
    __table_args__ = (
        ForeignKeyConstraint(["session_id"], ["session.session_id"], name=SQLITE_ALONE).ddl_if(dialect="sqlite"),
        *money("open_paise", "high_paise", "low_paise", "close_paise", least=1),
        CheckConstraint(
            "low_paise <= open_paise AND low_paise <= close_paise"
            " AND high_paise >= open_paise AND high_paise >= close_paise",
            name="prices_between_low_and_high",
        ),
        CheckConstraint("seconds > 0", name="seconds_positive"),
        CheckConstraint("direction IN (-1, 0, 1)", name="direction_known"),
        ONE_TREE,
    )

    session_id: str = Field(primary_key=True)
    seconds: int = Field(primary_key=True)
    start: datetime = Field(primary_key=True)
    open_paise: int = Field(sa_type=PAISE)
    high_paise: int = Field(sa_type=PAISE)
    low_paise: int = Field(sa_type=PAISE)
    close_paise: int = Field(sa_type=PAISE)
    ticks: int
    supertrend: float | None = Field(sa_type=Double)
    direction: int
    macd: float | None = Field(sa_type=Double)
    macd_signal: float | None = Field(sa_type=Double)


class SecurityRow(LedgerTable, table=True):
    """The name of a security that has ticks, so that a tick holds a small number."""

    __tablename__ = "security"
    __table_args__ = (UniqueConstraint("security"),)

    number: int | None = Field(default=None, primary_key=True, sa_type=ROW_NUMBER)
    security: str


class TickBatchRow(LedgerTable, table=True):
    """Ticks that were recorded in one commit. The fingerprint is that of the ticks, in their order."""

    __tablename__ = "tick_batch"
    __table_args__ = (UniqueConstraint("session_id", "fingerprint"),)

    batch: int | None = Field(default=None, primary_key=True, sa_type=ROW_NUMBER)
    session_id: str = Field(foreign_key="session.session_id")
    began_at: datetime
    fingerprint: str


class TickRow(LedgerTable, table=True):
    """A price, seen `after_ms` milliseconds after its batch began; (batch, number) is the order of arrival.

    A day has hundreds of thousands: times and names are kept once per batch, which leaves some thirty bytes a row.
    """

    __tablename__ = "tick"
    __table_args__ = (
        *money("price_paise", least=1),
        *money("bid_paise", "ask_paise"),
        CheckConstraint("after_ms >= 0", name="after_its_batch_began"),
        ONE_TREE,
    )

    batch: int = Field(primary_key=True, sa_type=ROW_NUMBER, foreign_key="tick_batch.batch")
    number: int = Field(primary_key=True)
    after_ms: int
    security: int = Field(sa_type=ROW_NUMBER, foreign_key="security.number")
    price_paise: int = Field(sa_type=PAISE)
    bid_paise: int = Field(sa_type=PAISE)
    ask_paise: int = Field(sa_type=PAISE)


class HeardRow(LedgerTable, table=True):
    """A piece of what the rules of one start heard beside ticks, one event per line, each with its place among them.

    With the ticks it is all that a decision depended on, so that the day can be replayed exactly.
    """

    __tablename__ = "heard"
    __table_args__ = (CheckConstraint("number >= 0", name="number_counts_up"), ONE_TREE)

    session_id: str = Field(primary_key=True, foreign_key="session.session_id")
    fence: int = Field(primary_key=True, sa_type=BigInteger)
    number: int = Field(primary_key=True)
    events: str


class CommandRow(LedgerTable, table=True):
    """An operator's request to a session; what became of it is a row of its own."""

    __tablename__ = "command"
    __table_args__ = (Index(None, "session_id"), ONE_TREE)

    command_id: str = Field(primary_key=True)
    session_id: str = Field(foreign_key="session.session_id")
    kind: str
    reason: str
    requested_by: str
    requested_at: datetime
    detail: dict[str, Any] = Field(sa_type=DETAIL)


class CommandAnswerRow(LedgerTable, table=True):
    """What became of a command; the first answer holds."""

    __tablename__ = "command_answer"
    __table_args__ = ONE_TREE

    command_id: str = Field(primary_key=True, foreign_key="command.command_id")
    answer: str
    answered_at: datetime


class ChargeRow(LedgerTable, table=True):
    """Charges of one executed order. Pricing it anew adds a revision; the highest counts."""

    __tablename__ = "charge"
    __table_args__ = (
        *money("brokerage_paise", "stt_paise", "exchange_paise", "sebi_paise", "stamp_paise", "gst_paise"),
        CheckConstraint("revision > 0", name="revision_positive"),
        ONE_TREE,
    )

    client_order_id: str = Field(primary_key=True, foreign_key="client_order.client_order_id")
    revision: int = Field(primary_key=True)
    brokerage_paise: int = Field(sa_type=PAISE)
    stt_paise: int = Field(sa_type=PAISE)
    exchange_paise: int = Field(sa_type=PAISE)
    sebi_paise: int = Field(sa_type=PAISE)
    stamp_paise: int = Field(sa_type=PAISE)
    gst_paise: int = Field(sa_type=PAISE)
    rates_version: str


class ReconciliationRow(LedgerTable, table=True):
    """One comparison of a session's ledger with the broker."""

    __tablename__ = "reconciliation"
    __table_args__ = (UniqueConstraint("session_id", "run_id", "at"),)

    number: int | None = Field(default=None, primary_key=True, sa_type=ROW_NUMBER)
    session_id: str = Field(foreign_key="session.session_id")
    run_id: str
    at: datetime
    state: str


class DifferenceRow(LedgerTable, table=True):
    """One thing on which ledger and broker did not agree in a reconciliation."""

    __tablename__ = "difference"
    __table_args__ = ONE_TREE

    reconciliation: int = Field(primary_key=True, sa_type=ROW_NUMBER, foreign_key="reconciliation.number")
    number: int = Field(primary_key=True)
    kind: str
    subject: str
    expected: str
    found: str
    detail: dict[str, Any] = Field(sa_type=DETAIL)


class LeaseRow(LedgerTable, table=True):
    """Who may trade an index in an account and mode; the one table that changes. Its fence only rises."""

    __tablename__ = "lease"
    __table_args__ = (CheckConstraint("fence > 0", name="fence_positive"), ONE_TREE)

    account: str = Field(primary_key=True)
    underlying: str = Field(primary_key=True)
    mode: str = Field(primary_key=True)
    fence: int = Field(sa_type=BigInteger)
    owner: str | None  # None once released
    taken_at: datetime
    heartbeat_at: datetime
    expires_at: datetime


class LeaseTakingRow(LedgerTable, table=True):
    """Every taking of a lease, kept: who held which fencing number, and whether it was taken over."""

    __tablename__ = "lease_taking"
    __table_args__ = (CheckConstraint("fence > 0", name="fence_positive"), ONE_TREE)

    account: str = Field(primary_key=True)
    underlying: str = Field(primary_key=True)
    mode: str = Field(primary_key=True)
    fence: int = Field(primary_key=True, sa_type=BigInteger)
    owner: str
    taken_at: datetime
    taken_over: bool


class DayColumnsRow(LedgerTable, table=True):
    """A session's closed trades, packed for analytics over many days; packing them otherwise adds a revision.

    Derived from the view `trade` and the ticks, and kept because a million trades cannot be derived in a second.
    """

    __tablename__ = "day_columns"
    __table_args__ = (CheckConstraint("revision > 0", name="revision_positive"), ONE_TREE)

    session_id: str = Field(primary_key=True, foreign_key="session.session_id")
    revision: int = Field(primary_key=True)
    layout: int
    reasons: str
    refusals: dict[str, Any] = Field(sa_type=DETAIL)
    records: bytes


class ImportedTradeRow(LedgerTable, table=True):
    """A round trip that an earlier bot recorded. It counts in nothing but analytics that ask for it."""

    __tablename__ = "imported_trade"
    __table_args__ = (
        CheckConstraint("option_type IN ('CE', 'PE')", name="option_type_known"),
        CheckConstraint("mode IN ('paper', 'live')", name="mode_known"),
        CheckConstraint("exit_at >= entry_at", name="bought_before_sold"),
        *units("lot_size"),
        *units("quantity"),
        *money("buy_value_paise", "sell_value_paise", least=1),
        ONE_TREE,
    )

    source: str = Field(primary_key=True)
    trade_id: str = Field(primary_key=True)
    underlying: str
    mode: str
    day: date
    option_type: str
    strike_points: int
    expiry: date
    lot_size: int
    quantity: int
    entry_at: datetime
    exit_at: datetime
    buy_value_paise: int = Field(sa_type=PAISE)
    sell_value_paise: int = Field(sa_type=PAISE)
    exit_reason: str
    detail: dict[str, Any] = Field(sa_type=DETAIL)


class ImportedCandleRow(LedgerTable, table=True):
    """A candle that an earlier bot recorded: without an opening, at the time when it closed."""

    __tablename__ = "imported_candle"
    __table_args__ = (
        CheckConstraint("seconds > 0", name="seconds_positive"),
        CheckConstraint("low_paise <= close_paise AND close_paise <= high_paise", name="close_between_low_and_high"),
        *money("high_paise", "low_paise", "close_paise", least=1),
        ONE_TREE,
    )

    source: str = Field(primary_key=True)
    underlying: str = Field(primary_key=True)
    seconds: int = Field(primary_key=True)
    closed_at: datetime = Field(primary_key=True)
    high_paise: int = Field(sa_type=PAISE)
    low_paise: int = Field(sa_type=PAISE)
    close_paise: int = Field(sa_type=PAISE)
    supertrend: float | None = Field(sa_type=Double)
    macd: float | None = Field(sa_type=Double)
    signal: str


class ArmingRow(LedgerTable, table=True):
    """A word of the operator about real money on a day: armed, for exactly these settings, or not. The last counts."""

    __tablename__ = "arming"
    __table_args__ = (CheckConstraint("number > 0", name="number_positive"), ONE_TREE)

    account: str = Field(primary_key=True)
    underlying: str = Field(primary_key=True)
    day: date = Field(primary_key=True)
    number: int = Field(primary_key=True)
    armed: bool
    params: dict[str, Any] = Field(sa_type=DETAIL)
    armed_by: str
    at: datetime
