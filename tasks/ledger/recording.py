"""The two ways of recording, and the one of reading, that the parts of the ledger share."""

# ruff: noqa: S608  SQL is put together from names in this package alone; every value is a parameter

from collections.abc import Iterable, Sequence
from typing import Any, TypeVar

from tasks.ledger import LedgerRefused
from tasks.ledger.database import Database, Transaction, insert_sql
from tasks.ledger.rows import SQLITE_WIRE, Batch, ManyRows, Row, Shape, Wire

R = TypeVar("R")
_UNFIT = (TypeError, ValueError, OverflowError, AttributeError)


def encoded(shape: Shape[R], wire: Wire, records: Iterable[R]) -> Batch:
    """The rows of `records`; LedgerRefused for values that no database can keep as they are."""
    try:
        return shape.encode(wire, records)
    except _UNFIT as fault:
        raise _refused(fault) from fault


def encoded_row(shape: Shape[R], wire: Wire, record: R) -> Row:
    """The row of one record; LedgerRefused like `encoded`."""
    try:
        return shape.row(wire, record)
    except _UNFIT as fault:
        raise _refused(fault) from fault


def _refused(fault: Exception) -> LedgerRefused:
    return LedgerRefused(
        f"expected whole numbers, text and times that a database can keep, found others: {fault};"
        " nothing was recorded: correct the record"
    )


def as_stored(shape: Shape[R], record: R, **elsewhere: Any) -> R:
    """The record as it would be read back: explanations as JSON knows them, text as databases take it."""
    return shape.decoder(SQLITE_WIRE)(shape.row(SQLITE_WIRE, record), **elsewhere)


def record_once(database: Database, table: str, shape: Shape[R], record: R, key: Sequence[str]) -> None:
    """Insert a row that is new or the same as recorded; LedgerRefused when another has its key."""
    row = encoded_row(shape, database.wire, record)
    values = [row[shape.columns.index(column)] for column in key]
    where = " AND ".join(f"{column} = ?" for column in key)

    def work(transaction: Transaction) -> None:
        if transaction.run(insert_sql(table, shape.columns, skip_known=True), *row):
            return
        known = transaction.rows(f"SELECT {shape.listed} FROM {table} WHERE {where}", *values)
        decode = shape.decoder(database.wire)
        if [decode(found) for found in known] != [as_stored(shape, record)]:
            raise LedgerRefused(
                f"expected a new {table} or the same as recorded, found another one under {values};"
                " nothing was recorded: use an id (or a fence) of its own"
            )

    database.write(work)


def record_new(database: Database, table: str, columns: tuple[str, ...], rows: ManyRows) -> None:
    """Insert many rows in one commit, skipping those whose key is known."""
    if rows:
        database.write(lambda transaction: transaction.insert_new(table, columns, rows))


def read(database: Database, shape: Shape[R], source: str, *values: Any) -> tuple[R, ...]:
    """The records of `SELECT … FROM source`."""
    decode = shape.decoder(database.wire)
    rows = database.rows(f"SELECT {shape.listed} FROM {source}", *values)
    return tuple(decode(row) for row in rows)
