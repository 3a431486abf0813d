"""When the simulated market trades: the strategy room's dated calendar, as windows in Unix milliseconds.

`facts` is the text of an operator's own dated facts; they go over the packaged ones.
"""

from datetime import date, datetime, time, timedelta
from functools import lru_cache

from simulator.paths import Window
from strategy.calendar import IST, OutsideKnownData, session_facts, trading_day

_DAYS_WITHOUT_TRADING_MAX = 15


def moment_ms(day: date, at: time) -> int:
    """A wall-clock time in India as Unix milliseconds."""
    return round(datetime.combine(day, at, IST).timestamp() * 1000)


def trading_windows(day: date, facts: str = "") -> tuple[Window, ...]:
    """The windows of `day`, none when it is closed. Raises OutsideKnownData."""
    known = trading_day(day, session_facts(facts))
    return tuple((window.open_ms, window.close_ms) for window in known.windows) if known else ()


def previous_trading_day(day: date, facts: str = "") -> date | None:
    """The last day before `day` on which the market traded; None where the calendar's knowledge begins."""
    for back in range(1, _DAYS_WITHOUT_TRADING_MAX):
        earlier = day - timedelta(days=back)
        try:
            if trading_windows(earlier, facts):
                return earlier
        except OutsideKnownData:
            return None
    return None


@lru_cache(maxsize=4096)
def ist_text(at_ms: int) -> str:
    """A moment as Dhan's order rows write it: IST without an offset."""
    return datetime.fromtimestamp(at_ms / 1000, IST).strftime("%Y-%m-%d %H:%M:%S")
