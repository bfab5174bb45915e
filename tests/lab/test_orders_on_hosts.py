"""What operators order on the real hosts: it holds on every node, ends by itself, and outlives who ordered it."""

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

SEEN_S = 15.0
MOVED_S = 30.0


def status(cluster: Cluster, host: str) -> dict[str, Any]:
    found = cluster.status(host)
    assert found is not None, f"{host} does not answer"
    return found


def rejected(document: dict[str, Any]) -> dict[str, str]:
    return {why["node"]: why["code"] for why in document["failover"]["rejected"]}


def test_maintenance_takes_a_replica_out_of_elections_on_every_node(lab: Lab, cluster: Cluster) -> None:
    primary = cluster.primary()
    one, other = (host for host in layout.DATA_NODES if host != primary)
    lab.exec(layout.ARBITER, "failoverctl", "maintenance", one, "on", "--reason", "new disk", "--for", "1h")
    for host in layout.HOSTS:

        def knows(host: str = host) -> bool:
            document = status(cluster, host)
            return rejected(document).get(one) == "BLK_MAINTENANCE" and document["failover"]["candidate"] == other

        wait_for(f"{host} knows of the maintenance", knows, SEEN_S)
    refused = lab.exec(primary, "failoverctl", "promote", "--node", one, check=False)
    assert (refused.returncode, "BLK_MAINTENANCE" in refused.stderr) == (3, True), refused.stderr

    lab.kill(primary)  # the one that would have been first in the order is not taken
    wait_for("the other one serves", lambda: cluster.holders_of_vip() == [other], MOVED_S)
    lab.boot(primary)
    lab.exec(other, "failoverctl", "maintenance", one, "off")
    cluster.wait_until_settled(60)
    assert "BLK_MAINTENANCE" not in rejected(status(cluster, other)).values()


def test_a_scheduled_switchover_happens_and_a_cancelled_one_does_not(lab: Lab, cluster: Cluster) -> None:
    old, term = cluster.primary(), cluster.term()
    new = next(host for host in layout.DATA_NODES if host != old)
    lab.exec(old, "failoverctl", "promote", "--node", new, "--at", "+4s")
    lab.exec(new, "failoverctl", "promote", "--cancel")
    lab.exec(layout.ARBITER, "failoverctl", "promote", "--node", new, "--at", "+6s", "--reason", "at its time")
    due = status(cluster, old)["scheduled"]
    assert (due["target"], due["reason"], due["unfit"]) == (new, "at its time", None)
    assert cluster.term() == term
    wait_for(f"{new} serves", lambda: cluster.holders_of_vip() == [new], MOVED_S)
    cluster.wait_until_settled()
    assert cluster.term() == term + 1, "the cancelled one did not happen, and the other once"
    assert status(cluster, new)["scheduled"] is None


def test_a_pause_ends_by_itself_and_nothing_acts_before(lab: Lab, cluster: Cluster) -> None:
    primary, term = cluster.primary(), cluster.term()
    replica = next(host for host in layout.DATA_NODES if host != primary)
    lab.exec(replica, "failoverctl", "pause", "--reason", "rack", "--for", "10s", "--wait")
    for host in layout.HOSTS:  # --wait: it was not done before each had it
        assert [why["code"] for why in status(cluster, host)["failover"]["blockers"]] == ["BLK_PAUSED"]
    lab.kill(primary)
    wait_for("the lease is over", lambda: status(cluster, replica)["lease"]["state"] == "ended", SEEN_S)
    assert (cluster.holders_of_vip(), cluster.term()) == ([], term)
    assert status(cluster, replica)["paused_until"]
    wait_for("somebody serves when the pause is over", lambda: bool(cluster.holders_of_vip()), MOVED_S)
    assert cluster.term() == term + 1
    lab.boot(primary)


def test_what_was_accepted_goes_on_without_its_terminal_and_history_tells_the_end(lab: Lab, cluster: Cluster) -> None:
    old, term = cluster.primary(), cluster.term()
    new = next(host for host in layout.DATA_NODES if host != old)
    # The terminal's end of the pipe is closed at the first line, which says that it was accepted.
    cut = f"failoverctl promote --node {new} --reason 'the terminal closes' | head -n 1"
    first = lab.exec(old, "sh", "-c", cut)
    assert "accepted" in first.stdout
    wait_for(f"{new} serves", lambda: cluster.holders_of_vip() == [new], MOVED_S)
    cluster.wait_until_settled()
    assert cluster.term() == term + 1
    document = json.loads(lab.exec(new, "failoverctl", "history", "--all", "-o", "json").stdout)
    ended = next(event for event in document["events"] if event["kind"] == "request")
    assert (ended["outcome"], ended["result"]) == ("done", f"{new} is primary as asked")
