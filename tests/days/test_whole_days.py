"""A whole day ends flat, reconciled and explained; the same seed gives the same day to the paisa."""

import sqlite3

import pytest

from .conftest import RECORDED

pytestmark = pytest.mark.slow

recorded = pytest.mark.skipif(not RECORDED.is_dir(), reason=f"no recorded market data in {RECORDED}")


def essence(summary):
    """What a trader would call "the same day"."""
    return [
        (
            t.contract,
            t.quantity,
            t.entered_at,
            t.exited_at,
            t.buy_value_paise,
            t.sell_value_paise,
            t.exit_reason,
            t.charges_paise,
            t.why_entry,
            t.why_exit,
        )
        for t in summary.trades
    ]


def fills_of(truth):
    return sorted((f["client_order_id"], f["quantity"]) for f in truth["fills"])


def test_the_same_seed_gives_the_same_day_to_the_paisa(rehearse):
    first, second = rehearse("--seed", "7"), rehearse("--seed", "7")
    assert first.summary.trade_count >= 1, first.summary
    assert essence(first.summary) == essence(second.summary)
    assert first.summary.refusals == second.summary.refusals
    for day in (first, second):
        assert day.summary.is_sound, day.summary.faults


def test_every_number_of_the_summary_is_one_query_on_the_ledger(rehearse):
    day = rehearse("--seed", "11")
    with sqlite3.connect(day.ledger_path) as ledger:
        gross, charges, net = ledger.execute(
            "SELECT gross_paise, charges_paise, net_paise FROM day_total WHERE session_id = ?", [day.session_id]
        ).fetchone()
        trades = ledger.execute(
            "SELECT trade, quantity, buy_value_paise, sell_value_paise, exit_reason, net_paise FROM trade"
            " WHERE session_id = ? ORDER BY trade",
            [day.session_id],
        ).fetchall()
    assert (gross, charges, net) == (day.summary.gross_paise, day.summary.charges_paise, day.summary.net_paise)
    assert trades == [
        (t.trade, t.quantity, t.buy_value_paise, t.sell_value_paise, t.exit_reason, t.net_paise)
        for t in day.summary.trades
    ]


def test_the_ledger_equals_the_exchange(rehearse):
    day = rehearse("--seed", "23", index="BANKNIFTY")
    with sqlite3.connect(day.ledger_path) as ledger:
        ours = ledger.execute("SELECT client_order_id, SUM(quantity) FROM fill GROUP BY client_order_id").fetchall()
    theirs = {}
    for fill in day.truth["fills"]:
        theirs[fill["client_order_id"]] = theirs.get(fill["client_order_id"], 0) + fill["quantity"]
    assert dict(ours) == theirs
    assert all(position["net_quantity"] == 0 for position in day.truth["positions"])


@recorded
@pytest.mark.parametrize(
    ("index", "file", "day"),
    [
        ("SENSEX", "sensex_2026-02-05_5s.csv", "2026-02-05"),
        ("NIFTY", "nifty_2024_1min.csv", "2024-01-02"),
        ("NIFTY", "nifty_2024_1min.csv", "2024-03-02"),
        ("NIFTY", "nifty_2024_1min.csv", "2024-06-04"),
    ],
)
def test_recorded_days_end_flat_and_reconciled(rehearse, index, file, day):
    done = rehearse("--recording", str(RECORDED / file), index=index, day=day)
    assert done.summary.is_sound, done.summary.faults
    assert str(done.summary.day) == day
