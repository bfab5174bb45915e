"""Only the store gives terms: a member that reports an absurd one deposes nobody; nothing is begun against its word.

`mail3` is broken, or knows better: a report alone does not say which.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from views import NOW, POLICY, TERM, lost, record, report, view

from failoverd.core import candidates, forced, rules
from failoverd.core.effects import KeepLease, Remember, StepKind, Swap
from failoverd.core.lateness import REPLAY, Objection, ungiven, untaken
from failoverd.core.lease import Watch
from failoverd.core.machine import Reported, State, StoreSeen, Ticked, step
from failoverd.core.model import NodeName, Record, Request
from failoverd.core.rules import Decision

if TYPE_CHECKING:
    from failoverd.core.view import View

MAIL1, MAIL2, MAIL3 = map(NodeName, ("mail1", "mail2", "mail3"))
ABSURD = 10**18
BEGINS = {Decision.TAKE_OVER, Decision.ADOPT, Decision.CONDEMN, Decision.LET_GO}
TERMS = pytest.mark.parametrize("term", [TERM + 1, ABSURD])


def told(me: str, term: int, **changes: Any) -> Reported:
    return Reported(report("mail3", me, number=8, term=term, **changes))


def given(successor: str | None = "mail2", **changes: Any) -> View:
    """What mail2 knows once mail1 has given its term to it."""
    to = NodeName(successor) if successor else None
    ended = record(revoked=True, successor=to, position=lost().position_of(MAIL2), **changes)
    return lost(record=ended, watch=Watch(TERM, 30, NOW - 500))


@TERMS
def test_a_primary_goes_on_and_nothing_of_it_is_written_anywhere(term: int) -> None:
    before = State(view("mail1"), "0")
    reaction = step(before, told("mail1", term), NOW)
    known = reaction.state.view
    assert (known.held, known.highest_term, known.memory.term) == (before.view.held, TERM, TERM)
    assert known.i_hold()
    assert rules.decide(known).id == "primary-serves"
    assert {e.memory.term for e in reaction.effects if isinstance(e, Remember)} <= {TERM}
    assert not [e for e in reaction.effects if isinstance(e, KeepLease)]
    assert not [entry.kind for entry in reaction.entries if entry.kind in ("superseded", "lease-ended")]
    assert StepKind.CLOSE_GATE not in {step.kind for step in reaction.state.progress.running}
    # And what the store says is believed as before.
    later = step(reaction.state, StoreSeen(record(version=41, counter=31)), NOW)
    assert later.state.view.record is not None
    assert later.state.view.record.counter == 31


@TERMS
@pytest.mark.parametrize("before", [lost(), given()], ids=["lost", "given"])
def test_nothing_is_taken_over_while_it_says_so_and_why_not_is_said(before: View, term: int) -> None:
    assert rules.decide(before).decision is Decision.TAKE_OVER
    state = step(State(before, "0"), told("mail2", term), NOW).state
    known = state.view
    assert rules.decide(known).decision not in BEGINS
    assert not known.lease_is_over(), "nor does it help anybody else to a majority"
    assert "BLK_STORE_OLD" in {why.code for why in candidates.change_blockers(known)}
    # Its word is that of a report: it ends with it.
    silent = known.changed(reports=tuple(r for r in known.reports if r.sender != MAIL3))
    assert rules.decide(silent).decision is not Decision.STAY_FENCED
    assert silent.lease_is_over()
    mended = [replace(r, number=1, process="mail3#2") for r in before.reports if r.sender == MAIL3]
    assert rules.decide(silent.changed(reports=(*silent.reports, *mended))).decision is Decision.TAKE_OVER


def test_a_failover_that_does_not_come_says_so() -> None:
    late = lost(watch=Watch(TERM, 30, NOW - POLICY.ttl_ms - 2000))
    state = step(State(late, "0"), told("mail2", ABSURD), NOW).state
    entries = step(replace(state, blocked=()), Ticked(), NOW + 1).entries
    assert "BLK_STORE_OLD" in state.blocked or "BLK_STORE_OLD" in {entry.code for entry in entries}


def test_a_switchover_is_refused_before_anything_is_touched() -> None:
    wanted = record(request=Request("r1", MAIL2, "anna", "update", TERM))
    known = step(State(view("mail1", {"mail2": {"request": "r1"}}, record=wanted), "0"), told("mail1", ABSURD), NOW)
    assert known.state.view.leaving is None
    assert known.state.rule is not None
    assert known.state.rule.id == "request-refused"
    (swap,) = [effect for effect in known.effects if isinstance(effect, Swap)]
    assert swap.record.request_ended is not None
    assert swap.record.request_ended.code == "BLK_STORE_OLD"


def test_not_even_a_person_can_force_it() -> None:
    known = step(State(lost(), "0"), told("mail2", ABSURD), NOW).state.view
    (why,) = forced.rejections(known, "mail2")
    assert why.code == "BLK_STORE_OLD"
    assert why.reason == f"mail3 has seen term {ABSURD}, and the store says {TERM} here: one of them is wrong"


def test_an_empty_store_is_not_adopted_on_while_somebody_has_seen_a_term() -> None:
    empty = {"record": Record(), "watch": None, "held": None, "highest_term": 0, "served_term": 0}
    known = view("mail1", {name: {"term": 0} for name in ("mail2", "mail3", "arbiter")}, **empty)
    assert rules.decide(known).decision is not Decision.STAY_FENCED
    heard = step(State(known, "0"), told("mail1", TERM), NOW).state.view
    assert heard.newer_term() is not None
    assert not heard.adoptable()


def test_nobody_is_promised_anything_while_a_newer_term_is_told() -> None:
    asks = report("mail1", "mail2", number=8, asks_ms=2000)
    assert view("mail2").may_promise(asks)
    assert not step(State(view("mail2"), "0"), told("mail2", TERM + 1), NOW).state.view.may_promise(asks)


def test_it_is_counted_once_the_store_was_read_a_whole_lease_later() -> None:
    since_ms = NOW - POLICY.ttl_ms
    early = view("mail2", store_heard_ms=NOW - 1)
    assert ungiven(early, told("mail2", ABSURD).report, since_ms) is None, "this node may be late itself"
    objection = ungiven(view("mail2", store_heard_ms=NOW), told("mail2", ABSURD).report, since_ms)
    assert objection == Objection(
        f"it reports term {ABSURD}, and the store has given {TERM}", code="PEER_TERM", taken=True
    )
    assert ungiven(view("mail2", store_heard_ms=NOW), told("mail2", TERM).report, since_ms) is None
    assert ungiven(view("mail2", store_heard_ms=None), told("mail2", ABSURD).report, since_ms) is None


def test_who_was_wrong_is_heard_again_in_its_next_run() -> None:
    heard = step(State(view("mail2"), "0"), told("mail2", ABSURD), NOW).state.view
    same_run = untaken(heard, report("mail3", "mail2", number=9))
    assert same_run == Objection(f"a report of term {TERM} came after one of term {ABSURD}", REPLAY)
    assert untaken(heard, report("mail3", "mail2", number=1, process="mail3#2")) is None
    assert untaken(view("mail2"), report("mail3", "mail2", number=1, process="mail3#2", term=TERM - 1)) is not None
