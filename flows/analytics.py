"""Analytics: price the day's orders, write the report, tell the operator. Can be run again for any past session."""

from typing import Any

from prefect import flow, get_run_logger
from prefect.client.schemas.objects import State
from prefect.states import Completed
from tasks.report import write_day_report

from strategy.charges import rates_on
from strategy.instruments import INDICES
from tasks.connect import open_ledger
from tasks.evening import price_orders
from tasks.settings import Settings
from tasks.summary import DaySummary, result_line


@flow(name="analytics", retries=1, retry_delay_seconds=10)
def analytics(session_id: str) -> State[Any]:
    """Price every executed order with the charges of its date and write the day's report.

    Args:
        session_id: which session, such as 2026-11-20/NIFTY/live/1000000009.
    """
    log = get_run_logger()
    settings = Settings()
    with open_ledger(settings) as ledger:
        key = ledger.key_of(session_id)
        price_orders(ledger, session_id, rates_on(key.day, INDICES[key.underlying].exchange))
        report = settings.home / "reports" / f"{session_id.replace('/', '_')}.html"
        summary = DaySummary.build(ledger, session_id, report=report)
        write_day_report(ledger, summary, report)
    log.info("report %s", report)
    return Completed(name="Reported", message=result_line(summary))
