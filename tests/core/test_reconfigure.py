"""Other thresholds while a node runs: at once where nothing is under way, after it where something is."""

from __future__ import annotations

from dataclasses import fields, replace

import pytest
from views import NODES, NOW, POLICY, TERM, primary_facts, record, view

from failoverd.core import reconfigure
from failoverd.core.effects import Purpose, Swap
from failoverd.core.lease import Held
from failoverd.core.machine import Reconfigured, State, StepEnded, Ticked, step
from failoverd.core.model import NodeName, Outcome, Request
from failoverd.core.policy import Policy
from failoverd.core.view import GateState, Leaving, View

MAIL1, MAIL2 = (node.name for node in NODES[:2])
NEAR = replace(POLICY, max_lag_ms=2000)


def serving(**changes: object) -> View:
    """mail1, the primary, with nothing under way."""
    held = Held(TERM, record().version, NOW + 2000)
    return view(MAIL1, record=record(), held=held, gate=GateState.OPEN, database=primary_facts()).changed(**changes)


def test_other_thresholds_are_in_force_at_once_where_nothing_is_under_way() -> None:
    before = State(view=serving(), software="0.1.0")
    reaction = step(before, Reconfigured(NEAR, "anna"), NOW)
    assert reaction.state.view.policy == NEAR
    assert reaction.state.policy is None
    (entry,) = [entry for entry in reaction.entries if entry.kind == "reconfigured"]
    assert entry.text == "other thresholds are in force: max_lag_ms 5000 -> 2000"


def test_role_lease_and_gate_are_what_they_would_be_without_it() -> None:
    before = State(view=serving(), software="0.1.0")
    plain, reloaded = step(before, Ticked(), NOW), step(before, Reconfigured(NEAR, "anna"), NOW)
    for name in ("held", "gate", "highest_term", "record", "leaving", "memory"):
        assert getattr(plain.state.view, name) == getattr(reloaded.state.view, name), name
    assert reloaded.effects == plain.effects
    assert reloaded.state.progress == plain.state.progress


UNDER_WAY = {
    "a request is in the store": State(
        view=serving(record=replace(record(), request=Request("r1", MAIL2, "anna", "", TERM))), software="0.1.0"
    ),
    "the role is given back": State(
        view=serving(leaving=Leaving(TERM, MAIL2, "switchover-asked", renew=True, began_ms=NOW, undo=True)),
        software="0.1.0",
    ),
    "a request is on its way to the store": State(
        view=serving(), software="0.1.0", asked=Request("r1", MAIL2, "anna", "", TERM), asked_ms=NOW
    ),
    "the role is taken, and the gate is not open yet": State(view=serving(gate=GateState.CLOSED), software="0.1.0"),
    "a takeover is not answered yet": State(
        view=serving(), software="0.1.0", swap=Swap(Purpose.TAKE_OVER, 1, record(), NOW)
    ),
}


@pytest.mark.parametrize("what", UNDER_WAY)
def test_within_a_change_they_wait_and_change_nothing_of_it(what: str) -> None:
    before = UNDER_WAY[what]
    plain, reloaded = step(before, Ticked(), NOW), step(before, Reconfigured(NEAR, "anna"), NOW)
    assert reloaded.state.view.policy == POLICY
    assert reloaded.state.policy == NEAR
    assert reloaded.effects == plain.effects
    assert reloaded.state.changed(policy=None, policy_by="") == plain.state
    assert [entry for entry in reloaded.entries if entry.kind != "reconfigured"] == list(plain.entries)


def test_what_waited_is_taken_when_the_change_has_ended() -> None:
    waiting = step(UNDER_WAY["a request is in the store"], Reconfigured(NEAR, "anna"), NOW).state
    ended = State(view=serving(), software="0.1.0", policy=waiting.policy)
    assert step(ended, Ticked(), NOW + 100).state.view.policy == NEAR


def test_the_newest_of_two_counts() -> None:
    first = step(UNDER_WAY["a request is in the store"], Reconfigured(NEAR, "anna"), NOW).state
    second = step(first, Reconfigured(replace(POLICY, max_lag_ms=3000), "bert"), NOW + 1).state
    assert second.policy is not None
    assert second.policy.max_lag_ms == 3000


def test_what_was_quiet_is_decided_anew_with_them() -> None:
    quiet = step(State(view=view(MAIL2, record=record()), software="0.1.0"), Ticked(), NOW).state
    (follow,) = quiet.progress.running
    quiet = step(quiet, StepEnded(follow, Outcome.SUCCEEDED), NOW + 10).state
    quiet = step(quiet, Ticked(), NOW + 20).state
    assert quiet.quiet_until_ms > NOW + 21
    after = step(quiet, Reconfigured(NEAR, "anna"), quiet.view.now_ms + 1)
    assert after.state.view.policy == NEAR


@pytest.mark.parametrize("name", sorted(reconfigure.FIXED))
def test_what_a_lease_or_others_count_with_is_refused(name: str) -> None:
    assert name in {field.name for field in fields(Policy)}
    other = {"ttl_ms": 9000, "bound_ms": 60_000}.get(name)
    old = getattr(POLICY, name)
    changed = other or (not old if isinstance(old, bool) else (NodeName("mail9"),) if isinstance(old, tuple) else None)
    changed = changed or (f"{old}x" if isinstance(old, str) else old - 1 if old > 1 else old + 1)
    refused = reconfigure.refusal(POLICY, replace(POLICY, **{name: changed}))
    assert name in refused


def test_services_and_their_units_are_settled_and_how_many_failures_count_is_not() -> None:
    name, unit, failures = POLICY.services[0]
    assert not reconfigure.refusal(POLICY, replace(POLICY, services=((name, unit, failures + 1), *POLICY.services[1:])))
    assert reconfigure.refusal(POLICY, replace(POLICY, services=((name, "x.service", failures), *POLICY.services[1:])))
    assert reconfigure.refusal(POLICY, replace(POLICY, services=POLICY.services[:1]))
