"""Details of one step that no story reaches: late answers, doubled messages, another's hand, and what is said of them.

Each test gives one event or two to `step` and looks at the values that come back.
"""

from __future__ import annotations

from dataclasses import replace

import pytest
from views import NODES, NOW, POLICY, RUN, TERM, at, lost, primary_facts, record, replica_facts, report, sighting, view

from failoverd.core.effects import (
    Beat,
    Cancel,
    KeepLease,
    Perform,
    Purpose,
    Push,
    Remember,
    RenewGate,
    Step,
    StepKind,
    Swap,
)
from failoverd.core.health import Sendings
from failoverd.core.lease import Held, Memory, Unanswered, Watch
from failoverd.core.machine import (
    Asked,
    Event,
    Observed,
    Reaction,
    Reported,
    State,
    StepEnded,
    StoreSeen,
    Swapped,
    Ticked,
    next_wake_ms,
    role_of,
    step,
)
from failoverd.core.model import (
    Health,
    NodeName,
    Observation,
    Outcome,
    Reading,
    Record,
    Request,
    RequestEnded,
    Role,
    VipFacts,
)
from failoverd.core.plan import Ended, Progress
from failoverd.core.view import GateState, Leaving, View

MAIL1, MAIL2, MAIL3 = (node.name for node in NODES[:3])
REQUEST = Request("r1", MAIL2, "anna", "maintenance", TERM)


def state(known: View, **changes: object) -> State:
    return replace(State(view=known, software="0.1.0"), **changes)  # type: ignore[arg-type] # by name


def after(before: State, event: Event, now_ms: int = NOW) -> State:
    return step(before, event, now_ms).state


def kinds(reaction: Reaction) -> list[StepKind]:
    return [effect.step.kind for effect in reaction.effects if isinstance(effect, Perform)]


def swaps(reaction: Reaction) -> list[Swap]:
    return [effect for effect in reaction.effects if isinstance(effect, Swap)]


def said(reaction: Reaction, kind: str) -> list[str]:
    return [entry.text for entry in reaction.entries if entry.kind == kind]


# ---- reports --------------------------------------------------------------------------------------------------------


def test_a_report_that_comes_late_or_twice_changes_nothing() -> None:
    before = state(view("mail2"))
    for number in (6, 7):
        assert after(before, Reported(report("mail1", "mail2", number=number, serving=False))).view.fresh[MAIL1].serving


def test_a_report_of_a_stranger_or_of_oneself_is_not_kept() -> None:
    before = state(view("mail2"))
    for sender in ("mail9", "mail2"):
        told = replace(report("mail1", "mail2"), sender=NodeName(sender), number=99)
        assert after(before, Reported(told)).view.reports == before.view.reports


def test_a_delayed_report_of_a_former_run_does_not_replace_a_fresh_one() -> None:
    before = state(view("mail2"))
    former = report("mail1", "mail2", process="mail1#0", number=900, serving=False)
    for unbounded in ((), (replace(former.heard[0], process="mail2#0"),)):
        assert after(before, Reported(replace(former, heard=unbounded))).view.fresh[MAIL1].process == "mail1#1"


def test_a_new_run_replaces_the_former_as_soon_as_it_has_heard_this_node() -> None:
    sendings = Sendings("mail2#1", ((1, NOW - 50), (2, NOW - 20)))
    told = report("mail1", "mail2", process="mail1#2", number=1)
    told = replace(told, heard=(replace(told.heard[0], number=2),))
    assert after(state(view("mail2", sendings=sendings)), Reported(told)).view.fresh[MAIL1].process == "mail1#2"


def test_a_newer_term_of_the_store_is_kept_on_disk_and_ends_this_nodes_own() -> None:
    taken = record(version=41, term=TERM + 1, holder=NodeName("mail2"))
    reaction = step(state(view("mail1")), StoreSeen(taken), NOW)
    assert reaction.state.view.held is None
    first_two = [effect for effect in reaction.effects if isinstance(effect, Remember | KeepLease)]
    kept = Memory(TERM + 1, holder=NodeName("mail2"), ttl_ms=taken.ttl_ms, caught_up=RUN)
    assert first_two == [Remember(kept), KeepLease(None)]
    assert said(reaction, "superseded")
    assert StepKind.CLOSE_GATE in kinds(reaction)


def test_what_was_seen_of_others_is_forgotten_with_their_term() -> None:
    seen = view("mail2").sightings
    before = state(view("mail2", sightings=(*seen, sighting("imap", "mail1", failures=4))))
    assert after(before, StoreSeen(record(version=41, term=TERM + 1))).view.sightings == seen


# ---- the store's record ---------------------------------------------------------------------------------------------


def test_an_old_copy_of_the_store_is_refused_and_said_once() -> None:
    old = record(term=TERM - 1, version=90, holder=MAIL3)
    first = step(state(view("mail2")), StoreSeen(old), NOW)
    assert first.state.view.record == record()
    assert said(first, "store-refused")
    assert first.state.view.store_heard_ms == NOW - 100  # what is refused is no sign of a store that works
    assert not said(step(first.state, StoreSeen(old), NOW + 100), "store-refused")


def test_an_answer_of_the_store_that_comes_late_is_not_believed() -> None:
    before = state(view("mail2"))
    assert after(before, StoreSeen(record(version=39, counter=29))).view.record == record()


def test_only_a_renewal_begins_the_wait_anew() -> None:
    before = state(view("mail2"))
    changed = after(before, StoreSeen(record(version=41, request=REQUEST)))
    assert changed.view.watch == Watch(TERM, 30, NOW - 200)
    assert after(before, StoreSeen(record(version=41, counter=31))).view.watch == Watch(TERM, 31, NOW)


def test_a_term_that_somebody_asked_for_ends_the_count_of_changes() -> None:
    before = state(view("mail3", takeovers_ms=(NOW - 9000, NOW - 5000)))
    taken = record(version=41, term=TERM + 1, holder=MAIL2, counter=0)
    assert after(before, StoreSeen(taken)).view.takeovers_ms == (NOW - 9000, NOW - 5000, NOW)
    assert after(before, StoreSeen(replace(taken, request=REQUEST))).view.takeovers_ms == ()


def test_a_holder_that_the_store_replaces_is_no_holder() -> None:
    reaction = step(state(view("mail1")), StoreSeen(record(version=41, term=TERM + 1, holder=MAIL2, counter=0)), NOW)
    assert reaction.state.view.held is None
    assert StepKind.CLOSE_GATE in kinds(reaction)


# ---- takeovers and renewals -----------------------------------------------------------------------------------------

TAKEN = record(version=41, term=TERM + 1, holder=MAIL2, counter=0, previous=MAIL1)
SENT = NOW - 400
TAKEOVER = Swap(Purpose.TAKE_OVER, 40, TAKEN, SENT)


def taking_over(sent_ms: int = SENT) -> State:
    return state(lost(takeover_sent=Unanswered(40, TERM + 1, sent_ms)), swap=TAKEOVER)


def test_a_takeover_seen_by_the_watch_is_a_lease_from_before_it_was_sent() -> None:
    held = after(taking_over(), StoreSeen(TAKEN)).view.held
    assert held == Held(TERM + 1, 41, SENT + POLICY.ttl_ms - POLICY.margin_ms)


def test_an_ended_term_of_this_nodes_own_is_not_revived_by_reading_it_again() -> None:
    for same in (record(holder=MAIL2), record(holder=MAIL2, version=41, paused="anna: storage")):
        known = lost(takeover_sent=Unanswered(40, TERM + 1, NOW), record=record(holder=MAIL2))
        assert after(state(known, swap=TAKEOVER), StoreSeen(same)).view.held is None


def test_a_takeover_sent_again_counts_from_the_first_sending() -> None:
    won = Swapped(replace(TAKEOVER, sent_ms=NOW - 10), Outcome.SUCCEEDED, TAKEN)
    held = after(state(lost(takeover_sent=Unanswered(40, TERM + 1, SENT)), swap=won.swap), won).view.held
    assert held is not None
    assert held.deadline_ms == SENT + POLICY.ttl_ms - POLICY.margin_ms


def test_a_takeover_answered_after_its_lease_is_none() -> None:
    late = after(taking_over(NOW - 5000), Swapped(replace(TAKEOVER, sent_ms=NOW - 5000), Outcome.SUCCEEDED, TAKEN))
    assert late.view.held is None
    assert late.view.gate is GateState.CLOSED


def test_a_takeover_without_an_answer_may_still_come_to_pass() -> None:
    silent = after(taking_over(), Swapped(TAKEOVER, Outcome.UNKNOWN, None))
    assert silent.view.takeover_sent == Unanswered(40, TERM + 1, SENT)
    assert after(silent, StoreSeen(record())).view.takeover_sent == Unanswered(
        40, TERM + 1, SENT
    )  # that version stands
    elsewhere = record(version=41, term=TERM + 1, holder=MAIL3, counter=0)
    assert after(silent, StoreSeen(elsewhere)).view.takeover_sent is None


def test_a_takeover_without_an_answer_is_sent_again_a_little_later_and_keeps_its_first_sending() -> None:
    silent = step(taking_over(), Swapped(TAKEOVER, Outcome.UNKNOWN, None), NOW)
    assert not swaps(silent)
    again = step(silent.state, Ticked(), NOW + POLICY.renew_ms // 2)
    assert [swap.purpose for swap in swaps(again)] == [Purpose.TAKE_OVER]
    assert again.state.view.takeover_sent == Unanswered(40, TERM + 1, SENT)


def renewal(sent_ms: int) -> Swap:
    return Swap(Purpose.RENEW, 40, record(counter=31), sent_ms)


def test_a_renewal_lengthens_the_lease_the_kept_one_and_the_gate() -> None:
    won = Swapped(renewal(NOW - 30), Outcome.SUCCEEDED, record(version=41, counter=31))
    reaction = step(state(view("mail1"), swap=won.swap, renewed_ms=NOW - 30), won, NOW)
    deadline_ms = NOW - 30 + POLICY.ttl_ms - POLICY.margin_ms
    assert KeepLease(Held(TERM, 41, deadline_ms)) in reaction.effects
    assert RenewGate(TERM, deadline_ms) in reaction.effects


def test_a_holder_stuck_in_leaving_stops_renewing_after_one_lease() -> None:
    leaving = Leaving(TERM, MAIL2, "own-service-step-down", renew=True, began_ms=NOW, undo=False)
    held = Held(TERM, record().version, NOW + 10 * POLICY.ttl_ms)
    stuck = State(view("mail1", leaving=leaving, held=held, gate=GateState.CLOSED), "0")
    renewals = {}
    for after_ms in (POLICY.ttl_ms - 1, POLICY.ttl_ms):
        effects = step(stuck, Ticked(), NOW + after_ms).effects
        renewals[after_ms] = [e for e in effects if isinstance(e, Swap) and e.purpose is Purpose.RENEW]
    assert len(renewals[POLICY.ttl_ms - 1]) == 1
    assert not renewals[POLICY.ttl_ms]


@pytest.mark.parametrize(
    "known",
    [
        view("mail1", gate=GateState.CLOSED),
        view("mail1", gate=GateState.UNKNOWN),
        view("mail1", leaving=Leaving(TERM, MAIL2, "switchover-asked", renew=True, began_ms=NOW, undo=True)),
    ],
    ids=["not opened yet", "not known", "being given back"],
)
def test_a_renewal_opens_no_gate(known: View) -> None:
    won = Swapped(renewal(NOW - 30), Outcome.SUCCEEDED, record(version=41, counter=31))
    reaction = step(state(known, swap=won.swap, renewed_ms=NOW - 30), won, NOW)
    assert reaction.state.view.held is not None
    assert not any(isinstance(effect, RenewGate) for effect in reaction.effects)


def test_a_lease_that_has_ended_is_not_revived_by_a_late_answer() -> None:
    ended = view("mail1", held=Held(TERM, 40, NOW - 1))
    won = Swapped(renewal(NOW - 100), Outcome.SUCCEEDED, record(version=41, counter=31))
    reaction = step(state(ended, swap=won.swap), won, NOW)
    assert reaction.state.view.held is None
    assert said(reaction, "lease-ended")
    assert StepKind.CLOSE_GATE in kinds(reaction)


def test_a_renewal_that_met_another_change_is_sent_again_at_once() -> None:
    lost_race = Swapped(renewal(NOW - 30), Outcome.FAILED, record(version=41, request=None, ttl_ms=3000))
    reaction = step(state(view("mail1"), swap=lost_race.swap, renewed_ms=NOW - 30), lost_race, NOW)
    assert [(swap.purpose, swap.expected_version) for swap in swaps(reaction)] == [(Purpose.RENEW, 41)]


def test_a_renewal_without_an_answer_keeps_its_pace() -> None:
    silent = Swapped(renewal(NOW - 300), Outcome.UNKNOWN, None)
    reaction = step(state(view("mail1"), swap=silent.swap, renewed_ms=NOW - 300), silent, NOW)
    assert not swaps(reaction)
    assert [swap.purpose for swap in swaps(step(reaction.state, Ticked(), NOW + 200))] == [Purpose.RENEW]


def test_the_store_is_asked_one_thing_at_a_time() -> None:
    waiting = state(view("mail1"), swap=renewal(NOW - 3000), renewed_ms=NOW - 3000)
    assert not swaps(step(waiting, Ticked(), NOW))


# ---- steps ----------------------------------------------------------------------------------------------------------


def a_step(kind: StepKind, term: int = TERM, number: int = 1) -> Step:
    return Step(kind=kind, term=term, number=number, deadline_ms=1000)


@pytest.mark.parametrize(
    "known",
    [
        view("mail1", held=None, gate=GateState.CLOSED),
        view(
            "mail1",
            leaving=Leaving(TERM, MAIL2, "switchover-asked", renew=True, began_ms=NOW, undo=True),
            gate=GateState.CLOSED,
        ),
        view("mail1", highest_term=TERM + 1, gate=GateState.CLOSED),
    ],
    ids=["lease over", "giving back", "newer term"],
)
def test_a_gate_that_opens_too_late_is_closed_again(known: View) -> None:
    reaction = step(state(known), StepEnded(a_step(StepKind.OPEN_GATE), Outcome.SUCCEEDED), NOW)
    assert reaction.state.view.gate is GateState.UNKNOWN
    assert kinds(reaction) == [StepKind.CLOSE_GATE]


@pytest.mark.parametrize("outcome", [Outcome.FAILED, Outcome.UNKNOWN])
def test_a_gate_of_which_nothing_is_known_is_closed_again(outcome: Outcome) -> None:
    closing = a_step(StepKind.CLOSE_GATE)
    before = state(
        view("mail2", gate=GateState.OPEN), progress=Progress(("demote", TERM), running=(closing,), number=1)
    )
    ended = step(before, StepEnded(closing, outcome), NOW)
    assert ended.state.view.gate is GateState.UNKNOWN
    assert kinds(step(ended.state, Ticked(), NOW + 100)) == []
    assert kinds(step(ended.state, Ticked(), NOW + 200)) == [StepKind.CLOSE_GATE]


def test_a_reading_from_before_a_step_ended_is_older_than_what_the_step_returned() -> None:
    frozen = replica_facts(receiver=view("mail2").database.replication.receiver)  # type: ignore[union-attr] # a replica
    ended = after(state(view("mail2")), StepEnded(a_step(StepKind.FREEZE), Outcome.SUCCEEDED, facts=frozen))

    def reading(ended_ms: int, took_ms: int) -> Observed:
        found = Reading(Health.OK, facts=replica_facts(400))
        return Observed(Observation("database", MAIL2, found, ended_ms, took_ms))

    assert after(ended, reading(NOW + 10, 20), NOW + 10).view.database == frozen
    assert after(ended, reading(NOW + 30, 20), NOW + 30).view.database == replica_facts(400)


def test_a_server_that_does_not_answer_once_is_remembered_three_times_is_not() -> None:
    now_ms, known = NOW, state(view("mail2"))
    for failures in (1, 2, 3):
        silent = Observation("database", MAIL2, Reading(Health.FAILED, "TIMEOUT", "no answer"), now_ms, 1000)
        known, now_ms = after(known, Observed(silent), now_ms), now_ms + 500
        assert (known.view.database is None) == (failures == 3)


def test_a_plan_that_is_over_ends_what_it_waited_for() -> None:
    waiting = a_step(StepKind.AWAIT_REPLICA)
    before = state(
        view("mail1", held=None, gate=GateState.OPEN), progress=Progress(("serve", TERM), running=(waiting,), number=1)
    )
    assert Cancel(waiting) in step(before, Ticked(), NOW).effects


def test_a_lane_that_hangs_holds_up_no_other() -> None:
    hanging = a_step(StepKind.FOLLOW)
    before = state(
        view("mail1", held=None, gate=GateState.OPEN), progress=Progress(("demote", TERM), running=(hanging,), number=1)
    )
    closing = step(before, Ticked(), NOW)
    assert kinds(closing) == [StepKind.CLOSE_GATE]
    closed = step(closing.state, StepEnded(a_step(StepKind.CLOSE_GATE, number=2), Outcome.SUCCEEDED), NOW + 5)
    assert kinds(closed) == []  # SQL waits for SQL


def test_another_hand_on_the_address_is_put_right() -> None:
    opened = Progress(("serve", TERM), (Ended(StepKind.OPEN_GATE, Outcome.SUCCEEDED, NOW - 900, 0),))
    done = [
        Ended(kind, Outcome.SUCCEEDED, NOW - 900, 0)
        for kind in StepKind
        if kind not in (StepKind.OPEN_GATE, StepKind.RESTART_UNIT)
    ]
    before = state(view("mail1"), progress=replace(opened, ended=(*opened.ended, *done)), renewed_ms=NOW)
    gone = Observation("vip", MAIL1, Reading(Health.OK, facts=VipFacts(present=False)), NOW, 50)
    reaction = step(before, Observed(gone), NOW)
    assert said(reaction, "undone")
    assert kinds(reaction) == [StepKind.OPEN_GATE]
    too_old = replace(gone, took_ms=1000)  # begun before the gate was opened
    assert kinds(step(before, Observed(too_old), NOW)) == []
    # Nor does it wait because all was quiet, with the address where it belongs.
    there = Observed(replace(gone, reading=Reading(Health.OK, facts=VipFacts(present=True))))
    quiet = step(after(before, there), Ticked(), NOW).state
    assert quiet.quiet_until_ms > NOW + 60
    reaction = step(quiet, Observed(replace(gone, ended_ms=NOW + 60)), NOW + 60)
    assert kinds(reaction) == [StepKind.OPEN_GATE]


# ---- requests -------------------------------------------------------------------------------------------------------


def test_a_request_is_put_into_the_store_by_whoever_was_asked() -> None:
    reaction = step(state(view("arbiter")), Asked(REQUEST), NOW)
    assert [(s.purpose, s.record.request) for s in swaps(reaction)] == [(Purpose.REQUEST, REQUEST)]
    asked = after(reaction.state, StoreSeen(record(version=41, request=REQUEST)))
    assert asked.asked is None


def test_a_request_before_the_first_primary_names_it() -> None:
    empty = view("arbiter", highest_term=0, record=Record(), watch=Watch(0, 0, NOW))
    (swap,) = swaps(step(state(empty), Asked(REQUEST), NOW))
    assert (swap.expected_version, swap.record.revoked, swap.record.successor) == (0, True, MAIL2)


@pytest.mark.parametrize(
    "standing",
    [
        record(version=43, request_ended=RequestEnded("r1", succeeded=False, refused=True)),  # it came and went
        record(version=43, term=TERM + 1, holder=MAIL3, counter=0),  # the role has moved since
    ],
    ids=["ended unseen", "another term"],
)
def test_a_request_is_not_asked_twice(standing: Record) -> None:
    silent = after(state(view("arbiter")), Asked(REQUEST))
    assert silent.swap is not None
    waiting = after(silent, Swapped(silent.swap, Outcome.UNKNOWN, None))
    seen = step(waiting, StoreSeen(standing), NOW + 1000)
    assert seen.state.asked is None
    assert not swaps(seen)


def test_a_request_that_the_store_does_not_take_is_dropped() -> None:
    before = state(view("arbiter", record=None, watch=None), asked=REQUEST, asked_ms=NOW - POLICY.request_ms - 1)
    reaction = step(before, Ticked(), NOW)
    assert reaction.state.asked is None
    assert said(reaction, "request-dropped")


@pytest.mark.parametrize(
    ("known", "expected"),
    [
        (
            view("mail1", record=record(request=replace(REQUEST, target=MAIL1))),
            RequestEnded("r1", succeeded=True, reason="mail1 is primary as asked"),
        ),
        (
            view(
                "mail1", record=record(request=REQUEST), request_failed=RequestEnded("r1", succeeded=False, code="SQL")
            ),
            RequestEnded("r1", succeeded=False, code="SQL"),
        ),
        (
            view("mail1", {"mail2": None}, record=record(request=REQUEST)),
            RequestEnded(
                "r1",
                succeeded=False,
                refused=True,
                code="BLK_UNREACHABLE",
                reason="no report from mail2 within 2000 ms",
            ),
        ),
        (
            view("mail1", record=record(request=REQUEST), request_seen=("r1", NOW - 30_001)),
            RequestEnded(
                "r1", succeeded=False, refused=True, code="BLK_REQUEST", reason="it could not be begun within 30000 ms"
            ),
        ),
        (
            view("mail1", {"mail2": None}, record=record(request=replace(REQUEST, term=TERM - 1))),
            RequestEnded(
                "r1",
                succeeded=False,
                code="SWITCHOVER_FAILED",
                reason="mail2 did not take the term that it was given, mail1 is primary: "
                "no report from mail2 within 2000 ms",
            ),
        ),
    ],
    ids=["done", "taken back", "refused", "too old", "failed"],
)
def test_how_a_request_ended_is_told_to_whoever_asked(known: View, expected: RequestEnded) -> None:
    (swap,) = swaps(step(state(known, renewed_ms=NOW), Ticked(), NOW))
    assert (swap.purpose, swap.record.request, swap.record.request_ended) == (Purpose.DROP_REQUEST, None, expected)


# ---- time, heartbeats, reports, words -------------------------------------------------------------------------------


def test_time_does_not_go_back() -> None:
    assert after(state(view("mail2")), Ticked(), NOW - 5000).view.now_ms == NOW


def test_a_gap_longer_than_a_lease_is_said_and_the_role_dropped() -> None:
    reaction = step(state(view("mail1")), Ticked(), NOW + POLICY.ttl_ms + 1)
    assert said(reaction, "gap")
    assert kinds(reaction) == [StepKind.CLOSE_GATE]


def test_the_next_wake_is_the_next_tick_or_a_deadline_before_it() -> None:
    assert next_wake_ms(state(view("mail2"))) == NOW + 100
    assert next_wake_ms(state(view("mail2", watch=Watch(TERM, 30, NOW - 2960)))) == NOW + 40
    assert next_wake_ms(state(view("mail1", held=Held(TERM, 40, NOW + 1030)))) == NOW + 30
    assert next_wake_ms(state(view("mail1"), renewed_ms=NOW - 480)) == NOW + 20
    assert next_wake_ms(state(view("mail1", held=Held(TERM, 40, NOW)))) > NOW  # what is past wakes nobody


def test_heartbeats_go_on_from_what_stands_in_the_database() -> None:
    before = state(view("mail1", database=primary_facts(heartbeat_beat=777)), renewed_ms=NOW)
    assert Beat(TERM, 778) in step(before, Ticked(), NOW).effects
    assert not any(isinstance(e, Beat) for e in step(replace(before, beat_ms=NOW - 100), Ticked(), NOW).effects)


def test_the_first_heartbeat_of_a_term_comes_before_the_gate_opens() -> None:
    promoting = state(view("mail1", gate=GateState.CLOSED, served_term=TERM - 1), renewed_ms=NOW)
    writable = step(promoting, StepEnded(a_step(StepKind.MAKE_WRITABLE), Outcome.SUCCEEDED), NOW)
    assert any(isinstance(effect, Beat) for effect in writable.effects)
    assert StepKind.OPEN_GATE not in kinds(writable)


def test_a_report_is_pushed_at_its_interval_and_at_once_when_something_changed() -> None:
    pushed = after(state(view("mail2")), Ticked())
    assert pushed.pushed_ms == NOW

    def pushes(event: Event, now_ms: int) -> int:
        return sum(isinstance(effect, Push) for effect in step(pushed, event, now_ms).effects)

    assert pushes(Ticked(), NOW + 100) == 0
    assert pushes(Ticked(), NOW + POLICY.report_ms) == 1
    silent = Observation("imap", MAIL1, Reading(Health.FAILED, "TIMEOUT", "no answer"), NOW + 50, 1000)
    assert pushes(Observed(silent), NOW + 100) == 1


def test_why_nobody_takes_over_is_said_once_for_each_set_of_reasons() -> None:
    alone = lost("mail2", {"mail3": None}, watch=Watch(TERM, 30, NOW - POLICY.ttl_ms - 1001))
    first = step(state(alone), Ticked(), NOW)
    assert [entry.code for entry in first.entries if entry.kind == "blocked"] == ["BLK_RPO_UNPROVEN"]
    assert not said(step(first.state, Ticked(), NOW + 100), "blocked")


@pytest.mark.parametrize(
    ("known", "role"),
    [
        (view("mail1"), Role.PRIMARY),
        (view("mail1", gate=GateState.CLOSED), Role.FENCED),
        (view("mail2"), Role.REPLICA),
        (view("mail2", database=None), Role.FENCED),
        (view("arbiter"), Role.ARBITER),
    ],
)
def test_what_a_node_is_for_clients(known: View, role: Role) -> None:
    assert role_of(state(known)) is role


def test_a_position_given_back_is_all_that_the_database_has() -> None:
    known = view(
        "mail1",
        gate=GateState.CLOSED,
        database=primary_facts(600, read_only=True),
        leaving=Leaving(TERM, MAIL2, "switchover-asked", renew=True, began_ms=NOW, undo=True),
    )
    (swap,) = swaps(step(state(known), Ticked(), NOW))
    assert (swap.purpose, swap.record.revoked, swap.record.successor, swap.record.position) == (
        Purpose.GIVE_BACK,
        True,
        MAIL2,
        at(600),
    )


# ---- commits --------------------------------------------------------------------------------------------------------


def test_a_commit_counts_as_acknowledged_when_a_new_heartbeat_of_this_term_is_read() -> None:
    known = view("mail1", beat_seen_ms=NOW - 3000)
    for beat, term, seen_ms in ((100, TERM, NOW - 3000), (101, TERM, NOW), (101, TERM - 1, NOW - 3000)):
        facts = primary_facts(heartbeat_beat=beat, heartbeat_term=term)
        seen = Observation("database", MAIL1, Reading(Health.OK, facts=facts), NOW, 5)
        assert after(state(known), Observed(seen)).view.beat_seen_ms == seen_ms


def test_a_server_that_is_not_there_is_not_killed() -> None:
    known = view("mail2", database=replica_facts(read_only=False))
    asked = step(state(known), Ticked(), NOW)
    (made,) = [effect.step for effect in asked.effects if isinstance(effect, Perform)]
    assert made.kind is StepKind.MAKE_READ_ONLY
    refused = step(asked.state, StepEnded(made, Outcome.FAILED, "DB_REFUSED", "connection refused"), NOW + 5)
    assert refused.state.view.database is None
    assert StepKind.KILL_DATABASE not in kinds(refused)
    hangs = step(asked.state, StepEnded(made, Outcome.UNKNOWN, "DB_READ_ONLY_BLOCKED", "a commit waits"), NOW + 5)
    assert StepKind.KILL_DATABASE in kinds(hangs)


def test_a_step_that_outlives_its_term_is_not_done_in_the_next() -> None:
    """Its receiver was stopped for a term that is over: for an election of this one it is stopped again."""
    known = lost(frozen_term=None)
    frozen = known.database
    assert frozen is not None
    before = step(state(replace(known, database=replica_facts())), Ticked(), NOW)
    assert kinds(before) == [StepKind.FREEZE]
    former = replace(before.state.progress.running[0], term=TERM - 1)
    running = replace(before.state, progress=replace(before.state.progress, running=(former,)))
    ended = step(running, StepEnded(former, Outcome.SUCCEEDED, facts=frozen), NOW + 10)
    assert kinds(ended) == [StepKind.FREEZE]
    again = next(effect.step for effect in ended.effects if isinstance(effect, Perform))
    assert again.term == TERM
    assert step(ended.state, StepEnded(again, Outcome.SUCCEEDED, facts=frozen), NOW + 20).state.view.i_am_frozen()


@pytest.mark.parametrize(
    ("before", "now", "said"),
    [
        ({"unacknowledged": 3}, {"unacknowledged": 3}, None),
        ({"unacknowledged": 3}, {"unacknowledged": 5}, "let commits go 2 times"),
        ({"unacknowledged": 3}, {"unacknowledged": 0}, "counters were put back"),
        ({"unacknowledged": 3}, {"unacknowledged": 0, "read_only": True}, None),  # it was started anew
        ({"read_only": True}, {"unacknowledged": 1}, None),  # a former term's, before it became writable
    ],
)
def test_a_primary_says_what_it_let_go_without_a_replica(
    before: dict[str, object], now: dict[str, object], said: str | None
) -> None:
    serving = state(view("mail1", database=primary_facts(**before), gate=GateState.OPEN, served_term=TERM))  # type: ignore[arg-type] # by name
    seen = Observation("database", MAIL1, Reading(Health.OK, facts=primary_facts(**now)), NOW, 1)  # type: ignore[arg-type] # by name
    told = [entry for entry in step(serving, Observed(seen), NOW).entries if entry.code == "RPO_UNPROVEN"]
    assert len(told) == (said is not None)
    assert said is None or said in told[0].text
