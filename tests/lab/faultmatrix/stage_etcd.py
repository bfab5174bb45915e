"""What stands before a trial where the store is etcd: all members well, the leader where the row wants it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hosts import etcd, layout
from trials.cluster import Cluster

from faultmatrix.row import Lead
from faultmatrix.scene_etcd import SNAPSHOT

if TYPE_CHECKING:
    from hosts import Lab

    from faultmatrix.row import Row


def prepare(lab: Lab, members: etcd.Etcd, row: Row, deadline_s: float) -> None:
    """Have etcd, and the primary, as the row needs them; the lab must be settled, and is so afterwards."""
    cluster = Cluster(lab)
    members.wait_until_healthy()
    if row.snapshot:
        members.save(SNAPSHOT)
        _move(lab, cluster, next(host for host in layout.DATA_NODES if host != cluster.primary()), deadline_s)
    if (row.on_member or row.leads is Lead.PRIMARY) and cluster.primary() not in etcd.MEMBERS:
        _move(lab, cluster, etcd.MEMBERS[0], deadline_s)
    primary = cluster.primary()
    match row.leads:
        case Lead.ARBITER:
            members.lead(layout.ARBITER)
        case Lead.PRIMARY:
            members.lead(primary)
        case Lead.REPLICA:
            members.lead(next(host for host in etcd.MEMBERS if host not in {primary, layout.ARBITER}))


def _move(lab: Lab, cluster: Cluster, host: str, deadline_s: float) -> None:
    lab.exec(cluster.primary(), "failoverctl", "promote", "--node", host)
    cluster.wait_until_settled(deadline_s)
