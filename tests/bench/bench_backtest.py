"""The compiled rules beside the engines a trader would pick instead, on the same bars, in one run.

    python tests/bench/bench_backtest.py [--days 250] [--rounds 3] [--peers .bot/bench]

Each engine has an environment of its own below .bot/bench, made on the first run with pinned versions, and a process
of its own that waits while others run; rounds are interleaved, medians of CPU seconds (of all threads and processes of an
engine) compared. The simple rule (SuperTrend(10, 3) turns up: buy at the close; turns down: sell at the close) is
cross-checked trade by trade. An engine that cannot be installed is a row that says so. It is no test: a slow machine is
not a fault.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from peers import ours as own
from rows import Row, report

PROJECT = Path(__file__).resolve().parents[2]
ENVIRONMENTS = {
    "research": ("vectorbt[rust]==1.2.0", "backtesting==0.6.6", "backtrader==1.9.78.123"),
    "nautilus": ("nautilus_trader==1.221.0",),
}
# Engine: its environment, the most bars (ticks for nautilus) it is asked for, and its jobs.
PEERS = {
    "vectorbt rust": ("research", None, ("flip", "sweep")),
    "vectorbt numba": ("research", None, ("flip", "sweep")),
    "backtesting.py": ("research", 60_000, ("flip", "sweep")),
    "backtrader": ("research", 15_000, ("flip",)),
    "nautilus_trader": ("nautilus", 60_000, ("flip",)),
}
# What takes less is done again, and the median counts: memory that was idle while others ran is fetched once.
AT_LEAST_S = 1.0
# Ours: what is asked of the process that keeps ticks alone, and of the one that has bars as well.
OURS = {"ticks": ("full", "sweep"), "bars": ("flip", "candles", "reading", "supertrend", "averaging")}


class Peer:
    """An engine's process."""

    def __init__(self, python, script, *arguments):
        self.process = subprocess.Popen(
            [python, PROJECT / "tests/bench/peers" / script, *arguments],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        )  # fmt: skip

    def answer(self):
        line = self.process.stdout.readline()
        return json.loads(line) if line else None

    def ask(self, **job):
        self.process.stdin.write(json.dumps({**job, "at_least_s": AT_LEAST_S}) + "\n")
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


def main():
    """Make the data, start the engines, interleave the rounds, print one table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--days", type=int, default=250)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--peers", type=Path, default=PROJECT / ".bot" / "bench")
    options = parser.parse_args()
    peers, missing, jobs = {}, [], []
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "bars.npz"
        ticks, bars = write_bars(options.days, file)
        compiler = Peer(sys.executable, "ours.py", "1", "bars")
        assert compiler.answer(), "this project's own engine does not start"
        compiler.close()  # compilation is kept on disk; a process that compiles needs its memory for that
        mine = {kind: Peer(sys.executable, "ours.py", str(options.days), kind) for kind in OURS}
        assert all(peer.answer() for peer in mine.values()), "this project's own engine does not start"
        for name, (where, limit, wanted) in PEERS.items():
            python, why = environment(where, ENVIRONMENTS[where], options.peers)
            peer = Peer(python, "peer.py", name, file) if python else None
            if peer is None or peer.answer() is None:
                missing.append((name, why or "it does not start"))
                continue
            peers[name] = peer
            most = min(limit or bars, ticks if name == "nautilus_trader" else bars)
            jobs += [(name, job, most) for job in wanted]
        seconds, answers = {}, {}
        for _ in range(options.rounds):
            for kind, own_jobs in OURS.items():
                for job in own_jobs:
                    note(seconds, answers, ("ours", job), mine[kind].ask(job=job))
            for name, job, most in jobs:
                answer = peers[name].ask(job=job, bars=most)
                if answer is None:
                    missing.append((f"{name}, {job}", "it ended in the middle"))
                else:
                    note(seconds, answers, (name, job), answer)
        for peer in (*mine.values(), *peers.values()):
            peer.close()
    asked = {(name, job): most for name, job, most in jobs}
    title = f"{options.days} days: {ticks:,} one-second ticks, {bars:,} five-second bars; medians of {options.rounds}"
    rows = rows_of({key: statistics.median(found) for key, found in seconds.items()}, answers, asked, ticks, bars)
    report(title, rows + [Row(name, f"not measured: {why}") for name, why in missing])


def write_bars(days, file):
    """The bars and ticks for all, kept in a file; returns how many there are."""
    market = own.market_of(days)
    high, low, close = own.bars_of(market)
    np.savez(file, open=close, high=high, low=low, close=close, ticks=market.ticks.spot_paise / 100)
    return len(market.ticks.at_ms), len(close)


def note(seconds, answers, key, answer):
    """Keep an answer and its time."""
    seconds.setdefault(key, []).append(answer["seconds"])
    answers[key] = answer


def rows_of(median, answers, asked, ticks, bars):
    """What was done, how fast, how ours compares."""
    full, flip = ticks / median["ours", "full"], bars / median["ours", "flip"]
    sweep, own_mb = 100 * bars / median["ours", "sweep"], answers["ours", "sweep"]["peak_mb"]
    reading, averaging = median["ours", "reading"], median["ours", "averaging"]
    rows = [
        Row("all rules on one-second ticks, cold", f"{full / 1e6:.0f} M ticks/s", "50 M ticks/s", full / 50e6, 1.0),
        Row(
            "SuperTrend over bars", f"{median['ours', 'supertrend'] / bars * 1e9:.1f} ns",
            "the bare ATR recursion", median["ours", "supertrend"] / averaging, 1.3, most=True,
        ),
        Row(
            "candles from ticks", f"{median['ours', 'candles'] / ticks * 1e9:.1f} ns",
            "looking at each tick once", median["ours", "candles"] / reading, 1.5, most=True,
        ),
    ]  # fmt: skip
    goals = {
        ("vectorbt rust", "flip"): 8,
        ("vectorbt numba", "flip"): 20,
        ("vectorbt rust", "sweep"): 40,
        ("backtesting.py", "sweep"): 1000,
        ("nautilus_trader", "flip"): 1000,
    }
    for (name, job), count in asked.items():
        if (name, job) not in median:
            continue
        answer, goal = answers[name, job], goals.get((name, job))
        rate = count / median[name, job]
        if job == "sweep":
            tried = 100 if name.startswith("vectorbt") else 4
            what = "100 combinations, all rules on ticks, one thread"
            if tried < 100:
                what += f" (its optimizer: {tried}, per bar and combination)"
            rows.append(Row(what, f"{median['ours', 'sweep']:.2f} s", name, sweep / (rate * tried), goal))
            if name == "vectorbt rust":
                rows.append(
                    Row(
                        "the memory of that sweep",
                        f"{own_mb:.0f} MB",
                        name,
                        own_mb / answer["peak_mb"],
                        1 / 8,
                        most=True,
                    )
                )
        elif name == "nautilus_trader":
            what = f"all rules on ticks (it: the simple rule, {answer['trades'][0][0]} orders)"
            rows.append(Row(what, f"{full / 1e6:.0f} M ticks/s", name, full / rate, goal))
        else:
            what = f"simple rule on {count:,} bars; {checked(answers, name, count)}"
            rows.append(Row(what, f"{flip / 1e6:.0f} M bars/s", name, flip / rate, goal))
        if (name, job) == ("backtesting.py", "flip"):
            what = "a year of ticks, all rules (it: the year's bars, simple rule)"
            rows.append(
                Row(what, f"{median['ours', 'full'] * 1e3:.0f} ms", name, bars / rate / median["ours", "full"], 150)
            )
    return rows


def checked(answers, name, count):
    """Whether its trades are ours."""
    expected = [tuple(pair) for pair in answers["ours", "flip"]["trades"] if pair[1] < count - 1]
    found = [tuple(pair) for pair in answers[name, "flip"]["trades"] if pair[1] < count - 1]
    return f"the same {len(found):,} trades" if found == expected else f"{len(found):,} trades, OURS DIFFER"


if __name__ == "__main__":
    main()
