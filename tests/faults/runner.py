"""Trades a day of a rehearsal in processes that may be killed, each forked from one that has imported everything.

Started by `stage.py`. One JSON object per line comes in on standard input and is answered on standard output:
{"start": work} -> {"pid": …}, {"wait": pid, "for_s": …} -> {"status": exit code, negative for a signal, or null}.

Invariants:
1. The bot's code runs unmodified through its composition root; what is wrapped is named in the work: the one step to
   die at (`steps.py`), and, where the suite proves itself, one planted fault (`planted.py`).
2. The parent has a single thread, so a fork is a fresh start without the seconds that imports take.
"""

import json
import logging
import os
import signal
import sys
import tempfile
import time
import traceback
from datetime import date
from pathlib import Path
from typing import Any

import planted
from steps import Reaper, owner_of

import tasks.ledger.postgres
import tasks.ledger.sqlite  # noqa: F401  imported before the fork, like the one above
from strategy.instruments import INDICES, Underlying
from strategy.params import Params
from strategy.risk import entries_filled
from strategy.session import trades
from tasks.connect import Connections
from tasks.evening.prices import price_orders
from tasks.evening.reconciliation import reconcile_session
from tasks.instruments import InstrumentMaster
from tasks.ledger.store import migrate
from tasks.settings import Settings
from tasks.trading import session


def trade_day(work: dict[str, Any]) -> None:
    """One start of the day's process, up to the end of the evening unless it is killed before."""
    home = Path(work["home"])
    reaper = Reaper(
        home / "kills.log",
        step=work.get("step", ""),
        nth=work.get("nth", 0),
        hangs_until=home / work["hangs_until"] if "hangs_until" in work else None,
    )
    _watch_the_end(home)
    reaper.install()
    for place, value in work.get("constants", {}).items():
        setattr(*owner_of(place), value)
    if fault := work.get("planted"):
        planted.FAULTS[fault]()
    if after_s := work.get("kill_after_s"):
        # SIGALRM without a handler ends the process in the kernel, wherever it is: also inside a library's C code.
        signal.setitimer(signal.ITIMER_REAL, after_s)
    params = Params(mode="rehearsal", **work["params"])
    day = date.fromisoformat(work["day"])
    with Connections(params, day, run_id=f"start-{os.getpid()}", settings=_settings(work)) as connections:
        session.trade_session(connections)
        price_orders(connections.ledger, connections.session_id, connections.rates)
        reconcile_session(
            connections.ledger,
            connections.broker,
            connections.session_id,
            run_id=connections.run_id,
            at_ms=connections.now_ms(),
        )
    (home / "passages.json").write_text(json.dumps(reaper.passages))


def _settings(work: dict[str, Any]) -> Settings:
    return Settings(
        simulator_url=work["simulator"],
        home=Path(work["home"]),
        ledger_url=work["ledger"],
        notify_urls=tuple(work.get("notify", ())),
    )


def _watch_the_end(home: Path) -> None:
    """Write down what the session itself counted, for the comparison with the broker's book."""
    owner, name = owner_of("tasks.trading.session:trade")
    original = getattr(owner, name)

    def trade(desk: Any, *args: Any, **kwargs: Any) -> Any:
        end = original(desk, *args, **kwargs)
        counted = {
            "entries": entries_filled(end.state.book),
            "gross_paise": end.state.book.realised_paise,
            "results_paise": [trade.gross_paise for trade in trades(end.state, desk.plan)],
            "held": sum(position.held for position in end.state.book.positions),
        }
        (home / "counted.json").write_text(json.dumps(counted))
        return end

    setattr(owner, name, trade)


def remember_contracts() -> None:
    """Parse an instrument master once, before the fork: a third of a start's work, and the same in each."""
    owner, name = owner_of("tasks.instruments:read_contracts")
    original = getattr(owner, name)
    parsed: dict[tuple[str, ...], Any] = {}

    def read(lines: Any, *about: Any) -> Any:
        key = tuple(map(str, about))
        if key not in parsed:
            parsed[key] = original(lines, *about)
        return parsed[key]

    setattr(owner, name, read)


def start(work: dict[str, Any]) -> int:
    """Fork a process that does `work`; its pid."""
    settings, day = _settings(work), date.fromisoformat(work["day"])
    if any((settings.home / "instruments").iterdir()):
        InstrumentMaster.of_day(settings, day).expiries(INDICES[Underlying.NIFTY])
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        log = Path(work["home"]) / "log.txt"
        log.parent.mkdir(parents=True, exist_ok=True)
        output = os.open(log, os.O_CREAT | os.O_WRONLY | os.O_APPEND)
        for descriptor, target in ((os.open(os.devnull, os.O_RDONLY), 0), (output, 1), (output, 2)):
            os.dup2(descriptor, target)
        logging.basicConfig(level=logging.INFO, format="%(asctime)s %(process)d %(name)s %(message)s", force=True)
        trade_day(work)
        code = 0
    except BaseException:  # noqa: BLE001  the process is over; the log says why
        traceback.print_exc()
    finally:
        logging.shutdown()
        sys.stderr.flush()
        os._exit(code)


def wait(pid: int, for_s: float) -> int | None:
    """How the process ended, as subprocess says it; None when it has not in time."""
    ends = time.monotonic() + for_s
    while True:
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() >= ends:
            return None
        time.sleep(0.005)


def main() -> None:
    """Serve until standard input ends."""
    remember_contracts()
    with tempfile.TemporaryDirectory() as scratch:
        migrate(f"sqlite:///{scratch}/ledger.sqlite")  # what it imports, each child has
    print(json.dumps({"ready": os.getpid()}), flush=True)
    for line in sys.stdin:
        wish = json.loads(line)
        if "start" in wish:
            answer: dict[str, Any] = {"pid": start(wish["start"])}
        else:
            answer = {"status": wait(wish["wait"], wish["for_s"])}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
