"""The broker's risk checks and the exchange's matching: what becomes of an order after it was accepted.

TRANSIT -> PENDING or REJECTED; PENDING -> PART_TRADED* -> TRADED; PENDING or PART_TRADED -> CANCELLED, or EXPIRED at
the last close. An aggressive order walks the quoted depth up to its limit; a resting one fills at its own limit when
the other side comes to it, as far as the depth reaches; what is left rests on.

Invariants:
1. Everything that happens to an order happens at a moment of market time, by the agenda; nothing happens while it
   stands.
2. Filled quantity only grows and never passes the order's quantity; a final order never changes.
3. Every change is published once, with the order as it is at that moment.
"""

from collections.abc import Callable

from simulator.agenda import Agenda
from simulator.instruments import TICK_PAISE, Listed
from simulator.market import Depth, Market
from simulator.orders import Execution, Order, Quirks
from simulator.positions import Account

DEFAULT_TRANSIT_MS = 100
MATCH_DELAY_MS = 20
MODIFICATIONS_MAX = 25

Publish = Callable[[Order, int, int], None]
"""Told of (order, price of the fill that changed it or 0, moment)."""


class OrderRefused(Exception):
    """The broker refuses at once: nothing was accepted. Carries Dhan's error code and message."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


class Exchange:
    """All orders of the day and what became of them."""

    def __init__(
        self,
        *,
        market: Market,
        agenda: Agenda,
        account: Account,
        publish: Publish,
        transit_ms: int = DEFAULT_TRANSIT_MS,
    ) -> None:
        self.orders: dict[str, Order] = {}
        self.executions: list[Execution] = []
        self.transit_ms = transit_ms
        self._market = market
        self._agenda = agenda
        self._account = account
        self._publish = publish
        self._working: dict[str, Order] = {}

    # -- what a client asks for ---------------------------------------------------------------------------------

    def place(
        self,
        *,
        now_ms: int,
        listed: Listed,
        side: str,
        product: str,
        order_type: str,
        validity: str,
        quantity: int,
        price_paise: int,
        trigger_paise: int,
        correlation_id: str,
        disclosed_quantity: int = 0,
        quirks: Quirks | None = None,
    ) -> Order:
        """Accept an order into TRANSIT; the exchange answers later. MARKET becomes a protected LIMIT."""
        number = len(self.orders) + 1
        if order_type == "MARKET":
            order_type = "LIMIT"
            price_paise = protected_limit(self._market.last_paise(listed, now_ms), is_buy=side == "BUY")
        order = Order(
            order_id=f"52{self._market.day:%y%m%d}{number:05d}",
            exchange_order_id=f"11{self._market.day:%y%m%d}{10_000_000 + listed.security_id % 997 * 1000 + number:08d}",
            correlation_id=correlation_id,
            listed=listed,
            side=side,
            product=product,
            order_type=order_type,
            validity=validity,
            quantity=quantity,
            price_paise=price_paise,
            trigger_paise=trigger_paise,
            disclosed_quantity=disclosed_quantity,
            created_ms=now_ms,
            updated_ms=now_ms,
            quirks=quirks or Quirks(),
        )
        self.orders[order.order_id] = order
        transit = self.transit_ms if order.quirks.transit_ms is None else order.quirks.transit_ms
        self._agenda.enter(now_ms, lambda at: self._publish(order, 0, at))
        self._agenda.enter(now_ms + transit, lambda at: self._arrive(order, at))
        return order

    def modify(
        self, order: Order, *, now_ms: int, quantity: int, price_paise: int, trigger_paise: int, validity: str
    ) -> None:
        """Ask for new terms; they hold when the request reaches the exchange. Raises OrderRefused."""
        if order.is_final:
            raise OrderRefused("DH-906", "Incorrect request for order and cannot be processed")
        if order.modifications >= MODIFICATIONS_MAX:
            raise OrderRefused("DH-906", f"Maximum modification limit of {MODIFICATIONS_MAX} reached for the order")
        if quantity <= order.filled:
            raise OrderRefused("DH-905", "Quantity should be greater than traded quantity")
        order.modifications += 1
        if order.working:
            order.status = "TRANSIT"
            order.updated_ms = now_ms
            self._agenda.enter(now_ms, lambda at: self._publish(order, 0, at))

        def apply(at_ms: int) -> None:
            if order.is_final:
                return
            self._settle_status(order)
            refusal = self._refusal(
                order, quantity=quantity, price_paise=price_paise, trigger_paise=trigger_paise, at_ms=at_ms
            )
            order.updated_ms = at_ms
            if refusal is not None:
                order.message = refusal  # the order stays as it was
                self._publish(order, 0, at_ms)
                return
            order.quantity, order.price_paise, order.trigger_paise = quantity, price_paise, trigger_paise
            order.validity = validity
            order.message = "CONFIRMED"
            self._publish(order, 0, at_ms)
            self._agenda.enter(at_ms + MATCH_DELAY_MS, lambda at: self._match_aggressive(order, at))

        self._agenda.enter(now_ms + self.transit_ms, apply)

    def cancel(self, order: Order, now_ms: int) -> None:
        """Ask for cancellation. A fill may come first. Raises OrderRefused."""
        if order.status == "TRANSIT":
            raise OrderRefused("DH-906", "Order is in Transit state")
        if order.is_final:
            raise OrderRefused("DH-906", "Incorrect request for order and cannot be processed")

        def apply(at_ms: int) -> None:
            if order.is_final:
                return
            late = min(order.remaining, order.quirks.fills_on_cancel)
            if late:
                order.quirks.fill_at_most = None
                self._fill(order, late, order.price_paise, at_ms)
            if not order.is_final:
                self._end(order, "CANCELLED", "CANCELLED BY USER", at_ms)

        self._agenda.enter(now_ms + self.transit_ms, apply)

    def open_orders(self) -> list[Order]:
        """Orders that are not final, oldest first."""
        return [order for order in self.orders.values() if not order.is_final]

    def find(self, correlation_id: str) -> Order | None:
        """The newest order with this correlation id."""
        return next((o for o in reversed(self.orders.values()) if o.correlation_id == correlation_id), None)

    def close_out(self, now_ms: int, products: set[str] | None = None) -> None:
        """Cancel what is open and sell (or buy back) what is held, at protected prices."""
        for order in self.open_orders():
            if products is None or order.product in products:
                self._agenda.enter(now_ms, lambda at, order=order: self._withdraw(order, at))  # type: ignore[misc]
        for position in list(self._account.positions.values()):
            net = position.net_quantity
            if net and (products is None or position.product in products):
                most = position.listed.largest_order
                for start in range(0, abs(net), most):
                    self.place(
                        now_ms=now_ms, listed=position.listed, side="SELL" if net > 0 else "BUY",
                        product=position.product, order_type="MARKET", validity="DAY",
                        quantity=min(most, abs(net) - start), price_paise=0, trigger_paise=0,
                        correlation_id=f"exit-{position.listed.security_id}-{now_ms}",
                    )  # fmt: skip

    def expire_all(self, at_ms: int) -> None:
        """The market has closed for the day."""
        for order in self.open_orders():
            self._end(order, "EXPIRED", "ORDER EXPIRED AT END OF DAY", at_ms)

    def on_print(self, at_ms: int) -> None:
        """A second's trades have printed: trigger stops, fill what rests."""
        for order in list(self._working.values()):
            if order.order_type == "STOP_LOSS" and not order.triggered:
                last = self._market.last_paise(order.listed, at_ms)
                if last >= order.trigger_paise if order.is_buy else last <= order.trigger_paise:
                    order.triggered = True
                    order.updated_ms = at_ms
                    self._match_aggressive(order, at_ms)
            else:
                self._match_resting(order, at_ms)

    # -- what happens to it ---------------------------------------------------------------------------------------

    def _arrive(self, order: Order, at_ms: int) -> None:
        if order.is_final:
            return
        refusal = order.quirks.reject
        if refusal is None:
            refusal = self._refusal(
                order, quantity=order.quantity, price_paise=order.price_paise, trigger_paise=order.trigger_paise,
                at_ms=at_ms,
            )  # fmt: skip
        if refusal is not None:
            self._end(order, "REJECTED", refusal, at_ms)
            return
        order.at_exchange_ms = order.updated_ms = at_ms
        order.working = True
        order.message = "CONFIRMED"
        self._settle_status(order)
        self._working[order.order_id] = order
        self._publish(order, 0, at_ms)
        if order.order_type == "LIMIT":
            self._agenda.enter(at_ms + MATCH_DELAY_MS, lambda at: self._match_aggressive(order, at))

    def _refusal(self, order: Order, *, quantity: int, price_paise: int, trigger_paise: int, at_ms: int) -> str | None:
        """Why risk management or the exchange does not take these terms, or None."""
        listed = order.listed
        rms = f"RMS:{order.order_id}:"
        if not self._market.is_open(at_ms):
            return f"{rms}Order cannot be placed, market is closed"
        if at_ms >= listed.expiry_ms:
            return f"{rms}Contract has expired"
        if quantity % listed.lot_size:
            return f"{rms}Quantity should be in multiples of lot size {listed.lot_size}"
        if quantity > listed.freeze_quantity:
            return f"{rms}Order quantity exceeds the freeze quantity {listed.freeze_quantity}"
        if price_paise % TICK_PAISE or trigger_paise % TICK_PAISE:
            return "EXCH:16283 The price of the order is not a multiple of the tick size"
        if not listed.lower_paise <= price_paise <= listed.upper_paise:
            low, high = listed.lower_paise / 100, listed.upper_paise / 100
            return f"{rms}Order Price needs to be Circuit Limits of {low:.2f} to {high:.2f}"
        others = [other for other in self.open_orders() if other is not order]
        free = self._account.opening_funds_paise - self._account.used_paise(others, at_ms)
        if order.is_buy:
            needed = (quantity - order.filled) * price_paise
        else:
            selling = sum(
                o.remaining for o in others if not o.is_buy and o.listed is listed and o.product == order.product
            )
            cover = max(0, self._account.net_quantity(listed, order.product) - selling)
            uncovered = max(0, quantity - order.filled - cover)
            needed = self._account.short_margin_paise(listed, uncovered, at_ms)
        if needed > free and needed > 0:
            return f"{rms}Fund Limit Insufficient, available {free / 100:.2f}, required {needed / 100:.2f}"
        return None

    def _settle_status(self, order: Order) -> None:
        if order.working:
            order.status = "PART_TRADED" if order.filled else "PENDING"

    def _match_aggressive(self, order: Order, at_ms: int) -> None:
        """Take what the other side offers up to the limit, at its prices."""
        if not order.working:
            return
        if order.order_type == "STOP_LOSS" and not order.triggered:
            return
        if self._trades(order, at_ms):
            for price, offered in self._offered(order, self._market.depth(order.listed, at_ms)):
                quantity = self._fillable(order, offered)
                if quantity:
                    self._fill(order, quantity, price, at_ms)
        if order.validity == "IOC" and not order.is_final:
            self._end(order, "CANCELLED", "IOC ORDER CANCELLED", at_ms)

    def _match_resting(self, order: Order, at_ms: int) -> None:
        """The other side came to the order: it fills at its own price."""
        if not self._trades(order, at_ms):
            return
        offered = sum(quantity for _, quantity in self._offered(order, self._market.depth(order.listed, at_ms)))
        quantity = self._fillable(order, offered)
        if quantity:
            self._fill(order, quantity, order.price_paise, at_ms)

    def _trades(self, order: Order, at_ms: int) -> bool:
        return self._market.is_open(at_ms) and at_ms < order.listed.expiry_ms

    def _offered(self, order: Order, depth: Depth) -> list[tuple[int, int]]:
        if order.is_buy:
            return [(price, quantity) for price, quantity, _ in depth.asks if price <= order.price_paise]
        return [(price, quantity) for price, quantity, _ in depth.bids if price >= order.price_paise]

    def _fillable(self, order: Order, offered: int) -> int:
        quantity = min(order.remaining, offered) if order.working else 0
        if order.quirks.fill_at_most is not None:
            quantity = min(quantity, order.quirks.fill_at_most - order.filled)
        return max(0, quantity)

    def _fill(self, order: Order, quantity: int, price_paise: int, at_ms: int) -> None:
        assert 0 < quantity <= order.remaining, "an order fills at most its quantity"
        order.filled += quantity
        order.value_paise += quantity * price_paise
        order.updated_ms = at_ms
        order.message = "TRADE CONFIRMED"
        execution = Execution(
            trade_id=f"{90_000_001 + len(self.executions)}", order=order, quantity=quantity, price_paise=price_paise,
            at_ms=at_ms,
        )  # fmt: skip
        self.executions.append(execution)
        self._account.apply(execution)
        if order.remaining == 0:
            order.status = "TRADED"
            self._retire(order)
        else:
            order.status = "PART_TRADED"
        self._publish(order, price_paise, at_ms)

    def _withdraw(self, order: Order, at_ms: int) -> None:
        if not order.is_final:
            self._end(order, "CANCELLED", "CANCELLED BY SYSTEM", at_ms)

    def _end(self, order: Order, status: str, message: str, at_ms: int) -> None:
        order.status = status
        order.message = message
        order.updated_ms = at_ms
        self._retire(order)
        self._publish(order, 0, at_ms)

    def _retire(self, order: Order) -> None:
        order.working = False
        self._working.pop(order.order_id, None)


def protected_limit(last_paise: int, *, is_buy: bool) -> int:
    """The limit that a MARKET order by API turns into: last price plus or minus the protection percentage."""
    rupees = last_paise / 100
    percent = 20 if rupees < 50 else 10 if rupees < 200 else 5 if rupees < 1000 else 2
    room = last_paise * percent // 100
    price = last_paise + room if is_buy else last_paise - room
    return max(TICK_PAISE, price // TICK_PAISE * TICK_PAISE)
