"""The broker and its feed misbehave, and the process is killed as well: the day still ends whole."""

import pytest

from .stage import SHORT, Kill, Play

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

SECOND_ORDER = {"at": {"call": "place_order", "nth": 2}}
FROM_THE_SECOND_MINUTE = {"at": {"market_time": "14:41:00"}}
# Every fault of the simulator, at a moment at which it hurts.
FAULTS = {
    "reply_lost": {**SECOND_ORDER, "hold_s": 0.5},
    "reset_before": SECOND_ORDER,
    "reset_after": SECOND_ORDER,
    "bad_gateway": {**SECOND_ORDER, "accepted": True},
    "server_error": {**SECOND_ORDER, "accepted": True},
    "empty_202": SECOND_ORDER,
    "slow_drip": {**SECOND_ORDER, "drip_s": 0.002},
    "rate_storm": {**SECOND_ORDER, "times": 3},
    "ip_refused": {**SECOND_ORDER, "times": 2},
    "data_plan_lost": {**FROM_THE_SECOND_MINUTE, "for_s": 30},
    "token_death": SECOND_ORDER,
    "second_token": {**SECOND_ORDER, "times": 2},
    "reject": {**SECOND_ORDER, "times": 2},
    "partial_fill": {**SECOND_ORDER, "times": 3},
    "never_fills": {"at": {"call": "place_order", "nth": 1}},
    "fill_after_cancel": {"at": {"call": "place_order", "nth": 1}},
    "cancel_fill_race": {"at": {"call": "place_order", "nth": 1}},
    "slow_transit": {**SECOND_ORDER, "times": 3},
    "duplicate_updates": {"times": 30},
    "out_of_order_updates": {"times": 30},
    "missing_updates": {"times": 60},
    "feed_silence": {**FROM_THE_SECOND_MINUTE, "for_s": 20},
    "feed_lag": {**FROM_THE_SECOND_MINUTE, "for_s": 20},
    "clock_skew": {**FROM_THE_SECOND_MINUTE, "for_s": 20},
    "wrong_instrument": {**FROM_THE_SECOND_MINUTE, "for_s": 20},
    "stacked_packets": {**FROM_THE_SECOND_MINUTE, "for_s": 20},
    "feed_refused": {**FROM_THE_SECOND_MINUTE, "for_s": 4},
    "feed_reset": {**FROM_THE_SECOND_MINUTE, "times": 2},
    "feed_805": FROM_THE_SECOND_MINUTE,
    "order_socket_reset": FROM_THE_SECOND_MINUTE,
    "unknown_code": FROM_THE_SECOND_MINUTE,
    "garbage_frame": FROM_THE_SECOND_MINUTE,
    "bad_price": FROM_THE_SECOND_MINUTE,
}
IN_EVERY_RUN = ("reply_lost", "partial_fill", "missing_updates")
# One while the order is on its way, one with a position, one in the recovery of the one before.
KILLS = (
    Kill(step="order, accepted and the reply lost", nth=3, dead_s=2),
    Kill(step="exit, before sending", nth=1),
    Kill(step="look-up, answered", nth=1, dead_s=10),
)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    everything = metafunc.config.getoption("every_point", default=False)
    if "fault" in metafunc.fixturenames:
        metafunc.parametrize("fault", FAULTS if everything else IN_EVERY_RUN)


def test_with_a_faulty_broker_and_kills_a_day_ends_whole(fault, play, sqlite_ledger_url):
    posted = {"fault": fault, **FAULTS[fault]}
    verdict = play(f"{fault} and kills", Play(faults=(posted,), kills=KILLS), sqlite_ledger_url)
    assert verdict.died >= 2, verdict
    assert verdict.is_green, verdict


def test_without_a_kill_too(play, sqlite_ledger_url):
    """Everything at once, no kill: what the combinations above would hide."""
    posted = tuple({"fault": fault, **FAULTS[fault]} for fault in ("partial_fill", "duplicate_updates", "bad_gateway"))
    verdict = play("faults without a kill", Play(params=SHORT, faults=posted), sqlite_ledger_url)
    assert verdict.fell == 0, verdict
    assert verdict.is_green, verdict


def test_every_fault_of_the_simulator_is_played(stage):
    assert sorted(FAULTS) == stage.market.known_faults()
