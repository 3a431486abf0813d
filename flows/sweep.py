"""Sweep: many settings over the same recorded days; on this machine, or on a Dask cluster through Prefect."""

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal

from prefect import flow, get_run_logger, task
from prefect.artifacts import create_markdown_artifact, create_table_artifact
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State
from prefect.futures import as_completed
from prefect.states import Completed

from tasks.backtest.grid import Combination, Grid, read_grid
from tasks.backtest.ranking import rank, render_ranking
from tasks.backtest.sweep import Found, compute, run_sweep, sweep_name
from tasks.backtest.sweep_page import write_sweep
from tasks.settings import Settings

# A batch whose worker died is computed again by another; so often, then the sweep fails and can be resumed.
ROUNDS_MAX = 5


@flow(name="sweep", retries=0)
def sweep(grid_file: str, runner: Literal["local", "dask"] = "local", address: str | None = None) -> State[Any]:
    """Try every combination of a grid on recorded days, rank them, and say what the best one is worth.

    Args:
        grid_file: the file with recordings, fixed settings and values to combine.
        runner: local uses the cores of this machine, dask a cluster.
        address: the Dask scheduler, tcp://host:8786; a cluster of this machine's cores if empty.
    """
    log = get_run_logger()
    grid = read_grid(Path(grid_file))
    home = Settings().home

    def hear(done: int, combinations: int) -> None:
        log.info("%d of %d combinations", done, combinations)

    spread = partial(on_dask, address=address) if runner == "dask" else None
    found = run_sweep(grid, store_file(home), runner=spread, progress=hear)
    ranking = rank(found, grid.axes)
    page = write_sweep(ranking, home, sweep_name(grid))
    head, *rows = render_ranking(ranking)
    create_table_artifact(key="sweep", table=[dict(zip(head, row, strict=True)) for row in rows])
    create_markdown_artifact(key="sweep-warning", markdown=f"**{ranking.warning}**\n\nReport: `{page}`")
    return Completed(name="Swept", message=f"{left_out(grid)}{ranking.warning}")


def store_file(home: Path) -> Path:
    """Where the results of all sweeps are kept."""
    return home / "sweeps" / "outcomes.sqlite"


def left_out(grid: Grid) -> str:
    """What was not tried, in words."""
    return f"{grid.contradictory} contradictory combinations left out; " if grid.contradictory else ""


def on_dask(wire: str, batches: Sequence[tuple[Combination, ...]], *, address: str | None) -> Iterator[Found]:
    """Batches on a cluster through Prefect's task runner; recordings must be readable under the same paths there."""
    from prefect_dask.task_runners import DaskTaskRunner  # noqa: PLC0415 (an optional package)

    kept_small = None if address else {"threads_per_worker": 1}
    with DaskTaskRunner(address=address, cluster_kwargs=kept_small) as runner:
        left = list(batches)
        for _ in range(ROUNDS_MAX):
            futures = {runner.submit(compute_batch, {"wire": wire, "batch": batch}): batch for batch in left}
            left = []
            for future in as_completed(list(futures)):
                state = future.state
                if state.is_completed():
                    yield future.result()
                else:
                    left.append(futures[future])
            if not left:
                return
    raise RuntimeError(f"{len(left)} batches failed {ROUNDS_MAX} times; what is done is kept, start the sweep again")


@task(name="batch", retries=0, cache_policy=NO_CACHE, persist_result=False)
def compute_batch(wire: str, batch: tuple[Combination, ...]) -> Found:
    """One batch, wherever it runs."""
    return compute(wire, batch)
