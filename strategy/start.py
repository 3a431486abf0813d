"""How a session begins: fresh in the morning, late, or again after a crash. Every start is the same start.

Invariants:
1. With the day's history the state decides as the uninterrupted one would. Three things do not survive, all on the
   safe side: prices of contracts (an entry waits for a new one), an entry that waited for a reversal's exit, and an
   entry on a candle that was over and not judged yet (it counts for the indicators only).
2. A position the ledger does not know is treated by the setting, never ignored.
"""

from collections.abc import Sequence

from strategy.actions import Action, Adopt, Enter, Exit, ExitReason, Explanation, Severity
from strategy.candles import Candle, IndexTicks
from strategy.duties import with_halts_of_day, with_settled
from strategy.events import Fill, IntentClosed, Outcome, Side
from strategy.history import History, UnknownPosition, fold_limits, fold_positions, lasting_halts
from strategy.instruments import Quantity
from strategy.params import Params, UnknownPositionPolicy
from strategy.plan import DayPlan
from strategy.position import apply_end, apply_fill, opened
from strategy.signals import warm_up
from strategy.state import (
    Book,
    Gate,
    Halt,
    Options,
    SessionState,
    alert,
    ending,
    halted,
    limits_of,
)
from strategy.watch import with_wish


def start(
    plan: DayPlan,
    params: Params,
    *,
    at_ms: int,
    warmup: Sequence[Candle] = (),
    history: History | None = None,
) -> tuple[SessionState, tuple[Action, ...]]:
    """The state before the first event, and what to do at once.

    Args:
        plan: the day.
        params: the settings.
        at_ms: now.
        warmup: candles of the base or the higher timeframe up to now, oldest first within each; a base candle that
            is not over at `at_ms` goes on, a longer one that is not over is left to the base candles.
        history: what the ledger knows of this day; None on its first start.
    """
    history = history or History()
    intents = [past.decided for past in history.intents]
    book = Book(
        positions=fold_positions(history, params),
        last_intent=max((decided.intent for decided in intents), default=0),
        last_trade=max((decided.trade for decided in intents), default=0),
    )
    gate = Gate(limits=fold_limits(limits_of(params), history), halts=lasting_halts(history), started_ms=at_ms)
    # Nothing is watched yet; the first index tick is outside any band.
    options = Options({}, {}, 1, 0)
    signals = warm_up([candle for candle in warmup if candle.end_ms <= at_ms], params)
    spot = _spot(warmup, at_ms, params)
    state = with_settled(SessionState(at_ms, 0, spot, options, signals, book, gate))
    if Halt.MANUAL_SQUAREOFF in gate.halts:
        state = ending(state, ExitReason.MANUAL)
    state, taken_over = _with_unknown(state, history, params)
    state, halts = with_halts_of_day(state, plan, params)
    if any(isinstance(decided, Exit) and decided.reason is ExitReason.DAILY_MAX_LOSS for decided in intents):
        # The exit was committed before its halt was written down; a crash in between lifts nothing.
        state, halted_now = halted(state, Halt.DAILY_MAX_LOSS)
        halts += halted_now
    state, wish = with_wish(state, ())
    return state, taken_over + halts + wish


def _spot(warmup: Sequence[Candle], at_ms: int, params: Params) -> IndexTicks:
    """The index as the warm-up left it: its last price, and the candle that is not over."""
    base = [candle for candle in warmup if candle.seconds == params.candle_seconds]
    if not base:
        return IndexTicks()
    last = base[-1]
    is_open = last.end_ms > at_ms
    return IndexTicks(
        candle=last if is_open else None,
        closed_until_ms=last.start_ms if is_open else last.end_ms,
        last_at_ms=last.start_ms,
        last_paise=last.close_paise,
    )


def _with_unknown(state: SessionState, history: History, params: Params) -> tuple[SessionState, tuple[Action, ...]]:
    actions: tuple[Action, ...] = ()
    policy = params.on_unknown_position
    for found in history.unknown:
        held = f"{found.quantity} units of {found.contract.name}"
        message = f"{held} are held that the ledger does not know: {policy}"
        actions += (alert(state, "unknown_position", Severity.CRITICAL, message),)
        if policy is UnknownPositionPolicy.HALT:
            state, said = halted(state, Halt.UNKNOWN_POSITION)
            actions += said
        else:
            state, adopt = _adopted(state, found, params)
            actions += (adopt,)
    return state, actions


def _adopted(state: SessionState, found: UnknownPosition, params: Params) -> tuple[SessionState, Adopt]:
    """The state in which an unknown position is a trade of ours, bought at what the broker says."""
    book, at_ms, quantity = state.book, state.now_ms, Quantity(found.quantity)
    policy = params.on_unknown_position
    why = Explanation(facts={"on_unknown_position": policy.value})
    enter = Enter(
        at_ms=at_ms,
        intent=book.last_intent + 1,
        trade=book.last_trade + 1,
        contract=found.contract,
        quantity=quantity,
        reference_paise=found.value_paise // found.quantity,
        why=why,
    )
    bought = Fill(
        at_ms=at_ms,
        intent=enter.intent,
        side=Side.BUY,
        quantity=found.quantity,
        value_paise=found.value_paise,
    )
    position = apply_fill(opened(enter), bought, params)
    position = apply_end(position, IntentClosed(at_ms=at_ms, intent=enter.intent, outcome=Outcome.FILLED))
    closing = ExitReason.UNKNOWN_POSITION if policy is UnknownPositionPolicy.FLATTEN else state.gate.ending
    state = state._replace(
        book=book._replace(
            positions=(*book.positions, position._replace(closing=closing)),
            last_intent=enter.intent,
            last_trade=enter.trade,
        )
    )
    adopt = Adopt(
        at_ms=at_ms,
        intent=enter.intent,
        trade=enter.trade,
        contract=found.contract,
        quantity=quantity,
        value_paise=found.value_paise,
        why=why,
    )
    return state, adopt
