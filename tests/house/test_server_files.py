"""What a server is built from is sound before anybody has a server: units, compose, image, job templates, runbook."""

import json
import re
import shutil
import subprocess
import sys
from configparser import ConfigParser
from importlib.resources import files
from pathlib import Path

import pytest
import yaml

from deployments.bootstrap import WATCH_QUEUE, WORK_POOL
from tasks.connect import code_version
from tasks.notify.alerts import ALERTS

PROJECT = Path(__file__).resolve().parents[2]
DEPLOYMENTS = PROJECT / "deployments"
UNITS = sorted((DEPLOYMENTS / "systemd").iterdir())
COMPOSE = yaml.safe_load((DEPLOYMENTS / "compose.yaml").read_text())
RUNBOOK = (PROJECT / "docs" / "runbook.md").read_text()


class Unit(ConfigParser):
    """A unit file; of a key that stands twice the last one counts here."""

    def __init__(self, path):
        super().__init__(strict=False, interpolation=None)
        self.optionxform = str
        self.read(path)


@pytest.mark.parametrize("path", UNITS, ids=lambda path: path.name)
def test_systemd_takes_the_unit(path, tmp_path):
    if shutil.which("systemd-analyze") is None:
        pytest.skip("this machine has no systemd-analyze")
    here = {"/opt/trading-bot/.venv/bin": str(Path(sys.executable).parent), "User=trading-bot": "User=root"}
    for unit in UNITS:  # units name each other
        text = unit.read_text()
        for installed, found in here.items():
            text = text.replace(installed, found)
        (tmp_path / unit.name).write_text(text)
    done = subprocess.run(
        ["systemd-analyze", "verify", str(tmp_path / path.name)], capture_output=True, text=True, check=False
    )
    ours = [line for line in done.stderr.splitlines() if "trading-bot" in line]
    assert (done.returncode, ours) == (0, [])


SERVICES = [path for path in UNITS if path.suffix == ".service"]


@pytest.mark.parametrize("path", SERVICES, ids=lambda path: path.name)
def test_no_unit_runs_as_root_or_shows_a_secret(path):
    service = Unit(path)["Service"]
    assert service["User"] == "trading-bot"
    assert service["EnvironmentFile"] == "/opt/trading-bot/prefect.env"
    assert service["NoNewPrivileges"] == "true"
    assert service["ProtectSystem"] == "strict"
    assert "Environment" not in service, "a unit file is readable by everybody"


def test_what_a_session_needs_to_outlive_its_worker():
    for name in ("trading-bot-worker.service", "trading-bot-watch.service"):
        service = Unit(DEPLOYMENTS / "systemd" / name)["Service"]
        assert service["KillMode"] == "process", "a worker that restarts must not end the sessions that it started"
        assert service["KillSignal"] == "SIGKILL", "asked to end, Prefect's worker kills its runs first"
        assert service["Restart"] == "always", "a worker stops by itself when the server is away for long"


def test_the_workers_serve_the_pool_and_queue_of_the_deployments():
    starts = {path.stem: Unit(path)["Service"]["ExecStart"] for path in SERVICES}
    assert f"--pool {WORK_POOL} --work-queue default" in starts["trading-bot-worker"]
    assert f"--pool {WORK_POOL} --work-queue {WATCH_QUEUE}" in starts["trading-bot-watch"]
    assert "--host 127.0.0.1" in starts["trading-bot-server"]


def test_the_operators_bot_runs_as_its_user_with_both_files(tmp_path):
    script = (DEPLOYMENTS / "bot").read_text().replace("/opt/trading-bot", str(tmp_path))
    assert "sudo -u trading-bot " in script
    (tmp_path / "bot").write_text(script.replace("sudo -u trading-bot ", ""))
    (tmp_path / "prefect.env").write_text("# Prefect's\nPREFECT_API_URL=http://127.0.0.1:4200/api\n")
    program = tmp_path / ".venv" / "bin" / "bot"
    program.parent.mkdir(parents=True)
    program.write_text('#!/bin/sh\nprintf "%s|" "$PWD" "$PREFECT_API_URL" "$@"\n')
    program.chmod(0o755)
    done = subprocess.run(
        ["sh", str(tmp_path / "bot"), "halt", "--reason", "two words"], capture_output=True, text=True, check=True
    )
    assert done.stdout == f"{tmp_path}|http://127.0.0.1:4200/api|halt|--reason|two words|"


def test_compose_is_what_compose_takes():
    done = subprocess.run(
        [
            *(sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec"),
            str(DEPLOYMENTS / "compose.yaml"),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_nothing_in_compose_is_reachable_from_outside_or_runs_as_root():
    for name, service in COMPOSE["services"].items():
        for port in service.get("ports", ()):
            assert port.startswith("127.0.0.1:"), f"{name} is published beyond this machine"
        assert service["read_only"] is True
        assert "no-new-privileges:true" in service["security_opt"]
        if name != "postgres":
            assert service["user"] == "10001:10001"
            assert service["cap_drop"] == ["ALL"]
            assert "PREFECT_SERVER_API_AUTH_STRING" in service["environment"]
            assert service["environment"]["PREFECT_SERVER_API_AUTH_STRING"].startswith("${")
    for name in ("postgres", "server"):
        assert COMPOSE["services"][name]["healthcheck"]["retries"] > 5


def test_compose_starts_things_in_their_order():
    waits = {
        name: {other: how["condition"] for other, how in service.get("depends_on", {}).items()}
        for name, service in COMPOSE["services"].items()
    }
    assert waits["server"] == {"postgres": "service_healthy"}
    assert waits["prepare"] == {"server": "service_healthy"}
    for worker in ("worker", "watch"):
        assert waits[worker] == {"prepare": "service_completed_successfully"}


def test_the_image_ends_as_another_user_and_leaves_secrets_out():
    lines = (DEPLOYMENTS / "Dockerfile").read_text().splitlines()
    users = [line for line in lines if line.startswith("USER")]
    assert users == ["USER 10001"]
    assert not any(line.startswith(("RUN", "COPY", "ADD")) for line in lines[lines.index("USER 10001") :])
    assert re.search(r"^FROM \S+:\S*\d", "\n".join(lines), flags=re.MULTILINE), "the base has a version"
    (image,) = re.findall(r"postgresql-client-(\d+)", "\n".join(lines))
    assert COMPOSE["services"]["postgres"]["image"] == f"postgres:{image}", "pg_dump is of the server's version"
    ignored = (PROJECT / ".dockerignore").read_text().split()
    assert {".env", "prefect.env", ".git", ".bot"} <= set(ignored)
    assert {".env", "prefect.env"} <= set((PROJECT / ".gitignore").read_text().split())


def test_a_session_says_which_commit_it_runs_although_the_checkout_is_another_users(monkeypatch):
    """As the runbook installs it: the folder is root's, and git refuses whoever else asks."""
    monkeypatch.setenv("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")
    assert re.fullmatch(r"\S+ [0-9a-f]{12}\+?", code_version())


def test_a_session_in_a_container_says_of_which_commit_its_image_is(monkeypatch):
    lines = (DEPLOYMENTS / "Dockerfile").read_text()
    assert re.search(r"^ARG COMMIT=\nENV BOT_COMMIT=\$COMMIT$", lines, flags=re.MULTILINE)
    assert "COMMIT" in COMPOSE["services"]["worker"]["build"]["args"]
    monkeypatch.setenv("PATH", "")  # no checkout, no git
    monkeypatch.setenv("BOT_COMMIT", "0123456789ab")
    assert code_version().endswith(" 0123456789ab")


KNOWN = json.loads(
    files("prefect.server.api.collections_data.views").joinpath("aggregate-worker-metadata.json").read_text()
)
TEMPLATES = {kind: view["default_base_job_configuration"] for found in KNOWN.values() for kind, view in found.items()}


@pytest.mark.parametrize("kind", ["docker", "kubernetes"])
def test_a_job_template_fits_its_worker(kind):
    ours = json.loads((DEPLOYMENTS / "pools" / f"{kind}.json").read_text())
    theirs = TEMPLATES[kind]
    assert set(ours) == set(theirs) == {"job_configuration", "variables"}
    assert set(ours["job_configuration"]) <= set(theirs["job_configuration"]), "the worker would not know it"
    variables = ours["variables"]["properties"]
    used = set(re.findall(r"\{\{ (\w+) \}\}", json.dumps(ours["job_configuration"])))
    assert used == set(variables), "each variable is used, and each that is used is there"
    for name, variable in variables.items():
        known = theirs["variables"]["properties"][name]
        assert variable.get("type") == known.get("type"), name
        assert set(variable.get("enum", ())) <= set(known.get("enum", variable.get("enum", ())))
    assert not re.search(r"token|password|secret\b|_URLS", json.dumps(variables["env"]["default"]), flags=re.IGNORECASE)


@pytest.mark.parametrize("kind", ["docker", "kubernetes"])
def test_a_container_that_is_stopped_lets_its_session_close_first(kind):
    """Prefect's default command keeps SIGTERM to itself: the session would be killed with what it holds."""
    variables = json.loads((DEPLOYMENTS / "pools" / f"{kind}.json").read_text())["variables"]["properties"]
    assert variables["command"]["default"] == "python -m prefect.engine"


def test_kubernetes_never_starts_a_session_twice():
    job = json.loads((DEPLOYMENTS / "pools" / "kubernetes.json").read_text())["job_configuration"]["job_manifest"]
    assert job["spec"]["backoffLimit"] == 0
    pod = job["spec"]["template"]["spec"]
    assert pod["restartPolicy"] == "Never"
    assert pod["terminationGracePeriodSeconds"] >= 60, "an exit may take a while"
    assert pod["securityContext"]["runAsNonRoot"] is True
    (container,) = pod["containers"]
    assert container["securityContext"]["readOnlyRootFilesystem"] is True


def kinds_of_messages():
    """Every kind that a notice of the program has, out of the source, besides those of the alert table."""
    sources = "\n".join(path.read_text() for room in ("tasks", "flows") for path in (PROJECT / room).rglob("*.py"))
    told = set(re.findall(r'send_alert\(\s*"(\w+)"', sources))
    texts = "\n".join((PROJECT / "tasks" / "notify" / name).read_text() for name in ("texts.py", "throttle.py"))
    told |= set(re.findall(r'kind="(\w+)"', texts))
    occasions = re.search(r"Occasion = Literal\[(.+)\]", (PROJECT / "flows" / "alarm.py").read_text())
    return told | {occasion.replace(" ", "_") for occasion in re.findall(r'"([^"]+)"', occasions[1])}


def test_the_runbook_says_of_every_message_what_it_means_and_what_to_do():
    table = RUNBOOK[RUNBOOK.index("## What each message means") :]
    rows = {row[0]: row[1:] for row in re.findall(r"^\| `(\w+)` \| (\w+) \| (.+?) \| (.+?) \|$", table, re.MULTILINE)}
    kinds = kinds_of_messages()
    assert len(kinds) > 15, "the search finds what it is meant to find"
    assert set(rows) == kinds
    assert not set(rows) & set(ALERTS), "those are in docs/alerts.md, which is checked elsewhere"


def test_the_runbooks_commands_exist():
    told = subprocess.run(
        [sys.executable, "-c", "from flows.cli import app; print(*app)"],
        capture_output=True,
        text=True,
        check=True,
        cwd=PROJECT,
    ).stdout.split()
    named = set(re.findall(r"`bot ([a-z-]+)", RUNBOOK)) | set(re.findall(r"bin/bot ([a-z-]+)", RUNBOOK))
    assert len(named) > 8
    assert named <= set(told)
    for path in re.findall(r"deployments/[\w./-]+\w", RUNBOOK):
        assert list(PROJECT.glob(path.rstrip("-") + "*")), f"no {path}"
