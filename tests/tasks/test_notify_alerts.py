"""Every alert that the program can say has words for a person, and no words wait for an alert that never comes."""

import ast
import re
from datetime import date
from pathlib import Path

import pytest

from strategy.actions import Alert, Severity
from tasks.ledger.records import SessionKey
from tasks.notify import texts
from tasks.notify.alerts import ALERTS, render_alerts
from tasks.notify.notice import LOUDNESS

PROJECT = Path(__file__).resolve().parents[2]
MAKERS = {"alert", "_alert", "alert_once", "_complain", "Alert"}
KIND = re.compile(r"[a-z]+(_[a-z]+)*")
AT_MS = 1_795_147_265_000  # 09:31:05
SESSION = SessionKey(account="1000000009", underlying="NIFTY", mode="live", day=date(2026, 11, 20))
LONG = "EXIT order 261120N-k3f-1-0 (SELL 65 NIFTY 23 NOV 24500 CE) was refused: RMS: no holdings"


def _name(call):
    return call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")


def _texts(node):
    return [found.value for found in ast.walk(node) if isinstance(found, ast.Constant) and isinstance(found.value, str)]


def emitted():
    """Kind -> the severities that stand beside it, out of the source: every call that makes an alert.

    A kind that is chosen at run time stands as a text elsewhere in the same function, as a word with underlines.
    """
    kinds = {}
    sources = [path for room in ("strategy", "tasks", "flows") for path in (PROJECT / room).rglob("*.py")]
    for function in (
        node
        for path in sources
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef) and node.name not in MAKERS
    ):
        for call in (node for node in ast.walk(function) if isinstance(node, ast.Call) and _name(node) in MAKERS):
            given = [*call.args, *(keyword.value for keyword in call.keywords)]
            literal = [arg.value for arg in given if isinstance(arg, ast.Constant) and isinstance(arg.value, str)]
            found = [text for text in literal if KIND.fullmatch(text)]
            if not found:
                found = [text for text in _texts(function) if "_" in text and KIND.fullmatch(text)]
            loud = {Severity[node.attr] for arg in given for node in ast.walk(arg) if _is_severity(node)}
            for kind in found:
                kinds.setdefault(kind, set()).update(loud)
    return kinds


def _is_severity(node):
    return isinstance(node, ast.Attribute) and node.attr in Severity.__members__


def test_every_alert_that_is_said_has_words_and_no_words_are_left_over():
    kinds = emitted()
    assert set(kinds) == set(ALERTS)
    assert len(kinds) > 30, "the search finds what it is meant to find"


def test_no_alert_is_louder_than_its_words_say():
    for kind, severities in emitted().items():
        for severity in severities:
            assert LOUDNESS[severity] <= LOUDNESS[ALERTS[kind].severity], kind


@pytest.mark.parametrize("kind", ALERTS)
def test_the_words_say_what_happened_what_goes_on_and_what_to_do(kind):
    text = ALERTS[kind]
    assert 3 < len(text.happened) <= 50, "it fits a locked screen"
    for words in (text.happened, text.bot, text.you):
        assert words, kind
        assert words == words.strip().rstrip("."), kind


@pytest.mark.parametrize("kind", ALERTS)
def test_the_notice_carries_the_alert_s_own_words_too(kind):
    notice = texts.alerted(SESSION, Alert(at_ms=AT_MS, kind=kind, severity=ALERTS[kind].severity, message=LONG))
    assert notice.title.endswith(f"LIVE NIFTY · {ALERTS[kind].happened}")
    assert notice.body.splitlines() == [LONG, f"the bot: {ALERTS[kind].bot}", f"you: {ALERTS[kind].you}", "09:31:05"]
    assert (notice.kind, notice.severity, notice.topic) == (kind, ALERTS[kind].severity, ALERTS[kind].topic)


def test_short_words_of_an_alert_stand_in_the_title():
    notice = texts.alerted(
        SESSION, Alert(at_ms=AT_MS, kind="halted", severity=Severity.CRITICAL, message="daily_max_loss")
    )
    assert notice.title == "🚨 LIVE NIFTY · halted: daily_max_loss"


def test_two_orders_in_doubt_are_two_pieces_of_news_and_one_said_twice_is_one():
    said = [
        texts.alerted(SESSION, Alert(at_ms=AT_MS + n, kind="order_unknown", severity=Severity.CRITICAL, message=words))
        for n, words in enumerate((LONG, f"another {LONG}", LONG))
    ]
    assert said[0].identity != said[1].identity
    assert said[0].identity == said[2].identity


def test_an_alert_without_words_is_told_all_the_same():
    notice = texts.alerted(SESSION, Alert(at_ms=AT_MS, kind="new_kind", severity=Severity.CRITICAL, message=LONG))
    assert LONG in notice.body
    assert notice.is_critical


def test_the_operator_s_table_is_the_program_s():
    assert render_alerts() in (PROJECT / "docs" / "alerts.md").read_text()
