"""What the evening adds: charges of executed orders and comparisons with the broker."""

# ruff: noqa: S608  SQL is put together from names in this package alone; every value is a parameter

from collections.abc import Iterable

from tasks.ledger.database import Database, Transaction, insert_sql
from tasks.ledger.recording import as_stored, encoded
from tasks.ledger.records import ChargeRecord, DifferenceRecord, ReconciliationRecord
from tasks.ledger.rows import Shape, clean

CHARGE = Shape(ChargeRecord)
DIFFERENCE = Shape(DifferenceRecord)

_NEW_CHARGE = insert_sql("charge", ("revision", *CHARGE.columns), skip_known=False)
_NEWEST_CHARGE = (
    f"SELECT revision, {CHARGE.listed} FROM charge WHERE client_order_id = ? ORDER BY revision DESC LIMIT 1"
)
_CHARGES = (
    "SELECT " + ", ".join(f"c.{column}" for column in CHARGE.columns) + " FROM charge c"
    " JOIN client_order o ON o.client_order_id = c.client_order_id"
    " WHERE o.session_id = ? AND NOT EXISTS (SELECT 1 FROM charge newer"
    " WHERE newer.client_order_id = c.client_order_id AND newer.revision > c.revision)"
    " ORDER BY o.intent, o.slice_number"
)
_NEW_RECONCILIATION = (
    insert_sql("reconciliation", ("session_id", "run_id", "at", "state"), skip_known=True) + " RETURNING number"
)
# One from before the session's last start is of a part of the day: what says the same now says it of more.
_NEWEST_RECONCILIATION = (
    "SELECT r.number, r.state FROM reconciliation r WHERE r.session_id = ? AND NOT EXISTS"
    " (SELECT 1 FROM session_start t WHERE t.session_id = r.session_id AND t.started_at > r.at)"
    " ORDER BY r.number DESC LIMIT 1"
)
_DIFFERENCES_OF = f"SELECT {DIFFERENCE.listed} FROM difference WHERE reconciliation = ? ORDER BY number"
_RECONCILIATIONS = "SELECT number, run_id, at, state FROM reconciliation WHERE session_id = ? ORDER BY number"
_DIFFERENCES = (
    "SELECT d.reconciliation, " + ", ".join(f"d.{column}" for column in DIFFERENCE.columns) + " FROM difference d"
    " JOIN reconciliation r ON r.number = d.reconciliation"
    " WHERE r.session_id = ? ORDER BY d.reconciliation, d.number"
)


def record_charges(database: Database, charges: Iterable[ChargeRecord]) -> None:
    """Charges of executed orders; other amounts than recorded become the order's next revision."""
    rows = encoded(CHARGE, database.wire, charges)

    def work(transaction: Transaction) -> None:
        for row in rows:
            newest = transaction.rows(_NEWEST_CHARGE, row[0])
            if newest and newest[0][1:] == row:
                continue
            transaction.run(_NEW_CHARGE, newest[0][0] + 1 if newest else 1, *row)

    database.write(work)


def charges(database: Database, session_id: str) -> tuple[ChargeRecord, ...]:
    """The charges that count, by order."""
    decode = CHARGE.decoder(database.wire)
    return tuple(decode(row) for row in database.rows(_CHARGES, session_id))


def record_reconciliation(
    database: Database,
    session_id: str,
    *,
    run_id: str,
    at_ms: int,
    state: str,
    differences: Iterable[DifferenceRecord],
) -> None:
    """One comparison with the broker, and all that it found, in one commit; the newest one again is not kept twice."""
    found = tuple(differences)
    rows = encoded(DIFFERENCE, database.wire, found)
    told = [as_stored(DIFFERENCE, difference) for difference in found]
    moment = database.wire.moment(at_ms)
    decode = DIFFERENCE.decoder(database.wire)

    def work(transaction: Transaction) -> None:
        newest = transaction.rows(_NEWEST_RECONCILIATION, session_id)
        if newest and newest[0][1] == clean(state):
            known = transaction.rows(_DIFFERENCES_OF, newest[0][0])
            if [decode(row) for row in known] == told:
                return
        number = transaction.rows(_NEW_RECONCILIATION, session_id, run_id, moment, clean(state))
        if number:
            numbered = [(number[0][0], place, *row) for place, row in enumerate(rows)]
            transaction.insert("difference", ("reconciliation", "number", *DIFFERENCE.columns), numbered)

    database.write(work)


def reconciliations(database: Database, session_id: str) -> tuple[ReconciliationRecord, ...]:
    """The comparisons of a session, in the order in which they were recorded."""
    decode = DIFFERENCE.decoder(database.wire)
    found = database.rows(_RECONCILIATIONS, session_id)
    differences: dict[int, list[DifferenceRecord]] = {}
    for number, *row in database.rows(_DIFFERENCES, session_id):
        differences.setdefault(number, []).append(decode(row))
    return tuple(
        ReconciliationRecord(
            session_id=session_id,
            run_id=run_id,
            at_ms=database.wire.at_ms(at),
            state=state,
            differences=tuple(differences.get(number, ())),
        )
        for number, run_id, at, state in found
    )
