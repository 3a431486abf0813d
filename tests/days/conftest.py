"""Whole days on the simulator, over real HTTP and WebSocket, without Prefect: what the trading task itself does."""

import json
import os
import signal
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import pytest
import requests

from strategy.params import Params
from tasks.clock import Deadline, pause
from tasks.connect import Connections
from tasks.evening.prices import price_orders
from tasks.evening.reconciliation import reconcile_session
from tasks.pages.summary import DaySummary
from tasks.preflight import CHECKS
from tasks.settings import REHEARSAL_ACCESS_TOKEN, REHEARSAL_CLIENT_ID, Settings
from tasks.trading.session import trade_session

PROJECT = Path(__file__).resolve().parents[2]
RECORDED = PROJECT.parent / "shared" / "data" / "market"


def pytest_addoption(parser):
    """Known only where this folder is named on the command line."""
    parser.addoption("--feed-seconds", type=float, default=15.0, metavar="S", help="of the market at its own speed")


@pytest.fixture
def feed_seconds(request):
    return request.config.getoption("--feed-seconds", default=15.0)


@contextmanager
def simulator(tmp_path, *options):
    """A simulator process of its own; yields its URL."""
    ready = tmp_path / "simulator.json"
    ready.unlink(missing_ok=True)
    command = [
        sys.executable,
        "-m",
        "simulator",
        "--port",
        "0",
        "--with-parent",
        "--ready",
        str(ready),
        "--client-id",
        REHEARSAL_CLIENT_ID,
        "--token",
        REHEARSAL_ACCESS_TOKEN,
        *options,
    ]
    log = (tmp_path / "simulator.log").open("wb")
    process = subprocess.Popen(command, cwd=PROJECT, stdout=log, stderr=subprocess.STDOUT)
    try:
        deadline = Deadline(60)
        while not (ready.exists() and ready.read_text().strip()):
            assert process.poll() is None, (tmp_path / "simulator.log").read_text()
            assert not deadline.passed, "the simulator did not get ready"
            pause(0.05)
        yield json.loads(ready.read_text())["url"]
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(10)
        log.close()


def truth(url):
    reply = requests.get(f"{url}/control/truth", timeout=30)
    reply.raise_for_status()
    return reply.json()


def packets_sent(url):
    """Of each feed connection, oldest first: how many packets of each code the simulator wrote."""
    counts = truth(url)["feed_packets_by_connection"]
    return [{int(code): count for code, count in connection.items()} for connection in counts]


@dataclass
class Day:
    """What a rehearsal left: the ledger's summary and the simulator's own books."""

    summary: DaySummary
    truth: dict
    session_id: str
    ledger_path: Path
    packets_sent: list[dict[int, int]]  # of each feed connection, by code
    packets_decoded: list[dict[int, int]]  # the same, as the bot's feed counted


class Watched(Connections):
    """Connections that remember the market they opened."""

    @contextmanager
    def open_market(self, *, busy):
        with super().open_market(busy=busy) as market:
            self.market = market
            yield market


@pytest.fixture
def rehearse(tmp_path):
    """Run one day; returns a Day. `--start 14:50` makes it short; `stack=False` sends each packet by itself."""
    runs = 0

    def run(*options, index="NIFTY", day="2026-11-20", notify=(), stack=True, **settings):
        nonlocal runs
        runs += 1
        home = tmp_path / f"run{runs}"
        home.mkdir()
        params = Params(index=index, mode="rehearsal", **settings)
        stacked = ["--stack"] if stack else []
        with simulator(home, "--index", index, "--speed", "0", "--day", day, *stacked, *options) as url:
            here = Settings(simulator_url=url, home=home, notify_urls=notify)
            with Watched(params, date.fromisoformat(day), run_id="test", settings=here) as connections:
                for check in CHECKS:
                    assert check(connections)
                trade_session(connections)
                ledger, session_id = connections.ledger, connections.session_id
                price_orders(ledger, session_id, connections.rates)
                reconcile_session(ledger, connections.broker, session_id, run_id="test", at_ms=connections.now_ms())
                summary = DaySummary.build(ledger, session_id)
            decoded = connections.market.feed.packets_by_connection
            return Day(summary, truth(url), session_id, home / "ledger.sqlite3", packets_sent(url), decoded)

    return run


@pytest.fixture(autouse=True)
def _no_environment_of_the_caller(monkeypatch):
    for name in list(os.environ):
        if name.startswith("BOT_"):
            monkeypatch.delenv(name)
