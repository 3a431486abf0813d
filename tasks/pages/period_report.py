"""The report of any days: one HTML file that needs no network, as the day's (`tasks.pages.report`).

Invariants:
1. The figures are those of `strategy.analysis`, and every trade under the filter counts in them.
2. The page's size is bounded: of many trades the newest are listed, and how many are not is said.
"""

import base64
from dataclasses import dataclass
from typing import Any

import altair as alt
import vl_convert

from strategy.analysis import Analysis
from strategy.closed_trades import OPTION_TYPES, ClosedTrades, SessionName
from strategy.instruments import Underlying
from tasks.clock import ist
from tasks.evening.period import IMPORTED
from tasks.evening.tables import GROUP_WORDS, figure_rows, filter_words, group_rows
from tasks.ledger.store import Ledger
from tasks.pages.charts import DOWN, NEUTRAL, chart_library
from tasks.pages.heat import heat_map
from tasks.pages.money import average_paise
from tasks.pages.report import page_template, refusal_shares
from tasks.pages.summary import TradeLine, trade_line
from tasks.pages.wording import exit_words

TRADES_LISTED_MAX = 1_000
HEADLINE = ("Gross result", "Charges", "Win rate", "Profit factor", "Expectancy", "Max drawdown", "Sharpe")


@dataclass(frozen=True, slots=True, kw_only=True)
class PeriodTrade:
    """One line of the table; explained where the ledger has the session's own decisions."""

    day: str
    mode: str
    contract: str
    bought: str
    sold: str
    quantity: int
    entry_paise: int
    exit_paise: int
    charges_paise: int
    net_paise: int
    closed_by: str
    why_entry: str = ""
    why_exit: str = ""


def render_period_report(ledger: Ledger, found: Analysis, trades: ClosedTrades) -> str:
    """The page of an analysis; `trades` are those that its filter left. LedgerUnavailable."""
    spec = equity_spec(found)
    listed = period_trades(ledger, trades)
    return page_template("period_report.html.j2").render(
        title=filter_words(found.wanted),
        found=found,
        figures=figure_rows(found),
        headline=HEADLINE,
        spec=spec,
        still=base64.b64encode(equity_png(found)).decode("ascii") if spec else None,
        heat=heat_map(zip(trades.weekday.tolist(), trades.entry_hour.tolist(), trades.net_paise.tolist(), strict=True)),
        trades=listed,
        left_out=len(trades) - len(listed),
        refusals=refusal_shares(found.refusals),
        groups=[(GROUP_WORDS[name], group_rows(name, parts)) for name, parts in found.groups.items()],
        ledger=ledger.place,
        chart_library=chart_library() if spec else "",
    )


def equity_png(found: Analysis) -> bytes:
    """Net result so far and drawdown by day, on white; call only where there is a specification."""
    spec = equity_spec(found)
    for panel in spec["vconcat"]:
        panel["width"] = 900
    png: bytes = vl_convert.vegalite_to_png(vl_spec=spec | {"background": "white", "padding": 12})
    return png


def equity_spec(found: Analysis) -> dict[str, Any]:
    """The same as a Vega-Lite specification; empty where there is no way to draw: fewer than two days."""
    equity = found.equity
    if len(equity.days) < 2:
        return {}
    rows = [
        {"day": day.isoformat(), "net": (value - found.capital_paise) / 100, "drawdown": -abs(fall) / 100}
        for day, value, fall in zip(
            equity.days, equity.equity_paise.tolist(), equity.drawdown_paise.tolist(), strict=True
        )
    ]
    days = alt.Chart(alt.NamedData("days")).encode(
        x=alt.X("day:T", axis=alt.Axis(title=None, labelOverlap=True, format="%d %b %y"))
    )
    tooltip = [
        alt.Tooltip("day:T", format="%d %b %Y"),
        alt.Tooltip("net:Q", format="+,.2f", title="net so far, INR"),
        alt.Tooltip("drawdown:Q", format=",.2f", title="below its highest, INR"),
    ]
    net = days.mark_line(color=NEUTRAL, strokeWidth=2, point=len(rows) <= 60).encode(
        y=alt.Y("net:Q", title="net so far, INR", axis=alt.Axis(format=",.0f")), tooltip=tooltip
    )
    fall = days.mark_area(color=DOWN, opacity=0.4).encode(
        y=alt.Y("drawdown:Q", title="drawdown", axis=alt.Axis(format=",.0f", tickCount=3)), tooltip=tooltip
    )
    chart = alt.vconcat(net.properties(height=220), fall.properties(height=80), spacing=8)
    chart = chart.resolve_scale(x="shared").configure_view(strokeOpacity=0.25).configure_axis(gridOpacity=0.25)
    spec: dict[str, Any] = chart.to_dict()
    spec["datasets"] = {"days": rows}
    return spec


def period_trades(ledger: Ledger, trades: ClosedTrades) -> list[PeriodTrade]:
    """The newest trades, newest first."""
    order = trades.column("exit_at_ms").argsort(kind="stable")[::-1][:TRADES_LISTED_MAX].tolist()
    explained: dict[SessionName, dict[tuple[int, int], TradeLine]] = {}
    listed = []
    for place in order:
        session = trades.sessions[int(trades.session[place])]
        if session not in explained:
            explained[session] = _explained(ledger, session)
        record = {name: int(column[place]) for name, column in trades.columns.items()}
        number, bought_ms, sold_ms = (record[name] for name in ("trade", "entry_at_ms", "exit_at_ms"))
        line = explained[session].get((number, bought_ms))
        quantity = record["quantity"]
        listed.append(
            PeriodTrade(
                day=f"{session.day:%Y-%m-%d %a}",
                mode=session.mode,
                contract=line.contract
                if line is not None
                else f"{session.index} {record['strike_points']} {OPTION_TYPES[record['put']]}",
                bought=f"{ist(bought_ms):%H:%M:%S}",
                sold=f"{ist(sold_ms):%H:%M:%S}",
                quantity=quantity,
                entry_paise=average_paise(record["buy_value_paise"], quantity),
                exit_paise=average_paise(record["sell_value_paise"], quantity),
                charges_paise=record["charges_paise"],
                net_paise=int(trades.net_paise[place]),
                closed_by=exit_words(trades.reasons[record["reason"]]),
                why_entry=line.why_entry if line is not None else "",
                why_exit=line.why_exit if line is not None else "",
            )
        )
    return listed


def _explained(ledger: Ledger, session: SessionName) -> dict[tuple[int, int], TradeLine]:
    """The trades of a session by number and time of purchase; of several accounts all."""
    if session.mode == IMPORTED:
        return {}
    known = ledger.session_ids(day=session.day, underlying=Underlying(session.index), mode=session.mode)
    return {
        (record.trade, record.entry_at_ms): trade_line(record)
        for session_id in known
        for record in ledger.trades(session_id)
    }
