"""What a phone shows: the title alone tells the story, the body ends with the market's time."""

from datetime import date

import pytest

from strategy.actions import Alert, ExitReason, Severity
from strategy.instruments import Underlying
from tasks.ledger.records import SessionKey
from tasks.notify import Topic, texts
from tasks.pages.wording import render_duration

LIVE = SessionKey(account="1000000009", underlying=Underlying.NIFTY, mode="live", day=date(2026, 11, 20))
PAPER = SessionKey(account="1000000009", underlying=Underlying.SENSEX, mode="paper", day=date(2026, 11, 20))
AT_MS = 1_795_147_265_000  # 09:31:05
CONTRACT = "NIFTY 23 NOV 24500 CE"
INFO, WARNING, CRITICAL = Severity.INFO, Severity.WARNING, Severity.CRITICAL
ENDED = {"trades": 3, "wins": 2, "gross_paise": 2_000_00, "net_paise": 1_800_50}
EXITED = {
    "trade": 2,
    "contract_name": CONTRACT,
    "quantity": 65,
    "entry_paise": 126_05,
    "exit_paise": 145_05,
    "trades_today": 2,
    "held_ms": 250_000,
}

# notice, severity, topic, title
TITLES = {
    "start": (
        texts.session_started(LIVE, AT_MS, settings="1 lot"),
        (INFO, Topic.OPERATIONS, "LIVE NIFTY · session started"),
    ),
    "start after a crash": (
        texts.session_started(PAPER, AT_MS, settings="1 lot", start_number=2),
        (WARNING, Topic.OPERATIONS, "⚠️ paper SENSEX · session started again (start 2)"),
    ),
    "end": (
        texts.session_ended(LIVE, AT_MS, reason="squareoff", **ENDED),
        (INFO, Topic.OPERATIONS, "LIVE NIFTY · day over · 🟢 +₹1,800.50 net"),
    ),
    "end with something open": (
        texts.session_ended(LIVE, AT_MS, reason="crash", open_position=f"65 × {CONTRACT}", **ENDED),
        (CRITICAL, Topic.OPERATIONS, f"🚨 LIVE NIFTY · STILL OPEN: 65 × {CONTRACT} · 🟢 +₹1,800.50 net"),
    ),
    "entry": (
        texts.entered(
            LIVE,
            AT_MS,
            trade=1,
            contract_name=CONTRACT,
            quantity=65,
            price_paise=126_05,
            stop_paise=76_05,
            why="SuperTrend turned up",
        ),
        (INFO, Topic.TRADES, f"LIVE NIFTY · bought 65 × {CONTRACT} at ₹126.05"),
    ),
    "exit in profit": (
        texts.exited(LIVE, AT_MS, reason=ExitReason.TARGET, net_paise=1_169_10, day_net_paise=-80_40, **EXITED),
        (INFO, Topic.TRADES, "LIVE NIFTY · 🟢 +₹1,169.10 net · target · day -₹80.40"),
    ),
    "exit at a loss": (
        texts.exited(LIVE, AT_MS, reason="stop_loss", net_paise=-1, day_net_paise=-1, **EXITED),
        (INFO, Topic.TRADES, "LIVE NIFTY · 🔴 -₹0.01 net · stop loss · day -₹0.01"),
    ),
    "squareoff at its time is no alarm": (
        texts.squareoff_started(LIVE, AT_MS, reason="squareoff", position=""),
        (INFO, Topic.RISK, "LIVE NIFTY · squaring off: square-off time"),
    ),
    "squareoff by hand": (
        texts.squareoff_started(LIVE, AT_MS, reason="manual", position=CONTRACT),
        (WARNING, Topic.RISK, "⚠️ LIVE NIFTY · squaring off: operator"),
    ),
    "failure outside a session": (
        texts.failed(None, AT_MS, what="The guardian", error="no token", next_step="renew it"),
        (CRITICAL, Topic.OPERATIONS, "🚨 The guardian failed"),
    ),
    "a job's word": (
        texts.told_by_a_job(
            AT_MS, kind="session_crashed", severity=CRITICAL, news="session crashed: NIFTY live", body="no sign of life"
        ),
        (CRITICAL, Topic.OPERATIONS, "🚨 session crashed: NIFTY live"),
    ),
    "reconciliation": (
        texts.reconciliation_differs(LIVE, AT_MS, differences=["x"]),
        (CRITICAL, Topic.RISK, "🚨 LIVE NIFTY · broker and ledger differ in 1 point"),
    ),
    "an alert of the rules": (
        texts.alerted(LIVE, Alert(at_ms=AT_MS, kind="order_unknown", severity=CRITICAL, message="in doubt")),
        (CRITICAL, Topic.RISK, "🚨 LIVE NIFTY · order in doubt: in doubt"),
    ),
}


@pytest.mark.parametrize("name", TITLES)
def test_the_title_tells_the_story_and_the_severity_fits(name):
    notice, expected = TITLES[name]
    assert (notice.severity, notice.topic, notice.title) == expected
    assert notice.body.splitlines()[-1] == "09:31:05"


def test_an_exit_says_what_it_brought_and_where_the_day_stands():
    notice, _ = TITLES["exit in profit"]
    assert notice.body.splitlines()[:3] == [
        f"sold 65 × {CONTRACT} at ₹145.05",
        "bought at ₹126.05, held 4 min 10 s",
        "day -₹80.40 net after 2 trades",
    ]


def test_two_trades_are_never_the_same_news():
    one, two = (
        texts.exited(LIVE, AT_MS, reason="target", net_paise=1, day_net_paise=1, **(EXITED | {"trade": trade}))
        for trade in (1, 2)
    )
    assert one.identity != two.identity


def test_many_differences_stay_readable():
    notice = texts.reconciliation_differs(LIVE, AT_MS, differences=[f"d{n}" for n in range(14)])
    assert len(notice.body.splitlines()) == 12
    assert "and 4 more" in notice.body


@pytest.mark.parametrize(
    ("ms", "text"),
    [(0, "0 s"), (45_400, "45 s"), (60_000, "1 min 0 s"), (250_000, "4 min 10 s"), (7_500_000, "2 h 5 min")],
)
def test_durations_in_the_two_units_that_matter(ms, text):
    assert render_duration(ms) == text
