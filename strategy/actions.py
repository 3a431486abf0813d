"""What a session decides to do. The trader carries these out in order; the session never learns how."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from strategy.instruments import Contract, Quantity


class ExitReason(StrEnum):
    """Why a position is closed; the first five are the rules, the rest are orders from outside them."""

    DAILY_MAX_LOSS = "daily_max_loss"
    MAX_LOSS_PER_TRADE = "max_loss_per_trade"
    TARGET = "target"
    STOP_LOSS = "stop_loss"
    TRAILING_STOP = "trailing_stop"
    REVERSAL = "reversal"
    SQUAREOFF = "squareoff"
    MANUAL = "manual"
    HALT = "halt"
    UNKNOWN_POSITION = "unknown_position"
    UNRECORDED = "unrecorded"  # decided by a process that could write nothing any more; the broker has the order


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """Why: the candle, the indicator values and the setting behind a decision, as plain values."""

    facts: Mapping[str, float | int | str | bool | None] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Watch:
    """Ticks of these contracts are wanted from now on (beside the index); replaces the previous wish."""

    at_ms: int
    contracts: tuple[Contract, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Enter:
    """Buy. `intent` and `trade` count up within the session's day, also across restarts."""

    at_ms: int
    intent: int
    trade: int
    contract: Contract
    quantity: Quantity
    reference_paise: int  # the ask, or the last price where no ask is known
    why: Explanation


@dataclass(frozen=True, slots=True, kw_only=True)
class Adopt:
    """A position that the ledger did not know is trade `trade` from now on: record it as a filled entry.

    No order is sent. `value_paise` is what it was bought for.
    """

    at_ms: int
    intent: int
    trade: int
    contract: Contract
    quantity: Quantity
    value_paise: int
    why: Explanation


@dataclass(frozen=True, slots=True, kw_only=True)
class Exit:
    """Sell what is held of a trade."""

    at_ms: int
    intent: int
    trade: int
    contract: Contract
    quantity: Quantity
    reference_paise: int  # the bid, or the last price where no bid is known
    reason: ExitReason
    why: Explanation


@dataclass(frozen=True, slots=True, kw_only=True)
class CancelEntry:
    """Stop buying: cancel what is still open of this entry intent."""

    at_ms: int
    intent: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PollQuote:
    """The feed is silent about the contract that is held: ask for its price."""

    at_ms: int
    contract: Contract


@dataclass(frozen=True, slots=True, kw_only=True)
class CandleClosed:
    """A candle of the index and what the indicators say after it. OHLC in paise."""

    at_ms: int  # the moment of closing
    start_ms: int
    seconds: int
    open_paise: int
    high_paise: int
    low_paise: int
    close_paise: int
    ticks: int
    supertrend: float | None
    direction: int  # +1 up, -1 down, 0 not ready
    macd: float | None
    macd_signal: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class StopMoved:
    """The trailing stop rose. Recorded, so that a restart takes it up where it was."""

    at_ms: int
    trade: int
    stop_paise: int
    best_paise: int


@dataclass(frozen=True, slots=True, kw_only=True)
class EntryRefused:
    """A candle that would have been an entry but for `reason`; counted for the day's "why no entry"."""

    at_ms: int
    reason: str
    why: Explanation


@dataclass(frozen=True, slots=True, kw_only=True)
class Halted:
    """No entries from now on. `reason` daily_max_loss is final for the day; a restart reads it back."""

    at_ms: int
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Resumed:
    """An operator's halt was lifted."""

    at_ms: int
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitsTightened:
    """Lower limits hold for the rest of the day, also after a restart."""

    at_ms: int
    daily_max_loss_paise: int
    max_trades_per_day: int


class Severity(StrEnum):
    """How loud an alert is; critical ones always pass."""

    INFO = "info"
    WARNING = "warning"
    CRITICAL = "critical"


@dataclass(frozen=True, slots=True, kw_only=True)
class Alert:
    """Something a person should hear of. `kind` names it for routing and de-duplication."""

    at_ms: int
    kind: str
    severity: Severity
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """What became of an operator's command."""

    at_ms: int
    command_id: str
    answer: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionOver:
    """Flat, nothing in flight, and no more trading today: the trader may leave its loop."""

    at_ms: int
    reason: str


Action = (
    Watch
    | Enter
    | Adopt
    | Exit
    | CancelEntry
    | PollQuote
    | CandleClosed
    | StopMoved
    | EntryRefused
    | Halted
    | Resumed
    | LimitsTightened
    | Alert
    | Answered
    | SessionOver
)
