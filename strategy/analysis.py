"""Everything that is asked of a set of closed trades, as one value: `analyse` is the function, `Analysis` the answer.

Invariants:
1. The groups of a breakdown add up to the whole, to the paisa.
2. What is not defined is None.

Days count from the first to the last session that the filter leaves, trading days without a session included.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date

import numpy as np

from strategy.closed_trades import OPTION_TYPES, ClosedTrades, TradeFilter
from strategy.metrics import DayMetrics, Ints, Part, TradeColumns, TradeMetrics, day_metrics, group_all, trade_metrics

WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")


@dataclass(frozen=True, slots=True, kw_only=True)
class CostMetrics:
    """What trading cost. Money of all trades together, paise."""

    turnover_paise: int  # bought + sold
    gross_paise: int
    charges_paise: int
    charges_of_turnover: float | None
    charges_of_gross: float | None  # of the gross profit; None without one


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecutionMetrics:
    """How decisions became fills. Slippage counts against the price at the decision: above 0 it cost money."""

    slippage_paise: int | None  # of all trades together, entries and exits
    entry_slippage_mean_paise: float | None  # per trade
    exit_slippage_mean_paise: float | None
    slippage_points: float | None  # rupees per unit traded, entries and exits
    entry_delay_median_s: float | None  # from the decision to the last fill
    entry_delay_worst_s: float | None
    exit_delay_median_s: float | None
    exit_delay_worst_s: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Equity:
    """The capital at the end of each day; one value per day in each column."""

    days: tuple[date, ...]
    net_paise: Ints
    equity_paise: Ints
    drawdown_paise: Ints  # below the highest point so far, the start included


@dataclass(frozen=True, slots=True, kw_only=True)
class Analysis:
    """The answer. `groups` are by index, mode, direction, exit_reason, weekday, hour, expiry_day and month."""

    wanted: TradeFilter
    capital_paise: int
    sessions: int
    trades: TradeMetrics
    days: DayMetrics
    costs: CostMetrics
    execution: ExecutionMetrics
    groups: Mapping[str, Mapping[str, Part]]
    equity: Equity
    refusals: Mapping[str, int]  # why candles were no entries; by date, index and mode alone


def analyse(
    trades: ClosedTrades,
    days: Sequence[date],
    *,
    wanted: TradeFilter,
    capital_paise: int,
    refusals: Mapping[str, int] | None = None,
) -> Analysis:
    """Measure the trades that `wanted` leaves over `days` (ascending; every day of a chosen trade is among them)."""
    chosen = trades.select(wanted)
    net = chosen.net_paise
    net_by_day = _by_day(chosen, days)
    equity = capital_paise + np.cumsum(net_by_day)
    # The start is a peak as well: the first loss is a drawdown.
    peaks = np.maximum.accumulate(np.concatenate(([capital_paise], equity)))[1:]
    order = _exit_order(chosen)
    return Analysis(
        wanted=wanted,
        capital_paise=capital_paise,
        sessions=sum(wanted.admits(session) for session in trades.sessions),
        trades=trade_metrics(
            TradeColumns(
                net_paise=net if order is None else net[order],
                entry_at_ms=chosen.column("entry_at_ms"),
                exit_at_ms=chosen.column("exit_at_ms"),
                mae_paise=chosen.column("mae_paise"),
                mfe_paise=chosen.column("mfe_paise"),
            )
        ),
        days=day_metrics(days, net_by_day, capital_paise),
        costs=_costs(chosen),
        execution=_execution(chosen),
        groups=_groups(chosen),
        equity=Equity(
            days=tuple(days), net_paise=net_by_day, equity_paise=equity, drawdown_paise=np.asarray(peaks - equity)
        ),
        refusals=dict(sorted((refusals or {}).items(), key=lambda item: (-item[1], item[0]))),
    )


def _exit_order(chosen: ClosedTrades) -> Ints | None:
    """The trades in the order of their exits, on which streaks and drawdown depend; None where they are in it."""
    exits = chosen.column("exit_at_ms")
    return None if bool((exits[1:] >= exits[:-1]).all()) else np.argsort(exits, kind="stable")


def _by_day(chosen: ClosedTrades, days: Sequence[date]) -> Ints:
    place = {day: number for number, day in enumerate(days)}
    of_session = np.array([place.get(session.day, -1) for session in chosen.sessions], dtype=np.int64)
    net = np.zeros(len(days), dtype=np.int64)
    if len(chosen):
        positions = of_session[chosen.session]
        if positions.min() < 0:
            raise ValueError("expected every day of a chosen trade among the days, found a trade on another one")
        np.add.at(net, positions, chosen.net_paise)
    return net


def _costs(chosen: ClosedTrades) -> CostMetrics:
    turnover = int(chosen.column("buy_value_paise").sum() + chosen.column("sell_value_paise").sum())
    gross, charges = int(chosen.gross_paise.sum()), int(chosen.column("charges_paise").sum())
    return CostMetrics(
        turnover_paise=turnover,
        gross_paise=gross,
        charges_paise=charges,
        charges_of_turnover=charges / turnover if turnover else None,
        charges_of_gross=charges / gross if gross > 0 else None,
    )


def _execution(chosen: ClosedTrades) -> ExecutionMetrics:
    entry, leaving = chosen.known("entry_slippage_paise"), chosen.known("exit_slippage_paise")
    unknown = len(chosen) - len(entry), len(chosen) - len(leaving)
    complete = unknown == (0, 0) and len(chosen) > 0
    total = int(entry.sum() + leaving.sum()) if complete else None
    units = 2 * int(chosen.column("quantity").sum(dtype=np.int64))
    return ExecutionMetrics(
        slippage_paise=total,
        entry_slippage_mean_paise=float(entry.mean()) if len(entry) else None,
        exit_slippage_mean_paise=float(leaving.mean()) if len(leaving) else None,
        slippage_points=total / units / 100 if total is not None and units else None,
        entry_delay_median_s=_median_s(chosen.known("entry_delay_ms")),
        entry_delay_worst_s=_worst_s(chosen.known("entry_delay_ms")),
        exit_delay_median_s=_median_s(chosen.known("exit_delay_ms")),
        exit_delay_worst_s=_worst_s(chosen.known("exit_delay_ms")),
    )


def _groups(chosen: ClosedTrades) -> dict[str, dict[str, Part]]:
    keys: dict[str, tuple[Ints, tuple[str, ...]]] = {
        "index": chosen.codes([session.index for session in chosen.sessions]),
        "mode": chosen.codes([session.mode for session in chosen.sessions]),
        "direction": (chosen.column("put").astype(np.int64), OPTION_TYPES),
        "exit_reason": (chosen.column("reason").astype(np.int64), chosen.reasons),
        "weekday": (chosen.weekday, WEEKDAYS),
        "hour": (chosen.entry_hour, tuple(f"{hour:02}" for hour in range(24))),
        "expiry_day": (chosen.on_expiry_day.astype(np.int64), ("other days", "expiry day")),
        "month": chosen.codes([f"{session.day:%Y-%m}" for session in chosen.sessions]),
    }
    return group_all(keys, chosen.net_paise)


def _median_s(delays_ms: Ints) -> float | None:
    return float(np.median(delays_ms)) / 1000 if len(delays_ms) else None


def _worst_s(delays_ms: Ints) -> float | None:
    return int(delays_ms.max()) / 1000 if len(delays_ms) else None
