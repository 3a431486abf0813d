"""Charges: worked cases, the two ways of rounding, and the days on which rates change."""

from dataclasses import fields
from datetime import date
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from strategy.charges import (
    COMPONENTS,
    Charges,
    charge_facts,
    compare_with_statement,
    day_charges,
    order_charges,
    rates_on,
    split_over_fills,
)
from strategy.events import Side
from strategy.facts import FactsInvalid, OutsideKnownData

NSE = rates_on(date(2026, 11, 20), "NSE")
BSE = rates_on(date(2026, 11, 20), "BSE")
values = st.integers(1, 10**9)


def paise(*amounts: int) -> Charges:
    """Brokerage, STT, exchange, SEBI, stamp, GST."""
    return Charges(**{column.name: amount for column, amount in zip(fields(Charges), amounts, strict=True)})


# By hand. 65 units at 150.00 = 9,750.00; exchange 0.03553 % = 3.464175; SEBI 0.0001 % = 0.00975; stamp 0.003 % =
# 0.2925; STT 0.15 % = 14.625; GST 18 % of (20 + 3.46 + 0.01) = 4.2246.
WORKED = [
    ("one NIFTY lot bought at 150.00", Side.BUY, 65 * 150_00, NSE, paise(2000, 0, 346, 1, 29, 422)),
    ("one NIFTY lot sold at 150.00", Side.SELL, 65 * 150_00, NSE, paise(2000, 1463, 346, 1, 0, 422)),
    # 20 x 400.00 = 8,000.00; 0.0325 % = 2.60; 0.008 -> 0.01; 0.24; 0.15 % = 12.00; 18 % of 22.61 = 4.0698
    ("one SENSEX lot bought at 400.00", Side.BUY, 20 * 400_00, BSE, paise(2000, 0, 260, 1, 24, 407)),
    ("one SENSEX lot sold at 400.00", Side.SELL, 20 * 400_00, BSE, paise(2000, 1200, 260, 1, 0, 407)),
    # 1,800 x 250.00 = 4,50,000.00; 159.885; 0.45; 13.50; 675.00; 18 % of (20 + 159.89 + 0.45) = 32.4612
    ("a full freeze quantity sold at 250.00", Side.SELL, 1800 * 250_00, NSE, paise(2000, 67500, 15989, 45, 0, 3246)),
    ("nothing executed", Side.SELL, 0, NSE, Charges()),
]


@pytest.mark.parametrize(
    ("side", "value", "rates", "expected"), [row[1:] for row in WORKED], ids=[row[0] for row in WORKED]
)
def test_worked_orders(side, value, rates, expected):
    assert order_charges(side, value, rates) == expected


def test_a_worked_contract_note():
    # Bought 9,750.00 and 10,400.00, sold 11,050.00 and 9,100.00: 20,150.00 each way, four orders.
    # Exchange 0.03553 % of 40,300.00 = 14.318590; SEBI 0.0403; STT 30.225 -> 30; stamp 0.6045 -> 1;
    # GST 18 % of (80 + 14.32 + 0.04) = 16.9848.
    orders = [(Side.BUY, 9_750_00), (Side.SELL, 11_050_00), (Side.BUY, 10_400_00), (Side.SELL, 9_100_00)]
    assert day_charges(orders, NSE) == paise(8000, 3000, 1432, 4, 100, 1698)


def test_a_contract_note_puts_gst_on_the_sebi_fee_too():
    # Bought 45,00,000.00: exchange 1,598.85; SEBI 4.50; stamp 135.00; GST 18 % of (20 + 1,598.85 + 4.50) = 292.203.
    assert day_charges([(Side.BUY, 45_00_000_00)], NSE) == paise(2000, 0, 159885, 450, 13500, 29220)


@pytest.mark.parametrize(
    ("value", "stt"),
    [
        (33_300, 50),  # 49.95
        (33_000, 50),  # 49.50: a half goes up
        (32_999, 49),  # 49.4985
        (333, 0),  # 0.4995
        (334, 1),  # 0.501
    ],
)
def test_halves_of_a_paisa_go_up(value, stt):
    assert order_charges(Side.SELL, value, NSE).stt_paise == stt


@pytest.mark.parametrize(
    ("day", "exchange", "stt", "transaction", "confirmed"),
    [
        ("2024-01-01", "NSE", "0.0625", "0.05", False),
        ("2024-09-30", "NSE", "0.0625", "0.0495", False),
        ("2024-10-01", "NSE", "0.1", "0.03503", True),
        ("2026-02-28", "NSE", "0.1", "0.03503", True),
        ("2026-03-01", "NSE", "0.1", "0.03553", True),
        ("2026-03-31", "NSE", "0.1", "0.03553", True),
        ("2026-04-01", "NSE", "0.15", "0.03553", True),
        ("2024-09-30", "BSE", "0.0625", "0.0495", False),
        ("2024-10-01", "BSE", "0.1", "0.0325", True),
        ("2026-11-20", "BSE", "0.15", "0.0325", True),
    ],
)
def test_rates_change_on_their_day(day, exchange, stt, transaction, confirmed):
    rates = rates_on(date.fromisoformat(day), exchange)
    assert rates.stt_on_sell == Fraction(stt) / 100
    assert rates.exchange_on_both == Fraction(transaction) / 100
    assert (rates.unconfirmed == ()) == confirmed


def test_a_version_names_the_exchange_and_the_day_since_which_the_rates_hold():
    assert NSE.version == "NSE 2026-04-01"
    assert rates_on(date(2026, 3, 31), "NSE").version == "NSE 2026-03-01"


# One lot of 75 units bought at 120.35 (9,026.25) and sold at 131.10 (9,832.50), on the last day of each rate and on the
# first day of the next. By hand: turnover x rate, half up to the paisa; GST on 20 + exchange + SEBI.
#   STT 0.0625 % of 9,832.50 = 6.1453; 0.1 % = 9.8325; 0.15 % = 14.74875
#   NSE of 9,026.25 and 9,832.50: 0.0495 % = 4.46799, 4.86709; 0.03503 % = 3.16190, 3.44432; 0.03553 % = 3.20703, 3.49349
#   BSE: 0.0495 % as NSE then; 0.0325 % = 2.93353, 3.19556
#   SEBI 0.0001 % = 0.00903, 0.00983; stamp 0.003 % of 9,026.25 = 0.27079
#   GST: 18 % of 24.48 = 4.4064, of 24.88 = 4.4784; of 23.17 = 4.1706, 23.45 = 4.2210; of 23.22 = 4.1796, 23.50 = 4.2300;
#   BSE: of 22.94 = 4.1292, of 23.21 = 4.1778
AROUND_EACH_CHANGE = [
    ("2024-09-30", "NSE", paise(2000, 0, 447, 1, 27, 441), paise(2000, 615, 487, 1, 0, 448)),
    ("2024-10-01", "NSE", paise(2000, 0, 316, 1, 27, 417), paise(2000, 983, 344, 1, 0, 422)),
    ("2026-02-28", "NSE", paise(2000, 0, 316, 1, 27, 417), paise(2000, 983, 344, 1, 0, 422)),
    ("2026-03-01", "NSE", paise(2000, 0, 321, 1, 27, 418), paise(2000, 983, 349, 1, 0, 423)),
    ("2026-03-31", "NSE", paise(2000, 0, 321, 1, 27, 418), paise(2000, 983, 349, 1, 0, 423)),
    ("2026-04-01", "NSE", paise(2000, 0, 321, 1, 27, 418), paise(2000, 1475, 349, 1, 0, 423)),
    ("2024-09-30", "BSE", paise(2000, 0, 447, 1, 27, 441), paise(2000, 615, 487, 1, 0, 448)),
    ("2024-10-01", "BSE", paise(2000, 0, 293, 1, 27, 413), paise(2000, 983, 320, 1, 0, 418)),
    ("2026-03-31", "BSE", paise(2000, 0, 293, 1, 27, 413), paise(2000, 983, 320, 1, 0, 418)),
    ("2026-04-01", "BSE", paise(2000, 0, 293, 1, 27, 413), paise(2000, 1475, 320, 1, 0, 418)),
]


@pytest.mark.parametrize(
    ("day", "exchange", "bought", "sold"), AROUND_EACH_CHANGE, ids=[f"{row[1]} {row[0]}" for row in AROUND_EACH_CHANGE]
)
def test_a_round_trip_on_the_day_before_and_after_each_change(day, exchange, bought, sold):
    rates = rates_on(date.fromisoformat(day), exchange)
    assert order_charges(Side.BUY, 75 * 120_35, rates) == bought
    assert order_charges(Side.SELL, 75 * 131_10, rates) == sold


class TestSplit:
    @given(
        amounts=st.lists(st.integers(0, 10**6), min_size=6, max_size=6),
        fills=st.lists(st.integers(1, 10**8), min_size=1, max_size=8),
    )
    def test_the_shares_of_the_fills_add_up_and_none_is_negative(self, amounts, fills):
        charges = paise(*amounts)
        shares = split_over_fills(charges, fills)
        assert sum(shares, Charges()) == charges
        for share, value in zip(shares, fills, strict=True):
            for name in COMPONENTS:
                exact = Fraction(getattr(charges, name) * value, sum(fills))
                assert abs(getattr(share, name) - exact) <= 1
                assert getattr(share, name) >= 0

    @pytest.mark.parametrize("values", [[], [0], [100, -1]])
    def test_fills_without_value_are_refused(self, values):
        with pytest.raises(ValueError, match="values of an order's fills"):
            split_over_fills(paise(2000, 0, 1, 1, 1, 1), values)


def row(charges: Charges) -> dict[str, Fraction]:
    """A row of a statement that bills exactly these paise."""
    return {name: Fraction(getattr(charges, name)) for name in COMPONENTS}


class TestStatement:
    ORDERS = (order_charges(Side.BUY, 65 * 150_00, NSE), order_charges(Side.SELL, 65 * 160_00, NSE))

    def disagreements(self, rows):
        return [billed.component for billed in compare_with_statement(self.ORDERS, rows) if not billed.agrees]

    def test_the_same_amounts_agree(self):
        assert self.disagreements([row(charges) for charges in self.ORDERS]) == []

    def test_parts_of_a_paisa_and_gst_without_the_sebi_fee_agree(self):
        rows = [row(charges) for charges in self.ORDERS]
        rows[0]["exchange_paise"] -= Fraction(46, 100)
        rows[1]["gst_paise"] -= 1
        assert self.disagreements(rows) == []

    def test_gst_without_that_on_the_sebi_fee_agrees_however_large_the_order_and_without_more_it_does_not(self):
        large = order_charges(Side.BUY, 10_00_000_00 * 10, NSE)
        billed = row(large)
        billed["gst_paise"] = Fraction(18, 100) * (large.brokerage_paise + large.exchange_paise)
        assert all(found.agrees for found in compare_with_statement([large], [billed]))
        billed["gst_paise"] -= large.sebi_paise * Fraction(18, 100)
        assert [found.component for found in compare_with_statement([large], [billed]) if not found.agrees] == [
            "gst_paise"
        ]

    def test_taxes_rounded_to_the_rupee_agree(self):
        rows = [row(charges) for charges in self.ORDERS]
        rows[1]["stt_paise"] = Fraction(1600)  # 15.60
        rows[0]["stamp_paise"] = Fraction(0)  # 0.29
        assert self.disagreements(rows) == []

    @pytest.mark.parametrize("component", COMPONENTS)
    def test_another_amount_is_named(self, component):
        rows = [row(charges) for charges in self.ORDERS]
        rows[1][component] += 200
        assert self.disagreements(rows) == [component]

    def test_a_flat_fee_is_exact(self):
        rows = [row(charges) for charges in self.ORDERS]
        rows[1]["brokerage_paise"] -= 1
        assert self.disagreements(rows) == ["brokerage_paise"]

    def test_yesterdays_rate_is_noticed_on_one_lot(self):
        old = rates_on(date(2026, 3, 31), "NSE")
        rows = [row(self.ORDERS[0]), row(order_charges(Side.SELL, 65 * 160_00, old))]
        assert self.disagreements(rows) == ["stt_paise"]


@given(buy=values, sell=values, rates=st.sampled_from([NSE, BSE]))
def test_net_never_exceeds_gross(buy, sell, rates):
    costs = order_charges(Side.BUY, buy, rates) + order_charges(Side.SELL, sell, rates)
    assert sell - buy - costs.total_paise <= sell - buy
    assert min(costs.brokerage_paise, costs.stt_paise, costs.exchange_paise, costs.gst_paise, costs.stamp_paise) >= 0


@given(value=values, more=values, side=st.sampled_from(Side))
def test_a_larger_order_never_costs_less(value, more, side):
    assert order_charges(side, value + more, NSE).total_paise >= order_charges(side, value, NSE).total_paise


@given(orders=st.lists(st.tuples(st.sampled_from(Side), st.integers(0, 10**8)), max_size=30))
def test_the_two_ways_of_rounding_stay_as_close_as_they_say(orders):
    executed = sum(1 for _, value in orders if value)
    separately = sum((order_charges(side, value, NSE) for side, value in orders), Charges())
    together = day_charges(orders, NSE)
    assert abs(separately.total_paise - together.total_paise) <= 100 + 3 * (executed + 1)
    assert together.stt_paise % 100 == together.stamp_paise % 100 == 0
    assert together.brokerage_paise == separately.brokerage_paise


def test_charges_add_up():
    charges = paise(1, 2, 4, 8, 16, 32)
    assert charges.total_paise == 63
    assert (charges + charges).total_paise == 126


class TestRefusals:
    @pytest.mark.parametrize(("day", "exchange"), [(date(2023, 12, 29), "NSE"), (date(2026, 11, 20), "MCX")])
    def test_unknown_rates(self, day, exchange):
        with pytest.raises(OutsideKnownData, match=f"not all charges of {exchange} are known on {day}"):
            rates_on(day, exchange)

    def test_a_negative_value(self):
        with pytest.raises(ValueError, match="at least 0 paise, found -1"):
            order_charges(Side.BUY, -1, NSE)
        with pytest.raises(ValueError, match="at least 0 paise"):
            day_charges([(Side.BUY, -1)], NSE)

    @pytest.mark.parametrize("percent", ["0.15", "'much'", "'-1'", "'101'"])
    def test_a_percentage_that_is_not_exact_text(self, percent):
        with pytest.raises(FactsInvalid, match="sell_percent"):
            charge_facts(f"[[stt]]\nsince = 2027-01-01\nsource = 'x'\nsell_percent = {percent}")

    @pytest.mark.parametrize("amount", ["-1", "true", "20.0"])
    def test_a_brokerage_that_is_not_whole_paise(self, amount):
        with pytest.raises(FactsInvalid, match="paise_per_order"):
            charge_facts(f"[[brokerage]]\nsince = 2027-01-01\nsource = 'x'\npaise_per_order = {amount}")

    def test_an_operators_row_holds_from_its_day(self):
        facts = charge_facts("[[brokerage]]\nsince = 2026-12-01\nsource = 'my plan'\npaise_per_order = 0")
        assert rates_on(date(2026, 11, 30), "NSE", facts).brokerage_paise_per_order == 2000
        assert rates_on(date(2026, 12, 1), "NSE", facts).brokerage_paise_per_order == 0
