"""What the ledger knows of a day that is being taken up again, folded into trades, halts and limits.

Invariants:
1. The same functions that apply fills while trading apply them here, so both arrive at the same position.
2. A halt that was not lifted, lowered limits and the highest stop survive.
"""

from dataclasses import dataclass

from strategy.actions import Enter, Exit, Halted, LimitsTightened, Resumed, StopMoved
from strategy.events import Fill, IntentClosed
from strategy.instruments import Contract
from strategy.params import Params
from strategy.position import Position, apply_end, apply_fill, opened, with_exit
from strategy.state import Limits


@dataclass(frozen=True, slots=True, kw_only=True)
class PastIntent:
    """An intent of this day and what is known of it. `end` is None while an order of it may be live.

    A position that was adopted is an `Enter` with its fill and its end.
    """

    decided: Enter | Exit
    fills: tuple[Fill, ...] = ()
    end: IntentClosed | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class UnknownPosition:
    """Held at the broker, bought for `value_paise`, and not in the ledger."""

    contract: Contract
    quantity: int  # units
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
    """Every trade of the day, settled or not.

    Raises ValueError for an exit of a trade that was never entered.
    """
    positions: dict[int, Position] = {}
    for past in sorted(history.intents, key=lambda past: past.decided.intent):
        decided = past.decided
        if isinstance(decided, Enter):
            position = opened(decided)
        elif decided.trade in positions:
            position = with_exit(positions[decided.trade], decided)
        else:
            raise ValueError(
                f"exit intent {decided.intent} is of trade {decided.trade}, which has no entry in the "
                "ledger; reconcile the day before trading on"
            )
        for fill in past.fills:
            position = apply_fill(position, fill, params)
        if past.end is not None:
            position = apply_end(position, past.end)
        positions[decided.trade] = position
    for moved in history.stops:
        position = positions[moved.trade]
        positions[moved.trade] = position._replace(
            stop_paise=max(position.stop_paise, moved.stop_paise), trailed=True, best_paise=moved.best_paise
        )
    return tuple(positions.values())


def lasting_halts(history: History) -> tuple[str, ...]:
    """The halts that were not lifted, oldest first."""
    halts: dict[str, None] = {}
    for said in history.halts:
        if isinstance(said, Halted):
            halts[said.reason] = None
        else:
            halts.pop(said.reason, None)
    return tuple(halts)


def fold_limits(limits: Limits, history: History) -> Limits:
    """The limits in force: the settings', or what an operator lowered them to. A loss limit of 0 is none."""
    for lowered in history.limits:
        losses = [loss for loss in (limits.daily_max_loss_paise, lowered.daily_max_loss_paise) if loss]
        limits = Limits(min(losses, default=0), min(limits.max_trades_per_day, lowered.max_trades_per_day))
    return limits
