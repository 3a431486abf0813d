"""The account's loss limit: what all sessions of a day lost together halts each of them, whoever lost it."""

from datetime import date

import pytest

from strategy.charges import order_charges, rates_on
from strategy.events import CommandKind, Side
from strategy.instruments import INDICES, Underlying
from tasks.ledger.records import CommandRecord
from tasks.trading.account import REQUESTED_BY, AccountWatch, executed_orders, realised_paise

LIMIT_PAISE = 1_000_00


def rates(underlying):
    return rates_on(date(2025, 11, 20), INDICES[underlying].exchange)


@pytest.fixture
def trade(ledger, new_day):
    """trade(index, bought_paise, sold_paise=None, mode=…): one round trip, or half of one, of another session."""

    def traded(index, bought_paise, sold_paise=None, **changes):
        day = new_day(f"x{len(ledger.session_ids())}", underlying=Underlying(index), **changes)
        ledger.open_session(day.key, day.salt)
        lease = ledger.leases.take(day.key, "host", day.at())
        ledger.record_intent(day.intent(1, fence=lease.fence))
        ledger.record_fill(day.fill(1, value_paise=bought_paise))
        if sold_paise is not None:
            ledger.record_intent(day.intent(2, side=Side.SELL, fence=lease.fence))
            ledger.record_fill(day.fill(2, value_paise=sold_paise))
        return day.key

    return traded


@pytest.fixture
def watch(ledger, day, lease):
    """The day's session under watch; what it asked and told stands in `.asked` and `.told`."""
    del lease
    asked, told = [], []

    def ask(kind, reason, requested_by):
        asked.append((kind, reason, requested_by))
        command(ledger, day, kind, len(asked) * 10)

    made = AccountWatch(
        ledger=ledger,
        key=day.key,
        limit_paise=LIMIT_PAISE,
        rates=rates,
        ask=ask,
        notify=told.append,
        now_ms=day.at,
    )
    made.asked, made.told = asked, told
    return made


def command(ledger, day, kind, seconds):
    ledger.request_command(
        CommandRecord(
            command_id=f"{kind}{seconds}",
            session_id=day.session_id,
            kind=kind,
            reason="",
            requested_by="test",
            requested_at_ms=day.at(seconds),
        )
    )


def test_it_adds_up_what_closed_trades_brought_less_the_charges_of_all_orders(ledger, trade):
    key = trade("NIFTY", 7_500_00, 7_000_00)
    trade("SENSEX", 7_500_00, 7_900_00)
    trade("BANKNIFTY", 9_000_00)  # still held: only what buying cost
    found = realised_paise(executed_orders(ledger, key), rates)
    orders = [
        ("NIFTY", Side.BUY, 7_500_00),
        ("NIFTY", Side.SELL, 7_000_00),
        ("SENSEX", Side.BUY, 7_500_00),
        ("SENSEX", Side.SELL, 7_900_00),
        ("BANKNIFTY", Side.BUY, 9_000_00),
    ]
    costs = sum(order_charges(side, value, rates(Underlying(index))).total_paise for index, side, value in orders)
    assert found == -100_00 - costs
    assert costs > 5 * 20_00, "the broker's fee of each order is among them"


def test_losses_of_other_sessions_halt_this_one_once_and_it_is_told(watch, trade):
    watch.look()
    trade("BANKNIFTY", 7_500_00, 7_100_00)
    watch.look()
    assert watch.asked == [], "400 and charges are not 1,000"
    trade("SENSEX", 7_500_00, 7_100_00)
    trade("FINNIFTY", 7_500_00, 7_400_00)
    for _ in range(3):
        watch.look()
    ((kind, reason, by),) = watch.asked
    assert (kind, by) == (CommandKind.HALT, REQUESTED_BY)
    assert "of ₹1,000.00 today" in reason
    (notice,) = watch.told
    assert notice.is_critical
    assert "halted: the account is at -₹1," in notice.title


@pytest.mark.parametrize("other", [{"mode": "paper"}, {"account": "1000000010"}, {"day": date(2025, 11, 21)}])
def test_another_mode_account_or_day_does_not_count(watch, trade, other):
    trade("BANKNIFTY", 7_500_00, 5_000_00, **other)
    watch.look()
    assert watch.asked == []


def test_a_session_that_is_resumed_meanwhile_is_halted_again(watch, trade, ledger, day):
    trade("BANKNIFTY", 7_500_00, 5_000_00)
    watch.look()
    command(ledger, day, CommandKind.RESUME, 15)
    watch.look()
    watch.look()
    assert [kind for kind, *_ in watch.asked] == [CommandKind.HALT, CommandKind.HALT]
    assert len(watch.told) == 1


def test_what_is_held_at_a_loss_is_the_sessions_own_affair(watch, trade):
    trade("BANKNIFTY", 70_000_00)
    watch.look()
    assert watch.asked == []
