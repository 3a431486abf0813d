"""Start the simulator: `python -m simulator --port 0 --seed 7 --day 2026-11-20 --speed 0`.

Prints one line of JSON when it is ready ({"url", "pid", …}), also into the file of --ready, and serves until SIGTERM or
SIGINT, or until its parent is gone with --with-parent. Addresses under the url: /v2/… and /app/… (REST),
/market-feed and /order-update (WebSocket), /api-data/….csv, and /control/… .
"""

import argparse
import asyncio
import json
import os
import signal
import sys
from datetime import date, time
from pathlib import Path

from simulator.credentials import DEFAULT_CLIENT_ID, DEFAULT_PIN, DEFAULT_TOKEN, DEFAULT_TOTP_SECRET
from simulator.exchange import DEFAULT_TRANSIT_MS
from simulator.server import Server
from simulator.setup import DayInvalid, Setup
from simulator.stage import Stage
from strategy.facts import FactsInvalid
from strategy.instruments import Underlying
from strategy.recordings import RecordingError

USAGE_ERROR = 2


def main(arguments: list[str] | None = None) -> int:
    """Run until told to end; the exit code."""
    wish = _parser().parse_args(arguments)
    # Taken before anything slow, so that a parent that dies meanwhile is noticed.
    parent_pid = os.getppid() if wish.with_parent else None
    try:
        stage = Stage(_setup(wish))
    except (RecordingError, DayInvalid, FactsInvalid, OSError) as error:
        print(f"simulator: {error}", file=sys.stderr)  # noqa: T201 - a command speaks on its standard streams
        return USAGE_ERROR
    try:
        asyncio.run(_serve(Server(stage, wish.speed), wish.port, wish.ready, parent_pid))
    except OSError as error:
        print(f"simulator: port {wish.port} on 127.0.0.1 cannot be opened: {error}", file=sys.stderr)  # noqa: T201
        return USAGE_ERROR
    return 0


async def _serve(server: Server, port: int, ready: Path | None, parent_pid: int | None) -> None:
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ended.set)
    opened = await server.listen(port)
    setup = server.stage.setup
    line = json.dumps(
        {
            "url": f"http://127.0.0.1:{opened}", "pid": os.getpid(), "day": str(setup.day), "seed": setup.seed,
            "speed": server.speed, "client_id": setup.client_id,
        }
    )  # fmt: skip
    if ready is not None:
        # Renamed into place, so that a reader never sees half a line.
        half = ready.with_name(f"{ready.name}.{os.getpid()}")
        half.write_text(line + "\n")
        half.replace(ready)
    print(line, flush=True)  # noqa: T201
    await server.run(ended, parent_pid)


def _setup(wish: argparse.Namespace) -> Setup:
    return Setup(
        day=wish.day,
        seed=wish.seed,
        indices=tuple(wish.index or [Underlying.NIFTY]),
        recording=wish.recording,
        facts=wish.facts.read_text(encoding="utf-8") if wish.facts else "",
        start=wish.start,
        client_id=wish.client_id,
        token=wish.token,
        pin=wish.pin,
        totp_secret=wish.totp_secret,
        funds_paise=round(wish.funds * 100),
        transit_ms=wish.transit_ms,
        rate_limits=wish.rate_limits == "on",
        stacked=wish.stack,
    )


def _speed(text: str) -> float:
    speed = float(text)
    if not 0 <= speed <= 100_000:
        raise ValueError
    return speed


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m simulator", description="A stand-in for Dhan and the exchange on a loopback port."
    )
    add = parser.add_argument
    add("--port", type=int, default=0, help="0 takes any free one")
    add("--seed", type=int, default=7, help="makes the day; the same seed makes the same day")
    add("--day", type=date.fromisoformat, required=True, help="YYYY-MM-DD, a trading day")
    add("--index", type=Underlying, action="append", help="the recording's index; all four always trade")
    add("--speed", type=_speed, default=0.0, help="0: lock-step with a client; N: runs at N times real time")
    add("--recording", type=Path, help="CSV of one-minute bars or five-second candles to play instead of a seeded path")
    add("--facts", type=Path, help="TOML file with an operator's own dated market facts, as the bot has it")
    add("--ready", type=Path, help="file for the line that is printed when the port is open")
    add("--start", type=time.fromisoformat, default=time(9, 0), help="where the market's clock starts, IST")
    add("--client-id", default=DEFAULT_CLIENT_ID)
    add("--token", default=DEFAULT_TOKEN, help="the access token that is alive at the start")
    add("--pin", default=DEFAULT_PIN)
    add("--totp-secret", default=DEFAULT_TOTP_SECRET)
    add("--funds", type=float, default=500_000.0, help="rupees at the start of the day")
    add("--transit-ms", type=int, default=DEFAULT_TRANSIT_MS, help="market time from acceptance to the exchange")
    add("--rate-limits", choices=("on", "off"), default="on", help="Dhan's limits, counted in market time")
    add("--stack", action="store_true", help="all packets of a slice in one feed message")
    add("--with-parent", action="store_true", help="end when the starting process is gone")
    return parser


if __name__ == "__main__":
    sys.exit(main())
