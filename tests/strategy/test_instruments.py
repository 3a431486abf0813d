"""Strikes, expiries, lots and freezes as a trader would read them off."""

from datetime import date, time, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from strategy.calendar import OutsideKnownData, trading_day
from strategy.facts import FactsInvalid
from strategy.instruments import (
    INDICES,
    Cycle,
    Lots,
    OptionType,
    Underlying,
    Weekday,
    atm_strike_points,
    contract_facts,
    nearest_expiry,
    quantity_of,
    strike_for,
)

NIFTY, SENSEX = INDICES[Underlying.NIFTY], INDICES[Underlying.SENSEX]


@pytest.mark.parametrize(
    ("index", "spot", "strike"),
    [
        (NIFTY, "24524.95", 24500),
        (NIFTY, "24525.00", 24550),  # exactly between: the higher
        (NIFTY, "24525.05", 24550),
        (NIFTY, "24500.00", 24500),
        (SENSEX, "83749.99", 83700),
        (SENSEX, "83750.00", 83800),
        (INDICES[Underlying.BANKNIFTY], "58049.95", 58000),
        (INDICES[Underlying.FINNIFTY], "27025.00", 27050),
    ],
)
def test_at_the_money_is_the_nearest_strike_and_the_higher_of_two(index, spot, strike):
    assert atm_strike_points(index, round(float(spot) * 100)) == strike


@pytest.mark.parametrize(
    ("option_type", "moneyness", "strike"),
    [
        (OptionType.CE, 0, 24500),
        (OptionType.PE, 0, 24500),
        (OptionType.CE, 1, 24550),  # out of the money is up for a call
        (OptionType.PE, 1, 24450),  # and down for a put
        (OptionType.CE, -2, 24400),
        (OptionType.PE, -2, 24600),
    ],
)
def test_moneyness_counts_strikes_out_of_the_money(option_type, moneyness, strike):
    assert strike_for(NIFTY, 24_510_00, moneyness, option_type) == strike


@given(spot=st.integers(1_000_00, 150_000_00), index=st.sampled_from(list(INDICES.values())))
def test_no_listed_strike_is_nearer_than_at_the_money(spot, index):
    strike = atm_strike_points(index, spot)
    assert strike % index.strike_step_points == 0
    assert abs(strike * 100 - spot) * 2 <= index.strike_step_points * 100


class TestNearestExpiry:
    EXPIRIES = (date(2026, 12, 15), date(2026, 12, 1), date(2026, 12, 8))

    @pytest.mark.parametrize(
        ("day", "at", "expected"),
        [
            ("2026-11-30", "10:00:00", "2026-12-01"),
            ("2026-12-01", "15:39:59", "2026-12-01"),  # expires today and still trades
            ("2026-12-01", "15:40:00", "2026-12-08"),
            ("2026-12-08", "15:29:59", "2026-12-08"),  # the new hours: an expiring contract stops at 15:30
            ("2026-12-08", "15:30:00", "2026-12-15"),
            ("2026-12-16", "10:00:00", None),
        ],
    )
    def test_is_the_first_that_still_trades(self, day, at, expected):
        today = trading_day(date.fromisoformat(day))
        assert today is not None
        found = nearest_expiry(self.EXPIRIES, today, today.at(time.fromisoformat(at)))
        assert found == (date.fromisoformat(expected) if expected else None)


class TestQuantity:
    @given(lots=st.integers(0, 100), lot_size=st.integers(1, 200))
    def test_is_units(self, lots, lot_size):
        assert quantity_of(Lots(lots), lot_size) == lots * lot_size

    @pytest.mark.parametrize(("lots", "lot_size"), [(-1, 65), (1, 0)])
    def test_without_meaning_is_refused(self, lots, lot_size):
        with pytest.raises(ValueError, match="expected lots >= 0 and a lot size >= 1"):
            quantity_of(Lots(lots), lot_size)


class TestContractFacts:
    @pytest.mark.parametrize(
        ("underlying", "expiry", "lot_size"),
        [
            ("NIFTY", "2024-04-25", 50),
            ("NIFTY", "2024-05-02", 25),
            ("NIFTY", "2024-12-26", 25),
            ("NIFTY", "2025-01-02", 75),
            ("NIFTY", "2025-12-30", 75),
            ("NIFTY", "2026-01-06", 65),
            ("NIFTY", "2026-11-23", 65),
            ("BANKNIFTY", "2024-06-26", 15),
            ("BANKNIFTY", "2025-06-26", 30),
            ("BANKNIFTY", "2025-07-31", 35),
            ("BANKNIFTY", "2025-12-30", 35),
            ("BANKNIFTY", "2026-01-27", 30),
            ("FINNIFTY", "2024-06-25", 40),
            ("FINNIFTY", "2024-07-30", 25),
            ("FINNIFTY", "2026-11-23", 60),
            ("SENSEX", "2024-06-28", 10),
            ("SENSEX", "2026-11-26", 20),
        ],
    )
    def test_lot_size_belongs_to_the_expiry(self, underlying, expiry, lot_size):
        assert contract_facts().lot_size(Underlying(underlying), date.fromisoformat(expiry)) == lot_size

    @pytest.mark.parametrize(
        ("underlying", "day", "quantity"),
        [
            ("NIFTY", "2026-11-20", 1800),
            ("BANKNIFTY", "2025-08-29", 600),
            ("BANKNIFTY", "2025-09-01", 900),
            ("BANKNIFTY", "2026-11-20", 600),
            ("FINNIFTY", "2026-03-31", 1200),
            ("FINNIFTY", "2026-11-20", 1800),
            ("SENSEX", "2026-11-20", 1000),
        ],
    )
    def test_freeze_quantity_belongs_to_the_day(self, underlying, day, quantity):
        assert contract_facts().freeze_quantity(Underlying(underlying), date.fromisoformat(day)) == quantity

    def test_before_the_first_row_nothing_is_guessed(self):
        with pytest.raises(OutsideKnownData, match=r"no lot size is known for NIFTY .* 2023-12-28"):
            contract_facts().lot_size(Underlying.NIFTY, date(2023, 12, 28))
        with pytest.raises(OutsideKnownData, match="no freeze quantity"):
            contract_facts().freeze_quantity(Underlying.SENSEX, date(2023, 12, 28))

    @pytest.mark.parametrize(
        ("underlying", "day", "weekly", "monthly"),
        [
            ("NIFTY", "2024-06-03", "Thursday", "Thursday"),
            ("NIFTY", "2025-09-02", "Tuesday", "Tuesday"),
            ("BANKNIFTY", "2024-01-03", "Wednesday", "Thursday"),
            ("BANKNIFTY", "2024-11-13", "Wednesday", "Wednesday"),
            ("BANKNIFTY", "2024-11-14", None, "Wednesday"),
            ("BANKNIFTY", "2025-05-29", None, "Thursday"),
            ("FINNIFTY", "2024-11-19", "Tuesday", "Tuesday"),
            ("FINNIFTY", "2026-11-23", None, "Tuesday"),
            ("SENSEX", "2025-01-03", "Friday", "Tuesday"),
            ("SENSEX", "2025-08-26", "Tuesday", "Tuesday"),
            ("SENSEX", "2026-11-26", "Thursday", "Thursday"),
        ],
    )
    def test_expiry_weekdays(self, underlying, day, weekly, monthly):
        rules = [
            rule
            for rule in contract_facts().expiry_rules(Underlying(underlying))
            if rule.covers(date.fromisoformat(day))
        ]
        assert {rule.cycle: rule.weekday for rule in rules} == {
            cycle: Weekday(name) for cycle, name in ((Cycle.WEEKLY, weekly), (Cycle.MONTHLY, monthly)) if name
        }

    @given(day=st.dates(date(2024, 1, 1), date(2026, 12, 31)), underlying=st.sampled_from(list(Underlying)))
    def test_every_day_has_exactly_one_monthly_rule_and_at_most_one_weekly(self, day, underlying):
        cycles = [rule.cycle for rule in contract_facts().expiry_rules(underlying) if rule.covers(day)]
        assert cycles.count(Cycle.MONTHLY) == 1
        assert cycles.count(Cycle.WEEKLY) <= 1

    def test_weekdays_count_as_dates_do(self):
        monday = date(2026, 11, 23)
        for weekday in Weekday:
            assert f"{monday + timedelta(days=weekday.number):%A}" == weekday

    def test_an_operator_adds_a_lot_size(self):
        facts = contract_facts("""
            [[lot]]
            underlying = "NIFTY"
            expiring_since = 2026-12-29
            lot_size = 60
            source = "NSE circular"
            """)
        assert facts.lot_size(Underlying.NIFTY, date(2026, 12, 22)) == 65
        assert facts.lot_size(Underlying.NIFTY, date(2026, 12, 29)) == 60

    @pytest.mark.parametrize(
        ("row", "message"),
        [
            ("underlying = 'DAX'\nexpiring_since = 2026-12-29\nlot_size = 1\nsource = 'x'", "underlying = 'DAX'"),
            ("underlying = 'NIFTY'\nexpiring_since = 2026-12-29\nlot_size = 0\nsource = 'x'", "at least 1"),
            (
                "underlying = 'NIFTY'\nexpiring_since = 2026-12-29\nlot_size = '65'\nsource = 'x'",
                "lot_size must be int",
            ),
            (
                "underlying = 'NIFTY'\nexpiring_since = 2026-12-29\nlot_size = true\nsource = 'x'",
                "lot_size must be int",
            ),
        ],
    )
    def test_a_row_without_meaning_is_refused(self, row, message):
        with pytest.raises(FactsInvalid, match=message):
            contract_facts(f"[[lot]]\n{row}")

    @pytest.mark.parametrize("table", ["lot", "freeze", "expiry"])
    def test_a_fault_is_named_with_its_place(self, table):
        with pytest.raises(
            FactsInvalid, match=rf"^the operator's facts: \[\[{table}\]\] number 1: unknown key nonsense"
        ):
            contract_facts(f"[[{table}]]\nnonsense = 1")

    def test_an_operator_adds_a_freeze_quantity_and_an_expiry_rule(self):
        """One unit is a quantity; what an operator says of a day replaces what was packaged for it."""
        facts = contract_facts("""
            [[freeze]]
            underlying = "NIFTY"
            since = 2026-12-01
            quantity = 1
            source = "NSE circular"

            [[expiry]]
            underlying = "FINNIFTY"
            cycle = "weekly"
            weekday = "Friday"
            since = 2026-12-01
            source = "NSE circular"
            """)
        assert facts.freeze_quantity(Underlying.NIFTY, date(2026, 11, 30)) == 1800
        assert facts.freeze_quantity(Underlying.NIFTY, date(2026, 12, 1)) == 1
        (weekly,) = [
            rule
            for rule in facts.expiry_rules(Underlying.FINNIFTY)
            if rule.covers(date(2026, 12, 4)) and rule.cycle is Cycle.WEEKLY
        ]
        assert weekly.weekday is Weekday.FRIDAY
