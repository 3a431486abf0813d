"""Round trips are derived from intents, fills and charges; the views and a plain fold of the fills agree."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from strategy.events import Side
from tasks.evening.reconciliation import ledger_book

# Prices in rupees per unit, charges in rupees; "75@100.05" is a fill. Lines are intents in order.
DAYS = {
    "a round trip": """
        trade  intent  reason         fills                  charges
        1      buy     entry          75@100.00              30.00
        1      sell    target         75@110.00              50.00
        =>     1: 75 bought, 0 open, gross 750.00, charges 80.00, net 670.00, target
        =>     day: 1 trades, 1 closed, 1 winners, 0 losers, gross 750.00, charges 80.00, net 670.00, open 0
    """,
    "filled in pieces, sold in two exits: the first exit that filled is the reason": """
        trade  intent  reason         fills                  charges
        1      buy     entry          25@100.00 50@100.10    30.00
        1      sell    stop_loss      -                      0
        1      sell    trailing_stop  50@90.00               20.00
        1      sell    squareoff      25@89.95               10.00
        =>     1: 75 bought, 0 open, gross -756.25, charges 60.00, net -816.25, trailing_stop
        =>     day: 1 trades, 1 closed, 0 winners, 1 losers, gross -756.25, charges 60.00, net -816.25, open 0
    """,
    "an entry that never filled is no trade": """
        trade  intent  reason         fills                  charges
        1      buy     entry          -                      0
        2      buy     entry          75@50.00               20.00
        2      sell    manual         75@50.00               20.00
        =>     2: 75 bought, 0 open, gross 0.00, charges 40.00, net -40.00, manual
        =>     day: 1 trades, 1 closed, 0 winners, 1 losers, gross 0.00, charges 40.00, net -40.00, open 0
    """,
    "an open trade has no result yet; the day counts its charges": """
        trade  intent  reason         fills                  charges
        1      buy     entry          75@100.00              30.00
        1      sell    target         75@101.00              40.00
        2      buy     entry          75@200.00              30.00
        2      sell    reversal       25@190.00              15.00
        =>     1: 75 bought, 0 open, gross 75.00, charges 70.00, net 5.00, target
        =>     2: 75 bought, 50 open
        =>     day: 2 trades, 1 closed, 1 winners, 0 losers, gross 75.00, charges 115.00, net -40.00, open 50
    """,
    "an unknown position that is flattened is no trade: its cost is not known": """
        trade  intent  reason            fills               charges
        1      sell    unknown_position  75@100.00           30.00
        =>     day: 0 trades, 0 closed, 0 winners, 0 losers, gross 0.00, charges 0.00, net 0.00, open 0
    """,
    "a day without a trade is a row of zeros": """
        =>     day: 0 trades, 0 closed, 0 winners, 0 losers, gross 0.00, charges 0.00, net 0.00, open 0
    """,
}


def paise(rupees: str) -> int:
    return round(float(rupees) * 100)


def rupees(amount: int) -> str:
    return f"{amount / 100:.2f}"


@pytest.mark.parametrize("table", DAYS.values(), ids=DAYS.keys())
def test_the_day_in_a_table(ledger, lease, day, table):
    expected = []
    number = 0
    for line in map(str.strip, table.strip().splitlines()):
        if line.startswith("=>"):
            expected.append(line.removeprefix("=>").strip())
            continue
        if line.startswith("trade"):
            continue
        trade, side, reason, *fills, charges = line.split()
        number += 1
        pieces = [tuple(piece.split("@")) for piece in fills if piece != "-"]
        quantity = sum(int(units) for units, _ in pieces) or 75
        ledger.record_intent(day.intent(number, Side[side.upper()], trade=int(trade), quantity=quantity, reason=reason))
        filled = 0
        for units, price in pieces:
            filled += int(units)
            ledger.record_fill(
                day.fill(
                    number, int(units), int(units) * paise(price), cumulative=filled, seconds=number + filled / 1000
                )
            )
        if pieces:
            ledger.record_charges(
                [
                    day.charge(
                        number, brokerage_paise=paise(charges), stt_paise=0, exchange_paise=0, sebi_paise=0, gst_paise=0
                    )
                ]
            )
    found = []
    for trade in ledger.trades(day.session_id):
        text = f"{trade.trade}: {trade.quantity} bought, {trade.open_quantity} open"
        if trade.exit_at_ms is not None:
            text += f", gross {rupees(trade.gross_paise)}, charges {rupees(trade.charges_paise)}, net {rupees(trade.net_paise)}, {trade.exit_reason}"
        found.append(text)
    for row in ledger.rows(
        "SELECT trades, closed_trades, winners, losers, gross_paise, charges_paise, net_paise, open_quantity FROM day_total"
    ):
        *counts, gross, charges, net, held = row
        found.append(
            "day: {} trades, {} closed, {} winners, {} losers".format(*counts)
            + f", gross {rupees(gross)}, charges {rupees(charges)}, net {rupees(net)}, open {held}"
        )
    assert found == expected


def test_a_trade_carries_its_contract_times_references_and_explanations(ledger, lease, day):
    ledger.record_intent(day.intent(1))
    ledger.record_fill(day.fill(1, 25, 2_500_00, cumulative=25, seconds=3))
    ledger.record_fill(day.fill(1, 50, 5_000_00, cumulative=75, seconds=4))
    trade = ledger.trades(day.session_id)[0]
    assert (trade.entry_at_ms, trade.exit_at_ms, trade.exit_reason, trade.why_exit) == (day.at(3), None, None, None)
    ledger.record_intent(day.intent(2, Side.SELL, reference_paise=110_05, why={"stop": 95.5}))
    ledger.record_fill(day.fill(2, seconds=60))
    trade = ledger.trades(day.session_id)[0]
    entry = day.intent(1)
    for name in ("contract_name", "trading_symbol", "security", "option_type", "strike_points", "expiry", "session_id"):
        assert getattr(trade, name) == getattr(entry, name)
    assert (trade.underlying, trade.mode, trade.day) == ("NIFTY", "rehearsal", day.key.day)
    assert (trade.entry_at_ms, trade.exit_at_ms) == (day.at(3), day.at(60))
    assert (trade.entry_reference_paise, trade.exit_reference_paise) == (100_05, 110_05)
    assert (trade.why_entry, trade.why_exit) == (entry.why, {"stop": 95.5})


def test_sessions_do_not_mix(ledger, day, new_day):
    other = new_day(mode="paper")
    for each in (day, other):
        ledger.open_session(each.key, "k3f")
        ledger.leases.take(each.key, "x", day.at())
    ledger.record_intent(day.intent(1))
    ledger.record_fill(day.fill(1))
    assert len(ledger.trades(day.session_id)) == 1
    assert ledger.trades(other.session_id) == ()
    assert ledger.rows("SELECT mode, trades FROM day_total ORDER BY mode") == [("paper", 0), ("rehearsal", 1)]


ROUND_TRIPS = st.lists(
    st.tuples(
        st.lists(st.tuples(st.integers(1, 900), st.integers(1, 10**7)), min_size=1, max_size=4),  # bought: units, value
        st.lists(st.integers(1, 10**7), max_size=4),  # sold: values; the units are split evenly over them
        st.integers(0, 10**5),  # charges of the entry
    ),
    max_size=5,
)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(trips=ROUND_TRIPS)
def test_cash_in_is_cash_out_plus_profit_to_the_paisa(trips, ledger, new_day):
    """Whatever the fills: the view's numbers are those of a plain fold over what was recorded."""
    number = len(ledger.session_ids()) + 1
    mine = new_day(salt=f"{number:03}", account=f"{number:010}")
    ledger.open_session(mine.key, mine.salt)
    ledger.leases.take(mine.key, "x", mine.at())
    expected = {}
    intent = 0
    for trade, (buys, sells, charges) in enumerate(trips, 1):
        intent += 1
        bought = sum(units for units, _ in buys)
        ledger.record_intent(mine.intent(intent, trade=trade, quantity=bought))
        done = 0
        for units, value in buys:
            done += units
            ledger.record_fill(mine.fill(intent, units, value, cumulative=done, seconds=intent))
        ledger.record_charges(
            [mine.charge(intent, brokerage_paise=charges, stt_paise=0, exchange_paise=0, sebi_paise=0, gst_paise=0)]
        )
        sold, received = 0, 0
        for place, value in enumerate(sells):
            units = (bought - sold) // (len(sells) - place)
            if units:
                intent += 1
                ledger.record_intent(mine.intent(intent, Side.SELL, trade=trade, quantity=units))
                ledger.record_fill(mine.fill(intent, units, value, seconds=intent))
                sold, received = sold + units, received + value
        expected[trade] = [sum(value for _, value in buys), received, bought, bought - sold, charges]
    trades = ledger.trades(mine.session_id)
    assert {
        t.trade: [t.buy_value_paise, t.sell_value_paise, t.quantity, t.open_quantity, t.charges_paise] for t in trades
    } == expected
    for trade in trades:
        assert trade.gross_paise == trade.sell_value_paise - trade.buy_value_paise
        assert trade.net_paise == trade.gross_paise - trade.charges_paise
        assert (trade.exit_at_ms is None) == (trade.open_quantity > 0)
    closed = [trade for trade in trades if trade.exit_at_ms is not None]
    assert ledger.rows(
        "SELECT trades, closed_trades, gross_paise, charges_paise, buy_value_paise, sell_value_paise, open_quantity"
        " FROM day_total WHERE session_id = ?",
        mine.session_id,
    ) == [
        (
            len(trades),
            len(closed),
            sum(t.gross_paise for t in closed),
            sum(t.charges_paise for t in trades),
            sum(t.buy_value_paise for t in trades),
            sum(t.sell_value_paise for t in trades),
            sum(t.open_quantity for t in trades),
        )
    ]


def test_an_order_that_is_filled_is_over_without_the_brokers_word_for_it(ledger, lease, day):
    """The fill was recorded, the process was killed, and no start asks about a filled order again."""
    for number, filled in ((1, 75), (2, 25)):
        ledger.record_intent(day.intent(number))
        ledger.record_order_event(day.event(number))
        ledger.record_fill(day.fill(number, filled))
    assert [order.is_open for order in ledger_book(ledger, day.session_id).orders] == [False, True]
