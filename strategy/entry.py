"""Whether the close of a candle is an entry, and what is bought. The order of the checks is the rule.

Invariants:
1. Every candle is either an entry or has exactly one reason why not; the first that holds is named and counted.
2. A premium is seen, never made up: without a fresh quote of the very contract nothing is bought.
3. The strike is the index price rounded to the strike step, moved by `moneyness` (out of the money for plus).
"""

from enum import StrEnum

from strategy.actions import Action, Enter, EntryRefused, Explanation
from strategy.explain import Facts, purchase_facts, settings_facts, signal_facts
from strategy.instruments import OptionType, quantity_of, strike_for
from strategy.params import Params
from strategy.plan import DayPlan
from strategy.position import legs_of, opened, trades_of
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


def judged(
    state: SessionState, plan: DayPlan, params: Params, *, gap_ms: int
) -> tuple[SessionState, tuple[Action, ...]]:
    """The last closed candle as an entry, or with the one reason why it is none.

    `gap_ms` is how long the index had been silent when the candle closed.
    """
    refusal = session_refusal(state, plan, params, gap_ms=gap_ms) or signal_refusal(state.signals, params)
    if refusal is not None:
        return refused(state, refusal, params)
    verdict = _purchase(state, plan, params)
    if isinstance(verdict, Refusal):
        return refused(state, verdict, params)
    book = state.book._replace(
        positions=(*state.book.positions, opened(verdict)),
        last_intent=verdict.intent,
        last_trade=verdict.trade,
    )
    return state._replace(book=book), (verdict,)


def refused(state: SessionState, refusal: Refusal, params: Params) -> tuple[SessionState, tuple[Action, ...]]:
    """The state with `refusal` counted; said aloud where the candle asked for an entry."""
    gate = state.gate
    refusals = {**gate.refusals, refusal.value: gate.refusals.get(refusal.value, 0) + 1}
    state = state._replace(gate=gate._replace(refusals=refusals))
    if not is_signal(state.signals, params):
        return state, ()
    facts: dict[str, float | int | str | bool | None] = dict(signal_facts(state.signals))
    if refusal is Refusal.HALTED:
        facts["halts"] = ", ".join(gate.halts)
    if refusal is Refusal.CAUTION:
        facts["cautions"] = ", ".join(gate.cautions)
    why = Explanation(facts=facts)
    return state, (EntryRefused(at_ms=state.now_ms, reason=refusal.value, why=why),)


def is_signal(signals: Signals, params: Params) -> bool:
    """True when the candle asks for an entry, whatever else may speak against it."""
    return signals.direction != 0 and (signals.flipped or not params.flip_only)


def session_refusal(state: SessionState, plan: DayPlan, params: Params, *, gap_ms: int) -> Refusal | None:
    """What speaks against any entry now, or None."""
    book, gate, now_ms = state.book, state.gate, state.now_ms
    if book.positions:
        held = any(position.held > 0 for position in book.positions)
        return Refusal.POSITION_OPEN if held else Refusal.ORDER_IN_FLIGHT
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
    last_order_ms = max((leg.decided_at_ms for leg in legs_of(book.settled)), default=0)
    if now_ms - last_order_ms < params.order_cooldown_seconds * 1000:
        return Refusal.COOLDOWN
    last_entry_ms = max((position.opened_ms for position in book.settled), default=0)
    if now_ms - last_entry_ms < params.min_trade_gap_seconds * 1000:
        return Refusal.TRADE_GAP
    if is_breached(day_pnl_paise(state), gate.limits.daily_max_loss_paise):
        return Refusal.DAILY_MAX_LOSS
    if params.pause_after_losses and now_ms < paused_until_ms(trades_of(book.settled, plan.rates), params):
        return Refusal.PAUSED_AFTER_LOSSES
    return None


def signal_refusal(signals: Signals, params: Params) -> Refusal | None:
    """What the indicators say against an entry on the last candle, or None."""
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


def _purchase(state: SessionState, plan: DayPlan, params: Params) -> Enter | Refusal:
    option_type = OptionType.CE if state.signals.direction > 0 else OptionType.PE
    spot_paise = state.spot.last_paise
    strike_points = strike_for(plan.index, spot_paise, params.moneyness, option_type)
    contract = plan.contracts.get((strike_points, option_type))
    if contract is None:
        return Refusal.NO_CONTRACT
    quote = state.options.quotes.get(contract.security)
    if quote is None or state.now_ms - quote.seen_ms > params.stale_after_ms:
        return Refusal.NO_OPTION_QUOTE
    spread = _spread_refusal(quote, params)
    if spread is not None:
        return spread
    lots = entry_lots(params, contract.lot_size)
    if lots < 1:
        return Refusal.RISK_TOO_SMALL
    facts: Facts = {
        **signal_facts(state.signals),
        **purchase_facts(spot_paise, contract, quote, lots),
        **settings_facts(params),
    }
    return Enter(
        at_ms=state.now_ms,
        intent=state.book.last_intent + 1,
        trade=state.book.last_trade + 1,
        contract=contract,
        quantity=quantity_of(lots, contract.lot_size),
        reference_paise=quote.ask_paise or quote.price_paise,
        why=Explanation(facts=facts),
    )


def _spread_refusal(quote: Quote, params: Params) -> Refusal | None:
    if not params.max_spread_percent:
        return None
    if not quote.bid_paise or not quote.ask_paise:
        return Refusal.SPREAD_UNKNOWN
    spread_paise, twice_middle_paise = quote.ask_paise - quote.bid_paise, quote.ask_paise + quote.bid_paise
    too_wide = spread_paise * 200 > params.max_spread_percent * twice_middle_paise
    return Refusal.SPREAD_TOO_WIDE if too_wide else None
