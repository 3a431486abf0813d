"""The unmodified dhanhq package against the simulator: every call it makes, and the shapes it expects back."""

import json
import re
from datetime import date

import pyotp
import pytest
import requests
from dhanhq import DhanContext, DhanLogin, dhanhq
from dhanhq.dhan_http import DhanHTTP

from simulator.setup import Setup
from simulator.stage import Stage

CLIENT_ID, TOKEN = "1000000009", "simulator-token"


@pytest.fixture
def connect(monkeypatch):
    """Make SDK clients that reach the simulator as section 1.2 of the facts says: by their base URLs alone."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    contexts = []

    def make(simulator, token: str = TOKEN, client_id: str = CLIENT_ID) -> dhanhq:
        monkeypatch.setattr(DhanHTTP, "API_BASE_URL", f"{simulator.url}/v2")
        monkeypatch.setattr(DhanLogin, "AUTH_BASE_URL", simulator.url)
        monkeypatch.setattr(DhanLogin, "API_BASE_URL", f"{simulator.url}/v2")
        contexts.append(DhanContext(client_id, token))
        return dhanhq(contexts[-1])

    yield make
    for context in contexts:
        context.get_dhan_http().session.close()


@pytest.fixture
def sdk(simulator, connect) -> dhanhq:
    return connect(simulator)


@pytest.fixture
def buy(simulator, sdk):
    """Place a buy of the option at the money through the SDK."""
    row = simulator.at_the_money()

    def place(price: float | None = None, **changes):
        wish = {
            "security_id": str(row["security_id"]), "exchange_segment": "NSE_FNO", "transaction_type": "BUY",
            "quantity": 65, "order_type": "LIMIT", "product_type": "MARGIN",
            "price": row["top_ask_price"] + 5 if price is None else price,
        }  # fmt: skip
        return sdk.place_order(**(wish | changes))

    return place


def data_of(reply):
    assert reply["status"] == "success", reply
    return reply["data"]


def shape_of(value):
    """The kinds of a JSON value: numbers are alike, whether whole or not; null stands for any text."""
    if isinstance(value, dict):
        return {key: shape_of(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [shape_of(value[0])] if value else []
    return bool if isinstance(value, bool) else float if isinstance(value, int | float) else str


def schema(schemas, name):
    return shape_of(json.loads((schemas / f"{name}.json").read_text())["data"])


def test_an_order_from_acknowledgement_to_the_trade_book(simulator, sdk, buy):
    acknowledged = buy(tag="conform-0001")
    assert data_of(acknowledged)["orderStatus"] == "TRANSIT"
    order_id = data_of(acknowledged)["orderId"]

    early = sdk.get_order_by_correlationID("conform-0001")
    assert early["remarks"]["error_code"] == "DH-906", "in transit an order is not found by its correlation id"

    simulator.advance(seconds=1)
    book = data_of(sdk.get_order_list())
    by_id, by_tag = data_of(sdk.get_order_by_id(order_id)), data_of(sdk.get_order_by_correlationID("conform-0001"))
    assert by_id == by_tag == book[0]
    assert (by_id["orderStatus"], by_id["filledQty"], by_id["remainingQuantity"]) == ("TRADED", 65, 0)
    assert by_id["omsErrorDescription"] == "TRADE CONFIRMED"
    assert by_id["createTime"] == "2026-11-20 10:00:00", "times are India's, as text"
    assert by_id["drvExpiryDate"] == "2026-11-23 14:30:00"

    trades = data_of(sdk.get_trade_book())
    assert data_of(sdk.get_trade_book(order_id)) == trades
    assert (trades[0]["tradedQuantity"], trades[0]["tradedPrice"]) == (65, by_id["averageTradedPrice"])

    positions = data_of(sdk.get_positions())
    assert (positions[0]["netQty"], positions[0]["positionType"]) == (65, "LONG")
    assert positions[0]["drvOptionType"] == "CALL"

    funds = data_of(sdk.get_fund_limits())
    assert funds["utilizedAmount"] == pytest.approx(65 * by_id["averageTradedPrice"])


def test_replies_have_the_shapes_that_the_sdks_own_project_expects(simulator, sdk, buy, schemas):
    order_id = data_of(buy(tag="shape"))["orderId"]
    resting = data_of(buy(price=20.0))["orderId"]
    simulator.advance(seconds=1)
    replies = {
        "place_order": buy(price=20.0),
        "place_slice_order": buy(price=20.0, quantity=65 * 60, should_slice=True),
        "get-current-orders-list": sdk.get_order_list(),
        "get-order-by-id": sdk.get_order_by_id(order_id),
        "get-order-by-correlation-id": sdk.get_order_by_correlationID("shape"),
        "get_all_trades": sdk.get_trade_book(),
        "get_trade_book_by_orderid": sdk.get_trade_book(order_id),
        "get_positions": sdk.get_positions(),
        "get_fund_limits": sdk.get_fund_limits(),
        "modify_pending_order": sdk.modify_order(resting, "LIMIT", "", 130, 21.0, 0, 0, "DAY"),
    }
    simulator.advance(seconds=1)
    replies["cancel_given_order"] = sdk.cancel_order(resting)
    security = data_of(sdk.get_positions())[0]["securityId"]
    replies["margin_calculator"] = sdk.margin_calculator(security, "NSE_FNO", "BUY", 65, "MARGIN", 100.0)
    for name, reply in replies.items():
        assert shape_of(data_of(reply)) == schema(schemas, name), name


def test_modify_and_cancel(simulator, sdk, buy):
    order_id = data_of(buy(price=20.0))["orderId"]
    in_transit = sdk.cancel_order(order_id)
    assert in_transit["remarks"] == {
        "error_code": "DH-906", "error_type": "Order_Error", "error_message": "Order is in Transit state",
    }  # fmt: skip
    simulator.advance(seconds=1)
    data_of(sdk.modify_order(order_id, "LIMIT", "", 130, 21.0, 0, 0, "DAY"))
    simulator.advance(seconds=1)
    row = data_of(sdk.get_order_by_id(order_id))
    assert (row["quantity"], row["price"], row["orderStatus"]) == (130, 21.0, "PENDING")
    assert row["omsErrorDescription"] == "CONFIRMED"
    data_of(sdk.cancel_order(order_id))
    simulator.advance(seconds=1)
    assert data_of(sdk.get_order_by_id(order_id))["orderStatus"] == "CANCELLED"


def test_slicing_answers_with_a_list_of_orders_below_the_freeze_quantity(simulator, sdk, buy):
    data_of(buy(price=20.0, quantity=65 * 60, should_slice=True, tag="sliced"))
    assert [row["quantity"] for row in data_of(sdk.get_order_list())] == [1755, 1755, 390]


def test_the_books_of_orders_that_cannot_be_placed_are_empty(sdk):
    assert (data_of(sdk.get_super_order_list()), data_of(sdk.get_forever())) == ([], [])


def test_an_unknown_order_is_an_empty_list(sdk):
    assert data_of(sdk.get_order_by_id("404")) == []


SYNC_REFUSALS = {
    "no quantity": ({"quantity": None}, "DH-905", "quantity is required"),
    "an empty text": ({"boProfitValue": ""}, "DH-905", "Missing required fields, bad values for parameters etc."),
    "an unknown security": ({"securityId": "1"}, "DH-905", "Invalid SecurityId"),
    "an unknown product": ({"productType": "CNC"}, "DH-905", "Missing required fields, bad values for parameters etc."),
    "a long correlation id": ({"correlationId": "x" * 26}, "DH-905", "Missing required fields, bad values for parameters etc."),
    "a colon in it": ({"correlationId": "a:b"}, "DH-905", "Invalid correlationId"),
    "a stop market order": (
        {"orderType": "STOP_LOSS_MARKET", "transactionType": "SELL", "price": 0, "triggerPrice": 90},
        "DH-906", "Trigger Price should be greater than Price",
    ),
    "a sell stop below its price": (
        {"orderType": "STOP_LOSS", "transactionType": "SELL", "price": 100, "triggerPrice": 90},
        "DH-906", "Trigger Price should be greater than Price",
    ),
    "a buy stop above its price": (
        {"orderType": "STOP_LOSS", "price": 90, "triggerPrice": 100},
        "DH-906", "Trigger Price should be less than Price",
    ),
    "no price": ({"price": 0}, "DH-905", "Missing required fields, bad values for parameters etc."),
}  # fmt: skip


@pytest.mark.parametrize("name", SYNC_REFUSALS)
def test_what_is_refused_at_once(name, simulator):
    changes, code, message = SYNC_REFUSALS[name]
    reply = simulator.call("POST", "/v2/orders", simulator.order(**changes))
    assert (reply.status_code, reply.json()["errorCode"], reply.json()["errorMessage"]) == (400, code, message)
    assert simulator.truth()["orders"] == []


def test_a_correlation_id_of_25_is_taken_and_a_missing_one_is_made(simulator):
    first = simulator.place(correlationId="x" * 25)
    second = simulator.place()
    assert simulator.row(first)["correlationId"] == "x" * 25
    assert re.fullmatch(rf"{CLIENT_ID}-\d{{13}}", simulator.row(second)["correlationId"])


def test_a_rejection_shows_in_the_book_with_its_reason(simulator, sdk, buy):
    order_id = data_of(buy(price=9_999.0))["orderId"]
    simulator.advance(seconds=1)
    row = data_of(sdk.get_order_by_id(order_id))
    assert row["orderStatus"] == "REJECTED"
    assert re.fullmatch(
        rf"RMS:{order_id}:Order Price needs to be Circuit Limits of [\d.]+ to [\d.]+", row["omsErrorDescription"]
    )
    assert (row["exchangeOrderId"], row["exchangeTime"]) == ("0", "0001-01-01 00:00:00")


def test_exit_all_flattens_later(simulator, sdk, buy):
    buy()
    buy(price=20.0)
    simulator.advance(seconds=1)
    assert data_of(sdk.exit_all_positions())["status"] == "SUCCESS"
    simulator.advance(seconds=1)
    assert [row["netQty"] for row in data_of(sdk.get_positions())] == [0]
    assert {row["orderStatus"] for row in data_of(sdk.get_order_list())} == {"TRADED", "CANCELLED"}


def test_converting_a_position_is_accepted_without_a_body(simulator, sdk, buy):
    buy()
    simulator.advance(seconds=1)
    row = data_of(sdk.get_positions())[0]
    reply = sdk.convert_position("MARGIN", "NSE_FNO", "LONG", row["securityId"], 65, "INTRADAY")
    assert reply["status"] == "failure", "the SDK cannot read an empty 202, though the conversion was done"
    assert {r["productType"]: r["netQty"] for r in data_of(sdk.get_positions())} == {"MARGIN": 0, "INTRADAY": 65}


def test_the_kill_switch_wants_a_flat_account_and_then_refuses_orders(simulator, sdk, buy):
    buy()
    simulator.advance(seconds=1)
    assert sdk.kill_switch("activate")["remarks"]["error_code"] == "DH-906"
    sdk.exit_all_positions()
    simulator.advance(seconds=1)
    said = data_of(sdk.kill_switch("activate"))
    assert said == {
        "dhanClientId": CLIENT_ID, "killSwitchStatus": "Kill Switch has been successfully activated",
    }  # fmt: skip
    assert data_of(sdk.status_kill_switch())["killSwitchStatus"] == "ACTIVATE"
    assert "Kill switch" in buy()["remarks"]["error_message"]
    sdk.kill_switch("deactivate")
    assert data_of(sdk.status_kill_switch())["killSwitchStatus"] == "DEACTIVATE"


def test_a_pnl_exit_is_set_shown_and_stopped(sdk):
    done = data_of(sdk.set_pnl_exit(1500.0, 500.0, ["INTRADAY", "DELIVERY"], enable_kill_switch=True))
    assert done == {"pnlExitStatus": "ACTIVE", "message": "P&L based exit configured successfully"}
    assert data_of(sdk.get_pnl_exit()) == {
        "pnlExitStatus": "ACTIVE", "profit": "1500.00", "loss": "500.00", "productType": ["INTRADAY", "DELIVERY"],
        "enable_kill_switch": True,
    }  # fmt: skip
    assert data_of(sdk.stop_pnl_exit())["pnlExitStatus"] == "DISABLED"


def test_margins(simulator, sdk):
    security = str(simulator.at_the_money()["security_id"])
    bought = data_of(sdk.margin_calculator(security, "NSE_FNO", "BUY", 65, "MARGIN", 100.0))
    assert bought["totalMargin"] == 6_500.0
    sold = data_of(sdk.margin_calculator(security, "NSE_FNO", "SELL", 65, "MARGIN", 100.0))
    assert 150_000 < sold["totalMargin"] < 190_000, "nearly eleven percent of the notional"
    scrip = {
        "securityId": security,
        "exchangeSegment": "NSE_FNO",
        "transactionType": "BUY",
        "quantity": 65,
        "price": 100,
    }
    assert data_of(sdk.margin_calculator_multi([scrip, scrip]))["total_margin"] == "13000.00"


def test_holdings_of_an_account_without_any_are_an_error(sdk):
    assert sdk.get_holdings()["remarks"] == {
        "error_code": "DH-1111", "error_type": "HOLDING_ERROR", "error_message": "No holdings available",
    }  # fmt: skip


def test_quotes(simulator, sdk):
    row = simulator.at_the_money()
    number = row["security_id"]
    ltp = data_of(sdk.ticker_data({"NSE_FNO": [number], "IDX_I": [13, 999]}))
    assert ltp["status"] == "success"
    assert list(ltp["data"]["IDX_I"]) == ["13"], "what is not known is left out"
    assert ltp["data"]["NSE_FNO"][str(number)] == {"last_price": row["last_price"]}
    simulator.advance(seconds=1)
    ohlc = data_of(sdk.ohlc_data({"IDX_I": [13]}))["data"]["IDX_I"]["13"]
    assert ohlc["ohlc"]["low"] <= ohlc["last_price"] <= ohlc["ohlc"]["high"]
    assert ohlc["ohlc"]["close"] == 24_400.0, "the close is yesterday's"
    simulator.advance(seconds=1)
    full = data_of(sdk.quote_data({"NSE_FNO": [number]}))["data"]["NSE_FNO"][str(number)]
    assert set(full) == {
        "average_price", "buy_quantity", "depth", "last_price", "last_quantity", "last_trade_time",
        "lower_circuit_limit", "net_change", "ohlc", "oi", "oi_day_high", "oi_day_low", "sell_quantity",
        "upper_circuit_limit", "volume",
    }  # fmt: skip
    assert full["last_trade_time"] == "20/11/2026 10:00:01"
    assert full["depth"]["buy"][0]["price"] < full["depth"]["sell"][0]["price"]


def test_before_the_open_a_quote_has_never_traded(simulator, connect):
    simulator.restart(start="09:05:00")
    sdk = connect(simulator)
    number = simulator.at_the_money()["security_id"]
    full = data_of(sdk.quote_data({"NSE_FNO": [number]}))["data"]["NSE_FNO"][str(number)]
    assert full["last_trade_time"] == "01/01/1980 00:00:00"


def test_option_chain_and_expiries(simulator, sdk):
    expiries = data_of(sdk.expiry_list(13, "IDX_I"))
    assert expiries["data"][:2] == ["2026-11-23", "2026-12-01"]
    chain = data_of(sdk.option_chain(13, "IDX_I", "2026-11-23"))["data"]
    strikes = [float(strike) for strike in chain["oc"]]
    assert min(strikes) < chain["last_price"] < max(strikes)
    assert all(re.fullmatch(r"\d+\.\d{6}", strike) for strike in chain["oc"])
    row = chain["oc"]["24500.000000"]["pe"]
    assert set(row) == {
        "average_price", "greeks", "implied_volatility", "last_price", "oi", "previous_close_price", "previous_oi",
        "previous_volume", "security_id", "top_ask_price", "top_ask_quantity", "top_bid_price", "top_bid_quantity",
        "volume",
    }  # fmt: skip
    deep = chain["oc"][f"{min(strikes):.6f}"]["ce"]
    assert deep["implied_volatility"] == 0.0
    assert set(deep["greeks"].values()) == {0.0}, "deep in the money is shown as zero: could not be priced"
    bad = sdk.expiry_list(9999, "IDX_I")
    assert bad["status"] == "failure"


def test_intraday_candles_are_utc_and_stop_at_the_present(simulator, sdk):
    today = data_of(sdk.intraday_minute_data("13", "IDX_I", "INDEX", "2026-11-20 09:14:00", "2026-11-20 15:40:00", 1))
    assert set(today) == {"open", "high", "low", "close", "volume", "timestamp", "open_interest"}
    assert len(today["open"]) == 45
    assert today["timestamp"][0] == 1795146300, "09:15 in India, true Unix time"
    simulator.advance(seconds=1)
    exact = data_of(sdk.intraday_minute_data("13", "IDX_I", "INDEX", "2026-11-20 09:15:00", "2026-11-20 09:20:00", 1))
    assert exact["timestamp"][0] == 1795146300 + 60, "a candle exactly at fromDate is left out"
    fives = data_of(sdk.intraday_minute_data("13", "IDX_I", "INDEX", "2026-11-19 09:14:00", "2026-11-20 15:40:00", 5))
    assert len(fives["open"]) == 77 + 10, "the present candle is still being made"
    assert fives["close"][76] == 24_400.0, "yesterday ended where today's change is counted from"
    far = sdk.intraday_minute_data("13", "IDX_I", "INDEX", "2026-05-01 09:14:00", "2026-11-20 15:40:00", 1)
    assert far["remarks"]["error_message"] == "Data for Intraday Charts can be fetched for 90 days at a time"
    simulator.advance(seconds=1)
    unknown = data_of(sdk.intraday_minute_data("999", "IDX_I", "INDEX", "2026-11-20 09:14:00", "2026-11-20 15:40:00"))
    assert unknown["open"] == [], "an unknown id or a holiday is empty, not an error"


def test_daily_candles_are_stamped_at_indias_midnight_and_end_before_to_date(sdk):
    days = data_of(sdk.historical_daily_data("13", "IDX_I", "INDEX", "2026-11-06", "2026-11-13"))
    assert [stamp % 86_400 for stamp in days["timestamp"]] == [66_600] * len(days["timestamp"])
    assert len(days["open"]) == 5, "the 6th, the evening session of Sunday the 8th, the 9th, 11th and 12th"


def test_profile_ip_and_login(simulator, connect):
    sdk = connect(simulator)
    login = DhanLogin(CLIENT_ID)
    profile = login.user_profile(TOKEN)
    assert profile["tokenValidity"] == "21/11/2026 10:00"
    assert profile["dataPlan"] == "Active"
    address = data_of(login.get_ip(TOKEN))
    assert (address["ordersAllowed"], address["ipMatchStatus"]) == (True, "PRIMARY_MATCH")
    assert data_of(login.set_ip(TOKEN, "203.0.113.5", "PRIMARY"))["status"] == "SUCCESS"
    refused = sdk.place_order("1", "NSE_FNO", "BUY", 65, "LIMIT", "MARGIN", 10.0)
    assert refused["remarks"]["error_message"] == "Invalid IP", "the address is looked at before the instrument"
    assert data_of(login.get_ip(TOKEN))["ordersAllowed"] is False


def test_one_token_lives_at_a_time(simulator, connect):
    old = connect(simulator)
    login = DhanLogin(CLIENT_ID)
    moment = simulator.clock()["now_ms"] // 1000
    code = pyotp.TOTP("JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP").at(moment)
    minted = login.generate_token("123456", code)
    assert minted["expiryTime"] == "2026-11-21T10:00:00.000"
    assert old.get_fund_limits()["remarks"]["error_message"] == "Invalid Token"
    assert data_of(connect(simulator, minted["accessToken"]).get_fund_limits())
    renewed = login.renew_token(minted["accessToken"])["accessToken"]
    assert data_of(connect(simulator, renewed).get_fund_limits())
    with pytest.raises(Exception, match="Failed to renew"):
        login.renew_token(minted["accessToken"])
    with pytest.raises(Exception, match="Failed to generate"):
        login.generate_token("000000", code)


def test_a_dead_token_says_so_in_each_family_s_own_words(simulator):
    trading = simulator.call("GET", "/v2/orders", headers={"access-token": "old", "client-id": CLIENT_ID})
    assert trading.json() == {"errorType": "Order_Error", "errorCode": "DH-906", "errorMessage": "Invalid Token"}
    data = simulator.call("POST", "/v2/marketfeed/ltp", {"IDX_I": [13]}, headers={"access-token": "old"})
    assert data.json()["data"].keys() == {"809"}
    without = simulator.call("POST", "/v2/marketfeed/ltp", {"IDX_I": [13]}, headers={"access-token": TOKEN})
    assert without.json()["data"].keys() == {"810"}, "data endpoints want the client id, too"


def test_a_token_dies_after_a_day():
    stage = Stage(Setup(day=date(2026, 11, 20)))
    assert stage.credentials.token_problem(TOKEN) is None
    stage.now_ms += 24 * 3600 * 1000
    assert stage.credentials.token_problem(TOKEN) == "807"


def test_unknown_paths_get_the_gateways_page(simulator):
    reply = simulator.call("GET", "/v2/forever/all")
    assert reply.status_code == 404
    assert reply.json() == {
        "timestamp": simulator.clock()["now_ms"], "status": 404, "error": "Not Found", "path": "/v2/forever/all",
    }  # fmt: skip


def test_a_segment_of_the_master_is_its_rows_alone(simulator):
    segment = simulator.call("GET", "/v2/instrument/NSE_FNO", headers={}).text.splitlines()
    assert all(line.startswith("NSE,D,") for line in segment[1:])


# -- limits ---------------------------------------------------------------------------------------------------------


def test_the_eleventh_order_of_a_second_is_refused_until_the_second_has_passed(simulator):
    body = simulator.order(price=20.0)
    codes = [simulator.call("POST", "/v2/orders", body).status_code for _ in range(11)]
    assert codes == [200] * 10 + [429]
    refused = simulator.call("POST", "/v2/orders", body)
    assert refused.json()["errorCode"] == "DH-904"
    assert "Retry-After" not in refused.headers
    simulator.advance(seconds=1)
    assert simulator.call("POST", "/v2/orders", body).status_code == 200
    assert len(simulator.truth()["orders"]) == 11


def test_quotes_are_one_a_second_over_all_three(simulator):
    paths = ("ltp", "ohlc", "quote")
    replies = [simulator.call("POST", f"/v2/marketfeed/{path}", {"IDX_I": [13]}) for path in paths]
    assert [reply.status_code for reply in replies] == [200, 429, 429]
    assert replies[1].json()["data"].keys() == {"805"}


def test_the_same_option_chain_once_in_three_seconds(simulator):
    def ask(expiry):
        body = {"UnderlyingScrip": 13, "UnderlyingSeg": "IDX_I", "Expiry": expiry}
        return simulator.call("POST", "/v2/optionchain", body).status_code

    assert [ask("2026-11-23"), ask("2026-11-23"), ask("2026-12-01")] == [200, 429, 200]
    simulator.advance(seconds=3)
    assert ask("2026-11-23") == 200


def test_limits_can_be_turned_off(simulator):
    simulator.restart(rate_limits=False)
    codes = {simulator.call("POST", "/v2/marketfeed/ltp", {"IDX_I": [13]}).status_code for _ in range(5)}
    assert codes == {200}


def test_the_server_speaks_market_time_in_its_date_header(simulator):
    assert simulator.call("GET", "/v2/profile").headers["Date"] == "Fri, 20 Nov 2026 04:30:00 GMT"


def test_bad_requests_do_not_hurt(simulator):
    for method, path in (("POST", "/v2/orders"), ("PUT", "/v2/orders/1"), ("POST", "/v2/charts/intraday")):
        reply = requests.request(
            method, simulator.url + path, data=b"{not json", headers={"access-token": TOKEN, "client-id": CLIENT_ID},
            timeout=10, proxies={"http": ""},
        )  # fmt: skip
        assert (reply.status_code, reply.json()["errorCode"]) == (400, "DH-905")
