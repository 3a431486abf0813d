"""Reading a request's body: what is missing or makes no sense is refused with Dhan's own words."""

from typing import Any

from simulator.exchange import OrderRefused
from simulator.instruments import Listed, Listing
from simulator.replies import BAD_INPUT
from simulator.wire import Request

_RUPEES_LIMIT = 10_000_000


def bad_input(message: str = BAD_INPUT) -> OrderRefused:
    """The refusal of a request whose fields make no sense."""
    return OrderRefused("DH-905", message)


def body_of(request: Request) -> dict[str, Any]:
    """The body, which must be a JSON object."""
    try:
        body = request.json()
    except ValueError as error:
        raise bad_input() from error
    if not isinstance(body, dict):
        raise bad_input()
    return body


def whole(body: dict[str, Any], key: str) -> int:
    """A positive whole number; text is taken too, as at Dhan."""
    value = body.get(key)
    if value is None or value == "":
        raise bad_input(f"{key} is required")
    try:
        number = int(value)
    except (TypeError, ValueError) as error:
        raise bad_input() from error
    if number <= 0:
        raise bad_input()
    return number


def paise(body: dict[str, Any], key: str, *, required: bool = True) -> int:
    """Rupees on the wire as paise; 0 for a missing one that is not required."""
    value = body.get(key)
    if value is None and not required:
        return 0
    try:
        rupees = float(str(value))
    except ValueError as error:
        raise bad_input() from error
    if not 0 <= rupees < _RUPEES_LIMIT:
        raise bad_input()
    return round(rupees * 100)


def listed_of(body: dict[str, Any], listing: Listing) -> Listed:
    """The contract that segment and id name."""
    listed = listing.by_security.get(f"{body.get('exchangeSegment')}:{body.get('securityId')}")
    if listed is None:
        raise bad_input("Invalid SecurityId")
    return listed
