"""The decision table: every row can fire, the order is the safety argument, and there always is a row."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from views import NOW, POLICY, TERM, at, claim, lost, primary_facts, record, replica_facts, sighting, view

from failoverd.core import rules
from failoverd.core.explain import explain, mermaid
from failoverd.core.gtid import GtidSet
from failoverd.core.known import CatchUp, Stuck
from failoverd.core.lease import Held, Memory, Promise, Watch
from failoverd.core.model import Heard, NodeName, Record, Rejoin, Request, Thread, VipFacts
from failoverd.core.rules import RULES, Decision
from failoverd.core.view import GateState, Leaving, Restart, View

M1, M2, M3 = NodeName("mail1"), NodeName("mail2"), NodeName("mail3")
SHARED = replace(POLICY, shared_disk="disk:/srv/mail", shared_disk_ms=2000)
IMAP_DOWN = (sighting("unit:dovecot.service", "mail1", 2), sighting("database", "mail1"))
TRIED = (Restart("imap", NOW - 9000, NOW - 8000, worked=True),)
STOPPED = Thread.STOPPED
STUCK = Stuck("GATE_NFT", "open-gate: refused", NOW - 1000)
FENCED = replace(POLICY, fenced=("mail1", "mail2", "mail3"))
REFUSED = "1236: requested to start from GTID 0-1-501, which is not in the master's binlog"


def wanted(target: str) -> Record:
    return record(request=Request("r1", NodeName(target), "anna", "maintenance", TERM))


def given_back(successor: str | None, last: int = 500, **changes: Any) -> dict[str, Any]:
    to = NodeName(successor) if successor else None
    given = record(revoked=True, successor=to, position=at(last), **changes)
    return {"record": given, "watch": Watch(TERM, 30, NOW - 500)}


def serving(beat_seen_ms: int, reports: Any = None) -> View:
    return view("mail1", reports, gate=GateState.OPEN, served_term=TERM, beat_seen_ms=beat_seen_ms)


ANOTHER = "boot-2000-200"
FORCED = record(request=Request("r1", M2, "anna", "they burnt", TERM, allow_loss=True))
FORMER = {"database": replica_facts(heartbeat_term=TERM - 1)}
ELSEWHERE = {"database": replica_facts(source="arbiter")}


def restarted(last: int, reports: Any = None, **changes: Any) -> View:
    """What mail1, the primary, knows when its database has crashed and come back with `last` transactions."""
    return view("mail1", reports, database=primary_facts(last, read_only=True, run=ANOTHER), **changes)


def silent(**changes: Any) -> View:
    """What mail2 knows when mail1 does not renew and mail3 cannot use it either; its lease is not over."""
    seen = claim("imap", "mail1", 3)
    own = {
        "watch": Watch(TERM, 30, NOW - POLICY.lapse_ms),
        "sightings": (*view().sightings, sighting("imap", "mail1", 3)),
    }
    told = changes.pop("reports", {"mail1": None, "mail3": {"claims": (seen,)}})
    return view(reports=told, **(own | changes))


def untouched() -> View:
    never = {name: {"term": 0} for name in ("mail2", "mail3", "arbiter")}
    known = view(
        "mail1", never, record=Record(), watch=None, held=None, highest_term=0, gate=GateState.UNKNOWN, served_term=0
    )
    seen = sighting("vip", "mail1")
    reading = replace(seen.observation.reading, facts=VipFacts(present=True))
    return replace(known, sightings=(replace(seen, observation=replace(seen.observation, reading=reading)),))


FIRES = [
    ("arbiter-arbitrates", view("arbiter")),
    ("giving-back", view("mail1", leaving=Leaving(TERM, M2, "switchover-asked", renew=True, began_ms=NOW, undo=True))),
    ("lease-running-out", view("mail1", held=Held(TERM, 40, NOW + 1000))),
    ("primary-serves", view("mail1", record=None, held=Held(TERM, 40, NOW + 501))),  # just started: it asks first
    ("lease-running-out", view("mail1", record=None, held=Held(TERM, 40, NOW + 500))),
    ("primary-serves", view("mail1", held=Held(TERM, 40, NOW + 1001))),
    ("lease-lost", view("mail1", held=Held(TERM, 40, NOW))),
    ("lease-lost", view("mail1", held=None, gate=GateState.UNKNOWN, database=None)),
    ("request-dropped", view("mail1", record=wanted("mail1"))),
    ("request-dropped", view("mail1", record=wanted("mail2"), request_seen=("r1", NOW - POLICY.request_ms - 1))),
    ("request-refused", view("mail1", {"mail2": None}, record=wanted("mail2"))),
    ("primary-serves", view("mail1", record=wanted("mail2"))),  # mail2 has not answered yet
    ("switchover-asked", view("mail1", {"mail2": {"request": "r1"}}, record=wanted("mail2"))),
    ("own-service-restart", view("mail1", sightings=IMAP_DOWN)),
    ("primary-serves", view("mail1", sightings=IMAP_DOWN[1:])),
    ("own-service-step-down", view("mail1", sightings=IMAP_DOWN, restarts=TRIED)),
    ("primary-serves", view("mail1", sightings=IMAP_DOWN, catch_up=CatchUp("another", NOW - 2999))),  # its database is
    ("own-service-restart", view("mail1", sightings=IMAP_DOWN, catch_up=CatchUp("another", NOW - 3000))),
    ("primary-serves", view("mail1", {"mail2": None, "mail3": None}, sightings=IMAP_DOWN, restarts=TRIED)),
    # One that has just got well, after a trouble that all had, perhaps: this node may be well in a moment, too.
    ("primary-serves", view("mail1", {"mail2": {"steady": False}}, sightings=IMAP_DOWN, restarts=TRIED)),
    ("primary-serves", view("mail1", sightings=IMAP_DOWN, restarts=(Restart("imap", NOW - 900, None, worked=False),))),
    ("store-unread", view(record=None, highest_term=0)),
    ("store-unread-fenced", view(record=None)),
    ("store-behind", view(record=record(term=TERM - 1))),
    ("adopt-running-primary", untouched()),
    ("wait-for-adoption", replace(untouched(), database=primary_facts(read_only=True))),
    ("wait-for-adoption", view(record=Record(), watch=None, highest_term=0, gate=GateState.UNKNOWN)),
    ("serving-without-lease", view(gate=GateState.UNKNOWN)),
    ("serving-without-lease", view(database=replica_facts(read_only=False))),
    ("membership-differs", lost(reports={name: {"membership": "other"} for name in ("mail3", "arbiter")})),
    ("primary-lost-by-quorum", lost(reports={"mail3": {"membership": "other"}})),  # that one stands aside
    ("paused", lost(record=record(paused="anna: storage"))),
    ("paused-primary-serves", view("mail1", sightings=IMAP_DOWN, record=record(paused="anna: storage"))),
    ("take-over-given", lost(**given_back("mail2", paused="anna: storage"))),  # what was begun comes to its end
    ("condemned", view("mail1", record=record(condemned_by=M2))),
    ("primary-condemned", silent(policy=FENCED)),
    ("primary-lapsing", silent()),  # there is no agent
    ("primary-lapsing", silent(policy=FENCED, promise=Promise(TERM, Heard(M1, "mail1#1", 3), NOW + 1))),
    ("paused", silent(policy=FENCED, record=record(paused="anna: storage"))),
    ("fencing-primary", silent(policy=FENCED, record=record(condemned_by=M2))),
    ("primary-lapsing", silent(policy=FENCED, record=record(condemned_by=NodeName("mail3")))),
    ("primary-lost-by-quorum", lost(watch=Watch(TERM, 30, NOW - 1000), record=record(condemned_by=M2, off="agents"))),
    ("primary-condemned", lost(policy=replace(FENCED, fence_required=True))),
    ("fencing-primary", lost(policy=replace(FENCED, fence_required=True), record=record(condemned_by=M2))),
    ("primary-lapsing", lost(policy=replace(FENCED, fenced=(), fence_required=True))),  # an operator's word is needed
    ("replica-has-more", restarted(499)),
    ("replica-has-more", restarted(499, {"mail2": {"database": replica_facts(499)}})),
    ("primary-serves", restarted(500)),
    ("primary-serves", restarted(499, gate=GateState.CLOSED, served_term=TERM - 1)),  # not promoted yet
    ("primary-serves", restarted(499, memory=Memory(TERM, caught_up=ANOTHER))),  # not started, but set by a hand
    ("primary-serves", restarted(499, takeovers_ms=(NOW - 5000,))),
    ("primary-serves", restarted(499, {"mail2": FORMER, "mail3": FORMER})),
    ("primary-serves", restarted(499, {"mail2": ELSEWHERE, "mail3": ELSEWHERE})),
    ("promotion-stuck", view("mail1", gate=GateState.CLOSED, stuck=STUCK)),
    ("primary-serves", view("mail1", {"mail2": None, "mail3": None}, stuck=STUCK)),
    ("writes-stuck", serving(NOW - POLICY.writes_stuck_ms)),
    ("primary-serves", serving(NOW - POLICY.writes_stuck_ms + 1)),
    ("primary-serves", serving(NOW - POLICY.writes_stuck_ms, {"mail2": None, "mail3": None})),  # nobody else is there
    ("writes-stuck", serving(NOW - 5000, {"mail2": None, "mail3": None, "arbiter": {"hears": (M1, M2, M3)}})),
    ("primary-serves", serving(NOW - 5000, {"mail2": None, "mail3": None, "arbiter": {"hears": (M1, M2)}})),
    ("primary-serves", view("mail1", record=None, sightings=IMAP_DOWN)),  # paused it may be
    ("primary-serves", view("mail1", record=None, sightings=IMAP_DOWN, restarts=TRIED)),
    ("primary-serves", view("mail1", record=record(term=TERM - 1), sightings=IMAP_DOWN)),  # an old copy of the store
    ("ended-term-told", view("mail1", held=None, gate=GateState.CLOSED, database=primary_facts(read_only=True))),
    ("fencing-primary", silent(policy=FENCED, reports={"mail1": None, "mail3": None}, record=record(condemned_by=M3))),
    ("own-service-step-down", view("mail1", sightings=(sighting("disk:/srv/mail", "mail1", 2), *IMAP_DOWN[1:]))),
    ("primary-serves", view("mail1", sightings=(sighting("disk:/srv/mail", "mail1", 1), *IMAP_DOWN[1:]))),
    (
        "primary-serves",
        view(
            "mail1",
            policy=SHARED,
            sightings=(sighting("disk:/srv/mail", "mail1", 2, ended_ms=NOW - 1999), *IMAP_DOWN[1:]),
        ),
    ),
    (
        "own-service-step-down",
        view(
            "mail1",
            policy=SHARED,
            sightings=(sighting("disk:/srv/mail", "mail1", 2, ended_ms=NOW - 2000), *IMAP_DOWN[1:]),
        ),
    ),
    ("take-over-given", lost(**given_back("mail2"))),
    ("take-over-forced", lost(reports={"mail3": None}, record=FORCED)),  # the rest is in test_forced
    ("paused", lost(reports={"mail3": None}, record=replace(FORCED, paused="anna: storage"))),
    ("receive-given", view(**given_back("mail2"))),
    ("receive-given", lost(**given_back("mail2", last=501))),
    ("given-to-another", view(**given_back("mail3"))),
    ("primary-lost-by-quorum", lost()),
    ("primary-lost-by-quorum", lost(**given_back(None))),
    ("primary-lapsing", lost("mail3")),
    ("primary-lapsing", view(watch=Watch(TERM, 30, NOW - POLICY.lapse_ms))),
    ("primary-lapsing", lost(takeovers_ms=(NOW - 1,))),
    ("replica-follows", view()),
    ("rebuilding", view(rejoin=Rejoin("r", NodeName("mail2"), NodeName("mail3"), "anna", 5))),
    (
        "rebuild-due",
        view(
            policy=replace(POLICY, rejoin_automatic=True),
            rejoin_due_since_ms=NOW - 60_000,
            database=primary_facts(read_only=True, holdings=GtidSet.upto({"0-1": 501})),
        ),
    ),
    ("needs-rejoin", view(database=replica_facts(501, receiver=STOPPED, receiver_error=REFUSED))),
    ("replica-follows", view(database=replica_facts(receiver=STOPPED, receiver_error="1236: log truncated"))),
    ("needs-rejoin", view(database=primary_facts(read_only=True, holdings=GtidSet.upto({"0-1": 501})))),
    ("replica-rejoins", view(database=primary_facts(read_only=True))),
    ("primary-unknown", view(reports={"mail1": None}, database=primary_facts(read_only=True))),
]


@pytest.mark.parametrize(("rule", "known"), FIRES)
def test_fires(rule: str, known: View) -> None:
    assert rules.decide(known).id == rule


def test_every_rule_is_in_the_table_above() -> None:
    assert {rule.id for rule in RULES} == {rule for rule, _ in FIRES}


def test_ids_are_unique_and_whys_are_said() -> None:
    assert len({rule.id for rule in RULES}) == len(RULES)
    assert all(rule.why for rule in RULES)


def test_the_table_is_total() -> None:
    assert RULES[-1].when == ()
    assert all(rule.when for rule in RULES[:-1])


def test_every_condition_reads_as_a_claim() -> None:
    for rule in RULES:
        for condition in rule.when:
            assert condition.__doc__, condition.__name__
            assert "lambda" not in condition.__name__


def test_a_service_that_a_majority_of_observers_cannot_use_counts_as_down() -> None:
    down = {"claims": (claim("imap", "mail1", 3),)}
    one, two = view("mail1", {"mail2": down}), view("mail1", {"mail2": down, "arbiter": down})
    assert rules.decide(one).id == "primary-serves"
    assert rules.decide(two).id == "own-service-restart"
    nearly = {"claims": (claim("imap", "mail1", 2),)}
    assert rules.decide(view("mail1", {"mail2": down, "arbiter": nearly})).id == "primary-serves"


def test_a_dead_database_has_no_lag_but_can_be_left() -> None:
    dead = (sighting("database", "mail1", 3),)
    restarted = (Restart("database", NOW - 9000, NOW - 8000, worked=False),)
    known = view("mail1", database=None, sightings=dead, restarts=restarted)
    assert rules.decide(known).id == "own-service-step-down"
    assert rules.successor_for(known, rules.decide(known)) is None
    well_again: dict[str, dict[str, object]] = {"mail2": {"steady": False}, "mail3": {"steady": False}}
    lately = view("mail1", well_again, database=None, sightings=dead, restarts=restarted)
    assert rules.decide(lately).id == "primary-serves"
    alone = view("mail1", {"mail3": None}, database=None, sightings=dead, restarts=restarted)
    assert rules.decide(alone).id == "primary-serves"  # one replica could prove nothing


def test_nobody_gets_the_rest_from_a_disk_that_cannot_be_written_to() -> None:
    known = view("mail1", sightings=(sighting("disk:/var/lib/mysql", "mail1", 2), *IMAP_DOWN[1:]))
    rule = rules.decide(known)
    assert (rule.id, rules.successor_for(known, rule)) == ("own-service-step-down", None)
    shared = replace(known, policy=replace(POLICY, shared_disk="disk:/var/lib/mysql", shared_disk_ms=0))
    assert rules.successor_for(shared, rule) is not None


def test_a_node_is_steady_once_its_services_have_been_well_for_a_while() -> None:
    for ended_ms, steady in ((NOW - POLICY.steady_ms + 1, False), (NOW - POLICY.steady_ms, True)):
        seen = tuple(sighting(name, "mail2", ended_ms=ended_ms) for name in ("imap", "smtp"))
        known = view("mail2", sightings=seen)
        assert (known.ready, known.steady) == (True, steady)
    for failures, ended_ms in ((1, NOW - POLICY.steady_ms), (0, NOW - POLICY.steady_ms + 1)):
        disk = sighting("disk:/srv/mail", "mail2", failures, ended_ms=ended_ms)
        assert not view("mail2", sightings=(*seen, disk)).steady


# ---- the order is the safety argument -------------------------------------------------------------------------------

FACTS = st.sampled_from(
    [
        None,
        primary_facts(),
        primary_facts(read_only=True),
        replica_facts(),
        replica_facts(receiver=STOPPED),
        replica_facts(500, applied=400, receiver=STOPPED),
    ]
)
STANDING = st.builds(
    record,
    term=st.integers(TERM - 1, TERM),
    holder=st.sampled_from([None, M1, M2, M3]),
    revoked=st.booleans(),
    successor=st.sampled_from([None, M1, M2]),
    began=st.sampled_from([None, at(100), at(500)]),
    position=st.sampled_from([None, at(100), at(500), at(501)]),
)
RECORDS = STANDING | st.sampled_from([None, Record()])
HELD = st.builds(Held, st.integers(TERM - 1, TERM), st.just(40), st.integers(NOW - 500, NOW + 2500))
LEAVING = st.just(Leaving(TERM, M2, "switchover-asked", renew=True, began_ms=NOW, undo=True))
TOLD = st.none() | st.fixed_dictionaries(
    {},
    optional={
        "database": FACTS,
        "lease_over": st.booleans(),
        "frozen_term": st.sampled_from([None, TERM - 1, TERM]),
        "membership": st.sampled_from(["digest", "other"]),
        "serving": st.booleans(),
        "version": st.integers(39, 41),
    },
)


@st.composite
def views(draw: st.DrawFn) -> View:
    me = draw(st.sampled_from(["mail1", "mail2", "mail3", "arbiter"]))
    names = [name for name in ("mail1", "mail2", "mail3", "arbiter") if name != me]
    return view(
        me,
        {name: draw(TOLD) for name in names},
        record=draw(RECORDS),
        watch=Watch(TERM, 30, NOW - draw(st.integers(0, 6000))),
        held=draw(st.none() | HELD),
        leaving=draw(st.none() | LEAVING),
        gate=draw(st.sampled_from(GateState)),
        frozen_term=draw(st.sampled_from([None, TERM - 1, TERM])),
        database=draw(FACTS),
    )


@given(views())
def test_what_a_decision_never_is(known: View) -> None:
    rule = rules.decide(known)
    if rule.decision in (Decision.SERVE, Decision.RESTART_UNIT, Decision.DROP_REQUEST, Decision.LET_GO):
        assert known.i_hold()
    if rule.decision is Decision.TAKE_OVER:
        assert known.lease_is_over()
        assert not known.membership_differs()
        assert not known.i_look_like_primary()
        assert known.relay_log_applied()
        assert known.i_am_frozen() or known.holder == known.me.name
    if known.me.kind.value == "arbiter":
        assert rule.decision is Decision.ARBITRATE
    elif known.leaving is not None:
        assert rule.decision is Decision.GIVE_BACK
    elif known.valid is None and known.writable():
        assert rule.decision in (Decision.DEMOTE, Decision.STAY_FENCED, Decision.OBSERVE, Decision.ADOPT)
    if rule.decision is Decision.OBSERVE and known.i_look_like_primary():
        assert known.record is None or known.never_claimed()


@given(views())
def test_every_decision_can_be_explained(known: View) -> None:
    text = explain(known)
    fired = rules.decide(known)
    assert f"\n{fired.id}: {fired.decision.value}, since {fired.why}\n" in text
    for rule in RULES[: RULES.index(fired)]:
        assert f"\n  {rule.id:<22} " in text


def test_an_explanation_names_condition_candidates_and_blockers() -> None:
    text = explain(lost(reports={"mail3": None}, takeovers_ms=(NOW - 1000,)))
    assert "primary-lost-by-quorum Among all that are fit, by final positions, this node comes first." in text
    assert "mail3                  BLK_UNREACHABLE: no report from mail3" in text
    assert "mail2                  BLK_RPO_UNPROVEN: " in text
    assert "BLK_HOLD_OFF: " in text
    assert "Candidates for a failover: mail2, mail3" in explain(lost())


def test_the_drawing_has_every_rule_and_every_plan() -> None:
    drawn = mermaid()
    assert all(f'{{"{rule.id}<br/>' in drawn for rule in RULES)
    assert "close-gate · stop-services · release-store · make-read-only · kill-database" in drawn
