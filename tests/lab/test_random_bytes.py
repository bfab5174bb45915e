"""Random and half-valid bytes at each open port of every host: the role stays, nothing is started again.

With FAILOVERD_RANDOM_BYTES=10000000 in the environment so many at each port, which takes some minutes.

The client's host throws as a stranger at all ports at once; then a member's certificate does the same inside TLS. What
is thrown, tests/fuzz/throw.py says.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest
from hosts import layout
from hosts.shell import wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator

    from hosts import Lab
    from trials.cluster import Cluster

pytestmark = pytest.mark.lab

BYTES = int(os.environ.get("FAILOVERD_RANDOM_BYTES", "500000"))  # at each port
BY_A_MEMBER = BYTES // 10  # inside TLS, where each connection costs a handshake at both ends
THROW = layout.TREE / "tests" / "fuzz" / "throw.py"
THROWN_S = 500.0
GROWTH_KIB = 64 * 1024
AGENT = "failoverd-drill-agent.service"
UNITS = ("failoverd.service", "failoverd-guard.service", "failoverd-helper.service", "failoverd-donor.service", AGENT)
PORTS = {"node": 7400, "donor": 7401, "agent": 7402, "public": 7480}
SOCKET = "/run/failoverd/control.sock"


@pytest.fixture
def with_agents(lab: Lab) -> Iterator[None]:
    """Let every node's drill agent listen as well."""
    for host in layout.HOSTS:
        lab.exec(host, "systemctl", "start", AGENT)
    yield
    for host in layout.HOSTS:
        lab.exec(host, "systemctl", "stop", AGENT)


def units(lab: Lab, host: str) -> dict[str, tuple[str, str, int]]:
    """Each unit that runs there: its process, how often it was started again, its memory in KiB."""
    found = {}
    for unit in UNITS:
        shown = lab.exec(host, "systemctl", "show", "--property=MainPID,NRestarts", unit).stdout
        values = dict(line.split("=", 1) for line in shown.split())
        if values["MainPID"] != "0":
            status = lab.exec(host, "cat", f"/proc/{values['MainPID']}/status").stdout
            memory = re.search(r"VmRSS:\s+(\d+)", status)
            assert memory is not None
            found[unit] = (values["MainPID"], values["NRestarts"], int(memory[1]))
    return found


def ports_of(host: str) -> list[int]:
    return [port for name, port in PORTS.items() if name != "donor" or host in layout.DATA_NODES]


def throw(lab: Lab, stack: ExitStack, where: str, count: int, *more: str) -> subprocess.Popen[str]:
    command = [sys.executable, str(THROW), where, "--bytes", str(count), *more]
    process = subprocess.Popen(lab.client_command(*command), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    stack.callback(process.wait)
    stack.callback(process.kill)
    return process


def all_thrown(throwing: dict[str, subprocess.Popen[str]], count: int) -> None:
    for where, process in throwing.items():
        said, wrong = process.communicate(timeout=THROWN_S)
        assert process.returncode == 0, f"{where}: {wrong[-1000:]}"
        print(where, said.strip())
        assert json.loads(said)["bytes"] >= count, where


@pytest.mark.usefixtures("with_agents")
def test_random_bytes_at_every_port_leave_the_role_where_it_was(lab: Lab, cluster: Cluster) -> None:
    primary, term = cluster.primary(), cluster.term()
    with ExitStack() as stack:  # what is loaded by the first of them is not growth
        some = {f"{layout.ADDRESSES[host]}:{port}": "" for host in layout.HOSTS for port in ports_of(host)}
        all_thrown({where: throw(lab, stack, where, 100_000) for where in some}, 100_000)
    before = {host: units(lab, host) for host in layout.HOSTS}
    began = lab.exec(primary, "date", "+%Y-%m-%d %H:%M:%S").stdout.strip()

    for host in layout.HOSTS:  # one host after the other: the machine's two cores are everybody's
        with ExitStack() as stack:
            where = {f"{layout.ADDRESSES[host]}:{port}" for port in ports_of(host)}
            all_thrown({one: throw(lab, stack, one, BYTES) for one in where}, BYTES)
        assert (cluster.primary(), cluster.term()) == (primary, term), host
    pki = lab.pki
    for host in layout.HOSTS:
        member = next(other for other in layout.DATA_NODES if other != host)
        files = (
            "--ca",
            str(pki / "ca.crt"),
            "--certificate",
            str(pki / f"{member}.crt"),
            "--key",
            str(pki / f"{member}.key"),
        )
        with ExitStack() as stack:
            where = {f"{layout.ADDRESSES[host]}:{port}" for port in ports_of(host) if port != PORTS["public"]}
            all_thrown({one: throw(lab, stack, one, BY_A_MEMBER, *files) for one in where}, BY_A_MEMBER)
    for host in layout.HOSTS:
        thrown = lab.exec(
            host,
            "/opt/failoverd/bin/python",
            "-",
            SOCKET,
            "--bytes",
            str(BYTES),
            stdin=THROW.read_text(),
            timeout_s=THROWN_S,
        )
        assert json.loads(thrown.stdout)["bytes"] >= BYTES

    wait_for("everybody is heard again", cluster.is_settled, 60)
    assert (cluster.primary(), cluster.term()) == (primary, term)
    for host in layout.HOSTS:
        after = units(lab, host)
        assert after.keys() == before[host].keys(), host
        for unit, (process, restarts, memory) in after.items():
            assert (process, restarts) == before[host][unit][:2], f"{unit} on {host} was started again"
            growth = memory - before[host][unit][2]
            print(host, unit, f"{growth} KiB more")
            assert growth < GROWTH_KIB, f"{unit} on {host} has grown by {growth} KiB"
        errors = lab.exec(
            host, "journalctl", "--quiet", "--priority=err", f"--since={began}", "--unit=failoverd*"
        ).stdout
        assert not errors, f"{host}: {errors[:2000]}"
