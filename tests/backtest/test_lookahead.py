"""No decision knows the future, and a rule that did would be found."""

from dataclasses import replace

import pytest

from strategy.params import Params
from tasks.backtest.lookahead import check_lookahead, check_warm_up
from tasks.backtest.market import MarketModel
from tasks.backtest.replay import replay_day

QUICK = {
    "candle_seconds": 15,
    "supertrend_period": 3,
    "supertrend_multiplier": 1.0,
    "htf_seconds": 60,
    "macd_fast": 2,
    "macd_slow": 5,
    "macd_signal": 3,
    "entry_start": "09:17",
    "daily_max_loss": 0,
    "trail_start_points": 3,
    "trail_step_points": 1,
    "max_trades_per_day": 20,
}


@pytest.fixture(scope="module")
def day(past):
    today = past.hours("09:15-09:50")
    return past.a_day(past.a_walk(5, today=today, gap_share=0.01), today)


def test_what_was_said_before_a_cut_is_what_the_whole_day_says(day):
    answer = check_lookahead([day], Params(**QUICK), MarketModel(), cuts=6, seed=1)
    assert answer.differences == ()
    assert answer.cuts == 6
    assert answer.decisions > 100


def test_a_rule_that_peeks_is_found(day):
    params, model = Params(**QUICK), MarketModel()

    def peeking(past):
        told = replay_day(past, params, model, keep=True).told
        # "Enters" as if it knew whether the day closes above its middle.
        rose = int(past.recorded.spot_paise[-1]) > int(past.recorded.spot_paise[len(past.recorded.at_ms) // 2])
        return tuple(said for said in told if rose or "Enter" not in type(said).__name__)

    answer = check_lookahead([day], params, model, cuts=25, seed=2, replay=peeking)
    assert answer.differences
    assert answer.differences[0].cut != answer.differences[0].whole


def test_a_rule_that_peeks_one_tick_ahead_is_found(day):
    params, model = Params(**QUICK), MarketModel()

    def peeking(past):
        # Every tick says what the next one will say; the last one knows no better.
        ahead = past.recorded.spot_paise.copy()
        ahead[:-1] = ahead[1:]
        return replay_day(
            replace(past, recorded=replace(past.recorded, spot_paise=ahead)), params, model, keep=True
        ).told

    answer = check_lookahead([day], params, model, cuts=12, seed=1, replay=peeking)
    assert answer.differences
    said = str(answer.differences[0])
    assert said.startswith("2026-11-19 cut after 09:")
    assert "the whole day: 09:" in said


def test_a_price_after_the_cut_changes_nothing_before_it(day):
    params, model = Params(**QUICK), MarketModel()
    recorded = day.recorded
    middle = len(recorded.at_ms) // 2
    other = recorded.spot_paise.copy()
    other[middle:] = other[middle:] * 101 // 100
    until_ms = int(recorded.at_ms[middle - 1])

    def said(of):
        return [one for one in replay_day(of, params, model, keep=True).told if one.at_ms <= until_ms]

    assert said(replace(day, recorded=replace(recorded, spot_paise=other))) == said(day)


def test_signals_agree_with_the_full_history_after_a_bounded_number_of_candles(past):
    days = []
    for seed in (1, 2):
        today = past.hours("09:15-12:15")
        days.append(past.a_day(past.a_walk(seed, today=today), today))
    answer = check_warm_up(days, Params(**QUICK), starts=8, seed=3)
    assert answer.never == 0
    assert 0 < answer.median <= answer.largest <= 150
