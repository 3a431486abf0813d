"""Dhan's JSON into the port's values: order rows, updates, trades, positions, money, quotes, dates.

Nothing is made up: a reply that lacks what is needed is a WireError, never a zero. Rupees come as decimals
(JSON is read with `parse_float=Decimal`) and become integer paise, half a paisa rounding up. Times without a
zone are India's. Quantities are units.
"""

import json
from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime
from decimal import ROUND_HALF_UP, Decimal, InvalidOperation
from typing import Any, TypeVar

from strategy.events import Side
from tasks.broker import (
    AccountProfile,
    BrokerOrder,
    BrokerPosition,
    BrokerTrade,
    IndexCandle,
    IpStatus,
    OrderStatus,
    OrderUpdate,
    Quote,
)
from tasks.clock import IST, epoch_ms

T = TypeVar("T")

_PAISA = Decimal(1)
_MONEY_LIMIT = Decimal(10) ** 12  # rupees; a number beyond it is not money
_SHOWN_CHARACTERS = 200
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


class WireError(ValueError):
    """A reply or a push that does not say what it must; the message shows where, without secrets."""


def parse_json(body: bytes) -> Any:
    """JSON with exact decimals; WireError where it is not JSON."""
    try:
        return json.loads(body, parse_float=Decimal, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        found = body[:_SHOWN_CHARACTERS].decode("utf-8", "replace") or "an empty body"
        raise WireError(f"expected JSON, found {found!r}") from error


def paise(rupees: Any) -> int:
    """Rupees as a JSON number or text into integer paise."""
    return int((_decimal(rupees) * 100).quantize(_PAISA, ROUND_HALF_UP))


def value_paise(average_rupees: Any, quantity: int) -> int:
    """Average price times quantity in paise; averages are finer than a paisa."""
    return int((_decimal(average_rupees) * 100 * quantity).quantize(_PAISA, ROUND_HALF_UP))


def whole(number: Any) -> int:
    """A whole number that may come as 65, 65.0 or "65"."""
    value = _decimal(number)
    if value != value.to_integral_value():
        raise WireError(f"expected a whole number, found {number!r}")
    return int(value)


def moment_ms(text: Any) -> int:
    """India's time as text into Unix milliseconds; 0 where the field is unset (year 1, "NA", empty, 1980)."""
    if not isinstance(text, str) or text.strip().upper() in {"", "NA", "0"}:
        return 0
    bare = text.strip()
    if "." in bare:
        bare = bare[: bare.index(".")]  # "17:52:44.0" and "00:00:00.000"
    for layout in (
        "%Y-%m-%d %H:%M:%S",
        "%Y-%m-%dT%H:%M:%S",
        "%d/%m/%Y %H:%M:%S",
        "%d/%m/%Y %H:%M",
        "%Y-%m-%d",
    ):
        try:
            found = datetime.strptime(bare, layout)  # noqa: DTZ007  # the zone is India's, added below
        except ValueError:
            continue
        return epoch_ms(found.replace(tzinfo=IST)) if found.year > 1980 else 0
    raise WireError(f"expected a date and time, found {text!r}")


def rows(found: Any, read: Callable[[Mapping[str, Any]], T]) -> tuple[T, ...]:
    """Each object of a list (or a single object) through `read`."""
    listed = [found] if isinstance(found, dict) else found
    if not isinstance(listed, list) or not all(isinstance(row, dict) for row in listed):
        raise WireError(f"expected a list of objects, found {_shown(found)}")
    return tuple(read(row) for row in listed)


def order_id(found: Any) -> str:
    """The broker's id out of an acceptance; WireError where there is none."""
    row = found[0] if isinstance(found, list) and len(found) == 1 else found
    identity = row.get("orderId") if isinstance(row, dict) else None
    if isinstance(identity, bool) or not isinstance(identity, (str, int)) or not str(identity).strip():
        raise WireError(f"expected an acceptance with an orderId, found {_shown(found)}")
    return str(identity).strip()


def order(row: Mapping[str, Any]) -> BrokerOrder:
    """A row of the order book, or the reply of a look-up."""
    filled = whole(row.get("filledQty") or 0)
    status = order_status(_text(row, "orderStatus"), filled=filled, quantity=whole(_need(row, "quantity")))
    message = row.get("omsErrorDescription") or ""
    times = (moment_ms(row.get(name)) for name in ("updateTime", "exchangeTime", "createTime"))
    return BrokerOrder(
        broker_order_id=_text(row, "orderId"),
        client_order_id=str(row.get("correlationId") or ""),
        security=f"{_text(row, 'exchangeSegment')}:{_text(row, 'securityId')}",
        side=_side(_text(row, "transactionType")),
        status=status,
        quantity=whole(_need(row, "quantity")),
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
        raise WireError(f"expected the data of an order update, found {_shown(found)}")
    row = {str(key).lower(): value for key, value in found.items()}
    filled = whole(row.get("tradedqty") or 0)
    quantity = whole(_need(row, "quantity"))
    status = order_status(_text(row, "status"), filled=filled, quantity=quantity)
    segment = (_text(row, "exchange").upper(), _text(row, "segment").upper())
    at_ms = next((at for at in (_lenient_ms(row.get(name)) for name in _UPDATE_TIMES) if at), received_at_ms)
    average = row.get("avgtradedprice") or row.get("tradedprice") or 0
    return OrderUpdate(
        at_ms=at_ms,
        order=BrokerOrder(
            broker_order_id=_text(row, "orderno"),
            client_order_id=str(row.get("correlationid") or ""),
            security=f"{_SOCKET_SEGMENTS.get(segment, '_'.join(segment))}:{_text(row, 'securityid')}",
            side=_side(_text(row, "txntype")),
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
        broker_order_id=_text(row, "orderId"),
        security=f"{_text(row, 'exchangeSegment')}:{_text(row, 'securityId')}",
        side=_side(_text(row, "transactionType")),
        quantity=whole(_need(row, "tradedQuantity")),
        price_paise=paise(_need(row, "tradedPrice")),
        at_ms=next((at_ms for at_ms in times if at_ms), 0),
    )


def position(row: Mapping[str, Any]) -> BrokerPosition:
    """A row of the positions; one that was closed today stays with net quantity 0."""
    bought, sold = whole(row.get("buyQty") or 0), whole(row.get("sellQty") or 0)
    return BrokerPosition(
        security=f"{_text(row, 'exchangeSegment')}:{_text(row, 'securityId')}",
        trading_symbol=str(row.get("tradingSymbol") or ""),
        product=_text(row, "productType"),
        net_quantity=whole(_need(row, "netQty")),
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


def funds_paise(found: Any) -> int:
    """What may be spent. The broker misspells the field; the right spelling is taken too."""
    if not isinstance(found, dict):
        raise WireError(f"expected the fund limits, found {_shown(found)}")
    for name in ("availabelBalance", "availableBalance"):
        if found.get(name) is not None:
            return paise(found[name])
    raise WireError(f"expected availabelBalance in the fund limits, found {sorted(found)}")


def data_of(found: Any) -> Any:
    """The content of a data reply {"status":"success","data":…}; WireError for any other status."""
    if isinstance(found, dict) and found.get("status") == "success" and "data" in found:
        return found["data"]
    raise WireError(f"expected a data reply with status success, found {_shown(found)}")


def quotes(found: Any, *, at_ms: int) -> dict[str, Quote]:
    """The full quotes of a data reply by security; ids that the broker does not know are absent.

    `at_ms` is when the broker was asked: bid and ask are of that moment, whenever the last trade was.
    """
    segments = data_of(found)
    if not isinstance(segments, dict):
        raise WireError(f"expected quotes by segment, found {_shown(segments)}")
    read: dict[str, Quote] = {}
    for segment, listed in segments.items():
        if not isinstance(listed, dict):
            raise WireError(f"expected quotes of {segment} by security id, found {_shown(listed)}")
        for security_id, row in listed.items():
            if not isinstance(row, dict):
                raise WireError(f"expected the quote of {segment}:{security_id}, found {_shown(row)}")
            security = f"{segment}:{security_id}"
            depth = row.get("depth") or {}
            read[security] = Quote(
                security=security,
                at_ms=at_ms,
                last_paise=max(0, paise(_need(row, "last_price"))),
                bid_paise=_best(depth, "buy"),
                ask_paise=_best(depth, "sell"),
            )
    return read


def _best(depth: Any, side: str) -> int:
    levels = depth.get(side) if isinstance(depth, dict) else None
    if not isinstance(levels, list) or not levels or not isinstance(levels[0], dict):
        return 0
    return max(0, paise(levels[0].get("price") or 0))


def profile(found: Any) -> AccountProfile:
    """Token validity (two date layouts are in use) and data plan."""
    if not isinstance(found, dict):
        raise WireError(f"expected a profile, found {_shown(found)}")
    return AccountProfile(
        client_id=_text(found, "dhanClientId"),
        token_valid_until_ms=moment_ms(_need(found, "tokenValidity")),
        data_plan_active=str(found.get("dataPlan") or "").strip().lower() == "active",
    )


def ip_status(found: Any) -> IpStatus:
    """Whether orders are allowed from here; not known where the broker answers an error with HTTP 200."""
    if not isinstance(found, dict):
        return IpStatus(known=False, orders_allowed=False, detail=f"the broker answered {_shown(found)}")
    seen, listed = found.get("detectedIP"), (found.get("primaryIP"), found.get("secondaryIP"))
    detail = f"seen from {seen or 'an unknown address'}, allowed {listed[0] or 'none'} and {listed[1] or 'none'}"
    allowed = found.get("ordersAllowed")
    if isinstance(allowed, bool):
        return IpStatus(known=True, orders_allowed=allowed, detail=detail)
    match = str(found.get("ipMatchStatus") or "").upper()
    if match:
        return IpStatus(known=True, orders_allowed=match in {"PRIMARY_MATCH", "SECONDARY_MATCH"}, detail=detail)
    if seen and any(listed):
        return IpStatus(known=True, orders_allowed=seen in listed, detail=detail)
    return IpStatus(known=False, orders_allowed=False, detail=detail)


def expiries(found: Any) -> tuple[date, ...]:
    """The expiry dates of a data reply, ascending."""
    listed = data_of(found)
    if not isinstance(listed, list):
        raise WireError(f"expected a list of expiry dates, found {_shown(listed)}")
    try:
        return tuple(sorted({date.fromisoformat(str(text)[:10]) for text in listed}))
    except ValueError as error:
        raise WireError(f"expected dates like 2026-11-23, found {_shown(listed)}") from error


def index_candles(found: Any, day: date) -> tuple[IndexCandle, ...]:
    """The candles of `day` out of columns; their timestamps are true UTC seconds."""
    if not isinstance(found, dict):
        raise WireError(f"expected candle columns, found {_shown(found)}")
    columns = [found.get(name) or [] for name in ("timestamp", "open", "high", "low", "close")]
    if not all(isinstance(column, list) for column in columns) or len({len(column) for column in columns}) != 1:
        raise WireError(f"expected five candle columns of one length, found {[_length(c) for c in columns]}")
    candles = [
        IndexCandle(
            start_ms=whole(start) * 1000,
            open_paise=paise(opening),
            high_paise=paise(high),
            low_paise=paise(low),
            close_paise=paise(close),
        )
        for start, opening, high, low, close in zip(*columns, strict=True)
    ]
    of_day = [c for c in candles if datetime.fromtimestamp(c.start_ms / 1000, UTC).astimezone(IST).date() == day]
    # The newest minute may be there before its prices are.
    return tuple(sorted((c for c in of_day if c.low_paise > 0), key=lambda c: c.start_ms))


def _decimal(number: Any) -> Decimal:
    if isinstance(number, bool) or not isinstance(number, (int, float, str, Decimal)):
        raise WireError(f"expected a number, found {number!r}")
    try:
        value = Decimal(str(number).strip())
    except InvalidOperation:
        raise WireError(f"expected a number, found {number!r}") from None
    if not value.is_finite() or abs(value) > _MONEY_LIMIT:
        raise WireError(f"expected a number that can be an amount, found {number!r}")
    return value


def _need(row: Mapping[str, Any], name: str) -> Any:
    value = row.get(name)
    if value is None:
        raise WireError(f"expected the field {name}, found only {sorted(row)}")
    return value


def _text(row: Mapping[str, Any], name: str) -> str:
    value = _need(row, name)
    if isinstance(value, bool) or not isinstance(value, (str, int)) or not str(value).strip():
        raise WireError(f"expected text in the field {name}, found {value!r}")
    return str(value).strip()


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


def _length(column: Any) -> int | str:
    return len(column) if isinstance(column, list) else type(column).__name__


def _shown(found: Any) -> str:
    return repr(found)[:_SHOWN_CHARACTERS]


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")
