"""Triggers: what happened cannot be changed, only added to.

History tables refuse UPDATE and DELETE (and TRUNCATE on PostgreSQL). The lease may change, but its fence
never falls and its row never goes: a fencing number is never used twice.
"""

from collections.abc import Sequence

FIRST_HISTORY_TABLES = (  # of schema 0001
    "session",
    "session_start",
    "intent",
    "client_order",
    "order_event",
    "fill",
    "decision",
    "candle",
    "security",
    "tick_batch",
    "tick",
    "command",
    "command_answer",
    "charge",
    "reconciliation",
    "difference",
    "lease_taking",
)
HISTORY_TABLES = (*FIRST_HISTORY_TABLES, "arming", "day_columns", "imported_trade", "imported_candle", "heard")


def sqlite_history(tables: Sequence[str]) -> tuple[str, ...]:
    """Statements that make history of tables on SQLite."""
    return tuple(
        f"CREATE TRIGGER {table}_keeps_{verb.lower()} BEFORE {verb} ON {table}"
        f" BEGIN SELECT RAISE(ABORT, '{table} is history: {verb} is refused, add a row instead'); END"
        for table in tables
        for verb in ("UPDATE", "DELETE")
    )


def postgres_history(tables: Sequence[str]) -> tuple[str, ...]:
    """Statements that make history of tables on PostgreSQL; the function they call came with schema 0001."""
    rows = tuple(
        f"CREATE TRIGGER {table}_keeps_rows BEFORE UPDATE OR DELETE ON {table}"
        " FOR EACH ROW EXECUTE FUNCTION ledger_history_refuses()"
        for table in tables
    )
    return (*rows, *_postgres_truncation(tables))


def _postgres_truncation(tables: Sequence[str]) -> tuple[str, ...]:
    return tuple(
        f"CREATE TRIGGER {table}_keeps_all BEFORE TRUNCATE ON {table}"
        " FOR EACH STATEMENT EXECUTE FUNCTION ledger_history_refuses()"
        for table in tables
    )


def sqlite_triggers() -> tuple[str, ...]:
    """Statements that guard the tables of schema 0001 on SQLite."""
    lease_stays = (
        "CREATE TRIGGER lease_keeps_row BEFORE DELETE ON lease"
        " BEGIN SELECT RAISE(ABORT, 'a lease is released, never deleted: its fence cannot start again'); END"
    )
    fence_rises = (
        "CREATE TRIGGER lease_keeps_fence BEFORE UPDATE ON lease WHEN NEW.fence < OLD.fence"
        " BEGIN SELECT RAISE(ABORT, 'the fence of a lease never falls'); END"
    )
    return (*sqlite_history(FIRST_HISTORY_TABLES), lease_stays, fence_rises)


def postgres_triggers() -> tuple[str, ...]:
    """Statements that guard the tables of schema 0001 on PostgreSQL."""
    history_refuses = (
        "CREATE FUNCTION ledger_history_refuses() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
        " RAISE EXCEPTION '% is history: % is refused, add a row instead', TG_TABLE_NAME, TG_OP; END $$"
    )
    lease_refuses = (
        "CREATE FUNCTION ledger_lease_refuses() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
        " IF TG_OP = 'DELETE' THEN"
        " RAISE EXCEPTION 'a lease is released, never deleted: its fence cannot start again'; END IF;"
        " IF NEW.fence < OLD.fence THEN RAISE EXCEPTION 'the fence of a lease never falls'; END IF;"
        " RETURN NEW; END $$"
    )
    lease_guard = (
        "CREATE TRIGGER lease_keeps_fence BEFORE UPDATE OR DELETE ON lease"
        " FOR EACH ROW EXECUTE FUNCTION ledger_lease_refuses()"
    )
    return (
        history_refuses,
        lease_refuses,
        *postgres_history(FIRST_HISTORY_TABLES),
        *_postgres_truncation(["lease"]),
        lease_guard,
    )


POSTGRES_FUNCTIONS = ("ledger_history_refuses", "ledger_lease_refuses")
