"""What is read before it is compared: late trades, positions, past days, other sessions; and which session is meant."""

from contextlib import closing
from dataclasses import dataclass, field, replace
from datetime import date

import pytest

from strategy.events import Side
from strategy.instruments import Underlying
from strategy.params import Mode
from strategy.reconcile import Book, OrderFacts
from tasks.broker import (
    BrokerOrder,
    BrokerPosition,
    BrokerTrade,
    BrokerUnavailable,
    OrderStatus,
    SettledTrade,
)
from tasks.evening.reconciliation import (
    broker_book,
    compare_session,
    ledger_book,
    record_comparison,
    settled_book,
)
from tasks.evening.sessions import unfinished, which_session
from tasks.ledger.records import OrderEventRecord, SessionKey
from tasks.ledger.store import Ledger
from tasks.pages.summary import DaySummary

NEXT_DAY_MS = 1_795_250_000_000
SECURITY = "NSE_FNO:64500"
ORDER = BrokerOrder(
    broker_order_id="11",
    client_order_id="c1",
    security=SECURITY,
    side=Side.BUY,
    status=OrderStatus.TRADED,
    quantity=65,
    filled_quantity=65,
    filled_value_paise=65 * 120_00,
    limit_paise=121_00,
    message="",
    updated_at_ms=0,
)
TRADE = BrokerTrade(broker_order_id="11", security=SECURITY, side=Side.BUY, quantity=65, price_paise=120_00, at_ms=0)


def position(units, product="MARGIN"):
    return BrokerPosition(
        security=SECURITY,
        trading_symbol="",
        product=product,
        net_quantity=units,
        buy_quantity=0,
        sell_quantity=0,
        buy_value_paise=0,
        sell_value_paise=0,
    )


class TestBrokersBook:
    def test_money_comes_from_the_single_trades(self):
        trades = [replace(TRADE, quantity=25, price_paise=119_95), replace(TRADE, quantity=40, price_paise=120_05)]
        (order,) = broker_book([ORDER], trades, []).orders
        assert (order.filled_quantity, order.filled_value_paise) == (65, 25 * 119_95 + 40 * 120_05)

    def test_where_the_trade_book_is_behind_the_order_book_counts(self):
        (order,) = broker_book([ORDER], [replace(TRADE, quantity=25)], []).orders
        assert (order.filled_quantity, order.filled_value_paise) == (65, 65 * 120_00)

    def test_where_the_trade_book_is_ahead_it_counts(self):
        (order,) = broker_book([replace(ORDER, filled_quantity=25, filled_value_paise=25 * 120_00)], [TRADE], []).orders
        assert (order.filled_quantity, order.filled_value_paise) == (65, 65 * 120_00)

    def test_positions_are_the_brokers_own_and_products_add_up(self):
        found = broker_book([ORDER], [TRADE], [position(65), position(-20, "INTRADAY")])
        assert found.net_quantities == {SECURITY: 45}


class TestSettledDay:
    def settled(self, **changes):
        return SettledTrade(trade=replace(TRADE, **changes), charges_paise={})

    def test_fills_of_an_order_are_put_together_and_nothing_is_asked_of_it(self):
        found = settled_book([self.settled(quantity=25), self.settled(quantity=40, price_paise=121_00)], Book())
        (order,) = found.orders
        assert (order.quantity, order.filled_quantity) == (None, 65)
        assert order.filled_value_paise == 25 * 120_00 + 40 * 121_00
        assert found.net_quantities == {SECURITY: 65}

    def test_an_order_without_a_fill_is_not_missed(self):
        unfilled = OrderFacts(
            client_order_id="c2",
            broker_order_id="12",
            security=SECURITY,
            side=Side.BUY,
            quantity=65,
            filled_quantity=0,
            filled_value_paise=0,
            is_open=False,
        )
        assert settled_book([], Book(orders=(unfilled,))).orders == (unfilled,)

    def test_what_was_taken_over_was_bought_by_others_or_held_since_an_earlier_day(self):
        ours = OrderFacts(
            client_order_id="c2", broker_order_id="12", security=SECURITY, side=Side.SELL,
            quantity=65, filled_quantity=65, filled_value_paise=65 * 120_00, is_open=False,
        )  # fmt: skip
        sold = self.settled(side=Side.SELL, broker_order_id="12")
        ledger = Book(orders=(ours,), taken_over={SECURITY: 65})
        for bought in ([], [self.settled(broker_order_id="99")]):
            assert settled_book([*bought, sold], ledger).net_quantities == {SECURITY: 0}


@dataclass
class Books:
    """A broker's three books and its history, as they are; the rest of a broker is not asked."""

    book: Book
    others: tuple[BrokerOrder, ...] = ()
    history: tuple[SettledTrade, ...] = ()
    asked: list[str] = field(default_factory=list)

    def orders(self):
        self.asked.append("orders")
        return (
            *(
                replace(
                    ORDER,
                    broker_order_id=f"x{facts.client_order_id}",
                    client_order_id=facts.client_order_id,
                    security=facts.security,
                    side=facts.side,
                    quantity=facts.quantity,
                    filled_quantity=facts.filled_quantity,
                    filled_value_paise=facts.filled_value_paise,
                )
                for facts in self.book.orders
            ),
            *self.others,
        )

    def trades(self):
        return ()

    def positions(self):
        return tuple(replace(position(order.filled_quantity), security=order.security) for order in self.others)

    def settled_trades(self, day):
        self.asked.append(f"history {day}")
        return self.history


@pytest.mark.parametrize(
    ("account", "foreign"),
    [("1000000009", ["78", "NSE_FNO:2"]), ("2000000009", ["77", "78", "NSE_FNO:1", "NSE_FNO:2"])],
)
def test_orders_of_another_session_of_the_bot_are_neither_ours_nor_foreign(account, foreign, recorded_day):
    """BANKNIFTY traded that day: in the same account that is its own reconciliation's affair, in another it says nothing."""
    ledger = recorded_day.ledger
    elsewhere = replace(recorded_day.key, underlying=Underlying.BANKNIFTY, account=account)
    ledger.open_session(elsewhere, "abc")
    fence = ledger.leases.take(elsewhere, "test", 0).fence
    intent = ledger.intents(recorded_day.session_id)[0]
    order = replace(intent.orders[0], client_order_id="261120B-abc-1-0")
    ledger.record_intent(
        replace(intent, session_id=elsewhere.session_id, fence=fence, security="NSE_FNO:1", orders=(order,))
    )
    ledger.record_order_event(
        OrderEventRecord(client_order_id=order.client_order_id, at_ms=0, kind="ACCEPTED", broker_order_id="77")
    )
    shown_as = order.client_order_id if account == recorded_day.key.account else ""
    theirs = replace(ORDER, client_order_id=shown_as, broker_order_id="77", security="NSE_FNO:1")
    by_hand = replace(ORDER, client_order_id="", broker_order_id="78", security="NSE_FNO:2")
    broker = Books(ledger_book(ledger, recorded_day.session_id), others=(theirs, by_hand))
    found = compare_session(ledger, broker, recorded_day.session_id)
    assert found.agrees
    assert sorted((d.kind, d.subject) for d in found.differences) == [("foreign", subject) for subject in foreign]


def test_a_past_day_asks_the_history_and_none_of_todays_books(recorded_day):
    broker = Books(Book())
    with pytest.raises(BrokerUnavailable, match="nothing of 2026-11-20 yet; compare again later"):
        compare_session(recorded_day.ledger, broker, recorded_day.session_id, past_day=True)
    assert broker.asked == ["history 2026-11-20"]


def test_the_same_comparison_is_kept_once_and_a_changed_one_again(recorded_day):
    ledger, session_id = recorded_day.ledger, recorded_day.session_id
    before = len(ledger.reconciliations(session_id))
    clean = compare_session(ledger, Books(ledger_book(ledger, session_id)), session_id)
    missing = compare_session(ledger, Books(Book()), session_id)
    assert not missing.agrees
    evening_ms = ledger.reconciliations(session_id)[-1].at_ms
    for number, found in enumerate([clean, clean, missing, missing, clean]):
        record_comparison(ledger, session_id, found, run_id=f"run-{number}", at_ms=evening_ms + number)
    states = [compared.state for compared in ledger.reconciliations(session_id)]
    assert states[before:] == ["mismatched", "clean"], "the first clean one was known already"


def test_what_was_not_compared_since_its_last_start_is_unfinished(record_day):
    recorded = record_day(reconciled=False)
    ledger, session_id = recorded.ledger, recorded.session_id
    (begun,) = ledger.starts(session_id)
    asked = {"first": date(2026, 11, 20), "modes": {"rehearsal"}, "account": "1000000009", "now_ms": NEXT_DAY_MS}
    clean = compare_session(ledger, Books(ledger_book(ledger, session_id)), session_id)

    assert unfinished(ledger, **asked) == [session_id]
    assert unfinished(ledger, **asked | {"now_ms": begun.started_at_ms}) == [], "it trades"
    assert unfinished(ledger, **asked | {"first": date(2026, 11, 21)}) == []
    assert unfinished(ledger, **asked | {"modes": {"live", "paper"}}) == []
    assert unfinished(ledger, **asked | {"account": "2000000009"}) == []

    record_comparison(ledger, session_id, clean, run_id="noon", at_ms=begun.started_at_ms + 1_000)
    assert unfinished(ledger, **asked) == []
    ledger.record_start(replace(begun, fence=begun.fence + 1, started_at_ms=begun.started_at_ms + 2_000))
    assert unfinished(ledger, **asked) == [session_id], "at noon it knew half of the day"
    assert DaySummary.build(ledger, session_id).reconciliation is None
    for run in ("evening", "again"):
        record_comparison(ledger, session_id, clean, run_id=run, at_ms=begun.started_at_ms + 3_000)
    assert unfinished(ledger, **asked) == []
    assert [compared.run_id for compared in ledger.reconciliations(session_id)] == ["noon", "evening"]
    assert DaySummary.build(ledger, session_id).is_reconciled


class TestWhichSession:
    @pytest.fixture
    def ledger(self, sqlite_ledger_url):
        with closing(Ledger(sqlite_ledger_url)) as opened:
            for underlying, mode in (
                (Underlying.NIFTY, "paper"),
                (Underlying.NIFTY, "live"),
                (Underlying.SENSEX, "live"),
            ):
                opened.open_session(
                    SessionKey(account="1000000009", underlying=underlying, mode=mode, day=date(2026, 11, 20)), "abc"
                )
            yield opened

    @pytest.mark.parametrize(
        ("asked", "found"),
        [
            ({"session_id": "2026-11-20/NIFTY/live/1000000009"}, "2026-11-20/NIFTY/live/1000000009"),
            ({"index": Underlying.SENSEX}, "2026-11-20/SENSEX/live/1000000009"),
            ({"index": Underlying.NIFTY, "mode": Mode.PAPER}, "2026-11-20/NIFTY/paper/1000000009"),
        ],
    )
    def test_one_is_meant(self, asked, found, ledger):
        day = {} if "session_id" in asked else {"day": date(2026, 11, 20)}
        assert which_session(ledger, **asked, **day) == found

    @pytest.mark.parametrize(
        ("asked", "message"),
        [
            ({"day": date(2026, 11, 20)}, "is 3 sessions: .*say the index, the mode or the id"),
            ({"day": date(2026, 11, 19)}, "no session of 2026-11-19; it holds sessions from 2026-11-20 to 2026-11-20"),
            ({}, "expected a session's id, or at least its day"),
            ({"session_id": "2026-11-20/NIFTY/live/2"}, "2026-11-20/NIFTY/live/2"),
        ],
    )
    def test_none_or_several_is_refused(self, asked, message, ledger):
        with pytest.raises(LookupError, match=message):
            which_session(ledger, **asked)
