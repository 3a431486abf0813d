"""The day's contracts, and the instrument master files and expiry lists that name them.

Invariants:
1. The listing of a day is a function of the day and of yesterday's closes alone.
2. Security ids are unique within a segment and are reused from day to day for other contracts, as the broker's are.
3. Every row has the broker's real columns; rows that a reader must skip (test instruments, futures, other indices, doubles,
   stale currency contracts) are in the files.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from itertools import count

from simulator.packets import SEGMENT_CODES
from simulator.pricing import YEAR_MS, option_price, smile
from simulator.sessions import expiry_close_ms, moment_ms, on_or_before
from strategy.calendar import IST
from strategy.instruments import INDICES, Cycle, Index, Underlying, contract_facts

TICK_PAISE = 5
AT_THE_MONEY_VOLATILITY = 0.13
_NEAR_STRIKES, _FAR_STRIKES = 60, 25
_WEEKLIES, _MONTHLIES, _QUARTERLIES = 5, 3, 4
_MONTHS_AHEAD = 15


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Listed:
    """One option contract of the day. Prices in paise, strike in index points."""

    index: Index
    lot_size: int
    freeze_quantity: int
    expiry: date
    expiry_ms: int
    expiry_flag: str  # W weekly, M monthly
    strike: int
    is_call: bool
    security_id: int
    reference_paise: int  # its worth at yesterday's close
    lower_paise: int
    upper_paise: int

    @property
    def segment(self) -> str:
        """NSE_FNO or BSE_FNO."""
        return self.index.option_segment

    @property
    def security(self) -> str:
        """Segment and id."""
        return f"{self.index.option_segment}:{self.security_id}"

    @property
    def segment_code(self) -> int:
        """The feed's number of the segment."""
        return SEGMENT_CODES[self.index.option_segment]

    @property
    def trading_symbol(self) -> str:
        """Weekly and monthly contracts share it: NIFTY-Nov2026-24500-CE."""
        return f"{self.index.underlying}-{self.expiry:%b%Y}-{self.strike}-{self.option_type}"

    @property
    def display_name(self) -> str:
        """NIFTY 23 NOV 24500 CALL."""
        return f"{self.index.underlying} {self.expiry:%d %b} {self.strike} {self.kind}".upper()

    @property
    def option_type(self) -> str:
        """CE or PE."""
        return "CE" if self.is_call else "PE"

    @property
    def kind(self) -> str:
        """CALL or PUT, as order rows say it."""
        return "CALL" if self.is_call else "PUT"

    @property
    def expiry_text(self) -> str:
        """Date with the time that the exchange's files carry."""
        return f"{self.expiry} {'14:30:00' if self.index.exchange == 'NSE' else '15:30:00'}"


class Listing:
    """All contracts of a day, by security, and the expiries of each index."""

    def __init__(self, day: date, closes: Mapping[Underlying, float]) -> None:
        self.day = day
        self.expiries: dict[Underlying, tuple[date, ...]] = {}
        self.by_security: dict[str, Listed] = {}
        self.by_expiry: dict[tuple[Underlying, date], list[Listed]] = {}
        # The whole numbering moves on from day to day, so that an id names another contract tomorrow.
        numbers = {
            "NSE": count(35_000 + day.toordinal() * 37 % 5_000),
            "BSE": count(1_100_000 + day.toordinal() * 53 % 3_000),
        }
        for underlying, index in INDICES.items():
            flags = expiry_flags(day, underlying)
            self.expiries[underlying] = tuple(sorted(flags))
            for rank, expiry in enumerate(self.expiries[underlying]):
                reach = _NEAR_STRIKES if rank < 2 else _FAR_STRIKES
                self.by_expiry[underlying, expiry] = [
                    _list(
                        index, day=day, expiry=expiry, flag=flags[expiry], strike=strike, is_call=is_call,
                        number=next(numbers[index.exchange]), spot=closes[underlying],
                    )
                    for strike in _strikes(closes[underlying], index.strike_step_points, reach)
                    for is_call in (True, False)
                ]  # fmt: skip
                self.by_security |= {listed.security: listed for listed in self.by_expiry[underlying, expiry]}


def expiry_flags(day: date, underlying: Underlying) -> dict[date, str]:
    """Expiries that still trade on `day`: some weeklies, months and quarters ahead, with their flag (W or M).

    The rules are dated: which weekday counts depends on the expiry itself. A closed expiry day moves to the trading
    day before it.
    """
    rules = contract_facts().expiry_rules(underlying)
    flags: dict[date, str] = {}
    for rule in rules:
        if rule.cycle is Cycle.WEEKLY:
            first = day + timedelta(days=(rule.weekday.number - day.weekday()) % 7)
            coming = [first + timedelta(weeks=week) for week in range(_WEEKLIES + 1)]
            expiries = [on_or_before(expiry) for expiry in coming if rule.covers(expiry)]
            flags |= dict.fromkeys([expiry for expiry in expiries if expiry >= day][:_WEEKLIES], "W")
    monthlies: dict[date, int] = {}
    for ahead in range(_MONTHS_AHEAD):
        year, month = divmod(day.year * 12 + day.month - 1 + ahead, 12)
        for rule in rules:
            by_rule = _last_weekday(year, month + 1, rule.weekday.number)
            expiry = on_or_before(by_rule)
            if rule.cycle is Cycle.MONTHLY and rule.covers(by_rule) and expiry >= day:
                monthlies[expiry] = month + 1
    nearest = sorted(monthlies)[:_MONTHLIES]
    quarterly = [expiry for expiry in sorted(monthlies) if monthlies[expiry] % 3 == 0][:_QUARTERLIES]
    return flags | dict.fromkeys(nearest + quarterly, "M")


def _last_weekday(year: int, month: int, weekday: int) -> date:
    last = date(year + month // 12, month % 12 + 1, 1) - timedelta(days=1)
    return last - timedelta(days=(last.weekday() - weekday) % 7)


def _strikes(spot: float, step: int, reach: int) -> range:
    middle = round(spot / step) * step
    return range(max(step, middle - reach * step), middle + reach * step + 1, step)


def _list(
    index: Index, *, day: date, expiry: date, flag: str, strike: int, is_call: bool, number: int, spot: float
) -> Listed:
    facts = contract_facts()
    expiry_ms = expiry_close_ms(expiry)
    years = max(0.0, (expiry_ms - moment_ms(day, time(9, 15))) / YEAR_MS)
    volatility = smile(at_the_money=AT_THE_MONEY_VOLATILITY, spot=spot, strike=strike, years=years)
    worth = option_price(spot=spot, strike=strike, years=years, volatility=volatility, is_call=is_call)
    # A band wide enough for a day's worth of index movement: what lies outside is a mistake.
    width = max(20.0, 0.06 * spot, 0.40 * worth)
    return Listed(
        index=index,
        lot_size=facts.lot_size(index.underlying, expiry),
        freeze_quantity=facts.freeze_quantity(index.underlying, day),
        expiry=expiry,
        expiry_ms=expiry_ms,
        expiry_flag=flag,
        strike=strike,
        is_call=is_call,
        security_id=number,
        reference_paise=max(TICK_PAISE, round(worth * 20) * 5),
        lower_paise=max(TICK_PAISE, round((worth - width) * 20) * 5),
        upper_paise=round((worth + width) * 20) * 5,
    )


COMPACT_HEADER = (
    "SEM_EXM_EXCH_ID,SEM_SEGMENT,SEM_SMST_SECURITY_ID,SEM_INSTRUMENT_NAME,SEM_EXPIRY_CODE,SEM_TRADING_SYMBOL,"
    "SEM_LOT_UNITS,SEM_CUSTOM_SYMBOL,SEM_EXPIRY_DATE,SEM_STRIKE_PRICE,SEM_OPTION_TYPE,SEM_TICK_SIZE,SEM_EXPIRY_FLAG,"
    "SEM_EXCH_INSTRUMENT_TYPE,SEM_SERIES,SM_SYMBOL_NAME"
)
DETAILED_HEADER = (
    "EXCH_ID,SEGMENT,SECURITY_ID,ISIN,INSTRUMENT,UNDERLYING_SECURITY_ID,UNDERLYING_SYMBOL,SYMBOL_NAME,DISPLAY_NAME,"
    "INSTRUMENT_TYPE,SERIES,LOT_SIZE,SM_EXPIRY_DATE,STRIKE_PRICE,OPTION_TYPE,TICK_SIZE,EXPIRY_FLAG,BRACKET_FLAG,"
    "COVER_FLAG,ASM_GSM_FLAG,ASM_GSM_CATEGORY,BUY_SELL_INDICATOR,BUY_CO_MIN_MARGIN_PER,BUY_CO_SL_RANGE_MAX_PERC,"
    "BUY_CO_SL_RANGE_MIN_PERC,BUY_BO_MIN_MARGIN_PER,BUY_BO_PROFIT_RANGE_MAX_PERC,BUY_BO_PROFIT_RANGE_MIN_PERC,"
    "MTF_LEVERAGE,SM_UPPER_LIMIT,SM_LOWER_LIMIT,SM_FREEZE_QTY,"
)
_NAMES = {"13": "Nifty 50", "25": "Nifty Bank", "27": "Finnifty", "51": "Sensex"}
_OTHER_INDICES = (
    ("NSE", "442", "MIDCPNIFTY", "Nifty Midcap Select"), ("NSE", "21", "INDIA VIX", "India VIX"),
    ("NSE", "38", "NIFTYNXT50", "Nifty Next 50"), ("BSE", "69", "BANKEX", "Bankex"), ("BSE", "83", "SENSEX50", "Sensex 50"),
)  # fmt: skip


def compact_master(listing: Listing) -> Iterator[str]:
    """The lines of api-scrip-master.csv."""
    yield COMPACT_HEADER
    yield "NSE,E,1333,EQUITY,0,HDFCBANK,1.0,HDFC Bank,,,,5.0,,ES,EQ,HDFC BANK LTD"
    yield "NSE,E,13,EQUITY,0,ABB,1.0,ABB India,,,,5.0,,ES,EQ,ABB INDIA LIMITED"
    yield "NSE,E,29001,EQUITY,0,071NSETEST,1.0,071NSETEST,,,,5.0,,ES,EQ,071NSETEST"
    for exchange, number, symbol, name in _index_rows():
        tick = "0.05" if exchange == "NSE" else "0.01"
        yield f"{exchange},I,{number},INDEX,0,{symbol},1,{name},0001-01-01,,XX,{tick},,INDEX,X,{symbol}"
    yield "BSE,C,800001,OPTCUR,0,USDINR-Mar2024-82-CE,1000.0,USDINR 26 MAR 82 CALL,2024-03-26 12:30:00,82.0,CE,0.25,M,OP,,"
    for contracts in listing.by_expiry.values():
        for listed in contracts:
            nse = listed.index.exchange == "NSE"
            yield (
                f"{listed.index.exchange},D,{listed.security_id},OPTIDX,0,{listed.trading_symbol},"
                f"{listed.lot_size}.0,{listed.display_name},{listed.expiry_text},{listed.strike}.00000,"
                f"{listed.option_type},5.0000,{listed.expiry_flag},{'OP' if nse else 'OPTIDX'},,{'' if nse else 'BSXOPT'}"
            )
    month = _future_expiry(listing)
    yield (
        f"NSE,D,61001,FUTIDX,0,NIFTY-{month:%b%Y}-FUT,{_lot_size(month)}.0,NIFTY {month:%b} FUT,"
        f"{month} 14:30:00,-0.01000,XX,10.0000,M,FUT,,"
    )


def detailed_master(listing: Listing) -> Iterator[str]:
    """The lines of api-scrip-master-detailed.csv; note the empty last column."""
    tail = "N,N,N,NA,A,0,0,0,0,0,0,0"
    yield DETAILED_HEADER
    yield f"NSE,E,1333,INE040A01034,EQUITY,,HDFCBANK,HDFC BANK LTD,HDFC Bank,ES,EQ,1.0,,,,5.0000,NA,{tail},1102.1,901.8,0,"
    yield f"NSE,E,13,INE117A01022,EQUITY,,ABB,ABB INDIA LIMITED,ABB India,ES,EQ,1.0,,,,5.0000,NA,{tail},6001.2,4910.1,0,"
    yield f"NSE,E,29001,DUMMY000NSET,EQUITY,,071NSETEST,071NSETEST,071NSETEST,ES,EQ,1.0,,,,5.0000,NA,{tail},0,0,0,"
    for exchange, number, symbol, name in _index_rows():
        tick = "0.0500" if exchange == "NSE" else "0.0100"
        yield (
            f"{exchange},I,{number},NA,INDEX,{number},{symbol},{symbol},{name},INDEX,NA,1.0,0001-01-01,,XX,{tick},"
            f"N,{tail},0.0000,0.0000,0,"
        )
    yield (
        f"BSE,C,800001,NA,OPTCUR,,USDINR,USDINR,USDINR 26 MAR 82 CALL,OPTCUR,NA,1000.0,2024-03-26,82.00000,CE,0.2500,"
        f"M,{tail},9.0,0.1,0,"
    )
    first: str | None = None
    for contracts in listing.by_expiry.values():
        for listed in contracts:
            nse = listed.index.exchange == "NSE"
            # The file says freeze quantity plus one, in whole lots.
            lot = listed.lot_size
            freeze = listed.freeze_quantity // lot * lot + 1
            row = (
                f"{listed.index.exchange},D,{listed.security_id},NA,OPTIDX,{listed.index.derivative_underlying_id},"
                f"{listed.index.underlying},{listed.trading_symbol if nse else 'BSXOPT'},{listed.display_name},"
                f"{'OP' if nse else 'OPTIDX'},NA,{lot}.0,{listed.expiry},{listed.strike}.00000,{listed.option_type},"
                f"5.0000,{listed.expiry_flag},{tail},{listed.upper_paise / 100:.4f},{listed.lower_paise / 100:.4f},{freeze},"
            )
            yield row
            first = first or row
    if first is not None:
        yield first  # the real file repeats rows
    month = _future_expiry(listing)
    yield (
        f"NSE,D,61001,NA,FUTIDX,26000,NIFTY,NIFTY-{month:%b%Y}-FUT,NIFTY {month:%b} FUT,FUT,NA,"
        f"{_lot_size(month)}.0,{month},-0.01000,XX,10.0000,M,{tail},26800.1,21900.3,1756,"
    )
    yield (
        f"NSE,D,61050,NA,OPTIDX,26013,NIFTYNXT50,NIFTYNXT50-{month:%b%Y}-70000-CE,NIFTYNXT50 {month:%d %b} 70000 CALL,"
        f"OP,NA,25.0,{month},70000.00000,CE,5.0000,M,{tail},4100.1,0.0500,601,"
    )
    yield (
        f"BSE,D,1199001,NA,FUTIDX,1,SENSEX,BSXFUT,SENSEX {month:%b}  FUT,FUTIDX,NA,20.0,{month},0.00000,,5.0000,M,"
        f"{tail},85844.9500,70236.8000,501,"
    )


def _index_rows() -> Iterator[tuple[str, str, str, str]]:
    for index in INDICES.values():
        yield index.exchange, index.security_id, str(index.underlying), _NAMES[index.security_id]
    yield from _OTHER_INDICES


def _lot_size(expiry: date) -> int:
    return contract_facts().lot_size(Underlying.NIFTY, expiry)


def _future_expiry(listing: Listing) -> date:
    return listing.expiries[Underlying.BANKNIFTY][0]


def ist_text(at_ms: int) -> str:
    """A moment as Dhan's order rows write it: IST without an offset."""
    return datetime.fromtimestamp(at_ms / 1000, IST).strftime("%Y-%m-%d %H:%M:%S")
