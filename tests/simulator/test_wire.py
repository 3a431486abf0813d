"""HTTP and WebSocket on one port: what clients may do to a connection without breaking it."""

import asyncio
import json
import socket

import pytest

from simulator import wire


@pytest.fixture
def raw(simulator):
    """A bare TCP connection to the simulator."""
    host, port = simulator.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        yield connection


GET = b"GET /control/clock HTTP/1.1\r\nHost: x\r\n\r\n"


def read_reply(connection: socket.socket) -> tuple[bytes, bytes]:
    data = b""
    while b"\r\n\r\n" not in data:
        chunk = connection.recv(65_536)
        if not chunk:
            return data, b""
        data += chunk
    head, _, body = data.partition(b"\r\n\r\n")
    length = next(
        int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length")
    )
    while len(body) < length:
        body += connection.recv(65_536)
    return head, body


def test_a_connection_is_kept_alive(raw):
    for _ in range(3):
        raw.sendall(GET)
        head, body = read_reply(raw)
        assert head.startswith(b"HTTP/1.1 200 OK")
        assert json.loads(body)["lock_step"] is True


def test_requests_may_come_together_or_in_pieces(raw):
    raw.sendall(GET + GET)
    data = b""
    while data.count(b"lock_step") < 2:
        data += raw.recv(65_536)
    for byte in GET:
        raw.sendall(bytes([byte]))
    assert b"200" in read_reply(raw)[0]


def test_a_body_may_follow_its_head_later(raw, simulator):
    body = json.dumps([{"fault": "feed_silence"}]).encode()
    raw.sendall(b"POST /control/faults HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % len(body))
    assert simulator.control("GET", "faults") == []
    raw.sendall(body)
    assert b"200" in read_reply(raw)[0]
    assert len(simulator.control("GET", "faults")) == 1


def test_connection_close_is_honoured(raw):
    raw.sendall(GET.replace(b"\r\n\r\n", b"\r\nConnection: Close\r\n\r\n"))
    assert b"Connection: close" in read_reply(raw)[0]
    assert raw.recv(1) == b""


BAD = {
    "not HTTP": (b"hello\r\n\r\n", b"400"),
    "HTTP of the future": (b"GET / HTTP/2\r\n\r\n", b"400"),
    "a header without a colon": (b"GET / HTTP/1.1\r\nnonsense\r\n\r\n", b"400"),
    "a length that is no number": (b"POST / HTTP/1.1\r\nContent-Length: x\r\n\r\n", b"400"),
    "a chunked body": (b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n", b"400"),
    "an endless head": (b"GET / HTTP/1.1\r\nx: " + b"y" * 70_000, b"431"),
    "an endless body": (b"POST / HTTP/1.1\r\nContent-Length: 99999999\r\n\r\n", b"413"),
    "a WebSocket without its key": (
        b"GET /market-feed HTTP/1.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
        b"4",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_what_cannot_be_understood_is_refused_and_closed(name, raw, simulator):
    data, status = BAD[name]
    raw.sendall(data)
    assert read_reply(raw)[0].startswith(b"HTTP/1.1 " + status)
    assert simulator.clock()["lock_step"] is True, "the others go on"


def test_a_client_that_leaves_in_the_middle_of_anything_does_no_harm(simulator):
    host, port = simulator.url.removeprefix("http://").split(":")
    for data in (b"GET /con", GET, b"POST /v2/orders HTTP/1.1\r\nContent-Length: 10\r\n\r\nhalf"):
        with socket.create_connection((host, int(port)), timeout=10) as connection:
            connection.sendall(data)
    feed = simulator.feed((15, "IDX_I:13"))
    feed.close()
    simulator.advance(seconds=2)
    assert simulator.truth()["feed_connections"] == 0


def test_messages_in_fragments_are_put_together(simulator):
    feed = simulator.feed()
    text = json.dumps({"RequestCode": 15, "InstrumentList": [{"ExchangeSegment": "IDX_I", "SecurityId": "13"}]})
    feed.send([text[:10], text[10:20], text[20:]])
    simulator.wait_until(lambda: simulator.advance(seconds=1) and simulator.truth()["feed_packets"] > 0)


def test_a_ping_is_answered(simulator):
    assert simulator.feed().ping().wait(10)


class Silent:
    """An application with one room in which nobody speaks."""

    def __init__(self) -> None:
        self.gone = asyncio.Event()

    def room(self, _) -> "Silent":
        return self

    def date_header(self) -> str:
        return ""

    def opened(self, _) -> None:
        pass

    def message(self, *_) -> None:
        pass

    def closed(self, _) -> None:
        self.gone.set()


@pytest.mark.parametrize(("answers", "timeout_s"), [(True, 30.0), (False, 0.1)])
def test_who_does_not_answer_pings_is_dropped_and_who_does_is_not(answers, timeout_s, monkeypatch):
    monkeypatch.setattr(wire, "PING_PERIOD_S", 0.02)
    monkeypatch.setattr(wire, "PONG_TIMEOUT_S", timeout_s)

    async def meet() -> tuple[bool, bytes]:
        loop = asyncio.get_running_loop()
        room = Silent()
        server = await loop.create_server(lambda: wire.Connection(room, set()), "127.0.0.1", 0)
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        writer.write(
            b"GET /x HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
        )
        await reader.readuntil(b"\r\n\r\n")
        pings = b""
        for _ in range(20):
            ping = await reader.readexactly(2)
            pings += ping
            if ping != b"\x89\x00":
                break
            if answers:
                writer.write(b"\x8a\x80\x00\x00\x00\x00")
        gone = room.gone.is_set()
        writer.close()
        server.close()
        return gone, pings

    gone, pings = asyncio.run(asyncio.wait_for(meet(), 20))
    assert gone is not answers
    assert pings.startswith(b"\x89\x00" * 3)
    assert (pings == b"\x89\x00" * 20) is answers
