"""Walk-forward: settings are chosen on a window of days, traded on the days after it, and the window moves on.

    fit ........................ trade ......
                fit ........................ trade ......
                            fit ........................ trade ......

The traded stretches put together are what somebody would have got who chose anew each time by what was known then.

Invariants:
1. A choice depends on the days of its fit, and on earlier ones through the indicators; never on a later one.
2. Each day after the first fit is traded once, by the live rules.
3. The combinations are compared by the Sharpe ratio of days, as a sweep ranks them.
"""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from strategy.instruments import INDICES
from strategy.params import Params
from tasks.backtest.compiled import CompiledMarket
from tasks.backtest.grid import Combination, Grid
from tasks.backtest.market import PastDay, past_market
from tasks.backtest.outcome import daily_net, moments
from tasks.backtest.prices import read_days
from tasks.backtest.replay import DayRun
from tasks.backtest.result import BacktestResult, Walk, result_of
from tasks.backtest.run import DAYS_BEFORE, replay_days

Nets: TypeAlias = NDArray[np.int64]  # a row per combination, a column per day, paise
Hear = Callable[[str, int, int], None]  # (what, so many, of so many)


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """Days by number: [fit, trade) is fitted, [trade, until) traded."""

    fit: int
    trade: int
    until: int


def windows_of(days: int, fit_days: int, trade_days: int) -> Iterator[Window]:
    """All windows of so many days; the last one may trade fewer. ValueError where there is none."""
    if fit_days < 2 or trade_days < 1:
        raise ValueError(f"expected at least 2 days to fit and 1 to trade, found {fit_days} and {trade_days}")
    if days <= fit_days:
        raise ValueError(f"expected more than the {fit_days} days of a fit, found {days}; fit fewer or record more")
    for trade in range(fit_days, days, trade_days):
        yield Window(fit=trade - fit_days, trade=trade, until=min(trade + trade_days, days))


def walk_forward(grid: Grid, *, fit_days: int, trade_days: int, hear: Hear | None = None) -> BacktestResult:
    """Walk the grid's combinations over its days. ValueError, RecordingError."""
    index = INDICES[grid.params(grid.combinations[0]).index]
    recorded = read_days(grid.files, index.underlying, index.security)
    market = past_market(recorded, index.underlying, first=grid.first, last=grid.last)
    windows = list(windows_of(len(market.days), fit_days, trade_days))
    compiled = CompiledMarket(market.days, grid.model, before=market.before[-DAYS_BEFORE:])
    nets = nets_of(grid, compiled, hear)
    history = (*market.before, *market.days)
    runs: list[DayRun] = []
    walks: list[Walk] = []
    for window in windows:
        number, sharpe = best_of(nets[:, window.fit : window.trade], grid.combinations)
        params = grid.params(grid.combinations[number])
        first = len(market.before) + window.trade
        told = _told(hear, len(runs), len(market.days) - fit_days)
        traded = replay_days(
            market.days[window.trade : window.until], params, grid.model, before=history[:first], progress=told
        )
        walks.append(_walk(market.days, window, grid.combinations[number].chosen, nets[number], sharpe, traded))
        runs += traded
    found = result_of(runs, replace(market, days=market.days[fit_days:]), _last(grid, walks), grid.model)
    return replace(
        found,
        walks=tuple(walks),
        assumptions=(
            f"each stretch has the best of {len(grid.combinations)} combinations on the {fit_days} days before it",
            *found.assumptions,
        ),
    )


def nets_of(grid: Grid, compiled: CompiledMarket, hear: Hear | None = None) -> Nets:
    """What each combination made on each day."""
    days = len(compiled.days) - compiled.warming
    nets = np.zeros((len(grid.combinations), days), dtype=np.int64)

    def one(number: int) -> int:
        nets[number] = daily_net(compiled.trades(grid.params(grid.combinations[number])), days)
        return number

    with ThreadPoolExecutor(max_workers=os.cpu_count() or 1) as pool:
        for done, _ in enumerate(pool.map(one, range(len(nets))), 1):
            if hear is not None:
                hear("combinations", done, len(nets))
    return nets


def best_of(nets: Nets, combinations: Sequence[Combination]) -> tuple[int, float | None]:
    """The row with the best Sharpe ratio of days, and the ratio; equal ones by net and then by key, as in a ranking."""
    sharpes = [moments(row)[0] for row in nets]
    order = sorted(
        range(len(nets)),
        key=lambda row: (
            sharpes[row] is None,
            -(sharpes[row] or 0.0),
            -int(nets[row].sum()),
            combinations[row].key,
        ),
    )
    return order[0], sharpes[order[0]]


def _walk(  # noqa: PLR0917 (one call)
    days: Sequence[PastDay],
    window: Window,
    chosen: Mapping[str, Any],
    nets: Nets,
    sharpe: float | None,
    traded: Sequence[DayRun],
) -> Walk:
    return Walk(
        fit_first=days[window.fit].day,
        fit_last=days[window.trade - 1].day,
        fit_net_paise=int(nets[window.fit : window.trade].sum()),
        fit_days=window.trade - window.fit,
        fit_sharpe=sharpe,
        chosen=dict(chosen),
        first=days[window.trade].day,
        last=days[window.until - 1].day,
        days=window.until - window.trade,
        trades=sum(len(run.trades) for run in traded),
        net_paise=sum(trade.net_paise for run in traded for trade in run.trades),
    )


def _last(grid: Grid, walks: Sequence[Walk]) -> Params:
    return Params.model_validate({**grid.settings, **walks[-1].chosen})


def _told(hear: Hear | None, before: int, days: int) -> Callable[[int, int, DayRun], None] | None:
    if hear is None:
        return None
    return lambda done, _of, _run: hear("days", before + done, days)
