"""Where order records go when the ledger cannot take them: a local file that the ledger takes in later.

Invariants:
1. `append` returns when the line is on the disk (fsync), so an intent in the journal survives whatever comes
   next.
2. Nothing is ever changed in the file; it is emptied only when the ledger has taken in every line.
3. `replay_journal` may run any number of times: recording twice is a no-op in the ledger.
4. A line that was cut off by a crash was never acted upon (sending waits for `append`) and is skipped, aloud.
"""

import logging
import os
import threading
from pathlib import Path
from typing import Protocol

from pydantic import TypeAdapter, ValidationError

from tasks.ledger import LedgerRefused
from tasks.ledger.records import FillRecord, IntentRecord, OrderEventRecord

LOG = logging.getLogger(__name__)

OrderWrite = IntentRecord | OrderEventRecord | FillRecord
_LINE: TypeAdapter[tuple[str, OrderWrite]] = TypeAdapter(tuple[str, IntentRecord | OrderEventRecord | FillRecord])


class OrderLedger(Protocol):
    """What execution needs of the ledger; errors are those of `tasks.ledger`."""

    def record_intent(self, intent: IntentRecord, *, already_sent: bool = False) -> None:
        """Commit the intent and its orders; `already_sent` records what happened without asking the lease."""
        ...

    def demand_lease(self, session_id: str, fence: int) -> None:
        """Return where `fence` is the current one; LeaseLost otherwise."""
        ...

    def record_order_event(self, event: OrderEventRecord) -> None:
        """One thing learnt about an order."""
        ...

    def record_fill(self, fill: FillRecord) -> bool:
        """One execution; False when it is known already."""
        ...


class Journal:
    """An append-only file of order records, one JSON line each. Safe from several threads."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()

    def append(self, record: OrderWrite) -> None:
        """Write one record and wait until it is on the disk. OSError where it cannot be."""
        line = _LINE.dump_json((type(record).__name__, record)) + b"\n"
        with self._lock:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("ab") as file:
                if file.tell() and not _ends_a_line(self.path):
                    file.write(b"\n")  # a crash cut the last line off; it must not swallow this one
                file.write(line)
                file.flush()
                os.fsync(file.fileno())

    @property
    def is_empty(self) -> bool:
        """True when nothing waits to be taken in."""
        return not self.path.exists() or self.path.stat().st_size == 0

    def records(self) -> tuple[OrderWrite, ...]:
        """What waits, in the order of writing."""
        with self._lock:
            return self._read()

    def replay(self, ledger: OrderLedger) -> int:
        """Record everything that waits; how many records. LedgerUnavailable leaves the file as it is."""
        with self._lock:
            waiting = self._read()
            for record in waiting:
                try:
                    record_late(ledger, record)
                except LedgerRefused:
                    LOG.exception("the ledger refuses a record of %s: %s", self.path, record)
            if waiting:
                os.truncate(self.path, 0)
            return len(waiting)

    def _read(self) -> tuple[OrderWrite, ...]:
        if not self.path.exists():
            return ()
        records: list[OrderWrite] = []
        for number, line in enumerate(self.path.read_bytes().splitlines(), start=1):
            try:
                records.append(_LINE.validate_json(line)[1])
            except ValidationError:
                LOG.warning("line %d of %s was cut off by a crash and is skipped", number, self.path)
        return tuple(records)


def replay_journal(path: Path, ledger: OrderLedger) -> int:
    """Let the ledger take in the journal at `path`, before anything is read from it; how many records.

    Raises:
        LedgerUnavailable: try again later; nothing is lost and repeating is harmless.
    """
    return Journal(path).replay(ledger)


def record_late(ledger: OrderLedger, record: OrderWrite) -> None:
    """Record something that has happened already, whoever holds the lease by now."""
    match record:
        case IntentRecord():
            ledger.record_intent(record, already_sent=True)
        case OrderEventRecord():
            ledger.record_order_event(record)
        case FillRecord():
            ledger.record_fill(record)


def _ends_a_line(path: Path) -> bool:
    with path.open("rb") as file:
        file.seek(-1, os.SEEK_END)
        return file.read(1) == b"\n"
