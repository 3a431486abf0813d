"""Everything that must be true before the first order, each check by itself and with a plain reason when it is not.

A check takes the day's connections and returns what it found in a few words, or raises NotReady with what was
expected, what was found and what to do. The flow runs each as a task of its own.
"""

from collections.abc import Callable
from socket import AF_INET
from urllib.parse import urlsplit

import psutil
import requests
from prefect.settings import PREFECT_API_URL

from strategy.instruments import contract_facts
from strategy.params import Mode, UnknownPositionPolicy
from strategy.plan import unconfirmed_facts
from tasks.arming import why_not_armed
from tasks.broker import BrokerError
from tasks.clock import ist, pause, real_now_ms
from tasks.connect import Connections, clock_skew_ms
from tasks.ledger.check import check
from tasks.ledger.lease import Lease
from tasks.notify import texts
from tasks.pages.money import render_rupees
from tasks.settings import is_loopback
from tasks.trading.recovery import foreign_at_broker, most_held

CLOCK_SKEW_MS_MAX = 2_000
LEASE_LOOK_S = 0.5
REFUSALS = {401, 403}


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
    # By the market's time: what a session of a rehearsed day holds after a crash is not held over night.
    violations = check(connections.ledger, now_ms=connections.now_ms())
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
    try:
        skew_ms = clock_skew_ms(connections.settings)
    except requests.RequestException as away:
        raise NotReady(
            f"The broker's clock was expected to be readable, found {type(away).__name__}. Does this machine reach the "
            "internet (name service, firewall)?"
        ) from None
    if abs(skew_ms) > CLOCK_SKEW_MS_MAX:
        raise NotReady(
            f"This machine's clock must be within {CLOCK_SKEW_MS_MAX / 1000:.0f} s of the broker's, found "
            f"{skew_ms / 1000:+.1f} s. Turn on time synchronisation (timedatectl set-ntp true)."
        )
    return f"clock skew {skew_ms / 1000:+.1f} s"


def nothing_foreign_is_open(connections: Connections) -> str:
    """No open position or order in the index's options that the ledger does not know."""
    ledger, session_id = connections.ledger, connections.session_id
    try:
        found = foreign_at_broker(
            connections.broker,
            connections.contracts.values(),
            most_held(connections.intents, ledger.fills(session_id)),
            prefix=connections.key.order_prefix(connections.salt),
        )
    except BrokerError as unreadable:
        raise NotReady(
            f"The broker's books must be readable, found: {unreadable}. Unreadable is not flat."
        ) from unreadable
    if found and connections.params.on_unknown_position == UnknownPositionPolicy.HALT:
        raise NotReady(
            f"No {connections.index.underlying} option was expected to be held or on order but by this session, "
            f"found {found}. Close it at the broker, or set on_unknown_position."
        )
    return f"open at the broker and not this session's: {found}" if found else "nothing foreign is open"


def facts_are_confirmed(connections: Connections) -> str:
    """Shows what is assumed about the day: nobody has read it in an official paper yet."""
    assumed = unconfirmed_facts(
        today=connections.trading_day,
        rates=connections.rates,
        facts=contract_facts(connections.settings.operator_facts),
        contracts=connections.contracts.values(),
    )
    return f"assumed, not confirmed: {'; '.join(assumed)}" if assumed else "every fact of the day is confirmed"


def people_can_be_reached(connections: Connections) -> str:
    """With real money, at least one notification service takes a notice now."""
    live = connections.params.mode == Mode.LIVE
    if not live:
        return f"{len(connections.notifier.targets)} notification targets"
    took = connections.notifier.check(texts.hello(connections.now_ms()))
    if not any(took.values()):
        raise NotReady(
            f"At least one notification target must take a notice, found {took or 'none configured'}. "
            "Set BOT_NOTIFY_URLS; with real money somebody must hear of trouble."
        )
    return f"notices arrive: {', '.join(name for name, arrived in took.items() if arrived)}"


def strangers_are_refused(connections: Connections) -> str:  # noqa: ARG001 (a check like the others)
    """A Prefect server that other machines can reach must refuse whoever has no password: it starts and stops runs.

    A server on this machine is called by the machine's other addresses: it may listen on all of them.
    """
    url = str(PREFECT_API_URL.value() or "").rstrip("/")
    asked = [url] if not is_loopback(url) else other_addresses(url)
    answers = [(each, answer_to_a_stranger(each)) for each in asked if url]
    for address, status in answers:
        if isinstance(status, int) and status not in REFUSALS:
            raise NotReady(
                f"The Prefect server at {urlsplit(address).hostname} must refuse a call without a password (401), "
                f"found {status}. Set PREFECT_SERVER_API_AUTH_STRING there and PREFECT_API_AUTH_STRING here, or "
                "bind it to 127.0.0.1."
            )
    if any(isinstance(status, int) for _, status in answers):
        return "the Prefect server refuses strangers"
    if not url or is_loopback(url):
        return "the Prefect server is on this machine only"
    return f"the Prefect server cannot be asked ({answers[0][1]}); trading does not need it"


def other_addresses(url: str) -> list[str]:
    """A loopback address of this machine's as another machine would write it."""
    parts = urlsplit(url)
    found = [part.address for parts in psutil.net_if_addrs().values() for part in parts if part.family == AF_INET]
    return [
        parts._replace(netloc=f"{address}:{parts.port or 80}").geturl()
        for address in found
        if not is_loopback(f"//{address}")
    ]


def answer_to_a_stranger(url: str) -> int | str:
    """The status of a call without a password, or why there was none."""
    with requests.Session() as stranger:
        stranger.trust_env = False
        try:
            return stranger.get(f"{url}/admin/version", timeout=(3, 7)).status_code
        except requests.RequestException as away:
            return type(away).__name__


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
    facts_are_confirmed,
    people_can_be_reached,
    strangers_are_refused,
    nobody_else_trades,
)
