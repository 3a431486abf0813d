"""The market feed over real sockets: nothing lost or counted twice, back by itself, closed within a second."""

import base64
import hashlib
import json
import re
import socket
import ssl
import threading
from contextlib import suppress
from datetime import timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID
from websockets.exceptions import ConnectionClosed

from strategy.events import PoisonedTick, Tick
from tasks.clock import Stopwatch, ist, pause, real_now_ms
from tasks.feed import FeedConnected, FeedLost, FeedName
from tasks.feed.dhan import DhanFeed
from tasks.feed.line import Patience
from tasks.inbox import Inbox
from tasks.lockstep import LockStepClock
from tasks.settings import REHEARSAL_ACCESS_TOKEN, REHEARSAL_CLIENT_ID

from .conftest import Heard, socket_server

CANARY = "CANARY-token-that-must-never-show"
QUICK = Patience(connect_s=2.0, first_retry_s=0.02, longest_retry_s=0.1, crowded_retry_s=0.1, silence_s=None)
INDEX = "IDX_I:13"
TICKER = bytes.fromhex("02 10 00 00 0d 00 00 00 b3 80 bf 46 14 04 04 6b")
TICKER_MS = 1795405500000
PREVIOUS_CLOSE = bytes.fromhex("06 10 00 00 0d 00 00 00 00 a1 be 46 00 00 00 00")


class Listener(Heard):
    """A feed with its inbox."""

    def __init__(
        self, url, *, token=lambda: REHEARSAL_ACCESS_TOKEN, patience=QUICK, now_ms=lambda: TICKER_MS, **others
    ):
        super().__init__()
        self.feed = DhanFeed(
            url,
            client_id=REHEARSAL_CLIENT_ID,
            token=token,
            inbox=self.inbox,
            now_ms=now_ms,
            patience=patience,
            **others,
        )


@pytest.fixture
def listen(started):
    return lambda url, **others: started(Listener(url, **others))


# --- against the simulator --------------------------------------------------------------------------------------------


@pytest.fixture
def up(market, listen, wait_for):
    """Listeners that are connected to the simulator."""

    def start(**others):
        listener = listen(market.feed_url, now_ms=market.now_ms, **others)
        wait_for(lambda: listener.all(FeedConnected))
        listener.sent_before = market.truth["feed_packets"]
        return listener

    return start


def test_every_packet_sent_is_counted_and_arrives_as_a_tick(market, contract, up, wait_for):
    listener = up()
    listener.feed.watch([INDEX, contract.security])
    assert listener.feed.messages_sent == 2  # sent before `watch` returned
    begin_ms = market.now_ms()
    market.advance(60)
    wait_for(lambda: listener.feed.packets_received == market.truth["feed_packets"] - listener.sent_before)
    assert listener.feed.malformed == 0
    ticks = listener.all(Tick)
    index = [tick for tick in ticks if tick.security == INDEX]
    option = [tick for tick in ticks if tick.security == contract.security]
    assert len(index) > 60
    assert len(option) > 5
    assert len(index) + len(option) == listener.feed.packets_received - 1  # and yesterday's close
    assert all(0 < tick.bid_paise <= tick.ask_paise for tick in option)
    assert all(tick.price_paise % 5 == 0 for tick in option)
    assert all(begin_ms - 1000 <= tick.at_ms <= begin_ms + 60_000 for tick in ticks)


def test_stacked_messages_bring_every_tick(market, contract, up, wait_for):
    listener = up()
    listener.feed.watch([INDEX, contract.security])
    market.stack(on=True)
    market.advance(30)
    wait_for(lambda: listener.feed.packets_received == market.truth["feed_packets"] - listener.sent_before)
    assert len(listener.all(Tick)) == listener.feed.packets_received - 1 > 60
    assert listener.feed.malformed == 0


def test_lock_step_counts_agree_and_no_slice_is_late(market, contract, up):
    listener = up()
    end_ms = market.now_ms() + 30_000
    clock = LockStepClock(
        market.url,
        received=lambda: (listener.feed.packets_received, 0),
        sent=lambda: listener.feed.messages_sent,
        busy=lambda: False,
    )
    try:
        listener.feed._now_ms = clock.now_ms
        listener.feed.watch([INDEX])
        seen = []
        while clock.now_ms() < end_ms:
            seen.append(clock.next_event(listener.inbox))
            if len(seen) == 20:
                listener.feed.watch([INDEX, contract.security])
    finally:
        clock.close()
    assert clock.late_slices == 0
    assert {tick.security for tick in seen if isinstance(tick, Tick)} == {INDEX, contract.security}
    times = [event.at_ms for event in seen if isinstance(event, Tick)]
    assert times == sorted(times)


def test_after_a_reset_the_feed_is_back_with_all_it_watched(market, contract, up, wait_for):
    earlier = len(market.packets_by_connection)
    listener = up()
    listener.feed.watch([INDEX, contract.security])
    market.advance(5)
    wait_for(lambda: listener.feed.packets_by_connection == market.packets_by_connection[earlier:])
    market.fault("feed_reset")
    market.advance(1)
    wait_for(lambda: len(listener.all(FeedConnected)) == 2)
    before = len(listener.all(Tick))
    assert [lost.grave for lost in listener.all(FeedLost)] == [False]
    market.advance(10)
    wait_for(lambda: {tick.security for tick in listener.all(Tick)[before:]} == {INDEX, contract.security})
    assert listener.feed.messages_sent == 4
    wait_for(lambda: listener.feed.packets_by_connection == market.packets_by_connection[earlier:])
    assert [sorted(counts) for counts in listener.feed.packets_by_connection] == [[2, 6, 8], [2, 6, 8]]


def test_805_is_grave_and_waits_long(market, up, wait_for):
    listener = up(patience=Patience(crowded_retry_s=60, silence_s=None))
    listener.feed.watch([INDEX])
    market.fault("feed_805")
    market.advance(1)
    [lost] = wait_for(lambda: listener.all(FeedLost))
    assert lost.grave
    assert "805" in lost.reason
    assert lost.retry_after_s >= 30
    watch = Stopwatch()
    listener.feed.close()  # in the middle of the long wait
    assert watch.seconds < 1


def test_a_refused_upgrade_is_grave_and_waits_long(market, listen, wait_for):
    market.fault("feed_refused", for_s=60)
    market.advance(1)
    listener = listen(market.feed_url, patience=Patience(crowded_retry_s=60))
    [lost] = wait_for(lambda: listener.all(FeedLost))
    assert lost.grave
    assert "429" in lost.reason
    assert lost.retry_after_s >= 30


@pytest.mark.parametrize("fault", ["garbage_frame", "unknown_code", "bad_price"])
def test_what_makes_no_sense_does_not_end_the_connection(fault, market, up, wait_for):
    listener = up()
    listener.feed.watch([INDEX])
    market.advance(5)
    market.fault(fault)
    market.advance(5)
    wait_for(lambda: listener.feed.packets_received == market.truth["feed_packets"] - listener.sent_before)
    assert listener.all(FeedLost) == []
    assert len(listener.all(PoisonedTick)) == (fault == "bad_price")
    assert listener.feed.malformed == (fault == "garbage_frame")


def test_a_dead_token_is_asked_for_anew_and_the_new_one_used(market, listen, wait_for):
    tokens = ["dead", REHEARSAL_ACCESS_TOKEN]
    buried = []

    def replace(dead):
        buried.append(dead)
        tokens.pop(0)

    listener = listen(market.feed_url, token=lambda: tokens[0], on_token_dead=replace, now_ms=market.now_ms)
    wait_for(lambda: len(listener.all(FeedConnected)) == 2)
    assert buried == ["dead"]
    assert listener.all(FeedLost)[0].grave
    listener.feed.watch([INDEX])
    market.advance(2)
    wait_for(lambda: listener.all(Tick))


# --- against servers that do as they like -----------------------------------------------------------------------------


def test_watching_sends_the_difference_in_batches_of_a_hundred(listen, wait_for):
    requests = []
    with socket_server(requests.extend) as url:
        listener = listen(url)
        wait_for(lambda: listener.all(FeedConnected))
        many = [f"NSE_FNO:{number}" for number in range(250)]
        listener.feed.watch([INDEX, *many])
        listener.feed.watch([INDEX, "NSE_FNO:0", "BSE_FNO:7"])
        listener.feed.watch([INDEX, "NSE_FNO:0", "BSE_FNO:7"])
        wait_for(lambda: len(requests) == 8)
    found = [json.loads(request) for request in requests]
    assert [(one["RequestCode"], one["InstrumentCount"]) for one in found] == [
        (15, 1), (21, 100), (21, 100), (21, 50), (22, 100), (22, 100), (22, 49), (21, 1),
    ]  # fmt: skip
    assert found[0]["InstrumentList"] == [{"ExchangeSegment": "IDX_I", "SecurityId": "13"}]
    assert found[-1]["InstrumentList"] == [{"ExchangeSegment": "BSE_FNO", "SecurityId": "7"}]
    assert listener.feed.messages_sent == 8


def test_what_is_watched_before_there_is_a_connection_is_subscribed_when_it_comes(listen, wait_for):
    requests = []
    with socket_server(requests.extend) as url:
        listener = Listener(url)
        listener.feed.watch([INDEX])
        assert listener.feed.messages_sent == 0
        listener.feed.start()
        try:
            wait_for(lambda: requests)
        finally:
            listener.feed.close()


def test_each_connection_takes_the_token_of_the_moment(listen, wait_for):
    paths = []

    def serve_once(peer):
        paths.append(peer.request.path)
        peer.close()

    tokens = iter(f"token {number}&" for number in range(1000))
    with socket_server(serve_once) as url:
        listen(url, token=lambda: next(tokens))
        wait_for(lambda: len(paths) >= 2)
    assert paths[0] == "/?version=2&token=token+0%26&clientId=1000000009&authType=2"
    assert "token+1%26" in paths[1]


def test_a_connection_that_falls_silent_is_opened_anew(listen, wait_for):
    """What says nothing about a price is silence, too."""
    connections = []

    def serve_silence(peer):
        connections.append(peer)
        peer.recv()
        peer.send(TICKER)
        with suppress(ConnectionClosed):
            while True:
                peer.send(PREVIOUS_CLOSE)
                peer.send("still here")
                pause(0.02)

    with socket_server(serve_silence) as url:
        listener = listen(url, patience=Patience(first_retry_s=0.02, silence_s=0.3))
        listener.feed.watch([INDEX])
        wait_for(lambda: len(connections) >= 2)
    assert "silent" in listener.all(FeedLost)[0].reason


@pytest.fixture
def hurried(monkeypatch):
    """Signs of life are asked for after a tenth of a second, and waited for as long again."""
    monkeypatch.setattr("tasks.feed.line._LOOK_EVERY_S", 0.02)
    monkeypatch.setattr("tasks.feed.line._PING_AFTER_S", 0.1)
    monkeypatch.setattr("tasks.feed.line._DEAD_AFTER_S", 0.4)


def test_who_answers_pings_is_alive_also_without_a_message(hurried, listen, wait_for):
    with socket_server(lambda peer: [None for _ in peer]) as url:
        listener = listen(url)
        wait_for(lambda: listener.all(FeedConnected))
        pause(1.0)
        assert listener.all(FeedLost) == []


def test_who_does_not_answer_pings_is_dead(hurried, listen, wait_for):
    taken, gone = [], threading.Event()

    def upgrade_and_hang(peer):
        key = re.search(rb"Sec-WebSocket-Key: (\S+)", peer.recv(65536)).group(1)
        proof = base64.b64encode(hashlib.sha1(key + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest())
        head = b"HTTP/1.1 101 x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: "
        peer.sendall(head + proof + b"\r\n\r\n")
        taken.append(peer.recv(65536))
        gone.wait(10)
        peer.close()

    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=lambda: upgrade_and_hang(listening.accept()[0]), daemon=True)
        thread.start()
        listener = listen(f"ws://127.0.0.1:{listening.getsockname()[1]}")
        wait_for(lambda: listener.all(FeedLost))
        gone.set()
        thread.join(5)
    assert "no sign of life" in listener.all(FeedLost)[0].reason
    assert taken[0][0] & 0x0F == 9, "a ping was sent before"


def test_pauses_between_attempts_grow_up_to_a_limit_and_are_never_quite_alike(listen, closed_port, wait_for):
    listener = listen(f"ws://{closed_port}", patience=Patience(first_retry_s=0.01, longest_retry_s=0.08))
    wait_for(lambda: len(listener.all(FeedLost)) >= 8)
    pauses_s = [lost.retry_after_s for lost in listener.all(FeedLost)[:8]]
    longest_s = [0.01, 0.02, 0.04, 0.08, 0.08, 0.08, 0.08, 0.08]
    assert all(most / 2 <= pause_s <= most for pause_s, most in zip(pauses_s, longest_s, strict=True)), pauses_s
    assert len({pause_s / most for pause_s, most in zip(pauses_s, longest_s, strict=True)}) > 4


def test_silence_means_nothing_while_no_ticks_are_expected(listen, wait_for):
    def serve_silence(peer):
        for _ in peer:
            pass

    with socket_server(serve_silence) as url:
        listener = listen(url, patience=Patience(silence_s=0.1), expects_ticks=lambda at_ms: at_ms != TICKER_MS)
        listener.feed.watch([INDEX])
        wait_for(lambda: listener.all(FeedConnected))
        pause(0.5)
        assert listener.all(FeedLost) == []


def test_a_time_far_ahead_is_quarantined(listen, wait_for):
    with socket_server(lambda peer: [peer.send(TICKER), peer.recv()]) as url:
        listener = listen(url, now_ms=lambda: TICKER_MS - 3_600_000)
        [event] = wait_for(lambda: listener.all(PoisonedTick))
    assert event.at_ms == TICKER_MS - 3_600_000
    assert listener.all(Tick) == []


def test_a_broken_callback_does_not_end_the_feed(wait_for):
    class Picky(Inbox):
        broken = True

        def put(self, event):
            if isinstance(event, Tick) and self.broken:
                self.broken = False
                raise RuntimeError("the inbox has a bad day")
            super().put(event)

    def serve_one(peer):
        peer.send(TICKER)
        peer.recv()

    inbox = Picky()
    with socket_server(serve_one) as url:
        feed = DhanFeed(
            url, client_id="1", token=lambda: "t", inbox=inbox, now_ms=lambda: TICKER_MS,
            patience=Patience(crowded_retry_s=0.05),
        )  # fmt: skip
        feed.start()
        try:
            events = []
            wait_for(lambda: events.extend(inbox.drain()) or any(isinstance(event, Tick) for event in events))
        finally:
            feed.close()
    [lost] = [event for event in events if isinstance(event, FeedLost)]
    assert lost.grave
    assert "RuntimeError" in lost.reason


HANGS = {
    "never answers the upgrade": lambda sock: sock.recv(65536),
    "answers with half a line": lambda sock: (sock.recv(65536), sock.sendall(b"HTTP/1.1 10")),
    "answers nonsense": lambda sock: (sock.recv(65536), sock.sendall(b"\0" * 100 + b"\r\n\r\n")),
    "says nothing at all": lambda _: None,
}


@pytest.mark.parametrize("case", HANGS)
def test_closing_takes_no_second_whatever_the_other_side_does(case, listen, wait_for):
    arrived = threading.Event()
    peers = []
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def accept():
            try:
                peer, _ = listening.accept()
            except OSError:
                return
            peers.append(peer)
            HANGS[case](peer)
            arrived.set()

        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        listener = listen(f"ws://127.0.0.1:{listening.getsockname()[1]}")
        assert arrived.wait(5)
        watch = Stopwatch()
        listener.feed.close()
        assert watch.seconds < 1
        thread.join(5)
        for peer in peers:
            peer.close()


def test_closing_takes_no_second_in_a_flood_of_ticks(listen, wait_for):
    def flood(peer):
        while True:
            peer.send(TICKER * 200)

    with socket_server(flood) as url:
        listener = listen(url)
        wait_for(lambda: listener.feed.packets_received > 10_000)
        watch = Stopwatch()
        listener.feed.close()
        assert watch.seconds < 1
        assert not listener.feed._line._thread.is_alive()


@pytest.fixture(scope="session")
def certificate(tmp_path_factory):
    """A certificate of localhost that signs itself; a PEM file with its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = ist(real_now_ms())
    signed = (
        x509.CertificateBuilder(subject_name=name, issuer_name=name, public_key=key.public_key(), serial_number=1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = tmp_path_factory.mktemp("tls") / "localhost.pem"
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    path.write_bytes(signed.public_bytes(Encoding.PEM) + private)
    return path


def secure_server(handler, certificate):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    return socket_server(handler, ssl=context)


def test_over_tls_every_packet_arrives_also_of_messages_larger_than_a_record(
    certificate, monkeypatch, listen, wait_for
):
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    requests = []

    def push(peer):
        requests.append(peer.recv())
        for stacked in (1, 5_000, 1, 20_000, 7):  # a TLS record holds a thousand tickers
            peer.send(TICKER * stacked)
        peer.recv()

    with secure_server(push, certificate) as url:
        listener = listen(url, force_ipv4=True)
        wait_for(lambda: listener.all(FeedConnected))
        listener.feed.watch([INDEX])
        wait_for(lambda: listener.feed.packets_received == 25_009)
        assert listener.feed.malformed == 0
        watch = Stopwatch()
        listener.feed.close()
        assert watch.seconds < 1
    assert len(listener.all(Tick)) == 25_009
    assert len(requests) == 1


def test_a_certificate_of_nobody_is_not_trusted_with_the_token(certificate, listen, wait_for):
    paths = []
    with secure_server(lambda peer: paths.append(peer.request.path), certificate) as url:
        listener = listen(url)
        wait_for(lambda: listener.all(FeedLost))
    assert paths == []
    assert "secure" in listener.all(FeedLost)[0].reason


def test_a_feed_that_was_never_started_closes():
    Listener("ws://127.0.0.1:1").feed.close()


def test_the_third_failure_in_a_row_is_grave(listen, closed_port, wait_for):
    listener = listen(f"ws://{closed_port}")
    wait_for(lambda: len(listener.all(FeedLost)) >= 3)
    assert [lost.grave for lost in listener.all(FeedLost)[:3]] == [False, False, True]
    assert all(lost.feed is FeedName.MARKET for lost in listener.all(FeedLost))


def test_the_token_shows_nowhere(listen, closed_port, wait_for, everything_logged, capfd):
    paths = []

    def serve_once(peer):
        paths.append(peer.request.path)
        peer.close(1008)

    with socket_server(serve_once) as url:
        listeners = [listen(address, token=lambda: CANARY) for address in (url, f"ws://{closed_port}")]
        for listener in listeners:
            wait_for(lambda listener=listener: len(listener.all(FeedLost)) >= 2)
    assert CANARY in paths[0]
    shown = "".join(repr(event) for listener in listeners for event in listener.heard)
    # The test's own server logs what it receives.
    logged = [record.getMessage() for record in everything_logged.records if record.name != "websockets.server"]
    assert CANARY not in "".join([shown, *logged, *capfd.readouterr()])
