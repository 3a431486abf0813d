"""The simulator's prices are those of the strategy room, to the last bit."""

from hypothesis import given
from hypothesis import strategies as st

from simulator.pricing import Moment
from strategy.premiums import option_price, smile


@given(
    spot=st.floats(5_000, 100_000),
    ratio=st.floats(0.5, 2.0),
    years=st.one_of(st.just(0.0), st.floats(-0.01, 2.0)),
    at_the_money=st.floats(0.05, 0.8),
    is_call=st.booleans(),
)
def test_what_options_share_at_a_moment_changes_no_price(spot, ratio, years, at_the_money, is_call):
    strike = round(spot * ratio)
    volatility = smile(at_the_money=at_the_money, spot=spot, strike=strike, years=years)
    expected = option_price(spot=spot, strike=strike, years=years, volatility=volatility, is_call=is_call)
    assert Moment(spot=spot, years=years, at_the_money=at_the_money).price(strike, is_call=is_call) == expected
