"""The composition root: the one file that names concrete adapters, by mode and settings.

Flows ask here for what they need; tests hand the same parts in themselves.

Invariants:
1. Nothing here trades: opening connections sends no order.
2. Whatever was opened is closed when the `with` block ends, also when opening stopped half-way.
"""

import logging
import os
import secrets
import socket
import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import date
from email.utils import parsedate_to_datetime
from functools import cached_property
from importlib.metadata import version
from types import TracebackType
from typing import Self

import httpx
import requests
from prefect.blocks.system import Secret
from prefect.exceptions import PrefectException
from prefect.runtime import flow_run

from strategy.actions import Severity
from strategy.calendar import TradingDay, closed_because, session_facts, trading_day
from strategy.charges import Rates, charge_facts, rates_on
from strategy.facts import facts_version
from strategy.instruments import INDICES, Contract, Index, OptionType, nearest_expiry
from strategy.params import Mode, Params
from tasks.broker import Broker
from tasks.broker.dhan import DhanBroker, Tokens
from tasks.broker.limits import BrokerLimits, Limits, NoLimits
from tasks.broker.paper import PaperBroker
from tasks.broker.tokens import TokenSource
from tasks.clock import (
    Clock,
    ScaledClock,
    epoch_ms,
    read_market_clock,
    real_now_ms,
    real_today,
    wall_clock,
)
from tasks.feed.dhan import DhanFeed
from tasks.feed.line import REHEARSAL_PATIENCE, Patience
from tasks.feed.orders import OrderFeed
from tasks.inbox import Inbox
from tasks.instruments import InstrumentMaster
from tasks.ledger import LedgerUnavailable
from tasks.ledger.records import IntentRecord, SessionKey
from tasks.ledger.store import Ledger, migrate
from tasks.lockstep import LockStepClock
from tasks.notify import Notifier, texts
from tasks.settings import PROJECT_FOLDER, Settings

LOG = logging.getLogger(__name__)


def market_now_ms(settings: Settings) -> int:
    """What time it is where the market is."""
    if settings.rehearsing:
        return int(read_market_clock(settings.simulator_url)["now_ms"])
    return real_now_ms()


def market_day(settings: Settings) -> date:
    """Today where the market is: in India, or in the simulator's day."""
    if settings.rehearsing:
        return date.fromisoformat(read_market_clock(settings.simulator_url)["day"])
    return real_today()


def market_today(params: Params) -> date:
    """`market_day`, once these settings are known to serve the mode."""
    settings = Settings()
    settings.check_mode(params.mode)
    return market_day(settings)


def clock_skew_ms(settings: Settings) -> int:
    """This machine's clock minus the broker's, from the Date of an answer; positive when ours is ahead.

    In a rehearsal the market's time is the simulator's own, and there is nothing to differ from.
    """
    if settings.rehearsing:
        return 0
    before_ms = real_now_ms()
    reply = requests.head(settings.api_url, timeout=(3, 7))
    theirs = parsedate_to_datetime(reply.headers["Date"])
    return (before_ms + real_now_ms()) // 2 - epoch_ms(theirs)


def run_identity() -> str:
    """The Prefect flow run this process works for, or an id of its own outside Prefect."""
    return str(flow_run.id or f"local-{secrets.token_hex(6)}")


def code_version() -> str:
    """The package's version and the commit: of the checkout, with + for uncommitted changes, or of the image."""
    base = version("trading-bot-v3")
    try:
        commit = _git("rev-parse", "--short=12", "HEAD")
        changed = _git("status", "--porcelain", "--untracked-files=no")
    except (OSError, subprocess.CalledProcessError):
        return f"{base} {Settings().commit}".rstrip()
    return f"{base} {commit}{'+' if changed else ''}"


def _git(*arguments: str) -> str:
    # On a server the checkout is root's and the bot another user, whom git would refuse to read it.
    trusting = ("-c", f"safe.directory={PROJECT_FOLDER}", "--no-optional-locks")
    done = subprocess.run(  # noqa: S603 (fixed arguments)
        ["git", *trusting, *arguments],  # noqa: S607 (the operator's own git)
        cwd=PROJECT_FOLDER,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.strip()


def open_notifier(settings: Settings) -> Notifier:
    """Where alerts go."""
    return Notifier([url.get_secret_value() for url in settings.notify_urls], spool=settings.home / "notices")


def send_alert(kind: str, title: str, body: str, severity: Severity = Severity.CRITICAL) -> None:
    """One alert from outside a session (a failed run, say)."""
    notice = texts.told_by_a_job(real_now_ms(), kind=kind, severity=severity, news=title, body=body)
    with open_notifier(Settings()) as notifier:
        notifier.notify(notice)


@contextmanager
def open_ledger(settings: Settings | None = None) -> Iterator[Ledger]:
    """The ledger of the settings, its schema brought up to date."""
    url = (settings or Settings()).ledger_url
    try:
        ledger = Ledger(url)  # nearly always: then Alembic, half a second of imports, has nothing to do
    except LedgerUnavailable:
        migrate(url)
        ledger = Ledger(url)
    try:
        yield ledger
    finally:
        ledger.close()


def tokens_for(settings: Settings) -> TokenSource:
    """Access tokens of the account, or of the simulator."""
    return TokenSource.from_settings(settings, lambda: "" if settings.rehearsing else read_given_token(settings))


def read_given_token(began_with: Settings) -> str:
    """The token that the operator has given since the start: in the Prefect block, else in `.env`; empty without one.

    A broken `.env` costs the new token and nothing else; why is in the log.
    """
    name = began_with.dhan_token_block
    kept = read_token_block(name) if name else ""
    if kept:
        return kept
    try:
        given = Settings().dhan_access_token.get_secret_value()
    except ValueError as fault:
        LOG.warning("no new access token from the settings: %s", fault)
        return ""
    # The one that was there at the start is not news: where tokens are minted, it is an old one.
    return "" if given == began_with.dhan_access_token.get_secret_value() else given


def read_token_block(name: str) -> str:
    """The access token in the Prefect Secret block `name`; empty, and why in the log, where it cannot be had."""
    try:
        block = Secret.load(name)
        assert isinstance(block, Secret), "asked outside of any event loop, the block itself comes back"
        return str(block.get())
    except (ValueError, PrefectException, httpx.HTTPError) as fault:
        LOG.warning("no access token from the Prefect block %s: %s", name, fault)
        return ""


@contextmanager
def open_broker(
    settings: Settings,
    key: SessionKey,
    *,
    inbox: Inbox[object] | None = None,
    tokens: Tokens | None = None,
    now_ms: Callable[[], int] | None = None,
) -> Iterator[Broker]:
    """Who takes the orders of a session: Dhan in live mode, the simulator by the same adapter, or paper.

    A rehearsal's market is faster than real time, so the limits of real time do not bind it.

    Raises:
        SettingsRefused: the settings do not fit the session's mode; nothing was opened.
    """
    settings.check_mode(key.mode)
    clock = now_ms or (lambda: market_now_ms(settings))
    with open_dhan(settings, tokens=tokens, now_ms=clock) as dhan:
        if key.mode == Mode.PAPER:
            journal = settings.home / "paper" / f"{key.session_id.replace('/', '_')}.jsonl"
            journal.parent.mkdir(parents=True, exist_ok=True)
            yield PaperBroker(market=dhan, inbox=inbox or Inbox(), now_ms=clock, journal=journal)
        else:
            yield dhan


@contextmanager
def open_dhan(
    settings: Settings,
    *,
    tokens: Tokens | None = None,
    now_ms: Callable[[], int] | None = None,
    limits: Limits | None = None,
) -> Iterator[DhanBroker]:
    """The adapter itself, as who only reads candles needs it: Dhan, or the simulator where its address is set."""
    dhan = DhanBroker(
        client_id=settings.client_id,
        tokens=tokens or tokens_for(settings),
        api_url=settings.api_url,
        now_ms=now_ms or (lambda: market_now_ms(settings)),
        limits=limits or (NoLimits() if settings.rehearsing else BrokerLimits()),
        force_ipv4=settings.force_ipv4,
    )
    try:
        yield dhan
    finally:
        dhan.close()


@contextmanager
def open_clock(settings: Settings, *, busy: Callable[[], bool]) -> Iterator[Clock]:
    """Market time for whoever acts without a feed. `busy` is as for `Connections.open_market`.

    In lock-step the market's clock comes to this process, and no packet is waited for.
    """
    clock = market_clock(settings, received=lambda: (0, 0), sent=lambda: 0, busy=busy)
    try:
        yield clock
    finally:
        if isinstance(clock, LockStepClock):
            clock.close()


def market_clock(
    settings: Settings, *, received: Callable[[], tuple[int, int]], sent: Callable[[], int], busy: Callable[[], bool]
) -> Clock:
    """The wall clock, or the simulator's; see `LockStepClock` for the arguments."""
    if not settings.rehearsing:
        return wall_clock()
    market = read_market_clock(settings.simulator_url)
    if not market["lock_step"]:
        return ScaledClock(anchor_ms=int(market["now_ms"]), speed=float(market["speed"]))
    return LockStepClock(settings.simulator_url, received=received, sent=sent, busy=busy)


@dataclass(frozen=True, slots=True, kw_only=True)
class Market:
    """What a session listens to, and the clock that goes with it."""

    inbox: Inbox[object]
    feed: DhanFeed
    orders: OrderFeed | None  # None in paper mode: the account's real orders are none of the session's
    clock: Clock


class Connections:
    """All that one session of one day works with. Use as a context manager."""

    def __init__(self, params: Params, day: date, *, run_id: str, settings: Settings | None = None) -> None:
        self.params = params
        self.day = day
        self.run_id = run_id
        self.settings = settings or Settings()
        facts = self.settings.operator_facts
        sessions = session_facts(facts)
        self.facts_version = facts_version(facts)
        # Raises OutsideKnownData for a day that nobody has told the bot about.
        self.trading_day: TradingDay | None = trading_day(day, sessions)
        self.closed_because = closed_because(day, sessions) or ""
        self._charge_facts = charge_facts(facts)
        self.index: Index = INDICES[params.index]
        self.key = SessionKey(account=self.settings.client_id, underlying=params.index, mode=params.mode, day=day)
        self.session_id = self.key.session_id
        self.owner = f"{socket.gethostname()}/{os.getpid()}/{run_id}"
        self.inbox: Inbox[object] = Inbox()
        self._clock: Clock | None = None
        self._opened = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as opening:
            self.ledger: Ledger = opening.enter_context(open_ledger(self.settings))
            self.notifier: Notifier = opening.enter_context(open_notifier(self.settings))
            self.tokens = tokens_for(self.settings)
            self.broker: Broker = opening.enter_context(
                open_broker(self.settings, self.key, inbox=self.inbox, tokens=self.tokens, now_ms=self.now_ms)
            )
            self.salt = self.ledger.open_session(self.key, salt=secrets.token_hex(2)[:3])
            self._opened = opening.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._opened.close()

    def now_ms(self) -> int:
        """Market time, also before and after the market's clock is open."""
        return self._clock.now_ms() if self._clock else market_now_ms(self.settings)

    @property
    def hours(self) -> TradingDay:
        """The trading day's hours; only asked for on a trading day."""
        assert self.trading_day is not None, "asked for the hours of a day without trading"
        return self.trading_day

    @property
    def intents(self) -> tuple[IntentRecord, ...]:
        """What this session has decided to send so far."""
        return self.ledger.intents(self.session_id)

    @cached_property
    def master(self) -> InstrumentMaster:
        """Today's instrument master, downloaded once a day."""
        return InstrumentMaster.of_day(self.settings, self.day)

    @cached_property
    def expiry(self) -> date:
        """The nearest expiry that still trades."""
        expiries = self.master.expiries(self.index)
        found = nearest_expiry(expiries, self.hours, market_now_ms(self.settings))
        if found is None:
            raise LookupError(
                f"an expiry of {self.index.underlying} on or after {self.day} was expected in the instrument master, "
                f"found {', '.join(map(str, expiries[-3:])) or 'none'}; delete the cached master and start again"
            )
        return found

    @cached_property
    def contracts(self) -> Mapping[tuple[int, OptionType], Contract]:
        """The nearest expiry's contracts."""
        return self.master.contracts(self.index, self.expiry)

    @cached_property
    def rates(self) -> Rates:
        """What an order costs today."""
        return rates_on(self.day, self.index.exchange, self._charge_facts)

    @contextmanager
    def open_market(self, *, busy: Callable[[], bool]) -> Iterator[Market]:
        """Feeds and clock. `busy` is asked by a lock-step clock: true while a broker call is in flight."""
        inbox: Inbox[object] = Inbox()
        patience = REHEARSAL_PATIENCE if self.settings.rehearsing else Patience()
        feed = DhanFeed(
            self.settings.feed_url,
            client_id=self.settings.client_id,
            token=self.tokens.current,
            inbox=self.broker.listening(inbox) if isinstance(self.broker, PaperBroker) else inbox,
            now_ms=self.now_ms,
            patience=patience,
            expects_ticks=self.hours.is_open,
            on_token_dead=self.tokens.replace,
            force_ipv4=self.settings.force_ipv4,
        )
        orders = None
        if self.params.mode is not Mode.PAPER:
            orders = OrderFeed(
                self.settings.order_update_url,
                client_id=self.settings.client_id,
                token=self.tokens.current,
                inbox=inbox,
                now_ms=self.now_ms,
                patience=patience,
                on_token_dead=self.tokens.replace,
                force_ipv4=self.settings.force_ipv4,
            )
        self._clock = clock = market_clock(
            self.settings,
            received=lambda: (feed.packets_received, orders.updates_received if orders else 0),
            sent=lambda: feed.messages_sent,
            busy=busy,
        )
        feeds: list[DhanFeed | OrderFeed] = [feed] if orders is None else [feed, orders]
        try:
            for part in feeds:
                part.start()
            yield Market(inbox=inbox, feed=feed, orders=orders, clock=clock)
        finally:
            for part in feeds:
                part.close()
            self._clock = None
            if isinstance(clock, LockStepClock):
                clock.close()
