"""What to sell when the bot's positions are closed from outside a session.

Invariants:
1. Never more than the bot's own orders made it hold, and never more than the broker says is held: the smaller counts.
2. What others hold in the same account is named and never sold.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from strategy.instruments import Contract


@dataclass(frozen=True, slots=True, kw_only=True)
class Holding:
    """Units that the bot's own orders bought and did not sell, of one trade."""

    trade: int
    contract: Contract
    quantity: int  # units


def sales(ours: Iterable[Holding], at_broker: Mapping[str, int]) -> tuple[Holding, ...]:
    """What to sell now: our holdings, newest trade first, as far as the broker's net units by security go.

    The newest first, because units that the account no longer has were most likely sold for the oldest trade.
    """
    left = dict(at_broker)
    found = []
    for holding in sorted(ours, key=lambda holding: -holding.trade):
        quantity = min(holding.quantity, max(0, left.get(holding.contract.security, 0)))
        if quantity > 0:
            left[holding.contract.security] -= quantity
            found.append(replace(holding, quantity=quantity))
    return tuple(found)


def held_by_others(ours: Iterable[Holding], at_broker: Mapping[str, int]) -> dict[str, int]:
    """Net units by security that our orders do not explain; negative where somebody is short."""
    left = dict(at_broker)
    for holding in ours:
        security = holding.contract.security
        left[security] = left.get(security, 0) - min(holding.quantity, max(0, left.get(security, 0)))
    return {security: units for security, units in left.items() if units}
