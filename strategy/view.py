"""A session as people look at it: one frozen summary, nothing to compute any more.

Money in paise, quantity in units, times as Unix milliseconds. Open P&L values what is held at its last price.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from strategy.actions import ExitReason
from strategy.candles import Candle, TickFaults
from strategy.instruments import Contract
from strategy.plan import DayPlan
from strategy.position import Position, trades_of
from strategy.risk import entries_filled
from strategy.state import Limits, SessionState


@dataclass(frozen=True, slots=True, kw_only=True)
class PositionView:
    """One trade that is not settled."""

    trade: int
    contract: Contract
    quantity: int  # held
    entry_paise: int  # average, per unit; 0 before the first fill
    last_paise: int | None
    stop_paise: int | None
    stop_has_moved: bool
    opened_ms: int
    pnl_paise: int | None  # gross; None where no price is known
    entry_in_flight: bool
    closing: ExitReason | None


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionView:
    """Where the session stands."""

    at_ms: int
    spot_paise: int | None
    candle: Candle | None  # the last closed one
    supertrend_points: float | None
    direction: int  # +1 up, -1 down, 0 not known yet
    htf_direction: int
    macd_points: float | None
    macd_signal_points: float | None
    positions: tuple[PositionView, ...]
    entries_filled: int
    trades_settled: int
    realised_gross_paise: int
    realised_net_paise: int
    open_gross_paise: int
    limits: Limits
    halts: tuple[str, ...]
    cautions: tuple[str, ...]
    ending: ExitReason | None
    over: bool
    refusals: Mapping[str, int]
    faults: TickFaults


def view(state: SessionState, plan: DayPlan) -> SessionView:
    """The summary of `state`."""
    settled = trades_of(state.book.settled, plan.rates)
    positions = tuple(_position(state, position) for position in state.book.positions)
    signals, gate = state.signals, state.gate
    return SessionView(
        at_ms=state.now_ms,
        spot_paise=state.spot.last_paise or None,
        candle=signals.candle,
        supertrend_points=signals.line_points,
        direction=signals.direction,
        htf_direction=signals.htf_direction,
        macd_points=signals.macd_points,
        macd_signal_points=signals.macd_signal_points,
        positions=positions,
        entries_filled=entries_filled(state.book),
        trades_settled=len(settled),
        realised_gross_paise=state.book.realised_paise,
        realised_net_paise=sum(trade.net_paise for trade in settled),
        open_gross_paise=sum(position.pnl_paise or 0 for position in positions),
        limits=gate.limits,
        halts=gate.halts,
        cautions=gate.cautions,
        ending=gate.ending,
        over=gate.over,
        refusals=gate.refusals,
        faults=state.spot.faults,
    )


def _position(state: SessionState, position: Position) -> PositionView:
    quote = state.quote_of(position)
    return PositionView(
        trade=position.trade,
        contract=position.contract,
        quantity=position.held,
        entry_paise=position.entry_paise,
        last_paise=None if quote is None else quote.price_paise,
        stop_paise=position.stop_paise or None,
        stop_has_moved=position.trailed,
        opened_ms=position.opened_ms,
        pnl_paise=None if quote is None else position.pnl_paise(quote.price_paise),
        entry_in_flight=position.entry.is_live,
        closing=position.closing,
    )
