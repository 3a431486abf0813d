"""What a sweep tries: a file that names recordings, fixed settings, and values to combine.

    data: [nifty_2024.csv]            # relative to this file
    from: 2024-01-01
    to: 2024-08-23
    settings: {candle_seconds: 60, htf_seconds: 300}
    grid:
      supertrend_period: [7, 10, 14]
      supertrend_multiplier: {from: 2, to: 4, step: 0.5}
      target_points: [0, 10, 20]
    draws: 200                        # so many of the combinations, drawn at random; all of them if left out
    seed: 7
    model: {slippage_paise: 5, spread: 1.875, volatility: 0.13}

Invariants:
1. The same file gives the same combinations in the same order.
2. Combinations that contradict themselves are left out and counted, unknown settings are refused.
"""

import hashlib
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from itertools import product
from pathlib import Path
from typing import Any, Final

import numpy as np
import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from strategy.params import Params
from strategy.recordings import RecordingError
from tasks.backtest.market import MarketModel
from tasks.backtest.prices import files_of

COMBINATIONS_MAX: Final = 5_000_000
# What combinations have in common: computed once for all that agree on it, so these are tried together.
SHARED: Final = (
    "candle_seconds",
    "candle_grace_seconds",
    "htf_filter",
    "htf_seconds",
    "supertrend_period",
    "supertrend_multiplier",
    "macd_confirmation",
    "macd_fast",
    "macd_slow",
    "macd_signal",
    "entry_start",
    "entry_cutoff",
    "squareoff_at",
)


class GridError(Exception):
    """The file cannot be swept; the message says what was expected and what was found."""


class _Span(BaseModel):
    model_config = ConfigDict(extra="forbid", populate_by_name=True)

    first: float = Field(alias="from")
    last: float = Field(alias="to")
    step: float = Field(gt=0)

    def values(self) -> list[float | int]:
        count = math.floor((self.last - self.first) / self.step + 1e-9) + 1
        found = [round(self.first + number * self.step, 10) for number in range(count)]
        return [int(value) if value == int(value) else value for value in found]


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid")

    slippage_paise: int = 5
    spread: float = 1.875
    volatility: float = 0.13


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid", populate_by_name=True)

    data: list[str]
    first: date | None = Field(default=None, alias="from")
    last: date | None = Field(default=None, alias="to")
    settings: dict[str, Any] = {}
    grid: dict[str, list[Any] | _Span]
    draws: int | None = Field(default=None, ge=1)
    seed: int = 0
    model: _Model = _Model()


@dataclass(frozen=True, slots=True, kw_only=True)
class Combination:
    """One choice of the swept settings, by a key that names it for ever."""

    key: str
    chosen: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Grid:
    """A sweep as read."""

    files: tuple[Path, ...]
    first: date | None
    last: date | None
    settings: Mapping[str, Any]
    axes: Mapping[str, tuple[Any, ...]]
    model: MarketModel
    combinations: tuple[Combination, ...]  # those that share their indicators side by side
    contradictory: int
    possible: int

    def params(self, combination: Combination) -> Params:
        """The whole settings of a combination."""
        return Params.model_validate({**self.settings, **combination.chosen})

    def to_wire(self) -> str:
        """What a worker needs to know, as text."""
        return json.dumps(
            {
                "files": [str(file) for file in self.files],
                "first": self.first and self.first.isoformat(),
                "last": self.last and self.last.isoformat(),
                "settings": dict(self.settings),
                "model": [self.model.volatility, self.model.spread, self.model.slippage_paise],
            },
            default=str,
            sort_keys=True,
        )


def read_grid(file: Path) -> Grid:
    """Read and expand a file. Raises GridError."""
    try:
        read = _File.model_validate(yaml.safe_load(file.read_text(encoding="utf-8")))
    except OSError as error:
        raise GridError(f"expected a readable file, found {error}; check the path") from error
    except yaml.YAMLError as error:
        raise GridError(f"expected YAML in {file}, found {error}") from error
    except ValidationError as error:
        raise GridError(f"{file} cannot be swept:\n{error}") from error
    try:
        recorded = files_of((file.parent / name).resolve() for name in read.data)
    except RecordingError as error:
        raise GridError(str(error)) from error
    axes = {name: tuple(span.values() if isinstance(span, _Span) else span) for name, span in read.grid.items()}
    unknown = sorted((axes.keys() | read.settings.keys()) - Params.model_fields.keys())
    if unknown:
        raise GridError(f"expected settings of the rules, found {', '.join(unknown)} in {file}")
    if "index" in axes:
        raise GridError(f"expected one index, found several in the grid of {file}; sweep each by itself")
    empty = sorted(name for name, values in axes.items() if not values)
    if empty or not axes:
        raise GridError(f"expected values for each swept setting, found none for {', '.join(empty) or 'any'} in {file}")
    possible = math.prod(len(values) for values in axes.values())
    if possible > COMBINATIONS_MAX and read.draws is None:
        raise GridError(f"{possible} combinations are more than {COMBINATIONS_MAX}: say draws, or sweep less at once")
    order = sorted(axes, key=lambda name: (name not in SHARED, SHARED.index(name) if name in SHARED else 0))
    combinations: list[Combination] = []
    contradictory = 0
    for chosen in _choices({name: axes[name] for name in order}, possible, read.draws, read.seed):
        try:
            Params.model_validate({**read.settings, **chosen})
        except ValidationError as error:
            if len(combinations) == 0 and contradictory == possible - 1:
                raise GridError(f"every combination contradicts itself, the last one so:\n{error}") from error
            contradictory += 1
            continue
        text = json.dumps(chosen, default=str, sort_keys=True)
        combinations.append(Combination(key=hashlib.sha256(text.encode()).hexdigest()[:16], chosen=chosen))
    return Grid(
        files=recorded,
        first=read.first,
        last=read.last,
        settings=read.settings,
        axes=axes,
        model=MarketModel(
            volatility=read.model.volatility, spread=read.model.spread, slippage_paise=read.model.slippage_paise
        ),
        combinations=tuple(combinations),
        contradictory=contradictory,
        possible=possible,
    )


def batches_of(combinations: Sequence[Combination], size: int) -> Iterator[tuple[Combination, ...]]:
    """Neighbours together: what shares its indicators is tried by the same worker."""
    for start in range(0, len(combinations), size):
        yield tuple(combinations[start : start + size])


def _choices(
    axes: Mapping[str, Sequence[Any]], possible: int, draws: int | None, seed: int
) -> Iterator[dict[str, Any]]:
    if draws is None or draws >= possible:
        for values in product(*axes.values()):
            yield dict(zip(axes, values, strict=True))
        return
    generator = np.random.Generator(np.random.PCG64(seed))
    numbers: set[int] = set()
    while len(numbers) < draws:
        numbers.update(generator.integers(0, possible, draws - len(numbers)).tolist())
    for number in sorted(numbers):
        rest, chosen = number, {}
        for name in reversed(list(axes)):
            rest, position = divmod(rest, len(axes[name]))
            chosen[name] = axes[name][position]
        yield {name: chosen[name] for name in axes}
