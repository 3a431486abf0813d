"""What stands outside Dhan's paths: the market's clock, the lock-step with the bot, faults, and the truth.

* GET /control/clock, /control/truth, /control/requests, /control/faults
* POST /control/faults: a list of faults (faults.py); DELETE /control/faults
* POST /control/advance: {"to": "10:15:00"} or {"seconds": 30}; in lock-step only
* POST /control/restart: the day again from its beginning, see `restart`; in lock-step only
* POST /control/settings: {"stack": true}
* WebSocket /control/lockstep: one slice per message, see `LockStepRoom`
"""

import asyncio
import json
from collections.abc import Callable
from dataclasses import replace
from datetime import time
from typing import Any

from simulator.faults import KNOWN, FaultInvalid, render_faults
from simulator.orders import Order
from simulator.sessions import ist_text, moment_ms
from simulator.setup import DayInvalid, Setup
from simulator.stage import Stage
from simulator.wire import Request, Response, WebSocket

# A client that counted a message which never arrives (its connection died under it) does not stop the market for ever.
_MESSAGES_TIMEOUT_S = 2.0
_REJOIN_TIMEOUT_S = 10.0


class ControlApi:
    """Handlers of /control/…, and the log of the requests that Dhan's paths received."""

    def __init__(self, stage: Stage, speed: float, restart: Callable[[Setup], None]) -> None:
        self.stage = stage
        self.speed = speed
        self._restart = restart
        self.requests: list[dict[str, Any]] = []
        self._routes: dict[tuple[str, str], Callable[[Request], Response]] = {
            ("GET", "/control/clock"): lambda _: Response.of(self.clock()),
            ("GET", "/control/truth"): lambda _: Response.of(self.truth()),
            ("GET", "/control/requests"): lambda _: Response.of(self.requests),
            ("GET", "/control/faults"): lambda _: Response.of(render_faults(stage.faults, stage.now_ms)),
            ("POST", "/control/faults"): self.post_faults,
            ("DELETE", "/control/faults"): self.clear_faults,
            ("POST", "/control/advance"): self.advance,
            ("POST", "/control/settings"): self.settings,
            ("POST", "/control/restart"): self.restart,
        }

    def respond(self, request: Request) -> Response:
        """Answer a control request."""
        route = self._routes.get((request.method, request.path))
        if route is None:
            known = sorted({f"{method} {path}" for method, path in self._routes})
            return Response.of({"error": f"expected one of {known}, found {request.method} {request.path}"}, 404)
        return route(request)

    def clock(self) -> dict[str, Any]:
        """Where the market's time stands."""
        stage = self.stage
        return {
            "now_ms": stage.now_ms,
            "speed": self.speed,
            "lock_step": self.speed == 0,
            "day": str(stage.setup.day),
            "windows": [list(window) for window in stage.windows],
            "over": stage.over,
        }

    def truth(self) -> dict[str, Any]:
        """The exchange's whole book, money in paise."""
        stage = self.stage
        return {
            "now_ms": stage.now_ms,
            "now": ist_text(stage.now_ms),
            "orders": [_true_order(order) for order in stage.exchange.orders.values()],
            "fills": [
                {
                    "trade_id": done.trade_id, "order_id": done.order.order_id,
                    "client_order_id": done.order.correlation_id, "security": done.order.listed.security,
                    "side": done.order.side, "quantity": done.quantity, "price_paise": done.price_paise,
                    "at_ms": done.at_ms, "at": ist_text(done.at_ms),
                }
                for done in stage.exchange.executions
            ],
            "positions": [
                {
                    "security": held.listed.security, "name": held.listed.display_name, "product": held.product,
                    "net_quantity": held.net_quantity, "buy_quantity": held.buy_quantity,
                    "buy_value_paise": held.buy_value_paise, "sell_quantity": held.sell_quantity,
                    "sell_value_paise": held.sell_value_paise,
                }
                for held in stage.account.positions.values()
            ],
            "funds": {
                "opening_paise": stage.account.opening_funds_paise,
                "used_paise": stage.account.used_paise(stage.exchange.open_orders(), stage.now_ms),
                "pnl_paise": stage.account.pnl_paise(stage.now_ms),
            },
            "kill_switch": stage.kill_switch,
            "feed_packets": stage.feed.packets_sent,
            "feed_packets_by_connection": stage.feed.packets_by_connection,
            "order_updates": stage.alerts.alerts_sent,
            "feed_connections": len(stage.feed.sessions),
            "order_connections": len(stage.alerts.sessions),
        }  # fmt: skip

    def post_faults(self, request: Request) -> Response:
        """Post a list of faults."""
        try:
            self.stage.faults.post(request.json(), self.stage.now_ms)
        except (FaultInvalid, ValueError) as error:
            return Response.of({"error": str(error), "faults": KNOWN}, 400)
        return Response.of(render_faults(self.stage.faults, self.stage.now_ms))

    def clear_faults(self, request: Request) -> Response:  # noqa: ARG002
        """Forget all faults."""
        self.stage.faults.clear()
        return Response.of([])

    def advance(self, request: Request) -> Response:
        """Play the market to a moment, slice by slice; for tests that drive the clock themselves."""
        if self.speed != 0:
            return _not_in_lock_step()
        try:
            wish = request.json()
            if "to" in wish:
                until_ms = moment_ms(self.stage.setup.day, time.fromisoformat(wish["to"]))
            else:
                until_ms = self.stage.now_ms + round(float(wish["seconds"]) * 1000)
        except (ValueError, KeyError, TypeError) as error:
            return Response.of({"error": f'expected {{"to": "HH:MM:SS"}} or {{"seconds": n}}, found {error}'}, 400)
        while self.stage.now_ms < until_ms and not self.stage.over:
            self.stage.play(min(until_ms, self.stage.slice_end()))
        return Response.of(self.clock())

    def settings(self, request: Request) -> Response:
        """{"stack": true}: all packets of a slice in one feed message, for clients that decode stacked ones."""
        try:
            wish = request.json()
        except ValueError:
            wish = None
        if not isinstance(wish, dict) or not isinstance(wish.get("stack"), bool):
            return Response.of({"error": 'expected {"stack": true} or {"stack": false}'}, 400)
        self.stage.feed.stacked = wish["stack"]
        return Response.of({"stack": self.stage.feed.stacked})

    def restart(self, request: Request) -> Response:
        """Begin the same day again, with nothing ordered and no fault: {"start": "10:00", "rate_limits": false, …}.

        Also "funds" in rupees and "transit_ms"; what is not named stays as it is.
        """
        if self.speed != 0:
            return _not_in_lock_step()
        now = self.stage.setup
        try:
            wish = request.json()
            setup = replace(
                now,
                start=time.fromisoformat(wish.get("start", str(now.start))),
                rate_limits=bool(wish.get("rate_limits", now.rate_limits)),
                funds_paise=round(float(wish.get("funds", now.funds_paise / 100)) * 100),
                transit_ms=int(wish.get("transit_ms", now.transit_ms)),
            )
            self._restart(setup)
        except (ValueError, TypeError, AttributeError, DayInvalid) as error:
            return Response.of({"error": f'expected {{"start": "HH:MM:SS", …}}, found {error}'}, 400)
        return Response.of({"now_ms": moment_ms(setup.day, setup.start)})


def _not_in_lock_step() -> Response:
    return Response.of({"error": "expected lock-step (--speed 0), found a market that runs by itself"}, 409)


def _true_order(order: Order) -> dict[str, Any]:
    return {
        "order_id": order.order_id, "client_order_id": order.correlation_id, "status": order.status,
        "security": order.listed.security, "name": order.listed.display_name, "side": order.side,
        "product": order.product, "order_type": order.order_type, "quantity": order.quantity,
        "filled_quantity": order.filled, "filled_value_paise": order.value_paise, "limit_paise": order.price_paise,
        "message": order.message, "modifications": order.modifications, "created_ms": order.created_ms,
        "updated_ms": order.updated_ms,
    }  # fmt: skip


class LockStepRoom:
    """The bot's clock: each message says what it has taken in, each answer what the next slice brought.

    {"consumed_to_ms": t, "feed_messages": k} -> {"now_ms", "feed_packets", "order_updates", "over"}. The counts are of
    market-feed and order-update connections opened after this lock-step began: a bot that starts again counts from
    nothing, and one that was replaced but lives on does not confuse it. Before the market moves, the `k` subscription
    messages that the bot has sent are awaited; after the simulator cut a connection, so is its return (but not
    during an outage that was asked for): a reconnection costs no market time. Both waits are bounded in real time.
    """

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self._socket: WebSocket | None = None
        self._feed_messages = 0
        self._waiting = False  # the bot has asked for a slice
        self._patience: asyncio.TimerHandle | None = None
        stage.feed.on_message = stage.alerts.on_login = self._play_if_ready

    def opened(self, socket: WebSocket) -> None:
        """A clock takes over; the one before is closed."""
        previous, self._socket = self._socket, socket
        if previous is not None:
            previous.close(reason="another clock took over")
        socket.keep_alive = False
        self._stop_waiting()
        self._stage.feed.begin_epoch()
        self._stage.alerts.begin_epoch()

    def message(self, socket: WebSocket, payload: bytes) -> None:
        """The bot is done with what it was given."""
        if socket is not self._socket:
            return
        try:
            wish = json.loads(payload)
            self._feed_messages = int(wish["feed_messages"])
        except (ValueError, KeyError, TypeError):
            socket.close(1003, 'expected {"consumed_to_ms": t, "feed_messages": k}')
            return
        self._waiting = True
        self._play_if_ready()

    def closed(self, socket: WebSocket) -> None:
        """The bot's clock is gone; the market stands."""
        if socket is self._socket:
            self._socket = None
            self._stop_waiting()

    def _play_if_ready(self) -> None:
        if not self._waiting:
            return
        feed, alerts = self._stage.feed, self._stage.alerts
        patience_s = 0.0
        if (feed.cut_off and feed.takes_connections(self._stage.now_ms)) or alerts.cut_off:
            patience_s = _REJOIN_TIMEOUT_S
        elif feed.epoch_messages < self._feed_messages:
            patience_s = _MESSAGES_TIMEOUT_S
        if not patience_s:
            self._play()
        elif self._patience is None:
            self._patience = asyncio.get_running_loop().call_later(patience_s, self._give_up)

    def _give_up(self) -> None:
        self._stage.feed.give_up_waiting(self._feed_messages)
        self._stage.alerts.cut_off = 0
        self._play()

    def _play(self) -> None:
        self._stop_waiting()
        stage, socket = self._stage, self._socket
        if socket is None:
            return
        stage.play(stage.slice_end())
        # Written by hand: json.dumps makes an encoder for each.
        socket.send_text(
            f'{{"now_ms": {stage.now_ms}, "feed_packets": {stage.feed.epoch_packets}, '
            f'"order_updates": {stage.alerts.epoch_alerts}, "over": {"true" if stage.over else "false"}}}'
        )
        asyncio.get_running_loop().call_soon(stage.prepare)

    def _stop_waiting(self) -> None:
        self._waiting = False
        if self._patience is not None:
            self._patience.cancel()
            self._patience = None
