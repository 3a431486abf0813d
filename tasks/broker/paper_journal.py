"""What was ordered and filled on paper, one line of JSON a change, so that a restart finds it again.

Invariants:
1. A change is on disk before anyone is told of it.
2. A line torn by a crash was told to nobody; it is dropped when the journal is read.
"""

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any

from strategy.events import Side
from tasks.broker import BrokerOrder, BrokerTrade, OrderStatus


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldOrder:
    """A paper order with what the port's order does not carry."""

    order: BrokerOrder
    product: str
    trading_symbol: str


class PaperJournal:
    """The journal of one day."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def append(self, held: HeldOrder, trade: BrokerTrade | None) -> None:
        """Write one change of an order, with the fill that made it."""
        line = json.dumps({"held": _as_json(held), "trade": _as_json(trade) if trade else None})
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._path.open("a", encoding="utf-8") as file:
            file.write(line + "\n")
            file.flush()
            os.fsync(file.fileno())

    def read(self) -> Iterator[tuple[HeldOrder, BrokerTrade | None]]:
        """Every change in order; the last one of an order is how it stands."""
        if not self._path.exists():
            return
        whole, _, torn = self._path.read_text(encoding="utf-8").rpartition("\n")
        if torn:
            self._path.write_text(whole + "\n" if whole else "", encoding="utf-8")
        for line in whole.splitlines():
            found = json.loads(line)
            yield _held_from(found["held"]), _trade_from(found["trade"])


def _as_json(value: Any) -> Any:
    if is_dataclass(value):
        return {field.name: _as_json(getattr(value, field.name)) for field in fields(value)}
    return value


def _held_from(found: Mapping[str, Any]) -> HeldOrder:
    order = found["order"]
    return HeldOrder(
        order=BrokerOrder(**{**order, "side": Side(order["side"]), "status": OrderStatus(order["status"])}),
        product=found["product"],
        trading_symbol=found["trading_symbol"],
    )


def _trade_from(found: Mapping[str, Any] | None) -> BrokerTrade | None:
    return BrokerTrade(**{**found, "side": Side(found["side"])}) if found else None
