"""A day's closed trades packed for analytics, and what an earlier bot recorded."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql
from sqlmodel import UTCDateTime

from tasks.ledger.migrations.history import postgres_history, sqlite_history

revision = "0003"
down_revision = "0002"

DETAIL = sa.JSON().with_variant(postgresql.JSONB(), "postgresql")
TABLES = ("day_columns", "imported_trade", "imported_candle")


def _whole(table: str, column: str, unit: str, least: int) -> sa.CheckConstraint:
    name = f"{column.removesuffix('_paise')}_whole_{unit}"
    return sa.CheckConstraint(
        f"{column} >= {least} AND {column} = CAST({column} AS BIGINT)", name=op.f(f"ck_{table}_{name}")
    )


def upgrade() -> None:
    """Create the tables; they are history from their first row on."""
    op.create_table(
        "day_columns",
        sa.Column("session_id", sa.String(), nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column("layout", sa.Integer(), nullable=False),
        sa.Column("reasons", sa.String(), nullable=False),
        sa.Column("refusals", DETAIL, nullable=False),
        sa.Column("records", sa.LargeBinary(), nullable=False),
        sa.CheckConstraint("revision > 0", name=op.f("ck_day_columns_revision_positive")),
        sa.ForeignKeyConstraint(["session_id"], ["session.session_id"], name=op.f("fk_day_columns_session_id")),
        sa.PrimaryKeyConstraint("session_id", "revision", name=op.f("pk_day_columns")),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "imported_trade",
        sa.Column("source", sa.String(), nullable=False),
        sa.Column("trade_id", sa.String(), nullable=False),
        sa.Column("underlying", sa.String(), nullable=False),
        sa.Column("mode", sa.String(), nullable=False),
        sa.Column("day", sa.Date(), nullable=False),
        sa.Column("option_type", sa.String(), nullable=False),
        sa.Column("strike_points", sa.Integer(), nullable=False),
        sa.Column("expiry", sa.Date(), nullable=False),
        sa.Column("lot_size", sa.Integer(), nullable=False),
        sa.Column("quantity", sa.Integer(), nullable=False),
        sa.Column("entry_at", UTCDateTime(), nullable=False),
        sa.Column("exit_at", UTCDateTime(), nullable=False),
        sa.Column("buy_value_paise", sa.BigInteger(), nullable=False),
        sa.Column("sell_value_paise", sa.BigInteger(), nullable=False),
        sa.Column("exit_reason", sa.String(), nullable=False),
        sa.Column("detail", DETAIL, nullable=False),
        sa.CheckConstraint("option_type IN ('CE', 'PE')", name=op.f("ck_imported_trade_option_type_known")),
        sa.CheckConstraint("mode IN ('paper', 'live')", name=op.f("ck_imported_trade_mode_known")),
        sa.CheckConstraint("exit_at >= entry_at", name=op.f("ck_imported_trade_bought_before_sold")),
        _whole("imported_trade", "lot_size", "units", 1),
        _whole("imported_trade", "quantity", "units", 1),
        _whole("imported_trade", "buy_value_paise", "paise", 1),
        _whole("imported_trade", "sell_value_paise", "paise", 1),
        sa.PrimaryKeyConstraint("source", "trade_id", name=op.f("pk_imported_trade")),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "imported_candle",
        sa.Column("source", sa.String(), nullable=False),
        sa.Column("underlying", sa.String(), nullable=False),
        sa.Column("seconds", sa.Integer(), nullable=False),
        sa.Column("closed_at", UTCDateTime(), nullable=False),
        sa.Column("high_paise", sa.BigInteger(), nullable=False),
        sa.Column("low_paise", sa.BigInteger(), nullable=False),
        sa.Column("close_paise", sa.BigInteger(), nullable=False),
        sa.Column("supertrend", sa.Double(), nullable=True),
        sa.Column("macd", sa.Double(), nullable=True),
        sa.Column("signal", sa.String(), nullable=False),
        sa.CheckConstraint("seconds > 0", name=op.f("ck_imported_candle_seconds_positive")),
        sa.CheckConstraint(
            "low_paise <= close_paise AND close_paise <= high_paise",
            name=op.f("ck_imported_candle_close_between_low_and_high"),
        ),
        _whole("imported_candle", "high_paise", "paise", 1),
        _whole("imported_candle", "low_paise", "paise", 1),
        _whole("imported_candle", "close_paise", "paise", 1),
        sa.PrimaryKeyConstraint("source", "underlying", "seconds", "closed_at", name=op.f("pk_imported_candle")),
        sqlite_with_rowid=False,
    )
    sqlite = op.get_context().dialect.name == "sqlite"
    for trigger in sqlite_history(TABLES) if sqlite else postgres_history(TABLES):
        op.execute(trigger)


def downgrade() -> None:
    """Drop the tables; what was imported is gone, what was packed can be packed again."""
    for table in reversed(TABLES):
        op.drop_table(table)
