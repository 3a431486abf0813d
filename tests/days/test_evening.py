"""The evening after a short real session, through its flows: planted differences, trouble, and a second run."""

import base64
import csv
import json
import shutil
import sqlite3
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from datetime import date, timedelta
from pathlib import Path

import pytest
import requests
from prefect.client.orchestration import get_client

import flows.reconciliation
from flows.analytics import analytics
from flows.cli import app
from flows.evening import unfinished_evenings
from flows.reconciliation import reconcile_day, reconciliation
from strategy.charges import rates_on
from strategy.closed_trades import LAYOUT
from strategy.params import Params
from tasks.broker import BrokerUnavailable
from tasks.clock import real_today
from tasks.connect import Connections, open_broker
from tasks.evening.packing import record_packed
from tasks.evening.prices import price_orders
from tasks.evening.reconciliation import compare_session
from tasks.evening.replay import prove
from tasks.ledger.store import Ledger
from tasks.ledger.tables import LedgerTable
from tasks.pages.money import render_rupees
from tasks.settings import REHEARSAL_ACCESS_TOKEN, REHEARSAL_CLIENT_ID, Settings
from tasks.trading.session import trade_session

from .conftest import simulator, truth

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(600),
    pytest.mark.usefixtures("prefect_server", "_impatient"),
]

DAY = date(2026, 11, 20)
# Trades at once and often, above the freeze quantity, so that orders have slices and several fills.
BUSY = Params(
    index="NIFTY",
    mode="rehearsal",
    supertrend_period=1,
    supertrend_multiplier=0.5,
    macd_confirmation=False,
    htf_filter=False,
    flip_only=False,
    stop_loss_points=3,
    lots=30,
    max_trades_per_day=2,
    daily_max_loss=0,
    entry_cutoff="15:00",
    squareoff_at="15:02",
)


@dataclass
class Evening:
    """A session that is over, and the market that still stands."""

    url: str
    home: Path
    ledger_url: str
    session_id: str
    foreign_order_id: str

    def call(self, method, path, **request):
        reply = requests.request(method, f"{self.url}{path}", timeout=30, **request)
        reply.raise_for_status()
        return reply.json()


@contextmanager
def an_evening(home, ledger_url):
    """Trade a few minutes; afterwards someone buys by hand."""
    with simulator(home, "--index", "NIFTY", "--speed", "0", "--day", str(DAY), "--start", "14:56") as url:
        settings = Settings(simulator_url=url, home=home, notify_urls=(), ledger_url=ledger_url)
        with Connections(BUSY, DAY, run_id="test", settings=settings) as connections:
            trade_session(connections)
            evening = Evening(url, home, ledger_url, connections.session_id, "")
            listed = sorted(connections.contracts)
            by_hand = connections.contracts[listed[len(listed) // 2]]
        evening.foreign_order_id = evening.call(
            "POST",
            "/v2/orders",
            headers={"access-token": REHEARSAL_ACCESS_TOKEN},
            json={
                "dhanClientId": REHEARSAL_CLIENT_ID,
                "transactionType": "BUY",
                "exchangeSegment": "NSE_FNO",
                "productType": "MARGIN",
                "orderType": "LIMIT",
                "validity": "DAY",
                "securityId": by_hand.security.split(":")[1],
                "quantity": by_hand.lot_size,
                "price": 1_000.0,
            },
        )["orderId"]
        evening.call("POST", "/control/advance", json={"seconds": 5})
        yield evening


@pytest.fixture(scope="module")
def evening(tmp_path_factory, migrated_sqlite):
    """On SQLite, shared; nobody writes into its ledger."""
    home = tmp_path_factory.mktemp("evening")
    shutil.copyfile(migrated_sqlite, home / "ledger.sqlite3")
    with an_evening(home, f"sqlite:///{home / 'ledger.sqlite3'}") as found:
        yield found


@pytest.fixture
def _impatient(monkeypatch):
    monkeypatch.setattr(flows.reconciliation, "SETTLING_S", (0.0,))
    monkeypatch.setattr(flows.reconciliation, "RETRY_DELAYS_S", [0.0, 0.0])


@pytest.fixture
def place(evening, tmp_path, monkeypatch, web_hook):
    """A copy of the evening's ledger, and the environment that leads there; returns the copy's path."""
    path = tmp_path / "ledger.sqlite3"
    with closing(sqlite3.connect(evening.home / "ledger.sqlite3")) as source, closing(sqlite3.connect(path)) as copy:
        source.backup(copy)
    environment(monkeypatch, evening, f"sqlite:///{path}", web_hook.url)
    # The market stands still after the session, and with it the limits on requests.
    evening.call("POST", "/control/advance", json={"seconds": 5})
    return path


def environment(monkeypatch, evening, ledger_url, notify_url):
    monkeypatch.setenv("BOT_HOME", str(evening.home))
    monkeypatch.setenv("BOT_LEDGER_URL", ledger_url)
    monkeypatch.setenv("BOT_SIMULATOR_URL", evening.url)
    monkeypatch.setenv("BOT_NOTIFY_URLS", notify_url)


def alter(path, *statements):
    """The hand in the database that the ledger's own door does not allow."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        triggers = connection.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall()
        for (trigger,) in triggers:
            connection.execute(f"DROP TRIGGER {trigger}")
        for statement in statements:
            assert connection.execute(statement).rowcount, statement


ENTRY = "(SELECT client_order_id FROM client_order WHERE intent = 1 ORDER BY slice_number LIMIT 1)"
EXIT = "(SELECT client_order_id FROM client_order WHERE intent = 2 ORDER BY slice_number LIMIT 1)"
LAST_FILL = f"client_order_id = {EXIT} AND cumulative_quantity = (SELECT MAX(cumulative_quantity) FROM fill WHERE client_order_id = {EXIT})"
OTHERS = ("charge", "fill", "order_event")

# What a hand did to the ledger, and the kinds of difference that must be named for it.
PLANTED = {
    "a fill removed": ([f"DELETE FROM fill WHERE {LAST_FILL}"], {"quantity"}),
    "a fill doubled": (
        [
            (
                "INSERT INTO fill SELECT client_order_id, cumulative_quantity + quantity, quantity, value_paise, at "
                f"FROM fill WHERE {LAST_FILL}"
            )
        ],
        {"quantity"},
    ),
    "a fill priced one tick off": (
        [f"UPDATE fill SET value_paise = value_paise + 5 * quantity WHERE {LAST_FILL}"],
        {"price"},
    ),
    "an order that the ledger lost": (
        [
            f"DELETE FROM fill WHERE client_order_id = {EXIT}",
            f"DELETE FROM order_event WHERE client_order_id = {EXIT}",
            f"DELETE FROM client_order WHERE client_order_id = {EXIT}",
        ],
        {"missing_in_ledger", "quantity"},
    ),
    "an order that the broker never had": (
        [
            (
                "INSERT INTO client_order SELECT '261120N-xxx-1-9', session_id, intent, 9, 65, limit_paise"
                " FROM client_order WHERE intent = 1 LIMIT 1"
            )
        ],
        {"missing_at_broker"},
    ),
    "an order whose end the ledger missed": (
        [
            f"DELETE FROM order_event WHERE client_order_id = {EXIT} AND status = 'TRADED'",
            f"DELETE FROM fill WHERE {LAST_FILL}",
        ],
        {"still_open", "quantity"},
    ),
    "an order for more units than was sent": (
        [f"UPDATE client_order SET quantity = quantity + 65 WHERE client_order_id = {ENTRY}"],
        {"identity"},
    ),
}


@pytest.mark.parametrize("planted", PLANTED)
def test_a_planted_difference_is_found_and_named_in_rows_and_alert(planted, evening, place, web_hook):
    statements, kinds = PLANTED[planted]
    alter(place, *statements)
    found = reconcile_day(evening.session_id)
    assert {difference.kind for difference in found.differences} - {"foreign"} == kinds
    with closing(Ledger(f"sqlite:///{place}")) as ledger:
        (compared,) = ledger.reconciliations(evening.session_id)
    assert compared.state == "mismatched"
    assert {difference.kind for difference in compared.differences} - {"foreign"} == kinds
    assert all(difference.detail["remedy"] for difference in compared.differences)
    (heard,) = web_hook.heard
    assert "broker and ledger differ" in heard["title"]
    assert all(kind in heard["message"] for kind in kinds)


def test_a_difference_is_the_runs_state_and_its_artifact(evening, place):
    alter(place, *PLANTED["a fill priced one tick off"][0])
    state = reconciliation(session_id=evening.session_id, return_state=True)
    assert (state.type.value, state.name) == ("FAILED", "Mismatched")
    assert "price" in state.message
    assert "| price |" in latest_artifact(evening.session_id)


def latest_artifact(session_id):
    with get_client(sync_client=True) as client:
        reply = client.request(
            "POST", "/artifacts/latest/filter", json={"artifacts": {"key": {"like_": "reconciliation"}}}
        )
    (found,) = [artifact for artifact in reply.json() if artifact["description"] == session_id]
    return found["data"]


def test_the_untouched_day_matches_and_what_was_bought_by_hand_is_shown(evening, place, web_hook):
    state = reconciliation(day=DAY, return_state=True)
    assert (state.type.value, state.name) == ("COMPLETED", "Matched"), state.message
    with closing(Ledger(f"sqlite:///{place}")) as ledger:
        assert len(ledger.trades(evening.session_id)) == 2, "the test wants a day with trades"
        assert len(ledger.fills(evening.session_id)) > 6, "and with several fills of an order"
        (compared,) = ledger.reconciliations(evening.session_id)
    assert compared.state == "clean"
    assert {difference.kind for difference in compared.differences} == {"foreign"}
    # The broker gives an order without an id of ours one of its own making.
    (by_hand,) = [order for order in truth(evening.url)["orders"] if order["order_id"] == evening.foreign_order_id]
    shown = {difference.subject: difference.found for difference in compared.differences}
    assert f"filled {by_hand['quantity']} " in shown[by_hand["client_order_id"]]
    assert f"net {by_hand['quantity']} units" in shown.values(), "what it left is shown, and not touched"
    assert web_hook.heard == []


def fault(evening, **wish):
    evening.call("POST", "/control/faults", json=[wish])


@pytest.fixture
def _no_faults_afterwards(evening):
    yield
    evening.call("DELETE", "/control/faults")


@pytest.mark.usefixtures("_no_faults_afterwards")
def test_an_answer_that_fails_once_is_asked_for_again(evening, place):
    fault(evening, fault="server_error", at={"call": "trade_book", "nth": 1})
    state = reconciliation(session_id=evening.session_id, return_state=True)
    assert state.name == "Matched", state.message


@pytest.mark.usefixtures("_no_faults_afterwards")
def test_a_broker_that_does_not_answer_leaves_nothing_behind_and_a_later_run_compares(evening, place, web_hook):
    """The later run is the scheduled one, which finds by itself what was left."""
    fault(evening, fault="server_error", at={"call": "order_book", "nth": 1}, times=99)
    state = reconciliation(session_id=evening.session_id, return_state=True)
    assert (state.type.value, state.name) == ("FAILED", "Unreachable")
    assert "run it again later" in state.message
    assert "not compared with the broker" in web_hook.heard[0]["title"]
    with closing(Ledger(f"sqlite:///{place}")) as ledger:
        assert ledger.reconciliations(evening.session_id) == ()
    evening.call("DELETE", "/control/faults")
    state = unfinished_evenings(return_state=True)
    assert (state.name, state.message) == ("Finished", f"{evening.session_id} Matched, Reported")
    told = len(web_hook.heard)
    state = unfinished_evenings(return_state=True)
    assert (state.name, state.message) == ("Finished", "every session was compared with the broker")
    assert len(web_hook.heard) == told, "with nothing to do it does nothing"


def dump(ledger_url):
    """Every row of every table, in order."""
    with closing(Ledger(ledger_url)) as ledger:
        return json.dumps(
            {name: sorted(map(repr, ledger.rows(f"SELECT * FROM {name}"))) for name in LedgerTable.metadata.tables}
        )


def run_evening(session_id):
    states = [flow(session_id=session_id, return_state=True).name for flow in (reconciliation, analytics)]
    assert states == ["Matched", "Reported"]


def test_the_evening_twice_leaves_every_table_as_it_was(evening, place, web_hook):
    run_evening(evening.session_id)
    first = dump(f"sqlite:///{place}")
    assert twins(place, evening) == 4, "each of two entries and exits has its twin"
    assert "against the paper broker's fills" in web_hook.heard[-1]["message"]
    with closing(sqlite3.connect(place)) as connection:
        script = "\n".join(connection.iterdump())
    evening.call("POST", "/control/advance", json={"seconds": 5})
    run_evening(evening.session_id)
    assert dump(f"sqlite:///{place}") == first
    with closing(sqlite3.connect(place)) as connection:
        assert "\n".join(connection.iterdump()) == script


def twins(path, evening):
    with closing(Ledger(f"sqlite:///{path}")) as ledger:
        return len(ledger.decisions(evening.session_id, "twin"))


def test_a_session_that_wants_no_twin_has_none(evening, place, web_hook):
    alter(place, "UPDATE session_start SET params = json_set(params, '$.paper_twin', json('false'))")
    assert analytics(session_id=evening.session_id, return_state=True).name == "Reported"
    assert twins(place, evening) == 0
    assert "paper broker" not in web_hook.heard[-1]["message"]
    with closing(Ledger(f"sqlite:///{place}")) as ledger:
        assert prove(ledger, evening.session_id).state == "same", "it is no part of any decision"


def test_a_day_that_never_started_has_its_report_too(evening, place):
    """Preflight refused it: there is a session, and no start with settings."""
    with closing(Ledger(f"sqlite:///{place}")) as ledger:
        unstarted = replace(ledger.key_of(evening.session_id), day=DAY - timedelta(days=1))
        ledger.open_session(unstarted, salt="xxx")
    state = analytics(session_id=unstarted.session_id, return_state=True)
    assert (state.name, state.message) == ("Reported", "no trades")


def test_the_evening_twice_leaves_every_table_as_it_was_on_postgresql(
    tmp_path, postgres_ledger_url, monkeypatch, web_hook
):
    with an_evening(tmp_path, postgres_ledger_url) as found:
        environment(monkeypatch, found, postgres_ledger_url, web_hook.url)
        run_evening(found.session_id)
        first = dump(postgres_ledger_url)
        found.call("POST", "/control/advance", json={"seconds": 5})
        run_evening(found.session_id)
        assert dump(postgres_ledger_url) == first


@pytest.fixture
def two_days(evening, place):
    """The session and, a day earlier, one with the same trades."""
    with closing(Ledger(f"sqlite:///{place}")) as ledger:
        key = ledger.key_of(evening.session_id)
        price_orders(ledger, evening.session_id, rates_on(DAY, "NSE"))
        packed = record_packed(ledger, evening.session_id)
        before = replace(key, day=DAY - timedelta(days=1))
        ledger.open_session(before, salt="xxx")
        ledger.record_day_columns(replace(packed, session_id=before.session_id), LAYOUT)
        return sum(trade.net_paise for trade in ledger.trades(evening.session_id))


def bot(*words):
    """A command in this process, as it is typed; its exit code."""
    with pytest.raises(SystemExit) as ended:
        app(list(words))
    return ended.value.code


def test_a_period_is_told_with_its_chart_and_its_page(evening, two_days, web_hook):
    state = analytics(mode="rehearsal", last=DAY, tell=True, return_state=True)
    assert (state.type.value, state.name) == ("COMPLETED", "Analysed")
    both = render_rupees(2 * two_days, signed=True)
    assert state.message == f"4 trades in 2 sessions, {both} net"
    (heard,) = web_hook.heard
    assert f"{both} net · the beginning to 2026-11-20 · rehearsal" in heard["title"]
    assert "Max drawdown" in heard["message"]
    picture, page = heard["attachments"]
    assert (picture["mimetype"], page["mimetype"]) == ("image/png", "text/html")
    assert base64.b64decode(picture["base64"]).startswith(b"\x89PNG")
    assert both in base64.b64decode(page["base64"]).decode()


def test_a_week_is_the_seven_days_before_the_run_and_rehearsals_are_told_only_if_asked_for(two_days, web_hook):
    state = analytics(last_days=7, tell=True, return_state=True)
    today = real_today()
    assert state.name == "Analysed"
    assert (Settings().home / "reports" / f"period_{today - timedelta(days=6)}_to_{today}.html").is_file()
    assert web_hook.heard == []


def test_the_command_line_analyses_and_exports_what_the_ledger_has(two_days, evening, tmp_path, capsys):
    assert bot("analytics", "--to", "2026-11-20", "--mode", "rehearsal", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["sessions"], found["trades"]["net_paise"]) == (2, 2 * two_days)
    assert bot("analytics", "--from", "2026-11-20", "--to", "2026-11-20", "--page") == 0
    page = Path(capsys.readouterr().out.strip()).read_text()
    assert render_rupees(two_days, signed=True) in page
    assert page.count("<b>In:</b>") == 2, "each trade with its reason"
    assert bot("export", "trades", str(tmp_path / "trades.csv"), "--from", "2026-11-20") == 0
    assert capsys.readouterr().out == f"2 trades written to {tmp_path / 'trades.csv'}\n"
    with (tmp_path / "trades.csv").open() as file:
        assert sum(int(row["net_paise"]) for row in csv.DictReader(file)) == two_days
    assert bot("export", "trades", str(tmp_path / "trades.xls")) == 2
    assert "csv, parquet or json" in capsys.readouterr().out


def test_the_command_line_replays_the_day_and_shows_other_settings_beside_it(evening, place, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    assert bot("replay", "--day", "2026-11-20") == 0
    said = capsys.readouterr().out
    assert f"{evening.session_id}: Replayed: " in said
    assert "the same" in said
    assert bot("replay", "--day", "2026-11-20", "--set", "max_trades_per_day=1", "--set", "stop_loss_points=0") == 0
    said = capsys.readouterr().out
    real, other = said.split("What happened: ")[1].split("With max_trades_per_day=1, stop_loss_points=0: ")
    rows = [[line for line in side.splitlines() if "NOV" in line] for side in (real, other)]
    assert [len(side) for side in rows] == [2, 1]
    assert rows[0][0].split()[1:5] == rows[1][0].split()[1:5], "the same contract is bought at first"
    assert "Assumed: each order fills whole on the next quote" in other
    assert bot("replay", "--day", "2026-11-20", "--set", "lots=zero") == 2
    assert "lots" in capsys.readouterr().out
    assert bot("replay", "--day", "2026-11-19") == 2
    assert "no session of 2026-11-19" in capsys.readouterr().out


def test_a_past_day_is_compared_with_the_settled_trade_history_and_what_was_billed(evening, place):
    """Page after page; before the market has closed the history is empty, which is no answer."""
    analytics(session_id=evening.session_id, return_state=True)
    settings = Settings()
    with closing(Ledger(f"sqlite:///{place}")) as ledger:
        key = ledger.key_of(evening.session_id)
        with open_broker(settings, key) as broker:
            if not evening.call("GET", "/control/clock")["over"]:
                with pytest.raises(BrokerUnavailable, match="nothing of 2026-11-20 yet"):
                    compare_session(ledger, broker, evening.session_id, past_day=True)
                evening.call("POST", "/control/advance", json={"to": "15:41:00"})
            found = compare_session(ledger, broker, evening.session_id, past_day=True)
            assert found.agrees, found.differences
            asked = [
                r["path"] for r in evening.call("GET", "/control/requests") if "2026-11-20/2026-11-20" in r["path"]
            ]
            assert len({path.rpartition("/")[2] for path in asked}) > 2, "the history has several pages"
            ours = [done for done in truth(evening.url)["fills"] if done["order_id"] != evening.foreign_order_id]
            assert len(ours) == len(ledger.fills(evening.session_id))
    alter(place, "UPDATE charge SET stt_paise = stt_paise * 2 WHERE stt_paise > 0")
    with closing(Ledger(f"sqlite:///{place}")) as ledger, open_broker(settings, key) as broker:
        found = compare_session(ledger, broker, evening.session_id, past_day=True)
    assert [(d.kind, d.subject) for d in found.differences if d.kind != "foreign"] == [("charges", "stt")]
