"""Execution with six broker threads, the live adapter, the order-update socket and a real ledger, at a faulty exchange.

No session, no lock-step: answers, pushes and look-ups race each other as they do in live trading. The test is the
session: it buys, then sells what it holds, anew under another intent as long as something is left.
"""

from collections import defaultdict
from contextlib import suppress
from itertools import count

import pytest

from simulator.faults import ENDS_THE_TOKEN, IN_A_CALL, IN_AN_ORDER, IN_ORDER_UPDATES
from strategy.actions import Alert, Enter, Exit, ExitReason, Explanation
from strategy.events import Fill, IntentClosed, Tick, Timer
from strategy.instruments import Quantity, Underlying
from strategy.orders import OrderPolicy
from tasks.broker import BrokerUnavailable
from tasks.broker.dhan import FixedToken
from tasks.broker.http import Timeouts
from tasks.broker.tokens import TokenSource
from tasks.feed.line import REHEARSAL_PATIENCE
from tasks.feed.orders import OrderFeed
from tasks.inbox import Inbox
from tasks.ledger.check import check
from tasks.ledger.records import SessionKey
from tasks.ledger.store import Ledger
from tasks.orders.execution import Execution
from tasks.settings import REHEARSAL_ACCESS_TOKEN, REHEARSAL_CLIENT_ID, Settings

from .conftest import DAY

PREFIXES = (f"x{number}" for number in count(1))
QUANTITY = 130
IMPATIENT = Timeouts(connect_s=1.0, read_s=1.5, total_s=2.0)

# Struck are the entry's order and the exit's; modify and cancel only when "with" keeps the order from filling.
TABLE = """
fault                | call     | with                                  | entry     | alerts
-                    |          |                                       | filled    | -
reply_lost           | place    | hold_s=3                              | filled    | order_unknown
reply_lost           | modify   | hold_s=3 never_fills                  | given up  | exit_hard_to_fill
reply_lost           | cancel   | hold_s=3 never_fills                  | given up  | exit_hard_to_fill
reset_before         | place    |                                       | absent    | order_unknown order_absent
reset_before         | modify   | never_fills                           | given up  | exit_hard_to_fill
reset_before         | cancel   | never_fills                           | given up  | exit_hard_to_fill
reset_after          | place    |                                       | filled    | order_unknown
reset_after          | modify   | never_fills                           | given up  | exit_hard_to_fill
reset_after          | cancel   | never_fills                           | given up  | exit_hard_to_fill
bad_gateway          | place    |                                       | absent    | order_unknown order_absent
bad_gateway          | place    | accepted=1                            | filled    | order_unknown
server_error         | place    |                                       | absent    | order_unknown order_absent
server_error         | cancel   | accepted=1 never_fills                | given up  | exit_hard_to_fill
empty_202            | place    |                                       | filled    | order_unknown
slow_drip            | place    | drip_s=0.3                            | filled    | order_unknown
slow_drip            | place    | drip_s=0.0005                         | filled    | -
rate_storm           | place    |                                       | dropped   | entry_not_sent exit_not_sent
rate_storm           |          | for_s=20                              | dropped   | entry_not_sent exit_not_sent
ip_refused           | place    |                                       | refused   | broker_ip_refused
ip_refused           | cancel   | never_fills                           | given up  | exit_hard_to_fill broker_ip_refused
token_death          | place    |                                       | filled    | -
token_death          | cancel   | never_fills                           | given up  | exit_hard_to_fill
second_token         | place    |                                       | filled    | -
second_token         | modify   | never_fills                           | given up  | exit_hard_to_fill
data_plan_lost       |          | for_s=60                              | filled    | -
reject               | place    |                                       | refused   | order_rejected
partial_fill         | place    | quantity=65                           | part      | -
never_fills          | place    |                                       | given up  | exit_hard_to_fill
fill_after_cancel    | place    |                                       | filled    | exit_hard_to_fill
cancel_fill_race     | place    | quantity=65                           | part      | exit_hard_to_fill
slow_transit         | place    | transit_ms=8000                       | filled    | -
slow_transit         | place    | transit_ms=8000 reply_lost hold_s=3   | filled    | order_unknown
duplicate_updates    |          | for_s=600                             | filled    | -
duplicate_updates    |          | for_s=600 partial_fill quantity=65    | part      | -
out_of_order_updates |          | times=100                             | filled    | -
out_of_order_updates |          | times=100 partial_fill quantity=65    | part      | -
missing_updates      |          | for_s=600                             | filled    | -
missing_updates      |          | for_s=600 reply_lost hold_s=3         | filled    | order_unknown
missing_updates      |          | for_s=600 cancel_fill_race quantity=65| part      | exit_hard_to_fill
"""
ROWS = [tuple(cell.strip() for cell in line.split("|")) for line in TABLE.strip().splitlines()[1:]]
ENDS = {"filled": QUANTITY, "part": 65, "given up": 0, "absent": 0, "dropped": 0, "refused": 0}


def script_of(fault, call, settings):
    """The faults of a row as the simulator takes them: (name, settings)."""
    words = settings.split()
    numbers = {name: float(number) for name, _, number in (word.partition("=") for word in words) if number}
    at = {"at": {"call": f"{call}_order"}} if call else {}
    beside = [word for word in words if "=" not in word]
    own = {} if beside and beside[0] in {"partial_fill", "cancel_fill_race", "reply_lost"} else numbers
    faults = [] if fault == "-" else [(fault, at | (own or {k: v for k, v in numbers.items() if k in OWN[fault]}))]
    return faults + [(name, {"at": {"call": "place_order"}} | _theirs(name, numbers)) for name in beside]


OWN = defaultdict(set, {"slow_transit": {"transit_ms"}, "duplicate_updates": {"for_s"}, "missing_updates": {"for_s"}})
OWN["out_of_order_updates"] = {"times"}


def _theirs(name, numbers):
    wanted = {"partial_fill": {"quantity"}, "cancel_fill_race": {"quantity"}, "reply_lost": {"hold_s"}}.get(name, set())
    return {key: number for key, number in numbers.items() if key in wanted}


class Floor:
    """A session's surroundings at the simulator, and the loop that drives them."""

    def __init__(self, market, broker, tokens, *, ledger, journal, contract):
        self.market, self.broker, self.ledger, self.contract = market, broker, ledger, contract
        self.prefix = next(PREFIXES)
        self.key = SessionKey(account=self.prefix, underlying=Underlying.NIFTY, mode="rehearsal", day=DAY)
        ledger.open_session(self.key, "k3f")
        self.at_ms = market.now_ms()
        self.inbox = Inbox()
        self.heard = []
        self.intents = count(1)
        self.quote = broker.quotes([contract.security])[contract.security]
        self.updates = OrderFeed(
            market.order_update_url,
            client_id=REHEARSAL_CLIENT_ID,
            token=tokens.current,
            inbox=self.inbox,
            now_ms=lambda: self.at_ms,
            patience=REHEARSAL_PATIENCE,
        )
        self.updates.start()
        self.execution = Execution(
            broker=broker,
            ledger=ledger,
            inbox=self.inbox,
            now_ms=lambda: self.at_ms,
            session_id=self.key.session_id,
            fence=ledger.leases.take_over(self.key, "floor", self.at_ms).fence,
            prefix=self.prefix,
            policy=OrderPolicy(timeout_ms=3_000),
            product="MARGIN",
            journal_path=journal,
            workers=6,
        )

    def close(self):
        self.updates.close()
        self.execution.close(1.0)

    def settle(self):
        """Take up all that comes until nothing is on its way and nothing came for a moment."""
        while (
            event := self.inbox.get(0.01 if self.execution.idle() else 5.0)
        ) is not None or not self.execution.idle():
            assert event is not None, "a request was never answered"
            self.heard += self.execution.on_event(event)

    def look(self):
        """Prices go on, as the market feed would bring them; where a fault meets the question, they do not."""
        with suppress(BrokerUnavailable):
            self.quote = self.broker.quotes([self.contract.security])[self.contract.security]
        seen = self.quote
        tick = {"price_paise": seen.last_paise, "bid_paise": seen.bid_paise, "ask_paise": seen.ask_paise}
        self.heard += self.execution.on_event(Tick(at_ms=self.at_ms, security=seen.security, **tick))

    def trade(self, kind, quantity):
        """Decide, and let the market go on until the intent has ended; units filled."""
        intent = next(self.intents)
        common = {
            "at_ms": self.at_ms,
            "intent": intent,
            "trade": 1,
            "contract": self.contract,
            "quantity": Quantity(quantity),
            "reference_paise": self.quote.last_paise,
            "why": Explanation(),
        }
        self.execution.submit(Enter(**common) if kind is Enter else Exit(reason=ExitReason.STOP_LOSS, **common))
        self.settle()
        for _ in range(150):
            if intent not in self.execution.open_intents():
                break
            self.at_ms = int(self.market.advance(1)["now_ms"])
            self.look()
            self.heard += self.execution.on_event(Timer(at_ms=self.at_ms))
            self.settle()
        assert [end.intent for end in self.heard if isinstance(end, IntentClosed)].count(intent) == 1, "it ends once"
        return sum(fill.quantity for fill in self.heard if isinstance(fill, Fill) and fill.intent == intent)


@pytest.fixture
def open_floor(request, make_broker, sqlite_ledger_url, tmp_path, contract):
    """A floor at the shared market; a token that dies has a market of its own."""
    opened = []
    ledger = Ledger(sqlite_ledger_url)

    def open_at(fault):
        if fault in ENDS_THE_TOKEN:
            market = request.getfixturevalue("exchange")
            market.advance(to="09:20:00")
            settings = Settings(_env_file=None, simulator_url=market.url, home=tmp_path)
            tokens = TokenSource.from_settings(settings)
        else:
            market, tokens = request.getfixturevalue("market"), FixedToken(REHEARSAL_ACCESS_TOKEN)
        broker = make_broker(f"{market.url}/v2", tokens=tokens, now_ms=market.now_ms, timeouts=IMPATIENT)
        floor = Floor(market, broker, tokens, ledger=ledger, journal=tmp_path / "journal.jsonl", contract=contract)
        opened.append(floor)
        return floor

    yield open_at
    for floor in opened:
        floor.close()
    ledger.close()


def sums(fills):
    """Order -> [units, paise]."""
    found = defaultdict(lambda: [0, 0])
    for order, quantity, value_paise in fills:
        found[order][0] += quantity
        found[order][1] += value_paise
    return found


@pytest.mark.parametrize("row", ROWS, ids=lambda row: " ".join(" ".join(row[:3]).split()))
def test_whatever_the_exchange_does_the_ledger_ends_with_its_truth(row, open_floor, wait_for):
    fault, call, settings, entry, alerts = row
    floor = open_floor(fault)
    wait_for(lambda: floor.updates.connections)

    def strike():
        floor.market.clear_faults()
        for name, wish in script_of(fault, call, settings):
            floor.market.fault(name, **wish)

    strike()
    held = floor.trade(Enter, QUANTITY)
    assert held == ENDS[entry]
    if not held:
        floor.market.clear_faults()
        held = floor.trade(Enter, QUANTITY)
        assert held == QUANTITY
    strike()
    for _ in range(4):
        if held:
            held -= floor.trade(Exit, held)
    assert held == 0, "an exit goes on until nothing is held"
    floor.settle()

    assert floor.execution.flush(10.0)
    ours = sums(
        (order, fill.quantity, fill.value_paise) for order, _, _, fill in floor.ledger.fills(floor.key.session_id)
    )
    truth, mine = floor.market.truth, f"{floor.prefix}-"
    theirs = sums(
        (fill["client_order_id"], fill["quantity"], fill["quantity"] * fill["price_paise"])
        for fill in truth["fills"]
        if fill["client_order_id"].startswith(mine)
    )
    assert ours == theirs
    orders = [order for order in truth["orders"] if order["client_order_id"].startswith(mine)]
    assert len({order["client_order_id"] for order in orders}) == len(orders), "an order is there twice"
    assert {order["status"] for order in orders} <= {"TRADED", "CANCELLED", "REJECTED"}, "nothing is left open"
    recorded = {order.client_order_id for i in floor.ledger.intents(floor.key.session_id) for order in i.orders}
    assert {order["client_order_id"] for order in orders} <= recorded
    assert check(floor.ledger, now_ms=floor.at_ms) == ()
    assert {said.kind for said in floor.heard if isinstance(said, Alert)} == set(alerts.split()) - {"-"}


def test_every_fault_of_calls_orders_and_updates_is_in_the_table():
    assert {row[0] for row in ROWS} - {"-"} == set(IN_A_CALL) | set(IN_AN_ORDER) | set(IN_ORDER_UPDATES)
