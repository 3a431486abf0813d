"""The loss limit of a whole account: what all its sessions of a day lost together, whichever process traded it.

Each session's process asks the ledger every few seconds, off the loop, and halts its own session once the account is at
the limit. Nobody has to reach anybody else: the ledger's database is what the processes share, on one machine or many.

Invariants:
1. Only sessions of the same account, day and mode count: a rehearsal's loss stops no live session.
2. What counts is realised and net: trades that are closed, with the charges of their orders by the day's rates. What
   is still held is each session's own affair (`daily_max_loss`, `max_loss_per_trade`).
3. A session that an operator resumes while the account is at the limit is halted again at the next look.
4. A loss is known here within `PERIOD_S` of its last fill's commit; the halt takes effect within `POLL_PERIOD_S` of the
   postman after that. Exits are never delayed.
"""

import logging
import threading
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from strategy.charges import Rates, order_charges
from strategy.events import CommandKind, Side
from strategy.instruments import Underlying
from tasks.ledger import LedgerUnavailable
from tasks.ledger.records import SessionKey
from tasks.ledger.store import Ledger
from tasks.notify import Notice, texts
from tasks.pages.money import render_rupees

PERIOD_S = 2.0
REQUESTED_BY = "account limit"
LOG = logging.getLogger(__name__)

_ORDERS = """
SELECT s.underlying, i.session_id, i.trade, i.side,
    CAST(SUM(f.quantity) AS BIGINT), CAST(SUM(f.value_paise) AS BIGINT)
FROM session s
JOIN intent i ON i.session_id = s.session_id
JOIN client_order o ON o.session_id = i.session_id AND o.intent = i.intent
JOIN fill f ON f.client_order_id = o.client_order_id
WHERE s.account = ? AND s.mode = ? AND s.day = ?
GROUP BY s.underlying, i.session_id, i.trade, i.side, f.client_order_id
"""
_LAST_WORD = """
SELECT kind FROM command WHERE session_id = ? AND kind IN ('halt', 'resume')
ORDER BY requested_at DESC, command_id DESC LIMIT 1
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecutedOrder:
    """What an order of the account has filled so far."""

    underlying: Underlying
    session_id: str
    trade: int
    side: Side
    quantity: int  # units
    value_paise: int


def executed_orders(ledger: Ledger, key: SessionKey) -> tuple[ExecutedOrder, ...]:
    """Every order with a fill of the account's day, in one question. LedgerUnavailable."""
    rows = ledger.rows(_ORDERS, key.account, key.mode, ledger.wire.day(key.day))
    return tuple(
        ExecutedOrder(
            underlying=Underlying(underlying),
            session_id=session_id,
            trade=trade,
            side=Side(side),
            quantity=quantity,
            value_paise=value_paise,
        )
        for underlying, session_id, trade, side, quantity, value_paise in rows
    )


def realised_paise(orders: Iterable[ExecutedOrder], rates: Callable[[Underlying], Rates]) -> int:
    """Net P&L of the trades that are closed, less the charges of all orders, in paise."""
    trades: dict[tuple[str, int], list[ExecutedOrder]] = defaultdict(list)
    net_paise = 0
    for order in orders:
        trades[order.session_id, order.trade].append(order)
        net_paise -= order_charges(order.side, order.value_paise, rates(order.underlying)).total_paise
    for parts in trades.values():
        bought = sum(part.quantity for part in parts if part.side is Side.BUY)
        sold = sum(part.quantity for part in parts if part.side is Side.SELL)
        if 0 < bought <= sold:
            net_paise += sum(part.value_paise if part.side is Side.SELL else -part.value_paise for part in parts)
    return net_paise


class AccountWatch:
    """Looks for one session; `start()`, `close()`. Without a limit it does nothing."""

    def __init__(
        self,
        *,
        ledger: Ledger,
        key: SessionKey,
        limit_paise: int,
        rates: Callable[[Underlying], Rates],
        ask: Callable[[CommandKind, str, str], None],
        notify: Callable[[Notice], None],
        now_ms: Callable[[], int],
        period_s: float = PERIOD_S,
    ) -> None:
        self._ledger = ledger
        self._key = key
        self._limit_paise = limit_paise
        self._rates = rates
        self._ask = ask
        self._notify = notify
        self._now_ms = now_ms
        self._period_s = period_s
        self._told = False
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._walk, name="account watch", daemon=True)

    def start(self) -> None:
        """Look once before anything is traded, then every few seconds."""
        if self._limit_paise:
            self.look()
            self._thread.start()

    def close(self) -> None:
        """No more looks."""
        self._closing.set()
        if self._thread.is_alive():
            self._thread.join(5.0)

    def look(self) -> None:
        """Halt the session if the account is at its limit and the session's last word was not a halt."""
        try:
            net_paise = realised_paise(executed_orders(self._ledger, self._key), self._rates)
            if net_paise > -self._limit_paise:
                return
            last_word = self._ledger.rows(_LAST_WORD, self._key.session_id)
        except LedgerUnavailable as away:
            # Without its ledger a session enters nothing anyway.
            LOG.warning("the account's loss cannot be added up: %s", away)
            return
        if last_word != [("halt",)]:
            lost, limit = render_rupees(-net_paise), render_rupees(self._limit_paise)
            self._ask(CommandKind.HALT, f"the account lost {lost} of {limit} today", REQUESTED_BY)
        if not self._told:
            self._told = True
            self._notify(
                texts.account_limit_hit(self._key, self._now_ms(), net_paise=net_paise, limit_paise=self._limit_paise)
            )

    def _walk(self) -> None:
        while not self._closing.wait(self._period_s):
            self.look()
