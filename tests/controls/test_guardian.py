"""The last look of the day: what is open at the broker is closed once, whoever asks and however often."""

from tasks.connect import open_ledger
from tasks.trading.guarding import guard, look_without_ledger


def guarded(settings):
    with open_ledger(settings) as ledger:
        return guard(settings, ledger)


def test_a_flat_account_is_left_alone_and_nothing_is_recorded(settings, hold, market):
    session = hold()
    session.die()
    with open_ledger(settings) as ledger:
        (outcome,) = guard(settings, ledger)
        assert not ledger.decisions(session.session_id)
    assert (outcome.done, outcome.acted, outcome.said) == (True, False, "all flat")
    assert market.truth()["orders"] == []


def test_what_a_dead_session_holds_is_sold_once_however_often_the_guardian_looks(settings, hold, market):
    session = hold()
    contract = session.buy()
    session.die()
    assert market.net == {contract.security: 65}
    first, *later = [guarded(settings)[0] for _ in range(10)]
    assert (first.done, first.acted) == (True, True), first
    assert f"sold 65 x {contract.name}" in first.said
    assert [(o.done, o.acted) for o in later] == [(True, False)] * 9
    assert (market.net, market.sold, market.lowest_ever) == ({}, 65, 0)


def test_an_entry_that_is_still_buying_is_cancelled_and_what_it_bought_is_sold(settings, hold, market):
    session = hold()
    contract = session.buy()
    session.buy(intent=2, trade=2, kind="PE", below=20_00, settle=False)
    session.pass_time(2)
    session.die()
    assert [o["status"] for o in market.truth()["orders"]] == ["TRADED", "PENDING"]
    (outcome,) = guarded(settings)
    assert outcome.done, outcome
    assert f"sold 65 x {contract.name}" in outcome.said
    assert "cancelled buying 65" in outcome.said
    assert market.net == {}
    assert all(o["status"] in {"TRADED", "CANCELLED"} for o in market.truth()["orders"])


def test_what_others_hold_in_the_same_contract_is_shown_and_never_sold(settings, hold, market):
    session = hold()
    contract = session.buy()
    price = session.price_paise(contract) / 100
    market.place(contract.security, "BUY", 130, round(price * 1.1))
    session.pass_time(3)
    session.die()
    assert market.net == {contract.security: 195}
    (outcome,) = guarded(settings)
    assert outcome.done, outcome
    assert f"not ours and not touched: 130 x {contract.name}" in outcome.said
    assert (market.net, market.sold) == ({contract.security: 130}, 65)
    assert not guarded(settings)[0].acted


def test_never_more_is_sold_than_the_account_still_holds(settings, hold, market):
    session = hold()
    contract = session.buy(lots=3)
    price = session.price_paise(contract) / 100
    market.place(contract.security, "SELL", 130, round(price * 0.9))  # by hand, at the broker's terminal
    session.pass_time(3)
    session.die()
    assert market.net == {contract.security: 65}
    (outcome,) = guarded(settings)
    assert outcome.done, outcome
    assert (market.net, market.lowest_ever) == ({}, 0)


def test_without_the_ledger_it_says_what_is_open_and_sells_nothing(settings, hold, market):
    session = hold()
    session.buy()
    session.die()
    (outcome,) = look_without_ledger(settings)
    assert not outcome.done
    assert "OPEN AT THE BROKER, and the ledger is away, so nothing is sold here: 65 x" in outcome.said
    assert market.sold == 0
    guarded(settings)
    assert look_without_ledger(settings) == ()


def test_right_after_a_crash_the_lease_of_the_dead_is_waited_for(settings, hold, market):
    session = hold(ttl_s=3.0)  # nobody renews it any more, but it has not run out
    session.buy()
    session.die()
    (outcome,) = guarded(settings)
    assert (outcome.done, outcome.acted) == (True, True), outcome
    assert market.net == {}
