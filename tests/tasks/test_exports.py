"""Exports: reading a file back gives the rows, whatever the format; units stand in the header."""

import csv
import json
import sys
from datetime import date, datetime
from decimal import Decimal

import pytest

from strategy.closed_trades import TradeFilter
from tasks.clock import epoch_ms
from tasks.evening.exports import ExportRefused, export

KINDS = ("trades", "fills", "candles", "decisions")
EVERYTHING = TradeFilter()


def read(path, file_format):
    """The rows as text, empty for nothing."""
    if file_format == "csv":
        with path.open(newline="", encoding="utf-8") as file:
            return list(csv.DictReader(file))
    if file_format == "json":
        return json.loads(path.read_text(encoding="utf-8"))
    parquet = pytest.importorskip("pyarrow.parquet")
    return parquet.read_table(path).to_pylist()


def as_text(value):
    return "" if value is None else f"{value:.10g}" if isinstance(value, float) else str(value)


def same(text):
    """A number without its ending zeros, so that 12.50 is 12.5."""
    try:
        return f"{float(text):.10g}"
    except ValueError:
        return text


@pytest.mark.parametrize("what", KINDS)
def test_every_format_gives_the_same_rows_back(what, recorded_day, tmp_path):
    found = {}
    for file_format in ("csv", "json", "parquet"):
        path = tmp_path / f"{what}.{file_format}"
        count = export(recorded_day.ledger, what, path, wanted=EVERYTHING, file_format=file_format)
        rows = read(path, file_format)
        assert len(rows) == count > 0
        found[file_format] = [{name: same(as_text(value)) for name, value in row.items()} for row in rows]
    assert found["csv"] == found["json"] == found["parquet"]
    assert not list(tmp_path.glob("*.part"))


def test_trades_are_those_of_the_ledger(recorded_day, tmp_path):
    export(recorded_day.ledger, "trades", tmp_path / "t.csv", wanted=EVERYTHING, file_format="csv")
    rows = read(tmp_path / "t.csv", "csv")
    for row, trade in zip(rows, recorded_day.ledger.trades(recorded_day.session_id), strict=True):
        assert (int(row["trade"]), int(row["net_paise"])) == (trade.trade, trade.net_paise)
        assert Decimal(row["net_rupees"]) * 100 == trade.net_paise
        assert int(row["gross_paise"]) - int(row["charges_paise"]) == int(row["net_paise"])
        entered = datetime.fromisoformat(row["entered_at"])
        assert row["entered_at"].endswith("+05:30")
        assert epoch_ms(entered) == trade.entry_at_ms
        assert (row["quantity_units"], row["exit_reason"]) == (str(trade.quantity), trade.exit_reason)


def test_the_charges_of_fills_add_up_to_those_of_their_orders(recorded_day, tmp_path):
    export(recorded_day.ledger, "fills", tmp_path / "f.json", wanted=EVERYTHING, file_format="json")
    rows = read(tmp_path / "f.json", "json")
    charges = {charge.client_order_id: charge for charge in recorded_day.ledger.charges(recorded_day.session_id)}
    for client_order_id, charge in charges.items():
        mine = [row for row in rows if row["client_order_id"] == client_order_id]
        assert len(mine) == 2
        for name in ("brokerage_paise", "stt_paise", "exchange_paise", "sebi_paise", "stamp_paise", "gst_paise"):
            assert sum(row[name] for row in mine) == getattr(charge, name)
        assert sum(row["charges_paise"] for row in mine) == charge.total_paise
    assert {row["client_order_id"] for row in rows} == set(charges)


def test_a_day_without_prices_of_its_orders_says_nothing_of_charges(record_day, tmp_path):
    export(record_day(priced=False).ledger, "fills", tmp_path / "f.json", wanted=EVERYTHING, file_format="json")
    assert {row["charges_paise"] for row in read(tmp_path / "f.json", "json")} == {None}


@pytest.mark.parametrize(
    "wanted",
    [
        TradeFilter(first=date(2026, 11, 21)),
        TradeFilter(last=date(2026, 11, 19)),
        TradeFilter(indices=frozenset({"SENSEX"})),
        TradeFilter(modes=frozenset({"live"})),
    ],
    ids=str,
)
def test_what_was_not_asked_for_is_left_out(wanted, recorded_day, tmp_path):
    assert export(recorded_day.ledger, "trades", tmp_path / "t.csv", wanted=wanted, file_format="csv") == 0
    (header,) = (tmp_path / "t.csv").read_text().splitlines()
    assert "net_paise,net_rupees" in header


def test_parquet_without_its_package_says_what_to_install_and_leaves_nothing(recorded_day, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ExportRefused, match=r"pyarrow.*\[sweep\]"):
        export(recorded_day.ledger, "trades", tmp_path / "t.parquet", wanted=EVERYTHING, file_format="parquet")
    assert list(tmp_path.glob("t.parquet*")) == []


def test_a_file_that_is_there_is_replaced_only_by_a_whole_one(recorded_day, tmp_path, monkeypatch):
    path = tmp_path / "t.parquet"
    path.write_text("kept")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ExportRefused):
        export(recorded_day.ledger, "trades", path, wanted=EVERYTHING, file_format="parquet")
    assert path.read_text() == "kept"
