"""What several commands take: an index, a mode, settings as `name=value`, and where things are."""

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from strategy.instruments import Underlying

IndexName = Literal["NIFTY", "BANKNIFTY", "FINNIFTY", "SENSEX"]
ModeName = Literal["rehearsal", "paper", "live"]
PROJECT = Path(__file__).resolve().parents[2]
HOME = PROJECT / ".bot"


def underlying_of(index: IndexName | None) -> "Underlying | None":
    """The index of an option, None for all of them."""
    from strategy.instruments import Underlying

    return Underlying(index) if index else None


def settings_of(assignments: "list[str] | tuple[str, ...]") -> dict[str, Any]:
    """`name=value` pairs as settings. Raises ValueError."""
    found: dict[str, Any] = {}
    for assignment in assignments:
        name, equals, value = assignment.partition("=")
        if not equals:
            raise ValueError(f"expected --set name=value, found {assignment!r}")
        found[name.strip()] = value.strip()
    return found
