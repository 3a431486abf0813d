"""At the market's own speed nothing is lost: as many packets are decoded as were sent.

`TEST_FEED_SECONDS=300` makes the window five minutes; the suite takes a short one.
"""

import os
from datetime import date

import pytest

from strategy.params import Params
from tasks.clock import Deadline, pause
from tasks.connect import Connections
from tasks.settings import Settings

from .conftest import simulator, truth

WINDOW_S = float(os.environ.get("TEST_FEED_SECONDS", "15"))
OPTIONS = 60

pytestmark = [pytest.mark.slow, pytest.mark.timeout(WINDOW_S + 180)]


def test_at_the_speed_of_the_market_every_packet_sent_is_decoded(tmp_path):
    with simulator(tmp_path, "--speed", "1", "--day", "2026-11-20", "--start", "10:00:00") as url:
        settings = Settings(simulator_url=url, home=tmp_path, notify_urls=())
        with Connections(
            Params(index="NIFTY", mode="rehearsal"), date(2026, 11, 20), run_id="test", settings=settings
        ) as connections:
            options = sorted(contract.security for contract in connections.contracts.values())[:OPTIONS]
            with connections.open_market(busy=lambda: False) as market:
                deadline = Deadline(30)
                while not market.feed.connections:
                    assert not deadline.passed, "the feed did not connect"
                    pause(0.02)
                market.feed.watch((connections.index.security, *options))
                pause(WINDOW_S)
                market.feed.watch(())
                deadline = Deadline(30)
                while (decoded := market.feed.packets_received) != (sent := truth(url)["feed_packets"]):
                    assert not deadline.passed, f"sent {sent}, decoded {decoded}"
                    pause(0.1)
                assert decoded > WINDOW_S * OPTIONS * 0.8
                assert market.feed.malformed == 0
                assert market.inbox.dropped_ticks == 0
