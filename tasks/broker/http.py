"""The SDK's HTTP class, rewritten inside so that status and body survive: a Reply, or an error.

Invariants:
1. Nothing is retried and nothing redirected: one call, one request.
2. Every request ends within the connect time-out plus `total_s`, however slowly the other side drips.
3. NothingSent means that no byte of the request can have arrived; everything else is NoReply.
4. The token is taken anew for each request and is in no error, log line or repr. (The HTTP library's errors
   hold the request with its headers, so none of them is passed on as a cause.)
"""

import socket
from collections.abc import Callable
from dataclasses import dataclass
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
        adapter = _Adapter(force_ipv4=force_ipv4)
        self.session.mount("https://", adapter)
        self.session.mount("http://", adapter)

    def _send_request(self, method: Any, endpoint: str, payload: dict[str, Any] | None = None) -> Reply:
        headers = {**self.header, "access-token": self._token()}
        body = dumps({**payload, "dhanClientId": self.client_id}) if payload else payload
        deadline = Deadline(self._timeouts.total_s)
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
                return Reply(response.status_code, _read_body(response, deadline))
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
    def __init__(self, *, force_ipv4: bool) -> None:
        self._force_ipv4 = force_ipv4
        super().__init__(max_retries=0)

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        """Pools with keep-alive probes, bound to IPv4 where that is asked for."""
        options = [*urllib3.connection.HTTPConnection.default_socket_options, *_KEEP_ALIVE]
        kwargs["socket_options"] = options
        if self._force_ipv4:
            # A socket bound to an IPv4 address cannot connect over IPv6, which may not be on the allow-list.
            kwargs["source_address"] = ("0.0.0.0", 0)  # noqa: S104  # an outgoing socket, nothing listens
        super().init_poolmanager(*args, **kwargs)


def _read_body(response: requests.Response, deadline: Deadline) -> bytes:
    chunks: list[bytes] = []
    size = 0
    while chunk := response.raw.read1(_CHUNK_BYTES, decode_content=True):
        size += len(chunk)
        if size > _BODY_BYTES_MAX:
            raise NoReply(f"the reply is larger than {_BODY_BYTES_MAX} bytes")
        if deadline.passed:
            raise NoReply("the reply dripped longer than allowed")
        chunks.append(chunk)
    return b"".join(chunks)


def _never_connected(error: requests.RequestException) -> bool:
    """True when the connection itself failed, so that no byte was sent."""
    if isinstance(error, requests.ConnectTimeout):
        return True
    cause = error.args[0] if error.args else None
    reason = cause.reason if isinstance(cause, urllib3.exceptions.MaxRetryError) else cause
    return isinstance(reason, (urllib3.exceptions.NewConnectionError, urllib3.exceptions.ConnectTimeoutError))
