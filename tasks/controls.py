"""What an operator can do to running sessions: write a command into the ledger and wait for its answer.

A session polls the ledger (`postman.py`); whoever asks needs neither the session's process nor Prefect.
"""

import secrets
from collections.abc import Mapping
from typing import Any

from strategy.instruments import Underlying
from tasks.clock import Deadline, pause, real_now_ms
from tasks.ledger.lease import Lease, living
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
    holders = [lease for lease in living(ledger, now_ms=real_now_ms()) if _concerns(lease, underlying)]
    if not holders:
        asked_for = f"{underlying} session" if underlying else "session"
        raise NoSessionAlive(
            f"No {asked_for} is alive. Look at the positions with the broker; if something is open there, "
            "start the day's session again: it adopts its position and squares off."
        )
    waiting = {}
    for lease in holders:
        command = CommandRecord(
            command_id=secrets.token_hex(8),
            session_id=lease.session_id,
            kind=kind,
            reason=reason,
            requested_by=requested_by,
            requested_at_ms=real_now_ms(),
            detail=dict(detail or {}),
        )
        ledger.request_command(command)
        waiting[lease.session_id] = command.command_id
    answers: dict[str, str | None] = dict.fromkeys(waiting)
    deadline = Deadline(timeout_s)
    while not all(answers.values()) and not deadline.passed:
        for session_id, command_id in waiting.items():
            answered = ledger.command(command_id)
            answers[session_id] = answered.answer if answered else None
        pause(0.2)
    return answers


def _concerns(lease: Lease, underlying: Underlying | None) -> bool:
    return underlying is None or lease.key.underlying == underlying
