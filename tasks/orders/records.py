"""The same orders in three languages: the core's, the broker's and the ledger's."""

from collections.abc import Callable

from strategy.actions import Enter, Exit
from strategy.desk import Intent
from strategy.instruments import Contract, OptionType, Underlying
from strategy.orders import Answer, BookStatus, FactKind, FillStep, Order, OrderFact, Purpose, Request, Seen
from tasks.broker import (
    AuthenticationDead,
    BrokerError,
    BrokerOrder,
    BrokerUnavailable,
    IpRefused,
    OrderRejected,
)
from tasks.ledger.records import FillRecord, IntentRecord, OrderEventRecord, OrderRecord


def intent_record(action: Enter | Exit, orders: tuple[Order, ...], *, session_id: str, fence: int) -> IntentRecord:
    """A decision and the orders that it becomes, as the ledger keeps them."""
    contract = action.contract
    purpose = Purpose.ENTRY if isinstance(action, Enter) else Purpose.EXIT
    return IntentRecord(
        session_id=session_id,
        intent=action.intent,
        trade=action.trade,
        purpose=purpose,
        side=purpose.side,
        security=contract.security,
        trading_symbol=contract.trading_symbol,
        contract_name=contract.name,
        strike_points=contract.strike_points,
        option_type=contract.option_type,
        expiry=contract.expiry,
        lot_size=contract.lot_size,
        tick_size_paise=contract.tick_size_paise,
        freeze_quantity=contract.freeze_quantity,
        quantity=action.quantity,
        reference_paise=action.reference_paise,
        reason=action.reason if isinstance(action, Exit) else "entry",
        why=dict(action.why.facts),
        decided_at_ms=action.at_ms,
        fence=fence,
        orders=tuple(order_record(order) for order in orders),
    )


def answer_of(fault: BrokerError) -> Answer:
    """What a broker's error means for a live order; anything unheard-of means that one may be live."""
    match fault:
        case OrderRejected():
            return Answer.REJECTED
        case BrokerUnavailable():
            return Answer.NOTHING_SENT
        case AuthenticationDead():
            return Answer.AUTHENTICATION_DEAD
        case IpRefused():
            return Answer.IP_REFUSED
        case _:
            return Answer.UNKNOWN


def is_same(order: BrokerOrder, request: Request) -> bool:
    """True when a row of the order book is the order that is looked up."""
    if order.client_order_id == request.client_order_id:
        return True
    return request.broker_order_id != "" and order.broker_order_id == request.broker_order_id


def seen(order: BrokerOrder, at_ms: int, *, from_book: bool) -> Seen:
    """The broker's view of an order in the words of the core."""
    return Seen(
        at_ms=at_ms,
        client_order_id=order.client_order_id,
        broker_order_id=order.broker_order_id,
        status=BookStatus(order.status),
        filled_quantity=order.filled_quantity,
        filled_value_paise=order.filled_value_paise,
        limit_paise=order.limit_paise,
        message=order.message,
        from_book=from_book,
    )


def order_record(order: Order) -> OrderRecord:
    """An order as the ledger keeps it with its intent."""
    return OrderRecord(
        client_order_id=order.client_order_id,
        slice_number=order.number,
        quantity=order.quantity,
        limit_paise=order.limit_paise,
    )


def event_record(fact: OrderFact) -> OrderEventRecord:
    """A fact as the ledger keeps it."""
    return OrderEventRecord(
        client_order_id=fact.client_order_id,
        at_ms=fact.at_ms,
        kind=fact.kind,
        status=fact.status,
        broker_order_id=fact.broker_order_id,
        filled_quantity=fact.filled_quantity,
        limit_paise=fact.limit_paise,
        message=fact.message,
    )


def order_fact(record: OrderEventRecord) -> OrderFact:
    """A fact as it was recorded."""
    return OrderFact(
        client_order_id=record.client_order_id,
        at_ms=record.at_ms,
        kind=FactKind(record.kind),
        status=record.status,
        broker_order_id=record.broker_order_id,
        filled_quantity=record.filled_quantity,
        limit_paise=record.limit_paise,
        message=record.message,
    )


def fill_record(taken: FillStep) -> FillRecord:
    """A fill as the ledger keeps it."""
    return FillRecord(
        client_order_id=taken.client_order_id,
        cumulative_quantity=taken.cumulative_quantity,
        quantity=taken.quantity,
        value_paise=taken.value_paise,
        at_ms=taken.at_ms,
    )


def fill_step(record: FillRecord) -> FillStep:
    """A fill as it was recorded."""
    return FillStep(
        client_order_id=record.client_order_id,
        at_ms=record.at_ms,
        cumulative_quantity=record.cumulative_quantity,
        quantity=record.quantity,
        value_paise=record.value_paise,
    )


def restored_intent(record: IntentRecord, recalled: Callable[[Order], Order]) -> Intent:
    """An intent of the ledger with its orders; `recalled` adds what happened to each."""
    contract = contract_of(record)
    orders = tuple(
        recalled(
            Order(
                client_order_id=order.client_order_id,
                intent=record.intent,
                purpose=Purpose(record.purpose),
                contract=contract,
                quantity=order.quantity,
                number=order.slice_number,
                limit_paise=order.limit_paise,
            )
        )
        for order in record.orders
    )
    return Intent(
        intent=record.intent,
        purpose=Purpose(record.purpose),
        contract=contract,
        quantity=record.quantity,
        reference_paise=record.reference_paise,
        orders=orders,
    )


def contract_of(record: IntentRecord) -> Contract:
    """The contract of a recorded intent."""
    segment, _, security_id = record.security.partition(":")
    return Contract(
        underlying=Underlying(record.contract_name.split()[0]),
        expiry=record.expiry,
        strike_points=record.strike_points,
        option_type=OptionType(record.option_type),
        segment=segment,
        security_id=security_id,
        trading_symbol=record.trading_symbol,
        lot_size=record.lot_size,
        tick_size_paise=record.tick_size_paise,
        freeze_quantity=record.freeze_quantity,
    )
