"""An order as the exchange keeps it, and the two shapes in which Dhan shows it: a book row and an order alert."""

from dataclasses import dataclass, field
from datetime import date
from fractions import Fraction
from typing import Any

from simulator.instruments import Listed
from simulator.sessions import ist_text
from strategy.charges import rates_on

FINAL = frozenset({"TRADED", "REJECTED", "CANCELLED", "EXPIRED"})
_UNSET_TIME = "0001-01-01 00:00:00"
_ALERT_TYPES = {"LIMIT": "LMT", "MARKET": "MKT", "STOP_LOSS": "SL", "STOP_LOSS_MARKET": "SLM"}
_ALERT_PRODUCTS = {"MARGIN": "M", "INTRADAY": "I"}
# The socket has no word for a part-filled order: it says Pending and the traded quantity.
_ALERT_STATUS = {"PART_TRADED": "Pending"}


@dataclass(slots=True, kw_only=True)
class Quirks:
    """What a fault makes of one order."""

    transit_ms: int | None = None
    reject: str | None = None
    fill_at_most: int | None = None
    fills_on_cancel: int = 0  # units that fill after the cancellation was acknowledged


@dataclass(slots=True, kw_only=True)
class Order:
    """One order and its history so far. Quantities in units, money in paise, times in Unix milliseconds."""

    order_id: str
    exchange_order_id: str
    correlation_id: str
    listed: Listed
    side: str
    product: str
    order_type: str
    validity: str
    quantity: int
    price_paise: int
    trigger_paise: int
    disclosed_quantity: int
    created_ms: int
    updated_ms: int
    status: str = "TRANSIT"
    at_exchange_ms: int = 0  # 0: not there yet
    working: bool = False  # open at the exchange: it can fill
    triggered: bool = False
    filled: int = 0
    value_paise: int = 0
    message: str = ""
    modifications: int = 0
    quirks: Quirks = field(default_factory=Quirks)

    @property
    def remaining(self) -> int:
        """Units not filled."""
        return self.quantity - self.filled

    @property
    def is_buy(self) -> bool:
        """Buying or selling."""
        return self.side == "BUY"

    @property
    def is_final(self) -> bool:
        """No more changes."""
        return self.status in FINAL

    @property
    def average_rupees(self) -> float:
        """The average fill price, 0.0 without a fill."""
        return round(self.value_paise / self.filled / 100, 4) if self.filled else 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Execution:
    """One fill."""

    trade_id: str
    order: Order
    quantity: int
    price_paise: int
    at_ms: int


def render_order(order: Order, client_id: str) -> dict[str, Any]:
    """The row of GET /orders."""
    listed = order.listed
    return {
        "dhanClientId": client_id,
        "orderId": order.order_id,
        "exchangeOrderId": order.exchange_order_id if order.at_exchange_ms else "0",
        "correlationId": order.correlation_id,
        "orderStatus": order.status,
        "transactionType": order.side,
        "exchangeSegment": listed.segment,
        "productType": order.product,
        "orderType": order.order_type,
        "validity": order.validity,
        "tradingSymbol": listed.trading_symbol,
        "securityId": str(listed.security_id),
        "quantity": order.quantity,
        "disclosedQuantity": order.disclosed_quantity,
        "price": order.price_paise / 100,
        "triggerPrice": order.trigger_paise / 100,
        "afterMarketOrder": False,
        "boProfitValue": 0.0,
        "boStopLossValue": 0.0,
        "legName": "NA",
        "createTime": ist_text(order.created_ms),
        "updateTime": ist_text(order.updated_ms),
        "exchangeTime": ist_text(order.at_exchange_ms) if order.at_exchange_ms else _UNSET_TIME,
        "drvExpiryDate": listed.expiry_text,
        "drvOptionType": listed.kind,
        "drvStrikePrice": float(listed.strike),
        "omsErrorCode": "0",
        "omsErrorDescription": order.message,
        "algoId": "0",
        "remainingQuantity": order.remaining,
        "averageTradedPrice": order.average_rupees,
        "filledQty": order.filled,
    }


def render_execution(execution: Execution, client_id: str) -> dict[str, Any]:
    """The row of GET /trades."""
    order, listed = execution.order, execution.order.listed
    moment = ist_text(execution.at_ms)
    return {
        "dhanClientId": client_id,
        "orderId": order.order_id,
        "exchangeOrderId": order.exchange_order_id,
        "exchangeTradeId": execution.trade_id,
        "transactionType": order.side,
        "exchangeSegment": listed.segment,
        "productType": order.product,
        "orderType": order.order_type,
        "tradingSymbol": listed.trading_symbol,
        "customSymbol": listed.display_name,
        "securityId": str(listed.security_id),
        "tradedQuantity": execution.quantity,
        "tradedPrice": execution.price_paise / 100,
        "createTime": ist_text(order.created_ms),
        "updateTime": moment,
        "exchangeTime": moment,
        "drvExpiryDate": listed.expiry_text,
        "drvOptionType": listed.kind,
        "drvStrikePrice": float(listed.strike),
    }


def render_settled(execution: Execution, client_id: str, day: date, *, brokerage: bool) -> dict[str, Any]:
    """The row of the trade history: no symbol, no times, and what the broker billed.

    `brokerage` is billed with one fill of an order. GST leaves the SEBI fee out, as Dhan's own calculator does.
    """
    order = execution.order
    rates = rates_on(day, order.listed.index.exchange)
    turnover = Fraction(execution.quantity * execution.price_paise, 100)
    flat = Fraction(rates.brokerage_paise_per_order, 100) if brokerage else Fraction(0)
    exchange = turnover * rates.exchange_on_both
    return render_execution(execution, client_id) | {
        "tradingSymbol": None,
        "createTime": "NA",
        "updateTime": "NA",
        "exchangeTime": "NA",
        "isin": "NA",
        "instrument": "OPTIDX",
        "sebiTax": _billed(turnover * rates.sebi_on_both),
        "stt": _billed(turnover * rates.stt_on_sell) if order.side == "SELL" else 0.0,
        "brokerageCharges": _billed(flat),
        "serviceTax": _billed((flat + exchange) * rates.gst),
        "exchangeTransactionCharges": _billed(exchange),
        "stampDuty": _billed(turnover * rates.stamp_on_buy) if order.side == "BUY" else 0.0,
    }


def _billed(rupees: Fraction) -> float:
    return round(float(rupees), 4)


def render_alert(order: Order, client_id: str, *, last_paise: int, last_fill_paise: int) -> dict[str, Any]:
    """The message of the order-update socket: camelCase keys, Title-case status, cumulative traded quantity."""
    listed = order.listed
    return {
        "Data": {
            "exchange": listed.index.exchange,
            "segment": "D",
            "source": "P",
            "securityId": str(listed.security_id),
            "clientId": client_id,
            "exchOrderNo": order.exchange_order_id if order.at_exchange_ms else "0",
            "orderNo": order.order_id,
            "product": _ALERT_PRODUCTS.get(order.product, "M"),
            "txnType": order.side[0],
            "orderType": _ALERT_TYPES[order.order_type],
            "validity": order.validity,
            "discQuantity": order.disclosed_quantity,
            "discQtyRem": 0,
            "remainingQuantity": order.remaining,
            "quantity": order.quantity,
            "tradedQty": order.filled,
            "price": order.price_paise / 100,
            "triggerPrice": order.trigger_paise / 100,
            "tradedPrice": last_fill_paise / 100,
            "avgTradedPrice": order.average_rupees,
            "algoOrdNo": "",
            "offMktFlag": "0",
            "orderDateTime": ist_text(order.created_ms),
            "exchOrderTime": ist_text(order.at_exchange_ms) if order.at_exchange_ms else _UNSET_TIME,
            "lastUpdatedTime": ist_text(order.updated_ms),
            "remarks": "NR",
            "mktType": "NL",
            "reasonDescription": order.message,
            "legNo": 1,
            "instrument": "OPTIDX",
            "symbol": str(listed.index.underlying),
            "productName": order.product,
            "status": _ALERT_STATUS.get(order.status, order.status.title()),
            "lotSize": listed.lot_size,
            "strikePrice": listed.strike,
            "expiryDate": listed.expiry_text,
            "optType": listed.option_type,
            "displayName": listed.display_name,
            "isin": "NA",
            "series": "XX",
            "goodTillDaysDate": ist_text(order.created_ms)[:10],
            "refLtp": last_paise / 100,
            "tickSize": 0.05,
            "algoId": "0",
            "multiplier": 1,
            "correlationId": order.correlation_id,
            "orderPlatform": "API",
        },
        "Type": "order_alert",
    }
