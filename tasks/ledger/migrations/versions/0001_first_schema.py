"""The first schema: tables, views, and the triggers that keep history as it was."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql
from sqlmodel import UTCDateTime

from tasks.ledger.migrations.derived import VIEWS
from tasks.ledger.migrations.history import POSTGRES_FUNCTIONS, postgres_triggers, sqlite_triggers

revision = "0001"
down_revision = None

ROW_NUMBER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
DETAIL = sa.JSON().with_variant(postgresql.JSONB(), "postgresql")


def upgrade() -> None:
    """Create everything."""
    op.create_table(
        "lease",
        sa.Column("account", sa.String(), nullable=False),
        sa.Column("underlying", sa.String(), nullable=False),
        sa.Column("mode", sa.String(), nullable=False),
        sa.Column("fence", sa.BigInteger(), nullable=False),
        sa.Column("owner", sa.String(), nullable=True),
        sa.Column("taken_at", UTCDateTime(), nullable=False),
        sa.Column("heartbeat_at", UTCDateTime(), nullable=False),
        sa.Column("expires_at", UTCDateTime(), nullable=False),
        sa.CheckConstraint("fence > 0", name=op.f("ck_lease_fence_positive")),
        sa.PrimaryKeyConstraint("account", "underlying", "mode", name=op.f("pk_lease")),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "lease_taking",
        sa.Column("account", sa.String(), nullable=False),
        sa.Column("underlying", sa.String(), nullable=False),
        sa.Column("mode", sa.String(), nullable=False),
        sa.Column("fence", sa.BigInteger(), nullable=False),
        sa.Column("owner", sa.String(), nullable=False),
        sa.Column("taken_at", UTCDateTime(), nullable=False),
        sa.Column("taken_over", sa.Boolean(), nullable=False),
        sa.CheckConstraint("fence > 0", name=op.f("ck_lease_taking_fence_positive")),
        sa.PrimaryKeyConstraint("account", "underlying", "mode", "fence", name=op.f("pk_lease_taking")),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "security",
        sa.Column("number", ROW_NUMBER, nullable=False),
        sa.Column("security", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_security")),
        sa.UniqueConstraint("security", name=op.f("uq_security_security")),
    )
    op.create_table(
        "session",
        sa.Column("session_id", sa.String(), nullable=False),
        sa.Column("account", sa.String(), nullable=False),
        sa.Column("underlying", sa.String(), nullable=False),
        sa.Column("mode", sa.String(), nullable=False),
        sa.Column("day", sa.Date(), nullable=False),
        sa.Column("salt", sa.String(), nullable=False),
        sa.CheckConstraint("mode IN ('rehearsal', 'paper', 'live')", name=op.f("ck_session_mode_known")),
        sa.PrimaryKeyConstraint("session_id", name=op.f("pk_session")),
        sa.UniqueConstraint(
            "account", "underlying", "mode", "day", name=op.f("uq_session_account_underlying_mode_day")
        ),
        sqlite_with_rowid=False,
    )
    op.create_index(op.f("ix_session_day"), "session", ["day"], unique=False)
    op.create_table(
        "candle",
        sa.Column("session_id", sa.String(), nullable=False),
        sa.Column("seconds", sa.Integer(), nullable=False),
        sa.Column("start", UTCDateTime(), nullable=False),
        sa.Column("open_paise", sa.BigInteger(), nullable=False),
        sa.Column("high_paise", sa.BigInteger(), nullable=False),
        sa.Column("low_paise", sa.BigInteger(), nullable=False),
        sa.Column("close_paise", sa.BigInteger(), nullable=False),
        sa.Column("ticks", sa.Integer(), nullable=False),
        sa.Column("supertrend", sa.Double(), nullable=True),
        sa.Column("direction", sa.Integer(), nullable=False),
        sa.Column("macd", sa.Double(), nullable=True),
        sa.Column("macd_signal", sa.Double(), nullable=True),
        sa.CheckConstraint(
            "close_paise >= 1 AND close_paise = CAST(close_paise AS BIGINT)", name=op.f("ck_candle_close_whole_paise")
        ),
        sa.CheckConstraint("direction IN (-1, 0, 1)", name=op.f("ck_candle_direction_known")),
        sa.CheckConstraint(
            "high_paise >= 1 AND high_paise = CAST(high_paise AS BIGINT)", name=op.f("ck_candle_high_whole_paise")
        ),
        sa.CheckConstraint(
            "low_paise <= open_paise AND low_paise <= close_paise"
            " AND high_paise >= open_paise AND high_paise >= close_paise",
            name=op.f("ck_candle_prices_between_low_and_high"),
        ),
        sa.CheckConstraint(
            "low_paise >= 1 AND low_paise = CAST(low_paise AS BIGINT)", name=op.f("ck_candle_low_whole_paise")
        ),
        sa.CheckConstraint(
            "open_paise >= 1 AND open_paise = CAST(open_paise AS BIGINT)", name=op.f("ck_candle_open_whole_paise")
        ),
        sa.CheckConstraint("seconds > 0", name=op.f("ck_candle_seconds_positive")),
        sa.ForeignKeyConstraint(["session_id"], ["session.session_id"], name=op.f("fk_candle_session_id")),
        sa.PrimaryKeyConstraint("session_id", "seconds", "start", name=op.f("pk_candle")),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "command",
        sa.Column("command_id", sa.String(), nullable=False),
        sa.Column("session_id", sa.String(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("reason", sa.String(), nullable=False),
        sa.Column("requested_by", sa.String(), nullable=False),
        sa.Column("requested_at", UTCDateTime(), nullable=False),
        sa.Column("detail", DETAIL, nullable=False),
        sa.ForeignKeyConstraint(["session_id"], ["session.session_id"], name=op.f("fk_command_session_id")),
        sa.PrimaryKeyConstraint("command_id", name=op.f("pk_command")),
        sqlite_with_rowid=False,
    )
    op.create_index(op.f("ix_command_session_id"), "command", ["session_id"], unique=False)
    op.create_table(
        "decision",
        sa.Column("number", ROW_NUMBER, nullable=False),
        sa.Column("session_id", sa.String(), nullable=False),
        sa.Column("at", UTCDateTime(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("reason", sa.String(), nullable=False),
        sa.Column("detail", DETAIL, nullable=False),
        sa.Column("fingerprint", sa.String(), nullable=False),
        sa.ForeignKeyConstraint(["session_id"], ["session.session_id"], name=op.f("fk_decision_session_id")),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_decision")),
        sa.UniqueConstraint("session_id", "fingerprint", name=op.f("uq_decision_session_id_fingerprint")),
    )
    op.create_index(op.f("ix_decision_session_id_kind"), "decision", ["session_id", "kind"], unique=False)
    op.create_table(
        "intent",
        sa.Column("session_id", sa.String(), nullable=False),
        sa.Column("intent", sa.Integer(), nullable=False),
        sa.Column("trade", sa.Integer(), nullable=False),
        sa.Column("purpose", sa.String(), nullable=False),
        sa.Column("side", sa.String(), nullable=False),
        sa.Column("security", sa.String(), nullable=False),
        sa.Column("trading_symbol", sa.String(), nullable=False),
        sa.Column("contract_name", sa.String(), nullable=False),
        sa.Column("strike_points", sa.Integer(), nullable=False),
        sa.Column("option_type", sa.String(), nullable=False),
        sa.Column("expiry", sa.Date(), nullable=False),
        sa.Column("lot_size", sa.Integer(), nullable=False),
        sa.Column("tick_size_paise", sa.BigInteger(), nullable=False),
        sa.Column("freeze_quantity", sa.Integer(), nullable=False),
        sa.Column("quantity", sa.Integer(), nullable=False),
        sa.Column("reference_paise", sa.BigInteger(), nullable=False),
        sa.Column("reason", sa.String(), nullable=False),
        sa.Column("why", DETAIL, nullable=False),
        sa.Column("decided_at", UTCDateTime(), nullable=False),
        sa.Column("fence", sa.BigInteger(), nullable=False),
        sa.CheckConstraint(
            "(purpose = 'ENTRY' AND side = 'BUY') OR (purpose = 'EXIT' AND side = 'SELL')",
            name=op.f("ck_intent_entries_buy_and_exits_sell"),
        ),
        sa.CheckConstraint("option_type IN ('CE', 'PE')", name=op.f("ck_intent_option_type_known")),
        sa.CheckConstraint("fence > 0", name=op.f("ck_intent_fence_positive")),
        sa.CheckConstraint(
            "freeze_quantity >= 0 AND freeze_quantity = CAST(freeze_quantity AS BIGINT)",
            name=op.f("ck_intent_freeze_quantity_whole_units"),
        ),
        sa.CheckConstraint(
            "lot_size >= 1 AND lot_size = CAST(lot_size AS BIGINT)", name=op.f("ck_intent_lot_size_whole_units")
        ),
        sa.CheckConstraint(
            "quantity >= 1 AND quantity = CAST(quantity AS BIGINT)", name=op.f("ck_intent_quantity_whole_units")
        ),
        sa.CheckConstraint(
            "reference_paise >= 0 AND reference_paise = CAST(reference_paise AS BIGINT)",
            name=op.f("ck_intent_reference_whole_paise"),
        ),
        sa.CheckConstraint(
            "tick_size_paise >= 0 AND tick_size_paise = CAST(tick_size_paise AS BIGINT)",
            name=op.f("ck_intent_tick_size_whole_paise"),
        ),
        sa.ForeignKeyConstraint(["session_id"], ["session.session_id"], name=op.f("fk_intent_session_id")),
        sa.PrimaryKeyConstraint("session_id", "intent", name=op.f("pk_intent")),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "reconciliation",
        sa.Column("number", ROW_NUMBER, nullable=False),
        sa.Column("session_id", sa.String(), nullable=False),
        sa.Column("run_id", sa.String(), nullable=False),
        sa.Column("at", UTCDateTime(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.ForeignKeyConstraint(["session_id"], ["session.session_id"], name=op.f("fk_reconciliation_session_id")),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_reconciliation")),
        sa.UniqueConstraint("session_id", "run_id", "at", name=op.f("uq_reconciliation_session_id_run_id_at")),
    )
    op.create_table(
        "session_start",
        sa.Column("session_id", sa.String(), nullable=False),
        sa.Column("fence", sa.BigInteger(), nullable=False),
        sa.Column("run_id", sa.String(), nullable=False),
        sa.Column("started_at", UTCDateTime(), nullable=False),
        sa.Column("params", DETAIL, nullable=False),
        sa.Column("code_version", sa.String(), nullable=False),
        sa.Column("facts_version", sa.String(), nullable=False),
        sa.CheckConstraint("fence > 0", name=op.f("ck_session_start_fence_positive")),
        sa.ForeignKeyConstraint(["session_id"], ["session.session_id"], name=op.f("fk_session_start_session_id")),
        sa.PrimaryKeyConstraint("session_id", "fence", name=op.f("pk_session_start")),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "tick_batch",
        sa.Column("batch", ROW_NUMBER, nullable=False),
        sa.Column("session_id", sa.String(), nullable=False),
        sa.Column("began_at", UTCDateTime(), nullable=False),
        sa.Column("fingerprint", sa.String(), nullable=False),
        sa.ForeignKeyConstraint(["session_id"], ["session.session_id"], name=op.f("fk_tick_batch_session_id")),
        sa.PrimaryKeyConstraint("batch", name=op.f("pk_tick_batch")),
        sa.UniqueConstraint("session_id", "fingerprint", name=op.f("uq_tick_batch_session_id_fingerprint")),
    )
    op.create_table(
        "client_order",
        sa.Column("client_order_id", sa.String(), nullable=False),
        sa.Column("session_id", sa.String(), nullable=False),
        sa.Column("intent", sa.Integer(), nullable=False),
        sa.Column("slice_number", sa.Integer(), nullable=False),
        sa.Column("quantity", sa.Integer(), nullable=False),
        sa.Column("limit_paise", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("length(client_order_id) BETWEEN 1 AND 20", name=op.f("ck_client_order_id_fits_the_broker")),
        sa.CheckConstraint(
            "limit_paise >= 1 AND limit_paise = CAST(limit_paise AS BIGINT)",
            name=op.f("ck_client_order_limit_whole_paise"),
        ),
        sa.CheckConstraint(
            "quantity >= 1 AND quantity = CAST(quantity AS BIGINT)", name=op.f("ck_client_order_quantity_whole_units")
        ),
        sa.ForeignKeyConstraint(
            ["session_id", "intent"],
            ["intent.session_id", "intent.intent"],
            name=op.f("fk_client_order_session_id_intent"),
        ),
        sa.PrimaryKeyConstraint("client_order_id", name=op.f("pk_client_order")),
        sa.UniqueConstraint(
            "session_id", "intent", "slice_number", name=op.f("uq_client_order_session_id_intent_slice_number")
        ),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "command_answer",
        sa.Column("command_id", sa.String(), nullable=False),
        sa.Column("answer", sa.String(), nullable=False),
        sa.Column("answered_at", UTCDateTime(), nullable=False),
        sa.ForeignKeyConstraint(["command_id"], ["command.command_id"], name=op.f("fk_command_answer_command_id")),
        sa.PrimaryKeyConstraint("command_id", name=op.f("pk_command_answer")),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "difference",
        sa.Column("reconciliation", ROW_NUMBER, nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("subject", sa.String(), nullable=False),
        sa.Column("expected", sa.String(), nullable=False),
        sa.Column("found", sa.String(), nullable=False),
        sa.Column("detail", DETAIL, nullable=False),
        sa.ForeignKeyConstraint(
            ["reconciliation"], ["reconciliation.number"], name=op.f("fk_difference_reconciliation")
        ),
        sa.PrimaryKeyConstraint("reconciliation", "number", name=op.f("pk_difference")),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "tick",
        sa.Column("batch", ROW_NUMBER, nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("after_ms", sa.Integer(), nullable=False),
        sa.Column("security", ROW_NUMBER, nullable=False),
        sa.Column("price_paise", sa.BigInteger(), nullable=False),
        sa.Column("bid_paise", sa.BigInteger(), nullable=False),
        sa.Column("ask_paise", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("after_ms >= 0", name=op.f("ck_tick_after_its_batch_began")),
        sa.CheckConstraint(
            "ask_paise >= 0 AND ask_paise = CAST(ask_paise AS BIGINT)", name=op.f("ck_tick_ask_whole_paise")
        ),
        sa.CheckConstraint(
            "bid_paise >= 0 AND bid_paise = CAST(bid_paise AS BIGINT)", name=op.f("ck_tick_bid_whole_paise")
        ),
        sa.CheckConstraint(
            "price_paise >= 1 AND price_paise = CAST(price_paise AS BIGINT)", name=op.f("ck_tick_price_whole_paise")
        ),
        sa.ForeignKeyConstraint(["batch"], ["tick_batch.batch"], name=op.f("fk_tick_batch")),
        sa.ForeignKeyConstraint(["security"], ["security.number"], name=op.f("fk_tick_security")),
        sa.PrimaryKeyConstraint("batch", "number", name=op.f("pk_tick")),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "charge",
        sa.Column("client_order_id", sa.String(), nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column("brokerage_paise", sa.BigInteger(), nullable=False),
        sa.Column("stt_paise", sa.BigInteger(), nullable=False),
        sa.Column("exchange_paise", sa.BigInteger(), nullable=False),
        sa.Column("sebi_paise", sa.BigInteger(), nullable=False),
        sa.Column("stamp_paise", sa.BigInteger(), nullable=False),
        sa.Column("gst_paise", sa.BigInteger(), nullable=False),
        sa.Column("rates_version", sa.String(), nullable=False),
        sa.CheckConstraint(
            "brokerage_paise >= 0 AND brokerage_paise = CAST(brokerage_paise AS BIGINT)",
            name=op.f("ck_charge_brokerage_whole_paise"),
        ),
        sa.CheckConstraint(
            "exchange_paise >= 0 AND exchange_paise = CAST(exchange_paise AS BIGINT)",
            name=op.f("ck_charge_exchange_whole_paise"),
        ),
        sa.CheckConstraint(
            "gst_paise >= 0 AND gst_paise = CAST(gst_paise AS BIGINT)", name=op.f("ck_charge_gst_whole_paise")
        ),
        sa.CheckConstraint("revision > 0", name=op.f("ck_charge_revision_positive")),
        sa.CheckConstraint(
            "sebi_paise >= 0 AND sebi_paise = CAST(sebi_paise AS BIGINT)", name=op.f("ck_charge_sebi_whole_paise")
        ),
        sa.CheckConstraint(
            "stamp_paise >= 0 AND stamp_paise = CAST(stamp_paise AS BIGINT)", name=op.f("ck_charge_stamp_whole_paise")
        ),
        sa.CheckConstraint(
            "stt_paise >= 0 AND stt_paise = CAST(stt_paise AS BIGINT)", name=op.f("ck_charge_stt_whole_paise")
        ),
        sa.ForeignKeyConstraint(
            ["client_order_id"], ["client_order.client_order_id"], name=op.f("fk_charge_client_order_id")
        ),
        sa.PrimaryKeyConstraint("client_order_id", "revision", name=op.f("pk_charge")),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "fill",
        sa.Column("client_order_id", sa.String(), nullable=False),
        sa.Column("cumulative_quantity", sa.Integer(), nullable=False),
        sa.Column("quantity", sa.Integer(), nullable=False),
        sa.Column("value_paise", sa.BigInteger(), nullable=False),
        sa.Column("at", UTCDateTime(), nullable=False),
        sa.CheckConstraint("cumulative_quantity >= quantity", name=op.f("ck_fill_step_within_cumulative")),
        sa.CheckConstraint(
            "quantity >= 1 AND quantity = CAST(quantity AS BIGINT)", name=op.f("ck_fill_quantity_whole_units")
        ),
        sa.CheckConstraint(
            "value_paise >= 1 AND value_paise = CAST(value_paise AS BIGINT)", name=op.f("ck_fill_value_whole_paise")
        ),
        sa.ForeignKeyConstraint(
            ["client_order_id"], ["client_order.client_order_id"], name=op.f("fk_fill_client_order_id")
        ),
        sa.PrimaryKeyConstraint("client_order_id", "cumulative_quantity", name=op.f("pk_fill")),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "order_event",
        sa.Column("number", ROW_NUMBER, nullable=False),
        sa.Column("client_order_id", sa.String(), nullable=False),
        sa.Column("at", UTCDateTime(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("status", sa.String(), nullable=False),
        sa.Column("broker_order_id", sa.String(), nullable=False),
        sa.Column("filled_quantity", sa.Integer(), nullable=False),
        sa.Column("limit_paise", sa.BigInteger(), nullable=False),
        sa.Column("message", sa.String(), nullable=False),
        sa.Column("fingerprint", sa.String(), nullable=False),
        sa.CheckConstraint(
            "filled_quantity >= 0 AND filled_quantity = CAST(filled_quantity AS BIGINT)",
            name=op.f("ck_order_event_filled_quantity_whole_units"),
        ),
        sa.CheckConstraint(
            "limit_paise >= 0 AND limit_paise = CAST(limit_paise AS BIGINT)",
            name=op.f("ck_order_event_limit_whole_paise"),
        ),
        sa.ForeignKeyConstraint(
            ["client_order_id"], ["client_order.client_order_id"], name=op.f("fk_order_event_client_order_id")
        ),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_order_event")),
        sa.UniqueConstraint("client_order_id", "fingerprint", name=op.f("uq_order_event_client_order_id_fingerprint")),
    )
    op.create_index(op.f("ix_order_event_broker_order_id"), "order_event", ["broker_order_id"], unique=False)
    sqlite = op.get_context().dialect.name == "sqlite"
    for trigger in sqlite_triggers() if sqlite else postgres_triggers():
        op.execute(trigger)
    for view in VIEWS.values():
        op.execute(view)


def downgrade() -> None:
    """Drop everything; what was recorded is gone."""
    for view in reversed(VIEWS):
        op.execute(f"DROP VIEW {view}")
    op.drop_table("order_event")
    op.drop_table("fill")
    op.drop_table("charge")
    op.drop_table("tick")
    op.drop_table("difference")
    op.drop_table("command_answer")
    op.drop_table("client_order")
    op.drop_table("tick_batch")
    op.drop_table("session_start")
    op.drop_table("reconciliation")
    op.drop_table("intent")
    op.drop_table("decision")
    op.drop_table("command")
    op.drop_table("candle")
    op.drop_table("session")
    op.drop_table("security")
    op.drop_table("lease_taking")
    op.drop_table("lease")
    if op.get_context().dialect.name == "postgresql":
        for function in POSTGRES_FUNCTIONS:
            op.execute(f"DROP FUNCTION {function}()")
