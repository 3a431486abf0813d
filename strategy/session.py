"""A session as a state machine: `step` is the only function that decides.

Invariants:
1. A decision depends on (state, event, plan, params) alone, so a recorded day replays exactly.
2. At most one entry is alive, and only while nothing else is.
3. Exits in flight never ask for more than is held. Once a trade is closing, whatever fills late is sold too.
4. Nothing is held after the squareoff for want of a decision: a Timer is enough to cause it, and an exit that
   failed is sent again until nothing is held or the market closes.
5. A daily-loss halt is final for the day.
6. A risk exit waits for nothing: not for cooldown, hold, indicators, or another order.

The order within an event: facts first (fills, prices, candles), then what they mean for what is held, then what
is owed (`duties`: cancellations, exits, answers, the end of the session), and entries last.
"""

from typing import TypeAlias, assert_never

from strategy.actions import Action, CandleClosed, ExitReason, Severity, StopMoved
from strategy.candles import Candle, IndexTicks, is_leap, packed, take_tick, take_time
from strategy.duties import pursue
from strategy.entry import Refusal, judged, refused
from strategy.events import Caution, Command, Fill, IntentClosed, PoisonedTick, SessionEvent, Tick, Timer
from strategy.exits import exit_reason, is_against, may_reverse, trailed_stop_paise
from strategy.fills import after_end, after_fill
from strategy.history import History
from strategy.operators import after_command
from strategy.params import Params
from strategy.plan import DayPlan
from strategy.position import Position, Trade, trades_of
from strategy.risk import day_pnl_paise, is_breached, is_near
from strategy.signals import Signals, apply_candle, close_htf, no_signals
from strategy.start import start
from strategy.state import (
    Halt,
    Options,
    Quote,
    SessionState,
    alert,
    closing_all,
    ending,
    halted,
    with_position,
)
from strategy.watch import watch_over_feed, with_wish_renewed

__all__ = ["DayPlan", "History", "SessionState", "start", "step", "trades"]

Decided: TypeAlias = tuple[SessionState, tuple[Action, ...]]

# An exchange time further ahead of the market's clock than this is an error of the feed.
AHEAD_MAX_MS = 10_000


def step(state: SessionState, event: SessionEvent, plan: DayPlan, params: Params) -> Decided:
    """Return the state after `event` and what to do about it, in order."""
    if isinstance(event, Tick):
        if event.security == plan.index_security:
            return _on_index_tick(state, event, plan, params)
        return _on_option_tick(state, event, plan, params)
    if isinstance(event, Timer):
        return _on_timer(state, event, plan, params)
    if event.at_ms > state.now_ms:
        state = state._replace(now_ms=event.at_ms)
    match event:
        case Fill():
            return after_fill(state, event, plan, params)
        case IntentClosed():
            return after_end(state, event, plan, params)
        case Command():
            return after_command(state, event, plan, params)
        case Caution():
            return _on_caution(state, event), ()
        case PoisonedTick():
            return _on_poison(state)
        case _:
            assert_never(event)


def trades(state: SessionState, plan: DayPlan) -> tuple[Trade, ...]:
    """The completed round trips of the day, in the order they settled."""
    return trades_of(state.book.settled, plan.rates)


def _on_index_tick(state: SessionState, tick: Tick, plan: DayPlan, params: Params) -> Decided:
    now_ms, clock_ms, spot, options, signals, book, gate, silence = state
    at_ms, price_paise, candle = tick.at_ms, tick.price_paise, spot.candle
    if clock_ms and at_ms > clock_ms + AHEAD_MAX_MS:
        faults = spot.faults
        return _with_bad_tick(state, spot._replace(faults=faults._replace(early=faults.early + 1)))
    if (candle is None or at_ms >= candle.end_ms) and not plan.is_open(at_ms):
        faults = spot.faults
        faults = faults._replace(outside_hours=faults.outside_hours + 1)
        return state._replace(spot=spot._replace(faults=faults)), ()
    taken, closed = take_tick(spot, at_ms, price_paise, params.candle_seconds)
    if taken.faults is not spot.faults:
        return _with_bad_tick(state, taken)
    if at_ms > now_ms:  # noqa: PLR1730 (once per tick; max() takes three times as long)
        now_ms = at_ms
    state = packed(SessionState, (now_ms, clock_ms, taken, options, signals, book, gate, silence))
    if closed is None and options.low_paise <= price_paise <= options.high_paise:
        return state, ()
    state, wish = with_wish_renewed(state, plan, params)
    if is_leap(price_paise, spot.last_paise):
        state, told = _at_new_level(state, spot.last_paise, params)
        return state, wish + told
    if closed is None:
        return state, wish
    gap_ms = now_ms - spot.last_at_ms
    state, decided = _on_candle(state, closed, plan, params, closed_by_ms=at_ms, gap_ms=gap_ms)
    return state, wish + decided


def _at_new_level(state: SessionState, before_paise: int, params: Params) -> Decided:
    """So many ticks cannot err: what was believed before them did, and with it all that was made of it."""
    message = (
        f"the index is at {state.spot.last_paise / 100:.2f} in tick after tick; {before_paise / 100:.2f} before was an "
        "error. Its indicators begin anew"
    )
    said = alert(state, "index_level_changed", Severity.CRITICAL, message)
    return state._replace(signals=no_signals(params)), (said,)


def _on_option_tick(state: SessionState, tick: Tick, plan: DayPlan, params: Params) -> Decided:
    now_ms, clock_ms, spot, options, signals, book, gate, silence = state
    security, price_paise, at_ms = tick.security, tick.price_paise, tick.at_ms
    watched, quotes, low_paise, high_paise = options
    if security not in watched:
        return state, ()
    if price_paise <= 0:
        return _on_poison(state)
    # Before the first Timer nothing is known to be ahead of the clock.
    if at_ms > now_ms and (not clock_ms or at_ms <= clock_ms + AHEAD_MAX_MS):
        now_ms = at_ms
    quote = packed(Quote, (price_paise, tick.bid_paise, tick.ask_paise, now_ms))
    options = packed(Options, (watched, {**quotes, security: quote}, low_paise, high_paise))
    state = packed(SessionState, (now_ms, clock_ms, spot, options, signals, book, gate, silence))
    actions: tuple[Action, ...] = ()
    for position in book.positions:
        if position.security == security and position.held > 0:
            state, decided = _on_held_tick(state, position.trade, price_paise, plan, params)
            actions += decided
    return state, actions


def _on_held_tick(state: SessionState, trade: int, price_paise: int, plan: DayPlan, params: Params) -> Decided:
    """The exits, in the order of the rules; else the trailing stop."""
    positions, limits = state.book.positions, state.gate.limits
    position = next(position for position in positions if position.trade == trade)
    if len(positions) == 1:
        pnl_paise = state.book.realised_paise + position.pnl_paise(price_paise)
    else:
        pnl_paise = day_pnl_paise(state)
    reason: ExitReason | None
    if position.closing is None:
        reason = exit_reason(position, price_paise, day_pnl_paise=pnl_paise, limits=limits, params=params)
    elif is_breached(pnl_paise, limits.daily_max_loss_paise):
        reason = ExitReason.DAILY_MAX_LOSS
    else:
        return state, ()
    if reason is None:
        state, warned = _warned_of_loss(state, pnl_paise)
        state, moved = _with_stop_moved(state, position, price_paise, params)
        return state, warned + moved
    said: tuple[Action, ...] = ()
    if reason is ExitReason.DAILY_MAX_LOSS:
        state, said = halted(closing_all(state, reason), Halt.DAILY_MAX_LOSS)
    else:
        state = with_position(state, position._replace(closing=reason))
    state, actions = pursue(state, plan, params)
    # The exit is sent before anything is said.
    return state, actions + said


def _with_stop_moved(state: SessionState, position: Position, price_paise: int, params: Params) -> Decided:
    stop_paise = trailed_stop_paise(position, price_paise, params)
    if stop_paise == position.stop_paise:
        return state, ()
    # The best price is kept only as of the last move: nothing between two steps can move the stop.
    moved = position._replace(stop_paise=stop_paise, trailed=True, best_paise=price_paise)
    said = StopMoved(at_ms=state.now_ms, trade=position.trade, stop_paise=stop_paise, best_paise=price_paise)
    return with_position(state, moved), (said,)


def _warned_of_loss(state: SessionState, pnl_paise: int) -> Decided:
    gate = state.gate
    limit_paise = gate.limits.daily_max_loss_paise
    if gate.near_loss_told or not is_near(pnl_paise, limit_paise):
        return state, ()
    message = f"the day stands at {pnl_paise / 100:.2f} rupees; the limit is -{limit_paise / 100:.2f}"
    said = alert(state, "daily_loss_near", Severity.WARNING, message)
    return state._replace(gate=gate._replace(near_loss_told=True)), (said,)


def _on_timer(state: SessionState, timer: Timer, plan: DayPlan, params: Params) -> Decided:
    now_ms = max(state.now_ms, timer.at_ms)
    state = state._replace(now_ms=now_ms, clock_ms=max(state.clock_ms, timer.at_ms))
    actions: tuple[Action, ...] = ()
    if now_ms >= plan.squareoff_ms and state.gate.ending is None:
        # Before the candle is judged: nothing may stand between the hour and the exit.
        state, actions = pursue(ending(state, ExitReason.SQUAREOFF), plan, params)
    closed_by_ms = now_ms - params.candle_grace_ms
    spot, closed = take_time(state.spot, closed_by_ms)
    if closed is not None:
        state, decided = _on_candle(
            state._replace(spot=spot),
            closed,
            plan,
            params,
            closed_by_ms=closed_by_ms,
            gap_ms=now_ms - spot.last_at_ms,
        )
        actions += decided
    else:
        signals = close_htf(state.signals, closed_by_ms, params)
        if signals is not state.signals:
            state = state._replace(signals=signals)
    state, owed = pursue(state, plan, params)
    state, watched_over = watch_over_feed(state, plan, params)
    return state, actions + owed + watched_over


def _on_candle(
    state: SessionState, closed: Candle, plan: DayPlan, params: Params, *, closed_by_ms: int, gap_ms: int
) -> Decided:
    """Reversal first, then the entry; an entry on a reversal's own candle waits for the exit to fill."""
    state, given_up = _with_waiting_given_up(state, params)
    signals = apply_candle(state.signals, closed, closed_by_ms=closed_by_ms, params=params)
    state = state._replace(signals=signals)
    said = (*given_up, _candle_closed(state.now_ms, closed, signals))
    against = [
        position
        for position in state.book.positions
        if position.closing is None
        and is_against(position, signals.direction)
        and may_reverse(position, state.now_ms, params)
    ]
    if not against:
        state, entered = judged(state, plan, params, gap_ms=gap_ms)
        return state, said + entered
    for position in against:
        state = with_position(state, position._replace(closing=ExitReason.REVERSAL))
    state = state._replace(gate=state.gate._replace(entry_waits=True))
    state, exits = pursue(state, plan, params)
    return state, said + exits


def _with_waiting_given_up(state: SessionState, params: Params) -> Decided:
    """A candle that still waited for its reversal exit to fill when the next one closes was no entry."""
    if not state.gate.entry_waits:
        return state, ()
    state = state._replace(gate=state.gate._replace(entry_waits=False))
    held = any(position.held > 0 for position in state.book.positions)
    return refused(state, Refusal.POSITION_OPEN if held else Refusal.ORDER_IN_FLIGHT, params)


def _candle_closed(at_ms: int, candle: Candle, signals: Signals) -> CandleClosed:
    return CandleClosed(
        at_ms=at_ms,
        start_ms=candle.start_ms,
        seconds=candle.seconds,
        open_paise=candle.open_paise,
        high_paise=candle.high_paise,
        low_paise=candle.low_paise,
        close_paise=candle.close_paise,
        ticks=candle.ticks,
        supertrend=signals.line_points,
        direction=signals.direction,
        macd=signals.macd_points,
        macd_signal=signals.macd_signal_points,
    )


def _on_caution(state: SessionState, caution: Caution) -> SessionState:
    others = tuple(reason for reason in state.gate.cautions if reason != caution.reason)
    cautions = (*others, caution.reason) if caution.active else others
    return state._replace(gate=state.gate._replace(cautions=cautions))


def _on_poison(state: SessionState) -> Decided:
    faults = state.spot.faults
    return _with_bad_tick(state, state.spot._replace(faults=faults._replace(poisoned=faults.poisoned + 1)))


def _with_bad_tick(state: SessionState, spot: IndexTicks) -> Decided:
    """The state with a tick that is counted and not used; said at the 1st, 2nd, 4th, 8th and so on."""
    before, after = state.spot.faults, spot.faults
    state = state._replace(spot=spot)
    bad = after.poisoned + after.leap + after.early
    if bad == before.poisoned + before.leap + before.early or bad & (bad - 1):
        return state, ()
    message = (
        f"{bad} ticks not used today: {after.poisoned} not a price, {after.leap} leaps of more than 20 %, "
        f"{after.early} ahead of the clock"
    )
    return state, (alert(state, "ticks_quarantined", Severity.WARNING, message),)
