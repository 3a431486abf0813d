"""The database misbehaves: the caller waits a bounded time, hears LedgerUnavailable, and goes on when it can."""

import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from urllib.parse import urlsplit

import psycopg
import pytest
from psycopg import sql

from strategy.events import Side, Tick
from tasks.ledger import LedgerRefused, LedgerUnavailable
from tasks.ledger.check import check
from tasks.ledger.database import URGENT_TIMEOUT_S
from tasks.ledger.store import Ledger, migrate
from tasks.orders.execution import COMMIT_PATIENCE_S

LIMIT_S = 0.3
# Far above every limit here, far below a hang: what "bounded" means on a machine that does other things as well.
BOUND_S = 15.0


@contextmanager
def bounded() -> Iterator[None]:
    began = time.monotonic()
    yield
    assert time.monotonic() - began < BOUND_S


def plain(url: str) -> str:
    return url.replace("+psycopg", "")


@contextmanager
def locked(url: str) -> Iterator[None]:
    """Somebody else holds the ledger's write lock."""
    if url.startswith("sqlite"):
        with closing(sqlite3.connect(url.removeprefix("sqlite:///"), isolation_level=None)) as connection:
            connection.execute("BEGIN IMMEDIATE")
            yield
            connection.execute("ROLLBACK")
    else:
        with psycopg.connect(plain(url)) as connection:
            connection.execute("LOCK TABLE intent, client_order, fill, order_event, candle IN ACCESS EXCLUSIVE MODE")
            yield
            connection.rollback()


@pytest.fixture
def hasty(ledger_url, open_ledger, day):
    """A leased ledger that gives up soon."""
    ledger = open_ledger(ledger_url, urgent_timeout_s=LIMIT_S, patient_timeout_s=LIMIT_S)
    ledger.open_session(day.key, day.salt)
    ledger.leases.take(day.key, "host/1/run-1", day.at())
    return ledger


def test_a_locked_database_is_unavailable_in_bounded_time_and_then_works(hasty, ledger_url, day):
    with locked(ledger_url), bounded():
        for record in (
            lambda: hasty.record_intent(day.intent(1)),
            lambda: hasty.record_candles([day.candle(1)]),
            lambda: hasty.record_candles([day.candle(number) for number in range(100)]),
        ):
            with pytest.raises(LedgerUnavailable, match="record it again") as unavailable:
                record()
            assert not isinstance(unavailable.value, LedgerRefused)
    hasty.record_intent(day.intent(1))
    assert hasty.intents(day.session_id) == (day.intent(1),)
    assert hasty.candles(day.session_id, 5) == ()


def test_a_short_lock_is_waited_out(ledger_url, open_ledger, day):
    ledger = open_ledger(ledger_url)
    ledger.open_session(day.key, day.salt)
    ledger.leases.take(day.key, "x", day.at())
    holding, release = threading.Event(), threading.Event()

    def hold() -> None:
        with locked(ledger_url):
            holding.set()
            release.wait(BOUND_S)

    holder = threading.Thread(target=hold)
    holder.start()
    assert holding.wait(BOUND_S)
    threading.Timer(0.2, release.set).start()
    ledger.record_intent(day.intent(1))
    holder.join()
    assert release.is_set()


def test_an_intent_does_not_wait_for_a_long_batch(hasty, day):
    """The writer thread is in the middle of a batch: the loop gives up in time and turns to its journal (SQLite), or
    does not notice (PostgreSQL)."""
    inside, release = threading.Event(), threading.Event()

    def batch() -> None:
        def work(transaction) -> None:
            transaction.run("INSERT INTO security (security) VALUES (?)", "IDX_I:13")
            inside.set()
            release.wait(BOUND_S)

        hasty._database.write(work)

    writer = threading.Thread(target=batch)
    writer.start()
    try:
        assert inside.wait(BOUND_S)
        with bounded():
            if hasty.place.endswith(".sqlite"):
                with pytest.raises(LedgerUnavailable, match="busy with another write"):
                    hasty.record_intent(day.intent(1))
            else:
                hasty.record_intent(day.intent(1))
    finally:
        release.set()
        writer.join()
    hasty.record_intent(day.intent(1))


def test_a_failure_inside_a_write_leaves_nothing_and_frees_the_lock(hasty, day):
    def work(transaction) -> None:
        transaction.run("INSERT INTO security (security) VALUES (?)", "IDX_I:13")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        hasty._database.write(work)
    assert hasty.rows("SELECT COUNT(*) FROM security") == [(0,)]
    hasty.record_intent(day.intent(1))


def test_the_loop_the_writer_and_a_reader_share_a_ledger(ledger, lease, day):
    """Three threads, each at its own work; all of it is there afterwards, and the reader never saw half an intent."""
    failures: list[BaseException] = []
    writing = threading.Event()
    writing.set()

    def guarded(work) -> threading.Thread:
        def run() -> None:
            try:
                work()
            except BaseException as fault:  # noqa: BLE001  the test re-raises what a thread met
                failures.append(fault)

        return threading.Thread(target=run)

    def batches() -> None:
        for number in range(40):
            ledger.record_candles([day.candle(number)])
            ledger.record_ticks(
                day.session_id,
                [Tick(at_ms=day.at(number), security="IDX_I:13", price_paise=1 + place) for place in range(100)],
            )

    def reads() -> None:
        while writing.is_set():
            for intent in ledger.intents(day.session_id):
                assert sum(order.quantity for order in intent.orders) == intent.quantity
            ledger.open_commands(day.session_id)

    writer, reader = guarded(batches), guarded(reads)
    writer.start()
    reader.start()
    for number in range(1, 41):
        ledger.record_intent(day.intent(number, trade=number, quantity=150, slices=2))
        ledger.record_order_event(day.event(number))
        assert ledger.record_fill(day.fill(number))
    writer.join()
    writing.clear()
    reader.join()
    assert failures == []
    assert len(ledger.intents(day.session_id)) == len(ledger.fills(day.session_id)) == 40
    assert (len(ledger.candles(day.session_id, 5)), len(ledger.ticks(day.session_id))) == (40, 4_000)


def test_many_threads_record_one_fill_once(ledger, lease, day):
    """The order-update socket and the order book tell of the same fill at the same moment."""
    ledger.record_intent(day.intent(1))
    told = []
    barrier = threading.Barrier(4)

    def tell() -> None:
        barrier.wait(BOUND_S)
        told.append(ledger.record_fill(day.fill(1)))

    threads = [threading.Thread(target=tell) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(told) == [False, False, False, True]


def test_two_tellings_that_overlap_never_count_a_unit_twice(ledger, lease, day):
    """One has seen the order's parts, the other its whole, in the same moment: one of them yields, either way."""
    rounds = 25
    ledger.record_intent(day.intent(1, quantity=75 * rounds, slices=rounds))
    barrier = threading.Barrier(2)

    def tell(quantity: int) -> None:
        for slice_number in range(1, rounds + 1):
            barrier.wait(BOUND_S)
            with suppress(LedgerRefused):
                ledger.record_fill(day.fill(1, quantity, slice_number=slice_number))

    threads = [threading.Thread(target=tell, args=[quantity]) for quantity in (25, 75)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    filled = ledger.rows("SELECT SUM(quantity) FROM fill GROUP BY client_order_id")
    assert {int(quantity) for (quantity,) in filled} <= {25, 75}
    assert len(filled) == rounds


WRITER = """
import sys
from dataclasses import replace
from tasks.ledger.store import Ledger, migrate
url, session_id, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
ledger = Ledger(url)
template = ledger.intents(session_id)[0]
for number in range(2, count):
    orders = tuple(
        replace(order, client_order_id=f"w-{number}-{order.slice_number}") for order in template.orders
    )
    ledger.record_intent(replace(template, intent=number, orders=orders))
    print(number, flush=True)
"""


def test_a_killed_writer_loses_nothing_that_was_committed(ledger_url, open_ledger, day):
    """SIGKILL in the middle of committing: every intent that was reported is there, each with all of its orders."""
    ledger = open_ledger(ledger_url)
    ledger.open_session(day.key, day.salt)
    ledger.leases.take(day.key, "x", day.at())
    ledger.record_intent(day.intent(1, quantity=150, slices=2))
    writer = subprocess.Popen(
        [sys.executable, "-c", WRITER, ledger_url, day.session_id, "100000"],
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
    )
    reported = [int(writer.stdout.readline()) for _ in range(25)]
    writer.kill()
    reported += [int(line) for line in writer.stdout.read().splitlines()]
    writer.wait()
    writer.stdout.close()
    assert writer.returncode == -signal.SIGKILL
    numbers = {intent.intent for intent in ledger.intents(day.session_id)}
    assert numbers >= {1, *reported}
    assert len(numbers) <= len(reported) + 2, "at most the one in flight was not reported"
    assert check(ledger, now_ms=day.at()) == ()
    ledger.record_intent(day.intent(max(numbers) + 1))  # nothing is left locked


# SQLite


def test_a_full_disk_is_unavailable_and_what_was_there_stays(sqlite_ledger_url, open_ledger, day):
    ledger = open_ledger(sqlite_ledger_url)
    ledger.open_session(day.key, day.salt)
    writer = ledger._database._writer(urgent=False)
    pages = writer.execute("PRAGMA page_count").fetchone()[0]
    writer.execute(f"PRAGMA max_page_count = {pages}")
    candles = [day.candle(number) for number in range(1_000)]
    with pytest.raises(LedgerUnavailable, match=r"disk is full; check the disk"):
        ledger.record_candles(candles)
    assert ledger.candles(day.session_id, 5) == ()
    writer.execute("PRAGMA max_page_count = 1000000")
    ledger.record_candles(candles)
    assert len(ledger.candles(day.session_id, 5)) == 1_000


def test_a_file_that_is_no_database_is_unavailable(tmp_path):
    path = tmp_path / "ledger.sqlite"
    path.write_bytes(b"not a database, but long enough to be read as one" * 100)
    with pytest.raises(LedgerUnavailable, match="not a database; check the disk"):
        Ledger(f"sqlite:///{path}")


def test_a_file_that_was_taken_away_takes_no_more_writes(sqlite_ledger_url, open_ledger, day, tmp_path):
    """The system would go on writing into a file without a name, and lose it with the process."""
    ledger = open_ledger(sqlite_ledger_url)
    path = Path(sqlite_ledger_url.removeprefix("sqlite:///"))
    ledger.open_session(day.key, day.salt)
    path.rename(tmp_path / "elsewhere")
    with pytest.raises(LedgerUnavailable, match="no longer there"):
        ledger.record_candles([day.candle(1)])
    migrate(sqlite_ledger_url)
    with pytest.raises(LedgerUnavailable, match="another file than the one that was opened"):
        ledger.record_candles([day.candle(1)])


def test_sqlite_syncs_every_commit_and_waits_for_others(sqlite_ledger_url, open_ledger, day):
    ledger = open_ledger(sqlite_ledger_url)
    ledger.open_session(day.key, day.salt)
    for urgent in (True, False):
        connection = ledger._database._writer(urgent=urgent)
        settings = [
            connection.execute(f"PRAGMA {name}").fetchone()[0]
            for name in ("journal_mode", "synchronous", "foreign_keys", "busy_timeout")
        ]
        assert settings == ["wal", 2, 1, 500 if urgent else 10_000]


# PostgreSQL


def backends(url: str) -> list[int]:
    """Process ids of the ledger's connections."""
    with psycopg.connect(plain(url)) as connection:
        found = connection.execute(
            "SELECT pid FROM pg_stat_activity WHERE application_name = 'bot ledger' AND datname = current_database()"
        ).fetchall()
    return [pid for (pid,) in found]


def test_connections_that_died_while_idle_are_replaced(postgres_ledger_url, open_ledger, day):
    """The server was restarted at night: the first intent of the morning does not fail for it."""
    ledger = open_ledger(postgres_ledger_url)
    ledger.open_session(day.key, day.salt)
    ledger.leases.take(day.key, "x", day.at())
    ledger.record_intent(day.intent(1))
    with psycopg.connect(plain(postgres_ledger_url), autocommit=True) as connection:
        for pid in backends(postgres_ledger_url):
            connection.execute("SELECT pg_terminate_backend(%s, 5000)", [pid])
    ledger.record_intent(day.intent(2, trade=2))
    assert len(ledger.intents(day.session_id)) == 2


def test_a_server_that_hangs_is_unavailable_in_bounded_time(postgres_ledger_url, open_ledger, day):
    """The server's own timeouts do not fire in a process that is stopped; the ledger's watch does."""
    if os.environ.get("TEST_POSTGRES_URL"):
        pytest.skip("the server's processes may be on another machine: they cannot be stopped from here")
    ledger = open_ledger(postgres_ledger_url, urgent_timeout_s=LIMIT_S)
    ledger.open_session(day.key, day.salt)
    ledger.leases.take(day.key, "x", day.at())
    stopped = backends(postgres_ledger_url)
    with psycopg.connect(plain(postgres_ledger_url), dbname="postgres", autocommit=True) as admin:
        database = sql.Identifier(urlsplit(postgres_ledger_url).path.strip("/"))
        # A hanging server takes no new connections either.
        admin.execute(sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS false").format(database))
        for pid in stopped:
            os.kill(pid, signal.SIGSTOP)
        try:
            with bounded(), pytest.raises(LedgerUnavailable, match="record it again"):
                ledger.record_intent(day.intent(1))
        finally:
            for pid in stopped:
                os.kill(pid, signal.SIGCONT)
            admin.execute(sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS true").format(database))
    ledger.record_intent(day.intent(1))
    assert ledger.intents(day.session_id) == (day.intent(1),)


def test_a_server_that_is_not_there_is_unavailable_in_bounded_time():
    url = "postgresql+psycopg://bot:secret@127.0.0.1:9/ledger"
    with bounded(), pytest.raises(LedgerUnavailable, match=r"127\.0\.0\.1/ledger cannot be used") as unavailable:
        Ledger(url, urgent_timeout_s=LIMIT_S, patient_timeout_s=LIMIT_S)
    assert "secret" not in str(unavailable.value)


def test_no_thread_outlives_a_closed_ledger(postgres_ledger_url, day):
    before = set(threading.enumerate())
    ledger = Ledger(postgres_ledger_url)
    ledger.open_session(day.key, day.salt)
    assert set(threading.enumerate()) > before
    ledger.close()
    assert set(threading.enumerate()) == before


def test_side_is_a_side(ledger, lease, day):
    """Enumerations come back as such, whatever the driver makes of them."""
    ledger.record_intent(day.intent(1))
    assert ledger.intents(day.session_id)[0].side is Side.BUY


def test_an_exit_waits_for_the_ledger_no_longer_than_a_second():
    # Attempts begin for so long, and the last of them may take its own limit.
    assert COMMIT_PATIENCE_S + URGENT_TIMEOUT_S <= 1.0
