"""The reports in a real browser: they ask nobody for anything, fit a phone, and their tables sort and filter."""

import re
import shutil
from contextlib import contextmanager

import pytest
from playwright.sync_api import sync_playwright

from flows.analytics import write_page, write_report
from strategy.closed_trades import TradeFilter
from tasks.evening.period import analyse_period, read_period
from tasks.evening.replay import SAME, Verdict, record_verdict
from tasks.ledger.records import DecisionRecord
from tasks.pages.period_report import render_period_report
from tasks.pages.summary import DaySummary

PHONE, DESK = {"width": 390, "height": 844}, {"width": 1280, "height": 900}
BYTES_MAX = 2_500_000  # 0.9 MB of them are the chart library
PROVEN = Verdict(state=SAME, compared=4711, ticks=9, at_ms=1_795_170_000_000)

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]


@contextmanager
def browser():
    """Chromium without a network: anything but files is refused, and remembered."""
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        try:
            yield chromium
        finally:
            chromium.close()


@contextmanager
def opened(chromium, path, viewport):
    """A page once its chart is drawn; nothing was asked for on the way, and nothing went wrong in it."""
    context = chromium.new_context(viewport=viewport, offline=True)
    page = context.new_page()
    asked, faults = [], []
    page.on("request", lambda request: asked.append(request.url))
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on("console", lambda message: faults.append(message.text) if message.type == "error" else None)
    page.goto(path.as_uri())
    if 'id="spec"' in path.read_text(encoding="utf-8"):
        page.wait_for_selector("html[data-drawn=yes]", state="attached", timeout=60_000)
        assert page.locator("#chart canvas").count() == 1
    yield page
    assert [url for url in asked if not url.startswith(("data:", "blob:"))] == [path.as_uri()]
    assert faults == []
    context.close()


def assert_fits(page, viewport):
    assert page.evaluate("document.documentElement.scrollWidth") == viewport["width"], "nothing is beyond the screen"


def nets(page):
    """The net column as it is shown, by what it sorts by."""
    cells = page.locator("#trades tbody tr:visible td[data-name=net]")
    return [int(cell.get_attribute("data-sort")) for cell in cells.all()]


def assert_sorts_and_filters(page, expected):
    assert sorted(nets(page)) == sorted(expected)
    net = page.locator("#trades th button", has_text=re.compile("^net$"))
    net.click()
    assert nets(page) == sorted(expected)
    net.click()
    assert nets(page) == sorted(expected, reverse=True)
    page.get_by_label("result").select_option("up")
    assert nets(page) == sorted((net for net in expected if net > 0), reverse=True)
    page.get_by_label("result").select_option("")
    page.get_by_label("search trades").fill("no such words anywhere")
    assert nets(page) == []
    page.get_by_label("search trades").fill("SUPERTREND")
    assert sorted(nets(page)) == sorted(expected)


def with_twins(day):
    """Each fill a hundred paise better in its twin."""
    day.ledger.record_decisions(
        [
            DecisionRecord(
                session_id=day.session_id,
                at_ms=trade.entry_at_ms,
                kind="twin",
                reason=side.lower(),
                detail={
                    "intent": 2 * trade.trade,
                    "trade": trade.trade,
                    "side": side,
                    "quantity": 65,
                    "value_paise": value,
                },
            )
            for trade in day.ledger.trades(day.session_id)
            for side, value in (("BUY", trade.buy_value_paise - 100), ("SELL", trade.sell_value_paise))
        ]
    )


def test_the_days_page_needs_no_network_fits_a_phone_and_answers(recorded_day, tmp_path):
    with_twins(recorded_day)
    record_verdict(recorded_day.ledger, recorded_day.session_id, PROVEN)
    summary = DaySummary.build(recorded_day.ledger, recorded_day.session_id)
    path = tmp_path / "day.html"
    write_report(recorded_day.ledger, summary, path)
    assert path.stat().st_size < BYTES_MAX
    expected = [trade.net_paise for trade in summary.trades]
    with browser() as chromium:
        with opened(chromium, path, PHONE) as page:
            assert_fits(page, PHONE)
            text = page.inner_text("body")
            assert "4,711 decisions" in text
            assert "Execution cost ₹4.00 (₹1.00 a trade)" in text
            assert "Net by hour of entry" in text
            assert "the most frequent reason" in text
            page.get_by_role("button", name="trade 2").click()
            assert page.get_by_role("button", name="trade 2").get_attribute("aria-pressed") == "true"
        with opened(chromium, path, DESK) as page:
            assert_fits(page, DESK)
            assert_sorts_and_filters(page, expected)


def test_the_page_of_a_period_has_its_figures_its_trades_and_their_reasons(recorded_day, tmp_path):
    wanted = TradeFilter(first=recorded_day.key.day, last=recorded_day.key.day)
    now_ms = 1_795_200_000_000
    found = analyse_period(recorded_day.ledger, wanted, capital_paise=1_00_000_00, now_ms=now_ms)
    trades = read_period(recorded_day.ledger, wanted, now_ms=now_ms).trades.select(wanted)
    path = tmp_path / "period.html"
    write_page(path, render_period_report(recorded_day.ledger, found, trades))
    assert path.stat().st_size < BYTES_MAX
    summary = DaySummary.build(recorded_day.ledger, recorded_day.session_id)
    with browser() as chromium:
        with opened(chromium, path, PHONE) as page:
            assert_fits(page, PHONE)
        with opened(chromium, path, DESK) as page:
            assert_fits(page, DESK)
            text = page.inner_text("body")
            for trade in summary.trades:
                assert f"{trade.why_entry}." in text
            assert "Profit factor" in text
            assert_sorts_and_filters(page, [trade.net_paise for trade in summary.trades])
