"""SQLite by its own driver: WAL, synchronous=FULL, foreign keys on, one writer at a time.

Writers of this process queue on a lock (no polling), those of other processes on SQLite's busy timeout; both
waits are bounded. A commit is one sync of the write-ahead log.
"""

# ruff: noqa: S608  SQL is put together from names in this package alone; every value is a parameter

import os
import sqlite3
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import lru_cache
from itertools import chain, islice
from pathlib import Path
from typing import Any, TypeVar

from tasks.ledger import LedgerRefused, LedgerUnavailable
from tasks.ledger.database import NewRow, insert_sql
from tasks.ledger.rows import SQLITE_WIRE, ManyRows, Row

T = TypeVar("T")

# So many rows by one statement cost half of what they cost one by one; more cost no less.
ROWS_TOGETHER = 100
# A commit that finds the log this long moves it into the database, which takes a while. Patient writes do so at
# SQLite's own limit of 1,000 pages, so urgent ones find the log short, and its file long: writing over a part of it
# costs less than making it grow.
URGENT_CHECKPOINT_PAGES = 8_000


def path_of(url: str) -> Path:
    """The file of sqlite:///relative or sqlite:////absolute."""
    path = url.removeprefix("sqlite:///").partition("?")[0]
    if path in {"", ":memory:"}:
        raise ValueError(
            "expected a file in the ledger's URL (sqlite:///path), found none: several connections share the"
            " ledger, so it cannot live in memory"
        )
    return Path(path)


# The row's fault, not the database's.
_UNFIT = (sqlite3.IntegrityError, sqlite3.DataError, sqlite3.InterfaceError, OverflowError)


@lru_cache(maxsize=64)
def _guarded(query: str, table: str, columns: tuple[str, ...]) -> str:
    """One statement that inserts a row if `query` finds one."""
    marks = ", ".join("?" * len(columns))
    return f"INSERT INTO {table} ({', '.join(columns)}) SELECT {marks} FROM ({query} LIMIT 1)"


class SqliteTransaction:
    """Statements on one connection."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def rows(self, sql: str, *values: Any) -> list[Row]:
        """What a query gives."""
        return self._connection.execute(sql, values).fetchall()

    def run(self, sql: str, *values: Any) -> int:
        """Execute; how many rows it touched."""
        return self._connection.execute(sql, values).rowcount

    def insert_new(self, table: str, columns: tuple[str, ...], rows: ManyRows) -> None:
        """Insert many rows, skipping those whose key is known."""
        self._insert(table, columns, rows, skip_known=True)

    def insert(self, table: str, columns: tuple[str, ...], rows: ManyRows) -> None:
        """Insert many rows."""
        self._insert(table, columns, rows, skip_known=False)

    def _insert(self, table: str, columns: tuple[str, ...], rows: ManyRows, *, skip_known: bool) -> None:
        left = iter(rows)
        if len(rows) >= ROWS_TOGETHER:
            together = insert_sql(table, columns, skip_known=skip_known, rows=ROWS_TOGETHER)
            for _ in range(len(rows) // ROWS_TOGETHER):
                self._connection.execute(together, tuple(chain.from_iterable(islice(left, ROWS_TOGETHER))))
        self._connection.executemany(insert_sql(table, columns, skip_known=skip_known), left)


class SqliteDatabase:
    """A ledger in one file."""

    wire = SQLITE_WIRE
    share_lock = ""
    row_lock = ""

    def __init__(self, url: str, *, urgent_timeout_s: float, patient_timeout_s: float) -> None:
        self._path = path_of(url)
        self.place = str(self._path)
        self._timeouts = {True: urgent_timeout_s, False: patient_timeout_s}
        self._writing = threading.Lock()
        self._writers: dict[bool, sqlite3.Connection] = {}
        self._readers: list[sqlite3.Connection] = []
        self._closed = False
        self._file: tuple[int, int] | None = None

    def write(self, work: Callable[[SqliteTransaction], T], *, urgent: bool = False) -> T:
        """Run `work` in one transaction and commit it."""
        timeout_s = self._timeouts[urgent]
        if not self._writing.acquire(timeout=timeout_s):
            raise LedgerUnavailable(
                f"the ledger {self.place} was busy with another write for {timeout_s:g} s; record it again"
            )
        try:
            connection = self._writer(urgent=urgent)
            self._check_file()
            return self._commit(work, connection)
        except (sqlite3.Error, OverflowError) as fault:  # a number beyond 64 bits
            raise self._explained(fault, timeout_s) from fault
        finally:
            self._writing.release()

    def insert_if(self, guard: tuple[str, Row], rows: Sequence[NewRow]) -> bool:
        """Commit `rows` in one urgent transaction if the query `guard` finds a row."""
        (query, asked), ((table, columns, values), *others) = guard, rows
        guarded = _guarded(query, table, columns)

        def work(transaction: SqliteTransaction) -> bool:
            if not transaction.run(guarded, *values, *asked):
                return False
            for other, other_columns, other_values in others:
                transaction.run(insert_sql(other, other_columns, skip_known=False), *other_values)
            return True

        return self.write(work, urgent=True)

    @staticmethod
    def _commit(work: Callable[[SqliteTransaction], T], connection: sqlite3.Connection) -> T:
        connection.execute("BEGIN IMMEDIATE")
        try:
            result = work(SqliteTransaction(connection))
            connection.execute("COMMIT")
        except BaseException:
            with suppress(sqlite3.Error):
                connection.execute("ROLLBACK")
            raise
        return result

    def rows(self, sql: str, *values: Any, urgent: bool = False) -> list[Row]:  # noqa: ARG002  readers never wait
        """Read, seeing one consistent state."""
        try:
            connection = self._readers.pop()
        except IndexError:
            connection = self._connect(self._timeouts[True])
            connection.execute("PRAGMA query_only = ON")
        try:
            return connection.execute(sql, values).fetchall()
        except (sqlite3.Error, OverflowError) as fault:
            raise self._explained(fault, self._timeouts[True]) from fault
        finally:
            if self._closed:
                connection.close()
            else:
                self._readers.append(connection)

    def close(self) -> None:
        """Close every connection."""
        self._closed = True
        with self._writing:
            while self._writers:
                self._writers.popitem()[1].close()
        while self._readers:
            self._readers.pop().close()

    def _check_file(self) -> None:
        """A file that was moved or deleted still takes writes, and they are gone when the process ends."""
        try:
            found = os.stat(self.place)  # noqa: PTH116  a Path's own takes twice as long, and this is asked before each write
        except OSError as fault:
            raise LedgerUnavailable(
                f"the ledger {self.place} is no longer there: {fault}; put the file back, then restart"
            ) from fault
        if (found.st_dev, found.st_ino) != self._file:
            raise LedgerUnavailable(
                f"the ledger {self.place} is another file than the one that was opened; restart, so that what is"
                " recorded from now on is recorded there"
            )

    def _writer(self, *, urgent: bool) -> sqlite3.Connection:
        if urgent not in self._writers:
            self._writers[urgent] = self._connect(self._timeouts[urgent])
            if urgent:
                self._writers[urgent].execute(f"PRAGMA wal_autocheckpoint = {URGENT_CHECKPOINT_PAGES}")
        return self._writers[urgent]

    def _connect(self, timeout_s: float) -> sqlite3.Connection:
        if self._closed:
            raise LedgerUnavailable(f"the ledger {self.place} was closed; open it again")
        try:
            # mode=rw: a wrong path is an error, never a new and empty ledger.
            connection = sqlite3.connect(
                f"{self._path.absolute().as_uri()}?mode=rw",
                uri=True,
                timeout=timeout_s,
                isolation_level=None,
                check_same_thread=False,
            )
            connection.execute("PRAGMA foreign_keys = ON")
            connection.execute("PRAGMA recursive_triggers = ON")  # REPLACE deletes, and deletes are refused
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = FULL")
            if self._file is None:
                opened = self._path.stat()
                self._file = opened.st_dev, opened.st_ino
        except (sqlite3.Error, OSError) as fault:
            raise self._explained(fault, timeout_s) from fault
        return connection

    def _explained(self, fault: Exception, timeout_s: float) -> LedgerUnavailable:
        if isinstance(fault, _UNFIT):
            return LedgerRefused(
                f"the ledger {self.place} refused a row: {fault}; it is not recorded, and cannot be as it is"
            )
        text = str(fault)
        if "locked" in text or "busy" in text:
            next_step = f"waited {timeout_s:g} s for another process; record it again"
        elif "unable to open" in text:
            next_step = "create it with migrate(url), or correct the ledger's URL in the settings"
        elif "no such table" in text or "no such column" in text:
            next_step = "bring its schema up to date with migrate(url)"
        else:
            next_step = "check the disk (space, permissions), then record it again"
        return LedgerUnavailable(f"the ledger {self.place} cannot be used: {fault}; {next_step}")
