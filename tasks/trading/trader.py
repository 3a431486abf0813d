"""The only loop: take an event, let the rules decide, carry the decisions out.

Live, paper, rehearsal and replay differ by what the composition root hands in, never here.

Invariants:
1. Between a tick and its exit order stands one write: the commit of the intent. History, alerts, artifacts and
   quotes are other threads' work, reached through queues that never block and never raise.
2. What happened is told to the rules before anything newer is.
3. The loop ends when the rules say that the session is over, and only then; who wants an end sends a Command.
"""

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Protocol, assert_never

from strategy.actions import (
    Action,
    Adopt,
    Alert,
    Answered,
    CancelEntry,
    CandleClosed,
    Enter,
    EntryRefused,
    Exit,
    Halted,
    LimitsTightened,
    PollQuote,
    Resumed,
    SessionOver,
    Severity,
    StopMoved,
    Watch,
)
from strategy.audit import Audit, Reading, after_reading, asked, hurried, is_covered, is_due
from strategy.events import Caution, Command, Fill, IntentClosed, Outcome, PoisonedTick, SessionEvent, Tick, Timer
from strategy.params import Params
from strategy.session import DayPlan, SessionState, step
from tasks.clock import Clock
from tasks.feed import FeedConnected, FeedLost
from tasks.inbox import Inbox
from tasks.orders.execution import Execution
from tasks.trading.decisions import candle_record, decision_record
from tasks.trading.feeds import FeedWatch
from tasks.trading.recorder import Recorder

LOG = logging.getLogger(__name__)
_FOR_THE_RULES = (Timer, PoisonedTick, Command, Caution)
_OF_A_FEED = (FeedConnected, FeedLost)
SHOW_PERIOD_MS = 5_000


class MarketFeed(Protocol):
    """What the loop needs of a feed."""

    def watch(self, securities: tuple[str, ...]) -> None:
        """From now on, ticks of these and only these."""
        ...


class QuotePoller(Protocol):
    """Asks for a price when the feed is silent; the answer arrives in the inbox as a Tick."""

    def ask(self, security: str) -> None:
        """Ask, off the loop."""
        ...


class BookReader(Protocol):
    """Compares the broker's books with the ledger off the loop; the Reading arrives in the inbox."""

    def ask(self, activity: tuple[int, tuple[int, ...]]) -> bool:
        """Ask; False while an earlier reading is on its way."""
        ...


class Audience(Protocol):
    """Whoever wants to hear what the session does: log, alerts, live artifacts. Must neither block nor raise."""

    def hear(self, said: Action | Fill | IntentClosed, state: SessionState) -> None:
        """A decision or a fill, with the state after it."""
        ...

    def show(self, state: SessionState, at_ms: int) -> None:
        """The state, every few seconds of market time."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class TradingDesk:
    """Everything the loop works with; the composition root fills it."""

    session_id: str
    plan: DayPlan
    params: Params
    clock: Clock
    inbox: Inbox[object]
    feed: MarketFeed
    quotes: QuotePoller
    auditor: BookReader
    execution: Execution
    recorder: Recorder
    audience: Audience
    adopt: Callable[[Adopt], None]  # write a taken-over position into the ledger


@dataclass(frozen=True, slots=True, kw_only=True)
class DayEnd:
    """How the loop ended."""

    reason: str
    at_ms: int
    state: SessionState
    ticks: int


def trade(
    desk: TradingDesk,
    state: SessionState,
    opening: Iterable[Action],
    recovered: Iterable[Fill | IntentClosed | Alert] = (),
) -> DayEnd:
    """Run the session from `state` until it is over.

    `opening` are the actions that came with the state, `recovered` what the execution learnt about the orders of an
    earlier start.
    """
    return _Loop(desk, state).run(opening, recovered)


class _Loop:
    def __init__(self, desk: TradingDesk, state: SessionState) -> None:
        self.desk = desk
        self.state = state
        self.over: SessionOver | None = None
        self.ticks = 0
        self.shown_ms = 0
        self.feeds = FeedWatch()
        self.audit = Audit()

    def run(self, opening: Iterable[Action], recovered: Iterable[Fill | IntentClosed | Alert]) -> DayEnd:
        desk = self.desk
        desk.feed.watch((desk.plan.index_security,))
        for action in opening:
            self.carry_out(action)
        for heard in recovered:
            self.learn(heard)
        while self.over is None:
            event = desk.clock.next_event(desk.inbox)
            for heard in desk.execution.on_event(event):
                self.learn(heard)
            if isinstance(event, Tick):
                self.ticks += 1
                self.advance(event)
            elif isinstance(event, _FOR_THE_RULES):
                self.advance(event)
                if isinstance(event, Timer):
                    self.on_timer(event)
            elif isinstance(event, _OF_A_FEED):
                self.hear_of_feed(event)
            elif isinstance(event, IntentClosed):  # of an exit that was withheld
                self.learn(event)
            elif isinstance(event, Reading):
                self.compare(event)
        return DayEnd(reason=self.over.reason, at_ms=self.over.at_ms, state=self.state, ticks=self.ticks)

    def learn(self, heard: Fill | IntentClosed | Alert) -> None:
        if isinstance(heard, Alert):
            self.carry_out(heard)
        else:
            self.desk.audience.hear(heard, self.state)
            self.advance(heard)

    def advance(self, event: SessionEvent) -> None:
        # Recorded in the order in which the rules hear it: a replay depends on nothing else.
        if isinstance(event, Tick):
            self.desk.recorder.tick(event)
        else:
            self.desk.recorder.heard(event)
        self.state, actions = step(self.state, event, self.desk.plan, self.desk.params)
        for action in actions:
            self.carry_out(action)

    def withhold(self, action: Exit) -> None:
        """An exit of units that the account does not hold ends unsent; the session decides it anew after a pause."""
        self.audit = hurried(self.audit, action.at_ms)
        held = self.audit.at_broker.get(action.contract.security, 0)
        message = f"{action.quantity} x {action.contract.name} are to be sold, and the account holds {held}"
        self.carry_out(Alert(at_ms=action.at_ms, kind="exit_withheld", severity=Severity.CRITICAL, message=message))
        self.desk.inbox.put(
            IntentClosed(at_ms=action.at_ms, intent=action.intent, outcome=Outcome.REJECTED, message=message)
        )

    def hear_of_feed(self, event: FeedConnected | FeedLost) -> None:
        alert = self.feeds.hear(event, is_flat=self.state.is_flat)
        if alert is not None:
            self.carry_out(alert)

    def compare(self, reading: Reading) -> None:
        self.audit, said = after_reading(self.audit, reading, self.activity)
        for news in said:
            if isinstance(news, Caution):
                self.advance(news)
            else:
                self.carry_out(news)

    @property
    def activity(self) -> tuple[int, tuple[int, ...]]:
        return self.state.book.last_intent, self.desk.execution.open_intents()

    def on_timer(self, timer: Timer) -> None:
        if is_due(self.audit, timer.at_ms) and self.desk.auditor.ask(self.activity):
            self.audit = asked(self.audit, timer.at_ms)
        if timer.at_ms - self.shown_ms >= SHOW_PERIOD_MS:
            self.shown_ms = timer.at_ms
            self.desk.audience.show(self.state, timer.at_ms)

    def carry_out(self, action: Action) -> None:
        desk = self.desk
        match action:
            case Exit() if not is_covered(self.audit, action.contract.security, action.quantity):
                self.withhold(action)
            case Enter() | Exit():
                desk.execution.submit(action)
            case Adopt():
                desk.adopt(action)
            case CancelEntry():
                desk.execution.cancel_entry(action.intent)
            case Watch():
                securities = (desk.plan.index.security, *(contract.security for contract in action.contracts))
                desk.feed.watch(securities)
            case PollQuote():
                desk.quotes.ask(action.contract.security)
            case CandleClosed():
                desk.recorder.candle(candle_record(desk.session_id, action))
            case StopMoved() | EntryRefused() | Halted() | Resumed() | LimitsTightened() | Alert():
                desk.recorder.decision(decision_record(desk.session_id, action))
            case Answered():
                desk.recorder.answer(action.command_id, action.answer, action.at_ms)
            case SessionOver():
                self.over = action
            case _:
                assert_never(action)
        desk.audience.hear(action, self.state)
