"""What an operator can do to sessions: ask the living ones, close what a dead or hung one holds.

A command is a row of the ledger; a session polls for it (`trading/postman.py`), so whoever asks needs neither the
session's process nor Prefect.

Invariants:
1. Every session that was asked is in the answer, also when it said nothing.
2. Only `square_off` sends orders, and only where no session lives or force was asked for.
"""

import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from strategy.actions import ExitReason
from strategy.events import CommandKind
from strategy.instruments import Underlying
from tasks.broker import BrokerError
from tasks.clock import Deadline, ist, pause, real_now_ms
from tasks.connect import market_day
from tasks.ledger import LedgerUnavailable
from tasks.ledger.lease import LeaseHeld
from tasks.ledger.records import CommandRecord, SessionKey
from tasks.ledger.store import Ledger
from tasks.settings import Settings, SettingsRefused
from tasks.trading.closing import close_session

ANSWER_TIMEOUT_S = 60.0
ANSWER_POLL_S = 0.1


class NoSessionAlive(Exception):
    """Nobody trades, so nobody can be asked."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What a control came to at one session; `said` is for people."""

    session_id: str
    said: str
    done: bool
    acted: bool = False  # something was sold or cancelled for it, by whomever

    def __str__(self) -> str:
        return f"{self.session_id}: {self.said}"


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

    An answer is None when the session did not give one within `timeout_s` of real time, or died meanwhile. The
    command stays: a session that comes back finds and answers it.

    Raises:
        NoSessionAlive: no session holds a lease whose heartbeat is fresh.
    """
    alive = _alive(ledger, underlying)
    if not alive:
        asked_for = f"{underlying} session" if underlying else "session"
        raise NoSessionAlive(f"No {asked_for} is alive, so nobody can be asked. If something is held, square off.")
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
        pause(ANSWER_POLL_S)
        for session_id, command_id in waiting.items():
            answered = ledger.command(command_id)
            answers[session_id] = answered.answer if answered else None
        if not set(_alive(ledger, underlying)).intersection(name for name, said in answers.items() if not said):
            break
    return answers


def control_sessions(
    ledger: Ledger,
    *,
    kind: CommandKind,
    reason: str,
    requested_by: str,
    underlying: Underlying | None = None,
    detail: Mapping[str, Any] | None = None,
    timeout_s: float = ANSWER_TIMEOUT_S,
) -> tuple[Outcome, ...]:
    """`ask_sessions`, with each answer judged: a refusal or silence is not done."""
    answers = ask_sessions(
        ledger,
        kind=kind,
        reason=reason,
        requested_by=requested_by,
        underlying=underlying,
        detail=detail,
        timeout_s=timeout_s,
    )
    return tuple(
        Outcome(
            session_id=session_id,
            said=answer or f"no answer within {timeout_s:.0f} s; the session is hung or dead: square off if in doubt",
            done=answer is not None and not answer.startswith(("refused", "still halted", "not flat")),
        )
        for session_id, answer in answers.items()
    )


def tightening(*, daily_max_loss: float | None, max_trades_per_day: int | None) -> dict[str, int]:
    """A command's detail for lower limits; rupees become paise, what is None stays as it is."""
    limits = {} if daily_max_loss is None else {"daily_max_loss_paise": round(daily_max_loss * 100)}
    return limits if max_trades_per_day is None else {**limits, "max_trades_per_day": max_trades_per_day}


def square_off(
    settings: Settings,
    ledger: Ledger,
    *,
    reason: str,
    requested_by: str,
    underlying: Underlying | None = None,
    force: bool = False,
    timeout_s: float = ANSWER_TIMEOUT_S,
) -> tuple[Outcome, ...]:
    """Close what today's sessions hold: a living one closes itself, for a dead one it is done here.

    A session that lives and does not answer within `timeout_s` of real time is left alone unless `force` takes its
    lease; its own orders are refused by the ledger from then on. Empty where today has no session.
    """
    outcomes: dict[str, Outcome] = {}
    try:
        answers = ask_sessions(
            ledger,
            kind=CommandKind.SQUAREOFF,
            underlying=underlying,
            reason=reason,
            requested_by=requested_by,
            timeout_s=timeout_s,
        )
    except NoSessionAlive:
        answers = {}
    for session_id, answer in answers.items():
        if answer:
            outcomes[session_id] = Outcome(session_id=session_id, said=answer, done=not answer.startswith("not flat"))
    for key in sessions_of_today(settings, ledger, underlying):
        if key.session_id not in outcomes:
            outcomes[key.session_id] = close_outcome(settings, ledger, key, why=reason, force=force)
    return tuple(outcomes.values())


def close_outcome(settings: Settings, ledger: Ledger, key: SessionKey, *, why: str, force: bool) -> Outcome:
    """Close without the session, and say what became of it; failures are said, not raised."""
    reason = ExitReason.MANUAL
    try:
        closed = close_session(settings, ledger, key, reason=reason, why=why, force=force)
    except LeaseHeld as held:
        seen = f"{ist(held.holder.heartbeat_at_ms):%H:%M:%S}"
        said = (
            f"NOT CLOSED: {held.holder.owner} holds the lease (last heard of at {seen}) and does not answer; it may be "
            "hung. Repeat with force to take the lease from it and close at the broker."
        )
        return Outcome(session_id=key.session_id, said=said, done=False)
    except (BrokerError, LedgerUnavailable, SettingsRefused) as fault:
        said = f"NOT CLOSED: {fault}. Close at the broker's own terminal if this does not pass."
        return Outcome(session_id=key.session_id, said=said, done=False)
    said = f"no session was alive, closed at the broker: {closed}"
    return Outcome(session_id=key.session_id, said=said, done=closed.is_flat, acted=closed.acted)


def sessions_of_today(
    settings: Settings, ledger: Ledger, underlying: Underlying | None = None
) -> tuple[SessionKey, ...]:
    """The sessions of the market's day that these settings can reach: rehearsals with a simulator, else the others."""
    keys = [ledger.key_of(name) for name in ledger.session_ids(day=market_day(settings), underlying=underlying)]
    return tuple(
        key for key in keys if (key.mode == "rehearsal") is settings.rehearsing and key.account == settings.client_id
    )


def _alive(ledger: Ledger, underlying: Underlying | None) -> list[str]:
    return [
        session_id
        for session_id in ledger.living_session_ids(real_now_ms())
        if underlying is None or ledger.key_of(session_id).underlying == underlying
    ]
