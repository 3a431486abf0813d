"""Exits as a trader would tell them: each rule alone, each pair in the order of the rules, stops and trailing."""

import pytest

SCENARIOS = {
    "stop loss fires once, at the stop and not above it": """
        time          event     value         expect
        09:31:00      call      100.00        -
        09:31:05      tick      50.01         -
        09:31:06      tick      50.00         exit:stop_loss
        09:31:07      tick      40.00         -                 # an exit is already outstanding
        09:31:08      sold      49.50         -
    """,
    "the default settings arm the stop although trailing is off": """
        time          event     value         expect
        09:31:00      call      100.00        -
        09:31:05      tick      40.00         exit:stop_loss
    """,
    "with the shipped limits a lot of 65 loses the day before it reaches its stop": """
        with daily_max_loss=2000
        time          event     value         expect
        09:31:00      call      100.00        -
        09:31:05      tick      40.00         exit:daily_max_loss, halted:daily_max_loss
    """,
    "no stop, no exit": """
        with stop_loss_points=0, daily_max_loss=6000
        time          event     value         expect
        09:31:00      call      100.00        -
        09:31:05      tick      70.00         -
        09:31:06      tick      0.05          exit:daily_max_loss, halted:daily_max_loss
    """,
    "a stop below zero never fires": """
        with daily_max_loss=0
        time          event     value         expect
        09:31:00      call      40.00         -
        09:31:05      tick      0.05          -
    """,
    "target fires at the target and not below it": """
        with target_points=20
        time          event     value         expect
        09:31:00      call      100.00        -
        09:31:05      tick      119.99        -
        09:31:06      tick      120.00        exit:target
        09:31:07      tick      130.00        -
    """,
    "the loss per trade is measured in rupees": """
        with max_loss_per_trade=650
        time          event     value         expect
        09:31:00      call      100.00        -
        09:31:05      tick      90.01         -
        09:31:06      tick      90.00         exit:max_loss_per_trade
    """,
    "the daily loss closes and halts": """
        with daily_max_loss=1300
        time          event     value         expect
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
        time          event     value         expect
        09:31:00      call      100.00        -
        09:31:05      tick      90.00         exit:stop_loss
        09:31:06      sold      90.00         -
        09:32:00      call      100.00        -
        09:32:05      tick      90.05         alert:daily_loss_near
        09:32:06      tick      90.00         exit:daily_max_loss, halted:daily_max_loss
    """,
    "the daily loss counts what earlier trades won": """
        with daily_max_loss=650, target_points=20, stop_loss_points=50
        time          event     value         expect
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
        time          event     value         expect
        09:31:00      call      100.00        -
        09:31:05      tick      90.00         exit:stop_loss
        09:31:06      sold      80.00         halted:daily_max_loss
    """,
    "the daily loss is seen while another exit rests": """
        with daily_max_loss=1300, stop_loss_points=10
        time          event     value         expect
        09:31:00      call      100.00        -
        09:31:05      tick      90.00         exit:stop_loss
        09:31:06      tick      80.00         halted:daily_max_loss
        09:31:07      tick      70.00         -
    """,
    "order 1 before 2: daily loss, then loss per trade": """
        with daily_max_loss=650, max_loss_per_trade=650
        time          event     value         expect
        09:31:00      call      100.00        -
        09:31:05      tick      90.00         exit:daily_max_loss, halted:daily_max_loss
    """,
    "order 1 before 3: the day is lost although this trade is at its target": """
        with daily_max_loss=1300, target_points=5, stop_loss_points=30, max_trades_per_day=9
        time          event     value         expect
        09:31:00      call      100.00        -
        09:31:05      tick      80.00         exit:daily_max_loss, halted:daily_max_loss
    """,
    "order 1 before 4: daily loss, then stop": """
        with daily_max_loss=650, stop_loss_points=10
        time          event     value         expect
        09:31:00      call      100.00        -
        09:31:05      tick      90.00         exit:daily_max_loss, halted:daily_max_loss
    """,
    "order 2 before 4: loss per trade, then stop": """
        with max_loss_per_trade=650, stop_loss_points=10
        time          event     value         expect
        09:31:00      call      100.00        -
        09:31:05      tick      90.00         exit:max_loss_per_trade
    """,
    "order 3 before 4: the target, then a stop that trails above it": """
        with target_points=30, trail_start_points=10, trail_step_points=5, stop_loss_points=50
        time          event     value         expect
        09:31:00      call      100.00        -
        09:31:05      tick      129.00        stop:120.00
        09:31:06      tick      130.00        exit:target
    """,
    "trailing starts at its start and follows in steps": """
        with trail_start_points=10, trail_step_points=5
        time          event     value         expect
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
        time          event     value         expect
        09:31:00      call      100.00        -
        09:31:05      tick      110.00        stop:100.00
        09:31:06      tick      119.95        -
        09:31:07      tick      120.00        stop:110.00
        09:31:08      tick      110.00        exit:trailing_stop
    """,
    "a step larger than the start locks nothing below the entry": """
        with trail_start_points=10, trail_step_points=25
        time          event     value         expect
        09:31:00      call      100.00        -
        09:31:05      tick      110.00        stop:100.00
        09:31:06      tick      134.95        -
        09:31:07      tick      135.00        stop:110.00
    """,
    "trailing works without an initial stop": """
        with stop_loss_points=0, trail_start_points=10, trail_step_points=5
        time          event     value         expect
        09:31:00      call      100.00        -
        09:31:05      tick      80.00         -
        09:31:06      tick      110.00        stop:105.00
        09:31:07      tick      104.00        exit:trailing_stop
    """,
    "before the stop has moved its exit is a stop loss, trailing on or not": """
        with trail_start_points=10, trail_step_points=5
        time          event     value         expect
        09:31:00      call      100.00        -
        09:31:05      tick      109.00        -
        09:31:06      tick      50.00         exit:stop_loss
    """,
    "risk exits do not wait for the minimum hold or the cooldown": """
        with min_hold_seconds=600, order_cooldown_seconds=600
        time          event     value         expect
        09:31:00      call      100.00        -
        09:31:00.100  tick      50.00         exit:stop_loss
    """,
    "the price of another contract closes nothing and moves no stop": """
        with trail_start_points=10, trail_step_points=5
        time          event     value         expect
        09:31:00      call      100.00        -
        09:31:05      24500pe   10.00         -
        09:31:06      24550ce   150.00        -
        09:31:07      spot      24512.00      -
        09:31:08      tick      50.00         exit:stop_loss
    """,
    "a price that is none closes nothing": """
        time          event     value         expect
        09:31:00      call      100.00        -
        09:31:05      tick      0             alert:ticks_quarantined
        09:31:06      tick      -5            alert:ticks_quarantined
        09:31:07      tick      50.00         exit:stop_loss
    """,
    "the smallest price is one": """
        with daily_max_loss=6499
        time          event     value         expect
        09:31:00      call      100.00        -
        09:31:05      tick      0.01          exit:daily_max_loss, halted:daily_max_loss
    """,
    "a put is judged by its own premium": """
        time          event     value         expect
        09:31:00      put       100.00        -
        09:31:05      tick      50.00         exit:stop_loss
    """,
    "a reversal closes on the candle's close": """
        time          event     value         expect
        09:31:00      call      100.00        -
        09:31:14      tick      99.00         -
        09:31:15      spot      24512.00      -                 # closes 09:31:00; still up
        09:31:20      spot      24490.00      -                 # closes 09:31:15; still up
        09:31:25      spot      24480.00      exit:reversal     # closes 09:31:20: down
        09:31:26      spot      24470.00      -
    """,
    "a reversal waits for the minimum hold, then needs a candle that still disagrees": """
        with min_hold_seconds=15
        time          event     value         expect
        09:31:00      call      100.00        -
        09:31:05      spot      24490.00      -                 # closes 09:31:00, up
        09:31:10      spot      24480.00      refused:position_open   # closes 09:31:05: down, held 10 s
        09:31:15      spot      24470.00      exit:reversal     # closes 09:31:10: still down, held 15 s
    """,
    "a reversal that was over before the hold was does not close": """
        with min_hold_seconds=15
        time          event     value         expect
        09:31:00      call      100.00        -
        09:31:05      spot      24490.00      -
        09:31:10      spot      24520.00      refused:position_open   # down, but too early
        09:31:15      spot      24530.00      refused:position_open   # up again
        09:31:20      spot      24531.00      -
    """,
    "a put reverses when the trend turns up": """
        with min_hold_seconds=0
        time          event     value         expect
        09:31:00      put       100.00        -
        09:31:05      spot      24520.00      -
        09:31:10      spot      24521.00      exit:reversal
    """,
    "a risk exit outstanding is not repeated by a reversal": """
        with min_hold_seconds=0
        time          event     value         expect
        09:31:00      call      100.00        -
        09:31:04      tick      50.00         exit:stop_loss
        09:31:05      spot      24490.00      -
        09:31:10      spot      24480.00      refused:position_open
    """,
    "squareoff needs nothing but the clock": """
        time          event     value         expect
        15:09:00      call      100.00        -
        15:24:59      timer     -             alert:index_ticks_stale, poll
        15:25:00      timer     -             exit:squareoff
        15:25:01      timer     -             -
        15:25:02      sold      90.00         over:squareoff
    """,
    "after the squareoff hour a reversal has no say": """
        time          event     value         expect
        15:09:00      call      100.00        -
        15:24:55      spot      24400.00      -
        15:25:00      timer     -             exit:squareoff, poll      # nothing was heard of the call for minutes
        15:25:01      timer     -             refused:position_open     # the candle of 15:24:55 turned down
    """,
    "a stop that fires before the squareoff keeps its reason": """
        time          event     value         expect
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
