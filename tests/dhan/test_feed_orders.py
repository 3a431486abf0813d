"""The order-update socket: what it pushes arrives as it was, what it cannot be read does no harm, losses are told."""

import json
import logging

import pytest

from strategy.events import Side
from tasks.broker import NewOrder, OrderStatus, OrderUpdate
from tasks.clock import Stopwatch
from tasks.feed import FeedConnected, FeedLost, FeedName
from tasks.feed.line import Patience
from tasks.feed.orders import OrderFeed
from tasks.settings import REHEARSAL_ACCESS_TOKEN, REHEARSAL_CLIENT_ID

from .conftest import Heard, socket_server

CANARY = "CANARY-token-that-must-never-show"
QUICK = Patience(first_retry_s=0.02, longest_retry_s=0.1)
ALERT = {
    "exchange": "NSE", "segment": "D", "securityId": "47317", "orderNo": "1", "txnType": "B", "quantity": 65,
    "tradedQty": 0, "price": 101.5, "status": "Pending", "lastUpdatedTime": "2026-11-23 10:00:01",
}  # fmt: skip


class Listener(Heard):
    """An order feed with its inbox."""

    def __init__(self, url, *, token=lambda: REHEARSAL_ACCESS_TOKEN, **others):
        super().__init__()
        self.feed = OrderFeed(
            url,
            client_id=REHEARSAL_CLIENT_ID,
            token=token,
            inbox=self.inbox,
            now_ms=lambda: 5,
            patience=QUICK,
            **others,
        )


@pytest.fixture
def listen(started):
    return lambda url, **others: started(Listener(url, **others))


@pytest.fixture
def up(market, listen, wait_for):
    """A listener that is logged in at the simulator."""
    wait_for(lambda: market.truth["order_connections"] == 0)
    listener = listen(market.order_update_url)
    wait_for(lambda: market.truth["order_connections"] == 1)
    listener.sent_before = market.truth["order_updates"]
    return listener


@pytest.fixture
def place(broker, contract, cid):
    """Send one order that fills."""

    def send():
        ask = broker.quotes([contract.security])[contract.security].ask_paise
        return broker.place(
            NewOrder(
                client_order_id=cid,
                contract=contract,
                side=Side.BUY,
                quantity=65,
                limit_paise=ask + 5_00,
                product="MARGIN",
            )
        )

    return send


def test_an_order_s_life_is_told_and_counted(market, broker, place, cid, up, wait_for):  # noqa: PLR0917  # fixtures
    [connected] = up.all(FeedConnected)
    assert connected.feed is FeedName.ORDERS
    order_id = place()
    market.advance(3)
    wait_for(lambda: up.feed.updates_received == market.truth["order_updates"] - up.sent_before > 0)
    updates = up.all(OrderUpdate)
    assert len(updates) == up.feed.updates_received
    last = updates[-1].order
    assert (last.broker_order_id, last.client_order_id, last.status) == (order_id, cid, OrderStatus.TRADED)
    book = broker.find_order(cid)
    assert (last.filled_quantity, last.filled_value_paise) == (book.filled_quantity, book.filled_value_paise)
    assert (last.security, last.side, last.limit_paise) == (book.security, book.side, book.limit_paise)
    assert all(abs(update.at_ms - market.now_ms()) < 10_000 for update in updates)
    assert up.feed.malformed == 0


def test_a_reason_comes_with_a_rejection(market, place, up, wait_for):
    market.fault("reject", message="RMS:1:Fund Limit Insufficient")
    place()
    market.advance(2)
    wait_for(lambda: up.all(OrderUpdate) and up.heard[-1].order.status is OrderStatus.REJECTED)
    assert up.heard[-1].order.message == "RMS:1:Fund Limit Insufficient"


def test_repeated_updates_are_counted_as_often_as_they_came(market, place, up, wait_for):
    market.fault("duplicate_updates", times=10)
    place()
    market.advance(3)
    wait_for(lambda: up.feed.updates_received == market.truth["order_updates"] - up.sent_before > 2)
    assert len(up.all(OrderUpdate)) == up.feed.updates_received


def test_every_reconnection_asks_for_the_book(market, place, up, wait_for):
    market.fault("order_socket_reset")
    market.advance(1)
    wait_for(lambda: len(up.all(FeedConnected)) == 2)
    assert [event.connections for event in up.all(FeedConnected)] == [1, 2]
    assert len(up.all(FeedLost)) == 1
    wait_for(lambda: market.truth["order_connections"] == 1)
    place()
    market.advance(2)
    wait_for(lambda: up.all(OrderUpdate))


def test_a_dead_token_becomes_grave_and_the_next_login_takes_the_new_one(market, listen, wait_for):
    wait_for(lambda: market.truth["order_connections"] == 0)
    tokens = ["dead"]
    listener = listen(market.order_update_url, token=lambda: tokens[0])
    wait_for(lambda: any(lost.grave for lost in listener.all(FeedLost)), 20)
    tokens[0] = REHEARSAL_ACCESS_TOKEN
    wait_for(lambda: market.truth["order_connections"] == 1)


def test_an_upgrade_that_is_refused_for_the_token_s_sake_asks_for_another(listen, wait_for):
    buried, logins = [], []

    def take(peer):
        logins.append(json.loads(peer.recv())["LoginReq"]["Token"])
        peer.recv()

    def look(peer, _):
        return None if buried else peer.respond(401, "")

    with socket_server(take, process_request=look) as url:
        tokens = ["dead", "alive"]
        listener = listen(url, token=lambda: tokens[len(buried)], on_token_dead=buried.append)
        wait_for(lambda: logins)
    assert (buried[0], logins[0]) == ("dead", "alive")
    assert listener.all(FeedLost)[0].grave


NONSENSE = {
    "no JSON": "Message one\nMessage two",
    "a list": "[1]",
    "a number": "7",
    "binary": b"\xff\xfe\x00",
    "deep nesting": "[" * 100_000,
    "no data": json.dumps({"Type": "order_alert"}),
    "half an order": json.dumps({"Type": "order_alert", "Data": {"orderNo": "1"}}),
    "a quantity that is none": json.dumps({"Type": "order_alert", "Data": ALERT | {"quantity": "many"}}),
}


@pytest.mark.parametrize("case", NONSENSE)
def test_a_frame_that_cannot_be_read_is_counted_and_does_no_harm(case, listen, wait_for):
    def push(peer):
        peer.recv()
        peer.send(json.dumps({"Type": "greeting"}))
        peer.send(NONSENSE[case])
        peer.send(json.dumps({"type": "ORDER_ALERT", "data": ALERT}))
        peer.recv()

    with socket_server(push) as url:
        listener = listen(url)
        [update] = wait_for(lambda: listener.all(OrderUpdate))
    assert update.order.status is OrderStatus.PENDING
    assert listener.feed.malformed == 1


def test_twenty_thousand_spoilt_alerts_raise_nothing_and_what_is_read_makes_sense(spoilt, caplog):
    caplog.set_level(logging.CRITICAL, "tasks.feed.orders")
    listener = Listener("ws://127.0.0.1:1")
    frames = spoilt(ALERT | {"avgTradedPrice": 101.5}, 20_000, wrap='{{"Type": "order_alert", "Data": {}}}'.format)
    for number, frame in enumerate(frames):
        listener.feed._receive(frame if number % 3 == 0 else frame.decode("utf-8", "replace"))
    listener.feed.close()
    updates = listener.all(OrderUpdate)
    assert len(updates) > 4_000
    assert listener.feed.malformed > 4_000
    assert all(isinstance(update.order.filled_value_paise, int) for update in updates)
    assert all(update.order.broker_order_id and update.order.status in OrderStatus for update in updates)


def test_the_login_is_the_documented_frame_and_shows_nowhere_else(listen, wait_for, everything_logged, capfd):
    logins = []

    def take(peer):
        logins.append(peer.recv())
        peer.close()

    with socket_server(take) as url:
        listener = listen(url, token=lambda: CANARY)
        wait_for(lambda: len(logins) >= 2)
    assert json.loads(logins[0]) == {
        "LoginReq": {"MsgCode": 42, "ClientId": REHEARSAL_CLIENT_ID, "Token": CANARY},
        "UserType": "SELF",
    }
    logged = [record.getMessage() for record in everything_logged.records if record.name != "websockets.server"]
    listener.all(FeedLost)
    assert CANARY not in "".join([repr(listener.heard), *logged, *capfd.readouterr()])


def test_closing_takes_no_second(listen, wait_for):
    with socket_server(lambda peer: [peer.recv(), peer.recv()]) as url:
        listener = listen(url)
        wait_for(lambda: listener.all(FeedConnected))
        watch = Stopwatch()
        listener.feed.close()
        assert watch.seconds < 1
