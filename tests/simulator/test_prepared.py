"""Packets that are made ahead, while the client is busy, are the packets that would have been made in their second."""

from datetime import date, time

import pytest

from simulator.feed import FeedSession
from simulator.setup import Setup
from simulator.stage import Stage
from strategy.instruments import INDICES

SETUP = Setup(day=date(2026, 11, 20), start=time(10, 0))
INDEX = INDICES["NIFTY"].security
SECONDS = 90


class Wire:
    """Keeps what is written to a connection."""

    open = True

    def __init__(self) -> None:
        self.written: list[bytes] = []

    def send_binary(self, messages) -> None:
        self.written += messages


def written(*, ahead: bool, fault: dict | None = None) -> list[bytes]:
    """A minute and a half of an index and two options, subscribed and left in the midst of it."""
    stage, wire = Stage(SETUP), Wire()
    near = sorted(stage.market.listing.by_security.values(), key=lambda each: abs(each.strike - 24_350))
    first, second = [each.security for each in near if each.index.security == INDEX][:2]
    session = FeedSession(wire, stacked=False, epoch=0)
    session.modes = {INDEX: "ticker", first: "full"}
    stage.feed.sessions[wire] = session
    for number in range(SECONDS):
        if number == 20:
            session.modes[second] = "quote"
            session.newcomers.append(second)
        if number == 40:
            del session.modes[first]
        if number == 60 and fault is not None:
            stage.faults.post([fault], stage.now_ms)
        stage.play(stage.slice_end())
        if ahead:
            stage.prepare()
    return wire.written


@pytest.mark.parametrize(
    "fault", [None, {"fault": "clock_skew", "skew_s": 30.0, "for_s": 10}, {"fault": "wrong_instrument", "for_s": 10}]
)
def test_packets_made_ahead_are_those_of_their_second(fault):
    expected = written(ahead=False, fault=fault)
    assert len(expected) > 2 * SECONDS
    assert written(ahead=True, fault=fault) == expected
