"""At the market's own speed nothing is lost: what was sent is decoded, by kind and by connection.

Five minutes of it, with the numbers shown:

    .venv/bin/python -m pytest tests/days/test_feed_keeps_up.py --feed-seconds 300 -s
"""

from datetime import date

import pytest

from strategy.params import Params
from tasks.clock import Deadline, pause
from tasks.connect import Connections
from tasks.feed.decode import FULL, PREVIOUS_CLOSE, TICKER
from tasks.settings import Settings

from .conftest import packets_sent, simulator, truth

OPTIONS = 60

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]


def test_at_the_speed_of_the_market_every_packet_sent_is_decoded(tmp_path, feed_seconds):
    with simulator(tmp_path, "--speed", "1", "--day", "2026-11-20", "--start", "10:00:00") as url:
        settings = Settings(simulator_url=url, home=tmp_path, notify_urls=())
        with Connections(
            Params(index="NIFTY", mode="rehearsal"), date(2026, 11, 20), run_id="test", settings=settings
        ) as connections:
            options = sorted(contract.security for contract in connections.contracts.values())[:OPTIONS]
            with connections.open_market(busy=lambda: False) as market:
                feed = market.feed
                settle(lambda: feed.connections == 1)
                feed.watch((connections.index.security, *options))
                most_behind = 0
                ends = Deadline(feed_seconds)
                while not ends.passed:
                    pause(min(1.0, ends.left_s))
                    decoded = feed.packets_received
                    most_behind = max(most_behind, truth(url)["feed_packets"] - decoded)
                feed.watch(())
                settle(lambda: feed.packets_by_connection == packets_sent(url))
                [by_code] = feed.packets_by_connection
                print(f"\n{feed_seconds:.0f} s, decoded = sent: {by_code}; at most {most_behind} on their way")
                assert by_code[TICKER] > feed_seconds
                assert by_code[FULL] > feed_seconds * OPTIONS * 0.8
                assert by_code[PREVIOUS_CLOSE] == 1
                assert feed.packets_received == sum(by_code.values()) == truth(url)["feed_packets"]
                assert feed.malformed == 0
                assert market.inbox.dropped_ticks == 0


def settle(condition):
    """Wait until it holds."""
    deadline = Deadline(30)
    while not condition():
        assert not deadline.passed, "waited in vain"
        pause(0.05)
