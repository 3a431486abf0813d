"""What the coming and going of a feed means for people: an alert when it matters, one per outage, and its end.

Both feeds come back by themselves, and the bot goes on without them (prices by quotes, orders by reading the book).
With something held, or an entry on its way, a person must know all the same, and so where the reason is one that
does not pass by itself.
"""

from strategy.actions import Alert, Severity
from tasks.feed import FeedConnected, FeedLost, FeedName

_MEANWHILE = {
    FeedName.MARKET: "market feed lost: {reason}; no entries, exits go on from quotes that are asked for",
    FeedName.ORDERS: "order updates lost: {reason}; orders are read from the book instead",
}
_BACK = {FeedName.MARKET: "market feed is back", FeedName.ORDERS: "order updates are back, the book was read"}
_LOUDNESS = {Severity.INFO: 0, Severity.WARNING: 1, Severity.CRITICAL: 2}


class FeedWatch:
    """Knows what has been said of each feed's outage; belongs to the loop's thread."""

    def __init__(self) -> None:
        self._told: dict[FeedName, Severity] = {}

    def hear(self, event: FeedConnected | FeedLost, *, is_flat: bool) -> Alert | None:
        """What to say. An outage is said once, and once more when it becomes critical; so is its end."""
        told = self._told.get(event.feed, Severity.INFO)
        if isinstance(event, FeedConnected):
            self._told.pop(event.feed, None)
            if told is Severity.INFO:
                return None
            return Alert(at_ms=event.at_ms, kind="feed_back", severity=Severity.INFO, message=_BACK[event.feed])
        # Money is at stake, a person is needed, or it passes by itself.
        severity = Severity.CRITICAL if not is_flat else Severity.WARNING if event.grave else Severity.INFO
        if _LOUDNESS[severity] <= _LOUDNESS[told]:
            return None
        self._told[event.feed] = severity
        message = _MEANWHILE[event.feed].format(reason=event.reason)
        return Alert(at_ms=event.at_ms, kind="feed_lost", severity=severity, message=message)
