"""Faults that are planted in the bot on purpose, in the dying process only: a suite that stays green with them is blind."""

from typing import Any

from steps import owner_of

from strategy.orders import Answer
from tasks.ledger import orders
from tasks.orders.execution import Execution


def intent_after_send() -> None:
    """The order goes out first, its intent is committed when the reply is there."""
    ledger, record = owner_of("tasks.ledger.store:Ledger.record_intent")
    broker, place = owner_of("tasks.broker.dhan:DhanBroker.place")
    commit, send = getattr(ledger, record), getattr(broker, place)
    waiting: list[Any] = []

    def put_off(self: Any, intent: Any, **options: Any) -> None:
        waiting.append(lambda: commit(self, intent, **options))

    def send_first(self: Any, order: Any) -> str:
        number: str = send(self, order)
        while waiting:
            waiting.pop()()
        return number

    setattr(ledger, record, put_off)
    setattr(broker, place, send_first)


def no_look_up() -> None:
    """What became of an unknown order is not asked; it counts as not placed."""
    recover = Execution.recover

    def forget(self: Any, intents: Any, events: Any, fills: Any) -> Any:
        self._look_up = lambda request: self._reply(request, Answer.ABSENT)
        return recover(self, intents, events, fills)

    Execution.recover = forget  # type: ignore[method-assign]


def no_lease_check() -> None:
    """The ledger takes an intent whoever holds the lease."""
    orders._check_fence = lambda *_: None


FAULTS = {
    "intent after send": intent_after_send,
    "no look-up on unknown": no_look_up,
    "lease not checked": no_lease_check,
}
