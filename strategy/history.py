"""What a restart knows from the ledger, folded into the state that an uninterrupted session would have.

Invariants:
1. The same functions that apply fills while trading apply them here, so both arrive at the same position.
2. A halt that was not lifted, lowered limits and the highest stop survive.
3. A position the ledger does not know is treated by the setting, never ignored.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace

from strategy.actions import (
    Action,
    Adopt,
    Alert,
    Enter,
    Exit,
    ExitReason,
    Explanation,
    Halted,
    LimitsTightened,
    Resumed,
    Severity,
    StopMoved,
)
from strategy.events import Fill, IntentClosed, Outcome, Side
from strategy.instruments import Contract, Quantity
from strategy.params import Params, UnknownPositionPolicy
from strategy.position import Position, apply_end, apply_fill, opened, with_exit
from strategy.risk import Halt
from strategy.state import Limits, SessionState


@dataclass(frozen=True, slots=True, kw_only=True)
class PastIntent:
    """An intent of this day and what is known of it. `end` is None while an order of it may be live."""

    decided: Enter | Exit
    fills: tuple[Fill, ...] = ()
    end: IntentClosed | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class UnknownPosition:
    """Held at the broker, bought for `value_paise`, and not in the ledger."""

    contract: Contract
    quantity: int
    value_paise: int


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """The day so far, each kind in the order it happened."""

    intents: tuple[PastIntent, ...] = ()
    stops: tuple[StopMoved, ...] = ()
    halts: tuple[Halted | Resumed, ...] = ()
    limits: tuple[LimitsTightened, ...] = ()
    unknown: tuple[UnknownPosition, ...] = ()


def fold_positions(history: History, params: Params) -> tuple[Position, ...]:
    """Every trade of the day, settled or not."""
    positions: dict[int, Position] = {}
    for past in sorted(history.intents, key=lambda past: past.decided.intent):
        decided = past.decided
        if isinstance(decided, Enter):
            position = opened(decided)
        elif decided.trade in positions:
            position = with_exit(positions[decided.trade], decided)
        else:
            raise ValueError(
                f"exit intent {decided.intent} is of trade {decided.trade}, which has no entry in the ledger; "
                "reconcile the day before trading on"
            )
        for fill in past.fills:
            position = apply_fill(position, fill, params)
        if past.end is not None:
            position = apply_end(position, past.end)
        positions[decided.trade] = position
    for moved in history.stops:
        held = positions.get(moved.trade)
        if held is not None:
            positions[moved.trade] = held._replace(
                stop_paise=max(held.stop_paise, moved.stop_paise), trailed=True, best_paise=moved.best_paise
            )
    return tuple(positions.values())


def lasting_halts(history: History) -> tuple[str, ...]:
    """The halts that were not lifted."""
    halts: dict[str, None] = {}
    for said in history.halts:
        if isinstance(said, Halted):
            halts[said.reason] = None
        else:
            halts.pop(said.reason, None)
    return tuple(halts)


def fold_limits(limits: Limits, history: History) -> Limits:
    """The limits in force: the settings', or what an operator lowered them to."""
    for tightened in history.limits:
        losses: Iterable[int] = (limits.daily_max_loss_paise, tightened.daily_max_loss_paise)
        limits = Limits(
            min((loss for loss in losses if loss > 0), default=0),
            min(limits.max_trades_per_day, tightened.max_trades_per_day),
        )
    return limits


def taken_over(
    state: SessionState, history: History, params: Params
) -> tuple[SessionState, tuple[Action, ...]]:
    """The state once positions that the ledger does not know are treated by `on_unknown_position`."""
    actions: list[Action] = []
    policy = params.on_unknown_position
    for found in history.unknown:
        held = f"{found.quantity} units of {found.contract.name}"
        message = f"{held} are held that the ledger does not know: {policy}"
        actions.append(
            Alert(at_ms=state.now_ms, kind="unknown_position", severity=Severity.CRITICAL, message=message)
        )
        if policy is not UnknownPositionPolicy.HALT:
            state, adopt = _adopted(state, found, params)
            actions.append(adopt)
    if (
        history.unknown
        and policy is UnknownPositionPolicy.HALT
        and Halt.UNKNOWN_POSITION not in state.gate.halts
    ):
        halts = (*state.gate.halts, Halt.UNKNOWN_POSITION)
        state = state._replace(gate=replace(state.gate, halts=halts))
        actions.append(Halted(at_ms=state.now_ms, reason=Halt.UNKNOWN_POSITION))
    return state, tuple(actions)


def _adopted(state: SessionState, found: UnknownPosition, params: Params) -> tuple[SessionState, Adopt]:
    book, at_ms = state.book, state.now_ms
    intent, trade = book.last_intent + 1, book.last_trade + 1
    why = Explanation(facts={"on_unknown_position": str(params.on_unknown_position)})
    quantity = Quantity(found.quantity)
    enter = Enter(
        at_ms=at_ms,
        intent=intent,
        trade=trade,
        contract=found.contract,
        quantity=quantity,
        reference_paise=found.value_paise // found.quantity,
        why=why,
    )
    fill = Fill(
        at_ms=at_ms, intent=intent, side=Side.BUY, quantity=found.quantity, value_paise=found.value_paise
    )
    position = apply_fill(opened(enter, reason="adopted"), fill, params)
    position = apply_end(position, IntentClosed(at_ms=at_ms, intent=intent, outcome=Outcome.FILLED))
    if params.on_unknown_position is UnknownPositionPolicy.FLATTEN or state.gate.ending is not None:
        position = position._replace(closing=ExitReason.UNKNOWN_POSITION)
    book = replace(book, positions=(*book.positions, position), last_intent=intent, last_trade=trade)
    adopt = Adopt(
        at_ms=at_ms,
        intent=intent,
        trade=trade,
        contract=found.contract,
        quantity=quantity,
        value_paise=found.value_paise,
        why=why,
    )
    return state._replace(book=book), adopt
