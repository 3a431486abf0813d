"""Who may trade, with real processes that race, pause and come back: in every round exactly one records an order.

What a process records is what it sends: the intent is committed before anything goes out, and refused without the
lease. `BOT_FAULT_ROUNDS` is the number of rounds on each database; `make faults` runs 200.
"""

import json
import os
import signal
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest

ROUNDS = int(os.environ.get("BOT_FAULT_ROUNDS", "12"))
TTL_S = 5.0

TRADER = """
import json, sys
from datetime import date
from strategy.events import Side
from strategy.instruments import Underlying
from tasks.ledger import LeaseLost
from tasks.ledger.lease import LeaseHeld
from tasks.ledger.records import IntentRecord, OrderRecord, SessionKey
from tasks.ledger.store import Ledger

url, owner, first = sys.argv[1:]
ledger, leases, number = Ledger(url), {}, int(first)
print("ready", flush=True)


def key_of(account):
    return SessionKey(account=account, underlying=Underlying.NIFTY, mode="live", day=date(2026, 11, 20))


def intent(key, fence):
    return IntentRecord(
        session_id=key.session_id, intent=number, trade=number, purpose="ENTRY", side=Side.BUY, security="NSE_FNO:1",
        trading_symbol="X", contract_name="NIFTY 23 NOV 24500 CE", strike_points=24500, option_type="CE",
        expiry=date(2026, 11, 23), lot_size=65, tick_size_paise=5, freeze_quantity=1800, quantity=65,
        reference_paise=10000, reason="entry", why={}, decided_at_ms=1, fence=fence,
        orders=(OrderRecord(client_order_id=f"{owner}-{number}-0", slice_number=0, quantity=65, limit_paise=10000),),
    )


for line in sys.stdin:
    what, account, now_ms, ttl_s = json.loads(line)
    key = key_of(account)
    try:
        if what in ("take", "over"):
            ledger.open_session(key, "abc")
            take = ledger.leases.take if what == "take" else ledger.leases.take_over
            leases[account] = take(key, owner, now_ms, ttl_s)
            said = "holds"
        elif what == "renew":
            leases[account] = ledger.leases.renew(leases[account], now_ms, ttl_s)
            said = "holds"
        elif account not in leases:
            said = "refused"
        else:
            number += 1
            ledger.record_intent(intent(key, leases[account].fence))
            said = "sent"
    except LeaseHeld:
        said = "refused"
    except LeaseLost:
        said = "lost"
    print(said, flush=True)
ledger.close()
"""


class Trader:
    def __init__(self, process, name):
        self.process, self.name = process, name
        assert process.stdout.readline() == "ready\n"

    def tell(self, what, account, at_s):
        self.process.stdin.write(json.dumps([what, account, 1_000_000 + round(at_s * 1000), TTL_S]) + "\n")
        self.process.stdin.flush()

    def hear(self):
        return self.process.stdout.readline().strip()

    def ask(self, what, account, at_s):
        self.tell(what, account, at_s)
        return self.hear()


@pytest.fixture
def traders(ledger_url):
    """A, B and C: small processes that take, renew and send on command."""
    with ExitStack() as opened:
        started = []
        for number, name in enumerate("ABC"):
            process = subprocess.Popen(
                [sys.executable, "-c", TRADER, ledger_url, name, str(number * 100_000)],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2],
            )  # fmt: skip
            opened.callback(process.communicate)
            opened.callback(process.kill)
            started.append(process)
        yield [Trader(process, name) for process, name in zip(started, "ABC", strict=True)]


def together(traders, what, account, at_s):
    """All are told before any is heard, so that they race."""
    for trader in traders:
        trader.tell(what, account, at_s)
    return [trader.hear() for trader in traders]


def started_together(traders, account):
    assert sorted(together(traders, "take", account, 0)) == ["holds", "refused", "refused"]
    return together(traders, "send", account, 1)


def a_retry_beside_a_zombie(traders, account):
    zombie, retry, _ = traders
    assert zombie.ask("take", account, 0) == "holds"
    zombie.process.send_signal(signal.SIGSTOP)
    zombie.tell("send", account, 1)  # it was about to
    assert retry.ask("take", account, 4.9) == "refused"
    assert retry.ask("take", account, 5) == "holds"
    zombie.process.send_signal(signal.SIGCONT)
    said = together([retry], "send", account, 6)
    assert zombie.hear() == "lost"
    assert zombie.ask("renew", account, 6) == "lost"
    return [*said, zombie.ask("send", account, 6)]


def by_hand_beside_the_schedule(traders, account):
    scheduled, manual, squareoff = traders
    assert scheduled.ask("take", account, 0) == "holds"
    assert manual.ask("take", account, 1) == "refused"
    # The squareoff takes the lease by force while the session sends: before it or not at all.
    squareoff.tell("over", account, 2)
    scheduled.tell("send", account, 2)
    assert squareoff.hear() == "holds"
    assert scheduled.hear() in {"sent", "lost"}
    return together(traders, "send", account, 3)


STORIES = (started_together, a_retry_beside_a_zombie, by_hand_beside_the_schedule)


def test_in_every_round_exactly_one_trades(traders, ledger_url):
    for number in range(ROUNDS):
        said = STORIES[number % len(STORIES)](traders, f"round-{number}")
        assert said.count("sent") == 1, (number, said)
        assert set(said) <= {"sent", "lost", "refused"}
