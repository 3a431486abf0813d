"""The market feed: who subscribed to what, and the packets that go out as the market moves.

Invariants:
1. Packets leave only while a stretch of the market is played (see stage.py), in order of market time.
2. A connection gets packets of what it subscribed to and nothing else; index packets precede option packets of a
   moment.
3. `packets_sent` counts what was written to connections that were open then, packet by packet, and
   `packets_by_connection` the same by code; the epoch counts are those of the client that drives the clock.
"""

import json
import math
from collections import Counter, deque
from collections.abc import Callable
from typing import Any

from simulator import packets
from simulator.credentials import Credentials
from simulator.faults import Fault, Faults
from simulator.instruments import Listed
from simulator.market import Market, Summary, index_of
from simulator.packets import SEGMENT_CODES, wire_seconds
from simulator.wire import WebSocket
from strategy.instruments import Index

CONNECTIONS_MAX = 5
INSTRUMENTS_MAX = 5_000
INSTRUMENTS_PER_MESSAGE = 100
_MODES = {15: "ticker", 17: "quote", 21: "full"}
_DISCONNECT_REQUEST = 12
_TOO_MANY_CONNECTIONS = 805
_AUTHENTICATION_FAILED = 808
_OPEN_INTEREST_PERIOD_MS = 60_000


class FeedSession:
    """One connection to the market feed."""

    def __init__(self, socket: WebSocket, *, stacked: bool, epoch: int) -> None:
        self.socket = socket
        self.epoch = epoch
        self.stacked = stacked
        self.modes: dict[str, str] = {}
        self.newcomers: list[str] = []  # subscribed since the last packets: they are introduced first
        self.outgoing: list[tuple[int, bytes]] = []
        self.sent: Counter[int] = Counter()  # packets by code
        self.late: deque[tuple[int, bytes]] = deque()  # with the moment when each is due


class FeedRoom:
    """All connections of the market feed."""

    def __init__(self, market: Market, credentials: Credentials, faults: Faults, *, stacked: bool = False) -> None:
        self.sessions: dict[WebSocket, FeedSession] = {}
        self.stacked = stacked
        self.packets_sent = 0
        self.packets_by_connection: list[Counter[int]] = []  # in the order in which they were opened
        self.epoch_packets = 0
        self.epoch_messages = 0
        self.cut_off = 0  # subscribed connections that the simulator cut and that have not come back
        self.refused_until_ms = 0
        self._epoch = 0
        self.on_message = _nothing
        self._market = market
        self._credentials = credentials
        self._faults = faults
        self._ready: dict[tuple[str, str, int], list[bytes]] = {}  # by security, mode and moment; see `prepare`

    # -- the WebSocket's side ---------------------------------------------------------------------------------------

    def opened(self, socket: WebSocket) -> None:
        """A client connected: a sixth connection costs the oldest one its life."""
        query = socket.request.query
        session = FeedSession(socket, stacked=query.get("stack") == "1", epoch=self._epoch)
        self.sessions[socket] = session
        self.packets_by_connection.append(session.sent)
        if not self._credentials.accepts(query.get("token", ""), query.get("clientId", "")):
            self._dismiss(session, _AUTHENTICATION_FAILED)
        elif len(self.sessions) > CONNECTIONS_MAX:
            self._dismiss(next(iter(self.sessions.values())), _TOO_MANY_CONNECTIONS)

    def message(self, socket: WebSocket, payload: bytes) -> None:
        """A subscription; anything else is ignored, as the real feed does."""
        session = self.sessions.get(socket)
        if session is None:
            return
        try:
            wish = json.loads(payload)
        except (ValueError, UnicodeDecodeError):
            wish = None
        if isinstance(wish, dict):
            self._subscribe(session, wish)

    def closed(self, socket: WebSocket) -> None:
        """The connection is gone."""
        self.sessions.pop(socket, None)

    def begin_epoch(self) -> None:
        """A new driver of the market's clock counts from nothing, and only connections that are opened from now on."""
        self._epoch += 1
        self.epoch_packets = self.epoch_messages = self.cut_off = 0

    def takes_connections(self, now_ms: int) -> bool:
        """False during an outage: upgrades are refused."""
        return now_ms >= self.refused_until_ms and self._faults.lasting("feed_refused", now_ms) is None

    def give_up_waiting(self, messages: int) -> None:
        """Connections that were cut do not come back, and messages died on their way: neither is waited for again."""
        self.cut_off = 0
        self.epoch_messages = max(self.epoch_messages, messages)

    def _subscribe(self, session: FeedSession, wish: dict[str, Any]) -> None:
        code = wish.get("RequestCode")
        if code == _DISCONNECT_REQUEST:
            session.socket.close()
            return
        instruments = wish.get("InstrumentList")
        if not isinstance(code, int) or not isinstance(instruments, list):
            return
        if session.epoch == self._epoch:
            self.epoch_messages += 1
            if not session.modes and code in _MODES:
                self.cut_off = max(0, self.cut_off - 1)
        for instrument in instruments[:INSTRUMENTS_PER_MESSAGE]:
            # The real feed knows ids as text only: a number subscribes to nothing.
            if not isinstance(instrument, dict) or not isinstance(instrument.get("SecurityId"), str):
                continue
            security = f"{instrument.get('ExchangeSegment')}:{instrument['SecurityId']}"
            if code in _MODES:
                if len(session.modes) < INSTRUMENTS_MAX:
                    session.modes[security] = _MODES[code]
                    session.newcomers.append(security)
            elif code - 1 in _MODES:
                session.modes.pop(security, None)
        self.on_message()

    def _dismiss(self, session: FeedSession, reason: int) -> None:
        goodbye = packets.disconnection(reason)
        self._count(session, [goodbye])
        session.socket.send_binary([goodbye])
        session.socket.close()

    def _count(self, session: FeedSession, written: list[bytes]) -> None:
        self.packets_sent += len(written)
        session.sent.update([packet[0] for packet in written])
        if session.epoch == self._epoch:
            self.epoch_packets += len(written)

    # -- the market's side ------------------------------------------------------------------------------------------

    def wanted(self) -> set[str]:
        """Every security that somebody subscribed to."""
        return {security for session in self.sessions.values() for security in session.modes}

    def begin(self, now_ms: int) -> None:
        """Before a stretch is played: newcomers are introduced."""
        if self._faults.any_posted():
            self._ready.clear()  # a fault may change what a packet says
        for session in self.sessions.values():
            newcomers, session.newcomers = session.newcomers, []
            for security in newcomers:
                if security in session.modes:
                    session.outgoing += [
                        (now_ms, packet) for packet in self._introduction(security, session.modes[security])
                    ]

    def prepare(self, from_ms: int, until_ms: int) -> None:
        """Pack what those who are subscribed now will get in [from, until), while they are busy with what they got.

        A packet is a function of the market, so it does not matter when it is made; what nobody wants then is left.
        """
        self._ready.clear()
        if self._faults.any_posted():
            return
        prints = self._market.print_times(from_ms, until_ms)
        for security, mode in {wanted for session in self.sessions.values() for wanted in session.modes.items()}:
            index = index_of(security)
            listed = self._market.listing.by_security.get(security)
            if index is not None:
                for at_ms in self._market.paths[index.underlying].times(from_ms, until_ms):
                    self._ready[security, mode, at_ms] = self._index_packets(index, mode, at_ms)
            elif listed is not None:
                for at_ms in prints:
                    self._ready[security, mode, at_ms] = self._option_packets(listed, mode, at_ms)

    def index_ticked(self, index: Index, at_ms: int) -> None:
        """One index tick."""
        self._publish(index.security, at_ms, lambda mode: self._index_packets(index, mode, at_ms))

    def option_printed(self, listed: Listed, at_ms: int) -> None:
        """One option print."""
        self._publish(listed.security, at_ms, lambda mode: self._option_packets(listed, mode, at_ms))

    def flush(self, now_ms: int) -> None:
        """Write what has gathered; late packets when their time has come."""
        lag = self._faults.lasting("feed_lag", now_ms) if self._faults.any_posted() else None
        stacking = self.stacked or bool(self._faults.any_posted() and self._faults.lasting("stacked_packets", now_ms))
        for session in self.sessions.values():
            if lag is not None:
                delay_ms = round(lag.number("lag_s", 5.0) * 1000)
                session.late.extend((at + delay_ms, packet) for at, packet in session.outgoing)
                session.outgoing = []
            # A connection keeps the order of its bytes: what was late goes first, all of it once the lag is over.
            due: list[tuple[int, bytes]] = []
            while session.late and (lag is None or session.late[0][0] <= now_ms):
                due.append(session.late.popleft())
            session.outgoing = due + session.outgoing
            if session.outgoing:
                self._write(session, stacked=stacking or session.stacked)

    def _write(self, session: FeedSession, *, stacked: bool) -> None:
        outgoing = [packet for _, packet in session.outgoing]
        session.outgoing = []
        self._count(session, outgoing)
        session.socket.send_binary([b"".join(outgoing)] if stacked else outgoing)

    def _publish(self, security: str, at_ms: int, pack: Callable[[str], list[bytes]]) -> None:
        packed: dict[str, list[bytes]] = {}
        for session in self.sessions.values():
            mode = session.modes.get(security)
            if mode is None or self._is_silent(security, at_ms):
                continue
            if mode not in packed:
                packed[mode] = self._ready.get((security, mode, at_ms)) or pack(mode)
            session.outgoing += [(at_ms, packet) for packet in packed[mode]]

    def _is_silent(self, security: str, at_ms: int) -> bool:
        if not self._faults.any_posted():
            return False
        silence = self._faults.lasting("feed_silence", at_ms)
        return silence is not None and security in silence.settings.get("securities", [security])

    def _number(self, security_id: int, at_ms: int) -> int:
        if self._faults.any_posted() and self._faults.lasting("wrong_instrument", at_ms):
            return security_id + 1
        return security_id

    def _ltt(self, at_ms: int) -> int:
        if not self._faults.any_posted():
            return wire_seconds(at_ms)
        skew = self._faults.lasting("clock_skew", at_ms)
        return wire_seconds(at_ms + (round(skew.number("skew_s", 30.0) * 1000) if skew else 0))

    def _index_packets(self, index: Index, mode: str, at_ms: int) -> list[bytes]:
        number = self._number(int(index.security_id), at_ms)
        if mode == "ticker":
            price = self._market.spot_paise(index.underlying, at_ms) / 100
            return [packets.ticker(0, number, price, self._ltt(at_ms))]
        day = self._market.index_summary(index, at_ms)
        return [self._quote_packet(0, number, day, self._ltt(at_ms))]

    def _option_packets(self, listed: Listed, mode: str, at_ms: int) -> list[bytes]:
        segment, number, ltt = listed.segment_code, self._number(listed.security_id, at_ms), self._ltt(at_ms)
        if mode == "ticker":
            return [packets.ticker(segment, number, self._market.print_at(listed, at_ms) / 100, ltt)]
        day = self._market.option_summary(listed, at_ms)
        depth = self._market.depth(listed, at_ms)
        bid_total = sum([quantity for _, quantity, _ in depth.bids])
        ask_total = sum([quantity for _, quantity, _ in depth.asks])
        if mode == "quote":
            made = [self._quote_packet(segment, number, day, ltt, buy=bid_total, sell=ask_total)]
            if at_ms % _OPEN_INTEREST_PERIOD_MS < 1000:
                made.append(packets.open_interest(segment, number, day.open_interest))
            return made
        return [
            packets.full(
                segment, number,
                price=day.last_paise / 100, quantity=day.last_quantity, ltt=ltt, average=day.average_paise / 100,
                volume=day.volume, sell_quantity=ask_total, buy_quantity=bid_total,
                interest=day.open_interest, interest_high=day.open_interest, interest_low=day.open_interest,
                day_open=day.open_paise / 100, close=day.previous_close_paise / 100, high=day.high_paise / 100,
                low=day.low_paise / 100, levels=depth.levels(),
            )
        ]  # fmt: skip

    def _quote_packet(self, segment: int, number: int, day: Summary, ltt: int, *, buy: int = 0, sell: int = 0) -> bytes:
        return packets.quote(
            segment, number,
            price=day.last_paise / 100, quantity=day.last_quantity, ltt=ltt, average=day.average_paise / 100,
            volume=day.volume, sell_quantity=sell, buy_quantity=buy, day_open=day.open_paise / 100,
            close=day.previous_close_paise / 100, high=day.high_paise / 100, low=day.low_paise / 100,
        )  # fmt: skip

    def _introduction(self, security: str, mode: str) -> list[bytes]:
        """What a new subscription gets first: yesterday's close of an index, open interest of an option in quotes."""
        index = index_of(security)
        if index is not None:
            close = self._market.paths[index.underlying].previous_close_paise / 100
            return [packets.previous_close(SEGMENT_CODES["IDX_I"], int(index.security_id), close)]
        listed = self._market.listing.by_security.get(security)
        if listed is not None and mode == "quote":
            interest = self._market.open_interest(listed)
            return [packets.open_interest(listed.segment_code, listed.security_id, interest)]
        return []

    def strike(self, fault: Fault, now_ms: int) -> None:
        """Carry out a fault that happens once."""
        if fault.name == "feed_reset":
            self.refused_until_ms = now_ms + round(fault.number("outage_s", 0.0) * 1000)
            for session in list(self.sessions.values()):
                self._cut(session)
                session.socket.reset()
        elif fault.name == "feed_805" and self.sessions:
            oldest = next(iter(self.sessions.values()))
            self._cut(oldest)
            self._dismiss(oldest, _TOO_MANY_CONNECTIONS)
        elif fault.name == "unknown_code":
            self._to_all(now_ms, packets.header_only(0, 0, 0))
        elif fault.name == "garbage_frame":
            for socket in self.sessions:
                socket.send_binary([b"\xff\x00garba"])
        elif fault.name == "bad_price":
            self._send_bad_price(fault, now_ms)

    def _cut(self, session: FeedSession) -> None:
        if session.epoch == self._epoch and session.modes:
            self.cut_off += 1

    def _send_bad_price(self, fault: Fault, now_ms: int) -> None:
        for session in self.sessions.values():
            for security in session.modes:
                index = index_of(security)
                if index is not None:
                    last = self._market.spot_paise(index.underlying, now_ms) / 100
                    price = float(fault.settings.get("price", math.nan))
                    price = last * float(fault.settings["factor"]) if "factor" in fault.settings else price
                    packet = packets.ticker(0, int(index.security_id), price, self._ltt(now_ms))
                    session.outgoing.append((now_ms, packet))

    def _to_all(self, at_ms: int, packet: bytes) -> None:
        for session in self.sessions.values():
            session.outgoing.append((at_ms, packet))


def _nothing() -> None:
    """Nobody waits for subscriptions."""
