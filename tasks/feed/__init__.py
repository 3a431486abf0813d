"""The outside's pushes: market ticks and order updates, each from a socket of its own, onto one inbox.

A feed decides nothing. It says when a connection came and when it went, because what was pushed in between is
lost: after every `FeedConnected` of the order updates the order book has to be read by REST.
"""

from dataclasses import dataclass
from enum import StrEnum


class FeedName(StrEnum):
    """Which socket."""

    MARKET = "market"
    ORDERS = "orders"


@dataclass(frozen=True, slots=True, kw_only=True)
class FeedConnected:
    """The socket is up and all that is watched is subscribed again. Reconcile what may have been missed."""

    at_ms: int
    feed: FeedName
    connections: int  # how many so far; above 1 it is a reconnect


@dataclass(frozen=True, slots=True, kw_only=True)
class FeedLost:
    """The socket is gone or could not be opened; the feed tries again by itself.

    `grave` asks for a person: another process uses the account (805), the data plan or the token is dead, the
    broker throttles the account, or it is the third failure in a row. `reason` holds no secret.
    """

    at_ms: int
    feed: FeedName
    reason: str
    grave: bool
    retry_after_s: float


FeedEvent = FeedConnected | FeedLost
