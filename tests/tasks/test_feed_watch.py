"""When the loss of a feed is worth a person's attention: a table to read and to extend."""

import pytest

from strategy.actions import Severity
from strategy.events import Tick
from tasks.feed import FeedConnected, FeedLost, FeedName
from tasks.lockstep import _in_slice_order
from tasks.trading.feeds import FeedWatch

AT_MS = 1_795_147_265_000

# What happens to which feed, while flat or holding, and what is said. "grave": a person must act (805, dead token).
TABLE = """
    feed    event  while    said
    market  lost   flat     -
    market  back   flat     -
    market  lost   holding  feed_lost critical
    market  lost   holding  -                     # the same outage, tried again
    orders  lost   holding  feed_lost critical    # another feed is other news
    orders  back   holding  feed_back info
    market  back   flat     feed_back info
    market  back   flat     -
    market  grave  flat     feed_lost warning
    market  grave  flat     -
    market  lost   holding  feed_lost critical    # something is held meanwhile: said again, louder
    market  grave  flat     -
    market  back   flat     feed_back info
    orders  grave  holding  feed_lost critical
"""


def said_of(alert):
    return "-" if alert is None else f"{alert.kind} {alert.severity}"


def test_an_outage_is_said_once_louder_when_something_is_held_and_its_end_too():
    watch = FeedWatch()
    for line in TABLE.strip().splitlines()[1:]:
        feed, happened, meanwhile, said = line.partition("#")[0].split(maxsplit=3)
        name = FeedName(feed)
        event = (
            FeedConnected(at_ms=AT_MS, feed=name, connections=2)
            if happened == "back"
            else FeedLost(at_ms=AT_MS, feed=name, reason="reset", grave=happened == "grave", retry_after_s=1.0)
        )
        assert said_of(watch.hear(event, is_flat=meanwhile == "flat")) == said.strip(), line


@pytest.mark.parametrize("feed", FeedName)
def test_the_alert_says_why_and_what_goes_on_meanwhile(feed):
    lost = FeedLost(at_ms=AT_MS, feed=feed, reason="805: another process", grave=True, retry_after_s=60.0)
    alert = FeedWatch().hear(lost, is_flat=False)
    assert (alert.at_ms, alert.severity) == (AT_MS, Severity.CRITICAL)
    assert "805: another process" in alert.message
    assert {FeedName.MARKET: "quotes", FeedName.ORDERS: "book"}[feed] in alert.message


def test_in_lock_step_a_loss_and_a_return_of_one_slice_do_not_change_places():
    """Events of a slice are ordered by where they came from, whichever thread was faster; not those of one feed."""
    lost = FeedLost(at_ms=AT_MS, feed=FeedName.MARKET, reason="reset", grave=False, retry_after_s=0.0)
    back = FeedConnected(at_ms=AT_MS, feed=FeedName.MARKET, connections=2)
    orders = FeedConnected(at_ms=AT_MS, feed=FeedName.ORDERS, connections=1)
    tick = Tick(at_ms=AT_MS, security="IDX_I:13", price_paise=1)
    for arrived in ([lost, back, orders, tick, lost, back], [orders, lost, back, lost, back, tick]):
        assert _in_slice_order(arrived, AT_MS) == [tick, lost, back, lost, back, orders]
