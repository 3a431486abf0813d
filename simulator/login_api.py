"""Dhan's login endpoints: tokens by PIN and TOTP, by consent, by renewal; the profile; the allowed addresses."""

from collections.abc import Callable
from datetime import datetime
from typing import Any

from simulator.replies import BAD_INPUT, refusal
from simulator.stage import Stage
from simulator.wire import Request, Response
from strategy.calendar import IST

_CONSENT = "940b0ca1-0000-4000-8000-000000000001"


class LoginApi:
    """Handlers by call name."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self.handlers: dict[str, Callable[..., Response]] = {
            "generate_token": self.generate_token,
            "generate_consent": self.generate_consent,
            "consume_consent": self.consume_consent,
            "renew_token": self.renew_token,
            "profile": self.profile,
            "set_ip": self.set_ip,
            "modify_ip": self.set_ip,
            "get_ip": self.get_ip,
        }

    def generate_token(self, request: Request) -> Response:
        """POST /app/generateAccessToken?dhanClientId=&pin=&totp=."""
        credentials, query = self._stage.credentials, request.query
        if query.get("dhanClientId") != credentials.client_id:
            return refusal("DH-901", "Invalid client id", 401)
        token = credentials.mint(query.get("pin", ""), query.get("totp", ""))
        if token is None:
            return refusal("DH-901", "Invalid PIN or TOTP", 401)
        return self._login(token)

    def generate_consent(self, request: Request) -> Response:
        """POST /app/generate-consent?client_id=."""
        if request.query.get("client_id") != self._stage.credentials.client_id or "app_id" not in request.headers:
            return refusal("DH-901", "Invalid app id or client id", 401)
        return Response.of({"consentAppId": _CONSENT, "consentAppStatus": "GENERATED", "status": "success"})

    def consume_consent(self, request: Request) -> Response:
        """GET /app/consumeApp-consent?tokenId=: any token id that a browser could have brought back."""
        if not request.query.get("tokenId") or "app_secret" not in request.headers:
            return refusal("DH-901", "Invalid token id", 401)
        return self._login(self._stage.credentials.issue())

    def renew_token(self, request: Request) -> Response:
        """GET /v2/RenewToken, for a token that is still alive."""
        token = self._stage.credentials.renew(request.headers.get("access-token", ""))
        if token is None or request.headers.get("dhanclientid") != self._stage.credentials.client_id:
            return refusal("DH-901", "Invalid token", 401)
        return self._login(token)

    def profile(self, request: Request) -> Response:  # noqa: ARG002
        """GET /v2/profile."""
        moment = datetime.fromtimestamp(self._stage.credentials.expires_ms / 1000, IST)
        lost = self._stage.faults.active_in_calls("data_plan_lost", self._stage.now_ms)
        return Response.of(
            {
                "dhanClientId": self._stage.credentials.client_id,
                "tokenValidity": moment.strftime("%d/%m/%Y %H:%M"),
                "activeSegment": "E, D, C, M, ",
                "ddpi": "Deactive",
                "mtf": "Deactive",
                "dataPlan": "Deactive" if lost else "Active",
                "dataValidity": "NA" if lost else f"{self._stage.setup.day.replace(day=28)} 17:52:44.0",
            }
        )

    def set_ip(self, request: Request) -> Response:
        """POST /v2/ip/setIP and PUT /v2/ip/modifyIP."""
        try:
            body: Any = request.json()
        except ValueError:
            body = None
        if not isinstance(body, dict) or body.get("ipFlag") not in ("PRIMARY", "SECONDARY") or not body.get("ip"):
            return refusal("DH-905", BAD_INPUT)
        self._stage.credentials.addresses[body["ipFlag"]] = str(body["ip"])
        return Response.of({"message": "IP saved successfully", "status": "SUCCESS"})

    def get_ip(self, request: Request) -> Response:
        """GET /v2/ip/getIP; an account without any address gets an error dressed as a success."""
        credentials = self._stage.credentials
        if not credentials.addresses:
            return Response.of([{"message": "Something went wrong", "status": "ERROR"}])
        allowed = credentials.allows_orders_from(request.peer)
        allowed = allowed and not self._stage.faults.active_in_calls("ip_refused", self._stage.now_ms)
        flags = [flag for flag, address in credentials.addresses.items() if address == request.peer]
        return Response.of(
            {
                "modifyDatePrimary": "2026-01-05",
                "primaryIP": credentials.addresses.get("PRIMARY", ""),
                "modifyDateSecondary": "2026-01-05",
                "secondaryIP": credentials.addresses.get("SECONDARY", ""),
                "detectedIP": request.peer,
                "ipMatchStatus": f"{flags[0]}_MATCH" if allowed else "NO_MATCH",
                "ordersAllowed": allowed,
            }
        )

    def _login(self, token: str) -> Response:
        credentials = self._stage.credentials
        return Response.of(
            {
                "dhanClientId": credentials.client_id,
                "dhanClientName": "SIMULATED TRADER",
                "dhanClientUcc": "SIMU12345T",
                "givenPowerOfAttorney": False,
                "accessToken": token,
                "expiryTime": credentials.expiry_text(),
            }
        )
