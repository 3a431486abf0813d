"""Exits as a trader would tell them: each rule alone, each pair in the order of the rules, stops and trailing."""

import pytest

from strategy.exits import exit_reason
from strategy.state import Limits

SCENARIOS = {
    "stop loss fires once, at the stop and not above it": """
        09:31:00      call      100.00        -
        09:31:05      tick      50.01         -
        09:31:06      tick      50.00         exit:stop_loss
        09:31:07      tick      40.00         -                 # an exit is already outstanding
        09:31:08      sold      49.50         -
    """,
    "the default settings arm the stop although trailing is off": """
        09:31:00      call      100.00        -
        09:31:05      tick      40.00         exit:stop_loss
    """,
    "with the shipped limits a lot of 65 loses the day before it reaches its stop": """
        with daily_max_loss=2000
        09:31:00      call      100.00        -
        09:31:05      tick      40.00         exit:daily_max_loss, halted:daily_max_loss
    """,
    "no stop, no exit": """
        with stop_loss_points=0, daily_max_loss=6000
        09:31:00      call      100.00        -
        09:31:05      tick      70.00         -
        09:31:06      tick      0.05          exit:daily_max_loss, halted:daily_max_loss
    """,
    "a stop below zero never fires": """
        with daily_max_loss=0
        09:31:00      call      40.00         -
        09:31:05      tick      0.05          -
    """,
    "target fires at the target and not below it": """
        with target_points=20
        09:31:00      call      100.00        -
        09:31:05      tick      119.99        -
        09:31:06      tick      120.00        exit:target
        09:31:07      tick      130.00        -
    """,
    "the loss per trade is measured in rupees": """
        with max_loss_per_trade=650
        09:31:00      call      100.00        -
        09:31:05      tick      90.01         -
        09:31:06      tick      90.00         exit:max_loss_per_trade
    """,
    "the daily loss closes and halts": """
        with daily_max_loss=1300
        09:31:00      call      100.00        -
        09:31:05      tick      84.01         -
        09:31:06      tick      84.00         alert:daily_loss_near
        09:31:07      tick      83.00         -                 # said once
        09:31:08      tick      80.01         -
        09:31:09      tick      80.00         exit:daily_max_loss, halted:daily_max_loss
        09:31:10      sold      80.00         -
    """,
    "the daily loss adds what earlier trades lost": """
        with daily_max_loss=1300, stop_loss_points=10
        09:31:00      call      100.00        -
        09:31:05      tick      90.00         exit:stop_loss
        09:31:06      sold      90.00         -
        09:32:00      call      100.00        -
        09:32:05      tick      90.05         alert:daily_loss_near
        09:32:06      tick      90.00         exit:daily_max_loss, halted:daily_max_loss
    """,
    "the daily loss counts what earlier trades won": """
        with daily_max_loss=650, target_points=20, stop_loss_points=50
        09:31:00      call      100.00        -
        09:31:05      tick      120.00        exit:target
        09:31:06      sold      120.00        -
        09:32:00      call      100.00        -
        09:32:05      tick      72.00         alert:daily_loss_near
        09:32:06      tick      70.05         -
        09:32:07      tick      70.00         exit:daily_max_loss, halted:daily_max_loss
    """,
    "a fill worse than the stop breaches the daily loss": """
        with daily_max_loss=1300, stop_loss_points=10
        09:31:00      call      100.00        -
        09:31:05      tick      90.00         exit:stop_loss
        09:31:06      sold      80.00         halted:daily_max_loss
    """,
    "the daily loss is seen while another exit rests": """
        with daily_max_loss=1300, stop_loss_points=10
        09:31:00      call      100.00        -
        09:31:05      tick      90.00         exit:stop_loss
        09:31:06      tick      80.00         halted:daily_max_loss
        09:31:07      tick      70.00         -
    """,
    "trailing starts at its start and follows in steps": """
        with trail_start_points=10, trail_step_points=5
        09:31:00      call      100.00        -
        09:31:05      tick      109.99        -
        09:31:06      tick      110.00        stop:105.00
        09:31:07      tick      114.99        -
        09:31:08      tick      115.00        stop:110.00
        09:31:09      tick      112.00        -                 # the stop stays
        09:31:10      tick      126.00        stop:120.00
        09:31:11      tick      120.05        -
        09:31:12      tick      120.00        exit:trailing_stop
    """,
    "a start equal to its step moves the stop to the entry": """
        with trail_start_points=10, trail_step_points=10
        09:31:00      call      100.00        -
        09:31:05      tick      110.00        stop:100.00
        09:31:06      tick      119.95        -
        09:31:07      tick      120.00        stop:110.00
        09:31:08      tick      110.00        exit:trailing_stop
    """,
    "a step larger than the start locks nothing below the entry": """
        with trail_start_points=10, trail_step_points=25
        09:31:00      call      100.00        -
        09:31:05      tick      110.00        stop:100.00
        09:31:06      tick      134.95        -
        09:31:07      tick      135.00        stop:110.00
    """,
    "trailing works without an initial stop": """
        with stop_loss_points=0, trail_start_points=10, trail_step_points=5
        09:31:00      call      100.00        -
        09:31:05      tick      80.00         -
        09:31:06      tick      110.00        stop:105.00
        09:31:07      tick      104.00        exit:trailing_stop
    """,
    "before the stop has moved its exit is a stop loss, trailing on or not": """
        with trail_start_points=10, trail_step_points=5
        09:31:00      call      100.00        -
        09:31:05      tick      109.00        -
        09:31:06      tick      50.00         exit:stop_loss
    """,
    "risk exits do not wait for the minimum hold or the cooldown": """
        with min_hold_seconds=600, order_cooldown_seconds=600
        09:31:00      call      100.00        -
        09:31:00.100  tick      50.00         exit:stop_loss
    """,
    "the price of another contract closes nothing and moves no stop": """
        with trail_start_points=10, trail_step_points=5
        09:31:00      call      100.00        -
        09:31:05      24500pe   10.00         -
        09:31:06      24550ce   150.00        -
        09:31:07      spot      24512.00      -
        09:31:08      tick      50.00         exit:stop_loss
    """,
    "a price that is none closes nothing": """
        09:31:00      call      100.00        -
        09:31:05      tick      0             alert:ticks_quarantined
        09:31:06      tick      -5            alert:ticks_quarantined
        09:31:07      tick      50.00         exit:stop_loss
    """,
    "the smallest price is one": """
        with daily_max_loss=6499
        09:31:00      call      100.00        -
        09:31:05      tick      0.01          exit:daily_max_loss, halted:daily_max_loss
    """,
    "a put is judged by its own premium": """
        09:31:00      put       100.00        -
        09:31:05      tick      50.00         exit:stop_loss
    """,
    "a reversal closes on the candle's close": """
        09:31:00      call      100.00        -
        09:31:14      tick      99.00         -
        09:31:15      spot      24512.00      -                 # closes 09:31:00; still up
        09:31:20      spot      24490.00      -                 # closes 09:31:15; still up
        09:31:25      spot      24480.00      exit:reversal     # closes 09:31:20: down
        09:31:26      spot      24470.00      -
    """,
    "a reversal waits for the minimum hold, then needs a candle that still disagrees": """
        with min_hold_seconds=15
        09:31:00      call      100.00        -
        09:31:05      spot      24490.00      -                 # closes 09:31:00, up
        09:31:10      spot      24480.00      refused:position_open   # closes 09:31:05: down, held 10 s
        09:31:15      spot      24470.00      exit:reversal     # closes 09:31:10: still down, held 15 s
    """,
    "a reversal that was over before the hold was does not close": """
        with min_hold_seconds=15
        09:31:00      call      100.00        -
        09:31:05      spot      24490.00      -
        09:31:10      spot      24520.00      refused:position_open   # down, but too early
        09:31:15      spot      24530.00      refused:position_open   # up again
        09:31:20      spot      24531.00      -
    """,
    "a put reverses when the trend turns up": """
        with min_hold_seconds=0
        09:31:00      put       100.00        -
        09:31:05      spot      24520.00      -
        09:31:10      spot      24521.00      exit:reversal
    """,
    "a risk exit outstanding is not repeated by a reversal": """
        with min_hold_seconds=0
        09:31:00      call      100.00        -
        09:31:04      tick      50.00         exit:stop_loss
        09:31:05      spot      24490.00      -
        09:31:10      spot      24480.00      refused:position_open
    """,
    "squareoff needs nothing but the clock": """
        15:09:00      call      100.00        -
        15:24:59      timer     -             alert:index_ticks_stale, poll
        15:25:00      timer     -             exit:squareoff
        15:25:01      timer     -             -
        15:25:02      sold      90.00         over:squareoff
    """,
    "after the squareoff hour a reversal has no say": """
        15:09:00      call      100.00        -
        15:24:55      spot      24400.00      -
        15:25:00      timer     -             exit:squareoff, poll      # nothing was heard of the call for minutes
        15:25:01      timer     -             refused:position_open     # the candle of 15:24:55 turned down
    """,
    "a stop that fires before the squareoff keeps its reason": """
        15:09:00      call      100.00        -
        15:24:59      tick      40.00         exit:stop_loss
        15:25:00      timer     -             alert:index_ticks_stale
        15:25:01      exit-ended  CANCELLED   alert:exit_failed
        15:25:02      timer     -             exit:stop_loss
    """,
}


@pytest.mark.parametrize("name", SCENARIOS)
def test_exit(rules, name):
    """Every line of the table does what it says and nothing else."""
    rules.play(SCENARIOS[name])


# 65 bought at 100.00 under daily_max_loss=1000, max_loss_per_trade=500 and target_points=20. Each row: the day's P&L in
# rupees, what was sold before (units @ price), the price now and the stop ("t": it has moved); then the reasons that
# hold, in the order in which they win. Rows with a gain beside a loss cannot come from one price path alone: an earlier
# part was sold, or another trade lost the day.
ORDER = """
    -1000  -      99.00   -       daily_max_loss
    -999   -      92.30   -       max_loss_per_trade
    -999   -      120.00  -       target
    -999   -      95.00   95.00   stop_loss
    -999   -      95.00   95.00t  trailing_stop
    -999   -      95.05   95.00   -
    -1000  -      92.30   -       daily_max_loss, max_loss_per_trade
    -1000  -      120.00  -       daily_max_loss, target
    -1000  -      95.00   95.00   daily_max_loss, stop_loss
    -999   45@80  120.00  -       max_loss_per_trade, target
    -999   -      92.30   92.30   max_loss_per_trade, stop_loss
    -999   -      120.00  120.00t target, trailing_stop
    -1000  45@80  120.00  120.00t daily_max_loss, max_loss_per_trade, target, trailing_stop
"""
SWITCHED_BY = {"max_loss_per_trade": "max_loss_per_trade", "target": "target_points"}


@pytest.mark.parametrize("line", ORDER.strip().splitlines())
def test_the_first_reason_that_holds_wins(rules, line):
    """And with each winner switched off in turn the next one does: so all of them did hold."""
    day_pnl, sold, price, stop, expected = line.split(maxsplit=4)
    world = rules.World(rules.params())
    world.open_position(rules.at_ms("09:31:00"), "CE", 100_00)
    units, sold_at = (0, 0) if sold == "-" else map(int, sold.split("@"))
    (position,) = world.state.book.positions
    position = position._replace(
        held=65 - units,
        cost_paise=65 * 100_00 - units * sold_at * 100,
        stop_paise=0 if stop == "-" else round(float(stop.rstrip("t")) * 100),
        trailed=stop.endswith("t"),
    )
    limit_paise, settings = 1_000_00, {"max_loss_per_trade": 500, "target_points": 20}
    for reason in [*expected.split(", "), None] if expected != "-" else [None]:
        found = exit_reason(
            position,
            round(float(price) * 100),
            day_pnl_paise=int(day_pnl) * 100,
            limits=Limits(limit_paise, 5),
            params=rules.params(**settings),
        )
        assert found == reason
        if reason == "daily_max_loss":
            limit_paise = 0
        elif reason in SWITCHED_BY:
            del settings[SWITCHED_BY[reason]]
        else:
            position = position._replace(stop_paise=0)
