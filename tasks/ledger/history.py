"""What comes in batches: decisions, candles, ticks."""

from collections.abc import Iterable, Sequence

from strategy.events import Tick
from tasks.ledger.database import Database, Transaction
from tasks.ledger.recording import encoded, read, record_new
from tasks.ledger.records import CandleRecord, DecisionRecord
from tasks.ledger.rows import Shape, fingerprint

DECISION = Shape(DecisionRecord)
CANDLE = Shape(CandleRecord)
TICK = Shape(Tick)
_NEW_BATCH = "INSERT INTO tick_batch (session_id, fingerprint) VALUES (?, ?) ON CONFLICT DO NOTHING RETURNING batch"


def record_decisions(database: Database, decisions: Iterable[DecisionRecord]) -> None:
    """Decisions that send no order, in one commit."""
    rows = [(*row, fingerprint(*row)) for row in encoded(DECISION, database.wire, decisions)]
    record_new(database, "decision", (*DECISION.columns, "fingerprint"), rows)


def record_candles(database: Database, candles: Iterable[CandleRecord]) -> None:
    """Closed candles, in one commit; the first recording of a candle counts."""
    record_new(database, "candle", CANDLE.columns, encoded(CANDLE, database.wire, candles))


def record_ticks(database: Database, session_id: str, ticks: Iterable[Tick]) -> None:
    """Ticks in their order of arrival, in one commit; the same batch again changes nothing.

    The batch has the fingerprint, not the tick: a price that comes back within a second is a tick of its own.
    """
    rows = encoded(TICK, database.wire, ticks)
    mark = fingerprint(*rows)

    def work(transaction: Transaction) -> None:
        batch = transaction.rows(_NEW_BATCH, session_id, mark)
        if batch:
            numbered = [(batch[0][0], number, *row) for number, row in enumerate(rows)]
            transaction.insert("tick", ("batch", "number", *TICK.columns), numbered)

    if rows:
        database.write(work)


def decisions(database: Database, session_id: str, kind: str | None) -> tuple[DecisionRecord, ...]:
    """Decisions of a session (of one kind), in the order in which they were recorded."""
    values: Sequence[str] = [session_id] if kind is None else [session_id, kind]
    of_kind = "" if kind is None else " AND kind = ?"
    return read(database, DECISION, f"decision WHERE session_id = ?{of_kind} ORDER BY number", *values)


def candles(database: Database, session_id: str, seconds: int) -> tuple[CandleRecord, ...]:
    """Candles of one length, oldest first."""
    return read(database, CANDLE, "candle WHERE session_id = ? AND seconds = ? ORDER BY start", session_id, seconds)


def ticks(database: Database, session_id: str) -> tuple[Tick, ...]:
    """All ticks of a session, in their order of arrival."""
    return read(
        database,
        TICK,
        "tick JOIN tick_batch ON tick_batch.batch = tick.batch WHERE tick_batch.session_id = ?"
        " ORDER BY tick.batch, tick.number",
        session_id,
    )
