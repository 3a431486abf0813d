"""The results of sweeps: one SQLite file, a row per combination, written as they come.

A sweep is named by what it is about (recordings by content, dates, fixed settings, model, version of the rules), so a
sweep that was killed goes on where it was, and a changed one begins anew.

Invariants:
1. A combination of a sweep has one row, however often it is computed.
2. What `add` returned for is on the disk.
"""

import json
import sqlite3
from collections.abc import Iterable
from dataclasses import asdict, fields
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tasks.backtest.outcome import Outcome

_SCHEMA = """
CREATE TABLE IF NOT EXISTS sweep (sweep TEXT PRIMARY KEY, about TEXT NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS outcome (
    sweep TEXT NOT NULL REFERENCES sweep, key TEXT NOT NULL, chosen TEXT NOT NULL,
    days INTEGER NOT NULL, trades INTEGER NOT NULL, wins INTEGER NOT NULL, gross_paise INTEGER NOT NULL,
    charges_paise INTEGER NOT NULL, net_paise INTEGER NOT NULL, drawdown_paise INTEGER NOT NULL, profit_factor REAL,
    p_value REAL, sharpe REAL, skew REAL, kurtosis REAL, months TEXT NOT NULL, PRIMARY KEY (sweep, key)
) STRICT, WITHOUT ROWID;
"""
_COLUMNS = [field.name for field in fields(Outcome)]


class SweepStore:
    """The results of one sweep. One process writes at a time; others may read."""

    def __init__(self, file: Path, sweep: str, about: str) -> None:
        file.parent.mkdir(parents=True, exist_ok=True)
        self._sweep = sweep
        self._database = sqlite3.connect(file, timeout=30)
        self._database.execute("PRAGMA journal_mode = WAL")
        self._database.executescript(_SCHEMA)
        with self._database:
            self._database.execute("INSERT OR IGNORE INTO sweep VALUES (?, ?)", (sweep, about))

    def __enter__(self) -> Self:
        """Use it in a with statement."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the file."""
        self._database.close()

    def known(self) -> set[str]:
        """The keys of what is there already."""
        return {key for (key,) in self._database.execute("SELECT key FROM outcome WHERE sweep = ?", (self._sweep,))}

    def add(self, outcomes: Iterable[tuple[Outcome, dict[str, Any]]]) -> int:
        """Write outcomes with the settings they are of, in one commit; return how many were new."""
        rows = [
            (self._sweep, json.dumps(chosen, default=str, sort_keys=True), *_values(outcome))
            for outcome, chosen in outcomes
        ]
        names = ", ".join(("sweep", "chosen", *_COLUMNS))
        marks = ", ".join("?" * (len(_COLUMNS) + 2))
        with self._database:
            before = self._database.total_changes
            self._database.executemany(f"INSERT OR IGNORE INTO outcome ({names}) VALUES ({marks})", rows)  # noqa: S608
            return self._database.total_changes - before

    def outcomes(self) -> list[tuple[Outcome, dict[str, Any]]]:
        """All there are, in the order of their keys."""
        names = ", ".join(("chosen", *_COLUMNS))
        rows = self._database.execute(
            f"SELECT {names} FROM outcome WHERE sweep = ? ORDER BY key",  # noqa: S608 (our own column names)
            (self._sweep,),
        )
        return [(_outcome(values), json.loads(chosen)) for chosen, *values in rows]


def _values(outcome: Outcome) -> tuple[Any, ...]:
    values = asdict(outcome)
    values["months"] = json.dumps(outcome.months)
    return tuple(values[name] for name in _COLUMNS)


def _outcome(values: list[Any]) -> Outcome:
    named = dict(zip(_COLUMNS, values, strict=True))
    named["months"] = json.loads(named["months"])
    return Outcome(**named)
