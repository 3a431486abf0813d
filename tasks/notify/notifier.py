"""The notifier: a queue that never blocks its caller, a thread that throttles, one per target that delivers.

A target that hangs delays nobody but itself. A failed delivery is repeated with growing pauses until the
notice is too old to matter; a critical one for a day. See the package for the invariants.
"""

import logging
import queue
import threading
from collections import Counter, deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from strategy.actions import Severity
from tasks.clock import Deadline, ist, real_now_ms
from tasks.notify.notice import Notice
from tasks.notify.spool import Spool
from tasks.notify.targets import Target, parse_targets
from tasks.notify.throttle import Entry, Limits, Throttle, Verdict, new_entry

LOG = logging.getLogger(__name__)

# How long a notice is worth another attempt.
WORTH_MS: Final = {
    Severity.INFO: 30 * 60_000,
    Severity.WARNING: 2 * 3_600_000,
    Severity.CRITICAL: 24 * 3_600_000,
}
PAUSE_S_MAX: Final = 60.0
FILES_ATTEMPTS_MAX: Final = 2  # then the words go without the files
TURN_ATTEMPTS_MAX: Final = 3  # then the others go first
LATE_MS: Final = 120_000


@dataclass(slots=True)
class _Delivery:
    entry: Entry
    attempts: int = 0
    copies: int = 1
    merged: list[str] = field(default_factory=list)  # ids of equal notices that this one stands for


class Tally:
    """Counts by name, from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: Counter[str] = Counter()

    def count(self, name: str) -> None:
        """One more."""
        with self._lock:
            self._counts[name] += 1

    @property
    def counts(self) -> dict[str, int]:
        """All of them, now."""
        with self._lock:
            return dict(self._counts)


class Notifier:
    """Takes notices from any thread; see `notify`. Use as a context manager, or call `close`.

    `urls` are lines as `tasks.notify.targets` describes them; ValueError if one is not understood. Without
    any, notices only go to the log. `spool` is the folder for what is not delivered yet; None: memory only.
    """

    def __init__(
        self,
        urls: Iterable[str],
        *,
        spool: Path | None = None,
        limits: Limits | None = None,
        pause_s: float = 1.0,
        now_ms: Callable[[], int] = real_now_ms,
    ) -> None:
        self.targets = parse_targets(urls)
        self._limits = limits or Limits()
        self._now_ms = now_ms
        self._arrived: queue.SimpleQueue[tuple[Notice, int] | None] = queue.SimpleQueue()
        self._closing = threading.Event()
        self._tally = Tally()
        self._spool = Spool(spool if self.targets else None)
        self._throttle = Throttle(self._limits)
        self._outboxes = tuple(
            _Outbox(
                target,
                spool=self._spool,
                tally=self._tally,
                limit=self._limits.queued_max,
                pause_s=pause_s,
                now_ms=now_ms,
            )
            for target in self.targets
        )
        self._deliver_leftovers()
        self._router = threading.Thread(target=self._route_all, name="notifier", daemon=True)
        self._router.start()

    def __repr__(self) -> str:
        return f"Notifier({', '.join(target.name for target in self.targets) or 'log only'})"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def counts(self) -> dict[str, int]:
        """What happened so far: accepted, delivered, failed (attempts), expired, repeats, held, dropped."""
        return self._tally.counts

    def notify(self, notice: Notice) -> None:
        """Accept a notice. Takes about a microsecond, never blocks, never raises.

        With a queue that nobody empties any more, quiet notices are dropped and counted first.
        """
        room = self._limits.queued_max * (2 if notice.is_critical else 1)
        if self._closing.is_set() or self._arrived.qsize() >= room:
            self._tally.count("dropped")
            return
        self._tally.count("accepted")
        self._arrived.put((notice, self._now_ms()))

    def check(self, notice: Notice, *, routed: bool = False) -> dict[str, bool]:
        """Send `notice` to every target now, in the calling thread, and say which of them took it.

        With `routed` only to those that want it.
        """
        return {
            target.name: _send(target, notice, with_files=True)
            for target in self.targets
            if not routed or target.wants(notice)
        }

    def close(self, timeout_s: float = 10.0) -> bool:
        """Deliver what waits, for at most `timeout_s`; True if nothing is left. The rest stays spooled."""
        deadline = Deadline(timeout_s)
        if not self._closing.is_set():
            self._closing.set()
            self._arrived.put(None)
        self._router.join(deadline.left_s)
        for outbox in self._outboxes:
            outbox.finish()
        for outbox in self._outboxes:
            outbox.join(deadline.left_s)
        empty = not self._router.is_alive() and all(outbox.is_empty for outbox in self._outboxes)
        self._spool.close()
        return empty

    def _route_all(self) -> None:
        while True:
            # Whatever is wrong with one notice, the next must still be heard.
            try:
                try:
                    arrived = self._arrived.get(timeout=self._patience_s())
                except queue.Empty:
                    self._post_due()
                    continue
                if arrived is None:
                    self._post_due(flush=True)
                    return
                self._route(new_entry(*arrived))
                self._post_due()
            except Exception:
                self._tally.count("dropped")
                LOG.exception("a notice could not be routed")

    def _route(self, entry: Entry) -> None:
        notice = entry.notice
        LOG.log(_LEVELS[notice.severity], "%s: %s", notice.topic, notice.title)
        match self._throttle.admit(entry, self._now_ms()):
            case Verdict.PASS:
                self._post(entry)
            case Verdict.HOLD:
                self._tally.count("held")
                self._spool.add(entry)
            case Verdict.REPEAT:
                self._tally.count("repeats")

    def _post_due(self, *, flush: bool = False) -> None:
        for entry in self._throttle.due(self._now_ms(), flush=flush):
            self._post(entry)
            for entry_id in (entry.entry_id, *entry.replaces):
                self._spool.done(entry_id)  # was held under this id

    def _post(self, entry: Entry) -> None:
        wanted = [outbox for outbox in self._outboxes if outbox.target.wants(entry.notice)]
        if wanted:
            self._spool.add(entry, [outbox.target.key for outbox in wanted])
        for outbox in wanted:
            outbox.put(entry)

    def _deliver_leftovers(self) -> None:
        for leftover in self._spool.take_leftovers():
            entry = leftover.entry
            known = [outbox for outbox in self._outboxes if outbox.target.key in leftover.targets]
            # Not routed yet, or to targets that are no longer in the settings: the present ones get it.
            wanted = known or [outbox for outbox in self._outboxes if outbox.target.wants(entry.notice)]
            if wanted and not known:
                self._spool.add(entry, [outbox.target.key for outbox in wanted])
            for outbox in wanted:
                outbox.put(entry)
            for gone in (leftover.targets or {""}) - {outbox.target.key for outbox in wanted}:
                self._spool.done(entry.entry_id, gone)

    def _patience_s(self) -> float | None:
        due_ms = self._throttle.next_due_ms()
        return None if due_ms is None else max(0.01, (due_ms - self._now_ms()) / 1000)


class _Outbox:
    """What waits for one target, critical ones first, and the thread that delivers it."""

    def __init__(
        self,
        target: Target,
        *,
        spool: Spool,
        tally: Tally,
        limit: int,
        pause_s: float,
        now_ms: Callable[[], int],
    ) -> None:
        self.target = target
        self._spool = spool
        self._tally = tally
        self._limit = limit
        self._pause_s = pause_s
        self._now_ms = now_ms
        self._waiting: deque[_Delivery] = deque()
        self._changed = threading.Condition()
        self._finishing = False
        self._under_way = False
        self._urgent = False  # a critical notice does not sit out a pause
        self._failures = 0  # in a row
        self._thread = threading.Thread(target=self._deliver_all, name=f"notify {target.name}", daemon=True)
        self._thread.start()

    @property
    def is_empty(self) -> bool:
        """True when nothing waits and nothing is under way."""
        with self._changed:
            return not self._waiting and not self._under_way

    def put(self, entry: Entry) -> None:
        """Append. An equal notice that still waits stands for both; when full, the oldest quiet one goes."""
        with self._changed:
            for waiting in self._waiting:
                if waiting.entry.notice.identity == entry.notice.identity:
                    waiting.copies += 1
                    waiting.merged.append(entry.entry_id)
                    return
            self._waiting.append(_Delivery(entry=entry))
            self._urgent = self._urgent or entry.notice.is_critical
            if len(self._waiting) > self._limit:
                self._drop_one()
            self._changed.notify()

    def finish(self) -> None:
        """Deliver what waits, then end; pauses become short."""
        with self._changed:
            self._finishing = True
            self._changed.notify()

    def join(self, timeout_s: float) -> None:
        """Wait for the thread."""
        self._thread.join(timeout_s)

    def _deliver_all(self) -> None:
        while (delivery := self._next()) is not None:
            delivery.attempts += 1
            taken = _send(self.target, self._worded(delivery), with_files=delivery.attempts <= FILES_ATTEMPTS_MAX)
            self._settle(delivery, taken=taken)
            if not taken and not self._pause():
                return

    def _next(self) -> _Delivery | None:
        with self._changed:
            while not self._waiting:
                if self._finishing:
                    return None
                self._changed.wait()
            chosen = next((d for d in self._waiting if d.entry.notice.is_critical), self._waiting[0])
            self._waiting.remove(chosen)
            self._under_way = True
            return chosen

    def _settle(self, delivery: _Delivery, *, taken: bool) -> None:
        notice = delivery.entry.notice
        with self._changed:
            self._under_way = False
            self._failures = 0 if taken else self._failures + 1
            expired = self._now_ms() - delivery.entry.queued_ms >= WORTH_MS[notice.severity]
            if not taken and not expired:
                self._tally.count("failed")
                if delivery.attempts < TURN_ATTEMPTS_MAX:
                    self._waiting.appendleft(delivery)
                else:
                    self._waiting.append(delivery)
        if taken or expired:
            self._tally.count("delivered" if taken else "expired")
            self._done(delivery)
        if not taken:
            LOG.warning(
                "%s did not take %r (attempt %d%s)",
                self.target.name,
                notice.title,
                delivery.attempts,
                ", given up" if expired else "",
            )

    def _pause(self) -> bool:
        """Wait before the next attempt; False when there is to be none because the process ends."""
        with self._changed:
            seconds = min(PAUSE_S_MAX, self._pause_s * 2.0 ** min(self._failures - 1, 10))
            if self._finishing:
                if self._failures >= TURN_ATTEMPTS_MAX:
                    return False
                self._changed.wait(min(seconds, 1.0))
            else:
                self._changed.wait_for(lambda: self._finishing or self._urgent, seconds)
            self._urgent = False
            return True

    def _worded(self, delivery: _Delivery) -> Notice:
        """The notice with what its reader must know about its way."""
        notice = delivery.entry.notice
        if delivery.copies > 1:
            notice = replace(notice, title=f"{notice.title} ({delivery.copies} times)")
        if self._now_ms() - delivery.entry.queued_ms >= LATE_MS:
            late = f"(late: this waited since {ist(delivery.entry.queued_ms):%d %b %H:%M:%S})"
            notice = replace(notice, body=f"{notice.body}\n{late}".strip(), html=None)
        return notice

    def _drop_one(self) -> None:
        quiet = next((d for d in self._waiting if not d.entry.notice.is_critical), self._waiting[0])
        self._waiting.remove(quiet)
        self._tally.count("dropped")
        self._done(quiet)

    def _done(self, delivery: _Delivery) -> None:
        for entry_id in (delivery.entry.entry_id, *delivery.merged):
            self._spool.done(entry_id, self.target.key)


_LEVELS: Final = {
    Severity.INFO: logging.INFO,
    Severity.WARNING: logging.WARNING,
    Severity.CRITICAL: logging.CRITICAL,
}


def _send(target: Target, notice: Notice, *, with_files: bool) -> bool:
    """One attempt. A service's library may raise anything; the thread must outlive it and try again."""
    try:
        return target.send(notice, with_files=with_files)
    except Exception as error:  # noqa: BLE001 - the notifier outlives its services; the text may hold the URL
        LOG.warning("%s failed with %s", target.name, type(error).__name__)
        return False
