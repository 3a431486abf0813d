"""Backups of the databases, and their way back.

SQLite is copied by its own online backup, which sees one consistent state while sessions write; PostgreSQL by pg_dump
and pg_restore. A backup counts only once it has been read back.

Invariants:
1. A backup file appears under its name only when it is complete and was verified; it is private (0600).
2. A restore goes into an empty database only: nothing is overwritten, ever.
3. No password stands on a command line, in a message or in a file's name.
"""

import os
import shutil
import sqlite3
import subprocess
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from sqlalchemy import make_url

from tasks.clock import ist, real_now_ms
from tasks.ledger.store import migrate

SQLITE, POSTGRES = ".sqlite3", ".dump"
KEPT = 30


class BackupFailed(Exception):
    """Nothing was replaced; the message says what was expected, what was found, and the next step."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Backup:
    """One file that was written and read back."""

    path: Path
    removed: tuple[Path, ...]  # older ones of the same database

    def __str__(self) -> str:
        """For the operator."""
        older = f", {len(self.removed)} older removed" if self.removed else ""
        return f"{self.path} ({self.path.stat().st_size // 1024} KB, read back{older})"


def back_up(url: str, folder: Path, name: str, *, kept: int = KEPT) -> Backup:
    """Write the database of `url` to `folder` as NAME-DATE-TIME (IST); keep the `kept` newest of that name.

    Raises:
        BackupFailed: it could not be read, written or verified; earlier backups are untouched.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    ending = SQLITE if url.startswith("sqlite") else POSTGRES
    path = folder / f"{name}-{ist(real_now_ms()):%Y%m%d-%H%M%S}{ending}"
    part = path.with_suffix(f"{ending}.part")
    part.unlink(missing_ok=True)
    part.touch(mode=0o600)
    try:
        if ending == SQLITE:
            _copy_sqlite(_sqlite_path(url), part)
        else:
            # Custom format, without owners and rights: it goes back under whatever user the new database has.
            _run("pg_dump", url, ["--format=custom", "--no-owner", "--no-privileges", f"--file={part}"])
            _run("pg_restore", None, ["--list", str(part)])
    except BaseException:
        part.unlink(missing_ok=True)
        raise
    part.replace(path)
    older = sorted(folder.glob(f"{name}-*{ending}"))[:-kept]
    for old in older:
        old.unlink()
    return Backup(path=path, removed=tuple(older))


def restore_ledger(file: Path, url: str) -> None:
    """Bring a backup of a ledger, of this or an earlier schema, into the empty database of `url`.

    Raises:
        BackupFailed: the database is not empty, or the file is not a backup of its kind.
    """
    restore(file, url)
    migrate(url)


def restore(file: Path, url: str) -> None:
    """Bring a backup into the empty database of `url`, as it was.

    Raises:
        BackupFailed: the database is not empty, or the file is not a backup of its kind.
    """
    if not file.is_file():
        raise BackupFailed(f"A backup was expected at {file}, found no file. Look for the newest one in that folder.")
    expected = SQLITE if url.startswith("sqlite") else POSTGRES
    if file.suffix != expected:
        raise BackupFailed(
            f"A backup of this kind of database ends with {expected}, found {file.name}. Restore into the kind of "
            "database that it was made from."
        )
    if expected == SQLITE:
        target = _sqlite_path(url)
        if target.exists():
            raise BackupFailed(f"No file was expected at {target}, found one. Move it away first; it is not replaced.")
        target.parent.mkdir(parents=True, exist_ok=True)
        part = target.with_suffix(".restoring")
        _copy_sqlite(file, part)
        part.replace(target)
        return
    tables = _tables(url)
    if tables:
        raise BackupFailed(
            f"An empty database was expected, found {len(tables)} tables ({', '.join(tables[:3])}, …). Create a new "
            "database and restore into that; nothing is overwritten."
        )
    _run("pg_restore", url, ["--exit-on-error", "--single-transaction", "--no-owner", "--no-privileges", str(file)])


def _sqlite_path(url: str) -> Path:
    return Path(make_url(url).database or "")


def _copy_sqlite(source: Path, target: Path) -> None:
    try:
        with (
            closing(sqlite3.connect(f"{source.absolute().as_uri()}?mode=ro", uri=True)) as origin,
            closing(sqlite3.connect(target)) as copy,
        ):
            target.chmod(0o600)
            origin.backup(copy)
            # Without a log beside it, so that the file alone is the backup.
            copy.execute("PRAGMA journal_mode = DELETE")
            (verdict,) = copy.execute("PRAGMA integrity_check").fetchone()
    except sqlite3.Error as fault:
        target.unlink(missing_ok=True)
        raise BackupFailed(f"A readable SQLite database was expected at {source}, found: {fault}.") from None
    if verdict != "ok":
        target.unlink(missing_ok=True)
        raise BackupFailed(f"{source} is damaged: {verdict}. Keep it, and the newest backup before it; do not trade.")


def _tables(url: str) -> list[str]:
    try:
        with psycopg.connect(_conninfo(url)) as connection:
            found = connection.execute(
                "SELECT tablename FROM pg_tables WHERE schemaname = current_schema() ORDER BY tablename"
            )
            return [name for (name,) in found]
    except psycopg.Error as fault:
        raise BackupFailed(f"The database could not be opened: {_without_password(str(fault), url)}") from None


def _run(program: str, url: str | None, arguments: Sequence[str]) -> None:
    """Run one of PostgreSQL's programs; its password travels in the environment."""
    found = shutil.which(program)
    if found is None:
        raise BackupFailed(
            f"{program} was expected on the PATH, found none. Install PostgreSQL's client programs, of the server's "
            "version or newer (Debian: apt-get install postgresql-client)."
        )
    environment = dict(os.environ)
    connection = []
    if url is not None:
        parts = conninfo_to_dict(_conninfo(url))
        password = parts.pop("password", None)
        if password:
            environment["PGPASSWORD"] = str(password)
        connection = [f"--dbname={make_conninfo('', **parts)}"]
    done = subprocess.run(  # noqa: S603 (PostgreSQL's own programs)
        [found, *connection, *arguments],
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        last = "\n".join(done.stderr.strip().splitlines()[-4:])
        raise BackupFailed(f"{program} failed: {_without_password(last, url or '')}")


def _conninfo(url: str) -> str:
    """An SQLAlchemy URL (of any driver) as PostgreSQL's own."""
    return make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)


def _without_password(text: str, url: str) -> str:
    password = make_url(url).password if url else None
    return text.replace(str(password), "***") if password else text
