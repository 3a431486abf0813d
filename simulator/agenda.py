"""What is due to happen on the exchange, in order of market time; ties keep the order in which they were entered."""

import heapq
from collections.abc import Callable


class Agenda:
    """A queue of calls with a time (Unix milliseconds). Calls may enter new ones, also due at once."""

    def __init__(self) -> None:
        self._entries: list[tuple[int, int, Callable[[int], None]]] = []
        self._count = 0

    def enter(self, at_ms: int, call: Callable[[int], None]) -> None:
        """Have `call(at_ms)` made when the market's clock passes `at_ms`."""
        self._count += 1
        heapq.heappush(self._entries, (at_ms, self._count, call))

    def run_before(self, until_ms: int) -> None:
        """Make every call due before `until_ms`."""
        while self._entries and self._entries[0][0] < until_ms:
            at_ms, _, call = heapq.heappop(self._entries)
            call(at_ms)
