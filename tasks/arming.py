"""Real money moves only on a day and an index that the operator armed, with exactly the settings that he confirmed.

An arming is a row in the ledger: it survives restarts, and no click in the Prefect UI writes one. Whoever edits a live
deployment's parameters after arming, in the UI or elsewhere, has a session that refuses to begin.

Invariants:
1. Of several words about a day the last one counts.
2. Settings are compared one by one, as the ledger keeps them; any difference is a refusal that names it.
"""

from collections.abc import Iterable
from datetime import date

from strategy.instruments import Underlying
from strategy.params import Params
from tasks.clock import real_now_ms
from tasks.ledger.records import ArmingRecord, SessionKey
from tasks.ledger.store import Ledger


def arm(ledger: Ledger, account: str, params: Params, days: Iterable[date], armed_by: str) -> None:
    """Allow live orders of `params` on each of `days`. LedgerUnavailable."""
    for day in days:
        _say(ledger, account, params.index, day, params=params, armed_by=armed_by)


def disarm(ledger: Ledger, account: str, underlying: Underlying, since: date, disarmed_by: str) -> tuple[date, ...]:
    """Take back what is armed from `since` on; return those days. A session that trades already goes on."""
    days = armed_days(ledger, account, underlying, since)
    for day in days:
        _say(ledger, account, underlying, day, params=None, armed_by=disarmed_by)
    return days


def armed_days(ledger: Ledger, account: str, underlying: Underlying, since: date) -> tuple[date, ...]:
    """Days from `since` on of which the last word is "armed"."""
    last = {said.day: said for said in ledger.armings(account, underlying, since)}
    return tuple(day for day, said in last.items() if said.armed)


def why_not_armed(ledger: Ledger, key: SessionKey, params: Params) -> str | None:
    """What is missing before `params` may trade real money as `key`; None when it was armed. LedgerUnavailable."""
    said = [word for word in ledger.armings(key.account, key.underlying, key.day) if word.day == key.day]
    command = f"bot arm --index {key.underlying} --day {key.day}"
    if not said:
        return f"{key.underlying} is not armed for {key.day}: read the limits once more, then '{command}'."
    last = said[-1]
    if not last.armed:
        return f"{key.underlying} was disarmed for {key.day} by {last.armed_by}: '{command}' arms it again."
    asked = params.model_dump(mode="json")
    differing = [
        f"{name} {asked.get(name)} instead of {last.params.get(name)}"
        for name in sorted(asked.keys() | last.params.keys())
        if asked.get(name) != last.params.get(name)
    ]
    if differing:
        return (
            f"{key.underlying} was armed for {key.day} with other settings: {', '.join(differing)}. "
            f"Set them back, or arm these with '{command}'."
        )
    return None


def _say(
    ledger: Ledger, account: str, underlying: Underlying, day: date, *, params: Params | None, armed_by: str
) -> None:
    before = [word.number for word in ledger.armings(account, underlying, day) if word.day == day]
    ledger.record_arming(
        ArmingRecord(
            account=account,
            underlying=underlying,
            day=day,
            number=max(before, default=0) + 1,
            armed=params is not None,
            params=params.model_dump(mode="json") if params is not None else {},
            armed_by=armed_by,
            at_ms=real_now_ms(),
        )
    )
