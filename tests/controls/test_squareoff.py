"""Squareoff where no session lives: done at the broker, once, also when the broker stumbles and Prefect is away."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from strategy.session import start
from strategy.state import Halt
from tasks.clock import real_now_ms
from tasks.connect import open_ledger
from tasks.controls import ask_sessions, square_off
from tasks.ledger.check import check
from tasks.ledger.records import CommandRecord
from tasks.trading.recovery import read_history, recover_orders
from tasks.trading.session import day_plan

PROJECT = Path(__file__).resolve().parents[2]


def squared_off(settings, **options):
    with open_ledger(settings) as ledger:
        return square_off(settings, ledger, reason="test", requested_by="test", timeout_s=1.0, **options)


def test_without_a_session_today_there_is_nothing_to_do(settings):
    assert squared_off(settings) == ()


def test_what_a_dead_session_holds_is_sold_and_a_later_start_opens_nothing_more(settings, hold, market):
    session = hold()
    contract = session.buy()
    command = CommandRecord(
        command_id="asked-before", session_id=session.session_id, kind="squareoff", reason="", requested_by="test",
        requested_at_ms=real_now_ms(),
    )  # fmt: skip
    session.ledger.request_command(command)  # the session died before it could answer
    session.die()
    (outcome,) = squared_off(settings)
    assert outcome.done, outcome
    assert outcome.said.startswith(f"no session was alive, closed at the broker: sold 65 x {contract.name}; flat")
    assert (market.net, market.sold) == ({}, 65)
    with open_ledger(settings) as ledger:
        (trade,) = ledger.trades(session.session_id)
        assert (trade.open_quantity, trade.exit_reason) == (0, "manual")
        assert ledger.command("asked-before").answer.startswith("closed without the session: sold 65")
        assert [found for found in check(ledger) if "overnight" not in str(found)] == []
    again = hold()
    recovered = recover_orders(again.ledger, again.session_id, again.execution)
    history = read_history(again.ledger, again.session_id, recovered, open_intents=again.execution.open_intents())
    state, _ = start(day_plan(again.connections), again.connections.params, at_ms=again.clock.now_ms(), history=history)
    assert state.gate.halts == (Halt.MANUAL_SQUAREOFF,)
    assert state.gate.ending is not None
    assert state.is_flat


@pytest.mark.parametrize(("became", "limit"), [("filled", 0.9), ("rests, far from the market", 1.5)])
def test_an_exit_that_only_the_broker_knows_of_is_not_sent_beside(became, limit, settings, hold, market):
    """The process could write nothing when it sold, and died: its number and its units are taken."""
    session = hold()
    contract = session.buy()
    number = f"{session.key.order_prefix(session.connections.salt)}-2-0"
    price = round(session.price_paise(contract) / 100 * limit)
    market.place(contract.security, "SELL", 65, price, number)
    session.pass_time(3)
    assert sum(market.net.values()) == (0 if became == "filled" else 65)
    session.die()
    (outcome,) = squared_off(settings)
    assert outcome.done, outcome
    assert (market.net, market.sold, market.lowest_ever) == ({}, 65, 0)
    assert [order["client_order_id"] for order in market.truth()["orders"] if order["side"] == "SELL"] == [number]
    with open_ledger(settings) as ledger:
        (trade,) = ledger.trades(session.session_id)
        assert (trade.open_quantity, trade.exit_reason) == (0, "unrecorded")
        assert [found for found in check(ledger) if "overnight" not in str(found)] == []


def test_one_index_alone_leaves_the_other_as_it_is(settings, hold, market):
    session = hold()
    session.buy()
    session.die()
    assert squared_off(settings, underlying="SENSEX") == ()
    assert sum(market.net.values()) == 65
    assert squared_off(settings, underlying="NIFTY")[0].done
    assert market.net == {}


STUMBLES = {
    "the reply to the sale is lost": [{"fault": "reset_after", "at": {"call": "place_order", "nth": 1}}],
    "the sale does not reach the broker": [{"fault": "reset_before", "at": {"call": "place_order", "nth": 1}}],
    "the exchange rejects the first sale": [
        {"fault": "reject", "at": {"call": "place_order", "nth": 1}, "message": "no"}
    ],
    "the sale fills in part": [{"fault": "partial_fill", "at": {"call": "place_order", "nth": 1}, "quantity": 65}],
    "the books cannot be read for a while": [
        {"fault": "server_error", "at": {"call": "positions", "nth": 1}, "times": 3}
    ],
    "there are no prices": [{"fault": "server_error", "at": {"call": "quote_full", "nth": 1}, "times": 50}],
}


@pytest.mark.parametrize("name", STUMBLES)
def test_whatever_the_broker_does_it_is_sold_once_and_in_full(name, settings, hold, market):
    session = hold()
    session.buy(lots=2)
    session.die()
    market.post_faults(*STUMBLES[name])
    (outcome,) = squared_off(settings)
    assert outcome.done, outcome
    assert (market.net, market.sold, market.lowest_ever) == ({}, 130, 0)


def test_a_broker_that_stays_unreadable_is_never_called_flat(settings, hold, market):
    session = hold()
    session.buy()
    session.die()
    market.post_faults({"fault": "server_error", "at": {"call": "positions", "nth": 1}, "times": 10_000})
    (outcome,) = squared_off(settings)
    assert not outcome.done
    assert "STILL HELD: 65 x" in outcome.said
    assert "the broker cannot be read" in outcome.said
    market.control("DELETE", "faults")
    assert squared_off(settings)[0].done
    assert (market.net, market.sold) == ({}, 65)


def test_a_session_that_starts_or_hangs_keeps_its_lease_unless_it_is_forced(settings, hold, market):
    session = hold(ttl_s=60.0)
    session.buy()
    (refused,) = squared_off(settings)
    assert not refused.done
    assert "does not answer; it may be hung. Repeat with force" in refused.said
    assert market.sold == 0
    with open_ledger(settings) as ledger:
        answers = ask_sessions(ledger, kind="halt", reason="", requested_by="test", timeout_s=0.3)
    assert answers == {session.session_id: None}
    (forced,) = squared_off(settings, force=True)
    assert forced.done, forced
    assert market.net == {}
    session.buy(intent=7, trade=7)  # it wakes up and wants to go on
    assert "lease_lost" in [getattr(said, "kind", "") for said in session.heard]
    assert (market.net, market.sold) == ({}, 65)


def test_the_command_works_when_prefect_is_away(settings, hold, market):
    session = hold()
    session.buy()
    session.die()
    done = subprocess.run(
        [sys.executable, "-c", "from flows.cli import main; main()", "squareoff", "--reason", "by hand"],
        cwd=PROJECT, env={**os.environ, "PREFECT_API_URL": "http://127.0.0.1:9/api"},
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "closed at the broker: sold 65 x" in done.stdout
    assert market.net == {}
