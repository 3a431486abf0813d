"""Round trips, read from the view that derives them (migrations/derived.py says how).

Money of a trade is the exact value of its fills; nothing here is stored, so it cannot disagree with them.
"""

# ruff: noqa: S608  SQL is put together from names in this package alone; every value is a parameter

from tasks.ledger.database import Database
from tasks.ledger.records import TradeRecord
from tasks.ledger.rows import Shape

TRADE = Shape(TradeRecord)


def read_trades(database: Database, session_id: str) -> tuple[TradeRecord, ...]:
    """The trades of a session that bought anything, in order. LedgerUnavailable."""
    decode = TRADE.decoder(database.wire)
    rows = database.rows(
        f"SELECT {TRADE.listed} FROM trade WHERE session_id = ? ORDER BY trade",
        session_id,
    )
    return tuple(decode(row) for row in rows)
