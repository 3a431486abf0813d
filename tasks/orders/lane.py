"""Daemon threads that do one job after another, for calls that may hang.

Invariants:
1. Jobs begin in the order in which they came; with one thread they also end in it.
2. A job that raises is an error in the program: it is reported by `threading.excepthook`, and another thread
   takes the place of the one that it ended.
"""

import threading
from collections.abc import Callable
from queue import SimpleQueue

Job = Callable[[], None]


class Lane:
    """A queue of jobs with `threads` threads behind it. Its users bound it: each awaits a job's answer."""

    def __init__(self, name: str, threads: int) -> None:
        if threads < 1:
            raise ValueError(f"a lane needs at least one thread, found {threads}")
        self._name = name
        self._jobs: SimpleQueue[Job | None] = SimpleQueue()
        self._threads = threads
        for _ in range(threads):
            self._start()

    def put(self, job: Job) -> None:
        """Have `job` done when a thread is free."""
        self._jobs.put(job)

    def close(self) -> None:
        """Let the threads end after the jobs that wait now; one that hangs does not keep the program."""
        for _ in range(self._threads):
            self._jobs.put(None)

    def _start(self) -> None:
        threading.Thread(target=self._walk, name=self._name, daemon=True).start()

    def _walk(self) -> None:
        failed = True
        try:
            while (job := self._jobs.get()) is not None:
                job()
            failed = False
        finally:
            if failed:
                self._start()
