"""Market time in live and paper mode: anchored once, then even, whatever happens to the machine's clock."""

import pytest

from tasks.clock import real_now_ms, wall_clock


@pytest.mark.parametrize("hours", [-3, 2])
def test_market_time_does_not_jump_with_the_machines_clock(monkeypatch, hours):
    clock = wall_clock()
    before_ms = clock.now_ms()
    set_to_s = real_now_ms() / 1000 + hours * 3_600
    monkeypatch.setattr("tasks.clock.time.time", lambda: set_to_s)
    assert abs(real_now_ms() - before_ms) > 3_600_000
    assert 0 <= clock.now_ms() - before_ms < 60_000
