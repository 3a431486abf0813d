"""Charts are drawn in a process of their own: drawing takes a second of one core and runs a JavaScript engine.

The trading process writes a line of JSON and reads a line with the PNG; nothing that goes wrong on the other side
can reach it. `python -m tasks.pages.chart_process NICE` is that other side. The evening has it draw, and bundle the
chart library for the page, while the day is replayed.
"""

import base64
import json
import logging
import os
import select
import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import Any, Final

from tasks.clock import Deadline

LOG = logging.getLogger(__name__)
PICTURE_BYTES_MAX: Final = 16_000_000
BACKGROUND_NICE: Final = 15


class ChartProcess:
    """Draws one chart at a time, for one thread. It starts when first used and starts again if it died.

    Beside a session it is `nice`; in the evening somebody waits for it.
    """

    def __init__(self, *, nice: int = BACKGROUND_NICE) -> None:
        self._nice = nice
        self._process: subprocess.Popen[bytes] | None = None

    def draw(
        self,
        title: str,
        rows: Mapping[str, Sequence[Mapping[str, Any]]],
        loss_limit_paise: int = 0,
        *,
        timeout_s: float = 60.0,
    ) -> bytes | None:
        """The rows of a picture (chart_rows.datasets) as PNG; None when it could not be drawn in time."""
        return self._ask({"title": title, "rows": rows, "loss_limit_paise": loss_limit_paise}, timeout_s)

    def chart_library(self, *, timeout_s: float = 60.0) -> str | None:
        """The chart library as one script (charts.chart_library); None when it was not there in time."""
        found = self._ask({"library": True}, timeout_s)
        return None if found is None else found.decode()

    def _ask(self, request: Mapping[str, Any], timeout_s: float) -> bytes | None:
        try:
            process = self._running()
            assert process.stdin is not None
            process.stdin.write(json.dumps(request).encode() + b"\n")
            process.stdin.flush()
            answer = self._read_line(process, Deadline(timeout_s))
        except OSError as error:
            LOG.warning("the chart process cannot be used: %s", error)
            answer = None
        if answer is None:
            self.close()
            return None
        return base64.b64decode(answer)

    def close(self) -> None:
        """End the process; idempotent."""
        process, self._process = self._process, None
        if process is None:
            return
        process.kill()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                try:
                    pipe.close()
                except OSError:  # what was written to a dead process cannot be flushed
                    LOG.debug("the chart process was gone already")
        process.wait()

    def kill(self) -> None:
        """Make a `draw` that is under way in another thread end."""
        process = self._process
        if process is not None:
            process.kill()

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is not None and self._process.poll() is not None:
            self.close()
        if self._process is None:
            self._process = subprocess.Popen(  # noqa: S603 (our own interpreter and a number)
                [sys.executable, "-m", "tasks.pages.chart_process", str(self._nice)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
            )
        return self._process

    @staticmethod
    def _read_line(process: subprocess.Popen[bytes], deadline: Deadline) -> bytes | None:
        assert process.stdout is not None
        received = bytearray()
        while not received.endswith(b"\n"):
            ready, _, _ = select.select([process.stdout], [], [], deadline.left_s)
            piece = os.read(process.stdout.fileno(), 1 << 16) if ready else b""
            if not piece or len(received) > PICTURE_BYTES_MAX:
                LOG.warning("no chart: %s", "the process ended" if ready else "it took too long")
                return None
            received += piece
        return bytes(received)


def main() -> None:
    """Answer each line of the standard input until it ends."""
    os.nice(int(sys.argv[1]))
    from tasks.pages.charts import chart_library, chart_png  # noqa: PLC0415  only this side pays for the chart library

    for line in sys.stdin.buffer:
        request = json.loads(line)
        if "library" in request:
            answer = chart_library().encode()
        else:
            answer = chart_png(request["title"], request["rows"], request["loss_limit_paise"])
        sys.stdout.buffer.write(base64.b64encode(answer) + b"\n")
        sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()
