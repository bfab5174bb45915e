"""Afterwards it can be explained: a switchover and a power cut, asked of the real hosts' daemons and records."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from hosts import layout
from hosts.shell import wait_for

if TYPE_CHECKING:
    from hosts import Lab
    from trials.cluster import Cluster

pytestmark = [pytest.mark.lab, pytest.mark.long]

MOVED_S = 30.0


def told(lab: Lab, host: str, *command: str) -> dict[str, Any]:
    """Give the JSON that failoverctl prints on a host."""
    answer = lab.exec(host, "failoverctl", *command, "-o", "json")
    document: dict[str, Any] = json.loads(answer.stdout)
    return document


def newest(lab: Lab, host: str, term: int) -> dict[str, Any]:
    """Give the change of that term as `host` tells it, once it is known to have ended."""

    def ended() -> bool:
        changes = told(lab, host, "history")["changes"]
        return bool(changes) and changes[0]["term"] == term and changes[0]["outcome"] == "done"

    wait_for(f"{host} tells of term {term}", ended, MOVED_S)
    change: dict[str, Any] = told(lab, host, "history", f"term-{term}")["changes"][0]
    return change


def test_a_switchover_and_a_power_cut_can_be_explained(lab: Lab, cluster: Cluster) -> None:
    old, term = cluster.primary(), cluster.term()
    new = next(host for host in layout.DATA_NODES if host != old)
    lab.exec(old, "failoverctl", "promote", "--node", new, "--reason", "a test of the record")
    cluster.wait_until_settled()
    for host in layout.HOSTS:  # whoever is asked tells the same
        change = newest(lab, host, term + 1)
        assert (change["kind"], change["previous"], change["holder"]) == ("switchover", old, new)
        assert (change["reason"], change["rule"]) == ("a test of the record", "take-over-given")
        assert 0 < change["outage_ms"] < 3000
        steps = {(phase["node"], phase["name"]): phase["outcome"] for phase in change["phases"]}
        assert steps[old, "close-gate"] == steps[new, "open-gate"] == "succeeded"
    (asked,) = told(lab, new, "history", change["request"])["events"]
    assert (asked["node"], asked["outcome"], asked["result"]) == (old, "done", f"{new} is primary as asked")
    let_go = told(lab, old, "explain", f"term-{term + 1}")
    assert (let_go["rule"], let_go["decision"], let_go["differs"]) == ("switchover-asked", "let-go", "")
    assert f"nobody had asked for {new}" in {fact["if"] for fact in let_go["otherwise"]}

    lab.kill(new)
    wait_for("another host serves", lambda: cluster.holders_of_vip() not in ([], [new]), MOVED_S)
    third = cluster.primary()
    change = newest(lab, third, term + 2)
    assert (change["kind"], change["previous"], change["holder"]) == ("failover", new, third)
    assert change["by"] == "failoverd"
    assert 1000 < change["outage_ms"] < 10_000
    assert [unseen["node"] for unseen in told(lab, third, "history")["unseen"]] == [new]
    took = told(lab, third, "explain", f"term-{term + 2}")
    assert (took["rule"], took["decision"], took["differs"]) == ("primary-lost-by-quorum", "take-over", "")
    assert "the cluster were paused" in {fact["if"] for fact in took["otherwise"]}
    assert {"BLK_UNREACHABLE"} == {why["code"] for why in told(lab, third, "explain", "why-not", new)["reasons"]}
    assert told(lab, third, "explain", "now")["rule"] == "primary-serves"

    lab.boot(new)
    cluster.wait_until_settled(60)
    for host in layout.HOSTS:
        verified = json.loads(lab.exec(host, "failoverctl", "audit", "verify", "-o", "json", check=False).stdout)
        assert [one for one in (*verified["found"], *verified["others"]) if one["broken"]] == [], host
        assert verified["whole"] is True
    change = newest(lab, new, term + 2)  # it was not there, and knows from the others
    assert (change["previous"], change["holder"]) == (new, third)
