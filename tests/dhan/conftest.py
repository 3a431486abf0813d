"""A simulator process of one's own, and servers that answer whatever a test tells them to."""

import json
import logging
import math
import os
import random
import signal
import socket
import socketserver
import subprocess
import sys
import threading
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import date
from itertools import count
from pathlib import Path

import pytest
import requests
from websockets.sync.server import serve

from strategy.instruments import INDICES, OptionType, Underlying
from tasks.broker.dhan import DhanBroker, FixedToken
from tasks.broker.http import Timeouts
from tasks.broker.limits import NoLimits
from tasks.clock import Deadline, pause
from tasks.inbox import Inbox
from tasks.instruments import InstrumentMaster
from tasks.settings import REHEARSAL_ACCESS_TOKEN, REHEARSAL_CLIENT_ID, Settings

DAY = date(2026, 11, 20)
NUMBERS = count(1)
NIFTY = INDICES[Underlying.NIFTY]
PROJECT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def _no_environment_of_the_caller(monkeypatch):
    for name in list(os.environ):
        if name.startswith("BOT_") or name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)


@pytest.fixture
def everything_logged(caplog):
    """All log lines of the process, also those that libraries write at DEBUG."""
    caplog.set_level(logging.DEBUG)
    for name in ("urllib3", "urllib3.connectionpool", "websockets", "websockets.client", "tasks"):
        caplog.set_level(logging.DEBUG, logger=name)
    return caplog


@pytest.fixture
def wait_for():
    """Wait until `condition()` is true; what it last returned."""

    def wait(condition, seconds=10.0):
        deadline = Deadline(seconds)
        while not (found := condition()):
            assert not deadline.passed, "waited in vain"
            pause(0.005)
        return found

    return wait


@dataclass
class Exchange:
    """A running simulator in lock-step: its market moves when told to."""

    url: str

    def _ask(self, method, path, body=None):
        reply = requests.request(method, f"{self.url}/control/{path}", json=body, timeout=30)
        reply.raise_for_status()
        return reply.json()

    def advance(self, seconds=None, *, to=None):
        return self._ask("POST", "advance", {"to": to} if to else {"seconds": seconds})

    def clear_faults(self):
        self._ask("DELETE", "faults")

    def stack(self, *, on):
        self._ask("POST", "settings", {"stack": on})

    @property
    def feed_url(self):
        return self.url.replace("http", "ws", 1) + "/market-feed"

    @property
    def order_update_url(self):
        return self.url.replace("http", "ws", 1) + "/order-update"

    def fault(self, name, **settings):
        self._ask("POST", "faults", [{"fault": name, **settings}])

    @property
    def truth(self):
        return self._ask("GET", "truth")

    @property
    def packets_by_connection(self):
        counts = self.truth["feed_packets_by_connection"]
        return [{int(code): count for code, count in connection.items()} for connection in counts]

    @property
    def clock(self):
        return self._ask("GET", "clock")

    def now_ms(self):
        return int(self.clock["now_ms"])

    @property
    def requests(self):
        return self._ask("GET", "requests")

    def calls(self, name):
        return sum(entry["call"] == name for entry in self.requests)


class Heard:
    """The inbox of a feed, and all that ever came into it."""

    def __init__(self):
        self.inbox = Inbox()
        self.heard = []

    def all(self, kind):
        self.heard += self.inbox.drain()
        return [event for event in self.heard if isinstance(event, kind)]


@pytest.fixture
def started():
    """Starts the feed of a listener, and closes it after the test."""
    with ExitStack() as opened:

        def start(listener):
            opened.callback(listener.feed.close)
            listener.feed.start()
            return listener

        yield start


@contextmanager
def socket_server(handler, **options):
    """A WebSocket server on loopback, with TLS if `ssl` is given; `handler(connection)` serves one connection."""
    with serve(handler, "127.0.0.1", 0, compression=None, **options) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            host = "wss://localhost" if "ssl" in options else "ws://127.0.0.1"
            yield f"{host}:{server.socket.getsockname()[1]}"
        finally:
            server.shutdown()
            thread.join(5)


@contextmanager
def running_simulator(folder, *options):
    ready = folder / "ready.json"
    command = [sys.executable, "-m", "simulator", "--port", "0", "--with-parent", "--ready", str(ready)]
    command += ["--client-id", REHEARSAL_CLIENT_ID, "--token", REHEARSAL_ACCESS_TOKEN, "--day", "2026-11-20"]
    with (folder / "simulator.log").open("wb") as log:
        process = subprocess.Popen([*command, *options], cwd=PROJECT, stdout=log, stderr=subprocess.STDOUT)
        try:
            deadline = Deadline(60)
            while not ready.exists():
                alive = process.poll() is None and not deadline.passed
                assert alive, (folder / "simulator.log").read_text()
                pause(0.02)
            yield Exchange(json.loads(ready.read_text())["url"])
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(10)


@pytest.fixture
def start_exchange(tmp_path):
    """Start a simulator with options of the test's choice."""
    with ExitStack() as started:

        def start(*options):
            folder = tmp_path / f"simulator{len(list(tmp_path.glob('simulator*')))}"
            folder.mkdir()
            return started.enter_context(running_simulator(folder, *options))

        yield start


@pytest.fixture
def exchange(start_exchange):
    """A simulator of the test's own, at 09:00 of Friday 2026-11-20."""
    return start_exchange()


@pytest.fixture(scope="session")
def shared_exchange(tmp_path_factory):
    """A simulator at 09:20 for tests that share it; a new one takes seconds to start."""
    with running_simulator(tmp_path_factory.mktemp("shared"), "--rate-limits", "off") as market:
        market.advance(to="09:20:00")
        yield market


@pytest.fixture
def market(shared_exchange):
    """The shared simulator: what others did in it before is its past, faults are one's own."""
    yield shared_exchange
    shared_exchange.clear_faults()
    shared_exchange.stack(on=False)


@pytest.fixture
def broker(market, make_broker):
    """The adapter at the shared simulator."""
    return make_broker(f"{market.url}/v2", now_ms=market.now_ms)


@pytest.fixture
def cid():
    """A client order id that no other test has."""
    return f"t-{next(NUMBERS)}"


@pytest.fixture(scope="session")
def contract(shared_exchange, tmp_path_factory):
    """A call at the money; the same in every simulator of that day and seed."""
    home = tmp_path_factory.mktemp("master")
    master = InstrumentMaster.of_day(Settings(_env_file=None, simulator_url=shared_exchange.url, home=home), DAY)
    contracts = master.contracts(NIFTY, master.expiries(NIFTY)[0])
    strikes = sorted({strike for strike, _ in contracts})
    return contracts[strikes[len(strikes) // 2], OptionType.CE]


@pytest.fixture
def settings(exchange, tmp_path):
    return Settings(_env_file=None, simulator_url=exchange.url, home=tmp_path / "home")


@pytest.fixture
def make_broker():
    """A DhanBroker for an address; closed at the end."""
    with ExitStack() as opened:

        def make(api_url, *, tokens=None, now_ms=lambda: 0, **others):
            others.setdefault("limits", NoLimits())
            others.setdefault("timeouts", Timeouts(connect_s=5.0, read_s=20.0, total_s=30.0))
            broker = DhanBroker(
                client_id=REHEARSAL_CLIENT_ID,
                tokens=tokens or FixedToken(REHEARSAL_ACCESS_TOKEN),
                api_url=api_url,
                now_ms=now_ms,
                **others,
            )
            opened.callback(broker.close)
            return broker

        yield make


ODD = [
    None,
    True,
    -1,
    0,
    65.5,
    1e308,
    math.nan,
    math.inf,
    10**30,
    "",
    " ",
    "65",
    "1e999",
    "NaN",
    "-0",
    "०१२",
    "x" * 999,
]
ODD += [[], {}, [[]], {"a": {}}, "Traded", "0001-01-01 00:00:00", "2026-13-41 25:61:61"]


@pytest.fixture
def spoilt():
    """spoilt(row, count): the JSON of `row` with odd values, wrong bytes and its end cut off; the same each time."""

    def texts(row, count, wrap=lambda changed: changed):
        chance, names = random.Random(8), list(row)
        odd = [json.dumps(value) for value in ODD] + ["9" * 5000]  # a number that Python does not read
        whole = {name: json.dumps(value) for name, value in row.items()}
        for number in range(count):
            parts = whole | {chance.choice(names): chance.choice(odd)} if number % 2 else whole
            text = bytearray(wrap("{" + ", ".join(f'"{name}": {part}' for name, part in parts.items()) + "}").encode())
            for _ in range(number % 4):
                text[chance.randrange(len(text))] = chance.randrange(256)
            yield bytes(text[: chance.randrange(len(text))] if number % 5 == 0 else text)

    return texts


@dataclass
class Scripted:
    """A server that answers each request with the bytes of the script, whatever was asked.

    An entry is (HTTP status, JSON or text, more headers if need be); None waits without a reply; "reset" breaks the connection; a list of bytes
    is sent as it is, a tenth of a second apart, and then the connection is closed.
    """

    url: str = ""
    replies: list = field(default_factory=list)
    requests: list = field(default_factory=list)
    ended: threading.Event = field(default_factory=threading.Event)


def http_reply(status, body, more=""):
    body = body if isinstance(body, bytes) else (body if isinstance(body, str) else json.dumps(body)).encode()
    head = f"HTTP/1.1 {status} x\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n{more}\r\n"
    return head.encode() + body


@pytest.fixture
def scripted():
    script = Scripted()

    class Handler(socketserver.StreamRequestHandler):
        def handle(self):
            while True:
                head = b""
                while not head.endswith(b"\r\n\r\n"):
                    line = self.rfile.readline()
                    if not line:
                        return
                    head += line
                length = next(
                    (
                        int(v)
                        for k, _, v in (li.partition(b":") for li in head.lower().split(b"\r\n"))
                        if k == b"content-length"
                    ),
                    0,
                )
                script.requests.append(head + self.rfile.read(length))
                reply = script.replies.pop(0) if len(script.replies) > 1 else script.replies[0]
                if reply is None:
                    script.ended.wait(10)
                    return
                if reply == "reset":
                    self.request.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
                    self.request.close()
                    return
                if isinstance(reply, tuple):
                    self.wfile.write(http_reply(*reply))
                    continue
                for piece in reply:
                    self.wfile.write(piece)
                    if script.ended.wait(0.1):
                        return
                return

        def finish(self):
            with suppress(OSError):  # the client is gone
                super().finish()

    class Server(socketserver.ThreadingTCPServer):
        allow_reuse_address = True
        daemon_threads = True

        def handle_error(self, request, client_address):
            pass  # a client that hangs up is what many tests are about

    with Server(("127.0.0.1", 0), Handler) as server:
        script.url = f"http://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        try:
            yield script
        finally:
            script.ended.set()
            server.shutdown()
            thread.join()


@pytest.fixture
def closed_port():
    """A loopback address on which nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        number = probe.getsockname()[1]
    return f"127.0.0.1:{number}"
