"""The only file that reads the clock. Everything else is told what time it is.

Times are Unix milliseconds (UTC). Market time is the wall clock in live and paper mode; in a rehearsal it belongs
to the simulator, which runs faster (`ScaledClock`) or in lock-step with the bot (`LockStepClock`).

Lock-step: when the bot has nothing left to do, it tells the simulator that all up to `now` is consumed; the
simulator plays the next slice of the market and says how many feed packets and order updates it sent; the bot goes
on when it has received them all. Between two slices nothing moves on either side, so a seed gives the same day to
the paisa, over real sockets, as fast as both can go.

Invariants:
1. `next_event` yields a Timer about once per second of market time, whether or not ticks flow.
2. Market time never runs backwards.
"""

import json
import time
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from datetime import date, datetime
from typing import Any, Protocol, TypeVar
from zoneinfo import ZoneInfo

import requests
from websockets.sync.client import ClientConnection, connect

from strategy.events import PoisonedTick, Tick, Timer
from tasks.inbox import Inbox

IST = ZoneInfo("Asia/Kolkata")
E = TypeVar("E")

TIMER_PERIOD_MS = 1_000
# A slice whose packets do not arrive within this real time has lost them (a feed reset, say); the day goes on.
SLICE_ARRIVAL_TIMEOUT_S = 3.0


class Clock(Protocol):
    """Where time comes from."""

    def now_ms(self) -> int:
        """Market time, Unix milliseconds."""
        ...

    def sleep(self, seconds: float) -> None:
        """Let `seconds` of market time pass."""
        ...

    def next_event(self, inbox: Inbox[E]) -> E | Timer:
        """The next event of the inbox, or a Timer when a second of market time has passed since the last."""
        ...


def ist(at_ms: int) -> datetime:
    """The moment `at_ms` as an aware IST datetime."""
    return datetime.fromtimestamp(at_ms / 1000, IST)


def epoch_ms(moment: datetime) -> int:
    """An aware datetime as Unix milliseconds."""
    return round(moment.timestamp() * 1000)


def pause(real_seconds: float) -> None:
    """Let real time pass, whatever market time does (poll loops of processes and servers)."""
    time.sleep(real_seconds)


def real_now_ms() -> int:
    """Wall-clock time, Unix milliseconds; for what happens outside the market (heartbeats, files, tokens)."""
    return round(time.time() * 1000)


def real_today() -> date:
    """Today's date in India."""
    return datetime.now(IST).date()


class Deadline:
    """A limit in real time for waits on processes and sockets."""

    def __init__(self, seconds: float) -> None:
        self._ends = time.monotonic() + seconds

    @property
    def left_s(self) -> float:
        """Seconds left, never negative."""
        return max(0.0, self._ends - time.monotonic())

    @property
    def passed(self) -> bool:
        """True once no time is left."""
        return self.left_s == 0.0


class Stopwatch:
    """Real seconds since it was made."""

    def __init__(self) -> None:
        self._began = time.monotonic()

    @property
    def seconds(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self._began


class ScaledClock:
    """Market time that runs `speed` times as fast as real time from an anchor; speed 1 from now is the wall clock."""

    def __init__(self, *, anchor_ms: int, speed: float = 1.0) -> None:
        if speed <= 0:
            raise ValueError(f"speed must be positive, found {speed}; use LockStepClock for full speed")
        self._anchor_ms = anchor_ms
        self._speed = speed
        self._began = time.monotonic()
        self._next_timer_ms = anchor_ms

    def now_ms(self) -> int:
        """Market time, Unix milliseconds."""
        return self._anchor_ms + round((time.monotonic() - self._began) * self._speed * 1000)

    def sleep(self, seconds: float) -> None:
        """Let `seconds` of market time pass."""
        time.sleep(seconds / self._speed)

    def next_event(self, inbox: Inbox[E]) -> E | Timer:
        """The next event of the inbox, or a Timer when one is due."""
        while True:
            now_ms = self.now_ms()
            if now_ms >= self._next_timer_ms:
                self._next_timer_ms = now_ms + TIMER_PERIOD_MS
                return Timer(at_ms=now_ms)
            event = inbox.get(timeout_s=(self._next_timer_ms - now_ms) / 1000 / self._speed)
            if event is not None:
                return event


def wall_clock() -> ScaledClock:
    """Real time at real speed."""
    return ScaledClock(anchor_ms=real_now_ms())


class LockStepClock:
    """Market time in the simulator's hands, one slice at a time.

    `received()` returns (feed packets decoded, order updates decoded) and `sent()` the subscription messages sent,
    each since the process started; `busy()` is true while a broker call is in flight.
    """

    def __init__(
        self,
        control_url: str,
        *,
        received: Callable[[], tuple[int, int]],
        sent: Callable[[], int],
        busy: Callable[[], bool],
    ) -> None:
        self._received = received
        self._sent = sent
        self._busy = busy
        self._pending: deque[Any] = deque()
        self._now_ms = int(read_market_clock(control_url)["now_ms"])
        self._timer_due = True
        self.late_slices = 0
        self._lost = (0, 0)  # packets and updates that died with a connection: counted as sent, never to come
        self.over = False
        self._control: ClientConnection = connect(
            control_url.replace("http", "ws", 1) + "/control/lockstep", compression=None, proxy=None
        )

    def now_ms(self) -> int:
        """Market time, Unix milliseconds."""
        return self._now_ms

    def sleep(self, seconds: float) -> None:
        """Play the market until `seconds` of its time have passed; only before and after trading."""
        until_ms = self._now_ms + round(seconds * 1000)
        while self._now_ms < until_ms and not self.over:
            self._play_slice()

    def next_event(self, inbox: Inbox[E]) -> E | Timer:
        """The next event of this slice, then its Timer; then the next slice."""
        while True:
            if self._pending:
                event: E = self._pending.popleft()
                return event
            while self._busy():
                reply = inbox.get(timeout_s=0.05)
                if reply is not None:
                    return reply
            waiting = inbox.drain()
            if waiting:
                self._pending.extend(_in_slice_order(waiting, self._now_ms))
                continue
            if self._timer_due:
                self._timer_due = False
                return Timer(at_ms=self._now_ms)
            self._play_slice()
            self._timer_due = True

    def close(self) -> None:
        """Hand the market's clock back."""
        self._control.close()

    def _play_slice(self) -> None:
        self._control.send(json.dumps({"consumed_to_ms": self._now_ms, "feed_messages": self._sent()}))
        played = json.loads(self._control.recv())
        self._now_ms = max(self._now_ms, int(played["now_ms"]))
        self.over = bool(played.get("over", False))
        deadline = Deadline(SLICE_ARRIVAL_TIMEOUT_S)
        sent = (int(played["feed_packets"]), int(played["order_updates"]))
        while True:
            missing = [want - lost - have for want, lost, have in zip(sent, self._lost, self._received(), strict=True)]
            if max(missing) <= 0:
                return
            if deadline.passed:
                self.late_slices += 1
                packets, updates = (max(0, count) for count in missing)
                self._lost = (self._lost[0] + packets, self._lost[1] + updates)
                return
            time.sleep(0.0001)


def _in_slice_order(arrived: list[Any], now_ms: int) -> list[Any]:
    """The events of a slice in an order that does not depend on which thread was faster.

    Prices come first, in the feed's own order. Everything else happened "when it was learnt", and in lock-step that
    is the end of the slice, whatever the receiving thread's clock said.
    """
    prices = [event for event in arrived if isinstance(event, Tick | PoisonedTick)]
    others = [replace(event, at_ms=now_ms) for event in arrived if not isinstance(event, Tick | PoisonedTick)]
    return prices + sorted(others, key=_source)


def _source(event: Any) -> str:
    """Where an event came from. Events of one source keep their order: a loss and a return must not change places."""
    return f"Feed of {event.feed}" if hasattr(event, "feed") else type(event).__name__


def read_market_clock(control_url: str) -> dict[str, Any]:
    """The simulator's clock: now_ms, speed, lock_step, day, windows."""
    reply = requests.get(f"{control_url}/control/clock", timeout=(3, 10), proxies={"http": "", "https": ""})
    reply.raise_for_status()
    answer: dict[str, Any] = reply.json()
    return answer
