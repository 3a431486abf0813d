"""Orders through the unmodified SDK, over HTTP: the happy way at the simulator, and every way it can go wrong."""

import socket
import threading
import traceback
from concurrent.futures import ThreadPoolExecutor
from datetime import date
from functools import partial

import dhanhq
import pytest

from strategy.events import Side
from strategy.instruments import INDICES, OptionType, Underlying
from tasks.broker import (
    AuthenticationDead,
    BrokerError,
    BrokerUnavailable,
    NewOrder,
    OrderOutcomeUnknown,
    OrderRejected,
    OrderStatus,
)
from tasks.broker.dhan import FixedToken
from tasks.broker.http import Timeouts
from tasks.broker.tokens import TokenSource
from tasks.clock import Stopwatch
from tasks.instruments import InstrumentMaster
from tasks.settings import Settings

DAY = date(2026, 11, 20)
NIFTY = INDICES[Underlying.NIFTY]
ACCEPTED = (200, {"orderId": "112111182198", "orderStatus": "TRANSIT"})
CANARY = "CANARY-token-that-must-never-show"
NEVER_SENT_TWICE = "the request is sent exactly once"


@pytest.fixture
def some_contract():
    """A contract for servers that do not look at it."""
    from strategy.instruments import Contract  # noqa: PLC0415

    return Contract(
        underlying=Underlying.NIFTY, expiry=date(2026, 11, 23), strike_points=24500, option_type=OptionType.CE,
        segment="NSE_FNO", security_id="47317", trading_symbol="NIFTY-Nov2026-24500-CE", lot_size=65,
        tick_size_paise=5, freeze_quantity=1755,
    )  # fmt: skip


def buy(contract, limit_paise=100_00, *, cid="t-1", quantity=65, side=Side.BUY, product="MARGIN"):
    return NewOrder(
        client_order_id=cid, contract=contract, side=side, quantity=quantity, limit_paise=limit_paise, product=product
    )


@pytest.fixture
def new_market(exchange):
    """A market of the test's own, shortly after the open."""
    exchange.advance(to="09:20:00")
    return exchange


@pytest.fixture
def newcomer(new_market, make_broker):
    """The adapter at the market of the test's own."""
    return make_broker(f"{new_market.url}/v2", now_ms=new_market.now_ms)


def far_below(broker, contract):
    """A limit at which nobody sells."""
    return ask_of(broker, contract) // 2 // 5 * 5


def ask_of(broker, contract):
    quote = broker.quotes([contract.security])[contract.security]
    assert 0 < quote.bid_paise <= quote.ask_paise
    return quote.ask_paise


# --- the happy way ----------------------------------------------------------------------------------------------------


def test_an_order_is_sent_found_filled_and_held(new_market, newcomer, contract):
    broker = newcomer
    limit = ask_of(broker, contract) + 5_00
    funds = broker.available_funds_paise()
    order_id = broker.place(buy(contract, limit))
    assert broker.find_order("t-1") is None  # in transit: the broker says "unknown"
    [in_transit] = broker.orders()
    assert (in_transit.broker_order_id, in_transit.status) == (order_id, OrderStatus.TRANSIT)
    new_market.advance(3)
    filled = broker.find_order("t-1")
    assert (filled.broker_order_id, filled.status, filled.filled_quantity) == (order_id, OrderStatus.TRADED, 65)
    assert filled.security == contract.security
    [fill] = new_market.truth["fills"]
    assert filled.filled_value_paise == fill["quantity"] * fill["price_paise"]
    [trade] = broker.trades()
    assert (trade.broker_order_id, trade.quantity, trade.price_paise) == (order_id, 65, fill["price_paise"])
    assert abs(trade.at_ms - fill["at_ms"]) < 1000
    [position] = broker.positions()
    assert (position.net_quantity, position.buy_value_paise) == (65, filled.filled_value_paise)
    assert position.trading_symbol == contract.trading_symbol
    assert broker.available_funds_paise() == funds - filled.filled_value_paise
    assert new_market.calls("place_order") == 1


def test_an_order_is_repriced_and_cancelled(market, broker, contract, cid):
    low = far_below(broker, contract)
    order_id = broker.place(buy(contract, low, cid=cid))
    market.advance(2)
    broker.modify(order_id, buy(contract, low + 5, cid=cid))
    market.advance(2)
    assert broker.find_order(cid).limit_paise == low + 5
    broker.cancel(order_id)
    market.advance(2)
    assert broker.find_order(cid).status is OrderStatus.CANCELLED
    with pytest.raises(OrderRejected):
        broker.cancel(order_id)


def test_a_cancellation_in_transit_is_to_be_asked_again(market, broker, contract, cid):
    order_id = broker.place(buy(contract, far_below(broker, contract), cid=cid))
    with pytest.raises(BrokerUnavailable, match="Transit"):
        broker.cancel(order_id)
    market.advance(2)
    broker.cancel(order_id)


def test_what_the_exchange_rejects_later_is_in_the_book_with_its_reason(market, broker, contract, cid):
    market.fault("reject", message="RMS:1:Fund Limit Insufficient")
    broker.place(buy(contract, far_below(broker, contract), cid=cid))
    market.advance(2)
    found = broker.find_order(cid)
    assert (found.status, found.message) == (OrderStatus.REJECTED, "RMS:1:Fund Limit Insufficient")


def test_a_part_fill_is_shown_as_such(market, broker, contract, cid):
    market.fault("partial_fill", quantity=65)
    broker.place(buy(contract, ask_of(broker, contract) + 5_00, cid=cid, quantity=195))
    market.advance(3)
    found = broker.find_order(cid)
    assert (found.status, found.filled_quantity, found.quantity) == (OrderStatus.PART_TRADED, 65, 195)


def test_the_account_and_the_market_are_read(new_market, newcomer, settings):
    profile = newcomer.profile()
    assert profile.client_id == settings.client_id
    assert profile.token_valid_until_ms > new_market.now_ms()
    assert profile.data_plan_active
    assert newcomer.ip_status().orders_allowed
    expiries = newcomer.expiries(NIFTY)
    assert expiries == InstrumentMaster.of_day(settings, DAY).expiries(NIFTY)
    assert expiries[0] == date(2026, 11, 23)
    new_market.advance(to="09:31:00")
    candles = newcomer.index_candles(NIFTY, DAY, 60)
    starts = [candle.start_ms for candle in candles]
    assert len(candles) >= 15
    assert starts == sorted(starts)
    assert starts[0] == new_market.clock["windows"][0][0]
    assert all(c.low_paise <= min(c.open_paise, c.close_paise) <= c.high_paise for c in candles)


def test_a_security_that_the_broker_does_not_know_is_absent(market, broker, contract):
    known = {contract.security, NIFTY.security}
    market.advance(2)
    assert set(broker.quotes([*known, "NSE_FNO:999999"])) == known


def test_no_quotes_are_no_request(make_broker, scripted):
    assert make_broker(scripted.url).quotes([]) == {}
    assert scripted.requests == []


# --- could an order be live? ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("call", ["modify_order", "cancel_order"])
def test_a_lost_answer_to_a_change_is_unknown_and_the_book_decides(call, market, broker, contract, cid):
    low = far_below(broker, contract)
    order_id = broker.place(buy(contract, low, cid=cid))
    market.advance(2)
    sent = market.calls(call)
    market.fault("reset_after", at={"call": call})
    change = partial(broker.modify, order_id, buy(contract, low + 5, cid=cid))
    with pytest.raises(OrderOutcomeUnknown):
        (change if call == "modify_order" else partial(broker.cancel, order_id))()
    market.advance(2)
    found = broker.find_order(cid)
    assert found.limit_paise == low + 5 if call == "modify_order" else found.status is OrderStatus.CANCELLED
    assert market.calls(call) == sent + 1, NEVER_SENT_TWICE


def test_a_token_that_dies_leaves_no_order_and_says_so(new_market, newcomer, contract):
    limit = far_below(newcomer, contract)
    new_market.fault("token_death", at={"call": "place_order"})
    with pytest.raises(AuthenticationDead):
        newcomer.place(buy(contract, limit))
    for ask in (newcomer.orders, lambda: newcomer.quotes([contract.security])):
        with pytest.raises(AuthenticationDead):
            ask()
    assert new_market.truth["orders"] == []


def test_a_token_that_dies_in_the_session_is_minted_anew_and_the_order_sent(
    new_market, settings, contract, make_broker
):
    tokens = TokenSource.from_settings(settings)
    broker = make_broker(settings.api_url, tokens=tokens)
    limit = far_below(broker, contract)
    new_market.fault("token_death", at={"call": "place_order"})
    broker.place(buy(contract, limit))
    new_market.advance(2)
    assert broker.find_order("t-1").status is OrderStatus.PENDING
    assert len(new_market.truth["orders"]) == 1


def test_two_machines_take_the_token_from_each_other_and_each_order_is_sent_once(
    new_market, contract, make_broker, tmp_path
):
    brokers = []
    for home in ("here", "elsewhere"):
        settings = Settings(_env_file=None, simulator_url=new_market.url, home=tmp_path / home)
        brokers.append(make_broker(settings.api_url, tokens=TokenSource.from_settings(settings)))
    limit = far_below(brokers[0], contract)
    new_market.fault("second_token")
    new_market.advance(1)
    for number in range(6):
        brokers[number % 2].place(buy(contract, limit, cid=f"t-{number}"))
    new_market.advance(2)
    assert [order["client_order_id"] for order in new_market.truth["orders"]] == [f"t-{number}" for number in range(6)]
    assert new_market.calls("generate_token") == 6, "each found its token dead each time"


def test_without_a_connection_nothing_was_sent(make_broker, some_contract, closed_port):
    broker = make_broker(f"http://{closed_port}/v2")
    with pytest.raises(BrokerUnavailable, match="nothing was sent"):
        broker.place(buy(some_contract))
    with pytest.raises(BrokerUnavailable):
        broker.orders()


def test_the_data_plan_s_end_is_unavailable_and_not_a_dead_token(new_market, newcomer, contract):
    new_market.fault("data_plan_lost", for_s=60)
    with pytest.raises(BrokerUnavailable, match="806"):
        newcomer.quotes([contract.security])
    assert not newcomer.profile().data_plan_active


IMPOSSIBLE = {
    "not in lots": ({"quantity": 66}, "lots of 65"),
    "nothing": ({"quantity": 0}, "positive"),
    "above the freeze quantity": ({"quantity": 1820}, "slice it"),
    "off the tick": ({"limit_paise": 100_02}, "multiple of 5"),
    "free": ({"limit_paise": 0}, "positive"),
    "a client order id too long": ({"cid": "x" * 21}, "client order id"),
    "a client order id with a pipe": ({"cid": "a|b"}, "client order id"),
    "another product": ({"product": "CNC"}, "MARGIN or INTRADAY"),
}


@pytest.mark.parametrize("case", IMPOSSIBLE)
def test_an_impossible_order_is_refused_before_it_is_sent(case, make_broker, some_contract, scripted):
    changes, reason = IMPOSSIBLE[case]
    broker = make_broker(scripted.url)
    with pytest.raises(OrderRejected, match=reason):
        broker.place(buy(some_contract, **changes))
    with pytest.raises(OrderRejected, match=reason):
        broker.modify("112111182198", buy(some_contract, **changes))
    assert scripted.requests == []


@pytest.mark.parametrize("strange", ["", "../killswitch", "1?x=1", "a" * 41])
def test_an_id_that_would_be_another_address_is_not_sent(strange, make_broker, some_contract, scripted):
    broker = make_broker(scripted.url)
    for write in (lambda: broker.cancel(strange), lambda: broker.modify(strange, buy(some_contract))):
        with pytest.raises(OrderRejected, match="not sent"):
            write()
    assert scripted.requests == []


# --- the wire ---------------------------------------------------------------------------------------------------------


def test_the_bytes_of_an_order_are_those_of_the_specification(make_broker, some_contract, scripted):
    scripted.replies = [ACCEPTED]
    broker = make_broker(f"{scripted.url}/v2")
    assert broker.place(buy(some_contract, 101_05, side=Side.SELL, cid="lab-0001")) == "112111182198"
    [request] = scripted.requests
    head, _, body = request.partition(b"\r\n\r\n")
    assert head.startswith(b"POST /v2/orders HTTP/1.1")
    assert b"access-token: simulator-token" in head
    assert body == (
        b'{"transactionType": "SELL", "exchangeSegment": "NSE_FNO", "productType": "MARGIN", "orderType": "LIMIT", '
        b'"validity": "DAY", "securityId": "47317", "quantity": 65, "disclosedQuantity": 0, "price": 101.05, '
        b'"afterMarketOrder": false, "boProfitValue": null, "boStopLossValue": null, "triggerPrice": 0.0, '
        b'"correlationId": "lab-0001", "dhanClientId": "1000000009"}'
    )


def test_a_redirect_is_not_followed(make_broker, some_contract, scripted):
    scripted.replies = [(302, "", "Location: /v2/elsewhere\r\n"), ACCEPTED]
    with pytest.raises(OrderOutcomeUnknown):
        make_broker(scripted.url).place(buy(some_contract))
    assert len(scripted.requests) == 1


def test_a_reply_cut_short_is_unknown(make_broker, some_contract, scripted):
    scripted.replies = [[b'HTTP/1.1 200 x\r\nContent-Length: 30\r\n\r\n{"orderId": "1"}']]
    with pytest.raises(OrderOutcomeUnknown):
        make_broker(scripted.url).place(buy(some_contract))


def test_a_dripping_reply_ends_with_the_whole_time_out(make_broker, some_contract, scripted):
    scripted.replies = [[b"HTTP/1.1 200 x\r\nContent-Length: 99\r\n\r\n", *([b" "] * 99)]]
    watch = Stopwatch()
    broker = make_broker(scripted.url, timeouts=Timeouts(connect_s=1, read_s=1, total_s=0.5))
    with pytest.raises(OrderOutcomeUnknown):
        broker.place(buy(some_contract))
    assert watch.seconds < 5  # ten seconds of dripping otherwise


def test_a_silent_reply_ends_with_the_whole_time_out_too(make_broker, some_contract, scripted):
    scripted.replies = [None]
    watch = Stopwatch()
    broker = make_broker(scripted.url, timeouts=Timeouts(connect_s=1, read_s=8, total_s=0.5))
    with pytest.raises(OrderOutcomeUnknown):
        broker.place(buy(some_contract))
    assert watch.seconds < 5


def test_the_proxy_of_the_environment_is_not_used_for_this_machine(
    make_broker, some_contract, scripted, closed_port, monkeypatch
):
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, f"http://{closed_port}")
    scripted.replies = [ACCEPTED]
    assert make_broker(scripted.url).place(buy(some_contract)) == "112111182198"


def test_with_ipv4_forced_an_ipv6_address_is_not_reached(make_broker, scripted):
    port = scripted.url.rpartition(":")[2]
    scripted.replies = [(200, [])]
    assert make_broker(f"http://localhost:{port}", force_ipv4=True).orders() == ()
    with socket.create_server(("::1", 0), family=socket.AF_INET6) as listening:
        listening.settimeout(0.2)
        address = f"http://[::1]:{listening.getsockname()[1]}"
        with pytest.raises(BrokerUnavailable):
            make_broker(address, force_ipv4=True, timeouts=Timeouts(read_s=0.2)).orders()
        with pytest.raises(TimeoutError):
            listening.accept()
        with pytest.raises(BrokerUnavailable):
            make_broker(address, timeouts=Timeouts(read_s=0.2)).orders()
        listening.accept()[0].close()  # without it the same address is reached


BOOK_ROW = {
    "orderId": "1", "orderStatus": "PENDING", "transactionType": "BUY", "quantity": 65, "exchangeSegment": "NSE_FNO",
    "securityId": "47317", "price": 101.5, "createTime": "2026-11-20 10:00:00",
}  # fmt: skip


def test_an_order_under_another_s_id_is_not_ours(make_broker, scripted):
    theirs, ours = BOOK_ROW | {"correlationId": "other"}, BOOK_ROW | {"orderId": "2", "correlationId": "t-1"}
    scripted.replies = [(200, [theirs]), (200, [theirs, ours])]
    broker = make_broker(scripted.url)
    assert broker.find_order("t-1") is None
    assert broker.find_order("t-1").broker_order_id == "2"


SETTLED = {
    "orderId": "1", "exchangeSegment": "NSE_FNO", "securityId": "47317", "transactionType": "BUY",
    "tradedQuantity": 65, "tradedPrice": 101.5, "exchangeTime": "NA", "brokerageCharges": 20.0, "stt": 1.25,
}  # fmt: skip
PAGES = {
    "until an empty one": ([[1, 2], [3], []], [1, 2, 3], 3),
    "until one comes again": ([[1, 2], [2, 3], [2, 3]], [1, 2, 2, 3], 3),
    "not settled yet": ([[]], [], 1),
}


@pytest.mark.parametrize("name", PAGES)
def test_the_trade_history_is_read_page_by_page(name, make_broker, scripted):
    pages, found, asked = PAGES[name]
    scripted.replies = [(200, [SETTLED | {"orderId": str(number)} for number in page]) for page in pages]
    trades = make_broker(scripted.url).settled_trades(date(2026, 11, 19))
    assert [settled.trade.broker_order_id for settled in trades] == [str(number) for number in found]
    lines = [request.split(b"\r\n")[0].decode() for request in scripted.requests]
    assert lines == [f"GET /trades/2026-11-19/2026-11-19/{page} HTTP/1.1" for page in range(asked)]
    assert all(settled.charges_paise["stt_paise"] == 125 for settled in trades)


def test_a_trade_history_that_does_not_end_is_unavailable(make_broker, scripted, monkeypatch):
    monkeypatch.setattr("tasks.broker.dhan._HISTORY_PAGES_MAX", 3)
    scripted.replies = [(200, [SETTLED | {"orderId": str(page)}]) for page in range(4)]
    with pytest.raises(BrokerUnavailable, match="did not end within 3 pages"):
        make_broker(scripted.url).settled_trades(date(2026, 11, 19))


def test_every_thread_has_a_connection_of_its_own(make_broker, scripted):
    scripted.replies = [(200, [])]
    broker = make_broker(scripted.url)
    meet = threading.Barrier(4)

    def read():
        meet.wait(5)
        for _ in range(10):
            assert broker.orders() == ()
        return broker._sdk()

    with ThreadPoolExecutor(4) as pool:
        kits = [kit.result() for kit in [pool.submit(read) for _ in range(4)]]
    assert len({id(kit.dhan_http.session) for kit in kits}) == 4
    assert len(scripted.requests) == 40


def test_the_sdk_itself_is_untouched():
    from dhanhq.dhan_http import DhanHTTP  # noqa: PLC0415

    assert DhanHTTP.API_BASE_URL == "https://api.dhan.co/v2"
    assert DhanHTTP._send_request.__module__ == "dhanhq.dhan_http"
    assert dhanhq.DhanLogin.AUTH_BASE_URL == "https://auth.dhan.co"


# --- tokens and secrets -----------------------------------------------------------------------------------------------


class Spare(FixedToken):
    """A token with one spare."""

    def __init__(self, token, spare):
        super().__init__(token)
        self.spare = spare
        self.replaced = 0

    def replace(self, dead):
        self.replaced += 1
        if dead != self._token or not self.spare:
            return dead != self._token
        self._token, self.spare = self.spare, ""
        return True


def test_a_dead_token_is_replaced_and_the_order_sent_then(make_broker, some_contract, scripted):
    dead = (400, {"errorType": "Order_Error", "errorCode": "DH-906", "errorMessage": "Invalid Token"})
    scripted.replies = [dead, ACCEPTED]
    tokens = Spare("old", "new")
    assert make_broker(scripted.url, tokens=tokens).place(buy(some_contract)) == "112111182198"
    assert [b"access-token: new" in request for request in scripted.requests] == [False, True]


def test_a_token_that_stays_dead_is_tried_once_more_and_no_further(make_broker, some_contract, scripted):
    dead = (400, {"errorType": "Order_Error", "errorCode": "DH-906", "errorMessage": "Invalid Token"})
    scripted.replies = [dead]
    with pytest.raises(AuthenticationDead):
        make_broker(scripted.url, tokens=Spare("old", "new")).place(buy(some_contract))
    assert len(scripted.requests) == 2


def test_an_unknown_outcome_is_never_sent_again_with_a_new_token(make_broker, some_contract, scripted):
    scripted.replies = [(401, "")]
    tokens = Spare("old", "new")
    with pytest.raises(OrderOutcomeUnknown):
        make_broker(scripted.url, tokens=tokens).place(buy(some_contract))
    assert (len(scripted.requests), tokens.replaced) == (1, 0)


SPOILED = {
    "answers": (200, {"orderId": "1"}),
    "refuses": (400, {"errorCode": "DH-906", "errorMessage": "Invalid Token"}),
    "breaks": "reset",
    "says nothing": None,
    "is no JSON": (200, "<html>"),
}


@pytest.mark.parametrize("case", SPOILED)
def test_the_token_shows_nowhere(  # noqa: PLR0917  # fixtures
    case, make_broker, some_contract, scripted, everything_logged, capfd
):
    scripted.replies = [SPOILED[case]]
    broker = make_broker(scripted.url, tokens=FixedToken(CANARY), timeouts=Timeouts(read_s=0.5))
    seen = [repr(broker), repr(vars(broker))]
    for ask in (lambda: broker.place(buy(some_contract)), broker.orders, broker.profile):
        try:
            ask()
        except BrokerError as error:
            seen += [str(error), repr(error), "".join(traceback.format_exception(error))]
    assert any(CANARY.encode() in request for request in scripted.requests), "the canary was sent at all"
    assert CANARY not in "".join(seen)
    assert CANARY not in everything_logged.text
    assert CANARY not in "".join(capfd.readouterr())


def test_a_token_that_no_header_can_carry_is_refused_without_showing_it(make_broker, scripted, everything_logged):
    scripted.replies = [(200, [])]
    with pytest.raises(BrokerUnavailable) as raised:
        make_broker(scripted.url, tokens=FixedToken(f"{CANARY}\n")).orders()
    assert CANARY not in str(raised.value) + everything_logged.text


def test_nothing_hangs_when_the_broker_is_closed_while_it_is_used(make_broker, scripted, wait_for):
    scripted.replies = [None]
    broker = make_broker(scripted.url)
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(broker.orders)
        wait_for(lambda: scripted.requests)
        broker.close()
        with pytest.raises(BrokerUnavailable):
            asked.result(20)
