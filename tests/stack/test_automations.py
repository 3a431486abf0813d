"""What the jobs stand on: `bot bootstrap` creates it, the server takes the job templates, and each automation fires
when its run really dies.
"""

import json

import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.exceptions import PrefectHTTPStatusError
from prefect.settings import PREFECT_API_URL, temporary_settings

from deployments.bootstrap import bootstrap

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

SILENT_AFTER_S = 35.0
AUTOMATIONS = {"silent session", "crashed session", "late session", "failed evening", "evening once more"}


def changes(stack):
    with temporary_settings({PREFECT_API_URL: stack.api_url}):
        done = bootstrap(stack.project, silent_after_s=SILENT_AFTER_S)
    return {step.what: step.how for step in done if step.how != "unchanged"}


def ended(stack, deployment, before):
    """The new runs of a deployment, once there are some and all have ended."""
    runs = stack.runs_of(deployment, before)
    return runs if runs and all(run["state"]["type"] in {"COMPLETED", "FAILED", "CRASHED"} for run in runs) else None


def test_bootstrapping_again_changes_nothing_and_mends_what_was_switched_off(stack):
    changes(stack)
    assert changes(stack) == {}
    with temporary_settings({PREFECT_API_URL: stack.api_url}), get_client(sync_client=True) as client:
        known = {automation.name: automation for automation in client.read_automations()}
        assert set(known) >= AUTOMATIONS
        client.pause_automation(known["late session"].id)
    assert changes(stack) == {"automation late session": "changed"}
    assert changes(stack) == {}


@pytest.mark.parametrize("kind", ["docker", "kubernetes"])
def test_the_server_makes_a_pool_of_a_job_template_and_holds_runs_to_its_variables(stack, kind):
    template = json.loads((stack.project / "deployments" / "pools" / f"{kind}.json").read_text())
    name = f"trading-{kind}"
    with temporary_settings({PREFECT_API_URL: stack.api_url}), get_client(sync_client=True) as client:
        client.create_work_pool(WorkPoolCreate(name=name, type=kind, base_job_template=template))
        try:
            pool = client.read_work_pool(name)
            assert (pool.type, pool.base_job_template) == (kind, template)

            flow_id = client.read_deployment_by_name("daily-session/rehearsal").flow_id
            made = client.create_deployment(
                flow_id, f"on-{kind}", work_pool_name=name, job_variables={"image": "trading-bot:4"}
            )
            client.delete_deployment(made)
            with pytest.raises(PrefectHTTPStatusError, match="image"):
                client.create_deployment(flow_id, f"on-{kind}", work_pool_name=name, job_variables={"image": 4})

            del template["variables"]["properties"]["image"]
            with pytest.raises(PrefectHTTPStatusError, match="undeclared"):
                client.create_work_pool(WorkPoolCreate(name=f"{name}-2", type=kind, base_job_template=template))
        finally:
            client.delete_work_pool(name)


@pytest.mark.parametrize("dies_too", ["the process alone", "with its worker"])
def test_a_session_that_dies_with_a_position_is_told_closed_and_marked(begin, hold, web_hook, dies_too):
    """Its worker says that the process is gone; with the worker dead as well, the missing heartbeats do."""
    session = begin(speed=1, start="09:29:50", notify=web_hook.url, **hold)
    stack = session.stack
    changes(stack)
    before = {run["id"] for name in ("guardian", "alarm") for run in stack.runs_of(name)}
    session.wait_for(session.position_is_open, "a position")
    if dies_too == "with its worker":
        stack.kill("prefect-worker")
        stack.kill_run(session.run_id)
        assert session.api.run(session.run_id)["state"]["type"] == "RUNNING", "nobody was there to say so"
        stack.start_worker()
    else:
        assert stack.kill_run(session.run_id)
    state = session.final_state()
    assert state["type"] == "CRASHED", state
    (guarded,) = session.wait_for(lambda: ended(stack, "guardian", before), "the guardian's run")
    assert guarded["state"]["name"] == "ClosedByGuardian", guarded["state"]
    assert all(position["net_quantity"] == 0 for position in session.truth()["positions"])
    told = session.wait_for(lambda: ended(stack, "alarm", before), "the alarm")
    assert any(run["name"].startswith("session crashed: rehearsal") for run in told)
    titles = session.wait_for(
        lambda: [heard["title"] for heard in web_hook.heard if "session crashed" in heard["title"]], "the alert"
    )
    assert "2026-11-20 NIFTY rehearsal" in titles[0]


def test_an_evening_job_that_dies_is_tried_once_more_and_told(stack, web_hook, tmp_path):
    changes(stack)
    stack.restart_worker(
        {
            "BOT_HOME": str(tmp_path),
            "BOT_LEDGER_URL": f"sqlite:///{tmp_path / 'ledger.sqlite3'}",
            "BOT_NOTIFY_URLS": web_hook.url,
            "BOT_SIMULATOR_URL": "http://127.0.0.1:1",
        }
    )
    api = stack.api
    # No such session: it fails, and waits ten seconds before it asks again; that is when it dies.
    run_id = api.start("reconciliation/reconciliation", {"session_id": "2026-11-20/NIFTY/rehearsal/none"})
    stack.wait_for(lambda: api.run(run_id)["state"]["type"] == "RUNNING" and stack.kill_run(run_id), "the run")
    stack.wait_for(lambda: api.run(run_id)["run_count"] >= 2, "the second attempt")
    stack.wait_for(lambda: [heard for heard in web_hook.heard if "evening failed" in heard["title"]], "the alert")
    stack.wait_for(lambda: api.run(run_id)["state"]["type"] in {"CRASHED", "FAILED"}, "its end")
    # Once more; twice where the dead first attempt is reported by its worker and by the run's supervisor, and no further.
    assert api.run(run_id)["run_count"] in {2, 3}
