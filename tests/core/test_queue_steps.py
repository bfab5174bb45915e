"""When something is asked of the mail queue, and that it is in nobody's way."""

from __future__ import annotations

from dataclasses import replace

import pytest
from views import NOW, TERM, primary_facts, record, report, view

from failoverd.core.effects import Cancel, Lane, Step, StepKind
from failoverd.core.events import StepEnded, Ticked
from failoverd.core.health import Sighting
from failoverd.core.machine import State, make_report, step
from failoverd.core.model import Health, NodeName, Observation, Outcome, QueueFacts, Reading, Rejoin
from failoverd.core.plan import (
    DRAIN_LATE_MS,
    PLANS,
    QUEUE_RETRY_FIRST_MS,
    QUEUE_RETRY_MOST_MS,
    Ended,
    Progress,
    make_step,
    next_step,
)
from failoverd.core.rules import Decision, decide
from failoverd.core.view import GateState, Leaving, View

FOLLOWS = Progress((Decision.FOLLOW.value, TERM)).with_ended(Ended(StepKind.FOLLOW, Outcome.SUCCEEDED, NOW - 9000, 0))
SERVES = replace(FOLLOWS, key=(Decision.SERVE.value, TERM))
for done in PLANS[Decision.SERVE]:
    if done is not StepKind.RELEASE:
        SERVES = SERVES.with_ended(Ended(done, Outcome.SUCCEEDED, NOW - 9000, 0))


def with_mail(known: View, facts: QueueFacts, ended_ms: int = NOW - 100) -> View:
    reading = Reading(Health.OK, facts=facts)
    seen = Sighting(Observation("queue", known.me.name, reading, ended_ms, 5), 0, ended_ms)
    return known.changed(sightings=(*known.sightings, seen))


def replica(facts: QueueFacts, ended_ms: int = NOW - 100) -> View:
    return with_mail(view("mail2"), facts, ended_ms)


WAITING = (QueueFacts(1, 0, 0, 0), QueueFacts(0, 1, 0, 0), QueueFacts(0, 0, 1, 0))
NOTHING = QueueFacts(0, 0, 0, 2)  # what an administrator holds is nobody's business


@pytest.mark.parametrize("facts", WAITING)
def test_a_replica_hands_on_what_waits_to_the_primarys_own_address(facts: QueueFacts) -> None:
    known = replica(facts)
    assert decide(known).decision is Decision.FOLLOW
    assert next_step(known, Decision.FOLLOW, FOLLOWS) is StepKind.HAND_ON
    fenced = replace(FOLLOWS, key=(Decision.STAY_FENCED.value, TERM))
    assert next_step(known, Decision.STAY_FENCED, fenced) is StepKind.HAND_ON, "also one that needs a rejoin"
    made = make_step(known, StepKind.HAND_ON, 3)
    assert (made.address, made.target, made.lane) == ("10.89.1.11", "mail1", Lane.QUEUE)


def test_a_rebuild_does_not_hold_the_mail_up() -> None:
    """It takes hours, its server is stopped meanwhile, and a retry of its start is in nobody's way."""
    wanted = Rejoin("r1", NodeName("mail2"), NodeName("mail3"), "anna", TERM)
    since = {"rejoin": wanted, "rejoin_since_ms": NOW - 60_000, "rejoin_starts": (NOW - 1000,)}
    for facts in (replica(WAITING[0]).database, None):
        known = replica(WAITING[0]).changed(**since, database=facts)
        assert decide(known).decision is Decision.REBUILD
        key = Progress((Decision.REBUILD.value, TERM))
        assert next_step(known, Decision.REBUILD, key) is StepKind.HAND_ON
        due = known.changed(rejoin_starts=())
        assert next_step(due, Decision.REBUILD, key) is StepKind.START_REBUILD
    handing = make_step(replica(WAITING[0]), StepKind.HAND_ON, 1)
    before = replace(FOLLOWS, running=(handing,))
    begun = replica(WAITING[0]).changed(**since)
    reaction = step(State(view=begun, software="0.1.0", progress=before), Ticked(), NOW)
    assert Cancel(handing) not in reaction.effects  # it goes on


@pytest.mark.parametrize(
    "known",
    [
        view("mail2"),
        replica(NOTHING),
        with_mail(view("mail2", {"mail1": None}), WAITING[0]),
        with_mail(view("mail2", {"mail1": {"serving": False}}), WAITING[0]),
        with_mail(view("mail2", {"mail1": {"term": TERM - 1}}), WAITING[0]),
        with_mail(view("mail2", record=record(paused="anna: maintenance")), WAITING[0]),
    ],
    ids=["no queue known", "nothing waits", "primary silent", "primary not open", "another term", "paused"],
)
def test_nothing_is_handed_on(known: View) -> None:
    assert next_step(known, Decision.FOLLOW, FOLLOWS) is None


def test_what_comes_first_comes_first() -> None:
    known = replica(WAITING[0])
    assert next_step(known, Decision.FOLLOW, Progress((Decision.FOLLOW.value, TERM))) is StepKind.FOLLOW
    assert next_step(known.changed(gate=GateState.OPEN), Decision.FOLLOW, FOLLOWS) is StepKind.CLOSE_GATE


def test_it_is_asked_again_ever_later_and_by_a_newer_look_only() -> None:
    for failures, wait_ms in ((1, QUEUE_RETRY_FIRST_MS), (2, 2 * QUEUE_RETRY_FIRST_MS), (30, QUEUE_RETRY_MOST_MS)):
        tried = FOLLOWS.with_ended(Ended(StepKind.HAND_ON, Outcome.FAILED, NOW, failures, "QUEUE_LEFT", "later"))
        for facts_ms, at_ms, again in (
            (NOW + wait_ms - 9, NOW + wait_ms - 1, False),
            (NOW + wait_ms - 9, NOW + wait_ms, True),
            (NOW - 1, NOW + wait_ms, False),
        ):
            known = replica(WAITING[0], facts_ms).changed(now_ms=at_ms)
            fresh = tuple(report(name, "mail2") for name in ("mail1", "mail3", "arbiter"))
            known = known.changed(reports=fresh, sendings=replace(known.sendings, log=((1, at_ms - 50),)))
            asked = next_step(known, Decision.FOLLOW, tried) is StepKind.HAND_ON
            assert asked is again, (failures, facts_ms, at_ms)


def test_it_is_asked_again_at_once_when_the_nodes_own_mailboxes_are_back() -> None:
    """Without Dovecot nobody knows whether a mail that was being delivered had arrived."""
    tried = FOLLOWS.with_ended(Ended(StepKind.HAND_ON, Outcome.FAILED, NOW - 2000, 7, "QUEUE_LEFT", "doveadm: refused"))

    def asked(since_ms: int, failures: int, progress: Progress = tried) -> StepKind | None:
        known = replica(WAITING[0])
        health = Health.FAILED if failures else Health.OK
        imap = Sighting(Observation("imap", known.me.name, Reading(health), NOW - 50, 5), failures, since_ms)
        known = known.changed(sightings=(*(s for s in known.sightings if s.observation.probe != "imap"), imap))
        return next_step(known, Decision.FOLLOW, progress)

    assert asked(NOW - 50, 0) is StepKind.HAND_ON
    assert asked(NOW - 50, 1) is None, "it fails"
    assert asked(NOW - 2001, 0) is None, "it answered then as it does now"
    done = FOLLOWS.with_ended(Ended(StepKind.HAND_ON, Outcome.SUCCEEDED, NOW - 2000, 0))
    assert asked(NOW - 50, 0, done) is None, "it was answered"


def test_a_primary_takes_back_what_it_held_last_of_all_and_it_is_no_sign_that_it_is_stuck() -> None:
    known = with_mail(view("mail1"), QueueFacts(3, 1, 1, 0))
    assert next_step(known, Decision.SERVE, SERVES) is StepKind.RELEASE
    assert make_step(known, StepKind.RELEASE, 1).address == "10.89.1.11"
    assert next_step(with_mail(view("mail1"), QueueFacts(3, 1, 0, 0)), Decision.SERVE, SERVES) is None
    state = State(view=known, software="0", progress=SERVES)
    for number in range(9):
        ended = StepEnded(Step(StepKind.RELEASE, TERM, number, 1), Outcome.FAILED, "QUEUE_LEFT", "no")
        state = step(state, ended, NOW + number).state
    assert state.view.stuck is None


def test_a_planned_switchover_drains_once_while_the_gate_is_open() -> None:
    leaving = Leaving(TERM, NodeName("mail2"), "switchover-asked", renew=True, began_ms=NOW, undo=True)
    known = view("mail1", leaving=leaving)
    policy = replace(known.policy, drain_ms=1500)
    on_purpose = known.changed(policy=policy)
    new = Progress((Decision.GIVE_BACK.value, TERM))
    assert next_step(known, Decision.GIVE_BACK, new) is StepKind.CLOSE_GATE, "it is switched off"
    assert next_step(on_purpose, Decision.GIVE_BACK, new) is StepKind.DRAIN
    assert make_step(on_purpose, StepKind.DRAIN, 1).deadline_ms == 1500
    for outcome in Outcome:
        tried = new.with_ended(Ended(StepKind.DRAIN, outcome, NOW, 1))
        assert next_step(on_purpose, Decision.GIVE_BACK, tried) is StepKind.CLOSE_GATE
    running = replace(new, running=(make_step(on_purpose, StepKind.DRAIN, 1),))
    for at_ms, kind in ((NOW + 1600, StepKind.DRAIN), (NOW + 1500 + DRAIN_LATE_MS, StepKind.CLOSE_GATE)):
        assert next_step(on_purpose.changed(now_ms=at_ms), Decision.GIVE_BACK, running) is kind
    lost = on_purpose.changed(leaving=replace(leaving, undo=False))
    assert next_step(lost, Decision.GIVE_BACK, new) is StepKind.CLOSE_GATE
    closed = on_purpose.changed(gate=GateState.CLOSED, database=primary_facts())
    assert next_step(closed, Decision.GIVE_BACK, new) is StepKind.MAKE_READ_ONLY


def test_an_operator_is_told_what_waits_and_why() -> None:
    tried = FOLLOWS.with_ended(Ended(StepKind.HAND_ON, Outcome.FAILED, NOW, 1, "QUEUE_REFUSED", "554 no"))
    told = make_report(State(view=replica(QueueFacts(0, 1, 2, 5)), software="0", progress=tried)).findings
    assert told == (
        ("QUEUE_WAITING", "3 messages in the mail queue, 2 of them held"),
        ("QUEUE_REFUSED", "554 no"),
    )
    assert make_report(State(view=with_mail(view("mail1"), WAITING[0]), software="0")).findings == ()
