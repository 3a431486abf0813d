"""What is owed: cancellations nobody has asked for yet, sales of what is to be closed, halts, answers, the end.

`pursue` compares what is wanted with what is in flight, so it does not matter which event left something undone.

Invariants:
1. Exits in flight never ask for more than is held; at most one exit asks for the same unit.
2. What is to be closed is sold whatever fills late, and sold again after an exit that left something, until the
   market closes.
3. A waiting command is answered once, when the session is flat; the session ends once.
"""

from strategy.actions import (
    Action,
    Answered,
    CancelEntry,
    Exit,
    ExitReason,
    Explanation,
    SessionOver,
    Severity,
)
from strategy.entry import judged
from strategy.explain import sale_facts, settings_facts, signal_facts
from strategy.instruments import Quantity
from strategy.params import Params
from strategy.plan import DayPlan
from strategy.position import Position, trades_of, with_cancel, with_exit
from strategy.risk import day_pnl_paise, is_breached, protection_halt
from strategy.state import Halt, SessionState, alert, halted, with_position

HANDED_OVER = "handed over"
LEAVE_WITHIN_MS = 10_000  # an entry that cannot be cancelled by then is left to the next start as well


def pursue(state: SessionState, plan: DayPlan, params: Params) -> tuple[SessionState, tuple[Action, ...]]:
    """Do what is owed. Doing it twice does nothing the second time."""
    actions: list[Action] = []
    for position in state.book.positions:
        state, done = _closed_or_cancelled(state, position, plan, params)
        actions += done
    settled_before = len(state.book.settled)
    state = with_settled(state)
    if len(state.book.settled) != settled_before:
        state, said = with_halts_of_day(state, plan, params)
        actions += said
    if state.is_flat:
        state, flat = _when_flat(state, plan, params)
        actions += flat
    state, over = _ended(state, plan)
    return state, (*actions, *over)


def with_settled(state: SessionState) -> SessionState:
    """The state with the trades that can change no more among the settled ones."""
    book = state.book
    done = tuple(position for position in book.positions if position.is_settled)
    if not done:
        return state
    return state._replace(
        book=book._replace(
            positions=tuple(position for position in book.positions if not position.is_settled),
            settled=book.settled + done,
            realised_paise=book.realised_paise - sum(position.cost_paise for position in done),
        )
    )


def with_halts_of_day(state: SessionState, plan: DayPlan, params: Params) -> tuple[SessionState, tuple[Action, ...]]:
    """The state halted where the day's trades say so."""
    actions: tuple[Action, ...] = ()
    if is_breached(day_pnl_paise(state), state.gate.limits.daily_max_loss_paise):
        state, actions = halted(state, Halt.DAILY_MAX_LOSS)
    protection = protection_halt(trades_of(state.book.settled, plan.rates), params)
    if protection is None:
        return state, actions
    state, more = halted(state, protection)
    return state, actions + more


def _closed_or_cancelled(
    state: SessionState, position: Position, plan: DayPlan, params: Params
) -> tuple[SessionState, tuple[Action, ...]]:
    actions: tuple[Action, ...] = ()
    unwanted = position.closing is not None or bool(state.gate.halts) or bool(state.gate.leaving_ms)
    if unwanted and position.entry.is_live and not position.entry.cancel_asked:
        position = with_cancel(position)
        state = with_position(state, position)
        actions = (CancelEntry(at_ms=state.now_ms, intent=position.entry.intent),)
    if position.closing is None or position.unsold <= 0:
        return state, actions
    if not position.retry_at_ms <= state.now_ms < plan.close_ms:
        return state, actions
    exit_ = _exit(state, position, position.closing, params)
    state = with_position(state, with_exit(position, exit_))
    state = state._replace(book=state.book._replace(last_intent=exit_.intent))
    return state, (*actions, exit_)


def _exit(state: SessionState, position: Position, reason: ExitReason, params: Params) -> Exit:
    quote = state.quote_of(position)
    # After a restart the price paid is all there is; whoever sends the order soon knows a newer one.
    reference_paise = position.entry_paise if quote is None else quote.bid_paise or quote.price_paise
    facts = {
        **signal_facts(state.signals),
        **sale_facts(position, quote, day_pnl_paise(state)),
        **settings_facts(params, reason),
    }
    if reason is ExitReason.DAILY_MAX_LOSS:
        facts["daily_max_loss"] = state.gate.limits.daily_max_loss_paise / 100
    return Exit(
        at_ms=state.now_ms,
        intent=state.book.last_intent + 1,
        trade=position.trade,
        contract=position.contract,
        quantity=Quantity(position.unsold),
        reference_paise=reference_paise,
        reason=reason,
        why=Explanation(facts=facts),
    )


def _when_flat(state: SessionState, plan: DayPlan, params: Params) -> tuple[SessionState, tuple[Action, ...]]:
    state, answers = _answered(state, "flat")
    if not state.gate.entry_waits:
        return state, answers
    state = state._replace(gate=state.gate._replace(entry_waits=False))
    state, entered = judged(state, plan, params, gap_ms=state.now_ms - state.spot.last_at_ms)
    return state, answers + entered


def _answered(state: SessionState, how: str) -> tuple[SessionState, tuple[Action, ...]]:
    gate, book = state.gate, state.book
    if not gate.waiting:
        return state, ()
    bought = sum(1 for position in book.settled if position.entry.filled)
    answer = f"{how}; trades settled today: {bought}, gross {book.realised_paise / 100:.2f} rupees"
    answers = tuple(Answered(at_ms=state.now_ms, command_id=name, answer=answer) for name in gate.waiting)
    return state._replace(gate=gate._replace(waiting=())), answers


def _ended(state: SessionState, plan: DayPlan) -> tuple[SessionState, tuple[Action, ...]]:
    reason = _why_over(state, plan)
    if not reason:
        return state, ()
    actions: tuple[Action, ...] = ()
    if not state.is_flat and reason == HANDED_OVER:
        kept = "; ".join(
            f"{position.held} x {position.contract.name}, stop {position.stop_paise / 100:.2f}"
            for position in state.book.positions
        )
        message = f"the process ends and leaves {kept}; nobody watches it until the session is started again"
        actions = (alert(state, "handed_over", Severity.CRITICAL, message),)
    elif not state.is_flat:
        held = ", ".join(f"{position.held} units of {position.contract.name}" for position in state.book.positions)
        message = f"the market is closed and {held} are still held; they cannot be sold today"
        actions = (alert(state, "held_after_close", Severity.CRITICAL, message),)
        state, answers = _answered(state, f"not flat: {held} are held and the market is closed")
        actions += answers
    state = state._replace(gate=state.gate._replace(over=True))
    return state, (*actions, SessionOver(at_ms=state.now_ms, reason=reason))


def _why_over(state: SessionState, plan: DayPlan) -> str:
    """Why the session is over now; empty while it is not, and after it has been said."""
    gate = state.gate
    if gate.over or not state.clock_ms:
        return ""
    if state.is_flat:
        if gate.stopped or gate.leaving_ms:
            return "stopped"
        if state.now_ms >= plan.squareoff_ms:
            return "squareoff"
        return "started after the entry cutoff" if gate.started_ms >= plan.entry_cutoff_ms else ""
    if gate.leaving_ms:
        buying = any(position.entry.is_live for position in state.book.positions)
        return HANDED_OVER if not buying or state.now_ms - gate.leaving_ms >= LEAVE_WITHIN_MS else ""
    in_flight = any(position.is_in_flight for position in state.book.positions)
    return "market closed" if state.now_ms >= plan.close_ms and not in_flight else ""
