"""One order's life at the broker: its words, its table of transitions, and the value that carries it.

An intent (`strategy.desk`) is sent as one or more orders. The world's answers come in as `Reply` (to a
request of ours) and `Seen` (the broker's own view, pushed or read); requests, facts for the ledger and alerts
come out. `strategy.order_news` says what an answer means, `strategy.order_work` what is due. Nothing here
sends, waits or reads a clock.

Invariants:
1. An order is sent at most once. A second PLACE under the same id follows only an answer that vouches that
   nothing was sent (`Answer.NOTHING_SENT`); an order in doubt is looked up, never sent again.
2. The filled quantity never goes down; what is final stays final. A push may fill an order, only the book may
   end one short of its quantity: a cancellation that was pushed is confirmed by reading before it is
   believed.
3. An order in doubt ends as absent only when no request of ours is on its way and `ABSENT_READS` readings of the
   whole order book did not show it, one of them begun `ABSENT_AFTER_MS` after the doubt. An order that the
   broker accepted is never declared absent.
4. While an order may be live it is not CLOSED, so a late fill is never lost.
5. An answer to a cancellation is no more than an answer: the book says whether a fill came first.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Self

from strategy.actions import Alert, Severity
from strategy.events import Side
from strategy.instruments import Contract
from strategy.params import Params
from strategy.pricing import Buffer

LOOK_DELAYS_MS = (
    500,
    1_000,
    2_000,
    4_000,
    8_000,
)  # between look-ups of an order in doubt; the last one repeats
ABSENT_AFTER_MS = 15_000
ABSENT_READS = 2
BROKER_MODIFICATIONS_MAX = 25
ID_LENGTH_MAX = 20
PREFIX_LENGTH_MAX = 11
NUMERALS = "0123456789abcdefghijklmnopqrstuvwxyz"
ORDERS_MAX = len(NUMERALS)  # of one intent


class Purpose(StrEnum):
    """Entries buy and may be given up; exits sell and may not."""

    ENTRY = "ENTRY"
    EXIT = "EXIT"

    @property
    def side(self) -> Side:
        """Entries buy options, exits sell them."""
        return Side.BUY if self is Purpose.ENTRY else Side.SELL


class Stage(StrEnum):
    """Where an order is in its life, as far as we know."""

    RECORDED = "RECORDED"  # in the ledger; nothing is at the broker
    SENDING = "SENDING"  # on its way
    UNKNOWN = "UNKNOWN"  # it may be live: being looked up
    WORKING = "WORKING"  # at the broker
    CANCELLING = "CANCELLING"  # at the broker, and not wanted any more
    CLOSED = "CLOSED"  # can neither fill nor change


class Cause(StrEnum):
    """What moves an order from one stage to the next."""

    SENT = "SENT"  # we hand it to the broker
    ACCEPTED = "ACCEPTED"  # the broker gave it a number
    REFUSED = "REFUSED"  # the broker definitely said no
    NOT_SENT = "NOT_SENT"  # vouched for: nothing reached the broker; it may be tried again
    DROPPED = "DROPPED"  # the same, and it is not tried again
    IN_DOUBT = "IN_DOUBT"  # no definite answer
    SEEN_OPEN = "SEEN_OPEN"  # the broker shows it, not ended
    SEEN_ENDED = "SEEN_ENDED"  # filled whole, or the book shows its end
    SEEN_ABSENT = "SEEN_ABSENT"  # looked for long enough: it does not exist
    UNWANTED = "UNWANTED"  # we want it cancelled


# The life of an order. A pair that is not listed changes nothing: it is late, repeated or contradicted news.
TRANSITIONS: Mapping[tuple[Stage, Cause], Stage] = {
    (Stage.RECORDED, Cause.SENT): Stage.SENDING,
    (Stage.RECORDED, Cause.SEEN_OPEN): Stage.WORKING,  # "nothing was sent" was wrong; the book is right
    (Stage.RECORDED, Cause.SEEN_ENDED): Stage.CLOSED,
    (Stage.SENDING, Cause.ACCEPTED): Stage.WORKING,
    (Stage.SENDING, Cause.REFUSED): Stage.CLOSED,
    (Stage.SENDING, Cause.NOT_SENT): Stage.RECORDED,
    (Stage.SENDING, Cause.DROPPED): Stage.CLOSED,
    (Stage.SENDING, Cause.IN_DOUBT): Stage.UNKNOWN,
    (Stage.SENDING, Cause.SEEN_OPEN): Stage.WORKING,  # a push overtook the answer
    (Stage.SENDING, Cause.SEEN_ENDED): Stage.CLOSED,
    (Stage.UNKNOWN, Cause.ACCEPTED): Stage.WORKING,  # the answer came after all
    (Stage.UNKNOWN, Cause.REFUSED): Stage.CLOSED,
    (Stage.UNKNOWN, Cause.NOT_SENT): Stage.RECORDED,
    (Stage.UNKNOWN, Cause.DROPPED): Stage.CLOSED,
    (Stage.UNKNOWN, Cause.SEEN_OPEN): Stage.WORKING,
    (Stage.UNKNOWN, Cause.SEEN_ENDED): Stage.CLOSED,
    (Stage.UNKNOWN, Cause.SEEN_ABSENT): Stage.CLOSED,
    (Stage.WORKING, Cause.UNWANTED): Stage.CANCELLING,
    (Stage.WORKING, Cause.SEEN_ENDED): Stage.CLOSED,
    (Stage.CANCELLING, Cause.SEEN_ENDED): Stage.CLOSED,
    # Said by the broker not to exist, and yet it is there (an ending that was read is final, see `Ending`).
    (Stage.CLOSED, Cause.SEEN_OPEN): Stage.CANCELLING,
}


class Ending(StrEnum):
    """How an order ended. FILLED and CANCELLED were read at the broker: nothing contradicts them any more."""

    FILLED = "FILLED"
    CANCELLED = "CANCELLED"  # by us, by the exchange or at the close; it may be partly filled
    REFUSED = "REFUSED"
    ABSENT = "ABSENT"
    NOT_SENT = "NOT_SENT"


class Ask(StrEnum):
    """What is asked of the broker."""

    PLACE = "PLACE"
    MODIFY = "MODIFY"
    CANCEL = "CANCEL"
    LOOK_UP = "LOOK_UP"


class Answer(StrEnum):
    """What a request came to, sorted by what it means for a live order."""

    ACCEPTED = "ACCEPTED"
    REJECTED = "REJECTED"  # a definite no
    NOTHING_SENT = "NOTHING_SENT"  # unavailable or rate limited; for a look-up: it could not be read
    AUTHENTICATION_DEAD = "AUTHENTICATION_DEAD"  # a definite no; a person must act
    IP_REFUSED = "IP_REFUSED"  # a definite no; a person must act
    UNKNOWN = "UNKNOWN"  # anything may have happened
    FOUND = "FOUND"  # a look-up's answer; `seen` is what was found
    ABSENT = "ABSENT"  # a look-up's answer: the whole order book was read and does not show it


DEFINITE_REFUSALS = frozenset({Answer.REJECTED, Answer.AUTHENTICATION_DEAD, Answer.IP_REFUSED})


class BookStatus(StrEnum):
    """The broker's words for an order."""

    TRANSIT = "TRANSIT"
    PENDING = "PENDING"
    PART_TRADED = "PART_TRADED"
    TRADED = "TRADED"
    REJECTED = "REJECTED"
    CANCELLED = "CANCELLED"
    EXPIRED = "EXPIRED"


# TRADED is not among them: it ends an order by its filled quantity, never by the word alone.
ENDED_SHORT = frozenset({BookStatus.REJECTED, BookStatus.CANCELLED, BookStatus.EXPIRED})


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """An order as the broker shows it. A push may be late, repeated or out of order."""

    at_ms: int
    client_order_id: str
    broker_order_id: str
    status: BookStatus
    filled_quantity: int
    filled_value_paise: int
    limit_paise: int = 0  # 0: not said
    message: str = ""
    from_book: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """The answer to one request of ours. Every request gets exactly one."""

    at_ms: int
    ask: Ask
    client_order_id: str
    answer: Answer
    broker_order_id: str = ""
    message: str = ""
    retry_after_ms: int = 0
    seen: Seen | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """Something to ask of the broker; a PLACE or MODIFY states the whole order with its limit."""

    ask: Ask
    client_order_id: str
    broker_order_id: str
    contract: Contract
    side: Side
    quantity: int
    limit_paise: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PushesMissed:
    """The broker may have pushed what nobody heard, and does not repeat it: every live order is to be read."""

    at_ms: int


class FactKind(StrEnum):
    """What can be learnt about an order, in the ledger's words."""

    SENT = "SENT"
    ACCEPTED = "ACCEPTED"
    REFUSED = "REFUSED"
    UNKNOWN = "UNKNOWN"
    MODIFY_SENT = "MODIFY_SENT"
    CANCEL_SENT = "CANCEL_SENT"
    SEEN = "SEEN"
    ABSENT = "ABSENT"


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderFact:
    """One thing that happened to an order, for the ledger."""

    client_order_id: str
    at_ms: int
    kind: FactKind
    status: str = ""
    broker_order_id: str = ""
    filled_quantity: int = 0
    limit_paise: int = 0
    message: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class FillStep:
    """The step of an order from one cumulative filled quantity to the next."""

    client_order_id: str
    at_ms: int  # when it was learnt
    cumulative_quantity: int
    quantity: int
    value_paise: int


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderPolicy:
    """How patient and how pushy orders are; from the settings."""

    timeout_ms: int = 5_000  # not filled by then: re-price
    reprices_max: int = 3  # an entry is then cancelled; an exit goes on with a growing buffer
    modifications_max: int = 20  # of one order at the broker; then it is cancelled and the session sells anew
    poll_ms: int = 2_000  # a live order is read this often, so that missed pushes do not matter
    buffer: Buffer = field(default_factory=Buffer)

    def __post_init__(self) -> None:
        if self.timeout_ms <= 0 or self.poll_ms <= 0 or self.reprices_max < 0:
            raise ValueError(f"order times must be positive and re-prices not negative, found {self}")
        if not 1 <= self.modifications_max < BROKER_MODIFICATIONS_MAX:
            raise ValueError(f"the broker allows {BROKER_MODIFICATIONS_MAX} modifications; stay below, found {self}")


def order_policy(params: Params) -> OrderPolicy:
    """The settings' own words for it."""
    return OrderPolicy(
        timeout_ms=params.order_timeout_seconds * 1000,
        reprices_max=params.reprice_attempts,
        buffer=Buffer(basis_points=round(params.price_buffer_percent * 100), min_paise=params.price_buffer_min_paise),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """One order under one id of ours. `writing` and `looking_since_ms` are the requests still unanswered."""

    client_order_id: str
    intent: int
    purpose: Purpose
    contract: Contract
    quantity: int
    number: int  # within its intent, from 0
    limit_paise: int
    stage: Stage = Stage.RECORDED
    ending: Ending | None = None
    status: str = ""
    broker_order_id: str = ""
    filled_quantity: int = 0
    filled_value_paise: int = 0
    message: str = ""
    writing: Ask | None = None
    asked_limit_paise: int = 0
    looking_since_ms: int | None = None
    write_due_ms: int = 0  # not before: send, re-price or cancel
    look_due_ms: int = 0
    looks: int = 0  # since something last changed; spaces the look-ups
    absent_reads: int = 0
    doubt_since_ms: int = 0
    reprices: int = 0  # decided
    modifications: int = 0  # that may have reached the broker, or would have changed nothing
    setbacks: int = 0  # writes in a row that came to nothing
    unwanted: bool = False
    alerted: frozenset[str] = frozenset()

    @property
    def side(self) -> Side:
        """Which way it goes."""
        return self.purpose.side

    @property
    def remaining_quantity(self) -> int:
        """Units that may still fill."""
        return self.quantity - self.filled_quantity

    def nearer(self, limit_paise: int) -> int:
        """The one of this limit and the order's own that is nearer to being filled."""
        choose = max if self.side is Side.BUY else min
        return choose(limit_paise or self.limit_paise, self.limit_paise)

    @property
    def is_closed(self) -> bool:
        """True when it can neither fill nor change."""
        return self.stage is Stage.CLOSED

    @property
    def is_findable(self) -> bool:
        """True when the broker may have it, so that looking it up makes sense."""
        return self.stage in {Stage.UNKNOWN, Stage.WORKING, Stage.CANCELLING}

    def moved(self, cause: Cause) -> Self:
        """The order after `cause`, by the table."""
        return replace(self, stage=TRANSITIONS.get((self.stage, cause), self.stage))

    def request(self, ask: Ask, *, limit_paise: int = 0) -> Request:
        """What to ask of the broker about this order, at its limit or another."""
        return Request(
            ask=ask,
            client_order_id=self.client_order_id,
            broker_order_id=self.broker_order_id,
            contract=self.contract,
            side=self.side,
            quantity=self.quantity,
            limit_paise=limit_paise or self.limit_paise,
        )

    def fact(self, kind: FactKind, at_ms: int, *, limit_paise: int = 0) -> OrderFact:
        """What the ledger should know about this order now."""
        return OrderFact(
            client_order_id=self.client_order_id,
            at_ms=at_ms,
            kind=kind,
            status=self.status,
            broker_order_id=self.broker_order_id,
            filled_quantity=self.filled_quantity,
            limit_paise=limit_paise or self.limit_paise,
            message=self.message,
        )

    def alert(self, kind: str, severity: Severity, at_ms: int, text: str) -> Alert:
        """What a person should hear about this order."""
        what = f"{self.purpose} order {self.client_order_id} ({self.side} {self.quantity} {self.contract.name})"
        return Alert(at_ms=at_ms, kind=kind, severity=severity, message=f"{what} {text}")

    def alert_once(self, kind: str, at_ms: int, text: str) -> tuple[Self, tuple[Alert, ...]]:
        """A critical alert that is not repeated in this order's life."""
        if kind in self.alerted:
            return self, ()
        alert = self.alert(kind, Severity.CRITICAL, at_ms, text)
        return replace(self, alerted=self.alerted | {kind}), (alert,)


Output = Request | OrderFact | FillStep | Alert
Outputs = tuple[Output, ...]


def client_order_id(prefix: str, intent: int, number: int) -> str:
    """Our id of an order, e.g. "261120N-k3f-12-0": prefix of the session, intent, number of the order.

    Raises:
        ValueError: a part does not fit; the id is at most 20 of [A-Za-z0-9_-].
    """
    alphabet_fits = prefix.isascii() and all(sign.isalnum() or sign in "-_" for sign in prefix)
    if not (0 < len(prefix) <= PREFIX_LENGTH_MAX and alphabet_fits):
        raise ValueError(f"a prefix is 1 to {PREFIX_LENGTH_MAX} of [A-Za-z0-9_-], found {prefix!r}")
    if not 0 <= number < ORDERS_MAX:
        raise ValueError(f"an intent has at most {ORDERS_MAX} orders, found number {number}; trade fewer lots")
    written = f"{prefix}-{intent}-{NUMERALS[number]}"
    if intent < 0 or len(written) > ID_LENGTH_MAX:
        raise ValueError(f"an order id has at most {ID_LENGTH_MAX} signs, found {written!r} for intent {intent}")
    return written


def slices(quantity: int, freeze_quantity: int, lot_size: int) -> tuple[int, ...]:
    """Split `quantity` units into orders of whole lots within the freeze quantity; 0 or less means no freeze.

    Raises:
        ValueError: the quantity is not positive, or not even one lot is within the freeze quantity.
    """
    if quantity <= 0:
        raise ValueError(f"an order needs a positive quantity, found {quantity} units")
    if freeze_quantity <= 0:
        return (quantity,)
    largest = freeze_quantity // lot_size * lot_size
    if largest <= 0:
        raise ValueError(f"a lot of {lot_size} exceeds the freeze quantity {freeze_quantity}; check the instrument")
    whole, rest = divmod(quantity, largest)
    return (largest,) * whole + ((rest,) if rest else ())
