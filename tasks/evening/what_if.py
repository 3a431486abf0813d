"""The same day with other settings: the recorded ticks, the rules as they are, and fills by the paper broker's rule.

Assumptions, all said with the result (`ASSUMED`): nobody knows what the market would have said to others.

Invariants:
1. Prices are recorded ones: a contract nobody watched has none, and an entry in it is refused like any without a quote.
2. Nothing is sent and nothing is written.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from strategy.actions import Action, CancelEntry, Enter, Exit
from strategy.calendar import SessionFacts, trading_day
from strategy.events import Fill, IntentClosed, Outcome, SessionEvent, Side, Tick, Timer
from strategy.history import History
from strategy.params import Params
from strategy.plan import DayPlan, plan_day
from strategy.position import Trade
from strategy.session import SessionState, start, step, trades
from tasks.evening.replay import Recording
from tasks.evening.twin import SLIPPAGE_PAISE, paper_price

ASSUMED = (
    f"each order fills whole on the next quote of its contract, at ask or bid and {SLIPPAGE_PAISE} paise worse",
    "limits and how many units were offered are not regarded",
    "only contracts that the session watched have prices; an entry in another is refused",
    "operators' commands and doubts about ledger or broker come when they came on the day",
    "restarts are left out: it is one session from the first start on",
)
ENTRY_WAITS_MS = 10_000  # without a quote for so long an entry is given up


@dataclass(frozen=True, slots=True, kw_only=True)
class WhatIf:
    """What the rules would have done."""

    params: Params
    trades: tuple[Trade, ...]
    refusals: dict[str, int]
    halts: tuple[str, ...]
    notes: tuple[str, ...]  # beside `ASSUMED`

    @property
    def net_paise(self) -> int:
        """Of all trades, charges taken off."""
        return sum(trade.net_paise for trade in self.trades)


def what_if(recorded: Sequence[Recording], params: Params, facts: SessionFacts | None = None) -> WhatIf:
    """Run a recorded day with `params`. ValueError where they cannot trade it, or nothing was recorded."""
    if not recorded:
        raise ValueError("expected a session that was recorded for a replay, found none; choose another day")
    beginning = recorded[0].beginning
    plan = _plan(beginning.plan, params, beginning.at_ms, facts)
    wanted = {params.candle_seconds, *([params.htf_seconds] if params.htf_filter else [])}
    warmup = [candle for candle in beginning.warmup if candle.seconds in wanted]
    state, opening = start(plan, params, at_ms=beginning.at_ms, warmup=warmup, history=History())
    course = _Course(plan, params, state)
    course.carry_out(opening)
    for recording in recorded:
        for event in recording.events:
            if not isinstance(event, Fill | IntentClosed):
                course.hear(event)
    return course.ended()


def _plan(plan: DayPlan, params: Params, at_ms: int, facts: SessionFacts | None) -> DayPlan:
    """The recorded day's plan with the hours of other settings."""
    if params.index is not plan.index.underlying:
        raise ValueError(f"the ticks are of {plan.index.underlying}, the settings of {params.index}; leave the index")
    return plan_day(
        params,
        day=plan.day,
        today=trading_day(plan.day, facts),
        index=plan.index,
        contracts=plan.contracts.values(),
        rates=plan.rates,
        at_ms=at_ms,
    )


class _Course:
    def __init__(self, plan: DayPlan, params: Params, state: SessionState) -> None:
        self.plan, self.params, self.state = plan, params, state
        self.orders: list[Enter | Exit] = []
        self.quotes: dict[str, Tick] = {}
        self.notes: list[str] = []

    def hear(self, event: SessionEvent) -> None:
        """One event of the day, then the fills that it brings."""
        if self.state.gate.over:
            return
        self.tell(event)
        if isinstance(event, Tick):
            self.quotes[event.security] = event
            for order in [order for order in self.orders if order.contract.security == event.security]:
                self.fill(order, event)
        elif isinstance(event, Timer):
            for order in [order for order in self.orders if isinstance(order, Enter)]:
                if event.at_ms - order.at_ms >= ENTRY_WAITS_MS:
                    self.give_up(order)

    def tell(self, event: SessionEvent) -> None:
        self.state, actions = step(self.state, event, self.plan, self.params)
        self.carry_out(actions)

    def carry_out(self, actions: Sequence[Action]) -> None:
        for action in actions:
            if isinstance(action, Enter | Exit):
                self.orders.append(action)
            elif isinstance(action, CancelEntry):
                for order in [order for order in self.orders if order.intent == action.intent]:
                    self.give_up(order)

    def fill(self, order: Enter | Exit, quote: Tick) -> None:
        side = Side.BUY if isinstance(order, Enter) else Side.SELL
        price_paise = paper_price(side, quote, order.contract.tick_size_paise)
        if price_paise is None or order not in self.orders:
            return
        self.orders.remove(order)
        at_ms, value_paise = self.state.now_ms, order.quantity * price_paise
        self.tell(Fill(at_ms=at_ms, intent=order.intent, side=side, quantity=order.quantity, value_paise=value_paise))
        self.tell(IntentClosed(at_ms=at_ms, intent=order.intent, outcome=Outcome.FILLED))

    def give_up(self, order: Enter | Exit) -> None:
        self.orders.remove(order)
        self.tell(IntentClosed(at_ms=self.state.now_ms, intent=order.intent, outcome=Outcome.CANCELLED))

    def ended(self) -> WhatIf:
        """After the last event: what is still held is sold at its last quote, and it is said."""
        if not self.state.is_flat and not self.state.gate.over:
            self.notes.append("the recording ended before the position did: it was sold at the last quote")
            self.tell(Timer(at_ms=max(self.plan.squareoff_ms, self.state.now_ms)))
            for order in list(self.orders):
                last = self.quotes.get(order.contract.security)
                if isinstance(order, Exit) and last is not None:
                    self.fill(order, last)
        if not self.state.is_flat:
            self.notes.append("something is held that has no price: it is in no trade below")
        gate = self.state.gate
        return WhatIf(
            params=self.params,
            trades=trades(self.state, self.plan),
            refusals=dict(sorted(gate.refusals.items(), key=lambda item: -item[1])),
            halts=gate.halts,
            notes=tuple(self.notes),
        )
