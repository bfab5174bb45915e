"""Mail that the old primary had accepted and not delivered: once the old one is home, the new one has it, and once."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
from hosts import layout
from hosts.shell import wait_for
from test_failover import HOME_S, MOVED_S
from trials.cluster import audit_of
from trials.lost import Auditor
from trials.watch import Watch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from hosts import Lab
    from trials.cluster import Cluster

pytestmark = [pytest.mark.lab, pytest.mark.long]

WAITING = 20
DEFER = "defer_transports"


def queue_of(lab: Lab, host: str) -> int:
    return len(lab.exec(host, "postqueue", "-j").stdout.splitlines())


@pytest.fixture
def old(lab: Lab, cluster: Cluster) -> Iterator[str]:
    """The primary, whose Postfix accepts mail and puts all of it off: what a full disk or a slow filter does."""
    primary = cluster.primary()
    lab.exec(primary, "postconf", "-e", f"{DEFER} = lmtp")
    lab.exec(primary, "systemctl", "reload", "postfix@-.service")
    yield primary
    if lab.pid(primary) is None:
        lab.boot(primary)
    lab.exec(primary, "postconf", "-X", DEFER)
    lab.exec(primary, "systemctl", "reload", "postfix@-.service")


def test_mail_waiting_in_a_host_that_lost_its_power_is_handed_on_once(
    lab: Lab, cluster: Cluster, tmp_path: Path, old: str
) -> None:
    def cut(host: str) -> None:
        lab.kill(host)
        wait_for("another node serves", lambda: cluster.holders_of_vip() not in ([], [host]), MOVED_S)
        lab.boot(host)

    arrives_once(lab, cluster, tmp_path, old, cut)


def test_mail_waiting_at_a_planned_switchover_is_handed_on_once(
    lab: Lab, cluster: Cluster, tmp_path: Path, old: str
) -> None:
    new = next(host for host in layout.DATA_NODES if host != old)

    def promote(host: str) -> None:
        lab.exec(host, "failoverctl", "promote", "--node", new)

    arrives_once(lab, cluster, tmp_path, old, promote)


def arrives_once(lab: Lab, cluster: Cluster, directory: Path, old: str, move: Callable[[str], None]) -> None:
    audit = audit_of(old)
    audit.new()
    with Watch(lab, directory, "watch") as watch:
        watch.wait_until_steady()
        wait_for(f"{WAITING} mails wait on {old}", lambda: queue_of(lab, old) >= WAITING, MOVED_S)
        move(old)
        wait_for(f"{old} is home as a replica", lambda: cluster.is_healthy_replica(old), HOME_S)
        watch.wait_until_served(MOVED_S)
        wait_for(f"nothing waits on {old}", lambda: queue_of(lab, old) == 0, HOME_S)
        watch.stop_client()
        fate = Auditor(lab).fates(watch.attempts, cluster.primary())["smtp"]
    assert (fate.lost, fate.queued, fate.duplicates) == ((), (), 0)
    told = [str(line) for line in audit.new() if "hand-on-queue" in str(line)]
    handed = sum(int(number) for line in told for number in re.findall(r"(\d+) handed on", line))
    assert handed >= WAITING, told
