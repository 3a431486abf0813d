"""The day's summary says what the ledger says, to the paisa, and whether the day ended as it should."""

import io
import json
from datetime import date
from pathlib import Path

import pytest
from rich.console import Console

from strategy.actions import ExitReason
from strategy.charges import order_charges, rates_on
from strategy.entry import Refusal
from strategy.events import Side
from strategy.instruments import Underlying
from tasks.evening.prices import price_orders
from tasks.ledger.records import DifferenceRecord, SessionKey
from tasks.ledger.store import Ledger
from tasks.pages.money import average_paise, group_indian, render_rupees
from tasks.pages.summary import DaySummary, render_table, result_line
from tasks.pages.wording import EXITS, REFUSALS, describe_entry, describe_exit

DAY = date(2026, 11, 20)
RUNS = (
    {
        "flow": "daily-session",
        "state": "Completed",
        "state_type": "COMPLETED",
        "id": "1",
        "name": "a",
        "more": "b",
    },
)


def shown(summary, width=160):
    console = Console(width=width, record=True, file=io.StringIO())
    console.print(render_table(summary))
    return console.export_text()


def test_money_adds_up_to_the_ledgers_own_day_total(recorded_day):
    summary = DaySummary.build(recorded_day.ledger, recorded_day.session_id, flow_runs=RUNS)
    ((trades, winners, gross, charges, net),) = recorded_day.ledger.rows(
        "SELECT closed_trades, winners, gross_paise, charges_paise, net_paise FROM day_total WHERE session_id = ?",
        recorded_day.session_id,
    )
    assert (summary.trade_count, summary.wins) == (trades, winners)
    assert (summary.gross_paise, summary.charges_paise, summary.net_paise) == (gross, charges, net)
    assert summary.net_paise == sum(trade.net_paise for trade in summary.trades)
    assert summary.wins + summary.losses + summary.draws == summary.trade_count == 4


def test_a_day_that_ended_well_is_sound_and_has_no_faults(recorded_day):
    summary = DaySummary.build(recorded_day.ledger, recorded_day.session_id, flow_runs=RUNS, report=Path("r.html"))
    assert summary.is_sound
    assert summary.faults == ()
    assert summary.report == "r.html"
    assert summary.starts == 1


@pytest.mark.parametrize(
    ("day", "runs", "fault"),
    [
        ({"leave_open": True}, RUNS, "still open: 65 × NIFTY"),
        ({"priced": False}, RUNS, "charges are not known for every order yet"),
        ({"reconciled": False}, RUNS, "not compared with the broker yet"),
        (
            {},
            ({"flow": "analytics", "state": "Crashed", "state_type": "CRASHED"},),
            "run analytics ended as Crashed",
        ),
    ],
)
def test_what_is_not_as_it_should_be_is_named(record_day, day, runs, fault):
    recorded = record_day(**day)
    summary = DaySummary.build(recorded.ledger, recorded.session_id, flow_runs=runs)
    assert not summary.is_sound
    assert [found for found in summary.faults if found.startswith(fault)]
    assert fault in shown(summary)
    assert summary.to_json()["sound"] is False


def test_a_difference_with_the_broker_is_shown_in_words(recorded_day):
    difference = DifferenceRecord(kind="position", subject="NSE_FNO:1", expected="0", found="65")
    recorded_day.ledger.record_reconciliation(
        recorded_day.session_id, "run-3", 1_795_180_000_000, "differs", [difference]
    )
    summary = DaySummary.build(recorded_day.ledger, recorded_day.session_id)
    assert not summary.is_sound
    assert "position NSE_FNO:1: ledger 0, broker 65" in summary.faults


def test_json_is_plain_and_reads_back_as_the_same_summary(recorded_day):
    summary = DaySummary.build(recorded_day.ledger, recorded_day.session_id, flow_runs=RUNS)
    written = json.loads(json.dumps(summary.to_json()))
    assert written.pop("sound") is True
    assert DaySummary.model_validate(written) == summary
    assert written["trades"][0]["entered_at"].endswith("+05:30")
    money = [value for trade in written["trades"] for name, value in trade.items() if name.endswith("_paise")]
    assert all(isinstance(value, int) for value in money)


def test_the_table_shows_the_result_every_trade_and_why_not(recorded_day):
    summary = DaySummary.build(recorded_day.ledger, recorded_day.session_id, flow_runs=RUNS)
    text = shown(summary)
    assert "NIFTY · rehearsal · Friday 20 Nov 2026" in text
    assert f"{render_rupees(summary.net_paise, signed=True)} net" in text
    for trade in summary.trades:
        assert trade.contract.removeprefix("NIFTY ") in text
        assert render_rupees(trade.net_paise, signed=True, symbol="") in text
    assert "SuperTrend did not turn 924" in text
    assert "flat, reconciled with the broker" in text
    assert "daily-session Completed" in text


def test_an_empty_day_says_so(sqlite_ledger_url):
    ledger = Ledger(sqlite_ledger_url)
    key = SessionKey(account="1", underlying=Underlying.SENSEX, mode="paper", day=DAY)
    ledger.open_session(key, "salt")
    summary = DaySummary.build(ledger, key.session_id)
    ledger.close()
    assert result_line(summary) == "no trades"
    assert summary.charges_known
    assert "no trades" in shown(summary)


def test_orders_are_priced_once_by_what_filled(recorded_day):
    rates = rates_on(DAY, "NSE")
    first = recorded_day.ledger.charges(recorded_day.session_id)
    assert price_orders(recorded_day.ledger, recorded_day.session_id, rates) == first
    assert recorded_day.ledger.charges(recorded_day.session_id) == first
    ((revisions,),) = recorded_day.ledger.rows("SELECT MAX(revision) FROM charge")
    assert revisions == 1
    trade = recorded_day.ledger.trades(recorded_day.session_id)[0]
    bought = order_charges(Side.BUY, trade.buy_value_paise, rates).total_paise
    sold = order_charges(Side.SELL, trade.sell_value_paise, rates).total_paise
    assert trade.charges_paise == bought + sold


def test_other_rates_become_the_orders_next_revision(recorded_day):
    others = rates_on(DAY, "BSE")
    price_orders(recorded_day.ledger, recorded_day.session_id, others)
    charges = recorded_day.ledger.charges(recorded_day.session_id)
    assert {charge.rates_version for charge in charges} == {others.version}


def test_every_refusal_and_every_reason_to_close_has_words():
    assert set(REFUSALS) == {str(refusal) for refusal in Refusal}
    assert set(EXITS) == {str(reason) for reason in ExitReason}


DESCRIPTIONS = {
    "entry on a flip": (
        describe_entry(
            {
                "flipped": True,
                "direction": 1,
                "supertrend_period": 7,
                "supertrend_multiplier": 4.0,
                "candle_start_ms": 1_795_000_000_000,
                "candle_close": 24_512.3,
                "supertrend": 24_480.1,
                "macd": 3.214,
                "macd_signal": 2.9,
                "htf_direction": 1,
                "spot": 24_512.3,
                "strike_points": 24_500,
                "option_type": "CE",
                "bid": 126.0,
                "ask": 126.05,
            }
        ),
        (
            "SuperTrend(7, 4) turned up on the 16:36:40 candle (close 24,512.30, line 24,480.10); "
            "MACD 3.21 ≥ signal 2.90; higher timeframe up; "
            "index at 24,512.30, so 24500 CE; bid 126.00, ask 126.05"
        ),
    ),
    "a confirmation that is off is not mentioned": (
        describe_entry({"direction": -1, "macd": 1.0, "macd_signal": 2.0, "macd_confirmation": False}),
        "SuperTrend is down",
    ),
    "stop": (
        describe_exit("stop_loss", {"premium": 75.95, "stop": 76.05, "entry": 126.05}),
        "Stop loss; premium 75.95 reached the stop at 76.05, bought at 126.05",
    ),
    "loss limit": (
        describe_exit("daily_max_loss", {"day_pnl": -2012.5, "daily_max_loss": 2000.0}),
        "Day's loss limit; the day stood at -₹2,012.50, limit of ₹2,000.00",
    ),
    "facts of other rules": (describe_exit("target", {}), "Target"),
    "still open": (describe_exit(None, None), ""),
}


@pytest.mark.parametrize("name", DESCRIPTIONS)
def test_decisions_are_told_in_words(name):
    told, expected = DESCRIPTIONS[name]
    assert told == expected


@pytest.mark.parametrize(
    ("paise", "text"),
    [
        (0, "₹0.00"),
        (5, "₹0.05"),
        (-5, "-₹0.05"),
        (99_999, "₹999.99"),
        (1_00_000, "₹1,000.00"),
        (1_23_456_50, "₹1,23,456.50"),
        (-1_00_00_000_00, "-₹1,00,00,000.00"),
    ],
)
def test_rupees_are_grouped_as_in_india(paise, text):
    assert render_rupees(paise) == text


def test_gains_carry_a_plus_where_signs_matter():
    assert render_rupees(1, signed=True) == "+₹0.01"
    assert render_rupees(0, signed=True) == "₹0.00"
    assert group_indian(12345678) == "1,23,45,678"


def test_an_average_is_to_the_nearest_paisa():
    assert average_paise(1_001, 2) == 500  # half to even
    assert average_paise(1_003, 2) == 502
    assert average_paise(0, 0) == 0
