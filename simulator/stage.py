"""The simulated day as a whole: its clock, and what happens when the clock is moved.

Only `play` moves the clock. It merges index ticks, option prints and the order agenda in order of time, and lets
what came of it out to the sockets at its end. Between two calls nothing changes but what a client asks for.

Invariants:
1. Market time never runs backwards and never passes the day's end.
2. `play(a); play(b)` and `play(b)` leave the same market, orders and money behind.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import time
from functools import partial

from simulator.agenda import Agenda
from simulator.alerts import AlertRoom
from simulator.credentials import Credentials
from simulator.exchange import Exchange
from simulator.faults import Fault, Faults
from simulator.feed import FeedRoom
from simulator.history import History
from simulator.instruments import Listed
from simulator.limits import RateLimits
from simulator.market import Market
from simulator.orders import Order, render_alert
from simulator.positions import Account
from simulator.sessions import moment_ms
from simulator.setup import DayInvalid, Setup, open_market
from strategy.instruments import INDICES

SLICE_MS = 1_000
IDLE_SLICE_MS = 30_000
AFTER_CLOSE_MS = 30 * 60_000
INTRADAY_SQUAREOFF = time(15, 20)


@dataclass(slots=True)
class PnlExit:
    """The account's profit and loss limits for the day, in paise."""

    profit_paise: int
    loss_paise: int
    products: list[str]
    kill_switch: bool


class Stage:
    """One simulated day."""

    def __init__(self, setup: Setup, opened: tuple[Market, History] | None = None) -> None:
        """Set the stage for `setup`; `opened` is its market where that is open already (nothing ever changes one)."""
        self.setup = setup
        self.market, self.history = opened or open_market(setup)
        self.listing = self.market.listing
        self.windows = self.market.windows
        self.now_ms = moment_ms(setup.day, setup.start)
        self.end_ms = self.windows[-1][1] + AFTER_CLOSE_MS
        if self.now_ms >= self.windows[-1][1]:
            raise DayInvalid(
                f"expected a start before the close of {setup.day}, found {setup.start}; choose an earlier --start"
            )
        self.agenda = Agenda()
        self.faults = Faults(setup.day)
        self.limits = RateLimits(enforced=setup.rate_limits)
        self.credentials = Credentials(
            client_id=setup.client_id, token=setup.token, pin=setup.pin, totp_secret=setup.totp_secret,
            now_ms=lambda: self.now_ms,
        )  # fmt: skip
        self.account = Account(self.market, setup.funds_paise)
        self.exchange = Exchange(
            market=self.market,
            agenda=self.agenda,
            account=self.account,
            publish=self._publish,
            transit_ms=setup.transit_ms,
        )
        self.feed = FeedRoom(self.market, self.credentials, self.faults, stacked=setup.stacked)
        self.alerts = AlertRoom(self.credentials, self.faults)
        self.kill_switch = False
        self.pnl_exit: PnlExit | None = None
        self.agenda.enter(self.windows[-1][1], self.exchange.expire_all)
        squareoff_ms = moment_ms(setup.day, INTRADAY_SQUAREOFF)
        if self.now_ms < squareoff_ms and self.market.is_open(squareoff_ms):
            self.agenda.enter(squareoff_ms, lambda at: self.exchange.close_out(at, {"INTRADAY"}))

    @property
    def over(self) -> bool:
        """The day has been played to its end."""
        return self.now_ms >= self.end_ms

    def slice_end(self) -> int:
        """Where the next lock-step slice ends: a second in trading, up to half a minute outside, never over an edge."""
        step = SLICE_MS if self.market.is_open(self.now_ms) else IDLE_SLICE_MS
        edges = [edge for window in self.windows for edge in window if edge > self.now_ms]
        return min([self.now_ms + step - self.now_ms % SLICE_MS, self.end_ms, *edges])

    def play(self, until_ms: int) -> None:
        """Move the clock to `until_ms`; everything due before it happens."""
        until_ms = min(until_ms, self.end_ms)
        if until_ms <= self.now_ms:
            return
        if self.faults.any_posted():
            self._strike()
        self.feed.begin(self.now_ms)
        self.alerts.begin(self.now_ms)
        for at_ms, happen in self._market_events(until_ms):
            self.agenda.run_before(at_ms)
            self.now_ms = at_ms
            happen(at_ms)
        self.agenda.run_before(until_ms)
        self.now_ms = until_ms
        self.feed.flush(until_ms)
        self.alerts.flush()

    def prepare(self) -> None:
        """Make the next slice's packets ready while the client is busy with this one's; nothing that anybody sees."""
        if not self.over:
            self.feed.prepare(self.now_ms, self.slice_end())

    def _market_events(self, until_ms: int) -> list[tuple[int, Callable[[int], None]]]:
        """Index ticks and option prints from now until then, as far as anybody would notice them."""
        wanted = self.feed.wanted()
        events: list[tuple[int, Callable[[int], None]]] = []
        for index in INDICES.values():
            if index.security in wanted:
                times = self.market.paths[index.underlying].times(self.now_ms, until_ms)
                events += [(at_ms, partial(self.feed.index_ticked, index)) for at_ms in times]
        known = self.listing.by_security
        watched = [known[security] for security in sorted(wanted) if security in known]
        if watched or self.exchange.orders or self.pnl_exit is not None:
            prints = self.market.print_times(self.now_ms, until_ms)
            events += [(at_ms, partial(self._options_printed, watched)) for at_ms in prints]
        events.sort(key=lambda event: event[0])
        return events

    def _options_printed(self, watched: Sequence[Listed], at_ms: int) -> None:
        for listed in watched:
            if at_ms < listed.expiry_ms:
                self.feed.option_printed(listed, at_ms)
        self.exchange.on_print(at_ms)
        if self.pnl_exit is not None:
            self._check_pnl_exit(self.pnl_exit, at_ms)

    def _strike(self) -> None:
        now_ms = self.now_ms
        for fault in self.faults.once(now_ms):
            if fault.name == "order_socket_reset":
                self.alerts.reset_all()
            else:
                self.feed.strike(fault, now_ms)
        token_end = self.faults.take_token_end(now_ms)
        if token_end is not None:
            self.end_token(token_end)

    def end_token(self, fault: Fault) -> None:
        """The token in use dies: by itself, or because another is made."""
        if fault.name == "second_token":
            self.credentials.issue()
        else:
            self.credentials.kill()

    def _publish(self, order: Order, last_fill_paise: int, at_ms: int) -> None:
        last = self.market.last_paise(order.listed, at_ms)
        alert = render_alert(order, self.credentials.client_id, last_paise=last, last_fill_paise=last_fill_paise)
        self.alerts.publish(alert, at_ms)

    def _check_pnl_exit(self, limits: PnlExit, at_ms: int) -> None:
        # DELIVERY covers no option here: nobody has seen the broker's exit close a MARGIN position.
        products = set(limits.products)
        pnl = self.account.pnl_paise(at_ms, products)
        if (limits.profit_paise and pnl >= limits.profit_paise) or (limits.loss_paise and pnl <= -limits.loss_paise):
            self.pnl_exit = None
            self.exchange.close_out(at_ms, products)
            self.kill_switch = self.kill_switch or limits.kill_switch
