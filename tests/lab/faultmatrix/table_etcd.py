"""What can go wrong with etcd as the store. Whoever of it is lost, clients notice nothing while there is a primary.

Its leader's death together with the primary's must cost no more than etcd's own election besides: no lease of etcd's
stands between a dead primary and the next one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from faultmatrix.row import MANY, Lead, Outcome, Row

if TYPE_CHECKING:
    from faultmatrix.scene import Scene

UNNOTICED_S = 1.0  # one attempt of the client that failed, at most
ELECTION_S = 2.0  # etcd's own: once and up to twice its election timeout of 1 s
WITHOUT_S = 4.0  # what the power cut of a primary costs at most without it


def _leader_and_primary(scene: Scene) -> None:
    with scene.etcd.losing_leader(scene.primary):
        scene.cut_power(scene.primary)


def _leader_and_replica(scene: Scene) -> None:
    replica = scene.etcd.replica(scene.replicas)
    with scene.etcd.losing_leader(replica):
        scene.cut_power(replica)


def _leader_and_frozen_primary(scene: Scene) -> None:
    with scene.etcd.losing_leader(scene.primary):
        scene.freeze(scene.primary)


def _quorum_then_primary(scene: Scene) -> None:
    scene.etcd.stop(*scene.etcd.others(scene.primary))
    scene.settle(6.0)  # two leases on promises
    scene.cut_power(scene.primary)


def _restored(scene: Scene) -> None:
    scene.etcd.restore_snapshot()
    scene.etcd.await_refused()


def _compacted(scene: Scene) -> None:
    replica = next(host for host in scene.replicas if host not in scene.etcd.members)
    scene.pull_cable(replica)
    for _ in range(2):
        scene.settle(2.0)  # the primary renews, four times
        scene.etcd.compact()
    scene.plug_cable(replica)
    scene.await_home(replica)
    scene.await_store_seen(replica)


M, S, W = Outcome.MOVES, Outcome.STAYS, Outcome.WAITS

ETCD = (
    Row(
        name="etcd-leader-killed",
        words="etcd's leader killed, on a host without the primary",
        fault=lambda s: s.etcd.kill(s.arbiter),
        outcome=S,
        etcd=True,
        outage_s=UNNOTICED_S,
    ),
    Row(
        name="etcd-leader-killed-beside-primary",
        words="etcd's leader killed, on the primary's host",
        fault=lambda s: s.etcd.kill(s.primary),
        outcome=S,
        etcd=True,
        leads=Lead.PRIMARY,
        outage_s=UNNOTICED_S,
    ),
    Row(
        name="etcd-leader-and-primary",
        words="power cut of the primary, with etcd's leader on its host",
        fault=_leader_and_primary,
        outcome=M,
        trials=MANY,
        etcd=True,
        leads=Lead.PRIMARY,
        outage_s=WITHOUT_S + ELECTION_S,
    ),
    Row(
        name="etcd-leader-and-primary-frozen",
        words="the primary frozen 20 s, with etcd's leader on its host",
        fault=_leader_and_frozen_primary,
        outcome=M,
        lasts_s=20.0,
        etcd=True,
        leads=Lead.PRIMARY,
    ),
    Row(
        name="etcd-leader-and-replica",
        words="power cut of a replica, with etcd's leader on its host",
        fault=_leader_and_replica,
        outcome=S,
        trials=MANY,
        etcd=True,
        leads=Lead.REPLICA,
        outage_s=UNNOTICED_S,
    ),
    Row(
        name="etcd-leader-frozen",
        words="etcd's leader frozen, on a host without the primary",
        fault=lambda s: s.etcd.freeze(s.arbiter),
        outcome=S,
        etcd=True,
        outage_s=UNNOTICED_S,
    ),
    Row(
        name="etcd-leader-frozen-beside-primary",
        words="etcd's leader frozen, on the primary's host",
        fault=lambda s: s.etcd.freeze(s.primary),
        outcome=S,
        etcd=True,
        leads=Lead.PRIMARY,
        outage_s=UNNOTICED_S,
    ),
    Row(
        name="etcd-member-frozen",
        words="the member of etcd that the primary uses frozen, not the leader",
        fault=lambda s: s.etcd.freeze(s.primary),
        outcome=S,
        etcd=True,
        on_member=True,
        outage_s=UNNOTICED_S,
    ),
    Row(
        name="etcd-quorum-lost",
        words="two members of etcd stopped, the primary's own left alone",
        fault=lambda s: s.etcd.stop(*s.etcd.others(s.primary)),
        outcome=S,
        lasts_s=15.0,
        etcd=True,
        on_member=True,
        outage_s=UNNOTICED_S,
    ),
    Row(
        name="etcd-quorum-lost-then-primary",
        words="two members of etcd stopped, then power cut of the primary",
        fault=_quorum_then_primary,
        outcome=W,
        until="etcd's quorum",
        returns=lambda s: s.etcd.start(*s.etcd.others(s.primary)),
        etcd=True,
        on_member=True,
    ),
    Row(
        name="etcd-restarted-in-turn",
        words="etcd restarted on one host after the other",
        fault=lambda s: s.etcd.restart_in_turn(),
        outcome=S,
        etcd=True,
        outage_s=UNNOTICED_S,
    ),
    Row(
        name="etcd-restored",
        words="etcd restored from a snapshot of an earlier term",
        fault=_restored,
        outcome=S,
        lasts_s=15.0,
        etcd=True,
        snapshot=True,
        outage_s=UNNOTICED_S,
    ),
    Row(
        name="etcd-compacted",
        words="etcd compacted while a node is cut off from it",
        fault=_compacted,
        outcome=S,
        lasts_s=15.0,
        etcd=True,
        on_member=True,
        outage_s=UNNOTICED_S,
    ),
    Row(
        name="etcd-slow-disks",
        words="the disks of all members of etcd slow",
        fault=lambda s: s.etcd.slow_disks(16),
        outcome=S,
        lasts_s=15.0,
        disks=True,
        etcd=True,
        outage_s=UNNOTICED_S,
    ),
)
