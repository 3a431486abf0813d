"""A backtest is the live rules on a recorded day: pessimistic, repeatable, and honest about what it had to assume."""

import json
import subprocess
import sys
from dataclasses import replace
from datetime import date
from html import escape
from pathlib import Path

import numpy as np
import pytest

from strategy.params import Params
from strategy.recordings import Bar
from tasks.backtest.market import MarketModel, past_day, past_market
from tasks.backtest.page import render_page
from tasks.backtest.prices import days_of_bars, read_days
from tasks.backtest.replay import replay_day
from tasks.backtest.result import day_block_interval, result_of
from tasks.backtest.run import BacktestRequest, replay_days, run_backtest

PROJECT = Path(__file__).resolve().parents[2]
RECORDINGS = PROJECT.parent / "shared" / "data" / "market"
QUICK = {
    "candle_seconds": 60,
    "supertrend_period": 3,
    "supertrend_multiplier": 1.5,
    "htf_filter": False,
    "macd_confirmation": False,
    "daily_max_loss": 0,
    "target_points": 15,
    "stop_loss_points": 12,
    "trail_start_points": 6,
    "trail_step_points": 3,
}


@pytest.fixture(scope="module")
def result(minute_bars):
    return run_backtest(BacktestRequest(files=(minute_bars,), settings=QUICK, first=date(2026, 11, 12), folds=2))


def test_every_trade_pays_the_spread_and_the_slippage(minute_bars):
    # Only reversals, so that prices do not change what is traded.
    reversals = QUICK | dict.fromkeys(
        ("target_points", "stop_loss_points", "trail_start_points", "trail_step_points"), 0
    )
    request = BacktestRequest(files=(minute_bars,), settings=reversals, first=date(2026, 11, 18))
    found = [
        run_backtest(replace(request, model=model)).figures.net_paise
        for model in (
            MarketModel(spread=0.0, slippage_paise=0),
            MarketModel(spread=0.0, slippage_paise=25),
            MarketModel(spread=1.875, slippage_paise=25),
        )
    ]
    assert found[0] > found[1] > found[2]


def test_a_buy_costs_more_and_a_sale_brings_less_than_the_quotes_said(result):
    assert len(result.trades) > 10
    for trade in result.trades:
        assert trade.buy_value_paise >= trade.quantity * (trade.entry_reference_paise + 5)
        assert trade.sell_value_paise <= trade.quantity * max(5, trade.exit_reference_paise - 5)
        assert trade.net_paise == trade.gross_paise - trade.charges_paise
        assert trade.charges_paise > 40_00


def test_the_parts_are_the_whole(result):
    answer = result.to_json()
    assert json.loads(json.dumps(answer)) == answer
    net = sum(trade["net_paise"] for trade in answer["trades"])
    assert net == answer["metrics"]["net_paise"] == sum(day["net_paise"] for day in answer["days"])
    assert net == sum(fold["net_paise"] for fold in answer["admissions"]["folds"])
    assert net == sum(part["net_paise"] for part in answer["exit_reasons"].values())
    assert all(trade["why_entry"] and trade["why_exit"] for trade in answer["trades"])
    assert any("Black-Scholes" in words for words in answer["admissions"]["assumptions"])


def test_a_later_day_does_not_change_an_earlier_one(result, minute_bars):
    # And two runs of the same days are the same.
    shorter = run_backtest(
        BacktestRequest(files=(minute_bars,), settings=QUICK, first=date(2026, 11, 12), last=date(2026, 11, 13))
    )
    assert shorter.trades == result.trades[: len(shorter.trades)]


def test_the_page_stands_alone_and_says_what_was_assumed(result):
    page = render_page(result)
    assert "http" not in page.replace("http-equiv", "")
    assert "What this test must admit" in page
    table = page.split('id="trades"')[1].split("</table>")[0]
    assert table.count("<tr><td title=") == len(result.trades)  # each with the reason of its entry
    for part in ("Net by hour of entry", "By direction", "What this test must admit", "By expiry"):
        assert part in page
    for words in result.assumptions:
        assert escape(words).replace("&#x27;", "&#39;") in page


def bar_day(past, rows):
    bars = [
        Bar(1_795_059_900_000 + number * 60_000, *(price * 100 for price in row)) for number, row in enumerate(rows)
    ]
    (recorded,) = days_of_bars({past.DAY: bars}, minutes=True)
    return past.a_day(recorded, past.hours("09:15-15:40"))


def test_a_bar_whose_order_decides_the_exit_is_counted(past):
    # A rise that turns the trend up, then one wide bar that touches both the stop and the target.
    rows = [(24_500, 24_502, 24_498, 24_500)] * 12 + [(24_500, 24_520, 24_500, 24_520)]
    rows += [(24_520, 24_521, 24_519, 24_520)] * 2
    wide = (24_520, 24_600, 24_440, 24_521)
    params = Params(**(QUICK | {"trail_start_points": 0, "trail_step_points": 0, "entry_start": "09:20"}))
    one = replay_day(bar_day(past, [*rows, wide, *[(24_521, 24_522, 24_520, 24_521)] * 5]), params, MarketModel())
    assert one.trades
    assert one.ambiguous_bars == 1
    calm = replay_day(bar_day(past, [*rows, *[(24_520, 24_521, 24_519, 24_520)] * 5]), params, MarketModel())
    assert calm.ambiguous_bars == 0


def test_a_recording_that_ends_early_says_so(past):
    rows = [(24_500, 24_502, 24_498, 24_500)] * 12 + [(24_500, 24_540, 24_500, 24_540)]
    calm = {"target_points": 0, "stop_loss_points": 50, "trail_start_points": 0, "trail_step_points": 0}
    params = Params(**(QUICK | calm | {"entry_start": "09:20"}))
    day = bar_day(past, rows + [(24_540, 24_541, 24_539, 24_540)] * 3)
    run = replay_day(day, params, MarketModel())
    assert run.stale_exits == 1
    assert run.trades[-1].exit_reason == "squareoff"
    market = past_market([day.recorded], params.index, first=None, last=None)
    assert any(
        "ended before the squareoff" in words for words in result_of([run], market, params, MarketModel()).warnings
    )


def test_candles_shorter_than_the_bars_are_warned_of(minute_bars):
    request = BacktestRequest(files=(minute_bars,), settings=QUICK | {"candle_seconds": 30}, first=date(2026, 11, 18))
    assert any("shorter than the recorded bars" in words for words in run_backtest(request).warnings)


def test_a_day_before_all_known_facts_is_tested_and_what_was_assumed_is_said(past):
    bars = [Bar(1_579_146_300_000 + number * 60_000, *[12_350_00] * 4) for number in range(375)]
    (recorded,) = days_of_bars({date(2020, 1, 16): bars}, minutes=True)
    day = past_day(recorded, past.NIFTY)
    assert day.expiry == date(2020, 1, 16)  # a Thursday, as expiries of the first known rule
    assert day.lot_size == 50
    assert len(day.assumed) >= 4


def test_a_day_the_calendar_calls_closed_is_left_out(past):
    bars = [Bar(1_706_240_700_000, *[21_400_00] * 4)]
    (recorded,) = days_of_bars({date(2024, 1, 26): bars}, minutes=True)
    assert past_day(recorded, past.NIFTY) is None


def test_the_interval_of_the_mean_day_holds_the_mean_and_shrinks_with_more_days():
    dice = np.random.Generator(np.random.PCG64(4))
    few, many = (np.rint(dice.normal(100, 1000, count)).astype(np.int64) for count in (30, 3000))
    for days in (few, many):
        interval = day_block_interval(days)
        assert interval.low_paise < days.mean() < interval.high_paise
        # About two standard errors to either side.
        width = (interval.high_paise - interval.low_paise) / (days.std() / len(days) ** 0.5)
        assert width == pytest.approx(3.92, abs=0.25)
    assert day_block_interval(few[:1]) is None


def test_bypassing_the_hours_has_no_meaning_in_the_past(minute_bars):
    with pytest.raises(ValueError, match="bypass_market_hours"):
        run_backtest(BacktestRequest(files=(minute_bars,), settings={"bypass_market_hours": True}))


def test_recorded_days_trade_alike_in_both(past):
    pytest.importorskip("numba", reason="the compiled rules need the packages of [sweep]")
    if not RECORDINGS.exists():
        pytest.skip("the recorded days are not beside this project")
    from tasks.backtest.compiled import CompiledMarket  # noqa: PLC0415

    nifty = read_days([RECORDINGS / "nifty_2024_1min.csv"], "NIFTY", "")
    sensex = read_days([RECORDINGS / "sensex_2026-02-05_5s.csv"], "SENSEX", "")
    for recorded, settings, first, last in (
        (nifty, QUICK | {"max_trades_per_day": 30}, date(2024, 3, 1), date(2024, 3, 2)),
        (sensex, {"index": "SENSEX", "target_points": 20, "daily_max_loss": 9000}, None, None),
    ):
        params = Params(**settings)
        market = past_market(recorded, params.index, first=first, last=last)
        runs = replay_days(market.days, params, MarketModel(), before=market.before[-1:], keep=True)
        compiled = CompiledMarket(market.days, MarketModel(), before=market.before[-1:])
        rows = past.kernel_rows(compiled.trades(params))
        assert rows == past.step_rows(runs)
        assert rows


def test_a_live_session_needs_none_of_it():
    """The rules, the trading loop and the flow of a session import neither the compiler nor a backtest."""
    code = (
        "import sys, flows.session, tasks.trading.session; "
        "print(sorted({name.split('.')[0] for name in sys.modules} & {'numba', 'llvmlite', 'dask', 'pyarrow'}), "
        "[name for name in sys.modules if name.startswith(('tasks.backtest', 'strategy.kernel'))])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=PROJECT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[] []"
