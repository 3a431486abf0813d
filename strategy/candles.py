"""Candles from ticks: which interval a tick belongs to, when a candle closes, which ticks are not used.

Invariants:
1. Intervals are aligned to 09:15:00 IST, whenever the process started.
2. A candle closes once: by the first tick of a later interval, or by the clock. Nothing enters it afterwards.
3. An interval without a tick yields no candle.
4. A tick that is late, repeated, not a positive price or a leap of more than 20 % changes a counter only.
5. Leaps that agree with each other for long enough are the market: the level they were judged by was the error, and
   candles begin anew.

`IndexTicks` and `Candle` are named tuples because one of each is made per tick; a frozen dataclass costs five
times as much.
"""

from collections.abc import Iterable
from typing import NamedTuple

DAY_MS = 86_400_000
# 09:15 IST is 03:45 UTC.
OPEN_OF_DAY_MS = (3 * 60 + 45) * 60_000
# A price further from the last one than 1/5 of it is an error of the feed, not a market.
LEAP_PARTS = 5
# So many leaps in a row, each later than the one before and within 1/5 of it, are the market.
LEAPS_BELIEVED = 10
# What calling a named tuple comes to, without the Python around it: a third of the time. For what every tick makes.
packed = tuple.__new__


class Candle(NamedTuple):
    """Prices of one interval, paise. Closed once its interval is over; until then it is the candle so far."""

    start_ms: int
    seconds: int
    open_paise: int
    high_paise: int
    low_paise: int
    close_paise: int
    ticks: int = 1

    @property
    def end_ms(self) -> int:
        """The first millisecond that no longer belongs to it."""
        return self.start_ms + self.seconds * 1000


class TickFaults(NamedTuple):
    """Ticks of the day that were not used, by fault."""

    late: int = 0
    duplicate: int = 0
    poisoned: int = 0  # not a number, not positive
    leap: int = 0  # more than 20 % away from the last
    early: int = 0  # ahead of the market's clock
    outside_hours: int = 0


class Doubt(NamedTuple):
    """Leaps in a row that agree with each other, and the last of them."""

    leaps: int = 0
    price_paise: int = 0
    at_ms: int = 0


NO_DOUBT = Doubt()


class IndexTicks(NamedTuple):
    """What the ticks of an index have told so far."""

    candle: Candle | None = None  # the open one
    closed_until_ms: int = 0  # ticks before this are late
    last_at_ms: int = 0  # exchange time of the last tick used
    last_paise: int = 0  # 0: none yet
    faults: TickFaults = TickFaults()
    doubt: Doubt = NO_DOUBT


def is_leap(price_paise: int, last_paise: int) -> bool:
    """True for a price too far from the last one to be the market's; there is none before the first."""
    return last_paise > 0 and abs(price_paise - last_paise) * LEAP_PARTS > last_paise


def interval_start_ms(at_ms: int, seconds: int) -> int:
    """The start of the interval of `seconds` that holds `at_ms`."""
    since_open_ms = (at_ms - OPEN_OF_DAY_MS) % DAY_MS
    return at_ms - since_open_ms % (seconds * 1000)


def take_tick(index: IndexTicks, at_ms: int, price_paise: int, seconds: int) -> tuple[IndexTicks, Candle | None]:
    """The index after a tick, and the candle of `seconds` that it closed, if any."""
    candle, closed_until_ms, last_at_ms, last_paise, faults, _ = index
    if price_paise <= 0:
        return index._replace(faults=faults._replace(poisoned=faults.poisoned + 1)), None
    if at_ms < (closed_until_ms if candle is None else candle[0]):
        return index._replace(faults=faults._replace(late=faults.late + 1)), None
    if price_paise == last_paise and at_ms == last_at_ms:
        return index._replace(faults=faults._replace(duplicate=faults.duplicate + 1)), None
    if is_leap(price_paise, last_paise):
        return _take_leap(index, at_ms, price_paise, seconds), None
    if candle is not None:
        start_ms, _, open_paise, high_paise, low_paise, _, ticks = candle
        end_ms = start_ms + seconds * 1000
        if at_ms < end_ms:
            if price_paise > high_paise:
                high_paise = price_paise
            elif price_paise < low_paise:
                low_paise = price_paise
            grown = packed(Candle, (start_ms, seconds, open_paise, high_paise, low_paise, price_paise, ticks + 1))
            # Within a candle the clock of the feed may step back a little; the newest time counts.
            if at_ms < last_at_ms:  # noqa: PLR1730 (once per tick; max() takes three times as long)
                at_ms = last_at_ms
            return packed(IndexTicks, (grown, closed_until_ms, at_ms, price_paise, faults, NO_DOUBT)), None
        closed_until_ms = end_ms
    start_ms = interval_start_ms(at_ms, seconds)
    fresh = Candle(start_ms, seconds, price_paise, price_paise, price_paise, price_paise)
    return IndexTicks(fresh, closed_until_ms, at_ms, price_paise, faults), candle


def _take_leap(index: IndexTicks, at_ms: int, price_paise: int, seconds: int) -> IndexTicks:
    leaps, before_paise, before_ms = index.doubt
    if is_leap(price_paise, before_paise):
        leaps = 0
    if not leaps or at_ms > before_ms:  # a packet that is sent again proves nothing
        leaps, before_ms = leaps + 1, at_ms
    if leaps < LEAPS_BELIEVED:
        faults = index.faults
        doubt = Doubt(leaps, price_paise, before_ms)
        return index._replace(faults=faults._replace(leap=faults.leap + 1), doubt=doubt)
    start_ms = interval_start_ms(at_ms, seconds)
    fresh = Candle(start_ms, seconds, price_paise, price_paise, price_paise, price_paise)
    return index._replace(candle=fresh, last_at_ms=at_ms, last_paise=price_paise, doubt=NO_DOUBT)


def take_time(index: IndexTicks, over_ms: int) -> tuple[IndexTicks, Candle | None]:
    """The index once all before `over_ms` is over, and the candle that closed, if it ended by then."""
    candle = index.candle
    if candle is None or over_ms < candle.end_ms:
        return index, None
    return index._replace(candle=None, closed_until_ms=candle.end_ms), candle


def merge(longer: Candle | None, candle: Candle, seconds: int) -> Candle:
    """The open candle of `seconds` after a shorter one inside it closed. `longer` must not be over."""
    if longer is None:
        return candle._replace(start_ms=interval_start_ms(candle.start_ms, seconds), seconds=seconds)
    assert longer.start_ms <= candle.start_ms < longer.end_ms, (longer, candle)
    return longer._replace(
        high_paise=max(longer.high_paise, candle.high_paise),
        low_paise=min(longer.low_paise, candle.low_paise),
        close_paise=candle.close_paise,
        ticks=longer.ticks + candle.ticks,
    )


def candles_of(prices: Iterable[tuple[int, int]], seconds: int) -> tuple[Candle, ...]:
    """All candles of recorded (at_ms, price_paise) of an index; the last one may be still open.

    Those of a level that proved to be an error are left out.
    """
    index = IndexTicks()
    candles: list[Candle] = []
    for at_ms, price_paise in prices:
        last_paise = index.last_paise
        index, closed = take_tick(index, at_ms, price_paise, seconds)
        if is_leap(index.last_paise, last_paise):
            candles.clear()
        if closed is not None:
            candles.append(closed)
    if index.candle is not None:
        candles.append(index.candle)
    return tuple(candles)
