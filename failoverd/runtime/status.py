"""What this node sees, as the parts of a status document: its view in the words of an operator."""

from __future__ import annotations

from dataclasses import fields
from typing import TYPE_CHECKING, Any, cast

from failoverd.core import afford, bounded, candidates, heirs, lease, repair
from failoverd.core.model import Health, NodeKind, NodeName
from failoverd.core.quorum import majority
from failoverd.runtime import document as doc
from failoverd.runtime import homecoming, ordered

if TYPE_CHECKING:
    from collections.abc import Callable

    from failoverd.core.model import Claim, DatabaseFacts, Node, Record, Rejected, Report, VipFacts
    from failoverd.core.monitoring import Gauges
    from failoverd.core.view import View


def reason_of(rejected: Rejected) -> doc.Reason:
    """Why something may not be, as a document has it."""
    return doc.Reason(code=rejected.code, reason=rejected.reason, node=rejected.node)


def lease_of(view: View, *, store_error: str) -> doc.LeaseStatus:
    """The lease: this node's own, or what it has seen of another's."""
    record, watch, valid = view.record, view.watch, view.valid
    if valid is not None:
        return doc.LeaseStatus(state="held", left_ms=valid.deadline_ms - view.now_ms)
    if record is None or watch is None or store_error:
        return doc.LeaseStatus(state="unknown")
    return _seen(record, lease.over_from_ms(record, watch, view.promise) - view.now_ms)


def node_of(view: View, node: Node, own: Report, heard_ms: Callable[[NodeName, int], int | None]) -> doc.NodeStatus:
    """One node, by its newest report; this one's is `own`."""
    mine = node.name == view.me.name
    fresh = view.report_of(node.name)
    report = own if mine else fresh or next((r for r in view.reports if r.sender == node.name), None)
    names = [name for name, _, _ in view.policy.services] if node.kind is NodeKind.DATA else []
    common: dict[str, Any] = {"name": node.name, "kind": node.kind.value, "address": node.address}
    common["maintenance"] = ordered.maintenance_of(view, node.name)
    services = {name: _service(view, name, node.name, report) for name in names}
    if report is None:
        return doc.NodeStatus(**common, fresh=False, desired=_desired(view, node), services=services)
    return doc.NodeStatus(
        **common,
        fresh=mine or fresh is not None,
        last_heard_ms=0 if mine else heard_ms(node.name, view.now_ms),
        desired=_desired(view, node),
        actual=report.role.value,
        term=report.term,
        software=report.software,
        ready=report.ready if node.kind is NodeKind.DATA else None,
        serving=report.serving if node.kind is NodeKind.DATA else None,
        services=services,
        units=tuple(doc.UnitStatus(unit=u.unit, active=u.active, sub=u.sub) for u in report.units),
        database=_database(view, node.name, report.database) if report.database else None,
        vip=_vip(report.vip) if report.vip else None,
        host=doc.HostStatus(
            load_per_core=report.host.load_per_core,
            memory_free_percent=report.host.memory_free_percent,
            disk_free_percent=report.host.disk_free_percent,
            fullest_disk=report.host.fullest_disk,
        )
        if report.host
        else None,
        rebuild=homecoming.status(view, node.name),
        monitoring=_monitoring(report.monitoring) if report.monitoring else None,
        findings=tuple(doc.Reason(code=code, reason=text, node=node.name) for code, text in report.findings)
        + _errant(view, node, report)
        + _rejoin(view, node, report)
        + _unproven(view, node)
        + _repair(node, report),
    )


def _seen(record: Record, left_ms: int) -> doc.LeaseStatus:
    """Another node's lease, as the record has it, and how much longer it can run."""
    if record.holder is None:
        return doc.LeaseStatus(state="none")
    if record.revoked:
        return doc.LeaseStatus(state="revoked")
    if record.off:
        return doc.LeaseStatus(state="off", by=record.off)
    if left_ms <= 0:
        return doc.LeaseStatus(state="ended")
    if record.condemned_by is not None:
        return doc.LeaseStatus(state="condemned", left_ms=left_ms, by=record.condemned_by)
    return doc.LeaseStatus(state="held", left_ms=left_ms)


def _desired(view: View, node: Node) -> doc.Role | None:
    if node.kind is NodeKind.ARBITER:
        return "arbiter"
    if view.holder is None:
        return None
    return "primary" if node.name == view.holder else "replica"


def _service(view: View, name: str, target: NodeName, report: Report | None) -> doc.ServiceStatus:
    """The quorum's verdict where there are observers, the node's own otherwise."""
    votes: dict[str, str] = {}
    claims = {r.sender: r.claims for r in view.fresh.values()}
    claims[view.me.name] = tuple(seen.claim() for seen in view.sightings)
    for observer, made in claims.items():
        claim = next((c for c in made if (c.probe, c.target) == (name, target)), None)
        if claim is not None:
            votes[observer] = _words(claim)
    if target == view.holder:
        verdict = view.verdict(name, target).value
    else:
        own = next((c for c in (report.claims if report else ()) if (c.probe, c.target) == (name, target)), None)
        verdict = "unknown" if own is None or target not in claims else "up" if own.health is Health.OK else "down"
    return doc.ServiceStatus(verdict=cast("doc.Verdict", verdict), votes=votes)


def _words(claim: Claim) -> str:
    if claim.health is Health.OK:
        return "ok"
    return f"{claim.code}: {claim.reason}" + (f" ({claim.failures} in a row)" if claim.failures > 1 else "")


def _database(view: View, name: NodeName, facts: DatabaseFacts) -> doc.DatabaseStatus:
    holder = view.facts_of(view.holder) if view.holder else None
    replication = facts.replication
    return doc.DatabaseStatus(
        version=facts.version,
        read_only=facts.read_only,
        position=str(facts.position),
        behind=holder.position.minus(facts.position).count if holder and name != view.holder else None,
        semi_sync=doc.SemiSyncStatus(
            source=facts.semi_sync_source, replica=facts.semi_sync_replica, clients=facts.semi_sync_clients
        ),
        replication=doc.ReplicationStatus(
            source=replication.source,
            receiver=replication.receiver.value,
            applier=replication.applier.value,
            lag_ms=view.lag_ms(name),
            receiver_error=replication.receiver_error,
            applier_error=replication.applier_error,
        )
        if replication
        else None,
    )


def _errant(view: View, node: Node, report: Report) -> tuple[doc.Reason, ...]:
    """What this node's journal shows of another, which may have an older one."""
    extra = view.errant(node.name)
    if not extra or any(code == "ERRANT" for code, _ in report.findings):
        return ()
    return (doc.Reason(code="ERRANT", reason=extra, node=node.name),)


def _rejoin(view: View, node: Node, report: Report) -> tuple[doc.Reason, ...]:
    """A node that holds what the primary lacks says so."""
    if report.rule != "needs-rejoin" or report.database is None:
        return ()
    holder = view.facts_of(view.holder) if view.holder else None
    extra = report.database.holdings.minus(holder.holdings) if holder else None
    text = f"{node.name} holds transactions that {view.holder} lacks: {extra}" if extra else "it cannot be compared"
    return (doc.Reason(code="NEEDS_REJOIN", reason=text, node=node.name),)


def _monitoring(gauges: Gauges) -> doc.MonitoringStatus:
    """The gauges of a node, under the same names."""
    given = {field.name: getattr(gauges, field.name) for field in fields(gauges) if field.name != "latency"}
    latency = tuple(doc.LatencyStatus(service=s, node=node, mean_ms=ms) for s, node, ms in gauges.latency)
    return doc.MonitoringStatus(latency=latency, **given)


def _unproven(view: View, node: Node) -> tuple[doc.Reason, ...]:
    """The primary may be the only one that has what clients were told."""
    if view.record is None or not view.record.unproven or node.name != view.holder or bounded.standing(view.record):
        return ()
    return (doc.Reason(code="RPO_UNPROVEN", reason=view.record.unproven, node=node.name),)


def bound_of(view: View) -> doc.BoundStatus | None:
    """How far the replicas are, where commits wait for none."""
    record = view.record
    if record is None or not bounded.standing(record):
        return None
    others = [node.name for node in view.data_nodes if node.name != record.holder]
    lags = [(lag_ms, name) for name in others if (lag_ms := view.lag_ms(name)) is not None]
    lag_ms, nearest = min(lags, default=(None, None))
    within = tuple(bounded.within(view))
    return doc.BoundStatus(limit_ms=record.bound_ms, nearest=nearest, lag_ms=lag_ms, within=within)


def _repair(node: Node, report: Report) -> tuple[doc.Reason, ...]:
    """What keeps this node's replication from running, and what ends it."""
    replication = report.database.replication if report.database else None
    if replication is None:
        return ()
    return tuple(
        doc.Reason(
            code=cause.code,
            reason=f"{node.name}: {cause.error}; {'rebuild it' if cause.to_rebuild else 'tried again by itself'}",
            node=node.name,
        )
        for cause in repair.causes(replication)
    )


def afford_of(view: View, store_node: str | None) -> tuple[doc.LossStatus, ...]:
    """What can be lost besides the primary."""
    return tuple(
        doc.LossStatus(node=loss.node, serves=loss.serves, replaceable=loss.replaceable)
        for loss in afford.losses(view, NodeName(store_node) if store_node else None)
    )


def failover_of(view: View, *, store_error: str) -> doc.FailoverStatus:
    """Whether the role could move right now, and to whom."""
    blockers = [reason_of(r) for r in candidates.change_blockers(view)]
    if store_error:
        blockers.append(doc.Reason(code="BLK_STORE", reason=f"the store does not answer: {store_error}"))
    if view.membership_differs():
        blockers.append(doc.Reason(code="BLK_MEMBERSHIP", reason="nodes have different configurations"))
    blockers += _unsettled(view)
    blockers += [nobody] if (nobody := ordered.nobody_left(view)) is not None else []
    observers = [n.name for n in view.nodes if n.name != view.holder]
    heard = [name for name in observers if name == view.me.name or name in view.fresh]
    if len(heard) < majority(len(observers)):
        names = ", ".join(heard) or "none"
        blockers.append(
            doc.Reason(code="BLK_QUORUM", reason=f"{majority(len(observers))} observers are needed, heard: {names}")
        )
    election = candidates.failover(view) if view.lease_is_over() else candidates.planned(view)
    blockers += _unprovable(view)
    near = () if view.lease_is_over() else bounded.within(view)  # no switchover, perhaps, but a failover
    best = election.best or next((name for name in near if view.maintenance_of(name) is None), None)
    return doc.FailoverStatus(
        possible=best is not None and not blockers,
        candidate=best,
        rejected=tuple(reason_of(r) for r in election.rejected),
        blockers=tuple(blockers),
    )


def _unprovable(view: View) -> list[doc.Reason]:
    """Too few replicas could prove, without the primary's word, that a new one has all that was acknowledged."""
    holder, needed = view.holder, len(view.data_nodes) - view.policy.acknowledgements
    if holder is None or bounded.applies(view):
        return []
    heard = [
        n.name
        for n in view.data_nodes
        if n.name != holder and view.facts_of(n.name) is not None and not view.rebuilding(n.name)
    ]
    proving = [name for name in heard if heirs.forgot_nothing(view, name, holder)]
    if len(proving) >= needed:
        return []
    text = f"{needed} replicas must be heard to prove that nothing acknowledged is lost, heard: "
    text += ", ".join(proving) or "none"
    text += heirs.not_counted([name for name in heard if name not in proving])
    return [doc.Reason(code="BLK_RPO_UNPROVEN", reason=text)]


def _unsettled(view: View) -> list[doc.Reason]:
    """What a person has to say first: that the cluster goes on, or that the lost primary has no power."""
    found, record = [], view.record
    if bounded.applies(view):
        if not view.lease_is_over() and not bounded.within(view):
            found.append(doc.Reason(code="BLK_RPO_BOUND", reason=bounded.in_words(view)))
    elif record is not None and record.unproven:
        text = f"should {record.holder} be lost, only it itself can say what clients were told: {record.unproven}"
        found.append(doc.Reason(code="BLK_RPO_UNPROVEN", reason=text))
    if record is not None and record.paused:
        found.append(doc.Reason(code="BLK_PAUSED", reason=f"paused by {record.paused}"))
    if record is None or not view.policy.fence_required or record.revoked or record.off:
        return found
    if view.lease_is_over():
        found.append(doc.Reason(code="BLK_FENCE", reason=f"nobody has confirmed that {record.holder} has no power"))
    elif record.holder is not None and record.holder not in view.policy.fenced:
        found.append(
            doc.Reason(
                code="BLK_FENCE", reason=f"{record.holder} has no fence agent: an operator would have to confirm"
            )
        )
    return found


def _vip(facts: VipFacts) -> doc.VipStatus:
    """Others that answer are a duplicate only where the node has the address itself."""
    return doc.VipStatus(present=facts.present, others=facts.others if facts.present else ())
