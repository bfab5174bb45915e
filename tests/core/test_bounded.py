"""Commits that wait for no replica: samples, floors, the mark in the store first, and who is within the bound."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from views import NOW, POLICY, RUN, TERM, at, lost, primary_facts, record, replica_facts, report, view

from failoverd.core import bounded, candidates, plan, rejoin, rules, unproven
from failoverd.core.effects import Perform, Purpose, Push, Remember, StepKind, Swap
from failoverd.core.lease import Held, Memory, Watch
from failoverd.core.machine import Observed, Reaction, Reported, State, StoreSeen, Swapped, Ticked, step
from failoverd.core.model import Floor, Health, NodeName, Observation, Outcome, Reading, Record, Thread
from failoverd.core.plan import Ended, Progress
from failoverd.core.policy import PolicyError
from failoverd.core.rules import Decision

if TYPE_CHECKING:
    from failoverd.core.view import View

M1, M2, M3 = NodeName("mail1"), NodeName("mail2"), NodeName("mail3")
BOUND_MS = 10 * POLICY.ttl_ms
BOUNDED = replace(POLICY, bound_ms=BOUND_MS)
ALLOWED_MS = 27_000  # of 30 s, since a clock may be fast by a margin in a ttl
WHY = "commits wait for no replica: rpo is bounded, 30000 ms"
MARKED = record(unproven=WHY, marks=1, bound_ms=BOUND_MS, floor=Floor(NOW - 300, at(480)))
MEMORY = Memory(TERM, M1, POLICY.ttl_ms, None, RUN, unproven=WHY, marks=1)
SAMPLES = ((NOW - 30_000, at(100)), (NOW - 20_000, at(300)), (NOW - 300, at(499)))
DONE = Progress(
    (Decision.SERVE.value, TERM),
    tuple(
        Ended(kind, Outcome.SUCCEEDED, NOW - 9000, 0)
        for kind in plan.PLANS[Decision.SERVE]
        if kind is not StepKind.STOP_WAITING
    ),
)
ASYNCHRONOUS = primary_facts(semi_sync_source=False, unacknowledged=1)


def serving(reports: Any = None, **changes: Any) -> View:
    """What mail1 knows that serves, as its first term with this mode begins."""
    own = {"policy": BOUNDED, "memory": MEMORY, "samples": SAMPLES, "beat_seen_ms": NOW}
    return view("mail1", reports, **(own | changes))


def steady(**changes: Any) -> View:
    """The same once the store has the mark and commits do not wait."""
    own = {"record": MARKED, "marked_term": TERM, "database": ASYNCHRONOUS}
    return serving(**(own | changes))


def gone(me: str = "mail2", **changes: Any) -> View:
    """What a replica knows when the primary is lost."""
    return lost(me, **({"policy": BOUNDED, "record": MARKED} | changes))


def reaction_of(known: View, event: Any = None, **changes: Any) -> Reaction:
    return step(replace(State(view=known, software="0.1.0", progress=DONE), **changes), event or Ticked(), NOW)


def swap_of(reaction: Reaction) -> Swap:
    (swap,) = (effect for effect in reaction.effects if isinstance(effect, Swap))
    return swap


def steps_of(reaction: Reaction) -> list[StepKind]:
    return [effect.step.kind for effect in reaction.effects if isinstance(effect, Perform)]


# ---- samples --------------------------------------------------------------------------------------------------------

readings = st.lists(st.tuples(st.integers(1, 5000), st.integers(0, 50)), min_size=1, max_size=300)


@given(readings, st.integers(0, 40_000))
def test_a_floor_is_never_older_than_the_bound_and_thinning_only_makes_it_newer(
    steps: list[tuple[int, int]], later_ms: int
) -> None:
    asked_ms, last = 1000, 0
    every: list[tuple[int, int]] = []
    samples: bounded.Samples = ()
    for pause_ms, written in steps:
        asked_ms, last = asked_ms + pause_ms, last + written
        every.append((asked_ms, last))
        samples = bounded.sampled(samples, asked_ms, at(last), BOUNDED)
        assert len(samples) <= bounded.KEPT + 2
        assert set(samples) <= {(when, at(had)) for when, had in every}
        assert sorted(samples, key=lambda sample: sample[0]) == list(samples)
    until_ms = asked_ms + later_ms
    floor = bounded.counted(serving(samples=samples), until_ms)
    young = [had for when, had in every if when >= until_ms - ALLOWED_MS]
    if floor.position is not None:
        assert young
        assert floor.position.covers(at(young[0]))


def test_of_steady_readings_the_floor_is_as_old_as_it_may_be_but_for_a_few_percent() -> None:
    samples: bounded.Samples = ()
    for number in range(400):
        samples = bounded.sampled(samples, number * 500, at(number), BOUNDED)
    now_ms = 399 * 500
    floor = bounded.counted(serving(samples=samples), now_ms)
    assert floor.position is not None
    oldest_ms = floor.position.parts[0][1][-1][1] * 500
    assert ALLOWED_MS - 2 * ALLOWED_MS // bounded.KEPT <= now_ms - oldest_ms <= ALLOWED_MS


def test_a_sample_is_from_when_it_was_asked() -> None:
    seen = Observation("database", M1, Reading(Health.OK, facts=replace(ASYNCHRONOUS, applied=at(700))), NOW, 900)
    after = step(State(view=steady(samples=()), software="0", progress=DONE), Observed(seen), NOW).state.view
    assert after.samples == ((NOW - 900, at(700)),)
    for other in (steady(samples=(), policy=POLICY), steady(samples=(), held=None)):
        assert step(State(view=other, software="0", progress=DONE), Observed(seen), NOW).state.view.samples == ()


def test_a_bound_below_two_leases_is_no_policy() -> None:
    with pytest.raises(PolicyError, match="ttl x 2 = 6000 ms is above bound = 5999 ms"):
        replace(POLICY, bound_ms=5999)


# ---- the holder -----------------------------------------------------------------------------------------------------


def test_the_store_is_told_with_a_floor_before_commits_stop_waiting() -> None:
    asked = reaction_of(serving(), renewed_ms=NOW - 10)
    swap = swap_of(asked)
    assert (swap.purpose, swap.record.unproven, swap.record.bound_ms) == (Purpose.MARK, WHY, BOUND_MS)
    assert swap.record.floor == Floor(NOW, at(300))  # the lease that it might be read with ends a ttl from now
    assert steps_of(asked) == []
    answered = step(asked.state, Swapped(swap, Outcome.SUCCEEDED, replace(swap.record, version=41)), NOW)
    assert steps_of(answered) == [StepKind.STOP_WAITING]
    silent = step(asked.state, Swapped(swap, Outcome.UNKNOWN, None), NOW)
    assert steps_of(silent) == []


def test_without_a_sample_that_is_young_enough_nothing_is_said_and_commits_wait() -> None:
    asked = reaction_of(serving(samples=SAMPLES[:1]), renewed_ms=NOW - 10)
    assert [e for e in asked.effects if isinstance(e, Swap)] == []
    assert steps_of(asked) == []


@pytest.mark.parametrize(
    "changes",
    [
        {"marked_term": 0},
        {"record": replace(MARKED, bound_ms=BOUND_MS * 2)},
        {"record": replace(MARKED, floor=None)},
        {"record": replace(MARKED, unproven="")},
        {"database": primary_facts(read_only=True)},
        {"served_term": TERM - 1},
        {"held": None},
    ],
)
def test_nothing_less_lets_commits_go(changes: dict[str, Any]) -> None:
    assert unproven.may_stop_waiting(steady(database=primary_facts()))
    assert not unproven.may_stop_waiting(steady(**({"database": primary_facts()} | changes)))


def test_each_renewal_has_a_floor_that_is_old_enough_for_the_lease_s_end() -> None:
    swap = swap_of(reaction_of(steady(), renewed_ms=NOW - 500))
    assert (swap.purpose, swap.record.counter) == (Purpose.RENEW, 31)
    assert swap.record.floor == Floor(NOW, at(300))
    aged = swap_of(reaction_of(steady(samples=SAMPLES[:1]), renewed_ms=NOW - 500))
    assert aged.record.floor == Floor(NOW, None)  # the former one is no floor of this lease


def test_a_holder_in_another_mode_keeps_no_floor_and_waits_until_it_is_proven() -> None:
    zero = steady(policy=POLICY)
    swap = swap_of(reaction_of(zero, renewed_ms=NOW - 500))
    assert (swap.purpose, swap.record.floor, swap.record.bound_ms) == (Purpose.RENEW, None, 0)
    assert swap.record.unproven == WHY
    assert steps_of(reaction_of(zero, renewed_ms=NOW - 10)) == [StepKind.BECOME_SOURCE]
    assert unproven.goes_on(steady())


def test_a_term_that_is_given_back_without_a_position_has_a_floor_of_now() -> None:
    given = replace(MARKED, revoked=True)
    assert bounded.given_back(steady(), given).floor == Floor(NOW, at(300))
    early = steady(samples=((NOW - 26_900, at(200)), *SAMPLES[1:]))
    assert bounded.given_back(early, given).floor == Floor(NOW, at(200))  # no lease to come
    assert bounded.given_back(steady(samples=()), given) == given
    told = replace(given, position=at(500))
    assert bounded.given_back(steady(), told) == told


def test_a_round_of_promises_has_a_floor_of_its_own() -> None:
    asking = steady(held=Held(TERM, 40, NOW + 1500), renewed_ms=NOW - 1200)
    (push,) = (e for e in reaction_of(asking, renewed_ms=NOW - 10).effects if isinstance(e, Push))
    assert (push.report.asks_ms, push.report.floor) == (POLICY.ttl_ms, Floor(NOW, at(300)))


def test_nobody_within_the_bound_for_a_lease_is_an_alarm() -> None:
    away = steady(reports={"mail2": None, "mail3": None})
    first = reaction_of(away, renewed_ms=NOW - 500).state
    assert first.view.beyond == (NOW, False)
    assert bounded.findings(first.view) == ()
    later = reaction_of(away.changed(beyond=(NOW - POLICY.ttl_ms, False)), renewed_ms=NOW - 500)
    assert [e.code for e in later.entries if e.kind == "alarm"] == ["RPO_BEYOND_BOUND"]
    assert [code for code, _ in bounded.findings(later.state.view)] == ["RPO_BEYOND_BOUND"]
    back = reaction_of(steady(beyond=(NOW - 9000, True)), renewed_ms=NOW - 500)
    assert [e.code for e in back.entries if e.kind == "alarm-over"] == ["RPO_BEYOND_BOUND"]
    assert back.state.view.beyond is None


def test_no_finding_of_the_other_mode_fires() -> None:
    seen = Observed(Observation("database", M1, Reading(Health.OK, facts=ASYNCHRONOUS), NOW, 5))
    entries = step(State(view=steady(database=primary_facts()), software="0", progress=DONE), seen, NOW).entries
    assert [e.code for e in entries if e.kind.startswith("rpo")] == []
    assert unproven.to_be_marked(steady()) == ""
    assert unproven.proven_by(steady()) is None


# ---- whoever would take over ----------------------------------------------------------------------------------------


def alone(position: int, **changes: Any) -> View:
    """mail2, frozen at this position, hears only the arbiter."""
    frozen = replica_facts(position, receiver=Thread.STOPPED)
    return gone(**({"reports": {"mail3": None}, "database": frozen} | changes))


def test_one_that_covers_the_floor_takes_over_alone() -> None:
    assert candidates.failover(alone(480)).best == M2
    assert rules.decide(alone(480)).id == rules.LOST
    election = candidates.failover(alone(479))
    assert {why.code for why in election.rejected if why.node == M2} == {"BLK_RPO_BOUND"}
    assert rules.decide(alone(479)).id == "primary-lapsing"


def test_of_two_within_the_bound_the_more_advanced_one_goes_first() -> None:
    behind = replica_facts(490, receiver=Thread.STOPPED)
    assert candidates.failover(gone(database=behind)).best == M3
    assert candidates.failover(gone("mail3", reports={"mail2": {"database": behind}})).best == M3


def test_one_that_still_receives_is_waited_for_and_not_for_ever() -> None:
    receiving = {"mail3": {"database": replica_facts(), "frozen_term": None}}
    known = gone(reports=receiving)
    assert [why.code for why in candidates.failover(known).rejected if why.node == M2] == ["BLK_RPO_BOUND"]
    late = gone(reports=receiving, watch=Watch(TERM, 30, NOW - 2 * POLICY.ttl_ms))
    assert candidates.failover(late).best == M2


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"record": replace(MARKED, floor=Floor(NOW, None))}, "BLK_RPO_BOUND"),
        ({"record": replace(MARKED, floor=None)}, "BLK_RPO_UNPROVEN"),
        ({"record": replace(MARKED, bound_ms=BOUND_MS + 1)}, "BLK_RPO_BOUND"),
        ({"policy": POLICY}, "BLK_RPO_UNPROVEN"),
        ({"floor": Floor(NOW - 100, None)}, "BLK_RPO_BOUND"),
        ({"floor": Floor(NOW - 100, at(501))}, "BLK_RPO_BOUND"),
        ({"memory": Memory(TERM, M1, POLICY.ttl_ms, caught_up=RUN, floor_ms=NOW)}, "BLK_RPO_BOUND"),
        ({"record": replace(MARKED, began=at(501))}, "BLK_BEHIND"),
    ],
)
def test_nothing_less_than_the_newest_floor_will_do(changes: dict[str, Any], code: str) -> None:
    assert candidates.failover(alone(500)).best == M2
    election = candidates.failover(alone(500, **changes))
    assert election.order == ()
    assert {why.code for why in election.rejected if why.node == M2} == {code}


def test_an_older_floor_than_one_that_was_heard_of_counts_for_nothing() -> None:
    assert candidates.failover(alone(500, floor=Floor(NOW - 301, None))).best == M2
    assert (
        candidates.failover(alone(500, floor=Floor(NOW - 300, None))).best == M2
    )  # the very one, from this node's disk


def test_what_the_holder_said_counts_for_more_than_a_floor() -> None:
    given = replace(MARKED, revoked=True, position=at(500))
    assert candidates.failover(alone(499, record=given)).order == ()
    assert candidates.failover(alone(500, record=given)).best == M2
    assert not candidates.rests_on_a_floor(alone(500, record=given))


def test_a_takeover_by_a_floor_says_so_and_begins_with_a_floor_of_its_own() -> None:
    reaction = reaction_of(alone(490))
    swap = swap_of(reaction)
    taken = swap.record
    assert (swap.purpose, taken.term, taken.bounded) == (Purpose.TAKE_OVER, TERM + 1, TERM + 1)
    assert taken.reason == f"{rules.LOST}: may lack what mail1 told clients in its last {BOUND_MS} ms, no more"
    assert (taken.unproven, taken.marks, taken.floor) == (WHY, 2, Floor(NOW, at(490)))
    won = step(reaction.state, Swapped(swap, Outcome.SUCCEEDED, replace(taken, version=41)), NOW).state.view
    assert (won.marked_term, won.samples) == (TERM + 1, ((NOW, at(490)),))


def test_a_takeover_that_is_proven_does_not_count_as_one_by_a_floor() -> None:
    proven = swap_of(reaction_of(lost(policy=BOUNDED))).record
    assert (proven.bounded, proven.bound_ms, proven.reason) == (0, BOUND_MS, rules.LOST)
    given = replace(MARKED, revoked=True, successor=M2, position=at(500))
    known = gone(record=given, watch=Watch(TERM, 30, NOW - 500))
    assert swap_of(reaction_of(known)).record.bounded == 0
    zero = swap_of(reaction_of(known.changed(policy=POLICY))).record
    assert (zero.unproven, zero.bound_ms, zero.floor) == (WHY, 0, None)


def test_an_old_primary_with_more_is_left_to_a_person() -> None:
    began = record(
        term=TERM, holder=M2, previous=M1, bounded=TERM, unproven=WHY, bound_ms=BOUND_MS, floor=Floor(1, at(9))
    )
    extra = replica_facts(600, heartbeat_term=TERM - 1, replication=None)
    known = view("mail1", record=began, database=extra, held=None, policy=BOUNDED)
    assert (
        rejoin.held_back(known, M1)
        == f"term {TERM} began within the bound: clients may have been told of what mail1 has extra"
    )
    newer = known.changed(database=replace(extra, heartbeat_term=TERM))
    assert rejoin.held_back(newer, M1) == ""


def test_others_could_serve_where_one_of_them_is_within_the_bound() -> None:
    assert bounded.within(steady()) == [M2, M3]
    assert candidates.could_elect(steady())
    far = steady(record=replace(MARKED, floor=Floor(NOW, at(501))))
    assert bounded.within(far) == []
    assert not candidates.could_elect(far)
    assert not candidates.could_elect(steady(policy=POLICY))


# ---- what is remembered ---------------------------------------------------------------------------------------------


def test_the_newest_floor_of_a_term_is_kept_whoever_says_it() -> None:
    known = view("mail2", policy=BOUNDED, record=MARKED, floor=MARKED.floor)
    told = replace(report("mail3", "mail2"), number=99, floor=Floor(NOW, at(495)))
    after = step(State(view=known, software="0"), Reported(told), NOW).state.view
    assert after.floor == Floor(NOW, at(495))
    old = replace(MARKED, version=90, counter=12, floor=Floor(NOW - 9000, at(400)))
    seen = step(State(view=after, software="0"), StoreSeen(old), NOW).state.view
    assert bounded.floor_of(seen) == Floor(NOW, at(495))
    next_term = replace(MARKED, version=91, term=TERM + 1, holder=M3, marks=2, floor=Floor(5, at(500)))
    assert step(State(view=seen, software="0"), StoreSeen(next_term), NOW).state.view.floor == Floor(5, at(500))


def test_a_promise_is_on_disk_with_its_floor_before_it_is_told() -> None:
    known = view("mail2", policy=BOUNDED, record=MARKED, floor=MARKED.floor, memory=replace(MEMORY, caught_up=RUN))
    asks = replace(report("mail1", "mail2"), number=99, asks_ms=POLICY.ttl_ms, floor=Floor(NOW, at(495)))
    effects = step(State(view=known, software="0"), Reported(asks), NOW).effects
    kinds = [type(effect) for effect in effects]
    assert kinds.index(Remember) < kinds.index(Push)
    (kept,) = (effect.memory for effect in effects if isinstance(effect, Remember))
    assert NOW <= kept.floor_ms < NOW + bounded.REMEMBERED_TTLS * POLICY.ttl_ms
    anew = alone(500, memory=replace(kept, caught_up=RUN), record=replace(MARKED, floor=Floor(NOW - 1, at(480))))
    assert candidates.failover(anew).order == ()


def test_once_the_holder_lapses_its_newest_floor_is_on_disk() -> None:
    known = gone(floor=MARKED.floor, memory=replace(MEMORY, caught_up=RUN))
    assert bounded.to_remember(known) == NOW - 300
    assert bounded.to_remember(view("mail2", policy=BOUNDED, record=MARKED, floor=MARKED.floor)) == 0


def test_a_mark_that_only_others_know_of_comes_without_a_floor() -> None:
    known = view("mail2", {"arbiter": {"unproven": WHY, "marks": 7}}, policy=BOUNDED, record=None)
    found = unproven.remembered(known, MARKED)
    assert (found.unproven, found.marks, found.bound_ms, found.floor) == (WHY, 7, 0, None)
    assert not bounded.standing(found)
    assert not bounded.standing(Record())
