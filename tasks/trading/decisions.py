"""The session's decisions in the ledger's language."""

from dataclasses import fields
from typing import assert_never

from strategy.actions import Alert, CandleClosed, EntryRefused, Halted, LimitsTightened, Resumed, StopMoved
from tasks.ledger.records import CandleRecord, DecisionRecord

_OF_CANDLE = tuple(field.name for field in fields(CandleClosed) if field.name != "at_ms")


def candle_record(session_id: str, candle: CandleClosed) -> CandleRecord:
    """A closed candle as the ledger keeps it."""
    return CandleRecord(session_id=session_id, **{name: getattr(candle, name) for name in _OF_CANDLE})


def decision_record(
    session_id: str, action: StopMoved | EntryRefused | Halted | Resumed | LimitsTightened | Alert
) -> DecisionRecord:
    """A decision without an order as the ledger keeps it."""
    detail: dict[str, object]
    match action:
        case StopMoved():
            kind, reason = "stop_moved", "trailing"
            detail = {"trade": action.trade, "stop_paise": action.stop_paise, "best_paise": action.best_paise}
        case EntryRefused():
            kind, reason, detail = "entry_refused", action.reason, dict(action.why.facts)
        case Halted():
            kind, reason, detail = "halted", action.reason, {}
        case Resumed():
            kind, reason, detail = "resumed", action.reason, {}
        case LimitsTightened():
            kind, reason = "limits_tightened", "operator"
            detail = {
                "daily_max_loss_paise": action.daily_max_loss_paise,
                "max_trades_per_day": action.max_trades_per_day,
            }
        case Alert():
            kind, reason = "alert", action.kind
            detail = {"severity": str(action.severity), "message": action.message}
        case _:
            assert_never(action)
    return DecisionRecord(session_id=session_id, at_ms=action.at_ms, kind=kind, reason=reason, detail=detail)
