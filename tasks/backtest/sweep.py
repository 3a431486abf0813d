"""A sweep: combinations after combinations over the same days, computed once each, kept as they come.

Invariants:
1. Every combination of the grid ends with exactly one row, whatever is killed on the way.
2. A result does not depend on who computed it, nor on what was computed before.
"""

import hashlib
import json
import os
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from datetime import date
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

from strategy import kernel
from strategy.instruments import INDICES
from strategy.params import Params
from tasks.backtest.compiled import CompiledMarket
from tasks.backtest.grid import Combination, Grid, batches_of
from tasks.backtest.market import MarketModel, past_market
from tasks.backtest.outcome import Outcome, outcome_of
from tasks.backtest.prices import read_days
from tasks.backtest.run import DAYS_BEFORE
from tasks.backtest.store import SweepStore

BATCH: Final = 25
Found = list[tuple[Outcome, dict[str, Any]]]
Runner = Callable[[str, Sequence[tuple[Combination, ...]]], Iterator[Found]]
_OPENING = threading.Lock()


def run_sweep(
    grid: Grid, file: Path, *, runner: "Runner | None" = None, progress: Callable[[int, int], None] | None = None
) -> list[tuple[Outcome, dict[str, Any]]]:
    """Compute what is missing in the store at `file` and return all outcomes of the grid.

    `runner` computes batches and yields them as they are done; all cores of this machine if not given.
    """
    with SweepStore(file, sweep_name(grid), grid.to_wire()) as store:
        known = store.known()
        wanted = {combination.key for combination in grid.combinations}
        missing = [combination for combination in grid.combinations if combination.key not in known]
        done = len(wanted & known)
        if progress is not None:
            progress(done, len(wanted))
        if missing:
            for found in (runner or on_all_cores)(grid.to_wire(), list(batches_of(missing, BATCH))):
                done += store.add(found)
                if progress is not None:
                    progress(done, len(wanted))
        return [(outcome, chosen) for outcome, chosen in store.outcomes() if outcome.key in wanted]


def on_all_cores(wire: str, batches: Sequence[tuple[Combination, ...]]) -> Iterator[Found]:
    """Threads of this process: the compiled rules leave Python's lock alone."""
    with ThreadPoolExecutor(max_workers=os.cpu_count() or 1) as pool:
        futures = [pool.submit(compute, wire, batch) for batch in batches]
        try:
            for future in as_completed(futures):
                yield future.result()
        finally:
            for future in futures:
                future.cancel()


def compute(wire: str, batch: Iterable[Combination]) -> Found:
    """The outcomes of a batch, on days that this process opens once."""
    with _OPENING:
        market, days, settings = _opened(wire)
    found = []
    for combination in batch:
        params = Params.model_validate({**settings, **combination.chosen})
        found.append((outcome_of(combination.key, market.trades(params), days), dict(combination.chosen)))
    return found


def sweep_name(grid: Grid) -> str:
    """What the results depend on beside the swept settings, in twenty signs."""
    digest = hashlib.sha256()
    for file in grid.files:
        digest.update(file.read_bytes())
    about = json.loads(grid.to_wire())
    del about["files"]
    digest.update(json.dumps(about, sort_keys=True).encode())
    digest.update(kernel.VERSION.encode())
    return digest.hexdigest()[:20]


@lru_cache(maxsize=2)
def _opened(wire: str) -> tuple[CompiledMarket, tuple[date, ...], dict[str, Any]]:
    about = json.loads(wire)
    volatility, spread, slippage_paise = about["model"]
    model = MarketModel(volatility=volatility, spread=spread, slippage_paise=slippage_paise)
    index = INDICES[Params.model_validate({k: v for k, v in about["settings"].items() if k == "index"}).index]
    recorded = read_days([Path(name) for name in about["files"]], index.underlying, index.security)
    first, last = (date.fromisoformat(day) if day else None for day in (about["first"], about["last"]))
    past = past_market(recorded, index.underlying, first=first, last=last)
    market = CompiledMarket(past.days, model, before=past.before[-DAYS_BEFORE:])
    return market, tuple(one.day for one in past.days), about["settings"]
