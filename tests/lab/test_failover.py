"""The role moves when it must, only then, and takes everything with it: on real hosts, under a real client."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import pytest
from hosts import layout
from hosts.shell import wait_for
from trials.lost import Auditor
from trials.watch import Watch, now_ms

if TYPE_CHECKING:
    from pathlib import Path

    from hosts import Lab
    from trials.cluster import Cluster

pytestmark = pytest.mark.lab

LEASE_S = 3.0
MOVED_S = 30.0
HOME_S = 60.0
LAGGING_MS = 5000  # the configuration's max_lag
BAD_CONFIGURATION = 78
REFUSED = 3


def moved_from(cluster: Cluster, old: str) -> bool:
    """Tell whether another host alone has the virtual IP."""
    holders = cluster.holders_of_vip()
    return len(holders) == 1 and holders[0] != old


def assert_nothing_lost(lab: Lab, watch: Watch, cluster: Cluster) -> None:
    watch.stop_client()
    fates = Auditor(lab).fates(watch.attempts, cluster.primary())
    assert {protocol: fate.lost for protocol, fate in fates.items()} == {"sql": (), "smtp": (), "imap": ()}
    assert {protocol: fate.queued for protocol, fate in fates.items()} == {"sql": (), "smtp": (), "imap": ()}
    assert all(fate.acknowledged > 0 for fate in fates.values())
    watch.stop()
    for what in ("reachable", "vip", "writable"):
        assert watch.overlap_ms(what, 0.0, now_ms()) == 0, f"two hosts were {what} at once"


def test_a_power_cut_moves_the_role_and_loses_nothing(lab: Lab, cluster: Cluster, tmp_path: Path) -> None:
    old, term = cluster.primary(), cluster.term()
    with Watch(lab, tmp_path, "watch") as watch:
        watch.wait_until_steady()
        lab.kill(old)
        watch.wait_until_served(MOVED_S)
        new = cluster.primary()
        assert new != old
        assert cluster.term() == term + 1
        lab.boot(old)
        wait_for(f"{old} is home as a replica", lambda: cluster.is_healthy_replica(old), HOME_S)
        assert cluster.primary() == new
        assert cluster.term() == term + 1
        watch.wait_until_served(MOVED_S)
        assert_nothing_lost(lab, watch, cluster)


def test_a_planned_switchover_moves_the_role_and_loses_nothing(lab: Lab, cluster: Cluster, tmp_path: Path) -> None:
    old, term = cluster.primary(), cluster.term()
    new = next(host for host in layout.DATA_NODES if host != old)
    with Watch(lab, tmp_path, "watch") as watch:
        watch.wait_until_steady()
        lab.exec(old, "failoverctl", "promote", "--node", new)
        assert cluster.primary() == new
        assert cluster.term() == term + 1
        watch.wait_until_served(MOVED_S)
        wait_for(f"{old} is a replica", lambda: cluster.is_healthy_replica(old), HOME_S)
        assert_nothing_lost(lab, watch, cluster)


def test_a_switchover_goes_on_when_its_terminal_dies(lab: Lab, cluster: Cluster) -> None:
    old = cluster.primary()
    new = next(host for host in reversed(layout.DATA_NODES) if host != old)
    command = lab.command(old, "failoverctl", "promote", "--node", new)
    with subprocess.Popen(command, stdout=subprocess.PIPE) as terminal:
        assert terminal.stdout is not None
        terminal.stdout.readline()
        terminal.kill()
    wait_for(f"{new} is primary", lambda: cluster.holders_of_vip() == [new], MOVED_S)


def refuse(lab: Lab, cluster: Cluster, node: str) -> str:
    """Ask for a promotion that must be refused; give what was said. Nothing may have been touched."""
    before = (cluster.primary(), cluster.term())
    answer = lab.exec(before[0], "failoverctl", "promote", "--node", node, check=False)
    assert answer.returncode == REFUSED, answer.stdout + answer.stderr
    assert (cluster.primary(), cluster.term()) == before
    return answer.stdout + answer.stderr


def test_promoting_an_unknown_node_is_refused(lab: Lab, cluster: Cluster) -> None:
    assert "BLK_NO_SUCH_NODE" in refuse(lab, cluster, "mail9")


def test_promoting_the_arbiter_is_refused(lab: Lab, cluster: Cluster) -> None:
    assert "BLK_NOT_DATA" in refuse(lab, cluster, "arbiter")


def test_promoting_a_dead_node_is_refused(lab: Lab, cluster: Cluster) -> None:
    dead = next(host for host in layout.DATA_NODES if host != cluster.primary())
    lab.kill(dead)
    refuse(lab, cluster, dead)  # at once, while its last report is still fresh
    wait_for(f"{dead} is missed", lambda: not cluster.is_heard(dead), 10)
    assert "BLK_UNREACHABLE" in refuse(lab, cluster, dead)


def test_promoting_a_lagging_node_is_refused(lab: Lab, cluster: Cluster) -> None:
    lagging = next(host for host in layout.DATA_NODES if host != cluster.primary())
    lab.sql(lagging, "STOP SLAVE; CHANGE MASTER TO MASTER_DELAY = 3600; START SLAVE;")
    try:
        wait_for(f"{lagging} lags", lambda: (cluster.lag_ms(lagging) or 0) > LAGGING_MS, 20)
        assert "BLK_LAG" in refuse(lab, cluster, lagging)
    finally:
        lab.sql(lagging, "STOP SLAVE; CHANGE MASTER TO MASTER_DELAY = 0; START SLAVE;")


def never_restart(lab: Lab, host: str) -> None:
    """Until the fixture takes it back. `mask --runtime` would not do: the unit is in /etc, which comes before /run."""
    lab.exec(host, "mkdir", "-p", layout.DROP_IN)
    lab.exec(host, "tee", f"{layout.DROP_IN}/lab.conf", stdin="[Service]\nRestart=no\n")
    lab.exec(host, "systemctl", "daemon-reload")


def kill_daemon(lab: Lab, host: str) -> None:
    daemon = lab.exec(host, "systemctl", "show", "--property=MainPID", "--value", "failoverd.service").stdout.strip()
    lab.exec(host, "kill", "-9", daemon)


def test_a_killed_daemon_loses_the_virtual_ip_by_the_lease_and_another_node_takes_over(
    lab: Lab, cluster: Cluster
) -> None:
    old = cluster.primary()
    never_restart(lab, old)
    kill_daemon(lab, old)
    wait_for(f"the kernel of {old} withdraws the virtual IP", lambda: old not in cluster.holders_of_vip(), LEASE_S * 2)
    assert lab.exec(old, "systemctl", "is-active", "failoverd.service", check=False).stdout.strip() != "active"
    wait_for("another node is primary", lambda: moved_from(cluster, old), MOVED_S)


@pytest.mark.parametrize("unit", ["dovecot.service", "postfix@-.service"])
def test_a_service_that_cannot_run_on_the_primary_moves_the_role(lab: Lab, cluster: Cluster, unit: str) -> None:
    old = cluster.primary()
    lab.exec(old, "systemctl", "mask", "--runtime", unit)
    lab.exec(old, "systemctl", "stop", unit)
    wait_for("another node is primary", lambda: moved_from(cluster, old), MOVED_S)


def test_a_bad_configuration_ends_with_78_and_touches_nothing(lab: Lab, cluster: Cluster) -> None:
    host = next(name for name in layout.DATA_NODES if name != cluster.primary())
    good = lab.exec(host, "cat", "/etc/failoverd/failoverd.yaml").stdout
    rules_before = lab.exec(host, "nft", "--stateless", "list", "ruleset").stdout
    bad = good.replace("ttl: 3s", "ttl: 1s")
    assert bad != good
    lab.exec(host, "tee", "/root/bad.yaml", stdin=bad)
    answer = lab.exec(host, "/opt/failoverd/bin/failoverd", "run", "--config", "/root/bad.yaml", check=False)
    assert answer.returncode == BAD_CONFIGURATION
    assert "renew" in answer.stderr
    assert "/root/bad.yaml" in answer.stderr
    assert lab.exec(host, "nft", "--stateless", "list", "ruleset").stdout == rules_before
    assert cluster.is_healthy_replica(host)
