"""An index's day as a list of ticks: made from a seed, or read from a recording (see replay.py).

Invariants:
1. A path is fixed before the first tick is sent: nothing a client does moves an index.
2. The same seed, day and index give the same ticks to the paisa; the generator is one whose stream is frozen.
3. Ticks lie in the day's trading windows, half-open: the first at the open, none at the close.
"""

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

import numpy as np

TICK_PERIOD_MS = 500
Window = tuple[int, int]
"""Opening and closing moment of trading, Unix milliseconds; open included, close not."""

# The share of a year's variance that falls on one trading day, and how uneasy the seeded market is on average.
_TRADING_DAYS = 252
_MEAN_VOLATILITY = 0.11
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
    prices = np.round(previous_close * np.exp(shape) * 20).astype(np.int64) * 5
    return IndexPath.of(at_ms, prices.tolist(), round(previous_close * 100))


def path_shape(*, seed: int, key: int, day_ordinal: int, windows: Sequence[Window]) -> np.ndarray:
    """Log returns since the previous close, one per tick of the windows."""
    # RandomState is frozen by numpy's compatibility policy; Generator's streams may change between releases.
    random = np.random.RandomState([seed & 0xFFFFFFFF, day_ordinal, key])
    count = sum(len(range(opens, closes, TICK_PERIOD_MS)) for opens, closes in windows)
    if count == 0:
        raise ValueError("the day has no trading window to make ticks for")
    day_deviation = _MEAN_VOLATILITY / np.sqrt(_TRADING_DAYS) * np.exp(0.30 * random.standard_normal())
    gap = _NIGHT_SHARE * day_deviation * random.standard_normal()
    deviations = _session_shape(count) * _swells(random, count)
    deviations *= day_deviation / np.sqrt(np.sum(deviations**2))
    steps = deviations * random.standard_normal(count) + _leanings(random, count, deviations)
    steps[0] = 0.0
    shape: np.ndarray = gap + np.cumsum(steps)
    return shape


def _session_shape(count: int) -> np.ndarray:
    """Busy at the open, quiet at noon, busier into the close."""
    minutes = np.arange(count) * TICK_PERIOD_MS / 60_000
    left = minutes[-1] - minutes
    shape: np.ndarray = 0.75 + 1.3 * np.exp(-minutes / 12.0) + 0.45 * np.exp(-left / 25.0)
    return shape


def _swells(random: np.random.RandomState, count: int) -> np.ndarray:
    """Volatility that clusters: a mean-reverting logarithm, redrawn every ten seconds, half-life some five minutes."""
    knots = count * TICK_PERIOD_MS // 10_000 + 2
    persistence = 0.978
    shocks = random.standard_normal(knots) * 0.30 * np.sqrt(1 - persistence**2)
    level = 0.0
    levels = np.empty(knots)
    for i, shock in enumerate(shocks.tolist()):
        level = persistence * level + shock
        levels[i] = level
    swells: np.ndarray = np.exp(np.interp(np.arange(count), np.arange(knots) * (10_000 // TICK_PERIOD_MS), levels))
    return swells


def _leanings(random: np.random.RandomState, count: int, deviations: np.ndarray) -> np.ndarray:
    """Drift in spells of 4 to 60 minutes; within a spell it is as strong as the spell's own noise, or weaker."""
    drift = np.zeros(count)
    start = 0
    while start < count:
        length = int(random.uniform(4, 60) * 60_000 / TICK_PERIOD_MS)
        end = min(count, start + length)
        strength = random.choice([0.0, 0.6, 1.2]) * random.choice([-1.0, 1.0])
        spell = deviations[start:end]
        drift[start:end] = strength * spell * np.sqrt(np.sum(spell**2)) / np.sum(spell)
        start = end
    return drift
