"""Dhan's endpoints about what is held: trades, positions, money, and the trader's controls."""

from collections.abc import Callable
from typing import Any

from simulator.exchange import OrderRefused
from simulator.fields import bad_input, body_of, listed_of, paise, whole
from simulator.orders import render_execution, render_settled
from simulator.orders_api import PRODUCTS
from simulator.positions import EXPOSURE, SPAN, render_position
from simulator.replies import UNKNOWN_ORDER, refusal
from simulator.stage import PnlExit, Stage
from simulator.wire import Request, Response

_HISTORY_PAGE = 5  # small, so that any day with trades has pages


class PortfolioApi:
    """Handlers by call name; each takes the request and the path's variable parts. They may raise OrderRefused."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self.handlers: dict[str, Callable[..., Response]] = {
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

    # -- trades and positions -----------------------------------------------------------------------------------

    def trade_book(self, _: Request) -> Response:
        """GET /trades."""
        return Response.of([render_execution(done, self._client_id) for done in self._stage.exchange.executions])

    def trades_of_order(self, _: Request, order_id: str) -> Response:
        """GET /trades/{order id}."""
        executions = self._stage.exchange.executions
        return Response.of([render_execution(e, self._client_id) for e in executions if e.order.order_id == order_id])

    def trade_history(self, _: Request, first: str, last: str, page: str) -> Response:
        """GET /trades/{from}/{to}/{page}: settled once the market has closed; the account has no days before it."""
        day, number = self._stage.setup.day, int(page) if page.isdecimal() else -1
        if number < 0:
            raise bad_input()
        if self._stage.now_ms < self._stage.windows[-1][1] or not first <= day.isoformat() <= last:
            return Response.of([])
        billed: set[str] = set()
        rows = []
        for done in self._stage.exchange.executions:
            rows.append(render_settled(done, self._client_id, day, brokerage=done.order.order_id not in billed))
            billed.add(done.order.order_id)
        return Response.of(rows[number * _HISTORY_PAGE : (number + 1) * _HISTORY_PAGE])

    def positions(self, _: Request) -> Response:
        """GET /positions."""
        market, now_ms = self._stage.market, self._stage.now_ms
        held = self._stage.account.positions.values()
        return Response.of(
            [render_position(one, self._client_id, market.last_paise(one.listed, now_ms)) for one in held]
        )

    def exit_all(self, _: Request) -> Response:
        """DELETE /positions: cancels every open order and closes every position, later and at protected prices."""
        self._stage.exchange.close_out(self._stage.now_ms)
        return Response.of({"status": "SUCCESS", "message": "All orders and positions exited successfully"})

    def convert(self, request: Request) -> Response:
        """POST /positions/convert: accepted without a word."""
        body = body_of(request)
        listed = listed_of(body, self._stage.listing)
        quantity = whole(body, "convertQty")
        source, target = body.get("fromProductType"), body.get("toProductType")
        if source not in PRODUCTS or target not in PRODUCTS or source == target:
            raise bad_input()
        if not self._stage.account.convert(listed, source, target, quantity):
            raise OrderRefused("DH-906", UNKNOWN_ORDER)
        return Response(status=202)

    def holdings(self, _: Request) -> Response:
        """GET /holdings: an account without shares gets an error."""
        return refusal("DH-1111", "No holdings available", 500)

    # -- money ----------------------------------------------------------------------------------------------------

    def fund_limits(self, _: Request) -> Response:
        """GET /fundlimit; the misspelt key is the broker's."""
        opening, used = self._stage.account.opening_funds_paise, self._used_paise()
        return Response.of(
            {
                "dhanClientId": self._client_id,
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
        span, exposure = self._margin_of(body_of(request))
        available = self._stage.account.opening_funds_paise - self._used_paise()
        total = span + exposure
        return Response.of(
            {
                "totalMargin": total / 100,
                "spanMargin": span / 100,
                "exposureMargin": exposure / 100,
                "availableBalance": available / 100,
                "variableMargin": 0.0,
                "insufficientBalance": max(0, total - available) / 100,
                "brokerage": 0.0,
                "leverage": "1.00",
            }
        )

    def margin_multi(self, request: Request) -> Response:
        """POST /margincalculator/multi: numbers as text under snake_case names."""
        scrips = body_of(request).get("scripList")
        if not isinstance(scrips, list) or not all(isinstance(scrip, dict) for scrip in scrips):
            raise bad_input()
        needed = [self._margin_of(scrip) for scrip in scrips]
        total = sum(span + exposure for span, exposure in needed)
        return Response.of(
            {
                "total_margin": f"{total / 100:.2f}",
                "span_margin": f"{sum(span for span, _ in needed) / 100:.2f}",
                "exposure_margin": f"{sum(exposure for _, exposure in needed) / 100:.2f}",
                "equity_margin": "0.00",
                "fo_margin": f"{total / 100:.2f}",
                "commodity_margin": "0.00",
                "currency": "INR",
                "hedge_benefit": "",
            }
        )

    def _margin_of(self, body: dict[str, Any]) -> tuple[int, int]:
        listed = listed_of(body, self._stage.listing)
        quantity, price = whole(body, "quantity"), paise(body, "price")
        if body.get("transactionType") == "BUY":
            return quantity * price, 0
        spot = self._stage.market.spot_paise(listed.index.underlying, self._stage.now_ms)
        return round(quantity * spot * SPAN), round(quantity * spot * EXPOSURE)

    def _used_paise(self) -> int:
        return self._stage.account.used_paise(self._stage.exchange.open_orders(), self._stage.now_ms)

    @property
    def _client_id(self) -> str:
        return self._stage.credentials.client_id

    # -- the trader's controls ------------------------------------------------------------------------------------

    def kill_switch(self, request: Request) -> Response:
        """POST /killswitch?killSwitchStatus=…: only for a flat account without open orders."""
        wish = request.query.get("killSwitchStatus")
        if wish not in ("ACTIVATE", "DEACTIVATE"):
            raise bad_input()
        if wish == "ACTIVATE" and (self._stage.exchange.open_orders() or not self._stage.account.is_flat()):
            raise OrderRefused("DH-906", "Kill switch needs all positions closed and no pending orders")
        self._stage.kill_switch = wish == "ACTIVATE"
        said = f"Kill Switch has been successfully {wish.lower()}d"
        return Response.of({"dhanClientId": self._client_id, "killSwitchStatus": said})

    def kill_switch_status(self, _: Request) -> Response:
        """GET /killswitch."""
        status = "ACTIVATE" if self._stage.kill_switch else "DEACTIVATE"
        return Response.of({"dhanClientId": self._client_id, "killSwitchStatus": status})

    def set_pnl_exit(self, request: Request) -> Response:
        """POST /pnlExit."""
        body = body_of(request)
        products = body.get("productType")
        if not isinstance(products, list) or not products:
            raise bad_input()
        self._stage.pnl_exit = PnlExit(
            profit_paise=paise(body, "profitValue"),
            loss_paise=paise(body, "lossValue"),
            products=[str(product) for product in products],
            kill_switch=bool(body.get("enableKillSwitch")),
        )
        return Response.of({"pnlExitStatus": "ACTIVE", "message": "P&L based exit configured successfully"})

    def pnl_exit(self, _: Request) -> Response:
        """GET /pnlExit; other key names than the ones it is set with."""
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

    def stop_pnl_exit(self, _: Request) -> Response:
        """DELETE /pnlExit."""
        self._stage.pnl_exit = None
        return Response.of({"pnlExitStatus": "DISABLED", "message": "P&L based exit stopped successfully"})
