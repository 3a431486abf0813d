"""Every packet has Dhan's bytes, and the unmodified SDK reads from them what was put in."""

import asyncio

import pytest
from dhanhq import DhanContext, MarketFeed

from simulator import packets

LTT = 1795425300  # 2026-11-23 09:15:00 IST as the feed writes it

GOLDEN = {
    "ticker of an option": (
        packets.ticker(2, 47317, 101.55, LTT),
        "02 10 00 02 d5 b8 00 00 9a 19 cb 42 14 04 04 6b",
    ),
    "ticker of an index": (
        packets.ticker(0, 13, 24512.35, LTT),
        "02 10 00 00 0d 00 00 00 b3 80 bf 46 14 04 04 6b",
    ),
    "previous close": (
        packets.previous_close(0, 13, 24400.50),
        "06 10 00 00 0d 00 00 00 00 a1 be 46 00 00 00 00",
    ),
    "open interest": (
        packets.open_interest(2, 47317, 3786445),
        "05 0c 00 02 d5 b8 00 00 cd c6 39 00",
    ),
    "quote": (
        packets.quote(
            2, 47317, price=101.55, quantity=65, ltt=LTT, average=99.1, volume=123456, sell_quantity=700,
            buy_quantity=900, day_open=95, close=90.2, high=110, low=88,
        ),
        (
            "04 32 00 02 d5 b8 00 00 9a 19 cb 42 41 00 14 04 04 6b 33 33 c6 42 40 e2 01 00 bc 02 00 00 84 03 00 00 "
            "00 00 be 42 66 66 b4 42 00 00 dc 42 00 00 b0 42"
        ),
    ),
    "disconnection because of too many connections": (
        packets.disconnection(805),
        "32 0a 00 00 00 00 00 00 25 03",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", GOLDEN)
def test_bytes_are_those_of_the_real_feed(name):
    made, golden = GOLDEN[name]
    assert made == bytes.fromhex(golden)


def test_the_feeds_time_is_indias_wall_clock():
    assert packets.wire_seconds(1795405500_000) == LTT  # 2026-11-23 03:45:00 UTC


@pytest.fixture
def sdk(monkeypatch):
    # The SDK installs an event loop for its thread; the test gives it one that it can close.
    loop = asyncio.new_event_loop()
    monkeypatch.setattr(asyncio, "new_event_loop", lambda: loop)
    yield MarketFeed(DhanContext("1000000009", "token"), [])
    asyncio.set_event_loop(None)
    loop.close()


def test_the_sdk_reads_a_full_packet_field_by_field(sdk):
    levels = [(65 * i, 130 * i, i, 2 * i, 101.5 - i / 20, 101.6 + i / 20) for i in range(1, 6)]
    packet = packets.full(
        2, 47317, price=101.55, quantity=65, ltt=LTT, average=99.1, volume=123456, sell_quantity=700,
        buy_quantity=900, interest=5000, interest_high=6000, interest_low=4000, day_open=95, close=90.2, high=110,
        low=88, levels=levels,
    )  # fmt: skip
    assert len(packet) == 162
    read = sdk.process_data(packet)
    assert read | {"depth": None} == {
        "type": "Full Data", "exchange_segment": 2, "security_id": 47317, "LTP": "101.55", "LTQ": 65,
        "LTT": "09:15:00", "avg_price": "99.10", "volume": 123456, "total_sell_quantity": 700,
        "total_buy_quantity": 900, "OI": 5000, "oi_day_high": 6000, "oi_day_low": 4000, "open": "95.00",
        "close": "90.20", "high": "110.00", "low": "88.00", "depth": None,
    }  # fmt: skip
    assert read["depth"][0] == {
        "bid_quantity": 65, "ask_quantity": 130, "bid_orders": 1, "ask_orders": 2, "bid_price": "101.45",
        "ask_price": "101.65",
    }  # fmt: skip
    assert len(read["depth"]) == 5


def test_a_last_quantity_beyond_sixteen_bits_is_capped():
    packet = packets.quote(
        2, 1, price=1, quantity=100_000, ltt=1, average=1, volume=1, sell_quantity=1, buy_quantity=1, day_open=1,
        close=1, high=1, low=1,
    )  # fmt: skip
    assert packet[12:14] == b"\xff\xff"
