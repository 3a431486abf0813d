"""Entries: each refusal alone and by name, in the order of the rules; what is bought; the cooldowns; protections."""

from datetime import date
from itertools import pairwise

import pytest

from strategy.actions import Enter, EntryRefused, Watch
from strategy.entry import Refusal, session_refusal, signal_refusal
from strategy.instruments import OptionType, strike_for
from strategy.signals import no_signals

# 24500 -> 24490 turns the trend down at the close of the second candle, 24511 up at the close of the third.
SCENARIOS = {
    "up buys the call at the money, down the put": """
        with order_cooldown_seconds=0, min_hold_seconds=0
        09:31:00      spot      24500.00      -
        09:31:05      spot      24490.00      -                 # 1st candle closes: the first direction is down
        09:31:10      spot      24510.00      -                 # 2nd closes: down is no flip
        09:31:14      24500ce   100.00        -
        09:31:15      spot      24511.00      enter:24500CE     # 3rd closes: up
        09:31:16      bought    100.00        -
        09:31:19      24500pe   90.00         -
        09:31:20      spot      24480.00      -
        09:31:25      spot      24479.00      exit:reversal     # down: the exit first
        09:31:26      sold      95.00         enter:24500PE     # then, the cooldown allowing, the put
    """,
    "the clock closes a candle as well as a tick, after the grace": """
        09:31:00      spot      24500.00      -
        09:31:05      spot      24490.00      -
        09:31:10      spot      24510.00      -
        09:31:14      24500ce   100.00        -
        09:31:15.999  timer     -             -
        09:31:16      timer     -             enter:24500CE
        09:31:17      spot      24511.00      -                 # the candle was closed already
    """,
    "a longer grace waits longer": """
        with candle_grace_seconds=2.5
        09:31:00      spot      24500.00      -
        09:31:05      spot      24490.00      -
        09:31:10      spot      24510.00      -
        09:31:14      24500ce   100.00        -
        09:31:17.499  timer     -             -
        09:31:17.500  timer     -             enter:24500CE
    """,
    "a candle that the clock closes after a silence is no entry": """
        with candle_seconds=15
        09:31:00      spot      24500.00      -
        09:31:15      spot      24490.00      -
        09:31:30      spot      24510.00      -
        09:31:35      spot      24511.00      -
        09:31:44      24500ce   100.00        -
        09:31:46      timer     -             refused:ticks_stale, alert:index_ticks_stale
    """,
    "the same candle with a tick within the limit is one": """
        with candle_seconds=15
        09:31:00      spot      24500.00      -
        09:31:15      spot      24490.00      -
        09:31:30      spot      24510.00      -
        09:31:36      spot      24511.00      -
        09:31:44      24500ce   100.00        -
        09:31:46      timer     -             enter:24500CE
    """,
    "a flip without a quote of its contract buys nothing": """
        09:31:00      spot      24500.00      -
        09:31:05      spot      24490.00      -
        09:31:10      spot      24510.00      -
        09:31:14      24500pe   100.00        -
        09:31:15      spot      24511.00      refused:no_option_quote
    """,
    "a quote older than the staleness limit is no quote": """
        09:31:00      spot      24500.00      -
        09:31:04.999  24500ce   100.00        -
        09:31:05      spot      24490.00      -
        09:31:10      spot      24510.00      -
        09:31:15      spot      24511.00      refused:no_option_quote
    """,
    "a quote exactly as old as the limit is one": """
        09:31:00      spot      24500.00      -
        09:31:05      spot      24490.00      -
        09:31:05      24500ce   100.00        -
        09:31:10      spot      24510.00      -
        09:31:15      spot      24511.00      enter:24500CE
    """,
    "no entry before the start, one at the start": """
        09:24:44.999  spot      24500.00      -
        09:24:49.999  spot      24490.00      -
        09:24:50      spot      24510.00      -
        09:24:52      24500ce   100.00        -
        09:24:55      spot      24511.00      refused:before_entry_start
        09:24:57      spot      24490.00      -
        09:25:00      24500pe   100.00        -
        09:25:00      spot      24489.00      enter:24500PE
    """,
    "no entry from the cutoff on": """
        15:10:00      up        100.00        refused:after_entry_cutoff
    """,
    "the last millisecond before the cutoff is an entry": """
        15:09:59.999  up        100.00        enter:24500CE
    """,
    "entries switched off": """
        with entries_enabled=false
        09:31:15      up        100.00        refused:entries_disabled
    """,
    "a silence longer than the limit blocks the candle it ends": """
        09:31:00      spot      24500.00      -
        09:31:05      spot      24490.00      -
        09:31:10      spot      24510.00      -
        09:31:19      24500ce   100.00        -
        09:31:20.001  spot      24511.00      refused:ticks_stale
    """,
    "a silence of exactly the limit does not": """
        09:31:00      spot      24500.00      -
        09:31:05      spot      24490.00      -
        09:31:10      spot      24510.00      -
        09:31:19      24500ce   100.00        -
        09:31:20      spot      24511.00      enter:24500CE
    """,
    "at most so many trades": """
        with max_trades_per_day=1, stop_loss_points=10, order_cooldown_seconds=0
        09:31:00      call      100.00        -
        09:31:05      tick      90.00         exit:stop_loss
        09:31:06      sold      90.00         -
        09:31:25      down      100.00        refused:max_trades
    """,
    "an entry that never filled is no trade": """
        with max_trades_per_day=1, order_cooldown_seconds=0
        09:31:15      up        100.00        enter:24500CE
        09:31:16      entry-ended  CANCELLED  -
        09:31:25      down      100.00        enter:24500PE
    """,
    "an entry that filled in part is a trade": """
        with max_trades_per_day=1, order_cooldown_seconds=0, stop_loss_points=10, lots=2
        09:31:15      up        100.00        enter:24500CEx130
        09:31:16      buy       65@100.00     -
        09:31:17      entry-ended  PARTIALLY_FILLED  -
        09:31:18      tick      90.00         exit:stop_loss
        09:31:19      sold      90.00         -
        09:31:25      down      100.00        refused:max_trades
    """,
    "an order in flight blocks the next entry": """
        09:31:15      up        100.00        enter:24500CE
        09:31:20      spot      24480.00      -
        09:31:25      spot      24479.00      refused:order_in_flight
    """,
    "the cooldown counts from the last order, exit or entry": """
        with stop_loss_points=10, order_cooldown_seconds=15
        09:31:00      call      100.00        -
        09:31:05      tick      90.00         exit:stop_loss
        09:31:06      sold      90.00         -
        09:31:14      spot      24480.00      -
        09:31:15      24500pe   100.00        -
        09:31:15      spot      24470.00      refused:cooldown   # 10 s after the exit
        09:31:19      spot      24530.00      -
        09:31:19      24550ce   100.00        -
        09:31:20      spot      24531.00      enter:24550CE      # 15 s
    """,
    "the gap counts from the last entry that filled": """
        with stop_loss_points=10, order_cooldown_seconds=0, min_trade_gap_seconds=30
        09:31:00      call      100.00        -
        09:31:05      tick      90.00         exit:stop_loss
        09:31:06      sold      90.00         -
        09:31:24      spot      24480.00      -
        09:31:25      24500pe   100.00        -
        09:31:25      spot      24470.00      refused:trade_gap
        09:31:29      spot      24530.00      -
        09:31:29      24550ce   100.00        -
        09:31:30      spot      24531.00      enter:24550CE
    """,
    "a reversal's own candle is no entry while the cooldown runs": """
        with min_hold_seconds=0
        09:31:00      call      100.00        -
        09:31:25      down      100.00        exit:reversal
        09:31:26      sold      95.00         refused:cooldown
        09:31:26.100  timer     -             -                  # judged once
        09:31:27      timer     -             -
    """,
    "a reversal's own candle is given up when the next one closes": """
        with min_hold_seconds=0, order_cooldown_seconds=0
        09:31:00      call      100.00        -
        09:31:25      down      100.00        exit:reversal
        09:31:30      spot      24478.00      refused:position_open
        09:31:31      sold      95.00         -
    """,
    "a reversal's own candle is given up by another name once all is sold and the order not ended": """
        with min_hold_seconds=0, order_cooldown_seconds=0
        09:31:00      call      100.00        -
        09:31:25      down      100.00        exit:reversal
        09:31:26      sell      95.00         -
        09:31:30      spot      24478.00      refused:order_in_flight
        09:31:31      exit-ended  FILLED      -
    """,
    "a halt by the operator, lifted again": """
        09:31:00      spot      24500.00      -
        09:31:05      spot      24490.00      -
        09:31:10      halt      -             halted:operator, answer
        09:31:10      spot      24510.00      -
        09:31:14      24500ce   100.00        -
        09:31:15      spot      24511.00      refused:halted
        09:31:16      resume    -             resumed, answer
        09:31:25      down      100.00        enter:24500PE
    """,
    "a caution blocks while it lasts": """
        09:31:00      spot      24500.00      -
        09:31:05      spot      24490.00      -
        09:31:06      caution   ledger:on     -
        09:31:07      caution   broker:on     -
        09:31:08      caution   ledger:off    -
        09:31:10      spot      24510.00      -
        09:31:14      24500ce   100.00        -
        09:31:15      spot      24511.00      refused:caution
        09:31:16      caution   broker:off    -
        09:31:25      down      100.00        enter:24500PE
    """,
    "after a manual squareoff nothing is bought": """
        09:31:00      spot      24500.00      -
        09:31:05      spot      24490.00      -
        09:31:10      squareoff  -            answer, halted:manual_squareoff
        09:31:10      spot      24510.00      -
        09:31:14      24500ce   100.00        -
        09:31:15      spot      24511.00      refused:session_ending
    """,
    "without flip_only every candle along the trend may be an entry": """
        with flip_only=false, order_cooldown_seconds=0
        09:31:00      spot      24500.00      -
        09:31:01      24500pe   100.00        -
        09:31:05      spot      24490.00      enter:24500PE     # the first direction is down
        09:31:06      entry-ended  CANCELLED  -
        09:31:10      spot      24480.00      enter:24500PE
    """,
    "one strike out of the money": """
        with moneyness=1
        09:31:00      spot      24500.00      -
        09:31:05      spot      24490.00      -
        09:31:10      spot      24510.00      -
        09:31:14      24550ce   100.00        -
        09:31:15      spot      24511.00      enter:24550CE
    """,
    "one strike in the money": """
        with moneyness=-1
        09:31:00      spot      24500.00      -
        09:31:05      spot      24490.00      -
        09:31:10      spot      24510.00      -
        09:31:14      24450ce   100.00        -
        09:31:15      spot      24511.00      enter:24450CE
    """,
    "a strike that is not listed": """
        09:31:00      spot      26000.00      -
        09:31:05      spot      25990.00      -
        09:31:10      spot      26010.00      -
        09:31:15      spot      26011.00      refused:no_contract
    """,
    "risk sizes the entry down": """
        with lots=5, risk_per_trade=7000, stop_loss_points=50
        09:31:15      up        100.00        enter:24500CEx130    # floor(7000 / (50 x 65)) = 2 lots
    """,
    "risk never sizes an entry up": """
        with lots=1, risk_per_trade=70000
        09:31:15      up        100.00        enter:24500CE
    """,
    "too little risk money is no trade": """
        with risk_per_trade=3249.99
        09:31:15      up        100.00        refused:risk_too_small
    """,
    "just enough risk money is one lot": """
        with risk_per_trade=3250
        09:31:15      up        100.00        enter:24500CE
    """,
    "a spread wider than allowed": """
        with max_spread_percent=2
        09:31:15      up        100.00/98.99/101.01  refused:spread_too_wide
    """,
    "a spread exactly as wide as allowed": """
        with max_spread_percent=2
        09:31:15      up        100.00/99.00/101.00  enter:24500CE
    """,
    "an unknown spread where one is asked for": """
        with max_spread_percent=2
        09:31:15      up        100.00        refused:spread_unknown
    """,
    "a spread with one side missing is unknown": """
        with max_spread_percent=2
        09:31:15      up        100.00/0/100.05  refused:spread_unknown
        09:31:16      24500pe   100.00/99.95/0          -
        09:31:20      spot      24490.00                -
        09:31:25      spot      24489.00                refused:spread_unknown
    """,
    "two losses in a row pause entries": """
        with pause_after_losses=2, pause_minutes=5, stop_loss_points=10, order_cooldown_seconds=0
        09:31:00      call      100.00        -
        09:31:05      tick      90.00         exit:stop_loss
        09:31:06      sold      90.00         -
        09:32:00      call      100.00        -
        09:32:05      tick      90.00         exit:stop_loss
        09:32:06      sold      90.00         -
        09:37:05      down      100.00        refused:paused_after_losses
        09:37:06      spot      24530.00      -
        09:37:09      24550ce   100.00        -
        09:37:10      spot      24531.00      enter:24550CE
    """,
    "a win between two losses does not pause": """
        with pause_after_losses=2, pause_minutes=5, stop_loss_points=10, target_points=30
        09:31:00      call      100.00        -
        09:31:05      tick      90.00         exit:stop_loss
        09:31:06      sold      90.00         -
        09:32:00      call      100.00        -
        09:32:05      tick      130.00        exit:target
        09:32:06      sold      130.00        -
        09:33:00      call      100.00        -
        09:33:05      tick      90.00         exit:stop_loss
        09:33:06      sold      90.00         -
        09:34:00      call      100.00        -
    """,
    "so many stop losses end the day": """
        with stop_losses_per_day=2, stop_loss_points=10
        09:31:00      call      100.00        -
        09:31:05      tick      90.00         exit:stop_loss
        09:31:06      sold      90.00         -
        09:32:00      call      100.00        -
        09:32:05      tick      90.00         exit:stop_loss
        09:32:06      sold      90.00         halted:stop_losses
        09:32:07      resume    -             answer
        09:33:00      spot      24480.00      -
        09:33:05      spot      24479.00      refused:halted
    """,
    "a profit that falls back ends the day": """
        with profit_lock_from=1000, profit_lock_percent=50, stop_loss_points=20, target_points=20
        09:31:00      call      100.00        -
        09:31:05      tick      120.00        exit:target
        09:31:06      sold      120.00        -                  # net about 1220
        09:32:00      call      100.00        -
        09:32:05      tick      80.00         exit:stop_loss
        09:32:06      sold      90.00         halted:profit_lock # gave back about 700 of it, charges included
    """,
    "a restart goes on with the pause": """
        with pause_after_losses=1, pause_minutes=5, stop_loss_points=10, order_cooldown_seconds=0
        09:31:00      call      100.00        -
        09:31:05      tick      90.00         exit:stop_loss
        09:31:06      sold      90.00         -
        09:31:07      restart   -             -
        09:36:05.999  down      100.00        refused:paused_after_losses
        09:36:10      spot      24530.00      -
        09:36:14      24550ce   100.00        -
        09:36:15      spot      24531.00      enter:24550CE
    """,
    "a restart remembers the stop losses of the day": """
        with stop_losses_per_day=2, stop_loss_points=10
        09:31:00      call      100.00        -
        09:31:05      tick      90.00         exit:stop_loss
        09:31:06      sold      90.00         -
        09:31:07      restart   -             -
        09:32:00      call      100.00        -
        09:32:05      tick      90.00         exit:stop_loss
        09:32:06      sell      90.00         -
        09:32:06      restart   -             -
        09:32:07      exit-ended  FILLED      halted:stop_losses
        09:32:25      down      100.00        refused:halted
    """,
    "a restart remembers the day's best profit": """
        with profit_lock_from=1000, profit_lock_percent=50, stop_loss_points=20, target_points=20
        09:31:00      call      100.00        -
        09:31:05      tick      120.00        exit:target
        09:31:06      sold      120.00        -
        09:31:07      restart   -             -
        09:32:00      call      100.00        -
        09:32:05      tick      80.00         exit:stop_loss
        09:32:06      sold      90.00         halted:profit_lock
    """,
    "a profit below the lock may fall back": """
        with profit_lock_from=1300, profit_lock_percent=50, stop_loss_points=20, target_points=20
        09:31:00      call      100.00        -
        09:31:05      tick      120.00        exit:target
        09:31:06      sold      120.00        -
        09:32:00      call      100.00        -
        09:32:05      tick      80.00         exit:stop_loss
        09:32:06      sold      90.00         -
    """,
}


@pytest.mark.parametrize("name", SCENARIOS)
def test_entry(rules, name):
    """Every line of the table does what it says and nothing else."""
    rules.play(SCENARIOS[name])


def refused_for(world):
    return [action.reason for action in world.actions(EntryRefused)]


def turn_up(rules, world, clock="09:31:00", premium="100.00"):
    """Three candles whose last one turns up at `clock` + 15 s."""
    ms = rules.at_ms(clock)
    for after_ms, price in ((0, 24_500_00), (5_000, 24_490_00), (10_000, 24_510_00)):
        world.spot(ms + after_ms, price)
    world.tick(ms + 14_000, rules.contract(24_500, "CE").security, round(float(premium) * 100))
    return world.spot(ms + 15_000, 24_511_00)


def test_every_refusal_is_reachable_from_a_table_or_a_test():
    """No refusal is named that nothing here produces."""
    written = {
        line.split("refused:")[1].split()[0].rstrip(",")
        for table in SCENARIOS.values()
        for line in table.splitlines()
        if "refused:" in line
    }
    elsewhere = {
        "outside_hours",
        "direction_unknown",
        "no_flip",
        "macd_not_ready",
        "macd_against",
        "htf_not_ready",
        "htf_against",
        "daily_max_loss",
        "position_open",
    }
    assert written | elsewhere == {refusal.value for refusal in Refusal}


def test_every_candle_is_an_entry_or_counted_once(rules):
    """Refusals and entries add up to the candles that closed."""
    world = rules.play(SCENARIOS["up buys the call at the money, down the put"])
    assert dict(world.state.gate.refusals) == {"no_flip": 2, "position_open": 1}
    assert len(world.actions(Enter)) == 2  # of five candles; one was a reversal and entered later


def test_quiet_refusals_are_counted_and_not_said(rules):
    """EntryRefused is only for candles that asked for an entry."""
    world = rules.World(rules.params())
    turn_up(rules, world)
    assert refused_for(world) == []
    assert dict(world.state.gate.refusals) == {"no_flip": 2}


def test_direction_unknown_until_the_period_is_full(rules):
    world = rules.World(rules.params(supertrend_period=7))
    turn_up(rules, world)
    assert dict(world.state.gate.refusals) == {"direction_unknown": 3}


def test_macd_has_to_be_ready(rules):
    """Confirmation that cannot be given is not given."""
    world = rules.World(rules.params(macd_confirmation=True))
    turn_up(rules, world)
    assert refused_for(world) == ["macd_not_ready"]


@pytest.mark.parametrize(
    ("points", "expected"),
    [
        ((500, 490, 510), "enter:24500CE"),  # the averages turn up with the price
        ((900, 500, 545, 540), "refused:macd_against"),  # a small turn down, while the averages recover from a fall
    ],
)
def test_macd_has_to_agree(rules, points, expected):
    """Up needs the MACD line at or above its signal, down below it."""
    world = rules.World(rules.params(macd_confirmation=True, macd_fast=1, macd_slow=2, macd_signal=2))
    ms = rules.at_ms("09:31:00")
    for number, above in enumerate(points):
        world.spot(ms + number * 5_000, (24_000 + above) * 100)
    ms += len(points) * 5_000
    world.tick(ms - 1, rules.contract(24_500, "CE").security, 100_00)
    assert rules.render(world.spot(ms, (24_001 + points[-1]) * 100)) == expected


@pytest.mark.parametrize(
    ("direction", "macd", "signal", "expected"),
    [
        (1, 1.0, 1.0, None),
        (1, 0.9, 1.0, Refusal.MACD_AGAINST),
        (-1, 0.9, 1.0, None),
        (-1, 1.0, 1.0, Refusal.MACD_AGAINST),
    ],
)
def test_macd_equal_to_its_signal_counts_as_up(rules, direction, macd, signal, expected):
    params = rules.params(macd_confirmation=True)
    signals = no_signals(params)._replace(
        supertrend=(direction, 0.0, 0.0, 1.0, 0.0, 1), macd=(macd, signal, 0.0, 0.0, 0.0, 1), flipped=True
    )
    assert signal_refusal(signals, params) is expected


def test_the_higher_timeframe_has_to_be_ready(rules):
    world = rules.World(rules.params(htf_filter=True, htf_seconds=60))
    turn_up(rules, world)
    assert refused_for(world) == ["htf_not_ready"]


@pytest.mark.parametrize(
    ("minutes", "expected"),
    [
        ((24_500, 24_400, 24_300, 24_200, 24_500), "refused:htf_against"),  # down for minutes
        ((24_200, 24_300, 24_400, 24_450, 24_500), "enter:24500CE"),  # up for minutes
    ],
)
def test_the_higher_timeframe_has_to_agree(rules, minutes, expected):
    """A flip against the SuperTrend of the longer candles is refused."""
    world = rules.World(rules.params(htf_filter=True, htf_seconds=60))
    start = rules.at_ms("09:31:00")
    for number, points in enumerate(minutes):
        world.spot(start + number * 60_000, points * 100)
    base = start + len(minutes) * 60_000 - 45_000
    for after_ms, price in ((0, 24_500_00), (5_000, 24_490_00), (10_000, 24_510_00)):
        world.spot(base + after_ms, price)
    world.tick(base + 14_000, rules.contract(24_500, "CE").security, 100_00)
    assert rules.render(world.spot(base + 15_000, 24_511_00)) == expected


def test_the_clock_closes_the_longer_candle_too(rules):
    """A minute whose last part is silent counts from the end of its grace on, not from the next tick."""
    world = rules.World(rules.params(htf_filter=True, htf_seconds=60))
    ms = rules.at_ms("09:31:00")
    world.spot(ms, 24_500_00)
    world.timer(ms + 6_000)  # closes the base candle
    world.timer(ms + 60_999)
    assert world.state.signals.htf_direction == 0
    assert world.state.signals.htf_candle is not None
    world.timer(ms + 61_000)
    assert world.state.signals.htf_direction == -1
    assert world.state.signals.htf_candle is None


def test_a_base_candle_that_the_clock_closes_late_takes_its_minute_with_it(rules):
    world = rules.World(rules.params(htf_filter=True, htf_seconds=60))
    ms = rules.at_ms("09:31:00")
    world.spot(ms + 50_000, 24_500_00)
    world.timer(ms + 60_999)
    assert world.state.signals.htf_direction == 0
    world.spot(ms + 60_500, 24_501_00)
    assert world.state.signals.htf_direction == 0 or world.state.signals.candle.start_ms == ms + 50_000
    world.timer(ms + 66_000)
    assert world.state.signals.htf_direction == -1


def test_outside_hours_is_refused_by_name(rules):
    """The last candle of the first window of a two-window day is not an entry."""
    day = date(2024, 3, 2)
    params = rules.params(entry_start="09:15", order_cooldown_seconds=0)
    expiry = date(2024, 3, 7)
    chain = [
        rules.contract(strike, kind, expiry=expiry) for strike in (24_450, 24_500, 24_550) for kind in ("CE", "PE")
    ]
    world = rules.World(
        params, plan=rules.plan(params, day=day, contracts=chain), started_ms=rules.at_ms("09:14:00", day)
    )
    for clock, price in (("09:59:45", 24_500_00), ("09:59:50", 24_490_00), ("09:59:55", 24_510_00)):
        world.spot(rules.at_ms(clock, day), price)
    world.tick(rules.at_ms("09:59:59", day), rules.contract(24_500, "CE").security, 100_00)
    assert rules.render(world.timer(rules.at_ms("10:00:01", day))) == "refused:outside_hours"


def test_the_daily_loss_is_checked_at_entry_too(rules):
    """Even a state that lost its halt does not buy beyond the day's loss."""
    world = rules.play("""
        with daily_max_loss=1300, stop_loss_points=10, order_cooldown_seconds=0
        09:31:00      call      100.00        -
        09:31:05      tick      90.00         exit:stop_loss
        09:31:06      sold      80.00         halted:daily_max_loss
    """)
    world.state = world.state._replace(gate=world.state.gate._replace(halts=()))
    turn_up(rules, world, "09:32:00")
    assert refused_for(world)[-1] == "daily_max_loss"


def test_the_order_of_the_checks_is_the_order_of_their_names(rules):
    """With everything wrong at once, taking the reasons away one by one names the next one each time."""
    day_end = rules.at_ms("15:40:00")
    world = rules.play("""
        with daily_max_loss=1300, stop_loss_points=10, max_trades_per_day=1, order_cooldown_seconds=600, min_trade_gap_seconds=700, pause_after_losses=1, pause_minutes=300
        09:31:00      call      100.00        -
        09:31:05      tick      90.00         exit:stop_loss
        09:31:06      sold      80.00         halted:daily_max_loss
        09:31:07      caution   broker:on     -
        09:31:08      squareoff  -            answer, halted:manual_squareoff
    """)
    state, plan = world.state._replace(now_ms=day_end), world.plan
    params = world.params.model_copy(update={"entries_enabled": False})
    gap_ms = 60_000
    found = []

    def ask():
        found.append(session_refusal(state, plan, params, gap_ms=gap_ms))

    ask()
    state = state._replace(gate=state.gate._replace(ending=None))
    ask()
    state = state._replace(now_ms=rules.at_ms("09:20:00"))
    ask()
    state = state._replace(gate=state.gate._replace(halts=()))
    ask()
    state = state._replace(gate=state.gate._replace(cautions=()))
    ask()
    params = params.model_copy(update={"entries_enabled": True})
    ask()
    gap_ms = 0
    ask()
    state = state._replace(now_ms=rules.at_ms("15:11:00"))
    ask()
    state = state._replace(now_ms=rules.at_ms("09:32:00"))
    ask()
    state = state._replace(gate=state.gate._replace(limits=state.gate.limits._replace(max_trades_per_day=9)))
    ask()
    params = params.model_copy(update={"order_cooldown_seconds": 0})
    ask()
    params = params.model_copy(update={"min_trade_gap_seconds": 0})
    ask()
    state = state._replace(gate=state.gate._replace(limits=state.gate.limits._replace(daily_max_loss_paise=0)))
    ask()
    params = params.model_copy(update={"pause_after_losses": 0})
    ask()
    order = [refusal for refusal in Refusal if refusal not in {Refusal.POSITION_OPEN, Refusal.ORDER_IN_FLIGHT}]
    assert found == [*order[: order.index(Refusal.DIRECTION_UNKNOWN)], None]


def test_a_refusal_explains_itself(rules):
    """The candle is in every EntryRefused; halts and cautions where they are the reason."""
    for name, key, value in (
        ("a halt by the operator, lifted again", "halts", "operator"),
        ("a caution blocks while it lasts", "cautions", "broker"),
    ):
        (refused, *_) = rules.play(SCENARIOS[name]).actions(EntryRefused)
        assert refused.why.facts[key] == value
        assert refused.why.facts["candle_start_ms"] == rules.at_ms("09:31:10")
        assert refused.why.facts["flipped"] is True
        assert ({"halts", "cautions"} & refused.why.facts.keys()) == {key}
    (refused,) = rules.play(SCENARIOS["too little risk money is no trade"]).actions(EntryRefused)
    assert not {"halts", "cautions"} & refused.why.facts.keys()


def test_an_entry_explains_itself(rules):
    """Candle, indicators, prices and settings are in the Enter."""
    world = rules.World(rules.params())
    (enter,) = [action for action in turn_up(rules, world) if isinstance(action, Enter)]
    facts = enter.why.facts
    assert facts["candle_start_ms"] == rules.at_ms("09:31:10")
    assert facts["candle_close"] == 24_510.0
    assert facts["direction"] == 1
    assert facts["flipped"] is True
    assert facts["spot"] == 24_511.0
    assert facts["premium"] == 100.0
    assert (facts["strike_points"], facts["option_type"], facts["lots"]) == (24_500, "CE", 1)
    assert facts["supertrend_period"] == 1
    assert facts["stop_loss_points"] == 50.0
    assert facts["macd_confirmation"] is False


def test_an_entry_refers_to_the_ask(rules):
    """A buy is priced from the ask, or from the last price where there is none."""
    world = rules.World(rules.params())
    ms = rules.at_ms("09:31:00")
    for after_ms, price in ((0, 24_500_00), (5_000, 24_490_00), (10_000, 24_510_00)):
        world.spot(ms + after_ms, price)
    world.tick(ms + 14_000, rules.contract(24_500, "CE").security, 100_00, 99_00, 101_00)
    (enter,) = [action for action in world.spot(ms + 15_000, 24_511_00) if isinstance(action, Enter)]
    assert enter.reference_paise == 101_00


def test_the_wish_does_not_flap(rules):
    """An index that swings around the middle between two strikes asks for contracts once."""
    world = rules.World(rules.params())
    ms = rules.at_ms("09:31:00")
    for number in range(200):
        world.spot(ms + number * 500, 24_525_00 + (-1) ** number * 10_00)
    assert len(world.actions(Watch)) == 1


@pytest.mark.parametrize("way", [1, -1])
def test_the_wish_is_renewed_beyond_three_quarters_of_a_strike(rules, way):
    """At 37.50 points from the strike it stays, a paisa further it goes to the next strike, and stays there likewise."""
    world = rules.World(rules.params())
    points = (0, 37_50, 37_51, 50_00 - 37_50, 50_00 + 37_50, 50_00 - 37_51)
    for second, away in enumerate(points):
        world.spot(rules.at_ms("09:31:00") + second * 1000, 24_500_00 + way * away)
    middles = [sorted({contract.strike_points for contract in watch.contracts})[1] for watch in world.actions(Watch)]
    assert middles == [24_500, 24_500 + way * 50, 24_500]


def test_the_wish_is_a_call_and_a_put_with_a_strike_on_either_side(rules):
    """Counted from the strike that an entry would choose; what is not listed is left out."""
    world = rules.World(rules.params(moneyness=1))
    world.spot(rules.at_ms("09:31:00"), 24_500_00)
    wish = {(contract.strike_points, contract.option_type) for contract in world.actions(Watch)[0].contracts}
    assert wish == {(24_500, "CE"), (24_550, "CE"), (24_600, "CE"), (24_400, "PE"), (24_450, "PE"), (24_500, "PE")}
    edge = rules.World(rules.params())
    edge.spot(rules.at_ms("09:31:00"), 25_500_00)
    assert {contract.strike_points for contract in edge.actions(Watch)[0].contracts} == {25_450, 25_500}


def test_the_wish_always_holds_what_an_entry_would_choose(rules):
    """Wherever the index walks, the contract at the money is among the watched ones."""
    for moneyness in (-2, 0, 3):
        world = rules.World(rules.params(moneyness=moneyness))
        for number, price in enumerate(range(24_400_00, 24_700_00, 7_00)):
            world.spot(rules.at_ms("09:31:00") + number * 1000, price)
            for kind in OptionType:
                strike = strike_for(rules.index, price, moneyness, kind)
                assert rules.contract(strike, kind).security in world.watched
                assert len(world.watched) <= 6


def test_the_wish_keeps_what_is_held(rules):
    """The index may walk far away; the held contract is watched on."""
    world = rules.World(rules.params(min_hold_seconds=7200))
    entry = world.open_position(rules.at_ms("09:31:00"), "CE", 100_00)
    for number in range(40):
        world.spot(rules.at_ms("09:31:01") + number * 1000, 24_511_00 + number * 20_00)
        assert entry.contract.security in world.watched
    wishes = [set(watch.contracts) for watch in world.actions(Watch)]
    assert all(before != after for before, after in pairwise(wishes))


def test_ticks_of_contracts_nobody_asked_for_change_nothing(rules):
    world = rules.World(rules.params())
    world.spot(rules.at_ms("09:31:00"), 24_500_00)
    before = world.state
    assert world.tick(rules.at_ms("09:31:01"), rules.contract(25_000, "CE").security, 1_00) == ()
    assert world.state is before
