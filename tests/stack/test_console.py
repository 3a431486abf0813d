"""The operator's screen in a real browser: a person who has never seen it finds position, P&L and the stop button."""

import contextlib
import re
import shutil
from pathlib import Path

import pytest
import requests
from playwright.sync_api import expect, sync_playwright

from tasks.clock import Deadline, ist, real_now_ms

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

PATIENCE_MS = 60_000
SCREENSHOTS = Path(__file__).resolve().parents[2] / ".bot" / "screenshots"


@pytest.fixture(scope="session")
def chromium():
    """The system's browser."""
    path = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    assert path, "No Chromium on this machine: install it with 'make browser' (apt-get install chromium)."
    return path


@pytest.fixture
def page(chromium):
    """A page of a headless browser; what it shows is kept when the test fails inside `with keeping(page)`."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        context = browser.new_context(viewport={"width": 1400, "height": 900})
        context.set_default_timeout(PATIENCE_MS)
        yield context.new_page()
        browser.close()


@contextlib.contextmanager
def keeping(page):
    """Keep a picture of the page when something in the block fails, and say where."""
    try:
        yield
    except BaseException:
        SCREENSHOTS.mkdir(parents=True, exist_ok=True)
        path = SCREENSHOTS / f"console-{ist(real_now_ms()):%Y%m%d-%H%M%S}.png"
        page.screenshot(path=path, full_page=True)
        print(f"screenshot: {path}")
        raise


def see(page, text):
    """The page shows `text` (a string or a pattern) within a person's patience."""
    expect(page.get_by_text(text).first).to_be_visible(timeout=PATIENCE_MS)


def see_after_reloading(page, text):
    """As a person does: a page of an artifact does not renew itself."""
    deadline = Deadline(PATIENCE_MS / 1000)
    while True:
        try:
            expect(page.get_by_text(text).first).to_be_visible(timeout=5_000)
        except AssertionError:
            if deadline.passed:
                raise
            page.reload()
        else:
            return


def open_artifact(page, session, key):
    """From the session's run, as a person gets there: the tab Artifacts, then the card."""
    page.goto(f"{session.stack.ui_url}/runs/flow-run/{session.run_id}")
    page.get_by_text("Artifacts", exact=True).first.click()
    page.get_by_text(key, exact=True).last.click()


def test_position_result_and_the_stop_button_are_found_and_the_button_works(begin, hold, page):
    session = begin(speed=1, start="09:29:50", **hold)
    session.wait_for(session.position_is_open, "a position")
    (trade,) = session.ledger.trades(session.session_id)
    ui = session.stack.ui_url
    with keeping(page):
        # The list of runs names day, index and mode; the run's log says why it bought.
        page.goto(f"{ui}/runs")
        page.get_by_role("link", name="2026-11-20 NIFTY rehearsal").first.click()
        see(page, re.compile(rf"buy {trade.quantity} {re.escape(trade.contract_name)} at about .* SuperTrend"))
        see(page, re.compile("position and P&L: .*nifty-rehearsal-position"))

        # One click away: what is held, what it made.
        page.get_by_text("Artifacts", exact=True).first.click()
        see(page, "position, P&L, stop button (reload to renew)")
        page.get_by_text("nifty-rehearsal-position", exact=True).first.click()
        see(page, re.compile(r"NIFTY · rehearsal · [+-]?₹[\d,.]+ today"))
        see_after_reloading(page, f"{trade.quantity} × {trade.contract_name}")
        position_page = page.url

        # The chart is a picture that really loads.
        session.wait_for(lambda: session.has_artifact("nifty-rehearsal-chart"), "the chart")
        open_artifact(page, session, "nifty-rehearsal-chart")
        picture = page.locator('img[src^="data:image/png"]').first
        expect(picture).to_be_visible(timeout=PATIENCE_MS)
        assert picture.evaluate("image => image.naturalWidth") > 500

        # Stop: from the page of the position to a form, and Submit.
        page.goto(position_page)
        # A click opens the form in a tab of its own; here the same address in this one.
        page.goto(page.get_by_role("link", name="squareoff").first.get_attribute("href"))
        see(page, "Only this index")
        page.get_by_role("button", name="Submit").click()
        session.wait_for(lambda: not session.position_is_open(), "a flat position")
        assert all(position["net_quantity"] == 0 for position in session.truth()["positions"])
        (done,) = session.wait_for(
            lambda: [r for r in session.stack.runs_of("squareoff") if r["state"]["type"] == "COMPLETED"][-1:],
            "the squareoff's end",
        )
        page.goto(f"{ui}/runs/flow-run/{done['id']}")
        see(page, "SquaredOff")
        page.goto(position_page)
        see_after_reloading(page, "Nothing is held.")


def test_the_form_explains_each_setting_and_refuses_a_wrong_one(stack, page):
    api = stack.api_url
    deployment = requests.get(f"{api}/deployments/name/daily-session/sensex-paper", timeout=30).json()["id"]
    with keeping(page):
        page.goto(f"{stack.ui_url}/deployments/deployment/{deployment}/run")
        see(page, "Daily loss limit (rupees)")
        see(page, "At this gross loss of the day everything is closed and trading ends; 0 = off (not in live mode).")
        lots = page.locator("label", has_text="Lots").first.locator("xpath=following::input[1]")
        expect(lots).to_have_value("1")
        see(page, "Lots per entry, before risk sizing. Allowed: 1 to 500.")
        lots.fill("0")
        page.get_by_role("button", name="Submit").click()
        # The server's word, so the form itself had no objection to the defaults.
        see(page, re.compile("'params.lots'. Failure reason: 0 is less than the minimum of 1"))
    assert stack.runs_of("sensex-paper") == []
