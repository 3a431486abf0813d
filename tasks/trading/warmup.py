"""Candles for the indicators before the session's first own candle.

Of today: the ledger's candles, so that a restart goes on where it was. Of the days before: the broker's intraday
candles, where it has the timeframe (60 s and longer); shorter ones warm up live.

Invariants:
1. A candle that the ledger has is taken as it was. Where it has none, among them the one that was open when an earlier
   start ended, the recorded ticks of the index make it, as far as they were recorded.
2. No candle is of the future, and none of a time outside the market's hours.
"""

import logging
from datetime import timedelta

from strategy.calendar import OutsideKnownData, trading_day
from strategy.candles import Candle, candles_of, interval_start_ms
from tasks.broker import BrokerError
from tasks.connect import Connections

LOG = logging.getLogger(__name__)
BROKER_SECONDS = (60, 300, 900)
DAYS_BACK_MAX = 10


def warmup_candles(connections: Connections) -> tuple[Candle, ...]:
    """Candles of the base and the higher timeframe, oldest first within each; few or none is no error."""
    params = connections.params
    wanted = [params.candle_seconds] + ([params.htf_seconds] if params.htf_filter else [])
    candles: list[Candle] = []
    for seconds in wanted:
        earlier = _previous_day(connections, seconds) if seconds in BROKER_SECONDS else ()
        candles += earlier
        if not earlier:
            LOG.info("no earlier candles of %d s: signals begin when enough have been seen live", seconds)
    return (*candles, *_of_today(connections))


def _of_today(connections: Connections) -> list[Candle]:
    """Today's base candles, oldest first; the last one may be open."""
    seconds = connections.params.candle_seconds
    candles = [
        Candle(
            start_ms=record.start_ms,
            seconds=record.seconds,
            open_paise=record.open_paise,
            high_paise=record.high_paise,
            low_paise=record.low_paise,
            close_paise=record.close_paise,
            ticks=record.ticks,
        )
        for record in connections.ledger.candles(connections.session_id, seconds)
    ]
    known = {candle.start_ms for candle in candles}
    at_ms, prices_paise = connections.ledger.tick_columns(connections.session_id, connections.index.security)
    now_ms, is_open = connections.now_ms(), connections.hours.is_open
    ticks = [
        tick
        for tick in zip(at_ms, prices_paise, strict=True)
        if tick[0] <= now_ms and is_open(tick[0]) and interval_start_ms(tick[0], seconds) not in known
    ]
    # By interval, and within one as they arrived: a single tick with a wrong time makes no others late.
    ticks.sort(key=lambda tick: interval_start_ms(tick[0], seconds))
    return sorted([*candles, *candles_of(ticks, seconds)], key=lambda candle: candle.start_ms)


def _previous_day(connections: Connections, seconds: int) -> tuple[Candle, ...]:
    """The last trading day's candles, or nothing where they cannot be had."""
    day = connections.day
    for _ in range(DAYS_BACK_MAX):
        day -= timedelta(days=1)
        try:
            if trading_day(day) is None:
                continue
            found = connections.broker.index_candles(connections.index, day, seconds)
        except (OutsideKnownData, BrokerError) as error:
            LOG.warning("no candles of %s: %s", day, error)
            return ()
        return tuple(
            Candle(
                start_ms=candle.start_ms,
                seconds=seconds,
                open_paise=candle.open_paise,
                high_paise=candle.high_paise,
                low_paise=candle.low_paise,
                close_paise=candle.close_paise,
            )
            for candle in found
        )
    return ()
