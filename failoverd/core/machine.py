"""step(state, event) -> (state, effects, entries): the controller as a pure function.

    event ──absorb──> view ──rules──> decision ──plan──> next step ──> effects
                                  └──────────────────────────────────> entries (audit), written before the effects

Production, the simulator, `--dry-run` and `explain` differ only in who feeds events and who runs effects. Rules are
evaluated on what is, at each event: a lost event costs a tick, never the outcome.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import assert_never

from failoverd.core import candidates, lease, plan, rules
from failoverd.core.effects import (
    Beat,
    Cancel,
    Effect,
    Entry,
    KeepLease,
    KeepTerm,
    Perform,
    Purpose,
    Push,
    RenewGate,
    Step,
    StepKind,
    Swap,
)
from failoverd.core.health import born_after_ms, sighted
from failoverd.core.lease import Held
from failoverd.core.model import (
    DatabaseFacts,
    Health,
    Heard,
    NodeKind,
    NodeName,
    Observation,
    Outcome,
    Record,
    Report,
    Request,
    RequestEnded,
    Role,
)
from failoverd.core.plan import Ended, Progress
from failoverd.core.rules import Decision, Rule
from failoverd.core.view import GateState, Leaving, Restart, View

TICK_MS = 100
SAY_MS = 1000  # how long a lease may be over before its end is worth an explanation
STUCK_FAILURES = 5  # attempts at one step of a promotion, some seconds, before another node may do better


# ---- events ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Ticked:
    """Time passed."""


@dataclass(frozen=True, slots=True)
class Observed:
    """A probe ended."""

    observation: Observation


@dataclass(frozen=True, slots=True)
class Reported:
    """Another node's report came."""

    report: Report


@dataclass(frozen=True, slots=True)
class StoreSeen:
    """The store was read, or its watch told of a change."""

    record: Record


@dataclass(frozen=True, slots=True)
class Swapped:
    """A swap was answered (SUCCEEDED, or FAILED with the record that stands) or not (UNKNOWN)."""

    swap: Swap
    outcome: Outcome
    record: Record | None


@dataclass(frozen=True, slots=True)
class StepEnded:
    """A step ended, or its deadline came (UNKNOWN)."""

    step: Step
    outcome: Outcome
    code: str = ""
    reason: str = ""
    facts: DatabaseFacts | None = None


@dataclass(frozen=True, slots=True)
class Asked:
    """An operator's request, already checked by `candidates.planned_rejection`."""

    request: Request


@dataclass(frozen=True, slots=True)
class Confirmed:
    """An operator's word that the last primary has no power, already checked by `candidates.confirm_rejection`."""

    node: NodeName
    term: int
    by: str
    reason: str


@dataclass(frozen=True, slots=True)
class PauseAsked:
    """An operator pauses the cluster (`paused`: by whom and why) or lets it go on (""). Checked before."""

    paused: str
    by: str


Event = Ticked | Observed | Reported | StoreSeen | Swapped | StepEnded | Asked | Confirmed | PauseAsked


# ---- state ----------------------------------------------------------------------------------------------------------


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
    pause: PauseAsked | None = None  # likewise
    swaps_from_ms: int = 0  # after one that was not answered, or answered with a record that is refused
    refused: Record | None = None  # the newest of those records
    blocked: tuple[str, ...] = ()  # the codes last told of why this node does not take over
    facts_from_ms: int = 0  # readings of the database begun before this moment are older than what a step returned
    beat: int = 0
    beat_ms: int = 0
    pushed_ms: int | None = None
    pushed: tuple[object, ...] = ()


@dataclass(frozen=True)
class Reaction:
    """What one step returns."""

    state: State
    effects: tuple[Effect, ...]
    entries: tuple[Entry, ...]


def step(state: State, event: Event, now_ms: int) -> Reaction:
    """Absorb one event at `now_ms` (this node's clock, never going back) and say what to do next."""
    turn = _Turn(state, now_ms)
    turn.absorb(event)
    turn.act()
    return Reaction(turn.state, tuple(turn.effects), tuple(turn.entries))


def next_wake_ms(state: State) -> int:
    """When `Ticked` is due at the latest: the next tick, or sooner where a deadline of the lease comes first."""
    view, policy = state.view, state.view.policy
    wake_ms = view.now_ms + TICK_MS
    moments: list[int] = []
    if view.watch is not None and view.record is not None:
        moments += [view.watch.first_seen_ms + policy.lapse_ms, view.watch.first_seen_ms + view.record.ttl_ms]
    if view.held is not None:
        moments += [view.held.deadline_ms - policy.step_down_before_ms, view.held.deadline_ms]
        if state.renewed_ms is not None:
            moments.append(state.renewed_ms + policy.renew_ms)
    return min([moment for moment in moments if moment > view.now_ms] + [wake_ms])


class _Turn:
    """One call of `step` at work: the state as it becomes, and what it asks for."""

    def __init__(self, state: State, now_ms: int) -> None:
        before = state.view
        self.state = replace(state, view=replace(before, now_ms=max(now_ms, before.now_ms)))
        self.effects: list[Effect] = []
        self.entries: list[Entry] = []
        if before.now_ms and now_ms - before.now_ms > before.policy.ttl_ms:
            self.note("gap", f"nothing happened here for {now_ms - before.now_ms} ms, longer than a lease")
        self._expire()

    # ---- small helpers ----------------------------------------------------------------------------------------

    @property
    def view(self) -> View:
        return self.state.view

    def see(self, **changes: object) -> None:
        """Change what is known."""
        self.state = replace(self.state, view=replace(self.state.view, **changes))  # type: ignore[arg-type] # by name

    def note(self, kind: str, text: str, *, code: str = "", **detail: str) -> None:
        """One audit record."""
        rule = self.state.rule.id if self.state.rule else ""
        self.entries.append(Entry(kind, self.view.highest_term, rule, text, code, tuple(sorted(detail.items()))))

    # ---- absorbing --------------------------------------------------------------------------------------------

    def _expire(self) -> None:
        held = self.view.held
        if held is not None and self.view.now_ms >= held.deadline_ms:
            self.note("lease-ended", f"the lease of term {held.term} ended; the kernel has closed the gate")
            self._lose()

    def _lose(self) -> None:
        self.see(held=None, gate=GateState.UNKNOWN if self.view.gate is GateState.OPEN else self.view.gate)
        self.effects.append(KeepLease(None))

    def absorb(self, event: Event) -> None:
        """Fold one event into what is known."""
        match event:
            case Ticked():
                pass
            case Observed(observation):
                self._observed(observation)
            case Reported(report):
                self._reported(report)
            case StoreSeen(record):
                self._record_seen(record)
            case Swapped():
                self._swapped(event)
            case StepEnded():
                self._step_ended(event)
            case Asked(request):
                self.state = replace(self.state, asked=request, asked_ms=self.view.now_ms)
                self.note("asked", f"{request.by} asked for {request.target} as primary", reason=request.reason)
            case Confirmed():
                self.state = replace(self.state, confirmed=event, asked_ms=self.view.now_ms)
                self.note("confirmed", f"{event.by} says that {event.node} has no power", reason=event.reason)
            case PauseAsked():
                self.state = replace(self.state, pause=event, asked_ms=self.view.now_ms)
                self.note("asked", f"{event.by} {'pauses' if event.paused else 'resumes'}", reason=event.paused)
            case _:
                assert_never(event)

    def _observed(self, observation: Observation) -> None:
        view = self.view
        before = view.sighting(observation.probe, observation.target)
        after = sighted(before, observation)
        kept = tuple(s for s in view.sightings if s is not before)
        self.see(sightings=(*kept, after))
        was, now = before.failures if before else 0, after.failures
        if (was > 0) != (now > 0):
            reading = observation.reading
            text = f"{observation.probe} of {observation.target}: {reading.reason or 'answers again'}"
            self.note("observed", text, code=reading.code)
        if observation.probe == "database" and observation.target == view.me.name:
            facts = observation.reading.facts
            if observation.reading.health is Health.OK and isinstance(facts, DatabaseFacts):
                if observation.ended_ms - observation.took_ms >= self.state.facts_from_ms:
                    self.see(database=facts)
            elif self.view.database_failing:
                self.see(database=None)

    def _reported(self, report: Report) -> None:
        view = self.view
        if report.sender == view.me.name or all(node.name != report.sender for node in view.nodes):
            return
        before = next((r for r in view.reports if r.sender == report.sender), None)
        if before is not None and before.process == report.process and report.number <= before.number:
            return  # late, or twice
        if before is not None and before.process != report.process and report.sender in view.fresh:
            born = born_after_ms(report, view.me.name, view.sendings)
            former = born_after_ms(before, view.me.name, view.sendings)
            if born is None or (former is not None and born < former):
                return  # of an earlier run of that daemon, delayed; or its first, which nothing bounds yet
        self.see(reports=(*(r for r in view.reports if r.sender != report.sender), report))
        if report.term > view.highest_term:
            self._new_term(report.term)
        if report.asks_ms and self.view.may_promise(report):
            heard = Heard(report.sender, report.process, report.number)
            if view.promise is None or view.promise.term != report.term:
                self.note("promised", f"no takeover of {report.sender} while the store does not answer it")
            self.see(promise=lease.Promise(report.term, heard, self.view.now_ms + report.asks_ms))
        self._prolong()

    def _prolong(self) -> None:
        """Rule 4: while the store is away, a lease lasts from the sending of a round that all others promised."""
        view = self.view
        held, sent_ms = view.held, view.round_promised_ms()
        if held is None or sent_ms is None or not view.i_hold():
            return
        longer = lease.prolonged(held, sent_ms, view.policy.ttl_ms, view.policy.margin_ms)
        if longer != held:
            self._hold(longer)

    def _hold(self, held: Held) -> None:
        """The lease runs longer: in memory, for a restarted daemon, and in the kernel where the gate is open."""
        self.see(held=held)
        self.effects.append(KeepLease(held))
        if self.view.gate is GateState.OPEN and self.view.i_hold():
            self.effects.append(RenewGate(held.term, held.deadline_ms))

    def _new_term(self, term: int) -> None:
        """Rule 6: remembered on disk, and everything of a lower term ends."""
        mine = tuple(s for s in self.view.sightings if s.observation.target == self.view.me.name)
        self.see(highest_term=term, sightings=mine)  # what was seen of the former primary is no longer looked at
        self.effects.append(KeepTerm(term))
        held = self.view.held
        if held is not None and held.term < term:
            self.note("superseded", f"term {term} began elsewhere, this node's term {held.term} is over")
            self._lose()
        leaving = self.view.leaving
        if leaving is not None and leaving.term < term:
            self.see(leaving=None)

    def _record_seen(self, record: Record) -> None:
        view = self.view
        if not lease.acceptable(record, view.highest_term):
            if self.state.refused != record:
                self.state = replace(self.state, refused=record)
                text = f"the store says term {record.term}, this node has seen {view.highest_term}: refused"
                self.note("store-refused", text, code="BLK_STORE_OLD")
                self.see(record=record if view.record is None else view.record)
            return
        self.see(store_heard_ms=view.now_ms)
        before = view.record
        if before is not None and record.version < before.version and record.term == before.term:
            return  # an older answer that came late
        self.see(record=record, watch=lease.watched(view.watch, record, view.now_ms))
        if record.term > view.highest_term:
            self._new_term(record.term)
        if before is not None and record.term > before.term:
            asked_for = record.request is not None and record.request.target == record.holder
            if asked_for:  # a person moved the role and has seen the state it was in: the count starts anew
                self.see(takeovers_ms=())
            elif before.term > 0:
                self.see(takeovers_ms=(*view.takeovers_ms[-31:], view.now_ms))
            text = f"{record.holder} is primary in term {record.term}"
            self.note("term", text, previous=str(record.previous or ""), reason=record.reason)
        self._told_of_record(before, record)
        self._answer_of_record(record)
        self._request_of_record(record)

    def _told_of_record(self, before: Record | None, record: Record) -> None:
        """Keep in the audit what others have put into the record."""
        former = before if before is not None and before.term == record.term else replace(record, condemned_by=None)
        if record.condemned_by is not None and former.condemned_by is None:
            self.note(
                "condemned", f"{record.condemned_by} has revoked term {record.term} to cut {record.holder}'s power"
            )
        if record.off and record.off != former.off:
            self.note("off", f"{record.holder} has no power: {record.off}")
        if before is not None and record.paused != before.paused:
            self.note("paused", f"paused by {record.paused}" if record.paused else "the cluster goes on")
        confirmed, pause = self.state.confirmed, self.state.pause
        if confirmed is not None and (record.term > confirmed.term or record.off):
            self.state = replace(self.state, confirmed=None)
        if pause is not None and pause.paused == record.paused:
            self.state = replace(self.state, pause=None)

    def _answer_of_record(self, record: Record) -> None:
        """What the record says of this node's own lease and of a takeover whose answer did not come."""
        view = self.view
        mine = record.holder == view.me.name and not record.revoked
        if view.leaving is not None and record.revoked and record.term == view.leaving.term:
            self.see(leaving=None, held=None)
            self.effects.append(KeepLease(None))
            self.note("given-back", f"term {record.term} is given back", successor=str(record.successor or ""))
            return
        held = view.held
        if held is not None:
            if mine and held.term == record.term:
                self.see(held=replace(held, version=record.version))
            elif record.term >= held.term:
                self.note("lease-gone", f"the store gives term {record.term} to {record.holder}: the lease is gone")
                self._lose()
        waiting = view.takeover_sent
        if waiting is None:
            return
        if mine and self.view.held is None:  # the watch may be quicker than the answer
            granted = lease.still_held(lease.granted(record, waiting.sent_ms, view.policy.margin_ms), view.now_ms)
            self.see(held=granted)
            self.effects.append(KeepLease(granted))
        swap = self.state.swap
        in_flight = swap is not None and swap.purpose in (Purpose.TAKE_OVER, Purpose.ADOPT, Purpose.CONDEMN)
        if not in_flight and record.version > waiting.version:  # rule 5: before that it may still come to pass
            self.see(takeover_sent=None)

    def _request_of_record(self, record: Record) -> None:
        view = self.view
        if record.request is None:
            if view.request_seen is not None:
                self.see(request_seen=None)
        elif view.request_seen is None or view.request_seen[0] != record.request.id:
            self.see(request_seen=(record.request.id, view.now_ms))
        asked = self.state.asked
        if asked is None:
            return
        told = (record.request, record.request_ended)  # a watch may skip the moments between the two
        if any(known is not None and known.id == asked.id for known in told):
            self.state = replace(self.state, asked=None)
        elif record.term > asked.term:
            self.note("request-dropped", f"asked in term {asked.term}, it is {record.term} now", code="BLK_REQUEST")
            self.state = replace(self.state, asked=None)

    def _swapped(self, event: Swapped) -> None:
        swap = event.swap
        if self.state.swap == swap:
            self.state = replace(self.state, swap=None)
        if event.outcome is Outcome.UNKNOWN or event.record is None:
            self._pause_swaps()
            if swap.purpose is Purpose.TAKE_OVER:
                self.note("takeover-unanswered", "the store did not answer the takeover", code="BLK_STORE")
            return
        record = event.record
        if event.outcome is Outcome.FAILED:
            self._record_seen(record)
            stands = self.view.record
            if stands is None or stands.version == swap.expected_version:
                self._pause_swaps()  # the store has a record that this node refuses
            elif swap.purpose is Purpose.RENEW:
                self.state = replace(self.state, renewed_ms=None)  # again at once, on the version that stands
            if swap.purpose is Purpose.TAKE_OVER and record.holder != self.view.me.name:
                self.note("takeover-lost", f"{record.holder} was first in term {record.term}", code="BLK_LEASE")
            return
        self._swap_won(swap, record)

    def _pause_swaps(self) -> None:
        """Whatever is asked of the store next waits a little; renewals have a pace of their own."""
        self.state = replace(self.state, swaps_from_ms=self.view.now_ms + self.view.policy.renew_ms // 2)

    def _swap_won(self, swap: Swap, record: Record) -> None:
        policy = self.view.policy
        match swap.purpose:
            case Purpose.TAKE_OVER | Purpose.ADOPT:
                first = self.view.takeover_sent
                sent_ms = swap.sent_ms if first is None else min(first.sent_ms, swap.sent_ms)
                self._record_seen(record)
                self.see(takeover_sent=None)
                granted = lease.still_held(lease.granted(record, sent_ms, policy.margin_ms), self.view.now_ms)
                self.state = replace(self.state, renewed_ms=swap.sent_ms)
                self.see(held=granted, renewed_ms=swap.sent_ms, stuck=None)
                self.effects.append(KeepLease(granted))
            case Purpose.RENEW:
                held = self.view.held
                self._record_seen(record)
                if held is not None and held.term == record.term:  # rule 2: a lease that ended is not revived
                    self.see(renewed_ms=swap.sent_ms)
                    # A round of promises may reach further than a renewal that was long on its way.
                    granted = lease.granted(record, swap.sent_ms, policy.margin_ms)
                    self._hold(replace(granted, deadline_ms=max(granted.deadline_ms, held.deadline_ms)))
            case Purpose.CONDEMN:
                self._record_seen(record)
                self.see(takeover_sent=None)
            case Purpose.GIVE_BACK | Purpose.REQUEST | Purpose.DROP_REQUEST | Purpose.CONFIRM | Purpose.PAUSE:
                self._record_seen(record)
            case _:
                assert_never(swap.purpose)

    def _step_ended(self, event: StepEnded) -> None:
        done, progress = event.step, self.state.progress
        was = progress.of(done.kind)
        succeeded = event.outcome is Outcome.SUCCEEDED
        failures = 0 if succeeded else (was.failures if was else 0) + 1
        running = tuple(step for step in progress.running if step.number != done.number)
        progress = replace(progress, running=running)
        if progress.key[0] and done.kind in plan.PLANS.get(Decision(progress.key[0]), ()):
            ended = Ended(done.kind, event.outcome, self.view.now_ms, failures, event.code, event.reason)
            progress = progress.with_ended(ended)
        self.state = replace(self.state, progress=progress)
        self.note(
            "step-ended",
            f"{done.kind.value}: {event.outcome.value}" + (f", {event.reason}" if event.reason else ""),
            code=event.code,
            step=str(done.number),
        )
        if event.facts is not None:
            self.see(database=event.facts)
            self.state = replace(self.state, facts_from_ms=self.view.now_ms)
        if done.kind in plan.PLANS[Decision.SERVE] and done.kind not in plan.OPTIONAL:
            worn = not succeeded and failures >= STUCK_FAILURES and self.view.i_hold()
            self.see(stuck=(event.code, f"{done.kind.value}: {event.reason}") if worn else None)
        self._step_means(event, succeeded=succeeded)

    def _step_means(self, event: StepEnded, *, succeeded: bool) -> None:
        """What the end of a step says of this node, beyond its facts."""
        view, done = self.view, event.step
        match done.kind:
            case StepKind.CLOSE_GATE:
                self.see(gate=GateState.CLOSED if succeeded else GateState.UNKNOWN)
            case StepKind.OPEN_GATE:
                open_now = succeeded and view.i_hold() and done.term == view.highest_term
                self.see(gate=GateState.OPEN if open_now else GateState.UNKNOWN)
            case StepKind.FREEZE if succeeded:
                self.see(frozen_term=done.term)
            case StepKind.MAKE_WRITABLE if succeeded:
                self.see(served_term=done.term, frozen_term=None)
            case StepKind.FOLLOW:
                self.see(frozen_term=None)  # also when it failed: the receiver may run
            case StepKind.KILL_DATABASE if succeeded:
                self.see(database=None)
                self.state = replace(self.state, facts_from_ms=view.now_ms)
            case StepKind.FENCE if succeeded:
                self.see(fenced_term=done.term)
            case StepKind.RESTART_UNIT:
                restarts = tuple(
                    replace(r, ended_ms=view.now_ms, worked=succeeded)
                    if r.service == done.service and r.ended_ms is None
                    else r
                    for r in view.restarts
                )
                self.see(restarts=restarts)
            case StepKind.MAKE_READ_ONLY if not succeeded:
                self._take_back(event)
            case _:
                pass

    def _take_back(self, event: StepEnded) -> None:
        """A planned switchover whose holder could not be made read-only is undone: it goes on as the primary."""
        view = self.view
        if view.leaving is None or not view.leaving.undo:
            return
        request = view.record.request if view.record else None
        self.see(leaving=None)
        if request is not None:
            failed = RequestEnded(request.id, succeeded=False, code=event.code, reason=event.reason)
            self.see(request_failed=failed)
        self.note("switchover-undone", f"taken back before the point of no return: {event.reason}", code=event.code)

    # ---- acting -----------------------------------------------------------------------------------------------

    def act(self) -> None:
        """Decide on what is, and ask for the next thing."""
        rule = self._decide()
        if rule.decision is Decision.LET_GO:
            held = self.view.held
            if held is None:
                raise AssertionError("only a holder lets go")
            successor = rules.successor_for(self.view, rule)
            self.see(
                leaving=Leaving(
                    term=held.term,
                    successor=successor,
                    rule=rule.id,
                    renew=rule.id not in ("lease-running-out", "condemned"),
                    undo=rule.id == "switchover-asked",
                    began_ms=self.view.now_ms,
                )
            )
            rule = self._decide()
        self._forget_old_request()
        self._say_why_not()
        self._keep_lease(rule)
        self._follow_plan(rule)
        self._beat()
        self._report()

    def _decide(self) -> Rule:
        rule = rules.decide(self.view)
        if self.state.rule is None or rule.id != self.state.rule.id:
            self.state = replace(self.state, rule=rule)
            self.note("decision", f"{rule.decision.value}: {rule.why}", holder=str(self.view.holder or ""))
        return rule

    def _say_why_not(self) -> None:
        """A failover that does not come says why not, once for each set of reasons."""
        view = self.view
        record, watch = view.record, view.watch
        due = record is not None and watch is not None and view.now_ms - watch.first_seen_ms > record.ttl_ms + SAY_MS
        silent = not due or view.i_am_arbiter() or view.valid is not None or not view.lease_is_over()
        blocked = () if silent else candidates.why_not(view)
        codes = tuple(rejected.code for rejected in blocked)
        if codes != self.state.blocked:
            self.state = replace(self.state, blocked=codes)
            for rejected in blocked:
                self.note("blocked", rejected.reason, code=rejected.code)

    # -- the store

    def _forget_old_request(self) -> None:
        asked = (self.state.asked, self.state.confirmed, self.state.pause)
        if any(asked) and self.view.now_ms - self.state.asked_ms > self.view.policy.request_ms:
            self.note("request-dropped", "the store did not take the request in time", code="BLK_STORE")
            self.state = replace(self.state, asked=None, confirmed=None, pause=None)

    def _keep_lease(self, rule: Rule) -> None:
        if self.state.swap is not None:
            return  # one at a time; its answer or its timeout comes
        view, record = self.view, self.view.record
        if record is None:
            return
        may_swap = view.now_ms >= self.state.swaps_from_ms
        match rule.decision:
            case Decision.TAKE_OVER | Decision.ADOPT if may_swap:
                self._take_over(record, rule)
            case Decision.GIVE_BACK if may_swap and self._may_give_back(record):
                self._give_back(record)
            case Decision.DROP_REQUEST if may_swap:
                self._drop_request(record)
            case Decision.CONDEMN if may_swap:
                self._condemn(record)
            case Decision.FENCE if may_swap and view.fenced_term == record.term:
                self._confirm(record, f"the fence agents that {view.me.name} asked")
            case _ if self._renewal_due(record):
                self.state = replace(self.state, renewed_ms=view.now_ms)
                renewed = replace(record, counter=record.counter + 1, ttl_ms=view.policy.ttl_ms)
                self._swap(Purpose.RENEW, record, renewed)
            case _ if may_swap:
                self._pass_on(record)
            case _:
                pass

    def _renewal_due(self, record: Record) -> bool:
        view, sent_ms = self.view, self.state.renewed_ms
        if view.valid is None or record.term != view.valid.term or record.condemned_by is not None:
            return False  # of a condemned term nobody may see the counter move again
        return self._may_renew() and (sent_ms is None or view.now_ms - sent_ms >= view.policy.renew_ms)

    def _may_renew(self) -> bool:
        """A leaving holder keeps the lease while it closes, for one ttl: others must not wait for one that is stuck."""
        leaving, view = self.view.leaving, self.view
        return leaving is None or (leaving.renew and view.now_ms - leaving.began_ms < view.policy.ttl_ms)

    def _pass_on(self, record: Record) -> None:
        """Put into the store what an operator asked of this node."""
        asked, confirmed, pause = self.state.asked, self.state.confirmed, self.state.pause
        if pause is not None and record.version > 0:
            self._swap(Purpose.PAUSE, record, replace(record, paused=pause.paused))
        elif confirmed is not None and (record.term, record.holder) == (confirmed.term, confirmed.node):
            self._confirm(record, f"{confirmed.by}: {confirmed.reason}")
        elif asked is not None:
            self._request(record, asked)

    def _condemn(self, record: Record) -> None:
        """Revoke the holder's term, so that it cannot renew while its power is being cut."""
        view = self.view
        self.see(takeover_sent=lease.Unanswered(record.version, view.now_ms))
        self.note("condemn", f"asking the store to revoke term {record.term} of {record.holder}")
        self._swap(Purpose.CONDEMN, record, replace(record, condemned_by=view.me.name))

    def _confirm(self, record: Record, who: str) -> None:
        self.note("confirm", f"telling the store that {record.holder} has no power: {who}")
        condemner = record.condemned_by or self.view.me.name
        self._swap(Purpose.CONFIRM, record, replace(record, condemned_by=condemner, off=who))

    def _swap(self, purpose: Purpose, expected: Record, record: Record) -> None:
        swap = Swap(purpose, expected.version, record, self.view.now_ms)
        self.state = replace(self.state, swap=swap)
        self.effects.append(swap)

    def _take_over(self, record: Record, rule: Rule) -> None:
        view = self.view
        taken = Record(
            version=record.version,
            term=record.term + 1,
            holder=view.me.name,
            ttl_ms=view.policy.ttl_ms,
            position=view.position_of(view.me.name),
            previous=record.holder,
            reason=rule.id,
            request=record.request,
            paused=record.paused,
        )
        if view.takeover_sent is None or view.takeover_sent.version != record.version:
            self.see(takeover_sent=lease.Unanswered(record.version, view.now_ms))
        self.note("take-over", f"asking the store for term {taken.term}", previous=str(record.holder or ""))
        self._swap(Purpose.ADOPT if rule.decision is Decision.ADOPT else Purpose.TAKE_OVER, record, taken)

    def _may_give_back(self, record: Record) -> bool:
        view, leaving = self.view, self.view.leaving
        if leaving is None or record.term != leaving.term or record.holder != view.me.name or record.revoked:
            return False
        killed = self.state.progress.done(StepKind.KILL_DATABASE)
        return view.gate is GateState.CLOSED and (rules.demoted(view) or (killed and view.database is None))

    def _give_back(self, record: Record) -> None:
        view, leaving = self.view, self.view.leaving
        if leaving is None:
            raise AssertionError("only a leaving node gives back")
        position = view.database.position if view.database else None
        self.note(
            "give-back", f"telling the store that term {record.term} is over", successor=str(leaving.successor or "")
        )
        given = replace(record, revoked=True, successor=leaving.successor, position=position)
        self._swap(Purpose.GIVE_BACK, record, given)

    def _request(self, record: Record, asked: Request) -> None:
        if record.version == 0:  # no primary yet: the operator names the first
            given = Record(revoked=True, successor=asked.target, ttl_ms=self.view.policy.ttl_ms, request=asked)
            self._swap(Purpose.REQUEST, record, given)
        else:
            self._swap(Purpose.REQUEST, record, replace(record, request=asked))

    def _drop_request(self, record: Record) -> None:
        request = record.request
        if request is None:
            return
        ended = self._why_ended(request)
        self.note(
            "request-ended", ended.reason, code=ended.code, request=request.id, succeeded=str(ended.succeeded).lower()
        )
        self._swap(Purpose.DROP_REQUEST, record, replace(record, request=None, request_ended=ended))

    def _why_ended(self, request: Request) -> RequestEnded:
        view = self.view
        if request.target == view.me.name:
            return RequestEnded(request.id, succeeded=True, reason=f"{view.me.name} is primary as asked")
        if view.request_failed is not None and view.request_failed.id == request.id:
            return view.request_failed
        why = candidates.planned_rejection(view, request.target)
        code = why.code if why else "BLK_REQUEST"
        reason = why.reason if why else f"it could not be begun within {view.policy.request_ms} ms"
        if request.term != view.highest_term:
            reason = f"{request.target} did not take the term that it was given, {view.me.name} is primary: {reason}"
            return RequestEnded(request.id, succeeded=False, code="SWITCHOVER_FAILED", reason=reason)
        return RequestEnded(request.id, succeeded=False, refused=True, code=code, reason=reason)

    # -- this node

    def _follow_plan(self, rule: Rule) -> None:
        decision, progress = rule.decision, self.state.progress
        if decision in (Decision.DROP_REQUEST, Decision.RESTART_UNIT):
            decision = Decision.SERVE  # neither interrupts a promotion, nor makes it begin anew
        key = (decision.value, self.view.highest_term)
        kinds = plan.PLANS.get(decision, ())
        if progress.key != key:
            progress = Progress(key=key, running=progress.running, number=progress.number)
            for running in progress.running:
                if running.kind not in kinds:
                    self.effects.append(Cancel(running))
        contradicted = {k for k in plan.undone(self.view, decision, progress) if progress.done(k)}
        if contradicted:
            progress = progress.without(contradicted)
            self.note("undone", "not as this node left it: " + ", ".join(sorted(k.value for k in contradicted)))
        self.state = replace(self.state, progress=progress)
        kind = plan.next_step(self.view, decision, progress)
        if kind is None:
            return
        step = plan.make_step(self.view, kind, progress.number + 1)
        if any(other.lane is step.lane for other in progress.running):
            return
        progress = replace(progress, running=(*progress.running, step), number=step.number)
        self.state = replace(self.state, progress=progress)
        if kind is StepKind.RESTART_UNIT:
            begun = Restart(step.service, self.view.now_ms, None, worked=False)
            self.see(restarts=(*self.view.restarts[-15:], begun))
        self.note("step", f"{kind.value}" + (f" {step.unit or step.address}".rstrip()), step=str(step.number))
        self.effects.append(Perform(step))

    def _beat(self) -> None:
        view, state = self.view, self.state
        # From before the gate opens: what a client writes in this term comes after a heartbeat of it.
        writable = view.i_hold() and view.served_term == view.highest_term
        if not writable or view.now_ms - state.beat_ms < view.policy.heartbeat_ms:
            return
        stands = view.database.heartbeat_beat if view.database else 0
        beat = max(state.beat, stands) + 1
        self.state = replace(state, beat=beat, beat_ms=view.now_ms)
        self.effects.append(Beat(view.highest_term, beat))

    def _report(self) -> None:
        """Push at each interval, and at once when something changed that others decide on."""
        view, state = self.view, self.state
        report = make_report(state)
        facts = report.database
        substance: tuple[object, ...] = (
            report.term,
            report.lease_over and report.version,  # a vote is for one version
            report.request,
            report.store_answers,
            report.asks_ms,
            report.promised,
            report.role,
            report.serving,
            report.ready,
            report.frozen_term,
            report.rule,
            report.doing,
            tuple((c.probe, c.target, c.health, min(c.failures, 9)) for c in report.claims if c.failures),
            facts and (facts.read_only, facts.replication and (facts.replication.source, facts.replication.receiver)),
        )
        interval_ms = view.policy.renew_ms // 2 if report.asks_ms else view.policy.report_ms  # each asking is a round
        due = state.pushed_ms is None or view.now_ms - state.pushed_ms >= interval_ms
        if due or substance != state.pushed:
            self.see(sendings=view.sendings.sent(view.now_ms))
            self.state = replace(self.state, pushed_ms=view.now_ms, pushed=substance)
            self.effects.append(Push(replace(report, number=self.view.sendings.last)))


def role_of(state: State) -> Role:
    """What this node is for clients, as it stands."""
    view = state.view
    if view.me.kind is NodeKind.ARBITER:
        return Role.ARBITER
    if view.i_hold() and view.gate is GateState.OPEN:
        return Role.PRIMARY
    facts = view.database
    if view.gate is GateState.CLOSED and facts is not None and facts.read_only and facts.replication is not None:
        return Role.REPLICA
    return Role.FENCED


def make_report(state: State) -> Report:
    """What this node would tell the others now; its number is that of the last one sent."""
    view = state.view
    request = view.record.request if view.record else None
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
        frozen_term=view.frozen_term,
        database=view.database,
        claims=tuple(seen.claim() for seen in view.sightings),
        findings=view.findings,
        rule=state.rule.id if state.rule else "",
        doing=", ".join(step.kind.value for step in state.progress.running),
        vip=view.vip,
        host=view.host,
        request=request.id if request is not None and request.target == view.me.name else "",
        store_answers=view.store_answers(),
        asks_ms=view.policy.ttl_ms if view.asking() else 0,
        promised=view.promised_to(),
        units=view.units,
    )
