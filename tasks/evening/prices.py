"""The evening's bookkeeping on a session's rows; running it again gives the same rows."""

from typing import Protocol

from strategy.charges import Rates, order_charges
from strategy.events import Side
from tasks.ledger.records import ChargeRecord, FillRecord


class PricedLedger(Protocol):
    """What of the ledger pricing needs."""

    def fills(self, session_id: str) -> tuple[tuple[str, int, Side, FillRecord], ...]:
        """(client order id, intent, side, fill) of each execution."""
        ...

    def record_charges(self, charges: tuple[ChargeRecord, ...]) -> None:
        """Keep them; equal ones are kept once, others become the order's next revision."""
        ...


def price_orders(ledger: PricedLedger, session_id: str, rates: Rates) -> tuple[ChargeRecord, ...]:
    """Record what every executed order of the session costs, and return it. LedgerUnavailable.

    An order without a fill costs nothing and gets no row; the slices of an intent are orders of their own.
    """
    sides: dict[str, Side] = {}
    values_paise: dict[str, int] = {}
    for client_order_id, _intent, side, fill in ledger.fills(session_id):
        sides[client_order_id] = side
        values_paise[client_order_id] = values_paise.get(client_order_id, 0) + fill.value_paise
    records = tuple(
        _charge_record(client_order_id, sides[client_order_id], value_paise, rates)
        for client_order_id, value_paise in values_paise.items()
    )
    ledger.record_charges(records)
    return records


def _charge_record(client_order_id: str, side: Side, value_paise: int, rates: Rates) -> ChargeRecord:
    charges = order_charges(side, value_paise, rates)
    return ChargeRecord(
        client_order_id=client_order_id,
        brokerage_paise=charges.brokerage_paise,
        stt_paise=charges.stt_paise,
        exchange_paise=charges.exchange_paise,
        sebi_paise=charges.sebi_paise,
        stamp_paise=charges.stamp_paise,
        gst_paise=charges.gst_paise,
        rates_version=rates.version,
    )
