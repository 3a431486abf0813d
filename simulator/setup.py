"""What day to play, and the market of that day: seeded, or a recording with seeded neighbours.

Invariants:
1. A day that cannot be played is refused here, with what was expected and what to do.
2. All four indices have a path, whichever of them is asked for.
"""

from dataclasses import dataclass
from datetime import date, time
from pathlib import Path

from simulator.credentials import DEFAULT_CLIENT_ID, DEFAULT_PIN, DEFAULT_TOKEN, DEFAULT_TOTP_SECRET
from simulator.exchange import DEFAULT_TRANSIT_MS
from simulator.history import History
from simulator.instruments import Listing
from simulator.market import Market
from simulator.paths import IndexPath, Window, seeded_path
from simulator.replay import Recording, read_recording
from simulator.sessions import trading_windows
from strategy.calendar import OutsideKnownData
from strategy.instruments import INDICES, Underlying
from strategy.recordings import RecordingError

# Where the seeded indices come from: levels of the days around November 2026.
USUAL_LEVELS = {
    Underlying.NIFTY: 24_400.0,
    Underlying.BANKNIFTY: 54_200.0,
    Underlying.FINNIFTY: 25_850.0,
    Underlying.SENSEX: 80_100.0,
}


class DayInvalid(Exception):
    """The day cannot be played; the message says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Setup:
    """What to play."""

    day: date
    seed: int = 7
    indices: tuple[Underlying, ...] = (Underlying.NIFTY,)
    recording: Path | None = None
    facts: str = ""  # the text of an operator's own dated market facts
    start: time = time(9, 0)
    client_id: str = DEFAULT_CLIENT_ID
    token: str = DEFAULT_TOKEN
    pin: str = DEFAULT_PIN
    totp_secret: str = DEFAULT_TOTP_SECRET
    funds_paise: int = 500_000_00
    transit_ms: int = DEFAULT_TRANSIT_MS
    rate_limits: bool = True
    stacked: bool = False


class SeededPaths(dict[Underlying, IndexPath]):
    """The indices' paths, each made when it is first asked for."""

    def __init__(self, setup: Setup, windows: tuple[Window, ...]) -> None:
        super().__init__()
        self._setup = setup
        self._windows = windows

    def __missing__(self, underlying: Underlying) -> IndexPath:
        """Make the day of one index."""
        path = self[underlying] = seeded_path(
            seed=self._setup.seed,
            key=int(INDICES[underlying].security_id),
            day_ordinal=self._setup.day.toordinal(),
            windows=self._windows,
            previous_close=USUAL_LEVELS[underlying],
        )
        return path


def open_market(setup: Setup) -> tuple[Market, History]:
    """The market of the day and the days before it. Raises DayInvalid or RecordingError."""
    recording = read_recording(setup.recording) if setup.recording is not None else None
    recorded = setup.indices[0] if recording is not None else None
    if recording is not None and recording.instrument not in ("", recorded):
        raise RecordingError(
            f"expected a recording of {recorded}, found one of {recording.instrument};"
            f" say --index {recording.instrument}"
        )
    windows = _windows(setup, recording)
    paths = SeededPaths(setup, windows)
    closes = dict(USUAL_LEVELS)
    if recording is not None and recorded is not None:
        paths[recorded] = recording.path(setup.day)
        closes[recorded] = paths[recorded].previous_close_paise / 100
    listing = Listing(setup.day, closes, setup.facts)
    history = History(
        seed=setup.seed, day=setup.day, facts=setup.facts, today=paths, recording=recording, recorded=recorded
    )
    market = Market(seed=setup.seed, day=setup.day, windows=windows, paths=paths, listing=listing)
    return market, history


def _windows(setup: Setup, recording: Recording | None) -> tuple[Window, ...]:
    """The calendar's hours; those of the recording for a day beyond the calendar's knowledge."""
    day = setup.day
    recorded = recording.windows(day) if recording is not None else ()
    try:
        windows = trading_windows(day, setup.facts)
    except OutsideKnownData as error:
        if not recorded:
            raise DayInvalid(str(error)) from error
        return recorded
    if not windows:
        raise DayInvalid(
            f"expected a trading day, found {day:%A} {day} on which the market is closed; choose another --day"
        )
    return windows
