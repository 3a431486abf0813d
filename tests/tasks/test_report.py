"""The report of a day is one file that loads nothing, says what the ledger says and explains every trade."""

import json
import re
from html.parser import HTMLParser

import pytest

from strategy.params import Params
from tasks.clock import ist
from tasks.evening.analytics import by_exit_reason, day_trade_metrics, figures, render_analytics
from tasks.ledger.records import DecisionRecord
from tasks.pages.money import render_points, render_rupees
from tasks.pages.report import day_story, render_day_report, settings_rows
from tasks.pages.summary import DaySummary


class Page(HTMLParser):
    """What of a page a browser would load, run and show."""

    VOID = frozenset({"meta", "img", "input", "br", "link"})

    def __init__(self, html):
        super().__init__()
        self.loads, self.scripts, self.text, self.open = [], [], [], []
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.loads += [value for name, value in attrs if name in {"src", "href", "action", "data"}]
        if tag == "script":
            self.scripts.append(dict(attrs))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] not in {"script", "style"}:
            self.text.append(data)

    @property
    def shown(self):
        return " ".join(" ".join(self.text).split())


def render(recorded, **others):
    summary = DaySummary.build(recorded.ledger, recorded.session_id)
    params = recorded.ledger.starts(recorded.session_id)[-1].params
    return summary, render_day_report(summary, recorded.candles, recorded.decisions, params, **others)


@pytest.fixture(scope="module")
def day(kept_day):
    return render(kept_day)


def test_the_page_loads_nothing_and_forbids_itself_to(day):
    _, html = day
    page = Page(html)
    assert page.open == []
    assert page.loads
    assert all(address.startswith("data:") for address in page.loads)
    assert all("src" not in script for script in page.scripts)
    assert "default-src 'none'" in html
    assert not re.search(r"@import|url\(", html.partition("</style>")[0])


def test_the_story_says_what_the_market_did_what_was_traded_and_why_no_more(kept_day):
    ledger, day = kept_day.ledger, kept_day
    summary = DaySummary.build(ledger, day.session_id)
    params = ledger.starts(day.session_id)[-1].params
    # Prices from 09:19 on, with a hole, until half past two.
    candles = day.candles
    seen = [c for c in candles if not 60 <= (c.start_ms - candles[0].start_ms) // 60_000 < 76][48:3_600]
    used_up = summary.model_copy(update={"refusals": {"max_trades": 144, "cooldown": 4}})
    story = day_story(used_up, params, seen)
    first, last = (render_points(paise) for paise in (seen[0].open_paise, seen[-1].close_paise))
    went = "rose" if seen[-1].close_paise > seen[0].open_paise else "fell"
    ended = f"{ist(seen[-1].start_ms + 5_000):%H:%M}"
    assert story.startswith(
        f"NIFTY {went} from {first} at 09:19 to {last} at {ended}. No prices between 10:14 and 10:31."
    )
    entered = max(trade.entered_at for trade in summary.trades)
    assert f"With the entry of {entered:%H:%M} the day's 4 allowed trades were used up." in story
    assert "148 signals were not taken; the most frequent reason, 144 times: trades of the day used up." in story
    assert day_story(summary, params, ()).startswith("No price of the index was recorded. Bought ")


def test_the_page_shows_the_result_every_trade_and_its_reasons(day):
    summary, html = day
    shown = Page(html).shown
    for paise in (summary.net_paise, summary.gross_paise):
        assert render_rupees(paise, signed=True) in shown
    assert render_rupees(summary.charges_paise) in shown
    for trade in summary.trades:
        assert trade.contract in shown
        assert f"{trade.why_entry}." in shown
        assert f"{trade.why_exit}." in shown
        assert render_rupees(trade.net_paise, signed=True) in shown
    assert "SuperTrend did not turn" in shown
    assert "Flat, reconciled with the broker, every order priced." in shown
    assert "halted operator" in shown


def test_a_day_that_did_not_end_well_says_so_first(record_day):
    _, html = render(record_day(leave_open=True, reconciled=False))
    shown = Page(html).shown
    first = shown.index("still open: 65 ×")
    assert first < shown.index("Trades")
    assert "not compared with the broker yet" in shown
    assert "Flat, reconciled" not in shown


def test_the_chart_on_the_page_has_the_whole_day_and_every_candle_for_a_closer_look(day, kept_day):
    _, html = day
    specs = {
        name: json.loads(re.search(rf'id="{name}">(.*?)</script>', html, re.DOTALL)[1]) for name in ("spec", "detail")
    }
    assert len(specs["spec"]["datasets"]["trades"]) == 4
    assert len(specs["spec"]["vconcat"]) == 3
    candles = kept_day.candles
    assert len(specs["detail"]["rows"]) == len(candles)
    assert specs["detail"]["rows"][7][:5] == [
        35,
        *(getattr(candles[7], f"{name}_paise") / 100 for name in ("open", "high", "low", "close")),
    ]


def test_words_from_outside_cannot_become_part_of_the_page(recorded_day):
    nasty = "</script><script>alert(1)</script>"
    recorded_day.ledger.record_decisions(
        [
            DecisionRecord(
                session_id=recorded_day.session_id,
                at_ms=1_795_150_000_000,
                kind="alert",
                reason="test",
                detail={"severity": "info", "message": nasty},
            )
        ]
    )
    _, html = render(recorded_day)
    page = Page(html)
    assert nasty not in html
    assert nasty in " ".join(page.text)
    assert page.open == []


def test_a_day_without_candles_or_trades_is_still_a_page(kept_day):
    summary = DaySummary.build(kept_day.ledger, kept_day.session_id)
    empty = summary.model_copy(update={"trades": (), "trade_count": 0, "wins": 0, "losses": 0, "refusals": {}})
    page = Page(render_day_report(empty, [], [], {}))
    assert "No trades." in page.shown
    assert "Nothing was refused." in page.shown
    assert page.open == []


def test_settings_that_differ_from_the_default_are_marked():
    rows = {row["name"]: row for row in settings_rows(Params(lots=3).model_dump(mode="json") | {"retired_name": 1})}
    assert rows["flip_only"]["unit"] == "", "on is on"
    assert rows["lots"] == {"name": "lots", "title": "Lots", "value": "3", "unit": "lots", "changed": True}
    assert rows["candle_seconds"]["changed"] is False
    assert rows["entry_start"]["changed"] is False
    assert rows["retired_name"]["changed"] is True
    assert rows["flip_only"]["value"] == "on"


def test_analytics_are_of_the_ledgers_net_results(day):
    summary, _ = day
    metrics = day_trade_metrics(summary)
    nets = [trade.net_paise for trade in summary.trades]
    assert (metrics.trades, metrics.net_paise, metrics.best_paise) == (4, sum(nets), max(nets))
    assert sum(paise for *_, paise in by_exit_reason(summary)) == summary.net_paise
    assert sum(count for _, count, *_ in by_exit_reason(summary)) == 4


def test_what_is_not_defined_is_a_dash(kept_day):
    summary = DaySummary.build(kept_day.ledger, kept_day.session_id).model_copy(update={"trades": ()})
    values = {figure.name: figure.value for figure in figures(day_trade_metrics(summary))}
    assert values["Win rate"] == values["Profit factor"] == values["Expectancy"] == "–"


def test_analytics_read_well_as_markdown(day):
    summary, _ = day
    text = render_analytics(summary)
    assert text.startswith("## NIFTY · rehearsal · Friday 20 Nov 2026\n")
    assert f"**{render_rupees(summary.net_paise, signed=True)} net**" in text
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert all(line.endswith("|") for line in rows)
    assert "| Win rate | 25 % | trades won, of all trades |" in rows
