"""Any set of days, analysed: the ledger's packed trades under a filter, with the days and refusals that go with them.

    found = analyse_period(ledger, TradeFilter(first=…, last=…), capital_paise=1_00_000_00, now_ms=…)
    found.trades.win_rate, found.days.sharpe, found.groups["hour"]["09"].net_paise, found.equity.equity_paise

A session that was never packed is packed on the way, and kept so. One that trades, or was not compared with the broker
since it last started, may have gone on since it was packed: it is packed anew each time, and not kept. Trades of an
earlier bot are in only where the filter names the mode "imported".
"""

from collections import Counter
from dataclasses import dataclass
from datetime import date, timedelta

import numpy as np

from strategy.analysis import Analysis, analyse
from strategy.calendar import OutsideKnownData, SessionFacts, session_facts, trading_day
from strategy.charges import charge_facts, order_charges, rates_on
from strategy.closed_trades import (
    EPOCH_ORDINAL,
    LAYOUT,
    OPTION_TYPES,
    RECORD,
    ClosedTrades,
    SessionName,
    TradeFilter,
)
from strategy.events import Side
from strategy.instruments import INDICES, Underlying
from strategy.metrics import UNKNOWN
from tasks.clock import real_now_ms
from tasks.connect import open_ledger
from tasks.evening.packing import pack_session, record_packed
from tasks.ledger.columns import DayColumns
from tasks.ledger.records import ImportedTrade
from tasks.ledger.store import Ledger
from tasks.settings import Settings

IMPORTED = "imported"


@dataclass(frozen=True, slots=True)
class Period:
    """Everything that was read for a filter's dates: the closed trades, and why candles were no entries, by session."""

    trades: ClosedTrades
    refusals: tuple[dict[str, int], ...]


def analyse_period(
    ledger: Ledger,
    wanted: TradeFilter,
    *,
    capital_paise: int,
    now_ms: int,
    facts: SessionFacts | None = None,
    operator_facts: str = "",
) -> Analysis:
    """Read and measure what `wanted` leaves. `operator_facts` price imported trades. LedgerUnavailable."""
    period = read_period(ledger, wanted, now_ms=now_ms, operator_facts=operator_facts)
    sessions = period.trades.sessions
    refused: Counter[str] = Counter()
    for session, found in zip(sessions, period.refusals, strict=True):
        if wanted.admits(session):
            refused.update(found)
    days = days_of([session.day for session in sessions if wanted.admits(session)], facts)
    return analyse(period.trades, days, wanted=wanted, capital_paise=capital_paise, refusals=refused)


def analyse_days(wanted: TradeFilter, capital_paise: int) -> Analysis:
    """The figures of any set of days. Needs no Prefect."""
    settings = Settings()
    facts = settings.operator_facts
    with open_ledger(settings) as ledger:
        return analyse_period(
            ledger,
            wanted,
            capital_paise=capital_paise,
            now_ms=real_now_ms(),
            facts=session_facts(facts),
            operator_facts=facts,
        )


def read_period(ledger: Ledger, wanted: TradeFilter, *, now_ms: int, operator_facts: str = "") -> Period:
    """The closed trades of every session of the filter's dates. LedgerUnavailable."""
    packed = ledger.day_columns(wanted.first, wanted.last, LAYOUT)
    named = {session_id: session_name(session_id) for session_id in ledger.session_ids()}
    known = [session_id for session_id, name in named.items() if wanted_day(wanted, name.day)]
    going_on = {*ledger.living_session_ids(now_ms), *ledger.uncompared_session_ids()}
    for session_id in known:
        if session_id in going_on:
            packed[session_id] = pack_session(ledger, session_id)
        elif session_id not in packed:
            packed[session_id] = record_packed(ledger, session_id)
    days = [packed[session_id] for session_id in known]
    names = [named[session_id] for session_id in known]
    if IMPORTED in wanted.modes:
        for name, day in _imported_days(ledger.imported_trades(), operator_facts):
            if wanted_day(wanted, name.day):
                names.append(name)
                days.append(day)
    reasons = [tuple(day.reasons.split("\n")) if day.reasons else ("",) for day in days]
    return Period(
        ClosedTrades.joined(names, [day.records for day in days], reasons),
        tuple(dict(day.refusals) for day in days),
    )


def wanted_day(wanted: TradeFilter, day: date) -> bool:
    """Whether a day lies between the filter's dates."""
    return (wanted.first is None or day >= wanted.first) and (wanted.last is None or day <= wanted.last)


def session_name(session_id: str) -> SessionName:
    """What a session's id says of it: it begins with day, index and mode."""
    day, index, mode, _ = session_id.split("/", 3)
    return SessionName(date.fromisoformat(day), index, mode)


def days_of(traded: list[date], facts: SessionFacts | None = None) -> list[date]:
    """Every trading day from the first session to the last, ascending; days that no calendar knows only if traded."""
    if not traded:
        return []
    present = set(traded)
    first, last = min(traded), max(traded)
    found = []
    for number in range((last - first).days + 1):
        day = first + timedelta(days=number)
        if day in present or _is_trading_day(day, facts):
            found.append(day)
    return found


def _is_trading_day(day: date, facts: SessionFacts | None) -> bool:
    try:
        return trading_day(day, facts) is not None
    except OutsideKnownData:
        return False


def _imported_days(trades: tuple[ImportedTrade, ...], operator_facts: str) -> list[tuple[SessionName, DayColumns]]:
    """Trades of earlier bots by day and index, priced with the rates of their day as far as these are known."""
    by_day: dict[tuple[date, str], list[ImportedTrade]] = {}
    for trade in trades:
        by_day.setdefault((trade.day, trade.underlying), []).append(trade)
    return [
        (SessionName(day, index, IMPORTED), _packed_imports(day, index, found, operator_facts))
        for (day, index), found in sorted(by_day.items())
    ]


def _packed_imports(day: date, index: str, trades: list[ImportedTrade], operator_facts: str) -> DayColumns:
    rates = rates_on(day, INDICES[Underlying(index)].exchange, charge_facts(operator_facts))
    reasons = sorted({trade.exit_reason for trade in trades})
    records = np.zeros(len(trades), dtype=RECORD)
    for place, trade in enumerate(sorted(trades, key=lambda trade: (trade.exit_at_ms, trade.trade_id))):
        bought = order_charges(Side.BUY, trade.buy_value_paise, rates)
        sold = order_charges(Side.SELL, trade.sell_value_paise, rates)
        values = dict.fromkeys(
            (
                "mae_paise",
                "mfe_paise",
                "entry_slippage_paise",
                "exit_slippage_paise",
                "entry_delay_ms",
                "exit_delay_ms",
            ),
            UNKNOWN,
        ) | {
            "entry_at_ms": trade.entry_at_ms,
            "exit_at_ms": trade.exit_at_ms,
            "buy_value_paise": trade.buy_value_paise,
            "sell_value_paise": trade.sell_value_paise,
            "charges_paise": (bought + sold).total_paise,
            "trade": place + 1,
            "quantity": trade.quantity,
            "lots": trade.quantity // trade.lot_size,
            "strike_points": trade.strike_points,
            "expiry": trade.expiry.toordinal() - EPOCH_ORDINAL,
            "reason": reasons.index(trade.exit_reason),
            "put": OPTION_TYPES.index(trade.option_type),
        }
        for name, value in values.items():
            records[name][place] = value
    return DayColumns(f"{day}/{index}/{IMPORTED}/-", "\n".join(reasons), {}, records.tobytes())
