"""Metrics: worked examples, the textbook formulas written another way, and what is undefined."""

import math
import statistics
from datetime import date, timedelta
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from strategy.metrics import (
    DayMetrics,
    Drawdown,
    TradeColumns,
    TradeMetrics,
    break_down,
    day_metrics,
    trade_metrics,
    two_sided_p_value,
)

START = date(2026, 11, 2)
CAPITAL = 1_00_000_00


def trades(*net_paise: int, **more: list[int]) -> TradeMetrics:
    count = len(net_paise)
    columns = {"entry_at_ms": [0] * count, "exit_at_ms": [1_000] * count} | more
    arrays = {name: np.array(values, dtype=np.int64) for name, values in columns.items()}
    return trade_metrics(TradeColumns(net_paise=np.array(net_paise, dtype=np.int64), **arrays))


def days_of(*net_paise: int, capital_paise: int = CAPITAL) -> DayMetrics:
    days = [START + timedelta(days=number) for number in range(len(net_paise))]
    return day_metrics(days, np.array(net_paise, dtype=np.int64), capital_paise)


class TestTrades:
    def test_a_worked_week(self):
        found = trades(300_00, -100_00, 0, -200_00, 500_00, exit_at_ms=[5_000, 9_000, 1_000, 3_000, 60_000])
        assert (found.trades, found.wins, found.draws, found.losses) == (5, 2, 1, 2)
        assert found.net_paise == 500_00
        assert found.win_rate == 0.4
        assert found.expectancy_paise == 100_00
        assert found.profit_factor == pytest.approx(800 / 300)
        assert found.payoff == pytest.approx(400 / 150)
        assert found.expectancy_ratio == pytest.approx((1 + 400 / 150) * 0.4 - 1)
        # Deviations from 100: 200, -200, -100, -300, 400; sum of squares 340,000; variance 85,000.
        assert found.sqn == pytest.approx(math.sqrt(5) * 100 / math.sqrt(85_000))
        assert found.p_value == two_sided_p_value(found.sqn, 4)
        assert (found.best_paise, found.worst_paise) == (500_00, -200_00)
        assert (found.longest_winning_streak, found.longest_losing_streak) == (1, 1)
        assert found.drawdown_paise == 300_00
        assert (found.holding_mean_s, found.holding_median_s) == (15.6, 5.0)
        assert (found.mae_mean_paise, found.mfe_mean_paise) == (None, None)

    def test_the_first_loss_is_a_drawdown(self):
        assert trades(-100, 50).drawdown_paise == 100

    def test_excursions_are_means(self):
        found = trades(10, 20, mae_paise=[-30, -10], mfe_paise=[40, 60])
        assert (found.mae_mean_paise, found.mfe_mean_paise) == (-20, 50)

    @pytest.mark.parametrize(
        ("net", "winning", "losing"),
        [
            ([1, 1, 1, -1, -1, 1, 1], 3, 2),
            ([1, 1, 0, 1], 2, 0),  # a draw ends a streak
            ([-1, -1], 0, 2),
            ([], 0, 0),
        ],
    )
    def test_streaks(self, net, winning, losing):
        found = trades(*net)
        assert (found.longest_winning_streak, found.longest_losing_streak) == (winning, losing)

    @pytest.mark.parametrize(
        ("net", "undefined"),
        [
            (
                [],
                (
                    "win_rate expectancy_paise expectancy_ratio profit_factor payoff sqn p_value best_paise "
                    "worst_paise holding_mean_s holding_median_s mae_mean_paise mfe_mean_paise mae_worst_paise mfe_best_paise"
                ),
            ),
            (
                [100],
                "expectancy_ratio profit_factor payoff sqn p_value mae_mean_paise mfe_mean_paise mae_worst_paise mfe_best_paise",
            ),
            (
                [100, 100],
                "expectancy_ratio profit_factor payoff sqn p_value mae_mean_paise mfe_mean_paise mae_worst_paise mfe_best_paise",
            ),
            (
                [100, 200],
                "expectancy_ratio profit_factor payoff mae_mean_paise mfe_mean_paise mae_worst_paise mfe_best_paise",
            ),
            ([-100, -200], "payoff mae_mean_paise mfe_mean_paise mae_worst_paise mfe_best_paise"),
            ([100, -200], "mae_mean_paise mfe_mean_paise mae_worst_paise mfe_best_paise"),
        ],
    )
    def test_what_is_undefined_is_none(self, net, undefined):
        found = trades(*net)
        assert {name for name in TradeMetrics.__slots__ if getattr(found, name) is None} == set(undefined.split())

    def test_only_losses_lose_everything_they_risk(self):
        assert trades(-100, -200).expectancy_ratio == -1
        assert trades(-100, -200).profit_factor == 0

    @given(net=st.lists(st.integers(-(10**7), 10**7), min_size=1, max_size=60))
    def test_nothing_but_finite_numbers_and_money_is_exact(self, net):
        found = trades(*net)
        assert found.net_paise == sum(net)
        assert found.wins + found.draws + found.losses == found.trades == len(net)
        assert Fraction(found.expectancy_paise).limit_denominator(len(net)) == Fraction(sum(net), len(net))
        for name in TradeMetrics.__slots__:
            value = getattr(found, name)
            assert value is None or math.isfinite(value)

    @given(net=st.lists(st.integers(-(10**6), 10**6), min_size=3, max_size=40).filter(lambda net: len(set(net)) > 1))
    def test_sqn_is_the_t_of_the_textbook(self, net):
        expected = statistics.fmean(net) / (statistics.stdev(net) / math.sqrt(len(net)))
        assert trades(*net).sqn == pytest.approx(expected, rel=1e-9, abs=1e-9)

    def test_columns_of_different_length_are_refused(self):
        with pytest.raises(ValueError, match=r"equally long columns.*'exit_at_ms': 3"):
            trades(1, 2, exit_at_ms=[1, 2, 3])


class TestPValue:
    # Critical values of Student's distribution, from any table.
    @pytest.mark.parametrize(
        ("degrees", "t", "p"),
        [
            (1, 12.70620473617471, 0.05),
            (2, 4.302652729749464, 0.05),
            (5, 2.570581835636314, 0.05),
            (5, 4.032142983557536, 0.01),
            (10, 2.2281388519649385, 0.05),
            (30, 2.0422724563012373, 0.05),
            (100, 1.9839715184496334, 0.05),
            (1_000_000, 1.9599663568141158, 0.05),
        ],
    )
    def test_tables(self, degrees, t, p):
        assert two_sided_p_value(t, degrees) == pytest.approx(p, rel=1e-8)

    @given(t=st.floats(-1e6, 1e6))
    def test_closed_forms_of_one_and_two_degrees(self, t):
        one = 1 - 2 / math.pi * math.atan(abs(t))
        two = 1 - abs(t) / math.sqrt(2 + t * t)
        assert two_sided_p_value(t, 1) == pytest.approx(one, rel=1e-6, abs=1e-13)
        assert two_sided_p_value(t, 2) == pytest.approx(two, rel=1e-6, abs=1e-13)

    @given(t=st.floats(-50, 50), degrees=st.integers(1, 5_000))
    def test_is_a_probability_and_even(self, t, degrees):
        p = two_sided_p_value(t, degrees)
        assert 0 <= p <= 1
        assert p == two_sided_p_value(-t, degrees)

    def test_no_difference_is_certain_chance(self):
        assert two_sided_p_value(0.0, 7) == 1.0

    def test_without_degrees_of_freedom_it_is_refused(self):
        with pytest.raises(ValueError, match="at least 1 degree of freedom, found 0"):
            two_sided_p_value(1.0, 0)


class TestDays:
    # 1,00,000 -> 1,10,000 -> 99,000 -> 99,000 -> 1,08,900: returns 0.1, -0.1, 0, 0.1
    WORKED = (10_000_00, -11_000_00, 0, 9_900_00)

    def test_a_worked_week(self):
        found = days_of(*self.WORKED)
        assert (found.days, found.winning_days, found.draw_days, found.losing_days) == (4, 2, 1, 1)
        assert found.net_paise == 8_900_00
        assert found.best_day == (START, 10_000_00)
        assert found.worst_day == (START + timedelta(days=1), -11_000_00)
        assert found.total_return == pytest.approx(0.089)
        assert found.cagr == pytest.approx(1.089 ** (252 / 4) - 1)
        spread = statistics.stdev([0.1, -0.1, 0, 0.1])
        assert found.volatility == pytest.approx(spread * math.sqrt(252))
        assert found.sharpe == pytest.approx(0.025 / spread * math.sqrt(252))
        assert found.sortino == pytest.approx(0.025 / math.sqrt(0.01 / 4) * math.sqrt(252))
        assert found.calmar is None, "four days are too few"
        assert found.drawdown == Drawdown(
            ratio=pytest.approx(0.1), paise=11_000_00, peak=START, trough=START + timedelta(days=1), recovered=None
        )

    def test_a_year_at_the_pace_of_a_tiny_return_keeps_its_digits(self):
        # Two paise on a crore of rupees in 21 days: a power minus 1 has seven digits of it.
        found = day_metrics([START + timedelta(days=n) for n in range(21)], np.array([2] + [0] * 20), 10**9)
        exact = (1 + Fraction(2, 10**9)) ** 12 - 1
        assert found.cagr == pytest.approx(float(exact), rel=1e-12)

    def test_a_year_at_a_pace_that_no_number_can_hold_is_none(self):
        found = day_metrics([START], np.array([30_000_00]), 1_00)
        assert (found.total_return, found.cagr, found.calmar) == (30_000, None, None)

    def test_a_drawdown_from_the_start_has_no_peak_day_and_ends_when_the_capital_is_back(self):
        found = days_of(-500_00, -500_00, 400_00, 600_00, 100_00).drawdown
        assert found == Drawdown(
            ratio=0.01,
            paise=1_000_00,
            peak=None,
            trough=START + timedelta(days=1),
            recovered=START + timedelta(days=3),
        )

    def test_a_peak_that_lasts_is_dated_by_its_first_day(self):
        found = days_of(100_00, 0, 0, -50_00, 0).drawdown
        assert (found.peak, found.trough, found.recovered) == (START, START + timedelta(days=3), None)

    def test_the_deepest_drawdown_is_the_one_of_the_largest_part_not_of_the_largest_sum(self):
        found = days_of(-20_000_00, 180_000_00, -30_000_00).drawdown
        assert found is not None
        assert (found.paise, found.ratio) == (20_000_00, 0.2)

    def test_calmar_begins_at_twenty_days(self):
        net = [100_00, -50_00] * 10
        assert days_of(*net[:19]).calmar is None
        found = days_of(*net)
        assert found.drawdown is not None
        assert found.calmar == found.cagr / found.drawdown.ratio

    @pytest.mark.parametrize(
        ("net", "undefined"),
        [
            ([], "best_day worst_day total_return cagr volatility sharpe sortino calmar drawdown drawdown_in_money"),
            ([100_00], "volatility sharpe sortino calmar drawdown drawdown_in_money"),
            ([0, 0], "sharpe sortino calmar drawdown drawdown_in_money"),
            ([100_00, 200_00], "sortino calmar drawdown drawdown_in_money"),
            ([100_00, -200_00], "calmar"),
            ([-CAPITAL, 100_00], "cagr volatility sharpe sortino calmar drawdown"),  # the capital is used up
        ],
    )
    def test_what_is_undefined_is_none(self, net, undefined):
        found = days_of(*net)
        assert {name for name in DayMetrics.__slots__ if getattr(found, name) is None} == set(undefined.split())

    def test_equal_returns_have_no_sharpe(self):
        # 10 % of 1,00,000, of 1,10,000 and of 1,21,000: rounding must not make a spread of them.
        assert days_of(10_000_00, 11_000_00, 12_100_00).sharpe is None

    @given(net=st.lists(st.integers(-5_000_00, 5_000_00), min_size=1, max_size=15))
    def test_the_drawdown_is_the_worst_of_all_pairs_of_days(self, net):
        equity = [CAPITAL]
        for paise in net:
            equity.append(equity[-1] + paise)
        worst = max((Fraction(a - b, a) for i, a in enumerate(equity) for b in equity[i:]), default=Fraction(0))
        found = days_of(*net).drawdown
        assert (found.ratio if found else 0) == pytest.approx(float(worst), rel=1e-12)

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (([START], np.array([1, 2]), CAPITAL), "one net P&L per day, found 1 days and 2 values"),
            (([START], np.array([1]), 0), "positive starting capital in paise, found 0"),
        ],
    )
    def test_inputs_without_meaning_are_refused(self, arguments, message):
        with pytest.raises(ValueError, match=message):
            day_metrics(*arguments)


class TestBreakDown:
    def test_by_reason(self):
        found = break_down(["target", "stop_loss", "target", "reversal"], np.array([300, -100, 200, 0]))
        assert list(found) == ["reversal", "stop_loss", "target"]
        target = found["target"]
        assert (target.trades, target.wins, target.net_paise) == (2, 2, 500)
        assert (target.win_rate, target.expectancy_paise) == (1.0, 250.0)
        even = found["reversal"]
        assert (even.trades, even.wins, even.losses) == (1, 0, 0), "a draw is neither"
        assert (found["stop_loss"].losses, found["stop_loss"].lost_paise) == (1, 100)

    @given(rows=st.lists(st.tuples(st.sampled_from(["a", "b", "c"]), st.integers(-(2**54), 2**54)), max_size=30))
    def test_the_parts_are_the_whole_to_the_paisa(self, rows):
        keys = [key for key, _ in rows]
        found = break_down(keys, np.array([net for _, net in rows], dtype=np.int64))
        assert {key: part.net_paise for key, part in found.items()} == {
            key: sum(net for name, net in rows if name == key) for key in set(keys)
        }

    def test_a_missing_key_is_refused(self):
        with pytest.raises(ValueError, match="one key per trade, found 1 keys and 2 trades"):
            break_down(["a"], np.array([1, 2]))
