"""What can be traded: indices, option contracts, strikes, expiries, and how much of them.

Invariants:
1. `Lots` and `Quantity` (units) are different types; only `quantity_of` turns one into the other.
2. A security is named by segment and id together ("IDX_I:13"); ids alone repeat across segments.
3. Prices are integer paise per unit, strikes integer index points.
4. Orders follow the day's instrument master. The dated facts (lots, freeze quantities, expiry weekdays) check
   it and feed the simulated market.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date
from enum import StrEnum
from functools import cache
from typing import NewType

from strategy.calendar import TradingDay
from strategy.facts import (
    OPERATOR,
    FactsInvalid,
    OutsideKnownData,
    Row,
    in_force,
    overlay,
    packaged,
    parse,
    read_rows,
)

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


# Not strftime's, which speak the machine's language and take longer.
_MONTHS = ("JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC")


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
        day = f"{self.expiry.day:02} {_MONTHS[self.expiry.month - 1]}"
        return f"{self.underlying} {day} {self.strike_points} {self.option_type}"


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


def quantity_of(lots: Lots, lot_size: int) -> Quantity:
    """Units of so many lots."""
    if lots < 0 or lot_size < 1:
        raise ValueError(f"expected lots >= 0 and a lot size >= 1, found {lots} lots of {lot_size}")
    return Quantity(lots * lot_size)


def atm_strike_points(index: Index, spot_paise: int) -> int:
    """The listed strike nearest to the index; exactly between two, the higher one."""
    step_paise = index.strike_step_points * 100
    return (spot_paise + step_paise // 2) // step_paise * index.strike_step_points


def strike_for(index: Index, spot_paise: int, moneyness: int, option_type: OptionType) -> int:
    """The strike `moneyness` steps out of the money (negative: in the money), counted from at-the-money.

    Out of the money is up for a call and down for a put.
    """
    away = moneyness if option_type is OptionType.CE else -moneyness
    return atm_strike_points(index, spot_paise) + away * index.strike_step_points


def nearest_expiry(expiries: Iterable[date], today: TradingDay, at_ms: int) -> date | None:
    """The first of the broker's expiries whose contracts still trade at or after that moment of `today`.

    A contract that expires today counts until its own close, which may be before the market's.
    None: no expiry is left.
    """
    return min(
        (
            expiry
            for expiry in expiries
            if expiry > today.day or (expiry == today.day and at_ms < today.close_ms_of(expiry))
        ),
        default=None,
    )


class Cycle(StrEnum):
    """How often contracts expire; a monthly one falls on the month's last such weekday."""

    WEEKLY = "weekly"
    MONTHLY = "monthly"


class Weekday(StrEnum):
    """By name, as circulars say it."""

    MONDAY = "Monday"
    TUESDAY = "Tuesday"
    WEDNESDAY = "Wednesday"
    THURSDAY = "Thursday"
    FRIDAY = "Friday"

    @property
    def number(self) -> int:
        """As `date.weekday()` counts: Monday is 0."""
        return list(Weekday).index(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class LotRow(Row):
    """Units in a lot of contracts that expire on `expiring_since` or later."""

    underlying: Underlying
    expiring_since: date
    lot_size: int

    @property
    def since(self) -> date:
        """The first expiry."""
        return self.expiring_since


@dataclass(frozen=True, slots=True, kw_only=True)
class FreezeRow(Row):
    """The largest quantity of one order, from a trading day on."""

    underlying: Underlying
    since: date
    quantity: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpiryRule(Row):
    """On which weekday contracts of a cycle expire; a holiday moves an expiry to the trading day before.

    `since` and `through` are expiries.
    """

    underlying: Underlying
    cycle: Cycle
    weekday: Weekday
    since: date
    through: date = date.max

    def covers(self, expiry: date) -> bool:
        """Whether a contract of this expiry follows the rule."""
        return self.since <= expiry <= self.through


@dataclass(frozen=True, slots=True, kw_only=True)
class ContractFacts:
    """Dated facts about contracts."""

    lots: tuple[LotRow, ...]
    freezes: tuple[FreezeRow, ...]
    expiries: tuple[ExpiryRule, ...]

    def lot_size(self, underlying: Underlying, expiry: date) -> int:
        """Units in a lot of the contracts of that expiry. Raises OutsideKnownData before the first row."""
        return self.lot_row(underlying, expiry).lot_size

    def lot_row(self, underlying: Underlying, expiry: date) -> LotRow:
        """The same with its source."""
        row = in_force([row for row in self.lots if row.underlying is underlying], expiry)
        if row is None:
            raise OutsideKnownData(f"no lot size is known for {underlying} contracts that expire on {expiry}")
        return row

    def freeze_quantity(self, underlying: Underlying, day: date) -> Quantity:
        """The largest quantity of one order on that day. Raises OutsideKnownData before the first row."""
        row = in_force([row for row in self.freezes if row.underlying is underlying], day)
        if row is None:
            raise OutsideKnownData(f"no freeze quantity is known for {underlying} on {day}")
        return Quantity(row.quantity)

    def expiry_rules(self, underlying: Underlying) -> tuple[ExpiryRule, ...]:
        """All rules there were, in no particular order; `covers` says which holds for an expiry."""
        return tuple(rule for rule in self.expiries if rule.underlying is underlying)


@cache
def contract_facts(operator_toml: str = "") -> ContractFacts:
    """The packaged facts under an operator's own rows (the text of a TOML file in the same form)."""
    base = _read_contracts(packaged("contracts.toml"), "contracts.toml")
    over = _read_contracts(operator_toml, OPERATOR)
    return ContractFacts(
        lots=overlay(base.lots, over.lots, key=lambda row: (row.underlying, row.since)),
        freezes=overlay(base.freezes, over.freezes, key=lambda row: (row.underlying, row.since)),
        expiries=overlay(base.expiries, over.expiries, key=lambda row: (row.underlying, row.cycle, row.since)),
    )


def _read_contracts(text: str, where: str) -> ContractFacts:
    document = parse(text, where)
    named = {"underlying": Underlying}
    facts = ContractFacts(
        lots=read_rows(document, "lot", LotRow, where, named),
        freezes=read_rows(document, "freeze", FreezeRow, where, named),
        expiries=read_rows(document, "expiry", ExpiryRule, where, named | {"cycle": Cycle, "weekday": Weekday}),
    )
    for number, units in [(row.lot_size, row) for row in facts.lots] + [(row.quantity, row) for row in facts.freezes]:
        if number < 1:
            raise FactsInvalid(f"{where}: units must be at least 1, found {units}")
    return facts
