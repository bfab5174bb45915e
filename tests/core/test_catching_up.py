"""A replica whose server was started proves nothing of what it had acknowledged until it has all that again."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from views import NOW, RUN, TERM, lost, primary_facts, record, replica_facts, report, view

from failoverd.core import candidates
from failoverd.core.effects import Remember
from failoverd.core.health import Sendings
from failoverd.core.known import CatchUp
from failoverd.core.lease import NO_MEMORY, Memory
from failoverd.core.machine import Observed, Reported, State, step
from failoverd.core.model import DatabaseFacts, Health, NodeName, Observation, Reading, Thread

if TYPE_CHECKING:
    from failoverd.core.view import View

ANOTHER = "boot-2000-200"
M2, M3 = NodeName("mail2"), NodeName("mail3")
SENT = NOW + 40  # when this node sent the report that the primary had heard when it told its heartbeat


def read(before: State, facts: DatabaseFacts, now_ms: int) -> State:
    reading = Reading(Health.OK, facts=facts)
    return step(before, Observed(Observation("database", M2, reading, now_ms, 1)), now_ms).state


def told(before: State, beat: int, now_ms: int, *, number: int = 8, heard: int = 2, **changes: Any) -> State:
    made = report("mail1", "mail2", number=number, beat=beat, **changes)
    made = replace(made, heard=(replace(made.heard[0], number=heard),))
    return step(before, Reported(made), now_ms).state


def started_anew(beat: int = 100) -> State:
    """mail2's server was started; the primary's newest heartbeat was 100 then."""
    known = view("mail2", sendings=Sendings("mail2#1", ((1, NOW - 50), (2, SENT))))
    return read(State(view=known, software="0.1.0"), replica_facts(run=ANOTHER, heartbeat_beat=beat), NOW + 20)


def test_a_heartbeat_begun_after_the_start_was_seen_is_the_proof() -> None:
    now = started_anew()
    assert not now.view.caught_up()
    now = told(now, 104, NOW + 60)
    now = read(now, replica_facts(run=ANOTHER, heartbeat_beat=104), NOW + 80)
    assert not now.view.caught_up(), "that one may stand before what it had acknowledged"
    now = read(now, replica_facts(run=ANOTHER, heartbeat_beat=105), NOW + 100)
    assert now.view.caught_up()


def test_it_is_on_disk_for_the_next_daemon() -> None:
    now = read(told(started_anew(), 104, NOW + 60), replica_facts(run=ANOTHER, heartbeat_beat=105), NOW + 80)
    assert now.view.memory.caught_up == ANOTHER
    next_one = State(view=view("mail2", memory=now.view.memory, catch_up=None, database=None), software="0.1.0")
    assert read(next_one, replica_facts(run=ANOTHER), NOW + 120).view.caught_up()
    assert not read(next_one, replica_facts(run="boot-3000-300"), NOW + 120).view.caught_up()


def test_it_is_written_once() -> None:
    now = told(started_anew(), 104, NOW + 60)
    facts = replica_facts(run=ANOTHER, heartbeat_beat=105)
    reading = Observed(Observation("database", M2, Reading(Health.OK, facts=facts), NOW + 80, 1))
    first = step(now, reading, NOW + 80)
    written = [effect for effect in first.effects if isinstance(effect, Remember)]
    assert [effect.memory.caught_up for effect in written] == [ANOTHER]
    again = step(first.state, replace(reading, observation=replace(reading.observation, ended_ms=NOW + 90)), NOW + 90)
    assert not [effect for effect in again.effects if isinstance(effect, Remember)]


def test_what_the_primary_told_before_the_start_was_seen_counts_for_nothing() -> None:
    now = told(started_anew(), 90, NOW + 60, heard=1)
    assert not read(now, replica_facts(run=ANOTHER, heartbeat_beat=100), NOW + 80).view.caught_up()


def test_nor_does_another_node_s_word_or_another_term_s() -> None:
    other = step(started_anew(), Reported(report("mail3", "mail2", number=8, beat=90)), NOW + 60).state
    assert not read(other, replica_facts(run=ANOTHER, heartbeat_beat=105), NOW + 80).view.caught_up()
    former = told(started_anew(), 90, NOW + 60, term=TERM - 1)
    assert not read(former, replica_facts(run=ANOTHER, heartbeat_beat=105), NOW + 80).view.caught_up()
    marked = told(started_anew(), 104, NOW + 60)
    later = replica_facts(run=ANOTHER, heartbeat_term=TERM - 1, heartbeat_beat=900)
    assert not read(marked, later, NOW + 80).view.caught_up()


def test_a_primary_that_has_begun_no_heartbeat_tells_nothing() -> None:
    now = told(started_anew(), 0, NOW + 60)
    assert not read(now, replica_facts(run=ANOTHER, heartbeat_beat=105), NOW + 80).view.caught_up()


def test_a_run_that_is_not_known_never_has() -> None:
    known = view("mail2", memory=NO_MEMORY, database=replica_facts(run=""), catch_up=CatchUp("", NOW - 100, TERM, 5))
    assert not known.caught_up()


def test_a_primary_has_all_by_itself() -> None:
    known = view("mail1", memory=Memory(TERM), catch_up=CatchUp(RUN, NOW - 100))
    assert known.catches_up()
    assert not replace(known, held=None).catches_up()
    assert not replace(known, database=primary_facts(read_only=True)).catches_up()
    assert not replace(known, database=primary_facts(run=ANOTHER)).catches_up()


# ---- what it is for: an election ------------------------------------------------------------------------------------

FORGETFUL = {"mail3": {"caught_up": False}}


def why(known: View, name: NodeName) -> str:
    return next(rejected.reason for rejected in candidates.failover(known).rejected if rejected.node == name)


def test_its_position_is_no_proof_where_the_primary_is_lost() -> None:
    election = candidates.failover(lost(reports=FORGETFUL))
    assert (election.order, {rejected.code for rejected in election.rejected if rejected.node in (M2, M3)}) == (
        (),
        {"BLK_RPO_UNPROVEN"},
    )
    assert "heard: mail2 (not counted: mail3, whose database was started" in why(lost(reports=FORGETFUL), M2)
    own = candidates.failover(lost(database=replica_facts(receiver=Thread.STOPPED, run=ANOTHER)))
    assert own.order == ()


def test_it_may_be_elected_where_the_primary_itself_tells_what_it_had() -> None:
    gave = record(revoked=True, position=replica_facts().position)
    assert candidates.failover(lost(reports=FORGETFUL, record=gave)).order == (M2, M3)


def test_nobody_counts_on_electing_it() -> None:
    assert candidates.could_elect(view("mail1"))
    assert not candidates.could_elect(view("mail1", FORGETFUL))
