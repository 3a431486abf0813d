"""A broker that only writes: live quotes, simulated fills, the same port and the same refusals as Dhan's.

Fills are pessimistic. A buy order fills when the ask is at or below its limit, at the ask plus slippage but never
above the limit; a sell order likewise at the bid. Each new quote fills at most `units_per_quote`, so that large
orders fill in parts. What was ordered and filled is in a journal, because a restart must find it again.

Invariants:
1. No quote, no fill: a price is never made up, and the order says what it waits for.
2. The same orders and quotes in the same order give the same fills.
3. Never more than what is held is sold, and never more spent than there is.
4. Every change of an order goes to the journal first, then to the inbox as an OrderUpdate.
"""

import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from typing import Any, Final, Protocol

from strategy.events import Side, Tick
from strategy.instruments import Index
from tasks.broker import (
    AccountProfile,
    BrokerOrder,
    BrokerPosition,
    BrokerTrade,
    BrokerUnavailable,
    IndexCandle,
    IpStatus,
    NewOrder,
    OrderRejected,
    OrderStatus,
    OrderUpdate,
    Quote,
    SettledTrade,
)
from tasks.broker.checks import refuse_impossible, refuse_strange_id
from tasks.broker.paper_journal import HeldOrder, PaperJournal
from tasks.inbox import EventSink

_FRESH_MS: Final = 2_000


class MarketData(Protocol):
    """The side of a live broker that sends no orders."""

    def quotes(self, securities: Iterable[str]) -> Mapping[str, Quote]:
        """See `Broker`."""
        ...

    def profile(self) -> AccountProfile:
        """See `Broker`."""
        ...

    def expiries(self, index: Index) -> tuple[date, ...]:
        """See `Broker`."""
        ...

    def index_candles(self, index: Index, day: date, seconds: int) -> tuple[IndexCandle, ...]:
        """See `Broker`."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class PaperRules:
    """How generous the simulated exchange is. Money in paise."""

    funds_paise: int = 5_00_000_00
    slippage_paise: int = 5
    units_per_quote: int | None = None


class PaperBroker:
    """Implements `tasks.broker.Broker` without sending anything. Safe from any thread."""

    def __init__(
        self,
        *,
        market: MarketData,
        inbox: EventSink,
        now_ms: Callable[[], int],
        journal: Path,
        rules: PaperRules | None = None,
    ) -> None:
        self._market = market
        self._inbox = inbox
        self._now_ms = now_ms
        self._journal = PaperJournal(journal)
        self._rules = rules or PaperRules()
        self._held: dict[str, HeldOrder] = {}
        self._trades: list[BrokerTrade] = []
        self._quotes: dict[str, Quote] = {}
        self._units_left: dict[str, int | None] = {}  # of the latest quote; None: no limit
        self._lock = threading.RLock()
        self.loss_exit_paise = 0  # what was asked for; 0: none
        for held, trade in self._journal.read():
            self._held[held.order.broker_order_id] = held
            if trade is not None:
                self._trades.append(trade)

    def listening(self, inbox: EventSink) -> EventSink:
        """`inbox` with this broker looking on: give it to the market feed, so that ticks fill orders."""
        return _Listening(inbox, self.observe)

    def observe(self, tick: Tick) -> None:
        """A tick with bid and ask is a quote of this moment."""
        with self._lock:
            if any(held.order.security == tick.security for held in self._open()):
                self._learn(
                    Quote(
                        security=tick.security,
                        at_ms=self._now_ms(),
                        last_paise=tick.price_paise,
                        bid_paise=tick.bid_paise,
                        ask_paise=tick.ask_paise,
                    )
                )
                self._match(tick.security)

    def place(self, order: NewOrder) -> str:
        """Take the order; what it cannot pay for or does not hold is REJECTED in the book, as at Dhan."""
        refuse_impossible(order)
        with self._lock:
            fault = self._fault(order)
            identity = f"PAPER{len(self._held) + 1:06d}"
            contract = order.contract
            self._change(
                HeldOrder(
                    order=BrokerOrder(
                        broker_order_id=identity,
                        client_order_id=order.client_order_id,
                        security=contract.security,
                        side=order.side,
                        status=OrderStatus.REJECTED if fault else OrderStatus.PENDING,
                        quantity=order.quantity,
                        filled_quantity=0,
                        filled_value_paise=0,
                        limit_paise=order.limit_paise,
                        message=fault,
                        updated_at_ms=self._now_ms(),
                    ),
                    product=order.product,
                    trading_symbol=contract.trading_symbol,
                )
            )
            if not fault:
                self._look(contract.security)
            return identity

    def modify(self, broker_order_id: str, order: NewOrder) -> None:
        """Give an open order another limit and total quantity."""
        refuse_impossible(order)
        with self._lock:
            held = self._living(broker_order_id)
            if order.quantity <= held.order.filled_quantity:
                raise OrderRejected(
                    f"{order.quantity} units are not more than the {held.order.filled_quantity} filled already"
                )
            changed = replace(
                held.order,
                quantity=order.quantity,
                limit_paise=order.limit_paise,
                updated_at_ms=self._now_ms(),
            )
            self._change(replace(held, order=changed))
            self._look(held.order.security)

    def cancel(self, broker_order_id: str) -> None:
        """Take an open order off; what it has filled stays."""
        with self._lock:
            held = self._living(broker_order_id)
            ended = replace(held.order, status=OrderStatus.CANCELLED, message="cancelled", updated_at_ms=self._now_ms())
            self._change(replace(held, order=ended))

    def find_order(self, client_order_id: str) -> BrokerOrder | None:
        """The latest order of our id."""
        found = [order for order in self.orders() if order.client_order_id == client_order_id]
        return found[-1] if found else None

    def orders(self) -> tuple[BrokerOrder, ...]:
        """The book, open orders looked at with a quote of this moment."""
        with self._lock:
            for security in {held.order.security for held in self._open()}:
                self._look(security)
            return tuple(held.order for held in self._held.values())

    def trades(self) -> tuple[BrokerTrade, ...]:
        """Every fill, in order."""
        with self._lock:
            return tuple(self._trades)

    def settled_trades(self, day: date) -> tuple[SettledTrade, ...]:  # noqa: ARG002
        """None: nobody bills what was not traded; its own journal keeps every day's trade book."""
        return ()

    def positions(self) -> tuple[BrokerPosition, ...]:
        """Net positions out of the fills."""
        with self._lock:
            grouped: dict[tuple[str, str], dict[Side, list[BrokerTrade]]] = {}
            for trade in self._trades:
                product = self._held[trade.broker_order_id].product
                grouped.setdefault((trade.security, product), {}).setdefault(trade.side, []).append(trade)
            symbols = {held.order.security: held.trading_symbol for held in self._held.values()}
            return tuple(
                _position(security, symbols[security], product, sides) for (security, product), sides in grouped.items()
            )

    def available_funds_paise(self) -> int:
        """What is left of the paper money, open buy orders taken off at their limit."""
        with self._lock:
            moved = sum(
                trade.quantity * trade.price_paise * (1 if trade.side is Side.SELL else -1) for trade in self._trades
            )
            reserved = sum(
                (held.order.quantity - held.order.filled_quantity) * held.order.limit_paise
                for held in self._open()
                if held.order.side is Side.BUY
            )
            return self._rules.funds_paise + moved - reserved

    def set_loss_exit(self, loss_paise: int) -> None:
        """Noted, not carried out: the real account has no part in a session on paper."""
        self.loss_exit_paise = loss_paise

    def clear_loss_exit(self) -> None:
        """Noted."""
        self.loss_exit_paise = 0

    def quotes(self, securities: Iterable[str]) -> Mapping[str, Quote]:
        """The live broker's."""
        return self._market.quotes(securities)

    def profile(self) -> AccountProfile:
        """The live broker's: the data of a paper session comes over the real account."""
        return self._market.profile()

    def ip_status(self) -> IpStatus:
        """No order leaves, so no address can be refused."""
        return IpStatus(known=True, orders_allowed=True, detail="paper: no order leaves this machine")

    def expiries(self, index: Index) -> tuple[date, ...]:
        """The live broker's."""
        return self._market.expiries(index)

    def index_candles(self, index: Index, day: date, seconds: int) -> tuple[IndexCandle, ...]:
        """The live broker's."""
        return self._market.index_candles(index, day, seconds)

    def _open(self) -> list[HeldOrder]:
        return [held for held in self._held.values() if not held.order.status.is_final]

    def _living(self, broker_order_id: str) -> HeldOrder:
        refuse_strange_id(broker_order_id)
        held = self._held.get(broker_order_id)
        if held is None or held.order.status.is_final:
            state = "unknown" if held is None else held.order.status.value
            raise OrderRejected(f"order {broker_order_id} is {state}: it cannot be changed")
        return held

    def _fault(self, order: NewOrder) -> str:
        if order.side is Side.BUY:
            needed, there = order.quantity * order.limit_paise, self.available_funds_paise()
            return f"funds: {needed} paise needed, {there} there" if needed > there else ""
        bought = self._net(order.contract.security, order.product)
        pledged = sum(
            held.order.quantity - held.order.filled_quantity
            for held in self._open()
            if held.order.side is Side.SELL
            and (held.order.security, held.product) == (order.contract.security, order.product)
        )
        free = bought - pledged
        return f"sells {order.quantity} and holds {free}" if order.quantity > free else ""

    def _net(self, security: str, product: str) -> int:
        return sum(
            trade.quantity if trade.side is Side.BUY else -trade.quantity
            for trade in self._trades
            if trade.security == security and self._held[trade.broker_order_id].product == product
        )

    def _look(self, security: str) -> None:
        """Fill from the quote that is known, or from one asked for where that is old."""
        known = self._quotes.get(security)
        if known is None or self._now_ms() - known.at_ms > _FRESH_MS:
            try:
                asked = self._market.quotes([security]).get(security)
            except BrokerUnavailable:
                asked = None
            nothing = Quote(security=security, at_ms=0, last_paise=0, bid_paise=0, ask_paise=0)  # asked again
            self._learn(nothing if asked is None else replace(asked, at_ms=self._now_ms()))
        self._match(security)

    def _learn(self, quote: Quote) -> None:
        self._quotes[quote.security] = quote
        self._units_left[quote.security] = self._rules.units_per_quote

    def _match(self, security: str) -> None:
        quote = self._quotes[security]
        for held in self._open():
            if held.order.security == security:
                left = self._units_left[security]
                filled = self._fill(held, quote, left)
                self._units_left[security] = None if left is None else left - filled

    def _fill(self, held: HeldOrder, quote: Quote, most: int | None) -> int:
        """Fill what the quote allows; return how much that was."""
        order = held.order
        buying = order.side is Side.BUY
        offered = quote.ask_paise if buying else quote.bid_paise
        if offered <= 0:
            self._wait(held, f"waits: no {'ask' if buying else 'bid'} is known for {order.security}")
            return 0
        if offered > order.limit_paise if buying else offered < order.limit_paise:
            self._wait(held, f"waits: the market is at {offered} paise, the limit at {order.limit_paise}")
            return 0
        quantity = order.quantity - order.filled_quantity
        quantity = quantity if most is None else min(quantity, most)
        if quantity <= 0:
            return 0
        slipped = offered + self._rules.slippage_paise * (1 if buying else -1)
        price_paise = min(slipped, order.limit_paise) if buying else max(slipped, order.limit_paise)
        now_ms = self._now_ms()
        trade = BrokerTrade(
            broker_order_id=order.broker_order_id,
            security=order.security,
            side=order.side,
            quantity=quantity,
            price_paise=price_paise,
            at_ms=now_ms,
        )
        filled = order.filled_quantity + quantity
        self._change(
            replace(
                held,
                order=replace(
                    order,
                    status=OrderStatus.TRADED if filled == order.quantity else OrderStatus.PART_TRADED,
                    filled_quantity=filled,
                    filled_value_paise=order.filled_value_paise + quantity * price_paise,
                    message="",
                    updated_at_ms=now_ms,
                ),
            ),
            trade,
        )
        return quantity

    def _wait(self, held: HeldOrder, why: str) -> None:
        if held.order.message != why:
            self._held[held.order.broker_order_id] = replace(held, order=replace(held.order, message=why))

    def _change(self, held: HeldOrder, trade: BrokerTrade | None = None) -> None:
        self._journal.append(held, trade)
        self._held[held.order.broker_order_id] = held
        if trade is not None:
            self._trades.append(trade)
        self._inbox.put(OrderUpdate(at_ms=held.order.updated_at_ms, order=held.order))


class _Listening:
    """An inbox that shows every tick to someone after it was put."""

    def __init__(self, inbox: EventSink, observe: Callable[[Tick], None]) -> None:
        self._inbox = inbox
        self._observe = observe

    def put(self, event: Any) -> None:
        """Pass it on, then show it."""
        self._inbox.put(event)
        if isinstance(event, Tick):
            self._observe(event)


def _position(security: str, symbol: str, product: str, sides: Mapping[Side, list[BrokerTrade]]) -> BrokerPosition:
    bought, sold = sides.get(Side.BUY, []), sides.get(Side.SELL, [])
    quantities = [sum(trade.quantity for trade in side) for side in (bought, sold)]
    values = [sum(trade.quantity * trade.price_paise for trade in side) for side in (bought, sold)]
    return BrokerPosition(
        security=security,
        trading_symbol=symbol,
        product=product,
        net_quantity=quantities[0] - quantities[1],
        buy_quantity=quantities[0],
        sell_quantity=quantities[1],
        buy_value_paise=values[0],
        sell_value_paise=values[1],
    )
