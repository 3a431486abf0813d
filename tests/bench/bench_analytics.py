"""A million trades: read from SQLite and measured, beside pandas and plain SQL doing the same work.

    python tests/bench/bench_analytics.py

The same trades lie in two SQLite files: packed by session as the ledger keeps them, and as a table of one row per
trade, which the others read. All three must agree to the paisa. Prints medians of this machine and moment, and their
ratios; only the ratios are worth quoting. It is no test: a slow machine is not a fault.
"""

import sqlite3
import statistics
import tempfile
import time
from datetime import date, timedelta
from pathlib import Path

import numpy as np
import pandas as pd
from rows import Row, report

from strategy.calendar import trading_day
from strategy.closed_trades import LAYOUT, RECORD, TradeFilter
from tasks.evening.period import analyse_period
from tasks.ledger.store import Ledger, migrate

TRADES = 1_000_000
CAPITAL_PAISE = 1_00_00_000_00
INDICES = ("BANKNIFTY", "FINNIFTY", "NIFTY", "SENSEX")
REASONS = ("reversal", "squareoff", "stop_loss", "target", "trailing_stop")
EPOCH = date(1970, 1, 1)
IST_MS = 19_800_000


def sessions():
    """Every trading day of 2024 to 2026 in four indices."""
    day = date(2024, 1, 1)
    while day <= date(2026, 11, 20):
        if trading_day(day) is not None:
            yield from ((day, index) for index in INDICES)
        day += timedelta(days=1)


def trades_of(dice, day, count):
    """Records of one session, in the order of their exits."""
    midnight_ms = (day - EPOCH).days * 86_400_000 - IST_MS
    records = np.zeros(count, dtype=RECORD)
    entry = np.sort(midnight_ms + dice.integers(33_900_000, 55_000_000, count))
    records["entry_at_ms"] = entry
    records["exit_at_ms"] = np.sort(entry + dice.integers(15_000, 600_000, count))
    records["quantity"] = 65
    records["lots"] = 1
    records["buy_value_paise"] = 65 * dice.integers(50_00, 250_00, count)
    records["sell_value_paise"] = np.maximum(65, records["buy_value_paise"] + 65 * dice.integers(-20_00, 22_00, count))
    records["charges_paise"] = dice.integers(50_00, 80_00, count)
    records["mae_paise"] = -dice.integers(0, 1_000_00, count)
    records["mfe_paise"] = dice.integers(0, 1_000_00, count)
    records["entry_slippage_paise"] = dice.integers(-100, 500, count)
    records["exit_slippage_paise"] = dice.integers(-100, 500, count)
    records["entry_delay_ms"] = dice.integers(100, 3_000, count)
    records["exit_delay_ms"] = dice.integers(100, 3_000, count)
    records["reason"] = dice.integers(0, len(REASONS), count)
    records["put"] = dice.integers(0, 2, count)
    records["expiry"] = (day - EPOCH).days + dice.integers(0, 5, count)
    records["trade"] = np.arange(1, count + 1)
    return records


def write(folder):
    """Both files; returns their paths and the trading days."""
    packed, flat = folder / "ledger.sqlite", folder / "flat.sqlite"
    migrate(f"sqlite:///{packed}")
    dice = np.random.default_rng(20261122)
    found = list(sessions())
    counts = [TRADES // len(found) + (number < TRADES % len(found)) for number in range(len(found))]
    columns = ["day", "underlying", "mode", "exit_reason", *(name for name in RECORD.names if name != "reason")]
    with sqlite3.connect(packed) as ours, sqlite3.connect(flat) as theirs:
        theirs.execute(f"CREATE TABLE trade ({', '.join(columns)})")
        for (day, index), count in zip(found, counts, strict=True):
            session_id = f"{day}/{index}/live/1000000009"
            records = trades_of(dice, day, count)
            ours.execute(
                "INSERT INTO session VALUES (?, '1000000009', ?, 'live', ?, 'k3f')", (session_id, index, str(day))
            )
            ours.execute(
                "INSERT INTO day_columns VALUES (?, 1, ?, ?, '{}', ?)",
                (session_id, LAYOUT, "\n".join(REASONS), records.tobytes()),
            )
            reasons = [REASONS[number] for number in records["reason"].tolist()]
            rows = zip(*(records[name].tolist() for name in columns[4:]), strict=True)
            theirs.executemany(
                f"INSERT INTO trade VALUES ({', '.join('?' * len(columns))})",
                [(str(day), index, "live", reason, *row) for reason, row in zip(reasons, rows, strict=True)],
            )
    return packed, flat, sorted({day for day, _ in found})


def ours(ledger):
    """The whole analysis."""
    return analyse_period(ledger, TradeFilter(), capital_paise=CAPITAL_PAISE, now_ms=0)


def with_pandas(path, days):
    """The same figures, as one writes them with pandas."""
    with sqlite3.connect(path) as connection:
        trades = pd.read_sql("SELECT * FROM trade", connection)
    net = trades.sell_value_paise - trades.buy_value_paise - trades.charges_paise
    trades["net"] = net
    ordered = trades.sort_values("exit_at_ms", kind="stable").net
    sign = np.sign(ordered)
    streaks = sign.groupby((sign != sign.shift()).cumsum()).agg(["first", "size"])
    total = ordered.cumsum()
    daily = trades.groupby("day").net.sum().reindex([str(day) for day in days], fill_value=0)
    equity = CAPITAL_PAISE + daily.cumsum()
    returns = daily / equity.shift(fill_value=CAPITAL_PAISE)
    downside = np.sqrt((np.minimum(returns, 0) ** 2).mean())
    peaks = np.maximum.accumulate(np.concatenate(([CAPITAL_PAISE], equity)))[1:]
    won, lost = net[net > 0], net[net < 0]
    holding = (trades.exit_at_ms - trades.entry_at_ms) / 1000
    day = pd.to_datetime(trades.day)
    groups = {
        "index": trades.underlying,
        "mode": trades["mode"],
        "direction": trades.put,
        "exit_reason": trades.exit_reason,
        "weekday": day.dt.day_of_week,
        "hour": (trades.entry_at_ms + IST_MS) // 3_600_000 % 24,
        "expiry_day": trades.expiry == (day - pd.Timestamp(EPOCH)).dt.days,
        "month": trades.day.str[:7],
    }
    return {
        "net": int(net.sum()),
        "win rate": len(won) / len(trades),
        "profit factor": won.sum() / -lost.sum(),
        "payoff": won.mean() / -lost.mean(),
        "sqn": np.sqrt(len(net)) * net.mean() / net.std(),
        "best and worst": (net.max(), net.min()),
        "streaks": streaks[streaks["first"] != 0].groupby("first")["size"].max().to_dict(),
        "drawdown": int((np.maximum(total.cummax(), 0) - total).max()),
        "holding": (holding.mean(), holding.median()),
        "excursions": (trades.mae_paise.mean(), trades.mfe_paise.mean()),
        "slippage": (trades.entry_slippage_paise.mean(), trades.exit_slippage_paise.mean()),
        "delays": (trades.entry_delay_ms.median(), trades.exit_delay_ms.median()),
        "charges": int(trades.charges_paise.sum()),
        "sharpe": returns.mean() / returns.std() * np.sqrt(252),
        "sortino": returns.mean() / downside * np.sqrt(252),
        "volatility": returns.std() * np.sqrt(252),
        "deepest": ((peaks - equity) / peaks).max(),
        "groups": {name: trades.net.groupby(key).agg(["count", "sum"]) for name, key in groups.items()},
    }


def with_sql(path):
    """What SQL alone can say of it: sums and groups, without medians, streaks, drawdown or returns."""
    net = "sell_value_paise - buy_value_paise - charges_paise"
    keys = ["underlying", "mode", "put", "exit_reason", "day", "(entry_at_ms + 19800000) / 3600000 % 24"]
    with sqlite3.connect(path) as connection:
        total = connection.execute(f"SELECT COUNT(*), SUM({net}), SUM(({net}) > 0) FROM trade").fetchone()
        for key in keys:
            connection.execute(f"SELECT {key}, COUNT(*), SUM({net}) FROM trade GROUP BY 1").fetchall()
    return total


def measured(work, *arguments):
    """Seconds of the wall's clock and of the processor, which differ where other programs want it too; the result."""
    began, busy = time.perf_counter(), time.process_time()
    result = work(*arguments)
    return (time.perf_counter() - began, time.process_time() - busy), result


def main():
    """All in turns, so that all meet the same machine."""
    with tempfile.TemporaryDirectory() as folder:
        packed, flat, days = write(Path(folder))
        ledger = Ledger(f"sqlite:///{packed}")
        costs = {"ours": [], "pandas": [], "sql": []}
        for _ in range(3):
            seconds, found = measured(ours, ledger)
            costs["ours"].append(seconds)
            seconds, theirs = measured(with_pandas, flat, days)
            costs["pandas"].append(seconds)
            seconds, total = measured(with_sql, flat)
            costs["sql"].append(seconds)
        ledger.close()
    assert found.trades.trades == TRADES == total[0]
    assert found.trades.net_paise == theirs["net"] == total[1], "all must agree to the paisa"
    assert found.trades.wins == total[2]
    assert np.isclose(found.days.sharpe, theirs["sharpe"], rtol=1e-9)
    assert np.isclose(found.days.sortino, theirs["sortino"], rtol=1e-9)
    assert np.isclose(found.trades.sqn, theirs["sqn"], rtol=1e-9)
    assert found.trades.drawdown_paise == theirs["drawdown"]
    assert found.trades.longest_winning_streak == theirs["streaks"][1.0]
    wall, cpu = ({name: statistics.median(pair[n] for pair in pairs) for name, pairs in costs.items()} for n in (0, 1))
    rows = [
        Row(f"{TRADES:,} trades read and measured, CPU", f"{cpu['ours']:.2f} s", than, cpu[name] / cpu["ours"])
        for name, than in (("pandas", "pandas, the same figures"), ("sql", "SQL, sums and groups alone"))
    ]
    title = (
        f"{TRADES:,} trades of {len(days)} days; by the clock ours {wall['ours']:.2f} s, pandas {wall['pandas']:.2f} s"
    )
    report(title, rows)


if __name__ == "__main__":
    main()
