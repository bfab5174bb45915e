"""A mail store that moves with the role: when it is taken, when it is left, and what is told before it is."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise, product
from typing import Any

import pytest
from views import NOW, POLICY, RUN, TERM, primary_facts, record, replica_facts, sighting, view

from failoverd.core import candidates, mail_store, plan, rules
from failoverd.core.effects import Cancel, Perform, Purpose, Step, StepKind, Swap
from failoverd.core.events import Observed, StepEnded, Ticked
from failoverd.core.lease import Memory
from failoverd.core.machine import make_report, step
from failoverd.core.mail_store import LEAVING, STEPS, StoreState
from failoverd.core.model import (
    Health,
    NodeName,
    Observation,
    Outcome,
    Reading,
    Request,
    StoreFacts,
    Thread,
    UnitFacts,
)
from failoverd.core.plan import PLANS, Progress, next_step
from failoverd.core.rules import Decision
from failoverd.core.state import Reaction, State
from failoverd.core.view import GateState, Leaving, View

MOVES = replace(POLICY, store_moves=True, store_ms=20_000)
MAIL1, MAIL2 = NodeName("mail1"), NodeName("mail2")
UNITS = ("dovecot.service", "postfix@-.service")
STORE_SEEN = sighting("store", "mail2")


def moving(me: str, store: StoreState, **changes: Any) -> View:
    return view(me, **({"policy": MOVES, "mail_store": store, "mail_store_ms": NOW - 60_000} | changes))


def leaving(*, undo: bool, **changes: Any) -> View:
    """mail1 gives its term back: closed and read-only."""
    rule = "switchover-asked" if undo else "own-service-step-down"
    given = Leaving(TERM, MAIL2, rule, renew=True, began_ms=NOW - 500, undo=undo)
    request = Request("r1", MAIL2, "anna", "maintenance", TERM)
    facts = primary_facts(read_only=True)
    known = {"leaving": given, "gate": GateState.CLOSED, "database": facts, "record": record(request=request)}
    return moving("mail1", StoreState.IN_USE, **(known | changes))


def state(known: View, *running: Step, decision: Decision = Decision.GIVE_BACK) -> State:
    progress = Progress(key=(decision.value, TERM), running=running, number=9)
    return State(view=known, software="0.1.0", progress=progress)


def a_step(kind: StepKind, number: int = 1) -> Step:
    return Step(kind=kind, term=TERM, number=number, deadline_ms=1000)


def kinds(reaction: Reaction) -> list[StepKind]:
    return [effect.step.kind for effect in reaction.effects if isinstance(effect, Perform)]


def purposes(reaction: Reaction) -> list[Purpose]:
    return [effect.purpose for effect in reaction.effects if isinstance(effect, Swap)]


def looked(probe: str, facts: StoreFacts | UnitFacts | None, *, began_ms: int = NOW - 10) -> Observed:
    return Observed(Observation(probe, MAIL2, Reading(Health.OK, facts=facts), NOW, NOW - began_ms))


# ---- where it stays, nothing is asked of it -------------------------------------------------------------------------


@pytest.mark.parametrize("decision", PLANS, ids=lambda decision: decision.value)
def test_a_store_that_every_node_has_is_neither_taken_nor_left(decision: Decision) -> None:
    for store, gate, kind in product(StoreState, GateState, STEPS):
        known = view("mail2", mail_store=store, gate=gate)
        assert not mail_store.needed(known, kind, closed=True)
        assert next_step(known, decision, Progress()) not in STEPS


# ---- the order of things --------------------------------------------------------------------------------------------


def test_it_is_taken_before_the_services_start_and_they_start_before_the_gate_opens() -> None:
    order = [
        StepKind.APPLY,
        StepKind.TAKE_STORE,
        StepKind.MAKE_WRITABLE,
        StepKind.START_SERVICES,
        StepKind.OPEN_GATE,
        StepKind.BREAK_LOCKS,
    ]
    serve = PLANS[Decision.SERVE]
    assert all(serve.index(before) < serve.index(after) for before, after in pairwise(order))
    assert not set(LEAVING) & set(serve)


def test_only_a_plan_of_the_holder_takes_it_and_all_others_leave_it() -> None:
    for decision, steps in PLANS.items():
        if decision is not Decision.SERVE:
            assert StepKind.TAKE_STORE not in steps
            assert steps.index(StepKind.STOP_SERVICES) < steps.index(StepKind.RELEASE_STORE)
    holds = [rule for rule in rules.RULES if rule.decision is Decision.SERVE]
    assert all("i_hold" in {claim.__name__ for claim in rule.when} for rule in holds)


@pytest.mark.parametrize("gate", [GateState.OPEN, GateState.UNKNOWN])
def test_nothing_is_left_before_the_gate_is_closed(gate: GateState) -> None:
    known = moving("mail2", StoreState.IN_USE, gate=gate)
    for decision in PLANS:
        assert next_step(known, decision, Progress()) not in LEAVING


def test_it_is_released_only_once_the_services_are_stopped() -> None:
    for store in StoreState:
        due = mail_store.needed(moving("mail2", store), StepKind.RELEASE_STORE, closed=True)
        assert due == (store is StoreState.QUIET)


def test_stopping_and_making_read_only_go_on_at_the_same_time() -> None:
    known = leaving(undo=False, database=primary_facts())
    assert kinds(step(state(known), Ticked(), NOW)) == [StepKind.STOP_SERVICES, StepKind.MAKE_READ_ONLY]


def test_services_that_are_still_being_started_hold_up_no_demotion() -> None:
    known, starting = leaving(undo=False, database=primary_facts()), a_step(StepKind.START_SERVICES)
    reaction = step(state(known, starting, decision=Decision.SERVE), Ticked(), NOW)
    assert Cancel(starting) in reaction.effects
    assert kinds(reaction) == [StepKind.MAKE_READ_ONLY]
    ended = step(reaction.state, StepEnded(starting, Outcome.UNKNOWN, "STORE_CANCELLED"), NOW)
    assert kinds(ended) == [StepKind.STOP_SERVICES]


def test_a_store_that_cannot_be_left_holds_up_nothing_else() -> None:
    known = moving("mail2", StoreState.QUIET, gate=GateState.CLOSED, database=replica_facts(source="mail3"))
    failed = plan.Ended(StepKind.RELEASE_STORE, Outcome.FAILED, NOW, 1, "STORE_BUSY", "in use by bash[1]")
    progress = Progress(key=(Decision.FOLLOW.value, TERM)).with_ended(failed)
    assert next_step(known, Decision.FOLLOW, progress) is StepKind.FOLLOW
    assert next_step(known.at(NOW + 200), Decision.FOLLOW, progress) is StepKind.RELEASE_STORE


def test_the_steps_have_what_they_need() -> None:
    known = moving("mail1", StoreState.UNKNOWN)
    taking = plan.make_step(known, StepKind.TAKE_STORE, 1)
    assert (taking.term, taking.previous, taking.deadline_ms) == (TERM, "mail3", 20_000)
    assert plan.make_step(known, StepKind.RELEASE_STORE, 1).deadline_ms == 20_000
    for kind in (StepKind.START_SERVICES, StepKind.STOP_SERVICES):
        assert plan.make_step(known, kind, 1).units == UNITS


# ---- what a step's end says -----------------------------------------------------------------------------------------


def test_a_taking_that_ends_without_the_lease_leaves_nothing_known_and_is_left() -> None:
    taking = a_step(StepKind.TAKE_STORE)
    lost = moving("mail2", StoreState.UNKNOWN, gate=GateState.CLOSED)  # mail1 holds the term
    for outcome in Outcome:
        reaction = step(state(lost, taking, decision=Decision.FOLLOW), StepEnded(taking, outcome), NOW)
        assert reaction.state.view.mail_store is StoreState.UNKNOWN
        assert StepKind.STOP_SERVICES in kinds(reaction)


def test_from_when_it_is_asked_for_it_may_be_here() -> None:
    known = moving(
        "mail1", StoreState.RELEASED, served_term=0, frozen_term=TERM, database=replica_facts(receiver=Thread.STOPPED)
    )
    reaction = step(state(known, decision=Decision.SERVE), Ticked(), NOW)
    assert kinds(reaction) == [StepKind.TAKE_STORE]
    assert reaction.state.view.mail_store is StoreState.UNKNOWN


@pytest.mark.parametrize(
    ("store", "kind", "succeeded", "mine", "then"),
    [
        (StoreState.UNKNOWN, StepKind.TAKE_STORE, True, True, StoreState.TAKEN),
        (StoreState.UNKNOWN, StepKind.TAKE_STORE, False, True, StoreState.UNKNOWN),
        (StoreState.QUIET, StepKind.TAKE_STORE, True, False, StoreState.UNKNOWN),
        (StoreState.TAKEN, StepKind.START_SERVICES, True, True, StoreState.IN_USE),
        (StoreState.TAKEN, StepKind.START_SERVICES, False, True, StoreState.TAKEN),
        (StoreState.RELEASED, StepKind.START_SERVICES, True, False, StoreState.UNKNOWN),
        (StoreState.IN_USE, StepKind.STOP_SERVICES, True, False, StoreState.QUIET),
        (StoreState.IN_USE, StepKind.STOP_SERVICES, False, False, StoreState.UNKNOWN),
        (StoreState.RELEASED, StepKind.STOP_SERVICES, True, False, StoreState.RELEASED),
        (StoreState.QUIET, StepKind.RELEASE_STORE, True, False, StoreState.RELEASED),
        (StoreState.QUIET, StepKind.RELEASE_STORE, False, False, StoreState.QUIET),
        (StoreState.TAKEN, StepKind.RELEASE_STORE, True, True, StoreState.UNKNOWN),  # taken again meanwhile
    ],
)
def test_what_is_known_after_a_step(
    store: StoreState, kind: StepKind, *, succeeded: bool, mine: bool, then: StoreState
) -> None:
    assert mail_store.after(store, kind, succeeded=succeeded, mine=mine) is then


# ---- before the term is given back ----------------------------------------------------------------------------------


@pytest.mark.parametrize("store", StoreState)
@pytest.mark.parametrize("by_itself", [False, True], ids=["given back", "ended by itself"])
def test_the_term_is_given_back_once_the_store_is_left(store: StoreState, *, by_itself: bool) -> None:
    ended = {"leaving": None, "held": None} if by_itself else {}
    known = leaving(undo=False, mail_store=store, memory=Memory(TERM, MAIL1, 3000, caught_up=RUN), **ended)
    assert rules.decide(known).decision is Decision.GIVE_BACK
    told = Purpose.GIVE_BACK in purposes(step(state(known), Ticked(), NOW))
    assert told == (store is StoreState.RELEASED)


@pytest.mark.parametrize("kind", LEAVING)
@pytest.mark.parametrize("undo", [True, False], ids=["asked for", "by itself"])
def test_a_switchover_whose_store_cannot_be_left_is_taken_back(kind: StepKind, *, undo: bool) -> None:
    known = leaving(undo=undo, mail_store=StoreState.QUIET if kind is StepKind.RELEASE_STORE else StoreState.IN_USE)
    failing = a_step(kind)
    reaction = step(state(known, failing), StepEnded(failing, Outcome.FAILED, "STORE_BUSY", "in use by bash[1]"), NOW)
    after = reaction.state.view
    assert (after.leaving is None) == undo
    assert after.i_hold() == undo
    if undo:
        assert after.request_failed is not None
        assert after.request_failed.code == "STORE_BUSY"
        assert not set(LEAVING) & set(kinds(reaction))


@pytest.mark.parametrize(("undo", "moves", "renewed"), [(True, True, True), (False, True, False), (True, False, False)])
def test_the_lease_is_renewed_while_a_switchover_waits_for_the_store(*, undo: bool, moves: bool, renewed: bool) -> None:
    known = leaving(undo=undo, policy=replace(MOVES, store_moves=moves), mail_store=StoreState.QUIET)
    began_ms = NOW - POLICY.ttl_ms - 1000
    assert known.leaving is not None
    known = known.changed(leaving=replace(known.leaving, began_ms=began_ms))
    running = a_step(StepKind.RELEASE_STORE) if moves else a_step(StepKind.MAKE_READ_ONLY)
    blocked = known if moves else known.changed(database=primary_facts())
    assert (Purpose.RENEW in purposes(step(state(blocked, running), Ticked(), NOW))) == renewed
    late = blocked.changed(leaving=replace(known.leaving, began_ms=NOW - 120_000))
    assert Purpose.RENEW not in purposes(step(state(late, running), Ticked(), NOW))


def test_a_walk_through_it_is_told_to_end_when_it_is_left() -> None:
    walking = a_step(StepKind.BREAK_LOCKS)
    known = leaving(undo=False)
    reaction = step(state(known, walking, decision=Decision.SERVE), Ticked(), NOW)
    assert Cancel(walking) in reaction.effects


# ---- refused --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("code", "stuck"), [("STORE_HOOK_REFUSED", True), ("STORE_HOOK_FAILED", False)])
def test_a_program_that_refuses_is_not_asked_five_times(code: str, *, stuck: bool) -> None:
    taking = a_step(StepKind.TAKE_STORE)
    known = moving("mail1", StoreState.UNKNOWN)
    reaction = step(state(known, taking, decision=Decision.SERVE), StepEnded(taking, Outcome.FAILED, code, "no"), NOW)
    assert (reaction.state.view.stuck is not None) == stuck


def test_the_refused_code_is_the_actions_own() -> None:
    from failoverd.actions import CODES  # noqa: PLC0415 - the core's tests need it here only

    assert mail_store.REFUSED in CODES


# ---- while it is not here, the services' silence says nothing -------------------------------------------------------


def silent(store: StoreState, **changes: Any) -> View:
    """mail2, a replica, whose services do not run."""
    down = [sighting(name, "mail2", 9) for name in ("imap", "smtp", *(f"unit:{unit}" for unit in UNITS))]
    return moving("mail2", store, **({"sightings": (*down, STORE_SEEN)} | changes))


def test_a_node_without_the_store_is_ready_when_it_could_have_it() -> None:
    known = silent(StoreState.RELEASED)
    assert known.ready
    assert not known.failing_here
    assert known.findings == ()
    assert not silent(StoreState.RELEASED, sightings=()).ready, "not looked at yet"
    refused = silent(StoreState.RELEASED, sightings=(sighting("store", "mail2", 1, "STORE_NO_DEVICE"),))
    assert not refused.ready
    why = candidates.planned_rejection(refused, "mail2")
    assert why is not None
    assert (why.code, "STORE_NO_DEVICE" in why.reason) == ("BLK_NOT_READY", True)


def test_a_node_with_the_store_is_judged_by_its_services_once_they_had_the_time_to_start() -> None:
    known = silent(StoreState.IN_USE)
    assert not known.ready
    assert {service for service, _, _ in known.failing_here} == {"imap", "smtp"}
    assert known.findings
    started = known.changed(mail_store_ms=NOW - MOVES.restart_settle_ms + 1)
    assert started.ready
    assert not started.failing_here
    assert not started.at(NOW + 1).ready


def test_the_disk_under_an_empty_mount_point_says_nothing() -> None:
    policy = replace(MOVES, shared_disk="disk:/srv/mail", shared_disk_ms=0)
    full = (STORE_SEEN, sighting("disk:/srv/mail", "mail2", 9, "DISK_READ_ONLY"))
    assert not silent(StoreState.RELEASED, policy=policy, sightings=full).failing_disks
    assert silent(StoreState.RELEASED, policy=policy, sightings=full).findings == ()
    assert silent(StoreState.IN_USE, policy=policy, sightings=full).failing_disks
    other = (STORE_SEEN, sighting("disk:/var/lib/mysql", "mail2", 9, "DISK_READ_ONLY"))
    assert silent(StoreState.RELEASED, policy=policy, sightings=other).failing_disks


# ---- somebody's hand ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("store", "event", "undone"),
    [
        (StoreState.RELEASED, looked("store", StoreFacts(here=True)), True),
        (StoreState.RELEASED, looked("store", StoreFacts(here=False)), False),
        (StoreState.RELEASED, looked("store", StoreFacts(None)), False),
        (StoreState.RELEASED, looked("store", StoreFacts(here=True), began_ms=NOW - 90_000), False),  # from before
        (StoreState.IN_USE, looked("store", StoreFacts(here=False)), True),
        (StoreState.IN_USE, looked("store", StoreFacts(here=True)), False),
        (StoreState.QUIET, looked("store", StoreFacts(here=True)), False),
        (StoreState.RELEASED, looked("unit:dovecot.service", UnitFacts("dovecot.service", "active", "running")), True),
        (StoreState.QUIET, looked("unit:dovecot.service", UnitFacts("dovecot.service", "active", "running")), True),
        (StoreState.IN_USE, looked("unit:dovecot.service", UnitFacts("dovecot.service", "active", "running")), False),
        (StoreState.RELEASED, looked("unit:mariadb.service", UnitFacts("mariadb.service", "active", "running")), False),
    ],
)
def test_what_somebody_else_did_to_it_is_noticed(store: StoreState, event: Observed, *, undone: bool) -> None:
    known = moving("mail2", store, gate=GateState.CLOSED)
    reaction = step(state(known, decision=Decision.FOLLOW), event, NOW)
    assert (reaction.state.view.mail_store is not store) == undone
    assert bool([entry for entry in reaction.entries if entry.kind == "undone"]) == undone
    assert (StepKind.STOP_SERVICES in kinds(reaction)) == (undone or store is StoreState.IN_USE)


# ---- told -----------------------------------------------------------------------------------------------------------


def test_what_keeps_it_is_a_finding_and_so_is_a_node_that_nobody_can_fence() -> None:
    failed = plan.Ended(StepKind.RELEASE_STORE, Outcome.FAILED, NOW, 1, "STORE_BUSY", "in use by bash[1]")
    known = silent(StoreState.QUIET)
    progress = Progress(key=(Decision.FOLLOW.value, TERM)).with_ended(failed)
    told = make_report(State(view=known, software="0.1.0", progress=progress))
    assert told.findings == (("STORE_BUSY", "in use by bash[1]"),)
    alone = known.changed(policy=replace(MOVES, store_unfenced=("mail2",)))
    assert alone.findings == (("STORE_UNFENCED", "fencing.nodes has no agent for mail2"),)
    assert known.changed(policy=replace(MOVES, store_unfenced=("mail1",))).findings == ()
