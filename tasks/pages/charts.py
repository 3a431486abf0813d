"""The day in a picture: index candles with SuperTrend and trades, the premium held with its stop, the day's P&L.

The rows come from `chart_rows.py`; they become a PNG (mail, Telegram, Prefect UI) or a Vega-Lite specification
(HTML report). Amounts are written INR, since a machine without fonts has no rupee sign. Colours are of middle
brightness, for light and dark backgrounds.
"""

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import altair as alt
import vl_convert

from tasks.pages.chart_rows import Picture, datasets

Panel: TypeAlias = alt.LayerChart | alt.FacetChart

UP, DOWN = "#26a69a", "#ef5350"
CALL, PUT, NEUTRAL = "#2f7fd6", "#9c4dcc", "#8a8f98"
_WON = alt.condition(alt.datum.won, alt.value(UP), alt.value(DOWN))


def day_chart_png(picture: Picture, *, width: int = 1000, scale: float = 1.0) -> bytes:
    """The picture as PNG on white."""
    return chart_png(picture.title, datasets(picture), picture.loss_limit_paise, width=width, scale=scale)


def chart_library() -> str:
    """What draws a specification in a browser: Vega, Vega-Lite and their embedding as one script of 0.9 MB."""
    # The stub file forgets that the argument is optional.
    script: str = vl_convert.javascript_bundle()  # type: ignore[call-arg]
    return script


def day_chart_spec(picture: Picture, *, width: int | str = 1000) -> dict[str, Any]:
    """The picture as a Vega-Lite specification whose rows are the named `datasets`."""
    return chart_spec(picture.title, datasets(picture), picture.loss_limit_paise, width=width)


def chart_png(
    title: str,
    rows: Mapping[str, Sequence[Mapping[str, Any]]],
    loss_limit_paise: int = 0,
    *,
    width: int = 1000,
    scale: float = 1.0,
) -> bytes:
    """The `rows` of a picture as PNG on white."""
    spec = chart_spec(title, rows, loss_limit_paise, width=width) | {"background": "white", "padding": 12}
    png: bytes = vl_convert.vegalite_to_png(vl_spec=spec, scale=scale)
    return png


def chart_spec(
    title: str,
    rows: Mapping[str, Sequence[Mapping[str, Any]]],
    loss_limit_paise: int = 0,
    *,
    width: int | str = 1000,
) -> dict[str, Any]:
    """The `rows` of a picture as a Vega-Lite specification."""
    has_trades = bool(rows["trades"])
    panels: list[Any] = [_index_panel(named=not has_trades).properties(height=300, width=width)]
    if has_trades:
        panels.append(_premium_panel(named=False).properties(height=110, width=width))
        panels.append(_equity_panel(loss_limit_paise, named=True).properties(height=90, width=width))
    chart = alt.vconcat(*panels, spacing=8, title=alt.Title(title, anchor="start", fontSize=14))
    chart = chart.resolve_scale(x="shared").configure_view(strokeOpacity=0.25).configure_axis(gridOpacity=0.25)
    spec: dict[str, Any] = chart.to_dict()
    spec["datasets"] = rows
    return spec


def _time(field: str, *, named: bool) -> alt.X:
    """The shared axis of time, in every layer the same; only the lowest panel names the hours."""
    axis = alt.Axis(format="%H:%M", title=None, labelOverlap=True, gridOpacity=0.12, labels=named, ticks=named)
    return alt.X(f"{field}:T", axis=axis)


def _index_panel(*, named: bool) -> Panel:
    candles = alt.Chart(alt.NamedData("candles")).encode(
        x=_time("time", named=named),
        color=alt.condition(alt.datum.rose, alt.value(UP), alt.value(DOWN)),
        tooltip=[
            alt.Tooltip("time:T", format="%H:%M:%S"),
            *(alt.Tooltip(f"{name}:Q", format=",.2f") for name in ("open", "high", "low", "close")),
        ],
    )
    level = alt.Y("low:Q", scale=alt.Scale(zero=False), title="index", axis=alt.Axis(format=",.0f"))
    wicks = candles.mark_rule(strokeWidth=1).encode(y=level, y2="high:Q")
    bodies = candles.mark_bar(width=2).encode(y="open:Q", y2="close:Q")
    line = alt.Chart(alt.NamedData("line")).encode(x=_time("time", named=named))
    rising = line.mark_line(strokeWidth=1.5, color=UP, opacity=0.75).encode(y="up:Q")
    falling = line.mark_line(strokeWidth=1.5, color=DOWN, opacity=0.75).encode(y="down:Q")
    return alt.layer(_held_spans(named=named), wicks, bodies, rising, falling, *_trade_layers(named=named))


def _held_spans(*, named: bool) -> alt.Chart:
    """A band behind the candles while something was held."""
    spans: alt.Chart = (
        alt.Chart(alt.NamedData("trades"))
        .mark_rect(opacity=0.16)
        .encode(x=_time("entry", named=named), x2="exit:T", color=_WON)
    )
    return spans


def _trade_layers(*, named: bool) -> list[alt.Chart]:
    """Calls point up from below the price, puts down from above it; a diamond where they were sold."""
    trades = alt.Chart(alt.NamedData("trades"))
    tooltip = [
        alt.Tooltip("trade:N"),
        alt.Tooltip("kind:N", title="option"),
        alt.Tooltip("entry:T", format="%H:%M:%S", title="bought"),
        alt.Tooltip("exit:T", format="%H:%M:%S", title="sold"),
        alt.Tooltip("entry_premium:Q", format=".2f", title="bought at"),
        alt.Tooltip("exit_premium:Q", format=".2f", title="sold at"),
        alt.Tooltip("pnl:Q", format="+,.2f", title="net, INR"),
    ]
    entries = [
        trades.transform_filter(alt.datum.kind == kind)
        .mark_point(shape=shape, yOffset=offset, fill=colour, size=110, opacity=1, stroke="white", strokeWidth=1)
        .encode(x=_time("entry", named=named), y="entry_index:Q", tooltip=tooltip)
        for kind, shape, offset, colour in (("CE", "triangle-up", 10, CALL), ("PE", "triangle-down", -10, PUT))
    ]
    ended = trades.transform_filter("isValid(datum.exit)").encode(
        x=_time("exit", named=named), y="exit_index:Q", tooltip=tooltip
    )
    exits = ended.mark_point(size=70, shape="diamond", opacity=1, stroke="white", strokeWidth=1).encode(fill=_WON)
    labels = ended.mark_text(dy=-18, fontWeight="bold", fontSize=12).encode(text="label:N", color=_WON)
    return [*entries, exits, labels]


def _premium_panel(*, named: bool) -> Panel:
    premium = alt.Y("premium:Q", scale=alt.Scale(zero=False), title="premium")
    held = (
        alt.Chart(alt.NamedData("premiums"))
        .mark_line(color=NEUTRAL, strokeWidth=1.5, point=alt.OverlayMarkDef(size=18, color=NEUTRAL))
        .encode(x=_time("time", named=named), y=premium, detail="trade:N")
    )
    stops = (
        alt.Chart(alt.NamedData("stops"))
        .mark_line(color=DOWN, strokeDash=[4, 3], interpolate="step-after", strokeWidth=1.5)
        .encode(x=_time("time", named=named), y="stop:Q", detail="trade:N")
    )
    return alt.layer(held, stops)


def _equity_panel(loss_limit_paise: int, *, named: bool) -> Panel:
    equity = alt.Chart(alt.NamedData("equity")).encode(x=_time("time", named=named))
    pnl = alt.Y("pnl:Q", title="day P&L, INR", axis=alt.Axis(format=",.0f", tickCount=4))
    layers = [
        equity.mark_area(interpolate="step-after", color=DOWN, opacity=0.25).encode(
            y=alt.Y("drawdown:Q", title="day P&L, INR")
        ),
        equity.mark_line(interpolate="step-after", color=NEUTRAL, strokeWidth=2).encode(y=pnl),
    ]
    if loss_limit_paise:
        limit = alt.Chart(alt.NamedData("equity")).transform_calculate(limit=str(-loss_limit_paise / 100))
        layers.append(
            limit.mark_line(color=DOWN, strokeDash=[6, 4], strokeWidth=1).encode(
                x=_time("time", named=named), y=alt.Y("limit:Q")
            )
        )
    return alt.layer(*layers)
