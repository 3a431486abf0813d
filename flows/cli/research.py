"""Commands that look at the past: backtest, sweep and what keeps them honest. They need no server and no account."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import App, Parameter

from flows.cli.options import HOME, IndexName, settings_of

if TYPE_CHECKING:
    from rich.progress import TaskID

    from tasks.backtest.result import BacktestResult


def register(app: App) -> None:
    """Add the commands to `bot`."""
    app.command(download)
    app.command(backtest)
    app.command(sweep)
    app.command(check_lookahead)


def download(
    *,
    index: IndexName = "NIFTY",
    from_: Annotated[date, Parameter(name="--from")],
    to: date | None = None,
    strikes: int | None = None,
    home: Path = HOME,
) -> int:
    """Fetch the broker's one-minute candles as files for backtests and sweeps. Started again, it goes on.

    Args:
        index: which one.
        from_: the first day; whole months are fetched, the broker has about five years.
        to: the last day; today if not given and the market has closed, else yesterday.
        strikes: also the nearest expiry's options, so many strikes beyond where the index has been in the last month.
            The broker forgets them when they expire: fetch them every evening.
        home: where the files go, under candles.
    """
    from datetime import timedelta

    from rich.console import Console

    from strategy.instruments import INDICES, Underlying
    from tasks.backtest.download import download_index, download_options, is_over, strikes_around
    from tasks.broker import BrokerError
    from tasks.broker.limits import BrokerLimits
    from tasks.clock import ist
    from tasks.connect import market_now_ms, open_dhan
    from tasks.instruments import InstrumentMaster, MasterRefused
    from tasks.settings import Settings

    settings, chosen = Settings(), INDICES[Underlying(index)]
    folder = home.resolve() / "candles"
    with _plain_errors(BrokerError, MasterRefused), open_dhan(settings, limits=BrokerLimits()) as source:
        now_ms = market_now_ms(settings)
        today = ist(now_ms).date()
        last = min(to or date.max, today if is_over(today, now_ms) else today - timedelta(days=1))
        if from_ > last:
            raise ValueError(f"expected a first day that is over, found {from_}; the last one is {last}")
        with _progress("months") as hear:
            files = download_index(source, chosen, folder / index, first=from_, last=last, hear=hear)
        for file in files:
            print(file)
        if strikes is not None:
            master = InstrumentMaster.of_day(settings, today)
            contracts = master.contracts(chosen, master.expiries(chosen)[0])
            wanted = strikes_around(files, chosen, strikes)
            with _progress("contracts") as hear:
                print(download_options(source, contracts, wanted, folder / f"{index}-options", last=last, hear=hear))
        missing = [file for file in files if file.asked and not file.candles]
        Console(stderr=True).print(f"next: bot backtest --data {folder / index}", soft_wrap=True)
    return 1 if missing else 0


def backtest(
    *,
    data: Annotated[list[str] | None, Parameter(consume_multiple=True, negative="")] = None,
    from_: Annotated[date | None, Parameter(name="--from")] = None,
    to: date | None = None,
    set: Annotated[list[str] | None, Parameter(negative="")] = None,  # noqa: A002 (the option's natural name)
    slippage_paise: int = 5,
    spread: float = 1.875,
    volatility: float = 0.13,
    folds: int = 1,
    options: Annotated[list[str] | None, Parameter(consume_multiple=True, negative="")] = None,
    walk_forward: Path | None = None,
    fit_days: int = 60,
    trade_days: int = 20,
    json: Path | None = None,
    home: Path = HOME,
) -> int:
    """Test settings on recorded index prices: the live rules decide, fills are pessimistic.

    Args:
        data: recordings of the index, CSV or Parquet: one-minute bars (Instrument,Date,Time,Open,High,Low,Close),
            five-second candles (close time, high, low, close), or ticks (at_ms,security,price_paise);
            a folder stands for the files in it; ledger:SESSION is what one of our own sessions recorded.
        from_: the first day; the recordings' first if not given. Days before it warm the indicators up.
        to: the last day; the recordings' last if not given.
        set: a setting of the rules, `--set candle_seconds=60`; may be repeated.
        slippage_paise: beyond bid or ask, per unit and order.
        spread: half-spread in units of the simulated market's; 1.24 is usual, 1.875 the widest.
        volatility: implied volatility at the money.
        folds: show so many stretches of the days by themselves as well.
        options: recorded one-minute candles of contracts, as `bot download --strikes` writes them: their premiums are
            taken where there are any, and it is said which trades were made at them.
        walk_forward: a grid file as for `bot sweep`: before each stretch its best settings on the days before are
            chosen, then traded; recordings, dates and fixed settings are the file's.
        fit_days: so many trading days a choice is made on.
        trade_days: so many days are traded before the next choice.
        json: write the result for programs to this file.
        home: where the report goes.
    """
    from tasks.backtest.grid import GridError
    from tasks.backtest.market import MarketModel
    from tasks.backtest.run import BacktestRequest, run_backtest

    with _plain_errors(GridError):
        if walk_forward is not None:
            if data or from_ or to or set or options:
                raise ValueError("expected recordings, dates and settings in the grid file alone, found some beside it")
            from tasks.backtest.grid import read_grid
            from tasks.backtest.walk import walk_forward as walk

            with _progress_of_parts() as hear_part:
                result = walk(read_grid(walk_forward), fit_days=fit_days, trade_days=trade_days, hear=hear_part)
            return _show(result, json, home)
        if not data:
            raise ValueError("expected recordings, found none: say --data FILE, or --walk-forward GRID")
        request = BacktestRequest(
            files=tuple(data),
            settings=settings_of(set or ()),
            first=from_,
            last=to,
            model=MarketModel(volatility=volatility, spread=spread, slippage_paise=slippage_paise),
            folds=folds,
            options=tuple(options or ()),
        )
        with _progress("days") as hear:
            result = run_backtest(request, progress=lambda done, days, _: hear(done, days))
        return _show(result, json, home)


def _show(result: "BacktestResult", json: Path | None, home: Path) -> int:
    from tasks.backtest.page import write_page
    from tasks.backtest.run import write_json

    if json is not None:
        write_json(result, json)
    print("\n".join(result.lines()))
    print(f"report: {write_page(result, home.resolve())}")
    return 0


def sweep(
    grid: Path,
    *,
    runner: Literal["local", "dask", "ray"] = "local",
    address: str | None = None,
    best: int = 20,
    home: Path = HOME,
) -> int:
    """Try every combination of a grid file, rank them, and say what the best one is worth. Started again, it goes on.

    Args:
        grid: recordings, fixed settings and values to combine, as YAML (docs/research.md shows one).
        runner: local uses all cores of this machine; dask and ray a cluster, through a Prefect run.
        address: the Dask scheduler, tcp://host:8786, or Ray's head, ray://host:10001; this machine's if not given.
        best: so many rows are printed; all of them are in ranking.csv.
        home: where results and reports go.
    """
    from tasks.backtest.grid import GridError, read_grid

    with _plain_errors(GridError):
        read = read_grid(grid)
        if runner != "local" or address is not None:
            from flows.sweep import runner_of
            from flows.sweep import sweep as sweep_flow

            runner_of(runner, address)
            state = sweep_flow(str(grid.resolve()), runner, address, return_state=True)
            print(f"{state.name}: {state.message}")
            if not state.is_completed():
                return 1
        from rich.console import Console
        from rich.table import Table

        from tasks.backtest.ranking import rank, render_ranking
        from tasks.backtest.sweep import run_sweep, sweep_name, sweep_words
        from tasks.backtest.sweep_page import write_sweep

        store = home.resolve() / "sweeps" / "outcomes.sqlite"
        with _progress("combinations") as hear:
            ranking = rank(run_sweep(read, store, progress=hear), read.axes)
        head, *rows = render_ranking(ranking, most=best)
        table, columns = Table(box=None), list(zip(*rows, strict=True)) or [()] * len(head)
        for column, name in enumerate(head):
            title = name.replace("_", " ")
            table.add_column(title, justify="right", width=max(map(len, (*title.split(), *columns[column]))))
        for row in rows:
            table.add_row(*row)
        # A narrow terminal wraps a line, it never cuts a number.
        Console(width=1_000).print(table)
        words = sweep_words(read)
        print("\n".join((*words, *ranking.advice)))
        if ranking.rows:
            chosen = "".join(f" --set {name}={ranking.rows[0].chosen[name]}" for name in read.axes)
            fixed = "".join(f" --set {name}={value}" for name, value in read.settings.items())
            dates = "".join(f" --{name} {day}" for name, day in (("from", read.first), ("to", read.last)) if day)
            print(f"its trades: bot backtest --data {' '.join(map(str, read.files))}{dates}{fixed}{chosen}")
            print(f"is it more than hindsight? bot backtest --walk-forward {grid}")
        print(f"report: {write_sweep(ranking, home.resolve(), sweep_name(read), words)}")
    return 0


def check_lookahead(
    *,
    data: Annotated[list[str], Parameter(consume_multiple=True)],
    from_: Annotated[date | None, Parameter(name="--from")] = None,
    to: date | None = None,
    set: Annotated[list[str] | None, Parameter(negative="")] = None,  # noqa: A002 (the option's natural name)
    days: int = 3,
    cuts: int = 10,
    starts: int = 20,
    seed: int = 1,
) -> int:
    """Show that no decision knows the future, and how many candles the signals need. Exit code 1: one does.

    Args:
        data: recordings of the index, as for `bot backtest`.
        from_: the first day.
        to: the last day.
        set: a setting of the rules; may be repeated.
        days: so many of the days are cut, spread over all of them.
        cuts: so many cuts of each, half at random, half right after something was decided.
        starts: so many random starts of the indicators.
        seed: which random ones.
    """
    from tasks.backtest.lookahead import check_lookahead as check
    from tasks.backtest.lookahead import check_warm_up
    from tasks.backtest.run import BacktestRequest, open_market

    with _plain_errors():
        request = BacktestRequest(files=tuple(data), settings=settings_of(set or ()), first=from_, last=to)
        market = open_market(request)
        chosen = market.days[:: max(1, len(market.days) // days)][:days]
        answer = check(chosen, request.params, request.model, cuts=cuts, seed=seed)
        for difference in answer.differences:
            print(difference)
        found = f"{len(answer.differences)} differ" if answer.differences else "none changed"
        print(f"{answer.decisions} decisions before {answer.cuts} cuts of {len(chosen)} days: {found}")
        warm_up = check_warm_up(market.days[: max(days, 5)], request.params, starts=starts, seed=seed)
        print(
            f"signals agree with the full history after {warm_up.median} candles in the middle case and"
            f" {warm_up.largest} in the worst of {warm_up.starts} random starts"
            + (f"; {warm_up.never} never agreed" if warm_up.never else "")
        )
    return 1 if answer.differences else 0


@contextmanager
def _plain_errors(*more: type[Exception]) -> Iterator[None]:
    """What is wrong with the input is said in one message, without a traceback."""
    from pydantic import ValidationError

    from strategy.recordings import RecordingError

    faults: tuple[type[Exception], ...] = (RecordingError, ValueError, *more)
    try:
        yield
    except faults as error:
        said = (
            [fault["msg"].removeprefix("Value error, ") for fault in error.errors()]
            if isinstance(error, ValidationError)
            else [str(error)]
        )
        print("\n".join(said), file=sys.stderr)
        raise SystemExit(2) from None


@contextmanager
def _progress(unit: str) -> Iterator[Callable[[int, int], None]]:
    """A bar with an estimate of the time left."""
    with _progress_of_parts() as hear:
        yield lambda done, total: hear(unit, done, total)


@contextmanager
def _progress_of_parts() -> Iterator[Callable[[str, int, int], None]]:
    """A bar for each part of the work, with an estimate of the time left."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (BarColumn(), MofNCompleteColumn(), TextColumn("{task.description}"), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        parts: dict[str, TaskID] = {}

        def hear(what: str, done: int, total: int) -> None:
            if what not in parts:
                parts[what] = progress.add_task(what, total=total)
            progress.update(parts[what], completed=done, total=total)

        yield hear
