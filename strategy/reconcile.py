"""What the ledger says against what the broker says, difference by difference; both shown, none trusted.

Invariants:
1. Equal books have no difference: `reconcile(ledger=x, broker=x)` finds nothing (unless the day is over and
   something is still open, which is a difference of its own).
2. Every order of either side is either matched or the subject of at least one difference, never both.
3. Orders and positions that are not ours are shown as FOREIGN, never counted as ours and never to be touched.
4. The order of the inputs does not matter.
5. Units that the ledger took over are ours from then on and no order's: whoever bought them is foreign, and the
   account's units are not lessened by what was bought of them.

Orders belong together by the client order id, else by the broker's order id. An order that the ledger knows
to have ended without a fill may be absent at the broker, for a refused order never gets there.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from strategy.events import Side


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderFacts:
    """One order as one side knows it. `filled_value_paise` is the sum of quantity x price over its fills."""

    client_order_id: str  # "" where it carries none
    broker_order_id: str  # "" where it is not known
    security: str  # "NSE_FNO:47317"
    side: Side
    quantity: int | None  # None where this side does not say what was asked for
    filled_quantity: int
    filled_value_paise: int
    is_open: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Book:
    """Orders of the day and net units held, by security; a security that is not named is held at zero.

    `taken_over` are units among the net ones, or sold since, that the session found in the account and made its own.
    """

    orders: tuple[OrderFacts, ...] = ()
    net_quantities: Mapping[str, int] = field(default_factory=dict)
    taken_over: Mapping[str, int] = field(default_factory=dict)


class Kind(StrEnum):
    """In what the two sides differ."""

    MISSING_IN_LEDGER = "missing_in_ledger"  # an order of ours that the ledger never recorded
    MISSING_AT_BROKER = "missing_at_broker"  # a filled or open order that the broker does not have
    DUPLICATE = "duplicate"  # one client order id, several orders at the broker
    IDENTITY = "identity"  # the same id, but another contract, side or size
    QUANTITY = "quantity"  # filled units of an order, or net units of a security
    PRICE = "price"  # the same units for other money
    CHARGES = "charges"  # what the broker billed and what the dated rates say
    STILL_OPEN = "still_open"  # one side has it open and the other not; or the day is over and it is open
    FOREIGN = "foreign"  # placed by someone else


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """One disagreement; `expected` is the ledger's word, `found` the broker's."""

    kind: Kind
    subject: str  # client order id, else broker order id, else security
    expected: str
    found: str
    remedy: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Reconciliation:
    """The orders on which both sides agree (their subjects), and the differences."""

    matched: tuple[str, ...]
    differences: tuple[Difference, ...]

    @property
    def agrees(self) -> bool:
        """Whether everything that is ours agrees."""
        return all(difference.kind is Kind.FOREIGN for difference in self.differences)


REMEDIES = {
    Kind.MISSING_IN_LEDGER: "record the order and its fills, then find out how it was sent without an intent",
    Kind.MISSING_AT_BROKER: "look the order up at the broker by both ids; for money trust its trade book",
    Kind.DUPLICATE: "halt; cancel what is open of the second order and close what it filled",
    Kind.IDENTITY: "halt; compare the request as it was sent with the broker's order",
    Kind.QUANTITY: "take the broker's fills into the ledger; adopt or close what the ledger does not know",
    Kind.PRICE: "take the prices of the broker's trade book into the ledger",
    Kind.CHARGES: "compare with the contract note; where a rate has changed, lay it over the facts and price again",
    Kind.STILL_OPEN: "cancel or close it at the broker, then record how it ended",
    Kind.FOREIGN: "none by the bot; whoever placed it looks after it",
}


def reconcile(
    *,
    ledger: Book,
    broker: Book,
    is_ours: Callable[[str], bool],
    day_over: bool = False,
    price_tolerance_paise: float = 0.0,
) -> Reconciliation:
    """Compare the two books.

    `is_ours` recognises the bot's own client order ids. With `day_over`, orders still open and units still
    held count as differences even where both sides agree. `price_tolerance_paise` is per unit: 0 when the
    broker's values come from single trades, 0.5 when they come from an average rounded to the paisa.
    """
    _demand_ids(ledger.orders)
    pairing = _pair(ledger.orders, broker.orders)
    foreign = [order for order in pairing.only_broker if not is_ours(order.client_order_id)]
    unrecorded = [order for order in pairing.only_broker if is_ours(order.client_order_id)]
    differences: list[Difference] = []
    matched: list[str] = []
    for ours, theirs in pairing.pairs:
        found = tuple(_compare(ours, theirs, day_over=day_over, price_tolerance_paise=price_tolerance_paise))
        differences += found
        if not found:
            matched.append(_subject(ours))
    for order in pairing.only_ledger:
        if order.filled_quantity or order.is_open:
            differences.append(_difference(Kind.MISSING_AT_BROKER, _subject(order), _render(order), NO_ORDER))
        else:
            matched.append(_subject(order))
    for kind, orders in (
        (Kind.MISSING_IN_LEDGER, unrecorded),
        (Kind.DUPLICATE, pairing.duplicates),
        (Kind.FOREIGN, foreign),
    ):
        differences += [_difference(kind, _subject(order), NO_ORDER, _render(order)) for order in orders]
    ours_at_broker = [*(theirs for _, theirs in pairing.pairs), *unrecorded, *pairing.duplicates]
    known = {order.security for order in (*ledger.orders, *ours_at_broker)} | ledger.net_quantities.keys()
    differences += _compare_positions(ledger, broker, foreign, known, day_over=day_over)
    return Reconciliation(
        matched=tuple(sorted(matched)),
        differences=tuple(sorted(differences, key=lambda d: (d.subject, d.kind, d.expected, d.found))),
    )


NO_ORDER = "no order"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Pairing:
    pairs: list[tuple[OrderFacts, OrderFacts]]
    only_ledger: list[OrderFacts]
    only_broker: list[OrderFacts]
    duplicates: list[OrderFacts]  # at the broker, under a client order id that is paired already


def _pair(ledger: Iterable[OrderFacts], broker: Iterable[OrderFacts]) -> _Pairing:
    """Client order ids first, for we gave them; the broker's ids among what is left."""
    pairs, unmatched, duplicates = [], [], []
    by_client_id: dict[str, list[OrderFacts]] = defaultdict(list)
    for theirs in sorted(broker, key=lambda order: (order.broker_order_id, _render(order))):
        by_client_id[theirs.client_order_id].append(theirs)
    for ours in ledger:
        candidates = by_client_id.pop(ours.client_order_id, [])
        if not candidates:
            unmatched.append(ours)
            continue
        partner = next(
            (theirs for theirs in candidates if theirs.broker_order_id == ours.broker_order_id), candidates[0]
        )
        pairs.append((ours, partner))
        duplicates += [theirs for theirs in candidates if theirs is not partner]
    left = [theirs for candidates in by_client_id.values() for theirs in candidates]
    only_ledger = []
    for ours in unmatched:
        partner_by_id = next(
            (theirs for theirs in left if theirs.broker_order_id and theirs.broker_order_id == ours.broker_order_id),
            None,
        )
        if partner_by_id is None:
            only_ledger.append(ours)
        else:
            pairs.append((ours, partner_by_id))
            left.remove(partner_by_id)
    return _Pairing(pairs=pairs, only_ledger=only_ledger, only_broker=left, duplicates=duplicates)


def _compare(
    ours: OrderFacts, theirs: OrderFacts, *, day_over: bool, price_tolerance_paise: float
) -> Iterator[Difference]:
    subject = _subject(ours)
    both_say = ours.quantity is not None and theirs.quantity is not None
    if (ours.side, ours.security) != (theirs.side, theirs.security) or (both_say and ours.quantity != theirs.quantity):
        yield _difference(Kind.IDENTITY, subject, _asked(ours), _asked(theirs))
    if ours.filled_quantity != theirs.filled_quantity:
        yield _difference(Kind.QUANTITY, subject, _filled(ours), _filled(theirs))
    elif abs(ours.filled_value_paise - theirs.filled_value_paise) > price_tolerance_paise * ours.filled_quantity:
        yield _difference(Kind.PRICE, subject, _filled(ours), _filled(theirs))
    if ours.is_open != theirs.is_open or (day_over and ours.is_open):
        yield _difference(Kind.STILL_OPEN, subject, _life(ours), _life(theirs))


def _compare_positions(
    ledger: Book, broker: Book, foreign: Iterable[OrderFacts], known: Iterable[str], *, day_over: bool
) -> Iterator[Difference]:
    bought_by_others: dict[str, int] = defaultdict(int)
    for order in foreign:
        bought_by_others[order.security] += order.filled_quantity * (1 if order.side is Side.BUY else -1)
    for security in known:
        expected = ledger.net_quantities.get(security, 0)
        theirs = bought_by_others[security]
        # What was taken over was bought by others, or came from an earlier day, and then by nobody's order.
        theirs -= min(ledger.taken_over.get(security, 0), max(0, theirs))
        found = broker.net_quantities.get(security, 0) - theirs
        if expected != found:
            yield _difference(Kind.QUANTITY, security, f"net {expected} units", f"net {found} units")
        elif day_over and found:
            yield _difference(Kind.STILL_OPEN, security, "nothing held", f"net {found} units")
    for security in broker.net_quantities.keys() - set(known):
        if held := broker.net_quantities[security]:
            yield _difference(Kind.FOREIGN, security, "nothing held", f"net {held} units")


def _difference(kind: Kind, subject: str, expected: str, found: str) -> Difference:
    return Difference(kind=kind, subject=subject, expected=expected, found=found, remedy=REMEDIES[kind])


def _subject(order: OrderFacts) -> str:
    return order.client_order_id or order.broker_order_id or order.security


def _asked(order: OrderFacts) -> str:
    return " ".join(str(part) for part in (order.side, order.quantity, order.security) if part is not None)


def _filled(order: OrderFacts) -> str:
    return f"filled {order.filled_quantity} for {order.filled_value_paise} paise"


def _life(order: OrderFacts) -> str:
    return "open" if order.is_open else "ended"


def _render(order: OrderFacts) -> str:
    return f"{_asked(order)}, {_filled(order)}, {_life(order)}"


def _demand_ids(orders: Iterable[OrderFacts]) -> None:
    seen: set[str] = set()
    for order in orders:
        if not order.client_order_id or order.client_order_id in seen:
            raise ValueError(
                "every order of the ledger needs a client order id of its own, found "
                f"{order.client_order_id!r}{' twice' if order.client_order_id else ''} ({_render(order)})"
            )
        seen.add(order.client_order_id)
