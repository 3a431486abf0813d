"""At most one process may trade, whatever races; the fence only rises, also across days and takeovers."""

import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from datetime import date
from pathlib import Path

import psycopg
import pytest

from tasks.ledger import LeaseLost
from tasks.ledger.lease import LeaseHeld

# One line per step: seconds, who, what, and what comes of it. The time to live is 30 seconds.
STORIES = {
    "a free lease is taken, a held one is not": """
        0   A  take     fence 1
        1   B  take     held by A
        1   A  take     held by A      # not even by its own owner: that may be a zombie of it
    """,
    "renewing keeps it, not renewing frees it": """
        0   A  take     fence 1
        20  A  renew    ok
        49  B  take     held by A
        50  B  take     fence 2
        51  A  renew    lost
    """,
    "an owner that was slow but alone goes on": """
        0   A  take     fence 1
        40  A  holder   nobody
        41  A  renew    ok
        42  B  take     held by A
    """,
    "a release frees at once, and only one's own": """
        0   A  take     fence 1
        1   A  release  yes
        1   A  holder   nobody
        2   A  renew    lost
        2   B  take     fence 2
        3   A  release  no
        3   B  holder   B
    """,
    "a takeover wins over a living owner": """
        0   A  take     fence 1
        1   G  over     fence 2
        1   A  renew    lost
        1   A  release  no
        2   G  holder   G
        3   A  take     held by G
    """,
    "a takeover of a free lease is a taking": """
        0   G  over     fence 1
        1   G  release  yes
        2   A  take     fence 2
    """,
}


@pytest.mark.parametrize("story", STORIES.values(), ids=STORIES.keys())
def test_the_life_of_a_lease(ledger, day, story):
    leases = ledger.leases
    held = {}
    for line in filter(None, map(str.strip, story.splitlines())):
        second, who, what, *expected = line.partition("#")[0].split()
        now_ms = day.at(int(second))
        try:
            match what:
                case "take":
                    held[who] = leases.take(day.key, who, now_ms)
                    found = f"fence {held[who].fence}"
                case "over":
                    held[who] = leases.take_over(day.key, who, now_ms)
                    found = f"fence {held[who].fence}"
                case "renew":
                    held[who] = leases.renew(held[who], now_ms)
                    assert held[who].expires_at_ms == now_ms + 30_000
                    found = "ok"
                case "release":
                    found = "yes" if leases.release(held[who]) else "no"
                case "holder":
                    holder = leases.holder(day.key, now_ms)
                    found = holder.owner if holder else "nobody"
        except LeaseHeld as refused:
            found = f"held by {refused.holder.owner}"
        except LeaseLost:
            found = "lost"
        assert found == " ".join(expected), line


def test_the_fence_goes_on_tomorrow_and_is_kept_for_good(ledger, day, new_day):
    tomorrow = new_day(day=date(2025, 11, 21))
    for number, each in enumerate((day, day, tomorrow), 1):
        lease = ledger.leases.take(each.key, f"run-{number}", day.at())
        assert lease.fence == number
        ledger.leases.release(lease)
    assert ledger.rows("SELECT fence, owner, taken_over FROM lease_taking ORDER BY fence") == [
        (1, "run-1", False),
        (2, "run-2", False),
        (3, "run-3", False),
    ]


def test_other_accounts_indices_and_modes_have_leases_of_their_own(ledger, day, new_day):
    keys = [day.key, new_day(mode="paper").key, new_day(account="2").key, new_day(underlying="SENSEX").key]
    assert [ledger.leases.take(key, "x", day.at()).fence for key in keys] == [1, 1, 1, 1]


def test_who_holds_it_and_until_when_is_said(ledger, day):
    ledger.leases.take(day.key, "desk/4711/run-9", day.at())
    with pytest.raises(LeaseHeld, match=r"'desk/4711/run-9' until 2025-11-20 09:15:30 IST unless renewed") as held:
        ledger.leases.take(day.key, "x", day.at(1))
    assert held.value.holder.expires_at_ms == day.at(30)


def test_a_lease_wants_a_name(ledger, day):
    with pytest.raises(ValueError, match="expected an owner"):
        ledger.leases.take(day.key, "", day.at())


TAKER = """
import json, sys
from dataclasses import replace
from datetime import date
from strategy.instruments import Underlying
from tasks.ledger.lease import LeaseHeld
from tasks.ledger.records import SessionKey
from tasks.ledger.store import Ledger
url, owner = sys.argv[1:]
ledger = Ledger(url)
key = SessionKey(account="0", underlying=Underlying.NIFTY, mode="live", day=date(2025, 11, 20))
print("ready", flush=True)
for line in sys.stdin:
    account, now_ms = json.loads(line)
    try:
        found = ledger.leases.take(replace(key, account=account), owner, now_ms, 1.0).fence
    except LeaseHeld as held:
        found = held.holder.owner
    print(json.dumps(found), flush=True)
ledger.close()
"""

ROUNDS = 40


def test_of_processes_that_start_together_exactly_one_holds(ledger, ledger_url):
    """Three processes race for many leases: fresh ones, and one that runs out again and again."""
    owners = ["A", "B", "C"]
    with ExitStack() as stack:
        takers = [
            stack.enter_context(
                subprocess.Popen(
                    [sys.executable, "-c", TAKER, ledger_url, owner],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    text=True,
                    cwd=Path(__file__).parents[2],
                )
            )
            for owner in owners
        ]
        for taker in takers:
            assert taker.stdout.readline() == "ready\n"
        fences = []
        for number in range(ROUNDS):
            account = "shared" if number % 2 else f"fresh-{number}"
            for taker in takers:
                taker.stdin.write(json.dumps([account, 1_000_000 + number * 2_000]) + "\n")
                taker.stdin.flush()
            answers = dict(zip(owners, (json.loads(taker.stdout.readline()) for taker in takers), strict=True))
            winners = [owner for owner, answer in answers.items() if isinstance(answer, int)]
            assert len(winners) == 1, answers
            assert {answer for answer in answers.values() if isinstance(answer, str)} == {winners[0]}
            if account == "shared":
                fences.append(answers[winners[0]])
        for taker in takers:
            taker.stdin.close()
        assert [taker.wait(30) for taker in takers] == [0, 0, 0]
    assert fences == list(range(1, ROUNDS // 2 + 1)), "each taking has the next fence, and none is used twice"
    assert ledger.rows("SELECT COUNT(*) FROM lease_taking") == [(ROUNDS,)]


def test_an_intent_waits_for_a_take_over_that_is_under_way_and_is_refused(postgres_ledger_url, open_ledger, day):
    ledger = open_ledger(postgres_ledger_url, urgent_timeout_s=20)
    ledger.open_session(day.key, "k3f")
    ledger.leases.take(day.key, "A", day.at(0))
    plain = postgres_ledger_url.replace("+psycopg", "")
    with (
        psycopg.connect(plain) as other,
        psycopg.connect(plain, autocommit=True) as looking,
        ThreadPoolExecutor() as pool,
    ):
        other.execute("UPDATE lease SET fence = fence + 1, owner = 'B'")  # and not committed yet
        recording = pool.submit(ledger.record_intent, day.intent(1))
        waiting = "SELECT COUNT(*) FROM pg_locks WHERE NOT granted"
        while not recording.done() and looking.execute(waiting).fetchone() == (0,):
            pass
        assert not recording.done()
        other.commit()
        with pytest.raises(LeaseLost, match="fence 2 of B"):
            recording.result()
    assert ledger.intents(day.session_id) == ()
