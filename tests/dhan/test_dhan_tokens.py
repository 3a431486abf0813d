"""The access token: minted by PIN and TOTP, shared by all processes, replaced when dead, shown nowhere."""

import base64
import json
import stat
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import parse_qs, urlsplit

import pyotp
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from tasks.broker import AuthenticationDead, BrokerUnavailable
from tasks.broker.tokens import TokenSource, expiry_ms_of, totp
from tasks.clock import real_now_ms
from tasks.settings import PROJECT_FOLDER

PIN, SECRET, TOKEN = "CANARY-314159", "JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP", "CANARY-token"
MINTED = (200, {"dhanClientId": "1", "accessToken": "CANARY-minted", "expiryTime": "2026-11-24T08:00:00.000"})
MINTED_UNTIL_MS = 1795487400000
REFUSED = (401, {"errorCode": "DH-901", "errorMessage": f"Invalid PIN {PIN} or TOTP"})


def jwt(expiry_s):
    payload = base64.urlsafe_b64encode(json.dumps({"exp": expiry_s}).encode()).decode().rstrip("=")
    return f"e30.{payload}.c2ln"


@pytest.fixture
def make(tmp_path, scripted):
    def source(*, token=TOKEN, pin=PIN, secret=SECRET, waits=None):
        return TokenSource(
            client_id="1100000001",
            token=SecretStr(token),
            pin=SecretStr(pin),
            totp_secret=SecretStr(secret),
            auth_url=scripted.url,
            api_url=f"{scripted.url}/v2",
            home=tmp_path / "home",
            wait=(waits if waits is not None else []).append,
        )

    return source


def query_of(request):
    return parse_qs(urlsplit(request.split(b" ")[1].decode()).query)


@given(st.binary(min_size=14, max_size=40), st.integers(0, 2**33))
def test_the_six_digits_are_those_of_every_authenticator(key, at_s):
    secret = base64.b32encode(key).decode().rstrip("=")
    assert totp(secret, at_s) == pyotp.TOTP(secret).at(at_s)


@pytest.mark.parametrize(
    ("at_s", "digits"),
    [(59, "287082"), (1111111109, "081804"), (1234567890, "005924"), (2000000000, "279037"), (20000000000, "353130")],
)
def test_the_six_digits_are_those_of_rfc_6238(at_s, digits):
    assert totp("GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ", at_s) == digits


def test_a_secret_of_eighty_bits_works_and_lower_case_too():
    assert totp("JBSWY3DPEHPK3PXP", 0) == totp("jbswy3dpehpk3pxp", 0) == "282760"


def test_digits_in_place_of_the_secret_are_explained():
    with pytest.raises(AuthenticationDead, match="base32") as raised:
        totp("018765", 0)
    assert "018765" not in str(raised.value)


def test_the_given_token_is_used_as_it_is(make, scripted):
    assert make().current() == TOKEN
    assert scripted.requests == []


def test_without_a_token_one_is_minted(make, scripted):
    scripted.replies = [MINTED]
    assert make(token="").current() == "CANARY-minted"
    [request] = scripted.requests
    assert request.startswith(b"POST /app/generateAccessToken?")
    query = query_of(request)
    assert (query["dhanClientId"], query["pin"]) == (["1100000001"], [PIN])
    assert query["totp"][0] in {totp(SECRET, real_now_ms() // 1000 - late) for late in (0, 30)}


def test_without_a_token_and_a_way_to_one_it_says_so(make):
    with pytest.raises(AuthenticationDead, match="set them"):
        make(token="", pin="").current()


def test_a_dead_token_is_replaced_once_for_all_threads(make, scripted):
    scripted.replies = [MINTED]
    source = make()
    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(source.replace, [TOKEN] * 8))
    assert source.current() == "CANARY-minted"
    assert len(scripted.requests) == 1


def test_a_token_that_another_process_minted_is_taken_over(make, scripted):
    scripted.replies = [MINTED]
    first, second = make(), make()
    assert first.replace(TOKEN)
    assert second.current() == TOKEN
    assert second.replace(TOKEN)
    assert second.current() == "CANARY-minted"
    assert make().current() == "CANARY-minted"
    assert len(scripted.requests) == 1


def test_the_file_is_private_and_whole(make, scripted, tmp_path):
    scripted.replies = [MINTED]
    make().replace(TOKEN)
    [path] = (tmp_path / "home").glob("token-*.json")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    path.write_text('{"token": "half')
    assert make().current() == TOKEN


def test_a_token_that_the_operator_gave_later_is_preferred_to_an_older_one(make, scripted):
    scripted.replies = [MINTED]
    make().replace(TOKEN)
    newer = jwt(MINTED_UNTIL_MS // 1000 + 3600)
    assert make(token=newer).current() == newer
    assert make(token=jwt(MINTED_UNTIL_MS // 1000 - 3600)).current() == "CANARY-minted"


def test_what_cannot_be_minted_is_not_replaced(make, scripted):
    source = make(pin="")
    assert not source.replace(TOKEN)
    assert source.current() == TOKEN
    assert scripted.requests == []


def test_a_code_that_was_used_up_is_followed_by_the_next(make, scripted):
    scripted.replies = [REFUSED, MINTED]
    waits = []
    assert make(waits=waits).replace(TOKEN)
    assert len(waits) == 1
    assert 1 <= waits[0] <= 31


def test_a_wrong_pin_is_not_tried_again_and_again(make, scripted):
    scripted.replies = [REFUSED]
    source = make()
    for _ in range(3):
        with pytest.raises(AuthenticationDead, match="PIN"):
            source.replace(TOKEN)
    assert len(scripted.requests) == 2


def test_a_token_valid_long_enough_is_left_alone(make, scripted):
    token = jwt(2_000_000_000)
    assert make(token=token).ensure_valid_past(1_999_999_999_000) == 2_000_000_000_000
    assert scripted.requests == []


def test_a_token_that_ends_too_soon_is_minted_before(make, scripted):
    scripted.replies = [MINTED]
    source = make(token=jwt(1_700_000_000))
    assert source.ensure_valid_past(MINTED_UNTIL_MS - 1) == MINTED_UNTIL_MS
    assert source.current() == "CANARY-minted"


def test_without_a_pin_it_is_renewed_while_it_lives(make, scripted):
    scripted.replies = [(200, {"accessToken": jwt(1_800_000_000)})]
    token = jwt(1_790_000_000)
    source = make(token=token, pin="")
    assert source.ensure_valid_past(1_795_000_000_000) == 1_800_000_000_000
    [request] = scripted.requests
    assert request.startswith(b"GET /v2/RenewToken ")
    assert f"access-token: {token}".encode() in request
    assert b"dhanClientId: 1100000001" in request


def test_a_token_that_cannot_be_prolonged_is_refused_before_the_open(make, scripted):
    scripted.replies = [REFUSED]
    with pytest.raises(AuthenticationDead, match="not renewed"):
        make(token=jwt(1_790_000_000), pin="").ensure_valid_past(1_795_000_000_000)
    scripted.replies = [(200, {"accessToken": jwt(1_790_000_001)})]
    with pytest.raises(AuthenticationDead, match="ends before"):
        make(token=jwt(1_790_000_000), pin="").ensure_valid_past(1_795_000_000_000)


def test_a_token_that_does_not_say_when_it_ends_is_left_to_the_profile(make, scripted):
    assert make(pin="").ensure_valid_past(1) == 0
    assert scripted.requests == []


@pytest.mark.parametrize("reply", [(500, "x"), (502, "<html>"), "reset"])
def test_a_server_in_trouble_is_unavailable_and_asked_again(make, scripted, reply):
    scripted.replies = [reply, MINTED]
    source = make()
    with pytest.raises(BrokerUnavailable):
        source.replace(TOKEN)
    assert source.replace(TOKEN)


def test_secrets_show_nowhere(make, scripted, everything_logged, capfd):
    scripted.replies = [REFUSED, REFUSED, "reset"]
    seen = [repr(make()), repr(vars(make()))]
    with pytest.raises(AuthenticationDead) as refused:
        make().replace(TOKEN)
    with pytest.raises(BrokerUnavailable) as lost:
        make().replace(TOKEN)
    scripted.replies = [MINTED]
    make().replace(TOKEN)
    seen += [str(refused.value), repr(refused.value), str(lost.value), everything_logged.text, *capfd.readouterr()]
    assert any(PIN.encode() in request for request in scripted.requests)
    assert PIN not in "".join(seen)
    assert SECRET not in "".join(seen)
    shown = "".join(seen).replace(repr(make()._token), "")
    assert "CANARY-minted" not in shown


def test_two_processes_mint_one_token(make, scripted, tmp_path):
    scripted.replies = [MINTED]
    script = (
        "import sys; from pathlib import Path; from pydantic import SecretStr as S\n"
        "from tasks.broker.tokens import TokenSource\n"
        "url, home = sys.argv[1:]\n"
        f"source = TokenSource(client_id='1100000001', token=S('{TOKEN}'), pin=S('1'), totp_secret=S('{SECRET}'),\n"
        "                     auth_url=url, api_url=url, home=Path(home))\n"
        f"print(source.replace('{TOKEN}'), source.current())\n"
    )
    command = [sys.executable, "-c", script, scripted.url, str(tmp_path / "home")]
    started = [subprocess.Popen(command, cwd=PROJECT_FOLDER, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    said = [process.communicate(timeout=60)[0].split() for process in started]
    assert said == [["True", "CANARY-minted"]] * 3
    assert len(scripted.requests) == 1


def test_the_simulator_mints_and_renews(market_of_its_own, settings):
    source = TokenSource.from_settings(settings)
    until_ms = source.ensure_valid_past(market_of_its_own.now_ms() + 8 * 3_600_000)
    assert until_ms > market_of_its_own.now_ms() + 20 * 3_600_000
    minted = source.current()
    assert minted != settings.access_token.get_secret_value()
    assert source.replace(minted)
    assert source.current() != minted


@pytest.fixture
def market_of_its_own(exchange):
    return exchange


def test_only_a_token_of_the_jwt_kind_says_when_it_ends():
    assert expiry_ms_of(jwt(1_790_000_000)) == 1_790_000_000_000
    for other in ("", "simulator-token", "a.b.c", "a.e30.c", "...."):
        assert expiry_ms_of(other) == 0
