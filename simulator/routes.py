"""Which call a request is: Dhan's paths with the name we give each call, and the rules that hold for it.

The names are those that faults and the request log use.
"""

import re
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Route:
    """One endpoint. `kind` is its rate limit; `access` who may call it."""

    method: str
    pattern: "re.Pattern[str]"
    call: str
    kind: str  # order, chart, quote, chain, other, free
    access: str  # trading: token; data: token and client id; login, public: their own rules
    guarded: bool  # only from an allowed address; placing looks at the address itself, after the quantity


def _route(method: str, path: str, call: str, kind: str, access: str = "trading", *, guarded: bool = False) -> Route:
    pattern = re.compile(re.sub(r"{(\w+)}", r"(?P<\1>[^/]+)", path))
    return Route(method, pattern, call, kind, access, guarded)


ROUTES = (
    _route("POST", "/v2/orders", "place_order", "order"),
    _route("POST", "/v2/orders/slicing", "slice_order", "order"),
    _route("PUT", "/v2/orders/{order_id}", "modify_order", "order", guarded=True),
    _route("DELETE", "/v2/orders/{order_id}", "cancel_order", "order", guarded=True),
    _route("GET", "/v2/orders", "order_book", "other"),
    _route("GET", "/v2/orders/external/{correlation_id}", "order_by_correlation_id", "other"),
    _route("GET", "/v2/orders/{order_id}", "order_by_id", "other"),
    _route("GET", "/v2/trades/?", "trade_book", "other"),
    _route("GET", "/v2/trades/{order_id}", "trades_of_order", "other"),
    _route("GET", "/v2/trades/{first}/{last}/{page}", "trade_history", "other"),
    _route("GET", "/v2/positions", "positions", "other"),
    _route("DELETE", "/v2/positions", "exit_all", "order", guarded=True),
    _route("POST", "/v2/positions/convert", "convert_position", "order", guarded=True),
    _route("GET", "/v2/super/orders", "super_orders", "other"),
    _route("GET", "/v2/forever/orders", "forever_orders", "other"),
    _route("GET", "/v2/holdings", "holdings", "other"),
    _route("GET", "/v2/fundlimit", "fund_limits", "other"),
    _route("POST", "/v2/margincalculator", "margin_calculator", "other"),
    _route("POST", "/v2/margincalculator/multi", "margin_calculator_multi", "other"),
    _route("POST", "/v2/killswitch", "kill_switch", "other", guarded=True),
    _route("GET", "/v2/killswitch", "kill_switch_status", "other"),
    _route("POST", "/v2/pnlExit", "set_pnl_exit", "other", guarded=True),
    _route("GET", "/v2/pnlExit", "pnl_exit", "other"),
    _route("DELETE", "/v2/pnlExit", "stop_pnl_exit", "other", guarded=True),
    _route("GET", "/v2/profile", "profile", "other"),
    _route("GET", "/v2/ip/getIP", "get_ip", "other"),
    _route("POST", "/v2/ip/setIP", "set_ip", "other"),
    _route("PUT", "/v2/ip/modifyIP", "modify_ip", "other"),
    _route("GET", "/v2/RenewToken", "renew_token", "other", "login"),
    _route("POST", "/app/generateAccessToken", "generate_token", "free", "login"),
    _route("POST", "/app/generate-consent", "generate_consent", "free", "login"),
    _route("GET", "/app/consumeApp-consent", "consume_consent", "free", "login"),
    _route("POST", "/v2/marketfeed/ltp", "quote_ltp", "quote", "data"),
    _route("POST", "/v2/marketfeed/ohlc", "quote_ohlc", "quote", "data"),
    _route("POST", "/v2/marketfeed/quote", "quote_full", "quote", "data"),
    _route("POST", "/v2/optionchain", "option_chain", "chain", "data"),
    _route("POST", "/v2/optionchain/expirylist", "expiry_list", "other", "data"),
    _route("POST", "/v2/charts/intraday", "candles_intraday", "chart", "data"),
    _route("POST", "/v2/charts/historical", "candles_daily", "chart", "data"),
    _route("GET", "/v2/instrument/{segment}", "master_segment", "free", "public"),
    _route("GET", "/api-data/api-scrip-master.csv", "master_compact", "free", "public"),
    _route("GET", "/api-data/api-scrip-master-detailed.csv", "master_detailed", "free", "public"),
)
CALLS = frozenset(route.call for route in ROUTES)


def find_route(method: str, path: str) -> tuple[Route, dict[str, str]] | None:
    """The endpoint and the variable parts of its path; None for what the gateway does not know."""
    for route in ROUTES:
        if route.method == method:
            match = route.pattern.fullmatch(path)
            if match is not None:
                return route, match.groupdict()
    return None
