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
from strategy.state import Quote

Facts: TypeAlias = Mapping[str, float | int | str | bool | None]

# The settings that an entry applies.
_ENTRY_SETTINGS = (
    "candle_seconds",
    "supertrend_period",
    "supertrend_multiplier",
    "flip_only",
    "macd_confirmation",
    "htf_filter",
    "htf_seconds",
    "moneyness",
    "stop_loss_points",
    "risk_per_trade",
)
# The settings that each reason to close applies.
_EXIT_SETTINGS: dict[ExitReason, tuple[str, ...]] = {
    ExitReason.DAILY_MAX_LOSS: ("daily_max_loss",),
    ExitReason.MAX_LOSS_PER_TRADE: ("max_loss_per_trade",),
    ExitReason.TARGET: ("target_points",),
    ExitReason.STOP_LOSS: ("stop_loss_points",),
    ExitReason.TRAILING_STOP: ("stop_loss_points", "trail_start_points", "trail_step_points"),
    ExitReason.REVERSAL: ("supertrend_period", "supertrend_multiplier", "min_hold_seconds"),
    ExitReason.SQUAREOFF: ("squareoff_at",),
    ExitReason.UNKNOWN_POSITION: ("on_unknown_position",),
}


def signal_facts(signals: Signals) -> Facts:
    """The last closed candle and what the indicators say after it."""
    candle = signals.candle
    return {
        "candle_start_ms": None if candle is None else candle.start_ms,
        "candle_close": None if candle is None else candle.close_paise / 100,
        "supertrend": signals.line_points,
        "direction": signals.direction,
        "flipped": signals.flipped,
        "macd": signals.macd_points,
        "macd_signal": signals.macd_signal_points,
        "htf_direction": signals.htf_direction,
    }


def purchase_facts(spot_paise: int, contract: Contract, quote: Quote, lots: int) -> Facts:
    """What is bought, and the prices it was chosen by."""
    return {
        "spot": spot_paise / 100,
        "strike_points": contract.strike_points,
        "option_type": contract.option_type.value,
        "premium": quote.price_paise / 100,
        "bid": quote.bid_paise / 100,
        "ask": quote.ask_paise / 100,
        "lots": lots,
        "lot_size": contract.lot_size,
    }


def sale_facts(position: Position, quote: Quote | None, day_pnl_paise: int) -> Facts:
    """Where the position stands, and which attempt to sell it this is."""
    price_paise = quote.price_paise if quote is not None else None
    return {
        "premium": None if price_paise is None else price_paise / 100,
        "entry": position.entry_paise / 100,
        "stop": position.stop_paise / 100 if position.stop_paise else None,
        "stop_has_moved": position.trailed,
        "position_pnl": None if price_paise is None else position.pnl_paise(price_paise) / 100,
        "day_pnl": day_pnl_paise / 100,
        "attempt": len(position.failed) + 1,
    }


def settings_facts(params: Params, reason: ExitReason | None = None) -> Facts:
    """The settings behind an entry, or behind an exit for `reason`."""
    names = _ENTRY_SETTINGS if reason is None else _EXIT_SETTINGS.get(reason, ())
    values = {name: getattr(params, name) for name in names}
    return {name: value if isinstance(value, bool | int | float) else str(value) for name, value in values.items()}
