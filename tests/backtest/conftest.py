"""Past days for tests: made up from a seed, short, and with all that a feed can do to a session."""

from datetime import date, time
from types import SimpleNamespace

import numpy as np
import pytest

from strategy.actions import Enter, Exit
from strategy.calendar import TradingDay, Window, ist_ms
from strategy.charges import rates_on
from strategy.instruments import INDICES, Underlying
from tasks.backtest.market import STRIKES_BEYOND, PastDay
from tasks.backtest.prices import RecordedDay, day_of_ticks
from tasks.backtest.replay import DayRun

DAY = date(2026, 11, 19)
EXPIRY = date(2026, 11, 23)
NIFTY = INDICES[Underlying.NIFTY]


def hours(*windows, day=DAY):
    """A trading day with these windows, "09:15-09:55"."""
    edges = [tuple(time.fromisoformat(edge) for edge in window.split("-")) for window in windows]
    return TradingDay(
        day=day,
        name="",
        windows=tuple(
            Window(open=opens, close=closes, open_ms=ist_ms(day, opens), close_ms=ist_ms(day, closes))
            for opens, closes in edges
        ),
        expiry_close=None,
        entry_latest=None,
        unconfirmed=(),
    )


def a_day(recorded: RecordedDay, today: TradingDay, *, expiry=EXPIRY, lot_size=65, index=NIFTY) -> PastDay:
    """A past day of these ticks; what is outside the hours is left out."""
    inside = np.zeros(len(recorded.at_ms), dtype=bool)
    for window in today.windows:
        inside |= (recorded.at_ms >= window.open_ms) & (recorded.at_ms < window.close_ms)
    recorded = recorded.part(inside)
    step = index.strike_step_points
    low, high = (int(edge) // (step * 100) * step for edge in (recorded.spot_paise.min(), recorded.spot_paise.max()))
    return PastDay(
        recorded=recorded,
        index=index,
        today=today,
        expiry=expiry,
        expiry_ms=ist_ms(expiry, time(15, 30)),
        lot_size=lot_size,
        freeze_quantity=1800,
        rates=rates_on(today.day, index.exchange),
        strike_low_points=low - (STRIKES_BEYOND + 1) * step,
        strike_high_points=high + (STRIKES_BEYOND + 1) * step,
    )


def a_walk(seed, *, today, swing_paise=400, gap_share=0.0, jump_share=0.0, uneven=False, spot_paise=24_500_00):
    """A random walk of about a tick a second, with holes, jumps and uneven times as asked for."""
    dice = np.random.Generator(np.random.PCG64(seed))
    count = (today.close_ms - today.open_ms) // 1000
    waits = np.full(count, 1000)
    if uneven:
        waits = dice.integers(50, 2000, count)
    waits = np.where(dice.random(count) < gap_share, dice.integers(2_000, 120_000, count), waits)
    at_ms = today.open_ms + np.concatenate(([0], np.cumsum(waits)[:-1]))
    steps = np.rint(dice.normal(0, swing_paise, count)).astype(np.int64)
    # Spells of drift, so that there are trends to follow.
    steps += np.repeat(dice.integers(-swing_paise // 3, swing_paise // 3 + 1, count // 60 + 1), 60)[:count]
    jumps = np.where(dice.random(count) < jump_share, dice.integers(-30_000, 30_001, count), 0)
    prices = np.maximum(100_000, spot_paise + np.cumsum(steps + jumps))
    return day_of_ticks(today.day, at_ms.astype(np.int64), prices.astype(np.int64))


def step_rows(runs: list[DayRun]) -> list[tuple]:
    """The trades of the live rules as the kernel writes them; the runs must keep what was said."""
    rows = []
    for day, run in enumerate(runs):
        entered = {said.trade: said.at_ms for said in run.told if isinstance(said, Enter)}
        left = {said.trade: said.at_ms for said in run.told if isinstance(said, Exit)}
        rows += [
            (
                day,
                trade.contract.strike_points,
                int(trade.contract.option_type == "CE"),
                int(trade.quantity),
                entered[trade.trade],
                trade.entry_at_ms,
                trade.buy_value_paise,
                left[trade.trade],
                trade.exit_at_ms,
                trade.sell_value_paise,
                str(trade.exit_reason),
                trade.stop_paise,
                trade.gross_paise,
                trade.charges_paise,
                trade.net_paise,
            )
            for trade in run.trades
        ]
    return rows


def kernel_rows(found) -> list[tuple]:
    """The kernel's trades with their reasons in words."""
    from strategy.kernel import COLUMNS, REASONS  # noqa: PLC0415 (numba takes seconds to import)

    reason = COLUMNS.index("reason")
    return [
        tuple(str(REASONS[value]) if column == reason else value for column, value in enumerate(row))
        for row in found[:, : len(COLUMNS)].tolist()
    ]


@pytest.fixture(scope="session")
def past():
    """The helpers of this file, for tests that are modules of their own."""
    return SimpleNamespace(
        DAY=DAY, NIFTY=NIFTY, hours=hours, a_day=a_day, a_walk=a_walk, step_rows=step_rows, kernel_rows=kernel_rows
    )


@pytest.fixture(scope="session")
def minute_bars(tmp_path_factory):
    """A file of made-up one-minute bars of six days."""
    dice = np.random.Generator(np.random.PCG64(3))
    lines = ["Instrument,Date,Time,Open,High,Low,Close"]
    price = 24_500.0
    for day in (date(2026, 11, number) for number in (11, 12, 13, 16, 17, 18)):
        for minute in range(375):
            prices = price + np.concatenate(([0.0], np.cumsum(dice.normal(0, 3, 12))))
            price = float(prices[-1]) + dice.normal(0, 1)
            hour, rest = divmod(9 * 60 + 15 + minute, 60)
            row = (prices[0], prices.max(), prices.min(), prices[-1])
            lines.append(f"NIFTY,{day:%Y%m%d},{hour:02d}:{rest:02d}," + ",".join(f"{value:.2f}" for value in row))
    file = tmp_path_factory.mktemp("bars") / "bars.csv"
    file.write_text("\n".join(lines) + "\n")
    return file


@pytest.fixture(scope="session")
def a_grid(minute_bars):
    """A grid of 300 combinations over those bars."""
    file = minute_bars.parent / "grid.yaml"
    file.write_text(
        f"""
data: [{minute_bars.name}]
from: 2026-11-12
settings: {{candle_seconds: 60, htf_filter: false, macd_confirmation: false, daily_max_loss: 20000}}
grid:
  supertrend_period: [3, 5, 7, 10]
  supertrend_multiplier: {{from: 1, to: 3, step: 0.5}}
  target_points: [0, 10, 20]
  stop_loss_points: [0, 10, 20, 30, 50]
"""
    )
    return file
