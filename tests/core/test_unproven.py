"""Going on without a replica: said in the store first, a block for everybody else, and proven again by positions."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from views import NOW, POLICY, RUN, TERM, at, lost, primary_facts, record, replica_facts, view

from failoverd.core import candidates, forced, plan, rules, unproven
from failoverd.core.absorb_steps import STUCK_FAILURES
from failoverd.core.effects import Perform, Purpose, Remember, Step, StepKind, Swap
from failoverd.core.known import Waits
from failoverd.core.lease import Held, Memory, Watch
from failoverd.core.machine import Observed, Reaction, Reported, State, StepEnded, StoreSeen, Swapped, Ticked, step
from failoverd.core.model import Health, NodeName, Observation, Outcome, Reading, Record, Request, Thread
from failoverd.core.plan import Ended, Progress
from failoverd.core.rules import Decision
from failoverd.core.view import GateState, Leaving, View

M1, M2, M3 = NodeName("mail1"), NodeName("mail2"), NodeName("mail3")
WHY = "no replica acknowledges, and writes go on all the same, since heartbeat 100 of term 5 of mail1"
AFTER_MS = 30_000
GOES_ON = replace(POLICY, go_on_after_ms=AFTER_MS)
ALONE: dict[str, Any] = {"mail2": None, "mail3": None}
MEMORY = Memory(TERM, M1, POLICY.ttl_ms, None, RUN)
STUCK_MS = NOW - AFTER_MS
MARKED = record(unproven=WHY)
DONE = Progress(
    (Decision.SERVE.value, TERM),
    tuple(
        Ended(kind, Outcome.SUCCEEDED, NOW - 9000, 0)
        for kind in plan.PLANS[Decision.SERVE]
        if kind is not StepKind.STOP_WAITING
    ),
)


def serving(reports: Any = ALONE, **changes: Any) -> View:
    """What mail1 knows that serves and has had no commit acknowledged for as long as its policy waits."""
    own = {"policy": GOES_ON, "memory": MEMORY, "beat_seen_ms": STUCK_MS}
    return view("mail1", reports, **(own | changes))


def reaction_of(known: View, event: Any = None, **changes: Any) -> Reaction:
    return step(replace(State(view=known, software="0.1.0", progress=DONE), **changes), event or Ticked(), NOW)


def swap_of(reaction: Reaction) -> Swap | None:
    return next((e for e in reaction.effects if isinstance(e, Swap) and e.purpose is not Purpose.RENEW), None)


def steps_of(reaction: Reaction) -> list[StepKind]:
    return [e.step.kind for e in reaction.effects if isinstance(e, Perform)]


def renewed(known: View, **changes: Any) -> Reaction:
    """With no renewal due, which comes before all else."""
    return reaction_of(known, renewed_ms=NOW - 10, **changes)


def looks(**facts: Any) -> Observed:
    """A reading of mail1's database."""
    return Observed(Observation("database", M1, Reading(Health.OK, facts=primary_facts(**facts)), NOW, 1))


# ---- the store says so first ----------------------------------------------------------------------------------------


def test_by_default_writes_wait_for_ever() -> None:
    known = serving(policy=POLICY, beat_seen_ms=NOW - 10_000_000)
    reaction = renewed(known)
    assert (swap_of(reaction), steps_of(reaction)) == (None, [])


@pytest.mark.parametrize(
    "changes",
    [
        {"beat_seen_ms": STUCK_MS + 1},
        {"record": record(paused="anna: storage")},
        {"gate": GateState.CLOSED},
        {"database": None},
        {"database": primary_facts(read_only=True)},
        {"database": primary_facts(semi_sync_source=False)},
        {"record": record(holder=M2)},
    ],
)
def test_the_store_is_told_only_when_clients_have_waited_for_so_long(changes: dict[str, Any]) -> None:
    known = serving(**changes)
    assert unproven.to_be_marked(known) == ""
    assert not unproven.may_stop_waiting(known.changed(marked_term=TERM))


def test_the_store_is_told_before_anything_is_let_go() -> None:
    reaction = renewed(serving())
    swap = swap_of(reaction)
    assert swap is not None
    assert (swap.purpose, swap.record.unproven) == (Purpose.MARK, WHY)
    assert steps_of(reaction) == []
    assert [entry.code for entry in reaction.entries if entry.kind == "rpo-unproven"] == ["RPO_UNPROVEN"]

    told = replace(swap.record, version=41)
    silent = step(reaction.state, Swapped(swap, Outcome.UNKNOWN, None), NOW)
    assert steps_of(silent) == []
    lost_race = step(reaction.state, Swapped(swap, Outcome.FAILED, replace(told, unproven="")), NOW)
    assert steps_of(lost_race) == []
    answered = step(reaction.state, Swapped(swap, Outcome.SUCCEEDED, told), NOW)
    assert answered.state.view.marked_term == TERM
    assert steps_of(answered) == [StepKind.STOP_WAITING]


def test_another_run_s_mark_is_not_enough() -> None:
    """An earlier run of this daemon may have sent a CLEAR that fits the version which stands."""
    reaction = renewed(serving(record=MARKED))
    assert steps_of(reaction) == []
    swap = swap_of(reaction)
    assert swap is not None
    assert (swap.purpose, swap.record.unproven) == (Purpose.MARK, WHY)
    assert steps_of(renewed(serving(record=MARKED, marked_term=TERM - 1))) == []
    assert steps_of(renewed(serving(record=MARKED, marked_term=TERM))) == [StepKind.STOP_WAITING]
    assert steps_of(renewed(serving(record=record(), marked_term=TERM))) == []  # an old copy of the store


def test_what_was_let_go_by_a_hand_is_told_whatever_the_policy() -> None:
    known = serving(policy=POLICY, beat_seen_ms=NOW, database=primary_facts(unacknowledged=2))
    swap = swap_of(renewed(known))
    assert swap is not None
    said = "the server let commits go without a replica, since heartbeat 100 of term 5 of mail1"
    assert (swap.purpose, swap.record.unproven) == (Purpose.MARK, said)
    for same in (
        known.changed(memory=replace(MEMORY, let_go=2)),
        known.changed(let_go=(TERM, 2)),
        known.changed(database=primary_facts(unacknowledged=2, read_only=True)),
        known.changed(held=None),
        known.changed(record=MARKED, marked_term=TERM),
    ):
        assert swap_of(renewed(same)) is None or unproven.to_be_marked(same) == ""
    assert unproven.to_be_marked(known.changed(let_go=(TERM - 1, 2))) == said
    assert unproven.to_be_marked(known.changed(memory=replace(MEMORY, let_go=3))) == said  # put back by a hand


def test_what_the_store_was_told_is_kept_for_a_daemon_that_is_started_anew() -> None:
    known = serving(policy=POLICY, beat_seen_ms=NOW, database=primary_facts(unacknowledged=2))
    asked = renewed(known)
    swap = swap_of(asked)
    assert swap is not None
    answered = step(asked.state, Swapped(swap, Outcome.SUCCEEDED, replace(swap.record, version=41)), NOW)
    (kept,) = (effect.memory for effect in answered.effects if isinstance(effect, Remember))
    assert kept.let_go == 2
    before = [effect for effect in asked.effects if isinstance(effect, Remember)]
    assert before == []


def test_a_server_that_was_started_counts_anew() -> None:
    known = serving(memory=replace(MEMORY, let_go=7), let_go=(TERM, 7), beat_seen_ms=NOW)
    down = step(State(view=known, software="0.1.0", progress=DONE), looks(read_only=True, run="another"), NOW)
    assert down.state.view.memory.let_go == 0
    up = step(down.state, looks(run="another"), NOW)
    assert unproven.to_be_marked(up.state.view) == ""


def test_a_new_term_begins_with_what_its_server_had_let_go_before() -> None:
    was = lost(memory=replace(MEMORY, term=TERM - 1, let_go=9), database=replica_facts(unacknowledged=4))
    assert reaction_of(was).state.view.memory.let_go == 4


# ---- a block for everybody else -------------------------------------------------------------------------------------


def test_only_the_primary_s_own_word_lets_anybody_take_over() -> None:
    both = lost(record=MARKED)
    election = candidates.failover(both)
    assert election.order == ()
    assert {why.code for why in election.rejected if why.node in (M2, M3)} == {"BLK_RPO_UNPROVEN"}
    assert WHY in next(why.reason for why in election.rejected if why.node == M2)
    assert rules.decide(both).id == "primary-lapsing"
    assert rules.decide(lost()).id == rules.LOST
    back = {"mail1": {"database": primary_facts(read_only=True), "serving": False}}
    assert candidates.failover(lost(reports=back, record=MARKED)).best == M1
    ahead = {"mail1": {"database": primary_facts(510, read_only=True), "serving": False}}
    assert candidates.failover(lost(reports=ahead, record=MARKED)).order == (M1,)
    given = replace(MARKED, revoked=True, successor=M2, position=at(500))
    assert rules.decide(lost(record=given, watch=Watch(TERM, 30, NOW - 500))).id == "take-over-given"
    unread = replace(given, position=None)
    assert candidates.failover(lost(record=unread)).order == ()


def test_nobody_who_followed_the_former_primary_stands_in_for_one_that_went_on_alone() -> None:
    former = replica_facts(100, source="mail3", receiver=Thread.STOPPED)
    begun = record(began=at(100), previous=M3)
    known = lost(reports={"mail3": {"database": former}}, database=former, record=begun)
    assert candidates.failover(known).best == M2
    assert candidates.failover(known.changed(record=replace(begun, unproven=WHY))).order == ()


def test_a_primary_that_went_on_alone_is_neither_killed_nor_fenced_for_others_that_could_not_take_over() -> None:
    stuck = serving({}, policy=POLICY, beat_seen_ms=NOW - POLICY.writes_stuck_ms)
    assert rules.decide(stuck).id == "writes-stuck"
    assert rules.decide(stuck.changed(record=MARKED)).id == "primary-serves"
    assert candidates.could_elect(view())
    assert not candidates.could_elect(view(record=MARKED))
    assert candidates.could_elect(view(record=MARKED), told=True)


def test_a_person_can_go_past_it() -> None:
    request = Request("r1", M2, "anna", "it burnt", TERM, allow_loss=True)
    known = lost(record=replace(MARKED, request=request), request_seen=("r1", NOW - 100))
    assert [why.code for why in forced.passed(known, "mail2")] == ["BLK_RPO_UNPROVEN"]
    assert rules.decide(known).id == forced.FORCED


def test_who_takes_over_keeps_it_until_it_is_proven() -> None:
    given = replace(MARKED, revoked=True, successor=M2, position=at(500))
    swap = swap_of(reaction_of(lost(record=given, watch=Watch(TERM, 30, NOW - 500))))
    assert swap is not None
    assert (swap.purpose, swap.record.unproven) == (Purpose.TAKE_OVER, WHY)


# ---- proven again ---------------------------------------------------------------------------------------------------

OFF = primary_facts(semi_sync_source=False, unacknowledged=3)
ON = primary_facts(unacknowledged=3)
NOTED = Waits(TERM, RUN, 3, at(500))


def again(reports: Any = None, **changes: Any) -> View:
    """What mail1 knows when commits wait again, and both replicas have all."""
    own = {"record": MARKED, "marked_term": TERM, "database": ON, "waits": NOTED, "beat_seen_ms": NOW}
    return serving(reports or {}, **(own | changes))


def test_while_nobody_could_acknowledge_waiting_stays_off() -> None:
    off = serving(record=MARKED, marked_term=TERM, database=OFF, beat_seen_ms=NOW)
    assert unproven.goes_on(off)
    assert steps_of(renewed(off)) == []
    for wrong in (off.changed(record=record()), off.changed(policy=POLICY)):
        assert steps_of(renewed(wrong)) == [StepKind.BECOME_SOURCE]
    crashed = off.changed(database=replace(OFF, read_only=True))
    assert steps_of(renewed(crashed)) == [StepKind.BECOME_SOURCE]  # never writable while nothing waits
    late = {"database": replica_facts(400, heartbeat_beat=90)}
    assert unproven.goes_on(off.changed(reports=again({"mail2": late, "mail3": late}).reports))
    assert steps_of(renewed(off.changed(reports=again().reports))) == [StepKind.BECOME_SOURCE]
    anew = off.changed(reports=again({"mail2": {"rebuilding": True}, "mail3": None}).reports)
    assert steps_of(renewed(anew)) == []  # it stops acknowledging: clients would wait once more


def test_what_was_let_go_is_behind_a_position_that_two_readings_agree_on() -> None:
    known = again(waits=None)
    first = unproven.waits_again(known, ON)
    assert first == replace(NOTED, behind=None)
    assert unproven.waits_again(known.changed(waits=first), ON) == NOTED
    assert unproven.waits_again(known.changed(waits=NOTED), replace(ON, applied=at(600))) == NOTED
    assert unproven.waits_again(known.changed(waits=first), replace(ON, unacknowledged=4)) == replace(
        NOTED, count=4, behind=None
    )
    assert unproven.waits_again(known.changed(waits=first), replace(ON, run="another")) == replace(
        NOTED, run="another", behind=None
    )
    for nothing in (OFF, replace(ON, read_only=True)):
        assert unproven.waits_again(known.changed(waits=NOTED), nothing) is None
    assert unproven.waits_again(known.changed(waits=first, record=record()), ON) is None
    assert unproven.waits_again(known.changed(waits=first, served_term=TERM - 1), ON) is None


def test_a_replica_that_has_all_of_it_proves_it() -> None:
    reaction = renewed(again())
    swap = swap_of(reaction)
    assert swap is not None
    assert (swap.purpose, swap.record.unproven) == (Purpose.CLEAR, "")
    assert reaction.state.view.marked_term == 0  # from its sending on
    answered = step(reaction.state, Swapped(swap, Outcome.SUCCEEDED, replace(swap.record, version=41)), NOW)
    assert answered.state.view.let_go == (TERM, 3)
    assert swap_of(answered) is None
    assert answered.state.view.memory.let_go == 3


def behind(**changes: Any) -> dict[str, Any]:
    return {"database": replica_facts(**({"received": 500} | changes))}


@pytest.mark.parametrize(
    "changes",
    [
        {"waits": None},
        {"waits": replace(NOTED, behind=None)},
        {"waits": replace(NOTED, count=2)},
        {"waits": replace(NOTED, term=TERM - 1)},
        {"database": replace(ON, semi_sync_source=False)},
        {"database": replace(ON, read_only=True)},
        {"database": replace(ON, unacknowledged=4)},
        {"reports": ALONE},
        {"reports": {"mail2": behind(received=499), "mail3": None}},
        {"reports": {"mail2": behind(received=500, applied=499), "mail3": None}},
        {"reports": {"mail2": behind(source="mail3"), "mail3": None}},
        {"reports": {"mail2": behind(receiver=Thread.STOPPED), "mail3": None}},
        {"reports": {"mail2": behind(heartbeat_term=TERM - 1), "mail3": None}},
        {"reports": {"mail2": behind() | {"rebuilding": True}, "mail3": None}},  # what it has is about to go
        {"record": replace(MARKED, holder=M2)},
    ],
)
def test_nothing_less_proves_it(changes: dict[str, Any]) -> None:
    known = again(changes.pop("reports", None), **changes)
    assert unproven.proven_by(known) is None
    assert unproven.proven_by(again()) == M2


def test_nothing_is_cleared_while_waiting_is_being_switched_off() -> None:
    stopping = Step(StepKind.STOP_WAITING, TERM, 9, 2000)
    reaction = renewed(again(), progress=replace(DONE, running=(stopping,)))
    assert swap_of(reaction) is None
    late = step(reaction.state, StepEnded(stopping, Outcome.UNKNOWN, "STEP_TIMEOUT", "late"), NOW)
    assert late.state.view.waits is None  # it may have happened: noted anew
    assert swap_of(late) is None


def test_a_clear_that_is_on_its_way_lets_nothing_go() -> None:
    reaction = renewed(again())
    stuck = reaction.state.view.changed(beat_seen_ms=STUCK_MS)
    assert not unproven.may_stop_waiting(stuck)
    assert not unproven.may_stop_waiting(stuck.changed(held=Held(TERM, 41, NOW + 2500)))


def test_a_heartbeat_that_the_end_of_a_step_shows_counts_as_well() -> None:
    """Or a follower that is level has waiting switched on at once, off again, and so on: no look ever sees a beat."""
    stopping = Step(StepKind.STOP_WAITING, TERM, 9, 2000)
    known = serving({}, record=MARKED, marked_term=TERM)  # and a replica is level meanwhile
    assert unproven.may_stop_waiting(known)
    stopped = primary_facts(semi_sync_source=False, unacknowledged=2, heartbeat_beat=101)
    state = State(view=known, software="0.1.0", renewed_ms=NOW - 10, progress=replace(DONE, running=(stopping,)))
    ended = step(state, StepEnded(stopping, Outcome.SUCCEEDED, facts=stopped), NOW)
    assert ended.state.view.beat_seen_ms == NOW
    assert steps_of(ended) == [StepKind.BECOME_SOURCE]
    (begun,) = ended.state.progress.running
    on_again = primary_facts(unacknowledged=2, heartbeat_beat=101)
    waits = step(ended.state, StepEnded(begun, Outcome.SUCCEEDED, facts=on_again), NOW + 50)
    assert StepKind.STOP_WAITING not in steps_of(waits)


def test_switching_off_that_fails_holds_nothing_else_up_and_is_tried_again() -> None:
    ended = Ended(StepKind.STOP_WAITING, Outcome.FAILED, NOW - 100, 1, "DB_HUNG", "it hangs")
    known = serving(record=MARKED, marked_term=TERM)
    rest = replace(DONE, ended=tuple(e for e in DONE.ended if e.kind is not StepKind.PROVE))
    assert plan.next_step(known, Decision.SERVE, rest.with_ended(ended)) is StepKind.PROVE
    again_ms = replace(ended, at_ms=NOW - 1000)
    assert plan.next_step(known, Decision.SERVE, rest.with_ended(again_ms)) is StepKind.STOP_WAITING


def test_switching_off_that_fails_again_and_again_is_no_reason_to_step_down() -> None:
    """Whoever steps down takes along what only it has, and is no candidate for a minute."""
    state = State(view=serving({}, record=MARKED, marked_term=TERM), software="0.1.0", progress=DONE)
    for number in range(STUCK_FAILURES + 1):
        stopping = Step(StepKind.STOP_WAITING, TERM, number, 2000)
        running = replace(state.progress, running=(stopping,))
        failed = StepEnded(stopping, Outcome.FAILED, "DB_HUNG", "it hangs")
        state = step(replace(state, progress=running), failed, NOW + number).state
    ended = state.progress.of(StepKind.STOP_WAITING)
    assert ended is not None
    assert ended.failures > STUCK_FAILURES
    assert state.view.stuck is None
    assert state.view.i_hold()


def test_every_node_writes_down_what_the_store_says() -> None:
    known = view("mail2")
    state = State(view=known, software="0.1.0")
    swapped = Swap(Purpose.ORDER, 40, record(), NOW)
    said = step(state, Swapped(swapped, Outcome.FAILED, record(version=41, unproven=WHY)), NOW)
    assert [entry.text for entry in said.entries if entry.kind == "rpo-unproven"] == [WHY]
    clear = step(said.state, Swapped(swapped, Outcome.FAILED, record(version=42)), NOW)
    assert [entry.kind for entry in clear.entries if entry.kind.startswith("rpo")] == ["rpo-proven"]
    assert Record().unproven == ""


# ---- an old copy of the store ---------------------------------------------------------------------------------------

SAID = replace(MARKED, marks=3)


def seen(known: View, record_: Record) -> View:
    return step(State(view=known, software="0.1.0"), StoreSeen(record_), NOW).state.view


def test_every_change_of_the_mark_is_counted() -> None:
    swap = swap_of(renewed(serving(record=record(marks=4))))
    assert swap is not None
    assert (swap.record.unproven, swap.record.marks) == (WHY, 5)
    cleared = swap_of(renewed(again(record=replace(MARKED, marks=5))))
    assert cleared is not None
    assert (cleared.record.unproven, cleared.record.marks) == ("", 6)
    given = replace(MARKED, revoked=True, successor=M2, position=at(500), marks=5)
    taken = swap_of(reaction_of(lost(record=given, watch=Watch(TERM, 30, NOW - 500))))
    assert taken is not None
    assert taken.record.marks == 5


def test_what_this_node_has_on_its_disk_an_old_copy_does_not_hide() -> None:
    first = seen(view("mail2"), replace(SAID, version=41))
    assert (first.memory.unproven, first.memory.marks) == (WHY, 3)
    old = record(version=90, marks=2)
    kept = seen(view("mail2", record=None, memory=first.memory), old)
    assert kept.record == replace(old, unproven=WHY, marks=3)
    assert kept.memory.marks == 3
    newer = seen(kept, record(version=91, marks=4))
    assert newer.record is not None
    assert (newer.record.unproven, newer.memory.unproven, newer.memory.marks) == ("", "", 4)
    back = seen(newer, replace(SAID, version=92))
    assert back.record is not None
    assert (back.record.unproven, back.record.marks) == ("", 4)


def test_what_another_node_knows_an_old_copy_does_not_hide() -> None:
    for told, expected in (
        ({"unproven": WHY, "marks": 3}, (WHY, 3)),
        ({"unproven": "", "marks": 3}, ("", 2)),  # that all is proven is not believed of others
        ({"unproven": WHY, "marks": 2}, ("", 2)),
    ):
        known = view("mail2", {"arbiter": told}).changed(record=None)
        found = seen(known, record(version=90, marks=2)).record
        assert found is not None
        assert (found.unproven, found.marks) == expected
    known = view("mail2", record=record(marks=2))
    told_later = replace(next(r for r in known.reports if r.sender == "arbiter"), number=99, unproven=WHY, marks=3)
    answer = step(State(view=known, software="0.1.0"), Reported(told_later), NOW)
    assert answer.state.view.record == replace(SAID, marks=3)
    assert [entry.text for entry in answer.entries if entry.kind == "rpo-unproven"] == [WHY]
    assert answer.state.view.memory.marks == 3


def test_a_primary_that_finds_an_old_copy_marks_it_before_it_lets_anything_go() -> None:
    memory = replace(MEMORY, unproven=WHY, marks=3)
    known = serving(record=SAID, marked_term=TERM, memory=memory)
    assert steps_of(renewed(known)) == [StepKind.STOP_WAITING]
    state = State(view=known, software="0.1.0", progress=DONE, renewed_ms=NOW - 10)
    found = step(state, StoreSeen(record(version=90, counter=31)), NOW)
    assert steps_of(found) == []
    swap = swap_of(found)
    assert swap is not None
    assert (swap.purpose, swap.expected_version, swap.record.unproven) == (Purpose.MARK, 90, WHY)
    assert swap.record.marks == 4


def test_a_primary_whose_commits_do_not_wait_puts_the_mark_back_with_its_next_renewal() -> None:
    known = serving(record=SAID, marked_term=TERM, database=OFF, beat_seen_ms=NOW, let_go=(TERM, 3))
    state = State(view=known.changed(memory=replace(MEMORY, unproven=WHY, marks=3)), software="0.1.0", progress=DONE)
    found = step(state, StoreSeen(record(version=90, counter=31)), NOW)
    (swap,) = (effect for effect in found.effects if isinstance(effect, Swap))
    assert (swap.purpose, swap.record.unproven, swap.record.marks) == (Purpose.RENEW, WHY, 3)
    assert steps_of(found) == []  # and goes on meanwhile


def test_nothing_is_let_go_by_a_primary_that_is_leaving() -> None:
    known = serving(record=MARKED, marked_term=TERM)
    leaving = Leaving(TERM, M2, "switchover-asked", renew=True, undo=True, began_ms=NOW)
    assert unproven.may_stop_waiting(known)
    assert not unproven.may_stop_waiting(known.changed(leaving=leaving))


def test_what_a_person_gives_up_is_named() -> None:
    known = lost(record=replace(MARKED, request=Request("r1", M2, "anna", "it burnt", TERM, allow_loss=True)))
    assert f"what mail1 told clients and nobody else had: {WHY}" in forced.may_be_lost(known, "mail2")
    back = {"mail1": {"database": primary_facts(read_only=True), "serving": False}}
    assert all(WHY not in text for text in forced.may_be_lost(lost(reports=back, record=MARKED), "mail2"))
