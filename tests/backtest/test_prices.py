"""Recordings of every kind become the same ticks whichever way they are read, and what cannot be is refused."""

from contextlib import closing
from datetime import date

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from strategy.candles import IndexTicks, take_tick
from strategy.events import Tick
from strategy.instruments import Underlying
from strategy.recordings import Bar, Recording, RecordingError, minute_points, parse_recording
from tasks.backtest.prices import day_of_ticks, days_of_bars, read_days, session_days
from tasks.ledger.records import SessionKey
from tasks.ledger.store import Ledger

DAY = date(2026, 11, 19)
START_MS = 1_795_059_900_000  # 09:15 of the day


@st.composite
def bars(draw):
    rows = []
    for number in range(draw(st.integers(1, 5))):
        low = draw(st.integers(100_000, 9_000_000))
        high = low + draw(st.integers(0, 50_000))
        rows.append(
            Bar(START_MS + number * 60_000, draw(st.integers(low, high)), high, low, draw(st.integers(low, high)))
        )
    return rows


@settings(deadline=None, max_examples=60)
@given(rows=bars(), minutes=st.booleans())
def test_arrays_of_ticks_are_the_rule_of_the_recordings(rows, minutes):
    recording = Recording(source="", instrument="", minutes=minutes, bars={DAY: rows})
    (recorded,) = days_of_bars({DAY: rows}, minutes=minutes)
    assert list(zip(recorded.at_ms.tolist(), recorded.spot_paise.tolist(), strict=True)) == list(recording.points(DAY))


@settings(deadline=None, max_examples=60)
@given(rows=bars())
def test_the_other_way_visits_the_other_extreme_first(rows):
    (recorded,) = days_of_bars({DAY: rows}, minutes=True)
    for number, bar in enumerate(rows):
        ticks = recorded.other_paise[number * 60 : number * 60 + 60].tolist()
        usual = [price for _, price in minute_points(bar)]
        assert (ticks[0], ticks[20], ticks[40], ticks[59]) == (usual[0], usual[40], usual[20], usual[59])


@settings(deadline=None, max_examples=100)
@given(
    st.lists(
        st.tuples(st.integers(-2_000, 5_000), st.integers(-30, 30) | st.sampled_from([-5_000, 5_000, -200_000])),
        max_size=60,
    )
)
def test_ticks_that_are_kept_are_those_that_a_session_uses(moves):
    at_ms, price = START_MS, 10_000
    times, prices = [], []
    for wait_ms, change in moves:
        at_ms, price = at_ms + wait_ms, price + change
        times.append(at_ms)
        prices.append(price)
        price = max(price, 5_000)
    recorded = day_of_ticks(DAY, np.array(times, dtype=np.int64), np.array(prices, dtype=np.int64))
    assert recorded.unused == len(times) - len(recorded.at_ms)
    index = IndexTicks()
    for at, paise in zip(recorded.at_ms.tolist(), recorded.spot_paise.tolist(), strict=True):
        before = index.faults
        index, _ = take_tick(index, at, paise, 5)
        assert index.faults == before


def test_the_same_ticks_come_from_csv_and_parquet(tmp_path):
    pa = pytest.importorskip("pyarrow", reason="Parquet needs the packages of [sweep]")
    import pyarrow.parquet as pq  # noqa: PLC0415

    columns = {
        "at_ms": [START_MS, START_MS + 500, START_MS + 1000],
        "security": ["IDX_I:13", "NSE_FNO:4", "IDX_I:13"],
        "price_paise": [24_500_00, 100_00, 24_501_00],
    }
    pq.write_table(pa.table(columns), tmp_path / "ticks.parquet")
    rows = zip(*columns.values(), strict=True)
    (tmp_path / "ticks.csv").write_text(
        "at_ms,security,price_paise\n" + "".join(f"{at},{name},{price}\n" for at, name, price in rows)
    )
    (one,) = read_days([tmp_path / "ticks.csv"], "NIFTY", "IDX_I:13")
    (other,) = read_days([tmp_path / "ticks.parquet"], "NIFTY", "IDX_I:13")
    assert one.at_ms.tolist() == other.at_ms.tolist() == [START_MS, START_MS + 1000]
    assert one.spot_paise.tolist() == other.spot_paise.tolist() == [24_500_00, 24_501_00]
    assert one.day == DAY


def test_bars_in_parquet_are_read_as_in_csv(tmp_path, minute_bars):
    pytest.importorskip("pyarrow", reason="Parquet needs the packages of [sweep]")
    import pyarrow as pa  # noqa: PLC0415
    import pyarrow.parquet as pq  # noqa: PLC0415

    head, *lines = minute_bars.read_text().split()
    columns = dict(zip(head.split(","), zip(*(line.split(",") for line in lines), strict=True), strict=True))
    pq.write_table(pa.table({name: list(values) for name, values in columns.items()}), tmp_path / "bars.parquet")
    for one, other in zip(
        read_days([minute_bars], "NIFTY", ""), read_days([tmp_path / "bars.parquet"], "NIFTY", ""), strict=True
    ):
        assert one.day == other.day
        assert one.spot_paise.tolist() == other.spot_paise.tolist()


WRONG = {
    "another index": ("BANKNIFTY,20261119,09:15,1,1,1,1", "expected bars of NIFTY"),
    "ticks of something else": (None, "expected ticks of IDX_I:13"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_cannot_be_tested_is_refused_with_a_next_step(name, tmp_path):
    row, complaint = WRONG[name]
    file = tmp_path / "file.csv"
    file.write_text(
        f"Instrument,Date,Time,Open,High,Low,Close\n{row}\n" if row else "at_ms,security,price_paise\n1,NSE_FNO:1,5\n"
    )
    with pytest.raises(RecordingError, match=complaint):
        read_days([file], "NIFTY", "IDX_I:13")


def test_a_day_in_two_files_is_refused(minute_bars, tmp_path):
    copy = tmp_path / "copy.csv"
    copy.write_text(minute_bars.read_text())
    with pytest.raises(RecordingError, match="each day in one file"):
        read_days([minute_bars, copy], "NIFTY", "")


@pytest.mark.parametrize("errors", [1, 9, 60])
@pytest.mark.parametrize("first", [True, False])
def test_some_wrong_prices_cost_themselves_and_not_the_day(errors, first):
    right, wrong = [24_500_00 + 5 * number for number in range(200)], [2_450_00] * errors
    prices = np.array(wrong + right if first else right[:100] + wrong + right[100:])
    recorded = day_of_ticks(DAY, START_MS + 1_000 * np.arange(len(prices)), prices)
    assert recorded.spot_paise.tolist() == right
    assert recorded.unused == errors


def test_a_file_is_parsed_without_being_a_file():
    read = parse_recording(["Instrument,Date,Time,Open,High,Low,Close\n", "NIFTY,20261119,09:15,1,2,1,2\n"], "words")
    assert list(read.bars) == [DAY]


def test_what_our_own_session_recorded_is_a_recording(sqlite_ledger_url):
    key = SessionKey(account="1000000009", underlying=Underlying.NIFTY, mode="paper", day=DAY)
    with closing(Ledger(sqlite_ledger_url)) as ledger:
        ledger.open_session(key, "k3f")
        heard = [(0, "IDX_I:13", 24_500_00), (400, "NSE_FNO:47", 90_00), (900, "IDX_I:13", 24_501_00)]
        heard += [(900, "IDX_I:13", 24_501_00), (1_200, "IDX_I:13", 94_501_00)]  # repeated, and a leap
        ticks = [Tick(at_ms=START_MS + after, security=name, price_paise=price) for after, name, price in heard]
        ledger.record_ticks(key.session_id, ticks)
        (recorded,) = session_days(ledger, [key.session_id], "IDX_I:13")
        with pytest.raises(RecordingError, match="found none"):
            session_days(ledger, [key.session_id], "IDX_I:25")
    assert recorded.day == DAY
    assert recorded.spot_paise.tolist() == [24_500_00, 24_501_00]
    assert recorded.unused == 2
