"""Dhan's request limits, counted in market time: so many calls of a kind in any second, minute, hour and day."""

from bisect import bisect_right

SECOND_MS, MINUTE_MS, HOUR_MS, DAY_MS = 1_000, 60_000, 3_600_000, 86_400_000
LIMITS: dict[str, tuple[tuple[int, int], ...]] = {
    "order": ((10, SECOND_MS), (250, MINUTE_MS), (1_000, HOUR_MS), (7_000, DAY_MS)),
    "chart": ((5, SECOND_MS), (100_000, DAY_MS)),
    "quote": ((1, SECOND_MS),),
    "other": ((20, SECOND_MS),),
}
CHAIN_PERIOD_MS = 3_000


class RateLimits:
    """What was called when. A refused call does not count."""

    def __init__(self, *, enforced: bool = True) -> None:
        self.enforced = enforced
        self._calls: dict[str, list[int]] = {}
        self._chains: dict[str, int] = {}

    def allows(self, kind: str, now_ms: int) -> bool:
        """Count a call of this kind if it is within all its limits."""
        calls = self._calls.setdefault(kind, [])
        for most, period_ms in LIMITS[kind]:
            if self.enforced and len(calls) - bisect_right(calls, now_ms - period_ms) >= most:
                return False
        calls.append(now_ms)
        return True

    def allows_chain(self, request: str, now_ms: int) -> bool:
        """The option chain: the same request once in three seconds."""
        last_ms = self._chains.get(request)
        if self.enforced and last_ms is not None and now_ms - last_ms < CHAIN_PERIOD_MS:
            return False
        self._chains[request] = now_ms
        return True
