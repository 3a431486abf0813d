"""Bring a ledger's schema up (or down), in-process and in one transaction.

Two processes that migrate together do it one after the other: by SQLite's write lock, or an advisory lock of
PostgreSQL.
"""

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import alembic.command
from alembic.config import Config
from sqlalchemy import Connection, create_engine, event, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import NullPool

from tasks.ledger import LedgerUnavailable
from tasks.ledger.sqlite import path_of
from tasks.ledger.tables import SQLITE_ALONE

HERE = Path(__file__).parent
LOCK_TIMEOUT_S = 30
# Any number that nothing else in the database uses.
ADVISORY_LOCK = 7_203_317_001


def migrate(url: str, revision: str = "head") -> None:
    """Upgrade the ledger of `url` to `revision`, creating the file of a SQLite one. LedgerUnavailable."""
    if url.startswith("sqlite"):
        path = path_of(url)
        path.parent.mkdir(parents=True, exist_ok=True)
        os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
    with connected(url) as connection:
        alembic.command.upgrade(configuration(connection), revision)


def downgrade(url: str, revision: str) -> None:
    """Take the ledger of `url` back to `revision` ("base": nothing is left). LedgerUnavailable."""
    with connected(url) as connection:
        alembic.command.downgrade(configuration(connection), revision)


def is_compared(_item: object, name: str | None, *_where: object) -> bool:
    """For Alembic's comparison, which takes a constraint of one database alone for one that the other lacks."""
    return name != SQLITE_ALONE


def configuration(connection: Connection) -> Config:
    """Alembic's settings for one run on an open connection."""
    config = Config()
    config.set_main_option("script_location", str(HERE))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    return config


@contextmanager
def connected(url: str) -> Iterator[Connection]:
    """A connection in a transaction that nobody else migrates in; committed at the end."""
    sqlite = url.startswith("sqlite")
    engine = create_engine(
        url.replace("postgresql://", "postgresql+psycopg://", 1),
        poolclass=NullPool,
        connect_args={"timeout": LOCK_TIMEOUT_S} if sqlite else {"connect_timeout": LOCK_TIMEOUT_S},
    )
    if sqlite:
        event.listen(engine, "connect", _without_implicit_transactions)
        event.listen(engine, "begin", _begin_immediate)
    try:
        with engine.begin() as connection:
            if not sqlite:
                connection.execute(text(f"SET LOCAL lock_timeout = '{LOCK_TIMEOUT_S}s'"))
                connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": ADVISORY_LOCK})
            yield connection
    except DBAPIError as fault:
        place = engine.url.render_as_string(hide_password=True)
        raise LedgerUnavailable(
            f"the ledger {place} could not be migrated and is as it was: {fault.orig};"
            " check that the database can be reached and written, then migrate again"
        ) from fault
    finally:
        engine.dispose()


def _without_implicit_transactions(connection: sqlite3.Connection, _record: object) -> None:
    connection.isolation_level = None  # the driver would begin before some statements only
    connection.execute("PRAGMA journal_mode = WAL")


def _begin_immediate(connection: Connection) -> None:
    connection.exec_driver_sql("BEGIN IMMEDIATE")
