"""Dhan as a broker: every call through the `dhanhq` package, every reply judged, every failure of the tree.

Invariants:
1. A write is sent once. It is sent a second time in one case only: the broker refused it because the token
   was dead, which is a definite "nothing was done", and there is a new token.
2. An order that this file itself finds impossible is OrderRejected, and nothing was sent.
3. Any thread may call: each has an SDK and a connection of its own.
"""

import threading
from collections.abc import Callable, Iterable, Mapping
from datetime import date, timedelta
from typing import Any, Final, Protocol, TypeVar

from dhanhq import dhanhq

from strategy.instruments import Index
from tasks.broker import (
    LOSS_EXIT_PRODUCTS,
    AccountProfile,
    AuthenticationDead,
    BrokerOrder,
    BrokerPosition,
    BrokerTrade,
    BrokerUnavailable,
    IndexCandle,
    IpStatus,
    NewOrder,
    OrderOutcomeUnknown,
    Quote,
    SettledTrade,
    order_rows,
    readings,
    wire,
)
from tasks.broker.checks import is_client_order_id, refuse_impossible, refuse_strange_id
from tasks.broker.http import DhanWire, NoReply, NothingSent, Reply, Timeouts, WireContext
from tasks.broker.limits import BrokerLimits, Call, Limits
from tasks.broker.replies import accepted_order_id, answered, is_not_found

T = TypeVar("T")

_QUOTES_PER_REQUEST: Final = 1000
_HISTORY_PAGES_MAX: Final = 200
# The profit side cannot be left out; 0 might count as reached.
_PROFIT_NEVER_RUPEES: Final = 50_00_000.0
# The broker's 90, less the evening before the first day.
CANDLE_DAYS_MAX: Final = 89
_CANDLE_MINUTES: Final = {60: 1, 300: 5, 900: 15, 1500: 25, 3600: 60}


class Tokens(Protocol):
    """Where access tokens come from."""

    def current(self) -> str:
        """The token to use now; AuthenticationDead where there is none."""
        ...

    def replace(self, dead: str) -> bool:
        """Get another token than `dead`; False where that is not possible."""
        ...


class FixedToken:
    """One token, never replaced."""

    def __init__(self, token: str) -> None:
        self._token = token

    def current(self) -> str:
        """The token."""
        return self._token

    def replace(self, dead: str) -> bool:  # noqa: ARG002  # there is no other
        """Not possible."""
        return False


class DhanBroker:
    """The orders side of one Dhan account (see `tasks.broker.Broker`)."""

    def __init__(
        self,
        *,
        client_id: str,
        tokens: Tokens,
        api_url: str,
        now_ms: Callable[[], int],
        limits: Limits | None = None,
        timeouts: Timeouts | None = None,
        force_ipv4: bool = False,
    ) -> None:
        self._client_id = client_id
        self._tokens = tokens
        self._api_url = api_url
        self._now_ms = now_ms
        self._limits = limits or BrokerLimits()
        self._timeouts = timeouts or Timeouts()
        self._force_ipv4 = force_ipv4
        self._mine = threading.local()
        self._opened: list[DhanWire] = []
        self._opening = threading.Lock()
        self._books: dict[Any, tuple[Reply, tuple[Any, ...]]] = {}  # by what reads their rows: the last one read

    def close(self) -> None:
        """Let go of all connections."""
        with self._opening:
            for http in self._opened:
                http.close()
            self._opened.clear()

    def place(self, order: NewOrder) -> str:
        """Send once; return the broker's order id."""
        refuse_impossible(order)
        segment, security_id = order.contract.segment, order.contract.security_id
        return self._write(
            lambda sdk: sdk.place_order(
                security_id=security_id,
                exchange_segment=segment,
                transaction_type=order.side.value,
                quantity=order.quantity,
                order_type="LIMIT",
                product_type=order.product,
                price=_rupees(order.limit_paise),
                tag=order.client_order_id,
            )
        )

    def modify(self, broker_order_id: str, order: NewOrder) -> None:
        """Restate the whole order with a new limit; `quantity` is the total, not the rest."""
        refuse_impossible(order)
        refuse_strange_id(broker_order_id)
        self._write(
            lambda sdk: sdk.modify_order(
                order_id=broker_order_id,
                order_type="LIMIT",
                leg_name="ENTRY_LEG",  # an empty text is refused for other fields, this is what bots send
                quantity=order.quantity,
                price=_rupees(order.limit_paise),
                trigger_price=0,
                disclosed_quantity=0,
                validity="DAY",
            )
        )

    def cancel(self, broker_order_id: str) -> None:
        """Ask for cancellation. BrokerUnavailable while the order is in transit: ask again in a moment."""
        refuse_strange_id(broker_order_id)
        self._write(lambda sdk: sdk.cancel_order(broker_order_id))

    def find_order(self, client_order_id: str) -> BrokerOrder | None:
        """Look up by our id. None: the broker says it has none, which is no proof right after a time-out."""
        if not is_client_order_id(client_order_id):
            raise ValueError(f"expected a client order id of [A-Za-z0-9_-], found {client_order_id!r}")
        found = self._read(
            Call.OTHER,
            lambda sdk: sdk.get_order_by_correlationID(client_order_id),
            lambda reply: () if is_not_found(reply) else wire.rows(answered(reply), order_rows.order),
        )
        return next((order for order in found if order.client_order_id == client_order_id), None)

    def orders(self) -> tuple[BrokerOrder, ...]:
        """Today's order book."""
        return self._read_rows(lambda sdk: sdk.get_order_list(), order_rows.order)

    def trades(self) -> tuple[BrokerTrade, ...]:
        """Today's trade book."""
        return self._read_rows(lambda sdk: sdk.get_trade_book(), order_rows.trade)

    def settled_trades(self, day: date) -> tuple[SettledTrade, ...]:
        """A past day's trades with what was billed for them, every page; empty until the broker has settled it."""
        found: list[SettledTrade] = []
        for page in range(_HISTORY_PAGES_MAX):
            rows = self._read_history(day, page)
            # A page again instead of an empty one would count every fill twice.
            if not rows or list(rows) == found[-len(rows) :]:
                return tuple(found)
            found += rows
        raise BrokerUnavailable(f"the trade history of {day} did not end within {_HISTORY_PAGES_MAX} pages")

    def _read_history(self, day: date, page: int) -> tuple[SettledTrade, ...]:
        return self._read_rows(
            lambda sdk: sdk.get_trade_history(day.isoformat(), day.isoformat(), page), order_rows.settled_trade
        )

    def positions(self) -> tuple[BrokerPosition, ...]:
        """Net positions of the account."""
        return self._read_rows(lambda sdk: sdk.get_positions(), order_rows.position)

    def available_funds_paise(self) -> int:
        """What may be spent on premiums."""
        return self._read(
            Call.OTHER, lambda sdk: sdk.get_fund_limits(), lambda reply: readings.funds_paise(answered(reply))
        )

    def set_loss_exit(self, loss_paise: int) -> None:
        """Dhan's P&L exit for the day, account-wide; the kill switch stays out of it, since it would bar our exits."""
        if loss_paise <= 0:
            raise ValueError(f"expected a loss above 0 paise, found {loss_paise}: 0 would close everything at once")
        products = list(LOSS_EXIT_PRODUCTS)
        self._read(
            Call.OTHER,
            lambda sdk: sdk.set_pnl_exit(_PROFIT_NEVER_RUPEES, _rupees(loss_paise), products, enable_kill_switch=False),
            lambda reply: readings.expect_loss_exit(answered(reply), "ACTIVE"),
        )

    def clear_loss_exit(self) -> None:
        """Switch Dhan's P&L exit off."""
        self._read(
            Call.OTHER,
            lambda sdk: sdk.stop_pnl_exit(),
            lambda reply: readings.expect_loss_exit(answered(reply), "DISABLED"),
        )

    def quotes(self, securities: Iterable[str]) -> Mapping[str, Quote]:
        """Last price, bid and ask of this moment; securities the broker does not know are absent."""
        wanted = list(dict.fromkeys(securities))
        found: dict[str, Quote] = {}
        for start in range(0, len(wanted), _QUOTES_PER_REQUEST):
            request: dict[str, list[int]] = {}
            for security in wanted[start : start + _QUOTES_PER_REQUEST]:
                segment, security_id = security.split(":", 1)
                request.setdefault(segment, []).append(int(security_id))
            found |= self._ask_quotes(request)
        return found

    def _ask_quotes(self, request: dict[str, list[int]]) -> dict[str, Quote]:
        return self._read(
            Call.QUOTE,
            lambda sdk: sdk.quote_data(dict(request)),
            lambda reply: readings.quotes(answered(reply), at_ms=self._now_ms()),
        )

    def profile(self) -> AccountProfile:
        """Token validity and data plan."""
        return self._read(
            Call.OTHER, lambda sdk: sdk.dhan_http.get("/profile"), lambda reply: readings.profile(answered(reply))
        )

    def ip_status(self) -> IpStatus:
        """Whether orders are allowed from this address."""
        return self._read(
            Call.OTHER,
            lambda sdk: sdk.dhan_http.get("/ip/getIP"),
            lambda reply: readings.ip_status(answered(reply)),
        )

    def expiries(self, index: Index) -> tuple[date, ...]:
        """Expiry dates of the index's options that still trade, ascending."""
        return self._read(
            Call.CHAIN,
            lambda sdk: sdk.expiry_list(int(index.security_id), "IDX_I"),
            lambda reply: readings.expiries(answered(reply)),
        )

    def index_candles(self, index: Index, day: date, seconds: int) -> tuple[IndexCandle, ...]:
        """The broker's intraday candles (60, 300, 900, 1500, 3600 s) of one day, ascending."""
        return self.candles(index.security, day, day, seconds)

    def candles(self, security: str, first: date, last: date, seconds: int) -> tuple[IndexCandle, ...]:
        """Intraday candles of an index or of an option that still trades, ascending; at most 90 days a call."""
        if seconds not in _CANDLE_MINUTES:
            raise ValueError(f"expected one of {sorted(_CANDLE_MINUTES)} seconds, found {seconds}")
        if not timedelta() <= last - first < timedelta(days=CANDLE_DAYS_MAX):
            raise ValueError(f"expected 1 to {CANDLE_DAYS_MAX} days of candles, found {first} to {last}")
        segment, security_id = security.split(":", 1)
        # A candle that begins exactly at the asked moment is left out, so ask from the evening before.
        begin = f"{first - timedelta(days=1)} 23:59:00"
        return self._read(
            Call.CHART,
            lambda sdk: sdk.intraday_minute_data(
                security_id,
                segment,
                "INDEX" if segment == "IDX_I" else "OPTIDX",
                begin,
                f"{last} 23:59:59",
                _CANDLE_MINUTES[seconds],
            ),
            lambda reply: readings.candles(answered(reply), first, last),
        )

    def _write(self, send: Callable[[Any], Reply]) -> str:
        def once() -> str:
            self._limits.admit(Call.ORDER)
            try:
                reply = send(self._sdk())
            except NothingSent as error:
                raise BrokerUnavailable(f"nothing was sent: {error}") from None
            except NoReply as error:
                raise OrderOutcomeUnknown(f"no reply ({error}): look the order up") from None
            return accepted_order_id(reply)

        return self._with_living_token(once)

    def _read_rows(self, ask: Callable[[Any], Reply], read: Callable[[Mapping[str, Any]], T]) -> tuple[T, ...]:
        return self._read(Call.OTHER, ask, lambda reply: self._understood(reply, read))

    def _understood(self, reply: Reply, read: Callable[[Mapping[str, Any]], T]) -> tuple[T, ...]:
        """The rows of a book. It is read every half minute and seldom changed: the same bytes are the same rows."""
        known = self._books.get(read)
        if known is None or known[0] != reply:
            known = self._books[read] = (reply, wire.rows(answered(reply), read))
        return known[1]

    def _read(self, call: Call, ask: Callable[[Any], Reply], understand: Callable[[Reply], T]) -> T:
        def once() -> T:
            self._limits.admit(call)
            try:
                return understand(ask(self._sdk()))
            except (NothingSent, NoReply) as error:
                raise BrokerUnavailable(f"no answer: {error}") from None
            except wire.WireError as error:
                raise BrokerUnavailable(f"cannot understand the answer: {error}") from None

        return self._with_living_token(once)

    def _with_living_token(self, once: Callable[[], T]) -> T:
        """Do it; once more if nothing was done because the token is dead, and another can be had."""
        token = self._tokens.current()
        try:
            return once()
        except AuthenticationDead:
            if not self._tokens.replace(token):
                raise
            return once()

    def _sdk(self) -> Any:
        """This thread's own SDK object."""
        sdk = getattr(self._mine, "sdk", None)
        if sdk is None:
            http = DhanWire(
                self._client_id,
                token=self._tokens.current,
                base_url=self._api_url,
                timeouts=self._timeouts,
                force_ipv4=self._force_ipv4,
            )
            with self._opening:
                self._opened.append(http)
            sdk = self._mine.sdk = dhanhq(WireContext(self._client_id, http))
        return sdk


def _rupees(limit_paise: int) -> float:
    """The number that JSON writes with two decimals; exact, since a float carries 15 digits."""
    return limit_paise / 100
