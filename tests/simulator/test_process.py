"""The process: it says when it is ready, ends when it should, and refuses what it cannot play with a next step."""

import json
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import date, datetime
from pathlib import Path

import pytest
from websockets.exceptions import ConnectionClosed

from strategy.calendar import IST

PROJECT = Path(__file__).resolve().parents[2]


def run(*arguments: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-m", "simulator", *arguments],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


def test_it_says_where_it_is_when_it_is_ready(simulate, tmp_path):
    ready = tmp_path / "ready.json"
    simulator = simulate("--ready", str(ready), "--seed", "3", "--client-id", "42", "--token", "secret-token")
    told = json.loads(ready.read_text())
    assert told["url"] == simulator.url
    assert told["pid"] == simulator.process.pid
    assert (told["day"], told["seed"], told["client_id"]) == ("2026-11-20", 3, "42")
    assert "secret" not in ready.read_text()
    assert simulator.call("GET", "/v2/orders", headers={"access-token": "secret-token"}).status_code == 200


def test_at_a_speed_a_request_is_answered_at_the_time_it_comes_also_after_a_pause(simulate):
    simulator = simulate("--start", "10:00", "--speed", "100")
    now_ms = simulator.call("GET", "/control/clock").json()["now_ms"]
    for _ in range(5):
        simulator.process.send_signal(signal.SIGSTOP)
        began_s = time.monotonic()
        with ThreadPoolExecutor(1) as pool:
            asked = pool.submit(simulator.call, "GET", "/control/clock")
            time.sleep(0.2)
            paused_ms = 100_000 * (time.monotonic() - began_s)
            simulator.process.send_signal(signal.SIGCONT)
            earlier_ms, now_ms = now_ms, asked.result(10).json()["now_ms"]
        assert now_ms >= earlier_ms + paused_ms


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_ends_on_a_signal_with_clients_connected(number, simulate):
    simulator = simulate()
    simulator.feed()
    simulator.alerts()
    simulator.process.send_signal(number)
    assert simulator.process.wait(10) == 0
    _, errors = simulator.process.communicate()
    assert errors == ""


def test_it_ends_when_its_parent_is_gone(tmp_path):
    ready = tmp_path / "ready.json"
    command = [sys.executable, "-m", "simulator", "--day", "2026-11-20", "--with-parent", "--ready", str(ready)]
    script = f"import subprocess, time; subprocess.Popen({command!r}, stdout=subprocess.DEVNULL); time.sleep(60)"
    parent = subprocess.Popen([sys.executable, "-c", script], cwd=PROJECT)
    deadline = time.monotonic() + 30
    while not ready.exists():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    pid = json.loads(ready.read_text())["pid"]
    parent.kill()
    parent.wait()
    while _lives(pid):
        assert time.monotonic() < deadline, "the simulator outlived its parent"
        time.sleep(0.05)


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    state = Path(f"/proc/{pid}/stat")
    return not state.exists() or state.read_text().split(") ")[1][0] != "Z"  # a dead process nobody has buried yet


REFUSED = {
    "a Sunday": (("--day", "2026-11-22"), "expected a trading day, found Sunday 2026-11-22"),
    "a holiday": (("--day", "2026-11-24"), "found Tuesday 2026-11-24 on which the market is closed"),
    "a day beyond the known calendar": (("--day", "2031-01-02"), "trading days are known from"),
    "a start after the close": (("--day", "2026-11-20", "--start", "16:00"), "choose an earlier --start"),
    "a recording that is not there": (("--day", "2026-11-20", "--recording", "/nowhere.csv"), "check the path of --recording"),
    "a word for a day": (("--day", "tomorrow"), "--day"),
    "an index that is none": (("--day", "2026-11-20", "--index", "DOW"), "--index"),
    "a negative speed": (("--day", "2026-11-20", "--speed", "-1"), "--speed"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_played_is_refused_in_one_line(name):
    arguments, words = REFUSED[name]
    ended = run(*arguments)
    assert ended.returncode == 2
    assert ended.stdout == ""
    assert words in ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_recording_of_another_index_is_refused(tmp_path):
    file = tmp_path / "day.csv"
    file.write_text("Instrument,Date,Time,Open,High,Low,Close\nBANKNIFTY,20261120,09:15,100,101,99,100\n")
    ended = run("--day", "2026-11-20", "--recording", str(file))
    assert "say --index BANKNIFTY" in ended.stderr


def test_a_port_in_use_is_refused(simulator):
    ended = run("--day", "2026-11-20", "--port", simulator.url.rsplit(":", 1)[1])
    assert ended.returncode == 2
    assert "cannot be opened" in ended.stderr


def test_at_a_speed_the_market_runs_by_itself(simulate):
    simulator = simulate("--speed", "200", "--start", "09:14:30")
    socket = simulator.feed((15, "IDX_I:13"))
    first = simulator.clock()
    assert (first["speed"], first["lock_step"]) == (200, False)
    assert len(simulator.messages(socket, 20)) == 20
    later = simulator.clock()
    assert later["now_ms"] > first["windows"][0][0]
    refused = simulator.session.post(f"{simulator.url}/control/advance", json={"seconds": 1}, timeout=10)
    assert refused.status_code == 409


def test_in_lock_step_time_stands_until_it_is_moved(simulator):
    before = simulator.clock()
    for _ in range(3):
        simulator.call("GET", "/v2/orders")
    assert simulator.clock() == before
    assert simulator.advance(seconds=90)["now_ms"] == before["now_ms"] + 90_000


def test_a_day_can_begin_again_with_nothing_left_of_the_first_time(simulator):
    first = simulator.row(simulator.place())
    feed = simulator.feed((15, "IDX_I:13"))
    simulator.post_faults({"fault": "feed_silence"})
    simulator.advance(seconds=60)
    simulator.restart(start="10:00:00")
    truth = simulator.truth()
    assert (truth["orders"], truth["feed_connections"], simulator.control("GET", "faults")) == ([], 0, [])
    assert truth["now"] == "2026-11-20 10:00:00"
    simulator.pending(feed)
    with pytest.raises(ConnectionClosed):
        feed.recv(10)
    assert simulator.row(simulator.place()) == first, "the market is the same"


def test_the_days_end(simulator):
    clock = simulator.advance(to="23:00:00")
    assert clock["over"] is True
    assert datetime.fromtimestamp(clock["now_ms"] / 1000, IST).strftime("%H:%M") == "16:10"
    assert simulator.advance(seconds=60) == clock, "time stands at the end of the day"


def test_the_muhurat_evening_is_a_day_of_its_own(simulate):
    simulator = simulate("--start", "17:30", day="2026-11-08")
    windows = simulator.clock()["windows"]
    hours = [datetime.fromtimestamp(edge / 1000, IST).strftime("%H:%M") for edge in windows[0]]
    assert (len(windows), hours[0]) == (1, "18:00")


def test_a_day_beyond_the_calendar_can_be_played_from_a_recording(simulate, tmp_path):
    day = date(2031, 1, 2)
    file = tmp_path / "day.csv"
    rows = [f"NIFTY,{day:%Y%m%d},{9 + minute // 60:02d}:{minute % 60:02d},100,101,99,100" for minute in range(15, 45)]
    file.write_text("\n".join(["Instrument,Date,Time,Open,High,Low,Close", *rows]) + "\n")
    simulator = simulate("--recording", str(file), "--start", "09:20", day=str(day))
    windows = simulator.clock()["windows"]
    hours = [datetime.fromtimestamp(edge / 1000, IST).strftime("%H:%M") for edge in windows[0]]
    assert hours == ["09:15", "09:45"]


def test_the_request_log_names_calls_and_holds_no_secret(simulator):
    simulator.call("GET", "/v2/orders")
    simulator.call("POST", "/app/generateAccessToken?dhanClientId=1000000009&pin=1234&totp=000000")
    log = simulator.control("GET", "requests")
    assert [(line["n"], line["method"], line["call"]) for line in log] == [
        (1, "GET", "order_book"),
        (2, "POST", "generate_token"),
    ]
    assert not {"pin", "totp", "token"} & {part for line in log for part in line["path"].lower().split("=")}
    assert "1234" not in json.dumps(log)


def test_unknown_control_paths_say_what_there_is(simulator):
    reply = simulator.session.get(f"{simulator.url}/control/nothing", timeout=10)
    assert reply.status_code == 404
    assert "GET /control/clock" in reply.json()["error"]


FACTS = """
[[special]]
day = 2026-11-21
name = "a Saturday on which the market trades"
windows = [[10:00:00, 12:00:00]]
source = "a circular of this morning"

[[lot]]
underlying = "NIFTY"
expiring_since = 2026-11-01
lot_size = 75
source = "another"

[[freeze]]
underlying = "NIFTY"
since = 2026-11-01
quantity = 750
source = "another"
"""


def test_the_market_goes_by_the_operators_own_facts(simulate, tmp_path):
    facts = tmp_path / "facts.toml"
    facts.write_text(FACTS)
    simulator = simulate("--facts", str(facts), "--day", "2026-11-21", "--start", "10:15")
    ten = datetime(2026, 11, 21, 10, tzinfo=IST)
    assert simulator.clock()["windows"] == [[ten.timestamp() * 1000, ten.replace(hour=12).timestamp() * 1000]]
    orders = [simulator.place(quantity=quantity) for quantity in (75, 65, 825)]
    simulator.advance(seconds=1)
    assert [simulator.row(order)["orderStatus"] for order in orders] == ["TRADED", "REJECTED", "REJECTED"]
    master = simulator.call("GET", "/v2/instrument/NSE_FNO", headers={}).text.splitlines()
    assert {line.split(",")[11] for line in master if ",OPTIDX,26000,NIFTY," in line} == {"75.0"}
    yesterday = {"securityId": "13", "exchangeSegment": "IDX_I", "instrument": "INDEX", "interval": "1"}
    yesterday |= {"fromDate": "2026-11-20 09:14:00", "toDate": "2026-11-20 15:40:00"}
    assert len(simulator.call("POST", "/v2/charts/intraday", yesterday).json()["open"]) > 300


@pytest.mark.parametrize(("text", "says"), [("[[lot]]\nnonsense = 1", "lot"), (None, "No such file")])
def test_facts_that_cannot_be_read_are_refused(text, says, tmp_path):
    facts = tmp_path / "facts.toml"
    if text:
        facts.write_text(text)
    refused = run("--facts", str(facts), "--day", "2026-11-20")
    assert refused.returncode == 2
    assert says in refused.stderr
