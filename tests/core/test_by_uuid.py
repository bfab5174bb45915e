"""The core on positions as MySQL has them: sets of numbers by server uuid, where each server counts for itself.

mail1 is the holder of term 5 (uuid A), which began when it had what mail3 (uuid C) had written before.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from views import TERM, lost, primary_facts, record, replica_facts, replication, view

from failoverd.core import candidates
from failoverd.core.gtid import GtidSet
from failoverd.core.model import MORE_THAN_SOURCE, DatabaseFacts, NodeName, Thread
from failoverd.core.rules import decide
from failoverd.core.view import GateState

if TYPE_CHECKING:
    from failoverd.core.view import View

A, B, C = "aaaaaaaa", "bbbbbbbb", "cccccccc"
M1, M2, M3 = NodeName("mail1"), NodeName("mail2"), NodeName("mail3")
STOPPED = Thread.STOPPED


def of(**last: int) -> GtidSet:
    return GtidSet.upto({{"a": A, "b": B, "c": C}[name]: number for name, number in last.items()})


BEGAN = of(a=10, c=100)
RECORD = record(began=BEGAN)
ALL = of(a=500, c=100)


def mine(facts: DatabaseFacts, held: GtidSet, own: GtidSet, **changes: Any) -> DatabaseFacts:
    return replace(facts, holdings=held, applied=held, own=own, **changes)


def a_replica(
    held: GtidSet, received: GtidSet | None = None, own: GtidSet | None = None, **threads: Any
) -> DatabaseFacts:
    following = replace(replication(**threads), received=held if received is None else received)
    return mine(replica_facts(), held, own or GtidSet(), replication=following)


def frozen(held: GtidSet, received: GtidSet | None = None, own: GtidSet | None = None, **threads: Any) -> DatabaseFacts:
    return a_replica(held, received, own, receiver=STOPPED, **threads)


def ended(second: DatabaseFacts, third: DatabaseFacts) -> View:
    return lost("mail2", {"mail3": {"database": third}}, database=second, record=RECORD)


def test_two_level_replicas_may_both_be_elected() -> None:
    election = candidates.failover(ended(frozen(ALL), frozen(ALL)))
    assert election.order == (M2, M3)


def test_the_further_one_is_elected_by_what_it_has_received() -> None:
    further = frozen(ALL, of(a=507))
    election = candidates.failover(ended(frozen(ALL), further))
    assert election.order == (M3,)
    assert [(why.node, why.code) for why in election.rejected if why.node == M2] == [(M2, "BLK_BEHIND")]


def test_a_gap_is_behind_though_the_last_number_is_the_same() -> None:
    """What MariaDB cannot have: an applier's worker that is late, or a number that was never received."""
    gap = GtidSet.of({A: [(1, 400), (402, 500)], C: [(1, 100)]})
    election = candidates.failover(ended(frozen(gap), frozen(ALL)))
    assert election.order == (M3,)


def test_each_has_what_the_other_lacks() -> None:
    one = GtidSet.of({A: [(1, 400), (402, 501)], C: [(1, 100)]})
    election = candidates.failover(ended(frozen(one), frozen(ALL)))
    assert election.order == ()
    codes = {why.code for why in election.rejected if why.node in (M2, M3)}
    assert codes == {"BLK_DIVERGED"}


@pytest.mark.parametrize(
    ("own", "astray"),
    [
        (GtidSet(), False),
        (of(c=100), False),  # from its own term, which all have
        (of(c=101), True),  # beyond it
    ],
)
def test_what_a_replica_wrote_itself_beyond_the_terms_beginning_is_errant(own: GtidSet, *, astray: bool) -> None:
    held = of(a=500).union(own).union(of(c=100))
    known = ended(frozen(ALL), frozen(held, own=own))
    assert known.gone_astray(M3) is astray
    codes = {why.code for why in candidates.failover(known).rejected if why.node == M3}
    assert (M3 in candidates.failover(known).order) is not astray
    assert ("BLK_DIVERGED" in codes) is astray


def test_a_server_that_the_term_has_never_heard_of_may_not_have_written() -> None:
    """Its uuid is in nothing that the term began with: one transaction is enough."""
    known = ended(frozen(ALL), frozen(ALL.union(of(b=1)), own=of(b=1)))
    assert known.gone_astray(M3)


def test_a_planned_switchover_does_not_go_to_one_that_wrote_itself() -> None:
    errant = a_replica(ALL.union(of(c=101)), own=of(c=101))
    source = mine(primary_facts(), ALL, of(a=500))
    told = {"mail1": {"database": source}, "mail3": {"database": errant}}
    known = view("mail1", told, record=RECORD, database=source)
    why = candidates.planned_rejection(known, "mail3")
    assert why is not None
    assert why.code == "BLK_EXTRA"


def test_an_old_primary_that_committed_what_nobody_acknowledged_stays_out() -> None:
    """MySQL commits it when it starts again, and its new source would not refuse it: the core has to."""
    new = record(holder=M2, previous=M1, term=TERM, began=ALL)
    holder = mine(primary_facts(server_id=2), ALL.union(of(b=3)), of(b=3))
    back = mine(primary_facts(read_only=True), of(a=501, c=100), of(a=501))
    told = {"mail2": {"database": holder, "serving": True}}
    known = view("mail1", told, record=new, database=back, held=None, served_term=TERM - 1, gate=GateState.CLOSED)
    assert decide(known).id == "needs-rejoin"
    assert known.wrote_itself(M1)
    level = mine(primary_facts(read_only=True), ALL, of(a=500))
    known = view("mail1", told, record=new, database=level, held=None, served_term=TERM - 1, gate=GateState.CLOSED)
    assert decide(known).id == "replica-rejoins"
    assert not known.wrote_itself(M1)


def test_mysqls_words_for_a_replica_that_has_more_are_known() -> None:
    text = f"13114: Got fatal error 1236 from source: 'Replica {MORE_THAN_SOURCE}source has, ...'"
    assert replication(receiver=STOPPED, receiver_error=text).refused
    assert not replication(receiver=STOPPED, receiver_error="13114: purged required binary logs").refused
