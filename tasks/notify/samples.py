"""One notice of each kind that a trading day can bring, marked as a test: what `bot notify test` sends.

A person sees on his own phone what each looks like and learns which target gets it, before it matters.
"""

from dataclasses import replace
from datetime import date

from strategy.actions import Alert, ExitReason, Severity
from strategy.instruments import Underlying
from tasks.ledger.records import SessionKey
from tasks.notify import texts
from tasks.notify.alerts import alert_text
from tasks.notify.notice import Notice

CONTRACT = "NIFTY 23 NOV 24500 CE"
# The alerts of the rules that are sampled; docs/alerts.md has them all.
SAMPLED_ALERTS = {
    "daily_loss_near": "₹1,612.00 of ₹2,000.00",
    "halted": "daily_max_loss",
    "order_rejected": "RMS: no holdings",
    "order_unknown": "the reply to SELL 65 did not come",
    "index_ticks_stale": "12 s without one",
    "broker_authentication_dead": "DH-901",
}
# A white pixel, so that a picture travels too.
PIXEL_PNG = bytes.fromhex(
    "89504e470d0a1a0a0000000d4948445200000001000000010800000000"
    "3a7e9b550000000a49444154789c63f80f00010101001bb6ee560000000049454e44ae426082"
)


def samples(at_ms: int) -> tuple[Notice, ...]:
    """The notices of an invented day, in the order in which a day brings them."""
    session = SessionKey(account="", underlying=Underlying.NIFTY, mode="paper", day=date(2026, 11, 20))
    real = (
        texts.session_started(session, at_ms, settings="1 lot, SuperTrend 7/4, loss limit ₹2,000"),
        texts.entered(
            session,
            at_ms,
            trade=1,
            contract_name=CONTRACT,
            quantity=65,
            price_paise=126_05,
            stop_paise=76_05,
            why="SuperTrend turned up",
        ),
        texts.stop_moved(session, at_ms, trade=1, contract_name=CONTRACT, stop_paise=131_05),
        texts.exited(
            session,
            at_ms,
            trade=1,
            contract_name=CONTRACT,
            quantity=65,
            entry_paise=126_05,
            exit_paise=145_05,
            reason=ExitReason.TRAILING_STOP,
            net_paise=1_169_10,
            day_net_paise=1_169_10,
            trades_today=1,
            held_ms=250_000,
        ),
        *(
            texts.alerted(session, Alert(at_ms=at_ms, kind=kind, severity=alert_text(kind).severity, message=message))
            for kind, message in SAMPLED_ALERTS.items()
        ),
        texts.squareoff_started(session, at_ms, reason=ExitReason.SQUAREOFF, position=f"65 × {CONTRACT}"),
        texts.session_ended(
            session, at_ms, reason="squareoff", trades=1, wins=1, gross_paise=1_235_00, net_paise=1_169_10
        ),
        texts.reconciliation_differs(session, at_ms, differences=["order 12: 65 units here, 130 at the broker"]),
        texts.day_reported(
            session, at_ms, net_paise=1_169_10, lines=["1 trade, 1 won"], chart_png=PIXEL_PNG, page=b"<p>the report"
        ),
        texts.failed(session, at_ms, what="daily-session", error="Crashed", next_step="the guardian looks now"),
        _crash(at_ms),
    )
    return tuple(replace(notice, title=f"TEST · {notice.title}", key=f"test {at_ms} {notice.kind}") for notice in real)


def _crash(at_ms: int) -> Notice:
    """What an automation has told when a session's heartbeat is missing."""
    return texts.told_by_a_job(
        at_ms,
        kind="session_crashed",
        severity=Severity.CRITICAL,
        news="session crashed: 2026-11-20 NIFTY paper",
        body="No sign of life for 90 s: the process is dead or cut off.",
    )
