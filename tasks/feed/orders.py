"""Dhan's order-update socket: every change of every order of the account, onto the inbox.

Updates are hints. They may be late, repeated, out of order, or missing; what was pushed while the socket was
down never comes. So each FeedConnected asks for the order book, and the book is what counts.

Invariants:
1. An update is counted in `updates_received` after it is on the inbox, never before.
2. A frame that cannot be read is counted in `malformed` and raises nothing.
3. The token is sent to the server and shown to nobody.
"""

import json
import logging
from collections.abc import Callable

from tasks.broker.order_rows import order_update
from tasks.broker.wire import WireError, parse_json
from tasks.feed import FeedName
from tasks.feed.connection import Connection, Message
from tasks.feed.line import Line, Patience
from tasks.inbox import EventSink

log = logging.getLogger(__name__)


class OrderFeed:
    """The order updates of one account; `start` it, `close` it."""

    def __init__(
        self,
        url: str,
        *,
        client_id: str,
        token: Callable[[], str],
        inbox: EventSink,
        now_ms: Callable[[], int],
        patience: Patience | None = None,
        on_token_dead: Callable[[str], object] = lambda _: None,
        force_ipv4: bool = False,
    ) -> None:
        self.updates_received = 0
        self.malformed = 0
        self._url = url
        self._client_id = client_id
        self._token = token
        self._token_used = ""
        self._inbox = inbox
        self._now_ms = now_ms
        self._line = Line(
            FeedName.ORDERS,
            open_url=self._open_url,
            on_open=self._log_in,
            on_message=self._receive,
            tell=inbox.put,
            now_ms=now_ms,
            # An account without orders has nothing to say: silence means nothing here, pings do.
            expects_messages=lambda _: False,
            on_token_dead=lambda: on_token_dead(self._token_used),
            on_close=lambda _: None,
            patience=patience or Patience(),
            force_ipv4=force_ipv4,
        )

    def start(self) -> None:
        """Begin to connect; FeedConnected and FeedLost come over the inbox."""
        self._line.start()

    def close(self) -> None:
        """Stop within a second."""
        self._line.close()

    @property
    def connections(self) -> int:
        """How many connections there have been."""
        return self._line.connections

    def _open_url(self) -> str:
        self._token_used = self._token()  # for the login, and to be named where the upgrade is refused already
        return self._url

    def _log_in(self, connection: Connection) -> None:
        login = {"MsgCode": 42, "ClientId": self._client_id, "Token": self._token_used}
        connection.send(json.dumps({"LoginReq": login, "UserType": "SELF"}))

    def _receive(self, message: Message) -> bool:
        try:
            frame = parse_json(message)
        except WireError:
            self.malformed += 1
            return False
        if not isinstance(frame, dict):
            self.malformed += 1
            return False
        fields = {str(key).lower(): value for key, value in frame.items()}
        if str(fields.get("type", "")).lower() != "order_alert":
            return False
        try:
            self._inbox.put(order_update(fields.get("data"), received_at_ms=self._now_ms()))
        except WireError as error:
            self.malformed += 1
            log.warning("order update left out, the order book will tell: %s", error)
        self.updates_received += 1
        return True
