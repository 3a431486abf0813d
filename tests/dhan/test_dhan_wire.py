"""Rows and replies as Dhan writes them, into the port's values: exact money, India's time, nothing made up."""

import json
from contextlib import suppress
from datetime import date, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from strategy.events import Side
from tasks.broker import OrderStatus, order_rows, readings, wire
from tasks.clock import IST, epoch_ms

REFERENCE = Path(__file__).resolve().parents[3] / "shared" / "data" / "reference" / "dhan" / "DhanHQ-py"

ORDER_ROW = {
    "dhanClientId": "1000000009", "orderId": "112111182198", "exchangeOrderId": "0", "correlationId": "s1-3",
    "orderStatus": "REJECTED", "transactionType": "BUY", "exchangeSegment": "NSE_FNO", "productType": "MARGIN",
    "orderType": "LIMIT", "validity": "DAY", "tradingSymbol": "NIFTY-Nov2026-24500-CE", "securityId": "47317",
    "quantity": 65, "disclosedQuantity": 0, "price": 101.05, "triggerPrice": 0.0, "afterMarketOrder": False,
    "boProfitValue": 0.0, "boStopLossValue": 0.0, "legName": "NA", "createTime": "2026-11-23 10:00:00",
    "updateTime": "2026-11-23 10:00:01", "exchangeTime": "0001-01-01 00:00:00", "drvExpiryDate": "0001-01-01",
    "drvOptionType": "NA", "drvStrikePrice": 0.0, "omsErrorCode": "0",
    "omsErrorDescription": "RMS:1:Order Price needs to be Circuit Limits of 2915.70 to 3563.50", "algoId": "0",
    "remainingQuantity": 65, "averageTradedPrice": 0.0, "filledQty": 0,
}  # fmt: skip


def parsed(value):
    """As it comes off the wire."""
    return wire.parse_json(json.dumps(value).encode())


def order(**changes):
    return order_rows.order(parsed(ORDER_ROW | changes))


def ms(*moment):
    return epoch_ms(datetime(*moment, tzinfo=IST))


def test_an_order_row_becomes_an_order():
    found = order()
    assert found.broker_order_id == "112111182198"
    assert found.client_order_id == "s1-3"
    assert found.security == "NSE_FNO:47317"
    assert (found.side, found.status) == (Side.BUY, OrderStatus.REJECTED)
    assert (found.quantity, found.filled_quantity, found.limit_paise) == (65, 0, 101_05)
    assert "Circuit Limits" in found.message
    assert found.updated_at_ms == ms(2026, 11, 23, 10, 0, 1)


def test_a_healthy_order_s_confirmation_is_no_error():
    assert order(orderStatus="TRADED", omsErrorDescription="TRADE CONFIRMED").message == ""


def test_what_is_filled_is_worth_average_times_quantity_to_the_paisa():
    found = order(orderStatus="PART_TRADED", quantity=130, filledQty=65, averageTradedPrice=101.5333)
    assert found.filled_value_paise == 659_966  # 101.5333 x 65 = 6599.6645
    assert order(orderStatus="CANCELLED", filledQty=65, averageTradedPrice=101).filled_value_paise == 6_565_00


@pytest.mark.parametrize(
    ("word", "filled", "expected"),
    [
        ("TRANSIT", 0, OrderStatus.TRANSIT),
        ("Pending", 0, OrderStatus.PENDING),
        ("Pending", 65, OrderStatus.PART_TRADED),
        ("Pending", 130, OrderStatus.PENDING),  # its end has not been said
        ("Traded", 130, OrderStatus.TRADED),
        ("Cancelled", 65, OrderStatus.CANCELLED),
        ("EXPIRED", 0, OrderStatus.EXPIRED),
        ("TRIGGERED", 0, OrderStatus.PENDING),
        ("SOMETHING_NEW", 0, OrderStatus.PENDING),
        ("CLOSED", 130, OrderStatus.TRADED),
    ],
)
def test_a_status_that_nobody_knows_counts_as_live(word, filled, expected):
    assert order_rows.order_status(word, filled=filled, quantity=130) is expected


@pytest.mark.parametrize("missing", ["orderId", "orderStatus", "securityId", "transactionType", "quantity"])
def test_a_row_without_what_matters_is_an_error_and_not_a_zero(missing):
    with pytest.raises(wire.WireError, match=missing):
        order_rows.order(parsed({key: value for key, value in ORDER_ROW.items() if key != missing}))


@pytest.mark.parametrize("nonsense", [True, "abc", None, [], {}, float("1e300")])
def test_money_that_is_no_number_is_an_error(nonsense):
    with pytest.raises(wire.WireError):
        wire.paise(nonsense)


@given(st.integers(0, 10**11))
def test_rupees_with_two_decimals_are_exact(paise):
    assert wire.paise(wire.parse_json(f"{paise // 100}.{paise % 100:02d}".encode())) == paise
    assert wire.paise(paise / 100) == paise  # also where somebody's JSON came through a float


def test_half_a_paisa_rounds_up():
    assert wire.paise(Decimal("0.005")) == 1


MOMENTS = {
    "2026-11-23 10:00:01": ms(2026, 11, 23, 10, 0, 1),
    "2026-11-23T10:00:01": ms(2026, 11, 23, 10, 0, 1),
    "2026-01-01T00:00:00.000": ms(2026, 1, 1),
    "2026-09-29 17:52:44.0": ms(2026, 9, 29, 17, 52, 44),
    "09/09/2026 08:00": ms(2026, 9, 9, 8, 0),
    "23/11/2026 10:00:01": ms(2026, 11, 23, 10, 0, 1),
    "2026-11-23": ms(2026, 11, 23),
    "0001-01-01 00:00:00": 0,
    "01/01/1980 00:00:00": 0,
    "NA": 0,
    "": 0,
}


@pytest.mark.parametrize("text", MOMENTS)
def test_times_are_india_s_in_every_layout_in_use(text):
    assert wire.moment_ms(text) == MOMENTS[text]


def test_a_time_that_is_none_is_an_error():
    with pytest.raises(wire.WireError, match="tomorrow"):
        wire.moment_ms("tomorrow")


UPDATE = {
    "exchange": "NSE", "segment": "D", "source": "P", "securityId": "47317", "clientId": "1000000009",
    "exchOrderNo": "1100000000012345", "orderNo": "112111182198", "product": "M", "txnType": "S", "orderType": "LMT",
    "remainingQuantity": 0, "quantity": 65, "tradedQty": 65, "price": 101.5, "tradedPrice": 101.5,
    "avgTradedPrice": 101.5, "orderDateTime": "2026-11-23 10:00:00", "exchOrderTime": "2026-11-23 10:00:00",
    "lastUpdatedTime": "2026-11-23 10:00:01", "reasonDescription": "TRADE CONFIRMED", "status": "Traded",
    "correlationId": "s1-4",
}  # fmt: skip


@pytest.mark.parametrize("casing", [str, str.lower, str.upper, lambda key: key[0].upper() + key[1:]])
def test_an_order_update_is_read_in_any_casing(casing):
    found = order_rows.order_update(parsed({casing(key): value for key, value in UPDATE.items()}), received_at_ms=5)
    assert found.at_ms == ms(2026, 11, 23, 10, 0, 1)
    assert (found.order.broker_order_id, found.order.client_order_id) == ("112111182198", "s1-4")
    assert found.order.security == "NSE_FNO:47317"
    assert (found.order.side, found.order.status) == (Side.SELL, OrderStatus.TRADED)
    assert (found.order.filled_quantity, found.order.filled_value_paise) == (65, 6597_50)
    assert found.order.message == ""


def test_an_update_of_a_partly_filled_order_says_so():
    found = order_rows.order_update(parsed(UPDATE | {"status": "Pending", "quantity": 130}), received_at_ms=5)
    assert found.order.status is OrderStatus.PART_TRADED


def test_a_sensex_option_is_found_in_its_segment():
    found = order_rows.order_update(parsed(UPDATE | {"exchange": "BSE", "securityId": "1100042"}), received_at_ms=5)
    assert found.order.security == "BSE_FNO:1100042"


def test_an_update_without_a_readable_time_is_of_now():
    timeless = {key: value for key, value in UPDATE.items() if "Time" not in key} | {"lastUpdatedTime": "soon"}
    assert order_rows.order_update(parsed(timeless), received_at_ms=5).at_ms == 5


TRADE = {
    "orderId": "112111182045", "exchangeTradeId": "0", "transactionType": "SELL", "exchangeSegment": "NSE_FNO",
    "securityId": "47317", "tradedQuantity": 65, "tradedPrice": 101.45, "createTime": "2026-11-23 10:00:00",
    "updateTime": "2026-11-23 10:00:01", "exchangeTime": "2026-11-23 10:00:02",
}  # fmt: skip


@pytest.mark.parametrize("shape", [lambda row: row, lambda row: [row]])
def test_trades_come_as_an_object_or_a_list(shape):
    [found] = wire.rows(parsed(shape(TRADE)), order_rows.trade)
    assert (found.side, found.quantity, found.price_paise) == (Side.SELL, 65, 101_45)
    assert found.at_ms == ms(2026, 11, 23, 10, 0, 2)


POSITION = {
    "tradingSymbol": None, "securityId": "47317", "positionType": "SHORT", "exchangeSegment": "NSE_FNO",
    "productType": "MARGIN", "buyAvg": 0.0, "buyQty": 0, "sellAvg": 37.45, "sellQty": 260, "netQty": -260,
    "carryForwardBuyQty": 0, "carryForwardSellQty": 0, "carryForwardBuyValue": 0.0, "carryForwardSellValue": 0.0,
    "dayBuyQty": 0, "daySellQty": 260, "dayBuyValue": 0.0, "daySellValue": 9737.05,
    "drvExpiryDate": "2026-10-19 14:30:00",
}  # fmt: skip


def test_a_position_has_its_exact_values_where_they_cover_it():
    found = order_rows.position(parsed(POSITION))
    assert (found.net_quantity, found.sell_quantity, found.trading_symbol) == (-260, 260, "")
    assert found.sell_value_paise == 9737_05
    assert order_rows.position(parsed(POSITION | {"daySellQty": 0})).sell_value_paise == 9737_00  # 37.45 x 260


def test_the_misspelt_balance_is_the_balance():
    assert readings.funds_paise(parsed({"availabelBalance": 98440.07, "sodLimit": 113642})) == 98440_07
    with pytest.raises(wire.WireError, match="sodLimit"):
        readings.funds_paise(parsed({"sodLimit": 113642}))


def test_quotes_have_the_last_price_and_the_best_bid_and_ask():
    level = {"quantity": 65, "orders": 1}
    depth = {"buy": [level | {"price": 101.5}, level | {"price": 101.4}], "sell": [level | {"price": 0}]}
    reply = {"data": {"NSE_FNO": {"47317": {"last_price": 101.55, "depth": depth}}, "IDX_I": {}}, "status": "success"}
    found = readings.quotes(parsed(reply), at_ms=7)
    assert list(found) == ["NSE_FNO:47317"]
    quote = found["NSE_FNO:47317"]
    assert (quote.at_ms, quote.last_paise, quote.bid_paise, quote.ask_paise) == (7, 101_55, 101_50, 0)


@pytest.mark.parametrize(
    ("validity", "plan", "active"),
    [("09/09/2026 08:00", "Active", True), ("2026-09-09 08:00:00.0", "Deactive", False)],
)
def test_the_profile_is_read_in_both_layouts(validity, plan, active):
    found = readings.profile(parsed({"dhanClientId": "1000000009", "tokenValidity": validity, "dataPlan": plan}))
    assert found.token_valid_until_ms == ms(2026, 9, 9, 8)
    assert found.data_plan_active is active


IP_REPLIES = {
    "allowed": ({"detectedIP": "1.2.3.4", "ordersAllowed": True}, True, True),
    "not allowed": ({"detectedIP": "1.2.3.4", "ordersAllowed": False, "primaryIP": "5.6.7.8"}, True, False),
    "matched": ({"ipMatchStatus": "SECONDARY_MATCH"}, True, True),
    "no match": ({"ipMatchStatus": "NO_MATCH"}, True, False),
    "seen and listed": ({"detectedIP": "1.2.3.4", "primaryIP": "1.2.3.4"}, True, True),
    "documented shape": ({"modifyDatePrimary": "2025-09-28", "primaryIP": "1.2.3.4"}, False, False),
    "error with HTTP 200": ([{"message": "Something went wrong", "status": "ERROR"}], False, False),
}


@pytest.mark.parametrize("name", IP_REPLIES)
def test_whether_orders_may_come_from_here_is_known_only_where_the_broker_says_so(name):
    body, known, allowed = IP_REPLIES[name]
    found = readings.ip_status(parsed(body))
    assert (found.known, found.orders_allowed) == (known, allowed)


def test_expiries_come_ascending():
    reply = {"data": ["2026-12-29", "2026-11-23", "2026-12-01"], "status": "success"}
    assert readings.expiries(parsed(reply)) == (date(2026, 11, 23), date(2026, 12, 1), date(2026, 12, 29))


def test_candles_of_the_day_come_ascending_and_without_the_unfinished():
    day, start = date(2026, 11, 20), ms(2026, 11, 20, 9, 15) // 1000
    columns = {
        "timestamp": [start - 86400, start + 60, start, start + 120],
        "open": [1, 24510.05, 24500.0, 0], "high": [1, 24511, 24512, 0], "low": [1, 24509, 24499.95, 0],
        "close": [1, 24510, 24510.05, 0], "volume": [0, 0, 0, 0], "open_interest": [],
    }  # fmt: skip
    found = readings.candles(parsed(columns), day, day)
    assert [candle.start_ms // 1000 - start for candle in found] == [0, 60]
    assert (found[0].open_paise, found[0].low_paise, found[1].open_paise) == (24500_00, 24499_95, 24510_05)
    assert readings.candles(parsed({"timestamp": [], "open": []}), day, day) == ()
    assert len(readings.candles(parsed(columns), day - timedelta(days=1), day)) == 3
    with pytest.raises(wire.WireError, match="one length"):
        readings.candles(parsed(columns | {"low": [1]}), day, day)


@given(
    st.recursive(
        st.none() | st.booleans() | st.floats() | st.text(),
        lambda v: st.lists(v) | st.dictionaries(st.text(), v),
        max_leaves=8,
    )
)
def test_whatever_comes_is_read_or_refused(found):
    for read in (
        order_rows.order_id,
        readings.funds_paise,
        readings.profile,
        readings.ip_status,
        readings.expiries,
        readings.data_of,
    ):
        with suppress(wire.WireError):
            read(found)
    for row in (order_rows.order, order_rows.trade, order_rows.position):
        with suppress(wire.WireError):
            wire.rows(found, row)


@pytest.mark.parametrize(
    ("name", "read"),
    [
        ("get-current-orders-list", order_rows.order),
        ("get-order-by-id", order_rows.order),
        ("get-order-by-correlation-id", order_rows.order),
        ("get_all_trades", order_rows.trade),
        ("get_trade_book_by_orderid", order_rows.trade),
        ("get_positions", order_rows.position),
    ],
)
def test_the_fields_are_those_of_the_sdk_s_published_schemas(name, read):
    if not REFERENCE.exists():
        pytest.skip("the reference schemas are not beside the project")
    found = json.loads((REFERENCE / f"{name}.json").read_text())["data"]
    rows = found if isinstance(found, list) else [found]
    filler = {"string": "2026-11-23 10:00:00", -2147483648: 0, -3.402823669209385e38: 0}
    for row in rows:
        wire.rows({key: filler.get(value, value) for key, value in row.items()}, read)
