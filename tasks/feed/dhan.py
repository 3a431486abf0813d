"""Dhan's market feed: the index as a ticker, options with their depth, onto the inbox as ticks.

Invariants:
1. A packet is counted in `packets_received` after its events are on the inbox, never before.
2. `watch` says what is wanted; after every reconnect exactly that is subscribed again.
3. Each packet counts for the connection that brought it, by its kind.
4. `messages_sent` counts subscription messages that were given to the socket, over all connections.
"""

import json
import logging
from collections import deque
from collections.abc import Callable, Iterable
from itertools import pairwise
from typing import Final
from urllib.parse import urlencode

from strategy.events import PoisonedTick, Tick
from tasks.feed import FeedName
from tasks.feed.connection import Connection, ConnectionLost, Message
from tasks.feed.decode import Decoder, Disconnect
from tasks.feed.line import Line, Patience, Refused, TokenDead
from tasks.inbox import EventSink

log = logging.getLogger(__name__)

_TICKER, _FULL = 15, 21  # request codes; one more unsubscribes
_GOODBYE = json.dumps({"RequestCode": 12})
_BATCH: Final = 100
_INDEX_PREFIX: Final = "IDX_I:"
# A time so far ahead is not a time: it would end every candle and close the day.
_AHEAD_MS_MAX: Final = 600_000
_CONNECTIONS_COUNTED: Final = 1_000

_REASONS: Final = {
    800: "internal server error",
    804: "too many instruments",
    805: "too many connections: another process uses this account's feed",
    806: "the data plan is not active: subscribe to the Data APIs",
    807: "the access token has expired",
    808: "authentication failed",
    809: "the access token is invalid",
    810: "the client id is invalid",
}
_TOKEN_DEAD: Final = frozenset({807, 808, 809, 810})


class DhanFeed:
    """The market feed of one account; `start` it, say what to `watch`, `close` it."""

    def __init__(
        self,
        url: str,
        *,
        client_id: str,
        token: Callable[[], str],
        inbox: EventSink,
        now_ms: Callable[[], int],
        patience: Patience | None = None,
        expects_ticks: Callable[[int], bool] = lambda _: True,
        on_token_dead: Callable[[str], object] = lambda _: None,
        force_ipv4: bool = False,
    ) -> None:
        self.packets_received = 0
        self.messages_sent = 0
        self._url = url
        self._client_id = client_id
        self._token = token
        self._token_used = ""
        self._inbox = inbox
        self._now_ms = now_ms
        self._decoder = Decoder()
        self._before: deque[dict[int, int]] = deque(maxlen=_CONNECTIONS_COUNTED)  # counts as each connection began
        self._wanted: tuple[str, ...] = ()
        self._subscribed: set[str] = set()
        self._line = Line(
            FeedName.MARKET,
            open_url=self._open_url,
            on_open=self._subscribe_anew,
            on_message=self._receive,
            tell=inbox.put,
            now_ms=now_ms,
            expects_messages=lambda at_ms: bool(self._wanted) and expects_ticks(at_ms),
            on_token_dead=lambda: on_token_dead(self._token_used),
            on_close=lambda connection: connection.send(_GOODBYE),
            patience=patience or Patience(),
            force_ipv4=force_ipv4,
        )

    def start(self) -> None:
        """Begin to connect; FeedConnected and FeedLost come over the inbox."""
        self._line.start()

    def watch(self, securities: Iterable[str]) -> None:
        """Replace the set of securities ("IDX_I:13") whose ticks are wanted; if up, it is sent on return."""
        self._wanted = tuple(dict.fromkeys(securities))
        self._line.do(self._settle)

    def close(self) -> None:
        """Stop within a second."""
        self._line.close()
        if self.connections:
            log.info(
                "market feed closed: packets by code and connection %s, unreadable %d",
                self.packets_by_connection,
                self.malformed,
            )

    @property
    def connections(self) -> int:
        """How many connections there have been."""
        return self._line.connections

    @property
    def packets_by_connection(self) -> list[dict[int, int]]:
        """For each connection, oldest first (the last thousand): how many packets of each code it brought."""
        marks = [*self._before, self._decoder.packets_by_code]
        return [
            {code: count - earlier.get(code, 0) for code, count in later.items() if count > earlier.get(code, 0)}
            for earlier, later in pairwise(marks)
        ]

    @property
    def malformed(self) -> int:
        """Pieces of messages that could not be read."""
        return self._decoder.malformed

    def _open_url(self) -> str:
        self._token_used = self._token()
        query = {"version": "2", "token": self._token_used, "clientId": self._client_id, "authType": "2"}
        return f"{self._url}?{urlencode(query)}"

    def _subscribe_anew(self, connection: Connection) -> None:
        self._before.append(self._decoder.packets_by_code)
        self._subscribed.clear()
        self._settle(connection)

    def _settle(self, connection: Connection) -> None:
        """Tell the server the difference between what is wanted and what is subscribed."""
        wanted = self._wanted
        gone = [security for security in self._subscribed if security not in wanted]
        new = [security for security in wanted if security not in self._subscribed]
        for offset, securities in ((1, sorted(gone)), (0, new)):
            indices = [security for security in securities if security.startswith(_INDEX_PREFIX)]
            others = [security for security in securities if not security.startswith(_INDEX_PREFIX)]
            self._request(connection, _TICKER + offset, indices)
            self._request(connection, _FULL + offset, others)
        self._subscribed = set(wanted)

    def _request(self, connection: Connection, code: int, securities: list[str]) -> None:
        for start in range(0, len(securities), _BATCH):
            batch = [security.split(":", 1) for security in securities[start : start + _BATCH]]
            connection.send(
                json.dumps(
                    {
                        "RequestCode": code,
                        "InstrumentCount": len(batch),
                        "InstrumentList": [
                            {"ExchangeSegment": segment, "SecurityId": security_id} for segment, security_id in batch
                        ],
                    }
                )
            )
            self.messages_sent += 1

    def _receive(self, message: Message) -> bool:
        """Put what `message` says on the inbox; True when it said something about a price."""
        if isinstance(message, str):
            return False
        events = self._decoder.decode(message)
        latest_ms = self._now_ms() + _AHEAD_MS_MAX
        spoke = False
        disconnect: Disconnect | None = None
        for event in events:
            if isinstance(event, Disconnect):
                disconnect = event
                continue
            spoke = True
            self._inbox.put(_believable(event, latest_ms))
        self.packets_received = self._decoder.packets
        if disconnect is not None:
            raise _lost(disconnect.code)
        return spoke


def _believable(event: Tick | PoisonedTick, latest_ms: int) -> Tick | PoisonedTick:
    if event.at_ms <= latest_ms:
        return event
    return PoisonedTick(at_ms=latest_ms - _AHEAD_MS_MAX, security=event.security, found=f"time {event.at_ms}")


def _lost(code: int) -> ConnectionLost:
    reason = f"disconnected by the server: {code} {_REASONS.get(code, 'unknown reason')}"
    return TokenDead(reason, code=code) if code in _TOKEN_DEAD else Refused(reason, code=code)
