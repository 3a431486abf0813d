"""Does a decision know the future? And how much past do the signals need?

The first question is answered by cutting days off: what was said until then must be what the whole day says. Half of
the cuts are at random ticks, half right after something was decided: who looks only a tick ahead is found by those. The
second by starting the indicators at random candles: from how many candles on do they agree for good with those that saw
all of the history?

Invariants:
1. The same days, settings and seed ask the same questions.
2. A difference is shown with its day, its tick and both decisions.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import date

import numpy as np

from strategy.actions import Enter, Exit, StopMoved
from strategy.candles import Candle
from strategy.params import Params
from strategy.signals import Signals, apply_candle, no_signals
from tasks.backtest.market import MarketModel, PastDay
from tasks.backtest.replay import Told, day_candles, replay_day
from tasks.clock import ist

Replay = Callable[[PastDay], tuple[Told, ...]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """A decision that the rest of the day has changed."""

    day: date
    until_ms: int
    cut: Told | None  # what the cut day said, None: nothing more
    whole: Told | None

    def __str__(self) -> str:
        """One line for people."""
        cut, whole = (_said(one) for one in (self.cut, self.whole))
        return f"{self.day} cut after {ist(self.until_ms):%H:%M:%S}: {cut}; the whole day: {whole}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Lookahead:
    """The answer to the first question."""

    cuts: int
    decisions: int  # compared, over all cuts
    differences: tuple[Difference, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class WarmUp:
    """The answer to the second: candles until the signals agree for good."""

    starts: int
    median: int
    largest: int
    never: int  # starts after which they did not agree within the candles there were


def check_lookahead(
    days: Sequence[PastDay], params: Params, model: MarketModel, *, cuts: int, seed: int, replay: Replay | None = None
) -> Lookahead:
    """Cut each day `cuts` times and compare what was said until the cut."""
    run = replay or (lambda past: replay_day(past, params, model, keep=True).told)
    dice = np.random.Generator(np.random.PCG64(seed))
    found: list[Difference] = []
    compared = asked = 0
    for past in days:
        whole = run(past)
        for cut in _cuts(past, whole, cuts, dice):
            until_ms = int(past.recorded.at_ms[cut - 1])
            shown = run(replace(past, recorded=past.recorded.part(slice(0, cut))))
            before = [said for said in shown if said.at_ms <= until_ms]
            expected = [said for said in whole if said.at_ms <= until_ms]
            asked += 1
            compared += len(expected)
            difference = _first_difference(before, expected)
            if difference is not None:
                found.append(Difference(day=past.day, until_ms=until_ms, cut=difference[0], whole=difference[1]))
    return Lookahead(cuts=asked, decisions=compared, differences=tuple(found))


def _cuts(past: PastDay, whole: Sequence[Told], cuts: int, dice: np.random.Generator) -> list[int]:
    """How many ticks are left of the day by each cut, ascending."""
    at_ms = past.recorded.at_ms
    found = dice.integers(1, len(at_ms), cuts - cuts // 2).tolist()
    acted = [said.at_ms for said in whole if isinstance(said, Enter | Exit | StopMoved)]
    decided = acted or [said.at_ms for said in whole]
    chosen = dice.choice(decided, cuts // 2).tolist() if decided else []
    # The tick on which it was decided is the last one that is left.
    found += [int(np.searchsorted(at_ms, moment, side="right")) for moment in chosen]
    return sorted(max(1, cut) for cut in found)


def check_warm_up(days: Sequence[PastDay], params: Params, *, starts: int, seed: int) -> WarmUp:
    """Start the indicators at random candles and count until they agree for good with the full history of the days."""
    candles = [candle for past in days for candle in day_candles(past, params.candle_seconds)]
    full = _answers(candles, params)
    dice = np.random.Generator(np.random.PCG64(seed))
    needed, never = [], 0
    for first in sorted(dice.integers(1, max(2, len(candles) // 2), starts).tolist()):
        late = _answers(candles[first:], params)
        differing = [number for number, (one, other) in enumerate(zip(late, full[first:], strict=True)) if one != other]
        count = differing[-1] + 1 if differing else 0
        if count >= len(late):
            never += 1
        else:
            needed.append(count)
    return WarmUp(
        starts=starts,
        median=int(np.median(needed)) if needed else 0,
        largest=max(needed, default=0),
        never=never,
    )


def _said(one: Told | None) -> str:
    if one is None:
        return "nothing more"
    facts = ", ".join(
        f"{name} {getattr(one, name)}"
        for name in ("reason", "reference_paise", "stop_paise", "close_paise", "supertrend")
        if hasattr(one, name)
    )
    return f"{ist(one.at_ms):%H:%M:%S} {type(one).__name__}" + (f" ({facts})" if facts else "")


def _answers(candles: Sequence[Candle], params: Params) -> list[tuple[int, int, int]]:
    """What each signal says after each candle: SuperTrend, MACD's side, the higher timeframe; 0 is not known."""
    signals: Signals = no_signals(params)
    answers = []
    for candle in candles:
        signals = apply_candle(signals, candle, closed_by_ms=candle.end_ms, params=params)
        macd, line = signals.macd_points, signals.macd_signal_points
        side = 0
        if params.macd_confirmation and macd is not None and line is not None:
            side = 1 if macd >= line else -1
        answers.append((signals.direction, side, signals.htf_direction))
    return answers


def _first_difference(one: Sequence[Told], other: Sequence[Told]) -> tuple[Told | None, Told | None] | None:
    for number in range(max(len(one), len(other))):
        left = one[number] if number < len(one) else None
        right = other[number] if number < len(other) else None
        if left != right:
            return left, right
    return None
