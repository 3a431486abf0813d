"""What an operator's commands do to a running session.

Invariants:
1. Every command is answered, a refused one too; one that closes is answered once nothing is held.
2. Limits only get tighter. A halt for the day's loss, or any other that no operator made, cannot be lifted.
"""

from typing import assert_never

from strategy.actions import Action, Answered, ExitReason, LimitsTightened, Resumed
from strategy.duties import pursue
from strategy.events import Command, CommandKind
from strategy.params import Params
from strategy.plan import DayPlan
from strategy.risk import day_pnl_paise, is_breached
from strategy.state import Halt, Limits, SessionState, closing_all, ending, halted

HANDING_OVER = "handing_over"


def after_command(
    state: SessionState, command: Command, plan: DayPlan, params: Params
) -> tuple[SessionState, tuple[Action, ...]]:
    """The state after a command, and what follows from it."""
    match command.kind:
        case CommandKind.SQUAREOFF:
            state = _closing_for(ending(state, ExitReason.MANUAL), command)
            state, said = halted(state, Halt.MANUAL_SQUAREOFF)
            state, owed = pursue(state, plan, params)
            return state, owed + said
        case CommandKind.STOP:
            state = _closing_for(ending(state, ExitReason.HALT), command)
            return pursue(state._replace(gate=state.gate._replace(stopped=True)), plan, params)
        case CommandKind.LEAVE:
            gate = state.gate
            cautions = (*gate.cautions, HANDING_OVER)
            state = state._replace(gate=gate._replace(leaving_ms=gate.leaving_ms or state.now_ms, cautions=cautions))
            state, owed = pursue(state, plan, params)
            return state, (*owed, _answer(state, command, "handing over: nothing is bought any more, nothing is sold"))
        case CommandKind.HALT:
            state, said = halted(state, Halt.OPERATOR)
            state, owed = pursue(state, plan, params)
            return state, (*owed, *said, _answer(state, command, "halted: no new entries; exits go on"))
        case CommandKind.RESUME:
            return _resumed(state, command)
        case CommandKind.TIGHTEN:
            return _tightened(state, command, plan, params)
        case _:
            assert_never(command.kind)


def _closing_for(state: SessionState, command: Command) -> SessionState:
    gate = state.gate
    if command.command_id in gate.waiting:
        return state
    return state._replace(gate=gate._replace(waiting=(*gate.waiting, command.command_id)))


def _resumed(state: SessionState, command: Command) -> tuple[SessionState, tuple[Action, ...]]:
    gate = state.gate
    left = tuple(halt for halt in gate.halts if halt != Halt.OPERATOR)
    lifted: tuple[Action, ...] = ()
    if left != gate.halts:
        state = state._replace(gate=gate._replace(halts=left))
        lifted = (Resumed(at_ms=state.now_ms, reason=Halt.OPERATOR.value),)
    if left:
        answer = f"still halted for the day: {', '.join(left)}"
    else:
        answer = "resumed: entries are possible again" if lifted else "there was no halt to lift"
    return state, (*lifted, _answer(state, command, answer))


def _tightened(
    state: SessionState, command: Command, plan: DayPlan, params: Params
) -> tuple[SessionState, tuple[Action, ...]]:
    faults = _faults(command, state.gate.limits)
    if faults:
        return state, (_answer(state, command, f"refused: {'; '.join(faults)}"),)
    loss_paise, trades = command.daily_max_loss_paise, command.max_trades_per_day
    before = state.gate.limits
    limits = Limits(
        before.daily_max_loss_paise if loss_paise is None else loss_paise,
        before.max_trades_per_day if trades is None else trades,
    )
    state = state._replace(gate=state.gate._replace(limits=limits))
    told = LimitsTightened(
        at_ms=state.now_ms,
        daily_max_loss_paise=limits.daily_max_loss_paise,
        max_trades_per_day=limits.max_trades_per_day,
    )
    said: tuple[Action, ...] = (told, _answer(state, command, "limits lowered for the rest of the day"))
    if is_breached(day_pnl_paise(state), limits.daily_max_loss_paise):
        state = closing_all(state, ExitReason.DAILY_MAX_LOSS)
        state, stopped = halted(state, Halt.DAILY_MAX_LOSS)
        state, owed = pursue(state, plan, params)
        said = owed + stopped + said
    return state, said


def _faults(command: Command, limits: Limits) -> tuple[str, ...]:
    loss_paise, trades = command.daily_max_loss_paise, command.max_trades_per_day
    faults = []
    if loss_paise is None and trades is None:
        faults.append("name a limit to lower")
    if loss_paise is not None and loss_paise <= 0:
        faults.append("daily_max_loss must be above 0")
    if loss_paise is not None and 0 < limits.daily_max_loss_paise < loss_paise:
        faults.append(f"daily_max_loss is {limits.daily_max_loss_paise / 100:.2f} rupees and can only be lowered")
    if trades is not None and trades < 0:
        faults.append("max_trades_per_day must not be negative")
    if trades is not None and trades > limits.max_trades_per_day:
        faults.append(f"max_trades_per_day is {limits.max_trades_per_day} and can only be lowered")
    return tuple(faults)


def _answer(state: SessionState, command: Command, answer: str) -> Answered:
    return Answered(at_ms=state.now_ms, command_id=command.command_id, answer=answer)
