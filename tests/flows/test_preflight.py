"""What must be true before the first order, each with a plain reason when it is not."""

import datetime as dt
import threading
from contextlib import closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace

import pytest
from prefect.settings import PREFECT_API_URL, temporary_settings

from flows.session import render_failures
from strategy.params import Params
from tasks.arming import arm, armed_days, disarm
from tasks.broker import BrokerUnavailable
from tasks.clock import real_now_ms
from tasks.connect import Connections
from tasks.preflight import (
    NotReady,
    clocks_agree,
    ledger_is_sound,
    live_orders_are_armed,
    nobody_else_trades,
    other_addresses,
    people_can_be_reached,
    strangers_are_refused,
)
from tasks.settings import Settings

DAY = dt.date(2026, 11, 23)
LIVE = Params(mode="live")


@pytest.fixture
def live(tmp_path):
    """Connections of a live session that is never traded; nothing here reaches the network."""

    def connect(params=LIVE, **machine):
        account = Settings(
            home=tmp_path,
            dhan_client_id="1000000001",
            dhan_access_token="not-a-real-token",
            simulator_url="",
            **machine,
        )
        return Connections(params, DAY, run_id="test", settings=account)

    return connect


def test_live_orders_need_the_day_and_index_by_name(live):
    with live() as connections:
        account, index = connections.key.account, connections.key.underlying
        with pytest.raises(
            NotReady, match=r"NIFTY is not armed for 2026-11-23: .* 'bot arm --index NIFTY --day 2026-11-23'"
        ):
            live_orders_are_armed(connections)
        arm(connections.ledger, account, connections.params, [DAY - dt.timedelta(days=3)], "trader")
        arm(connections.ledger, account, Params(mode="live", index="SENSEX"), [DAY], "trader")
        arm(connections.ledger, "another account", connections.params, [DAY], "trader")
        with pytest.raises(NotReady, match="NIFTY is not armed for 2026-11-23"):
            live_orders_are_armed(connections)
        arm(connections.ledger, account, connections.params, [DAY], "trader")
        assert live_orders_are_armed(connections) == "armed"
        assert disarm(connections.ledger, account, index, DAY, "trader") == (DAY,)
        with pytest.raises(NotReady, match="was disarmed for 2026-11-23 by trader"):
            live_orders_are_armed(connections)
        arm(connections.ledger, account, connections.params, [DAY], "trader")
        assert live_orders_are_armed(connections) == "armed"


def test_settings_that_were_changed_after_arming_are_not_armed(live):
    """Editing the deployment in the UI, or a custom run, is not enough to trade more."""
    with live() as connections:
        arm(connections.ledger, connections.key.account, Params(mode="live"), [DAY], "trader")
    with (
        live(Params(mode="live", lots=3, daily_max_loss=9_000)) as edited,
        pytest.raises(
            NotReady, match=r"other settings: daily_max_loss 9000\.0 instead of 2000\.0, lots 3 instead of 1"
        ),
    ):
        live_orders_are_armed(edited)
    with live() as as_armed:
        assert live_orders_are_armed(as_armed) == "armed"


def test_what_is_armed_survives_a_restart_and_is_taken_back_from_a_day_on(live):
    days = [DAY + dt.timedelta(days=number) for number in range(3)]
    with live() as connections:
        arm(connections.ledger, connections.key.account, connections.params, days, "trader")
    with live() as later:
        ledger, account, index = later.ledger, later.key.account, later.key.underlying
        assert armed_days(ledger, account, index, DAY) == tuple(days)
        assert disarm(ledger, account, index, days[1], "trader") == tuple(days[1:])
        assert armed_days(ledger, account, index, DAY) == (DAY,)


def test_the_lease_of_a_living_session_refuses_a_second_one_and_says_who(live):
    with live() as connections:
        leases = connections.ledger.leases
        assert nobody_else_trades(connections) == "lease free"
        lease = leases.take(connections.key, "another run", real_now_ms())
        alive = threading.Timer(1.0, lambda: leases.renew(lease, real_now_ms()))
        alive.start()
        with pytest.raises(NotReady, match="held by another run until"):
            nobody_else_trades(connections)
        alive.join()
        leases.release(lease)
        assert nobody_else_trades(connections) == "lease free"


def test_the_lease_of_a_dead_session_is_waited_for(live):
    with live() as connections:
        connections.ledger.leases.take(connections.key, "a dead run", real_now_ms(), ttl_s=1.5)
        assert nobody_else_trades(connections) == "lease free"


def test_a_refusal_says_each_reason_once_with_its_checks_and_a_next_step():
    away = BrokerUnavailable("the instrument master did not arrive")
    assert render_failures(
        [("a_check", away), ("another_check", away), ("funds", NotReady("No funds: add some."))]
    ) == (
        "Not ready to trade:\n"
        "- the instrument master did not arrive. Does this machine reach the broker? (check: a check, another check)\n"
        "- No funds: add some. (check: funds)"
    )


def test_a_machine_without_a_line_is_told_so_by_the_clock_too():
    nowhere = Settings(_env_file=None, dhan_api_url="https://127.0.0.1:9/v2")
    with pytest.raises(NotReady, match=r"ConnectionError\. Does this machine reach the internet"):
        clocks_agree(SimpleNamespace(settings=nowhere))


def test_a_new_ledger_is_sound(live):
    with live() as connections:
        assert ledger_is_sound(connections) == "ledger migrated and sound"


class Server:
    """A Prefect server as a stranger sees it: one answer for every call."""

    def __init__(self, status, host="127.0.0.1"):
        class Answer(BaseHTTPRequestHandler):
            def do_GET(self):
                self.send_response(status)
                self.end_headers()

            def log_message(self, *_):
                pass

        self.http = ThreadingHTTPServer((host, 0), Answer)
        threading.Thread(target=self.http.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self.http.server_port}/api"

    def close(self):
        self.http.shutdown()
        self.http.server_close()


@pytest.mark.parametrize("status", [200, 401])
def test_a_prefect_server_that_others_can_reach_must_ask_for_a_password(live, monkeypatch, status):
    server = Server(status)
    with closing(server), temporary_settings({PREFECT_API_URL: server.url}), live() as connections:
        assert strangers_are_refused(connections) == "the Prefect server is on this machine only"
        monkeypatch.setattr("tasks.preflight.is_loopback", lambda _: False)  # as if it were another machine's
        if status == 401:
            assert strangers_are_refused(connections) == "the Prefect server refuses strangers"
        else:
            with pytest.raises(NotReady, match=r"without a password \(401\), found 200"):
                strangers_are_refused(connections)


@pytest.mark.parametrize("status", [200, 401])
def test_a_server_here_that_listens_on_every_address_must_ask_for_a_password_too(live, status):
    if not other_addresses("http://127.0.0.1:4200/api"):
        pytest.skip("this machine has no address that others could use")
    server = Server(status, host="0.0.0.0")
    with closing(server), temporary_settings({PREFECT_API_URL: server.url}), live() as connections:
        if status == 401:
            assert strangers_are_refused(connections) == "the Prefect server refuses strangers"
        else:
            with pytest.raises(NotReady, match=r"without a password \(401\), found 200"):
                strangers_are_refused(connections)


def test_a_prefect_server_that_is_away_holds_up_no_trading(live, monkeypatch):
    monkeypatch.setattr("tasks.preflight.is_loopback", lambda _: False)
    with temporary_settings({PREFECT_API_URL: "http://127.0.0.1:9/api"}), live() as connections:
        assert "cannot be asked" in strangers_are_refused(connections)


def test_with_real_money_somebody_must_hear_of_trouble(live, web_hook):
    with live() as silent, pytest.raises(NotReady, match="found none configured"):
        people_can_be_reached(silent)
    with live(notify_urls=("json://127.0.0.1:9/hook",)) as deaf, pytest.raises(NotReady, match="False"):
        people_can_be_reached(deaf)
    with live(notify_urls=(web_hook.url,)) as heard:
        assert people_can_be_reached(heard).startswith("notices arrive: ")
    assert "notifications work" in web_hook.heard[0]["title"]
