"""Recording twice is a no-op, something else under the same key is refused, and what is read is what was recorded."""

from dataclasses import replace
from datetime import date

import pytest

from strategy.events import Side, Tick
from tasks.ledger import LeaseLost, LedgerRefused, LedgerUnavailable
from tasks.ledger.database import SCHEMA_REVISION
from tasks.ledger.records import CommandRecord, DecisionRecord, DifferenceRecord, ReconciliationRecord
from tasks.ledger.store import Ledger


def test_the_salt_of_the_first_opening_holds(ledger, day):
    assert ledger.open_session(day.key, "first") == "first"
    assert ledger.open_session(day.key, "second") == "first"
    assert ledger.session_ids() == (day.session_id,)
    assert ledger.key_of(day.session_id) == day.key


def test_sessions_are_found_by_day_underlying_and_mode(ledger, day, new_day):
    paper, tomorrow = new_day(mode="paper"), new_day(day=date(2025, 11, 21))
    for each in (tomorrow, paper, day):
        ledger.open_session(each.key, "s")
    assert ledger.session_ids(day=day.key.day, mode="rehearsal") == (day.session_id,)
    assert ledger.session_ids(mode="paper") == (paper.session_id,)
    assert ledger.session_ids(underlying=day.key.underlying)[-1] == tomorrow.session_id
    assert ledger.session_ids(day=date(2024, 1, 1)) == ()


def test_an_unknown_session_is_named_with_the_next_step(ledger):
    with pytest.raises(LookupError, match=r"found 'nowhere'; session_ids\(\)"):
        ledger.key_of("nowhere")


def test_everything_recorded_twice_is_there_once(ledger, lease, day):
    """The whole of a day, each thing recorded, recorded again, and then read back equal."""
    intent = day.intent(1, quantity=150, slices=2)
    events = (
        day.event(kind="SENT", limit_paise=100_55),
        day.event(kind="ACCEPTED", status="PENDING", broker_order_id="112111182198", message="CONFIRMED"),
        day.event(kind="SEEN", status="TRADED", broker_order_id="112111182198", filled_quantity=75),
    )
    fills = (day.fill(1), day.fill(1, slice_number=2, value_paise=7_501_50, seconds=3))
    decisions = [
        DecisionRecord(
            session_id=day.session_id, at_ms=day.at(5), kind="refused", reason="macd", detail={"macd": -0.25}
        ),
        DecisionRecord(session_id=day.session_id, at_ms=day.at(6), kind="halted", reason="daily_max_loss"),
    ]
    candles = [day.candle(number) for number in range(3)]
    ticks = [
        Tick(at_ms=day.at(), security="IDX_I:13", price_paise=price) for price in (26_000_05, 26_000_10, 26_000_05)
    ]
    command = CommandRecord(
        command_id="c-1",
        session_id=day.session_id,
        kind="tighten",
        reason="news",
        requested_by="cli",
        requested_at_ms=day.at(7),
        detail={"daily_max_loss_paise": 1_000_00},
    )
    charges = [day.charge(1)]
    difference = DifferenceRecord(
        kind="position", subject="NSE_FNO:47317", expected="75", found="150", detail={"net": 75}
    )
    for first in (True, False):
        ledger.record_start(day.start())
        ledger.record_intent(intent)
        for event in events:
            ledger.record_order_event(event)
        assert [ledger.record_fill(fill) for fill in fills] == [first, first]
        ledger.record_decisions(decisions)
        ledger.record_candles(candles)
        ledger.record_ticks(day.session_id, ticks)
        ledger.request_command(command)
        ledger.record_charges(charges)
        ledger.record_reconciliation(day.session_id, "run-2", day.at(9), "differs", [difference])

    assert ledger.starts(day.session_id) == (day.start(),)
    assert ledger.intents(day.session_id) == (intent,)
    assert ledger.order_events(day.order_id(1)) == events
    assert ledger.fills(day.session_id) == (
        (day.order_id(1), 1, Side.BUY, fills[0]),
        (day.order_id(1, 2), 1, Side.BUY, fills[1]),
    )
    assert ledger.decisions(day.session_id) == tuple(decisions)
    assert ledger.decisions(day.session_id, "halted") == (decisions[1],)
    assert ledger.candles(day.session_id, 5) == tuple(candles)
    assert ledger.candles(day.session_id, 60) == ()
    assert ledger.ticks(day.session_id) == tuple(ticks), "a price that comes back is a tick of its own"
    assert ledger.command("c-1") == command
    assert ledger.charges(day.session_id) == tuple(charges)
    assert ledger.reconciliations(day.session_id) == (
        ReconciliationRecord(
            session_id=day.session_id, run_id="run-2", at_ms=day.at(9), state="differs", differences=(difference,)
        ),
    )


@pytest.mark.parametrize(
    "changes",
    [{"quantity": 150}, {"reason": "manual"}, {"why": {"supertrend": 1.0}}, {"reference_paise": 1}, {"orders": ()}],
    ids=lambda changes: next(iter(changes)),
)
def test_another_intent_under_a_used_number_is_refused(ledger, lease, day, changes):
    intent = day.intent(1)
    ledger.record_intent(intent)
    with pytest.raises(LedgerRefused, match="another one under that number"):
        ledger.record_intent(replace(intent, **changes))
    assert ledger.intents(day.session_id) == (intent,)


def test_an_order_id_that_is_taken_refuses_the_whole_intent(ledger, lease, day):
    """One commit: an intent without all of its orders never exists."""
    ledger.record_intent(day.intent(1))
    second = day.intent(2, quantity=150, slices=2)
    taken = replace(second.orders[1], client_order_id=day.order_id(1))
    with pytest.raises(LedgerRefused):
        ledger.record_intent(replace(second, orders=(second.orders[0], taken)))
    assert [intent.intent for intent in ledger.intents(day.session_id)] == [1]
    ledger.record_intent(second)


def test_another_start_under_a_used_fence_is_refused(ledger, lease, day):
    ledger.record_start(day.start())
    with pytest.raises(LedgerRefused, match="a fence"):
        ledger.record_start(day.start(run_id="run-2"))


def test_another_command_under_a_used_id_is_refused(ledger, lease, day):
    command = CommandRecord(
        command_id="c-1", session_id=day.session_id, kind="halt", reason="", requested_by="ui", requested_at_ms=day.at()
    )
    ledger.request_command(command)
    with pytest.raises(LedgerRefused):
        ledger.request_command(replace(command, kind="resume"))
    assert ledger.command("c-1") == command


def test_a_command_is_open_until_its_first_answer_which_holds(ledger, lease, day):
    commands = [
        CommandRecord(
            command_id=f"c-{number}",
            session_id=day.session_id,
            kind="halt",
            reason="",
            requested_by="ui",
            requested_at_ms=day.at(-number),
        )
        for number in (1, 2)
    ]
    for command in commands:
        ledger.request_command(command)
    assert ledger.open_commands(day.session_id) == (commands[1], commands[0]), "oldest first"
    assert ledger.answer_command("c-1", "halted", day.at(1)) is True
    assert ledger.answer_command("c-1", "refused", day.at(2)) is False
    assert ledger.open_commands(day.session_id) == (commands[1],)
    assert ledger.command("c-1") == replace(commands[0], answer="halted", answered_at_ms=day.at(1))
    assert ledger.command("c-3") is None


def test_an_answer_to_nothing_is_refused(ledger):
    with pytest.raises(LedgerRefused):
        ledger.answer_command("c-404", "done", 0)


FILLS = {
    "each step of an order is a fill": "0-25 yes, 25-75 yes",
    "the same update twice": "0-75 yes, 0-75 no",
    "an old update after a newer one": "0-75 yes, 0-25 no",
    "a newer update seen whole is refused: its first part is recorded": "0-25 yes, 0-75 refused",
    "a fill across the end of another is refused": "0-50 yes, 25-75 refused",
    "a step that was missed leaves a gap, which the check reports": "0-25 yes, 50-75 yes",
    "inside what is known": "0-75 yes, 25-50 no",
}


@pytest.mark.parametrize("story", FILLS.values(), ids=FILLS.keys())
def test_units_are_never_counted_twice(ledger, lease, day, story):
    ledger.record_intent(day.intent(1))
    for step in story.split(", "):
        span, expected = step.split()
        begin, end = map(int, span.split("-"))
        fill = day.fill(1, end - begin, (end - begin) * 100_00, cumulative=end)
        if expected == "refused":
            with pytest.raises(LedgerRefused, match="count units twice"):
                ledger.record_fill(fill)
        else:
            assert ledger.record_fill(fill) is (expected == "yes")


def test_a_fill_of_an_unknown_order_is_refused(ledger, lease, day):
    with pytest.raises(LedgerRefused, match="record its intent first"):
        ledger.record_fill(day.fill(1))


def test_charges_priced_anew_become_the_revision_that_counts(ledger, lease, day):
    """Also back to the first amounts: the last word counts, not the number of times it was said."""
    ledger.record_intent(day.intent(1))
    ledger.record_fill(day.fill(1))
    first, second = day.charge(1), day.charge(1, stt_paise=9_99, rates_version="2026-04-01")
    for charge in (first, second, second, first):
        ledger.record_charges([charge])
        assert ledger.charges(day.session_id) == (charge,)
        assert ledger.trades(day.session_id)[0].charges_paise == charge.total_paise
    assert ledger.rows("SELECT revision, stt_paise FROM charge ORDER BY revision") == [(1, 7_50), (2, 9_99), (3, 7_50)]


def test_an_intent_with_a_fence_that_is_not_current_is_lost(ledger, lease, day):
    with pytest.raises(LeaseLost, match=r"with fence 2, found fence 1 of host/1/run-1; send nothing more"):
        ledger.record_intent(day.intent(1, fence=2))
    assert ledger.intents(day.session_id) == ()


def test_no_intent_without_a_lease(ledger, day):
    ledger.open_session(day.key, "s")
    with pytest.raises(LeaseLost, match="found no lease at all"):
        ledger.record_intent(day.intent(1))


def test_no_intent_after_the_lease_was_released(ledger, lease, day):
    ledger.leases.release(lease)
    with pytest.raises(LeaseLost, match=r"nobody \(released\)"):
        ledger.record_intent(day.intent(1))


def test_an_expired_lease_that_nobody_took_still_records(ledger, lease, day):
    """The process was slow, and nobody else trades: an exit must not fail for a late heartbeat."""
    assert ledger.leases.holder(day.key, lease.expires_at_ms) is None
    ledger.record_intent(day.intent(1))


def test_after_a_takeover_the_former_owner_records_nothing_more(ledger, lease, day):
    ledger.record_intent(day.intent(1))
    ledger.leases.take_over(day.key, "guardian", day.at(1))
    with pytest.raises(LeaseLost, match="found fence 2 of guardian"):
        ledger.record_intent(day.intent(2))
    with pytest.raises(LeaseLost):
        ledger.record_intent(day.intent(1))  # not even the one that is recorded: it must not be sent again
    assert len(ledger.intents(day.session_id)) == 1


def test_what_the_journal_says_was_sent_is_recorded_whatever_the_lease(ledger, lease, day):
    ledger.leases.take_over(day.key, "guardian", day.at(1))
    ledger.record_intent(day.intent(1), already_sent=True)
    assert ledger.intents(day.session_id) == (day.intent(1),)


def test_an_explanation_never_stops_a_recording(ledger, lease, day):
    """Values that JSON or a database has no word for are written as text."""
    why = {"nan": float("nan"), "day": date(2025, 11, 20), "text": "a\0b\ud800", "nested": {"inf": [float("inf"), {1}]}}
    ledger.record_intent(day.intent(1, why=why))
    assert ledger.intents(day.session_id)[0].why == {
        "nan": "nan",
        "day": "2025-11-20",
        "text": "ab?",
        "nested": {"inf": ["inf", [1]]},
    }
    ledger.record_intent(day.intent(1, why=why))


def test_a_message_of_the_broker_may_hold_anything(ledger, lease, day):
    ledger.record_intent(day.intent(1))
    ledger.record_order_event(day.event(message="RMS:\0 ₹ rule '%s' ? \ud83d" + "x" * 10_000))
    assert ledger.order_events(day.order_id(1))[0].message == "RMS: ₹ rule '%s' ? ?" + "x" * 10_000


def test_indicator_values_survive_to_the_last_bit_and_nan_is_unknown(ledger, lease, day):
    value = 0.1 + 0.2
    ledger.record_candles([day.candle(1, supertrend=value, macd=float("nan"))])
    candle = ledger.candles(day.session_id, 5)[0]
    assert (candle.supertrend, candle.macd) == (value, None)


@pytest.mark.parametrize("wrong", [7_500.5, 7500.0, "many", None, 2**70], ids=str)
def test_money_that_is_not_whole_paise_is_refused(ledger, lease, day, wrong):
    ledger.record_intent(day.intent(1))
    with pytest.raises(LedgerRefused):
        ledger.record_fill(replace(day.fill(1), value_paise=wrong))
    assert ledger.fills(day.session_id) == ()


def test_money_beyond_32_bits_is_exact(ledger, lease, day):
    value_paise = 9_007_199_254_740_993  # the first whole number that a float has no room for
    ledger.record_intent(day.intent(1))
    ledger.record_fill(day.fill(1, value_paise=value_paise))
    assert ledger.trades(day.session_id)[0].buy_value_paise == value_paise
    assert ledger.rows("SELECT buy_value_paise FROM day_total") == [(value_paise,)]


def test_a_schema_that_is_not_this_codes_is_refused(ledger_url, open_ledger, alter):
    alter(ledger_url, "UPDATE bot_alembic_version SET version_num = '9999'")
    with pytest.raises(LedgerUnavailable, match=rf"expected schema {SCHEMA_REVISION} .*, found 9999; .*migrate\(url\)"):
        open_ledger(ledger_url)


def test_a_ledger_that_was_never_made_is_not_made_by_opening_it(empty_url, tmp_path):
    with pytest.raises(LedgerUnavailable, match=r"migrate\(url\)"):
        Ledger(empty_url)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("url", ["mysql://root@localhost/bot", "sqlite://", "sqlite:///:memory:", "ledger.db"])
def test_a_url_of_another_kind_is_refused_with_what_was_expected(url):
    with pytest.raises(ValueError, match=r"expected a .*ledger"):
        Ledger(url)


def test_a_closed_ledger_says_so(ledger_url, day):
    ledger = Ledger(ledger_url)
    ledger.close()
    ledger.close()
    for use in (lambda: ledger.starts("x"), lambda: ledger.open_session(day.key, "s")):
        with pytest.raises(LedgerUnavailable, match="open it again"):
            use()


def test_questions_change_nothing(ledger, lease, day):
    """`rows` takes any SQL: it reads, and cannot write."""
    with pytest.raises(LedgerUnavailable, match=r"(?i)read-?only"):
        ledger.rows("INSERT INTO security (security) VALUES (?) RETURNING number", "IDX_I:13")
    assert ledger.rows("SELECT COUNT(*) FROM security") == [(0,)]
    ledger.record_candles([day.candle(1)])  # a connection that has read can write again


def test_a_session_lives_while_its_start_holds_the_lease_and_keeps_it_alive(ledger, lease, day):
    assert ledger.living_session_ids(day.at(1)) == (), "no start yet"
    ledger.record_start(day.start())
    assert ledger.living_session_ids(day.at(1)) == (day.session_id,)
    assert ledger.living_session_ids(lease.expires_at_ms) == ()
    ledger.leases.take_over(day.key, "guardian", day.at(2))
    assert ledger.living_session_ids(day.at(3)) == (), "the lease is held, but not by a start of the session"


BATCHES = {"fewer than a COPY is worth": 5, "by COPY": 500}


@pytest.mark.parametrize("count", BATCHES.values(), ids=BATCHES.keys())
def test_a_batch_that_is_partly_known_adds_what_is_new(ledger, lease, day, count):
    candles = [day.candle(number) for number in range(count)]
    decisions = [
        DecisionRecord(
            session_id=day.session_id, at_ms=day.at(number), kind="refused", reason="macd", detail={"n": number}
        )
        for number in range(count)
    ]
    for part in (slice(count // 2), slice(None), slice(count // 3, None)):
        ledger.record_candles(candles[part])
        ledger.record_decisions(decisions[part])
    assert ledger.candles(day.session_id, 5) == tuple(candles)
    assert ledger.decisions(day.session_id) == tuple(decisions)


WRONG = {"prices that no candle has": {"low_paise": 27_000_00}, "of a session that is not": {"session_id": "nowhere"}}


@pytest.mark.parametrize("known", [0, 1], ids=["all new", "one known"])
@pytest.mark.parametrize("changes", WRONG.values(), ids=WRONG.keys())
def test_one_wrong_row_refuses_its_whole_batch(ledger, lease, day, changes, known):
    candles = [day.candle(number) for number in range(200)]
    ledger.record_candles(candles[:known])
    with pytest.raises(LedgerRefused):
        ledger.record_candles([*candles, day.candle(200, **changes)])
    assert ledger.candles(day.session_id, 5) == tuple(candles[:known])


def test_nothing_is_recorded_for_nothing(ledger, lease, day):
    ledger.record_candles([])
    ledger.record_decisions(iter(()))
    ledger.record_ticks(day.session_id, [])
    ledger.record_charges([])
    assert ledger.rows("SELECT COUNT(*) FROM tick_batch") == [(0,)]


def test_ticks_that_came_late_keep_their_times_and_their_place(ledger, lease, day):
    ticks = [
        Tick(at_ms=day.at(second), security=security, price_paise=100_00 + second, bid_paise=99_95, ask_paise=100_05)
        for second, security in ((5, "IDX_I:13"), (2, "NSE_FNO:47317"), (5, "IDX_I:13"), (3, "IDX_I:13"))
    ]
    ledger.record_ticks(day.session_id, ticks)
    ledger.record_ticks(day.session_id, ticks[1:])
    assert ledger.ticks(day.session_id) == (*ticks, *ticks[1:])
