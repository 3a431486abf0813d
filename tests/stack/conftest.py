"""A real Prefect server and worker with the deployments of prefect.yaml, and a simulator for each session."""

import contextlib
import datetime as dt
import os
from dataclasses import dataclass
from pathlib import Path

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


class Stack(LocalStack):
    """The local stack, brought back where an earlier test killed a part of it."""

    def revive(self):
        if not self.is_alive("prefect-server"):
            self.stop()
            self.start_server()
            self.await_server()
            self.create_work_pool()
            self.deploy()


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

    def command_times(self):
        """When commands were recorded, real time."""
        rows = self.ledger.rows("SELECT command_id FROM command ORDER BY requested_at")
        return [self.ledger.command(command_id).requested_at_ms for (command_id,) in rows]

    def truth(self):
        return requests.get(f"{self.url}/control/truth", timeout=30).json()

    def wait_for(self, condition, what, timeout_s=240):
        deadline = Deadline(timeout_s)
        while not (met := condition()):
            assert not deadline.passed, f"{what} did not come within {timeout_s} s\n{self.worker_log()[-4000:]}"
            pause(0.1)
        return met

    def worker_log(self):
        return (self.stack.logs / "prefect-worker.log").read_text(errors="replace")

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
            stack.environment |= {
                "BOT_HOME": str(home),
                "BOT_LEDGER_URL": ledger_url,
                "BOT_SIMULATOR_URL": url,
                "BOT_NOTIFY_URLS": notify,
            }
            stack.stop("prefect-worker")
            stack.start_worker()
            api = PrefectApi(stack.api_url)
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
