"""The broker's own loss exit: set when a session begins, fired by the broker alone, taken back by the last session."""

import pytest
from pydantic import ValidationError

from strategy.events import CommandKind
from strategy.params import Product
from tasks.controls import control_sessions
from tasks.settings import REHEARSAL_ACCESS_TOKEN, REHEARSAL_CLIENT_ID, Settings
from tasks.trading.backstop import BrokerBackstop, backstop_paise

pytestmark = [pytest.mark.timeout(300)]

LIMIT_PAISE = 1_000_00
ACTIVE = {
    "pnlExitStatus": "ACTIVE", "profit": "5000000.00", "loss": "1500.00",
    "productType": ["INTRADAY", "DELIVERY"], "enable_kill_switch": False,
}  # fmt: skip
DISABLED = {"pnlExitStatus": "DISABLED"}


def at_broker(market):
    headers = {"access-token": REHEARSAL_ACCESS_TOKEN, "client-id": REHEARSAL_CLIENT_ID}
    return market.session.get(f"{market.url}/v2/pnlExit", headers=headers, timeout=30).json()


@pytest.fixture
def backstop(hold):
    """backstop(holder=…, wanted=…): of a session that has begun; what it told stands in `.told`."""
    told = []

    def of(holder, *, wanted=True, product=Product.INTRADAY, broker=None):
        made = BrokerBackstop(
            wanted=wanted, limit_paise=LIMIT_PAISE, product=product, broker=broker or holder.connections.broker,
            ledger=holder.ledger, key=holder.key, notify=told.append, now_ms=holder.clock.now_ms,
        )  # fmt: skip
        made.told = told
        return made

    return of


@pytest.mark.parametrize(
    ("limit_paise", "loss_paise"), [(1_000_00, 1_500_00), (1_00, 2_00), (333_33, 500_00), (1, 1_00)]
)
def test_the_broker_closes_half_the_limit_beyond_it_in_whole_rupees(limit_paise, loss_paise):
    assert backstop_paise(limit_paise) == loss_paise


def test_it_is_off_by_default_and_needs_the_accounts_limit():
    assert not Settings(_env_file=None).broker_backstop
    with pytest.raises(ValidationError, match="BOT_ACCOUNT_DAILY_LOSS_LIMIT is 0: set the account's limit"):
        Settings(_env_file=None, broker_backstop=True)
    assert Settings(_env_file=None, broker_backstop=True, account_daily_loss_limit=1).broker_backstop


def test_unwanted_it_touches_nothing(market, hold, backstop):
    holder = hold()
    holder.connections.broker.set_loss_exit(900_00)  # somebody's own
    unwanted = backstop(holder, wanted=False)
    unwanted.put_up()
    unwanted.take_down(is_flat=True)
    assert at_broker(market) == {**ACTIVE, "loss": "900.00"}
    assert unwanted.told == []


@pytest.fixture
def day_of_a_dead_machine(market, hold, backstop):
    """Both kinds of product held, the machine dead at 10:00: what is held at 14:59, and what was bought."""

    def play():
        first = hold(product="INTRADAY", entry_cutoff="15:00", squareoff_at="15:10", ttl_s=60)
        backstop(first).put_up()
        covered = first.buy(lots=10)
        first.die()
        second = hold(index="BANKNIFTY")  # product MARGIN
        left_alone = second.buy()
        second.die()
        assert set(market.net) == {covered.security, left_alone.security}
        for _ in range(59):
            if covered.security in market.net:
                market.advance(seconds=300)
        return covered, left_alone

    return play


def test_with_the_machine_dead_the_broker_closes_at_the_loss_and_only_what_it_covers(market, day_of_a_dead_machine):
    covered, left_alone = day_of_a_dead_machine()
    assert market.net == {left_alone.security: left_alone.lot_size}, "MARGIN is not covered"
    assert (market.sold, market.lowest_ever) == (10 * covered.lot_size, 0)
    assert at_broker(market) == DISABLED, "it fires once"


PLANTED = {
    "it is never put up": ("put_up", lambda _: None),
    "it stands at a loss that no day reaches": (
        "put_up",
        lambda backstop: backstop._broker.set_loss_exit(100 * backstop_paise(LIMIT_PAISE)),
    ),
}


@pytest.mark.parametrize("fault", PLANTED)
def test_a_planted_fault_of_the_backstop_leaves_the_position_to_the_market(
    fault, market, day_of_a_dead_machine, monkeypatch
):
    """The test above can fail: with each of these what it demands is not so."""
    monkeypatch.setattr(BrokerBackstop, *PLANTED[fault])
    covered, _ = day_of_a_dead_machine()
    assert market.net.get(covered.security) == 10 * covered.lot_size
    assert market.sold == 0


def test_a_session_of_product_margin_is_told_that_it_is_not_covered(market, hold, backstop):
    made = backstop(hold(), product=Product.MARGIN)
    made.put_up()
    assert at_broker(market) == ACTIVE
    assert [notice.kind for notice in made.told] == ["broker_backstop"]
    assert "product is MARGIN, which it does not cover" in made.told[0].body


def test_what_the_broker_refuses_is_told_and_stops_nothing(market, hold, backstop):
    made = backstop(hold())
    market.post_faults({"fault": "server_error", "at": {"call": "set_pnl_exit", "nth": 1}})
    made.put_up()
    assert at_broker(market) == DISABLED
    made.put_up()
    market.post_faults({"fault": "server_error", "at": {"call": "stop_pnl_exit", "nth": 1}})
    made.take_down(is_flat=True)
    assert at_broker(market) == ACTIVE
    refused, kept = made.told
    assert "the broker does not close at a loss of ₹1,500.00" in refused.body
    assert "stands until the day is over" in kept.body


def test_it_stays_while_something_is_held_or_another_session_needs_it(market, hold, backstop):
    holder = hold(product="INTRADAY", entry_cutoff="15:00", squareoff_at="15:10")
    made = backstop(holder)
    made.put_up()
    made.take_down(is_flat=False)
    assert at_broker(market) == ACTIVE, "something is held"
    other = hold(index="BANKNIFTY", ttl_s=60)
    made.take_down(is_flat=True)
    assert at_broker(market) == ACTIVE, "another session trades"
    other.ledger.leases.release(other.lease)
    other_held = hold(index="SENSEX")  # dead, and it has bought
    other_held.buy()
    made.take_down(is_flat=True)
    assert at_broker(market) == ACTIVE, "a dead session holds something"
    assert made.told == []


@pytest.mark.slow
def test_a_session_puts_it_up_and_takes_it_down_at_its_end(begin, monkeypatch):
    monkeypatch.setenv("BOT_BROKER_BACKSTOP", "true")
    monkeypatch.setenv("BOT_ACCOUNT_DAILY_LOSS_LIMIT", "1000")
    session = begin(product="INTRADAY", entry_cutoff="15:00", squareoff_at="15:10")
    session.await_position()
    assert at_broker(session.market) == ACTIVE
    (outcome,) = control_sessions(session.ledger, kind=CommandKind.STOP, reason="test", requested_by="test")
    assert outcome.done
    assert session.end()["state"] == "Flat"
    assert at_broker(session.market) == DISABLED
    assert not session.ledger.decisions(session.session_id, "alert")
