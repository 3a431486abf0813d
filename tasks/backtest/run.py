"""A backtest from files to a result."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from itertools import pairwise
from pathlib import Path
from typing import Any

from strategy.events import Tick
from strategy.instruments import INDICES
from strategy.params import Params
from strategy.signals import Signals
from tasks.backtest.market import MarketModel, PastDay, PastMarket, Premiums, past_market
from tasks.backtest.options import RecordedOptions
from tasks.backtest.prices import files_of, read_days, session_days
from tasks.backtest.replay import DayRun, replay_day, signals_after
from tasks.backtest.result import BacktestResult, result_of
from tasks.connect import open_ledger
from tasks.evening.replay import recordings

# Days before the first one that warm the indicators up: 150 candles of a quarter of an hour.
DAYS_BEFORE = 6
LEDGER = "ledger:"
Progress = Callable[[int, int, DayRun], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class BacktestRequest:
    """What to test, as it comes from a command line or a deployment's parameters.

    `files` may name folders, and sessions of the ledger: "ledger:2026-11-20/NIFTY/rehearsal/1000000009". `options` are
    recorded candles of contracts; what a session of the ledger heard of its contracts is taken without being named.
    """

    files: tuple[Path | str, ...]
    settings: Mapping[str, Any]
    first: date | None = None
    last: date | None = None
    model: MarketModel = field(default_factory=MarketModel)
    folds: int = 1
    options: tuple[Path | str, ...] = ()

    @property
    def params(self) -> Params:
        """The settings. Raises pydantic's ValidationError with every fault."""
        params = Params.model_validate(self.settings)
        if params.bypass_market_hours:
            raise ValueError("bypass_market_hours has no meaning in a backtest: past days have hours; leave it out")
        return params


def open_market(request: BacktestRequest) -> PastMarket:
    """The days of a request. Raises RecordingError or ValueError."""
    params = request.params
    index = INDICES[params.index]
    names = [str(file) for file in request.files]
    files = [Path(name) for name in names if not name.startswith(LEDGER)]
    sessions = [name.removeprefix(LEDGER) for name in names if name.startswith(LEDGER)]
    recorded = read_days(files, params.index, index.security)
    if sessions:
        with open_ledger() as ledger:
            ours = session_days(ledger, sessions, index.security)
        recorded = tuple(sorted((*recorded, *ours), key=lambda one: one.day))
    twice = [one.day for one, other in pairwise(recorded) if one.day == other.day]
    if twice:
        raise ValueError(f"expected each day once, found {twice[0]} in two recordings; leave one of them out")
    return past_market(recorded, params.index, first=request.first, last=request.last)


def open_premiums(request: BacktestRequest) -> RecordedOptions | None:
    """Recorded premiums, where the request names any; None: the model prices everything."""
    sessions = [str(file).removeprefix(LEDGER) for file in request.files if str(file).startswith(LEDGER)]
    if not (sessions or request.options):
        return None
    premiums = RecordedOptions(request.model)
    premiums.read(files_of(Path(file) for file in request.options), request.params.index)
    if sessions:
        with open_ledger() as ledger:
            for session_id in sessions:
                for recording in recordings(ledger, session_id):
                    contracts = {one.security: one for one in recording.beginning.plan.contracts.values()}
                    premiums.hear((event for event in recording.events if isinstance(event, Tick)), contracts)
    return premiums


def run_backtest(request: BacktestRequest, *, progress: Progress | None = None) -> BacktestResult:
    """Replay every day through the live rules. `progress` hears (days done, days, the day's run)."""
    params, market = request.params, open_market(request)
    premiums = open_premiums(request)
    runs = replay_days(market.days, params, request.model, before=market.before, premiums=premiums, progress=progress)
    return result_of(
        runs, market, params, request.model, folds=request.folds, premiums=premiums.words if premiums else ()
    )


def replay_days(
    days: Sequence[PastDay],
    params: Params,
    model: MarketModel,
    *,
    before: Sequence[PastDay] = (),
    premiums: Premiums | None = None,
    progress: Progress | None = None,
    keep: bool = False,
) -> list[DayRun]:
    """The days one after the other, indicators carried on from day to day; `keep` keeps all that was said."""
    signals: Signals | None = None
    for past in before[-DAYS_BEFORE:]:
        signals = signals_after(past, params, signals)
    runs = []
    for number, past in enumerate(days, 1):
        run = replay_day(past, params, model, signals=signals, premiums=premiums, keep=keep)
        signals = signals_after(past, params, signals)
        runs.append(run)
        if progress is not None:
            progress(number, len(days), run)
    return runs


def write_json(result: BacktestResult, file: Path) -> None:
    """Write the result for programs."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(result.to_json(), indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
