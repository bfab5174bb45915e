"""Four hosts with mail, a database and no configuration of failoverd's: `init`, `join`, and it is a cluster."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import yaml
from hosts import layout
from hosts.shell import wait_for
from trials.cluster import Cluster

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Iterator

    from hosts import Lab

pytestmark = pytest.mark.lab

ANSWERS = {
    "cluster": "lab",
    "nodes": {host: layout.ADDRESSES[host] for host in layout.DATA_NODES},
    "arbiter": {layout.ARBITER: layout.ADDRESSES[layout.ARBITER]},
    "vip": f"{layout.VIP}/{layout.PREFIX}",
    "canary": layout.CANARY,
    "canary_password_file": "/root/canary",
    "replication_user": layout.REPLICATION_USER,
    "replication_password_file": "/root/replication",
}
ADOPTED_S = 60.0


@pytest.fixture
def bare(lab_of_the_session: Lab) -> Iterator[Lab]:
    """Give hosts as their administrator has them before failoverd: one primary, and nobody has the virtual IP."""
    lab = lab_of_the_session
    lab.up(failoverd=False)
    primary = layout.FIRST_PRIMARY
    for host in layout.HOSTS:
        lab.exec(host, "rm", "-r", "/etc/failoverd")
        for unit in (
            "failoverd",
            "failoverd-guard",
            "failoverd-helper",
            "failoverd-gate",
            "failoverd-donor",
            "failoverd-rebuild",
        ):
            lab.exec(host, "systemctl", "disable", "--now", unit)
    lab.sql(primary, "DROP DATABASE failoverd; DROP USER failoverd@localhost;")
    lab.exec(primary, "sh", "-c", f"ip address del {layout.VIP}/{layout.PREFIX} dev host0 || true")
    for name, secret in (("canary", layout.CANARY_PASSWORD), ("replication", layout.REPLICATION_PASSWORD)):
        lab.exec(primary, "sh", "-c", f"umask 077; cat >/root/{name}", stdin=secret)
    lab.exec(primary, "sh", "-c", "cat >/root/answers.yaml", stdin=yaml.safe_dump(ANSWERS, sort_keys=False))
    yield lab
    lab.up()


def carry(lab: Lab, host: str) -> None:
    archive = lab.exec(layout.FIRST_PRIMARY, "base64", f"/etc/failoverd/join/{host}.join").stdout
    lab.exec(host, "sh", "-c", f"umask 077; base64 -d >/root/{host}.join", stdin=archive)


def init(lab: Lab, *more: str) -> subprocess.CompletedProcess[str]:
    command = ("failoverctl", "init", "--answers", "/root/answers.yaml", *more)
    return lab.exec(layout.FIRST_PRIMARY, *command, check=False, timeout_s=120)


def test_from_hosts_without_a_configuration_to_a_cluster(bare: Lab) -> None:
    lab, cluster, primary = bare, Cluster(bare), layout.FIRST_PRIMARY
    done = init(lab, "--yes")
    assert done.returncode == 0, done.stdout + done.stderr
    print(done.stdout)
    for host in (layout.ARBITER, "mail2", "mail3"):
        carry(lab, host)
        joined = lab.exec(host, "failoverctl", "join", f"/root/{host}.join", "--yes", check=False, timeout_s=120)
        assert joined.returncode == 0, joined.stdout + joined.stderr
        print(joined.stdout)
    wait_for("the primary is adopted", lambda: cluster.term() == 1, ADOPTED_S)
    cluster.wait_until_settled(ADOPTED_S)
    assert cluster.primary() == primary
    checked = lab.exec(primary, "failoverctl", "check", check=False)
    print(checked.stdout)
    assert checked.returncode in {0, 6}, checked.stdout

    # All of it once more changes nothing.
    assert "nothing to change" in init(lab, "--yes").stdout
    again = lab.exec("mail2", "failoverctl", "join", "/root/mail2.join", "--yes", check=False)
    assert "nothing to change" in again.stdout, again.stdout + again.stderr

    # And it is a cluster that works: the role moves by the accounts and certificates that were made.
    lab.exec(primary, "failoverctl", "promote", "--node", "mail2", timeout_s=60)
    assert cluster.primary() == "mail2"
    cluster.wait_until_settled(ADOPTED_S)
