"""When the simulated market trades: the strategy room's dated calendar, as windows in Unix milliseconds."""

from datetime import date, datetime, time, timedelta

from simulator.paths import Window
from strategy.calendar import IST, OutsideKnownData, trading_day

_USUAL_CLOSE = time(15, 30)
_DAYS_WITHOUT_TRADING_MAX = 15


def moment_ms(day: date, at: time) -> int:
    """A wall-clock time in India as Unix milliseconds."""
    return round(datetime.combine(day, at, IST).timestamp() * 1000)


def trading_windows(day: date) -> tuple[Window, ...]:
    """The windows of `day`, none when it is closed. Raises OutsideKnownData."""
    known = trading_day(day)
    return tuple((window.open_ms, window.close_ms) for window in known.windows) if known else ()


def previous_trading_day(day: date) -> date | None:
    """The last day before `day` on which the market traded; None where the calendar's knowledge begins."""
    for back in range(1, _DAYS_WITHOUT_TRADING_MAX):
        earlier = day - timedelta(days=back)
        try:
            if trading_windows(earlier):
                return earlier
        except OutsideKnownData:
            return None
    return None


def on_or_before(day: date) -> date:
    """`day` itself if the market trades, else the trading day before it; a day the calendar does not know stays."""
    for back in range(_DAYS_WITHOUT_TRADING_MAX):
        earlier = day - timedelta(days=back)
        try:
            known = trading_day(earlier)
        except OutsideKnownData:
            return day
        # An evening of ceremonial trading is a session, but no contract expires on it.
        if known is not None and earlier.weekday() < 5:
            return earlier
    return day


def expiry_close_ms(expiry: date) -> int:
    """When contracts of that expiry stop trading; the usual 15:30 where the calendar does not know the day."""
    try:
        known = trading_day(expiry)
    except OutsideKnownData:
        known = None
    return known.close_ms_of(expiry) if known else moment_ms(expiry, _USUAL_CLOSE)


def ist_text(at_ms: int) -> str:
    """A moment as Dhan's order rows write it: IST without an offset."""
    return datetime.fromtimestamp(at_ms / 1000, IST).strftime("%Y-%m-%d %H:%M:%S")
