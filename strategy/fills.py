"""What the world says about our orders: fills and ends.

Invariants:
1. Every fill of an intent of ours is counted, also one that comes after its trade was thought to be over.
2. What cannot be (a fill of nobody's intent, more sold than held) stops entries and is said aloud.
"""

from strategy.actions import Action, ExitReason, Severity
from strategy.duties import pursue
from strategy.events import Fill, IntentClosed, Outcome
from strategy.params import Params
from strategy.plan import DayPlan
from strategy.position import Position, apply_end, apply_fill, has_intent
from strategy.state import Halt, SessionState, alert, halted, with_position
from strategy.watch import with_wish


def after_fill(
    state: SessionState, fill: Fill, plan: DayPlan, params: Params
) -> tuple[SessionState, tuple[Action, ...]]:
    """The state after one execution, and what follows from it."""
    state, said = _with_trade_of(state, fill)
    position = _position_of(state, fill.intent)
    if position is None:
        return state, said
    position = apply_fill(position, fill, params)
    state = with_position(state, position)
    if position.held < 0:
        message = (
            f"{-position.held} units of {position.contract.name} more were sold than bought; the account may "
            "be short. Compare the positions at the broker"
        )
        state, stopped = halted(state, Halt.OVERSOLD)
        said += (alert(state, "oversold", Severity.CRITICAL, message), *stopped)
    state, owed = pursue(state, plan, params)
    return state, owed + said


def after_end(
    state: SessionState, end: IntentClosed, plan: DayPlan, params: Params
) -> tuple[SessionState, tuple[Action, ...]]:
    """The state once no order of an intent is live any more, and what follows from it."""
    position = _position_of(state, end.intent)
    if position is None:
        return state, ()
    position = apply_end(position, end)
    state, owed = pursue(with_position(state, position), plan, params)
    return state, owed + _said_of(state, position, end)


def _position_of(state: SessionState, intent: int) -> Position | None:
    return next((position for position in state.book.positions if has_intent(position, intent)), None)


def _with_trade_of(state: SessionState, fill: Fill) -> tuple[SessionState, tuple[Action, ...]]:
    """The state with the trade of `fill` among the open ones, if there is such a trade."""
    book = state.book
    if _position_of(state, fill.intent) is not None:
        return state, ()
    late = next((position for position in book.settled if has_intent(position, fill.intent)), None)
    if late is None:
        message = f"a fill of an intent this session never had: {fill}. Compare the positions at the broker"
        state, stopped = halted(state, Halt.UNKNOWN_POSITION)
        return state, (alert(state, "unknown_fill", Severity.CRITICAL, message), *stopped)
    # Two trades at once are not part of the rules: the one nobody expected any more goes.
    reason = ExitReason.UNKNOWN_POSITION if book.positions else state.gate.ending
    book = book._replace(
        positions=(*book.positions, late._replace(closing=late.closing or reason)),
        settled=tuple(position for position in book.settled if position.trade != late.trade),
        realised_paise=book.realised_paise + late.cost_paise,
    )
    state, wish = with_wish(state._replace(book=book), tuple(state.options.watched.values()))
    message = f"{late.contract.name}: an order filled {fill.quantity} units after it was said to have ended"
    return state, (*wish, alert(state, "late_fill", Severity.CRITICAL, message))


def _said_of(state: SessionState, position: Position, end: IntentClosed) -> tuple[Action, ...]:
    name, why = position.contract.name, end.message or "no reason given"
    if end.outcome is Outcome.FILLED:
        missing = sum(leg.in_flight for leg in position.legs if leg.intent == end.intent)
        if not missing:
            return ()
        message = f"{name}: the order is said to be filled, but {missing} units of its fills are missing"
        return (alert(state, "fills_missing", Severity.CRITICAL, message),)
    if end.intent == position.entry.intent:
        if end.outcome is not Outcome.REJECTED:
            return ()
        return (alert(state, "entry_rejected", Severity.WARNING, f"{name}: the entry was refused: {why}"),)
    if position.held <= 0:
        return ()
    wait_s = max(0, position.retry_at_ms - state.now_ms) // 1000
    message = (
        f"{name}: the exit ended {end.outcome} ({why}) with {position.held} units still held; "
        f"it is sent again in {wait_s} s"
    )
    return (alert(state, "exit_failed", Severity.CRITICAL, message),)
