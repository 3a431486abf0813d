"""Bytes of Dhan's market feed into ticks: every packet of a message, numbers only.

A WebSocket message holds one or more packets, little-endian: code (u8), whole length (u16), segment (u8),
security id (u32), then the payload. Prices are float32 rupees and are rounded to what the exchange can mean:
5 paise for derivatives, a paisa for an index. LTT is India's wall clock written as Unix seconds, so UTC is
LTT - 19,800 s.

Invariants:
1. Nothing raises, whatever the bytes: what cannot be read is counted in `malformed` and left out.
2. Every packet whose extent is readable counts once in `packets` and in `packets_by_code`, also of an unknown code.
3. A Tick has a positive price below ₹1 crore and a plausible time; anything else is a PoisonedTick.
"""

from dataclasses import dataclass
from math import floor
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
_LEAST_PRICE: Final = 0.05  # above this a price is no less than one of its steps

# Length, instrument (segment and id, five bytes) and what a tick needs; x skips.
_ticker = Struct("<xH5sfI").unpack_from
_quote = Struct("<xH5sf2xI").unpack_from
_full = Struct("<xH5sf2xI56xff").unpack_from  # with bid and ask of the first depth level
_header = Struct("<BH").unpack_from
_instrument = Struct("<BI").unpack
_reason = Struct("<H").unpack_from
# A ticker with its eight bytes of header as one number: known once, they need no other look.
_known_ticker = Struct("<QfI")
_lone_ticker, _ticker_within = _known_ticker.unpack, _known_ticker.unpack_from

_packed = tuple.__new__  # a Tick without the call of its own __new__, which takes longer than all the rest
_INSTRUMENTS_LIMIT: Final = 20_000


@dataclass(frozen=True, slots=True)
class Disconnect:
    """The server says that it is about to close, and why (805: too many connections)."""

    code: int


Decoded = Tick | PoisonedTick | Disconnect
_Instrument = tuple[str, float, int]


class Decoder:
    """Decodes the messages of one feed; not for two threads at once."""

    __slots__ = ("_at_ms", "_instruments", "_looked_at", "_ltt", "_tickers", "malformed", "packets")

    def __init__(self) -> None:
        self.packets = 0
        self.malformed = 0
        # Packets by code, but for tickers of a known header, which are the rest of `packets`.
        self._looked_at: dict[int, int] = {}
        # Five bytes on the wire -> the security's name, its price steps in a rupee, and a step in paise.
        self._instruments: dict[bytes, _Instrument] = {}
        # The whole header of a sound ticker as a number -> the same.
        self._tickers: dict[int, _Instrument] = {}
        # The LTT of the last known ticker and its time: most packets share their second with the one before.
        self._ltt, self._at_ms = _FIRST_LTT, _FIRST_LTT * 1000 - _IST_OFFSET_MS

    @property
    def packets_by_code(self) -> dict[int, int]:
        """How many packets of each code there were."""
        counts = dict(self._looked_at)
        if quick := self.packets - sum(counts.values()):
            counts[TICKER] = counts.get(TICKER, 0) + quick
        return counts

    def decode(self, message: bytes) -> list[Decoded]:
        """All events in `message`, in its order. Never raises."""
        size = len(message)
        if size == TICKER_LENGTH:
            # What the feed brings most, a ticker alone in its message: the same as in the loop below, without the loop.
            header, price, ltt = _lone_ticker(message)
            try:
                security, steps, step_paise = self._tickers[header]
            except KeyError:
                pass
            else:
                if _LEAST_PRICE < price < _RUPEES_LIMIT and ltt >= _FIRST_LTT:
                    if ltt != self._ltt:
                        self._ltt, self._at_ms = ltt, ltt * 1000 - _IST_OFFSET_MS
                    self.packets += 1
                    return [_packed(Tick, (self._at_ms, security, floor(price * steps + 0.5) * step_paise, 0, 0))]
        tickers = self._tickers
        events: list[Decoded] = []
        offset = others = 0
        while offset < size:
            if size - offset >= TICKER_LENGTH:
                header, price, ltt = _ticker_within(message, offset)
                known = tickers.get(header)
                if known and _LEAST_PRICE < price < _RUPEES_LIMIT and ltt >= _FIRST_LTT:
                    security, steps, step_paise = known
                    price_paise = floor(price * steps + 0.5) * step_paise
                    events.append(_packed(Tick, (ltt * 1000 - _IST_OFFSET_MS, security, price_paise, 0, 0)))
                    offset += TICKER_LENGTH
                    continue
            before = len(events)
            length = self._take(message, offset, events)
            if not length:
                self.malformed += 1
                break
            others += len(events) == before  # a packet that says nothing of a price
            code = message[offset]
            self._looked_at[code] = self._looked_at.get(code, 0) + 1
            offset += length
        self.packets += len(events) + others
        return events

    def _take(self, message: bytes, offset: int, events: list[Decoded]) -> int:
        """Decode any packet; its length, or 0 where it has no readable extent."""
        code, left = message[offset], len(message) - offset
        bid = ask = 0.0
        if code == FULL and left >= FULL_LENGTH:
            stated, instrument, price, ltt, bid, ask = _full(message, offset)
            least = FULL_LENGTH
        elif code == TICKER and left >= TICKER_LENGTH:
            stated, instrument, price, ltt = _ticker(message, offset)
            least = TICKER_LENGTH
        elif code == QUOTE and left >= QUOTE_LENGTH:
            stated, instrument, price, ltt = _quote(message, offset)
            least = QUOTE_LENGTH
        else:
            return self._skip(message, offset, events)
        length = least if stated == least else _extent(stated, least, left)
        if not length:
            return 0
        known = self._instruments.get(instrument) or self._learn(instrument)
        security, steps, step_paise = known
        at_ms = ltt * 1000 - _IST_OFFSET_MS
        # A comparison with "not a number" is false: this refuses it along with infinity and zero.
        if 0.0 < price < _RUPEES_LIMIT and ltt >= _FIRST_LTT and (price_steps := floor(price * steps + 0.5)):
            bid_paise = floor(bid * steps + 0.5) * step_paise if 0.0 < bid < _RUPEES_LIMIT else 0
            ask_paise = floor(ask * steps + 0.5) * step_paise if 0.0 < ask < _RUPEES_LIMIT else 0
            events.append(_packed(Tick, (at_ms, security, price_steps * step_paise, bid_paise, ask_paise)))
            if stated == TICKER_LENGTH and code == TICKER and len(self._tickers) < _INSTRUMENTS_LIMIT:
                self._tickers[_ticker_within(message, offset)[0]] = known
        else:
            events.append(PoisonedTick(at_ms=at_ms, security=security, found=f"price {price!r} at LTT {ltt}"))
        return length

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

    def _learn(self, instrument: bytes) -> _Instrument:
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
