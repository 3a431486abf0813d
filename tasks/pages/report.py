"""The report of a day: one HTML file that needs no network, on a desk or a phone, in light or dark.

Everything is inside: style, script, the chart library and a still picture for viewers without scripts. A content
security policy in the page forbids it to load anything, so a browser itself enforces that it never does.
"""

import base64
import json
from collections.abc import Mapping, Sequence
from functools import cache
from itertools import pairwise
from typing import Any

import jinja2

from strategy.events import Tick
from strategy.metrics import TradeMetrics
from strategy.params import Params
from tasks.clock import ist
from tasks.evening.analytics import by_exit_reason, closed_trades, day_trade_metrics, figures, real_results
from tasks.evening.replay import KIND as REPLAY
from tasks.evening.twin import SLIPPAGE_PAISE, twin_line, twin_trades
from tasks.ledger.records import CandleRecord, DecisionRecord
from tasks.pages.chart_rows import Picture, naive_time, picture_of
from tasks.pages.charts import chart_library, day_chart_png, day_chart_spec
from tasks.pages.heat import heat_map
from tasks.pages.money import render_points, render_rupees
from tasks.pages.summary import DaySummary
from tasks.pages.wording import exit_words, refusal_words

GAP_MS = 5 * 60_000  # so long after a candle's end without another, the day's story says so
# What a decision is called in the day's log; refusals are counted instead, since every candle has one.
_LOGGED = {
    "stop_moved": "stop moved",
    "halted": "halted",
    "resumed": "halt lifted",
    "limits_tightened": "limits tightened",
    "alert": "alert",
}


def render_day_report(
    summary: DaySummary,
    candles: Sequence[CandleRecord],
    decisions: Sequence[DecisionRecord],
    params: Mapping[str, Any],
    *,
    ticks: Sequence[Tick] = (),
    metrics: TradeMetrics | None = None,
    still: bytes | None = None,
    library: str | None = None,
) -> str:
    """The page of a session's day. `params` are the settings of its last start, as the ledger keeps them.

    `ticks`, where recorded, draw the premiums while they were held. `still` (a PNG of `day_picture`) and `library`
    (`chart_library`) take seconds to make: they are made here where nobody made them before.
    """
    picture = day_picture(summary, candles, decisions, params, ticks=ticks)
    spec = day_chart_spec(picture, width="container") if candles else None
    verdicts = [decision for decision in decisions if decision.kind == REPLAY]
    twins = twin_trades(decisions, real_results(summary))
    return page_template("day_report.html.j2").render(
        summary=summary,
        still=base64.b64encode(still or day_chart_png(picture)).decode("ascii") if candles else None,
        spec=spec,
        detail=_detail(candles),
        figures=figures(metrics or day_trade_metrics(summary)),
        reasons=by_exit_reason(summary),
        refusals=refusal_shares(summary.refusals),
        log=[_log_row(decision) for decision in decisions if decision.kind in _LOGGED],
        settings=settings_rows(params),
        story=day_story(summary, params, candles),
        heat=heat_map((t.entered_at.weekday(), t.entered_at.hour, t.net_paise) for t in closed_trades(summary)),
        verdict=verdicts[-1] if verdicts else None,
        twins=twins,
        twin_line=twin_line(twins, summary.trade_count),
        slippage_paise=SLIPPAGE_PAISE,
        chart_library=library or chart_library(),
    )


def day_picture(
    summary: DaySummary,
    candles: Sequence[CandleRecord],
    decisions: Sequence[DecisionRecord],
    params: Mapping[str, Any],
    *,
    title: str = "",
    ticks: Sequence[Tick] = (),
) -> Picture:
    """What the day's charts show; `params` are the settings of its last start."""
    return picture_of(
        title,
        candles,
        summary.trades,
        decisions,
        ticks=ticks,
        stop_loss_paise=round(float(params.get("stop_loss_points") or 0) * 100),
        loss_limit_paise=round(float(params.get("daily_max_loss") or 0) * 100),
    )


def day_story(summary: DaySummary, params: Mapping[str, Any], candles: Sequence[CandleRecord] = ()) -> str:
    """The day in a few sentences, for someone who was not there: the market, what was traded, how, why no more."""
    closed = closed_trades(summary)
    rules = f"SuperTrend({params.get('supertrend_period')}, {params.get('supertrend_multiplier'):g})" if params else ""
    parts = _market(summary.index, candles)
    if closed:
        calls = sum(trade.option_type == "CE" for trade in closed)
        bought = " and ".join(f"{n} {word}" for n, word in ((calls, "calls"), (len(closed) - calls, "puts")) if n)
        first, last = min(t.entered_at for t in closed), max(t.exited_at or t.entered_at for t in closed)
        parts.append(f"Bought {bought} between {first:%H:%M} and {last:%H:%M}, on turns of {rules or 'SuperTrend'}.")
        won = sum(trade.net_paise for trade in closed if trade.net_paise > 0)
        lost = sum(trade.net_paise for trade in closed if trade.net_paise < 0)
        parts.append(f"Won {render_rupees(won)}, lost {render_rupees(-lost)} net of charges.")
        reasons = ", ".join(f"{words} ({count})" for words, count, _, _ in by_exit_reason(summary))
        parts.append(f"Closed by {reasons}.")
    else:
        parts.append("Nothing was bought and sold.")
    if "max_trades" in summary.refusals and summary.trades:
        last_entry = max(trade.entered_at for trade in summary.trades)
        parts.append(
            f"With the entry of {last_entry:%H:%M} the day's {len(summary.trades)} allowed trades were used up."
        )
    if summary.refusals:
        reason, count = next(iter(summary.refusals.items()))
        total = sum(summary.refusals.values())
        parts.append(
            f"{total:,} signals were not taken; the most frequent reason, {count:,} times: {refusal_words(reason)}."
        )
    if summary.halts:
        parts.append(f"Halted: {'; '.join(halt.replace('_', ' ') for halt in summary.halts)}.")
    return " ".join(parts)


def _market(index: str, candles: Sequence[CandleRecord]) -> list[str]:
    """Where the index went, and when there was no price of it: what began late or ended early is seen in the times."""
    if not candles:
        return ["No price of the index was recorded."]
    first, last = candles[0], candles[-1]
    moved = last.close_paise - first.open_paise
    went = "rose" if moved > 0 else "fell" if moved < 0 else "stayed"
    begin = f"{render_points(first.open_paise)} at {ist(first.start_ms):%H:%M}"
    end = f"{render_points(last.close_paise)} at {ist(last.start_ms + 1_000 * last.seconds):%H:%M}"
    said = [f"{index} {went} from {begin} to {end}."]
    said += [
        f"No prices between {ist(before.start_ms):%H:%M} and {ist(after.start_ms):%H:%M}."
        for before, after in pairwise(candles)
        if after.start_ms - before.start_ms >= GAP_MS + 1_000 * before.seconds
    ]
    return said


def settings_rows(params: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The settings of the day by their titles: name, title, value, unit, and whether it differs from the default."""
    rows = []
    for name, value in params.items():
        field = Params.model_fields.get(name)
        extra = field.json_schema_extra if field is not None else None
        default = field.get_default(call_default_factory=True) if field is not None else None
        rows.append(
            {
                "name": name,
                "title": (field.title if field is not None else None) or name,
                "value": _setting(value),
                "unit": _unit(extra),
                "changed": field is None or _setting(default) != _setting(value),
            }
        )
    return rows


def _unit(extra: Any) -> str:
    """A setting's unit, where it is one: "on on/off" says nothing more than "on"."""
    unit = str(extra.get("unit", "")) if isinstance(extra, dict) else ""
    return "" if unit in {"index", "mode", "product", "policy", "on/off"} else unit


def _detail(candles: Sequence[CandleRecord]) -> dict[str, Any]:
    """Every candle as it was traded, for a look at one trade: seconds after the first, OHLC, SuperTrend up, down."""
    if not candles:
        return {}
    return {
        "first": naive_time(candles[0].start_ms),
        "rows": [
            [
                (candle.start_ms - candles[0].start_ms) // 1000,
                candle.open_paise / 100,
                candle.high_paise / 100,
                candle.low_paise / 100,
                candle.close_paise / 100,
                *_either_way(candle),
            ]
            for candle in candles
        ],
    }


def _either_way(candle: CandleRecord) -> tuple[float | None, float | None]:
    line = round(candle.supertrend, 2) if candle.supertrend is not None else None
    return (line if candle.direction > 0 else None, line if candle.direction < 0 else None)


def refusal_shares(refusals: Mapping[str, int]) -> list[dict[str, Any]]:
    """Why candles were no entries, each with its share of the most frequent one in percent."""
    most = max(refusals.values(), default=1)
    return [
        {"words": refusal_words(reason), "count": count, "share": round(100 * count / most)}
        for reason, count in refusals.items()
    ]


def _log_row(decision: DecisionRecord) -> dict[str, str]:
    detail = decision.detail
    match decision.kind:
        case "stop_moved":
            text = f"trade {detail.get('trade')}: to {render_points(int(detail.get('stop_paise', 0)))}"
        case "alert":
            text = str(detail.get("message", ""))
        case "limits_tightened":
            limit = render_rupees(int(detail.get("daily_max_loss_paise") or 0))
            text = f"day's loss {limit}, trades {detail.get('max_trades_per_day')}"
        case _:
            text = decision.reason.replace("_", " ")
    return {"time": f"{ist(decision.at_ms):%H:%M:%S}", "kind": _LOGGED[decision.kind], "text": text}


def _setting(value: Any) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    return f"{value:g}" if isinstance(value, float) else str(value)


def page_template(name: str) -> jinja2.Template:
    """A page of ours with its filters; what comes from outside is escaped."""
    return _environment().get_template(name)


@cache
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("tasks"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters |= {
        "rupees": render_rupees,
        "signed": lambda paise: render_rupees(paise, signed=True),
        "points": render_points,
        "exit_words": exit_words,
        "tone": lambda paise: "up" if paise > 0 else "down" if paise < 0 else "",
        "script_json": _script_json,
    }
    return environment


def _script_json(value: Any) -> str:
    """JSON that cannot end the script element around it."""
    text = json.dumps(value, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
