"""What an answer or a sighting means for an order (the invariants are those of `strategy.orders`).

Nothing here asks anything of the broker: `learn` changes what is known and when something is due,
`order_work.act` does what is due.
"""

from dataclasses import replace

from strategy.actions import Alert, Severity
from strategy.instruments import Contract
from strategy.orders import (
    ABSENT_AFTER_MS,
    ABSENT_READS,
    DEFINITE_REFUSALS,
    ENDED_SHORT,
    LOOK_DELAYS_MS,
    Answer,
    Ask,
    BookStatus,
    Cause,
    Ending,
    FactKind,
    FillStep,
    Order,
    OrderFact,
    OrderPolicy,
    Outputs,
    Purpose,
    Reply,
    Seen,
    Stage,
)

CANCEL_AGAIN_MS = 2_000
MODIFY_AGAIN_MS = 1_000  # nothing was sent of a modification
PLACE_AGAIN_MS = (500, 1_000, 2_000, 4_000, 5_000)  # nothing was sent of an exit; the last one repeats
BLOCKED_AGAIN_MS = 5_000  # the token is dead or the address refused, and the order is live
MODIFY_REFUSALS_MAX = 3  # in a row; then the order is cancelled instead
AVERAGE_ROUNDING_PAISE = 0.005  # per unit: half of the fourth decimal of a rupee
PATIENT_LOOKS = 2 * len(LOOK_DELAYS_MS)  # look-ups without what must be there, before a person hears of it


def learn(order: Order, news: Reply | Seen, policy: OrderPolicy, now_ms: int) -> tuple[Order, Outputs]:
    """Return the order after an answer or a sighting, and what it means for the ledger and for people."""
    if isinstance(news, Seen):
        return _learn_seen(order, news, policy, now_ms)
    match news.ask:
        case Ask.LOOK_UP if order.looking_since_ms is not None:
            return _learn_looked_up(order, news, policy, now_ms)
        case Ask.PLACE if order.writing is Ask.PLACE:
            return _learn_placed(replace(order, writing=None), news, policy, now_ms)
        case Ask.MODIFY if order.writing is Ask.MODIFY:
            return _learn_modified(replace(order, writing=None), news, policy, now_ms)
        case Ask.CANCEL if order.writing is Ask.CANCEL:
            return _learn_cancelled(replace(order, writing=None), news, now_ms)
        case _:
            return order, ()  # an answer that nobody waits for


def in_doubt(order: Order, why: str, now_ms: int) -> tuple[Order, Outputs]:
    """The order may or may not be live from `now_ms` on; look-ups begin, counted afresh."""
    order = replace(
        order.moved(Cause.IN_DOUBT),
        doubt_since_ms=now_ms,
        look_due_ms=now_ms + LOOK_DELAYS_MS[0],
        looks=0,
        absent_reads=0,
        message=why,
    )
    order, alerts = order.alert_once("order_unknown", now_ms, f"may or may not be live and is being looked up: {why}")
    return order, (order.fact(FactKind.UNKNOWN, now_ms), *alerts)


def recall(order: Order, facts: tuple[OrderFact, ...], steps: tuple[FillStep, ...], now_ms: int) -> Order:
    """The order as a new process takes it up from the ledger: ended where that is proved, else in doubt.

    A buying decision does not outlive its process: what is left of an entry is cancelled once it is found.
    """
    order = replace(
        order,
        filled_quantity=max((step.cumulative_quantity for step in steps), default=0),
        filled_value_paise=sum(step.value_paise for step in steps),
    )
    for fact in facts:
        order = _recall_fact(order, fact)
    if order.remaining_quantity == 0:
        order = replace(order, stage=Stage.CLOSED, ending=Ending.FILLED)
    if order.is_closed:
        return order
    return replace(
        order,
        stage=Stage.UNKNOWN,
        doubt_since_ms=now_ms,
        look_due_ms=now_ms,
        unwanted=order.purpose is Purpose.ENTRY,
        message="found open after a restart" if order.purpose is Purpose.ENTRY else "",
    )


def _learn_placed(order: Order, reply: Reply, policy: OrderPolicy, now_ms: int) -> tuple[Order, Outputs]:
    awaited = order.stage in {Stage.SENDING, Stage.UNKNOWN}
    order = replace(order, broker_order_id=order.broker_order_id or reply.broker_order_id)
    if reply.answer is Answer.ACCEPTED and order.broker_order_id:
        if awaited:
            order = _now_working(order.moved(Cause.ACCEPTED), policy, now_ms)
        return order, (order.fact(FactKind.ACCEPTED, now_ms),)
    if not awaited:
        return replace(order, look_due_ms=now_ms), ()  # the book has spoken already
    if reply.answer in DEFINITE_REFUSALS:
        order = replace(order.moved(Cause.REFUSED), ending=Ending.REFUSED, message=reply.message)
        return order, (order.fact(FactKind.REFUSED, now_ms), _refusal_alert(order, reply.answer, now_ms))
    if reply.answer is Answer.NOTHING_SENT and order.purpose is Purpose.ENTRY:
        message = f"nothing was sent: {reply.message}"
        order = replace(order.moved(Cause.DROPPED), ending=Ending.NOT_SENT, message=message)
        text = f"is dropped, {message}"
        return order, (
            order.fact(FactKind.ABSENT, now_ms),
            order.alert("entry_not_sent", Severity.WARNING, now_ms, text),
        )
    if reply.answer is Answer.NOTHING_SENT:
        wait_ms = max(reply.retry_after_ms, PLACE_AGAIN_MS[min(order.setbacks, len(PLACE_AGAIN_MS) - 1)])
        order = replace(
            order.moved(Cause.NOT_SENT),
            write_due_ms=now_ms + wait_ms,
            setbacks=order.setbacks + 1,
            message=reply.message,
        )
        text = f"cannot be sent and is being tried again: {reply.message}; check the broker"
        return order.alert_once("exit_not_sent", now_ms, text)
    # The request may have reached the broker as late as now, so the doubt begins (again) now.
    return in_doubt(order, reply.message or "the broker gave no order number", now_ms)


def _learn_modified(order: Order, reply: Reply, policy: OrderPolicy, now_ms: int) -> tuple[Order, Outputs]:
    if order.is_closed:
        return order, ()
    if reply.answer is Answer.NOTHING_SENT:
        wait_ms = max(reply.retry_after_ms, MODIFY_AGAIN_MS)
        return replace(order, write_due_ms=now_ms if order.unwanted else now_ms + wait_ms), ()
    if reply.answer in {Answer.AUTHENTICATION_DEAD, Answer.IP_REFUSED}:
        return _blocked(replace(order, write_due_ms=now_ms + BLOCKED_AGAIN_MS), reply, now_ms)
    refused = reply.answer is Answer.REJECTED
    setbacks = order.setbacks + 1 if refused else 0
    unwanted = order.unwanted or setbacks >= MODIFY_REFUSALS_MAX
    # An unknown answer counts as done: a modification that may have happened does no harm.
    order = replace(
        order,
        limit_paise=order.limit_paise if refused else order.asked_limit_paise,
        setbacks=setbacks,
        modifications=order.modifications + 1,
        unwanted=unwanted,
        write_due_ms=now_ms if unwanted else now_ms + policy.timeout_ms,
        look_due_ms=now_ms if refused else now_ms + LOOK_DELAYS_MS[0],  # refused perhaps because it was filled
        looks=0,
        message=reply.message if refused else order.message if order.unwanted else "",
    )
    return order, ()


def _learn_cancelled(order: Order, reply: Reply, now_ms: int) -> tuple[Order, Outputs]:
    if order.is_closed:
        return order, ()
    if reply.answer in {Answer.AUTHENTICATION_DEAD, Answer.IP_REFUSED}:
        return _blocked(replace(order, write_due_ms=now_ms + BLOCKED_AGAIN_MS), reply, now_ms)
    wait_ms = max(CANCEL_AGAIN_MS, reply.retry_after_ms)
    return replace(order, write_due_ms=now_ms + wait_ms, look_due_ms=now_ms, looks=0), ()


def _learn_looked_up(order: Order, reply: Reply, policy: OrderPolicy, now_ms: int) -> tuple[Order, Outputs]:
    asked_ms = order.looking_since_ms
    order = _looked(order, policy, now_ms, reply.retry_after_ms)
    if reply.answer is Answer.FOUND and reply.seen is not None:
        return _learn_seen(order, reply.seen, policy, now_ms)
    if reply.answer is Answer.AUTHENTICATION_DEAD:
        return _blocked(order, reply, now_ms)
    if reply.answer is not Answer.ABSENT or not order.is_findable:
        return order, ()
    if order.writing is Ask.PLACE or asked_ms is None or asked_ms < order.doubt_since_ms:
        return order, ()  # it may have been read before the order arrived
    order = replace(order, absent_reads=order.absent_reads + 1)
    if order.stage is not Stage.UNKNOWN or order.broker_order_id:
        if order.absent_reads < PATIENT_LOOKS:
            return order, ()
        text = "was accepted but is not in the order book; look at the broker's terminal"
        return order.alert_once("order_not_in_book", now_ms, text)
    # What counts is when it was asked: a slow answer tells of the past.
    if order.absent_reads < ABSENT_READS or asked_ms - order.doubt_since_ms < ABSENT_AFTER_MS:
        return order, ()
    message = "not placed: no such order at the broker"
    order = replace(order.moved(Cause.SEEN_ABSENT), ending=Ending.ABSENT, message=message)
    text = "did not reach the broker: nothing of it is live"
    return order, (
        order.fact(FactKind.ABSENT, now_ms),
        order.alert("order_absent", Severity.WARNING, now_ms, text),
    )


def _learn_seen(order: Order, seen: Seen, policy: OrderPolicy, now_ms: int) -> tuple[Order, Outputs]:
    if order.ending in {Ending.FILLED, Ending.CANCELLED}:
        return order, ()  # final is final; what comes now is late
    before = order
    order = replace(
        order,
        broker_order_id=order.broker_order_id or seen.broker_order_id,
        limit_paise=order.nearer(seen.limit_paise),  # a process before this one may have gone further
    )
    order, said = _take_fill(order, seen, now_ms)
    new_fill = order.filled_quantity > before.filled_quantity
    if before.is_closed and seen.status in ENDED_SHORT and not new_fill:
        return before, ()  # it never lived, as we thought
    ending = _ending(order, seen)
    if ending is None:
        order, facts = _seen_open(order, seen, policy, now_ms, new_fill=new_fill)
    else:
        message = order.message if order.unwanted else seen.message
        order = replace(order.moved(Cause.SEEN_ENDED), ending=ending, status=seen.status, message=message)
        facts = (order.fact(FactKind.SEEN, now_ms),)
        if ending is Ending.REFUSED:
            facts = (*facts, _refusal_alert(order, Answer.REJECTED, now_ms))
    if not before.is_closed:
        return order, (*said, *facts)
    text = f"was said not to exist ({before.message}) and is {seen.status} at the broker; look at its terminal"
    alert = order.alert("order_contradicted", Severity.CRITICAL, now_ms, text)
    return replace(order, unwanted=True, write_due_ms=now_ms), (*said, *facts, alert)


def _ending(order: Order, seen: Seen) -> Ending | None:
    if order.remaining_quantity == 0:
        return Ending.FILLED
    if seen.status not in ENDED_SHORT or not seen.from_book:
        return None
    if seen.status is BookStatus.REJECTED and order.filled_quantity == 0:
        return Ending.REFUSED
    return Ending.CANCELLED


def _seen_open(order: Order, seen: Seen, policy: OrderPolicy, now_ms: int, *, new_fill: bool) -> tuple[Order, Outputs]:
    was = order
    order = replace(order.moved(Cause.SEEN_OPEN), absent_reads=0, ending=None)
    if order.stage is not was.stage:
        order = _now_working(order, policy, now_ms)
    if seen.status in ENDED_SHORT or seen.status is BookStatus.TRADED:
        # An end that was only pushed, or a fill without its quantity: the book must show it before it counts.
        if not seen.from_book:
            return replace(order, look_due_ms=now_ms), ()
        if order.looks < PATIENT_LOOKS:
            return order, ()
        text = f"is {seen.status} with {seen.filled_quantity} units filled; look at the broker's terminal"
        return order.alert_once("order_short_of_its_fill", now_ms, text)
    if order.status == seen.status and not new_fill:
        return order, ()
    order = replace(order, status=seen.status)
    return order, (order.fact(FactKind.SEEN, now_ms),)


def _take_fill(order: Order, seen: Seen, now_ms: int) -> tuple[Order, Outputs]:
    """Take up what has been filled beyond what is known."""
    filled = min(seen.filled_quantity, order.quantity)
    step = filled - order.filled_quantity
    if step <= 0:
        return order, ()
    value_paise = exact_value_paise(seen.filled_value_paise, filled, order.contract) - order.filled_value_paise
    said: Outputs = ()
    if value_paise <= 0:
        if not seen.from_book:
            return replace(order, look_due_ms=now_ms), ()  # a quantity without its price: the book has both
        value_paise = order.limit_paise * step
        text = "was filled without a price and is valued at its limit; compare with the contract note"
        said = (order.alert("fill_price_missing", Severity.WARNING, now_ms, text),)
    order = replace(order, filled_quantity=filled, filled_value_paise=order.filled_value_paise + value_paise)
    taken = FillStep(
        client_order_id=order.client_order_id,
        at_ms=now_ms,
        cumulative_quantity=filled,
        quantity=step,
        value_paise=value_paise,
    )
    return order, (taken, *said)


def exact_value_paise(found_paise: int, quantity: int, contract: Contract) -> int:
    """What `quantity` units cost, where the broker only says it by an average price of four decimals.

    Whole lots at prices on the tick: the money is a multiple of tick x lot. Where such an amount is as near as the
    average's rounding can have moved it, it is that one; else the broker's word stands.
    """
    step_paise = contract.tick_size_paise * contract.lot_size
    nearest_paise = (found_paise + step_paise // 2) // step_paise * step_paise
    is_near = abs(found_paise - nearest_paise) <= quantity * AVERAGE_ROUNDING_PAISE + 1
    return nearest_paise if is_near and quantity % contract.lot_size == 0 else found_paise


def _now_working(order: Order, policy: OrderPolicy, now_ms: int) -> Order:
    return replace(
        order,
        write_due_ms=now_ms + policy.timeout_ms,
        look_due_ms=now_ms + LOOK_DELAYS_MS[0],
        looks=0,
        setbacks=0,
        absent_reads=0,
        message=order.message if order.unwanted else "",
    )


def _looked(order: Order, policy: OrderPolicy, now_ms: int, retry_after_ms: int) -> Order:
    delay_ms = LOOK_DELAYS_MS[min(order.looks + 1, len(LOOK_DELAYS_MS) - 1)]
    if order.stage is not Stage.UNKNOWN:
        delay_ms = min(delay_ms, policy.poll_ms)
    due_ms = now_ms + delay_ms
    if order.looking_since_ms is not None and order.look_due_ms > order.looking_since_ms:
        due_ms = min(due_ms, order.look_due_ms)  # asked for again while this one was on its way
    due_ms = max(due_ms, now_ms + retry_after_ms)
    return replace(order, looking_since_ms=None, looks=order.looks + 1, look_due_ms=due_ms)


def _recall_fact(order: Order, fact: OrderFact) -> Order:
    order = replace(
        order,
        broker_order_id=order.broker_order_id or fact.broker_order_id,
        limit_paise=fact.limit_paise or order.limit_paise,
    )
    match fact.kind:
        case FactKind.REFUSED:
            return replace(order, stage=Stage.CLOSED, ending=Ending.REFUSED, message=fact.message)
        case FactKind.ABSENT:
            return replace(order, stage=Stage.CLOSED, ending=Ending.ABSENT, message=fact.message)
        case FactKind.MODIFY_SENT:
            return replace(order, reprices=order.reprices + 1, modifications=order.modifications + 1)
        case FactKind.SEEN if fact.status in ENDED_SHORT and fact.filled_quantity <= order.filled_quantity:
            refused = fact.status == BookStatus.REJECTED and order.filled_quantity == 0
            ending = Ending.REFUSED if refused else Ending.CANCELLED
            return replace(order, stage=Stage.CLOSED, ending=ending, status=fact.status, message=fact.message)
        case FactKind.SEEN:
            return replace(order, stage=Stage.UNKNOWN, ending=None, status=fact.status)
        case _:
            return order


def _refusal_alert(order: Order, answer: Answer, now_ms: int) -> Alert:
    kind, severity = {
        Answer.AUTHENTICATION_DEAD: ("broker_authentication_dead", Severity.CRITICAL),
        Answer.IP_REFUSED: ("broker_ip_refused", Severity.CRITICAL),
    }.get(answer, ("order_rejected", Severity.WARNING if order.purpose is Purpose.ENTRY else Severity.CRITICAL))
    return order.alert(kind, severity, now_ms, f"was refused: {order.message}")


def _blocked(order: Order, reply: Reply, now_ms: int) -> tuple[Order, Outputs]:
    kind = "broker_ip_refused" if reply.answer is Answer.IP_REFUSED else "broker_authentication_dead"
    text = f"cannot be reached ({reply.ask}): {reply.message}; act at the broker's terminal"
    return order.alert_once(kind, now_ms, text)
