"""From a decision to the next step of this node.

A plan is a row of steps in a table. Which of them are still needed is asked of the facts each time, so that a plan
that was interrupted anywhere goes on where it is, and one that the world undid is done again.

    SERVE     (restart a unit) · freeze · apply · become source · await replica · writable
              · (stop waiting for a replica) · journal · gate + VIP + ARP · break locks · prove
              · release the mail queue
    DEMOTE    close gate · read-only (or kill the server)
    GIVE_BACK drain the mail queue (planned) · the same, then the store is told (machine)
    PREPARE   freeze · apply
    FENCE     cut the old primary's power, and meanwhile the same
    RECEIVE   await the given position · freeze · apply
    FOLLOW    close gate · read-only · follow · hand the mail queue on
    REBUILD   close gate · read-only (or kill the server) · start the rebuild, a process of its own
              · hand the mail queue on

Where the mail store moves with the role, SERVE takes it after what was received is applied and starts the services
right before the gate; all others stop them and leave it once the gate is closed, beside the rest (see mail_store).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from failoverd.core import mail_store, rejoin, unproven
from failoverd.core.effects import LANES, Lane, Step, StepKind
from failoverd.core.mail_store import LEAVING
from failoverd.core.model import NodeName, Outcome, QueueFacts, Thread
from failoverd.core.repair import to_rebuild
from failoverd.core.rules import Decision, restart_not_tried
from failoverd.core.view import GateState, View

PLANS: dict[Decision, tuple[StepKind, ...]] = {
    Decision.SERVE: (
        StepKind.RESTART_UNIT,
        StepKind.FREEZE,
        StepKind.APPLY,
        StepKind.TAKE_STORE,
        StepKind.BECOME_SOURCE,
        StepKind.AWAIT_REPLICA,
        StepKind.MAKE_WRITABLE,
        StepKind.STOP_WAITING,  # what is committed from here on would be waited for, the journal's row first
        StepKind.WRITE_JOURNAL,
        StepKind.START_SERVICES,
        StepKind.OPEN_GATE,
        StepKind.BREAK_LOCKS,
        StepKind.PROVE,
        StepKind.RELEASE,
    ),
    Decision.GIVE_BACK: (
        StepKind.DRAIN,
        StepKind.CLOSE_GATE,
        *LEAVING,
        StepKind.MAKE_READ_ONLY,
        StepKind.KILL_DATABASE,
    ),
    Decision.DEMOTE: (StepKind.CLOSE_GATE, *LEAVING, StepKind.MAKE_READ_ONLY, StepKind.KILL_DATABASE),
    Decision.STAY_FENCED: (
        StepKind.CLOSE_GATE,
        *LEAVING,
        StepKind.MAKE_READ_ONLY,
        StepKind.KILL_DATABASE,
        StepKind.FREEZE,
        StepKind.HAND_ON,
    ),
    Decision.OBSERVE: LEAVING,  # of a role that it had; otherwise it touches nothing
    Decision.PREPARE: (*LEAVING, StepKind.FREEZE, StepKind.APPLY),
    Decision.FENCE: (*LEAVING, StepKind.FENCE, StepKind.FREEZE, StepKind.APPLY),
    Decision.RECEIVE: (*LEAVING, StepKind.AWAIT_POSITION, StepKind.FREEZE, StepKind.APPLY),
    Decision.FOLLOW: (StepKind.CLOSE_GATE, *LEAVING, StepKind.MAKE_READ_ONLY, StepKind.FOLLOW, StepKind.HAND_ON),
    Decision.REBUILD: (
        StepKind.CLOSE_GATE,
        *LEAVING,
        StepKind.MAKE_READ_ONLY,
        StepKind.KILL_DATABASE,
        StepKind.START_REBUILD,
        StepKind.HAND_ON,  # a rebuild may take hours, and mail does not wait for a database
    ),
}

# Steps whose failure does not hold up the rest. Waiting for a replica or for the journal's commit is not worth an
# outage for readers: semi-sync is on by then, so a write that nobody can acknowledge waits by itself.
OPTIONAL = {
    StepKind.AWAIT_REPLICA,
    StepKind.WRITE_JOURNAL,
    StepKind.BREAK_LOCKS,
    StepKind.PROVE,
    StepKind.DRAIN,
}

# No sign that this node cannot serve, however often they fail: mail that waits a while longer is not lost, and a server
# that goes on waiting for a replica serves readers as before. Whoever stepped down for it would take along what clients
# were told and nobody else has.
AT_LEISURE = {StepKind.HAND_ON, StepKind.RELEASE, StepKind.STOP_WAITING}

# How long a step may take, in ms. What a lease holder waits for must not outlast several leases; what is slow by
# nature (a relay log) is asked again.
DEADLINES: dict[StepKind, int] = {
    StepKind.CLOSE_GATE: 300,
    StepKind.OPEN_GATE: 300,
    StepKind.FREEZE: 4000,
    StepKind.AWAIT_POSITION: 2000,
    StepKind.APPLY: 10_000,
    StepKind.BECOME_SOURCE: 4000,
    StepKind.AWAIT_REPLICA: 3000,
    StepKind.MAKE_WRITABLE: 2000,
    StepKind.STOP_WAITING: 2000,
    StepKind.WRITE_JOURNAL: 2000,
    StepKind.KILL_DATABASE: 5000,
    StepKind.FOLLOW: 6000,
    StepKind.RESTART_UNIT: 6000,
    StepKind.BREAK_LOCKS: 60_000,
    StepKind.PROVE: 5000,
    StepKind.HAND_ON: 120_000,
    StepKind.RELEASE: 120_000,
    StepKind.START_SERVICES: 15_000,
    StepKind.STOP_SERVICES: 10_000,
    StepKind.START_REBUILD: 5000,
}  # all others: the policy's (_deadline_ms)

# What follows does not wait for a step of these that failed: the database must become read-only even where the gate
# cannot be closed, and positions must be final by the lease's end where no agent answers.
GO_ON_AFTER = {StepKind.CLOSE_GATE, StepKind.FENCE, StepKind.STOP_WAITING, *LEAVING}
BESIDE = {
    StepKind.FENCE,
    StepKind.STOP_WAITING,
    *LEAVING,
}  # what follows does not even wait for their end, or for their lane to be free

QUEUE_RETRY_FIRST_MS = 5_000  # a mail server that says "later" means minutes
QUEUE_RETRY_MOST_MS = 300_000
DRAIN_LATE_MS = 200  # how late the answer may be

RETRY_FIRST_MS = 200
RETRY_MOST_MS = 2000


@dataclass(frozen=True, slots=True)
class Ended:
    """How the newest attempt at one step ended, and how often in a row it did not succeed."""

    kind: StepKind
    outcome: Outcome
    at_ms: int
    failures: int
    code: str = ""
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Progress:
    """Where this node is in its plan. `key` is decision and term: another key starts anew."""

    key: tuple[str, int] = ("", 0)
    ended: tuple[Ended, ...] = ()
    running: tuple[Step, ...] = ()
    number: int = 0

    def of(self, kind: StepKind) -> Ended | None:
        """How `kind` last ended in this plan."""
        for ended in self.ended:
            if ended.kind is kind:
                return ended
        return None

    def done(self, kind: StepKind) -> bool:
        """Whether `kind` succeeded in this plan."""
        ended = self.of(kind)
        return ended is not None and ended.outcome is Outcome.SUCCEEDED

    def with_ended(self, ended: Ended) -> Progress:
        """The newest end of a step replaces the former one of its kind."""
        others = tuple(e for e in self.ended if e.kind is not ended.kind)
        return replace(self, ended=(*others, ended))

    def without(self, kinds: set[StepKind]) -> Progress:
        """Forget that these were done: the world says otherwise."""
        return replace(self, ended=tuple(e for e in self.ended if e.kind not in kinds))


Needed = Callable[[View, Progress], bool]


def _not_done(kind: StepKind) -> Needed:
    return lambda _view, progress: not progress.done(kind)


def _mail_store_needs(kind: StepKind) -> Needed:
    return lambda view, _progress: mail_store.needed(view, kind, closed=view.gate is GateState.CLOSED)


def _killed_at_once(view: View, progress: Progress) -> bool:
    """A server whose commits can come to no end is ended as it is.

    What waits there was acknowledged to nobody. A client that is killed while its commit waits leaves the transaction
    behind, or half of it where the disk is full, and with it a server that cannot come home; a server that is killed
    drops it when it recovers (prior-art 6.6).
    """
    leaving, tried = view.leaving, progress.of(StepKind.KILL_DATABASE)
    stuck = leaving is not None and not leaving.undo and (leaving.rule == "writes-stuck" or view.database_disk_failing)
    return stuck and tried is None


def _read_only_needed(view: View, progress: Progress) -> bool:
    """A server that does not answer is left alone, since it may be recovering, unless a term hangs on it."""
    if _killed_at_once(view, progress):
        return False
    if view.database is None:
        tried = progress.done(StepKind.MAKE_READ_ONLY) or progress.done(StepKind.KILL_DATABASE)
        return view.leaving is not None and not tried
    return not view.database.read_only


def _freeze_needed(view: View, progress: Progress) -> bool:
    if progress.key[0] == Decision.STAY_FENCED.value:
        # What it receives from a third node, which may follow the primary, always looks like more than the primary had
        # told of. Only when it stands still can it be compared.
        missing = view.missing_at_holder()
        return missing is not None and bool(missing.parts) and view.receives_from_another()
    if view.i_am_frozen() or view.served_term == view.highest_term:
        return False
    return not (progress.done(StepKind.FREEZE) and view.database is not None and not view.database.receives)


def _kill_needed(view: View, progress: Progress) -> bool:
    """SQL that does not obey is not argued with; a planned switchover is taken back instead."""
    if _killed_at_once(view, progress):
        return not progress.done(StepKind.KILL_DATABASE)
    tried = progress.of(StepKind.MAKE_READ_ONLY)
    planned = view.leaving is not None and view.leaving.undo
    disobeyed = tried is not None and tried.outcome is not Outcome.SUCCEEDED
    return disobeyed and not planned and not progress.done(StepKind.KILL_DATABASE)


def _follow_needed(view: View, progress: Progress) -> bool:
    facts, holder = view.database, view.holder
    if facts is None or holder is None:
        return False
    replication = facts.replication
    if replication is not None and replication.source == view.node(holder).address and to_rebuild(replication):
        return False  # the same event would fail the same way for ever; REPL_DIVERGED or REPL_PURGED says what ends it
    return not (
        progress.done(StepKind.FOLLOW)
        and replication is not None
        and replication.source == view.node(holder).address
        and replication.receiver is not Thread.STOPPED
        and replication.applier is not Thread.STOPPED
    )


def _queue_asked(view: View, progress: Progress, kind: StepKind) -> QueueFacts | None:
    """What was seen in the mail queue since `kind` last ended, where it may be tried (again) now."""
    seen, ended, facts = view.sighting("queue", view.me.name), progress.of(kind), view.queue
    if seen is None or facts is None or view.paused():
        return None
    if ended is not None:
        if seen.observation.ended_ms - seen.observation.took_ms < ended.at_ms:
            return None
        wait_ms = min(QUEUE_RETRY_FIRST_MS << min(max(ended.failures - 1, 0), 6), QUEUE_RETRY_MOST_MS)
        if not view.reached(ended.at_ms + wait_ms) and not _mailboxes_are_back(view, ended):
            return None
    return facts


def _mailboxes_are_back(view: View, tried: Ended) -> bool:
    """This node's own IMAP answers again since an attempt that failed: what was asked of its mailboxes can be answered.

    Mail that was being delivered when Dovecot died is held, and nobody can say without Dovecot whether it had arrived.
    """
    seen = view.sighting("imap", view.me.name)
    return (
        tried.outcome is not Outcome.SUCCEEDED
        and seen is not None
        and not seen.failures
        and seen.since_ms > tried.at_ms
    )


def _hand_on_needed(view: View, progress: Progress) -> bool:
    """Something waits in the mail queue of a node that is no primary, and there is one that serves."""
    facts = _queue_asked(view, progress, StepKind.HAND_ON)
    if facts is None or not facts.waiting or view.holder in (None, view.me.name):
        return False
    report = view.fresh.get(NodeName(str(view.holder)))
    return report is not None and report.serving and report.term == view.highest_term


def _release_needed(view: View, progress: Progress) -> bool:
    """This node serves, and holds messages from when it did not."""
    facts = _queue_asked(view, progress, StepKind.RELEASE)
    return facts is not None and facts.held > 0 and view.gate is GateState.OPEN


def _journal_needed(view: View, progress: Progress) -> bool:
    """Not while it would wait for a replica, where commits are about to wait for none."""
    facts = view.database
    soon = view.policy.bound_ms is not None and progress.of(StepKind.STOP_WAITING) is None
    return not progress.done(StepKind.WRITE_JOURNAL) and not (soon and facts is not None and facts.semi_sync_source)


def _drain_needed(view: View, progress: Progress) -> bool:
    """Once, and only on purpose: while the gate is open, since the mail is delivered through it.

    Not for longer than it may take, whether it answers or has been begun at all (it waits for its record in the audit).
    """
    leaving, drain_ms = view.leaving, view.policy.drain_ms
    if leaving is None or not leaving.undo or not drain_ms or view.gate is not GateState.OPEN:
        return False
    return progress.of(StepKind.DRAIN) is None and not view.reached(leaving.began_ms + drain_ms + DRAIN_LATE_MS)


NEEDED: dict[StepKind, Needed] = {
    StepKind.CLOSE_GATE: lambda view, _progress: view.gate is not GateState.CLOSED,
    StepKind.OPEN_GATE: lambda view, progress: view.gate is not GateState.OPEN or not progress.done(StepKind.OPEN_GATE),
    StepKind.FREEZE: _freeze_needed,
    StepKind.APPLY: lambda view, _progress: (
        not view.relay_log_applied() and (view.served_term == 0 or view.served_term != view.highest_term)
    ),
    StepKind.RESTART_UNIT: lambda view, _progress: restart_not_tried(view),
    StepKind.BREAK_LOCKS: lambda view, progress: (
        not progress.done(StepKind.BREAK_LOCKS) and view.record is not None and view.record.previous is not None
    ),
    StepKind.AWAIT_POSITION: lambda view, progress: (
        view.record is not None
        and view.record.position is not None
        and not view.i_am_frozen()
        and not progress.done(StepKind.AWAIT_POSITION)
    ),
    StepKind.MAKE_READ_ONLY: _read_only_needed,
    StepKind.KILL_DATABASE: _kill_needed,
    StepKind.AWAIT_REPLICA: lambda view, progress: (
        not progress.done(StepKind.AWAIT_REPLICA) and view.policy.bound_ms is None
    ),
    StepKind.WRITE_JOURNAL: _journal_needed,
    StepKind.STOP_WAITING: lambda view, _progress: unproven.may_stop_waiting(view),
    StepKind.FOLLOW: _follow_needed,
    StepKind.DRAIN: _drain_needed,
    StepKind.HAND_ON: _hand_on_needed,
    StepKind.RELEASE: _release_needed,
    StepKind.START_REBUILD: lambda view, _progress: rejoin.start_due(view),
    StepKind.FENCE: lambda view, _progress: view.fenced_term != view.highest_term,
    **{kind: _mail_store_needs(kind) for kind in mail_store.STEPS},
}  # all others: until they succeeded in this plan


def next_step(view: View, decision: Decision, progress: Progress) -> StepKind | None:
    """The first step of the decision's plan that is still needed and may be tried now; None when there is none."""
    for kind in PLANS.get(decision, ()):
        if not NEEDED.get(kind, _not_done(kind))(view, progress):
            continue
        if kind in BESIDE and any(step.lane is LANES.get(kind, Lane.DATABASE) for step in progress.running):
            continue
        ended = progress.of(kind)
        if ended is None or ended.outcome is Outcome.SUCCEEDED:
            return kind
        if kind in OPTIONAL or (kind is StepKind.MAKE_READ_ONLY and _kill_needed(view, progress)):
            continue  # what is optional is not tried again in this plan
        wait_ms = min(RETRY_FIRST_MS << min(ended.failures - 1, 6), RETRY_MOST_MS)
        if view.reached(ended.at_ms + wait_ms):
            return kind
        if kind not in GO_ON_AFTER:
            return None
    return None


def undone(view: View, decision: Decision, progress: Progress) -> set[StepKind]:
    """Steps of a finished plan that the facts now contradict: somebody else's hand, or a restarted server."""
    facts = view.database
    found: set[StepKind] = set()
    if decision is not Decision.SERVE or view.served_term != view.highest_term:
        return found
    if facts is not None and facts.read_only:
        found |= {StepKind.MAKE_WRITABLE}
    waits = facts is not None and facts.semi_sync_source
    if facts is not None and (facts.replication is not None or not (waits or unproven.goes_on(view))):
        found |= {StepKind.BECOME_SOURCE}
    seen, opened = view.sighting("vip", view.me.name), progress.of(StepKind.OPEN_GATE)
    if seen is not None and opened is not None:
        began_ms = seen.observation.ended_ms - seen.observation.took_ms
        if began_ms > opened.at_ms and view.vip is not None and not view.vip.present:
            found |= {StepKind.OPEN_GATE}
    return found


def make_step(view: View, kind: StepKind, number: int) -> Step:  # noqa: C901, PLR0911, PLR0912 - one case a step
    """The step with its arguments from the view."""
    record = view.record
    step = Step(kind=kind, term=view.highest_term, number=number, deadline_ms=_deadline_ms(view, kind))
    match kind:
        case StepKind.FOLLOW | StepKind.HAND_ON:
            holder = view.holder
            if holder is None:
                raise AssertionError(f"{kind} is needed only where there is a holder")
            return replace(step, address=view.node(holder).address, target=holder)
        case StepKind.AWAIT_POSITION:
            return replace(step, position=record.position if record else None)
        case StepKind.WRITE_JOURNAL | StepKind.BREAK_LOCKS:
            return replace(step, previous=record.previous if record else None, reason=record.reason if record else "")
        case StepKind.RESTART_UNIT:
            service, unit, why = view.failing_here[0]
            return replace(step, service=service, unit=unit, reason=why)
        case StepKind.FENCE:
            return replace(step, target=record.holder if record else None)
        case StepKind.RELEASE:
            return replace(step, address=view.me.address, target=view.me.name)
        case StepKind.START_REBUILD:
            wanted = view.rejoin
            if wanted is None:  # what a person began by hand, and nobody finished
                return step
            return replace(step, target=wanted.donor, from_primary=wanted.donor == view.holder, request=wanted.id)
        case StepKind.KILL_DATABASE:
            return replace(step, unit=view.policy.database_unit)
        case StepKind.TAKE_STORE:
            return replace(step, previous=record.previous if record else None)
        case StepKind.START_SERVICES | StepKind.STOP_SERVICES:
            return replace(step, units=tuple(unit for _, unit, _ in view.policy.services))
        case _:
            return step


def _deadline_ms(view: View, kind: StepKind) -> int:
    match kind:
        case StepKind.FENCE:
            return view.policy.fence_ms
        case StepKind.DRAIN:
            return view.policy.drain_ms
        case StepKind.TAKE_STORE | StepKind.RELEASE_STORE:
            return view.policy.store_ms
        case StepKind.MAKE_READ_ONLY:
            return view.policy.demote_budget_ms
        case _:
            return DEADLINES[kind]
