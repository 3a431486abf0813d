"""Writes what happens to orders into the ledger, off the loop: in order, again and again until it is there.

Invariants:
1. `write` never blocks on the ledger and never loses a record: what the queue cannot hold and what the ledger
   does not take by the time of closing goes to the journal.
2. Records reach the ledger in the order of `write`.
3. A refused record stops nobody: it is kept in the journal, said aloud, and the next one follows.
"""

import logging
import threading
from collections import deque
from collections.abc import Callable

from tasks.clock import Deadline
from tasks.ledger import LedgerRefused, LedgerUnavailable
from tasks.orders.journal import Journal, OrderLedger, OrderWrite, record_late

LOG = logging.getLogger(__name__)

QUEUE_LIMIT = 10_000
RETRY_DELAYS_S = (0.05, 0.1, 0.25, 0.5, 1.0, 2.0)

Complain = Callable[[str, str], None]  # (kind of alert, message)


class Scribe:
    """A writing thread. `complain` is called from it, once per outage and for every refused record."""

    def __init__(
        self, ledger: OrderLedger, journal: Journal, complain: Complain, *, queue_limit: int = QUEUE_LIMIT
    ) -> None:
        self._ledger = ledger
        self._journal = journal
        self._complain = complain
        self._queue_limit = queue_limit
        self._waiting: deque[OrderWrite] = deque()
        self._changed = threading.Condition()
        self._closing = threading.Event()
        self._idle = True
        self._thread = self._start()

    def write(self, record: OrderWrite) -> None:
        """Have `record` written; never waits for the ledger."""
        with self._changed:
            if not self._closing.is_set() and len(self._waiting) < self._queue_limit:
                self._waiting.append(record)
                self._changed.notify_all()
                return
        self._keep(record)

    def flush(self, patience_s: float) -> bool:
        """Wait until everything is in the ledger; False when that did not happen in time."""
        deadline = Deadline(patience_s)
        with self._changed:
            while self._waiting or not self._idle:
                if deadline.passed:
                    return False
                self._changed.wait(deadline.left_s)
        return True

    def close(self, patience_s: float = 5.0) -> None:
        """Write what waits, for at most `patience_s`; the rest goes to the journal. Idempotent."""
        self.flush(patience_s)
        self._closing.set()
        with self._changed:
            self._changed.notify_all()
        self._thread.join(patience_s)
        with self._changed:
            left = tuple(self._waiting)
            self._waiting.clear()
        for record in left:
            self._keep(record)

    def _start(self) -> threading.Thread:
        thread = threading.Thread(target=self._walk, name="scribe", daemon=True)
        thread.start()
        return thread

    def _walk(self) -> None:
        while (record := self._next()) is not None:
            written = False
            try:
                written = self._record(record)
            finally:
                # Also when the ledger failed in an unforeseen way: keep the record, replace the thread.
                if not written:
                    self._keep(record)
                self._done()
                if not written and not self._closing.is_set():
                    self._thread = self._start()
            if not written:
                return

    def _record(self, record: OrderWrite) -> bool:
        """True once the record is in the ledger (refused: in the journal); False if closing came first."""
        failures = 0
        while True:
            try:
                record_late(self._ledger, record)
            except LedgerRefused as refused:
                LOG.exception("the ledger refuses %s", record)
                self._complain("ledger_refused", f"a record was refused and is kept in the journal: {refused}")
                self._keep(record)
                return True
            except LedgerUnavailable as away:
                if failures == 0:
                    LOG.warning("the ledger is away, order records wait: %s", away)
                    self._complain("ledger_unavailable", f"order records wait in memory: {away}")
                if self._closing.wait(RETRY_DELAYS_S[min(failures, len(RETRY_DELAYS_S) - 1)]):
                    return False
                failures += 1
            else:
                return True

    def _next(self) -> OrderWrite | None:
        with self._changed:
            while not self._waiting:
                if self._closing.is_set():
                    return None
                self._changed.wait()
            self._idle = False
            return self._waiting.popleft()

    def _done(self) -> None:
        with self._changed:
            self._idle = True
            self._changed.notify_all()

    def _keep(self, record: OrderWrite) -> None:
        try:
            self._journal.append(record)
        except OSError as fault:
            LOG.critical("neither ledger nor journal takes %s: %s", record, fault)
            self._complain("journal_failed", f"an order record is only in the log: {fault}; free the disk")
