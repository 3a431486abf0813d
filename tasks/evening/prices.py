"""The evening's bookkeeping on a session's rows; running it again gives the same rows."""

from collections.abc import Iterable
from typing import Protocol

from strategy.charges import COMPONENTS, Charges, Rates, day_charges, order_charges
from strategy.events import Side
from tasks.ledger.records import ChargeRecord, FillRecord
from tasks.pages.money import render_rupees
from tasks.pages.wording import markdown_table


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


def contract_note(ledger: PricedLedger, session_id: str, rates: Rates) -> Charges:
    """What the session's orders cost together, rounded as on a contract note. LedgerUnavailable.

    A contract note is of an exchange's whole day: with sessions of two indices there, it is rounded over both.
    """
    values: dict[str, tuple[Side, int]] = {}
    for client_order_id, _intent, side, fill in ledger.fills(session_id):
        values[client_order_id] = (side, values.get(client_order_id, (side, 0))[1] + fill.value_paise)
    return day_charges(values.values(), rates)


def render_charges(records: Iterable[ChargeRecord], note: Charges) -> list[str]:
    """The day's charges as a Markdown table: the sum over the orders, and rounded as on the contract note."""
    priced = tuple(records)
    rows = [
        (
            component.removesuffix("_paise").replace("stt", "STT").replace("sebi", "SEBI").replace("gst", "GST"),
            render_rupees(sum(getattr(record, component) for record in priced)),
            render_rupees(getattr(note, component)),
        )
        for component in (*COMPONENTS, "total_paise")
    ]
    return markdown_table(("charge", "by order", "as on a contract note"), rows)


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
