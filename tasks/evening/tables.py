"""An analysis for people and programs: on a terminal, as Markdown, as JSON. What is undefined is a dash, or null."""

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from datetime import date
from typing import Any

import numpy as np
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from strategy.analysis import Analysis
from strategy.closed_trades import TradeFilter
from strategy.metrics import Drawdown, Part
from tasks.pages.money import render_points, render_rupees
from tasks.pages.wording import exit_words, markdown_table, refusal_words, render_duration

UNDEFINED = "–"
GROUP_WORDS = {
    "index": "index",
    "mode": "mode",
    "direction": "direction",
    "exit_reason": "closed by",
    "weekday": "weekday",
    "hour": "hour of entry",
    "expiry_day": "expiry",
    "month": "month",
}
DIRECTION_WORDS = {"CE": "calls (up)", "PE": "puts (down)"}


def as_json(value: Any) -> Any:
    """Plain JSON values: dates in ISO, columns as lists, and what is undefined null. Money stays integer paise."""
    match value:
        case date():
            return value.isoformat()
        case np.ndarray():
            return value.tolist()
        case Mapping():
            return {str(key): as_json(item) for key, item in value.items()}
        case tuple() | list():
            return [as_json(item) for item in value]
        case frozenset():
            return sorted(as_json(item) for item in value)
        case _ if is_dataclass(value) and not isinstance(value, type):
            return {field.name: as_json(getattr(value, field.name)) for field in fields(value)}
        case _:
            return value


def figure_rows(found: Analysis) -> list[tuple[str, str, str]]:
    """(name, value, meaning) of every figure, in the order in which a trader asks for them."""
    trades, days, costs, execution = found.trades, found.days, found.costs, found.execution
    return [
        ("Net result", _rupees(trades.net_paise), "after charges"),
        ("Gross result", _rupees(costs.gross_paise), "before charges"),
        ("Charges", render_rupees(costs.charges_paise), f"{_percent(costs.charges_of_gross)} of the gross profit"),
        ("Trades", f"{trades.trades}", f"{trades.wins} won, {trades.losses} lost, {trades.draws} even"),
        ("Win rate", _percent(trades.win_rate), "trades won, of all trades"),
        ("Expectancy", _rupees(trades.expectancy_paise), "mean net result of a trade"),
        ("Expectancy ratio", _ratio(trades.expectancy_ratio), "(1 + payoff) × win rate − 1"),
        ("Profit factor", _ratio(trades.profit_factor), "sum won for each rupee lost"),
        ("Payoff", _ratio(trades.payoff), "mean win / mean loss"),
        ("SQN", _ratio(trades.sqn), "√n × mean / standard deviation"),
        ("p-value", _ratio(trades.p_value), "chance of such a mean if the true one were zero"),
        ("Best, worst trade", f"{_rupees(trades.best_paise)}, {_rupees(trades.worst_paise)}", "net"),
        ("Streaks", f"{trades.longest_winning_streak} won, {trades.longest_losing_streak} lost", "longest in a row"),
        ("Time in a trade", _seconds(trades.holding_median_s), f"median; mean {_seconds(trades.holding_mean_s)}"),
        ("MAE", _rupees(trades.mae_mean_paise), f"mean worst open result; worst {_rupees(trades.mae_worst_paise)}"),
        ("MFE", _rupees(trades.mfe_mean_paise), f"mean best open result; best {_rupees(trades.mfe_best_paise)}"),
        ("Slippage", _rupees(execution.slippage_paise), "paid beyond the prices decided at; below 0: gained"),
        ("Decision to entry", _seconds(execution.entry_delay_median_s), "median, to the last fill"),
        ("Decision to exit", _seconds(execution.exit_delay_median_s), "median, to the last fill"),
        ("Days", f"{days.days}", f"{days.winning_days} won, {days.losing_days} lost, {days.draw_days} even or idle"),
        ("Best, worst day", f"{_day(days.best_day)}, {_day(days.worst_day)}", "net"),
        ("Return", _percent(days.total_return, 2), f"on {render_rupees(found.capital_paise)}"),
        ("CAGR", _percent(days.cagr, 2), "a year of 252 days at this pace"),
        ("Volatility", _percent(days.volatility, 2), "of daily returns, a year"),
        ("Sharpe", _ratio(days.sharpe), "daily returns, risk-free rate 0, √252"),
        ("Sortino", _ratio(days.sortino), "downside against 0"),
        ("Calmar", _ratio(days.calmar), "CAGR / drawdown; from 20 days on"),
        ("Max drawdown", _drawdown_money(days.drawdown_in_money), _drawdown_days(days.drawdown_in_money)),
        ("Max drawdown, %", _drawdown_part(days.drawdown), _drawdown_days(days.drawdown)),
    ]


def group_rows(name: str, parts: Mapping[str, Part]) -> list[tuple[str, ...]]:
    """(key, trades, won, win rate, profit factor, mean, net) of a breakdown."""
    return [
        (
            _key_words(name, key),
            str(part.trades),
            str(part.wins),
            _percent(part.win_rate),
            _ratio(part.profit_factor),
            _rupees(part.expectancy_paise),
            _rupees(part.net_paise),
        )
        for key, part in parts.items()
    ]


def _key_words(name: str, key: str) -> str:
    if name == "exit_reason":
        return exit_words(key) or "unknown"
    return DIRECTION_WORDS[key] if name == "direction" else key


GROUP_HEADER = ("trades", "won", "win rate", "profit factor", "mean", "net")


def render_analysis(found: Analysis) -> RenderableType:
    """The analysis on a terminal, for `rich.console.Console.print`."""
    head = Text(f"{filter_words(found.wanted)}\n", style="bold")
    head.append(f"{found.sessions} sessions, {found.days.days} trading days", style="dim")
    figures = _table("figure", "value", "meaning")
    for row in figure_rows(found):
        figures.add_row(*row)
    parts: list[RenderableType] = [head, figures]
    for name, groups in found.groups.items():
        if groups:
            table = _table(GROUP_WORDS[name], *GROUP_HEADER)
            for cells in group_rows(name, groups):
                table.add_row(*cells)
            parts += [Text(), table]
    if found.refusals:
        listed = ", ".join(f"{refusal_words(reason)} {count}" for reason, count in found.refusals.items())
        parts += [Text(), Text(f"why no entry (signals): {listed}", style="dim")]
    return Group(*parts)


def render_markdown(found: Analysis) -> str:
    """The analysis for an artifact in the Prefect UI."""
    lines = [f"## {filter_words(found.wanted)}", "", f"{found.sessions} sessions, {found.days.days} trading days.", ""]
    lines += markdown_table(("figure", "value", "meaning"), figure_rows(found))
    for name, groups in found.groups.items():
        if groups:
            lines += ["", *markdown_table((GROUP_WORDS[name], *GROUP_HEADER), group_rows(name, groups))]
    if found.refusals:
        rows = [(refusal_words(reason), str(count)) for reason, count in found.refusals.items()]
        lines += ["", *markdown_table(("why no entry", "signals"), rows)]
    return "\n".join(lines) + "\n"


def filter_words(wanted: TradeFilter) -> str:
    """What was asked for, in one line."""
    first, last = wanted.first or "the beginning", wanted.last or "now"
    words = [f"{first} to {last}"]
    for values in (wanted.indices, wanted.modes, wanted.directions, wanted.reasons):
        words += [", ".join(sorted(values))] if values else []
    if wanted.weekdays:
        words.append("weekdays " + ", ".join(str(day + 1) for day in sorted(wanted.weekdays)))
    if wanted.hours:
        words.append("entered at " + ", ".join(f"{hour:02}" for hour in sorted(wanted.hours)) + " h")
    if wanted.expiry_day is not None:
        words.append("on expiry days" if wanted.expiry_day else "not on expiry days")
    return " · ".join(words)


def _table(first: str, *others: str) -> Table:
    table = Table(box=None, header_style="dim", pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column(first, no_wrap=True)
    for name in others:
        table.add_column(name, justify="left" if name == "meaning" else "right")
    return table


def _percent(value: float | None, digits: int = 0) -> str:
    return UNDEFINED if value is None else f"{100 * value:.{digits}f} %"


def _ratio(value: float | None) -> str:
    return UNDEFINED if value is None else f"{value:.2f}"


def _rupees(paise: float | None) -> str:
    return UNDEFINED if paise is None else render_rupees(round(paise), signed=True)


def _seconds(value: float | None) -> str:
    return UNDEFINED if value is None else f"{value:.2f} s" if value < 10 else render_duration(round(value * 1000))


def _day(day: tuple[date, int] | None) -> str:
    return UNDEFINED if day is None else f"{_rupees(day[1])} ({day[0]:%d %b})"


def _drawdown_money(found: Drawdown | None) -> str:
    return UNDEFINED if found is None else f"₹{render_points(found.paise)}"


def _drawdown_part(found: Drawdown | None) -> str:
    return UNDEFINED if found is None else _percent(found.ratio, 2)


def _drawdown_days(found: Drawdown | None) -> str:
    if found is None:
        return "equity never fell below its highest point"
    back = f"back on {found.recovered:%d %b %Y}" if found.recovered else "not recovered yet"
    return f"from {f'{found.peak:%d %b %Y}' if found.peak else 'the start'} to {found.trough:%d %b %Y}, {back}"
