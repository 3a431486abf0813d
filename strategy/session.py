"""A session as a state machine: `step` is the only function that decides.

Invariants:
1. A decision depends on (state, event, plan, params) alone, so a recorded day replays exactly.
2. At most one entry is alive, and only while nothing else is.
3. Exits in flight never ask for more than is held. Once a trade is closing, whatever fills late is sold too.
4. Nothing is held after the squareoff for want of a decision: a Timer is enough to cause it, and an exit that
   failed is sent again until nothing is held.
5. A daily-loss halt is final for the day.
6. A risk exit waits for nothing: not for cooldown, hold, indicators, or another order.

The order within an event: facts first (fills, prices, candles), then what they mean for what is held, then what is
owed (`_pursue`: cancellations, exits, answers, the end of the session), and entries last.
"""

from collections.abc import Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import TypeAlias, assert_never

from strategy.actions import (
    Action,
    Alert,
    Answered,
    CancelEntry,
    CandleClosed,
    Enter,
    EntryRefused,
    Exit,
    ExitReason,
    Explanation,
    Halted,
    LimitsTightened,
    PollQuote,
    Resumed,
    SessionOver,
    Severity,
    StopMoved,
    Watch,
)
from strategy.candles import Candle, IndexTicks, take_tick, take_time
from strategy.entry import Refusal, choices, is_signal, judge
from strategy.events import (
    Caution,
    Command,
    CommandKind,
    Fill,
    IntentClosed,
    Outcome,
    PoisonedTick,
    SessionEvent,
    Tick,
    Timer,
)
from strategy.exits import exit_reason, is_against, may_reverse, trailed_stop_paise
from strategy.explain import exit_facts, signal_facts
from strategy.history import History, fold_limits, fold_positions, lasting_halts, taken_over
from strategy.instruments import Contract, Quantity
from strategy.params import Params
from strategy.plan import DayPlan
from strategy.position import Position, Trade, apply_end, apply_fill, has_intent, opened, trade_of, with_exit
from strategy.risk import Halt, day_pnl_paise, is_breached, is_near, protection_halt
from strategy.signals import Signals, apply_candle, close_htf, warm_up
from strategy.state import Book, Gate, Limits, Options, Quote, SessionState, limits_of

__all__ = ["DayPlan", "History", "SessionState", "start", "step", "trades"]

Decided: TypeAlias = tuple[SessionState, tuple[Action, ...]]

# An exchange time further ahead of the market's clock than this is an error of the feed.
AHEAD_MAX_MS = 10_000
# The wish for contracts is renewed when the index is this far from its middle strike (of a strike step).
RECENTRE_PERCENT = 75


def step(state: SessionState, event: SessionEvent, plan: DayPlan, params: Params) -> Decided:
    """Return the state after `event` and what to do about it, in order."""
    if isinstance(event, Tick):
        if event.security == plan.index_security:
            return _on_index_tick(state, event, plan, params)
        return _on_option_tick(state, event, plan, params)
    if event.at_ms > state.now_ms:
        state = state._replace(now_ms=event.at_ms)
    match event:
        case Timer():
            return _on_timer(state, event, plan, params)
        case Fill():
            return _on_fill(state, event, plan, params)
        case IntentClosed():
            return _on_intent_closed(state, event, plan, params)
        case Command():
            return _on_command(state, event, plan, params)
        case Caution():
            return _on_caution(state, event), ()
        case PoisonedTick():
            faults = state.spot.faults
            return _quarantined(
                state, state.spot._replace(faults=faults._replace(poisoned=faults.poisoned + 1))
            )
        case _:
            assert_never(event)


def trades(state: SessionState, plan: DayPlan) -> tuple[Trade, ...]:
    """The completed round trips of the day, in the order they settled."""
    return tuple(trade for position in state.book.settled if (trade := trade_of(position, plan.charges)))


# Prices


def _on_index_tick(state: SessionState, tick: Tick, plan: DayPlan, params: Params) -> Decided:
    now_ms, clock_ms, index, options, signals, book, gate, silence = state
    at_ms, price_paise = tick.at_ms, tick.price_paise
    candle = index.candle
    if clock_ms and at_ms > clock_ms + AHEAD_MAX_MS:
        faults = index.faults
        return _quarantined(state, index._replace(faults=faults._replace(early=faults.early + 1)))
    if (candle is None or at_ms >= candle.end_ms) and not plan.is_open(at_ms):
        faults = index.faults
        return _quarantined(
            state, index._replace(faults=faults._replace(outside_hours=faults.outside_hours + 1))
        )
    taken, closed = take_tick(index, at_ms, price_paise, params.candle_seconds)
    if taken.faults is not index.faults:
        return _quarantined(state, taken)
    if at_ms > now_ms:  # noqa: PLR1730 (once per tick; max() takes three times as long)
        now_ms = at_ms
    state = SessionState(now_ms, clock_ms, taken, options, signals, book, gate, silence)
    if closed is None and options.centre_low_paise <= price_paise <= options.centre_high_paise:
        return state, ()
    return _on_rare_index_tick(state, closed, now_ms - index.last_at_ms, plan, params)


def _on_rare_index_tick(
    state: SessionState, closed: Candle | None, gap_ms: int, plan: DayPlan, params: Params
) -> Decided:
    state, actions = _recentred(state, plan, params)
    if closed is None:
        return state, actions
    state, more = _on_candle(state, closed, state.spot.last_at_ms, gap_ms, plan, params)
    return state, actions + more


def _quarantined(state: SessionState, index: IndexTicks) -> Decided:
    """A tick that is counted and not used; said aloud at the 1st, 2nd, 4th, 8th time."""
    before, after = state.spot.faults, index.faults
    bad = after.poisoned + after.leap + after.early
    state = state._replace(spot=index)
    if bad == before.poisoned + before.leap + before.early or bad & (bad - 1):
        return state, ()
    message = (
        f"{bad} ticks not used today: {after.poisoned} not a price, {after.leap} leaps of more than 20 %, "
        f"{after.early} ahead of the clock"
    )
    return state, (_alert(state, "ticks_quarantined", Severity.WARNING, message),)


def _on_option_tick(state: SessionState, tick: Tick, plan: DayPlan, params: Params) -> Decided:
    now_ms, clock_ms, index, options, signals, book, gate, silence = state
    security, price_paise, at_ms = tick.security, tick.price_paise, tick.at_ms
    if security not in options.watched:
        return state, ()
    if price_paise <= 0:
        faults = index.faults
        return _quarantined(state, index._replace(faults=faults._replace(poisoned=faults.poisoned + 1)))
    if now_ms < at_ms <= clock_ms + AHEAD_MAX_MS:
        now_ms = at_ms
    watched, quotes, low, high = options
    quote = Quote(price_paise, tick.bid_paise, tick.ask_paise, now_ms)
    options = Options(watched, {**quotes, security: quote}, low, high)
    state = SessionState(now_ms, clock_ms, index, options, signals, book, gate, silence)
    for position in book.positions:
        if position.security == security and position.held > 0:
            return _on_held_tick(state, position, price_paise, plan, params)
    return state, ()


def _on_held_tick(
    state: SessionState, position: Position, price_paise: int, plan: DayPlan, params: Params
) -> Decided:
    book, gate = state.book, state.gate
    limits = gate.limits
    if len(book.positions) == 1:
        pnl_paise = book.realised_paise + position.held * price_paise - position.cost_paise
    else:
        pnl_paise = day_pnl_paise(state)
    if position.closing is None:
        reason = exit_reason(position, price_paise, day_pnl_paise=pnl_paise, limits=limits, params=params)
    elif is_breached(pnl_paise, limits.daily_max_loss_paise) and Halt.DAILY_MAX_LOSS not in gate.halts:
        reason = position.closing
    else:
        return state, ()
    if reason is None:
        if not is_near(pnl_paise, limits.daily_max_loss_paise) or gate.near_loss_told:
            near: tuple[Action, ...] = ()
        else:
            state = state._replace(gate=replace(gate, near_loss_told=True))
            near = (_near_loss(state, pnl_paise),)
        stop_paise = trailed_stop_paise(position, price_paise, params)
        if stop_paise == position.stop_paise:
            return state, near
        moved = position._replace(stop_paise=stop_paise, trailed=True, best_paise=price_paise)
        state = _with_position(state, moved)
        told = StopMoved(at_ms=state.now_ms, trade=moved.trade, stop_paise=stop_paise, best_paise=price_paise)
        return state, (*near, told)
    state = _with_position(state, position._replace(closing=reason))
    halted: tuple[Action, ...] = ()
    if is_breached(pnl_paise, limits.daily_max_loss_paise):
        state = _closing_all(state, ExitReason.DAILY_MAX_LOSS)
        state, halted = _halt(state, Halt.DAILY_MAX_LOSS)
    state, actions = _pursue(state, plan, params)
    # The exit is sent before anything is said.
    return state, actions + halted


def _near_loss(state: SessionState, pnl_paise: int) -> Alert:
    limit = state.gate.limits.daily_max_loss_paise
    message = f"the day stands at {pnl_paise / 100:.2f} rupees; the limit is -{limit / 100:.2f}"
    return _alert(state, "daily_loss_near", Severity.WARNING, message)


def _recentred(state: SessionState, plan: DayPlan, params: Params) -> Decided:
    """The wish for contracts, renewed once the index has moved well away from the middle of the last wish."""
    spot_paise, options = state.spot.last_paise, state.options
    if options.centre_low_paise <= spot_paise <= options.centre_high_paise:
        return state, ()
    step_points = plan.index.strike_step_points
    centre_paise = (2 * spot_paise + step_points * 100) // (step_points * 200) * step_points * 100
    reach_paise = step_points * RECENTRE_PERCENT
    wanted = choices(spot_paise, plan, params)
    return _watching(state, wanted, centre_paise - reach_paise, centre_paise + reach_paise)


def _watching(state: SessionState, wanted: Sequence[Contract], low_paise: int, high_paise: int) -> Decided:
    held = [position.contract for position in state.book.positions]
    watched = {contract.security: contract for contract in (*held, *wanted)}
    before = state.options
    quotes = {security: quote for security, quote in before.quotes.items() if security in watched}
    options = Options(MappingProxyType(watched), quotes, low_paise, high_paise)
    state = state._replace(options=options)
    if watched.keys() == before.watched.keys():
        return state, ()
    return state, (Watch(at_ms=state.now_ms, contracts=tuple(watched.values())),)


# Candles and entries


def _on_candle(
    state: SessionState, closed: Candle, closed_by_ms: int, gap_ms: int, plan: DayPlan, params: Params
) -> Decided:
    state, waited = _given_up_waiting(state, params)
    signals = apply_candle(state.signals, closed, closed_by_ms=closed_by_ms, params=params)
    state = state._replace(signals=signals)
    actions: tuple[Action, ...] = (*waited, _candle_closed(state, closed, signals))
    reversed_ = [
        position
        for position in state.book.positions
        if position.closing is None
        and is_against(position, signals.direction)
        and may_reverse(position, state.now_ms, params)
    ]
    if reversed_:
        for position in reversed_:
            state = _with_position(state, position._replace(closing=ExitReason.REVERSAL))
        state = state._replace(gate=replace(state.gate, entry_waits=True))
        state, exits = _pursue(state, plan, params)
        return state, actions + exits
    state, entered = _judged(state, plan, params, gap_ms)
    return state, actions + entered


def _judged(state: SessionState, plan: DayPlan, params: Params, gap_ms: int) -> Decided:
    """The last closed candle as an entry, or the one reason why it is none."""
    verdict = judge(state, plan, params, gap_ms=gap_ms)
    if isinstance(verdict, Refusal):
        return _refused(state, verdict, params)
    book = state.book
    enter = Enter(
        at_ms=state.now_ms,
        intent=book.last_intent + 1,
        trade=book.last_trade + 1,
        contract=verdict.contract,
        quantity=verdict.quantity,
        reference_paise=verdict.reference_paise,
        why=Explanation(facts=verdict.facts),
    )
    book = replace(
        book, positions=(*book.positions, opened(enter)), last_intent=enter.intent, last_trade=enter.trade
    )
    return state._replace(book=book), (enter,)


def _refused(state: SessionState, refusal: Refusal, params: Params) -> Decided:
    gate = state.gate
    refusals = MappingProxyType({**gate.refusals, refusal: gate.refusals.get(refusal, 0) + 1})
    state = state._replace(gate=replace(gate, refusals=refusals))
    if not is_signal(state.signals, params):
        return state, ()
    facts = dict(signal_facts(state.signals))
    if refusal is Refusal.HALTED:
        facts["halts"] = ", ".join(gate.halts)
    if refusal is Refusal.CAUTION:
        facts["cautions"] = ", ".join(gate.cautions)
    return state, (EntryRefused(at_ms=state.now_ms, reason=refusal, why=Explanation(facts=facts)),)


def _given_up_waiting(state: SessionState, params: Params) -> Decided:
    """The candle before is over; if it still waited for its reversal exit to fill, it was no entry."""
    if not state.gate.entry_waits:
        return state, ()
    state = state._replace(gate=replace(state.gate, entry_waits=False))
    held = any(position.held for position in state.book.positions)
    return _refused(state, Refusal.POSITION_OPEN if held else Refusal.ORDER_IN_FLIGHT, params)


def _candle_closed(state: SessionState, candle: Candle, signals: Signals) -> CandleClosed:
    return CandleClosed(
        at_ms=state.now_ms,
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


# Time


def _on_timer(state: SessionState, timer: Timer, plan: DayPlan, params: Params) -> Decided:
    now_ms = state.now_ms
    state = state._replace(clock_ms=max(state.clock_ms, timer.at_ms))
    actions: tuple[Action, ...] = ()
    if now_ms >= plan.squareoff_ms and state.gate.ending is None:
        state = _ending(state, ExitReason.SQUAREOFF)
        # Sent before the candle is judged: nothing may stand between the hour and the exit.
        state, actions = _pursue(state, plan, params)
    closed_by_ms = now_ms - params.candle_grace_ms
    index, closed = take_time(state.spot, now_ms, params.candle_grace_ms)
    if closed is not None:
        state, more = _on_candle(
            state._replace(spot=index), closed, closed_by_ms, now_ms - index.last_at_ms, plan, params
        )
        actions += more
    else:
        signals = close_htf(state.signals, closed_by_ms, params)
        if signals is not state.signals:
            state = state._replace(signals=signals)
    state, watched_over = _watch_over_feed(state, plan, params)
    state, owed = _pursue(state, plan, params)
    return state, actions + watched_over + owed


def _watch_over_feed(state: SessionState, plan: DayPlan, params: Params) -> Decided:
    """One alert per silence of the index; a quote per limit while what is held is silent."""
    now_ms, silence = state.now_ms, state.silence
    opened_ms = max(plan.opened_ms(now_ms), state.gate.started_ms)
    actions: list[Action] = []
    quiet_ms = now_ms - max(state.spot.last_at_ms, opened_ms)
    is_stale = quiet_ms > params.stale_after_ms
    if is_stale and not silence.index_told:
        message = (
            f"no tick of {plan.index.underlying} for {quiet_ms // 1000} s; no entries until they are back"
        )
        actions.append(_alert(state, "index_ticks_stale", Severity.WARNING, message))
    silence = silence._replace(index_told=is_stale)
    held = [position for position in state.book.positions if position.held > 0]
    if not held or not plan.is_open(now_ms):
        return state._replace(silence=silence._replace(polled_ms=0, polls=0)), tuple(actions)
    last_seen_ms = min(
        max(quote.seen_ms if (quote := state.quote_of(position)) else 0, position.opened_ms, opened_ms)
        for position in held
    )
    if last_seen_ms > silence.polled_ms:
        silence = silence._replace(polled_ms=0, polls=0)
    if now_ms - max(last_seen_ms, silence.polled_ms) >= params.stale_after_ms:
        silence = silence._replace(polled_ms=now_ms, polls=silence.polls + 1)
        actions += [PollQuote(at_ms=now_ms, contract=position.contract) for position in held]
        if silence.polls == 2:
            message = (
                f"no price of {held[0].contract.name} for {(now_ms - last_seen_ms) // 1000} s, not even on request; "
                "its stop cannot work. Look at the position at the broker"
            )
            actions.append(_alert(state, "held_contract_silent", Severity.CRITICAL, message))
    return state._replace(silence=silence), tuple(actions)


# Orders


def _on_fill(state: SessionState, fill: Fill, plan: DayPlan, params: Params) -> Decided:
    state, known, actions = _reopened(state, fill)
    if not known:
        return state, actions
    position = next(p for p in state.book.positions if has_intent(p, fill.intent))
    position = apply_fill(position, fill, params)
    state = _with_position(state, position)
    if position.held < 0:
        message = (
            f"{-position.held} units of {position.contract.name} more were sold than bought; the account may "
            "be short. Compare the positions at the broker"
        )
        state, halted = _halt(state, Halt.OVERSOLD)
        actions += (_alert(state, "oversold", Severity.CRITICAL, message), *halted)
    state, owed = _pursue(state, plan, params)
    return state, owed + actions


def _reopened(state: SessionState, fill: Fill) -> tuple[SessionState, bool, tuple[Action, ...]]:
    """The state with the trade of `fill` among the open ones, and whether there is such a trade."""
    book = state.book
    if any(has_intent(position, fill.intent) for position in book.positions):
        return state, True, ()
    late = next((position for position in book.settled if has_intent(position, fill.intent)), None)
    if late is None:
        state, halted = _halt(state, Halt.UNKNOWN_POSITION)
        message = f"a fill of an intent this session never had: {fill}. Compare the positions at the broker"
        return state, False, (_alert(state, "unknown_fill", Severity.CRITICAL, message), *halted)
    if book.positions:
        # Two trades at once are not part of the rules: the one nobody expected any more goes.
        late = late._replace(closing=late.closing or ExitReason.UNKNOWN_POSITION)
    elif state.gate.ending is not None:
        late = late._replace(closing=late.closing or state.gate.ending)
    book = replace(
        book,
        positions=(*book.positions, late),
        settled=tuple(position for position in book.settled if position.trade != late.trade),
        realised_paise=book.realised_paise + late.cost_paise,
    )
    message = f"{late.contract.name}: an order filled {fill.quantity} units after it had ended"
    state = state._replace(book=book)
    watched = tuple(state.options.watched.values())
    state, wish = _watching(state, watched, state.options.centre_low_paise, state.options.centre_high_paise)
    return state, True, (*wish, _alert(state, "late_fill", Severity.CRITICAL, message))


def _on_intent_closed(state: SessionState, end: IntentClosed, plan: DayPlan, params: Params) -> Decided:
    position = next((p for p in state.book.positions if has_intent(p, end.intent)), None)
    if position is None:
        return state, ()
    position = apply_end(position, end)
    state = _with_position(state, position)
    state, owed = _pursue(state, plan, params)
    return state, owed + _said_of_end(state, position, end)


def _said_of_end(state: SessionState, position: Position, end: IntentClosed) -> tuple[Action, ...]:
    name, is_entry = position.contract.name, end.intent == position.entry.intent
    if end.outcome is Outcome.FILLED:
        missing = sum(leg.in_flight for leg in (position.entry, *position.exits) if leg.intent == end.intent)
        if not missing:
            return ()
        message = f"{name}: the order is said to be filled, but {missing} units of its fills are missing"
        return (_alert(state, "fills_missing", Severity.CRITICAL, message),)
    if is_entry:
        if end.outcome is Outcome.REJECTED:
            message = f"{name}: the entry was refused: {end.message or 'no reason given'}"
            return (_alert(state, "entry_rejected", Severity.WARNING, message),)
        return ()
    if position.held <= 0:
        return ()
    wait_s = max(0, position.retry_at_ms - state.now_ms) // 1000
    message = (
        f"{name}: the exit ended {end.outcome} with {position.held} units still held "
        f"({end.message or 'no reason given'}); it is sent again in {wait_s} s"
    )
    return (_alert(state, "exit_failed", Severity.CRITICAL, message),)


def _pursue(state: SessionState, plan: DayPlan, params: Params) -> Decided:
    """Do what is owed: cancel entries nobody wants, sell what is to be sold, settle, answer, and end."""
    actions: list[Action] = []
    settled_before = len(state.book.settled)
    for position in state.book.positions:
        unwanted = position.closing is not None or bool(state.gate.halts)
        if unwanted and position.entry_in_flight and not position.entry.cancel_asked:
            entry = replace(position.entry, cancel_asked=True)
            position = position._replace(entry=entry)  # noqa: PLW2901 (the same trade, one step on)
            state = _with_position(state, position)
            actions.append(CancelEntry(at_ms=state.now_ms, intent=entry.intent))
        if position.closing is not None and position.unsold > 0 and state.now_ms >= position.retry_at_ms:
            state, exit_ = _exit(state, position, position.closing, params)
            actions.append(exit_)
    state = _settled(state)
    if len(state.book.settled) != settled_before:
        state, halted = _limits_of_day(state, plan, params)
        actions += halted
    if state.is_flat:
        state, flat = _when_flat(state, plan, params)
        actions += flat
    return state, tuple(actions)


def _exit(
    state: SessionState, position: Position, reason: ExitReason, params: Params
) -> tuple[SessionState, Exit]:
    quote = state.quote_of(position)
    reference_paise = (quote.bid_paise or quote.price_paise) if quote is not None else position.entry_paise()
    facts = exit_facts(
        position,
        reason,
        quote,
        day_pnl_paise=day_pnl_paise(state),
        signals=state.signals,
        limits=state.gate.limits,
        params=params,
    )
    exit_ = Exit(
        at_ms=state.now_ms,
        intent=state.book.last_intent + 1,
        trade=position.trade,
        contract=position.contract,
        quantity=Quantity(position.unsold),
        reference_paise=reference_paise,
        reason=reason,
        why=Explanation(facts=facts),
    )
    state = _with_position(state, with_exit(position, exit_))
    return state._replace(book=replace(state.book, last_intent=exit_.intent)), exit_


def _settled(state: SessionState) -> SessionState:
    book = state.book
    done = tuple(position for position in book.positions if position.is_settled)
    if not done:
        return state
    return state._replace(
        book=replace(
            book,
            positions=tuple(position for position in book.positions if not position.is_settled),
            settled=book.settled + done,
            realised_paise=book.realised_paise - sum(position.cost_paise for position in done),
        )
    )


def _limits_of_day(state: SessionState, plan: DayPlan, params: Params) -> Decided:
    """Halt if the settled trades say so."""
    actions: tuple[Action, ...] = ()
    if is_breached(day_pnl_paise(state), state.gate.limits.daily_max_loss_paise):
        state, actions = _halt(state, Halt.DAILY_MAX_LOSS)
    protection = protection_halt(trades(state, plan), params)
    if protection is not None:
        state, more = _halt(state, protection)
        actions += more
    return state, actions


def _when_flat(state: SessionState, plan: DayPlan, params: Params) -> Decided:
    actions: list[Action] = []
    gate = state.gate
    if gate.waiting:
        gross = f"{state.book.realised_paise / 100:.2f} rupees"
        answer = f"flat; {len(trades(state, plan))} trades today, gross {gross}"
        actions += [Answered(at_ms=state.now_ms, command_id=id_, answer=answer) for id_ in gate.waiting]
        state = state._replace(gate=replace(gate, waiting=()))
    if state.gate.entry_waits:
        state = state._replace(gate=replace(state.gate, entry_waits=False))
        state, entered = _judged(state, plan, params, state.now_ms - state.spot.last_at_ms)
        actions += entered
    over = _why_over(state, plan)
    if over and state.is_flat:
        state = state._replace(gate=replace(state.gate, over=True))
        actions.append(SessionOver(at_ms=state.now_ms, reason=over))
    return state, tuple(actions)


def _why_over(state: SessionState, plan: DayPlan) -> str:
    gate = state.gate
    if gate.over:
        return ""
    if gate.stopped:
        return "stopped"
    if state.now_ms >= plan.squareoff_ms:
        return "squareoff"
    if state.clock_ms and gate.started_ms >= plan.entry_cutoff_ms:
        return "started after the entry cutoff"
    return ""


# Operators


def _on_command(state: SessionState, command: Command, plan: DayPlan, params: Params) -> Decided:
    match command.kind:
        case CommandKind.SQUAREOFF | CommandKind.STOP:
            return _on_close_command(state, command, plan, params)
        case CommandKind.HALT:
            state, halted = _halt(state, Halt.OPERATOR)
            state, owed = _pursue(state, plan, params)
            return state, (*owed, *halted, _answer(state, command, "halted: no new entries; exits go on"))
        case CommandKind.RESUME:
            return _on_resume(state, command)
        case CommandKind.TIGHTEN:
            return _on_tighten(state, command, plan, params)
        case _:
            assert_never(command.kind)


def _on_close_command(state: SessionState, command: Command, plan: DayPlan, params: Params) -> Decided:
    halted: tuple[Action, ...] = ()
    if command.kind is CommandKind.SQUAREOFF:
        state = _ending(state, ExitReason.MANUAL)
        state, halted = _halt(state, Halt.MANUAL_SQUAREOFF)
    else:
        state = _ending(state, ExitReason.HALT)
        state = state._replace(gate=replace(state.gate, stopped=True))
    if command.command_id not in state.gate.waiting:
        waiting = (*state.gate.waiting, command.command_id)
        state = state._replace(gate=replace(state.gate, waiting=waiting))
    state, owed = _pursue(state, plan, params)
    return state, owed + halted


def _on_resume(state: SessionState, command: Command) -> Decided:
    gate = state.gate
    left = tuple(halt for halt in gate.halts if halt != Halt.OPERATOR)
    actions: list[Action] = []
    if left != gate.halts:
        state = state._replace(gate=replace(gate, halts=left))
        actions.append(Resumed(at_ms=state.now_ms, reason=Halt.OPERATOR))
    if left:
        answer = f"still halted for the day: {', '.join(left)}"
    elif actions:
        answer = "resumed: entries are possible again"
    else:
        answer = "there was no halt to lift"
    return state, (*actions, _answer(state, command, answer))


def _on_tighten(state: SessionState, command: Command, plan: DayPlan, params: Params) -> Decided:
    limits = state.gate.limits
    loss, count = command.daily_max_loss_paise, command.max_trades_per_day
    faults = []
    if loss is not None and (loss <= 0 or 0 < limits.daily_max_loss_paise < loss):
        faults.append(
            f"daily_max_loss must be above 0 and not above {limits.daily_max_loss_paise / 100:.2f} rupees"
        )
    if count is not None and not 0 <= count <= limits.max_trades_per_day:
        faults.append(f"max_trades_per_day must be from 0 to {limits.max_trades_per_day}")
    if loss is None and count is None:
        faults.append("name a limit to lower")
    if faults:
        return state, (_answer(state, command, f"refused: {'; '.join(faults)}"),)
    limits = Limits(
        limits.daily_max_loss_paise if loss is None else loss,
        limits.max_trades_per_day if count is None else count,
    )
    state = state._replace(gate=replace(state.gate, limits=limits))
    told = LimitsTightened(
        at_ms=state.now_ms,
        daily_max_loss_paise=limits.daily_max_loss_paise,
        max_trades_per_day=limits.max_trades_per_day,
    )
    actions: tuple[Action, ...] = (told, _answer(state, command, "limits lowered for the rest of the day"))
    if is_breached(day_pnl_paise(state), limits.daily_max_loss_paise):
        state = _closing_all(state, ExitReason.DAILY_MAX_LOSS)
        state, halted = _halt(state, Halt.DAILY_MAX_LOSS)
        state, owed = _pursue(state, plan, params)
        actions = owed + halted + actions
    return state, actions


def _on_caution(state: SessionState, caution: Caution) -> SessionState:
    others = tuple(reason for reason in state.gate.cautions if reason != caution.reason)
    cautions = (*others, caution.reason) if caution.active else others
    return state._replace(gate=replace(state.gate, cautions=cautions))


# Parts


def _with_position(state: SessionState, changed: Position) -> SessionState:
    """The state with the open trade of that number replaced."""
    book = state.book
    positions = tuple(changed if position.trade == changed.trade else position for position in book.positions)
    return state._replace(book=replace(book, positions=positions))


def _closing_all(state: SessionState, reason: ExitReason) -> SessionState:
    """The state in which every open trade is to be closed; a reason it already has stays."""
    positions = tuple(
        position if position.closing else position._replace(closing=reason)
        for position in state.book.positions
    )
    return state._replace(book=replace(state.book, positions=positions))


def _ending(state: SessionState, reason: ExitReason) -> SessionState:
    """The state in which everything is closed and nothing opened any more."""
    state = _closing_all(state, reason)
    return state._replace(gate=replace(state.gate, ending=state.gate.ending or reason))


def _halt(state: SessionState, reason: Halt) -> Decided:
    """No entries from now on; said once per reason."""
    gate = state.gate
    if reason in gate.halts:
        return state, ()
    state = state._replace(gate=replace(gate, halts=(*gate.halts, reason)))
    severity = Severity.INFO if reason in {Halt.OPERATOR, Halt.MANUAL_SQUAREOFF} else Severity.CRITICAL
    message = f"no entries from now on: {reason}"
    return state, (Halted(at_ms=state.now_ms, reason=reason), _alert(state, "halted", severity, message))


def _alert(state: SessionState, kind: str, severity: Severity, message: str) -> Alert:
    return Alert(at_ms=state.now_ms, kind=kind, severity=severity, message=message)


def _answer(state: SessionState, command: Command, answer: str) -> Answered:
    return Answered(at_ms=state.now_ms, command_id=command.command_id, answer=answer)


# The beginning


def start(
    plan: DayPlan,
    params: Params,
    *,
    at_ms: int,
    warmup: Sequence[Candle] = (),
    history: History | None = None,
) -> Decided:
    """The state before the first event, also in mid-day after a crash.

    Args:
        plan: the day.
        params: the settings.
        at_ms: now.
        warmup: candles of the base or the higher timeframe up to now, oldest first within each; a base candle
            that is not over at `at_ms` goes on.
        history: what the ledger knows of this day; None on a first start.
    """
    history = history or History()
    open_candle = next((c for c in warmup if c.seconds == params.candle_seconds and c.end_ms > at_ms), None)
    closed = [candle for candle in warmup if candle.end_ms <= at_ms]
    base = [candle for candle in closed if candle.seconds == params.candle_seconds]
    last = open_candle or (base[-1] if base else None)
    index = IndexTicks(
        candle=open_candle,
        closed_until_ms=base[-1].end_ms if base else 0,
        last_at_ms=last.start_ms if last else 0,
        last_paise=last.close_paise if last else 0,
    )
    halts = lasting_halts(history)
    ending = ExitReason.MANUAL if Halt.MANUAL_SQUAREOFF in halts else None
    gate = Gate(limits=fold_limits(limits_of(params), history), halts=halts, ending=ending, started_ms=at_ms)
    positions = fold_positions(history, params)
    book = Book(
        positions=positions,
        last_intent=max((past.decided.intent for past in history.intents), default=0),
        last_trade=max((past.decided.trade for past in history.intents), default=0),
    )
    state = SessionState(at_ms, 0, index, Options(), warm_up(closed, params), book, gate)
    state = _settled(state)
    if ending is not None:
        state = _closing_all(state, ending)
    actions: tuple[Action, ...] = ()
    state, actions = taken_over(state, history, params)
    state, halted = _limits_of_day(state, plan, params)
    state, wish = _watching(state, (), 1, 0)
    return state, actions + halted + wish
