"""What is common to Dhan's JSON: numbers, money, times, rows. The rows themselves are in `order_rows` and `readings`.

Nothing is made up: a reply that lacks what is needed is a WireError, never a zero. Rupees come as decimals (JSON is
read with `parse_float=Decimal`) and become integer paise, half a paisa rounding up. Times without a zone are India's.
"""

import json
from collections.abc import Callable, Mapping
from datetime import datetime
from decimal import ROUND_HALF_UP, Decimal, InvalidOperation
from fractions import Fraction
from typing import Any, TypeVar

from tasks.clock import IST, epoch_ms

T = TypeVar("T")

_PAISA = Decimal(1)
_MONEY_LIMIT = Decimal(10) ** 12  # rupees; a number beyond it is not money
_SHOWN_CHARACTERS = 200


class WireError(ValueError):
    """A reply or a push that does not say what it must; the message shows where, without secrets."""


def parse_json(body: bytes | str) -> Any:
    """JSON with exact decimals; WireError where it is not JSON, or has a number that no decimal can hold."""
    try:
        return json.loads(body, parse_float=Decimal, parse_constant=_no_constant)
    except (ValueError, InvalidOperation, RecursionError) as error:
        start = body[:_SHOWN_CHARACTERS]
        found = (start if isinstance(start, str) else start.decode("utf-8", "replace")) or "an empty body"
        raise WireError(f"expected JSON, found {found!r}") from error


def paise(rupees: Any) -> int:
    """Rupees as a JSON number or text into integer paise."""
    return int((_decimal(rupees) * 100).quantize(_PAISA, ROUND_HALF_UP))


def exact_paise(rupees: Any) -> Fraction:
    """Rupees in paise, parts of a paisa kept."""
    return Fraction(_decimal(rupees)) * 100


def value_paise(average_rupees: Any, quantity: int) -> int:
    """Average price times quantity in paise; averages are finer than a paisa."""
    return int((_decimal(average_rupees) * 100 * quantity).quantize(_PAISA, ROUND_HALF_UP))


def whole(number: Any) -> int:
    """A whole number that may come as 65, 65.0 or "65"."""
    value = _decimal(number)
    if value != value.to_integral_value():
        raise WireError(f"expected a whole number, found {shown(number)}")
    return int(value)


def moment_ms(text: Any) -> int:
    """India's time as text into Unix milliseconds; 0 where the field is unset (year 1, "NA", empty, 1980)."""
    if not isinstance(text, str) or text.strip().upper() in {"", "NA", "0"}:
        return 0
    bare = text.strip()
    if "." in bare:
        bare = bare[: bare.index(".")]  # "17:52:44.0" and "00:00:00.000"
    for layout in (
        "%Y-%m-%d %H:%M:%S",
        "%Y-%m-%dT%H:%M:%S",
        "%d/%m/%Y %H:%M:%S",
        "%d/%m/%Y %H:%M",
        "%Y-%m-%d",
    ):
        try:
            found = datetime.strptime(bare, layout)  # noqa: DTZ007  # the zone is India's, added below
        except ValueError:
            continue
        return epoch_ms(found.replace(tzinfo=IST)) if found.year > 1980 else 0
    raise WireError(f"expected a date and time, found {shown(text)}")


def rows(found: Any, read: Callable[[Mapping[str, Any]], T]) -> tuple[T, ...]:
    """Each object of a list (or a single object) through `read`."""
    listed = [found] if isinstance(found, dict) else found
    if not isinstance(listed, list) or not all(isinstance(row, dict) for row in listed):
        raise WireError(f"expected a list of objects, found {shown(found)}")
    return tuple(read(row) for row in listed)


def _decimal(number: Any) -> Decimal:
    if isinstance(number, bool) or not isinstance(number, (int, float, str, Decimal)):
        raise WireError(f"expected a number, found {shown(number)}")
    try:
        value = Decimal(str(number).strip())
    except InvalidOperation:
        raise WireError(f"expected a number, found {shown(number)}") from None
    if not value.is_finite() or abs(value) > _MONEY_LIMIT:
        raise WireError(f"expected a number that can be an amount, found {shown(number)}")
    return value


def need(row: Mapping[str, Any], name: str) -> Any:
    """A field that has to be there."""
    value = row.get(name)
    if value is None:
        raise WireError(f"expected the field {name}, found only {sorted(row)}")
    return value


def text(row: Mapping[str, Any], name: str) -> str:
    """A field that has to be text, or a number that stands for it (ids)."""
    value = need(row, name)
    if isinstance(value, bool) or not isinstance(value, (str, int)) or not str(value).strip():
        raise WireError(f"expected text in the field {name}, found {shown(value)}")
    return str(value).strip()


def shown(found: Any) -> str:
    """As much of what was found as a message can take."""
    return repr(found)[:_SHOWN_CHARACTERS]


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")
