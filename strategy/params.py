"""The settings of a session: one model, which is also the form an operator fills in.

Invariants:
1. A `Params` that exists is free of contradictions; otherwise one error lists every fault.
2. It never changes while a session runs.
3. The form speaks rupees and seconds; the code reads integer paise and milliseconds from the properties.
"""

import math
from collections.abc import Callable, Mapping
from datetime import time
from difflib import get_close_matches
from enum import StrEnum
from functools import cached_property
from typing import Any, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ModelWrapValidatorHandler,
    ValidationError,
    model_validator,
)

from strategy.indicators import Macd, SuperTrend
from strategy.instruments import Lots, Underlying

CANDLE_SECONDS = (5, 15, 30, 60, 300, 900)
# The broker squares INTRADAY positions off itself some time after this.
INTRADAY_SQUAREOFF_LATEST = time(15, 10)


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


def _setting(default: Any, title: str, unit: str, description: str, **bounds: Any) -> Any:
    return Field(default=default, title=title, description=description, json_schema_extra={"unit": unit}, **bounds)


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
    entry_start: time = _setting(time(9, 25), "Entries from", "IST", "No entry before this time.")
    entry_cutoff: time = _setting(time(15, 10), "Entries until", "IST", "No entry from this time on.")
    squareoff_at: time = _setting(time(15, 25), "Squareoff", "IST", "Everything is closed from this time on.")
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
        5, "Order timeout", "seconds", "An order that is not filled by then is re-priced.", ge=1, le=300
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
        0.5, "Price buffer", "percent", "Limits are this far beyond the bid or ask.", ge=0, le=20
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
                    faulty[name] = f"unknown setting {name!r}{_did_you_mean(name)}"
                else:
                    faulty[name] = f"{name}: {fault['msg'][0].lower()}{fault['msg'][1:]}, found {fault['input']!r}"
            # The rest is judged as well, with the faulty settings at their defaults and out of the question.
            params = build({name: value for name, value in given.items() if name not in faulty})
        faults = [*faulty.values()]
        faults += [
            message
            for names, contradicts, message in _CONTRADICTIONS
            if faulty.keys().isdisjoint(names) and contradicts(params)
        ]
        faults += [
            f"{name}: {value} is finer than a paisa (0.01)"
            for name in _RUPEES
            if name not in faulty and not _is_whole_paise(value := getattr(params, name))
        ]
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


_RUPEES = (
    "risk_per_trade",
    "daily_max_loss",
    "max_loss_per_trade",
    "stop_loss_points",
    "target_points",
    "trail_start_points",
    "trail_step_points",
    "price_buffer_min_points",
    "profit_lock_from",
)
_HOURS = ("entry_start", "entry_cutoff", "squareoff_at")

# (settings in question, whether they contradict each other, what to say about it)
_CONTRADICTIONS: tuple[tuple[tuple[str, ...], Callable[[Params], bool], str], ...] = (
    (
        ("candle_seconds",),
        lambda p: p.candle_seconds not in CANDLE_SECONDS,
        f"candle_seconds must be one of {', '.join(map(str, CANDLE_SECONDS))}",
    ),
    (
        ("htf_filter", "htf_seconds", "candle_seconds"),
        lambda p: p.htf_filter and (p.htf_seconds <= p.candle_seconds or p.htf_seconds % p.candle_seconds != 0),
        "htf_seconds must be a multiple of candle_seconds and larger; or switch htf_filter off",
    ),
    (
        ("macd_fast", "macd_slow"),
        lambda p: p.macd_fast >= p.macd_slow,
        "macd_fast must be smaller than macd_slow",
    ),
    (
        ("trail_start_points", "trail_step_points"),
        lambda p: (p.trail_start_points > 0) != (p.trail_step_points > 0),
        "trail_start_points and trail_step_points go together: set both or neither",
    ),
    (
        ("pause_after_losses", "pause_minutes"),
        lambda p: (p.pause_after_losses > 0) != (p.pause_minutes > 0),
        "pause_after_losses and pause_minutes go together: set both or neither",
    ),
    (
        ("profit_lock_from", "profit_lock_percent"),
        lambda p: (p.profit_lock_from > 0) != (p.profit_lock_percent > 0),
        "profit_lock_from and profit_lock_percent go together: set both or neither",
    ),
    (
        ("risk_per_trade", "stop_loss_points"),
        lambda p: p.risk_per_trade > 0 and p.stop_loss_points == 0,
        "risk_per_trade needs a stop to measure the risk by: set stop_loss_points",
    ),
    (
        _HOURS,
        lambda p: any(getattr(p, name).tzinfo is not None for name in _HOURS),
        "entry_start, entry_cutoff and squareoff_at are times in India: write them like 09:25, without an offset",
    ),
    (
        ("entry_start", "entry_cutoff"),
        lambda p: p.entry_start.replace(tzinfo=None) >= p.entry_cutoff.replace(tzinfo=None),
        "entry_start must be before entry_cutoff",
    ),
    (
        ("entry_cutoff", "squareoff_at"),
        lambda p: p.entry_cutoff.replace(tzinfo=None) >= p.squareoff_at.replace(tzinfo=None),
        "entry_cutoff must be before squareoff_at",
    ),
    (
        ("product", "squareoff_at"),
        lambda p: p.product is Product.INTRADAY and p.squareoff_at.replace(tzinfo=None) > INTRADAY_SQUAREOFF_LATEST,
        "product INTRADAY needs squareoff_at at 15:10 or earlier: the broker closes it itself before 15:25",
    ),
    (
        ("mode", "daily_max_loss"),
        lambda p: p.mode is Mode.LIVE and p.daily_max_loss == 0,
        "mode live needs a daily_max_loss above 0",
    ),
    (
        ("mode", "bypass_market_hours"),
        lambda p: p.mode is Mode.LIVE and p.bypass_market_hours,
        "bypass_market_hours is not possible in mode live",
    ),
)


def _did_you_mean(name: str) -> str:
    close = get_close_matches(name, Params.model_fields, n=1)
    return f"; did you mean {close[0]!r}?" if close else ""


def _paise(rupees: float) -> int:
    return round(rupees * 100)


def _is_whole_paise(rupees: float) -> bool:
    return math.isclose(rupees * 100, round(rupees * 100), abs_tol=1e-6)
