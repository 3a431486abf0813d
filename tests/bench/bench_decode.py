"""How fast the market feed is decoded, beside the SDK's own decoder in the same run.

    .venv/bin/python tests/bench/bench_decode.py

Each line is the best of many short rounds, the two decoders taking turns, so that a busy machine hits both alike.
Ours yields a typed tick with integer paise, a Unix time and, for a full packet, bid and ask; the SDK's yields a
dictionary of texts.
"""

import struct
import timeit

from dhanhq.marketfeed import MarketFeed

from tasks.feed.decode import Decoder

ROUNDS, PACKETS, STACK = 300, 200, 50
TICKER = struct.pack("<BHBIfI", 2, 16, 2, 47317, 101.55, 1795425300)
FULL = struct.pack(
    "<BHBIfHIfIIIIIIffff", 8, 162, 2, 47317, 101.55, 65, 1795425300, 99.1, 1, 2, 3, 4, 5, 6, 95, 90, 110, 88
) + b"".join(struct.pack("<IIHHff", 650, 700, 3, 4, 101.5 - step, 101.6 + step) for step in range(5))


def best_of_both(theirs, ours, packets):
    """The best time of each, microseconds per packet; rounds of one length, short enough not to be interrupted."""
    times = ([], [])
    for _ in range(ROUNDS):
        times[0].append(timeit.timeit(theirs, number=PACKETS) / PACKETS * 1e6)
        times[1].append(timeit.timeit(ours, number=PACKETS // packets) / PACKETS * 1e6)
    return min(times[0]), min(times[1])


def main():
    """Print the ratios."""
    sdk, decoder = MarketFeed.__new__(MarketFeed), Decoder()
    stacked_ticker, stacked_full = TICKER * STACK, FULL * STACK
    cases = (
        ("ticker, one a message", lambda: sdk.process_ticker(TICKER), lambda: decoder.decode(TICKER), 1),
        ("ticker, fifty a message", lambda: sdk.process_ticker(TICKER), lambda: decoder.decode(stacked_ticker), STACK),
        ("full, one a message", lambda: sdk.process_full(FULL), lambda: decoder.decode(FULL), 1),
        ("full, fifty a message", lambda: sdk.process_full(FULL), lambda: decoder.decode(stacked_full), STACK),
    )
    print(f"{'packet':26} {'SDK us':>8} {'ours us':>8} {'ratio':>7}")
    for name, theirs, ours, packets in cases:
        slow, fast = best_of_both(theirs, ours, packets)
        print(f"{name:26} {slow:8.2f} {fast:8.2f} {slow / fast:6.1f}x")


if __name__ == "__main__":
    main()
