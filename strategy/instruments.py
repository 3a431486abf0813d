"""What can be traded: indices, option contracts, strikes, expiries, and how much of them.

Invariants:
1. `Lots` and `Quantity` (units) are different types; only `quantity_of` turns one into the other.
2. A security is named by segment and id together ("IDX_I:13"); ids alone repeat across segments.
3. Prices are integer paise per unit, strikes integer index points.
"""

from dataclasses import dataclass
from datetime import date
from enum import StrEnum
from typing import NewType

Lots = NewType("Lots", int)
Quantity = NewType("Quantity", int)


class Underlying(StrEnum):
    """An index whose options the bot trades."""

    NIFTY = "NIFTY"
    BANKNIFTY = "BANKNIFTY"
    FINNIFTY = "FINNIFTY"
    SENSEX = "SENSEX"


class OptionType(StrEnum):
    """Call or put."""

    CE = "CE"
    PE = "PE"


@dataclass(frozen=True, slots=True, kw_only=True)
class Index:
    """An index as the broker numbers it; `option_segment` is where its options trade."""

    underlying: Underlying
    exchange: str
    option_segment: str
    security_id: str
    derivative_underlying_id: str
    strike_step_points: int

    @property
    def security(self) -> str:
        """The index itself in the feed, e.g. "IDX_I:13"."""
        return f"IDX_I:{self.security_id}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Contract:
    """One option contract of one day's instrument master (ids are reused across days)."""

    underlying: Underlying
    expiry: date
    strike_points: int
    option_type: OptionType
    segment: str
    security_id: str
    trading_symbol: str
    lot_size: int
    tick_size_paise: int
    freeze_quantity: int  # the largest quantity of one order, units

    @property
    def security(self) -> str:
        """The contract in the feed, e.g. "NSE_FNO:47317"."""
        return f"{self.segment}:{self.security_id}"

    @property
    def name(self) -> str:
        """For people, e.g. "NIFTY 23 NOV 24500 CE"."""
        return f"{self.underlying} {self.expiry:%d %b}".upper() + f" {self.strike_points} {self.option_type}"


# The broker's own numbers (facts of 2026-04 to 2026-09 instrument masters).
INDICES: dict[Underlying, Index] = {
    Underlying.NIFTY: Index(
        underlying=Underlying.NIFTY,
        exchange="NSE",
        option_segment="NSE_FNO",
        security_id="13",
        derivative_underlying_id="26000",
        strike_step_points=50,
    ),
    Underlying.BANKNIFTY: Index(
        underlying=Underlying.BANKNIFTY,
        exchange="NSE",
        option_segment="NSE_FNO",
        security_id="25",
        derivative_underlying_id="26009",
        strike_step_points=100,
    ),
    Underlying.FINNIFTY: Index(
        underlying=Underlying.FINNIFTY,
        exchange="NSE",
        option_segment="NSE_FNO",
        security_id="27",
        derivative_underlying_id="26037",
        strike_step_points=50,
    ),
    Underlying.SENSEX: Index(
        underlying=Underlying.SENSEX,
        exchange="BSE",
        option_segment="BSE_FNO",
        security_id="51",
        derivative_underlying_id="1",
        strike_step_points=100,
    ),
}
