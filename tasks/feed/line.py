"""A connection that is kept up: one thread that connects, listens, notices silence, and connects again.

Invariants:
1. The thread does not die of anything that comes over the wire, nor of an error in what it calls.
2. All socket work is done by that thread; others hand it work with `do`.
3. `close` returns within a second, whatever the other side does.
4. A new attempt always takes a new address from `open_url`, so it carries the token of the moment.
"""

import logging
import os
import random
import selectors
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from tasks.clock import Stopwatch
from tasks.feed import FeedConnected, FeedEvent, FeedLost, FeedName
from tasks.feed.connection import Connection, ConnectionLost, Message

log = logging.getLogger(__name__)

_CLOSE_WITHIN_S: Final = 0.9
_PING_AFTER_S: Final = 20.0
_DEAD_AFTER_S: Final = 40.0
_LOOK_EVERY_S: Final = 1.0
_SETTLED_AFTER_S: Final = 10.0
_SILENCE_MOST_S: Final = 300.0
_GRAVE_TRIES: Final = 3
_HTTP_UNAUTHORIZED: Final = frozenset({401, 403})
_HTTP_TOO_MANY: Final = 429


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """How long to wait for what, in seconds of real time.

    `silence_s` is how long a subscribed connection may bring nothing before it is taken for stalled (None:
    for ever; a market in lock-step stands still as long as it likes). It doubles with each connection that
    stayed silent from its beginning, so that a quiet hour does not become a storm of connections.
    """

    connect_s: float = 5.0
    first_retry_s: float = 0.5
    longest_retry_s: float = 30.0
    crowded_retry_s: float = 60.0  # another process has the account, or the broker throttles it
    silence_s: float | None = 20.0


# A rehearsal's market moves a hundred times as fast, or stands until the feed is back: real seconds are dear.
REHEARSAL_PATIENCE: Final = Patience(first_retry_s=0.05, longest_retry_s=1.0, crowded_retry_s=0.5, silence_s=None)


class Refused(ConnectionLost):
    """The server closed for a reason that a quick retry makes worse (805, 429) or cannot mend (806)."""


class TokenDead(ConnectionLost):
    """The server no longer takes the token (807 to 810, HTTP 401)."""


class Line:
    """Keeps one connection of a feed up; `start` and `close` once each."""

    def __init__(
        self,
        name: FeedName,
        *,
        open_url: Callable[[], str],
        on_open: Callable[[Connection], None],
        on_message: Callable[[Message], bool],
        tell: Callable[[FeedEvent], None],
        now_ms: Callable[[], int],
        expects_messages: Callable[[int], bool],
        on_token_dead: Callable[[], object],
        on_close: Callable[[Connection], None],
        patience: Patience,
        force_ipv4: bool,
    ) -> None:
        self.connections = 0
        self._name = name
        self._open_url = open_url
        self._on_open = on_open
        self._on_message = on_message
        self._tell = tell
        self._now_ms = now_ms
        self._expects_messages = expects_messages
        self._on_token_dead = on_token_dead
        self._on_close = on_close
        self._patience = patience
        self._force_ipv4 = force_ipv4
        self._tries = 0
        self._silent_connections = 0
        self._stopping = threading.Event()
        self._work: deque[tuple[Callable[[Connection], None], threading.Event]] = deque()
        self._up = threading.Event()
        self._wake_read, self._wake_write = os.pipe()
        os.set_blocking(self._wake_read, False)
        os.set_blocking(self._wake_write, False)
        self._thread = threading.Thread(target=self._run, name=f"feed-{name}", daemon=True)
        self._pipe_lock = threading.Lock()
        self._pipe_open = True

    def start(self) -> None:
        """Begin to connect; returns at once."""
        self._thread.start()

    @property
    def up(self) -> bool:
        """True between a FeedConnected and its FeedLost."""
        return self._up.is_set()

    def do(self, work: Callable[[Connection], None], *, within_s: float = 0.25) -> bool:
        """Let the thread do `work` on the open connection; True when it was done within `within_s`.

        Without a connection nothing is done: `on_open` does it all when one comes.
        """
        if not self.up or threading.current_thread() is self._thread:
            return False
        done = threading.Event()
        self._work.append((work, done))
        self._wake()
        return done.wait(within_s)

    def close(self) -> None:
        """End the thread and the connection within a second."""
        self._stopping.set()
        self._wake()
        if self._thread.is_alive():
            self._thread.join(_CLOSE_WITHIN_S)
        elif self._thread.ident is None:
            self._close_pipe()  # never started

    def _run(self) -> None:
        try:
            while not self._stopping.is_set():
                retry_s = self._one_connection()
                self._stopping.wait(retry_s)
        finally:
            self._close_pipe()

    def _one_connection(self) -> float:
        """Connect and serve until it ends; return how long to wait before the next try."""
        lived: Stopwatch | None = None
        connection: Connection | None = None
        try:
            connection = Connection.open(
                self._open_url(), timeout_s=self._patience.connect_s, force_ipv4=self._force_ipv4
            )
            lived = Stopwatch()
            self.connections += 1
            self._work.clear()
            self._on_open(connection)
            self._up.set()
            self._tell(FeedConnected(at_ms=self._now_ms(), feed=self._name, connections=self.connections))
            self._serve(connection)
        except ConnectionLost as lost:
            settled = lived is not None and lived.seconds >= _SETTLED_AFTER_S
            return self._lost(_sharpen(lost), settled=settled)
        except Exception as error:
            # The feed thread must outlive every surprise: without it the bot is blind and does not know.
            log.exception("feed %s: unexpected error, connecting again", self._name)
            return self._lost(Refused(f"unexpected {type(error).__name__}, see the log"), settled=False)
        finally:
            self._up.clear()
            if connection is not None:
                connection.close()
        return 0.0

    def _serve(self, connection: Connection) -> None:
        heard = Stopwatch()
        spoke = False
        pinged = False
        with selectors.DefaultSelector() as selector:
            selector.register(connection, selectors.EVENT_READ)
            selector.register(self._wake_read, selectors.EVENT_READ)
            # What came together with the handshake waits already.
            ready = True
            while True:
                if ready:
                    for message in connection.receive():
                        if self._on_message(message):
                            heard = Stopwatch()
                            spoke = True
                            self._silent_connections = 0
                    pinged = pinged and connection.quiet_s > _LOOK_EVERY_S
                self._do_work(connection)
                if self._stopping.is_set():
                    self._on_close(connection)
                    return
                if connection.quiet_s > _DEAD_AFTER_S:
                    raise ConnectionLost(f"no sign of life for {_DEAD_AFTER_S:.0f} s")
                if connection.quiet_s > _PING_AFTER_S and not pinged:
                    connection.ping()
                    pinged = True
                limit_s = self._silence_limit_s(spoke=spoke)
                if limit_s is not None and heard.seconds > limit_s:
                    if self._expects_messages(self._now_ms()):
                        self._silent_connections += not spoke
                        raise ConnectionLost(f"connected but silent for {limit_s:.0f} s")
                    heard = Stopwatch()
                patience_s = 0.0 if connection.has_more else self._look_every_s
                keys = [key.fileobj for key, _ in selector.select(patience_s)]
                ready = connection in keys or connection.has_more
                if self._wake_read in keys:
                    os.read(self._wake_read, 4096)

    @property
    def _look_every_s(self) -> float:
        silence_s = self._patience.silence_s
        return _LOOK_EVERY_S if silence_s is None else min(_LOOK_EVERY_S, silence_s / 4)

    def _silence_limit_s(self, *, spoke: bool) -> float | None:
        if self._patience.silence_s is None or spoke:
            return self._patience.silence_s
        return min(self._patience.silence_s * 2.0**self._silent_connections, _SILENCE_MOST_S)

    def _do_work(self, connection: Connection) -> None:
        while self._work:
            work, done = self._work.popleft()
            work(connection)
            done.set()

    def _lost(self, lost: ConnectionLost, *, settled: bool) -> float:
        if self._stopping.is_set():
            return 0.0
        self._tries = 0 if settled else self._tries + 1
        if isinstance(lost, TokenDead):
            self._ask_for_token()
        # A dead token shows at the order socket as a reset right after the login, again and again.
        grave = isinstance(lost, (Refused, TokenDead)) or self._tries >= _GRAVE_TRIES
        exponent = min(max(self._tries - 1, 0), 16)
        longest_s = min(self._patience.longest_retry_s, self._patience.first_retry_s * 2.0**exponent)
        if isinstance(lost, Refused):
            longest_s = self._patience.crowded_retry_s * min(2.0**exponent, 5.0)
        # Half of it is chance, so that several processes do not come back as one.
        retry_s = longest_s * random.uniform(0.5, 1.0)  # noqa: S311  # spreading retries is not cryptography
        self._tell(
            FeedLost(at_ms=self._now_ms(), feed=self._name, reason=str(lost), grave=grave, retry_after_s=retry_s)
        )
        return retry_s

    def _ask_for_token(self) -> None:
        try:
            self._on_token_dead()
        except Exception as error:  # noqa: BLE001
            # Whatever keeps a new token from coming, the feed goes on trying; FeedLost says that it is grave.
            log.warning("feed %s: no new token: %s", self._name, error)

    def _wake(self) -> None:
        with self._pipe_lock:
            if self._pipe_open:
                try:
                    os.write(self._wake_write, b"\0")
                except BlockingIOError:
                    return  # full: it is awake

    def _close_pipe(self) -> None:
        with self._pipe_lock:
            if self._pipe_open:
                self._pipe_open = False
                os.close(self._wake_read)
                os.close(self._wake_write)


def _sharpen(lost: ConnectionLost) -> ConnectionLost:
    """Give a refused upgrade the class that says what to do about it."""
    if lost.status in _HTTP_UNAUTHORIZED:
        return TokenDead(f"{lost}: the token is not accepted", status=lost.status)
    if lost.status == _HTTP_TOO_MANY:
        return Refused(f"{lost}: the account is throttled", status=lost.status)
    return lost
