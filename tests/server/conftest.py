"""One machine without containers: the lines of the systemd units as plain processes, with the settings of the example
files, PostgreSQL behind both the Prefect server and the ledger, and secrets that can be searched for.
"""

import base64
import contextlib
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import psycopg
import pytest
import requests
from psycopg import sql
from sqlalchemy import URL, make_url

from deployments.local import end_tree, free_port
from tasks.clock import Deadline, pause
from tasks.settings import REHEARSAL_ACCESS_TOKEN, REHEARSAL_TOTP_SECRET

PROJECT = Path(__file__).resolve().parents[2]
UNITS = PROJECT / "deployments" / "systemd"
INSTALLED = "/opt/trading-bot"
PATIENCE_S = 400
SECRETS = {
    "BOT_DHAN_ACCESS_TOKEN": "eyJhbGciOiJcanary-access-token",
    "BOT_DHAN_PIN": "canary-pin-836251",
    "BOT_DHAN_TOTP_SECRET": "CANARYTOTPSECRETKRSXG5CTMVRXEZLU",
    "ledger password": "canary/ledger+pass=word",
    "prefect password": "canary/prefect+pass=word",
    "PREFECT_SERVER_API_AUTH_STRING": "operator:canary-auth-string",
    "PREFECT_SERVER_ENCRYPTION_KEY": base64.urlsafe_b64encode(b"canary-encryption-key-of-32-byte").decode(),
    "hook password": "canary-hook-pass",
    "hook path": "canary-hook-path",
    "dead hook password": "canary-dead-hook-pass",
    "simulator token": REHEARSAL_ACCESS_TOKEN,
    "simulator totp": REHEARSAL_TOTP_SECRET,
}


def exec_starts(unit):
    """The commands of a unit, as they run in this checkout."""
    lines = re.findall(r"^ExecStart=(.+)$", (UNITS / unit).read_text(), flags=re.MULTILINE)
    assert lines, f"{unit} starts nothing"
    return [
        [word.replace(f"{INSTALLED}/.venv/bin", str(Path(sys.executable).parent)) for word in shlex.split(line)]
        for line in lines
    ]


def example(name):
    """The settings that an example file shows, those that are commented out too."""
    lines = (PROJECT / "deployments" / name).read_text().splitlines()
    return dict(re.fullmatch(r"#? ?([A-Z_]+)=(.*)", line).groups() for line in lines if re.match(r"#? ?[A-Z_]+=", line))


@dataclass
class Server:
    """The processes of one machine; `urls` are those of its databases, for any driver."""

    home: Path
    environment: dict[str, str]
    api_url: str
    port: int
    hook: object
    urls: dict[str, URL]
    processes: dict[str, subprocess.Popen] = field(default_factory=dict)
    outputs: list[str] = field(default_factory=list)

    @property
    def secrets(self):
        """What must show nowhere, by what it is."""
        return SECRETS

    def database(self, name, driver="postgresql"):
        return driven(self.urls[name], driver)

    def start_unit(self, unit, name):
        (command,) = exec_starts(unit)
        self.start(name, command)

    def stop_as_systemd_does(self, unit, name):
        """The unit's signal to its own process and no other (KillMode=process), until that has ended."""
        (number,) = re.findall(r"^KillSignal=(\w+)$", (UNITS / unit).read_text(), flags=re.MULTILINE)
        process = self.processes.pop(name)
        process.send_signal(signal.Signals[number])
        process.wait(PATIENCE_S)

    def start(self, name, command):
        command = [str(self.port) if word == "4200" else word for word in command]
        log = (self.home / f"{name}.log").open("ab")
        with log:
            self.processes[name] = subprocess.Popen(
                command,
                cwd=PROJECT,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def run(self, *command, **environment):
        """A command to its end; its exit code and what it printed."""
        done = subprocess.run(
            [str(word) for word in command],
            cwd=PROJECT,
            env=self.environment | environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=PATIENCE_S,
        )
        self.outputs.append(done.stdout + done.stderr)
        return done.returncode, self.outputs[-1]

    def bot(self, *words, **environment):
        return self.run(Path(sys.executable).parent / "bot", *words, **environment)

    def run_unit(self, unit):
        for command in exec_starts(unit):
            code, said = self.run(*command)
            assert code == 0, said

    def call(self, method, path, **options):
        user, _, password = SECRETS["PREFECT_SERVER_API_AUTH_STRING"].partition(":")
        reply = requests.request(method, f"{self.api_url}{path}", auth=(user, password), timeout=60, **options)
        assert reply.ok, reply.text
        return reply.json() if reply.content else None

    def run_deployment(self, name, **parameters):
        """Start a run of `flow/deployment` now; its id."""
        target = self.call("GET", f"/deployments/name/{name}")["id"]
        wanted = {"parameters": parameters, "state": {"type": "SCHEDULED"}}
        return self.call("POST", f"/deployments/{target}/create_flow_run", json=wanted)["id"]

    def final_state(self, run_id):
        """The name of the state in which the run ended; None while it has not."""
        state = self.call("GET", f"/flow_runs/{run_id}")["state"]
        return state["name"] if state["type"] in {"COMPLETED", "FAILED", "CRASHED", "CANCELLED"} else None

    def spare_second_import(self):
        """A run's process is the engine from its start; otherwise each run imports Prefect twice."""
        template = self.call("GET", "/work_pools/trading")["base_job_template"]
        template["variables"]["properties"]["command"]["default"] = f"{sys.executable} -m prefect.engine"
        self.call("PATCH", "/work_pools/trading", json={"base_job_template": template})

    def logs(self):
        return "\n".join(path.read_text(errors="replace")[-3000:] for path in self.home.glob("*.log"))

    def wait_for(self, condition, what):
        deadline = Deadline(PATIENCE_S)
        while not (met := condition()):
            assert not deadline.passed, f"{what} did not come\n{self.logs()}"
            pause(0.5)
        return met

    def stop(self):
        for process in reversed(self.processes.values()):
            end_tree(process.pid)
            process.wait()
        # A session survives its worker by design; here nothing may be left.
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess):
                if process.environ().get("BOT_HOME") == self.environment["BOT_HOME"]:
                    end_tree(process.pid)
        self.processes.clear()


def postgres_programs():
    """The folder of a PostgreSQL that has its usual extensions; Prefect's schema needs pg_trgm."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    if not found:
        pytest.skip("PostgreSQL with its extensions is not installed: run make postgres")
    return found[-1].parent


@contextlib.contextmanager
def postgres():
    """A PostgreSQL of the test's own on loopback that asks for passwords; its URL. Root may not run one: postgres does."""
    programs, port = postgres_programs(), free_port()
    owner = {"user": "postgres", "group": "postgres"} if os.geteuid() == 0 else {}
    folder = Path(tempfile.mkdtemp(prefix="bot-server-"))
    secret = folder / "password"
    secret.write_text("of-the-superuser")
    if owner:
        shutil.chown(folder, **owner)
        secret.chmod(0o644)
    data = folder / "data"
    make = [programs / "initdb", "-D", data, "-U", "postgres", "-E", "UTF8"]
    make += ["--auth=scram-sha-256", f"--pwfile={secret}"]
    subprocess.run(make, check=True, capture_output=True, cwd=folder, **owner)
    options = ["-p", port, "-k", folder]
    for setting in ("listen_addresses=127.0.0.1", "fsync=off", "max_connections=200"):
        options += ["-c", setting]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [str(word) for word in (programs / "postgres", "-D", data, *options)],
            cwd=folder,
            stdout=log,
            stderr=log,
            **owner,
        )
    url = f"postgresql://postgres:of-the-superuser@127.0.0.1:{port}/postgres"
    try:
        deadline = Deadline(60)
        while True:
            with contextlib.suppress(psycopg.OperationalError), psycopg.connect(url, connect_timeout=5):
                break
            assert not deadline.passed, (folder / "log").read_text()
            pause(0.1)
        yield url, programs
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(60)
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def databases(server_url, *wanted):
    """New databases, each with a user of its own: name -> URL. `wanted` are (name, password)."""
    made = {}
    with psycopg.connect(server_url, autocommit=True) as connection:
        for name, password in wanted:
            unique = f"{name}_{os.getpid()}"
            connection.execute(
                sql.SQL("CREATE ROLE {} LOGIN PASSWORD {}").format(sql.Identifier(unique), sql.Literal(password))
            )
            connection.execute(
                sql.SQL("CREATE DATABASE {} OWNER {}").format(sql.Identifier(unique), sql.Identifier(unique))
            )
            url = make_url(server_url).set(database=unique, username=unique, password=password)
            made[name] = url
    try:
        yield made
    finally:
        with psycopg.connect(server_url, autocommit=True) as connection:
            for url in made.values():
                connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(url.database)))
                connection.execute(sql.SQL("DROP ROLE {}").format(sql.Identifier(url.username)))


def driven(url, driver):
    return url.set(drivername=driver).render_as_string(hide_password=False)


@pytest.fixture(scope="module")
def server(tmp_path_factory, new_web_hook) -> Iterator[Server]:
    """Databases, settings from the example files, and no process yet."""
    home = tmp_path_factory.mktemp("server")
    port = free_port()
    wanted = [
        ("ledger", SECRETS["ledger password"]),
        ("prefect", SECRETS["prefect password"]),
        ("ledger_again", SECRETS["ledger password"]),
        ("prefect_again", SECRETS["prefect password"]),
    ]
    with postgres() as (url, programs), databases(url, *wanted) as urls, new_web_hook() as hook:
        hook_at = hook.url.removeprefix("json://")
        bot = {
            "BOT_DHAN_ACCESS_TOKEN": SECRETS["BOT_DHAN_ACCESS_TOKEN"],
            "BOT_DHAN_PIN": SECRETS["BOT_DHAN_PIN"],
            "BOT_DHAN_TOTP_SECRET": SECRETS["BOT_DHAN_TOTP_SECRET"],
            "BOT_LEDGER_URL": driven(urls["ledger"], "postgresql+psycopg"),
            "BOT_NOTIFY_URLS": f"json://trader:{SECRETS['hook password']}@{hook_at}/{SECRETS['hook path']} "
            f"json://trader:{SECRETS['dead hook password']}@127.0.0.1:{free_port()}/",
            "BOT_ACCOUNT_DAILY_LOSS_LIMIT": "400",
            "BOT_HOME": str(home / "bot"),
        }
        auth = SECRETS["PREFECT_SERVER_API_AUTH_STRING"]
        prefect = {
            "PREFECT_API_URL": f"http://127.0.0.1:{port}/api",
            "PREFECT_SERVER_API_AUTH_STRING": auth,
            "PREFECT_API_AUTH_STRING": auth,
            "PREFECT_SERVER_DATABASE_CONNECTION_URL": driven(urls["prefect"], "postgresql+asyncpg"),
            "PREFECT_SERVER_ENCRYPTION_KEY": SECRETS["PREFECT_SERVER_ENCRYPTION_KEY"],
            "PREFECT_HOME": str(home / "prefect"),
        }
        shown = {**example("env.example"), **example("prefect.env.example")}
        assert set(bot) | set(prefect) <= set(shown), "the examples show every setting that a server needs"
        environment = {
            "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}",
            "HOME": str(home),
            "LANG": "C.UTF-8",
            "NO_PROXY": "127.0.0.1,localhost",
            "PYTHONUNBUFFERED": "1",
            **{name: value for name, value in shown.items() if value and name.startswith(("PREFECT_", "DO_NOT"))},
            **prefect,
            **bot,
        }
        machine = Server(
            home=home, environment=environment, api_url=prefect["PREFECT_API_URL"], port=port, hook=hook, urls=urls
        )
        try:
            yield machine
        finally:
            machine.stop()
