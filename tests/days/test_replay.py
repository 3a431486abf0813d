"""A recorded session, told to the rules again, gives the same decisions; what was tampered with is named."""

import sqlite3

import pytest

from tasks.evening.replay import prove, record_verdict, recordings
from tasks.evening.twin import record_twins, twin_trades
from tasks.evening.what_if import what_if
from tasks.ledger.store import Ledger

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

BUSY = {
    "supertrend_period": 2,
    "supertrend_multiplier": 1.0,
    "macd_confirmation": False,
    "htf_filter": False,
    "stop_loss_points": 3,
    "trail_start_points": 2,
    "trail_step_points": 1,
    "lots": 30,
    "max_trades_per_day": 4,
    "daily_max_loss": 0,
    "entry_cutoff": "15:02",
    "squareoff_at": "15:05",
}


@pytest.fixture
def session(rehearse):
    """Ten minutes with several trades, over HTTP and WebSocket."""
    return rehearse("--seed", "7", "--start", "14:55", **BUSY)


def proof(day, path=None):
    ledger = Ledger(f"sqlite:///{path or day.ledger_path}")
    try:
        return prove(ledger, day.session_id)
    finally:
        ledger.close()


def tampered(day, name, *statements):
    """A copy of the ledger in which history was changed, its guards taken off first."""
    copy = day.ledger_path.with_name(f"{name}.sqlite3")
    with sqlite3.connect(day.ledger_path) as source, sqlite3.connect(copy) as target:
        source.backup(target)
        guards = target.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall()
        for (guard,) in guards:
            target.execute(f"DROP TRIGGER {guard}")
        for statement in statements:
            assert target.execute(statement).rowcount >= 1, statement
    return copy


def kept_once_and_beside_it_what_execution_cost(path, day):
    ledger = Ledger(f"sqlite:///{path}")
    for _ in range(2):
        record_verdict(ledger, day.session_id, prove(ledger, day.session_id))
        record_twins(ledger, day.session_id)
    (kept,) = ledger.decisions(day.session_id, "replay")
    assert kept.reason == "same"
    twins = ledger.decisions(day.session_id, "twin")
    fills = {intent for _, intent, *_ in ledger.fills(day.session_id)}
    assert {twin.detail["intent"] for twin in twins} == fills
    assert len(twins) == len(fills)
    real = {trade.trade: trade.gross_paise for trade in ledger.trades(day.session_id)}
    assert [twin.trade for twin in twin_trades(twins, real)] == sorted(real)
    assert prove(ledger, day.session_id).state == "same", "what the evening adds is no decision of the rules"
    ledger.close()


def other_settings_give_another_day(day):
    ledger = Ledger(f"sqlite:///{day.ledger_path}")
    recorded = recordings(ledger, day.session_id)
    ledger.close()
    params = recorded[0].params
    as_it_was = what_if(recorded, params)
    # Fills differ by a tick or a second, entries come on the same candles until a stop is hit otherwise.
    assert as_it_was.trades[0].contract.name == day.summary.trades[0].contract
    assert as_it_was.trades[0].quantity == day.summary.trades[0].quantity
    none = what_if(recorded, params.model_copy(update={"entries_enabled": False}))
    assert none.trades == ()
    assert none.refusals["entries_disabled"] > 0
    once = what_if(recorded, params.model_copy(update={"max_trades_per_day": 1, "stop_loss_points": 0.0}))
    assert len(once.trades) == 1


def test_a_session_replays_decision_by_decision_and_what_was_changed_is_named(session):
    assert session.summary.trade_count >= 2
    verdict = proof(session)
    assert verdict.state == "same", str(verdict)
    assert verdict.compared > 100
    assert not verdict.gaps
    with sqlite3.connect(session.ledger_path) as ledger:
        highest = ledger.execute(
            "SELECT t.batch, t.number FROM tick t JOIN security s ON s.number = t.security"
            " WHERE s.security = 'IDX_I:13' ORDER BY t.price_paise DESC LIMIT 1"
        ).fetchone()
    one_tick = "UPDATE tick SET price_paise = price_paise + 5000 WHERE batch = {} AND number = {}".format(*highest)
    differs = proof(session, tampered(session, "tick", one_tick))
    assert differs.state == "different"
    assert differs.difference.what == "candle"
    assert "high_paise" in str(differs)

    stop = "UPDATE intent SET reason = 'target' WHERE intent = 2"
    differs = proof(session, tampered(session, "intent", stop))
    assert differs.difference.what == "order"
    assert "reason=target" in differs.difference.recorded

    gone = "DELETE FROM decision WHERE number = (SELECT MIN(number) FROM decision WHERE kind = 'entry_refused')"
    differs = proof(session, tampered(session, "decision", gone))
    assert differs.state == "different"
    assert differs.difference.what == "decision"

    # A crash: the end of the recording is missing, and what is complete is still proven.
    crash = tampered(session, "crash", "DELETE FROM heard WHERE number = (SELECT MAX(number) FROM heard)")
    cut = proof(session, crash)
    assert cut.state == "same", str(cut)
    assert "not proven" in str(cut)

    kept_once_and_beside_it_what_execution_cost(tampered(session, "evening"), session)
    other_settings_give_another_day(session)

    unrecorded = proof(session, tampered(session, "none", "DELETE FROM heard"))
    assert unrecorded.state == "unproven"
