"""A node that holds what the primary lacks comes home on real hosts: saved first, then its database made anew."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hosts import layout
from hosts.shell import wait_for
from test_failover import MOVED_S, assert_nothing_lost
from trials.cluster import audit_of
from trials.watch import Watch

if TYPE_CHECKING:
    from pathlib import Path

    from hosts import Lab
    from trials.cluster import Cluster

pytestmark = pytest.mark.lab

REBUILT_S = 120.0
ROW = "written on a replica"


def rows(lab: Lab, host: str) -> int:
    return int(lab.sql(host, f"SELECT COUNT(*) FROM app.writes WHERE id = '{ROW}'")[0][0])  # noqa: S608 - our own


def test_a_replica_that_was_written_to_is_made_anew_when_asked_for(lab: Lab, cluster: Cluster, tmp_path: Path) -> None:
    primary, term = cluster.primary(), cluster.term()
    replica = next(host for host in layout.DATA_NODES if host != primary)
    audit = audit_of(replica)
    audit.new()
    lab.sql(replica, "SET GLOBAL read_only = 0")
    lab.sql(replica, f"INSERT INTO app.writes VALUES ('{ROW}', 1)")  # noqa: S608 - likewise
    lab.sql(replica, "SET GLOBAL read_only = 1")
    assert rows(lab, replica) == 1
    with Watch(lab, tmp_path, "watch") as watch:
        watch.wait_until_steady()
        asked = lab.exec(primary, "failoverctl", "rejoin", replica, "--rebuild", "--yes", timeout_s=REBUILT_S)
        assert "done" in asked.stdout
        wait_for(f"{replica} is home", lambda: cluster.is_healthy_replica(replica), MOVED_S)
        assert rows(lab, replica) == 0
        watch.wait_until_served(MOVED_S)
        assert_nothing_lost(lab, watch, cluster)
    saved = lab.exec(replica, "grep", "-rl", ROW, "/var/lib/failoverd/ahead").stdout
    assert "events.sql" in saved
    assert any(line.get("kind") == "rebuild" for line in audit.new())
    assert (cluster.primary(), cluster.term()) == (primary, term)
