"""The day's contracts: which expiries and strikes trade, under which ids, in which lots and price bands.

Invariants:
1. The listing of a day is a function of the day, of yesterday's closes and of the operator's facts alone.
2. Security ids are unique within a segment and are reused from day to day for other contracts, as the broker's are.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date, time
from itertools import count

from simulator.packets import SEGMENT_CODES
from simulator.sessions import moment_ms
from strategy.expiries import expiry_close_ms, expiry_flags
from strategy.instruments import INDICES, Index, Underlying, contract_facts
from strategy.premiums import AT_THE_MONEY_VOLATILITY, YEAR_MS, option_price, smile

TICK_PAISE = 5
_NEAR_STRIKES, _FAR_STRIKES = 60, 25


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Listed:
    """One option contract of the day. Prices in paise, strike in index points."""

    index: Index
    lot_size: int
    freeze_quantity: int
    expiry: date
    expiry_ms: int
    expiry_flag: str  # W weekly, M monthly
    strike: int
    is_call: bool
    security_id: int
    reference_paise: int  # its worth at yesterday's close
    lower_paise: int
    upper_paise: int
    security: str = field(init=False)  # segment and id; asked for with every packet

    def __post_init__(self) -> None:
        """Name the security."""
        object.__setattr__(self, "security", f"{self.index.option_segment}:{self.security_id}")

    @property
    def segment(self) -> str:
        """NSE_FNO or BSE_FNO."""
        return self.index.option_segment

    @property
    def largest_order(self) -> int:
        """The most whole lots that one order may have, in units."""
        return max(self.freeze_quantity // self.lot_size, 1) * self.lot_size

    @property
    def segment_code(self) -> int:
        """The feed's number of the segment."""
        return SEGMENT_CODES[self.index.option_segment]

    @property
    def trading_symbol(self) -> str:
        """Weekly and monthly contracts share it: NIFTY-Nov2026-24500-CE."""
        return f"{self.index.underlying}-{self.expiry:%b%Y}-{self.strike}-{self.option_type}"

    @property
    def display_name(self) -> str:
        """NIFTY 23 NOV 24500 CALL."""
        return f"{self.index.underlying} {self.expiry:%d %b} {self.strike} {self.kind}".upper()

    @property
    def option_type(self) -> str:
        """CE or PE."""
        return "CE" if self.is_call else "PE"

    @property
    def kind(self) -> str:
        """CALL or PUT, as order rows say it."""
        return "CALL" if self.is_call else "PUT"

    @property
    def expiry_text(self) -> str:
        """Date with the time that the exchange's files carry."""
        return f"{self.expiry} {'14:30:00' if self.index.exchange == 'NSE' else '15:30:00'}"


class Listing:
    """All contracts of a day, by security, and the expiries of each index."""

    def __init__(self, day: date, closes: Mapping[Underlying, float], facts: str = "") -> None:
        self.day = day
        self.facts = facts
        self.expiries: dict[Underlying, tuple[date, ...]] = {}
        self.by_security: dict[str, Listed] = {}
        self.by_expiry: dict[tuple[Underlying, date], list[Listed]] = {}
        # The whole numbering moves on from day to day, so that an id names another contract tomorrow.
        numbers = {
            "NSE": count(35_000 + day.toordinal() * 37 % 5_000),
            "BSE": count(1_100_000 + day.toordinal() * 53 % 3_000),
        }
        for underlying, index in INDICES.items():
            flags = expiry_flags(day, underlying, facts)
            self.expiries[underlying] = tuple(sorted(flags))
            for rank, expiry in enumerate(self.expiries[underlying]):
                reach = _NEAR_STRIKES if rank < 2 else _FAR_STRIKES
                contracts = _contracts(
                    index,
                    facts=facts,
                    day=day,
                    expiry=expiry,
                    flag=flags[expiry],
                    spot=closes[underlying],
                    reach=reach,
                    numbers=numbers[index.exchange],
                )
                self.by_expiry[underlying, expiry] = contracts
                self.by_security |= {listed.security: listed for listed in contracts}


def _contracts(
    index: Index, *, facts: str, day: date, expiry: date, flag: str, spot: float, reach: int, numbers: Iterator[int]
) -> list[Listed]:
    """Calls and puts of one expiry, `reach` strikes to both sides of the money."""
    lot_size = contract_facts(facts).lot_size(index.underlying, expiry)
    freeze_quantity = contract_facts(facts).freeze_quantity(index.underlying, day)
    expiry_ms = expiry_close_ms(expiry, facts)
    years = max(0.0, (expiry_ms - moment_ms(day, time(9, 15))) / YEAR_MS)
    step = index.strike_step_points
    middle = round(spot / step) * step
    contracts = []
    for strike in range(max(step, middle - reach * step), middle + reach * step + 1, step):
        volatility = smile(at_the_money=AT_THE_MONEY_VOLATILITY, spot=spot, strike=strike, years=years)
        for is_call in (True, False):
            worth = option_price(spot=spot, strike=strike, years=years, volatility=volatility, is_call=is_call)
            # A band wide enough for a day's worth of index movement: what lies outside is a mistake.
            width = max(20.0, 0.06 * spot, 0.40 * worth)
            contracts.append(
                Listed(
                    index=index,
                    lot_size=lot_size,
                    freeze_quantity=freeze_quantity,
                    expiry=expiry,
                    expiry_ms=expiry_ms,
                    expiry_flag=flag,
                    strike=strike,
                    is_call=is_call,
                    security_id=next(numbers),
                    reference_paise=max(TICK_PAISE, round(worth * 20) * 5),
                    lower_paise=max(TICK_PAISE, round((worth - width) * 20) * 5),
                    upper_paise=round((worth + width) * 20) * 5,
                )
            )
    return contracts
