"""The running comparison: while trading, does the broker hold and have on order what the ledger says?

A reading is taken off the loop and so may be older than a fill that the loop knows of. Therefore:

Invariants:
1. Only a difference that two readings in a row show, with no order of ours alive and nothing decided in between, is
   believed. Then there are no entries until both sides are equal again; exits go on.
2. A broker that cannot be read is not flat: no entries until it can be read.
3. While it is believed that the account holds fewer units than are to be sold, they are not sold: somebody else has
   sold them, and selling them again would be a short position. It is read again at once, so an error passes soon.
4. Each outage and each difference is said once, and so is its end.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from strategy.actions import Alert, Severity
from strategy.events import Caution, Side

PERIOD_MS = 30_000
CONFIRM_MS = 3_000  # a first difference is looked at again so soon

ALERTED_AFTER = 2  # failed readings in a row; one is no news

DIFFER, UNREADABLE = "books_differ", "broker_unreadable"


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditedOrder:
    """An order of ours as one side has it."""

    client_order_id: str
    security: str
    side: Side
    filled_quantity: int
    is_open: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """Both sides at about one moment. `activity` is what the loop had decided when it asked, and what was alive."""

    at_ms: int
    activity: tuple[int, tuple[int, ...]]  # last intent, open intents
    differences: tuple[str, ...] = ()
    at_broker: Mapping[str, int] = field(default_factory=dict)  # the account's net units, by security
    unreadable: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Audit:
    """What has been read and said so far."""

    due_ms: int = 0
    suspected: tuple[str, ...] = ()
    believed: tuple[str, ...] = ()
    at_broker: Mapping[str, int] = field(default_factory=dict)  # as of the difference that is believed
    unreadable: int = 0  # readings in a row


def differences(
    *,
    ledger: Iterable[AuditedOrder],
    adopted: Mapping[str, int],
    broker: Iterable[AuditedOrder],
    at_broker: Mapping[str, int],
) -> tuple[str, ...]:
    """In what the sides differ, in words; empty where they agree.

    Args:
        ledger: the session's orders, but for those that stand for a position taken over.
        adopted: units taken over, by security.
        broker: the broker's orders under the session's ids.
        at_broker: the account's net units, by security.
    """
    ours = {order.client_order_id: order for order in ledger}
    theirs = {order.client_order_id: order for order in broker}
    found = []
    for name in sorted(ours.keys() | theirs.keys()):
        mine, other = ours.get(name), theirs.get(name)
        if mine is None or other is None:
            known = mine or other
            assert known is not None, "a name comes from one of the sides"
            if known.filled_quantity or known.is_open:
                where = "the broker has no such order" if other is None else "the ledger has no such order"
                found.append(f"order {name}: {_render(known)}, and {where}")
        elif (mine.filled_quantity, mine.is_open) != (other.filled_quantity, other.is_open):
            found.append(f"order {name}: ledger {_render(mine)}, broker {_render(other)}")
    net: dict[str, int] = defaultdict(int, adopted)
    for order in ours.values():
        net[order.security] += order.filled_quantity if order.side is Side.BUY else -order.filled_quantity
    found += [
        f"{security}: ledger {net[security]} units, broker {at_broker.get(security, 0)}"
        for security in sorted(net)
        if net[security] != at_broker.get(security, 0)
    ]
    return tuple(found)


def is_due(audit: Audit, now_ms: int) -> bool:
    """True when the next reading should be asked for."""
    return now_ms >= audit.due_ms


def asked(audit: Audit, now_ms: int) -> Audit:
    """The audit once a reading has been asked for."""
    return replace(audit, due_ms=now_ms + PERIOD_MS)


def after_reading(
    audit: Audit, reading: Reading, activity: tuple[int, tuple[int, ...]]
) -> tuple[Audit, tuple[Caution | Alert, ...]]:
    """What follows from a reading; `activity` is the loop's now."""
    at_ms = reading.at_ms
    if reading.unreadable:
        audit = replace(audit, unreadable=audit.unreadable + 1, due_ms=at_ms + CONFIRM_MS)
        said: tuple[Caution | Alert, ...] = (Caution(at_ms=at_ms, reason=UNREADABLE, active=True),)
        if audit.unreadable == ALERTED_AFTER:
            said += (
                Alert(at_ms=at_ms, kind="broker_unreadable", severity=Severity.CRITICAL, message=reading.unreadable),
            )
        return audit, said
    said = ()
    if audit.unreadable:
        said = (Caution(at_ms=at_ms, reason=UNREADABLE, active=False),)
        audit = replace(audit, unreadable=0)
    moving = reading.activity != activity or bool(activity[1])
    if moving:
        due_ms = min(audit.due_ms, at_ms + CONFIRM_MS) if audit.believed else audit.due_ms
        return replace(audit, suspected=(), due_ms=due_ms), said
    if not reading.differences:
        if audit.believed:
            message = "broker and ledger agree again"
            said += (
                Caution(at_ms=at_ms, reason=DIFFER, active=False),
                Alert(at_ms=at_ms, kind="books_agree", severity=Severity.INFO, message=message),
            )
        return replace(audit, suspected=(), believed=(), at_broker={}), said
    if reading.differences != audit.suspected:
        return replace(audit, suspected=reading.differences, due_ms=at_ms + CONFIRM_MS), said
    if reading.differences == audit.believed:
        return replace(audit, at_broker=reading.at_broker), said
    said += (
        Caution(at_ms=at_ms, reason=DIFFER, active=True),
        Alert(at_ms=at_ms, kind="books_differ", severity=Severity.CRITICAL, message="; ".join(reading.differences)),
    )
    return replace(audit, believed=reading.differences, at_broker=reading.at_broker), said


def is_covered(audit: Audit, security: str, quantity: int) -> bool:
    """Whether so many units can be sold: false while a believed difference says that the account holds fewer."""
    return not audit.believed or audit.at_broker.get(security, 0) >= quantity


def hurried(audit: Audit, now_ms: int) -> Audit:
    """The audit with its next reading due now."""
    return replace(audit, due_ms=now_ms)


def _render(order: AuditedOrder) -> str:
    return f"{order.side} filled {order.filled_quantity}, {'open' if order.is_open else 'ended'}"
