"""Notices that are not delivered yet, in a file: append-only JSON lines, so that a crash loses none of them.

One file per process, held by a lock that the kernel drops when the process dies; the next start takes over
what dead processes left. Delivery is therefore at least once. Not synced: a power cut may lose seconds.

Invariants:
1. A file is read or removed only by who holds its lock.
2. A left-over notice stands in the new file before the old file is removed.
3. A folder that cannot be written is a warning, never a reason not to deliver.
"""

import fcntl
import json
import logging
import os
import threading
import uuid
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from tasks.notify.notice import notice_from_json, notice_to_json
from tasks.notify.throttle import Entry

LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Leftover:
    """A notice of an earlier process and the targets (by key) that lack it; none: it was not routed yet."""

    entry: Entry
    targets: frozenset[str]


class Spool:
    """The file of this process, and the way to those of the dead. Safe from any thread."""

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder
        self._path: Path | None = None
        self._file: TextIO | None = None
        self._lock = threading.Lock()
        self._waiting: set[tuple[str, str]] = set()
        if folder is not None:
            try:
                self._path, self._file = _create_locked(folder)
            except OSError as error:
                LOG.warning("notices are not kept over a restart, %s cannot be written: %s", folder, error)

    def add(self, entry: Entry, targets: Iterable[str] = ()) -> None:
        """Note that `targets` must still hear of it; without targets, that its routing is still open."""
        keys = sorted(targets)
        with self._lock:
            self._waiting.update((entry.entry_id, key) for key in keys or [""])
            self._write(
                {
                    "id": entry.entry_id,
                    "queued_ms": entry.queued_ms,
                    "targets": keys,
                    "notice": notice_to_json(entry.notice),
                }
            )

    def done(self, entry_id: str, target: str = "") -> None:
        """Note that `target` heard of it; without a target, that its routing is decided."""
        with self._lock:
            self._waiting.discard((entry_id, target))
            if self._waiting:
                self._write({"done": entry_id, "target": target})
            elif self._file is not None:
                try:
                    self._file.seek(0)
                    self._file.truncate()
                except OSError as error:
                    LOG.warning("the notice file cannot be emptied: %s", error)

    def take_leftovers(self) -> list[Leftover]:
        """What dead processes left undelivered, oldest first; from now on it stands in the own file."""
        if self._folder is None or self._file is None:
            return []
        found: list[Leftover] = []
        for path in sorted(self._folder.glob("*.jsonl")):
            if path != self._path:
                found.extend(self._take_over(path))
        return sorted(found, key=lambda leftover: leftover.entry.queued_ms)

    def close(self) -> None:
        """Let go of the file; what is undelivered stays in it, an empty one is removed."""
        with self._lock:
            if self._file is None or self._path is None:
                return
            try:
                if not self._waiting:
                    self._path.unlink(missing_ok=True)
                self._file.close()
            except OSError as error:
                LOG.warning("the notice file cannot be closed: %s", error)
            self._file = None

    def _take_over(self, path: Path) -> list[Leftover]:
        try:
            with path.open("r", encoding="utf-8") as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if not path.exists() or os.fstat(file.fileno()).st_ino != path.stat().st_ino:
                    return []  # another start was quicker
                leftovers = _undelivered(file)
                for leftover in leftovers:
                    self.add(leftover.entry, leftover.targets)
                path.unlink()
                return leftovers
        except BlockingIOError:
            return []  # its process lives
        except OSError as error:
            LOG.warning("left-over notices in %s cannot be read: %s", path, error)
            return []

    def _write(self, line: dict[str, Any]) -> None:
        if self._file is None:
            return
        try:
            self._file.write(json.dumps(line) + "\n")
            self._file.flush()
        except OSError as error:
            LOG.warning("a notice cannot be kept for a restart: %s", error)


def _create_locked(folder: Path) -> tuple[Path, TextIO]:
    """A new file that others can see only once it is locked."""
    folder.mkdir(parents=True, exist_ok=True)
    name = uuid.uuid4().hex
    hidden, path = folder / f".{name}", folder / f"{name}.jsonl"
    file = hidden.open("w", encoding="utf-8")
    try:
        hidden.chmod(0o600)
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        hidden.rename(path)
    except OSError:
        file.close()
        raise
    return path, file


def _undelivered(lines: Iterable[str]) -> list[Leftover]:
    entries: dict[str, Entry] = {}
    waiting: dict[str, set[str]] = {}
    for line in _parsed(lines):
        try:
            if "done" in line:
                left = waiting.get(str(line["done"]), set())
                left.discard(str(line["target"]))
            else:
                entry_id = str(line["id"])
                notice = notice_from_json(line["notice"])
                entries[entry_id] = Entry(entry_id=entry_id, queued_ms=int(line["queued_ms"]), notice=notice)
                waiting.setdefault(entry_id, set()).update(map(str, line["targets"] or [""]))
        except (KeyError, ValueError, TypeError) as error:
            LOG.warning("a left-over notice is not readable: %r", error)
    return [
        Leftover(entry=entries[entry_id], targets=frozenset(left - {""})) for entry_id, left in waiting.items() if left
    ]


def _parsed(lines: Iterable[str]) -> Iterator[dict[str, Any]]:
    for text in lines:
        try:
            line = json.loads(text)
        except ValueError:
            LOG.warning("the last line of a notice file was cut off by a crash")
            continue
        if isinstance(line, dict):
            yield line
