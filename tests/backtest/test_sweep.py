"""A sweep ends with each combination exactly once, whatever happens on the way; its ranking does not flatter."""

import os
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from datetime import date
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("numba", reason="sweeps need the packages of [sweep]")

from flows.cli.options import settings_of
from flows.cli.research import sweep as sweep_command
from tasks.backtest import sweep as sweeping
from tasks.backtest.compiled import CompiledMarket
from tasks.backtest.grid import GridError, read_grid
from tasks.backtest.market import past_market
from tasks.backtest.outcome import Outcome, outcome_of
from tasks.backtest.prices import read_days
from tasks.backtest.ranking import deflated_sharpe, luck_of, rank
from tasks.backtest.run import DAYS_BEFORE, BacktestRequest, replay_days, run_backtest
from tasks.backtest.store import SweepStore
from tasks.backtest.sweep import compute, rules_version, run_sweep, sealed_wire, sweep_name, sweep_words
from tasks.backtest.sweep_page import write_sweep

PROJECT = Path(__file__).resolve().parents[2]
# A sweep that stops for ever after its third batch, as a process that will be killed there.
STOPS = """
import sys, threading
from pathlib import Path
from tasks.backtest.grid import read_grid
from tasks.backtest.sweep import run_sweep

def stop(done, of):
    if done >= 60:
        print("here", flush=True)
        threading.Event().wait()

run_sweep(read_grid(Path(sys.argv[1])), Path(sys.argv[2]), progress=stop)
"""


def keys_in(file):
    with closing(sqlite3.connect(file)) as database:
        return [key for (key,) in database.execute("SELECT key FROM outcome")]


def test_a_sweep_that_is_killed_goes_on_where_it_was(a_grid, tmp_path):
    store = tmp_path / "outcomes.sqlite"
    process = subprocess.Popen(
        [sys.executable, "-c", STOPS, a_grid, store], cwd=PROJECT, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline().strip() == "here"
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    process.stdout.close()
    before = keys_in(store)
    grid = read_grid(a_grid)
    assert 60 <= len(before) < len(grid.combinations)
    computed = []

    def runner(wire, batches):
        for batch in batches:
            computed.extend(combination.key for combination in batch)
            yield compute(wire, batch)

    found = run_sweep(grid, store, runner=runner)
    assert not set(computed) & set(before)
    assert sorted(computed + before) == sorted(combination.key for combination in grid.combinations)
    assert len(keys_in(store)) == len(set(keys_in(store))) == len(found) == 300
    assert run_sweep(grid, tmp_path / "afresh.sqlite") == found


def test_what_comes_twice_is_there_once(a_grid, tmp_path):
    grid = read_grid(a_grid)
    found = compute(grid.to_wire(), grid.combinations[:5])
    with SweepStore(tmp_path / "store.sqlite", "one", "") as store:
        assert store.add(found) == 5
        assert store.add(found) == 0
        assert store.outcomes() == sorted(found, key=lambda row: row[0].key)
        assert store.known() == {combination.key for combination in grid.combinations[:5]}


def test_a_combination_of_a_sweep_is_its_backtest(a_grid):
    grid = read_grid(a_grid)
    recorded = read_days(grid.files, "NIFTY", "")
    market = past_market(recorded, grid.params(grid.combinations[0]).index, first=grid.first, last=grid.last)
    for combination in grid.combinations[::97]:
        ((outcome, chosen),) = compute(grid.to_wire(), [combination])
        runs = replay_days(market.days, grid.params(combination), grid.model, before=market.before)
        trades = [trade for run in runs for trade in run.trades]
        assert chosen == combination.chosen
        assert (outcome.trades, outcome.net_paise) == (len(trades), sum(trade.net_paise for trade in trades))
        assert outcome.days == len(market.days) == 5
        assert sum(outcome.months.values()) == outcome.net_paise


def test_indicators_computed_for_others_change_nothing(a_grid):
    grid = read_grid(a_grid)
    market = past_market(read_days(grid.files, "NIFTY", ""), "NIFTY", first=grid.first, last=None)
    shared = CompiledMarket(market.days, grid.model, before=market.before[-DAYS_BEFORE:])
    for combination in [*grid.combinations[::60], *grid.combinations[::-71]]:
        alone = CompiledMarket(market.days, grid.model, before=market.before[-DAYS_BEFORE:])
        params = grid.params(combination)
        assert shared.trades(params).tolist() == alone.trades(params).tolist()


def test_other_recordings_or_fixed_settings_are_another_sweep(a_grid, tmp_path):
    grid = read_grid(a_grid)
    text = a_grid.read_text().replace("daily_max_loss: 20000", "daily_max_loss: 19000")
    other = a_grid.parent / "other.yaml"
    other.write_text(text)
    assert sweep_name(read_grid(other)) != sweep_name(grid)
    # More values on an axis go on with what is there.
    other.write_text(a_grid.read_text().replace("[3, 5, 7, 10]", "[3, 5, 7, 10, 12]"))
    assert sweep_name(read_grid(other)) == sweep_name(grid)


def test_another_version_of_the_rules_or_facts_is_another_sweep(a_grid, monkeypatch):
    grid = read_grid(a_grid)
    name, wire = sweep_name(grid), sealed_wire(grid)
    read, files = Path.read_bytes, []

    def edited(file):
        files.append(file)
        return read(file) + (b"#" if file.name == "charges.toml" else b"")

    monkeypatch.setattr(Path, "read_bytes", edited)
    rules_version.cache_clear()
    try:
        assert sweep_name(grid) != name
        # All that a result hangs on: rules, facts, pricing, how bars become ticks, what a day was.
        wanted = {
            "exits.py",
            "params.py",
            "kernel.py",
            "premiums.py",
            "charges.toml",
            "contracts.toml",
            "sessions.toml",
        }
        assert wanted | {"prices.py", "market.py", "outcome.py", "bars.csv"} <= {file.name for file in files}
        # A worker with this version refuses to compute for those with the other.
        sweeping._opened.cache_clear()
        with pytest.raises(RuntimeError, match="expected the rules"):
            compute(wire, grid.combinations[:1])
    finally:
        rules_version.cache_clear()


GRIDS = {
    "an unknown setting": ("grid: {supertrend_perod: [7]}", "supertrend_perod"),
    "no values": ("grid: {supertrend_period: []}", "expected values"),
    "several indices": ("grid: {index: [NIFTY, SENSEX]}", "one index"),
    "nothing but contradictions": ("grid: {trail_start_points: [5, 10]}", "contradicts itself"),
    "no grid": ("settings: {}", "grid"),
    "more than can be tried": (
        "grid: {target_points: {from: 0, to: 9999, step: 0.5}, stop_loss_points: {from: 0, to: 999, step: 0.5}}",
        "say draws",
    ),
}


@pytest.mark.parametrize("name", GRIDS)
def test_a_grid_that_cannot_be_swept_says_why(name, tmp_path):
    text, complaint = GRIDS[name]
    file = tmp_path / "grid.yaml"
    file.write_text(f"data: [bars.csv]\n{text}\n")
    with pytest.raises(GridError, match=complaint):
        read_grid(file)


def test_draws_are_different_combinations_and_the_same_each_time(tmp_path):
    file = tmp_path / "grid.yaml"
    file.write_text(
        "data: [bars.csv]\ndraws: 500\nseed: 3\ngrid: {target_points: {from: 1, to: 100, step: 1}, lots: [1, 2, 3],"
        " stop_loss_points: {from: 5, to: 50, step: 0.5}}\n"
    )
    grid = read_grid(file)
    assert len({combination.key for combination in grid.combinations}) == 500
    assert grid.possible == 100 * 3 * 91
    assert read_grid(file) == grid


def outcome(key, daily, **values):
    trades = np.zeros((len(daily), 17), dtype=np.int64)
    trades[:, 0], trades[:, 14] = np.arange(len(daily)), daily
    made = outcome_of(key, trades, [date(2024, 1, 1 + number) for number in range(len(daily))])
    return Outcome(**{**{name: getattr(made, name) for name in Outcome.__slots__}, **values})


def test_the_best_of_many_worthless_tries_is_called_luck():
    dice = np.random.Generator(np.random.PCG64(1))
    found = [
        (outcome(str(number), np.rint(dice.normal(0, 1000, 30)).astype(np.int64)), {"lots": number})
        for number in range(200)
    ]
    ranking = rank(found, {"lots": tuple(range(200))})
    assert ranking.rows[0].outcome.p_value < 0.05  # alone it would look like something
    assert ranking.rows[0].believable < 0.9
    assert "overfit" in ranking.warning


def test_an_edge_among_worthless_tries_is_believed():
    dice = np.random.Generator(np.random.PCG64(2))
    found = [
        (outcome(str(number), np.rint(dice.normal(0, 1000, 30)).astype(np.int64)), {"lots": number})
        for number in range(20)
    ]
    found.append((outcome("edge", np.rint(dice.normal(1500, 900, 30)).astype(np.int64)), {"lots": 20}))
    ranking = rank(found, {"lots": tuple(range(21))})
    assert ranking.rows[0].outcome.key == "edge"
    assert ranking.rows[0].believable > 0.95
    assert "overfit" not in ranking.warning


def test_the_deflated_sharpe_ratio_is_that_of_the_paper():
    # Bailey and Lopez de Prado (2014), numerical example: 100 tries whose Sharpe ratios vary by 1/2 a year, the best
    # with 2.5 a year over 1250 days, skewness -3, kurtosis 10.
    sharpes = [0.0] * 50 + [1.0] * 50
    assert luck_of([(one - 0.5) * 2 * (0.5 / 250) ** 0.5 for one in sharpes]) == pytest.approx(0.1132, abs=5e-4)
    best = outcome("best", [1, 2], sharpe=2.5 / 250**0.5, skew=-3.0, kurtosis=10.0, days=1250)
    found = deflated_sharpe(best, [(one - 0.5) * 2 * (0.5 / 250) ** 0.5 for one in sharpes])
    assert found == pytest.approx(0.9004, abs=2e-3)


def test_neighbours_differ_by_one_step_of_one_setting():
    axes = {"lots": (1, 2, 3), "target_points": (10, 20, 30)}
    found = [
        (outcome(f"{lots}{target}", [lots, -target]), {"lots": lots, "target_points": target})
        for lots in axes["lots"]
        for target in axes["target_points"]
    ]
    ranked = {(row.chosen["lots"], row.chosen["target_points"]): row.neighbours for row in rank(found, axes).rows}
    assert ranked == {
        (1, 10): 2,
        (1, 20): 3,
        (1, 30): 2,
        (2, 10): 3,
        (2, 20): 4,
        (2, 30): 3,
        (3, 10): 2,
        (3, 20): 3,
        (3, 30): 2,
    }


def test_a_peak_without_a_neighbour_is_told_from_a_plateau():
    axes = {"lots": (1, 2, 3, 4, 5, 6)}
    sharpes = (2.0, -1.0, 0.5, 1.2, 1.1, 1.0)  # a peak at the edge, and a plateau around 5
    found = [
        (outcome(str(lots), [900 if sharpe > 1.9 else 1, 10], sharpe=sharpe), {"lots": lots})
        for lots, sharpe in zip(axes["lots"], sharpes, strict=True)
    ]
    ranking = rank(found, axes)
    assert ranking.rows[0].chosen == {"lots": 1}
    assert ranking.plateau.chosen == {"lots": 5}
    assert any("best together with its neighbours is lots 5" in line for line in ranking.advice)


def test_a_setting_that_changes_nothing_bears_no_witness():
    axes = {"lots": (1, 2), "min_hold_seconds": (0, 15, 60)}
    found = [
        (outcome(f"{lots}{hold}", [1_000, -lots]), {"lots": lots, "min_hold_seconds": hold})
        for lots in axes["lots"]
        for hold in axes["min_hold_seconds"]
    ]
    ranking = rank(found, axes)
    assert ranking.idle == ("min_hold_seconds",)
    assert {row.neighbours for row in ranking.rows} == {1}
    assert any(line.startswith("min_hold_seconds changed no result") for line in ranking.advice)


def test_a_result_of_one_month_is_said_to_be_that():
    months = {"2024-01": 9_000, "2024-02": 500, "2024-03": 500}
    ranking = rank([(outcome("one", [1, 2], months=months, net_paise=10_000), {"lots": 1})], {"lots": (1,)})
    assert any("one month made 90 %" in line for line in ranking.advice)


def test_the_command_shows_every_column_whole_and_what_was_assumed(a_grid, tmp_path, capsys):
    capsys.readouterr()
    assert sweep_command(a_grid, home=tmp_path, best=3) == 0
    said = capsys.readouterr().out
    for words in ("multiplier", "neighbours", "real", "300 of 300 combinations", "Black-Scholes"):
        assert words in said
    assert "…" not in said
    assert "bot backtest --walk-forward" in said
    # A trader can look at the best one's trades by what is printed: they are the row's.
    line = next(line for line in said.splitlines() if line.startswith("its trades: bot backtest "))
    words = line.split()[4:]
    chosen = [words[number + 1] for number, word in enumerate(words) if word == "--set"]
    request = BacktestRequest(files=(words[1],), settings=settings_of(chosen), first=date.fromisoformat(words[3]))
    grid = read_grid(a_grid)
    best = rank(run_sweep(grid, tmp_path / "sweeps" / "outcomes.sqlite"), grid.axes).rows[0]
    assert run_backtest(request).figures.net_paise == best.outcome.net_paise


def test_the_page_stands_alone_and_the_csv_has_every_combination(a_grid, tmp_path):
    grid = read_grid(a_grid)
    found = compute(grid.to_wire(), grid.combinations[:40])
    page = write_sweep(rank(found, grid.axes), tmp_path, "test", sweep_words(grid))
    text = page.read_text()
    assert "<th>2026-11</th>" in text
    assert "NIFTY, 5 days, 2026-11-12 to 2026-11-18" in text
    assert "http" not in text.replace("http-equiv", "")
    assert "data:image/png" in text
    assert len((page.parent / "ranking.csv").read_text().splitlines()) == 41
