"""The one queue between the outside and the trading loop: bounded, and it knows what may be lost.

Invariants:
1. `put` never blocks and never raises; it is safe from any thread.
2. When full, the oldest *tick* is dropped and counted; an order update, a reply or a command never is.
"""

import threading
from collections import deque
from typing import Any, Generic, Protocol, TypeVar

from strategy.events import Tick

E = TypeVar("E")


class EventSink(Protocol):
    """Somewhere to put events: the inbox, or something that looks at them on their way there."""

    def put(self, event: Any) -> None:
        """Take one; never block, never raise."""
        ...


class Inbox(Generic[E]):
    """A bounded queue of events; `dropped_ticks` counts what an overflow cost."""

    def __init__(self, limit: int = 50_000) -> None:
        self._limit = limit
        self._events: deque[E] = deque()
        self._lock = threading.Lock()
        self._arrived = threading.Condition(self._lock)
        self._awaited = 0  # how many threads wait for an event
        self.dropped_ticks = 0

    def put(self, event: E) -> None:
        """Append `event`; drop the oldest tick if the queue is full."""
        with self._lock:
            if len(self._events) >= self._limit:
                self._drop_oldest_tick()
            self._events.append(event)
            if self._awaited:
                self._arrived.notify()

    def get(self, timeout_s: float) -> E | None:
        """The next event, or None after `timeout_s` of real time without one."""
        with self._lock:
            if not self._events:
                self._awaited += 1
                self._arrived.wait(timeout_s)
                self._awaited -= 1
            return self._events.popleft() if self._events else None

    def drain(self) -> list[E]:
        """Everything that waits, in order of arrival."""
        with self._lock:
            events = list(self._events)
            self._events.clear()
            return events

    def __len__(self) -> int:
        return len(self._events)

    def _drop_oldest_tick(self) -> None:
        for position, event in enumerate(self._events):
            if isinstance(event, Tick):
                del self._events[position]
                self.dropped_ticks += 1
                return
