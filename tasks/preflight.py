"""Everything that must be true before the first order, each check by itself and with a plain reason when it is not.

A check takes the day's connections and returns what it found in a few words, or raises NotReady with what was
expected, what was found and what to do. The flow runs each as a task of its own.
"""

from collections.abc import Callable

from tasks.arming import why_not_armed
from tasks.broker import BrokerError
from tasks.clock import ist, pause, real_now_ms
from tasks.connect import Connections, clock_skew_ms
from tasks.ledger.check import check
from tasks.ledger.lease import Lease
from tasks.pages.money import render_rupees

CLOCK_SKEW_MS_MAX = 2_000
LEASE_LOOK_S = 0.5


class NotReady(Exception):
    """A condition for trading does not hold; the message says which, what was found, and what to do."""


def settings_fit_the_mode(connections: Connections) -> str:
    """Rehearsal only against the simulator, live and paper only against Dhan."""
    connections.settings.check_mode(connections.params.mode)
    return f"settings fit mode {connections.params.mode}"


def live_orders_are_armed(connections: Connections) -> str:
    """Real money moves only on a day and index that the operator armed, with the settings that he confirmed."""
    if connections.params.mode != "live":
        return "no real orders in this mode"
    missing = why_not_armed(connections.ledger, connections.key, connections.params)
    if missing:
        raise NotReady(missing)
    return "armed"


def ledger_is_sound(connections: Connections) -> str:
    """The database is migrated and keeps its own invariants."""
    violations = check(connections.ledger)
    if violations:
        listed = "; ".join(str(violation) for violation in violations[:5])
        raise NotReady(f"The ledger contradicts itself in {len(violations)} places: {listed}. See 'bot ledger check'.")
    return "ledger migrated and sound"


def token_outlives_the_session(connections: Connections) -> str:
    """The access token is valid past the close; else it is renewed or minted."""
    close_ms = connections.hours.close_ms
    profile = connections.broker.profile()
    if profile.token_valid_until_ms <= close_ms:
        connections.tokens.ensure_valid_past(close_ms)
        profile = connections.broker.profile()
    if profile.token_valid_until_ms <= close_ms:
        raise NotReady(
            f"The access token must be valid past {ist(close_ms):%H:%M}, found valid until "
            f"{ist(profile.token_valid_until_ms):%d %b %H:%M}. Generate a new one, or set PIN and TOTP secret."
        )
    return f"token valid until {ist(profile.token_valid_until_ms):%d %b %H:%M}"


def data_plan_is_active(connections: Connections) -> str:
    """Dhan's data subscription, without which there is no feed."""
    if not connections.broker.profile().data_plan_active:
        raise NotReady("The broker's data plan must be active, found inactive. Subscribe to the Data APIs at Dhan.")
    return "data plan active"


def orders_are_allowed_from_here(connections: Connections) -> str:
    """The static address rule; only live orders depend on it."""
    status = connections.broker.ip_status()
    if connections.params.mode == "live" and not (status.known and status.orders_allowed):
        raise NotReady(
            f"Orders must be allowed from this machine's address, found: {status.detail}. "
            "Whitelist the address at Dhan (a change takes effect after 7 days at most)."
        )
    return status.detail or "orders allowed"


def instruments_are_of_today(connections: Connections) -> str:
    """The instrument master, the nearest expiry and its contracts."""
    contracts = connections.contracts
    if not contracts:
        raise NotReady(
            f"Contracts of {connections.index.underlying} for {connections.expiry} were expected in the instrument "
            "master, found none. Delete the cached master under the home folder and start again."
        )
    return f"{len(contracts)} contracts expire {connections.expiry}"


def funds_are_there(connections: Connections) -> str:
    """Something to buy with; each entry checks again for its own premium."""
    available = connections.broker.available_funds_paise()
    if available <= 0:
        raise NotReady(f"Funds above zero were expected, found {render_rupees(available)}. Add funds at the broker.")
    return f"{render_rupees(available)} available"


def clocks_agree(connections: Connections) -> str:
    """This machine's clock against the broker's answers."""
    skew_ms = clock_skew_ms(connections.settings)
    if abs(skew_ms) > CLOCK_SKEW_MS_MAX:
        raise NotReady(
            f"This machine's clock must be within {CLOCK_SKEW_MS_MAX / 1000:.0f} s of the broker's, found "
            f"{skew_ms / 1000:+.1f} s. Turn on time synchronisation (timedatectl set-ntp true)."
        )
    return f"clock skew {skew_ms / 1000:+.1f} s"


def nothing_foreign_is_open(connections: Connections) -> str:
    """No open position or order in the index's options that the ledger does not know."""
    try:
        positions = connections.broker.positions()
        orders = connections.broker.orders()
    except BrokerError as unreadable:
        raise NotReady(f"The broker's books must be readable, found: {unreadable}. Unreadable is not flat.") from None
    ours = {order.client_order_id for intent in connections.intents for order in intent.orders}
    traded = {intent.security for intent in connections.intents}
    options = {contract.security for contract in connections.contracts.values()}
    foreign = [
        f"{position.net_quantity} of {position.trading_symbol}"
        for position in positions
        if position.net_quantity != 0 and position.security in options - traded
    ] + [
        f"open order {order.broker_order_id} on {order.security}"
        for order in orders
        if not order.status.is_final and order.security in options and order.client_order_id not in ours
    ]
    if foreign and connections.params.on_unknown_position == "halt":
        raise NotReady(
            f"No {connections.index.underlying} option was expected to be held or on order but by this session, "
            f"found {', '.join(foreign)}. Close it at the broker, or set on_unknown_position."
        )
    return f"{len(positions)} positions and {len(orders)} orders at the broker, {len(foreign)} of them unknown"


def nobody_else_trades(connections: Connections) -> str:
    """The lease of this account and index is free, or its holder is dead."""
    lease = living_rival(connections)
    if lease is not None:
        raise NotReady(
            f"The session lease must be free, found it held by {lease.owner} "
            f"until {ist(lease.expires_at_ms):%H:%M:%S}. Another run trades this "
            "index; stop it, or wait until its lease runs out."
        )
    return "lease free"


def living_rival(connections: Connections) -> Lease | None:
    """Who trades this account, index and mode already; None when nobody does.

    A lease that is not renewed while we look belongs to a process that died: it is waited for until it has run out.
    """
    leases, key = connections.ledger.leases, connections.key
    first = leases.holder(key, real_now_ms())
    now = first
    while first is not None and now is not None and now.heartbeat_at_ms == first.heartbeat_at_ms:
        pause(LEASE_LOOK_S)
        now = leases.holder(key, real_now_ms())
    return now


CHECKS: tuple[Callable[[Connections], str], ...] = (
    settings_fit_the_mode,
    live_orders_are_armed,
    ledger_is_sound,
    token_outlives_the_session,
    data_plan_is_active,
    orders_are_allowed_from_here,
    instruments_are_of_today,
    funds_are_there,
    clocks_agree,
    nothing_foreign_is_open,
    nobody_else_trades,
)
