"""A restart in the middle of a candle goes on with that candle, not with a new one."""

import datetime as dt
import signal

import pytest

from strategy.calendar import ist_ms
from strategy.candles import candles_of, interval_start_ms
from strategy.events import CommandKind, Tick
from strategy.session import start, step
from strategy.state import SessionState
from tasks.clock import real_now_ms
from tasks.controls import control_sessions
from tasks.ledger.records import CandleRecord
from tasks.trading.session import day_plan
from tasks.trading.warmup import warmup_candles

pytestmark = [pytest.mark.timeout(900)]

MINUTE = 60
BEGAN_MS = ist_ms(dt.date(2026, 11, 20), dt.time(9, 57))
# Two whole minutes and a half, a price every ten seconds; the extremes of the last one come early.
PRICES = [24_000_00 + moved for moved in (0, 500, -300, 200, 100, 0, 50, 900, -800, 20, 10, 5, 0, 2_000, -1_500)]
TICKS = [(BEGAN_MS + number * 10_000, price) for number, price in enumerate(PRICES)]


@pytest.fixture
def crashed(hold):
    """A session of one-minute candles that died after the ticks given; its connections, at 10:00."""

    def after(ticks, *, candles=()):
        holder = hold(candle_seconds=MINUTE, htf_filter=False)
        security = holder.connections.index.security
        holder.ledger.record_ticks(
            holder.session_id, [Tick(at_ms=at_ms, security=security, price_paise=paise) for at_ms, paise in ticks]
        )
        holder.ledger.record_candles(
            CandleRecord(
                session_id=holder.session_id, seconds=MINUTE, start_ms=candle.start_ms, open_paise=candle.open_paise,
                high_paise=candle.high_paise, low_paise=candle.low_paise, close_paise=candle.close_paise,
                ticks=candle.ticks, supertrend=None, direction=0, macd=None, macd_signal=None,
            )
            for candle in candles
        )  # fmt: skip
        return holder.connections

    return after


def of_today(connections):
    begin_ms = ist_ms(connections.day, dt.time(9, 0))
    return tuple(candle for candle in warmup_candles(connections) if candle.start_ms >= begin_ms)


def test_the_open_candle_comes_back_from_the_recorded_ticks(crashed):
    whole = candles_of(TICKS, MINUTE)
    found = of_today(crashed(TICKS, candles=whole[:2]))
    assert found == whole
    assert (found[-1].open_paise, found[-1].high_paise, found[-1].low_paise) == (24_000_00, 24_020_00, 23_985_00)


def test_a_candle_that_the_ledger_has_is_taken_as_it_was(crashed):
    first, second, last = candles_of(TICKS, MINUTE)
    as_it_was = first._replace(high_paise=first.high_paise + 1_00)
    assert of_today(crashed(TICKS, candles=[as_it_was])) == (as_it_was, second, last)


def test_ticks_out_of_hours_of_the_future_and_out_of_order_make_no_other_candle(crashed):
    at_nine = (ist_ms(dt.date(2026, 11, 20), dt.time(9, 5)), 1_00)
    ahead = (ist_ms(dt.date(2026, 11, 20), dt.time(11, 0)), 24_000_00)
    # The third minute's first tick comes in the first minute: those between are not late by it.
    mixed = [at_nine, *TICKS[:5], TICKS[12], *TICKS[5:8], ahead, *TICKS[8:12], *TICKS[13:]]
    found = of_today(crashed(mixed))
    assert found == candles_of(TICKS, MINUTE)


def test_the_session_goes_on_with_the_candle_of_the_uninterrupted_one(crashed):
    """Each tick in turn is the first one after the restart."""
    connections = crashed(TICKS)
    plan, params = day_plan(connections), connections.params
    security = connections.index.security

    def heard(state, ticks):
        for at_ms, price_paise in ticks:
            state, _ = step(state, Tick(at_ms=at_ms, security=security, price_paise=price_paise), plan, params)
        return state

    fresh, _ = start(plan, params, at_ms=BEGAN_MS)
    assert isinstance(fresh, SessionState)
    uninterrupted = heard(fresh, TICKS)
    for cut in range(1, len(TICKS)):
        before = candles_of(TICKS[:cut], MINUTE)
        again, _ = start(plan, params, at_ms=TICKS[cut][0], warmup=before)
        resumed = heard(again, TICKS[cut:])
        assert resumed.spot.candle == uninterrupted.spot.candle
        assert resumed.signals.candle == uninterrupted.signals.candle


@pytest.mark.slow
def test_killed_in_mid_candle_and_started_again_the_candle_has_the_prices_of_before(begin):
    session = begin(speed=20, candle_seconds=900, macd_confirmation=False)
    security = "IDX_I:13"
    session.wait_for(lambda: len(session.ledger.tick_columns(session.session_id, security)[0]) > 60, "index ticks")
    session.process.send_signal(signal.SIGKILL)
    session.process.wait(30)
    # The dead process's lease would run for 30 s, in which this market would close the candle.
    key = session.ledger.key_of(session.session_id)
    session.ledger.leases.take_over(key, "test", real_now_ms(), ttl_s=0)
    before = candles_of(zip(*session.ledger.tick_columns(session.session_id, security), strict=True), 900)[-1]
    again = begin(candle_seconds=900)
    (closed,) = again.wait_for(lambda: again.ledger.candles(again.session_id, 900)[:1], "the candle's end")
    ticks = zip(*again.ledger.tick_columns(again.session_id, security), strict=True)
    of_it = [tick for tick in ticks if interval_start_ms(tick[0], 900) == closed.start_ms]
    (whole,) = candles_of(of_it, 900)
    assert (closed.start_ms, closed.open_paise) == (before.start_ms, before.open_paise)
    assert (closed.high_paise, closed.low_paise) == (whole.high_paise, whole.low_paise)
    assert whole.ticks > before.ticks > 60
    control_sessions(again.ledger, kind=CommandKind.STOP, reason="test", requested_by="test")
    again.end()
