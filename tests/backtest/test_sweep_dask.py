"""A sweep on a cluster: nothing is lost and nothing counted twice when a worker dies."""

import os
import signal
import sqlite3
from contextlib import closing

import pytest

pytest.importorskip("numba", reason="sweeps need the packages of [sweep]")
distributed = pytest.importorskip("distributed", reason="clusters need the packages of [sweep]")

from flows.sweep import on_dask  # noqa: E402 (only with the packages above)
from tasks.backtest.grid import read_grid  # noqa: E402
from tasks.backtest.sweep import run_sweep  # noqa: E402

# Prefect leaves sockets of its task runner's threads to the garbage collector.
leaves_sockets = pytest.mark.filterwarnings(
    "ignore:.*unclosed.*:ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning"
)
pytestmark = [leaves_sockets, pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.fixture
def cluster():
    # Workers in processes of their own, so that one of them can be killed.
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, host="127.0.0.1", dashboard_address=None, processes=True
    ) as cluster:
        yield cluster


def test_a_worker_killed_in_mid_sweep_costs_nothing(prefect_server, cluster, a_grid, tmp_path):
    grid = read_grid(a_grid)
    here = run_sweep(grid, tmp_path / "here.sqlite")
    store = tmp_path / "there.sqlite"
    killed = []

    def kill_once(done, of):
        if done and not killed:
            victim = next(iter(cluster.scheduler_info["workers"].values()))["name"]
            killed.append(victim)
            os.kill(cluster.workers[victim].pid, signal.SIGKILL)

    there = run_sweep(
        grid,
        store,
        runner=lambda wire, batches: on_dask(wire, batches, address=cluster.scheduler_address),
        progress=kill_once,
    )
    assert killed
    assert there == here
    assert len(there) == len(grid.combinations)
    with closing(sqlite3.connect(store)) as database:
        assert database.execute("SELECT count(*), count(DISTINCT key) FROM outcome").fetchone() == (
            len(grid.combinations),
            len(grid.combinations),
        )
