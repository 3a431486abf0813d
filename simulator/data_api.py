"""Dhan's data endpoints: quotes, option chain, expiries, candles and the instrument files."""

from collections.abc import Callable
from datetime import date, datetime, timedelta
from typing import Any

from simulator import history
from simulator.fields import bad_input, body_of
from simulator.instruments import Listed
from simulator.market import Summary
from simulator.master import compact_master, detailed_master
from simulator.replies import data_refusal, refusal
from simulator.stage import Stage
from simulator.wire import Request, Response
from strategy.calendar import IST
from strategy.instruments import INDICES, Index
from strategy.premiums import YEAR_MS, option_greeks

INSTRUMENTS_MAX = 1_000
INTRADAY_DAYS_MAX = 90
DAILY_DAYS_MAX = 400
_INTERVALS = {1, 5, 15, 25, 60}
_NEVER = "01/01/1980 00:00:00"


class DataApi:
    """Handlers by call name; the charts may raise OrderRefused."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self._files: dict[str, bytes] = {}
        self.handlers: dict[str, Callable[..., Response]] = {
            "quote_ltp": lambda request: self._quotes(request, self._ltp),
            "quote_ohlc": lambda request: self._quotes(request, self._ohlc),
            "quote_full": lambda request: self._quotes(request, self._full),
            "expiry_list": self.expiry_list,
            "option_chain": self.option_chain,
            "candles_intraday": self.candles_intraday,
            "candles_daily": self.candles_daily,
            "master_compact": lambda _: self._file("compact"),
            "master_detailed": lambda _: self._file("detailed"),
            "master_segment": self.master_segment,
        }

    # -- quotes -----------------------------------------------------------------------------------------------------

    def _quotes(self, request: Request, render: Callable[[Index | Listed, Summary], dict[str, Any]]) -> Response:
        body = _mapping(request)
        if body is None:
            return data_refusal("814")
        wanted = {segment: ids for segment, ids in body.items() if segment != "dhanClientId"}
        if not all(isinstance(ids, list) for ids in wanted.values()):
            return data_refusal("814")
        if sum(len(ids) for ids in wanted.values()) > INSTRUMENTS_MAX:
            return data_refusal("804")
        quotes: dict[str, dict[str, Any]] = {segment: {} for segment in wanted}
        for segment, ids in wanted.items():
            for number in ids:
                found = self._find(segment, str(number))
                if found is not None:
                    quotes[segment][str(number)] = render(found, self._summary(found))
        return Response.of({"data": quotes, "status": "success"})

    def _find(self, segment: str, number: str) -> Index | Listed | None:
        if segment == "IDX_I":
            return next((index for index in INDICES.values() if index.security_id == number), None)
        return self._stage.listing.by_security.get(f"{segment}:{number}")

    def _summary(self, found: Index | Listed) -> Summary:
        market, now_ms = self._stage.market, self._stage.now_ms - 1
        return market.index_summary(found, now_ms) if isinstance(found, Index) else market.option_summary(found, now_ms)

    def _ltp(self, found: Index | Listed, day: Summary) -> dict[str, Any]:  # noqa: ARG002
        return {"last_price": day.last_paise / 100}

    def _ohlc(self, found: Index | Listed, day: Summary) -> dict[str, Any]:  # noqa: ARG002
        return {"last_price": day.last_paise / 100, "ohlc": _ohlc(day)}

    def _full(self, found: Index | Listed, day: Summary) -> dict[str, Any]:
        levels: list[Any] = [(0, 0, 0, 0, 0.0, 0.0)] * 5
        lower = upper = 0.0
        if isinstance(found, Listed):
            lower, upper = found.lower_paise / 100, found.upper_paise / 100
            if self._stage.market.is_open(self._stage.now_ms):
                levels = self._stage.market.depth(found, self._stage.now_ms).levels()
        moment = datetime.fromtimestamp(day.last_at_ms / 1000, IST).strftime("%d/%m/%Y %H:%M:%S")
        return {
            "average_price": day.average_paise / 100,
            "buy_quantity": sum(level[0] for level in levels),
            "depth": {
                "buy": [{"quantity": level[0], "orders": level[2], "price": level[4]} for level in levels],
                "sell": [{"quantity": level[1], "orders": level[3], "price": level[5]} for level in levels],
            },
            "last_price": day.last_paise / 100,
            "last_quantity": day.last_quantity,
            "last_trade_time": moment if day.last_at_ms else _NEVER,
            "lower_circuit_limit": lower,
            "net_change": round((day.last_paise - day.previous_close_paise) / 100, 2),
            "ohlc": _ohlc(day),
            "oi": day.open_interest,
            "oi_day_high": day.open_interest,
            "oi_day_low": day.open_interest,
            "sell_quantity": sum(level[1] for level in levels),
            "upper_circuit_limit": upper,
            "volume": day.volume,
        }

    # -- options ----------------------------------------------------------------------------------------------------

    def expiry_list(self, request: Request) -> Response:
        """POST /optionchain/expirylist."""
        index = self._underlying(_mapping(request))
        if index is None:
            return data_refusal("813")
        dates = [str(expiry) for expiry in self._stage.listing.expiries[index.underlying]]
        return Response.of({"data": dates, "status": "success"})

    def option_chain(self, request: Request) -> Response:
        """POST /optionchain."""
        body = _mapping(request)
        index = self._underlying(body)
        if index is None or body is None:
            return data_refusal("813")
        try:
            expiry = date.fromisoformat(str(body.get("Expiry")))
        except ValueError:
            return data_refusal("812")
        contracts = self._stage.listing.by_expiry.get((index.underlying, expiry))
        if contracts is None:
            return data_refusal("811")
        strikes: dict[str, dict[str, Any]] = {}
        for listed in contracts:
            side = "ce" if listed.is_call else "pe"
            strikes.setdefault(f"{listed.strike:.6f}", {})[side] = self._chain_row(listed)
        last = self._stage.market.spot_paise(index.underlying, self._stage.now_ms - 1) / 100
        return Response.of({"data": {"last_price": last, "oc": strikes}, "status": "success"})

    def _chain_row(self, listed: Listed) -> dict[str, Any]:
        market, now_ms = self._stage.market, self._stage.now_ms
        spot = market.spot_paise(listed.index.underlying, now_ms) / 100
        years = max(0.0, (listed.expiry_ms - now_ms) / YEAR_MS)
        volatility = market.volatility(listed, spot, years)
        depth = market.depth(listed, now_ms)
        greeks = option_greeks(
            spot=spot, strike=listed.strike, years=years, volatility=volatility, is_call=listed.is_call
        )
        # What cannot be priced is shown as zero, not as missing: deep in the money there is no volatility to read.
        blind = abs(greeks.delta) > 0.995
        bids = depth.bids[0] if depth.bids else (0, 0, 0)
        return {
            "average_price": market.last_paise(listed, now_ms - 1) / 100,
            "greeks": {
                "delta": 0.0 if blind else round(greeks.delta, 5),
                "theta": 0.0 if blind else round(greeks.theta, 5),
                "gamma": 0.0 if blind else round(greeks.gamma, 5),
                "vega": 0.0 if blind else round(greeks.vega, 5),
            },
            "implied_volatility": 0.0 if blind else round(volatility * 100, 2),
            "last_price": market.last_paise(listed, now_ms - 1) / 100,
            "oi": market.open_interest(listed),
            "previous_close_price": listed.reference_paise / 100,
            "previous_oi": market.open_interest(listed),
            "previous_volume": market.open_interest(listed) * 3,
            "security_id": listed.security_id,
            "top_ask_price": depth.ask_paise / 100,
            "top_ask_quantity": depth.asks[0][1],
            "top_bid_price": bids[0] / 100,
            "top_bid_quantity": bids[1],
            "volume": market.open_interest(listed) * 2,
        }

    def _underlying(self, body: dict[str, Any] | None) -> Index | None:
        if body is None or body.get("UnderlyingSeg") != "IDX_I":
            return None
        return next((i for i in INDICES.values() if i.security_id == str(body.get("UnderlyingScrip"))), None)

    # -- candles ----------------------------------------------------------------------------------------------------

    def candles_intraday(self, request: Request) -> Response:
        """POST /charts/intraday: at most 90 days; a candle that starts exactly at fromDate is left out."""
        body = body_of(request)
        try:
            interval = int(body.get("interval", 0))
            from_ms, to_ms = (history.moment_of(str(body.get(key))) for key in ("fromDate", "toDate"))
        except (TypeError, ValueError) as error:
            raise bad_input() from error
        if interval not in _INTERVALS:
            raise bad_input()
        first, last = history.day_of(from_ms), history.day_of(to_ms)
        if (last - first).days > INTRADAY_DAYS_MAX:
            return refusal("DH-905", "Data for Intraday Charts can be fetched for 90 days at a time")
        candles: list[history.Candle] = []
        for day in history.days_between(first, min(last, self._stage.setup.day)):
            at_ms, prices = self._ticks(str(body.get("exchangeSegment")), str(body.get("securityId")), day)
            candles += history.candles_of(
                at_ms, prices, start_ms=history.day_start_ms(day), period_ms=interval * 60_000
            )
        return Response.of(history.render_candles([candle for candle in candles if from_ms < candle.start_ms <= to_ms]))

    def candles_daily(self, request: Request) -> Response:
        """POST /charts/historical: finished days, stamped midnight IST; toDate is excluded."""
        body = body_of(request)
        try:
            first, until = (date.fromisoformat(str(body.get(key))[:10]) for key in ("fromDate", "toDate"))
        except ValueError as error:
            raise bad_input() from error
        first = max(first, self._stage.setup.day - timedelta(days=DAILY_DAYS_MAX))
        candles: list[history.Candle] = []
        for day in history.days_between(
            first, min(until - timedelta(days=1), self._stage.setup.day - timedelta(days=1))
        ):
            at_ms, prices = self._ticks(str(body.get("exchangeSegment")), str(body.get("securityId")), day)
            if at_ms:
                midnight = history.moment_of(str(day))
                candles.append(history.Candle(midnight, prices[0], max(prices), min(prices), prices[-1]))
        return Response.of(history.render_candles(candles))

    def _ticks(self, segment: str, number: str, day: date) -> tuple[list[int], list[int]]:
        found = self._find(segment, number)
        if isinstance(found, Listed):
            if day != self._stage.setup.day:
                return [], []
            at_ms, prices = self._stage.market.option_prints(found, self._stage.now_ms - 1)
            return list(at_ms), list(prices)
        path = self._stage.history.path(found, day) if found is not None else None
        if path is None:
            return [], []
        count = path.position(self._stage.now_ms)
        return path.at_ms[:count], path.price_paise[:count]

    # -- files ------------------------------------------------------------------------------------------------------

    def master_segment(self, request: Request, segment: str) -> Response:  # noqa: ARG002
        """GET /v2/instrument/{segment}: the detailed file's rows of one segment."""
        exchange, _, market = segment.partition("_")
        letter = {"FNO": "D", "EQ": "E", "I": "I", "CURRENCY": "C"}.get(market, "")
        lines = list(detailed_master(self._stage.listing))
        prefix = "" if exchange == "IDX" else f"{exchange},"
        rows = [line for line in lines[1:] if line.startswith(prefix) and line.split(",")[1] == letter]
        return Response(body="\n".join([lines[0], *rows]).encode() + b"\n", content_type="text/csv")

    def _file(self, kind: str) -> Response:
        if kind not in self._files:
            lines = compact_master if kind == "compact" else detailed_master
            self._files[kind] = "\n".join(lines(self._stage.listing)).encode() + b"\n"
        return Response(body=self._files[kind], content_type="text/csv")


def _ohlc(day: Summary) -> dict[str, float]:
    return {
        "open": day.open_paise / 100,
        "close": day.previous_close_paise / 100,
        "high": day.high_paise / 100,
        "low": day.low_paise / 100,
    }


def _mapping(request: Request) -> dict[str, Any] | None:
    try:
        body = request.json()
    except ValueError:
        return None
    return body if isinstance(body, dict) else None
