"""The records of Trading Bot V2: its SQLite file read, judged row by row, and kept beside the ledger's own days.

What cannot be right is refused with its reason; nothing is repaired but one thing. The earlier bot kept `qty` in units
in some versions and in lots in others. Which it is follows from its own P&L, (exit - entry) x units: units when that
gives `pnl` and `qty` is whole lots, lots when `qty` x lot size gives it. Where neither gives it, the row is refused.

Invariants:
1. The file is opened for reading only.
2. Importing it again adds nothing; a row that has changed since is refused.
3. Imported rows are in tables of their own: no counter, no limit and no P&L of a session ever sees them.
"""

import math
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

from strategy.calendar import OutsideKnownData, SessionFacts, trading_day
from strategy.instruments import INDICES, ContractFacts, Underlying, contract_facts
from tasks.clock import IST, epoch_ms
from tasks.ledger.records import ImportedCandle, ImportedTrade
from tasks.ledger.rows import clean
from tasks.ledger.store import Ledger

SOURCE = "trading-bot-v2"
# Its P&L is a float of rupees; a paisa a unit is more than it can be off.
PNL_TOLERANCE_PER_UNIT = 0.01
# Far beyond any order, strike or index level, and far below what the ledger's whole numbers hold.
WHOLE_MAX, RUPEES_MAX = 1_000_000, 1_000_000
NAME_MAX = 100
Row = TypeVar("Row", ImportedTrade, ImportedCandle)
Found: TypeAlias = Mapping[str, Any]
Moment: TypeAlias = tuple[str, int, int]  # index, seconds, Unix milliseconds of the close


class NotAnEarlierBot(ValueError):
    """The file is not what it was said to be; nothing was imported."""


class Unfit(ValueError):
    """A row cannot be right; the message says why."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """A row that was left out."""

    table: str
    row: int  # the file's own number
    name: str
    reason: str

    def __str__(self) -> str:
        """One line."""
        return f"{self.table} {self.row}{f' ({self.name})' if self.name else ''}: {self.reason}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Imported:
    """What became of the file's rows."""

    trades: int  # new ones
    candles: int
    known: int  # rows that were imported before
    refused: tuple[Refusal, ...]


@dataclass(frozen=True, slots=True)
class Facts:
    """What rows are judged by."""

    sessions: SessionFacts | None = None
    contracts: ContractFacts | None = None


def import_v2(ledger: Ledger, path: Path, facts: Facts | None = None) -> Imported:
    """Read the file and keep what can be right. NotAnEarlierBot, LedgerUnavailable."""
    facts = facts or Facts()
    refused: list[Refusal] = []
    trades: dict[str, ImportedTrade] = {}
    candles: dict[Moment, ImportedCandle] = {}
    known_trades = {trade.trade_id: trade for trade in ledger.imported_trades() if trade.source == SOURCE}
    known_candles = {_moment(candle): candle for candle in ledger.imported_candles() if candle.source == SOURCE}
    known = 0
    for number, row in _rows(path, "trades"):
        name = _words(row, "trade_id")
        try:
            trade = _trade(row, facts)
            known += _is_known(trade, known_trades.get(name), trades.get(name))
            if name not in known_trades:
                trades[name] = trade
        except (Unfit, OutsideKnownData) as fault:
            refused.append(Refusal("trades", number, name, str(fault)))
    for number, row in _rows(path, "candle_data"):
        try:
            candle = _candle(row, facts)
            moment = _moment(candle)
            known += _is_known(candle, known_candles.get(moment), candles.get(moment))
            if moment not in known_candles:
                candles[moment] = candle
        except (Unfit, OutsideKnownData) as fault:
            refused.append(Refusal("candle_data", number, "", str(fault)))
    ledger.record_imported(trades.values(), candles.values())
    return Imported(trades=len(trades), candles=len(candles), known=known, refused=tuple(refused))


def _is_known(found: Row, recorded: Row | None, earlier: Row | None) -> bool:
    """Whether the ledger has the row. Unfit where the ledger or the file has another one under its name."""
    if recorded is not None and recorded != found:
        raise Unfit("was imported before with other values; the first import holds")
    if earlier is not None:
        raise Unfit("comes twice in the file; the first one counts")
    return recorded is not None


def _rows(path: Path, table: str) -> Iterator[tuple[int, Found]]:
    """(number, row) of a table of the file, which is not written to; nothing where the table is missing."""
    if not path.is_file():
        raise NotAnEarlierBot(f"expected the earlier bot's database, found no file at {path}")
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as file:
            file.row_factory = sqlite3.Row
            tables = {row[0] for row in file.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
            if not tables & {"trades", "candle_data"}:
                raise NotAnEarlierBot(f"expected the tables trades and candle_data in {path}, found {sorted(tables)}")
            if table in tables:
                for row in file.execute(f"SELECT rowid AS file_row, * FROM {table} ORDER BY rowid"):  # noqa: S608 (two names of this file)
                    yield int(row["file_row"]), dict(row)
    except sqlite3.DatabaseError as fault:
        raise NotAnEarlierBot(f"{path} cannot be read as the earlier bot's database: {fault}") from fault


# One row


def _trade(row: Found, facts: Facts) -> ImportedTrade:
    name = _words(row, "trade_id")
    if not name:
        raise Unfit("has no trade_id")
    if len(name) > NAME_MAX or not name.isprintable():
        raise Unfit(f"trade_id: expected at most {NAME_MAX} printable characters, found {name[:20]!r}")
    mode = str(row.get("mode") or "").lower()
    if mode not in {"paper", "live"}:
        raise Unfit(f"mode: expected paper or live, found {row.get('mode')!r}")
    if row.get("ltp_source") == "simulated":
        raise Unfit("its entry price was made up from the index (ltp_source simulated), nobody ever quoted it")
    underlying = _underlying(row)
    option_type = str(row.get("option_type") or "").upper()
    if option_type not in {"CE", "PE"}:
        raise Unfit(f"option_type: expected CE or PE, found {row.get('option_type')!r}")
    strike, step = _whole(row, "strike"), INDICES[underlying].strike_step_points
    if strike % step:
        raise Unfit(f"strike: {underlying} has strikes every {step} points, found {strike}")
    if row.get("exit_time") is None or row.get("exit_price") is None:
        raise Unfit("was never closed in the file, so its result is not known")
    entered, left = _moment_of(row, "entry_time"), _moment_of(row, "exit_time")
    if left < entered:
        raise Unfit(f"was sold before it was bought: in at {entered:%d %b %H:%M:%S}, out at {left:%d %b %H:%M:%S}")
    if left.date() != entered.date():
        raise Unfit(f"was held overnight, from {entered.date()} to {left.date()}, which an intraday bot does not")
    _demand_open(entered, facts)
    _demand_open(left, facts)
    expiry = _date(row, "expiry")
    if expiry < entered.date():
        raise Unfit(f"expiry: the contract had expired on {expiry}, before it was traded on {entered.date()}")
    entry, leaving = _price(row, "entry_price"), _price(row, "exit_price")
    lot_size = (facts.contracts or contract_facts()).lot_size(underlying, expiry)
    quantity, kept_lots = _units(row, lot_size, entry, leaving)
    return ImportedTrade(
        source=SOURCE,
        trade_id=name,
        underlying=str(underlying),
        mode=mode,
        day=entered.date(),
        option_type=option_type,
        strike_points=strike,
        expiry=expiry,
        lot_size=lot_size,
        quantity=quantity,
        entry_at_ms=epoch_ms(entered),
        exit_at_ms=epoch_ms(left),
        buy_value_paise=round(entry * quantity * 100),
        sell_value_paise=round(leaving * quantity * 100),
        exit_reason=_words(row, "exit_reason") or "unknown",
        detail={
            "quantity_was": "lots" if kept_lots else "units",
            "price_source": _words(row, "ltp_source") or "unknown",
            "strategy": _words(row, "strategy_id"),
        },
    )


def _units(row: Found, lot_size: int, entry: float, leaving: float) -> tuple[int, bool]:
    """(units, whether `qty` was lots). The earlier bot's own P&L tells which it was."""
    quantity = _whole(row, "qty")
    pnl = _finite(row, "pnl")
    for units, in_lots in ((quantity, False), (quantity * lot_size, True)):
        fits = abs((leaving - entry) * units - pnl) <= PNL_TOLERANCE_PER_UNIT * units
        if fits and units % lot_size == 0:
            return units, in_lots
    gross = (leaving - entry) * quantity
    raise Unfit(
        f"qty {quantity} and pnl {pnl:.2f} do not fit: ({leaving:.2f} - {entry:.2f}) gives {gross:.2f} in units"
        f" and {gross * lot_size:.2f} in lots of {lot_size}"
        + ("" if quantity % lot_size == 0 else f"; {quantity} units are no whole lots")
    )


def _candle(row: Found, facts: Facts) -> ImportedCandle:
    underlying = _underlying(row)
    if row.get("interval_seconds") is None:
        raise Unfit("interval_seconds is missing, so nobody knows how long the candle was")
    seconds = _whole(row, "interval_seconds")
    closed = _moment_of(row, "timestamp")
    _demand_open(closed, facts, grace_s=seconds)
    high, low, close = (_price(row, name) for name in ("high", "low", "close"))
    if not low <= close <= high:
        raise Unfit(f"expected low <= close <= high, found {low} <= {close} <= {high}")
    return ImportedCandle(
        source=SOURCE,
        underlying=str(underlying),
        seconds=seconds,
        closed_at_ms=epoch_ms(closed),
        high_paise=round(high * 100),
        low_paise=round(low * 100),
        close_paise=round(close * 100),
        supertrend=_number(row.get("supertrend_value")),
        macd=_number(row.get("macd_value")),
        signal=_words(row, "signal_status"),
    )


def _moment(candle: ImportedCandle) -> Moment:
    return candle.underlying, candle.seconds, candle.closed_at_ms


def _underlying(row: Found) -> Underlying:
    # Before the column existed the earlier bot traded NIFTY alone.
    name = str(row.get("index_name", "NIFTY") or "")
    if name not in set(Underlying):
        raise Unfit(f"index_name: expected one of {', '.join(Underlying)}, found {name!r}")
    return Underlying(name)


def _demand_open(moment: datetime, facts: Facts, *, grace_s: int = 0) -> None:
    day = trading_day(moment.date(), facts.sessions)
    if day is None:
        raise Unfit(f"{moment.date()} was no trading day")
    at_ms = epoch_ms(moment)
    if not any(window.open_ms <= at_ms <= window.close_ms + 1000 * grace_s for window in day.windows):
        raise Unfit(f"{moment:%H:%M:%S} on {moment.date()} was outside trading hours")


def _moment_of(row: Found, name: str) -> datetime:
    try:
        found = datetime.fromisoformat(str(row.get(name)))
    except ValueError:
        raise Unfit(f"{name}: expected a date and time, found {row.get(name)!r}") from None
    if found.tzinfo is None:
        raise Unfit(f"{name}: {row.get(name)!r} has no time zone, so the hour is not known")
    try:
        return found.astimezone(IST)
    except OverflowError:
        raise Unfit(f"{name}: {row.get(name)!r} is no day of any calendar in India") from None


def _date(row: Found, name: str) -> date:
    try:
        return date.fromisoformat(str(row.get(name))[:10])
    except ValueError:
        raise Unfit(f"{name}: expected a date, found {row.get(name)!r}") from None


def _words(row: Found, name: str) -> str:
    """Text as the ledger keeps it, so that it is known again."""
    return clean(str(row.get(name) or ""))


def _whole(row: Found, name: str) -> int:
    value = _number(row.get(name))
    if value is None or not 0 < value <= WHOLE_MAX or not value.is_integer():
        raise Unfit(f"{name}: expected a whole number from 1 to {WHOLE_MAX:,}, found {row.get(name)!r}")
    return int(value)


def _finite(row: Found, name: str) -> float:
    value = _number(row.get(name))
    if value is None:
        raise Unfit(f"{name}: expected a number, found {row.get(name)!r}")
    return value


def _price(row: Found, name: str) -> float:
    value = _finite(row, name)
    if not 0 < value <= RUPEES_MAX or round(value * 100) == 0:
        raise Unfit(f"{name}: expected a price above 0 and up to {RUPEES_MAX:,} rupees, found {value}")
    return value


def _number(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value)
