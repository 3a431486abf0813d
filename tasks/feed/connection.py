"""One WebSocket connection over one socket, for one thread: no background thread, no event loop.

`websockets` does the protocol (handshake, frames, answering pings), this file moves the bytes. That makes a
tick available one system call after it arrived, lets the owner wait for several things at once, and keeps the
address, which carries the access token, out of every log and error.

Invariants:
1. Nothing blocks longer than its time-out; `receive` never blocks.
2. Every failure is a ConnectionLost, and its text holds neither the address nor a token.
"""

import logging
import select
import socket
import ssl
from typing import Final

from websockets.client import ClientProtocol
from websockets.exceptions import InvalidHandshake, InvalidStatus
from websockets.frames import Frame, Opcode
from websockets.http11 import Response
from websockets.protocol import State
from websockets.uri import parse_uri

from tasks.clock import Deadline, Stopwatch

Message = bytes | str

_READ_BYTES: Final = 65_536
_MESSAGE_BYTES_MAX: Final = 1 << 20
_SEND_TIMEOUT_S: Final = 2.0

# At DEBUG the library writes the request line, and with it the token, into the log.
_quiet_logger = logging.getLogger(f"{__name__}.protocol")
_quiet_logger.setLevel(logging.WARNING)


class ConnectionLost(Exception):
    """The connection is gone or never came. `status` is the HTTP status of a refused upgrade, 0 otherwise."""

    def __init__(self, reason: str, *, status: int = 0, code: int = 0) -> None:
        super().__init__(reason)
        self.status = status
        self.code = code


class Connection:
    """An open connection; made by `open`."""

    def __init__(self, sock: socket.socket, protocol: ClientProtocol) -> None:
        self._socket = sock
        self._poll = select.poll()
        self._protocol = protocol
        self._fragments: list[bytes] = []
        self._text = False
        self._waiting: list[Message] = []
        self._heard = Stopwatch()

    @classmethod
    def open(cls, url: str, *, timeout_s: float, force_ipv4: bool) -> "Connection":
        """Connect and shake hands within about `timeout_s`; ConnectionLost where that fails."""
        uri = parse_uri(url)
        deadline = Deadline(timeout_s)
        # A socket bound to an IPv4 address cannot connect over IPv6: chosen here, not for the whole process.
        source = ("0.0.0.0", 0) if force_ipv4 else None  # noqa: S104  # an outgoing socket, nothing listens
        try:
            sock = socket.create_connection((uri.host, uri.port), timeout=timeout_s, source_address=source)
        except OSError as error:
            raise ConnectionLost(f"cannot connect: {_explain(error)}") from None
        try:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if uri.secure:
                sock = ssl.create_default_context().wrap_socket(sock, server_hostname=uri.host)
            sock.setblocking(False)
            connection = cls(sock, ClientProtocol(uri, max_size=_MESSAGE_BYTES_MAX, logger=_quiet_logger))
            connection._shake_hands(deadline)
        except (OSError, ConnectionLost) as error:
            sock.close()
            if isinstance(error, ConnectionLost):
                raise
            raise ConnectionLost(f"no secure connection: {_explain(error)}") from None
        return connection

    def fileno(self) -> int:
        """For a selector."""
        return self._socket.fileno()

    @property
    def quiet_s(self) -> float:
        """Seconds since the last byte came, pings and pongs included."""
        return self._heard.seconds

    def receive(self) -> list[Message]:
        """The whole messages of one read, possibly none. ConnectionLost when the other side has gone.

        More may be waiting: see `has_more`, then a selector.
        """
        try:
            chunk = self._socket.recv(_READ_BYTES)
        except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            pass
        except OSError as error:
            raise ConnectionLost(_explain(error)) from None
        else:
            self._heard = Stopwatch()
            self._take(chunk)
        messages, self._waiting = self._waiting, []
        if not messages and self._protocol.state is not State.OPEN:
            raise self._lost()
        self._flush()
        return messages

    def send(self, text: str) -> None:
        """Send one text message."""
        if self._protocol.state is not State.OPEN:
            raise self._lost()
        self._protocol.send_text(text.encode())
        self._flush()

    def ping(self) -> None:
        """Ask for a sign of life; the answer shows in `quiet_s`."""
        if self._protocol.state is State.OPEN:
            self._protocol.send_ping(b"")
            self._flush()

    def close(self) -> None:
        """Say goodbye if that is possible at once, and let go of the socket. Never raises."""
        try:
            if self._protocol.state is State.OPEN:
                self._protocol.send_close(1000)
            self._flush()  # an answer to the other side's goodbye, too
        except ConnectionLost:
            pass
        finally:
            self._socket.close()

    def wait(self, timeout_s: float) -> bool:
        """Wait until there is something to `receive`, for an owner that waits for nothing else."""
        return self.has_more or self._wait(select.POLLIN, timeout_s)

    @property
    def has_more(self) -> bool:
        """True when bytes are here that a selector does not see (decrypted already)."""
        return isinstance(self._socket, ssl.SSLSocket) and self._socket.pending() > 0

    def _shake_hands(self, deadline: Deadline) -> None:
        self._protocol.send_request(self._protocol.connect())
        self._flush()
        while self._protocol.state is State.CONNECTING:
            if not self.wait(deadline.left_s):
                raise ConnectionLost("no answer to the upgrade request in time")
            try:
                chunk = self._socket.recv(_READ_BYTES)
            except (BlockingIOError, ssl.SSLWantReadError):
                continue
            self._take(chunk)
            refusal = self._protocol.handshake_exc
            if isinstance(refusal, InvalidStatus):
                status = refusal.response.status_code
                raise ConnectionLost(f"the server refused the upgrade with HTTP {status}", status=status)
            if refusal is not None:
                kind = type(refusal).__name__ if isinstance(refusal, InvalidHandshake) else "no handshake"
                raise ConnectionLost(f"the server did not upgrade: {kind}")

    def _take(self, chunk: bytes) -> None:
        if chunk:
            self._protocol.receive_data(chunk)
        else:
            self._protocol.receive_eof()
        for event in self._protocol.events_received():
            if isinstance(event, Response):
                continue
            assert isinstance(event, Frame)
            if event.opcode in {Opcode.TEXT, Opcode.BINARY}:
                self._text = event.opcode is Opcode.TEXT
                self._fragments = [bytes(event.data)]
            elif event.opcode is Opcode.CONT:
                self._fragments.append(bytes(event.data))
            else:
                continue
            if event.fin:
                body = self._fragments[0] if len(self._fragments) == 1 else b"".join(self._fragments)
                self._fragments = []
                self._waiting.append(body.decode("utf-8", "replace") if self._text else body)

    def _flush(self) -> None:
        for data in self._protocol.data_to_send():
            if not data:
                continue  # the protocol's wish to half-close; `close` does it
            deadline = Deadline(_SEND_TIMEOUT_S)
            rest = memoryview(data)
            while rest:
                try:
                    rest = rest[self._socket.send(rest) :]
                except (BlockingIOError, ssl.SSLWantWriteError, ssl.SSLWantReadError):
                    if not self._wait(select.POLLOUT, deadline.left_s):
                        raise ConnectionLost("the other side takes no data") from None
                except OSError as error:
                    raise ConnectionLost(_explain(error)) from None

    def _wait(self, event: int, timeout_s: float) -> bool:
        self._poll.register(self._socket, event)
        return bool(self._poll.poll(timeout_s * 1000))

    def _lost(self) -> ConnectionLost:
        goodbye = self._protocol.close_rcvd
        if goodbye is None:
            return ConnectionLost("the connection broke without a close frame")
        return ConnectionLost(f"the server closed with code {goodbye.code}", code=goodbye.code)


def _explain(error: OSError) -> str:
    """What the operating system says, and nothing of what was sent."""
    return error.strerror or type(error).__name__
