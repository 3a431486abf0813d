"""What one combination of a sweep came to: plain numbers, small enough to keep by the million.

Money is integer paise. `sharpe` is per day, not per year: it is what the overfit test needs.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

import numpy as np

from strategy.kernel import COLUMNS
from strategy.metrics import Ints, TradeColumns, trade_metrics

_DAY, _ENTRY, _EXIT, _GROSS, _CHARGES, _NET = (
    COLUMNS.index(name) for name in ("day", "entry_ms", "exit_ms", "gross_paise", "charges_paise", "net_paise")
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """The result of one combination."""

    key: str
    days: int
    trades: int
    wins: int
    gross_paise: int
    charges_paise: int
    net_paise: int
    drawdown_paise: int
    profit_factor: float | None
    p_value: float | None
    sharpe: float | None  # mean / deviation of the day's net
    skew: float | None
    kurtosis: float | None  # 3 for a normal distribution
    months: dict[str, int]  # net by month, "2024-01"


def outcome_of(key: str, trades: Ints, days: Sequence[date]) -> Outcome:
    """The numbers of the kernel's trades over these days, days without a trade included."""
    columns = TradeColumns(net_paise=trades[:, _NET], entry_at_ms=trades[:, _ENTRY], exit_at_ms=trades[:, _EXIT])
    metrics = trade_metrics(columns)
    daily = daily_net(trades, len(days))
    months: defaultdict[str, int] = defaultdict(int)
    for day, net in zip(days, daily.tolist(), strict=True):
        months[f"{day:%Y-%m}"] += net
    sharpe, skew, kurtosis = moments(daily)
    return Outcome(
        key=key,
        days=len(days),
        trades=metrics.trades,
        wins=metrics.wins,
        gross_paise=int(trades[:, _GROSS].sum()),
        charges_paise=int(trades[:, _CHARGES].sum()),
        net_paise=metrics.net_paise,
        drawdown_paise=metrics.drawdown_paise,
        profit_factor=metrics.profit_factor,
        p_value=metrics.p_value,
        sharpe=sharpe,
        skew=skew,
        kurtosis=kurtosis,
        months=dict(months),
    )


def daily_net(trades: Ints, days: int) -> Ints:
    """What the kernel's trades made on each of the first so many days, paise."""
    daily = np.zeros(days, dtype=np.int64)
    np.add.at(daily, trades[:, _DAY], trades[:, _NET])
    return daily


def moments(daily: Ints) -> tuple[float | None, float | None, float | None]:
    """Sharpe ratio, skewness and kurtosis of the days; None where all days are alike."""
    if len(daily) < 2 or daily.min() == daily.max():
        return None, None, None
    away = daily - daily.mean()
    deviation = float(np.sqrt((away * away).mean()))
    return (
        float(daily.mean() / daily.std(ddof=1)),
        float((away**3).mean() / deviation**3),
        float((away**4).mean() / deviation**4),
    )
