"""The bot's own clock against the simulator: nothing is lost, a day is the same twice, recordings play to their end."""

import json
import struct
import threading
from collections.abc import Callable

import pytest
from websockets.exceptions import ConnectionClosed

from tasks.lockstep import LockStepClock

FEED = "/market-feed?version=2&token=simulator-token&clientId=1000000009&authType=2"
LOGIN = {"LoginReq": {"MsgCode": 42, "ClientId": "1000000009", "Token": "simulator-token"}, "UserType": "SELF"}


class Driver:
    """A small bot: the real lock-step clock, and both sockets read by threads."""

    def __init__(self, simulator, *, stack: bool = True) -> None:
        self.simulator = simulator
        self.packets: list[bytes] = []
        self.updates: list[dict] = []
        self.sent = 0
        self.clock = LockStepClock(
            simulator.url, received=lambda: (len(self.packets), len(self.updates)), sent=lambda: self.sent,
            busy=lambda: False,
        )  # fmt: skip
        self.open_feed(stack=stack)
        self.alerts = simulator.open("/order-update")
        self.alerts.send(json.dumps(LOGIN))
        self._threads = [self._read(self.alerts, lambda text: self.updates.append(json.loads(text)["Data"]))]
        simulator.wait_until(lambda: simulator.truth()["order_connections"] >= 1)

    def open_feed(self, *, stack: bool = True) -> None:
        self.feed = self.simulator.open(FEED + ("&stack=1" if stack else ""))
        self._read(self.feed, lambda message: self.packets.extend(self.simulator.split(message)))

    def _read(self, socket, take: Callable) -> threading.Thread:
        def listen() -> None:
            try:
                for message in socket:
                    take(message)
            except ConnectionClosed:
                return

        thread = threading.Thread(target=listen, daemon=True)
        thread.start()
        return thread

    def subscribe(self, code: int, *securities: str) -> None:
        self.simulator.subscribe(self.feed, code, *securities)
        self.sent += 1

    def play_until(self, moment_ms: int) -> None:
        while self.clock.now_ms() < moment_ms and not self.clock.over:
            self.clock.sleep(0.001)  # the shortest sleep is one slice

    def end(self) -> None:
        self.clock.close()


@pytest.fixture
def drive(simulate):
    drivers = []

    def run(*arguments, stack=True, **options):
        drivers.append(Driver(simulate(*arguments, **options), stack=stack))
        return drivers[-1]

    yield run
    for driver in drivers:
        driver.end()


def test_each_slice_is_a_second_and_all_its_packets_have_arrived(drive):
    driver = drive("--start", "09:14:00", stack=False)
    driver.subscribe(15, "IDX_I:13")
    opens = driver.simulator.clock()["windows"][0][0]
    driver.play_until(opens)
    assert (driver.clock.now_ms(), len(driver.packets)) == (opens, 1), "yesterday's close, and no tick before the open"
    for seconds in range(1, 30):
        driver.clock.sleep(0.001)
        assert driver.clock.now_ms() == opens + seconds * 1000
        assert len(driver.packets) == 1 + 2 * seconds
    assert driver.clock.late_slices == 0


def test_a_subscription_that_was_sent_is_in_force_in_the_next_slice(drive):
    driver = drive("--start", "10:00")
    driver.subscribe(15, "IDX_I:13")
    for count in range(1, 20):
        driver.subscribe(15 if count % 2 else 16, "IDX_I:51")
        before = len(driver.packets)
        driver.clock.sleep(0.001)
        ids = {packet[4] for packet in driver.packets[before:]}
        assert ids == ({13, 51} if count % 2 else {13})


def test_the_market_waits_for_a_subscription_that_is_on_its_way(simulator):
    clock = simulator.open("/control/lockstep")
    feed = simulator.feed()
    clock.send(json.dumps({"consumed_to_ms": 0, "feed_messages": 1}))
    assert simulator.pending(clock) == []
    simulator.subscribe(feed, 15, "IDX_I:13")
    played = json.loads(clock.recv(10))
    assert played["feed_packets"] == 3
    assert len(simulator.messages(feed, 3)) == 3


def test_a_subscription_that_never_comes_does_not_stop_the_market(simulator):
    clock = simulator.open("/control/lockstep")
    before_ms = simulator.clock()["now_ms"]
    for second in (1, 2):
        clock.send(json.dumps({"consumed_to_ms": 0, "feed_messages": 1}))
        assert json.loads(clock.recv(10))["now_ms"] == before_ms + second * 1000


def test_a_clock_that_talks_nonsense_is_shown_the_door(simulator):
    clock = simulator.open("/control/lockstep")
    clock.send("tick")
    with pytest.raises(ConnectionClosed, match="expected"):
        clock.recv(10)


def test_a_second_clock_takes_over(simulator):
    first, second = simulator.open("/control/lockstep"), simulator.open("/control/lockstep")
    with pytest.raises(ConnectionClosed, match="another clock took over"):
        first.recv(10)
    second.send(json.dumps({"consumed_to_ms": 0, "feed_messages": 0}))
    assert json.loads(second.recv(10))["over"] is False


def test_a_driver_that_starts_again_counts_from_nothing(drive):
    first = drive("--start", "10:00")
    first.subscribe(15, "IDX_I:13")
    first.play_until(first.clock.now_ms() + 5_000)
    # The first one lives on, as a process that hangs does: its packets are not the second one's.
    second = Driver(first.simulator)
    second.subscribe(15, "IDX_I:13")
    second.play_until(second.clock.now_ms() + 5_000)
    assert len(second.packets) == 11
    assert second.clock.late_slices == 0
    second.end()


def test_a_feed_that_is_cut_is_awaited_and_costs_no_market_time(drive):
    driver = drive("--start", "10:00")
    driver.subscribe(15, "IDX_I:13")
    driver.play_until(driver.clock.now_ms() + 3_000)
    driver.simulator.post_faults({"fault": "feed_reset"})
    received = len(driver.packets)

    def reconnect() -> None:
        driver.simulator.wait_until(lambda: driver.simulator.truth()["feed_connections"] == 0)
        driver.open_feed()
        driver.subscribe(15, "IDX_I:13")

    returning = threading.Thread(target=reconnect)
    returning.start()
    before_ms = driver.clock.now_ms()
    driver.clock.sleep(0.001)  # the slice in which the connection is cut
    driver.clock.sleep(0.001)  # waits for the return
    returning.join()
    assert driver.clock.now_ms() == before_ms + 2_000
    assert len(driver.packets) == received + 3, "one slice without packets, then the close and two ticks"


def day_of_trades(driver: Driver) -> tuple:
    """Buy and sell on a fixed timetable over an hour; what the exchange and the sockets say of it."""
    driver.subscribe(15, "IDX_I:13")
    row = driver.simulator.at_the_money()
    security = f"NSE_FNO:{row['security_id']}"
    driver.subscribe(21, security)
    body = driver.simulator.order(securityId=str(row["security_id"]), price=row["top_ask_price"])
    start_ms = driver.clock.now_ms()
    for minute in range(12):
        driver.play_until(start_ms + minute * 300_000)
        side = "SELL" if minute % 2 else "BUY"
        price = 30.0 if minute % 2 else 400.0
        reply = driver.simulator.call(
            "POST", "/v2/orders", body | {"transactionType": side, "price": price, "correlationId": f"trade-{minute}"}
        )
        assert reply.status_code == 200
    driver.play_until(start_ms + 3_600_000)
    truth = driver.simulator.truth()
    assert driver.clock.late_slices == 0
    return truth["fills"], truth["orders"], driver.updates, driver.packets


@pytest.mark.slow
def test_two_processes_with_one_seed_make_the_same_day_to_the_paisa(drive):
    first, second, other = (
        day_of_trades(drive("--seed", seed, "--start", "10:00", "--rate-limits", "off")) for seed in ("5", "5", "6")
    )
    assert len(first[0]) == 12
    assert first == second
    assert first[0] != other[0]


RECORDED = {
    "the SENSEX day of five-second candles": (
        "sensex_2026-02-05_5s.csv",
        "2026-02-05",
        "SENSEX",
        51,
        3 * 3480,
        83_228.99,
    ),
    "the Saturday session of one-minute bars": ("nifty_2024_1min.csv", "2024-03-02", "NIFTY", 13, 105 * 60, None),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", RECORDED)
def test_a_recorded_day_plays_to_its_end(name, drive, recordings):
    file, day, index, number, ticks, last = RECORDED[name]
    driver = drive("--recording", str(recordings / file), "--index", index, day=day)
    driver.subscribe(15, f"IDX_I:{number}")
    while not driver.clock.over:
        driver.clock.sleep(0.001)
    assert len(driver.packets) == 1 + ticks
    assert driver.clock.late_slices == 0
    if last is not None:
        assert struct.unpack_from("<f", driver.packets[-1], 8)[0] == pytest.approx(last, abs=0.01)
    stamps = [struct.unpack_from("<I", packet, 12)[0] for packet in driver.packets[1:]]
    assert stamps == sorted(stamps)
    windows = driver.simulator.clock()["windows"]
    moments = [(stamp - 19_800) * 1000 for stamp in stamps]
    assert all(any(opens <= moment < closes for opens, closes in windows) for moment in moments)
