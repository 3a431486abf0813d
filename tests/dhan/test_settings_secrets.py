"""Settings: secrets show nowhere, a rehearsal cannot reach Dhan, and what contradicts the mode is refused at once."""

import os
import pickle
import traceback

import pytest
from pydantic import ValidationError

from tasks.settings import PROJECT_FOLDER, Settings, SettingsRefused, is_loopback

SECRETS = {
    "BOT_DHAN_ACCESS_TOKEN": "CANARY-token",
    "BOT_DHAN_PIN": "CANARY-pin",
    "BOT_DHAN_TOTP_SECRET": "CANARY-totp",
    "BOT_NOTIFY_URLS": "tgram://CANARY-bot/1 json://CANARY-host/",
    "BOT_LEDGER_URL": "postgresql+psycopg://bot:CANARY-password@db/ledger",
}
LIVE = {"dhan_client_id": "1100000001", "dhan_access_token": "token"}


def settings(**values):
    return Settings(_env_file=None, **values)


def env_file(folder, text, mode=0o600):
    path = folder / ".env"
    path.write_text(text)
    path.chmod(mode)
    return path


@pytest.fixture
def with_secrets(monkeypatch):
    for name, value in SECRETS.items():
        monkeypatch.setenv(name, value)


@pytest.mark.usefixtures("with_secrets")
def test_a_secret_shows_in_no_rendering():
    found = settings()
    shown = [repr(found), str(found), f"{found}", repr(found.notify_urls), str(found.access_token)]
    shown += [found.model_dump_json(exclude={"ledger_url"}), repr(found.model_dump(exclude={"ledger_url"}))]
    assert "CANARY" not in "".join(shown)
    assert found.access_token.get_secret_value() == "CANARY-token"
    assert [url.get_secret_value() for url in found.notify_urls] == ["tgram://CANARY-bot/1", "json://CANARY-host/"]
    assert found.ledger_url.endswith("/ledger")


@pytest.mark.usefixtures("with_secrets")
@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("BOT_LOG_LEVEL", "CANARY-level"),
        ("BOT_FORCE_IPV4", "CANARY-flag"),
        ("BOT_NOTIFY_URLS", '["json://CANARY-host/"'),
        ("BOT_DHAN_PIN", ""),
    ],
)
def test_a_secret_shows_in_no_error(name, value, monkeypatch):
    monkeypatch.setenv(name, value)
    with pytest.raises((ValidationError, SettingsRefused)) as raised:
        settings(simulator_url="http://example.com").check_mode("live")
    error = raised.value
    assert "CANARY" not in str(error) + repr(error) + "".join(traceback.format_exception(error))


def test_the_environment_comes_before_the_file(tmp_path, monkeypatch):
    path = env_file(tmp_path, "BOT_DHAN_CLIENT_ID=file\nBOT_LOG_LEVEL=debug\nOTHER=1\n")
    monkeypatch.setenv("BOT_DHAN_CLIENT_ID", "environment")
    found = Settings(_env_file=path)
    assert (found.dhan_client_id, found.log_level) == ("environment", "DEBUG")


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o644, 0o660, 0o777])
def test_a_file_that_others_may_read_is_refused_with_the_remedy(tmp_path, mode):
    path = env_file(tmp_path, "BOT_DHAN_PIN=CANARY", mode)
    with pytest.raises(SettingsRefused, match="chmod 600") as raised:
        Settings(_env_file=path)
    assert "CANARY" not in str(raised.value)


def test_a_misspelt_name_in_the_file_is_refused_and_its_value_not_shown(tmp_path):
    with pytest.raises(SettingsRefused, match="BOT_DHAN_TOTP_SECERT") as raised:
        Settings(_env_file=env_file(tmp_path, "BOT_DHAN_TOTP_SECERT=CANARY"))
    assert "CANARY" not in str(raised.value)


def test_a_line_break_copied_along_with_a_token_does_not_count():
    assert settings(dhan_access_token=" abc\n.def\r\n").dhan_access_token.get_secret_value() == "abc.def"


def test_notify_addresses_come_from_a_private_file(tmp_path):
    path = tmp_path / "notify"
    path.write_text("# where alerts go\njson://one/\n\njson://two/\n")
    path.chmod(0o600)
    assert len(settings(notify_urls=f"@{path}").notify_urls) == 2
    path.chmod(0o644)
    with pytest.raises(ValueError, match="0600"):
        settings(notify_urls=f"@{path}")


def test_notify_addresses_come_as_a_list():
    assert len(settings(notify_urls='["json://one/", "json://two/"]').notify_urls) == 2
    assert settings().notify_urls == ()


def test_everything_derives_from_the_simulator():
    found = settings(simulator_url="http://127.0.0.1:4711/", dhan_access_token="CANARY", dhan_client_id="1100000001")
    assert found.api_url == "http://127.0.0.1:4711/v2"
    assert found.auth_url == "http://127.0.0.1:4711"
    assert found.feed_url == "ws://127.0.0.1:4711/market-feed"
    assert found.order_update_url == "ws://127.0.0.1:4711/order-update"
    assert found.master_url == "http://127.0.0.1:4711/api-data/api-scrip-master-detailed.csv"
    # The account's own credentials are not sent to it.
    assert found.access_token.get_secret_value() != "CANARY"
    assert found.client_id != "1100000001"


def test_without_a_simulator_the_addresses_are_dhan_s():
    found = settings(**LIVE)
    assert found.api_url == "https://api.dhan.co/v2"
    assert found.feed_url == "wss://api-feed.dhan.co"
    assert found.access_token.get_secret_value() == "token"


REFUSED = {
    "a rehearsal without a simulator": ("rehearsal", {}, "BOT_SIMULATOR_URL is not set"),
    "a rehearsal away from this machine": ("rehearsal", {"simulator_url": "http://10.0.0.1:80"}, "http://10.0.0.1"),
    "a rehearsal at Dhan": ("rehearsal", {"simulator_url": "https://api.dhan.co"}, "on this machine"),
    "a rehearsal at a lookalike": ("rehearsal", {"simulator_url": "http://127.0.0.1.evil.example"}, "on this machine"),
    "live at the simulator": ("live", LIVE | {"simulator_url": "http://127.0.0.1:1"}, "BOT_SIMULATOR_URL is set"),
    "paper at the simulator": ("paper", LIVE | {"simulator_url": "http://127.0.0.1:1"}, "BOT_SIMULATOR_URL is set"),
    "live without a client": ("live", {"dhan_access_token": "t"}, "BOT_DHAN_CLIENT_ID"),
    "live without a token": ("live", {"dhan_client_id": "1"}, "no way to a token"),
    "live with a PIN alone": ("live", {"dhan_client_id": "1", "dhan_pin": "1"}, "no way to a token"),
    "live without TLS": ("live", LIVE | {"dhan_api_url": "http://api.dhan.co/v2"}, "https:// at dhan.co"),
    "live at a lookalike": ("live", LIVE | {"dhan_feed_url": "wss://dhan.co.example"}, "BOT_DHAN_FEED_URL"),
    "live at this machine": ("live", LIVE | {"dhan_auth_url": "https://127.0.0.1"}, "BOT_DHAN_AUTH_URL"),
    "a mode that is none": ("demo", LIVE, "expected rehearsal, paper or live"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_settings_that_contradict_the_mode_are_refused(case):
    mode, values, reason = REFUSED[case]
    with pytest.raises(SettingsRefused, match=reason):
        settings(**values).check_mode(mode)


@pytest.mark.parametrize("mode", ["paper", "live"])
def test_every_fault_is_named_at_once(mode):
    with pytest.raises(SettingsRefused) as raised:
        settings(simulator_url="http://127.0.0.1:1", dhan_api_url="http://x").check_mode(mode)
    for name in ("BOT_SIMULATOR_URL", "BOT_DHAN_CLIENT_ID", "BOT_DHAN_ACCESS_TOKEN", "BOT_DHAN_API_URL"):
        assert name in str(raised.value)


def test_settings_that_fit_pass():
    settings(simulator_url="http://127.0.0.1:4711").check_mode("rehearsal")
    settings(simulator_url="http://localhost:4711").check_mode("rehearsal")
    settings(**LIVE).check_mode("live")
    settings(dhan_client_id="1", dhan_pin="123456", dhan_totp_secret="JBSWY3DPEHPK3PXP").check_mode("paper")
    settings(**LIVE, dhan_api_url="https://sandbox.dhan.co/v2").check_mode("live")


def test_the_ledger_lies_at_home_unless_it_is_elsewhere(tmp_path):
    assert settings(home=tmp_path).ledger_url == f"sqlite:///{tmp_path}/ledger.sqlite3"
    assert settings().ledger_url == f"sqlite:///{PROJECT_FOLDER}/.bot/ledger.sqlite3"
    assert settings(ledger_url="sqlite:///x").ledger_url == "sqlite:///x"


def test_settings_do_not_change_and_travel_to_another_process():
    found = settings(**LIVE)
    with pytest.raises(ValidationError):
        found.home = "/"
    assert pickle.loads(pickle.dumps(found)) == found


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("http://127.0.0.1:1", True),
        ("http://127.8.9.1", True),
        ("ws://[::1]:1/x", True),
        ("http://localhost", True),
        ("http://0.0.0.0", False),
        ("http://example.com", False),
        ("http://localhost.example", False),
        ("", False),
    ],
)
def test_loopback_is_this_machine_and_nothing_else(url, expected):
    assert is_loopback(url) is expected


def test_the_caller_s_environment_does_not_leak_into_these_tests():
    assert not any(name.startswith("BOT_") for name in os.environ)
