"""When contracts expire, by the dated rules: for markets that are made up or past. Live trading asks the broker.

Invariants:
1. Which weekday counts depends on the expiry itself; a closed expiry day moves to the trading day before it.
2. Days that the calendar does not know count as trading days.
3. `operator_toml` is the text of an operator's own facts; they go over the packaged ones.
"""

from datetime import date, time, timedelta

from strategy.calendar import OutsideKnownData, ist_ms, session_facts, trading_day
from strategy.instruments import Cycle, Underlying, contract_facts

_USUAL_CLOSE = time(15, 30)
_DAYS_WITHOUT_TRADING_MAX = 15
_WEEKLIES, _MONTHLIES, _QUARTERLIES = 5, 3, 4
_MONTHS_AHEAD = 15


def expiry_flags(day: date, underlying: Underlying, operator_toml: str = "") -> dict[date, str]:
    """Expiries that still trade on `day`: some weeklies, months and quarters ahead, with their flag (W or M).

    The rules are dated: which weekday counts depends on the expiry itself. A closed expiry day moves to the trading
    day before it.
    """
    rules = contract_facts(operator_toml).expiry_rules(underlying)
    flags: dict[date, str] = {}
    for rule in rules:
        if rule.cycle is Cycle.WEEKLY:
            first = day + timedelta(days=(rule.weekday.number - day.weekday()) % 7)
            coming = [first + timedelta(weeks=week) for week in range(_WEEKLIES + 1)]
            expiries = [on_or_before(expiry, operator_toml) for expiry in coming if rule.covers(expiry)]
            flags |= dict.fromkeys([expiry for expiry in expiries if expiry >= day][:_WEEKLIES], "W")
    monthlies: dict[date, int] = {}
    for ahead in range(_MONTHS_AHEAD):
        year, month = divmod(day.year * 12 + day.month - 1 + ahead, 12)
        for rule in rules:
            by_rule = _last_weekday(year, month + 1, rule.weekday.number)
            expiry = on_or_before(by_rule, operator_toml)
            if rule.cycle is Cycle.MONTHLY and rule.covers(by_rule) and expiry >= day:
                monthlies[expiry] = month + 1
    nearest = sorted(monthlies)[:_MONTHLIES]
    quarterly = [expiry for expiry in sorted(monthlies) if monthlies[expiry] % 3 == 0][:_QUARTERLIES]
    return flags | dict.fromkeys(nearest + quarterly, "M")


def _last_weekday(year: int, month: int, weekday: int) -> date:
    last = date(year + month // 12, month % 12 + 1, 1) - timedelta(days=1)
    return last - timedelta(days=(last.weekday() - weekday) % 7)


def on_or_before(day: date, operator_toml: str = "") -> date:
    """`day` itself if the market trades, else the trading day before it; a day the calendar does not know stays."""
    for back in range(_DAYS_WITHOUT_TRADING_MAX):
        earlier = day - timedelta(days=back)
        try:
            known = trading_day(earlier, session_facts(operator_toml))
        except OutsideKnownData:
            return day
        # An evening of ceremonial trading is a session, but no contract expires on it.
        if known is not None and earlier.weekday() < 5:
            return earlier
    return day


def expiry_close_ms(expiry: date, operator_toml: str = "") -> int:
    """When contracts of that expiry stop trading; the usual 15:30 where the calendar does not know the day."""
    try:
        known = trading_day(expiry, session_facts(operator_toml))
    except OutsideKnownData:
        known = None
    return known.close_ms_of(expiry) if known else ist_ms(expiry, _USUAL_CLOSE)
