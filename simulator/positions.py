"""What the account holds and what it may still spend: both follow from its executions and open orders alone.

Invariants:
1. Bought minus sold is the net quantity; money in minus money out is the P&L once flat, before charges.
2. Premium of a working buy order is blocked at its limit until it fills or ends.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from simulator.instruments import Listed
from simulator.market import Market
from simulator.orders import Execution, Order

# SPAN and exposure margin of a naked short index option, as parts of its notional.
SPAN, EXPOSURE = 0.0877, 0.02


@dataclass(slots=True, kw_only=True)
class Position:
    """One contract in one product. Quantities in units, money in paise."""

    listed: Listed
    product: str
    buy_quantity: int = 0
    buy_value_paise: int = 0
    sell_quantity: int = 0
    sell_value_paise: int = 0

    @property
    def net_quantity(self) -> int:
        """Units held; negative when short."""
        return self.buy_quantity - self.sell_quantity

    def pnl_paise(self, last_paise: int) -> int:
        """Profit at the price `last_paise`, before charges."""
        return self.sell_value_paise - self.buy_value_paise + self.net_quantity * last_paise

    @property
    def realised_paise(self) -> float:
        """Profit of what was both bought and sold, at average prices."""
        closed = min(self.buy_quantity, self.sell_quantity)
        if not closed:
            return 0.0
        return closed * (self.sell_value_paise / self.sell_quantity - self.buy_value_paise / self.buy_quantity)


class Account:
    """Positions by contract and product, and the money."""

    def __init__(self, market: Market, opening_funds_paise: int) -> None:
        self.opening_funds_paise = opening_funds_paise
        self.positions: dict[tuple[str, str], Position] = {}
        self._market = market

    def apply(self, execution: Execution) -> None:
        """Book one fill."""
        order = execution.order
        key = (order.listed.security, order.product)
        position = self.positions.get(key)
        if position is None:
            position = self.positions[key] = Position(listed=order.listed, product=order.product)
        value = execution.quantity * execution.price_paise
        if order.is_buy:
            position.buy_quantity += execution.quantity
            position.buy_value_paise += value
        else:
            position.sell_quantity += execution.quantity
            position.sell_value_paise += value

    def net_quantity(self, listed: Listed, product: str) -> int:
        """Units held of one contract in one product."""
        position = self.positions.get((listed.security, product))
        return position.net_quantity if position else 0

    def convert(self, listed: Listed, source: str, target: str, quantity: int) -> bool:
        """Move `quantity` units of a position to another product at its average price; False if they are not held."""
        held = self.positions.get((listed.security, source))
        if held is None or abs(held.net_quantity) < quantity:
            return False
        moved = self.positions.setdefault((listed.security, target), Position(listed=listed, product=target))
        if held.net_quantity > 0:
            value = held.buy_value_paise * quantity // held.buy_quantity
            held.buy_quantity, held.buy_value_paise = held.buy_quantity - quantity, held.buy_value_paise - value
            moved.buy_quantity, moved.buy_value_paise = moved.buy_quantity + quantity, moved.buy_value_paise + value
        else:
            value = held.sell_value_paise * quantity // held.sell_quantity
            held.sell_quantity, held.sell_value_paise = held.sell_quantity - quantity, held.sell_value_paise - value
            moved.sell_quantity, moved.sell_value_paise = moved.sell_quantity + quantity, moved.sell_value_paise + value
        return True

    def is_flat(self) -> bool:
        """Nothing held, nothing short."""
        return all(position.net_quantity == 0 for position in self.positions.values())

    def used_paise(self, open_orders: Iterable[Order], at_ms: int) -> int:
        """Premium paid net of premium received, margin of shorts, and what open orders block."""
        used = 0
        covered: dict[tuple[str, str], int] = {}
        for key, position in self.positions.items():
            used += position.buy_value_paise - position.sell_value_paise
            if position.net_quantity < 0:
                used += self.short_margin_paise(position.listed, -position.net_quantity, at_ms)
            covered[key] = max(0, position.net_quantity)
        for order in open_orders:
            if order.is_buy:
                used += order.remaining * order.price_paise
                continue
            key = (order.listed.security, order.product)
            cover = min(order.remaining, covered.get(key, 0))
            covered[key] = covered.get(key, 0) - cover
            used += self.short_margin_paise(order.listed, order.remaining - cover, at_ms)
        return used

    def short_margin_paise(self, listed: Listed, quantity: int, at_ms: int) -> int:
        """Margin for selling `quantity` units that are not held."""
        return round(quantity * self._market.spot_paise(listed.index.underlying, at_ms) * (SPAN + EXPOSURE))

    def pnl_paise(self, at_ms: int, products: Iterable[str] | None = None) -> int:
        """The day's profit at last prices, before charges."""
        wanted = None if products is None else set(products)
        return sum(
            position.pnl_paise(self._market.last_paise(position.listed, at_ms) if position.net_quantity else 0)
            for position in self.positions.values()
            if wanted is None or position.product in wanted
        )


def render_position(position: Position, client_id: str, last_paise: int) -> dict[str, Any]:
    """The row of GET /positions; a closed one stays in the list."""
    net, listed = position.net_quantity, position.listed
    buy_average = position.buy_value_paise / position.buy_quantity / 100 if position.buy_quantity else 0.0
    sell_average = position.sell_value_paise / position.sell_quantity / 100 if position.sell_quantity else 0.0
    realised = position.realised_paise
    return {
        "dhanClientId": client_id,
        "tradingSymbol": listed.trading_symbol,
        "securityId": str(listed.security_id),
        "positionType": "LONG" if net > 0 else "SHORT" if net < 0 else "CLOSED",
        "exchangeSegment": listed.segment,
        "productType": position.product,
        "buyAvg": round(buy_average, 4),
        "buyQty": position.buy_quantity,
        "costPrice": round(buy_average if net >= 0 else sell_average, 4),
        "sellAvg": round(sell_average, 4),
        "sellQty": position.sell_quantity,
        "netQty": net,
        "realizedProfit": round(realised / 100, 2),
        "unrealizedProfit": round((position.pnl_paise(last_paise) - realised) / 100, 2),
        "rbiReferenceRate": 1.0,
        "multiplier": 1,
        "carryForwardBuyQty": 0,
        "carryForwardSellQty": 0,
        "carryForwardBuyValue": 0.0,
        "carryForwardSellValue": 0.0,
        "dayBuyQty": position.buy_quantity,
        "daySellQty": position.sell_quantity,
        "dayBuyValue": position.buy_value_paise / 100,
        "daySellValue": position.sell_value_paise / 100,
        "drvExpiryDate": listed.expiry_text,
        "drvOptionType": listed.kind,
        "drvStrikePrice": float(listed.strike),
        "crossCurrency": False,
    }
