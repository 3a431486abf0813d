"""A small world around the rules: a day, contracts, a broker that does what a test says, and tables to say it in.

A table is a script a trader can read, one event per line:

    with max_trades_per_day=2                      (settings; the rest are the shipped defaults, see `CALM`)
    09:30:00  call     100.00         -            a call bought at 100.00, by way of a real signal
    09:30:05  tick     50.00          exit:stop_loss

The columns are time, event, value and what the session does about it.

Events: spot, 24500ce / 24500pe and tick (of what is held): prices, as price or price/bid/ask · up: three candles whose
last one turns the trend up as it closes now, with that quote of the call at the money · down: one more that turns it
down, with that quote of the put · call, put: an up or down that is bought and filled at that price · buy, sell
(a fill: price or quantity@price) · bought, sold (all of it, and the end) · entry-ended, exit-ended (an outcome) · timer
· halt, resume, squareoff, stop, tighten · caution (name:on or name:off) · poison · restart.
What is expected is every action in order but Watch and CandleClosed; "-" is none, "..." is whatever comes.
"""

import re
from dataclasses import dataclass, field
from datetime import date, time

import pytest

from strategy.actions import (
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
from strategy.calendar import ist_ms, trading_day
from strategy.candles import Candle
from strategy.charges import rates_on
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
from strategy.history import History, PastIntent
from strategy.instruments import INDICES, Contract, OptionType, Underlying
from strategy.params import Params
from strategy.plan import plan_day
from strategy.session import start, step

DAY = date(2026, 11, 19)  # a Thursday; the market trades 09:15-15:40
EXPIRY = date(2026, 11, 23)
LOT = 65
# What the tests of orders buy and sell.
CONTRACT = Contract(
    underlying=Underlying.NIFTY,
    expiry=EXPIRY,
    strike_points=24_500,
    option_type=OptionType.CE,
    segment="NSE_FNO",
    security_id="47317",
    trading_symbol="NIFTY-Nov2026-24500-CE",
    lot_size=LOT,
    tick_size_paise=5,
    freeze_quantity=1800,
)
# Candles under SuperTrend(1, 0.1): the first direction is down, then no flip, then up; and down again.
UP = (24_500, 24_490, 24_510, 24_511)
DOWN = (24_480, 24_479)
NIFTY = INDICES[Underlying.NIFTY]
# SuperTrend(1, 0.1) follows every turn of the price, so a table can say what the trend does by saying prices.
# The daily loss limit is out of the way: at its default a lot of 65 reaches it before the default stop of 50.
CALM = {
    "supertrend_period": 1,
    "supertrend_multiplier": 0.1,
    "macd_confirmation": False,
    "htf_filter": False,
    "daily_max_loss": 100_000,
}


def contract(strike, option_type, expiry=EXPIRY, lot_size=LOT, underlying=Underlying.NIFTY):
    """A made-up contract of the master."""
    return Contract(
        underlying=underlying,
        expiry=expiry,
        strike_points=strike,
        option_type=OptionType(option_type),
        segment="NSE_FNO",
        security_id=f"{strike}{option_type}",
        trading_symbol=f"{underlying}-{strike}-{option_type}",
        lot_size=lot_size,
        tick_size_paise=5,
        freeze_quantity=1800,
    )


CHAIN = tuple(contract(strike, option_type) for strike in range(23_500, 25_550, 50) for option_type in OptionType)


def make_params(**settings):
    return Params(**(CALM | settings))


def make_plan(params, day=DAY, contracts=CHAIN, at="09:00:00", today=...):
    return plan_day(
        params,
        day=day,
        today=trading_day(day) if today is ... else today,
        index=NIFTY,
        contracts=contracts,
        rates=rates_on(day, "NSE"),
        at_ms=at_ms(at, day),
    )


def at_ms(clock, day=DAY):
    """'09:31:00' or '09:31:00.250' of the day in India."""
    whole, _, part = clock.partition(".")
    return ist_ms(day, time.fromisoformat(whole)) + int(part.ljust(3, "0") if part else 0)


def paise(text):
    return round(float(text) * 100)


@dataclass
class Live:
    """An intent the broker has not ended."""

    action: Enter | Exit
    filled: int = 0
    cancel_asked: bool = False

    @property
    def left(self):
        return self.action.quantity - self.filled


@dataclass
class World:
    """A session, what it did, and a broker that remembers what was sent."""

    params: Params
    plan: object = None
    warmup: tuple = ()
    started_ms: int = at_ms("09:14:00")
    history: History | None = None
    log: list = field(default_factory=list)  # (event, actions)
    live: dict = field(default_factory=dict)  # by intent
    watched: dict = field(default_factory=dict)

    def __post_init__(self):
        self.plan = self.plan or make_plan(self.params)
        self.state, actions = start(
            self.plan, self.params, at_ms=self.started_ms, warmup=self.warmup, history=self.history
        )
        self._take(None, actions)

    def _take(self, event, actions):
        self.log.append((event, actions))
        for action in actions:
            # Whatever is said is said now, and in full.
            assert action.at_ms == self.state.now_ms
            if isinstance(action, Alert):
                assert isinstance(action.severity, Severity)
                assert action.message
            if isinstance(action, Adopt | Enter | Exit | EntryRefused):
                assert action.why.facts
            if isinstance(action, Answered):
                assert action.command_id in {e.command_id for e, _ in self.log if isinstance(e, Command)}
            if isinstance(action, Enter | Exit):
                assert action.intent not in self.live
                self.live[action.intent] = Live(action)
            elif isinstance(action, CancelEntry):
                self.live[action.intent].cancel_asked = True
            elif isinstance(action, Watch):
                self.watched = {c.security: c for c in action.contracts}

    def send(self, event):
        """Let one event happen; the actions it caused."""
        self.state, actions = step(self.state, event, self.plan, self.params)
        self._take(event, actions)
        return actions

    def spot(self, ms, price_paise):
        return self.send(Tick(at_ms=ms, security=NIFTY.security, price_paise=price_paise))

    def tick(self, ms, security, price_paise, bid_paise=0, ask_paise=0):
        return self.send(
            Tick(at_ms=ms, security=security, price_paise=price_paise, bid_paise=bid_paise, ask_paise=ask_paise)
        )

    def timer(self, ms):
        return self.send(Timer(at_ms=ms))

    def fill(self, ms, live, quantity, price_paise):
        live.filled += quantity
        side = Side.BUY if isinstance(live.action, Enter) else Side.SELL
        return self.send(
            Fill(
                at_ms=ms,
                intent=live.action.intent,
                side=side,
                quantity=quantity,
                value_paise=quantity * price_paise,
            )
        )

    def end(self, ms, live, outcome, message=""):
        del self.live[live.action.intent]
        return self.send(IntentClosed(at_ms=ms, intent=live.action.intent, outcome=outcome, message=message))

    def live_of(self, kind):
        return [live for live in self.live.values() if isinstance(live.action, kind)]

    def actions(self, kind=object):
        return [action for _, actions in self.log for action in actions if isinstance(action, kind)]

    @property
    def held(self):
        return sum(position.held for position in self.state.book.positions)

    def past(self):
        """The day as a ledger would tell it."""
        fills, ends = {}, {}
        said = list(self.history.intents) if self.history else []
        known = {past.decided.intent: past for past in said}
        for event, _ in self.log:
            if isinstance(event, Fill):
                fills.setdefault(event.intent, []).append(event)
            if isinstance(event, IntentClosed):
                ends[event.intent] = event
        decided = [past.decided for past in said] + self.actions((Enter, Exit))
        before = self.history or History()
        return History(
            intents=tuple(
                PastIntent(
                    decided=action,
                    fills=(
                        *(known[action.intent].fills if action.intent in known else ()),
                        *fills.get(action.intent, ()),
                    ),
                    end=ends.get(action.intent) or (known[action.intent].end if action.intent in known else None),
                )
                for action in decided
            ),
            stops=(*before.stops, *self.actions(StopMoved)),
            halts=(*before.halts, *self.actions((Halted, Resumed))),
            limits=(*before.limits, *self.actions(LimitsTightened)),
        )

    def candles(self):
        """The base candles so far, closed ones and the open one, as a ledger with ticks would have them."""
        closed = [
            Candle(c.start_ms, c.seconds, c.open_paise, c.high_paise, c.low_paise, c.close_paise, c.ticks)
            for c in self.actions(CandleClosed)
        ]
        open_candle = self.state.spot.candle
        return (*self.warmup, *closed, *([open_candle] if open_candle else []))

    def restarted(self, ms):
        """Another process that takes the day up at `ms`, with the same broker."""
        fresh = World(params=self.params, plan=self.plan, warmup=self.candles(), started_ms=ms, history=self.past())
        fresh.live |= self.live
        return fresh

    def turn(self, ms, path, option_type, quote):
        """Index points, five seconds apart and the last at `ms`, with a quote of the option at 24500 just before."""
        *before, last = path
        for number, points in enumerate(before):
            self.spot(ms - (len(before) - number) * 5_000, points * 100)
        self.tick(ms - 1, contract(24_500, option_type).security, *quote)
        return self.spot(ms, last * 100)

    def open_position(self, ms, option_type, price_paise):
        """Turn the trend with real ticks so that an option is bought at `ms`, and fill it."""
        path = UP if option_type == "CE" else [2 * 24_500 - points for points in UP]
        actions = self.turn(ms, path, option_type, (price_paise,))
        (entry,) = [action for action in actions if isinstance(action, Enter)] or [None]
        assert entry, f"no entry: {render(actions)}"
        assert (entry.contract.strike_points, entry.contract.option_type) == (24_500, option_type)
        live = self.live[entry.intent]
        self.fill(ms, live, live.left, price_paise)
        self.end(ms, live, Outcome.FILLED)
        return entry


def render(actions):
    """Actions as tables write them."""
    return ", ".join(text for action in actions if (text := _render(action))) or "-"


def _rupees(amount_paise):
    return f"{amount_paise / 100:.2f}"


def _render(action):
    match action:
        case Watch() | CandleClosed():
            return ""
        case Enter():
            size = "" if action.quantity == LOT else f"x{action.quantity}"
            return f"enter:{action.contract.strike_points}{action.contract.option_type}{size}"
        case Exit():
            size = "" if action.quantity == LOT else f"x{action.quantity}"
            return f"exit:{action.reason}{size}"
        case Adopt():
            return f"adopt:{action.quantity}"
        case CancelEntry():
            return "cancel"
        case PollQuote():
            return "poll"
        case StopMoved():
            return f"stop:{_rupees(action.stop_paise)}"
        case EntryRefused():
            return f"refused:{action.reason}"
        case Halted():
            return f"halted:{action.reason}"
        case Resumed():
            return "resumed"
        case LimitsTightened():
            return f"limits:{_rupees(action.daily_max_loss_paise)}/{action.max_trades_per_day}"
        case Alert():
            # A halt says so itself.
            return "" if action.kind == "halted" else f"alert:{action.kind}"
        case Answered():
            return "refused-command" if action.answer.startswith("refused") else "answer"
        case SessionOver():
            return f"over:{action.reason}"


def play(table, world=None):
    """Play a table; fail at the first line that does something else than it says."""
    lines = [line for line in table.strip("\n").splitlines() if line.strip()]
    settings = {}
    if lines[0].strip().startswith("with "):
        settings = dict(_setting(pair) for pair in lines.pop(0).strip()[5:].split(","))
    world = world or World(make_params(**settings))
    for line in lines:
        script, _, _ = line.partition("#")
        clock, event, value, expect = re.split(r"\s\s+", script.strip(), maxsplit=3)
        world, actions = _play(world, at_ms(clock), event, value)
        if expect.strip() != "...":
            assert render(actions) == expect.strip(), f"{line.strip()}\n  did: {render(actions)}"
    return world


def _setting(pair):
    name, _, value = pair.strip().partition("=")
    return name, {"true": True, "false": False}.get(value, value)


def _play(world, ms, event, value):
    match event:
        case "restart":
            world = world.restarted(ms)
            return world, world.log[-1][1]
        case "call" | "put":
            world.open_position(ms, "CE" if event == "call" else "PE", paise(value))
            return world, ()
        case "up":
            return world, world.turn(ms, UP, "CE", map(paise, value.split("/")))
        case "down":
            return world, world.turn(ms, DOWN, "PE", map(paise, value.split("/")))
        case "spot":
            return world, world.spot(ms, paise(value))
        case "tick":
            (position,) = [p for p in world.state.book.positions if p.held]
            return world, world.tick(ms, position.security, *map(paise, value.split("/")))
        case "timer":
            return world, world.timer(ms)
        case "buy" | "sell":
            live = world.live_of(Enter if event == "buy" else Exit)[0]
            quantity, _, price = value.rpartition("@")
            return world, world.fill(ms, live, int(quantity or live.left), paise(price))
        case "bought" | "sold":
            actions = ()
            for live in world.live_of(Enter if event == "bought" else Exit):
                actions += world.fill(ms, live, live.left, paise(value))
                actions += world.end(ms, live, Outcome.FILLED)
            return world, actions
        case "entry-ended" | "exit-ended":
            live = world.live_of(Enter if event == "entry-ended" else Exit)[0]
            return world, world.end(ms, live, Outcome(value))
        case "halt" | "resume" | "squareoff" | "stop" | "leave":
            return world, world.send(Command(at_ms=ms, command_id=f"{event}-{ms}", kind=CommandKind(event)))
        case "tighten":
            wanted = dict(part.split("=") for part in value.split(","))
            return world, world.send(
                Command(
                    at_ms=ms,
                    command_id=f"tighten-{ms}",
                    kind=CommandKind.TIGHTEN,
                    daily_max_loss_paise=paise(wanted["loss"]) if "loss" in wanted else None,
                    max_trades_per_day=int(wanted["trades"]) if "trades" in wanted else None,
                )
            )
        case "caution":
            reason, _, switch = value.partition(":")
            return world, world.send(Caution(at_ms=ms, reason=reason, active=switch == "on"))
        case "poison":
            return world, world.send(PoisonedTick(at_ms=ms, security=NIFTY.security, found=value))
    named = re.fullmatch(r"(\d+)(ce|pe)", event)
    assert named, f"no such event: {event}"
    security = contract(int(named[1]), named[2].upper()).security
    return world, world.tick(ms, security, *map(paise, value.split("/")))


# Test files cannot import this one, so they ask for its parts by fixture.


@pytest.fixture(scope="session")
def rules():
    """The module's tools under one name."""
    return Rules


class Rules:
    World = World
    params = staticmethod(make_params)
    plan = staticmethod(make_plan)
    contract = staticmethod(contract)
    chain = CHAIN
    play = staticmethod(play)
    render = staticmethod(render)
    at_ms = staticmethod(at_ms)
    day = DAY
    lot = LOT
    index = NIFTY
