"""What an option is worth: Black-Scholes with a volatility smile, in plain floats. For markets that are made up.

Invariants:
1. Put-call parity holds exactly: call - put = spot - strike x discount.
2. A price is never below its discounted intrinsic value, and equals it when no time is left.

Units: index points and rupees per unit, years of 365 calendar days, volatility and rate as fractions per year.
"""

from dataclasses import dataclass
from math import ceil, erf, exp, floor, log, pi, sqrt

RATE = 0.065
TICK_PAISE = 5
# A usual half-spread of the simulated market: so much, and such a share of the premium.
HALF_SPREAD_PAISE = 2.5
HALF_SPREAD_SHARE = 0.0012
AT_THE_MONEY_VOLATILITY = 0.13
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
    return value_of(spot, strike, years, volatility, is_call, rate)


# The three functions that a backtest quotes by take their values by position, because `strategy.kernel` compiles them
# as they stand here: one text, the same bits with and without the compiler.


def value_of(  # noqa: PLR0917 (compiled)
    spot: float,
    strike: float,
    years: float,
    volatility: float,
    is_call: bool,  # noqa: FBT001 (compiled)
    rate: float,
) -> float:
    """`option_price` by position."""
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
    return smile_at(at_the_money, spot, strike, years)


def smile_at(at_the_money: float, spot: float, strike: float, years: float) -> float:
    """`smile` by position."""
    width = at_the_money * sqrt(max(years, 0.5 / 365.0))
    deviations = max(-6.0, min(6.0, log(strike / spot) / width))
    return at_the_money * (1.0 - 0.025 * deviations + 0.018 * deviations * deviations)


def quote_of(  # noqa: PLR0917 (compiled)
    spot_paise: int,
    strike_points: int,
    left_ms: int,
    is_call: bool,  # noqa: FBT001 (compiled)
    volatility: float,
    spread: float,
) -> tuple[int, int, int]:
    """Last price, bid and ask of an option `left_ms` before its expiry, paise on the grid of five.

    The last price is the fair one; bid (0: nobody bids) and ask lie around it as in the simulated market, whose
    spread breathes between 0.6 and 1.875 of a usual one: `spread` says where. `volatility` is that at the money.
    """
    spot = spot_paise * 0.01
    strike = strike_points * 1.0
    years = max(left_ms, 0) / YEAR_MS
    at_strike = smile_at(volatility, spot, strike, years)
    fair = 100.0 * value_of(spot, strike, years, at_strike, is_call, RATE)
    half_spread = (HALF_SPREAD_PAISE + HALF_SPREAD_SHARE * fair) * spread
    last = max(TICK_PAISE, int(fair * 0.2 + 0.5) * TICK_PAISE)
    bid = max(0, floor((fair - half_spread) * 0.2) * TICK_PAISE)
    ask = max(TICK_PAISE, ceil((fair + half_spread) * 0.2) * TICK_PAISE)
    return last, bid, ask
