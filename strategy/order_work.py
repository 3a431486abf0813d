"""What is due for an order: send it, re-price it, cancel it, look it up.

Invariants (beside those of `strategy.orders`):
1. At most one write and one look-up of an order are unanswered at any time.
2. A re-priced limit never moves away from being filled.
3. An order is re-priced fewer times than the broker allows; an exit that needs more is cancelled, so that its
   intent ends short and the session sells the rest under a new one. So no order rests unfilled for ever.
"""

from dataclasses import replace

from strategy.order_news import in_doubt
from strategy.orders import (
    Ask,
    Cause,
    FactKind,
    Order,
    OrderPolicy,
    Output,
    Outputs,
    Purpose,
    Stage,
)
from strategy.pricing import limit_price_paise

PATIENCE_MS = 10_000  # a PLACE that has not been answered by then counts as in doubt


def act(order: Order, policy: OrderPolicy, now_ms: int, best_paise: int) -> tuple[Order, Outputs]:
    """Return the order and all that is due at `now_ms`; `best_paise` is the best opposite price known."""
    said: list[Output] = []
    if order.stage is Stage.WORKING and order.unwanted:
        order = replace(order.moved(Cause.UNWANTED), write_due_ms=now_ms, looks=0)
    if order.stage is Stage.SENDING and now_ms >= order.write_due_ms:
        order, doubts = in_doubt(order, "no answer from the broker", now_ms)
        said += doubts
    if _may_write(order) and now_ms >= order.write_due_ms:
        order, writes = _write(order, policy, now_ms, best_paise)
        said += writes
    if order.is_findable and order.looking_since_ms is None and now_ms >= order.look_due_ms:
        said.append(order.request(Ask.LOOK_UP))
        order = replace(order, looking_since_ms=now_ms)
    return order, tuple(said)


def reading_due(order: Order, now_ms: int) -> Order:
    """The order with a look-up due at once, or right after the one that is on its way and may be too old."""
    if not order.is_findable:
        return order
    asked_ms = order.looking_since_ms
    return replace(order, look_due_ms=now_ms if asked_ms is None else max(now_ms, asked_ms + 1))


def due_ms(order: Order) -> int | None:
    """When `act` has something to do next; None while only an answer can move the order."""
    dues: list[int] = []
    if _may_write(order) or order.stage is Stage.SENDING:
        dues.append(order.write_due_ms)
    if order.is_findable and order.looking_since_ms is None:
        dues.append(order.look_due_ms)
    return min(dues, default=None)


def _may_write(order: Order) -> bool:
    if order.writing is not None:
        return False
    return order.stage is Stage.RECORDED or (
        order.stage in {Stage.WORKING, Stage.CANCELLING} and order.broker_order_id != ""
    )


def _write(order: Order, policy: OrderPolicy, now_ms: int, best_paise: int) -> tuple[Order, Outputs]:
    if order.stage is Stage.RECORDED:
        if order.setbacks:  # time has passed since the limit was chosen
            order = replace(order, limit_paise=_limit(order, policy, best_paise))
        order = replace(order.moved(Cause.SENT), writing=Ask.PLACE, write_due_ms=now_ms + PATIENCE_MS)
        return order, (order.fact(FactKind.SENT, now_ms), order.request(Ask.PLACE))
    if order.stage is Stage.WORKING:
        given_up = order.purpose is Purpose.ENTRY and order.reprices >= policy.reprices_max
        if not given_up and order.modifications < policy.modifications_max:
            return _reprice(order, policy, now_ms, best_paise)
        message = f"not filled after {order.reprices} re-pricings"
        order = replace(order.moved(Cause.UNWANTED), unwanted=True, message=message, looks=0)
    order = replace(order, writing=Ask.CANCEL)
    return order, (order.fact(FactKind.CANCEL_SENT, now_ms), order.request(Ask.CANCEL))


def _reprice(order: Order, policy: OrderPolicy, now_ms: int, best_paise: int) -> tuple[Order, Outputs]:
    said: Outputs = ()
    order = replace(order, reprices=order.reprices + 1)
    if order.purpose is Purpose.EXIT and order.reprices > policy.reprices_max:
        text = f"is not filled after {policy.reprices_max} re-pricings; its limit goes on widening, watch it"
        order, said = order.alert_once("exit_hard_to_fill", now_ms, text)
    limit_paise = order.nearer(_limit(order, policy, best_paise))
    if limit_paise == order.limit_paise:
        # It counts as one, or an order that can go no further and does not fill would rest there for ever.
        return replace(order, write_due_ms=now_ms + policy.timeout_ms, modifications=order.modifications + 1), said
    order = replace(order, writing=Ask.MODIFY, asked_limit_paise=limit_paise)
    fact = order.fact(FactKind.MODIFY_SENT, now_ms, limit_paise=limit_paise)
    return order, (*said, fact, order.request(Ask.MODIFY, limit_paise=limit_paise))


def _limit(order: Order, policy: OrderPolicy, best_paise: int) -> int:
    widenings = order.reprices - policy.reprices_max if order.purpose is Purpose.EXIT else 0
    return limit_price_paise(
        order.side,
        reference_paise=best_paise,
        buffer=policy.buffer,
        tick_size_paise=order.contract.tick_size_paise,
        widenings=widenings,
    )
