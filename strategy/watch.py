"""Which contracts' ticks are wanted, and what to do when ticks do not come.

Invariants:
1. What is held is always among the wanted.
2. The wish changes only when the index has moved well into the next strike, so it does not flap.
3. One alert per silence of the index. While what is held is silent its price is asked for once per limit, and the
   second request without an answer is a critical alert.
"""

from collections.abc import Sequence

from strategy.actions import Action, PollQuote, Severity, Watch
from strategy.instruments import Contract, OptionType, atm_strike_points, strike_for
from strategy.params import Params
from strategy.plan import DayPlan
from strategy.state import Options, SessionState, alert

# Of a strike step: this far from the middle strike of the last wish it is renewed. Beyond one half, and below one.
RENEW_PERCENT = 75
POLLS_UNTIL_ALERT = 2


def choices(spot_paise: int, plan: DayPlan, params: Params) -> tuple[Contract, ...]:
    """The contracts an entry could choose near this spot: call and put, with one strike on either side."""
    step_points = plan.index.strike_step_points
    found = []
    for option_type in (OptionType.CE, OptionType.PE):
        middle_points = strike_for(plan.index, spot_paise, params.moneyness, option_type)
        for strike_points in (middle_points, middle_points - step_points, middle_points + step_points):
            contract = plan.contracts.get((strike_points, option_type))
            if contract is not None:
                found.append(contract)
    return tuple(found)


def with_wish_renewed(state: SessionState, plan: DayPlan, params: Params) -> tuple[SessionState, tuple[Action, ...]]:
    """The state with the wish for contracts around the index as it is now, where it has moved enough."""
    spot_paise, options = state.spot.last_paise, state.options
    if options.low_paise <= spot_paise <= options.high_paise:
        return state, ()
    middle_paise = atm_strike_points(plan.index, spot_paise) * 100
    reach_paise = plan.index.strike_step_points * RENEW_PERCENT
    state = state._replace(
        options=options._replace(low_paise=middle_paise - reach_paise, high_paise=middle_paise + reach_paise)
    )
    return with_wish(state, choices(spot_paise, plan, params))


def with_wish(state: SessionState, wanted: Sequence[Contract]) -> tuple[SessionState, tuple[Action, ...]]:
    """The state in which ticks of `wanted` and of what is held are wanted; says so if that is new."""
    before = state.options
    held = [position.contract for position in state.book.positions]
    watched = {contract.security: contract for contract in (*held, *wanted)}
    if watched.keys() == before.watched.keys():
        return state, ()
    quotes = {security: quote for security, quote in before.quotes.items() if security in watched}
    state = state._replace(options=Options(watched, quotes, before.low_paise, before.high_paise))
    return state, (Watch(at_ms=state.now_ms, contracts=tuple(watched.values())),)


def watch_over_feed(state: SessionState, plan: DayPlan, params: Params) -> tuple[SessionState, tuple[Action, ...]]:
    """What a Timer does about silence."""
    now_ms, silence = state.now_ms, state.silence
    # Nobody was listening before the session started, and nobody spoke before the market opened.
    since_ms = max(plan.opened_ms(now_ms), state.gate.started_ms)
    quiet_ms = now_ms - max(state.spot.last_at_ms, since_ms)
    is_stale = quiet_ms > params.stale_after_ms
    actions: tuple[Action, ...] = ()
    if is_stale and not silence.index_told:
        message = f"no tick of {plan.index.underlying} for {quiet_ms // 1000} s; no entries until they are back"
        actions = (alert(state, "index_ticks_stale", Severity.WARNING, message),)
    if is_stale != silence.index_told:
        state = state._replace(silence=silence._replace(index_told=is_stale))
    state, asked = _ask_for_prices(state, since_ms, plan, params)
    return state, actions + asked


def _ask_for_prices(
    state: SessionState, since_ms: int, plan: DayPlan, params: Params
) -> tuple[SessionState, tuple[Action, ...]]:
    now_ms, silence = state.now_ms, state.silence
    held = [position for position in state.book.positions if position.held > 0]
    if not held or not plan.is_open(now_ms):
        if silence.polls:
            state = state._replace(silence=silence._replace(polled_ms=0, polls=0))
        return state, ()
    seen_ms = min(
        max(quote.seen_ms if (quote := state.quote_of(position)) else 0, position.opened_ms, since_ms)
        for position in held
    )
    if silence.polls and seen_ms >= silence.polled_ms:  # in lock-step the answer is there in the same moment
        silence = silence._replace(polled_ms=0, polls=0)
    actions: list[Action] = []
    if now_ms - max(seen_ms, silence.polled_ms) >= params.stale_after_ms:
        silence = silence._replace(polled_ms=now_ms, polls=silence.polls + 1)
        actions += [PollQuote(at_ms=now_ms, contract=position.contract) for position in held]
        if silence.polls == POLLS_UNTIL_ALERT:
            message = (
                f"no price of {held[0].contract.name} for {(now_ms - seen_ms) // 1000} s, not even on request; "
                "its stop cannot work. Look at the position at the broker"
            )
            actions.append(alert(state, "held_contract_silent", Severity.CRITICAL, message))
    return state._replace(silence=silence), tuple(actions)
