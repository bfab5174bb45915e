"""What holds after every step, whatever comes: doubled, late, invented and contradictory events in any order.

The world here is worse than any real one: the store forgets and invents, peers lie about terms, steps end as they
like. So nothing is said about two nodes; only what one node must never do, or leave undone, by itself.
"""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st
from views import MEMBERSHIP, NODES, NOW, POLICY, TERM, at, primary_facts, record, replica_facts, report, view

from failoverd.core.effects import Beat, Effect, KeepLease, Perform, Purpose, Remember, RenewGate, StepKind, Swap
from failoverd.core.health import Sendings
from failoverd.core.machine import (
    Asked,
    Event,
    Observed,
    Reaction,
    RejoinAsked,
    Reported,
    State,
    StepEnded,
    StoreSeen,
    Swapped,
    Ticked,
    next_wake_ms,
    step,
)
from failoverd.core.model import (
    Health,
    NodeName,
    Observation,
    Outcome,
    Reading,
    RebuildFacts,
    Record,
    Rejoin,
    Replication,
    Report,
    Request,
    Thread,
    UnitFacts,
    VipFacts,
)
from failoverd.core.plan import RETRY_MOST_MS
from failoverd.core.view import GateState, View

NAMES = [node.name for node in NODES]
DATA = NAMES[:3]
ONLY_WITH_LEASE = {StepKind.OPEN_GATE, StepKind.BECOME_SOURCE, StepKind.MAKE_WRITABLE, StepKind.WRITE_JOURNAL}

names = st.sampled_from(DATA)
positions = st.sampled_from([at(100), at(500), at(501)])
threads = st.sampled_from(Thread)
requests = st.builds(
    Request, id=st.sampled_from(["r1", "r2"]), target=names, by=st.just("anna"), reason=st.just(""), term=st.just(TERM)
)
replications = st.builds(
    Replication,
    source=st.sampled_from([node.address for node in NODES[:3]]),
    receiver=threads,
    applier=threads,
    received=positions,
)
facts = st.builds(
    lambda base, read_only, applied, replication: replace(
        base, read_only=read_only, applied=applied, replication=replication
    ),
    st.sampled_from([primary_facts(), replica_facts()]),
    st.booleans(),
    positions,
    st.one_of(st.none(), replications),
)
records = st.builds(
    lambda changes: record(**changes),
    st.fixed_dictionaries(
        {},
        optional={
            "version": st.integers(38, 46),
            "term": st.integers(TERM - 1, TERM + 3),
            "holder": st.one_of(st.none(), names),
            "counter": st.integers(28, 33),
            "revoked": st.booleans(),
            "successor": st.one_of(st.none(), names),
            "position": st.one_of(st.none(), positions),
            "request": st.one_of(st.none(), requests),
        },
    ),
)
rejoins = st.builds(
    Rejoin, id=st.sampled_from(["j1", "j2"]), node=names, donor=names, by=st.just("anna"), term=st.just(TERM)
)
rebuilds = st.builds(
    RebuildFacts,
    request=st.sampled_from(["", "j1", "j2"]),
    stage=st.sampled_from(["receive", "moving-in", "home", "failed"]),
    running=st.booleans(),
    touched=st.booleans(),
)
readings: st.SearchStrategy[tuple[str, Reading]] = st.one_of(
    st.tuples(
        st.sampled_from(["imap", "smtp", "database", "vip", "host", "unit:dovecot.service"]),
        st.sampled_from([Reading(Health.FAILED, "TIMEOUT", "no answer"), Reading(Health.UNKNOWN), Reading(Health.OK)]),
    ),
    st.tuples(st.just("database"), st.builds(lambda found: Reading(Health.OK, facts=found), facts)),
    st.tuples(st.just("vip"), st.builds(lambda here: Reading(Health.OK, facts=VipFacts(here)), st.booleans())),
    st.tuples(st.just("rebuild"), st.builds(lambda found: Reading(Health.OK, facts=found), rebuilds)),
    st.just(("host", Reading(Health.FAILED, "DISK_FULL", "disk"))),
    st.just(("unit:dovecot.service", Reading(Health.OK, facts=UnitFacts("dovecot.service", "active", "running")))),
)


@st.composite
def reports(draw: st.DrawFn, known: View) -> Reported:
    sender = draw(st.sampled_from([name for name in NAMES if name != known.me.name]))
    heard = draw(st.integers(max(0, known.sendings.last - 3), known.sendings.last))
    told = report(sender, known.me.name, process=f"{sender}#{draw(st.integers(1, 2))}")
    return Reported(
        replace(
            told,
            number=draw(st.integers(5, 40)),
            heard=(replace(told.heard[0], number=heard),),
            membership=draw(st.sampled_from([MEMBERSHIP, MEMBERSHIP, "another"])),
            term=draw(st.integers(TERM - 1, TERM + 2)),
            version=draw(st.integers(39, 42)),
            lease_over=draw(st.booleans()),
            serving=draw(st.booleans()),
            ready=draw(st.booleans()),
            steady=draw(st.booleans()),
            frozen_term=draw(st.sampled_from([None, TERM, TERM + 1])),
            caught_up=draw(st.booleans()),
            beat=draw(st.integers(0, 200)),
            database=draw(st.one_of(st.none(), facts)),
            request=draw(st.sampled_from(["", "r1", "r2"])),
            store_answers=draw(st.booleans()),
            rebuilding=draw(st.booleans()),
            rejoin=draw(st.one_of(st.none(), rejoins)),
        )
    )


@st.composite
def answers(draw: st.DrawFn, swap: Swap) -> Swapped:
    outcome = draw(st.sampled_from(Outcome))
    won = replace(swap.record, version=swap.expected_version + 1)
    stands = {Outcome.SUCCEEDED: st.just(won), Outcome.FAILED: records, Outcome.UNKNOWN: st.none()}
    return Swapped(swap, outcome, draw(stands[outcome]))


@st.composite
def endings(draw: st.DrawFn, state: State) -> StepEnded:
    ending = draw(st.sampled_from(state.progress.running))
    return StepEnded(ending, draw(st.sampled_from(Outcome)), "CODE", "why", draw(st.one_of(st.none(), facts)))


@st.composite
def observations(draw: st.DrawFn, me: NodeName, now_ms: int) -> Observed:
    probe, reading = draw(readings)
    return Observed(
        Observation(probe, draw(st.sampled_from([me, *NAMES])), reading, now_ms, draw(st.sampled_from([5, 1000])))
    )


@st.composite
def again(draw: st.DrawFn, told: Report) -> Reported:
    """The next report of the same run of a node, which says the same but for what most questions do not ask."""
    changed = {
        "version": st.integers(39, 42),
        "hears": st.sampled_from([(), (NAMES[0], NAMES[1]), NAMES[1:3]]),
        "doing": st.sampled_from(["", "freeze"]),
        "claims": st.permutations(told.claims).map(tuple),
        "ready": st.booleans(),
    }
    field = draw(st.sampled_from(list(changed)))
    return Reported(replace(told, number=told.number + draw(st.integers(0, 2)), **{field: draw(changed[field])}))


def events(state: State, now_ms: int) -> st.SearchStrategy[Event]:
    """Anything that could come, the answers to what is under way among them."""
    answered = [answers(state.swap)] * 3 if state.swap is not None else []
    ended = [endings(state)] * 3 if state.progress.running else []
    return st.one_of(
        st.just(Ticked()),
        observations(state.view.me.name, now_ms),
        reports(state.view),
        st.builds(StoreSeen, st.one_of(records, st.just(state.view.record or Record()))),
        st.builds(Asked, requests),
        st.builds(RejoinAsked, rejoins),
        *answered,
        *ended,
    )


# ---- what must hold -------------------------------------------------------------------------------------------------


def terms_only_grow(before: State, after: State, effects: tuple[Effect, ...]) -> None:
    term = after.view.highest_term
    assert term >= before.view.highest_term
    if term > before.view.highest_term:
        acting = [effect for effect in effects if not isinstance(effect, KeepLease)]
        assert isinstance(acting[0], Remember)  # on disk before anything else
        assert [effect.memory.term for effect in effects if isinstance(effect, Remember)][-1] == term
    for effect in effects:
        if isinstance(effect, Perform):
            assert effect.step.term == term
        elif isinstance(effect, Swap) and effect.purpose in (Purpose.TAKE_OVER, Purpose.ADOPT):
            assert effect.record.term > term


def the_role_needs_the_lease(after: State, effects: tuple[Effect, ...]) -> None:
    view = after.view
    held = view.held
    if held is not None:
        assert view.now_ms < held.deadline_ms <= view.now_ms + POLICY.ttl_ms - POLICY.margin_ms
    assert view.gate is not GateState.OPEN or held is not None
    for place, effect in enumerate(effects):
        match effect:
            case Perform(begun) if begun.kind in ONLY_WITH_LEASE:
                assert view.i_hold()
            case RenewGate(term, until_ms):
                # An answer that prolongs the lease may be the very one after which the role is given back. That is
                # harmless: the bound is the lease's own deadline, and the others count a whole ttl from when they saw
                # that renewal (or gave that promise), which was later than its sending. Nor does it outlive the giving
                # back: the store is told once the gate is closed, and the bound is set before the closing, in its lane.
                leaving = view.leaving
                assert view.i_hold() or (leaving is not None and held is not None and leaving.began_ms == view.now_ms)
                assert (term, until_ms) == (view.highest_term, held.deadline_ms if held else None)
                assert not any(isinstance(e, Perform) and e.step.kind is StepKind.CLOSE_GATE for e in effects[:place])
                assert not any(isinstance(e, Swap) and e.purpose is Purpose.GIVE_BACK for e in effects)
            case Beat(term):
                assert view.i_hold()
                assert term == view.highest_term
            case Swap(Purpose.RENEW):
                assert held is not None
            case _:
                pass


def what_is_done_is_said(reaction: Reaction) -> None:
    quiet = (Purpose.RENEW, Purpose.REQUEST)  # a request was said as it came
    for effect in reaction.effects:
        if isinstance(effect, Perform) or (isinstance(effect, Swap) and effect.purpose not in quiet):
            assert reaction.entries


def one_thing_at_a_time(before: State, after: State, effects: tuple[Effect, ...]) -> None:
    lanes = [running.lane for running in after.progress.running]
    assert len(lanes) == len(set(lanes))
    swaps = [effect for effect in effects if isinstance(effect, Swap)]
    assert swaps in ([], [after.swap])
    assert not swaps or before.swap is None or before.swap.sent_ms <= after.view.now_ms


def what_is_made_anew_is_kept_and_leads_nowhere(before: State, after: State, effects: tuple[Effect, ...]) -> None:
    view = after.view
    assert view.memory.rejoin == view.rejoin
    if view.rejoin != before.view.rejoin:
        assert any(isinstance(effect, Remember) and effect.memory.rejoin == view.rejoin for effect in effects)
    for effect in effects:
        if isinstance(effect, Swap) and effect.purpose is Purpose.TAKE_OVER:
            assert not view.i_am_rebuilding()
        if isinstance(effect, Perform) and effect.step.kind is StepKind.START_REBUILD:
            assert view.i_am_rebuilding()
            assert not view.i_hold()


def without_the_lease_the_gate_is_being_closed(after: State) -> None:
    view, progress = after.view, after.progress
    if view.i_am_arbiter() or view.valid is not None or view.gate is GateState.CLOSED:
        return
    if not view.i_was_here_before():
        return  # a running cluster that nobody has adopted is not touched
    tried = progress.of(StepKind.CLOSE_GATE)
    closing = any(running.kind in (StepKind.CLOSE_GATE, StepKind.OPEN_GATE) for running in progress.running)
    assert closing or (tried is not None and view.now_ms - tried.at_ms < RETRY_MOST_MS)


AUTOMATIC = replace(POLICY, rejoin_automatic=True)


def begun(me: NodeName, *, here_before: bool) -> State:
    """A node in the middle of a term, or one whose daemon has started for the first time."""
    known = view(me, policy=AUTOMATIC)
    if not here_before:
        known = View(known.me, NODES, AUTOMATIC, MEMBERSHIP, NOW, Sendings(f"{me}#1"))
    return State(view=known, software="0.1.0")


def test_a_term_that_somebody_else_revokes_while_it_is_given_back_leaves_no_open_gate() -> None:
    state = begun(DATA[0], here_before=True)
    for now_ms in (NOW + 500, NOW + 1500):
        state = step(state, Ticked(), now_ms).state
    assert (state.view.leaving is not None, state.view.gate) == (True, GateState.OPEN), "the example has become another"
    swap = Swap(Purpose.RENEW, 40, record(version=40), NOW + 500)
    revoked = record(version=40, counter=28, holder=None, revoked=True)
    reaction = step(state, Swapped(swap, Outcome.FAILED, revoked), NOW + 1500)
    the_role_needs_the_lease(reaction.state, reaction.effects)
    assert (reaction.state.view.held, reaction.state.view.gate) == (None, GateState.UNKNOWN)
    without_the_lease_the_gate_is_being_closed(reaction.state)


@settings(max_examples=120, deadline=None)
@given(data=st.data(), me=st.sampled_from([DATA[0], DATA[1], NAMES[3]]), here_before=st.booleans())
def test_one_node_in_any_world(data: st.DataObject, me: NodeName, *, here_before: bool) -> None:
    state, now_ms = begun(me, here_before=here_before), NOW
    for _ in range(data.draw(st.integers(1, 25))):
        now_ms += data.draw(st.sampled_from([0, 10, 100, 100, 500, 1000, 4000]))
        reaction = step(state, data.draw(events(state, now_ms)), now_ms)
        terms_only_grow(state, reaction.state, reaction.effects)
        the_role_needs_the_lease(reaction.state, reaction.effects)
        what_is_done_is_said(reaction)
        one_thing_at_a_time(state, reaction.state, reaction.effects)
        what_is_made_anew_is_kept_and_leads_nowhere(state, reaction.state, reaction.effects)
        without_the_lease_the_gate_is_being_closed(reaction.state)
        assert now_ms < next_wake_ms(reaction.state) <= now_ms + AUTOMATIC.renew_ms
        state = reaction.state


@settings(max_examples=30, deadline=None)
@given(data=st.data())
def test_a_step_is_a_function_of_its_arguments(data: st.DataObject) -> None:
    state = begun(DATA[1], here_before=True)
    event = data.draw(events(state, NOW))
    assert step(state, event, NOW) == step(state, event, NOW)


@settings(max_examples=60, deadline=None)
@given(data=st.data(), me=st.sampled_from([DATA[0], DATA[1], NAMES[3]]), here_before=st.booleans())
def test_where_it_is_quiet_acting_would_change_nothing(data: st.DataObject, me: NodeName, *, here_before: bool) -> None:
    """What the machine leaves out, done all the same: at the end of the quiet less one, and anywhere in it.

    `replace` forgets that it is quiet, so that the whole of `step` is gone through.
    """
    state, now_ms = begun(me, here_before=here_before), NOW
    for _ in range(data.draw(st.integers(1, 25))):
        now_ms += data.draw(st.sampled_from([0, 10, 100, 100, 500, 1000, 4000]))
        state = step(state, data.draw(events(state, now_ms)), now_ms).state
        state = step(state, Ticked(), now_ms).state  # what was done may have been the last thing to do for now
        for moment_ms in {
            state.quiet_until_ms - 1,
            data.draw(st.integers(now_ms, max(now_ms, state.quiet_until_ms - 1))),
        }:
            if not now_ms <= moment_ms < state.quiet_until_ms:
                continue
            heard = [data.draw(again(told)) for told in state.view.reports]
            for event in (Ticked(), data.draw(observations(me, moment_ms)), data.draw(reports(state.view)), *heard):
                quick = step(state, event, moment_ms)
                whole = step(replace(state), event, moment_ms)
                assert quick == whole
                if isinstance(event, Ticked):
                    assert (whole.effects, whole.entries) == ((), ())
                    assert whole.state == state.changed(view=state.view.at(moment_ms))
