"""What a crash is played on: a simulator, a runner whose children trade and die, and a ledger for each play.

A play is one short day with kills, ended by processes that live. The market stands while nobody trades (lock-step)
unless it is told to go on. The verdict compares the simulator's book, which is the truth, with the ledger.
"""

import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg
import requests

from tasks.clock import Deadline, pause, real_now_ms
from tasks.ledger.records import CommandRecord
from tasks.ledger.store import Ledger
from tasks.orders.fence import FRESH_MS
from tasks.settings import REHEARSAL_ACCESS_TOKEN, REHEARSAL_CLIENT_ID

from .verdict import Verdict, judge

PROJECT = Path(__file__).resolve().parents[2]
DAY = "2026-11-20"
SESSION_ID = f"{DAY}/NIFTY/rehearsal/{REHEARSAL_CLIENT_ID}"
STARTS_MAX = 40
END_LIMIT_S = 120.0

# Two and a half minutes with an order every few seconds; stops trail, limits are out of the way.
BUSY = {
    "candle_seconds": 5, "supertrend_period": 3, "supertrend_multiplier": 1.0, "flip_only": False,
    "macd_confirmation": False, "htf_filter": False, "min_hold_seconds": 0, "order_cooldown_seconds": 0,
    "max_trades_per_day": 100, "daily_max_loss": 100_000, "stop_loss_points": 3, "target_points": 4,
    "trail_start_points": 1, "trail_step_points": 0.5, "lots": 2,
    "entry_start": "14:40", "entry_cutoff": "14:42:20", "squareoff_at": "14:42:30",
}  # fmt: skip
START = "14:40:00"
# Enough for the second exit and what follows from it.
SHORT = {"entry_cutoff": "14:41:20", "squareoff_at": "14:41:30"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Kill:
    """How one start of the process dies: at the nth passage of a step (any, if unnamed) or after real seconds."""

    step: str = ""
    nth: int = 0
    after_s: float = 0.0
    hangs: bool = False  # the thread that passes waits for the file "go on" instead
    dead_s: float = 0.0  # market time that passes before the next start


@dataclass(frozen=True, slots=True, kw_only=True)
class Play:
    """One day: settings on top of the busy ones, the simulator's faults, kills, and what runs beside it."""

    kills: tuple[Kill, ...] = ()
    params: dict[str, Any] = field(default_factory=dict)
    faults: tuple[dict[str, Any], ...] = ()
    planted: str = ""
    work: dict[str, Any] = field(default_factory=dict)  # what else the runner is told
    held_before: int = 0  # units that somebody else bought before the day began
    command: str = ""  # what an operator asks for during the first start
    funds: float = 5_000_000.0


class Runner:
    """The process that has imported everything and forks those that trade."""

    def __init__(self, log: Path) -> None:
        self._log = log.open("wb")
        environment = {name: value for name, value in os.environ.items() if not name.startswith(("BOT_", "PREFECT_"))}
        self._process = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("runner.py"))],
            cwd=PROJECT,
            env={**environment, "PYTHONPATH": str(PROJECT)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
        )
        self.answer()

    def start(self, work: dict[str, Any]) -> int:
        """A process that trades; its pid."""
        return self.ask(start=work)["pid"]

    def wait(self, pid: int, for_s: float = END_LIMIT_S) -> int | None:
        """Its end."""
        return self.ask(wait=pid, for_s=for_s)["status"]

    def ask(self, **wish: Any) -> dict[str, Any]:
        self._process.stdin.write(json.dumps(wish) + "\n")
        self._process.stdin.flush()
        return self.answer()

    def answer(self) -> dict[str, Any]:
        line = self._process.stdout.readline()
        assert line, f"the runner died: {Path(self._log.name).read_text()}"
        return json.loads(line)

    def close(self) -> None:
        self._process.stdin.close()
        self._process.wait(30)
        self._process.stdout.close()
        self._log.close()


class Market:
    """The simulator, in a process of its own; the same day again for every play."""

    def __init__(self, home: Path, seed: int = 7) -> None:
        self._log = (home / "simulator.log").open("wb")
        self._process = subprocess.Popen(
            [
                sys.executable, "-m", "simulator", "--port", "0", "--with-parent", "--speed", "0", "--day", DAY,
                "--seed", str(seed), "--start", START, "--rate-limits", "off",
                "--client-id", REHEARSAL_CLIENT_ID, "--token", REHEARSAL_ACCESS_TOKEN,
            ],
            cwd=PROJECT, stdout=subprocess.PIPE, stderr=self._log, text=True,
        )  # fmt: skip
        line = self._process.stdout.readline()
        assert line, (home / "simulator.log").read_text()
        self.url = json.loads(line)["url"]
        self._session = requests.Session()
        self._session.trust_env = False

    def control(self, method: str, path: str, body: Any = None) -> Any:
        reply = self._session.request(method, f"{self.url}/control/{path}", json=body, timeout=60)
        assert reply.ok, reply.text
        return reply.json()

    def restart(self, play: Play) -> None:
        self.control("POST", "restart", {"start": START, "funds": play.funds, "rate_limits": False})
        if play.faults:
            self.control("POST", "faults", list(play.faults))
        if play.held_before:
            self._buy(play.held_before)

    def _buy(self, quantity: int) -> None:
        """Somebody buys the option at the money by hand."""
        headers = {"access-token": REHEARSAL_ACCESS_TOKEN, "client-id": REHEARSAL_CLIENT_ID}
        ask = {"UnderlyingScrip": 13, "UnderlyingSeg": "IDX_I"}

        def post(path: str, body: dict[str, Any]) -> Any:
            reply = self._session.post(f"{self.url}/v2/{path}", json=body, headers=headers, timeout=30)
            assert reply.ok, reply.text
            return reply.json()

        expiry = post("optionchain/expirylist", ask)["data"][0]
        chain = post("optionchain", {**ask, "Expiry": expiry})["data"]
        row = chain["oc"][f"{round(chain['last_price'] / 50) * 50:.6f}"]["ce"]
        post(
            "orders",
            {
                "dhanClientId": REHEARSAL_CLIENT_ID, "transactionType": "BUY", "exchangeSegment": "NSE_FNO",
                "productType": "MARGIN", "orderType": "LIMIT", "validity": "DAY", "quantity": quantity,
                "securityId": str(row["security_id"]), "price": row["top_ask_price"] + 5, "disclosedQuantity": 0,
                "afterMarketOrder": False, "triggerPrice": 0.0, "boProfitValue": None, "boStopLossValue": None,
            },
        )  # fmt: skip
        self.pass_time(5)

    def pass_time(self, seconds: float) -> None:
        if seconds:
            self.control("POST", "advance", {"seconds": seconds})

    def known_faults(self) -> list[str]:
        """The names of what can be made to go wrong, as the simulator lists them in its refusal."""
        reply = self._session.post(f"{self.url}/control/faults", json=[{"fault": "?"}], timeout=60)
        return sorted(reply.json()["faults"])

    def truth(self) -> dict[str, Any]:
        return self.control("GET", "truth")

    def close(self) -> None:
        self._process.terminate()
        self._process.wait(20)
        self._process.stdout.close()
        self._session.close()
        self._log.close()


@dataclass
class Stage:
    """Everything a play needs; `new_ledger` gives the URL of a database of its own (migrated or empty)."""

    market: Market
    runner: Runner
    home: Path
    master: Path  # the instrument master, fetched once
    plays: int = 0

    def play(self, play: Play, ledger_url: str, *, beside: Callable[[int, Path], None] | None = None) -> Verdict:
        """Play the day to its end, however often it is killed, and judge it.

        `beside(pid, home)` is called once after the first start, while it trades.
        """
        home = self.new_home()
        self.market.restart(play)
        died: list[str] = []
        fell: list[int] = []
        for kill in (*play.kills, *[None] * STARTS_MAX):
            pid = self.start(play, ledger_url, home, kill)
            if play.command and not died:
                self.ask(play.command, ledger_url)
            if beside is not None:
                beside(pid, home)
                beside = None
            status = self.runner.wait(pid)
            if status is None:
                os.kill(pid, signal.SIGKILL)
                self.runner.wait(pid)
                raise AssertionError(f"a start did not end within {END_LIMIT_S:.0f} s; see {home / 'log.txt'}")
            if status == 0:
                break
            if status in (-signal.SIGKILL, -signal.SIGALRM):
                died.append(kill.step if kill else "?")
            else:
                fell.append(status)
            free_lease(ledger_url)
            # What falls by itself is started again by a person, a moment later.
            self.market.pass_time(kill.dead_s if kill else 5)
        else:
            raise AssertionError(f"the day did not end within {STARTS_MAX} starts; see {home / 'log.txt'}")
        if not self.master.exists():
            shutil.copytree(home / "instruments", self.master)
        return self.verdict(home, ledger_url, died=len(died), fell=len(fell))

    def play_zombie(self, play: Play, ledger_url: str, *, step: str, nth: int) -> tuple[Verdict, int]:
        """A process hangs at a step, another takes its place, the first one wakes up.

        Returns the day's verdict and how many orders the first one sent after it had been replaced.
        """
        home = self.new_home()
        self.market.restart(play)
        hung = self.start(play, ledger_url, home, Kill(step=step, nth=nth), hangs_until="first may go on")
        wait_until(lambda: passed(home) == [step])
        free_lease(ledger_url)
        # The second one waits as well, before it sends anything, so that the first finds the broker as it left it.
        second = self.start(play, ledger_url, home, Kill(step="timer", nth=1), hangs_until="second may go on")
        wait_until(lambda: passed(home) == [step, "timer"])
        pause(FRESH_MS / 1000)  # nobody is replaced sooner: a lease runs out, or an operator has waited for an answer
        before = len(self.market.truth()["orders"])
        (home / "first may go on").touch()
        self.runner.wait(hung)
        sent = len(self.market.truth()["orders"]) - before
        (home / "second may go on").touch()
        starts = 1
        while status := self.runner.wait(second):
            assert starts < STARTS_MAX, f"the day did not end; see {home / 'log.txt'}"
            free_lease(ledger_url)
            second = self.start(play, ledger_url, home, None)
            starts += 1
        assert status == 0, f"a start did not end in time; see {home / 'log.txt'}"
        return self.verdict(home, ledger_url, died=0, fell=starts - 1), sent

    def ask(self, command: str, ledger_url: str) -> None:
        """An operator's command, once the session's first start is in the ledger."""
        with closing(Ledger(ledger_url)) as ledger:
            wait_until(lambda: SESSION_ID in ledger.session_ids() and bool(ledger.starts(SESSION_ID)))
            ledger.request_command(
                CommandRecord(
                    command_id=f"c-{self.plays}",
                    session_id=SESSION_ID,
                    kind=command,
                    reason="",
                    requested_by="operator",
                    requested_at_ms=real_now_ms(),
                )
            )

    def new_home(self) -> Path:
        self.plays += 1
        home = self.home / f"play{self.plays}"
        (home / "instruments").mkdir(parents=True)
        for file in self.master.glob("*") if self.master.exists() else ():
            (home / "instruments" / file.name).hardlink_to(file)
        return home

    def start(self, play: Play, ledger_url: str, home: Path, kill: Kill | None, **more: Any) -> int:
        doom: dict[str, Any] = {}
        if kill:
            doom = {"step": kill.step, "nth": kill.nth, "kill_after_s": kill.after_s}
            doom |= {"hangs_until": "go on"} if kill.hangs else {}
        return self.runner.start(
            {
                "home": str(home),
                "simulator": self.market.url,
                "ledger": ledger_url,
                "day": DAY,
                "params": {**BUSY, **play.params},
                "planted": play.planted,
                **play.work,
                **doom,
                **more,
            }
        )

    def verdict(self, home: Path, ledger_url: str, *, died: int, fell: int) -> Verdict:
        counted = json.loads((home / "counted.json").read_text())
        with closing(Ledger(ledger_url)) as ledger:
            return judge(ledger, SESSION_ID, self.market.truth(), counted, died=died, fell=fell, home=home)


def passed(home: Path) -> list[str]:
    """The steps at which processes of a play were killed, or hang."""
    log = home / "kills.log"
    return log.read_text().splitlines() if log.exists() else []


def free_lease(ledger_url: str) -> None:
    """As if the half minute had passed after which a dead process's lease is free."""
    with raw(ledger_url) as execute:
        execute("UPDATE lease SET expires_at = heartbeat_at")


@contextmanager
def raw(ledger_url: str) -> Iterator[Callable[[str], None]]:
    """The database without the ledger's door."""
    if ledger_url.startswith("sqlite"):
        path = ledger_url.removeprefix("sqlite:///")
        with closing(sqlite3.connect(path, isolation_level=None, timeout=10)) as connection:
            yield lambda statement: _quietly(connection.execute, statement, sqlite3.OperationalError)
    else:
        with psycopg.connect(ledger_url.replace("+psycopg", ""), autocommit=True) as connection:
            yield lambda statement: _quietly(connection.execute, statement, psycopg.errors.UndefinedTable)


def _quietly(execute: Callable[[str], object], statement: str, no_table: type[Exception]) -> None:
    """A process that was killed before the first migration has left no table."""
    try:
        execute(statement)
    except no_table:
        return


def wait_until(condition: Callable[[], bool], for_s: float = 60.0) -> None:
    """Wait for something that another process does."""
    deadline = Deadline(for_s)
    while not condition():
        assert not deadline.passed, "what was waited for did not happen"
        pause(0.02)
