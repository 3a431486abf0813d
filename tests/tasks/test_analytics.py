"""Analytics over many days: an oracle, an independent plain computation, filters, and what is packed for speed."""

import json
import math
import statistics
import warnings
from dataclasses import replace
from datetime import date, timedelta

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from strategy.analysis import analyse
from strategy.closed_trades import LAYOUT, RECORD, ClosedTrades, SessionName, TradeFilter
from strategy.events import Tick
from strategy.metrics import UNKNOWN, day_metrics
from tasks.evening.packing import pack_session, record_packed
from tasks.evening.period import analyse_period, days_of, read_period
from tasks.evening.tables import as_json
from tasks.ledger.columns import DayColumns

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # it asks for pandas-datareader, which downloads prices and is not needed
    import empyrical

CAPITAL = 1_00_000_00
START = date(2026, 1, 1)
NOW_MS = 1_800_000_000_000
CE, PE = 0, 1

daily_net = st.lists(st.integers(-2_500_00, 2_500_00), min_size=2, max_size=60).filter(lambda net: len(set(net)) > 1)


def days(count):
    return [START + timedelta(days=number) for number in range(count)]


class TestOracle:
    """The field's own packages on the same returns, to nine digits."""

    @settings(max_examples=50, deadline=None)
    @given(net=daily_net)
    def test_empyrical_agrees_on_returns_and_risk(self, net):
        found = day_metrics(days(len(net)), np.array(net, dtype=np.int64), CAPITAL)
        equity = CAPITAL + np.concatenate(([0], np.cumsum(net)))
        returns = net / equity[:-1]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            expected = {
                "sharpe": empyrical.sharpe_ratio(returns),
                "volatility": empyrical.annual_volatility(returns),
                "cagr": empyrical.cagr(returns),
                "total_return": empyrical.cum_returns_final(returns),
                "sortino": empyrical.sortino_ratio(returns),
                "drawdown": -empyrical.max_drawdown(returns),
                "calmar": empyrical.calmar_ratio(returns),
            }
        for name in ("sharpe", "volatility", "cagr", "total_return"):
            assert getattr(found, name) == pytest.approx(expected[name], rel=1e-9, abs=1e-9), name
        if found.sortino is not None:
            assert found.sortino == pytest.approx(expected["sortino"], rel=1e-9, abs=1e-9)
        ratio = found.drawdown.ratio if found.drawdown else 0.0
        assert ratio == pytest.approx(expected["drawdown"], rel=1e-9, abs=1e-9)
        if found.calmar is not None:
            assert found.calmar == pytest.approx(expected["calmar"], rel=1e-9)

    def test_a_draw_day_counts_as_a_day(self):
        net = np.array([500_00, 0, -300_00, 0, 0, 100_00], dtype=np.int64)
        equity = CAPITAL + np.concatenate(([0], np.cumsum(net)))
        assert day_metrics(days(6), net, CAPITAL).sharpe == pytest.approx(
            empyrical.sharpe_ratio(net / equity[:-1]), rel=1e-12
        )


# What quantstats 0.0.86 says of these days (it brings thirty packages, so its answers are kept instead of itself).
QUANTSTATS_DAYS = (
    *(1500_00, -800_00, 0, 2300_50, -1200_25, -300_00, 950_75, 0, 400_00, -2100_00, 1800_00, 650_00, -75_50, 120_00),
    *(-990_00, 3100_00, -450_00, 0, 275_25, -60_00, 880_00, -1310_00),
)
QUANTSTATS = {
    "sharpe": 2.8639747156816364,
    "sortino": 5.3828981015854,
    "volatility": 0.18947968992343292,
    "total_return": 0.04690749999999966,
    "cagr": 0.6905991808857044,
    "calmar": 31.62127625286432,
}


def test_quantstats_agrees_to_nine_digits():
    found = day_metrics(days(len(QUANTSTATS_DAYS)), np.array(QUANTSTATS_DAYS, dtype=np.int64), CAPITAL)
    for name, expected in QUANTSTATS.items():
        assert getattr(found, name) == pytest.approx(expected, rel=1e-9), name
    assert found.drawdown.ratio == pytest.approx(0.021839699807282398, rel=1e-9)


def a_session(draw, day):
    """Records of one session as plain tuples, too."""
    count = draw(st.integers(0, 6))
    rows = np.zeros(count, dtype=RECORD)
    for row in rows:
        entry = (day - date(1970, 1, 1)).days * 86_400_000 + draw(st.integers(13_500_000, 35_000_000))
        row["entry_at_ms"], row["exit_at_ms"] = entry, entry + draw(st.integers(0, 3_600_000))
        row["quantity"] = 65 * draw(st.integers(1, 3))
        row["buy_value_paise"] = draw(st.integers(1, 10**6))
        row["sell_value_paise"] = draw(st.integers(1, 10**6))
        row["charges_paise"] = draw(st.sampled_from([0, 0, 50_00]))
        row["reason"] = draw(st.integers(0, 1))
        row["put"] = draw(st.integers(0, 1))
        row["expiry"] = (day - date(1970, 1, 1)).days + draw(st.integers(0, 1))
        for name in ("mae_paise", "entry_slippage_paise", "exit_slippage_paise", "exit_delay_ms"):
            row[name] = draw(st.sampled_from([UNKNOWN, -5, 0, 7]))
    return rows


@st.composite
def periods(draw):
    names, packed, reasons = [], [], []
    for number in range(draw(st.integers(0, 5))):
        day = START + timedelta(days=number)
        names.append(
            SessionName(day, draw(st.sampled_from(["NIFTY", "SENSEX"])), draw(st.sampled_from(["live", "paper"])))
        )
        packed.append(a_session(draw, day).tobytes())
        reasons.append(draw(st.sampled_from([("reversal", "target"), ("stop_loss", "target")])))
    return ClosedTrades.joined(names, packed, reasons), names, packed, reasons


filters = st.builds(
    TradeFilter,
    first=st.none() | st.sampled_from(days(4)),
    last=st.none() | st.sampled_from(days(4)),
    indices=st.sampled_from([frozenset(), frozenset({"NIFTY"})]),
    modes=st.sampled_from([frozenset(), frozenset({"live"})]),
    directions=st.sampled_from([frozenset(), frozenset({"CE"}), frozenset({"PE"})]),
    reasons=st.sampled_from([frozenset(), frozenset({"target"}), frozenset({"stop_loss", "target"})]),
    weekdays=st.sampled_from([frozenset(), frozenset({3, 4})]),
    hours=st.sampled_from([frozenset(), frozenset({9, 10, 11})]),
    expiry_day=st.none() | st.booleans(),
)


def plain(names, packed, reasons, wanted):
    """The chosen trades, one dictionary each, without numpy's help."""
    chosen = []
    for session, part, listed in zip(names, packed, reasons, strict=True):
        for row in np.frombuffer(part, dtype=RECORD):
            trade = {name: int(row[name]) for name in RECORD.names}
            trade["net"] = trade["sell_value_paise"] - trade["buy_value_paise"] - trade["charges_paise"]
            trade["exit"] = listed[trade["reason"]]
            trade["direction"] = ["CE", "PE"][trade["put"]]
            trade["hour"] = (trade["entry_at_ms"] // 1000 + 19_800) % 86_400 // 3600
            trade["day"] = session.day
            trade["at_expiry"] = date(1970, 1, 1) + timedelta(days=trade["expiry"]) == session.day
            if (
                (wanted.first is None or session.day >= wanted.first)
                and (wanted.last is None or session.day <= wanted.last)
                and (not wanted.indices or session.index in wanted.indices)
                and (not wanted.modes or session.mode in wanted.modes)
                and (not wanted.directions or trade["direction"] in wanted.directions)
                and (not wanted.reasons or trade["exit"] in wanted.reasons)
                and (not wanted.weekdays or session.day.weekday() in wanted.weekdays)
                and (not wanted.hours or trade["hour"] in wanted.hours)
                and (wanted.expiry_day is None or trade["at_expiry"] == wanted.expiry_day)
            ):
                chosen.append(trade)
    return chosen


def mean(values):
    return statistics.fmean(values) if values else None


@settings(max_examples=50, deadline=None)
@given(period=periods(), wanted=filters)
def test_a_plain_computation_agrees_under_any_filter(period, wanted):
    trades, names, packed, reasons = period
    found = analyse(trades, days(5), wanted=wanted, capital_paise=CAPITAL)
    expected = plain(names, packed, reasons, wanted)
    net = [trade["net"] for trade in sorted(expected, key=lambda trade: trade["exit_at_ms"])]
    won, lost = [value for value in net if value > 0], [value for value in net if value < 0]
    assert (found.trades.trades, found.trades.wins, found.trades.losses) == (len(net), len(won), len(lost))
    assert found.trades.net_paise == sum(net) == found.days.net_paise == int(found.equity.net_paise.sum())
    assert found.trades.profit_factor == (sum(won) / -sum(lost) if lost else None)
    assert found.trades.expectancy_paise == pytest.approx(mean(net))
    running, peak, deepest = 0, 0, 0
    for value in net:
        running += value
        peak = max(peak, running)
        deepest = max(deepest, peak - running)
    assert found.trades.drawdown_paise == deepest
    assert found.trades.mae_mean_paise == mean([t["mae_paise"] for t in expected if t["mae_paise"] != UNKNOWN])
    delays = [t["exit_delay_ms"] / 1000 for t in expected if t["exit_delay_ms"] != UNKNOWN]
    assert found.execution.exit_delay_median_s == (statistics.median(delays) if delays else None)
    slipped = [(t["entry_slippage_paise"], t["exit_slippage_paise"]) for t in expected]
    complete = bool(slipped) and all(UNKNOWN not in pair for pair in slipped)
    assert found.execution.slippage_paise == (sum(map(sum, slipped)) if complete else None)
    assert found.costs.charges_paise == sum(trade["charges_paise"] for trade in expected)
    for key, value in (("direction", "direction"), ("exit_reason", "exit")):
        assert {name: part.net_paise for name, part in found.groups[key].items()} == {
            name: sum(t["net"] for t in expected if t[value] == name) for name in {t[value] for t in expected}
        }
    for parts in found.groups.values():
        assert sum(part.net_paise for part in parts.values()) == sum(net)
        assert sum(part.trades for part in parts.values()) == len(net)


class TestPackedDay:
    def test_it_says_what_the_ledger_says_to_the_paisa(self, recorded_day):
        packed = pack_session(recorded_day.ledger, recorded_day.session_id)
        records = np.frombuffer(packed.records, dtype=RECORD)
        trades = sorted(recorded_day.ledger.trades(recorded_day.session_id), key=lambda trade: trade.exit_at_ms)
        assert records["trade"].tolist() == [trade.trade for trade in trades]
        for name in ("entry_at_ms", "exit_at_ms", "buy_value_paise", "sell_value_paise", "charges_paise", "quantity"):
            assert records[name].tolist() == [getattr(trade, name) for trade in trades], name
        assert [packed.reasons.split("\n")[number] for number in records["reason"]] == [t.exit_reason for t in trades]
        assert records["lots"].tolist() == [1] * len(trades)
        # Filled at the decision's own price, 120 ms later.
        assert set(records["entry_slippage_paise"].tolist()) == set(records["exit_slippage_paise"].tolist()) == {0}
        assert set(records["entry_delay_ms"].tolist()) == set(records["exit_delay_ms"].tolist()) == {120}
        assert set(records["mae_paise"].tolist()) == {UNKNOWN}, "no tick was recorded"

    def test_excursions_are_those_of_the_recorded_ticks_while_it_was_held(self, recorded_day):
        ledger, trade = recorded_day.ledger, recorded_day.ledger.trades(recorded_day.session_id)[0]
        price = trade.buy_value_paise // trade.quantity
        held = [(0, price), (1_000, price - 3_00), (2_000, price + 7_00), (3_000, price + 1_00)]
        outside = [(-1_000, price - 50_00), (trade.exit_at_ms - trade.entry_at_ms + 1, price + 90_00)]
        ledger.record_ticks(
            recorded_day.session_id,
            [
                Tick(at_ms=trade.entry_at_ms + after, security=security, price_paise=paise)
                for after, paise in held + outside
                for security in (trade.security,)
            ]
            + [Tick(at_ms=trade.entry_at_ms + 1_500, security="IDX_I:13", price_paise=24_500_00)],
        )
        records = np.frombuffer(pack_session(ledger, recorded_day.session_id).records, dtype=RECORD)
        (row,) = records[records["trade"] == trade.trade]
        assert (row["mae_paise"], row["mfe_paise"]) == (-3_00 * trade.quantity, 7_00 * trade.quantity)

    def test_packing_again_changes_nothing_and_other_charges_add_a_revision(self, recorded_day):
        ledger = recorded_day.ledger
        rows = "SELECT session_id, revision FROM day_columns"
        record_packed(ledger, recorded_day.session_id)
        record_packed(ledger, recorded_day.session_id)
        assert ledger.rows(rows) == [(recorded_day.session_id, 1)]
        before = analyse_period(ledger, TradeFilter(), capital_paise=CAPITAL, now_ms=NOW_MS).trades.net_paise
        charge = ledger.charges(recorded_day.session_id)[0]
        more = type(charge)(
            **{name: getattr(charge, name) for name in type(charge).__slots__}
            | {"stamp_paise": charge.stamp_paise + 500}
        )
        ledger.record_charges([more])
        record_packed(ledger, recorded_day.session_id)
        assert ledger.rows(rows)[-1] == (recorded_day.session_id, 2)
        after = analyse_period(ledger, TradeFilter(), capital_paise=CAPITAL, now_ms=NOW_MS).trades.net_paise
        assert after == before - 500


class TestPeriod:
    def test_a_session_that_was_never_packed_is_packed_on_the_way(self, recorded_day):
        assert recorded_day.ledger.day_columns(None, None, LAYOUT) == {}
        found = analyse_period(recorded_day.ledger, TradeFilter(), capital_paise=CAPITAL, now_ms=NOW_MS)
        total = recorded_day.ledger.rows("SELECT closed_trades, net_paise, charges_paise FROM day_total")
        assert [(found.trades.trades, found.trades.net_paise, found.costs.charges_paise)] == total
        assert list(recorded_day.ledger.day_columns(None, None, LAYOUT)) == [recorded_day.session_id]

    def test_a_session_that_trades_now_is_read_as_it_stands_and_not_kept(self, recorded_day):
        now_ms = recorded_day.ledger.starts(recorded_day.session_id)[-1].started_at_ms
        assert recorded_day.session_id in recorded_day.ledger.living_session_ids(now_ms)
        period = read_period(recorded_day.ledger, TradeFilter(), now_ms=now_ms)
        assert len(period.trades) == 4
        assert recorded_day.ledger.day_columns(None, None, LAYOUT) == {}

    def test_what_was_packed_before_a_session_went_on_does_not_count(self, record_day):
        """Compared and packed at noon, started again, dead since: what it did until now counts, and is not kept."""
        recorded = record_day(reconciled=False)
        ledger, session_id = recorded.ledger, recorded.session_id
        (begun,) = ledger.starts(session_id)
        ledger.record_day_columns(DayColumns(session_id, "", {}, b""), LAYOUT)
        ledger.record_reconciliation(session_id, "noon", begun.started_at_ms + 1, "clean", [])
        assert len(read_period(ledger, TradeFilter(), now_ms=NOW_MS).trades) == 0
        ledger.record_start(replace(begun, fence=begun.fence + 1, started_at_ms=begun.started_at_ms + 2))
        assert len(read_period(ledger, TradeFilter(), now_ms=NOW_MS).trades) == 4
        assert ledger.rows("SELECT revision FROM day_columns") == [(1,)]

    def test_why_no_entry_is_counted_by_date_index_and_mode(self, recorded_day):
        everything = analyse_period(recorded_day.ledger, TradeFilter(), capital_paise=CAPITAL, now_ms=NOW_MS)
        assert everything.refusals == {"no_flip": 924, "cooldown": 308, "macd_against": 308}
        assert next(iter(everything.refusals)) == "no_flip"
        elsewhere = TradeFilter(indices=frozenset({"SENSEX"}))
        assert analyse_period(recorded_day.ledger, elsewhere, capital_paise=CAPITAL, now_ms=NOW_MS).refusals == {}

    def test_a_period_without_sessions_has_no_figures(self, recorded_day):
        found = analyse_period(
            recorded_day.ledger, TradeFilter(last=date(2020, 1, 1)), capital_paise=CAPITAL, now_ms=NOW_MS
        )
        assert (found.sessions, found.trades.trades, found.trades.win_rate, found.days.sharpe) == (0, 0, None, None)
        assert found.costs.charges_of_gross is None
        assert found.groups["hour"] == {}

    def test_days_count_trading_days_between_the_first_and_the_last_session(self):
        # Tuesday 24 November is a holiday, 28 and 29 are a weekend.
        found = days_of([date(2026, 11, 23), date(2026, 11, 30)])
        assert found == [date(2026, 11, day) for day in (23, 25, 26, 27, 30)]
        assert days_of([]) == []


def test_the_answer_is_plain_json(recorded_day):
    found = analyse_period(recorded_day.ledger, TradeFilter(), capital_paise=CAPITAL, now_ms=NOW_MS)
    written = json.loads(json.dumps(as_json(found), allow_nan=False))
    assert written["trades"]["net_paise"] == found.trades.net_paise
    assert written["days"]["calmar"] is None, "one day is too few"
    assert written["groups"]["mode"]["rehearsal"]["trades"] == 4
    assert written["equity"]["days"] == ["2026-11-20"]
    assert not [value for value in _leaves(written) if isinstance(value, float) and not math.isfinite(value)]


def _leaves(value):
    if isinstance(value, dict):
        for item in value.values():
            yield from _leaves(item)
    elif isinstance(value, list):
        for item in value:
            yield from _leaves(item)
    else:
        yield value
