"""A session's process needs none of the large packages to take its first decision; research and the evening do."""

import subprocess
import sys
from pathlib import Path

PROJECT = Path(__file__).parents[2]
# Packages that take a second each to import, or are not there without an extra group.
LARGE = ("numpy", "pandas", "numba", "pyarrow", "altair", "vl_convert", "dask")

FIRST_DECISION = f"""
import sys

class Refused:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {LARGE!r}:
            raise ImportError("a session does without " + name)

sys.meta_path.insert(0, Refused())

import flows.session, tasks.trading.trader  # what the process of a session imports
from datetime import date
from strategy.actions import Enter
from strategy.calendar import trading_day
from strategy.charges import rates_on
from strategy.events import Tick
from strategy.instruments import INDICES, Contract, OptionType, Underlying
from strategy.params import Params
from strategy.plan import plan_day
from strategy.session import start, step

day, index = date(2026, 11, 19), INDICES[Underlying.NIFTY]
today = trading_day(day)
params = Params(macd_confirmation=False, htf_filter=False, supertrend_period=2, supertrend_multiplier=0.5,
                entry_start="09:15")
chain = [
    Contract(underlying=Underlying.NIFTY, expiry=date(2026, 11, 23), strike_points=strike, option_type=kind,
             segment="NSE_FNO", security_id=f"{{strike}}{{kind}}", trading_symbol=f"N{{strike}}{{kind}}", lot_size=65,
             tick_size_paise=5, freeze_quantity=1800)
    for strike in range(24_000, 25_000, 50) for kind in OptionType
]
plan = plan_day(params, day=day, today=today, index=index, contracts=chain, rates=rates_on(day, "NSE"), at_ms=0)
state, _ = start(plan, params, at_ms=today.open_ms)
entered = []
for second in range(120):
    at_ms = today.open_ms + 1000 * second
    for contract in chain:
        quote = Tick(at_ms=at_ms, security=contract.security, price_paise=100_00, bid_paise=99_95, ask_paise=100_05)
        state, _ = step(state, quote, plan, params)
    spot = 24_500_00 - 300 * min(second, 60) + 1_000 * max(0, second - 60)
    state, said = step(state, Tick(at_ms=at_ms + 1, security=index.security, price_paise=spot), plan, params)
    entered += [one for one in said if isinstance(one, Enter)]
print(len(entered), entered[0].contract.option_type)
"""


def test_the_first_decision_needs_no_large_package():
    done = subprocess.run(
        [sys.executable, "-c", FIRST_DECISION], cwd=PROJECT, capture_output=True, text=True, timeout=240, check=False
    )
    assert done.returncode == 0, done.stderr[-2_000:]
    assert done.stdout.split() == ["1", "CE"]
