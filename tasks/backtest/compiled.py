"""Past days as the kernel takes them, with what many settings have in common computed once and kept.

Invariants:
1. The same days, settings and model give the trades of `tasks.backtest.replay`.
2. What is kept depends on the settings that it is kept under and on nothing else.
"""

import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from strategy import kernel
from strategy.kernel import Bytes, Candles, DayFacts, Ints, Numbers, Ticks
from strategy.params import Params
from tasks.backtest.market import MarketModel, PastDay

# Distinct results kept per kind: enough for a grid that runs its inner settings first. Those of a year that are large
# are few: candles have 36 MB for each length.
KEPT_MAX = 64
LARGE_KEPT_MAX = {"candles": 2}
# More trades a day than any candle could enter.
TRADES_PER_DAY_MAX = 400


class CompiledMarket:
    """Days, and settings after settings on them. `before` only warms the indicators up."""

    def __init__(self, days: Sequence[PastDay], model: MarketModel, *, before: Sequence[PastDay] = ()) -> None:
        self.model = model
        # Their ticks are kept once, as the kernel takes them: here without any, not even a view of them.
        self.days = tuple(
            replace(past, recorded=past.recorded.part(np.zeros(len(past.recorded.at_ms), dtype=np.bool_)))
            for past in (*before, *days)
        )
        self.warming = len(before)
        self.step_points = days[0].index.strike_step_points
        recorded = [past.recorded for past in (*before, *days)]
        first_tick = np.cumsum([0] + [len(one.at_ms) for one in recorded]).astype(np.int64)
        at_ms = np.concatenate([one.at_ms for one in recorded])
        spot_paise = np.concatenate([one.spot_paise.astype(np.int32) for one in recorded])
        self._lock = threading.Lock()
        self.first_tick = first_tick
        self.forget(at_ms, spot_paise)

    def forget(self, at_ms: Ints, spot_paise: Numbers) -> None:
        """Begin anew with these ticks: nothing of what was computed is kept."""
        *minutes, self.first_block = kernel.ticks_of(at_ms, spot_paise, self.first_tick)
        self.ticks = Ticks(at_ms, spot_paise, *minutes)
        self._kept: dict[str, OrderedDict[Any, Any]] = {}

    def trades(self, params: Params) -> Ints:
        """All trades, one row each, `kernel.COLUMNS` first; days count from the first day after the warm-up.

        Raises SettingRefused for a setting that the kernel does not know.
        """
        rules = kernel.rules_of(
            params,
            slippage_paise=self.model.slippage_paise,
            volatility=self.model.volatility,
            spread=self.model.spread,
            step_points=self.step_points,
        )
        candles = self._candles(params)
        directions, changes = self._directions(params)
        sides = self._sides(params) if params.macd_confirmation else np.zeros(0, dtype=np.int8)
        number, end_ms, longer = self._longer(params)
        found: Ints = kernel.walk(
            self.ticks,
            self._plans(params),
            candles,
            directions,
            changes,
            sides,
            number,
            end_ms,
            longer,
            rules,
            min(params.max_trades_per_day, TRADES_PER_DAY_MAX),
        )
        found[:, 0] -= self.warming
        return found

    def _keep(self, kind: str, key: Any, make: Callable[[], Any]) -> Any:
        with self._lock:
            kept = self._kept.setdefault(kind, OrderedDict())
            if key in kept:
                kept.move_to_end(key)
                return kept[key]
        # Two threads may compute the same thing at once; neither waits for the other.
        made = make()
        with self._lock:
            kept[key] = made
            if len(kept) > LARGE_KEPT_MAX.get(kind, KEPT_MAX):
                kept.popitem(last=False)
        return made

    def _plans(self, params: Params) -> kernel.Days:
        key = (params.entry_start, params.entry_cutoff, params.squareoff_at)
        found: kernel.Days = self._keep("plans", key, lambda: self._planned(params))
        return found

    def _planned(self, params: Params) -> kernel.Days:
        facts = [DayFacts(plan=past.plan(params, strikes=1), expiry_ms=past.expiry_ms) for past in self.days]
        # Days that only warm up let nobody in.
        facts[: self.warming] = [
            replace(one, plan=replace(one.plan, entry_cutoff_ms=0)) for one in facts[: self.warming]
        ]
        return kernel.days_of(facts, self.first_tick, self.first_block)

    def _candles(self, params: Params) -> Candles:
        seconds, ticks = params.candle_seconds, self.ticks
        made = self._keep(
            "candles",
            seconds,
            lambda: kernel.candles_of(ticks.at_ms, ticks.spot_paise, self.first_tick, seconds, self.step_points),
        )
        return Candles._make((*made, seconds * 1000, params.candle_grace_ms))

    def _directions(self, params: Params) -> tuple[Bytes, Ints]:
        candles = self._candles(params)

        period, multiplier = params.supertrend_period, params.supertrend_multiplier

        def make() -> tuple[Bytes, Ints]:
            directions = kernel.directions_of(candles.high, candles.low, candles.close, period, multiplier)
            return directions, kernel.changes_of(directions)

        key = (params.candle_seconds, period, multiplier)
        found: tuple[Bytes, Ints] = self._keep("directions", key, make)
        return found

    def _sides(self, params: Params) -> Bytes:
        periods = (params.macd_fast, params.macd_slow, params.macd_signal)
        candles = self._candles(params)
        found: Bytes = self._keep(
            "sides",
            (params.candle_seconds, *periods),
            lambda: kernel.macd_sides_of(candles.close, *periods),
        )
        return found

    def _longer(self, params: Params) -> tuple[Numbers, Ints, Bytes]:
        if not params.htf_filter:
            return np.zeros(0, dtype=np.int32), np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int8)
        candles = self._candles(params)
        key = (params.candle_seconds, params.htf_seconds)
        number, high, low, close, end_ms = self._keep(
            "longer",
            key,
            lambda: kernel.longer_of(
                self.ticks.at_ms,
                candles.last_tick,
                candles.high,
                candles.low,
                candles.close,
                params.htf_seconds,
            ),
        )
        period, multiplier = params.supertrend_period, params.supertrend_multiplier

        directions: Bytes = self._keep(
            "longer directions",
            (*key, period, multiplier),
            lambda: kernel.directions_of(high, low, close, period, multiplier),
        )
        return number, end_ms, directions
