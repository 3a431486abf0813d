"""The day's plan: hours that move together, contracts that still trade, and no guessing."""

from datetime import date, time

import pytest

from strategy.calendar import TradingDay, Window, ist_ms, trading_day
from strategy.charges import rates_on
from strategy.instruments import Underlying, contract_facts
from strategy.plan import unconfirmed_facts

# day, settings -> entry start, entry cutoff, squareoff
HOURS = {
    "an ordinary day": (date(2026, 11, 19), {}, "09:25", "15:10", "15:25"),
    "before August 2026 the market closes at 15:30": (date(2026, 7, 1), {}, "09:25", "15:10", "15:25"),
    "squareoff at the last possible moment": (date(2026, 11, 19), {"squareoff_at": "15:35"}, "09:25", "15:10", "15:35"),
    "later than five minutes before the close": (date(2026, 11, 19), {"squareoff_at": "15:36"}, "09:25", "15:10", "15:35"),
    "a cutoff after the index stops being comparable": (
        date(2026, 11, 19), {"entry_cutoff": "15:20"}, "09:25", "15:15", "15:25"),
    "two windows": (date(2024, 3, 2), {}, "09:25", "12:10", "12:25"),
    "a cutoff that an early close moves": (
        date(2026, 7, 1), {"entry_cutoff": "15:15", "squareoff_at": "15:28"}, "09:25", "15:10", "15:25"),
}  # fmt: skip


@pytest.mark.parametrize("name", HOURS)
def test_hours(rules, name):
    day, settings, start, cutoff, squareoff = HOURS[name]
    params = rules.params(**settings)
    chain = [rules.contract(24_500, "CE", expiry=date(2026, 12, 31))]
    plan = rules.plan(params, day=day, contracts=chain)
    expected = [ist_ms(day, time.fromisoformat(clock)) for clock in (start, cutoff, squareoff)]
    assert [plan.entry_start_ms, plan.entry_cutoff_ms, plan.squareoff_ms] == expected
    assert plan.squareoff_ms <= plan.close_ms - 5 * 60_000


def test_a_contract_that_stops_early_on_its_expiry_moves_the_squareoff(rules):
    """From December 2026 an expiring contract stops at 15:30, while the market goes on to 15:45."""
    day = date(2026, 12, 8)
    params = rules.params(squareoff_at="15:38")
    expiring = [rules.contract(24_500, "CE", expiry=day)]
    later = [rules.contract(24_500, "CE", expiry=date(2026, 12, 15))]
    assert rules.plan(params, day=day, contracts=expiring).squareoff_ms == ist_ms(day, time(15, 25))
    assert rules.plan(params, day=day, contracts=later).squareoff_ms == ist_ms(day, time(15, 38))
    both = rules.plan(params, day=day, contracts=[*expiring, *later], at="15:31:00")
    assert {contract.expiry for contract in both.contracts.values()} == {date(2026, 12, 15)}


def test_bypass_lifts_every_hour_at_once(rules):
    """Also on a day that is none, squareoff included."""
    sunday = date(2026, 11, 15)
    chain = [rules.contract(24_500, "CE", expiry=date(2026, 11, 17))]
    params = rules.params(bypass_market_hours=True)
    plan = rules.plan(params, day=sunday, contracts=chain, today=None)
    for clock in ("00:00:01", "03:00:00", "23:59:59"):
        now = rules.at_ms(clock, sunday)
        assert plan.is_open(now)
        assert plan.entry_start_ms <= now < plan.entry_cutoff_ms
        assert now < min(plan.squareoff_ms, plan.close_ms)
    with pytest.raises(ValueError, match="is not a trading day"):
        rules.plan(rules.params(), day=sunday, contracts=chain, today=None)


def test_the_nearest_expiry_that_trades_is_chosen(rules):
    chain = [
        rules.contract(strike, "CE", expiry=expiry)
        for strike in (24_450, 24_500)
        for expiry in (date(2026, 11, 17), date(2026, 11, 23), date(2026, 12, 1))
    ]
    plan = rules.plan(rules.params(), contracts=chain)
    assert {contract.expiry for contract in plan.contracts.values()} == {date(2026, 11, 23)}
    assert set(plan.contracts) == {(24_450, "CE"), (24_500, "CE")}
    assert plan.lot_size == 65
    assert plan.index_security == "IDX_I:13"


def test_other_indices_are_left_out(rules):
    bank = rules.contract(51_000, "CE", underlying=Underlying.BANKNIFTY, lot_size=30)
    plan = rules.plan(rules.params(), contracts=[bank, rules.contract(24_500, "CE")])
    assert set(plan.contracts) == {(24_500, "CE")}


def test_a_master_without_contracts_is_refused(rules):
    with pytest.raises(ValueError, match="expected NIFTY options that still trade on 2026-11-19, found expiries"):
        rules.plan(rules.params(), contracts=[rules.contract(24_500, "CE", expiry=date(2026, 11, 17))])


def test_a_master_that_contradicts_itself_is_refused(rules):
    with pytest.raises(ValueError, match=r"one positive lot size, found \[65, 75\]"):
        rules.plan(rules.params(), contracts=[rules.contract(1, "CE"), rules.contract(2, "CE", lot_size=75)])
    with pytest.raises(ValueError, match=r"one positive lot size, found \[0\]"):
        rules.plan(rules.params(), contracts=[rules.contract(1, "CE", lot_size=0)])


def doubts(rules, day, exchange, *, lot_size=65, expiry=None, facts="", underlying=Underlying.NIFTY):
    found = rules.contract(24_500, "CE", expiry=expiry or day, lot_size=lot_size, underlying=underlying)
    rates = rates_on(day, exchange)
    facts = contract_facts(facts)
    return unconfirmed_facts(today=trading_day(day), rates=rates, facts=facts, contracts=[found, found])


def test_what_nobody_has_confirmed_is_listed_with_its_source(rules):
    """Hours, charges and lot sizes; nothing on a day of which everything has been seen."""
    assert doubts(rules, date(2026, 11, 19), "NSE", expiry=date(2026, 11, 23)) == ()
    (hours,) = doubts(rules, date(2026, 12, 8), "NSE")
    assert hours.startswith("hours: ")
    assert trading_day(date(2026, 12, 8)).unconfirmed[0] in hours
    (charges,) = doubts(rules, date(2024, 2, 1), "NSE", lot_size=50)
    assert charges == f"charges: {rates_on(date(2024, 2, 1), 'NSE').unconfirmed[0]}"
    (lots,) = doubts(rules, date(2025, 1, 2), "NSE", lot_size=75)
    assert lots.startswith("lot size of NIFTY contracts that expire on 2025-01-02: ")
    assert "the facts" not in lots


def test_a_lot_size_that_contradicts_the_facts_is_listed(rules):
    """The master's is traded; a person should know of it, also where the facts know none or are the operator's own."""
    day, expiry = date(2026, 11, 19), date(2026, 11, 23)
    own = '[[lot]]\nunderlying = "NIFTY"\nexpiring_since = 2026-11-01\nlot_size = 50\nsource = "a circular"'
    what = "lot size of NIFTY contracts that expire on 2026-11-23: the instrument master says "
    (line,) = doubts(rules, day, "NSE", expiry=expiry, lot_size=75)
    assert line.startswith(f"{what}75, the facts say 65 (")
    assert doubts(rules, day, "NSE", expiry=expiry, facts=own) == (f"{what}65, the facts say 50 (a circular)",)
    assert doubts(rules, day, "NSE", expiry=date(2019, 1, 3)) == (
        "lot size of NIFTY contracts that expire on 2019-01-03: the instrument master says 65, the facts say nothing",
    )
    assert unconfirmed_facts(today=None, rates=rates_on(day, "NSE"), facts=contract_facts(), contracts=[]) == ()


def test_open_and_closed(rules):
    """[open, close), and nothing in between two windows."""
    day = date(2024, 3, 2)
    plan = rules.plan(rules.params(), day=day, contracts=[rules.contract(1, "CE", expiry=date(2024, 3, 7))])
    for clock, is_open, opened in (
        ("09:14:59", False, "09:14:59"),
        ("09:15:00", True, "09:15:00"),
        ("09:59:59", True, "09:15:00"),
        ("10:00:00", False, "10:00:00"),
        ("11:30:00", True, "11:30:00"),
        ("12:30:00", False, "12:30:00"),
    ):
        now = rules.at_ms(clock, day)
        assert plan.is_open(now) == is_open, clock
        assert plan.opened_ms(now) == rules.at_ms(opened, day), clock
    assert plan.close_ms == rules.at_ms("12:30:00", day)


def test_ticks_outside_hours_make_no_candles(rules):
    """Before the open, between two windows and after the close the index is counted and not used."""
    world = rules.World(rules.params())
    world.spot(rules.at_ms("09:14:59"), 24_500_00)
    assert world.state.spot.candle is None
    world.spot(rules.at_ms("09:15:00"), 24_500_00)
    assert world.state.spot.candle.start_ms == rules.at_ms("09:15:00")
    world.spot(rules.at_ms("15:40:00"), 24_500_00)
    assert world.state.spot.candle.start_ms == rules.at_ms("09:15:00")
    assert world.state.spot.faults.outside_hours == 2


def test_a_session_that_begins_after_the_day_just_ends(rules):
    """Muhurat trades in the evening; with daytime settings nothing is bought and the session is over at once."""
    today = TradingDay(
        day=date(2026, 11, 19),
        name="evening",
        windows=(
            Window(open=time(18), close=time(19), open_ms=rules.at_ms("18:00:00"), close_ms=rules.at_ms("19:00:00")),
        ),
        expiry_close=None,
        entry_latest=None,
        unconfirmed=(),
    )
    params = rules.params()
    world = rules.World(params, plan=rules.plan(params, today=today), started_ms=rules.at_ms("17:55:00"))
    assert rules.render(world.timer(rules.at_ms("17:55:01"))) == "over:squareoff"
    assert trading_day(date(2026, 11, 19)).close_ms == rules.at_ms("15:40:00")
