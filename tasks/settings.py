"""What the machine knows and the operator does not type twice: addresses, places and secrets.

Values come from the environment (prefix `BOT_`) and from `.env` in the project folder, environment first.

Invariants:
1. A secret shows in no repr, no text and no error; it leaves through `get_secret_value()` alone.
2. A `.env` that others may read is refused, and so is a `BOT_` key in it that nobody knows (a typing error
   in the name of a secret must not look like a missing secret).
3. With `simulator_url` set every Dhan address derives from it and the credentials are the simulator's own, so
   a rehearsal cannot reach Dhan. `check_mode` refuses what contradicts the mode.
"""

import ipaddress
import json
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, field_validator, model_validator
from pydantic_settings import (
    BaseSettings,
    DotEnvSettingsSource,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

PROJECT_FOLDER = Path(__file__).resolve().parents[1]
PREFIX = "BOT_"

# Who the bot is to the simulator. Real credentials are never sent to it, not even over loopback.
REHEARSAL_CLIENT_ID = "1000000009"
REHEARSAL_ACCESS_TOKEN = "simulator-token"  # noqa: S105  # opens the simulator, nothing else
REHEARSAL_PIN = "123456"
REHEARSAL_TOTP_SECRET = "JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP"  # noqa: S105  # as above

_OTHERS_MAY_READ = stat.S_IRGRP | stat.S_IROTH | stat.S_IWGRP | stat.S_IWOTH


class SettingsRefused(ValueError):
    """The settings contradict the mode or are not safe; the message lists every fault and what to do."""


class Settings(BaseSettings):
    """Everything that depends on this machine and this account."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        env_file=PROJECT_FOLDER / ".env",
        env_ignore_empty=True,
        extra="ignore",
        frozen=True,
        hide_input_in_errors=True,
        str_strip_whitespace=True,
    )

    dhan_client_id: str = ""
    dhan_access_token: SecretStr = SecretStr("")
    # The name of a Prefect Secret block with the token in it, where it is kept in the UI.
    dhan_token_block: str = ""
    dhan_pin: SecretStr = SecretStr("")
    dhan_totp_secret: SecretStr = SecretStr("")

    dhan_api_url: str = "https://api.dhan.co/v2"
    dhan_auth_url: str = "https://auth.dhan.co"
    dhan_feed_url: str = "wss://api-feed.dhan.co"
    dhan_order_update_url: str = "wss://api-order-update.dhan.co"
    dhan_master_url: str = "https://images.dhan.co/api-data/api-scrip-master-detailed.csv"
    simulator_url: str = ""

    # The commit that an image was built from; a checkout knows its own.
    commit: str = ""
    home: Path = PROJECT_FOLDER / ".bot"
    # A database address may carry a password: it is read, not shown.
    ledger_url: str = Field(default="", repr=False)
    notify_urls: Annotated[tuple[SecretStr, ...], NoDecode] = ()
    facts_file: Path | None = None
    # Rupees that all sessions of the account may lose in a day together, realised and net; 0: no such limit.
    account_daily_loss_limit: float = Field(default=0, ge=0, allow_inf_nan=False)
    # Dhan's own P&L exit as a second backstop, for the case that this machine is dead: at one and a half times the
    # account's daily loss limit Dhan itself closes what is held. It covers products INTRADAY and DELIVERY, so sessions
    # with `product: INTRADAY`; positions of product MARGIN it does not cover.
    broker_backstop: bool = False
    # Whether each step of a trailing stop is worth a message.
    notify_stop_moves: bool = False
    force_ipv4: bool = True
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Environment over `.env`; the file is looked at before it is believed."""
        if isinstance(dotenv_settings, DotEnvSettingsSource) and isinstance(dotenv_settings.env_file, (str, Path)):
            refuse_readable_by_others(Path(dotenv_settings.env_file))
            _refuse_unknown_keys(Path(dotenv_settings.env_file), settings_cls, dotenv_settings.env_vars)
        return init_settings, env_settings, dotenv_settings, file_secret_settings

    @field_validator("notify_urls", mode="before")
    @classmethod
    def _read_notify_urls(cls, value: Any) -> Any:
        """A JSON list, addresses with blanks between, or `@path` of a private file, one address a line."""
        if not isinstance(value, str):
            return value
        if value.startswith("@"):
            path = Path(value[1:]).expanduser()
            refuse_readable_by_others(path)
            lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines()]
            return tuple(line for line in lines if line and not line.startswith("#"))
        if value.startswith("["):
            try:
                return tuple(json.loads(value))
            except json.JSONDecodeError:
                # The decoder's own error carries the text, which is secret.
                raise ValueError("expected a JSON list of addresses, found something else") from None
        return tuple(value.split())

    @field_validator("dhan_access_token", "dhan_pin", "dhan_totp_secret", mode="after")
    @classmethod
    def _strip_secret(cls, value: SecretStr) -> SecretStr:
        """A line break copied along would be refused, and shown, by the HTTP library."""
        return SecretStr("".join(value.get_secret_value().split()))

    @field_validator("simulator_url", "dhan_api_url", "dhan_auth_url", "dhan_feed_url", "dhan_order_update_url")
    @classmethod
    def _strip_slash(cls, value: str) -> str:
        return value.rstrip("/")

    @field_validator("log_level", mode="before")
    @classmethod
    def _upper(cls, value: Any) -> Any:
        return value.upper() if isinstance(value, str) else value

    @model_validator(mode="before")
    @classmethod
    def _ledger_beside_home(cls, values: Any) -> Any:
        if isinstance(values, Mapping) and not values.get("ledger_url"):
            home = Path(values.get("home") or cls.model_fields["home"].default).expanduser().absolute()
            return {**values, "ledger_url": f"sqlite:///{home / 'ledger.sqlite3'}"}
        return values

    @model_validator(mode="after")
    def _backstop_has_a_limit(self) -> Self:
        """One P&L exit stands for the whole account, so it follows the account's limit and no session's."""
        if self.broker_backstop and not self.account_daily_loss_limit:
            raise ValueError(
                f"{PREFIX}BROKER_BACKSTOP is on and {PREFIX}ACCOUNT_DAILY_LOSS_LIMIT is 0: set the account's limit, "
                "from which the broker's is derived"
            )
        return self

    @field_validator("home", mode="after")
    @classmethod
    def _absolute_home(cls, value: Path) -> Path:
        return value.expanduser().absolute()

    @property
    def operator_facts(self) -> str:
        """The text of the operator's own dated market facts; empty where there are none."""
        return self.facts_file.read_text(encoding="utf-8") if self.facts_file else ""

    @property
    def account_loss_limit_paise(self) -> int:
        """The account's loss limit of a day in paise; 0: none."""
        return round(100 * self.account_daily_loss_limit)

    @property
    def rehearsing(self) -> bool:
        """True when the simulator stands in for Dhan."""
        return bool(self.simulator_url)

    @property
    def client_id(self) -> str:
        """Who we are to the broker, or to the simulator."""
        return REHEARSAL_CLIENT_ID if self.rehearsing else self.dhan_client_id

    @property
    def access_token(self) -> SecretStr:
        """The token to begin with; empty where one has to be minted."""
        return SecretStr(REHEARSAL_ACCESS_TOKEN) if self.rehearsing else self.dhan_access_token

    @property
    def pin(self) -> SecretStr:
        """The PIN that mints a token; empty where there is none."""
        return SecretStr(REHEARSAL_PIN) if self.rehearsing else self.dhan_pin

    @property
    def totp_secret(self) -> SecretStr:
        """The secret behind the six digits; empty where there is none."""
        return SecretStr(REHEARSAL_TOTP_SECRET) if self.rehearsing else self.dhan_totp_secret

    @property
    def api_url(self) -> str:
        """REST, including the version."""
        return f"{self.simulator_url}/v2" if self.rehearsing else self.dhan_api_url

    @property
    def auth_url(self) -> str:
        """Where tokens are minted."""
        return self.simulator_url or self.dhan_auth_url

    @property
    def feed_url(self) -> str:
        """The market feed's socket, without its query."""
        return f"{self._simulator_socket}/market-feed" if self.rehearsing else self.dhan_feed_url

    @property
    def order_update_url(self) -> str:
        """The order updates' socket."""
        return f"{self._simulator_socket}/order-update" if self.rehearsing else self.dhan_order_update_url

    @property
    def master_url(self) -> str:
        """The instrument master."""
        if self.rehearsing:
            return f"{self.simulator_url}/api-data/api-scrip-master-detailed.csv"
        return self.dhan_master_url

    @property
    def _simulator_socket(self) -> str:
        return self.simulator_url.replace("http", "ws", 1)

    def check_mode(self, mode: str) -> None:
        """Raise SettingsRefused, naming every fault, unless this fits `mode` (rehearsal, paper or live)."""
        faults = self._rehearsal_faults() if mode == "rehearsal" else self._market_faults(mode)
        if faults:
            raise SettingsRefused(f"mode {mode}: " + "; ".join(faults))

    def _rehearsal_faults(self) -> list[str]:
        if not self.simulator_url:
            return [f"{PREFIX}SIMULATOR_URL is not set: start the simulator and set its address"]
        if urlsplit(self.simulator_url).scheme != "http" or not is_loopback(self.simulator_url):
            found = _origin(self.simulator_url)
            return [f"{PREFIX}SIMULATOR_URL must be http:// on this machine, found {found}: rehearsals stay here"]
        return []

    def _market_faults(self, mode: str) -> list[str]:
        faults = [] if mode in {"paper", "live"} else [f"expected rehearsal, paper or live, found {mode!r}"]
        if self.simulator_url:
            faults.append(f"{PREFIX}SIMULATOR_URL is set: unset it, the simulator has no place in {mode}")
        if not self.dhan_client_id:
            faults.append(f"{PREFIX}DHAN_CLIENT_ID is not set")
        if not (self.dhan_access_token.get_secret_value() or self.dhan_token_block or self.can_mint):
            faults.append(
                f"no way to a token: set {PREFIX}DHAN_ACCESS_TOKEN, {PREFIX}DHAN_TOKEN_BLOCK, or both "
                f"{PREFIX}DHAN_PIN and {PREFIX}DHAN_TOTP_SECRET"
            )
        for name, scheme in (
            ("dhan_api_url", "https"),
            ("dhan_auth_url", "https"),
            ("dhan_feed_url", "wss"),
            ("dhan_order_update_url", "wss"),
            ("dhan_master_url", "https"),
        ):
            url = getattr(self, name)
            host = urlsplit(url).hostname or ""
            if urlsplit(url).scheme != scheme or not (host == "dhan.co" or host.endswith(".dhan.co")):
                faults.append(
                    f"{PREFIX}{name.upper()} must be {scheme}:// at dhan.co, found {_origin(url)}: "
                    "the token goes to this address"
                )
        return faults

    @property
    def can_mint(self) -> bool:
        """True with PIN and TOTP secret: a dead token can be replaced unattended."""
        return bool(self.dhan_pin.get_secret_value() and self.dhan_totp_secret.get_secret_value())


def is_loopback(url: str) -> bool:
    """True for an address on this machine."""
    host = urlsplit(url).hostname or ""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def refuse_readable_by_others(path: Path) -> None:
    """Raise SettingsRefused when group or others may read or write the file; an absent file is fine."""
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        return
    if mode & _OTHERS_MAY_READ:
        raise SettingsRefused(
            f"{path} holds secrets and has mode {stat.S_IMODE(mode):04o}; expected 0600: run chmod 600 {path}"
        )


def _refuse_unknown_keys(path: Path, settings_cls: type[BaseSettings], found: Mapping[str, str | None]) -> None:
    known = {f"{PREFIX}{name}".lower() for name in settings_cls.model_fields}
    unknown = sorted(key.upper() for key in found if key.startswith(PREFIX.lower()) and key.lower() not in known)
    if unknown:
        raise SettingsRefused(f"{path}: no setting is called {', '.join(unknown)}; see deployments' example file")


def _origin(url: str) -> str:
    """Scheme and host of an address: a password or token in it is not for a message."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.hostname}" if parts.hostname else "no address"
