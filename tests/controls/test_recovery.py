"""A start takes up what the ledger knows and what the broker holds, with stop, best price, counters and halts."""

from functools import partial

import pytest

from strategy.actions import Adopt, Alert, Exit, ExitReason, Halted, Severity, StopMoved
from strategy.events import Command, CommandKind, Timer
from strategy.params import Params
from strategy.reconcile import Kind
from strategy.session import start, step
from strategy.state import Halt
from tasks.broker import BrokerUnavailable, RateLimited
from tasks.evening.prices import price_orders
from tasks.evening.reconciliation import compare_session
from tasks.ledger.records import DecisionRecord
from tasks.preflight import NotReady, nothing_foreign_is_open
from tasks.trading.auditor import Auditor
from tasks.trading.decisions import decision_record
from tasks.trading.recovery import (
    foreign_at_broker,
    most_held,
    read_history,
    read_patiently,
    record_adoption,
    recover_orders,
)
from tasks.trading.session import day_plan


def taken_up(session):
    """What a new start of the session begins with: state, opening actions, and what of the broker's is foreign."""
    connections = session.connections
    params, plan = connections.params, day_plan(connections)
    prefix = session.key.order_prefix(connections.salt)
    recovered = recover_orders(session.ledger, session.session_id, session.execution)
    open_intents = session.execution.open_intents()
    history = read_history(session.ledger, session.session_id, recovered, open_intents=open_intents)
    known = most_held(recovered.intents, recovered.fills, open_intents=open_intents)
    foreign = foreign_at_broker(connections.broker, plan.contracts.values(), known, prefix=prefix)
    history = type(history)(
        intents=history.intents, stops=history.stops, halts=history.halts, limits=history.limits,
        unknown=foreign.positions,
    )  # fmt: skip
    state, opening = start(plan, params, at_ms=session.clock.now_ms(), history=history)
    for action in opening:
        if isinstance(action, Adopt):
            record_adoption(
                session.ledger, action, session_id=session.session_id, fence=session.lease.fence, prefix=prefix
            )
        elif isinstance(action, Halted | Alert):
            session.ledger.record_decisions([decision_record(session.session_id, action)])
    return state, opening, foreign


def again(session, hold, **params):
    """The process died; the next one begins."""
    session.die()
    return hold(**params)


def bought_by_hand(session, market, units=65, kind="CE"):
    contract = session.contracts[kind]
    price = session.price_paise(contract) / 100
    market.place(contract.security, "BUY", units, round(price * 1.1))
    session.pass_time(3)
    return contract


def test_an_open_position_comes_back_with_stop_best_price_counters_limits_and_halts(hold, market):
    settings = {"stop_loss_points": 20, "trail_start_points": 5, "trail_step_points": 5}
    first = hold(**settings)
    contract = first.buy()
    (trade,) = first.ledger.trades(first.session_id)
    paid = trade.buy_value_paise // 65
    at_ms = first.clock.now_ms()
    first.ledger.record_decisions(
        [
            decision_record(
                first.session_id, StopMoved(at_ms=at_ms, trade=1, stop_paise=paid + 500, best_paise=paid + 1_100)
            ),
            decision_record(first.session_id, Halted(at_ms=at_ms, reason=Halt.OPERATOR)),
            DecisionRecord(
                session_id=first.session_id, at_ms=at_ms, kind="limits_tightened", reason="operator",
                detail={"daily_max_loss_paise": 900_00, "max_trades_per_day": 2},
            ),
        ]
    )  # fmt: skip
    state, opening, foreign = taken_up(again(first, hold, **settings))
    (position,) = state.book.positions
    assert (position.contract, position.held, position.cost_paise) == (contract, 65, trade.buy_value_paise)
    assert (position.stop_paise, position.best_paise, position.trailed) == (paid + 500, paid + 1_100, True)
    assert (state.book.last_intent, state.book.last_trade) == (1, 1)
    assert (state.gate.limits.daily_max_loss_paise, state.gate.limits.max_trades_per_day) == (900_00, 2)
    assert state.gate.halts == (Halt.OPERATOR,)
    assert not foreign
    assert not any(isinstance(action, Adopt | Alert) for action in opening)


def test_by_default_a_position_of_unknown_origin_halts_and_is_left_alone(hold, market):
    session = hold()
    bought_by_hand(session, market)
    state, opening, foreign = taken_up(session)
    assert [found.quantity for found in foreign.positions] == [65]
    told = [action for action in opening if isinstance(action, Alert)]
    assert (told[0].kind, told[0].severity) == ("unknown_position", Severity.CRITICAL)
    assert state.gate.halts == (Halt.UNKNOWN_POSITION,)
    assert state.book.positions == ()
    later, _, _ = taken_up(again(session, hold))
    assert Halt.UNKNOWN_POSITION in later.gate.halts


def test_an_adopted_position_is_a_trade_of_ours_with_a_stop_and_is_adopted_once(hold, market):
    settings = {"on_unknown_position": "adopt", "stop_loss_points": 20}
    session = hold(**settings)
    contract = bought_by_hand(session, market)
    state, opening, _ = taken_up(session)
    (position,) = state.book.positions
    assert (position.contract, position.held) == (contract, 65)
    assert position.stop_paise == position.entry_paise - 20_00
    (trade,) = session.ledger.trades(session.session_id)
    assert (trade.open_quantity, trade.buy_value_paise) == (65, position.cost_paise)
    # The next start knows it from the ledger: the same position, and nothing foreign any more.
    later, opening, foreign = taken_up(again(session, hold, **settings))
    assert not foreign
    assert not any(isinstance(action, Adopt) for action in opening)
    (same,) = later.book.positions
    assert (same.held, same.cost_paise, same.stop_paise) == (65, position.cost_paise, position.stop_paise)
    assert later.book.last_trade == 1


def agrees(session, *, day_over):
    """Whether the running comparison, and the evening's find nothing but the hand's own order."""
    broker, ledger, session_id = session.connections.broker, session.ledger, session.session_id
    auditor = Auditor(
        broker=broker, ledger=ledger, inbox=session.inbox, now_ms=session.clock.now_ms, session_id=session_id,
        prefix=session.key.order_prefix(session.connections.salt), written=session.execution.flush,
    )  # fmt: skip
    found, _ = auditor._compare()
    auditor.close()
    assert found == ()
    compared = compare_session(ledger, broker, session_id, day_over=day_over)
    assert [difference.kind for difference in compared.differences] == [Kind.FOREIGN], compared
    return compared.agrees


@pytest.mark.parametrize("policy", ["adopt", "flatten"])
def test_a_position_taken_over_and_sold_is_reconciled_as_what_it_is(policy, hold, market):
    session = hold(on_unknown_position=policy)
    bought_by_hand(session, market)
    state, _, _ = taken_up(session)
    asked = Command(at_ms=session.clock.now_ms(), command_id="c", kind=CommandKind.STOP, reason="")
    _, actions = step(state, asked, day_plan(session.connections), session.connections.params)
    (exit_,) = [action for action in actions if isinstance(action, Exit)]
    if policy == "adopt":
        assert agrees(session, day_over=False), "held"
    session.execution.submit(exit_)
    session.settle()
    price_orders(session.ledger, session.session_id, session.connections.rates)
    assert market.net == {}
    assert agrees(session, day_over=True), "sold"


def test_a_position_to_be_flattened_is_sold_at_the_first_moment(hold, market):
    session = hold(on_unknown_position="flatten")
    bought_by_hand(session, market)
    state, _, _ = taken_up(session)
    _, actions = step(
        state, Timer(at_ms=session.clock.now_ms()), day_plan(session.connections), session.connections.params
    )
    (exit_,) = [action for action in actions if hasattr(action, "reason") and hasattr(action, "quantity")]
    assert (exit_.quantity, exit_.reason) == (65, ExitReason.UNKNOWN_POSITION)


# What is open, and whether preflight and the start call it foreign: they must judge alike.
FOREIGN = {
    "nothing": ("", []),
    "our own position": ("buy", []),
    "our own order that is still buying": ("buy-slowly", []),
    "a position in another contract": ("buy by-hand-put", [65]),
    "more of our own contract than we bought": ("buy by-hand-call", [65]),
    "an order of somebody else": ("order-by-hand", []),
}


@pytest.mark.parametrize("name", FOREIGN)
def test_preflight_and_the_start_judge_alike_what_is_foreign(name, hold, market):
    what, units = FOREIGN[name]
    session = hold()
    for word in what.split():
        if word == "buy":
            session.buy()
        elif word == "buy-slowly":
            session.buy(below=20_00, settle=False)
            session.pass_time(2)
        elif word == "order-by-hand":
            contract = session.contracts["CE"]
            market.place(contract.security, "BUY", 65, round(session.price_paise(contract) / 100 * 0.8))
            session.pass_time(2)
        else:
            bought_by_hand(session, market, kind="CE" if word.endswith("call") else "PE")
    session = again(session, hold)
    _, _, foreign = taken_up(session)
    assert [found.quantity for found in foreign.positions] == units
    assert bool(foreign) == ("hand" in what)
    if foreign:
        with pytest.raises(NotReady, match="Close it at the broker, or set on_unknown_position"):
            nothing_foreign_is_open(session.connections)
    else:
        assert nothing_foreign_is_open(session.connections) == "nothing foreign is open"


def test_an_unreadable_broker_is_not_flat(hold, market):
    session = hold()
    market.post_faults({"fault": "server_error", "at": {"call": "positions", "nth": 1}, "times": 50})
    with pytest.raises(NotReady, match="Unreadable is not flat"):
        nothing_foreign_is_open(session.connections)
    plan = day_plan(session.connections)
    with pytest.raises(BrokerUnavailable):
        foreign_at_broker(session.connections.broker, plan.contracts.values(), {}, prefix="x")


def test_a_broker_that_was_asked_too_often_is_asked_again(hold, market):
    session = hold()
    plan, broker, waited = day_plan(session.connections), session.connections.broker, []
    look = partial(foreign_at_broker, broker, plan.contracts.values(), {}, prefix="x")
    market.post_faults({"fault": "rate_storm", "at": {"call": "positions", "nth": 1}, "times": 2})
    assert read_patiently(look, waited.append).positions == ()
    assert waited == [1.0, 2.0]
    market.post_faults({"fault": "rate_storm", "at": {"call": "positions", "nth": 1}, "times": 50})
    with pytest.raises(RateLimited):
        read_patiently(look, waited.append)


def test_the_settings_of_the_form_know_the_three_ways():
    assert [Params(on_unknown_position=name).on_unknown_position for name in ("halt", "adopt", "flatten")]
