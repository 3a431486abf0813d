"""How fast the market feed is decoded, beside the SDK's own decoder in the same run.

    .venv/bin/python tests/bench/bench_decode.py

Both are given the same packets: five seconds of an index and 49 options at changing prices. The two take turns in
many short rounds, and what is counted is CPU time, so that a busy machine hits both alike; the ratio is the median
of the rounds' own ratios. Ours yields a typed tick with integer paise, a Unix time and, for a full packet, bid and ask; the SDK's `process_ticker`
and `process_full` yield a dictionary of texts.
"""

import statistics
import struct
from functools import partial
from time import process_time
from timeit import timeit

from dhanhq.marketfeed import MarketFeed
from rows import Row, report

from tasks.feed.decode import Decoder

ROUNDS, OPTIONS, SECONDS = 500, 49, 5
LTT = 1795425300  # 2026-11-23 09:15:00 IST, as the feed writes it


def market():
    """(segment, id, price, LTT) of each packet, in the order of the feed."""
    for second in range(SECONDS):
        yield 0, 13, 24_512.35 + second, LTT + second
        for number in range(OPTIONS):
            yield 2, 47_000 + number, 101.55 + number + 0.05 * second, LTT + second


def ticker(segment, security_id, price, ltt):
    """A ticker packet."""
    return struct.pack("<BHBIfI", 2, 16, segment, security_id, price, ltt)


def full(segment, security_id, price, ltt):
    """A full packet with five levels of depth."""
    numbers = (8, 162, segment, security_id, price, 65, ltt, 99.1, 1, 2, 3, 4, 5, 6, 95, 90, 110, 88)
    depth = (struct.pack("<IIHHff", 650, 700, 3, 4, price - 0.05 - step, price + 0.05 + step) for step in range(5))
    return struct.pack("<BHBIfHIfIIIIIIffff", *numbers) + b"".join(depth)


def each(decode, messages):
    """A run of `decode` over all messages."""

    def run():
        for message in messages:
            decode(message)

    return run


def stacked(packets):
    """As many packets a message as there are in a second."""
    return [b"".join(packets[start : start + OPTIONS + 1]) for start in range(0, len(packets), OPTIONS + 1)]


cpu_s = partial(timeit, number=1, timer=process_time)


def main():
    """Print the ratios."""
    sdk, decoder = MarketFeed.__new__(MarketFeed), Decoder()
    tickers, fulls = [ticker(*said) for said in market()], [full(*said) for said in market()]
    cases = (
        ("ticker, one a message", each(sdk.process_ticker, tickers), each(decoder.decode, tickers)),
        ("ticker, fifty a message", each(sdk.process_ticker, tickers), each(decoder.decode, stacked(tickers))),
        ("full, one a message", each(sdk.process_full, fulls), each(decoder.decode, fulls)),
        ("full, fifty a message", each(sdk.process_full, fulls), each(decoder.decode, stacked(fulls))),
    )
    rows = []
    for name, theirs, ours in cases:
        rounds = [(cpu_s(theirs), cpu_s(ours)) for _ in range(ROUNDS)]
        fast_us = statistics.median(fast for _, fast in rounds) / len(tickers) * 1e6
        ratio = statistics.median(slow / fast for slow, fast in rounds)
        rows.append(Row(f"packet decoded, {name}", f"{fast_us:.2f} us", "Dhan's SDK", ratio))
    report(f"Packets of the market feed; medians of {ROUNDS} rounds", rows)


if __name__ == "__main__":
    main()
