"""Decisions in words: the facts that the rules recorded (strategy/explain.py), told to a trader in one line.

Facts that are missing are left out, never made up; those of older rules read as far as they go.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from strategy.actions import ExitReason
from tasks.clock import ist
from tasks.pages.money import render_points, render_rupees

# Why a closed candle was not an entry, by the rules' own names for it.
REFUSALS = {
    "position_open": "a position was open",
    "order_in_flight": "an order was on its way",
    "session_ending": "the session was ending",
    "outside_hours": "outside trading hours",
    "halted": "halted",
    "caution": "ledger, broker or lease in doubt",
    "entries_disabled": "entries switched off",
    "ticks_stale": "index prices had stopped",
    "before_entry_start": "before the first entry time",
    "after_entry_cutoff": "after the entry cutoff",
    "max_trades": "trades of the day used up",
    "cooldown": "too soon after an order",
    "trade_gap": "too soon after the last entry",
    "daily_max_loss": "the day's loss limit",
    "paused_after_losses": "pausing after losses",
    "direction_unknown": "SuperTrend still warming up",
    "no_flip": "SuperTrend did not turn",
    "macd_not_ready": "MACD still warming up",
    "macd_against": "MACD against it",
    "htf_not_ready": "higher timeframe still warming up",
    "htf_against": "higher timeframe against it",
    "no_contract": "no such contract today",
    "no_option_quote": "no fresh option price",
    "spread_unknown": "spread unknown",
    "spread_too_wide": "spread too wide",
    "risk_too_small": "risk too small for one lot",
}
EXITS: dict[str, str] = {
    ExitReason.DAILY_MAX_LOSS: "day's loss limit",
    ExitReason.MAX_LOSS_PER_TRADE: "loss limit of the trade",
    ExitReason.TARGET: "target",
    ExitReason.STOP_LOSS: "stop loss",
    ExitReason.TRAILING_STOP: "trailing stop",
    ExitReason.REVERSAL: "reversal",
    ExitReason.SQUAREOFF: "square-off time",
    ExitReason.MANUAL: "operator",
    ExitReason.HALT: "halt",
    ExitReason.UNKNOWN_POSITION: "unknown position",
    ExitReason.UNRECORDED: "not recorded",
}
_TURNS = {1: "up", -1: "down"}


def refusal_words(reason: str) -> str:
    """Why a candle was not an entry, for people."""
    return REFUSALS.get(reason, reason.replace("_", " "))


def exit_words(reason: str | None) -> str:
    """Why a trade was closed, in two or three words; empty while it is open."""
    return EXITS.get(reason, reason.replace("_", " ")) if reason else ""


def describe_entry(facts: Mapping[str, Any]) -> str:
    """Why a trade was opened."""
    parts = [_supertrend(facts, "turned" if facts.get("flipped") else "is"), _macd(facts), _htf(facts)]
    spot, strike, option_type = facts.get("spot"), facts.get("strike_points"), facts.get("option_type")
    if spot is not None and strike is not None:
        parts.append(f"index at {_points(spot)}, so {strike} {option_type or ''}".rstrip())
    bid, ask = facts.get("bid"), facts.get("ask")
    if bid and ask:
        parts.append(f"bid {_points(bid)}, ask {_points(ask)}")
    return _sentence(parts)


def describe_exit(reason: str | None, facts: Mapping[str, Any] | None) -> str:
    """Why a trade was closed; empty while it is open."""
    if not reason:
        return ""
    return _sentence([exit_words(reason), _exit_detail(reason, facts or {})])


def render_duration(ms: int) -> str:
    """A duration in the two units that matter: "45 s", "4 min 10 s", "2 h 5 min"."""
    seconds = round(ms / 1000)
    if seconds < 60:
        return f"{seconds} s"
    minutes, seconds = divmod(seconds, 60)
    if minutes < 60:
        return f"{minutes} min {seconds} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min"


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """The lines of a Markdown table."""
    return [
        "| " + " | ".join(header) + " |",
        "|" + " --- |" * len(header),
        *("| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows),
    ]


def _exit_detail(reason: str, facts: Mapping[str, Any]) -> str:
    premium, entry, stop = (facts.get(name) for name in ("premium", "entry", "stop"))
    match reason:
        case ExitReason.STOP_LOSS | ExitReason.TRAILING_STOP if premium is not None and stop is not None:
            return f"premium {_points(premium)} reached the stop at {_points(stop)}{_from(entry)}"
        case ExitReason.TARGET if premium is not None:
            return f"premium {_points(premium)} reached the target{_from(entry)}"
        case ExitReason.REVERSAL:
            return _supertrend(facts, "is")
        case ExitReason.SQUAREOFF if facts.get("squareoff_at"):
            return f"everything is closed from {str(facts['squareoff_at'])[:5]} on"
        case ExitReason.DAILY_MAX_LOSS if facts.get("day_pnl") is not None:
            limit = facts.get("daily_max_loss")
            of = f" of {_rupees(limit)}" if limit is not None else ""
            return f"the day stood at {_rupees(facts['day_pnl'], signed=True)}, limit{of}"
        case ExitReason.MAX_LOSS_PER_TRADE if facts.get("position_pnl") is not None:
            limit = facts.get("max_loss_per_trade")
            of = f" of {_rupees(limit)}" if limit is not None else ""
            return f"the trade stood at {_rupees(facts['position_pnl'], signed=True)}, limit{of}"
        case _:
            return f"premium {_points(premium)}{_from(entry)}" if premium is not None else ""


def _supertrend(facts: Mapping[str, Any], verb: str) -> str:
    turn = _TURNS.get(facts.get("direction") or 0)
    if turn is None:
        return ""
    settings = ""
    if facts.get("supertrend_period") is not None:
        settings = f"({facts['supertrend_period']}, {facts.get('supertrend_multiplier'):g})"
    text = f"SuperTrend{settings} {verb} {turn}"
    if facts.get("candle_start_ms") is not None:
        text += f" on the {ist(int(facts['candle_start_ms'])):%H:%M:%S} candle"
    close, line = facts.get("candle_close"), facts.get("supertrend")
    if close is not None and line is not None:
        text += f" (close {_points(close)}, line {_points(line)})"
    return text


def _macd(facts: Mapping[str, Any]) -> str:
    macd, signal = facts.get("macd"), facts.get("macd_signal")
    if macd is None or signal is None or facts.get("macd_confirmation") is False:
        return ""
    return f"MACD {macd:.2f} {'≥' if macd >= signal else '<'} signal {signal:.2f}"


def _htf(facts: Mapping[str, Any]) -> str:
    turn = _TURNS.get(facts.get("htf_direction") or 0)
    return f"higher timeframe {turn}" if turn and facts.get("htf_filter") is not False else ""


def _from(entry: float | None) -> str:
    return f", bought at {_points(entry)}" if entry is not None else ""


def _points(value: float) -> str:
    return render_points(round(value * 100))


def _rupees(value: float, *, signed: bool = False) -> str:
    return render_rupees(round(value * 100), signed=signed)


def _sentence(parts: list[str]) -> str:
    text = "; ".join(part for part in parts if part)
    return text[:1].upper() + text[1:]
