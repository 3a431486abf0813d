"""The bot as a process: how soon it trades, what a whole day costs and keeps, and the evening after one year and five.

    python tests/bench/bench_live.py [--without-demo]

A session trades a whole day on a simulator of its own at full speed, over HTTP and WebSocket, with what a flow's process
imports; then `bot demo` runs the same day through a Prefect server. Memory is that of the session's process in the
morning, at noon and before the close. Seconds are the clock's unless they are said to be the processor's: a busy machine
makes them longer. It is no test.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from datetime import date
from pathlib import Path

import bench_analytics
import psutil
from rows import Row, report

from tasks.settings import REHEARSAL_ACCESS_TOKEN, REHEARSAL_CLIENT_ID

PROJECT = Path(__file__).resolve().parents[2]
DAY = date(2026, 11, 20)
LOOKS = {"10:00": 0, "12:30": 0, "15:20": 0}  # market times at which the memory is read
DEMO_GOAL_S = 60.0
CAPITAL_PAISE = 5_00_000_00


def trade_whole_day(url, home):
    """In a process of its own: one day; says when the first tick was taken, and the memory at the times of LOOKS."""
    import flows.session  # noqa: F401, PLC0415  what a flow's process imports
    from strategy.events import Tick  # noqa: PLC0415
    from strategy.params import Params  # noqa: PLC0415
    from tasks.clock import ist  # noqa: PLC0415
    from tasks.connect import Connections  # noqa: PLC0415
    from tasks.preflight import CHECKS  # noqa: PLC0415
    from tasks.settings import Settings  # noqa: PLC0415
    from tasks.trading import trader  # noqa: PLC0415
    from tasks.trading.session import trade_session  # noqa: PLC0415

    me, step, found, seen = psutil.Process(), trader.step, {"events": 0}, {}
    imported_s = time.time() - me.create_time()

    def watched(state, event, plan, params):
        found["events"] += 1
        if isinstance(event, Tick):
            if "first_tick_s" not in found:
                found["first_tick_s"] = time.time() - me.create_time()
                found["first_cpu_s"] = time.process_time()
            if not found["events"] % 256:
                at = f"{ist(event.at_ms):%H:%M}"
                for look in LOOKS:
                    if look not in seen and at >= look:
                        seen[look] = me.memory_info().rss / 2**20
        return step(state, event, plan, params)

    trader.step = watched
    settings = Settings(_env_file=None, simulator_url=url, home=Path(home))
    with Connections(Params(mode="rehearsal"), DAY, run_id="bench", settings=settings) as connections:
        for check in CHECKS:
            assert check(connections)
        trade_session(connections)
    spent = {"cpu_s": time.process_time(), "whole_s": time.time() - me.create_time(), "imported_s": imported_s}
    print(json.dumps(found | spent | {"rss_mb": seen}))


def session_rows():
    """A whole day without Prefect."""
    with tempfile.TemporaryDirectory() as folder:
        ready = Path(folder) / "simulator.json"
        market = subprocess.Popen(
            [sys.executable, "-m", "simulator", "--port", "0", "--with-parent", "--ready", ready, "--speed", "0",
             "--client-id", REHEARSAL_CLIENT_ID, "--token", REHEARSAL_ACCESS_TOKEN, "--day", str(DAY), "--stack"],
            cwd=PROJECT, stdout=subprocess.DEVNULL,
        )  # fmt: skip
        try:
            while not (ready.exists() and ready.read_text().strip()):
                assert market.poll() is None, "the simulator ended"
                time.sleep(0.05)
            url = json.loads(ready.read_text())["url"]
            done = subprocess.run(
                [sys.executable, __file__, "--session", url, folder],
                cwd=PROJECT, capture_output=True, text=True, check=False, env=clean_environment(),
            )  # fmt: skip
            assert done.returncode == 0, done.stderr[-2_000:]
            spent = psutil.Process(market.pid).cpu_times()
        finally:
            market.terminate()
            market.wait()
    found = json.loads(done.stdout.splitlines()[-1])
    morning, _, evening = found["rss_mb"].values()
    each = ", ".join(f"{mb:.0f}" for mb in found["rss_mb"].values())
    return [
        Row("start of a session's process to its first tick", f"{found['first_tick_s']:.1f} s", "its imports alone", found["first_tick_s"] / found["imported_s"]),
        Row(f"a whole day without Prefect, {found['events']:,} events", f"{found['whole_s']:.1f} s", f"CPU: bot {found['cpu_s']:.1f} s, simulator {spent.user + spent.system:.1f} s"),
        Row(f"memory of that day at {', '.join(LOOKS)}", f"{each} MB", "before the close / in the morning", evening / morning, 1.1, most=True),
    ]  # fmt: skip


def clean_environment():
    """Nothing of the caller's own settings."""
    return {name: value for name, value in os.environ.items() if not name.startswith(("BOT_", "PREFECT_"))}


def demo_rows():
    """A whole day with Prefect, by `bot demo`, and what each of its processes took of the processor.

    In the project's own .bot, as its user runs it; the first day there takes Prefect's migrations longer.
    """
    with tempfile.TemporaryDirectory() as folder:
        began, spent, over = time.perf_counter(), {}, threading.Event()
        demo = subprocess.Popen(
            [sys.executable, "-c", "from flows.cli import main; main()", "demo", "--json", Path(folder) / "day.json"],
            cwd=PROJECT, stdout=subprocess.DEVNULL, env=clean_environment(),
        )  # fmt: skip

        def look():
            while not over.wait(0.25):
                try:
                    for process in psutil.Process(demo.pid).children(recursive=True):
                        times, words = process.cpu_times(), " ".join(process.cmdline())
                        spent[process.pid] = (times.user + times.system, words or spent.get(process.pid, (0, ""))[1])
                except psutil.Error:
                    continue

        threading.Thread(target=look, daemon=True).start()
        code = demo.wait()
        over.set()
        seconds = time.perf_counter() - began
    names = {
        "server start": "Prefect's server", "prefect_cli": "deploying and worker", "simulator": "simulator",
        "prefect.engine": "jobs", "": "other",
    }  # fmt: skip
    split = dict.fromkeys(names.values(), 0.0)
    for cpu_s, words in spent.values():
        split[next(name for sign, name in names.items() if sign in words)] += cpu_s
    told = ", ".join(f"{name} {cpu_s:.0f}" for name, cpu_s in split.items())
    if code:
        return [Row("a whole rehearsal day with Prefect", f"not measured: bot demo ended with {code}")]
    return [Row(f"a whole rehearsal day with Prefect (CPU s: {told})", f"{seconds:.0f} s", "60 s", seconds / DEMO_GOAL_S, 1.0, most=True)]  # fmt: skip


def evening_rows():
    """The evening's figures and page after as many sessions as one year and five have, five trades each."""
    from strategy.closed_trades import TradeFilter  # noqa: PLC0415
    from tasks.evening.period import analyse_period, read_period  # noqa: PLC0415
    from tasks.ledger.store import Ledger  # noqa: PLC0415
    from tasks.pages.period_report import render_period_report  # noqa: PLC0415

    rows, every, wanted = [], list(bench_analytics.sessions()), TradeFilter()
    for words, sessions in (("one year", 250), ("five years", 1_250)):
        bench_analytics.TRADES = 5 * sessions
        bench_analytics.sessions = lambda count=sessions: iter(every[:count])
        with tempfile.TemporaryDirectory() as folder:
            packed, _, _ = bench_analytics.write(Path(folder))
            ledger = Ledger(f"sqlite:///{packed}")
            spent = []
            for _ in range(3):
                began = time.process_time()
                found = analyse_period(ledger, wanted, capital_paise=CAPITAL_PAISE, now_ms=0)
                between = time.process_time()
                page = render_period_report(ledger, found, read_period(ledger, wanted, now_ms=0).trades.select(wanted))
                spent.append((between - began, time.process_time() - between))
            ledger.close()
        figures_s, page_s = min(spent)
        rows.append(Row(f"evening of {words}: figures, page of {len(page) / 1e6:.1f} MB, CPU", f"{figures_s:.2f} s, {page_s:.2f} s"))  # fmt: skip
    return rows


def main():
    """All of it."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--session", nargs=2, metavar=("URL", "HOME"))
    parser.add_argument("--without-demo", action="store_true")
    options = parser.parse_args()
    if options.session:
        trade_whole_day(*options.session)
        return
    rows = evening_rows() + session_rows()
    if not options.without_demo:
        rows += demo_rows()
    report("The bot as a process", rows)


if __name__ == "__main__":
    main()
