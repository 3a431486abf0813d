"""Dhan's rows about orders: the order book, pushed updates, trades, positions. Quantities are units."""

from collections.abc import Mapping
from typing import Any

from strategy.events import Side
from tasks.broker import BrokerOrder, BrokerPosition, BrokerTrade, OrderStatus, OrderUpdate, SettledTrade
from tasks.broker.wire import WireError, exact_paise, moment_ms, need, paise, shown, text, value_paise, whole

# What Dhan calls states beside the documented life of an order (super orders, forever orders, the portal).
# One that is not final here keeps an order "live", which is the safe side.
_OTHER_STATUSES = {
    "CLOSED": OrderStatus.TRADED,
    "PART_TRADED": OrderStatus.PART_TRADED,
    "PARTIALLY_TRADED": OrderStatus.PART_TRADED,
    "PARTTRADED": OrderStatus.PART_TRADED,
    "CANCELED": OrderStatus.CANCELLED,
}
_SOCKET_SEGMENTS = {
    ("NSE", "D"): "NSE_FNO",
    ("BSE", "D"): "BSE_FNO",
    ("NSE", "E"): "NSE_EQ",
    ("BSE", "E"): "BSE_EQ",
    ("NSE", "C"): "NSE_CURRENCY",
    ("BSE", "C"): "BSE_CURRENCY",
    ("MCX", "M"): "MCX_COMM",
}


def order_id(found: Any) -> str:
    """The broker's id out of an acceptance; WireError where there is none."""
    row = found[0] if isinstance(found, list) and len(found) == 1 else found
    identity = row.get("orderId") if isinstance(row, dict) else None
    if isinstance(identity, bool) or not isinstance(identity, (str, int)) or not str(identity).strip():
        raise WireError(f"expected an acceptance with an orderId, found {shown(found)}")
    return str(identity).strip()


def order(row: Mapping[str, Any]) -> BrokerOrder:
    """A row of the order book, or the reply of a look-up."""
    filled = whole(row.get("filledQty") or 0)
    status = order_status(text(row, "orderStatus"), filled=filled, quantity=whole(need(row, "quantity")))
    message = row.get("omsErrorDescription") or ""
    times = (moment_ms(row.get(name)) for name in ("updateTime", "exchangeTime", "createTime"))
    return BrokerOrder(
        broker_order_id=text(row, "orderId"),
        client_order_id=str(row.get("correlationId") or ""),
        security=f"{text(row, 'exchangeSegment')}:{text(row, 'securityId')}",
        side=_side(text(row, "transactionType")),
        status=status,
        quantity=whole(need(row, "quantity")),
        filled_quantity=filled,
        filled_value_paise=value_paise(row.get("averageTradedPrice") or 0, filled),
        limit_paise=paise(row.get("price") or 0),
        # Healthy orders carry "CONFIRMED" there; it is a reason only where the order failed.
        message=str(message) if status in _FAILED else "",
        updated_at_ms=next((at_ms for at_ms in times if at_ms), 0),
    )


_FAILED = frozenset({OrderStatus.REJECTED, OrderStatus.CANCELLED, OrderStatus.EXPIRED})


def order_status(text: str, *, filled: int, quantity: int) -> OrderStatus:
    """Dhan's word for an order's state. The socket has none for "partly filled"; unknown ones mean live."""
    word = text.strip().upper().replace(" ", "_")
    try:
        status = OrderStatus(word)
    except ValueError:
        status = _OTHER_STATUSES.get(word, OrderStatus.PENDING)
    if status is OrderStatus.PENDING and 0 < filled < quantity:
        return OrderStatus.PART_TRADED
    return status


def order_update(found: Any, *, received_at_ms: int) -> OrderUpdate:
    """The `Data` of a push. Its keys come in several casings, so they are read without case."""
    if not isinstance(found, dict):
        raise WireError(f"expected the data of an order update, found {shown(found)}")
    row = {str(key).lower(): value for key, value in found.items()}
    filled = whole(row.get("tradedqty") or 0)
    quantity = whole(need(row, "quantity"))
    status = order_status(text(row, "status"), filled=filled, quantity=quantity)
    segment = (text(row, "exchange").upper(), text(row, "segment").upper())
    at_ms = next((at for at in (_lenient_ms(row.get(name)) for name in _UPDATE_TIMES) if at), received_at_ms)
    average = row.get("avgtradedprice") or row.get("tradedprice") or 0
    return OrderUpdate(
        at_ms=at_ms,
        order=BrokerOrder(
            broker_order_id=text(row, "orderno"),
            client_order_id=str(row.get("correlationid") or ""),
            security=f"{_SOCKET_SEGMENTS.get(segment, '_'.join(segment))}:{text(row, 'securityid')}",
            side=_side(text(row, "txntype")),
            status=status,
            quantity=quantity,
            filled_quantity=filled,
            filled_value_paise=value_paise(average, filled),
            limit_paise=paise(row.get("price") or 0),
            message=str(row.get("reasondescription") or "") if status in _FAILED else "",
            updated_at_ms=at_ms,
        ),
    )


_UPDATE_TIMES = ("lastupdatedtime", "exchordertime", "orderdatetime")


def trade(row: Mapping[str, Any]) -> BrokerTrade:
    """A row of the trade book."""
    times = (moment_ms(row.get(name)) for name in ("exchangeTime", "updateTime", "createTime"))
    return BrokerTrade(
        broker_order_id=text(row, "orderId"),
        security=f"{text(row, 'exchangeSegment')}:{text(row, 'securityId')}",
        side=_side(text(row, "transactionType")),
        quantity=whole(need(row, "tradedQuantity")),
        price_paise=paise(need(row, "tradedPrice")),
        at_ms=next((at_ms for at_ms in times if at_ms), 0),
    )


# Dhan's names for what is billed with a settled trade; its "service tax" is the GST.
_BILLED = {
    "brokerage_paise": "brokerageCharges",
    "stt_paise": "stt",
    "exchange_paise": "exchangeTransactionCharges",
    "sebi_paise": "sebiTax",
    "stamp_paise": "stampDuty",
    "gst_paise": "serviceTax",
}


def settled_trade(row: Mapping[str, Any]) -> SettledTrade:
    """A row of the trade history. Its times may be "NA"."""
    return SettledTrade(
        trade=trade(row),
        charges_paise={name: exact_paise(row.get(key) or 0) for name, key in _BILLED.items()},
    )


def position(row: Mapping[str, Any]) -> BrokerPosition:
    """A row of the positions; one that was closed today stays with net quantity 0."""
    bought, sold = whole(row.get("buyQty") or 0), whole(row.get("sellQty") or 0)
    return BrokerPosition(
        security=f"{text(row, 'exchangeSegment')}:{text(row, 'securityId')}",
        trading_symbol=str(row.get("tradingSymbol") or ""),
        product=text(row, "productType"),
        net_quantity=whole(need(row, "netQty")),
        buy_quantity=bought,
        sell_quantity=sold,
        buy_value_paise=_side_value(row, "Buy", row.get("buyAvg"), bought),
        sell_value_paise=_side_value(row, "Sell", row.get("sellAvg"), sold),
    )


def _side_value(row: Mapping[str, Any], side: str, average: Any, quantity: int) -> int:
    """The exact values where they cover the whole quantity, else average times quantity."""
    parts = [row.get(f"{part}{side}Value") for part in ("day", "carryForward")]
    counts = [row.get(f"{part}{side}Qty") for part in ("day", "carryForward")]
    if None not in parts and None not in counts and sum(whole(count) for count in counts) == quantity:
        return sum(paise(part) for part in parts)
    return value_paise(average or 0, quantity)


def _side(text: str) -> Side:
    word = text.upper()
    if word in {"B", "BUY"}:
        return Side.BUY
    if word in {"S", "SELL"}:
        return Side.SELL
    raise WireError(f"expected BUY or SELL, found {text!r}")


def _lenient_ms(text: Any) -> int:
    try:
        return moment_ms(text)
    except WireError:
        return 0
