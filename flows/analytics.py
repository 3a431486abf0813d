"""Analytics: price the day's orders, write the report, tell the operator. Can be run again for any past session."""

from pathlib import Path
from typing import Any

from prefect import flow
from prefect.artifacts import create_markdown_artifact, create_table_artifact
from prefect.client.schemas.objects import State
from prefect.states import Completed

from strategy.charges import charge_facts, rates_on
from strategy.instruments import INDICES
from tasks.connect import market_now_ms, open_ledger, open_notifier
from tasks.evening.analytics import render_analytics
from tasks.evening.prices import price_orders
from tasks.ledger.store import Ledger
from tasks.notify.texts import day_reported
from tasks.pages.artifacts import day_trade_rows, render_chart
from tasks.pages.chart_rows import picture_of
from tasks.pages.charts import day_chart_png
from tasks.pages.money import render_rupees
from tasks.pages.report import render_day_report
from tasks.pages.summary import DaySummary, report_path, result_line
from tasks.settings import Settings


@flow(name="analytics", flow_run_name="{session_id}", retries=1, retry_delay_seconds=10)
def analytics(session_id: str) -> State[Any]:
    """Price every executed order with the charges of its date and write the day's report.

    Args:
        session_id: which session, such as 2026-11-20/NIFTY/live/1000000009.
    """
    summary, chart_png = analyse_day(session_id)
    chart = render_chart(chart_png, session_id) if chart_png is not None else ""
    create_markdown_artifact(key="day-report", markdown=f"{render_analytics(summary)}\n{chart}", description=session_id)
    create_table_artifact(key="day-trades", table=day_trade_rows(summary), description=session_id)
    return Completed(name="Reported", message=result_line(summary))


def analyse_day(session_id: str) -> tuple[DaySummary, bytes | None]:
    """Price, report and tell; return the day and its chart. Needs no Prefect."""
    settings = Settings()
    with open_ledger(settings) as ledger:
        key = ledger.key_of(session_id)
        facts = charge_facts(settings.operator_facts)
        price_orders(ledger, session_id, rates_on(key.day, INDICES[key.underlying].exchange, facts))
        report = report_path(settings.home, session_id)
        summary = DaySummary.build(ledger, session_id, report=report)
        chart_png = write_report(ledger, summary, report)
    lines = [
        result_line(summary),
        f"gross {render_rupees(summary.gross_paise, signed=True)}, charges {render_rupees(summary.charges_paise)}",
        f"report {report}",
    ]
    notice = day_reported(key, market_now_ms(settings), net_paise=summary.net_paise, lines=lines, chart_png=chart_png)
    with open_notifier(settings) as notifier:
        notifier.notify(notice)
    return summary, chart_png


def write_report(ledger: Ledger, summary: DaySummary, path: Path) -> bytes | None:
    """Write the page; return the day's chart, or None for a day without candles."""
    session_id = summary.session_id
    params = ledger.starts(session_id)[-1].params
    candles = ledger.candles(session_id, int(params["candle_seconds"]))
    decisions = ledger.decisions(session_id)
    page = render_day_report(summary, candles, decisions, params, ticks=ledger.ticks(session_id))
    path.parent.mkdir(parents=True, exist_ok=True)
    written = path.with_suffix(".part")
    written.write_text(page, encoding="utf-8")
    written.replace(path)
    if not candles:
        return None
    picture = picture_of(
        session_id,
        candles,
        summary.trades,
        decisions,
        stop_loss_paise=round(100 * float(params["stop_loss_points"])),
        loss_limit_paise=round(100 * float(params["daily_max_loss"])),
    )
    return day_chart_png(picture)
