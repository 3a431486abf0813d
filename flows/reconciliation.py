"""Reconciliation: the broker's books of a day beside the ledger's. Can be run again for any past session."""

import logging
from typing import Any

from prefect import flow, task
from prefect.artifacts import create_markdown_artifact
from prefect.client.schemas.objects import State
from prefect.states import Completed, Failed

from strategy.reconcile import Difference, Reconciliation
from tasks.connect import market_now_ms, open_broker, open_ledger, open_notifier, run_identity
from tasks.evening.reconciliation import reconcile_session
from tasks.notify.texts import reconciliation_differs
from tasks.pages.wording import markdown_table
from tasks.settings import Settings

LOG = logging.getLogger(__name__)


@flow(name="reconciliation", flow_run_name="{session_id}", retries=0)
def reconciliation(session_id: str) -> State[Any]:
    """Compare the broker's orders, trades and positions with the ledger, and record what differs.

    Args:
        session_id: which session, such as 2026-11-20/NIFTY/live/1000000009.
    """
    # Only reading is repeated; recording the same comparison twice is a no-op.
    compare = task(name="compare with the broker", retries=2, retry_delay_seconds=[10, 60])(reconcile_day)
    found = compare(session_id)
    create_markdown_artifact(
        key="reconciliation", markdown=render_reconciliation(session_id, found), description=session_id
    )
    if found.agrees:
        return Completed(name="Matched", message=f"{len(found.matched)} orders agree with the broker")
    told = "; ".join(render_difference(difference) for difference in found.differences[:5])
    return Failed(name="Mismatched", message=f"{len(found.differences)} differences: {told}")


def reconcile_day(session_id: str) -> Reconciliation:
    """Read both sides, compare, record, and alert where they differ; needs no Prefect."""
    settings = Settings()
    with open_ledger(settings) as ledger:
        key = ledger.key_of(session_id)
        at_ms = market_now_ms(settings)
        with open_broker(settings, key) as broker:
            found = reconcile_session(ledger, broker, session_id, run_id=run_identity(), at_ms=at_ms)
    if not found.agrees:
        differences = [render_difference(difference) for difference in found.differences]
        for difference in differences:
            LOG.error("%s: %s", session_id, difference)
        with open_notifier(settings) as notifier:
            notifier.notify(reconciliation_differs(key, at_ms, differences=differences))
    return found


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
    return "\n".join(lines)
