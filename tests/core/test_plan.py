"""No state is a dead end: whatever is found, a plan has a next step, or nothing left to do, or a moment to wait for."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import pytest
from views import NOW, POLICY, TERM, address, at, primary_facts, record, replica_facts, sighting, view

from failoverd.core import mail_store, plan, rules
from failoverd.core.effects import Step, StepKind
from failoverd.core.gtid import GtidSet
from failoverd.core.mail_store import StoreState
from failoverd.core.model import DatabaseFacts, NodeName, Outcome, Replication, Thread
from failoverd.core.plan import PLANS, RETRY_MOST_MS, Ended, Progress, next_step
from failoverd.core.rules import Decision
from failoverd.core.view import GateState, Leaving, View

FACTS: dict[str, DatabaseFacts | None] = {
    "dead": None,
    "writable": primary_facts(),
    "read-only": primary_facts(read_only=True),
    "follows": replica_facts(),
    "follows another": replica_facts(source="mail3"),
    "behind": replica_facts(500, applied=400),
    "frozen": replica_facts(500, applied=400, receiver=Thread.STOPPED),
    "writable replica": replica_facts(read_only=False),
}
OUTCOMES = (Outcome.FAILED, Outcome.UNKNOWN)


def start(decision: Decision, facts: str, gate: GateState, store: StoreState | None = None) -> View:
    """mail2's view with a plan to begin: it holds the term for SERVE, else mail1 does. `store`: one that moves."""
    mine = decision in (Decision.SERVE, Decision.GIVE_BACK)
    holder = NodeName("mail2" if mine else "mail1")
    given = decision is Decision.RECEIVE
    leaving = Leaving(TERM, None, "own-service-step-down", renew=True, began_ms=NOW, undo=False)
    return view(
        "mail2",
        record=record(holder=holder, revoked=given, position=at(500), successor=NodeName("mail2") if given else None),
        leaving=leaving if decision is Decision.GIVE_BACK else None,
        database=FACTS[facts],
        gate=gate,
        policy=replace(POLICY, store_moves=store is not None),
        mail_store=store or StoreState.UNKNOWN,
    )


def obey(known: View, kind: StepKind) -> View:  # noqa: C901, PLR0911, PLR0912 - one case a step
    """The world after a step that succeeded."""
    facts = known.database
    if kind in mail_store.STEPS:
        return replace(known, mail_store=mail_store.after(known.mail_store, kind, succeeded=True, mine=True))
    match kind:
        case StepKind.CLOSE_GATE:
            return replace(known, gate=GateState.CLOSED)
        case StepKind.OPEN_GATE:
            return replace(known, gate=GateState.OPEN)
        case StepKind.KILL_DATABASE:
            return replace(known, database=None)
        case StepKind.FREEZE:
            known = replace(known, frozen_term=TERM)
        case StepKind.MAKE_WRITABLE:
            known = replace(known, served_term=TERM, frozen_term=None)
        case StepKind.FENCE:
            return replace(known, fenced_term=TERM)
        case _:
            pass
    if facts is None:
        return known
    threads = facts.replication
    match kind:
        case StepKind.FREEZE if threads is not None:
            facts = replace(facts, replication=replace(threads, receiver=Thread.STOPPED))
        case StepKind.APPLY if threads is not None:
            facts = replace(facts, applied=threads.received)
        case StepKind.AWAIT_POSITION if threads is not None:
            facts = replace(facts, applied=at(500), replication=replace(threads, received=at(500)))
        case StepKind.BECOME_SOURCE:
            facts = replace(facts, replication=None, semi_sync_source=True)
        case StepKind.MAKE_WRITABLE:
            facts = replace(facts, read_only=False)
        case StepKind.MAKE_READ_ONLY:
            facts = replace(facts, read_only=True)
        case StepKind.FOLLOW:
            fresh = Replication(address("mail1"), Thread.RUNNING, Thread.RUNNING, facts.position)
            facts = replace(facts, read_only=True, replication=fresh, semi_sync_source=False)
        case _:
            pass
    return replace(known, database=facts)


def follows(facts: DatabaseFacts) -> bool:
    return facts.replication is not None and facts.replication.source == address("mail1")


def reached(decision: Decision, known: View) -> bool:  # noqa: PLR0911 - one case a decision
    """What the decision is for; a server that is dead is waited for by whoever needs it."""
    facts = known.database
    fenced = known.gate is GateState.CLOSED and (facts is None or facts.read_only)
    if known.policy.store_moves:
        wanted = StoreState.IN_USE if decision is Decision.SERVE else StoreState.RELEASED
        if known.mail_store is not wanted and (decision is Decision.SERVE or known.gate is GateState.CLOSED):
            return False
    match decision:
        case Decision.SERVE:
            return facts is None or (known.gate is GateState.OPEN and not facts.read_only and facts.semi_sync_source)
        case Decision.FOLLOW:
            return fenced and (facts is None or follows(facts))
        case Decision.PREPARE | Decision.RECEIVE:
            return facts is None or (known.i_am_frozen() and known.relay_log_applied())
        case Decision.OBSERVE:
            return True
        case Decision.FENCE:
            ready = facts is None or (known.i_am_frozen() and known.relay_log_applied())
            return known.fenced_term == TERM and ready
        case _:
            return fenced


def walk(decision: Decision, known: View, failing: tuple[StepKind, Outcome] | None) -> View:
    """Do steps until none is left; `failing` ends badly the first time it is tried."""
    progress = Progress(key=(decision.value, TERM))
    for _ in range(40):
        kind = next_step(known, decision, progress)
        if kind is None:
            known = known.at(known.now_ms + RETRY_MOST_MS)
            kind = next_step(known, decision, progress)
        if kind is None:
            return known
        badly = failing is not None and failing[0] is kind and progress.of(kind) is None
        if known.database is None and Step(kind, TERM, 0, 0).lane.value == "database":
            known = replace(known, database=replica_facts())  # until systemd has started it
        outcome = failing[1] if badly and failing is not None else Outcome.SUCCEEDED
        known = known if badly else obey(known, kind)
        progress = progress.with_ended(Ended(kind, outcome, known.now_ms, int(badly)))
    raise AssertionError(f"{decision} never ends: {progress.ended}")


@pytest.mark.parametrize("decision", PLANS, ids=lambda decision: decision.value)
def test_from_whatever_is_found_the_plan_comes_to_its_end(decision: Decision) -> None:
    for facts, gate, store in product(FACTS, GateState, (None, *StoreState)):
        known = walk(decision, start(decision, facts, gate, store), None)
        assert reached(decision, known), f"{facts}, {gate}, {store}: {known.database} {known.gate} {known.mail_store}"


@pytest.mark.parametrize("decision", PLANS, ids=lambda decision: decision.value)
def test_a_step_that_ends_badly_holds_nothing_up_for_ever(decision: Decision) -> None:
    for kind, outcome, facts, gate in product(PLANS[decision], OUTCOMES, FACTS, GateState):
        for store in (None, StoreState.UNKNOWN):
            known = walk(decision, start(decision, facts, gate, store), (kind, outcome))
            assert reached(decision, known), f"{kind} {outcome} from {facts}, {gate}: {known.database} {known.gate}"


def test_every_decision_has_a_plan_or_needs_none() -> None:
    without = {
        Decision.ARBITRATE,
        Decision.ADOPT,  # a swap
        Decision.TAKE_OVER,  # a swap
        Decision.CONDEMN,  # a swap
        Decision.DROP_REQUEST,  # a swap beside SERVE
        Decision.RESTART_UNIT,  # a step of SERVE
        Decision.LET_GO,  # becomes GIVE_BACK at once
        Decision.REJOIN,  # becomes REBUILD at once
    }
    assert set(Decision) - PLANS.keys() == without


def test_the_gate_closes_first_and_opens_last() -> None:
    for decision in (Decision.DEMOTE, Decision.STAY_FENCED, Decision.FOLLOW):
        assert PLANS[decision][0] is StepKind.CLOSE_GATE
    assert PLANS[Decision.GIVE_BACK][:2] == (StepKind.DRAIN, StepKind.CLOSE_GATE)  # DRAIN: see the queue's own tests
    serve = PLANS[Decision.SERVE]
    for before in (StepKind.APPLY, StepKind.BECOME_SOURCE, StepKind.MAKE_WRITABLE):
        assert serve.index(before) < serve.index(StepKind.OPEN_GATE)


def test_nothing_is_promoted_before_its_relay_log_is_applied() -> None:
    for facts in ("behind", "frozen"):
        known = replace(start(Decision.SERVE, facts, GateState.CLOSED), frozen_term=TERM)
        done = Progress().with_ended(Ended(StepKind.FREEZE, Outcome.SUCCEEDED, NOW, 0))
        assert next_step(obey(known, StepKind.FREEZE), Decision.SERVE, done) is StepKind.APPLY


def test_a_server_that_does_not_obey_is_killed_but_not_in_a_planned_switchover() -> None:
    known = start(Decision.GIVE_BACK, "writable", GateState.CLOSED)
    failed = Progress().with_ended(Ended(StepKind.MAKE_READ_ONLY, Outcome.UNKNOWN, NOW, 1))
    assert next_step(known, Decision.GIVE_BACK, failed) is StepKind.KILL_DATABASE
    planned = replace(
        known, leaving=Leaving(TERM, NodeName("mail3"), "switchover-asked", renew=True, began_ms=NOW, undo=True)
    )
    assert next_step(planned, Decision.GIVE_BACK, failed) is None


def test_a_server_whose_commits_can_come_to_no_end_is_killed_at_once() -> None:
    known = start(Decision.GIVE_BACK, "writable", GateState.CLOSED)
    assert known.leaving is not None
    full = replace(known, sightings=(sighting("disk:/var/lib/mysql", "mail2", 2),))
    for stuck in (full, replace(known, leaving=replace(known.leaving, rule="writes-stuck"))):
        assert next_step(stuck, Decision.GIVE_BACK, Progress()) is StepKind.KILL_DATABASE
        killed = Progress().with_ended(Ended(StepKind.KILL_DATABASE, Outcome.SUCCEEDED, NOW, 0))
        assert next_step(obey(stuck, StepKind.KILL_DATABASE), Decision.GIVE_BACK, killed) is None
        assert next_step(stuck, Decision.GIVE_BACK, killed) is StepKind.MAKE_READ_ONLY, "somebody made it writable"
        refused = Progress().with_ended(Ended(StepKind.KILL_DATABASE, Outcome.FAILED, NOW, 1))
        assert next_step(stuck, Decision.GIVE_BACK, refused) is StepKind.MAKE_READ_ONLY
        assert stuck.leaving is not None
        asked = replace(stuck, leaving=replace(stuck.leaving, rule="switchover-asked", undo=True))
        assert next_step(asked, Decision.GIVE_BACK, Progress()) is StepKind.MAKE_READ_ONLY


@pytest.mark.parametrize(
    ("changes", "again"),
    [
        ({}, set()),
        ({"read_only": True}, {StepKind.MAKE_WRITABLE}),
        ({"semi_sync_source": False}, {StepKind.BECOME_SOURCE}),
        ({"read_only": True, "semi_sync_source": False}, {StepKind.MAKE_WRITABLE, StepKind.BECOME_SOURCE}),
    ],
)
def test_what_somebody_else_has_undone_is_done_again(changes: dict[str, bool], again: set[StepKind]) -> None:
    known = view("mail1", database=primary_facts(**changes))
    assert plan.undone(known, Decision.SERVE, Progress()) == again


def test_a_replica_that_receives_from_a_third_node_stands_still_before_it_is_judged() -> None:
    """Its server was started and went on with its former source, which follows the primary by now."""
    chained = replica_facts(501, source="mail3")
    known = view("mail2", database=replace(chained, holdings=GtidSet.upto({"0-1": 501})))
    assert rules.decide(known).id == "needs-rejoin"
    progress = Progress(key=(Decision.STAY_FENCED.value, TERM))
    assert next_step(known, Decision.STAY_FENCED, progress) is StepKind.FREEZE
    stopped = replace(known, database=replica_facts(501, source="mail3", receiver=Thread.STOPPED))
    assert next_step(stopped, Decision.STAY_FENCED, progress) is None
    level = replace(known, database=replica_facts(500, source="mail3"))
    assert next_step(level, Decision.STAY_FENCED, progress) is None
    told = {"mail1": {"database": primary_facts(502)}}
    assert rules.decide(view("mail2", told, database=stopped.database)).id == "replica-rejoins"
