"""Commands for the trading day: what the sessions do, and how to stop them. None needs Prefect."""

from datetime import date
from typing import TYPE_CHECKING, Annotated

from cyclopts import App, Parameter

from flows.cli.options import IndexName, underlying_of

if TYPE_CHECKING:
    from tasks.controls import Outcome


def register(app: App) -> None:
    """Add the commands to `bot`."""
    for command in (squareoff, halt, resume, stop, tighten, status, watch):
        app.command(command)


def squareoff(
    *,
    index: IndexName | None = None,
    reason: str = "asked on the command line",
    force: Annotated[bool, Parameter(negative="")] = False,
) -> int:
    """Close what today's sessions hold, now; no new entries afterwards. Works without Prefect.

    Args:
        index: only this index; every session of today if not given.
        reason: kept in the ledger.
        force: take the lease from a session that lives and does not answer, and close without it.
    """
    from tasks.connect import open_ledger
    from tasks.controls import ANSWER_TIMEOUT_S, square_off
    from tasks.settings import Settings

    settings = Settings()
    with open_ledger(settings) as ledger:
        outcomes = square_off(
            settings,
            ledger,
            underlying=underlying_of(index),
            reason=reason,
            requested_by="command line",
            force=force,
            timeout_s=10.0 if force else ANSWER_TIMEOUT_S,
        )
    return _say(outcomes)


def halt(*, index: IndexName | None = None, reason: str = "asked on the command line") -> int:
    """No new entries in running sessions; exits go on. Works without Prefect, like the next three."""
    return _control("halt", index, reason)


def resume(*, index: IndexName | None = None, reason: str = "asked on the command line") -> int:
    """Lift an operator's halt; halts of the rules stay for the day."""
    return _control("resume", index, reason)


def stop(*, index: IndexName | None = None, reason: str = "asked on the command line") -> int:
    """Close what running sessions hold, and end them; the evening follows."""
    return _control("stop", index, reason)


def tighten(
    *,
    loss: float | None = None,
    trades: int | None = None,
    index: IndexName | None = None,
    reason: str = "asked on the command line",
) -> int:
    """Lower limits of running sessions for the rest of the day.

    Args:
        loss: the new daily loss limit, rupees.
        trades: the new number of trades per day.
        index: only this index; every running session if not given.
        reason: kept in the ledger.
    """
    return _control("tighten", index, reason, loss=loss, trades=trades)


def status(
    *,
    day: date | None = None,
    index: IndexName | None = None,
    json: Annotated[bool, Parameter(negative="")] = False,
) -> int:
    """Say once where the sessions stand, from the ledger alone.

    Exit code 0: all well. 1: something is held and no session lives. 3: no session. 4: no ledger.

    Args:
        day: the sessions of that day; those that live, or the last day's, if not given.
        index: only this index.
        json: for programs.
    """
    from flows.watch import print_status

    return print_status(day, underlying_of(index), as_json=json)


def watch(*, day: date | None = None, index: IndexName | None = None) -> int:
    """Watch the sessions in the terminal until Ctrl-C, from the ledger alone.

    Args:
        day: the sessions of that day; those that live, or the last day's, if not given.
        index: only this index.
    """
    from flows.watch import watch_sessions

    return watch_sessions(day, underlying_of(index))


def _control(
    kind: str, index: IndexName | None, reason: str, *, loss: float | None = None, trades: int | None = None
) -> int:
    from strategy.events import CommandKind
    from tasks.connect import open_ledger
    from tasks.controls import NoSessionAlive, control_sessions, tightening

    with open_ledger() as ledger:
        try:
            outcomes = control_sessions(
                ledger,
                kind=CommandKind(kind),
                underlying=underlying_of(index),
                reason=reason,
                requested_by="command line",
                detail=tightening(daily_max_loss=loss, max_trades_per_day=trades),
            )
        except NoSessionAlive as nobody:
            print(nobody)
            return 1
    return _say(outcomes)


def _say(outcomes: "tuple[Outcome, ...]") -> int:
    """Print what a control came to at each session; 0 when it is done everywhere."""
    for outcome in outcomes:
        print(outcome)
    if not outcomes:
        print("Today has no session in the ledger; nothing was done.")
    return 0 if all(outcome.done for outcome in outcomes) else 1
