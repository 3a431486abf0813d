"""The operator's screens: in a real browser a person who has never seen it finds position, P&L and the stop button;
in a terminal `bot watch` and `bot status` say the same of the same session.
"""

import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
import termios
from fcntl import ioctl
from pathlib import Path
from urllib.parse import urljoin

import pytest
from playwright.sync_api import expect, sync_playwright

from tasks.clock import Deadline, ist, pause, real_now_ms
from tasks.pages.money import average_paise, render_points

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

PATIENCE_MS = 60_000
PROJECT = Path(__file__).resolve().parents[2]
SCREENSHOTS = PROJECT / ".bot" / "screenshots"
BOT = Path(sys.executable).with_name("bot")
CTRL_C = b"\x03"


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


class Terminal:
    """A `bot` command in a terminal of its own; what it shows, as a person reads it."""

    def __init__(self, session, *words):
        self.keys, terminal = os.openpty()
        termios.tcsetwinsize(terminal, (50, 80))
        self.process = subprocess.Popen(
            [BOT, *words],
            cwd=PROJECT,
            env={
                **os.environ,
                **session.stack.environment,
                "COLUMNS": "80",
                "TERM": "xterm-256color",
                "LANG": "C.UTF-8",
            },
            stdin=terminal,
            stdout=terminal,
            stderr=terminal,
            start_new_session=True,
            preexec_fn=lambda: ioctl(0, termios.TIOCSCTTY, 0),  # noqa: PLW1509 (one call; else Ctrl-C is only a byte)
        )
        os.close(terminal)
        os.set_blocking(self.keys, False)
        self._read = ""

    def see(self, *patterns, since=0):
        """Wait until each is shown, after the first `since` signs; the whole text then."""
        deadline = Deadline(PATIENCE_MS / 1000)
        while missing := [each for each in patterns if not re.search(each, self.text()[since:])]:
            assert not deadline.passed, f"the terminal never showed {missing}:\n{self.text()[-3000:]}"
            pause(0.1)
        return self.text()

    def text(self):
        with contextlib.suppress(BlockingIOError, OSError):  # nothing new, or the command has ended
            while chunk := os.read(self.keys, 65_536):
                self._read += chunk.decode(errors="replace")
        return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", self._read)

    def press(self, keys):
        os.write(self.keys, keys)

    def close(self):
        self.process.kill()
        self.process.wait()
        os.close(self.keys)


def told_by_status(session):
    """What `bot status --json` says of the session."""
    done = subprocess.run(
        [BOT, "status", "--json"],
        cwd=PROJECT,
        env={**os.environ, **session.stack.environment},
        capture_output=True,
        text=True,
        check=True,
    )
    (status,) = json.loads(done.stdout)
    return status


def submit(page):
    """Press Submit as a person does: again, where the busy server said no."""
    form, deadline = page.url, Deadline(PATIENCE_MS / 1000)
    while page.url == form:
        assert not deadline.passed, "the form stays"
        page.get_by_role("button", name="Submit").click()
        with contextlib.suppress(AssertionError):
            expect(page).not_to_have_url(form, timeout=10_000)


def follow(page, name):
    """Where the link leads; a click would open it in a tab of its own, here it is the same one."""
    address = page.get_by_role("link", name=name).first.get_attribute("href")
    page.goto(urljoin(page.url, address))


def test_position_result_and_the_stop_button_are_found_and_the_button_works(begin, hold, page):
    session = begin(speed=1, start="09:29:50", **{**hold, "stop_loss_points": 60})
    session.wait_for(session.position_is_open, "a position")
    (trade,) = session.ledger.trades(session.session_id)
    held = f"{trade.quantity} × {re.escape(trade.contract_name.removeprefix('NIFTY '))}"
    stop = render_points(average_paise(trade.buy_value_paise, trade.quantity) - 60_00)
    ui = session.stack.ui_url
    with keeping(page), contextlib.closing(Terminal(session, "watch")) as terminal:
        # In a terminal: state, position, stop and result, renewed by itself.
        shown = terminal.see(
            r"NIFTY · rehearsal · .* · trading at", rf"{held} .*{re.escape(stop)}", r"₹[\d.,]+ net so far"
        )
        first = re.search(r"trading at ([\d:]{8})", shown)[1]
        terminal.see(rf"trading at (?!{first})[\d:]{{8}}", since=len(shown))
        status = told_by_status(session)
        assert (status["alive"], status["abandoned"], status["session_id"]) == (True, False, session.session_id)
        (position,) = status["positions"]
        assert (position["contract"], position["quantity"]) == (trade.contract_name, trade.quantity)
        # What it trades with is the same in the ledger and in the run.
        (start,) = session.ledger.starts(session.session_id)
        (settings,) = session.has_artifact("nifty-rehearsal-settings")
        assert f"Code {start.code_version}, market facts {start.facts_version}." in settings["data"]
        assert start.params["stop_loss_points"] == 60
        assert "Stop loss" in settings["data"]

        # The list of runs names day, index and mode; the run's log says why it bought.
        page.goto(f"{ui}/runs")
        page.get_by_role("link", name="2026-11-20 NIFTY rehearsal").first.click()
        see(page, re.compile(rf"buy {trade.quantity} {re.escape(trade.contract_name)} at about .* SuperTrend"))
        address = f"{ui}/artifacts/key/nifty-rehearsal-position"
        see(page, f"position, P&L and stop button: this run's tab Artifacts, or {address}")

        # One click away: what is held, what it made.
        page.get_by_text("Artifacts", exact=True).first.click()
        see(page, "position, P&L, stop button (reload to renew)")
        page.get_by_text("nifty-rehearsal-position", exact=True).first.click()
        see(page, re.compile(r"NIFTY · rehearsal · [+-]?₹[\d,.]+ today"))
        see_after_reloading(page, f"{trade.quantity} × {trade.contract_name}")

        # The address that the log tells is the same every day and lists the newest first.
        session.wait_for(lambda: session.has_artifact("nifty-rehearsal-chart"), "the chart")
        page.goto(address)
        page.locator("a[href^='/artifacts/artifact/']").first.click()
        see_after_reloading(page, "More: ")
        position_page = page.url

        # From there to the chart, a picture that really loads, and back.
        follow(page, "chart")
        picture = page.locator('img[src^="data:image/png"]').first
        expect(picture).to_be_visible(timeout=PATIENCE_MS)
        assert picture.evaluate("image => image.naturalWidth") > 500

        # Stop: from the page of the position to a form, and Submit.
        follow(page, "position, P&L, stop button")
        assert page.url == position_page
        follow(page, "squareoff")
        see(page, "Only this index")
        submit(page)
        session.wait_for(lambda: not session.position_is_open(), "a flat position")
        assert all(position["net_quantity"] == 0 for position in session.truth()["positions"])
        (done,) = session.wait_for(
            lambda: [r for r in session.stack.runs_of("squareoff") if r["state"]["type"] == "COMPLETED"][-1:],
            "the squareoff's end",
        )
        page.goto(f"{ui}/runs/flow-run/{done['id']}")
        see(page, "SquaredOff")
        page.goto(position_page)
        see_after_reloading(page, "closed for the day")
        see(page, "Nothing is held.")

        terminal.see("Nothing is held.", "halted", "for .*gross")
        terminal.press(CTRL_C)
        assert terminal.process.wait(PATIENCE_MS / 1000) == 0
        assert "Traceback" not in terminal.text()


def test_the_form_explains_each_setting_and_refuses_a_wrong_one(stack, page):
    deployment = stack.api.call("GET", "/deployments/name/daily-session/sensex-paper")["id"]
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
