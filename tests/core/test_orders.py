"""What operators order: as changes of the record, who sees to what runs out, and that candidates go by it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st
from views import NODES, NOW, POLICY, TERM, lost, record, report, view

from failoverd.core import candidates, orders, rejoin, rules
from failoverd.core.effects import Purpose, Swap
from failoverd.core.machine import (
    AcknowledgeAsked,
    ClockSet,
    MaintenanceAsked,
    Order,
    PauseAsked,
    Reaction,
    ScheduleAsked,
    State,
    StoreSeen,
    Swapped,
    Ticked,
    step,
)
from failoverd.core.model import Maintenance, NodeName, Outcome, Record, Request, RequestEnded, Scheduled

if TYPE_CHECKING:
    from failoverd.core.view import View

MAIL1, MAIL2, MAIL3 = (node.name for node in NODES[:3])
EPOCH = 1_700_000_000_000
WALL = EPOCH + NOW
DISK = Maintenance(MAIL3, "anna", "a disk", WALL + 5000)
NIGHT = Scheduled("s1", MAIL2, "anna", "a kernel", TERM, WALL + 5000)


def state(known: View, **changes: object) -> State:
    return replace(State(known, "0"), **changes)  # type: ignore[arg-type] # by name


def swaps(reaction: Reaction) -> list[Swap]:
    return [effect for effect in reaction.effects if isinstance(effect, Swap)]


def said(reaction: Reaction, kind: str) -> list[str]:
    return [entry.text for entry in reaction.entries if entry.kind == kind]


def holder(**changes: object) -> View:
    """Mail1 holds the lease, has renewed it just now, and knows what time it is."""
    return view("mail1", epoch_ms=EPOCH, record=record(**changes))


def due(known: View) -> Swap | None:
    """What the holder swaps when nothing else is to be done."""
    found = swaps(step(state(known, renewed_ms=NOW), Ticked(), NOW))
    assert len(found) < 2
    return found[0] if found else None


# ---- orders as changes ----------------------------------------------------------------------------------------------

names = st.sampled_from([MAIL1, MAIL2, MAIL3])
moments = st.sampled_from([0, WALL - 1, WALL + 5000])
working = st.builds(Maintenance, names, st.just("anna"), st.sampled_from(["a disk", "a fan"]), moments)
planned = st.builds(
    Scheduled, st.sampled_from(["s1", "s2"]), names, st.just("anna"), st.just(""), st.just(TERM), moments
)
given_orders: st.SearchStrategy[Order] = st.one_of(
    st.builds(PauseAsked, st.sampled_from(["", "anna: a rack"]), st.just("anna"), moments),
    working.flatmap(lambda m: st.builds(MaintenanceAsked, st.just(m.node), st.just("anna"), st.none() | st.just(m))),
    st.builds(AcknowledgeAsked, st.integers(0, 9), st.just("anna"), st.sampled_from(["", "a cable"])),
    st.builds(ScheduleAsked, st.just("anna"), st.none() | planned, st.sampled_from(["s1", "s2"])),
)


@given(given_orders, given_orders)
def test_an_order_is_done_when_making_it_once_more_would_change_nothing(first: Order, second: Order) -> None:
    before = orders.applied(record(), first)
    after = orders.applied(before, second)
    assert orders.applied(after, second) == after
    assert orders.stands(after, second)
    lease = ("version", "term", "holder", "counter", "ttl_ms", "revoked", "successor", "began", "position", "unproven")
    assert all(getattr(after, name) == getattr(record(), name) for name in lease)


@given(given_orders)
def test_what_a_new_term_keeps_of_orders(order: Order) -> None:
    before = orders.applied(record(), order)
    taken = orders.after_takeover(before, Record(version=before.version, term=TERM + 1, holder=MAIL2))
    assert (taken.paused, taken.paused_until_ms) == (before.paused, before.paused_until_ms)
    assert taken.maintenance == tuple(known for known in before.maintenance if known.node != MAIL2)
    assert (taken.acknowledged, taken.acknowledged_by) == (before.acknowledged, before.acknowledged_by)
    assert taken.scheduled is None
    if before.scheduled is not None:
        assert taken.schedule_ended is not None
        assert (taken.schedule_ended.id, taken.schedule_ended.code) == (before.scheduled.id, "SCHEDULE_MOVED")


def test_a_schedule_that_began_or_was_dropped_meanwhile_is_not_made_anew() -> None:
    order = ScheduleAsked("anna", NIGHT)
    begun = record(request=Request("s1", MAIL2, "anna", "a kernel", TERM))
    dropped = record(schedule_ended=RequestEnded("s1", succeeded=False))
    ended = record(request_ended=RequestEnded("s1", succeeded=True))
    assert all(orders.stands(known, order) for known in (begun, dropped, ended))
    assert not orders.stands(record(), order)


# ---- on its way to the store ----------------------------------------------------------------------------------------


def test_an_order_goes_to_the_store_from_any_node_and_ends_with_the_record_that_has_it() -> None:
    asked = step(state(view("arbiter", epoch_ms=EPOCH)), MaintenanceAsked(MAIL3, "anna", DISK), NOW)
    assert said(asked, "asked") == ["anna begins maintenance of mail3"]
    (swap,) = swaps(asked)
    assert (swap.purpose, swap.record.maintenance) == (Purpose.ORDER, (DISK,))
    won = step(asked.state, Swapped(swap, Outcome.SUCCEEDED, replace(swap.record, version=41)), NOW + 5)
    assert won.state.order is None
    assert said(won, "maintenance") == ["mail3 is in maintenance, by anna: a disk"]


@pytest.mark.parametrize(
    ("known", "order", "code"),
    [
        (view("mail2", record=record(holder=MAIL3)), MaintenanceAsked(MAIL3, "anna", DISK), "BLK_IS_PRIMARY"),
        (
            view("mail2", record=record(term=TERM + 1), highest_term=TERM + 1),
            ScheduleAsked("anna", NIGHT),
            "SCHEDULE_MOVED",
        ),
        (view("mail2", record=record(scheduled=NIGHT)), ScheduleAsked("ben", replace(NIGHT, id="s2")), "BLK_REQUEST"),
    ],
)
def test_an_order_that_was_overtaken_on_its_way_is_dropped_with_a_reason(known: View, order: Order, code: str) -> None:
    told = step(state(known, order=order, asked_ms=NOW), Ticked(), NOW)
    assert told.state.order is None
    assert [entry.code for entry in told.entries if entry.kind == "request-dropped"] == [code]
    assert not [swap for swap in swaps(told) if swap.purpose is Purpose.ORDER]


# ---- what may not be asked ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("known", "name", "wanted", "code"),
    [
        (view("mail2"), "mail9", replace(DISK, node=NodeName("mail9")), "BLK_NO_SUCH_NODE"),
        (view("mail2"), "mail1", replace(DISK, node=MAIL1), "BLK_IS_PRIMARY"),
        (view("mail2", record=record(maintenance=(DISK,))), "mail3", DISK, "BLK_NOTHING"),
        (view("mail2"), "mail3", None, "BLK_NOTHING"),
        (view("mail2", record=record(maintenance=(DISK,))), "mail3", replace(DISK, reason="a fan"), None),
        (view("mail2"), "mail3", DISK, None),
        (view("mail2"), "arbiter", replace(DISK, node=NodeName("arbiter")), None),
        (lost("mail2"), "mail1", replace(DISK, node=MAIL1), None),
    ],
)
def test_maintenance_is_refused_with_a_code(
    known: View, name: str, wanted: Maintenance | None, code: str | None
) -> None:
    why = orders.maintenance_rejection(known, name, wanted)
    assert (why.code if why else None) == code
    if code == "BLK_IS_PRIMARY":
        assert why is not None
        assert "failoverctl promote --node mail2" in why.reason


@pytest.mark.parametrize(
    ("at_ms", "epoch_ms", "code"),
    [
        (0, None, None),
        (WALL + 1, EPOCH, None),
        (WALL, EPOCH, "BLK_TIME"),
        (WALL + orders.AHEAD_MOST_MS + 1, EPOCH, "BLK_TIME"),
        (WALL + 1, None, "BLK_TIME"),
    ],
)
def test_a_moment_must_be_ahead_and_the_time_known(at_ms: int, epoch_ms: int | None, code: str | None) -> None:
    why = orders.moment_rejection(view("mail2", epoch_ms=epoch_ms), at_ms)
    assert (why.code if why else None) == code


@pytest.mark.parametrize(
    ("known", "code"),
    [
        (view("mail2"), None),
        (view("mail2", store_heard_ms=NOW - 9000), "BLK_STORE"),
        (view("mail2", record=Record(), highest_term=0), "BLK_NO_PRIMARY"),
        (view("mail2", highest_term=TERM + 1), "BLK_STORE_OLD"),
    ],
)
def test_nothing_is_ordered_of_a_store_that_does_not_know_the_cluster(known: View, code: str | None) -> None:
    why = orders.store_rejection(known)
    assert (why.code if why else None) == code


@pytest.mark.parametrize(
    ("known", "target", "code"),
    [
        (view("mail2"), "mail2", None),
        (view("mail2", record=record(paused="anna: a rack")), "mail2", None),  # until then it may go on
        (view("mail2"), "mail1", "BLK_IS_PRIMARY"),
        (view("mail2"), "arbiter", "BLK_NOT_DATA"),
        (view("mail2"), "mail9", "BLK_NO_SUCH_NODE"),
        (lost("mail2"), "mail2", "BLK_NO_PRIMARY"),
        (view("mail2", record=record(scheduled=NIGHT)), "mail3", "BLK_REQUEST"),
    ],
)
def test_a_schedule_is_refused_for_what_can_be_known_so_early(known: View, target: str, code: str | None) -> None:
    why = orders.schedule_rejection(known, target)
    assert (why.code if why else None) == code


# ---- what runs out --------------------------------------------------------------------------------------------------


def test_the_holder_takes_away_what_has_run_out_and_nothing_earlier() -> None:
    ends = {
        "paused": "anna: a rack",
        "paused_until_ms": WALL,
        "maintenance": (DISK, replace(DISK, node=MAIL2, until_ms=0)),
    }
    swap = due(holder(**ends))
    assert swap is not None
    assert swap.purpose is Purpose.RUN_OUT
    assert (swap.record.paused, swap.record.paused_until_ms, swap.record.maintenance) == ("", 0, ends["maintenance"])
    assert due(holder(**(ends | {"paused_until_ms": WALL + 1}))) is None
    assert due(replace(holder(**ends), epoch_ms=None)) is None


def test_a_pause_holds_for_every_node_until_the_record_says_so() -> None:
    run_out = {"paused": "anna: a rack", "paused_until_ms": WALL - 60_000}
    assert view("mail2", epoch_ms=EPOCH, record=record(**run_out)).paused()
    assert lost("mail2", epoch_ms=EPOCH, record=record(**run_out)).paused()


@pytest.mark.parametrize(("me", "looks"), [("mail2", True), ("mail3", True), ("arbiter", False)])
def test_without_a_lease_any_data_node_sees_to_it(me: str, looks: bool) -> None:
    known = lost(me, epoch_ms=EPOCH, record=record(paused="anna: a rack", paused_until_ms=WALL))
    found = swaps(step(state(known), Ticked(), NOW))
    assert [swap.purpose for swap in found] == [Purpose.RUN_OUT] * looks
    living = view(me, epoch_ms=EPOCH, record=record(paused="anna: a rack", paused_until_ms=WALL))
    assert not swaps(step(state(living), Ticked(), NOW))


def test_a_clock_that_is_set_is_heard_at_once() -> None:
    before = step(state(holder(paused="anna: a rack", paused_until_ms=WALL + 3_600_000), renewed_ms=NOW), Ticked(), NOW)
    assert not swaps(before)
    after = step(before.state, ClockSet(EPOCH + 3_600_000), NOW + 1)
    assert [swap.purpose for swap in swaps(after)] == [Purpose.RUN_OUT]


# ---- maintenance ----------------------------------------------------------------------------------------------------


def test_a_node_in_maintenance_is_no_candidate_and_proves_as_before() -> None:
    known = lost("mail2", record=record(maintenance=(DISK,)))
    election = candidates.failover(known)
    assert election.order == (MAIL2,)  # mail3's final position is half of the proof
    assert [(why.node, why.code) for why in election.rejected if why.node == MAIL3] == [(MAIL3, "BLK_MAINTENANCE")]
    planned_one = candidates.planned_rejection(view("mail1", record=record(maintenance=(DISK,))), "mail3")
    assert planned_one is not None
    assert planned_one.code == "BLK_MAINTENANCE"


def test_nobody_lets_go_where_all_others_are_in_maintenance() -> None:
    both = (DISK, replace(DISK, node=MAIL2))
    assert candidates.replicas_are_there(view("mail1"))
    assert candidates.replicas_are_there(view("mail1", record=record(maintenance=(DISK,))))
    assert not candidates.replicas_are_there(view("mail1", record=record(maintenance=both)))
    assert not candidates.could_elect(view("mail1", record=record(maintenance=both)))


def test_a_node_in_maintenance_is_not_made_anew_by_itself_and_follows_all_the_same() -> None:
    known = view("mail3", record=record(maintenance=(DISK,)))
    assert rejoin.left_alone(known)
    assert not rejoin.left_alone(view("mail2", record=record(maintenance=(DISK,))))
    assert rules.decide(known).id == "replica-follows"


# ---- whose it was ---------------------------------------------------------------------------------------------------


OTHERS = {"paused": "bert: a rack", "maintenance": (replace(DISK, by="bert"),), "scheduled": replace(NIGHT, by="bert")}
FAN = replace(DISK, by="carl", reason="a fan")
EACH: list[tuple[Order, dict[str, object], str]] = [
    (PauseAsked("carl: a rack", "carl"), {}, "paused"),
    (PauseAsked("", "carl"), OTHERS, "paused"),
    (MaintenanceAsked(MAIL3, "carl", FAN), {}, "maintenance"),
    (MaintenanceAsked(MAIL3, "carl", FAN), OTHERS, "maintenance"),
    (MaintenanceAsked(MAIL3, "carl", None), OTHERS, "maintenance"),
    (AcknowledgeAsked(TERM, "carl", "a cable"), {}, "acknowledged"),
    (ScheduleAsked("carl", replace(NIGHT, by="carl")), {}, "scheduled"),
    (ScheduleAsked("carl", None, "s1"), OTHERS, "scheduled"),
]


def whose(reaction: Reaction, kind: str) -> set[str]:
    return {dict(entry.detail).get("by", "") for entry in reaction.entries if entry.kind == kind}


@pytest.mark.parametrize(("order", "before", "kind"), EACH)
def test_the_record_of_every_node_says_who_gave_an_order(order: Order, before: dict[str, object], kind: str) -> None:
    """Asked on one node, told by the store to all, also to one that has seen the cluster last before bert's."""
    known = record(**before)
    ordered = replace(orders.applied(known, order), version=41)
    assert whose(step(state(view("mail2", record=known)), StoreSeen(ordered), NOW), kind) == {"carl"}
    asked = step(state(holder(**before)), order, NOW)
    assert whose(asked, "asked") == {"carl"}
    assert orders.applied(ordered, order) is ordered, "and once it stands nobody gives it once more"


def test_what_runs_out_is_nobodys() -> None:
    order = PauseAsked("carl: a rack", "carl", WALL)
    paused = orders.applied(record(), order)
    assert orders.by_whom(paused, orders.PAUSE) == "carl"
    over = orders.without_run_out(holder(), paused)
    assert (over.paused, over.ordered) == ("", ())
    told = step(state(view("mail2", epoch_ms=EPOCH, record=paused)), StoreSeen(replace(over, version=41)), NOW)
    assert whose(told, "paused") == {""}


def test_an_order_that_changes_nothing_is_not_given_to_whoever_came_second() -> None:
    once = orders.applied(record(), PauseAsked("", "carl"))
    assert once == record()
    first = orders.applied(record(), AcknowledgeAsked(TERM, "carl", ""))
    assert orders.applied(first, AcknowledgeAsked(TERM, "dora", "")) is first


# ---- acknowledgement ------------------------------------------------------------------------------------------------

FLAPPING = (NOW - 3000, NOW - 2000, NOW - 1000)


def test_acknowledged_changes_do_not_count_any_more_and_later_ones_do() -> None:
    before = state(view("mail2", takeovers_ms=FLAPPING))
    assert {why.code for why in candidates.change_blockers(before.view)} == {"BLK_FLAPPING", "BLK_HOLD_OFF"}
    told = record(version=41, acknowledged=TERM, acknowledged_by="anna: a cable")
    after = step(before, StoreSeen(told), NOW)
    assert candidates.change_blockers(after.state.view) == ()
    assert said(after, "acknowledged") == [
        f"changes of primary up to term {TERM} do not count any more, says anna: a cable"
    ]
    later = replace(told, version=42, term=TERM + 1, holder=MAIL3)
    assert step(after.state, StoreSeen(later), NOW + 10).state.view.takeovers_ms == (NOW + 10,)
    skipped = step(before, StoreSeen(later), NOW + 10)  # a watch may skip the record in between
    assert skipped.state.view.takeovers_ms == (NOW + 10,)


@pytest.mark.parametrize(
    ("takeovers_ms", "code"),
    [((), "BLK_NOTHING"), ((NOW - POLICY.window_ms - 1,), "BLK_NOTHING"), ((NOW - 1000,), None), (FLAPPING, None)],
)
def test_there_must_be_something_to_acknowledge(takeovers_ms: tuple[int, ...], code: str | None) -> None:
    why = orders.acknowledge_rejection(view("mail2", takeovers_ms=takeovers_ms))
    assert (why.code if why else None) == code


# ---- a switchover for later -----------------------------------------------------------------------------------------


def scheduled(late_ms: int, **changes: object) -> View:
    return holder(scheduled=replace(NIGHT, at_ms=WALL - late_ms), **changes)


def test_a_scheduled_switchover_begins_when_it_is_due_as_if_it_were_asked_for_then() -> None:
    assert due(scheduled(-1)) is None
    swap = due(scheduled(0))
    assert swap is not None
    assert swap.purpose is Purpose.SCHEDULE
    assert (swap.record.scheduled, swap.record.request) == (None, Request("s1", MAIL2, "anna", "a kernel", TERM))
    assert due(replace(scheduled(0), epoch_ms=None)) is None
    assert due(scheduled(orders.LATE_MS)) is not None


@pytest.mark.parametrize(
    ("known", "code"),
    [
        (scheduled(orders.LATE_MS + 1), "SCHEDULE_LATE"),
        (holder(scheduled=replace(NIGHT, term=TERM - 1)), "SCHEDULE_MOVED"),
        (scheduled(POLICY.request_ms, paused="anna: a rack"), "BLK_PAUSED"),
        (scheduled(POLICY.request_ms, maintenance=(replace(DISK, node=MAIL2),)), "BLK_MAINTENANCE"),
    ],
)
def test_one_that_cannot_be_begun_is_dropped_and_says_why(known: View, code: str) -> None:
    swap = due(known)
    assert swap is not None
    ended = swap.record.schedule_ended
    assert (swap.record.scheduled, swap.record.request) == (None, None)
    assert ended is not None
    assert (ended.id, ended.succeeded, ended.refused, ended.code) == ("s1", False, True, code)
    told = step(state(known, renewed_ms=NOW), StoreSeen(replace(swap.record, version=41)), NOW)
    assert said(told, "scheduled") == [f"dropped: {ended.reason}"]


def test_one_that_is_not_fit_at_that_moment_has_as_long_as_a_request_has() -> None:
    unfit = {"mail2": {"ready": False}}
    known = replace(
        scheduled(0), reports=tuple(report(n, "mail1", **unfit.get(n, {})) for n in ("mail2", "mail3", "arbiter"))
    )
    assert due(known) is None
    late = replace(known, record=record(scheduled=replace(NIGHT, at_ms=WALL - POLICY.request_ms)))
    swap = due(late)
    assert swap is not None
    assert swap.record.schedule_ended is not None
    assert swap.record.schedule_ended.code == "BLK_NOT_READY"


def test_it_waits_for_another_request_and_no_replica_begins_it() -> None:
    busy = scheduled(0, request=Request("r1", MAIL3, "ben", "", TERM))
    assert busy.record is not None
    assert orders.look_at_schedule(busy, busy.record) is busy.record
    known = view("mail2", epoch_ms=EPOCH, record=record(scheduled=replace(NIGHT, at_ms=WALL - 5)))
    assert not swaps(step(state(known), Ticked(), NOW))


def test_who_takes_over_drops_it_and_is_in_maintenance_no_more() -> None:
    known = lost("mail2", record=record(scheduled=NIGHT, maintenance=(DISK,), paused_until_ms=0))
    (swap,) = swaps(step(state(known), Ticked(), NOW))
    assert swap.purpose is Purpose.TAKE_OVER
    assert swap.record.schedule_ended is not None
    assert swap.record.schedule_ended.code == "SCHEDULE_MOVED"
    assert swap.record.maintenance == (DISK,)
