"""What the ledger keeps, as plain values. The tables (`tables.py`) are how it is kept, not what it is."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from typing import Any, NamedTuple

from strategy.events import Side
from strategy.instruments import Underlying

ADOPTED = "adopted"  # the reason of an intent that stands for a position taken over: no order of it was sent


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionKey:
    """One trading day of one index in one account and mode; a restart is the same session."""

    account: str
    underlying: Underlying
    mode: str
    day: date

    @property
    def session_id(self) -> str:
        """E.g. "2026-11-20/NIFTY/rehearsal/1000000009"."""
        return f"{self.day.isoformat()}/{self.underlying}/{self.mode}/{self.account}"

    def order_prefix(self, salt: str) -> str:
        """How the ids of all orders of the session begin, e.g. "261120N-k3f"."""
        return f"{self.day:%y%m%d}{self.underlying[0]}-{salt}"


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionStart:
    """One start of the trading process; a day with a crash has several."""

    session_id: str
    run_id: str  # the Prefect flow run, or a random id outside Prefect
    fence: int  # the lease's fencing number that this start holds
    started_at_ms: int
    params: Mapping[str, Any]
    code_version: str
    facts_version: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ArmingRecord:
    """One word of the operator about real money on a day; of several the last (by `number`, from 1) counts."""

    account: str
    underlying: Underlying
    day: date
    number: int
    armed: bool  # False: disarmed
    params: Mapping[str, Any]  # the exact settings that were read and confirmed
    armed_by: str
    at_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderRecord:
    """One order to be sent: recorded before it is. An intent above the freeze quantity has several."""

    client_order_id: str
    slice_number: int
    quantity: int
    limit_paise: int


@dataclass(frozen=True, slots=True, kw_only=True)
class IntentRecord:
    """What the session decided to send."""

    session_id: str
    intent: int
    trade: int
    purpose: str  # ENTRY or EXIT
    side: Side
    security: str
    trading_symbol: str
    contract_name: str
    strike_points: int
    option_type: str
    expiry: date
    lot_size: int
    tick_size_paise: int
    freeze_quantity: int
    quantity: int
    reference_paise: int
    reason: str  # the exit reason; "entry" for an entry
    why: Mapping[str, Any]
    decided_at_ms: int
    fence: int
    orders: tuple[OrderRecord, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderEventRecord:
    """One thing that happened to an order, as it was learnt."""

    client_order_id: str
    at_ms: int
    kind: str  # SENT, ACCEPTED, REFUSED, UNKNOWN, MODIFY_SENT, CANCEL_SENT, SEEN, ABSENT
    status: str = ""  # the broker's word
    broker_order_id: str = ""
    filled_quantity: int = 0
    limit_paise: int = 0
    message: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class FillRecord:
    """One execution: the step from one cumulative quantity to the next."""

    client_order_id: str
    cumulative_quantity: int
    quantity: int
    value_paise: int
    at_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class DecisionRecord:
    """A decision that sends no order: refusal, stop moved, halt, resume, limits, alert, start of signals."""

    session_id: str
    at_ms: int
    kind: str
    reason: str
    detail: Mapping[str, Any] = field(default_factory=dict)


class CandleRecord(NamedTuple):
    """A closed candle of the index with the indicators after it. A tuple, because a day has thousands."""

    session_id: str
    seconds: int
    start_ms: int
    open_paise: int
    high_paise: int
    low_paise: int
    close_paise: int
    ticks: int
    supertrend: float | None
    direction: int
    macd: float | None
    macd_signal: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class CommandRecord:
    """An operator's request to a session."""

    command_id: str
    session_id: str
    kind: str
    reason: str
    requested_by: str
    requested_at_ms: int
    detail: Mapping[str, Any] = field(default_factory=dict)
    answer: str | None = None
    answered_at_ms: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ChargeRecord:
    """Charges of one executed order, paise."""

    client_order_id: str
    brokerage_paise: int
    stt_paise: int
    exchange_paise: int
    sebi_paise: int
    stamp_paise: int
    gst_paise: int
    rates_version: str

    @property
    def total_paise(self) -> int:
        """All of them."""
        return (
            self.brokerage_paise
            + self.stt_paise
            + self.exchange_paise
            + self.sebi_paise
            + self.stamp_paise
            + self.gst_paise
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class TradeRecord:
    """A round trip as the ledger derives it from intents and fills; open while `exit_at_ms` is None."""

    session_id: str
    trade: int
    underlying: str
    mode: str
    day: date
    contract_name: str
    trading_symbol: str
    security: str
    option_type: str
    strike_points: int
    expiry: date
    quantity: int  # bought, units
    open_quantity: int  # bought and not sold
    entry_at_ms: int
    exit_at_ms: int | None
    buy_value_paise: int
    sell_value_paise: int
    entry_reference_paise: int
    exit_reference_paise: int | None
    exit_reason: str | None
    gross_paise: int  # sell value - buy value; meaningful once closed
    charges_paise: int  # 0 until the evening has priced the orders
    net_paise: int
    why_entry: Mapping[str, Any]
    why_exit: Mapping[str, Any] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class DifferenceRecord:
    """One thing on which the ledger and the broker do not agree."""

    kind: str  # what differs: "position", "order_status", "fill_value", "unknown_order", …
    subject: str  # the order id or the security it is about
    expected: str  # what the ledger says
    found: str  # what the broker says
    detail: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class ReconciliationRecord:
    """One comparison of a session's ledger with the broker, and what it found."""

    session_id: str
    run_id: str
    at_ms: int
    state: str  # "clean" or what the reconciliation concluded
    differences: tuple[DifferenceRecord, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportedTrade:
    """A round trip that an earlier bot recorded, in units and paise."""

    source: str  # "trading-bot-v2"
    trade_id: str
    underlying: str
    mode: str  # paper or live
    day: date
    option_type: str
    strike_points: int
    expiry: date
    lot_size: int
    quantity: int
    entry_at_ms: int
    exit_at_ms: int
    buy_value_paise: int
    sell_value_paise: int
    exit_reason: str
    detail: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportedCandle:
    """A candle that an earlier bot recorded; it kept no opening, and the time is when the candle closed."""

    source: str
    underlying: str
    seconds: int
    closed_at_ms: int
    high_paise: int
    low_paise: int
    close_paise: int
    supertrend: float | None
    macd: float | None
    signal: str
