"""What a reply of Dhan means, sorted by the one question that matters: could an order be live?

After a write only two things are definite: an acceptance with an order id, and a 4xx that carries an error
code. Everything else (5xx, a page of HTML, an empty body, a broken or missing reply, HTTP 200 with an error
in it) leaves the outcome unknown. A read either answers or is unavailable.

Dhan's codes say little: DH-905 and DH-906 stand for a dead token, a refused address and a refused order
alike. The text decides.
"""

import re
from typing import Any, Final

from tasks.broker import (
    AuthenticationDead,
    BrokerError,
    BrokerUnavailable,
    IpRefused,
    OrderOutcomeUnknown,
    OrderRejected,
    RateLimited,
)
from tasks.broker.http import Reply
from tasks.broker.order_rows import order_id
from tasks.broker.wire import WireError, parse_json

_TOKEN_CODES: Final = frozenset({"DH-901", "807", "808", "809", "810"})
_RATE_CODES: Final = frozenset({"DH-904", "805"})
# The broker's own trouble behind its gateway; what became of an order they do not say.
_INDEFINITE_CODES: Final = frozenset({"DH-908", "DH-909", "DH-910", "800"})
_TOKEN_TEXT: Final = re.compile(
    r"\b(invalid|expired|missing)\b.*\btoken\b|\btoken\b.*\b(invalid|expired)\b", re.IGNORECASE
)
_IP_TEXT: Final = re.compile(
    r"\b(invalid|unauthori[sz]ed|not whitelisted)\b.*\bip\b|\bip\b.*\b(invalid|whitelist)", re.IGNORECASE
)
_TRANSIT_TEXT: Final = re.compile(r"\bin transit\b", re.IGNORECASE)
_NOT_FOUND_TEXT: Final = re.compile(r"incorrect request for order|no (such )?order|order not found", re.IGNORECASE)
_SHOWN_CHARACTERS: Final = 200


def accepted_order_id(reply: Reply) -> str:
    """The broker's order id of an accepted write; any error of the tree for anything else."""
    if _is_success(reply):
        try:
            return order_id(parse_json(reply.body))
        except WireError as error:
            raise OrderOutcomeUnknown(f"HTTP {reply.status}, but {error}; look the order up") from None
    raise _refusal_of_write(reply)


def answered(reply: Reply) -> Any:
    """The JSON of a successful read; else AuthenticationDead, IpRefused, RateLimited or BrokerUnavailable.

    HTTP 200 with `{"status":"failed"}` is a failure like any other.
    """
    found = _json_or_none(reply)
    if _is_success(reply) and found is not None and _error_code(found) is None:
        return found
    raise _refusal_of_read(reply, found)


def is_not_found(reply: Reply) -> bool:
    """True for the broker's own "there is no such order" (not for a page that is missing)."""
    found = _json_or_none(reply)
    code, text = _error(found)
    return reply.status in {400, 404} and code == "DH-906" and bool(_NOT_FOUND_TEXT.search(text))


def _refusal_of_write(reply: Reply) -> BrokerError:
    code, text = _error(_json_or_none(reply))
    shown = f"{code}: {text}" if code else _shown(reply)
    is_refusal = 400 <= reply.status < 500 and reply.status != 408
    if not is_refusal or not code or code in _INDEFINITE_CODES:
        return OrderOutcomeUnknown(f"HTTP {reply.status}, {shown}; look the order up, do not send it again")
    known = _known_refusal(reply.status, code, text, shown)
    return known or OrderRejected(shown)


def _refusal_of_read(reply: Reply, found: Any) -> BrokerError:
    code, text = _error(found)
    shown = f"{code}: {text}" if code else _shown(reply)
    if reply.status == 401 and code != "806":  # 806: the data plan, not the token
        return AuthenticationDead(f"HTTP 401, {shown}")
    known = _known_refusal(reply.status, code, text, shown)
    return known or BrokerUnavailable(f"HTTP {reply.status}, {shown}")


def _known_refusal(status: int, code: str, text: str, shown: str) -> BrokerError | None:
    if code in _TOKEN_CODES or _TOKEN_TEXT.search(text):
        return AuthenticationDead(shown)
    if status == 429 or code in _RATE_CODES:
        return RateLimited(shown)
    if _IP_TEXT.search(text):
        return IpRefused(f"{shown}: allow this machine's address at Dhan, or send over the allowed one")
    if _TRANSIT_TEXT.search(text):
        # Nothing was changed and the order lives on its way: the same request is right again in a moment.
        return BrokerUnavailable(shown)
    return None


def _is_success(reply: Reply) -> bool:
    return 200 <= reply.status < 300


def _json_or_none(reply: Reply) -> Any:
    try:
        return parse_json(reply.body)
    except WireError:
        return None


def _error(found: Any) -> tuple[str, str]:
    """Code and text of an error in any of the shapes in use; ("", "") where there is none."""
    code = _error_code(found)
    if code is None:
        return "", ""
    if found.get("errorCode"):
        return code, str(found.get("errorMessage") or found.get("errorType") or "no reason given")
    return code, str(found["data"][code] if code in found["data"] else found["data"])


def _error_code(found: Any) -> str | None:
    if not isinstance(found, dict):
        return None
    if isinstance(found.get("errorCode"), str) and found["errorCode"]:
        return str(found["errorCode"])
    data = found.get("data")
    if str(found.get("status")).lower() in {"failed", "failure", "error"} and isinstance(data, dict) and data:
        return str(next(iter(data)))
    return None


def _shown(reply: Reply) -> str:
    text = reply.body[:_SHOWN_CHARACTERS].decode("utf-8", "replace").strip()
    return f"found {text!r}" if text else "found an empty body"
