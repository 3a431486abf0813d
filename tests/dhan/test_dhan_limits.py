"""Our own limiter stays below the broker's, and never makes an order wait long."""

from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from strategy.events import Side
from strategy.instruments import INDICES, Underlying
from tasks.broker import Broker, BrokerUnavailable, NewOrder, RateLimited
from tasks.broker.limits import _WAIT_S_MAX, RATES, BrokerLimits, Call, NoLimits
from tasks.clock import Stopwatch

DAY = date(2026, 11, 20)
BROKERS = {
    Call.ORDER: {1: 10, 60: 250, 3_600: 1_000, 86_400: 7_000},
    Call.QUOTE: {1: 1},
    Call.CHAIN: {3: 1},
    Call.CHART: {1: 5},
    Call.OTHER: {1: 20},
}


@pytest.mark.parametrize("call", Call)
def test_each_rate_is_below_the_broker_s(call):
    for seconds, allowed in BROKERS[call].items():
        assert any(count / window < allowed / seconds for count, window in RATES[call] if window >= seconds)


def test_nothing_waits_longer_for_its_turn_than_its_caller_can():
    assert _WAIT_S_MAX[Call.ORDER] <= 2.0, "an exit has other means than waiting"
    assert set(_WAIT_S_MAX) == set(Call)


def test_the_tenth_order_of_a_second_waits_for_the_next():
    limits = BrokerLimits()
    watch = Stopwatch()
    for _ in range(9):
        limits.admit(Call.ORDER)
    at_once = watch.seconds
    limits.admit(Call.ORDER)
    assert at_once < 0.9 <= watch.seconds


def test_who_would_wait_too_long_is_told_at_once_that_nothing_was_sent():
    limits = BrokerLimits()
    bucket = limits._buckets[Call.ORDER]
    bucket.rates = [type(bucket.rates[0])(1, 3_600_000)]
    limits.admit(Call.ORDER)
    with pytest.raises(RateLimited, match="nothing was sent") as raised:
        limits.admit(Call.ORDER)
    assert raised.value.retry_after_s > 0
    assert isinstance(raised.value, BrokerUnavailable)


def test_one_kind_of_call_does_not_use_up_another_s_limit():
    limits = BrokerLimits()
    watch = Stopwatch()
    for call in Call:
        limits.admit(call)
    assert watch.seconds < 0.9


ASKS = {
    "place": (Call.ORDER, lambda broker, order: broker.place(order)),
    "modify": (Call.ORDER, lambda broker, order: broker.modify("1", order)),
    "cancel": (Call.ORDER, lambda broker, _: broker.cancel("1")),
    "find_order": (Call.OTHER, lambda broker, _: broker.find_order("t-1")),
    "orders": (Call.OTHER, lambda broker, _: broker.orders()),
    "trades": (Call.OTHER, lambda broker, _: broker.trades()),
    "settled_trades": (Call.OTHER, lambda broker, _: broker.settled_trades(date(2026, 11, 19))),
    "positions": (Call.OTHER, lambda broker, _: broker.positions()),
    "available_funds_paise": (Call.OTHER, lambda broker, _: broker.available_funds_paise()),
    "set_loss_exit": (Call.OTHER, lambda broker, _: broker.set_loss_exit(1)),
    "clear_loss_exit": (Call.OTHER, lambda broker, _: broker.clear_loss_exit()),
    "quotes": (Call.QUOTE, lambda broker, _: broker.quotes(["IDX_I:13"])),
    "profile": (Call.OTHER, lambda broker, _: broker.profile()),
    "ip_status": (Call.OTHER, lambda broker, _: broker.ip_status()),
    "expiries": (Call.CHAIN, lambda broker, _: broker.expiries(INDICES[Underlying.NIFTY])),
    "index_candles": (Call.CHART, lambda broker, _: broker.index_candles(INDICES[Underlying.NIFTY], DAY, 60)),
}


class UsedUp:
    """Limits that let nothing pass."""

    def __init__(self):
        self.asked = []

    def admit(self, call):
        self.asked.append(call)
        raise RateLimited("used up; nothing was sent")


@pytest.mark.parametrize("name", ASKS)
def test_every_request_asks_the_limit_of_its_kind_first(name, make_broker, scripted, contract):
    call, ask = ASKS[name]
    limits = UsedUp()
    order = NewOrder(
        client_order_id="t-1", contract=contract, side=Side.BUY, quantity=65, limit_paise=100_00, product="MARGIN"
    )
    with pytest.raises(RateLimited):
        ask(make_broker(scripted.url, limits=limits), order)
    assert limits.asked == [call]
    assert scripted.requests == []


def test_every_method_of_a_broker_has_its_kind_here():
    assert {name for name in vars(Broker) if not name.startswith("_")} == set(ASKS)


@given(st.lists(st.sampled_from(Call), max_size=500))
def test_without_limits_nothing_waits(calls):
    for call in calls:
        NoLimits().admit(call)
