"""What a start takes up: the session's own history from the ledger, and what the broker holds that it does not know.

Every start goes through here; on the first of a day everything is empty.

Invariants:
1. Positions, counters and halts come from recorded intents, fills and decisions, never from memory.
2. An intent whose end the ledger does not prove is open; the execution asks the broker about it.
3. A broker that cannot be read is not "flat": the caller gets the error.
4. An exit that a process sent when neither ledger nor journal took a byte is taken in from the broker's book: its
   number is used, and what it sold is sold.
"""

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from strategy.actions import (
    Adopt,
    Alert,
    Enter,
    Exit,
    ExitReason,
    Explanation,
    Halted,
    LimitsTightened,
    Resumed,
    Severity,
    StopMoved,
)
from strategy.events import Fill, IntentClosed, Outcome, Side
from strategy.history import History, PastIntent, UnknownPosition
from strategy.instruments import Contract, Quantity
from strategy.orders import FactKind, Purpose, client_order_id
from tasks.broker import Broker, BrokerOrder, RateLimited
from tasks.ledger.records import ADOPTED, DecisionRecord, FillRecord, IntentRecord, OrderEventRecord, OrderRecord
from tasks.ledger.store import Ledger
from tasks.orders.execution import Execution
from tasks.orders.records import contract_of, intent_record

T = TypeVar("T")
# How long a start waits, market time, when it is told that the broker was asked too often.
BUSY_WAITS_S = (1.0, 2.0, 4.0, 8.0)


def journal_path(home: Path, session_id: str) -> Path:
    """Where order records of a session wait that the ledger could not take."""
    return home / "journal" / f"{session_id.replace('/', '_')}.jsonl"


@dataclass(frozen=True, slots=True, kw_only=True)
class Recovered:
    """A session's orders as the ledger had them at one reading, and what the execution said to them at once."""

    intents: tuple[IntentRecord, ...]
    fills: tuple[tuple[str, int, Side, FillRecord], ...]
    heard: tuple[Fill | IntentClosed, ...]


def recover_orders(ledger: Ledger, session_id: str, execution: Execution) -> Recovered:
    """Have the execution take up the session's orders, those in the journal included.

    The fills that it was given are in the answer: one that is recorded later is told by the execution, and whoever
    read the ledger once more would count it twice.
    """
    execution.take_in_journal()
    intents = ledger.intents(session_id)
    events = [
        event for intent in intents for order in intent.orders for event in ledger.order_events(order.client_order_id)
    ]
    fills = ledger.fills(session_id)
    heard = execution.recover(intents, events, fills)
    return Recovered(
        intents=intents, fills=fills, heard=tuple(said for said in heard if isinstance(said, Fill | IntentClosed))
    )


def take_in_unrecorded(
    ledger: Ledger, broker: Broker, session_id: str, *, prefix: str, fence: int, at_ms: int
) -> tuple[Alert, ...]:
    """Record the exits that the broker has under our ids and the ledger has not; an alert for each.

    Call it after the journal was taken in and before `recover_orders`, which asks what became of them. Entries are
    never sent without the ledger; a buying order of that kind stays what it is, a stranger's. BrokerError.
    """
    intents = ledger.intents(session_id)
    known = {order.client_order_id for record in intents for order in record.orders}
    entry_in = {record.security: record for record in intents if record.purpose == Purpose.ENTRY}
    found: dict[int, list[BrokerOrder]] = defaultdict(list)
    for order in sorted(broker.orders(), key=lambda order: order.client_order_id):
        ours = order.client_order_id.startswith(f"{prefix}-") and order.client_order_id not in known
        if ours and order.side is Side.SELL and order.security in entry_in:
            found[int(order.client_order_id.split("-")[-2])].append(order)
    told = []
    for number, orders in sorted(found.items()):
        entry = entry_in[orders[0].security]
        records = tuple(
            OrderRecord(
                client_order_id=order.client_order_id,
                slice_number=slice_number,
                quantity=order.quantity,
                limit_paise=order.limit_paise,
            )
            for slice_number, order in enumerate(orders)
        )
        exit_ = replace(
            entry,
            intent=number,
            purpose=Purpose.EXIT,
            side=Side.SELL,
            quantity=sum(order.quantity for order in orders),
            reference_paise=orders[0].limit_paise,
            reason=ExitReason.UNRECORDED,
            why={"taken_in_from": "the broker's order book"},
            decided_at_ms=at_ms,
            fence=fence,
            orders=records,
        )
        ledger.record_intent(exit_)
        message = (
            f"exit {number}, {exit_.quantity} x {exit_.contract_name}: sent by a process that could write nothing; "
            "taken in from the broker's book"
        )
        told.append(Alert(at_ms=at_ms, kind="order_unrecorded", severity=Severity.CRITICAL, message=message))
    return tuple(told)


def read_history(ledger: Ledger, session_id: str, recovered: Recovered, *, open_intents: Collection[int]) -> History:
    """The session's day so far; `open_intents` are those of which an order may still be live."""
    fills: dict[int, list[Fill]] = defaultdict(list)
    for _, intent, side, fill in recovered.fills:
        fills[intent].append(
            Fill(
                at_ms=fill.at_ms,
                intent=intent,
                side=side,
                quantity=fill.quantity,
                value_paise=fill.value_paise,
            )
        )
    decisions = ledger.decisions(session_id)
    return History(
        intents=tuple(
            past_intent(record, tuple(fills[record.intent]), is_open=record.intent in open_intents)
            for record in recovered.intents
        ),
        stops=tuple(
            StopMoved(
                at_ms=said.at_ms,
                trade=said.detail["trade"],
                stop_paise=said.detail["stop_paise"],
                best_paise=said.detail["best_paise"],
            )
            for said in decisions
            if said.kind == "stop_moved"
        ),
        halts=tuple(_halt(said) for said in decisions if said.kind in {"halted", "resumed"}),
        limits=tuple(
            LimitsTightened(
                at_ms=said.at_ms,
                daily_max_loss_paise=said.detail["daily_max_loss_paise"],
                max_trades_per_day=said.detail["max_trades_per_day"],
            )
            for said in decisions
            if said.kind == "limits_tightened"
        ),
    )


def past_intent(record: IntentRecord, fills: tuple[Fill, ...], *, is_open: bool) -> PastIntent:
    """One intent as the session decided it, what it filled, and how it ended."""
    contract = contract_of(record)
    why = Explanation(facts=dict(record.why))
    decided: Enter | Exit
    if record.purpose == Purpose.ENTRY:
        decided = Enter(
            at_ms=record.decided_at_ms,
            intent=record.intent,
            trade=record.trade,
            contract=contract,
            quantity=Quantity(record.quantity),
            reference_paise=record.reference_paise,
            why=why,
        )
    else:
        decided = Exit(
            at_ms=record.decided_at_ms,
            intent=record.intent,
            trade=record.trade,
            contract=contract,
            quantity=Quantity(record.quantity),
            reference_paise=record.reference_paise,
            reason=ExitReason(record.reason),
            why=why,
        )
    if is_open:
        return PastIntent(decided=decided, fills=fills)
    filled = sum(fill.quantity for fill in fills)
    outcome = Outcome.FILLED if filled >= record.quantity else Outcome.PARTIALLY_FILLED if filled else Outcome.CANCELLED
    ended_at_ms = max((fill.at_ms for fill in fills), default=record.decided_at_ms)
    return PastIntent(
        decided=decided,
        fills=fills,
        end=IntentClosed(at_ms=ended_at_ms, intent=record.intent, outcome=outcome),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Foreign:
    """What the account has in the index's options beyond the session's own orders."""

    positions: tuple[UnknownPosition, ...]  # long: can be adopted or sold
    short: tuple[str, ...]  # sold and not bought; never touched
    orders: tuple[str, ...]  # open orders of others; never touched

    def __bool__(self) -> bool:
        return bool(self.positions or self.short or self.orders)

    def __str__(self) -> str:
        held = tuple(f"{found.quantity} x {found.contract.name}" for found in self.positions)
        return ", ".join((*held, *self.short, *self.orders))


def read_patiently(read: Callable[[], T], wait: Callable[[float], object]) -> T:
    """What `read` gives, asked again while the broker says that it was asked too often; any other error at once.

    Sessions of one account that start in the same second share its limits, and no day may end by that.
    `wait(seconds)` lets market time pass.
    """
    for seconds in BUSY_WAITS_S:
        try:
            return read()
        except RateLimited:
            wait(seconds)
    return read()


def foreign_at_broker(
    broker: Broker, contracts: Iterable[Contract], known: Mapping[str, int], *, prefix: str
) -> Foreign:
    """What is open at the broker in `contracts` that is not the session's. BrokerError passes through.

    `known` is, by security, the most that the session may hold (`most_held`); ids of its orders begin with `prefix`.
    """
    by_security = {contract.security: contract for contract in contracts}
    net: dict[str, int] = defaultdict(int)
    bought: dict[str, list[int]] = defaultdict(lambda: [0, 0])
    for position in broker.positions():
        if position.security in by_security:
            net[position.security] += position.net_quantity
            bought[position.security][0] += position.buy_quantity
            bought[position.security][1] += position.buy_value_paise
    positions = []
    for security, units in net.items():
        extra = units - known.get(security, 0)
        if extra > 0:
            quantity, value_paise = bought[security]
            average_paise = value_paise // max(1, quantity)
            found = UnknownPosition(contract=by_security[security], quantity=extra, value_paise=extra * average_paise)
            positions.append(found)
    orders = tuple(
        f"open order {order.broker_order_id}: {order.side} {order.quantity} x {by_security[order.security].name}"
        for order in broker.orders()
        if order.security in by_security
        and not order.status.is_final
        and not order.client_order_id.startswith(f"{prefix}-")
    )
    short = tuple(f"{units} x {by_security[security].name}" for security, units in net.items() if units < 0)
    return Foreign(positions=tuple(positions), short=short, orders=orders)


def most_held(
    intents: Iterable[IntentRecord],
    fills: Iterable[tuple[str, int, Side, FillRecord]],
    *,
    open_intents: Collection[int] | None = None,
) -> dict[str, int]:
    """By security, the most units that the session's orders can have made it hold.

    An entry that is open counts in full; without `open_intents` each that is not filled may be.
    """
    filled: dict[int, int] = defaultdict(int)
    for _, intent, _, fill in fills:
        filled[intent] += fill.quantity
    held: dict[str, int] = defaultdict(int)
    for record in intents:
        if record.purpose == Purpose.EXIT:
            held[record.security] -= filled[record.intent]
        else:
            may_fill = open_intents is None or record.intent in open_intents
            held[record.security] += record.quantity if may_fill else filled[record.intent]
    return dict(held)


def record_adoption(ledger: Ledger, adopted: Adopt, *, session_id: str, fence: int, prefix: str) -> None:
    """Write a taken-over position as an entry that is filled, so that the ledger derives it like any other."""
    order_id = client_order_id(prefix, adopted.intent, 0)
    paid_paise = adopted.value_paise // adopted.quantity
    entry = Enter(
        at_ms=adopted.at_ms,
        intent=adopted.intent,
        trade=adopted.trade,
        contract=adopted.contract,
        quantity=adopted.quantity,
        reference_paise=paid_paise,
        why=adopted.why,
    )
    order = OrderRecord(client_order_id=order_id, slice_number=0, quantity=adopted.quantity, limit_paise=paid_paise)
    record = intent_record(entry, (), session_id=session_id, fence=fence)
    ledger.record_intent(replace(record, reason=ADOPTED, orders=(order,)))
    ledger.record_order_event(
        OrderEventRecord(
            client_order_id=order_id,
            at_ms=adopted.at_ms,
            kind=FactKind.SEEN,
            status="TRADED",
            filled_quantity=adopted.quantity,
            message="held at the broker when the session started",
        )
    )
    ledger.record_fill(
        FillRecord(
            client_order_id=order_id,
            cumulative_quantity=adopted.quantity,
            quantity=adopted.quantity,
            value_paise=adopted.value_paise,
            at_ms=adopted.at_ms,
        )
    )


def _halt(said: DecisionRecord) -> Halted | Resumed:
    if said.kind == "halted":
        return Halted(at_ms=said.at_ms, reason=said.reason)
    return Resumed(at_ms=said.at_ms, reason=said.reason)
