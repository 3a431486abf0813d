"""The simulated market: index paths, and what options are quoted at on top of them.

Invariants:
1. Every price is a function of (seed, day, security, moment). Neither subscriptions nor orders move it.
2. Bids are below asks, on the tick (5 paise), never negative; an option's last price changes once a second, at its
   print.
3. An option's day high, low and open are those of all its prints of the day.
"""

from array import array
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from itertools import accumulate
from typing import NamedTuple

from simulator.instruments import TICK_PAISE, Listed, Listing
from simulator.packets import Level
from simulator.paths import IndexPath, Window
from simulator.pricing import Moment
from strategy.instruments import INDICES, Index, Underlying
from strategy.premiums import AT_THE_MONEY_VOLATILITY, YEAR_MS, smile

PRINT_OFFSET_MS = 750
LEVELS = 5
_LEVEL_NUMBERS = range(1, LEVELS + 1)
_INDEX_OF = {index.security: index for index in INDICES.values()}
_SPREAD = 0x9E37_79B9
_MASK = 0xFFFF_FFFF_FFFF_FFFF


class Depth(NamedTuple):
    """Both sides of an option's book at one moment: (price in paise, quantity in units, orders), best first."""

    bids: tuple[tuple[int, int, int], ...]
    asks: tuple[tuple[int, int, int], ...]

    @property
    def bid_paise(self) -> int:
        """The best bid, 0 when nobody bids."""
        return self.bids[0][0] if self.bids else 0

    @property
    def ask_paise(self) -> int:
        """The best ask."""
        return self.asks[0][0]

    def levels(self) -> list[Level]:
        """Five rows as the feed's full packet has them."""
        bids = self.bids + ((0, 0, 0),) * (LEVELS - len(self.bids))
        return [
            (bid_quantity, ask_quantity, bid_orders, ask_orders, bid / 100, ask / 100)
            for (bid, bid_quantity, bid_orders), (ask, ask_quantity, ask_orders) in zip(bids, self.asks, strict=True)
        ]


class Summary(NamedTuple):
    """A security's day so far. Prices in paise; `last_at_ms` 0 means it has not traded today."""

    last_paise: int
    last_at_ms: int
    last_quantity: int
    average_paise: int
    volume: int
    open_paise: int
    high_paise: int
    low_paise: int
    previous_close_paise: int
    open_interest: int


@dataclass(slots=True)
class _Tape:
    """The prints of one option from the open on, and the day's figures with each of them. Prices in paise."""

    lots_a_print: int
    open_interest: int
    last: "array[int]" = field(default_factory=lambda: array("q"))
    high: "array[int]" = field(default_factory=lambda: array("q"))
    low: "array[int]" = field(default_factory=lambda: array("q"))
    total: "array[int]" = field(default_factory=lambda: array("q"))


class Market:
    """Prices of the day."""

    def __init__(
        self,
        *,
        seed: int,
        day: date,
        windows: Sequence[Window],
        paths: Mapping[Underlying, IndexPath],
        listing: Listing,
    ) -> None:
        self.seed = seed
        self.day = day
        self.windows = tuple(windows)
        self.paths = paths
        self.listing = listing
        self._prints = [at for opens, closes in windows for at in range(opens + PRINT_OFFSET_MS, closes, 1000)]
        self._tapes: dict[str, _Tape] = {}
        self._touches: dict[int, tuple[int, tuple[int, int, int]]] = {}
        self._moments: dict[tuple[Underlying, int], dict[int, Moment]] = {}
        self._salt = scramble(seed * 1_000_003 + day.toordinal())

    def is_open(self, at_ms: int) -> bool:
        """True inside a trading window."""
        return any(opens <= at_ms < closes for opens, closes in self.windows)

    def print_times(self, from_ms: int, until_ms: int) -> Sequence[int]:
        """When options print in [from, until)."""
        return self._prints[bisect_right(self._prints, from_ms - 1) : bisect_right(self._prints, until_ms - 1)]

    def spot_paise(self, underlying: Underlying, at_ms: int) -> int:
        """The index at a moment."""
        return self.paths[underlying].price_at(at_ms)

    def fair_paise(self, listed: Listed, at_ms: int) -> float:
        """What the option is worth, between the ticks."""
        return 100 * self._moment(listed, at_ms).price(listed.strike, is_call=listed.is_call)

    def _moment(self, listed: Listed, at_ms: int) -> Moment:
        """What all options of an expiry share at a moment; they are asked for one after the other."""
        moments = self._moments.get((listed.index.underlying, listed.expiry_ms))
        if moments is None:
            moments = self._moments[listed.index.underlying, listed.expiry_ms] = {}
        moment = moments.get(at_ms)
        if moment is None:
            spot = self.paths[listed.index.underlying].price_at(at_ms) / 100
            years = (listed.expiry_ms - at_ms) / YEAR_MS
            moment = moments[at_ms] = Moment(spot=spot, years=years, at_the_money=AT_THE_MONEY_VOLATILITY)
        return moment

    def volatility(self, listed: Listed, spot: float, years: float) -> float:
        """The implied volatility the market quotes for this strike."""
        return smile(at_the_money=AT_THE_MONEY_VOLATILITY, spot=spot, strike=listed.strike, years=years)

    def touch(self, listed: Listed, at_ms: int) -> tuple[int, int]:
        """The best bid (0: nobody bids) and the best ask at a moment."""
        return self._touch(listed, at_ms)[:2]

    def _touch(self, listed: Listed, at_ms: int) -> tuple[int, int, int]:
        """The touch, and the second's chance; of each option the last one is kept: a packet asks several times."""
        key = listed.security_id
        known = self._touches.get(key)
        if known is not None and known[0] == at_ms:
            return known[1]
        fair = 100 * self._moment(listed, at_ms).price(listed.strike, is_call=listed.is_call)
        noise = scramble(self._salt ^ key * _SPREAD ^ at_ms // 1000)
        half_spread = (2.5 + 0.0012 * fair) * (0.6 + (noise & 0xFF) / 200.0)
        bid = max(0, int(fair - half_spread) // TICK_PAISE * TICK_PAISE)
        ask = max(TICK_PAISE, -(-int(fair + half_spread + 0.999) // TICK_PAISE) * TICK_PAISE)
        made = (bid, ask, noise)
        self._touches[key] = (at_ms, made)
        return made

    def depth(self, listed: Listed, at_ms: int) -> Depth:
        """Bids and asks at a moment; quantities change every second, prices with the index."""
        bid, ask, noise = self._touch(listed, at_ms)
        step = TICK_PAISE * (1 + ask // 20_000)
        noise >>= 8
        lot_size = listed.lot_size
        bids = []
        asks = []
        for number in _LEVEL_NUMBERS:
            lots = 4 + (noise & 0x1F) * number
            if bid > 0:
                bids.append((bid, lot_size * lots, 1 + lots // 3))
            lots = 4 + (noise >> 5 & 0x1F) * number
            asks.append((ask, lot_size * lots, 1 + lots // 3))
            noise >>= 10
            bid -= step
            ask += step
        return Depth(tuple(bids), tuple(asks))

    def print_at(self, listed: Listed, at_ms: int) -> int:
        """The price of the trade that prints at `at_ms`: at the bid, at the ask or between."""
        bid, ask, _ = self._touch(listed, at_ms)
        bid = bid or TICK_PAISE
        side = scramble(self._salt ^ listed.security_id * _SPREAD ^ at_ms) % 5
        if side < 2:
            return bid
        if side < 4:
            return ask
        return (bid + ask) // 2 // TICK_PAISE * TICK_PAISE

    def last_paise(self, listed: Listed, at_ms: int) -> int:
        """The last traded price at a moment; yesterday's close before the first print."""
        count = bisect_right(self._prints, at_ms)
        return self.print_at(listed, self._prints[count - 1]) if count else listed.reference_paise

    def option_summary(self, listed: Listed, at_ms: int) -> Summary:
        """The option's day up to a moment (inclusive)."""
        count = bisect_right(self._prints, at_ms)
        tape = self._tape_until(listed, count)
        if not count:
            return Summary(listed.reference_paise, 0, 0, 0, 0, 0, 0, 0, listed.reference_paise, tape.open_interest)
        last = count - 1
        return Summary(
            tape.last[last], self._prints[last], listed.lot_size * (1 + self._noise(listed, count) % 8),
            tape.total[last] // count, listed.lot_size * tape.lots_a_print * count,
            tape.last[0], tape.high[last], tape.low[last], listed.reference_paise, tape.open_interest,
        )  # fmt: skip

    def option_prints(self, listed: Listed, at_ms: int) -> tuple[Sequence[int], Sequence[int]]:
        """Times and prices of all prints up to a moment (inclusive)."""
        count = bisect_right(self._prints, at_ms)
        return self._prints[:count], self._tape_until(listed, count).last[:count]

    def index_summary(self, index: Index, at_ms: int) -> Summary:
        """The index's day up to a moment (inclusive); indices have no volume."""
        path = self.paths[index.underlying]
        count = path.position(at_ms + 1)
        if not count:
            close = path.previous_close_paise
            return Summary(close, 0, 0, 0, 0, 0, 0, 0, close, 0)
        last = count - 1
        return Summary(
            path.price_paise[last], path.at_ms[last], 0, 0, 0,
            path.price_paise[0], path.high_paise[last], path.low_paise[last], path.previous_close_paise, 0,
        )  # fmt: skip

    def open_interest(self, listed: Listed) -> int:
        """Units outstanding, the day's constant."""
        return listed.lot_size * (500 + self._noise(listed, 2) % 40_000)

    def _pace(self, listed: Listed) -> int:
        """Lots that change hands with each print, the day's constant: many near the money."""
        moneyness = abs(listed.strike * 100 - self.paths[listed.index.underlying].previous_close_paise)
        near = moneyness < listed.index.strike_step_points * 1000
        return (1 + self._noise(listed, 1) % 40) * (20 if near else 2)

    def _noise(self, listed: Listed, number: int) -> int:
        return scramble(self._salt ^ listed.security_id * _SPREAD ^ number)

    def _tape_until(self, listed: Listed, count: int) -> _Tape:
        """The option's tape with `count` prints or more."""
        tape = self._tapes.get(listed.security)
        if tape is None:
            made = _Tape(self._pace(listed), self.open_interest(listed))
            tape = self._tapes[listed.security] = made
        known = len(tape.last)
        if 0 < known == count - 1:  # the next second's, nearly always
            price = self.print_at(listed, self._prints[known])
            tape.last.append(price)
            tape.high.append(max(tape.high[-1], price))
            tape.low.append(min(tape.low[-1], price))
            tape.total.append(tape.total[-1] + price)
        elif known < count:
            prices = [self.print_at(listed, at_ms) for at_ms in self._prints[known:count]]
            high, low, total = (tape.high[-1], tape.low[-1], tape.total[-1]) if known else (prices[0], prices[0], 0)
            tape.last.extend(prices)
            tape.high.extend(list(accumulate(prices, max, initial=high))[1:])
            tape.low.extend(list(accumulate(prices, min, initial=low))[1:])
            tape.total.extend(list(accumulate(prices, initial=total))[1:])
        return tape


def scramble(value: int) -> int:
    """A number that looks random and depends on `value` alone (the mixing step of splitmix64)."""
    value = (value + 0x9E37_79B9_7F4A_7C15) & _MASK
    value = (value ^ value >> 30) * 0xBF58_476D_1CE4_E5B9 & _MASK
    value = (value ^ value >> 27) * 0x94D0_49BB_1331_11EB & _MASK
    return value ^ value >> 31


def index_of(security: str) -> Index | None:
    """The index that "IDX_I:13" names, if it is one of ours."""
    return _INDEX_OF.get(security)
