"""Orders, commands, silence and restarts as a trader would tell them."""

import re
from dataclasses import replace
from datetime import date
from pathlib import Path

import pytest

from strategy.actions import Adopt, Alert, Answered, Enter, Exit, Explanation, Halted, PollQuote, Severity, StopMoved
from strategy.events import Command, CommandKind, Fill, Outcome, Side
from strategy.history import History, PastIntent, UnknownPosition
from strategy.session import trades
from strategy.view import view

SCENARIOS = {
    # Orders
    "an entry that fills after 40 seconds is a position with a stop": """
        09:31:15      up        100.00        enter:24500CE
        09:31:55      buy       100.00        -
        09:31:55      entry-ended  FILLED     -
        09:31:56      tick      50.00         exit:stop_loss
    """,
    "75 of 150 filled and the rest cancelled: the position is 75": """
        with lots=2
        09:31:15      up        100.00        enter:24500CEx130
        09:31:16      buy       75@100.00     -
        09:31:20      entry-ended  PARTIALLY_FILLED  -
        09:31:21      tick      50.00         exit:stop_lossx75
        09:31:22      sold      49.00         -
    """,
    "an exit stops the entry's remainder; what fills late is sold too, once": """
        with lots=2
        09:31:15      up        100.00        enter:24500CEx130
        09:31:16      buy       65@100.00     -
        09:31:17      tick      50.00         cancel, exit:stop_loss
        09:31:18      buy       30@99.00      exit:stop_lossx30
        09:31:19      tick      45.00         -
        09:31:20      entry-ended  PARTIALLY_FILLED  -
        09:31:21      sold      45.00         -
        09:31:22      timer     -             -
    """,
    "an exit that is refused is sent again, later each time": """
        09:31:00      call      100.00        -
        09:31:05      tick      50.00         exit:stop_loss
        09:31:06      exit-ended  REJECTED    alert:exit_failed
        09:31:06.999  timer     -             -
        09:31:07      timer     -             exit:stop_loss           # 1 s
        09:31:08      exit-ended  CANCELLED   alert:exit_failed
        09:31:09.999  timer     -             -
        09:31:10      timer     -             exit:stop_loss           # 2 s
        09:31:11      exit-ended  CANCELLED   alert:exit_failed
        09:31:14.999  timer     -             ...
        09:31:15      timer     -             exit:stop_loss, poll     # 4 s
        09:31:16      exit-ended  CANCELLED   alert:exit_failed
        09:31:23.999  timer     -             ...
        09:31:24      timer     -             exit:stop_loss           # 8 s
        09:31:25      exit-ended  CANCELLED   alert:exit_failed
        09:31:40.999  timer     -             ...
        09:31:41      timer     -             exit:stop_loss           # 16 s
        09:31:42      exit-ended  CANCELLED   alert:exit_failed
        09:32:11.999  timer     -             ...
        09:32:12      timer     -             exit:stop_loss           # 30 s
        09:32:13      exit-ended  CANCELLED   alert:exit_failed
        09:32:42.999  timer     -             ...
        09:32:43      timer     -             exit:stop_loss           # 30 s, and so on
        09:32:44      sold      49.00         -
    """,
    "an exit that fills in part leaves the rest to the next one": """
        09:31:00      call      100.00        -
        09:31:05      tick      50.00         exit:stop_loss
        09:31:06      sell      40@49.00      -
        09:31:07      exit-ended  PARTIALLY_FILLED  alert:exit_failed
        09:31:08      timer     -             exit:stop_lossx25
        09:31:09      sold      48.00         -
    """,
    "said to be filled without its fills: alarm, and no second sale": """
        09:31:00      call      100.00        -
        09:31:05      tick      50.00         exit:stop_loss
        09:31:06      exit-ended  FILLED      alert:fills_missing
        09:31:09      tick      40.00         -
        09:31:10      timer     -             -
    """,
    "a stop is hit while the entry still waits: the loop does not wait with it": """
        with lots=2
        09:31:15      up        100.00        enter:24500CEx130
        09:31:16      buy       65@100.00     -
        09:31:16.100  tick      50.00         cancel, exit:stop_loss
    """,
    "a rejected entry is said and forgotten": """
        09:31:15      up        100.00        enter:24500CE
        09:31:16      entry-ended  REJECTED   alert:entry_rejected
        09:31:17      timer     -             -
    """,
    # Squareoff and the end
    "the squareoff hour cancels an entry in flight and sells what it filled": """
        with lots=2
        15:09:55      up        100.00        enter:24500CEx130
        15:24:00      buy       65@100.00     -
        15:25:00      timer     -             cancel, exit:squareoff, alert:index_ticks_stale, poll
        15:25:01      buy       10@100.00     exit:squareoffx10
        15:25:02      sold      99.00         -
        15:25:03      entry-ended  PARTIALLY_FILLED  over:squareoff
    """,
    "a flat day ends at the squareoff hour": """
        15:24:59      timer     -             alert:index_ticks_stale
        15:25:00      timer     -             over:squareoff
        15:25:01      timer     -             -
    """,
    "what cannot be sold before the close is said, and the session ends": """
        15:09:00      call      100.00        -
        15:25:00      timer     -             exit:squareoff, alert:index_ticks_stale, poll
        15:39:58      exit-ended  CANCELLED   alert:exit_failed
        15:39:59      timer     -             exit:squareoff, poll, alert:held_contract_silent
        15:40:00      timer     -             -                         # an order is still in flight
        15:40:01      exit-ended  CANCELLED   alert:held_after_close, over:market closed, alert:exit_failed
        15:40:30      timer     -             -
    """,
    "no exit is sent at the close or after it": """
        15:09:00      call      100.00        -
        15:25:00      timer     -             exit:squareoff, alert:index_ticks_stale, poll
        15:39:59      exit-ended  CANCELLED   alert:exit_failed
        15:40:00      timer     -             alert:held_after_close, over:market closed
    """,
    "an exit that sold everything did not fail, whatever its end is called": """
        09:31:00      call      100.00        -
        09:31:05      tick      50.00         exit:stop_loss
        09:31:06      sell      65@49.00      -
        09:31:07      exit-ended  PARTIALLY_FILLED  -
    """,
    # Commands
    "squareoff closes, is answered once flat, and nothing is bought any more": """
        09:31:00      call       100.00       -
        09:31:05      squareoff  -            exit:manual, halted:manual_squareoff
        09:31:06      squareoff  -            -
        09:31:07      sold       99.00        answer, answer
        09:31:08      resume     -            answer
        09:31:25      down      100.00        refused:session_ending
    """,
    "squareoff with nothing held is answered at once": """
        09:31:05      squareoff  -            answer, halted:manual_squareoff
    """,
    "squareoff while an entry is in flight": """
        09:31:15      up        100.00        enter:24500CE
        09:31:16      squareoff  -            cancel, halted:manual_squareoff
        09:31:17      buy        100.00       exit:manual
        09:31:17      entry-ended  FILLED     -
        09:31:18      sold       99.00        answer
    """,
    "halt stops entries, also the one in flight, and leaves exits to their rules": """
        with lots=2
        09:31:15      up        100.00        enter:24500CEx130
        09:31:16      buy       65@100.00     -
        09:31:17      halt      -             cancel, halted:operator, answer
        09:31:18      entry-ended  PARTIALLY_FILLED  -
        09:31:19      tick      51.00         -
        09:31:20      tick      50.00         exit:stop_loss
        09:31:21      halt      -             answer                    # it is halted already
    """,
    "stop closes and ends the session": """
        09:31:00      call      100.00        -
        09:31:05      stop      -             exit:halt
        09:31:06      timer     -             -
        09:31:07      sold      99.00         answer, over:stopped
    """,
    "told to leave, it ends with what it holds": """
        09:31:00      call      100.00        -
        09:31:01      timer     -             -
        09:31:05      leave     -             alert:handed_over, over:handed over, answer
    """,
    "told to leave while buying, it cancels first": """
        with lots=2
        09:31:15      up        100.00        enter:24500CEx130
        09:31:16      timer     -             -
        09:31:17      leave     -             cancel, answer
        09:31:18      buy       65@100.00     -
        09:31:19      entry-ended  PARTIALLY_FILLED  alert:handed_over, over:handed over
    """,
    "an entry that cannot be cancelled holds the end up for ten seconds only": """
        09:31:15      up        100.00        enter:24500CE
        09:31:16      timer     -             -
        09:31:17      leave     -             cancel, answer
        09:31:26.999  timer     -             alert:index_ticks_stale
        09:31:27      timer     -             alert:handed_over, over:handed over
    """,
    "told to leave with nothing held, it ends": """
        09:31:00      timer     -             alert:index_ticks_stale
        09:31:05      leave     -             over:stopped, answer
    """,
    "stop with nothing held ends at once": """
        09:31:00      timer     -             alert:index_ticks_stale
        09:31:05      stop      -             answer, over:stopped
    """,
    "resume does not lift the day's loss": """
        with daily_max_loss=650
        09:31:00      call      100.00        -
        09:31:05      tick      90.00         exit:daily_max_loss, halted:daily_max_loss
        09:31:06      sold      90.00         -
        09:31:07      halt      -             halted:operator, answer
        09:31:08      resume    -             resumed, answer
        09:31:25      down      100.00        refused:halted
    """,
    "resume with nothing to lift": """
        09:31:07      resume    -             answer
    """,
    "limits can be lowered and not raised": """
        with daily_max_loss=2000, max_trades_per_day=5
        09:31:00      tighten   loss=2000.01           refused-command
        09:31:01      tighten   trades=6               refused-command
        09:31:02      tighten   loss=0                 refused-command
        09:31:03      tighten   trades=-1              refused-command
        09:31:04      tighten   loss=1000,trades=6     refused-command
        09:31:05      tighten   none=1                 refused-command
        09:31:06      tighten   loss=1500              limits:1500.00/5, answer
        09:31:07      tighten   trades=1               limits:1500.00/1, answer
        09:31:08      tighten   loss=1500,trades=1     limits:1500.00/1, answer
        09:31:09      tighten   loss=1500.01           refused-command
        09:31:10      tighten   trades=0               limits:1500.00/0, answer
    """,
    "a limit that was off can be set": """
        with daily_max_loss=0
        09:31:00      tighten   loss=500      limits:500.00/5, answer
    """,
    "a lowered daily loss acts at once": """
        09:31:00      call      100.00        -
        09:31:05      tick      90.00         -
        09:31:06      tighten   loss=650.01   limits:650.01/5, answer
        09:31:07      tighten   loss=650      exit:daily_max_loss, halted:daily_max_loss, limits:650.00/5, answer
    """,
    "a lowered trade count acts at the next signal": """
        with stop_loss_points=10, order_cooldown_seconds=0
        09:31:00      call      100.00        -
        09:31:05      tick      90.00         exit:stop_loss
        09:31:06      sold      90.00         -
        09:31:07      tighten   trades=1      limits:100000.00/1, answer
        09:31:25      down      100.00        refused:max_trades
    """,
    # Silence
    "a silent index is said once per silence": """
        09:31:00      spot      24500.00      -
        09:31:10      timer     -             -
        09:31:10.001  timer     -             alert:index_ticks_stale
        09:31:11      timer     -             -
        09:31:12      spot      24501.00      -
        09:31:13      timer     -             -
        09:31:22.001  timer     -             refused:ticks_stale, alert:index_ticks_stale
    """,
    "before the open nobody expects ticks": """
        09:14:30      timer     -             -
        09:15:10      timer     -             -
        09:15:10.001  timer     -             alert:index_ticks_stale
    """,
    "a silent option is asked for, once per limit; unanswered is critical": """
        09:31:00      call      100.00        -
        09:31:05      spot      24512.00      -
        09:31:09.999  timer     -             -
        09:31:10      timer     -             poll
        09:31:11      timer     -             -
        09:31:12      tick      99.00         -
        09:31:21.999  timer     -             ...
        09:31:22      timer     -             poll
        09:31:31.999  timer     -             -
        09:31:32      timer     -             poll, alert:held_contract_silent
        09:31:42      timer     -             poll
        09:31:43      tick      99.00         -
        09:31:53      timer     -             poll
        09:32:03      timer     -             poll, alert:held_contract_silent
    """,
    "an answer in the moment of the request is an answer": """
        09:31:00      call      100.00        -
        09:31:05      spot      24512.00      -
        09:31:10      timer     -             poll
        09:31:10      tick      99.00         -
        09:31:14      spot      24512.00      -
        09:31:20      timer     -             poll              # the first again
        09:31:24      spot      24512.00      -
        09:31:30      timer     -             poll, alert:held_contract_silent
    """,
    "a silence that ends with the position is forgotten": """
        with order_cooldown_seconds=0
        09:31:00      call      100.00        -
        09:31:05      spot      24512.00      -
        09:31:10      timer     -             poll
        09:31:11      squareoff  -            ...
        09:31:12      sold      99.00         answer
        09:31:13      timer     -             -
        09:31:14      timer     -             -
    """,
    "an answered poll runs the exits": """
        09:31:00      call      100.00        -
        09:31:10      timer     -             poll
        09:31:10.300  tick      50.00         exit:stop_loss
    """,
    # Bad ticks
    "bad ticks are counted, said at the first, second, fourth, and change nothing": """
        09:31:00      spot      24500.00      -
        09:31:01      spot      30000.00      alert:ticks_quarantined
        09:31:01      spot      0             alert:ticks_quarantined
        09:31:01      poison    nan           -
        09:31:01      spot      -5            alert:ticks_quarantined
        09:31:02      timer     -             -
        09:31:02      spot      24501.00      -
        09:31:02      spot      24501.00      -
    """,
    "a wrong first tick is not believed for ever: ten later ones that agree are": """
        09:31:00      spot      2450000.00    -                 # a slip of two digits
        09:31:01      spot      24500.00      alert:ticks_quarantined
        09:31:02      spot      24501.00      alert:ticks_quarantined
        09:31:02      spot      24501.00      -                 # sent again: proves nothing
        09:31:03      spot      24502.00      alert:ticks_quarantined
        09:31:04      spot      24503.00      -
        09:31:05      spot      24504.00      -
        09:31:06      spot      24505.00      -
        09:31:07      spot      24504.00      alert:ticks_quarantined
        09:31:08      spot      24503.00      -
        09:31:09      spot      24502.00      -
        09:31:10      spot      24500.00      alert:index_level_changed     # the tenth
        09:31:15      spot      24490.00      -
        09:31:20      spot      24510.00      -
        09:31:24      24500ce   100.00        -
        09:31:25      spot      24511.00      enter:24500CE     # three candles of the new level, as at any start
    """,
    "one tick at the old level and the leaps count anew": """
        09:31:00      spot      24500.00      -
        09:31:01      spot      50000.00      alert:ticks_quarantined
        09:31:02      spot      50000.00      alert:ticks_quarantined
        09:31:03      spot      50000.00      -
        09:31:04      spot      50000.00      alert:ticks_quarantined
        09:31:05      spot      50000.00      -
        09:31:06      spot      50000.00      -
        09:31:07      spot      50000.00      -
        09:31:08      spot      50000.00      alert:ticks_quarantined
        09:31:09      spot      50000.00      -
        09:31:10      spot      24500.00      -
        09:31:11      spot      50000.00      -                 # the first again
    """,
    "a position lives through a change of level by its own price": """
        09:31:00      call      100.00        -
        09:31:01      spot      50000.00      alert:ticks_quarantined
        09:31:02      spot      50000.00      alert:ticks_quarantined
        09:31:03      spot      50000.00      -
        09:31:04      spot      50000.00      alert:ticks_quarantined
        09:31:05      spot      50000.00      -
        09:31:06      spot      50000.00      -
        09:31:07      spot      50000.00      -
        09:31:08      spot      50000.00      alert:ticks_quarantined
        09:31:09      spot      50000.00      -
        09:31:10      spot      50000.00      alert:index_level_changed
        09:31:11      spot      50000.00      -                 # no reversal: no direction is known
        09:31:12      tick      50.01         -
        09:31:13      tick      50.00         exit:stop_loss
    """,
    "a tick from the future moves no clock": """
        09:31:00      timer     -             alert:index_ticks_stale
        09:31:00      spot      24500.00      -
        09:31:10.001  spot      24510.00      alert:ticks_quarantined
        15:26:00      spot      24510.00      alert:ticks_quarantined
        09:31:10      spot      24510.00      -
        09:31:02      spot      24500.00      -                 # late: counted, not said
        09:31:01      timer     -             -
    """,
    "an option's clock does not matter, its price does": """
        09:31:00      call      100.00        -
        09:31:01      timer     -             -
        15:26:00      tick      60.00         -                 # taken, and the hour not believed
        09:31:02      timer     -             -
        09:31:03      tick      50.00         exit:stop_loss
    """,
    # Restarts
    "a restart goes on with the position, its stop and its trade count": """
        with trail_start_points=10, trail_step_points=5, max_trades_per_day=1, order_cooldown_seconds=0
        09:31:00      call      100.00        -
        09:31:05      tick      112.00        stop:105.00
        09:31:06      restart   -             -
        09:31:07      tick      105.05        -
        09:31:08      tick      105.00        exit:trailing_stop
        09:31:09      restart   -             -
        09:31:10      sold      104.00        -
        09:31:25      down      100.00        refused:max_trades
    """,
    "a restart remembers the day's loss": """
        with daily_max_loss=650
        09:31:00      call      100.00        -
        09:31:05      tick      90.00         exit:daily_max_loss, halted:daily_max_loss
        09:31:06      sold      90.00         -
        09:31:07      restart   -             -
        09:31:08      resume    -             answer
        09:31:25      down      100.00        refused:halted
    """,
    "a loss that no halt was written for halts at the start": """
        with daily_max_loss=1300, stop_loss_points=10
        09:31:00      call      100.00        -
        09:31:05      tick      90.00         exit:stop_loss
        09:31:06      sell      80.00         -
        09:31:06      restart   -             halted:daily_max_loss
        09:31:07      exit-ended  FILLED      -
    """,
    "a restart does not forget an operator's halt, nor that it was lifted": """
        09:31:00      halt      -             halted:operator, answer
        09:31:01      restart   -             -
        09:31:02      resume    -             resumed, answer
        09:31:03      restart   -             -
        09:31:04      resume    -             answer
    """,
    "a restart keeps lowered limits": """
        09:31:00      tighten   loss=500,trades=2   limits:500.00/2, answer
        09:31:01      restart   -                 -
        09:31:02      tighten   loss=600          refused-command
        09:31:03      tighten   trades=3          refused-command
        09:31:04      tighten   trades=1          limits:500.00/1, answer
    """,
    "a restart with an exit in flight sends no second one": """
        09:31:00      call      100.00        -
        09:31:05      tick      50.00         exit:stop_loss
        09:31:06      restart   -             -
        09:31:07      timer     -             -
        09:31:08      tick      40.00         -
        09:31:09      exit-ended  CANCELLED   alert:exit_failed
        09:31:10      timer     -             exit:stop_loss
        09:31:11      sold      39.00         -
    """,
    "a restart with an entry in flight takes its fill": """
        09:31:15      up        100.00        enter:24500CE
        09:31:16      restart   -             -
        09:31:17      bought    100.00        -
        09:31:18      tick      50.00         exit:stop_loss
    """,
    "a restart in the middle of a manual squareoff finishes it": """
        09:31:00      call       100.00       -
        09:31:05      squareoff  -            exit:manual, halted:manual_squareoff
        09:31:06      exit-ended  REJECTED    alert:exit_failed
        09:31:06      restart    -            -
        09:31:07      timer      -            exit:manual
    """,
    "a restart after the squareoff hour still closes": """
        15:09:00      call      100.00        -
        15:26:00      restart   -             -
        15:26:01      timer     -             exit:squareoff
        15:26:02      sold      99.00         over:squareoff
    """,
    "a session started after the cutoff with nothing open is over": """
        09:31:00      spot      24500.00      -
        15:11:00      restart   -             -
        15:11:01      timer     -             over:started after the entry cutoff
    """,
    "a session started after the cutoff closes what it finds first": """
        15:09:00      call      100.00        -
        15:11:00      restart   -             -
        15:11:01      timer     -             -
        15:11:02      tick      50.00         exit:stop_loss
        15:11:03      sold      49.00         over:started after the entry cutoff
    """,
}


@pytest.mark.parametrize("name", SCENARIOS)
def test_session(rules, name):
    """Every line of the table does what it says and nothing else."""
    rules.play(SCENARIOS[name])


def test_there_are_at_least_sixty_scenarios():
    """Counted over the three tables of scenarios, so that nobody thins them out unseen."""
    here = Path(__file__).parent
    tables = re.compile(r"^    \".+\": \"\"\"$", re.MULTILINE)
    count = sum(len(tables.findall(path.read_text())) for path in here.glob("test_*_scenarios.py"))
    assert count >= 110


def test_a_failed_exit_is_a_critical_alert_with_the_brokers_words(rules):
    world = rules.play("""
        09:31:00      call      100.00        -
        09:31:05      tick      50.00         exit:stop_loss
    """)
    (live,) = world.live_of(Exit)
    (alert,) = world.end(rules.at_ms("09:31:06"), live, Outcome.REJECTED, "RMS: margin exceeded")
    assert (alert.kind, alert.severity) == ("exit_failed", Severity.CRITICAL)
    assert "RMS: margin exceeded" in alert.message
    assert "65 units still held" in alert.message
    assert alert.message.endswith("sent again in 1 s")


def test_a_daily_loss_halt_is_critical_and_an_operators_is_not(rules):
    world = rules.play("""
        with daily_max_loss=650
        09:31:00      call      100.00        -
        09:31:05      tick      90.00         exit:daily_max_loss, halted:daily_max_loss
        09:31:07      halt      -             halted:operator, answer
    """)
    severities = [alert.severity for alert in world.actions(Alert) if alert.kind == "halted"]
    assert severities == [Severity.CRITICAL, Severity.INFO]


def test_commands_are_answered_with_what_happened(rules):
    world = rules.play("""
        09:31:00      call       100.00       -
        09:31:05      squareoff  -            exit:manual, halted:manual_squareoff
        09:31:07      sold       99.00        answer
    """)
    (answer,) = world.actions(Answered)
    assert answer.answer == "flat; trades settled today: 1, gross -65.00 rupees"
    assert answer.command_id == f"squareoff-{rules.at_ms('09:31:05')}"


def test_what_operators_are_told(rules):
    """Each answer says what is so now, or what was expected."""
    world = rules.World(rules.params(daily_max_loss=2000))
    ms = rules.at_ms("09:31:00")

    def ask(kind, loss=None, count=None):
        said = world.send(
            Command(
                at_ms=ms,
                command_id=f"c{len(world.log)}",
                kind=CommandKind(kind),
                daily_max_loss_paise=loss,
                max_trades_per_day=count,
            )
        )
        return [action.answer for action in said if isinstance(action, Answered)]

    assert ask("resume") == ["there was no halt to lift"]
    assert ask("halt") == ["halted: no new entries; exits go on"]
    assert ask("resume") == ["resumed: entries are possible again"]
    assert ask("tighten") == ["refused: name a limit to lower"]
    assert ask("tighten", loss=0) == ["refused: daily_max_loss must be above 0"]
    assert ask("tighten", loss=2000_01, count=6) == [
        "refused: daily_max_loss is 2000.00 rupees and can only be lowered; max_trades_per_day is 5 and can only be lowered"
    ]
    assert ask("tighten", count=-1) == ["refused: max_trades_per_day must not be negative"]
    assert ask("tighten", loss=1) == ["limits lowered for the rest of the day"]
    assert ask("tighten", loss=2) == ["refused: daily_max_loss is 0.01 rupees and can only be lowered"]
    assert ask("squareoff") == ["flat; trades settled today: 0, gross 0.00 rupees"]
    assert ask("halt") == ["halted: no new entries; exits go on"]
    assert ask("resume") == ["still halted for the day: manual_squareoff"]
    assert world.actions(Halted)[0].reason == "operator"


def said_of(world, kind):
    return [(alert.severity, alert.message) for alert in world.actions(Alert) if alert.kind == kind]


def test_what_is_said_of_silence(rules):
    world = rules.play("""
        09:31:00      call      100.00        -
        09:31:10      timer     -             poll
        09:31:21      timer     -             alert:index_ticks_stale, poll, alert:held_contract_silent
    """)
    assert said_of(world, "index_ticks_stale") == [
        (Severity.WARNING, "no tick of NIFTY for 21 s; no entries until they are back")
    ]
    assert said_of(world, "held_contract_silent") == [
        (
            Severity.CRITICAL,
            (
                "no price of NIFTY 23 NOV 24500 CE for 21 s, not even on request; its stop cannot work. "
                "Look at the position at the broker"
            ),
        )
    ]
    (position,) = world.state.book.positions
    assert [poll.contract for poll in world.actions(PollQuote)] == [position.contract] * 2
    assert world.state.silence.polls == 2
    world.send(Command(at_ms=rules.at_ms("09:31:22"), command_id="c", kind=CommandKind.SQUAREOFF))
    (live,) = world.live_of(Exit)
    world.fill(rules.at_ms("09:31:22"), live, 65, 99_00)
    world.end(rules.at_ms("09:31:22"), live, Outcome.FILLED)
    world.timer(rules.at_ms("09:31:23"))
    assert (world.state.silence.polls, world.state.silence.polled_ms) == (0, 0)


def test_what_is_said_of_losses(rules):
    world = rules.play("""
        with daily_max_loss=1300
        09:31:00      call      100.00        -
        09:31:06      tick      83.50         alert:daily_loss_near
        09:31:09      tick      80.00         exit:daily_max_loss, halted:daily_max_loss
    """)
    assert said_of(world, "daily_loss_near") == [
        (Severity.WARNING, "the day stands at -1072.50 rupees; the limit is -1300.00")
    ]
    assert said_of(world, "halted") == [(Severity.CRITICAL, "no entries from now on: daily_max_loss")]


def test_a_moved_stop_says_by_which_price(rules):
    """And a restart goes on from there."""
    world = rules.play("""
        with trail_start_points=10, trail_step_points=5
        09:31:00      call      100.00        -
        09:31:05      tick      112.00        stop:105.00
        09:31:06      tick      114.00        -
        09:31:06      restart   -             -
        09:31:07      tick      115.00        stop:110.00
    """)
    (moved,) = world.actions(StopMoved)
    assert (moved.trade, moved.stop_paise, moved.best_paise) == (1, 110_00, 115_00)
    assert world.history.stops[0].best_paise == 112_00
    (position,) = world.state.book.positions
    assert (position.best_paise, position.trailed) == (115_00, True)


def test_what_is_said_of_bad_ticks(rules):
    world = rules.World(rules.params())
    world.timer(rules.at_ms("09:31:00"))
    for price in (24_500_00, 30_000_00, 0):
        world.spot(rules.at_ms("09:31:00"), price)
    world.spot(rules.at_ms("09:32:00"), 24_500_00)
    world.spot(rules.at_ms("09:32:00"), 24_500_00)
    texts = [alert.message for alert in world.actions(Alert) if alert.kind == "ticks_quarantined"]
    assert texts == [
        "1 ticks not used today: 0 not a price, 1 leaps of more than 20 %, 0 ahead of the clock",
        "2 ticks not used today: 1 not a price, 1 leaps of more than 20 %, 0 ahead of the clock",
        "4 ticks not used today: 1 not a price, 1 leaps of more than 20 %, 2 ahead of the clock",
    ]


def test_what_is_said_of_a_new_level(rules):
    world = rules.play(SCENARIOS["a wrong first tick is not believed for ever: ten later ones that agree are"])
    text = "the index is at 24500.00 in tick after tick; 2450000.00 before was an error. Its indicators begin anew"
    assert said_of(world, "index_level_changed") == [(Severity.CRITICAL, text)]


def test_a_command_that_waited_learns_that_the_market_closed(rules):
    world = rules.play(
        """
        15:09:00      call       100.00       -
        15:39:58      stop       -            exit:halt
        15:40:01      exit-ended  CANCELLED   alert:exit_failed
        15:40:02      timer      -            alert:index_ticks_stale, alert:held_after_close, answer, over:market closed
    """.replace("alert:index_ticks_stale, ", "")
    )
    (answer,) = world.actions(Answered)
    assert answer.answer.startswith("not flat: 65 units of NIFTY 23 NOV 24500 CE are held and the market is closed")


def test_an_exit_explains_itself(rules):
    """Reason, prices, stop, P&L, candle and the settings that applied are in the Exit."""
    world = rules.play("""
        with trail_start_points=10, trail_step_points=5
        09:31:00      call      100.00        -
        09:31:05      tick      112.00        stop:105.00
        09:31:08      tick      104.50/104.00/105.00        exit:trailing_stop
    """)
    (exit_,) = world.actions(Exit)
    assert exit_.reference_paise == 104_00  # the bid
    facts = exit_.why.facts
    assert (facts["entry"], facts["premium"], facts["stop"]) == (100.0, 104.5, 105.0)
    assert facts["stop_has_moved"] is True
    assert facts["position_pnl"] == 4.5 * 65
    assert facts["day_pnl"] == 4.5 * 65
    assert (facts["trail_start_points"], facts["trail_step_points"], facts["attempt"]) == (10.0, 5.0, 1)
    assert facts["direction"] == 1


def test_a_daily_loss_exit_names_the_limit_in_force(rules):
    world = rules.play("""
        09:31:00      call      100.00        -
        09:31:06      tighten   loss=650      limits:650.00/5, answer
        09:31:07      tick      90.00         exit:daily_max_loss, halted:daily_max_loss
    """)
    (exit_,) = world.actions(Exit)
    assert exit_.why.facts["daily_max_loss"] == 650.0


def test_a_retry_counts_its_attempts(rules):
    world = rules.play("""
        09:31:00      call      100.00        -
        09:31:05      tick      50.00         exit:stop_loss
        09:31:06      exit-ended  REJECTED    alert:exit_failed
        09:31:07      timer     -             exit:stop_loss
    """)
    assert [exit_.why.facts["attempt"] for exit_ in world.actions(Exit)] == [1, 2]
    assert [exit_.intent for exit_ in world.actions(Exit)] == [2, 3]
    assert {exit_.trade for exit_ in world.actions(Exit)} == {1}


def late_fill_world(rules, **settings):
    """An entry that was said to be cancelled."""
    world = rules.World(rules.params(order_cooldown_seconds=0, **settings))
    ms = rules.at_ms("09:31:00")
    for after_ms, price in ((0, 24_500_00), (5_000, 24_490_00), (10_000, 24_510_00)):
        world.spot(ms + after_ms, price)
    world.tick(ms + 14_000, rules.contract(24_500, "CE").security, 100_00)
    world.spot(ms + 15_000, 24_511_00)
    (live,) = world.live_of(Enter)
    world.end(ms + 16_000, live, Outcome.CANCELLED)
    assert world.state.is_flat
    return world, live, ms


def test_a_fill_after_the_end_is_a_position_all_the_same(rules):
    """Nothing is orphaned: the late fill is held, watched and stopped like any other."""
    world, live, ms = late_fill_world(rules)
    assert rules.render(world.fill(ms + 17_000, live, 65, 100_00)) == "alert:late_fill"
    assert world.held == 65
    assert live.action.contract.security in world.watched
    said = world.tick(ms + 18_000, live.action.contract.security, 50_00)
    assert rules.render(said) == "exit:stop_loss"


def test_a_fill_after_the_end_goes_when_another_trade_is_open(rules):
    """Two trades at once are not part of the rules; the unexpected one is sold, the other goes on."""
    world, late, ms = late_fill_world(rules)
    world.tick(ms + 19_000, rules.contract(24_500, "PE").security, 100_00)
    world.spot(ms + 20_000, 24_480_00)
    assert rules.render(world.spot(ms + 25_000, 24_479_00)) == "enter:24500PE"
    (second,) = world.live_of(Enter)
    world.fill(ms + 26_000, second, 65, 100_00)
    world.end(ms + 26_000, second, Outcome.FILLED)
    said = world.fill(ms + 27_000, late, 65, 100_00)
    assert rules.render(said) == "exit:unknown_position, alert:late_fill"
    assert world.held == 130
    (exit_,) = world.live_of(Exit)
    assert exit_.action.contract.option_type == "CE"
    assert rules.render(world.tick(ms + 28_000, rules.contract(24_500, "PE").security, 50_00)) == "exit:stop_loss"


def test_a_late_fill_takes_its_trade_up_where_it_was(rules):
    """A settled trade with money in it is opened again whole: nothing is counted twice, and one trade comes of it."""
    world = rules.play("""
        with order_cooldown_seconds=0, target_points=20
        09:31:15      up        100.00        enter:24500CE
        09:31:16      buy       40@100.00     -
    """)
    (late,) = world.live_of(Enter)
    ms = rules.at_ms("09:31:17")
    world.end(ms, late, Outcome.PARTIALLY_FILLED)
    world.tick(ms, late.action.contract.security, 120_00)
    (exit_,) = world.live_of(Exit)
    world.fill(ms, exit_, 40, 120_00)
    world.end(ms, exit_, Outcome.FILLED)
    assert (world.state.is_flat, world.state.book.realised_paise) == (True, 800_00)
    # Its trade was being sold for the target, so what comes late is sold for it too.
    assert rules.render(world.fill(ms + 1, late, 25, 100_00)) == "exit:targetx25, alert:late_fill"
    assert (world.state.book.settled, world.state.book.realised_paise) == ((), 0)
    assert view(world.state, world.plan).open_gross_paise == 800_00 + 25 * 20_00
    (again,) = world.live_of(Exit)
    world.fill(ms + 2, again, 25, 110_00)
    world.end(ms + 2, again, Outcome.FILLED)
    (trade,) = trades(world.state, world.plan)
    assert (trade.quantity, trade.gross_paise) == (65, 800_00 + 250_00)
    assert world.state.book.realised_paise == trade.gross_paise


def test_what_is_said_of_orders(rules):
    """In full, with the contract's name, and as loud as it is."""
    name = "NIFTY 23 NOV 24500 CE"
    world, late, ms = late_fill_world(rules)
    world.fill(ms + 17_000, late, 65, 100_00)
    assert said_of(world, "late_fill") == [
        (Severity.CRITICAL, f"{name}: an order filled 65 units after it was said to have ended")
    ]
    world.tick(ms + 18_000, late.action.contract.security, 50_00)
    (live,) = world.live_of(Exit)
    world.end(ms + 19_000, live, Outcome.FILLED)
    assert said_of(world, "fills_missing") == [
        (Severity.CRITICAL, f"{name}: the order is said to be filled, but 65 units of its fills are missing")
    ]
    world.fill(ms + 20_000, live, 70, 50_00)
    assert said_of(world, "oversold") == [
        (
            Severity.CRITICAL,
            (
                f"5 units of {name} more were sold than bought; the account may be short. "
                "Compare the positions at the broker"
            ),
        )
    ]
    stray = Fill(at_ms=ms + 21_000, intent=77, side=Side.BUY, quantity=65, value_paise=1)
    world.send(stray)
    assert said_of(world, "unknown_fill") == [
        (
            Severity.CRITICAL,
            f"a fill of an intent this session never had: {stray}. Compare the positions at the broker",
        )
    ]


def test_what_is_said_of_an_entry_that_was_refused(rules):
    world = rules.play("""
        09:31:15      up        100.00        enter:24500CE
        09:31:16      entry-ended  REJECTED   alert:entry_rejected
    """)
    text = "NIFTY 23 NOV 24500 CE: the entry was refused: no reason given"
    assert said_of(world, "entry_rejected") == [(Severity.WARNING, text)]


def test_what_is_said_at_the_close(rules):
    world = rules.play(SCENARIOS["no exit is sent at the close or after it"])
    text = "the market is closed and 65 units of NIFTY 23 NOV 24500 CE are still held; they cannot be sold today"
    assert said_of(world, "held_after_close") == [(Severity.CRITICAL, text)]


def test_two_trades_in_one_contract_are_judged_each(rules):
    """The late trade goes; the other, in the same contract, still has its own stop."""
    world, late, ms = late_fill_world(rules)
    for after_ms, price in ((20_000, 24_490_00), (25_000, 24_488_00), (30_000, 24_510_00)):
        world.spot(ms + after_ms, price)
    world.tick(ms + 34_000, late.action.contract.security, 100_00)
    assert rules.render(world.spot(ms + 35_000, 24_511_00)) == "enter:24500CE"
    (second,) = world.live_of(Enter)
    world.fill(ms + 36_000, second, 65, 100_00)
    world.end(ms + 36_000, second, Outcome.FILLED)
    assert rules.render(world.fill(ms + 37_000, late, 65, 90_00)) == "exit:unknown_position, alert:late_fill"
    assert rules.render(world.tick(ms + 38_000, late.action.contract.security, 50_00)) == "exit:stop_loss"
    assert world.held == 130


def test_the_daily_loss_counts_and_closes_every_trade_that_is_open(rules):
    world, late, ms = late_fill_world(rules, daily_max_loss=3000, stop_loss_points=0)
    world.tick(ms + 19_000, rules.contract(24_500, "PE").security, 100_00)
    world.spot(ms + 20_000, 24_480_00)
    world.spot(ms + 25_000, 24_479_00)
    (second,) = world.live_of(Enter)
    world.fill(ms + 26_000, second, 65, 100_00)
    world.end(ms + 26_000, second, Outcome.FILLED)
    world.fill(ms + 27_000, late, 65, 100_00)
    assert rules.render(world.tick(ms + 28_000, rules.contract(24_500, "PE").security, 80_00)) == "-"
    said = world.tick(ms + 29_000, rules.contract(24_500, "CE").security, 70_00)  # -1300 and -1950
    assert rules.render(said) == "exit:daily_max_loss, halted:daily_max_loss"
    assert {live.action.contract.option_type for live in world.live_of(Exit)} == {"CE", "PE"}


def test_a_fill_after_the_end_is_sold_when_the_session_is_ending(rules):
    world, late, ms = late_fill_world(rules)
    world.timer(rules.at_ms("15:24:59"))
    world.send(Command(at_ms=ms + 17_000, command_id="c", kind=CommandKind.SQUAREOFF))
    assert rules.render(world.fill(rules.at_ms("15:25:00"), late, 65, 100_00)) == "exit:manual, alert:late_fill"


def test_a_fill_of_nobodys_intent_stops_entries(rules):
    world = rules.World(rules.params())
    said = world.send(Fill(at_ms=1, intent=77, side=Side.BUY, quantity=65, value_paise=1))
    assert rules.render(said) == "alert:unknown_fill, halted:unknown_position"
    assert world.state.is_flat


def test_more_sold_than_held_stops_entries_and_is_never_sold_again(rules):
    world = rules.play("""
        09:31:00      call      100.00        -
        09:31:05      tick      50.00         exit:stop_loss
        09:31:06      sell      65@50.00      -
        09:31:07      sell      5@50.00       alert:oversold, halted:oversold
        09:31:08      timer     -             -
        09:31:09      exit-ended  FILLED      -
        09:31:10      timer     -             -
    """)
    assert world.state.is_flat
    assert [halt.reason for halt in world.actions(Halted)] == ["oversold"]


@pytest.mark.parametrize(
    ("policy", "said", "later"),
    [
        ("halt", "alert:unknown_position, halted:unknown_position", "-"),
        ("adopt", "alert:unknown_position, adopt:65", "-"),
        ("flatten", "alert:unknown_position, adopt:65", "exit:unknown_position"),
    ],
)
def test_an_unknown_position_is_treated_by_the_setting(rules, policy, said, later):
    stranger = rules.contract(24_000, "PE")
    history = History(unknown=(UnknownPosition(contract=stranger, quantity=65, value_paise=65 * 80_00),))
    world = rules.World(rules.params(on_unknown_position=policy), history=history, started_ms=rules.at_ms("10:00:00"))
    assert rules.render(world.log[0][1]) == said
    assert rules.render(world.timer(rules.at_ms("10:00:01"))) == later
    assert (stranger.security in world.watched) == (policy != "halt")
    if policy == "adopt":
        assert rules.render(world.tick(rules.at_ms("10:00:02"), stranger.security, 30_00)) == "exit:stop_loss"


def test_adopted_positions_are_trades_like_any_other(rules):
    """Numbers go on, nothing is mixed up, and a second start reads them back from the ledger."""
    strangers = tuple(
        UnknownPosition(contract=rules.contract(strike, "PE"), quantity=quantity, value_paise=value_paise)
        for strike, quantity, value_paise in ((24_000, 65, 65 * 80_00 + 7), (24_100, 130, 130 * 90_00))
    )
    ms = rules.at_ms("10:00:00")
    params = rules.params(on_unknown_position="adopt")
    world = rules.World(params, history=History(unknown=strangers), started_ms=ms)
    why = Explanation(facts={"on_unknown_position": "adopt"})
    assert world.actions(Adopt) == [
        Adopt(
            at_ms=ms,
            intent=number,
            trade=number,
            contract=found.contract,
            quantity=found.quantity,
            value_paise=found.value_paise,
            why=why,
        )
        for number, found in enumerate(strangers, start=1)
    ]
    first, second = world.state.book.positions
    assert (first.held, first.cost_paise, first.stop_paise, first.opened_ms) == (65, 65 * 80_00 + 7, 30_00, ms)
    assert (second.held, second.cost_paise, second.entry.reference_paise) == (130, 130 * 90_00, 90_00)
    assert (first.entry.decided_at_ms, first.entry.reference_paise, first.entry.why) == (ms, 80_00, why)
    assert not first.is_in_flight
    assert (world.state.book.last_intent, world.state.book.last_trade) == (2, 2)
    (exit_,) = world.tick(ms + 1_000, strangers[0].contract.security, 20_00)
    assert (exit_.intent, exit_.trade, exit_.quantity) == (3, 1, 65)


def test_an_exit_without_its_entry_is_refused_at_the_start(rules):
    """A ledger that contradicts itself is a reason to stop, not to guess."""
    world = rules.play("""
        09:31:00      call      100.00        -
        09:31:05      tick      50.00         exit:stop_loss
    """)
    (exit_,) = world.actions(Exit)
    with pytest.raises(ValueError, match="exit intent 2 is of trade 1, which has no entry"):
        rules.World(rules.params(), history=History(intents=(PastIntent(decided=exit_),)))


def test_the_days_loss_ends_the_day_also_when_its_exit_fills_better_and_the_halt_was_never_written(rules):
    """Killed between the exit's commit and the record of the halt: what the exit was for is known from the exit."""
    world = rules.play("""
        with daily_max_loss=650
        09:31:00      call      100.00        -
        09:31:05      tick      90.00         exit:daily_max_loss, halted:daily_max_loss
        09:31:06      sold      95.00         -
    """)
    history = replace(world.past(), halts=())
    again = rules.World(rules.params(daily_max_loss=650), history=history, started_ms=rules.at_ms("09:31:10"))
    assert rules.render(again.log[0][1]) == "halted:daily_max_loss"
    assert again.state.gate.halts == ("daily_max_loss",)


def test_two_days_in_one_process(rules):
    """The second day begins as any day does: no halt, no loss, no trade and no number of the first is left."""
    first = rules.play("""
        with daily_max_loss=650
        09:31:00      call      100.00        -
        09:31:05      tick      90.00         exit:daily_max_loss, halted:daily_max_loss
        09:31:06      sold      90.00         -
    """)
    day, expiry = date(2026, 11, 20), date(2026, 11, 23)
    chain = [
        rules.contract(strike, kind, expiry=expiry) for strike in range(24_300, 24_750, 50) for kind in ("CE", "PE")
    ]
    plan = rules.plan(first.params, day=day, contracts=chain, at="09:00:00")
    second = rules.World(first.params, plan=plan, started_ms=rules.at_ms("09:14:59", day))
    entry = second.open_position(rules.at_ms("09:31:00", day), "CE", 100_00)
    assert (entry.intent, entry.trade) == (1, 1)
    shown = view(second.state, plan)
    assert (shown.halts, shown.realised_gross_paise, shown.entries_filled) == ((), 0, 1)


def test_start_times(rules):
    """Started at 09:14:59, 09:15:30, 09:16 or 11:00, the same signal is the same entry; nothing of another day is kept."""
    for clock in ("09:14:59", "09:15:30", "09:16:00", "11:00:00"):
        world = rules.World(rules.params(), started_ms=rules.at_ms(clock))
        ms = rules.at_ms("11:31:00")
        for after_ms, price in ((0, 24_500_00), (5_000, 24_490_00), (10_000, 24_510_00)):
            world.spot(ms + after_ms, price)
        world.tick(ms + 14_000, rules.contract(24_500, "CE").security, 100_00)
        assert rules.render(world.spot(ms + 15_000, 24_511_00)) == "enter:24500CE"
