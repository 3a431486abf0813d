"""Equal books agree; every planted difference is found and named; what is not ours is never counted as ours."""

from dataclasses import replace

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from strategy.events import Side
from strategy.reconcile import Book, Kind, OrderFacts, Reconciliation, reconcile

CE, PE = "NSE_FNO:47317", "NSE_FNO:47318"


def is_ours(client_order_id: str) -> bool:
    return client_order_id.startswith("b")


def order(number: int, side: Side = Side.BUY, **known: object) -> OrderFacts:
    facts = OrderFacts(
        client_order_id=f"b{number}",
        broker_order_id=f"11{number}",
        security=CE,
        side=side,
        quantity=75,
        filled_quantity=75,
        filled_value_paise=75 * 100_00,
        is_open=False,
    )
    return replace(facts, **known)


def compare(ledger: Book, broker: Book, **settings: object) -> Reconciliation:
    return reconcile(ledger=ledger, broker=broker, is_ours=is_ours, **settings)


def kinds(found: Reconciliation) -> list[tuple[str, str]]:
    return [(difference.subject, difference.kind.value) for difference in found.differences]


BOUGHT, SOLD = order(1), order(2, Side.SELL)
FLAT = Book(orders=(BOUGHT, SOLD))
HELD = Book(orders=(BOUGHT,), net_quantities={CE: 75})
STRANGE = order(9, client_order_id="their-own", broker_order_id="119", security=PE)

# What the ledger says, what the broker says, and the differences.
CASES = {
    "a flat day agrees": (FLAT, FLAT, []),
    "a held position agrees": (HELD, HELD, []),
    "an order that was refused is not at the broker": (
        Book(orders=(order(1, filled_quantity=0, filled_value_paise=0, broker_order_id=""),)),
        Book(),
        [],
    ),
    "an order without our id is known by the broker's": (
        HELD,
        Book(orders=(order(1, client_order_id=""),), net_quantities={CE: 75}),
        [],
    ),
    "we sent an order that nobody recorded": (
        Book(),
        HELD,
        [(CE, "quantity"), ("b1", "missing_in_ledger")],
    ),
    "the broker does not know a filled order": (
        HELD,
        Book(),
        [(CE, "quantity"), ("b1", "missing_at_broker")],
    ),
    "the broker does not know an open order": (
        Book(orders=(order(1, filled_quantity=0, filled_value_paise=0, is_open=True),)),
        Book(),
        [("b1", "missing_at_broker")],
    ),
    "an order was sent twice": (
        HELD,
        Book(orders=(BOUGHT, replace(BOUGHT, broker_order_id="777")), net_quantities={CE: 150}),
        [(CE, "quantity"), ("b1", "duplicate")],
    ),
    "an order is for another contract": (
        HELD,
        Book(orders=(replace(BOUGHT, security=PE),), net_quantities={PE: 75}),
        [(CE, "quantity"), (PE, "quantity"), ("b1", "identity")],
    ),
    "an order is on the other side": (
        FLAT,
        Book(orders=(BOUGHT, replace(SOLD, side=Side.BUY)), net_quantities={CE: 150}),
        [(CE, "quantity"), ("b2", "identity")],
    ),
    "a fill did not reach the ledger": (
        Book(orders=(order(1, filled_quantity=50, filled_value_paise=50 * 100_00),), net_quantities={CE: 50}),
        HELD,
        [(CE, "quantity"), ("b1", "quantity")],
    ),
    "the same units went for other money": (
        FLAT,
        Book(orders=(BOUGHT, replace(SOLD, filled_value_paise=75 * 99_95))),
        [("b2", "price")],
    ),
    "the broker still has open what the ledger counts as ended": (
        Book(orders=(order(1, filled_quantity=0, filled_value_paise=0),)),
        Book(orders=(order(1, filled_quantity=0, filled_value_paise=0, is_open=True),)),
        [("b1", "still_open")],
    ),
    "the ledger missed the end of an order": (
        Book(orders=(order(1, filled_quantity=0, filled_value_paise=0, is_open=True),)),
        Book(orders=(order(1, filled_quantity=0, filled_value_paise=0),)),
        [("b1", "still_open")],
    ),
    "someone else traded another contract": (
        FLAT,
        Book(orders=(*FLAT.orders, STRANGE), net_quantities={PE: 75}),
        [(PE, "foreign"), ("their-own", "foreign")],
    ),
    "someone else traded our contract: their units are not ours": (
        FLAT,
        Book(orders=(*FLAT.orders, replace(STRANGE, security=CE)), net_quantities={CE: 75}),
        [("their-own", "foreign")],
    ),
    "someone else sold what we hold": (
        HELD,
        Book(orders=(BOUGHT, replace(STRANGE, security=CE, side=Side.SELL))),
        [("their-own", "foreign")],
    ),
    "someone holds a contract since yesterday": (
        FLAT,
        Book(orders=FLAT.orders, net_quantities={PE: -30}),
        [(PE, "foreign")],
    ),
    "someone bought, and the session took it over and sold it": (
        Book(orders=(SOLD,), taken_over={CE: 75}),
        Book(orders=(SOLD, replace(STRANGE, security=CE))),
        [("their-own", "foreign")],
    ),
    "someone bought, and the session took it over and holds it": (
        Book(net_quantities={CE: 75}, taken_over={CE: 75}),
        Book(orders=(replace(STRANGE, security=CE),), net_quantities={CE: 75}),
        [("their-own", "foreign")],
    ),
    "what was taken over came from an earlier day: nobody bought it today": (
        Book(orders=(SOLD,), taken_over={CE: 75}),
        Book(orders=(SOLD,)),
        [],
    ),
    "someone bought more than what was taken over": (
        Book(orders=(SOLD,), taken_over={CE: 75}),
        Book(orders=(SOLD, replace(STRANGE, security=CE, filled_quantity=150)), net_quantities={CE: 75}),
        [("their-own", "foreign")],
    ),
    "someone sold what was taken over": (
        Book(net_quantities={CE: 75}, taken_over={CE: 75}),
        Book(
            orders=(
                replace(STRANGE, security=CE),
                replace(STRANGE, broker_order_id="120", client_order_id="sold", security=CE, side=Side.SELL),
            )
        ),
        [(CE, "quantity"), ("sold", "foreign"), ("their-own", "foreign")],
    ),
    "what was taken over is gone, and nobody sold it": (
        Book(net_quantities={CE: 75}, taken_over={CE: 75}),
        Book(orders=(replace(STRANGE, security=CE),)),
        [(CE, "quantity"), ("their-own", "foreign")],
    ),
    "someone bought and sold another contract": (
        FLAT,
        Book(orders=FLAT.orders, net_quantities={PE: 0}),
        [],
    ),
    "two orders without any id have nothing to do with each other": (
        Book(orders=(order(1, broker_order_id=""),)),
        Book(orders=(order(1, client_order_id="", broker_order_id=""),)),
        [(CE, "foreign"), (CE, "quantity"), ("b1", "missing_at_broker")],
    ),
    "a side that does not say what was asked for is not contradicted": (
        FLAT,
        Book(orders=(replace(BOUGHT, quantity=None), replace(SOLD, quantity=None))),
        [],
    ),
    "and still is for another contract": (
        HELD,
        Book(orders=(replace(BOUGHT, quantity=None, security=PE),), net_quantities={PE: 75}),
        [(CE, "quantity"), (PE, "quantity"), ("b1", "identity")],
    ),
    "units of our contract without any order": (
        FLAT,
        Book(orders=FLAT.orders, net_quantities={CE: 75}),
        [(CE, "quantity")],
    ),
}


@pytest.mark.parametrize(("ledger", "broker", "expected"), CASES.values(), ids=CASES)
def test_differences_are_found_and_named(ledger, broker, expected):
    found = compare(ledger, broker)
    assert kinds(found) == expected
    assert found.agrees == all(kind == "foreign" for _, kind in expected)
    assert all(difference.expected != difference.found and difference.remedy for difference in found.differences)


class TestDayOver:
    def test_what_both_sides_hold_is_still_a_difference(self):
        assert kinds(compare(HELD, HELD, day_over=True)) == [(CE, "still_open")]

    def test_what_both_sides_have_open_is_still_a_difference(self):
        book = Book(orders=(order(1, filled_quantity=0, filled_value_paise=0, is_open=True),))
        assert kinds(compare(book, book, day_over=True)) == [("b1", "still_open")]

    def test_a_flat_book_is_what_it_should_be(self):
        assert compare(FLAT, FLAT, day_over=True).agrees


class TestPriceTolerance:
    @pytest.mark.parametrize(("off_paise", "agrees"), [(0, True), (37, True), (-37, True), (38, False), (-38, False)])
    def test_is_per_unit(self, off_paise, agrees):
        theirs = Book(orders=(replace(BOUGHT, filled_value_paise=75 * 100_00 + off_paise),), net_quantities={CE: 75})
        assert compare(HELD, theirs, price_tolerance_paise=0.5).agrees is agrees

    def test_is_nothing_unless_asked_for(self):
        theirs = Book(orders=(replace(BOUGHT, filled_value_paise=75 * 100_00 + 1),), net_quantities={CE: 75})
        assert not compare(HELD, theirs).agrees


def test_with_two_orders_under_one_id_the_recorded_one_is_matched():
    unfilled = replace(BOUGHT, broker_order_id="001", filled_quantity=0, filled_value_paise=0)
    twice = Book(orders=(unfilled, BOUGHT), net_quantities={CE: 75})
    found = compare(HELD, twice)
    assert found.matched == ("b1",)
    assert [difference.kind for difference in found.differences] == [Kind.DUPLICATE]
    assert "filled 0 " in found.differences[0].found


@pytest.mark.parametrize("ids", [("",), ("b1", "b1")])
def test_a_ledger_without_ids_of_its_own_is_refused(ids):
    book = Book(orders=tuple(replace(BOUGHT, client_order_id=name) for name in ids))
    with pytest.raises(ValueError, match="needs a client order id of its own, found"):
        compare(book, Book())


@st.composite
def books(draw: st.DrawFn) -> Book:
    """A consistent ledger: unique ids, fills within the order, net units from the fills."""
    orders, net = [], dict.fromkeys((CE, PE), 0)
    for number in range(draw(st.integers(0, 6))):
        quantity = draw(st.integers(1, 4)) * 75
        filled = draw(st.integers(0, quantity))
        facts = order(
            number,
            draw(st.sampled_from(Side)),
            security=draw(st.sampled_from([CE, PE])),
            quantity=quantity,
            filled_quantity=filled,
            filled_value_paise=filled * draw(st.integers(5, 500_00)),
            is_open=filled < quantity and draw(st.booleans()),
        )
        orders.append(facts)
        net[facts.security] += filled if facts.side is Side.BUY else -filled
    return Book(orders=tuple(orders), net_quantities=net)


class TestProperties:
    @given(book=books())
    def test_equal_books_have_no_difference(self, book):
        found = compare(book, book)
        assert found.differences == ()
        assert found.matched == tuple(sorted(facts.client_order_id for facts in book.orders))

    @given(ledger=books(), broker=books(), data=st.data())
    def test_the_order_of_the_inputs_does_not_matter(self, ledger, broker, data):
        shuffled = replace(broker, orders=tuple(data.draw(st.permutations(broker.orders))))
        turned = replace(ledger, orders=tuple(data.draw(st.permutations(ledger.orders))))
        assert compare(turned, shuffled) == compare(ledger, broker)

    @given(ledger=books(), broker=books())
    def test_every_order_is_matched_or_a_subject_never_both(self, ledger, broker):
        found = compare(ledger, broker)
        subjects = {difference.subject for difference in found.differences}
        everyone = {facts.client_order_id for facts in (*ledger.orders, *broker.orders)}
        assert everyone == set(found.matched) | (subjects - {CE, PE})
        assert not subjects & set(found.matched)

    @given(book=books(), strangers=books())
    def test_what_others_do_is_shown_and_changes_nothing_of_ours(self, book, strangers):
        theirs = tuple(
            replace(facts, client_order_id=f"x{facts.client_order_id}", broker_order_id=f"x{facts.broker_order_id}")
            for facts in strangers.orders
        )
        together = {
            security: book.net_quantities[security] + strangers.net_quantities[security] for security in (CE, PE)
        }
        found = compare(book, Book(orders=book.orders + theirs, net_quantities=together))
        assert found.agrees
        assert {difference.subject for difference in found.differences} == {facts.client_order_id for facts in theirs}

    @given(
        book=books(), data=st.data(), plant=st.sampled_from(["lose", "refill", "reprice", "reopen", "turn", "repeat"])
    )
    def test_one_planted_difference_is_found_under_its_name_and_its_order(self, book, data, plant):
        assume(book.orders)
        victim = data.draw(st.sampled_from(book.orders))
        if plant in {"lose", "reprice"}:
            assume(victim.filled_quantity)
        planted, kind = {
            "lose": ((), Kind.MISSING_AT_BROKER),
            "refill": ((replace(victim, filled_quantity=victim.filled_quantity + 1),), Kind.QUANTITY),
            "reprice": ((replace(victim, filled_value_paise=victim.filled_value_paise + 1),), Kind.PRICE),
            "reopen": ((replace(victim, is_open=not victim.is_open),), Kind.STILL_OPEN),
            "turn": ((replace(victim, side=Side.BUY if victim.side is Side.SELL else Side.SELL),), Kind.IDENTITY),
            "repeat": ((victim, replace(victim, broker_order_id="again")), Kind.DUPLICATE),
        }[plant]
        others = tuple(facts for facts in book.orders if facts != victim)
        found = compare(book, replace(book, orders=others + planted))
        assert [(difference.kind, difference.subject) for difference in found.differences] == [
            (kind, victim.client_order_id)
        ]
        assert not found.agrees

    @given(book=books(), units=st.integers(-500, 500).filter(bool), security=st.sampled_from([CE, PE]))
    def test_units_that_no_order_explains_are_found(self, book, units, security):
        held = dict(book.net_quantities) | {security: book.net_quantities[security] + units}
        assert kinds(compare(book, replace(book, net_quantities=held))) == [(security, "quantity")]
