"""Every deployment of prefect.yaml loads, explains itself, and has parameters that its flow accepts."""

import json
from pathlib import Path
from types import SimpleNamespace
from uuid import uuid4

import pytest
import yaml
from prefect.client.schemas.schedules import CronSchedule
from prefect.events.actions import RunDeployment
from prefect.flows import load_flow_from_entrypoint
from prefect.server.events.actions import RunDeployment as ServerRunDeployment
from prefect.server.utilities.user_templates import render_user_template_sync
from prefect.settings import PREFECT_API_URL, temporary_settings
from prefect.utilities.callables import parameter_schema

from deployments.bootstrap import BootstrapFailed, automations, bootstrap
from flows.demo import REHEARSAL_JOBS
from strategy.instruments import Underlying
from strategy.params import Params

PROJECT = Path(__file__).resolve().parents[2]
DEPLOYMENTS = yaml.safe_load((PROJECT / "prefect.yaml").read_text())["deployments"]


@pytest.fixture(params=DEPLOYMENTS, ids=lambda deployment: deployment["name"])
def deployment(request):
    return request.param


def test_it_loads_and_its_parameters_are_accepted(deployment):
    flow = load_flow_from_entrypoint(str(PROJECT / deployment["entrypoint"]))
    given = deployment.get("parameters", {})
    required = parameter_schema(flow).required
    if set(required) <= set(given):
        flow.validate_parameters(given)
    else:
        assert set(given) <= set(parameter_schema(flow).properties)


def test_it_explains_itself(deployment):
    flow = load_flow_from_entrypoint(str(PROJECT / deployment["entrypoint"]))
    assert len(deployment["description"]) > 40
    for name, field in parameter_schema(flow).properties.items():
        assert field.get("description") or "$ref" in str(field) or field.get("allOf"), f"{name} has no description"
    assert deployment["work_pool"]["name"] == "trading"
    assert deployment["enforce_parameter_schema"] is True


def test_its_schedules_are_indian_mornings_and_evenings(deployment):
    for schedule in deployment.get("schedules", ()):
        CronSchedule(cron=schedule["cron"], timezone=schedule["timezone"])
        assert schedule["timezone"] == "Asia/Kolkata"
        # Every day of the year: the calendar of the run knows which ones are trading days.
        assert schedule["cron"].endswith(" * * *") or deployment["name"] == "weekly-report"


SESSIONS = [deployment for deployment in DEPLOYMENTS if "session" in deployment["tags"]]


def test_there_is_a_session_per_index_and_mode():
    found = {
        deployment["name"]: (deployment["parameters"]["params"], deployment["tags"], deployment.get("schedules", []))
        for deployment in SESSIONS
    }
    names = {f"{index}-{mode}".lower() for index in Underlying for mode in ("paper", "live")}
    assert set(found) == {"rehearsal", *names}
    for name in names:
        index, mode = name.split("-")
        params, tags, _ = found[name]
        assert params == {"index": index.upper(), "mode": mode}
        assert tags == ["session", index, mode]


def test_a_kept_rehearsal_does_nothing_in_the_morning():
    jobs = [deployment for deployment in DEPLOYMENTS if deployment["name"] in REHEARSAL_JOBS]
    assert len(jobs) == len(REHEARSAL_JOBS)
    assert not any(schedule["active"] for job in jobs for schedule in job.get("schedules", ()))


def test_only_one_paper_session_starts_by_itself_and_no_live_one():
    active = {
        deployment["name"]
        for deployment in SESSIONS
        for schedule in deployment.get("schedules", ())
        if schedule["active"]
    }
    assert active == {"nifty-paper"}


def test_no_session_has_a_limit_of_prefects_own():
    """Prefect ends a run whose slot it cannot renew: with the server away that would be the end of trading."""
    for deployment in SESSIONS:
        assert "concurrency_limit" not in deployment


def test_the_session_form_explains_every_setting():
    for name, field in Params.model_json_schema()["properties"].items():
        # The form takes the title of a choice from its definition.
        assert field.get("title") or "$ref" in field, f"{name} has no title"
        assert field.get("description"), f"{name} has no description"


def test_nothing_secret_can_be_a_parameter():
    for name in Params.model_fields:
        assert not any(word in name for word in ("token", "pin", "secret", "password", "url"))


ALARMS = [
    (automation.name, name, template)
    for automation in automations(guardian_id=uuid4(), alarm_id=uuid4(), silent_after_s=90)
    for action in automation.actions
    if isinstance(action, RunDeployment)
    for name, template in (action.parameters or {}).items()
    if "{{" in template
]


@pytest.mark.parametrize(("automation", "name", "template"), ALARMS)
@pytest.mark.parametrize("message", ["", 'the broker said "no"', "two\nlines"])
def test_an_alarm_is_told_one_value_whatever_the_message(automation, name, template, message):
    """Prefect makes JSON of a lone expression by appending a filter; what does not parse is an alarm that never rings."""
    run = {"flow_run": SimpleNamespace(name="a run"), "deployment": SimpleNamespace(name="nifty-live")}
    wrapped = ServerRunDeployment._wrap_v1_template(template)
    is_json = wrapped["__prefect_kind"] == "json"
    rendered = render_user_template_sync(
        wrapped["value"]["template"] if is_json else wrapped["template"],
        {**run, "event": SimpleNamespace(resource={"prefect.state-message": message})},
    )
    said = json.loads(rendered) if is_json else rendered
    assert said == {"message": message, "run_name": "nifty-live (a run)"}[name]


def test_without_a_server_bootstrap_says_what_is_missing():
    with temporary_settings({PREFECT_API_URL: "http://127.0.0.1:9/api"}), pytest.raises(BootstrapFailed) as failed:
        bootstrap(PROJECT, wait_s=0.1)
    assert "http://127.0.0.1:9/api" in str(failed.value)
    assert "prefect server start" in str(failed.value)
