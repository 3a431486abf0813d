"""The bytes of Dhan's market feed: one function per packet, little-endian, prices as float32.

Offsets and codes are those of the v2 feed. A packet starts with code (u8), whole length (u16), segment (u8) and
security id (u32). "LTT" is India's wall clock written as if it were UTC: Unix seconds plus 19,800.
"""

import struct
from collections.abc import Sequence
from itertools import chain

SEGMENT_CODES = {
    "IDX_I": 0,
    "NSE_EQ": 1,
    "NSE_FNO": 2,
    "NSE_CURRENCY": 3,
    "BSE_EQ": 4,
    "MCX_COMM": 5,
    "BSE_CURRENCY": 7,
    "BSE_FNO": 8,
}
IST_OFFSET_S = 19_800
LTQ_LIMIT = 0xFFFF  # the wire has 16 bits for the last traded quantity

_TICKER = struct.Struct("<BHBIfI")
_QUOTE = struct.Struct("<BHBIfHIfIIIffff")
_OPEN_INTEREST = struct.Struct("<BHBII")
_FULL = struct.Struct("<BHBIfHIfIIIIIIffff")
_LEVELS = struct.Struct("<" + 5 * "IIHHff")
_HEADER = struct.Struct("<BHBI")
_DISCONNECT = struct.Struct("<BHBIH")

Level = tuple[int, int, int, int, float, float]
"""One depth level: bid quantity, ask quantity, bid orders, ask orders, bid, ask (rupees)."""


def wire_seconds(at_ms: int) -> int:
    """The feed's LTT of a moment in Unix milliseconds."""
    return at_ms // 1000 + IST_OFFSET_S


def ticker(segment: int, security_id: int, price: float, ltt: int) -> bytes:
    """Code 2, 16 bytes: last price and its time."""
    return _TICKER.pack(2, 16, segment, security_id, price, ltt)


def previous_close(segment: int, security_id: int, price: float, open_interest: int = 0) -> bytes:
    """Code 6, 16 bytes: yesterday's close, sent for indices after subscribing."""
    return _TICKER.pack(6, 16, segment, security_id, price, open_interest)


def open_interest(segment: int, security_id: int, contracts: int) -> bytes:
    """Code 5, 12 bytes: sent beside quote packets of derivatives."""
    return _OPEN_INTEREST.pack(5, 12, segment, security_id, contracts)


def quote(
    segment: int,
    security_id: int,
    *,
    price: float,
    quantity: int,
    ltt: int,
    average: float,
    volume: int,
    sell_quantity: int,
    buy_quantity: int,
    day_open: float,
    close: float,
    high: float,
    low: float,
) -> bytes:
    """Code 4, 50 bytes. `close` is the previous session's, all day long."""
    return _QUOTE.pack(
        4, 50, segment, security_id, price, min(quantity, LTQ_LIMIT), ltt, average, volume,
        sell_quantity, buy_quantity, day_open, close, high, low,
    )  # fmt: skip


def full(
    segment: int,
    security_id: int,
    *,
    price: float,
    quantity: int,
    ltt: int,
    average: float,
    volume: int,
    sell_quantity: int,
    buy_quantity: int,
    interest: int,
    interest_high: int,
    interest_low: int,
    day_open: float,
    close: float,
    high: float,
    low: float,
    levels: Sequence[Level],
) -> bytes:
    """Code 8, 162 bytes: the quote, open interest and five depth levels."""
    head = _FULL.pack(
        8, 162, segment, security_id, price, min(quantity, LTQ_LIMIT), ltt, average, volume,
        sell_quantity, buy_quantity, interest, interest_high, interest_low, day_open, close, high, low,
    )  # fmt: skip
    return head + _LEVELS.pack(*chain.from_iterable(levels))


def header_only(code: int, segment: int, security_id: int) -> bytes:
    """An 8-byte packet without payload: the undocumented heartbeat (0) and market status (7)."""
    return _HEADER.pack(code, 8, segment, security_id)


def disconnection(reason: int) -> bytes:
    """Code 50, 10 bytes: why the server is about to close (805: too many connections)."""
    return _DISCONNECT.pack(50, 10, 0, 0, reason)
