"""`bot replay`: a recorded session told to the rules again, as it was or with other settings."""

from collections.abc import Sequence
from datetime import date
from typing import TYPE_CHECKING, Annotated

from cyclopts import App, Parameter

from flows.cli.options import IndexName, ModeName, settings_of, underlying_of

if TYPE_CHECKING:
    from rich.console import RenderableType

    from tasks.evening.what_if import WhatIf
    from tasks.pages.summary import DaySummary


def register(app: App) -> None:
    """Add the command to `bot`."""
    app.command(replay)


def replay(
    *,
    day: date | None = None,
    index: IndexName | None = None,
    mode: ModeName | None = None,
    session: str | None = None,
    set: Annotated[list[str] | None, Parameter(negative="")] = None,  # noqa: A002 (the option's natural name)
) -> int:
    """Tell a recorded day to the rules again: do they decide the same? With --set: and under other settings?

    Args:
        day: the session's trading day.
        index: its index; not needed where the day has one session.
        mode: its mode; not needed where the day has one.
        session: or the session's id, such as 2026-11-20/NIFTY/live/1000000009.
        set: a setting of the rules, `--set candle_seconds=15`; may be repeated. Shown beside what happened.
    """
    from rich.console import Console

    from strategy.calendar import session_facts
    from strategy.params import Mode, Params
    from tasks.connect import open_ledger
    from tasks.evening.replay import DIFFERENT, SAME, prove, recordings
    from tasks.evening.sessions import which_session
    from tasks.evening.what_if import what_if
    from tasks.pages.summary import DaySummary
    from tasks.settings import Settings

    settings = Settings()
    with open_ledger(settings) as ledger:
        try:
            chosen = which_session(
                ledger,
                session_id=session,
                day=day,
                index=underlying_of(index),
                mode=Mode(mode) if mode else None,
            )
            verdict = prove(ledger, chosen)
            print(f"{chosen}: {verdict}")
            if set:
                recorded = recordings(ledger, chosen)
                given = dict(ledger.starts(chosen)[-1].params) | settings_of(set)
                other = what_if(recorded, Params.model_validate(given), session_facts(settings.operator_facts))
                Console().print(side_by_side(DaySummary.build(ledger, chosen), other, set))
        except (LookupError, ValueError) as error:
            print(error)
            return 2
    return {SAME: 0, DIFFERENT: 1}.get(verdict.state, 0 if set else 1)


def side_by_side(summary: "DaySummary", other: "WhatIf", changed: list[str]) -> "RenderableType":
    """What happened and what would have, and what had to be assumed."""
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    from tasks.clock import ist
    from tasks.evening.what_if import ASSUMED
    from tasks.pages.money import average_paise, render_points, render_rupees
    from tasks.pages.wording import exit_words

    def table(title: str, rows: Sequence[tuple[str, ...]], net_paise: int) -> Table:
        net = render_rupees(net_paise, signed=True)
        made = Table(title=f"{title}: {net} net", title_justify="left", box=None, pad_edge=False, show_edge=False)
        for name in ("#", "contract", "in", "out", "why out"):
            made.add_column(name)
        for name in ("bought", "sold", "net"):
            made.add_column(name, justify="right")
        for row in rows:
            made.add_row(*row)
        if not rows:
            made.add_row("", "no trades")
        return made

    real = [
        (
            str(line.trade),
            line.contract.removeprefix(f"{summary.index} "),
            f"{line.entered_at:%H:%M:%S}",
            f"{line.exited_at:%H:%M:%S}" if line.exited_at else "OPEN",
            exit_words(line.exit_reason),
            render_points(line.entry_paise),
            render_points(line.exit_paise) if line.exit_paise is not None else "",
            render_rupees(line.net_paise, signed=True),
        )
        for line in summary.trades
    ]
    imagined = [
        (
            str(trade.trade),
            trade.contract.name.removeprefix(f"{summary.index} "),
            f"{ist(trade.entry_at_ms):%H:%M:%S}",
            f"{ist(trade.exit_at_ms):%H:%M:%S}",
            exit_words(trade.exit_reason),
            render_points(average_paise(trade.buy_value_paise, trade.quantity)),
            render_points(average_paise(trade.sell_value_paise, trade.quantity)),
            render_rupees(trade.net_paise, signed=True),
        )
        for trade in other.trades
    ]
    return Group(
        table("What happened", real, summary.net_paise),
        Text(),
        table(f"With {', '.join(changed)}", imagined, other.net_paise),
        Text(),
        Text("Assumed: " + "; ".join((*ASSUMED, *other.notes)) + ".", style="dim"),
    )
