"""What a backtest came to, and what it must admit about itself.

`to_json` is for programs: money is integer paise, times are ISO 8601 in IST, ratios are fractions.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import date
from statistics import fmean
from typing import Any, Final

import numpy as np

from strategy.metrics import DayMetrics, Ints, TradeColumns, TradeMetrics, break_down, day_metrics, trade_metrics
from strategy.params import Params
from strategy.position import Trade
from tasks.backtest.market import MarketModel, PastMarket
from tasks.backtest.replay import MODELLED, DayRun
from tasks.clock import ist
from tasks.pages.money import average_paise, render_rupees

CAPITAL_PAISE: Final = 5_00_000_00
BOOTSTRAP_ROUNDS: Final = 5_000
BOOTSTRAP_SEED: Final = 20_260_101
# Settings that only matter where orders can miss; here every order fills.
UNUSED_SETTINGS: Final = (
    "mode",
    "product",
    "order_timeout_seconds",
    "reprice_attempts",
    "price_buffer_percent",
    "price_buffer_min_points",
    "on_unknown_position",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """Where the mean net P&L of a day lies, by drawing whole days with replacement."""

    low_paise: float
    high_paise: float
    confidence: float
    rounds: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Fold:
    """One stretch of the days, tested by itself: an edge that only one of them has is none."""

    first: date
    last: date
    trades: int
    net_paise: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Walk:
    """One step of a walk-forward: settings chosen on some days and traded on those after them."""

    fit_first: date
    fit_last: date
    fit_days: int
    fit_net_paise: int
    fit_sharpe: float | None  # of days, not of years; None: no combination traded
    chosen: Mapping[str, Any]
    first: date
    last: date
    days: int
    trades: int
    net_paise: int

    @property
    def settings(self) -> str:
        """What was chosen, for people."""
        return ", ".join(f"{name} {value}" for name, value in self.chosen.items())


@dataclass(frozen=True, slots=True, kw_only=True)
class BacktestResult:
    """The days of a backtest together."""

    index: str
    params: Params
    days: tuple[date, ...]
    day_net_paise: tuple[int, ...]
    trades: tuple[Trade, ...]
    figures: TradeMetrics
    day_figures: DayMetrics
    refusals: Mapping[str, int]
    halts: Mapping[str, int]
    ambiguous_bars: int
    stale_exits: int
    unused_ticks: int
    bar_seconds: int
    priced: tuple[str, ...]  # of each trade: where its premiums come from
    interval: Interval | None
    folds: tuple[Fold, ...]
    assumptions: tuple[str, ...]
    warnings: tuple[str, ...]
    walks: tuple[Walk, ...] = ()

    @property
    def fit_day_paise(self) -> float | None:
        """The mean day while fitting, over all steps of a walk-forward; None without one."""
        return fmean(walk.fit_net_paise / walk.fit_days for walk in self.walks) if self.walks else None

    @property
    def survived(self) -> str:
        """What of the fitted result was left on days that the choice had not seen."""
        fitted, traded = self.fit_day_paise, fmean(self.day_net_paise)
        assert fitted is not None, "asked of a backtest that did not walk forward"
        words = (
            f"mean day {render_rupees(round(fitted), signed=True)} while fitting,"
            f" {render_rupees(round(traded), signed=True)} on the days after"
        )
        if fitted <= 0:
            return words
        return f"{words}: {100 * traded / fitted:.0f} % survived" if traded > 0 else f"{words}: nothing survived"

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {
            "schema_version": 1,
            "index": self.index,
            "params": self.params.model_dump(mode="json"),
            "first": self.days[0].isoformat(),
            "last": self.days[-1].isoformat(),
            "days": [
                {"day": day.isoformat(), "net_paise": net}
                for day, net in zip(self.days, self.day_net_paise, strict=True)
            ],
            "trades": [
                _trade_json(trade) | {"premiums": priced}
                for trade, priced in zip(self.trades, self.priced, strict=True)
            ],
            "metrics": _plain(asdict(self.figures)),
            "day_metrics": _plain(asdict(self.day_figures)),
            "exit_reasons": {name: _plain(asdict(part)) for name, part in self.by_reason().items()},
            "refusals": dict(self.refusals),
            "halts": dict(self.halts),
            "admissions": {
                "ambiguous_bars": self.ambiguous_bars,
                "stale_exits": self.stale_exits,
                "unused_ticks": self.unused_ticks,
                "p_value": self.figures.p_value,
                "day_block_bootstrap": None if self.interval is None else asdict(self.interval),
                "folds": [_plain(asdict(fold)) for fold in self.folds],
                "walk_forward": [_plain(asdict(walk)) for walk in self.walks],
                "assumptions": list(self.assumptions),
                "warnings": list(self.warnings),
            },
        }

    def by_reason(self) -> dict[str, Any]:
        """The trades of each exit reason."""
        return break_down([trade.exit_reason for trade in self.trades], _net(self.trades)) if self.trades else {}

    @property
    def priced_words(self) -> str:
        """How many trades were made at recorded premiums, and how many at a model's."""
        return ", ".join(f"{count} {priced}" for priced, count in Counter(self.priced).most_common())

    def lines(self) -> list[str]:
        """The result for a terminal or an artifact, one statement a line."""
        figures, days = self.figures, self.day_figures
        gross = sum(trade.gross_paise for trade in self.trades)
        charges = sum(trade.charges_paise for trade in self.trades)
        net, won = render_rupees(figures.net_paise, signed=True), f"{figures.trades} trades, {figures.wins} won"
        ratios = f"profit factor {_ratio(figures.profit_factor)}, payoff {_ratio(figures.payoff)}"
        found = [
            f"{self.index}, {len(self.days)} days, {self.days[0]} to {self.days[-1]}",
            f"{net} net = {render_rupees(gross, signed=True)} gross - {render_rupees(charges)} charges",
            f"{won}; {ratios}; Sharpe {_ratio(days.sharpe)}, deepest fall {render_rupees(figures.drawdown_paise)}",
            *(
                f"  {name}: {part.trades} trades, {part.wins} won, {render_rupees(part.net_paise, signed=True)}"
                for name, part in self.by_reason().items()
            ),
            "What this test must admit:",
            f"  p-value {_ratio(figures.p_value, 4)} that the mean trade is zero",
        ]
        if (interval := self.interval) is not None:
            low, high = (render_rupees(round(end), signed=True) for end in (interval.low_paise, interval.high_paise))
            found.append(f"  mean day between {low} and {high} ({100 * interval.confidence:.0f} %, whole days drawn)")
        found += [
            f"  {fold.first} to {fold.last}: {fold.trades} trades, {render_rupees(fold.net_paise, signed=True)}"
            for fold in self.folds
        ]
        if self.walks:
            found.append(f"  walk-forward, {len(self.walks)} stretches: {self.survived}")
        found += [
            f"  {walk.first} to {walk.last}: {walk.trades} trades, {render_rupees(walk.net_paise, signed=True)} with"
            f" {walk.settings}"
            for walk in self.walks
        ]
        if any(priced != MODELLED for priced in self.priced):
            found.append(f"  premiums of the trades: {self.priced_words}")
        found.append(f"  bars in which the order of high and low decided an exit: {self.ambiguous_bars}")
        found += [f"  warning: {warning}" for warning in self.warnings]
        found += [f"  assumed: {assumption}" for assumption in self.assumptions]
        return found


def result_of(
    runs: Sequence[DayRun],
    market: PastMarket,
    params: Params,
    model: MarketModel,
    *,
    folds: int = 1,
    premiums: Sequence[str] = (),
) -> BacktestResult:
    """All runs of a backtest as one result, with its honest side."""
    trades = tuple(trade for run in runs for trade in run.trades)
    days = tuple(run.past.day for run in runs)
    nets = tuple(sum(trade.net_paise for trade in run.trades) for run in runs)
    bar_seconds = max((run.past.recorded.bar_seconds for run in runs), default=0)
    stale = sum(run.stale_exits for run in runs)
    day_net = np.array(nets, dtype=np.int64)
    prices = tuple(priced for run in runs for priced in run.priced)
    warnings = []
    if bar_seconds > params.candle_seconds:
        warnings.append(made_up(params.candle_seconds, bar_seconds))
    if stale:
        warnings.append(f"{stale} exits at the last price of a recording that ended before the squareoff")
    if premiums and MODELLED in prices:
        warnings.append(f"{prices.count(MODELLED)} of {len(prices)} trades had no recorded premium but the model's")
    if market.closed:
        warnings.append(f"{len(market.closed)} recorded days are no trading days by the calendar: left out")
    return BacktestResult(
        index=params.index,
        params=params,
        days=days,
        day_net_paise=nets,
        trades=trades,
        figures=trade_metrics(trade_columns(trades)),
        day_figures=day_metrics(days, day_net, CAPITAL_PAISE),
        refusals=_summed(run.refusals for run in runs),
        halts=Counter(str(halt) for run in runs for halt in run.halts),
        ambiguous_bars=sum(run.ambiguous_bars for run in runs),
        stale_exits=stale,
        unused_ticks=sum(run.past.recorded.unused for run in runs),
        bar_seconds=bar_seconds,
        priced=prices,
        interval=day_block_interval(day_net),
        folds=folds_of(runs, folds),
        assumptions=(
            *(premiums or model.words[:1]),
            *model.words[1:],
            *(
                ["a bar that rose visits its low first, another its high, with a tick a second between"]
                if bar_seconds == 60
                else []
            ),
            *market.assumed,
            f"settings without effect here: {', '.join(UNUSED_SETTINGS)}",
        ),
        warnings=tuple(warnings),
    )


def made_up(candle_seconds: int, bar_seconds: int) -> str:
    """The warning of candles that are shorter than what was recorded."""
    return (
        f"the candles of {candle_seconds} s are shorter than the recorded bars of {bar_seconds} s: what"
        " happens inside a bar is made up, signals included"
    )


def trade_columns(trades: Sequence[Trade]) -> TradeColumns:
    """Trades as columns."""
    return TradeColumns(
        net_paise=_net(trades),
        entry_at_ms=np.array([trade.entry_at_ms for trade in trades], dtype=np.int64),
        exit_at_ms=np.array([trade.exit_at_ms for trade in trades], dtype=np.int64),
    )


def day_block_interval(day_net: Ints, *, confidence: float = 0.95) -> Interval | None:
    """The interval of the mean day. Days stay whole, so trades that belong together stay together; None under two."""
    if len(day_net) < 2:
        return None
    draw = np.random.Generator(np.random.PCG64(BOOTSTRAP_SEED))
    means = np.array([day_net[draw.integers(0, len(day_net), len(day_net))].mean() for _ in range(BOOTSTRAP_ROUNDS)])
    low, high = np.quantile(means, ((1 - confidence) / 2, (1 + confidence) / 2))
    return Interval(low_paise=float(low), high_paise=float(high), confidence=confidence, rounds=BOOTSTRAP_ROUNDS)


def folds_of(runs: Sequence[DayRun], count: int) -> tuple[Fold, ...]:
    """The days in `count` stretches of about equal length, in order; none for a count below two."""
    if count < 2:
        return ()
    parts = [part for part in np.array_split(np.arange(len(runs)), count) if len(part)]
    return tuple(
        Fold(
            first=runs[part[0]].past.day,
            last=runs[part[-1]].past.day,
            trades=sum(len(runs[number].trades) for number in part),
            net_paise=sum(trade.net_paise for number in part for trade in runs[number].trades),
        )
        for part in parts
    )


def _net(trades: Sequence[Trade]) -> Ints:
    return np.array([trade.net_paise for trade in trades], dtype=np.int64)


def _summed(counts: Any) -> Counter[str]:
    total: Counter[str] = Counter()
    for count in counts:
        total.update(count)
    return Counter(dict(total.most_common()))


def _trade_json(trade: Trade) -> dict[str, Any]:
    return {
        "entered_at": ist(trade.entry_at_ms).isoformat(),
        "exited_at": ist(trade.exit_at_ms).isoformat(),
        "contract": trade.contract.name,
        "expiry": trade.contract.expiry.isoformat(),
        "strike_points": trade.contract.strike_points,
        "option_type": str(trade.contract.option_type),
        "quantity": int(trade.quantity),
        "entry_paise": average_paise(trade.buy_value_paise, trade.quantity),
        "exit_paise": average_paise(trade.sell_value_paise, trade.quantity),
        "gross_paise": trade.gross_paise,
        "charges_paise": trade.charges_paise,
        "net_paise": trade.net_paise,
        "exit_reason": str(trade.exit_reason),
        "why_entry": dict(trade.why_entry.facts),
        "why_exit": dict(trade.why_exit.facts),
    }


def _plain(values: Any) -> Any:
    """Dates as text, all the way down."""
    if isinstance(values, dict):
        return {key: _plain(value) for key, value in values.items()}
    if isinstance(values, list | tuple):
        return [_plain(value) for value in values]
    return values.isoformat() if isinstance(values, date) else values


def _ratio(value: float | None, digits: int = 2) -> str:
    return "–" if value is None else f"{value:.{digits}f}"
