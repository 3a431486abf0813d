"""What a session remembers between two events, and the few ways in which it changes.

Everything is a named tuple of small parts: a tick replaces two or three of them, and a named tuple is made five times
as fast as a frozen dataclass.
"""

from collections.abc import Mapping
from enum import StrEnum
from typing import NamedTuple

from strategy.actions import Action, Alert, ExitReason, Halted, Severity
from strategy.candles import IndexTicks
from strategy.instruments import Contract
from strategy.params import Params
from strategy.position import Position
from strategy.signals import Signals


class Halt(StrEnum):
    """Why there are no entries any more today. Only an operator's own halt can be lifted."""

    DAILY_MAX_LOSS = "daily_max_loss"
    OPERATOR = "operator"
    MANUAL_SQUAREOFF = "manual_squareoff"
    STOP_LOSSES = "stop_losses"
    PROFIT_LOCK = "profit_lock"
    UNKNOWN_POSITION = "unknown_position"
    OVERSOLD = "oversold"


class Quote(NamedTuple):
    """The last price of a contract. `seen_ms` is when it arrived; its last trade may be older."""

    price_paise: int
    bid_paise: int  # 0: unknown
    ask_paise: int  # 0: unknown
    seen_ms: int


class Options(NamedTuple):
    """The contracts whose ticks are wanted, and their prices."""

    watched: Mapping[str, Contract]  # by security
    quotes: Mapping[str, Quote]  # of watched ones only
    low_paise: int  # outside [low, high] of the index the wish for contracts is renewed
    high_paise: int


class Limits(NamedTuple):
    """The limits in force; an operator may lower them during the day."""

    daily_max_loss_paise: int  # 0: off
    max_trades_per_day: int


class Book(NamedTuple):
    """The trades of the day, from decisions and fills."""

    positions: tuple[Position, ...] = ()  # not settled; more than one only after a fill nobody expected any more
    settled: tuple[Position, ...] = ()
    realised_paise: int = 0  # gross, of the settled ones
    last_intent: int = 0
    last_trade: int = 0


class Gate(NamedTuple):
    """What stands between a signal and an order, and what operators still wait for."""

    limits: Limits
    halts: tuple[str, ...] = ()
    cautions: tuple[str, ...] = ()
    ending: ExitReason | None = None  # set: everything is closed and nothing opened any more
    stopped: bool = False  # an operator ended the session
    leaving_ms: int = 0  # since when the process wants to end with what is held; 0: it does not
    waiting: tuple[str, ...] = ()  # commands that are answered once flat
    entry_waits: bool = False  # a reversal's exit has to fill before its candle is judged for an entry
    near_loss_told: bool = False
    started_ms: int = 0
    over: bool = False
    refusals: Mapping[str, int] = {}


class Silence(NamedTuple):
    """What has been done about ticks that do not come."""

    index_told: bool = False
    polled_ms: int = 0  # when a price of what is held was last asked for; 0: there is no need
    polls: int = 0


class SessionState(NamedTuple):
    """Everything a decision depends on beside the event, the plan and the settings."""

    now_ms: int  # the latest time any event told
    clock_ms: int  # the last Timer; 0 before the first
    spot: IndexTicks
    options: Options
    signals: Signals
    book: Book
    gate: Gate
    silence: Silence = Silence()

    @property
    def is_flat(self) -> bool:
        """Nothing held and nothing in flight."""
        return not self.book.positions

    def quote_of(self, position: Position) -> Quote | None:
        """The last price of what is held."""
        return self.options.quotes.get(position.security)


def limits_of(params: Params) -> Limits:
    """The limits as the settings have them."""
    return Limits(params.daily_max_loss_paise, params.max_trades_per_day)


def with_position(state: SessionState, changed: Position) -> SessionState:
    """The state with the open trade of that number replaced."""
    book = state.book
    positions = tuple(changed if position.trade == changed.trade else position for position in book.positions)
    return state._replace(book=book._replace(positions=positions))


def closing_all(state: SessionState, reason: ExitReason) -> SessionState:
    """The state in which every open trade is to be closed; a reason it already has stays."""
    book = state.book
    positions = tuple(
        position if position.closing else position._replace(closing=reason) for position in book.positions
    )
    return state._replace(book=book._replace(positions=positions))


def ending(state: SessionState, reason: ExitReason) -> SessionState:
    """The state in which everything is closed and nothing opened any more; the first reason stays."""
    state = closing_all(state, reason)
    return state._replace(gate=state.gate._replace(ending=state.gate.ending or reason))


def halted(state: SessionState, reason: Halt) -> tuple[SessionState, tuple[Action, ...]]:
    """The state without entries from now on; said once per reason."""
    gate = state.gate
    if reason in gate.halts:
        return state, ()
    state = state._replace(gate=gate._replace(halts=(*gate.halts, reason)))
    by_operator = reason in {Halt.OPERATOR, Halt.MANUAL_SQUAREOFF}
    severity = Severity.INFO if by_operator else Severity.CRITICAL
    said = alert(state, "halted", severity, f"no entries from now on: {reason}")
    return state, (Halted(at_ms=state.now_ms, reason=reason), said)


def alert(state: SessionState, kind: str, severity: Severity, message: str) -> Alert:
    """An alert of this moment."""
    return Alert(at_ms=state.now_ms, kind=kind, severity=severity, message=message)
