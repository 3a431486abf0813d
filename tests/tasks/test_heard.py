"""What the rules heard is read back as it was, whatever a start began with."""

from datetime import date
from types import MappingProxyType

from hypothesis import given
from hypothesis import strategies as st

from strategy.actions import Enter, Exit, ExitReason, Explanation, Halted, LimitsTightened, Resumed, StopMoved
from strategy.candles import Candle
from strategy.charges import rates_on
from strategy.events import Caution, Command, CommandKind, Fill, IntentClosed, Outcome, PoisonedTick, Side, Timer
from strategy.history import History, PastIntent, UnknownPosition
from strategy.instruments import INDICES, Contract, OptionType, Quantity, Underlying
from strategy.plan import DayPlan
from tasks.trading.heard import Beginning, Ending, heard_text, read_heard

AT_MS = 1_795_146_300_000
CONTRACTS = tuple(
    Contract(
        underlying=Underlying.NIFTY,
        expiry=date(2026, 11, 23),
        strike_points=strike,
        option_type=option_type,
        segment="NSE_FNO",
        security_id=f"{strike}{option_type}",
        trading_symbol=f"NIFTY-{strike}-{option_type}",
        lot_size=65,
        tick_size_paise=5,
        freeze_quantity=1800,
    )
    for strike in (24_450, 24_500)
    for option_type in OptionType
)
WHY = Explanation(facts={"spot": 24_500.0, "flipped": True, "strike": 24_500, "stop": None, "word": "up"})
BOUGHT = {"at_ms": AT_MS, "trade": 1, "contract": CONTRACTS[0], "quantity": Quantity(65), "why": WHY}
ENTER = Enter(**BOUGHT, intent=1, reference_paise=120_00)
EXIT = Exit(**BOUGHT, intent=2, reference_paise=118_00, reason=ExitReason.STOP_LOSS)
FILL = Fill(at_ms=AT_MS, intent=1, side=Side.BUY, quantity=65, value_paise=65 * 120_05)
CLOSED = IntentClosed(at_ms=AT_MS, intent=1, outcome=Outcome.PARTIALLY_FILLED, message='words "with" \n\0 ₹')
WHOLE = Beginning(
    plan=DayPlan(
        day=date(2026, 11, 20),
        index=INDICES[Underlying.NIFTY],
        index_security="IDX_I:13",
        hours=((AT_MS, AT_MS + 1),),
        entry_start_ms=AT_MS,
        entry_cutoff_ms=AT_MS + 1,
        squareoff_ms=AT_MS + 2,
        contracts=MappingProxyType({(each.strike_points, each.option_type): each for each in CONTRACTS}),
        lot_size=65,
        rates=rates_on(date(2026, 11, 20), "NSE"),
    ),
    at_ms=AT_MS,
    warmup=(Candle(AT_MS, 60, 5, 9, 1, 7), Candle(AT_MS, 5, 5, 9, 1, 7, 3)),
    history=History(
        intents=(PastIntent(decided=ENTER, fills=(FILL,), end=CLOSED), PastIntent(decided=EXIT)),
        stops=(StopMoved(at_ms=AT_MS, trade=1, stop_paise=5, best_paise=9),),
        halts=(Halted(at_ms=AT_MS, reason="operator"), Resumed(at_ms=AT_MS + 1, reason="operator")),
        limits=(LimitsTightened(at_ms=AT_MS, daily_max_loss_paise=5, max_trades_per_day=1),),
        unknown=(UnknownPosition(contract=CONTRACTS[1], quantity=65, value_paise=7),),
    ),
    ticks_before=12,
)
moments, numbers, words = st.integers(0, 1 << 45), st.integers(0, 1 << 40), st.text(max_size=30)
RARE = st.one_of(
    st.builds(Timer, at_ms=moments),
    st.builds(Fill, at_ms=moments, intent=numbers, side=st.sampled_from(Side), quantity=numbers, value_paise=numbers),
    st.builds(IntentClosed, at_ms=moments, intent=numbers, outcome=st.sampled_from(Outcome), message=words),
    st.builds(
        Command,
        at_ms=moments,
        command_id=words,
        kind=st.sampled_from(CommandKind),
        reason=words,
        daily_max_loss_paise=st.none() | numbers,
        max_trades_per_day=st.none() | numbers,
    ),
    st.builds(Caution, at_ms=moments, reason=words, active=st.booleans()),
    st.builds(PoisonedTick, at_ms=moments, security=words, found=words),
)


def test_what_a_start_began_with_is_read_back_as_it_was():
    heard = [WHOLE, Ending(ticks=7, dropped=1)]
    read = read_heard(heard_text(heard))
    assert read == heard
    assert isinstance(read[0].history.intents[0].decided, Enter)
    assert isinstance(read[0].history.intents[1].decided, Exit)
    assert [type(said) for said in read[0].history.halts] == [Halted, Resumed]


@given(st.lists(st.tuples(numbers, RARE), max_size=8))
def test_any_event_is_read_back_as_it_was_and_takes_one_line(heard):
    text = heard_text(heard)
    assert text.count("\n") == max(0, len(heard) - 1)
    assert read_heard(text) == heard
    assert text.isascii()
