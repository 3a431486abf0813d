"""The SDK's HTTP class, rewritten inside so that status and body survive: a Reply, or an error.

Invariants:
1. Nothing is retried and nothing redirected: one call, one request.
2. Every reply is there within `total_s` of the request, or is none, however slowly the other side drips it.
3. NothingSent means that no byte of the request can have arrived; everything else is NoReply.
4. The token is taken anew for each request and is in no error, log line or repr. (The HTTP library's errors
   hold the request with its headers, so none of them is passed on as a cause.)
"""

import io
import socket
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from http.client import HTTPResponse
from json import dumps
from typing import Any, Final

import requests
import urllib3
from dhanhq.dhan_context import DhanContext
from dhanhq.dhan_http import DhanHTTP
from requests.adapters import HTTPAdapter

from tasks.clock import Deadline
from tasks.settings import is_loopback

_CHUNK_BYTES: Final = 65_536
_BODY_BYTES_MAX: Final = 32 * 1024 * 1024
# A connection that a firewall forgot is found by these probes, not by an exit order.
_KEEP_ALIVE: Final = [
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    *(
        (socket.IPPROTO_TCP, getattr(socket, name), value)
        for name, value in (("TCP_KEEPIDLE", 20), ("TCP_KEEPINTVL", 5), ("TCP_KEEPCNT", 3))
        if hasattr(socket, name)
    ),
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeouts:
    """Seconds: for the connection, for each read, and for the whole reply."""

    connect_s: float = 3.0
    read_s: float = 7.0
    total_s: float = 15.0


@dataclass(frozen=True, slots=True)
class Reply:
    """What the server answered, unjudged."""

    status: int
    body: bytes


class NothingSent(Exception):
    """The connection never came about, so the request did not leave."""


class NoReply(Exception):
    """The request may have arrived; no complete reply did."""


class DhanWire(DhanHTTP):  # type: ignore[misc]  # the SDK has no types
    """Does the SDK's requests; its methods `get`, `post`, `put` and `delete` return a Reply or raise."""

    def __init__(
        self,
        client_id: str,
        *,
        token: Callable[[], str],
        base_url: str,
        timeouts: Timeouts,
        force_ipv4: bool,
    ) -> None:
        super().__init__(client_id, "")
        self._token = token
        self._timeouts = timeouts
        self.base_url = base_url
        self.session.trust_env = not is_loopback(base_url)
        adapter = _Adapter(total_s=timeouts.total_s, force_ipv4=force_ipv4)
        self.session.mount("https://", adapter)
        self.session.mount("http://", adapter)

    def _send_request(self, method: Any, endpoint: str, payload: dict[str, Any] | None = None) -> Reply:
        headers = {**self.header, "access-token": self._token()}
        body = dumps({**payload, "dhanClientId": self.client_id}) if payload else payload
        try:
            with self.session.request(
                method.value,
                self.base_url + endpoint,
                data=body,
                headers=headers,
                timeout=(self._timeouts.connect_s, self._timeouts.read_s),
                allow_redirects=False,
                stream=True,
            ) as response:
                return Reply(response.status_code, _read_body(response))
        except requests.exceptions.InvalidHeader:
            # The library's text shows the header's value.
            raise NothingSent("the access token has characters that a header cannot carry") from None
        except requests.RequestException as error:
            if _never_connected(error):
                raise NothingSent(f"cannot connect: {type(error).__name__}") from None
            raise NoReply(type(error).__name__) from None
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise NoReply(type(error).__name__) from None

    def close(self) -> None:
        """Let go of the connections."""
        self.session.close()


class WireContext(DhanContext):  # type: ignore[misc]  # the SDK has no types
    """The SDK's context around our HTTP; the original swallows its errors and keeps the token as a field."""

    def __init__(self, client_id: str, http: DhanWire) -> None:  # pylint: disable=super-init-not-called
        self.client_id = client_id
        self.dhan_http = http


class _Adapter(HTTPAdapter):
    """Connections with keep-alive probes and a limit on the whole reply, over IPv4 where that is asked for."""

    def __init__(self, *, total_s: float, force_ipv4: bool) -> None:
        self._pools = _bounded_pools(total_s)
        self._options: dict[str, Any] = {
            "socket_options": [*urllib3.connection.HTTPConnection.default_socket_options, *_KEEP_ALIVE]
        }
        if force_ipv4:
            # A socket bound to an IPv4 address cannot connect over IPv6, which may not be on the allow-list.
            self._options["source_address"] = ("0.0.0.0", 0)  # noqa: S104  # an outgoing socket, nothing listens
        super().__init__(max_retries=0)

    def init_poolmanager(self, connections: int, maxsize: int, block: bool = False, **kwargs: Any) -> None:  # noqa: FBT001, FBT002  # the base's signature
        """Called by the base class once."""
        super().init_poolmanager(connections, maxsize, block, **kwargs, **self._options)
        self.poolmanager.pool_classes_by_scheme = self._pools

    def proxy_manager_for(self, proxy: str, **kwargs: Any) -> urllib3.ProxyManager:
        """The same through a proxy of the environment."""
        manager: urllib3.ProxyManager = super().proxy_manager_for(proxy, **kwargs, **self._options)
        manager.pool_classes_by_scheme = self._pools
        return manager


def _bounded_pools(total_s: float) -> dict[str, type[urllib3.HTTPConnectionPool]]:
    def bound(connection: Any) -> Any:
        connection.response_class = partial(_BoundedResponse, total_s=total_s)
        return connection

    class Plain(urllib3.HTTPConnectionPool):
        def _new_conn(self) -> Any:
            return bound(super()._new_conn())

    class Secure(urllib3.HTTPSConnectionPool):
        def _new_conn(self) -> Any:
            return bound(super()._new_conn())

    return {"http": Plain, "https": Secure}


class _BoundedResponse(HTTPResponse):
    """A response whose status line, headers and body together take at most `total_s` to read."""

    def __init__(self, sock: socket.socket, *args: Any, total_s: float, **kwargs: Any) -> None:
        super().__init__(sock, *args, **kwargs)
        self.fp = io.BufferedReader(_BoundedReader(self.fp.detach(), sock, Deadline(total_s)))


class _BoundedReader(io.RawIOBase):
    """Reads of a socket that share one deadline; each also keeps the time-out that the socket has."""

    def __init__(self, raw: io.RawIOBase, sock: socket.socket, deadline: Deadline) -> None:
        self._raw = raw
        self._sock = sock
        self._deadline = deadline
        self._each_s = sock.gettimeout()

    def readable(self) -> bool:
        """It is."""
        return True

    def readinto(self, buffer: Any) -> int | None:
        """One read; TimeoutError where it, or all of them together, take too long."""
        left_s = self._deadline.left_s
        if left_s == 0.0:
            raise TimeoutError("the whole reply took too long")
        self._sock.settimeout(left_s if self._each_s is None else min(self._each_s, left_s))
        return self._raw.readinto(buffer)

    def close(self) -> None:
        """Close what it reads from."""
        self._raw.close()
        super().close()


def _read_body(response: requests.Response) -> bytes:
    chunks: list[bytes] = []
    size = 0
    while chunk := response.raw.read1(_CHUNK_BYTES, decode_content=True):
        size += len(chunk)
        if size > _BODY_BYTES_MAX:
            raise NoReply(f"the reply is larger than {_BODY_BYTES_MAX} bytes")
        chunks.append(chunk)
    return b"".join(chunks)


def _never_connected(error: requests.RequestException) -> bool:
    """True when the connection itself failed, so that no byte was sent."""
    if isinstance(error, requests.ConnectTimeout):
        return True
    cause = error.args[0] if error.args else None
    reason = cause.reason if isinstance(cause, urllib3.exceptions.MaxRetryError) else cause
    return isinstance(reason, (urllib3.exceptions.NewConnectionError, urllib3.exceptions.ConnectTimeoutError))
