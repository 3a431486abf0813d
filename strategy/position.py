"""A trade from its entry order to being flat, as a fold over what was decided and what was filled.

Invariants:
1. What is held is what was filled: bought - sold. Orders in flight are not a position.
2. Exits in flight never ask for more than is held.
3. The stop never moves down.
4. A trade is settled when nothing is held and no order of it can fill any more; then its P&L is realised.
5. Gross P&L is money out minus money in, from fills alone, exact to the paisa.

The fills of an intent are expected before its `IntentClosed`. An intent closed as FILLED whose fills are missing
counts as in flight: a sale on the strength of it could be the second.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from strategy.actions import Enter, Exit, ExitReason, Explanation
from strategy.charges import Rates, order_charges
from strategy.events import Fill, IntentClosed, Outcome, Side
from strategy.instruments import Contract, Quantity
from strategy.params import Params

RETRY_DELAYS_MS = (1_000, 2_000, 4_000, 8_000, 16_000, 30_000)


class Leg(NamedTuple):
    """One intent of a trade and what became of it."""

    intent: int
    decided_at_ms: int
    quantity: int  # asked for, units
    reference_paise: int
    reason: str  # "entry", or why the trade is closed
    why: Explanation
    filled: int = 0  # units
    value_paise: int = 0
    first_fill_ms: int = 0
    last_fill_ms: int = 0
    outcome: Outcome | None = None
    ended_ms: int = 0
    message: str = ""
    cancel_asked: bool = False

    @property
    def in_flight(self) -> int:
        """Units that may still fill."""
        if self.outcome is None or self.outcome is Outcome.FILLED:
            return max(0, self.quantity - self.filled)
        return 0

    @property
    def is_live(self) -> bool:
        """True while its end is not known or fills of it are missing."""
        return self.outcome is None or self.in_flight > 0


class Position(NamedTuple):
    """A trade that is not settled yet (or was, once it moved to the day's settled ones).

    A named tuple because the trailing stop replaces it between ticks.
    """

    trade: int
    contract: Contract
    security: str
    entry: Leg
    exits: tuple[Leg, ...] = ()
    held: int = 0  # units
    cost_paise: int = 0  # money in - money out
    stop_paise: int = 0  # per unit; 0: none
    trailed: bool = False  # the stop has moved
    best_paise: int = 0  # the price that last moved it
    closing: ExitReason | None = None  # once set it stays: everything held is to be sold

    @property
    def legs(self) -> tuple[Leg, ...]:
        """The entry, then the exits."""
        return (self.entry, *self.exits)

    @property
    def is_in_flight(self) -> bool:
        """True while any order of it may still fill."""
        return any(leg.is_live for leg in self.legs)

    @property
    def unsold(self) -> int:
        """Units held that no exit in flight asks for."""
        return self.held - sum(leg.in_flight for leg in self.exits)

    @property
    def failed(self) -> tuple[Leg, ...]:
        """The exits that ended and left something unsold."""
        return tuple(leg for leg in self.exits if leg.outcome not in {None, Outcome.FILLED})

    @property
    def retry_at_ms(self) -> int:
        """When to sell again after the exits that failed; the delay grows with their number. 0: at once."""
        failed = self.failed
        if not failed:
            return 0
        delay_ms = RETRY_DELAYS_MS[min(len(failed), len(RETRY_DELAYS_MS)) - 1]
        return max(leg.ended_ms for leg in failed) + delay_ms

    @property
    def is_settled(self) -> bool:
        """True when it can change no more."""
        return self.held <= 0 and not self.is_in_flight

    @property
    def opened_ms(self) -> int:
        """The first fill; 0 before it."""
        return self.entry.first_fill_ms

    def pnl_paise(self, price_paise: int) -> int:
        """Gross P&L with what is held valued at `price_paise`."""
        return self.held * price_paise - self.cost_paise

    @property
    def entry_paise(self) -> int:
        """Average price paid per unit, rounded down to a paisa; 0 before the first fill."""
        return self.entry.value_paise // self.entry.filled if self.entry.filled else 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Trade:
    """A completed round trip that explains itself. Money in paise, quantity in units."""

    trade: int
    contract: Contract
    quantity: Quantity
    entry_at_ms: int
    exit_at_ms: int
    buy_value_paise: int
    sell_value_paise: int
    gross_paise: int
    charges_paise: int
    net_paise: int
    entry_reference_paise: int
    exit_reference_paise: int
    exit_reason: str
    stop_paise: int  # where the stop ended; 0: none
    why_entry: Explanation
    why_exit: Explanation


def opened(enter: Enter) -> Position:
    """The trade that an entry begins; nothing is held yet."""
    return Position(
        trade=enter.trade,
        contract=enter.contract,
        security=enter.contract.security,
        entry=Leg(
            intent=enter.intent,
            decided_at_ms=enter.at_ms,
            quantity=enter.quantity,
            reference_paise=enter.reference_paise,
            reason="entry",
            why=enter.why,
        ),
    )


def with_exit(position: Position, exit_: Exit) -> Position:
    """The trade once an exit is on its way."""
    leg = Leg(
        intent=exit_.intent,
        decided_at_ms=exit_.at_ms,
        quantity=exit_.quantity,
        reference_paise=exit_.reference_paise,
        reason=exit_.reason,
        why=exit_.why,
    )
    return position._replace(exits=(*position.exits, leg), closing=exit_.reason)


def with_cancel(position: Position) -> Position:
    """The trade once the cancellation of its entry has been asked for."""
    return position._replace(entry=position.entry._replace(cancel_asked=True))


def has_intent(position: Position, intent: int) -> bool:
    """True when `intent` is one of the trade's orders."""
    return any(leg.intent == intent for leg in position.legs)


def apply_fill(position: Position, fill: Fill, params: Params) -> Position:
    """The trade after one execution. A sale beyond what is held leaves `held` negative, for all to see."""
    if fill.intent == position.entry.intent:
        if fill.side is not Side.BUY:
            raise ValueError(f"intent {fill.intent} buys, found a fill that sells: {fill}")
        entry = _filled(position.entry, fill)
        return position._replace(
            entry=entry,
            held=position.held + fill.quantity,
            cost_paise=position.cost_paise + fill.value_paise,
            stop_paise=max(position.stop_paise, initial_stop_paise(entry, params)),
        )
    if fill.side is not Side.SELL:
        raise ValueError(f"intent {fill.intent} sells, found a fill that buys: {fill}")
    return position._replace(
        exits=tuple(_filled(leg, fill) if leg.intent == fill.intent else leg for leg in position.exits),
        held=position.held - fill.quantity,
        cost_paise=position.cost_paise - fill.value_paise,
    )


def apply_end(position: Position, end: IntentClosed) -> Position:
    """The trade after one of its intents ended. Fills and ends of different intents may come in any order."""
    if end.intent == position.entry.intent:
        return position._replace(entry=_ended(position.entry, end))
    return position._replace(
        exits=tuple(_ended(leg, end) if leg.intent == end.intent else leg for leg in position.exits)
    )


def initial_stop_paise(entry: Leg, params: Params) -> int:
    """The initial stop for what was bought so far; 0 without one.

    Rounding the average down keeps `price <= stop` exact for prices in whole paise.
    """
    if not params.stop_loss_paise or not entry.filled:
        return 0
    return max(0, entry.value_paise // entry.filled - params.stop_loss_paise)


def trade_of(position: Position, rates: Rates) -> Trade | None:
    """The completed round trip, or None where nothing was bought or it is not settled."""
    sold = [leg for leg in position.exits if leg.filled]
    if not position.is_settled or not position.entry.filled or not sold:
        return None
    bought = order_charges(Side.BUY, position.entry.value_paise, rates)
    charges_paise = bought.total_paise + sum(
        order_charges(Side.SELL, leg.value_paise, rates).total_paise for leg in sold
    )
    gross_paise = -position.cost_paise
    return Trade(
        trade=position.trade,
        contract=position.contract,
        quantity=Quantity(position.entry.filled),
        entry_at_ms=position.entry.first_fill_ms,
        exit_at_ms=max(leg.last_fill_ms for leg in position.legs),
        buy_value_paise=position.entry.value_paise,
        sell_value_paise=sum(leg.value_paise for leg in sold),
        gross_paise=gross_paise,
        charges_paise=charges_paise,
        net_paise=gross_paise - charges_paise,
        entry_reference_paise=position.entry.reference_paise,
        exit_reference_paise=sold[0].reference_paise,
        exit_reason=sold[0].reason,
        stop_paise=position.stop_paise,
        why_entry=position.entry.why,
        why_exit=sold[0].why,
    )


def legs_of(positions: Sequence[Position]) -> tuple[Leg, ...]:
    """Every intent of these trades."""
    return tuple(leg for position in positions for leg in position.legs)


def trades_of(settled: Sequence[Position], rates: Rates) -> tuple[Trade, ...]:
    """The round trips among settled trades; an entry that never filled is none."""
    return tuple(trade for position in settled if (trade := trade_of(position, rates)))


def _ended(leg: Leg, end: IntentClosed) -> Leg:
    return leg._replace(outcome=end.outcome, message=end.message, ended_ms=end.at_ms)


def _filled(leg: Leg, fill: Fill) -> Leg:
    return leg._replace(
        filled=leg.filled + fill.quantity,
        value_paise=leg.value_paise + fill.value_paise,
        first_fill_ms=leg.first_fill_ms or fill.at_ms,
        last_fill_ms=fill.at_ms,
    )
