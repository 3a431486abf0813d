"""The day a session trades, decided once before it starts: hours, contracts, lot size, charges.

Invariants:
1. Everything closes while the market is open: on a day that closes early, squareoff and cutoff move with it.
2. `bypass_market_hours` lifts every hour here, in one place; the rules know nothing of it.
3. Contracts are those of the nearest expiry that still trades, as the instrument master lists them.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date
from types import MappingProxyType

from strategy.calendar import TradingDay, ist_ms
from strategy.charges import Rates
from strategy.facts import OutsideKnownData
from strategy.instruments import Contract, ContractFacts, Index, OptionType, nearest_expiry
from strategy.params import Params

BEFORE_CLOSE_MS = 5 * 60_000
BEFORE_SQUAREOFF_MS = 15 * 60_000
# Later than any day; the hours of a session that knows none.
NEVER_MS = 1 << 62


@dataclass(frozen=True, slots=True, kw_only=True)
class DayPlan:
    """One trading day of one index. Hours are [from, until), Unix milliseconds."""

    day: date
    index: Index
    index_security: str  # the index in the feed
    hours: tuple[tuple[int, int], ...]  # when the market trades; most days have one window
    entry_start_ms: int
    entry_cutoff_ms: int
    squareoff_ms: int
    contracts: Mapping[tuple[int, OptionType], Contract]  # by (strike_points, option type)
    lot_size: int  # units
    rates: Rates

    @property
    def close_ms(self) -> int:
        """From here on nothing can be sold any more."""
        return self.hours[-1][1]

    def is_open(self, at_ms: int) -> bool:
        """True while the market trades."""
        return any(open_ms <= at_ms < close_ms for open_ms, close_ms in self.hours)

    def opened_ms(self, at_ms: int) -> int:
        """When the window that holds `at_ms` opened; `at_ms` itself outside all of them."""
        return next((open_ms for open_ms, close_ms in self.hours if open_ms <= at_ms < close_ms), at_ms)


def plan_day(
    params: Params,
    *,
    day: date,
    today: TradingDay | None,
    index: Index,
    contracts: Iterable[Contract],
    rates: Rates,
    at_ms: int,
) -> DayPlan:
    """The plan of `day` under `params`.

    Args:
        params: the settings.
        day: the day to trade.
        today: its hours; None where the calendar has none (only with `bypass_market_hours`).
        index: whose options are traded.
        contracts: those of the day's instrument master, of any index and expiry.
        rates: what orders cost on that day.
        at_ms: when the session starts; a contract that stopped trading before is not chosen.

    Raises:
        ValueError: no trading day, no contract that still trades, or contracts that disagree about the lot size.
    """
    if today is None and not params.bypass_market_hours:
        raise ValueError(f"{day} is not a trading day; only bypass_market_hours plans one all the same")
    ours = [contract for contract in contracts if contract.underlying is index.underlying]
    expiries = sorted({contract.expiry for contract in ours if contract.expiry >= day})
    expiry = nearest_expiry(expiries, today, at_ms) if today is not None else next(iter(expiries), None)
    if expiry is None:
        raise ValueError(
            f"expected {index.underlying} options that still trade on {day}, found expiries {expiries}; "
            "download the day's instrument master again"
        )
    nearest = {
        (contract.strike_points, contract.option_type): contract for contract in ours if contract.expiry == expiry
    }
    lot_sizes = {contract.lot_size for contract in nearest.values()}
    if len(lot_sizes) != 1 or min(lot_sizes) <= 0:
        raise ValueError(
            f"{index.underlying} contracts of {expiry} must have one positive lot size, "
            f"found {sorted(lot_sizes)}; check the instrument master"
        )
    if today is None or params.bypass_market_hours:
        hours: tuple[tuple[int, int], ...] = ((0, NEVER_MS),)
        entry_start_ms, entry_cutoff_ms, squareoff_ms = 0, NEVER_MS, NEVER_MS
    else:
        hours = tuple((window.open_ms, window.close_ms) for window in today.windows)
        entry_start_ms, entry_cutoff_ms, squareoff_ms = _hours_of(params, today, today.close_ms_of(expiry))
    return DayPlan(
        day=day,
        index=index,
        index_security=index.security,
        hours=hours,
        entry_start_ms=entry_start_ms,
        entry_cutoff_ms=entry_cutoff_ms,
        squareoff_ms=squareoff_ms,
        contracts=MappingProxyType(nearest),
        lot_size=min(lot_sizes),
        rates=rates,
    )


def _hours_of(params: Params, today: TradingDay, close_ms: int) -> tuple[int, int, int]:
    """Entry start, entry cutoff and squareoff for contracts that trade until `close_ms`."""
    entry_cutoff_ms = ist_ms(today.day, params.entry_cutoff)
    squareoff_ms = ist_ms(today.day, params.squareoff_at)
    if today.entry_latest is not None:
        entry_cutoff_ms = min(entry_cutoff_ms, ist_ms(today.day, today.entry_latest))
    if close_ms - BEFORE_CLOSE_MS < squareoff_ms:
        squareoff_ms = close_ms - BEFORE_CLOSE_MS
        entry_cutoff_ms = min(entry_cutoff_ms, squareoff_ms - BEFORE_SQUAREOFF_MS)
    return ist_ms(today.day, params.entry_start), entry_cutoff_ms, squareoff_ms


def unconfirmed_facts(
    *, today: TradingDay | None, rates: Rates, facts: ContractFacts, contracts: Iterable[Contract]
) -> tuple[str, ...]:
    """What the day would rest on although nobody has seen it confirmed, one line each, for a person to look at.

    Args:
        today: its hours; None where there are none.
        rates: what orders cost.
        facts: the dated facts about contracts, with the operator's own.
        contracts: those that are to be traded; they hold against the facts, which only check them.
    """
    lines = [f"hours: {source}" for source in (today.unconfirmed if today is not None else ())]
    lines += [f"charges: {source}" for source in rates.unconfirmed]
    for underlying, expiry, found in sorted({(each.underlying, each.expiry, each.lot_size) for each in contracts}):
        what = f"lot size of {underlying} contracts that expire on {expiry}"
        try:
            row = facts.lot_row(underlying, expiry)
        except OutsideKnownData:
            lines.append(f"{what}: the instrument master says {found}, the facts say nothing")
            continue
        if row.lot_size != found:
            lines.append(f"{what}: the instrument master says {found}, the facts say {row.lot_size} ({row.source})")
        elif not row.confirmed:
            lines.append(f"{what}: {row.source}")
    return tuple(lines)
