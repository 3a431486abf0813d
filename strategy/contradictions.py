"""Settings that are fine alone and not together. The table is the rule; `Params` refuses what it finds.

Invariants:
1. Every contradiction is found, not only the first.
2. A setting that is wrong by itself takes no part, so one mistake is one message.
"""

import math
from collections.abc import Callable, Collection
from datetime import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from strategy.params import Params

CANDLE_SECONDS = (5, 15, 30, 60, 300, 900)
# The broker squares INTRADAY positions off itself some time after this.
INTRADAY_SQUAREOFF_LATEST = time(15, 10)

_RUPEES = (
    "risk_per_trade",
    "daily_max_loss",
    "max_loss_per_trade",
    "stop_loss_points",
    "target_points",
    "trail_start_points",
    "trail_step_points",
    "price_buffer_min_points",
    "profit_lock_from",
)
_HOURS = ("entry_start", "entry_cutoff", "squareoff_at")

# (settings in question, whether they contradict each other, what to say about it)
_CONTRADICTIONS: tuple[tuple[tuple[str, ...], Callable[["Params"], bool], str], ...] = (
    (
        ("candle_seconds",),
        lambda p: p.candle_seconds not in CANDLE_SECONDS,
        f"candle_seconds must be one of {', '.join(map(str, CANDLE_SECONDS))}",
    ),
    (
        ("htf_filter", "htf_seconds", "candle_seconds"),
        lambda p: p.htf_filter and (p.htf_seconds <= p.candle_seconds or p.htf_seconds % p.candle_seconds != 0),
        "htf_seconds must be a multiple of candle_seconds and larger; or switch htf_filter off",
    ),
    (
        ("macd_fast", "macd_slow"),
        lambda p: p.macd_fast >= p.macd_slow,
        "macd_fast must be smaller than macd_slow",
    ),
    (
        ("trail_start_points", "trail_step_points"),
        lambda p: (p.trail_start_points > 0) != (p.trail_step_points > 0),
        "trail_start_points and trail_step_points go together: set both or neither",
    ),
    (
        ("pause_after_losses", "pause_minutes"),
        lambda p: (p.pause_after_losses > 0) != (p.pause_minutes > 0),
        "pause_after_losses and pause_minutes go together: set both or neither",
    ),
    (
        ("profit_lock_from", "profit_lock_percent"),
        lambda p: (p.profit_lock_from > 0) != (p.profit_lock_percent > 0),
        "profit_lock_from and profit_lock_percent go together: set both or neither",
    ),
    (
        ("risk_per_trade", "stop_loss_points"),
        lambda p: p.risk_per_trade > 0 and p.stop_loss_points == 0,
        "risk_per_trade needs a stop to measure the risk by: set stop_loss_points",
    ),
    (
        _HOURS,
        lambda p: any(getattr(p, name).tzinfo is not None for name in _HOURS),
        "entry_start, entry_cutoff and squareoff_at are times in India: write them like 09:25, without an offset",
    ),
    (
        ("entry_start", "entry_cutoff"),
        lambda p: p.entry_start.replace(tzinfo=None) >= p.entry_cutoff.replace(tzinfo=None),
        "entry_start must be before entry_cutoff",
    ),
    (
        ("entry_cutoff", "squareoff_at"),
        lambda p: p.entry_cutoff.replace(tzinfo=None) >= p.squareoff_at.replace(tzinfo=None),
        "entry_cutoff must be before squareoff_at",
    ),
    (
        ("product", "squareoff_at"),
        lambda p: p.product == "INTRADAY" and p.squareoff_at.replace(tzinfo=None) > INTRADAY_SQUAREOFF_LATEST,
        "product INTRADAY needs squareoff_at at 15:10 or earlier: the broker closes it itself before 15:25",
    ),
    (
        ("mode", "daily_max_loss"),
        lambda p: p.mode == "live" and p.daily_max_loss == 0,
        "mode live needs a daily_max_loss above 0",
    ),
    (
        ("mode", "bypass_market_hours"),
        lambda p: p.mode == "live" and p.bypass_market_hours,
        "bypass_market_hours is not possible in mode live",
    ),
)


def contradictions(params: "Params", *, leaving_out: Collection[str]) -> tuple[str, ...]:
    """What contradicts itself in `params`, in words, judged without the settings `leaving_out`."""
    found = [
        message
        for names, contradicts, message in _CONTRADICTIONS
        if not any(name in leaving_out for name in names) and contradicts(params)
    ]
    amounts = {name: getattr(params, name) for name in _RUPEES if name not in leaving_out}
    found += [
        f"{name}: {rupees} is finer than a paisa (0.01)"
        for name, rupees in amounts.items()
        if not math.isclose(rupees * 100, round(rupees * 100), abs_tol=1e-6)
    ]
    return tuple(found)
