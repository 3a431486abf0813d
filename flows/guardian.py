"""The guardian: after the squareoff, or after a crash, is the bot flat at the broker? If not, it closes."""

from typing import Any

from prefect import Flow, flow, get_run_logger
from prefect.client.schemas.objects import FlowRun, State
from prefect.states import Completed, Failed

from strategy.instruments import Underlying
from tasks.connect import open_ledger, send_alert
from tasks.ledger import LedgerUnavailable
from tasks.settings import Settings
from tasks.trading.guarding import guard, look_without_ledger


def ledger_away(settings: Settings, away: LedgerUnavailable) -> State[Any]:
    """Look at the broker all the same, and shout; why nothing is sold stands in `tasks.trading.guarding`."""
    outcomes = look_without_ledger(settings)
    seen = "; ".join(map(str, outcomes)) or "nothing of today's orders is open at the broker"
    message = f"The ledger is away ({away}). {seen}."
    send_alert("guardian", "the guardian cannot close: the ledger is away", message)
    return Failed(name="LedgerAway", message=message)


def tell_crash(flow: Flow[..., Any], flow_run: FlowRun, state: State[Any]) -> None:  # noqa: ARG001 (Prefect's signature)
    """Nobody has looked: a person must."""
    send_alert(
        "guardian", "the guardian failed", f"{flow_run.name}: {state.message}. Look at the broker's own terminal NOW."
    )


@flow(name="guardian", retries=0, on_crashed=[tell_crash])
def guardian(index: Underlying | None = None) -> State[Any]:
    """Read the broker; cancel and close what the bot still has there.

    Args:
        index: only this index's session; empty means every session of today.
    """
    log = get_run_logger()
    settings = Settings()
    try:
        with open_ledger(settings) as ledger:
            outcomes = guard(settings, ledger, underlying=index)
    except LedgerUnavailable as away:
        return ledger_away(settings, away)
    for outcome in outcomes:
        (log.info if outcome.done else log.error)("%s", outcome)
    message = "; ".join(map(str, outcomes)) or "Today has no session in the ledger."
    if any(outcome.acted or not outcome.done for outcome in outcomes):
        send_alert("guardian", "the guardian had to act", message)
    if not all(outcome.done for outcome in outcomes):
        return Failed(name="StillOpen", message=message)
    acted = any(outcome.acted for outcome in outcomes)
    return Completed(name="ClosedByGuardian" if acted else "AllFlat", message=message)
