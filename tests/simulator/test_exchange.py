"""What becomes of an order: its life as a table, the refusals, and invariants under any sequence of wishes."""

from dataclasses import replace
from datetime import date, time

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from simulator.exchange import MODIFICATIONS_MAX, OrderRefused, protected_limit
from simulator.orders import FINAL, Order, Quirks
from simulator.sessions import moment_ms
from simulator.setup import Setup, open_market
from simulator.stage import PnlExit, Stage
from strategy.instruments import Underlying

DAY = date(2026, 11, 20)
LOT = 65
OPENED = open_market(Setup(day=DAY))  # nothing changes a market: all tests may share it


class Floor:
    """A stage, the contract at the money, and the alerts that were published."""

    def __init__(self, start: str = "10:00", **setup) -> None:
        self.stage = Stage(Setup(day=DAY, start=time.fromisoformat(start), **setup), OPENED)
        self.alerts: list[dict] = []
        self.stage.alerts.publish = lambda alert, _: self.alerts.append(alert["Data"])
        spot = self.stage.market.spot_paise(Underlying.NIFTY, self.stage.now_ms)
        calls = (c for c in self.stage.listing.by_expiry[Underlying.NIFTY, date(2026, 11, 23)] if c.is_call)
        self.listed = min(calls, key=lambda c: abs(c.strike * 100 - spot))

    @property
    def depth(self):
        return self.stage.market.depth(self.listed, self.stage.now_ms)

    def place(self, side="BUY", quantity=LOT, price=None, **changes) -> Order:
        if price is None:
            price = self.depth.ask_paise + 500 if side == "BUY" else max(5, self.depth.bid_paise - 500)
        wish = {
            "now_ms": self.stage.now_ms, "listed": self.listed, "side": side, "product": "MARGIN",
            "order_type": "LIMIT", "validity": "DAY", "quantity": quantity, "price_paise": price, "trigger_paise": 0,
            "correlation_id": "test", "quirks": Quirks(),
        }  # fmt: skip
        return self.stage.exchange.place(**(wish | changes))

    def play(self, seconds: float) -> None:
        self.stage.play(self.stage.now_ms + round(seconds * 1000))

    def modify(self, order: Order, **changes) -> None:
        terms = {
            "now_ms": self.stage.now_ms, "quantity": order.quantity, "price_paise": order.price_paise,
            "trigger_paise": order.trigger_paise, "validity": order.validity,
        }  # fmt: skip
        self.stage.exchange.modify(order, **(terms | changes))

    def statuses(self) -> list[tuple[str, int]]:
        return [(alert["status"], alert["tradedQty"]) for alert in self.alerts]


@pytest.fixture
def floor() -> Floor:
    return Floor()


def test_an_aggressive_order_fills_at_the_offered_prices_after_its_transit(floor):
    order = floor.place()
    assert (order.status, order.filled) == ("TRANSIT", 0)
    floor.play(0.1)
    assert order.status == "TRANSIT", "it takes a hundred milliseconds to the exchange"
    floor.play(0.1)
    assert (order.status, order.filled) == ("TRADED", LOT)
    at_match = floor.stage.market.depth(floor.listed, order.updated_ms)
    assert order.value_paise == LOT * at_match.ask_paise, "the first level has at least four lots"
    assert floor.statuses() == [("Transit", 0), ("Pending", 0), ("Traded", LOT)]


@pytest.mark.parametrize("side", ["BUY", "SELL"])
def test_a_limit_at_the_best_price_fills_and_one_tick_short_of_it_does_not(side, floor):
    match_ms = floor.stage.now_ms + 120
    depth = floor.stage.market.depth(floor.listed, match_ms)
    best, short = (depth.ask_paise, -5) if side == "BUY" else (depth.bid_paise, 5)
    at_best = floor.place(side, price=best)
    beyond = floor.place(side, price=best + short)
    floor.stage.play(match_ms + 1)
    assert (at_best.filled, beyond.filled) == (LOT, 0)


def test_an_order_beyond_the_first_level_walks_the_depth(floor):
    def offered():
        return floor.stage.market.depth(floor.listed, floor.stage.now_ms + 120).asks

    while offered()[0][1] > 10 * LOT:  # the whole order is to stay below the freeze quantity
        floor.play(1)
    asks = offered()
    wanted = asks[0][1] + LOT
    order = floor.place(quantity=wanted, price=asks[0][0] + 500)
    floor.play(1)
    assert order.filled == wanted
    assert [(e.quantity, e.price_paise) for e in floor.stage.exchange.executions] == [
        (asks[0][1], asks[0][0]),
        (LOT, asks[1][0]),
    ]
    assert floor.statuses()[-2:] == [("Pending", asks[0][1]), ("Traded", wanted)], "the socket has no PART_TRADED"


def test_a_resting_order_waits_and_fills_at_its_own_price(floor):
    order = floor.place(price=floor.depth.bid_paise - 2_00)
    floor.play(1)
    assert (order.status, order.message) == ("PENDING", "CONFIRMED")
    for _ in range(60 * 60 * 3):
        if order.is_final:
            break
        floor.play(1)
    assert order.status == "TRADED", "within three hours this premium falls by two rupees"
    assert {e.price_paise for e in floor.stage.exchange.executions} == {order.price_paise}


def test_an_immediate_order_that_meets_nobody_is_cancelled(floor):
    order = floor.place(price=floor.depth.bid_paise - 20_00, validity="IOC")
    floor.play(1)
    assert (order.status, order.filled) == ("CANCELLED", 0)


REJECTIONS = {
    "half a lot": ({"quantity": 32}, "multiples of lot size 65"),
    "above the freeze quantity": ({"quantity": 65 * 28}, "freeze quantity 1800"),
    "off the tick": ({"price": 100_03}, "EXCH:16283"),
    "above the circuit": ({"price": 5_000_00}, "Circuit Limits of"),
    "more than the account has": ({"quantity": 65 * 27, "price": 600_00}, "Fund Limit Insufficient"),
    "selling what is not held, without margin": ({"side": "SELL", "quantity": 65 * 10}, "Fund Limit Insufficient"),
}


@pytest.mark.parametrize("name", REJECTIONS)
def test_rejections_come_after_the_acknowledgement_with_the_brokers_words(name, floor):
    changes, words = REJECTIONS[name]
    order = floor.place(**changes)
    assert order.status == "TRANSIT"
    floor.play(1)
    assert order.status == "REJECTED"
    assert words in order.message
    assert floor.statuses() == [("Transit", 0), ("Rejected", 0)]
    assert floor.alerts[-1]["reasonDescription"] == order.message


def test_outside_the_hours_an_order_is_rejected():
    floor = Floor("09:05")
    order = floor.place(price=100_00)
    floor.play(1)
    assert (order.status, "market is closed" in order.message) == ("REJECTED", True)


def test_a_market_order_becomes_a_protected_limit_order(floor):
    last = floor.stage.market.last_paise(floor.listed, floor.stage.now_ms)
    order = floor.place(order_type="MARKET", price=0)
    assert (order.order_type, order.price_paise) == ("LIMIT", protected_limit(last, is_buy=True))
    floor.play(1)
    assert order.status == "TRADED"


@pytest.mark.parametrize(
    ("last", "buy", "sell"),
    [
        ("0.05", "0.05", "0.05"),
        ("40.00", "48.00", "32.00"),
        ("100.00", "110.00", "90.00"),
        ("500.00", "525.00", "475.00"),
        ("2000.00", "2040.00", "1960.00"),
    ],
)
def test_market_price_protection(last, buy, sell):
    """Twenty percent below fifty rupees, ten below two hundred, five below a thousand, two above."""
    paise = round(float(last) * 100)
    assert protected_limit(paise, is_buy=True) == round(float(buy) * 100)
    assert protected_limit(paise, is_buy=False) == round(float(sell) * 100)


def test_a_stop_order_sleeps_until_its_trigger(floor):
    bought = floor.place()
    floor.play(1)
    trigger = floor.stage.market.last_paise(floor.listed, floor.stage.now_ms) - 3_00
    stop = floor.place("SELL", price=trigger - 1_00, order_type="STOP_LOSS", trigger_paise=trigger)
    floor.play(1)
    assert (bought.status, stop.status) == ("TRADED", "PENDING")
    while not stop.is_final:
        floor.play(1)
        last = floor.stage.market.last_paise(floor.listed, floor.stage.now_ms)
        if stop.status == "PENDING" and not stop.triggered:
            assert last > trigger
    assert stop.status == "TRADED"
    assert floor.stage.account.is_flat()


def test_cancelling(floor):
    order = floor.place(price=floor.depth.bid_paise - 20_00)
    with pytest.raises(OrderRefused, match="Order is in Transit state"):
        floor.stage.exchange.cancel(order, floor.stage.now_ms)
    floor.play(1)
    floor.stage.exchange.cancel(order, floor.stage.now_ms)
    assert order.status == "PENDING", "the acknowledgement is not the cancellation"
    floor.play(1)
    assert order.status == "CANCELLED"
    with pytest.raises(OrderRefused, match="Incorrect request"):
        floor.stage.exchange.cancel(order, floor.stage.now_ms)


def test_modifying_restates_the_whole_order(floor):
    order = floor.place(price=floor.depth.bid_paise - 20_00)
    floor.play(1)
    floor.modify(order, price_paise=floor.depth.ask_paise + 500, quantity=2 * LOT)
    assert order.status == "TRANSIT"
    floor.play(1)
    assert (order.status, order.filled) == ("TRADED", 2 * LOT)
    assert order.modifications == 1


def test_a_modification_in_transit_is_accepted(floor):
    order = floor.place(price=floor.depth.bid_paise - 20_00)
    floor.modify(order, price_paise=floor.depth.ask_paise + 500)
    floor.play(1)
    assert order.status == "TRADED"


def test_a_modification_to_impossible_terms_leaves_the_order_as_it_was(floor):
    price = floor.depth.bid_paise - 20_00
    order = floor.place(price=price)
    floor.play(1)
    floor.modify(order, price_paise=price + 3)
    floor.play(1)
    assert (order.status, order.price_paise) == ("PENDING", price)
    assert "EXCH:16283" in order.message


def test_modifications_are_counted_and_end(floor):
    order = floor.place(price=floor.depth.bid_paise - 20_00)
    floor.play(1)
    for _ in range(MODIFICATIONS_MAX):
        floor.modify(order, price_paise=order.price_paise)
        floor.play(1)
    with pytest.raises(OrderRefused, match="Maximum modification limit"):
        floor.modify(order)


def test_money_follows_the_fills(floor):
    account, exchange = floor.stage.account, floor.stage.exchange
    resting = floor.place(price=floor.depth.bid_paise - 20_00)
    floor.play(1)
    assert account.used_paise(exchange.open_orders(), floor.stage.now_ms) == LOT * resting.price_paise
    exchange.cancel(resting, floor.stage.now_ms)
    bought = floor.place()
    floor.play(1)
    assert account.used_paise(exchange.open_orders(), floor.stage.now_ms) == bought.value_paise
    sold = floor.place("SELL")
    floor.play(1)
    assert account.used_paise(exchange.open_orders(), floor.stage.now_ms) == bought.value_paise - sold.value_paise
    assert account.pnl_paise(floor.stage.now_ms) == sold.value_paise - bought.value_paise


def test_exit_all_cancels_and_flattens(floor):
    floor.place()
    resting = floor.place(price=floor.depth.bid_paise - 20_00)
    floor.play(1)
    floor.stage.exchange.close_out(floor.stage.now_ms)
    floor.play(1)
    assert resting.status == "CANCELLED"
    assert floor.stage.account.is_flat()


def test_a_pnl_exit_closes_the_account_at_its_limit(floor):
    floor.place(quantity=10 * LOT)
    floor.play(1)
    loss = 5_000_00
    floor.stage.pnl_exit = PnlExit(profit_paise=0, loss_paise=loss, products=["MARGIN"], kill_switch=True)
    while not floor.stage.account.is_flat() and not floor.stage.over:
        floor.play(1)
    assert floor.stage.account.is_flat()
    assert floor.stage.account.pnl_paise(floor.stage.now_ms) <= -loss + 10 * LOT * 2_00
    assert floor.stage.kill_switch


def test_intraday_positions_are_squared_off_at_twenty_past_three():
    floor = Floor("15:19:30")
    floor.place(product="INTRADAY")
    floor.place(product="MARGIN")
    floor.play(60)
    held = {position.product: position.net_quantity for position in floor.stage.account.positions.values()}
    assert held == {"INTRADAY": 0, "MARGIN": LOT}


def test_a_contract_that_has_expired_neither_fills_nor_takes_orders():
    floor = Floor("15:00")
    expiry_ms = moment_ms(DAY, time(15, 1))
    floor.listed = replace(floor.listed, expiry_ms=expiry_ms)
    resting = floor.place(quirks=Quirks(fill_at_most=0))
    floor.stage.play(expiry_ms)
    resting.quirks.fill_at_most = None  # from now on only the expiry stands in its way
    late = floor.place()
    floor.play(60)
    assert (resting.status, resting.filled) == ("PENDING", 0)
    assert (late.status, "expired" in late.message) == ("REJECTED", True)


def test_a_contract_prints_until_it_expires_and_no_longer(monkeypatch):
    floor = Floor("15:00")
    listed = replace(floor.listed, expiry_ms=moment_ms(DAY, time(15, 1)))
    monkeypatch.setitem(floor.stage.listing.by_security, listed.security, listed)
    monkeypatch.setattr(floor.stage.feed, "wanted", lambda: {listed.security})
    printed = []
    monkeypatch.setattr(floor.stage.feed, "option_printed", lambda _, at_ms: printed.append(at_ms))
    floor.play(120)
    assert len(printed) == 60
    assert max(printed) < listed.expiry_ms


def test_what_is_open_at_the_close_expires():
    floor = Floor("15:39")
    order = floor.place(price=floor.depth.bid_paise - 20_00)
    floor.play(59)
    assert order.status == "PENDING"
    floor.play(10)
    assert order.status == "EXPIRED"


QUIRKS = {
    "rejected by risk management": (Quirks(reject="RMS: no"), "REJECTED", 0),
    "filled in part": (Quirks(fill_at_most=LOT), "PART_TRADED", LOT),
    "never filled": (Quirks(fill_at_most=0), "PENDING", 0),
    "slow": (Quirks(transit_ms=5_000), "TRANSIT", 0),
}


@pytest.mark.parametrize("name", QUIRKS)
def test_quirks_shape_one_order(name, floor):
    quirks, status, filled = QUIRKS[name]
    order = floor.place(quantity=3 * LOT, quirks=quirks)
    floor.play(3)
    assert (order.status, order.filled) == (status, filled)


@pytest.mark.parametrize(("late", "status"), [(3 * LOT, "TRADED"), (LOT, "CANCELLED")])
def test_a_fill_can_come_between_a_cancellation_and_its_effect(late, status, floor):
    order = floor.place(quantity=3 * LOT, quirks=Quirks(fill_at_most=0, fills_on_cancel=late))
    floor.play(1)
    floor.stage.exchange.cancel(order, floor.stage.now_ms)
    floor.play(1)
    assert (order.status, order.filled) == (status, late)


WISHES = st.one_of(
    st.tuples(st.just("buy"), st.integers(1, 3), st.integers(-40, 40)),
    st.tuples(st.just("sell"), st.integers(1, 3), st.integers(-40, 40)),
    st.tuples(st.just("cancel"), st.integers(0, 9), st.just(0)),
    st.tuples(st.just("modify"), st.integers(0, 9), st.integers(-40, 40)),
    st.tuples(st.just("play"), st.integers(1, 4_000), st.just(0)),
    st.tuples(st.just("exit"), st.just(0), st.just(0)),
)


def carry_out(floor: Floor, wishes) -> None:
    exchange = floor.stage.exchange
    for what, number, ticks in wishes:
        orders = list(exchange.orders.values())
        price = max(5, floor.depth.ask_paise + ticks * 5)
        try:
            if what in ("buy", "sell"):
                floor.place(what.upper(), quantity=number * LOT, price=price)
            elif what == "cancel" and orders:
                exchange.cancel(orders[number % len(orders)], floor.stage.now_ms)
            elif what == "modify" and orders:
                floor.modify(orders[number % len(orders)], price_paise=price)
            elif what == "exit":
                exchange.close_out(floor.stage.now_ms)
            else:
                floor.stage.play(floor.stage.now_ms + number)
        except OrderRefused:
            continue


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(WISHES, max_size=25))
def test_whatever_is_asked_the_books_agree(wishes):
    floor = Floor()
    final: dict[str, tuple[str, int]] = {}
    exchange, account = floor.stage.exchange, floor.stage.account
    for wish in wishes:
        carry_out(floor, [wish])
        for order in exchange.orders.values():
            fills = [e for e in exchange.executions if e.order is order]
            assert 0 <= order.filled == sum(e.quantity for e in fills) <= order.quantity
            assert order.value_paise == sum(e.quantity * e.price_paise for e in fills)
            assert (order.status == "TRADED") == (order.filled == order.quantity)
            if not order.modifications and order.is_buy:
                assert all(e.price_paise <= order.price_paise for e in fills)
            if not order.modifications and not order.is_buy:
                assert all(e.price_paise >= order.price_paise for e in fills)
            if order.status in FINAL:
                assert final.setdefault(order.order_id, (order.status, order.filled)) == (order.status, order.filled)
        bought = sum(e.quantity for e in exchange.executions if e.order.is_buy)
        sold = sum(e.quantity for e in exchange.executions if not e.order.is_buy)
        assert sum(p.net_quantity for p in account.positions.values()) == bought - sold
    for alert in floor.alerts:
        order = exchange.orders[alert["orderNo"]]
        assert alert["tradedQty"] <= order.filled


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(WISHES, max_size=20))
def test_the_same_wishes_at_the_same_moments_make_the_same_day(wishes):
    days = []
    for _ in range(2):
        floor = Floor()
        carry_out(floor, wishes)
        days.append((floor.alerts, floor.stage.account.pnl_paise(floor.stage.now_ms)))
    assert days[0] == days[1]


@settings(max_examples=20, deadline=None)
@given(st.lists(st.integers(1, 5_000), max_size=12))
def test_it_does_not_matter_in_how_many_steps_the_clock_moves(steps):
    at_once, in_steps = Floor(), Floor()
    for floor in (at_once, in_steps):
        floor.place(quantity=5 * LOT, price=floor.depth.ask_paise - 10)
    for step in steps:
        in_steps.stage.play(in_steps.stage.now_ms + step)
    at_once.stage.play(at_once.stage.now_ms + sum(steps))
    assert at_once.alerts == in_steps.alerts
    assert at_once.stage.now_ms == in_steps.stage.now_ms


def test_slices_never_step_over_an_edge_of_the_session():
    stage = Stage(Setup(day=DAY, start=time(9, 14, 10)))
    edges = {edge for window in stage.windows for edge in window}
    seen = []
    while not stage.over:
        before = stage.now_ms
        stage.play(stage.slice_end())
        seen.append(stage.now_ms)
        step = stage.now_ms - before
        assert 0 < step <= (1_000 if stage.market.is_open(before) else 30_000)
    assert edges <= set(seen)
    assert moment_ms(DAY, time(16, 10)) == stage.now_ms
