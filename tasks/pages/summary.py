"""A session's day as one value: what was traded, what it brought, and whether all ended as it should.

Built from the ledger alone, so it is the same whenever it is built. `to_json` is for programs and its keys
are documented in the models below: money is integer paise (`_paise`), times are ISO 8601 in IST, quantities
units. `render_table` is for people.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from datetime import date, datetime
from pathlib import Path
from typing import Any, Literal, Protocol, Self

from pydantic import BaseModel, ConfigDict, Field
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from strategy.events import Side
from tasks.clock import ist
from tasks.ledger.records import (
    CandleRecord,
    ChargeRecord,
    DecisionRecord,
    FillRecord,
    ReconciliationRecord,
    SessionKey,
    SessionStart,
    TradeRecord,
)
from tasks.pages.money import average_paise, render_points, render_rupees
from tasks.pages.wording import describe_entry, describe_exit, exit_words, refusal_words

RECONCILED = "clean"


class DayLedger(Protocol):
    """What of the ledger a day's summary reads."""

    @property
    def place(self) -> str:
        """Where the ledger is, without secrets."""
        ...

    def key_of(self, session_id: str) -> SessionKey:
        """Who and what the session is."""
        ...

    def trades(self, session_id: str) -> tuple[TradeRecord, ...]:
        """Its round trips."""
        ...

    def fills(self, session_id: str) -> tuple[tuple[str, int, Side, FillRecord], ...]:
        """Its executions: (client order id, intent, side, fill)."""
        ...

    def charges(self, session_id: str) -> tuple[ChargeRecord, ...]:
        """Its priced orders."""
        ...

    def decisions(self, session_id: str, kind: str | None = None) -> tuple[DecisionRecord, ...]:
        """Its decisions without an order."""
        ...

    def reconciliations(self, session_id: str) -> tuple[ReconciliationRecord, ...]:
        """Its comparisons with the broker."""
        ...

    def starts(self, session_id: str) -> tuple[SessionStart, ...]:
        """The starts of its process."""
        ...

    def candles(self, session_id: str, seconds: int) -> tuple[CandleRecord, ...]:
        """Its index candles."""
        ...


class _Value(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class TradeLine(_Value):
    """One round trip."""

    trade: int
    contract: str
    trading_symbol: str
    security: str
    option_type: str
    quantity: int
    open_quantity: int
    entered_at: datetime
    exited_at: datetime | None
    entry_paise: int  # average price per unit, to the nearest paisa; the values below are exact
    exit_paise: int | None
    buy_value_paise: int
    sell_value_paise: int
    gross_paise: int  # 0 while open
    charges_paise: int
    net_paise: int  # 0 while open
    exit_reason: str | None
    why_entry: str
    why_exit: str

    @property
    def is_open(self) -> bool:
        """True while something of it is held."""
        return self.exited_at is None


class OpenPosition(_Value):
    """What the ledger says is still held."""

    contract: str
    quantity: int
    entry_paise: int


class Reconciliation(_Value):
    """The last comparison with the broker."""

    state: str
    at: datetime
    differences: tuple[str, ...]


class FlowRun(_Value):
    """A Prefect run of the day and how it ended."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    flow: str
    name: str = ""
    id: str = ""
    state: str
    state_type: str = ""
    message: str = ""


class DaySummary(_Value):
    """The day of one index in one account and mode."""

    schema_version: Literal[1] = 1
    session_id: str
    day: date
    index: str
    mode: str
    starts: int  # more than one: the process came back after a crash
    trades: tuple[TradeLine, ...]
    trade_count: int  # closed ones
    wins: int  # by net P&L, as losses and draws
    losses: int
    draws: int
    gross_paise: int  # of closed trades
    charges_paise: int  # of all trades
    net_paise: int  # gross - charges
    charges_known: bool  # every executed order is priced
    open_positions: tuple[OpenPosition, ...]
    reconciliation: Reconciliation | None
    refusals: dict[str, int] = Field(description="why candles were no entries, most frequent first")
    halts: tuple[str, ...]
    flow_runs: tuple[FlowRun, ...]
    report: str | None  # path of the HTML report
    ledger: str

    @classmethod
    def build(
        cls,
        ledger: DayLedger,
        session_id: str,
        *,
        flow_runs: Iterable[Mapping[str, Any]] = (),
        report: Path | None = None,
    ) -> Self:
        """Read the session's day. `flow_runs` have at least "flow" and "state". LedgerUnavailable."""
        key = ledger.key_of(session_id)
        trades = tuple(trade_line(record) for record in ledger.trades(session_id))
        closed = [trade for trade in trades if not trade.is_open]
        gross_paise = sum(trade.gross_paise for trade in closed)
        charges_paise = sum(trade.charges_paise for trade in trades)
        executed = {client_order_id for client_order_id, *_ in ledger.fills(session_id)}
        priced = {charge.client_order_id for charge in ledger.charges(session_id)}
        refused = Counter(record.reason for record in ledger.decisions(session_id, "entry_refused"))
        halts = ledger.decisions(session_id, "halted")
        starts = ledger.starts(session_id)
        # A comparison from before the last start knows a part of the day.
        compared = [
            record
            for record in ledger.reconciliations(session_id)
            if not starts or record.at_ms >= starts[-1].started_at_ms
        ]
        return cls(
            session_id=session_id,
            day=key.day,
            index=key.underlying,
            mode=key.mode,
            starts=len(starts),
            trades=trades,
            trade_count=len(closed),
            wins=sum(trade.net_paise > 0 for trade in closed),
            losses=sum(trade.net_paise < 0 for trade in closed),
            draws=sum(trade.net_paise == 0 for trade in closed),
            gross_paise=gross_paise,
            charges_paise=charges_paise,
            net_paise=gross_paise - charges_paise,
            charges_known=executed <= priced,
            open_positions=tuple(
                OpenPosition(contract=trade.contract, quantity=trade.open_quantity, entry_paise=trade.entry_paise)
                for trade in trades
                if trade.open_quantity
            ),
            reconciliation=_reconciliation(compared[-1]) if compared else None,
            refusals=dict(refused.most_common()),
            halts=tuple(f"{ist(record.at_ms):%H:%M:%S} {record.reason}" for record in halts),
            flow_runs=tuple(FlowRun.model_validate(dict(run)) for run in flow_runs),
            report=str(report) if report is not None else None,
            ledger=ledger.place,
        )

    @property
    def is_reconciled(self) -> bool:
        """True when the broker was asked and agrees."""
        return self.reconciliation is not None and self.reconciliation.state == RECONCILED

    @property
    def is_sound(self) -> bool:
        """True when nothing is held, the broker agrees, all orders are priced and all runs completed."""
        runs_completed = all(run.state_type in {"COMPLETED", ""} for run in self.flow_runs)
        return not self.open_positions and self.is_reconciled and self.charges_known and runs_completed

    @property
    def faults(self) -> tuple[str, ...]:
        """What is not as it should be, for people; empty when `is_sound`."""
        found = [f"still open: {p.quantity} × {p.contract}" for p in self.open_positions]
        if self.reconciliation is None:
            found.append("not compared with the broker yet")
        elif not self.is_reconciled:
            found.append(f"reconciliation: {self.reconciliation.state}")
            found.extend(self.reconciliation.differences)
        if not self.charges_known:
            found.append("charges are not known for every order yet")
        found.extend(
            f"run {run.flow} ended as {run.state}" for run in self.flow_runs if run.state_type not in {"COMPLETED", ""}
        )
        return tuple(found)

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values; the fields of this model, and `sound`."""
        return {**self.model_dump(mode="json"), "sound": self.is_sound}


def report_path(home: Path, session_id: str) -> Path:
    """Where a session's report is written."""
    return home / "reports" / f"{session_id.replace('/', '_')}.html"


def trade_line(record: TradeRecord) -> TradeLine:
    """A trade of the ledger as the summary shows it."""
    closed = record.exit_at_ms is not None
    sold = record.quantity - record.open_quantity
    return TradeLine(
        trade=record.trade,
        contract=record.contract_name,
        trading_symbol=record.trading_symbol,
        security=record.security,
        option_type=record.option_type,
        quantity=record.quantity,
        open_quantity=record.open_quantity,
        entered_at=ist(record.entry_at_ms),
        exited_at=ist(record.exit_at_ms) if record.exit_at_ms is not None else None,
        entry_paise=average_paise(record.buy_value_paise, record.quantity),
        exit_paise=average_paise(record.sell_value_paise, sold) if sold else None,
        buy_value_paise=record.buy_value_paise,
        sell_value_paise=record.sell_value_paise,
        gross_paise=record.gross_paise if closed else 0,
        charges_paise=record.charges_paise,
        net_paise=record.net_paise if closed else 0,
        exit_reason=record.exit_reason,
        why_entry=describe_entry(record.why_entry),
        why_exit=describe_exit(record.exit_reason, record.why_exit),
    )


def _reconciliation(record: ReconciliationRecord) -> Reconciliation:
    return Reconciliation(
        state=record.state,
        at=ist(record.at_ms),
        differences=tuple(
            f"{found.kind} {found.subject}: ledger {found.expected}, broker {found.found}"
            for found in record.differences
        ),
    )


def render_table(summary: DaySummary) -> RenderableType:
    """The day on a terminal, for `rich.console.Console.print`."""
    parts: list[RenderableType] = [_headline(summary)]
    if summary.trades:
        parts.append(_trade_table(summary))
    if summary.refusals:
        parts.append(_refusal_line(summary.refusals))
    parts.append(_ending(summary))
    return Group(*parts)


def result_line(summary: DaySummary) -> str:
    """The day's trades in a few words, e.g. "3 trades: 2 won, 1 lost"."""
    if not summary.trade_count:
        return "no trades"
    counts = [f"{summary.wins} won", f"{summary.losses} lost"]
    if summary.draws:
        counts.append(f"{summary.draws} even")
    noun = "trade" if summary.trade_count == 1 else "trades"
    return f"{summary.trade_count} {noun}: {', '.join(counts)}"


def _headline(summary: DaySummary) -> Text:
    text = Text()
    text.append(f"{summary.index} · {summary.mode} · {summary.day:%A %d %b %Y}\n", style="bold")
    text.append(f"{render_rupees(summary.net_paise, signed=True)} net", style=f"bold {_colour(summary.net_paise)}")
    text.append(f"   gross {render_rupees(summary.gross_paise, signed=True)}")
    charges = render_rupees(summary.charges_paise) if summary.charges_known else "not known yet"
    text.append(f"   charges {charges}   {result_line(summary)}")
    return text


def _trade_table(summary: DaySummary) -> Table:
    """Fits 80 columns: the index stands in the headline, and money is in rupees."""
    table = Table(box=None, header_style="dim", pad_edge=False, padding=(0, 1, 0, 0))
    for name in ("#", "contract", "in", "out", "why out"):
        table.add_column(name, no_wrap=name != "why out")
    for name in ("units", "bought", "sold", "gross", "costs", "net"):
        table.add_column(name, justify="right", no_wrap=True)
    for trade in summary.trades:
        table.add_row(
            str(trade.trade),
            trade.contract.removeprefix(f"{summary.index} "),
            f"{trade.entered_at:%H:%M:%S}",
            f"{trade.exited_at:%H:%M:%S}" if trade.exited_at else Text("OPEN", style="bold red"),
            exit_words(trade.exit_reason),
            str(trade.quantity),
            render_points(trade.entry_paise),
            render_points(trade.exit_paise) if trade.exit_paise is not None else "",
            render_rupees(trade.gross_paise, signed=True, symbol=""),
            render_rupees(trade.charges_paise, symbol=""),
            Text(render_rupees(trade.net_paise, signed=True, symbol=""), style=_colour(trade.net_paise)),
        )
    return table


def _refusal_line(refusals: Mapping[str, int]) -> Text:
    listed = ", ".join(f"{refusal_words(reason)} {count}" for reason, count in refusals.items())
    return Text(f"why no entry (signals): {listed}", style="dim")


def _ending(summary: DaySummary) -> Text:
    text = Text(no_wrap=True, overflow="ignore")  # a path that is broken into lines cannot be opened
    if summary.is_sound:
        text.append("flat, reconciled with the broker, every order priced\n", style="green")
    for fault in summary.faults:
        text.append(f"! {fault}\n", style="bold red")
    if summary.starts > 1:
        text.append(f"the process started {summary.starts} times\n", style="yellow")
    for halt in summary.halts:
        text.append(f"halted {halt.replace('_', ' ')}\n", style="yellow")
    if summary.flow_runs:
        text.append("runs: " + ", ".join(f"{run.flow} {run.state}" for run in summary.flow_runs) + "\n", style="dim")
    if summary.report is not None:
        text.append(f"report {summary.report}\n", style="dim")
    text.append(f"ledger {summary.ledger}", style="dim")
    return text


def _colour(paise: int) -> str:
    return "green" if paise > 0 else "red" if paise < 0 else "default"
