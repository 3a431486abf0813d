"""Whether the close of a candle is an entry, and what is bought. The order of the checks is the rule.

Invariants:
1. Every candle is either an entry or has exactly one reason why not; the first that holds is named.
2. A premium is seen, never made up: without a fresh quote of the very contract nothing is bought.
3. The strike is the index price rounded to the strike step, moved by `moneyness` (out of the money for plus).
"""

from dataclasses import dataclass
from enum import StrEnum

from strategy.explain import Facts, entry_facts
from strategy.instruments import Contract, Index, Lots, OptionType, Quantity
from strategy.params import Params
from strategy.plan import DayPlan
from strategy.position import legs_of, trade_of
from strategy.risk import day_pnl_paise, entries_filled, entry_lots, is_breached, paused_until_ms
from strategy.signals import Signals
from strategy.state import Quote, SessionState


class Refusal(StrEnum):
    """Why a closed candle was not an entry, in the order of the checks."""

    POSITION_OPEN = "position_open"
    ORDER_IN_FLIGHT = "order_in_flight"
    SESSION_ENDING = "session_ending"
    OUTSIDE_HOURS = "outside_hours"
    HALTED = "halted"
    CAUTION = "caution"
    ENTRIES_DISABLED = "entries_disabled"
    TICKS_STALE = "ticks_stale"
    BEFORE_ENTRY_START = "before_entry_start"
    AFTER_ENTRY_CUTOFF = "after_entry_cutoff"
    MAX_TRADES = "max_trades"
    COOLDOWN = "cooldown"
    TRADE_GAP = "trade_gap"
    DAILY_MAX_LOSS = "daily_max_loss"
    PAUSED_AFTER_LOSSES = "paused_after_losses"
    DIRECTION_UNKNOWN = "direction_unknown"
    NO_FLIP = "no_flip"
    MACD_NOT_READY = "macd_not_ready"
    MACD_AGAINST = "macd_against"
    HTF_NOT_READY = "htf_not_ready"
    HTF_AGAINST = "htf_against"
    NO_CONTRACT = "no_contract"
    NO_OPTION_QUOTE = "no_option_quote"
    SPREAD_UNKNOWN = "spread_unknown"
    SPREAD_TOO_WIDE = "spread_too_wide"
    RISK_TOO_SMALL = "risk_too_small"


@dataclass(frozen=True, slots=True, kw_only=True)
class Purchase:
    """An entry that passed every check."""

    contract: Contract
    quantity: Quantity
    reference_paise: int
    facts: Facts


def judge(state: SessionState, plan: DayPlan, params: Params, *, gap_ms: int) -> Purchase | Refusal:
    """What the last closed candle means; `gap_ms` is how long the index had been silent when it closed."""
    refusal = _session_refusal(state, plan, params, gap_ms) or _signal_refusal(state.signals, params)
    if refusal is not None:
        return refusal
    return _purchase(state, plan, params)


def is_signal(signals: Signals, params: Params) -> bool:
    """True when the candle asks for an entry, whatever else may speak against it."""
    return signals.direction != 0 and (signals.flipped or not params.flip_only)


def strike_points(spot_paise: int, step_points: int, option_type: OptionType, moneyness: int) -> int:
    """The strike for an index at `spot_paise`; halfway between two strikes the higher one is at the money."""
    step_paise = step_points * 100
    at_the_money = (2 * spot_paise + step_paise) // (2 * step_paise) * step_points
    outward = step_points if option_type is OptionType.CE else -step_points
    return at_the_money + moneyness * outward


def choices(spot_paise: int, plan: DayPlan, params: Params) -> tuple[Contract, ...]:
    """The contracts an entry could choose near this spot: call and put, one strike around each."""
    index: Index = plan.index
    found = []
    for option_type in (OptionType.CE, OptionType.PE):
        strike = strike_points(spot_paise, index.strike_step_points, option_type, params.moneyness)
        for steps in (0, -1, 1):
            contract = plan.contracts.get((strike + steps * index.strike_step_points, option_type))
            if contract is not None:
                found.append(contract)
    return tuple(found)


def _session_refusal(state: SessionState, plan: DayPlan, params: Params, gap_ms: int) -> Refusal | None:
    book, gate, now_ms = state.book, state.gate, state.now_ms
    if any(position.held for position in book.positions):
        return Refusal.POSITION_OPEN
    if book.positions:
        return Refusal.ORDER_IN_FLIGHT
    if gate.ending is not None:
        return Refusal.SESSION_ENDING
    if not plan.is_open(now_ms):
        return Refusal.OUTSIDE_HOURS
    if gate.halts:
        return Refusal.HALTED
    if gate.cautions:
        return Refusal.CAUTION
    if not params.entries_enabled:
        return Refusal.ENTRIES_DISABLED
    if gap_ms > params.stale_after_ms:
        return Refusal.TICKS_STALE
    if now_ms < plan.entry_start_ms:
        return Refusal.BEFORE_ENTRY_START
    if now_ms >= plan.entry_cutoff_ms:
        return Refusal.AFTER_ENTRY_CUTOFF
    if entries_filled(book) >= gate.limits.max_trades_per_day:
        return Refusal.MAX_TRADES
    orders_ms = [leg.decided_at_ms for leg in legs_of(book.settled)]
    if orders_ms and now_ms - max(orders_ms) < params.order_cooldown_seconds * 1000:
        return Refusal.COOLDOWN
    entries_ms = [position.opened_ms for position in book.settled if position.opened_ms]
    if entries_ms and now_ms - max(entries_ms) < params.min_trade_gap_seconds * 1000:
        return Refusal.TRADE_GAP
    if is_breached(day_pnl_paise(state), gate.limits.daily_max_loss_paise):
        return Refusal.DAILY_MAX_LOSS
    if params.pause_after_losses:
        trades = [trade for position in book.settled if (trade := trade_of(position, plan.charges))]
        if now_ms < paused_until_ms(trades, params):
            return Refusal.PAUSED_AFTER_LOSSES
    return None


def _signal_refusal(signals: Signals, params: Params) -> Refusal | None:
    direction = signals.direction
    if direction == 0:
        return Refusal.DIRECTION_UNKNOWN
    if params.flip_only and not signals.flipped:
        return Refusal.NO_FLIP
    if params.macd_confirmation:
        macd, signal = signals.macd_points, signals.macd_signal_points
        if macd is None or signal is None:
            return Refusal.MACD_NOT_READY
        if (macd >= signal) != (direction > 0):
            return Refusal.MACD_AGAINST
    if params.htf_filter:
        if signals.htf_direction == 0:
            return Refusal.HTF_NOT_READY
        if signals.htf_direction != direction:
            return Refusal.HTF_AGAINST
    return None


def _purchase(state: SessionState, plan: DayPlan, params: Params) -> Purchase | Refusal:
    option_type = OptionType.CE if state.signals.direction > 0 else OptionType.PE
    spot_paise = state.spot.last_paise
    strike = strike_points(spot_paise, plan.index.strike_step_points, option_type, params.moneyness)
    contract = plan.contracts.get((strike, option_type))
    if contract is None:
        return Refusal.NO_CONTRACT
    quote = state.options.quotes.get(contract.security)
    if quote is None or state.now_ms - quote.seen_ms > params.stale_after_ms:
        return Refusal.NO_OPTION_QUOTE
    refusal = _spread_refusal(quote, params)
    if refusal is not None:
        return refusal
    lots = entry_lots(params, contract.lot_size)
    if lots < 1:
        return Refusal.RISK_TOO_SMALL
    return Purchase(
        contract=contract,
        quantity=quantity_of(lots, contract),
        reference_paise=quote.ask_paise or quote.price_paise,
        facts=entry_facts(state.signals, spot_paise, contract, quote, lots, params),
    )


def _spread_refusal(quote: Quote, params: Params) -> Refusal | None:
    if not params.max_spread_percent:
        return None
    if not quote.bid_paise or not quote.ask_paise:
        return Refusal.SPREAD_UNKNOWN
    spread, middle_twice = quote.ask_paise - quote.bid_paise, quote.ask_paise + quote.bid_paise
    return Refusal.SPREAD_TOO_WIDE if spread * 200 > params.max_spread_percent * middle_twice else None


def quantity_of(lots: Lots, contract: Contract) -> Quantity:
    """Units of `lots` of a contract."""
    return Quantity(lots * contract.lot_size)
