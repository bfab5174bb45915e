"""A database made anew: when that is refused, when it is due, and that its node proves nothing meanwhile."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from views import NOW, POLICY, RUN, at, lost, primary_facts, record, replica_facts, replication, view

from failoverd.core import candidates, rejoin, rejoining, rules
from failoverd.core.effects import Perform, Purpose, Remember, StepKind, Swap
from failoverd.core.findings import FINDINGS
from failoverd.core.gtid import GtidSet
from failoverd.core.health import Sighting
from failoverd.core.heirs import ahead_of_me
from failoverd.core.lease import Memory
from failoverd.core.machine import Observed, RejoinAsked, Reported, State, Ticked, make_report, step
from failoverd.core.model import (
    Health,
    NodeName,
    Observation,
    Outcome,
    Reading,
    RebuildFacts,
    Record,
    Rejoin,
    Request,
    RequestEnded,
    Thread,
)
from failoverd.core.plan import Ended, Progress
from failoverd.rebuild import CODES as REBUILD_CODES

if TYPE_CHECKING:
    from collections.abc import Mapping

    from failoverd.core.machine import Reaction
    from failoverd.core.view import View

M1, M2, M3 = NodeName("mail1"), NodeName("mail2"), NodeName("mail3")
DIVERGED = "1062: Could not execute Write_rows_v1 event on table mail.users; Duplicate entry '7'"
BROKEN = replica_facts(applier=Thread.STOPPED, applier_error=DIVERGED)
# An old primary: it follows nobody and holds three transactions of its own.
EXTRA = replace(primary_facts(), read_only=True, holdings=GtidSet.upto({"0-1": 500, "0-2": 503}), server_id=2)
AUTOMATIC = replace(POLICY, rejoin_automatic=True)
ASKED = Rejoin("r1", M2, M3, "anna", 5)


def sick(facts: Any = EXTRA, reports: Mapping[str, Mapping[str, Any] | None] | None = None, **changes: Any) -> View:
    """mail2, whose database needs it, for a minute."""
    given = {"database": facts, "policy": AUTOMATIC, "rejoin_due_since_ms": NOW - 60_000}
    return view("mail2", reports, **(given | changes))


def told(stage: str, *, running: bool = True, request: str = "r1", **changes: Any) -> Reading:
    facts = replace(RebuildFacts(request, stage, running, touched=False), **changes)
    return Reading(Health.OK, facts=facts)


def seen(known: View, reading: Reading) -> View:
    look = Sighting(Observation("rebuild", known.me.name, reading, NOW - 100, 1), 0, NOW - 100)
    return replace(known, sightings=(*known.sightings, look))


# ---- why not --------------------------------------------------------------------------------------------------------

BEHIND: dict[str, Any] = {"database": replica_facts(heartbeat_beat=50)}
SILENT: dict[str, Any] = {"database": replica_facts(semi_sync_replica=False)}


@pytest.mark.parametrize(
    ("node", "donor", "known", "codes"),
    [
        ("mail2", "", view("arbiter"), []),
        ("mail2", "mail3", view("arbiter"), []),
        ("mail2", "mail1", view("arbiter"), []),  # a person names the primary
        ("mail9", "", view("arbiter"), ["BLK_NO_SUCH_NODE"]),
        ("mail2", "mail9", view("arbiter"), ["BLK_NO_SUCH_NODE"]),
        ("arbiter", "", view("arbiter"), ["BLK_NOT_DATA"]),
        ("mail2", "arbiter", view("mail3"), ["BLK_NOT_DATA"]),
        ("mail1", "", view("arbiter"), ["BLK_IS_PRIMARY"]),
        ("mail1", "", view("mail1"), ["BLK_IS_PRIMARY"]),
        ("mail2", "mail2", view("arbiter"), ["BLK_NO_DONOR"]),
        ("mail2", "", lost("mail3"), ["BLK_NO_PRIMARY"]),
        ("mail2", "", view("arbiter", {"mail2": None}), ["BLK_UNREACHABLE"]),
        ("mail2", "", view("arbiter", {"mail1": None}), ["BLK_UNREACHABLE", "BLK_NO_DONOR"]),
        ("mail2", "", view("arbiter", {"mail2": {"rebuilding": True}}), ["BLK_REBUILDING"]),
        (
            "mail2",
            "",
            view("arbiter", {"mail3": {"rebuilding": True}}),
            ["BLK_REBUILDING", "BLK_LAST_REPLICA", "BLK_NO_DONOR"],
        ),
        ("mail2", "mail1", view("arbiter", {"mail3": SILENT}), ["BLK_LAST_REPLICA"]),
        ("mail2", "mail3", view("arbiter", {"mail3": SILENT, "mail2": SILENT}), ["BLK_NO_DONOR"]),
        ("mail2", "mail1", view("arbiter", {"mail3": None, "mail2": {"database": BROKEN}}), ["BLK_LAST_REPLICA"]),
        ("mail2", "mail1", view("arbiter", {"mail3": None, "mail2": {"database": EXTRA}}), []),  # it does not anyway
        ("mail2", "mail3", view("arbiter", {"mail3": {"database": BROKEN}}), ["BLK_NO_DONOR"]),
        ("mail2", "mail3", view("arbiter", {"mail3": {"membership": "other"}}), ["BLK_NO_DONOR"]),
        (
            "mail2",
            "mail3",
            view("arbiter", {"mail3": {"database": replica_facts(heartbeat_beat=50)}}),
            ["BLK_NO_DONOR"],
        ),
    ],
)
def test_rejections(node: str, donor: str, known: View, codes: list[str]) -> None:
    assert [why.code for why in rejoin.rejections(known, node, donor)] == codes
    assert set(codes) <= candidates.CODES.keys()


def test_the_donor_is_the_best_replica_and_never_the_primary() -> None:
    assert rejoin.donor_for(view("arbiter"), M2) == M3
    assert rejoin.donor_for(view("arbiter"), M3) == M2
    assert rejoin.donor_for(view("arbiter", {"mail3": None}), M2) is None
    for code in rejoin.NO_COPY:
        assert code in FINDINGS
        assert rejoin.donor_for(view("arbiter", {"mail3": {"findings": ((code, "why"),)}}), M2) is None
    warned = {"findings": (("SET_NET_TIMEOUT", "60 s"), ("LAG_WARN", "600 ms"))}
    assert rejoin.donor_for(view("arbiter", {"mail3": warned}), M2) == M3


# ---- when it is due -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("facts", "needed"),
    [
        (replica_facts(), False),
        (EXTRA, True),
        (BROKEN, True),
        (
            replica_facts(510, holdings=GtidSet.upto({"0-1": 510})),
            False,
        ),  # a follower is only younger than what it heard
        (replace(EXTRA, replication=replication(source="mail3")), False),  # not before it stands still
        (replica_facts(receiver=Thread.STOPPED, receiver_error="2003: error connecting to master"), False),
        (None, False),
    ],
)
def test_need(facts: Any, *, needed: bool) -> None:
    assert bool(rejoin.need(view("mail2", database=facts), M2)) is needed


def test_it_is_due() -> None:
    for facts in (EXTRA, BROKEN):
        assert rules.decide(sick(facts)).id == "rebuild-due"


@pytest.mark.parametrize(
    "changes",
    [
        {"policy": POLICY},
        {"rejoin_due_since_ms": NOW - 29_000},
        {"rejoin_due_since_ms": None},
        {"record": replace(view().record, paused="anna: rack")},  # type: ignore[type-var] # there is one
        {"rejoin_failed": (1, NOW - 599_000)},
        {"rejoin_failed": (2, NOW - 700_000)},
        {"highest_term": 6},  # the store is behind: it may be paused
        {"reports": {"mail1": None}},
        {"reports": {"mail3": None}},
        {"reports": {"mail3": {"rebuilding": True}}},
        {"reports": {"mail3": SILENT}},
        {"reports": {"mail3": {"database": BROKEN}}},
        {"reports": {"mail3": {"membership": "other"}}},
    ],
    ids=str,
)
def test_it_is_not_due(changes: dict[str, Any]) -> None:
    assert not rejoin.due(sick(**changes))


@pytest.mark.parametrize("facts", [EXTRA, BROKEN])
def test_what_clients_may_have_been_told_of_is_made_anew_by_a_person_only(facts: Any) -> None:
    """A forced takeover went past the proof that what an old primary has extra was acknowledged to nobody."""
    before = replace(facts, heartbeat_term=4)
    for forced in (0, 3, 4):  # never, or it has followed since
        assert rejoin.due(sick(before, record=record(forced=forced)))
    for held, words in (
        (record(forced=5, reason="take-over-forced: anna: it burnt"), "term 5 was forced"),
        (record(forced=5, term=6), "term 5 was forced"),  # nor in a later term
        (record(unproven="since heartbeat 6", marks=1), "only on mail1: since heartbeat 6"),
    ):
        known = sick(before, record=held)
        assert not rejoin.due(known)
        assert rules.decide(known).id != "rebuild-due"
        ((code, reason),) = (f for f in make_report(State(view=known, software="0")).findings if f[0] in FINDINGS)
        assert code == "REJOIN_HELD"
        assert words in reason
        assert rejoin.rejections(view("arbiter", record=held), "mail2") == ()  # a person may
    assert "was forced" in rejoin.held_back(view("arbiter", {"mail2": None}, record=record(forced=1)), M2)
    assert rejoin.held_back(view("arbiter", {"mail2": None}), M2) == ""
    well = make_report(State(view=view("mail2", record=record(forced=6)), software="0"))
    assert well.findings == ()


def test_a_term_that_was_forced_is_remembered_in_all_that_follow() -> None:
    request = Request("r1", M2, "anna", "they burnt", 5, allow_loss=True)
    alone = lost("mail2", {"mail3": None}, record=record(request=request, forced=3), request_seen=("r1", NOW))
    assert taken(alone).forced == 6
    assert taken(lost("mail2", record=record(forced=3))).forced == 3


def taken(known: View) -> Record:
    """The record of the term that is asked for."""
    (swap,) = (e for e in step(State(view=known, software="0"), Ticked(), NOW).effects if isinstance(e, Swap))
    assert swap.purpose is Purpose.TAKE_OVER
    return swap.record


def test_another_primary_ends_what_was_asked_for_and_not_begun() -> None:
    """It was safe with the former one: what this node has may be all that is left, if the new term was forced."""
    former = replace(ASKED, term=4)
    known = view("mail2", rejoin=former, rejoin_since_ms=NOW - 60_000, rejoin_starts=())
    assert not rejoin.start_due(known)
    assert rejoin.start_due(replace(known, rejoin=ASKED))
    state, _ = fed(State(view=known, software="0"), Ticked(), at_ms=NOW)
    assert state.view.rejoin is None
    assert state.view.rejoin_ended is not None
    assert state.view.rejoin_ended.code == "REBUILD_NO_PRIMARY"
    for reading in (told("receive"), told("moving-in", touched=True)):
        going_on, _ = fed(State(view=known, software="0"), looked(reading, NOW), at_ms=NOW)
        assert going_on.view.rejoin == former


def test_a_failed_one_is_tried_again_later_and_later() -> None:
    assert rejoin.due(sick(rejoin_failed=(1, NOW - 600_000)))
    assert rejoin.due(sick(now_ms=NOW)) is True
    late = sick(rejoin_failed=(16, -1))
    assert not rejoin.due(late)


def test_a_daemon_that_is_started_again_waits_as_long() -> None:
    """A node whose rebuild fails again and again must not try at once because somebody restarts its daemon."""
    at_work, _ = fed(State(view=view("mail2", rejoin_failed=(2, NOW - 5000)), software="0"), RejoinAsked(ASKED))
    failed, (reaction,) = fed(at_work, looked(told("failed", running=False, code="X"), NOW + 20), at_ms=NOW + 20)
    assert isinstance(reaction.effects[0], Remember)
    memory = reaction.effects[0].memory
    assert (memory.rejoin_failures, memory.rejoin_failed_ms) == failed.view.rejoin_failed == (3, NOW + 20)
    most = replace(failed.view, rejoin=ASKED, rejoin_failed=(rejoin.COUNTED, NOW))
    more, _ = fed(
        State(view=most, software="0"), looked(told("failed", running=False, code="X"), NOW + 30), at_ms=NOW + 30
    )
    assert more.view.rejoin_failed == (rejoin.COUNTED, NOW + 30)

    again = rejoin.failed_before(memory, NOW + 500)
    assert again == (3, NOW + 20)
    assert not rejoin.due(sick(rejoin_failed=again))
    # another boot, whose clock began anew: never before all of the wait has passed in it, and once it has
    for uptime_ms in (1000, NOW + 20, 10 * NOW):
        failures, failed_ms = rejoin.failed_before(memory, uptime_ms)
        assert failures == 3
        assert failed_ms == min(uptime_ms, NOW + 20)
    assert rejoin.failed_before(Memory(7), 1000) == (0, 0)


# ---- what it is meanwhile -------------------------------------------------------------------------------------------


def test_it_proves_nothing_meanwhile() -> None:
    frozen = lost("mail2")
    assert candidates.failover(frozen).best == M2
    anew = lost("mail2", {"mail3": {"rebuilding": True}})
    assert anew.frozen_position_of(M3) is None
    assert [why.code for why in candidates.failover(anew).rejected if why.node == M3] == ["BLK_REBUILDING"]
    assert candidates.failover(anew).best is None  # two positions prove it, and there is one
    mine = lost("mail2", rejoin=ASKED)
    assert mine.frozen_position_of(M2) is None
    assert candidates.failover(mine).best is None
    assert rules.decide(mine).id == "rebuilding"


def test_the_holder_does_not_count_on_it() -> None:
    holder = view("mail1", {"mail2": {"rebuilding": True}})
    assert [why.code for why in candidates.planned(holder).rejected] == ["BLK_REBUILDING"]
    assert not candidates.could_elect(holder)
    assert not candidates.replicas_are_there(holder)
    assert candidates.could_elect(view("mail1"))
    assert candidates.replicas_are_there(view("mail1"))


def test_a_copy_that_follows_nobody_yet_is_compared_and_has_forgotten_what_it_acknowledged() -> None:
    """Copied from the primary, it has what the other replica lacks: that one must not be elected on its proof."""
    stopped = Thread.STOPPED
    copy = {"database": replica_facts(500, replication=None), "caught_up": False}
    behind = lost("mail3", {"mail2": copy}, database=replica_facts(400, receiver=stopped))
    election = candidates.failover(behind)
    assert election.order == ()
    assert {why.code for why in election.rejected if why.node != M1} == {"BLK_RPO_UNPROVEN"}

    # The holder has said what it had, or a copy that has caught up proves as much as any other: it is an heir.
    given = replace(view().record, revoked=True, successor=M3, position=at(500))  # type: ignore[type-var] # there is one
    told = candidates.failover(replace(behind, record=given))
    assert told.order == (M2,)
    proven = lost("mail3", {"mail2": copy | {"caught_up": True}}, database=replica_facts(400, receiver=stopped))
    assert candidates.failover(proven).order == (M2,)

    # Not one of another term, or that wrote by itself.
    for other in (
        replica_facts(500, replication=None, heartbeat_term=4),
        replica_facts(500, replication=None, own=at(500)),
    ):
        known = lost("mail3", {"mail2": {"database": other}}, database=replica_facts(500, receiver=stopped))
        assert M2 not in candidates.failover(known).order


def test_a_primary_does_not_let_go_for_one_that_could_not_take_the_role() -> None:
    crashed = primary_facts(499, read_only=True)
    held = view("mail1", {"mail3": {"database": replica_facts(499)}}, database=crashed, catch_up=None)
    assert ahead_of_me(held) == [M2]
    anew = view("mail1", {"mail2": {"rebuilding": True}, "mail3": {"database": replica_facts(499)}}, database=crashed)
    assert ahead_of_me(anew) == []


def test_a_rebuild_that_a_person_started_by_hand_counts_as_well() -> None:
    for reading, counts in (
        (told("receive", request=""), True),
        (told("moving-in", request="", running=False, touched=True), True),
        (told("failed", request="", running=False), False),
        (told("receive", request="", running=False), False),  # killed, and nothing was touched
        (told("home", request=""), False),
    ):
        known = seen(view("mail2"), reading)
        assert known.i_am_rebuilding() is counts, reading
        assert (rules.decide(known).id == "rebuilding") is counts


# ---- its course -----------------------------------------------------------------------------------------------------


def fed(state: State, *events: Any, at_ms: int = NOW + 10) -> tuple[State, list[Reaction]]:
    reactions = []
    for event in events:
        reactions.append(step(state, event, at_ms))
        state = reactions[-1].state
    return state, reactions


def looked(reading: Reading, at_ms: int) -> Observed:
    return Observed(Observation("rebuild", M2, reading, at_ms, 1))


def begun(state: State, at_ms: int) -> list[Any]:
    """The starts of the unit asked for at that moment."""
    known = state.view.at(at_ms)
    return [known] if rejoin.start_due(known) else []


def test_it_is_on_disk_before_it_begins_and_waits_until_the_others_know() -> None:
    state, (reaction,) = fed(State(view=view("mail2"), software="0"), RejoinAsked(ASKED))
    assert isinstance(reaction.effects[0], Remember)
    assert reaction.effects[0].memory.rejoin == ASKED
    assert state.view.memory.caught_up == RUN
    kinds = [effect.step.kind for effect in reaction.effects if isinstance(effect, Perform)]
    assert StepKind.START_REBUILD not in kinds
    assert not begun(state, NOW + 1500)
    # as if reports went on: each is as young
    later = replace(state.view, now_ms=NOW, rejoin_since_ms=NOW - 2001)
    assert rejoin.start_due(later)
    lower = replace(later, reports=view("mail2", {"mail1": {"rebuilding": True}}).reports)
    higher = replace(later, reports=view("mail2", {"mail3": {"rebuilding": True}}).reports)
    assert not rejoin.start_due(lower)
    assert rejoin.start_due(higher)


def test_its_end() -> None:
    at_work, _ = fed(State(view=view("mail2"), software="0"), RejoinAsked(ASKED))
    home, _ = fed(at_work, looked(told("home", saved="/a"), NOW + 20), at_ms=NOW + 20)
    assert home.view.rejoin is None
    assert home.view.rejoin_ended == RequestEnded("r1", succeeded=True, reason="/a")
    assert home.view.rejoin_failed == (0, 0)
    failed, _ = fed(at_work, looked(told("failed", running=False, code="X", reason="y"), NOW + 20), at_ms=NOW + 20)
    assert failed.view.rejoin is None
    assert failed.view.rejoin_ended == RequestEnded("r1", succeeded=False, code="X", reason="y")
    assert failed.view.rejoin_failed == (1, NOW + 20)
    half, _ = fed(at_work, looked(told("failed", running=False, touched=True), NOW + 20), at_ms=NOW + 20)
    assert half.view.rejoin == ASKED  # only going on helps
    assert begun(half, NOW + 20)
    other, _ = fed(at_work, looked(told("done", running=False, request="r0"), NOW + 20), at_ms=NOW + 20)
    assert other.view.rejoin == ASKED


def test_it_is_given_up_without_a_primary_while_nothing_is_touched() -> None:
    gone = lost("mail2", rejoin=ASKED, memory=Memory(5, M1, 3000, None, RUN, ASKED), rejoin_since_ms=NOW)
    state, _ = fed(State(view=gone, software="0"), looked(told("receive"), NOW), at_ms=NOW)
    assert state.view.rejoin == ASKED  # the program ends itself
    idle, (reaction,) = fed(State(view=gone, software="0"), looked(told("", running=False, request=""), NOW), at_ms=NOW)
    assert idle.view.rejoin is None
    assert idle.view.rejoin_ended is not None
    assert idle.view.rejoin_ended.code == "REBUILD_NO_PRIMARY"
    assert isinstance(reaction.effects[0], Remember)
    assert reaction.effects[0].memory.rejoin is None
    # a server that is stopped may be in the middle of it
    unknown = replace(gone, database=None)
    state, _ = fed(State(view=unknown, software="0"), looked(told("", running=False, request=""), NOW), at_ms=NOW)
    assert state.view.rejoin == ASKED


@pytest.mark.parametrize(
    ("reading", "words"),
    [
        (told("", running=False, request=""), "told nothing"),
        (told("done", running=False, request="r0"), "told nothing"),
        (told("receive", running=False), "ended without a word at receive"),
    ],
)
def test_a_unit_that_ends_without_a_word_again_and_again_is_given_up(reading: Reading, words: str) -> None:
    """Killed, or a bug of its own: what it told before it ended is no reason to start it for ever."""
    starts = tuple(NOW - 15_000 - 1000 * n for n in range(rejoin.STARTS, 0, -1))
    known = view("mail2", rejoin=ASKED, rejoin_since_ms=NOW - 90_000, rejoin_starts=starts)
    state, _ = fed(State(view=known, software="0"), looked(reading, NOW), at_ms=NOW)
    assert state.view.rejoin is None
    assert state.view.rejoin_ended is not None
    assert words in state.view.rejoin_ended.reason
    fewer = replace(known, rejoin_starts=starts[1:])
    state, _ = fed(State(view=fewer, software="0"), looked(reading, NOW), at_ms=NOW)
    assert state.view.rejoin == ASKED


def test_a_unit_that_does_not_start_says_why() -> None:
    starts = tuple(NOW - 16_000 - 1000 * n for n in range(rejoin.STARTS, 0, -1))
    known = view("mail2", rejoin=ASKED, rejoin_since_ms=NOW - 90_000, rejoin_starts=starts)
    masked = Ended(StepKind.START_REBUILD, Outcome.FAILED, NOW - 16_000, 5, "UNIT_FAILED", "the unit is masked")
    state = State(view=known, software="0", progress=Progress(key=("rebuild", 5), ended=(masked,)))
    state, _ = fed(state, looked(told("", running=False, request=""), NOW), at_ms=NOW)
    assert state.view.rejoin_ended == RequestEnded(
        "r1", succeeded=False, code="REBUILD_UNIT", reason="the unit does not start: the unit is masked"
    )


HELD_UP: dict[str, tuple[View, str]] = {
    "another one first": (view("mail2", {"mail1": {"rebuilding": True}}, rejoin=ASKED), "BLK_REBUILDING"),
    "no primary, no database": (lost("mail2", rejoin=ASKED, database=None), "REBUILD_NO_PRIMARY"),
    "another term, no database": (view("mail2", rejoin=replace(ASKED, term=4), database=None), "REBUILD_NO_PRIMARY"),
    "paused": (
        view("mail2", record=record(paused="anna: rack"), rejoin=replace(ASKED, by=rejoin.RULE)),
        "BLK_PAUSED",
    ),
    "no step ends": (view("mail2", rejoin=ASKED), "REBUILD_UNIT"),
}


@pytest.mark.parametrize("known", HELD_UP)
@pytest.mark.parametrize("starts", [(), (NOW - rejoining.BEGIN_MS,)])
def test_what_is_not_begun_ends_within_its_bound(known: str, starts: tuple[int, ...]) -> None:
    held_up, code = HELD_UP[known]
    taken_ms = NOW - rejoining.BEGIN_MS - (5000 if starts else 0)
    waiting = replace(held_up, rejoin_since_ms=taken_ms, rejoin_starts=starts)
    before = replace(waiting, rejoin_since_ms=taken_ms + 1, rejoin_starts=tuple(s + 1 for s in starts))
    nothing = told("", running=False, request="")
    state, _ = fed(State(view=before, software="0"), looked(nothing, NOW), at_ms=NOW)
    assert state.view.rejoin == held_up.rejoin
    state, (reaction,) = fed(State(view=waiting, software="0"), looked(nothing, NOW), at_ms=NOW)
    assert state.view.rejoin is None
    assert state.view.rejoin_ended is not None
    assert (state.view.rejoin_ended.id, state.view.rejoin_ended.code) == ("r1", code)
    assert isinstance(reaction.effects[0], Remember)
    assert code in {*candidates.CODES, *REBUILD_CODES}


@pytest.mark.parametrize(
    "reading",
    [
        told("receive"),
        told("receive", request=""),  # a person's own
        told("failed", running=False, touched=True),
        told("moving-in", running=False, touched=True),
        Reading(Health.UNKNOWN, "REBUILD_UNSEEN", "no permission"),
    ],
)
def test_what_is_at_work_is_not_ended_by_time(reading: Reading) -> None:
    starts = tuple(NOW - 3_600_000 - n for n in range(rejoin.STARTS, 0, -1))
    known = view("mail2", rejoin=ASKED, rejoin_since_ms=NOW - 7_200_000, rejoin_starts=starts, database=None)
    state, _ = fed(State(view=known, software="0"), looked(reading, NOW), at_ms=NOW)
    assert state.view.rejoin == ASKED
    assert make_report(state).rejoining == "r1"


# ---- asked on another node ------------------------------------------------------------------------------------------


def test_a_request_goes_with_the_reports_and_what_speaks_against_it_comes_back() -> None:
    arbiter, _ = fed(State(view=view("arbiter"), software="0"), RejoinAsked(ASKED))
    assert arbiter.rejoin_asked == ASKED
    assert arbiter.view.rejoin is None
    said = next(report for report in view("mail2").reports if report.sender == "arbiter")
    asking = Reported(replace(said, number=said.number + 1, rejoin=ASKED))
    taken, _ = fed(State(view=view("mail2"), software="0"), asking)
    assert taken.view.rejoin == ASKED
    again, _ = fed(taken, Reported(replace(said, number=said.number + 2, rejoin=ASKED)))
    assert again.view.rejoin_since_ms == taken.view.rejoin_since_ms  # once
    refusing = view("mail2", {"mail3": SILENT})
    refused, _ = fed(State(view=refusing, software="0"), asking)
    assert refused.view.rejoin is None
    assert refused.view.rejoin_ended is not None
    assert (refused.view.rejoin_ended.refused, refused.view.rejoin_ended.code) == (True, "BLK_LAST_REPLICA")
    old = replace(ASKED, term=4)
    late, _ = fed(State(view=view("mail2"), software="0"), Reported(replace(said, number=9, rejoin=old)))
    assert late.view.rejoin is None
    # it is told until it is heard
    answer = next(report for report in arbiter.view.reports if report.sender == "mail2")
    heard, _ = fed(arbiter, Reported(replace(answer, number=answer.number + 1, rebuilding=True)))
    assert heard.rejoin_asked is None
