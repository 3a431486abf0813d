"""A sweep: combinations after combinations over the same days, computed once each, kept as they come.

Invariants:
1. Every combination of the grid ends with exactly one row, whatever is killed on the way.
2. A result does not depend on who computed it, nor on what was computed before.
"""

import hashlib
import json
import os
import platform
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from datetime import date
from functools import cache, lru_cache
from pathlib import Path
from typing import Any, Final

import strategy
from strategy.instruments import INDICES
from strategy.params import Params
from tasks.backtest.compiled import CompiledMarket
from tasks.backtest.grid import Combination, Grid, batches_of
from tasks.backtest.market import MarketModel, PastMarket, past_market
from tasks.backtest.outcome import Outcome, outcome_of
from tasks.backtest.prices import read_days
from tasks.backtest.result import made_up
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
            for found in (runner or on_all_cores)(sealed_wire(grid), list(batches_of(missing, BATCH))):
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
        market, past, settings = _opened(wire)
    days = tuple(one.day for one in past.days)
    found = []
    for combination in batch:
        params = Params.model_validate({**settings, **combination.chosen})
        found.append((outcome_of(combination.key, market.trades(params), days), dict(combination.chosen)))
    return found


def sweep_words(grid: Grid) -> tuple[str, ...]:
    """What was swept and what had to be assumed, for people: a table of results is worth no more than that."""
    with _OPENING:
        _, past, _ = _opened(sealed_wire(grid))
    bar_seconds = max(one.recorded.bar_seconds for one in past.days)
    shortest = min(grid.params(combination).candle_seconds for combination in grid.combinations)
    index = grid.params(grid.combinations[0]).index
    fixed = ", ".join(f"{name} {value}" for name, value in grid.settings.items()) or "the defaults"
    tried = f"{len(grid.combinations)} of {grid.possible} combinations"
    words = [
        f"{index}, {len(past.days)} days, {past.days[0].day} to {past.days[-1].day}; {tried}; fixed: {fixed}",
        *(f"assumed: {assumption}" for assumption in (*grid.model.words, *past.assumed)),
    ]
    if grid.contradictory:
        words.append(f"{grid.contradictory} combinations contradict themselves: left out")
    if bar_seconds > shortest:
        words.append(f"warning: {made_up(shortest, bar_seconds)}")
    if past.closed:
        words.append(f"warning: {len(past.closed)} recorded days are no trading days by the calendar: left out")
    return tuple(words)


def sweep_name(grid: Grid) -> str:
    """What the results depend on beside the swept settings, in twenty signs."""
    about = json.loads(sealed_wire(grid))
    del about["files"]
    return hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()[:20]


def sealed_wire(grid: Grid) -> str:
    """What a worker needs to know, and what it must have in common with this process for its results to count."""
    seal = {"rules": rules_version(), "recordings": _content(grid.files)}
    return json.dumps({**json.loads(grid.to_wire()), "seal": seal}, sort_keys=True)


@cache
def rules_version() -> str:
    """The rules, the facts about the market, and all that makes days of recordings and outcomes of trades.

    Whole rooms rather than a list of files: a sweep that begins anew once too often costs minutes, one that mixes two
    versions of a rule costs money.
    """
    digest = hashlib.sha256()
    for folder in (Path(strategy.__file__).parent, Path(__file__).parent):
        for file in sorted((*folder.rglob("*.py"), *folder.rglob("*.toml"))):
            digest.update(file.relative_to(folder).as_posix().encode() + file.read_bytes())
    return digest.hexdigest()[:12]


def _content(files: Iterable[Path]) -> str:
    digest = hashlib.sha256()
    for file in files:
        digest.update(file.read_bytes())
    return digest.hexdigest()[:12]


@lru_cache(maxsize=2)
def _opened(wire: str) -> tuple[CompiledMarket, PastMarket, dict[str, Any]]:
    about = json.loads(wire)
    files = [Path(name) for name in about["files"]]
    if "seal" in about:
        ours = {"rules": rules_version(), "recordings": _content(files)}
        differing = [name for name, seal in about["seal"].items() if seal != ours[name]]
        if differing:
            raise RuntimeError(
                f"expected the {' and '.join(differing)} of who started the sweep on {platform.node()}, found others;"
                " bring this worker's project and recordings up to date, then start the sweep again"
            )
    volatility, spread, slippage_paise = about["model"]
    model = MarketModel(volatility=volatility, spread=spread, slippage_paise=slippage_paise)
    index = INDICES[Params.model_validate({k: v for k, v in about["settings"].items() if k == "index"}).index]
    recorded = read_days(files, index.underlying, index.security)
    first, last = (date.fromisoformat(day) if day else None for day in (about["first"], about["last"]))
    past = past_market(recorded, index.underlying, first=first, last=last)
    market = CompiledMarket(past.days, model, before=past.before[-DAYS_BEFORE:])
    return market, past, about["settings"]
