"""`bot`, the command line: a thin way to start flows and look at their results.

Nothing heavy is imported before a command needs it, so that `bot --help` answers at once.
"""

import os
import sys
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import App, Parameter

from flows.replay import register as register_replay
from flows.research import register as register_research
from flows.upkeep import register as register_upkeep

if TYPE_CHECKING:
    from strategy.instruments import Underlying
    from tasks.controls import Outcome

app = App(
    name="bot",
    help="Intraday index-options trading bot for DhanHQ. The operator's screen is the Prefect UI; these commands "
    "start the same flows and print the same answers.",
    help_format="rich",
)
ledger_app = App(name="ledger", help="Look after the ledger's database.")
app.command(ledger_app)
register_replay(app)
register_research(app)
register_upkeep(app)

IndexName = Literal["NIFTY", "BANKNIFTY", "FINNIFTY", "SENSEX"]
ModeName = Literal["rehearsal", "paper", "live"]
AnalysedMode = Literal["rehearsal", "paper", "live", "imported"]
PROJECT = Path(__file__).resolve().parent.parent


@app.command
def demo(
    *,
    index: IndexName = "NIFTY",
    seed: int = 7,
    day: date | None = None,
    recording: Path | None = None,
    speed: float = 0.0,
    keep: Annotated[bool, Parameter(negative="")] = False,
    port: int | None = None,
    json: Path | None = None,
    home: Path = PROJECT / ".bot",
    set: Annotated[list[str] | None, Parameter(negative="")] = None,  # noqa: A002 (the option's natural name)
) -> int:
    """Run one whole rehearsal day through Prefect, on a simulated market, and show what came of it.

    Args:
        index: the index to trade.
        seed: the simulated market; the same seed gives the same day to the paisa.
        day: the trading day to rehearse; 2026-11-20, or the recording's first day, if not given.
        recording: a file of recorded index prices to run on instead of the simulated path: one-minute bars
            (Instrument,Date,Time,Open,High,Low,Close) or five-second candles (close time, high, low, close).
        speed: 0 runs as fast as it can; 1 is real time, 60 a minute a second.
        keep: leave the Prefect server, its UI and the worker up; `bot down` ends them.
        port: the Prefect server's port on loopback; a free one if not given.
        json: write the day's summary for programs to this file.
        home: where databases, logs and reports go.
        set: a setting of the rules, `--set candle_seconds=15`; may be repeated.
    """
    from flows.demo import DemoOptions, run_demo

    return run_demo(
        DemoOptions(
            index=index,
            seed=seed,
            day=day,
            recording=recording.resolve() if recording else None,
            speed=speed,
            keep=keep,
            port=port,
            json_file=json,
            home=home.resolve(),
            settings=tuple(set or ()),
            project=PROJECT,
        )
    )


@app.command
def down(*, home: Path = PROJECT / ".bot") -> int:
    """End what `bot demo --keep` left running."""
    from deployments.local import down as end_stack

    ended = end_stack(home.resolve())
    print(f"Ended: {', '.join(ended)}." if ended else "Nothing was left running.")
    return 0


@app.command
def simulate(*options: Annotated[str, Parameter(allow_leading_hyphen=True)]) -> None:
    """Run the simulated market and broker by itself; `bot simulate --help` lists its options."""
    os.execv(sys.executable, [sys.executable, "-m", "simulator", *options])  # noqa: S606 (our own interpreter)


@app.command
def squareoff(
    *,
    index: IndexName | None = None,
    reason: str = "asked on the command line",
    force: Annotated[bool, Parameter(negative="")] = False,
) -> int:
    """Close what today's sessions hold, now; no new entries afterwards. Works without Prefect.

    Args:
        index: only this index; every session of today if not given.
        reason: kept in the ledger.
        force: take the lease from a session that lives and does not answer, and close without it.
    """
    from tasks.connect import open_ledger
    from tasks.controls import ANSWER_TIMEOUT_S, square_off
    from tasks.settings import Settings

    settings = Settings()
    with open_ledger(settings) as ledger:
        outcomes = square_off(
            settings,
            ledger,
            underlying=_underlying(index),
            reason=reason,
            requested_by="command line",
            force=force,
            timeout_s=10.0 if force else ANSWER_TIMEOUT_S,
        )
    return _say(outcomes)


@app.command
def halt(*, index: IndexName | None = None, reason: str = "asked on the command line") -> int:
    """No new entries in running sessions; exits go on. Works without Prefect, like the next three."""
    return _control("halt", index, reason)


@app.command
def resume(*, index: IndexName | None = None, reason: str = "asked on the command line") -> int:
    """Lift an operator's halt; halts of the rules stay for the day."""
    return _control("resume", index, reason)


@app.command
def stop(*, index: IndexName | None = None, reason: str = "asked on the command line") -> int:
    """Close what running sessions hold, and end them; the evening follows."""
    return _control("stop", index, reason)


@app.command
def tighten(
    *,
    loss: float | None = None,
    trades: int | None = None,
    index: IndexName | None = None,
    reason: str = "asked on the command line",
) -> int:
    """Lower limits of running sessions for the rest of the day.

    Args:
        loss: the new daily loss limit, rupees.
        trades: the new number of trades per day.
        index: only this index; every running session if not given.
        reason: kept in the ledger.
    """
    return _control("tighten", index, reason, loss=loss, trades=trades)


@app.command
def session(*, deployment: str = "rehearsal", day: date | None = None) -> int:
    """Start the daily session of a deployment now; a worker runs it.

    Args:
        deployment: its name in prefect.yaml.
        day: the trading day; today if not given.
    """
    return _start(f"daily-session/{deployment}", {"day": day.isoformat()} if day else {})


@app.command
def bootstrap(*, renew: Annotated[bool, Parameter(negative="")] = False, wait: float = 0) -> int:
    """Create what is missing on the Prefect server: work pool, deployments, automations. Again changes nothing.

    Args:
        renew: deploy everything anew from prefect.yaml; settings and schedules edited in the UI are lost.
        wait: seconds that the server may take until it answers.
    """
    from deployments.bootstrap import BootstrapFailed
    from deployments.bootstrap import bootstrap as create_all

    try:
        for done in create_all(PROJECT, renew=renew, wait_s=wait):
            print(done)
    except BootstrapFailed as failed:
        print(failed)
        return 1
    return 0


@app.command
def arm(*, index: IndexName, day: date | None = None, days: int = 1, confirm: str | None = None) -> int:
    """Allow real orders of an index: shows what would be traded, asks for a typed confirmation, starts its schedule.

    Args:
        index: the index of the live deployment, whose settings as edited in the Prefect UI are armed exactly.
        day: the first day; today if not given.
        days: so many trading days from then on.
        confirm: the confirmation for scripts, such as "NIFTY 2026-11-23"; typed at the prompt if not given.
    """
    from flows.arming import arm_live
    from strategy.instruments import Underlying

    return arm_live(Underlying(index), day, days, confirm=confirm)


@app.command
def disarm(*, index: IndexName) -> int:
    """Take back what was armed from today on and switch the live schedule off; a running session goes on."""
    from flows.arming import disarm_live
    from strategy.instruments import Underlying

    return disarm_live(Underlying(index))


@app.command
def status(
    *,
    day: date | None = None,
    index: IndexName | None = None,
    json: Annotated[bool, Parameter(negative="")] = False,
) -> int:
    """Say once where the sessions stand, from the ledger alone.

    Exit code 0: all well. 1: something is held and no session lives. 3: no session. 4: no ledger.

    Args:
        day: the sessions of that day; those that live, or the last day's, if not given.
        index: only this index.
        json: for programs.
    """
    from flows.watch import print_status

    return print_status(day, _underlying(index), as_json=json)


@app.command
def watch(*, day: date | None = None, index: IndexName | None = None) -> int:
    """Watch the sessions in the terminal until Ctrl-C, from the ledger alone.

    Args:
        day: the sessions of that day; those that live, or the last day's, if not given.
        index: only this index.
    """
    from flows.watch import watch_sessions

    return watch_sessions(day, _underlying(index))


@app.command
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


@app.command
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


@app.command(name="analytics")
def analytics_command(
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


@app.command(name="export")
def export_command(
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
    from tasks.evening.exports import ExportRefused, Format, export

    chosen = format or file.suffix.removeprefix(".")
    if chosen not in ("csv", "parquet", "json"):
        print(f"expected --format csv, parquet or json, or a file that ends so; found {file.name}")
        return 2
    wanted = TradeFilter(first=first, last=last, indices=frozenset(index or ()), modes=frozenset(mode or ()))
    try:
        with open_ledger() as ledger:
            count = export(ledger, what, file, wanted=wanted, file_format=cast("Format", chosen))
    except ExportRefused as refused:
        print(refused)
        return 1
    print(f"{count} {what} written to {file}")
    return 0


@app.command(name="import-v2")
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


@ledger_app.command(name="migrate")
def ledger_migrate() -> int:
    """Bring the ledger's database to the schema of this version."""
    from tasks.ledger.store import migrate
    from tasks.settings import Settings

    migrate(Settings().ledger_url)
    return 0


@ledger_app.command(name="check")
def ledger_check() -> int:
    """Verify every invariant of the ledger and say what is wrong."""
    from tasks.connect import open_ledger
    from tasks.ledger.check import check

    with open_ledger() as ledger:
        violations = check(ledger)
    for violation in violations:
        print(violation)
    print("the ledger is sound" if not violations else f"{len(violations)} violations")
    return 1 if violations else 0


def _underlying(index: IndexName | None) -> "Underlying | None":
    from strategy.instruments import Underlying

    return Underlying(index) if index else None


def _control(
    kind: str, index: IndexName | None, reason: str, *, loss: float | None = None, trades: int | None = None
) -> int:
    from strategy.events import CommandKind
    from tasks.connect import open_ledger
    from tasks.controls import NoSessionAlive, control_sessions, tightening

    with open_ledger() as ledger:
        try:
            outcomes = control_sessions(
                ledger,
                kind=CommandKind(kind),
                underlying=_underlying(index),
                reason=reason,
                requested_by="command line",
                detail=tightening(daily_max_loss=loss, max_trades_per_day=trades),
            )
        except NoSessionAlive as nobody:
            print(nobody)
            return 1
    return _say(outcomes)


def _say(outcomes: "tuple[Outcome, ...]") -> int:
    """Print what a control came to at each session; 0 when it is done everywhere."""
    for outcome in outcomes:
        print(outcome)
    if not outcomes:
        print("Today has no session in the ledger; nothing was done.")
    return 0 if all(outcome.done for outcome in outcomes) else 1


def _start(deployment: str, parameters: dict[str, str]) -> int:
    from typing import cast

    from prefect.client.schemas.objects import FlowRun
    from prefect.deployments import run_deployment

    run = cast("FlowRun", run_deployment(deployment, parameters=parameters, timeout=0))
    print(f"{run.name}: {run.state.name if run.state else 'created'} ({run.id})")
    return 0


def _finish(state: object) -> int:
    """Print a flow's end state; 0 when it completed."""
    from prefect.client.schemas.objects import State

    assert isinstance(state, State)
    print(f"{state.name}: {state.message or 'done'}")
    return 0 if state.is_completed() else 1


def main() -> None:
    """Entry point of `bot`."""
    result = app()
    sys.exit(result if isinstance(result, int) else 0)
