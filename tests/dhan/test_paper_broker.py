"""The paper broker: pessimistic fills from live quotes, never a price of its own, and a memory."""

from datetime import date

import hypothesis
import pytest
from hypothesis import given
from hypothesis import strategies as st

from strategy.events import Side, Tick
from strategy.instruments import Contract, OptionType, Underlying
from tasks.broker import (
    BrokerUnavailable,
    NewOrder,
    OrderRejected,
    OrderStatus,
    OrderUpdate,
    Quote,
    RateLimited,
)
from tasks.broker.paper import PaperBroker, PaperRules
from tasks.inbox import Inbox

CONTRACT = Contract(
    underlying=Underlying.NIFTY, expiry=date(2026, 11, 23), strike_points=24500, option_type=OptionType.CE,
    segment="NSE_FNO", security_id="47317", trading_symbol="NIFTY-Nov2026-24500-CE", lot_size=65, tick_size_paise=5,
    freeze_quantity=1755,
)  # fmt: skip
SECURITY = CONTRACT.security


class Market:
    """A live broker's market data, as a test sets it."""

    def __init__(self, bid=99_95, ask=100_00):
        self.bid, self.ask = bid, ask
        self.asked = 0
        self.error = None

    def quotes(self, securities):
        self.asked += 1
        if self.error:
            raise self.error
        if self.ask is None:
            return {}
        return {
            security: Quote(security=security, at_ms=1, last_paise=100_00, bid_paise=self.bid, ask_paise=self.ask)
            for security in securities
        }


class Desk:
    """A paper broker with its market, inbox and clock."""

    def __init__(self, journal, market=None, **rules):
        self.market = market or Market()
        self.inbox = Inbox()
        self.now = 1_000_000
        self.broker = PaperBroker(
            market=self.market, inbox=self.inbox, now_ms=lambda: self.now, journal=journal, rules=PaperRules(**rules)
        )

    def order(self, side=Side.BUY, limit=101_00, quantity=65, cid="t-1"):
        return NewOrder(
            client_order_id=cid, contract=CONTRACT, side=side, quantity=quantity, limit_paise=limit, product="MARGIN"
        )

    def place(self, *args, **changes):
        return self.broker.place(self.order(*args, **changes))

    def tick(self, bid, ask):
        self.now += 1_000
        self.broker.observe(Tick(at_ms=self.now, security=SECURITY, price_paise=100_00, bid_paise=bid, ask_paise=ask))

    @property
    def last(self):
        return self.broker.orders()[-1]


@pytest.fixture
def journal(tmp_path):
    return tmp_path / "paper" / "2026-11-20.jsonl"


@pytest.fixture
def desk(journal):
    return Desk(journal)


# side, limit, bid, ask -> (status, price per unit)
FILLS = {
    "buys at the ask plus slippage": (Side.BUY, 101_00, 99_95, 100_00, 100_05),
    "but never above its limit": (Side.BUY, 100_00, 99_95, 100_00, 100_00),
    "not below the ask": (Side.BUY, 99_95, 99_95, 100_00, None),
    "not without an ask": (Side.BUY, 101_00, 99_95, 0, None),
    "sells at the bid less slippage": (Side.SELL, 99_00, 99_95, 100_00, 99_90),
    "but never below its limit": (Side.SELL, 99_95, 99_95, 100_00, 99_95),
    "not above the bid": (Side.SELL, 100_00, 99_95, 100_00, None),
    "not without a bid": (Side.SELL, 99_00, 0, 100_00, None),
}


@pytest.mark.parametrize("case", FILLS)
def test_an_order(case, desk):
    side, limit, bid, ask, price = FILLS[case]
    if side is Side.SELL:
        desk.place(cid="held")
    desk.now += 10_000
    desk.market.bid, desk.market.ask = bid, ask
    desk.place(side, limit, cid="t-2")
    found = desk.broker.find_order("t-2")
    if price is None:
        assert (found.status, found.filled_quantity) == (OrderStatus.PENDING, 0)
        assert found.message.startswith("waits: ")
    else:
        assert (found.status, found.filled_value_paise) == (OrderStatus.TRADED, 65 * price)
        assert desk.broker.trades()[-1].price_paise == price


@pytest.mark.parametrize("error", [BrokerUnavailable("down"), RateLimited("slow")])
def test_without_a_quote_nothing_is_made_up(desk, error):
    desk.market.error = error
    desk.place()
    assert (desk.last.status, desk.last.message) == (OrderStatus.PENDING, f"waits: no ask is known for {SECURITY}")
    desk.market.error, desk.market.ask = None, None
    assert desk.last.filled_quantity == 0
    desk.market.ask = 100_00
    assert desk.last.status is OrderStatus.TRADED
    assert desk.last.message == ""


def test_an_old_quote_fills_nothing_when_no_new_one_comes(desk):
    desk.place(cid="first")
    desk.now += 10_000
    desk.market.error = BrokerUnavailable("down")
    desk.place(cid="second")
    assert desk.broker.find_order("second").filled_quantity == 0


def test_ticks_fill_what_rests_and_large_orders_in_parts(journal):
    desk = Desk(journal, units_per_quote=65)
    desk.market.ask = 110_00
    desk.place(quantity=195)
    assert desk.last.filled_quantity == 0
    desk.tick(99_95, 100_00)
    assert (desk.last.status, desk.last.filled_quantity) == (OrderStatus.PART_TRADED, 65)
    desk.tick(99_95, 100_50)
    desk.tick(99_95, 0)
    desk.tick(99_95, 100_90)
    assert (desk.last.status, desk.last.filled_quantity) == (OrderStatus.TRADED, 195)
    assert desk.last.filled_value_paise == 65 * (100_05 + 100_55 + 100_95)
    updates = [event.order for event in desk.inbox.drain() if isinstance(event, OrderUpdate)]
    assert [update.filled_quantity for update in updates] == [0, 65, 130, 195]
    assert [update.status for update in updates] == [
        OrderStatus.PENDING, OrderStatus.PART_TRADED, OrderStatus.PART_TRADED, OrderStatus.TRADED,
    ]  # fmt: skip


def test_two_orders_share_what_a_quote_offers(journal):
    desk = Desk(journal, units_per_quote=100)
    desk.market.ask = 110_00
    desk.place(cid="a")
    desk.place(cid="b")
    desk.tick(99_95, 100_00)
    assert [order.filled_quantity for order in desk.broker.orders()] == [65, 35]


def test_the_feed_s_inbox_shows_ticks_to_the_broker_and_passes_everything_on(desk):
    desk.market.ask = 110_00
    desk.place()
    listening = desk.broker.listening(desk.inbox)
    tick = Tick(at_ms=1, security=SECURITY, price_paise=100_00, bid_paise=99_95, ask_paise=100_00)
    desk.inbox.drain()
    listening.put("anything")
    listening.put(tick)
    seen = desk.inbox.drain()
    assert seen[:2] == ["anything", tick]
    assert seen[2].order.status is OrderStatus.TRADED


def test_a_cancelled_order_keeps_what_it_filled(journal):
    desk = Desk(journal, units_per_quote=65)
    order_id = desk.place(quantity=130)
    desk.broker.cancel(order_id)
    assert (desk.last.status, desk.last.filled_quantity) == (OrderStatus.CANCELLED, 65)
    with pytest.raises(OrderRejected, match="CANCELLED"):
        desk.broker.cancel(order_id)
    with pytest.raises(OrderRejected, match="unknown"):
        desk.broker.cancel("PAPER999999")


def test_a_new_limit_is_looked_at_at_once(desk):
    order_id = desk.place(limit=90_00)
    desk.broker.modify(order_id, desk.order(limit=100_00))
    assert desk.last.status is OrderStatus.TRADED
    with pytest.raises(OrderRejected, match="TRADED"):
        desk.broker.modify(order_id, desk.order(limit=105_00))


def test_a_total_below_what_is_filled_is_refused(journal):
    desk = Desk(journal, units_per_quote=65)
    order_id = desk.place(quantity=130)
    with pytest.raises(OrderRejected, match="65 filled"):
        desk.broker.modify(order_id, desk.order(quantity=65))


def test_what_cannot_be_paid_is_rejected_in_the_book(journal):
    desk = Desk(journal, funds_paise=65 * 101_00 - 1)
    desk.place()
    assert (desk.last.status, desk.broker.positions()) == (OrderStatus.REJECTED, ())
    assert desk.last.message.startswith("funds")
    [update] = desk.inbox.drain()
    assert update.order.status is OrderStatus.REJECTED


def test_money_reserved_for_one_order_is_not_there_for_another(journal):
    desk = Desk(journal, funds_paise=100 * 101_00)
    desk.market.ask = None
    desk.place(cid="a")
    desk.place(cid="b")
    assert [order.status for order in desk.broker.orders()] == [OrderStatus.PENDING, OrderStatus.REJECTED]


def test_more_than_is_held_is_not_sold(desk):
    desk.place(Side.SELL, 99_00, cid="naked")
    assert desk.last.status is OrderStatus.REJECTED
    desk.place(cid="buy")
    desk.market.bid = 50_00
    desk.now += 10_000
    desk.place(Side.SELL, 99_00, cid="one")
    desk.place(Side.SELL, 99_00, cid="two")
    assert desk.broker.find_order("one").status is OrderStatus.PENDING
    assert desk.broker.find_order("two").message == "sells 65 and holds 0"


def test_funds_and_positions_follow_the_fills(desk):
    desk.place()
    desk.place(Side.SELL, 99_00, cid="t-2")
    [position] = desk.broker.positions()
    assert (position.net_quantity, position.buy_quantity, position.sell_quantity) == (0, 65, 65)
    assert (position.buy_value_paise, position.sell_value_paise) == (65 * 100_05, 65 * 99_90)
    assert desk.broker.available_funds_paise() == PaperRules().funds_paise - 65 * 15


def test_an_impossible_order_is_refused_like_at_dhan(desk):
    with pytest.raises(OrderRejected, match="lots of 65"):
        desk.place(quantity=64)
    assert desk.broker.orders() == ()


def test_a_restart_finds_everything_again(journal):
    first = Desk(journal, units_per_quote=65)
    first.place(quantity=130)
    first.place(limit=90_00, cid="t-2")
    second = Desk(journal, units_per_quote=65)
    second.market.error = BrokerUnavailable("down")
    assert [(o.broker_order_id, o.client_order_id, o.status, o.filled_quantity) for o in second.broker.orders()] == [
        ("PAPER000001", "t-1", OrderStatus.PART_TRADED, 65),
        ("PAPER000002", "t-2", OrderStatus.PENDING, 0),
    ]
    assert second.broker.trades() == first.broker.trades()
    assert second.broker.positions() == first.broker.positions()
    second.market.error = None
    assert second.place(cid="t-3") == "PAPER000003"


def test_a_line_torn_by_a_crash_is_forgotten_and_written_anew(journal):
    Desk(journal).place()
    whole = journal.read_text()
    journal.write_text(whole + whole[:40])
    desk = Desk(journal)
    assert len(desk.broker.orders()) == 1
    desk.place(cid="t-2")
    assert len(Desk(journal).broker.orders()) == 2


@hypothesis.settings(deadline=None)  # each change is forced to disk
@given(
    steps=st.lists(
        st.one_of(
            st.tuples(st.just("buy"), st.integers(1, 5), st.integers(95_00, 105_00)),
            st.tuples(st.just("sell"), st.integers(1, 5), st.integers(95_00, 105_00)),
            st.tuples(st.just("tick"), st.integers(0, 105_00), st.integers(0, 105_00)),
            st.tuples(st.just("cancel"), st.integers(1, 8), st.just(0)),
        ),
        max_size=25,
    )
)
def test_whatever_happens_the_books_agree(steps, tmp_path_factory):
    def play(folder):
        desk = Desk(folder / "journal", units_per_quote=65, funds_paise=30_000_00)
        for number, (kind, one, two) in enumerate(steps):
            if kind == "tick":
                desk.tick(one // 5 * 5, two // 5 * 5)
            elif kind == "cancel":
                try:
                    desk.broker.cancel(f"PAPER{one:06d}")
                except OrderRejected as error:
                    assert "cannot be changed" in str(error)  # noqa: PT017  # both ways are right
            else:
                desk.place(Side(kind.upper()), two // 5 * 5, one * 65, f"t-{number}")
        return desk

    desk, again = (play(tmp_path_factory.mktemp("play")) for _ in range(2))
    assert desk.broker.orders() == again.broker.orders()
    orders, trades = desk.broker.orders(), desk.broker.trades()
    for order in orders:
        own = [trade for trade in trades if trade.broker_order_id == order.broker_order_id]
        assert order.filled_quantity == sum(trade.quantity for trade in own) <= order.quantity
        assert order.filled_value_paise == sum(trade.quantity * trade.price_paise for trade in own)
        for trade in own:
            assert (
                trade.price_paise <= order.limit_paise
                if order.side is Side.BUY
                else trade.price_paise >= order.limit_paise
            )
    assert desk.broker.available_funds_paise() >= 0
    held = 0
    for trade in trades:
        held += trade.quantity if trade.side is Side.BUY else -trade.quantity
        assert held >= 0
    recovered = Desk(desk.broker._journal._path, market=desk.market, units_per_quote=65, funds_paise=30_000_00).broker
    assert recovered.trades() == trades


def test_a_loss_exit_is_noted_and_touches_no_real_account(desk):
    desk.broker.set_loss_exit(1_500_00)
    assert desk.broker.loss_exit_paise == 1_500_00
    desk.broker.clear_loss_exit()
    assert desk.broker.loss_exit_paise == 0
