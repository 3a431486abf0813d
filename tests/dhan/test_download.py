"""The broker's candles as recordings, over HTTP: whole files or none, no month asked for twice, nothing made up."""

import csv
import os
import subprocess
import sys
from collections import Counter
from datetime import date, timedelta
from pathlib import Path

import pytest

from strategy.instruments import INDICES, Underlying
from tasks.backtest.download import ATTEMPTS_MAX, download_index, is_over, months, short_days, sound_candles
from tasks.backtest.prices import read_days
from tasks.broker import BrokerUnavailable, IndexCandle
from tasks.clock import ist

NIFTY = INDICES[Underlying.NIFTY]
DAY = date(2026, 11, 20)
PROJECT = Path(__file__).resolve().parents[2]


def test_the_command_fetches_what_is_missing_and_a_backtest_reads_it(start_exchange, tmp_path):
    market = start_exchange("--start", "15:46", "--rate-limits", "off")
    environment = os.environ | {
        "BOT_SIMULATOR_URL": market.url,
        "BOT_HOME": str(tmp_path),
        "PREFECT_LOGGING_LEVEL": "ERROR",
    }

    def bot(*words):
        done = subprocess.run(
            [sys.executable, "-c", "from flows.cli import main; main()", *words, "--home", tmp_path],
            cwd=PROJECT, env=environment, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout

    said = bot("download", "--from", "2026-11-02", "--strikes", "1")
    file = tmp_path / "candles" / "NIFTY" / "2026-11-until-20.csv"
    options = tmp_path / "candles" / "NIFTY-options" / "2026-11-23.csv"
    assert f"{file.name}: " in said
    recorded = read_days([file.parent], "NIFTY", "")
    assert recorded[-1].day == DAY
    assert recorded[-1].bar_seconds == 60
    # What the broker has, and the next time nothing is asked for but the contracts' newest minutes.
    asked = market.calls("candles_intraday")
    assert "there already" in bot("download", "--from", "2026-11-02")
    assert market.calls("candles_intraday") == asked
    rows = list(csv.DictReader(options.read_text().splitlines()))
    contracts = Counter((row["Strike"], row["Type"]) for row in rows)
    assert asked == 1 + len(contracts)
    assert {row["Expiry"] for row in rows} == {"2026-11-23"}
    assert {row["Date"] for row in rows} == {"20261120"}
    # The day's premiums are those: a backtest trades at them, and says so.
    result = bot(
        "backtest", "--data", file.parent, "--from", "2026-11-20", "--options", options.parent,
        *("--set", "candle_seconds=60", "--set", "supertrend_period=3", "--set", "supertrend_multiplier=1.5"),
        *("--set", "htf_filter=false", "--set", "macd_confirmation=false"),
    )  # fmt: skip
    assert "premiums of the trades: " in result
    assert " recorded" in result


class Source:
    """A broker's candles, a minute a day, that fails as it is told to."""

    def __init__(self, *faults):
        self.asked, self.faults = [], list(faults)

    def candles(self, security, first, last, seconds):
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
    monkeypatch.setattr("tasks.backtest.download.pause", lambda seconds: None)
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
