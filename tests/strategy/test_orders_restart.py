"""What a new process believes of an order, from what the ledger has of it."""

import pytest

from strategy.desk import Desk, Intent, restored, step
from strategy.events import Timer
from strategy.order_news import recall
from strategy.orders import (
    Answer,
    Ask,
    BookStatus,
    Ending,
    FactKind,
    FillStep,
    Order,
    OrderFact,
    OrderPolicy,
    Purpose,
    Reply,
    Request,
    Seen,
    Stage,
)

from .conftest import CONTRACT

NOW_MS = 9_000_000

# Facts in the order of recording: kind, or SEEN:status:filled; fills as cumulative quantities. 130 units were ordered.
TABLE = """
    facts                                     fills    stage    ending
    -                                         -        UNKNOWN  -          # committed; perhaps sent
    SENT                                      -        UNKNOWN  -
    SENT ACCEPTED                             -        UNKNOWN  -
    SENT UNKNOWN                              -        UNKNOWN  -
    SENT REFUSED                              -        CLOSED   REFUSED
    SENT UNKNOWN ABSENT                       -        CLOSED   ABSENT
    SENT ACCEPTED SEEN:PENDING:0              -        UNKNOWN  -
    SENT ACCEPTED SEEN:PART_TRADED:65         65       UNKNOWN  -
    SENT ACCEPTED SEEN:TRADED:130             65,130   CLOSED   FILLED
    SENT ACCEPTED                             130      CLOSED   FILLED     # the last word was lost, the fill was not
    SENT ACCEPTED SEEN:TRADED:130             65       UNKNOWN  -          # a fill is missing: ask
    SENT ACCEPTED CANCEL_SENT                 -        UNKNOWN  -
    SENT ACCEPTED SEEN:CANCELLED:0            -        CLOSED   CANCELLED
    SENT ACCEPTED SEEN:CANCELLED:65           65       CLOSED   CANCELLED
    SENT ACCEPTED SEEN:CANCELLED:65           -        UNKNOWN  -          # a fill is missing: ask
    SENT ACCEPTED SEEN:REJECTED:0             -        CLOSED   REFUSED
    SENT ACCEPTED SEEN:EXPIRED:0              -        CLOSED   CANCELLED
    SENT REFUSED SEEN:PENDING:0               -        UNKNOWN  -          # the broker contradicted itself
"""


def order(purpose=Purpose.EXIT):
    return Order(
        client_order_id="261120N-k3f-7-0",
        intent=7,
        purpose=purpose,
        contract=CONTRACT,
        quantity=130,
        number=0,
        limit_paise=99_00,
    )


def facts_of(text):
    for number, word in enumerate(text.split()):
        kind, _, rest = word.partition(":")
        status, _, filled = rest.partition(":")
        yield OrderFact(
            client_order_id="261120N-k3f-7-0",
            at_ms=number,
            kind=FactKind(kind),
            status=status,
            broker_order_id="9001" if kind == "ACCEPTED" else "",
            filled_quantity=int(filled or 0),
            limit_paise=98_00 if kind == "MODIFY_SENT" else 99_00,
            message="its words",
        )


def steps_of(text):
    before = 0
    for cumulative in map(int, text.split(",")):
        yield FillStep(
            client_order_id="261120N-k3f-7-0",
            at_ms=1,
            cumulative_quantity=cumulative,
            quantity=cumulative - before,
            value_paise=(cumulative - before) * 100_00,
        )
        before = cumulative


@pytest.mark.parametrize("row", TABLE.strip().splitlines()[1:])
def test_an_order_is_over_only_where_the_ledger_proves_it(row):
    *facts, fills, stage, ending = row.partition("#")[0].split()
    told = tuple(facts_of(" ".join(facts))) if facts != ["-"] else ()
    found = recall(order(), told, tuple(steps_of(fills)) if fills != "-" else (), NOW_MS)
    assert found.stage is Stage(stage)
    assert found.ending == (None if ending == "-" else Ending(ending))
    filled = int(fills.split(",")[-1]) if fills != "-" else 0
    assert (found.filled_quantity, found.filled_value_paise) == (filled, filled * 100_00)
    last = told[-1] if told else None
    if ending == "FILLED" or last is None or last.kind not in {FactKind.SEEN, FactKind.REFUSED, FactKind.ABSENT}:
        return
    # The last word of the broker is what is known of it.
    assert found.status == last.status
    if found.is_closed:
        assert found.message == "its words"


def test_what_is_in_doubt_is_asked_for_at_once_and_its_doubt_begins_now():
    found = recall(order(), (), (), NOW_MS)
    assert (found.doubt_since_ms, found.look_due_ms, found.message) == (NOW_MS, NOW_MS, "")
    assert recall(order(Purpose.ENTRY), (), (), NOW_MS).message == "found open after a restart"


def test_modifications_and_limit_are_remembered():
    """The broker counts 25 modifications over the order's life, not over ours."""
    found = recall(order(), tuple(facts_of("SENT ACCEPTED MODIFY_SENT MODIFY_SENT")), (), NOW_MS)
    assert (found.modifications, found.reprices, found.limit_paise) == (2, 2, 98_00)
    assert found.broker_order_id == "9001"


@pytest.mark.parametrize(("purpose", "unwanted"), [(Purpose.ENTRY, True), (Purpose.EXIT, False)])
def test_a_buying_decision_does_not_outlive_its_process(purpose, unwanted):
    assert recall(order(purpose), (), (), NOW_MS).unwanted is unwanted


def requests_of(outputs):
    return [output.ask for output in outputs if isinstance(output, Request)]


def test_an_order_in_doubt_is_looked_up_at_once_and_never_sent():
    recalled = recall(order(), (), (), NOW_MS)
    desk = restored(Desk(prefix="261120N-k3f"), [intent_of(recalled)])
    assert desk.open_intents == (7,)
    _, said = step(desk, Timer(at_ms=NOW_MS), OrderPolicy())
    assert requests_of(said) == [Ask.LOOK_UP]


def test_an_order_that_was_accepted_is_never_taken_for_absent():
    """Not in the book for minutes: a person is called, and nothing is sold a second time."""
    recalled = recall(order(), tuple(facts_of("SENT ACCEPTED")), (), NOW_MS)
    desk = restored(Desk(prefix="261120N-k3f"), [intent_of(recalled)])
    alerts = []
    for seconds in range(300):
        at_ms = NOW_MS + seconds * 1000
        desk, said = step(desk, Timer(at_ms=at_ms), OrderPolicy())
        if requests_of(said) == [Ask.LOOK_UP]:
            absent = Reply(at_ms=at_ms, ask=Ask.LOOK_UP, client_order_id="261120N-k3f-7-0", answer=Answer.ABSENT)
            desk, said = step(desk, absent, OrderPolicy())
            alerts += [output.kind for output in said]
    assert desk.open_intents == (7,)
    assert alerts == ["order_not_in_book"]


def test_a_limit_that_went_further_before_the_restart_is_not_taken_back():
    """The last modification may not have reached the ledger; the book shows it."""
    desk = restored(Desk(prefix="261120N-k3f"), [intent_of(recall(order(), (), (), NOW_MS))])
    desk, _ = step(desk, Timer(at_ms=NOW_MS), OrderPolicy())
    seen = Seen(
        at_ms=NOW_MS,
        client_order_id="261120N-k3f-7-0",
        broker_order_id="9001",
        status=BookStatus.PENDING,
        filled_quantity=0,
        filled_value_paise=0,
        limit_paise=90_00,
        from_book=True,
    )
    found = Reply(at_ms=NOW_MS, ask=Ask.LOOK_UP, client_order_id=seen.client_order_id, answer=Answer.FOUND, seen=seen)
    desk, _ = step(desk, found, OrderPolicy())
    assert desk.intents[7].orders[0].limit_paise == 90_00
    _, said = step(desk, Timer(at_ms=NOW_MS + 5_000), OrderPolicy())
    assert Ask.MODIFY not in requests_of(said)


def intent_of(recalled):
    return Intent(
        intent=7,
        purpose=Purpose.EXIT,
        contract=CONTRACT,
        quantity=130,
        reference_paise=100_00,
        orders=(recalled,),
    )


def test_an_ended_intent_is_not_told_again():
    closed = recall(order(), tuple(facts_of("SENT REFUSED")), (), NOW_MS)
    desk = restored(Desk(prefix="261120N-k3f"), [intent_of(closed)])
    assert desk.open_intents == ()
    assert step(desk, Timer(at_ms=NOW_MS), OrderPolicy())[1] == ()
