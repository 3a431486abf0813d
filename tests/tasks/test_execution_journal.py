"""The journal, the scribe and the lanes: nothing that happened to an order is lost, and no thread is."""

import json
import threading
from dataclasses import replace
from datetime import date
from queue import SimpleQueue

import pytest

from strategy.events import Side
from tasks.ledger import LedgerRefused, LedgerUnavailable
from tasks.ledger.records import FillRecord, IntentRecord, OrderEventRecord, OrderRecord
from tasks.orders.journal import Journal, replay_journal
from tasks.orders.lane import Lane
from tasks.orders.scribe import Scribe

INTENT = IntentRecord(
    session_id="2026-11-20/NIFTY/rehearsal/1000000009",
    intent=7,
    trade=3,
    purpose="EXIT",
    side=Side.SELL,
    security="NSE_FNO:47317",
    trading_symbol="NIFTY-Nov2026-24500-CE",
    contract_name="NIFTY 23 NOV 24500 CE",
    strike_points=24_500,
    option_type="CE",
    expiry=date(2026, 11, 23),
    lot_size=65,
    tick_size_paise=5,
    freeze_quantity=1800,
    quantity=65,
    reference_paise=100_00,
    reason="stop_loss",
    why={"premium": 99.95, "note": "größer ₹ \n", "moved": True, "none": None, "count": 3},
    decided_at_ms=1_795_060_800_123,
    fence=4,
    orders=(OrderRecord(client_order_id="261120N-k3f-7-0", slice_number=0, quantity=65, limit_paise=99_00),),
)
EVENT = OrderEventRecord(client_order_id="261120N-k3f-7-0", at_ms=1_795_060_800_200, kind="SENT", limit_paise=99_00)
FILL = FillRecord(
    client_order_id="261120N-k3f-7-0",
    cumulative_quantity=65,
    quantity=65,
    value_paise=65 * 99_50,
    at_ms=1_795_060_800_300,
)


class ScriptedLedger:
    """Keeps what it is given; `errors` are raised first, one per call."""

    def __init__(self):
        self.taken = []
        self.errors = []
        self.away = False

    def take(self, record):
        if self.errors:
            raise self.errors.pop(0)
        if self.away:
            raise LedgerUnavailable("database is locked")
        self.taken.append(record)

    def record_intent(self, intent, *, already_sent=False):
        assert already_sent, "what happened is recorded whoever holds the lease"
        self.take(intent)

    def record_order_event(self, event):
        self.take(event)

    def record_fill(self, fill):
        self.take(fill)
        return True


@pytest.fixture
def journal(tmp_path):
    return Journal(tmp_path / "deep" / "orders.jsonl")


@pytest.fixture
def ledger():
    return ScriptedLedger()


@pytest.fixture
def complaints():
    return SimpleQueue()


@pytest.fixture
def scribe(ledger, journal, complaints):
    writing = Scribe(ledger, journal, lambda kind, _: complaints.put(kind), queue_limit=5)
    yield writing
    writing.close(0.1)


def test_what_is_journaled_comes_back_as_it_was(journal):
    for record in (INTENT, EVENT, FILL):
        journal.append(record)
    assert journal.records() == (INTENT, EVENT, FILL)
    assert all(json.loads(line) for line in journal.path.read_text().splitlines())


def test_replaying_takes_everything_in_and_empties_the_file(journal, ledger):
    journal.append(INTENT)
    journal.append(FILL)
    assert replay_journal(journal.path, ledger) == 2
    assert ledger.taken == [INTENT, FILL]
    assert journal.is_empty
    assert replay_journal(journal.path, ledger) == 0


def test_a_ledger_that_goes_away_in_the_middle_leaves_the_file_whole(journal, ledger):
    journal.append(INTENT)
    journal.append(FILL)
    ledger.errors = [LedgerUnavailable("locked")]
    with pytest.raises(LedgerUnavailable):
        replay_journal(journal.path, ledger)
    assert journal.records() == (INTENT, FILL)
    assert replay_journal(journal.path, ledger) == 2


def test_a_refused_line_does_not_keep_the_others_out(journal, ledger, caplog):
    journal.append(INTENT)
    journal.append(FILL)
    ledger.errors = [LedgerRefused("another intent under that number")]
    assert replay_journal(journal.path, ledger) == 2
    assert ledger.taken == [FILL]
    assert "refuses" in caplog.text


@pytest.mark.parametrize("kept", range(1, 60, 7))
def test_a_line_cut_off_by_a_crash_is_skipped_and_does_not_swallow_the_next(journal, ledger, caplog, kept):
    journal.append(INTENT)
    whole = journal.path.read_bytes()
    journal.append(EVENT)
    journal.path.write_bytes(whole + journal.path.read_bytes()[len(whole) :][:kept])
    journal.append(FILL)
    assert journal.records() == (INTENT, FILL)
    assert "cut off" in caplog.text


def test_no_journal_is_an_empty_journal(journal, ledger):
    assert journal.is_empty
    assert journal.records() == ()
    assert replay_journal(journal.path, ledger) == 0


def test_the_scribe_writes_in_order(scribe, ledger):
    records = [INTENT, EVENT, FILL]
    for record in records:
        scribe.write(record)
    assert scribe.flush(10.0)
    assert ledger.taken == records


def test_an_outage_is_waited_out_and_said_once(scribe, ledger, journal, complaints):
    ledger.errors = [LedgerUnavailable("locked")] * 4
    scribe.write(EVENT)
    scribe.write(FILL)
    assert scribe.flush(10.0)
    assert ledger.taken == [EVENT, FILL]
    assert complaints.get(timeout=5.0) == "ledger_unavailable"
    assert complaints.empty()
    assert journal.is_empty


def test_a_refused_record_is_kept_and_stops_nobody(scribe, ledger, journal, complaints):
    ledger.errors = [LedgerRefused("would count units twice")]
    scribe.write(FILL)
    scribe.write(EVENT)
    assert scribe.flush(10.0)
    assert ledger.taken == [EVENT]
    assert journal.records() == (FILL,)
    assert complaints.get(timeout=5.0) == "ledger_refused"


def test_what_the_queue_cannot_hold_goes_to_the_journal(scribe, ledger, journal):
    ledger.away = True
    records = [replace(EVENT, at_ms=number) for number in range(20)]
    for record in records:
        scribe.write(record)
    ledger.away = False
    assert scribe.flush(10.0)
    assert sorted([*ledger.taken, *journal.records()], key=lambda record: record.at_ms) == records
    assert journal.records(), "five fit"


def test_closing_without_the_ledger_loses_nothing(scribe, ledger, journal):
    ledger.away = True
    records = [replace(EVENT, at_ms=number) for number in range(4)]
    for record in records:
        scribe.write(record)
    scribe.close(0.2)
    assert sorted(journal.records(), key=lambda record: record.at_ms) == records
    scribe.write(FILL)
    assert FILL in journal.records(), "even after closing"


def test_an_unforeseen_error_keeps_the_record_and_the_scribe_goes_on(scribe, ledger, journal, monkeypatch):
    reported = SimpleQueue()
    monkeypatch.setattr(threading, "excepthook", lambda args: reported.put(args.exc_type))
    ledger.errors = [ZeroDivisionError("a bug in the ledger")]
    scribe.write(EVENT)
    scribe.write(FILL)
    assert reported.get(timeout=5.0) is ZeroDivisionError
    assert scribe.flush(10.0)
    assert ledger.taken == [FILL]
    assert journal.records() == (EVENT,)


def test_a_full_disk_is_said_aloud_and_stops_nobody(ledger, tmp_path, complaints, caplog):
    blocked = tmp_path / "file"
    blocked.write_text("not a folder")
    scribe = Scribe(ledger, Journal(blocked / "orders.jsonl"), lambda kind, _: complaints.put(kind))
    ledger.errors = [LedgerRefused("no")]
    scribe.write(FILL)
    scribe.write(EVENT)
    assert scribe.flush(10.0)
    scribe.close(1.0)
    assert ledger.taken == [EVENT]
    assert [complaints.get(timeout=5.0) for _ in range(2)] == ["ledger_refused", "journal_failed"]
    assert "neither ledger nor journal" in caplog.text


def test_one_thread_does_jobs_in_order():
    lane = Lane("test", 1)
    done = SimpleQueue()
    for number in range(50):
        lane.put(lambda number=number: done.put(number))
    assert [done.get(timeout=5.0) for _ in range(50)] == list(range(50))
    lane.close()


def test_a_job_that_raises_is_reported_and_its_thread_replaced(monkeypatch):
    reported = SimpleQueue()
    monkeypatch.setattr(threading, "excepthook", lambda args: reported.put(args.exc_type))
    lane = Lane("test", 2)
    for _ in range(5):
        lane.put(lambda: 1 // 0)
    assert [reported.get(timeout=5.0) for _ in range(5)] == [ZeroDivisionError] * 5
    meeting = threading.Barrier(2, timeout=5.0)
    done = SimpleQueue()
    for _ in range(2):
        lane.put(lambda: done.put(meeting.wait()))
    assert {done.get(timeout=5.0) for _ in range(2)} == {0, 1}, "both threads are there"
    lane.close()


def test_a_hanging_job_leaves_the_other_threads_to_the_rest():
    lane = Lane("test", 2)
    release, done = threading.Event(), SimpleQueue()
    lane.put(lambda: release.wait(30))
    for number in range(10):
        lane.put(lambda number=number: done.put(number))
    assert [done.get(timeout=5.0) for _ in range(10)] == list(range(10))
    release.set()
    lane.close()


def test_a_lane_without_threads_is_refused():
    with pytest.raises(ValueError, match="at least one"):
        Lane("test", 0)
