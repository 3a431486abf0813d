"""A real Prefect server and worker with the deployments of prefect.yaml, and a simulator for each session."""

import contextlib
import datetime as dt
import os
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
import requests

from deployments.local import LocalStack, end_tree
from flows.demo import PrefectApi
from strategy.calendar import ist_ms
from strategy.instruments import Underlying
from tasks.clock import Deadline, pause, read_market_clock
from tasks.ledger.records import SessionKey
from tasks.ledger.store import Ledger, migrate
from tasks.settings import REHEARSAL_ACCESS_TOKEN, REHEARSAL_CLIENT_ID

PROJECT = Path(__file__).resolve().parents[2]


# Buys at once and holds until something else than the indicators ends it.
HOLD = {
    "supertrend_period": 1,
    "macd_confirmation": False,
    "htf_filter": False,
    "flip_only": False,
    "stop_loss_points": 0,
    "min_hold_seconds": 7_200,
    "max_trades_per_day": 1,
    "daily_max_loss": 0,
}


class Stack(LocalStack):
    """The local stack, brought back where an earlier test killed a part of it."""

    @property
    def api(self):
        """Its server's API, which is asked again when it is busy."""
        return PrefectApi(self.api_url)

    def wait_for(self, condition, what, timeout_s=240):
        """What `condition` returns once it is true."""
        deadline = Deadline(timeout_s)
        while not (met := condition()):
            assert not deadline.passed, f"{what} did not come within {timeout_s} s\n{self.worker_log()[-4000:]}"
            pause(0.1)
        return met

    def worker_log(self):
        return (self.logs / "prefect-worker.log").read_text(errors="replace")

    def restart_worker(self, environment):
        """The worker's environment is that of every run it starts from now on."""
        self.environment |= environment
        self.stop("prefect-worker")
        self.start_worker()

    def runs_of(self, deployment, since=()):
        """Runs of a deployment that have begun and are not among `since`."""
        wanted = {"deployments": {"name": {"any_": [deployment]}}, "sort": "EXPECTED_START_TIME_ASC"}
        found = self.api.call("POST", "/flow_runs/filter", wanted)
        return [run for run in found if run["id"] not in since and run["state"]["type"] not in {"SCHEDULED", "PENDING"}]

    def processes_of_run(self, run_id):
        """The process that works for a flow run, and what it started."""
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess):
                if process.environ().get("PREFECT__FLOW_RUN_ID") == run_id:
                    found.append(process)
        return found

    def kill_run(self, run_id):
        """End the run's process with SIGKILL, as a crash would; return whether there was one."""
        processes = self.processes_of_run(run_id)
        for process in processes:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(processes, timeout=10)
        return bool(processes)

    def revive(self):
        if not self.is_alive("prefect-server"):
            self.stop()
            self.start_server()
            self.deploy()


@pytest.fixture
def hold():
    """Settings of a session that buys at once and holds."""
    return dict(HOLD)


@pytest.fixture(scope="session")
def shared_stack(tmp_path_factory):
    home = tmp_path_factory.mktemp("stack")
    with Stack(home=home, project=PROJECT) as stack:
        yield stack


@pytest.fixture
def stack(shared_stack):
    shared_stack.revive()
    return shared_stack


@dataclass
class Session:
    """One rehearsal session on the stack: its run, its ledger and its market."""

    stack: Stack
    api: PrefectApi
    run_id: str
    url: str
    ledger: Ledger
    key: SessionKey

    @property
    def session_id(self):
        return self.key.session_id

    def market_now_ms(self):
        return int(read_market_clock(self.url)["now_ms"])

    def key_ms(self, time):
        """A wall-clock time of the session's day."""
        return ist_ms(self.key.day, dt.time.fromisoformat(time))

    def has_artifact(self, key):
        """Whether the session's run has published it."""
        wanted = {"artifacts": {"key": {"any_": [key]}, "flow_run_id": {"any_": [self.run_id]}}}
        return self.api.call("POST", "/artifacts/filter", wanted)

    def command_times(self):
        """When commands were recorded, real time."""
        rows = self.ledger.rows("SELECT command_id FROM command ORDER BY requested_at")
        return [self.ledger.command(command_id).requested_at_ms for (command_id,) in rows]

    def truth(self):
        return requests.get(f"{self.url}/control/truth", timeout=30).json()

    def wait_for(self, condition, what, timeout_s=240):
        return self.stack.wait_for(condition, what, timeout_s)

    def position_is_open(self):
        return [trade for trade in self.ledger.trades(self.session_id) if trade.open_quantity]

    def final_state(self, run_id=None, timeout_s=240):
        def ended():
            state = self.api.run(run_id or self.run_id)["state"]
            return state if state["type"] in {"COMPLETED", "FAILED", "CRASHED", "CANCELLED"} else None

        return self.wait_for(ended, "the run's end", timeout_s)


@pytest.fixture
def begin(stack, tmp_path):
    """Start a session: `begin(speed=…, start=…, notify=…, params…)`; the simulator ends with the test."""
    with contextlib.ExitStack() as opened:

        def start(*, speed=0, start="09:00:00", seed=7, index="NIFTY", day="2026-11-20", notify="", **params):
            home = tmp_path / "home"
            home.mkdir()
            ledger_url = f"sqlite:///{home / 'ledger.sqlite3'}"
            migrate(ledger_url)
            url = stack.start_simulator(
                [
                    "--port",
                    "0",
                    "--seed",
                    str(seed),
                    "--index",
                    index,
                    "--speed",
                    str(speed),
                    "--day",
                    day,
                    "--start",
                    start,
                    "--client-id",
                    REHEARSAL_CLIENT_ID,
                    "--token",
                    REHEARSAL_ACCESS_TOKEN,
                ]
            )
            simulator = next(child for child in stack.children if child.name == "simulator")
            opened.callback(stack.stop, "simulator")
            opened.callback(end_tree, simulator.process.pid)
            # The worker's environment is the session's and that of the runs that follow it.
            stack.restart_worker(
                {
                    "BOT_HOME": str(home),
                    "BOT_LEDGER_URL": ledger_url,
                    "BOT_SIMULATOR_URL": url,
                    "BOT_NOTIFY_URLS": notify,
                }
            )
            api = stack.api
            run_id = api.start(
                "daily-session/rehearsal", {"params": {"index": index, "mode": "rehearsal", **params}, "day": day}
            )
            ledger = Ledger(ledger_url)
            opened.callback(ledger.close)
            key = SessionKey(
                account=REHEARSAL_CLIENT_ID,
                underlying=Underlying(index),
                mode="rehearsal",
                day=dt.date.fromisoformat(day),
            )
            return Session(stack, api, run_id, url, ledger, key)

        yield start


@pytest.fixture(autouse=True)
def _no_environment_of_the_caller(monkeypatch):
    for name in list(os.environ):
        if name.startswith(("BOT_", "PREFECT_")):
            monkeypatch.delenv(name)
