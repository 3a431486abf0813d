"""The summary for people says what the state holds."""

from strategy.view import view


def test_a_fresh_session_shows_nothing_it_does_not_know(rules):
    world = rules.World(rules.params())
    shown = view(world.state, world.plan)
    assert (shown.spot_paise, shown.candle, shown.supertrend_points, shown.direction) == (None, None, None, 0)
    assert (shown.positions, shown.trades_settled, shown.realised_gross_paise, shown.open_gross_paise) == ((), 0, 0, 0)
    assert shown.limits == (100_000_00, 5)
    assert not shown.over


def test_an_open_position_is_shown_with_its_stop_and_pnl(rules):
    world = rules.play("""
        with trail_start_points=10, trail_step_points=5
        09:31:00      call      100.00        -
        09:31:05      tick      112.00        stop:105.00
        09:31:06      halt      -             halted:operator, answer
        09:31:07      caution   ledger:on     -
    """)
    shown = view(world.state, world.plan)
    (position,) = shown.positions
    assert (position.trade, position.quantity, position.entry_paise, position.last_paise) == (1, 65, 100_00, 112_00)
    assert (position.stop_paise, position.stop_has_moved, position.closing) == (105_00, True, None)
    assert position.pnl_paise == shown.open_gross_paise == 65 * 12_00
    assert not position.entry_in_flight
    assert position.opened_ms == rules.at_ms("09:31:00")
    assert shown.at_ms == rules.at_ms("09:31:07")
    assert shown.spot_paise == 24_511_00
    assert (shown.direction, shown.candle.close_paise) == (1, 24_510_00)
    assert shown.entries_filled == 1
    assert (shown.halts, shown.cautions) == (("operator",), ("ledger",))
    assert dict(shown.refusals) == {"no_flip": 2}


def test_an_entry_in_flight_has_no_pnl_of_its_own(rules):
    world = rules.play("""
        09:31:00      spot      24500.00      -
        09:31:05      spot      24490.00      -
        09:31:10      spot      24510.00      -
        09:31:14      24500ce   100.00        -
        09:31:15      spot      24511.00      enter:24500CE
    """)
    (position,) = view(world.state, world.plan).positions
    assert position.entry_in_flight
    assert (position.quantity, position.entry_paise, position.stop_paise, position.pnl_paise) == (0, 0, None, 0)


def test_a_settled_day_is_shown_gross_and_net(rules):
    world = rules.play("""
        09:31:00      call      100.00        -
        09:31:05      tick      50.00         exit:stop_loss
        09:31:06      sold      49.00         -
        09:31:07      poison    nan           alert:ticks_quarantined
        09:31:08      stop      -             ...
        09:31:09      timer     -             over:stopped
    """)
    shown = view(world.state, world.plan)
    assert shown.realised_gross_paise == -51_00 * 65
    assert shown.realised_net_paise < shown.realised_gross_paise
    assert (shown.trades_settled, shown.entries_filled, shown.positions) == (1, 1, ())
    assert (shown.over, shown.ending) == (True, "halt")
    assert shown.faults.poisoned == 1


def test_a_position_without_a_price_shows_none(rules):
    world = rules.play("""
        09:31:00      call      100.00        -
        09:31:05      restart   -             -
    """)
    (position,) = view(world.state, world.plan).positions
    assert (position.last_paise, position.pnl_paise) == (None, None)
    assert view(world.state, world.plan).open_gross_paise == 0
