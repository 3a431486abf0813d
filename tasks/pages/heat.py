"""Results by hour of entry and weekday, as the cells of a table: which hours pay, and on which days."""

from collections.abc import Iterable
from dataclasses import dataclass

from strategy.analysis import WEEKDAYS


@dataclass(frozen=True, slots=True)
class Cell:
    """The trades of one hour and weekday; `share` is the net result against the largest of all cells, -100 to 100."""

    trades: int
    net_paise: int
    share: int


@dataclass(frozen=True, slots=True)
class HeatMap:
    """One row per weekday that has trades, one cell per hour from the first to the last that has; None: no trade."""

    hours: tuple[int, ...]
    rows: tuple[tuple[str, tuple[Cell | None, ...]], ...]

    @property
    def cells(self) -> int:
        """Hours with trades; with one there is nothing to compare."""
        return sum(cell is not None for _, row in self.rows for cell in row)


def heat_map(trades: Iterable[tuple[int, int, int]]) -> HeatMap:
    """The map of (weekday, 0 is Monday; hour of entry; net paise) of closed trades."""
    sums: dict[tuple[int, int], tuple[int, int]] = {}
    for weekday, hour, net_paise in trades:
        count, total = sums.get((weekday, hour), (0, 0))
        sums[weekday, hour] = (count + 1, total + net_paise)
    if not sums:
        return HeatMap((), ())
    most = max(abs(total) for _, total in sums.values()) or 1
    present = [hour for _, hour in sums]
    hours = tuple(range(min(present), max(present) + 1))
    cells = {at: Cell(count, total, round(100 * total / most)) for at, (count, total) in sums.items()}
    return HeatMap(
        hours,
        tuple(
            (WEEKDAYS[weekday], tuple(cells.get((weekday, hour)) for hour in hours))
            for weekday in sorted({weekday for weekday, _ in sums})
        ),
    )
