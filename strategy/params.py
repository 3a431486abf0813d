"""The settings of a session: one model, which is also the form an operator fills in.

Invariants:
1. A `Params` that exists is free of contradictions; otherwise one error lists every fault.
2. It never changes while a session runs.
3. The form speaks rupees and seconds; the code reads integer paise and milliseconds from the properties.
"""

from collections.abc import Iterable, Mapping
from datetime import time
from difflib import get_close_matches
from enum import StrEnum
from functools import cached_property
from typing import Annotated, Any, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ModelWrapValidatorHandler,
    ValidationError,
    WithJsonSchema,
    model_validator,
)

from strategy.contradictions import contradictions
from strategy.indicators import Macd, SuperTrend
from strategy.instruments import Lots, Underlying


class Mode(StrEnum):
    """Where market data and orders come from and go to; fixed for the whole run."""

    REHEARSAL = "rehearsal"
    PAPER = "paper"
    LIVE = "live"


class Product(StrEnum):
    """The broker's product type of every order."""

    MARGIN = "MARGIN"
    INTRADAY = "INTRADAY"


class UnknownPositionPolicy(StrEnum):
    """What to do at the start about a position of ours that the ledger does not know."""

    HALT = "halt"
    ADOPT = "adopt"
    FLATTEN = "flatten"


class SignalPolicy(StrEnum):
    """What a session does about its position when its process is told to end (SIGTERM, a cancelled run)."""

    SQUAREOFF = "squareoff"
    HAND_OVER = "hand_over"


# A form that is told of JSON schema's "time" wants an offset from UTC and refuses 09:25.
TimeOfDay = Annotated[
    time, WithJsonSchema({"type": "string", "pattern": r"^([01][0-9]|2[0-3]):[0-5][0-9](:[0-5][0-9])?$"})
]

# Units that are the choice itself, and say nothing beside the label.
_WORDS = ("index", "mode", "product", "policy", "on/off")


def _setting(default: Any, title: str, unit: str, description: str, **bounds: Any) -> Any:
    """A field of the form: its label there says the unit, its description the bounds."""
    label = title if unit in _WORDS or unit in title.lower() else f"{title} ({unit})"
    if bounds:
        least = f"more than {bounds['gt']:,}" if "gt" in bounds else f"{bounds['ge']:,}"
        description = f"{description} Allowed: {least} to {round(bounds['le']):,}."
    shown: dict[str, Any] = {"unit": unit, "title": label}
    return Field(default=default, title=title, description=description, json_schema_extra=shown, **bounds)


class Params(BaseModel):
    """What the trader chooses. 0 switches an optional limit off."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        allow_inf_nan=False,
        validate_default=True,
        ignored_types=(cached_property,),
    )

    # What to trade
    index: Underlying = _setting(
        Underlying.NIFTY,
        "Index",
        "index",
        "Options of this index are bought: NIFTY, BANKNIFTY, FINNIFTY, SENSEX.",
    )
    mode: Mode = _setting(
        Mode.REHEARSAL,
        "Mode",
        "mode",
        "rehearsal: simulated market. paper: real prices, simulated orders. live: real money.",
    )
    product: Product = _setting(
        Product.MARGIN,
        "Product",
        "product",
        "MARGIN is closed by the bot, INTRADAY also by the broker: squareoff_at must be 15:10 or earlier.",
    )

    # Signals
    candle_seconds: int = _setting(
        5, "Candle", "seconds", "Length of a candle: 5, 15, 30, 60, 300 or 900.", ge=5, le=900
    )
    supertrend_period: int = _setting(
        7, "SuperTrend period", "candles", "Candles in the average true range.", ge=1, le=200
    )
    supertrend_multiplier: float = _setting(
        4.0, "SuperTrend multiplier", "x ATR", "Distance of the bands from the middle.", gt=0, le=50
    )
    macd_confirmation: bool = _setting(
        True, "MACD confirmation", "on/off", "Enter only when the MACD line is on the signal's side."
    )
    macd_fast: int = _setting(12, "MACD fast", "candles", "Fast average; shorter than the slow one.", ge=1, le=500)
    macd_slow: int = _setting(26, "MACD slow", "candles", "Slow average.", ge=2, le=1000)
    macd_signal: int = _setting(9, "MACD signal", "candles", "Average of the MACD line.", ge=1, le=500)
    htf_filter: bool = _setting(
        True, "Higher timeframe", "on/off", "Enter only along the SuperTrend of the higher timeframe."
    )
    htf_seconds: int = _setting(
        60,
        "Higher timeframe candle",
        "seconds",
        "A multiple of the candle and longer than it.",
        ge=10,
        le=7200,
    )
    flip_only: bool = _setting(
        True, "Flip only", "on/off", "Enter only on the candle on which SuperTrend changes direction."
    )

    # Size
    lots: int = _setting(1, "Lots", "lots", "Lots per entry, before risk sizing.", ge=1, le=500)
    risk_per_trade: float = _setting(
        0.0,
        "Risk per trade",
        "rupees",
        "Buy fewer lots so that the stop costs at most this; 0 = off.",
        ge=0,
        le=1e8,
    )
    moneyness: int = _setting(
        0,
        "Moneyness",
        "strikes",
        "Strikes away from at-the-money; +1 is one out of the money.",
        ge=-10,
        le=10,
    )

    # Limits of the day
    max_trades_per_day: int = _setting(
        5, "Trades per day", "trades", "Entries that filled, even partly, count.", ge=1, le=1000
    )
    daily_max_loss: float = _setting(
        2000.0,
        "Daily loss limit",
        "rupees",
        "At this gross loss of the day everything is closed and trading ends; 0 = off (not in live mode).",
        ge=0,
        le=1e8,
    )
    max_loss_per_trade: float = _setting(
        0.0, "Loss limit per trade", "rupees", "Close a trade at this loss; 0 = off.", ge=0, le=1e8
    )

    # Exits
    stop_loss_points: float = _setting(
        50.0,
        "Stop loss",
        "rupees of premium",
        "Initial stop below the entry price; 0 = off.",
        ge=0,
        le=10_000,
    )
    target_points: float = _setting(
        0.0, "Target", "rupees of premium", "Close at this profit per unit; 0 = off.", ge=0, le=10_000
    )
    trail_start_points: float = _setting(
        0.0,
        "Trailing start",
        "rupees of premium",
        "Profit at which the stop begins to follow; 0 = off.",
        ge=0,
        le=10_000,
    )
    trail_step_points: float = _setting(
        0.0,
        "Trailing step",
        "rupees of premium",
        "The stop follows in steps of this; 0 = off.",
        ge=0,
        le=10_000,
    )
    min_hold_seconds: int = _setting(
        15,
        "Minimum hold",
        "seconds",
        "A reversal exit waits this long after entry; risk exits never do.",
        ge=0,
        le=7200,
    )

    # Pace
    order_cooldown_seconds: int = _setting(
        15, "Order cooldown", "seconds", "Entries wait this long after any order.", ge=0, le=7200
    )
    min_trade_gap_seconds: int = _setting(
        0,
        "Gap between trades",
        "seconds",
        "Entries wait this long after the previous entry.",
        ge=0,
        le=21_600,
    )

    # Hours
    entry_start: TimeOfDay = _setting(time(9, 25), "Entries from", "IST", "No entry before this time, as hh:mm.")
    entry_cutoff: TimeOfDay = _setting(time(15, 10), "Entries until", "IST", "No entry from this time on, as hh:mm.")
    squareoff_at: TimeOfDay = _setting(
        time(15, 25), "Squareoff", "IST", "Everything is closed from this time (hh:mm) on."
    )
    entries_enabled: bool = _setting(
        True, "Entries enabled", "on/off", "Off: indicators and exits run, nothing new is bought."
    )
    bypass_market_hours: bool = _setting(
        False,
        "Ignore market hours",
        "on/off",
        "Lifts every hour and calendar gate, squareoff included. Not in live mode.",
    )

    # Orders
    order_timeout_seconds: int = _setting(
        3, "Order timeout", "seconds", "An order that is not filled by then is re-priced.", ge=1, le=300
    )
    reprice_attempts: int = _setting(
        3,
        "Re-pricings",
        "times",
        "After so many an entry is cancelled; an exit goes on until flat.",
        ge=0,
        le=20,
    )
    price_buffer_percent: float = _setting(
        2.0, "Price buffer", "percent", "Limits are this far beyond the bid or ask.", ge=0, le=20
    )
    price_buffer_min_points: float = _setting(
        0.5,
        "Smallest price buffer",
        "rupees of premium",
        "The buffer is never smaller than this.",
        ge=0,
        le=100,
    )

    # Feed
    stale_after_seconds: int = _setting(
        10,
        "Staleness limit",
        "seconds",
        "Without an index tick for this long, no entries; one alert.",
        ge=2,
        le=300,
    )
    candle_grace_seconds: float = _setting(
        1.0,
        "Candle grace",
        "seconds",
        "A candle closes this long after its end if no tick closed it.",
        ge=0,
        le=4,
    )

    # Protections
    pause_after_losses: int = _setting(
        0,
        "Pause after losses",
        "trades",
        "So many losing trades in a row pause entries; 0 = off.",
        ge=0,
        le=100,
    )
    pause_minutes: int = _setting(
        0, "Pause", "minutes", "How long entries pause after the last of them; 0 = off.", ge=0, le=360
    )
    stop_losses_per_day: int = _setting(
        0,
        "Stop losses per day",
        "trades",
        "So many stop-loss exits end trading for the day; 0 = off.",
        ge=0,
        le=100,
    )
    profit_lock_from: float = _setting(
        0.0,
        "Profit lock from",
        "rupees",
        "Once the day's realised net profit reached this, it is protected; 0 = off.",
        ge=0,
        le=1e8,
    )
    profit_lock_percent: float = _setting(
        0.0,
        "Profit lock",
        "percent",
        "Fall from the day's best profit that ends trading; 0 = off.",
        ge=0,
        le=100,
    )
    max_spread_percent: float = _setting(
        0.0,
        "Widest spread",
        "percent",
        "No entry when ask - bid is more than this of their middle; 0 = off.",
        ge=0,
        le=100,
    )
    on_unknown_position: UnknownPositionPolicy = _setting(
        UnknownPositionPolicy.HALT,
        "Unknown position",
        "policy",
        "What to do at the start with a position the ledger does not know: halt, adopt or flatten.",
    )

    on_signal: SignalPolicy = _setting(
        SignalPolicy.SQUAREOFF,
        "When told to end",
        "policy",
        "What a session does when its process is told to end: squareoff closes, hand_over leaves it to the next start.",
    )

    # After the close; no rule reads it
    paper_twin: bool = _setting(
        True,
        "Paper twin",
        "on/off",
        "In the evening the same decisions are filled as on paper, to say what execution cost. Not in paper mode.",
    )

    @model_validator(mode="wrap")
    @classmethod
    def _list_every_fault(cls, given: Any, build: ModelWrapValidatorHandler[Self]) -> Self:
        if not isinstance(given, Mapping):
            return build(given)
        faulty: dict[str, str] = {}
        try:
            params = build(given)
        except ValidationError as error:
            for fault in error.errors():
                name = ".".join(str(part) for part in fault["loc"])
                if fault["type"] == "extra_forbidden":
                    faulty[name] = f"unknown setting {name!r}{_did_you_mean(name, cls.model_fields)}"
                else:
                    faulty[name] = f"{name}: {fault['msg'][0].lower()}{fault['msg'][1:]}, found {fault['input']!r}"
            # The rest is judged as well, with the faulty settings at their defaults and out of the question.
            params = build({name: value for name, value in given.items() if name not in faulty})
        faults = [*faulty.values(), *contradictions(params, leaving_out=faulty.keys())]
        if faults:
            count = "1 fault" if len(faults) == 1 else f"{len(faults)} faults"
            raise ValueError(f"{count} in the settings:\n" + "\n".join(f"  - {fault}" for fault in faults))
        return params

    @cached_property
    def lots_max(self) -> Lots:
        """Lots per entry, before risk sizing."""
        return Lots(self.lots)

    @cached_property
    def supertrend(self) -> SuperTrend:
        """The SuperTrend rule of both timeframes."""
        return SuperTrend(self.supertrend_period, self.supertrend_multiplier)

    @cached_property
    def macd(self) -> Macd:
        """The MACD rule of the base timeframe."""
        return Macd(self.macd_fast, self.macd_slow, self.macd_signal)

    @cached_property
    def risk_per_trade_paise(self) -> int:
        """Rupees of the form in paise, like the next ones."""
        return _paise(self.risk_per_trade)

    @cached_property
    def daily_max_loss_paise(self) -> int:
        """0 = off."""
        return _paise(self.daily_max_loss)

    @cached_property
    def max_loss_per_trade_paise(self) -> int:
        """0 = off."""
        return _paise(self.max_loss_per_trade)

    @cached_property
    def stop_loss_paise(self) -> int:
        """Per unit; 0 = off."""
        return _paise(self.stop_loss_points)

    @cached_property
    def target_paise(self) -> int:
        """Per unit; 0 = off."""
        return _paise(self.target_points)

    @cached_property
    def trail_start_paise(self) -> int:
        """Per unit; 0 = off."""
        return _paise(self.trail_start_points)

    @cached_property
    def trail_step_paise(self) -> int:
        """Per unit; 0 = off."""
        return _paise(self.trail_step_points)

    @cached_property
    def price_buffer_min_paise(self) -> int:
        """Per unit."""
        return _paise(self.price_buffer_min_points)

    @cached_property
    def profit_lock_from_paise(self) -> int:
        """0 = off."""
        return _paise(self.profit_lock_from)

    @cached_property
    def stale_after_ms(self) -> int:
        """The staleness limit."""
        return self.stale_after_seconds * 1000

    @cached_property
    def candle_grace_ms(self) -> int:
        """How long after its end a candle waits for the tick that closes it."""
        return round(self.candle_grace_seconds * 1000)


def _did_you_mean(name: str, known: Iterable[str]) -> str:
    close = get_close_matches(name, known, n=1)
    return f"; did you mean {close[0]!r}?" if close else ""


def _paise(rupees: float) -> int:
    return round(rupees * 100)
