"""Notices arrive: at a real mail server, a real HTTP receiver and a stand-in of Telegram's API, all on loopback."""

import email
import email.policy
import http.server
import json
import logging
import os
import subprocess
import sys
import textwrap
import threading
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path

import pytest
from aiosmtpd.controller import Controller

from strategy.actions import Alert, Severity
from tasks.clock import Deadline, pause, real_now_ms
from tasks.ledger.records import SessionKey
from tasks.notify import Attachment, Limits, Notice, Notifier, Topic, parse_target, texts
from tasks.notify.notice import notice_from_json, notice_to_json
from tasks.notify.targets import apprise

SESSION = SessionKey(account="1000000009", underlying="NIFTY", mode="live", day=date(2026, 11, 20))
TOKEN = "123456789:AAFsecretsecretsecretsecretsecre"
# The smallest picture there is: one white pixel.
PIXEL = bytes.fromhex(
    "89504e470d0a1a0a0000000d4948445200000001000000010800000000"
    "3a7e9b550000000a49444154789c63f80f0001010100"
    "1bb6ee560000000049454e44ae426082"
)


def notice(text="news", severity=Severity.INFO, topic=Topic.TRADES, **others):
    return Notice(at_ms=0, kind="test", topic=topic, severity=severity, title=text, **others)


@dataclass
class Receiver:
    """An HTTP server that keeps what it gets; `refuse` is how many requests it turns away first."""

    port: int
    paths: list = field(default_factory=list)
    bodies: list = field(default_factory=list)
    refuse: int = 0
    status: int = 503
    hold: threading.Event | None = None
    reached: int = 0

    @property
    def titles(self):
        return [json.loads(body)["title"] for body in self.bodies]


@pytest.fixture
def receiver(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "*")

    class Answer(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"]))
            it.reached += 1
            if it.hold is not None:
                it.hold.wait(60)
            if it.refuse > 0:
                it.refuse -= 1
                self.send_response(it.status)
            else:
                it.paths.append(self.path)
                it.bodies.append(body)
                self.send_response(200)
            self.end_headers()
            self.wfile.write(b'{"ok": true, "result": {}}')

        def log_message(self, *arguments):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answer) as server:
        server.daemon_threads = True
        it = Receiver(port=server.server_address[1])
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield it
        if it.hold is not None:
            it.hold.set()
        server.shutdown()
        thread.join()


@pytest.fixture
def mailbox():
    """A real SMTP server; the messages it took."""

    class Box:
        def __init__(self):
            self.messages = []

        async def handle_DATA(self, _server, _session, envelope):  # noqa: N802 - the server calls it so
            self.messages.append(email.message_from_bytes(envelope.content, policy=email.policy.default))
            return "250 kept"

    class OnAnyPort(Controller):
        def _trigger_server(self):
            self.port = self.server.sockets[0].getsockname()[1]
            super()._trigger_server()

    box = Box()
    controller = OnAnyPort(box, hostname="127.0.0.1", port=0)
    controller.start()
    box.port = controller.port
    yield box
    controller.stop()


def until(condition, seconds=60.0):
    deadline = Deadline(seconds)
    while not condition():
        assert not deadline.passed, "this did not happen in time"
        pause(0.01)


def mail_url(port):
    return f"mailto://127.0.0.1:{port}?from=bot@example.com&to=ops@example.com&mode=insecure"


def test_a_json_service_gets_title_body_and_severity(receiver):
    with Notifier([f"json://127.0.0.1:{receiver.port}/hook"]) as notifier:
        notifier.notify(notice("bought", body="at 10:31", severity=Severity.WARNING))
    (body,) = receiver.bodies
    assert {"title": "bought", "message": "at 10:31", "type": "warning"}.items() <= json.loads(body).items()
    assert notifier.counts == {"accepted": 1, "delivered": 1}


def test_telegram_gets_the_words_and_the_picture(receiver, monkeypatch):
    monkeypatch.setattr(apprise.plugins.N_MGR["tgram"], "notify_url", f"http://127.0.0.1:{receiver.port}/bot")
    report = texts.day_reported(SESSION, 0, net_paise=1_234_50, lines=["3 trades"], chart_png=PIXEL)
    with Notifier([f"tgram://{TOKEN}/987654321"]) as notifier:
        notifier.notify(report)
        notifier.notify(texts.resumed(SESSION, 0, reason="operator"))
    assert receiver.paths == [f"/bot{TOKEN}/sendPhoto", f"/bot{TOKEN}/sendMessage"]
    photo, message = receiver.bodies
    assert PIXEL in photo
    assert "LIVE NIFTY · 🟢 +₹1,234.50 net".encode() in photo
    assert "halt lifted" in json.loads(message)["text"]


def test_mail_shows_the_picture_where_the_text_speaks_of_it(mailbox):
    report = texts.day_reported(SESSION, 0, net_paise=-5, lines=["3 trades", "a < b"], chart_png=PIXEL)
    with Notifier([mail_url(mailbox.port)]) as notifier:
        notifier.notify(report)
    (message,) = mailbox.messages
    assert message["Subject"] == report.title
    parts = {part.get_content_type(): part for part in message.walk()}
    assert "a &lt; b" in parts["text/html"].get_content()
    assert 'src="cid:day.png"' in parts["text/html"].get_content()
    assert parts["image/png"]["Content-ID"] == "<day.png>"
    assert parts["image/png"].get_content() == PIXEL


HALTED = Alert(at_ms=1_795_000_000_000, kind="halted", severity=Severity.CRITICAL, message="daily_max_loss")


def test_plain_notices_arrive_by_mail_line_by_line(mailbox):
    with Notifier([mail_url(mailbox.port)]) as notifier:
        notifier.notify(texts.alerted(SESSION, HALTED))
    (message,) = mailbox.messages
    assert "enters nothing more today; exits go on" in message.get_body(("html", "plain")).get_content()


def test_topics_and_severities_choose_the_target_and_critical_ones_go_everywhere(receiver):
    url = f"json://127.0.0.1:{receiver.port}"
    lines = [
        f"trades={url}/trades",
        f"warning={url}/loud",
        f"Reports, operations={url}/evening",
        f"{url}/all",
    ]
    with Notifier(lines) as notifier:
        notifier.notify(notice("trade"))
        notifier.notify(notice("limit", Severity.WARNING, Topic.RISK))
        notifier.notify(notice("report", topic=Topic.REPORTS))
        notifier.notify(notice("fire", Severity.CRITICAL, Topic.RISK))
    heard = {path: set() for path in receiver.paths}
    for path, title in zip(receiver.paths, receiver.titles, strict=True):
        heard[path].add(title)
    assert heard == {
        "/trades": {"trade", "fire"},
        "/loud": {"limit", "fire"},
        "/evening": {"report", "fire"},
        "/all": {"trade", "limit", "report", "fire"},
    }


def test_a_refused_delivery_is_repeated_until_it_is_taken(receiver):
    receiver.refuse = 2
    with Notifier([f"json://127.0.0.1:{receiver.port}"], pause_s=0.01) as notifier:
        notifier.notify(notice("first"))
        notifier.notify(notice("second"))
        until(lambda: len(receiver.bodies) == 2)
    assert receiver.titles == ["first", "second"]
    assert notifier.counts == {"accepted": 2, "failed": 2, "delivered": 2}


def test_words_go_without_their_file_rather_than_not_at_all(receiver):
    receiver.refuse = 2
    file = Attachment(name="a.png", media_type="image/png", content=PIXEL)
    with Notifier([f"json://127.0.0.1:{receiver.port}"], pause_s=0.01) as notifier:
        notifier.notify(notice("report", attachments=(file,)))
        until(lambda: receiver.bodies)
    assert json.loads(receiver.bodies[0])["attachments"] == []


def test_a_target_that_hangs_delays_nobody_else(receiver):
    receiver.hold = threading.Event()

    class Other(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            heard.append(self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *arguments):
            pass

    heard = []
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Other) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        notifier = Notifier([f"json://127.0.0.1:{receiver.port}", f"json://127.0.0.1:{server.server_address[1]}"])
        notifier.notify(notice("fire", Severity.CRITICAL))
        until(lambda: heard)
        assert receiver.bodies == []
        receiver.hold.set()
        assert notifier.close()
        server.shutdown()
        thread.join()


def test_while_a_target_is_away_equal_notices_become_one_and_critical_ones_go_first(receiver):
    receiver.hold = threading.Event()
    notifier = Notifier([f"json://127.0.0.1:{receiver.port}"], limits=Limits(repeat_window_ms=1))
    notifier.notify(notice("under way"))
    until(lambda: receiver.reached == 1)
    notifier.notify(notice("quiet"))
    for _ in range(3):
        notifier.notify(notice("fire", Severity.CRITICAL))
    until(lambda: [waiting.copies for waiting in notifier._outboxes[0]._waiting] == [1, 3])
    receiver.hold.set()
    assert notifier.close(timeout_s=60)
    assert receiver.titles[1:] == ["fire (3 times)", "quiet"]


def test_notify_never_blocks_or_raises_when_nothing_is_delivered(receiver):
    receiver.hold = threading.Event()
    notifier = Notifier([f"json://127.0.0.1:{receiver.port}"], limits=Limits(queued_max=5, per_minute=5))
    for number in range(500):
        notifier.notify(notice(f"n{number}"))
    notifier.notify(notice("fire", Severity.CRITICAL))
    receiver.hold.set()
    notifier.close()
    assert "fire" in receiver.titles
    notifier.notify(notice("after the end"))  # counted, not raised
    assert notifier.counts["dropped"] >= 1


def test_without_targets_notices_only_go_to_the_log(caplog):
    with caplog.at_level(logging.INFO), Notifier([]) as notifier:
        notifier.notify(notice("bought"))
    assert "trades: bought" in caplog.text


def test_what_was_not_delivered_is_delivered_at_the_next_start(receiver, tmp_path):
    receiver.refuse = 1_000
    url = f"json://127.0.0.1:{receiver.port}"
    first = Notifier([url], spool=tmp_path, pause_s=0.01)
    first.notify(notice("a", body="words", attachments=(Attachment(name="a", media_type="b/c", content=b"d"),)))
    until(lambda: first.counts.get("failed"))
    assert not first.close(timeout_s=0.5)
    assert len(list(tmp_path.glob("*.jsonl"))) == 1
    receiver.refuse = 0
    with Notifier([url], spool=tmp_path) as second:
        until(lambda: receiver.bodies)
    assert receiver.titles == ["a"]
    assert second.counts["delivered"] == 1
    assert list(tmp_path.glob("*")) == []


def test_a_target_that_heard_it_does_not_hear_it_again_after_a_restart(receiver, tmp_path):
    heard, missed = f"json://127.0.0.1:{receiver.port}/heard", f"json://127.0.0.1:{receiver.port}/missed"
    keys = [parse_target(url).key for url in (heard, missed)]
    line = {"id": "1", "queued_ms": real_now_ms(), "targets": keys, "notice": notice_to_json(notice("once"))}
    done = {"done": "1", "target": keys[0]}
    (tmp_path / "dead.jsonl").write_text(f"{json.dumps(line)}\n{json.dumps(done)}\n")
    with Notifier([heard, missed], spool=tmp_path):
        until(lambda: receiver.paths)
    assert receiver.paths == ["/missed"]


CRASHING = """
import os, sys
from strategy.actions import Alert, Severity
from tasks.clock import pause
from tasks.notify import Limits, Notice, Notifier, Topic
url, spool = sys.argv[1:]
notifier = Notifier([url], spool=__import__("pathlib").Path(spool), limits=Limits(per_minute=2), pause_s=0.01)
for number in range(4):
    notifier.notify(Notice(at_ms=0, kind="test", topic=Topic.TRADES, severity=Severity.INFO, title=f"n{number}"))
while not notifier.counts.get("failed") or notifier.counts.get("held") != 2:
    pause(0.01)
os.kill(os.getpid(), 9)
"""


def test_a_killed_process_loses_neither_a_notice_under_way_nor_one_held_for_a_digest(receiver, tmp_path):
    receiver.refuse = 1_000
    url = f"json://127.0.0.1:{receiver.port}"
    died = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(CRASHING), url, str(tmp_path)],
        check=False,
        timeout=60,
        cwd=Path.cwd(),
        env=os.environ | {"PYTHONPATH": str(Path.cwd())},
    )
    assert died.returncode == -9
    receiver.refuse = 0
    with Notifier([url], spool=tmp_path):
        until(lambda: len(receiver.bodies) >= 4)
    assert sorted(receiver.titles) == ["n0", "n1", "n2", "n3"]


def test_a_living_process_keeps_its_notices_to_itself(receiver, tmp_path):
    receiver.refuse = 1_000
    url = f"json://127.0.0.1:{receiver.port}"
    living = Notifier([url], spool=tmp_path, pause_s=60.0)
    living.notify(notice("mine"))
    until(lambda: living.counts.get("failed"))
    receiver.refuse = 0
    with Notifier([url], spool=tmp_path) as other:
        assert other.close()
    assert receiver.bodies == []
    assert living.close()
    assert receiver.titles == ["mine"]


def test_a_cut_off_last_line_costs_only_itself(receiver, tmp_path, caplog):
    line = json.dumps({"id": "1", "queued_ms": real_now_ms(), "targets": [], "notice": notice_to_json(notice("whole"))})
    (tmp_path / "dead.jsonl").write_text(f'{line}\n{{"id": "2", "queued')
    with Notifier([f"json://127.0.0.1:{receiver.port}"], spool=tmp_path):
        until(lambda: receiver.bodies)
    assert receiver.titles == ["whole"]
    assert "cut off" in caplog.text


def test_a_late_notice_says_so(receiver, tmp_path):
    queued_ms = real_now_ms() - 3_600_000
    line = {
        "id": "1",
        "queued_ms": queued_ms,
        "targets": [],
        "notice": notice_to_json(notice("old", body="words")),
    }
    (tmp_path / "dead.jsonl").write_text(json.dumps(line) + "\n")
    with Notifier([f"json://127.0.0.1:{receiver.port}"], spool=tmp_path):
        until(lambda: receiver.bodies)
    assert "(late: this waited since " in json.loads(receiver.bodies[0])["message"]


def test_a_folder_that_cannot_be_written_does_not_stop_delivery(receiver, tmp_path, caplog):
    blocked = tmp_path / "file"
    blocked.write_text("not a folder")
    with Notifier([f"json://127.0.0.1:{receiver.port}"], spool=blocked / "spool") as notifier:
        notifier.notify(notice("anyway"))
    assert receiver.titles == ["anyway"]
    assert "not kept over a restart" in caplog.text


def test_a_notice_survives_the_trip_through_json():
    original = notice(
        body="b",
        html="<p>",
        key="k",
        attachments=(Attachment(name="n", media_type="m/n", content=b"\0\xff"),),
    )
    assert notice_from_json(json.loads(json.dumps(notice_to_json(original)))) == original


def test_no_log_line_repr_error_or_spool_file_carries_a_url(receiver, monkeypatch, caplog, tmp_path):
    monkeypatch.setattr(apprise.plugins.N_MGR["tgram"], "notify_url", f"http://127.0.0.1:{receiver.port}/bot")
    receiver.refuse = 1_000
    receiver.status = 401
    secrets = [TOKEN.split(":")[1], "987654321", "hunter2hunter2", "privatepath"]
    lines = [
        f"trades=tgram://{TOKEN}/987654321",
        f"json://someone:hunter2hunter2@127.0.0.1:{receiver.port}/privatepath",
        "mailto://someone:hunter2hunter2@127.0.0.1:1?from=bot@example.com&to=ops@example.com&mode=insecure",
    ]
    with caplog.at_level(logging.DEBUG):
        notifier = Notifier(lines, spool=tmp_path, pause_s=0.01)
        notifier.notify(notice("x"))
        until(lambda: notifier.counts.get("failed", 0) >= 3)
        notifier.close(timeout_s=0.2)
    said = caplog.text + repr(notifier) + repr(notifier.targets)
    said += "".join(path.read_text() for path in tmp_path.glob("*"))
    assert "Telegram (target 1) did not take 'x'" in said
    for secret in secrets:
        assert secret not in said


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("nosuch://secretsecret", "found one with 'nosuch'"),
        ("trade=json://secretsecret", "found 'trade'"),
        ("info,critical=json://secretsecret", "one severity at most"),
        ("secretsecret", "no schema"),
    ],
)
def test_a_target_that_is_not_understood_is_refused_without_showing_it(line, complaint):
    with pytest.raises(ValueError, match=complaint) as refused:
        parse_target(line, 4)
    assert "target 4" in str(refused.value)
    assert "secretsecret" not in str(refused.value)


def test_check_says_which_targets_take_a_notice(receiver):
    with Notifier([f"json://127.0.0.1:{receiver.port}", "json://127.0.0.1:1"]) as notifier:
        assert notifier.check(texts.hello(0)) == {"JSON (target 1)": True, "JSON (target 2)": False}
    assert receiver.titles == ["notifications work"]
