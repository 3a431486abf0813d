"""The simulator as its clients meet it: a process of its own, reached over HTTP and WebSocket; and a stage without one."""

import json
import os
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

import pytest
import requests
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from simulator.setup import Setup
from simulator.stage import Stage

PROJECT = Path(__file__).resolve().parents[2]
SHARED = PROJECT.parent / "shared" / "data"
DAY = date(2026, 11, 20)
CLIENT_ID, TOKEN = "1000000009", "simulator-token"
PATIENCE_S = 20.0


def subscribe(socket: ClientConnection, code: int, *securities: str) -> None:
    instruments = [dict(zip(("ExchangeSegment", "SecurityId"), name.split(":"), strict=True)) for name in securities]
    socket.send(json.dumps({"RequestCode": code, "InstrumentCount": len(instruments), "InstrumentList": instruments}))


def wait_until(condition: Callable[[], bool]) -> None:
    """Wait for something that another process does; fail when it does not come."""
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, "what was waited for did not happen"
        time.sleep(0.01)


def messages(socket: ClientConnection, count: int) -> list[Any]:
    return [socket.recv(PATIENCE_S) for _ in range(count)]


def pending(socket: ClientConnection) -> list[Any]:
    """What has arrived or arrives within a moment."""
    got = []
    while True:
        try:
            got.append(socket.recv(0.3))
        except (TimeoutError, ConnectionClosed):
            return got


def split(message: bytes) -> list[bytes]:
    """The packets of a feed message."""
    packets = []
    while message:
        length = struct.unpack_from("<BH", message)[1]
        packets.append(message[:length])
        message = message[length:]
    return packets


@dataclass
class Simulator:
    """A running simulator process."""

    process: subprocess.Popen
    url: str
    session: requests.Session
    sockets: list[ClientConnection] = field(default_factory=list)

    subscribe = staticmethod(subscribe)
    wait_until = staticmethod(wait_until)
    messages = staticmethod(messages)
    pending = staticmethod(pending)
    split = staticmethod(split)

    @property
    def socket_url(self) -> str:
        return self.url.replace("http", "ws", 1)

    def control(self, method: str, path: str, body: Any = None) -> Any:
        reply = self.session.request(method, f"{self.url}/control/{path}", json=body, timeout=PATIENCE_S)
        assert reply.status_code == 200, reply.text
        return reply.json()

    def restart(self, **wish: Any) -> None:
        self.control("POST", "restart", wish)

    def advance(self, **wish: Any) -> dict[str, Any]:
        return self.control("POST", "advance", wish)

    def post_faults(self, *faults: dict[str, Any]) -> Any:
        return self.control("POST", "faults", list(faults))

    def truth(self) -> dict[str, Any]:
        return self.control("GET", "truth")

    def clock(self) -> dict[str, Any]:
        return self.control("GET", "clock")

    def call(self, method: str, path: str, body: Any = None, **options: Any) -> requests.Response:
        """A bare request to Dhan's paths, with the right headers unless others are given."""
        headers = options.pop("headers", {"access-token": TOKEN, "client-id": CLIENT_ID})
        return self.session.request(
            method, self.url + path, json=body, headers=headers, timeout=options.pop("timeout", PATIENCE_S), **options
        )

    def open(self, path: str, **options: Any) -> ClientConnection:
        socket = connect(self.socket_url + path, compression=None, proxy=None, max_queue=None, **options)
        self.sockets.append(socket)
        return socket

    def feed(self, *subscriptions: tuple[int, str], query: str = "", token: str = TOKEN) -> ClientConnection:
        """A market-feed connection that has subscribed: (request code, "IDX_I:13"), …"""
        address = f"/market-feed?version=2&token={token}&clientId={CLIENT_ID}&authType=2{query}"
        socket = self.open(address)
        for code, security in subscriptions:
            subscribe(socket, code, security)
        return socket

    def alerts(self) -> ClientConnection:
        """An order-update connection that has logged in."""
        socket = self.open("/order-update")
        login = {"MsgCode": 42, "ClientId": CLIENT_ID, "Token": TOKEN}
        socket.send(json.dumps({"LoginReq": login, "UserType": "SELF"}))
        wait_until(lambda: self.truth()["order_connections"] >= 1)
        return socket

    def at_the_money(self, kind: str = "ce") -> dict[str, Any]:
        """The NIFTY option at the money, as the option chain shows it; market time may pass."""
        expiry = self.call(
            "POST", "/v2/optionchain/expirylist", {"UnderlyingScrip": 13, "UnderlyingSeg": "IDX_I"}
        ).json()["data"][0]
        body = {"UnderlyingScrip": 13, "UnderlyingSeg": "IDX_I", "Expiry": expiry}
        reply = self.call("POST", "/v2/optionchain", body)
        if reply.status_code == 429:
            self.advance(seconds=3)
            reply = self.call("POST", "/v2/optionchain", body)
        chain = reply.json()["data"]
        strike = round(chain["last_price"] / 50) * 50
        return chain["oc"][f"{strike:.6f}"][kind]

    def order(self, **changes: Any) -> dict[str, Any]:
        """The body of an order that fills at once, with changes."""
        row = self.at_the_money()
        return {
            "dhanClientId": CLIENT_ID, "transactionType": "BUY", "exchangeSegment": "NSE_FNO", "productType": "MARGIN",
            "orderType": "LIMIT", "validity": "DAY", "securityId": str(row["security_id"]), "quantity": 65,
            "disclosedQuantity": 0, "price": row["top_ask_price"] + 5, "afterMarketOrder": False,
            "boProfitValue": None, "boStopLossValue": None, "triggerPrice": 0.0,
        } | changes  # fmt: skip

    def place(self, **changes: Any) -> str:
        reply = self.call("POST", "/v2/orders", self.order(**changes))
        assert reply.status_code == 200, reply.text
        return reply.json()["orderId"]

    def row(self, order_id: str) -> dict[str, Any]:
        return self.call("GET", f"/v2/orders/{order_id}").json()

    def end(self) -> None:
        self.process.terminate()
        try:
            self.process.wait(PATIENCE_S)
        finally:
            self.process.kill()
            self.process.communicate()
            self.session.close()
            for socket in self.sockets:
                socket.close()


def start(*arguments: str, day: str | None = str(DAY)) -> Simulator:
    """Start a simulator process and wait until it is ready."""
    command = [sys.executable, "-m", "simulator", "--with-parent", *(["--day", day] if day else []), *arguments]
    process = subprocess.Popen(
        command, cwd=PROJECT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ}
    )
    line = process.stdout.readline()
    if not line:
        _, errors = process.communicate(timeout=PATIENCE_S)
        raise AssertionError(f"the simulator did not start: {errors}")
    session = requests.Session()
    session.trust_env = False
    return Simulator(process, json.loads(line)["url"], session)


@pytest.fixture
def simulate() -> Iterator[Callable[..., Simulator]]:
    """Starts simulators; all are ended after the test."""
    started: list[Simulator] = []

    def run(*arguments: str, **options: Any) -> Simulator:
        started.append(start(*arguments, **options))
        return started[-1]

    yield run
    for simulator in started:
        simulator.end()


@pytest.fixture(scope="session")
def running_simulator() -> Iterator[Simulator]:
    """One process in lock-step for all tests that leave it alive."""
    simulator = start()
    yield simulator
    simulator.end()


@pytest.fixture
def simulator(running_simulator: Simulator) -> Iterator[Simulator]:
    """A simulator in lock-step, at 10:00 of an ordinary day on which nothing has happened yet."""
    running_simulator.restart(start="10:00:00", rate_limits=True)
    yield running_simulator
    for socket in running_simulator.sockets:
        socket.close()
    running_simulator.sockets.clear()


@pytest.fixture
def stage() -> Stage:
    """A simulated day without a server around it, at 09:00."""
    return Stage(Setup(day=DAY))


@pytest.fixture(scope="session")
def recordings() -> Path:
    """The folder with recorded market days."""
    folder = SHARED / "market"
    if not folder.is_dir():
        pytest.skip(f"recorded market days live outside the project, in {folder}")
    return folder


@pytest.fixture(scope="session")
def schemas() -> Path:
    """The folder with the SDK project's reply schemas."""
    folder = SHARED / "reference" / "dhan" / "DhanHQ-py"
    if not folder.is_dir():
        pytest.skip(f"the SDK's reply schemas live outside the project, in {folder}")
    return folder
