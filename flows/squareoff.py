"""Squareoff by hand: ask the running session to close its position and say what happened."""

from typing import Any

from prefect import flow, get_run_logger
from prefect.client.schemas.objects import State
from prefect.states import Completed, Failed

from strategy.instruments import Underlying
from tasks.connect import open_ledger
from tasks.controls import NoSessionAlive, ask_sessions


@flow(name="squareoff", retries=0)
def squareoff(index: Underlying | None = None, reason: str = "asked by the operator") -> State[Any]:
    """Close what is held, now; no new entries afterwards.

    Args:
        index: only this index's session; empty means every session that trades now.
        reason: kept in the ledger with the command.
    """
    log = get_run_logger()
    with open_ledger() as ledger:
        try:
            answers = ask_sessions(
                ledger, kind="squareoff", underlying=index, reason=reason, requested_by="squareoff run"
            )
        except NoSessionAlive as nobody:
            return Failed(name="NoSession", message=str(nobody))
    for session_id, answer in answers.items():
        log.info("%s: %s", session_id, answer or "no answer yet")
    message = "; ".join(f"{session_id}: {answer or 'no answer in time'}" for session_id, answer in answers.items())
    if all(answers.values()):
        return Completed(name="SquaredOff", message=message)
    return Failed(name="Unanswered", message=message)
