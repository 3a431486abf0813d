"""The day a session trades, decided once before it starts: hours, contracts, lot size, charges.

Invariants:
1. Everything closes while the market is open: on a day that closes early, squareoff and cutoff move with it.
2. `bypass_market_hours` lifts every hour here, in one place; the rules know nothing of it.
3. Contracts are those of the nearest expiry that still trades, as the instrument master lists them.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time
from types import MappingProxyType

from strategy.events import Side
from strategy.instruments import Contract, Index, OptionType
from strategy.params import Params

# The charges of one executed order, paise: which way it went and the money that moved.
OrderCharges = Callable[[Side, int], int]

BEFORE_CLOSE_MS = 5 * 60_000
BEFORE_SQUAREOFF_MS = 15 * 60_000
# India has one offset and no summer time.
IST_OFFSET_MS = (5 * 60 + 30) * 60_000
NEVER_MS = 1 << 62


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """The market is open in [open_ms, close_ms)."""

    open_ms: int
    close_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class DayPlan:
    """One trading day of one index."""

    day: date
    index: Index
    windows: tuple[Window, ...]  # in order; most days have one
    entry_start_ms: int
    entry_cutoff_ms: int
    squareoff_ms: int
    contracts: Mapping[tuple[int, OptionType], Contract]  # by (strike_points, option type)
    lot_size: int  # units
    charges: OrderCharges
    index_security: str = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "index_security", self.index.security)

    def is_open(self, at_ms: int) -> bool:
        """True while the market trades."""
        return any(window.open_ms <= at_ms < window.close_ms for window in self.windows)

    def opened_ms(self, at_ms: int) -> int:
        """When the window that holds `at_ms` opened; `at_ms` itself outside all of them."""
        for window in self.windows:
            if window.open_ms <= at_ms < window.close_ms:
                return window.open_ms
        return at_ms


def ist_ms(day: date, at: time) -> int:
    """The wall-clock time `at` of `day` in India, Unix milliseconds."""
    midnight = datetime(day.year, day.month, day.day, tzinfo=UTC)
    since_midnight_s = at.hour * 3600 + at.minute * 60 + at.second
    return round(midnight.timestamp()) * 1000 + since_midnight_s * 1000 - IST_OFFSET_MS


def plan_day(
    params: Params,
    *,
    day: date,
    index: Index,
    windows: Iterable[Window],
    contracts: Iterable[Contract],
    charges: OrderCharges,
    last_close_ms: int = NEVER_MS,
) -> DayPlan:
    """The plan of `day` under `params`.

    Args:
        params: the settings.
        day: the trading day.
        index: whose options are traded.
        windows: when options of the index trade that day; not empty.
        contracts: the index's contracts of the day's instrument master, any expiry.
        charges: what one executed order costs.
        last_close_ms: when contracts that expire today stop trading, where that is before the market does.

    Raises:
        ValueError: no window, no contract that still trades, or contracts that disagree about the lot size.
    """
    hours = tuple(sorted(windows, key=lambda window: window.open_ms))
    if not hours:
        raise ValueError(f"{day} has no trading hours for {index.underlying}; is it a trading day?")
    ours = [contract for contract in contracts if contract.underlying is index.underlying]
    expiries = {contract.expiry for contract in ours if contract.expiry >= day}
    if not expiries:
        raise ValueError(
            f"the instrument master has no {index.underlying} option that expires on or after {day}; "
            "download the day's master again"
        )
    expiry = min(expiries)
    nearest = {
        (contract.strike_points, contract.option_type): contract
        for contract in ours
        if contract.expiry == expiry
    }
    lot_sizes = {contract.lot_size for contract in nearest.values()}
    if len(lot_sizes) != 1 or min(lot_sizes) <= 0:
        raise ValueError(
            f"{index.underlying} contracts of {expiry} must have one positive lot size, "
            f"found {sorted(lot_sizes)}; check the instrument master"
        )
    entry_start_ms, entry_cutoff_ms, squareoff_ms = _hours(
        params, day, min(hours[-1].close_ms, last_close_ms)
    )
    if params.bypass_market_hours:
        hours = (Window(open_ms=0, close_ms=NEVER_MS),)
        entry_start_ms, entry_cutoff_ms, squareoff_ms = 0, NEVER_MS, NEVER_MS
    return DayPlan(
        day=day,
        index=index,
        windows=hours,
        entry_start_ms=entry_start_ms,
        entry_cutoff_ms=entry_cutoff_ms,
        squareoff_ms=squareoff_ms,
        contracts=MappingProxyType(nearest),
        lot_size=min(lot_sizes),
        charges=charges,
    )


def _hours(params: Params, day: date, close_ms: int) -> tuple[int, int, int]:
    entry_start_ms = ist_ms(day, params.entry_start)
    entry_cutoff_ms = ist_ms(day, params.entry_cutoff)
    squareoff_ms = ist_ms(day, params.squareoff_at)
    if close_ms - BEFORE_CLOSE_MS < squareoff_ms:
        squareoff_ms = close_ms - BEFORE_CLOSE_MS
        entry_cutoff_ms = min(entry_cutoff_ms, squareoff_ms - BEFORE_SQUAREOFF_MS)
    return entry_start_ms, entry_cutoff_ms, squareoff_ms
