"""A data node's database made anew: when that is safe, from whom, and when it is due by itself.

    needed      it holds what the primary lacks, or its replication has stopped for what cannot pass (`repair`)
    donor       a replica that keeps up; the primary only where a person names it
    safe        the primary is there, and another replica acknowledges what this one no longer will
    worth it    nobody was told of what is extra (`held_back`); where somebody may have been, only a person decides

The node is no witness in an election from the decision until its new data are in place (`View.rebuilding`). So one node
at a time: of two that decide at once the one with the lower name goes first, and both know before either begins, since
each waits until every report that counts is younger than its own decision.
"""

from __future__ import annotations

from failoverd.core import bounded
from failoverd.core.lease import Memory
from failoverd.core.model import NodeKind, NodeName, Rejected, Rejoin, Thread
from failoverd.core.repair import to_rebuild
from failoverd.core.view import View

SETTLE_MS = 30_000  # what passes by itself has passed by then
BACK_OFF_FIRST_MS = 600_000  # after a rebuild that failed; doubled each time
BACK_OFF_MOST_MS = 86_400_000
COUNTED = 16  # more make no difference
SILENT_MS = 15_000  # after its start, before a rebuild that tells nothing is started again
AGAIN_MS = 60_000  # after one that failed in the middle, which only going on can end
NO_COPY = {"ERRANT", "SET_FILTER", "SET_BINLOG_OFF", "SET_REPLICA_UPDATES"}  # it has more than the primary, or less
STARTS = 5  # without a word: the unit does not work


def primary_is_there(view: View) -> bool:
    """Another node holds the lease, is heard, and has not begun to let go."""
    holder = view.holder
    if holder is None or view.lease_is_over() or view.lease_is_lapsing():
        return False
    return holder != view.me.name and view.facts_of(holder) is not None


def acknowledges(view: View, name: NodeName) -> bool:
    """`name` receives from the holder, and tells it so."""
    facts, holder = view.facts_of(name), view.holder
    replication = facts.replication if facts else None
    if facts is None or replication is None or holder is None or view.rebuilding(name):
        return False
    receives = replication.source == view.node(holder).address and replication.receiver is Thread.RUNNING
    return receives and facts.semi_sync_replica


def others_acknowledge(view: View, name: NodeName) -> bool:
    """Enough replicas other than `name` do."""
    others = [node.name for node in view.data_nodes if node.name not in (name, view.holder)]
    return sum(acknowledges(view, other) for other in others) >= view.policy.acknowledgements


def _fit_donor(view: View, name: NodeName) -> bool:
    report, facts = view.report_of(name), view.facts_of(name)
    if name != view.me.name and (report is None or not view.alike(report)):
        return False
    applies = facts is not None and facts.replication is not None and facts.replication.applier is Thread.RUNNING
    lag_ms = view.lag_ms(name)
    near = lag_ms is not None and lag_ms <= view.policy.max_lag_ms
    findings = dict(report.findings if report else view.findings)  # of its own journal and settings
    whole = not view.errant(name) and not findings.keys() & NO_COPY
    return acknowledges(view, name) and applies and near and whole


def donor_for(view: View, name: NodeName) -> NodeName | None:
    """Who would give the copy, if nobody says who: never the primary, whose disks are the clients'."""
    fit = [n for n in view.data_nodes if n.name not in (name, view.holder) and _fit_donor(view, n.name)]
    fit.sort(key=lambda node: (-node.priority, node.name))
    return fit[0].name if fit else None


def need(view: View, name: NodeName) -> str:
    """Why `name` has to be made anew, in words; "" where nothing says so.

    What a follower holds beyond what the primary has *told* is only younger: it is compared where it does not follow.
    """
    facts, holder = view.facts_of(name), view.holder
    if facts is None or holder is None or holder == name:
        return ""
    replication = facts.replication
    # What its own database says comes first: a node that asks for no report need not decide anew at each of them.
    if replication is not None and replication.source == view.node(holder).address:
        if not to_rebuild(replication) or view.facts_of(holder) is None:
            return ""
        return f"its replication cannot go on: {replication.receiver_error or replication.applier_error}"
    theirs = view.facts_of(holder) if not facts.receives else None
    if theirs is None:
        return ""
    extra = facts.holdings.minus(theirs.holdings)
    return f"it holds what {holder} lacks: {extra}" if extra.parts else ""


def held_back(view: View, name: NodeName) -> str:
    """Why only a person may have `name` made anew, in words; "" where nothing says so.

    What an old primary holds and the new one lacks was acknowledged to nobody: that is what an election proves. A
    takeover that was forced went past the proof, so that a node which has nothing of that term or a later one may be
    the only one with what clients were told. A takeover within the bound (bounded.py) is no such proof either. While
    the record is unproven, that is on too few nodes already; not where commits never wait, and others are near enough.
    """
    record, facts = view.record, view.facts_of(name)
    if record is None:
        return ""
    if (facts.heartbeat_term if facts is not None else 0) < record.forced:  # one that does not answer may have anything
        return f"term {record.forced} was forced: clients may have been told of what {name} has and others lack"
    if (facts.heartbeat_term if facts is not None else 0) < record.bounded:
        return f"term {record.bounded} began within the bound: clients may have been told of what {name} has extra"
    if record.unproven and not bounded.standing(record):
        return f"what clients were told may be only on {record.holder}: {record.unproven}"
    return ""


def due(view: View) -> bool:
    """This node's database needs it, for long enough, and nothing speaks against it. Only where that is configured."""
    since_ms, (failures, failed_ms) = view.rejoin_due_since_ms, view.rejoin_failed
    if not view.policy.rejoin_automatic or view.rejoin is not None or since_ms is None:
        return False
    if left_alone(view) or not view.store_is_known() or not primary_is_there(view):
        return False
    if held_back(view, view.me.name) or not view.reached(since_ms + SETTLE_MS):
        return False
    if failures and not view.reached(failed_ms + min(BACK_OFF_FIRST_MS << (failures - 1), BACK_OFF_MOST_MS)):
        return False
    me, reports = view.me.name, [view.report_of(n.name) for n in view.data_nodes if n.name != view.me.name]
    if any(report is None or not view.alike(report) or report.rebuilding for report in reports):
        return False
    return others_acknowledge(view, me) and donor_for(view, me) is not None


def failed_before(memory: Memory, now_ms: int) -> tuple[int, int]:
    """What a daemon that starts makes of the failures that it remembers, as `View.rejoin_failed`.

    The moment may be of another boot, whose clock began anew. Read as one of this boot's it is never too early: since
    then at least all of this boot has passed. Where it would lie in the future, it counts as now.
    """
    return memory.rejoin_failures, min(memory.rejoin_failed_ms, now_ms)


def start_due(view: View) -> bool:
    """A rebuild that is asked for, or was begun, does not run, and may be started now."""
    wanted, facts, starts = view.rejoin, view.rebuild, view.rejoin_starts
    if facts is not None and facts.running:
        return False
    touched = facts is not None and facts.touched and not facts.home
    if starts and not view.reached(starts[-1] + (AGAIN_MS if touched else SILENT_MS)):
        return False
    if touched:
        return True  # its data are out of their place: nothing is gained by waiting
    since_ms = view.rejoin_since_ms
    if wanted is None or since_ms is None or not view.reached(since_ms + view.policy.report_max_age_ms + 1):
        return False
    # In another term it was safe with another primary.
    if wanted.term != view.highest_term or (wanted.by == RULE and left_alone(view)):
        return False
    first = all(not report.rebuilding or name > view.me.name for name, report in view.fresh.items())
    return first and primary_is_there(view)


RULE = "rebuild-due"  # rules.RULES


def left_alone(view: View) -> bool:
    """Nothing is to be done here by itself."""
    return view.paused() or view.maintenance_of(view.me.name) is not None


def by_rule(view: View) -> Rejoin | None:
    """What this node asks of itself."""
    me = view.me.name
    donor = donor_for(view, me)
    return Rejoin(f"{me}-{view.highest_term}-{view.now_ms}", me, donor, RULE, view.highest_term) if donor else None


def rejections(view: View, name: str, donor: str = "") -> tuple[Rejected, ...]:
    """Why `name` may not be made anew now, from `donor` or whoever is fit; empty where it may."""
    wanted = NodeName(name)
    known = {node.name: node for node in view.nodes}
    for named in (name, donor) if donor else (name,):
        if NodeName(named) not in known:
            data = ", ".join(node.name for node in view.data_nodes)
            text = f"{named} is not in the configuration; data nodes are {data}"
            return (Rejected(NodeName(named), "BLK_NO_SUCH_NODE", text),)
        if known[NodeName(named)].kind is not NodeKind.DATA:
            return (Rejected(NodeName(named), "BLK_NOT_DATA", f"{named} is an arbiter and holds no mail"),)
    holder = view.holder
    if holder is None or view.lease_is_over() or view.lease_is_lapsing():
        return (Rejected(wanted, "BLK_NO_PRIMARY", "there is no primary that could tell what is extra"),)
    if holder == wanted:
        return (Rejected(wanted, "BLK_IS_PRIMARY", f"{wanted} is the primary: hand the role over first"),)
    return tuple(_rejections(view, wanted, holder, NodeName(donor)))


def _rejections(view: View, wanted: NodeName, holder: NodeName, donor: NodeName) -> list[Rejected]:
    found = []
    for node in (wanted, holder):
        if node != view.me.name and node not in view.fresh:
            text = f"no report from {node} within {view.policy.report_max_age_ms} ms"
            found.append(Rejected(node, "BLK_UNREACHABLE", text))
    found += [
        Rejected(node.name, "BLK_REBUILDING", f"{node.name} is being rebuilt: one node at a time")
        for node in view.data_nodes
        if view.rebuilding(node.name)
    ]
    if acknowledges(view, wanted) and not others_acknowledge(view, wanted):
        text = f"{wanted} is the only replica that acknowledges: clients would wait until it is back"
        found.append(Rejected(wanted, "BLK_LAST_REPLICA", text))
    if donor == wanted:
        found.append(Rejected(wanted, "BLK_NO_DONOR", f"{wanted} cannot be copied from itself"))
    elif donor and donor != holder and not _fit_donor(view, donor):
        found.append(Rejected(donor, "BLK_NO_DONOR", f"{donor} does not follow {holder} closely enough to be copied"))
    elif not donor and donor_for(view, wanted) is None:
        text = f"no replica is fit to be copied; --from {holder} copies the primary, whose clients share its disks then"
        found.append(Rejected(wanted, "BLK_NO_DONOR", text))
    return found
