"""A day's records to play with, and an open ledger on each database."""

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import date

import psycopg
import pytest

from strategy.events import Side
from strategy.instruments import Underlying
from tasks.ledger.lease import Lease
from tasks.ledger.records import (
    CandleRecord,
    ChargeRecord,
    FillRecord,
    ImportedCandle,
    ImportedTrade,
    IntentRecord,
    OrderEventRecord,
    OrderRecord,
    SessionKey,
    SessionStart,
)
from tasks.ledger.store import Ledger

OPEN_MS = 1_763_610_300_000  # 2025-11-20 09:15:00 IST
KEY = SessionKey(account="1000000009", underlying=Underlying.NIFTY, mode="rehearsal", day=date(2025, 11, 20))


@dataclass(frozen=True)
class Day:
    """One session, and records of it with everything filled in that a test does not care about."""

    key: SessionKey = KEY
    fence: int = 1
    salt: str = "k3f"

    @property
    def session_id(self) -> str:
        return self.key.session_id

    @staticmethod
    def at(seconds: float = 0) -> int:
        """Seconds after the open, as Unix milliseconds."""
        return OPEN_MS + round(seconds * 1000)

    def start(self, **changes) -> SessionStart:
        start = SessionStart(
            session_id=self.session_id,
            run_id="run-1",
            fence=self.fence,
            started_at_ms=OPEN_MS,
            params={"index": "NIFTY", "lots": 1, "entry_start": "09:25"},
            code_version="3.0.0",
            facts_version="2025-11",
        )
        return replace(start, **changes)

    def intent(
        self, number: int, side: Side = Side.BUY, *, trade: int = 1, quantity: int = 75, slices: int = 1, **changes
    ) -> IntentRecord:
        entry = side is Side.BUY
        each = quantity // slices
        intent = IntentRecord(
            session_id=self.session_id,
            intent=number,
            trade=trade,
            purpose="ENTRY" if entry else "EXIT",
            side=side,
            security="NSE_FNO:47317",
            trading_symbol="NIFTY-Nov2025-26000-CE",
            contract_name="NIFTY 25 NOV 26000 CE",
            strike_points=26_000,
            option_type="CE",
            expiry=date(2025, 11, 25),
            lot_size=75,
            tick_size_paise=5,
            freeze_quantity=1800,
            quantity=quantity,
            reference_paise=100_05,
            reason="entry" if entry else "target",
            why={"supertrend": 25_990.5, "direction": 1},
            decided_at_ms=self.at(number),
            fence=self.fence,
            orders=tuple(
                OrderRecord(
                    client_order_id=self.order_id(number, slice_number),
                    slice_number=slice_number,
                    quantity=each,
                    limit_paise=100_55,
                )
                for slice_number in range(1, slices + 1)
            ),
        )
        return replace(intent, **changes)

    def order_id(self, intent: int, slice_number: int = 1) -> str:
        return f"{self.key.order_prefix(self.salt)}-{intent}-{slice_number}"

    def event(self, intent: int = 1, **changes) -> OrderEventRecord:
        event = OrderEventRecord(client_order_id=self.order_id(intent), at_ms=self.at(intent + 0.2), kind="SENT")
        return replace(event, **changes)

    def fill(
        self,
        intent: int,
        quantity: int = 75,
        value_paise: int = 7_500_00,
        *,
        cumulative: int | None = None,
        slice_number: int = 1,
        seconds: float | None = None,
    ) -> FillRecord:
        return FillRecord(
            client_order_id=self.order_id(intent, slice_number),
            cumulative_quantity=quantity if cumulative is None else cumulative,
            quantity=quantity,
            value_paise=value_paise,
            at_ms=self.at(intent + 0.5 if seconds is None else seconds),
        )

    def charge(self, intent: int, **changes) -> ChargeRecord:
        charge = ChargeRecord(
            client_order_id=self.order_id(intent),
            brokerage_paise=20_00,
            stt_paise=7_50,
            exchange_paise=2_63,
            sebi_paise=1,
            stamp_paise=0,
            gst_paise=4_07,
            rates_version="2025-10-01",
        )
        return replace(charge, **changes)

    def candle(self, number: int, **changes) -> CandleRecord:
        candle = CandleRecord(
            session_id=self.session_id,
            seconds=5,
            start_ms=self.at(5 * number),
            open_paise=26_000_00 + number,
            high_paise=26_010_00 + number,
            low_paise=25_990_00 + number,
            close_paise=26_005_00 + number,
            ticks=5,
            supertrend=25_900.123456789,
            direction=1,
            macd=None,
            macd_signal=None,
        )
        return candle._replace(**changes)

    def imported_trade(self, **changes) -> ImportedTrade:
        trade = ImportedTrade(
            source="trading-bot-v2",
            trade_id="T1",
            underlying="NIFTY",
            mode="live",
            day=self.key.day,
            option_type="CE",
            strike_points=26_000,
            expiry=date(2025, 11, 25),
            lot_size=75,
            quantity=75,
            entry_at_ms=self.at(10),
            exit_at_ms=self.at(70),
            buy_value_paise=7_500_00,
            sell_value_paise=7_575_00,
            exit_reason="Target",
            detail={"expiry": "as traded"},
        )
        return replace(trade, **changes)

    def imported_candle(self, **changes) -> ImportedCandle:
        candle = ImportedCandle(
            source="trading-bot-v2",
            underlying="NIFTY",
            seconds=5,
            closed_at_ms=self.at(5),
            high_paise=26_010_00,
            low_paise=25_990_00,
            close_paise=26_005_00,
            supertrend=25_900.5,
            macd=None,
            signal="GREEN",
        )
        return replace(candle, **changes)


@pytest.fixture
def day() -> Day:
    """The session of most tests: NIFTY in rehearsal on 2025-11-20."""
    return Day()


@pytest.fixture
def new_day() -> Callable[..., Day]:
    """Another session: new_day(mode="paper", day=…), with a salt of its own for the ids of its orders."""
    return lambda salt="k3f", **changes: Day(key=replace(KEY, **changes), salt=salt)


@pytest.fixture
def open_ledger() -> Iterator[Callable[..., Ledger]]:
    """Opens ledgers and closes them after the test."""
    ledgers: list[Ledger] = []

    def opened(url: str, **limits: float) -> Ledger:
        ledgers.append(Ledger(url, **limits))
        return ledgers[-1]

    yield opened
    for ledger in ledgers:
        ledger.close()


@pytest.fixture
def ledger(ledger_url: str, open_ledger: Callable[..., Ledger]) -> Ledger:
    """An empty ledger; the test runs once on each database."""
    return open_ledger(ledger_url)


@pytest.fixture
def lease(ledger: Ledger, day: Day) -> Lease:
    """The day's session, opened and leased: intents may be recorded."""
    ledger.open_session(day.key, "k3f")
    return ledger.leases.take(day.key, "host/1/run-1", OPEN_MS)


@pytest.fixture
def alter() -> Callable[..., None]:
    """alter(url, statement, …): the hand in the database that the ledger's own door does not allow."""

    def altered(url: str, *statements: str) -> None:
        if url.startswith("sqlite"):
            with closing(sqlite3.connect(url.removeprefix("sqlite:///"), isolation_level=None)) as connection:
                for statement in statements:
                    connection.execute(statement)
        else:
            with psycopg.connect(url.replace("+psycopg", ""), autocommit=True) as connection:
                for statement in statements:
                    connection.execute(statement)

    return altered
