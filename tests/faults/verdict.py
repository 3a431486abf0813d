"""Is the day whole? The simulator's book is the truth; the ledger and the session's own counts must equal it."""

from collections import Counter, defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tasks.ledger.check import check
from tasks.ledger.store import Ledger

COLUMNS = ("lost", "duplicated", "orphaned", "unflat", "miscounted", "unsound")


@dataclass(slots=True)
class Verdict:
    """What is wrong, by kind; each entry is a sentence. An empty one is green."""

    home: Path
    died: int = 0  # kills
    fell: int = 0  # starts that ended with an error
    orders: int = 0
    trades: int = 0
    passages: dict[str, int] = field(default_factory=dict)
    wrong: dict[str, list[str]] = field(default_factory=lambda: {column: [] for column in COLUMNS})

    @property
    def is_green(self) -> bool:
        """True when nothing is wrong."""
        return not any(self.wrong.values())

    @property
    def counts(self) -> dict[str, int]:
        """How many of each kind."""
        return {column: len(found) for column, found in self.wrong.items()}

    def __str__(self) -> str:
        told = [f"{column}: {text}" for column, found in self.wrong.items() for text in found]
        return f"{self.orders} orders, {self.died} kills, {self.fell} falls; see {self.home}\n" + "\n".join(told)


def judge(
    ledger: Ledger,
    session_id: str,
    truth: dict[str, Any],
    counted: dict[str, Any],
    *,
    died: int,
    fell: int,
    home: Path,
) -> Verdict:
    """Compare the broker's book with the ledger and with what the session counted."""
    verdict = Verdict(home=home, died=died, fell=fell, orders=len(truth["orders"]))
    wrong = verdict.wrong
    intents = ledger.intents(session_id)
    intent_of = {order.client_order_id: intent for intent in intents for order in intent.orders}
    quantity_of = {order.client_order_id: order.quantity for intent in intents for order in intent.orders}

    adopted = {order.client_order_id for intent in intents if intent.reason == "adopted" for order in intent.orders}

    # What somebody bought by hand has an id of another kind.
    prefix = ledger.key_of(session_id).order_prefix(ledger.open_session(ledger.key_of(session_id), salt=""))
    by_hand = {o["client_order_id"] for o in truth["orders"] if not o["client_order_id"].startswith(f"{prefix}-")}

    # Each order at the broker is one order of ours, as it was intended.
    for order_id, times in Counter(order["client_order_id"] for order in truth["orders"]).items():
        if order_id in by_hand:
            continue
        if order_id not in intent_of:
            wrong["orphaned"].append(f"{order_id} is at the broker without an intent")
        if times > 1:
            wrong["duplicated"].append(f"{order_id} was placed {times} times")
    for order in truth["orders"]:
        if order["quantity"] != quantity_of.get(order["client_order_id"], order["quantity"]):
            wrong["orphaned"].append(f"{order['client_order_id']} has another quantity than its intent")

    # Each unit and each paisa that the broker filled is in the ledger, and nothing else.
    theirs: dict[str, list[int]] = defaultdict(lambda: [0, 0])
    for fill in truth["fills"]:
        if fill["client_order_id"] in by_hand:
            continue
        theirs[fill["client_order_id"]][0] += fill["quantity"]
        theirs[fill["client_order_id"]][1] += fill["quantity"] * fill["price_paise"]
    ours: dict[str, list[int]] = defaultdict(lambda: [0, 0])
    for order_id, _, _, fill in ledger.fills(session_id):
        ours[order_id][0] += fill.quantity
        ours[order_id][1] += fill.value_paise
    for order_id in sorted({*theirs, *ours} - adopted):
        if theirs[order_id] != ours[order_id]:
            wrong["lost"].append(f"{order_id}: broker filled {theirs[order_id]}, ledger has {ours[order_id]}")

    _walk_the_fills(truth, wrong)
    for position in truth["positions"]:
        if position["net_quantity"]:
            wrong["unflat"].append(f"{position['net_quantity']} x {position['name']} at the end")
    for order in truth["orders"]:
        if order["status"] in ("PENDING", "TRANSIT", "PART_TRADED"):
            wrong["unflat"].append(f"{order['client_order_id']} is still {order['status']}")
    _recount(truth, intent_of, counted, verdict)
    _limits_held(ledger, session_id, truth, intent_of, wrong)
    wrong["unsound"] += [str(violation) for violation in check(ledger)]
    compared = ledger.reconciliations(session_id)
    if not compared:
        wrong["unsound"].append("the evening compared nothing")
    for difference in compared[-1].differences if compared else ():
        if difference.kind != "foreign" or not by_hand:
            wrong["unsound"].append(f"the evening's comparison says {difference}")
    return verdict


def _walk_the_fills(truth: dict[str, Any], wrong: dict[str, list[str]]) -> None:
    """Fill by fill: never short, never two positions."""
    held: Counter[str] = Counter()
    for fill in truth["fills"]:
        held[fill["security"]] += fill["quantity"] if fill["side"] == "BUY" else -fill["quantity"]
        if held[fill["security"]] < 0:
            wrong["duplicated"].append(f"{fill['client_order_id']} sold more than was held")
        if sum(units > 0 for units in held.values()) > 1:
            wrong["duplicated"].append(f"{fill['client_order_id']} opened a second position")


def _recount(truth: dict[str, Any], intent_of: dict[str, Any], counted: dict[str, Any], verdict: Verdict) -> None:
    """Trades, results in their order, and the day's result, anew from the broker's fills."""
    money: dict[int, int] = defaultdict(int)
    closed_at: dict[int, int] = {}
    entered: set[int] = set()
    for place, fill in enumerate(truth["fills"]):
        intent = intent_of.get(fill["client_order_id"])
        if intent is None:
            return  # bought by hand, or told as orphaned
        value_paise = fill["quantity"] * fill["price_paise"]
        money[intent.trade] += value_paise if fill["side"] == "SELL" else -value_paise
        closed_at[intent.trade] = place
        if fill["side"] == "BUY":
            entered.add(intent.trade)
    verdict.trades = len(entered)
    results = [money[trade] for trade in sorted(money, key=closed_at.__getitem__)]
    for name, derived in (
        ("entries", len(entered)),
        ("gross_paise", sum(results)),
        ("results_paise", results),
        ("held", 0),
    ):
        if counted[name] != derived:
            verdict.wrong["miscounted"].append(f"{name}: the session says {counted[name]}, the book {derived}")


def _limits_held(
    ledger: Ledger, session_id: str, truth: dict[str, Any], intent_of: dict[str, Any], wrong: dict[str, list[str]]
) -> None:
    """Nothing is bought once the day has had enough: its trades, its loss, its losses in a row."""
    starts = ledger.starts(session_id)
    params = starts[-1].params
    bought = sorted({intent_of[o["client_order_id"]].trade for o in truth["orders"] if _is_bought(o, intent_of)})
    if len(bought) > params["max_trades_per_day"]:
        wrong["miscounted"].append(f"{len(bought)} trades, allowed are {params['max_trades_per_day']}")
    loss_exits = [intent.decided_at_ms for intent in ledger.intents(session_id) if intent.reason == "daily_max_loss"]
    halts = [said.at_ms for said in ledger.decisions(session_id, "halted") if said.reason != "operator"]
    results: dict[int, int] = defaultdict(int)
    closed_ms: dict[int, int] = {}
    for fill in truth["fills"]:
        if fill["client_order_id"] in intent_of:
            value_paise = fill["quantity"] * fill["price_paise"]
            trade = intent_of[fill["client_order_id"]].trade
            results[trade] += value_paise if fill["side"] == "SELL" else -value_paise
            closed_ms[trade] = fill["at_ms"]
    for order in truth["orders"]:
        if order["side"] != "BUY" or order["client_order_id"] not in intent_of:
            continue
        name, at_ms = order["client_order_id"], order["created_ms"]
        if any(at_ms > ended_ms + 1_000 for ended_ms in (*loss_exits, *halts)):
            wrong["miscounted"].append(f"{name} was bought after trading had ended for the day")
        before = [results[trade] for trade in results if closed_ms[trade] < at_ms]
        limit_paise = round(params["daily_max_loss"] * 100)
        if limit_paise and sum(before) <= -limit_paise:
            wrong["miscounted"].append(f"{name} was bought at a day's loss of {sum(before)} paise")
        in_a_row = params["pause_after_losses"]
        last = sorted((t for t in results if closed_ms[t] < at_ms - 2_000), key=closed_ms.__getitem__)[-in_a_row:]
        if in_a_row and len(last) == in_a_row and all(results[trade] < 0 for trade in last):
            paused_until_ms = closed_ms[last[-1]] + params["pause_minutes"] * 60_000
            if at_ms < paused_until_ms - 2_000:
                wrong["miscounted"].append(f"{name} was bought within the pause after {in_a_row} losses")


def _is_bought(order: dict[str, Any], intent_of: dict[str, Any]) -> bool:
    return order["side"] == "BUY" and order["filled_quantity"] > 0 and order["client_order_id"] in intent_of
