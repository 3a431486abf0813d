"""The order-update socket: logged-in connections get every change of every order of the account.

Invariants:
1. Alerts leave only while a stretch of the market is played, in order of market time; who is not connected then
   misses them.
2. An alert shows the order as it was at its moment, not as it is when the message is read.
"""

import asyncio
import json
from typing import Any

from simulator.credentials import Credentials
from simulator.faults import Faults
from simulator.wire import WebSocket

_LOGIN_CODE = 42
_RESET_AFTER_S = 0.01
_HELD_BACK_MS = 2_000


class AlertRoom:
    """All connections of the order-update socket."""

    def __init__(self, credentials: Credentials, faults: Faults) -> None:
        self.sessions: dict[WebSocket, int] = {}  # logged in -> epoch of the login
        self.alerts_sent = 0
        self.epoch_alerts = 0
        self.cut_off = 0  # connections that the simulator cut and that have not come back
        self.on_login = _nothing
        self._epoch = 0
        self._credentials = credentials
        self._faults = faults
        self._outgoing: list[str] = []
        self._held: tuple[int, str] | None = None

    def opened(self, socket: WebSocket) -> None:
        """Nothing is sent until the login."""

    def message(self, socket: WebSocket, payload: bytes) -> None:
        """The login; a bad one is answered with a reset, a good one with nothing."""
        try:
            login = json.loads(payload).get("LoginReq", {})
        except (ValueError, AttributeError):
            login = {}
        known = isinstance(login, dict) and login.get("MsgCode") == _LOGIN_CODE
        if known and self._credentials.accepts(str(login.get("Token", "")), str(login.get("ClientId", ""))):
            self.sessions.setdefault(socket, self._epoch)
            self.cut_off = max(0, self.cut_off - 1)
            self.on_login()
        elif socket not in self.sessions:
            asyncio.get_running_loop().call_later(_RESET_AFTER_S, socket.reset)

    def closed(self, socket: WebSocket) -> None:
        """The connection is gone."""
        self.sessions.pop(socket, None)

    def begin_epoch(self) -> None:
        """A new driver of the market's clock counts from nothing, and only connections that log in from now on."""
        self._epoch += 1
        self.epoch_alerts = self.cut_off = 0

    def publish(self, alert: dict[str, Any], at_ms: int) -> None:
        """Queue one alert, as the faults will have it."""
        text = json.dumps(alert, separators=(",", ":"))
        fault = self._faults.in_update(at_ms) if self._faults.any_posted() else None
        held, self._held = self._held, None
        if fault is None:
            self._outgoing.append(text)
        elif fault.name == "duplicate_updates":
            self._outgoing += [text, text]
        elif fault.name == "out_of_order_updates":
            if held is None:
                self._held = (at_ms, text)
                return
            self._outgoing.append(text)
        if held is not None:
            self._outgoing.append(held[1])

    def begin(self, now_ms: int) -> None:
        """Before a stretch is played: an alert that was held back for too long goes out."""
        if self._held is not None and now_ms - self._held[0] >= _HELD_BACK_MS:
            self._outgoing.append(self._held[1])
            self._held = None

    def flush(self) -> None:
        """Write what has gathered to everyone who is logged in."""
        outgoing, self._outgoing = self._outgoing, []
        for socket in list(self.sessions):
            for text in outgoing:
                socket.send_text(text)
            self.alerts_sent += len(outgoing)
            if self.sessions.get(socket) == self._epoch:
                self.epoch_alerts += len(outgoing)

    def reset_all(self) -> None:
        """Cut every connection."""
        for socket, epoch in list(self.sessions.items()):
            self.cut_off += epoch == self._epoch
            socket.reset()


def _nothing() -> None:
    """Nobody waits for logins."""
