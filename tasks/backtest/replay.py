"""A recorded day through the live rules: `strategy.session.step` decides, this file is the market and the broker.

What a session sees of a tick, in order: the index; quotes of what is held or ordered, and of all watched contracts on
the last tick of a candle and while an order is on its way; then the fills of orders that were decided before this
tick. A Timer follows on each whole second.

Invariants:
1. An order fills whole on the first tick after its decision, at the worse of the quote it was decided on and the quote
   of that tick, and the slippage beyond it. An exit after the last tick fills on the last quote.
2. Nothing in here knows a rule: it does what the session says.
3. The same day, settings and model give the same trades.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from strategy.actions import (
    Action,
    Alert,
    CancelEntry,
    CandleClosed,
    Enter,
    EntryRefused,
    Exit,
    Halted,
    StopMoved,
    Watch,
)
from strategy.candles import Candle, candles_of, interval_start_ms
from strategy.events import Fill, IntentClosed, Outcome, SessionEvent, Side, Tick, Timer
from strategy.instruments import Contract
from strategy.params import Params
from strategy.plan import DayPlan
from strategy.position import Trade
from strategy.session import SessionState, start, step, trades
from strategy.signals import Signals, apply_candle, no_signals
from tasks.backtest.market import MarketModel, PastDay, Premiums

SECOND_MS = 1_000
RECORDED, PARTLY, MODELLED = "recorded", "partly recorded", "model"
Told = Enter | Exit | StopMoved | EntryRefused | Halted | Alert | CandleClosed


@dataclass(frozen=True, slots=True, kw_only=True)
class DayRun:
    """What a session did on a past day."""

    past: PastDay
    trades: tuple[Trade, ...]
    refusals: Mapping[str, int]
    halts: tuple[str, ...]
    ambiguous_bars: int  # the exit would have been another one had the bar visited its other extreme first
    stale_exits: int  # filled on the last quote of a recording that ended too early
    over: str  # why the session ended
    priced: tuple[str, ...] = ()  # of each trade: at recorded premiums, partly, or by the model
    told: tuple[Told, ...] = ()


@dataclass(slots=True)
class _Order:
    action: Enter | Exit
    since: int  # the tick on which it was decided


@dataclass(slots=True)
class _Course:
    """How a day goes; copied where a bar is played a second time."""

    state: SessionState
    plan: DayPlan
    next_timer_ms: int
    watched: tuple[Contract, ...] = ()
    orders: tuple[_Order, ...] = ()
    exits: tuple[str, ...] = ()  # reasons, in order
    stops: int = 0
    stale_exits: int = 0
    told: list[Told] | None = None
    recorded: dict[str, list[tuple[int, bool]]] = field(default_factory=dict)  # by security, where it changes
    turned: bool = False  # a bar is played the other way round

    def copied(self, *, turned: bool = False) -> "_Course":
        """The course so far; what it tells from now on is not kept."""
        return _Course(
            state=self.state,
            plan=self.plan,
            next_timer_ms=self.next_timer_ms,
            watched=self.watched,
            orders=self.orders,
            exits=self.exits,
            stops=self.stops,
            turned=turned,
        )


def replay_day(
    past: PastDay,
    params: Params,
    model: MarketModel,
    *,
    signals: Signals | None = None,
    premiums: Premiums | None = None,
    keep: bool = False,
) -> DayRun:
    """Run one day. `signals` are the indicators as the days before left them; `keep` keeps all that was said."""
    return _Replay(past, params, model, premiums or model).run(signals, keep=keep)


def signals_after(past: PastDay, params: Params, signals: Signals | None = None) -> Signals:
    """The indicators after all candles of a day."""
    signals = signals or no_signals(params)
    for candle in day_candles(past, params.candle_seconds):
        signals = apply_candle(signals, candle, closed_by_ms=candle.end_ms, params=params)
    return signals


def day_candles(past: PastDay, seconds: int) -> tuple[Candle, ...]:
    """The candles of a day."""
    recorded = past.recorded
    return candles_of(zip(recorded.at_ms.tolist(), recorded.spot_paise.tolist(), strict=True), seconds)


def priced(trade: Trade, spells: Sequence[tuple[int, bool]]) -> str:
    """Where a trade's premiums come from. `spells`: from when on its contract's quotes were recorded ones, or not."""
    before = [recorded for at_ms, recorded in spells if at_ms <= trade.entry_at_ms][-1:]
    during = [recorded for at_ms, recorded in spells if trade.entry_at_ms < at_ms <= trade.exit_at_ms]
    heard = {*before, *during}
    return MODELLED if heard <= {False} else RECORDED if heard == {True} else PARTLY


class _Replay:
    def __init__(self, past: PastDay, params: Params, model: MarketModel, premiums: Premiums) -> None:
        self.past, self.params, self.model, self.premiums = past, params, model, premiums
        self.at_ms: list[int] = past.recorded.at_ms.tolist()
        self.spots: list[int] = past.recorded.spot_paise.tolist()
        intervals = [interval_start_ms(at_ms, params.candle_seconds) for at_ms in self.at_ms]
        self.ends_candle = [a != b for a, b in zip(intervals, [*intervals[1:], -1], strict=True)]

    def run(self, signals: Signals | None, *, keep: bool) -> DayRun:
        past, recorded = self.past, self.past.recorded
        plan = past.plan(self.params)
        state, opening = start(plan, self.params, at_ms=past.start_ms)
        if signals is not None:
            state = state._replace(signals=signals)
        course = _Course(state, plan, past.start_ms + SECOND_MS, told=[] if keep else None)
        self.carry_out(course, opening, -1)
        bars = recorded.bar.tolist() if recorded.bar is not None else None
        ambiguous, first, before = 0, 0, course
        for number, (at_ms, spot_paise) in enumerate(zip(self.at_ms, self.spots, strict=True)):
            if bars is not None and (number == 0 or bars[number] != bars[number - 1]):
                ambiguous += self.is_ambiguous(before, course, first, number)
                first, before = number, course.copied()
            self.pass_time(course, at_ms - 1, number - 1)
            if course.state.gate.over:
                break
            self.tick(course, number, at_ms, spot_paise)
        else:
            ambiguous += self.is_ambiguous(before, course, first, len(self.at_ms)) if bars is not None else 0
        while not course.state.gate.over:
            self.pass_time(course, course.next_timer_ms, len(self.at_ms) - 1)
            self.fill_at_the_end(course)
        gate, done = course.state.gate, trades(course.state, plan)
        return DayRun(
            past=past,
            trades=done,
            priced=tuple(priced(trade, course.recorded.get(trade.contract.security, ())) for trade in done),
            refusals=Counter(gate.refusals),
            halts=gate.halts,
            ambiguous_bars=ambiguous,
            stale_exits=course.stale_exits,
            over="squareoff" if course.state.now_ms >= plan.squareoff_ms else "started after the entry cutoff",
            told=tuple(course.told or ()),
        )

    def is_ambiguous(self, before: _Course, after: _Course, first: int, until: int) -> bool:
        """Whether the bar of the ticks [first, until) ends otherwise when it visits its other extreme first."""
        if before is after or (after.exits == before.exits and after.stops == before.stops):
            return False
        others = self.past.recorded.other_paise
        assert others is not None
        other = before.copied(turned=True)
        for number, spot_paise in zip(range(first, until), others[first:until].tolist(), strict=True):
            self.pass_time(other, self.at_ms[number] - 1, number - 1)
            if other.state.gate.over:
                break
            self.tick(other, number, self.at_ms[number], spot_paise)
        return other.exits != after.exits

    def pass_time(self, course: _Course, until_ms: int, number: int) -> None:
        """All Timers through `until_ms`; `number` is the last tick before them."""
        while course.next_timer_ms <= until_ms and not course.state.gate.over:
            self.tell(course, Timer(at_ms=course.next_timer_ms), number)
            course.next_timer_ms += SECOND_MS

    def tick(self, course: _Course, number: int, at_ms: int, spot_paise: int) -> None:
        """One tick of the index, the quotes that go with it, and the fills."""
        self.tell(course, Tick(at_ms=at_ms, security=self.past.index.security, price_paise=spot_paise), number)
        held = [position.contract for position in course.state.book.positions]
        quoted = course.watched if self.ends_candle[number] or course.orders else held
        for contract in quoted:
            quote = self.premiums.quote(self.past, contract, spot_paise, at_ms, turned=course.turned)
            if quote is not None:
                last_paise, bid_paise, ask_paise, recorded = quote
                if self.premiums is not self.model:
                    spells = course.recorded.setdefault(contract.security, [])
                    if not spells or spells[-1][1] != recorded:
                        spells.append((at_ms, recorded))
                tick = Tick(
                    at_ms=at_ms,
                    security=contract.security,
                    price_paise=last_paise,
                    bid_paise=bid_paise,
                    ask_paise=ask_paise,
                )
                self.tell(course, tick, number)
        for order in course.orders:
            if order.since < number:
                self.fill(course, order, at_ms, number)

    def fill(self, course: _Course, order: _Order, at_ms: int, number: int) -> None:
        """The order is done, unless its contract has no quote of this tick."""
        action = order.action
        quote = course.state.options.quotes.get(action.contract.security)
        if quote is None or quote.seen_ms < at_ms:
            return
        if isinstance(action, Enter):
            price_paise = max(action.reference_paise, quote.ask_paise) + self.model.slippage_paise
        else:
            worse_paise = min(action.reference_paise, quote.bid_paise)
            price_paise = max(action.contract.tick_size_paise, worse_paise - self.model.slippage_paise)
        self.report_fill(course, order, price_paise, at_ms, number)

    def fill_at_the_end(self, course: _Course) -> None:
        """After the last tick an exit fills at the price it was decided on; an entry waits for its cancellation."""
        for order in course.orders:
            action = order.action
            if isinstance(action, Exit):
                course.stale_exits += 1
                price_paise = max(action.contract.tick_size_paise, action.reference_paise - self.model.slippage_paise)
                self.report_fill(course, order, price_paise, course.state.now_ms, len(self.at_ms))

    def report_fill(self, course: _Course, order: _Order, price_paise: int, at_ms: int, number: int) -> None:
        action = order.action
        course.orders = tuple(other for other in course.orders if other is not order)
        side = Side.BUY if isinstance(action, Enter) else Side.SELL
        value_paise = action.quantity * price_paise
        bought = Fill(at_ms=at_ms, intent=action.intent, side=side, quantity=action.quantity, value_paise=value_paise)
        self.tell(course, bought, number)
        self.tell(course, IntentClosed(at_ms=at_ms, intent=action.intent, outcome=Outcome.FILLED), number)

    def tell(self, course: _Course, event: SessionEvent, number: int) -> None:
        course.state, actions = step(course.state, event, course.plan, self.params)
        if actions:
            self.carry_out(course, actions, number)

    def carry_out(self, course: _Course, actions: tuple[Action, ...], number: int) -> None:
        for action in actions:
            match action:
                case Watch():
                    course.watched = action.contracts
                case Enter() | Exit():
                    course.orders = (*course.orders, _Order(action, number))
                    if isinstance(action, Exit):
                        course.exits = (*course.exits, action.reason)
                case CancelEntry():
                    course.orders = tuple(order for order in course.orders if order.action.intent != action.intent)
                    gone = IntentClosed(at_ms=action.at_ms, intent=action.intent, outcome=Outcome.CANCELLED)
                    self.tell(course, gone, number)
                case StopMoved():
                    course.stops += 1
            if course.told is not None and isinstance(action, Told):
                course.told.append(action)
