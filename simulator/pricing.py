"""Option prices of one moment: `strategy.premiums` to the last bit, for a market that prices many strikes at once."""

from math import erf, exp, log, sqrt

from strategy.premiums import RATE

_SQRT_TWO = sqrt(2.0)


class Moment:
    """All options on one index with one expiry at one moment: what they share is computed once.

    `price` is `option_price` with the volatility of `smile`, bit for bit; a test holds it to that.
    """

    __slots__ = ("_at_the_money", "_discount", "_rate", "_root", "_spot", "_width", "_years")

    def __init__(self, *, spot: float, years: float, at_the_money: float, rate: float = RATE) -> None:
        self._spot = spot
        self._years = years
        self._rate = rate
        self._at_the_money = at_the_money
        self._discount = exp(-rate * max(years, 0.0))
        self._root = sqrt(max(years, 0.0))
        self._width = at_the_money * sqrt(max(years, 0.5 / 365.0))

    def price(self, strike: float, *, is_call: bool) -> float:
        """What the option with this strike is worth."""
        spot, years = self._spot, self._years
        deviations = max(-6.0, min(6.0, log(strike / spot) / self._width))
        volatility = self._at_the_money * (1.0 - 0.025 * deviations + 0.018 * deviations * deviations)
        discounted_strike = strike * self._discount
        if years <= 0.0 or volatility <= 0.0:
            return max(0.0, spot - discounted_strike if is_call else discounted_strike - spot)
        spread = volatility * self._root
        d1 = (log(spot / strike) + (self._rate + 0.5 * volatility * volatility) * years) / spread
        d2 = d1 - spread
        call = spot * (0.5 * (1.0 + erf(d1 / _SQRT_TWO))) - discounted_strike * (0.5 * (1.0 + erf(d2 / _SQRT_TWO)))
        return call if is_call else call - spot + discounted_strike
