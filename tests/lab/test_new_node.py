"""A fifth host takes the place of mail3 by the runbook, to the letter, and no client notices."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
from hosts import layout
from hosts.shell import wait_for
from test_goes_on import patient
from trials.cluster import Cluster
from trials.lost import Auditor
from trials.watch import PATIENCE_S, Watch, now_ms

if TYPE_CHECKING:
    from pathlib import Path

    from hosts import Lab

pytestmark = [pytest.mark.lab, pytest.mark.long]

RUNBOOK = layout.TREE / "runbooks/replace-a-node.md"
OLD, NEW = "mail3", layout.SPARE
COMMANDS = re.compile(r"^```sh\n# on (.+)\n((?:.+\n)+?)```$", re.MULTILINE)
HOME_S = 60.0


@pytest.fixture
def lab_anew(lab_of_the_session: Lab) -> Lab:
    """Give hosts whose lease outlasts a restart of the daemon on a busy machine. They are others afterwards."""
    lab_of_the_session.up(configure=patient)
    Cluster(lab_of_the_session).wait_until_settled(HOME_S)
    return lab_of_the_session


def follow_the_runbook(lab: Lab) -> None:
    """Type every command of the page on the hosts that it names, in its order. One that fails ends it."""
    blocks = COMMANDS.findall(RUNBOOK.read_text(encoding="utf-8"))
    assert [hosts for hosts, _ in blocks] == [layout.ARBITER, OLD, "mail2, mail1", NEW]
    for hosts, commands in blocks:
        for host in hosts.split(", "):
            lab.exec(host, "sh", "-ec", commands, timeout_s=120)


def test_a_fifth_host_takes_the_place_of_a_node_and_no_client_notices(lab_anew: Lab, tmp_path: Path) -> None:
    lab, cluster = lab_anew, Cluster(lab_anew)
    if cluster.primary() != layout.FIRST_PRIMARY:
        lab.exec(layout.FIRST_PRIMARY, "failoverctl", "promote", "--node", layout.FIRST_PRIMARY)
        cluster.wait_until_settled()
    term = cluster.term()
    lab.add_spare()
    file = lab.path(NEW, "/etc/failoverd/failoverd.yaml")
    file.write_text(patient(file.read_text()))  # the administrator has put the cluster's own file there
    with Watch(lab, tmp_path, "watch", patience_s=PATIENCE_S) as watch:
        watch.wait_until_steady()
        began = now_ms()
        follow_the_runbook(lab)
        wait_for(f"{NEW} follows", lambda: cluster.is_healthy_replica(NEW), HOME_S)
        watch.wait_until_served(HOME_S)
        watch.stop_client()
        assert watch.noticed(layout.FIRST_PRIMARY, began) == []
        fates = Auditor(lab).fates(watch.attempts, cluster.primary())
        assert {protocol: fate.lost for protocol, fate in fates.items()} == {"sql": (), "smtp": (), "imap": ()}
    assert (cluster.primary(), cluster.term()) == (layout.FIRST_PRIMARY, term)
    status = cluster.status(layout.FIRST_PRIMARY)
    assert status is not None
    assert {node["name"] for node in status["nodes"]} == {"mail1", "mail2", NEW, layout.ARBITER}
    assert status["failover"]["possible"]
    checked = lab.exec(NEW, "failoverctl", "check", check=False)
    assert checked.returncode in {0, 6}, checked.stdout

    # The old one, switched on again by mistake, still acknowledges: that is told.
    lab.exec(OLD, "systemctl", "start", "mariadb")

    def told() -> bool:
        return "STRANGER_ACKNOWLEDGES" in lab.exec(layout.FIRST_PRIMARY, "failoverctl", "check", check=False).stdout

    wait_for("the stranger is told", told, HOME_S)
    lab.exec(OLD, "systemctl", "stop", "mariadb")
    wait_for("it is told no more", lambda: not told(), HOME_S)

    # The new one is not only there, it can serve.
    lab.exec(NEW, "failoverctl", "promote", "--node", NEW)
    wait_for(f"{NEW} has the virtual IP", lambda: str(lab.exec(NEW, "ip", "address").stdout).count(layout.VIP) == 1, 10)
