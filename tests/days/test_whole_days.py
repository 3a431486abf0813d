"""A whole day ends flat, reconciled and explained; the same seed gives the same day to the paisa."""

import io
import sqlite3

import pytest
from rich.console import Console

from tasks.feed.decode import FULL, TICKER
from tasks.pages.summary import render_table

from .conftest import PROJECT, RECORDED

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

ENDING = "flat, reconciled with the broker, every order priced"
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


def assert_readme_shows(summary):
    """The first screen of the README is what a newcomer gets."""
    console = Console(width=110, record=True, file=io.StringIO())
    console.print(render_table(summary))
    shown = [line.rstrip() for line in console.export_text().splitlines()]
    readme = (PROJECT / "README.md").read_text().splitlines()
    begin = readme.index(shown[0])
    assert readme[begin : readme.index("```", begin)] == shown[: shown.index(ENDING) + 1]


def test_the_same_seed_gives_the_same_day_to_the_paisa_and_people_hear_of_it(rehearse, web_hook, mail_server):
    first = rehearse("--seed", "7", notify=(web_hook.url, mail_server.url))
    second = rehearse("--seed", "7", stack=False)
    assert first.summary.trade_count >= 1, first.summary
    assert essence(first.summary) == essence(second.summary)
    assert first.summary.refusals == second.summary.refusals
    for day in (first, second):
        assert day.summary.is_sound, day.summary.faults
        assert day.packets_decoded == day.packets_sent, "every packet of the day was taken in, kind by kind"
        [of_the_day] = day.packets_sent
        assert min(of_the_day[TICKER], of_the_day[FULL]) > 20_000
    assert_readme_shows(first.summary)
    titles = "\n".join(heard["title"] for heard in web_hook.heard)
    for occasion in ("session started", "bought 65", "net · ", "day over"):
        assert occasion in titles, titles
    assert len(mail_server.mails) >= first.summary.trade_count


def test_the_ledger_equals_the_exchange_and_the_summary_is_queries_on_it(rehearse):
    day = rehearse("--seed", "23", index="BANKNIFTY")
    with sqlite3.connect(day.ledger_path) as ledger:
        total = ledger.execute(
            "SELECT gross_paise, charges_paise, net_paise FROM day_total WHERE session_id = ?", [day.session_id]
        ).fetchone()
        trades = ledger.execute(
            "SELECT trade, quantity, buy_value_paise, sell_value_paise, exit_reason, net_paise FROM trade"
            " WHERE session_id = ? ORDER BY trade",
            [day.session_id],
        ).fetchall()
        filled = ledger.execute("SELECT client_order_id, SUM(quantity) FROM fill GROUP BY 1").fetchall()
    assert day.summary.trade_count >= 1
    assert total == (day.summary.gross_paise, day.summary.charges_paise, day.summary.net_paise)
    assert trades == [
        (t.trade, t.quantity, t.buy_value_paise, t.sell_value_paise, t.exit_reason, t.net_paise)
        for t in day.summary.trades
    ]
    theirs = {}
    for fill in day.truth["fills"]:
        theirs[fill["client_order_id"]] = theirs.get(fill["client_order_id"], 0) + fill["quantity"]
    assert dict(filled) == theirs
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
    assert done.summary.trade_count + sum(done.summary.refusals.values()) > 0, "the session saw no signal at all"
