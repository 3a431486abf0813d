"""What trading index options costs: brokerage, taxes and fees by dated rates.

Two rules of rounding, because two are in use:
* `order_charges` prices one executed order. Each component is rounded half up to the paisa; GST is taken on
  the rounded brokerage, exchange transaction charge and SEBI fee. The ledger keeps these amounts per order.
* `day_charges` prices a day's orders on one exchange as a contract note does: each component on the day's
  turnover; securities transaction tax and stamp duty rounded half up to the rupee, the others to the paisa.
The two differ by rounding alone: half a rupee for each of the two rupee roundings, and at most three paise
for each order and three for the day.

Invariants:
1. No component is negative, so net P&L never exceeds gross.
2. An order that executed nothing costs nothing.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import date
from fractions import Fraction
from functools import cache
from typing import Any

from strategy.events import Side
from strategy.facts import (
    OPERATOR,
    OutsideKnownData,
    Row,
    doubts,
    in_force,
    overlay,
    packaged,
    parse,
    read_rows,
)

PAISE_PER_RUPEE = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Charges:
    """Costs in paise, none negative."""

    brokerage_paise: int = 0
    stt_paise: int = 0
    exchange_paise: int = 0
    sebi_paise: int = 0
    stamp_paise: int = 0
    gst_paise: int = 0

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

    def __add__(self, other: "Charges") -> "Charges":
        return Charges(
            brokerage_paise=self.brokerage_paise + other.brokerage_paise,
            stt_paise=self.stt_paise + other.stt_paise,
            exchange_paise=self.exchange_paise + other.exchange_paise,
            sebi_paise=self.sebi_paise + other.sebi_paise,
            stamp_paise=self.stamp_paise + other.stamp_paise,
            gst_paise=self.gst_paise + other.gst_paise,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Rates:
    """The rates of one day on one exchange, as exact fractions of the premium turnover."""

    exchange: str
    since: date  # the day from which exactly these rates hold
    brokerage_paise_per_order: int
    stt_on_sell: Fraction
    exchange_on_both: Fraction
    sebi_on_both: Fraction
    stamp_on_buy: Fraction
    gst: Fraction  # of brokerage + exchange transaction charge + SEBI fee
    unconfirmed: tuple[str, ...]

    @property
    def version(self) -> str:
        """Names the rates in the ledger, e.g. "NSE 2026-04-01"."""
        return f"{self.exchange} {self.since}"


def order_charges(side: Side, value_paise: int, rates: Rates) -> Charges:
    """What one executed order costs; `value_paise` is the sum of its fills (quantity x price)."""
    if value_paise < 0:
        raise ValueError(f"expected the value of an order's fills, at least 0 paise, found {value_paise}")
    if value_paise == 0:
        return Charges()
    brokerage = rates.brokerage_paise_per_order
    exchange = _half_up(value_paise * rates.exchange_on_both)
    sebi = _half_up(value_paise * rates.sebi_on_both)
    return Charges(
        brokerage_paise=brokerage,
        stt_paise=_half_up(value_paise * rates.stt_on_sell) if side is Side.SELL else 0,
        exchange_paise=exchange,
        sebi_paise=sebi,
        stamp_paise=_half_up(value_paise * rates.stamp_on_buy) if side is Side.BUY else 0,
        gst_paise=_half_up((brokerage + exchange + sebi) * rates.gst),
    )


def day_charges(orders: Iterable[tuple[Side, int]], rates: Rates) -> Charges:
    """What a day's executed orders (side, value in paise) cost together, rounded as on a contract note."""
    executed = [(side, value_paise) for side, value_paise in orders if value_paise]
    if any(value_paise < 0 for _, value_paise in executed):
        raise ValueError(f"expected the values of orders' fills, at least 0 paise, found {executed}")
    bought = sum(value_paise for side, value_paise in executed if side is Side.BUY)
    sold = sum(value_paise for side, value_paise in executed if side is Side.SELL)
    brokerage = rates.brokerage_paise_per_order * len(executed)
    exchange = _half_up((bought + sold) * rates.exchange_on_both)
    sebi = _half_up((bought + sold) * rates.sebi_on_both)
    return Charges(
        brokerage_paise=brokerage,
        stt_paise=_half_up(sold * rates.stt_on_sell / PAISE_PER_RUPEE) * PAISE_PER_RUPEE,
        exchange_paise=exchange,
        sebi_paise=sebi,
        stamp_paise=_half_up(bought * rates.stamp_on_buy / PAISE_PER_RUPEE) * PAISE_PER_RUPEE,
        gst_paise=_half_up((brokerage + exchange + sebi) * rates.gst),
    )


COMPONENTS = tuple(column.name for column in fields(Charges))


@dataclass(frozen=True, slots=True, kw_only=True)
class Billed:
    """One component of a day's charges: by the dated rates, and as the broker's statement has it."""

    component: str  # "stt_paise"
    ours_paise: int  # the sum over the orders
    billed_paise: Fraction
    agrees: bool


def compare_with_statement(ours: Iterable[Charges], rows: Sequence[Mapping[str, Fraction]]) -> tuple[Billed, ...]:
    """A day's priced orders beside the rows (one per fill, by component, in paise) of the broker's statement.

    How the statement rounds is not documented, so each component may be off by what rounding can do: a paisa for
    each order and row, half a rupee more per row for the two that a contract note rounds to the rupee, and for GST
    the part on the SEBI fee, which Dhan's own calculator leaves out. A wrong rate moves a day's sum further.
    """
    orders = tuple(ours)
    total = sum(orders, Charges())
    slack = len([order for order in orders if order.total_paise]) + len(rows)
    found = []
    for component in COMPONENTS:
        billed = sum((row[component] for row in rows), Fraction(0))
        amount = getattr(total, component)
        allowed = Fraction(slack)
        if component in {"stt_paise", "stamp_paise"}:
            allowed += Fraction(PAISE_PER_RUPEE * len(rows), 2)
        if component == "gst_paise":
            allowed += Fraction(total.sebi_paise, 5)
        if component == "brokerage_paise":
            allowed = Fraction(0)
        found.append(
            Billed(
                component=component,
                ours_paise=amount,
                billed_paise=billed,
                agrees=abs(billed - amount) <= allowed,
            )
        )
    return tuple(found)


def split_over_fills(charges: Charges, values_paise: Sequence[int]) -> tuple[Charges, ...]:
    """One order's charges divided among its fills (their values in paise) in proportion, adding up to the paisa."""
    total = sum(values_paise)
    if total <= 0 or min(values_paise) < 0:
        raise ValueError(f"expected the values of an order's fills, found {list(values_paise)}")
    shares: list[dict[str, int]] = [{} for _ in values_paise]
    for component in COMPONENTS:
        amount, before, given = getattr(charges, component), 0, 0
        for share, value in zip(shares, values_paise, strict=True):
            before += value
            until_here = _half_up(Fraction(amount * before, total))
            share[component], given = until_here - given, until_here
    return tuple(Charges(**share) for share in shares)


def _half_up(amount: Fraction) -> int:
    # Amounts are never negative, so floor(x + 1/2) rounds halves away from zero.
    return (2 * amount.numerator + amount.denominator) // (2 * amount.denominator)


@dataclass(frozen=True, slots=True, kw_only=True)
class RateRow(Row):
    """One rate from a day on; the key of its number tells what it is taken of."""

    since: date


@dataclass(frozen=True, slots=True, kw_only=True)
class BrokerageRow(RateRow):
    """A flat amount for each executed order."""

    paise_per_order: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SellRow(RateRow):
    """Of the premium of sells."""

    sell_percent: Fraction


@dataclass(frozen=True, slots=True, kw_only=True)
class BuyRow(RateRow):
    """Of the premium of buys."""

    buy_percent: Fraction


@dataclass(frozen=True, slots=True, kw_only=True)
class PercentRow(RateRow):
    """Of the premium of both sides (GST: of the charges it is put on)."""

    percent: Fraction


@dataclass(frozen=True, slots=True, kw_only=True)
class ExchangeRow(PercentRow):
    """Of the premium of both sides, by exchange."""

    exchange: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ChargeFacts:
    """All rates there were."""

    brokerage: tuple[BrokerageRow, ...]
    stt: tuple[SellRow, ...]
    exchange_transaction: tuple[ExchangeRow, ...]
    sebi: tuple[PercentRow, ...]
    stamp: tuple[BuyRow, ...]
    gst: tuple[PercentRow, ...]


def rates_on(day: date, exchange: str, facts: ChargeFacts | None = None) -> Rates:
    """The rates in force on `day` at NSE or BSE. Raises OutsideKnownData before the first known rates."""
    facts = facts or charge_facts()
    brokerage = in_force(facts.brokerage, day)
    stt = in_force(facts.stt, day)
    transaction = in_force([row for row in facts.exchange_transaction if row.exchange == exchange], day)
    sebi = in_force(facts.sebi, day)
    stamp = in_force(facts.stamp, day)
    gst = in_force(facts.gst, day)
    if not (brokerage and stt and transaction and sebi and stamp and gst):
        raise OutsideKnownData(
            f"not all charges of {exchange} are known on {day}; add rows to the operator's facts file"
        )
    rows = (brokerage, stt, transaction, sebi, stamp, gst)
    return Rates(
        exchange=exchange,
        since=max(row.since for row in rows),
        brokerage_paise_per_order=brokerage.paise_per_order,
        stt_on_sell=stt.sell_percent / 100,
        exchange_on_both=transaction.percent / 100,
        sebi_on_both=sebi.percent / 100,
        stamp_on_buy=stamp.buy_percent / 100,
        gst=gst.percent / 100,
        unconfirmed=doubts(*rows),
    )


@cache
def charge_facts(operator_toml: str = "") -> ChargeFacts:
    """The packaged rates under an operator's own rows (the text of a TOML file in the same form)."""
    base = _read(packaged("charges.toml"), "charges.toml")
    over = _read(operator_toml, OPERATOR)
    return ChargeFacts(
        brokerage=overlay(base.brokerage, over.brokerage, key=lambda row: row.since),
        stt=overlay(base.stt, over.stt, key=lambda row: row.since),
        exchange_transaction=overlay(
            base.exchange_transaction, over.exchange_transaction, key=lambda row: (row.exchange, row.since)
        ),
        sebi=overlay(base.sebi, over.sebi, key=lambda row: row.since),
        stamp=overlay(base.stamp, over.stamp, key=lambda row: row.since),
        gst=overlay(base.gst, over.gst, key=lambda row: row.since),
    )


def _read(text: str, where: str) -> ChargeFacts:
    document = parse(text, where)
    percent: Mapping[str, Any] = dict.fromkeys(("percent", "sell_percent", "buy_percent"), _percent)
    return ChargeFacts(
        brokerage=read_rows(document, "brokerage", BrokerageRow, where, {"paise_per_order": _paise}),
        stt=read_rows(document, "stt", SellRow, where, percent),
        exchange_transaction=read_rows(document, "exchange_transaction", ExchangeRow, where, percent),
        sebi=read_rows(document, "sebi", PercentRow, where, percent),
        stamp=read_rows(document, "stamp", BuyRow, where, percent),
        gst=read_rows(document, "gst", PercentRow, where, percent),
    )


def _percent(found: Any) -> Fraction:
    if not isinstance(found, str):
        raise TypeError('write it as text, "0.15", so that it stays exact')
    percent = Fraction(found)
    if not 0 <= percent <= 100:
        raise ValueError("expected a percentage from 0 to 100")
    return percent


def _paise(found: Any) -> int:
    if type(found) is not int or found < 0:
        raise ValueError("expected whole paise, at least 0")
    return found
