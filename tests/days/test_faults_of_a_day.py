"""Fault by fault: a session trades through it, and at the end ledger and exchange agree on every unit and paisa.

Each row is a real session in lock-step with a real simulator over HTTP and WebSocket, six minutes of a fast market
(a new signal every few candles), with the faults of its script posted before the open. Whatever the fault, at the
end of the day
* the ledger has exactly the fills that the exchange has, per order, in units and paise;
* no order is at the exchange twice, none without a recorded intent, none is still open, and nothing is held;
* the ledger keeps its own invariants, no thread died, and nothing unexpected was logged;
* a person heard of it: exactly the alerts of the row, no more and no fewer.
"""

import logging
import re
import threading
from collections import defaultdict
from contextlib import ExitStack
from datetime import date
from functools import partial

import pytest
import requests

from simulator.faults import KNOWN, LASTING_IN_THE_FEED
from strategy.params import Params
from tasks.broker.dhan import DhanBroker
from tasks.broker.http import Timeouts
from tasks.connect import Connections
from tasks.ledger.check import check
from tasks.settings import Settings
from tasks.trading.session import trade_session

from .conftest import PROJECT, simulator, truth

pytestmark = [pytest.mark.slow]

DAY = date(2026, 11, 20)
# Trades all the time: small candles, a nervous SuperTrend, no confirmation, no pauses, a near target and stop.
NERVOUS = {
    "candle_seconds": 5,
    "supertrend_period": 2,
    "supertrend_multiplier": 1.0,
    "macd_confirmation": False,
    "htf_filter": False,
    "flip_only": False,
    "min_hold_seconds": 0,
    "order_cooldown_seconds": 0,
    "max_trades_per_day": 50,
    "daily_max_loss": 1_000_000,
    "entry_start": "09:16",
    "entry_cutoff": "09:20",
    "squareoff_at": "09:20:30",
    "stop_loss_points": 5,
    "target_points": 3,
}
# A reply that never comes costs real time, so patience is short here.
IMPATIENT = Timeouts(connect_s=1.0, read_s=1.5, total_s=2.0)

# The n-th call of its kind strikes. In a calm session odd orders buy and even ones sell; a fault shifts what follows.
# lots=60 is more than the exchange takes in one order: such an intent goes out in slices.
# "with" holds settings of the fault (for_s also of lasting ones beside it) and, as name@when, what else must go wrong
# for it to matter.
TABLE = """
fault                | at               | with                            | what the bot does                              | alerts
reply_lost           | place#3 place#8  |                                 | finds the order by its id, sends nothing twice | order_unknown
reply_lost           | modify#1 cancel#1| never_fills@place#3             | the book says what became of it                | -
reset_before         | place#3 place#8  |                                 | absent after 15 s and two readings             | order_unknown order_absent exit_failed
reset_before         | modify#1 cancel#1| never_fills@place#3             | asks again                                     | -
reset_after          | place#3 place#8  |                                 | finds the order                                | order_unknown
reset_after          | modify#1 cancel#1| never_fills@place#3             | the book says what became of it                | -
bad_gateway          | place#3 place#8  |                                 | a page is no answer: looks, absent             | order_unknown order_absent exit_failed
bad_gateway          | place#3 place#8  | accepted=true                   | a page is no answer: looks, finds it           | order_unknown
server_error         | place#3 place#8  |                                 | a 500 is no answer: looks, absent              | order_unknown order_absent exit_failed
server_error         | place#3 place#8  | accepted=true                   | a 500 is no answer: looks, finds it            | order_unknown
empty_202            | place#3 place#8  |                                 | no order number is no answer: looks, finds it  | order_unknown
slow_drip            | place#3 place#8  | drip_s=0.001                    | waits, takes the answer                        | -
slow_drip            | place#3 place#8  |                                 | stops waiting, looks, finds it                 | order_unknown
rate_storm           | place#3 place#8  | times=3                         | drops the entry, repeats the exit              | entry_not_sent exit_not_sent
rate_storm           | 09:16:45         | for_s=20                        | repeats the exit, enters nothing meanwhile     | exit_not_sent broker_unreadable
ip_refused           | place#3 place#8  |                                 | drops the entry, decides the exit anew         | broker_ip_refused entry_rejected exit_failed
token_death          | place#3 place#8  |                                 | mints another by PIN and TOTP, sends then      | -
token_death          | place#3          | feed_reset@place#6 order_socket_reset@place#6 | feeds come back with the new one | feed_lost feed_back
token_death          | 09:17:00         | feed_reset@09:17:00             | the feed finds out and has one minted          | feed_lost feed_back
second_token         | place#3 place#8  | feed_reset@place#6 order_socket_reset@place#6 | goes on with one of its own      | feed_lost feed_back
second_token         | 09:17:00         | for_s=20                        | at every call: shouts, decides the exit anew   | broker_authentication_dead exit_failed
data_plan_lost       | 09:15:30         | for_s=100 feed_silence@place#5  | no price can be had: shouts; nothing made up   | held_contract_silent index_ticks_stale
reject               | place#3 place#9  |                                 | drops the entry, decides the exit anew         | order_rejected entry_rejected exit_failed
partial_fill         | place#3 place#8  | quantity=65                     | holds what was filled, sells the rest anew     | exit_hard_to_fill exit_failed
never_fills          | place#3 place#9  |                                 | gives the entry up, sells the exit anew        | exit_hard_to_fill exit_failed
fill_after_cancel    | place#3 place#8  |                                 | the fill counts, not the cancellation          | exit_hard_to_fill
cancel_fill_race     | place#3 place#8  | quantity=65                     | counts what filled before, sells the rest anew | exit_hard_to_fill exit_failed
slow_transit         | place#3 place#8  | transit_ms=8000                 | waits, prices anew, sends nothing twice        | -
duplicate_updates    | 09:15:30         | times=1000                      | counts each unit once                          | -
out_of_order_updates | 09:15:30         | times=1000                      | the filled quantity never goes down            | -
missing_updates      | 09:15:30         | for_s=600                       | reads the book                                 | -
feed_silence         | place#5          | for_s=30                        | asks for quotes of what it holds, no entries   | index_ticks_stale
feed_lag             | 09:17:00         | lag_s=8 for_s=60                | late ticks keep their times; no entries        | index_ticks_stale
feed_reset           | place#5          | outage_s=20                     | connects again, subscribes to all of it        | feed_lost feed_back index_ticks_stale
feed_reset           | place#5 place#9  |                                 | connects again at once                         | feed_lost feed_back
feed_refused         | place#5          | for_s=30 feed_reset@place#5     | tries with pauses until it is let in           | feed_lost feed_back index_ticks_stale
feed_805             | place#5          |                                 | pauses, then connects again                    | feed_lost feed_back
order_socket_reset   | place#5 place#9  |                                 | connects again and reads every live order      | feed_lost feed_back
stacked_packets      | 09:16:00         | for_s=300                       | decodes every packet of a message              | -
unknown_code         | 09:17:00 09:18:00|                                 | skips it                                       | -
garbage_frame        | 09:17:00 09:18:00|                                 | skips it                                       | -
wrong_instrument     | place#5          | for_s=30                        | another contract's price closes nothing        | index_ticks_stale exit_hard_to_fill
clock_skew           | 09:17:00         | skew_s=30 for_s=30              | times ahead of the clock are not used          | index_ticks_stale ticks_quarantined
clock_skew           | 09:17:00         | skew_s=-30 for_s=30             | times long past are not fresh: no entries      | index_ticks_stale
bad_price            | 09:17:00         |                                 | not a number: counted, not used                | ticks_quarantined
bad_price            | 09:17:00         | price=-5                        | not positive: counted, not used                | ticks_quarantined
bad_price            | 09:17:00         | factor=1.5                      | a leap beyond belief: counted, not used        | ticks_quarantined
reply_lost           | place#2 place#5  | lots=60                         | finds the slice; the others go on meanwhile    | order_unknown
reject               | place#2 place#5  | lots=60                         | holds the other slices, and sells just those   | order_rejected exit_failed
never_fills          | place#2 place#5  | lots=60                         | cancels the slice, sells the rest anew         | exit_hard_to_fill exit_failed
"""
LASTS = set(LASTING_IN_THE_FEED)
CALLS = {"place": "place_order", "modify": "modify_order", "cancel": "cancel_order"}


class Row:
    """One line of the table."""

    def __init__(self, line):
        self.fault, self.at, self.others, self.does, alerts = (part.strip() for part in line.split("|"))
        self.alerts = set(alerts.split()) - {"-"}
        words = self.others.split()
        settings = {key: value(text) for key, _, text in (word.partition("=") for word in words) if text}
        self.lots = int(settings.pop("lots", 2))
        self.script = [wish(self.fault, at) | settings for at in self.at.split()]
        for word in words:
            if "@" in word:
                fault, _, at = word.partition("@")
                self.script.append(
                    wish(fault, at) | {k: v for k, v in settings.items() if fault in LASTS and k == "for_s"}
                )

    def __str__(self):
        return f"{self.fault} {self.at} {self.others}".rstrip()


def wish(fault, at):
    """A fault as the simulator takes it; `at` is call#nth or a time of the market."""
    if ":" in at:
        return {"fault": fault, "at": {"market_time": at}}
    call, _, nth = at.partition("#")
    return {"fault": fault, "at": {"call": CALLS[call], "nth": int(nth)}}


def value(text):
    return {"true": True}.get(text) or float(text)


ROWS = [Row(line) for line in TABLE.strip().splitlines()[1:]]


@pytest.fixture(scope="module")
def market(tmp_path_factory):
    """One simulator for all rows: its day begins again for each."""
    with simulator(tmp_path_factory.mktemp("market"), "--speed", "0", "--day", str(DAY)) as url:
        yield url


@pytest.fixture
def crashes(monkeypatch, caplog):
    """What died in a thread of the session."""
    found = []
    monkeypatch.setattr(threading, "excepthook", lambda died: found.append(repr(died.exc_value)))
    caplog.set_level(logging.WARNING)
    return found


@pytest.fixture
def open_session(market, tmp_path, monkeypatch):
    """A session with a home of its own; the market is shortly before the open again and has only the row's faults."""
    monkeypatch.setattr("tasks.connect.DhanBroker", partial(DhanBroker, timeouts=IMPATIENT))
    settings = Settings(_env_file=None, simulator_url=market, home=tmp_path)
    with ExitStack() as opened:

        def open_for(row):
            tell(market, "restart", {"start": "09:14:50", "rate_limits": False, "funds": 5_000_000})
            tell(market, "faults", row.script)
            params = Params(mode="rehearsal", lots=row.lots, **NERVOUS)
            return opened.enter_context(Connections(params, DAY, run_id="test", settings=settings))

        yield open_for


def tell(market, path, wish):
    requests.post(f"{market}/control/{path}", json=wish, timeout=30).raise_for_status()


def by_order(fills):
    """Order -> [units, paise]."""
    sums = defaultdict(lambda: [0, 0])
    for order, quantity, value_paise in fills:
        sums[order][0] += quantity
        sums[order][1] += value_paise
    return sums


@pytest.mark.parametrize("row", ROWS, ids=str)
def test_a_session_trades_through_the_fault_and_agrees_with_the_exchange(row, market, open_session, crashes, caplog):
    connections = open_session(row)
    ended = trade_session(connections)
    struck = requests.get(f"{market}/control/faults", timeout=30).json()
    theirs, ledger, session_id = truth(market), connections.ledger, connections.session_id
    assert all(fault["used"] or fault["began_ms"] for fault in struck), f"a fault never struck: {struck}"
    assert len(theirs["orders"]) >= 20, "the session traded on"

    ours = by_order((order, fill.quantity, fill.value_paise) for order, _, _, fill in ledger.fills(session_id))
    assert ours == by_order(
        (fill["client_order_id"], fill["quantity"], fill["quantity"] * fill["price_paise"]) for fill in theirs["fills"]
    )
    assert [held for held in theirs["positions"] if held["net_quantity"]] == []
    assert ended.state_name == "Flat"

    sent = [order["client_order_id"] for order in theirs["orders"]]
    recorded = {order.client_order_id for intent in ledger.intents(session_id) for order in intent.orders}
    assert len(sent) == len(set(sent)), "an order is at the exchange twice"
    assert set(sent) <= recorded, "an order without an intent"
    assert {order["status"] for order in theirs["orders"]} <= {"TRADED", "CANCELLED", "REJECTED"}, "an order is open"

    assert check(ledger) == ()
    assert crashes == []
    assert [record.message for record in caplog.records if record.exc_info] == []
    said = {decision.reason for decision in ledger.decisions(session_id) if decision.kind == "alert"}
    # A machine that is busy with other things may keep the disk from us for a moment; that is no row of this table.
    assert said - {"ledger_unavailable"} == row.alerts


def guarantee(row):
    """The row as a line of docs/guarantees.md."""
    fault = re.sub(r" \(.*", "", KNOWN[row.fault])
    said = ", ".join(f"`{kind}`" for kind in sorted(row.alerts)) or "nothing"
    test = test_a_session_trades_through_the_fault_and_agrees_with_the_exchange.__name__
    return f"| {fault}: `{row}` | {row.does}; alerts: {said} | `{test}` |"


def test_every_fault_of_the_simulator_has_a_row_here_and_a_line_in_the_guarantees():
    assert {row.fault for row in ROWS} == set(KNOWN)
    guarantees = (PROJECT / "docs" / "guarantees.md").read_text()
    missing = [line for row in ROWS if (line := guarantee(row)) not in guarantees]
    assert not missing, "\n".join(missing)
