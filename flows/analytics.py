"""Analytics: a day priced, reported and told; or the figures of any period. Can be run again, as often as one likes."""

import re
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path
from typing import Any, Literal, TypeAlias

from prefect import flow
from prefect.artifacts import create_markdown_artifact, create_table_artifact
from prefect.client.schemas.objects import State
from prefect.runtime import flow_run as this_run
from prefect.states import Completed

from strategy.analysis import Analysis
from strategy.charges import charge_facts, rates_on
from strategy.closed_trades import TradeFilter
from strategy.events import Tick
from strategy.instruments import INDICES, OptionType, Underlying
from strategy.params import Mode
from tasks.clock import IST, real_now_ms, real_today
from tasks.connect import market_now_ms, open_ledger, open_notifier
from tasks.evening.analytics import real_results, render_analytics
from tasks.evening.packing import record_packed
from tasks.evening.period import analyse_days, read_period, session_name
from tasks.evening.prices import contract_note, price_orders, render_charges
from tasks.evening.replay import DIFFERENT, prove, record_verdict
from tasks.evening.sessions import which_session
from tasks.evening.tables import figure_rows, filter_words, render_markdown
from tasks.evening.twin import KIND as TWIN
from tasks.evening.twin import has_twin, record_twins, twin_line, twin_trades
from tasks.ledger.records import CandleRecord
from tasks.ledger.store import Ledger
from tasks.logs import logged
from tasks.notify.texts import day_reported, period_reported, replay_differs
from tasks.pages.artifacts import day_trade_rows, render_chart
from tasks.pages.chart_process import ChartProcess
from tasks.pages.chart_rows import datasets
from tasks.pages.charts import day_chart_png
from tasks.pages.money import render_rupees
from tasks.pages.period_report import equity_png, equity_spec, render_period_report
from tasks.pages.report import day_picture, render_day_report
from tasks.pages.summary import DaySummary, report_path, result_line
from tasks.settings import Settings

# The figures that a period's alert names.
TOLD = ("Gross result", "Charges", "Trades", "Expectancy", "Profit factor", "Best, worst day", "Max drawdown")
AnalysedMode: TypeAlias = Literal["rehearsal", "paper", "live", "imported"]


def analytics_run_name() -> str:
    """What the operator reads in the list of runs: the session, or the filters."""
    asked: dict[str, Any] = this_run.parameters
    words = [str(value) for name, value in asked.items() if value and name != "capital_rupees"]
    return " ".join(words) or "everything"


def scheduled_day() -> date | None:
    """The day in India for which the run was scheduled; a run that comes late is still of that day."""
    scheduled = this_run.scheduled_start_time
    return scheduled.astimezone(IST).date() if scheduled else None


@flow(name="analytics", flow_run_name=analytics_run_name, retries=1, retry_delay_seconds=10)
def analytics(
    session_id: str | None = None,
    *,
    day: date | None = None,
    index: Underlying | None = None,
    mode: AnalysedMode | None = None,
    first: date | None = None,
    last: date | None = None,
    direction: OptionType | None = None,
    exit_reason: str | None = None,
    weekdays: list[int] | None = None,
    hours: list[int] | None = None,
    expiry_day: bool | None = None,
    capital_rupees: int = 100_000,
    last_days: int | None = None,
    tell: bool = False,
) -> State[Any]:
    """One session: price its orders and write its report. A period: its figures, under any filter.

    Args:
        session_id: one session, such as 2026-11-20/NIFTY/live/1000000009.
        day: one session by its day (and index and mode, where the day has more than one).
        index: only this index.
        mode: only this mode; "imported" for the trades of an earlier bot.
        first: the period's first day; empty for the beginning.
        last: the period's last day; empty for now.
        direction: only calls (CE) or puts (PE).
        exit_reason: only trades closed for this reason, such as stop_loss.
        weekdays: only these weekdays, 1 for Monday to 7 for Sunday.
        hours: only trades entered in these hours of the day, such as 9.
        expiry_day: only trades on the day their contract expires, or only others.
        capital_rupees: what returns and percentages refer to.
        last_days: instead of first and last, so many days up to today, such as 7 for a week.
        tell: send the period's report as an alert with its chart; live and paper apart, where no mode is named.
    """
    if session_id is not None or day is not None:
        with open_ledger() as ledger:
            chosen = which_session(
                ledger, session_id=session_id, day=day, index=index, mode=Mode(mode) if mode else None
            )
        return report_day(chosen)
    if last_days is not None:
        last = scheduled_day() or real_today()
        first = last - timedelta(days=last_days - 1)
    wanted = TradeFilter(
        first=first,
        last=last,
        indices=frozenset([str(index)] if index else []),
        modes=frozenset([mode] if mode else []),
        directions=frozenset([str(direction)] if direction else []),
        reasons=frozenset([exit_reason] if exit_reason else []),
        weekdays=frozenset(number - 1 for number in weekdays or ()),
        hours=frozenset(hours or ()),
        expiry_day=expiry_day,
    )
    found, page = report_period(wanted, 100 * capital_rupees)
    for each in told_apart(wanted) if tell else ():
        tell_period(*((found, page) if each == wanted else report_period(each, 100 * capital_rupees)))
    chart = render_chart(equity_png(found), filter_words(wanted)) if equity_spec(found) else ""
    markdown = "\n".join([render_markdown(found), chart, "", f"The page for any browser: {page}"])
    create_markdown_artifact(key="period-report", markdown=markdown, description=filter_words(wanted))
    net = render_rupees(found.trades.net_paise, signed=True)
    return Completed(name="Analysed", message=f"{found.trades.trades} trades in {found.sessions} sessions, {net} net")


def report_period(wanted: TradeFilter, capital_paise: int) -> tuple[Analysis, Path]:
    """Write the page of any set of days; return its figures and where it is. Needs no Prefect."""
    found = analyse_days(wanted, capital_paise)
    settings = Settings()
    words = re.sub(r"[^\w-]+", "_", filter_words(wanted))
    path = settings.home / "reports" / f"period_{words}.html"
    with open_ledger(settings) as ledger:
        read = read_period(ledger, wanted, now_ms=real_now_ms(), operator_facts=settings.operator_facts)
        write_page(path, render_period_report(ledger, found, read.trades.select(wanted)))
    return found, path


def told_apart(wanted: TradeFilter) -> list[TradeFilter]:
    """The filter for each mode that had a session: real money and paper have no common result."""
    if wanted.modes:
        return [wanted]
    with open_ledger() as ledger:
        names = [session_name(session_id) for session_id in ledger.session_ids()]
    present = {name.mode for name in names if wanted.admits(name)}
    return [replace(wanted, modes=frozenset([mode])) for mode in (Mode.LIVE.value, Mode.PAPER.value) if mode in present]


def tell_period(found: Analysis, page: Path) -> None:
    """Send a period's figures with its chart and its page."""
    notice = period_reported(
        real_now_ms(),
        period=filter_words(found.wanted),
        net_paise=found.trades.net_paise,
        lines=[
            *(f"{name}: {value} ({meaning})" for name, value, meaning in figure_rows(found) if name in TOLD),
            f"report {page}",
        ],
        chart_png=equity_png(found) if equity_spec(found) else None,
        page=page.read_bytes(),
    )
    with open_notifier(Settings()) as notifier:
        notifier.notify(notice)


def report_day(session_id: str) -> State[Any]:
    """Price and report one session, with its artifacts."""
    summary, chart_png = analyse_day(session_id)
    chart = render_chart(chart_png, session_id) if chart_png is not None else ""
    settings = Settings()
    with open_ledger(settings) as ledger:
        key = ledger.key_of(session_id)
        rates = rates_on(key.day, INDICES[key.underlying].exchange, charge_facts(settings.operator_facts))
        charges = render_charges(ledger.charges(session_id), contract_note(ledger, session_id, rates))
    markdown = "\n".join([render_analytics(summary), *charges, "", chart])
    create_markdown_artifact(key="day-report", markdown=markdown, description=session_id)
    create_table_artifact(key="day-trades", table=day_trade_rows(summary), description=session_id)
    return Completed(name="Reported", message=result_line(summary))


@logged("analytics")
def analyse_day(session_id: str) -> tuple[DaySummary, bytes | None]:
    """Price, pack for later, report and tell; return the day and its chart. Needs no Prefect."""
    settings = Settings()
    with closing(Drawing()) as drawing, open_ledger(settings) as ledger:
        key = ledger.key_of(session_id)
        facts = charge_facts(settings.operator_facts)
        price_orders(ledger, session_id, rates_on(key.day, INDICES[key.underlying].exchange, facts))
        record_packed(ledger, session_id)
        ticks = ledger.ticks(session_id)
        drawing.begin(ledger, session_id, ticks)
        verdict = prove(ledger, session_id, ticks)
        record_verdict(ledger, session_id, verdict)
        if has_twin(ledger, session_id):
            record_twins(ledger, session_id, ticks)
        report = report_path(settings.home, session_id)
        summary = DaySummary.build(ledger, session_id, report=report)
        chart_png = write_report(ledger, summary, report, ticks=ticks, drawing=drawing)
        twins = twin_trades(ledger.decisions(session_id, TWIN), real_results(summary))
    lines = [
        result_line(summary),
        f"gross {render_rupees(summary.gross_paise, signed=True)}, charges {render_rupees(summary.charges_paise)}",
        *([twin_line(twins, summary.trade_count)] if twins else []),
        str(verdict),
        f"report {report}",
    ]
    notice = day_reported(
        key,
        market_now_ms(settings),
        net_paise=summary.net_paise,
        lines=lines,
        chart_png=chart_png,
        page=report.read_bytes(),
    )
    with open_notifier(settings) as notifier:
        notifier.notify(notice)
        if verdict.state == DIFFERENT:
            notifier.notify(replay_differs(key, market_now_ms(settings), verdict=str(verdict)))
    return summary, chart_png


class Drawing:
    """What of a day's report takes seconds, made by a process of its own while the day is replayed.

    Each result is None where it was not asked for or could not be made: then it is made where it is needed.
    """

    def __init__(self) -> None:
        self._charts = ChartProcess(nice=0)
        self._beside = ThreadPoolExecutor(1, thread_name_prefix="day's charts")
        self._library = self._beside.submit(self._charts.chart_library)
        self._pictures: dict[str, Future[bytes | None]] = {}

    def begin(self, ledger: Ledger, session_id: str, ticks: Sequence[Tick]) -> None:
        """Draw the still picture and the chart; the ledger has all that they show once the day is priced."""
        params, candles = settings_and_candles(ledger, session_id)
        if candles:
            summary, decisions = DaySummary.build(ledger, session_id), ledger.decisions(session_id)
            for title, shown in (("", ticks), (session_id, ())):
                picture = day_picture(summary, candles, decisions, params, title=title, ticks=shown)
                drawn = self._beside.submit(
                    self._charts.draw, picture.title, datasets(picture), picture.loss_limit_paise
                )
                self._pictures[title] = drawn

    def library(self) -> str | None:
        """The chart library."""
        return self._library.result()

    def picture(self, title: str) -> bytes | None:
        """The picture of this title as PNG."""
        return self._pictures[title].result() if title in self._pictures else None

    def close(self) -> None:
        """Nothing more is wanted."""
        self._charts.kill()
        self._beside.shutdown(cancel_futures=True)
        self._charts.close()


def settings_and_candles(ledger: Ledger, session_id: str) -> tuple[Mapping[str, Any], Sequence[CandleRecord]]:
    """What a session last traded with. A day whose preflight failed has no start: no settings, and no candle."""
    starts = ledger.starts(session_id)
    params = starts[-1].params if starts else {}
    return params, ledger.candles(session_id, int(params["candle_seconds"])) if params else ()


def write_report(
    ledger: Ledger,
    summary: DaySummary,
    path: Path,
    *,
    ticks: Sequence[Tick] | None = None,
    drawing: Drawing | None = None,
) -> bytes | None:
    """Write the page; return the day's chart, or None for a day without candles.

    What was drawn or read already is taken from there.
    """
    session_id = summary.session_id
    params, candles = settings_and_candles(ledger, session_id)
    decisions = ledger.decisions(session_id)
    page = render_day_report(
        summary,
        candles,
        decisions,
        params,
        ticks=ledger.ticks(session_id) if ticks is None else ticks,
        still=drawing.picture("") if drawing else None,
        library=drawing.library() if drawing else None,
    )
    write_page(path, page)
    if not candles:
        return None
    chart = drawing.picture(session_id) if drawing else None
    return chart or day_chart_png(day_picture(summary, candles, decisions, params, title=session_id))


def write_page(path: Path, page: str) -> None:
    """Put a page in its place at once: nobody opens half of one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    written = path.with_suffix(".part")
    written.write_text(page, encoding="utf-8")
    written.replace(path)
