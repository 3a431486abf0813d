"""What must be true of a ledger, and where it is not.

The constraints, triggers and transactions of the database hold most of this already; the check trusts none of them. A
violation means a bug, a hand in the database, or a disk that lies: stop trading on this ledger until it is explained.

Every rule is named, so that an alert, a runbook and a test speak of the same thing. `RULES` lists them all.
"""

# ruff: noqa: S608  SQL is put together from names in this package alone; every value is a parameter

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta

from tasks.clock import real_now_ms
from tasks.ledger.rows import EPOCH, IST, MS
from tasks.ledger.store import Ledger

# How long a running session may take to answer an operator.
ANSWER_LIMIT_S = 300.0
# The broker states times in whole seconds, and its clock is not ours.
CLOCK_TOLERANCE_MS = 2_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Violation:
    """One thing that cannot be: the rule's name, the row it is about, and what was found instead."""

    rule: str
    subject: str
    found: str

    def __str__(self) -> str:
        """One line for a log or an alert."""
        return f"{self.rule}: {self.subject}: expected {RULES[self.rule]}, found {self.found}"


Findings = Iterator[tuple[str, str]]  # (subject, what was found)


def check(
    ledger: Ledger, *, now_ms: int | None = None, answer_limit_s: float = ANSWER_LIMIT_S
) -> tuple[Violation, ...]:
    """Every violation in the ledger, by rule. `now_ms`: real time, unless given. LedgerUnavailable."""
    moment_ms = real_now_ms() if now_ms is None else now_ms
    found = {rule: _asked(ledger, sql) for rule, sql in _QUERIES.items()}
    found |= {rule: follow(ledger) for rule, follow in _WALKS.items()}
    found["position_held_overnight"] = _held_overnight(ledger, moment_ms)
    found["command_unanswered"] = _unanswered(ledger, moment_ms - round(answer_limit_s * 1000))
    return tuple(Violation(rule=rule, subject=subject, found=what) for rule in RULES for subject, what in found[rule])


RULES = {
    "row_without_parent": "every row to belong to a recorded one",
    "intent_without_orders": "the orders of an intent to add up to its quantity",
    "order_overfilled": "an order to fill no more than its quantity",
    "fill_gap": "a fill to begin where the one before it ended",
    "fill_overlap": "no unit of an order to be filled twice",
    "impossible_money": "prices and values above zero, charges not below, quantities above zero",
    "broker_order_shared": "a broker's order id to belong to one order of ours",
    "order_sent_twice": "an order of ours to be one order at the broker",
    "fence_never_held": "every fence to have been taken with the lease",
    "fence_fell": "no intent with an older fence than the intent before it",
    "charge_without_fill": "charges for executed orders only",
    "trade_in_two_contracts": "one contract per trade",
    "event_after_the_end": "an order that ended to stay as it ended",
    "sold_more_than_held": "no more sold of a trade than was bought before",
    "two_positions": "one position at a time",
    "time_out_of_order": "causes before their effects",
    "position_held_overnight": "nothing held after the day of its session",
    "command_unanswered": "every command answered in time",
}

_PARENTS = (
    ("session_start", "session_id", "session"),
    ("intent", "session_id", "session"),
    ("client_order", "session_id, intent", "intent"),
    ("order_event", "client_order_id", "client_order"),
    ("fill", "client_order_id", "client_order"),
    ("charge", "client_order_id", "client_order"),
    ("day_columns", "session_id", "session"),
    ("decision", "session_id", "session"),
    ("candle", "session_id", "session"),
    ("heard", "session_id", "session"),
    ("tick_batch", "session_id", "session"),
    ("tick", "batch", "tick_batch"),
    ("tick", "security = number", "security"),
    ("command", "session_id", "session"),
    ("command_answer", "command_id", "command"),
    ("reconciliation", "session_id", "session"),
    ("difference", "reconciliation = number", "reconciliation"),
)


def _orphans(child: str, key: str, parent: str) -> str:
    pairs = [part.strip().split(" = ") for part in key.split(",")]
    joined = " AND ".join(f"p.{pair[-1]} = c.{pair[0]}" for pair in pairs)
    subject = " || '/' || ".join(f"CAST(c.{pair[0]} AS VARCHAR(200))" for pair in pairs)
    return (
        f"SELECT DISTINCT '{child} ' || {subject}, 'no such {parent}' FROM {child} c"
        f" WHERE NOT EXISTS (SELECT 1 FROM {parent} p WHERE {joined})"
    )


_INTENT = "i.session_id || ' intent ' || i.intent"
_ORDER_INTENT = "JOIN intent i ON i.session_id = o.session_id AND i.intent = o.intent"
_STEPS = (
    "SELECT client_order_id, cumulative_quantity, cumulative_quantity - quantity AS begins,"
    " COALESCE(LAG(cumulative_quantity) OVER"
    " (PARTITION BY client_order_id ORDER BY cumulative_quantity), 0) AS ended FROM fill"
)
_LEASE_OF = (
    "SELECT 1 FROM lease_taking t WHERE t.account = s.account AND t.underlying = s.underlying"
    " AND t.mode = s.mode AND t.fence ="
)

_QUERIES = {
    "row_without_parent": " UNION ALL ".join(_orphans(*parents) for parents in _PARENTS),
    "intent_without_orders": f"""
        SELECT {_INTENT}, 'an intent of ' || i.quantity || ' and orders of ' || COALESCE(SUM(o.quantity), 0)
        FROM intent i
        LEFT JOIN client_order o ON o.session_id = i.session_id AND o.intent = i.intent
        GROUP BY i.session_id, i.intent, i.quantity HAVING COALESCE(SUM(o.quantity), 0) <> i.quantity
        ORDER BY i.session_id, i.intent""",
    "order_overfilled": """
        SELECT 'order ' || o.client_order_id, 'an order of ' || o.quantity || ' and fills of ' || SUM(f.quantity)
        FROM client_order o JOIN fill f ON f.client_order_id = o.client_order_id
        GROUP BY o.client_order_id, o.quantity HAVING SUM(f.quantity) > o.quantity
        ORDER BY o.client_order_id""",
    "fill_gap": f"""
        SELECT 'order ' || client_order_id, 'a fill that begins at ' || begins || ' after ' || ended
        FROM ({_STEPS}) steps WHERE begins > ended ORDER BY client_order_id, begins""",
    "fill_overlap": f"""
        SELECT 'order ' || client_order_id, 'a fill that begins at ' || begins || ' after ' || ended
        FROM ({_STEPS}) steps WHERE begins < ended ORDER BY client_order_id, begins""",
    "impossible_money": """
        SELECT 'fill of ' || client_order_id, quantity || ' units for ' || value_paise || ' paise'
        FROM fill WHERE quantity <= 0 OR value_paise <= 0
        UNION ALL
        SELECT 'order ' || client_order_id, quantity || ' units at ' || limit_paise || ' paise'
        FROM client_order WHERE quantity <= 0 OR limit_paise <= 0
        UNION ALL
        SELECT 'charge of ' || client_order_id, 'an amount below zero in revision ' || revision FROM charge
        WHERE brokerage_paise < 0 OR stt_paise < 0 OR exchange_paise < 0 OR sebi_paise < 0
            OR stamp_paise < 0 OR gst_paise < 0
        UNION ALL
        SELECT 'tick of batch ' || batch || ' number ' || number, price_paise || ' paise'
        FROM tick WHERE price_paise <= 0
        UNION ALL
        SELECT 'candle of ' || session_id, 'a low of ' || low_paise || ' and a high of ' || high_paise || ' paise'
        FROM candle WHERE low_paise <= 0 OR high_paise < low_paise""",
    "broker_order_shared": """
        SELECT 'broker order ' || broker_order_id, MIN(client_order_id) || ' and ' || MAX(client_order_id)
        FROM order_event WHERE broker_order_id <> ''
        GROUP BY broker_order_id HAVING COUNT(DISTINCT client_order_id) > 1 ORDER BY broker_order_id""",
    "order_sent_twice": """
        SELECT 'order ' || client_order_id, MIN(broker_order_id) || ' and ' || MAX(broker_order_id)
        FROM order_event WHERE broker_order_id <> ''
        GROUP BY client_order_id HAVING COUNT(DISTINCT broker_order_id) > 1 ORDER BY client_order_id""",
    "fence_never_held": f"""
        SELECT {_INTENT}, 'fence ' || i.fence || ', which nobody took'
        FROM intent i JOIN session s ON s.session_id = i.session_id
        WHERE NOT EXISTS ({_LEASE_OF} i.fence)
        UNION ALL
        SELECT i.session_id || ' start', 'fence ' || i.fence || ', which nobody took'
        FROM session_start i JOIN session s ON s.session_id = i.session_id
        WHERE NOT EXISTS ({_LEASE_OF} i.fence)""",
    "fence_fell": f"""
        SELECT {_INTENT}, 'fence ' || i.fence || ' after ' || i.before FROM (
            SELECT session_id, intent, fence,
                LAG(fence) OVER (PARTITION BY session_id ORDER BY intent) AS before
            FROM intent
        ) i WHERE i.fence < i.before ORDER BY i.session_id, i.intent""",
    "charge_without_fill": """
        SELECT DISTINCT 'order ' || c.client_order_id, 'charges and no fill' FROM charge c
        WHERE NOT EXISTS (SELECT 1 FROM fill f WHERE f.client_order_id = c.client_order_id)""",
    "trade_in_two_contracts": """
        SELECT session_id || ' trade ' || trade, MIN(security) || ' and ' || MAX(security) FROM intent
        GROUP BY session_id, trade HAVING COUNT(DISTINCT security) > 1 ORDER BY session_id, trade""",
    # Late news of an order that ended (an older status, the same end again) is no news.
    "event_after_the_end": """
        SELECT DISTINCT 'order ' || later.client_order_id,
            later.kind || ' ' || later.status || ' after it was ' || final.status
        FROM order_event final JOIN order_event later
            ON later.client_order_id = final.client_order_id AND later.number > final.number
        WHERE final.status IN ('TRADED', 'REJECTED', 'CANCELLED', 'EXPIRED')
            AND (later.kind IN ('SENT', 'MODIFY_SENT', 'CANCEL_SENT')
                OR (later.status IN ('TRADED', 'REJECTED', 'CANCELLED', 'EXPIRED')
                    AND later.status <> final.status))""",
}


def _asked(ledger: Ledger, sql: str) -> Findings:
    for subject, what in ledger.rows(sql):
        yield str(subject), str(what)


def _sold_more_than_held(ledger: Ledger) -> Findings:
    for session_id in ledger.session_ids():
        trade_of = {intent.intent: (intent.trade, intent.reason) for intent in ledger.intents(session_id)}
        held: dict[int, int] = {}
        for client_order_id, intent, side, fill in ledger.fills(session_id):
            trade, reason = trade_of[intent]
            if side == "BUY":
                held[trade] = held.get(trade, 0) + fill.quantity
                continue
            # What an unknown position was bought for is not in this ledger, by its nature.
            if reason == "unknown_position" and trade not in held:
                continue
            held[trade] = held.get(trade, 0) - fill.quantity
            if held[trade] < 0:
                yield (
                    f"{session_id} trade {trade}",
                    f"{client_order_id} that leaves {held[trade]} after selling {fill.quantity}",
                )


def _two_positions(ledger: Ledger) -> Findings:
    for session_id in ledger.session_ids():
        trade_of = {intent.intent: intent.trade for intent in ledger.intents(session_id)}
        held: dict[int, int] = {}
        for client_order_id, intent, side, fill in ledger.fills(session_id):
            trade = trade_of[intent]
            held[trade] = held.get(trade, 0) + (fill.quantity if side == "BUY" else -fill.quantity)
            others = [number for number, units in held.items() if units > 0 and number != trade]
            if side == "BUY" and others:
                yield f"{session_id} trade {trade}", f"{client_order_id} bought while trade {others[0]} was open"


_MOMENTS = {
    "a fill before its intent was decided": f"""
        SELECT 'fill of ' || f.client_order_id, i.decided_at, f.at FROM fill f
        JOIN client_order o ON o.client_order_id = f.client_order_id {_ORDER_INTENT}""",
    "an event before its intent was decided": f"""
        SELECT 'event of ' || e.client_order_id, i.decided_at, e.at FROM order_event e
        JOIN client_order o ON o.client_order_id = e.client_order_id {_ORDER_INTENT}""",
    # Asked in real time and answered in the market's: in a rehearsal of another day they cannot be compared.
    "an answer before the request": """
        SELECT 'command ' || c.command_id, c.requested_at, a.answered_at FROM command c
        JOIN command_answer a ON a.command_id = c.command_id
        JOIN session s ON s.session_id = c.session_id
        WHERE SUBSTR(CAST(c.requested_at AS VARCHAR(40)), 1, 10) = CAST(s.day AS VARCHAR(10))""",
    "a fill before the one it follows": """
        SELECT 'fill of ' || client_order_id,
            LAG(at) OVER (PARTITION BY client_order_id ORDER BY cumulative_quantity), at FROM fill""",
    "an intent before the one it follows": f"""
        SELECT {_INTENT}, LAG(i.decided_at) OVER (PARTITION BY i.session_id ORDER BY i.intent), i.decided_at
        FROM intent i""",
}


def _time_out_of_order(ledger: Ledger) -> Findings:
    at_ms = ledger.wire.at_ms
    for what, sql in _MOMENTS.items():
        for subject, cause, effect in ledger.rows(sql):
            if cause is not None and at_ms(effect) < at_ms(cause) - CLOCK_TOLERANCE_MS:
                yield str(subject), f"{what} ({effect} after {cause})"


def _held_overnight(ledger: Ledger, now_ms: int) -> Findings:
    today = (EPOCH.astimezone(IST) + now_ms * MS).date()
    for session_id, trade, day, units in ledger.rows(
        "SELECT session_id, trade, day, open_quantity FROM trade WHERE open_quantity > 0 ORDER BY session_id, trade"
    ):
        if ledger.wire.date(day) <= today - timedelta(days=1):
            yield f"{session_id} trade {trade}", f"{units} units that were never sold"


def _unanswered(ledger: Ledger, before_ms: int) -> Findings:
    for session_id in ledger.session_ids():
        for command in ledger.open_commands(session_id):
            if command.requested_at_ms < before_ms:
                yield f"command {command.command_id}", f"no answer to {command.kind!r} of {command.requested_by}"


_WALKS: dict[str, Callable[[Ledger], Findings]] = {
    "sold_more_than_held": _sold_more_than_held,
    "two_positions": _two_positions,
    "time_out_of_order": _time_out_of_order,
}
