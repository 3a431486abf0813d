"""The tree of broker errors against everything that the simulator can do to a call: could an order be live?"""

import inspect
import re

import pytest

import tasks.broker
from simulator.faults import ENDS_THE_TOKEN, IN_A_CALL, IN_AN_ORDER
from strategy.events import Side
from tasks.broker import BrokerError, NewOrder, OrderOutcomeUnknown, OrderRejected
from tasks.broker.http import Timeouts

# What placing an order and reading a quote raise ("-": nothing), and whether the exchange has the order afterwards.
TABLE = """
fault             | with          | placing             | reading            | order
reply_lost        | hold_s=10     | OrderOutcomeUnknown | BrokerUnavailable  | yes
reset_before      |               | OrderOutcomeUnknown | BrokerUnavailable  | no
reset_after       |               | OrderOutcomeUnknown | BrokerUnavailable  | yes
bad_gateway       |               | OrderOutcomeUnknown | BrokerUnavailable  | no
bad_gateway       | accepted=1    | OrderOutcomeUnknown | BrokerUnavailable  | yes
server_error      |               | OrderOutcomeUnknown | BrokerUnavailable  | no
server_error      | accepted=1    | OrderOutcomeUnknown | BrokerUnavailable  | yes
empty_202         |               | OrderOutcomeUnknown | BrokerUnavailable  | yes
slow_drip         | drip_s=0.3    | OrderOutcomeUnknown | BrokerUnavailable  | yes
slow_drip         | drip_s=0.0001 | -                   | -                  | yes
rate_storm        |               | RateLimited         | RateLimited        | no
ip_refused        |               | IpRefused           | -                  | no
token_death       |               | AuthenticationDead  | AuthenticationDead | no
second_token      |               | AuthenticationDead  | AuthenticationDead | no
data_plan_lost    |               | -                   | BrokerUnavailable  | yes
reject            |               | -                   | -                  | yes
partial_fill      |               | -                   | -                  | yes
never_fills       |               | -                   | -                  | yes
fill_after_cancel |               | -                   | -                  | yes
cancel_fill_race  |               | -                   | -                  | yes
slow_transit      |               | -                   | -                  | yes
"""
ROWS = [tuple(cell.strip() for cell in line.split("|")) for line in TABLE.strip().splitlines()[1:]]
# A reply that never comes costs real time; one that comes slowly must not be cut off by a busy machine.
IMPATIENT = Timeouts(connect_s=5.0, read_s=3.0, total_s=5.0)
PATIENT = Timeouts(connect_s=5.0, read_s=20.0, total_s=30.0)
NEVER_SENT_TWICE = "the request is sent exactly once"


@pytest.fixture
def place(request, make_broker, contract, cid):
    """The market, the adapter at it, and placing one order there. A dead token needs a market of its own."""

    def at(fault):
        market = request.getfixturevalue("exchange" if fault in ENDS_THE_TOKEN else "market")
        if fault in ENDS_THE_TOKEN:
            market.advance(to="09:20:00")
        patience = IMPATIENT if fault in {"reply_lost", "slow_drip"} else PATIENT
        broker = make_broker(f"{market.url}/v2", now_ms=market.now_ms, timeouts=patience)
        limit_paise = broker.quotes([contract.security])[contract.security].ask_paise + 5_00
        order = NewOrder(
            client_order_id=cid,
            contract=contract,
            side=Side.BUY,
            quantity=130,
            limit_paise=limit_paise,
            product="MARGIN",
        )
        return market, broker, lambda: broker.place(order)

    return at


def error_of(call):
    try:
        call()
    except BrokerError as error:
        return type(error).__name__
    return "-"


def settings_of(text):
    return {name: float(number) for name, _, number in (word.partition("=") for word in text.split())}


@pytest.mark.parametrize("row", ROWS, ids=lambda row: " ".join(row[:2]).strip())
def test_placing_an_order(row, place, cid):
    fault, settings, expected, _, there = row
    market, broker, send = place(fault)
    before = market.calls("place_order")
    market.fault(fault, at={"call": "place_order"}, **settings_of(settings))
    assert error_of(send) == expected
    market.advance(2)
    assert market.calls("place_order") == before + 1, NEVER_SENT_TWICE
    orders = [order for order in market.truth["orders"] if order["client_order_id"] == cid]
    assert len(orders) == (there == "yes")
    if fault not in ENDS_THE_TOKEN:
        assert (broker.find_order(cid) is not None or fault == "slow_transit") is (there == "yes")


@pytest.mark.parametrize("row", [row for row in ROWS if row[0] in IN_A_CALL], ids=lambda row: " ".join(row[:2]).strip())
def test_reading_is_an_answer_or_unavailable_and_right_again_later(row, place, contract):
    fault, settings, _, expected, _ = row
    market, broker, _ = place(fault)
    market.fault(fault, at={"call": "quote_full"}, **settings_of(settings))
    assert error_of(lambda: broker.quotes([contract.security])) == expected
    if fault not in ENDS_THE_TOKEN:
        assert broker.quotes([contract.security])[contract.security].ask_paise > 0


def test_every_fault_that_can_meet_an_order_is_in_the_table():
    assert {row[0] for row in ROWS} == set(IN_A_CALL) | set(IN_AN_ORDER)


def errors():
    found = [value for _, value in inspect.getmembers(tasks.broker, inspect.isclass) if issubclass(value, BrokerError)]
    return {error for error in found if error.__module__ == "tasks.broker"}


def test_the_tree_is_the_module_s_docstring():
    """Each class stands below its parent, by the depth of its line; none is missing, none is only words."""
    drawn, path = {}, []
    for line in re.findall(r"^( *[*x+] \w+)", tasks.broker.__doc__, flags=re.MULTILINE):
        depth = (len(line) - len(line.lstrip())) // 2
        path = [*path[:depth], line.split()[-1]]
        drawn[path[-1]] = path[-2] if depth else "Exception"
    assert drawn == {error.__name__: error.__base__.__name__ for error in errors()}


@pytest.mark.parametrize("error", sorted(errors() - {BrokerError}, key=lambda error: error.__name__))
def test_after_every_error_but_one_no_order_is_live(error):
    """Only an unknown outcome may have left an order; whoever adds an error must say which kind it is."""
    live = {row[2] for row in ROWS if row[4] == "yes"} - {"-"}
    assert live == {OrderOutcomeUnknown.__name__}
    assert error is OrderRejected or error.__name__ in TABLE, "an error that no fault shows needs a row"
