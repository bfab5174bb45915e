"""What a person can force and what not even a person can: the lease, a fence that is required, a pause, a dead node."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from views import NOW, POLICY, TERM, at, lost, primary_facts, record, replica_facts, report, view

from failoverd.core import candidates, forced, rules
from failoverd.core.effects import Purpose, Swap
from failoverd.core.errant import Journal
from failoverd.core.gtid import GtidSet
from failoverd.core.health import Sighting
from failoverd.core.lease import Held, Watch
from failoverd.core.machine import Asked, Event, Reaction, State, Ticked, step
from failoverd.core.model import (
    Health,
    Identity,
    NodeName,
    Observation,
    Reading,
    Record,
    Rejoin,
    Request,
    SettingsFacts,
    Thread,
)
from failoverd.core.view import GateState, View

M1, M2, M3 = NodeName("mail1"), NodeName("mail2"), NodeName("mail3")
FORCE = Request("r1", M2, "anna", "they burnt", TERM, allow_loss=True)
STOPPED = Thread.STOPPED
SEEN = ("r1", NOW - 100)
ALONE: dict[str, Any] = {"mail3": None}
UNAPPLIED = replica_facts(500, applied=499, receiver=STOPPED)
BROKEN = replica_facts(receiver=STOPPED, applier=STOPPED, applier_error="1062: duplicate entry")
FENCE = replace(POLICY, fence_required=True)


def asked(request: Request = FORCE, **changes: Any) -> Record:
    return record(request=request, **changes)


def alone(**changes: Any) -> View:
    """What mail2 knows, alone with the arbiter, when it shall be forced."""
    return lost(**({"reports": ALONE, "record": asked(), "request_seen": SEEN} | changes))


def further(last: int = 510) -> dict[str, Any]:
    """What mail3 reports when it has more than mail2."""
    return {"database": replica_facts(last, receiver=STOPPED)}


def reaction_of(known: View, event: Event | None = None) -> Reaction:
    return step(State(view=known, software="0.1.0"), event or Ticked(), NOW)


def swap_of(known: View, event: Event | None = None) -> Swap | None:
    return next((effect for effect in reaction_of(known, event).effects if isinstance(effect, Swap)), None)


def errant(known: View) -> View:
    """The same when this node's database has what the journal knows nothing of."""
    facts = replica_facts(receiver=STOPPED, holdings=GtidSet.upto({"0-1": 500, "0-9": 7}))
    return with_settings(known.changed(database=facts))


def with_settings(known: View, *found: tuple[str, str]) -> View:
    """The same once the database's settings and its journal were read."""
    facts = SettingsFacts(found, Identity(), Journal(TERM, "0-1", (("0-1", 100, TERM),)))
    reading = Reading(Health.FAILED if found else Health.OK, facts=facts)
    look = Sighting(Observation("settings", M2, reading, NOW - 100, 5), len(found), NOW - 100)
    return known.changed(sightings=(*known.sightings, look))


FORCES = {
    "alone": alone(),
    "another has more": alone(reports={"mail3": further()}),
    "gone astray": alone(database=replica_facts(heartbeat_term=TERM - 1, receiver=STOPPED)),
    "never followed the holder": alone(database=replica_facts(source="mail3", receiver=STOPPED)),
    "forgot what it had": alone(catch_up=None, memory=replace(view().memory, caught_up="")),
    "holds what no primary wrote": errant(alone()),
    "within the hold-off": alone(takeovers_ms=(NOW - 1,)),
    "given to it, and it lacks some": alone(
        record=asked(revoked=True, successor=M2, position=at(600)), watch=Watch(TERM, 30, NOW - 10)
    ),
    "the power is off": alone(policy=FENCE, record=asked(condemned_by=M2, off="anna: I have looked")),
}


@pytest.mark.parametrize("case", FORCES)
def test_force_goes_past_what_protects_from_loss(case: str) -> None:
    known = FORCES[case]
    assert rules.decide(known).id == forced.FORCED
    assert rules.decide(known.changed(record=replace(asked(), request=None))).id != forced.FORCED


REFUSES = {
    "BLK_LEASE": alone(watch=Watch(TERM, 30, NOW - POLICY.ttl_ms + 1)),
    "BLK_QUORUM": alone(reports={**ALONE, "arbiter": None}),
    "BLK_PAUSED": alone(record=asked(paused="bert: storage")),
    "BLK_FENCE": alone(policy=FENCE),
    "BLK_NOT_APPLIED": alone(database=UNAPPLIED),
    "BLK_APPLIER": alone(database=BROKEN),
    "BLK_STORE": alone(store_heard_ms=NOW - POLICY.report_max_age_ms - 1),
    "BLK_DATABASE": alone(database=None),
    "BLK_NOT_READY": alone(sightings=()),
    "BLK_REBUILDING": alone(rejoin=Rejoin("r2", M2, M3, "anna", TERM)),
    "BLK_SETTINGS": with_settings(alone(), ("SET_BINLOG_OFF", "log_bin = OFF")),
}


def test_what_no_primary_wrote_keeps_a_node_from_the_role_unless_somebody_forces_it() -> None:
    both = errant(lost())
    assert next(why.code for why in candidates.failover(both).rejected if why.node == M2) == "BLK_ERRANT"
    assert [why.code for why in forced.passed(errant(alone()), "mail2")] == ["BLK_ERRANT"]
    assert forced.rejections(errant(alone()), "mail2") == ()


@pytest.mark.parametrize("code", REFUSES)
def test_force_goes_past_nothing_else(code: str) -> None:
    known = REFUSES[code]
    assert code in [why.code for why in forced.rejections(known, "mail2")]
    assert rules.decide(known).id != forced.FORCED
    assert forced.rejections(alone(), "mail2") == ()


@pytest.mark.parametrize(
    ("target", "known", "code"),
    [
        ("mail9", alone(), "BLK_NO_SUCH_NODE"),
        ("arbiter", alone(), "BLK_NOT_DATA"),
        ("mail3", alone(), "BLK_UNREACHABLE"),
        ("mail3", alone(reports={"mail3": {"membership": "other"}}), "BLK_MEMBERSHIP"),
        ("mail3", alone(reports={"mail3": {"store_answers": False}}), "BLK_STORE"),
        ("mail2", alone(record=Record(), watch=None), "BLK_NO_PRIMARY"),
    ],
)
def test_what_cannot_be_forced_at_all(target: str, known: View, code: str) -> None:
    assert [why.code for why in forced.rejections(known, target)] == [code]


@pytest.mark.parametrize(
    "known",
    [
        alone(record=asked(replace(FORCE, allow_loss=False))),
        alone(record=asked(replace(FORCE, target=M3))),
        alone(record=asked(replace(FORCE, term=TERM - 1))),
        alone(request_seen=("r1", NOW - POLICY.request_ms - 1)),
        alone(frozen_term=TERM - 1),
    ],
)
def test_only_who_was_asked_for_in_this_term_just_now_with_the_flag(known: View) -> None:
    assert rules.decide(known).id == "primary-lapsing"


def test_what_can_be_proven_is_not_forced() -> None:
    known = lost(record=asked(), request_seen=SEEN)
    assert rules.decide(known).id == rules.LOST
    swap = swap_of(known)
    assert swap is not None
    assert swap.record.reason == rules.LOST


def test_a_term_that_was_given_is_frozen_first_instead_of_waited_for() -> None:
    given = asked(revoked=True, successor=M2, position=at(600))
    known = alone(record=given, watch=Watch(TERM, 30, NOW - 10), database=replica_facts(), frozen_term=None)
    assert rules.decide(known).id == "primary-lapsing"
    assert rules.decide(known.changed(record=replace(given, request=None))).id == "receive-given"


def test_the_record_and_the_audit_say_who_and_what_was_given_up() -> None:
    reaction = reaction_of(alone(reports={"mail3": further()}))
    (swap,) = (effect for effect in reaction.effects if isinstance(effect, Swap))
    said = "take-over-forced: anna: they burnt; given up: 10 transactions that mail3 has: 0:501-510; "
    assert (swap.purpose, swap.record.term, swap.record.holder) == (Purpose.TAKE_OVER, TERM + 1, M2)
    assert swap.record.reason == said + "whatever else only mail1 had, which nobody hears"
    assert swap.record.request == FORCE
    (entry,) = (entry for entry in reaction.entries if entry.kind == "forced")
    assert entry.text == swap.record.reason
    assert dict(entry.detail) == {"by": "anna", "reason": "they burnt", "request": "r1"}


def test_what_may_be_lost_is_counted_from_all_that_is_known() -> None:
    old = replace(report("mail1", "mail2", database=primary_facts(520)), heard=())
    known = alone(record=asked(began=at(505), position=at(515)))
    known = known.changed(reports=(*known.reports, old))
    assert forced.may_be_lost(known, "mail2") == (
        "20 transactions that mail1 had when it was last heard: 0:501-520",
        "15 transactions that mail1 had when it gave its term back: 0:501-515",
        "5 transactions that mail1 had when its term began: 0:501-505",
        "whatever else only mail1 and mail3 had, which nobody hears",
    )
    level = lost(reports={"mail1": {"database": primary_facts(read_only=True), "serving": False}})
    assert forced.may_be_lost(level, "mail2") == ()
    assert forced.passed(level, "mail2") == ()
    assert [why.code for why in forced.passed(alone(), "mail2")] == ["BLK_RPO_UNPROVEN"]
    assert [why.code for why in forced.passed(alone(reports={"mail3": further()}), "mail2")] == ["BLK_BEHIND"]


def test_a_reason_has_an_end() -> None:
    assert len(forced.reason_of(alone(), replace(FORCE, reason="x" * 5000))) == forced.SAID_MOST


# ---- how it ends where it does not come to a takeover ---------------------------------------------------------------


def test_a_primary_that_holds_its_lease_is_not_lost() -> None:
    known = view("mail1", {"mail2": {"request": "r1"}}, record=asked(), request_seen=SEEN)
    assert rules.decide(known).id == "request-dropped"
    swap = swap_of(known)
    assert swap is not None
    ended = swap.record.request_ended
    assert swap.record.request is None
    assert ended is not None
    assert (ended.code, ended.refused) == ("BLK_LEASE", True)
    assert ended.reason == f"mail1 is primary in term {TERM}: nothing was forced"


def test_a_primary_that_comes_back_tells_what_it_had_and_takes_the_order_away() -> None:
    ended = {"held": None, "gate": GateState.CLOSED, "database": primary_facts(read_only=True)}
    back = view("mail1", record=asked(), request_seen=SEEN, watch=Watch(TERM, 30, NOW - 5000), **ended)
    reaction = reaction_of(back)
    (swap,) = (effect for effect in reaction.effects if isinstance(effect, Swap))
    assert (swap.purpose, swap.record.request) == (Purpose.GIVE_BACK, None)
    assert swap.record.request_ended is not None
    assert swap.record.request_ended.refused
    assert [entry.code for entry in reaction.entries if entry.kind == "request-ended"] == ["BLK_REQUEST"]
    for kept in (replace(FORCE, target=M1), replace(FORCE, allow_loss=False)):
        given = swap_of(back.changed(record=asked(kept)))
        assert given is not None
        assert given.record.request == kept


@pytest.mark.parametrize("me", ["arbiter", "mail2"])
def test_whoever_is_there_drops_what_was_asked_for_long_ago(me: str) -> None:
    late = ("r1", NOW - POLICY.request_ms - 1)
    known = lost(me, {"mail3": None}, record=asked(), request_seen=late)
    swap = swap_of(known)
    assert swap is not None
    assert (swap.purpose, swap.record.request) == (Purpose.DROP_REQUEST, None)
    assert swap.record.request_ended is not None
    assert not swap.record.request_ended.succeeded
    assert swap.record.request_ended.reason.startswith("mail2 did not begin within 30000 ms: nothing was forced")
    in_time = known.changed(request_seen=(late[0], late[1] + 1))
    if me == "arbiter":
        assert swap_of(in_time) is None
    plain = asked(replace(FORCE, allow_loss=False))
    assert swap_of(lost("arbiter", {"mail3": None}, record=plain, request_seen=late)) is None


@pytest.mark.parametrize(
    "known",
    [
        view("arbiter"),
        view("arbiter", record=Record(), watch=None, highest_term=0),
    ],
)
def test_where_no_primary_is_lost_nothing_reaches_the_store(known: View) -> None:
    reaction = reaction_of(known, Asked(replace(FORCE, term=known.highest_term)))
    assert not [effect for effect in reaction.effects if isinstance(effect, Swap)]
    assert reaction.state.asked is None
    assert [entry.code for entry in reaction.entries if entry.kind == "request-dropped"] == ["BLK_LEASE"]


def test_the_order_reaches_the_store_of_a_lost_primary() -> None:
    swap = swap_of(lost("arbiter", ALONE), Asked(FORCE))
    assert swap is not None
    assert (swap.purpose, swap.record.request) == (Purpose.REQUEST, FORCE)


def test_who_was_forced_says_so_at_its_end() -> None:
    reason = "take-over-forced: anna: they burnt; given up: nothing that is known"
    own = record(term=TERM, holder=M2, reason=reason, request=replace(FORCE, term=TERM - 1))
    known = view("mail2", record=own, held=Held(TERM, 40, NOW + 2500), gate=GateState.OPEN, served_term=TERM)
    swap = swap_of(known.changed(database=primary_facts(server_id=2)))
    assert swap is not None
    assert swap.record.request_ended is not None
    assert swap.record.request_ended.succeeded
    assert swap.record.request_ended.reason == f"mail2 is primary as asked: {reason}"


def test_where_nobody_has_come_home_after_a_forced_term_nobody_could_do_better() -> None:
    stuck = {"gate": GateState.OPEN, "served_term": TERM, "beat_seen_ms": NOW - POLICY.writes_stuck_ms}
    rejoin, follows = {"rule": "needs-rejoin"}, {"rule": "replica-follows"}
    both = {"mail2": rejoin, "mail3": rejoin}
    own = record(reason="take-over-forced: anna: they burnt; given up: nothing that is known")
    assert rules.decide(view("mail1", both, **stuck)).id == "writes-stuck"
    assert rules.decide(view("mail1", both, record=own, **stuck)).id == "primary-serves"
    assert rules.decide(view("mail1", both | {"mail3": follows}, record=own, **stuck)).id == "writes-stuck"


def test_a_node_that_votes_no_keeps_force_away() -> None:
    known = alone(reports={"mail3": {"lease_over": False}, "arbiter": {"lease_over": False}})
    assert "BLK_QUORUM" in [why.code for why in forced.rejections(known, "mail2")]
    assert rules.decide(known).id != forced.FORCED
