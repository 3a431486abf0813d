"""The daily session before it trades: which days it skips, what it refuses, and in which words."""

import datetime as dt

import pytest
import time_machine

from flows.session import daily_session
from strategy.params import Params

pytestmark = [pytest.mark.usefixtures("prefect_server"), pytest.mark.xdist_group("prefect")]

SUNDAY = dt.datetime(2026, 11, 22, 9, 0, tzinfo=dt.timezone(dt.timedelta(hours=5, minutes=30)))


@pytest.fixture
def _paper_account(tmp_path, monkeypatch):
    """Settings of a paper session that never gets as far as the broker."""
    monkeypatch.setenv("BOT_HOME", str(tmp_path))
    monkeypatch.setenv("BOT_DHAN_CLIENT_ID", "1000000001")
    monkeypatch.setenv("BOT_DHAN_ACCESS_TOKEN", "not-a-real-token")
    monkeypatch.delenv("BOT_SIMULATOR_URL", raising=False)
    monkeypatch.delenv("BOT_LEDGER_URL", raising=False)


@pytest.mark.usefixtures("_paper_account")
def test_a_day_without_trading_is_skipped():
    with time_machine.travel(SUNDAY, tick=True):
        state = daily_session(Params(mode="paper"), return_state=True)
    assert (state.type.value, state.name) == ("COMPLETED", "Skipped")
    assert "2026-11-22 is not a trading day: Sunday" in state.message


@pytest.mark.usefixtures("_paper_account")
def test_a_run_of_another_day_is_skipped():
    with time_machine.travel(SUNDAY, tick=True):
        state = daily_session(Params(mode="paper"), dt.date(2026, 11, 20), return_state=True)
    assert (state.type.value, state.name) == ("COMPLETED", "Skipped")
    assert "for 2026-11-20; today is 2026-11-22" in state.message


@pytest.mark.usefixtures("_paper_account")
def test_a_day_beyond_the_known_calendar_is_refused_with_the_next_step():
    later = SUNDAY + dt.timedelta(days=400)
    with time_machine.travel(later, tick=True):
        state = daily_session(Params(mode="paper"), later.date(), return_state=True)
    assert state.is_failed()
    assert "holiday list" in state.message


def test_a_failed_session_says_what_to_set_and_the_operator_hears_of_it(monkeypatch, tmp_path, web_hook):
    monkeypatch.setenv("BOT_HOME", str(tmp_path))
    monkeypatch.setenv("BOT_NOTIFY_URLS", web_hook.url)
    monkeypatch.delenv("BOT_SIMULATOR_URL", raising=False)
    state = daily_session(Params(mode="rehearsal"), return_state=True)
    assert state.is_failed()
    assert "BOT_SIMULATOR_URL is not set" in state.message
    (heard,) = web_hook.heard
    assert "daily-session" in heard["title"]
    assert "Failed" in heard["title"]
    assert "BOT_SIMULATOR_URL is not set" in heard["message"]
