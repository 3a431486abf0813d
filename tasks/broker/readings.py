"""What Dhan says beside orders: money, quotes, the account, expiries, candles."""

from datetime import UTC, date, datetime
from typing import Any

from tasks.broker import AccountProfile, IndexCandle, IpStatus, Quote
from tasks.broker.wire import WireError, moment_ms, need, paise, shown, text, whole
from tasks.clock import IST


def funds_paise(found: Any) -> int:
    """What may be spent. The broker misspells the field; the right spelling is taken too."""
    if not isinstance(found, dict):
        raise WireError(f"expected the fund limits, found {shown(found)}")
    for name in ("availabelBalance", "availableBalance"):
        if found.get(name) is not None:
            return paise(found[name])
    raise WireError(f"expected availabelBalance in the fund limits, found {sorted(found)}")


def data_of(found: Any) -> Any:
    """The content of a data reply {"status":"success","data":…}; WireError for any other status."""
    if isinstance(found, dict) and found.get("status") == "success" and "data" in found:
        return found["data"]
    raise WireError(f"expected a data reply with status success, found {shown(found)}")


def quotes(found: Any, *, at_ms: int) -> dict[str, Quote]:
    """The full quotes of a data reply by security; ids that the broker does not know are absent.

    `at_ms` is when the broker was asked: bid and ask are of that moment, whenever the last trade was.
    """
    segments = data_of(found)
    if not isinstance(segments, dict):
        raise WireError(f"expected quotes by segment, found {shown(segments)}")
    read: dict[str, Quote] = {}
    for segment, listed in segments.items():
        if not isinstance(listed, dict):
            raise WireError(f"expected quotes of {segment} by security id, found {shown(listed)}")
        for security_id, row in listed.items():
            if not isinstance(row, dict):
                raise WireError(f"expected the quote of {segment}:{security_id}, found {shown(row)}")
            security = f"{segment}:{security_id}"
            depth = row.get("depth") or {}
            read[security] = Quote(
                security=security,
                at_ms=at_ms,
                last_paise=max(0, paise(need(row, "last_price"))),
                bid_paise=_best(depth, "buy"),
                ask_paise=_best(depth, "sell"),
            )
    return read


def _best(depth: Any, side: str) -> int:
    levels = depth.get(side) if isinstance(depth, dict) else None
    if not isinstance(levels, list) or not levels or not isinstance(levels[0], dict):
        return 0
    return max(0, paise(levels[0].get("price") or 0))


def profile(found: Any) -> AccountProfile:
    """Token validity (two date layouts are in use) and data plan."""
    if not isinstance(found, dict):
        raise WireError(f"expected a profile, found {shown(found)}")
    return AccountProfile(
        client_id=text(found, "dhanClientId"),
        token_valid_until_ms=moment_ms(need(found, "tokenValidity")),
        data_plan_active=str(found.get("dataPlan") or "").strip().lower() == "active",
    )


def ip_status(found: Any) -> IpStatus:
    """Whether orders are allowed from here; not known where the broker answers an error with HTTP 200."""
    if not isinstance(found, dict):
        return IpStatus(known=False, orders_allowed=False, detail=f"the broker answered {shown(found)}")
    seen, listed = found.get("detectedIP"), (found.get("primaryIP"), found.get("secondaryIP"))
    detail = f"seen from {seen or 'an unknown address'}, allowed {listed[0] or 'none'} and {listed[1] or 'none'}"
    allowed = found.get("ordersAllowed")
    if isinstance(allowed, bool):
        return IpStatus(known=True, orders_allowed=allowed, detail=detail)
    match = str(found.get("ipMatchStatus") or "").upper()
    if match:
        return IpStatus(known=True, orders_allowed=match in {"PRIMARY_MATCH", "SECONDARY_MATCH"}, detail=detail)
    if seen and any(listed):
        return IpStatus(known=True, orders_allowed=seen in listed, detail=detail)
    return IpStatus(known=False, orders_allowed=False, detail=detail)


def expect_loss_exit(found: Any, status: str) -> None:
    """WireError unless the P&L exit is now `status`, ACTIVE or DISABLED."""
    said = text(found, "pnlExitStatus") if isinstance(found, dict) else shown(found)
    if said.upper() != status:
        raise WireError(f"expected the P&L exit to be {status}, found {said}")


def expiries(found: Any) -> tuple[date, ...]:
    """The expiry dates of a data reply, ascending."""
    listed = data_of(found)
    if not isinstance(listed, list):
        raise WireError(f"expected a list of expiry dates, found {shown(listed)}")
    try:
        return tuple(sorted({date.fromisoformat(str(text)[:10]) for text in listed}))
    except ValueError as error:
        raise WireError(f"expected dates like 2026-11-23, found {shown(listed)}") from error


def candles(found: Any, first: date, last: date) -> tuple[IndexCandle, ...]:
    """The candles from `first` through `last` out of columns; their timestamps are true UTC seconds."""
    if not isinstance(found, dict):
        raise WireError(f"expected candle columns, found {shown(found)}")
    columns = [found.get(name) or [] for name in ("timestamp", "open", "high", "low", "close")]
    if not all(isinstance(column, list) for column in columns) or len({len(column) for column in columns}) != 1:
        raise WireError(f"expected five candle columns of one length, found {[_length(c) for c in columns]}")
    read = [
        IndexCandle(
            start_ms=whole(start) * 1000,
            open_paise=paise(opening),
            high_paise=paise(high),
            low_paise=paise(low),
            close_paise=paise(close),
        )
        for start, opening, high, low, close in zip(*columns, strict=True)
    ]
    asked = [c for c in read if first <= datetime.fromtimestamp(c.start_ms / 1000, UTC).astimezone(IST).date() <= last]
    # The newest minute may be there before its prices are.
    return tuple(sorted((c for c in asked if c.low_paise > 0), key=lambda c: c.start_ms))


def _length(column: Any) -> int | str:
    return len(column) if isinstance(column, list) else type(column).__name__
