"""The day as the operator runs it: deployments, a worker, manual runs; and what happens when Prefect goes away."""

import pytest

from flows.demo import DemoFailed
from tasks.clock import ist, real_now_ms
from tasks.controls import ask_sessions
from tasks.pages.summary import DaySummary

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

SPEED = 0.25


def test_the_position_is_closed_on_time_when_the_prefect_server_dies_in_mid_day(begin, hold):
    session = begin(entry_start="13:30:00", **hold)
    session.wait_for(session.position_is_open, "a position")
    session.stack.kill("prefect-server")
    assert session.market_now_ms() < session.key_ms("15:00:00"), "the server was to die in mid-day"
    session.wait_for(lambda: session.ledger.charges(session.session_id), "the evening's bookkeeping")
    summary = DaySummary.build(session.ledger, session.session_id)
    assert summary.is_sound, summary.faults
    (trade,) = summary.trades
    assert trade.exit_reason == "squareoff"
    assert f"{trade.exited_at:%H:%M}" == "15:25"
    assert all(position["net_quantity"] == 0 for position in session.truth()["positions"])


def test_a_squareoff_run_closes_the_position_within_two_seconds(begin, hold):
    # A quarter of real time, so that a busy machine does not decide; the two seconds are the market's.
    session = begin(speed=SPEED, start="09:29:50", **hold)
    session.wait_for(session.position_is_open, "a position")
    market_ms, real_ms = session.market_now_ms(), real_now_ms()
    run_id = session.api.start("squareoff/squareoff", {"reason": "test"})
    state = session.final_state(run_id)
    assert state["name"] == "SquaredOff", state
    # The session stays, without entries, until it is stopped or the day is over.
    assert ask_sessions(session.ledger, kind="stop", reason="test", requested_by="test")[session.session_id]
    assert session.final_state()["name"] == "Flat"
    states = {run["flow"]: run["state"] for run in session.api.runs_of_the_day(session.run_id)}
    assert states == {"daily-session": "Flat", "reconciliation": "Matched", "analytics": "Reported"}
    (trade,) = DaySummary.build(session.ledger, session.session_id).trades
    assert trade.exit_reason == "manual"
    requested_ms = market_ms + (session.command_times()[0] - real_ms) * SPEED
    took_s = trade.exited_at.timestamp() - requested_ms / 1000
    assert took_s <= 2.0, f"asked at {ist(round(requested_ms))}, flat at {trade.exited_at}"


def test_cancelled_in_the_ui_it_closes_first_and_the_run_tells_it(begin, hold):
    session = begin(speed=1, start="09:29:50", **hold)
    stack = session.stack
    before = {run["id"] for run in stack.runs_of("guardian")}
    session.wait_for(session.position_is_open, "a position")
    stack.api.call("POST", f"/flow_runs/{session.run_id}/set_state", {"state": {"type": "CANCELLING"}})
    assert session.final_state()["type"] == "CANCELLED"
    assert all(position["net_quantity"] == 0 for position in session.truth()["positions"])
    assert not session.position_is_open()
    asked = session.ledger.rows("SELECT kind, reason, requested_by FROM command")
    assert asked == [("stop", "SIGTERM", "signal")]
    assert session.api.run(session.run_id)["name"] == "2026-11-20 NIFTY rehearsal (cancelled: Stopped)"
    history = stack.api.call("GET", f"/flow_run_states/?flow_run_id={session.run_id}")
    (told,) = [state["message"] for state in history if state["name"] == "Stopped"]
    assert told.startswith("told to end by SIGTERM, nothing is held")
    # The evening outlives the run, and the guardian looked whether anything was left.
    session.wait_for(lambda: session.ledger.reconciliations(session.session_id), "the reconciliation")
    (guarded,) = session.wait_for(lambda: stack.runs_of("guardian", before), "the guardian's run")
    assert session.final_state(guarded["id"])["name"] == "AllFlat"
    session.wait_for(lambda: session.ledger.charges(session.session_id), "the evening's bookkeeping")


def test_wrong_settings_are_refused_before_the_run(stack, begin):
    with pytest.raises(DemoFailed, match="lots"):
        begin(lots=0)
