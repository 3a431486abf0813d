"""Going live by hand: show what would be traded with which limits, take a typed confirmation, switch the schedule on.

Both keys are needed: the arming in the ledger, which no click writes, and the schedule of the live deployment.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, time, timedelta
from getpass import getuser

import httpx
from prefect.client.orchestration import get_client
from prefect.exceptions import ObjectNotFound, PrefectException
from rich.console import Console
from rich.table import Table

from strategy.calendar import ist_ms, session_facts, trading_day
from strategy.instruments import Underlying
from strategy.params import Mode, Params
from tasks.arming import arm, disarm
from tasks.clock import real_now_ms, real_today
from tasks.connect import open_ledger
from tasks.pages.settings import setting_rows
from tasks.settings import Settings, SettingsRefused

SCHEDULED_AT = time(9, 0)


class ArmingRefused(Exception):
    """Nothing was armed; the message says why and what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveDeployment:
    """The live deployment of an index, as Prefect has it now."""

    name: str
    params: Params
    ask_before_open: bool


def arm_live(
    underlying: Underlying, since: date | None, days: int, *, confirm: str | None, ask: Callable[[str], str] = input
) -> int:
    """Arm `days` trading days from `since` on, if the operator types what he is asked for; return the exit code."""
    console = Console(highlight=False)
    settings = Settings()
    try:
        settings.check_mode(Mode.LIVE)
        live = read_live(underlying)
        wanted = trading_days(settings, since or real_today(), days)
    except (ArmingRefused, SettingsRefused) as refused:
        console.print(f"[red]{refused}[/red]")
        return 1
    word = f"{underlying} {wanted[0]}"
    console.print(f"\n[bold red]REAL MONEY[/bold red]  account {settings.client_id}, {live.name}")
    console.print(f"days: {', '.join(f'{day:%a %d %b %Y}' for day in wanted)}")
    console.print(render_live(live.params))
    answer = confirm if confirm is not None else ask(f'Type "{word}" to arm: ')
    if answer.strip() != word:
        console.print(f'Nothing was armed: "{word}" was expected, found "{answer.strip()}".')
        return 1
    with open_ledger(settings) as ledger:
        arm(ledger, settings.client_id, live.params, wanted, getuser())
    try:
        switch_schedule(live.name, active=True)
    except ArmingRefused as away:
        console.print(f"[red]Armed in the ledger, but it will not start by itself: {away}[/red]")
        return 1
    console.print(f"Armed. {live.name} starts at {SCHEDULED_AT:%H:%M} on these days; 'bot disarm' takes it back.")
    if live.ask_before_open:
        console.print("The run asks for your yes before the open; without it the day is traded on paper.")
    if wanted[0] == real_today() and real_now_ms() >= ist_ms(wanted[0], SCHEDULED_AT):
        console.print(f"Today's start has passed: start it now with 'bot session --deployment {live.name}'.")
    return 0


def disarm_live(underlying: Underlying) -> int:
    """Take every arming from today on back, and switch the schedule off; return the exit code."""
    console = Console(highlight=False)
    settings = Settings()
    with open_ledger(settings) as ledger:
        days = disarm(ledger, settings.client_id, underlying, real_today(), getuser())
        alive = [
            session_id
            for session_id in ledger.living_session_ids(real_now_ms())
            if (key := ledger.key_of(session_id)).underlying == underlying and key.mode == Mode.LIVE
        ]
    console.print(f"Disarmed: {', '.join(map(str, days))}." if days else f"{underlying} was not armed.")
    for session_id in alive:
        console.print(
            f"[red]{session_id} trades now and goes on[/red]; 'bot squareoff --index {underlying}' closes it."
        )
    try:
        switch_schedule(f"{underlying}-live".lower(), active=False)
    except ArmingRefused as away:
        console.print(f"{away} The ledger refuses live orders all the same.")
    return 0


def read_live(underlying: Underlying) -> LiveDeployment:
    """The live deployment with its settings as edited in the UI.

    Raises:
        ArmingRefused: Prefect cannot be asked, has no such deployment, or its settings contradict themselves.
    """
    name = f"{underlying}-live".lower()
    try:
        with get_client(sync_client=True) as client:
            found = client.read_deployment_by_name(f"daily-session/{name}").parameters
    except ObjectNotFound:
        raise ArmingRefused(
            f"The deployment {name} was expected on the Prefect server, not found: 'bot bootstrap'."
        ) from None
    except (PrefectException, httpx.HTTPError, RuntimeError) as away:
        raise ArmingRefused(f"Prefect must be up, its answer was: {away}. Start it and set PREFECT_API_URL.") from None
    try:
        params = Params.model_validate(found.get("params") or {})
    except ValueError as faulty:
        raise ArmingRefused(f"The settings of {name} cannot be traded: {faulty}") from None
    if (params.index, params.mode) != (underlying, Mode.LIVE):
        raise ArmingRefused(
            f"{name} must trade {underlying} live, found {params.index} {params.mode}: correct it in the UI."
        )
    return LiveDeployment(name=name, params=params, ask_before_open=bool(found.get("ask_before_open")))


def trading_days(settings: Settings, since: date, count: int) -> tuple[date, ...]:
    """The next `count` trading days from `since` on.

    Raises:
        ArmingRefused: `since` is past, is no trading day, or the calendar ends before.
    """
    if since < real_today():
        raise ArmingRefused(f"A day from today ({real_today()}) on was expected, found {since}.")
    facts = session_facts(settings.operator_facts)
    found: list[date] = []
    day = since
    while len(found) < count:
        if day > facts.through:
            raise ArmingRefused(
                f"Trading days are known through {facts.through}; {count} from {since} on were asked for."
            )
        if trading_day(day, facts) is not None:
            found.append(day)
        elif day == since:
            raise ArmingRefused(f"{since} is not a trading day; nothing was armed.")
        day += timedelta(days=1)
    return tuple(found)


def render_live(params: Params) -> Table:
    """Every setting; those that differ from the default say so."""
    table = Table("setting", "value", "unit", "", title="what would be traded")
    for row in setting_rows(params):
        table.add_row(*row, style="bold" if row[3] else "")
    return table


def switch_schedule(name: str, *, active: bool) -> None:
    """Switch the schedules of a session's deployment on or off.

    Raises:
        ArmingRefused: Prefect cannot be asked.
    """
    try:
        with get_client(sync_client=True) as client:
            deployment = client.read_deployment_by_name(f"daily-session/{name}")
            for schedule in deployment.schedules:
                client.update_deployment_schedule(deployment.id, schedule.id, active=active)
    except (PrefectException, httpx.HTTPError, RuntimeError) as away:
        state = "on" if active else "off"
        raise ArmingRefused(f"The schedule of {name} could not be switched {state}: {away}.") from None
