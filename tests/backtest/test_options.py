"""Recorded premiums take the place of the model's: at their moment, of their contract, and it is said where they did."""

import csv
from dataclasses import replace
from datetime import time

import pytest

from strategy.calendar import ist_ms
from strategy.events import Tick
from strategy.instruments import OptionType
from strategy.params import Params
from strategy.recordings import RecordingError
from tasks.backtest.market import MarketModel, past_market
from tasks.backtest.options import FRESH_MS, OPTION_COLUMNS, RecordedOptions
from tasks.backtest.page import render_page
from tasks.backtest.replay import MODELLED, PARTLY, RECORDED, priced
from tasks.backtest.result import result_of
from tasks.backtest.run import replay_days

MODEL = MarketModel()
QUICK = {
    "candle_seconds": 15,
    "supertrend_period": 2,
    "supertrend_multiplier": 1.0,
    "htf_filter": False,
    "macd_confirmation": False,
    "entry_start": "09:17",
    "stop_loss_points": 20,
    "max_trades_per_day": 20,
    "daily_max_loss": 0,
}


@pytest.fixture(scope="module")
def day(past):
    today = past.hours("09:15-09:55")
    return past.a_day(past.a_walk(5, today=today), today)


def contract_of(day, name="CE"):
    strikes = sorted({strike for strike, _ in day.plan(Params()).contracts})
    return day.plan(Params()).contracts[strikes[len(strikes) // 2], OptionType(name)]


def a_file(folder, contract, day, minutes, **others):
    """A recording of one contract; `minutes` are (HH:MM, open, high, low, close) in rupees."""
    file = folder / "options.csv"
    row = {"Instrument": "NIFTY", "Expiry": contract.expiry, "Strike": contract.strike_points,
           "Type": contract.option_type, "Date": f"{day.day:%Y%m%d}"} | others  # fmt: skip
    with file.open("w", newline="") as out:
        writer = csv.writer(out)
        writer.writerow(OPTION_COLUMNS)
        writer.writerows([*row.values(), *minute] for minute in minutes)
    return file


def read(*files):
    premiums = RecordedOptions(MODEL)
    premiums.read(files, "NIFTY")
    return premiums


def at(day, text):
    return ist_ms(day.day, time.fromisoformat(text))


def test_a_recorded_minute_is_quoted_second_by_second_with_the_models_spread(day, tmp_path):
    contract = contract_of(day)
    premiums = read(a_file(tmp_path, contract, day, [("09:20", 100, 130, 90, 120)]))
    last = {
        second: premiums.quote(day, contract, 24_500_00, at(day, f"09:20:{second:02d}")).last_paise
        for second in (0, 20, 40, 59)
    }
    assert last == {0: 100_00, 20: 90_00, 40: 130_00, 59: 120_00}  # it rose: low first
    turned = premiums.quote(day, contract, 24_500_00, at(day, "09:20:20"), turned=True)
    assert turned.last_paise == 130_00
    assert turned.bid_paise < turned.last_paise < turned.ask_paise
    assert turned.recorded


def test_without_a_recorded_price_the_models_change_is_added_to_the_last_one(day, tmp_path):
    contract = contract_of(day)
    premiums = read(a_file(tmp_path, contract, day, [("09:20", 300, 300, 300, 300)]))
    spot = int(day.recorded.spot_paise[day.recorded.at_ms.searchsorted(at(day, "09:20:59.999"), side="right") - 1])
    # Before the first recorded price the model speaks alone; after the last one nothing leaps.
    assert premiums.quote(day, contract, spot, at(day, "09:19:59")) == MODEL.quote(
        day, contract, spot, at(day, "09:19:59")
    )
    same = premiums.quote(day, contract, spot, at(day, "09:21:00"))
    assert not same.recorded
    assert abs(same.last_paise - 300_00) <= 20
    rises = premiums.quote(day, contract, spot + 50_00, at(day, "09:21:00")).last_paise - same.last_paise
    assert rises == (
        MODEL.quote(day, contract, spot + 50_00, at(day, "09:21:00")).last_paise
        - MODEL.quote(day, contract, spot, at(day, "09:21:00")).last_paise
    )


@pytest.mark.parametrize("other", [{"Expiry": "2026-12-01"}, {"Strike": "100"}, {"Type": "PE"}, {"Date": "20261118"}])
def test_another_contract_or_day_is_never_taken_for_this_one(day, tmp_path, other):
    contract = contract_of(day)
    premiums = read(a_file(tmp_path, contract, day, [("09:20", 100, 130, 90, 120)], **other))
    moment = at(day, "09:20:30")
    assert premiums.quote(day, contract, 24_500_00, moment) == MODEL.quote(day, contract, 24_500_00, moment)


def test_what_a_session_heard_has_its_own_bid_and_ask_while_it_is_fresh(day):
    contract, moment = contract_of(day), at(day, "09:20:00")
    premiums = RecordedOptions(MODEL)
    tick = Tick(at_ms=moment, security="NSE_FNO:47", price_paise=80_00, bid_paise=79_00, ask_paise=82_00)
    lame = tick._replace(at_ms=moment + 1, bid_paise=0)  # half a quote is none
    premiums.hear([tick, lame], {"NSE_FNO:47": contract})
    assert premiums.quote(day, contract, 24_500_00, moment + FRESH_MS) == (80_00, 79_00, 82_00, True)
    assert not premiums.quote(day, contract, 24_500_00, moment + FRESH_MS + 1).recorded
    assert not premiums.quote(day, contract, 24_500_00, moment - 1).recorded


def test_a_file_that_is_no_recording_of_options_says_what_was_expected(day, tmp_path):
    (tmp_path / "other.csv").write_text("Date,Open\n20261119,1\n")
    with pytest.raises(RecordingError, match="expected the columns Instrument,Expiry"):
        read(tmp_path / "other.csv")
    with pytest.raises(RecordingError, match=r"line 2 of options\.csv"):
        read(a_file(tmp_path, contract_of(day), day, [("09:20", 100, 90, 95, 99)]))


def test_a_backtest_trades_at_recorded_premiums_and_says_which_trades_did(day, past, tmp_path):
    params = Params(**QUICK)
    (by_model,) = replay_days([day], params, MODEL)
    assert len(by_model.trades) > 2
    assert set(by_model.priced) == {MODELLED}
    # The first trade's contract is recorded throughout, at a third of what the model asks; the others are not.
    first = by_model.trades[0]
    start = day.today.open_ms
    minutes = []
    for number in range(40):
        quote = MODEL.quote(day, first.contract, int(day.recorded.spot_paise[number * 60]), start + number * 60_000)
        price = round(quote.last_paise / 300) + number / 10
        minutes.append((f"09:{15 + number:02d}", price, price + 1, price - 1, price))
    premiums = read(a_file(tmp_path, first.contract, day, minutes))
    (run,) = replay_days([day], params, MODEL, premiums=premiums)
    at_recorded = [trade for trade, source in zip(run.trades, run.priced, strict=True) if source == RECORDED]
    assert at_recorded
    assert at_recorded[0].contract == first.contract
    # Pessimistic: above the recorded price by spread and slippage.
    paid = at_recorded[0].buy_value_paise / at_recorded[0].quantity
    minute = (at_recorded[0].entry_at_ms - start) // 60_000
    assert minutes[minute][3] * 100 < paid <= (minutes[minute][2] + 1) * 100
    assert {trade.contract for trade in at_recorded} == {first.contract}
    # What came after does not change what was quoted before.
    cut = replace(day, recorded=day.recorded.part(slice(0, len(day.recorded.at_ms) // 2)))
    until_ms = int(cut.recorded.at_ms[-1])
    (part,) = replay_days([cut], params, MODEL, premiums=premiums)
    assert [one for one in part.trades if one.exit_at_ms <= until_ms] == [
        one for one in run.trades if one.exit_at_ms <= until_ms
    ]

    market = past_market([day.recorded], params.index, first=None, last=None)
    result = result_of([run], market, params, MODEL, premiums=premiums.words)
    assert [trade["premiums"] for trade in result.to_json()["trades"]] == list(run.priced)
    said = "\n".join(result.lines())
    assert f"{len(at_recorded)} recorded" in said
    assert f"{run.priced.count(MODELLED)} of {len(run.trades)} trades had no recorded premium" in said
    assert "<th>premiums</th>" in render_page(result)


def test_a_trade_is_recorded_only_if_it_was_throughout(day):
    (run,) = replay_days([day], Params(**QUICK), MODEL)
    trade = run.trades[0]
    before, inside, after = trade.entry_at_ms - 1, trade.entry_at_ms + 1, trade.exit_at_ms + 1
    assert priced(trade, [(before, True)]) == RECORDED
    assert priced(trade, [(before, True), (after, False)]) == RECORDED
    assert priced(trade, [(before, True), (inside, False)]) == PARTLY
    assert priced(trade, [(before - 1, True), (before, False)]) == MODELLED
    assert priced(trade, []) == MODELLED
