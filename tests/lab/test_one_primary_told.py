"""Load balancers are told who is primary by each node alone, while the role moves: never by two at once."""

from __future__ import annotations

import subprocess
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest
from hosts import layout
from hosts.shell import wait_for

if TYPE_CHECKING:
    from pathlib import Path

    from hosts import Lab
    from trials.cluster import Cluster

pytestmark = pytest.mark.lab

HOME_S = 60.0
PYTHON = "/opt/failoverd/bin/python"
# Asks every 10 ms until its input ends. All hosts have one kernel, and so one clock.
POLL = """
import http.client, json, select, sys, time
asked = http.client.HTTPConnection("127.0.0.1", 7480, timeout=5)
while not select.select([sys.stdin], [], [], 0.01)[0]:
    began = time.monotonic()
    asked.request("GET", "/primary")
    answer = asked.getresponse()
    print(began, time.monotonic(), answer.status, json.load(answer)["term"], flush=True)
"""


@dataclass(frozen=True)
class Said:
    """One answer: between which moments, and in which term it was given."""

    host: str
    began: float
    ended: float
    status: int
    term: int


def collected(host: str, output: str) -> list[Said]:
    rows = (line.split() for line in output.splitlines())
    return [Said(host, float(began), float(ended), int(status), int(term)) for began, ended, status, term in rows]


def test_one_primary_at_a_time_is_told_to_load_balancers(lab: Lab, cluster: Cluster, tmp_path: Path) -> None:
    old, term = cluster.primary(), cluster.term()
    new = next(host for host in layout.DATA_NODES if host != old)
    with ExitStack() as stack:
        for host in layout.HOSTS:
            said_to = stack.enter_context((tmp_path / host).open("w"))
            command = lab.command(host, PYTHON, "-c", POLL)
            stack.enter_context(subprocess.Popen(command, stdin=subprocess.PIPE, stdout=said_to))  # its end ends it
        for host in layout.HOSTS:
            wait_for(f"{host} is asked", lambda host=host: (tmp_path / host).stat().st_size > 0, HOME_S)  # type: ignore[misc]
        lab.exec(old, "failoverctl", "promote", "--node", new)
        wait_for(f"{old} is a replica", lambda: cluster.is_healthy_replica(old), HOME_S)
    said = [answer for host in layout.HOSTS for answer in collected(host, (tmp_path / host).read_text())]
    yes = [answer for answer in said if answer.status == 200]
    assert {(answer.term, answer.host) for answer in yes} == {(term, old), (term + 1, new)}
    last_of_old = max(answer.began for answer in yes if answer.term == term)
    first_of_new = min(answer.ended for answer in yes if answer.term == term + 1)
    assert last_of_old < first_of_new
    assert {answer.host for answer in said} == set(layout.HOSTS)
    assert {answer.status for answer in said} == {200, 503}
