"""Commands that start things: the demo, the simulator, a session, and what a server needs first."""

import os
import sys
from datetime import date
from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter

from flows.cli.options import HOME, PROJECT, IndexName


def register(app: App) -> None:
    """Add the commands to `bot`."""
    for command in (demo, down, simulate, session, bootstrap, arm, disarm):
        app.command(command)


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
    home: Path = HOME,
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


def down(*, home: Path = HOME) -> int:
    """End what `bot demo --keep` left running."""
    from deployments.local import down as end_stack

    ended = end_stack(home.resolve())
    print(f"Ended: {', '.join(ended)}." if ended else "Nothing was left running.")
    return 0


def simulate(*options: Annotated[str, Parameter(allow_leading_hyphen=True)]) -> None:
    """Run the simulated market and broker by itself; `bot simulate --help` lists its options."""
    os.execv(sys.executable, [sys.executable, "-m", "simulator", *options])  # noqa: S606 (our own interpreter)


def session(*, deployment: str = "rehearsal", day: date | None = None) -> int:
    """Start the daily session of a deployment now; a worker runs it.

    Args:
        deployment: its name in prefect.yaml.
        day: the trading day; today if not given.
    """
    return _start(f"daily-session/{deployment}", {"day": day.isoformat()} if day else {})


def bootstrap(*, renew: Annotated[bool, Parameter(negative="")] = False, wait: float = 60) -> int:
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


def disarm(*, index: IndexName) -> int:
    """Take back what was armed from today on and switch the live schedule off; a running session goes on."""
    from flows.arming import disarm_live
    from strategy.instruments import Underlying

    return disarm_live(Underlying(index))


def _start(deployment: str, parameters: dict[str, str]) -> int:
    from typing import cast

    from prefect.client.schemas.objects import FlowRun
    from prefect.deployments import run_deployment

    run = cast("FlowRun", run_deployment(deployment, parameters=parameters, timeout=0))
    print(f"{run.name}: {run.state.name if run.state else 'created'} ({run.id})")
    return 0
