"""PostgreSQL by psycopg 3: two pools (urgent and patient), COPY for batches, bounded waits."""

import logging
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from itertools import chain, islice
from typing import Any, TypeVar
from urllib.parse import urlsplit

import psycopg
from psycopg_pool import ConnectionPool, PoolClosed

from tasks.ledger import LedgerRefused, LedgerUnavailable
from tasks.ledger.database import insert_sql
from tasks.ledger.rows import Row, Wire

T = TypeVar("T")
Connection = psycopg.Connection[Row]

# Below this many rows a prepared INSERT per row is faster than COPY through a staging table.
COPY_FROM_ROWS = 64
# The pool reports each failed reconnection itself; the caller has heard it from LedgerUnavailable.
logging.getLogger("psycopg.pool").setLevel(logging.ERROR)


@lru_cache(maxsize=512)
def _in_psycopg(sql: str) -> bytes:
    return sql.replace("?", "%s").encode()


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

    def insert_new(self, table: str, columns: Sequence[str], rows: Iterable[Row]) -> None:
        """Insert many rows, skipping those whose key is known (COPY cannot skip: hence the staging table)."""
        first, rest = _split(rows)
        if len(first) < COPY_FROM_ROWS:
            self._many(insert_sql(table, columns, skip_known=True), first)
            return
        listed = ", ".join(columns)
        staging = f"{table}_arriving"
        self._connection.execute(
            f"CREATE TEMP TABLE IF NOT EXISTS {staging} ON COMMIT DELETE ROWS"  # noqa: S608  names are ours
            f" AS SELECT {listed} FROM {table} WITH NO DATA".encode()
        )
        self._copy(staging, columns, chain(first, rest))
        self._connection.execute(
            f"INSERT INTO {table} ({listed}) SELECT {listed} FROM {staging} ON CONFLICT DO NOTHING".encode()  # noqa: S608  names are ours
        )

    def insert(self, table: str, columns: Sequence[str], rows: Iterable[Row]) -> None:
        """Insert many rows."""
        first, rest = _split(rows)
        if len(first) < COPY_FROM_ROWS:
            self._many(insert_sql(table, columns, skip_known=False), first)
        else:
            self._copy(table, columns, chain(first, rest))

    def _many(self, sql: str, rows: Sequence[Row]) -> None:
        if rows:
            self._connection.cursor().executemany(_in_psycopg(sql), rows)

    def _copy(self, table: str, columns: Sequence[str], rows: Iterable[Row]) -> None:
        listed = ", ".join(columns)
        cursor = self._connection.cursor()
        types = [column.type_code for column in _described(cursor, f"SELECT {listed} FROM {table} LIMIT 0")]  # noqa: S608  names are ours
        with cursor.copy(f"COPY {table} ({listed}) FROM STDIN (FORMAT BINARY)".encode()) as copy:
            copy.set_types(types)
            for row in rows:
                copy.write_row(row)


def _described(cursor: psycopg.Cursor[Row], sql: str) -> Sequence[psycopg.Column]:
    return cursor.execute(sql.encode()).description or ()


def _split(rows: Iterable[Row]) -> tuple[list[Row], Iterable[Row]]:
    rest = iter(rows)
    return list(islice(rest, COPY_FROM_ROWS)), rest


class _ConnectionDied(Exception):  # noqa: N818  what happened, seen only in this file
    def __init__(self, cause: psycopg.Error) -> None:
        super().__init__(str(cause))
        self.cause = cause


class PostgresDatabase:
    """A ledger on a server."""

    wire = Wire()
    share_lock = " FOR SHARE"
    row_lock = " FOR NO KEY UPDATE"

    def __init__(self, url: str, *, urgent_timeout_s: float, patient_timeout_s: float) -> None:
        conninfo = url.replace("postgresql+psycopg://", "postgresql://", 1)
        parts = urlsplit(conninfo)
        self.place = f"{parts.hostname or 'local'}{parts.path}"
        self._timeouts = {True: urgent_timeout_s, False: patient_timeout_s}
        self._pools = {urgent: _pool(conninfo, timeout_s) for urgent, timeout_s in self._timeouts.items()}

    def write(self, work: Callable[[PostgresTransaction], T], *, urgent: bool = False) -> T:
        """Run `work` in one transaction and commit it; once more if the connection proves to be dead."""
        return self._run(work, urgent=urgent)

    def rows(self, sql: str, *values: Any) -> list[Row]:
        """Read, seeing one consistent state."""
        return self._run(lambda transaction: transaction.rows(sql, *values), urgent=False)

    def close(self) -> None:
        """Close every connection."""
        for pool in self._pools.values():
            pool.close()

    def _run(self, work: Callable[[PostgresTransaction], T], *, urgent: bool) -> T:
        try:
            return self._attempt(work, urgent=urgent)
        except _ConnectionDied:
            pass
        # The server restarted since the connection was last used: replace the dead ones and repeat.
        try:
            self._pools[urgent].check()
            return self._attempt(work, urgent=urgent)
        except _ConnectionDied as fault:
            raise self._explained(fault.cause, self._timeouts[urgent]) from fault.cause

    def _attempt(self, work: Callable[[PostgresTransaction], T], *, urgent: bool) -> T:
        connection: Connection | None = None
        try:
            with self._pools[urgent].connection() as connection:
                return work(PostgresTransaction(connection))
        except psycopg.Error as fault:
            if connection is not None and connection.broken:
                raise _ConnectionDied(fault) from fault
            raise self._explained(fault, self._timeouts[urgent]) from fault

    def _explained(self, fault: psycopg.Error, timeout_s: float) -> LedgerUnavailable:
        text = " ".join(str(fault).split())
        if isinstance(fault, psycopg.IntegrityError | psycopg.DataError | psycopg.errors.RaiseException):
            return LedgerRefused(
                f"the ledger {self.place} refused a row: {text}; nothing was recorded, repeating it cannot help"
            )
        if isinstance(fault, PoolClosed):
            next_step = "open it again"
        elif isinstance(fault, psycopg.errors.UndefinedTable | psycopg.errors.UndefinedColumn):
            next_step = "bring its schema up to date with migrate(url)"
        else:
            next_step = f"waited up to {timeout_s:g} s; check that the server runs, then record it again"
        return LedgerUnavailable(f"the ledger {self.place} cannot be used: {text}; {next_step}")


def _pool(conninfo: str, timeout_s: float) -> "ConnectionPool[Connection]":
    limit_ms = round(timeout_s * 1000)

    def bound(connection: Connection) -> None:
        connection.execute(f"SET statement_timeout = {limit_ms}".encode())
        connection.execute(f"SET idle_in_transaction_session_timeout = {2 * limit_ms}".encode())
        connection.execute(b"SET timezone = 'UTC'")
        connection.commit()

    return ConnectionPool(
        conninfo,
        min_size=1,
        max_size=4,
        timeout=timeout_s,
        num_workers=1,
        open=True,
        configure=bound,
        kwargs={
            "connect_timeout": max(2, round(timeout_s)),
            "keepalives_idle": 5,
            "tcp_user_timeout": limit_ms,
            "application_name": "bot ledger",
        },
    )
