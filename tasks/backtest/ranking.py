"""A sweep read as a trader would: the best first, and every reason not to believe it.

The warning is the deflated Sharpe ratio (Bailey and López de Prado, 2014): the chance that the best of N tries has a
true Sharpe ratio above what the best of N worthless tries would show. The number of tries is taken as it is; tries that
resemble each other make the test too strict, never too lenient.

Invariants:
1. The order depends on the outcomes alone.
2. A neighbour differs in one setting by one step of its axis, and in what it traded.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import e, inf, sqrt
from statistics import NormalDist, fmean, pvariance
from typing import Any, Final

from tasks.backtest.outcome import Outcome
from tasks.pages.money import render_rupees

EULER_GAMMA: Final = 0.5772156649015329
BELIEVABLE: Final = 0.95
MONTH_SHARE: Final = 0.75
_NORMAL = NormalDist()
Chosen = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranked:
    """One combination with what speaks for and against it."""

    outcome: Outcome
    chosen: Chosen
    neighbours: int
    neighbours_winning: int
    neighbours_net_paise: float | None  # mean
    around_sharpe: float | None  # mean of its own Sharpe ratio and its neighbours'; None: nobody beside it
    months: int
    months_winning: int
    best_month_share: float | None  # of the net: near or above 1, a single month made it
    believable: float | None  # deflated Sharpe ratio, a probability


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranking:
    """All of a sweep, the best first."""

    rows: tuple[Ranked, ...]
    tried: int
    winning: int
    axes: Mapping[str, tuple[Any, ...]]
    idle: tuple[str, ...] = ()  # settings that changed no result

    @property
    def plateau(self) -> Ranked | None:
        """The best together with its neighbours: what is good only at one point of the grid is luck of that point."""
        beside = [row for row in self.rows if row.around_sharpe is not None]
        return max(beside, key=lambda row: row.around_sharpe or 0.0, default=None)

    @property
    def advice(self) -> tuple[str, ...]:
        """What to look at, for people: the warning, the best with all beside it, and what a single month made."""
        lines = [self.warning]
        if self.idle:
            lines.append(f"{', '.join(self.idle)} changed no result: leave it out, its values are one and the same")
        best, plateau = (self.rows[0] if self.rows else None), self.plateau
        if best is not None and best.best_month_share is not None and best.best_month_share > MONTH_SHARE:
            share = f"{100 * best.best_month_share:.0f} %"
            lines.append(f"one month made {share} of the best one's net: without it there is little left")
        if plateau is not None and plateau is not best:
            settings = ", ".join(f"{name} {plateau.chosen[name]}" for name in self.axes)
            lines.append(
                f"the best together with its neighbours is {settings}: {render_whole(plateau.outcome.net_paise)} net,"
                f" {plateau.neighbours_winning} of {plateau.neighbours} neighbours made money"
            )
        return tuple(lines)

    @property
    def warning(self) -> str:
        """What to think of the best one."""
        best = self.rows[0] if self.rows else None
        chance = best.believable if best is not None else None
        share = f"{self.winning} of {self.tried} combinations made money"
        if chance is None:
            return f"{share}; nothing can be said about the best one: its days are all alike"
        if chance >= BELIEVABLE:
            return f"{share}; the best of {self.tried} tries still stands out: {100 * chance:.1f} % that it is no luck"
        return (
            f"{share}; overfit: as the best of {self.tried} tries it is no more than luck would show"
            f" ({100 * chance:.1f} % that it is real; {100 * BELIEVABLE:.0f} % would be believable)"
        )


def rank(found: Sequence[tuple[Outcome, Chosen]], axes: Mapping[str, tuple[Any, ...]]) -> Ranking:
    """The best by Sharpe ratio first, those without one last; equal ones by net and then by key."""
    by_place = {_place(chosen, axes): outcome for outcome, chosen in found}
    different = {name: False for name, values in axes.items() if len(values) > 1}
    sharpes = [outcome.sharpe for outcome, _ in found if outcome.sharpe is not None]
    rows = [
        _ranked(outcome, chosen, _beside(outcome, chosen, axes, by_place, different), sharpes)
        for outcome, chosen in found
    ]
    rows.sort(key=_order)
    return Ranking(
        rows=tuple(rows),
        tried=len(rows),
        winning=sum(row.outcome.net_paise > 0 for row in rows),
        axes=axes,
        idle=tuple(name for name, matters in different.items() if not matters),
    )


def _order(row: Ranked) -> tuple[float, int, str]:
    sharpe = row.outcome.sharpe
    return (inf if sharpe is None else -sharpe, -row.outcome.net_paise, row.outcome.key)


def deflated_sharpe(outcome: Outcome, sharpes: Sequence[float]) -> float | None:
    """The chance that this outcome's Sharpe ratio is above the best that so many worthless tries would show."""
    if outcome.sharpe is None or outcome.skew is None or outcome.kurtosis is None or outcome.days < 2:
        return None
    spread = 1 - outcome.skew * outcome.sharpe + (outcome.kurtosis - 1) / 4 * outcome.sharpe**2
    if spread <= 0:
        return None
    return _NORMAL.cdf((outcome.sharpe - luck_of(sharpes)) * sqrt(outcome.days - 1) / sqrt(spread))


def luck_of(sharpes: Sequence[float]) -> float:
    """The Sharpe ratio expected of the best of so many tries that are all worth nothing."""
    tries = len(sharpes)
    if tries < 2:
        return 0.0
    first, second = _NORMAL.inv_cdf(1 - 1 / tries), _NORMAL.inv_cdf(1 - 1 / (tries * e))
    return sqrt(pvariance(sharpes)) * ((1 - EULER_GAMMA) * first + EULER_GAMMA * second)


def render_ranking(ranking: Ranking, *, most: int = 20) -> list[list[str]]:
    """The first rows as text, the header first."""
    header = [
        *ranking.axes,
        "trades",
        "won",
        "net",
        "profit factor",
        "Sharpe/year",
        "fall",
        "months",
        "neighbours",
        "real",
    ]
    table = [header]
    for row in ranking.rows[:most]:
        outcome = row.outcome
        table.append(
            [
                *(str(row.chosen[name]) for name in ranking.axes),
                str(outcome.trades),
                f"{100 * outcome.wins / outcome.trades:.0f} %" if outcome.trades else "–",
                render_whole(outcome.net_paise),
                "–" if outcome.profit_factor is None else f"{outcome.profit_factor:.2f}",
                "–" if outcome.sharpe is None else f"{outcome.sharpe * sqrt(252):.2f}",
                render_whole(outcome.drawdown_paise).removeprefix("+"),
                f"{row.months_winning} of {row.months}",
                f"{row.neighbours_winning} of {row.neighbours}",
                "–" if row.believable is None else f"{100 * row.believable:.1f} %",
            ]
        )
    return table


def render_months(ranking: Ranking, *, most: int = 20) -> tuple[list[str], list[list[int]]]:
    """The months of a sweep and what each of the first rows made in them, paise."""
    months = sorted({month for row in ranking.rows for month in row.outcome.months})
    return months, [[row.outcome.months.get(month, 0) for month in months] for row in ranking.rows[:most]]


def render_whole(paise: int) -> str:
    """An amount in whole rupees with its sign: in a table paise are noise."""
    return render_rupees(round(paise / 100) * 100, signed=True).removesuffix(".00")


def _ranked(outcome: Outcome, chosen: Chosen, neighbours: Sequence[Outcome], sharpes: Sequence[float]) -> Ranked:
    months = outcome.months
    return Ranked(
        outcome=outcome,
        chosen=chosen,
        neighbours=len(neighbours),
        neighbours_winning=sum(one.net_paise > 0 for one in neighbours),
        neighbours_net_paise=fmean(one.net_paise for one in neighbours) if neighbours else None,
        around_sharpe=fmean(one.sharpe or 0.0 for one in (outcome, *neighbours)) if neighbours else None,
        months=len(months),
        months_winning=sum(net > 0 for net in months.values()),
        best_month_share=max(months.values()) / outcome.net_paise if months and outcome.net_paise > 0 else None,
        believable=deflated_sharpe(outcome, sharpes),
    )


def _place(chosen: Chosen, axes: Mapping[str, tuple[Any, ...]]) -> tuple[int, ...]:
    """Where a combination lies on the axes; values are compared as text, because results come back from a file."""
    return tuple(_positions(values)[str(chosen[name])] for name, values in axes.items())


def _positions(values: tuple[Any, ...]) -> dict[str, int]:
    return {str(value): number for number, value in enumerate(values)}


def _beside(
    outcome: Outcome,
    chosen: Chosen,
    axes: Mapping[str, tuple[Any, ...]],
    by_place: Mapping[tuple[int, ...], Outcome],
    different: dict[str, bool],
) -> list[Outcome]:
    """The neighbours of a combination; one that traded the very same is itself once more, and no witness.

    Notes in `different` which axes made a difference.
    """
    place, found = _place(chosen, axes), []
    for axis, name in enumerate(axes):
        for away in (-1, 1):
            other = by_place.get((*place[:axis], place[axis] + away, *place[axis + 1 :]))
            if other is not None and replace(other, key=outcome.key) != outcome:
                different[name] = True
                found.append(other)
    return found
