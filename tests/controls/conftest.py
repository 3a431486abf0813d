"""A market in lock-step over real HTTP, and sessions on it that hold something, alive or dead."""

import contextlib
import datetime as dt
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import requests

from strategy.actions import Enter, Explanation
from strategy.events import Timer
from strategy.instruments import Quantity
from strategy.orders import order_policy
from strategy.params import Params
from tasks.clock import Deadline, pause, real_now_ms
from tasks.connect import Connections, open_clock
from tasks.inbox import Inbox
from tasks.ledger.records import SessionStart
from tasks.ledger.store import Ledger
from tasks.orders.execution import Execution
from tasks.settings import REHEARSAL_ACCESS_TOKEN, REHEARSAL_CLIENT_ID, Settings
from tasks.trading.recovery import journal_path
from tasks.trading.session import day_plan

PROJECT = Path(__file__).resolve().parents[2]
DAY = dt.date(2026, 11, 20)


class Market:
    """The simulator: a process of its own, whose clock moves when somebody moves it."""

    def __init__(self, process, url):
        self.process = process
        self.url = url
        self.session = requests.Session()
        self.session.trust_env = False

    def control(self, method, path, body=None):
        reply = self.session.request(method, f"{self.url}/control/{path}", json=body, timeout=30)
        assert reply.status_code == 200, reply.text
        return reply.json()

    def restart(self, **wish):
        self.control("DELETE", "faults")
        self.control("POST", "restart", wish)

    def advance(self, **wish):
        return self.control("POST", "advance", wish)

    def post_faults(self, *faults):
        return self.control("POST", "faults", list(faults))

    def truth(self):
        return self.control("GET", "truth")

    @property
    def net(self):
        """Units held by security, as the exchange has it."""
        return {p["security"]: p["net_quantity"] for p in self.truth()["positions"] if p["net_quantity"]}

    @property
    def lowest_ever(self):
        """The smallest position that there was of any security: below zero, more was sold than held."""
        net, lowest = {}, 0
        for fill in self.truth()["fills"]:
            units = fill["quantity"] if fill["side"] == "BUY" else -fill["quantity"]
            net[fill["security"]] = net.get(fill["security"], 0) + units
            lowest = min(lowest, net[fill["security"]])
        return lowest

    @property
    def sold(self):
        return sum(fill["quantity"] for fill in self.truth()["fills"] if fill["side"] == "SELL")

    def place(self, security, side, quantity, price, client_order_id=""):
        """Somebody else's order in the same account, or one of ours that no ledger has."""
        segment, number = security.split(":")
        headers = {"access-token": REHEARSAL_ACCESS_TOKEN, "client-id": REHEARSAL_CLIENT_ID}
        body = {
            "dhanClientId": REHEARSAL_CLIENT_ID, "transactionType": side, "exchangeSegment": segment,
            "productType": "MARGIN", "orderType": "LIMIT", "validity": "DAY", "securityId": number,
            "quantity": quantity, "disclosedQuantity": 0, "price": price, "afterMarketOrder": False,
            "boProfitValue": None, "boStopLossValue": None, "triggerPrice": 0.0,
        }  # fmt: skip
        body |= {"correlationId": client_order_id} if client_order_id else {}
        reply = self.session.post(f"{self.url}/v2/orders", json=body, headers=headers, timeout=30)
        assert reply.status_code == 200, reply.text


@pytest.fixture(scope="session")
def running_market():
    command = [
        sys.executable, "-m", "simulator", "--with-parent", "--day", str(DAY), "--seed", "7",
        "--client-id", REHEARSAL_CLIENT_ID, "--token", REHEARSAL_ACCESS_TOKEN,
    ]  # fmt: skip
    process = subprocess.Popen(command, cwd=PROJECT, stdout=subprocess.PIPE, text=True)
    yield Market(process, json.loads(process.stdout.readline())["url"])
    process.terminate()
    process.wait(20)
    process.stdout.close()


@pytest.fixture
def market(running_market):
    """10:00 of an ordinary day on which nothing has happened yet."""
    running_market.restart(start="10:00:00", rate_limits=False)
    return running_market


@pytest.fixture
def settings(market, sqlite_ledger_url, tmp_path, monkeypatch):
    """The settings of a rehearsal on this market, also for whoever reads the environment."""
    for name in list(os.environ):
        if name.startswith("BOT_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("BOT_HOME", str(tmp_path))
    monkeypatch.setenv("BOT_SIMULATOR_URL", market.url)
    monkeypatch.setenv("BOT_LEDGER_URL", sqlite_ledger_url)
    return Settings()


class Holder:
    """A session without its loop: the lease, an execution, and what it bought."""

    def __init__(self, connections, opened, *, ttl_s):
        self.connections, self.ledger, self.opened = connections, connections.ledger, opened
        self.session_id, self.key = connections.session_id, connections.key
        self.inbox = Inbox()
        self.lease = self.ledger.leases.take(self.key, connections.owner, real_now_ms(), ttl_s=ttl_s)
        self.clock = opened.enter_context(open_clock(connections.settings, busy=lambda: not self.execution.idle()))
        self.execution = Execution(
            broker=connections.broker, ledger=self.ledger, inbox=self.inbox, now_ms=self.clock.now_ms,
            session_id=self.session_id, fence=self.lease.fence,
            prefix=self.key.order_prefix(connections.salt), policy=order_policy(connections.params),
            product=connections.params.product, workers=1,
            journal_path=journal_path(connections.settings.home, self.session_id),
        )  # fmt: skip
        opened.callback(self.execution.close)
        self.ledger.record_start(
            SessionStart(
                session_id=self.session_id, run_id="test", fence=self.lease.fence, started_at_ms=self.clock.now_ms(),
                params=connections.params.model_dump(mode="json"), code_version="test", facts_version="test",
            )
        )  # fmt: skip
        plan = day_plan(connections)
        quotes = connections.broker.quotes([plan.index_security])
        strike = round(quotes[plan.index_security].last_paise / 5_000) * 50
        self.contracts = {kind: plan.contracts[strike, kind] for kind in ("CE", "PE")}
        self.heard = []

    def price_paise(self, contract):
        return self.connections.broker.quotes([contract.security])[contract.security].last_paise

    def buy(self, *, intent=1, trade=1, kind="CE", lots=1, below=0, settle=True):
        """Buy; `below` so many paise under the market does not fill."""
        contract = self.contracts[kind]
        self.execution.submit(
            Enter(
                at_ms=self.clock.now_ms(), intent=intent, trade=trade, contract=contract,
                quantity=Quantity(contract.lot_size * lots), reference_paise=self.price_paise(contract) - below,
                why=Explanation(),
            )
        )  # fmt: skip
        if settle:
            self.settle()
        return contract

    def settle(self, seconds=20):
        """Let the market go on until nothing is open."""
        until_ms = self.clock.now_ms() + seconds * 1000
        while self.execution.open_intents() and self.clock.now_ms() < until_ms:
            self.take_next()
        self.execution.flush(10)

    def take_next(self):
        event = self.clock.next_event(self.inbox)
        self.heard += self.execution.on_event(event)
        return event

    def pass_time(self, seconds):
        until_ms = self.clock.now_ms() + seconds * 1000
        while not (isinstance(event := self.take_next(), Timer) and event.at_ms >= until_ms):
            pass
        self.execution.flush(10)

    def die(self):
        """The process is gone: it says nothing, releases nothing, and its market clock stops."""
        self.opened.close()


@pytest.fixture
def hold(settings):
    """A session that took its lease: `hold(ttl_s=…, **params)`. With ttl_s=0 its heart has stopped already."""
    with contextlib.ExitStack() as opened:

        def begin(*, ttl_s=0.0, **params):
            parts = opened.enter_context(contextlib.ExitStack())
            connections = parts.enter_context(
                Connections(Params(mode="rehearsal", **params), DAY, run_id="test", settings=settings)
            )
            return Holder(connections, parts, ttl_s=ttl_s)

        yield begin


# Buys at once and holds until something else than the indicators ends it.
HOLDING = {
    "supertrend_period": 1,
    "macd_confirmation": False,
    "htf_filter": False,
    "flip_only": False,
    "stop_loss_points": 0,
    "min_hold_seconds": 7_200,
    "max_trades_per_day": 1,
    "daily_max_loss": 0,
}


class Trading:
    """A trading process of its own on a market that runs by itself."""

    def __init__(self, market, settings, process, log):
        self.market, self.settings, self.process, self.log = market, settings, process, log
        self.ledger = Ledger(settings.ledger_url)
        (self.session_id,) = self.wait_for(lambda: self.ledger.session_ids(day=DAY), "the session")

    def wait_for(self, condition, what, timeout_s=180):
        deadline = Deadline(timeout_s)
        while not (met := condition()):
            assert not deadline.passed, f"{what} did not come\n{self.log.read_text()[-4000:]}"
            pause(0.05)
        return met

    @property
    def trades(self):
        return self.ledger.trades(self.session_id)

    def await_position(self):
        self.wait_for(lambda: any(t.open_quantity for t in self.trades), "a position")

    def end(self, timeout_s=180):
        """What the process said last; it must have ended by itself."""
        out, _ = self.process.communicate(timeout=timeout_s)
        assert out.strip(), self.log.read_text()[-4000:]
        return json.loads(out.strip().splitlines()[-1])


@pytest.fixture
def begin(sqlite_ledger_url, tmp_path, monkeypatch):
    """Start a simulator that runs by itself, and trading processes on it: `begin(**params)`; again for a second one."""
    for name in list(os.environ):
        if name.startswith("BOT_"):
            monkeypatch.delenv(name)
    with contextlib.ExitStack() as opened:
        started = {}

        def simulator(speed, start):
            command = [
                sys.executable, "-m", "simulator", "--with-parent", "--day", str(DAY), "--seed", "7",
                "--speed", str(speed), "--start", start,
                "--client-id", REHEARSAL_CLIENT_ID, "--token", REHEARSAL_ACCESS_TOKEN,
            ]  # fmt: skip
            process = subprocess.Popen(command, cwd=PROJECT, stdout=subprocess.PIPE, text=True)
            opened.callback(finish, process)
            return Market(process, json.loads(process.stdout.readline())["url"])

        def start(*, speed=5, at="10:00:00", **params):
            if not started:
                market = started["market"] = simulator(speed, at)
                monkeypatch.setenv("BOT_HOME", str(tmp_path))
                monkeypatch.setenv("BOT_SIMULATOR_URL", market.url)
                monkeypatch.setenv("BOT_LEDGER_URL", sqlite_ledger_url)
            number = len(started)
            log = tmp_path / f"session{number}.log"
            command = [
                sys.executable, str(Path(__file__).with_name("session_process.py")), str(DAY),
                json.dumps({**HOLDING, **params}),
            ]  # fmt: skip
            with log.open("w") as sink:
                process = subprocess.Popen(
                    command, cwd=PROJECT, stdout=subprocess.PIPE, stderr=sink, text=True,
                    env={**os.environ, "PYTHONPATH": str(PROJECT)},
                )  # fmt: skip
            opened.callback(finish, process)
            started[number] = trading = Trading(started["market"], Settings(), process, log)
            opened.callback(trading.ledger.close)
            return trading

        yield start


def finish(process):
    process.kill()
    process.communicate()
