"""What must be true before the first order, each with a plain reason when it is not."""

import datetime as dt

import pytest

from strategy.params import Params
from tasks.clock import real_now_ms
from tasks.connect import Connections
from tasks.preflight import NotReady, ledger_is_sound, live_orders_are_armed, nobody_else_trades
from tasks.settings import Settings

DAY = dt.date(2026, 11, 23)


@pytest.fixture
def live(tmp_path):
    """Connections of a live session that is never traded; nothing here reaches the network."""

    def connect(**settings):
        account = Settings(
            home=tmp_path,
            dhan_client_id="1000000001",
            dhan_access_token="not-a-real-token",
            simulator_url="",
            **settings,
        )
        return Connections(Params(mode="live"), DAY, run_id="test", settings=account)

    return connect


def test_live_orders_need_the_day_and_index_by_name(live):
    with live() as unarmed, pytest.raises(NotReady, match="BOT_ARMED_FOR=2026-11-23/NIFTY was expected, found nothing"):
        live_orders_are_armed(unarmed)
    with live(armed_for="2026-11-20/NIFTY") as yesterday, pytest.raises(NotReady, match="found 2026-11-20/NIFTY"):
        live_orders_are_armed(yesterday)
    with live(armed_for="2026-11-23/NIFTY") as armed:
        assert live_orders_are_armed(armed) == "armed"


def test_the_lease_of_a_living_session_refuses_a_second_one_and_says_who(live):
    with live() as connections:
        assert nobody_else_trades(connections) == "lease free"
        lease = connections.ledger.leases.take(connections.key, "another run", real_now_ms())
        with pytest.raises(NotReady, match="held by another run until"):
            nobody_else_trades(connections)
        connections.ledger.leases.release(lease)
        assert nobody_else_trades(connections) == "lease free"


def test_a_new_ledger_is_sound(live):
    with live() as connections:
        assert ledger_is_sound(connections) == "ledger migrated and sound"
