"""The Prefect UI shows a session while it trades; nothing about Prefect reaches the session."""

import base64
import json
import logging
import re
import threading
from dataclasses import dataclass, field, replace
from datetime import date
from types import SimpleNamespace
from uuid import uuid4

import pytest
from prefect import flow, task
from prefect.cache_policies import NO_CACHE
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterFlowRunId
from prefect.context import get_run_context
from prefect.settings import PREFECT_API_URL, PREFECT_CLIENT_MAX_RETRIES, temporary_settings

from strategy.instruments import Underlying
from tasks.clock import Deadline, pause
from tasks.ledger.records import SessionKey
from tasks.pages.artifacts import (
    LiveArtifacts,
    LivePosition,
    LiveTrade,
    LiveView,
    PrefectArtifacts,
    StoreUnavailable,
    day_trade_rows,
    live_trade_rows,
    render_chart,
    render_position,
)
from tasks.pages.live import standing
from tasks.pages.summary import DaySummary

KEY = SessionKey(account="1000000009", underlying=Underlying.NIFTY, mode="paper", day=date(2026, 11, 20))
VIEW = LiveView(
    at_ms=1_795_150_000_000,
    state="trading",
    progress=0.25,
    spot_paise=24_512_30,
    supertrend_points=24_480.1,
    direction=1,
    htf_direction=-1,
    position=None,
    day_net_paise=-120_50,
    trades_today=1,
    trades_max=5,
    loss_limit_paise=2_000_00,
    no_entry="no_flip",
    refusals={"cooldown": 3, "no_flip": 40},
    trades=(
        LiveTrade(
            trade=1,
            contract_name="NIFTY 23 NOV 24500 CE",
            option_type="CE",
            quantity=65,
            entry_at_ms=1_795_147_000_000,
            entry_paise=120_00,
            exit_at_ms=1_795_147_060_000,
            exit_paise=119_10,
            exit_reason="reversal",
            net_paise=-120_50,
        ),
    ),
)
HOLDING = replace(
    VIEW,
    position=LivePosition(
        contract_name="NIFTY 23 NOV 24500 CE",
        quantity=65,
        entry_paise=126_05,
        last_paise=131_00,
        stop_paise=76_05,
        unrealised_paise=321_75,
    ),
    no_entry="position_open",
)


@dataclass
class Shelf:
    """Keeps what is put on it; `away` is how often it refuses first."""

    puts: list = field(default_factory=list)
    away: int = 0
    hold: threading.Event | None = None
    closed: bool = False

    def put(self, kind, key, content, description):
        assert description
        if self.hold is not None:
            self.hold.wait(30)
        if self.away > 0:
            self.away -= 1
            raise StoreUnavailable("not there")
        self.puts.append((kind, key, content))

    def page(self, _key):
        return None

    def controls(self):
        return {}

    def close(self):
        self.closed = True

    def of(self, key):
        return [content for _, found, content in self.puts if found == key]


def until(condition, seconds=60.0):
    deadline = Deadline(seconds)
    while not condition():
        assert not deadline.passed, "this did not happen in time"
        pause(0.01)


def test_the_state_says_what_is_held_what_it_made_and_why_there_is_no_entry():
    flat = render_position(KEY, VIEW)
    assert flat.startswith("# NIFTY · paper · -₹120.50 today\n")
    assert "1 of 5 trades" in flat
    assert "No entry on the last candle: SuperTrend did not turn." in flat
    assert "| 24,512.30 | 24,480.10 | ▲ up | ▼ down | ₹2,000.00 |" in flat
    assert "SuperTrend did not turn 40, too soon after an order 3" in flat
    holding = render_position(KEY, HOLDING)
    assert holding.startswith("# NIFTY · paper · +₹201.25 today\n")
    assert "| 65 × NIFTY 23 NOV 24500 CE | 126.05 | 131.00 | 76.05 | **+₹321.75** |" in holding
    assert "No entry" not in holding.partition("Why no entry")[0]


def test_the_stop_button_is_on_the_same_page_as_the_position():
    page = render_position(KEY, HOLDING, {"squareoff": "http://127.0.0.1:4200/deployments/deployment/7"})
    assert "**STOP: [squareoff](http://127.0.0.1:4200/deployments/deployment/7)** closes everything now" in page
    assert "**STOP: squareoff** closes everything now" in render_position(KEY, HOLDING), "without Prefect, by name"
    before_it = page.partition("**STOP: ")[0]
    assert before_it == "# NIFTY · paper · +₹201.25 today\n\n", "however long the page is, it is where the eye falls"


def test_one_page_leads_to_the_others():
    page = render_position(KEY, HOLDING, {}, {"chart": "/artifacts/artifact/7", "trades": "/artifacts/artifact/8"})
    assert "More: [chart](/artifacts/artifact/7) · [trades](/artifacts/artifact/8)" in page


PLAN = SimpleNamespace(hours=((100, 900),), squareoff_ms=800, entry_cutoff_ms=700, is_open=lambda at_ms: at_ms != 400)
HELD, BUYING = SimpleNamespace(quantity=65, entry_in_flight=False), SimpleNamespace(quantity=0, entry_in_flight=True)
STANDINGS = {
    "before the open": (50, (), None, (), "waiting for the open"),
    "in the day": (200, (), None, (), "trading"),
    "between two windows": (400, (), None, (), "market break"),
    "halted": (200, (), None, ("operator",), "halted"),
    "after the cutoff": (750, (HELD,), None, (), "entries closed"),
    "at the squareoff, with something held": (800, (HELD,), None, (), "squaring off"),
    "at the squareoff, with nothing held": (800, (), None, (), "closed for the day"),
    "stopped by hand, the exit on its way": (200, (HELD,), "manual", ("manual squareoff",), "squaring off"),
    "stopped by hand, an entry on its way": (200, (BUYING,), "manual", ("manual squareoff",), "squaring off"),
    "stopped by hand, sold": (200, (), "manual", ("manual squareoff",), "closed for the day"),
}


@pytest.mark.parametrize("name", STANDINGS)
def test_the_page_says_where_in_its_day_the_session_is(name):
    at_ms, positions, ending, halts, expected = STANDINGS[name]
    seen = SimpleNamespace(at_ms=at_ms, positions=positions, ending=ending, halts=halts, over=False)
    assert standing(seen, PLAN) == expected


def test_halts_and_doubts_stand_out():
    text = render_position(KEY, replace(VIEW, halts=("daily_max_loss",), cautions=("ledger_unavailable",)))
    assert "> **halted:** daily max loss" in text
    assert "> **no entries while:** ledger unavailable" in text


def test_what_is_not_known_yet_is_a_dash():
    view = replace(VIEW, spot_paise=None, supertrend_points=None, direction=0, htf_direction=None, loss_limit_paise=0)
    assert "| – | – | not known yet | off | off |" in render_position(KEY, view)


def test_trades_become_rows_the_newest_first():
    second = replace(VIEW.trades[0], trade=2, exit_at_ms=None, exit_paise=None, exit_reason=None)
    rows = live_trade_rows(replace(VIEW, trades=(*VIEW.trades, second)))
    assert [(row["trade"], row["sold"], row["net"]) for row in rows] == [
        ("2", "open", ""),
        ("1", "09:27:40", "-₹120.50"),
    ]


def test_a_days_trades_become_rows_with_their_explanations(recorded_day):
    summary = DaySummary.build(recorded_day.ledger, recorded_day.session_id)
    rows = day_trade_rows(summary)
    assert [row["trade"] for row in rows] == ["1", "2", "3", "4"]
    assert rows[0]["why bought"] == summary.trades[0].why_entry
    assert json.loads(json.dumps(rows)) == rows


def test_only_what_changed_is_published_and_only_the_newest_view():
    shelf = Shelf()
    live = LiveArtifacts(KEY, store=shelf, period_s=0.05)
    live.start()
    live.show(VIEW)
    until(lambda: len(shelf.puts) == 3)
    live.show(VIEW)
    pause(0.3)
    assert len(shelf.puts) == 3
    for number in range(100):
        live.show(replace(VIEW, trades_today=number))
    live.show(HOLDING)
    live.close()
    states = shelf.of("nifty-paper-position")
    assert states[-1] == render_position(KEY, HOLDING)
    assert len(states) <= 4
    assert shelf.of("nifty-paper-progress") == [25.0]
    assert shelf.of("nifty-paper-trades") == [live_trade_rows(VIEW)]


def test_the_chart_is_drawn_from_the_candles_of_this_and_the_earlier_start(recorded_day):
    candles = recorded_day.candles
    shelf = Shelf()
    live = LiveArtifacts(KEY, store=shelf, period_s=0.05, candles=candles[:2000])
    live.start()
    for candle in candles[2000:2500]:
        live.add_candle(candle)
    live.show(VIEW)
    until(lambda: shelf.of("nifty-paper-chart"))
    live.close(timeout_s=60)
    (chart, *_) = shelf.of("nifty-paper-chart")
    png = base64.b64decode(re.search(r"base64,(.*)\)", chart)[1])
    assert png.startswith(b"\x89PNG")
    assert live._candles == list(candles[:2500])


def test_while_the_api_is_away_the_session_notices_nothing_and_the_log_hears_it_once(caplog):
    shelf = Shelf(away=3)
    live = LiveArtifacts(KEY, store=shelf, period_s=0.02)
    with caplog.at_level(logging.INFO, logger="tasks.pages.artifacts"):
        live.start()
        live.show(VIEW)
        until(lambda: shelf.puts)
        live.close()
    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"]


def test_a_store_that_hangs_holds_up_neither_show_nor_close(recorded_day):
    shelf = Shelf(hold=threading.Event())
    live = LiveArtifacts(KEY, store=shelf, period_s=0.01)
    live.start()
    for candle in recorded_day.candles:
        live.show(VIEW)
        live.add_candle(candle)
    live.close(timeout_s=0.2)
    assert shelf.puts == []
    shelf.hold.set()
    live._thread.join(30)


def test_outside_a_flow_run_nothing_is_published():
    live = LiveArtifacts(KEY)
    live.start()
    live.show(VIEW)
    live.close()
    assert not live._thread.is_alive()


def test_an_api_that_is_not_there_is_store_unavailable():
    with temporary_settings({PREFECT_API_URL: "http://127.0.0.1:1/api", PREFECT_CLIENT_MAX_RETRIES: 0}):
        store = PrefectArtifacts()
        store.flow_run_id = uuid4()
        assert store.is_possible
        with pytest.raises(StoreUnavailable, match="ConnectError"):
            store.put("markdown", "a-key", "text", "words")
        store.close()


@pytest.mark.slow
def test_a_prefect_server_shows_the_session_of_a_run_updated_in_place(prefect_server, recorded_day):
    @task(cache_policy=NO_CACHE)
    def trade():
        live = LiveArtifacts(KEY, candles=recorded_day.candles, period_s=0.05)
        live.start()
        live.show(VIEW)
        until(lambda: "nifty-paper-chart" in live._published, seconds=120)
        live.show(replace(HOLDING, progress=0.5))
        live.close(timeout_s=60)

    @flow
    def session():
        trade()
        return get_run_context().flow_run.id

    flow_run_id = session()
    with get_client(sync_client=True) as client:
        found = client.read_artifacts(
            artifact_filter=ArtifactFilter(flow_run_id=ArtifactFilterFlowRunId(any_=[flow_run_id]))
        )
    artifacts = {artifact.key: artifact for artifact in found}
    assert len(found) == 4
    assert {artifact.task_run_id for artifact in found} == {None}, "the run's page shows its own artifacts first"
    assert artifacts["nifty-paper-position"].type == "markdown"
    pages = {key.removeprefix("nifty-paper-"): f"/artifacts/artifact/{found.id}" for key, found in artifacts.items()}
    assert artifacts["nifty-paper-position"].data == render_position(
        KEY, HOLDING, {}, {what: pages[what] for what in ("chart", "trades")}
    )
    assert f"[position, P&L, stop button]({pages['position']})" in artifacts["nifty-paper-chart"].data
    assert json.loads(artifacts["nifty-paper-trades"].data) == live_trade_rows(VIEW)
    assert float(artifacts["nifty-paper-progress"].data) == 50.0
    assert artifacts["nifty-paper-chart"].data.startswith("![NIFTY · paper · ")


@pytest.mark.slow
def test_an_artifact_that_somebody_deleted_is_created_again(prefect_server):
    store = PrefectArtifacts()
    key = f"deleted-{uuid4()}"
    store.put("markdown", key, "one", "")
    with get_client(sync_client=True) as client:
        client.delete_artifact(store._ids[key])
        store.put("markdown", key, "two", "")
        assert client.read_artifacts(artifact_filter=ArtifactFilter(key={"any_": [key]}))[0].data == "two"
    store.close()


def test_a_chart_is_shown_inline():
    assert render_chart(b"\x89PNG", "day") == "![day](data:image/png;base64,iVBORw==)\n"
