"""How the compiled rules grow with ticks and with settings, and the evening's figures with trades.

    python tests/bench/bench_growth.py

Each series is four sizes, the smallest CPU time of some runs each; the exponent is the slope of a straight line through
the logarithms: 1 is proportional, less is better than that (there is a part that does not grow). The picture is
.bot/bench/growth.png.
"""

import statistics
import tempfile
import time
from pathlib import Path

import altair as alt
import bench_analytics
import numpy as np
from peers import ours
from rows import Row, report

from tasks.ledger.store import Ledger

PROJECT = Path(__file__).resolve().parents[2]
DAYS = (25, 50, 100, 250)
SETTINGS = (20, 100, 200, 400)
TRADES = (10_000, 30_000, 100_000, 300_000)
ROUNDS = 3


def smallest(work):
    """CPU seconds of the best of some runs, after one that is not counted."""
    work()
    spent = []
    for _ in range(ROUNDS):
        began = time.process_time()
        work()
        spent.append(time.process_time() - began)
    return min(spent)


def by_ticks():
    """All rules, cold, on longer and longer pasts."""
    for days in DAYS:
        market = ours.market_of(days)
        yield len(market.ticks.at_ms), smallest(lambda market=market: ours.anew(market).trades(ours.FULL))


def by_settings():
    """More and more combinations over fifty days."""
    market = ours.market_of(50)
    for count in SETTINGS:
        yield count, smallest(lambda count=count: ours.sweep(market, count))


def by_trades():
    """The evening's figures of more and more trades over the same days."""
    for trades in TRADES:
        bench_analytics.TRADES = trades
        with tempfile.TemporaryDirectory() as folder:
            packed, _, _ = bench_analytics.write(Path(folder))
            ledger = Ledger(f"sqlite:///{packed}")
            yield trades, smallest(lambda ledger=ledger: bench_analytics.ours(ledger))
            ledger.close()


def exponent(points):
    """The slope of the logarithms."""
    sizes, seconds = np.log(np.array(points)).T
    return statistics.linear_regression(sizes.tolist(), seconds.tolist()).slope


def main():
    """Measure, print the exponents, draw."""
    series = {"ticks": list(by_ticks()), "settings": list(by_settings()), "trades": list(by_trades())}
    lines = [
        {"of": name, "size": size, "seconds": seconds} for name, points in series.items() for size, seconds in points
    ]
    chart = (
        alt.Chart(alt.Data(values=lines))
        .mark_line(point=True)
        .encode(
            x=alt.X("size:Q", scale=alt.Scale(type="log"), title="how many"),
            y=alt.Y("seconds:Q", scale=alt.Scale(type="log"), title="CPU seconds"),
            color=alt.Color("of:N", title=None),
        )
        .properties(width=640, height=400, title="How it grows")
    )
    picture = PROJECT / ".bot" / "bench" / "growth.png"
    picture.parent.mkdir(parents=True, exist_ok=True)
    chart.save(str(picture))
    report(
        f"Growth; the picture is {picture.relative_to(PROJECT)}",
        [
            Row(
                f"growth with {name}: {points[0][0]:,} to {points[-1][0]:,}",
                f"{points[0][1]:.3g} to {points[-1][1]:.3g} s",
                "proportional: exponent 1",
                exponent(points),
                1.1,
                most=True,
            )
            for name, points in series.items()
        ],
    )


if __name__ == "__main__":
    main()
