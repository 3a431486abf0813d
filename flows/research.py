"""Commands that look at the past: backtest, sweep and what keeps them honest. They need no server and no account."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import date
from pathlib import Path
from typing import Annotated, Any

from cyclopts import App, Parameter

PROJECT = Path(__file__).resolve().parent.parent


def register(app: App) -> None:
    """Add the commands to `bot`."""
    app.command(backtest)


def backtest(
    *,
    data: Annotated[list[Path], Parameter(consume_multiple=True)],
    from_: Annotated[date | None, Parameter(name="--from")] = None,
    to: date | None = None,
    set: Annotated[list[str] | None, Parameter(negative="")] = None,  # noqa: A002 (the option's natural name)
    slippage_paise: int = 5,
    spread: float = 1.875,
    volatility: float = 0.13,
    folds: int = 1,
    json: Path | None = None,
    home: Path = PROJECT / ".bot",
) -> int:
    """Test settings on recorded index prices: the live rules decide, fills are pessimistic.

    Args:
        data: recordings of the index, CSV or Parquet: one-minute bars (Instrument,Date,Time,Open,High,Low,Close),
            five-second candles (close time, high, low, close) or ticks (at_ms,security,price_paise).
        from_: the first day; the recordings' first if not given. Days before it warm the indicators up.
        to: the last day; the recordings' last if not given.
        set: a setting of the rules, `--set candle_seconds=60`; may be repeated.
        slippage_paise: beyond bid or ask, per unit and order.
        spread: half-spread in units of the simulated market's; 1.24 is usual, 1.875 the widest.
        volatility: implied volatility at the money.
        folds: show so many stretches of the days by themselves as well.
        json: write the result for programs to this file.
        home: where the report goes.
    """
    from tasks.backtest.market import MarketModel
    from tasks.backtest.page import write_page
    from tasks.backtest.run import BacktestRequest, run_backtest, write_json

    with _plain_errors():
        request = BacktestRequest(
            files=tuple(data),
            settings=settings_of(set or ()),
            first=from_,
            last=to,
            model=MarketModel(volatility=volatility, spread=spread, slippage_paise=slippage_paise),
            folds=folds,
        )
        with _progress("days") as hear:
            result = run_backtest(request, progress=lambda done, days, _: hear(done, days))
        if json is not None:
            write_json(result, json)
        print("\n".join(result.lines()))
        print(f"report: {write_page(result, home.resolve())}")
    return 0


def settings_of(assignments: "list[str] | tuple[str, ...]") -> dict[str, Any]:
    """`name=value` pairs as settings. Raises ValueError."""
    found: dict[str, Any] = {}
    for assignment in assignments:
        name, equals, value = assignment.partition("=")
        if not equals:
            raise ValueError(f"expected --set name=value, found {assignment!r}")
        found[name.strip()] = value.strip()
    return found


@contextmanager
def _plain_errors() -> Iterator[None]:
    """What is wrong with the input is said in one message, without a traceback."""
    from strategy.recordings import RecordingError

    try:
        yield
    except (RecordingError, ValueError) as error:
        print(error, file=sys.stderr)
        raise SystemExit(2) from None


@contextmanager
def _progress(unit: str) -> Iterator[Callable[[int, int], None]]:
    """A bar with an estimate of the time left."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (BarColumn(), MofNCompleteColumn(), TextColumn(unit), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("", total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total)
