"""A report's age is bounded without a common clock; a suspicion grows only by looks that failed."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from views import NOW, report, view

from failoverd.core.health import KEPT_SENDINGS, Sendings, born_after_ms, sighted
from failoverd.core.model import Health, Heard, NodeName, Observation, Reading

ME, PEER = NodeName("mail2"), NodeName("mail1")


def look(health: Health, at_ms: int = NOW) -> Observation:
    return Observation("imap", PEER, Reading(health), at_ms, 5)


@given(
    gaps=st.lists(st.integers(1, 700), min_size=1, max_size=40),
    arrives=st.data(),
)
def test_no_delay_and_no_duplication_makes_a_report_look_younger_than_it_is(
    gaps: list[int], arrives: st.DataObject
) -> None:
    sendings, sent_ms, now = Sendings("mail2#1"), [], 0
    for gap in gaps:
        now += gap
        sendings = sendings.sent(now)
        sent_ms.append(now)
    heard = arrives.draw(st.integers(1, len(sent_ms)), label="the newest of my reports that the peer had heard")
    made_ms = sent_ms[heard - 1] + arrives.draw(st.integers(0, 5000), label="when the peer made its report")
    told = report("mail1", "mail2", heard=(Heard(ME, "mail2#1", heard),))
    born = born_after_ms(told, ME, sendings)
    assert born is None or born <= made_ms  # however late it arrives, and however often
    assert born == sent_ms[heard - 1]


def test_what_heard_another_run_of_me_or_nothing_has_no_bound() -> None:
    sendings = Sendings("mail2#2").sent(10)
    assert born_after_ms(report("mail1", "mail2"), ME, sendings) is None
    assert born_after_ms(report("mail1", "mail2", heard=()), ME, sendings) is None


def test_what_heard_something_long_forgotten_has_no_bound() -> None:
    sendings = Sendings("mail2#1")
    for at_ms in range(KEPT_SENDINGS + 1):
        sendings = sendings.sent(at_ms)
    assert born_after_ms(report("mail1", "mail2"), ME, sendings) is None
    assert len(sendings.log) == KEPT_SENDINGS


def test_a_report_counts_until_its_age_and_no_longer() -> None:
    known = view("mail2")
    limit = NOW - 50 + known.policy.report_max_age_ms
    assert known.at(limit).report_of(PEER) is not None
    assert known.at(limit + 1).report_of(PEER) is None


def test_hysteresis() -> None:
    first = sighted(None, look(Health.FAILED, 10))
    second = sighted(first, look(Health.FAILED, 20))
    unsure = sighted(second, look(Health.UNKNOWN, 30))
    well = sighted(unsure, look(Health.OK, 40))
    assert [s.failures for s in (first, second, unsure, well)] == [1, 2, 2, 0]
    assert [s.since_ms for s in (first, second, unsure, well)] == [10, 10, 10, 40]


@given(st.lists(st.sampled_from(Health), min_size=1, max_size=20))
def test_failures_are_the_failed_looks_since_the_last_good_one(found: list[Health]) -> None:
    seen = None
    for health in found:
        seen = sighted(seen, look(health))
    recent = found[len(found) - found[::-1].index(Health.OK) :] if Health.OK in found else found
    assert seen is not None
    assert seen.failures == recent.count(Health.FAILED)
