"""Candles of the day so far and of days before it, for Dhan's chart endpoints.

Invariants:
1. No candle shows a tick that has not happened yet.
2. Days before the simulated one lead up to it: the last price of one is the previous close of the next.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, time
from itertools import groupby
from math import exp
from typing import Any, NamedTuple

from simulator.paths import IndexPath, path_shape, seeded_path
from simulator.replay import Recording
from simulator.sessions import moment_ms, previous_trading_day, trading_windows
from strategy.calendar import IST, OutsideKnownData
from strategy.instruments import Index, Underlying


@dataclass(kw_only=True)
class History:
    """The paths of earlier days, made when they are asked for."""

    seed: int
    day: date
    facts: str
    today: Mapping[Underlying, IndexPath]
    recording: Recording | None
    recorded: Underlying | None
    _earlier: dict[tuple[Underlying, date], IndexPath | None] = field(default_factory=dict)

    def path(self, index: Index, day: date) -> IndexPath | None:
        """The index's day; None when it did not trade or lies in the future."""
        if day == self.day:
            return self.today[index.underlying]
        if day > self.day or not self._trades_on(day):
            return None
        recording = self.recording if index.underlying is self.recorded else None
        if recording is not None and day in recording.bars:
            return recording.path(day)
        key = (index.underlying, day)
        if key not in self._earlier:
            self._earlier[key] = self._lead_up(index, day)
        return self._earlier[key]

    def _trades_on(self, day: date) -> bool:
        try:
            return bool(trading_windows(day, self.facts))
        except OutsideKnownData:
            return False

    def _lead_up(self, index: Index, day: date) -> IndexPath | None:
        """A seeded day that ends at the previous close of the next one."""
        walk = [self.day]
        while walk[-1] > day:
            earlier = previous_trading_day(walk[-1], self.facts)
            if earlier is None:
                return None
            walk.append(earlier)
        close = self.today[index.underlying].previous_close_paise / 100
        path: IndexPath | None = None
        for earlier in walk[1:]:
            key = (index.underlying, earlier)
            path = self._earlier.get(key)
            if path is None:
                windows = trading_windows(earlier, self.facts)
                number = int(index.security_id)
                shape = path_shape(seed=self.seed, key=number, day_ordinal=earlier.toordinal(), windows=windows)
                start = close / exp(shape[-1])
                path = seeded_path(
                    seed=self.seed, key=number, day_ordinal=earlier.toordinal(), windows=windows, previous_close=start
                )
                self._earlier[key] = path
            close = path.previous_close_paise / 100
        return path


class Candle(NamedTuple):
    """One candle; its start in Unix milliseconds, prices in paise."""

    start_ms: int
    open_paise: int
    high_paise: int
    low_paise: int
    close_paise: int


def candles_of(at_ms: Sequence[int], price_paise: Sequence[int], *, start_ms: int, period_ms: int) -> list[Candle]:
    """Candles of ticks, aligned to `start_ms`; a period without a tick has none."""
    candles = []
    ticks = zip(at_ms, price_paise, strict=True)
    for number, period in groupby(ticks, key=lambda tick: (tick[0] - start_ms) // period_ms):
        prices = [price for _, price in period]
        candles.append(Candle(start_ms + number * period_ms, prices[0], max(prices), min(prices), prices[-1]))
    return candles


def render_candles(candles: Sequence[Candle]) -> dict[str, list[Any]]:
    """Dhan's columnar reply; timestamps are true Unix seconds."""
    return {
        "open": [candle.open_paise / 100 for candle in candles],
        "high": [candle.high_paise / 100 for candle in candles],
        "low": [candle.low_paise / 100 for candle in candles],
        "close": [candle.close_paise / 100 for candle in candles],
        "volume": [0] * len(candles),
        "timestamp": [candle.start_ms // 1000 for candle in candles],
        "open_interest": [0] * len(candles),
    }


def days_between(first: date, last: date) -> list[date]:
    """All dates from `first` to `last`, both included."""
    return [date.fromordinal(number) for number in range(first.toordinal(), last.toordinal() + 1)]


def moment_of(text: str) -> int:
    """A request's "2026-11-20 09:15:00" or "2026-11-20" (IST) as Unix milliseconds. Raises ValueError."""
    return round(datetime.fromisoformat(text).replace(tzinfo=IST).timestamp() * 1000)


def day_of(at_ms: int) -> date:
    """The date in India."""
    return datetime.fromtimestamp(at_ms / 1000, IST).date()


def day_start_ms(day: date) -> int:
    """09:15 of a day: what intraday candles are aligned to."""
    return moment_ms(day, time(9, 15))
