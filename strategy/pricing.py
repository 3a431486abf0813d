"""At what limit an order is sent: through the best opposite price by a buffer, on the tick grid.

Invariants:
1. A limit is a positive multiple of the tick size, rounded towards being filled (a buy up, a sell down).
2. A wider buffer never makes a limit less marketable.
3. The buffer stays within its cap, so that a hurried exit keeps inside the exchange's price protection.

Prices are integer paise per unit.
"""

from dataclasses import dataclass

from strategy.events import Side, Tick

BASIS_POINTS = 10_000
WIDENINGS_MAX = 16  # doublings after which the cap has long been reached


@dataclass(frozen=True, slots=True, kw_only=True)
class Buffer:
    """How far through the best price a limit goes; 100 basis points are 1 %.

    The cap bounds an exit that widens. The exchange refuses limits further than 40 % from its reference (20
    rupees below a premium of 50); the defaults stay at half of that or less.
    """

    basis_points: int = 100
    min_paise: int = 50
    cap_basis_points: int = 2_000
    cap_min_paise: int = 5_00

    def __post_init__(self) -> None:
        if min(self.basis_points, self.min_paise, self.cap_basis_points, self.cap_min_paise) < 0:
            raise ValueError(f"a buffer has no negative part, found {self}; correct the order settings")

    def width_paise(self, reference_paise: int, widenings: int = 0) -> int:
        """The buffer at a price, doubled `widenings` times, between the base width and the cap."""
        base = max(_share(reference_paise, self.basis_points), self.min_paise)
        cap = max(_share(reference_paise, self.cap_basis_points), self.cap_min_paise, base)
        return min(base << min(max(widenings, 0), WIDENINGS_MAX), cap)


def limit_price_paise(
    side: Side, *, reference_paise: int, buffer: Buffer, tick_size_paise: int, widenings: int = 0
) -> int:
    """The limit for an order that should fill now.

    Args:
        side: which way the order goes.
        reference_paise: the best opposite price, or the last one where no depth is known; positive.
        buffer: how far to go through it.
        tick_size_paise: the contract's price grid; positive.
        widenings: how often the buffer has been doubled.

    Raises:
        ValueError: the reference or the tick size is not positive.
    """
    if reference_paise <= 0 or tick_size_paise <= 0:
        raise ValueError(
            f"a limit needs a positive reference and tick size, found {reference_paise} and {tick_size_paise}"
            " paise; wait for a quote of the contract"
        )
    width = buffer.width_paise(reference_paise, widenings)
    if side is Side.BUY:
        return -(-(reference_paise + width) // tick_size_paise) * tick_size_paise
    return max((reference_paise - width) // tick_size_paise, 1) * tick_size_paise


def best_opposite_paise(side: Side, quote: Tick | None, fallback_paise: int) -> int:
    """The ask for a buy, the bid for a sell; without depth the last price, without a quote the fallback."""
    if quote is None:
        return fallback_paise
    best = quote.ask_paise if side is Side.BUY else quote.bid_paise
    return best if best > 0 else quote.price_paise


def _share(amount_paise: int, basis_points: int) -> int:
    return -(-amount_paise * basis_points // BASIS_POINTS)
