"""Backtest: a recorded past through the live rules, as a run with its own artifacts."""

from datetime import date
from pathlib import Path
from typing import Annotated, Any

from prefect import flow, get_run_logger
from prefect.artifacts import create_markdown_artifact, create_table_artifact
from prefect.client.schemas.objects import State
from prefect.states import Completed
from pydantic import Field

from tasks.backtest.market import MarketModel
from tasks.backtest.page import render_backtest, trade_rows, write_page
from tasks.backtest.replay import DayRun
from tasks.backtest.result import BacktestResult
from tasks.backtest.run import BacktestRequest, run_backtest, write_json
from tasks.settings import Settings


@flow(name="backtest", retries=0)
def backtest(  # noqa: PLR0917 (a form)
    files: list[str] | None = None,
    settings: dict[str, Any] | None = None,
    first: date | None = None,
    last: date | None = None,
    slippage_paise: Annotated[int, Field(ge=0)] = 5,
    spread: Annotated[float, Field(ge=0)] = 1.875,
    volatility: Annotated[float, Field(gt=0)] = 0.13,
    folds: Annotated[int, Field(ge=1)] = 1,
    json_file: str | None = None,
    options: list[str] | None = None,
    walk_forward: str | None = None,
    fit_days: Annotated[int, Field(ge=2)] = 60,
    trade_days: Annotated[int, Field(ge=1)] = 20,
) -> State[Any]:
    """Test settings on recorded index prices; the live rules decide, fills are pessimistic.

    Args:
        files: recordings of the index, CSV or Parquet: one-minute bars, five-second candles or ticks;
            or ledger:SESSION, what one of our own sessions recorded.
        settings: settings of the rules that differ from the defaults.
        first: the first day; the recordings' first if empty.
        last: the last day; the recordings' last if empty.
        slippage_paise: beyond bid or ask, per unit and order.
        spread: half-spread in units of the simulated market's; 1.24 is usual, 1.875 the widest.
        volatility: implied volatility at the money.
        folds: test so many stretches of the days by themselves as well.
        json_file: where to write the result for programs.
        options: recorded one-minute candles of contracts, whose premiums are taken where there are any.
        walk_forward: a grid file as for a sweep: the best settings of the days before are chosen for each stretch of
            days. Recordings, dates and fixed settings are the file's.
        fit_days: so many trading days a choice is made on.
        trade_days: so many days are traded before the next choice.
    """
    log = get_run_logger()
    if walk_forward:
        # Choosing needs the packages of [sweep], a plain backtest does not.
        from tasks.backtest.grid import read_grid  # noqa: PLC0415
        from tasks.backtest.walk import walk_forward as walk  # noqa: PLC0415

        if files or settings or first or last or options:
            raise ValueError("expected recordings, dates and settings in the grid file alone, found some beside it")

        def hear_part(what: str, done: int, of: int) -> None:
            if done % 50 == 0 or done == of:
                log.info("%d of %d %s", done, of, what)

        grid = read_grid(Path(walk_forward))
        return reported(walk(grid, fit_days=fit_days, trade_days=trade_days, hear=hear_part), json_file)
    if not files:
        raise ValueError("expected recordings, found none: give files, or a grid file to walk forward")
    request = BacktestRequest(
        files=tuple(files),
        settings=settings or {},
        first=first,
        last=last,
        model=MarketModel(volatility=volatility, spread=spread, slippage_paise=slippage_paise),
        folds=folds,
        options=tuple(options or ()),
    )

    def hear(done: int, days: int, run: DayRun) -> None:
        log.info("%s: %d trades (%d of %d days)", run.past.day, len(run.trades), done, days)

    return reported(run_backtest(request, progress=hear), json_file)


def reported(result: BacktestResult, json_file: str | None) -> State[Any]:
    """The result as page, artifact and file; the run's state is its sum."""
    if json_file:
        write_json(result, Path(json_file))
    page = write_page(result, Settings().home)
    create_markdown_artifact(key="backtest", markdown=render_backtest(result, page), description=result.lines()[0])
    if result.trades:
        create_table_artifact(key="backtest-trades", table=trade_rows(result), description=result.lines()[0])
    return Completed(name="Tested", message="; ".join(result.lines()[:3]))
