"""Going on without a replica, where the operator wants that: `RPO unproven` in the store first, and proven again after.

While a commit waits for a replica, what clients were told is on two nodes, and positions prove where it is. A primary
that stops waiting breaks that proof. So the store says so before it does (`Record.unproven`), and while it says so only
the primary's own word lets anybody else take over (heirs.proof_missing).

    nobody acknowledges for `go_on_after` ──MARK──> in the store ──STOP_WAITING──> clients go on, unproven
    somebody follows and is level ──BECOME_SOURCE──> commits wait again, P noted ──> a replica has P ──CLEAR──> proven

A commit that was let go by a hand is marked as well: the server counts them (`DatabaseFacts.unacknowledged`), and the
count that was last accounted for is on this node's disk (`Memory.let_go`), so that a restart of failoverd hides none.

**Why this daemon's own MARK.** That the record says unproven is not enough to stop waiting: a CLEAR of an earlier run
of this daemon may be on its way, and fits as long as its version stands. A MARK that the store took has another
version, so that no CLEAR decided before it can arrive any more. From the sending of a CLEAR on, a new one is needed.

**An old copy of the store** may lack the mark. Marks are counted in the record (`Record.marks`); every node keeps the
newest on its disk and in its reports, and takes a record with fewer for what it is: it acts on the newest, and whoever
swaps next puts it back.

**Why P is noted at the second reading.** One reading is not one moment. What was let go raised the counter: where two
readings, both with waiting on, have the same count, nothing was let go in between, and all that was let go before is in
the position that the second gives.
"""

from __future__ import annotations

from dataclasses import replace

from failoverd.core import bounded
from failoverd.core.known import Waits
from failoverd.core.lease import Memory
from failoverd.core.model import DatabaseFacts, NodeName, Record, Report, Thread
from failoverd.core.view import GateState, View


def marked(record: Record, why: str) -> Record:
    """The record with `why` as what is unproven, "" for nothing. A bound is said anew where there is one."""
    return replace(bounded.unmarked(record), unproven=why, marks=record.marks + 1)


def remembered(view: View, record: Record) -> Record:
    """The record with the newest that this node knows of what is unproven: it may be an old copy of the store.

    Its own disk knows, and the others say it: where it was marked, the replicas were away, and the copy that they find
    when they come back may be one from before. Of others only that something is unproven is believed, which is safe.
    """
    newest: Record | Memory | Report = record
    told: list[Memory | Report] = [view.memory, *(report for report in view.fresh.values() if report.unproven)]
    for said in told:
        if said.marks > newest.marks:
            newest = said
    if newest is record:
        return record
    return replace(bounded.unmarked(record), unproven=newest.unproven, marks=newest.marks)


def _marked_in_store(view: View) -> bool:
    record = view.record
    return record is not None and bool(record.unproven) and record.term == view.highest_term


def _i_own_the_record(view: View) -> bool:
    record = view.record
    mine = record is not None and record.holder == view.me.name and record.term == view.highest_term
    return mine and view.i_hold() and record is not None and not record.revoked


def _waited_long_enough(view: View) -> bool:
    """Clients have waited for as long as the operator wants them to, and the policy is to go on then."""
    after_ms, seen_ms = view.policy.go_on_after_ms, view.beat_seen_ms
    if after_ms is None or seen_ms is None or view.paused() or view.leaving is not None:
        return False
    serves = view.gate is GateState.OPEN and view.served_term == view.highest_term
    waits = view.database is not None and not view.database.read_only and view.database.semi_sync_source
    return serves and waits and view.reached(seen_ms + after_ms)


def to_be_marked(view: View) -> str:
    """Why the store must say that what clients are told may be only here; "" where it need not."""
    facts = view.database
    if not _i_own_the_record(view) or facts is None or view.memory.term != view.highest_term:
        return ""
    if view.policy.bound_ms is not None:
        return bounded.to_be_marked(view)
    marked = view.marked_term == view.highest_term and _marked_in_store(view)
    if marked:
        return ""
    since = f"since heartbeat {facts.heartbeat_beat} of term {view.highest_term} of {view.me.name}"
    told = view.let_go[1] if view.let_go and view.let_go[0] == view.highest_term else view.memory.let_go
    if not facts.read_only and facts.unacknowledged != told:
        return f"the server let commits go without a replica, {since}"
    if _waited_long_enough(view):
        return f"no replica acknowledges, and writes go on all the same, {since}"
    return ""


def may_stop_waiting(view: View) -> bool:
    """The store has taken this daemon's own word, and nobody acknowledges for too long; or commits never wait here."""
    if view.policy.bound_ms is not None:
        facts, serves = view.database, view.served_term == view.highest_term
        waits = facts is not None and not facts.read_only and facts.semi_sync_source
        return serves and waits and bounded.marked_by_me(view) and _i_own_the_record(view)
    marked = view.marked_term == view.highest_term and _marked_in_store(view)
    return marked and _i_own_the_record(view) and _waited_long_enough(view)


def goes_on(view: View) -> bool:
    """Commits do not wait here, as the store says, and are not to: nobody is there yet who could acknowledge them."""
    facts, never = view.database, view.policy.bound_ms is not None
    if (view.policy.go_on_after_ms is None and not never) or not _marked_in_store(view) or not _i_own_the_record(view):
        return False
    return (
        facts is not None
        and not facts.read_only
        and facts.replication is None
        and (never or not _somebody_is_level(view))
    )


def _follower(view: View, name: NodeName) -> DatabaseFacts | None:
    """The database of `name`, where it receives from this node and is to go on doing so: what it has is to stay."""
    facts = view.facts_of(name) if name != view.me.name and not view.rebuilding(name) else None
    replication = facts.replication if facts else None
    if replication is None or replication.source != view.me.address or replication.receiver is not Thread.RUNNING:
        return None
    return None if view.gone_astray(name) else facts


def _somebody_is_level(view: View) -> bool:
    for node in view.data_nodes:
        lag_ms = view.lag_ms(node.name)
        if _follower(view, node.name) and lag_ms is not None and lag_ms <= view.policy.switchover_lag_ms:
            return True
    return False


def waits_again(view: View, facts: DatabaseFacts) -> Waits | None:
    """What is to be noted at a reading: that commits wait here, and behind which position all that was let go is."""
    if not _marked_in_store(view) or not _i_own_the_record(view) or view.served_term != view.highest_term:
        return None
    if facts.read_only or not facts.semi_sync_source:
        return None
    before = view.waits
    if before is None or (before.term, before.run, before.count) != (
        view.highest_term,
        facts.run,
        facts.unacknowledged,
    ):
        return Waits(view.highest_term, facts.run, facts.unacknowledged, None)
    return before if before.behind is not None else Waits(before.term, before.run, before.count, facts.position)


def proven_by(view: View) -> NodeName | None:
    """A replica that has applied all that was let go, while commits wait again; None where there is none yet."""
    facts, waits = view.database, view.waits
    if facts is None or waits is None or waits.behind is None or not _marked_in_store(view):
        return None
    if not _i_own_the_record(view) or facts.read_only or not facts.semi_sync_source:
        return None
    if view.policy.bound_ms is not None:
        return None  # they wait for a moment only
    if (waits.term, waits.run, waits.count) != (view.highest_term, facts.run, facts.unacknowledged):
        return None
    for node in view.data_nodes:
        theirs = _follower(view, node.name)
        if theirs is not None and theirs.heartbeat_term == view.highest_term and theirs.applied.covers(waits.behind):
            return node.name
    return None
