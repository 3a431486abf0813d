"""The last look before a request goes out: is this process still the one that may send?

An intent's commit checks the lease inside its transaction. But a process may hang after the commit, be replaced, and
wake up with the request in its hands; the broker knows no fences, and would take the order of both.

Invariants:
1. No write goes to the broker's adapter later than FRESH_MS of real time after the ledger was last asked.
2. A lease that was lost is lost for good.
"""

from tasks.clock import real_now_ms
from tasks.ledger import LeaseLost
from tasks.orders.journal import OrderLedger

FRESH_MS = 1_000  # who is replaced by force has not answered for longer than this


class Fence:
    """One session's right to send, by the fencing number that it holds. Safe from several threads."""

    def __init__(self, ledger: OrderLedger, session_id: str, number: int) -> None:
        self._ledger = ledger
        self._session_id = session_id
        self.number = number
        self.lost = ""  # why nothing is sent any more
        self._asked_ms = 0

    def asked(self, at_ms: int) -> None:
        """The ledger was asked at `at_ms` of real time, and said yes or could not be reached."""
        self._asked_ms = at_ms

    def lose(self, lost: LeaseLost) -> bool:
        """Another one may send from now on; False when that was known."""
        news = not self.lost
        self.lost = self.lost or f"the lease is lost: {lost}"
        return news

    def demand(self) -> None:
        """Return when a request may go out now. LeaseLost, LedgerUnavailable."""
        now_ms = real_now_ms()
        # A clock that was put back proves nothing either.
        if not 0 <= now_ms - self._asked_ms < FRESH_MS:
            self._ledger.demand_lease(self._session_id, self.number)
            self._asked_ms = now_ms
