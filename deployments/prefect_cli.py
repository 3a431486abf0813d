"""Prefect's own commands for a server that is still starting: what takes them longest, the imports, is done meanwhile.

* `python -m deployments.prefect_cli deploy URL [--engine-directly] [NAME …]`: the pool, then these deployments (or all)
* `python -m deployments.prefect_cli work URL`: the worker, once its pool is there
"""

import contextlib
import shlex
import sys
from importlib import import_module

import requests
from prefect.cli import app
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import WorkPoolCreate, WorkPoolUpdate
from prefect.exceptions import ObjectAlreadyExists
from prefect.workers.process import ProcessWorker

from tasks.clock import Deadline, pause

WORK_POOL = "trading"
ENGINE_DIRECTLY = "--engine-directly"
SERVER_START_TIMEOUT_S = 180.0
_LOOK_EVERY_S = 0.1


def main() -> None:
    """Wait for what the command needs, then become it."""
    command, url, *rest = sys.argv[1:]
    if command == "deploy":
        for module in ("prefect.cli.deploy", "flows.session", "flows.squareoff"):
            import_module(module)
        _await(f"{url}/health")
        _create_work_pool(engine_directly=ENGINE_DIRECTLY in rest)
        names = [name for name in rest if name != ENGINE_DIRECTLY]
        chosen = [word for name in names for word in ("--name", name)] or ["--all"]
        sys.argv[1:] = ["--no-prompt", "deploy", *chosen]
    else:
        import_module("prefect.cli.worker")
        _await(f"{url}/work_pools/{WORK_POOL}")
        sys.argv[1:] = ["worker", "start", "--pool", WORK_POOL, "--type", "process", "--install-policy", "never"]
    app()


def _await(url: str) -> None:
    deadline = Deadline(SERVER_START_TIMEOUT_S)
    while not deadline.passed:
        with contextlib.suppress(requests.RequestException):
            if requests.get(url, timeout=2).ok:
                return
        pause(_LOOK_EVERY_S)
    raise SystemExit(f"An answer was expected from {url} within {SERVER_START_TIMEOUT_S:.0f} s; see the server's log.")


def _create_work_pool(*, engine_directly: bool) -> None:
    template = ProcessWorker.get_default_base_job_template()
    if engine_directly:
        template["variables"]["properties"]["command"]["default"] = shlex.join([sys.executable, "-m", "prefect.engine"])
    with get_client(sync_client=True) as client:
        try:
            client.create_work_pool(WorkPoolCreate(name=WORK_POOL, type="process", base_job_template=template))
        except ObjectAlreadyExists:
            client.update_work_pool(WORK_POOL, WorkPoolUpdate(base_job_template=template))


if __name__ == "__main__":
    main()
