"""The instrument master files, compact and detailed, with the broker's columns and its traps.

Invariants:
1. Both files name the same contracts, with the ids of the day's listing.
2. Rows that a reader must skip are in them: shares, test instruments, futures, other indices and their options, a stale
   currency contract, a row twice.
"""

from collections.abc import Iterator
from datetime import date

from simulator.instruments import Listed, Listing
from strategy.instruments import INDICES, Underlying, contract_facts

COMPACT_HEADER = (
    "SEM_EXM_EXCH_ID,SEM_SEGMENT,SEM_SMST_SECURITY_ID,SEM_INSTRUMENT_NAME,SEM_EXPIRY_CODE,SEM_TRADING_SYMBOL,"
    "SEM_LOT_UNITS,SEM_CUSTOM_SYMBOL,SEM_EXPIRY_DATE,SEM_STRIKE_PRICE,SEM_OPTION_TYPE,SEM_TICK_SIZE,SEM_EXPIRY_FLAG,"
    "SEM_EXCH_INSTRUMENT_TYPE,SEM_SERIES,SM_SYMBOL_NAME"
)
# The trailing comma is the broker's own.
DETAILED_HEADER = (
    "EXCH_ID,SEGMENT,SECURITY_ID,ISIN,INSTRUMENT,UNDERLYING_SECURITY_ID,UNDERLYING_SYMBOL,SYMBOL_NAME,DISPLAY_NAME,"
    "INSTRUMENT_TYPE,SERIES,LOT_SIZE,SM_EXPIRY_DATE,STRIKE_PRICE,OPTION_TYPE,TICK_SIZE,EXPIRY_FLAG,BRACKET_FLAG,"
    "COVER_FLAG,ASM_GSM_FLAG,ASM_GSM_CATEGORY,BUY_SELL_INDICATOR,BUY_CO_MIN_MARGIN_PER,BUY_CO_SL_RANGE_MAX_PERC,"
    "BUY_CO_SL_RANGE_MIN_PERC,BUY_BO_MIN_MARGIN_PER,BUY_BO_PROFIT_RANGE_MAX_PERC,BUY_BO_PROFIT_RANGE_MIN_PERC,"
    "MTF_LEVERAGE,SM_UPPER_LIMIT,SM_LOWER_LIMIT,SM_FREEZE_QTY,"
)
# The columns from BRACKET_FLAG to MTF_LEVERAGE, which say the same of nearly everything.
_FLAGS = "N,N,N,NA,A,0,0,0,0,0,0,0"
_NAMES = {"13": "Nifty 50", "25": "Nifty Bank", "27": "Finnifty", "51": "Sensex"}
_OTHER_INDICES = (
    ("NSE", "442", "MIDCPNIFTY", "Nifty Midcap Select"),
    ("NSE", "21", "INDIA VIX", "India VIX"),
    ("NSE", "38", "NIFTYNXT50", "Nifty Next 50"),
    ("BSE", "69", "BANKEX", "Bankex"),
    ("BSE", "83", "SENSEX50", "Sensex 50"),
)


def compact_master(listing: Listing) -> Iterator[str]:
    """The lines of api-scrip-master.csv."""
    yield COMPACT_HEADER
    yield "NSE,E,1333,EQUITY,0,HDFCBANK,1.0,HDFC Bank,,,,5.0,,ES,EQ,HDFC BANK LTD"
    yield "NSE,E,13,EQUITY,0,ABB,1.0,ABB India,,,,5.0,,ES,EQ,ABB INDIA LIMITED"
    yield "NSE,E,29001,EQUITY,0,071NSETEST,1.0,071NSETEST,,,,5.0,,ES,EQ,071NSETEST"
    for exchange, number, symbol, name in _indices():
        tick = "0.05" if exchange == "NSE" else "0.01"
        yield f"{exchange},I,{number},INDEX,0,{symbol},1,{name},0001-01-01,,XX,{tick},,INDEX,X,{symbol}"
    stale = "USDINR 26 MAR 82 CALL,2024-03-26 12:30:00,82.0"
    yield f"BSE,C,800001,OPTCUR,0,USDINR-Mar2024-82-CE,1000.0,{stale},CE,0.25,M,OP,,"
    for contracts in listing.by_expiry.values():
        yield from map(_compact_row, contracts)
    month = _future_expiry(listing)
    lot = contract_facts(listing.facts).lot_size(Underlying.NIFTY, month)
    future = f"NIFTY {month:%b} FUT".upper()
    yield f"NSE,D,61001,FUTIDX,0,NIFTY-{month:%b%Y}-FUT,{lot}.0,{future},{month} 14:30:00,-0.01000,XX,10.0000,M,FUT,,"


def detailed_master(listing: Listing) -> Iterator[str]:
    """The lines of api-scrip-master-detailed.csv."""
    yield DETAILED_HEADER
    for number, isin, symbol, name, limits in (
        ("1333", "INE040A01034", "HDFCBANK", "HDFC BANK LTD,HDFC Bank", "1102.1,901.8"),
        ("13", "INE117A01022", "ABB", "ABB INDIA LIMITED,ABB India", "6001.2,4910.1"),
        ("29001", "DUMMY000NSET", "071NSETEST", "071NSETEST,071NSETEST", "0,0"),
    ):
        yield f"NSE,E,{number},{isin},EQUITY,,{symbol},{name},ES,EQ,1.0,,,,5.0000,NA,{_FLAGS},{limits},0,"
    for exchange, number, symbol, name in _indices():
        tick = "0.0500" if exchange == "NSE" else "0.0100"
        names = f"{number},{symbol},{symbol},{name}"
        yield f"{exchange},I,{number},NA,INDEX,{names},INDEX,NA,1.0,0001-01-01,,XX,{tick},N,{_FLAGS},0.0000,0.0000,0,"
    stale = "USDINR 26 MAR 82 CALL,OPTCUR,NA,1000.0,2024-03-26,82.00000"
    yield f"BSE,C,800001,NA,OPTCUR,,USDINR,USDINR,{stale},CE,0.2500,M,{_FLAGS},9.0,0.1,0,"
    rows = [_detailed_row(listed) for contracts in listing.by_expiry.values() for listed in contracts]
    yield from rows
    yield rows[0]
    month = _future_expiry(listing)
    lot = contract_facts(listing.facts).lot_size(Underlying.NIFTY, month)
    name = f"NIFTY-{month:%b%Y}-FUT,NIFTY {month:%b} FUT"
    yield f"NSE,D,61001,NA,FUTIDX,26000,NIFTY,{name},FUT,NA,{lot}.0,{month},-0.01000,XX,10.0000,M,{_FLAGS},0,0,1756,"
    name = f"NIFTYNXT50-{month:%b%Y}-70000-CE,NIFTYNXT50 {month:%d %b} 70000 CALL"
    strike = f"{month},70000.00000,CE,5.0000,M"
    yield f"NSE,D,61050,NA,OPTIDX,26013,NIFTYNXT50,{name},OP,NA,25.0,{strike},{_FLAGS},4100.1,0.0500,601,"
    name = f"BSXFUT,SENSEX {month:%b}  FUT"
    yield f"BSE,D,1199001,NA,FUTIDX,1,SENSEX,{name},FUTIDX,NA,20.0,{month},0.00000,,5.0000,M,{_FLAGS},0,0,501,"


def _compact_row(listed: Listed) -> str:
    nse = listed.index.exchange == "NSE"
    return ",".join(
        (
            listed.index.exchange,
            "D",
            str(listed.security_id),
            "OPTIDX",
            "0",
            listed.trading_symbol,
            f"{listed.lot_size}.0",
            listed.display_name,
            listed.expiry_text,
            f"{listed.strike}.00000",
            listed.option_type,
            "5.0000",
            listed.expiry_flag,
            "OP" if nse else "OPTIDX",
            "",
            "" if nse else "BSXOPT",
        )
    )


def _detailed_row(listed: Listed) -> str:
    nse = listed.index.exchange == "NSE"
    # The file says the largest whole number of lots plus one.
    freeze = listed.largest_order + 1
    return ",".join(
        (
            listed.index.exchange,
            "D",
            str(listed.security_id),
            "NA",
            "OPTIDX",
            listed.index.derivative_underlying_id,
            str(listed.index.underlying),
            listed.trading_symbol if nse else "BSXOPT",
            listed.display_name,
            "OP" if nse else "OPTIDX",
            "NA",
            f"{listed.lot_size}.0",
            str(listed.expiry),
            f"{listed.strike}.00000",
            listed.option_type,
            "5.0000",
            listed.expiry_flag,
            _FLAGS,
            f"{listed.upper_paise / 100:.4f}",
            f"{listed.lower_paise / 100:.4f}",
            str(freeze),
            "",
        )
    )


def _indices() -> Iterator[tuple[str, str, str, str]]:
    for index in INDICES.values():
        yield index.exchange, index.security_id, str(index.underlying), _NAMES[index.security_id]
    yield from _OTHER_INDICES


def _future_expiry(listing: Listing) -> date:
    return listing.expiries[Underlying.BANKNIFTY][0]
