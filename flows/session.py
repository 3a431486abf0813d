"""The daily session: preflight, trade, then the evening, whatever happened in between.

Invariants:
1. The day is decided once, here, and passed down.
2. A day without trading ends as `Skipped`, a scheduled run whose day has passed too; neither is a failure.
3. The evening is started after every attempt to trade; where the Prefect API is away it runs right here.
"""

from collections.abc import Callable
from datetime import date
from typing import Any, cast

import httpx
from prefect import Flow, flow, get_run_logger, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import FlowRun, State
from prefect.deployments import run_deployment
from prefect.exceptions import PrefectException
from prefect.runtime import flow_run as this_run
from prefect.states import Completed, Failed

from flows.analytics import analyse_day
from flows.reconciliation import reconcile_day
from strategy.calendar import OutsideKnownData
from strategy.params import Params
from tasks.clock import IST
from tasks.connect import Connections, market_today, run_identity, send_alert
from tasks.preflight import CHECKS, NotReady
from tasks.trading.session import TradingSummary, trade_session

EVENING_TIMEOUT_S = 300.0


def session_run_name() -> str:
    """What the operator reads in the list of runs: date, index and mode."""
    asked: dict[str, Any] = this_run.parameters
    params = Params.model_validate(asked.get("params") or {})
    scheduled = this_run.scheduled_start_time
    day = asked.get("day") or (scheduled.astimezone(IST).date() if scheduled else "")
    return f"{day} {params.index} {params.mode}"


def tell_failure(flow: Flow[..., Any], flow_run: FlowRun, state: State[Any]) -> None:
    """A run that failed or crashed tells the operator, with the reason."""
    send_alert("failure", f"{flow.name} {flow_run.name}: {state.name}", str(state.message))


@flow(
    name="daily-session",
    flow_run_name=session_run_name,
    retries=0,
    on_failure=[tell_failure],
    on_crashed=[tell_failure],
)
def daily_session(params: Params = Params(), day: date | None = None) -> State[Any]:  # noqa: B008 (a frozen value)
    """Trade one day by the rules.

    Args:
        params: the rules' settings; the form shows each with its unit and bounds.
        day: the trading day; empty means the day the run was scheduled for, which must be today.
    """
    log = get_run_logger()
    today = market_today(params)
    due = day or (today if params.mode == "rehearsal" else _scheduled_day() or today)
    if due != today:
        return Completed(name="Skipped", message=f"This run is for {due}; today is {today}. Nothing was done.")
    try:
        connections = Connections(params, due, run_id=run_identity())
    except OutsideKnownData as unknown:
        return Failed(message=str(unknown))
    with connections:
        if connections.trading_day is None:
            return Completed(name="Skipped", message=f"{due} is not a trading day: {connections.closed_because}.")
        log.info("session %s begins", connections.session_id)
        try:
            preflight(connections)
            summary = trade_task(connections)
        finally:
            evening(connections.session_id)
    return Completed(name=summary.state_name, message=summary.message)


def preflight(connections: Connections) -> None:
    """Every check, each a task of its own; then one refusal that lists all that failed.

    Raises:
        NotReady: at least one check failed.
    """
    states = [
        task(name=f"preflight: {check.__name__.replace('_', ' ')}", cache_policy=NO_CACHE)(check)(
            connections, return_state=True
        )
        for check in CHECKS
    ]
    failures = [str(state.message) for state in states if not state.is_completed()]
    if failures:
        raise NotReady("Not ready to trade:\n" + "\n".join(f"- {failure}" for failure in failures))


@task(name="trade", cache_policy=NO_CACHE, retries=0)
def trade_task(connections: Connections) -> TradingSummary:
    """The long-lived task: everything between the open and being flat."""
    return trade_session(connections)


@task(name="evening", cache_policy=NO_CACHE)
def evening(session_id: str) -> None:
    """Start reconciliation, then analytics, as runs of their own; here and now if Prefect cannot be asked."""
    log = get_run_logger()
    jobs: dict[str, Callable[[str], object]] = {"reconciliation": reconcile_day, "analytics": analyse_day}
    prefect_is_away = False
    for name, directly in jobs.items():
        if not prefect_is_away:
            try:
                log.info("%s: %s", name, _run_and_wait(f"{name}/{name}", session_id))
                continue
            except (httpx.HTTPError, PrefectException) as away:
                log.warning("Prefect cannot be asked (%s); the evening is done here", away)
                prefect_is_away = True
        directly(session_id)


def _run_and_wait(deployment: str, session_id: str) -> str:
    started = run_deployment(
        deployment, parameters={"session_id": session_id}, timeout=EVENING_TIMEOUT_S, poll_interval=1
    )
    state = cast("FlowRun", started).state
    return state.name if state and state.name else "started"


def _scheduled_day() -> date | None:
    scheduled = this_run.scheduled_start_time
    return scheduled.astimezone(IST).date() if scheduled else None
