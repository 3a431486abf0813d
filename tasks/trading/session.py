"""One session's day from the lease to being flat: prepares the loop, runs it, and leaves nothing open behind it.

Start-up is recovery: every start reads the ledger and asks the broker, whether or not there was a crash.

Invariants:
1. Without the lease nothing is sent; the postman keeps it alive, and it is given back at the end.
2. What the loop needs is ready before the first event: feeds connected, orders of an earlier start taken up.
3. While trading, SIGTERM and SIGINT ask the session to end, by `on_signal`: it closes what it holds first, or leaves
   it to the next start. Neither cuts a decision in two.
"""

import logging
import signal
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace

from prefect.exceptions import MissingContextError
from prefect.logging import get_run_logger

from strategy.charges import charge_facts, rates_on
from strategy.duties import HANDED_OVER
from strategy.events import CommandKind, Tick
from strategy.instruments import INDICES
from strategy.orders import order_policy
from strategy.params import SignalPolicy
from strategy.plan import DayPlan, plan_day
from strategy.session import start
from strategy.session import trades as session_trades
from tasks.broker import Broker, BrokerError
from tasks.clock import Deadline, ist, pause, real_now_ms
from tasks.connect import Connections, Market, code_version
from tasks.inbox import Inbox
from tasks.ledger.lease import Lease
from tasks.ledger.records import SessionStart
from tasks.lockstep import LockStepClock
from tasks.notify import texts
from tasks.orders.execution import Execution
from tasks.orders.lane import Lane
from tasks.pages.artifacts import LiveArtifacts
from tasks.pages.money import render_rupees
from tasks.pages.settings import settings_line
from tasks.trading.account import AccountWatch
from tasks.trading.audience import Audience, Log
from tasks.trading.auditor import Auditor
from tasks.trading.backstop import BrokerBackstop
from tasks.trading.heard import Beginning
from tasks.trading.postman import Postman
from tasks.trading.recorder import Recorder
from tasks.trading.recovery import (
    foreign_at_broker,
    journal_path,
    most_held,
    read_history,
    read_patiently,
    record_adoption,
    recover_orders,
    take_in_unrecorded,
)
from tasks.trading.trader import DayEnd, TradingDesk, trade
from tasks.trading.warmup import warmup_candles

FEEDS_CONNECTED_WITHIN_S = 20.0
WRITTEN_WITHIN_S = 30.0
# In lock-step one broker thread keeps the order of requests, and so the day, the same in every run.
WORKERS, LOCK_STEP_WORKERS = 6, 1


@dataclass(frozen=True, slots=True, kw_only=True)
class TradingSummary:
    """How the day's trading ended, for the run's state."""

    state_name: str
    message: str
    day_over: bool = True  # False: something is held on purpose, and a later start of today takes it up
    hurried: bool = False  # True: told to end from outside, and killed soon if it does not


class FeedsNotConnected(Exception):
    """The broker's feeds did not come up; the message says which, and what to do."""


class Quotes:
    """Asks the broker for prices off the loop; they come back as ticks."""

    def __init__(self, broker: Broker, inbox: Inbox[object]) -> None:
        self._broker = broker
        self._inbox = inbox
        self._lane = Lane("quotes", 1)
        self._asked = 0
        self._answered = 0

    def ask(self, security: str) -> None:
        """Ask for one price."""
        self._asked += 1
        self._lane.put(lambda: self._fetch(security))

    def idle(self) -> bool:
        """True when every question has been answered."""
        return self._asked == self._answered

    def close(self) -> None:
        """No more questions."""
        self._lane.close()

    def _fetch(self, security: str) -> None:
        try:
            for quote in self._broker.quotes([security]).values():
                self._inbox.put(
                    Tick(
                        at_ms=quote.at_ms,
                        security=quote.security,
                        price_paise=quote.last_paise,
                        bid_paise=quote.bid_paise,
                        ask_paise=quote.ask_paise,
                    )
                )
        except BrokerError as error:
            logging.getLogger(__name__).warning("no quote of %s: %s", security, error)
        finally:
            self._answered += 1


def trade_session(connections: Connections) -> TradingSummary:
    """Trade the day of `connections`; return when the session is over and flat.

    Raises:
        LeaseHeld: another process trades this account and index.
        FeedsNotConnected, BrokerError, LedgerUnavailable: trading did not begin; nothing was sent.
    """
    leases = connections.ledger.leases
    lease = leases.take(connections.key, connections.owner, real_now_ms())
    try:
        with ExitStack() as opened:
            return _trade(connections, lease, opened)
    finally:
        leases.release(lease)


def _trade(connections: Connections, lease: Lease, opened: ExitStack) -> TradingSummary:
    params, ledger, session_id = connections.params, connections.ledger, connections.session_id
    log = run_log()
    plan = day_plan(connections)
    parts: list[Execution | Quotes | Auditor] = []
    market = opened.enter_context(connections.open_market(busy=lambda: not all(part.idle() for part in parts)))
    inbox, clock = market.inbox, market.clock
    prefix = connections.key.order_prefix(connections.salt)
    execution = Execution(
        broker=connections.broker,
        ledger=ledger,
        inbox=inbox,
        now_ms=clock.now_ms,
        session_id=session_id,
        fence=lease.fence,
        prefix=prefix,
        policy=order_policy(params),
        product=params.product,
        journal_path=journal_path(connections.settings.home, session_id),
        workers=LOCK_STEP_WORKERS if isinstance(clock, LockStepClock) else WORKERS,
    )
    opened.callback(execution.close)
    quotes = Quotes(connections.broker, inbox)
    opened.callback(quotes.close)
    auditor = Auditor(
        broker=connections.broker,
        ledger=ledger,
        inbox=inbox,
        now_ms=clock.now_ms,
        session_id=session_id,
        prefix=prefix,
        written=execution.flush,
    )
    opened.callback(auditor.close)
    parts += [execution, quotes, auditor]
    ledger.record_start(
        SessionStart(
            session_id=session_id,
            run_id=connections.run_id,
            fence=lease.fence,
            started_at_ms=clock.now_ms(),
            params=params.model_dump(mode="json"),
            code_version=code_version(),
            facts_version=connections.facts_version,
        )
    )
    earlier = ledger.candles(session_id, params.candle_seconds)
    live = LiveArtifacts(connections.key, candles=earlier)
    live.start()
    opened.callback(live.close)
    audience = Audience(
        key=connections.key,
        plan=plan,
        params=params,
        notifier=connections.notifier,
        log=log,
        live=live,
        tell_stops=connections.settings.notify_stop_moves,
    )
    audience.start()
    opened.callback(audience.close)
    recorder = Recorder(ledger, session_id, lease.fence)
    recorder.start()
    opened.callback(recorder.close, WRITTEN_WITHIN_S)
    postman = Postman(ledger=ledger, lease=lease, session_id=session_id, inbox=inbox, clock=clock)
    postman.start()
    opened.callback(postman.close)
    charges = charge_facts(connections.settings.operator_facts)
    account = AccountWatch(
        ledger=ledger,
        key=connections.key,
        limit_paise=connections.settings.account_loss_limit_paise,
        rates=lambda underlying: rates_on(connections.day, INDICES[underlying].exchange, charges),
        ask=postman.ask,
        notify=connections.notifier.notify,
        now_ms=clock.now_ms,
    )
    account.start()
    opened.callback(account.close)
    backstop = BrokerBackstop(
        wanted=connections.settings.broker_backstop,
        limit_paise=connections.settings.account_loss_limit_paise,
        product=params.product,
        broker=connections.broker,
        ledger=ledger,
        key=connections.key,
        notify=connections.notifier.notify,
        now_ms=clock.now_ms,
    )
    backstop.put_up()
    _await_feeds(market)

    execution.take_in_journal()
    for alert in read_patiently(
        lambda: take_in_unrecorded(
            ledger, connections.broker, session_id, prefix=prefix, fence=lease.fence, at_ms=clock.now_ms()
        ),
        clock.sleep,
    ):
        inbox.put(alert)
    recovered = recover_orders(ledger, session_id, execution)
    history = read_history(ledger, session_id, recovered, open_intents=execution.open_intents())
    known = most_held(recovered.intents, recovered.fills, open_intents=execution.open_intents())
    unknown = read_patiently(
        lambda: foreign_at_broker(connections.broker, plan.contracts.values(), known, prefix=prefix), clock.sleep
    ).positions
    beginning = Beginning(
        plan=plan,
        at_ms=clock.now_ms(),
        warmup=warmup_candles(connections),
        history=replace(history, unknown=unknown),
        ticks_before=ledger.tick_count(session_id),
    )
    recorder.begin(beginning)
    state, opening = start(plan, params, at_ms=beginning.at_ms, warmup=beginning.warmup, history=beginning.history)
    desk = TradingDesk(
        session_id=session_id,
        plan=plan,
        params=params,
        clock=clock,
        inbox=inbox,
        feed=market.feed,
        quotes=quotes,
        auditor=auditor,
        execution=execution,
        recorder=recorder,
        audience=audience,
        adopt=lambda adopted: record_adoption(ledger, adopted, session_id=session_id, fence=lease.fence, prefix=prefix),
    )
    connections.notifier.notify(
        texts.session_started(
            connections.key,
            clock.now_ms(),
            settings=settings_line(connections.params),
            start_number=len(ledger.starts(session_id)),
            holding="; ".join(f"{p.held} x {p.contract.name}" for p in state.book.positions if p.held),
        )
    )
    kind = CommandKind.STOP if params.on_signal is SignalPolicy.SQUAREOFF else CommandKind.LEAVE
    with _ending_on_signals(postman, kind) as signals:
        end = trade(desk, state, opening, recovered.heard)
    backstop.take_down(is_flat=end.state.is_flat)
    return _finish(connections, plan, end, signals)


def _finish(connections: Connections, plan: DayPlan, end: DayEnd, signals: list[str]) -> TradingSummary:
    done = session_trades(end.state, plan)
    gross_paise, net_paise = sum(t.gross_paise for t in done), sum(t.net_paise for t in done)
    held = "; ".join(f"{p.held} x {p.contract.name}" for p in end.state.book.positions if p.held)
    connections.notifier.notify(
        texts.session_ended(
            connections.key,
            end.at_ms,
            reason=end.reason,
            trades=len(done),
            wins=sum(t.net_paise > 0 for t in done),
            gross_paise=gross_paise,
            net_paise=net_paise,
            open_position=held,
        )
    )
    message = (
        f"{len(done)} trades, gross {render_rupees(gross_paise, signed=True)}, "
        f"net {render_rupees(net_paise, signed=True)}; over at {ist(end.at_ms):%H:%M:%S} ({end.reason})"
    )
    if signals:
        what = f"left open for the next start: {held}" if held else "nothing is held"
        message = f"told to end by {signals[0]}, {what}. {message}"
    if held and end.reason == HANDED_OVER:
        return TradingSummary(state_name="HandedOver", message=message, day_over=False, hurried=True)
    name = "StillOpen" if held else "Stopped" if signals else "Flat"
    return TradingSummary(state_name=name, message=message, hurried=bool(signals))


def run_log() -> Log:
    """The run's own log in the Prefect UI, or a plain one outside a run."""
    try:
        return get_run_logger()
    except MissingContextError:
        return logging.getLogger("bot.session")


def day_plan(connections: Connections) -> DayPlan:
    """The day's hours, contracts and charges as the rules want them."""
    return plan_day(
        connections.params,
        day=connections.day,
        today=connections.hours,
        index=connections.index,
        contracts=connections.contracts.values(),
        rates=connections.rates,
        at_ms=connections.now_ms(),
    )


def _await_feeds(market: Market) -> None:
    feeds = {"market feed": market.feed, "order updates": market.orders}
    deadline = Deadline(FEEDS_CONNECTED_WITHIN_S)
    while missing := [name for name, feed in feeds.items() if feed is not None and not feed.connections]:
        if deadline.passed:
            raise FeedsNotConnected(
                f"The broker's sockets must be up before trading; {' and '.join(missing)} did not connect within "
                f"{FEEDS_CONNECTED_WITHIN_S:.0f} s. Look at the log for the reason, then start the session again."
            )
        pause(0.02)


@contextmanager
def _ending_on_signals(postman: Postman, kind: CommandKind) -> Iterator[list[str]]:
    """While trading, a signal to end is a command to the session, not an exception in the middle of it.

    Yields the names of the signals that came, for the run's state.
    """
    came: list[str] = []

    def end(number: int, _frame: object) -> None:
        came.append(signal.Signals(number).name)
        postman.ask(kind, reason=came[-1], requested_by="signal")

    before = {number: signal.signal(number, end) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield came
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
