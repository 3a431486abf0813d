"""What a session remembers between two events, in small parts, so that a tick replaces little.

`SessionState`, `IndexTicks` and `Options` change with every tick and are named tuples for speed; the rest
changes a few times a minute or a day.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import NamedTuple

from strategy.actions import ExitReason
from strategy.candles import IndexTicks
from strategy.instruments import Contract
from strategy.params import Params
from strategy.position import Position
from strategy.signals import Signals


class Quote(NamedTuple):
    """The last price of a contract. `seen_ms` is when it arrived; its last trade may be older."""

    price_paise: int
    bid_paise: int  # 0: unknown
    ask_paise: int
    seen_ms: int


class Options(NamedTuple):
    """The contracts whose ticks are wanted, and their prices."""

    watched: Mapping[str, Contract] = MappingProxyType({})  # by security
    quotes: Mapping[str, Quote] = MappingProxyType({})
    centre_low_paise: int = 1  # outside [low, high] of the index the wish is renewed; at first, everything is
    centre_high_paise: int = 0


class Limits(NamedTuple):
    """The limits in force; an operator may lower them during the day."""

    daily_max_loss_paise: int  # 0: off
    max_trades_per_day: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Book:
    """The trades of the day, from decisions and fills."""

    positions: tuple[
        Position, ...
    ] = ()  # not settled; at most one, but for a fill that nobody expected any more
    settled: tuple[Position, ...] = ()
    realised_paise: int = 0  # gross, of the settled ones
    last_intent: int = 0
    last_trade: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Gate:
    """What stands between a signal and an order, and what operators still wait for."""

    limits: Limits
    halts: tuple[str, ...] = ()
    cautions: tuple[str, ...] = ()
    ending: ExitReason | None = None  # set: everything is closed and nothing opened any more
    stopped: bool = False  # an operator ended the session
    waiting: tuple[str, ...] = ()  # commands that are answered once flat
    entry_waits: bool = False  # a reversal's exit has to fill before its candle is judged for an entry
    near_loss_told: bool = False
    started_ms: int = 0
    over: bool = False
    refusals: Mapping[str, int] = field(default_factory=lambda: MappingProxyType({}))


class Silence(NamedTuple):
    """What has been done about ticks that do not come."""

    index_told: bool = False
    polled_ms: int = 0  # when a quote of what is held was last asked for; 0: there is no need
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
