"""What a past day was: its hours, contracts, lot size and charges; and what its options would have been quoted at.

A day that the dated facts do not cover can be tested all the same; what was assumed instead is said in `assumed`.

Invariants:
1. Prices of a day never decide what trades on it, but for how many strikes are listed.
2. A quote depends on the index, the contract and the minute alone.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, time, timedelta
from typing import NamedTuple, Protocol, TypeVar

import numpy as np

from strategy.calendar import OutsideKnownData, TradingDay, Window, session_facts, trading_day
from strategy.charges import Rates, rates_on
from strategy.expiries import expiry_close_ms, expiry_flags
from strategy.instruments import (
    INDICES,
    Contract,
    Index,
    OptionType,
    Underlying,
    atm_strike_points,
    contract_facts,
    nearest_expiry,
)
from strategy.params import Params
from strategy.plan import DayPlan, plan_day
from strategy.premiums import AT_THE_MONEY_VOLATILITY, TICK_PAISE, quote_of
from tasks.backtest.prices import RecordedDay
from tasks.clock import ist

T = TypeVar("T")
MINUTE_MS = 60_000
# Strikes listed beyond the day's range: moneyness, the neighbours that are watched, and some air.
STRIKES_BEYOND = 16
_PAUSE_MS = 20 * MINUTE_MS


class OptionQuote(NamedTuple):
    """Last price, best bid (0: nobody bids) and best ask, paise; and whether a market said so, or a model."""

    last_paise: int
    bid_paise: int
    ask_paise: int
    recorded: bool = False


class Premiums(Protocol):
    """Where option prices come from."""

    def quote(
        self, past: "PastDay", contract: Contract, spot_paise: int, at_ms: int, *, turned: bool = False
    ) -> OptionQuote | None:
        """What the contract was quoted at; None: nobody knows. `turned`: as if bars went the other way round."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class MarketModel:
    """How options are priced and orders filled; a quote has the index of its moment and the time left of its minute."""

    volatility: float = AT_THE_MONEY_VOLATILITY
    spread: float = 1.875  # the widest that the simulated market quotes; its usual one is 1.24
    slippage_paise: int = TICK_PAISE

    def __post_init__(self) -> None:
        if not (0 < self.volatility < 5 and 0 <= self.spread < 100 and 0 <= self.slippage_paise < 100_00):
            raise ValueError(f"expected a volatility above 0, spread and slippage of at least 0, found {self}")

    def quote(
        self,
        past: "PastDay",
        contract: Contract,
        spot_paise: int,
        at_ms: int,
        *,
        turned: bool = False,  # noqa: ARG002  # the price follows the index, whichever way that goes
    ) -> OptionQuote:
        """Black-Scholes with the simulated market's smile."""
        left_ms = past.expiry_ms - at_ms // MINUTE_MS * MINUTE_MS
        is_call = contract.option_type is OptionType.CE
        return OptionQuote(
            *quote_of(spot_paise, contract.strike_points, left_ms, is_call, self.volatility, self.spread)
        )

    @property
    def words(self) -> tuple[str, ...]:
        """What it assumes, for people."""
        return (
            f"premiums by Black-Scholes with {100 * self.volatility:g} % at the money and a fixed smile, on the index",
            f"bid and ask {self.spread:g} times the simulated market's mean half-spread away from the fair price",
            "every order fills whole on the tick after its decision, at the worse of the two quotes; no re-pricing",
            f"{self.slippage_paise} paise of slippage on top, per unit and order",
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class PastDay:
    """A recorded day with all that a session must know of it."""

    recorded: RecordedDay
    index: Index
    today: TradingDay
    expiry: date
    expiry_ms: int
    lot_size: int
    freeze_quantity: int
    rates: Rates
    strike_low_points: int
    strike_high_points: int
    assumed: tuple[str, ...] = field(default=())

    @property
    def day(self) -> date:
        """The date."""
        return self.recorded.day

    @property
    def start_ms(self) -> int:
        """When its session starts: a minute before the market opens."""
        return self.today.open_ms - MINUTE_MS

    def plan(self, params: Params, *, strikes: int | None = None) -> DayPlan:
        """The day as a session with these settings sees it, with all its strikes or only the first few.

        The hours do not depend on the strikes, and many days are planned faster with one.
        """
        return plan_day(
            params,
            day=self.day,
            today=self.today,
            index=self.index,
            contracts=self._chain(strikes),
            rates=self.rates,
            at_ms=self.start_ms,
        )

    def _chain(self, strikes: int | None) -> Iterable[Contract]:
        step = self.index.strike_step_points
        for strike in range(self.strike_low_points, self.strike_high_points + 1, step)[:strikes]:
            for option_type in OptionType:
                yield Contract(
                    underlying=self.index.underlying,
                    expiry=self.expiry,
                    strike_points=strike,
                    option_type=option_type,
                    segment=self.index.option_segment,
                    security_id=f"{strike}{option_type}",
                    trading_symbol=f"{self.index.underlying}-{self.expiry:%b%Y}-{strike}-{option_type}",
                    lot_size=self.lot_size,
                    tick_size_paise=TICK_PAISE,
                    freeze_quantity=self.freeze_quantity,
                )


@dataclass(frozen=True, slots=True, kw_only=True)
class PastMarket:
    """The days of a test, oldest first, and those that only warm the indicators up before them."""

    days: tuple[PastDay, ...]
    before: tuple[PastDay, ...]
    closed: tuple[date, ...]  # recorded, but not trading days by the calendar: left out

    @property
    def assumed(self) -> tuple[str, ...]:
        """What had to be assumed about any of the days."""
        return tuple(dict.fromkeys(words for past in self.days for words in past.assumed))


def past_market(
    recorded: Sequence[RecordedDay], underlying: Underlying, *, first: date | None, last: date | None
) -> PastMarket:
    """The days from `first` through `last`. Raises ValueError where there is none."""
    index = INDICES[underlying]
    days: list[PastDay] = []
    before: list[PastDay] = []
    closed: list[date] = []
    for one in recorded:
        if last is not None and one.day > last:
            continue
        past = past_day(one, index)
        if past is None:
            closed.append(one.day)
        elif len(past.recorded.at_ms):
            (before if first is not None and one.day < first else days).append(past)
    if not days:
        known = f"{recorded[0].day} through {recorded[-1].day}" if recorded else "none"
        raise ValueError(f"expected recorded trading days from {first} through {last}, found {known}; widen the dates")
    return PastMarket(days=tuple(days), before=tuple(before), closed=tuple(closed))


def past_day(recorded: RecordedDay, index: Index) -> PastDay | None:
    """All about a recorded day; None if the calendar says that it was not a trading day."""
    assumed: list[str] = []
    try:
        today = trading_day(recorded.day)
    except OutsideKnownData:
        today = _day_of_ticks(recorded)
        assumed.append("hours of days outside the known calendar are those of the recording")
    if today is None:
        return None
    at_ms = recorded.at_ms
    inside = np.zeros(len(at_ms), dtype=bool)
    for window in today.windows:
        inside |= (at_ms >= window.open_ms) & (at_ms < window.close_ms)
    left_out = len(at_ms) - int(inside.sum())
    if left_out:
        recorded = replace(recorded.part(inside), unused=recorded.unused + left_out)
    expiry = nearest_expiry(_expiries(recorded.day, index.underlying, assumed), today, today.open_ms)
    if expiry is None:
        raise ValueError(f"no {index.underlying} expiry is known on or after {recorded.day}; add it to the facts")
    prices = recorded.spot_paise if len(recorded.spot_paise) else np.array([index.strike_step_points * 10_000])
    beyond = STRIKES_BEYOND * index.strike_step_points
    lot_size = _known(
        lambda day: contract_facts().lot_size(index.underlying, day), expiry, assumed, f"lot size of {index.underlying}"
    )
    return PastDay(
        recorded=recorded,
        index=index,
        today=today,
        expiry=expiry,
        expiry_ms=expiry_close_ms(expiry),
        lot_size=lot_size,
        freeze_quantity=_known(
            lambda day: contract_facts().freeze_quantity(index.underlying, day),
            recorded.day,
            assumed,
            "freeze quantity",
        ),
        rates=_known(lambda day: rates_on(day, index.exchange), recorded.day, assumed, "charges"),
        strike_low_points=max(index.strike_step_points, atm_strike_points(index, int(prices.min())) - beyond),
        strike_high_points=atm_strike_points(index, int(prices.max())) + beyond,
        assumed=tuple(assumed),
    )


def _expiries(day: date, underlying: Underlying, assumed: list[str]) -> list[date]:
    by_rule = sorted(expiry_flags(day, underlying))
    if by_rule:
        return by_rule
    rules = contract_facts().expiry_rules(underlying)
    oldest = min(rules, key=lambda rule: (rule.since, rule.cycle == "monthly"))
    assumed.append(f"expiries before {oldest.since} fall on the next {oldest.weekday}")
    return [day + timedelta(days=(oldest.weekday.number - day.weekday()) % 7)]


def _known(ask: Callable[[date], T], day: date, assumed: list[str], what: str) -> T:
    try:
        return ask(day)
    except OutsideKnownData:
        since = session_facts().since
        assumed.append(f"{what} before {since}: those of {since}")
        return ask(since)


def _day_of_ticks(recorded: RecordedDay) -> TradingDay:
    """The hours of a day that no calendar knows: whole minutes with ticks, split where trading paused."""
    minutes = np.unique(recorded.at_ms // MINUTE_MS) * MINUTE_MS
    edges = np.flatnonzero(np.diff(minutes) > _PAUSE_MS)
    opens = minutes[np.concatenate(([0], edges + 1))]
    closes = minutes[np.concatenate((edges, [len(minutes) - 1]))] + MINUTE_MS
    windows = tuple(
        Window(open=_time(open_ms), close=_time(close_ms), open_ms=open_ms, close_ms=close_ms)
        for open_ms, close_ms in zip(opens.tolist(), closes.tolist(), strict=True)
    )
    return TradingDay(
        day=recorded.day, name="", windows=windows, expiry_close=None, entry_latest=None, unconfirmed=("recording",)
    )


def _time(at_ms: int) -> time:
    return ist(at_ms).time()
