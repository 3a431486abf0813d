"""A second reading of the trading rules, in plain loops, beside the session: every decision of whole days is the same.

`Naive` was written from the text of the rules alone. It keeps every candle and every value in lists, knows one position,
and a broker that fills each order at once and whole (a buy at the ask, a sale at the bid); so does the test.
"""

import csv
import random
from collections import Counter
from datetime import date, datetime
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from strategy.actions import CandleClosed, Enter, Exit, StopMoved, Watch
from strategy.calendar import trading_day
from strategy.charges import rates_on
from strategy.events import Fill, IntentClosed, Outcome, Side, Tick, Timer
from strategy.instruments import INDICES, Contract, OptionType, Underlying
from strategy.params import Params
from strategy.plan import plan_day
from strategy.session import start, step

# The days are played once for all tests of this file.
RECORDED = Path(__file__).resolve().parents[3] / "shared" / "data" / "market" / "sensex_2026-02-05_5s.csv"


class Naive:
    """The rules, told again. Prices in paise, indicators in points, times in milliseconds."""

    def __init__(self, p, index, lot, open_ms, hours):
        self.p, self.index, self.lot, self.open_ms = p, index, lot, open_ms
        self.start_ms, self.cutoff_ms, self.squareoff_ms = hours
        self.base, self.longer = Series(p, p.candle_seconds), Series(p, p.htf_seconds)
        self.spot = self.last_ms = self.realised = self.trades = self.last_order_ms = self.last_entry_ms = 0
        self.quotes, self.held, self.halted, self.ending = {}, None, False, False
        self.decisions, self.values, self.refusals = [], [], Counter()

    def index_tick(self, ms, price):
        if (
            price <= 0
            or (self.spot and abs(price - self.spot) > self.spot / 5)
            or (ms, price) == (self.last_ms, self.spot)
        ):
            return
        number = (ms - self.open_ms) // (self.p.candle_seconds * 1000)
        if number < self.base.number or ms < self.base.closed_ms:
            return
        gap_ms, self.spot, self.last_ms = ms - self.last_ms, price, max(ms, self.last_ms)
        self.longer.close_before(ms, self.open_ms)
        closed = self.base.close_before(ms, self.open_ms)
        self.longer.add(ms, price, self.open_ms)
        self.base.add(ms, price, self.open_ms)
        if closed:
            self.judge(ms, gap_ms)

    def clock(self, ms):
        if ms >= self.squareoff_ms and not self.ending:
            self.ending = True
            self.sell(ms, "squareoff")
        self.longer.close_before(ms - 1000, self.open_ms)
        if self.base.close_before(ms - 1000, self.open_ms):
            self.judge(ms, ms - self.last_ms)

    def judge(self, ms, gap_ms):
        base, now = self.base, self.base.direction
        self.decisions.append((ms, "candle", now))
        self.values.append((None if now == 0 else base.lower if now > 0 else base.upper, base.macd, base.signal))
        against = self.held and now == (-1 if self.held["name"][1] == "CE" else 1)
        if against and ms - self.held["ms"] >= self.p.min_hold_seconds * 1000:
            self.sell(ms, "reversal")
        refusal = self.against_entry(ms, gap_ms, now, base)
        if refusal:
            self.refusals[refusal] += 1

    def against_entry(self, ms, gap_ms, now, base):
        p = self.p
        if self.held:
            return "position_open"
        if self.ending:
            return "session_ending"
        if self.halted:
            return "halted"
        if gap_ms > p.stale_after_seconds * 1000:
            return "ticks_stale"
        if ms < self.start_ms:
            return "before_entry_start"
        if ms >= self.cutoff_ms:
            return "after_entry_cutoff"
        if self.trades >= p.max_trades_per_day:
            return "max_trades"
        if ms - self.last_order_ms < p.order_cooldown_seconds * 1000:
            return "cooldown"
        if ms - self.last_entry_ms < p.min_trade_gap_seconds * 1000:
            return "trade_gap"
        if now == 0:
            return "direction_unknown"
        if p.flip_only and not (base.directions[-2:-1] not in ([], [0]) and base.directions[-2] != now):
            return "no_flip"
        if p.macd_confirmation:
            if base.signal is None:
                return "macd_not_ready"
            if (now > 0) != (base.macd >= base.signal):
                return "macd_against"
        if p.htf_filter:
            if self.longer.direction == 0:
                return "htf_not_ready"
            if self.longer.direction != now:
                return "htf_against"
        return self.buy(ms, "CE" if now > 0 else "PE")

    def buy(self, ms, kind):
        p, step_paise = self.p, self.index.strike_step_points * 100
        strike = int(self.spot / step_paise + 0.5) * self.index.strike_step_points
        strike += p.moneyness * self.index.strike_step_points * (1 if kind == "CE" else -1)
        quote = self.quotes.get((strike, kind))
        if quote is None or ms - quote[0] > p.stale_after_seconds * 1000:
            return "no_option_quote"
        lots = p.lots
        if p.risk_per_trade:
            lots = min(lots, int(p.risk_per_trade // (p.stop_loss_points * self.lot)))
        if lots == 0:
            return "risk_too_small"
        price, units = quote[3], lots * self.lot
        stop = price - round(p.stop_loss_points * 100) if p.stop_loss_points else 0
        self.held = {"name": (strike, kind), "units": units, "price": price, "ms": ms, "stop": stop, "best": price}
        self.held["moved"] = False
        self.trades, self.last_order_ms, self.last_entry_ms = self.trades + 1, ms, ms
        self.decisions.append((ms, "enter", strike, kind, units))
        return None

    def sell(self, ms, reason):
        if not self.held:
            return
        held, self.held, self.last_order_ms = self.held, None, ms
        self.realised += held["units"] * (self.quotes[held["name"]][2] - held["price"])
        self.decisions.append((ms, "exit", reason, held["units"]))
        self.halted |= reason == "daily_max_loss" or (
            self.p.daily_max_loss > 0 and self.realised <= -self.p.daily_max_loss * 100
        )

    def option_tick(self, ms, name, prices):
        """`name` is (strike, type), `prices` are last, bid and ask."""
        self.quotes[name] = (ms, *prices)
        held, price = self.held, prices[0]
        if not held or held["name"] != name:
            return
        reason = self.against_holding(held, price, held["units"] * (price - held["price"]))
        if reason:
            self.sell(ms, reason)
            return
        held["best"] = max(held["best"], price)
        best, begin, by = held["best"] - held["price"], self.p.trail_start_points * 100, self.p.trail_step_points * 100
        if begin and best >= begin:
            stop = held["price"] + max(0, begin - by + by * ((best - begin) // by))
            if stop > held["stop"]:
                held["stop"], held["moved"] = stop, True
                self.decisions.append((ms, "stop", stop))

    def against_holding(self, held, price, pnl):
        p = self.p
        if p.daily_max_loss and self.realised + pnl <= -p.daily_max_loss * 100:
            return "daily_max_loss"
        if p.max_loss_per_trade and pnl <= -p.max_loss_per_trade * 100:
            return "max_loss_per_trade"
        if p.target_points and price - held["price"] >= p.target_points * 100:
            return "target"
        if price <= held["stop"]:
            return "trailing_stop" if held["moved"] else "stop_loss"
        return None


class Series:
    """Candles of one length and, at each close, their SuperTrend and MACD."""

    def __init__(self, p, seconds):
        self.p, self.ms = p, seconds * 1000
        self.number, self.prices, self.closed_ms = -1, [], 0
        self.closes, self.ranges, self.directions, self.macds = [], [], [], []
        self.atr = self.upper = self.lower = self.fast = self.slow = self.macd = self.signal = None

    @property
    def direction(self):
        return self.directions[-1] if self.directions else 0

    def add(self, ms, price, open_ms):
        self.number = (ms - open_ms) // self.ms
        self.prices.append(price / 100)

    def close_before(self, ms, open_ms):
        end_ms = open_ms + (self.number + 1) * self.ms
        if not self.prices or ms < end_ms:
            return False
        self.closed_ms = end_ms
        self.on_close(max(self.prices), min(self.prices), self.prices[-1])
        self.prices = []
        return True

    def on_close(self, high, low, close):
        n, before = self.p.supertrend_period, self.closes[-1] if self.closes else None
        self.closes.append(close)
        self.ranges.append(high - low if before is None else max(high - low, abs(high - before), abs(low - before)))
        now = 0
        if len(self.ranges) >= n:
            seed = self.atr is None
            self.atr = sum(self.ranges) / n if seed else (self.atr * (n - 1) + self.ranges[-1]) / n
            upper, lower = (high + low) / 2 + self.p.supertrend_multiplier * self.atr, (high + low) / 2 - self.p.supertrend_multiplier * self.atr  # fmt: skip
            if not seed:
                upper = upper if before > self.upper else min(upper, self.upper)
                lower = lower if before < self.lower else max(lower, self.lower)
            self.upper, self.lower, now = upper, lower, self.direction or -1
            if now < 0 and close > upper and not seed:
                now = 1
            elif now > 0 and close < lower:
                now = -1
        self.directions.append(now)
        self.fast, self.slow = (self.ema(self.closes, was, n) for was, n in ((self.fast, self.p.macd_fast), (self.slow, self.p.macd_slow)))  # fmt: skip
        if self.slow is not None:
            self.macd = self.fast - self.slow
            self.macds.append(self.macd)
            self.signal = self.ema(self.macds, self.signal, self.p.macd_signal)

    @staticmethod
    def ema(values, was, n):
        if len(values) < n:
            return None
        return sum(values) / n if was is None else was + (values[-1] - was) * 2 / (n + 1)


def contract_of(index, day, strike, kind, lot):
    return Contract(
        underlying=index.underlying,
        expiry=day,
        strike_points=strike,
        option_type=OptionType(kind),
        segment=index.option_segment,
        security_id=f"{strike}{kind}",
        trading_symbol=f"{strike}{kind}",
        lot_size=lot,
        tick_size_paise=5,
        freeze_quantity=100 * lot,
    )


def premium_of(contract, spot, dice):
    """A premium of half a delta and some noise: price, bid, ask."""
    towards = 1 if contract.option_type is OptionType.CE else -1
    price = 200_00 + towards * (spot - contract.strike_points * 100) // 2 + dice.randint(-2_00, 2_00)
    price = max(10, price // 5 * 5)
    return price, price - 5, price + 5


def both(p, day, lot, prices, dice):
    """The session's decisions and the naive ones over index prices (ms, paise), with a Timer each second."""
    index = INDICES[p.index]
    spots = range(min(s for _, s in prices) // 100_00 * 100 - 1_000, max(s for _, s in prices) // 100 + 1_000)
    strikes = [spot for spot in spots if spot % index.strike_step_points == 0]
    chain = [contract_of(index, day, strike, kind, lot) for strike in strikes for kind in ("CE", "PE")]
    today = trading_day(day)
    plan = plan_day(p, day=day, today=today, index=index, contracts=chain, rates=rates_on(day, index.exchange), at_ms=0)
    naive = Naive(
        p, index, lot, today.open_ms, [today.at(at) for at in (p.entry_start, p.entry_cutoff, p.squareoff_at)]
    )
    state, _ = start(plan, p, at_ms=prices[0][0] - 1)
    said, watched, spot = [], {}, prices[0][1]

    def happen(event):
        nonlocal state
        state, actions = step(state, event, plan, p)
        said.extend(actions)
        for action in actions:
            if isinstance(action, Watch):
                new = [contract for contract in action.contracts if contract.security not in watched]
                watched.clear()
                watched.update({contract.security: contract for contract in action.contracts})
                for contract in new:
                    quote(event.at_ms, contract)
            if isinstance(action, Enter | Exit):
                side = Side.BUY if isinstance(action, Enter) else Side.SELL
                value_paise = action.quantity * action.reference_paise
                happen(Fill(at_ms=event.at_ms, intent=action.intent, side=side, quantity=action.quantity, value_paise=value_paise))  # fmt: skip
                happen(IntentClosed(at_ms=event.at_ms, intent=action.intent, outcome=Outcome.FILLED))

    def quote(ms, contract):
        price, bid, ask = premium_of(contract, spot, dice)
        naive.option_tick(ms, (contract.strike_points, contract.option_type.value), (price, bid, ask))
        happen(Tick(at_ms=ms, security=contract.security, price_paise=price, bid_paise=bid, ask_paise=ask))

    clock_ms = prices[0][0] // 1000 * 1000
    for ms, price in [*prices, (max(prices)[0] + 60_000, 0)]:
        while clock_ms <= ms:
            naive.clock(clock_ms)
            happen(Timer(at_ms=clock_ms))
            for contract in tuple(watched.values()) if dice.random() < 0.3 else ():
                quote(clock_ms, contract)
            clock_ms += 1_000
        if price and abs(price - spot) < spot // 10:
            spot = price
        naive.index_tick(ms, price)
        happen(Tick(at_ms=ms, security=index.security, price_paise=price))
    return said, naive, state


def told(said):
    """The session's actions in the naive one's words, and its indicator values after each candle."""
    decisions, values = [], []
    for action in said:
        match action:
            case CandleClosed():
                decisions.append((action.at_ms, "candle", action.direction))
                values.append((action.supertrend, action.macd, action.macd_signal))
            case Enter(contract=bought):
                decisions.append(
                    (action.at_ms, "enter", bought.strike_points, bought.option_type.value, action.quantity)
                )
            case Exit():
                decisions.append((action.at_ms, "exit", action.reason.value, action.quantity))
            case StopMoved():
                decisions.append((action.at_ms, "stop", action.stop_paise))
    return decisions, values


def compare(said, naive, state):
    """The same decisions at the same moments, the same candles refused for the same reasons, the same money."""
    decisions, values = told(said)
    assert decisions == naive.decisions
    assert dict(state.gate.refusals) == dict(naive.refusals)
    assert state.book.realised_paise == naive.realised
    # Not known yet is -1 on both sides: no line and no close is negative, and a MACD of exactly -1 does no harm.
    table = [[[-1.0 if value is None else value for value in row] for row in rows] for rows in (values, naive.values)]
    assert np.allclose(*table, rtol=1e-9, atol=1e-7)


def settings_of(dice):
    pick = dice.choice
    trail = pick([(0, 0), (6, 3), (10, 10)])
    return Params(
        candle_seconds=pick([5, 5, 15]),
        supertrend_period=pick([1, 3, 7]),
        supertrend_multiplier=pick([0.3, 1.0, 2.5]),
        macd_confirmation=pick([True, False]),
        macd_fast=3,
        macd_slow=8,
        macd_signal=4,
        htf_filter=pick([True, False]),
        htf_seconds=pick([30, 60]),
        flip_only=pick([True, True, False]),
        lots=pick([1, 3]),
        risk_per_trade=pick([0, 0, 2_600, 100]) if dice.random() < 0.5 else 0,
        moneyness=pick([-1, 0, 0, 1]),
        max_trades_per_day=pick([4, 40, 40]),
        daily_max_loss=pick([0, 400, 1_500]),
        max_loss_per_trade=pick([0, 0, 400]),
        stop_loss_points=pick([3, 20]),
        target_points=pick([0, 0, 8]),
        trail_start_points=trail[0],
        trail_step_points=trail[1],
        min_hold_seconds=pick([0, 15]),
        order_cooldown_seconds=pick([0, 15]),
        squareoff_at=pick(["15:11", "15:11", "15:25"]),
        min_trade_gap_seconds=pick([0, 60]),
    )


def walk(dice, start_ms, minutes):
    """An index that trends, turns and pauses; with a silence, late, repeated and impossible ticks now and then."""
    ms, spot, drift, prices = start_ms, 24_500_00, 0, []
    while ms < start_ms + minutes * 60_000:
        ms += dice.choice([250, 500, 1_000, 1_000, 2_000]) if dice.random() < 0.995 else 14_000
        drift = dice.choice([-1_50, 0, 1_50]) if dice.random() < 0.02 else drift
        spot += drift + dice.randint(-3_00, 3_00)
        prices.append((ms, spot))
        roll = dice.random()
        if roll < 0.03:
            prices.append(
                dice.choice([(ms, spot), (ms - 9_000, spot), (ms, spot * 2), (ms, 0), (ms - 300, spot + 1_00)])
            )
    return prices


DAYS = 20


@cache
def random_day(seed):
    """A day of 35 minutes: in the morning, around the start of entries, or from before the cutoff to the squareoff."""
    dice = random.Random(seed)
    day = date(2026, 11, 19)
    start_ms = trading_day(day).open_ms + dice.choice([0, 5, 340, 340]) * 60_000
    params = settings_of(dice)
    return both(params, day, 65, walk(dice, start_ms, 35), dice)


@pytest.mark.parametrize("seed", range(DAYS))
def test_a_random_day_is_decided_alike(seed):
    compare(*random_day(seed))


def test_the_random_days_meet_every_rule():
    """Otherwise their agreement would say little."""
    days = [naive for _, naive, _ in map(random_day, range(DAYS))]
    assert {decision[2] for naive in days for decision in naive.decisions if decision[1] == "exit"} == {
        *("daily_max_loss", "max_loss_per_trade", "target", "stop_loss", "trailing_stop", "reversal", "squareoff")
    }
    assert {name for naive in days for name in naive.refusals} == {
        *("position_open", "session_ending", "halted", "ticks_stale", "before_entry_start", "after_entry_cutoff"),
        *("max_trades", "cooldown", "trade_gap", "direction_unknown", "no_flip", "macd_not_ready", "macd_against"),
        *("htf_not_ready", "htf_against", "no_option_quote", "risk_too_small"),
    }


@pytest.mark.skipif(not RECORDED.exists(), reason="the recorded market is not part of the project")
def test_the_recorded_day_is_decided_alike():
    """SENSEX, 2026-02-05, with the shipped settings but limits that let the day go on."""
    day, prices = date(2026, 2, 5), []
    with RECORDED.open() as lines:
        for row in csv.DictReader(lines):
            end_ms = round(datetime.fromisoformat(row["close_time_ist"]).timestamp() * 1000)
            high, low, close = (round(float(row[name]) * 100) for name in ("high", "low", "close"))
            prices += [(end_ms - 3_000, high), (end_ms - 1_500, low), (end_ms, close)]
    loose = {"daily_max_loss": 100_000, "max_trades_per_day": 50, "trail_start_points": 20, "trail_step_points": 10}
    params = Params(index=Underlying.SENSEX, **loose)
    said, naive, state = both(params, day, 20, prices, random.Random(1))
    compare(said, naive, state)
    assert naive.trades > 30
