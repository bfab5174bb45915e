"""What is worth telling, by what a look shows; and what is left out of a queue that is full."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from failoverd.core.alerts import LATE_MS, RECORDED_LATE_MS, SERVES_LATE_MS, Alert, Course, Look, follow, standing
from failoverd.core.findings import Severity
from failoverd.core.telling import EMPTY, Book, Entry, Kind, Queued, Standing, excess, watched

PEACE = Look(node="arbiter", term=7, holder="mail1", lease="held", serving=frozenset({"mail1"}), has_vip=("mail1",))
LAG = Alert("LAG_WARN", "mail2", Severity.WARNS, "1 s")
STORE = Alert("BLK_STORE", "arbiter", Severity.BLOCKS, "no answer")


def codes(look: Look) -> set[str]:
    return set(standing(look))


def test_in_peace_nothing_stands() -> None:
    assert standing(PEACE) == {}


@pytest.mark.parametrize("lease", ["ended", "off", "condemned"])
def test_a_primary_that_is_lost_is_told_at_once(lease: str) -> None:
    found = standing(replace(PEACE, lease=lease, serving=frozenset()))
    assert list(found) == ["PRIMARY_LOST/-"]
    assert found["PRIMARY_LOST/-"].at_once


@pytest.mark.parametrize("lease", ["held", "revoked", "unknown"])
def test_a_primary_that_does_not_serve_has_its_time(lease: str) -> None:
    found = standing(replace(PEACE, lease=lease, serving=frozenset()))
    assert list(found) == ["PRIMARY_LOST/-"]
    assert not found["PRIMARY_LOST/-"].at_once


def test_whether_a_silent_primary_serves_is_not_known() -> None:
    look = replace(PEACE, lease="unknown", serving=frozenset(), unknown=frozenset({"mail1"}))
    assert codes(look) == set()


def test_where_nothing_blocks_and_nobody_could_take_over_each_one_s_reason_is_told() -> None:
    rejected = (Alert("BLK_LAG", "mail2", Severity.BLOCKS, "6 s"), Alert("BLK_SETTINGS", "mail3", Severity.BLOCKS, "x"))
    look = replace(PEACE, possible=False, rejected=rejected)
    assert standing(look)["NO_CANDIDATE/-"].reason == "mail2: BLK_LAG 6 s; mail3: BLK_SETTINGS x"
    assert codes(replace(look, blockers=(STORE,))) == {"BLK_STORE/arbiter"}, "the blocker says it"


def test_the_store_that_does_not_answer_is_one_alert() -> None:
    everywhere = Alert("BLK_STORE", "", Severity.BLOCKS, "no answer")
    assert codes(replace(PEACE, possible=False, blockers=(everywhere,), unseen=(STORE,))) == {"BLK_STORE/arbiter"}


def test_two_of_one_code_on_one_node_are_one_alert_with_both_reasons() -> None:
    one, two = (Alert("DISK_FULL", "mail2", Severity.BLOCKS, f"{disk} is full") for disk in ("/", "/srv"))
    found = standing(replace(PEACE, findings=(one, two, one)))
    assert found["DISK_FULL/mail2"].reason == "/ is full; /srv is full"


def test_two_holders_of_the_virtual_ip() -> None:
    assert standing(replace(PEACE, has_vip=("mail1", "mail3")))["TWO_VIPS/-"].reason == (
        "mail1 and mail3 have the virtual IP"
    )


def test_a_node_in_maintenance_raises_nothing_and_a_pause_hides_nothing() -> None:
    gone = Alert("BLK_UNREACHABLE", "mail2", Severity.WARNS, "no report")
    look = replace(PEACE, findings=(LAG,), unseen=(gone,))
    assert codes(look) == {"LAG_WARN/mail2", "BLK_UNREACHABLE/mail2"}
    assert codes(replace(look, maintenance=frozenset({"mail2"}))) == set()
    paused = Alert("BLK_PAUSED", "", Severity.WARNS, "paused by anna")
    assert codes(replace(look, possible=False, blockers=(paused,))) == codes(look) | {"BLK_PAUSED/-"}


def test_a_failover_is_told_when_the_new_primary_serves_with_how_long_nobody_did() -> None:
    course = follow(Course(), PEACE, 1000)
    assert [event.number for event in course.happened] == [7]
    course = follow(course, replace(PEACE, lease="ended", serving=frozenset()), 4000)
    taken = replace(PEACE, term=8, holder="mail2", previous="mail1", rule="primary-lost-by-quorum", serving=frozenset())
    course = follow(course, taken, 4500)
    assert [event.number for event in course.happened] == [7]
    course = follow(course, replace(taken, serving=frozenset({"mail2"})), 5000)
    (event,) = course.happened
    assert (event.number, event.alert.severity) == (8, Severity.BLOCKS)
    assert event.alert.reason == (
        "failover: primary-lost-by-quorum; mail2 is primary in term 8, after mail1; nobody served for 4.0 s,"
        " as arbiter saw it"
    )
    assert follow(course, replace(taken, serving=frozenset({"mail2"})), 9000).happened == course.happened


def test_a_failover_is_told_once_its_record_is_on_most_nodes_or_with_what_is_missing_of_that() -> None:
    before = follow(Course(), PEACE, 1000)
    taken = replace(PEACE, term=8, holder="mail2", serving=frozenset({"mail2"}), recorded=None)
    waiting = follow(follow(before, taken, 3000), taken, 3500)
    assert waiting.changed == before.changed, "not yet"

    def told(recorded: str | None, now_ms: int) -> str:
        changed = follow(waiting, replace(taken, recorded=recorded), now_ms).changed
        assert changed is not None
        assert changed.number == 8
        return changed.alert.reason

    assert told("", 4000).endswith("nobody served for 2.0 s, as arbiter saw it"), "and not until it could be told"
    assert told("its record is on mail2 only", 4000).endswith("; its record is on mail2 only")
    assert "nobody served for 2.0 s" in told(None, 3000 + RECORDED_LATE_MS + 1)


def test_a_primary_that_is_gone_served_until_its_last_report() -> None:
    """Its report counts for two more seconds, and says that it serves."""
    course = follow(Course(), replace(PEACE, holder_age_ms=100), 1000)
    course = follow(course, replace(PEACE, holder_age_ms=1900), 2800)
    taken = replace(PEACE, term=8, holder="mail2", previous="mail1", serving=frozenset({"mail2"}), holder_age_ms=300)
    assert follow(course, taken, 5000).outage_ms == 3800


def test_what_a_node_finds_of_itself_alone_is_told_by_whoever_speaks() -> None:
    guard = Alert("GUARD_MISSING", "mail2", Severity.WARNS, "it does not run")
    assert set(standing(PEACE, (guard,))) == {"GUARD_MISSING/mail2"}
    assert set(standing(replace(PEACE, maintenance=frozenset({"mail2"})), (guard,))) == set()


def test_a_switchover_only_warns() -> None:
    given_to = replace(
        PEACE, term=8, holder="mail2", previous="mail1", rule="take-over-given", serving=frozenset({"mail2"})
    )
    (event,) = follow(follow(Course(), PEACE, 0), given_to, 500).happened
    assert event.alert.severity is Severity.WARNS
    assert event.alert.reason.startswith("switchover: take-over-given; mail2 is primary in term 8, after mail1; ")


def test_a_new_primary_that_does_not_come_to_serve_is_told_of_in_the_end() -> None:
    course = follow(Course(), PEACE, 0)
    taken = replace(PEACE, term=8, holder="mail2", previous="mail1", serving=frozenset())
    course = follow(course, taken, 1000)
    course = follow(course, taken, 1000 + SERVES_LATE_MS)
    assert [event.number for event in course.happened] == [7]
    (event,) = follow(course, taken, 1001 + SERVES_LATE_MS).happened
    assert (event.number, "it does not serve yet" in event.alert.reason) == (8, True)


def test_a_failover_that_does_not_come_is_told_with_every_reason() -> None:
    lost = replace(PEACE, lease="ended", serving=frozenset(), possible=False, blockers=(STORE,),
                   rejected=(Alert("BLK_LAG", "mail2", Severity.BLOCKS, "6 s"),))  # fmt: skip
    course = follow(follow(Course(), PEACE, 0), lost, 1000)
    course = follow(course, lost, 999 + LATE_MS)
    assert course.blocked is None
    course = follow(course, lost, 1000 + LATE_MS)
    assert course.blocked is not None
    assert course.blocked.number == 7
    assert course.blocked.alert.reason == (
        "mail1, primary in term 7, is lost for 15 s and not replaced: BLK_STORE no answer; not mail2: BLK_LAG 6 s"
    )


# ---- what is not seen is not gone -------------------------------------------------------------------------------


def opened(alert: Alert) -> Book:
    return Book({alert.key: Entry(1, alert, "arbiter", since_ms=0)}, {})


def test_what_a_silent_node_had_stands_until_it_is_heard_of() -> None:
    book = opened(LAG)
    seen = watched({}, {}, book, {"mail2"}, 1000)
    assert seen == {LAG.key: Standing(stands=True, since_ms=1000)}
    seen = watched(seen, {}, book, (), 5000)
    assert seen == {LAG.key: Standing(stands=False, since_ms=5000)}
    seen = watched(seen, {}, book, {"mail2"}, 7000)
    assert seen == {LAG.key: Standing(stands=False, since_ms=7000)}, "its time begins again when it is heard again"


def test_that_a_node_is_heard_again_is_seen_from_here() -> None:
    gone = Alert("BLK_UNREACHABLE", "mail2", Severity.WARNS, "no report")
    assert watched({}, {}, opened(gone), {"mail2"}, 1000) == {gone.key: Standing(stands=False, since_ms=1000)}


def test_what_is_neither_there_nor_open_is_forgotten() -> None:
    assert watched({LAG.key: Standing(stands=True, since_ms=0)}, {}, EMPTY, (), 1000) == {}


# ---- a full queue -----------------------------------------------------------------------------------------------


def queue_of(text: str) -> list[Queued]:
    """Such as `a1 a2 b1 a1r`: levels of keys in their order, r for a repeat."""
    made = []
    for number, word in enumerate(text.split()):
        level = int(word[1:].rstrip("r"))
        kind = Kind.REPEAT if word.endswith("r") else Kind.FIRING if level % 2 else Kind.RESOLVED
        made.append(Queued(number, kind, word[0], level))
    return made


@pytest.mark.parametrize(
    ("queue", "limit", "left"),
    [
        ("a1 a2 b1", 3, "a1 a2 b1"),
        ("a1 a2 b1", 2, "b1"),
        ("a1 a1r b1 b1r", 3, "a1 b1 b1r"),
        ("a1 a1r a2 b1", 2, "b1"),  # repeats first, and then a pair
        ("a2 b1 b2", 2, "a2"),  # the firing of a was told: its resolve stays
        ("a2 a3 b1", 2, "b1"),  # a is open there, and is open again: nothing to tell
        ("a1 b1 c1", 2, "a1 b1 c1"),  # what is open stays, whatever the limit
        ("a1 b1 a2 b2 a3 a4", 2, "a3 a4"),
    ],
)
def test_repeats_go_first_then_pairs_and_never_a_lone_one(queue: str, limit: int, left: str) -> None:
    gone = set(excess(queue_of(queue), limit))
    assert " ".join(w for n, w in enumerate(queue.split()) if n not in gone) == left


@given(st.lists(st.tuples(st.sampled_from("abc"), st.booleans()), max_size=30), st.integers(0, 10), st.integers(0, 2))
def test_what_is_left_of_a_key_begins_and_ends_as_the_receiver_has_to_know_it(
    steps: list[tuple[str, bool]], limit: int, told: int
) -> None:
    level = dict.fromkeys("abc", told)
    queue = []
    for number, (key, repeat) in enumerate(steps):
        if repeat and level[key] % 2:
            queue.append(Queued(number, Kind.REPEAT, key, level[key]))
            continue
        level[key] += 1
        queue.append(Queued(number, Kind.FIRING if level[key] % 2 else Kind.RESOLVED, key, level[key]))
    gone = set(excess(queue, limit))
    left = [one for one in queue if one.number not in gone]
    for key in "abc":
        known = told % 2
        for one in (one for one in left if one.key == key and one.kind is not Kind.REPEAT):
            assert one.level % 2 != known, "a receiver is never told twice in a row that it fires, or is over"
            known = one.level % 2
        assert known == level[key] % 2
    assert len(left) <= max(limit, 3)
