"""The whole system on one machine for a rehearsal: Prefect server, worker and simulator as child processes.

Invariants:
1. Everything is on loopback and lives in one folder of the project; nothing touches the user's home.
2. Whatever ends the stack ends its processes, their own children included; only `keep` hands them over to `down`.
"""

import contextlib
import ctypes
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Self

import psutil
import requests

from tasks.clock import Deadline, epoch_ms, pause, real_now_ms

FREE_MB_NEEDED = 200
SERVER_START_TIMEOUT_S = 180.0
SIMULATOR_START_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 8.0
PR_SET_PDEATHSIG = 1
# Services of the server that look every few seconds for what a short run with nobody at its screen does not have: late
# or paused runs, lost workers, leases, automations. They are about a tenth of what such a server does.
BARE_SERVER = {
    f"PREFECT_SERVER_SERVICES_{service}_ENABLED": "false"
    for service in (
        "CANCELLATION_CLEANUP",
        "CLEANUP_RECONCILER",
        "FOREMAN",
        "LATE_RUNS",
        "PAUSE_EXPIRATIONS",
        "REPOSSESSOR",
        "TRIGGERS",
    )
} | {
    # No job of a rehearsal keeps anything in a Prefect block: their kinds, and the packages that bring some, can wait.
    "PREFECT_API_BLOCKS_REGISTER_ON_START": "false",
    "PREFECT_MEMOIZE_BLOCK_AUTO_REGISTRATION": "false",
}


class StackError(Exception):
    """The stack could not start; the message says what to do."""


@dataclass(frozen=True, slots=True)
class Child:
    """A process the stack started."""

    name: str
    process: subprocess.Popen[bytes]
    log: Path


def free_port() -> int:
    """A loopback port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _die_with_parent() -> None:
    """Linux: a child gets SIGTERM when the stack is killed without a chance to clean up."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


class LocalStack:
    """Starts, watches and stops the processes of a rehearsal. Use as a context manager.

    `home` keeps Prefect's database and the logs; `environment` is added to every child's. With `may_be_kept` the
    children can outlive this process (see `keep`); without it they end even when this process is killed.
    """

    def __init__(
        self, *, home: Path, project: Path, environment: Mapping[str, str] | None = None, may_be_kept: bool = False
    ) -> None:
        self.home = home
        self.project = project
        self.logs = home / "logs"
        self.environment = dict(environment or {})
        self.api_url = ""
        self.ui_url = ""
        self.children: list[Child] = []
        self._may_be_kept = may_be_kept
        self._kept = False
        self._deploying_since_ms = 0

    def __enter__(self) -> Self:
        self.logs.mkdir(parents=True, exist_ok=True)
        free_mb = shutil.disk_usage(self.home).free // 2**20
        if free_mb < FREE_MB_NEEDED:
            raise StackError(
                f"{FREE_MB_NEEDED} MB of free disk are needed in {self.home}, found {free_mb} MB. "
                "Free some, then run again."
            )
        down(self.home)
        return self

    def __exit__(self, *_: object) -> None:
        if not self._kept:
            self.stop()

    def start_server(self, port: int | None = None) -> str:
        """Start a Prefect server of its own; return the API's URL.

        Raises:
            StackError: the port is taken, or the server did not answer in time.
        """
        port = port or free_port()
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                raise StackError(
                    f"Port {port} was asked for and something already listens on it. "
                    "Choose another, or leave the choice to the program."
                )
        self.ui_url = f"http://127.0.0.1:{port}"
        self.api_url = f"{self.ui_url}/api"
        command = ["-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port)]
        # Without its own address the pages would ask for data on Prefect's default port.
        self._start("prefect-server", command, {"PREFECT_API_URL": "", "PREFECT_SERVER_UI_API_URL": self.api_url})
        return self.api_url

    def start_simulator(self, options: Sequence[str]) -> str:
        """Start the simulated market and broker; return its URL.

        Raises:
            StackError: it refused its options or did not get ready in time.
        """
        ready = self.home / "simulator.json"
        ready.unlink(missing_ok=True)
        bound = [] if self._may_be_kept else ["--with-parent"]
        self._start("simulator", ["-m", "simulator", *bound, "--ready", str(ready), *options])
        deadline = Deadline(SIMULATOR_START_TIMEOUT_S)
        while True:
            with contextlib.suppress(OSError, ValueError):
                url: str = json.loads(ready.read_text())["url"]
                return url
            self._demand_alive("simulator", deadline)
            pause(0.05)

    def begin_deploying(self, *names: str, engine_directly: bool = False) -> None:
        """Create the work pool and these deployments of prefect.yaml (all without names) once the server answers.

        With `engine_directly` a run's process is Prefect's engine from its start: these deployments lie in this
        folder, so nothing has to be fetched first, which costs a second import of Prefect per run.
        """
        direct = ["--engine-directly"] if engine_directly else []
        self._deploying_since_ms = real_now_ms()
        self._start("prefect-deploy", ["-m", "deployments.prefect_cli", "deploy", self.api_url, *direct, *names])

    def await_deployed(self, name: str | None = None) -> None:
        """Wait until the deployments are there; with a name (flow/deployment) for that one, while others may follow.

        Raises:
            StackError: Prefect refused, or the server did not start; the message has the last lines.
        """
        deploying = next(child for child in self.children if child.name == "prefect-deploy")
        deadline = Deadline(SERVER_START_TIMEOUT_S)
        while deploying.process.poll() is None:
            if name is not None and self._is_deployed(name):
                return
            self._demand_alive("prefect-server", deadline)
            pause(0.05)
        failed = deploying.process.returncode != 0
        if name is None or failed:
            self.children.remove(deploying)
        if failed:
            raise StackError(
                f"Prefect could not create the deployments:\n{_tail(deploying.log.read_text(errors='replace'))}"
            )

    def _is_deployed(self, name: str) -> bool:
        """Whether it is there as prefect.yaml has it now; one of an earlier start says what prefect.yaml said then."""
        with contextlib.suppress(requests.RequestException, ValueError, KeyError):
            found = requests.get(f"{self.api_url}/deployments/name/{name}", timeout=2).json()
            return epoch_ms(datetime.fromisoformat(found["updated"])) >= self._deploying_since_ms
        return False

    def deploy(self, *names: str) -> None:
        """Create the work pool and the deployments, and wait for them.

        Raises:
            StackError: see `await_deployed`.
        """
        self.begin_deploying(*names)
        self.await_deployed()

    def start_worker(self) -> None:
        """Start the process worker that runs the flows; it waits for the work pool."""
        self._start("prefect-worker", ["-m", "deployments.prefect_cli", "work", self.api_url])

    def keep(self) -> None:
        """Leave everything running after this process; `down(home)` ends it."""
        assert self._may_be_kept, "a stack that may not be kept ends with this process"
        pids = {child.name: child.process.pid for child in self.children if child.process.poll() is None}
        (self.home / "stack.json").write_text(json.dumps({"pids": pids, "ui_url": self.ui_url}))
        self._kept = True

    def stop(self, name: str | None = None) -> None:
        """End the named child, or all, newest first; their children too."""
        ending = [child for child in reversed(self.children) if name in {None, child.name}]
        for child in ending:
            end_tree(child.process.pid)
            child.process.wait()
            self.children.remove(child)

    def kill(self, name: str) -> None:
        """End a child at once with SIGKILL, as a crash would."""
        for child in [child for child in self.children if child.name == name]:
            for process in _tree(child.process.pid):
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.kill()
            child.process.wait()
            self.children.remove(child)

    def is_alive(self, name: str) -> bool:
        """True while the named child runs."""
        return any(child.name == name and child.process.poll() is None for child in self.children)

    def child_environment(self) -> dict[str, str]:
        """The environment of every child: Prefect at home here, quiet, and nothing of the caller's own Prefect."""
        inherited = {key: value for key, value in os.environ.items() if not key.startswith("PREFECT_")}
        return inherited | {
            "PREFECT_HOME": str(self.home / "prefect"),
            "PREFECT_API_URL": self.api_url,
            "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
            "DO_NOT_TRACK": "1",
            "PREFECT_CLI_PROMPT": "false",
            "PREFECT_LOGGING_COLORS": "false",
            # A rehearsal is short: look for new runs often, and prove liveness often.
            "PREFECT_WORKER_QUERY_SECONDS": "1",
            "PREFECT_WORKER_HEARTBEAT_SECONDS": "10",
            "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": "30",
            "PREFECT_SERVER_DATABASE_TIMEOUT": "30",
            # Runs are started by hand here; hundreds of scheduled ones would only be in the way.
            "PREFECT_SERVER_SERVICES_SCHEDULER_ENABLED": "false",
            "PYTHONPATH": str(self.project),
            # With the server gone, the evening is done without it rather than a minute later; a busy one gets its time.
            "PREFECT_CLIENT_MAX_RETRIES": "3",
            "NO_PROXY": "127.0.0.1,localhost",
            "no_proxy": "127.0.0.1,localhost",
            "PYTHONUNBUFFERED": "1",
            **self.environment,
        }

    def _start(self, name: str, arguments: Sequence[str], extra: Mapping[str, str] | None = None) -> None:
        log = self.logs / f"{name}.log"
        with log.open("ab") as output:
            process = subprocess.Popen(  # noqa: S603 (our own interpreter and arguments)
                [sys.executable, *arguments],
                cwd=self.project,
                env=self.child_environment() | dict(extra or {}),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # a Ctrl-C in the terminal reaches the stack, which ends them in order
                preexec_fn=None if self._may_be_kept else _die_with_parent,  # noqa: PLW1509 (started before this process has threads of its own)
            )
        self.children.append(Child(name, process, log))

    def _demand_alive(self, name: str, deadline: Deadline) -> None:
        child = next(child for child in self.children if child.name == name)
        if child.process.poll() is not None:
            raise StackError(
                f"{name} ended with code {child.process.returncode}:\n{_tail(child.log.read_text(errors='replace'))}"
            )
        if deadline.passed:
            raise StackError(f"{name} did not get ready in time; its log is {child.log}.")


def _tail(text: str, lines: int = 12) -> str:
    return "\n".join(text.strip().splitlines()[-lines:])


def _tree(pid: int) -> list[psutil.Process]:
    """The process and all below it, children first."""
    try:
        top = psutil.Process(pid)
        return [*reversed(top.children(recursive=True)), top]
    except psutil.NoSuchProcess:
        return []


def end_tree(pid: int) -> None:
    """Ask a process and all below it to end; after a while make them."""
    processes = _tree(pid)
    for process in reversed(processes):
        with contextlib.suppress(psutil.NoSuchProcess):
            process.terminate()
    _, alive = psutil.wait_procs(processes, timeout=STOP_TIMEOUT_S)
    for process in alive:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(alive, timeout=STOP_TIMEOUT_S)


def down(home: Path) -> tuple[str, ...]:
    """End a stack that was kept up in `home`; return the names of what was ended."""
    note = home / "stack.json"
    try:
        pids: dict[str, int] = json.loads(note.read_text())["pids"]
    except (OSError, ValueError, KeyError):
        return ()
    ended = []
    for name, pid in pids.items():
        with contextlib.suppress(psutil.NoSuchProcess):
            # A pid may long belong to somebody else: only a process of our own interpreter is ours.
            if any("prefect" in word or "simulator" in word for word in psutil.Process(pid).cmdline()):
                end_tree(pid)
                ended.append(name)
    note.unlink()
    return tuple(ended)


@contextlib.contextmanager
def interruptible() -> Iterator[None]:
    """Turn SIGTERM and SIGHUP into KeyboardInterrupt, so that every way of ending runs the same clean-up."""

    def interrupt(_signal: int, _frame: object) -> None:
        raise KeyboardInterrupt

    before = {number: signal.signal(number, interrupt) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
