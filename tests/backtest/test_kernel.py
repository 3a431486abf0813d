"""The compiled rules are the live rules: the same trades to the last field, over random days and settings.

`KERNEL_EXAMPLES` sets how many random days the property looks at; the suite looks at a few, a slow run at a thousand.
"""

import os
from datetime import date
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from strategy.indicators import SuperTrend
from strategy.params import Params
from tasks.backtest.market import MarketModel
from tasks.backtest.run import replay_days

pytest.importorskip("numba", reason="the compiled rules need the packages of [sweep]")

from strategy import kernel
from tasks.backtest.compiled import CompiledMarket

EXAMPLES = int(os.environ.get("KERNEL_EXAMPLES", "40"))


def settings_of_rules():
    """Settings that make things happen within an hour."""
    either = st.booleans()
    return st.fixed_dictionaries(
        {
            "candle_seconds": st.sampled_from([5, 5, 15, 30, 60]),
            "supertrend_period": st.sampled_from([1, 2, 3, 7, 14]),
            "supertrend_multiplier": st.sampled_from([0.1, 0.5, 1.0, 1.7, 3.0]),
            "macd_confirmation": either,
            "macd_fast": st.sampled_from([2, 5]),
            "macd_slow": st.sampled_from([6, 12]),
            "macd_signal": st.sampled_from([1, 3, 5]),
            "htf_filter": either,
            "htf_seconds": st.sampled_from([60 * 2, 60 * 3, 60 * 5]),
            "flip_only": either,
            "entries_enabled": st.sampled_from([True] * 9 + [False]),
            "moneyness": st.sampled_from([0, 0, 0, -2, 1, 3]),
            "lots": st.sampled_from([1, 2, 7]),
            "risk_per_trade": st.sampled_from([0, 0, 2000, 900]),
            "max_trades_per_day": st.sampled_from([1, 3, 5, 50]),
            "daily_max_loss": st.sampled_from([0, 300, 1500, 20_000]),
            "max_loss_per_trade": st.sampled_from([0, 0, 250, 700]),
            "stop_loss_points": st.sampled_from([2, 5, 12.35, 50]),
            "target_points": st.sampled_from([0, 0, 3, 8.05, 20]),
            "trail_points": st.sampled_from([(0, 0), (0, 0), (3, 1), (5, 7), (2.5, 0.35), (6, 6)]),
            "min_hold_seconds": st.sampled_from([0, 15, 60]),
            "order_cooldown_seconds": st.sampled_from([0, 0, 1, 15]),
            "min_trade_gap_seconds": st.sampled_from([0, 0, 45]),
            "stale_after_seconds": st.sampled_from([2, 10, 60]),
            "candle_grace_seconds": st.sampled_from([0, 0.5, 1, 3]),
            "pause": st.sampled_from([(0, 0), (0, 0), (1, 2), (2, 5)]),
            "stop_losses_per_day": st.sampled_from([0, 0, 1, 2]),
            "profit_lock": st.sampled_from([(0, 0), (0, 0), (100, 10), (300, 60)]),
            "max_spread_percent": st.sampled_from([0, 0, 0.5, 1.0]),
            "entry_start": st.sampled_from(["09:15", "09:20"]),
            "entry_cutoff": st.sampled_from(["09:40", "15:00"]),
            "squareoff_at": st.sampled_from(["09:47:30", "15:25"]),
        }
    ).map(_valid)


def _valid(drawn):
    values = dict(drawn)
    values["trail_start_points"], values["trail_step_points"] = values.pop("trail_points")
    values["pause_after_losses"], values["pause_minutes"] = values.pop("pause")
    values["profit_lock_from"], values["profit_lock_percent"] = values.pop("profit_lock")
    if values["squareoff_at"] == "09:47:30":
        values["entry_cutoff"] = "09:40"
    return Params(**values)


days = st.fixed_dictionaries(
    {
        "seed": st.integers(0, 1 << 32),
        "swing_paise": st.sampled_from([60, 300, 900]),
        "gap_share": st.sampled_from([0.0, 0.0, 0.02, 0.2]),
        "jump_share": st.sampled_from([0.0, 0.0, 0.01, 0.2]),
        "uneven": st.booleans(),
        "windows": st.sampled_from([("09:15-09:55",), ("09:15-09:55",), ("09:15-09:30", "09:40-10:10")]),
        "expiry_today": st.booleans(),
    }
)
models = st.builds(
    MarketModel,
    volatility=st.sampled_from([0.05, 0.13, 0.4]),
    spread=st.sampled_from([0.0, 1.24, 1.875]),
    slippage_paise=st.sampled_from([0, 5, 35]),
)


def made(past, drawn, day):
    today = past.hours(*drawn["windows"], day=day)
    recorded = past.a_walk(
        drawn["seed"] + day.toordinal(),
        today=today,
        swing_paise=drawn["swing_paise"],
        gap_share=drawn["gap_share"],
        jump_share=drawn["jump_share"],
        uneven=drawn["uneven"],
    )
    return past.a_day(recorded, today, expiry=day if drawn["expiry_today"] else date(2026, 11, 23))


@settings(
    max_examples=EXAMPLES,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
@given(drawn=days, params=settings_of_rules(), model=models)
def test_the_compiled_rules_trade_as_the_live_rules_do(past, drawn, params, model):
    tested = [made(past, drawn, date(2026, 11, 18)), made(past, drawn, date(2026, 11, 19))]
    runs = replay_days(tested, params, model, keep=True)
    assert past.kernel_rows(CompiledMarket(tested, model).trades(params)) == past.step_rows(runs)


def jumps_then_stands_still(count):
    """Up once, then a price that never moves again: who begins later never learns that it is up."""
    close = np.full(count, 25_000.0)
    close[:20] = 24_000.0
    return close, close, close


def walks(count):
    dice = np.random.default_rng(7)
    close = np.round(24_000.0 + np.cumsum(dice.normal(0, 3, count)), 2)
    return close + dice.integers(0, 60, count) / 20, close - dice.integers(0, 60, count) / 20, close


def falls_without_end(count):
    close = 90_000.0 - np.arange(count) * 0.05
    return close + 0.5, close - 0.5, close


@pytest.mark.parametrize("bars", [jumps_then_stands_still, walks, falls_without_end])
@pytest.mark.parametrize(("period", "multiplier"), [(1, 0.5), (7, 3.0), (14, 1.7)])
@pytest.mark.parametrize("count", [9, 4_003, 20_003])  # one part, or four that must meet
def test_the_parts_of_a_long_row_have_the_directions_of_the_whole(bars, period, multiplier, count):
    high, low, close = bars(count)
    supertrend = SuperTrend(period, multiplier)
    state, expected = supertrend.start, []
    for prices in zip(high.tolist(), low.tolist(), close.tolist(), strict=True):
        state = supertrend.step(state, *prices)
        expected.append(supertrend.direction(state))
    found = kernel.directions_of(high, low, close, period, multiplier)
    assert found.tolist() == expected
    changes = [k for k, (before, now) in enumerate(pairwise(expected), 1) if now != before]
    assert kernel.changes_of(found).tolist() == changes
