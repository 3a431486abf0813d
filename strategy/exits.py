"""When a position is closed, and where its stop is. The order of the checks is the rule.

Invariants:
1. The first reason that holds wins; a reason does not depend on orders, cooldown or hold.
2. The stop only rises, and everything about it is integer paise.
"""

from strategy.actions import ExitReason
from strategy.instruments import OptionType
from strategy.params import Params
from strategy.position import Position
from strategy.risk import is_breached
from strategy.state import Limits


def exit_reason(
    position: Position, price_paise: int, *, day_pnl_paise: int, limits: Limits, params: Params
) -> ExitReason | None:
    """Why `position` must be closed at `price_paise`, or None. `day_pnl_paise` includes this position's."""
    if is_breached(day_pnl_paise, limits.daily_max_loss_paise):
        return ExitReason.DAILY_MAX_LOSS
    loss_max_paise = params.max_loss_per_trade_paise
    if loss_max_paise and position.pnl_paise(price_paise) <= -loss_max_paise:
        return ExitReason.MAX_LOSS_PER_TRADE
    entry = position.entry
    # Multiplied out, because the average price of several fills need not be a whole paisa.
    if params.target_paise and price_paise * entry.filled - entry.value_paise >= params.target_paise * entry.filled:
        return ExitReason.TARGET
    if position.stop_paise and price_paise <= position.stop_paise:
        return ExitReason.TRAILING_STOP if position.trailed else ExitReason.STOP_LOSS
    return None


def trailed_stop_paise(position: Position, price_paise: int, params: Params) -> int:
    """Where a price of `price_paise` puts the stop: the present one or higher."""
    start_paise, step_paise = params.trail_start_paise, params.trail_step_paise
    entry = position.entry
    if not start_paise or not entry.filled:
        return position.stop_paise
    beyond_start = (price_paise - start_paise) * entry.filled - entry.value_paise
    if beyond_start < 0:
        return position.stop_paise
    steps = beyond_start // (step_paise * entry.filled)
    locked_paise = max(0, start_paise - step_paise + step_paise * steps)
    return max(position.stop_paise, position.entry_paise + locked_paise)


def is_against(position: Position, direction: int) -> bool:
    """True when SuperTrend points the other way than what is held."""
    return direction == (-1 if position.contract.option_type is OptionType.CE else 1)


def may_reverse(position: Position, now_ms: int, params: Params) -> bool:
    """True once a reversal may close the position; risk exits do not ask."""
    return position.held > 0 and now_ms - position.opened_ms >= params.min_hold_seconds * 1000
