"""What speaks against moving the record to the next store, and what a node makes of one that was moved."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from views import MEMBERSHIP, NOW, TERM, record, report, view

from failoverd.core import candidates, migration, orders
from failoverd.core.effects import Purpose, Remember, Swap
from failoverd.core.events import MoveAsked, StoreSeen, TargetSeen, Ticked
from failoverd.core.known import Target
from failoverd.core.lease import Memory
from failoverd.core.machine import State, make_report, step
from failoverd.core.model import NodeName, Record, Request

if TYPE_CHECKING:
    from failoverd.core.view import View

MAIL1, MAIL2 = NodeName("mail1"), NodeName("mail2")
NEXT = "digest with the next store"
PLACE = Record(version=1, moves=1, moved_to="there", sealed=True, reason=NEXT)
SEALED = record(moves=1, moved_to="there", sealed=True)
MOVED = record(version=41, counter=31, moves=1, moved_to="there")


def ready(standing: Record | None = PLACE, reports: dict[str, Any] | None = None, **changes: Any) -> View:
    """Mail1 holds the lease, every node has the same next store, and has seen the place there."""
    told = {name: {"membership_next": NEXT, "next_answers": True, "next_place": "there"} for name in NAMES}
    for name, more in (reports or {}).items():
        told[name] = more if more is None else told[name] | more
    target = Target(NOW, standing, "" if standing is not None else "cut off")
    return view("mail1", told, **{"membership_next": NEXT, "target": target, "record": record()} | changes)


NAMES = ("mail2", "mail3", "arbiter")
AGAINST: dict[str, tuple[View, str, str]] = {
    "no next store": (ready(membership_next=""), "BLK_NEXT_STORE", "no store.next"),
    "not on every node": (ready(reports={"mail3": {"membership_next": ""}}), "BLK_NEXT_STORE", "mail3"),
    "another on one": (ready(reports={"mail3": {"membership_next": "x"}}), "BLK_NEXT_STORE", "mail3"),
    "a node is not heard": (ready(reports={"arbiter": None}), "BLK_UNREACHABLE", "arbiter"),
    "another release": (ready(reports={"mail2": {"software": "0.0.9"}}), "BLK_SOFTWARE", "0.0.9"),
    "silent there": (ready(reports={"mail2": {"next_answers": False}}), "BLK_NEXT_SILENT", "mail2"),
    "silent here": (ready(None), "BLK_NEXT_SILENT", "cut off"),
    "looked long ago": (ready(target=Target(NOW - 60_000, PLACE)), "BLK_NEXT_SILENT", "mail1"),
    "another's record there": (ready(record(term=2)), "BLK_NEXT_TAKEN", "another cluster"),
    "another's place there": (ready(replace(PLACE, reason="x")), "BLK_NEXT_TAKEN", "another cluster"),
    "newer than ours there": (ready(replace(SEALED, moves=2)), "BLK_NEXT_TAKEN", "newer"),
    "paused": (ready(record=record(paused="anna: a move")), "BLK_PAUSED", "anna"),
    "a switchover goes on": (ready(record=record(request=Request("r", MAIL2, "anna", ""))), "BLK_REQUEST", "anna"),
    "nobody holds it": (ready(record=record(revoked=True)), "BLK_NO_PRIMARY", "nobody"),
    "on its way": (ready(record=SEALED), "BLK_REQUEST", "on its way"),
    "a rebuild": (ready(reports={"mail3": {"rebuilding": True}}), "BLK_REBUILDING", "mail3"),
}


@pytest.mark.parametrize("known", [ready(), ready(Record()), ready(replace(SEALED, moves=0, moved_to=""))])
def test_it_may_be_moved(known: View) -> None:
    assert migration.rejections(known, "0.1.0") == ()


@pytest.mark.parametrize(("known", "code", "words"), AGAINST.values(), ids=AGAINST)
def test_it_may_not_be_moved(known: View, code: str, words: str) -> None:
    found = migration.rejections(known, "0.1.0")
    assert code in {why.code for why in found}
    assert any(words in why.reason for why in found if why.code == code)


def test_every_code_is_explained() -> None:
    given = {code for _, code, _ in AGAINST.values()} | {"BLK_NEXT_UNSEEN"}
    assert set(migration.CODES) == given - set(candidates.CODES)


def test_it_is_sealed_only_for_the_place_that_every_node_has_seen() -> None:
    assert migration.sealing_rejections(ready(), "there") == ()
    for known in (ready(reports={"mail3": {"next_place": "elsewhere"}}), ready(replace(PLACE, reason="another's"))):
        assert {why.code for why in migration.sealing_rejections(known, "there")} == {"BLK_NEXT_UNSEEN"}


# ---- the order ------------------------------------------------------------------------------------------------------


def swaps(known: View, order: MoveAsked) -> list[Swap]:
    reaction = step(State(known, "0.1.0", renewed_ms=NOW), order, NOW)
    return [effect for effect in reaction.effects if isinstance(effect, Swap)]


def test_the_seal_changes_nothing_else() -> None:
    (swap,) = swaps(ready(), MoveAsked("anna", "there", 1))
    assert swap.purpose is Purpose.ORDER
    assert replace(swap.record, ordered=()) == SEALED
    assert orders.by_whom(swap.record, orders.MOVE) == "anna"


def test_it_is_looked_at_again_right_before_the_seal() -> None:
    assert swaps(ready(reports={"mail3": {"next_place": ""}}), MoveAsked("anna", "there", 1)) == []
    assert orders.stands(MOVED, MoveAsked("anna", "there", 1)), "it was made already"


def test_the_holder_renews_what_is_sealed_where_it_counts() -> None:
    reaction = step(State(ready(record=SEALED), "0.1.0"), Ticked(), NOW)
    (swap,) = [effect for effect in reaction.effects if isinstance(effect, Swap)]
    assert (swap.purpose, swap.expected_version) == (Purpose.RENEW, SEALED.version)
    assert swap.record == replace(SEALED, counter=SEALED.counter + 1, ttl_ms=swap.record.ttl_ms, sealed=False)


# ---- what was moved -------------------------------------------------------------------------------------------------


def test_it_is_remembered_before_anything_else() -> None:
    reaction = step(State(view("mail2"), "0.1.0"), StoreSeen(SEALED), NOW)
    first = reaction.effects[0]
    assert isinstance(first, Remember)
    assert (first.memory.moves, first.memory.moved_to) == (1, "there")
    assert make_report(reaction.state).moves == 1


def test_the_moves_of_a_record_that_is_refused_are_not() -> None:
    another = record(term=TERM - 1, moves=9, moved_to="far away")
    reaction = step(State(view("mail2", record=None), "0.1.0"), StoreSeen(another), NOW)
    assert reaction.state.view.memory.moves == 0
    assert make_report(reaction.state).moves == 0


def test_a_copy_from_before_the_move_is_refused() -> None:
    known = view("mail2", record=None, memory=Memory(TERM, MAIL1, 3000, moves=1, moved_to="there"))
    reaction = step(State(known, "0.1.0"), StoreSeen(record()), NOW)
    assert [entry.code for entry in reaction.entries if entry.kind == "store-refused"] == ["BLK_STORE_OLD"]
    assert reaction.state.view.store_is_behind()


@pytest.mark.parametrize(
    ("before", "seen", "taken"),
    [
        (record(version=900), SEALED, True),  # another run's number is no word on what was moved
        (SEALED, MOVED, True),
        (replace(SEALED, version=900), MOVED, True),
        (MOVED, replace(SEALED, version=900), False),
        (MOVED, replace(MOVED, version=40), False),
    ],
)
def test_of_two_records_the_one_further_on_counts(before: Record, seen: Record, taken: bool) -> None:
    reaction = step(State(view("mail2", record=before), "0.1.0"), StoreSeen(seen), NOW)
    assert reaction.state.view.record == (seen if taken else before)


def test_who_hears_of_a_move_takes_nothing_over_on_what_it_reads() -> None:
    late = view("mail2", {"mail3": {"moves": 1}}, record=record(revoked=True, successor=MAIL2))
    assert not late.lease_is_over()
    doubt = candidates.doubt(late, MAIL2)
    assert doubt is not None
    assert doubt.code == "BLK_STORE_OLD"


@pytest.mark.parametrize(
    ("mine", "theirs", "alike"),
    [
        (("old", ""), ("old", "new"), True),
        (("old", "new"), ("old", "new"), True),
        (("old", "new"), ("new", ""), True),
        (("old", ""), ("new", ""), False),
        (("old", ""), ("other", ""), False),
        (("old", "new"), ("other", "another"), False),
    ],
)
def test_neighbours_in_a_rolling_change_are_alike(mine: tuple[str, str], theirs: tuple[str, str], alike: bool) -> None:
    known = view("mail1", membership=mine[0], membership_next=mine[1])
    told = report("mail2", "mail1", membership=theirs[0], membership_next=theirs[1])
    assert known.alike(told) is alike
    assert view("mail1").alike(report("mail2", "mail1", membership=MEMBERSHIP))


def test_a_look_at_the_next_store_is_told_to_the_others() -> None:
    known = view("mail2", membership_next=NEXT)
    assert not make_report(State(known, "0.1.0")).next_answers
    seen = step(State(known, "0.1.0"), TargetSeen(PLACE), NOW).state
    told = make_report(seen)
    assert (told.next_answers, told.next_place) == (True, "there")
    silent = make_report(step(seen, TargetSeen(None, "cut off"), NOW).state)
    assert (silent.next_answers, silent.next_place) == (False, "")
