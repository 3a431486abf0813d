"""A day on a server without containers: the lines of the systemd units as plain processes, PostgreSQL behind both the
Prefect server and the ledger, two workers, four sessions of one account at once, and secrets that must show nowhere.

One day is run for all tests of this file: faults that make programs talkative, the account's loss limit, the evening,
a backup, its way back.
"""

import base64
import contextlib
import json
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
from datetime import datetime
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import quote, quote_plus

import psutil
import psycopg
import pytest
import requests
from psycopg import sql
from sqlalchemy import make_url

from deployments.local import end_tree, free_port
from strategy.instruments import Underlying
from tasks.clock import IST, Deadline, pause, real_now_ms
from tasks.ledger.check import check
from tasks.ledger.store import Ledger
from tasks.notify.samples import samples
from tasks.settings import REHEARSAL_ACCESS_TOKEN, REHEARSAL_CLIENT_ID, REHEARSAL_TOTP_SECRET
from tasks.trading.account import REQUESTED_BY

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

PROJECT = Path(__file__).resolve().parents[2]
UNITS = PROJECT / "deployments" / "systemd"
INSTALLED = "/opt/trading-bot"
PATIENCE_S = 400
DAY = "2026-11-20"
# An order every few seconds, so that the day's small loss limit is soon used up.
BUSY = {
    "candle_seconds": 5,
    "supertrend_period": 3,
    "supertrend_multiplier": 1.0,
    "flip_only": False,
    "macd_confirmation": False,
    "htf_filter": False,
    "min_hold_seconds": 0,
    "order_cooldown_seconds": 0,
    "max_trades_per_day": 100,
    "daily_max_loss": 100_000,
    "stop_loss_points": 3,
    "target_points": 4,
    "entry_start": "14:00",
}
# What makes programs talk about credentials: tokens that die, refused feeds, answers that make no sense.
FAULTS = [
    {"fault": "token_death", "at": {"call": "place_order", "nth": 3}},
    {"fault": "bad_gateway", "at": {"call": "place_order", "nth": 5}},
    {"fault": "reject", "at": {"call": "place_order", "nth": 7}},
    {"fault": "feed_reset", "at": {"call": "place_order", "nth": 4}, "outage_s": 5},
    {"fault": "feed_refused", "at": {"call": "place_order", "nth": 4}, "for_s": 5},
]
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
    """The processes of one machine."""

    home: Path
    environment: dict[str, str]
    api_url: str
    port: int
    hook: object
    processes: dict[str, subprocess.Popen] = field(default_factory=dict)
    outputs: list[str] = field(default_factory=list)

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
        return reply.json()

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
    make = [
        programs / "initdb",
        "-D",
        data,
        "-U",
        "postgres",
        "--auth=scram-sha-256",
        f"--pwfile={secret}",
        "-E",
        "UTF8",
    ]
    subprocess.run(make, check=True, capture_output=True, cwd=folder, **owner)
    options = [
        "-p",
        port,
        "-k",
        folder,
        "-c",
        "listen_addresses=127.0.0.1",
        "-c",
        "fsync=off",
        "-c",
        "max_connections=200",
    ]
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
def machine(tmp_path_factory, new_web_hook) -> Iterator[SimpleNamespace]:
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
            "BOT_ACCOUNT_DAILY_LOSS_LIMIT": "300",
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
        server = Server(home=home, environment=environment, api_url=prefect["PREFECT_API_URL"], port=port, hook=hook)
        try:
            yield SimpleNamespace(server=server, urls=urls)
        finally:
            server.stop()


@pytest.fixture(scope="module")
def day(machine):
    """The day, from the first unit to the backup; what the tests look at."""
    server, urls = machine.server, machine.urls
    found = SimpleNamespace(server=server, urls=urls)
    ready = server.home / "simulator.json"
    simulator = ["-m", "simulator", "--port", "0", "--seed", "7", "--day", DAY, "--start", "14:00:00", "--speed", "1"]
    simulator += ["--client-id", REHEARSAL_CLIENT_ID, "--token", REHEARSAL_ACCESS_TOKEN, "--ready", str(ready)]
    (start_server,) = exec_starts("trading-bot-server.service")
    server.start("prefect-server", start_server)
    server.run_unit("trading-bot-bootstrap.service")
    found.stranger = requests.get(f"{server.api_url}/flow_runs/count", timeout=30).status_code
    paper = server.call("GET", "/deployments/name/daily-session/nifty-paper")["id"]
    planned = {"deployments": {"id": {"any_": [paper]}}, "flow_runs": {"state": {"type": {"any_": ["SCHEDULED"]}}}}
    found.planned = server.wait_for(
        lambda: server.call("POST", "/flow_runs/filter", json=planned), "a run of nifty-paper that is scheduled"
    )
    spare_second_import(server)
    server.start("simulator", [sys.executable, *simulator])
    url = json.loads(server.wait_for(lambda: ready.exists() and ready.read_text(), "the simulator"))["url"]
    requests.post(f"{url}/control/faults", json=FAULTS, timeout=30).raise_for_status()
    server.environment["BOT_SIMULATOR_URL"] = url
    (start_worker,) = exec_starts("trading-bot-worker.service")
    (start_watch,) = exec_starts("trading-bot-watch.service")
    server.start("worker-1", start_worker)
    server.start("worker-2", start_worker)
    server.start("watch", start_watch)
    target = server.call("GET", "/deployments/name/daily-session/rehearsal")
    runs = [
        server.call(
            "POST",
            f"/deployments/{target['id']}/create_flow_run",
            json={
                "parameters": {"params": {"index": index, "mode": "rehearsal", **BUSY}, "day": DAY},
                "state": {"type": "SCHEDULED"},
            },
        )["id"]
        for index in Underlying
    ]
    ledger = Ledger(server.environment["BOT_LEDGER_URL"])
    try:
        halts = "SELECT session_id FROM command WHERE kind = 'halt' AND requested_by = ?"
        bought = "SELECT count(*) FROM intent WHERE side = 'BUY'"
        found.alive = server.wait_for(
            lambda: len(sessions := ledger.living_session_ids(real_now_ms())) == 4 and sessions, "four living sessions"
        )
        found.halted = server.wait_for(
            lambda: len(rows := ledger.rows(halts, REQUESTED_BY)) >= 4 and {name for (name,) in rows}, "four halts"
        )
        server.wait_for(lambda: not ledger.rows("SELECT 1 FROM trade WHERE open_quantity > 0"), "nothing held")
        found.bought_then = ledger.rows(bought)
        found.workers = {owner.split("/")[1] for (owner,) in ledger.rows("SELECT owner FROM lease_taking")}
        found.stopped = server.bot("stop", "--reason", "test")
        found.states = [
            server.wait_for(lambda run_id=run_id: final_state(server, run_id), "the end of a session")
            for run_id in runs
        ]
        found.bought_at_the_end = ledger.rows(bought)
        found.evening = server.wait_for(
            lambda: len(rows := ledger.rows("SELECT session_id, state FROM reconciliation")) >= 4 and rows,
            "four reconciliations",
        )
        found.violations = check(ledger)
        found.faults = requests.get(f"{url}/control/faults", timeout=30).json()
        found.notify_test = server.bot("notify", "test")
    finally:
        ledger.close()
    found.tokens = minted(server)
    server.stop()
    server.run_unit("trading-bot-backup.service")
    return found


def spare_second_import(server):
    """A run's process is the engine from its start; otherwise each run imports Prefect twice."""
    pool = server.call("GET", "/work_pools/trading")
    template = pool["base_job_template"]
    template["variables"]["properties"]["command"]["default"] = f"{sys.executable} -m prefect.engine"
    user, _, password = SECRETS["PREFECT_SERVER_API_AUTH_STRING"].partition(":")
    requests.patch(
        f"{server.api_url}/work_pools/trading",
        json={"base_job_template": template},
        auth=(user, password),
        timeout=30,
    ).raise_for_status()


def final_state(server, run_id):
    state = server.call("GET", f"/flow_runs/{run_id}")["state"]
    return state["name"] if state["type"] in {"COMPLETED", "FAILED", "CRASHED", "CANCELLED"} else None


def minted(server):
    """The tokens that were minted in the day: they live in one private file."""
    (path,) = (server.home / "bot").glob("token-*.json")
    assert path.stat().st_mode & 0o077 == 0
    return [value for value in json.loads(path.read_text()).values() if isinstance(value, str) and len(value) > 8]


def test_four_sessions_of_one_account_traded_at_once_under_two_workers(day):
    assert {name.split("/")[1] for name in day.alive} == set(Underlying)
    assert day.bought_then[0][0] > 0
    assert day.violations == ()


def test_the_accounts_loss_halted_every_session_and_none_bought_afterwards(day):
    assert day.halted == set(day.alive)
    assert day.bought_at_the_end == day.bought_then


def test_every_session_ended_flat_and_its_evening_agrees_with_the_broker(day):
    assert day.stopped[0] == 0, day.stopped[1]
    assert day.states == ["Flat"] * 4, day.server.logs()
    assert {state for _, state in day.evening} == {"clean"}, day.evening


def test_the_server_has_scheduled_the_paper_session_of_the_next_mornings(day):
    """Prefect's scheduler really writes runs with the pinned packages; the worker needs nothing else to start one."""
    starts = {datetime.fromisoformat(run["expected_start_time"]).astimezone(IST) for run in day.planned}
    assert {f"{start:%H:%M}" for start in starts} == {"09:00"}


def test_a_stranger_is_refused_by_the_server(day):
    assert day.stranger == 401


def test_one_alert_of_every_kind_arrives_and_the_dead_target_is_named(day):
    code, said = day.notify_test
    assert code == 1, "one of the two targets is dead"
    (total,) = {int(number) for number in re.findall(r": \d+ of (\d+) kinds", said)}
    assert f": {total} of {total} kinds arrived" in said
    assert f": 0 of {total} kinds arrived" in said
    tested = [heard["title"] for heard in day.server.hook.heard if heard["title"].startswith("TEST · ")]
    assert len(tested) == total == len(samples(0))


def everything(url):
    """Every row of every table of a database, as text."""
    with psycopg.connect(driven(url, "postgresql")) as connection:
        names = connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'").fetchall()
        select = sql.SQL("SELECT * FROM {}")
        return {name: sorted(map(repr, connection.execute(select.format(sql.Identifier(name))))) for (name,) in names}


def test_a_backup_comes_back_whole_in_empty_databases(day):
    server, urls = day.server, day.urls
    (ledger_file,) = (server.home / "bot" / "backups").glob("ledger-*")
    (prefect_file,) = (server.home / "bot" / "backups").glob("prefect-*")
    again = driven(urls["ledger_again"], "postgresql+psycopg")
    code, said = server.bot("restore", ledger_file, BOT_LEDGER_URL=again)
    assert code == 0, said
    assert "the ledger is sound" in said
    code, said = server.bot(
        "restore",
        prefect_file,
        "--prefect",
        PREFECT_SERVER_DATABASE_CONNECTION_URL=driven(urls["prefect_again"], "postgresql+asyncpg"),
    )
    assert code == 0, said
    for name in ("ledger", "prefect"):
        before = everything(urls[name])
        assert everything(urls[f"{name}_again"]) == before
        assert sum(map(len, before.values())) > 100, f"there is something in {name}"
    code, said = server.bot("restore", ledger_file, BOT_LEDGER_URL=again)
    assert code == 1
    assert "empty database" in said


def spellings(secret):
    """A secret as it may turn up: plain, in a URL, in JSON, in base64 wherever it begins."""
    yield secret
    yield quote(secret, safe="")
    yield quote_plus(secret)
    yield json.dumps(secret)[1:-1]
    for shift in range(3):
        coded = base64.b64encode(b"\0" * shift + secret.encode()).decode()
        # The first and the last group mix with what stands beside the secret.
        yield coded[4 if shift else 0 : -4]


def places(day):
    """Everything that a person or a program could read afterwards, by name."""
    server = day.server
    for name in ("ledger", "prefect"):
        for table, rows in everything(day.urls[name]).items():
            yield f"{name}: {table}", "\n".join(rows)
    for path in server.home.rglob("*"):
        # The simulator is the broker's side; the token file is where the token belongs; backups are these databases.
        if path.is_file() and not path.name.startswith(("simulator", "token-")) and path.suffix != ".dump":
            yield str(path.relative_to(server.home)), path.read_bytes().decode(errors="replace")
    yield "what was sent", json.dumps(server.hook.heard)
    yield "what commands printed", "\n".join(server.outputs)


def test_no_secret_shows_anywhere(day):
    assert any(fault["used"] for fault in day.faults if fault["fault"] == "token_death"), day.faults
    assert sum(bool(fault["used"] or fault["began_ms"]) for fault in day.faults) >= 3, day.faults
    secrets = {**SECRETS, **{f"minted token {number}": token for number, token in enumerate(day.tokens)}}
    seen = {}
    size = 0
    for place, text in places(day):
        size += len(text)
        for name, secret in secrets.items():
            if any(spelling in text for spelling in spellings(secret)):
                seen.setdefault(place, set()).add(name)
    assert seen == {}
    assert size > 100_000, "there was something to search"


def test_the_search_finds_a_secret_that_is_there():
    secret = SECRETS["ledger password"]
    for text in (secret, quote(secret, safe=""), base64.b64encode(f"user:{secret}".encode()).decode(), f'"{secret}"'):
        assert any(spelling in f"before {text} after" for spelling in spellings(secret))
