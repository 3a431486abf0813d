"""The facts behind a decision as plain values: candle, indicators, prices, and the settings that applied.

Prices in rupees or points as a person reads them; times as Unix milliseconds.
"""

from collections.abc import Mapping
from typing import TypeAlias

from strategy.actions import ExitReason
from strategy.instruments import Contract
from strategy.params import Params
from strategy.position import Position
from strategy.signals import Signals
from strategy.state import Limits, Quote

Facts: TypeAlias = Mapping[str, float | int | str | bool | None]

# The settings that each reason to close applies.
_SETTINGS_OF: dict[ExitReason, tuple[str, ...]] = {
    ExitReason.MAX_LOSS_PER_TRADE: ("max_loss_per_trade",),
    ExitReason.TARGET: ("target_points",),
    ExitReason.STOP_LOSS: ("stop_loss_points",),
    ExitReason.TRAILING_STOP: ("trail_start_points", "trail_step_points", "stop_loss_points"),
    ExitReason.REVERSAL: ("supertrend_period", "supertrend_multiplier", "min_hold_seconds"),
    ExitReason.SQUAREOFF: ("squareoff_at",),
}


def signal_facts(signals: Signals) -> Facts:
    """The last closed candle and what the indicators say after it."""
    candle = signals.candle
    facts: dict[str, float | int | str | bool | None] = {}
    if candle is not None:
        facts |= {
            "candle_start_ms": candle.start_ms,
            "candle_seconds": candle.seconds,
            "candle_close": candle.close_paise / 100,
        }
    return facts | {
        "supertrend": signals.line_points,
        "direction": signals.direction,
        "flipped": signals.flipped,
        "macd": signals.macd_points,
        "macd_signal": signals.macd_signal_points,
        "htf_direction": signals.htf_direction,
    }


def entry_facts(
    signals: Signals, spot_paise: int, contract: Contract, quote: Quote, lots: int, params: Params
) -> Facts:
    """Why this contract was bought now."""
    return {
        **signal_facts(signals),
        "spot": spot_paise / 100,
        "strike_points": contract.strike_points,
        "option_type": str(contract.option_type),
        "premium": quote.price_paise / 100,
        "bid": quote.bid_paise / 100,
        "ask": quote.ask_paise / 100,
        "lots": lots,
        "lot_size": contract.lot_size,
        "flip_only": params.flip_only,
        "macd_confirmation": params.macd_confirmation,
        "htf_filter": params.htf_filter,
        "moneyness": params.moneyness,
        "supertrend_period": params.supertrend_period,
        "supertrend_multiplier": params.supertrend_multiplier,
        "stop_loss_points": params.stop_loss_points,
        "risk_per_trade": params.risk_per_trade,
    }


def exit_facts(
    position: Position,
    reason: ExitReason,
    quote: Quote | None,
    *,
    day_pnl_paise: int,
    signals: Signals,
    limits: Limits,
    params: Params,
) -> Facts:
    """Why what is held of this trade is sold now."""
    price_paise = quote.price_paise if quote is not None else None
    facts: dict[str, float | int | str | bool | None] = {
        **signal_facts(signals),
        "premium": None if price_paise is None else price_paise / 100,
        "entry": position.entry_paise() / 100,
        "stop": position.stop_paise / 100 if position.stop_paise else None,
        "stop_has_moved": position.trailed,
        "position_pnl": None if price_paise is None else position.pnl_paise(price_paise) / 100,
        "day_pnl": day_pnl_paise / 100,
        "attempt": position.failures + 1,
    }
    if reason is ExitReason.DAILY_MAX_LOSS:
        facts["daily_max_loss"] = limits.daily_max_loss_paise / 100
    for name in _SETTINGS_OF.get(reason, ()):
        value = getattr(params, name)
        facts[name] = value if isinstance(value, int | float) else str(value)
    return facts
