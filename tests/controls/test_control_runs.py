"""The controls as runs of a real Prefect server: how each ends, and who hears of it."""

import pytest

from flows.controls import halt, tighten
from flows.guardian import guardian
from flows.squareoff import squareoff

pytestmark = [pytest.mark.usefixtures("prefect_server")]


def test_the_guardian_s_runs_are_silent_when_flat_and_loud_when_they_acted(
    settings, hold, market, web_hook, monkeypatch
):
    monkeypatch.setenv("BOT_NOTIFY_URLS", web_hook.url)
    session = hold()
    session.buy()
    session.die()
    acted = guardian(return_state=True)
    assert (acted.name, acted.is_completed()) == ("ClosedByGuardian", True), acted.message
    assert "sold 65 x" in acted.message
    (heard,) = web_hook.heard
    assert "the guardian had to act" in heard["title"]
    assert guardian(return_state=True).name == "AllFlat"
    assert squareoff(return_state=True).name == "SquaredOff"
    assert len(web_hook.heard) == 1
    assert (market.net, market.sold) == ({}, 65)


def test_a_guardian_without_its_ledger_shouts_and_fails(settings, market, web_hook, monkeypatch, tmp_path):
    monkeypatch.setenv("BOT_NOTIFY_URLS", web_hook.url)
    monkeypatch.setenv("BOT_LEDGER_URL", "postgresql+psycopg://nobody@127.0.0.1:9/away")
    state = guardian(return_state=True)
    assert (state.name, state.is_failed()) == ("LedgerAway", True)
    (heard,) = web_hook.heard
    assert "the guardian cannot close: the ledger is away" in heard["title"]


def test_a_control_without_a_session_says_so(settings, market):
    state = halt(return_state=True)
    assert (state.name, state.is_failed()) == ("NoSession", True)
    assert "No session is alive" in state.message
    assert tighten(daily_max_loss=500.0, return_state=True).name == "NoSession"
