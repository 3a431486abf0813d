"""Trades, fills, candles and decisions of any days as a file: CSV, Parquet or JSON, for a spreadsheet or a notebook.

Invariants:
1. Every amount comes twice: in whole paise (exact) and in rupees; the unit stands in the column's name.
2. Times are India's, ISO 8601 with the offset.
3. Reading a file back gives the exported rows.
"""

import csv
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal, TypeAlias

from strategy.charges import COMPONENTS, Charges, split_over_fills
from strategy.closed_trades import SessionName, TradeFilter
from tasks.clock import ist
from tasks.evening.period import session_name
from tasks.ledger.records import ChargeRecord, ImportedTrade
from tasks.ledger.store import Ledger

What: TypeAlias = Literal["trades", "fills", "candles", "decisions"]
Format: TypeAlias = Literal["csv", "parquet", "json"]
Row: TypeAlias = dict[str, Any]


class ExportRefused(Exception):
    """Nothing was written; the message says why and what to do."""


def export(ledger: Ledger, what: What, path: Path, *, wanted: TradeFilter, file_format: Format) -> int:
    """Write the rows of the chosen sessions (dates, index, mode) to `path`; how many. LedgerUnavailable."""
    rows = _with_rupees(_ROWS[what](ledger, wanted))
    columns = ["session", *_with_rupee_columns(_COLUMNS[what])]
    written = path.with_name(f"{path.name}.part")
    try:
        count = _WRITERS[file_format](written, columns, rows)
        written.replace(path)
    finally:
        written.unlink(missing_ok=True)
    return count


def _sessions(ledger: Ledger, wanted: TradeFilter) -> Iterator[str]:
    for session_id in ledger.session_ids():
        if wanted.admits(session_name(session_id)):
            yield session_id


# Rows. An amount ends in `_paise`; a time is a datetime.

_COLUMNS: Mapping[What, Sequence[str]] = {
    "trades": (
        *("day", "index", "mode", "trade", "contract", "option_type", "strike_points", "expiry", "quantity_units"),
        *("open_quantity_units", "entered_at", "exited_at", "exit_reason", "buy_value_paise", "sell_value_paise"),
        *("gross_paise", "charges_paise", "net_paise", "entry_decided_at_paise", "exit_decided_at_paise"),
    ),
    "fills": (
        *("at", "client_order_id", "intent", "trade", "contract", "side", "quantity_units", "value_paise"),
        *COMPONENTS,
        "charges_paise",
    ),
    "candles": (
        *("start", "seconds", "open_paise", "high_paise", "low_paise", "close_paise", "ticks"),
        *("supertrend_points", "direction", "macd_points", "macd_signal_points"),
    ),
    "decisions": ("at", "kind", "reason", "detail"),
}


def _trade_rows(ledger: Ledger, wanted: TradeFilter) -> Iterator[Row]:
    for session_id in _sessions(ledger, wanted):
        for trade in ledger.trades(session_id):
            closed = trade.exit_at_ms is not None
            yield {
                "session": session_id,
                "day": trade.day,
                "index": trade.underlying,
                "mode": trade.mode,
                "trade": trade.trade,
                "contract": trade.contract_name,
                "option_type": trade.option_type,
                "strike_points": trade.strike_points,
                "expiry": trade.expiry,
                "quantity_units": trade.quantity,
                "open_quantity_units": trade.open_quantity,
                "entered_at": ist(trade.entry_at_ms),
                "exited_at": ist(trade.exit_at_ms) if trade.exit_at_ms is not None else None,
                "exit_reason": trade.exit_reason,
                "buy_value_paise": trade.buy_value_paise,
                "sell_value_paise": trade.sell_value_paise,
                "gross_paise": trade.gross_paise if closed else None,
                "charges_paise": trade.charges_paise,
                "net_paise": trade.net_paise if closed else None,
                "entry_decided_at_paise": trade.entry_reference_paise,
                "exit_decided_at_paise": trade.exit_reference_paise,
            }
    if "imported" in wanted.modes:
        for found in ledger.imported_trades():
            if wanted.admits(SessionName(found.day, found.underlying, "imported")):
                yield _imported_row(found)


def _imported_row(trade: ImportedTrade) -> Row:
    return {
        "session": f"{trade.source}/{trade.trade_id}",
        "day": trade.day,
        "index": trade.underlying,
        "mode": "imported",
        "trade": None,
        "contract": f"{trade.underlying} {trade.strike_points} {trade.option_type}",
        "option_type": trade.option_type,
        "strike_points": trade.strike_points,
        "expiry": trade.expiry,
        "quantity_units": trade.quantity,
        "open_quantity_units": 0,
        "entered_at": ist(trade.entry_at_ms),
        "exited_at": ist(trade.exit_at_ms),
        "exit_reason": trade.exit_reason,
        "buy_value_paise": trade.buy_value_paise,
        "sell_value_paise": trade.sell_value_paise,
        "gross_paise": trade.sell_value_paise - trade.buy_value_paise,
        "charges_paise": None,
        "net_paise": None,
        "entry_decided_at_paise": None,
        "exit_decided_at_paise": None,
    }


def _fill_rows(ledger: Ledger, wanted: TradeFilter) -> Iterator[Row]:
    for session_id in _sessions(ledger, wanted):
        intents = {intent.intent: intent for intent in ledger.intents(session_id)}
        fills = ledger.fills(session_id)
        values: dict[str, list[int]] = {}
        for client_order_id, _, _, fill in fills:
            values.setdefault(client_order_id, []).append(fill.value_paise)
        shares = {
            charge.client_order_id: iter(split_over_fills(_charges(charge), values[charge.client_order_id]))
            for charge in ledger.charges(session_id)
            if charge.client_order_id in values
        }
        for client_order_id, number, side, fill in fills:
            share = next(shares[client_order_id]) if client_order_id in shares else None
            yield {
                "session": session_id,
                "at": ist(fill.at_ms),
                "client_order_id": client_order_id,
                "intent": number,
                "trade": intents[number].trade,
                "contract": intents[number].contract_name,
                "side": str(side),
                "quantity_units": fill.quantity,
                "value_paise": fill.value_paise,
                **{name: None if share is None else getattr(share, name) for name in COMPONENTS},
                "charges_paise": None if share is None else share.total_paise,
            }


def _charges(record: ChargeRecord) -> Charges:
    return Charges(**{name: getattr(record, name) for name in COMPONENTS})


def _candle_rows(ledger: Ledger, wanted: TradeFilter) -> Iterator[Row]:
    for session_id in _sessions(ledger, wanted):
        lengths = ledger.rows("SELECT DISTINCT seconds FROM candle WHERE session_id = ? ORDER BY seconds", session_id)
        for (seconds,) in lengths:
            for candle in ledger.candles(session_id, seconds):
                yield {
                    "session": session_id,
                    "start": ist(candle.start_ms),
                    "seconds": candle.seconds,
                    "open_paise": candle.open_paise,
                    "high_paise": candle.high_paise,
                    "low_paise": candle.low_paise,
                    "close_paise": candle.close_paise,
                    "ticks": candle.ticks,
                    "supertrend_points": candle.supertrend,
                    "direction": candle.direction,
                    "macd_points": candle.macd,
                    "macd_signal_points": candle.macd_signal,
                }


def _decision_rows(ledger: Ledger, wanted: TradeFilter) -> Iterator[Row]:
    for session_id in _sessions(ledger, wanted):
        for decision in ledger.decisions(session_id):
            yield {
                "session": session_id,
                "at": ist(decision.at_ms),
                "kind": decision.kind,
                "reason": decision.reason,
                "detail": json.dumps(dict(decision.detail), sort_keys=True),
            }


_ROWS: Mapping[What, Callable[[Ledger, TradeFilter], Iterator[Row]]] = {
    "trades": _trade_rows,
    "fills": _fill_rows,
    "candles": _candle_rows,
    "decisions": _decision_rows,
}


def _with_rupee_columns(columns: Iterable[str]) -> Iterator[str]:
    for name in columns:
        yield name
        if name.endswith("_paise"):
            yield name.replace("_paise", "_rupees")


def _with_rupees(rows: Iterable[Row]) -> Iterator[Row]:
    for row in rows:
        amounts = {name: value for name, value in row.items() if name.endswith("_paise")}
        yield row | {
            name.replace("_paise", "_rupees"): None if value is None else Decimal(value) / 100
            for name, value in amounts.items()
        }


# Files


def _write_csv(path: Path, columns: Sequence[str], rows: Iterable[Row]) -> int:
    count = 0
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        for row in rows:
            writer.writerow([_text(row[name]) for name in columns])
            count += 1
    return count


def _write_json(path: Path, columns: Sequence[str], rows: Iterable[Row]) -> int:
    """A list of objects, one per line."""
    count = 0
    with path.open("w", encoding="utf-8") as file:
        file.write("[")
        for row in rows:
            file.write(("," if count else "") + "\n")
            file.write(json.dumps({name: _plain(row[name]) for name in columns}, ensure_ascii=False))
            count += 1
        file.write("\n]\n")
    return count


def _write_parquet(path: Path, columns: Sequence[str], rows: Iterable[Row]) -> int:
    try:
        import pyarrow as pa  # noqa: PLC0415  an extra that most installations do not have
        from pyarrow import parquet  # noqa: PLC0415
    except ImportError as missing:
        raise ExportRefused(
            "Parquet needs the package pyarrow, which is not installed: install the bot with its extra,"
            " uv pip install -e '.[sweep]', or export csv or json"
        ) from missing
    listed = [{name: _plain(row[name]) for name in columns} for row in rows]
    schema = pa.schema([(name, _arrow_type(pa, name)) for name in columns])
    parquet.write_table(pa.Table.from_pylist(listed, schema=schema), path)
    return len(listed)


def _arrow_type(pa: Any, name: str) -> Any:
    if name.endswith(("_paise", "_units")) or name in {"trade", "intent", "seconds", "ticks", "direction"}:
        return pa.int64()
    if name == "strike_points":
        return pa.int64()
    return pa.float64() if name.endswith(("_points", "_rupees")) else pa.string()


_WRITERS: Mapping[Format, Callable[[Path, Sequence[str], Iterable[Row]], int]] = {
    "csv": _write_csv,
    "json": _write_json,
    "parquet": _write_parquet,
}


def _text(value: Any) -> str:
    match value:
        case None:
            return ""
        case Decimal():
            return f"{value:.2f}"
        case datetime():
            return value.isoformat(timespec="milliseconds")
        case _:
            return str(value)


def _plain(value: Any) -> Any:
    match value:
        case Decimal():
            return float(value)
        case datetime() | date():
            return value.isoformat(timespec="milliseconds") if isinstance(value, datetime) else value.isoformat()
        case _:
            return value
