"""What options were really worth: recorded candles and quotes in the place of a model's prices, where there are any.

Candles are one-minute bars of contracts (`OPTION_COLUMNS`), as `bot download --strikes` writes them; quotes are what
our own sessions heard, with the bid and ask of the moment. A bar's second has its price by the rule of
`strategy.recordings`, and the model's spread around it. Where neither is there, the model's change since the last
recorded price is added to that price; before the first one of the day, the model speaks alone.

Invariants:
1. A quote depends on nothing recorded after its moment, but for the minute that it lies in, as the index does.
2. Each quote says whether it was recorded.
3. A contract is one expiry, strike and type: weekly and monthly ones are never taken for each other.
"""

from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from math import ceil, floor
from pathlib import Path
from typing import TypeAlias

import numpy as np

from strategy.events import Tick
from strategy.instruments import Contract, OptionType
from strategy.premiums import HALF_SPREAD_PAISE, HALF_SPREAD_SHARE, TICK_PAISE
from strategy.recordings import Bar, RecordingError
from tasks.backtest.market import MINUTE_MS, MarketModel, OptionQuote, PastDay
from tasks.backtest.prices import columns_of, minute_ticks
from tasks.clock import IST, ist

OPTION_COLUMNS = ("Instrument", "Expiry", "Strike", "Type", "Date", "Time", "Open", "High", "Low", "Close")
# A quote that is older says nothing about now.
FRESH_MS = 10_000
Key: TypeAlias = tuple[date, date, int, OptionType]  # day, expiry, strike in points, type


@dataclass(slots=True)
class _Minutes:
    """The bars of a contract on a day as prices of each second, and as they would be the other way round."""

    starts_ms: list[int]
    prices: list[list[int]]
    others: list[list[int]]

    def at(self, at_ms: int, *, turned: bool) -> tuple[int, int, bool]:
        """(moment, price, whether it is of this very minute) of the last bar that had begun; moment 0: none had."""
        row = bisect_right(self.starts_ms, at_ms) - 1
        if row < 0:
            return 0, 0, False
        start_ms, seconds = self.starts_ms[row], (self.others if turned else self.prices)[row]
        if at_ms < start_ms + MINUTE_MS:
            return at_ms, seconds[min((at_ms - start_ms) // 1000, len(seconds) - 1)], True
        return start_ms + MINUTE_MS - 1, seconds[-1], False


@dataclass(slots=True)
class _Heard:
    """The quotes of a contract on a day, in order of time."""

    at_ms: list[int] = field(default_factory=list)
    quotes: list[OptionQuote] = field(default_factory=list)


class RecordedOptions:
    """Premiums of a backtest: recorded ones, and `model` where there are none."""

    def __init__(self, model: MarketModel) -> None:
        self.model = model
        self._minutes: dict[Key, _Minutes] = {}
        self._heard: dict[Key, _Heard] = {}

    @property
    def days(self) -> tuple[date, ...]:
        """Days with any recorded premium, oldest first."""
        return tuple(sorted({key[0] for key in (*self._minutes, *self._heard)}))

    @property
    def words(self) -> tuple[str, ...]:
        """What it assumes, for people."""
        return (
            "premiums are recorded ones where there are any; seconds inside their minutes are made up as the index's",
            "without a recorded premium the model's change is added to the last recorded one of the day",
            *self.model.words[:1],
        )

    def read(self, files: Sequence[Path], instrument: str) -> None:
        """Take the bars of all files in. Raises RecordingError."""
        bars: dict[Key, dict[int, Bar]] = {}
        for file in files:
            for line, row in enumerate(columns_of(file, OPTION_COLUMNS), 2):
                try:
                    if row["Instrument"] != instrument:
                        continue
                    key, bar = _bar(row)
                except (ValueError, KeyError, TypeError) as error:
                    raise RecordingError(
                        f"expected a contract, a minute and prices on line {line} of {file.name}, found"
                        f" {list(row.values())} ({error}); repair or drop the row"
                    ) from error
                bars.setdefault(key, {})[bar.at_ms] = bar
        for key, found in bars.items():
            table = np.array(
                [(b.at_ms, b.open_paise, b.high_paise, b.low_paise, b.close_paise) for _, b in sorted(found.items())],
                dtype=np.int64,
            )
            _, prices, others = minute_ticks(*table.T)
            self._minutes[key] = _Minutes(table[:, 0].tolist(), prices.tolist(), others.tolist())

    def hear(self, ticks: Iterable[Tick], contracts: Mapping[str, Contract]) -> None:
        """Take what a session heard of its contracts, by security."""
        for tick in ticks:
            contract = contracts.get(tick.security)
            if contract is None or min(tick.price_paise, tick.bid_paise, tick.ask_paise) <= 0:
                continue
            heard = self._heard.setdefault(_key(ist(tick.at_ms).date(), contract), _Heard())
            if not heard.at_ms or tick.at_ms >= heard.at_ms[-1]:
                heard.at_ms.append(tick.at_ms)
                heard.quotes.append(OptionQuote(tick.price_paise, tick.bid_paise, tick.ask_paise, recorded=True))

    def quote(
        self, past: PastDay, contract: Contract, spot_paise: int, at_ms: int, *, turned: bool = False
    ) -> OptionQuote:
        """What the contract was quoted at."""
        key = _key(past.day, contract)
        heard, minutes = self._heard.get(key), self._minutes.get(key)
        known_ms = known_paise = 0
        if heard is not None:
            number = bisect_right(heard.at_ms, at_ms) - 1
            if number >= 0:
                if at_ms - heard.at_ms[number] <= FRESH_MS:
                    return heard.quotes[number]
                known_ms, known_paise = heard.at_ms[number], heard.quotes[number].last_paise
        if minutes is not None:
            moment_ms, price_paise, fresh = minutes.at(at_ms, turned=turned)
            if fresh:
                return self._around(price_paise, recorded=True)
            if moment_ms > known_ms:
                known_ms, known_paise = moment_ms, price_paise
        now = self.model.quote(past, contract, spot_paise, at_ms)
        if not known_ms:
            return now
        then = self.model.quote(past, contract, _spot_at(past, known_ms), known_ms)
        return self._around(known_paise + now.last_paise - then.last_paise, recorded=False)

    def _around(self, price_paise: int, *, recorded: bool) -> OptionQuote:
        """Bid and ask around a price, as far away as the model's are."""
        price_paise = max(TICK_PAISE, price_paise)
        half = (HALF_SPREAD_PAISE + HALF_SPREAD_SHARE * price_paise) * self.model.spread
        bid = max(0, floor((price_paise - half) / TICK_PAISE) * TICK_PAISE)
        return OptionQuote(price_paise, bid, ceil((price_paise + half) / TICK_PAISE) * TICK_PAISE, recorded=recorded)


def _key(day: date, contract: Contract) -> Key:
    return day, contract.expiry, contract.strike_points, contract.option_type


def _spot_at(past: PastDay, at_ms: int) -> int:
    number = int(np.searchsorted(past.recorded.at_ms, at_ms, side="right")) - 1
    return int(past.recorded.spot_paise[max(0, number)])


def _bar(row: Mapping[str, str]) -> tuple[Key, Bar]:
    day = datetime.strptime(row["Date"], "%Y%m%d").replace(tzinfo=IST)
    hour, minute = row["Time"].split(":")
    start_ms = round(day.timestamp() * 1000) + (int(hour) * 60 + int(minute)) * MINUTE_MS
    open_paise, high_paise, low_paise, close_paise = (
        round(float(row[name]) * 100) for name in ("Open", "High", "Low", "Close")
    )
    if not 0 < low_paise <= min(open_paise, close_paise) <= max(open_paise, close_paise) <= high_paise:
        raise ValueError("expected 0 < low <= open, close <= high")
    key = (day.date(), date.fromisoformat(row["Expiry"]), int(row["Strike"]), OptionType(row["Type"]))
    return key, Bar(start_ms, open_paise, high_paise, low_paise, close_paise)
