"""What notices say. One function per occasion; the title is what a phone shows on its locked screen.

Every title begins with the mode and the index ("LIVE NIFTY"), every body ends with the market's time.
"""

import re
from collections.abc import Sequence

from strategy.actions import Alert, ExitReason, Severity
from tasks.clock import ist
from tasks.ledger.records import SessionKey
from tasks.notify.alerts import alert_text
from tasks.notify.notice import Attachment, Notice, Topic, plain_to_html
from tasks.pages.money import render_rupees
from tasks.pages.wording import exit_words, render_duration

GAIN, LOSS, EVEN = "🟢", "🔴", "⚪"
TITLE_DETAIL_MAX = 60  # signs of an alert's own words that a locked screen shows beside the title
MARKS = {Severity.INFO: "", Severity.WARNING: "⚠️ ", Severity.CRITICAL: "🚨 "}


def session_started(
    session: SessionKey, at_ms: int, *, settings: str, start_number: int = 1, holding: str = ""
) -> Notice:
    """The trading process is up. `settings` is one line; `holding` names a position that was taken over."""
    again = f" again (start {start_number})" if start_number > 1 else ""
    body = [f"{session.day:%A %d %b %Y}", settings]
    if holding:
        body.append(f"took over: {holding}")
    return _notice(
        session,
        at_ms,
        kind="session_started",
        topic=Topic.OPERATIONS,
        severity=Severity.WARNING if start_number > 1 else Severity.INFO,
        news=f"session started{again}",
        body=body,
    )


def session_ended(
    session: SessionKey,
    at_ms: int,
    *,
    reason: str,
    trades: int,
    wins: int,
    gross_paise: int,
    net_paise: int,
    open_position: str = "",
) -> Notice:
    """The trading process left its loop. With something still open it is critical."""
    result = f"{_mark(net_paise)} {render_rupees(net_paise, signed=True)} net"
    news = f"STILL OPEN: {open_position} · {result}" if open_position else f"day over · {result}"
    return _notice(
        session,
        at_ms,
        kind="session_ended",
        topic=Topic.OPERATIONS,
        severity=Severity.CRITICAL if open_position else Severity.INFO,
        news=news,
        body=[
            f"{trades} {'trade' if trades == 1 else 'trades'}, {wins} won",
            f"gross {render_rupees(gross_paise, signed=True)}",
            f"charges {render_rupees(gross_paise - net_paise)}",
            f"ended by: {_words(reason)}",
        ],
    )


def entered(
    session: SessionKey,
    at_ms: int,
    *,
    trade: int,
    contract_name: str,
    quantity: int,
    price_paise: int,
    stop_paise: int | None,
    why: str,
) -> Notice:
    """A position was opened. `why` is one line."""
    stop = f", stop {render_rupees(stop_paise)}" if stop_paise else ", no stop"
    return _notice(
        session,
        at_ms,
        kind="entry",
        topic=Topic.TRADES,
        severity=Severity.INFO,
        news=f"bought {quantity} × {contract_name} at {render_rupees(price_paise)}",
        body=[f"cost {render_rupees(quantity * price_paise)}{stop}", why],
        key=f"{session.session_id}/{trade}",
    )


def exited(
    session: SessionKey,
    at_ms: int,
    *,
    trade: int,
    contract_name: str,
    quantity: int,
    entry_paise: int,
    exit_paise: int,
    reason: ExitReason | str,
    net_paise: int,
    day_net_paise: int,
    trades_today: int,
    held_ms: int,
) -> Notice:
    """A position was closed: what it brought, why, and where the day stands."""
    day = render_rupees(day_net_paise, signed=True)
    count = f"{trades_today} {'trade' if trades_today == 1 else 'trades'}"
    return _notice(
        session,
        at_ms,
        kind="exit",
        topic=Topic.TRADES,
        severity=Severity.INFO,
        news=f"{_mark(net_paise)} {render_rupees(net_paise, signed=True)} net · {exit_words(reason)} · day {day}",
        body=[
            f"sold {quantity} × {contract_name} at {render_rupees(exit_paise)}",
            f"bought at {render_rupees(entry_paise)}, held {render_duration(held_ms)}",
            f"day {day} net after {count}",
        ],
        key=f"{session.session_id}/{trade}",
    )


def stop_moved(session: SessionKey, at_ms: int, *, trade: int, contract_name: str, stop_paise: int) -> Notice:
    """The trailing stop went up; each new level is news."""
    return _notice(
        session,
        at_ms,
        kind="stop_moved",
        topic=Topic.TRADES,
        severity=Severity.INFO,
        news=f"stop of {contract_name} up to {render_rupees(stop_paise)}",
        body=[],
        key=f"{session.session_id}/{trade}/{stop_paise}",
    )


def resumed(session: SessionKey, at_ms: int, *, reason: str) -> Notice:
    """A halt was lifted."""
    return _notice(
        session,
        at_ms,
        kind="resumed",
        topic=Topic.RISK,
        severity=Severity.INFO,
        news="halt lifted, entries are possible again",
        body=[_words(reason)] if reason else [],
    )


def squareoff_started(session: SessionKey, at_ms: int, *, reason: str, position: str) -> Notice:
    """Everything is being closed."""
    return _notice(
        session,
        at_ms,
        kind="squareoff",
        topic=Topic.RISK,
        severity=Severity.INFO if reason == ExitReason.SQUAREOFF else Severity.WARNING,
        news=f"squaring off: {exit_words(reason)}",
        body=[position or "nothing is held"],
    )


def account_limit_hit(session: SessionKey, at_ms: int, *, net_paise: int, limit_paise: int) -> Notice:
    """All sessions of the account together lost too much; this one enters nothing more."""
    return _notice(
        session,
        at_ms,
        kind="account_limit",
        topic=Topic.RISK,
        severity=Severity.CRITICAL,
        news=f"halted: the account is at {render_rupees(net_paise, signed=True)} of {render_rupees(-limit_paise)}",
        body=["all its sessions of today together, net of charges", "no entries any more; exits go on"],
    )


def failed(session: SessionKey | None, at_ms: int, *, what: str, error: str, next_step: str) -> Notice:
    """A job broke. `next_step` tells the reader what to do."""
    return _notice(
        session,
        at_ms,
        kind="failure",
        topic=Topic.OPERATIONS,
        severity=Severity.CRITICAL,
        news=f"{what} failed",
        body=[error, f"next: {next_step}"],
    )


def reconciliation_differs(session: SessionKey, at_ms: int, *, differences: Sequence[str]) -> Notice:
    """Broker and ledger do not agree."""
    count = len(differences)
    return _notice(
        session,
        at_ms,
        kind="reconciliation",
        topic=Topic.RISK,
        severity=Severity.CRITICAL,
        news=f"broker and ledger differ in {count} {'point' if count == 1 else 'points'}",
        body=[*differences[:10], *([f"and {count - 10} more"] if count > 10 else [])],
    )


def replay_differs(session: SessionKey, at_ms: int, *, verdict: str) -> Notice:
    """The recorded ticks, told to the rules again, give other decisions."""
    return _notice(
        session,
        at_ms,
        kind="replay",
        topic=Topic.RISK,
        severity=Severity.CRITICAL,
        news="the day does not replay: the rules say something else to the same ticks",
        body=[verdict, "you: trade nothing on this code until the difference is explained"],
    )


def alerted(session: SessionKey, alert: Alert) -> Notice:
    """An alert of the rules, the orders or the feeds: its words for the screen, then its own details."""
    text = alert_text(alert.kind)
    fits = len(alert.message) <= TITLE_DETAIL_MAX
    return _notice(
        session,
        alert.at_ms,
        kind=alert.kind,
        topic=text.topic,
        severity=alert.severity,
        news=f"{text.happened}: {alert.message}" if fits else text.happened,
        body=[alert.message, f"the bot: {text.bot}", f"you: {text.you}"],
        key=f"{_place(session)}{alert.message}",
    )


def day_reported(
    session: SessionKey,
    at_ms: int,
    *,
    net_paise: int,
    lines: Sequence[str],
    chart_png: bytes | None,
    page: bytes | None = None,
) -> Notice:
    """The evening's result with the chart of the day, which mail shows inline, and the report as a page to open."""
    news = f"{_mark(net_paise)} {render_rupees(net_paise, signed=True)} net · report of {session.day:%d %b}"
    name = f"report-{session.day}-{session.underlying}-{session.mode}".lower()
    return _report(session, at_ms, kind="day_report", news=news, lines=lines, chart_png=chart_png, page=page, name=name)


def period_reported(
    at_ms: int,
    *,
    period: str,
    net_paise: int,
    lines: Sequence[str],
    chart_png: bytes | None,
    page: bytes | None = None,
) -> Notice:
    """The result of several days, likewise. `period` says which, and under which filters."""
    news = f"{_mark(net_paise)} {render_rupees(net_paise, signed=True)} net · {period}"
    name = f"report-{re.sub(r'[^0-9A-Za-z-]+', '-', period)}".lower()
    return _report(None, at_ms, kind="period_report", news=news, lines=lines, chart_png=chart_png, page=page, name=name)


def _report(
    session: SessionKey | None,
    at_ms: int,
    *,
    kind: str,
    news: str,
    lines: Sequence[str],
    chart_png: bytes | None,
    page: bytes | None,
    name: str,
) -> Notice:
    picture = (Attachment(name="day.png", media_type="image/png", content=chart_png),) if chart_png is not None else ()
    shown = '<p><img src="cid:day.png" alt="chart" style="max-width:100%"></p>' if picture else ""
    pages = (Attachment(name=f"{name}.html", media_type="text/html", content=page),) if page is not None else ()
    text = "\n".join(lines)
    return _notice(
        session,
        at_ms,
        kind=kind,
        topic=Topic.REPORTS,
        severity=Severity.INFO,
        news=news,
        body=lines,
        html=f'<div style="font:15px/1.5 sans-serif">{plain_to_html(text)}{shown}</div>',
        attachments=(*picture, *pages),
        key=session.session_id if session is not None else news,
    )


def told_by_a_job(at_ms: int, *, kind: str, severity: Severity, news: str, body: str) -> Notice:
    """What is said outside a session: a run that crashed or is late, a guardian that had to act."""
    return _notice(None, at_ms, kind=kind, topic=Topic.OPERATIONS, severity=severity, news=news, body=[body])


def hello(at_ms: int) -> Notice:
    """The notice that proves that notices arrive."""
    return _notice(
        None,
        at_ms,
        kind="hello",
        topic=Topic.OPERATIONS,
        severity=Severity.INFO,
        news="notifications work",
        body=["This is a test; nothing was traded."],
    )


def _notice(
    session: SessionKey | None,
    at_ms: int,
    *,
    kind: str,
    topic: Topic,
    severity: Severity,
    news: str,
    body: Sequence[str],
    html: str | None = None,
    attachments: tuple[Attachment, ...] = (),
    key: str = "",
) -> Notice:
    return Notice(
        at_ms=at_ms,
        kind=kind,
        topic=topic,
        severity=severity,
        title=f"{MARKS[severity]}{_place(session)}{news}",
        body="\n".join([*(line for line in body if line), f"{ist(at_ms):%H:%M:%S}"]),
        html=html,
        attachments=attachments,
        key=key or f"{_place(session)}{news}",
    )


def _place(session: SessionKey | None) -> str:
    if session is None:
        return ""
    mode = session.mode.upper() if session.mode == "live" else session.mode
    return f"{mode} {session.underlying} · "


def _mark(paise: int) -> str:
    return GAIN if paise > 0 else LOSS if paise < 0 else EVEN


def _words(name: str) -> str:
    return str(name).replace("_", " ")
