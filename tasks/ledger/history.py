"""What comes in batches: decisions, candles, ticks."""

from collections.abc import Iterable, Sequence

from strategy.events import Tick
from tasks.ledger.database import Database, Transaction, insert_sql
from tasks.ledger.recording import encoded, read, record_new
from tasks.ledger.records import CandleRecord, DecisionRecord
from tasks.ledger.rows import Shape, fingerprint

DECISION = Shape(DecisionRecord)
CANDLE = Shape(CandleRecord)
# Times of ticks are kept as distances from the batch's beginning, so they stay numbers here.
TICK = Shape(Tick, numbers=["at_ms"])
_TICK_COLUMNS = ("batch", "number", "after_ms", "security", "price_paise", "bid_paise", "ask_paise")
_NEW_BATCH = insert_sql("tick_batch", ("session_id", "began_at", "fingerprint"), skip_known=True) + " RETURNING batch"
_NEW_SECURITY = insert_sql("security", ("security",), skip_known=True) + " RETURNING number"
_TICKS = (
    "SELECT b.began_at, t.after_ms, s.security, t.price_paise, t.bid_paise, t.ask_paise FROM tick_batch b"
    " JOIN tick t ON t.batch = b.batch JOIN security s ON s.number = t.security"
    " WHERE b.session_id = ? ORDER BY t.batch, t.number"
)


_TICKS_OF = (
    "SELECT b.began_at, t.after_ms, t.price_paise FROM tick_batch b JOIN tick t ON t.batch = b.batch"
    " WHERE b.session_id = ? AND t.security = (SELECT number FROM security WHERE security = ?)"
    " ORDER BY t.batch, t.number"
)


_HEARD_COLUMNS = ("session_id", "fence", "number", "events")
_HEARD = "SELECT fence, number, events FROM heard WHERE session_id = ? ORDER BY fence, number"
_TICK_COUNT = "SELECT COUNT(*) FROM tick_batch b JOIN tick t ON t.batch = b.batch WHERE b.session_id = ?"


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
    if not rows:
        return
    mark = fingerprint(*rows)
    began_ms = min(row[0] for row in rows)

    def work(transaction: Transaction) -> None:
        batch = transaction.rows(_NEW_BATCH, session_id, database.wire.moment(began_ms), mark)
        if batch:
            number_of = {name: _security(transaction, name) for name in sorted({row[1] for row in rows})}
            numbered = [
                (batch[0][0], number, at_ms - began_ms, number_of[name], *prices)
                for number, (at_ms, name, *prices) in enumerate(rows)
            ]
            transaction.insert("tick", _TICK_COLUMNS, numbered)

    database.write(work)


def record_heard(database: Database, session_id: str, fence: int, number: int, events: str) -> None:
    """The next piece of what the rules of one start heard; the same number again changes nothing."""
    record_new(database, "heard", _HEARD_COLUMNS, [(session_id, fence, number, events)])


def heard(database: Database, session_id: str) -> tuple[tuple[int, int, str], ...]:
    """(fence, number, events) of a session, in order."""
    return tuple((fence, number, events) for fence, number, events in database.rows(_HEARD, session_id))


def tick_count(database: Database, session_id: str) -> int:
    """How many ticks of a session are recorded."""
    return int(database.rows(_TICK_COUNT, session_id)[0][0])


def _security(transaction: Transaction, name: str) -> int:
    """The number of a security, which it gets with its first tick."""
    found = transaction.rows(_NEW_SECURITY, name) or transaction.rows(
        "SELECT number FROM security WHERE security = ?", name
    )
    return int(found[0][0])


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
    rows = database.rows(_TICKS, session_id)
    began_ms = {moment: database.wire.at_ms(moment) for moment in {row[0] for row in rows}}
    return tuple(
        Tick(
            at_ms=began_ms[began_at] + after_ms,
            security=security,
            price_paise=price_paise,
            bid_paise=bid_paise,
            ask_paise=ask_paise,
        )
        for began_at, after_ms, security, price_paise, bid_paise, ask_paise in rows
    )


def tick_columns(database: Database, session_id: str, security: str) -> tuple[list[int], list[int]]:
    """Times (Unix milliseconds) and prices (paise) of one security's ticks, in their order of arrival."""
    rows = database.rows(_TICKS_OF, session_id, security)
    began_ms = {moment: database.wire.at_ms(moment) for moment in {row[0] for row in rows}}
    return [began_ms[began_at] + after_ms for began_at, after_ms, _ in rows], [row[2] for row in rows]
