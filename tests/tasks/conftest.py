"""A whole day as the ledger keeps it: seeded candles, four trades, refusals, a halt, a clean reconciliation."""

import random
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import date, datetime
from functools import partial
from pathlib import Path

import pytest

from strategy.charges import rates_on
from strategy.events import Side
from strategy.instruments import Underlying
from strategy.params import Params
from tasks.clock import IST, epoch_ms
from tasks.evening.prices import price_orders
from tasks.ledger.records import (
    CandleRecord,
    DecisionRecord,
    FillRecord,
    IntentRecord,
    OrderRecord,
    SessionKey,
    SessionStart,
)
from tasks.ledger.store import Ledger

DAY = date(2026, 11, 20)
KEY = SessionKey(account="1000000009", underlying=Underlying.NIFTY, mode="rehearsal", day=DAY)
OPEN_MS = epoch_ms(datetime(2026, 11, 20, 9, 15, tzinfo=IST))
CANDLES = 4_620  # five seconds each, to 15:40
PARAMS = Params(stop_loss_points=20.0, trail_start_points=10.0, trail_step_points=5.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordedDay:
    """A ledger with one day in it."""

    ledger: Ledger
    params: Params = PARAMS
    key: SessionKey = KEY

    @property
    def session_id(self):
        return self.key.session_id

    @property
    def candles(self):
        return self.ledger.candles(self.session_id, 5)

    @property
    def decisions(self):
        return self.ledger.decisions(self.session_id)


def seeded_candles() -> list[CandleRecord]:
    """A day of index candles with the SuperTrend and MACD that the rules see."""
    chance = random.Random(20261120)
    trend, macd = PARAMS.supertrend, PARAMS.macd
    trend_state, macd_state = trend.start, macd.start
    level, drift = 2_450_000.0, 0.0
    candles = []
    for number in range(CANDLES):
        drift = 0.99 * drift + chance.gauss(0, 4)
        path = [level]
        for _ in range(4):
            path.append(path[-1] + drift / 4 + chance.gauss(0, 110))
        level = path[-1]
        opened, high, low, close = (round(value / 5) * 5 for value in (path[0], max(path), min(path), level))
        trend_state = trend.step(trend_state, high / 100, low / 100, close / 100)
        macd_state = macd.step(macd_state, close / 100)
        candles.append(
            CandleRecord(
                session_id=KEY.session_id,
                seconds=5,
                start_ms=OPEN_MS + number * 5_000,
                open_paise=opened,
                high_paise=high,
                low_paise=low,
                close_paise=close,
                ticks=5,
                supertrend=trend.line(trend_state),
                direction=trend.direction(trend_state),
                macd=macd.macd(macd_state),
                macd_signal=macd.signal(macd_state),
            )
        )
    return candles


def record_order(ledger, fence, *, intent, trade, side, at_ms, quantity, price_paise, reason, why, strike, option_type):
    """An intent, its order, and the two executions that filled it."""
    client_order_id = f"test-{intent}"
    ledger.record_intent(
        IntentRecord(
            session_id=KEY.session_id,
            intent=intent,
            trade=trade,
            purpose="ENTRY" if side is Side.BUY else "EXIT",
            side=side,
            security=f"NSE_FNO:{40_000 + strike}",
            trading_symbol=f"NIFTY-Nov2026-{strike}-{option_type}",
            contract_name=f"NIFTY 23 NOV {strike} {option_type}",
            strike_points=strike,
            option_type=option_type,
            expiry=date(2026, 11, 23),
            lot_size=65,
            tick_size_paise=5,
            freeze_quantity=1800,
            quantity=quantity,
            reference_paise=price_paise,
            reason=reason,
            why=why,
            decided_at_ms=at_ms,
            fence=fence,
            orders=(
                OrderRecord(
                    client_order_id=client_order_id,
                    slice_number=1,
                    quantity=quantity,
                    limit_paise=price_paise,
                ),
            ),
        )
    )
    first = quantity // 2
    for cumulative, step in ((first, first), (quantity, quantity - first)):
        ledger.record_fill(
            FillRecord(
                client_order_id=client_order_id,
                cumulative_quantity=cumulative,
                quantity=step,
                value_paise=step * price_paise,
                at_ms=at_ms + 120,
            )
        )


def flips_of(candles, after=60, apart=800):
    """Positions of candles on which SuperTrend turned, some way apart."""
    found = []
    for number in range(after, len(candles) - 400):
        turned = candles[number].direction * candles[number - 1].direction < 0
        if turned and (not found or number - found[-1] >= apart):
            found.append(number)
    return found


def facts_at(candle, flipped=True):
    return {
        "candle_start_ms": candle.start_ms,
        "candle_seconds": 5,
        "candle_close": candle.close_paise / 100,
        "supertrend": candle.supertrend,
        "direction": candle.direction,
        "flipped": flipped,
        "macd": candle.macd,
        "macd_signal": candle.macd_signal,
        "htf_direction": candle.direction,
    }


def write_day(ledger: Ledger, *, leave_open: bool = False, reconciled: bool = True, priced: bool = True) -> RecordedDay:
    """Write the day; `leave_open` leaves the last trade unsold."""
    ledger.open_session(KEY, "salt")
    fence = ledger.leases.take(KEY, "test", OPEN_MS).fence
    ledger.record_start(
        SessionStart(
            session_id=KEY.session_id,
            run_id="run-1",
            fence=fence,
            started_at_ms=OPEN_MS - 300_000,
            params=PARAMS.model_dump(mode="json"),
            code_version="3.0.0",
            facts_version="2026-11-22",
        )
    )
    candles = seeded_candles()
    ledger.record_candles(candles)
    decisions = []
    flips = flips_of(candles)[:4]
    for trade, number in enumerate(flips, start=1):
        entry = candles[number]
        spot = entry.close_paise
        option_type = "CE" if entry.direction > 0 else "PE"
        strike = round(spot / 5_000) * 50
        premium = 12_000
        stop, best, reason, last = premium - 2_000, premium, "reversal", number + 300
        for later in range(number + 1, number + 300):
            moved = (candles[later].close_paise - spot) * entry.direction // 2
            price = round((premium + moved) / 5) * 5
            best = max(best, price)
            if best - premium >= 1_000:
                raised = premium + max(0, 500 + 500 * ((best - premium - 1_000) // 500))
                if raised > stop:
                    stop = raised
                    decisions.append(
                        DecisionRecord(
                            session_id=KEY.session_id,
                            at_ms=candles[later].start_ms + 5_000,
                            kind="stop_moved",
                            reason="trailing",
                            detail={"trade": trade, "stop_paise": stop, "best_paise": best},
                        )
                    )
            if price <= stop:
                reason, last = ("trailing_stop" if stop > premium - 2_000 else "stop_loss"), later
                break
            if candles[later].direction == -entry.direction:
                last = later
                break
        leaving = candles[last]
        price = round((premium + (leaving.close_paise - spot) * entry.direction // 2) / 5) * 5
        shared = {"trade": trade, "quantity": 65, "strike": strike, "option_type": option_type}
        record_order(
            ledger,
            fence,
            intent=2 * trade - 1,
            side=Side.BUY,
            at_ms=entry.start_ms + 5_000,
            price_paise=premium,
            reason="entry",
            why=facts_at(entry)
            | {
                "spot": spot / 100,
                "strike_points": strike,
                "option_type": option_type,
                "bid": 119.95,
                "ask": 120.0,
            },
            **shared,
        )
        if leave_open and trade == len(flips):
            break
        record_order(
            ledger,
            fence,
            intent=2 * trade,
            side=Side.SELL,
            at_ms=leaving.start_ms + 5_000,
            price_paise=price,
            reason=reason,
            why=facts_at(leaving, flipped=False)
            | {
                "premium": price / 100,
                "entry": 120.0,
                "stop": stop / 100,
                "stop_has_moved": stop > premium - 2_000,
            },
            **shared,
        )
    for position, candle in enumerate(candles[::3]):
        decisions.append(
            DecisionRecord(
                session_id=KEY.session_id,
                at_ms=candle.start_ms + 5_000,
                kind="entry_refused",
                reason=("no_flip", "no_flip", "no_flip", "macd_against", "cooldown")[position % 5],
                detail={},
            )
        )
    decisions.append(
        DecisionRecord(
            session_id=KEY.session_id, at_ms=OPEN_MS + 20_000_000, kind="halted", reason="operator", detail={}
        )
    )
    ledger.record_decisions(decisions)
    if priced:
        price_orders(ledger, KEY.session_id, rates_on(DAY, "NSE"))
    if reconciled:
        ledger.record_reconciliation(KEY.session_id, "run-2", OPEN_MS + 24_000_000, "clean", [])
    return RecordedDay(ledger=ledger)


@pytest.fixture
def record_day(sqlite_ledger_url: str) -> Iterator[Callable[..., RecordedDay]]:
    """Writes the day as the arguments say, on SQLite."""
    ledger = Ledger(sqlite_ledger_url)
    yield partial(write_day, ledger)
    ledger.close()


@pytest.fixture
def recorded_day(record_day: Callable[..., RecordedDay]) -> RecordedDay:
    """The day as it usually ends."""
    return record_day()


@pytest.fixture(scope="module")
def kept_day(tmp_path_factory: pytest.TempPathFactory, migrated_sqlite: Path) -> Iterator[RecordedDay]:
    """The same, written once for the tests of a file that only read it."""
    path = tmp_path_factory.mktemp("day") / "ledger.sqlite"
    shutil.copyfile(migrated_sqlite, path)
    ledger = Ledger(f"sqlite:///{path}")
    yield write_day(ledger)
    ledger.close()
