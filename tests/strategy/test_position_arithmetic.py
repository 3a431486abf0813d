"""A position's arithmetic, against exact fractions: stops, trailing, targets, P&L, and what is in flight."""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from strategy.actions import Enter, Exit, ExitReason, Explanation
from strategy.events import Fill, IntentClosed, Outcome, Side
from strategy.exits import exit_reason, trailed_stop_paise
from strategy.instruments import Quantity
from strategy.position import apply_end, apply_fill, opened, trade_of, trades_of, with_exit
from strategy.risk import entry_lots, paused_until_ms, protection_halt
from strategy.state import Limits

FILLS = st.lists(st.tuples(st.integers(1, 130), st.integers(5, 400_00)), min_size=1, max_size=4)
NO_LIMITS = Limits(0, 5)


def entered(rules, quantity=65, at_ms=1_000):
    return opened(
        Enter(
            at_ms=at_ms,
            intent=1,
            trade=1,
            contract=rules.contract(24_500, "CE"),
            quantity=Quantity(quantity),
            reference_paise=100_00,
            why=Explanation(facts={"because": "test"}),
        )
    )


def leaving(rules, quantity, intent=2, at_ms=2_000):
    return Exit(
        at_ms=at_ms,
        intent=intent,
        trade=1,
        contract=rules.contract(24_500, "CE"),
        quantity=Quantity(quantity),
        reference_paise=100_05,
        reason=ExitReason.TARGET,
        why=Explanation(facts={"because": "test"}),
    )


def fill(intent, side, quantity, value_paise, at_ms=1_500):
    return Fill(at_ms=at_ms, intent=intent, side=side, quantity=quantity, value_paise=value_paise)


def bought(rules, fills, **settings):
    params = rules.params(**settings)
    position = entered(rules, quantity=sum(quantity for quantity, _ in fills))
    for quantity, price in fills:
        position = apply_fill(position, fill(1, Side.BUY, quantity, quantity * price), params)
    return position, params


def average(fills):
    return Fraction(sum(quantity * price for quantity, price in fills), sum(quantity for quantity, _ in fills))


@given(fills=FILLS, points=st.integers(1, 200), price=st.integers(5, 500_00))
def test_the_initial_stop_is_exactly_the_entry_less_its_points(rules, fills, points, price):
    """`price <= stop` in whole paise is the same as against the exact average; fills only ever raise it."""
    position, params = bought(rules, fills, stop_loss_points=points, target_points=0)
    highest = max(average(fills[: count + 1]) for count in range(len(fills))) - points * 100
    hit = exit_reason(position, price, day_pnl_paise=0, limits=NO_LIMITS, params=params) is ExitReason.STOP_LOSS
    assert hit == (price <= highest)


@given(fills=FILLS, points=st.integers(1, 200), price=st.integers(5, 900_00))
def test_the_target_is_exactly_the_entry_plus_its_points(rules, fills, points, price):
    position, params = bought(rules, fills, stop_loss_points=0, target_points=points)
    hit = exit_reason(position, price, day_pnl_paise=0, limits=NO_LIMITS, params=params) is ExitReason.TARGET
    assert hit == (price - average(fills) >= points * 100)


@given(
    fills=FILLS,
    start=st.integers(1, 60),
    step=st.integers(1, 60),
    path=st.lists(st.integers(5, 900_00), min_size=1, max_size=12),
)
def test_trailing_follows_the_formula_of_the_rules(rules, fills, start, step, path):
    """locked = max(0, start - step + step x floor((best - start) / step)); the stop never comes down."""
    position, params = bought(rules, fills, stop_loss_points=20, trail_start_points=start, trail_step_points=step)
    entry = average(fills)
    expected = Fraction(position.stop_paise)
    for count, price in enumerate(path):
        best = max(path[: count + 1]) - entry
        if best >= start * 100:
            steps = (best - start * 100) // (step * 100)
            locked = max(0, start * 100 - step * 100 + step * 100 * steps)
            expected = max(expected, (entry + locked).__floor__())
        position = position._replace(stop_paise=trailed_stop_paise(position, price, params))
        assert position.stop_paise == expected


@given(fills=FILLS, price=st.integers(5, 500_00), sold=st.integers(0, 50))
def test_pnl_is_money_out_less_money_in_plus_what_is_held(rules, fills, price, sold):
    position, params = bought(rules, fills)
    quantity = sum(units for units, _ in fills)
    sold = min(sold, quantity)
    position = with_exit(position, leaving(rules, quantity))
    if sold:
        position = apply_fill(position, fill(2, Side.SELL, sold, sold * 77), params)
    assert position.held == quantity - sold
    assert position.pnl_paise(price) == sold * 77 + (quantity - sold) * price - sum(u * p for u, p in fills)
    assert position.unsold == 0  # the exit in flight asks for all of it


@pytest.mark.parametrize(
    ("outcome", "filled", "unsold", "settled"),
    [
        (None, 0, 0, False),
        (None, 40, 0, False),
        (None, 65, 0, False),
        (Outcome.FILLED, 65, 0, True),
        (Outcome.FILLED, 40, 0, False),  # fills are missing: not sold again
        (Outcome.PARTIALLY_FILLED, 40, 25, False),
        (Outcome.CANCELLED, 0, 65, False),
        (Outcome.REJECTED, 0, 65, False),
    ],
)
def test_what_may_be_sold_again(rules, outcome, filled, unsold, settled):
    position, params = bought(rules, [(65, 100_00)])
    position = apply_end(position, IntentClosed(at_ms=1_600, intent=1, outcome=Outcome.FILLED))
    position = with_exit(position, leaving(rules, 65))
    if filled:
        position = apply_fill(position, fill(2, Side.SELL, filled, filled * 90_00), params)
    if outcome:
        position = apply_end(position, IntentClosed(at_ms=3_000, intent=2, outcome=outcome))
    assert position.unsold == unsold
    assert position.is_settled == settled
    assert position.closing is ExitReason.TARGET


def test_an_entry_in_flight_is_not_settled(rules):
    position = entered(rules)
    assert not position.is_settled
    assert position.is_in_flight
    assert position.entry_paise == 0
    assert apply_end(position, IntentClosed(at_ms=1, intent=1, outcome=Outcome.CANCELLED)).is_settled


def test_each_failure_waits_longer_in_whatever_order_ends_are_told(rules):
    """1, 2, 4, 8, 16, then 30 seconds after the latest failure; what filled or is in flight does not count."""
    position, _ = bought(rules, [(65, 100_00)])
    assert position.retry_at_ms == 0
    ends = []
    for number, delay_s in enumerate((1, 2, 4, 8, 16, 30, 30, 30), start=1):
        position = with_exit(position, leaving(rules, 65, intent=number + 1))
        ends.append(IntentClosed(at_ms=10_000 * number, intent=number + 1, outcome=Outcome.CANCELLED))
        position = apply_end(position, ends[-1])
        assert position.retry_at_ms == 10_000 * number + delay_s * 1000
    position = with_exit(position, leaving(rules, 65, intent=20))
    before = position.retry_at_ms
    position = apply_end(position, IntentClosed(at_ms=200_000, intent=20, outcome=Outcome.FILLED))
    assert position.retry_at_ms == before
    assert len(position.failed) == 8
    other, _ = bought(rules, [(65, 100_00)])
    for number in range(1, 9):
        other = with_exit(other, leaving(rules, 65, intent=number + 1))
    for end in reversed(ends):
        other = apply_end(other, end)
    assert other.retry_at_ms == before


def test_a_fill_on_the_wrong_side_is_refused(rules):
    position, params = bought(rules, [(65, 100_00)])
    position = with_exit(position, leaving(rules, 65))
    with pytest.raises(ValueError, match="intent 1 buys, found a fill that sells"):
        apply_fill(position, fill(1, Side.SELL, 1, 1), params)
    with pytest.raises(ValueError, match="intent 2 sells, found a fill that buys"):
        apply_fill(position, fill(2, Side.BUY, 1, 1), params)


def test_a_trade_tells_its_story(rules):
    """Quantities, times, references, reasons and charges of a round trip that was sold in two orders."""
    position, params = bought(rules, [(40, 100_00), (25, 101_00)])
    position = apply_end(position, IntentClosed(at_ms=1_600, intent=1, outcome=Outcome.FILLED))
    position = with_exit(position, leaving(rules, 65))
    position = apply_fill(position, fill(2, Side.SELL, 60, 60 * 110_00, at_ms=2_500), params)
    position = apply_end(position, IntentClosed(at_ms=2_600, intent=2, outcome=Outcome.PARTIALLY_FILLED))
    assert trade_of(position, rules.plan(params).rates) is None
    position = with_exit(position, leaving(rules, 5, intent=3, at_ms=3_600))
    position = apply_fill(position, fill(3, Side.SELL, 5, 5 * 109_00, at_ms=4_000), params)
    position = apply_end(position, IntentClosed(at_ms=4_100, intent=3, outcome=Outcome.FILLED))
    trade = trade_of(position, rules.plan(params).rates)
    assert (trade.quantity, trade.entry_at_ms, trade.exit_at_ms) == (65, 1_500, 4_000)
    assert (trade.trade, trade.contract) == (1, rules.contract(24_500, "CE"))
    assert (trade.entry_reference_paise, trade.exit_reference_paise) == (100_00, 100_05)
    assert trade.buy_value_paise == 40 * 100_00 + 25 * 101_00
    assert trade.sell_value_paise == 60 * 110_00 + 5 * 109_00
    assert trade.gross_paise == trade.sell_value_paise - trade.buy_value_paise
    # Three orders: 20 rupees each, 0.03553 % of turnover, 0.15 % of sales, 10 rupees a crore, 0.003 % of purchases, GST.
    turnover = trade.buy_value_paise + trade.sell_value_paise
    fees = 60_00 + turnover * 0.0003553 + turnover * 0.000001
    expected = fees * 1.18 + trade.sell_value_paise * 0.0015 + trade.buy_value_paise * 0.00003
    assert trade.charges_paise == pytest.approx(expected, abs=8)
    assert trade.net_paise == trade.gross_paise - trade.charges_paise
    assert trade.exit_reason == "target"
    assert trade.stop_paise == position.stop_paise
    assert trade.why_entry.facts == trade.why_exit.facts == {"because": "test"}


def test_an_entry_that_never_filled_is_no_trade(rules):
    position = apply_end(entered(rules), IntentClosed(at_ms=1, intent=1, outcome=Outcome.REJECTED))
    assert trades_of([position], rules.plan(rules.params()).rates) == ()


@given(risk=st.integers(1, 100_000), points=st.integers(1, 500), lots=st.integers(1, 20))
def test_risk_buys_the_most_lots_whose_stop_costs_no_more(rules, risk, points, lots):
    """Never more than the setting; one lot more would cost more than the risk."""
    params = rules.params(risk_per_trade=risk, stop_loss_points=points, lots=lots)
    bought_lots = entry_lots(params, 65)
    assert 0 <= bought_lots <= lots
    assert bought_lots * points * 65 <= risk
    if bought_lots < lots:
        assert (bought_lots + 1) * points * 65 > risk


class Done:
    """As much of a trade as protections look at."""

    def __init__(self, net_paise, exit_reason="reversal", exit_at_ms=0):
        self.net_paise, self.exit_reason, self.exit_at_ms = net_paise, exit_reason, exit_at_ms


@pytest.mark.parametrize(
    ("nets", "paused"),
    [
        ((), False),
        ((-1,), False),
        ((-1, -1), True),
        ((5, -1, -1), True),
        ((-1, 0), False),  # a draw is no loss
        ((-1, 1, -1), False),
        ((-1, -1, 1), False),
    ],
)
def test_losses_in_a_row_pause(rules, nets, paused):
    params = rules.params(pause_after_losses=2, pause_minutes=3)
    done = [Done(net, exit_at_ms=number * 1_000) for number, net in enumerate(nets)]
    assert paused_until_ms(done, params) == ((len(nets) - 1) * 1_000 + 180_000 if paused else 0)


@pytest.mark.parametrize(
    ("nets", "halts"),
    [
        ((100_00,), False),
        ((100_00, -49_99), False),
        ((100_00, -50_00), True),
        ((99_99, -99_99), False),  # never reached the level
        ((60_00, 60_00, -60_00), True),
        ((60_00, 60_00, -59_99), False),
        ((200_00, -90_00, -10_00), True),
        ((-50_00, 100_00, -60_00), False),  # its best was 50
    ],
)
def test_a_profit_that_falls_back_is_locked(rules, nets, halts):
    params = rules.params(profit_lock_from=100, profit_lock_percent=50)
    assert protection_halt([Done(net) for net in nets], params) == ("profit_lock" if halts else None)


@pytest.mark.parametrize(("reasons", "halts"), [(["stop_loss"], False), (["stop_loss", "target", "stop_loss"], True)])
def test_stop_losses_are_counted_by_reason(rules, reasons, halts):
    params = rules.params(stop_losses_per_day=2)
    assert protection_halt([Done(-1, reason) for reason in reasons], params) == ("stop_losses" if halts else None)


def test_protections_are_off_by_default(rules):
    done = [Done(10_000_00), *[Done(-900_00, "stop_loss")] * 9]
    assert protection_halt(done, rules.params()) is None
    assert paused_until_ms(done, rules.params()) == 0
