"""`bot`, the command line: a thin way to start flows and look at their results.

Nothing heavy is imported before a command needs it, so that `bot --help` answers at once.
"""

import sys

from cyclopts import App

from flows.cli import controls, evening, replay, research, running, upkeep

app = App(
    name="bot",
    help="Intraday index-options trading bot for DhanHQ. The operator's screen is the Prefect UI; these commands "
    "start the same flows and print the same answers.",
    help_format="rich",
)
for room in (running, controls, evening, replay, research, upkeep):
    room.register(app)


def main() -> None:
    """Entry point of `bot`."""
    result = app()
    sys.exit(result if isinstance(result, int) else 0)
