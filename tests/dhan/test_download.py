"""The broker's candles as recordings, over HTTP: whole files or none, no month asked for twice, nothing made up."""

import csv
from datetime import date, timedelta

import pytest

from flows.cli.research import download
from strategy.instruments import INDICES, OptionType, Underlying, atm_strike_points
from strategy.params import Params
from tasks.backtest.download import (
    ATTEMPTS_MAX,
    download_index,
    download_options,
    is_over,
    months,
    short_days,
    sound_candles,
)
from tasks.backtest.market import MarketModel, past_day
from tasks.backtest.options import RecordedOptions
from tasks.backtest.prices import read_days
from tasks.broker import BrokerUnavailable, IndexCandle
from tasks.clock import ist
from tasks.instruments import InstrumentMaster
from tasks.settings import Settings

NIFTY = INDICES[Underlying.NIFTY]
DAY = date(2026, 11, 20)


def test_what_is_fetched_is_a_recording_with_real_premiums(start_exchange, make_broker, tmp_path, monkeypatch, capsys):
    market = start_exchange("--start", "15:39", "--rate-limits", "off")
    market.advance(to="15:46:00")
    monkeypatch.setenv("BOT_SIMULATOR_URL", market.url)
    assert download(from_=date(2026, 11, 18), home=tmp_path) == 0
    assert "2026-11-until-20.csv: " in capsys.readouterr().out
    folder, asked = tmp_path / "candles" / "NIFTY", market.calls("candles_intraday")
    assert download(from_=date(2026, 11, 18), home=tmp_path) == 0
    assert "there already" in capsys.readouterr().out
    assert market.calls("candles_intraday") == asked

    # The contracts at the money, in the last minutes that the broker has of them.
    today = read_days([folder], "NIFTY", "")[-1]
    assert (today.day, today.bar_seconds) == (DAY, 60)
    settings = Settings(_env_file=None, simulator_url=market.url, home=tmp_path)
    master = InstrumentMaster.of_day(settings, DAY)
    contracts = master.contracts(NIFTY, master.expiries(NIFTY)[0])
    strike = atm_strike_points(NIFTY, int(today.spot_paise[-1]))
    broker = make_broker(f"{market.url}/v2")
    file = download_options(broker, contracts, [strike], tmp_path / "options", last=DAY).file
    rows = list(csv.DictReader(file.read_text().splitlines()))
    assert {(row["Expiry"], row["Strike"], row["Type"], row["Date"]) for row in rows} == {
        (master.expiries(NIFTY)[0].isoformat(), str(strike), name, "20261120") for name in ("CE", "PE")
    }
    # A strike that was fetched once is fetched again, wherever the index has gone since.
    again = download_options(broker, contracts, [strike + 50], tmp_path / "options", last=DAY)
    assert again.candles > len(rows)
    assert f",{strike},CE," in again.file.read_text()

    # They are what the contract is quoted at.
    premiums = RecordedOptions(MarketModel())
    premiums.read([file], "NIFTY")
    past = past_day(today, NIFTY)
    first = next(row for row in rows if row["Type"] == "CE")
    start_ms = past.today.open_ms + (int(first["Time"][:2]) * 60 + int(first["Time"][3:]) - 555) * 60_000
    contract = past.plan(Params()).contracts[strike, OptionType.CE]
    quote = premiums.quote(past, contract, int(today.spot_paise[0]), start_ms)
    assert quote.recorded
    assert quote.last_paise == round(float(first["Open"]) * 100)


class Source:
    """A broker's candles, a minute a day, that fails as it is told to."""

    def __init__(self, *faults):
        self.asked, self.faults = [], list(faults)

    def candles(self, security, first, last, seconds):  # noqa: ARG002 (as the adapter)
        self.asked.append((first, last))
        if self.faults and (fault := self.faults.pop(0)):
            raise fault
        starts = range(first.toordinal(), last.toordinal() + 1)
        return tuple(minute(date.fromordinal(number)) for number in starts)


def minute(day, start=555, prices=(24_500_00, 24_510_00, 24_490_00, 24_505_00)):
    start_ms = (day - date(1970, 1, 1)).days * 86_400_000 - 19_800_000 + start * 60_000
    open_paise, high_paise, low_paise, close_paise = prices
    return IndexCandle(
        start_ms=start_ms, open_paise=open_paise, high_paise=high_paise, low_paise=low_paise, close_paise=close_paise
    )


def test_a_download_that_ends_early_goes_on_after_the_last_finished_month(tmp_path, monkeypatch):
    monkeypatch.setattr("tasks.backtest.download.pause", lambda _: None)
    fault = BrokerUnavailable("no answer")
    broken = Source(None, fault, None, *[fault] * ATTEMPTS_MAX)
    with pytest.raises(BrokerUnavailable):
        download_index(broken, NIFTY, tmp_path, first=date(2026, 8, 9), last=date(2026, 11, 9))
    assert sorted(file.name for file in tmp_path.iterdir()) == ["2026-08.csv", "2026-09.csv"]
    # What a kill in the middle of writing leaves is no recording.
    (tmp_path / "2026-10.part").write_text("Instrument,Da")
    source = Source()
    found = download_index(source, NIFTY, tmp_path, first=date(2026, 8, 9), last=date(2026, 11, 9))
    assert [stretch.asked for stretch in found] == [False, False, True, True]
    assert source.asked == [(date(2026, 10, 1), date(2026, 10, 31)), (date(2026, 11, 1), date(2026, 11, 9))]
    days = [recorded.day for recorded in read_days([tmp_path], "NIFTY", "")]
    assert days == [date(2026, 8, 1) + timedelta(days=number) for number in range(101)]
    # The month so far is replaced, not kept beside its successor.
    download_index(source, NIFTY, tmp_path, first=date(2026, 11, 1), last=date(2026, 11, 30))
    assert sorted(file.name for file in tmp_path.glob("2026-11*")) == ["2026-11.csv"]


def test_no_request_is_longer_than_the_broker_answers():
    for begin, end in months(date(2021, 2, 28), date(2026, 11, 20)):
        assert 0 <= (end - begin).days < 31
    assert months(date(2026, 11, 20), date(2026, 11, 20)) == [(date(2026, 11, 1), date(2026, 11, 20))]


def test_impossible_candles_are_left_out_and_missing_minutes_are_said():
    whole = [minute(DAY, number) for number in range(555, 945)]
    wrong = minute(DAY, 560, (24_500_00, 24_499_00, 24_490_00, 24_495_00))  # opened above its high
    assert sound_candles([*whole[:5], wrong, *whole[4:]]) == [*whole[:5], *whole[5:]]
    assert short_days(whole, DAY, DAY + timedelta(days=1)) == ()
    assert short_days([*whole[:5], *whole[6:]], DAY, DAY) == (DAY,)


def test_a_day_is_final_only_some_minutes_after_its_close():
    close_ms = minute(DAY, 15 * 60 + 40).start_ms
    assert ist(close_ms).time().isoformat() == "15:40:00"
    assert not is_over(DAY, close_ms + 60_000)
    assert is_over(DAY, close_ms + 300_000)
    assert is_over(DAY + timedelta(days=1), close_ms)  # a Saturday has none
