"""The only file that reads the clock. Everything else is told what time it is.

Times are Unix milliseconds (UTC). Market time is the wall clock in live and paper mode; in a rehearsal it belongs
to the simulator, which runs faster (`ScaledClock`) or in lock-step with the bot (lockstep.py).

Invariants:
1. `next_event` yields a Timer about once per second of market time, whether or not ticks flow.
2. Market time never runs backwards.
"""

import time
from datetime import date, datetime
from typing import Any, Protocol, TypeVar
from zoneinfo import ZoneInfo

import requests

from strategy.events import Timer
from tasks.inbox import Inbox

IST = ZoneInfo("Asia/Kolkata")
E = TypeVar("E")

TIMER_PERIOD_MS = 1_000


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
            raise ValueError(f"speed must be positive, found {speed}; use lock-step for full speed")
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


def read_market_clock(control_url: str) -> dict[str, Any]:
    """The simulator's clock: now_ms, speed, lock_step, day, windows."""
    reply = requests.get(f"{control_url}/control/clock", timeout=(3, 10), proxies={"http": "", "https": ""})
    reply.raise_for_status()
    answer: dict[str, Any] = reply.json()
    return answer
