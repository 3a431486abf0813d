"""The suite can fail: a fault planted in the bot turns the verdict red, each in the column that is its own."""

import pytest

from .stage import SHORT, Kill, Play

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

PLANTED = {
    # The broker has an order that the next start knows nothing of.
    "intent after send": ("order, accepted and the reply lost", "orphaned"),
    # What was filled while nobody was there is nobody's.
    "no look-up on unknown": ("order, accepted and the reply lost", "lost"),
}


@pytest.mark.parametrize("planted", PLANTED)
def test_a_planted_fault_turns_the_verdict_red(planted, stage, sqlite_ledger_url):
    step, column = PLANTED[planted]
    verdict = stage.play(
        Play(params=SHORT, kills=(Kill(step=step, nth=1, dead_s=5),), planted=planted), sqlite_ledger_url
    )
    assert verdict.died == 1
    assert verdict.wrong[column], f"{planted} was not noticed: {verdict}"
    assert verdict.wrong["unflat"], f"{planted} leaves something open: {verdict}"


HANGS = (
    ("entry intent, before the commit", "postgres"),
    ("exit intent, before the commit", "sqlite"),
    ("entry intent, committed", "sqlite"),
    ("exit intent, committed", "postgres"),
)


@pytest.mark.parametrize(("step", "database"), HANGS)
def test_who_was_replaced_while_it_hung_sends_nothing_more(step, database, stage, request):
    ledger_url = request.getfixturevalue(f"{database}_ledger_url")
    verdict, sent = stage.play_zombie(Play(params=SHORT), ledger_url, step=step, nth=2)
    assert sent == 0, verdict
    assert verdict.fell == 0, verdict
    assert verdict.is_green, verdict


def test_a_lease_that_is_not_checked_lets_the_replaced_one_send(stage, sqlite_ledger_url):
    play = Play(params=SHORT, planted="lease not checked")
    _, sent = stage.play_zombie(play, sqlite_ledger_url, step="entry intent, before the commit", nth=2)
    assert sent == 1, "the replaced process sent nothing: the suite would not notice a lease that nobody checks"
