"""An index's day as a list of ticks: made from a seed, or read from a recording (see replay.py).

Invariants:
1. A path is fixed before the first tick is sent: nothing a client does moves an index.
2. The same seed, day and index give the same ticks to the paisa: all chance comes from `Random.random`, whose stream
   the language keeps.
3. Ticks lie in the day's trading windows, half-open: the first at the open, none at the close.
"""

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from math import cos, exp, log, pi, sin, sqrt
from random import Random

TICK_PERIOD_MS = 500
Window = tuple[int, int]
"""Opening and closing moment of trading, Unix milliseconds; open included, close not."""

# The share of a year's variance that falls on one trading day, and how uneasy the seeded market is on average.
_TRADING_DAYS = 252
_MEAN_VOLATILITY = 0.11
# Drift of a spell in units of its own standard deviation; each is as likely as the others.
_LEANINGS = (-1.2, -0.6, 0.0, 0.0, 0.6, 1.2)
_NIGHT_SHARE = 0.35  # of a day's standard deviation happens between close and open


@dataclass(frozen=True, slots=True)
class IndexPath:
    """All ticks of one index on one day. Prices in paise, times in Unix milliseconds, ascending."""

    at_ms: list[int]
    price_paise: list[int]
    high_paise: list[int]  # the day's high up to and including each tick
    low_paise: list[int]
    previous_close_paise: int

    @classmethod
    def of(cls, at_ms: Sequence[int], price_paise: Sequence[int], previous_close_paise: int) -> "IndexPath":
        """A path of these ticks."""
        if not at_ms:
            raise ValueError("an index path needs at least one tick, found none")
        prices = list(price_paise)
        return cls(
            list(at_ms), prices, list(accumulate(prices, max)), list(accumulate(prices, min)), previous_close_paise
        )

    def position(self, now_ms: int) -> int:
        """How many ticks lie before `now_ms`."""
        return bisect_left(self.at_ms, now_ms)

    def times(self, from_ms: int, until_ms: int) -> list[int]:
        """When the index ticks in [from, until)."""
        return self.at_ms[self.position(from_ms) : self.position(until_ms)]

    def price_at(self, now_ms: int) -> int:
        """The last price at `now_ms` (inclusive), yesterday's close before the first tick."""
        position = bisect_left(self.at_ms, now_ms + 1)
        return self.price_paise[position - 1] if position else self.previous_close_paise


def seeded_path(
    *, seed: int, key: int, day_ordinal: int, windows: Sequence[Window], previous_close: float
) -> IndexPath:
    """A plausible trading day from a seed.

    The night's gap comes first; the day's variance follows a U over the session, swells and ebbs, and leans for
    spells of some minutes to an hour, so that trends exist. `previous_close` in index points; prices are multiples
    of 0.05 points.
    """
    shape = path_shape(seed=seed, key=key, day_ordinal=day_ordinal, windows=windows)
    at_ms = [at for opens, closes in windows for at in range(opens, closes, TICK_PERIOD_MS)]
    prices = [round(previous_close * exp(logarithm) * 20) * 5 for logarithm in shape]
    return IndexPath.of(at_ms, prices, round(previous_close * 100))


def path_shape(*, seed: int, key: int, day_ordinal: int, windows: Sequence[Window]) -> list[float]:
    """Log returns since the previous close, one per tick of the windows."""
    draws = _Draws(f"{seed}/{day_ordinal}/{key}")
    count = sum(len(range(opens, closes, TICK_PERIOD_MS)) for opens, closes in windows)
    if count == 0:
        raise ValueError("the day has no trading window to make ticks for")
    day_deviation = _MEAN_VOLATILITY / sqrt(_TRADING_DAYS) * exp(0.30 * draws.normal())
    gap = _NIGHT_SHARE * day_deviation * draws.normal()
    unscaled = [a * b for a, b in zip(_session_shape(count), _swells(draws, count), strict=True)]
    scale = day_deviation / sqrt(sum(one * one for one in unscaled))
    deviations = [scale * one for one in unscaled]
    leanings = _leanings(draws, deviations)
    steps = [deviation * draws.normal() + leaning for deviation, leaning in zip(deviations, leanings, strict=True)]
    return list(accumulate([gap, *steps[1:]]))


class _Draws:
    """Random numbers by Box and Muller on the one generator whose stream never changes."""

    def __init__(self, seed: str) -> None:
        self._random = Random(seed).random
        self._spare: float | None = None

    def uniform(self, low: float, high: float) -> float:
        return low + (high - low) * self._random()

    def normal(self) -> float:
        if self._spare is not None:
            spare, self._spare = self._spare, None
            return spare
        radius = sqrt(-2.0 * log(1.0 - self._random()))
        angle = 2.0 * pi * self._random()
        self._spare = radius * sin(angle)
        return radius * cos(angle)


def _session_shape(count: int) -> list[float]:
    """Busy at the open, quiet at noon, busier into the close."""
    minutes = [i * TICK_PERIOD_MS / 60_000 for i in range(count)]
    end = minutes[-1]
    return [0.75 + 1.3 * exp(-minute / 12.0) + 0.45 * exp((minute - end) / 25.0) for minute in minutes]


def _swells(draws: _Draws, count: int) -> list[float]:
    """Volatility that clusters: a mean-reverting logarithm, redrawn every ten seconds, half-life some five minutes."""
    persistence = 0.978
    shock = 0.30 * sqrt(1 - persistence**2)
    ticks_per_knot = 10_000 // TICK_PERIOD_MS
    levels = [0.0]
    while len(levels) * ticks_per_knot < count + ticks_per_knot:
        levels.append(persistence * levels[-1] + shock * draws.normal())
    swells = []
    for i in range(count):
        knot, part = divmod(i, ticks_per_knot)
        level = levels[knot] + (levels[knot + 1] - levels[knot]) * part / ticks_per_knot
        swells.append(exp(level))
    return swells


def _leanings(draws: _Draws, deviations: Sequence[float]) -> list[float]:
    """Drift in spells of 4 to 60 minutes; within a spell it is as strong as the spell's own noise, or weaker."""
    drift: list[float] = []
    while len(drift) < len(deviations):
        length = int(draws.uniform(4, 60) * 60_000 / TICK_PERIOD_MS)
        strength = _LEANINGS[int(draws.uniform(0, len(_LEANINGS)))]
        spell = deviations[len(drift) : len(drift) + length]
        ratio = strength * sqrt(sum(one * one for one in spell)) / sum(spell)
        drift += [ratio * one for one in spell]
    return drift
