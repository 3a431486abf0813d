"""Evenings that were not finished, because the broker could not be reached or the machine was off: finished later.

Invariants:
1. A session that trades, or was compared since its last start, is left alone; so running it again does nothing.
2. What one session lacks holds up no other.
"""

from datetime import timedelta
from typing import Any

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.states import Completed, Failed

from flows.analytics import analytics
from flows.reconciliation import reconciliation
from strategy.params import Mode
from tasks.connect import market_day, market_now_ms, open_ledger
from tasks.evening.sessions import unfinished
from tasks.settings import Settings


@flow(name="unfinished-evenings", retries=0)
def unfinished_evenings(last_days: int = 7) -> State[Any]:
    """Compare with the broker, and report, every session of the last days that was not compared since it last started.

    Args:
        last_days: how many days back, today included. Older ones: run reconciliation with their day.
    """
    settings = Settings()
    # Only what these settings reach: a rehearsal's market is another one.
    modes = {Mode.REHEARSAL} if settings.rehearsing else {Mode.LIVE, Mode.PAPER}
    first = market_day(settings) - timedelta(days=last_days - 1)
    with open_ledger(settings) as ledger:
        found = unfinished(ledger, first=first, modes=modes, account=settings.client_id, now_ms=market_now_ms(settings))
    said = []
    for session_id in found:
        states = [flow(session_id=session_id, return_state=True) for flow in (reconciliation, analytics)]
        said.append((session_id, states))
    told = "; ".join(f"{session_id} {', '.join(str(state.name) for state in states)}" for session_id, states in said)
    if all(state.is_completed() for _, states in said for state in states):
        return Completed(name="Finished", message=told or "every session was compared with the broker")
    return Failed(name="Unfinished", message=told)
