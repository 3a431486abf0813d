"""Dhan's trading endpoints: orders, trades, positions, funds and the trader's controls, on top of the exchange.

Sync refusals are what Dhan answers at once (input, address, token, transit); what risk management or the exchange finds
is shown later, in the order book and on the order-update socket.
"""

import re
from collections.abc import Callable
from typing import Any

from simulator.exchange import OrderRefused
from simulator.instruments import Listed
from simulator.orders import Order, Quirks, render_execution, render_order
from simulator.positions import EXPOSURE, SPAN, render_position
from simulator.replies import BAD_INPUT, UNKNOWN_ORDER, refusal
from simulator.stage import PnlExit, Stage
from simulator.wire import Request, Response

CORRELATION_ID_MAX = 25
_CORRELATION_ID = re.compile(r"[A-Za-z0-9_-]*")
_ORDER_TYPES = {"LIMIT", "MARKET", "STOP_LOSS", "STOP_LOSS_MARKET"}
_PRODUCTS = {"INTRADAY", "MARGIN"}


class InputRefused(Exception):
    """The request's fields make no sense to the broker."""


class TradingApi:
    """Handlers by call name; each takes the request and the path's variable parts."""

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
            "trade_book": self.trade_book,
            "trades_of_order": self.trades_of_order,
            "trade_history": self.trade_history,
            "positions": self.positions,
            "exit_all": self.exit_all,
            "convert_position": self.convert,
            "holdings": self.holdings,
            "fund_limits": self.fund_limits,
            "margin_calculator": self.margin,
            "margin_calculator_multi": self.margin_multi,
            "kill_switch": self.kill_switch,
            "kill_switch_status": self.kill_switch_status,
            "set_pnl_exit": self.set_pnl_exit,
            "pnl_exit": self.pnl_exit,
            "stop_pnl_exit": self.stop_pnl_exit,
        }

    # -- orders -----------------------------------------------------------------------------------------------------

    def place(self, request: Request) -> Response:
        """POST /orders."""
        try:
            order = self._accept(_body(request), call="place_order")
        except InputRefused as error:
            return refusal("DH-905", str(error))
        except OrderRefused as error:
            return refusal(error.code, error.message)
        return Response.of({"orderId": order.order_id, "orderStatus": "TRANSIT"})

    def slice(self, request: Request) -> Response:
        """POST /orders/slicing: several orders, none above the freeze quantity."""
        try:
            body = _body(request)
            listed = self._listed(body)
            quantity = _whole(body, "quantity")
            most = max(listed.freeze_quantity // listed.lot_size, 1) * listed.lot_size
            parts = [min(most, quantity - start) for start in range(0, quantity, most)]
            orders = [self._accept({**body, "quantity": part}, call="slice_order") for part in parts]
        except InputRefused as error:
            return refusal("DH-905", str(error))
        except OrderRefused as error:
            return refusal(error.code, error.message)
        return Response.of([{"orderId": order.order_id, "orderStatus": "TRANSIT"} for order in orders])

    def modify(self, request: Request, order_id: str) -> Response:
        """PUT /orders/{id}: the whole order restated, quantity in total."""
        order = self._stage.exchange.orders.get(order_id)
        try:
            body = _body(request)
            if order is None or str(body.get("orderId", order_id)) != order_id:
                return refusal("DH-906", UNKNOWN_ORDER)
            if body.get("orderType") not in _ORDER_TYPES or body.get("validity") not in ("DAY", "IOC"):
                raise InputRefused(BAD_INPUT)
            if body["orderType"] == "STOP_LOSS_MARKET":
                return refusal("DH-906", "Trigger Price should be greater than Price")
            self._stage.exchange.modify(
                order,
                now_ms=self._stage.now_ms,
                quantity=_whole(body, "quantity"),
                price_paise=_paise(body, "price"),
                trigger_paise=_paise(body, "triggerPrice", required=False),
                validity=body["validity"],
            )
        except InputRefused as error:
            return refusal("DH-905", str(error))
        except OrderRefused as error:
            return refusal(error.code, error.message)
        return Response.of({"orderId": order_id, "orderStatus": "TRANSIT"})

    def cancel(self, request: Request, order_id: str) -> Response:  # noqa: ARG002 - a cancellation has no body
        """DELETE /orders/{id}: the answer is an acknowledgement, the book tells what came of it."""
        order = self._stage.exchange.orders.get(order_id)
        if order is None:
            return refusal("DH-906", UNKNOWN_ORDER)
        try:
            self._stage.exchange.cancel(order, self._stage.now_ms)
        except OrderRefused as error:
            return refusal(error.code, error.message)
        return Response.of({"orderId": order_id, "orderStatus": "CANCELLED"})

    def order_book(self, request: Request) -> Response:  # noqa: ARG002
        """GET /orders."""
        client_id = self._stage.credentials.client_id
        return Response.of([render_order(order, client_id) for order in self._stage.exchange.orders.values()])

    def order_by_id(self, request: Request, order_id: str) -> Response:  # noqa: ARG002
        """GET /orders/{id}; an unknown one is an empty list."""
        order = self._stage.exchange.orders.get(order_id)
        return Response.of(render_order(order, self._stage.credentials.client_id) if order else [])

    def order_by_correlation_id(self, request: Request, correlation_id: str) -> Response:  # noqa: ARG002
        """GET /orders/external/{id}; an order in transit is not found yet."""
        order = self._stage.exchange.find(correlation_id)
        if order is None or (order.status == "TRANSIT" and not order.working):
            return refusal("DH-906", UNKNOWN_ORDER, 404)
        return Response.of(render_order(order, self._stage.credentials.client_id))

    def _accept(self, body: dict[str, Any], *, call: str) -> Order:
        stage = self._stage
        quantity = _whole(body, "quantity")
        listed = self._listed(body)
        side, product, order_type = body.get("transactionType"), body.get("productType"), body.get("orderType")
        validity = body.get("validity")
        if side not in ("BUY", "SELL") or product not in _PRODUCTS or order_type not in _ORDER_TYPES:
            raise InputRefused(BAD_INPUT)
        if validity not in ("DAY", "IOC") or body.get("afterMarketOrder") not in (False, None, "false"):
            raise InputRefused(BAD_INPUT)
        if any(value == "" for value in body.values()):
            raise InputRefused(BAD_INPUT)
        correlation_id = body.get("correlationId")
        if correlation_id is None:
            correlation_id = f"{stage.credentials.client_id}-{stage.now_ms}"
        elif not isinstance(correlation_id, str) or len(correlation_id) > CORRELATION_ID_MAX:
            raise InputRefused(BAD_INPUT)
        elif not _CORRELATION_ID.fullmatch(correlation_id):
            raise InputRefused("Invalid correlationId")
        if stage.kill_switch:
            raise OrderRefused("DH-906", "Kill switch is activated for the account")
        price = 0 if order_type == "MARKET" else _paise(body, "price")
        trigger = _paise(body, "triggerPrice", required=False)
        if order_type == "STOP_LOSS_MARKET":
            raise OrderRefused("DH-906", "Trigger Price should be greater than Price")
        if order_type == "STOP_LOSS":
            _demand_stop(side, price, trigger)
        if price <= 0 and order_type != "MARKET":
            raise InputRefused(BAD_INPUT)
        return stage.exchange.place(
            now_ms=stage.now_ms, listed=listed, side=side, product=product, order_type=order_type, validity=validity,
            quantity=quantity, price_paise=price, trigger_paise=trigger, correlation_id=correlation_id,
            disclosed_quantity=int(body.get("disclosedQuantity") or 0), quirks=self._quirks(call, quantity, listed),
        )  # fmt: skip

    def _listed(self, body: dict[str, Any]) -> Listed:
        listed = self._stage.listing.by_security.get(f"{body.get('exchangeSegment')}:{body.get('securityId')}")
        if listed is None:
            raise InputRefused("Invalid SecurityId")
        return listed

    def _quirks(self, call: str, quantity: int, listed: Listed) -> Quirks:
        quirks = Quirks()
        lots = quantity // listed.lot_size
        for fault in self._stage.faults.in_order(call, self._stage.now_ms):
            if fault.name == "reject":
                default = "RMS:0:Order rejected by risk management"
                quirks.reject = str(fault.settings.get("message", default))
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

    # -- trades, positions, money -----------------------------------------------------------------------------------

    def trade_book(self, request: Request) -> Response:  # noqa: ARG002
        """GET /trades."""
        client_id = self._stage.credentials.client_id
        return Response.of([render_execution(done, client_id) for done in self._stage.exchange.executions])

    def trades_of_order(self, request: Request, order_id: str) -> Response:  # noqa: ARG002
        """GET /trades/{order id}."""
        client_id = self._stage.credentials.client_id
        done = [one for one in self._stage.exchange.executions if one.order.order_id == order_id]
        return Response.of([render_execution(one, client_id) for one in done])

    def trade_history(self, request: Request, first: str, last: str, page: str) -> Response:  # noqa: ARG002
        """GET /trades/{from}/{to}/{page}: settled days; the running one is not in it yet."""
        return Response.of([])

    def positions(self, request: Request) -> Response:  # noqa: ARG002
        """GET /positions."""
        stage = self._stage
        return Response.of(
            [
                render_position(held, stage.credentials.client_id, stage.market.last_paise(held.listed, stage.now_ms))
                for held in stage.account.positions.values()
            ]
        )

    def exit_all(self, request: Request) -> Response:  # noqa: ARG002
        """DELETE /positions: cancels every open order and closes every position, later and at protected prices."""
        self._stage.exchange.close_out(self._stage.now_ms)
        return Response.of({"status": "SUCCESS", "message": "All orders and positions exited successfully"})

    def convert(self, request: Request) -> Response:
        """POST /positions/convert: accepted without a word."""
        try:
            body = _body(request)
            listed = self._listed(body)
            quantity = _whole(body, "convertQty")
        except InputRefused as error:
            return refusal("DH-905", str(error))
        products = (body.get("fromProductType"), body.get("toProductType"))
        if not set(products) <= _PRODUCTS or products[0] == products[1]:
            return refusal("DH-905", BAD_INPUT)
        if not self._stage.account.convert(listed, str(products[0]), str(products[1]), quantity):
            return refusal("DH-906", UNKNOWN_ORDER)
        return Response(status=202)

    def holdings(self, request: Request) -> Response:  # noqa: ARG002
        """GET /holdings: an account without shares gets an error."""
        return refusal("DH-1111", "No holdings available", 500)

    def fund_limits(self, request: Request) -> Response:  # noqa: ARG002
        """GET /fundlimit."""
        opening, used = self._stage.account.opening_funds_paise, self._used_paise()
        return Response.of(
            {
                "dhanClientId": self._stage.credentials.client_id,
                "availabelBalance": (opening - used) / 100,
                "sodLimit": opening / 100,
                "collateralAmount": 0.0,
                "receiveableAmount": 0.0,
                "utilizedAmount": used / 100,
                "blockedPayoutAmount": 0.0,
                "withdrawableBalance": max(0, opening - used) / 100,
            }
        )

    def margin(self, request: Request) -> Response:
        """POST /margincalculator: premium for a buy, span and exposure for a naked sale."""
        try:
            body = _body(request)
            needed = self._margin_of(body)
        except InputRefused as error:
            return refusal("DH-905", str(error))
        available = self._stage.account.opening_funds_paise - self._used_paise()
        total = sum(needed)
        return Response.of(
            {
                "totalMargin": total / 100,
                "spanMargin": needed[0] / 100,
                "exposureMargin": needed[1] / 100,
                "availableBalance": available / 100,
                "variableMargin": 0.0,
                "insufficientBalance": max(0, total - available) / 100,
                "brokerage": 0.0,
                "leverage": "1.00",
            }
        )

    def margin_multi(self, request: Request) -> Response:
        """POST /margincalculator/multi: text numbers under snake_case names."""
        try:
            body = _body(request)
            scrips = body.get("scripList")
            if not isinstance(scrips, list) or not all(isinstance(scrip, dict) for scrip in scrips):
                raise InputRefused(BAD_INPUT)
            needed = [self._margin_of(scrip) for scrip in scrips]
        except InputRefused as error:
            return refusal("DH-905", str(error))
        total = sum(sum(parts) for parts in needed)
        return Response.of(
            {
                "total_margin": f"{total / 100:.2f}",
                "span_margin": f"{sum(parts[0] for parts in needed) / 100:.2f}",
                "exposure_margin": f"{sum(parts[1] for parts in needed) / 100:.2f}",
                "equity_margin": "0.00",
                "fo_margin": f"{total / 100:.2f}",
                "commodity_margin": "0.00",
                "currency": "INR",
                "hedge_benefit": "",
            }
        )

    def _margin_of(self, body: dict[str, Any]) -> tuple[int, int]:
        listed, quantity, price = self._listed(body), _whole(body, "quantity"), _paise(body, "price")
        if body.get("transactionType") == "BUY":
            return quantity * price, 0
        spot = self._stage.market.spot_paise(listed.index.underlying, self._stage.now_ms)
        return round(quantity * spot * SPAN), round(quantity * spot * EXPOSURE)

    def _used_paise(self) -> int:
        return self._stage.account.used_paise(self._stage.exchange.open_orders(), self._stage.now_ms)

    # -- the trader's controls --------------------------------------------------------------------------------------

    def kill_switch(self, request: Request) -> Response:
        """POST /killswitch?killSwitchStatus=…: only for a flat account without open orders."""
        wish = request.query.get("killSwitchStatus")
        if wish not in ("ACTIVATE", "DEACTIVATE"):
            return refusal("DH-905", BAD_INPUT)
        if wish == "ACTIVATE" and (self._stage.exchange.open_orders() or not self._stage.account.is_flat()):
            return refusal("DH-906", "Kill switch needs all positions closed and no pending orders")
        self._stage.kill_switch = wish == "ACTIVATE"
        said = f"Kill Switch has been successfully {wish.lower()}d"
        return Response.of({"dhanClientId": self._stage.credentials.client_id, "killSwitchStatus": said})

    def kill_switch_status(self, request: Request) -> Response:  # noqa: ARG002
        """GET /killswitch."""
        status = "ACTIVATE" if self._stage.kill_switch else "DEACTIVATE"
        return Response.of({"dhanClientId": self._stage.credentials.client_id, "killSwitchStatus": status})

    def set_pnl_exit(self, request: Request) -> Response:
        """POST /pnlExit."""
        try:
            body = _body(request)
            products = body.get("productType")
            if not isinstance(products, list) or not products:
                raise InputRefused(BAD_INPUT)
            self._stage.pnl_exit = PnlExit(
                profit_paise=_paise(body, "profitValue"), loss_paise=_paise(body, "lossValue"),
                products=[str(product) for product in products], kill_switch=bool(body.get("enableKillSwitch")),
            )  # fmt: skip
        except InputRefused as error:
            return refusal("DH-905", str(error))
        return Response.of({"pnlExitStatus": "ACTIVE", "message": "P&L based exit configured successfully"})

    def pnl_exit(self, request: Request) -> Response:  # noqa: ARG002
        """GET /pnlExit."""
        limits = self._stage.pnl_exit
        if limits is None:
            return Response.of({"pnlExitStatus": "DISABLED"})
        return Response.of(
            {
                "pnlExitStatus": "ACTIVE",
                "profit": f"{limits.profit_paise / 100:.2f}",
                "loss": f"{limits.loss_paise / 100:.2f}",
                "productType": limits.products,
                "enable_kill_switch": limits.kill_switch,
            }
        )

    def stop_pnl_exit(self, request: Request) -> Response:  # noqa: ARG002
        """DELETE /pnlExit."""
        self._stage.pnl_exit = None
        return Response.of({"pnlExitStatus": "DISABLED", "message": "P&L based exit stopped successfully"})


def _body(request: Request) -> dict[str, Any]:
    try:
        body = request.json()
    except ValueError as error:
        raise InputRefused(BAD_INPUT) from error
    if not isinstance(body, dict):
        raise InputRefused(BAD_INPUT)
    return body


def _whole(body: dict[str, Any], key: str) -> int:
    value = body.get(key)
    if value is None or value == "":
        raise InputRefused(f"{key} is required")
    try:
        number = int(value)
    except (TypeError, ValueError) as error:
        raise InputRefused(BAD_INPUT) from error
    if number <= 0:
        raise InputRefused(BAD_INPUT)
    return number


def _paise(body: dict[str, Any], key: str, *, required: bool = True) -> int:
    value = body.get(key)
    if value is None and not required:
        return 0
    try:
        rupees = float(value)  # type: ignore[arg-type] # a missing one is refused with the rest
    except (TypeError, ValueError) as error:
        raise InputRefused(BAD_INPUT) from error
    if not 0 <= rupees < 10_000_000:
        raise InputRefused(BAD_INPUT)
    return round(rupees * 100)


def _demand_stop(side: str, price: int, trigger: int) -> None:
    if trigger <= 0:
        raise OrderRefused("DH-906", "Trigger Price is required")
    if side == "SELL" and trigger <= price:
        raise OrderRefused("DH-906", "Trigger Price should be greater than Price")
    if side == "BUY" and trigger >= price:
        raise OrderRefused("DH-906", "Trigger Price should be less than Price")
