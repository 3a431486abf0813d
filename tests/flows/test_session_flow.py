"""The daily session before it trades: which days it skips, what it refuses, and in which words."""

import datetime as dt
import threading
from uuid import uuid4

import pytest
import time_machine
from prefect import flow
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import DeploymentScheduleCreate
from prefect.client.schemas.filters import DeploymentFilter
from prefect.client.schemas.objects import FlowRun
from prefect.client.schemas.schedules import CronSchedule
from prefect.context import get_run_context
from prefect.states import Cancelling

from flows.arming import arm_live, disarm_live
from flows.guardian import guardian
from flows.session import APPROVAL_UNTIL, approved, daily_session, look_after_cancelled
from strategy.instruments import Underlying
from strategy.params import Params
from tasks.arming import arm, why_not_armed
from tasks.clock import IST, pause
from tasks.connect import open_ledger
from tasks.ledger.records import SessionKey
from tasks.settings import Settings

pytestmark = [pytest.mark.usefixtures("prefect_server")]

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
        state = daily_session(Params(mode="paper"), SUNDAY.date(), return_state=True)
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


MONDAY = dt.datetime(2026, 11, 23, 9, 0, tzinfo=IST)
LIVE = Params(mode="live")
KEY = SessionKey(account="1000000001", underlying=Underlying.NIFTY, mode="live", day=MONDAY.date())


@pytest.mark.usefixtures("_paper_account")
def test_a_live_run_that_nobody_armed_trades_nothing_and_says_so(monkeypatch, web_hook):
    monkeypatch.setenv("BOT_NOTIFY_URLS", web_hook.url)
    with time_machine.travel(MONDAY, tick=True):
        state = daily_session(LIVE, KEY.day, return_state=True)
    assert (state.type.value, state.name) == ("COMPLETED", "NotArmed")
    assert "NIFTY is not armed for 2026-11-23" in state.message
    (heard,) = web_hook.heard
    assert "LIVE NIFTY: not armed, nothing is traded" in heard["title"]


@pytest.mark.usefixtures("_paper_account")
def test_a_live_run_with_other_settings_than_armed_trades_nothing():
    with open_ledger() as ledger:
        arm(ledger, KEY.account, LIVE, [KEY.day], "trader")
    with time_machine.travel(MONDAY, tick=True):
        state = daily_session(Params(mode="live", lots=2), KEY.day, return_state=True)
    assert state.name == "NotArmed"
    assert "lots 2 instead of 1" in state.message


@pytest.fixture
def ask(monkeypatch, tmp_path):
    """Run the question before the open on the server, now; `ask(until_s, answer)` returns what came of it."""
    monkeypatch.setenv("BOT_HOME", str(tmp_path))

    def run(until_s, answer=None):
        until = dt.datetime.now(IST) + dt.timedelta(seconds=until_s)

        @flow
        def gate():
            if answer is not None:
                run_id = get_run_context().flow_run.id
                operator = threading.Thread(target=say, args=(run_id, answer))
                operator.start()
            said = approved(LIVE, until.date(), until.timetz().replace(tzinfo=None))
            return said, get_client(sync_client=True).read_flow_run(get_run_context().flow_run.id).state.type.value

        return gate()

    def say(run_id, answer):
        with get_client(sync_client=True) as client:
            while not client.read_flow_run(run_id).state.is_paused():
                pause(0.2)
            client.resume_flow_run(run_id, run_input={"trade_live": answer})

    return run


@pytest.mark.parametrize("answer", [True, False])
def test_the_operator_decides_before_the_open(ask, answer):
    assert ask(60, answer) == (answer, "RUNNING")


def test_without_an_answer_in_time_the_day_is_traded_on_paper(ask):
    assert ask(3) == (False, "RUNNING"), "the run goes on, whatever the server thinks of its pause"
    assert ask(-1)[0] is False, "past the time nobody is asked"
    assert dt.time(9, 15) > APPROVAL_UNTIL


@pytest.fixture
def live_deployment(prefect_server):
    """nifty-live as `prefect deploy` leaves it: its schedule switched off."""
    deployment = daily_session.to_deployment("nifty-live", parameters={"params": {"index": "NIFTY", "mode": "live"}})
    deployment.schedules = [
        DeploymentScheduleCreate(schedule=CronSchedule(cron="0 9 * * *", timezone="Asia/Kolkata"), active=False)
    ]
    deployment.apply()

    def is_on():
        with get_client(sync_client=True) as client:
            (schedule,) = client.read_deployment_by_name("daily-session/nifty-live").schedules
            return schedule.active

    return is_on


@pytest.mark.usefixtures("_paper_account")
def test_arming_shows_the_limits_takes_a_typed_word_and_switches_the_schedule_on(live_deployment, capsys):
    with time_machine.travel(MONDAY - dt.timedelta(hours=1), tick=True):
        assert arm_live(Underlying.NIFTY, None, 2, confirm="yes") == 1
        with open_ledger() as ledger:
            assert why_not_armed(ledger, KEY, LIVE) is not None
        assert live_deployment() is False

        assert arm_live(Underlying.NIFTY, None, 2, confirm=None, ask=lambda _: "NIFTY 2026-11-23") == 0
        shown = capsys.readouterr().out
        assert "REAL MONEY" in shown
        assert "Mon 23 Nov 2026, Wed 25 Nov 2026" in shown, "the 24th is a holiday"
        assert "Daily loss limit" in shown
        with open_ledger() as ledger:
            assert why_not_armed(ledger, KEY, LIVE) is None
        assert live_deployment() is True

        assert disarm_live(Underlying.NIFTY) == 0
        with open_ledger() as ledger:
            assert "was disarmed" in why_not_armed(ledger, KEY, LIVE)
        assert live_deployment() is False


@pytest.mark.usefixtures("_paper_account")
def test_what_cannot_be_armed_says_why(live_deployment, capsys):
    with time_machine.travel(MONDAY, tick=True):
        assert arm_live(Underlying.NIFTY, dt.date(2026, 11, 24), 1, confirm="NIFTY 2026-11-24") == 1
        assert arm_live(Underlying.NIFTY, dt.date(2026, 11, 20), 1, confirm="NIFTY 2026-11-20") == 1
        assert arm_live(Underlying.SENSEX, None, 1, confirm="SENSEX 2026-11-23") == 1
    shown = " ".join(capsys.readouterr().out.split())
    assert "2026-11-24 is not a trading day" in shown
    assert "found 2026-11-20" in shown
    assert "sensex-live was expected on the Prefect server, not found: 'bot bootstrap'" in shown
    assert Settings().client_id == KEY.account


@pytest.fixture
def guardian_runs(prefect_server):
    """How many runs of the guardian there are; its deployment has no worker here."""
    guardian.to_deployment("guardian").apply()

    def count():
        with get_client(sync_client=True) as client:
            wanted = client.read_deployment_by_name("guardian/guardian").id
            runs = client.read_flow_runs(deployment_filter=DeploymentFilter(id={"any_": [wanted]}))
            return len(runs)

    return count


@pytest.mark.parametrize(("on_signal", "looks"), [("squareoff", 1), ("hand_over", 0), (None, 1)])
def test_the_guardian_looks_after_a_cancelled_run_unless_it_was_to_hand_over(guardian_runs, on_signal, looks):
    params = {"index": "NIFTY"} if on_signal is None else {"index": "NIFTY", "on_signal": on_signal}
    cancelled = FlowRun(flow_id=uuid4(), parameters={"params": params})
    before = guardian_runs()
    look_after_cancelled(daily_session, cancelled, Cancelling())
    assert guardian_runs() - before == looks
