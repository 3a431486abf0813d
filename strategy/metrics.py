"""How well it went: numbers over the columns of closed trades and over days.

Conventions, named because they differ in the field:
* Everything is net of charges. A draw (net exactly 0) counts as a trade; it is neither won nor lost.
* A day's return is its net P&L / the equity at the end of the day before, over every trading day of the
  period, days without a trade included. 252 days make a year; the risk-free rate is 0. Sharpe, Sortino,
  volatility, CAGR and drawdown follow quantstats, empyrical and NautilusTrader.
* What is not defined is None: never 0, infinity or a made-up number.

Money is integer paise; means of money are float paise. Ratios are fractions, not percent.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Ints: TypeAlias = NDArray[np.int64]
Floats: TypeAlias = NDArray[np.float64]

UNKNOWN = int(np.iinfo(np.int64).min)  # in a column: not known
DAYS_PER_YEAR = 252
CALMAR_DAYS_MIN = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class TradeColumns:
    """Closed trades in the order of their exits, one array per field, all equally long."""

    net_paise: Ints
    entry_at_ms: Ints
    exit_at_ms: Ints
    mae_paise: Ints | None = None  # worst open P&L while held, 0 or less; UNKNOWN where no tick was recorded
    mfe_paise: Ints | None = None  # best open P&L while held, 0 or more; likewise


@dataclass(frozen=True, slots=True, kw_only=True)
class TradeMetrics:
    """What the trades say, without regard to capital."""

    trades: int
    wins: int
    draws: int
    losses: int
    net_paise: int
    win_rate: float | None  # wins / all trades
    expectancy_paise: float | None  # mean net P&L
    expectancy_ratio: float | None  # (1 + payoff) x win rate - 1
    profit_factor: float | None  # sum of wins / sum of losses
    payoff: float | None  # mean win / mean loss
    sqn: float | None  # sqrt(n) x mean / standard deviation
    p_value: float | None  # two-sided t test of "the mean is 0"
    best_paise: int | None
    worst_paise: int | None
    longest_winning_streak: int
    longest_losing_streak: int
    drawdown_paise: int  # deepest fall of the running total from its highest point, the start included
    holding_mean_s: float | None
    holding_median_s: float | None
    mae_mean_paise: float | None
    mfe_mean_paise: float | None
    mae_worst_paise: int | None
    mfe_best_paise: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawdown:
    """A fall of equity below its highest point so far."""

    ratio: float | None  # 0.1: a tenth below the peak; None once the capital was used up
    paise: int
    peak: date | None  # None: the starting capital was the peak
    trough: date
    recovered: date | None  # None: not yet


@dataclass(frozen=True, slots=True, kw_only=True)
class DayMetrics:
    """What the days say about the capital."""

    days: int
    winning_days: int
    draw_days: int
    losing_days: int
    net_paise: int
    best_day: tuple[date, int] | None  # with its net paise
    worst_day: tuple[date, int] | None
    total_return: float | None
    cagr: float | None
    volatility: float | None
    sharpe: float | None
    sortino: float | None
    calmar: float | None  # None under 20 days
    drawdown: Drawdown | None  # the deepest as a part of its peak; None: equity never fell below its highest point
    drawdown_in_money: Drawdown | None  # the deepest in rupees, which may be another one


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """The trades of one key of a breakdown."""

    trades: int
    wins: int
    losses: int
    net_paise: int
    won_paise: int
    lost_paise: int  # 0 or more

    @property
    def win_rate(self) -> float:
        """Wins / trades."""
        return self.wins / self.trades

    @property
    def expectancy_paise(self) -> float:
        """Mean net P&L."""
        return self.net_paise / self.trades

    @property
    def profit_factor(self) -> float | None:
        """Sum of wins / sum of losses; None without a loss."""
        return self.won_paise / self.lost_paise if self.lost_paise else None


def trade_metrics(columns: TradeColumns) -> TradeMetrics:
    """Count, rate and test the trades."""
    net = columns.net_paise
    _demand_equal_lengths(columns)
    count = len(net)
    won, lost = net[net > 0], net[net < 0]
    won_paise, lost_paise = int(won.sum()), -int(lost.sum())
    win_rate = len(won) / count if count else None
    payoff = (won_paise / len(won)) / (lost_paise / len(lost)) if len(won) and len(lost) else None
    # Without a win the payoff is undefined, yet its part in the expectancy is 0.
    ratio = (1 + (payoff or 0.0)) * win_rate - 1 if win_rate is not None and len(lost) else None
    t = _t_statistic(net)
    mae, mfe = known(columns.mae_paise), known(columns.mfe_paise)
    holding_s = (columns.exit_at_ms - columns.entry_at_ms) / 1000
    return TradeMetrics(
        trades=count,
        wins=len(won),
        draws=count - len(won) - len(lost),
        losses=len(lost),
        net_paise=int(net.sum()),
        win_rate=win_rate,
        expectancy_paise=_mean(net),
        expectancy_ratio=ratio,
        profit_factor=won_paise / lost_paise if lost_paise else None,
        payoff=payoff,
        sqn=t,
        p_value=None if t is None else two_sided_p_value(t, count - 1),
        best_paise=int(net.max()) if count else None,
        worst_paise=int(net.min()) if count else None,
        longest_winning_streak=_longest_run(net > 0),
        longest_losing_streak=_longest_run(net < 0),
        drawdown_paise=_deepest_fall_paise(net),
        holding_mean_s=_mean(holding_s),
        holding_median_s=float(np.median(holding_s)) if count else None,
        mae_mean_paise=_mean(mae),
        mfe_mean_paise=_mean(mfe),
        mae_worst_paise=int(mae.min()) if len(mae) else None,
        mfe_best_paise=int(mfe.max()) if len(mfe) else None,
    )


def day_metrics(days: Sequence[date], net_paise: Ints, capital_paise: int) -> DayMetrics:
    """Returns, risk and drawdown of all trading days in order; `capital_paise` is the equity before them.

    Once the equity is used up (0 or less) returns have no meaning: all ratios are None.
    """
    if len(days) != len(net_paise):
        raise ValueError(f"expected one net P&L per day, found {len(days)} days and {len(net_paise)} values")
    if capital_paise <= 0:
        raise ValueError(f"expected a positive starting capital in paise, found {capital_paise}")
    count = len(days)
    equity = capital_paise + np.concatenate(([0], np.cumsum(net_paise)))
    solvent = bool((equity > 0).all())
    returns: Floats = net_paise / equity[:-1] if solvent else np.empty(0)
    drawdown = _drawdown(days, equity, relative=True) if solvent else None
    total_return = float((equity[-1] - capital_paise) / capital_paise)
    cagr = _yearly(total_return, count) if solvent and count else None
    best, worst = (int(net_paise.argmax()), int(net_paise.argmin())) if count else (0, 0)
    return DayMetrics(
        days=count,
        winning_days=int((net_paise > 0).sum()),
        draw_days=int((net_paise == 0).sum()),
        losing_days=int((net_paise < 0).sum()),
        net_paise=int(net_paise.sum()),
        best_day=(days[best], int(net_paise[best])) if count else None,
        worst_day=(days[worst], int(net_paise[worst])) if count else None,
        total_return=total_return if count else None,
        cagr=cagr,
        volatility=float(returns.std(ddof=1)) * math.sqrt(DAYS_PER_YEAR) if len(returns) > 1 else None,
        sharpe=_sharpe(returns),
        sortino=_sortino(returns),
        calmar=_calmar(cagr, drawdown, count),
        drawdown=drawdown,
        drawdown_in_money=_drawdown(days, equity, relative=False),
    )


def break_down(keys: Sequence[str], net_paise: Ints) -> dict[str, Part]:
    """Trades by exit reason, index, weekday, hour or whatever `keys` say of each, sorted by key."""
    if len(keys) != len(net_paise):
        raise ValueError(f"expected one key per trade, found {len(keys)} keys and {len(net_paise)} trades")
    names, positions = np.unique(np.asarray(keys, dtype=str), return_inverse=True)
    return group(positions, tuple(map(str, names)), net_paise)


def group(positions: Ints, names: Sequence[str], net_paise: Ints) -> dict[str, Part]:
    """Trades by their place in `names`; a name without a trade is left out."""
    return group_all({"": (positions, names)}, net_paise)[""]


def group_all(keys: Mapping[str, tuple[Ints, Sequence[str]]], net_paise: Ints) -> dict[str, dict[str, Part]]:
    """Several breakdowns of the same trades: for each, the trades' places and the names of the places."""
    # Draws, wins and losses of a place are three neighbouring bins.
    outcome = (net_paise > 0) + 2 * (net_paise < 0).astype(np.int64)
    # Sums of floats are exact as long as every whole number on the way has one.
    exact_as_float = len(net_paise) * int(np.abs(net_paise).max(initial=0)) < 2**53
    return {
        key: _grouped(3 * positions + outcome, names, net_paise, exact_as_float=exact_as_float)
        for key, (positions, names) in keys.items()
    }


def _grouped(bins: Ints, names: Sequence[str], net_paise: Ints, *, exact_as_float: bool) -> dict[str, Part]:
    size = 3 * len(names)
    counts = np.bincount(bins, minlength=size).reshape(-1, 3)
    if exact_as_float:
        sums = np.bincount(bins, weights=net_paise, minlength=size).astype(np.int64)
    else:
        sums = np.zeros(size, dtype=np.int64)
        np.add.at(sums, bins, net_paise)
    return {
        name: Part(
            trades=drawn + won + lost,
            wins=won,
            losses=lost,
            net_paise=gained + given,
            won_paise=gained,
            lost_paise=-given,
        )
        for name, (drawn, won, lost), (_, gained, given) in zip(
            names, counts.tolist(), sums.reshape(-1, 3).tolist(), strict=True
        )
        if drawn + won + lost
    }


def known(values: Ints | None) -> Ints:
    """The values without those that are UNKNOWN."""
    if values is None:
        return np.empty(0, dtype=np.int64)
    if not len(values) or values.min() != UNKNOWN:
        return values
    found: Ints = values[values != UNKNOWN]
    return found


def two_sided_p_value(t: float, degrees: int) -> float:
    """The chance of a t at least that far from 0 under Student's distribution with `degrees` of freedom."""
    if degrees < 1:
        raise ValueError(f"expected at least 1 degree of freedom, found {degrees}")
    return _incomplete_beta(degrees / 2, 0.5, degrees / (degrees + t * t))


def _incomplete_beta(a: float, b: float, x: float) -> float:
    """The regularised incomplete beta function I_x(a, b), by Lentz's continued fraction."""
    if x <= 0.0 or x >= 1.0:
        return 0.0 if x <= 0.0 else 1.0
    # The fraction converges fast only below the mean of the distribution; above, use the symmetry.
    if x > (a + 1) / (a + b + 2):
        return 1.0 - _incomplete_beta(b, a, 1.0 - x)
    front = math.exp(math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log1p(-x))
    tiny, c, d = 1e-300, 1.0, 1.0 - (a + b) * x / (a + 1)
    d = 1.0 / (d if abs(d) > tiny else tiny)
    fraction = d
    for m in range(1, 1_000):
        for numerator in (
            m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m)),
            -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1)),
        ):
            d = 1.0 + numerator * d
            d = 1.0 / (d if abs(d) > tiny else tiny)
            c = 1.0 + numerator / c
            c = c if abs(c) > tiny else tiny
            fraction *= c * d
        if abs(c * d - 1.0) < 1e-15:
            break
    return front * fraction / a


def _t_statistic(values: Ints) -> float | None:
    if len(values) < 2 or values.min() == values.max():
        return None
    return float(math.sqrt(len(values)) * values.mean() / values.std(ddof=1))


def _sharpe(returns: Floats) -> float | None:
    # Equal returns have no spread, though rounding may leave a standard deviation of 1e-18.
    if len(returns) < 2 or returns.min() == returns.max():
        return None
    return float(returns.mean() / returns.std(ddof=1)) * math.sqrt(DAYS_PER_YEAR)


def _sortino(returns: Floats) -> float | None:
    losing = np.minimum(returns, 0.0)
    downside = math.sqrt(float((losing * losing).mean())) if len(returns) > 1 else 0.0
    return float(returns.mean()) / downside * math.sqrt(DAYS_PER_YEAR) if downside else None


def _yearly(total_return: float, days: int) -> float | None:
    """The return of a year at the pace of `days`; None where no number can hold it.

    By logarithms of 1 + x, because a power minus 1 loses the digits of a small return.
    """
    try:
        return math.expm1(DAYS_PER_YEAR / days * math.log1p(total_return))
    except OverflowError:
        return None


def _calmar(cagr: float | None, drawdown: Drawdown | None, days: int) -> float | None:
    if cagr is None or drawdown is None or not drawdown.ratio or days < CALMAR_DAYS_MIN:
        return None
    return cagr / drawdown.ratio


def _drawdown(days: Sequence[date], equity: Ints, *, relative: bool) -> Drawdown | None:
    """`equity` has one value more than there are days: the start."""
    peaks = np.maximum.accumulate(equity)
    below = (peaks - equity) / peaks if relative else peaks - equity
    trough = int(below.argmax())
    if not below[trough]:
        return None
    peak = int((equity[:trough] == peaks[trough]).argmax())
    later = equity[trough:] >= peaks[trough]
    return Drawdown(
        ratio=float((peaks[trough] - equity[trough]) / peaks[trough]) if (equity > 0).all() else None,
        paise=int(peaks[trough] - equity[trough]),
        peak=days[peak - 1] if peak else None,
        trough=days[trough - 1],
        recovered=days[trough + int(later.argmax()) - 1] if later.any() else None,
    )


def _deepest_fall_paise(net_paise: Ints) -> int:
    total = np.concatenate(([0], np.cumsum(net_paise)))
    return int((np.maximum.accumulate(total) - total).max())


def _longest_run(flags: NDArray[np.bool_]) -> int:
    edges = np.flatnonzero(np.diff(np.concatenate(([0], flags.astype(np.int8), [0]))))
    return int((edges[1::2] - edges[::2]).max(initial=0))


def _mean(values: NDArray[np.int64] | NDArray[np.float64]) -> float | None:
    return float(values.mean()) if len(values) else None


def _demand_equal_lengths(columns: TradeColumns) -> None:
    lengths = {
        name: len(column)
        for name in ("net_paise", "entry_at_ms", "exit_at_ms", "mae_paise", "mfe_paise")
        if (column := getattr(columns, name)) is not None
    }
    if len(set(lengths.values())) > 1:
        raise ValueError(f"expected equally long columns of trades, found {lengths}")
