"""Dhan's order endpoints: place, slice, modify, cancel, and the order book.

Super and forever orders cannot be placed here; their books are empty.

What is refused at once is the request itself (input, address, transit, kill switch); what risk management or the
exchange finds is shown later, in the order book and on the order-update socket.
"""

import re
from collections.abc import Callable
from typing import Any

from simulator.exchange import OrderRefused
from simulator.fields import bad_input, body_of, listed_of, paise, whole
from simulator.instruments import Listed
from simulator.orders import Order, Quirks, render_order
from simulator.replies import UNKNOWN_ORDER, refusal
from simulator.stage import Stage
from simulator.wire import Request, Response

CORRELATION_ID_MAX = 25
PRODUCTS = {"INTRADAY", "MARGIN"}
_CORRELATION_ID = re.compile(r"[A-Za-z0-9_-]*")
_ORDER_TYPES = {"LIMIT", "MARKET", "STOP_LOSS", "STOP_LOSS_MARKET"}
_VALIDITIES = {"DAY", "IOC"}
_WRONG_TRIGGER = "Trigger Price should be greater than Price"


class OrdersApi:
    """Handlers by call name; each takes the request and the path's variable parts. They may raise OrderRefused."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self.handlers: dict[str, Callable[..., Response]] = {
            "place_order": self.place,
            "slice_order": self.slice,
            "modify_order": self.modify,
            "cancel_order": self.cancel,
            "order_book": self.order_book,
            "order_by_id": self.order_by_id,
            "order_by_correlation_id": self.order_by_correlation_id,
            "super_orders": lambda _: Response.of([]),
            "forever_orders": lambda _: Response.of([]),
        }

    def place(self, request: Request) -> Response:
        """POST /orders."""
        order = self._accept(body_of(request), request, call="place_order")
        return Response.of({"orderId": order.order_id, "orderStatus": "TRANSIT"})

    def slice(self, request: Request) -> Response:
        """POST /orders/slicing: several orders, none above the freeze quantity, all with the correlation id given."""
        body = body_of(request)
        listed = listed_of(body, self._stage.listing)
        quantity = whole(body, "quantity")
        most = listed.largest_order
        parts = [min(most, quantity - start) for start in range(0, quantity, most)]
        orders = [self._accept({**body, "quantity": part}, request, call="slice_order") for part in parts]
        return Response.of([{"orderId": order.order_id, "orderStatus": "TRANSIT"} for order in orders])

    def modify(self, request: Request, order_id: str) -> Response:
        """PUT /orders/{id}: the whole order restated, quantity in total."""
        body = body_of(request)
        order = self._known(order_id)
        if str(body.get("orderId", order_id)) != order_id or body.get("validity") not in _VALIDITIES:
            raise bad_input()
        if body.get("orderType") == "STOP_LOSS_MARKET":
            raise OrderRefused("DH-906", _WRONG_TRIGGER)
        if body.get("orderType") != order.order_type:
            raise bad_input()
        price, trigger = paise(body, "price"), paise(body, "triggerPrice", required=False)
        if price <= 0:
            raise bad_input()
        if order.order_type == "STOP_LOSS":
            _demand_stop(order.side, price, trigger)
        self._stage.exchange.modify(
            order,
            now_ms=self._stage.now_ms,
            quantity=whole(body, "quantity"),
            price_paise=price,
            trigger_paise=trigger,
            validity=body["validity"],
        )
        return Response.of({"orderId": order_id, "orderStatus": "TRANSIT"})

    def cancel(self, _: Request, order_id: str) -> Response:
        """DELETE /orders/{id}: the answer is an acknowledgement, the book tells what came of it."""
        self._stage.exchange.cancel(self._known(order_id), self._stage.now_ms)
        return Response.of({"orderId": order_id, "orderStatus": "CANCELLED"})

    def order_book(self, _: Request) -> Response:
        """GET /orders."""
        return Response.of([self._row(order) for order in self._stage.exchange.orders.values()])

    def order_by_id(self, _: Request, order_id: str) -> Response:
        """GET /orders/{id}; an unknown one is an empty list."""
        order = self._stage.exchange.orders.get(order_id)
        return Response.of(self._row(order) if order else [])

    def order_by_correlation_id(self, _: Request, correlation_id: str) -> Response:
        """GET /orders/external/{id}; an order that has not reached the exchange is not found yet."""
        order = self._stage.exchange.find(correlation_id)
        if order is None or (order.status == "TRANSIT" and not order.at_exchange_ms):
            return refusal("DH-906", UNKNOWN_ORDER, 404)
        return Response.of(self._row(order))

    def _row(self, order: Order) -> dict[str, Any]:
        return render_order(order, self._stage.credentials.client_id)

    def _known(self, order_id: str) -> Order:
        order = self._stage.exchange.orders.get(order_id)
        if order is None:
            raise OrderRefused("DH-906", UNKNOWN_ORDER)
        return order

    def _accept(self, body: dict[str, Any], request: Request, *, call: str) -> Order:
        stage = self._stage
        # The broker looks at the quantity first, then at where the order comes from, then at the instrument.
        quantity = whole(body, "quantity")
        if not stage.credentials.allows_orders_from(request.peer):
            raise OrderRefused("DH-905", "Invalid IP")
        listed = listed_of(body, stage.listing)
        side, order_type = body.get("transactionType"), body.get("orderType")
        if side not in ("BUY", "SELL") or order_type not in _ORDER_TYPES:
            raise bad_input()
        if body.get("productType") not in PRODUCTS or body.get("validity") not in _VALIDITIES:
            raise bad_input()
        # Empty text is refused wherever it stands; orders for after the market are not simulated.
        if "" in body.values() or body.get("afterMarketOrder") not in (False, None, "false"):
            raise bad_input()
        correlation_id = self._correlation_id(body)
        if stage.kill_switch:
            raise OrderRefused("DH-906", "Kill switch is activated for the account")
        price = 0 if order_type == "MARKET" else paise(body, "price")
        trigger = paise(body, "triggerPrice", required=False)
        if order_type == "STOP_LOSS_MARKET":
            raise OrderRefused("DH-906", _WRONG_TRIGGER)
        if order_type == "STOP_LOSS":
            _demand_stop(side, price, trigger)
        if price <= 0 and order_type != "MARKET":
            raise bad_input()
        return stage.exchange.place(
            now_ms=stage.now_ms,
            listed=listed,
            side=side,
            product=body["productType"],
            order_type=order_type,
            validity=body["validity"],
            quantity=quantity,
            price_paise=price,
            trigger_paise=trigger,
            correlation_id=correlation_id,
            disclosed_quantity=int(body.get("disclosedQuantity") or 0),
            quirks=self._quirks(call, quantity, listed),
        )

    def _correlation_id(self, body: dict[str, Any]) -> str:
        given = body.get("correlationId")
        if given is None:
            return f"{self._stage.credentials.client_id}-{self._stage.now_ms}"
        if not isinstance(given, str) or len(given) > CORRELATION_ID_MAX:
            raise bad_input()
        if not _CORRELATION_ID.fullmatch(given):
            raise bad_input("Invalid correlationId")
        return given

    def _quirks(self, call: str, quantity: int, listed: Listed) -> Quirks:
        quirks = Quirks()
        lots = quantity // listed.lot_size
        for fault in self._stage.faults.in_order(call, self._stage.now_ms):
            if fault.name == "reject":
                quirks.reject = str(fault.settings.get("message", "RMS:0:Order rejected by risk management"))
            elif fault.name == "partial_fill":
                fewer = max(0, lots - 1) * listed.lot_size
                quirks.fill_at_most = int(fault.number("quantity", fewer))
            elif fault.name == "never_fills":
                quirks.fill_at_most = 0
            elif fault.name == "fill_after_cancel":
                quirks.fill_at_most, quirks.fills_on_cancel = 0, quantity
            elif fault.name == "cancel_fill_race":
                half = max(1, lots // 2) * listed.lot_size
                quirks.fill_at_most, quirks.fills_on_cancel = 0, int(fault.number("quantity", half))
            elif fault.name == "slow_transit":
                quirks.transit_ms = round(fault.number("transit_ms", 5_000))
        return quirks


def _demand_stop(side: str, price: int, trigger: int) -> None:
    if trigger <= 0:
        raise OrderRefused("DH-906", "Trigger Price is required")
    if side == "SELL" and trigger <= price:
        raise OrderRefused("DH-906", _WRONG_TRIGGER)
    if side == "BUY" and trigger >= price:
        raise OrderRefused("DH-906", "Trigger Price should be less than Price")
