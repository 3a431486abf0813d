"""The earlier bot's file: what is right comes in once, what cannot be right is listed with its reason."""

import math
import sqlite3
from contextlib import closing
from datetime import date

import pytest

from strategy.charges import order_charges, rates_on
from strategy.closed_trades import TradeFilter
from strategy.events import Side
from tasks.evening.earlier_bot import NotAnEarlierBot, import_v2
from tasks.evening.period import analyse_period
from tasks.ledger.store import Ledger
from tasks.ledger.tables import LedgerTable

NOW_MS = 1_800_000_000_000
# The tables as the earlier bot makes them.
SCHEMA = """
CREATE TABLE trades (id INTEGER PRIMARY KEY AUTOINCREMENT, trade_id TEXT UNIQUE, entry_time TEXT, exit_time TEXT,
    option_type TEXT, strike INTEGER, expiry TEXT, entry_price REAL, exit_price REAL, qty INTEGER, pnl REAL,
    exit_reason TEXT, option_security_id TEXT, used_ltp REAL, ltp_source TEXT, mode TEXT, index_name TEXT,
    created_at TEXT, strategy_id TEXT DEFAULT '');
CREATE TABLE candle_data (id INTEGER PRIMARY KEY AUTOINCREMENT, timestamp TEXT, candle_number INTEGER,
    index_name TEXT, interval_seconds INTEGER, high REAL, low REAL, close REAL, supertrend_value REAL,
    macd_value REAL, signal_status TEXT, created_at TEXT);
"""
# 12 February 2026, a Thursday, 10:00 and 10:10 IST; the earlier bot wrote UTC.
TRADE = {
    "trade_id": "T20260212100000",
    "entry_time": "2026-02-12T04:30:00+00:00",
    "exit_time": "2026-02-12T04:40:00.250000+00:00",
    "option_type": "CE",
    "strike": 25_800,
    "expiry": "2026-02-17",
    "entry_price": 120.35,
    "exit_price": 131.1,
    "qty": 65,
    "pnl": (131.1 - 120.35) * 65,
    "exit_reason": "Target Hit",
    "ltp_source": "dhan_filled",
    "mode": "live",
    "index_name": "NIFTY",
}
CANDLE = {
    "timestamp": "2026-02-12T04:30:05+00:00",
    "candle_number": 1,
    "index_name": "SENSEX",
    "interval_seconds": 5,
    "high": 83_410.5,
    "low": 83_400.0,
    "close": 83_405.25,
    "supertrend_value": 83_390.1,
    "macd_value": None,
    "signal_status": "GREEN",
}


@pytest.fixture
def ledger(sqlite_ledger_url):
    with closing(Ledger(sqlite_ledger_url)) as opened:
        yield opened


@pytest.fixture
def write(tmp_path):
    """Writes the earlier bot's file; its path."""

    def written(trades=(), candles=(), name="trading.db"):
        path = tmp_path / name
        path.unlink(missing_ok=True)
        with closing(sqlite3.connect(path)) as file:
            file.executescript(SCHEMA)
            for table, rows in (("trades", trades), ("candle_data", candles)):
                for row in rows:
                    file.execute(
                        f"INSERT INTO {table} ({', '.join(row)}) VALUES ({', '.join('?' * len(row))})", [*row.values()]
                    )
            file.commit()
        return path

    return written


def test_a_trade_comes_in_as_units_and_paise_in_a_place_of_its_own(ledger, write):
    found = import_v2(ledger, write([TRADE], [CANDLE]))
    assert (found.trades, found.candles, found.known, found.refused) == (1, 1, 0, ())
    (trade,) = ledger.imported_trades()
    assert (trade.source, trade.day, trade.mode) == ("trading-bot-v2", date(2026, 2, 12), "live")
    assert (trade.quantity, trade.lot_size, trade.detail["quantity_was"]) == (65, 65, "units")
    assert (trade.buy_value_paise, trade.sell_value_paise) == (120_35 * 65, 131_10 * 65)
    assert trade.exit_at_ms - trade.entry_at_ms == 600_250
    (candle,) = ledger.imported_candles()
    assert (candle.high_paise, candle.low_paise, candle.close_paise) == (83_410_50, 83_400_00, 83_405_25)
    assert (candle.supertrend, candle.macd, candle.signal) == (83_390.1, None, "GREEN")


def test_it_counts_in_analytics_that_ask_for_it_and_in_nothing_else(ledger, write):
    import_v2(ledger, write([TRADE]))
    asked = TradeFilter(modes=frozenset({"imported"}))
    found = analyse_period(ledger, asked, capital_paise=1_00_000_00, now_ms=NOW_MS)
    rates = rates_on(date(2026, 2, 12), "NSE")
    charges = order_charges(Side.BUY, 120_35 * 65, rates) + order_charges(Side.SELL, 131_10 * 65, rates)
    assert found.trades.net_paise == (131_10 - 120_35) * 65 - charges.total_paise
    assert list(found.groups["mode"]) == ["imported"]
    assert found.execution.slippage_paise is None, "nobody noted the price it was decided at"
    assert analyse_period(ledger, TradeFilter(), capital_paise=1_00_000_00, now_ms=NOW_MS).trades.trades == 0
    for name in set(LedgerTable.metadata.tables) - {"imported_trade", "imported_candle"}:
        assert ledger.rows(f"SELECT * FROM {name}") == [], name
    assert ledger.rows("SELECT * FROM day_total") == ledger.rows("SELECT * FROM trade") == []


def test_importing_again_adds_nothing_and_a_later_file_adds_what_is_new(ledger, write):
    import_v2(ledger, write([TRADE], [CANDLE]))
    again = import_v2(ledger, write([TRADE], [CANDLE]))
    assert (again.trades, again.candles, again.known, again.refused) == (0, 0, 2, ())
    later = import_v2(ledger, write([TRADE, TRADE | {"trade_id": "T2"}], [CANDLE]))
    assert (later.trades, later.known) == (1, 2)
    assert len(ledger.imported_trades()) == 2


def test_what_no_database_takes_as_text_is_cleaned_and_known_again(ledger, write):
    odd = TRADE | {"trade_id": "T\0x", "exit_reason": "Target\0 Hit"}
    for known in (0, 1):
        found = import_v2(ledger, write([odd]))
        assert (found.trades, found.known, found.refused) == (1 - known, known, ())
    (kept,) = ledger.imported_trades()
    assert (kept.trade_id, kept.exit_reason) == ("Tx", "Target Hit")


def test_a_row_that_changed_since_is_refused(ledger, write):
    import_v2(ledger, write([TRADE]))
    found = import_v2(ledger, write([TRADE | {"exit_price": 120.35, "pnl": 0.0}]))
    assert (found.trades, [str(refusal) for refusal in found.refused]) == (
        0,
        ["trades 1 (T20260212100000): was imported before with other values; the first import holds"],
    )
    assert ledger.imported_trades()[0].sell_value_paise == 131_10 * 65


POINTS = 131.1 - 120.35
# qty as the file has it, its P&L, and the units that it must have been (None: refused).
UNITS_OR_LOTS = {
    "one lot in units": (65, POINTS * 65, 65),
    "three lots in units": (195, POINTS * 195, 195),
    "one lot kept as lots": (1, POINTS * 65, 65),
    "two lots kept as lots": (2, POINTS * 130, 130),
    "65 lots kept as lots": (65, POINTS * 65 * 65, 4_225),
    "lots, and the P&L as if they were units": (1, POINTS, None),
    "units that are no whole lots": (100, POINTS * 100, None),
    "a scaled-out rest with the P&L of all of it": (65, POINTS * 130, None),
    "a P&L of nothing": (65, 0.0, None),
    "a rupee off": (65, POINTS * 65 + 1, None),
    "a rounding off": (65, round(POINTS * 65, 1), 65),
}


@pytest.mark.parametrize(("quantity", "pnl", "units"), UNITS_OR_LOTS.values(), ids=UNITS_OR_LOTS)
def test_its_own_pnl_tells_units_from_lots(quantity, pnl, units, ledger, write):
    found = import_v2(ledger, write([TRADE | {"qty": quantity, "pnl": pnl}]))
    assert [trade.quantity for trade in ledger.imported_trades()] == ([] if units is None else [units])
    if units is None:
        assert "do not fit" in found.refused[0].reason


def test_a_draw_says_nothing_of_lots_so_whole_lots_are_units(ledger, write):
    flat = {"exit_price": 120.35, "pnl": 0.0}
    found = import_v2(ledger, write([TRADE | flat, TRADE | flat | {"trade_id": "T2", "qty": 1}]))
    assert [trade.quantity for trade in ledger.imported_trades()] == [65, 65]
    assert found.refused == ()


UNFIT = {
    "no id": ({"trade_id": None}, "has no trade_id"),
    "an endless id": ({"trade_id": "T" * 5_000}, "at most 100 printable characters"),
    "units without end": ({"qty": 2**62}, "qty: expected a whole number from 1 to 1,000,000"),
    "a price without end": ({"entry_price": 1e300}, "up to 1,000,000 rupees"),
    "of no calendar": ({"entry_time": "0001-01-01T00:00:00+14:00"}, "no day of any calendar"),
    "mode": ({"mode": "test"}, "mode: expected paper or live"),
    "made-up price": ({"ltp_source": "simulated"}, "made up from the index"),
    "index": ({"index_name": "MIDCPNIFTY"}, "index_name: expected one of NIFTY"),
    "option type": ({"option_type": "CALL"}, "option_type: expected CE or PE"),
    "strike": ({"strike": 25_815}, "strikes every 50 points"),
    "never closed": ({"exit_time": None, "exit_price": None, "pnl": None}, "was never closed"),
    "no zone": ({"entry_time": "2026-02-12T10:00:00"}, "has no time zone"),
    "no time": ({"entry_time": "yesterday"}, "expected a date and time"),
    "sold first": ({"exit_time": "2026-02-12T04:29:00+00:00"}, "sold before it was bought"),
    "overnight": ({"exit_time": "2026-02-13T04:29:00+00:00"}, "held overnight"),
    "holiday": (
        {"entry_time": "2026-01-15T04:30:00+00:00", "exit_time": "2026-01-15T04:40:00+00:00"},
        "2026-01-15 was no trading day",
    ),
    "before the open": ({"entry_time": "2026-02-12T03:40:00+00:00"}, "09:10:00 on 2026-02-12 was outside"),
    "expired": ({"expiry": "2026-02-10"}, "had expired on 2026-02-10"),
    "no expiry": ({"expiry": ""}, "expiry: expected a date"),
    "free": ({"entry_price": 0.0}, "entry_price: expected a price above 0"),
    "no number": ({"exit_price": "much"}, "exit_price: expected a number"),
    "infinite": ({"exit_price": math.inf}, "exit_price: expected a number"),
    "no quantity": ({"qty": 0}, "qty: expected a whole number from 1 to"),
    "a part": ({"qty": 32.5}, "qty: expected a whole number from 1 to"),
    "before all calendars": (
        {"entry_time": "2023-02-13T04:30:00+00:00", "exit_time": "2023-02-13T04:40:00+00:00"},
        "2023-02-13",
    ),
}


@pytest.mark.parametrize(("changes", "reason"), UNFIT.values(), ids=UNFIT)
def test_what_cannot_be_right_is_left_out_with_its_reason_and_the_rest_comes_in(changes, reason, ledger, write):
    found = import_v2(ledger, write([TRADE | {"trade_id": "bad"} | changes, TRADE]))
    assert [trade.trade_id for trade in ledger.imported_trades()] == [TRADE["trade_id"]]
    (refusal,) = found.refused
    assert (refusal.table, refusal.row) == ("trades", 1)
    assert reason in refusal.reason


UNFIT_CANDLES = {
    "length": ({"interval_seconds": None}, "nobody knows how long"),
    "prices": ({"close": 83_399.0}, "expected low <= close <= high"),
    "night": ({"timestamp": "2026-02-12T18:30:05+00:00"}, "outside trading hours"),
    "twice": ({"macd_value": 1.0}, "comes twice in the file"),
}


@pytest.mark.parametrize(("changes", "reason"), UNFIT_CANDLES.values(), ids=UNFIT_CANDLES)
def test_candles_are_judged_as_well(changes, reason, ledger, write):
    found = import_v2(ledger, write(candles=[CANDLE, CANDLE | changes]))
    assert len(ledger.imported_candles()) == 1
    (refusal,) = found.refused
    assert reason in refusal.reason


def test_a_file_of_before_the_index_column_is_nifty(ledger, tmp_path):
    path = tmp_path / "old.db"
    with closing(sqlite3.connect(path)) as file:
        names = [name for name in TRADE if name not in {"index_name", "ltp_source"}]
        file.execute(f"CREATE TABLE trades ({', '.join(names)})")
        file.execute(f"INSERT INTO trades VALUES ({', '.join('?' * len(names))})", [TRADE[name] for name in names])
        file.commit()
    assert import_v2(ledger, path).trades == 1
    assert ledger.imported_trades()[0].underlying == "NIFTY"


def test_the_file_is_not_written_to(ledger, write):
    path = write([TRADE], [CANDLE])
    before = path.read_bytes()
    path.chmod(0o400)
    import_v2(ledger, path)
    assert path.read_bytes() == before
    assert [found.name for found in path.parent.glob("trading.db*")] == ["trading.db"]


@pytest.mark.parametrize("content", [None, b"not a database, just text that is long enough", b""])
def test_another_file_is_refused_as_a_whole(content, ledger, tmp_path):
    path = tmp_path / "other.db"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(NotAnEarlierBot):
        import_v2(ledger, path)
