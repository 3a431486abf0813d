"""Trading days against the exchanges' lists, against recorded bars, and what an operator may change."""

import csv
from collections import defaultdict
from datetime import date, datetime, time, timedelta
from itertools import pairwise
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from strategy.calendar import OutsideKnownData, closed_because, ist_ms, session_facts, trading_day
from strategy.facts import FactsInvalid, facts_version

RECORDED = Path(__file__).parents[3] / "shared" / "data" / "market" / "nifty_2024_1min.csv"

# Each line: day, windows (or -), the entry cutoff's limit, the close of an expiring contract, confirmed.
DAYS = """
    2024-01-19  09:15-15:30              -      -      yes  # an ordinary Friday
    2024-01-20  09:15-15:30              -      -      yes  # Saturday for Monday
    2024-01-22  -                        -      -      yes
    2024-03-02  09:15-10:00,11:30-12:30  -      -      yes  # disaster recovery Saturday
    2024-05-18  09:15-10:00,11:30-12:30  -      -      yes
    2024-05-20  -                        -      -      yes  # declared late
    2024-11-01  18:00-19:00              -      -      yes  # Muhurat
    2024-11-20  -                        -      -      yes  # declared late
    2025-02-01  09:15-15:30              -      -      yes  # Budget Saturday
    2025-10-21  13:45-14:45              -      -      yes  # Muhurat
    2025-10-22  -                        -      -      yes
    2026-01-15  -                        -      -      yes  # declared late
    2026-02-01  09:15-15:30              -      -      yes  # Budget Sunday
    2026-07-31  09:15-15:30              -      -      yes  # the last day of the old hours
    2026-08-03  09:15-15:40              15:15  -      yes
    2026-11-08  18:00-19:15              -      -      no   # Muhurat Sunday, time assumed
    2026-11-20  09:15-15:40              15:15  -      yes
    2026-11-21  -                        -      -      yes  # a plain Saturday
    2026-11-23  09:15-15:40              15:15  -      yes
    2026-11-24  -                        -      -      yes
    2026-12-04  09:15-15:40              15:15  -      yes
    2026-12-07  09:15-15:45              15:30  15:30  no
    2026-12-31  09:15-15:45              15:30  15:30  no
"""
ROWS = [line.split("#")[0].split() for line in DAYS.strip().splitlines()]


@pytest.mark.parametrize(("day", "windows", "cutoff", "expiry_close", "confirmed"), ROWS, ids=[row[0] for row in ROWS])
def test_days_a_trader_knows(day, windows, cutoff, expiry_close, confirmed):
    found = trading_day(date.fromisoformat(day))
    if windows == "-":
        assert found is None
        assert closed_because(date.fromisoformat(day))
        return
    assert found is not None
    assert closed_because(date.fromisoformat(day)) is None
    assert ",".join(f"{window.open:%H:%M}-{window.close:%H:%M}" for window in found.windows) == windows
    assert found.entry_latest == (None if cutoff == "-" else time.fromisoformat(cutoff))
    assert found.expiry_close == (None if expiry_close == "-" else time.fromisoformat(expiry_close))
    assert bool(found.unconfirmed) == (confirmed == "no")


CLOSED_WEEKDAYS = {
    2024: "01-22 01-26 03-08 03-25 03-29 04-11 04-17 05-01 05-20 06-17 07-17 08-15 10-02 11-15 11-20 12-25",
    2025: "02-26 03-14 03-31 04-10 04-14 04-18 05-01 08-15 08-27 10-02 10-22 11-05 12-25",
    2026: "01-15 01-26 03-03 03-26 03-31 04-03 04-14 05-01 05-28 06-26 09-14 10-02 10-20 11-10 11-24 12-25",
}


@pytest.mark.parametrize("year", CLOSED_WEEKDAYS)
def test_the_weekdays_without_any_session_are_those_of_the_exchanges_list(year):
    days = [date(year, 1, 1) + timedelta(days=number) for number in range(365 + (year == 2024))]
    closed = [day for day in days if day.weekday() < 5 and trading_day(day) is None]
    assert " ".join(f"{day:%m-%d}" for day in closed) == CLOSED_WEEKDAYS[year]


@pytest.mark.parametrize("day", [date(2023, 12, 29), date(2027, 1, 1), date(2031, 6, 2)])
def test_a_day_outside_the_known_data_is_refused_not_guessed(day):
    with pytest.raises(OutsideKnownData, match=f"{day} is outside.*operator's facts file"):
        trading_day(day)
    with pytest.raises(OutsideKnownData):
        closed_because(day)


@pytest.mark.skipif(not RECORDED.is_file(), reason="the recorded bars are absent")
def test_recorded_minutes_lie_inside_the_windows_and_fill_them():
    minutes: dict[date, list[time]] = defaultdict(list)
    with RECORDED.open() as lines:
        for row in csv.DictReader(lines):
            minutes[date.fromisoformat(row["Date"])].append(time.fromisoformat(row["Time"]))
    # After the close of that Saturday the recorder wrote one frozen price for hours.
    minutes[date(2024, 1, 20)] = [at for at in minutes[date(2024, 1, 20)] if at < time(15, 30)]
    assert len(minutes) == 156
    for day, recorded in minutes.items():
        found = trading_day(day)
        assert found is not None, day
        expected = [
            (datetime.combine(day, window.open) + timedelta(minutes=number)).time()
            for window in found.windows
            for number in range((window.close_ms - window.open_ms) // 60_000)
        ]
        assert recorded == expected, day


class TestMoments:
    @given(day=st.dates(date(2024, 1, 1), date(2026, 12, 31)), of_day=st.times())
    def test_ist_wall_time_is_the_zones(self, day, of_day):
        of_day = of_day.replace(microsecond=of_day.microsecond // 1000 * 1000)
        aware = datetime.combine(day, of_day, ZoneInfo("Asia/Kolkata"))
        assert ist_ms(day, of_day) == round(aware.timestamp() * 1000)

    def test_a_window_includes_its_opening_and_excludes_its_close_and_the_break_is_closed(self):
        day = trading_day(date(2024, 3, 2))
        assert day is not None
        times = ("09:14:59.999", "09:15", "09:59:59.999", "10:00", "11:29:59", "11:30", "12:30")
        assert [day.is_open(day.at(time.fromisoformat(at))) for at in times] == [
            *(False, True, True, False, False, True, False)
        ]
        assert (day.open_ms, day.close_ms) == (day.at(time(9, 15)), day.at(time(12, 30)))

    @given(day=st.dates(date(2024, 1, 1), date(2026, 12, 31)))
    def test_windows_are_in_order_and_apart(self, day):
        found = trading_day(day)
        if found is not None:
            edges = [edge for window in found.windows for edge in (window.open_ms, window.close_ms)]
            assert all(earlier < later for earlier, later in pairwise(edges))

    def test_an_expiring_contract_stops_early_from_2026_12_07_and_others_do_not(self):
        before, after = trading_day(date(2026, 12, 1)), trading_day(date(2026, 12, 8))
        assert before is not None
        assert after is not None
        assert before.close_ms_of(date(2026, 12, 1)) == before.at(time(15, 40))
        assert after.close_ms_of(date(2026, 12, 8)) == after.at(time(15, 30))
        assert after.close_ms_of(date(2026, 12, 15)) == after.at(time(15, 45))


class TestOperatorsFacts:
    def test_rows_add_replace_and_extend(self):
        facts = session_facts("""
            [covers]
            through = 2027-03-31

            [[holiday]]
            day = 2026-12-07
            name = "Storm"
            source = "NSE, by telephone"

            [[special]]
            day = 2026-11-08
            name = "Muhurat"
            windows = [[18:15:00, 19:15:00]]
            source = "NSE circular of 2026-10-30"

            [[special]]
            day = 2026-12-25
            name = "Open after all"
            windows = [[09:15:00, 15:30:00]]
            source = "NSE"

            [[hours]]
            since = 2026-12-07
            open = 09:15:00
            close = 15:50:00
            source = "NSE/FAOP/1"
            """)
        assert trading_day(date(2026, 12, 7), facts) is None
        assert closed_because(date(2026, 12, 7), facts) == "Storm (NSE, by telephone)"
        muhurat = trading_day(date(2026, 11, 8), facts)
        assert muhurat is not None
        assert (muhurat.windows[0].open, muhurat.unconfirmed) == (time(18, 15), ())
        assert trading_day(date(2026, 12, 25), facts) is not None
        ordinary = trading_day(date(2027, 1, 4), facts)
        assert ordinary is not None
        assert (ordinary.windows[0].close, ordinary.unconfirmed) == (time(15, 50), ())
        assert trading_day(date(2026, 12, 7)) is not None, "the packaged facts are untouched"

    def test_tables_of_other_facts_may_be_in_the_same_file(self):
        assert session_facts("[[stt]]\n").hours

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("[[holidays]]", "unknown table holidays; expected covers, hours"),
            ("not toml", "not valid TOML"),
            ("[holiday]\nday = 2026-01-01", r"holiday must be rows, written \[\[holiday\]\]"),
            ("[[holiday]]\nday = 2026-06-01\nname = 'x'", "number 1: missing source"),
            ("[[holiday]]\nday = '2026-06-01'\nname = 'x'\nsource = 'y'", "day must be date, found '2026-06-01'"),
            ("[[holiday]]\nday = 2026-06-01T10:00:00\nname = 'x'\nsource = 'y'", "day must be date"),
            ("[[holiday]]\nday = 2026-06-01\nname = 'x'\nsource = 'y'\nnote = 1", "unknown key note"),
            ("[[holiday]]\nday = 2026-06-01\nname = 'x'\nsource = 'y'\nconfirmed = 1", "confirmed must be bool"),
            (
                "[[holiday]]\nday = 2026-06-01\nname = 'x'\nsource = 'y'\n" * 2,
                "2026-06-01 is named more than once",
            ),
            (
                "[[special]]\nday = 2026-06-01\nname = 'x'\nsource = 'y'\nwindows = [[10:00:00, 09:00:00]]",
                "must rise, found",
            ),
            (
                "[[special]]\nday = 2026-06-01\nname = 'x'\nsource = 'y'\nwindows = [[09:15:00, 10:00:00], [10:00:00, 11:00:00]]",
                "must rise, found",
            ),
            (
                "[[special]]\nday = 2026-06-01\nname = 'x'\nsource = 'y'\nwindows = [['09:15', '10:00']]",
                "pairs of times",
            ),
            ("[[special]]\nday = 2026-06-01\nname = 'x'\nsource = 'y'\nwindows = []", "pairs of times"),
            ("[covers]\nthrough = 'later'", "must hold the dates since and through"),
            ("[covers]\nsince = 2020-01-01", r"expected an \[\[hours\]\] row from then or before"),
        ],
    )
    def test_what_cannot_be_understood_is_refused_with_its_place(self, text, message):
        with pytest.raises(FactsInvalid, match=message):
            session_facts(text)

    @pytest.mark.parametrize(
        ("text", "place"),
        [
            ("[[hours]]\nsince = 1", r"^the operator's facts: \[\[hours\]\] number 1: "),
            ("[[special]]\nday = 1", r"^the operator's facts: \[\[special\]\] number 1: "),
            ("[[holiday]]\nday = 1", r"^the operator's facts: \[\[holiday\]\] number 1: "),
            ("[covers]\nuntil = 2026-01-01", r"^the operator's facts: \[covers\] must hold the dates"),
            ("[[sto]]", r"^the operator's facts: unknown table sto; "),
            ("[[a]]\n[[b]]", r"^the operator's facts: unknown table a, b; expected covers, hours, special, "),
            ("[[holiday]]\nday = 2026-06-01", r"number 1: missing source, name$"),
            ("[[holiday]]\nx = 1\ny = 2", r"number 1: unknown key x, y; expected source, confirmed, day, name$"),
            (
                "[[hours]]\nsince = 2026-06-01\nopen = 10:00:00\nclose = 09:00:00\nsource = 'y'",
                r"^\[\[hours\]\] since 2026-06-01: .* must rise, found \['10:00:00', '09:00:00'\]$",
            ),
            (
                "[[special]]\nday = 2026-06-01\nname = 'x'\nsource = 'y'\nwindows = [[10:00:00, 09:00:00]]",
                r"^\[\[special\]\] 2026-06-01: opening",
            ),
        ],
    )
    def test_a_fault_is_named_with_its_place(self, text, place):
        with pytest.raises(FactsInvalid, match=place):
            session_facts(text)

    def test_facts_may_cover_a_single_day(self):
        facts = session_facts("[covers]\nsince = 2026-11-19\nthrough = 2026-11-19")
        assert trading_day(date(2026, 11, 19), facts) is not None
        with pytest.raises(OutsideKnownData):
            trading_day(date(2026, 11, 20), facts)

    def test_every_change_of_the_facts_changes_their_version(self):
        assert facts_version() == facts_version("")
        assert facts_version("[covers]") not in {facts_version(), facts_version("[covers] ")}
        assert len(facts_version()) == 12
