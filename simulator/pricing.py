"""What an option is worth: Black-Scholes with a volatility smile, in plain floats.

Invariants:
1. Put-call parity holds exactly: call - put = spot - strike x discount.
2. A price is never below its discounted intrinsic value, and equals it when no time is left.

Units: index points and rupees per unit, years of 365 calendar days, volatility and rate as fractions per year.
"""

from dataclasses import dataclass
from math import erf, exp, log, pi, sqrt

RATE = 0.065
YEAR_MS = 365 * 24 * 3600 * 1000
_SQRT_TWO = sqrt(2.0)
_SQRT_TWO_PI = sqrt(2.0 * pi)


@dataclass(frozen=True, slots=True, kw_only=True)
class Greeks:
    """Sensitivities as Dhan's option chain shows them: theta per day, vega per volatility point."""

    delta: float
    gamma: float
    theta: float
    vega: float


def _cumulative(x: float) -> float:
    return 0.5 * (1.0 + erf(x / _SQRT_TWO))


def option_price(
    *, spot: float, strike: float, years: float, volatility: float, is_call: bool, rate: float = RATE
) -> float:
    """The Black-Scholes value of a European option on an index that pays no dividend."""
    discounted_strike = strike * exp(-rate * max(years, 0.0))
    if years <= 0.0 or volatility <= 0.0:
        intrinsic = spot - discounted_strike if is_call else discounted_strike - spot
        return max(0.0, intrinsic)
    spread = volatility * sqrt(years)
    d1 = (log(spot / strike) + (rate + 0.5 * volatility * volatility) * years) / spread
    d2 = d1 - spread
    call = spot * _cumulative(d1) - discounted_strike * _cumulative(d2)
    return call if is_call else call - spot + discounted_strike


def option_greeks(
    *, spot: float, strike: float, years: float, volatility: float, is_call: bool, rate: float = RATE
) -> Greeks:
    """The sensitivities at one point; all zero when no time is left, as the broker shows what it cannot price."""
    if years <= 0.0 or volatility <= 0.0:
        return Greeks(delta=0.0, gamma=0.0, theta=0.0, vega=0.0)
    spread = volatility * sqrt(years)
    d1 = (log(spot / strike) + (rate + 0.5 * volatility * volatility) * years) / spread
    d2 = d1 - spread
    density = exp(-0.5 * d1 * d1) / _SQRT_TWO_PI
    carried = rate * strike * exp(-rate * years)
    decay = -spot * density * volatility / (2.0 * sqrt(years))
    theta = decay - carried * _cumulative(d2) if is_call else decay + carried * _cumulative(-d2)
    return Greeks(
        delta=_cumulative(d1) if is_call else _cumulative(d1) - 1.0,
        gamma=density / (spot * spread),
        theta=theta / 365.0,
        vega=spot * density * sqrt(years) / 100.0,
    )


def smile(*, at_the_money: float, spot: float, strike: float, years: float) -> float:
    """Implied volatility of a strike: lowest a little above the money, dearer on both wings, puts more than calls."""
    width = at_the_money * sqrt(max(years, 0.5 / 365.0))
    deviations = max(-6.0, min(6.0, log(strike / spot) / width))
    return at_the_money * (1.0 - 0.025 * deviations + 0.018 * deviations * deviations)
