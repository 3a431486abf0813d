"""What holds whatever the market, the broker, the operator and the clock do.

`Storm` plays a seeded day of nonsense against the rules: a walking index with gaps, duplicates, late, early and poisoned
ticks; premiums that jump; a broker that fills in parts, late, or not at all; commands and cautions. A failure names the
seed and the fewest steps that show it.
"""

import random
from collections import defaultdict
from dataclasses import dataclass, field

from hypothesis import given, settings
from hypothesis import strategies as st

from strategy.actions import (
    Alert,
    Answered,
    CandleClosed,
    Enter,
    EntryRefused,
    Exit,
    Halted,
    LimitsTightened,
    PollQuote,
    Resumed,
    SessionOver,
    StopMoved,
    Watch,
)
from strategy.events import (
    Caution,
    Command,
    CommandKind,
    Fill,
    IntentClosed,
    Outcome,
    PoisonedTick,
    Side,
    Tick,
    Timer,
)
from strategy.session import start, step, trades
from strategy.state import Halt
from strategy.view import view

STORMS = given(seed=st.integers(0, 2**32 - 1), steps=st.integers(0, 350))
QUICK = settings(max_examples=60, deadline=None)


@dataclass
class Storm:
    """A world and the dice that drive it."""

    rules: object
    seed: int
    calm_index: bool = False  # the index stays around one strike
    world: object = None
    ms: int = 0
    spot: int = 24_500_00
    premiums: dict = field(default_factory=lambda: defaultdict(lambda: 100_00))
    chosen: dict = field(default_factory=dict)

    def __post_init__(self):
        self.dice = random.Random(self.seed)
        pick = self.dice.choice
        self.chosen = {
            "candle_seconds": pick([5, 5, 15]),
            "lots": pick([1, 3]),
            "flip_only": pick([True, True, False]),
            "daily_max_loss": pick([0, 1_500, 6_000, 6_000]),
            "max_loss_per_trade": pick([0, 0, 1_000]),
            "stop_loss_points": pick([0, 5, 20]),
            "target_points": pick([0, 0, 15]),
            "max_trades_per_day": pick([2, 50, 50]),
            "order_cooldown_seconds": pick([0, 0, 10]),
            "min_trade_gap_seconds": pick([0, 0, 30]),
            "min_hold_seconds": pick([0, 10]),
            "pause_after_losses": 0,
            "htf_filter": pick([False, False, True]),
            "macd_confirmation": pick([False, False, True]),
            "macd_fast": 2,
            "macd_slow": 4,
            "macd_signal": 2,
        }
        if pick([True, False]):
            self.chosen |= {"trail_start_points": pick([3, 10]), "trail_step_points": pick([1, 5])}
        if pick([True, False, False]):
            self.chosen |= {"pause_after_losses": 1, "pause_minutes": 1, "stop_losses_per_day": 3}
        if self.world is None:
            self.ms = self.rules.at_ms(pick(["09:23:30", "11:00:00", "11:00:00", "15:07:00"]))
            self.world = self.rules.World(self.rules.params(**self.chosen), started_ms=self.ms)
            # The clock speaks before any feed does.
            self.world.timer(self.ms)

    def run(self, steps):
        for _ in range(steps):
            before = self.ms
            self.ms += self.dice.choice([0, 100, 300, 900, 1_000, 1_000, 2_000, 3_000] * 4 + [12_000])
            if self.ms // 1000 != before // 1000:
                self.world.timer(self.ms)
            self.act()
        return self

    def act(self):
        roll = self.dice.random()
        if roll < 0.45:
            self.index_tick()
            if self.dice.random() < 0.7:
                for security in sorted(self.world.watched):
                    self.option_tick(security)
        elif roll < 0.70:
            self.option_tick()
        elif roll < 0.94:
            self.broker()
        elif roll < 0.985:
            self.bad_tick()
        else:
            self.operator()

    def index_tick(self):
        if self.calm_index:
            self.spot = 24_500_00 + self.dice.randint(-20_00, 20_00)
        else:
            self.spot += self.dice.choice([-1, 1]) * self.dice.choice([5, 1_00, 6_00, 12_00])
        self.world.spot(self.ms, self.spot)

    def option_tick(self, security=None):
        held = [position.security for position in self.world.state.book.positions]
        candidates = sorted(self.world.watched) + held * 5
        if security is None and not candidates:
            return
        security = security or self.dice.choice(candidates)
        premium = self.premiums[security] + self.dice.choice([-20_00, -2_00, -50, -5, 0, 5, 50, 2_00, 2_00, 20_00])
        self.premiums[security] = max(5, min(premium, 400_00))
        spread = self.dice.choice([0, 5, 100])
        bid = self.premiums[security] - spread if spread else 0
        self.world.tick(self.ms, security, self.premiums[security], max(bid, 0), self.premiums[security] + spread)

    def broker(self):
        if not self.world.live:
            return
        live = self.world.live[self.dice.choice(sorted(self.world.live))]
        price = max(5, self.premiums[live.action.contract.security] + self.dice.choice([-5_00, 0, 0, 5_00]))
        roll = self.dice.random()
        if live.left and roll < 0.5:
            quantity = self.dice.choice([live.left, live.left, self.dice.randint(1, live.left)])
            self.world.fill(self.ms, live, quantity, price)
        if not live.left:
            self.world.end(self.ms, live, Outcome.FILLED)
        elif roll > 0.8:
            partly = (
                Outcome.PARTIALLY_FILLED if live.filled else self.dice.choice([Outcome.REJECTED, Outcome.CANCELLED])
            )
            self.world.end(self.ms, live, partly)

    def bad_tick(self):
        index = self.rules.index.security
        choice = self.dice.randrange(6)
        if choice == 0:
            self.world.spot(self.ms - self.dice.choice([1_000, 20_000]), self.spot)
        elif choice == 1:
            self.world.spot(self.ms, self.spot * 2)
        elif choice == 2:
            self.world.spot(self.ms + 3_600_000, self.spot)
        elif choice == 3:
            self.world.spot(self.ms, self.spot)
        elif choice == 4:
            self.world.send(PoisonedTick(at_ms=self.ms, security=index, found="nan"))
        elif self.world.watched:
            self.world.tick(self.ms, self.dice.choice(sorted(self.world.watched)), 0)

    def operator(self):
        name = f"c{len(self.world.log)}"
        kind = self.dice.choice(["caution", "halt", "resume", "resume", "tighten", "squareoff"])
        if kind == "caution":
            active = not self.world.state.gate.cautions
            reason = self.dice.choice("ab") if active else self.world.state.gate.cautions[0]
            self.world.send(Caution(at_ms=self.ms, reason=reason, active=active))
        elif kind == "tighten":
            self.world.send(
                Command(
                    at_ms=self.ms,
                    command_id=name,
                    kind=CommandKind.TIGHTEN,
                    daily_max_loss_paise=self.dice.choice([None, 1_000_00, 5_000_00]),
                    max_trades_per_day=self.dice.choice([None, 2, 10]),
                )
            )
        elif kind != "squareoff" or self.dice.random() < 0.2:
            self.world.send(Command(at_ms=self.ms, command_id=name, kind=CommandKind(kind)))

    def finish(self):
        """The rest of the day with a silent feed: Timers alone, and a broker that refuses a few times before it fills."""
        refusals = self.dice.randrange(4)
        self.ms = max(self.ms, self.world.plan.squareoff_ms)
        while not self.world.actions(SessionOver) and self.ms < self.world.plan.close_ms:
            self.world.timer(self.ms)
            for live in list(self.world.live.values()):
                if refusals:
                    refusals -= 1
                    self.world.end(self.ms, live, Outcome.PARTIALLY_FILLED if live.filled else Outcome.REJECTED)
                elif isinstance(live.action, Enter):
                    self.world.end(self.ms, live, Outcome.PARTIALLY_FILLED if live.filled else Outcome.CANCELLED)
                else:
                    self.world.fill(self.ms, live, live.left, 50_00)
                    self.world.end(self.ms, live, Outcome.FILLED)
            self.ms += 1_000
        return self


def events_of(world):
    return [event for event, _ in world.log if event is not None]


def replayed(world, events):
    """The actions of each event and the last state, from the beginning."""
    state, actions = start(world.plan, world.params, at_ms=world.started_ms, warmup=world.warmup, history=world.history)
    said = [actions]
    for event in events:
        state, actions = step(state, event, world.plan, world.params)
        said.append(actions)
    return state, said


def books(world):
    """After each event: (event, actions, held by trade, live intents), by the test's own count."""
    held, intents, live = defaultdict(int), {}, {}
    for event, actions in world.log:
        if isinstance(event, Fill):
            action = intents[event.intent]
            held[action.trade] += event.quantity if event.side is Side.BUY else -event.quantity
            live[event.intent][1] += event.quantity
        if isinstance(event, IntentClosed):
            live.pop(event.intent, None)
        before = dict(live)
        for action in actions:
            if isinstance(action, Enter | Exit):
                intents[action.intent] = action
                live[action.intent] = [action, 0]
        yield event, actions, dict(held), before, {n: (a, f) for n, (a, f) in live.items()}


@QUICK
@STORMS
def test_the_same_events_give_the_same_decisions(rules, seed, steps):
    """Determinism: nothing but the arguments decides."""
    world = Storm(rules, seed).run(steps).world
    state, said = replayed(world, events_of(world))
    assert said == [actions for _, actions in world.log]
    assert state == world.state


@QUICK
@STORMS
def test_a_prefix_of_the_events_gives_the_prefix_of_the_decisions(rules, seed, steps):
    """Nothing is decided with knowledge of what comes later."""
    world = Storm(rules, seed).run(steps).world
    events = events_of(world)
    _, said = replayed(world, events[: len(events) // 2])
    assert said == [actions for _, actions in world.log][: len(said)]


@QUICK
@STORMS
def test_a_state_is_never_changed_by_what_follows(rules, seed, steps):
    """Values, not variables: stepping on from an old state leaves it as it was."""
    storm = Storm(rules, seed).run(steps // 2)
    kept, count = storm.world.state, len(storm.world.log)
    said = repr(kept)
    storm.run(steps - steps // 2)
    assert repr(kept) == said
    state = kept
    for event, actions in storm.world.log[count:]:
        state, again = step(state, event, storm.world.plan, storm.world.params)
        assert again == actions
    assert state == storm.world.state


@QUICK
@STORMS
def test_never_two_entries_alive(rules, seed, steps):
    """An entry is decided only with nothing held and nothing in flight."""
    world = Storm(rules, seed).run(steps).finish().world
    for _, actions, held, before, _ in books(world):
        entries = [action for action in actions if isinstance(action, Enter)]
        assert len(entries) <= 1
        if entries:
            assert not before
            assert not any(held.values())


@QUICK
@STORMS
def test_never_sells_more_than_is_held(rules, seed, steps):
    """Exits in flight together never ask for more than their trade holds."""
    world = Storm(rules, seed).run(steps).finish().world
    for _, _, held, _, live in books(world):
        asked = defaultdict(int)
        for action, filled in live.values():
            if isinstance(action, Exit):
                asked[action.trade] += action.quantity - filled
        assert all(asked[trade] <= held.get(trade, 0) for trade in asked)
        assert all(quantity >= 0 for quantity in held.values())


@QUICK
@STORMS
def test_quantities_are_whole_lots_or_what_is_held(rules, seed, steps):
    """Entries buy whole lots, at most the setting; exits sell something."""
    world = Storm(rules, seed).run(steps).finish().world
    for enter in world.actions(Enter):
        assert enter.quantity % enter.contract.lot_size == 0
        assert 0 < enter.quantity <= world.params.lots * enter.contract.lot_size
        assert enter.reference_paise > 0
    assert all(exit_.quantity > 0 and exit_.reference_paise > 0 for exit_ in world.actions(Exit))


@QUICK
@STORMS
def test_intents_and_trades_are_numbered_once(rules, seed, steps):
    """Every intent has its own number, counting up; trades too."""
    world = Storm(rules, seed).run(steps).finish().world
    intents = [action.intent for action in world.actions((Enter, Exit))]
    assert intents == list(range(1, len(intents) + 1))
    assert [enter.trade for enter in world.actions(Enter)] == list(range(1, len(world.actions(Enter)) + 1))


@QUICK
@STORMS
def test_the_stop_never_moves_down(rules, seed, steps):
    """Not by a tick, not by a late fill; and each move that is said is a rise."""
    storm, stops = Storm(rules, seed), defaultdict(int)
    moves = defaultdict(list)
    for _ in range(steps):
        storm.run(1)
        for position in storm.world.state.book.positions:
            assert position.stop_paise >= stops[position.trade]
            stops[position.trade] = position.stop_paise
    for moved in storm.world.actions(StopMoved):
        moves[moved.trade].append(moved.stop_paise)
    for path in moves.values():
        assert path == sorted(set(path))


@QUICK
@STORMS
def test_flat_after_the_squareoff_whatever_the_feed_does(rules, seed, steps):
    """With Timers and a broker that fills in the end, nothing stays open; the session ends once and is silent then."""
    storm = Storm(rules, seed).run(steps).finish()
    world = storm.world
    assert world.state.is_flat
    assert not world.live
    assert len(world.actions(SessionOver)) == 1
    assert world.held == 0
    for enter in world.actions(Enter):
        assert enter.at_ms < world.plan.squareoff_ms
    storm.ms += 1_000
    assert not [action for action in world.timer(storm.ms) if not isinstance(action, Alert)]


@QUICK
@STORMS
def test_every_command_is_answered_once(rules, seed, steps):
    """Also those that wait for the position to be closed."""
    world = Storm(rules, seed).run(steps).finish().world
    asked = [event.command_id for event in events_of(world) if isinstance(event, Command)]
    assert sorted(answer.command_id for answer in world.actions(Answered)) == sorted(asked)


@QUICK
@STORMS
def test_no_entry_beyond_a_gate(rules, seed, steps):
    """Outside the hours, halted, cautioned, ending, or beyond the day's count, nothing is bought."""
    world = Storm(rules, seed).run(steps).finish().world
    halted, cautions, closing, limit = set(), set(), False, world.params.max_trades_per_day
    filled_trades, trade_of = set(), {}
    for event, actions in world.log:
        if isinstance(event, Caution):
            (cautions.add if event.active else cautions.discard)(event.reason)
        if isinstance(event, Command) and event.kind in {CommandKind.SQUAREOFF, CommandKind.STOP}:
            closing = True
        if isinstance(event, Fill) and event.side is Side.BUY:
            filled_trades.add(trade_of[event.intent])
        for action in actions:
            if isinstance(action, Enter):
                trade_of[action.intent] = action.trade
                assert world.plan.entry_start_ms <= action.at_ms < world.plan.entry_cutoff_ms
                assert world.plan.is_open(action.at_ms)
                assert not halted
                assert not cautions
                assert not closing
                assert len(filled_trades) < limit
            if isinstance(action, Halted):
                halted.add(action.reason)
            if isinstance(action, Resumed):
                halted.discard(action.reason)
            if isinstance(action, LimitsTightened):
                assert action.max_trades_per_day <= limit
                limit = action.max_trades_per_day
    assert len(filled_trades) <= world.params.max_trades_per_day


@QUICK
@STORMS
def test_a_daily_loss_halt_is_final(rules, seed, steps):
    """Whatever operators say afterwards, and after a restart, nothing is bought any more that day."""
    storm = Storm(rules, seed).run(steps)
    world = storm.world
    when = [number for number, (_, actions) in enumerate(world.log)
            if any(isinstance(a, Halted) and a.reason == Halt.DAILY_MAX_LOSS for a in actions)]  # fmt: skip
    assert len(when) <= 1
    if not when:
        return
    later = [action for _, actions in world.log[when[0] + 1 :] for action in actions]
    assert not [action for action in later if isinstance(action, Enter)]
    storm.world = world.restarted(storm.ms)
    storm.world.send(Command(at_ms=storm.ms, command_id="again", kind=CommandKind.RESUME))
    storm.run(100)
    assert not storm.world.actions(Enter)
    assert Halt.DAILY_MAX_LOSS in storm.world.state.gate.halts


@QUICK
@STORMS
def test_a_breach_of_the_daily_loss_closes_everything(rules, seed, steps):
    """After a price at which the day's loss is reached, everything held is being sold and the halt is said."""
    storm = Storm(rules, seed)
    for _ in range(steps):
        storm.run(1)
        event, state = storm.world.log[-1][0], storm.world.state
        limit = state.gate.limits.daily_max_loss_paise
        shown = view(state, storm.world.plan)
        loss = -(shown.realised_gross_paise + shown.open_gross_paise)
        if not limit or loss < limit or not isinstance(event, Tick):
            continue
        held = [position for position in state.book.positions if position.held and position.security == event.security]
        if held:
            assert Halt.DAILY_MAX_LOSS in state.gate.halts
            assert all(position.closing for position in held)


@QUICK
@STORMS
def test_cash_is_gross_pnl_to_the_paisa_and_net_is_never_more(rules, seed, steps):
    """Money out minus money in of all fills = gross P&L; charges only cost."""
    world = Storm(rules, seed).run(steps).finish().world
    cash = sum(
        fill.value_paise if fill.side is Side.SELL else -fill.value_paise
        for fill in events_of(world)
        if isinstance(fill, Fill)
    )
    done = trades(world.state, world.plan)
    assert cash == world.state.book.realised_paise == sum(trade.gross_paise for trade in done)
    for trade in done:
        assert trade.net_paise == trade.gross_paise - trade.charges_paise < trade.gross_paise
        assert trade.gross_paise == trade.sell_value_paise - trade.buy_value_paise
        assert trade.entry_at_ms <= trade.exit_at_ms
        assert trade.why_entry.facts
        assert trade.why_exit.facts
    shown = view(world.state, world.plan)
    assert shown.realised_gross_paise == cash
    assert shown.realised_net_paise <= shown.realised_gross_paise
    assert shown.trades_settled == len(done) == shown.entries_filled


@QUICK
@STORMS
def test_the_ledger_rebuilds_the_same_trades(rules, seed, steps):
    """Folding what was recorded gives the very positions, numbers, halts and limits of the running session."""
    world = Storm(rules, seed).run(steps).world
    again = world.restarted(world.state.now_ms).state

    def essence(state):
        positions = sorted(state.book.positions + state.book.settled)
        # Whether a cancellation was asked for, and what is about to be closed without an exit yet, are intentions.
        return [
            position._replace(entry=position.entry._replace(cancel_asked=False), closing=None) for position in positions
        ]

    assert essence(again) == essence(world.state)
    assert again.book.realised_paise == world.state.book.realised_paise
    assert (again.book.last_intent, again.book.last_trade) == (
        world.state.book.last_intent,
        world.state.book.last_trade,
    )
    assert set(again.gate.halts) >= set(world.state.gate.halts)
    assert again.gate.limits == world.state.gate.limits


@QUICK
@given(seed=st.integers(0, 2**32 - 1), before=st.integers(0, 250), after=st.integers(0, 150))
def test_a_restart_decides_as_the_uninterrupted_session(rules, seed, before, after):
    """From the same ledger and the same prices on, both worlds say the same.

    Set aside: what the two may say differently without deciding differently (alerts, polls and wishes for ticks), and
    moments in which something waits that a restart gives up by intention (see `strategy.start`).
    """
    storm = Storm(rules, seed, calm_index=True).run(before)
    world = storm.world
    waits = world.state.gate.entry_waits or any(
        position.closing and not position.exits for position in world.state.book.positions
    )
    if waits or world.state.gate.cautions or storm.ms >= world.plan.entry_cutoff_ms:
        return
    unjudged = world.state.spot.candle
    if unjudged and unjudged.end_ms <= storm.ms:
        return
    if world.state.spot.last_at_ms > storm.ms:
        return
    other = world.restarted(storm.ms)
    other.state = other.state._replace(clock_ms=world.state.clock_ms)
    index_tick = Tick(at_ms=storm.ms, security=rules.index.security, price_paise=24_500_10)
    for each in (world, other):
        each.send(index_tick)
    for security in sorted(set(world.watched) | {position.security for position in world.state.book.positions}):
        quote = Tick(at_ms=storm.ms, security=security, price_paise=storm.premiums[security])
        for each in (world, other):
            each.send(quote)
    seen = len(world.log)
    storm.run(after)
    told = (Enter, Exit, StopMoved, EntryRefused, Halted, Resumed, LimitsTightened, CandleClosed, SessionOver)
    for event, actions in world.log[seen:]:
        said = other.send(event)
        assert [a for a in said if isinstance(a, told)] == [a for a in actions if isinstance(a, told)], event


@QUICK
@STORMS
def test_every_candle_is_judged_once(rules, seed, steps):
    """Entries and refusals add up to the candles closed, but for one that may still wait for its exit to fill."""
    world = Storm(rules, seed).run(steps).world
    judged = len(world.actions(Enter)) + sum(world.state.gate.refusals.values())
    assert judged + world.state.gate.entry_waits == len(world.actions(CandleClosed))


@QUICK
@STORMS
def test_what_is_held_is_watched_and_asked_for_when_silent(rules, seed, steps):
    """The held contract is always wanted; a Timer after the limit without its price asks for one."""
    storm = Storm(rules, seed)
    for _ in range(steps):
        storm.run(1)
        for position in storm.world.state.book.positions:
            assert position.security in storm.world.watched
    asked = [poll.contract for poll in storm.world.actions(PollQuote)]
    assert {contract.security for contract in asked} <= {
        enter.contract.security for enter in storm.world.actions(Enter)
    }


@QUICK
@STORMS
def test_time_never_runs_back(rules, seed, steps):
    """Whatever times events carry, actions carry times that only rise, and none beyond the clock by more than the limit."""
    world = Storm(rules, seed).run(steps).world
    times = [action.at_ms for _, actions in world.log for action in actions]
    assert times == sorted(times)
    clock = max((event.at_ms for event in events_of(world) if isinstance(event, Timer)), default=None)
    if clock is not None:
        assert world.state.now_ms <= clock + 12_000 + 10_000


@QUICK
@STORMS
def test_the_wish_holds_at_most_seven(rules, seed, steps):
    """Six contracts around the index and what is held; quotes are kept of these only."""
    world = Storm(rules, seed).run(steps).world
    for watch in world.actions(Watch):
        assert len(watch.contracts) <= 7
    assert world.state.options.quotes.keys() <= world.state.options.watched.keys()
