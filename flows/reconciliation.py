"""Reconciliation: the broker's books of a day beside the ledger's. Can be run again for any past session."""

from typing import Any

from prefect import flow, get_run_logger, task
from prefect.artifacts import create_markdown_artifact
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State
from prefect.states import Completed, Failed

from strategy.reconcile import Reconciliation
from tasks.broker import Broker
from tasks.connect import market_now_ms, open_broker, open_ledger, open_notifier, run_identity
from tasks.ledger.store import Ledger
from tasks.notify.texts import reconciliation_differs
from tasks.reconciling import reconcile_session
from tasks.settings import Settings


@task(name="compare with the broker", retries=2, retry_delay_seconds=[10, 60], cache_policy=NO_CACHE)
def compare(ledger: Ledger, broker: Broker, session_id: str, at_ms: int) -> Reconciliation:
    """Read both sides, compare, record; an unreachable broker is tried again."""
    return reconcile_session(ledger, broker, session_id, run_id=run_identity(), at_ms=at_ms)


@flow(name="reconciliation", flow_run_name="{session_id}", retries=0)
def reconciliation(session_id: str) -> State[Any]:
    """Compare the broker's orders, trades and positions with the ledger, and record what differs.

    Args:
        session_id: which session, such as 2026-11-20/NIFTY/live/1000000009.
    """
    log = get_run_logger()
    settings = Settings()
    with open_ledger(settings) as ledger:
        key = ledger.key_of(session_id)
        at_ms = market_now_ms(settings)
        with open_broker(settings, key) as broker:
            found = compare(ledger, broker, session_id, at_ms)
    for difference in found.differences:
        log.error(
            "%s %s: ledger %s, broker %s",
            difference.kind,
            difference.subject,
            difference.expected,
            difference.found,
        )
    create_markdown_artifact(
        key="reconciliation", markdown=render_reconciliation(session_id, found), description=session_id
    )
    if found.agrees:
        return Completed(name="Matched", message=f"{len(found.matched)} orders agree with the broker")
    differences = [f"{d.kind} {d.subject}: ledger {d.expected}, broker {d.found}" for d in found.differences]
    with open_notifier(settings) as notifier:
        notifier.notify(reconciliation_differs(key, at_ms, differences=differences))
    return Failed(name="Mismatched", message=f"{len(differences)} differences: " + "; ".join(differences[:5]))


def render_reconciliation(session_id: str, found: Reconciliation) -> str:
    """The comparison as markdown."""
    verdict = "agrees with the broker" if found.agrees else "**does not agree with the broker**"
    lines = [f"## {session_id}", "", f"The ledger {verdict}; {len(found.matched)} orders match.", ""]
    if found.differences:
        lines += ["| what | subject | ledger | broker | remedy |", "|---|---|---|---|---|"]
        lines += [f"| {d.kind} | {d.subject} | {d.expected} | {d.found} | {d.remedy} |" for d in found.differences]
    return "\n".join(lines)
