"""The table of an order's life, the ids, the slices and the prices."""

import re
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from strategy.events import Side, Tick
from strategy.order_news import exact_value_paise
from strategy.orders import (
    ID_LENGTH_MAX,
    TRANSITIONS,
    Cause,
    OrderPolicy,
    Stage,
    client_order_id,
    order_policy,
    slices,
)
from strategy.params import Params
from strategy.pricing import Buffer, best_opposite_paise, limit_price_paise

from .conftest import CONTRACT

# "." is "stays". Read a row as: in this stage, what happens when ...
TABLE = """
              SENT     ACCEPTED REFUSED NOT_SENT DROPPED IN_DOUBT SEEN_OPEN  SEEN_ENDED SEEN_ABSENT UNWANTED
  RECORDED    SENDING  .        .       .        .       .        WORKING    CLOSED     .           .
  SENDING     .        WORKING  CLOSED  RECORDED CLOSED  UNKNOWN  WORKING    CLOSED     .           .
  UNKNOWN     .        WORKING  CLOSED  RECORDED CLOSED  .        WORKING    CLOSED     CLOSED      .
  WORKING     .        .        .       .        .       .        .          CLOSED     .           CANCELLING
  CANCELLING  .        .        .       .        .       .        .          CLOSED     .           .
  CLOSED      .        .        .       .        .       .        CANCELLING .          .           .
"""


def test_the_life_of_an_order_is_the_table():
    header, *rows = [line.split() for line in TABLE.strip().splitlines()]
    assert header == list(Cause)
    drawn = {
        (Stage(stage), Cause(cause)): Stage(cell)
        for stage, *cells in rows
        for cause, cell in zip(header, cells, strict=True)
        if cell != "."
    }
    assert drawn == dict(TRANSITIONS)
    assert {stage for stage, *_ in rows} == set(Stage)


def test_only_what_may_not_be_live_is_closed_or_sent():
    """An order is sent from RECORDED alone, and leaves doubt only by an answer or a sighting."""
    assert [stage for (stage, cause), _ in TRANSITIONS.items() if cause is Cause.SENT] == [Stage.RECORDED]
    assert {stage for (stage, cause) in TRANSITIONS if cause is Cause.SEEN_ABSENT} == {Stage.UNKNOWN}
    live = {Stage.WORKING, Stage.CANCELLING}
    assert {cause for (stage, cause), after in TRANSITIONS.items() if stage in live and after is Stage.CLOSED} == {
        Cause.SEEN_ENDED
    }


@given(
    intents=st.sets(st.tuples(st.integers(0, 999_999), st.integers(0, 35)), min_size=2, max_size=20),
    prefix=st.from_regex(r"[A-Za-z0-9_-]{1,11}", fullmatch=True),
)
def test_ids_fit_the_broker_and_differ(intents, prefix):
    ids = [client_order_id(prefix, intent, number) for intent, number in intents]
    assert all(re.fullmatch(r"[A-Za-z0-9_-]{1,20}", order_id) for order_id in ids)
    assert len(set(ids)) == len(intents)


@pytest.mark.parametrize(
    ("prefix", "intent", "number"),
    [
        ("", 1, 0),
        ("261120N-k3f0", 1, 0),  # too long
        ("261120N|k3f", 1, 0),  # the broker refuses a pipe
        ("261120Ñ-k3f", 1, 0),
        ("261120N-k3f", 1, 36),
        ("261120N-k3f", -1, 0),
        ("261120N-k3f", 10**7, 0),
    ],
)
def test_an_id_that_the_broker_would_refuse_is_refused_here(prefix, intent, number):
    with pytest.raises(ValueError, match="found"):
        client_order_id(prefix, intent, number)


def test_the_longest_id_is_as_long_as_allowed():
    assert len(client_order_id("261120N-k3f", 999_999, 35)) == ID_LENGTH_MAX


@given(
    lots=st.integers(1, 500),
    lot_size=st.sampled_from([20, 30, 60, 65]),
    freeze=st.sampled_from([-1, 0, 130, 600, 1000, 1800]),
)
def test_slices_are_whole_lots_within_the_freeze_quantity_and_add_up(lots, lot_size, freeze):
    parts = slices(lots * lot_size, freeze, lot_size)
    assert sum(parts) == lots * lot_size
    assert all(part > 0 and part % lot_size == 0 for part in parts)
    if freeze > 0:
        assert max(parts) <= freeze
        assert len(parts) == -(-lots // (freeze // lot_size)), "no more orders than needed"


@pytest.mark.parametrize(("quantity", "freeze", "lot_size"), [(0, 1800, 65), (-65, 1800, 65), (65, 60, 65)])
def test_what_cannot_be_sliced_is_refused(quantity, freeze, lot_size):
    with pytest.raises(ValueError, match=r"found|check"):
        slices(quantity, freeze, lot_size)


PRICES = """
    side  reference  widenings  limit     # buffer 1 %, at least 0.50, at most 20 % or 5.00; tick 0.05
    BUY   100.00     0          101.00
    BUY   10.00      0          10.50     # the minimum
    BUY   123.45     0          124.70    # 1.2345 is 1.24 and rounds up to the tick
    SELL  100.00     0          99.00
    SELL  123.45     0          122.20    # rounds down
    SELL  100.00     1          98.00
    SELL  100.00     3          92.00
    SELL  100.00     5          80.00     # the cap
    SELL  100.00     99         80.00
    SELL  10.00      99         5.00      # the cap's minimum
    SELL  0.40       0          0.05      # never below one tick
    SELL  0.05       99         0.05
"""


@pytest.mark.parametrize("row", PRICES.strip().splitlines()[1:])
def test_limit_price(row):
    side, reference, widenings, limit = row.partition("#")[0].split()
    found = limit_price_paise(
        Side(side),
        reference_paise=round(float(reference) * 100),
        buffer=Buffer(basis_points=100, min_paise=50),
        tick_size_paise=5,
        widenings=int(widenings),
    )
    assert found == round(float(limit) * 100)


@given(
    reference=st.integers(1, 10_000_000),
    tick=st.sampled_from([1, 5, 10, 20]),
    widenings=st.integers(-3, 40),
    buffer=st.builds(
        Buffer,
        basis_points=st.integers(0, 3_000),
        min_paise=st.integers(0, 10_000),
        cap_basis_points=st.integers(0, 4_000),
        cap_min_paise=st.integers(0, 10_000),
    ),
)
def test_a_limit_is_a_positive_tick_through_the_reference_and_widening_never_weakens_it(
    reference, tick, widenings, buffer
):
    def limit(side, more=0):
        return limit_price_paise(
            side, reference_paise=reference, buffer=buffer, tick_size_paise=tick, widenings=widenings + more
        )

    width = buffer.width_paise(reference, widenings)
    assert limit(Side.BUY) % tick == limit(Side.SELL) % tick == 0
    assert reference + width <= limit(Side.BUY) < reference + width + tick
    assert max(reference - width - tick, 0) < limit(Side.SELL) <= max(reference - width, tick)
    assert limit(Side.BUY, more=1) >= limit(Side.BUY)
    assert limit(Side.SELL, more=1) <= limit(Side.SELL)


@pytest.mark.parametrize(("reference", "tick"), [(0, 5), (-5, 5), (100, 0)])
def test_a_limit_without_a_price_is_refused(reference, tick):
    with pytest.raises(ValueError, match="wait for a quote"):
        limit_price_paise(Side.SELL, reference_paise=reference, buffer=Buffer(), tick_size_paise=tick)


def test_the_best_opposite_price_is_ask_or_bid_else_last_else_the_fallback():
    quote = Tick(at_ms=1, security="NSE_FNO:1", price_paise=100, bid_paise=95, ask_paise=105)
    bare = Tick(at_ms=1, security="NSE_FNO:1", price_paise=100)
    assert best_opposite_paise(Side.BUY, quote, 7) == 105
    assert best_opposite_paise(Side.SELL, quote, 7) == 95
    assert best_opposite_paise(Side.BUY, bare, 7) == best_opposite_paise(Side.SELL, bare, 7) == 100
    assert best_opposite_paise(Side.SELL, None, 7) == 7


def test_the_policy_speaks_the_settings():
    policy = order_policy(
        Params(order_timeout_seconds=7, reprice_attempts=4, price_buffer_percent=0.75, price_buffer_min_points=0.35)
    )
    assert (policy.timeout_ms, policy.reprices_max) == (7_000, 4)
    assert (policy.buffer.basis_points, policy.buffer.min_paise) == (75, 35)


@pytest.mark.parametrize(
    "wrong",
    [{"timeout_ms": 0}, {"poll_ms": 0}, {"reprices_max": -1}, {"modifications_max": 25}, {"modifications_max": 0}],
)
def test_a_policy_that_the_broker_would_not_bear_is_refused(wrong):
    with pytest.raises(ValueError, match="found"):
        OrderPolicy(**wrong)


def test_the_tightest_policy_that_makes_sense_is_taken():
    assert OrderPolicy(timeout_ms=1, poll_ms=1, reprices_max=0, modifications_max=1).modifications_max == 1
    assert OrderPolicy(modifications_max=24).modifications_max == 24


def test_a_lot_of_one_unit_is_an_order():
    assert slices(1, 1, 1) == (1,)
    assert slices(3, 1, 1) == (1, 1, 1)


def test_a_negative_buffer_is_refused():
    with pytest.raises(ValueError, match="found"):
        Buffer(basis_points=-1)


@given(
    parts=st.lists(st.tuples(st.integers(1, 10), st.integers(1, 20_000)), min_size=1, max_size=6),
    lot_size=st.sampled_from([20, 30, 60, 65]),
)
def test_the_money_of_fills_at_several_prices_is_exact_although_the_broker_says_an_average(parts, lot_size):
    """Lots at ticks, told as the average with four decimals, as the order book has it."""
    contract = replace(CONTRACT, lot_size=lot_size)
    quantity = sum(lots for lots, _ in parts) * lot_size
    exact_paise = sum(lots * lot_size * ticks * 5 for lots, ticks in parts)
    average_rupees = round(exact_paise / quantity / 100, 4)
    told_paise = round(average_rupees * 100 * quantity)
    assert exact_value_paise(told_paise, quantity, contract) == exact_paise


@pytest.mark.parametrize(
    ("told_paise", "quantity", "exact_paise"),
    [
        (6_500_00, 65, 6_500_00),
        (6_500_01, 65, 6_500_00),  # the average's last decimal
        (6_500_65, 65, 6_500_65),  # a price off the tick: not what rounding does
        (3_300_01, 33, 3_300_01),  # not whole lots
        (0, 65, 0),
    ],
)
def test_only_what_rounding_can_have_moved_is_put_right(told_paise, quantity, exact_paise):
    assert exact_value_paise(told_paise, quantity, CONTRACT) == exact_paise
