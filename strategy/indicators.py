"""SuperTrend and MACD, candle by candle.

A rule (`SuperTrend`, `Macd`) holds the settings; its `step` takes a state and a candle and returns the next
state. States are plain tuples: immutable, cheap, and small for ever. The rule's accessors read them.

Invariants:
1. Nothing is shown before it is known: direction 0; line, macd and signal None.
2. The array functions (`strategy.indicator_arrays`) and the compiled ones (`strategy.kernel`) equal the steps to the
   last bit, so live, replay and sweep decide alike. All therefore divide by the period (no reciprocal), sum seeds from
   left to right and never fuse operations.
3. A value depends on its candle and those before it, never on a later one.

Conventions are TradingView's: true range of the first candle = high - low; ATR is Wilder's average, seeded
with the mean of the first `period` true ranges; an EMA is seeded with the mean of its first n values. Prices
may be in any one unit (rupees or paise), as floats; results come in the same unit.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeAlias

# direction (+1 up, -1 down, 0 not known yet), upper band, lower band, ATR (sum of true ranges while direction
# is 0), previous close (NaN: none), candles seen (counted only while direction is 0).
SuperTrendState: TypeAlias = tuple[int, float, float, float, float, int]
SuperTrendStep: TypeAlias = Callable[[SuperTrendState, float, float, float], SuperTrendState]

# MACD line, signal line, fast EMA, slow EMA (sums of closes until known), sum of MACD values until the signal
# is known, closes seen (counted only until then).
MacdState: TypeAlias = tuple[float | None, float | None, float, float, float, int]
MacdStep: TypeAlias = Callable[[MacdState, float], MacdState]


@dataclass(frozen=True, slots=True)
class SuperTrend:
    """Wilder-ATR bands that only tighten, and the side of them the close is on.

    Known from candle `period` on, where the direction is down. `step(state, high, low, close)` begins at
    `start`.
    """

    period: int
    multiplier: float
    start: SuperTrendState = field(default=(0, 0.0, 0.0, 0.0, float("nan"), 0), init=False, compare=False, repr=False)
    step: SuperTrendStep = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        demand_period("SuperTrend period", self.period)
        if not 0.0 < self.multiplier < float("inf"):
            raise ValueError(f"SuperTrend multiplier must be a positive number, found {self.multiplier!r}")
        object.__setattr__(self, "step", _supertrend_step(self.period, self.multiplier))

    @staticmethod
    def direction(state: SuperTrendState) -> int:
        """+1 up, -1 down, 0 not known yet."""
        return state[0]

    @staticmethod
    def line(state: SuperTrendState) -> float | None:
        """The lower band when up, the upper band when down."""
        direction, upper, lower, *_ = state
        return None if direction == 0 else lower if direction > 0 else upper

    @staticmethod
    def atr(state: SuperTrendState) -> float | None:
        """The average true range behind the bands."""
        return state[3] if state[0] else None


@dataclass(frozen=True, slots=True)
class Macd:
    """Difference of a fast and a slow EMA, and the EMA of that difference.

    `step(state, close)` begins at `start`.
    """

    fast: int
    slow: int
    smoothing: int  # the signal line's period
    start: MacdState = field(default=(None, None, 0.0, 0.0, 0.0, 0), init=False, compare=False, repr=False)
    step: MacdStep = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        demand_macd_periods(self.fast, self.slow, self.smoothing)
        object.__setattr__(self, "step", _macd_step(self.fast, self.slow, self.smoothing))

    @staticmethod
    def macd(state: MacdState) -> float | None:
        """Fast EMA - slow EMA, from close number `slow` on."""
        return state[0]

    @staticmethod
    def signal(state: MacdState) -> float | None:
        """The EMA of the MACD line, from close number `slow + smoothing - 1` on."""
        return state[1]


def _supertrend_step(period: int, multiplier: float) -> SuperTrendStep:
    # Exact tuples and the locals of a closure make this twice as fast as the attributes of an object.
    length = float(period)
    weight = length - 1.0

    def step(state: SuperTrendState, high: float, low: float, close: float) -> SuperTrendState:
        direction, upper, lower, atr, last, seen = state
        # The largest of high - low, |high - last| and |low - last|; no last (NaN) is neither below nor above.
        if last < low:
            true_range = high - last
        elif last > high:
            true_range = last - low
        else:
            true_range = high - low
        if direction:
            atr = (atr * weight + true_range) / length
            middle = (high + low) * 0.5
            reach = multiplier * atr
            band = middle + reach
            if band < upper or last > upper:
                upper = band
            band = middle - reach
            if band > lower or last < lower:
                lower = band
            if direction > 0:
                return -1 if close < lower else 1, upper, lower, atr, close, seen
            return 1 if close > upper else -1, upper, lower, atr, close, seen
        atr += true_range
        seen += 1
        if seen < period:
            return 0, 0.0, 0.0, atr, close, seen
        atr /= length
        middle = (high + low) * 0.5
        reach = multiplier * atr
        return -1, middle + reach, middle - reach, atr, close, seen

    return step


def _macd_step(fast: int, slow: int, smoothing: int) -> MacdStep:
    fast_new, slow_new, signal_new = 2.0 / (fast + 1.0), 2.0 / (slow + 1.0), 2.0 / (smoothing + 1.0)
    fast_old, slow_old, signal_old = 1.0 - fast_new, 1.0 - slow_new, 1.0 - signal_new
    ready = slow + smoothing - 1

    def step(state: MacdState, close: float) -> MacdState:
        _, signal, fast_ema, slow_ema, seed, seen = state
        if signal is not None:
            fast_ema = fast_new * close + fast_old * fast_ema
            slow_ema = slow_new * close + slow_old * slow_ema
            macd = fast_ema - slow_ema
            return macd, signal_new * macd + signal_old * signal, fast_ema, slow_ema, 0.0, seen
        seen += 1
        fast_ema = _ema_step(fast_ema, close, seen, fast)
        slow_ema = _ema_step(slow_ema, close, seen, slow)
        if seen < slow:
            return None, None, fast_ema, slow_ema, 0.0, seen
        macd = fast_ema - slow_ema
        seed += macd
        if seen < ready:
            return macd, None, fast_ema, slow_ema, seed, seen
        return macd, seed / smoothing, fast_ema, slow_ema, 0.0, seen

    return step


def _ema_step(ema: float, value: float, seen: int, period: int) -> float:
    """The EMA after value number `seen`; before number `period` it is the sum so far."""
    if seen < period:
        return ema + value
    if seen == period:
        return (ema + value) / period
    new = 2.0 / (period + 1.0)
    return new * value + (1.0 - new) * ema


def demand_period(name: str, period: int) -> None:
    """Raises ValueError for a period below 1."""
    if period < 1:
        raise ValueError(f"{name} must be at least 1, found {period}")


def demand_macd_periods(fast: int, slow: int, smoothing: int) -> None:
    """Raises ValueError for periods without meaning."""
    demand_period("MACD fast period", fast)
    demand_period("MACD signal period", smoothing)
    if slow <= fast:
        raise ValueError(f"MACD slow period must be larger than the fast one ({fast}), found {slow}")
