"""What happens to a session, in the past tense. Every event carries its own time; nobody asks a clock.

Times are Unix milliseconds (UTC) as integers: comparable in one instruction and exact in every database.
Money is integer paise. A `quantity` is units, never lots.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple


class Side(StrEnum):
    """Which way an order goes."""

    BUY = "BUY"
    SELL = "SELL"


class Tick(NamedTuple):
    """A price seen in the feed or in a polled quote. `bid_paise`/`ask_paise` are 0 where unknown.

    A tuple, because one is made for every packet: a frozen dataclass takes five times as long to make.
    """

    at_ms: int  # exchange time
    security: str  # "IDX_I:13"
    price_paise: int
    bid_paise: int = 0
    ask_paise: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class PoisonedTick:
    """A price that is not a number or not positive; counted, never used."""

    at_ms: int
    security: str
    found: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Timer:
    """The clock says it is `at_ms`. Comes about once a second of market time, also when ticks flow."""

    at_ms: int


class Outcome(StrEnum):
    """How an intent ended. There is no other end."""

    FILLED = "FILLED"
    PARTIALLY_FILLED = "PARTIALLY_FILLED"  # the remainder was cancelled
    REJECTED = "REJECTED"  # nothing filled; the broker or the ledger said no
    CANCELLED = "CANCELLED"  # nothing filled


@dataclass(frozen=True, slots=True, kw_only=True)
class Fill:
    """One execution of an intent. `value_paise` is quantity x price, the exact money that moved."""

    at_ms: int
    intent: int  # the number that the session gave its Enter or Exit
    side: Side
    quantity: int
    value_paise: int


@dataclass(frozen=True, slots=True, kw_only=True)
class IntentClosed:
    """No order of the intent is live any more, and none will be."""

    at_ms: int
    intent: int
    outcome: Outcome
    message: str = ""


class CommandKind(StrEnum):
    """What an operator can ask of a running session."""

    SQUAREOFF = "squareoff"  # close the position, then no new entries today
    HALT = "halt"  # no new entries; exits go on
    RESUME = "resume"  # lift a halt that an operator made; never a daily-loss halt
    STOP = "stop"  # close the position and end the session
    LEAVE = "leave"  # end the process; what is held stays, for the next start to take up
    TIGHTEN = "tighten"  # lower limits for the rest of the day


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """An operator's order to the session. The limits go with TIGHTEN; None leaves one as it is."""

    at_ms: int
    command_id: str
    kind: CommandKind
    reason: str = ""
    daily_max_loss_paise: int | None = None
    max_trades_per_day: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Caution:
    """Something outside says "no entries while this lasts": ledger unwritable, broker unreadable, lease in doubt."""

    at_ms: int
    reason: str
    active: bool


SessionEvent = Tick | PoisonedTick | Timer | Fill | IntentClosed | Command | Caution
