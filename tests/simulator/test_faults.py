"""Every fault does what its name says, when it was asked to, as often as it was asked to; and nothing else does."""

import json
import math
import re
import struct
import time
from pathlib import Path

import pyotp
import pytest
import requests
from websockets.exceptions import ConnectionClosed, InvalidMessage, InvalidStatus

from simulator.credentials import DEFAULT_CLIENT_ID, DEFAULT_PIN, DEFAULT_TOTP_SECRET
from simulator.faults import IN_A_CALL, IN_AN_ORDER, IN_ORDER_UPDATES, KNOWN, LASTING_IN_THE_FEED, ONCE_IN_THE_FEED

TICKER = 15
PLACE = {"call": "place_order", "nth": 1}


def placed_in_truth(simulator) -> list[str]:
    return [order["client_order_id"] for order in simulator.truth()["orders"]]


# -- in a call --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fault", "is_placed"),
    [
        ({"fault": "reset_before"}, False),
        ({"fault": "reset_after"}, True),
        ({"fault": "reply_lost"}, True),
    ],
)
def test_a_connection_that_dies_before_and_after_acceptance(fault, is_placed, simulator):
    body = simulator.order(correlationId="lost-1")
    simulator.post_faults(fault | {"at": PLACE})
    with pytest.raises((requests.ConnectionError, requests.ReadTimeout)):
        simulator.call("POST", "/v2/orders", body, timeout=1)
    assert placed_in_truth(simulator) == (["lost-1"] if is_placed else [])
    simulator.advance(seconds=1)
    found = simulator.call("GET", "/v2/orders/external/lost-1")
    assert found.status_code == (200 if is_placed else 404)
    again = simulator.call("POST", "/v2/orders", body | {"correlationId": "again"})
    assert again.status_code == 200, "it strikes once"


@pytest.mark.parametrize("accepted", [False, True])
@pytest.mark.parametrize(("name", "status"), [("bad_gateway", 502), ("server_error", 500)])
def test_gateway_and_server_errors_hide_whether_the_order_lives(name, status, accepted, simulator):
    simulator.post_faults({"fault": name, "at": PLACE, "accepted": accepted})
    reply = simulator.call("POST", "/v2/orders", simulator.order(correlationId="x"))
    assert reply.status_code == status
    if name == "bad_gateway":
        assert reply.text.startswith("<html>")
    else:
        assert reply.json()["errorCode"] == "DH-908"
    assert placed_in_truth(simulator) == (["x"] if accepted else [])


def test_an_empty_202_says_nothing_and_did_all(simulator):
    simulator.post_faults({"fault": "empty_202", "at": PLACE})
    reply = simulator.call("POST", "/v2/orders", simulator.order(correlationId="x"))
    assert (reply.status_code, reply.content) == (202, b"")
    assert placed_in_truth(simulator) == ["x"]


def test_a_slow_drip_arrives_byte_by_byte(simulator):
    simulator.post_faults({"fault": "slow_drip", "at": {"call": "profile"}, "drip_s": 0.002})
    pieces = []
    reply = simulator.call("GET", "/v2/profile", stream=True)
    pieces.extend(reply.iter_content(1))
    assert b"tokenValidity" in b"".join(pieces)


def test_a_storm_of_429_lasts_its_market_time(simulator):
    simulator.post_faults({"fault": "rate_storm", "for_s": 30})
    for _ in range(3):
        reply = simulator.call("GET", "/v2/orders")
        assert (reply.status_code, reply.json()["errorCode"]) == (429, "DH-904")
        simulator.advance(seconds=10)
    assert simulator.call("GET", "/v2/orders").status_code == 200


def test_a_fault_waits_for_its_market_time_and_its_call(simulator):
    simulator.post_faults({"fault": "server_error", "at": {"market_time": "10:00:05", "call": "positions"}})
    assert simulator.call("GET", "/v2/positions").status_code == 200
    simulator.advance(seconds=5)
    assert simulator.call("GET", "/v2/orders").status_code == 200
    assert [simulator.call("GET", "/v2/positions").status_code for _ in range(2)] == [500, 200]


def test_the_second_call_of_its_kind_can_be_meant(simulator):
    simulator.post_faults({"fault": "server_error", "at": {"call": "order_book", "nth": 2}, "times": 2})
    codes = [simulator.call("GET", "/v2/orders").status_code for _ in range(4)]
    assert codes == [200, 500, 500, 200]


def test_the_token_dies_in_a_call(simulator):
    simulator.post_faults({"fault": "token_death", "at": {"call": "positions"}})
    codes = [simulator.call("GET", f"/v2/{path}").status_code for path in ("orders", "positions", "orders")]
    assert codes == [200, 401, 401]


def test_the_token_dies_at_a_time(simulator):
    simulator.post_faults({"fault": "token_death", "at": {"market_time": "10:00:02"}})
    assert simulator.call("GET", "/v2/orders").status_code == 200
    simulator.advance(seconds=3)
    reply = simulator.call("GET", "/v2/orders")
    assert (reply.status_code, reply.json()["errorMessage"]) == (401, "Invalid Token")


def test_a_second_token_ends_the_first_in_a_call_and_at_a_time(simulator):
    simulator.post_faults({"fault": "second_token", "at": {"call": "positions"}})
    codes = [simulator.call("GET", f"/v2/{path}").status_code for path in ("orders", "positions", "orders")]
    assert codes == [200, 401, 401]
    login = {"dhanClientId": DEFAULT_CLIENT_ID, "pin": DEFAULT_PIN, "totp": pyotp.TOTP(DEFAULT_TOTP_SECRET).now()}
    newer = simulator.call("POST", "/app/generateAccessToken", params=login).json()["accessToken"]
    headers = {"access-token": newer, "client-id": DEFAULT_CLIENT_ID}
    assert simulator.call("GET", "/v2/orders", headers=headers).status_code == 200
    simulator.post_faults({"fault": "second_token", "at": {"market_time": "10:00:02"}})
    simulator.advance(seconds=3)
    assert simulator.call("GET", "/v2/orders", headers=headers).status_code == 401


def test_a_refused_address_still_reads(simulator):
    body = simulator.order()
    simulator.post_faults({"fault": "ip_refused", "for_s": 60})
    reply = simulator.call("POST", "/v2/orders", body)
    assert (reply.status_code, reply.json()["errorMessage"]) == (400, "Invalid IP")
    assert simulator.call("GET", "/v2/orders").json() == []
    assert simulator.call("GET", "/v2/ip/getIP").json()["ordersAllowed"] is False
    simulator.advance(seconds=60)
    assert simulator.call("POST", "/v2/orders", body).status_code == 200


def test_a_lost_data_plan_answers_806_and_shows_in_the_profile(simulator):
    simulator.post_faults({"fault": "data_plan_lost", "for_s": 60})
    reply = simulator.call("POST", "/v2/marketfeed/ltp", {"IDX_I": [13]})
    assert reply.json()["data"].keys() == {"806"}
    assert simulator.call("GET", "/v2/profile").json()["dataPlan"] == "Deactive"
    assert simulator.call("GET", "/v2/orders").status_code == 200


# -- in an order ------------------------------------------------------------------------------------------------------


def test_a_rejection_after_the_acknowledgement(simulator):
    simulator.post_faults({"fault": "reject", "message": "RMS: not today"})
    order_id = simulator.place()
    simulator.advance(seconds=1)
    row = simulator.row(order_id)
    assert (row["orderStatus"], row["omsErrorDescription"]) == ("REJECTED", "RMS: not today")


def test_partial_and_missing_fills(simulator):
    simulator.post_faults({"fault": "partial_fill", "at": PLACE}, {"fault": "never_fills", "at": PLACE | {"nth": 2}})
    partial, never = simulator.place(quantity=195), simulator.place(quantity=195)
    simulator.advance(seconds=30)
    assert [simulator.row(o)["filledQty"] for o in (partial, never)] == [130, 0]
    assert [simulator.row(o)["orderStatus"] for o in (partial, never)] == ["PART_TRADED", "PENDING"]
    simulator.call("DELETE", f"/v2/orders/{partial}")
    simulator.advance(seconds=1)
    row = simulator.row(partial)
    assert (row["orderStatus"], row["filledQty"], row["remainingQuantity"]) == ("CANCELLED", 130, 65)


@pytest.mark.parametrize(
    ("name", "status", "filled"), [("fill_after_cancel", "TRADED", 130), ("cancel_fill_race", "CANCELLED", 65)]
)
def test_fills_between_a_cancellation_and_its_effect(name, status, filled, simulator):
    simulator.post_faults({"fault": name})
    order_id = simulator.place(quantity=130)
    simulator.advance(seconds=1)
    answer = simulator.call("DELETE", f"/v2/orders/{order_id}").json()
    assert answer == {"orderId": order_id, "orderStatus": "CANCELLED"}
    simulator.advance(seconds=1)
    row = simulator.row(order_id)
    assert (row["orderStatus"], row["filledQty"]) == (status, filled)


def test_a_slow_transit(simulator):
    simulator.post_faults({"fault": "slow_transit", "transit_ms": 8_000})
    order_id = simulator.place(correlationId="slow")
    simulator.advance(seconds=7)
    assert simulator.row(order_id)["orderStatus"] == "TRANSIT"
    assert simulator.call("GET", "/v2/orders/external/slow").status_code == 404
    assert "Transit" in simulator.call("DELETE", f"/v2/orders/{order_id}").json()["errorMessage"]
    simulator.advance(seconds=2)
    assert simulator.row(order_id)["orderStatus"] == "TRADED"


# -- in order updates --------------------------------------------------------------------------------------------------


def statuses(simulator, socket) -> list[str]:
    return [json.loads(text)["Data"]["status"] for text in simulator.pending(socket)]


UPDATES = {
    "as they happen": ([], ["Transit", "Pending", "Traded"]),
    "twice": ([{"fault": "duplicate_updates", "times": 3}], ["Transit"] * 2 + ["Pending"] * 2 + ["Traded"] * 2),
    "in the wrong order": ([{"fault": "out_of_order_updates", "times": 1}], ["Pending", "Transit", "Traded"]),
    "not at all": ([{"fault": "missing_updates", "for_s": 60}], []),
    "with one missing": ([{"fault": "missing_updates", "times": 1}], ["Pending", "Traded"]),
}


@pytest.mark.parametrize("name", UPDATES)
def test_order_updates_come(name, simulator):
    faults, expected = UPDATES[name]
    socket = simulator.alerts()
    simulator.post_faults(*faults)
    simulator.place()
    simulator.advance(seconds=1)
    assert statuses(simulator, socket) == expected
    assert simulator.truth()["order_updates"] == len(expected)


def test_a_held_update_comes_at_last(simulator):
    socket = simulator.alerts()
    simulator.post_faults({"fault": "out_of_order_updates", "times": 1})
    simulator.place(price=20.0)
    simulator.post_faults({"fault": "missing_updates", "for_s": 1})
    simulator.advance(seconds=1)
    simulator.advance(seconds=3)
    assert "Transit" in statuses(simulator, socket)


def test_the_order_socket_is_reset(simulator):
    socket = simulator.alerts()
    simulator.post_faults({"fault": "order_socket_reset"})
    simulator.advance(seconds=1)
    with pytest.raises(ConnectionClosed):
        socket.recv(10)
    assert socket.close_code == 1006


# -- in the feed -------------------------------------------------------------------------------------------------------


@pytest.fixture
def feed(simulator):
    socket = simulator.feed((TICKER, "IDX_I:13"))
    simulator.wait_until(lambda: simulator.truth()["feed_connections"] == 1)
    simulator.wait_until(lambda: simulator.advance(seconds=1) and simulator.truth()["feed_packets"] > 0)
    simulator.pending(socket)
    return socket


def test_silence_and_its_end(simulator, feed):
    simulator.post_faults({"fault": "feed_silence", "for_s": 5})
    simulator.advance(seconds=5)
    assert simulator.pending(feed) == []
    simulator.advance(seconds=1)
    assert len(simulator.pending(feed)) == 2


def test_silence_of_one_security(simulator, feed):
    simulator.subscribe(feed, TICKER, "IDX_I:51")
    time.sleep(0.2)
    simulator.post_faults({"fault": "feed_silence", "for_s": 5, "securities": ["IDX_I:13"]})
    simulator.advance(seconds=3)
    assert {packet[4] for packet in simulator.pending(feed)} == {51}


def test_late_packets_come_with_their_own_times(simulator, feed):
    simulator.post_faults({"fault": "feed_lag", "lag_s": 3, "for_s": 4})
    now_s = simulator.clock()["now_ms"] // 1000 + 19_800
    simulator.advance(seconds=2)
    assert simulator.pending(feed) == []
    simulator.advance(seconds=5)
    late = [struct.unpack_from("<I", packet, 12)[0] - now_s for packet in simulator.pending(feed)]
    assert late == [second for second in range(7) for _ in range(2)], "nothing is lost, nothing overtakes"


def test_a_reset_and_an_outage(simulator, feed):
    simulator.post_faults({"fault": "feed_reset", "outage_s": 10})
    simulator.advance(seconds=1)
    with pytest.raises(ConnectionClosed):
        feed.recv(10)
    assert feed.close_code == 1006
    with pytest.raises((InvalidMessage, ConnectionError, EOFError)):
        simulator.feed()
    simulator.advance(seconds=10)
    simulator.feed()


def test_refused_connections(simulator):
    simulator.post_faults({"fault": "feed_refused", "for_s": 10})
    with pytest.raises(InvalidStatus, match="429"):
        simulator.feed()
    simulator.advance(seconds=11)
    simulator.feed()


def test_a_second_user_of_the_account(simulator, feed):
    simulator.post_faults({"fault": "feed_805"})
    simulator.advance(seconds=1)
    assert struct.unpack_from("<H", feed.recv(10), 8)[0] == 805
    with pytest.raises(ConnectionClosed):
        feed.recv(10)


def test_stacked_packets(simulator, feed):
    simulator.post_faults({"fault": "stacked_packets", "for_s": 1})
    simulator.advance(seconds=1)
    (message,) = simulator.pending(feed)
    assert len(simulator.split(message)) == 2
    simulator.advance(seconds=1)
    assert len(simulator.pending(feed)) == 2


def test_unknown_codes_and_garbage(simulator, feed):
    simulator.post_faults({"fault": "unknown_code"}, {"fault": "garbage_frame"})
    simulator.advance(seconds=1)
    got = simulator.pending(feed)
    assert got[0] == b"\xff\x00garba"
    assert got[1] == b"\x00\x08\x00\x00\x00\x00\x00\x00"
    assert [packet[0] for packet in got[2:]] == [2, 2]


@pytest.mark.parametrize(
    ("settings", "test"),
    [
        ({}, math.isnan),
        ({"price": 0}, lambda price: price == 0),
        ({"factor": 1.5}, lambda price: 30_000 < price < 45_000),
    ],
)
def test_bad_prices(settings, test, simulator, feed):
    simulator.post_faults({"fault": "bad_price", **settings})
    simulator.advance(seconds=1)
    prices = [struct.unpack_from("<f", packet, 8)[0] for packet in simulator.pending(feed)]
    assert len(prices) == 3
    assert test(prices[0])
    assert all(20_000 < price < 30_000 for price in prices[1:])


def test_a_wrong_instrument(simulator, feed):
    simulator.post_faults({"fault": "wrong_instrument", "for_s": 1})
    simulator.advance(seconds=1)
    assert {packet[4] for packet in simulator.pending(feed)} == {14}


def test_a_clock_that_is_off_shows_in_the_feed_and_in_the_date(simulator, feed):
    simulator.post_faults({"fault": "clock_skew", "skew_s": -120, "for_s": 60})
    now_s = simulator.clock()["now_ms"] // 1000 + 19_800
    simulator.advance(seconds=1)
    stamps = [struct.unpack_from("<I", packet, 12)[0] for packet in simulator.pending(feed)]
    assert stamps == [now_s - 120] * 2
    assert simulator.call("GET", "/v2/profile").headers["Date"].endswith("04:28:02 GMT")


# -- posting faults -----------------------------------------------------------------------------------------------------

WRONG = {
    "an unknown name": ([{"fault": "gremlins"}], "expected"),
    "no name": ([{"at": {}}], "expected"),
    "an unknown call": ([{"fault": "reset_after", "at": {"call": "make_coffee"}}], "expected one of the calls"),
    "a time that is none": ([{"fault": "feed_reset", "at": {"market_time": "noon"}}], "expected market_time"),
    "something else under at": ([{"fault": "feed_reset", "at": "noon"}], 'expected "at"'),
    "nothing at all": ("feed_reset", "expected"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_fault_that_makes_no_sense_is_refused_and_none_of_its_list_is_taken(name, simulator):
    wishes, words = WRONG[name]
    wishes = [{"fault": "feed_silence"}, *wishes] if isinstance(wishes, list) else wishes
    reply = simulator.session.post(f"{simulator.url}/control/faults", json=wishes, timeout=10)
    assert reply.status_code == 400
    assert words in reply.json()["error"]
    assert reply.json()["faults"].keys() == KNOWN.keys()
    assert simulator.control("GET", "faults") == []


def test_faults_are_shown_and_forgotten(simulator):
    simulator.post_faults({"fault": "server_error", "at": {"call": "order_book"}, "times": 5})
    simulator.call("GET", "/v2/orders")
    (shown,) = simulator.control("GET", "faults")
    assert (shown["fault"], shown["used"], shown["over"]) == ("server_error", 1, False)
    assert simulator.control("DELETE", "faults") == []
    assert simulator.call("GET", "/v2/orders").status_code == 200


def test_every_fault_has_a_test_here():
    names = set(IN_A_CALL) | set(IN_AN_ORDER) | set(IN_ORDER_UPDATES) | set(LASTING_IN_THE_FEED) | set(ONCE_IN_THE_FEED)
    assert names == set(KNOWN)
    text = Path(__file__).read_text()
    assert [name for name in names if not re.search(rf'"{name}"', text)] == []
