"""What several looks at all clusters' records say together, and in which order a person reads it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from failoverd.core.model import Maintenance, NodeName, Record, Request, Scheduled
from failoverd.fleet.states import BAD, ORDER, State, fleet
from failoverd.fleet.watched import Entry, Watch

MAIL1, MAIL2 = NodeName("mail1"), NodeName("mail2")
HELD = Record(version=40, term=7, holder=MAIL1, counter=11, ttl_ms=3000)
ASKED = Request(id="1", target=MAIL2, by="anna", reason="")


def entry(record: Record | None = HELD, name: str = "lab") -> Entry:
    return Entry(name, record, "" if record else "record: no JSON")


def renewed(record: Record) -> Record:
    return replace(record, version=record.version + 1, counter=record.counter + 1)


def looked(*looks: tuple[Entry, int, int]) -> Watch:
    """Look at one cluster: what was seen, sent when, answered when."""
    watch = Watch()
    for seen, sent_ms, answered_ms in looks:
        watch.look([seen], sent_ms=sent_ms, answered_ms=answered_ms)
    return watch


def state(*looks: tuple[Entry, int, int]) -> tuple[State, str]:
    (cluster,) = fleet(looked(*looks).found().values())
    return cluster.state, cluster.marks[0].why if cluster.marks else ""


def test_a_counter_that_moved_is_a_lease_that_is_renewed() -> None:
    looks = (entry(), 0, 20), (entry(renewed(HELD)), 600, 620)
    assert state(*looks) == (State.WELL, "")
    assert not looked(*looks).found()["lab"].undecided


def test_what_was_seen_once_is_neither_alive_nor_over() -> None:
    assert state((entry(), 0, 20)) == (State.SILENT, "mail1 did not renew its lease while it was watched")
    assert looked((entry(), 0, 20)).found()["lab"].undecided


def test_silence_is_counted_from_the_answer_of_one_look_to_the_sending_of_another() -> None:
    # As a candidate counts: the counter may have stood at that from just before the first answer only.
    assert looked((entry(), 0, 400), (entry(), 3399, 3500)).found()["lab"].silent_ms == 2999
    assert state((entry(), 0, 400), (entry(), 3399, 3500))[0] is State.SILENT
    ended = (State.NO_PRIMARY, "the lease of mail1 has ended: not renewed for its whole length")
    assert state((entry(), 0, 400), (entry(), 3400, 3500)) == ended


def test_a_lease_that_was_renewed_and_then_stood_still_for_its_length_has_ended() -> None:
    moved = renewed(HELD)
    assert state((entry(), 0, 20), (entry(moved), 600, 620), (entry(moved), 3620, 3640))[0] is State.NO_PRIMARY


def test_a_new_term_is_a_lease_that_lives_whatever_its_counter_says() -> None:
    taken = replace(HELD, version=41, term=8, holder=MAIL2, counter=11)
    assert state((entry(), 0, 20), (entry(taken), 600, 620))[0] is State.WELL


def test_an_order_is_no_renewal() -> None:
    paused = replace(HELD, version=41, paused="anna: disks")
    watched = looked((entry(), 0, 20), (entry(paused), 3100, 3120)).found()["lab"]
    assert (watched.renewed, watched.silent_ms) == (False, 3080)


def test_a_lease_given_back_may_be_taken_in_the_next_moment() -> None:
    given = replace(HELD, revoked=True, successor=MAIL2)
    assert looked((entry(), 0, 20), (entry(given), 600, 620)).found()["lab"].undecided
    words = "mail1 gave its lease back to mail2"
    assert state((entry(given), 0, 20), (entry(given), 3020, 3040)) == (State.NO_PRIMARY, words)
    assert not looked((entry(given), 0, 20), (entry(given), 3020, 3040)).found()["lab"].undecided


@pytest.mark.parametrize(
    ("record", "expected", "why"),
    [
        (None, State.UNREADABLE, "record: no JSON"),
        (Record(), State.NO_PRIMARY, "no node has had the lease yet"),
        (replace(HELD, off="anna: both cords"), State.NO_PRIMARY, "mail1 has no power (anna: both cords)"),
        (replace(HELD, condemned_by=MAIL2), State.NO_PRIMARY, "mail2 has the power of mail1 cut"),
        (replace(HELD, unproven="since 03:00"), State.UNPROVEN, "since 03:00"),
        (replace(HELD, paused="anna: disks"), State.PAUSED, "by anna: disks"),
        (replace(HELD, request=ASKED), State.CHANGING, "promote mail2, by anna"),
        (
            replace(HELD, maintenance=(Maintenance(MAIL2, "anna", "memory"),)),
            State.MAINTENANCE,
            "mail2, by anna: memory",
        ),
        (
            replace(HELD, scheduled=Scheduled("1", MAIL2, "anna", "", 7, 5)),
            State.SCHEDULED,
            "promote mail2, by anna",
        ),
        (replace(HELD, paused="anna: disks", unproven="since 03:00"), State.UNPROVEN, "since 03:00"),
    ],
)
def test_each_state_and_its_words(record: Record | None, expected: State, why: str) -> None:
    later = renewed(record) if record is not None else None
    assert state((entry(record), 0, 20), (entry(later), 600, 620)) == (expected, why)


def test_the_worst_come_first_and_of_one_state_by_name_and_all_that_is_to_be_said_is_kept() -> None:
    paused = replace(HELD, paused="anna: disks", unproven="since 03:00", request=ASKED)
    records = {"b": HELD, "a": HELD, "z": None, "p": paused, "n": replace(HELD, off="agent"), "o": HELD}
    watch = Watch()
    watch.look([entry(record, name) for name, record in records.items()], sent_ms=0, answered_ms=9)
    later = {name: renewed(record) if record and name != "o" else record for name, record in records.items()}
    watch.look([entry(record, name) for name, record in later.items()], sent_ms=600, answered_ms=620)
    clusters = fleet(watch.found().values())
    assert [cluster.name for cluster in clusters] == ["z", "n", "o", "p", "a", "b"]
    assert [mark.state for mark in clusters[3].marks] == [State.UNPROVEN, State.PAUSED, State.CHANGING]
    assert [cluster.primary for cluster in clusters] == ["", "", "mail1", "mail1", "mail1", "mail1"]


def test_a_look_at_some_leaves_the_others_as_they_were_and_whoever_comes_counts_from_then() -> None:
    watch = looked((entry(name="old"), 0, 20), (entry(name="old"), 600, 620), (entry(name="new"), 5000, 5020))
    assert {name: watched.silent_ms for name, watched in watch.found().items()} == {"old": 580, "new": 0}


def test_a_record_that_is_gone_and_comes_back_counts_anew() -> None:
    watch = looked((entry(), 0, 20), (entry(None), 600, 620), (entry(), 3400, 3420))
    assert watch.found()["lab"].silent_ms == 0


def test_every_state_has_its_place_and_well_is_the_last() -> None:
    assert ORDER.keys() == set(State)
    assert max(State, key=ORDER.__getitem__) is State.WELL
    assert State.WELL not in BAD
