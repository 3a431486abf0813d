"""One engine in a process and an environment of its own: reads jobs as lines, answers with seconds and trades.

    python peer.py ENGINE BARS.npz        then lines such as {"job": "flip", "bars": 100000}

The engine gets the same bars and the same SuperTrend (this file's, compiled where numba is there) as everybody. What is
timed is the whole rule from bars to trades, after one run that is not.
"""

import json
import resource
import statistics
import sys
import time

import numpy as np


def cpu_seconds():
    """Of this process, all threads, and of those it has waited for."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


def supertrend(high, low, close, period, multiplier):
    """Directions: Wilder's ATR seeded with the mean, bands that only tighten."""
    count = len(close)
    directions = np.zeros(count, np.int8)
    length = float(period)
    direction, upper, lower, atr, last, seen = 0, 0.0, 0.0, 0.0, np.nan, 0
    for k in range(count):
        h, l, c = high[k], low[k], close[k]
        if last < l:
            reach = h - last
        elif last > h:
            reach = last - l
        else:
            reach = h - l
        if direction != 0:
            atr = (atr * (length - 1.0) + reach) / length
            band = (h + l) * 0.5 + multiplier * atr
            if band < upper or last > upper:
                upper = band
            band = (h + l) * 0.5 - multiplier * atr
            if band > lower or last < lower:
                lower = band
            if direction > 0:
                direction = -1 if c < lower else 1
            else:
                direction = 1 if c > upper else -1
        else:
            atr += reach
            seen += 1
            if seen >= period:
                atr /= length
                upper = (h + l) * 0.5 + multiplier * atr
                lower = (h + l) * 0.5 - multiplier * atr
                direction = -1
        last = c
        directions[k] = direction
    return directions


def signals(directions):
    """Entries where it turns up, exits where it turns down."""
    before = np.concatenate((directions[:1], directions[:-1]))
    return (directions > 0) & (before < 0), (directions < 0) & (before > 0)


def trades_of(entries, exits):
    """Pairs of bars, the last one open where nothing closed it."""
    ups, downs = np.flatnonzero(entries), np.flatnonzero(exits)
    downs = downs[downs > ups[0]] if len(ups) else downs[:0]
    return [(int(a), int(b)) for a, b in zip(ups, downs)]


class Vectorbt:
    """vectorbt's portfolio from signals, by one of its engines."""

    def __init__(self, engine):
        import vectorbt as vbt
        from numba import njit

        self.vbt, self.engine = vbt, engine
        self.supertrend = njit(nogil=True)(supertrend)

    def portfolio(self, close, entries, exits, **stops):
        return self.vbt.Portfolio.from_signals(
            close, entries, exits, init_cash=1e9, size=1.0, freq="5s", engine=self.engine, **stops
        )

    def flip(self, bars, count):
        _, high, low, close = (column[:count] for column in bars)
        entries, exits = signals(self.supertrend(high, low, close, 10, 3.0))
        records = self.portfolio(close, entries, exits).exit_trades.records_arr
        closed = records[records["status"] == 1]
        return np.stack((closed["entry_idx"], closed["exit_idx"]), axis=1)

    def sweep(self, bars, count):
        """100 combinations: 4 periods x 5 multipliers, each once, x 5 pairs of target and trailing stop on all of those."""
        _, high, low, close = (column[:count] for column in bars)
        total = 0
        columns = [
            signals(self.supertrend(high, low, close, period, multiplier))
            for period in (7, 10, 14, 20)
            for multiplier in (2.0, 2.5, 3.0, 3.5, 4.0)
        ]
        entries = np.stack([one for one, _ in columns], axis=1)
        exits = np.stack([other for _, other in columns], axis=1)
        del columns
        wide = np.broadcast_to(close[:, None], entries.shape)
        for target, trail in ((0.001, 0.0005), (0.002, 0.001), (0.003, 0.001), (0.004, 0.002), (0.005, 0.002)):
            made = self.portfolio(wide, entries, exits, sl_stop=trail, sl_trail=True, tp_stop=target)
            total += int(made.exit_trades.count().sum())
        return total


class BacktestingPy:
    """backtesting.py, event by event in Python."""

    def frame(self, bars, count):
        import pandas as pd

        columns = dict(zip(("Open", "High", "Low", "Close"), (column[:count] for column in bars)))
        return pd.DataFrame(columns, index=pd.date_range("2024-01-01", periods=count, freq="5s"))

    def strategy(self):
        from backtesting import Strategy

        class Flip(Strategy):
            period, multiplier, target, trail = 10, 3.0, 0.0, 0.0

            def init(self):
                data = self.data
                found = supertrend(data.High, data.Low, data.Close, self.period, self.multiplier)
                self.direction = self.I(lambda: found, plot=False)

            def next(self):
                if len(self.direction) < 2:
                    return
                now, before = self.direction[-1], self.direction[-2]
                if now > 0 and before < 0:
                    price = self.data.Close[-1]
                    self.buy(size=1, tp=price * (1 + self.target) if self.target else None)
                elif now < 0 and before > 0 and self.position:
                    self.position.close()

        # Its optimizer sends the class to other processes by name.
        Flip.__qualname__ = "Flip"
        globals()["Flip"] = Flip
        return Flip

    def flip(self, bars, count):
        from backtesting import Backtest

        test = Backtest(self.frame(bars, count), self.strategy(), cash=1e9, trade_on_close=True)
        found = test.run()["_trades"]
        return list(zip(found["EntryBar"].tolist(), found["ExitBar"].tolist()))

    def sweep(self, bars, count):
        """Four combinations; the table counts per bar and combination."""
        from backtesting import Backtest

        test = Backtest(self.frame(bars, count), self.strategy(), cash=1e9, trade_on_close=True)
        test.optimize(period=[7, 10], multiplier=[2.0, 3.0], maximize="Return [%]")
        return 4


class Backtrader:
    """backtrader, event by event in Python."""

    def flip(self, bars, count):
        import backtrader as bt
        import pandas as pd

        columns = dict(zip(("open", "high", "low", "close"), (column[:count] for column in bars)))
        frame = pd.DataFrame(columns, index=pd.date_range("2024-01-01", periods=count, freq="5s"))
        directions = supertrend(*(column[:count] for column in bars[1:]), 10, 3.0)
        found = []

        class Flip(bt.Strategy):
            def next(self):
                k = len(self) - 1
                now, before = directions[k], directions[k - 1] if k else 0
                if now > 0 and before < 0:
                    self.buy(size=1)
                elif now < 0 and before > 0 and self.position:
                    self.close()

            def notify_trade(self, trade):
                if trade.isclosed:
                    # Counted from 1, and filled one bar later at the close before.
                    found.append((trade.baropen - 2, trade.barclose - 2))

        engine = bt.Cerebro(stdstats=False)
        engine.broker.set_cash(1e9)
        engine.broker.set_coc(True)  # an order fills at the close it was decided on
        engine.adddata(bt.feeds.PandasData(dataname=frame, timeframe=bt.TimeFrame.Seconds, compression=5))
        engine.addstrategy(Flip)
        engine.run()
        return found


class Nautilus:
    """nautilus_trader: one-second trade ticks, its own five-second bars, a strategy in Python."""

    def flip(self, bars, count):
        from decimal import Decimal

        from nautilus_trader.backtest.engine import BacktestEngine, BacktestEngineConfig
        from nautilus_trader.config import LoggingConfig
        from nautilus_trader.model.currencies import USD
        from nautilus_trader.model.data import BarType, TradeTick
        from nautilus_trader.model.enums import AccountType, AggressorSide, OmsType, OrderSide
        from nautilus_trader.model.identifiers import TradeId, Venue
        from nautilus_trader.model.objects import Money, Price, Quantity
        from nautilus_trader.test_kit.providers import TestInstrumentProvider
        from nautilus_trader.trading.strategy import Strategy

        instrument = TestInstrumentProvider.equity(symbol="IDX", venue="SIM")
        venue = Venue("SIM")
        bar_type = BarType.from_str(f"{instrument.id}-5-SECOND-LAST-INTERNAL")
        prices = bars[0][:count]
        begins = 1_704_067_200_000_000_000
        second = 1_000_000_000
        ticks = [
            TradeTick(
                instrument.id,
                Price(float(price), 2),
                Quantity.from_int(1),
                AggressorSide.BUYER,
                TradeId(str(k)),
                begins + k * second,
                begins + k * second,
            )
            for k, price in enumerate(prices)
        ]

        class Flip(Strategy):
            def __init__(self):
                super().__init__()
                self.trend = (0, 0.0, 0.0, 0.0, None, 0)
                self.turns = 0

            def on_start(self):
                self.subscribe_bars(bar_type)

            def on_bar(self, bar):
                before = self.trend[0]
                self.trend = turned(self.trend, float(bar.high), float(bar.low), float(bar.close))
                if self.trend[0] * before < 0:
                    self.turns += 1
                    side = OrderSide.BUY if self.trend[0] > 0 else OrderSide.SELL
                    if side == OrderSide.BUY or not self.portfolio.is_flat(instrument.id):
                        self.submit_order(self.order_factory.market(instrument.id, side, Quantity.from_int(1)))

        engine = BacktestEngine(BacktestEngineConfig(logging=LoggingConfig(bypass_logging=True)))
        engine.add_venue(venue, OmsType.NETTING, AccountType.MARGIN, [Money(1e9, USD)], default_leverage=Decimal(1))
        engine.add_instrument(instrument)
        engine.add_data(ticks)
        strategy = Flip()
        engine.add_strategy(strategy)
        began = cpu_seconds()
        engine.run()
        self.seconds = cpu_seconds() - began
        orders = len(engine.cache.orders())
        engine.dispose()
        return [(orders, strategy.turns)]


def turned(state, high, low, close, period=10, multiplier=3.0):
    """One bar of `supertrend`."""
    direction, upper, lower, atr, last, seen = state
    reach = high - low if last is None or low <= last <= high else high - last if last < low else last - low
    if direction == 0:
        atr, seen = atr + reach, seen + 1
        if seen < period:
            return 0, 0.0, 0.0, atr, close, seen
        atr /= period
        return -1, (high + low) / 2 + multiplier * atr, (high + low) / 2 - multiplier * atr, atr, close, seen
    atr = (atr * (period - 1.0) + reach) / period
    band = (high + low) * 0.5 + multiplier * atr
    upper = band if band < upper or last > upper else upper
    band = (high + low) * 0.5 - multiplier * atr
    lower = band if band > lower or last < lower else lower
    if direction > 0:
        return (-1 if close < lower else 1), upper, lower, atr, close, seen
    return (1 if close > upper else -1), upper, lower, atr, close, seen


ENGINES = {
    "vectorbt rust": lambda: Vectorbt("rust"),
    "vectorbt numba": lambda: Vectorbt("numba"),
    "backtesting.py": BacktestingPy,
    "backtrader": Backtrader,
    "nautilus_trader": Nautilus,
}


def main():
    """Answer jobs until the input ends."""
    name, file = sys.argv[1:]
    data = np.load(file)
    bars = [data[column] for column in ("open", "high", "low", "close")]
    if name == "nautilus_trader":
        bars = [data["ticks"]]
    engine = ENGINES[name]()
    engine.flip(bars, min(2_000, len(bars[0])))
    print(json.dumps({"ready": True}), flush=True)
    for line in sys.stdin:
        job = json.loads(line)
        spent, trades = [], None
        while sum(spent) < job["at_least_s"]:
            began = cpu_seconds()
            trades = getattr(engine, job["job"])(bars, job["bars"])
            spent.append(getattr(engine, "seconds", None) or cpu_seconds() - began)
        seconds = statistics.median(spent)
        if isinstance(trades, np.ndarray):
            trades = trades.tolist()
        peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(json.dumps({"seconds": seconds, "trades": trades, "peak_mb": peak_mb}), flush=True)


if __name__ == "__main__":
    main()
