"""Option prices: textbook values, parity, and bounds."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from strategy.premiums import option_greeks, option_price, smile

spots = st.floats(5_000, 100_000)
ratios = st.floats(0.8, 1.25)
years = st.floats(1 / 365 / 24, 2.0)
volatilities = st.floats(0.05, 0.8)


@pytest.mark.parametrize(
    ("spot", "strike", "years", "volatility", "rate", "call", "put"),
    [
        # Hull, Options, Futures and Other Derivatives, example 15.6.
        (42.0, 40.0, 0.5, 0.20, 0.10, 4.759422, 0.808600),
        # The textbook at-the-money year: one hundred, twenty per cent, five per cent.
        (100.0, 100.0, 1.0, 0.20, 0.05, 10.450584, 5.573526),
        # Haug, The Complete Guide to Option Pricing Formulas: a call of three months.
        (60.0, 65.0, 0.25, 0.30, 0.08, 2.133368, 5.846282),
    ],
)
def test_prices_are_those_of_the_textbooks(spot, strike, years, volatility, rate, call, put):  # noqa: PLR0917  a table
    common = {"spot": spot, "strike": strike, "years": years, "volatility": volatility, "rate": rate}
    assert option_price(**common, is_call=True) == pytest.approx(call, abs=1e-5)
    assert option_price(**common, is_call=False) == pytest.approx(put, abs=1e-5)


@settings(deadline=None)
@given(spots, ratios, years, volatilities)
def test_put_call_parity(spot, ratio, years, volatility):
    strike = spot * ratio
    common = {"spot": spot, "strike": strike, "years": years, "volatility": volatility, "rate": 0.065}
    difference = option_price(**common, is_call=True) - option_price(**common, is_call=False)
    assert difference == pytest.approx(spot - strike * math.exp(-0.065 * years), abs=1e-6 * spot)


@settings(deadline=None)
@given(spots, ratios, years, volatilities, st.booleans())
def test_a_price_lies_between_intrinsic_value_and_the_underlying(spot, ratio, years, volatility, is_call):
    strike = spot * ratio
    discounted = strike * math.exp(-0.065 * years)
    price = option_price(spot=spot, strike=strike, years=years, volatility=volatility, is_call=is_call, rate=0.065)
    intrinsic = max(0.0, spot - discounted if is_call else discounted - spot)
    slack = 1e-9 * spot
    assert intrinsic - slack <= price <= (spot if is_call else discounted) + slack


@settings(deadline=None)
@given(spots, ratios, st.booleans())
def test_at_expiry_only_intrinsic_value_is_left(spot, ratio, is_call):
    strike = spot * ratio
    price = option_price(spot=spot, strike=strike, years=0.0, volatility=0.13, is_call=is_call)
    assert price == max(0.0, spot - strike if is_call else strike - spot)


@settings(deadline=None)
@given(spots, ratios, years, volatilities, st.booleans())
def test_greeks_are_the_slopes_of_the_price(spot, ratio, years, volatility, is_call):
    strike = spot * ratio
    common = {"strike": strike, "is_call": is_call, "rate": 0.065}
    greeks = option_greeks(spot=spot, years=years, volatility=volatility, **common)
    step = spot * 1e-4
    up, down = (option_price(spot=s, years=years, volatility=volatility, **common) for s in (spot + step, spot - step))
    middle = option_price(spot=spot, years=years, volatility=volatility, **common)
    assert (up - down) / (2 * step) == pytest.approx(greeks.delta, abs=2e-2)
    # The slope between the two neighbours cannot differ from delta by more than the change of delta between them.
    assert abs((up + down - 2 * middle) / step**2) == pytest.approx(greeks.gamma, rel=0.3, abs=1e-4)
    dearer = option_price(spot=spot, years=years, volatility=volatility + 1e-4, **common)
    assert (dearer - middle) / 1e-4 / 100 == pytest.approx(greeks.vega, rel=2e-2, abs=1e-2)


@settings(deadline=None)
@given(spots, st.floats(0.02, 0.6), years)
def test_the_smile_is_positive_and_dearer_on_the_wings(spot, volatility, years):
    at_the_money, low, high = (
        smile(at_the_money=volatility, spot=spot, strike=spot * ratio, years=years) for ratio in (1.0, 0.8, 1.2)
    )
    assert at_the_money == pytest.approx(volatility)
    assert min(low, high) > 0
    if 0.2 / (volatility * math.sqrt(years)) > 3:  # far out, measured in deviations
        assert min(low, high) > at_the_money
