"""The table: what can go wrong, and what is documented to come of it (row.py has the words)."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from faultmatrix.row import MANY, NOBODY, Outcome, Row
from faultmatrix.scene import DOVECOT, FAILOVERD, MARIADB, POSTFIX, Scene
from faultmatrix.table_etcd import ETCD

if TYPE_CHECKING:
    from collections.abc import Callable


def _both_ways(scene: Scene) -> None:
    first, second = scene.replicas
    scene.deafen(first, second)
    scene.deafen(second, first)


def _power_back_in_the_middle(scene: Scene) -> None:
    scene.cut_power(scene.primary)
    scene.power_on(scene.primary)


def _primary_and_replica(scene: Scene) -> None:
    scene.cut_power(scene.primary)
    scene.cut_power(scene.replicas[0])


def _all_data_then_primary(scene: Scene) -> None:
    for host in (scene.primary, *scene.replicas):
        scene.cut_power(host)
    scene.power_on(scene.primary)


def _arbiter_then_primary(scene: Scene) -> None:
    scene.cut_power(scene.arbiter)
    scene.settle(4.0)
    scene.cut_power(scene.primary)


def _broken_replication_then_cut(scene: Scene) -> None:
    scene.break_replication(scene.replicas[0])
    scene.settle(2.0)
    scene.cut_power(scene.primary)


def _candidate_dies_applying(scene: Scene) -> None:
    scene.hold_up_applier(scene.replicas[0])
    scene.settle(1.0)
    scene.candidate_dies_at("apply-relay-log")


def _replicas_in_turn(scene: Scene) -> None:
    for replica in scene.replicas:
        scene.cut_power(replica)
        scene.settle(6.0)
        scene.power_on(replica)
        scene.await_home(replica)


def _diverged(scene: Scene) -> None:
    replica = scene.replicas[0]
    row = scene.write_on(replica)
    scene.rejoin(replica)
    scene.await_home(replica)
    scene.expect_saved(replica, row)


def _lagging_then_cut(scene: Scene) -> None:
    scene.hold_up_applier(scene.replicas[0], 10)
    scene.settle(2.0)
    scene.cut_power(scene.primary)


def _switchover_beside(statements: str) -> Callable[[Scene], None]:
    def fault(scene: Scene) -> None:
        scene.hold(scene.primary, statements)
        scene.switch_over(scene.replicas[0])

    return fault


def _switchover_in_a_crowd(number: int) -> Callable[[Scene], None]:
    def fault(scene: Scene) -> None:
        scene.connect_idle(scene.primary, number)
        scene.switch_over(scene.replicas[0])

    return fault


def _deaf_replicas(scene: Scene) -> None:
    for replica in scene.replicas:
        scene.deafen(replica, scene.primary)


def _dies_at(step: str) -> Callable[[Scene], None]:
    return lambda scene: scene.candidate_dies_at(step)


M, S, W, V, A = Outcome.MOVES, Outcome.STAYS, Outcome.WAITS, Outcome.SURVIVES, Outcome.SAFE

POWER = (
    Row(name="power-primary", words="power cut of the primary", fault=lambda s: s.cut_power(s.primary), outcome=M),
    Row(name="power-replica", words="power cut of a replica", fault=lambda s: s.cut_power(s.replicas[0]), outcome=S),
    Row(name="power-arbiter", words="power cut of the arbiter", fault=lambda s: s.cut_power(s.arbiter), outcome=S),
    Row(
        name="power-back-early",
        words="power of the primary back in the middle of the failover",
        fault=_power_back_in_the_middle,
        outcome=V,
    ),
    Row(
        name="power-arbiter-then-primary",
        words="arbiter gone, then the primary",
        fault=_arbiter_then_primary,
        on_member=True,  # with etcd, too, the store is gone then
        outcome=W,
        until="the arbiter",
        returns=lambda s: s.power_on(s.arbiter),
    ),
    Row(
        name="power-primary-and-replica",
        words="primary and one replica gone",
        fault=_primary_and_replica,
        outcome=W,
        until="one of the two",
        returns=lambda s: s.power_on(s.primary),
    ),
    # What the primary's server drops in its recovery may have been acknowledged, and lie on the replicas.
    Row(
        name="power-all-data",
        words="power cut of all data nodes, the primary back first",
        fault=_all_data_then_primary,
        outcome=A,
        lasts_s=15.0,
    ),
)

PROCESSES = (
    Row(
        name="failoverd-killed",
        words="kill -9 failoverd on the primary",
        fault=lambda s: s.kill(s.primary, FAILOVERD),
        outcome=S,
    ),
    Row(
        name="failoverd-stopped",
        words="kill -STOP failoverd on the primary",
        fault=lambda s: s.stop(s.primary, FAILOVERD),
        outcome=M,
    ),
    Row(
        name="failoverd-restarted",
        words="systemctl restart failoverd on the primary",
        fault=lambda s: s.restart(s.primary, FAILOVERD),
        outcome=S,
    ),
    Row(
        name="failoverd-restarted-arbiter",
        words="systemctl restart failoverd on the arbiter",
        fault=lambda s: s.restart(s.arbiter, FAILOVERD),
        outcome=S,
    ),
    Row(
        name="failoverd-killed-replica",
        words="kill -9 failoverd on a replica",
        fault=lambda s: s.kill(s.replicas[0], FAILOVERD),
        outcome=S,
    ),
    Row(
        name="failoverd-stopped-replica",
        words="kill -STOP failoverd on a replica",
        fault=lambda s: s.stop(s.replicas[0], FAILOVERD),
        outcome=S,
    ),
    Row(
        name="mariadbd-killed",
        words="kill -9 mariadbd on the primary",
        fault=lambda s: s.kill(s.primary, MARIADB),
        outcome=A,  # restarted in place; it depends on the mail services whether that is the end of it
    ),
    Row(
        name="mariadbd-stopped",
        words="kill -STOP mariadbd on the primary",
        fault=lambda s: s.stop(s.primary, MARIADB),
        outcome=A,
        fresh=True,
    ),
    Row(
        name="mariadbd-killed-replica",
        words="kill -9 mariadbd on a replica",
        fault=lambda s: s.kill(s.replicas[0], MARIADB),
        outcome=S,
    ),
    Row(
        name="mariadbd-stopped-replica",
        words="kill -STOP mariadbd on a replica",
        fault=lambda s: s.stop(s.replicas[0], MARIADB),
        outcome=S,
    ),
    Row(
        name="dovecot-killed",
        words="kill -9 dovecot on the primary",
        fault=lambda s: s.kill(s.primary, DOVECOT),
        outcome=S,
        fresh=True,
    ),
    Row(
        name="dovecot-stopped",
        words="kill -STOP dovecot on the primary",
        fault=lambda s: s.stop(s.primary, DOVECOT),
        outcome=M,  # `doveadm stop` waits for what is stopped, so that its restart does not end in time
        fresh=True,
    ),
    Row(
        name="postfix-killed",
        words="kill -9 postfix on the primary",
        fault=lambda s: s.kill(s.primary, POSTFIX),
        outcome=S,
        fresh=True,
    ),
    Row(
        name="postfix-stopped",
        words="kill -STOP postfix on the primary",
        fault=lambda s: s.stop(s.primary, POSTFIX),
        outcome=A,  # its restart takes about the 6 s that it has: in time it stays, too late it moves
        fresh=True,
    ),
    Row(
        name="host-frozen",
        words="the primary frozen 20 s, then thawed",
        fault=lambda s: s.freeze(s.primary),
        outcome=M,
        lasts_s=20.0,
        trials=MANY,
    ),
    Row(
        name="memory",
        words="the primary runs out of memory",
        fault=lambda s: s.exhaust_memory(s.primary, 96),
        outcome=A,
        lasts_s=15.0,
    ),
)

NETWORK = (
    Row(
        name="cable-out",
        words="cable of the primary out 30 s, then in",
        fault=lambda s: s.pull_cable(s.primary),
        outcome=M,
        lasts_s=30.0,
        trials=MANY,
    ),
    Row(
        name="cable-flaps",
        words="cable of the primary out 4 s and in 1 s, four times",
        fault=lambda s: s.flap_cable(s.primary, 4.0, 1.0, 4),
        outcome=M,
    ),
    Row(
        name="primary-deaf-to-arbiter",
        words="the primary does not hear the arbiter",
        fault=lambda s: s.deafen(s.primary, s.arbiter),
        outcome=S,
        trials=MANY,
    ),
    Row(
        name="arbiter-deaf-to-primary",
        words="the arbiter does not hear the primary",
        fault=lambda s: s.deafen(s.arbiter, s.primary),
        outcome=S,
        trials=MANY,
    ),
    Row(
        name="primary-deaf-to-replicas",
        words="the primary does not hear the replicas",
        fault=lambda s: s.deafen(s.primary, *s.replicas),
        outcome=M,
        trials=MANY,
    ),
    Row(
        name="replicas-deaf-to-primary",
        words="the replicas do not hear the primary",
        fault=_deaf_replicas,
        outcome=M,
        trials=MANY,
    ),
    Row(
        name="primary-deaf-to-client",
        words="the primary does not hear the client",
        fault=lambda s: s.deafen(s.primary, "client"),
        outcome=S,
        served=NOBODY,
        trials=MANY,
    ),
    Row(
        name="client-deaf-to-primary",
        words="the client does not hear the primary",
        fault=lambda s: s.deafen_client("vip", s.primary),
        outcome=S,
        served=NOBODY,
        trials=MANY,
    ),
    Row(
        name="replicas-cut",
        words="the replicas cut from each other",
        fault=_both_ways,
        outcome=S,
        trials=MANY,
    ),
    Row(
        name="packet-loss",
        words="30 % of the primary's packets lost at random",
        fault=lambda s: s.lose_packets(s.primary, 30),
        outcome=A,
        lasts_s=15.0,
    ),
    Row(
        name="vip-claimed",
        words="the virtual IP claimed by a stranger",
        fault=lambda s: s.stranger_claims_vip(),
        outcome=S,
        served=NOBODY,
    ),
)

CANDIDATES = (
    Row(
        name="replication-broken",
        words="replication of one replica broken, then power cut of the primary",
        fault=_broken_replication_then_cut,
        outcome=M,
    ),
    Row(
        name="candidate-dies-apply-relay-log",
        words="the candidate dies at apply-relay-log",
        fault=_candidate_dies_applying,
        outcome=V,
        trials=MANY,
    ),
    *(
        Row(
            name=f"candidate-dies-{step}",
            words=f"the candidate dies at {step}",
            fault=_dies_at(step),
            outcome=V,
            trials=MANY,
        )
        for step in (
            "freeze",
            "take-over",
            "become-source",
            "await-replica",
            "make-writable",
            "write-journal",
            "open-gate",
            "break-locks",
            "prove",
        )
    ),
)

DISKS = (
    Row(
        name="database-disk-hung",
        words="the disk under the primary's database hangs",
        fault=lambda s: s.disk_hangs(s.primary),
        outcome=M,
        disks=True,
    ),
    Row(
        name="database-disk-full",
        words="the disk under the primary's database is full",
        fault=lambda s: s.disk_is_full(s.primary),
        outcome=M,
        disks=True,
    ),
    Row(
        name="database-disk-read-only",
        words="the disk under the primary's database becomes read-only",
        fault=lambda s: s.disk_breaks(s.primary),
        outcome=M,
        disks=True,
    ),
    Row(
        name="mail-store-read-only",
        words="the mail store is read-only for the primary",
        fault=lambda s: s.store_is_read_only(s.primary),
        outcome=M,
        disks=True,
    ),
    Row(
        name="mail-store-hung",
        words="the shared mail store hangs",
        fault=lambda s: s.disk_hangs("mail"),
        outcome=S,
        served=("sql",),
        disks=True,
    ),
    Row(
        name="mail-store-full",
        words="the shared mail store is full",
        fault=lambda s: s.disk_is_full("mail"),
        outcome=S,
        served=("sql",),
        disks=True,
    ),
)

# As many writes as the hosts can take, on databases that are not empty: nothing lost, nothing twice, and all at home.
LOADED = tuple(
    Row(
        name=f"loaded-{name}",
        words=f"{words}, at full load",
        fault=fault,
        outcome=outcome,
        lasts_s=lasts_s,
        trials=MANY,
        writers=2,
        data_mb=200,
        once=True,
        outage_s=math.inf,  # told and not judged: the load takes all of the cores, which the hosts share here
    )
    for name, words, fault, outcome, lasts_s in (
        ("power-primary", "power cut of the primary", lambda s: s.cut_power(s.primary), M, 9.0),
        ("host-frozen", "the primary frozen 20 s, then thawed", lambda s: s.freeze(s.primary), M, 20.0),
        ("cable-out", "cable of the primary out 30 s, then in", lambda s: s.pull_cable(s.primary), M, 30.0),
        ("mariadbd-killed", "kill -9 mariadbd on the primary", lambda s: s.kill(s.primary, MARIADB), A, 9.0),
        ("replicas-in-turn", "both replicas lose their power in turn", _replicas_in_turn, S, 9.0),
        (
            "replica-lags",
            "a replica lags by a transaction of 10 s, then power cut of the primary",
            _lagging_then_cut,
            M,
            9.0,
        ),
        ("diverged", "a replica that was written to made anew", _diverged, S, 9.0),
    )
)

# What holds up `read_only`, or the connection that sets it: the switchover is done, or taken back and says so.
SWITCHOVERS = tuple(
    Row(name=f"switchover-{name}", words=f"switchover beside {words}", fault=fault, outcome=A)
    for name, words, fault in (
        (
            "transaction",
            "a long transaction",
            _switchover_beside("BEGIN; INSERT INTO app.writes VALUES (UUID(), 0)"),
        ),
        ("read-lock", "FLUSH TABLES WITH READ LOCK", _switchover_beside("FLUSH TABLES WITH READ LOCK")),
        ("table-lock", "a table lock", _switchover_beside("LOCK TABLES app.writes WRITE")),
        ("idle", "150 idle connections", _switchover_in_a_crowd(150)),
        ("connections", "all connections in use", _switchover_in_a_crowd(1000)),
    )
)

ROWS: tuple[Row, ...] = (*POWER, *PROCESSES, *NETWORK, *CANDIDATES, *SWITCHOVERS, *DISKS, *LOADED, *ETCD)
