"""The last look of the day: is the bot flat at the broker? If not, and no session is at work on it, close.

Invariants:
1. The broker is believed: what is held and on order is read there, not in the ledger; the ledger says what is ours.
2. A session that lives is left to its work until its squareoff is due; after that it is asked, then fenced off.
3. Guarding again when everything is flat sends nothing, records nothing and alerts nobody.
4. Without the ledger nothing is sold: nobody could tell whether a session is selling the same units, and what is sold
   twice is a naked short without a limit, while what is held can lose its premium and no more. It looks by the ids of
   the day's orders, and shouts.
"""

import logging
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass

from strategy.calendar import OutsideKnownData, ist_ms, session_facts, trading_day
from strategy.events import CommandKind, Side
from strategy.instruments import Underlying
from strategy.params import Mode
from strategy.plan import BEFORE_CLOSE_MS
from tasks.broker import Broker, BrokerError
from tasks.clock import Deadline, pause, real_now_ms
from tasks.connect import market_day, market_now_ms, open_broker
from tasks.controls import NoSessionAlive, Outcome, ask_sessions, close_outcome, sessions_of_today
from tasks.ledger.records import SessionKey
from tasks.ledger.store import Ledger
from tasks.settings import Settings, SettingsRefused
from tasks.trading.closing import params_of

LOG = logging.getLogger(__name__)

ANSWER_TIMEOUT_S = 20.0
READ_PATIENCE_S = 60.0
READ_PAUSE_S = 2.0
LEASE_LOOK_S = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Open:
    """What of a session is open at the broker; texts for people."""

    held: tuple[str, ...]
    on_order: tuple[str, ...]

    def __bool__(self) -> bool:
        return bool(self.held or self.on_order)

    def __str__(self) -> str:
        return "; ".join((*(f"{what} held" for what in self.held), *(f"{what} on order" for what in self.on_order)))


def guard(settings: Settings, ledger: Ledger, *, underlying: Underlying | None = None) -> tuple[Outcome, ...]:
    """Look at every session of today, and close what is open; empty where today has none."""
    return tuple(_guard(settings, ledger, key) for key in sessions_of_today(settings, ledger, underlying))


def look_without_ledger(settings: Settings) -> tuple[Outcome, ...]:
    """What the broker says is open under the ids of today's orders of any index; nothing is done about it.

    Paper orders live in a file of their own and cannot hurt, so this is about the account's real book.
    """
    day = market_day(settings)
    mode = Mode.REHEARSAL if settings.rehearsing else Mode.LIVE
    outcomes = []
    for underlying in Underlying:
        key = SessionKey(account=settings.client_id, underlying=underlying, mode=mode, day=day)
        try:
            with open_broker(settings, key) as broker:
                found = _open_under(broker, key.order_prefix(""), {})
        except (BrokerError, SettingsRefused) as unreadable:
            said = f"UNKNOWN whether it is flat, the broker cannot be read: {unreadable}"
            outcomes.append(Outcome(session_id=key.session_id, said=said, done=False))
            continue
        if found:
            said = (
                f"OPEN AT THE BROKER, and the ledger is away, so nothing is sold here: {found}. Sell at the terminal."
            )
            outcomes.append(Outcome(session_id=key.session_id, said=said, done=False))
    return tuple(outcomes)


def open_at_broker(ledger: Ledger, broker: Broker, key: SessionKey) -> Open:
    """What the broker says is held or on order of the session's own. BrokerError, LedgerUnavailable.

    Ours is what orders under our ids bought and did not sell, at the broker or in the ledger (which also knows
    positions that were taken over), and no more than the account holds.
    """
    security_of = {intent.intent: intent.security for intent in ledger.intents(key.session_id)}
    recorded: dict[str, int] = defaultdict(int)
    for _, intent, side, fill in ledger.fills(key.session_id):
        recorded[security_of[intent]] += fill.quantity if side is Side.BUY else -fill.quantity
    return _open_under(broker, f"{key.order_prefix(ledger.open_session(key, salt=''))}-", recorded)


def _open_under(broker: Broker, prefix: str, recorded: Mapping[str, int]) -> Open:
    positions, orders = broker.positions(), broker.orders()
    booked: dict[str, int] = defaultdict(int)
    for order in orders:
        if order.client_order_id.startswith(prefix):
            booked[order.security] += order.filled_quantity if order.side is Side.BUY else -order.filled_quantity
    held: dict[str, int] = defaultdict(int)
    for position in positions:
        held[position.security] += position.net_quantity
    names = {position.security: position.trading_symbol for position in positions}
    ours = {
        security: min(max(recorded.get(security, 0), booked[security]), held[security])
        for security in {*recorded, *booked} & held.keys()
    }
    return Open(
        held=tuple(f"{units} x {names[security]}" for security, units in ours.items() if units > 0),
        on_order=tuple(
            f"{order.side} {order.quantity - order.filled_quantity} ({order.client_order_id})"
            for order in orders
            if order.client_order_id.startswith(prefix) and not order.status.is_final
        ),
    )


def _guard(settings: Settings, ledger: Ledger, key: SessionKey) -> Outcome:
    try:
        found = _look(settings, ledger, key)
        if not found:
            return Outcome(session_id=key.session_id, said="all flat", done=True)
        LOG.error("%s: %s", key.session_id, found)
        lives = _lives(ledger, key)
        if lives and not _is_due(settings, ledger, key):
            return Outcome(session_id=key.session_id, said=f"a session is at work: {found}", done=True)
        if lives and _closed_itself(ledger, key) and not _look(settings, ledger, key):
            return Outcome(
                session_id=key.session_id, said=f"{found}: the session closed when asked", done=True, acted=True
            )
    except BrokerError as unreadable:
        said = (
            f"UNKNOWN whether it is flat, the broker cannot be read: {unreadable}. Look at the broker's own terminal."
        )
        return Outcome(session_id=key.session_id, said=said, done=False)
    return close_outcome(settings, ledger, key, why=f"guardian: {found}", force=lives)


def _lives(ledger: Ledger, key: SessionKey) -> bool:
    """True when the lease is renewed while we look; that of a process that died is waited for until it has run out."""
    first = now = ledger.leases.holder(key, real_now_ms())
    while first is not None and now is not None and now.heartbeat_at_ms == first.heartbeat_at_ms:
        pause(LEASE_LOOK_S)
        now = ledger.leases.holder(key, real_now_ms())
    return now is not None


def _look(settings: Settings, ledger: Ledger, key: SessionKey) -> Open:
    """Read the broker, again and again for a while where it cannot be read."""
    deadline = Deadline(READ_PATIENCE_S)
    with open_broker(settings, key) as broker:
        while True:
            try:
                return open_at_broker(ledger, broker, key)
            except BrokerError as unreadable:
                if deadline.passed:
                    raise
                LOG.warning("%s: the broker cannot be read, asking again: %s", key.session_id, unreadable)
                pause(READ_PAUSE_S)


def _is_due(settings: Settings, ledger: Ledger, key: SessionKey) -> bool:
    """True once the session should have squared off by itself."""
    due_ms = ist_ms(key.day, params_of(ledger, key).squareoff_at)
    try:
        day = trading_day(key.day, session_facts(settings.operator_facts))
    except OutsideKnownData:
        day = None
    if day is not None:
        due_ms = min(due_ms, day.close_ms - BEFORE_CLOSE_MS)
    return market_now_ms(settings) >= due_ms


def _closed_itself(ledger: Ledger, key: SessionKey) -> bool:
    try:
        answers = ask_sessions(
            ledger,
            kind=CommandKind.SQUAREOFF,
            reason="something is open after the squareoff",
            requested_by="guardian",
            underlying=key.underlying,
            timeout_s=ANSWER_TIMEOUT_S,
        )
    except NoSessionAlive:
        return False
    return bool(answers.get(key.session_id))
