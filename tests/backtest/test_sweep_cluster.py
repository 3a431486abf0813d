"""A sweep on a cluster: nothing is lost and nothing counted twice when a worker dies."""

import os
import signal
import sqlite3
from contextlib import closing
from functools import partial

import psutil
import pytest

pytest.importorskip("numba", reason="sweeps need the packages of [sweep]")
distributed = pytest.importorskip("distributed", reason="clusters need the packages of [sweep]")

from flows import sweep as sweeping  # noqa: E402 (only with the packages above)
from flows.sweep import on_dask, on_ray, runner_of  # noqa: E402
from tasks.backtest.grid import read_grid  # noqa: E402
from tasks.backtest.sweep import run_sweep  # noqa: E402

# Prefect leaves sockets of its task runner's threads to the garbage collector, Ray those of its processes.
leaves_sockets = pytest.mark.filterwarnings(
    "ignore:.*unclosed.*:ResourceWarning",
    "ignore:subprocess .* is still running:ResourceWarning",
    "ignore::pytest.PytestUnraisableExceptionWarning",
)
pytestmark = [leaves_sockets, pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.fixture
def dask():
    """A runner on two worker processes, and how to kill one of them."""
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, host="127.0.0.1", dashboard_address=None, processes=True
    ) as cluster:

        def victim():
            name = next(iter(cluster.scheduler_info["workers"].values()))["name"]
            return cluster.workers[name].pid

        yield partial(on_dask, address=cluster.scheduler_address), victim


@pytest.fixture
def ray(monkeypatch):
    """The same on Ray, which starts its workers as they are needed."""
    pytest.importorskip("prefect_ray", reason="Ray needs the packages of [ray], which not every machine can have")
    import ray  # noqa: PLC0415

    monkeypatch.setenv("RAY_ENABLE_UV_RUN_RUNTIME_ENV", "0")
    monkeypatch.setenv("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")

    def victim():
        # Ray names its processes so; without its agents a node ends, which is more than a worker's death.
        named = {one.name(): one.pid for one in psutil.Process().children(recursive=True)}
        agents = ("ray::Dashboard", "ray::RuntimeEnv")
        return next(pid for name, pid in named.items() if name.startswith("ray::") and not name.startswith(agents))

    yield partial(on_ray, address=None), victim
    ray.shutdown()


@pytest.mark.parametrize("cluster", ["dask", "ray"])
def test_a_worker_killed_in_mid_sweep_costs_nothing(prefect_server, request, cluster, a_grid, tmp_path):
    runner, victim = request.getfixturevalue(cluster)
    grid = read_grid(a_grid)
    here = run_sweep(grid, tmp_path / "here.sqlite")
    store = tmp_path / "there.sqlite"
    killed = []

    def kill_once(done, of):
        if done and not killed:
            killed.append(victim())
            os.kill(killed[0], signal.SIGKILL)

    there = run_sweep(grid, store, runner=runner, progress=kill_once)
    assert killed
    assert there == here
    assert len(there) == len(grid.combinations)
    with closing(sqlite3.connect(store)) as database:
        assert database.execute("SELECT count(*), count(DISTINCT key) FROM outcome").fetchone() == (
            len(grid.combinations),
            len(grid.combinations),
        )


def test_a_cluster_that_cannot_be_used_here_is_refused_before_anything_runs(monkeypatch):
    monkeypatch.setattr(sweeping, "find_spec", lambda _: None)
    for name, extra in (("dask", "[sweep]"), ("ray", "[sweep,ray]")):
        with pytest.raises(ValueError, match="install the project with") as refused:
            runner_of(name, None)
        assert extra in str(refused.value)
    with pytest.raises(ValueError, match="found local and tcp://host:8786"):
        runner_of("local", "tcp://host:8786")
