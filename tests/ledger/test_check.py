"""Corruptions that no constraint, trigger or transaction would let through are planted by hand; each is found and named."""

import pytest

from flows.cli.upkeep import ledger_check
from strategy.events import Side
from tasks.ledger.check import _PARENTS, RULES, check
from tasks.ledger.records import CommandRecord
from tasks.ledger.tables import LedgerTable

EVENING_S = 6 * 3600


@pytest.fixture
def clean_day(ledger, lease, day):
    """Two round trips with everything that belongs to them."""
    ledger.record_start(day.start())
    for trade, intent in ((1, 1), (2, 3)):
        ledger.record_intent(day.intent(intent, trade=trade, quantity=150, slices=2))
        ledger.record_intent(
            day.intent(intent + 1, Side.SELL, trade=trade, quantity=150, slices=2, decided_at_ms=day.at(intent + 0.6))
        )
        for number in (intent, intent + 1):
            for slice_number in (1, 2):
                order = day.order_id(number, slice_number)
                for change in (
                    {"kind": "SENT"},
                    {"kind": "ACCEPTED", "broker_order_id": f"9{number}{slice_number}"},
                    {
                        "kind": "SEEN",
                        "broker_order_id": f"9{number}{slice_number}",
                        "status": "TRADED",
                        "filled_quantity": 75,
                    },
                    # late news and the same news again are no contradiction
                    {"kind": "SEEN", "broker_order_id": f"9{number}{slice_number}", "status": "PENDING"},
                    {
                        "kind": "SEEN",
                        "broker_order_id": f"9{number}{slice_number}",
                        "status": "TRADED",
                        "message": "again",
                    },
                ):
                    ledger.record_order_event(day.event(number, client_order_id=order, **change))
                ledger.record_fill(day.fill(number, 25, 2_500_00, cumulative=25, slice_number=slice_number))
                ledger.record_fill(day.fill(number, 50, 5_000_00, cumulative=75, slice_number=slice_number))
        ledger.record_charges([day.charge(intent), day.charge(intent + 1)])
    ledger.request_command(
        CommandRecord(
            command_id="c-1",
            session_id=day.session_id,
            kind="halt",
            reason="",
            requested_by="ui",
            requested_at_ms=day.at(10),
        )
    )
    ledger.answer_command("c-1", "halted", day.at(11))
    return ledger


@pytest.fixture
def plant(ledger_url, alter, day):
    """Run statements with triggers, foreign keys and checks out of the way."""

    def planted(*statements: str, without: tuple[str, str] | None = None) -> None:
        names = {"s": day.session_id, "o1": day.order_id(1), "o2": day.order_id(2), "o3": day.order_id(3)}
        texts = [statement.format(**names) for statement in statements]
        if ledger_url.startswith("sqlite"):
            tables = (
                "intent",
                "client_order",
                "order_event",
                "fill",
                "charge",
                "lease_taking",
                "command_answer",
                "session",
            )
            triggers = [f"DROP TRIGGER {table}_keeps_{verb}" for table in tables for verb in ("update", "delete")]
            alter(ledger_url, "PRAGMA foreign_keys = OFF", "PRAGMA ignore_check_constraints = ON", *triggers, *texts)
        else:
            unchecked = [f"ALTER TABLE {without[0]} DROP CONSTRAINT {without[1]}"] if without else []
            alter(ledger_url, *unchecked, "SET session_replication_role = replica", *texts)

    return planted


T = "'2025-11-20 03:45:09.000000+00:00'"
FILL = "INSERT INTO fill (client_order_id, cumulative_quantity, quantity, value_paise, at) VALUES "
EVENT = (
    "INSERT INTO order_event (client_order_id, at, kind, status, broker_order_id, filled_quantity, limit_paise, message,"
    " fingerprint) VALUES "
)

CORRUPTIONS = {
    "row_without_parent, an order of no intent": (
        "client_order lost",
        ["UPDATE client_order SET intent = 77 WHERE client_order_id = '{o1}'"],
    ),
    "row_without_parent, a fill of no order": ("fill nowhere", [FILL + "('nowhere', 75, 75, 100, " + T + ")"]),
    "row_without_parent, a charge of no order": (
        "charge nowhere",
        ["INSERT INTO charge VALUES ('nowhere', 1, 1, 1, 1, 1, 1, 1, 'v')"],
    ),
    "row_without_parent, an intent of no session": ("no such session", ["DELETE FROM session"]),
    "intent_without_orders, too few": ("orders of 75", ["DELETE FROM client_order WHERE client_order_id = '{o1}'"]),
    "intent_without_orders, other quantity": ("intent 2", ["UPDATE intent SET quantity = 75 WHERE intent = 2"]),
    "order_overfilled": ("fills of 100", [FILL + "('{o1}', 100, 25, 100, " + T + ")"]),
    "fill_gap": (
        "begins at 25 after 0",
        ["DELETE FROM fill WHERE client_order_id = '{o1}' AND cumulative_quantity = 25"],
    ),
    "fill_overlap": (
        "begins at 20 after 25",
        ["UPDATE fill SET quantity = 55 WHERE client_order_id = '{o1}' AND cumulative_quantity = 75"],
    ),
    "impossible_money, a fill": ("-1 paise", ["UPDATE fill SET value_paise = -1 WHERE client_order_id = '{o1}'"]),
    "impossible_money, a charge": ("revision 1", ["UPDATE charge SET gst_paise = -5 WHERE client_order_id = '{o1}'"]),
    "broker_order_shared": ("{o1}", ["UPDATE order_event SET broker_order_id = '911' WHERE client_order_id = '{o3}'"]),
    "order_sent_twice": ("911 and 999", [EVENT + "('{o1}', " + T + ", 'ACCEPTED', '', '999', 0, 0, '', 'x')"]),
    "fence_never_held, an intent": ("fence 9, which nobody took", ["UPDATE intent SET fence = 9"]),
    "fence_never_held, a start": ("start", ["DELETE FROM lease_taking"]),
    "fence_fell": (
        "fence 1 after 2",
        [
            "INSERT INTO lease_taking SELECT account, underlying, mode, 2, owner, taken_at, taken_over FROM lease_taking",
            "UPDATE intent SET fence = 2 WHERE intent = 3",
        ],
    ),
    "charge_without_fill": ("{o1}", ["DELETE FROM fill WHERE client_order_id = '{o1}'"]),
    "trade_in_two_contracts": (
        "NSE_FNO:1 and NSE_FNO:47317",
        ["UPDATE intent SET security = 'NSE_FNO:1' WHERE intent = 2"],
    ),
    "event_after_the_end, a write": (
        "MODIFY_SENT  after it was TRADED",
        [EVENT + "('{o1}', " + T + ", 'MODIFY_SENT', '', '', 0, 0, '', 'x')"],
    ),
    "event_after_the_end, another end": (
        "SEEN CANCELLED after it was TRADED",
        [EVENT + "('{o1}', " + T + ", 'SEEN', 'CANCELLED', '911', 0, 0, '', 'x')"],
    ),
    "sold_more_than_held": ("leaves -75", ["DELETE FROM fill WHERE client_order_id = '{o1}'"]),
    "two_positions": ("bought while trade 1 was open", ["DELETE FROM fill WHERE client_order_id = '{o2}'"]),
    "time_out_of_order, a fill": (
        "a fill before its intent",
        ["UPDATE fill SET at = '2025-11-20 03:44:00.000000+00:00' WHERE client_order_id = '{o1}'"],
    ),
    "time_out_of_order, an answer": (
        "an answer before the request",
        [
            "UPDATE session SET mode = 'paper'",
            "UPDATE command_answer SET answered_at = '2025-11-20 03:44:00.000000+00:00'",
        ],
    ),
    "time_out_of_order, an intent": (
        "an intent before the one it follows",
        ["UPDATE intent SET decided_at = '2025-11-20 03:44:00.000000+00:00' WHERE intent = 3"],
    ),
    "position_held_overnight": ("75 units that were never sold", ["DELETE FROM fill WHERE client_order_id = '{o2}'"]),
    "command_unanswered": ("no answer to 'halt' of ui", ["DELETE FROM command_answer"]),
}
UNCHECKED = {
    "impossible_money, a fill": ("fill", "ck_fill_value_whole_paise"),
    "impossible_money, a charge": ("charge", "ck_charge_gst_whole_paise"),
}


def test_a_clean_day_has_no_violation(clean_day, day):
    assert check(clean_day, now_ms=day.at(EVENING_S)) == ()
    assert check(clean_day, now_ms=day.at(100 * 24 * 3600)) == (), "nor has it later"


def test_an_empty_ledger_has_no_violation(ledger):
    assert check(ledger) == ()


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_a_corruption_is_found_and_named(clean_day, plant, day, name):
    expected, statements = CORRUPTIONS[name]
    statements = (
        [text.replace("'2025-11-20 03:44:00.000000+00:00'", "'2025-11-20 03:44:00.000000'") for text in statements]
        if clean_day.place.endswith("sqlite")
        else statements
    )
    plant(*statements, without=UNCHECKED.get(name))
    rule = name.partition(",")[0]
    found = [violation for violation in check(clean_day, now_ms=day.at(30 * 3600)) if violation.rule == rule]
    assert found, f"{rule} was not found"
    expected = expected.format(o1=day.order_id(1)).replace("lost", f"{day.session_id}/77")
    assert any(expected in str(violation) for violation in found), [str(violation) for violation in found]
    for violation in found:
        assert str(violation).startswith(f"{rule}: ")
        assert RULES[rule] in str(violation)


def test_the_command_says_what_is_wrong_and_its_exit_code_tells(clean_day, plant, ledger_url, monkeypatch, capsys):
    monkeypatch.setenv("BOT_LEDGER_URL", ledger_url)
    assert (ledger_check(), capsys.readouterr().out) == (0, "the ledger is sound\n")
    plant("DELETE FROM fill WHERE client_order_id = '{o1}' AND cumulative_quantity = 25")
    assert ledger_check() == 1
    said = capsys.readouterr().out
    assert "fill_gap: order " in said
    assert "violations" in said


def test_every_rule_has_a_corruption_that_shows_it():
    assert {name.partition(",")[0] for name in CORRUPTIONS} == set(RULES)


def test_no_table_that_belongs_to_another_is_forgotten():
    """A row without its parent is looked for wherever the models have a foreign key."""
    referring = {
        (table.name, key.referred_table.name)
        for table in LedgerTable.metadata.tables.values()
        for key in table.foreign_key_constraints
    }
    assert {(child, parent) for child, _, parent in _PARENTS} == referring


def test_a_rehearsal_may_answer_on_another_day_than_it_was_asked(ledger, lease, day):
    ledger.request_command(
        CommandRecord(
            command_id="c",
            session_id=day.session_id,
            kind="halt",
            reason="",
            requested_by="ui",
            requested_at_ms=day.at(2 * 24 * 3600),
        )
    )
    ledger.answer_command("c", "halted", day.at(11))
    assert check(ledger, now_ms=day.at(100)) == ()


def test_a_command_has_its_time_to_be_answered(ledger, lease, day):
    ledger.request_command(
        CommandRecord(
            command_id="c",
            session_id=day.session_id,
            kind="halt",
            reason="",
            requested_by="ui",
            requested_at_ms=day.at(),
        )
    )
    assert check(ledger, now_ms=day.at(300)) == ()
    assert [violation.rule for violation in check(ledger, now_ms=day.at(301))] == ["command_unanswered"]
    assert check(ledger, now_ms=day.at(301), answer_limit_s=600) == ()


def test_a_position_may_be_open_until_its_day_is_over(ledger, lease, day):
    ledger.record_intent(day.intent(1))
    ledger.record_fill(day.fill(1))
    midnight_s = (14 * 60 + 45) * 60  # from 09:15
    assert check(ledger, now_ms=day.at(midnight_s - 1)) == ()
    assert [violation.rule for violation in check(ledger, now_ms=day.at(midnight_s))] == ["position_held_overnight"]


def test_an_unknown_position_may_be_sold_without_its_purchase(ledger, lease, day):
    ledger.record_intent(day.intent(1, Side.SELL, reason="unknown_position"))
    ledger.record_fill(day.fill(1))
    assert check(ledger, now_ms=day.at()) == ()


def test_the_brokers_whole_seconds_are_not_out_of_order(ledger, lease, day):
    ledger.record_intent(day.intent(1, decided_at_ms=day.at(1.9)))
    ledger.record_fill(day.fill(1, seconds=1))
    assert check(ledger, now_ms=day.at(10)) == ()
