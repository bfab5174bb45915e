"""From a decision to the next step of this node.

A plan is a row of steps in a table. Which of them are still needed is asked of the facts each time, so that a plan
that was interrupted anywhere goes on where it is, and one that the world undid is done again.

    SERVE     (restart a unit) · freeze · apply · become source · await replica · writable · journal
              · gate + VIP + ARP · break locks · prove
    DEMOTE    close gate · read-only (or kill the server)
    GIVE_BACK the same, then the store is told (machine)
    PREPARE   freeze · apply
    FENCE     cut the old primary's power, and meanwhile the same
    RECEIVE   await the given position · freeze · apply
    FOLLOW    close gate · read-only · follow
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from failoverd.core.effects import Step, StepKind
from failoverd.core.model import Outcome, Thread
from failoverd.core.rules import Decision, restart_not_tried
from failoverd.core.view import GateState, View

PLANS: dict[Decision, tuple[StepKind, ...]] = {
    Decision.SERVE: (
        StepKind.RESTART_UNIT,
        StepKind.FREEZE,
        StepKind.APPLY,
        StepKind.BECOME_SOURCE,
        StepKind.AWAIT_REPLICA,
        StepKind.MAKE_WRITABLE,
        StepKind.WRITE_JOURNAL,
        StepKind.OPEN_GATE,
        StepKind.BREAK_LOCKS,
        StepKind.PROVE,
    ),
    Decision.GIVE_BACK: (StepKind.CLOSE_GATE, StepKind.MAKE_READ_ONLY, StepKind.KILL_DATABASE),
    Decision.DEMOTE: (StepKind.CLOSE_GATE, StepKind.MAKE_READ_ONLY, StepKind.KILL_DATABASE),
    Decision.STAY_FENCED: (StepKind.CLOSE_GATE, StepKind.MAKE_READ_ONLY, StepKind.KILL_DATABASE, StepKind.FREEZE),
    Decision.PREPARE: (StepKind.FREEZE, StepKind.APPLY),
    Decision.FENCE: (StepKind.FENCE, StepKind.FREEZE, StepKind.APPLY),
    Decision.RECEIVE: (StepKind.AWAIT_POSITION, StepKind.FREEZE, StepKind.APPLY),
    Decision.FOLLOW: (StepKind.CLOSE_GATE, StepKind.MAKE_READ_ONLY, StepKind.FOLLOW),
}

# Steps whose failure does not hold up the rest. Waiting for a replica or for the journal's commit is not worth an
# outage for readers: semi-sync is on by then, so a write that nobody can acknowledge waits by itself.
OPTIONAL = {
    StepKind.AWAIT_REPLICA,
    StepKind.WRITE_JOURNAL,
    StepKind.BREAK_LOCKS,
    StepKind.PROVE,
}

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
    StepKind.WRITE_JOURNAL: 2000,
    StepKind.KILL_DATABASE: 5000,
    StepKind.FOLLOW: 6000,
    StepKind.RESTART_UNIT: 6000,
    StepKind.BREAK_LOCKS: 60_000,
    StepKind.PROVE: 5000,
}  # MAKE_READ_ONLY: the demote budget

# What follows does not wait for a step of these that failed: the database must become read-only even where the gate
# cannot be closed, and positions must be final by the lease's end where no agent answers.
GO_ON_AFTER = {StepKind.CLOSE_GATE, StepKind.FENCE}

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
    return not (
        progress.done(StepKind.FOLLOW)
        and replication is not None
        and replication.source == view.node(holder).address
        and replication.receiver is not Thread.STOPPED
        and replication.applier is not Thread.STOPPED
    )


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
    StepKind.FOLLOW: _follow_needed,
    StepKind.FENCE: lambda view, _progress: view.fenced_term != view.highest_term,
}  # all others: until they succeeded in this plan


def next_step(view: View, decision: Decision, progress: Progress) -> StepKind | None:
    """The first step of the decision's plan that is still needed and may be tried now; None when there is none."""
    for kind in PLANS.get(decision, ()):
        if not NEEDED.get(kind, _not_done(kind))(view, progress):
            continue
        if kind is StepKind.FENCE and any(step.kind is kind for step in progress.running):
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
    if facts is not None and (not facts.semi_sync_source or facts.replication is not None):
        found |= {StepKind.BECOME_SOURCE}
    seen, opened = view.sighting("vip", view.me.name), progress.of(StepKind.OPEN_GATE)
    if seen is not None and opened is not None:
        began_ms = seen.observation.ended_ms - seen.observation.took_ms
        if began_ms > opened.at_ms and view.vip is not None and not view.vip.present:
            found |= {StepKind.OPEN_GATE}
    return found


def make_step(view: View, kind: StepKind, number: int) -> Step:  # noqa: PLR0911 - one case a step
    """The step with its arguments from the view."""
    record = view.record
    deadline_ms = DEADLINES.get(kind, view.policy.demote_budget_ms)
    step = Step(kind=kind, term=view.highest_term, number=number, deadline_ms=deadline_ms)
    match kind:
        case StepKind.FOLLOW:
            holder = view.holder
            if holder is None:
                raise AssertionError("FOLLOW is decided only where there is a holder")
            return replace(step, address=view.node(holder).address)
        case StepKind.AWAIT_POSITION:
            return replace(step, position=record.position if record else None)
        case StepKind.WRITE_JOURNAL | StepKind.BREAK_LOCKS:
            return replace(step, previous=record.previous if record else None, reason=record.reason if record else "")
        case StepKind.RESTART_UNIT:
            service, unit, why = view.failing_here[0]
            return replace(step, service=service, unit=unit, reason=why)
        case StepKind.FENCE:
            return replace(step, target=record.holder if record else None, deadline_ms=view.policy.fence_ms)
        case StepKind.KILL_DATABASE:
            return replace(step, unit=view.policy.database_unit)
        case _:
            return step
