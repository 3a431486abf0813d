"""The compiled rules beside the engines a trader would pick instead, on the same bars, in one run.

    python tests/bench/bench_backtest.py [--days 250] [--rounds 3] [--peers .bot/bench]

Each engine has an environment of its own below .bot/bench, made on the first run with pinned versions, and a process
of its own that waits while others run; rounds are interleaved and medians compared, so only the ratios are worth
quoting. The simple rule (SuperTrend(10, 3) turns up: buy at the close; turns down: sell at the close) is cross-checked
trade by trade. An engine that cannot be installed is a row that says so. It is no test: a slow machine is not a fault.
"""

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import date, timedelta
from pathlib import Path

import numpy as np

from strategy.calendar import trading_day
from strategy.instruments import Underlying
from strategy.params import Params
from tasks.backtest.market import MarketModel, past_market
from tasks.backtest.prices import day_of_ticks

from strategy import kernel  # isort: skip
from tasks.backtest.compiled import CompiledMarket  # isort: skip

PROJECT = Path(__file__).resolve().parents[2]
ENVIRONMENTS = {
    "research": ("vectorbt[rust]==1.2.0", "backtesting==0.6.6", "backtrader==1.9.78.123"),
    "nautilus": ("nautilus_trader==1.221.0",),
}
# Engine: its environment, and the most bars (ticks for nautilus) it is asked for.
PEERS = {
    "vectorbt rust": ("research", None),
    "vectorbt numba": ("research", None),
    "backtesting.py": ("research", 60_000),
    "backtrader": ("research", 15_000),
    "nautilus_trader": ("nautilus", 60_000),
}
FULL = {"stop_loss_points": 25, "target_points": 40, "trail_start_points": 15, "trail_step_points": 5}


def made_up_days(count):
    """Days of one-second ticks, a random walk that is busier at the ends of the day."""
    dice = np.random.Generator(np.random.PCG64(11))
    day, price, found = date(2024, 1, 1), 22_000_00.0, []
    shape = np.concatenate((np.linspace(1.6, 0.8, 9_000), np.full(7_500, 0.8), np.linspace(0.8, 1.3, 6_000)))
    while len(found) < count:
        if (today := trading_day(day)) is not None and len(today.windows) == 1 and not today.name:
            steps = dice.normal(0, 90, len(shape)) * shape
            prices = np.rint((price + np.cumsum(steps)) / 5).astype(np.int64) * 5
            price = float(np.clip(prices[-1], 15_000_00, 30_000_00))
            found.append(day_of_ticks(day, today.open_ms + np.arange(len(shape)) * 1000, prices))
        day += timedelta(days=1)
    return found


class Peer:
    """An engine's process."""

    def __init__(self, name, python, file):
        self.process = subprocess.Popen(
            [python, PROJECT / "tests/bench/peers/peer.py", name, file],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        )  # fmt: skip

    def answer(self):
        line = self.process.stdout.readline()
        return json.loads(line) if line else None

    def ask(self, **job):
        self.process.stdin.write(json.dumps(job) + "\n")
        self.process.stdin.flush()
        return self.answer()

    def close(self):
        self.process.stdin.close()
        self.process.kill()
        self.process.wait()


def environment(name, packages, home):
    """The interpreter of an environment, made if it is not there; None and why it cannot be made."""
    python = home / name / "bin" / "python"
    ready = home / name / "ready"
    if ready.exists():
        return python, ""
    uv = Path(sys.executable).parent / "uv"
    for command in (
        [sys.executable, "-m", "venv", "--without-pip", home / name],
        [uv, "pip", "install", "--quiet", "--python", python, *packages],
    ):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            return None, (done.stderr.strip().splitlines() or ["it failed without a word"])[-1][:60]
    ready.write_text("\n".join(packages) + "\n")
    return python, ""


def timed(work):
    began = time.perf_counter()
    result = work()
    return time.perf_counter() - began, result


def flip_trades(high, low, close):
    """Ours: the simple rule from bars to trades."""
    directions = kernel.directions_of(high, low, close, 10, 3.0)
    turns = kernel.changes_of(directions)
    # The first change is from "not known" to down.
    known = turns[1:] if len(turns) and directions[turns[0] - 1] == 0 else turns
    ups = known[directions[known] > 0]
    downs = known[directions[known] < 0]
    downs = downs[downs > ups[0]] if len(ups) else downs[:0]
    return np.stack((ups[: len(downs)], downs), axis=1)


def full_params():
    """Every rule in play, on five-second candles."""
    return Params(**FULL, supertrend_period=10, supertrend_multiplier=3.0, daily_max_loss=5_000)


def anew(market):
    """The market with nothing but its ticks."""
    market.forget(market.ticks.at_ms, market.ticks.spot_paise)
    return market


def sweep_of(market):
    """100 combinations like the peers': 4 periods, 5 multipliers, 5 pairs of target and trail."""
    total = 0
    for period in (7, 10, 14, 20):
        for multiplier in (2.0, 2.5, 3.0, 3.5, 4.0):
            for target, trail in ((10, 5), (20, 10), (30, 10), (40, 20), (50, 20)):
                params = full_params().model_copy(
                    update={
                        "supertrend_period": period, "supertrend_multiplier": multiplier, "target_points": float(target),
                        "trail_start_points": float(trail), "trail_step_points": float(trail) / 2,
                    }
                )  # fmt: skip
                total += len(market.trades(params))
    return total


def main():
    """Make the data, start the engines, interleave the rounds, print one table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--days", type=int, default=250)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--peers", type=Path, default=PROJECT / ".bot" / "bench")
    options = parser.parse_args()
    recorded = made_up_days(options.days)
    days = past_market(recorded, Underlying.NIFTY, first=None, last=None).days
    market = CompiledMarket(days, MarketModel())
    candles = kernel.candles_of(market.ticks.at_ms, market.ticks.spot_paise, market.first_tick, 5, 50)
    high, low, close = candles[:3]
    ticks = len(market.ticks.at_ms)
    flip_trades(high, low, close)
    market.trades(full_params())
    ours, peers, missing = {}, {}, {}
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "bars.npz"
        np.savez(file, open=close, high=high, low=low, close=close, ticks=market.ticks.spot_paise / 100)
        for name, (where, most) in PEERS.items():
            python, why = environment(where, ENVIRONMENTS[where], options.peers)
            peer = Peer(name, python, file) if python else None
            if peer is None or peer.answer() is None:
                missing[name] = why or "it does not start"
                continue
            peers[name] = (peer, min(most or len(close), ticks if name == "nautilus_trader" else len(close)))
        seconds, answers = {}, {}
        for _ in range(options.rounds):
            for job, work in (
                ("flip", lambda: flip_trades(high, low, close)),
                ("full", lambda: anew(market).trades(full_params())),
                ("sweep", lambda: sweep_of(anew(market))),
            ):
                spent, ours[job] = timed(work)
                seconds.setdefault(("ours", job), []).append(spent)
            own_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
            for name, (peer, bars) in peers.items():
                for job in ("flip", "sweep") if name.startswith("vectorbt") or name == "backtesting.py" else ("flip",):
                    answer = peer.ask(job=job, bars=bars)
                    if answer is None:
                        missing[f"{name} {job}"] = "it ended in the middle"
                        break
                    seconds.setdefault((name, job), []).append(answer["seconds"])
                    answers[name, job] = answer
        for peer, _ in peers.values():
            peer.close()
    report(seconds, answers, peers, missing, ours, ticks=ticks, bars=len(close), own_mb=own_mb, days=options.days)


def report(seconds, answers, peers, missing, ours, *, ticks, bars, own_mb, days):
    """One table: what was done, how fast, how ours compares."""
    median = {key: statistics.median(found) for key, found in seconds.items()}
    print(
        f"\n{days} days, {ticks:,} one-second ticks, {bars:,} five-second bars; medians of {len(seconds['ours', 'flip'])} rounds"
    )
    print(f"{'engine':<18}{'what':<42}{'per second':>16}{'ours / it':>12}{'peak MB':>9}  trades")
    flip = bars / median["ours", "flip"]
    full = ticks / median["ours", "full"]
    sweep = 100 * bars / median["ours", "sweep"]
    print(f"{'this project':<18}{'simple rule, 5-s bars':<42}{flip:>16,.0f}{'1':>12}{'':>9}  {len(ours['flip'])}")
    print(
        f"{'this project':<18}{'all rules on 1-s ticks, cold, options':<42}{full:>16,.0f}{'':>12}{'':>9}  {len(ours['full'])}"
    )
    print(
        f"{'this project':<18}{'100 combinations, all rules, ticks':<42}{sweep:>16,.0f}{'1':>12}{own_mb:>9,.0f}  {ours['sweep']}"
    )
    for (name, job), answer in answers.items():
        count = peers[name][1]
        spent = median[name, job]
        if job == "sweep":
            combinations = 100 if name.startswith("vectorbt") else 4
            rate = combinations * count / spent
            what = f"{combinations} combinations, {count:,} bars"
            print(f"{name:<18}{what:<42}{rate:>16,.0f}{sweep / rate:>12,.1f}{answer['peak_mb']:>9,.0f}")
            continue
        rate = count / spent
        if name == "nautilus_trader":
            checked = f"{answer['trades'][0][0]} orders"
            print(
                f"{name:<18}{f'simple rule, {count:,} 1-s ticks':<42}{rate:>16,.0f}{full / rate:>12,.0f}{answer['peak_mb']:>9,.0f}  {checked}"
            )
            continue
        expected = [tuple(pair) for pair in ours["flip"].tolist() if pair[1] < count - 1]
        found = [tuple(pair) for pair in answer["trades"] if pair[1] < count - 1]
        checked = f"{len(found)}, the same" if found == expected else f"{len(found)}, OURS DIFFER ({len(expected)})"
        print(
            f"{name:<18}{f'simple rule, {count:,} 5-s bars':<42}{rate:>16,.0f}{flip / rate:>12,.1f}{answer['peak_mb']:>9,.0f}  {checked}"
        )
        if name == "backtesting.py":
            year = bars / rate
            print(
                f"{'':<18}{'its year of bars / our year of ticks, all rules':<58}{year / median['ours', 'full']:>12,.0f}"
            )
    for name, why in missing.items():
        print(f"{name:<18}not measured: {why}")


if __name__ == "__main__":
    main()
