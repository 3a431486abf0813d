"""What a broker must do, and the ways it can fail, sorted by the one question that matters: could an order be live?

* BrokerError
  x OrderRejected           no order is live; the broker said why
  x BrokerUnavailable       nothing was sent, or a read failed; safe to retry
    + RateLimited           retry after `retry_after_s`
  x AuthenticationDead      the token is no longer valid; nothing was done
  x IpRefused               orders are not allowed from this address; nothing was done
  x OrderOutcomeUnknown     an order may be live; look it up by `client_order_id`, never resend

Prices are integer paise per unit, quantities units, times Unix milliseconds (UTC).
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date
from enum import StrEnum
from fractions import Fraction
from typing import Protocol

from strategy.events import Side
from strategy.instruments import Contract, Index


class BrokerError(Exception):
    """Something at the broker went wrong; the subclass says what that means for a live order."""


class OrderRejected(BrokerError):
    """No order is live; the message is the broker's own."""


class BrokerUnavailable(BrokerError):
    """Nothing was sent, or a read failed. Safe to retry."""


class RateLimited(BrokerUnavailable):
    """Too many requests; nothing was done. Retry after `retry_after_s`."""

    def __init__(self, message: str, retry_after_s: float = 1.0) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class AuthenticationDead(BrokerError):
    """The access token is no longer valid; nothing was done."""


class IpRefused(BrokerError):
    """The broker accepts no orders from this address; nothing was done."""


class OrderOutcomeUnknown(BrokerError):
    """A write got no definite answer: an order may be live."""


class OrderStatus(StrEnum):
    """Dhan's order life: TRANSIT -> PENDING -> PART_TRADED -> TRADED, or REJECTED, CANCELLED, EXPIRED."""

    TRANSIT = "TRANSIT"
    PENDING = "PENDING"
    PART_TRADED = "PART_TRADED"
    TRADED = "TRADED"
    REJECTED = "REJECTED"
    CANCELLED = "CANCELLED"
    EXPIRED = "EXPIRED"

    @property
    def is_final(self) -> bool:
        """True when the order can neither fill nor change any more."""
        return self in {OrderStatus.TRADED, OrderStatus.REJECTED, OrderStatus.CANCELLED, OrderStatus.EXPIRED}


@dataclass(frozen=True, slots=True, kw_only=True)
class NewOrder:
    """A LIMIT order to send; `client_order_id` travels as Dhan's correlation id (<= 20 of [A-Za-z0-9_-])."""

    client_order_id: str
    contract: Contract
    side: Side
    quantity: int
    limit_paise: int
    product: str  # MARGIN or INTRADAY


@dataclass(frozen=True, slots=True, kw_only=True)
class BrokerOrder:
    """An order as the broker shows it (order book, look-up, or order-update socket)."""

    broker_order_id: str
    client_order_id: str
    security: str
    side: Side
    status: OrderStatus
    quantity: int
    filled_quantity: int
    filled_value_paise: int  # average price x filled quantity, rounded to a paisa
    limit_paise: int
    message: str
    updated_at_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderUpdate:
    """A push from the order-update socket. May be late, repeated, out of order or missing."""

    at_ms: int
    order: BrokerOrder


@dataclass(frozen=True, slots=True, kw_only=True)
class BrokerTrade:
    """One row of the broker's trade book."""

    broker_order_id: str
    security: str
    side: Side
    quantity: int
    price_paise: int
    at_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SettledTrade:
    """One row of the broker's trade history: a fill of a past day and what was billed for it."""

    trade: BrokerTrade
    charges_paise: Mapping[str, Fraction]  # by the fields of `strategy.charges.Charges`, exact


@dataclass(frozen=True, slots=True, kw_only=True)
class BrokerPosition:
    """A net position; `net_quantity` is negative when short, 0 when closed today."""

    security: str
    trading_symbol: str
    product: str
    net_quantity: int
    buy_quantity: int
    sell_quantity: int
    buy_value_paise: int
    sell_value_paise: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Quote:
    """Last price and best bid and ask; 0 where the broker gave none."""

    security: str
    at_ms: int
    last_paise: int
    bid_paise: int
    ask_paise: int


@dataclass(frozen=True, slots=True, kw_only=True)
class AccountProfile:
    """Who we are to the broker and until when."""

    client_id: str
    token_valid_until_ms: int
    data_plan_active: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class IpStatus:
    """Whether orders may come from here. `known` is False where the broker did not say."""

    known: bool
    orders_allowed: bool
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexCandle:
    """A historical candle of an index or an option, OHLC in paise."""

    start_ms: int
    open_paise: int
    high_paise: int
    low_paise: int
    close_paise: int


# What Dhan lets a loss exit name. That it closes positions of product MARGIN is documented nowhere.
LOSS_EXIT_PRODUCTS = ("INTRADAY", "DELIVERY")


class Broker(Protocol):
    """The orders side of a broker. Writes are sent once; every failure is one of the errors above."""

    def place(self, order: NewOrder) -> str:
        """Send once; return the broker's order id. Any error of the tree."""
        ...

    def modify(self, broker_order_id: str, order: NewOrder) -> None:
        """Restate the whole order with a new limit. Any error of the tree."""
        ...

    def cancel(self, broker_order_id: str) -> None:
        """Ask for cancellation; the book tells whether it came before a fill. Any error of the tree."""
        ...

    def find_order(self, client_order_id: str) -> BrokerOrder | None:
        """Look up by our id. None: the broker says it has none (not proof right after a time-out)."""
        ...

    def orders(self) -> tuple[BrokerOrder, ...]:
        """Today's order book."""
        ...

    def trades(self) -> tuple[BrokerTrade, ...]:
        """Today's trade book."""
        ...

    def settled_trades(self, day: date) -> tuple[SettledTrade, ...]:
        """A past day's trades with what was billed for them, every page; empty until the broker has settled it."""
        ...

    def positions(self) -> tuple[BrokerPosition, ...]:
        """Net positions of the account."""
        ...

    def available_funds_paise(self) -> int:
        """What may be spent on premiums."""
        ...

    def set_loss_exit(self, loss_paise: int) -> None:
        """Have the broker itself close the account's `LOSS_EXIT_PRODUCTS` today at this loss; setting it again is safe.

        At a loss that is reached already it closes at once.
        """
        ...

    def clear_loss_exit(self) -> None:
        """Take the loss exit back; none there is no error."""
        ...

    def quotes(self, securities: Iterable[str]) -> Mapping[str, Quote]:
        """Last price, bid and ask; securities the broker does not know are absent."""
        ...

    def profile(self) -> AccountProfile:
        """Token validity and data plan."""
        ...

    def ip_status(self) -> IpStatus:
        """Whether orders are allowed from this address."""
        ...

    def expiries(self, index: Index) -> tuple[date, ...]:
        """Expiry dates of the index's options that still trade, ascending."""
        ...

    def index_candles(self, index: Index, day: date, seconds: int) -> tuple[IndexCandle, ...]:
        """The broker's intraday candles (60, 300, 900, 1500, 3600 s) of one day."""
        ...
