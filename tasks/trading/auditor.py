"""Reads the broker and the ledger for the running comparison (`strategy.audit`), off the trading loop.

Invariants:
1. `ask` never waits; exactly one reading comes back through the inbox for each ask, whatever fails.
2. At most one reading is on its way.
"""

from collections import defaultdict
from collections.abc import Callable

from strategy.audit import AuditedOrder, Reading, differences
from tasks.broker import Broker, BrokerError, OrderStatus
from tasks.inbox import Inbox
from tasks.ledger import LedgerUnavailable
from tasks.ledger.records import ADOPTED
from tasks.ledger.store import Ledger
from tasks.orders.lane import Lane

WRITTEN_WITHIN_S = 10.0
ENDED = frozenset({"REFUSED", "ABSENT"})


class Auditor:
    """One session's reader; `ask` from the loop, the Reading is in the inbox."""

    def __init__(
        self,
        *,
        broker: Broker,
        ledger: Ledger,
        inbox: Inbox[object],
        now_ms: Callable[[], int],
        session_id: str,
        prefix: str,
        written: Callable[[float], bool],
    ) -> None:
        self._broker, self._ledger, self._inbox, self._now_ms = broker, ledger, inbox, now_ms
        self._session_id = session_id
        self._written = written
        self._prefix = f"{prefix}-"
        self._lane = Lane("auditor", 1)
        self._reading = False

    def ask(self, activity: tuple[int, tuple[int, ...]]) -> bool:
        """Ask for a reading; False while one is on its way."""
        if self._reading:
            return False
        self._reading = True
        self._lane.put(lambda: self._read(activity))
        return True

    def idle(self) -> bool:
        """True when no reading is on its way."""
        return not self._reading

    def close(self) -> None:
        """No more readings."""
        self._lane.close()

    def _read(self, activity: tuple[int, tuple[int, ...]]) -> None:
        unreadable = "the reading failed; its error is in the log"
        found: tuple[str, ...] = ()
        at_broker: dict[str, int] = {}
        try:
            found, at_broker = self._compare()
            unreadable = ""
        except BrokerError as fault:
            unreadable = f"the broker's books cannot be read: {fault}"
        except (LedgerUnavailable, TimeoutError) as fault:
            unreadable = f"the ledger cannot be read: {fault}"
        finally:
            reading = Reading(
                at_ms=self._now_ms(),
                activity=activity,
                differences=found,
                at_broker=at_broker,
                unreadable=unreadable,
            )
            self._inbox.put(reading)
            self._reading = False

    def _compare(self) -> tuple[tuple[str, ...], dict[str, int]]:
        at_broker: dict[str, int] = defaultdict(int)
        for position in self._broker.positions():
            at_broker[position.security] += position.net_quantity
        theirs = [
            AuditedOrder(
                client_order_id=order.client_order_id,
                security=order.security,
                side=order.side,
                filled_quantity=order.filled_quantity,
                is_open=not order.status.is_final,
            )
            for order in self._broker.orders()
            if order.client_order_id.startswith(self._prefix)
        ]
        # What the loop knew when it asked may still be on its way to the ledger.
        if not self._written(WRITTEN_WITHIN_S):
            raise TimeoutError(f"order records were still waiting to be written after {WRITTEN_WITHIN_S:.0f} s")
        filled: dict[str, int] = defaultdict(int)
        for client_order_id, _, _, fill in self._ledger.fills(self._session_id):
            filled[client_order_id] += fill.quantity
        ours, adopted = [], defaultdict[str, int](int)
        for intent in self._ledger.intents(self._session_id):
            for order in intent.orders:
                if intent.reason == ADOPTED:
                    adopted[intent.security] += filled[order.client_order_id]
                    continue
                ours.append(
                    AuditedOrder(
                        client_order_id=order.client_order_id,
                        security=intent.security,
                        side=intent.side,
                        filled_quantity=filled[order.client_order_id],
                        is_open=filled[order.client_order_id] < order.quantity
                        and not self._has_ended(order.client_order_id),
                    )
                )
        return differences(ledger=ours, adopted=adopted, broker=theirs, at_broker=at_broker), at_broker

    def _has_ended(self, client_order_id: str) -> bool:
        return any(
            event.kind in ENDED or (event.status in set(OrderStatus) and OrderStatus(event.status).is_final)
            for event in self._ledger.order_events(client_order_id)
        )
