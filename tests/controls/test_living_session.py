"""Controls, signals and the running comparison on a real trading process and a market that runs by itself."""

import signal

import pytest

from strategy.events import CommandKind
from tasks.controls import control_sessions, square_off, tightening
from tasks.trading.guarding import guard

pytestmark = [pytest.mark.timeout(900)]


def ask(session, kind, **limits):
    (outcome,) = control_sessions(
        session.ledger, kind=kind, reason="test", requested_by="test", detail=tightening(**limits) if limits else None
    )
    return outcome


def kinds(session):
    return [(said.kind, said.reason) for said in session.ledger.decisions(session.session_id)]


def test_an_operator_halts_resumes_tightens_and_stops_and_each_is_answered(begin):
    session = begin()
    session.await_position()
    (looked,) = guard(session.settings, session.ledger)  # a living session is left to its work
    assert (looked.done, looked.acted, looked.said[:26]) == (True, False, "a session is at work: 65 x")
    assert ask(session, CommandKind.HALT).said == "halted: no new entries; exits go on"
    assert ask(session, CommandKind.RESUME).said == "resumed: entries are possible again"
    limits = {"daily_max_loss": 1_500.0, "max_trades_per_day": None}
    assert ask(session, CommandKind.TIGHTEN, **limits).said == "limits lowered for the rest of the day"
    raised = ask(session, CommandKind.TIGHTEN, daily_max_loss=9_000.0, max_trades_per_day=None)
    assert not raised.done
    assert "can only be lowered" in raised.said
    stopped = ask(session, CommandKind.STOP)
    assert stopped.done
    assert stopped.said.startswith("flat")
    ended = session.end()
    assert ended["state"] == "Flat"
    assert "(stopped)" in ended["message"]
    assert session.market.net == {}
    told = kinds(session)
    for said in (("halted", "operator"), ("resumed", "operator"), ("limits_tightened", "operator")):
        assert said in told


@pytest.mark.slow
def test_a_signal_hands_the_position_over_or_closes_it_first_as_is_set(begin):
    session = begin(on_signal="hand_over", stop_loss_points=60)
    session.await_position()
    session.process.send_signal(signal.SIGTERM)
    ended = session.end()
    assert (ended["state"], ended["day_over"]) == ("HandedOver", False)
    assert "left open for the next start: 65 x" in ended["message"]
    assert ("alert", "handed_over") in kinds(session)
    assert list(session.market.net.values()) == [65]
    # The next start takes it up; by default a signal closes first, and says so.
    # It is told twice that the account asked too often, as when its sessions start together.
    session.market.post_faults({"fault": "rate_storm", "at": {"call": "positions", "nth": 1}, "times": 2})
    again = begin(stop_loss_points=60)
    again.wait_for(lambda: {fence for fence, *_ in again.ledger.heard(again.session_id)} == {1, 2}, "the second start")
    again.process.send_signal(signal.SIGTERM)
    ended = again.end()
    assert ended["state"] == "Stopped"
    assert ended["message"].startswith("told to end by SIGTERM, nothing is held")
    (trade,) = again.trades
    assert (trade.open_quantity, trade.exit_reason) == (0, "halt")
    assert (again.market.net, again.market.sold) == ({}, 65)
    asked = again.ledger.rows("SELECT kind, reason FROM command ORDER BY requested_at")
    assert asked == [("leave", "SIGTERM"), ("stop", "SIGTERM")]


@pytest.mark.slow
def test_a_hung_session_is_named_and_force_closes_without_it(begin):
    session = begin()
    session.await_position()
    session.process.send_signal(signal.SIGSTOP)
    asked = {"reason": "test", "requested_by": "test", "timeout_s": 2.0}
    (refused,) = square_off(session.settings, session.ledger, **asked)
    assert not refused.done
    assert "does not answer; it may be hung. Repeat with force" in refused.said
    assert session.market.sold == 0
    (closed,) = square_off(session.settings, session.ledger, force=True, **asked)
    assert closed.done, closed
    assert (session.market.net, session.market.sold) == ({}, 65)
    # It comes back to life: fenced off, it sends nothing more, and the day stays flat.
    session.process.send_signal(signal.SIGCONT)
    session.wait_for(lambda: "lease lost" in session.log.read_text(), "the loss of the lease")
    assert (session.market.net, session.market.sold, session.market.lowest_ever) == ({}, 65, 0)
    assert guard(session.settings, session.ledger)[0].said == "all flat"


@pytest.mark.slow
def test_books_that_differ_or_cannot_be_read_stop_entries_until_they_are_good_again(begin):
    session = begin(speed=10)
    session.await_position()
    session.market.post_faults({"fault": "server_error", "at": {"call": "positions", "nth": 1}, "times": 3})
    session.wait_for(lambda: ("alert", "broker_unreadable") in kinds(session), "the alert that it cannot be read")
    (security,) = session.market.net
    session.market.place(security, "SELL", 65, 1)  # by hand, at the broker's terminal
    session.wait_for(lambda: ("alert", "books_differ") in kinds(session), "the alert that the books differ")
    # What somebody else has sold is not sold again: that would be a short position.
    (asked,) = control_sessions(
        session.ledger, kind=CommandKind.STOP, reason="test", requested_by="test", timeout_s=1.0
    )
    assert not asked.done
    session.wait_for(lambda: ("alert", "exit_withheld") in kinds(session), "the alert that an exit was withheld")
    assert (session.market.sold, session.market.lowest_ever) == (65, 0)
    paid = session.trades[0].buy_value_paise // 65 // 100
    session.market.place(security, "BUY", 65, round(paid * 1.3))
    assert session.end()["state"] == "Flat"
    assert ("alert", "books_agree") in kinds(session)
    assert (session.market.net, session.market.lowest_ever) == ({}, 0)
