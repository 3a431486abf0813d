"""The day's trades in numbers, as rows for people: what each is, its value, and what it means."""

from dataclasses import dataclass

import numpy as np

from strategy.metrics import TradeColumns, TradeMetrics, break_down, trade_metrics
from tasks.clock import epoch_ms
from tasks.pages.money import render_rupees
from tasks.pages.summary import DaySummary, TradeLine, result_line
from tasks.pages.wording import exit_words, markdown_table, render_duration

UNDEFINED = "–"


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One number of the day in words."""

    name: str
    value: str
    meaning: str


def closed_trades(summary: DaySummary) -> list[TradeLine]:
    """The closed trades in the order of their exits, as the metrics want them."""
    return sorted((t for t in summary.trades if t.exited_at is not None), key=lambda t: t.exited_at or t.entered_at)


def real_results(summary: DaySummary) -> dict[int, int]:
    """What each closed trade brought before charges, paise."""
    return {trade.trade: trade.gross_paise for trade in closed_trades(summary)}


def day_trade_metrics(summary: DaySummary) -> TradeMetrics:
    """The metrics of the day's closed trades, net of charges."""
    closed = closed_trades(summary)
    return trade_metrics(
        TradeColumns(
            net_paise=np.array([trade.net_paise for trade in closed], dtype=np.int64),
            entry_at_ms=np.array([epoch_ms(trade.entered_at) for trade in closed], dtype=np.int64),
            exit_at_ms=np.array([epoch_ms(trade.exited_at or trade.entered_at) for trade in closed], dtype=np.int64),
        )
    )


def figures(metrics: TradeMetrics) -> tuple[Figure, ...]:
    """The metrics in the order in which a trader asks for them; what is not defined is a dash."""
    return (
        Figure(name="Win rate", value=_percent(metrics.win_rate), meaning="trades won, of all trades"),
        Figure(name="Expectancy", value=_rupees(metrics.expectancy_paise), meaning="mean net result of a trade"),
        Figure(name="Profit factor", value=_ratio(metrics.profit_factor), meaning="sum won for each rupee lost"),
        Figure(name="Payoff", value=_ratio(metrics.payoff), meaning="mean win / mean loss"),
        Figure(name="Best trade", value=_rupees(metrics.best_paise), meaning="net"),
        Figure(name="Worst trade", value=_rupees(metrics.worst_paise), meaning="net"),
        Figure(
            name="Drawdown",
            value=render_rupees(metrics.drawdown_paise),
            meaning="deepest fall from the best point of the day, closed trades",
        ),
        Figure(
            name="Streaks",
            value=f"{metrics.longest_winning_streak} won, {metrics.longest_losing_streak} lost",
            meaning="longest in a row",
        ),
        Figure(
            name="Time in a trade",
            value=_seconds(metrics.holding_median_s),
            meaning=f"median; mean {_seconds(metrics.holding_mean_s)}",
        ),
        Figure(name="SQN", value=_ratio(metrics.sqn), meaning="√n × mean / standard deviation"),
        Figure(
            name="p-value", value=_ratio(metrics.p_value), meaning="chance of such a mean if the true one were zero"
        ),
    )


def by_exit_reason(summary: DaySummary) -> list[tuple[str, int, int, int]]:
    """(reason in words, trades, won, net paise) of the closed trades, the costliest first."""
    closed = closed_trades(summary)
    if not closed:
        return []
    net = np.array([trade.net_paise for trade in closed], dtype=np.int64)
    parts = break_down([exit_words(trade.exit_reason) for trade in closed], net)
    rows = [(reason, part.trades, part.wins, part.net_paise) for reason, part in parts.items()]
    return sorted(rows, key=lambda row: row[3])


def render_analytics(summary: DaySummary, metrics: TradeMetrics | None = None) -> str:
    """The day in Markdown, for an artifact in the Prefect UI."""
    metrics = metrics or day_trade_metrics(summary)
    net = render_rupees(summary.net_paise, signed=True)
    charges = render_rupees(summary.charges_paise)
    lines = [
        f"## {summary.index} · {summary.mode} · {summary.day:%A %d %b %Y}",
        "",
        f"**{net} net**, {render_rupees(summary.gross_paise, signed=True)} gross, {charges} charges",
        "",
        result_line(summary),
        "",
        *(f"- **{fault}**" for fault in summary.faults),
        "" if summary.faults else "Flat, reconciled with the broker, every order priced.",
        "",
        *markdown_table(("figure", "value", "meaning"), [(f.name, f.value, f.meaning) for f in figures(metrics)]),
    ]
    reasons = by_exit_reason(summary)
    if reasons:
        lines += [
            "",
            *markdown_table(
                ("closed by", "trades", "won", "net"),
                [(name, str(n), str(won), render_rupees(paise, signed=True)) for name, n, won, paise in reasons],
            ),
        ]
    return "\n".join(lines) + "\n"


def _percent(value: float | None) -> str:
    return UNDEFINED if value is None else f"{100 * value:.0f} %"


def _ratio(value: float | None) -> str:
    return UNDEFINED if value is None else f"{value:.2f}"


def _rupees(paise: float | None) -> str:
    return UNDEFINED if paise is None else render_rupees(round(paise), signed=True)


def _seconds(value: float | None) -> str:
    return UNDEFINED if value is None else render_duration(round(value * 1000))
