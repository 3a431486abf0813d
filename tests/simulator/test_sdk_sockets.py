"""The unmodified SDK's two sockets, and the feed's own rules: modes, counts, connections, who may come in."""

import asyncio
import json
import struct
import threading
from contextlib import suppress

import pytest
from dhanhq import DhanContext, MarketFeed, OrderUpdate
from websockets.exceptions import ConnectionClosed, InvalidStatus

CLIENT_ID, TOKEN = "1000000009", "simulator-token"
TICKER, QUOTE, FULL = 15, 17, 21


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")


class SdkFeed:
    """MarketFeed in a thread of its own, ended without the SDK's own close, which can hang."""

    def __init__(self, instruments) -> None:
        self.received: list = []
        self.errors: list = []
        self._instruments = instruments
        self._made = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()
        self._made.wait(10)

    def _run(self) -> None:
        self._feed = MarketFeed(
            DhanContext(CLIENT_ID, TOKEN),
            self._instruments,
            on_message=lambda _, data: self.received.append(data),
            on_error=lambda _, error: self.errors.append(error),
        )
        self._made.set()
        with suppress(Exception):
            self._feed.run()
        self._feed.loop.run_until_complete(self._feed.loop.shutdown_asyncgens())
        asyncio.set_event_loop(None)
        self._feed.loop.close()

    def ask(self, method: str, *given) -> None:
        getattr(self._feed, method)(*given)

    def end(self) -> None:
        self._feed._running = False
        with suppress(RuntimeError):
            asyncio.run_coroutine_threadsafe(self._feed.ws.close(), self._feed.loop)
        self._thread.join(10)
        assert not self._thread.is_alive()


@pytest.fixture
def sdk_feed(simulator, monkeypatch):
    monkeypatch.setattr(MarketFeed, "market_feed_wss", f"{simulator.socket_url}/market-feed")
    feeds = []

    def connect(*instruments):
        feeds.append(SdkFeed(list(instruments)))
        simulator.wait_until(lambda: simulator.truth()["feed_connections"] == len(feeds))
        return feeds[-1]

    yield connect
    for feed in feeds:
        feed.end()


def test_the_sdks_feed_reads_every_packet(simulator, sdk_feed):
    number = str(simulator.at_the_money()["security_id"])
    feed = sdk_feed((0, "13", TICKER), (2, number, FULL))

    def played() -> bool:
        simulator.advance(seconds=1)
        return any(data["type"] == "Full Data" for data in feed.received)

    simulator.wait_until(played)
    simulator.wait_until(lambda: len(feed.received) >= simulator.truth()["feed_packets"])
    # The SDK subscribes in two messages, so how many tickers come before the first full packet is its own affair.
    kinds = [data["type"] for data in feed.received]
    assert kinds[:2] == ["Previous Close", "Ticker Data"]
    assert set(kinds[2:]) == {"Ticker Data", "Full Data"}
    assert feed.received[0]["prev_close"] == "24400.00"
    first = feed.received[1]
    assert (first["exchange_segment"], first["security_id"], first["LTT"][:2]) == (0, 13, "10")
    full = feed.received[kinds.index("Full Data")]
    assert (full["exchange_segment"], full["security_id"]) == (2, int(number))
    assert float(full["depth"][0]["bid_price"]) <= float(full["LTP"]) <= float(full["depth"][0]["ask_price"])
    assert not feed.errors


def test_the_sdks_feed_reads_quotes_until_it_unsubscribes_and_is_told_why_it_ends(simulator, sdk_feed, capsys):
    number = str(simulator.at_the_money()["security_id"])
    feed = sdk_feed((2, number, QUOTE))
    simulator.wait_until(lambda: simulator.advance(seconds=1) and len(feed.received) >= 2)
    interest, quote = feed.received[:2]
    assert (interest["type"], quote["type"]) == ("OI Data", "Quote Data")
    assert interest["OI"] > 0
    assert (quote["security_id"], quote["LTT"][:2]) == (int(number), "10")
    assert float(quote["low"]) <= float(quote["LTP"]) <= float(quote["high"])
    feed.ask("unsubscribe_symbols", [(2, number, QUOTE)])

    def is_quiet() -> bool:
        before = simulator.truth()["feed_packets"]
        simulator.advance(seconds=2)
        return simulator.truth()["feed_packets"] == before

    simulator.wait_until(is_quiet)
    simulator.post_faults({"fault": "feed_805"})
    simulator.advance(seconds=1)
    simulator.wait_until(lambda: None in feed.received)
    assert "No. of active websocket connections exceeded" in capsys.readouterr().out


def test_the_sdks_order_updates_tell_the_life_of_an_order(simulate, capsys):
    simulator = simulate("--start", "10:00")
    updates: list = []
    socket = OrderUpdate(DhanContext(CLIENT_ID, TOKEN))
    socket.order_feed_wss = f"{simulator.socket_url}/order-update"
    socket.on_update = updates.append
    thread = threading.Thread(target=lambda: asyncio.run(_until_closed(socket)))
    thread.start()
    simulator.wait_until(lambda: simulator.truth()["order_connections"] == 1)
    simulator.place(correlationId="life-1")
    simulator.advance(seconds=1)
    simulator.wait_until(lambda: len(updates) == 3)
    simulator.process.terminate()
    thread.join(10)
    assert not thread.is_alive()
    assert [update["Data"]["status"] for update in updates] == ["Transit", "Pending", "Traded"]
    last = updates[-1]["Data"]
    assert (last["correlationId"], last["tradedQty"], last["remainingQuantity"]) == ("life-1", 65, 0)
    assert (last["txnType"], last["orderType"], last["product"], last["optType"]) == ("B", "LMT", "M", "CE")
    assert last["reasonDescription"] == "TRADE CONFIRMED"
    assert all(key[0].islower() for key in last), "keys are camelCase on the wire"
    capsys.readouterr()  # the SDK prints the token


async def _until_closed(socket: OrderUpdate) -> None:
    with suppress(ConnectionClosed):
        await socket.connect_order_update()


# -- the feed without the SDK ---------------------------------------------------------------------------------------


def codes_of(packets) -> list[int]:
    return [packet[0] for packet in packets]


def test_each_mode_has_its_packets(simulator):
    number = simulator.at_the_money()["security_id"]
    socket = simulator.feed((TICKER, "IDX_I:13"), (TICKER, f"NSE_FNO:{number}"))
    quotes = simulator.feed((QUOTE, f"NSE_FNO:{number}"))
    full = simulator.feed((FULL, f"NSE_FNO:{number}"))
    simulator.wait_until(lambda: simulator.truth()["feed_connections"] == 3)
    simulator.advance(seconds=1)
    assert codes_of(simulator.messages(socket, 4)) == [6, 2, 2, 2]
    assert codes_of(simulator.messages(quotes, 3)) == [5, 4, 5], "open interest comes first, and once a minute"
    (packet,) = simulator.messages(full, 1)
    assert (packet[0], len(packet), struct.unpack_from("<H", packet, 1)[0]) == (8, 162, 162)


def test_times_and_prices_on_the_wire(simulator):
    socket = simulator.feed((TICKER, "IDX_I:13"))
    simulator.wait_until(lambda: simulator.truth()["feed_connections"] == 1)
    simulator.advance(seconds=2)
    packets = simulator.messages(socket, 5)[1:]
    stamps = [struct.unpack_from("<I", packet, 12)[0] for packet in packets]
    ten = 1795168800  # 2026-11-20 10:00:00 written as if India's clock were UTC
    assert stamps == [ten, ten, ten + 1, ten + 1]
    last = struct.unpack_from("<f", packets[-1], 8)[0]
    simulator_last = simulator.call("POST", "/v2/marketfeed/ltp", {"IDX_I": [13]}).json()["data"]["IDX_I"]["13"]
    assert last == pytest.approx(simulator_last["last_price"], abs=0.01)


def test_unsubscribing_and_ids_as_numbers(simulator):
    socket = simulator.feed((TICKER, "IDX_I:13"))
    socket.send(json.dumps({"RequestCode": 15, "InstrumentList": [{"ExchangeSegment": "IDX_I", "SecurityId": 25}]}))
    simulator.wait_until(lambda: simulator.truth()["feed_connections"] == 1)
    simulator.advance(seconds=1)
    assert {struct.unpack_from("<I", packet, 4)[0] for packet in simulator.messages(socket, 3)} == {13}
    simulator.subscribe(socket, TICKER + 1, "IDX_I:13")
    simulator.subscribe(socket, TICKER, "IDX_I:51")
    before = simulator.truth()["feed_packets"]
    simulator.wait_until(lambda: simulator.advance(seconds=1) and simulator.truth()["feed_packets"] >= before + 3)
    later = [struct.unpack_from("<I", packet, 4)[0] for packet in simulator.pending(socket)]
    assert later[-1] == 51, "a number as id subscribes to nothing, a text does"


def test_a_connection_holds_five_thousand_instruments(simulator):
    socket = simulator.feed()
    for start in range(0, 5_000, 100):
        simulator.subscribe(socket, TICKER, *[f"NSE_EQ:{number}" for number in range(start, start + 100)])
    simulator.subscribe(socket, TICKER, "IDX_I:13")
    other = simulator.feed((TICKER, "IDX_I:13"))
    simulator.wait_until(lambda: simulator.advance(seconds=1) and simulator.truth()["feed_packets"] > 0)
    assert simulator.pending(other)
    assert simulator.pending(socket) == []


def test_nothing_is_sent_that_was_not_asked_for(simulator):
    socket = simulator.feed()
    socket.send("no json")
    socket.send(b"\x0c\x53\x00")
    socket.send(json.dumps({"RequestCode": 15}))
    simulator.advance(seconds=5)
    assert simulator.pending(socket) == []


def test_the_sixth_connection_costs_the_oldest_its_life(simulator):
    sockets = [simulator.feed() for _ in range(6)]
    assert sockets[0].recv(10) == bytes.fromhex("32 0a 00 00 00 00 00 00 25 03".replace(" ", ""))
    with pytest.raises(ConnectionClosed):
        sockets[0].recv(10)
    simulator.wait_until(lambda: simulator.truth()["feed_connections"] == 5)


def test_a_wrong_token_is_told_808_and_closed(simulator):
    socket = simulator.feed(token="wrong")
    assert struct.unpack_from("<H", socket.recv(10), 8)[0] == 808
    with pytest.raises(ConnectionClosed):
        socket.recv(10)


def test_a_wrong_login_to_the_order_updates_is_reset(simulator):
    socket = simulator.open("/order-update")
    socket.send(json.dumps({"LoginReq": {"MsgCode": 42, "ClientId": CLIENT_ID, "Token": "old"}, "UserType": "SELF"}))
    with pytest.raises(ConnectionClosed):
        socket.recv(10)
    assert socket.close_code == 1006, "no close frame: the connection is reset"


def test_stacked_messages_hold_the_same_packets(simulator):
    single = simulator.feed((TICKER, "IDX_I:13"), (TICKER, "IDX_I:51"))
    stacked = simulator.feed((TICKER, "IDX_I:13"), (TICKER, "IDX_I:51"), query="&stack=1")
    simulator.wait_until(lambda: simulator.truth()["feed_connections"] == 2)
    simulator.advance(seconds=1)
    (message,) = simulator.messages(stacked, 1)
    assert simulator.split(message) == simulator.messages(single, 6)


def test_the_goodbye_of_a_client_closes_its_connection(simulator):
    socket = simulator.feed()
    socket.send(json.dumps({"RequestCode": 12}))
    with pytest.raises(ConnectionClosed):
        socket.recv(10)


def test_an_update_that_nobody_listens_to_is_gone(simulator):
    simulator.place()
    simulator.advance(seconds=1)
    socket = simulator.alerts()
    simulator.advance(seconds=1)
    assert simulator.pending(socket) == []
    assert simulator.truth()["order_updates"] == 0


def test_wrong_addresses_are_refused(simulator):
    with pytest.raises(InvalidStatus, match="404"):
        simulator.open("/elsewhere")
