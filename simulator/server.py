"""The simulator as a server: one loopback port for Dhan's REST, its two sockets, its files, and the control room.

Invariants:
1. A request passes the same gates in the same order as at Dhan: fault, path, token, rate, address, handler.
2. Only loopback is listened on.
"""

import asyncio
import os
from collections.abc import Callable
from email.utils import formatdate

from simulator.control import ControlApi, LockStepRoom
from simulator.data_api import DataApi
from simulator.exchange import OrderRefused
from simulator.faults import ENDS_THE_TOKEN, Fault
from simulator.login_api import LoginApi
from simulator.orders_api import OrdersApi
from simulator.portfolio_api import PortfolioApi
from simulator.replies import bad_gateway, data_refusal, gateway_not_found, refusal, too_many_requests
from simulator.routes import Route, find_route
from simulator.setup import Setup
from simulator.stage import Stage
from simulator.wire import Connection, Request, Response, Room

REQUEST_LOG_MAX = 100_000
_RUNNER_PERIOD_S = 0.01
_PARENT_CHECK_S = 0.2


class Server:
    """Everything behind the port."""

    def __init__(self, stage: Stage, speed: float) -> None:
        self.speed = speed
        self._connections: set[Connection] = set()
        self._server: asyncio.Server | None = None
        self._anchor: tuple[float, int] | None = None  # at a speed: the loop's seconds, the market's milliseconds
        self._set(stage)

    def _set(self, stage: Stage) -> None:
        """Put a day on: everything that answers is made for it."""
        self.stage = stage
        self.control = ControlApi(stage, self.speed, self.restart)
        self._lockstep = LockStepRoom(stage)
        self._handlers: dict[str, Callable[..., Response]] = {
            **OrdersApi(stage).handlers,
            **PortfolioApi(stage).handlers,
            **DataApi(stage).handlers,
            **LoginApi(stage).handlers,
        }

    def restart(self, setup: Setup) -> None:
        """Begin the day again on the same market: a new book, no faults, every socket cut."""
        for connection in list(self._connections):
            connection.cut_websocket()
        self._set(Stage(setup, (self.stage.market, self.stage.history)))

    async def listen(self, port: int) -> int:
        """Open the port (0: any free one) and return its number."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: Connection(self, self._connections), "127.0.0.1", port)
        number: int = self._server.sockets[0].getsockname()[1]
        return number

    async def run(self, ended: asyncio.Event, parent_pid: int | None) -> None:
        """Serve until `ended` is set or the parent is gone; at a speed, move the clock."""
        tasks = [asyncio.create_task(self._watch_parent(parent_pid, ended))] if parent_pid else []
        if self.speed:
            self._anchor = (asyncio.get_running_loop().time(), self.stage.now_ms)
            tasks.append(asyncio.create_task(self._run_clock()))
        await ended.wait()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._server is not None:
            self._server.close()
        for connection in list(self._connections):
            connection.shut()

    # -- what a connection asks ---------------------------------------------------------------------------------------

    def date_header(self) -> str:
        """Market time, as off as a fault makes it."""
        skew = self.stage.faults.lasting("clock_skew", self.stage.now_ms)
        return formatdate(self.stage.now_ms / 1000 + (skew.number("skew_s", 30.0) if skew else 0.0), usegmt=True)

    def room(self, request: Request) -> Room | Response:
        """Where a WebSocket leads."""
        self._catch_up()
        if request.path == "/control/lockstep":
            if self.speed:
                return Response.of({"error": "expected lock-step (--speed 0), found a market that runs by itself"}, 409)
            return self._lockstep
        if request.path.rstrip("/") == "/order-update":
            return self.stage.alerts
        if request.path.rstrip("/") == "/market-feed":
            return self._feed_room()
        return gateway_not_found(request, self.stage.now_ms)

    def _feed_room(self) -> Room | Response:
        feed, now_ms = self.stage.feed, self.stage.now_ms
        if feed.takes_connections(now_ms):
            return feed
        if now_ms < feed.refused_until_ms:
            return Response(delivery="reset")
        return Response(status=429, body=b"Too Many Requests", content_type="text/plain")

    def respond(self, request: Request) -> Response:
        """Answer one request, at the time it comes: on a busy machine the market's own turn may be late."""
        self._catch_up()
        if request.path.startswith("/control/"):
            return self.control.respond(request)
        found = find_route(request.method, request.path)
        self._log(request, found[0].call if found else None)
        if found is None:
            return gateway_not_found(request, self.stage.now_ms)
        route, parts = found
        fault = self.stage.faults.in_call(route.call, self.stage.now_ms) if self.stage.faults.any_posted() else None
        if fault is None:
            return self._serve(route, parts, request)
        return self._serve_with(fault, route, parts, request)

    def _serve(self, route: Route, parts: dict[str, str], request: Request) -> Response:
        refused = self._gate(route, request)
        if refused is not None:
            return refused
        try:
            return self._handlers[route.call](request, **parts)
        except OrderRefused as error:
            return refusal(error.code, error.message)

    def _gate(self, route: Route, request: Request) -> Response | None:
        stage, headers = self.stage, request.headers
        if route.access in ("trading", "data"):
            problem = stage.credentials.token_problem(headers.get("access-token", ""))
            if problem is not None:
                return data_refusal(problem, 401) if route.access == "data" else refusal("DH-906", "Invalid Token", 401)
        if route.access == "data" and headers.get("client-id") != stage.credentials.client_id:
            return data_refusal("810", 401)
        if route.kind == "chain":
            if not stage.limits.allows_chain(f"{route.call} {request.body!r}", stage.now_ms):
                return data_refusal("805", 429)
        elif route.kind != "free" and not stage.limits.allows(route.kind, stage.now_ms):
            return data_refusal("805", 429) if route.kind == "quote" else too_many_requests()
        if route.guarded and not stage.credentials.allows_orders_from(request.peer):
            return refusal("DH-905", "Invalid IP")
        return None

    def _serve_with(self, fault: Fault, route: Route, parts: dict[str, str], request: Request) -> Response:
        """The reply as the fault will have it; most first do what was asked."""
        refused = _refusal_of(fault, route)
        if refused is not None:
            return refused
        if fault.name in ENDS_THE_TOKEN:
            self.stage.end_token(fault)
        served = self._serve(route, parts, request)
        match fault.name:
            case "bad_gateway" | "server_error":
                return _broken(fault)
            case "reset_after":
                return Response(delivery="reset")
            case "reply_lost":
                return Response(delivery="never", hold_s=fault.number("hold_s", 120.0))
            case "empty_202":
                return Response(status=202)
            case "slow_drip":
                served.delivery, served.hold_s = "drip", fault.number("drip_s", 0.05)
        return served

    def _log(self, request: Request, call: str | None) -> None:
        log = self.control.requests
        if len(log) < REQUEST_LOG_MAX:
            line = {"method": request.method, "path": request.path, "call": call}
            log.append({"n": len(log) + 1, "at_ms": self.stage.now_ms, **line})

    # -- what runs beside -----------------------------------------------------------------------------------------

    def _catch_up(self) -> None:
        """Play the market to what its clock says; in lock-step the client's clock does that."""
        if self._anchor is not None and not self.stage.over:
            began_s, began_ms = self._anchor
            self.stage.play(began_ms + round((asyncio.get_running_loop().time() - began_s) * self.speed * 1000))

    async def _run_clock(self) -> None:
        while not self.stage.over:
            await asyncio.sleep(_RUNNER_PERIOD_S)
            self._catch_up()

    async def _watch_parent(self, parent_pid: int, ended: asyncio.Event) -> None:
        # Nobody tells a process that its parent has died: it has to look.
        while os.getppid() == parent_pid:  # noqa: ASYNC110
            await asyncio.sleep(_PARENT_CHECK_S)
        ended.set()


def _refusal_of(fault: Fault, route: Route) -> Response | None:
    """The answer of a fault that keeps the call from being carried out; None where it is carried out."""
    data = route.access == "data"
    match fault.name:
        case "reset_before":
            return Response(delivery="reset")
        case "rate_storm":
            return data_refusal("805", 429) if data else too_many_requests()
        case "ip_refused" if route.guarded or route.kind == "order":
            return refusal("DH-905", "Invalid IP")
        case "data_plan_lost" if data:
            return data_refusal("806", 401)
        case "bad_gateway" | "server_error" if not fault.settings.get("accepted", False):
            return _broken(fault)
    return None


def _broken(fault: Fault) -> Response:
    return bad_gateway() if fault.name == "bad_gateway" else refusal("DH-908", "Internal server error", 500)
