"""The account's access token: given, in mid-day too, minted by PIN and TOTP, or renewed; one for all processes.

Dhan keeps one token of an account alive: a new one kills the one before. So the token of the moment lies in a
private file under `home`, whoever finds it dead looks there first, and one process at a time mints another.

Invariants:
1. PIN, TOTP secret and tokens are in no error, log line or repr; the file is readable by its owner alone.
2. A token that another process has replaced is taken over, not replaced again.
3. A refused attempt to mint is not repeated within `_MINT_AGAIN_S`: a wrong PIN must not lock the account.
"""

import base64
import fcntl
import hashlib
import hmac
import json
import logging
import os
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlencode, urlsplit

from pydantic import SecretStr

from tasks.broker import AuthenticationDead, BrokerUnavailable
from tasks.broker.wire import WireError, moment_ms, parse_json
from tasks.clock import Deadline, Stopwatch, pause, real_now_ms
from tasks.settings import Settings

log = logging.getLogger(__name__)

_TIMEOUT_S: Final = 10.0
_LOCK_WAIT_S: Final = 90.0
_MINT_AGAIN_S: Final = 30.0
_TOTP_STEP_S: Final = 30


class TokenSource:
    """The token of one account. Safe from any thread and any process that shares `home`."""

    def __init__(
        self,
        *,
        client_id: str,
        token: SecretStr,
        pin: SecretStr,
        totp_secret: SecretStr,
        auth_url: str,
        api_url: str,
        home: Path,
        force_ipv4: bool = False,
        kept_elsewhere: Callable[[], str] = lambda: "",
        wait: Callable[[float], None] = pause,
    ) -> None:
        self._client_id = client_id
        self._given = token
        self._pin = pin
        self._totp_secret = totp_secret
        self._auth_url = auth_url
        self._api_url = api_url
        self._force_ipv4 = force_ipv4
        self._kept_elsewhere = kept_elsewhere
        self._wait = wait
        # The simulator's token and the account's own must never meet.
        account = hashlib.sha256(f"{client_id}@{auth_url}".encode()).hexdigest()[:16]
        self._path = home / f"token-{account}.json"
        self._lock = threading.RLock()
        self._refused: Stopwatch | None = None
        self._refusal = ""
        self._token, self._valid_until_ms = self._read_file() or (token.get_secret_value(), 0)
        if self._token and not self._valid_until_ms:
            self._valid_until_ms = expiry_ms_of(self._token)

    @classmethod
    def from_settings(cls, settings: Settings, kept_elsewhere: Callable[[], str] = lambda: "") -> "TokenSource":
        """The account's tokens, or the simulator's; `kept_elsewhere` is asked where none is given or it died."""
        return cls(
            client_id=settings.client_id,
            token=settings.access_token,
            pin=settings.pin,
            totp_secret=settings.totp_secret,
            auth_url=settings.auth_url,
            api_url=settings.api_url,
            home=settings.home,
            force_ipv4=settings.force_ipv4,
            kept_elsewhere=kept_elsewhere,
        )

    def current(self) -> str:
        """The token to use now; minted where there is none yet. AuthenticationDead, BrokerUnavailable."""
        if not self._token:
            with self._lock:
                if not self._token:
                    self.replace("")
        if not self._token:
            raise AuthenticationDead(
                "there is no access token, no block with one, and no PIN and TOTP secret to mint one: set them"
            )
        return self._token

    def replace(self, dead: str) -> bool:
        """Get another token than `dead`: another process's, or a new one. False where it cannot be had."""
        with self._lock:
            if self._token != dead:
                return True  # another thread was quicker
            with self._only_process():
                found = self._read_file()
                if found is not None and found[0] != dead:
                    self._token, self._valid_until_ms = found
                    return True
                kept = self._kept_elsewhere().strip()
                if kept and kept != dead:
                    self._token, self._valid_until_ms = kept, expiry_ms_of(kept)
                    self._write_file()
                    return True
                if not self._can_mint:
                    return False
                self._mint()
                return True

    def ensure_valid_past(self, at_ms: int) -> int:
        """Have a token that lives beyond `at_ms`; return until when it does, 0 where the token does not say.

        AuthenticationDead where its life ends before and it can be neither minted nor renewed.
        """
        with self._lock:
            if not self._token:
                self.current()
            if self._valid_until_ms > at_ms:
                return self._valid_until_ms
            with self._only_process():
                found = self._read_file()
                if found is not None and found[1] > at_ms:
                    self._token, self._valid_until_ms = found
                    return self._valid_until_ms
                if self._can_mint:
                    self._mint()
                elif self._valid_until_ms:
                    self._renew()
            if self._valid_until_ms and self._valid_until_ms <= at_ms:
                raise AuthenticationDead("the access token ends before the session does: make a new one at Dhan")
            return self._valid_until_ms

    @property
    def _can_mint(self) -> bool:
        return bool(self._pin.get_secret_value() and self._totp_secret.get_secret_value())

    def _mint(self) -> None:
        if self._refused is not None and self._refused.seconds < _MINT_AGAIN_S:
            raise AuthenticationDead("minting a token was refused a moment ago: check PIN and TOTP secret")
        if not self._minted():
            # A code counts once and for half a minute: the next one settles whether that was the matter.
            self._wait(_TOTP_STEP_S - real_now_ms() // 1000 % _TOTP_STEP_S + 1)
            if not self._minted():
                self._refused = Stopwatch()
                raise AuthenticationDead(f"no token was minted, {self._refusal}: check PIN and TOTP secret")
        self._refused = None
        log.info("minted an access token for client %s", self._client_id)

    def _minted(self) -> bool:
        query = urlencode(
            {
                "dhanClientId": self._client_id,
                "pin": self._pin.get_secret_value(),
                "totp": totp(self._totp_secret.get_secret_value(), real_now_ms() // 1000),
            }
        )
        return self._take(*self._request("POST", self._auth_url, f"/app/generateAccessToken?{query}", {}))

    def _renew(self) -> None:
        headers = {"access-token": self._token, "dhanClientId": self._client_id}
        if not self._take(*self._request("GET", self._api_url, "/RenewToken", headers)):
            raise AuthenticationDead(f"the token was not renewed, {self._refusal}: make a new one at Dhan")
        log.info("renewed the access token of client %s", self._client_id)

    def _take(self, status: int, found: Any) -> bool:
        """Make the token of a reply ours; False, and why in `_refusal`, where it holds none."""
        token = (found.get("accessToken") or found.get("token")) if isinstance(found, dict) else None
        if not isinstance(token, str) or not token.strip():
            self._refusal = f"HTTP {status}, {self._reason(found)}"
            return False
        try:
            valid_until_ms = moment_ms(found.get("expiryTime"))
        except WireError:
            valid_until_ms = 0
        self._token = token.strip()
        self._valid_until_ms = valid_until_ms or expiry_ms_of(self._token)
        self._write_file()
        return True

    def _reason(self, found: Any) -> str:
        """The server's words, should it have any; never ours that it may repeat."""
        words = "no reason given"
        if isinstance(found, dict):
            words = str(found.get("errorMessage") or found.get("message") or found.get("remarks") or words)
        for secret in (self._pin.get_secret_value(), self._totp_secret.get_secret_value(), self._token):
            words = words.replace(secret, "***") if secret else words
        return words[:200]

    def _request(self, method: str, base: str, path: str, headers: dict[str, str]) -> tuple[int, Any]:
        """One request by the standard library, which logs no address: this one carries the PIN."""
        parts = urlsplit(base)
        source = ("0.0.0.0", 0) if self._force_ipv4 else None  # noqa: S104  # an outgoing socket
        kind = HTTPSConnection if parts.scheme == "https" else HTTPConnection
        connection = kind(parts.hostname or "", parts.port, timeout=_TIMEOUT_S, source_address=source)
        try:
            connection.request(method, parts.path + path, headers={"Accept": "application/json", **headers})
            reply = connection.getresponse()
            body = reply.read(1 << 20)
        except (OSError, HTTPException, ValueError) as error:
            raise BrokerUnavailable(f"cannot reach {parts.hostname}: {type(error).__name__}") from None
        finally:
            connection.close()
        if reply.status >= 500:
            raise BrokerUnavailable(f"{parts.hostname} answered HTTP {reply.status}")
        try:
            return reply.status, parse_json(body)
        except WireError:
            return reply.status, None

    def _read_file(self) -> tuple[str, int] | None:
        try:
            stored = json.loads(self._path.read_text(encoding="utf-8"))
            token, valid_until_ms = str(stored["token"]), int(stored["valid_until_ms"])
        except (OSError, ValueError, KeyError, TypeError):
            return None
        # What the operator gave after this file was written is newer than the file.
        given = self._given.get_secret_value()
        if given and expiry_ms_of(given) > valid_until_ms > 0:
            return None
        return token, valid_until_ms

    def _write_file(self) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        fresh = self._path.with_suffix(f".{os.getpid()}.{threading.get_ident()}")
        stored = json.dumps({"token": self._token, "valid_until_ms": self._valid_until_ms})
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        try:
            os.write(descriptor, stored.encode())
        finally:
            os.close(descriptor)
        fresh.replace(self._path)

    @contextmanager
    def _only_process(self) -> Iterator[None]:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        lock = os.open(self._path.with_suffix(".lock"), os.O_RDWR | os.O_CREAT, 0o600)
        deadline = Deadline(_LOCK_WAIT_S)
        try:
            while True:
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if deadline.passed:
                        raise BrokerUnavailable("another process is minting a token and does not end") from None
                    pause(0.05)
            yield
        finally:
            os.close(lock)


def totp(secret: str, at_s: int) -> str:
    """The six digits of RFC 6238 (SHA-1, 30 s). Takes secrets of any length: brokers hand out 80 bits too."""
    padded = secret.upper() + "=" * (-len(secret) % 8)
    try:
        key = base64.b32decode(padded)
    except ValueError:
        raise AuthenticationDead("the TOTP secret is not base32: copy the text key, not the six digits") from None
    digest = hmac.new(key, struct.pack(">Q", at_s // _TOTP_STEP_S), hashlib.sha1).digest()
    offset = digest[-1] & 0x0F
    number = int.from_bytes(digest[offset : offset + 4]) & 0x7FFF_FFFF
    return f"{number % 1_000_000:06d}"


def expiry_ms_of(token: str) -> int:
    """When a token of the JWT kind ends, as it says itself; 0 for any other."""
    parts = token.split(".")
    if len(parts) != 3:
        return 0
    try:
        payload = json.loads(base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))
        return int(payload["exp"]) * 1000
    except (ValueError, KeyError, TypeError):
        return 0
