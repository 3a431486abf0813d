"""The instrument master: mapped by name, its traps avoided, refused where it cannot be traded by, fast."""

import csv
import hashlib
import io
from datetime import date

import pytest

from strategy.instruments import INDICES, OptionType, Underlying, contract_facts
from tasks.broker import BrokerUnavailable
from tasks.clock import Stopwatch
from tasks.instruments import (
    InstrumentMaster,
    LoggedProgress,
    MasterRefused,
    fetch_master,
    read_contracts,
    usable_freeze_quantity,
)
from tasks.settings import Settings

DAY = date(2026, 9, 24)
NIFTY, BANKNIFTY, SENSEX = (INDICES[name] for name in (Underlying.NIFTY, Underlying.BANKNIFTY, Underlying.SENSEX))
HEADER = (
    "EXCH_ID,SEGMENT,SECURITY_ID,ISIN,INSTRUMENT,UNDERLYING_SECURITY_ID,UNDERLYING_SYMBOL,SYMBOL_NAME,DISPLAY_NAME,"
    "INSTRUMENT_TYPE,SERIES,LOT_SIZE,SM_EXPIRY_DATE,STRIKE_PRICE,OPTION_TYPE,TICK_SIZE,EXPIRY_FLAG,BRACKET_FLAG,"
    "COVER_FLAG,ASM_GSM_FLAG,ASM_GSM_CATEGORY,BUY_SELL_INDICATOR,BUY_CO_MIN_MARGIN_PER,BUY_CO_SL_RANGE_MAX_PERC,"
    "BUY_CO_SL_RANGE_MIN_PERC,BUY_BO_MIN_MARGIN_PER,BUY_BO_PROFIT_RANGE_MAX_PERC,BUY_BO_PROFIT_RANGE_MIN_PERC,"
    "MTF_LEVERAGE,SM_UPPER_LIMIT,SM_LOWER_LIMIT,SM_FREEZE_QTY,"
)
FACTS = contract_facts()
# Rows as the real files of August to October 2026 have them.
REAL = """\
NSE,I,13,NA,INDEX,13,NIFTY,NIFTY,Nifty 50,INDEX,NA,1.0,0001-01-01,,XX,0.0500,N,N,N,N,NA,A,0,0,0,0,0,0,0,0.0000,0.0000,0,
NSE,D,35084,NA,OPTIDX,26000,NIFTY,NIFTY-Sep2026-29150-CE,NIFTY 29 SEP 29150 CALL,OP,NA,65.0,2026-09-29,29150.00000,CE,5.0000,M,N,N,N,NA,A,0,0,0,0,0,0,0,20.1000,0.0500,1756,
NSE,D,35070,NA,OPTIDX,26000,NIFTY,NIFTY-Nov2026-18950-CE,NIFTY 23 NOV 18950 CALL,OP,NA,65.0,2026-11-23,18950.00000,CE,5.0000,M,N,N,N,NA,A,0,0,0,0,0,0,0,4500.4000,3369.3000,1756,
NSE,D,35000,NA,OPTIDX,26009,BANKNIFTY,BANKNIFTY-Sep2026-72600-CE,BANKNIFTY 29 SEP 72600 CALL,OP,NA,30.0,2026-09-29,72600.00000,CE,5.0000,M,N,N,N,NA,A,0,0,0,0,0,0,0,20.0500,0.0500,601,
BSE,D,1100042,NA,OPTIDX,1,SENSEX,BSXOPT,SENSEX 08 OCT 84600 PUT,OPTIDX,NA,20.0,2026-10-08,84600.00000,PE,5.0000,W,N,N,N,NA,A,0,0,0,0,0,0,0,10148.9500,5179.9000,1001,
BSE,D,1100470,NA,OPTIDX,1,SENSEX,BSXOPT,SENSEX 24 SEP 68000 CALL,OPTIDX,NA,20.0,2026-09-24,68000.00000,CE,5.0000,Q,N,N,N,NA,A,0,0,0,0,0,0,0,11288.4500,6151.7000,1001,
BSE,D,1100929,NA,FUTIDX,1,SENSEX,BSXFUT,SENSEX NOV  FUT,FUTIDX,NA,20.0,2026-11-26,0.00000,,5.0000,M,N,N,N,NA,A,0,0,0,0,0,0,0,85844.9500,70236.8000,501,
NSE,D,61091,NA,FUTIDX,26037,FINNIFTY,FINNIFTY-Oct2026-FUT,FINNIFTY OCT FUT,FUT,NA,60,2026-10-27,-0.01,XX,10,M,N,N,N,NA,A,0,0,0,0,0,0,0,1,1,1801,
""".splitlines()
BASE = dict(zip(HEADER.split(","), next(csv.reader([REAL[1]])), strict=True))


def row(**changes):
    out = io.StringIO()
    csv.writer(out).writerow((BASE | changes).values())
    return out.getvalue().strip()


def contracts(*lines, index=NIFTY, day=DAY, header=HEADER, facts=FACTS):
    return read_contracts(iter([header, *lines]), index, day, facts, "master.csv")


def only(*lines, **others):
    [listed] = contracts(*lines, **others).values()
    [contract] = listed.values()
    return contract


def test_real_rows_become_contracts():
    found = contracts(*REAL)
    assert sorted(found) == [date(2026, 9, 29), date(2026, 11, 23)]
    contract = found[date(2026, 9, 29)][29150, OptionType.CE]
    assert (contract.security, contract.trading_symbol) == ("NSE_FNO:35084", "NIFTY-Sep2026-29150-CE")
    assert (contract.lot_size, contract.tick_size_paise, contract.freeze_quantity) == (65, 5, 1755)
    assert only(*REAL, index=BANKNIFTY).freeze_quantity == 600


def test_a_sensex_contract_has_a_symbol_of_its_own_and_the_quarter_s_flag_does_not_matter():
    found = contracts(*REAL, index=SENSEX)
    contract = found[date(2026, 9, 24)][68000, OptionType.CE]
    assert (contract.security, contract.trading_symbol) == ("BSE_FNO:1100470", "SENSEX-Sep2026-68000-CE")
    assert (contract.lot_size, contract.freeze_quantity) == (20, 1000)


LEFT_OUT = {
    "an index whose name begins alike": row(UNDERLYING_SYMBOL="NIFTYNXT50"),
    "an index whose name ends alike": row(UNDERLYING_SYMBOL="FINNIFTY"),
    "a future": row(INSTRUMENT="FUTIDX", STRIKE_PRICE="-0.01", OPTION_TYPE="XX"),
    "a stock's option": row(INSTRUMENT="OPTSTK"),
    "another exchange": row(EXCH_ID="BSE"),
    "another segment": row(SEGMENT="C"),
    "a test instrument": row(SYMBOL_NAME="011NSETEST-Sep2026-29150-CE"),
    "an expired contract": row(SM_EXPIRY_DATE="2026-09-23"),
    "the date that is none": row(SM_EXPIRY_DATE="0001-01-01"),
    "no date": row(SM_EXPIRY_DATE=""),
    "no strike": row(STRIKE_PRICE=""),
    "a strike between points": row(STRIKE_PRICE="29150.50"),
    "a strike below zero": row(STRIKE_PRICE="-0.01000"),
    "no type": row(OPTION_TYPE="XX"),
    "no lot": row(LOT_SIZE="0.0"),
    "a lot that is none": row(LOT_SIZE="NaN"),
    "no tick": row(TICK_SIZE="0"),
    "a tick in rupees": row(TICK_SIZE="0.0500"),
    "no id": row(SECURITY_ID=""),
    "a freeze quantity below a lot": row(SM_FREEZE_QTY="65"),
    "half a row": row()[:80],
    "an empty line": "",
}


@pytest.mark.parametrize("case", LEFT_OUT)
def test_what_is_not_a_contract_of_the_index_is_left_out(case, caplog):
    good = row(SECURITY_ID="7", STRIKE_PRICE="30000.00000")
    assert only(LEFT_OUT[case], good).security_id == "7"


def test_weekly_and_monthly_contracts_with_one_symbol_are_two():
    found = contracts(row(), row(SECURITY_ID="7", SM_EXPIRY_DATE="2026-09-24", EXPIRY_FLAG="W"))
    assert {expiry: listed[29150, OptionType.CE].security_id for expiry, listed in found.items()} == {
        date(2026, 9, 29): "35084",
        date(2026, 9, 24): "7",
    }


def test_a_repeated_row_is_one_contract():
    assert only(row(), row()).security_id == "35084"


def test_where_two_ids_claim_one_contract_neither_is_traded(caplog):
    found = contracts(row(), row(SECURITY_ID="7"), row(STRIKE_PRICE="30000"))
    assert list(found[date(2026, 9, 29)]) == [(30000, OptionType.CE)]
    assert "two ids" in caplog.text


@pytest.mark.parametrize(
    ("stated", "lot", "usable"),
    [
        (1756, 65, 1755),
        (601, 30, 600),
        (1001, 20, 1000),
        (600, 30, 570),
        (1000, 20, 980),
        (1801, 60, 1800),
        (0, 65, 1755),
    ],
)
def test_an_order_stays_below_the_stated_freeze_quantity_in_whole_lots(stated, lot, usable):
    assert usable_freeze_quantity(stated, lot, otherwise=1800) == usable


def test_where_no_freeze_quantity_is_stated_the_exchange_s_holds():
    assert only(row(SM_FREEZE_QTY="0")).freeze_quantity == 1755
    assert only(row(SM_FREEZE_QTY="-1")).freeze_quantity == 1755


OWN = """
[[freeze]]
underlying = "NIFTY"
since = 2026-09-01
quantity = 650
source = "a circular of this morning"
"""


def test_where_no_freeze_quantity_is_stated_the_operator_s_own_holds_before_the_packaged(tmp_path):
    """Both for the rows alone and for the master of a day, which reads the operator's file by its settings."""
    assert only(row(SM_FREEZE_QTY="0"), facts=contract_facts(OWN)).freeze_quantity == 650
    assert only(row(SM_FREEZE_QTY="1756"), facts=contract_facts(OWN)).freeze_quantity == 1755
    own = tmp_path / "own.toml"
    own.write_text(OWN)
    settings = Settings(_env_file=None, dhan_client_id="1", facts_file=own, home=tmp_path)
    path = fetched(settings, row(SM_FREEZE_QTY="0"))
    master = InstrumentMaster.of_day(settings, DAY)
    assert path.exists()
    [(_, contract)] = master.contracts(NIFTY, date(2026, 9, 29)).items()
    assert contract.freeze_quantity == 650


def fetched(settings, *lines):
    """A master of the day that is here already, where it is looked for."""
    source = hashlib.sha256(settings.master_url.encode()).hexdigest()[:8]
    path = settings.home / "instruments" / f"master-{DAY}-{source}.csv"
    path.parent.mkdir()
    path.write_text("\n".join([HEADER, *lines]))
    return path


def test_columns_are_found_by_name_wherever_they_are():
    shuffled = ",".join(reversed(HEADER.rstrip(",").split(",")))
    assert only(",".join(reversed(row().rstrip(",").split(","))), header=shuffled) == only(row())


@pytest.mark.parametrize("missing", ["SM_FREEZE_QTY", "LOT_SIZE", "UNDERLYING_SYMBOL"])
def test_a_file_without_a_needed_column_is_refused(missing):
    with pytest.raises(MasterRefused, match=missing):
        contracts(row(), header=HEADER.replace(missing, "OTHER"))


@pytest.mark.parametrize("lines", [[], [row(SM_EXPIRY_DATE="2026-09-23")], [REAL[4]]])
def test_a_file_without_today_s_contracts_is_refused(lines):
    with pytest.raises(MasterRefused, match=r"NIFTY.*2026-09-24.*today's file"):
        contracts(*lines)


def test_an_empty_file_is_refused():
    with pytest.raises(MasterRefused, match="columns"):
        read_contracts(iter([]), NIFTY, DAY, FACTS, "master.csv")


def test_two_hundred_thousand_rows_are_read_at_once(tmp_path):
    path = tmp_path / "master.csv"
    equity = "NSE,E,1333,INE040A01034,EQUITY,,HDFCBANK,HDFC BANK LTD,HDFC Bank,ES,EQ,1.0,,,,5.0,NA,N,N,N,NA,A,0,0,0,0,0,0,0,1,1,0,"
    with path.open("w") as file:
        file.write(HEADER + "\n")
        file.writelines(f"{equity}\n" for _ in range(150_000))
        for number in range(50_000):
            symbol = ("NIFTY", "BANKNIFTY", "FINNIFTY", "MIDCPNIFTY")[number % 4]
            file.write(row(SECURITY_ID=str(number), UNDERLYING_SYMBOL=symbol, STRIKE_PRICE=f"{number}.00000") + "\n")
    watch = Stopwatch()
    found = InstrumentMaster(path, DAY, FACTS).contracts(NIFTY, date(2026, 9, 29))
    assert len(found) == 12_499  # the first has strike 0
    assert watch.seconds < 10  # a guard against reading it another way; a second is usual


def test_the_day_s_file_comes_from_the_simulator_for_every_index(shared_exchange, tmp_path):
    settings = Settings(_env_file=None, simulator_url=shared_exchange.url, home=tmp_path)
    heard = []
    master = InstrumentMaster.of_day(settings, date(2026, 11, 20), lambda got, total: heard.append((got, total)))
    assert heard
    assert heard[-1][0] == heard[-1][1] or heard[-1][1] is None
    for index in INDICES.values():
        expiries = master.expiries(index)
        assert expiries[0] >= date(2026, 11, 20)
        found = master.contracts(index, expiries[0])
        assert {option_type for _, option_type in found} == set(OptionType)
        for (strike, option_type), contract in found.items():
            assert (contract.strike_points, contract.option_type, contract.underlying) == (
                strike,
                option_type,
                index.underlying,
            )
            assert contract.freeze_quantity % contract.lot_size == 0
    with pytest.raises(MasterRefused, match="2030-01-01"):
        master.contracts(NIFTY, date(2030, 1, 1))


def csv_reply():
    return (200, f"{HEADER}\n{row()}")


def test_a_file_is_fetched_once_a_day_and_kept_for_some_days(scripted, tmp_path, monkeypatch):
    monkeypatch.setattr("tasks.instruments.is_loopback", lambda _: False)  # as if it were the broker's own
    scripted.replies = [csv_reply()]
    first = fetch_master(scripted.url, tmp_path, DAY)
    assert fetch_master(scripted.url, tmp_path, DAY) == first
    assert len(scripted.requests) == 1
    for day in range(1, 9):
        fetch_master(scripted.url, tmp_path, date(2026, 10, day))
    assert len(list(tmp_path.iterdir())) == 5
    assert not first.exists()


def test_a_slow_download_does_not_look_like_a_hang(caplog):
    caplog.set_level("INFO", logger="tasks.instruments")
    hear = LoggedProgress()
    for megabytes in range(1, 11):
        hear(megabytes * 1_000_000, 10_000_000)
    LoggedProgress()(5_000_000, None)
    assert caplog.messages == [
        "instrument master: 4 of 10 MB",
        "instrument master: 8 of 10 MB",
        "instrument master: 5 MB",
    ]


def test_a_simulator_s_file_is_fetched_each_time(scripted, tmp_path):
    scripted.replies = [csv_reply()]
    fetch_master(scripted.url, tmp_path, DAY)
    fetch_master(scripted.url, tmp_path, DAY)
    assert len(scripted.requests) == 2


@pytest.mark.parametrize(
    "reply", [(404, "x"), (502, "<html>"), "reset", [b"HTTP/1.1 200 x\r\nContent-Length: 99\r\n\r\nhalf"]]
)
def test_a_file_that_does_not_arrive_whole_is_unavailable_and_leaves_nothing(reply, scripted, tmp_path):
    scripted.replies = [reply]
    with pytest.raises(BrokerUnavailable, match="instrument master"):
        fetch_master(scripted.url, tmp_path, DAY)
    assert list(tmp_path.iterdir()) == []
