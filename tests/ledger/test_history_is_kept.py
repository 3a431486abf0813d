"""What happened cannot be changed: not by the ledger, not by a hand in the database that goes its usual ways."""

import pytest

from strategy.events import Tick
from tasks.ledger import LedgerRefused
from tasks.ledger.columns import DayColumns
from tasks.ledger.migrations.history import HISTORY_TABLES
from tasks.ledger.records import ArmingRecord, CommandRecord, DecisionRecord, DifferenceRecord
from tasks.ledger.tables import LedgerTable

REFUSED = "is history|is released, never deleted|fence of a lease never falls"


@pytest.fixture
def full_day(ledger, lease, day):
    """A row in every table."""
    ledger.record_start(day.start())
    ledger.record_intent(day.intent(1))
    ledger.record_order_event(day.event())
    ledger.record_fill(day.fill(1))
    ledger.record_decisions([DecisionRecord(session_id=day.session_id, at_ms=day.at(), kind="refused", reason="gap")])
    ledger.record_candles([day.candle(1)])
    ledger.record_ticks(day.session_id, [Tick(at_ms=day.at(), security="IDX_I:13", price_paise=26_000_00)])
    ledger.request_command(
        CommandRecord(
            command_id="c-1",
            session_id=day.session_id,
            kind="halt",
            reason="",
            requested_by="ui",
            requested_at_ms=day.at(),
        )
    )
    ledger.answer_command("c-1", "halted", day.at(1))
    ledger.record_charges([day.charge(1)])
    ledger.record_arming(
        ArmingRecord(
            account=day.key.account,
            underlying=day.key.underlying,
            day=day.key.day,
            number=1,
            armed=True,
            params={"lots": 1},
            armed_by="trader",
            at_ms=day.at(),
        )
    )
    ledger.record_reconciliation(
        day.session_id,
        "run-1",
        day.at(9),
        "differs",
        [DifferenceRecord(kind="x", subject="y", expected="1", found="2")],
    )
    ledger.record_day_columns(DayColumns(day.session_id, "target", {"no_flip": 7}, b"packed"), layout=1)
    ledger.record_imported([day.imported_trade()], [day.imported_candle()])
    ledger.record_heard(day.session_id, 1, 0, "[0, 1]")
    return ledger


def test_every_table_but_the_lease_is_history():
    assert {*HISTORY_TABLES, "lease"} == set(LedgerTable.metadata.tables)


def test_no_row_of_history_changes_or_goes(full_day, ledger_url, alter):
    for table in HISTORY_TABLES:
        column = LedgerTable.metadata.tables[table].columns.keys()[-1]
        before = full_day.rows(f"SELECT * FROM {table}")
        assert before, f"the test wants a row in {table}"
        for statement in (f"UPDATE {table} SET {column} = {column}", f"DELETE FROM {table}"):
            with pytest.raises(Exception, match=REFUSED):
                alter(ledger_url, statement)
        assert full_day.rows(f"SELECT * FROM {table}") == before


def test_replacing_a_row_is_refused(sqlite_ledger_url, open_ledger, day):
    """SQLite's REPLACE deletes first, and its triggers hear of it only on a connection that asks for that: ours do."""
    ledger = open_ledger(sqlite_ledger_url)
    ledger.open_session(day.key, "first")
    with pytest.raises(LedgerRefused, match="session is history"):
        ledger._database.write(
            lambda transaction: transaction.run(
                "INSERT OR REPLACE INTO session SELECT session_id, account, underlying, mode, day, 'second' FROM session"
            )
        )
    assert ledger.open_session(day.key, "third") == "first"


def test_truncate_is_refused(full_day, ledger_url, alter):
    if ledger_url.startswith("sqlite"):
        return  # SQLite has no TRUNCATE; its DELETE is above
    for table in (*HISTORY_TABLES, "lease"):
        with pytest.raises(Exception, match=REFUSED):
            alter(ledger_url, f"TRUNCATE {table} CASCADE")


def test_the_fence_of_a_lease_never_falls_and_its_row_stays(full_day, ledger_url, alter):
    for statement in ("UPDATE lease SET fence = fence - 1", "DELETE FROM lease"):
        with pytest.raises(Exception, match=REFUSED):
            alter(ledger_url, statement)


# What only a bug could send: the database refuses it, whatever the code before it does.
INSERTS = {
    "a fill of no units": "INSERT INTO fill VALUES ('{order}', 200, 0, 100, '2025-11-20 04:00:00')",
    "a fill for free": "INSERT INTO fill VALUES ('{order}', 200, 1, 0, '2025-11-20 04:00:00')",
    "a fill that ends before it begins": "INSERT INTO fill VALUES ('{order}', 10, 11, 100, '2025-11-20 04:00:00')",
    "a fill of an order that is not": "INSERT INTO fill VALUES ('nowhere', 75, 75, 100, '2025-11-20 04:00:00')",
    "a fill without a time": "INSERT INTO fill VALUES ('{order}', 200, 1, 100, NULL)",
    "the same cumulative quantity twice": "INSERT INTO fill VALUES ('{order}', 75, 75, 100, '2025-11-20 04:00:00')",
    "an order id that the broker would cut": "INSERT INTO client_order VALUES ('123456789012345678901', '{session}', 1, 9, 75, 5)",
    "an order for free": "INSERT INTO client_order VALUES ('x', '{session}', 1, 9, 75, 0)",
    "an order of an intent that is not": "INSERT INTO client_order VALUES ('x', '{session}', 99, 1, 75, 5)",
    "the same slice twice": "INSERT INTO client_order VALUES ('x', '{session}', 1, 1, 75, 5)",
    "a mode that is not": "INSERT INTO session VALUES ('x', 'a', 'NIFTY', 'demo', '2025-11-20', 's')",
    "a second session of the same day": "INSERT INTO session VALUES ('x', '1000000009', 'NIFTY', 'rehearsal', '2025-11-20', 's')",
    "a charge below zero": "INSERT INTO charge VALUES ('{order}', 2, 1, 1, 1, 1, 1, -1, 'v')",
    "a tick without a price": "INSERT INTO tick VALUES (1, 99, 0, 1, 0, 0, 0)",
    "a candle whose low is above its close": "INSERT INTO candle VALUES ('{session}', 5, '2025-11-20 04:00:00', 10, 12, 9, 8, 5, NULL, 0, NULL, NULL)",
    "a candle of a session that is not": "INSERT INTO candle VALUES ('nowhere', 5, '2025-11-20 04:00:00', 10, 12, 9, 11, 5, NULL, 1, NULL, NULL)",
    "a direction that is not": "INSERT INTO candle VALUES ('{session}', 5, '2025-11-20 04:00:00', 10, 12, 9, 11, 5, NULL, 2, NULL, NULL)",
}


@pytest.mark.parametrize("statement", INSERTS.values(), ids=INSERTS.keys())
def test_the_database_itself_refuses(full_day, ledger_url, alter, day, statement):
    statement = statement.format(order=day.order_id(1), session=day.session_id)
    keys_on = ("PRAGMA foreign_keys = ON",) if ledger_url.startswith("sqlite") else ()
    with pytest.raises(Exception, match=r"(?i)constraint|duplicate key"):
        alter(ledger_url, *keys_on, statement)


def test_sqlite_refuses_fractions_of_a_paisa(sqlite_ledger_url, open_ledger, alter, day):
    """PostgreSQL's BIGINT cannot hold one; SQLite's could."""
    ledger = open_ledger(sqlite_ledger_url)
    ledger.open_session(day.key, day.salt)
    ledger.leases.take(day.key, "x", day.at())
    ledger.record_intent(day.intent(1))
    with pytest.raises(Exception, match="ck_fill_value_whole_paise"):
        alter(sqlite_ledger_url, f"INSERT INTO fill VALUES ('{day.order_id(1)}', 75, 75, 100.5, '2025-11-20 04:00:00')")
