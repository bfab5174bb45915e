"""Every node is upgraded and rebooted by the monthly runbook, to the letter, while clients write."""

from __future__ import annotations

import re
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

RUNBOOK = layout.TREE / "runbooks/monthly-maintenance.md"
SECTION = re.compile(r"^## (\d)\. .+\n((?:(?!## ).*\n)+)", re.MULTILINE)
COMMANDS = re.compile(r"^```sh\n((?:.+\n)+?)```$", re.MULTILINE)
FIT = (0, 6)  # check: fit, or with warnings
UPGRADE = "apt-get update && apt-get upgrade"  # the lab's hosts have no mirror: the reboot is what could be noticed
REBOOT = "systemctl reboot"
BACK_S = 60.0
PLANNED_S = 1.5  # how long a planned switchover may take clients here; its own test has the figure


class Administrator:
    """Types what the page says, from a terminal on `seat` unless the page names another node."""

    def __init__(self, lab: Lab, cluster: Cluster) -> None:
        self._lab, self._cluster = lab, cluster
        self.seat = layout.ARBITER
        sections = dict(SECTION.findall(RUNBOOK.read_text(encoding="utf-8")))
        self._steps = {
            number: [line.partition(" #")[0].strip() for block in COMMANDS.findall(text) for line in block.splitlines()]
            for number, text in sections.items()
        }
        assert list(self._steps) == ["1", "2", "3", "4"]

    def does(self, number: str, node: str) -> None:
        """Do one step of the page for a node; what a person waits for is waited for."""
        for line in self._steps[number]:
            command = line.replace("REPLICA", node)
            if command == UPGRADE:
                continue
            if command == REBOOT:
                self._reboot(node)
            elif command.startswith("/opt/failoverd/bin/failoverd check"):
                self._lab.exec(node, "sh", "-ec", command)
            elif command == "failoverctl check":
                said = self._lab.exec(self.seat, "sh", "-ec", command, check=False)
                assert said.returncode in FIT, said.stdout
                assert "Not seen" not in said.stdout, said.stdout
            else:
                self._lab.exec(self.seat, "sh", "-ec", command)

    def _reboot(self, node: str) -> None:
        self._lab.exec(node, "systemctl", "poweroff", check=False)
        wait_for(f"{node} is off", lambda: self._lab.pid(node) is None, BACK_S)
        self._lab.boot(node)
        wait_for(f"{node} is back", lambda: self._is_back(node), BACK_S)

    def _is_back(self, node: str) -> bool:
        if node == layout.ARBITER:
            status = self._cluster.status(self._cluster.primary())
            return status is not None and bool(status["store"]["reachable"]) and self._cluster.is_heard(node)
        return self._cluster.is_healthy_replica(node)


def test_every_node_is_upgraded_and_clients_notice_the_switchover_alone(
    lab: Lab, cluster: Cluster, tmp_path: Path
) -> None:
    old, term = cluster.primary(), cluster.term()
    replicas = [host for host in layout.DATA_NODES if host != old]
    person = Administrator(lab, cluster)
    with Watch(lab, tmp_path, "watch") as watch:
        watch.wait_until_steady()
        began = now_ms()
        person.seat = replicas[0]
        person.does("1", old)
        for replica in replicas:
            person.seat = old
            person.does("2", replica)
        person.does("3", layout.ARBITER)
        calm = now_ms()
        person.does("4", replicas[0])
        moved = now_ms()
        assert cluster.primary() == replicas[0]
        person.seat = replicas[0]
        person.does("2", old)
        watch.wait_until_served(BACK_S)
        watch.stop_client()
        noticed = [attempt for attempt in watch.attempts if not attempt.ok and began <= attempt.start]
        apart = [attempt for attempt in noticed if not calm - 1000 <= attempt.start <= moved + 1000 * PLANNED_S]
        assert apart == [], f"{len(apart)} of {len(noticed)}"
        fates = Auditor(lab).fates(watch.attempts, cluster.primary())
        assert {protocol: fate.lost for protocol, fate in fates.items()} == {"sql": (), "smtp": (), "imap": ()}
    assert cluster.term() == term + 1, "the role moved once, because it was asked to"
