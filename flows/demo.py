"""The rehearsal by one command: bring the stack up, run a day through Prefect, show it, take the stack down.

It drives the same deployments that the operator uses, by Prefect's HTTP API, and reads the ledger for what it shows.
"""

import contextlib
import csv
import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any
from uuid import uuid4

import requests
import yaml
from requests.adapters import HTTPAdapter
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from urllib3.util import Retry

from deployments.local import BARE_SERVER, LocalStack, StackError, interruptible
from strategy.calendar import OutsideKnownData, closed_because, session_facts
from strategy.instruments import Underlying
from strategy.params import Params
from tasks.clock import Deadline, ist, pause, read_market_clock, real_now_ms
from tasks.ledger import LedgerUnavailable
from tasks.ledger.records import SessionKey
from tasks.ledger.store import Ledger, migrate
from tasks.pages.money import render_rupees
from tasks.pages.summary import DaySummary, render_table, report_path
from tasks.settings import REHEARSAL_ACCESS_TOKEN, REHEARSAL_CLIENT_ID, Settings

REHEARSAL_DAY = date(2026, 11, 20)
WHOLE_RUN_TIMEOUT_S = 900.0
PLAIN_WIDTH = 110  # where the output goes to a file or a log
# What a rehearsal can use; the rest of prefect.yaml needs an account, or a server that stays. None of them starts by
# itself: a stack that is kept up over night does nothing in the morning.
REHEARSAL_JOBS = ("rehearsal", "squareoff", "halt", "resume", "stop", "tighten", "reconciliation", "analytics")
SESSION_JOB = "daily-session/rehearsal"
BUSY = (429, 502, 503, 504)
FINAL_STATES = {"COMPLETED", "FAILED", "CRASHED", "CANCELLED"}


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoOptions:
    """What `bot demo` was asked for."""

    index: str
    seed: int
    day: date | None
    recording: Path | None
    speed: float
    keep: bool
    port: int | None
    json_file: Path | None
    home: Path
    settings: tuple[str, ...]
    project: Path


@dataclass(slots=True)
class Shown:
    """What of the ledger has been printed already."""

    intents: set[int] = field(default_factory=set)
    fills: set[tuple[str, int]] = field(default_factory=set)
    decisions: int = 0


class DemoFailed(Exception):
    """The rehearsal did not reach its end; the message says why and what to do."""


def run_demo(options: DemoOptions) -> int:
    """Run the rehearsal; return the exit code."""
    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=PLAIN_WIDTH)
    try:
        with interruptible():
            return _run(options, console)
    except KeyboardInterrupt:
        console.print("\nInterrupted: every process of the rehearsal has been ended.")
        return 130
    except (StackError, DemoFailed) as failure:
        console.print(f"[red]{failure}[/red]")
        return 1


def _run(options: DemoOptions, console: Console) -> int:
    # What cannot be rehearsed is refused before anything is started.
    parameters, market = _session_parameters(options), _market(options)
    folder = options.home / "demo" / f"{ist(real_now_ms()):%Y%m%d-%H%M%S}"
    folder.mkdir(parents=True, exist_ok=True)
    ledger_url = f"sqlite:///{folder / 'ledger.sqlite3'}"
    environment = {"BOT_HOME": str(folder), "BOT_LEDGER_URL": ledger_url}
    if not options.keep:
        environment |= BARE_SERVER
    with LocalStack(
        home=options.home, project=options.project, environment=environment, may_be_kept=options.keep
    ) as stack:
        console.print(f"Starting Prefect, a worker and the simulated market in {options.home} …", soft_wrap=True)
        stack.start_server(options.port)
        stack.begin_deploying(*REHEARSAL_JOBS, engine_directly=True)
        simulator_url = stack.start_simulator(market)
        stack.environment["BOT_SIMULATOR_URL"] = simulator_url
        stack.start_worker()
        migrate(ledger_url)
        stack.await_deployed(SESSION_JOB)
        api = PrefectApi(stack.api_url)
        clock = read_market_clock(simulator_url)
        parameters["day"] = clock["day"]
        run_id = api.start(SESSION_JOB, parameters)
        console.print(f"Prefect UI {stack.ui_url}")
        console.print(f"this run   {stack.ui_url}/runs/flow-run/{run_id}", soft_wrap=True)
        key = SessionKey(
            account=REHEARSAL_CLIENT_ID,
            underlying=Underlying(options.index),
            mode="rehearsal",
            day=date.fromisoformat(clock["day"]),
        )
        stack.await_deployed()  # what the operator may want meanwhile, and the evening's
        ledger = Ledger(ledger_url)
        try:
            _follow(
                console=console,
                api=api,
                run_id=run_id,
                ledger=ledger,
                session_id=key.session_id,
                simulator_url=simulator_url,
                clock=clock,
            )
            runs = api.runs_of_the_day(run_id)
            summary = DaySummary.build(
                ledger, key.session_id, flow_runs=runs, report=report_path(folder, key.session_id)
            )
        finally:
            ledger.close()
        console.print(render_table(summary))
        _print_links(console, stack, runs, options)
        if options.json_file:
            options.json_file.write_text(json.dumps(summary.to_json(), indent=2) + "\n")
        if options.keep:
            stack.keep()
            console.print(
                f"Left running: {stack.ui_url}   Stop it with: {Path(sys.executable).parent / 'bot'} down",
                soft_wrap=True,
            )
        return 0 if summary.is_sound else 1


def _session_parameters(options: DemoOptions) -> dict[str, Any]:
    params: dict[str, Any] = {"index": options.index, "mode": "rehearsal"}
    for setting in options.settings:
        name, separator, value = setting.partition("=")
        if not separator:
            raise DemoFailed(f"--set expects name=value, found {setting!r}. Example: --set candle_seconds=15")
        params[name.strip()] = yaml.safe_load(value)
    try:
        Params.model_validate(params)
    except ValueError as contradictory:
        raise DemoFailed(f"The settings were refused: {contradictory}") from None
    return {"params": params}


def _market(options: DemoOptions) -> list[str]:
    """The simulator's options.

    Raises:
        DemoFailed: the recording cannot be read, or nothing is traded on that day.
    """
    arguments = [
        "--port",
        "0",
        "--seed",
        str(options.seed),
        "--index",
        options.index,
        "--speed",
        str(options.speed),
    ]
    # All packets of a market second in one message: one is taken in faster than nine.
    arguments += ["--client-id", REHEARSAL_CLIENT_ID, "--token", REHEARSAL_ACCESS_TOKEN, "--stack"]
    if options.recording:
        arguments += ["--recording", str(options.recording)]
    recorded = first_day(options.recording) if options.recording else None
    day = options.day or recorded or REHEARSAL_DAY
    settings = Settings()
    if settings.facts_file:
        arguments += ["--facts", str(settings.facts_file.absolute())]  # the market goes by what the bot goes by
    try:
        closed = closed_because(day, session_facts(settings.operator_facts))
    except OutsideKnownData as unknown:
        raise DemoFailed(str(unknown)) from None
    if closed is not None:
        raise DemoFailed(f"{day} is not a trading day: {closed}. Choose another with --day.")
    return [*arguments, "--day", day.isoformat()]


def first_day(recording: Path) -> date:
    """The first day of a recording.

    Raises:
        DemoFailed: there is no such file, or it is of neither known form.
    """
    try:
        with recording.open(encoding="utf-8", newline="") as lines:
            row = next(csv.DictReader(lines), {})
    except OSError as missing:
        raise DemoFailed(
            f"A recording was expected at {recording}, found: {missing.strerror}. Check the path."
        ) from None
    text = row.get("Date") or (row.get("close_time_ist") or "")[:10]
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise DemoFailed(
            f"{recording} must have a column Date (YYYYMMDD) or close_time_ist, found {', '.join(row) or 'no rows'}. "
            "See the README for the two forms, or name the day with --day."
        ) from None


class PrefectApi:
    """The few calls of Prefect's HTTP API that a rehearsal needs."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._http = requests.Session()
        self._http.trust_env = False
        # A busy server says 503 when its SQLite file was locked; nothing was written then, so asking again is safe.
        patient = Retry(total=10, backoff_factor=0.3, backoff_max=5, status_forcelist=BUSY, allowed_methods=None)
        self._http.mount("http://", HTTPAdapter(max_retries=patient))

    def start(self, deployment: str, parameters: dict[str, Any]) -> str:
        """Start a run of `flow/deployment`; return its id.

        Raises:
            DemoFailed: Prefect refused the parameters, in its own words.
        """
        target = self.call("GET", f"/deployments/name/{deployment}")
        merged = {**target["parameters"], **parameters}
        if "params" in merged:
            merged["params"] = {**target["parameters"].get("params", {}), **parameters.get("params", {})}
        reply = self._http.post(
            f"{self._url}/deployments/{target['id']}/create_flow_run",
            json={"parameters": merged, "state": {"type": "SCHEDULED"}, "idempotency_key": str(uuid4())},
            timeout=30,
        )
        if not reply.ok:
            raise DemoFailed(f"The settings were refused: {reply.json().get('detail', reply.text)}")
        run_id: str = reply.json()["id"]
        return run_id

    def call(self, method: str, path: str, json: Any = None) -> Any:
        """One call, patient with a busy server; its answer. requests.HTTPError for any other refusal."""
        reply = self._http.request(method, f"{self._url}{path}", json=json, timeout=30)
        reply.raise_for_status()
        return reply.json() if reply.content else None

    def run(self, run_id: str) -> dict[str, Any]:
        """The run as Prefect shows it."""
        answer: dict[str, Any] = self.call("GET", f"/flow_runs/{run_id}")
        return answer

    def runs_of_the_day(self, run_id: str) -> tuple[dict[str, str], ...]:
        """The session's run and the runs it started, with their states."""
        wanted = {"flow_runs": {"parent_flow_run_id": {"any_": [run_id]}}, "sort": "START_TIME_ASC"}
        children = self.call("POST", "/flow_runs/filter", wanted)
        flows = {}
        runs = []
        for run in [self.run(run_id), *children]:
            flow_id = run["flow_id"]
            if flow_id not in flows:
                flows[flow_id] = self.call("GET", f"/flows/{flow_id}")["name"]
            runs.append(
                {
                    "id": run["id"],
                    "flow": flows[flow_id],
                    "name": run["name"],
                    "state": run["state"]["name"],
                    "state_type": run["state"]["type"],
                    "message": run["state"].get("message") or "",
                }
            )
        return tuple(runs)


def _follow(
    *,
    console: Console,
    api: PrefectApi,
    run_id: str,
    ledger: Ledger,
    session_id: str,
    simulator_url: str,
    clock: dict[str, Any],
) -> None:
    """Show progress by market time and each decision as it comes, until the run has ended."""
    open_ms, close_ms = clock["windows"][0][0], clock["windows"][-1][1]
    shown = Shown()
    deadline = Deadline(WHOLE_RUN_TIMEOUT_S if clock["speed"] == 0 else float("inf"))
    columns = (
        TextColumn("{task.fields[market_time]}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f}%"),
        TextColumn("{task.description}"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console, transient=True) as progress:
        bar = progress.add_task("waiting for the worker", total=close_ms - open_ms, market_time="--:--:--")
        while True:
            run = api.run(run_id)
            now_ms = _market_now(simulator_url)
            if now_ms:
                progress.update(
                    bar,
                    completed=min(max(0, now_ms - open_ms), close_ms - open_ms),
                    market_time=f"{ist(now_ms):%H:%M:%S}",
                    description=run["state"]["name"].lower(),
                )
            for line in sorted(_news(ledger, session_id, shown)):
                progress.console.print(line)
            if run["state"]["type"] in FINAL_STATES:
                break
            if deadline.passed:
                raise DemoFailed(
                    f"The day did not end within {WHOLE_RUN_TIMEOUT_S:.0f} s; see the run's log in the UI."
                )
            pause(0.5)
    state = run["state"]
    if state["type"] != "COMPLETED":
        raise DemoFailed(f"The session ended as {state['name']}: {state.get('message')}")


def _market_now(simulator_url: str) -> int:
    with contextlib.suppress(requests.RequestException):
        return int(read_market_clock(simulator_url)["now_ms"])
    return 0


def _news(ledger: Ledger, session_id: str, shown: Shown) -> Iterator[str]:
    """Lines for what the ledger has learnt since the last look."""
    try:
        intents = {intent.intent: intent for intent in ledger.intents(session_id)}
        fills = ledger.fills(session_id)
        decisions = ledger.decisions(session_id)
    except LedgerUnavailable:
        return
    for number, intent in intents.items():
        if number not in shown.intents:
            shown.intents.add(number)
            verb = "buy " if intent.purpose == "ENTRY" else "sell"
            yield (
                f"{ist(intent.decided_at_ms):%H:%M:%S}  {verb} {intent.quantity:>4} {intent.contract_name}"
                f" at about {render_rupees(intent.reference_paise)}  ({intent.reason})"
            )
    for client_order_id, number, side, fill in fills:
        if (client_order_id, fill.cumulative_quantity) not in shown.fills:
            shown.fills.add((client_order_id, fill.cumulative_quantity))
            verb = "bought" if side == "BUY" else "sold"
            yield (
                f"{ist(fill.at_ms):%H:%M:%S}  {verb} {fill.quantity} {intents[number].contract_name}"
                f" for {render_rupees(fill.value_paise)}"
            )
    for decision in decisions[shown.decisions :]:
        if decision.kind in {"halted", "resumed", "limits_tightened", "alert"}:
            text = decision.detail.get("message", decision.reason)
            yield f"{ist(decision.at_ms):%H:%M:%S}  {decision.kind}: {text}"
    shown.decisions = len(decisions)


def _print_links(console: Console, stack: LocalStack, runs: tuple[dict[str, str], ...], options: DemoOptions) -> None:
    for run in runs:
        link = f"   {stack.ui_url}/runs/flow-run/{run['id']}" if options.keep else ""
        console.print(f"{run['flow']:<15} {run['state']:<12} {run['name']}{link}", soft_wrap=True)
    if not options.keep:
        console.print("Run it again with KEEP=1 (or --keep) to look at the runs in the Prefect UI.")
