"""Moving the record from one store to another while the primary serves: `failoverctl store migrate`.

    next store   nothing ──reserve──> a place, with a name that nobody else has ──> every node says that it has seen it
    old store    term 7, counter 41 ──seal──> the same, sealed for that place: nobody writes it any more
    next store   the place ──first swap──> term 7, counter 42 ──> ...

The seal is one swap on the old store and changes nothing else of the record. From then on the record counts at its
place. Until somebody has written it there, the sealed one *is* the record, and whoever swaps next has the place adopt
it: the holder with its next renewal, or a candidate, should the holder be lost just then. That one swap decides, as any
other. So there is one line of records, with growing versions, and the lease's rules need not know of it
(stores/moving.py).

**What is left over** by an attempt that was given up is a place, and means nothing: the record counts where it did. The
next attempt takes the same place, or for a later move puts its own there. It does that only where it has read the
record, not sealed, on this side of the move: a place that a sealed record is on its way to is nobody else's.

**Why a place.** A configuration can be the same on all nodes and still lead them to different stores: a wrong address
among the endpoints, another etcd with the same prefix. Two nodes that wrote the record to two stores would be two
primaries. A name that was drawn for this move, seen by every node before the seal and looked for by each before it
writes, cannot be in two stores.

**No way back by itself.** A node that has read the seal never reads the old store again. Across restarts it remembers
`moves` (lease.Memory): an old copy of the store that was left, from before the seal, is refused like one of a lower
term. A node that was away all the time knows of no seal, but hears of it in the others' reports (Report.moves).

**While both are configured.** Nodes are restarted one by one, first into a file with `store.next`, later into one where
that is the store. A report names the digest of its sender's membership as it is, and as it is to be with `next`: two
nodes that share one of the two are alike (Known.alike). So no restart of the two rounds parts the cluster.
"""

from __future__ import annotations

from collections.abc import Iterator

from failoverd.core import lease
from failoverd.core.model import Record, Rejected
from failoverd.core.view import View

LOOKED_MS = 30_000  # a look at the next store, some seconds apart, counts for so long

CODES = {
    "BLK_NEXT_STORE": "there is no next store to move to, or not the same on every node",
    "BLK_NEXT_SILENT": "the next store does not answer a node",
    "BLK_NEXT_TAKEN": "the next store has a record already, which nobody has sealed",
    "BLK_NEXT_UNSEEN": "a node does not find the place that is reserved in the next store: it looks into another one",
    "BLK_SOFTWARE": "a node runs another release of failoverd",
}


def to_remember(view: View) -> tuple[int, str]:
    """(moves, moved_to) for this node's disk: of the record, unless it is one that this node refuses."""
    record, memory = view.record, view.memory
    if record is None or not lease.acceptable(record, view.highest_term, memory.moves):
        return memory.moves, memory.moved_to
    return record.moves, record.moved_to


def known_moves(view: View) -> int:
    """How often the record was moved, as far as this node has read."""
    return to_remember(view)[0]


def next_answers(view: View) -> bool:
    """The store that the record may be moved to has answered this node lately."""
    target = view.target
    return target is not None and target.record is not None and not view.reached(target.seen_ms + LOOKED_MS)


def next_place(view: View) -> str:
    """The name of the place that this node has seen reserved in the next store for the next move, or ""."""
    there = view.target.record if view.target is not None else None
    if there is None or not there.is_place:
        return ""
    return there.moved_to if (there.moves, there.reason) == (known_moves(view) + 1, view.membership_next) else ""


def place_of(view: View, name: str) -> Record:
    """The place to be reserved in the next store. The digest says for which cluster, to whoever finds it."""
    return Record(moves=known_moves(view) + 1, moved_to=name, sealed=True, reason=view.membership_next)


def rejections(view: View, software: str) -> tuple[Rejected, ...]:
    """Why the record may not be moved now; `software`: the release that every node has to be of.

    What the store itself says against any order is `orders.store_rejection`.
    """
    return (*_of_the_record(view), *_of_the_nodes(view, software), *_of_the_target(view))


def sealing_rejections(view: View, place: str) -> tuple[Rejected, ...]:
    """Why the record may not be sealed for `place` now, which was reserved for it; empty where it may."""
    found = [*_of_the_record(view), *_of_the_nodes(view, "")]
    seen = {view.me.name: next_place(view), **{name: report.next_place for name, report in view.fresh.items()}}
    text = "does not find the place that is reserved in the next store: does it look into another one?"
    found += [Rejected(name, "BLK_NEXT_UNSEEN", f"{name} {text}") for name, known in seen.items() if known != place]
    return tuple(found)


def _of_the_record(view: View) -> Iterator[Rejected]:
    me, record = view.me.name, view.record
    if record is None:
        return
    if record.sealed:
        yield Rejected(me, "BLK_REQUEST", "the record is sealed, and on its way to another store")
    if record.paused:
        yield Rejected(me, "BLK_PAUSED", f"paused by {record.paused}: nobody would take over where the primary is lost")
    if record.request is not None:
        text = f"{record.request.by} asked for {record.request.target}, not ended yet"
        yield Rejected(me, "BLK_REQUEST", text)
    rebuilding = [name for name, report in view.fresh.items() if report.rebuilding]
    if view.i_am_rebuilding():
        rebuilding.append(me)
    for name in rebuilding:
        yield Rejected(name, "BLK_REBUILDING", f"{name}'s database is being made anew: one change at a time")
    if record.revoked or record.condemned_by is not None or view.lease_is_over():
        text = "nobody holds the lease: who would write the record to the next store?"
        yield Rejected(me, "BLK_NO_PRIMARY", text)


def _of_the_nodes(view: View, software: str) -> Iterator[Rejected]:
    me = view.me.name
    if not view.membership_next:
        text = f"{me} has no store.next in its configuration, or was not restarted since"
        yield Rejected(me, "BLK_NEXT_STORE", text)
        return
    for node in view.nodes:
        report = view.report_of(node.name)
        if node.name == me:
            continue
        if report is None:
            text = f"no report from {node.name} within {view.policy.report_max_age_ms} ms: every node has to follow"
            yield Rejected(node.name, "BLK_UNREACHABLE", text)
        elif (report.membership, report.membership_next) != (view.membership, view.membership_next):
            text = f"{node.name} has another configuration of store and store.next, or was not restarted since"
            yield Rejected(node.name, "BLK_NEXT_STORE", text)
        elif software and report.software != software:
            text = f"{node.name} runs failoverd {report.software}, and {me} runs {software}"
            yield Rejected(node.name, "BLK_SOFTWARE", text)
        elif not report.next_answers:
            yield Rejected(node.name, "BLK_NEXT_SILENT", f"the next store does not answer {node.name}")


def _of_the_target(view: View) -> Iterator[Rejected]:
    me, target, record = view.me.name, view.target, view.record
    if not view.membership_next or record is None:
        return
    if target is None or target.record is None or not next_answers(view):
        text = f"the next store does not answer {me}: {target.reason if target is not None else 'not asked yet'}"
        yield Rejected(me, "BLK_NEXT_SILENT", text)
    elif text := _in_the_way(view, target.record, record):
        yield Rejected(me, "BLK_NEXT_TAKEN", text)


def _in_the_way(view: View, there: Record, record: Record) -> str:
    """Why what the next store has is not this cluster's own, given up at an earlier move; "" where it may be."""
    if there.version == 0:
        return ""
    if there.is_place:
        other = there.moves > record.moves and (there.moves, there.reason) != (record.moves + 1, view.membership_next)
        return f"a place is reserved there for move {there.moves} of another cluster" if other else ""
    what = f"the next store has a record of term {there.term} with {there.holder} as primary"
    if not there.sealed:
        return f"{what}, which was not moved from there: is it another cluster's?"
    if there.moves > record.moves or there.term > record.term:
        return (
            f"{what} after {there.moves} moves, newer than the present one of term {record.term} after {record.moves}"
        )
    return ""
