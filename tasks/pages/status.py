"""Where a session stands, read from the ledger alone: for the terminal and for programs.

It needs neither the session's process nor Prefect, so it tells of a dead session as well. Money in paise, times in
IST; `to_json` has the fields of the models below.

Invariants:
1. Nothing is written, and a session is not slowed: a few short reads each time.
2. A price is as old as its time says; the ledger gets ticks about once a second.
"""

from collections.abc import Callable, Iterable
from datetime import date, datetime
from typing import Any

from pydantic import BaseModel, ConfigDict
from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from strategy.calendar import session_facts, trading_day
from strategy.charges import order_charges, rates_on
from strategy.events import Side
from strategy.instruments import INDICES
from tasks.clock import ist
from tasks.ledger.records import CandleRecord, DecisionRecord, SessionKey, TradeRecord
from tasks.ledger.store import Ledger
from tasks.pages.money import average_paise, render_points, render_rupees
from tasks.pages.summary import TradeLine, trade_line
from tasks.pages.wording import refusal_words

SAID_LAST = 6
_ARROWS = {1: "▲ up", -1: "▼ down", 0: "not known yet"}
_TELLING = {"halted", "resumed", "limits_tightened", "alert", "stop_moved"}
_LAST_TICK = (
    "SELECT b.began_at, t.after_ms, t.price_paise FROM tick t JOIN tick_batch b ON b.batch = t.batch"
    " WHERE b.session_id = ? AND t.security = (SELECT number FROM security WHERE security = ?)"
    " ORDER BY t.batch DESC, t.number DESC LIMIT 1"
)


class _Value(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class HeldNow(_Value):
    """A position that the ledger has open. `unrealised_paise` is gross, None without a price."""

    trade: int
    contract: str
    quantity: int
    entry_paise: int
    last_paise: int | None
    last_at: datetime | None
    stop_paise: int | None
    unrealised_paise: int | None


class SessionStatus(_Value):
    """One session of one day."""

    session_id: str
    day: date
    index: str
    mode: str
    alive: bool  # its process holds the lease and keeps it alive
    owner: str | None
    starts: int
    code_version: str | None
    market_at: datetime | None  # the last price or candle of the index
    progress: float | None  # of the trading day, 0 to 1
    spot_paise: int | None
    supertrend_points: float | None
    direction: int  # +1 up, -1 down, 0 not known yet
    positions: tuple[HeldNow, ...]
    trades: tuple[TradeLine, ...]
    trades_max: int | None
    closed_gross_paise: int
    charges_paise: int  # of all executed orders so far, estimated until the evening has priced them
    day_net_paise: int  # closed trades and what is held, after charges
    loss_limit_paise: int | None
    no_entry: str | None  # why the last refused candle was no entry
    refusals: dict[str, int]
    halts: tuple[str, ...]  # said and not lifted
    said: tuple[str, ...]  # the last decisions without an order

    @property
    def is_abandoned(self) -> bool:
        """True when something is held and nobody looks after it."""
        return bool(self.positions) and not self.alive

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {**self.model_dump(mode="json"), "abandoned": self.is_abandoned}


def read_status(ledger: Ledger, session_id: str, now_ms: int, facts: str = "") -> SessionStatus:
    """Read the session's standing. `now_ms` is real time; `facts` the operator's own. LedgerUnavailable."""
    key = ledger.key_of(session_id)
    starts = ledger.starts(session_id)
    params = starts[-1].params if starts else {}
    lease = ledger.leases.holder(key, now_ms)
    alive = session_id in ledger.living_session_ids(now_ms)
    candle_seconds = params.get("candle_seconds")
    candles = ledger.candles(session_id, int(candle_seconds)) if candle_seconds else ()
    spot_at_ms, spot_paise = _spot(ledger, key, candles)
    trades = ledger.trades(session_id)
    decisions = ledger.decisions(session_id)
    positions = tuple(_held(ledger, trade, decisions, params) for trade in trades if trade.open_quantity)
    gross_paise = sum(trade.gross_paise for trade in trades if trade.exit_at_ms is not None)
    charges_paise = _charges(ledger, key)
    refused = [decision for decision in decisions if decision.kind == "entry_refused"]
    last = candles[-1] if candles else None
    return SessionStatus(
        session_id=session_id,
        day=key.day,
        index=key.underlying,
        mode=key.mode,
        alive=alive,
        owner=lease.owner if lease is not None else None,
        starts=len(starts),
        code_version=starts[-1].code_version if starts else None,
        market_at=ist(spot_at_ms) if spot_at_ms is not None else None,
        progress=_progress(key, spot_at_ms, facts),
        spot_paise=spot_paise,
        supertrend_points=last.supertrend if last else None,
        direction=last.direction if last else 0,
        positions=positions,
        trades=tuple(trade_line(trade) for trade in trades),
        trades_max=_limit(decisions, params, "max_trades_per_day", "max_trades_per_day", 1),
        closed_gross_paise=gross_paise,
        charges_paise=charges_paise,
        day_net_paise=gross_paise + sum(held.unrealised_paise or 0 for held in positions) - charges_paise,
        loss_limit_paise=_limit(decisions, params, "daily_max_loss_paise", "daily_max_loss", 100),
        no_entry=refused[-1].reason if refused else None,
        refusals=_counted(decision.reason for decision in refused),
        halts=_halts(decisions),
        said=tuple(_line(decision) for decision in decisions if decision.kind in _TELLING)[-SAID_LAST:],
    )


def render_status(status: SessionStatus) -> RenderableType:
    """The session as a panel for the terminal; the first line answers "what do I hold, what did I make"."""
    result = Text.assemble(
        (render_rupees(status.day_net_paise, signed=True), _colour(status.day_net_paise)),
        f" net so far   closed {render_rupees(status.closed_gross_paise, signed=True)} gross, "
        f"charges about {render_rupees(status.charges_paise)}",
    )
    lines: list[RenderableType] = [
        result,
        _held_table(status.index, status.positions) if status.positions else Text("Nothing is held."),
    ]
    if status.is_abandoned:
        lines.append(Text("HELD, AND NO SESSION LIVES: run 'bot squareoff', then look at the broker.", "bold red"))
    lines += [Text(f"halted: {halt.replace('_', ' ')}", "bold yellow") for halt in status.halts]
    if status.no_entry is not None and not status.positions:
        lines.append(Text(f"no entry on the last candle: {refusal_words(status.no_entry)}"))
    limit = render_rupees(status.loss_limit_paise) if status.loss_limit_paise else "off"
    lines.append(
        Text(
            f"index {_points(status.spot_paise)}   SuperTrend {_line_points(status)} {_ARROWS[status.direction]}   "
            f"trades {sum(1 for _ in status.trades)} of {status.trades_max or '–'}   daily loss limit {limit}"
        )
    )
    if status.trades:
        lines.append(_trades_table(status.index, status.trades))
    lines += [Text(said, "dim") for said in status.said]
    return Panel(
        Group(*lines), title=_title(status), title_align="left", subtitle=_day_bar(status), subtitle_align="left"
    )


def _title(status: SessionStatus) -> Text:
    standing = ("trading", "bold green") if status.alive else ("no process", "bold red" if status.positions else "dim")
    at = f" at {status.market_at:%H:%M:%S}" if status.market_at else ""
    mode = ("LIVE" if status.mode == "live" else status.mode, "bold red" if status.mode == "live" else "bold")
    return Text.assemble((status.index, "bold"), " · ", mode, f" · {status.day:%a %d %b %Y} · ", standing, at)


def _day_bar(status: SessionStatus) -> str:
    if status.progress is None:
        return ""
    filled = round(20 * status.progress)
    return f"{'━' * filled}{'─' * (20 - filled)} {100 * status.progress:.0f} % of the day"


def _short(contract: str, index: str) -> str:
    """A contract under a title that names the index: a row has to fit into 80 columns."""
    return contract.removeprefix(f"{index} ")


def _held_table(index: str, positions: Iterable[HeldNow]) -> Table:
    table = Table("held", "bought at", "last", "stop", "result so far", box=None, header_style="dim")
    for held in positions:
        unrealised = held.unrealised_paise
        table.add_row(
            f"{held.quantity} × {_short(held.contract, index)}",
            render_points(held.entry_paise),
            f"{_points(held.last_paise)} ({held.last_at:%H:%M:%S})" if held.last_at else "–",
            _points(held.stop_paise),
            Text("–") if unrealised is None else Text(render_rupees(unrealised, signed=True), _colour(unrealised)),
        )
    return table


def _trades_table(index: str, trades: Iterable[TradeLine]) -> Table:
    table = Table("#", "contract", "units", "in", "at", "out", "for", "gross", box=None, header_style="dim")
    for trade in trades:
        table.add_row(
            str(trade.trade),
            _short(trade.contract, index),
            str(trade.quantity),
            f"{trade.entered_at:%H:%M:%S}",
            render_points(trade.entry_paise),
            f"{trade.exited_at:%H:%M:%S}" if trade.exited_at else "open",
            _points(trade.exit_paise),
            Text(render_rupees(trade.gross_paise, signed=True), _colour(trade.gross_paise)) if trade.exited_at else "",
        )
    return table


def _held(ledger: Ledger, trade: TradeRecord, decisions: Iterable[DecisionRecord], params: Any) -> HeldNow:
    entry_paise = average_paise(trade.buy_value_paise, trade.quantity)
    moved = [said for said in decisions if said.kind == "stop_moved" and said.detail.get("trade") == trade.trade]
    first_stop_points = float(params.get("stop_loss_points") or 0)
    stop_paise = entry_paise - round(100 * first_stop_points) if first_stop_points else None
    last_at_ms, last_paise = _last_price(ledger, trade.session_id, trade.security)
    sold_paise = trade.sell_value_paise
    return HeldNow(
        trade=trade.trade,
        contract=trade.contract_name,
        quantity=trade.open_quantity,
        entry_paise=entry_paise,
        last_paise=last_paise,
        last_at=ist(last_at_ms) if last_at_ms is not None else None,
        stop_paise=int(moved[-1].detail["stop_paise"]) if moved else stop_paise,
        unrealised_paise=None
        if last_paise is None
        else sold_paise + last_paise * trade.open_quantity - trade.buy_value_paise,
    )


def _last_price(ledger: Ledger, session_id: str, security: str) -> tuple[int | None, int | None]:
    found = ledger.rows(_LAST_TICK, session_id, security)
    if not found:
        return None, None
    began_at, after_ms, price_paise = found[0]
    return ledger.wire.at_ms(began_at) + after_ms, price_paise


def _spot(ledger: Ledger, key: SessionKey, candles: tuple[CandleRecord, ...]) -> tuple[int | None, int | None]:
    at_ms, price_paise = _last_price(ledger, key.session_id, INDICES[key.underlying].security)
    if at_ms is None and candles:
        return candles[-1].start_ms, candles[-1].close_paise
    return at_ms, price_paise


def _charges(ledger: Ledger, key: SessionKey) -> int:
    """Of every executed order, as the evening will price it."""
    rates = rates_on(key.day, INDICES[key.underlying].exchange)
    values: dict[tuple[str, Side], int] = {}
    for client_order_id, _intent, side, fill in ledger.fills(key.session_id):
        values[client_order_id, side] = values.get((client_order_id, side), 0) + fill.value_paise
    return sum(order_charges(side, value_paise, rates).total_paise for (_, side), value_paise in values.items())


def _progress(key: SessionKey, at_ms: int | None, facts: str) -> float | None:
    day = trading_day(key.day, session_facts(facts))
    if day is None or at_ms is None:
        return None
    return min(1.0, max(0.0, (at_ms - day.open_ms) / (day.close_ms - day.open_ms)))


def _limit(decisions: Iterable[DecisionRecord], params: Any, said_as: str, setting: str, factor: int) -> int | None:
    """A limit of the day: as lowered last, else as set."""
    lowered = [said.detail.get(said_as) for said in decisions if said.kind == "limits_tightened"]
    if lowered and lowered[-1] is not None:
        return int(lowered[-1])
    return round(float(params[setting]) * factor) if params.get(setting) is not None else None


def _halts(decisions: Iterable[DecisionRecord]) -> tuple[str, ...]:
    standing: list[str] = []
    for said in decisions:
        if said.kind == "halted" and said.reason not in standing:
            standing.append(said.reason)
        elif said.kind == "resumed":
            standing = [halt for halt in standing if halt != "operator"]
    return tuple(standing)


def _counted(reasons: Iterable[str]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for reason in reasons:
        counts[reason] = counts.get(reason, 0) + 1
    return dict(sorted(counts.items(), key=lambda item: -item[1]))


def _line(said: DecisionRecord) -> str:
    detail = said.detail
    words: dict[str, Callable[[], str]] = {
        "alert": lambda: f"{detail.get('severity', '')}: {detail.get('message', said.reason)}",
        "stop_moved": lambda: f"stop of trade {detail.get('trade')} up to {_points(detail.get('stop_paise'))}",
        "halted": lambda: f"halted: {said.reason.replace('_', ' ')}",
        "resumed": lambda: "halt lifted",
        "limits_tightened": lambda: "limits lowered",
    }
    return f"{ist(said.at_ms):%H:%M:%S}  {words[said.kind]()}"


def _line_points(status: SessionStatus) -> str:
    line = status.supertrend_points
    return "–" if line is None else render_points(round(line * 100))


def _points(paise: int | None) -> str:
    return render_points(paise) if paise else "–"


def _colour(paise: int) -> str:
    return "bold green" if paise > 0 else "bold red" if paise < 0 else "bold"
