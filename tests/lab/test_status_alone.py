"""`failoverctl status` on a real host whose daemon is stopped: what systemd, kernel, database and disk say there."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from hosts import layout
from hosts.shell import wait_for

if TYPE_CHECKING:
    from hosts import Lab
    from trials.cluster import Cluster

pytestmark = pytest.mark.lab

BACK_S = 20


def whole(lab: Lab, host: str, looks: list[dict[str, Any]]) -> bool:
    """Look once; whether all of it came in time."""
    shown = lab.exec(host, "failoverctl", "status", "-o", "json", check=False)
    assert shown.returncode == 4
    told = json.loads(shown.stdout)
    looks.append(told)
    known = all(look["known"] for look in told["host"].values()) and told["host"]["database"]["read_only"] is not None
    return known and all(node["answers"] for node in told["nodes"])


def test_a_host_without_its_daemon_says_what_it_knows_and_what_another_node_sees(lab: Lab, cluster: Cluster) -> None:
    primary = cluster.primary()
    replica = next(name for name in layout.DATA_NODES if name != primary)
    lab.exec(replica, "systemctl", "stop", "failoverd.service")
    try:
        looks: list[dict[str, Any]] = []
        wait_for("a look that a busy machine did not cut short", lambda: whole(lab, replica, looks), BACK_S)
        told = looks[-1]
        host = told["host"]
        assert "no such socket" in told["daemon"]["why"] or "nobody listens" in told["daemon"]["why"]
        assert [unit["active"] for unit in host["unit"]["units"]] == ["inactive", "active", "active"]
        assert (host["gate"]["open"], host["gate"]["enforced"], host["vip"]["present"]) == (False, True, False)
        assert (host["database"]["running"], host["database"]["read_only"]) == (True, True)
        assert host["term"]["term"] == cluster.term()
        assert len(host["audit"]["records"]) == 3
        assert {node["name"]: node["answers"] for node in told["nodes"]} == {
            name: True for name in (*layout.DATA_NODES, "arbiter") if name != replica
        }
        assert (told["seen_from"], told["status"]["holder"]) == (told["status"]["node"], primary)
    finally:
        lab.exec(replica, "systemctl", "start", "failoverd.service")
    wait_for("the daemon is back", lambda: cluster.status(replica) is not None, BACK_S)
