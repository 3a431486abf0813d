"""What an operator can ask of a running session beside the squareoff: halt, resume, stop, lower limits.

Each run asks every living session (or one index's) through the ledger and ends with its answers.
"""

from collections.abc import Mapping
from typing import Annotated, Any

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.states import Failed
from pydantic import Field

from flows.squareoff import end_state
from strategy.events import CommandKind
from strategy.instruments import Underlying
from tasks.connect import open_ledger
from tasks.controls import NoSessionAlive, control_sessions, tightening


@flow(name="halt", retries=0)
def halt(index: Underlying | None = None, reason: str = "asked by the operator") -> State[Any]:
    """No new entries from now on; exits go on. `resume` lifts it.

    Args:
        index: only this index's session; empty means every session that trades now.
        reason: kept in the ledger with the command.
    """
    return _ask(CommandKind.HALT, index, reason, "Halted")


@flow(name="resume", retries=0)
def resume(index: Underlying | None = None, reason: str = "asked by the operator") -> State[Any]:
    """Lift an operator's halt. A halt for the day's loss, or any other of the rules, stays.

    Args:
        index: only this index's session; empty means every session that trades now.
        reason: kept in the ledger with the command.
    """
    return _ask(CommandKind.RESUME, index, reason, "Resumed")


@flow(name="stop", retries=0)
def stop(index: Underlying | None = None, reason: str = "asked by the operator") -> State[Any]:
    """Close what is held and end the session; the evening follows.

    Args:
        index: only this index's session; empty means every session that trades now.
        reason: kept in the ledger with the command.
    """
    return _ask(CommandKind.STOP, index, reason, "Stopped")


@flow(name="tighten", retries=0)
def tighten(
    daily_max_loss: Annotated[float | None, Field(gt=0, description="Rupees; empty leaves it as it is.")] = None,
    max_trades_per_day: Annotated[int | None, Field(ge=0, description="Trades; empty leaves it as it is.")] = None,
    index: Underlying | None = None,
    reason: str = "asked by the operator",
) -> State[Any]:
    """Lower limits for the rest of the day, also across restarts; no limit can be raised while a session runs.

    Args:
        daily_max_loss: the new daily loss limit in rupees; a loss that is beyond it already closes everything.
        max_trades_per_day: the new number of trades; 0 ends entries for the day.
        index: only this index's session; empty means every session that trades now.
        reason: kept in the ledger with the command.
    """
    limits = tightening(daily_max_loss=daily_max_loss, max_trades_per_day=max_trades_per_day)
    return _ask(CommandKind.TIGHTEN, index, reason, "Tightened", limits)


def _ask(
    kind: CommandKind, index: Underlying | None, reason: str, name: str, detail: Mapping[str, int] | None = None
) -> State[Any]:
    with open_ledger() as ledger:
        try:
            outcomes = control_sessions(
                ledger, kind=kind, reason=reason, requested_by=f"{kind} run", underlying=index, detail=detail
            )
        except NoSessionAlive as nobody:
            return Failed(name="NoSession", message=str(nobody))
    return end_state(outcomes, name)
