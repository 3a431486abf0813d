"""`bot demo` as a newcomer uses it: what it says when something is wrong, and that an interruption leaves nothing."""

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from tasks.clock import Deadline, pause

PROJECT = Path(__file__).resolve().parents[2]
BOT = [sys.executable, "-c", "from flows.cli import main; main()"]

pytestmark = [pytest.mark.slow]


def demo(home, *options, timeout=120):
    return subprocess.run(
        [*BOT, "demo", "--home", str(home), *options],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )


def processes_of(home):
    """Everything that runs with this home, by command line or environment."""
    found = []
    for process in psutil.process_iter():
        try:
            said = " ".join(process.cmdline()) + str(process.environ().get("PREFECT_HOME", ""))
        except (psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess):
            continue
        if str(home) in said:
            found.append(said)
    return found


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interruption_leaves_no_process_behind(tmp_path, number):
    process = subprocess.Popen(
        [*BOT, "demo", "--home", str(tmp_path)],
        cwd=PROJECT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    deadline = Deadline(60)
    while not any("prefect" in said for said in processes_of(tmp_path)) and not deadline.passed:
        pause(0.2)
    assert len(processes_of(tmp_path)) > 1
    process.send_signal(number)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 130, output
    assert "every process of the rehearsal has been ended" in output
    assert processes_of(tmp_path) == []


def test_a_port_that_is_taken_is_said_so(tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = demo(tmp_path, "--port", str(port))
    assert done.returncode == 1
    assert f"Port {port} was asked for and something already listens on it. Choose another" in " ".join(
        done.stdout.split()
    )
    assert processes_of(tmp_path) == []


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--set", "lots"], "--set expects name=value"),
        (["--set", "lots=0"], "greater than or equal to 1"),
        (["--day", "2026-11-22"], "2026-11-22 is not a trading day: Sunday"),
        (["--recording", "/nowhere/prices.csv"], "/nowhere/prices.csv"),
    ],
)
def test_what_cannot_be_rehearsed_is_refused_with_the_reason_before_anything_is_started(tmp_path, options, said):
    done = demo(tmp_path, *options)
    assert done.returncode == 1
    assert "Starting" not in done.stdout
    assert said in done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    assert processes_of(tmp_path) == []


def test_help_answers_without_loading_the_machinery():
    done = subprocess.run(
        [
            sys.executable,
            "-X",
            "importtime",
            "-c",
            "import sys; sys.argv = ['bot', '--help']; from flows.cli import main; main()",
        ],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        check=False,
        env=os.environ,
    )
    assert "squareoff" in done.stdout
    assert " prefect\n" not in done.stderr
