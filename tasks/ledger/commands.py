"""What operators ask of a running session, and its answers. The loop polls for the open ones."""

# ruff: noqa: S608  SQL is put together from names in this package alone; every value is a parameter

from typing import Any

from tasks.ledger.database import Database, insert_sql
from tasks.ledger.recording import record_once
from tasks.ledger.records import CommandRecord
from tasks.ledger.rows import Shape, clean

COMMAND = Shape(CommandRecord, without=["answer", "answered_at_ms"])
_COMMANDS = (
    "SELECT a.answer, a.answered_at, "
    + ", ".join(f"c.{column}" for column in COMMAND.columns)
    + " FROM command c LEFT JOIN command_answer a ON a.command_id = c.command_id"
    " WHERE {where} ORDER BY c.requested_at, c.command_id"
)
_NEW_ANSWER = insert_sql("command_answer", ("command_id", "answer", "answered_at"), skip_known=True)


def request_command(database: Database, command: CommandRecord) -> None:
    """Ask the session for something."""
    record_once(database, "command", COMMAND, command, ["command_id"])


def open_commands(database: Database, session_id: str) -> tuple[CommandRecord, ...]:
    """Requests without an answer, oldest first."""
    return _commands(database, "c.session_id = ? AND a.command_id IS NULL", session_id)


def answer_command(database: Database, command_id: str, answer: str, at_ms: int) -> bool:
    """Say what became of a command; False when it was answered before (that answer holds)."""
    row = (command_id, clean(answer), database.wire.moment(at_ms))
    return bool(database.write(lambda transaction: transaction.run(_NEW_ANSWER, *row)))


def command(database: Database, command_id: str) -> CommandRecord | None:
    """A command with its answer, if it has one; None for an unknown id."""
    found = _commands(database, "c.command_id = ?", command_id)
    return found[0] if found else None


def _commands(database: Database, where: str, *values: Any) -> tuple[CommandRecord, ...]:
    decode, at_ms = COMMAND.decoder(database.wire), database.wire.at_ms
    return tuple(
        decode(row, answer=answer, answered_at_ms=None if answered_at is None else at_ms(answered_at))
        for answer, answered_at, *row in database.rows(_COMMANDS.format(where=where), *values, urgent=True)
    )
