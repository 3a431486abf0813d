"""The token that the operator keeps: in a Prefect Secret block or in `.env`, at the start and a new one in mid-day."""

import pytest
from prefect.blocks.system import Secret
from pydantic import SecretStr

from tasks.broker import AuthenticationDead
from tasks.connect import read_given_token, read_token_block, tokens_for
from tasks.settings import Settings

BLOCK = "dhan-token-of-the-test"


@pytest.fixture
def block(prefect_server):
    """Write the block as the operator does in the UI."""
    return lambda token: Secret(value=SecretStr(token)).save(BLOCK, overwrite=True)


@pytest.fixture
def tokens(tmp_path):
    return tokens_for(Settings(_env_file=None, home=tmp_path, dhan_client_id="1", dhan_token_block=BLOCK))


def test_the_token_comes_from_the_block_and_a_new_one_too_when_it_died(block, tokens):
    block("CANARY-first")
    assert tokens.current() == "CANARY-first"
    assert not tokens.replace("CANARY-first"), "the block has no other one yet"
    block("CANARY-second")
    assert tokens.replace("CANARY-first")
    assert tokens.current() == "CANARY-second"


def test_without_the_block_it_says_so_and_shows_no_secret(prefect_server, tokens, caplog):
    assert read_token_block("no-such-block") == ""
    assert "no-such-block" in caplog.text
    with pytest.raises(AuthenticationDead, match="block"):
        tokens_for(
            Settings(_env_file=None, home=tokens._path.parent, dhan_client_id="2", dhan_token_block="no-such-block")
        ).current()


def test_a_block_is_a_way_to_a_token_for_live_and_paper(tmp_path):
    Settings(_env_file=None, home=tmp_path, dhan_client_id="1", dhan_token_block=BLOCK).check_mode("paper")


@pytest.fixture
def env_file(tmp_path, monkeypatch):
    """A `.env` of the test's own; call it to write it."""
    path = tmp_path / ".env"
    monkeypatch.setitem(Settings.model_config, "env_file", path)
    monkeypatch.delenv("BOT_DHAN_ACCESS_TOKEN", raising=False)

    def write(token, mode=0o600):
        path.write_text(f"BOT_DHAN_CLIENT_ID=1\nBOT_HOME={tmp_path}\nBOT_DHAN_ACCESS_TOKEN={token}\n")
        path.chmod(mode)

    return write


def test_a_new_token_in_the_file_is_taken_in_mid_day_without_a_restart(env_file):
    env_file("CANARY-of-the-morning")
    tokens = tokens_for(Settings())
    assert tokens.current() == "CANARY-of-the-morning"
    assert not tokens.replace("CANARY-of-the-morning"), "the file has no other one yet"
    assert read_given_token(Settings()) == "", (
        "what was there at the start is no news, when a minted one has died either"
    )
    env_file("CANARY-of-noon")
    assert tokens.current() == "CANARY-of-the-morning", "the file is read when the token is dead, not before"
    assert tokens.replace("CANARY-of-the-morning")
    assert tokens.current() == "CANARY-of-noon"


def test_a_file_that_is_broken_in_mid_day_costs_the_new_token_and_says_why(env_file, caplog):
    env_file("CANARY-of-the-morning")
    tokens = tokens_for(Settings())
    env_file("CANARY-of-noon", mode=0o644)
    assert not tokens.replace("CANARY-of-the-morning")
    assert "chmod 600" in caplog.text
    assert "CANARY" not in caplog.text
