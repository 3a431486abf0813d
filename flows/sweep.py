"""Sweep: many settings over the same recorded days; on this machine, or on a cluster of Dask or Ray through Prefect."""

from collections.abc import Iterator, Sequence
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

from prefect import flow, get_run_logger, task
from prefect.artifacts import create_markdown_artifact, create_table_artifact
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State
from prefect.futures import as_completed
from prefect.states import Completed
from prefect.task_runners import TaskRunner

from tasks.backtest.grid import Combination, Grid, read_grid
from tasks.backtest.ranking import Ranking, rank, render_ranking
from tasks.backtest.sweep import Found, Runner, compute, run_sweep, sweep_name, sweep_words
from tasks.backtest.sweep_page import write_sweep
from tasks.settings import Settings

# A batch whose worker died is computed again by another; so often, then the sweep fails and can be resumed.
ROUNDS_MAX = 5
RunnerName = Literal["local", "dask", "ray"]


@flow(name="sweep", retries=0)
def sweep(grid_file: str, runner: RunnerName = "local", address: str | None = None) -> State[Any]:
    """Try every combination of a grid on recorded days, rank them, and say what the best one is worth.

    Args:
        grid_file: the file with recordings, fixed settings and values to combine.
        runner: local uses the cores of this machine, dask and ray a cluster.
        address: the Dask scheduler, tcp://host:8786, or Ray's head, ray://host:10001; this machine's cores if empty.
    """
    log = get_run_logger()
    grid = read_grid(Path(grid_file))
    home = Settings().home

    def hear(done: int, combinations: int) -> None:
        log.info("%d of %d combinations", done, combinations)

    found = run_sweep(grid, store_file(home), runner=runner_of(runner, address), progress=hear)
    ranking = rank(found, grid.axes)
    words = sweep_words(grid)
    page = write_sweep(ranking, home, sweep_name(grid), words)
    head, *rows = render_ranking(ranking)
    create_table_artifact(key="sweep", table=[dict(zip(head, row, strict=True)) for row in rows])
    create_markdown_artifact(key="sweep-warning", markdown=told(ranking, words, page))
    return Completed(name="Swept", message=f"{left_out(grid)}{ranking.warning}")


def store_file(home: Path) -> Path:
    """Where the results of all sweeps are kept."""
    return home / "sweeps" / "outcomes.sqlite"


def told(ranking: Ranking, words: Sequence[str], page: Path) -> str:
    """The warning first, then what was swept, in Markdown."""
    first, *more = ranking.advice
    return "\n".join([f"**{first}**", "", *(f"- {line}" for line in (*more, *words)), "", f"Report: `{page}`"])


def left_out(grid: Grid) -> str:
    """What was not tried, in words."""
    return f"{grid.contradictory} contradictory combinations left out; " if grid.contradictory else ""


def runner_of(name: RunnerName, address: str | None) -> Runner | None:
    """Who computes the batches; None: this process's threads. ValueError for a cluster that cannot be used here."""
    if name == "local":
        if address is not None:
            raise ValueError(f"expected the runner of a cluster with an address, found local and {address}")
        return None
    extra = "sweep" if name == "dask" else "sweep,ray"
    if find_spec(f"prefect_{name}") is None:
        raise ValueError(
            f"a sweep on {name.title()} needs the package prefect-{name}: install the project with [{extra}]"
        )
    return partial(on_dask if name == "dask" else on_ray, address=address)


def on_dask(wire: str, batches: Sequence[tuple[Combination, ...]], *, address: str | None) -> Iterator[Found]:
    """Batches on a Dask cluster; recordings must be readable under the same paths there."""
    from prefect_dask.task_runners import DaskTaskRunner  # noqa: PLC0415 (an optional package)

    kept_small = None if address else {"threads_per_worker": 1}
    return on_cluster(DaskTaskRunner(address=address, cluster_kwargs=kept_small), wire, batches)


def on_ray(wire: str, batches: Sequence[tuple[Combination, ...]], *, address: str | None) -> Iterator[Found]:
    """Batches on a Ray cluster; recordings must be readable under the same paths there."""
    from prefect_ray.task_runners import RayTaskRunner  # noqa: PLC0415 (an optional package)

    # Of a Ray of our own nothing but the computing is wanted; one that is there already has its own settings.
    own = None if address else {"include_dashboard": False, "log_to_driver": False, "logging_level": "warning"}
    return on_cluster(RayTaskRunner(address=address, init_kwargs=own), wire, batches)


def on_cluster(cluster: TaskRunner[Any], wire: str, batches: Sequence[tuple[Combination, ...]]) -> Iterator[Found]:
    """Batches through a Prefect task runner, as they are done; those of a worker that died once more."""
    with cluster as runner:
        left, why = list(batches), None
        for _ in range(ROUNDS_MAX):
            futures = {runner.submit(compute_batch, {"wire": wire, "batch": batch}): batch for batch in left}
            left = []
            for future in as_completed(list(futures)):
                future.wait()
                if future.state.is_completed():
                    yield future.result()
                else:
                    why = future.state.message
                    left.append(futures[future])
            if not left:
                return
    raise RuntimeError(
        f"{len(left)} batches failed {ROUNDS_MAX} times ({why}); what is done is kept, start the sweep again"
    )


@task(name="batch", retries=0, cache_policy=NO_CACHE, persist_result=False)
def compute_batch(wire: str, batch: tuple[Combination, ...]) -> Found:
    """One batch, wherever it runs."""
    return compute(wire, batch)
