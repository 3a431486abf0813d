"""Which session a person means, by its id or by day, index and mode; and which were left without their evening."""

from collections.abc import Collection
from datetime import date

from strategy.instruments import Underlying
from strategy.params import Mode
from tasks.ledger.store import Ledger


def which_session(
    ledger: Ledger,
    *,
    session_id: str | None = None,
    day: date | None = None,
    index: Underlying | None = None,
    mode: Mode | None = None,
) -> str:
    """The one session that is meant. LookupError where none is, or more than one; LedgerUnavailable."""
    if session_id is not None:
        return ledger.key_of(session_id).session_id
    if day is None:
        raise LookupError("expected a session's id, or at least its day; found neither")
    found = ledger.session_ids(day=day, underlying=index, mode=mode)
    if len(found) == 1:
        return found[0]
    asked = " ".join(str(part) for part in (day, index, mode) if part is not None)
    if found:
        raise LookupError(f"{asked} is {len(found)} sessions: {', '.join(found)}; say the index, the mode or the id")
    days = sorted({ledger.key_of(known).day for known in ledger.session_ids()})
    held = f"sessions from {days[0]} to {days[-1]}" if days else "no session"
    raise LookupError(f"the ledger has no session of {asked}; it holds {held}")


def unfinished(ledger: Ledger, *, first: date, modes: Collection[str], account: str, now_ms: int) -> list[str]:
    """Ids of the account's sessions since `first` that do not trade and were not compared since they last started.

    LedgerUnavailable passes through.
    """
    living = ledger.living_session_ids(now_ms)
    keys = [ledger.key_of(session_id) for session_id in ledger.uncompared_session_ids() if session_id not in living]
    return [key.session_id for key in keys if key.day >= first and key.mode in modes and key.account == account]
