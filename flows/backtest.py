"""Backtest: a recorded past through the live rules, as a run with its own artifacts."""

from datetime import date
from pathlib import Path
from typing import Annotated, Any

from prefect import flow, get_run_logger
from prefect.artifacts import create_markdown_artifact
from prefect.client.schemas.objects import State
from prefect.states import Completed
from pydantic import Field

from tasks.backtest.market import MarketModel
from tasks.backtest.page import render_backtest, write_page
from tasks.backtest.replay import DayRun
from tasks.backtest.run import BacktestRequest, run_backtest, write_json
from tasks.settings import Settings


@flow(name="backtest", retries=0)
def backtest(  # noqa: PLR0917 (a form)
    files: list[str],
    settings: dict[str, Any] | None = None,
    first: date | None = None,
    last: date | None = None,
    slippage_paise: Annotated[int, Field(ge=0)] = 5,
    spread: Annotated[float, Field(ge=0)] = 1.875,
    volatility: Annotated[float, Field(gt=0)] = 0.13,
    folds: Annotated[int, Field(ge=1)] = 1,
    json_file: str | None = None,
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
    """
    log = get_run_logger()
    request = BacktestRequest(
        files=tuple(files),
        settings=settings or {},
        first=first,
        last=last,
        model=MarketModel(volatility=volatility, spread=spread, slippage_paise=slippage_paise),
        folds=folds,
    )

    def hear(done: int, days: int, run: DayRun) -> None:
        log.info("%s: %d trades (%d of %d days)", run.past.day, len(run.trades), done, days)

    result = run_backtest(request, progress=hear)
    if json_file:
        write_json(result, Path(json_file))
    page = write_page(result, Settings().home)
    create_markdown_artifact(key="backtest", markdown=render_backtest(result, page), description=result.lines()[0])
    return Completed(name="Tested", message="; ".join(result.lines()[:3]))
