"""What every kind of reply means after a write and after a read: could an order be live?"""

import json
from collections import Counter

import pytest

from tasks.broker import (
    AuthenticationDead,
    BrokerError,
    BrokerUnavailable,
    IpRefused,
    OrderOutcomeUnknown,
    OrderRejected,
    RateLimited,
    order_rows,
    wire,
)
from tasks.broker.http import Reply
from tasks.broker.replies import accepted_order_id, answered, is_not_found


def trading(code, message, kind="x"):
    return {"errorType": kind, "errorCode": code, "errorMessage": message}


def data(code, message="why"):
    return {"status": "failed", "data": {code: message}}


BAD_GATEWAY = "<html><head><title>502 Bad Gateway</title></head></html>"

# name: (HTTP status, body, after a write, after a read). A text is what the call returns.
TABLE = {
    "accepted": (200, {"orderId": "112111182198", "orderStatus": "TRANSIT"}, "112111182198", "json"),
    "accepted with a number": (200, {"orderId": 112111182198, "orderStatus": "PENDING"}, "112111182198", "json"),
    "accepted 202": (202, {"orderId": "1", "orderStatus": "CANCELLED"}, "1", "json"),
    "accepted as a slice": (200, [{"orderId": "7", "orderStatus": "TRANSIT"}], "7", "json"),
    "input refused": (400, trading("DH-905", "quantity is required"), OrderRejected, BrokerUnavailable),
    "correlation id refused": (400, trading("DH-905", "Invalid correlationId"), OrderRejected, BrokerUnavailable),
    "order refused": (
        400,
        trading("DH-906", "Incorrect request for order and cannot be processed"),
        OrderRejected,
        BrokerUnavailable,
    ),
    "order in transit": (400, trading("DH-906", "Order is in Transit state"), BrokerUnavailable, BrokerUnavailable),
    "address refused": (400, trading("DH-905", "Invalid IP"), IpRefused, IpRefused),
    "token dead by DH-906": (400, trading("DH-906", "Invalid Token"), AuthenticationDead, AuthenticationDead),
    "token dead by DH-906, 401": (401, trading("DH-906", "Invalid Token"), AuthenticationDead, AuthenticationDead),
    "token dead by DH-901": (
        401,
        trading("DH-901", "Client ID or user generated access token is invalid or expired."),
        AuthenticationDead,
        AuthenticationDead,
    ),
    "rate limit": (429, trading("DH-904", "Too many requests on server"), RateLimited, RateLimited),
    "data: too many requests": (429, data("805"), RateLimited, RateLimited),
    "data: token expired": (401, data("807"), AuthenticationDead, AuthenticationDead),
    "data: token invalid": (400, data("809"), AuthenticationDead, AuthenticationDead),
    "data: plan inactive, 401": (401, data("806"), OrderRejected, BrokerUnavailable),
    "data: plan inactive, 200": (200, data("806"), OrderOutcomeUnknown, BrokerUnavailable),
    "data: bad id": (400, data("813"), OrderRejected, BrokerUnavailable),
    "internal error in a 400": (400, trading("DH-908", "internal"), OrderOutcomeUnknown, BrokerUnavailable),
    "network error in a 400": (400, trading("DH-909", "network"), OrderOutcomeUnknown, BrokerUnavailable),
    "500 with a code": (500, trading("DH-908", "internal"), OrderOutcomeUnknown, BrokerUnavailable),
    "500 with a refusal's code": (
        500,
        trading("DH-906", "Incorrect request for order and cannot be processed"),
        OrderOutcomeUnknown,
        BrokerUnavailable,
    ),
    "502 with a refusal's code": (502, trading("DH-905", "bad"), OrderOutcomeUnknown, BrokerUnavailable),
    "502 page": (502, BAD_GATEWAY, OrderOutcomeUnknown, BrokerUnavailable),
    "200 page": (200, BAD_GATEWAY, OrderOutcomeUnknown, BrokerUnavailable),
    "403 page": (403, "<html>Forbidden</html>", OrderOutcomeUnknown, BrokerUnavailable),
    "429 page": (429, "slow down", OrderOutcomeUnknown, RateLimited),
    "401 page": (401, "", OrderOutcomeUnknown, AuthenticationDead),
    "404 of the gateway": (
        404,
        {"timestamp": 1788844290451, "status": 404, "error": "Not Found", "path": "/v2/x"},
        OrderOutcomeUnknown,
        BrokerUnavailable,
    ),
    "408": (408, trading("DH-906", "timeout"), OrderOutcomeUnknown, BrokerUnavailable),
    "302": (302, "", OrderOutcomeUnknown, BrokerUnavailable),
    "empty 202": (202, "", OrderOutcomeUnknown, BrokerUnavailable),
    "empty 200": (200, "", OrderOutcomeUnknown, BrokerUnavailable),
    "half a JSON": (200, '{"orderId": "1121', OrderOutcomeUnknown, BrokerUnavailable),
    "null": (200, "null", OrderOutcomeUnknown, BrokerUnavailable),
    "NaN is no JSON": (200, '{"orderId": NaN}', OrderOutcomeUnknown, BrokerUnavailable),
    "no order id": (200, {"orderStatus": "TRANSIT"}, OrderOutcomeUnknown, "json"),
    "empty order id": (200, {"orderId": " ", "orderStatus": "TRANSIT"}, OrderOutcomeUnknown, "json"),
    "order id null": (200, {"orderId": None}, OrderOutcomeUnknown, "json"),
    "error dressed as success": (200, [{"message": "x", "status": "ERROR"}], OrderOutcomeUnknown, "json"),
    "error code in a 200": (200, trading("DH-905", "Invalid IP"), OrderOutcomeUnknown, IpRefused),
    "code without text": (400, {"errorCode": "DH-905"}, OrderRejected, BrokerUnavailable),
    "text without code": (400, {"errorMessage": "no"}, OrderOutcomeUnknown, BrokerUnavailable),
    "list in a 400": (400, ["no"], OrderOutcomeUnknown, BrokerUnavailable),
    "not UTF-8": (200, b"\xff\xfe\x00", OrderOutcomeUnknown, BrokerUnavailable),
}


def reply_of(status, body):
    return Reply(
        status, body if isinstance(body, bytes) else (body if isinstance(body, str) else json.dumps(body)).encode()
    )


@pytest.mark.parametrize("name", TABLE)
def test_a_reply_to_a_write_says_whether_an_order_could_be_live(name):
    status, body, expected, _ = TABLE[name]
    if isinstance(expected, str):
        assert accepted_order_id(reply_of(status, body)) == expected
    else:
        with pytest.raises(expected) as raised:
            accepted_order_id(reply_of(status, body))
        assert type(raised.value) is expected


@pytest.mark.parametrize("name", TABLE)
def test_a_reply_to_a_read_is_an_answer_or_unavailable(name):
    status, body, _, expected = TABLE[name]
    if expected == "json":
        assert answered(reply_of(status, body)) == body
    else:
        with pytest.raises(expected) as raised:
            answered(reply_of(status, body))
        assert type(raised.value) is expected


ROW = {
    "orderId": "112111182198", "orderStatus": "PENDING", "correlationId": "c-1", "transactionType": "BUY", "quantity": 65,
    "exchangeSegment": "NSE_FNO", "securityId": "47317", "price": 101.5, "filledQty": 65, "averageTradedPrice": 101.55,
    "updateTime": "2026-11-20 10:00:01", "omsErrorDescription": "CONFIRMED",
}  # fmt: skip
REFUSAL = trading("DH-906", "Order is in Transit state") | {"status": "failed", "data": {"805": "why"}}


@pytest.mark.parametrize(("found", "status"), [(ROW, 200), (REFUSAL, 400), (REFUSAL, 200)])
def test_a_spoilt_reply_is_an_answer_or_an_error_of_the_tree(found, status, spoilt):
    ends = Counter()
    for body in spoilt(found, 3_000):
        reply = Reply(status, body)
        for read in (accepted_order_id, lambda reply: wire.rows(answered(reply), order_rows.order), is_not_found):
            try:
                read(reply)
                ends["read"] += 1
            except (BrokerError, wire.WireError) as error:
                ends[type(error).__name__] += 1
    assert len(ends) >= 3, ends


def test_only_the_broker_s_own_words_mean_that_there_is_no_such_order():
    unknown = trading("DH-906", "Incorrect request for order and cannot be processed")
    assert is_not_found(reply_of(404, unknown))
    assert not is_not_found(reply_of(404, TABLE["404 of the gateway"][1]))
    assert not is_not_found(reply_of(404, trading("DH-906", "Invalid Token")))
    assert not is_not_found(reply_of(502, unknown))


def test_an_unknown_outcome_says_what_was_found_and_what_to_do():
    with pytest.raises(OrderOutcomeUnknown, match=r"HTTP 502.*Bad Gateway.*look the order up"):
        accepted_order_id(reply_of(502, BAD_GATEWAY))
