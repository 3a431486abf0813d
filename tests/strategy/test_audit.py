"""The running comparison as tables: what differs, what is believed, what is said, and when it is over."""

import pytest

from strategy.actions import Alert
from strategy.audit import (
    Audit,
    AuditedOrder,
    Reading,
    after_reading,
    asked,
    differences,
    hurried,
    is_covered,
    is_due,
)
from strategy.events import Caution, Side

CALL, PUT = "NSE_FNO:47317", "NSE_FNO:47318"


def order(name, side=Side.BUY, filled=65, is_open=False, security=CALL):
    return AuditedOrder(client_order_id=name, security=security, side=side, filled_quantity=filled, is_open=is_open)


BUY, SELL = order("p-1-0"), order("p-2-0", Side.SELL)

BOOKS = {
    # name: (ledger, adopted, broker's orders of ours, broker's net) -> words that must be said, none where empty
    "nothing on either side": ([], {}, [], {}, []),
    "held, and both say so": ([BUY], {}, [BUY], {CALL: 65}, []),
    "bought and sold": ([BUY, SELL], {}, [BUY, SELL], {CALL: 0}, []),
    "a refused order may be missing at the broker": ([order("p-1-0", filled=0)], {}, [], {}, []),
    "a position of somebody else in another contract": ([BUY], {}, [BUY], {CALL: 65, PUT: 130}, []),
    "a position taken over": ([], {CALL: 65}, [], {CALL: 65}, []),
    "sold by hand": ([BUY], {}, [BUY], {}, [f"{CALL}: ledger 65 units, broker 0"]),
    "bought by hand in our contract": ([BUY], {}, [BUY], {CALL: 130}, ["ledger 65 units, broker 130"]),
    "taken over and sold by hand": ([], {CALL: 65}, [], {}, ["ledger 65 units, broker 0"]),
    "an order that the ledger lost": ([], {}, [BUY], {CALL: 65}, ["order p-1-0", "the ledger has no such order"]),
    "an order that the broker lost": ([BUY], {}, [], {}, ["the broker has no such order", "ledger 65 units"]),
    "a fill that the ledger lost": ([order("p-1-0", filled=0)], {}, [BUY], {CALL: 65}, ["order p-1-0", "filled 65"]),
    "alive at the broker, over in the ledger": (
        [order("p-1-0", filled=0)], {}, [order("p-1-0", filled=0, is_open=True)], {}, ["broker BUY filled 0, open"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", BOOKS)
def test_what_differs_is_said_in_words(name):
    ledger, adopted, broker, at_broker, words = BOOKS[name]
    found = differences(ledger=ledger, adopted=adopted, broker=broker, at_broker=at_broker)
    assert bool(found) == bool(words), found
    for word in words:
        assert any(word in said for said in found), found


QUIET, MOVED, ALIVE = (4, ()), (5, ()), (5, (5,))
SAME, GONE, DOWN = ("65 here, 0 there",), (), "connection refused"

READINGS = {
    "one difference alone is looked at again, not believed": [(SAME, QUIET, QUIET, "")],
    "twice the same is believed": [(SAME, QUIET, QUIET, ""), (SAME, QUIET, QUIET, "differ on, books_differ")],
    "it is said once": [
        (SAME, QUIET, QUIET, ""),
        (SAME, QUIET, QUIET, "differ on, books_differ"),
        (SAME, QUIET, QUIET, ""),
    ],
    "equal again lifts it": [
        (SAME, QUIET, QUIET, ""),
        (SAME, QUIET, QUIET, "differ on, books_differ"),
        (GONE, QUIET, QUIET, "differ off, books_agree"),
        (GONE, QUIET, QUIET, ""),
    ],
    "a decision in between starts over": [
        (SAME, QUIET, QUIET, ""),
        (SAME, QUIET, MOVED, ""),
        (SAME, MOVED, MOVED, ""),
        (SAME, MOVED, MOVED, "differ on, books_differ"),
    ],
    "with an order alive nothing is believed, and nothing lifted": [
        (SAME, QUIET, QUIET, ""),
        (SAME, QUIET, QUIET, "differ on, books_differ"),
        (GONE, ALIVE, ALIVE, ""),
        (SAME, ALIVE, ALIVE, ""),
    ],
    "another difference is another": [(SAME, QUIET, QUIET, ""), (("1 here, 2 there",), QUIET, QUIET, "")],
    "unreadable is not flat: no entries at once, an alert when it lasts": [
        (DOWN, QUIET, QUIET, "unreadable on"),
        (DOWN, QUIET, QUIET, "unreadable on, broker_unreadable"),
        (DOWN, QUIET, QUIET, "unreadable on"),
        (GONE, QUIET, QUIET, "unreadable off"),
    ],
    "unreadable does not make a difference go away": [
        (SAME, QUIET, QUIET, ""),
        (SAME, QUIET, QUIET, "differ on, books_differ"),
        (DOWN, QUIET, QUIET, "unreadable on"),
        (SAME, QUIET, QUIET, "unreadable off"),
        (GONE, QUIET, QUIET, "differ off, books_agree"),
    ],
}


def said_of(news):
    short = {"books_differ": "differ", "broker_unreadable": "unreadable"}
    words = [
        f"{short[said.reason]} {'on' if said.active else 'off'}" if isinstance(said, Caution) else said.kind
        for said in news
    ]
    assert all(isinstance(said, Caution | Alert) for said in news)
    return ", ".join(words)


@pytest.mark.parametrize("name", READINGS)
def test_what_follows_from_readings(name):
    audit = Audit()
    for number, (found, asked_with, now, expected) in enumerate(READINGS[name]):
        down = isinstance(found, str)
        reading = Reading(
            at_ms=number * 30_000,
            activity=asked_with,
            differences=() if down else found,
            unreadable=found if down else "",
        )
        audit, news = after_reading(audit, reading, now)
        assert said_of(news) == expected, (number, audit)


def test_a_doubt_is_looked_at_again_soon_and_a_good_book_after_half_a_minute():
    audit = asked(Audit(), 0)
    assert not is_due(audit, 29_999)
    assert is_due(audit, 30_000)
    doubted, _ = after_reading(audit, Reading(at_ms=100, activity=QUIET, differences=SAME), QUIET)
    assert is_due(doubted, 3_100)
    failed, _ = after_reading(audit, Reading(at_ms=100, activity=QUIET, unreadable=DOWN), QUIET)
    assert is_due(failed, 3_100)


COVER = {
    # (readings of (units at the broker, differs)) -> may 65 units be sold?
    "nothing was read yet": ([], True),
    "both sides agree": ([(65, False)], True),
    "one reading shows less: not believed yet": ([(0, True)], True),
    "believed: nothing is there": ([(0, True), (0, True)], False),
    "believed: too little is there": ([(30, True), (30, True)], False),
    "believed, but it is about something else": ([(65, True), (65, True)], True),
    "more is there than we know of": ([(130, True), (130, True)], True),
    "equal again": ([(0, True), (0, True), (65, False)], True),
    "bought back, and something else still differs": ([(0, True), (0, True), (65, True)], True),
}


@pytest.mark.parametrize("name", COVER)
def test_what_the_account_does_not_hold_is_not_sold(name):
    readings, expected = COVER[name]
    audit = Audit()
    for number, (units, differs) in enumerate(readings):
        found = SAME if differs else GONE
        reading = Reading(at_ms=number, activity=QUIET, differences=found, at_broker={CALL: units})
        audit, _ = after_reading(audit, reading, QUIET)
    assert is_covered(audit, CALL, 65) is expected
    assert is_due(hurried(audit, 99), 99)
