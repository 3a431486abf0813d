"""A walk-forward trades only what was chosen without having seen the days that it trades."""

from datetime import date

import numpy as np
import pytest

pytest.importorskip("numba", reason="choosing settings needs the packages of [sweep]")

from tasks.backtest.compiled import CompiledMarket
from tasks.backtest.grid import read_grid
from tasks.backtest.market import past_market
from tasks.backtest.page import render_page
from tasks.backtest.prices import read_days
from tasks.backtest.walk import best_of, nets_of, walk_forward, windows_of

GRID = """
data: [{name}]
from: 2026-11-12
settings: {{candle_seconds: 60, htf_filter: false, macd_confirmation: false, daily_max_loss: 20000}}
grid:
  supertrend_period: [3, 7]
  supertrend_multiplier: [1, 2]
  stop_loss_points: [10, 30]
"""


@pytest.fixture(scope="module")
def grid(minute_bars):
    file = minute_bars.parent / "walk.yaml"
    file.write_text(GRID.format(name=minute_bars.name))
    return read_grid(file)


@pytest.fixture(scope="module")
def walked(grid):
    return walk_forward(grid, fit_days=2, trade_days=1)


def test_windows_trade_each_day_after_the_first_fit_once():
    for days, fit, trade in ((5, 2, 1), (161, 60, 20), (61, 60, 20), (7, 3, 9)):
        windows = list(windows_of(days, fit, trade))
        traded = [number for window in windows for number in range(window.trade, window.until)]
        assert traded == list(range(fit, days))
        assert all(window.trade - window.fit == fit for window in windows)
    for wrong in ((60, 60, 20), (5, 1, 1), (5, 2, 0)):
        with pytest.raises(ValueError, match="expected"):
            list(windows_of(*wrong))


def test_the_traded_days_are_stitched_from_the_chosen_settings(grid, walked):
    days = (date(2026, 11, 16), date(2026, 11, 17), date(2026, 11, 18))
    assert walked.days == days
    assert [(walk.fit_first, walk.fit_last, walk.first) for walk in walked.walks] == [
        (date(2026, 11, 12), date(2026, 11, 13), days[0]),
        (date(2026, 11, 13), date(2026, 11, 16), days[1]),
        (date(2026, 11, 16), date(2026, 11, 17), days[2]),
    ]
    # What the live rules made of each choice is what the compiled ones foresaw of it.
    market = past_market(read_days(grid.files, "NIFTY", ""), "NIFTY", first=grid.first, last=None)
    nets = nets_of(grid, CompiledMarket(market.days, grid.model, before=market.before))
    keys = [combination.chosen for combination in grid.combinations]
    for number, walk in enumerate(walked.walks):
        row = nets[keys.index(walk.chosen)]
        assert walk.net_paise == walked.day_net_paise[number] == row[number + 2]
        assert walk.fit_net_paise == row[number : number + 2].sum()
    assert sum(walk.trades for walk in walked.walks) == len(walked.trades) > 3


def test_a_later_day_changes_no_earlier_choice(grid, walked, minute_bars):
    # The same file without its last day, and with it turned upside down.
    lines = minute_bars.read_text().splitlines()
    head, last = lines[0], [line for line in lines if ",20261118," in line]
    turned = []
    for line in last:
        name, day, minute, *prices = line.split(",")
        opens, high, low, close = (round(49_000 - float(price), 2) for price in prices)
        turned.append(f"{name},{day},{minute},{opens},{low},{high},{close}")
    file = minute_bars.parent / "turned.csv"
    file.write_text("\n".join([head, *(line for line in lines[1:] if line not in last), *turned]) + "\n")
    other = minute_bars.parent / "turned.yaml"
    other.write_text(GRID.format(name=file.name))
    again = walk_forward(read_grid(other), fit_days=2, trade_days=1)
    assert again.walks[:2] == walked.walks[:2]
    assert again.walks[2].chosen == walked.walks[2].chosen  # fitted on the days before it
    assert again.walks[2].net_paise != walked.walks[2].net_paise


def test_the_best_is_the_one_with_the_steadiest_days(grid):
    nets = np.zeros((len(grid.combinations), 4), dtype=np.int64)
    nets[3], nets[5] = [100, 90, 110, 100], [900, -100, 0, 100]
    assert best_of(nets, grid.combinations)[0] == 3
    nothing = best_of(np.zeros_like(nets), grid.combinations)
    assert nothing[1] is None
    assert grid.combinations[nothing[0]].key == min(combination.key for combination in grid.combinations)


def test_the_report_shows_each_choice_and_what_was_left_of_it(walked):
    said, page, answer = "\n".join(walked.lines()), render_page(walked), walked.to_json()
    assert "walk-forward, 3 stretches: mean day " in said
    for walk in walked.walks:
        assert f"{walk.first} to {walk.last}: {walk.trades} trades" in said
        assert walk.settings in said
        assert walk.settings in page
    assert [walk["chosen"] for walk in answer["admissions"]["walk_forward"]] == [walk.chosen for walk in walked.walks]
    assert "the best of 8 combinations on the 2 days before it" in walked.assumptions[0]
