"""A session's state as the Prefect UI shows it: pure, from the rules' own view."""

from collections.abc import Sequence

from strategy.params import Params
from strategy.plan import DayPlan
from strategy.position import Trade
from strategy.session import SessionState
from strategy.view import PositionView, SessionView, view
from tasks.pages.artifacts import LivePosition, LiveTrade, LiveView
from tasks.pages.chart_rows import StopMark
from tasks.pages.money import average_paise


def live_view(
    state: SessionState,
    plan: DayPlan,
    params: Params,
    *,
    trades: Sequence[Trade],
    no_entry: str | None,
    stops: Sequence[StopMark],
) -> LiveView:
    """What a person wants to know of the session; `no_entry` is why the last signal was not taken."""
    seen = view(state, plan)
    held = next((position for position in seen.positions if position.quantity), None)
    return LiveView(
        at_ms=seen.at_ms,
        state=standing(seen, plan),
        progress=(seen.at_ms - plan.hours[0][0]) / (plan.close_ms - plan.hours[0][0]),
        spot_paise=seen.spot_paise,
        supertrend_points=seen.supertrend_points,
        direction=seen.direction,
        htf_direction=seen.htf_direction if params.htf_filter else None,
        position=None if held is None else _position(held),
        day_net_paise=seen.realised_net_paise,
        trades_today=seen.entries_filled,
        trades_max=seen.limits.max_trades_per_day,
        loss_limit_paise=seen.limits.daily_max_loss_paise,
        no_entry=no_entry,
        refusals=seen.refusals,
        halts=seen.halts,
        cautions=seen.cautions,
        trades=tuple(_closed(trade) for trade in trades) + tuple(_open(p) for p in seen.positions if p.quantity),
        stops=tuple(stops),
    )


def standing(seen: SessionView, plan: DayPlan) -> str:
    """Where in its day the session is, in a few words."""
    if seen.over:
        return "over"
    if seen.ending is not None or seen.at_ms >= plan.squareoff_ms:
        busy = any(held.quantity or held.entry_in_flight for held in seen.positions)
        return "squaring off" if busy else "closed for the day"
    if seen.at_ms < plan.hours[0][0]:
        return "waiting for the open"
    if not plan.is_open(seen.at_ms):
        return "market break"
    if seen.halts:
        return "halted"
    return "entries closed" if seen.at_ms >= plan.entry_cutoff_ms else "trading"


def _position(held: PositionView) -> LivePosition:
    return LivePosition(
        contract_name=held.contract.name,
        quantity=held.quantity,
        entry_paise=held.entry_paise,
        last_paise=held.last_paise,
        stop_paise=held.stop_paise,
        unrealised_paise=held.pnl_paise,
    )


def _open(held: PositionView) -> LiveTrade:
    return LiveTrade(
        trade=held.trade,
        contract_name=held.contract.name,
        option_type=held.contract.option_type,
        quantity=held.quantity,
        entry_at_ms=held.opened_ms,
        entry_paise=held.entry_paise,
    )


def _closed(trade: Trade) -> LiveTrade:
    return LiveTrade(
        trade=trade.trade,
        contract_name=trade.contract.name,
        option_type=trade.contract.option_type,
        quantity=trade.quantity,
        entry_at_ms=trade.entry_at_ms,
        entry_paise=average_paise(trade.buy_value_paise, trade.quantity),
        exit_at_ms=trade.exit_at_ms,
        exit_paise=average_paise(trade.sell_value_paise, trade.quantity),
        exit_reason=trade.exit_reason,
        net_paise=trade.net_paise,
    )
