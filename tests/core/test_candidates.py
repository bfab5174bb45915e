"""Who may be primary next: one row for each reason why not, and what must never be elected."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from views import NOW, POLICY, TERM, at, lost, primary_facts, record, replica_facts, replication, sighting, view

from failoverd.core import candidates
from failoverd.core.gtid import GtidSet
from failoverd.core.model import UNKNOWN_TO_SOURCE, NodeName, Rejected, Thread

if TYPE_CHECKING:
    from failoverd.core.view import View

M1, M2, M3 = NodeName("mail1"), NodeName("mail2"), NodeName("mail3")
STOPPED = Thread.STOPPED


def code(rejected: Rejected | None) -> str:
    return rejected.code if rejected is not None else ""


# ---- planned: mail1 is asked to hand over to mail2 ------------------------------------------------------------------


def handing_over(**mail2: Any) -> View:
    return view("mail1", {"mail2": mail2})


PLANNED = [
    ("", handing_over(), "mail2"),
    ("BLK_NO_SUCH_NODE", handing_over(), "mail9"),
    ("BLK_NOT_DATA", handing_over(), "arbiter"),
    ("BLK_IS_PRIMARY", handing_over(), "mail1"),
    ("BLK_UNREACHABLE", view("mail1", {"mail2": None}), "mail2"),
    ("BLK_UNREACHABLE", handing_over(heard=()), "mail2"),  # a report that nothing bounds in age
    ("BLK_MEMBERSHIP", handing_over(membership="other"), "mail2"),
    ("BLK_STORE", handing_over(store_answers=False), "mail2"),
    ("BLK_DATABASE", handing_over(database=None), "mail2"),
    ("BLK_NOT_READY", handing_over(ready=False), "mail2"),
    ("DISK_FULL", handing_over(findings=(("DISK_FULL", "/srv/mail: 2 % free"),)), "mail2"),
    ("BLK_SETTINGS", handing_over(findings=(("SET_SYNC_BINLOG", "sync_binlog = 0; allowed: 1"),)), "mail2"),
    (
        "",
        handing_over(findings=(("SET_NET_TIMEOUT", "60 s"), ("LAG_ALARM", "6000 ms"), ("VIP_DUPLICATE", ""))),
        "mail2",
    ),
    ("BLK_ERRANT", handing_over(findings=(("ERRANT", "7-2:1"),)), "mail2"),
    ("BLK_REPLICATION", handing_over(database=primary_facts(read_only=True)), "mail2"),
    ("BLK_REPLICATION", handing_over(database=replica_facts(source="mail3")), "mail2"),
    ("BLK_REPLICATION", handing_over(database=replica_facts(receiver=Thread.CONNECTING)), "mail2"),
    ("BLK_APPLIER", handing_over(database=replica_facts(applier=STOPPED)), "mail2"),
    ("BLK_LAG", handing_over(database=replica_facts(heartbeat_beat=80)), "mail2"),
    ("BLK_LAG", handing_over(database=replica_facts(heartbeat_term=4)), "mail2"),
    ("BLK_EXTRA", handing_over(database=replica_facts(holdings=GtidSet.upto({"0-1": 500, "0-2": 7}))), "mail2"),
    ("BLK_NO_PRIMARY", lost(), "mail2"),
    ("BLK_NO_PRIMARY", view(record=record(holder=None, revoked=True)), "mail2"),
]


@pytest.mark.parametrize(("said", "known", "target"), PLANNED)
def test_planned(said: str, known: View, target: str) -> None:
    assert code(candidates.planned_rejection(known, target)) == said


def test_planned_order_is_position_then_priority() -> None:
    assert candidates.planned(view("mail1")).order == (M2, M3)
    assert candidates.planned(view("mail1", {"mail3": {"database": replica_facts(501)}})).order == (M3, M2)


# ---- failover: mail1 is gone, mail2 and mail3 are frozen ------------------------------------------------------------


def frozen(received: int = 500, **changes: Any) -> dict[str, Any]:
    return {"database": replica_facts(received, receiver=STOPPED, **changes)}


BACK = {"database": primary_facts(600, read_only=True), "serving": False}  # mail1 again, with 100 more
LEVEL = BACK | {"database": primary_facts(read_only=True)}
GIVEN = record(revoked=True, position=at(501))
GAVE = record(revoked=True, position=at(500))
BROKEN = replica_facts(receiver=STOPPED, applier=STOPPED, applier_error="1062")
OTHER = replace(
    replica_facts(receiver=STOPPED), applied=GtidSet.upto({"1": 3}), replication=replication(0, receiver=STOPPED)
)

ASTRAY = frozen(900, heartbeat_term=TERM - 1)
REFUSES = f"1236: ... {UNKNOWN_TO_SOURCE}"
REFUSED = frozen(501, receiver_error=REFUSES)
REFUSED_BEFORE = frozen(501, receiver_error=REFUSES, heartbeat_term=TERM - 1)
NOTHING_OF_TERM = BACK | {"database": primary_facts(read_only=True, heartbeat_term=TERM - 1)}
FOLLOWED_BEFORE = frozen(500, heartbeat_term=TERM - 1)["database"]
NOT_APPLIED = {
    "database": replica_facts(500, 400, heartbeat_term=TERM - 1, source="mail2", receiver=STOPPED),
    "frozen_term": TERM,
}
OWN = GtidSet.upto({"0": 501})  # the last one there is mail3's own
WRITTEN_THERE = frozen(501, receiver_error=REFUSES, own=OWN)
LOST_REFUSED = lost(reports={"mail3": REFUSED})
UNSURE = frozen(900, applied=400, heartbeat_term=TERM - 1)

FAILOVER = [
    ("level: the priority decides", lost(), (M2, M3), {}),
    ("one ahead", lost(reports={"mail3": frozen(501)}), (M3,), {M2: "BLK_BEHIND"}),
    ("one alone", lost(reports={"mail3": None}), (), {M2: "BLK_RPO_UNPROVEN", M3: "BLK_UNREACHABLE"}),
    ("not frozen", lost(reports={"mail3": {"frozen_term": TERM - 1}}), (), {M2: "BLK_RPO_UNPROVEN"}),
    ("receives again", lost(reports={"mail3": {"database": replica_facts()}}), (), {M3: "BLK_RPO_UNPROVEN"}),
    ("the holder is back, level", lost(reports={"mail1": LEVEL}), (M1, M2, M3), {}),
    ("the holder is back with more", lost(reports={"mail1": BACK}), (M1,), {M2: "BLK_BEHIND", M3: "BLK_BEHIND"}),
    ("the holder is back and proves", lost(reports={"mail1": BACK, "mail3": None}), (M1,), {M2: "BLK_BEHIND"}),
    ("the holder still serves", lost(reports={"mail1": BACK | {"serving": True}}), (M2, M3), {M1: "BLK_RPO_UNPROVEN"}),
    ("another source", lost(reports={"mail3": frozen(900, source="mail2")}), (M2,), {M3: "BLK_REPLICATION"}),
    ("behind the term's beginning", lost(record=record(began=at(501))), (), {M2: "BLK_BEHIND", M3: "BLK_BEHIND"}),
    (
        "given back, position unknown: behind the beginning",
        lost(record=record(revoked=True, began=at(501))),
        (),
        {M2: "BLK_BEHIND", M3: "BLK_BEHIND"},
    ),
    ("given back, level", lost(record=record(revoked=True, position=at(500))), (M2, M3), {}),
    ("given back, one lacks it", lost(reports={"mail3": frozen(501)}, record=GIVEN), (M3,), {M2: "BLK_BEHIND"}),
    ("applier broken", lost(database=BROKEN), (M3,), {M2: "BLK_APPLIER"}),
    ("not ready", lost(sightings=(sighting("imap", "mail2", 1),)), (M3,), {M2: "BLK_NOT_READY"}),
    ("no store", lost(store_heard_ms=NOW - 5000), (M3,), {M2: "BLK_STORE"}),
    ("gone astray: no candidate, and nobody past it", lost(reports={"mail3": ASTRAY}), (), {M3: "BLK_DIVERGED"}),
    (
        "gone astray, the holder is back",
        lost(reports={"mail1": LEVEL, "mail3": ASTRAY}),
        (M1, M2),
        {M3: "BLK_DIVERGED"},
    ),
    ("gone astray, the holder gave back", lost(reports={"mail3": ASTRAY}, record=GAVE), (M2,), {M3: "BLK_DIVERGED"}),
    # The holder's server crashed and took back what no client was told of. mail3 has it, and a heartbeat of the term.
    ("refused by the holder, which is gone", LOST_REFUSED, (M3,), {M2: "BLK_BEHIND"}),
    (
        "refused by the holder, which gave back, position unknown",
        replace(LOST_REFUSED, record=record(revoked=True)),
        (M3,),
        {M2: "BLK_BEHIND"},
    ),
    (
        "refused by the holder, which is back",
        lost(reports={"mail1": LEVEL, "mail3": REFUSED}),
        (M3,),
        {M1: "BLK_BEHIND", M2: "BLK_BEHIND"},
    ),
    (
        "refused by the holder, which gave back",
        lost(reports={"mail3": REFUSED}, record=GAVE),
        (M3,),
        {M2: "BLK_BEHIND"},
    ),
    (
        "both are refused by the holder, which is back: as after a loss of power everywhere",
        lost(reports={"mail1": LEVEL, "mail3": REFUSED}, database=REFUSED["database"]),
        (M2, M3),
        {M1: "BLK_BEHIND"},
    ),
    (
        "refused by the holder, which has gone on without it",
        lost(reports={"mail1": BACK, "mail3": REFUSED}),
        (M1,),
        {M2: "BLK_BEHIND", M3: "BLK_BEHIND"},
    ),
    # No heartbeat of the term: what it holds may have been acknowledged all the same, where heartbeats failed.
    (
        "refused, and of a former term: no candidate, and nobody past it",
        lost(reports={"mail3": REFUSED_BEFORE}),
        (),
        {M2: "BLK_BEHIND", M3: "BLK_REPLICATION"},
    ),
    (
        "refused, and of the term before, of which the holder has nothing: nor was anything acknowledged",
        lost(reports={"mail1": NOTHING_OF_TERM, "mail3": REFUSED_BEFORE}, database=FOLLOWED_BEFORE),
        (M3,),
        {M1: "BLK_BEHIND", M2: "BLK_BEHIND"},
    ),
    (
        "and one has its first heartbeat, which the holder took back",
        lost(reports={"mail1": NOTHING_OF_TERM, "mail3": REFUSED}, database=FOLLOWED_BEFORE),
        (M3,),
        {M1: "BLK_BEHIND", M2: "BLK_BEHIND"},
    ),
    (
        "the same, and the holder has not applied what may be of the term",
        lost(reports={"mail1": NOT_APPLIED, "mail3": REFUSED_BEFORE}),
        (M1, M2),
        {M3: "BLK_REPLICATION"},
    ),
    (
        "refused, and of a former term, and the holder is back",
        lost(reports={"mail1": LEVEL, "mail3": REFUSED_BEFORE}),
        (M1, M2),
        {M3: "BLK_REPLICATION"},
    ),
    (
        "refused for what somebody wrote there",
        lost(reports={"mail1": LEVEL, "mail3": WRITTEN_THERE}),
        (M1, M2),
        {M3: "BLK_REPLICATION"},
    ),
    (
        "somebody wrote there, and it follows still",
        lost(reports={"mail1": LEVEL, "mail3": frozen(501, own=OWN)}),
        (M1, M2),
        {M3: "BLK_DIVERGED"},
    ),
    ("nothing applied of what may be of the term", lost(reports={"mail3": UNSURE}), (M3,), {M2: "BLK_BEHIND"}),
    ("nothing of the term, and no more", lost(reports={"mail3": frozen(100, heartbeat_term=4)}), (M2,), {}),
    ("diverged", lost(reports={"mail3": {"database": OTHER}}, record=record(began=None)), (), {M2: "BLK_DIVERGED"}),
]


@pytest.mark.parametrize(("known", "order", "codes"), [row[1:] for row in FAILOVER], ids=[row[0] for row in FAILOVER])
def test_failover(known: View, order: tuple[NodeName, ...], codes: dict[NodeName, str]) -> None:
    election = candidates.failover(known)
    assert election.order == order
    assert {r.node: r.code for r in election.rejected} | codes == {r.node: r.code for r in election.rejected}


def test_where_nobody_has_anything_of_the_last_term_the_former_primary_counts() -> None:
    """mail1 took over from mail3 at 500 and was lost before anybody had more; mail3 is back, mail2 followed mail3."""
    began = record(began=at(500), previous=M3)
    former = {"mail3": {"database": primary_facts(500, read_only=True)}}
    known = lost(record=began, reports=former, database=replica_facts(receiver=STOPPED, source="mail3"))
    assert candidates.failover(known).order == (M2, M3)
    ahead = lost(record=began, reports=former, database=replica_facts(501, receiver=STOPPED))
    assert candidates.failover(ahead).order == (M2,)


def test_the_store_must_have_been_read() -> None:
    assert {r.code for r in candidates.failover(lost(record=None)).rejected} == {"BLK_STORE"}


BLOCKED = [
    ((), lost()),
    (("BLK_FLAPPING",), lost(takeovers_ms=(NOW - 30_000, NOW - 25_000, NOW - 20_000))),
    (("BLK_HOLD_OFF",), lost(takeovers_ms=(NOW - 5_000,))),
    (("BLK_QUORUM",), lost(reports={"mail3": {"lease_over": False}, "arbiter": None})),
    (("BLK_MEMBERSHIP", "BLK_QUORUM"), lost(reports={n: {"membership": "other"} for n in ("mail3", "arbiter")})),
    (("BLK_PAUSED",), lost(record=record(paused="anna: storage"))),
    (("BLK_FENCE",), lost(policy=replace(POLICY, fence_required=True))),
    (("BLK_NOT_APPLIED",), lost(database=replica_facts(500, applied=400, receiver=STOPPED))),
    ((), lost("mail3")),  # mail2 comes first, and says for itself
]


@pytest.mark.parametrize(("codes", "known"), BLOCKED)
def test_why_not(codes: tuple[str, ...], known: View) -> None:
    assert tuple(rejected.code for rejected in candidates.why_not(known)) == codes


def test_every_code_that_is_said_is_documented() -> None:
    said = {said for said, _, _ in PLANNED}
    said |= {code for _, _, _, codes in FAILOVER for code in codes.values()}
    said |= {code for codes, _ in BLOCKED for code in codes}
    assert {code for code in said if code.startswith("BLK_")} <= candidates.CODES.keys()


# ---- what no order of facts may bring about -------------------------------------------------------------------------

LAST = st.integers(490, 510)


@given(
    positions=st.tuples(LAST, LAST, LAST),
    heard=st.tuples(st.booleans(), st.booleans(), st.booleans()),
    acknowledged_by=st.sampled_from((1, 2)),
    began=st.integers(480, 495),
)
def test_nothing_acknowledged_is_lost(
    positions: tuple[int, int, int], heard: tuple[bool, bool, bool], acknowledged_by: int, began: int
) -> None:
    """mail1 was primary: its log is the longest, and a replica has what was acknowledged. Whoever is heard."""
    own = max(positions)
    acknowledged = positions[acknowledged_by]
    told: dict[str, Any] = {
        "mail1": {"database": primary_facts(own, read_only=True), "serving": False} if heard[0] else None,
        "mail2": frozen(positions[1]) if heard[1] else None,
        "mail3": frozen(positions[2]) if heard[2] else None,
    }
    election = candidates.failover(lost("arbiter", told, record=record(began=at(began))))
    has = {M1: own, M2: positions[1], M3: positions[2]}
    assert all(has[name] >= acknowledged for name in election.order)


@given(mine=st.integers(1, 900), theirs=st.integers(1, 900))
def test_an_old_primary_with_a_history_of_its_own_is_never_elected(mine: int, theirs: int) -> None:
    """mail3 was primary before mail1 and has come back; mail2 followed mail1 and has something of its term."""
    began = record(began=at(theirs - 1), previous=M3)
    old = {"mail3": {"database": primary_facts(mine, read_only=True)}}
    known = lost(record=began, reports=old, database=replica_facts(theirs, receiver=STOPPED))
    assert candidates.failover(known).order == (M2,)


def test_two_nodes_never_both_take_themselves_for_the_best() -> None:
    """With the same reports, all nodes say the same."""
    for told in ({}, {"mail3": frozen(501)}, {"mail2": frozen(499)}):
        best = set()
        for me in ("mail2", "mail3", "arbiter"):
            mine = {"database": told[me]["database"]} if me in told else {}
            best.add(candidates.failover(lost(me, told, **mine)).best)
        assert len(best) == 1


# ---- an operator's word ---------------------------------------------------------------------------------------------

WORDS = [
    ("mail9", view(), "BLK_NO_SUCH_NODE"),
    ("mail1", lost(store_heard_ms=None), "BLK_STORE"),
    ("mail3", lost(), "BLK_NOT_HOLDER"),
    ("mail1", lost(record=record(revoked=True)), "BLK_NOT_HOLDER"),
    ("mail1", view(), "BLK_ANSWERS"),
    ("mail1", view(reports={"mail1": None}), "BLK_ANSWERS"),  # nobody hears it here, and its counter moves
]


@pytest.mark.parametrize(("name", "known", "code"), WORDS)
def test_a_word_that_is_not_taken(name: str, known: View, code: str) -> None:
    why = candidates.confirm_rejection(known, name)
    assert why is not None
    assert why.code == code


def test_a_word_that_is_taken() -> None:
    assert candidates.confirm_rejection(lost(), "mail1") is None
