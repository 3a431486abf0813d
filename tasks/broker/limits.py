"""How often the broker may be asked, kept on our side with a margin, so that its own limiter never speaks.

Dhan's limits: orders 10/s, 250/min, 1000/h, 7000/day; quotes 1/s; option chain one in 3 s; charts 5/s; the
rest 20/s. Who would have to wait too long is told RateLimited: nothing was sent.
"""

from enum import StrEnum
from typing import Final, Protocol

from pyrate_limiter import Duration, InMemoryBucket, Limiter, Rate
from pyrate_limiter.limiter import SingleBucketFactory

from tasks.broker import RateLimited


class Call(StrEnum):
    """What a request counts as."""

    ORDER = "order"
    QUOTE = "quote"
    CHAIN = "option chain"
    CHART = "chart"
    OTHER = "other"


RATES: Final = {
    Call.ORDER: ((9, 1), (240, 60), (960, 3_600), (6_800, 86_400)),
    Call.QUOTE: ((1, 1.1),),
    Call.CHAIN: ((1, 3.1),),
    Call.CHART: ((4, 1),),
    Call.OTHER: ((18, 1),),
}
"""(requests, in so many seconds), each a little below the broker's own."""

# An exit order is worth a short wait, not a long one: its caller has other means.
_WAIT_S_MAX: Final = {Call.ORDER: 1.5, Call.QUOTE: 3.0, Call.CHAIN: 7.0, Call.CHART: 2.0, Call.OTHER: 2.0}


class Limits(Protocol):
    """Something that lets a request pass, soon or not at all."""

    def admit(self, call: Call) -> None:
        """Return when the request may go; RateLimited when that is not soon."""
        ...


class NoLimits:
    """For a market whose clock is not the wall's: there a real second means nothing."""

    def admit(self, call: Call) -> None:
        """Let everything pass."""


class BrokerLimits:
    """Dhan's limits for one account in one process; safe from any thread."""

    def __init__(self) -> None:
        self._buckets = {
            call: InMemoryBucket([Rate(count, round(seconds * Duration.SECOND)) for count, seconds in rates])
            for call, rates in RATES.items()
        }
        # Old entries are dropped at each request, so no background thread is needed for it.
        self._limiters = {
            call: Limiter(SingleBucketFactory(bucket, schedule_leak=False), buffer_ms=5)
            for call, bucket in self._buckets.items()
        }

    def admit(self, call: Call) -> None:
        """Wait for a place in the limit; RateLimited when none comes soon."""
        bucket = self._buckets[call]
        bucket.leak(bucket.now())
        if not self._limiters[call].try_acquire(call, timeout=_WAIT_S_MAX[call]):
            raise RateLimited(
                f"our own limit for {call} requests {RATES[call]} is used up; nothing was sent",
                retry_after_s=_WAIT_S_MAX[call],
            )
