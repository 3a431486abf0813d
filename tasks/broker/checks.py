"""Orders that cannot be right are refused before anything is sent, with every reason at once."""

import re
from typing import Final

from tasks.broker import NewOrder, OrderRejected

_CLIENT_ORDER_ID: Final = re.compile(r"[A-Za-z0-9_-]{1,20}")
_BROKER_ORDER_ID: Final = re.compile(r"[A-Za-z0-9_-]{1,40}")
_PRODUCTS: Final = frozenset({"MARGIN", "INTRADAY"})


def is_client_order_id(text: str) -> bool:
    """Whether the broker takes `text` as a correlation id (measured: 25 characters, and neither | nor :)."""
    return _CLIENT_ORDER_ID.fullmatch(text) is not None


def refuse_impossible(order: NewOrder) -> None:
    """Raise OrderRejected, nothing having been sent, for an order that the exchange could not take."""
    contract, quantity, limit_paise = order.contract, order.quantity, order.limit_paise
    checks = (
        (
            is_client_order_id(order.client_order_id),
            f"client order id must be 1 to 20 of A-Za-z0-9_-, found {order.client_order_id!r}",
        ),
        (order.product in _PRODUCTS, f"product must be MARGIN or INTRADAY, found {order.product!r}"),
        (quantity > 0, f"quantity must be positive, found {quantity}"),
        (quantity % contract.lot_size == 0, f"quantity {quantity} is not in lots of {contract.lot_size}"),
        (
            quantity <= contract.freeze_quantity,
            f"quantity {quantity} is above the most of one order, {contract.freeze_quantity}: slice it",
        ),
        (limit_paise > 0, f"limit must be positive, found {limit_paise} paise"),
        (
            limit_paise % contract.tick_size_paise == 0,
            f"limit {limit_paise} paise is not a multiple of {contract.tick_size_paise}",
        ),
    )
    faults = [fault for holds, fault in checks if not holds]
    if faults:
        raise OrderRejected(f"not sent, {contract.name}: " + "; ".join(faults))


def refuse_strange_id(broker_order_id: str) -> None:
    """Raise OrderRejected for an id that would not be one part of an address."""
    if not _BROKER_ORDER_ID.fullmatch(broker_order_id):
        raise OrderRejected(f"not sent: expected a broker order id, found {broker_order_id!r}")
