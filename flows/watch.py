"""`bot status` and `bot watch`: the sessions of a day in the terminal, from the ledger alone."""

import json
from collections.abc import Iterable
from datetime import date

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.text import Text

from strategy.instruments import Underlying
from tasks.clock import pause, real_now_ms
from tasks.connect import open_ledger
from tasks.ledger import LedgerUnavailable
from tasks.ledger.store import Ledger
from tasks.pages.status import SessionStatus, read_status, render_status
from tasks.settings import Settings

REFRESH_S = 2.0
# Exit codes of `bot status`.
ALL_WELL, ABANDONED, NO_SESSION, NO_LEDGER = 0, 1, 3, 4


def print_status(day: date | None, underlying: Underlying | None, *, as_json: bool) -> int:
    """Show each session once; return 0 when all is well, 1 when something is held and nobody looks after it,
    3 without a session, 4 without a ledger.
    """  # noqa: D205 (the exit codes belong to the first sentence)
    console = Console(highlight=False)
    try:
        statuses = read_sessions(day, underlying)
    except LedgerUnavailable as away:
        Console(stderr=True).print(f"[red]{away}[/red]")
        return NO_LEDGER
    if as_json:
        console.print_json(json.dumps([status.to_json() for status in statuses]))
    else:
        console.print(_page(statuses))
    if not statuses:
        return NO_SESSION
    return ABANDONED if any(status.is_abandoned for status in statuses) else ALL_WELL


def watch_sessions(day: date | None, underlying: Underlying | None) -> int:
    """Show the sessions until Ctrl-C; a ledger that is away for a while is said so and asked again."""
    console = Console(highlight=False)
    with Live(console=console, auto_refresh=False) as live:
        try:
            while True:
                try:
                    shown: RenderableType = _page(read_sessions(day, underlying))
                except LedgerUnavailable as away:
                    shown = Text(str(away), "red")
                live.update(shown, refresh=True)
                pause(REFRESH_S)
        except KeyboardInterrupt:
            return 0


def read_sessions(day: date | None, underlying: Underlying | None) -> tuple[SessionStatus, ...]:
    """The sessions of `day`; without a day those that live, or else those of the last day there is."""
    settings = Settings()
    with open_ledger(settings) as ledger:
        now_ms = real_now_ms()
        return tuple(
            read_status(ledger, session_id, now_ms, settings.operator_facts)
            for session_id in _session_ids(ledger, day, underlying, now_ms)
        )


def _session_ids(ledger: Ledger, day: date | None, underlying: Underlying | None, now_ms: int) -> Iterable[str]:
    known = ledger.session_ids(day=day, underlying=underlying)
    if day is not None or not known:
        return known
    alive = set(ledger.living_session_ids(now_ms))
    last_day = ledger.key_of(known[-1]).day
    return [each for each in known if each in alive or ledger.key_of(each).day == last_day]


def _page(statuses: Iterable[SessionStatus]) -> RenderableType:
    panels = [render_status(status) for status in statuses]
    return Group(*panels) if panels else Text("No session yet: nothing has traded in this ledger on that day.")
