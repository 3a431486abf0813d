"""Many days of closed trades at once, for analytics: one packed row per session instead of one row per fill.

What is packed is derived (`tasks.evening.packing`), never the truth. Packing the same again is a no-op; packing
otherwise, after late fills or other charges, adds a revision, and the highest counts.

A session's id begins with its day, so a range of days is a range of the primary key.
"""

# ruff: noqa: S608  SQL is put together from names in this package alone; every value is a parameter

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date, timedelta

from tasks.ledger.database import Database, Transaction, insert_sql
from tasks.ledger.recording import record_new
from tasks.ledger.records import ImportedCandle, ImportedTrade
from tasks.ledger.rows import Shape, detail_text

IMPORTED_TRADE = Shape(ImportedTrade)
IMPORTED_CANDLE = Shape(ImportedCandle)
_COLUMNS = ("session_id", "revision", "layout", "reasons", "refusals", "records")
_NEW = insert_sql("day_columns", _COLUMNS, skip_known=False)
_NEWEST = (
    "SELECT revision, layout, reasons, refusals, records FROM day_columns"
    " WHERE session_id = ? ORDER BY revision DESC LIMIT 1"
)
# Every revision comes, oldest first: to keep the last of each id costs less than to ask the database for it.
_RANGE = (
    "SELECT session_id, reasons, refusals, records FROM day_columns"
    " WHERE session_id >= ? AND session_id < ? AND layout = ? ORDER BY session_id, revision"
)


@dataclass(frozen=True, slots=True)
class DayColumns:
    """A session's closed trades as bytes, the exit reasons that they number, and why candles were no entries."""

    session_id: str
    reasons: str  # one per line
    refusals: Mapping[str, int]
    records: bytes


def record_day_columns(database: Database, packed: DayColumns, layout: int) -> None:
    """Keep a session's packed trades; the same again changes nothing."""
    values = (layout, packed.reasons, detail_text(dict(sorted(packed.refusals.items()))), packed.records)
    detail = database.wire.detail

    def work(transaction: Transaction) -> None:
        newest = transaction.rows(_NEWEST, packed.session_id)
        if newest:
            _, known_layout, reasons, refusals, records = newest[0]
            if (known_layout, reasons, detail(refusals), bytes(records)) == (
                layout,
                packed.reasons,
                dict(packed.refusals),
                packed.records,
            ):
                return
        transaction.run(_NEW, packed.session_id, newest[0][0] + 1 if newest else 1, *values)

    database.write(work)


def day_columns(database: Database, first: date | None, last: date | None, layout: int) -> dict[str, DayColumns]:
    """The newest packed trades of the sessions of these days (both included; None: no bound), in order of their ids."""
    begin = "" if first is None else first.isoformat()
    # A letter is beyond every date, however the database sorts.
    end = "A" if last is None else (last + timedelta(days=1)).isoformat()
    detail = database.wire.detail
    return {
        session_id: DayColumns(session_id, reasons, detail(refusals), records)
        for session_id, reasons, refusals, records in database.rows(_RANGE, begin, end, layout)
    }


def record_imported_trades(database: Database, trades: Iterable[ImportedTrade]) -> None:
    """Trades of an earlier bot; those that are known are left as they are."""
    record_new(database, "imported_trade", IMPORTED_TRADE.columns, IMPORTED_TRADE.encode(database.wire, trades))


def record_imported_candles(database: Database, candles: Iterable[ImportedCandle]) -> None:
    """Candles of an earlier bot; those that are known are left as they are."""
    record_new(database, "imported_candle", IMPORTED_CANDLE.columns, IMPORTED_CANDLE.encode(database.wire, candles))


def imported_trades(database: Database) -> tuple[ImportedTrade, ...]:
    """All trades of earlier bots, by day and time."""
    decode = IMPORTED_TRADE.decoder(database.wire)
    rows = database.rows(f"SELECT {IMPORTED_TRADE.listed} FROM imported_trade ORDER BY entry_at, source, trade_id")
    return tuple(decode(row) for row in rows)


def imported_candles(database: Database) -> tuple[ImportedCandle, ...]:
    """All candles of earlier bots, in order of time."""
    decode = IMPORTED_CANDLE.decoder(database.wire)
    rows = database.rows(
        f"SELECT {IMPORTED_CANDLE.listed} FROM imported_candle ORDER BY underlying, seconds, closed_at, source"
    )
    return tuple(decode(row) for row in rows)
