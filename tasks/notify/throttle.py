"""How much a person is told: repeats are counted, not sent, and a flood becomes a digest. Pure.

Invariants:
1. A critical notice passes, always and at once.
2. Every other notice passes, is counted as a repeat, or is held for a digest; none vanishes.
3. In any minute, at most `per_minute` notices and digests pass besides the critical ones.
"""

import uuid
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import Enum, auto

from tasks.notify.notice import LOUDNESS, Notice, Topic

DIGEST_LINES_MAX = 40
KEYS_REMEMBERED_MAX = 1_000
MINUTE_MS = 60_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What a target can take. Telegram refuses more than 20 messages a minute to a group."""

    repeat_window_ms: int = 300_000
    per_minute: int = 15
    queued_max: int = 2_000

    def __post_init__(self) -> None:
        if min(self.per_minute, self.queued_max) < 1:
            raise ValueError(f"notification limits must be at least 1, found {self}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A notice on its way, under the id by which the spool knows it; `replaces` are the ids it stands for."""

    entry_id: str
    queued_ms: int  # real time, also where the market's runs faster
    notice: Notice
    replaces: tuple[str, ...] = ()


class Verdict(Enum):
    """What becomes of a notice."""

    PASS = auto()
    REPEAT = auto()
    HOLD = auto()


@dataclass(slots=True)
class _Window:
    first_ms: int
    last_ms: int
    notice: Notice
    repeats: int = 0


def new_entry(notice: Notice, queued_ms: int, *, replaces: tuple[str, ...] = ()) -> Entry:
    """An entry with an id of its own."""
    return Entry(entry_id=uuid.uuid4().hex, queued_ms=queued_ms, notice=notice, replaces=replaces)


class Throttle:
    """The state behind the invariants; one thread uses it."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._windows: dict[str, _Window] = {}
        self._passed: deque[int] = deque()
        self._held: list[Entry] = []

    def admit(self, entry: Entry, now_ms: int) -> Verdict:
        """Decide about a new notice."""
        self._forget(now_ms)
        notice = entry.notice
        if notice.is_critical:
            self._passed.append(now_ms)
            return Verdict.PASS
        window = self._windows.get(notice.identity)
        if window is not None and now_ms - window.first_ms < self._limits.repeat_window_ms:
            window.repeats += 1
            window.last_ms = now_ms
            return Verdict.REPEAT
        if window is not None and window.repeats:
            self._held.append(self._count_of_repeats(window))
        self._remember(notice, now_ms)
        if self._held or not self._has_room():
            self._held.append(entry)
            return Verdict.HOLD
        self._passed.append(now_ms)
        return Verdict.PASS

    def due(self, now_ms: int, *, flush: bool = False) -> list[Entry]:
        """What may go out now: counted repeats and digests; with `flush`, everything that is held."""
        self._forget(now_ms)
        for identity, window in list(self._windows.items()):
            if flush or now_ms - window.first_ms >= self._limits.repeat_window_ms:
                del self._windows[identity]
                if window.repeats:
                    self._held.append(self._count_of_repeats(window))
        going: list[Entry] = []
        while self._held and (flush or self._has_room()):
            going.append(self._next_of_held())
            self._passed.append(now_ms)
        return going

    def next_due_ms(self) -> int | None:
        """When `due` can have something, None while nothing is waiting."""
        moments = [w.first_ms + self._limits.repeat_window_ms for w in self._windows.values() if w.repeats]
        if self._held:
            moments.append(self._passed[0] + MINUTE_MS if self._passed else 0)
        return min(moments, default=None)

    def _next_of_held(self) -> Entry:
        """The first held notice; together with the others of its topic if there are any without files."""
        first = self._held[0]
        alike = [e for e in self._held if e.notice.topic is first.notice.topic and not e.notice.attachments]
        if first.notice.attachments or len(alike) == 1:
            return self._held.pop(0)
        self._held = [entry for entry in self._held if entry not in alike]
        return new_entry(
            digest(first.notice.topic, [entry.notice for entry in alike]),
            first.queued_ms,
            replaces=tuple(entry.entry_id for entry in alike),
        )

    def _count_of_repeats(self, window: _Window) -> Entry:
        minutes = max(1, round(self._limits.repeat_window_ms / MINUTE_MS))
        title = f"{window.notice.title} (and {window.repeats} times more in {minutes} min)"
        return new_entry(replace(window.notice, title=title, attachments=()), window.last_ms)

    def _has_room(self) -> bool:
        return len(self._passed) < self._limits.per_minute

    def _forget(self, now_ms: int) -> None:
        while self._passed and now_ms - self._passed[0] >= MINUTE_MS:
            self._passed.popleft()

    def _remember(self, notice: Notice, now_ms: int) -> None:
        self._windows.pop(notice.identity, None)  # the newest stands last
        self._windows[notice.identity] = _Window(first_ms=now_ms, last_ms=now_ms, notice=notice)
        while len(self._windows) > KEYS_REMEMBERED_MAX:
            oldest = self._windows.pop(next(iter(self._windows)))
            if oldest.repeats:
                self._held.append(self._count_of_repeats(oldest))


def digest(topic: Topic, notices: Sequence[Notice]) -> Notice:
    """Several notices as one: a line each, as loud as the loudest."""
    lines = [notice.title for notice in notices[:DIGEST_LINES_MAX]]
    if len(notices) > DIGEST_LINES_MAX:
        lines.append(f"and {len(notices) - DIGEST_LINES_MAX} more")
    loudest = max(notices, key=lambda notice: LOUDNESS[notice.severity])
    return Notice(
        at_ms=notices[-1].at_ms,
        kind="digest",
        topic=topic,
        severity=loudest.severity,
        title=f"{len(notices)} more messages about {topic}",
        body="\n".join(lines),
    )
