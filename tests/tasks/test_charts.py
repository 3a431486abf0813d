"""The chart's rows are what the ledger holds, bounded in number; pictures really are drawn."""

import os
import signal
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from strategy.events import Tick
from tasks.clock import epoch_ms
from tasks.ledger.records import CandleRecord
from tasks.pages.chart_process import ChartProcess
from tasks.pages.chart_rows import datasets, longer_candles, picture_of, thinned
from tasks.pages.charts import day_chart_png, day_chart_spec
from tasks.pages.summary import DaySummary

PNG = b"\x89PNG\r\n\x1a\n"


def candle(number, low=100, high=200, direction=1, seconds=5):
    return CandleRecord(
        session_id="s",
        seconds=seconds,
        start_ms=1_795_146_300_000 + number * seconds * 1000,
        open_paise=low + 10,
        high_paise=high,
        low_paise=low,
        close_paise=high - 10,
        ticks=3,
        supertrend=1.5,
        direction=direction,
        macd=None,
        macd_signal=None,
    )


@pytest.fixture
def picture(recorded_day):
    summary = DaySummary.build(recorded_day.ledger, recorded_day.session_id)
    return picture_of(
        "NIFTY",
        recorded_day.candles,
        summary.trades,
        recorded_day.decisions,
        stop_loss_paise=20_00,
        loss_limit_paise=2_000_00,
    )


@given(
    lows=st.lists(st.integers(1, 1000), min_size=1, max_size=300),
    count_max=st.integers(1, 100),
)
def test_longer_candles_keep_first_last_highest_lowest_and_every_tick(lows, count_max):
    base = [candle(number, low=low, high=low + 50) for number, low in enumerate(lows)]
    longer = longer_candles(base, count_max)
    assert longer[0].open_paise == base[0].open_paise
    assert longer[-1].close_paise == base[-1].close_paise
    assert max(c.high_paise for c in longer) == max(c.high_paise for c in base)
    assert min(c.low_paise for c in longer) == min(c.low_paise for c in base)
    assert sum(c.ticks for c in longer) == sum(c.ticks for c in base)
    assert len(longer) <= count_max + 1
    assert all(a.start_ms < b.start_ms for a, b in pairwise(longer))


@given(directions=st.lists(st.sampled_from([1, -1]), min_size=1, max_size=300), count_max=st.integers(1, 50))
def test_no_turn_of_supertrend_is_thinned_out(directions, count_max):
    base = [candle(number, direction=direction) for number, direction in enumerate(directions)]
    kept = thinned(base, count_max)
    turns = [c for last, c in pairwise(base) if c.direction != last.direction]
    assert all(turn in kept for turn in turns)
    assert kept[-1] == base[-1]
    assert len(kept) <= count_max + len(turns) + 2


def test_a_day_of_short_candles_becomes_a_bounded_number_of_rows(picture):
    rows = datasets(picture)
    assert len(picture.candles) == 4_620
    assert len(rows["candles"]) == 385
    assert rows["candles"][0]["time"] == "2026-11-20T09:15:00.000"


def test_equity_steps_at_each_exit_to_the_days_result(picture, recorded_day):
    summary = DaySummary.build(recorded_day.ledger, recorded_day.session_id)
    equity = datasets(picture)["equity"]
    assert equity[0]["pnl"] == 0
    assert round(equity[-1]["pnl"] * 100) == summary.net_paise
    assert len(equity) == summary.trade_count + 2


def test_the_stop_starts_below_the_entry_and_follows_what_was_recorded(picture, recorded_day):
    moved = recorded_day.ledger.decisions(recorded_day.session_id, "stop_moved")
    trade = moved[0].detail["trade"]
    stops = [row["stop"] for row in datasets(picture)["stops"] if row["trade"] == trade]
    assert stops[0] == 100.0
    assert stops[1:-1] == [m.detail["stop_paise"] / 100 for m in moved if m.detail["trade"] == trade]
    assert stops[-1] == stops[-2]


def test_recorded_ticks_of_the_contract_draw_the_premiums_way_while_it_was_held(recorded_day):
    (trade, *_) = DaySummary.build(recorded_day.ledger, recorded_day.session_id).trades
    bought_ms, sold_ms = epoch_ms(trade.entered_at), epoch_ms(trade.exited_at)
    tick = Tick(at_ms=bought_ms, security=trade.security, price_paise=121_00)
    ticks = [tick, tick._replace(security="other"), tick._replace(at_ms=sold_ms + 1), tick._replace(at_ms=sold_ms)]
    found = picture_of("", recorded_day.candles, [trade], ticks=ticks)
    assert found.premiums == ((1, bought_ms, 121_00), (1, sold_ms, 121_00))
    assert [row["premium"] for row in datasets(found)["premiums"]] == [121.0, 121.0]


def test_without_ticks_entry_and_exit_are_joined(picture):
    rows = datasets(picture)["premiums"]
    assert [row["premium"] for row in rows if row["trade"] == 1] == [120.0, 117.2]


def test_a_day_without_trades_is_one_panel(recorded_day):
    spec = day_chart_spec(picture_of("", recorded_day.candles, []))
    assert len(spec["vconcat"]) == 1


def test_a_position_that_is_open_is_drawn_to_the_end(record_day):
    recorded = record_day(leave_open=True)
    summary = DaySummary.build(recorded.ledger, recorded.session_id)
    rows = datasets(picture_of("", recorded.candles, summary.trades, stop_loss_paise=20_00))
    assert rows["trades"][-1]["label"] == "open"
    assert rows["stops"][-1]["time"] == rows["candles"][-1]["time"][:17] + "55.000"
    assert day_chart_png(picture_of("", recorded.candles, summary.trades)).startswith(PNG)


def test_the_picture_is_drawn(picture):
    assert day_chart_png(picture).startswith(PNG)


def test_a_process_of_its_own_draws_and_its_death_costs_one_chart_at_most(picture):
    charts = ChartProcess()
    try:
        assert charts.draw("nonsense", {}) is None
        assert charts.draw("one", datasets(picture)).startswith(PNG)
        first = charts._process
        os.kill(first.pid, signal.SIGKILL)
        first.wait()
        assert charts.draw("two", datasets(picture)).startswith(PNG)
        assert "vegaEmbed" in charts.chart_library()
    finally:
        charts.close()


def test_a_chart_that_takes_too_long_is_none_and_its_process_is_gone(picture):
    charts = ChartProcess()
    assert charts.draw("late", datasets(picture), timeout_s=0.0) is None
    assert charts._process is None
