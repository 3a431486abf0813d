"""What each alert means to a person: what happened, what the bot does meanwhile, what to do. docs/alerts.md shows it.

The alert itself brings the details (which order, which price); this table brings the words that fit a locked screen
and a next step. A test keeps it complete: every kind that the program can say is here, and none that it cannot.
"""

from dataclasses import dataclass

from strategy.actions import Severity
from tasks.notify.notice import Topic

INFO, WARNING, CRITICAL = Severity.INFO, Severity.WARNING, Severity.CRITICAL
RISK, OPERATIONS = Topic.RISK, Topic.OPERATIONS


@dataclass(frozen=True, slots=True)
class AlertText:
    """One kind of alert. `severity` is the loudest it comes in; an alert carries its own."""

    severity: Severity
    topic: Topic
    happened: str
    bot: str
    you: str


ALERTS = {
    # orders
    "order_unknown": AlertText(
        CRITICAL,
        RISK,
        "order in doubt",
        "looks it up until it is known, sends nothing twice and enters nothing meanwhile",
        "nothing yet; after a minute look into the broker's order book",
    ),
    "order_rejected": AlertText(
        CRITICAL,
        RISK,
        "order refused",
        "an entry is dropped; an exit is decided anew with growing pauses",
        "read the broker's reason; if an exit stays refused, sell at the broker's terminal",
    ),
    "order_absent": AlertText(
        WARNING,
        RISK,
        "order never reached the broker",
        "takes it as not sent after 15 s and two readings of the whole book; an exit is decided anew",
        "nothing, unless it repeats: then check the line to the broker",
    ),
    "order_contradicted": AlertText(
        CRITICAL,
        RISK,
        "an order that was said not to exist is alive",
        "counts what it fills, cancels the rest, and sells what is too much",
        "compare orders and positions at the broker's terminal",
    ),
    "order_not_in_book": AlertText(
        CRITICAL,
        RISK,
        "accepted order is not in the order book",
        "goes on looking; nothing is sent again",
        "find the order at the broker's terminal, or ask the broker",
    ),
    "order_short_of_its_fill": AlertText(
        CRITICAL,
        RISK,
        "order ended short of its fill",
        "goes on looking; what is held is what was filled for certain",
        "compare quantity and fills at the broker's terminal",
    ),
    "fill_price_missing": AlertText(
        WARNING,
        RISK,
        "fill without a price",
        "values it at its limit until the evening",
        "compare with the contract note",
    ),
    "intent_repeated": AlertText(
        CRITICAL,
        RISK,
        "a decision came twice",
        "ignores the second one; nothing is sent twice",
        "stop the session after it is flat and report it: this is an error in the program",
    ),
    "intent_impossible": AlertText(
        CRITICAL,
        RISK,
        "an order that cannot be sent",
        "sends nothing of it",
        "trade fewer lots, or check the contract's lot size and freeze quantity",
    ),
    "entry_rejected": AlertText(
        WARNING,
        RISK,
        "entry refused",
        "waits for the next signal",
        "read the reason: funds, limits or the contract",
    ),
    "entry_not_sent": AlertText(
        WARNING,
        RISK,
        "entry not sent",
        "drops it and waits for the next signal",
        "nothing if it is rare; if it repeats, read the reason: line, broker, ledger, or too many requests",
    ),
    "exit_failed": AlertText(
        CRITICAL,
        RISK,
        "exit failed, still holding",
        "sends it again with growing pauses until nothing is held or the market closes",
        "be ready to sell at the broker's terminal",
    ),
    "exit_not_sent": AlertText(
        CRITICAL,
        RISK,
        "exit cannot be sent",
        "tries again every few seconds until it goes out",
        "check line and broker; if it lasts, sell at the broker's terminal",
    ),
    "exit_hard_to_fill": AlertText(
        CRITICAL,
        RISK,
        "exit does not fill",
        "moves its limit further with each re-pricing until it is filled",
        "watch it; nobody may be buying this contract",
    ),
    "exit_without_ledger": AlertText(
        CRITICAL,
        OPERATIONS,
        "exit went out without the ledger",
        "keeps the order in a journal on this machine that the ledger takes in later; no entries meanwhile",
        "bring the ledger's database back; do not delete the journal",
    ),
    # the account at the broker
    "broker_authentication_dead": AlertText(
        CRITICAL,
        RISK,
        "access token is dead",
        "mints another one, or takes the next one that it is given; nothing was sent",
        "put a new token into .env or its Prefect block, it is taken at once; close by hand if something is held",
    ),
    "broker_ip_refused": AlertText(
        CRITICAL,
        RISK,
        "orders refused from this address",
        "tries exits again; reading goes on",
        "allow this machine's address at the broker; close by hand if something is held",
    ),
    "books_differ": AlertText(
        CRITICAL,
        RISK,
        "broker and ledger differ",
        "enters nothing until both agree again; exits go on",
        "compare positions and orders at the broker's terminal; undo what was done there by hand",
    ),
    "exit_withheld": AlertText(
        CRITICAL,
        RISK,
        "exit withheld: the account holds less",
        "does not sell what somebody else has sold; reads the broker again at once and tries again",
        "look at the position at the broker's terminal; what is left there, sell there",
    ),
    "books_agree": AlertText(INFO, RISK, "broker and ledger agree again", "enters again", "nothing"),
    "broker_unreadable": AlertText(
        CRITICAL,
        OPERATIONS,
        "the broker's books cannot be read",
        "takes nothing for granted: no entries until they can be read; exits go out",
        "nothing if it passes soon; otherwise look at the broker's terminal",
    ),
    "broker_backstop": AlertText(
        WARNING,
        RISK,
        "the broker's own loss exit is not as wished",
        "trades on; its own limits, the squareoff and the guardian work as ever",
        "read the reason; set or stop the P&L exit in the broker's app, or use product INTRADAY, which it covers",
    ),
    "handed_over": AlertText(
        CRITICAL,
        RISK,
        "the process ended and left a position",
        "nothing: no process watches its stop until the session is started again",
        "start the session again, or square off; the guardian closes it after the squareoff at the latest",
    ),
    "feed_lost": AlertText(
        CRITICAL,
        OPERATIONS,
        "feed lost",
        "connects again and subscribes to all of it; prices and orders are asked for meanwhile",
        "nothing if it is back soon; at 805 stop the other program that uses the account",
    ),
    "feed_back": AlertText(INFO, OPERATIONS, "feed is back", "goes on as before", "nothing"),
    # the ledger
    "ledger_unavailable": AlertText(
        CRITICAL,
        OPERATIONS,
        "ledger cannot be written",
        "keeps order records in memory and in the journal; no entries, exits go out",
        "look at the database and the disk",
    ),
    "ledger_refused": AlertText(
        CRITICAL,
        OPERATIONS,
        "ledger refused a record",
        "keeps the record in the journal and goes on",
        "run 'bot ledger check' and read the log: this should not happen",
    ),
    "journal_failed": AlertText(
        CRITICAL,
        OPERATIONS,
        "neither ledger nor journal can be written",
        "trades out what is held; the record is in the log alone",
        "free the disk at once; keep the log",
    ),
    "lease_lost": AlertText(
        CRITICAL,
        OPERATIONS,
        "another process trades this index",
        "sends nothing any more and only reads",
        "make sure that one process runs; the other one looks after the position",
    ),
    # the rules
    "halted": AlertText(
        CRITICAL,
        RISK,
        "halted",
        "enters nothing more today; exits go on",
        "read the reason; only a halt that an operator made can be lifted",
    ),
    "daily_loss_near": AlertText(
        WARNING,
        RISK,
        "most of the day's loss limit is used",
        "closes everything and stops at the limit",
        "nothing, or square off now",
    ),
    "unknown_position": AlertText(
        CRITICAL,
        RISK,
        "a position that the ledger does not know",
        "halts, takes it over or sells it, as on_unknown_position says",
        "find out who bought it",
    ),
    "order_unrecorded": AlertText(
        CRITICAL,
        RISK,
        "an exit that the ledger did not have",
        "takes it over from the broker's book and goes on with what it filled",
        "free the disk, then run bot ledger check",
    ),
    "unknown_fill": AlertText(
        CRITICAL,
        RISK,
        "a fill that nobody ordered",
        "halts",
        "compare orders and positions at the broker's terminal",
    ),
    "late_fill": AlertText(
        CRITICAL,
        RISK,
        "an order filled after its end",
        "takes up the position again and closes it when that is due",
        "compare the positions at the broker",
    ),
    "fills_missing": AlertText(
        CRITICAL,
        RISK,
        "a filled order lacks fills",
        "goes by the fills that it knows",
        "compare the positions at the broker",
    ),
    "oversold": AlertText(
        CRITICAL,
        RISK,
        "more was sold than bought",
        "halts; it never buys back by itself",
        "buy back at the broker's terminal what is short",
    ),
    "held_after_close": AlertText(
        CRITICAL,
        RISK,
        "still holding after the close",
        "ends; nothing can be sold today",
        "call the broker; the position is there tomorrow, or expires",
    ),
    "ticks_quarantined": AlertText(
        WARNING,
        OPERATIONS,
        "ticks that cannot be prices",
        "counts them and uses none",
        "nothing, unless the number grows all the time",
    ),
    "index_level_changed": AlertText(
        CRITICAL,
        OPERATIONS,
        "the index is at another level",
        "believes ten ticks in a row that agree; its indicators begin anew, exits go on",
        "compare the index with a chart; halt if the new level is the wrong one",
    ),
    "index_ticks_stale": AlertText(
        WARNING,
        OPERATIONS,
        "no index ticks",
        "enters nothing until they are back; exits go on",
        "check feed and line if it lasts",
    ),
    "held_contract_silent": AlertText(
        CRITICAL,
        RISK,
        "no price of what is held",
        "asks for quotes again and again; its stop cannot work without one",
        "look at the position at the broker, and sell there if need be",
    ),
}
_UNHEARD_OF = AlertText(CRITICAL, OPERATIONS, "alert", "goes on", "read the log")


def alert_text(kind: str) -> AlertText:
    """The words for `kind`. An alert is told also when nobody wrote words for it."""
    return ALERTS.get(kind, _UNHEARD_OF)


def render_alerts() -> str:
    """The table as docs/alerts.md has it."""
    head = "| alert | at its loudest | what happened | what the bot does | what to do |\n|---|---|---|---|---|"
    rows = [
        f"| `{kind}` | {text.severity} | {text.happened} | {text.bot} | {text.you} |" for kind, text in ALERTS.items()
    ]
    return "\n".join([head, *rows])
