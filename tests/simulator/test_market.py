"""Quoted options: plausible, on the tick, and a function of the moment alone."""

from datetime import date

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simulator.market import Market
from simulator.setup import Setup
from simulator.stage import Stage
from strategy.instruments import INDICES, Underlying

STAGE = Stage(Setup(day=date(2026, 11, 20)))
OPENS, CLOSES = STAGE.windows[0]
CONTRACTS = list(STAGE.listing.by_security.values())
moments = st.integers(OPENS, CLOSES - 1)
contracts = st.sampled_from(CONTRACTS)


@settings(max_examples=300, deadline=None)
@given(contracts, moments)
def test_bids_are_below_asks_and_all_on_the_tick(listed, at_ms):
    depth = STAGE.market.depth(listed, at_ms)
    bids, asks = [price for price, _, _ in depth.bids], [price for price, _, _ in depth.asks]
    assert len(asks) == 5
    assert depth.bid_paise < depth.ask_paise
    assert all(price > 0 and price % 5 == 0 for price in bids + asks)
    assert bids == sorted(set(bids), reverse=True)
    assert asks == sorted(set(asks))
    assert all(quantity > 0 and quantity % listed.lot_size == 0 for _, quantity, _ in (*depth.bids, *depth.asks))
    assert len(depth.levels()) == 5


@settings(max_examples=200, deadline=None)
@given(contracts, moments)
def test_nobody_bids_more_or_offers_for_less_than_the_option_is_worth(listed, at_ms):
    depth = STAGE.market.depth(listed, at_ms)
    assert depth.bid_paise <= STAGE.market.fair_paise(listed, at_ms) <= depth.ask_paise


@settings(max_examples=200, deadline=None)
@given(contracts, moments)
def test_a_print_lies_between_bid_and_ask(listed, at_ms):
    depth = STAGE.market.depth(listed, at_ms)
    assert max(5, depth.bid_paise) <= STAGE.market.print_at(listed, at_ms) <= depth.ask_paise


@settings(max_examples=200, deadline=None)
@given(contracts, moments)
def test_a_price_is_a_function_of_seed_and_moment(listed, at_ms):
    market = STAGE.market
    again = Market(seed=market.seed, day=market.day, windows=market.windows, paths=market.paths, listing=market.listing)
    assert again.depth(listed, at_ms) == market.depth(listed, at_ms)
    assert again.last_paise(listed, at_ms) == market.last_paise(listed, at_ms)


def near_the_money(underlying: Underlying):
    spot = STAGE.market.paths[underlying].previous_close_paise
    expiry = STAGE.listing.expiries[underlying][0]
    contracts = STAGE.listing.by_expiry[underlying, expiry]
    return min((c for c in contracts if c.is_call), key=lambda c: abs(c.strike * 100 - spot))


def test_the_weekly_nifty_option_at_the_money_costs_what_traders_expect():
    listed = near_the_money(Underlying.NIFTY)
    assert str(listed.expiry) == "2026-11-23"
    depth = STAGE.market.depth(listed, OPENS)
    assert 60_00 < depth.bid_paise < depth.ask_paise < 300_00
    assert depth.ask_paise - depth.bid_paise <= 1_50


@pytest.mark.parametrize("underlying", INDICES)
def test_premium_decays_while_the_index_stands(underlying):
    listed = near_the_money(underlying)
    path = STAGE.market.paths[underlying]
    still = type(path).of([OPENS], [path.previous_close_paise], path.previous_close_paise)
    market = Market(
        seed=7, day=STAGE.setup.day, windows=STAGE.windows, paths={underlying: still}, listing=STAGE.listing
    )
    assert market.fair_paise(listed, CLOSES - 1) < market.fair_paise(listed, OPENS)


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 600), st.integers(0, 600))
def test_a_days_summary_covers_all_prints_so_far_whenever_it_is_asked_for(first_s, second_s):
    listed = near_the_money(Underlying.NIFTY)
    market = Market(seed=7, day=STAGE.setup.day, windows=STAGE.windows, paths=STAGE.market.paths, listing=STAGE.listing)
    for seconds in (first_s, second_s):  # the second moment may lie before the first
        at_ms = OPENS + 1_000 + seconds * 1_000
        day = market.option_summary(listed, at_ms)
        prints = [market.print_at(listed, at) for at in market.print_times(OPENS, at_ms + 1)]
        assert (day.open_paise, day.high_paise, day.low_paise, day.last_paise) == (
            prints[0], max(prints), min(prints), prints[-1],
        )  # fmt: skip
        assert day.last_paise == market.last_paise(listed, at_ms)


def test_before_the_first_print_an_option_shows_yesterdays_close():
    listed = near_the_money(Underlying.NIFTY)
    day = STAGE.market.option_summary(listed, OPENS - 1)
    assert (day.last_paise, day.last_at_ms, day.volume) == (listed.reference_paise, 0, 0)
    assert STAGE.market.last_paise(listed, OPENS - 1) == listed.reference_paise


def test_volume_only_grows():
    listed = near_the_money(Underlying.NIFTY)
    volumes = [STAGE.market.option_summary(listed, OPENS + s * 1000).volume for s in range(0, 60, 7)]
    assert volumes == sorted(volumes)
    assert volumes[-1] > 0
