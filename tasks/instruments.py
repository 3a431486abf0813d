"""The day's instrument master: downloaded once a day, read by column name, one index at a time.

The file is large (200,000 rows) and untidy: test instruments, contracts long expired, doubled rows, an empty last
column, other indices whose names begin alike. What is traded hangs on it, so what does not fit is left out, and a
file without what is needed is refused.

Invariants:
1. Security ids are reused: a file serves the day it was fetched for, and no other.
2. A contract is known by index, expiry, strike and type; where two ids claim the same one, neither is taken.
3. Lot size, tick size and freeze quantity are the row's own. `freeze_quantity` is the most that one order may hold.
   Where a row states none the dated facts hold, the operator's own before the packaged ones.
"""

import csv
import hashlib
import logging
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from datetime import date
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Final

import requests

from strategy.calendar import OutsideKnownData
from strategy.instruments import Contract, ContractFacts, Index, OptionType, contract_facts
from tasks.broker import BrokerUnavailable
from tasks.clock import Deadline
from tasks.settings import Settings, is_loopback

log = logging.getLogger(__name__)

Progress = Callable[[int, int | None], None]
"""Called with the bytes received so far and, where the server says so, of how many."""

_NEEDED: Final = (
    "EXCH_ID",
    "SEGMENT",
    "SECURITY_ID",
    "INSTRUMENT",
    "UNDERLYING_SYMBOL",
    "SYMBOL_NAME",
    "LOT_SIZE",
    "SM_EXPIRY_DATE",
    "STRIKE_PRICE",
    "OPTION_TYPE",
    "TICK_SIZE",
    "SM_FREEZE_QTY",
)
_FILES_KEPT: Final = 5
_LOGGED_EVERY_BYTES: Final = 4_000_000
_CHUNK_BYTES: Final = 1 << 18
_TIMEOUT_S: Final = (5.0, 20.0)
_DOWNLOAD_S_MAX: Final = 240.0

ContractKey = tuple[int, OptionType]


class MasterRefused(Exception):
    """The file cannot be traded by; the message says what was expected and what was found."""


class LoggedProgress:
    """A line in the log for each `_LOGGED_EVERY_BYTES` more: a slow download must not look like a hang."""

    def __init__(self) -> None:
        self._said = 0

    def __call__(self, received: int, total: int | None) -> None:
        """So much has been received."""
        if received - self._said >= _LOGGED_EVERY_BYTES:
            self._said = received
            whole = f" of {total / 1e6:.0f}" if total else ""
            log.info("instrument master: %.0f%s MB", received / 1e6, whole)


class InstrumentMaster:
    """One day's file on disk; indices are read when they are asked for, and kept."""

    def __init__(self, path: Path, day: date, facts: ContractFacts) -> None:
        self._path = path
        self._day = day
        self._facts = facts
        self._by_expiry: dict[Index, dict[date, dict[ContractKey, Contract]]] = {}

    @classmethod
    def of_day(cls, settings: Settings, day: date, progress: Progress | None = None) -> "InstrumentMaster":
        """The master of `day`, from the cache or the broker. BrokerUnavailable where it cannot be fetched.

        Without a `progress` of its own the caller gets a line in the log every few megabytes.
        """
        hear = progress or LoggedProgress()
        path = fetch_master(settings.master_url, settings.home / "instruments", day, hear)
        return cls(path, day, contract_facts(settings.operator_facts))

    def expiries(self, index: Index) -> tuple[date, ...]:
        """Expiries from today on, ascending; at least one. MasterRefused where the file has none."""
        return tuple(sorted(self._contracts_of(index)))

    def contracts(self, index: Index, expiry: date) -> Mapping[ContractKey, Contract]:
        """The contracts of one expiry by (strike, type); MasterRefused where there are none."""
        found = self._contracts_of(index).get(expiry)
        if not found:
            raise MasterRefused(
                f"{self._path.name}: expected contracts of {index.underlying} that expire on {expiry}, "
                f"found expiries {', '.join(map(str, self.expiries(index)[:6]))}"
            )
        return found

    def _contracts_of(self, index: Index) -> dict[date, dict[ContractKey, Contract]]:
        if index not in self._by_expiry:
            with self._path.open(encoding="utf-8", errors="replace", newline="") as file:
                self._by_expiry[index] = read_contracts(file, index, self._day, self._facts, self._path.name)
        return self._by_expiry[index]


def read_contracts(
    lines: Iterator[str], index: Index, day: date, facts: ContractFacts, where: str
) -> dict[date, dict[ContractKey, Contract]]:
    """The index's option contracts that expire on `day` or later, by expiry; MasterRefused where there are none."""
    header = next(csv.reader([next(lines, "")]), [])
    missing = [name for name in _NEEDED if name not in header]
    if missing:
        raise MasterRefused(f"{where}: expected the columns {', '.join(missing)}, found {header[:40]}")
    places = [header.index(name) for name in _NEEDED]
    width = max(places) + 1
    exchange, symbol = index.exchange, str(index.underlying)
    # Most of the file is about something else: a look at the text spares the parsing.
    about_it = (line for line in lines if "OPTIDX" in line and symbol in line)
    by_expiry: dict[date, dict[ContractKey, Contract]] = {}
    ambiguous: set[tuple[date, ContractKey]] = set()
    unreadable = 0
    for row in csv.reader(about_it):
        if len(row) < width:
            unreadable += 1
            continue
        fields = dict(zip(_NEEDED, (row[place].strip() for place in places), strict=True))
        named = (fields["EXCH_ID"], fields["SEGMENT"], fields["INSTRUMENT"], fields["UNDERLYING_SYMBOL"])
        if named != (exchange, "D", "OPTIDX", symbol) or "NSETEST" in fields["SYMBOL_NAME"]:
            continue
        contract = _contract(fields, index, day, facts)
        if contract is None:
            unreadable += 1
            continue
        if contract.expiry < day:
            continue
        key = (contract.strike_points, contract.option_type)
        listed = by_expiry.setdefault(contract.expiry, {})
        if listed.setdefault(key, contract).security_id != contract.security_id:
            ambiguous.add((contract.expiry, key))
    for expiry, key in ambiguous:
        del by_expiry[expiry][key]
    if unreadable or ambiguous:
        log.warning(
            "%s: %d rows of %s could not be read and %d contracts have two ids; they are not traded",
            where, unreadable, symbol, len(ambiguous),
        )  # fmt: skip
    by_expiry = {expiry: listed for expiry, listed in by_expiry.items() if listed}
    if not by_expiry:
        raise MasterRefused(
            f"{where}: expected options on {symbol} at {exchange} that expire on {day} or later, found none; "
            "is it today's file?"
        )
    return by_expiry


def usable_freeze_quantity(stated: int, lot_size: int, otherwise: int) -> int:
    """The most units of one order, in whole lots.

    The file states the freeze quantity, which an order must stay below (1756 for 27 lots of 65). Zero or less
    states none; then `otherwise`, the exchange's own largest quantity, holds.
    """
    largest = stated - 1 if stated > 0 else otherwise
    return largest // lot_size * lot_size


def fetch_master(url: str, folder: Path, day: date, progress: Progress | None = None) -> Path:
    """The file of `day`, downloaded unless it is here. BrokerUnavailable where that fails."""
    source = hashlib.sha256(url.encode()).hexdigest()[:8]
    path = folder / f"master-{day.isoformat()}-{source}.csv"
    # A simulator on this machine may have started anew, with other contracts for the same day.
    if path.exists() and not is_loopback(url):
        return path
    folder.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(f".{os.getpid()}.part")
    try:
        _download(url, partial, progress)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
    for old in sorted(folder.glob(f"master-*-{source}.csv"))[:-_FILES_KEPT]:
        old.unlink(missing_ok=True)
    return path


def _download(url: str, path: Path, progress: Progress | None) -> None:
    deadline = Deadline(_DOWNLOAD_S_MAX)
    try:
        with requests.Session() as session:
            session.trust_env = not is_loopback(url)
            with closing(session.get(url, stream=True, timeout=_TIMEOUT_S)) as reply:
                if reply.status_code != requests.codes.ok:
                    raise BrokerUnavailable(f"the instrument master answered HTTP {reply.status_code}")
                stated = reply.headers.get("Content-Length", "")
                total = int(stated) if stated.isdigit() and "Content-Encoding" not in reply.headers else None
                received = 0
                with path.open("wb") as file:
                    for chunk in reply.iter_content(_CHUNK_BYTES):
                        file.write(chunk)
                        received += len(chunk)
                        if progress is not None:
                            progress(received, total)
                        if deadline.passed:
                            raise BrokerUnavailable(f"the instrument master takes over {_DOWNLOAD_S_MAX:.0f} s")
    except requests.RequestException as error:
        raise BrokerUnavailable(f"the instrument master did not arrive: {type(error).__name__}") from error


def _contract(fields: Mapping[str, str], index: Index, day: date, facts: ContractFacts) -> Contract | None:
    """The contract of a row, or None where a field cannot be what it should."""
    try:
        expiry = date.fromisoformat(fields["SM_EXPIRY_DATE"][:10])
        option_type = OptionType(fields["OPTION_TYPE"])
        strike = _whole(fields["STRIKE_PRICE"])
        lot_size = _whole(fields["LOT_SIZE"])
        # For derivatives the file counts ticks in paise (5.0000), though for indices in rupees.
        tick_size_paise = _whole(fields["TICK_SIZE"])
        stated = _whole(fields["SM_FREEZE_QTY"] or "0")
        _whole(fields["SECURITY_ID"])
        if min(strike, lot_size, tick_size_paise) < 1:
            return None
        otherwise = facts.freeze_quantity(index.underlying, day) if stated <= 0 else 0
        freeze_quantity = usable_freeze_quantity(stated, lot_size, otherwise)
    except (ValueError, InvalidOperation, OutsideKnownData):
        return None
    if freeze_quantity < lot_size:
        return None
    symbol = fields["SYMBOL_NAME"]
    if not symbol.startswith(f"{index.underlying}-"):  # BSE says "BSXOPT" for all of them
        symbol = f"{index.underlying}-{expiry:%b%Y}-{strike}-{option_type}"
    return Contract(
        underlying=index.underlying,
        expiry=expiry,
        strike_points=strike,
        option_type=option_type,
        segment=index.option_segment,
        security_id=fields["SECURITY_ID"],
        trading_symbol=symbol,
        lot_size=lot_size,
        tick_size_paise=tick_size_paise,
        freeze_quantity=freeze_quantity,
    )


def _whole(text: str) -> int:
    value = Decimal(text)
    if not value.is_finite() or value != value.to_integral_value():
        raise ValueError(f"expected a whole number, found {text!r}")
    return int(value)
