"""The day's contracts and the files that name them: the broker's shapes, its traps, and its calendar."""

import csv
from collections import Counter
from datetime import date, timedelta

import pytest

from simulator.instruments import Listing
from simulator.master import compact_master, detailed_master
from simulator.setup import USUAL_LEVELS
from strategy.instruments import Underlying

DAY = date(2026, 11, 20)
COMPACT_COLUMNS, DETAILED_COLUMNS = 16, 33  # the detailed header ends in a comma


@pytest.fixture(scope="module")
def listing() -> Listing:
    return Listing(DAY, USUAL_LEVELS)


def rows_of(lines) -> list[dict[str, str]]:
    return list(csv.DictReader(lines))


def test_expiries_follow_the_dated_rules_and_the_holiday(listing):
    """24 November is closed: NSE contracts of that week expire on Monday the 23rd."""
    nifty = [str(expiry) for expiry in listing.expiries[Underlying.NIFTY]]
    assert nifty[:6] == ["2026-11-23", "2026-12-01", "2026-12-08", "2026-12-15", "2026-12-22", "2026-12-29"]
    assert listing.expiries[Underlying.BANKNIFTY][0] == date(2026, 11, 23)
    assert listing.expiries[Underlying.FINNIFTY][0] == date(2026, 11, 23)
    assert listing.expiries[Underlying.SENSEX][0] == date(2026, 11, 26)


def test_a_contract_is_listed_on_its_expiry_and_gone_the_day_after():
    expiry = date(2026, 12, 1)
    assert Listing(expiry, USUAL_LEVELS).expiries[Underlying.NIFTY][0] == expiry
    assert expiry not in Listing(expiry + timedelta(days=1), USUAL_LEVELS).expiries[Underlying.NIFTY]


def test_the_nearest_expiry_lists_both_sides_of_every_strike_around_the_money(listing):
    contracts = listing.by_expiry[Underlying.NIFTY, date(2026, 11, 23)]
    strikes = {contract.strike for contract in contracts}
    assert {24_400 + step for step in range(-3_000, 3_001, 50)} == strikes
    assert len(contracts) == 2 * len(strikes)


def test_ids_are_unique_within_a_segment_and_mean_another_contract_on_another_day(listing):
    assert len(listing.by_security) == sum(len(contracts) for contracts in listing.by_expiry.values())
    tomorrow = Listing(DAY + timedelta(days=3), USUAL_LEVELS)
    shared = listing.by_security.keys() & tomorrow.by_security.keys()
    assert shared
    names = [(listing.by_security[s].display_name, tomorrow.by_security[s].display_name) for s in shared]
    assert all(today != other for today, other in names)


def test_the_same_day_is_listed_the_same_way_twice(listing):
    again = Listing(DAY, USUAL_LEVELS)
    assert list(detailed_master(again)) == list(detailed_master(listing))


def test_every_row_has_the_columns_of_its_header(listing):
    for lines, columns in ((compact_master(listing), COMPACT_COLUMNS), (detailed_master(listing), DETAILED_COLUMNS)):
        counts = Counter(len(row) for row in csv.reader(lines))
        assert list(counts) == [columns]


def test_a_detailed_option_row_is_the_brokers(listing):
    row = next(r for r in rows_of(detailed_master(listing)) if r["DISPLAY_NAME"] == "NIFTY 23 NOV 24500 CALL")
    number, upper, lower = row.pop("SECURITY_ID"), row.pop("SM_UPPER_LIMIT"), row.pop("SM_LOWER_LIMIT")
    assert row == {
        "EXCH_ID": "NSE", "SEGMENT": "D", "ISIN": "NA", "INSTRUMENT": "OPTIDX", "UNDERLYING_SECURITY_ID": "26000",
        "UNDERLYING_SYMBOL": "NIFTY", "SYMBOL_NAME": "NIFTY-Nov2026-24500-CE",
        "DISPLAY_NAME": "NIFTY 23 NOV 24500 CALL", "INSTRUMENT_TYPE": "OP", "SERIES": "NA", "LOT_SIZE": "65.0",
        "SM_EXPIRY_DATE": "2026-11-23", "STRIKE_PRICE": "24500.00000", "OPTION_TYPE": "CE", "TICK_SIZE": "5.0000",
        "EXPIRY_FLAG": "M", "BRACKET_FLAG": "N", "COVER_FLAG": "N", "ASM_GSM_FLAG": "N", "ASM_GSM_CATEGORY": "NA",
        "BUY_SELL_INDICATOR": "A", "BUY_CO_MIN_MARGIN_PER": "0", "BUY_CO_SL_RANGE_MAX_PERC": "0",
        "BUY_CO_SL_RANGE_MIN_PERC": "0", "BUY_BO_MIN_MARGIN_PER": "0", "BUY_BO_PROFIT_RANGE_MAX_PERC": "0",
        "BUY_BO_PROFIT_RANGE_MIN_PERC": "0", "MTF_LEVERAGE": "0", "SM_FREEZE_QTY": "1756", "": "",
    }  # fmt: skip
    assert number.isdigit()
    assert 0 < float(lower) < float(upper)


def test_a_bse_row_differs_from_an_nse_row_as_the_brokers_do(listing):
    row = next(r for r in rows_of(detailed_master(listing)) if r["DISPLAY_NAME"] == "SENSEX 26 NOV 80100 PUT")
    told = ("EXCH_ID", "UNDERLYING_SECURITY_ID", "SYMBOL_NAME", "INSTRUMENT_TYPE", "LOT_SIZE", "SM_FREEZE_QTY")
    assert [row[key] for key in told] == ["BSE", "1", "BSXOPT", "OPTIDX", "20.0", "1001"]
    compact = next(r for r in rows_of(compact_master(listing)) if r["SEM_CUSTOM_SYMBOL"] == "SENSEX 26 NOV 80100 PUT")
    assert compact["SEM_TRADING_SYMBOL"] == "SENSEX-Nov2026-80100-PE"
    assert compact["SEM_EXPIRY_DATE"] == "2026-11-26 15:30:00"


def test_index_rows_are_the_brokers(listing):
    lines = list(detailed_master(listing))
    assert (
        "NSE,I,13,NA,INDEX,13,NIFTY,NIFTY,Nifty 50,INDEX,NA,1.0,0001-01-01,,XX,0.0500,N,N,N,N,NA,A,0,0,0,0,0,0,0,"
        "0.0000,0.0000,0," in lines
    )
    assert "NSE,I,13,INDEX,0,NIFTY,1,Nifty 50,0001-01-01,,XX,0.05,,INDEX,X,NIFTY" in list(compact_master(listing))


def test_the_files_hold_what_a_reader_must_skip(listing):
    lines = list(detailed_master(listing))
    rows = rows_of(lines)
    assert any(row["INSTRUMENT"] == "FUTIDX" and float(row["STRIKE_PRICE"]) < 0 for row in rows)
    assert any(row["SEGMENT"] == "E" and row["SECURITY_ID"] == "13" for row in rows), "an id of two segments"
    assert any("NSETEST" in row["UNDERLYING_SYMBOL"] for row in rows)
    assert any(row["UNDERLYING_SYMBOL"] == "NIFTYNXT50" and row["INSTRUMENT"] == "OPTIDX" for row in rows)
    assert any(row["SM_EXPIRY_DATE"] == "2024-03-26" for row in rows), "a contract long expired"
    assert len(lines) - len(set(lines)) == 1, "one row twice"


def test_both_files_name_the_same_options(listing):
    detailed = {(r["EXCH_ID"], r["SECURITY_ID"]): r["DISPLAY_NAME"] for r in rows_of(detailed_master(listing))}
    compact = {
        (r["SEM_EXM_EXCH_ID"], r["SEM_SMST_SECURITY_ID"]): r["SEM_CUSTOM_SYMBOL"]
        for r in rows_of(compact_master(listing))
        if r["SEM_INSTRUMENT_NAME"] == "OPTIDX"
    }
    assert len(compact) == len(listing.by_security)
    assert compact.items() <= detailed.items()


@pytest.mark.parametrize(
    ("day", "lot", "expiry"),
    [("2024-03-02", 50, "2024-03-07"), ("2026-02-05", 65, "2026-02-10"), ("2026-11-20", 65, "2026-11-23")],
)
def test_lots_and_expiries_are_those_of_the_day(day, lot, expiry):
    listing = Listing(date.fromisoformat(day), USUAL_LEVELS)
    first = listing.expiries[Underlying.NIFTY][0]
    assert str(first) == expiry
    assert listing.by_expiry[Underlying.NIFTY, first][0].lot_size == lot
