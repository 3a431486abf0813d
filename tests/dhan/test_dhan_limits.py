"""Our own limiter stays below the broker's, and never makes an order wait long."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.broker import BrokerUnavailable, RateLimited
from tasks.broker.limits import RATES, BrokerLimits, Call, NoLimits
from tasks.clock import Stopwatch

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


@given(st.lists(st.sampled_from(Call), max_size=500))
def test_without_limits_nothing_waits(calls):
    for call in calls:
        NoLimits().admit(call)
