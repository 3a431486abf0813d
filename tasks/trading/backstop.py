"""The second backstop: the broker itself closes what is held at a loss that the session should never have let happen.

Off unless the operator asks for it (`broker_backstop`). It is for the machine that is dead, hung or cut off.

Invariants:
1. It never stands in the way of trading: what goes wrong here is an alert.
2. The account has one such exit, and its sessions share it. It goes by the account's limit, plus a margin that lets
   the sessions' own halts and exits come first.
3. It is taken back by the last session of the account, and only once none of them holds anything. A crash, a
   hand-over or an open position leaves it where it is; it ends with the day.
"""

import logging
from collections.abc import Callable

from strategy.actions import Alert, Severity
from strategy.params import Product
from tasks.broker import LOSS_EXIT_PRODUCTS, Broker, BrokerError
from tasks.clock import real_now_ms
from tasks.ledger import LedgerUnavailable
from tasks.ledger.records import SessionKey
from tasks.ledger.store import Ledger
from tasks.notify import Notice, texts
from tasks.pages.money import render_rupees

LOG = logging.getLogger(__name__)


def backstop_paise(limit_paise: int) -> int:
    """The loss at which the broker closes: half the account's limit beyond it, in whole rupees."""
    return -(-limit_paise * 3 // 200) * 100


class BrokerBackstop:
    """One session's part in the broker's loss exit: `put_up()` before trading, `take_down()` after it."""

    def __init__(
        self,
        *,
        wanted: bool,
        limit_paise: int,
        product: Product,
        broker: Broker,
        ledger: Ledger,
        key: SessionKey,
        notify: Callable[[Notice], None],
        now_ms: Callable[[], int],
    ) -> None:
        self._wanted = wanted
        self._loss_paise = backstop_paise(limit_paise)
        self._product = product
        self._broker = broker
        self._ledger = ledger
        self._key = key
        self._notify = notify
        self._now_ms = now_ms

    def put_up(self) -> None:
        """Set the exit at the broker, or tell why there is none."""
        if not self._wanted:
            return
        shown = render_rupees(self._loss_paise)
        try:
            self._broker.set_loss_exit(self._loss_paise)
        except BrokerError as error:
            self._tell(f"the broker does not close at a loss of {shown}: {error}")
            return
        LOG.info("the broker itself closes %s at a loss of %s", " and ".join(LOSS_EXIT_PRODUCTS), shown)
        if self._product not in LOSS_EXIT_PRODUCTS:
            self._tell(
                f"the broker closes {' and '.join(LOSS_EXIT_PRODUCTS)} at a loss of {shown}; "
                f"this session's product is {self._product}, which it does not cover"
            )

    def take_down(self, *, is_flat: bool) -> None:
        """Clear the exit, unless something is held or another session of the account is still in need of it."""
        if not self._wanted or not is_flat:
            return
        try:
            in_need = self._in_need()
            if in_need:
                LOG.info("the broker's loss exit stays for %s", ", ".join(in_need))
                return
            self._broker.clear_loss_exit()
        except (BrokerError, LedgerUnavailable) as error:
            self._tell(f"it could not be taken back and stands until the day is over: {error}")

    def _in_need(self) -> list[str]:
        """Other sessions of the account today that trade, or that died holding something."""
        mine, ledger = self._key, self._ledger
        living = ledger.living_session_ids(real_now_ms())
        others = [
            session_id
            for session_id in ledger.session_ids(day=mine.day, mode=mine.mode)
            if session_id != mine.session_id and ledger.key_of(session_id).account == mine.account
        ]
        return [
            session_id
            for session_id in others
            if session_id in living or any(trade.open_quantity for trade in ledger.trades(session_id))
        ]

    def _tell(self, message: str) -> None:
        alert = Alert(at_ms=self._now_ms(), kind="broker_backstop", severity=Severity.WARNING, message=message)
        self._notify(texts.alerted(self._key, alert))
