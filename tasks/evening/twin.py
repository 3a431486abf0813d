"""The paper twin: the decisions of a session, filled by the paper broker's rule from the quotes that the session saw.

Beside what really happened it says what execution cost: slippage, delays, re-pricing and part fills against a broker
that fills whole at the first ask (or bid) after the decision, a tick worse. It is computed after the close from the
recorded ticks, so it costs the trading loop nothing, and it sees the very quotes that the session saw.

Invariants:
1. It decides nothing: each intent of the session has one twin, of as many units as the intent really filled.
2. A twin is a decision row of kind "twin", never an order, a fill or a position.
3. An intent without a quote after its decision has no twin, and its trade none; the sum says how many are missing.
4. Whether a session has one is its own setting, `paper_twin`, which the ledger keeps with each start; no rule reads it.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from strategy.events import Side, Tick
from strategy.params import Mode
from tasks.ledger.records import DecisionRecord, IntentRecord
from tasks.ledger.store import Ledger
from tasks.pages.money import render_rupees

KIND = "twin"
SLIPPAGE_PAISE = 5  # as the paper broker's (`tasks.broker.paper.PaperRules`)


@dataclass(frozen=True, slots=True, kw_only=True)
class TwinTrade:
    """A closed trade beside its twin, gross, paise. `cost_paise` is positive where the real fills were worse."""

    trade: int
    real_paise: int
    twin_paise: int

    @property
    def cost_paise(self) -> int:
        """What execution cost."""
        return self.twin_paise - self.real_paise


def has_twin(ledger: Ledger, session_id: str) -> bool:
    """Whether the session asked for a twin; on paper it would be itself."""
    starts = ledger.starts(session_id)
    asked = bool(starts) and bool(starts[-1].params.get("paper_twin", True))
    return asked and ledger.key_of(session_id).mode != Mode.PAPER


def paper_price(side: Side, quote: Tick, tick_size_paise: int) -> int | None:
    """What the paper broker pays or gets on a quote, paise per unit; None where the side that is needed is unknown."""
    if side is Side.BUY:
        return quote.ask_paise + SLIPPAGE_PAISE if quote.ask_paise > 0 else None
    return max(tick_size_paise, quote.bid_paise - SLIPPAGE_PAISE) if quote.bid_paise > 0 else None


def twins_of(ledger: Ledger, session_id: str, ticks: Iterable[Tick] | None = None) -> tuple[DecisionRecord, ...]:
    """The twin of each intent that filled, as rows; `ticks` where they were read already. LedgerUnavailable passes."""
    filled: dict[int, int] = {}
    for _, number, _, fill in ledger.fills(session_id):
        filled[number] = filled.get(number, 0) + fill.quantity
    quotes: dict[str, list[Tick]] = {}
    intents = ledger.intents(session_id)
    traded = {intent.security for intent in intents}
    for tick in ledger.ticks(session_id) if ticks is None else ticks:
        if tick.security in traded:
            quotes.setdefault(tick.security, []).append(tick)
    found = []
    for intent in intents:
        quote = _first_after(quotes.get(intent.security, ()), intent)
        if quote is not None and filled.get(intent.intent):
            found.append(_row(intent, quote, filled[intent.intent]))
    return tuple(found)


def record_twins(ledger: Ledger, session_id: str, ticks: Iterable[Tick] | None = None) -> int:
    """Keep the twins of a session with its decisions; again changes nothing. How many there are."""
    twins = twins_of(ledger, session_id, ticks)
    ledger.record_decisions(twins)
    return len(twins)


def twin_trades(decisions: Iterable[DecisionRecord], gross_paise: Mapping[int, int]) -> list[TwinTrade]:
    """The closed trades that have a whole twin; `gross_paise` are the real results by trade."""
    money: dict[int, int] = {}
    units: dict[int, int] = {}
    for row in decisions:
        if row.kind == KIND:
            trade, sign = int(row.detail["trade"]), 1 if row.detail["side"] == Side.SELL else -1
            money[trade] = money.get(trade, 0) + sign * int(row.detail["value_paise"])
            units[trade] = units.get(trade, 0) + sign * int(row.detail["quantity"])
    return [
        TwinTrade(trade=trade, real_paise=real_paise, twin_paise=money[trade])
        for trade, real_paise in sorted(gross_paise.items())
        if trade in money and units[trade] == 0
    ]


def twin_line(trades: Sequence[TwinTrade], closed: int) -> str:
    """The sum in words."""
    cost_paise = sum(trade.cost_paise for trade in trades)
    each = f" ({render_rupees(round(abs(cost_paise) / len(trades)))} a trade)" if trades else ""
    missing = f"; {closed - len(trades)} trades have no twin" if len(trades) < closed else ""
    amount = f"{render_rupees(abs(cost_paise))}{each}"
    if cost_paise < 0:
        return f"The real fills were {amount} better than the paper broker's{missing}"
    return f"Execution cost {amount} against the paper broker's fills{missing}"


def _first_after(quotes: Sequence[Tick], intent: IntentRecord) -> Tick | None:
    for quote in quotes:
        if quote.at_ms >= intent.decided_at_ms and paper_price(intent.side, quote, intent.tick_size_paise) is not None:
            return quote
    return None


def _row(intent: IntentRecord, quote: Tick, quantity: int) -> DecisionRecord:
    price_paise = paper_price(intent.side, quote, intent.tick_size_paise)
    assert price_paise is not None
    return DecisionRecord(
        session_id=intent.session_id,
        at_ms=quote.at_ms,
        kind=KIND,
        reason=intent.purpose.lower(),
        detail={
            "intent": intent.intent,
            "trade": intent.trade,
            "side": str(intent.side),
            "quantity": quantity,
            "value_paise": quantity * price_paise,
        },
    )
