"""A recorded day as the path of an index. How bars become ticks is said in `strategy.recordings`."""

from dataclasses import dataclass
from datetime import date
from pathlib import Path

from simulator.paths import IndexPath
from strategy import recordings
from strategy.recordings import RecordingError, parse_recording


@dataclass(frozen=True, slots=True, kw_only=True)
class Recording(recordings.Recording):
    """A recording that can be played."""

    def path(self, day: date) -> IndexPath:
        """The ticks of `day` and its previous close."""
        points = self.points(day)
        return IndexPath.of([at for at, _ in points], [price for _, price in points], self.previous_close_paise(day))


def read_recording(source: Path) -> Recording:
    """Read a file of either kind. Raises RecordingError."""
    try:
        with source.open(newline="", encoding="utf-8-sig") as lines:
            read = parse_recording(lines, source.name)
    except OSError as error:
        raise RecordingError(f"expected a readable recording, found {error}; check the path of --recording") from error
    except UnicodeDecodeError as error:
        raise RecordingError(f"expected a CSV text file, found bytes in {source} that are not text: {error}") from error
    return Recording(source=read.source, instrument=read.instrument, minutes=read.minutes, bars=read.bars)
