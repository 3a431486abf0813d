"""What can be made to go wrong, when, and for how long.

A fault is posted as JSON: {"fault": NAME, "at": WHEN, ...}. WHEN is one of
* {"call": "place_order", "nth": 2}: the second such call after the fault was posted;
* {"market_time": "10:15:00"}: from that moment of the day on (for a fault in a call: the next call, of the kind
  given by "call" if it is there);
* absent: from now on.
"times" (calls, orders or messages; default 1) and "for_s" (market seconds; default 10 for what lasts) bound it.

Invariants:
1. Without a posted fault the simulator never misbehaves.
2. When a fault strikes depends on market time and the count of calls alone, never on real time or chance.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, time
from typing import Any

from simulator.routes import CALLS
from simulator.sessions import moment_ms

# Name -> what it does. The four kinds differ in what they strike.
IN_A_CALL = {
    "reply_lost": "the call is carried out, the reply never comes (hold_s real seconds, default 120)",
    "reset_before": "TCP reset before anything is done",
    "reset_after": "the call is carried out, then a TCP reset instead of the reply",
    "bad_gateway": "502 with an HTML page; carried out if accepted is true (default false)",
    "server_error": "500 with a JSON body; carried out if accepted is true (default false)",
    "empty_202": "the call is carried out, the reply is a 202 without a body",
    "slow_drip": "the call is carried out, the reply comes byte by byte (drip_s real seconds apart, default 0.05)",
    "rate_storm": "429 DH-904; nothing is done",
    "ip_refused": "400 DH-905 Invalid IP; nothing is done",
    "data_plan_lost": "data calls answer 806",
    "token_death": "the access token dies",
    "second_token": "somebody else mints a token, which ends the one in use",
}
IN_AN_ORDER = {
    "reject": "the exchange rejects the order after its acknowledgement (message)",
    "partial_fill": "at most quantity units fill (default: one lot less than ordered), the rest stays open",
    "never_fills": "the order rests whatever the market does",
    "fill_after_cancel": "the whole rest fills between the cancel's acknowledgement and its arrival",
    "cancel_fill_race": "part of the rest (quantity, default half in lots) fills before the cancellation takes effect",
    "slow_transit": "the order stays in TRANSIT for transit_ms (default 5000) of market time",
}
IN_ORDER_UPDATES = {
    "duplicate_updates": "each alert is sent twice",
    "out_of_order_updates": "an alert is sent after the one that followed it",
    "missing_updates": "alerts are not sent",
}
LASTING_IN_THE_FEED = {
    "feed_silence": "no packets (securities: a list, default all)",
    "feed_lag": "packets come lag_s market seconds late (default 5)",
    "clock_skew": "exchange and server times are skew_s seconds off (default 30)",
    "wrong_instrument": "packets carry another security id",
    "stacked_packets": "all packets of a moment travel in one message",
    "feed_refused": "new feed connections are refused with HTTP 429",
}
ONCE_IN_THE_FEED = {
    "feed_reset": "every feed connection is reset and new ones are refused for outage_s market seconds (default 0)",
    "feed_805": "the oldest feed connection is told 805 and closed",
    "order_socket_reset": "every order-update connection is reset",
    "unknown_code": "a packet with code 0",
    "garbage_frame": "a message of seven meaningless bytes",
    "bad_price": "a ticker packet with the price given (default NaN; a number, or a factor of the last price)",
}
KNOWN = {**IN_A_CALL, **IN_AN_ORDER, **IN_ORDER_UPDATES, **LASTING_IN_THE_FEED, **ONCE_IN_THE_FEED}
_LASTING = {*LASTING_IN_THE_FEED}
ENDS_THE_TOKEN = ("token_death", "second_token")
_DEFAULT_FOR_S = 10.0
# Faults of an order are posted at its placing unless another call is named.
_ORDER_CALLS = ("place_order", "slice_order")


class FaultInvalid(Exception):
    """A posted fault makes no sense; the message says what was expected."""


@dataclass(slots=True, kw_only=True)
class Fault:
    """One posted fault and how far it has come."""

    name: str
    call: str | None
    nth: int
    starts_ms: int
    waits_for_call: bool
    for_ms: int | None
    times: int | None
    settings: Mapping[str, Any]
    seen: int = 0
    used: int = 0
    began_ms: int | None = None

    def number(self, key: str, default: float) -> float:
        """A numeric setting."""
        return float(self.settings.get(key, default))

    def is_over(self, now_ms: int) -> bool:
        """Used up, or its time has passed."""
        if self.times is not None and self.used >= self.times:
            return True
        return self.for_ms is not None and self.began_ms is not None and now_ms >= self.began_ms + self.for_ms


@dataclass(slots=True)
class Faults:
    """All posted faults, in the order in which they came."""

    day: date
    posted: list[Fault] = field(default_factory=list)

    def post(self, wishes: Any, now_ms: int) -> None:
        """Take a list of faults (or a single one). Raises FaultInvalid, and then takes none of them."""
        listed = wishes if isinstance(wishes, list) else [wishes]
        self.posted += [self._read(wish, now_ms) for wish in listed]

    def clear(self) -> None:
        """Forget all."""
        self.posted.clear()

    def in_call(self, call: str, now_ms: int) -> Fault | None:
        """The fault that strikes this call; counts it. Also starts lasting faults that wait for the call."""
        struck: Fault | None = None
        for fault in self.posted:
            if fault.name in IN_AN_ORDER or fault.name in IN_ORDER_UPDATES or fault.is_over(now_ms):
                continue
            if fault.name in IN_A_CALL:
                if struck is None and self._strikes(fault, call, now_ms):
                    fault.used += 1
                    struck = fault
            elif fault.waits_for_call and fault.began_ms is None and fault.call == call:
                fault.seen += 1
                if fault.seen >= fault.nth:
                    fault.began_ms = now_ms
        return struck

    def in_order(self, call: str, now_ms: int) -> list[Fault]:
        """The faults of the order that this call places; counts them."""
        struck = []
        for fault in self.posted:
            if fault.name in IN_AN_ORDER and not fault.is_over(now_ms) and self._strikes(fault, call, now_ms):
                fault.used += 1
                struck.append(fault)
        return struck

    def in_update(self, now_ms: int) -> Fault | None:
        """The fault that strikes the next order alert; counts it."""
        for fault in self.posted:
            if fault.name in IN_ORDER_UPDATES and not fault.is_over(now_ms) and now_ms >= fault.starts_ms:
                fault.began_ms = fault.began_ms or now_ms
                fault.used += 1
                return fault
        return None

    def lasting(self, name: str, now_ms: int) -> Fault | None:
        """The fault of this name that holds now."""
        for fault in self.posted:
            if fault.name == name and self._has_begun(fault, now_ms) and not fault.is_over(now_ms):
                return fault
        return None

    def active_in_calls(self, name: str, now_ms: int) -> bool:
        """True while a fault of this name would strike calls; counts nothing."""
        return any(
            fault.name == name and now_ms >= fault.starts_ms and not fault.is_over(now_ms) for fault in self.posted
        )

    def once(self, now_ms: int) -> list[Fault]:
        """Faults of the feed that strike now; counts them."""
        struck = []
        for fault in self.posted:
            if fault.name in ONCE_IN_THE_FEED and self._has_begun(fault, now_ms) and not fault.is_over(now_ms):
                fault.used += 1
                struck.append(fault)
        return struck

    def take_token_end(self, now_ms: int) -> Fault | None:
        """Once, what ends the token at a market time and not in a call."""
        for fault in self.posted:
            waits = fault.waits_for_call or now_ms < fault.starts_ms
            if fault.name in ENDS_THE_TOKEN and not waits and not fault.is_over(now_ms):
                fault.used += 1
                return fault
        return None

    def any_posted(self) -> bool:
        """True when there is anything to look at."""
        return bool(self.posted)

    def _has_begun(self, fault: Fault, now_ms: int) -> bool:
        if fault.began_ms is None and not fault.waits_for_call and now_ms >= fault.starts_ms:
            fault.began_ms = now_ms
        return fault.began_ms is not None

    def _strikes(self, fault: Fault, call: str, now_ms: int) -> bool:
        if now_ms < fault.starts_ms:
            return False
        if fault.call is not None and call != fault.call:
            return False
        if fault.call is None and fault.name in IN_AN_ORDER and call not in _ORDER_CALLS:
            return False
        fault.began_ms = fault.began_ms or now_ms
        fault.seen += 1
        return fault.seen >= fault.nth

    def _read(self, wish: Any, now_ms: int) -> Fault:
        if not isinstance(wish, dict) or wish.get("fault") not in KNOWN:
            raise FaultInvalid(f'expected {{"fault": NAME, "at": …}} with one of {", ".join(KNOWN)}; found {wish!r}')
        name = wish["fault"]
        at = wish.get("at") or {}
        if not isinstance(at, dict) or not set(at) <= {"call", "nth", "market_time"}:
            raise FaultInvalid(f'expected "at" with call and nth, or market_time, for {name}; found {at!r}')
        if "call" in at and at["call"] not in CALLS:
            raise FaultInvalid(f"expected one of the calls {', '.join(sorted(CALLS))} for {name}, found {at['call']!r}")
        starts_ms = now_ms
        if "market_time" in at:
            try:
                starts_ms = moment_ms(self.day, time.fromisoformat(at["market_time"]))
            except (TypeError, ValueError) as error:
                raise FaultInvalid(f"expected market_time HH:MM:SS for {name}, found {at['market_time']!r}") from error
        for_s = wish.get("for_s", _DEFAULT_FOR_S if name in _LASTING else None)
        times = wish.get("times", None if "for_s" in wish or name in _LASTING else 1)
        return Fault(
            name=name,
            call=at.get("call"),
            nth=int(at.get("nth", 1)),
            starts_ms=starts_ms,
            waits_for_call="call" in at,
            for_ms=None if for_s is None else round(float(for_s) * 1000),
            times=None if times is None else int(times),
            settings={key: value for key, value in wish.items() if key not in ("fault", "at", "times", "for_s")},
        )


def render_faults(faults: Faults, now_ms: int) -> list[dict[str, Any]]:
    """What is posted and how far it has come."""
    return [
        {
            "fault": f.name,
            "call": f.call,
            "nth": f.nth,
            "used": f.used,
            "began_ms": f.began_ms,
            "over": f.is_over(now_ms),
        }
        for f in faults.posted
    ]
