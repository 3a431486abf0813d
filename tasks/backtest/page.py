"""A backtest for people: one HTML page that needs no network, and the same in Markdown for an artifact."""

import base64
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import altair as alt
import jinja2
import numpy as np
import vl_convert

from strategy.metrics import Part, break_down
from strategy.position import Trade
from tasks.backtest.replay import MODELLED
from tasks.backtest.result import BacktestResult
from tasks.clock import ist
from tasks.evening.analytics import figures
from tasks.evening.tables import GROUP_WORDS, group_rows
from tasks.pages.heat import heat_map
from tasks.pages.money import average_paise, render_points, render_rupees
from tasks.pages.report import settings_rows
from tasks.pages.wording import describe_entry, describe_exit, exit_words, refusal_words

TRADES_SHOWN = 2_000


def write_page(result: BacktestResult, home: Path) -> Path:
    """Write the page below `home`/backtests; the same test has the same name."""
    text = json.dumps(result.to_json(), sort_keys=True).encode()
    name = f"{result.index}-{result.days[0]}-{result.days[-1]}-{hashlib.sha256(text).hexdigest()[:8]}.html"
    file = home / "backtests" / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(render_page(result), encoding="utf-8")
    return file


def render_page(result: BacktestResult) -> str:
    """The page: result, equity, what the test admits, numbers, trades, settings."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("tasks"), autoescape=True, trim_blocks=True, undefined=jinja2.StrictUndefined
    )
    environment.filters |= {
        "rupees": render_rupees,
        "signed": lambda paise: render_rupees(round(paise), signed=True),
        "points": render_points,
        "exit_words": exit_words,
        "refusal_words": refusal_words,
        "why_entry": lambda trade: describe_entry(trade.why_entry.facts),
        "why_exit": lambda trade: describe_exit(trade.exit_reason, trade.why_exit.facts),
        "tone": lambda paise: "up" if paise > 0 else "down" if paise < 0 else "",
        "moment": lambda at_ms: f"{ist(at_ms):%d %b %Y %H:%M:%S}",
    }
    png = vl_convert.vegalite_to_png(vl_spec=equity_spec(result) | {"background": "white", "padding": 12}, scale=1.5)
    trades = result.trades
    return environment.get_template("backtest.html.j2").render(
        result=result,
        picture=base64.b64encode(png).decode("ascii"),
        figures=figures(result.figures),
        reasons=result.by_reason(),
        heat=heat_map((ist(one.entry_at_ms).weekday(), ist(one.entry_at_ms).hour, one.net_paise) for one in trades),
        groups=[(GROUP_WORDS[name], group_rows(name, parts)) for name, parts in groups_of(trades).items()],
        gross_paise=sum(trade.gross_paise for trade in result.trades),
        charges_paise=sum(trade.charges_paise for trade in result.trades),
        trades=trades[:TRADES_SHOWN],
        shows_premiums=any(priced != MODELLED for priced in result.priced),
        settings=settings_rows(result.params.model_dump(mode="json")),
    )


def groups_of(trades: Sequence[Trade]) -> dict[str, dict[str, Part]]:
    """The breakdowns of an evening's report that a backtest can have, by their names there."""
    entered = [ist(trade.entry_at_ms) for trade in trades]
    keys = {
        "month": [f"{at:%Y-%m}" for at in entered],
        "direction": [str(trade.contract.option_type) for trade in trades],
        "expiry_day": [
            "expiry day" if trade.contract.expiry == at.date() else "other days"
            for trade, at in zip(trades, entered, strict=True)
        ],
    }
    net = np.array([trade.net_paise for trade in trades], dtype=np.int64)
    return {name: break_down(of, net) for name, of in keys.items()} if trades else {}


def trade_rows(result: BacktestResult) -> list[dict[str, str]]:
    """The trades as the rows of a table artifact, explained; as many as the page shows."""
    return [
        {
            "contract": trade.contract.name,
            "units": str(trade.quantity),
            "bought": f"{ist(trade.entry_at_ms):%Y-%m-%d %H:%M:%S}",
            "at": render_points(average_paise(trade.buy_value_paise, trade.quantity)),
            "sold": f"{ist(trade.exit_at_ms):%H:%M:%S}",
            "for": render_points(average_paise(trade.sell_value_paise, trade.quantity)),
            "gross": render_rupees(trade.gross_paise, signed=True),
            "charges": render_rupees(trade.charges_paise),
            "net": render_rupees(trade.net_paise, signed=True),
            "premiums": priced,
            "why bought": describe_entry(trade.why_entry.facts),
            "why sold": describe_exit(trade.exit_reason, trade.why_exit.facts),
        }
        for trade, priced in list(zip(result.trades, result.priced, strict=True))[:TRADES_SHOWN]
    ]


def render_backtest(result: BacktestResult, page: Path) -> str:
    """The result in Markdown."""
    head, *rest = result.lines()
    return "\n".join([f"## Backtest: {head}", "", *(f"- {line.strip()}" for line in rest), "", f"Report: `{page}`"])


def equity_spec(result: BacktestResult) -> dict[str, Any]:
    """Net P&L day by day, added up, as a Vega-Lite specification."""
    total, rows = 0, []
    for day, net in zip(result.days, result.day_net_paise, strict=True):
        total += net
        rows.append({"day": day.isoformat(), "net": net / 100, "total": total / 100})
    days = alt.Chart(alt.NamedData("days")).encode(x=alt.X("day:T", title=None))
    bars = days.mark_bar(opacity=0.5).encode(
        y=alt.Y("net:Q", title="INR, net"),
        color=alt.condition(alt.datum.net > 0, alt.value("#26a69a"), alt.value("#ef5350")),
    )
    line = days.mark_line(color="#2f7fd6", strokeWidth=2, interpolate="step-after").encode(y="total:Q")
    spec: dict[str, Any] = alt.layer(bars, line).properties(width=1000, height=320).to_dict()
    return spec | {"datasets": {"days": rows}}
