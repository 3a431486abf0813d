"""Trading days, the starts of their process, and which of them were armed for real money."""

# ruff: noqa: S608  SQL is put together from names in this package alone; every value is a parameter

from datetime import date

from strategy.instruments import Underlying
from tasks.ledger.database import Database, Transaction, insert_sql
from tasks.ledger.recording import read, record_once
from tasks.ledger.records import ArmingRecord, SessionKey, SessionStart
from tasks.ledger.rows import Shape, clean

START = Shape(SessionStart)
ARMING = Shape(ArmingRecord)
_SESSION_COLUMNS = ("session_id", "account", "underlying", "mode", "day", "salt")


def open_session(database: Database, key: SessionKey, salt: str) -> str:
    """Record the session, once; the salt of its first opening holds."""
    day = database.wire.day(key.day)
    row = (key.session_id, key.account, str(key.underlying), key.mode, day, clean(salt))

    def work(transaction: Transaction) -> str:
        transaction.run(insert_sql("session", _SESSION_COLUMNS, skip_known=True), *row)
        found = transaction.rows("SELECT salt FROM session WHERE session_id = ?", key.session_id)
        return str(found[0][0])

    return database.write(work)


def record_start(database: Database, start: SessionStart) -> None:
    """One start of the trading process; each holds a fence of its own."""
    record_once(database, "session_start", START, start, ["session_id", "fence"])


def starts(database: Database, session_id: str) -> tuple[SessionStart, ...]:
    """The starts of a session, first to last."""
    return read(database, START, "session_start WHERE session_id = ? ORDER BY fence", session_id)


def session_ids(
    database: Database, *, day: date | None, underlying: Underlying | None, mode: str | None
) -> tuple[str, ...]:
    """Ids of the sessions that match, by day."""
    wanted = {
        "day": None if day is None else database.wire.day(day),
        "underlying": None if underlying is None else str(underlying),
        "mode": mode,
    }
    filters = {column: value for column, value in wanted.items() if value is not None}
    where = "".join(f" AND {column} = ?" for column in filters)
    rows = database.rows(
        f"SELECT session_id FROM session WHERE 1 = 1{where} ORDER BY day, session_id",
        *filters.values(),
    )
    return tuple(row[0] for row in rows)


def living_session_ids(database: Database, now_ms: int) -> tuple[str, ...]:
    """Ids of the sessions of which a start holds the current lease, and was heard of within the lease's life."""
    rows = database.rows(
        "SELECT t.session_id FROM lease l"
        " JOIN session s ON s.account = l.account AND s.underlying = l.underlying AND s.mode = l.mode"
        " JOIN session_start t ON t.session_id = s.session_id AND t.fence = l.fence"
        " WHERE l.owner IS NOT NULL AND l.expires_at > ? ORDER BY t.session_id",
        database.wire.moment(now_ms),
    )
    return tuple(row[0] for row in rows)


def uncompared_session_ids(database: Database) -> tuple[str, ...]:
    """Ids of the sessions that were not compared with the broker since they last started, by day."""
    rows = database.rows(
        "SELECT DISTINCT t.session_id FROM session_start t WHERE NOT EXISTS"
        " (SELECT 1 FROM reconciliation r WHERE r.session_id = t.session_id AND r.at >= t.started_at)"
        " ORDER BY t.session_id"
    )
    return tuple(row[0] for row in rows)


def key_of(database: Database, session_id: str) -> SessionKey:
    """The key of a recorded session; LookupError for any other."""
    rows = database.rows("SELECT account, underlying, mode, day FROM session WHERE session_id = ?", session_id)
    if not rows:
        raise LookupError(f"expected a session of this ledger, found {session_id!r}; session_ids() lists what there is")
    account, underlying, mode, day = rows[0]
    return SessionKey(account=account, underlying=Underlying(underlying), mode=mode, day=database.wire.date(day))


def record_arming(database: Database, arming: ArmingRecord) -> None:
    """The next word about a day; LedgerRefused when somebody else was faster with that number."""
    record_once(database, "arming", ARMING, arming, ["account", "underlying", "day", "number"])


def armings(database: Database, account: str, underlying: Underlying, since: date) -> tuple[ArmingRecord, ...]:
    """What was said about the days from `since` on; by day, first to last."""
    return read(
        database,
        ARMING,
        "arming WHERE account = ? AND underlying = ? AND day >= ? ORDER BY day, number",
        account,
        str(underlying),
        database.wire.day(since),
    )
