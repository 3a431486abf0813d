"""The settings of a session as people read them: which differ from the defaults, and what goes with them."""

from typing import Any

from strategy.params import Params
from tasks.pages.money import render_rupees
from tasks.pages.wording import markdown_table


def setting_rows(params: Params) -> list[tuple[str, str, str, str]]:
    """(label, value, unit, default where it differs) of every setting, in the order of the form."""
    values = params.model_dump(mode="json")
    rows = []
    for name, field in Params.model_fields.items():
        extra = field.json_schema_extra
        unit = str(extra.get("unit", "")) if isinstance(extra, dict) else ""
        default = field.default
        differs = getattr(params, name) != default
        rows.append((field.title or name, _text(values[name]), unit, f"default {_text(default)}" if differs else ""))
    return rows


def render_settings(params: Params, *, code_version: str, facts_version: str) -> str:
    """The exact settings of a run, with the versions of code and market facts, in Markdown."""
    lines = [
        f"# {params.index} · {params.mode} · settings of this run",
        "",
        f"{settings_line(params)}.",
        "",
        f"Code {code_version}, market facts {facts_version}.",
        "",
        *markdown_table(("setting", "value", "unit", ""), setting_rows(params)),
    ]
    return "\n".join(lines) + "\n"


def settings_line(params: Params) -> str:
    """The settings that matter most, in one line."""
    lots = "1 lot" if params.lots == 1 else f"{params.lots} lots"
    limit = render_rupees(params.daily_max_loss_paise) if params.daily_max_loss_paise else "off"
    return (
        f"{lots}, {params.candle_seconds} s candles, SuperTrend {params.supertrend_period}/"
        f"{params.supertrend_multiplier:g}, at most {params.max_trades_per_day} trades, daily loss limit {limit}"
    )


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    return f"{value:g}" if isinstance(value, float) else str(value)
