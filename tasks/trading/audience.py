"""Tells people what the session does: a log line per decision, alerts, and what the Prefect UI shows live.

The loop hands over plain values; everything slow happens on this file's own thread.

Invariants:
1. `hear` and `show` never block and never raise.
2. Nothing here can change a decision.
"""

import logging
import queue
import threading
from typing import TypeAlias

from strategy.actions import (
    Action,
    Adopt,
    Alert,
    Answered,
    CancelEntry,
    CandleClosed,
    Enter,
    EntryRefused,
    Exit,
    ExitReason,
    Halted,
    LimitsTightened,
    PollQuote,
    Resumed,
    SessionOver,
    StopMoved,
    Watch,
)
from strategy.events import Fill, IntentClosed, Outcome, Side
from strategy.params import Params
from strategy.plan import DayPlan
from strategy.position import Position, Trade
from strategy.session import SessionState, trades
from tasks.clock import Stopwatch, ist
from tasks.ledger.records import SessionKey
from tasks.notify import Notice, Notifier, texts
from tasks.pages.artifacts import LiveArtifacts, LiveView
from tasks.pages.chart_rows import StopMark
from tasks.pages.live import live_view
from tasks.pages.money import average_paise, render_points, render_rupees
from tasks.pages.wording import describe_entry, describe_exit, exit_words, refusal_words
from tasks.trading.decisions import candle_record

Log: TypeAlias = "logging.Logger | logging.LoggerAdapter[logging.Logger]"
# A fast rehearsal shows its state hundreds of times a second; nobody can look that often.
SHOWN_EVERY_S = 0.5
Said: TypeAlias = Action | Fill | IntentClosed


class Audience:
    """One session's log and alerts; `start()`, and `close()` once the session is over.

    Whether a trade was opened or closed is read from the states, not from the order in which things are said.
    """

    def __init__(
        self,
        *,
        key: SessionKey,
        plan: DayPlan,
        params: Params,
        notifier: Notifier,
        log: Log,
        live: LiveArtifacts,
        tell_stops: bool = False,
    ) -> None:
        self._key = key
        self._plan = plan
        self._params = params
        self._live = live
        self._tell_stops = tell_stops
        self._stops: list[StopMark] = []
        self._notifier = notifier
        self._log = log
        self._queue: queue.SimpleQueue[tuple[Said | None, SessionState] | None] = queue.SimpleQueue()
        self._entered: set[int] = set()
        self._exited: set[int] = set()
        self._refusal = ""
        self._offered = Stopwatch()  # the loop's alone
        self._thread = threading.Thread(target=self._tell_all, name="audience", daemon=True)

    def start(self) -> None:
        """Begin to tell."""
        self._thread.start()

    def hear(self, said: Said, state: SessionState) -> None:
        """A decision or a fill, with the state at that moment."""
        if isinstance(said, CandleClosed):
            self._live.add_candle(candle_record(self._key.session_id, said))
        if not isinstance(said, CandleClosed | Watch | PollQuote):
            self._queue.put((said, state))

    def show(self, state: SessionState, at_ms: int) -> None:
        """The state, every few seconds of market time; as often as somebody can look at it."""
        del at_ms
        if self._offered.seconds > SHOWN_EVERY_S:
            self._offered = Stopwatch()
            self._queue.put((None, state))

    def close(self, timeout_s: float = 10.0) -> None:
        """Tell what is left."""
        self._queue.put(None)
        self._thread.join(timeout_s)

    def _tell_all(self) -> None:
        while (message := self._queue.get()) is not None:
            said, state = message
            if said is not None and not self._is_old_news(said):
                self._log.info("%s  %s", f"{ist(said.at_ms):%H:%M:%S}", render_said(said))
            if isinstance(said, Alert):
                self._notifier.notify(texts.alerted(self._key, said))
            elif isinstance(said, Exit) and said.reason in {
                ExitReason.SQUAREOFF,
                ExitReason.MANUAL,
                ExitReason.HALT,
            }:
                held = f"{said.quantity} x {said.contract.name}"
                self._notifier.notify(texts.squareoff_started(self._key, said.at_ms, reason=said.reason, position=held))
            if isinstance(said, StopMoved):
                self._stops.append(StopMark(trade=said.trade, at_ms=said.at_ms, stop_paise=said.stop_paise))
                self._tell_stop(said, state)
            self._tell_trades(state)
            if said is None or isinstance(said, Fill | SessionOver):
                self._live.show(self._live_view(state))

    def _live_view(self, state: SessionState) -> LiveView:
        return live_view(
            state,
            self._plan,
            self._params,
            trades=trades(state, self._plan),
            no_entry=self._refusal or None,
            stops=self._stops,
        )

    def _is_old_news(self, said: Said) -> bool:
        """A refusal for the same reason as the last one; the ledger keeps each, the log needs only the first."""
        if not isinstance(said, EntryRefused):
            if isinstance(said, Enter | Exit):
                self._refusal = ""
            return False
        repeated = said.reason == self._refusal
        self._refusal = said.reason
        return repeated

    def _tell_stop(self, moved: StopMoved, state: SessionState) -> None:
        names = [position.contract.name for position in state.book.positions if position.trade == moved.trade]
        if self._tell_stops and names:
            self._notifier.notify(
                texts.stop_moved(
                    self._key, moved.at_ms, trade=moved.trade, contract_name=names[0], stop_paise=moved.stop_paise
                )
            )

    def _tell_trades(self, state: SessionState) -> None:
        for position in (*state.book.settled, *state.book.positions):
            entry = position.entry
            if position.trade not in self._entered and entry.filled and entry.outcome is not None:
                self._entered.add(position.trade)
                self._notifier.notify(self._entered_notice(position))
        if len(state.book.settled) > len(self._exited):
            done = trades(state, self._plan)
            for number, trade in enumerate(done, start=1):
                if trade.trade not in self._exited:
                    self._log.info(
                        "%s  trade %d closed: %s",
                        f"{ist(trade.exit_at_ms):%H:%M:%S}",
                        trade.trade,
                        _result(trade),
                    )
                    self._notifier.notify(self._exited_notice(trade, done[:number]))
            self._exited |= {position.trade for position in state.book.settled}

    def _entered_notice(self, position: Position) -> Notice:
        return texts.entered(
            self._key,
            position.entry.last_fill_ms,
            trade=position.trade,
            contract_name=position.contract.name,
            quantity=position.entry.filled,
            price_paise=position.entry_paise,
            stop_paise=position.stop_paise or None,
            why=describe_entry(position.entry.why.facts),
        )

    def _exited_notice(self, trade: Trade, so_far: tuple[Trade, ...]) -> Notice:
        return texts.exited(
            self._key,
            trade.exit_at_ms,
            trade=trade.trade,
            contract_name=trade.contract.name,
            quantity=trade.quantity,
            entry_paise=average_paise(trade.buy_value_paise, trade.quantity),
            exit_paise=average_paise(trade.sell_value_paise, trade.quantity),
            reason=trade.exit_reason,
            net_paise=trade.net_paise,
            day_net_paise=sum(done.net_paise for done in so_far),
            trades_today=len(so_far),
            held_ms=trade.exit_at_ms - trade.entry_at_ms,
        )


def _result(trade: Trade) -> str:
    gross, net = (render_rupees(paise, signed=True) for paise in (trade.gross_paise, trade.net_paise))
    charges = render_rupees(trade.charges_paise)
    return f"{trade.contract.name} {exit_words(trade.exit_reason)}, gross {gross}, charges {charges}, net {net}"


def render_said(said: Said) -> str:
    """One line for the log. Prices in rupees."""
    match said:
        case Enter():
            return (
                f"buy {said.quantity} {said.contract.name} at about {render_points(said.reference_paise)}: "
                f"{describe_entry(said.why.facts)}"
            )
        case Adopt():
            return f"take over {said.quantity} {said.contract.name}, bought for {render_rupees(said.value_paise)}"
        case Exit():
            return (
                f"sell {said.quantity} {said.contract.name} at about {render_points(said.reference_paise)}: "
                f"{describe_exit(said.reason, said.why.facts)}"
            )
        case Fill():
            verb = "bought" if said.side is Side.BUY else "sold"
            return f"{verb} {said.quantity} for {render_rupees(said.value_paise)} (intent {said.intent})"
        case IntentClosed():
            ended = "filled" if said.outcome is Outcome.FILLED else said.outcome.lower().replace("_", " ")
            return f"intent {said.intent} {ended} {said.message}".rstrip()
        case CancelEntry():
            return f"cancel what is open of intent {said.intent}"
        case StopMoved():
            return f"stop of trade {said.trade} up to {render_points(said.stop_paise)}"
        case EntryRefused():
            return f"no entry: {refusal_words(said.reason)}"
        case Halted():
            return f"halted: {said.reason.replace('_', ' ')}"
        case Resumed():
            return "halt lifted"
        case LimitsTightened():
            return (
                f"limits lowered: daily loss {render_rupees(said.daily_max_loss_paise)}, "
                f"{said.max_trades_per_day} trades"
            )
        case Alert():
            return f"{said.severity}: {said.message}"
        case Answered():
            return f"answer to command {said.command_id}: {said.answer}"
        case SessionOver():
            return f"session over: {said.reason}"
        case Watch():
            return "watch " + ", ".join(contract.name for contract in said.contracts)
        case PollQuote():
            return f"ask for a quote of {said.contract.name}"
        case CandleClosed():
            return f"candle closed at {render_points(said.close_paise)}"
