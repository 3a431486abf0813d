"""Bytes of Dhan's market feed into ticks: every packet of a message, numbers only.

A WebSocket message holds one or more packets, little-endian: code (u8), whole length (u16), segment (u8),
security id (u32), then the payload. Prices are float32 rupees and are rounded to what the exchange can mean:
5 paise for derivatives, a paisa for an index. LTT is India's wall clock written as Unix seconds, so UTC is
LTT - 19,800 s.

Invariants:
1. Nothing raises, whatever the bytes: what cannot be read is counted in `malformed` and left out.
2. Every packet whose extent is readable counts once in `packets`, also one of an unknown code.
3. A Tick has a positive price below ₹1 crore and a plausible time; anything else is a PoisonedTick.
"""

from dataclasses import dataclass
from struct import Struct
from typing import Final

from strategy.events import PoisonedTick, Tick

SEGMENTS: Final = {
    0: "IDX_I",
    1: "NSE_EQ",
    2: "NSE_FNO",
    3: "NSE_CURRENCY",
    4: "BSE_EQ",
    5: "MCX_COMM",
    7: "BSE_CURRENCY",
    8: "BSE_FNO",
}
TICKER, QUOTE, OPEN_INTEREST, PREVIOUS_CLOSE, STATUS, FULL, DISCONNECT = 2, 4, 5, 6, 7, 8, 50
HEADER_LENGTH, TICKER_LENGTH, QUOTE_LENGTH, FULL_LENGTH = 8, 16, 50, 162
_LENGTHS: Final = {
    TICKER: TICKER_LENGTH,
    QUOTE: QUOTE_LENGTH,
    OPEN_INTEREST: 12,
    PREVIOUS_CLOSE: 16,
    STATUS: HEADER_LENGTH,
    FULL: FULL_LENGTH,
    DISCONNECT: 10,
}
_DERIVATIVES: Final = frozenset({"NSE_FNO", "BSE_FNO"})  # prices in steps of 5 paise

_IST_OFFSET_MS: Final = 19_800_000
# Before this the feed's time is not a time (0: never traded). 2020-01-01 as the feed writes it.
_FIRST_LTT: Final = 1_577_836_800 + 19_800
_RUPEES_LIMIT: Final = 1e7  # ₹1 crore: no index or premium is near it

# Code, length, instrument (segment and id, five bytes) and what a tick needs; x skips.
_ticker = Struct("<BH5sfI").unpack_from
_quote = Struct("<BH5sf2xI").unpack_from
_full = Struct("<BH5sf2xI56xff").unpack_from  # with bid and ask of the first depth level
_header = Struct("<BH").unpack_from
_instrument = Struct("<BI").unpack
_reason = Struct("<H").unpack_from

# A frozen dataclass sets each field by name. The slots' own setters make the same object in a third of the
# time, and the feed makes one for every packet.
_new = object.__new__
_set_at, _set_security, _set_price, _set_bid, _set_ask = (
    getattr(Tick, name).__set__ for name in ("at_ms", "security", "price_paise", "bid_paise", "ask_paise")
)
_INSTRUMENTS_LIMIT: Final = 20_000


@dataclass(frozen=True, slots=True)
class Disconnect:
    """The server says that it is about to close, and why (805: too many connections)."""

    code: int


Decoded = Tick | PoisonedTick | Disconnect


class Decoder:
    """Decodes the messages of one feed; not for two threads at once."""

    def __init__(self) -> None:
        self.packets = 0
        self.malformed = 0
        # Five bytes on the wire -> the security's name, its price steps in a rupee, and a step in paise.
        self._instruments: dict[bytes, tuple[str, float, int]] = {}

    def decode(self, message: bytes) -> list[Decoded]:
        """All events in `message`, in its order. Never raises."""
        events: list[Decoded] = []
        instruments = self._instruments
        size = len(message)
        offset = packets = 0
        while offset < size:
            code = message[offset]
            left = size - offset
            bid = ask = 0.0
            if code == TICKER and left >= TICKER_LENGTH:
                _, length, instrument, price, ltt = _ticker(message, offset)
                least = TICKER_LENGTH
            elif code == FULL and left >= FULL_LENGTH:
                _, length, instrument, price, ltt, bid, ask = _full(message, offset)
                least = FULL_LENGTH
            elif code == QUOTE and left >= QUOTE_LENGTH:
                _, length, instrument, price, ltt = _quote(message, offset)
                least = QUOTE_LENGTH
            else:
                length = self._skip(message, offset, events)
                if not length:
                    self.malformed += 1
                    break
                packets += 1
                offset += length
                continue
            if length != least:
                length = _extent(length, least, left)
                if not length:
                    self.malformed += 1
                    break
            packets += 1
            offset += length
            security, steps, step_paise = instruments.get(instrument) or self._learn(instrument)
            # A comparison with "not a number" is false: this refuses it along with infinity and zero.
            if 0.0 < price < _RUPEES_LIMIT and ltt >= _FIRST_LTT and (price_steps := round(price * steps)):
                tick: Tick = _new(Tick)
                _set_at(tick, ltt * 1000 - _IST_OFFSET_MS)
                _set_security(tick, security)
                _set_price(tick, price_steps * step_paise)
                _set_bid(tick, round(bid * steps) * step_paise if 0.0 < bid < _RUPEES_LIMIT else 0)
                _set_ask(tick, round(ask * steps) * step_paise if 0.0 < ask < _RUPEES_LIMIT else 0)
                events.append(tick)
            else:
                found = f"price {price!r} at LTT {ltt}"
                events.append(PoisonedTick(at_ms=ltt * 1000 - _IST_OFFSET_MS, security=security, found=found))
        self.packets += packets
        return events

    def _skip(self, message: bytes, offset: int, events: list[Decoded]) -> int:
        """The length of a packet that carries no price, or 0 where it has no readable extent."""
        left = len(message) - offset
        if left < HEADER_LENGTH:
            return 0
        code, stated = _header(message, offset)
        least = _LENGTHS.get(code, HEADER_LENGTH)
        length = _extent(stated, least, left) if stated or code in _LENGTHS else 0
        if length and code == DISCONNECT:
            events.append(Disconnect(_reason(message, offset + HEADER_LENGTH)[0]))
        return length

    def _learn(self, instrument: bytes) -> tuple[str, float, int]:
        if len(self._instruments) >= _INSTRUMENTS_LIMIT:
            self._instruments.clear()  # only garbage names so many
        segment, security_id = _instrument(instrument)
        name = SEGMENTS.get(segment, str(segment))
        learnt = (f"{name}:{security_id}", *((20.0, 5) if name in _DERIVATIVES else (100.0, 1)))
        self._instruments[instrument] = learnt
        return learnt


def _extent(stated: int, least: int, left: int) -> int:
    """The packet's length, or 0 where it cannot be. A stated 0 (seen on the wire) means the least."""
    length = stated or least
    return length if least <= length <= left else 0
