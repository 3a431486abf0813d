"""Killed anywhere and started again, a day ends whole: nothing lost, nothing twice, nothing without intent, flat."""

import random
from dataclasses import replace

import pytest

from .stage import SHORT, Kill, Play
from .steps import STEPS

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

DRAWN, KILLS_PER_DRAW = 16, 12  # some that are drawn come after the day is over
HELD = {"stop_loss_points": 0, "target_points": 0, "trail_start_points": 0, "trail_step_points": 0}
RESTING = ({"fault": "never_fills", "at": {"call": "place_order", "nth": 2}},)
LIMITED = (
    {},
    HELD,
    {"daily_max_loss": 500},
    {"max_trades_per_day": 4},
    {"pause_after_losses": 2, "pause_minutes": 1},
    {"stop_losses_per_day": 2},
)
# What a day must be like so that it passes a step at all; the others do so by themselves.
PLAYS = {
    "migration": Play(),
    "lease, renewed": Play(work={"constants": {"tasks.trading.postman:RENEW_PERIOD_MS": 100}}),
    "modification": Play(faults=RESTING),
    "cancellation": Play(faults=RESTING),
    "command": Play(command="halt"),
    "adoption": Play(held_before=130, params={"on_unknown_position": "adopt"}),
    "squareoff": Play(params=HELD),
    "daily loss": Play(params={"daily_max_loss": 500}),
}
# Which passages are killed, where the first and the second are not the telling ones.
NTHS = {
    "index tick": (1, 40, 90),
    "option tick": (1, 100, 200),
    "timer": (1, 2, 40),
    "migration, half-way": (3, 9, 2),
}
ONCE_A_START = (
    "migration", "session row", "lease", "start row", "command", "recovery", "adoption", "daily loss", "squareoff",
    "session over", "closing", "charges", "reconciliation",
)  # fmt: skip
# In every test run: chains of the most telling steps, each killed once.
TELLING = (
    (("entry intent, committed", "order, accepted and the reply lost", "fill, before it is recorded"), "sqlite"),
    (("exit intent, committed", "order, sent and not answered yet", "look-up, before asking"), "sqlite"),
    (("exit, reply read", "recovery, orders taken up", "candle, closed", "index tick"), "sqlite"),
    (("entry, before sending", "outcome, before it is recorded", "fill, seen", "lease, given back"), "postgresql"),
)


def play_for(step: str) -> Play:
    return next((play for name, play in PLAYS.items() if step.startswith(name)), Play())


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    databases = ("sqlite", "postgresql")
    if "steps" in metafunc.fixturenames:
        everything = metafunc.config.getoption("every_point", default=False)
        cases = [((step,), database) for step in STEPS for database in databases] if everything else TELLING
        metafunc.parametrize(("steps", "database"), cases, ids=[f"{steps[0]}-{place}" for steps, place in cases])
    if "draw" in metafunc.fixturenames:
        seed, kills = (metafunc.config.getoption(name, default=1) for name in ("seed", "random"))
        draws = [(f"{seed}-{number}", databases[number % 2]) for number in range(max(1, kills // KILLS_PER_DRAW))]
        metafunc.parametrize(("draw", "database"), draws)


@pytest.fixture
def ledger_url(request, database, empty):
    """The database of the case: migrated, or empty where the migration itself is to be killed."""
    prefix = "sqlite" if database == "sqlite" else "postgres"
    return request.getfixturevalue(f"{prefix}_url" if empty else f"{prefix}_ledger_url")


@pytest.fixture
def empty(request):
    return "migration" in request.node.callspec.params.get("steps", ("",))[0]


def test_killed_at_any_step_a_day_ends_whole(steps, play, ledger_url):
    """One step: killed there at once, and at later passages after time has passed without anybody; or one after another."""
    if len(steps) > 1:
        kills = [Kill(step=step, nth=1, dead_s=3 * place) for place, step in enumerate(steps)]
        day = Play(params=SHORT)
    else:
        nths = NTHS.get(steps[0], (1, 1, 1) if steps[0].startswith(ONCE_A_START) else (1, 2, 1))
        day = play_for(steps[0])
        kills = [Kill(step=steps[0], nth=nth, dead_s=dead_s) for nth, dead_s in zip(nths, (0, 4, 25), strict=True)]
    verdict = play(" → ".join(steps), replace(day, kills=tuple(kills)), ledger_url)
    assert verdict.died >= (len(kills) if len(steps) > 1 else 1), f"a step was not passed: {verdict}"
    assert verdict.fell == 0, verdict
    assert verdict.is_green, verdict


def test_killed_at_random_moments_a_day_ends_whole(draw, play, ledger_url):
    """Many kills: each at a random passage of any step, or after a random time wherever the process is."""
    chance = random.Random(draw)
    kills = []
    for _ in range(DRAWN):
        dead_s = chance.choice((0, 0, 0, 0, 1, 5))
        if chance.random() < 0.5:
            kills.append(Kill(nth=round(10 ** chance.uniform(0, 3)), dead_s=dead_s))
        else:
            kills.append(Kill(after_s=chance.uniform(0.05, 2.0), dead_s=dead_s))
    print("drawn from", draw, kills)
    verdict = play("at random", Play(kills=tuple(kills), params=chance.choice(LIMITED)), ledger_url)
    assert verdict.fell == 0, verdict
    assert verdict.is_green, verdict
