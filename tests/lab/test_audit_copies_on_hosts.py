"""A failover's record is on every host, byte for byte; and a record that was cut on one host is found by the others."""

from __future__ import annotations

import json
import re
import shutil
from typing import TYPE_CHECKING

import pytest
from hosts import layout
from hosts.shell import wait_for
from test_failover import HOME_S, MOVED_S, moved_from

if TYPE_CHECKING:
    from pathlib import Path

    from hosts import Lab
    from trials.cluster import Cluster

pytestmark = pytest.mark.lab

AUDIT = "/var/lib/failoverd/audit"
COPIED_S = 15.0  # a host that was off is tried again within ten seconds
CUT = 3  # lines


def record_of(lab: Lab, host: str) -> bytes:
    """Give all that is written to now; a lab's record is too short to be closed."""
    return lab.path(host, f"{AUDIT}/audit.jsonl").read_bytes()


def copy_of(lab: Lab, host: str, origin: str, version: int = 1) -> Path:
    return lab.path(host, f"{AUDIT}/copies/{origin}/{version}")


def has_all(lab: Lab, host: str, origin: str, record: bytes) -> bool:
    path = copy_of(lab, host, origin) / "audit.jsonl"
    return path.exists() and path.read_bytes().startswith(record)


def verified(lab: Lab, host: str, *, whole: bool) -> str:
    answer = lab.exec(host, "failoverctl", "audit", "verify", check=False)
    assert (answer.returncode == 0) == whole, answer.stdout + answer.stderr
    return answer.stdout


def test_a_failover_s_record_is_on_every_host_and_a_cut_one_is_found(lab: Lab, cluster: Cluster) -> None:
    old = cluster.primary()
    lab.kill(old)
    wait_for("the role has moved", lambda: moved_from(cluster, old), MOVED_S)
    new = cluster.primary()
    lab.boot(old)
    wait_for(f"{old} is home as a replica", lambda: cluster.is_healthy_replica(old), HOME_S)
    record = record_of(lab, new)
    told = [json.loads(line) for line in record.splitlines()]
    assert any(line["term"] == cluster.term() and line["kind"] == "decision" for line in told)
    for host in layout.HOSTS:
        if host != new:
            wait_for(f"{host} has {new}'s record", lambda host=host: has_all(lab, host, new, record), COPIED_S)
    said = verified(lab, new, whole=True)
    assert "the same on" in said
    assert re.search(rf"anchors in the store agree, of terms \d+ to {cluster.term()}\b", said), (
        "its head is in the store"
    )

    third = next(host for host in layout.DATA_NODES if host not in {old, new})
    lab.exec(third, "systemctl", "stop", "failoverd.service")
    whole = record_of(lab, third)
    wait_for(f"{new} has all of {third}'s record", lambda: has_all(lab, new, third, whole), COPIED_S)
    kept = b"".join(whole.splitlines(keepends=True)[:-CUT])
    lab.path(third, f"{AUDIT}/audit.jsonl").write_bytes(kept)
    try:
        assert "not looked at: the other nodes" in verified(lab, third, whole=True), "nothing here knows of it"
        lab.exec(third, "systemctl", "start", "failoverd.service")
        wait_for(f"{third} is heard", lambda: cluster.is_heard(third), MOVED_S)
        said = verified(lab, third, whole=False)
        assert f"{new} has it up to record" in said or f"{new} has another record" in said
        assert has_all(lab, new, third, whole), "what was cut off is there still"
    finally:
        lab.exec(third, "systemctl", "start", "failoverd.service")
        for host in layout.HOSTS:
            if copy_of(lab, host, third, 2).exists():  # what an operator does once it is explained
                shutil.rmtree(copy_of(lab, host, third))
