"""The stage for crashes, one per process; and what `make faults` can be told, with the table that it prints."""

import shutil
from collections import defaultdict
from collections.abc import Callable, Iterator

import pytest
from rich.console import Console
from rich.table import Table

from .stage import Market, Play, Runner, Stage
from .verdict import COLUMNS, Verdict


def pytest_addoption(parser: pytest.Parser) -> None:
    """Known only where this folder is named on the command line, as `make faults` does."""
    group = parser.getgroup("faults")
    group.addoption("--every-point", action="store_true", help="every step, both databases, every fault")
    group.addoption("--random", type=int, default=0, metavar="N", help="at least about N kills at random moments")
    group.addoption("--seed", type=int, default=1, metavar="S", help="of the random moments")


def pytest_report_header(config: pytest.Config) -> str:
    """What it takes to draw the same random kills again."""
    return f"random kills: about {config.getoption('random', 0)}, --seed {config.getoption('seed', 1)}"


@pytest.fixture(scope="session")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """A simulator and a runner; each play begins its day anew."""
    home = tmp_path_factory.mktemp("faults")
    market, runner = Market(home), Runner(home / "runner.log")
    yield Stage(market=market, runner=runner, home=home, master=home / "instruments")
    runner.close()
    market.close()


@pytest.fixture
def play(stage: Stage, record_property: Callable[[str, object], None]) -> Callable[..., Verdict]:
    """play(Play(…), ledger_url, …): the verdict; its numbers go into the table."""

    def played(name: str, what: Play, ledger_url: str, **options) -> Verdict:
        verdict = stage.play(what, ledger_url, **options)
        record_property("faults", {"point": name, "kills": verdict.died, "falls": verdict.fell, **verdict.counts})
        with (stage.home / "verdicts.txt").open("a") as file:
            file.write(f"{name}: {'green' if verdict.is_green else 'RED'}: {verdict}\n")
        if verdict.is_green:
            shutil.rmtree(verdict.home)
        return verdict

    return played


def pytest_terminal_summary(terminalreporter, config: pytest.Config) -> None:
    """One line per point: how often it was played, how many kills that were, and what went wrong."""
    sums: dict[str, dict[str, int]] = defaultdict(lambda: defaultdict(int))
    for outcome in ("passed", "failed"):
        for report in terminalreporter.stats.get(outcome, ()):
            for name, told in getattr(report, "user_properties", ()):
                if name == "faults" and report.when == "call":
                    line = sums[told["point"]]
                    line["plays"] += 1
                    for column in ("kills", "falls", *COLUMNS):
                        line[column] += told[column]
    if not sums:
        return
    seed = config.getoption("seed", default=1)
    table = Table("point", *("plays", "kills", "falls", *COLUMNS), title=f"killed and started again (seed {seed})")
    columns = ("plays", "kills", "falls", *COLUMNS)
    for point in sorted(sums):
        table.add_row(point, *(str(sums[point][column]) for column in columns))
    table.add_section()
    table.add_row("all", *(str(sum(line[column] for line in sums.values())) for column in columns))
    Console(width=140).print(table)
