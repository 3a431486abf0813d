"""Commands for the evening and after: compare, price, analyse, export, and take over what an earlier bot recorded."""

from datetime import date
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import App, Parameter

from flows.cli.options import IndexName, ModeName

AnalysedMode = Literal["rehearsal", "paper", "live", "imported"]


def register(app: App) -> None:
    """Add the commands to `bot`."""
    for command in (reconcile, analyse, analytics, export):
        app.command(command)
    app.command(import_earlier, name="import-v2")


def reconcile(
    session_id: str | None = None,
    *,
    day: date | None = None,
    index: IndexName | None = None,
    mode: ModeName | None = None,
) -> int:
    """Compare the broker with the ledger once more, for any session.

    Args:
        session_id: the session, such as 2026-11-20/NIFTY/live/1000000009; or say which by day, index and mode.
        day: its trading day.
        index: its index; not needed where the day has one session.
        mode: its mode; not needed where the day has one.
    """
    from flows.reconciliation import reconciliation
    from strategy.instruments import Underlying
    from strategy.params import Mode

    return _finish(
        reconciliation(
            session_id=session_id,
            day=day,
            index=Underlying(index) if index else None,
            mode=Mode(mode) if mode else None,
            return_state=True,
        )
    )


def analyse(
    session_id: str | None = None,
    *,
    day: date | None = None,
    index: IndexName | None = None,
    mode: ModeName | None = None,
) -> int:
    """Price a session's orders and write its report once more.

    Args:
        session_id: the session, such as 2026-11-20/NIFTY/live/1000000009; or say which by day, index and mode.
        day: its trading day.
        index: its index; not needed where the day has one session.
        mode: its mode; not needed where the day has one.
    """
    from flows.analytics import analytics

    if session_id is None and day is None:
        print("Say which session: its id, or --day (and --index, --mode).")
        return 2
    return _finish(analytics(session_id=session_id, day=day, index=index, mode=mode, return_state=True))


def analytics(
    *,
    first: Annotated[date | None, Parameter(name="--from")] = None,
    last: Annotated[date | None, Parameter(name="--to")] = None,
    index: Annotated[list[IndexName] | None, Parameter(negative="")] = None,
    mode: Annotated[list[AnalysedMode] | None, Parameter(negative="")] = None,
    direction: Literal["CE", "PE"] | None = None,
    exit_reason: Annotated[list[str] | None, Parameter(negative="")] = None,
    weekday: Annotated[list[int] | None, Parameter(negative="")] = None,
    hour: Annotated[list[int] | None, Parameter(negative="")] = None,
    expiry_day: bool | None = None,
    capital: int = 100_000,
    json: Annotated[bool, Parameter(negative="")] = False,
    page: Annotated[bool, Parameter(negative="")] = False,
) -> int:
    """Show how any set of days went: every figure, broken down, net of charges.

    Args:
        first: the first day; the beginning if not given.
        last: the last day; now if not given.
        index: only this index; may be repeated, as the other filters.
        mode: only this mode; "imported" for the trades of an earlier bot, which are left out otherwise.
        direction: only calls (CE) or puts (PE).
        exit_reason: only trades closed for this reason, such as stop_loss.
        weekday: only this weekday, 1 for Monday to 7 for Sunday.
        hour: only trades entered in this hour of the day, such as 9.
        expiry_day: only trades on the day their contract expires; --no-expiry-day for the others.
        capital: rupees that returns and percentages refer to.
        json: print plain JSON instead; money in paise, what is undefined null.
        page: write the same as one page for any browser, with every trade and its reasons, and say where it is.
    """
    from json import dumps

    from rich.console import Console

    from strategy.closed_trades import TradeFilter
    from tasks.evening.period import analyse_days
    from tasks.evening.tables import as_json, render_analysis

    wanted = TradeFilter(
        first=first,
        last=last,
        indices=frozenset(index or ()),
        modes=frozenset(mode or ()),
        directions=frozenset([direction] if direction else ()),
        reasons=frozenset(exit_reason or ()),
        weekdays=frozenset(number - 1 for number in weekday or ()),
        hours=frozenset(hour or ()),
        expiry_day=expiry_day,
    )
    if page:
        from flows.analytics import report_period

        print(report_period(wanted, 100 * capital)[1])
        return 0
    found = analyse_days(wanted, 100 * capital)
    if json:
        print(dumps(as_json(found), allow_nan=False))
    else:
        Console().print(render_analysis(found))
    return 0


def export(
    what: Literal["trades", "fills", "candles", "decisions"],
    file: Path,
    *,
    first: Annotated[date | None, Parameter(name="--from")] = None,
    last: Annotated[date | None, Parameter(name="--to")] = None,
    index: Annotated[list[IndexName] | None, Parameter(negative="")] = None,
    mode: Annotated[list[AnalysedMode] | None, Parameter(negative="")] = None,
    format: Literal["csv", "parquet", "json"] | None = None,  # noqa: A002 (the option's natural name)
) -> int:
    """Write trades, fills, candles or decisions of any days to a file, amounts in paise and in rupees, times in IST.

    Args:
        what: what to write.
        file: where to; its ending says the format if --format does not.
        first: the first day; the beginning if not given.
        last: the last day; now if not given.
        index: only this index; may be repeated.
        mode: only this mode; may be repeated; "imported" for the trades of an earlier bot.
        format: csv, parquet or json.
    """
    from typing import cast

    from strategy.closed_trades import TradeFilter
    from tasks.connect import open_ledger
    from tasks.evening.exports import ExportRefused, Format
    from tasks.evening.exports import export as write

    chosen = format or file.suffix.removeprefix(".")
    if chosen not in ("csv", "parquet", "json"):
        print(f"expected --format csv, parquet or json, or a file that ends so; found {file.name}")
        return 2
    wanted = TradeFilter(first=first, last=last, indices=frozenset(index or ()), modes=frozenset(mode or ()))
    try:
        with open_ledger() as ledger:
            count = write(ledger, what, file, wanted=wanted, file_format=cast("Format", chosen))
    except ExportRefused as refused:
        print(refused)
        return 1
    print(f"{count} {what} written to {file}")
    return 0


def import_earlier(file: Path) -> int:
    """Take over the trades and candles of Trading Bot V2 from its SQLite file; what cannot be right is listed.

    They show where the mode "imported" is asked for (`bot analytics --mode imported`), and count in nothing else.

    Args:
        file: the earlier bot's database; it is only read.
    """
    from strategy.calendar import session_facts
    from strategy.instruments import contract_facts
    from tasks.connect import open_ledger
    from tasks.evening.earlier_bot import Facts, NotAnEarlierBot, import_v2
    from tasks.settings import Settings

    settings = Settings()
    facts = Facts(session_facts(settings.operator_facts), contract_facts(settings.operator_facts))
    try:
        with open_ledger(settings) as ledger:
            found = import_v2(ledger, file, facts)
    except NotAnEarlierBot as refused:
        print(refused)
        return 1
    for refusal in found.refused:
        print(f"left out: {refusal}")
    print(
        f"{found.trades} trades and {found.candles} candles imported, {found.known} were here already, "
        f"{len(found.refused)} left out"
    )
    return 0


def _finish(state: object) -> int:
    """Print a flow's end state; 0 when it completed."""
    from prefect.client.schemas.objects import State

    assert isinstance(state, State)
    print(f"{state.name}: {state.message or 'done'}")
    return 0 if state.is_completed() else 1
