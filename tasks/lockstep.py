"""Lock-step: the market's clock in the simulator's hands, one slice of market time after the other.

When the bot has nothing left to do, it tells the simulator that all up to `now` is consumed; the simulator plays the
next slice of the market and says how many feed packets and order updates it sent; the bot goes on when it has received
them all. Between two slices nothing moves on either side, so a seed gives the same day to the paisa, over real sockets,
as fast as both can go.

Invariants:
1. `next_event` yields a Timer per slice, after everything that arrived in it.
2. Market time never runs backwards.
3. The slices cost no thread of their own: whoever asks for the next event waits for the simulator himself.
"""

import json
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final, TypeVar

from strategy.events import PoisonedTick, Tick, Timer
from tasks.clock import Deadline, pause, read_market_clock
from tasks.feed.connection import Connection, ConnectionLost
from tasks.inbox import Inbox

E = TypeVar("E")

# A slice whose packets do not arrive within this real time has lost them (a feed reset, say); the day goes on.
SLICE_ARRIVAL_TIMEOUT_S: Final = 3.0
# Longer than the simulator waits for a connection that it cut.
ANSWER_TIMEOUT_S: Final = 60.0
CONNECT_TIMEOUT_S: Final = 10.0
# The feed's thread is mostly done when the simulator's word comes: to look again at once is cheaper than to sleep.
_LOOKS_AT_ONCE: Final = 100
_LOOK_AGAIN_S: Final = 0.0001
_PRICES: Final = (Tick, PoisonedTick)


class LockStepClock:
    """A `Clock` whose time is the simulator's.

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
        self._control = Connection.open(
            control_url.replace("http", "ws", 1) + "/control/lockstep", timeout_s=CONNECT_TIMEOUT_S, force_ipv4=False
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
        # Written by hand: json.dumps makes an encoder for each.
        self._control.send(f'{{"consumed_to_ms": {self._now_ms}, "feed_messages": {self._sent()}}}')
        played = json.loads(self._answer())
        self._now_ms = max(self._now_ms, int(played["now_ms"]))
        self.over = bool(played.get("over", False))
        self._await_arrival(int(played["feed_packets"]), int(played["order_updates"]))

    def _answer(self) -> str | bytes:
        """The simulator's word on the slice. ConnectionLost: it is gone, and with it the market."""
        deadline = Deadline(ANSWER_TIMEOUT_S)
        while not deadline.passed:
            if self._control.wait(deadline.left_s):
                messages = self._control.receive()
                if messages:
                    return messages[-1]
        raise ConnectionLost(f"the simulator did not play its next second within {ANSWER_TIMEOUT_S:.0f} s")

    def _await_arrival(self, packets: int, updates: int) -> None:
        looks, deadline = 0, Deadline(SLICE_ARRIVAL_TIMEOUT_S)
        while True:
            received, lost = self._received(), self._lost
            missing = packets - lost[0] - received[0], updates - lost[1] - received[1]
            if missing[0] <= 0 and missing[1] <= 0:
                return
            if deadline.passed:
                self.late_slices += 1
                self._lost = (lost[0] + max(0, missing[0]), lost[1] + max(0, missing[1]))
                return
            looks += 1
            pause(0.0 if looks <= _LOOKS_AT_ONCE else _LOOK_AGAIN_S)


def _in_slice_order(arrived: list[Any], now_ms: int) -> list[Any]:
    """The events of a slice in an order that does not depend on which thread was faster.

    Prices come first, in the feed's own order. Everything else happened "when it was learnt", and in lock-step that
    is the end of the slice, whatever the receiving thread's clock said.
    """
    prices = [event for event in arrived if isinstance(event, _PRICES)]
    if len(prices) == len(arrived):
        return prices
    others = [replace(event, at_ms=now_ms) for event in arrived if not isinstance(event, _PRICES)]
    return prices + sorted(others, key=_source)


def _source(event: Any) -> str:
    """Where an event came from. Events of one source keep their order: a loss and a return must not change places."""
    return f"Feed of {event.feed}" if hasattr(event, "feed") else type(event).__name__
