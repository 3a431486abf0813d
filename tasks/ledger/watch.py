"""A limit on how long a connection may keep its caller waiting, whatever the server does.

A server's own timeouts do not fire when the server hangs, and a driver waits for ever on a socket that stays open. The
watch shuts the sockets of connections that are overdue, from a thread of its own; the driver then fails at once.
"""

import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Protocol

from tasks.clock import Deadline

PERIOD_S = 0.1


class Connected(Protocol):
    """Anything with a socket."""

    def fileno(self) -> int:
        """The socket's descriptor."""
        ...


class Watch:
    """Cuts connections that are overdue. Its thread starts with the first one, and ends with `close`."""

    def __init__(self) -> None:
        self._watched: dict[int, tuple[Connected, Deadline]] = {}
        self._lock = threading.Lock()
        self._over = threading.Event()
        self._thread: threading.Thread | None = None

    @contextmanager
    def over(self, connection: Connected, deadline: Deadline) -> Iterator[None]:
        """Cut `connection` if this block is not left before `deadline`."""
        mark = id(connection)
        with self._lock:
            self._watched[mark] = (connection, deadline)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="ledger watch", daemon=True)
                self._thread.start()
        try:
            yield
        finally:
            with self._lock:
                del self._watched[mark]

    def close(self) -> None:
        """End the thread."""
        self._over.set()
        if self._thread is not None:
            self._thread.join()

    def _run(self) -> None:
        while not self._over.wait(PERIOD_S):
            # Under the lock: no connection can leave its block, and its descriptor be reused, while it is cut.
            with self._lock:
                for connection, deadline in self._watched.values():
                    if deadline.passed:
                        _cut(connection)


def _cut(connection: Connected) -> None:
    with suppress(OSError), socket.socket(fileno=os.dup(connection.fileno())) as own:
        own.shutdown(socket.SHUT_RDWR)
