"""Writes the day's history to the ledger in batches, off the trading loop.

Invariants:
1. The loop only appends to a list; it never waits for the database.
2. Decisions, candles, answers and what the rules heard are kept until the ledger took them; ticks beyond `TICKS_KEPT`
   are dropped and counted.
3. What the rules heard is written after the decisions and ticks that go with it, in pieces that never change once
   tried: so a replay knows how far a recording reaches.
"""

import logging
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

from strategy.events import Tick
from tasks.ledger import LedgerRefused, LedgerUnavailable
from tasks.ledger.records import CandleRecord, DecisionRecord
from tasks.ledger.store import Ledger
from tasks.trading.heard import Beginning, Ending, Heard, RareEvent, heard_text

WRITE_PERIOD_S = 0.5
TICKS_KEPT = 500_000
LOG = logging.getLogger(__name__)


@dataclass(slots=True)
class _Batch:
    ticks: list[Tick] = field(default_factory=list)
    candles: list[CandleRecord] = field(default_factory=list)
    decisions: list[DecisionRecord] = field(default_factory=list)
    answers: list[tuple[str, str, int]] = field(default_factory=list)
    heard: list[Heard] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.ticks or self.candles or self.decisions or self.answers or self.heard)


class Recorder:
    """The history writer of one start of a session. `start()`, then record; `close()` writes what is left."""

    def __init__(self, ledger: Ledger, session_id: str, fence: int) -> None:
        self._ledger = ledger
        self._session_id = session_id
        self._fence = fence
        self._ticks = 0
        self._pieces: deque[tuple[int, str]] = deque()  # numbered, not known to be in the ledger; the writer's alone
        self._pieces_made = 0
        self._waiting = _Batch()
        self._swap = threading.Lock()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._write_on, name="recorder", daemon=True)
        self.dropped_ticks = 0

    def start(self) -> None:
        """Begin writing."""
        self._thread.start()

    def tick(self, tick: Tick) -> None:
        """A tick that the session saw."""
        with self._swap:
            if len(self._waiting.ticks) < TICKS_KEPT:
                self._waiting.ticks.append(tick)
                self._ticks += 1
            else:
                self.dropped_ticks += 1

    def begin(self, beginning: Beginning) -> None:
        """What the rules were started with."""
        with self._swap:
            self._waiting.heard.append(beginning)

    def heard(self, event: RareEvent) -> None:
        """Anything but a tick that the rules hear, after the ticks recorded so far."""
        with self._swap:
            self._waiting.heard.append((self._ticks, event))

    def candle(self, candle: CandleRecord) -> None:
        """A closed candle."""
        with self._swap:
            self._waiting.candles.append(candle)

    def decision(self, decision: DecisionRecord) -> None:
        """A decision that sent no order."""
        with self._swap:
            self._waiting.decisions.append(decision)

    def answer(self, command_id: str, answer: str, at_ms: int) -> None:
        """What became of a command."""
        with self._swap:
            self._waiting.answers.append((command_id, answer, at_ms))

    def close(self, timeout_s: float = 30.0) -> bool:
        """Write the rest; False if the ledger did not take it in time (it is logged, not hidden)."""
        with self._swap:
            if not self._closing.is_set():
                self._waiting.heard.append(Ending(ticks=self._ticks, dropped=self.dropped_ticks))
        self._closing.set()
        self._thread.join(timeout_s)
        is_written = not self._waiting and not self._pieces
        if not is_written:
            LOG.error(
                "history not written: %d ticks, %d candles, %d decisions, %d answers, %d pieces of what was heard",
                len(self._waiting.ticks),
                len(self._waiting.candles),
                len(self._waiting.decisions),
                len(self._waiting.answers),
                len(self._pieces),
            )
        return is_written

    def _write_on(self) -> None:
        while not self._closing.wait(WRITE_PERIOD_S):
            self._write()
        for _ in range(20):
            if self._write():
                return
            threading.Event().wait(WRITE_PERIOD_S)

    def _write(self) -> bool:
        with self._swap:
            batch, self._waiting = self._waiting, _Batch()
        if batch.heard:
            self._pieces.append((self._pieces_made, heard_text(batch.heard)))
            self._pieces_made += 1
            batch.heard = []
        if not batch and not self._pieces:
            return True
        # Decisions first: they are what a restart needs most. Every write is a no-op when repeated.
        writes: list[Callable[[], object]] = [
            lambda: self._ledger.record_decisions(batch.decisions),
            lambda: self._ledger.record_candles(batch.candles),
            *(partial(self._ledger.answer_command, *answer) for answer in batch.answers),
            lambda: self._ledger.record_ticks(self._session_id, batch.ticks),
        ]
        try:
            for write in writes:
                self._try(write)
            while self._pieces:
                self._try(partial(self._ledger.record_heard, self._session_id, self._fence, *self._pieces[0]))
                self._pieces.popleft()
        except LedgerUnavailable as error:
            LOG.warning("ledger away, history waits: %s", error)
            with self._swap:
                newer = self._waiting
                batch.ticks += newer.ticks
                batch.candles += newer.candles
                batch.decisions += newer.decisions
                batch.answers += newer.answers
                batch.heard += newer.heard
                self._waiting = batch
            return False
        return True

    @staticmethod
    def _try(write: Callable[[], object]) -> None:
        try:
            write()
        except LedgerRefused as refused:
            # It can never be recorded; keeping it would keep everything behind it out as well.
            LOG.error("left out of the ledger for good: %s", refused)  # noqa: TRY400 (the text says all)
