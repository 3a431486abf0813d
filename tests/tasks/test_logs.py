"""The log of a job: JSON lines that say whose they are, without secrets, in files that stay bounded; the UI's share too."""

import json
import logging
import stat
from datetime import date
from urllib.parse import quote

import pytest

from strategy.instruments import Underlying
from tasks.ledger.records import SessionKey
from tasks.logs import FILES_KEPT, Bound, Mask, keeping_log, logged
from tasks.settings import Settings

KEY = SessionKey(account="1000000009", underlying=Underlying.NIFTY, mode="live", day=date(2026, 11, 20))
LOG = logging.getLogger("tasks.test")


@pytest.fixture
def settings(tmp_path):
    return Settings(
        _env_file=None,
        home=tmp_path,
        dhan_access_token="CANARY-access-token",
        dhan_pin="836251",
        dhan_totp_secret="CANARYTOTPSECRET",
        ledger_url="postgresql+psycopg://bot:CANARY+pass@db/ledger",
        notify_urls=("trades=tgram://CANARY-bot-token/1", "mailto://me:CANARY-mail-pass@example.com"),
    )


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.mark.parametrize("passed_on", [True, False])
def test_each_line_says_whose_it_is(settings, monkeypatch, passed_on):
    """Also where Prefect's loggers pass nothing on, as they do once a flow has run."""
    monkeypatch.setattr(logging.getLogger("prefect"), "propagate", passed_on)
    with keeping_log(settings, job="session", run_id="0a1b2c3d-run", session=KEY) as path:
        LOG.info("bought %d", 65)
        logging.getLogger("prefect.engine").warning("from the flow")
    LOG.info("afterwards")
    assert path.name == "2026-11-20-nifty-live-session-0a1b2c3d.jsonl"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    first, second = lines(path)
    about = {"run": "0a1b2c3d-run", "account": "1000000009", "index": "NIFTY", "mode": "live", "day": "2026-11-20"}
    assert first == first | about | {"message": "bought 65", "level": "INFO", "logger": "tasks.test"}
    assert second["message"] == "from the flow"
    assert first["at"].endswith("+05:30")


def test_the_level_is_the_settings(settings):
    with keeping_log(settings.model_copy(update={"log_level": "WARNING"}), job="x", run_id="r") as path:
        LOG.info("quiet")
        LOG.warning("loud")
    assert [line["message"] for line in lines(path)] == ["loud"]


SECRETS = ("CANARY-access-token", "836251", "CANARYTOTPSECRET", "CANARY+pass", "CANARY-bot-token", "CANARY-mail-pass")


@pytest.mark.parametrize("secret", SECRETS[:4])
def test_no_secret_of_the_settings_in_a_message_its_values_or_a_traceback(settings, secret):
    with keeping_log(settings, job="x", run_id="r") as path:
        LOG.info("refused: %s", {"sent": secret})
        LOG.warning("in a URL: https://x/?a=%s", quote(secret, safe=""))
        try:
            date.fromisoformat(f"it was {secret}")
        except ValueError:
            LOG.exception("failed")
    text = path.read_text()
    assert secret not in text
    assert quote(secret, safe="") not in text
    assert text.count("***") == 3
    assert "it was ***" in lines(path)[-1]["traceback"]


def test_whole_notification_addresses_and_their_passwords_are_masked(settings):
    with keeping_log(settings, job="x", run_id="r") as path:
        LOG.error("sent to mailto://me:CANARY-mail-pass@example.com and trades=tgram://CANARY-bot-token/1")
    assert "CANARY" not in path.read_text()


def test_other_handlers_get_the_masked_record_too(settings, capsys):
    console = logging.StreamHandler()
    logging.getLogger().addHandler(console)
    try:
        with keeping_log(settings, job="x", run_id="r"):
            LOG.warning("the token is CANARY-access-token")
    finally:
        logging.getLogger().removeHandler(console)
    shown = capsys.readouterr().err
    assert "the token is ***" in shown
    assert "CANARY" not in shown


def test_a_pin_is_masked_where_it_stands_alone_and_prices_stay():
    mask = Mask(["1234"])
    assert mask.text("pin=1234, price 512345, id 1234A") == "pin=***, price 512345, id 1234A"


def record(level, second):
    made = logging.LogRecord("tasks", level, "", 0, "line %d", (second,), None)
    made.created = float(second)
    return made


def test_the_ui_gets_so_many_quiet_lines_a_minute_every_loud_one_and_the_count_of_the_rest():
    bound = Bound(per_minute=3)
    quiet = [bound.filter(record(logging.INFO, second)) for second in range(10)]
    assert quiet == [True] * 3 + [False] * 7
    loud = record(logging.WARNING, 11)
    assert bound.filter(loud)
    assert loud.getMessage() == "line 11  (7 lines before this one are only in the log file)"
    again = record(logging.INFO, 61)
    assert bound.filter(again)
    assert again.getMessage() == "line 61"


def test_old_files_go(settings):
    folder = settings.home / "logs"
    folder.mkdir()
    for number in range(FILES_KEPT + 5):
        (folder / f"old{number}.jsonl").touch()
    with keeping_log(settings, job="x", run_id="r") as path:
        LOG.info("new")
    assert path.exists()
    assert len(list(folder.iterdir())) == FILES_KEPT


def test_a_folder_that_cannot_be_written_costs_the_file_not_the_day(settings, tmp_path):
    (tmp_path / "logs").write_text("a file where the folder should be")
    with keeping_log(settings, job="x", run_id="r"):
        LOG.info("goes on")


def test_afterwards_nothing_is_left_behind(settings):
    def hung():
        names = ("", "prefect", "prefect.flow_runs", "tasks")
        return [
            (name, logger.level, list(logger.handlers), [list(handler.filters) for handler in logger.handlers])
            for name in names
            for logger in [logging.getLogger(name)]
        ]

    before = hung()
    with pytest.raises(RuntimeError), keeping_log(settings, job="x", run_id="r"):
        raise RuntimeError
    assert hung() == before


def test_a_job_of_the_evening_keeps_its_log(settings, monkeypatch):
    monkeypatch.setenv("BOT_HOME", str(settings.home))

    @logged("analytics")
    def work(session_id):
        LOG.info("priced %s", session_id)
        return 7

    assert work(KEY.session_id) == 7
    (path,) = (settings.home / "logs").glob("2026-11-20-nifty-live-analytics-*.jsonl")
    assert lines(path)[0]["index"] == "NIFTY"
