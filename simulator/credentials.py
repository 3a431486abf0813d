"""Who may come in: the account's one live access token, PIN and TOTP, and the addresses that may send orders.

Invariants:
1. At most one token is alive; a new one kills the one before.
2. A token lives 24 hours of market time from its making.
"""

import base64
import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime

import pyotp

from strategy.calendar import IST

DEFAULT_CLIENT_ID = "1000000009"
DEFAULT_TOKEN = "simulator-token"  # noqa: S105 - opens a simulator, nothing else
DEFAULT_PIN = "123456"
DEFAULT_TOTP_SECRET = "JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP"  # noqa: S105 - as above
TOKEN_LIFE_MS = 24 * 3600 * 1000


@dataclass(slots=True)
class Credentials:
    """The account's login state. Times are market time, Unix milliseconds."""

    client_id: str
    token: str
    pin: str
    totp_secret: str
    now_ms: Callable[[], int]
    expires_ms: int = 0
    addresses: dict[str, str] = field(default_factory=lambda: {"PRIMARY": "127.0.0.1"})
    changed: dict[str, str] = field(default_factory=dict)
    _minted: int = 0

    def __post_init__(self) -> None:
        """The first token is made with the simulator."""
        self.expires_ms = self.now_ms() + TOKEN_LIFE_MS

    def accepts(self, token: str, client_id: str | None) -> bool:
        """Whether this token is the live one (and the client id, where one is given, the account's)."""
        return self.token_problem(token) is None and client_id in (None, self.client_id)

    def token_problem(self, token: str) -> str | None:
        """Dhan's data error code for this token: 809 not the live one, 807 expired; None when it is good."""
        if not token or token != self.token:
            return "809"
        return "807" if self.now_ms() >= self.expires_ms else None

    def kill(self) -> None:
        """The live token dies on the server's side."""
        self.token = ""

    def mint(self, pin: str, totp: str) -> str | None:
        """A new token for PIN and TOTP; None when one of them is wrong."""
        if pin != self.pin or not self._totp_fits(totp):
            return None
        return self.issue()

    def renew(self, token: str) -> str | None:
        """A new token for a live one; None when that is not alive."""
        return self.issue() if self.token_problem(token) is None else None

    def allows_orders_from(self, address: str) -> bool:
        """Whether orders may come from this address."""
        return address in self.addresses.values()

    def expiry_text(self) -> str:
        """The token's end as the login endpoint writes it: IST without an offset."""
        return datetime.fromtimestamp(self.expires_ms / 1000, IST).strftime("%Y-%m-%dT%H:%M:%S.000")

    def _totp_fits(self, totp: str) -> bool:
        # A rehearsal's market runs at another time than the wall clock that most authenticators read: both count.
        codes = pyotp.TOTP(self.totp_secret)
        moments = (self.now_ms() // 1000, round(time.time()))
        return any(codes.verify(totp, for_time=moment, valid_window=1) for moment in moments)

    def issue(self) -> str:
        """A new token; the one before dies."""
        self._minted += 1
        self.expires_ms = self.now_ms() + TOKEN_LIFE_MS
        claims = {
            "iss": "dhan", "dhanClientId": self.client_id, "exp": self.expires_ms // 1000, "jti": self._minted,
        }  # fmt: skip
        parts = [{"alg": "HS512", "typ": "JWT"}, claims]
        text = [base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=") for part in parts]
        self.token = ".".join([*text, f"simulated{self._minted}"])
        return self.token
