"""PostgreSQL by psycopg 3: two pools (urgent and patient), COPY for batches, bounded waits."""

# ruff: noqa: S608  SQL is put together from names in this package alone; every value is a parameter

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import lru_cache
from itertools import chain
from typing import Any, TypeVar
from urllib.parse import urlsplit

import psycopg
from psycopg.types.json import Jsonb
from psycopg_pool import ConnectionPool, PoolClosed

from tasks.clock import Deadline
from tasks.ledger import LedgerRefused, LedgerUnavailable
from tasks.ledger.database import NewRow, insert_sql
from tasks.ledger.rows import PLAIN_WIRE, ManyRows, Row
from tasks.ledger.watch import Watch

T = TypeVar("T")
Connection = psycopg.Connection[Row]

JSONB = psycopg.adapters.types["jsonb"].oid
POOL_SIZE = 4  # threads of one process that use the ledger at the same moment
# Below this many rows a prepared INSERT per row is faster than a COPY.
COPY_FROM_ROWS = 64
# The pool reports each failed reconnection itself; the caller has heard it from LedgerUnavailable.
logging.getLogger("psycopg.pool").setLevel(logging.ERROR)


@lru_cache(maxsize=512)
def _in_psycopg(sql: str) -> bytes:
    return sql.replace("?", "%s").encode()


@lru_cache(maxsize=64)
def _guarded(query: str, tables: tuple[tuple[str, tuple[str, ...]], ...]) -> bytes:
    """One statement that inserts a row into each of `tables` if `query` finds one, and says whether it did."""
    inserts = (
        f"row_{number} AS (INSERT INTO {table} ({', '.join(columns)})"
        f" SELECT {', '.join('?' * len(columns))} FROM allowed)"
        for number, (table, columns) in enumerate(tables)
    )
    return _in_psycopg(f"WITH allowed AS ({query}), {', '.join(inserts)} SELECT COUNT(*) FROM allowed")


class PostgresTransaction:
    """Statements on one connection."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def rows(self, sql: str, *values: Any) -> list[Row]:
        """What a query gives."""
        return self._connection.execute(_in_psycopg(sql), values).fetchall()

    def run(self, sql: str, *values: Any) -> int:
        """Execute; how many rows it touched."""
        return self._connection.execute(_in_psycopg(sql), values).rowcount

    def insert_new(self, table: str, columns: tuple[str, ...], rows: ManyRows) -> None:
        """Insert many rows, skipping those whose key is known."""
        if len(rows) < COPY_FROM_ROWS:
            self._many(insert_sql(table, columns, skip_known=True), rows)
            return
        try:
            with self._connection.transaction():
                self._copy(table, columns, rows)
        except psycopg.errors.UniqueViolation:
            self._copy_unknown(table, columns, rows)

    def insert(self, table: str, columns: tuple[str, ...], rows: ManyRows) -> None:
        """Insert many rows."""
        if len(rows) < COPY_FROM_ROWS:
            self._many(insert_sql(table, columns, skip_known=False), rows)
        else:
            self._copy(table, columns, rows)

    def _copy_unknown(self, table: str, columns: tuple[str, ...], rows: ManyRows) -> None:
        """COPY cannot skip rows, so they arrive in a table beside."""
        listed = ", ".join(columns)
        arrived = f"{table}_arrived"
        self._connection.execute(
            f"CREATE TEMP TABLE {arrived} ON COMMIT DROP AS SELECT {listed} FROM {table} WITH NO DATA".encode()
        )
        self._copy(arrived, columns, rows)
        self._connection.execute(
            f"INSERT INTO {table} ({listed}) SELECT {listed} FROM {arrived} ON CONFLICT DO NOTHING".encode()
        )

    def _many(self, sql: str, rows: ManyRows) -> None:
        if rows:
            self._connection.cursor().executemany(_in_psycopg(sql), rows)

    def _copy(self, table: str, columns: tuple[str, ...], rows: Iterable[Row]) -> None:
        listed = ", ".join(columns)
        cursor = self._connection.cursor()
        described = cursor.execute(f"SELECT {listed} FROM {table} LIMIT 0".encode()).description or ()
        types = [column.type_code for column in described]
        details = [place for place, code in enumerate(types) if code == JSONB]
        with cursor.copy(f"COPY {table} ({listed}) FROM STDIN (FORMAT BINARY)".encode()) as copy:
            copy.set_types(types)
            for row in _as_json(rows, details) if details else rows:
                copy.write_row(row)


def _as_json(rows: Iterable[Row], places: Sequence[int]) -> Iterator[Row]:
    """A binary COPY takes text for a JSON column as a JSON string, unless told that it is JSON already."""
    for row in rows:
        values = list(row)
        for place in places:
            values[place] = Jsonb(values[place], dumps=str)
        yield tuple(values)


class PostgresDatabase:
    """A ledger on a server."""

    wire = PLAIN_WIRE
    share_lock = " FOR SHARE OF lease"
    row_lock = " FOR NO KEY UPDATE"

    def __init__(self, url: str, *, urgent_timeout_s: float, patient_timeout_s: float) -> None:
        conninfo = url.replace("postgresql+psycopg://", "postgresql://", 1)
        parts = urlsplit(conninfo)
        self.place = f"{parts.hostname or 'local'}{parts.path}"
        self._timeouts = {True: urgent_timeout_s, False: patient_timeout_s}
        self._watch = Watch()
        self._pools = {urgent: _pool(conninfo, timeout_s) for urgent, timeout_s in self._timeouts.items()}

    def write(self, work: Callable[[PostgresTransaction], T], *, urgent: bool = False) -> T:
        """Run `work` in one transaction and commit it; again if the connection proves to be dead."""
        return self._run(_transaction(work, read_only=False), urgent=urgent)

    def insert_if(self, guard: tuple[str, Row], rows: Sequence[NewRow]) -> bool:
        """Commit `rows` in one urgent transaction if the query `guard` finds a row.

        One statement is a transaction of its own, which the server commits before it answers: one round trip. Foreign
        keys between the rows are checked when all of them are there.
        """
        query, values = guard
        statement = _guarded(query + self.share_lock, tuple((table, columns) for table, columns, _ in rows))
        bound = (*values, *chain.from_iterable(row for _, _, row in rows))

        def work(connection: Connection) -> bool:
            return connection.execute(statement, bound).fetchall() != [(0,)]

        return self._run(work, urgent=True)

    def rows(self, sql: str, *values: Any, urgent: bool = False) -> list[Row]:
        """Read, seeing one consistent state."""
        asked = _transaction(lambda transaction: transaction.rows(sql, *values), read_only=True)
        return self._run(asked, urgent=urgent)

    def close(self) -> None:
        """Close every connection."""
        for pool in self._pools.values():
            pool.close()
        self._watch.close()

    def _run(self, work: Callable[[Connection], T], *, urgent: bool) -> T:
        pool, deadline = self._pools[urgent], Deadline(self._timeouts[urgent])
        died: psycopg.Error | None = None
        # A server that restarted has left the pool with dead connections, which fail at once: try past them all.
        for _ in range(POOL_SIZE + 1):
            connection: Connection | None = None
            try:
                connection = pool.getconn(timeout=deadline.left_s)
                with self._watch.over(connection, deadline):
                    return work(connection)
            except psycopg.Error as fault:
                if connection is None or not connection.broken or deadline.passed:
                    raise self._explained(fault, self._timeouts[urgent]) from fault
                died = fault
            finally:
                if connection is not None:
                    pool.putconn(connection)
        assert died is not None, "a loop that ends without a result has seen a connection die"
        raise self._explained(died, self._timeouts[urgent]) from died

    def _explained(self, fault: psycopg.Error, timeout_s: float) -> LedgerUnavailable:
        text = " ".join(str(fault).split())
        if isinstance(fault, psycopg.IntegrityError | psycopg.DataError | psycopg.errors.RaiseException):
            return LedgerRefused(
                f"the ledger {self.place} refused a row: {text}; it is not recorded, and cannot be as it is"
            )
        if isinstance(fault, PoolClosed):
            next_step = "open it again"
        elif isinstance(fault, psycopg.errors.UndefinedTable | psycopg.errors.UndefinedColumn):
            next_step = "bring its schema up to date with migrate(url)"
        else:
            next_step = f"waited up to {timeout_s:g} s; check that the server runs, then record it again"
        return LedgerUnavailable(f"the ledger {self.place} cannot be used: {text}; {next_step}")


def _transaction(work: Callable[[PostgresTransaction], T], *, read_only: bool) -> Callable[[Connection], T]:
    def on(connection: Connection) -> T:
        connection.read_only = read_only
        with connection.transaction():
            return work(PostgresTransaction(connection))

    return on


def _pool(conninfo: str, timeout_s: float) -> "ConnectionPool[Connection]":
    limit_ms = round(timeout_s * 1000)

    def bound(connection: Connection) -> None:
        connection.execute(f"SET statement_timeout = {limit_ms}".encode())
        connection.execute(f"SET idle_in_transaction_session_timeout = {2 * limit_ms}".encode())
        connection.execute(b"SET timezone = 'UTC'")

    return ConnectionPool(
        conninfo,
        min_size=1,
        max_size=POOL_SIZE,
        timeout=timeout_s,
        num_workers=1,
        open=True,
        configure=bound,
        kwargs={
            "autocommit": True,  # what is more than one statement says so
            "connect_timeout": max(2, round(timeout_s)),
            "keepalives_idle": 5,
            "tcp_user_timeout": limit_ms,
            "application_name": "bot ledger",
        },
    )
