"""What the jobs stand on: work pool, deployments, automations. Running it twice changes nothing.

Invariants:
1. What exists is left as it is where the operator may have changed it (a deployment's parameters and schedules are
   his settings page); automations are brought to what is written here.
2. Automations watch and call; none of them decides who may trade. They need a worker, so the deployments they start
   are on the queue `watch`, which a second worker can serve alone.
"""

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import requests
import yaml
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.client.schemas.objects import StateType
from prefect.events.actions import ChangeFlowRunState, RunDeployment
from prefect.events.schemas.automations import Automation, AutomationCore, EventTrigger, Posture
from prefect.exceptions import ObjectNotFound
from prefect.settings import PREFECT_API_URL, get_current_settings
from prefect.workers.process import ProcessWorker

from tasks.clock import Deadline, pause

WORK_POOL = "trading"
WATCH_QUEUE = "watch"
# Heartbeats that may be missed before a run counts as dead.
MISSED_MAX = 3
# How long a server that was just started may take.
SERVER_WAIT_S = 60.0
# Every setting of a heartbeat is at least this (Prefect's own bound).
HEARTBEAT_S_DEFAULT = 30


class BootstrapFailed(Exception):
    """Something could not be created; the message says what and what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """One thing that is there now."""

    what: str
    how: str  # "created", "changed", "unchanged"

    def __str__(self) -> str:
        """For the operator."""
        return f"{self.how:<10}{self.what}"


def bootstrap(
    project: Path, *, renew: bool = False, wait_s: float = SERVER_WAIT_S, silent_after_s: float | None = None
) -> tuple[Done, ...]:
    """Create what is missing on the Prefect server of this environment.

    Args:
        project: the folder of prefect.yaml.
        wait_s: how long the server may take until it answers.
        renew: deploy everything anew from prefect.yaml; parameters and schedules edited in the UI are lost.
        silent_after_s: a session without a sign of life for so long is dead; three heartbeats if not given.

    Raises:
        BootstrapFailed: the server does not answer, or Prefect refused; the message has its last lines.
    """
    if not PREFECT_API_URL.value():
        raise BootstrapFailed(
            "PREFECT_API_URL must name the Prefect server, found nothing. Start one (prefect server start), then "
            "set it, for instance to http://127.0.0.1:4200/api."
        )
    await_server(str(PREFECT_API_URL.value()), wait_s)
    if silent_after_s is None:
        silent_after_s = MISSED_MAX * (get_current_settings().flows.heartbeat_frequency or HEARTBEAT_S_DEFAULT)
    with get_client(sync_client=True) as client:
        done = [_work_pool(client), _watch_queue(client)]
        done += _deployments(client, project, renew=renew)
        names = {name: read_deployment_id(client, name) for name in ("guardian/guardian", "alarm/alarm")}
        done += [
            _automation(client, wanted)
            for wanted in automations(
                guardian_id=names["guardian/guardian"], alarm_id=names["alarm/alarm"], silent_after_s=silent_after_s
            )
        ]
    return tuple(done)


def await_server(url: str, timeout_s: float) -> None:
    """Wait until the server of `url` answers.

    Raises:
        BootstrapFailed: it did not, for `timeout_s`.
    """
    deadline = Deadline(timeout_s)
    while not deadline.passed:
        with contextlib.suppress(requests.RequestException):
            if requests.get(f"{url}/health", timeout=2).ok:
                return
        pause(0.2)
    raise BootstrapFailed(
        f"An answer was expected from {url} within {timeout_s:.0f} s, found none. Is it up (prefect server start), "
        "and is PREFECT_API_URL its address?"
    )


def automations(*, guardian_id: Any, alarm_id: Any, silent_after_s: float) -> tuple[AutomationCore, ...]:
    """What watches over the runs. A run's tags are those of its deployment in prefect.yaml."""

    def alarm(what: str) -> RunDeployment:
        told = {
            "what": what,
            # A run that has not started yet has a name by chance only.
            "run_name": "{{ deployment.name }} ({{ flow_run.name }})",
            # In brackets: Prefect appends a filter to the expression, which else would take its last word only.
            "message": "{{ (event.resource.get('prefect.state-message') or '') }}",
        }
        return RunDeployment(deployment_id=alarm_id, parameters=told)

    return (
        AutomationCore(
            name="silent session",
            description="A session without a sign of life is marked as crashed, which starts the guardian.",
            trigger=EventTrigger(
                posture=Posture.Proactive,
                match={"prefect.resource.id": "prefect.flow-run.*"},
                match_related=_tagged("session"),
                after={"prefect.flow-run.heartbeat"},
                # Any event of the run is a sign of life, its end under whatever name too.
                expect={"prefect.flow-run.*"},
                for_each={"prefect.resource.id"},
                threshold=1,
                within=timedelta(seconds=silent_after_s),
            ),
            actions=[
                ChangeFlowRunState(
                    state=StateType.CRASHED,
                    name="Crashed",
                    message=f"No sign of life for {silent_after_s:.0f} s: the process is dead or cut off.",
                )
            ],
        ),
        AutomationCore(
            name="crashed session",
            description="The guardian closes what a crashed session left at the broker; a critical alert says so.",
            trigger=_when("session", state_types=["CRASHED"]),
            actions=[RunDeployment(deployment_id=guardian_id, parameters={}), alarm("session crashed")],
        ),
        AutomationCore(
            name="late session",
            description="A session that should have started and did not: is the worker up?",
            trigger=EventTrigger(
                posture=Posture.Reactive,
                match={"prefect.resource.id": "prefect.flow-run.*"},
                match_related=_tagged("session"),
                expect={"prefect.flow-run.Late"},
                for_each={"prefect.resource.id"},
                threshold=1,
            ),
            actions=[alarm("session late")],
        ),
        AutomationCore(
            name="failed evening",
            description="The operator hears of every evening job that failed.",
            trigger=_when("evening", state_types=["FAILED", "CRASHED"]),
            actions=[alarm("evening failed")],
        ),
        AutomationCore(
            name="evening once more",
            description="An evening job that failed at its first attempt is run once more.",
            # A job that tried again by itself is at its second attempt.
            trigger=_when("evening", state_types=["FAILED", "CRASHED"], run_count="1"),
            actions=[
                ChangeFlowRunState(
                    state=StateType.SCHEDULED, name="AwaitingRetry", message="Failed once: tried again, once."
                )
            ],
        ),
    )


def _when(tag: str, *, state_types: list[str], run_count: str | None = None) -> EventTrigger:
    match: dict[str, str | list[str]] = {
        "prefect.resource.id": "prefect.flow-run.*",
        "prefect.state-type": state_types,
    }
    if run_count is not None:
        match["prefect.run-count"] = run_count
    return EventTrigger(
        posture=Posture.Reactive,
        match=match,
        match_related=_tagged(tag),
        expect={"prefect.flow-run.*"},
        for_each={"prefect.resource.id"},
        threshold=1,
    )


def _tagged(tag: str) -> dict[str, str | list[str]]:
    return {"prefect.resource.id": f"prefect.tag.{tag}", "prefect.resource.role": "tag"}


def read_deployment_id(client: SyncPrefectClient, name: str) -> Any:
    """The id of `flow/deployment`.

    Raises:
        BootstrapFailed: there is none.
    """
    try:
        return client.read_deployment_by_name(name).id
    except ObjectNotFound:
        raise BootstrapFailed(
            f"The deployment {name} was expected in prefect.yaml and on the server, not found."
        ) from None


def _work_pool(client: SyncPrefectClient) -> Done:
    what = f"work pool {WORK_POOL}"
    try:
        client.read_work_pool(WORK_POOL)
    except ObjectNotFound:
        template = ProcessWorker.get_default_base_job_template()
        client.create_work_pool(WorkPoolCreate(name=WORK_POOL, type="process", base_job_template=template))
        return Done(what=what, how="created")
    return Done(what=what, how="unchanged")


def _watch_queue(client: SyncPrefectClient) -> Done:
    what = f"work queue {WORK_POOL}/{WATCH_QUEUE}"
    try:
        client.read_work_queue_by_name(WATCH_QUEUE, work_pool_name=WORK_POOL)
    except ObjectNotFound:
        client.create_work_queue(WATCH_QUEUE, work_pool_name=WORK_POOL, priority=1)
        return Done(what=what, how="created")
    return Done(what=what, how="unchanged")


def _deployments(client: SyncPrefectClient, project: Path, *, renew: bool) -> list[Done]:
    wanted: list[str] = [each["name"] for each in yaml.safe_load((project / "prefect.yaml").read_text())["deployments"]]
    known = {deployment.name for deployment in client.read_deployments()}
    missing = [name for name in wanted if renew or name not in known]
    if missing:
        deploy(project, missing, {**os.environ, "PREFECT_API_URL": str(PREFECT_API_URL.value())})
    hows = {name: "unchanged" if name not in missing else "changed" if name in known else "created" for name in wanted}
    return [Done(what=f"deployment {name}", how=how) for name, how in hows.items()]


def deploy(project: Path, names: Iterable[str], environment: Mapping[str, str]) -> None:
    """Create deployments of prefect.yaml by name.

    Raises:
        BootstrapFailed: Prefect refused; the message has its last lines.
    """
    chosen = [argument for name in names for argument in ("--name", name)]
    done = subprocess.run(  # noqa: S603 (our own interpreter and arguments)
        [sys.executable, "-m", "prefect", "--no-prompt", "deploy", *chosen],
        cwd=project,
        env=dict(environment),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        last_lines = "\n".join((done.stdout + done.stderr).strip().splitlines()[-12:])
        raise BootstrapFailed(f"Prefect could not create the deployments:\n{last_lines}")


def _automation(client: SyncPrefectClient, wanted: AutomationCore) -> Done:
    what = f"automation {wanted.name}"
    known = client.read_automations_by_name(wanted.name)
    if not known:
        client.create_automation(wanted)
        return Done(what=what, how="created")
    for copy in known[1:]:
        client.delete_automation(copy.id)
    if len(known) == 1 and _same(known[0], wanted):
        return Done(what=what, how="unchanged")
    client.update_automation(known[0].id, wanted)
    client.resume_automation(known[0].id)  # an update leaves it switched off
    return Done(what=what, how="changed")


def _same(known: Automation, wanted: AutomationCore) -> bool:
    """Whether the server's automation does what is wanted; one that was switched off in the UI is not that."""
    fields = set(AutomationCore.model_fields)
    return _comparable(known.model_dump(mode="json", include=fields)) == _comparable(wanted.model_dump(mode="json"))


def _comparable(dumped: dict[str, Any]) -> dict[str, Any]:
    """Lists that stand for sets, in one order; ids of triggers are the server's own."""

    def plain(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: plain(item) for key, item in value.items() if key != "id"}
        if isinstance(value, list):
            return sorted((plain(item) for item in value), key=repr)
        return value

    return {key: plain(value) for key, value in dumped.items() if key not in {"created", "updated"}}
