"""`bot status` and `bot watch` read the ledger alone, and say what is held, what it made, and who looks after it."""

import json
from io import StringIO

import pytest
from rich.console import Console

from flows.watch import ABANDONED, ALL_WELL, NO_LEDGER, NO_SESSION, print_status
from strategy.events import Tick
from tasks.ledger.records import DecisionRecord
from tasks.pages.status import read_status, render_status
from tasks.pages.summary import DaySummary

# Long after the day: its lease has run out.
LATER_MS = 1_800_000_000_000


def text_of(status):
    console = Console(width=120, file=StringIO())
    console.print(render_status(status))
    return console.file.getvalue()


@pytest.fixture
def holding(record_day):
    """A day whose last trade is still held, its session alive by its lease for 30 s of real time."""
    return record_day(leave_open=True, reconciled=False, priced=False)


def test_a_finished_day_shows_the_money_of_the_days_summary(recorded_day):
    summary = DaySummary.build(recorded_day.ledger, recorded_day.session_id)
    status = read_status(recorded_day.ledger, recorded_day.session_id, LATER_MS)
    assert status.day_net_paise == summary.net_paise
    assert status.charges_paise == summary.charges_paise
    assert status.refusals == summary.refusals
    assert len(status.trades) == 4
    assert not status.alive
    assert not status.is_abandoned
    assert "Nothing is held." in text_of(status)


def test_what_is_held_is_valued_at_the_last_price_with_the_stop_as_it_was_moved(holding):
    ledger, session_id = holding.ledger, holding.session_id
    (open_trade,) = [trade for trade in ledger.trades(session_id) if trade.open_quantity]
    at_ms = open_trade.entry_at_ms
    ledger.record_ticks(
        session_id,
        [
            Tick(at_ms=at_ms + 1_000, security=open_trade.security, price_paise=125_00),
            Tick(at_ms=at_ms + 2_000, security="IDX_I:13", price_paise=24_512_30),
            Tick(at_ms=at_ms + 3_000, security=open_trade.security, price_paise=131_00),
        ],
    )
    moved = {"trade": open_trade.trade, "stop_paise": 126_00, "best_paise": 131_00}
    ledger.record_decisions(
        [DecisionRecord(session_id=session_id, at_ms=at_ms + 3_000, kind="stop_moved", reason="trailing", detail=moved)]
    )
    status = read_status(ledger, session_id, LATER_MS)
    (held,) = status.positions
    assert (held.quantity, held.entry_paise, held.last_paise, held.stop_paise) == (65, 120_00, 131_00, 126_00)
    assert held.unrealised_paise == 65 * 11_00
    assert status.spot_paise == 24_512_30
    shown = text_of(status)
    assert f"65 × {open_trade.contract_name.removeprefix('NIFTY ')}" in shown
    assert "+₹715.00" in shown
    assert status.is_abandoned, "the lease of the test has long run out"
    assert "HELD, AND NO SESSION LIVES" in shown


def test_halts_stand_until_they_are_lifted(recorded_day):
    ledger, session_id = recorded_day.ledger, recorded_day.session_id
    assert read_status(ledger, session_id, LATER_MS).halts == ("operator",)
    lifted = DecisionRecord(
        session_id=session_id, at_ms=1_795_170_000_000, kind="resumed", reason="operator", detail={}
    )
    ledger.record_decisions([lifted])
    assert read_status(ledger, session_id, LATER_MS).halts == ()


def test_exit_codes_and_json_are_for_programs(holding, sqlite_ledger_url, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("BOT_HOME", str(tmp_path))
    monkeypatch.setenv("BOT_LEDGER_URL", sqlite_ledger_url)
    assert print_status(None, None, as_json=True) == ABANDONED
    (told,) = json.loads(capsys.readouterr().out)
    assert told["session_id"] == holding.session_id
    assert told["abandoned"] is True
    assert told["positions"][0]["quantity"] == 65
    monkeypatch.setenv("BOT_LEDGER_URL", f"sqlite:///{tmp_path / 'empty.sqlite3'}")
    assert print_status(None, None, as_json=False) == NO_SESSION
    monkeypatch.setenv("BOT_LEDGER_URL", "postgresql+psycopg://127.0.0.1:9/nothing")
    assert print_status(None, None, as_json=False) == NO_LEDGER


def test_a_finished_day_is_well(recorded_day, sqlite_ledger_url, tmp_path, monkeypatch):
    monkeypatch.setenv("BOT_HOME", str(tmp_path))
    monkeypatch.setenv("BOT_LEDGER_URL", sqlite_ledger_url)
    assert print_status(recorded_day.key.day, recorded_day.key.underlying, as_json=False) == ALL_WELL
