"""HTTP/1.1 and WebSocket on one port, by hand where the faults need the bare connection.

A `Connection` parses requests one after the other (keep-alive), hands them to the `Application`, and writes what comes
back in the way the response asks for: at once, byte by byte, never, or as a TCP reset. An upgrade turns it into a
`WebSocket`, whose handshake, control frames and closing are those of the websockets library; data frames are written
directly, because a market feed is nothing but small unfragmented frames.

Invariants:
1. Requests of one connection are answered in order; none is answered twice.
2. Buffers are bounded: an oversized request is refused, a client that stops reading is dropped.
"""

import asyncio
import json
import socket
import struct
from collections.abc import Iterable
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, Protocol
from urllib.parse import parse_qsl, unquote, urlsplit

from websockets.exceptions import InvalidUpgrade
from websockets.frames import CloseCode, Frame, Opcode
from websockets.http11 import Request as HandshakeRequest
from websockets.protocol import State
from websockets.server import ServerProtocol

HEAD_LIMIT = 64 * 1024
BODY_LIMIT = 4 * 1024 * 1024
UNREAD_LIMIT = 16 * 1024 * 1024
PING_PERIOD_S = 10.0
PONG_TIMEOUT_S = 40.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One HTTP request; header names are lower-case, of repeated query keys the first counts."""

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: bytes
    peer: str

    def json(self) -> Any:
        """The parsed body. Raises ValueError."""
        return json.loads(self.body)


@dataclass(slots=True, kw_only=True)
class Response:
    """What to send back, and how: `delivery` is one of now, never, reset, drip."""

    status: int = 200
    body: bytes = b""
    content_type: str = "application/json"
    headers: dict[str, str] = field(default_factory=dict)
    delivery: str = "now"
    hold_s: float = 0.0  # never: how long to keep the client waiting; drip: between two bytes

    @classmethod
    def of(cls, value: Any, status: int = 200) -> "Response":
        """A JSON reply."""
        return cls(status=status, body=json.dumps(value, separators=(",", ":")).encode())


class Room(Protocol):
    """What a WebSocket talks to once it is open."""

    def opened(self, socket: "WebSocket") -> None:
        """The handshake is done."""
        ...

    def message(self, socket: "WebSocket", payload: bytes) -> None:
        """A text or binary message came in."""
        ...

    def closed(self, socket: "WebSocket") -> None:
        """The connection is gone, for whatever reason."""
        ...


class Application(Protocol):
    """What a connection serves."""

    def respond(self, request: Request) -> Response:
        """Answer one request."""
        ...

    def room(self, request: Request) -> Room | Response:
        """Where an upgrade leads, or why it is refused."""
        ...

    def date_header(self) -> str:
        """The server's idea of the time, for the Date header."""
        ...


class WebSocket:
    """An open WebSocket; writes are immediate and never block."""

    def __init__(self, transport: asyncio.Transport, protocol: ServerProtocol, room: Room, request: Request) -> None:
        self.request = request
        self.open = True
        self.keep_alive = True
        self._transport = transport
        self._protocol = protocol
        self._room = room
        self._fragments: list[bytes] = []
        self._loop = asyncio.get_running_loop()
        self._last_pong = self._loop.time()
        self._pinging = self._loop.call_later(PING_PERIOD_S, self._ping)

    def receive(self, data: bytes) -> None:
        """Take bytes from the network."""
        if data:
            self._protocol.receive_data(data)
        else:
            self._protocol.receive_eof()
        for event in self._protocol.events_received():
            if isinstance(event, Frame):
                self._take(event)
        self._write_pending()

    def send_text(self, text: str) -> None:
        """One text message."""
        self._write(frame(text.encode(), opcode=0x81))

    def send_binary(self, messages: Iterable[bytes]) -> None:
        """Binary messages, one frame each, in one write."""
        self._write(b"".join([frame(message) for message in messages]))

    def close(self, code: int = CloseCode.NORMAL_CLOSURE, reason: str = "") -> None:
        """Start the closing handshake."""
        if self.open:
            # The client's own close may have come in the same packet as the message that leads here.
            if self._protocol.state is State.OPEN:
                self._protocol.send_close(code, reason)
            self._write_pending()
            self._loop.call_later(2.0, self._transport.close)
            self.lost()

    def reset(self) -> None:
        """Cut the connection with a TCP reset, without a word."""
        reset(self._transport)
        self.lost()

    def lost(self) -> None:
        """The connection is gone."""
        if self.open:
            self.open = False
            self._pinging.cancel()
            self._room.closed(self)

    def _take(self, event: Frame) -> None:
        if event.opcode is Opcode.PONG:
            self._last_pong = self._loop.time()
        elif event.opcode in (Opcode.TEXT, Opcode.BINARY, Opcode.CONT) and self.open:
            self._fragments.append(bytes(event.data))
            if event.fin:
                message, self._fragments = b"".join(self._fragments), []
                self._room.message(self, message)

    def _write(self, data: bytes) -> None:
        if not self.open or self._transport.is_closing():
            return
        self._transport.write(data)
        if self._transport.get_write_buffer_size() > UNREAD_LIMIT:
            self.reset()

    def _write_pending(self) -> None:
        for data in self._protocol.data_to_send():
            if data and not self._transport.is_closing():
                self._transport.write(data)
        if self._protocol.close_expected():
            self.lost()
            self._transport.close()

    def _ping(self) -> None:
        if not self.open:
            return
        if self._loop.time() - self._last_pong > PONG_TIMEOUT_S and self.keep_alive:
            self.close(CloseCode.GOING_AWAY, "no pong in 40 s")
            return
        self._write(b"\x89\x00")
        self._pinging = self._loop.call_later(PING_PERIOD_S, self._ping)


class Connection(asyncio.Protocol):
    """One TCP connection: HTTP requests, until one of them upgrades it."""

    def __init__(self, application: Application, connections: "set[Connection]") -> None:
        self._application = application
        self._connections = connections
        self._transport: asyncio.Transport | None = None
        self._peer = ""
        self._buffer = bytearray()
        self._websocket: WebSocket | None = None
        self._silent = False  # a fault keeps this connection from ever answering again
        self._dripping: list[asyncio.TimerHandle] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client connected."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._peer = str(transport.get_extra_info("peername", ("",))[0])
        raw = transport.get_extra_info("socket")
        if raw is not None:
            raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._connections.add(self)

    def data_received(self, data: bytes) -> None:
        """Bytes came in."""
        if self._websocket is not None:
            self._websocket.receive(data)
            return
        self._buffer += data
        more = True
        while more and not self._silent:
            more = self._take_request()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        """The connection is gone."""
        self._connections.discard(self)
        for handle in self._dripping:
            handle.cancel()
        if self._websocket is not None:
            self._websocket.lost()

    def cut_websocket(self) -> None:
        """Cut the connection if it is a WebSocket."""
        if self._websocket is not None:
            self._websocket.reset()

    def shut(self) -> None:
        """Close because the server ends."""
        if self._websocket is not None:
            self._websocket.close(CloseCode.GOING_AWAY, "simulator ends")
        if self._transport is not None:
            self._transport.close()

    def _take_request(self) -> bool:
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0:
            if len(self._buffer) > HEAD_LIMIT:
                self._refuse(431)
            return False
        head = bytes(self._buffer[: end + 4])
        try:
            request, length = parse_head(head, self._peer)
        except ValueError:
            self._refuse(400)
            return False
        if length > BODY_LIMIT:
            self._refuse(413)
            return False
        if len(self._buffer) < len(head) + length:
            return False
        body = bytes(self._buffer[len(head) : len(head) + length])
        del self._buffer[: len(head) + length]
        request = Request(
            method=request.method, path=request.path, query=request.query, headers=request.headers, body=body,
            peer=request.peer,
        )  # fmt: skip
        if request.headers.get("upgrade", "").lower() == "websocket":
            self._upgrade(request, head)
            return False
        self._deliver(
            self._application.respond(request), close=request.headers.get("connection", "").lower() == "close"
        )
        return True

    def _upgrade(self, request: Request, head: bytes) -> None:
        assert self._transport is not None
        room = self._application.room(request)
        if isinstance(room, Response):
            self._deliver(room, close=True)
            return
        protocol = ServerProtocol(max_size=BODY_LIMIT)
        protocol.receive_data(head)
        handshakes = [event for event in protocol.events_received() if isinstance(event, HandshakeRequest)]
        if not handshakes:
            error = protocol.handshake_exc or InvalidUpgrade("Upgrade", "unreadable")
            self._deliver(Response(status=400, body=str(error).encode(), content_type="text/plain"), close=True)
            return
        protocol.send_response(protocol.accept(handshakes[0]))
        for data in protocol.data_to_send():
            self._transport.write(data)
        if protocol.handshake_exc is not None:
            self._transport.close()
            return
        self._websocket = WebSocket(self._transport, protocol, room, request)
        room.opened(self._websocket)
        if self._buffer:
            early, self._buffer = bytes(self._buffer), bytearray()
            self._websocket.receive(early)

    def _refuse(self, status: int) -> None:
        self._silent = True
        self._deliver(Response(status=status, content_type="text/plain"), close=True)

    def _deliver(self, response: Response, *, close: bool) -> None:
        assert self._transport is not None
        loop = asyncio.get_running_loop()
        if response.delivery == "reset":
            self._silent = True
            reset(self._transport)
            return
        if response.delivery == "never":
            self._silent = True
            self._dripping.append(loop.call_later(response.hold_s, self._transport.close))
            return
        drips = response.delivery == "drip"
        data = render_head(response, self._application.date_header(), close=close or drips) + response.body
        if drips:
            self._silent = True  # the client is told to use another connection for its next request
            for i, byte in enumerate(data):
                self._dripping.append(loop.call_later(i * response.hold_s, self._transport.write, bytes([byte])))
            self._dripping.append(loop.call_later(len(data) * response.hold_s, self._transport.close))
            return
        self._transport.write(data)
        if close:
            self._transport.close()


def frame(payload: bytes, *, opcode: int = 0x82) -> bytes:
    """An unmasked, final data frame (server to client)."""
    size = len(payload)
    if size < 126:
        return bytes((opcode, size)) + payload
    if size < 65_536:
        return struct.pack("!BBH", opcode, 126, size) + payload
    return struct.pack("!BBQ", opcode, 127, size) + payload


def reset(transport: asyncio.Transport) -> None:
    """End a connection with RST instead of FIN, as a dying gateway does."""
    raw = transport.get_extra_info("socket")
    if raw is not None:
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()


def parse_head(head: bytes, peer: str) -> tuple[Request, int]:
    """The request without its body, and the body's length. Raises ValueError when it is not HTTP/1.1 as we speak it."""
    lines = head.decode("latin-1").split("\r\n")
    method, target, version = lines[0].split(" ")
    if not version.startswith("HTTP/1."):
        raise ValueError(f"expected HTTP/1.x, found {version}")
    headers: dict[str, str] = {}
    for line in lines[1:-2]:
        name, separator, value = line.partition(":")
        if not separator:
            raise ValueError(f"expected a header line, found {line!r}")
        headers.setdefault(name.strip().lower(), value.strip())
    if "transfer-encoding" in headers:
        raise ValueError("expected a body with Content-Length, found a chunked one")
    split = urlsplit(target)
    query: dict[str, str] = {}
    for name, value in parse_qsl(split.query, keep_blank_values=True):
        query.setdefault(name, value)
    request = Request(method=method, path=unquote(split.path), query=query, headers=headers, body=b"", peer=peer)
    return request, int(headers.get("content-length") or 0)


def render_head(response: Response, date: str, *, close: bool) -> bytes:
    """Status line and headers."""
    try:
        phrase = HTTPStatus(response.status).phrase
    except ValueError:
        phrase = "Unknown"
    lines = [
        f"HTTP/1.1 {response.status} {phrase}",
        f"Date: {date}",
        f"Content-Type: {response.content_type}",
        f"Content-Length: {len(response.body)}",
        f"Connection: {'close' if close else 'keep-alive'}",
        *[f"{name}: {value}" for name, value in response.headers.items()],
    ]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")
