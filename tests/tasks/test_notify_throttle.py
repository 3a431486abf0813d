"""How much a person is told: the three invariants of the throttle, as tables and as properties."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from strategy.actions import Severity
from tasks.notify import Attachment, Limits, Notice, Topic
from tasks.notify.throttle import DIGEST_LINES_MAX, Throttle, Verdict, digest, new_entry

MINUTE_MS = 60_000


def notice(text="news", severity=Severity.INFO, topic=Topic.TRADES, **others):
    return Notice(at_ms=0, kind="test", topic=topic, severity=severity, title=text, **others)


def admit(throttle, what, at_ms):
    return throttle.admit(new_entry(what, at_ms), at_ms)


def test_the_same_news_is_told_once_and_its_repeats_are_counted_at_the_end_of_the_window():
    throttle = Throttle(Limits(repeat_window_ms=300_000))
    verdicts = [admit(throttle, notice("no prices"), at_ms) for at_ms in (0, 1_000, 2_000, 299_999)]
    assert verdicts == [Verdict.PASS, Verdict.REPEAT, Verdict.REPEAT, Verdict.REPEAT]
    assert throttle.next_due_ms() == 300_000
    assert throttle.due(299_999) == []
    (counted,) = throttle.due(300_000)
    assert counted.notice.title == "no prices (and 3 times more in 5 min)"
    assert admit(throttle, notice("no prices"), 300_001) is Verdict.PASS


def test_a_key_makes_notices_with_different_words_the_same_news():
    throttle = Throttle(Limits())
    assert admit(throttle, notice("silent for 10 s", key="feed"), 0) is Verdict.PASS
    assert admit(throttle, notice("silent for 11 s", key="feed"), 1) is Verdict.REPEAT
    assert admit(throttle, notice("silent for 11 s", key="other"), 2) is Verdict.PASS


def test_a_window_that_ended_unseen_still_gives_its_count():
    throttle = Throttle(Limits(repeat_window_ms=1_000))
    for at_ms in (0, 500, 1_000):
        admit(throttle, notice("again"), at_ms)
    titles = [entry.notice.title for entry in throttle.due(1_000, flush=True)]
    assert any("1 times more" in title or "more messages" in title for title in titles)


def test_a_flood_becomes_one_digest_per_topic_when_the_minute_is_over():
    throttle = Throttle(Limits(per_minute=3))
    topics = [Topic.TRADES] * 5 + [Topic.REPORTS] * 2
    verdicts = [admit(throttle, notice(f"n{i}", topic=topic), i) for i, topic in enumerate(topics)]
    assert verdicts == [Verdict.PASS] * 3 + [Verdict.HOLD] * 4
    assert throttle.due(59_999) == []
    assert throttle.next_due_ms() == MINUTE_MS
    first, second = throttle.due(MINUTE_MS + 10)
    assert (first.notice.title, first.notice.body) == ("2 more messages about trades", "n3\nn4")
    assert (second.notice.title, second.notice.body) == ("2 more messages about reports", "n5\nn6")
    assert len(first.replaces) == 2


def test_while_something_is_held_nothing_quiet_overtakes_it():
    throttle = Throttle(Limits(per_minute=1))
    admit(throttle, notice("a"), 0)
    admit(throttle, notice("b"), 1)
    assert admit(throttle, notice("c"), MINUTE_MS) is Verdict.HOLD


def test_a_notice_with_a_file_is_never_folded_into_a_digest():
    throttle = Throttle(Limits(per_minute=1))
    admit(throttle, notice("a"), 0)
    file = Attachment(name="a.png", media_type="image/png", content=b"x")
    admit(throttle, notice("b", attachments=(file,)), 1)
    admit(throttle, notice("c"), 2)
    first, second = throttle.due(2, flush=True)
    assert (first.notice.title, second.notice.title) == ("b", "c")


def test_a_digest_is_as_loud_as_its_loudest_and_not_endless():
    quiet = [notice(f"n{i}") for i in range(DIGEST_LINES_MAX + 5)]
    made = digest(Topic.RISK, [*quiet, notice("loud", severity=Severity.WARNING)])
    assert made.severity is Severity.WARNING
    assert made.body.splitlines()[-1] == "and 6 more"
    assert len(made.body.splitlines()) == DIGEST_LINES_MAX + 1


arrivals = st.lists(
    st.tuples(
        st.integers(0, 20_000),  # milliseconds since the one before
        st.sampled_from(["a", "b", "c", "d"]),
        st.sampled_from(list(Severity)),
        st.sampled_from(list(Topic)),
    ),
    max_size=60,
)


@given(arrivals=arrivals, per_minute=st.integers(1, 5))
def test_critical_ones_always_pass_and_none_vanishes_and_the_minute_is_never_overfull(arrivals, per_minute):
    throttle = Throttle(Limits(per_minute=per_minute, repeat_window_ms=30_000))
    now_ms = 0
    sent, seen, quiet_sent_ms = [], set(), []

    def collect(entries):
        for entry in entries:
            quiet_sent_ms.append(now_ms)
            sent.extend([entry.notice.title.partition(" (")[0], *entry.notice.body.splitlines()])

    for gap_ms, title, severity, topic in arrivals:
        now_ms += gap_ms
        collect(throttle.due(now_ms))
        seen.add(title)
        verdict = admit(throttle, notice(title, severity, topic), now_ms)
        if severity is Severity.CRITICAL:
            assert verdict is Verdict.PASS
        if verdict is Verdict.PASS:
            sent.append(title)
            if severity is not Severity.CRITICAL:
                quiet_sent_ms.append(now_ms)
    for end_ms in quiet_sent_ms:
        assert len([ms for ms in quiet_sent_ms if end_ms - MINUTE_MS < ms <= end_ms]) <= per_minute
    collect(throttle.due(now_ms, flush=True))
    assert seen <= {line.partition(" (")[0] for line in sent}
    assert throttle.next_due_ms() is None


def test_limits_that_hold_everything_for_ever_are_refused():
    with pytest.raises(ValueError, match="at least 1"):
        replace(Limits(), per_minute=0)
