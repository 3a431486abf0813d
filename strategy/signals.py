"""What the indicators say after each closed candle, on the base and on the higher timeframe.

Invariants:
1. Values depend on the closed candles alone, not on when or by what they were closed.
2. When a base candle and the longer candle around it close at the same moment, the longer one speaks first.
3. Warm-up and trading are the same function.

Indicators see index points (rupees), as charts do.
"""

from collections.abc import Iterable
from typing import NamedTuple

from strategy.candles import Candle, is_leap, merge
from strategy.indicators import Macd, MacdState, SuperTrend, SuperTrendState
from strategy.params import Params


class Signals(NamedTuple):
    """Indicator states, and the candle they were last fed. Directions: +1 up, -1 down, 0 not known yet."""

    supertrend: SuperTrendState
    macd: MacdState
    htf_supertrend: SuperTrendState
    htf_candle: Candle | None = None  # the longer candle so far
    candle: Candle | None = None  # the last closed base candle
    flipped: bool = False  # SuperTrend changed direction on that candle

    @property
    def direction(self) -> int:
        """SuperTrend of the base timeframe."""
        return SuperTrend.direction(self.supertrend)

    @property
    def htf_direction(self) -> int:
        """SuperTrend of the higher timeframe."""
        return SuperTrend.direction(self.htf_supertrend)

    @property
    def line_points(self) -> float | None:
        """SuperTrend's line."""
        return SuperTrend.line(self.supertrend)

    @property
    def macd_points(self) -> float | None:
        """The MACD line."""
        return Macd.macd(self.macd)

    @property
    def macd_signal_points(self) -> float | None:
        """The MACD's signal line."""
        return Macd.signal(self.macd)


def no_signals(params: Params) -> Signals:
    """Before the first candle."""
    return Signals(supertrend=params.supertrend.start, macd=params.macd.start, htf_supertrend=params.supertrend.start)


def apply_candle(signals: Signals, candle: Candle, *, closed_by_ms: int, params: Params) -> Signals:
    """After a closed base candle. `closed_by_ms`: the tick's time, or the clock's less the grace."""
    signals = close_htf(signals, candle.start_ms, params)
    longer = merge(signals.htf_candle, candle, params.htf_seconds) if params.htf_filter else None
    signals = close_htf(signals._replace(htf_candle=longer), closed_by_ms, params)
    close_points = candle.close_paise / 100
    supertrend = params.supertrend.step(
        signals.supertrend, candle.high_paise / 100, candle.low_paise / 100, close_points
    )
    return signals._replace(
        supertrend=supertrend,
        macd=params.macd.step(signals.macd, close_points),
        candle=candle,
        flipped=signals.direction * SuperTrend.direction(supertrend) < 0,
    )


def close_htf(signals: Signals, closed_by_ms: int, params: Params) -> Signals:
    """The signals once the longer candle is over, if it is."""
    longer = signals.htf_candle
    if longer is None or closed_by_ms < longer.end_ms:
        return signals
    return signals._replace(htf_supertrend=_step_htf(signals.htf_supertrend, longer, params), htf_candle=None)


def warm_up(candles: Iterable[Candle], params: Params) -> Signals:
    """The signals after closed candles of the base or the higher timeframe, oldest first within each.

    Base candles that candles of the higher timeframe already cover do not count there twice. Where a level proved to
    be an error (`strategy.candles`), all begins anew, as it did then.
    """
    signals = no_signals(params)
    base = []
    covered_until_ms = 0
    for candle in candles:
        if candle.seconds == params.candle_seconds:
            base.append(candle)
        elif candle.seconds == params.htf_seconds:
            signals = signals._replace(htf_supertrend=_step_htf(signals.htf_supertrend, candle, params))
            covered_until_ms = candle.end_ms
        else:
            raise ValueError(
                f"warm-up candles must be of {params.candle_seconds} or {params.htf_seconds} seconds, "
                f"found {candle.seconds}"
            )
    for candle in base:
        if signals.candle is not None and is_leap(candle.open_paise, signals.candle.close_paise):
            signals = no_signals(params)
        htf = signals.htf_supertrend
        signals = apply_candle(signals, candle, closed_by_ms=candle.end_ms, params=params)
        if candle.start_ms < covered_until_ms:
            signals = signals._replace(htf_supertrend=htf, htf_candle=None)
    return signals


def _step_htf(state: SuperTrendState, candle: Candle, params: Params) -> SuperTrendState:
    return params.supertrend.step(state, candle.high_paise / 100, candle.low_paise / 100, candle.close_paise / 100)
