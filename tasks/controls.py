"""What an operator can do to running sessions: write a command into the ledger and wait for its answer.

A session polls the ledger (`postman.py`); whoever asks needs neither the session's process nor Prefect.
"""

import secrets
from collections.abc import Mapping
from typing import Any

from strategy.instruments import Underlying
from tasks.clock import Deadline, pause, real_now_ms
from tasks.ledger.records import CommandRecord
from tasks.ledger.store import Ledger

ANSWER_TIMEOUT_S = 60.0


class NoSessionAlive(Exception):
    """Nobody trades, so nobody can be asked."""


def ask_sessions(
    ledger: Ledger,
    *,
    kind: str,
    reason: str,
    requested_by: str,
    underlying: Underlying | None = None,
    detail: Mapping[str, Any] | None = None,
    timeout_s: float = ANSWER_TIMEOUT_S,
) -> dict[str, str | None]:
    """Put a command to every living session (of `underlying`, if given); return its answer by session id.

    An answer is None when the session did not give one within `timeout_s` of real time.

    Raises:
        NoSessionAlive: no session holds a lease whose heartbeat is fresh.
    """
    alive = [
        session_id
        for session_id in ledger.living_session_ids(real_now_ms())
        if underlying is None or ledger.key_of(session_id).underlying == underlying
    ]
    if not alive:
        asked_for = f"{underlying} session" if underlying else "session"
        raise NoSessionAlive(
            f"No {asked_for} is alive. Look at the positions with the broker; if something is open there, "
            "start the day's session again: it takes its position up and squares off."
        )
    waiting = {}
    for session_id in alive:
        command = CommandRecord(
            command_id=secrets.token_hex(8),
            session_id=session_id,
            kind=kind,
            reason=reason,
            requested_by=requested_by,
            requested_at_ms=real_now_ms(),
            detail=dict(detail or {}),
        )
        ledger.request_command(command)
        waiting[session_id] = command.command_id
    answers: dict[str, str | None] = dict.fromkeys(waiting)
    deadline = Deadline(timeout_s)
    while not all(answers.values()) and not deadline.passed:
        for session_id, command_id in waiting.items():
            answered = ledger.command(command_id)
            answers[session_id] = answered.answer if answered else None
        pause(0.2)
    return answers
