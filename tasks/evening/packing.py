"""A session's closed trades as one packed row: what analytics over many days reads.

Everything in it follows from the ledger; packing again gives the same bytes until a late fill, other charges or more
ticks change what follows. Excursions are those of the traded price between the first purchase and the last sale.
"""

from collections import Counter
from collections.abc import Iterable

import numpy as np

from strategy.closed_trades import EPOCH_ORDINAL, LAYOUT, OPTION_TYPES, RECORD
from strategy.events import Side
from strategy.metrics import UNKNOWN
from tasks.ledger.columns import DayColumns
from tasks.ledger.records import FillRecord, IntentRecord, TradeRecord
from tasks.ledger.store import Ledger


def pack_session(ledger: Ledger, session_id: str) -> DayColumns:
    """The session's closed trades in the order of their exits, and its refusals. LedgerUnavailable."""
    trades = [trade for trade in ledger.trades(session_id) if trade.exit_at_ms is not None]
    trades.sort(key=lambda trade: (trade.exit_at_ms, trade.trade))
    reasons = sorted({trade.exit_reason or "" for trade in trades})
    intents = {intent.intent: intent for intent in ledger.intents(session_id)}
    fills: dict[int, list[tuple[IntentRecord, FillRecord]]] = {}
    for _, number, _, fill in ledger.fills(session_id):
        fills.setdefault(intents[number].trade, []).append((intents[number], fill))
    ticks = {security: _ticks(ledger, session_id, security) for security in sorted({t.security for t in trades})}
    records = np.zeros(len(trades), dtype=RECORD)
    for place, trade in enumerate(trades):
        mae, mfe = _excursions(trade, *ticks[trade.security])
        done = fills[trade.trade]
        bought = [pair for pair in done if pair[0].side is Side.BUY]
        sold = [pair for pair in done if pair[0].side is Side.SELL]
        first_exit = min(i.decided_at_ms for i in intents.values() if i.trade == trade.trade and i.side is Side.SELL)
        values = {
            "entry_at_ms": trade.entry_at_ms,
            "exit_at_ms": trade.exit_at_ms,
            "buy_value_paise": trade.buy_value_paise,
            "sell_value_paise": trade.sell_value_paise,
            "charges_paise": trade.charges_paise,
            "mae_paise": mae,
            "mfe_paise": mfe,
            "entry_slippage_paise": _slippage_paise(bought),
            "exit_slippage_paise": _slippage_paise(sold),
            "entry_delay_ms": max(fill.at_ms for _, fill in bought) - bought[0][0].decided_at_ms,
            "exit_delay_ms": max(fill.at_ms for _, fill in sold) - first_exit,
            "trade": trade.trade,
            "quantity": trade.quantity,
            "lots": trade.quantity // bought[0][0].lot_size,
            "strike_points": trade.strike_points,
            "expiry": trade.expiry.toordinal() - EPOCH_ORDINAL,
            "reason": reasons.index(trade.exit_reason or ""),
            "put": OPTION_TYPES.index(trade.option_type),
        }
        for name, value in values.items():
            records[name][place] = value
    refused = Counter(record.reason for record in ledger.decisions(session_id, "entry_refused"))
    return DayColumns(session_id, "\n".join(reasons), dict(refused), records.tobytes())


def record_packed(ledger: Ledger, session_id: str) -> DayColumns:
    """Pack a session and keep it."""
    packed = pack_session(ledger, session_id)
    ledger.record_day_columns(packed, LAYOUT)
    return packed


def _ticks(ledger: Ledger, session_id: str, security: str) -> tuple[np.ndarray, np.ndarray]:
    at_ms, prices = ledger.tick_columns(session_id, security)
    return np.array(at_ms, dtype=np.int64), np.array(prices, dtype=np.int64)


def _excursions(trade: TradeRecord, at_ms: np.ndarray, prices: np.ndarray) -> tuple[int, int]:
    """(worst, best) open P&L in paise, the purchase itself included; UNKNOWN without a tick."""
    held = prices[(at_ms >= trade.entry_at_ms) & (at_ms <= (trade.exit_at_ms or trade.entry_at_ms))]
    if not len(held):
        return UNKNOWN, UNKNOWN
    worst, best = (int(price) * trade.quantity - trade.buy_value_paise for price in (held.min(), held.max()))
    return min(0, worst), max(0, best)


def _slippage_paise(fills: Iterable[tuple[IntentRecord, FillRecord]]) -> int:
    """What the fills cost more, or brought less, than the price that each was decided at."""
    total = 0
    for intent, fill in fills:
        if not intent.reference_paise:
            return UNKNOWN
        worse = fill.value_paise - intent.reference_paise * fill.quantity
        total += worse if intent.side is Side.BUY else -worse
    return total
