"""Brings a running session what comes through the ledger: operators' commands and the state of its lease.

A thread of its own, so that a slow database never holds up the trading loop.

Invariants:
1. A command reaches the inbox once per start of the process.
2. When the lease is lost or cannot be confirmed for longer than its life, the session hears a Caution; the ledger
   refuses its orders in any case by the fencing number.
"""

import logging
import secrets
import threading
from collections import deque

from strategy.events import Caution, Command, CommandKind
from tasks.clock import Clock, real_now_ms
from tasks.inbox import Inbox
from tasks.ledger import LeaseLost, LedgerUnavailable
from tasks.ledger.lease import Lease
from tasks.ledger.records import CommandRecord
from tasks.ledger.store import Ledger

POLL_PERIOD_S = 0.5
RENEW_PERIOD_MS = 5_000
LOG = logging.getLogger(__name__)


class Postman:
    """Polls the ledger for one session; `start()`, `close()`."""

    def __init__(self, *, ledger: Ledger, lease: Lease, session_id: str, inbox: Inbox[object], clock: Clock) -> None:
        self._ledger = ledger
        self._lease = lease
        self._session_id = session_id
        self._inbox = inbox
        self._clock = clock
        self._delivered: set[str] = set()
        self._asked: deque[CommandRecord] = deque()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._walk, name="postman", daemon=True)
        self._renewed_ms = real_now_ms()
        self._cautions: set[str] = set()
        self.lost_lease = False

    def start(self) -> None:
        """Begin the rounds."""
        self._thread.start()

    def close(self) -> None:
        """End the rounds."""
        self._closing.set()
        self._thread.join(5.0)

    def ask(self, kind: CommandKind, reason: str, requested_by: str) -> None:
        """A command of this process's own surroundings (a signal, say). Safe in a signal handler."""
        self._asked.append(
            CommandRecord(
                command_id=secrets.token_hex(8),
                session_id=self._session_id,
                kind=kind,
                reason=reason,
                requested_by=requested_by,
                requested_at_ms=real_now_ms(),
            )
        )

    def _walk(self) -> None:
        while not self._closing.wait(POLL_PERIOD_S):
            self._take_own()
            try:
                self._renew_lease()
                for record in self._ledger.open_commands(self._session_id):
                    self._deliver(record)
                self._caution("ledger_unavailable", active=False)
            except LedgerUnavailable as error:
                LOG.warning("ledger away: %s", error)
                self._caution("ledger_unavailable", active=True)

    def _take_own(self) -> None:
        while self._asked:
            record = self._asked.popleft()
            self._deliver(record)  # before it is recorded: a slow ledger must not use up the time to act
            try:
                self._ledger.request_command(record)
            except LedgerUnavailable as error:
                LOG.warning("the ledger did not take the command %s: %s", record.kind, error)

    def _renew_lease(self) -> None:
        now_ms = real_now_ms()
        if self.lost_lease or now_ms - self._renewed_ms < RENEW_PERIOD_MS:
            return
        try:
            self._lease = self._ledger.leases.renew(self._lease, now_ms)
            self._renewed_ms = now_ms
        except LeaseLost as lost:
            self.lost_lease = True
            LOG.critical("lease lost, no order of this process will be sent: %s", lost)
            self._caution("lease_lost", active=True)

    def _deliver(self, record: CommandRecord) -> None:
        if record.command_id in self._delivered:
            return
        self._delivered.add(record.command_id)
        limits = record.detail
        self._inbox.put(
            Command(
                at_ms=self._clock.now_ms(),
                command_id=record.command_id,
                kind=CommandKind(record.kind),
                reason=record.reason,
                daily_max_loss_paise=limits.get("daily_max_loss_paise"),
                max_trades_per_day=limits.get("max_trades_per_day"),
            )
        )

    def _caution(self, reason: str, *, active: bool) -> None:
        if active == (reason in self._cautions):
            return
        (self._cautions.add if active else self._cautions.discard)(reason)
        self._inbox.put(Caution(at_ms=self._clock.now_ms(), reason=reason, active=active))
