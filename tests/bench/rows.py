"""The rows that the benchmarks end with: printed by each, and by all together as one table.

    python tests/bench/rows.py ROWS.jsonl [README.md]

With BENCH_ROWS naming a file, every benchmark adds its rows to it, and this prints them as one Markdown table; it also
puts it between the marks of a page, if one is named.
"""

import json
import os
import sys
from dataclasses import asdict, dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Row:
    """One comparison. `ratio` is how many times better ours is; with `goal` below 1 or `most`, less is better."""

    what: str
    ours: str  # the figure of this machine and moment, with its unit
    than: str = ""  # what the ratio compares with
    ratio: float | None = None
    goal: float | None = None
    most: bool = False  # the goal is an upper limit

    @property
    def verdict(self) -> str:
        """Met, not met, or nothing to meet."""
        if self.goal is None or self.ratio is None:
            return ""
        return "met" if (self.ratio <= self.goal if self.most else self.ratio >= self.goal) else "NOT MET"

    @property
    def cells(self) -> tuple[str, ...]:
        """As the table has them."""
        sign = "≤" if self.most else "≥"
        goal = "" if self.goal is None else f"{sign} {number(self.goal)}"
        return self.what, self.ours, self.than, "" if self.ratio is None else number(self.ratio), goal, self.verdict


def number(value: float) -> str:
    """With as many digits as mean something."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


MARKS = ("<!-- speed -->", "<!-- /speed -->")
HEADER = ("what", "ours", "compared with", "ratio", "goal", "")


def report(title: str, rows: list[Row]) -> None:
    """Print the rows, and keep them where BENCH_ROWS says."""
    print(f"\n{title}")
    widths = [max(len(line[column]) for line in (HEADER, *(row.cells for row in rows))) for column in range(6)]
    for line in (HEADER, *(row.cells for row in rows)):
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())
    if file := os.environ.get("BENCH_ROWS"):
        with Path(file).open("a", encoding="utf-8") as kept:
            kept.writelines(json.dumps(asdict(row)) + "\n" for row in rows)


def markdown(rows: list[Row]) -> str:
    """All rows as one table."""
    lines = [HEADER, ("---",) * 6, *(row.cells for row in rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def put_into(page: Path, table: str) -> None:
    """Replace what stands between the marks."""
    before, _, rest = page.read_text(encoding="utf-8").partition(MARKS[0])
    _, found, after = rest.partition(MARKS[1])
    assert found, f"{page} was expected to have {MARKS[0]} and {MARKS[1]}"
    page.write_text(f"{before}{MARKS[0]}\n{table}{MARKS[1]}{after}", encoding="utf-8")


if __name__ == "__main__":
    lines = Path(sys.argv[1]).read_text(encoding="utf-8").splitlines()
    made = markdown([Row(**json.loads(line)) for line in lines])
    print("\n" + made)
    if len(sys.argv) > 2:
        put_into(Path(sys.argv[2]), made)
