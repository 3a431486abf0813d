"""A day on a server without containers: two workers, four sessions of one account at once, and secrets that must show
nowhere.

One day is run for all tests of this file: faults that make programs talkative, the account's loss limit, workers that
are restarted while the sessions trade, the evening, a backup, its way back.
"""

import base64
import json
import re
import sys
from datetime import datetime
from types import SimpleNamespace
from urllib.parse import quote, quote_plus

import psycopg
import pytest
import requests
from psycopg import sql

from strategy.instruments import Underlying
from tasks.clock import IST, real_now_ms
from tasks.ledger.check import check
from tasks.ledger.store import Ledger
from tasks.notify.samples import samples
from tasks.settings import REHEARSAL_ACCESS_TOKEN, REHEARSAL_CLIENT_ID
from tasks.trading.account import REQUESTED_BY
from tasks.trading.postman import RENEW_PERIOD_MS

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

DAY = "2026-11-20"
TRADING_WORKERS = ("worker-1", "worker-2")
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
    {"fault": "token_death", "at": {"call": "place_order", "nth": 1}},
    {"fault": "reject", "at": {"call": "place_order", "nth": 3}},
    {"fault": "bad_gateway", "at": {"call": "place_order", "nth": 4}},
    {"fault": "feed_reset", "at": {"call": "place_order", "nth": 2}, "outage_s": 5},
    {"fault": "feed_refused", "at": {"call": "place_order", "nth": 2}, "for_s": 5},
]


@pytest.fixture(scope="module")
def day(server):
    """The day, from the first unit to the backup; what the tests look at."""
    found = SimpleNamespace(server=server)
    ready = server.home / "simulator.json"
    simulator = ["-m", "simulator", "--port", "0", "--seed", "7", "--day", DAY, "--start", "14:00:00", "--speed", "1"]
    simulator += ["--client-id", REHEARSAL_CLIENT_ID, "--token", REHEARSAL_ACCESS_TOKEN, "--ready", str(ready)]
    server.start_unit("trading-bot-server.service", "prefect-server")
    server.run_unit("trading-bot-bootstrap.service")
    found.stranger = requests.get(f"{server.api_url}/flow_runs/count", timeout=30).status_code
    paper = server.call("GET", "/deployments/name/daily-session/nifty-paper")["id"]
    planned = {"deployments": {"id": {"any_": [paper]}}, "flow_runs": {"state": {"type": {"any_": ["SCHEDULED"]}}}}
    found.planned = server.wait_for(
        lambda: server.call("POST", "/flow_runs/filter", json=planned), "a run of nifty-paper that is scheduled"
    )
    server.spare_second_import()
    server.start("simulator", [sys.executable, *simulator])
    url = json.loads(server.wait_for(lambda: ready.exists() and ready.read_text(), "the simulator"))["url"]
    requests.post(f"{url}/control/faults", json=FAULTS, timeout=30).raise_for_status()
    server.environment["BOT_SIMULATOR_URL"] = url
    for name in TRADING_WORKERS:
        server.start_unit("trading-bot-worker.service", name)
    server.start_unit("trading-bot-watch.service", "watch")
    runs = [
        server.run_deployment("daily-session/rehearsal", params={"index": index, "mode": "rehearsal", **BUSY}, day=DAY)
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
        for name in TRADING_WORKERS:
            server.stop_as_systemd_does("trading-bot-worker.service", name)
        some_time_later_ms = real_now_ms() + 2 * RENEW_PERIOD_MS
        found.alive_without_workers = server.wait_for(
            lambda: heard_of(ledger, found.alive, some_time_later_ms),
            "a sign of life of each session, its worker being gone",
        )
        found.stopped_by = server.run_deployment("stop/stop", reason="test")
        found.stopped = server.wait_for(lambda: server.final_state(found.stopped_by), "the end of the run of stop")
        server.start_unit("trading-bot-worker.service", TRADING_WORKERS[0])
        found.states = [
            server.wait_for(lambda run_id=run_id: server.final_state(run_id), "the end of a session") for run_id in runs
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


def heard_of(ledger, session_ids, since_ms):
    """The sessions, once each has renewed its lease after `since_ms`; None until then."""
    leases = [ledger.leases.holder(ledger.key_of(session_id), real_now_ms()) for session_id in session_ids]
    return session_ids if all(lease is not None and lease.heartbeat_at_ms > since_ms for lease in leases) else None


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


def test_sessions_outlive_the_workers_that_started_them_and_a_control_waits_for_none_of_these(day):
    """The workers' units were stopped while all sessions traded; the run of `stop` is the watch worker's."""
    assert set(day.alive_without_workers) == set(day.alive)
    assert day.stopped == "Stopped"


def test_every_session_ended_flat_and_its_evening_agrees_with_the_broker(day):
    assert day.states == ["Flat"] * 4, day.server.logs()
    assert {state for _, state in day.evening} == {"clean"}, day.evening


def test_the_server_has_scheduled_the_paper_session_of_the_next_mornings(day):
    """Prefect's scheduler really writes runs with the pinned packages; the worker needs nothing else to start one."""
    starts = {datetime.fromisoformat(run["expected_start_time"]).astimezone(IST) for run in day.planned}
    assert {f"{start:%H:%M}" for start in starts} == {"09:00"}


def test_a_stranger_is_refused_by_the_server(day):
    assert day.stranger == 401


def test_people_hear_of_the_day_as_it_goes_and_get_each_report_with_its_chart(day):
    heard = [each for each in day.server.hook.heard if not each["title"].startswith("TEST · ")]
    told = "\n".join(f"{each['title']}\n{each['message']}" for each in heard)  # a flood comes as digests
    for occasion in ("session started", "bought ", " net · ", "halted: the account is at", "refused", "day over"):
        assert occasion in told, occasion
    reports = [each for each in heard if "report of 20 Nov" in each["title"]]
    assert len(reports) == len(day.alive)
    for report in reports:
        picture, page = report["attachments"]
        assert (picture["filename"], picture["mimetype"], page["mimetype"]) == ("day.png", "image/png", "text/html")


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
    with psycopg.connect(url) as connection:
        names = connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'").fetchall()
        select = sql.SQL("SELECT * FROM {}")
        return {name: sorted(map(repr, connection.execute(select.format(sql.Identifier(name))))) for (name,) in names}


def test_a_backup_comes_back_whole_in_empty_databases(day):
    server = day.server
    (ledger_file,) = (server.home / "bot" / "backups").glob("ledger-*")
    (prefect_file,) = (server.home / "bot" / "backups").glob("prefect-*")
    again = server.database("ledger_again", "postgresql+psycopg")
    code, said = server.bot("restore", ledger_file, BOT_LEDGER_URL=again)
    assert code == 0, said
    assert "the ledger is sound" in said
    code, said = server.bot(
        "restore",
        prefect_file,
        "--prefect",
        PREFECT_SERVER_DATABASE_CONNECTION_URL=server.database("prefect_again", "postgresql+asyncpg"),
    )
    assert code == 0, said
    for name in ("ledger", "prefect"):
        before = everything(server.database(name))
        assert everything(server.database(f"{name}_again")) == before
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
        for table, rows in everything(server.database(name)).items():
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
    secrets = {**day.server.secrets, **{f"minted token {number}": token for number, token in enumerate(day.tokens)}}
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
    secret = "canary/ledger+pass=word"
    for text in (secret, quote(secret, safe=""), base64.b64encode(f"user:{secret}".encode()).decode(), f'"{secret}"'):
        assert any(spelling in f"before {text} after" for spelling in spellings(secret))
