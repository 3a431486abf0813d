"""Reconciliation: the broker's books of a day beside the ledger's. Can be run again for any past session."""

import logging
from datetime import date
from typing import Any

from prefect import flow, task
from prefect.artifacts import create_markdown_artifact
from prefect.client.schemas.objects import State
from prefect.runtime import flow_run as this_run
from prefect.states import Completed, Failed

from strategy.instruments import Underlying
from strategy.params import Mode
from strategy.reconcile import Difference, Reconciliation
from tasks.broker import BrokerError
from tasks.clock import ist, pause
from tasks.connect import market_now_ms, open_broker, open_ledger, open_notifier, run_identity, send_alert
from tasks.evening.reconciliation import compare_session, record_comparison
from tasks.evening.sessions import which_session
from tasks.logs import logged
from tasks.notify.texts import reconciliation_differs
from tasks.pages.wording import markdown_table
from tasks.settings import Settings

LOG = logging.getLogger(__name__)
# A trade may reach the broker's books late: what differs is read again after these seconds before it is said.
SETTLING_S = (2.0, 8.0)
RETRY_DELAYS_S = [10.0, 60.0]


def evening_run_name() -> str:
    """What the operator reads in the list of runs: the session, or what was asked for."""
    asked: dict[str, Any] = this_run.parameters
    return " ".join(str(value) for value in asked.values() if value) or "latest"


@flow(name="reconciliation", flow_run_name=evening_run_name, retries=0)
def reconciliation(
    session_id: str | None = None, day: date | None = None, index: Underlying | None = None, mode: Mode | None = None
) -> State[Any]:
    """Compare the broker's orders, trades and positions with the ledger, and record what differs.

    Args:
        session_id: which session, such as 2026-11-20/NIFTY/live/1000000009; or leave it empty and say which:
        day: its trading day.
        index: its index; not needed where the day has one session.
        mode: its mode; not needed where the day has one.
    """
    with open_ledger() as ledger:
        chosen = which_session(ledger, session_id=session_id, day=day, index=index, mode=mode)
    # Only reading is repeated; recording the same comparison twice is a no-op.
    compare = task(name="compare with the broker", retries=len(RETRY_DELAYS_S), retry_delay_seconds=RETRY_DELAYS_S)(
        reconcile_day
    )
    try:
        found = compare(chosen)
    except BrokerError as away:
        return Failed(name="Unreachable", message=tell_unreachable(chosen, away))
    create_markdown_artifact(key="reconciliation", markdown=render_reconciliation(chosen, found), description=chosen)
    if found.agrees:
        return Completed(name="Matched", message=f"{len(found.matched)} orders of {chosen} agree with the broker")
    told = "; ".join(render_difference(difference) for difference in found.differences[:5])
    return Failed(name="Mismatched", message=f"{len(found.differences)} differences in {chosen}: {told}")


def reconcile_or_tell(session_id: str) -> Reconciliation | None:
    """The same without Prefect; None where the broker could not be asked, of which the operator has heard."""
    try:
        return reconcile_day(session_id)
    except BrokerError as away:
        tell_unreachable(session_id, away)
        return None


@logged("reconciliation")
def reconcile_day(session_id: str) -> Reconciliation:
    """Read both sides, compare, record, and alert where they differ. BrokerError, and then nothing is recorded."""
    settings = Settings()
    with open_ledger(settings) as ledger:
        key = ledger.key_of(session_id)
        at_ms = market_now_ms(settings)
        with open_broker(settings, key) as broker:
            past_day = ist(at_ms).date() > key.day
            found = compare_session(ledger, broker, session_id, past_day=past_day)
            for patience_s in SETTLING_S:
                if found.agrees:
                    break
                pause(patience_s)
                found = compare_session(ledger, broker, session_id, past_day=past_day)
        record_comparison(ledger, session_id, found, run_id=run_identity(), at_ms=at_ms)
    if not found.agrees:
        differences = [render_difference(difference) for difference in found.differences]
        for difference in differences:
            LOG.error("%s: %s", session_id, difference)
        with open_notifier(settings) as notifier:
            notifier.notify(reconciliation_differs(key, at_ms, differences=differences))
    return found


def tell_unreachable(session_id: str, away: BrokerError) -> str:
    """Alert that the day is not compared yet, and return what was said."""
    message = f"{session_id} is not compared with the broker: {away}. Nothing was recorded; run it again later"
    LOG.error("%s", message)
    send_alert("reconciliation", "the day is not compared with the broker", message)
    return message


def render_difference(difference: Difference) -> str:
    """One difference in one line."""
    return f"{difference.kind} {difference.subject}: ledger {difference.expected}, broker {difference.found}"


def render_reconciliation(session_id: str, found: Reconciliation) -> str:
    """The comparison as markdown."""
    verdict = "agrees with the broker" if found.agrees else "**does not agree with the broker**"
    lines = [f"## {session_id}", "", f"The ledger {verdict}; {len(found.matched)} orders match.", ""]
    if found.differences:
        rows = [(d.kind, d.subject, d.expected, d.found, d.remedy) for d in found.differences]
        lines += markdown_table(("what", "subject", "ledger", "broker", "remedy"), rows)
        lines += ["", "Nothing was mended: each remedy is a proposal."]
    return "\n".join(lines)
