"""The token from a Prefect Secret block, with a real Prefect server: at the start, and a new one in mid-day."""

import pytest
from prefect.blocks.system import Secret
from pydantic import SecretStr

from tasks.broker import AuthenticationDead
from tasks.connect import read_token_block, tokens_for
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
