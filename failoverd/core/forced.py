"""A takeover that a named person forces, when what is left cannot prove that nothing acknowledged is lost.

It goes past the proof and past nothing else: the lease is over for a majority of observers, a fence that is required
is confirmed, nobody has paused the cluster, the node could serve, and all that it has received is applied. So there are
never two primaries, and what may be lost is what the others had and this node has not.

    asked for N, may lose ──> N's receiver is stopped, its relay log applied ──> N takes over
                          └─> the primary is back, or the time is up ──> dropped, nothing was forced

A request is for one term and for `request_ms`, counted by each node from when it first saw it: a node that comes back
later must not find an order that nobody remembers.
"""

from __future__ import annotations

from collections.abc import Iterator

from failoverd.core import candidates
from failoverd.core.gtid import GtidSet
from failoverd.core.model import Node, NodeKind, NodeName, Rejected, Request, RequestEnded
from failoverd.core.view import View

FORCED = "take-over-forced"
SAID_MOST = 1000  # of what is given up, in the store's record


def was_forced(reason: str) -> bool:
    """Whether a term with this reason in the record began so."""
    return reason.startswith(FORCED)


def expired(view: View) -> bool:
    """The request in the record could not be begun in time."""
    seen = view.request_seen
    return seen is not None and view.reached(seen[1] + view.policy.request_ms + 1)


def standing(view: View) -> Request | None:
    """The request to force a takeover, while it is of this term and in time."""
    record = view.record
    request = record.request if record else None
    if record is None or request is None or not request.allow_loss or request.term != record.term:
        return None
    return None if expired(view) else request


def forced_to_me(view: View) -> bool:
    """A person asked for this node as primary whatever may be lost, in this term and not long ago."""
    request = standing(view)
    return request is not None and request.target == view.me.name


def i_could_serve(view: View) -> bool:
    """This node is ready, and nothing stopped its applier."""
    return candidates.cannot_serve(view, view.me) is None


def to_be_dropped(view: View) -> bool:
    """A forced takeover that was not begun in time, and whose primary is not there to drop it."""
    record = view.record
    request = record.request if record else None
    return request is not None and request.allow_loss and view.lease_is_over() and expired(view)


def nobody_has_come_home(view: View) -> bool:
    """This term was forced, and nobody follows yet: the others may hold what was given up, and none could do better."""
    if view.record is None or not was_forced(view.record.reason):
        return False
    return all(report.rule != "replica-follows" for report in view.fresh.values())


def rejections(view: View, name: str) -> tuple[Rejected, ...]:
    """Why not even a forced takeover by `name` may be begun now; empty where it may."""
    wanted, record = NodeName(name), view.record
    node = next((known for known in view.nodes if known.name == wanted), None)
    if node is None or node.kind is not NodeKind.DATA:
        why = candidates.planned_rejection(view, name)
        return (why,) if why is not None else ()
    if record is None or record.holder is None or record.version == 0:
        return (Rejected(wanted, "BLK_NO_PRIMARY", "no primary was ever lost here: there is nothing to force"),)
    if (doubt := candidates.doubt(view, wanted)) is not None:
        return (doubt,)
    if not view.lease_is_over():
        text = f"the lease of {record.holder} is not over, or {view.me.name} has not seen its end: force is for a loss"
        return (Rejected(wanted, "BLK_LEASE", text),)
    return tuple(_still_in_the_way(view, node))


def _still_in_the_way(view: View, node: Node) -> Iterator[Rejected]:
    name, record = node.name, view.record
    if view.paused():
        yield Rejected(name, "BLK_PAUSED", "the cluster is paused: resume it first")
    if view.policy.fence_required and record is not None and not (record.revoked or record.off):
        yield Rejected(name, "BLK_FENCE", f"nobody has confirmed that {record.holder} has no power")
    if not view.lease_over_by_quorum():
        yield Rejected(name, "BLK_QUORUM", "no majority of observers has seen the lease run out")
    why, facts = candidates.cannot_serve(view, node), view.facts_of(name)
    if why is not None:
        yield why
    elif facts is not None and facts.replication is not None and not facts.applied.covers(facts.replication.received):
        yield Rejected(name, "BLK_NOT_APPLIED", f"{name} has received what it has not applied yet")


def passed(view: View, name: str) -> tuple[Rejected, ...]:
    """What keeps `name` from taking over without force, and would not with it; empty where it needs none."""
    return tuple(why for why in candidates.failover(view).rejected if why.node == name)


def may_be_lost(view: View, name: str) -> tuple[str, ...]:
    """What `name` is known to lack, and what nobody can know; one sentence each, empty where neither is so."""
    wanted, record = NodeName(name), view.record
    mine = view.position_of(wanted) or GtidSet()
    had: list[tuple[str, GtidSet]] = []
    unknown: list[str] = []
    for node in view.data_nodes:
        if node.name == wanted:
            continue
        facts = view.facts_of(node.name)
        if facts is None:
            unknown.append(node.name)
            last = next((report.database for report in view.reports if report.sender == node.name), None)
            if last is not None:
                had.append((f"{node.name} had when it was last heard", last.position))
        else:
            had.append((f"{node.name} has", facts.position))
    if record is not None and record.position is not None:
        had.append((f"{record.holder} had when it gave its term back", record.position))
    if record is not None and record.began is not None:
        had.append((f"{record.holder} had when its term began", record.began))
    here = [name for name in unknown if record is not None and record.unproven and name == record.holder]
    told = [f"{rest.count} transactions that {who}: {rest}" for who, p in had if (rest := p.minus(mine)).parts]
    if here and record is not None:
        told.append(f"what {record.holder} told clients and nobody else had: {record.unproven}")
    if unknown:
        told.append(f"whatever else only {' and '.join(unknown)} had, which nobody hears")
    return tuple(told)


def reason_of(view: View, request: Request) -> str:
    """What the record of the term says of how it began: who, why, and what was given up."""
    lost = "; ".join(may_be_lost(view, view.me.name)) or "nothing that is known"
    return f"{FORCED}: {request.by}: {request.reason}; given up: {lost}"[:SAID_MOST]


def ended(view: View, request: Request) -> RequestEnded:
    """How a request to force a takeover ends where it did not come to one: nothing was touched."""
    if view.i_hold() or not view.lease_is_over():
        reason = f"{view.holder} is primary in term {view.highest_term}: nothing was forced"
        return RequestEnded(request.id, succeeded=False, refused=True, code="BLK_LEASE", reason=reason)
    why = next(iter(rejections(view, request.target)), None)
    reason = f"{request.target} did not begin within {view.policy.request_ms} ms: nothing was forced"
    if why is not None:
        reason += f": {why.reason}"
    code = why.code if why else "BLK_REQUEST"
    return RequestEnded(request.id, succeeded=False, refused=True, code=code, reason=reason)


def withdrawn(view: View, request: Request | None) -> RequestEnded | None:
    """How such a request ends when the primary it was to do without says what it had: the person has to look again."""
    if request is None or not request.allow_loss or request.target == view.me.name:
        return None
    reason = f"{view.me.name} came back and told what it had: nothing was forced, ask again"
    return RequestEnded(request.id, succeeded=False, refused=True, code="BLK_REQUEST", reason=reason)
