"""Two databases, one way to use them: short transactions, bounded waits, and one kind of failure.

Invariants:
1. A `write` is one transaction: all of `work` is committed, or nothing is and LedgerUnavailable says why.
2. No wait is unbounded: `urgent` writes give up after `urgent_timeout_s`, others after `patient_timeout_s`.
3. `work` may run again (on a new connection for a broken one), so it must be repeatable; every recording is.
4. Safe from several threads. Urgent writes have connections of their own.
"""

# ruff: noqa: S608  SQL is put together from names in this package alone; every value is a parameter

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, Protocol, TypeVar

from tasks.ledger.rows import ManyRows, Row, Wire

T = TypeVar("T")
NewRow = tuple[str, tuple[str, ...], Row]  # table, columns, values

URGENT_TIMEOUT_S = 0.5  # the trading loop may be waiting: an exit goes out by the journal after about a second
PATIENT_TIMEOUT_S = 10.0
# The revision of migrations/versions that this code was written for.
SCHEMA_REVISION = "0005"
VERSION_TABLE = "bot_alembic_version"


class Transaction(Protocol):
    """Statements of one transaction. Parameters are `?` on both databases."""

    def rows(self, sql: str, *values: Any) -> list[Row]:
        """What a query (or a statement with RETURNING) gives."""
        ...

    def run(self, sql: str, *values: Any) -> int:
        """Execute; how many rows it touched."""
        ...

    def insert_new(self, table: str, columns: tuple[str, ...], rows: ManyRows) -> None:
        """Insert many rows at once, skipping those whose key is known."""
        ...

    def insert(self, table: str, columns: tuple[str, ...], rows: ManyRows) -> None:
        """Insert many rows at once, none of which is known."""
        ...


class Database(Protocol):
    """A place for rows; `place` names it in messages, without a password."""

    place: str
    # Appended to a SELECT whose row must not change before the commit; SQLite has one writer anyway.
    share_lock: str
    row_lock: str

    @property
    def wire(self) -> Wire:
        """How the driver takes and gives times and dates."""
        ...

    def write(self, work: Callable[[Transaction], T], *, urgent: bool = False) -> T:
        """Run `work` in one transaction and commit it. LedgerUnavailable, or what `work` itself raises."""
        ...

    def insert_if(self, guard: tuple[str, Row], rows: Sequence[NewRow]) -> bool:
        """Commit `rows` in one urgent transaction if the query `guard` finds a row; False: nothing was done.

        The `lease` that the guard finds cannot change before the commit. A remote database is asked once.
        """
        ...

    def rows(self, sql: str, *values: Any, urgent: bool = False) -> list[Row]:
        """Read, seeing one consistent state. LedgerUnavailable."""
        ...

    def close(self) -> None:
        """Give the connections back; idempotent."""
        ...


def open_database(
    url: str, *, urgent_timeout_s: float = URGENT_TIMEOUT_S, patient_timeout_s: float = PATIENT_TIMEOUT_S
) -> Database:
    """The database of `url`: sqlite:///path or postgresql+psycopg://…; ValueError for anything else."""
    if url.startswith("sqlite:///"):
        from tasks.ledger.sqlite import SqliteDatabase  # noqa: PLC0415  one of the two drivers is enough

        return SqliteDatabase(url, urgent_timeout_s=urgent_timeout_s, patient_timeout_s=patient_timeout_s)
    if url.startswith(("postgresql+psycopg://", "postgresql://")):
        from tasks.ledger.postgres import PostgresDatabase  # noqa: PLC0415  one of the two drivers is enough

        return PostgresDatabase(url, urgent_timeout_s=urgent_timeout_s, patient_timeout_s=patient_timeout_s)
    scheme = url.partition(":")[0]
    raise ValueError(
        "expected a ledger URL sqlite:///path or postgresql+psycopg://user@host/name, found one that begins"
        f" with {scheme!r}; correct the ledger's URL in the settings"
    )


@lru_cache(maxsize=256)
def insert_sql(table: str, columns: tuple[str, ...], *, skip_known: bool, rows: int = 1) -> str:
    """An INSERT of so many rows with `?` for each column."""
    known = " ON CONFLICT DO NOTHING" if skip_known else ""
    marks = ", ".join("?" * len(columns))
    return f"INSERT INTO {table} ({', '.join(columns)}) VALUES {', '.join([f'({marks})'] * rows)}{known}"
