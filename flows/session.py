"""The daily session: preflight, trade, then the evening, whatever happened in between.

Invariants:
1. The day is decided once, here, and passed down.
2. A day without trading ends as `Skipped`, a scheduled run whose day has passed too; neither is a failure.
3. Who may trade is decided by the lease in the ledger: while another run trades, this one ends as `AlreadyTrading`
   and touches nothing. The states and the concurrency of Prefect's runs decide nothing (docs/decisions.md says why).
4. Live orders need an arming in the ledger (tasks/arming.py), and the operator's yes where the deployment asks for it.
5. The evening is started after every attempt to trade; where the Prefect API is away it runs right here.
"""

import math
from collections.abc import Callable, Iterable
from contextlib import closing, suppress
from datetime import date, time
from typing import Any, cast

import httpx
from prefect import Flow, flow, get_client, get_run_logger, pause_flow_run, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import FlowRun, State
from prefect.deployments import run_deployment
from prefect.exceptions import FlowPauseTimeout, PrefectException
from prefect.input import RunInput
from prefect.runtime import flow_run as this_run
from prefect.settings import PREFECT_UI_URL
from prefect.states import Cancelled, Completed, Failed, Running
from pydantic import Field

from flows.reconciliation import reconcile_or_tell
from strategy.actions import Severity
from strategy.calendar import OutsideKnownData, closed_because, ist_ms, session_facts
from strategy.params import Mode, Params, SignalPolicy
from tasks.arming import why_not_armed
from tasks.broker import BrokerUnavailable, RateLimited
from tasks.clock import IST, ist, real_now_ms, real_today
from tasks.connect import Connections, code_version, market_today, open_ledger, run_identity, send_alert
from tasks.ledger.lease import Lease, LeaseHeld
from tasks.ledger.records import SessionKey
from tasks.logs import keeping_log
from tasks.pages.artifacts import PrefectArtifacts, StoreUnavailable, artifact_key, artifact_page
from tasks.pages.settings import render_settings, settings_line
from tasks.preflight import CHECKS, NotReady, living_rival
from tasks.settings import Settings
from tasks.trading.session import TradingSummary, trade_session

EVENING_TIMEOUT_S = 300.0
EVENING_POLL_S = 0.5
# After a hurried end: analytics is given the time that reconciliation takes, whose verdict it shows.
HURRIED_EVENING_S = {"reconciliation": 0.0, "analytics": 60.0}
APPROVAL_UNTIL = time(9, 14)


def session_run_name() -> str:
    """What the operator reads in the list of runs: date, index and mode."""
    asked: dict[str, Any] = this_run.parameters
    params = Params.model_validate(asked.get("params") or {})
    scheduled = this_run.scheduled_start_time
    day = asked.get("day") or (scheduled.astimezone(IST).date() if scheduled else "")
    return f"{day} {params.index} {params.mode}"


def tell_failure(flow: Flow[..., Any], flow_run: FlowRun, state: State[Any]) -> None:
    """A run that failed or crashed tells the operator, with the reason."""
    # The worker that tells of a crash knows the run by the name it was given by chance; its parameters say whose it is.
    asked = flow_run.parameters.get("params")
    whose = f"{asked.get('index', '')} {asked.get('mode', '')}".strip() if isinstance(asked, dict) else flow_run.name
    send_alert("failure", f"{flow.name} {whose or flow_run.name}: {state.name}", str(state.message))


def look_after_cancelled(flow: Flow[..., Any], flow_run: FlowRun, state: State[Any]) -> None:  # noqa: ARG001 (Prefect's signature)
    """The guardian looks when a cancelled run is gone: the worker kills it after 30 s, whatever it still holds."""
    params = Params.model_validate(flow_run.parameters.get("params") or {})
    if params.on_signal is SignalPolicy.SQUAREOFF:
        run_deployment("guardian/guardian", timeout=0, as_subflow=False)


@flow(
    name="daily-session",
    flow_run_name=session_run_name,
    retries=0,
    on_failure=[tell_failure],
    on_crashed=[tell_failure],
    on_cancellation=[look_after_cancelled],
)
def daily_session(
    params: Params = Params(),  # noqa: B008 (a frozen value)
    day: date | None = None,
    ask_before_open: bool = False,  # noqa: FBT001, FBT002 (a field of the form)
) -> State[Any]:
    """Trade one day by the rules.

    Args:
        params: The rules' settings. Each shows its unit and bounds; 0 switches an optional limit off.
        day: The trading day. Leave it empty: the day the run was scheduled for, which must be today.
        ask_before_open: Live only. The run waits for your yes (Resume, with a form) until 09:14; without it the day
            is traded on paper.
    """
    # Before anything else is looked at: a run of another day does nothing, whatever this machine's settings say.
    rehearsing = params.mode is Mode.REHEARSAL
    today = market_today(params) if rehearsing else real_today()
    due = day or (today if rehearsing else _scheduled_day() or today)
    if due != today:
        return Completed(name="Skipped", message=f"This run is for {due}; today is {today}. Nothing was done.")
    if params.mode is Mode.LIVE:
        refused = live_refusal(params, due)
        if refused is not None:
            return refused
        if ask_before_open and not approved(params, due):
            params = Params.model_validate({**params.model_dump(), "mode": Mode.PAPER})
            rename_run(f"{due} {params.index} {params.mode} (live was not approved)")
    return trade_day(params, due)


def trade_day(params: Params, day: date) -> State[Any]:
    """Preflight, trade, evening; or the reason why not, as a state of its own name."""
    log = get_run_logger()
    try:
        connections = Connections(params, day, run_id=run_identity())
    except OutsideKnownData as unknown:
        return Failed(message=str(unknown))
    with (
        connections,
        keeping_log(connections.settings, job="session", run_id=connections.run_id, session=connections.key),
    ):
        if connections.trading_day is None:
            return Completed(name="Skipped", message=f"{day} is not a trading day: {connections.closed_because}.")
        rival = living_rival(connections)
        if rival is not None:
            return already_trading(connections, rival)
        log.info("session %s begins", connections.session_id)
        log.info(
            "position, P&L and stop button: this run's tab Artifacts, or %s%s",
            PREFECT_UI_URL.value() or "",
            artifact_page(connections.key, "position"),
        )
        keep_settings(connections)
        day_over, hurried = True, False
        try:
            preflight(connections)
            summary = trade_task(connections)
            day_over, hurried = summary.day_over, summary.hurried
        except (LeaseHeld, NotReady):
            # Two runs that waited for the same dead one: the lease was the other's.
            rival = living_rival(connections)
            if rival is None:
                raise
            day_over = False
            return already_trading(connections, rival)
        finally:
            if day_over:
                evening(connections.session_id, hurried=hurried)
    if hurried and being_cancelled():
        # Prefect takes no other end for a run that is being cancelled, and puts its own "Cancelled" on top: this state
        # stays in the run's history, and the run's name says the same.
        rename_run(f"{day} {params.index} {params.mode} (cancelled: {summary.state_name})")
        return Cancelled(name=summary.state_name, message=summary.message)
    return Completed(name=summary.state_name, message=summary.message)


def being_cancelled() -> bool:
    """True when somebody cancelled this run in the UI; False also where Prefect cannot be asked."""
    with suppress(PrefectException, httpx.HTTPError), get_client(sync_client=True) as client:
        state = client.read_flow_run(this_run.id).state
        return state is not None and state.is_cancelling()
    return False


def already_trading(connections: Connections, rival: Lease) -> State[Any]:
    """The end of a run that came second."""
    return Completed(
        name="AlreadyTrading",
        message=f"{connections.session_id} is traded by {rival.owner}. Nothing was done here.",
    )


def live_refusal(params: Params, day: date) -> State[Any] | None:
    """The state of a live run that may not trade `day`: it is closed, or was not armed. None when it may.

    Preflight asks again for the arming, so nothing here is the only lock.
    """
    settings = Settings()
    try:
        closed = closed_because(day, session_facts(settings.operator_facts))
    except OutsideKnownData as unknown:
        return Failed(message=str(unknown))
    if closed is not None:
        return Completed(name="Skipped", message=f"{day} is not a trading day: {closed}.")
    key = SessionKey(account=settings.client_id, underlying=params.index, mode=params.mode, day=day)
    with open_ledger(settings) as ledger:
        missing = why_not_armed(ledger, key, params)
    if missing is None:
        return None
    send_alert("not_armed", f"LIVE {params.index}: not armed, nothing is traded", missing, Severity.WARNING)
    return Completed(name="NotArmed", message=f"No real money moves: {missing}")


class Approval(RunInput):
    """What the operator answers before the open."""

    trade_live: bool = Field(
        default=False,
        title="Trade with real money today",
        description="On: live orders today. Off: the day is traded on paper.",
    )


def approved(params: Params, day: date, until: time = APPROVAL_UNTIL) -> bool:
    """Ask the operator in the UI, and wait for his answer until `until` (IST); silence and trouble mean no."""
    log = get_run_logger()
    until_ms = ist_ms(day, until)
    wait_s = (until_ms - real_now_ms()) / 1000
    if wait_s <= 0:
        log.warning("it is past %s: nobody is asked any more, the day is traded on paper", f"{until:%H:%M}")
        return False
    question = (
        f"**{params.index}, {day:%A %d %b}: trade with real money?** {settings_line(params)}. "
        f"Without an answer by {until:%H:%M} the day is traded on paper."
    )
    send_alert("approval", f"LIVE {params.index}: your yes is needed by {until:%H:%M}", question, Severity.WARNING)
    try:
        answer = pause_flow_run(
            wait_for_input=Approval.with_initial_data(description=question),
            # The server fails a run whose pause has run out; ours ends first.
            timeout=math.ceil(wait_s),
            poll_interval=min(3, math.ceil(wait_s)),
            key="approval",
        )
    except (FlowPauseTimeout, PrefectException, httpx.HTTPError) as silence:
        log.warning("no approval by %s (%s): the day is traded on paper", f"{until:%H:%M}", silence)
        _run_on()
        return False
    log.info("the operator said %s", "yes: real money" if answer.trade_live else "no: the day is traded on paper")
    return answer.trade_live


def _run_on() -> None:
    """Take the run out of its pause, before or after the server gave it up."""
    run_id = this_run.id
    with suppress(PrefectException, httpx.HTTPError), get_client(sync_client=True) as client:
        client.set_flow_run_state(run_id, Running(), force=True)


def rename_run(name: str) -> None:
    """The run's name in the UI; nothing depends on it."""
    with suppress(PrefectException, httpx.HTTPError), get_client(sync_client=True) as client:
        client.set_flow_run_name(this_run.id, name)


def keep_settings(connections: Connections) -> None:
    """What exactly is traded with, as an artifact of the run; the ledger keeps the same with the start."""
    artifacts = PrefectArtifacts()
    if artifacts.is_possible:
        with suppress(StoreUnavailable), closing(artifacts):
            key = artifact_key(connections.key, "settings")
            text = render_settings(
                connections.params, code_version=code_version(), facts_version=connections.facts_version
            )
            artifacts.put("markdown", key, text, f"{connections.session_id} · settings, code and market facts")


def preflight(connections: Connections) -> None:
    """Every check, each a task of its own; then one refusal that lists all that failed.

    Raises:
        NotReady: at least one check failed.
    """
    states = [
        task(
            name=f"preflight: {check.__name__.replace('_', ' ')}",
            cache_policy=NO_CACHE,
            # Sessions of one account that start in the same second share the broker's limits.
            retries=3,
            retry_delay_seconds=[1, 2, 4],
            retry_condition_fn=was_asked_too_often,
        )(check)(connections, return_state=True)
        for check in CHECKS
    ]
    failed = [(check.__name__, state) for check, state in zip(CHECKS, states, strict=True) if not state.is_completed()]
    if failed:
        raise NotReady(render_failures([(name, state.result(raise_on_failure=False)) for name, state in failed]))


def was_asked_too_often(_: object, __: object, state: State[Any]) -> bool:
    """Whether a task failed by the broker's rate limit alone."""
    fault = state.result(raise_on_failure=False)
    return isinstance(fault, RateLimited) or isinstance(getattr(fault, "__cause__", None), RateLimited)


def render_failures(failures: Iterable[tuple[str, object]]) -> str:
    """What stands between the operator and trading: each reason once, with the checks that met it."""
    by_reason: dict[str, list[str]] = {}
    for name, fault in failures:
        step = ". Does this machine reach the broker?" if isinstance(fault, BrokerUnavailable) else ""
        by_reason.setdefault(f"{fault}{step}", []).append(name.replace("_", " "))
    lines = [f"- {reason} (check: {', '.join(names)})" for reason, names in by_reason.items()]
    return "\n".join(["Not ready to trade:", *lines])


@task(name="trade", cache_policy=NO_CACHE, retries=0)
def trade_task(connections: Connections) -> TradingSummary:
    """The long-lived task: everything between the open and being flat."""
    return trade_session(connections)


@task(name="evening", cache_policy=NO_CACHE)
def evening(session_id: str, *, hurried: bool = False) -> None:
    """Start reconciliation, then analytics, as runs of their own; here and now if Prefect cannot be asked.

    In a hurry nothing is waited for, and the runs are nobody's children: those of a cancelled run are cancelled too.
    """
    from flows.analytics import analyse_day  # noqa: PLC0415 (charts: seconds of imports, and trading waits for none)

    log = get_run_logger()
    jobs: dict[str, Callable[[str], object]] = {"reconciliation": reconcile_or_tell, "analytics": analyse_day}
    prefect_is_away = False
    for name, directly in jobs.items():
        if not prefect_is_away:
            try:
                if hurried:
                    _run_later(f"{name}/{name}", session_id, after_s=HURRIED_EVENING_S[name])
                else:
                    log.info("%s: %s", name, _run_and_wait(f"{name}/{name}", session_id))
                continue
            except (httpx.HTTPError, PrefectException) as away:
                log.warning("Prefect cannot be asked (%s); the evening is done here", away)
                prefect_is_away = True
        directly(session_id)


def _run_and_wait(deployment: str, session_id: str) -> str:
    started = run_deployment(
        deployment, parameters={"session_id": session_id}, timeout=EVENING_TIMEOUT_S, poll_interval=EVENING_POLL_S
    )
    state = cast("FlowRun", started).state
    return state.name if state and state.name else "started"


def _run_later(deployment: str, session_id: str, *, after_s: float) -> None:
    scheduled = ist(real_now_ms() + round(after_s * 1000))
    run_deployment(
        deployment, parameters={"session_id": session_id}, scheduled_time=scheduled, timeout=0, as_subflow=False
    )


def _scheduled_day() -> date | None:
    scheduled = this_run.scheduled_start_time
    return scheduled.astimezone(IST).date() if scheduled else None
