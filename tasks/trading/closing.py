"""Closes at the broker what a session holds, without the session: for one that is dead, hung or over.

The orders go through the same execution as a session's: intents come first, doubts are looked up, limits are
re-priced. What is left out is everything that decides about entries. No feed is needed: prices are asked for.

Invariants:
1. The lease is taken first. A session that lives keeps it, unless whoever calls takes it by force; the fence then
   stops the former owner at the ledger.
2. The broker is believed about what is held, the ledger about what is ours; never more than the smaller is sold.
   An unreadable broker is not flat.
3. Doing it again when nothing is held sends nothing.
4. A session that starts afterwards opens nothing more on that day: the halt is in the ledger.
"""

import logging
import os
import socket
from collections import defaultdict
from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import dataclass

from pydantic import ValidationError

from strategy.actions import Alert, Exit, ExitReason, Explanation
from strategy.closing import Holding, held_by_others, sales
from strategy.events import Fill, IntentClosed, Side, Tick, Timer
from strategy.instruments import Contract, Quantity
from strategy.orders import Purpose, order_policy
from strategy.params import Params
from strategy.position import RETRY_DELAYS_MS
from strategy.state import Halt
from tasks.broker import BrokerError, BrokerOrder
from tasks.clock import real_now_ms
from tasks.connect import open_broker, open_clock, run_identity
from tasks.inbox import Inbox
from tasks.ledger.lease import Lease
from tasks.ledger.records import DecisionRecord, SessionKey
from tasks.ledger.store import Ledger
from tasks.lockstep import LockStepClock
from tasks.orders.execution import Execution
from tasks.orders.records import contract_of
from tasks.settings import Settings
from tasks.trading.postman import Postman
from tasks.trading.recovery import journal_path, recover_orders, take_in_unrecorded

LOG = logging.getLogger(__name__)

PATIENCE_MS = 180_000  # market time; an order in doubt alone may take 15 s
# The broker's positions may lag behind its trades: nothing held where our orders say otherwise is read again.
BELIEVED_AFTER_READINGS = 3
READING_PERIOD_MS = 2_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Closed:
    """What was found and done for one session; texts for people."""

    session_id: str
    at_ms: int
    sold: tuple[str, ...] = ()
    cancelled: tuple[str, ...] = ()
    still_held: tuple[str, ...] = ()
    foreign: tuple[str, ...] = ()  # held or on order, but by others; not touched
    unproven: str = ""  # why nobody can say that it is flat

    @property
    def is_flat(self) -> bool:
        """True when the broker was read and nothing of the bot's is held or on order."""
        return not self.still_held and not self.unproven

    @property
    def acted(self) -> bool:
        """True when something was sold or cancelled."""
        return bool(self.sold or self.cancelled)

    def __str__(self) -> str:
        said = [
            *(f"sold {what}" for what in self.sold),
            *(f"cancelled {what}" for what in self.cancelled),
            *(f"STILL HELD: {what}" for what in self.still_held),
            *([self.unproven] if self.unproven else []),
            *(["flat"] if self.is_flat else []),
            *(f"not ours and not touched: {what}" for what in self.foreign),
        ]
        return "; ".join(said)


def close_session(
    settings: Settings, ledger: Ledger, key: SessionKey, *, reason: ExitReason, why: str, force: bool = False
) -> Closed:
    """Cancel and close everything of the session at the broker; return when flat or out of patience.

    Raises:
        LeaseHeld: a session lives, and `force` was not given; nothing was done.
        SettingsRefused, LedgerUnavailable: nothing was done.
    """
    owner = f"{socket.gethostname()}/{os.getpid()}/{run_identity()}"
    take = ledger.leases.take_over if force else ledger.leases.take
    lease = take(key, owner, real_now_ms())
    try:
        with ExitStack() as opened:
            return _Closer(settings, ledger, key, lease, opened, reason=reason, why=why).close()
    finally:
        ledger.leases.release(lease)


class _Closer:
    """One attempt to be flat; everything happens on the caller's thread but the broker's writes."""

    def __init__(
        self,
        settings: Settings,
        ledger: Ledger,
        key: SessionKey,
        lease: Lease,
        opened: ExitStack,
        *,
        reason: ExitReason,
        why: str,
    ) -> None:
        self.ledger, self.session_id, self.fence = ledger, key.session_id, lease.fence
        self.reason, self.why = reason, why
        self.prefix = key.order_prefix(ledger.open_session(key, salt=""))
        params = params_of(ledger, key)
        self.inbox: Inbox[object] = Inbox()
        self.clock = opened.enter_context(open_clock(settings, busy=lambda: not self.execution.idle()))
        self.broker = opened.enter_context(open_broker(settings, key, inbox=self.inbox, now_ms=self.clock.now_ms))
        self.execution = Execution(
            broker=self.broker,
            ledger=ledger,
            inbox=self.inbox,
            now_ms=self.clock.now_ms,
            session_id=self.session_id,
            fence=lease.fence,
            prefix=self.prefix,
            policy=order_policy(params),
            product=params.product,
            journal_path=journal_path(settings.home, self.session_id),
            workers=1 if isinstance(self.clock, LockStepClock) else 3,
        )
        opened.callback(self.execution.close)
        # Keeps the lease alive.
        postman = Postman(ledger=ledger, lease=lease, session_id=self.session_id, inbox=self.inbox, clock=self.clock)
        postman.start()
        opened.callback(postman.close)
        self.trade_of: dict[int, int] = {}  # by intent
        self.contracts: dict[int, Contract] = {}  # by trade
        self.paid_paise: dict[int, int] = {}  # by trade, per unit
        self.units: dict[int, int] = defaultdict(int)  # by trade: bought and not sold
        self.sold: dict[str, int] = defaultdict(int)
        self.cancelled: list[str] = []
        self.foreign: tuple[str, ...] = ()
        self.unproven = "the broker has not been read"
        self.attempts = self.empty_readings = 0
        self.next_look_ms = 0

    def close(self) -> Closed:
        """Take up the orders, then look and sell until nothing is held."""
        began_ms = self.clock.now_ms()
        self.halt(began_ms)
        self.take_up()
        while self.unproven and self.clock.now_ms() - began_ms < PATIENCE_MS:
            event = self.clock.next_event(self.inbox)
            self.hear(self.execution.on_event(event))
            if isinstance(event, Timer):
                self.look_and_sell(event.at_ms)
        done = Closed(
            session_id=self.session_id,
            at_ms=self.clock.now_ms(),
            sold=tuple(f"{units} x {name}" for name, units in self.sold.items()),
            cancelled=tuple(self.cancelled),
            still_held=tuple(f"{holding.quantity} x {holding.contract.name}" for holding in self.ours)
            if self.unproven
            else (),
            foreign=self.foreign,
            unproven=self.unproven,
        )
        # What a dead session was asked and never answered.
        for command in self.ledger.open_commands(self.session_id):
            self.ledger.answer_command(command.command_id, f"closed without the session: {done}", done.at_ms)
        return done

    def halt(self, at_ms: int) -> None:
        """No session of this day shall open anything any more; said once."""
        told = self.ledger.decisions(self.session_id, kind="halted")
        if not any(decision.reason == Halt.MANUAL_SQUAREOFF for decision in told):
            said = DecisionRecord(session_id=self.session_id, at_ms=at_ms, kind="halted", reason=Halt.MANUAL_SQUAREOFF)
            self.ledger.record_decisions([said])

    def take_up(self) -> None:
        """Know the session's orders; what it was still buying is cancelled, what it was selling goes on."""
        self.execution.take_in_journal()
        try:
            take_in_unrecorded(
                self.ledger,
                self.broker,
                self.session_id,
                prefix=self.prefix,
                fence=self.fence,
                at_ms=self.clock.now_ms(),
            )
        except BrokerError as unreadable:
            # Nothing is sold before the broker was read; what it then shows is less than the ledger has.
            LOG.warning("%s: the broker's orders cannot be read: %s", self.session_id, unreadable)
        recovered = recover_orders(self.ledger, self.session_id, self.execution)
        still_open = set(self.execution.open_intents())
        for record in recovered.intents:
            self.trade_of[record.intent] = record.trade
            self.contracts[record.trade] = contract_of(record)
            if record.purpose == Purpose.ENTRY:
                self.paid_paise[record.trade] = record.reference_paise
        for _, intent, side, fill in recovered.fills:
            self.units[self.trade_of[intent]] += fill.quantity if side is Side.BUY else -fill.quantity
        self.hear(recovered.heard)
        for record in recovered.intents:
            if record.intent in still_open and record.purpose == Purpose.ENTRY:
                self.execution.cancel_entry(record.intent)
                self.cancelled.append(f"buying {record.quantity} x {record.contract_name}")

    def hear(self, heard: Iterable[Fill | IntentClosed | Alert]) -> None:
        """Count what was filled."""
        for said in heard:
            LOG.info("%s: %s", self.session_id, said)
            if isinstance(said, Fill):
                trade = self.trade_of[said.intent]
                self.units[trade] += said.quantity if said.side is Side.BUY else -said.quantity
                if said.side is Side.SELL:
                    self.sold[self.contracts[trade].name] += said.quantity

    @property
    def ours(self) -> tuple[Holding, ...]:
        """What our orders bought and did not sell."""
        return tuple(
            Holding(trade=trade, contract=self.contracts[trade], quantity=units)
            for trade, units in self.units.items()
            if units > 0
        )

    def look_and_sell(self, now_ms: int) -> None:
        """Once nothing is in flight: read the broker, and sell what it and our orders say is held."""
        ours = self.ours
        self.ask_prices({holding.contract.security for holding in ours})
        if self.execution.open_intents() or not self.execution.idle() or now_ms < self.next_look_ms:
            return
        self.next_look_ms = now_ms + READING_PERIOD_MS
        try:
            at_broker: dict[str, int] = defaultdict(int)
            for position in self.broker.positions():
                at_broker[position.security] += position.net_quantity
            orders = self.broker.orders()
        except BrokerError as unreadable:
            self.unproven = f"the broker cannot be read: {unreadable}"
            return
        self.foreign = self.not_ours(at_broker, orders)
        wanted = sales(ours, at_broker)
        if wanted:
            self.empty_readings = 0
            self.sell(wanted, now_ms)
        elif ours and self.empty_readings < BELIEVED_AFTER_READINGS - 1:
            self.empty_readings += 1
            self.unproven = "the broker does not show what our orders hold; reading again"
        else:
            self.unproven = ""

    def ask_prices(self, securities: set[str]) -> None:
        """Give the execution a price of what is to be sold, so that its limits follow the market.

        Without one the price paid is the first limit's reference, and re-pricing widens from there.
        """
        try:
            quotes = self.broker.quotes(securities) if securities else {}
        except BrokerError as away:
            LOG.warning("%s: no price of what is held: %s", self.session_id, away)
            return
        for quote in quotes.values():
            self.execution.on_event(
                Tick(
                    at_ms=quote.at_ms,
                    security=quote.security,
                    price_paise=quote.last_paise,
                    bid_paise=quote.bid_paise,
                    ask_paise=quote.ask_paise,
                )
            )

    def sell(self, wanted: Iterable[Holding], now_ms: int) -> None:
        """One exit for each; what an exit leaves is sold anew after a pause that grows."""
        for holding in wanted:
            intent = max(self.trade_of, default=0) + 1
            self.trade_of[intent] = holding.trade
            self.unproven = f"selling {holding.quantity} x {holding.contract.name}"
            LOG.warning("%s: %s", self.session_id, self.unproven)
            self.execution.submit(
                Exit(
                    at_ms=now_ms,
                    intent=intent,
                    trade=holding.trade,
                    contract=holding.contract,
                    quantity=Quantity(holding.quantity),
                    reference_paise=self.paid_paise[holding.trade],
                    reason=self.reason,
                    why=Explanation(facts={"closed_without_the_session": True, "asked_because": self.why}),
                )
            )
        self.attempts += 1
        self.next_look_ms = now_ms + RETRY_DELAYS_MS[min(self.attempts, len(RETRY_DELAYS_MS)) - 1]

    def not_ours(self, at_broker: dict[str, int], orders: Iterable[BrokerOrder]) -> tuple[str, ...]:
        """What others hold or have on order in the contracts that the session traded."""
        names = {contract.security: contract.name for contract in self.contracts.values()}
        held = held_by_others(self.ours, at_broker)
        return (
            *(f"{units} x {names[security]}" for security, units in held.items() if security in names),
            *(
                f"open order {order.broker_order_id} of {order.quantity} x {names[order.security]}"
                for order in orders
                if order.security in names
                and not order.status.is_final
                and not order.client_order_id.startswith(f"{self.prefix}-")
            ),
        )


def params_of(ledger: Ledger, key: SessionKey) -> Params:
    """The settings of the session's last start; the defaults where there was none, or it was another version's."""
    for start in reversed(ledger.starts(key.session_id)):
        try:
            return Params.model_validate(dict(start.params))
        except ValidationError as unknown:
            LOG.warning("the settings of %s are not this version's, the defaults are used: %s", start.run_id, unknown)
    return Params(index=key.underlying)
