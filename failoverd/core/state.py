"""What one node carries from step to step, what a step returns, and what a node tells the others of itself."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Self

from failoverd.core import bounded, migration, rejoin
from failoverd.core.effects import Effect, Entry, StepKind, Swap
from failoverd.core.events import Confirmed, Order
from failoverd.core.mail_store import STEPS
from failoverd.core.model import Heard, NodeKind, Record, Rejoin, Report, Request, Role
from failoverd.core.plan import Progress
from failoverd.core.policy import Policy
from failoverd.core.rules import Rule
from failoverd.core.view import GateState, View


@dataclass(frozen=True)
class State:
    """What one node knows (`view`) and where it is in what it does."""

    view: View
    software: str
    progress: Progress = field(default_factory=Progress)
    rule: Rule | None = None
    swap: Swap | None = None  # the one in flight
    renewed_ms: int | None = None  # when the newest renewal was sent
    asked: Request | None = None  # to be put into the store
    asked_ms: int = 0
    confirmed: Confirmed | None = None  # likewise
    order: Order | None = None  # likewise
    policy: Policy | None = None  # of a configuration read again, until nothing is under way
    policy_by: str = ""  # who had it read
    marking: int = 0  # the count of commits let go that the MARK or CLEAR in flight speaks of
    rejoin_asked: Rejoin | None = None  # of another node, to be told to it
    rejoin_asked_ms: int = 0
    swaps_from_ms: int = 0  # after one that was not answered, or answered with a record that is refused
    refused: Record | None = None  # the newest of those records
    blocked: tuple[str, ...] = ()  # the codes last told of why this node does not take over
    facts_from_ms: int = 0  # readings of the database begun before this moment are older than what a step returned
    beat: int = 0
    beat_ms: int = 0
    pushed_ms: int | None = None
    pushed: tuple[object, ...] = ()
    # Before this moment nothing is to be done unless something is heard: `machine` found that out about exactly this
    # state, so that neither `replace` nor `changed` takes it over.
    quiet_until_ms: int = field(default=0, init=False, repr=False, compare=False)
    # Which questions were asked of reports: one with other answers to them ends the quiet.
    heeds: frozenset[str] = field(default=frozenset(), init=False, repr=False, compare=False)

    def changed(self, **changes: object) -> Self:
        """A copy with these fields changed; the same as `replace`, without running `__init__`."""
        copy = object.__new__(type(self))
        object.__setattr__(copy, "__dict__", {**self.__dict__, "quiet_until_ms": 0, **changes})
        return copy


@dataclass(frozen=True, slots=True)
class Reaction:
    """What one step returns."""

    state: State
    effects: tuple[Effect, ...]
    entries: tuple[Entry, ...]


def role_of(state: State) -> Role:
    """What this node is for clients, as it stands."""
    return _role(state.view)


def _role(view: View) -> Role:
    if view.me.kind is NodeKind.ARBITER:
        return Role.ARBITER
    if view.gate is GateState.OPEN and view.i_hold():
        return Role.PRIMARY
    facts = view.database
    if view.gate is GateState.CLOSED and facts is not None and facts.read_only and facts.replication is not None:
        return Role.REPLICA
    return Role.FENCED


def _request_for_me(view: View) -> str:
    request = view.record.request if view.record else None
    return request.id if request is not None and request.target == view.me.name else ""


def _asks_ms(view: View) -> int:
    return view.policy.ttl_ms if view.asking() else 0


def _doing(progress: Progress) -> str:
    return ", ".join([step.kind.value for step in progress.running])


def substance(view: View, rule: Rule | None, progress: Progress) -> tuple[object, ...]:
    """What others decide on, of the report that would be made: a change of it is pushed at once."""
    facts = view.database
    return (
        view.highest_term,
        view.lease_is_over() and (view.record.version if view.record else 0),  # a vote is for one version
        _request_for_me(view),
        view.store_answers(),
        _asks_ms(view),
        view.promised_to(),
        _role(view),
        view.gate is GateState.OPEN,
        view.ready,
        view.frozen_term,
        view.caught_up(),
        view.i_am_rebuilding(),
        rule.id if rule else "",
        _doing(progress),
        tuple(
            (seen.observation.probe, seen.observation.target, seen.health, min(seen.failures, 9))
            for seen in view.looks.failing
        )
        if view.looks.failing
        else (),
        facts and (facts.read_only, facts.replication and (facts.replication.source, facts.replication.receiver)),
    )


def _queue_findings(state: State) -> tuple[tuple[str, str], ...]:
    """What waits in this node's mail queue while another one serves, and why its last handing on left something."""
    view = state.view
    found = []
    if view.gate is not GateState.OPEN and (queue := view.queue) is not None and queue.waiting:
        found.append(("QUEUE_WAITING", f"{queue.waiting} messages in the mail queue, {queue.held} of them held"))
    for kind in (StepKind.HAND_ON, StepKind.RELEASE):
        ended = state.progress.of(kind)
        if ended is not None and ended.code:
            found.append((ended.code, ended.reason))
    return tuple(found)


def _store_findings(state: State) -> tuple[tuple[str, str], ...]:
    """What keeps this node from taking or leaving the mail store, as its last attempt said."""
    ended = [state.progress.of(kind) for kind in STEPS]
    return tuple((e.code, e.reason) for e in ended if e is not None and e.code.startswith(("STORE_", "UNIT_")))


def _rejoin_findings(view: View) -> tuple[tuple[str, str], ...]:
    """Why this node is not made anew by itself, though its database needs it."""
    why = rejoin.held_back(view, view.me.name) if view.rejoin_due_since_ms is not None else ""
    return (("REJOIN_HELD", why),) if why else ()


def make_report(state: State) -> Report:
    """What this node would tell the others now; its number is that of the last one sent."""
    view = state.view
    return Report(
        sender=view.me.name,
        process=view.sendings.process,
        number=view.sendings.last,
        heard=tuple(Heard(r.sender, r.process, r.number) for r in view.reports),
        membership=view.membership,
        software=state.software,
        term=view.highest_term,
        version=view.record.version if view.record else 0,
        lease_over=view.lease_is_over(),
        role=role_of(state),
        serving=view.gate is GateState.OPEN,
        ready=view.ready,
        steady=view.steady,
        frozen_term=view.frozen_term,
        caught_up=view.caught_up(),
        database=view.database,
        claims=tuple(seen.claim() for seen in view.sightings),
        findings=(
            *view.findings,
            *_queue_findings(state),
            *_store_findings(state),
            *_rejoin_findings(view),
            *bounded.findings(view),
        ),
        rule=state.rule.id if state.rule else "",
        doing=_doing(state.progress),
        vip=view.vip,
        host=view.host,
        monitoring=view.monitoring,
        request=_request_for_me(view),
        store_answers=view.store_answers(),
        hears=tuple(view.fresh),
        asks_ms=_asks_ms(view),
        promised=view.promised_to(),
        beat=state.beat,
        identity=view.settings.identity if view.settings else None,
        rebuilding=view.i_am_rebuilding(),
        rebuild=view.rebuild,
        rejoin=state.rejoin_asked,
        rejoin_ended=view.rejoin_ended,
        rejoining=view.rejoin.id if view.rejoin else "",
        units=view.units,
        unproven=view.record.unproven if view.record else view.memory.unproven,
        marks=view.record.marks if view.record else view.memory.marks,
        floor=bounded.told(view),
        membership_next=view.membership_next,
        next_answers=migration.next_answers(view),
        next_place=migration.next_place(view),
        moves=migration.known_moves(view),
    )
