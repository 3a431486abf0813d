"""Each endpoint of the simulator is reached by a method of the unmodified SDK, and by no other path."""

import pyotp
import pytest
from dhanhq import DhanContext, DhanLogin, dhanhq
from dhanhq._security import Security
from dhanhq.dhan_http import DhanHTTP

from simulator.credentials import DEFAULT_CLIENT_ID, DEFAULT_PIN, DEFAULT_TOKEN, DEFAULT_TOTP_SECRET
from simulator.routes import CALLS

ORDER = ("NSE_FNO", "BUY", 65, "LIMIT", "MARGIN", 20.0)
# The simulator's name for an endpoint -> the SDK's method and what it is given; a name in <> stands for a value below.
TRADING = {
    "place_order": ("place_order", "<option>", *ORDER),
    "slice_order": ("place_slice_order", "<option>", *ORDER),
    "modify_order": ("modify_order", "<order>", "LIMIT", "", 65, 21.0, 0, 0, "DAY"),
    "cancel_order": ("cancel_order", "<order>"),
    "order_book": ("get_order_list",),
    "order_by_correlation_id": ("get_order_by_correlationID", "reached"),
    "order_by_id": ("get_order_by_id", "<order>"),
    "trade_book": ("get_trade_book",),
    "trades_of_order": ("get_trade_book", "<order>"),
    "trade_history": ("get_trade_history", "2026-11-20", "2026-11-20", 0),
    "positions": ("get_positions",),
    "exit_all": ("exit_all_positions",),
    "convert_position": ("convert_position", "MARGIN", "NSE_FNO", "LONG", "<option>", 65, "INTRADAY"),
    "super_orders": ("get_super_order_list",),
    "forever_orders": ("get_forever",),
    "holdings": ("get_holdings",),
    "fund_limits": ("get_fund_limits",),
    "margin_calculator": ("margin_calculator", "<option>", "NSE_FNO", "BUY", 65, "MARGIN", 20.0),
    "margin_calculator_multi": ("margin_calculator_multi", []),
    "kill_switch": ("kill_switch", "deactivate"),
    "kill_switch_status": ("status_kill_switch",),
    "set_pnl_exit": ("set_pnl_exit", 1500.0, 500.0, ["INTRADAY"]),
    "pnl_exit": ("get_pnl_exit",),
    "stop_pnl_exit": ("stop_pnl_exit",),
    "quote_ltp": ("ticker_data", {"IDX_I": [13]}),
    "quote_ohlc": ("ohlc_data", {"IDX_I": [13]}),
    "quote_full": ("quote_data", {"IDX_I": [13]}),
    "option_chain": ("option_chain", 13, "IDX_I", "2026-11-23"),
    "expiry_list": ("expiry_list", 13, "IDX_I"),
    "candles_intraday": ("intraday_minute_data", "13", "IDX_I", "INDEX", "2026-11-20 09:15:00", "2026-11-20 09:30:00"),
    "candles_daily": ("historical_daily_data", "13", "IDX_I", "INDEX", "2026-11-02", "2026-11-13"),
    "master_compact": ("fetch_security_list", "compact", "<file>"),
    "master_detailed": ("fetch_security_list", "detailed", "<file>"),
}
LOGIN = {
    "profile": ("user_profile", "<token>"),
    "get_ip": ("get_ip", "<token>"),
    "set_ip": ("set_ip", "<token>", "127.0.0.1", "PRIMARY"),
    "modify_ip": ("modify_ip", "<token>", "127.0.0.1", "PRIMARY"),
    "generate_consent": ("generate_login_session", "app", "secret"),
    "renew_token": ("renew_token", "<token>"),
    "consume_consent": ("consume_token_id", "from the browser", "app", "secret"),
    "generate_token": ("generate_token", DEFAULT_PIN, "<totp>"),
}
# What the bot does not use and nobody has seen enough of: the gateway's "not found", never a made-up answer.
NOT_SIMULATED = {
    "the ledger": ("ledger_report", "2026-11-01", "2026-11-20"),
    "a super order": ("place_super_order", "1", *ORDER, 30.0, 10.0, 1.0),
    "a forever order": ("place_forever", "1", "NSE_FNO", "BUY", "MARGIN", "LIMIT", 65, 20.0, 21.0),
    "conditional orders": ("get_conditional_orders",),
    "global stocks": ("get_global_order_list",),
    "expired options": (
        "expired_options_data", 13, "NSE_FNO", "OPTIDX", "WEEK", 1, "ATM", "CALL", ["close"], "2026-11-02", "2026-11-13",
    ),
}  # fmt: skip


@pytest.fixture
def ask(simulator, monkeypatch, tmp_path, capsys):
    """ask(method, …): the SDK's answer and the endpoints that it reached."""
    simulator.restart(rate_limits=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(DhanHTTP, "API_BASE_URL", f"{simulator.url}/v2")
    monkeypatch.setattr(DhanLogin, "AUTH_BASE_URL", simulator.url)
    monkeypatch.setattr(DhanLogin, "API_BASE_URL", f"{simulator.url}/v2")
    monkeypatch.setattr(Security, "COMPACT_CSV_URL", f"{simulator.url}/api-data/api-scrip-master.csv")
    monkeypatch.setattr(Security, "DETAILED_CSV_URL", f"{simulator.url}/api-data/api-scrip-master-detailed.csv")
    monkeypatch.setattr("webbrowser.open", lambda _: None)
    context = DhanContext(DEFAULT_CLIENT_ID, DEFAULT_TOKEN)
    sdk, login = dhanhq(context), DhanLogin(DEFAULT_CLIENT_ID)
    values = {
        "<option>": str(simulator.at_the_money()["security_id"]),
        "<order>": simulator.place(price=20.0, correlationId="reached"),
        "<file>": str(tmp_path / "list.csv"),
        "<token>": DEFAULT_TOKEN,
        "<totp>": pyotp.TOTP(DEFAULT_TOTP_SECRET).now(),
    }
    simulator.advance(seconds=1)

    def answer(method, *given):
        earlier = len(simulator.control("GET", "requests"))
        said = getattr(sdk if hasattr(sdk, method) else login, method)(
            *(values.get(value, value) if isinstance(value, str) else value for value in given)
        )
        if isinstance(said, dict) and "accessToken" in said:
            values["<token>"] = said["accessToken"]
        return said, [request["call"] for request in simulator.control("GET", "requests")[earlier:]]

    yield answer
    context.get_dhan_http().session.close()
    capsys.readouterr()  # the SDK prints


def test_every_endpoint_is_reached_by_the_sdk(ask):
    methods = TRADING | LOGIN
    answers = {name: ask(*method) for name, method in methods.items()}
    assert {name: reached for name, (_, reached) in answers.items()} == {name: [name] for name in methods}
    assert all(len(answers[name][0]) > 4_000 for name in ("master_compact", "master_detailed")), "whole files"


def test_no_endpoint_is_without_its_method_here():
    assert CALLS - set(TRADING) - set(LOGIN) == {"master_segment"}, "for that one the SDK has no method"


def test_what_is_not_simulated_is_not_found(ask):
    for name, method in NOT_SIMULATED.items():
        said, reached = ask(*method)
        assert (said["status"], reached) == ("failure", [None]), name
