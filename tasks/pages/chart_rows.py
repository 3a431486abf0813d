"""What a chart of the day shows, as rows: light enough for the trading process, which draws nothing itself.

Invariants:
1. Times are naive IST, so that Vega shows IST in every zone.
2. The number of rows is bounded whatever the candle's length; no turn of SuperTrend is thinned out.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from strategy.events import Tick
from tasks.clock import epoch_ms, ist
from tasks.ledger.records import CandleRecord, DecisionRecord
from tasks.pages.money import group_indian
from tasks.pages.summary import TradeLine

CANDLES_SHOWN_MAX = 400  # about two pixels each
LINE_POINTS_MAX = 800
PREMIUM_POINTS_MAX = 2_000
_STEPS_S = (5, 15, 30, 60, 180, 300, 900, 1_800, 3_600)


@dataclass(frozen=True, slots=True, kw_only=True)
class TradeMark:
    """A trade as the chart needs it; without an exit while it is open. `pnl_paise` is net once known."""

    trade: int
    option_type: str
    entry_at_ms: int
    entry_paise: int
    exit_at_ms: int | None = None
    exit_paise: int | None = None
    pnl_paise: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class StopMark:
    """From `at_ms` on, the stop of `trade` is at `stop_paise`."""

    trade: int
    at_ms: int
    stop_paise: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """What to draw. `premiums` are ticks of the contracts held; without them entry and exit are joined."""

    title: str
    candles: Sequence[CandleRecord]
    trades: Sequence[TradeMark] = ()
    stops: Sequence[StopMark] = ()
    premiums: Sequence[tuple[int, int, int]] = ()  # trade, at_ms, paise
    loss_limit_paise: int = 0


def picture_of(
    title: str,
    candles: Sequence[CandleRecord],
    trades: Sequence[TradeLine],
    decisions: Iterable[DecisionRecord] = (),
    *,
    ticks: Sequence[Tick] = (),
    stop_loss_paise: int = 0,
    loss_limit_paise: int = 0,
) -> Picture:
    """The picture of a session's day; `stop_loss_paise` is the initial distance of the stop per unit, 0 for none.

    `ticks` may be of any security; those of the contracts while they were held draw the premium's way.
    """
    stops = [
        StopMark(
            trade=trade.trade,
            at_ms=epoch_ms(trade.entered_at),
            stop_paise=trade.entry_paise - stop_loss_paise,
        )
        for trade in trades
        if stop_loss_paise
    ]
    stops += [
        StopMark(trade=int(moved.detail["trade"]), at_ms=moved.at_ms, stop_paise=int(moved.detail["stop_paise"]))
        for moved in decisions
        if moved.kind == "stop_moved"
    ]
    marks = tuple(trade_mark(trade) for trade in trades)
    return Picture(
        title=title,
        candles=candles,
        trades=marks,
        stops=tuple(stops),
        premiums=tuple(
            (trade.trade, tick.at_ms, tick.price_paise)
            for trade, mark in zip(trades, marks, strict=True)
            for tick in ticks
            if tick.security == trade.security and mark.entry_at_ms <= tick.at_ms <= (mark.exit_at_ms or tick.at_ms)
        ),
        loss_limit_paise=loss_limit_paise,
    )


def trade_mark(trade: TradeLine) -> TradeMark:
    """A trade of the summary for the chart."""
    return TradeMark(
        trade=trade.trade,
        option_type=trade.option_type,
        entry_at_ms=epoch_ms(trade.entered_at),
        entry_paise=trade.entry_paise,
        exit_at_ms=epoch_ms(trade.exited_at) if trade.exited_at is not None else None,
        exit_paise=trade.exit_paise if trade.exited_at is not None else None,
        pnl_paise=trade.net_paise,
    )


def datasets(picture: Picture, *, candles_max: int = CANDLES_SHOWN_MAX) -> dict[str, list[dict[str, Any]]]:
    """The rows behind the specification, by name."""
    shown = longer_candles(picture.candles, candles_max)
    ends = [*(t.exit_at_ms for t in picture.trades if t.exit_at_ms), *(c.start_ms for c in picture.candles[-1:])]
    return {
        "candles": [_candle_row(candle) for candle in shown],
        "line": [_line_row(candle) for candle in thinned(picture.candles, LINE_POINTS_MAX) if candle.direction],
        "trades": [_trade_row(trade, picture.candles) for trade in picture.trades],
        "premiums": _premium_rows(picture),
        "stops": _stop_rows(picture, max(ends, default=0)),
        "equity": _equity_rows(picture, max(ends, default=0)),
    }


def longer_candles(candles: Sequence[CandleRecord], count_max: int) -> list[CandleRecord]:
    """The same prices in at most about `count_max` candles of a longer, usual interval."""
    if not candles:
        return []
    base = candles[0].seconds
    seconds = next((s for s in _STEPS_S if s >= base and len(candles) * base / s <= count_max), _STEPS_S[-1])
    if seconds <= base:
        return list(candles)
    merged: list[CandleRecord] = []
    first_ms = candles[0].start_ms
    for candle in candles:
        start_ms = first_ms + (candle.start_ms - first_ms) // (seconds * 1000) * seconds * 1000
        last = merged[-1] if merged and merged[-1].start_ms == start_ms else None
        longer = CandleRecord(
            session_id=candle.session_id,
            seconds=seconds,
            start_ms=start_ms,
            open_paise=last.open_paise if last else candle.open_paise,
            high_paise=max(last.high_paise, candle.high_paise) if last else candle.high_paise,
            low_paise=min(last.low_paise, candle.low_paise) if last else candle.low_paise,
            close_paise=candle.close_paise,
            ticks=candle.ticks + (last.ticks if last else 0),
            supertrend=candle.supertrend,
            direction=candle.direction,
            macd=candle.macd,
            macd_signal=candle.macd_signal,
        )
        if last:
            merged[-1] = longer
        else:
            merged.append(longer)
    return merged


def thinned(candles: Sequence[CandleRecord], count_max: int) -> list[CandleRecord]:
    """At most about `count_max` of the candles; none on which SuperTrend turned is left out."""
    step = max(1, -(-len(candles) // count_max))
    return [
        candle
        for position, candle in enumerate(candles)
        if position % step == 0 or position == len(candles) - 1 or candle.direction != candles[position - 1].direction
    ]


def _candle_row(candle: CandleRecord) -> dict[str, Any]:
    return {
        "time": naive_time(candle.start_ms),
        "open": candle.open_paise / 100,
        "high": candle.high_paise / 100,
        "low": candle.low_paise / 100,
        "close": candle.close_paise / 100,
        "rose": candle.close_paise >= candle.open_paise,
    }


def _line_row(candle: CandleRecord) -> dict[str, Any]:
    """SuperTrend after a candle; up and down are columns of their own, so that no line joins them."""
    return {
        "time": naive_time(candle.start_ms),
        "up": candle.supertrend if candle.direction > 0 else None,
        "down": candle.supertrend if candle.direction < 0 else None,
    }


def _trade_row(trade: TradeMark, candles: Sequence[CandleRecord]) -> dict[str, Any]:
    closed = trade.exit_at_ms is not None
    return {
        "trade": trade.trade,
        "kind": trade.option_type,
        "entry": naive_time(trade.entry_at_ms),
        "exit": naive_time(trade.exit_at_ms) if trade.exit_at_ms is not None else None,
        "entry_index": _level_at(candles, trade.entry_at_ms),
        "exit_index": _level_at(candles, trade.exit_at_ms) if trade.exit_at_ms is not None else None,
        "entry_premium": trade.entry_paise / 100,
        "exit_premium": trade.exit_paise / 100 if trade.exit_paise is not None else None,
        "pnl": trade.pnl_paise / 100,
        "won": trade.pnl_paise > 0,
        "label": _whole_rupees(trade.pnl_paise) if closed else "open",
    }


def _premium_rows(picture: Picture) -> list[dict[str, Any]]:
    seen = {trade for trade, _, _ in picture.premiums}
    step = max(1, -(-len(picture.premiums) // PREMIUM_POINTS_MAX))
    rows = [
        {"trade": trade, "time": naive_time(at_ms), "premium": paise / 100}
        for trade, at_ms, paise in picture.premiums[::step]
    ]
    for trade in picture.trades:
        if trade.trade not in seen:
            rows.append(
                {"trade": trade.trade, "time": naive_time(trade.entry_at_ms), "premium": trade.entry_paise / 100}
            )
            if trade.exit_at_ms is not None and trade.exit_paise is not None:
                rows.append(
                    {"trade": trade.trade, "time": naive_time(trade.exit_at_ms), "premium": trade.exit_paise / 100}
                )
    return rows


def _stop_rows(picture: Picture, end_ms: int) -> list[dict[str, Any]]:
    rows = []
    for trade in picture.trades:
        stops = sorted((s for s in picture.stops if s.trade == trade.trade), key=lambda stop: stop.at_ms)
        rows += [{"trade": s.trade, "time": naive_time(s.at_ms), "stop": s.stop_paise / 100} for s in stops]
        if stops:
            last_ms = trade.exit_at_ms if trade.exit_at_ms is not None else end_ms
            rows.append({"trade": trade.trade, "time": naive_time(last_ms), "stop": stops[-1].stop_paise / 100})
    return rows


def _equity_rows(picture: Picture, end_ms: int) -> list[dict[str, Any]]:
    """The day's P&L of closed trades, a step at each exit; `drawdown` is how far below its best it is (0 or less)."""
    if not picture.candles:
        return []
    total_paise = best_paise = 0
    rows = [{"time": naive_time(picture.candles[0].start_ms), "pnl": 0.0, "drawdown": 0.0}]
    for trade in sorted((t for t in picture.trades if t.exit_at_ms), key=lambda t: t.exit_at_ms or 0):
        total_paise += trade.pnl_paise
        best_paise = max(best_paise, total_paise)
        fall_paise = total_paise - best_paise
        rows.append({"time": naive_time(trade.exit_at_ms or 0), "pnl": total_paise / 100, "drawdown": fall_paise / 100})
    last = (total_paise - best_paise) / 100
    rows.append({"time": naive_time(end_ms), "pnl": total_paise / 100, "drawdown": last})
    return rows


def _level_at(candles: Sequence[CandleRecord], at_ms: int) -> float | None:
    """The close of the last candle that had begun before `at_ms`."""
    level = None
    for candle in candles:
        if candle.start_ms >= at_ms:
            break
        level = candle.close_paise / 100
    return level


def _whole_rupees(paise: int) -> str:
    sign = "+" if paise > 0 else "-" if paise < 0 else ""
    return sign + group_indian(round(abs(paise) / 100))


def naive_time(at_ms: int) -> str:
    """IST without saying so, which Vega shows as it is in every zone."""
    return ist(at_ms).replace(tzinfo=None).isoformat(timespec="milliseconds")
