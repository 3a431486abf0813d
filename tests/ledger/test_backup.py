"""A backup is the whole database, private and read back; a restore gives it back and overwrites nothing."""

import sqlite3
import stat
from contextlib import closing

import psycopg
import pytest
from psycopg import sql

from deployments import backup
from deployments.backup import BackupFailed, back_up, restore, restore_ledger
from strategy.events import Side
from tasks.ledger.check import check
from tasks.ledger.store import Ledger

pytestmark = pytest.mark.usefixtures("postgres_programs")


@pytest.fixture
def traded(ledger, lease, day):
    """A ledger with a day in it: a round trip, its charges, a candle."""
    del lease
    ledger.record_start(day.start())
    ledger.record_intent(day.intent(1))
    ledger.record_order_event(day.event(1))
    ledger.record_fill(day.fill(1))
    ledger.record_intent(day.intent(2, side=Side.SELL))
    ledger.record_fill(day.fill(2))
    ledger.record_charges([day.charge(1), day.charge(2)])
    ledger.record_candles([day.candle(1)])
    return ledger


def contents(url):
    """Every table and view of a database, in an order of its own."""
    if url.startswith("sqlite"):
        with closing(sqlite3.connect(url.removeprefix("sqlite:///"))) as connection:
            names = connection.execute("SELECT name FROM sqlite_master WHERE type IN ('table', 'view')").fetchall()
            return {name: sorted(map(repr, connection.execute(f'SELECT * FROM "{name}"'))) for (name,) in names}
    with psycopg.connect(url.replace("+psycopg", "")) as connection:
        names = connection.execute(
            "SELECT table_name FROM information_schema.tables WHERE table_schema = 'public'"
        ).fetchall()
        select = sql.SQL("SELECT * FROM {}")
        return {name: sorted(map(repr, connection.execute(select.format(sql.Identifier(name))))) for (name,) in names}


@pytest.fixture
def other_url(ledger_url, tmp_path, request):
    """An empty database of the same kind."""
    if ledger_url.startswith("sqlite"):
        return f"sqlite:///{tmp_path / 'new' / 'ledger.sqlite3'}"
    return request.getfixturevalue("postgres_url")


def test_what_comes_back_is_what_was_there_while_the_ledger_stays_open(traded, ledger_url, other_url, tmp_path, day):
    made = back_up(ledger_url, tmp_path / "backups", "ledger")
    assert stat.S_IMODE(made.path.stat().st_mode) == 0o600
    before = contents(ledger_url)
    assert len(before["fill"]) == 2
    restore_ledger(made.path, other_url)
    assert contents(other_url) == before
    with closing(Ledger(other_url)) as restored:
        assert check(restored) == check(traded)
        # History is still append-only there, and trading can go on.
        assert restored.intents(day.session_id) == traded.intents(day.session_id)
        restored.record_intent(day.intent(3, trade=2))


def test_a_restore_overwrites_nothing(traded, ledger_url, tmp_path):
    made = back_up(ledger_url, tmp_path, "ledger")
    before = contents(ledger_url)
    with pytest.raises(BackupFailed, match="expected"):
        restore(made.path, ledger_url)
    assert contents(ledger_url) == before


def test_a_file_that_is_no_backup_leaves_nothing_behind(ledger_url, other_url, tmp_path):
    bad = tmp_path / ("bad.sqlite3" if ledger_url.startswith("sqlite") else "bad.dump")
    bad.write_bytes(b"no backup at all, and long enough to be looked at " * 40)
    with pytest.raises(BackupFailed):
        restore(bad, other_url)
    made = back_up(ledger_url, tmp_path, "ledger")
    restore(made.path, other_url)  # still empty


def test_old_ones_go_and_others_stay(ledger_url, tmp_path, monkeypatch):
    (tmp_path / "prefect-20260101-000000.sqlite3").touch()
    (tmp_path / "prefect-20260101-000000.dump").touch()
    moments = iter(range(1_795_000_000_000, 1_795_000_010_000, 1_000))
    monkeypatch.setattr(backup, "real_now_ms", lambda: next(moments))
    made = [back_up(ledger_url, tmp_path, "ledger", kept=2).path for _ in range(4)]
    assert sorted(tmp_path.glob("ledger-*[!l]")) == made[-2:]
    assert len(list(tmp_path.glob("prefect-*"))) == 2


def test_a_failed_backup_leaves_the_earlier_ones_and_no_half_file(tmp_path):
    (tmp_path / "ledger-20260101-000000.sqlite3").touch()
    with pytest.raises(BackupFailed, match="expected at"):
        back_up(f"sqlite:///{tmp_path / 'absent.sqlite3'}", tmp_path, "ledger")
    assert [path.name for path in tmp_path.iterdir()] == ["ledger-20260101-000000.sqlite3"]


def test_a_password_shows_neither_on_the_command_line_nor_in_an_error(tmp_path, monkeypatch):
    called = []

    def run(command, **options):
        called.append((command, options["env"]))
        return type("Done", (), {"returncode": 1, "stderr": 'connection as "bot" with CANARY-password failed'})()

    monkeypatch.setattr(backup.subprocess, "run", run)
    with pytest.raises(BackupFailed) as raised:
        back_up("postgresql+psycopg://bot:CANARY-password@127.0.0.1:5/ledger", tmp_path, "ledger")
    ((command, environment),) = called
    assert environment["PGPASSWORD"] == "CANARY-password"
    assert "CANARY" not in " ".join(map(str, command)) + str(raised.value)
    assert list(tmp_path.iterdir()) == []


def test_without_the_databases_programs_it_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(BackupFailed, match="postgresql-client"):
        back_up("postgresql+psycopg://bot@127.0.0.1:5/ledger", tmp_path, "ledger")
