"""How much to buy, and when the day has had enough.

Invariants:
1. Size is only ever reduced by risk, never raised; too little risk money buys nothing.
2. Every limit is judged from fills, so a restart judges the same.
3. The daily loss counts gross: realised plus open.
"""

from collections.abc import Sequence

from strategy.actions import ExitReason
from strategy.instruments import Lots
from strategy.params import Params
from strategy.position import Trade
from strategy.state import Book, Halt, SessionState

NEAR_LOSS_PERCENT = 80


def entry_lots(params: Params, lot_size: int) -> Lots:
    """Lots to buy: the setting, or what the risk per trade allows where that is less. 0: too small."""
    if not params.risk_per_trade_paise:
        return params.lots_max
    affordable = params.risk_per_trade_paise // (params.stop_loss_paise * lot_size)
    return Lots(min(affordable, params.lots_max))


def entries_filled(book: Book) -> int:
    """Trades of the day whose entry filled, even partly."""
    return sum(1 for position in (*book.settled, *book.positions) if position.entry.filled)


def day_pnl_paise(state: SessionState) -> int:
    """Gross P&L of the day. What is held counts at its last price, or at the price paid where none is known."""
    total = state.book.realised_paise
    for position in state.book.positions:
        quote = state.quote_of(position)
        total += position.pnl_paise(position.entry_paise if quote is None else quote.price_paise)
    return total


def is_breached(pnl_paise: int, daily_max_loss_paise: int) -> bool:
    """True when the day's loss has reached its limit; a limit of 0 is off."""
    return daily_max_loss_paise > 0 and pnl_paise <= -daily_max_loss_paise


def is_near(pnl_paise: int, daily_max_loss_paise: int) -> bool:
    """True from 80 % of the daily loss limit on."""
    return daily_max_loss_paise > 0 and pnl_paise * 100 <= -daily_max_loss_paise * NEAR_LOSS_PERCENT


def paused_until_ms(trades: Sequence[Trade], params: Params) -> int:
    """Until when entries pause after losing trades in a row; 0: they do not."""
    if not params.pause_after_losses or len(trades) < params.pause_after_losses:
        return 0
    last = trades[-params.pause_after_losses :]
    if any(trade.net_paise >= 0 for trade in last):
        return 0
    return last[-1].exit_at_ms + params.pause_minutes * 60_000


def protection_halt(trades: Sequence[Trade], params: Params) -> Halt | None:
    """The protection that ends trading after these trades, if any."""
    stopped = sum(1 for trade in trades if trade.exit_reason == ExitReason.STOP_LOSS)
    if params.stop_losses_per_day and stopped >= params.stop_losses_per_day:
        return Halt.STOP_LOSSES
    if params.profit_lock_from_paise:
        net = best = 0
        for trade in trades:
            net += trade.net_paise
            best = max(best, net)
        given_back = (best - net) * 100
        if best >= params.profit_lock_from_paise and given_back >= best * params.profit_lock_percent:
            return Halt.PROFIT_LOCK
    return None
