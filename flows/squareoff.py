"""Squareoff by hand: a living session closes itself; for a dead or hung one it is done at the broker."""

from typing import Any

from prefect import flow, get_run_logger
from prefect.client.schemas.objects import State
from prefect.states import Completed, Failed

from strategy.instruments import Underlying
from tasks.connect import open_ledger
from tasks.controls import ANSWER_TIMEOUT_S, Outcome, square_off
from tasks.settings import Settings


@flow(name="squareoff", retries=0)
def squareoff(
    index: Underlying | None = None, reason: str = "asked by the operator", *, force: bool = False
) -> State[Any]:
    """Close what is held, now; no new entries afterwards.

    Args:
        index: only this index's session; empty means every session of today.
        reason: kept in the ledger with the command.
        force: take the lease from a session that lives and does not answer, and close at the broker without it.
    """
    settings = Settings()
    with open_ledger(settings) as ledger:
        outcomes = square_off(
            settings,
            ledger,
            underlying=index,
            reason=reason,
            requested_by="squareoff run",
            force=force,
            timeout_s=10.0 if force else ANSWER_TIMEOUT_S,
        )
    return end_state(outcomes, "SquaredOff")


def end_state(outcomes: tuple[Outcome, ...], name: str) -> State[Any]:
    """How a control's run ends, with a log line a session: by name when all is done, failed with each reason else."""
    log = get_run_logger()
    for outcome in outcomes:
        (log.info if outcome.done else log.error)("%s", outcome)
    if not outcomes:
        return Completed(name="NothingToDo", message="Today has no session in the ledger, so nothing was asked.")
    message = "; ".join(map(str, outcomes))
    if all(outcome.done for outcome in outcomes):
        return Completed(name=name, message=message)
    return Failed(name="NotDone", message=message)
