"""Schedules that hold: whatever is late, queued or dead, today's session starts once, and only today's."""

import datetime as dt

import pytest

from tasks.clock import IST, real_now_ms

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


def schedule(stack, deployment, at, parameters=None):
    """A run as the scheduler leaves it in the queue; its id."""
    found = stack.api.call("GET", f"/deployments/name/daily-session/{deployment}")
    state = {"type": "SCHEDULED", "state_details": {"scheduled_time": at.isoformat()}}
    run = {"parameters": {**found["parameters"], **(parameters or {})}, "state": state}
    return stack.api.call("POST", f"/deployments/{found['id']}/create_flow_run", run)["id"]


def test_after_a_dead_night_todays_session_starts_once_and_only_todays(begin, hold):
    """The worker and its session died, a run of yesterday waits, today's waits twice; then a worker comes up, late."""
    session = begin(speed=1, start="09:29:50", **hold)
    stack, api = session.stack, session.api
    session.wait_for(session.position_is_open, "a position")
    stack.kill("prefect-worker")
    stack.kill_run(session.run_id)
    dead_until_ms = session.ledger.leases.holder(session.key, real_now_ms()).expires_at_ms
    assert api.run(session.run_id)["state"]["type"] == "RUNNING", "a zombie: it holds its run and its lease"

    now = dt.datetime.now(IST)
    yesterdays = schedule(stack, "nifty-paper", now.replace(hour=9, minute=0) - dt.timedelta(days=1))
    params = {"params": {"index": "NIFTY", "mode": "rehearsal", **hold}, "day": session.key.day.isoformat()}
    todays = [schedule(stack, "rehearsal", now - dt.timedelta(minutes=40), params) for _ in range(2)]
    stack.start_worker()

    state = session.final_state(yesterdays)
    assert (state["type"], state["name"]) == ("COMPLETED", "Skipped")
    assert f"This run is for {now.date() - dt.timedelta(days=1)}; today is {now.date()}" in state["message"]

    started = session.wait_for(lambda: session.ledger.starts(session.session_id)[1:], "today's session")
    assert started[0].run_id in todays
    assert real_now_ms() >= dead_until_ms, "the dead session's lease ran out first"
    (second,) = set(todays) - {started[0].run_id}
    state = session.final_state(second)
    assert (state["type"], state["name"]) == ("COMPLETED", "AlreadyTrading"), state
    assert len(session.ledger.starts(session.session_id)) == 2, "the dead one and today's"
    assert len(session.ledger.trades(session.session_id)) == 1, "it took the position up"
    assert api.run(started[0].run_id)["state"]["type"] == "RUNNING"


def test_a_session_outlives_the_concurrency_of_prefect(stack):
    """No slot is taken for a session, so there is none that a dead run can hold, or that an absent server can end."""
    found = stack.api.call("POST", "/deployments/filter", {})
    sessions = [deployment for deployment in found if "session" in deployment["tags"]]
    assert len(sessions) == 9
    for deployment in sessions:
        assert deployment["global_concurrency_limit"] is None
        (*schedules,) = deployment["schedules"]
        assert [each["schedule"]["timezone"] for each in schedules] == ["Asia/Kolkata"] * len(schedules)
    active = {deployment["name"] for deployment in sessions for each in deployment["schedules"] if each["active"]}
    assert active == {"nifty-paper"}
