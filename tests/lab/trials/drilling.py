"""Drills on the lab's hosts: set up as an administrator would, conducted with failoverctl, looked at from outside."""

from __future__ import annotations

import json
import re
import subprocess
import time
from typing import TYPE_CHECKING, Any

from hosts import LabError, layout
from hosts.power_switch import fencing
from hosts.rootfiles import enable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from hosts import Lab

    from trials.cluster import Cluster

SECTION = """drill:
  enabled: true
  window: always
  password_file: /etc/failoverd/secrets/drill
  load: {accounts_file: /etc/failoverd/secrets/drill-accounts, ramp: 10s, share: 100%}
  disk: /var/lib/mysql
"""
AGENTS = ("failoverd-drill-agent.service", "failoverd-drill-recover.service")
ROOT = "/var/lib/failoverd/drill"
FAULT = "/run/systemd/system/failoverd-fault.service"
RUN_S = 600.0
LOOK_S = 0.05


def configured(text: str) -> str:
    """Give the hosts' configuration with drills allowed, and a fence agent for each data node."""
    for name in ("drill", "fencing"):
        text = re.sub(rf"(?m)^{name}:.*\n(?:[ \t].*\n|\n)*", "", text)
    return f"{text}\n{fencing()}\n{SECTION}"


class Drills:
    """All drills of one lab."""

    def __init__(self, lab: Lab, cluster: Cluster) -> None:
        self._lab, self._cluster = lab, cluster

    def enable(self) -> None:
        """Start every node's agent, now and at each boot."""
        for host in layout.HOSTS:
            for unit in AGENTS:
                enable(self._lab.path(host, "/"), unit)
            self._lab.exec(host, "systemctl", "daemon-reload")
            self._lab.exec(host, "systemctl", "start", "failoverd-drill-agent.service")

    def disable(self) -> None:
        """Stop the agents, for good."""
        for host in layout.HOSTS:
            for unit in AGENTS:
                self._lab.exec(host, "systemctl", "disable", "--now", unit)

    def kill(self, host: str) -> bool:
        """Kill the process that conducts the drill; return False where there is none."""
        shown = self._lab.exec(host, "systemctl", "show", "--property=MainPID", "--value", "failoverd-drill.service")
        pid = shown.stdout.strip()
        return pid != "0" and self._lab.exec(host, "kill", "-KILL", pid, check=False).returncode == 0

    def coordinator(self, scenario: str) -> str:
        """The replica that would not take over, so that the load goes over the wire all the time; or else the other."""
        primary = self._cluster.primary()
        status = self._cluster.status(primary)
        if status is None or status["failover"]["candidate"] is None:
            raise LabError(f"nobody could take over: {self._cluster.unsettled()}")
        heir = str(status["failover"]["candidate"])
        if scenario == "replication-break":  # that breaks on the other one
            return heir
        return next(host for host in layout.DATA_NODES if host not in {primary, heir})

    def begin(self, host: str, scenario: str, *options: str) -> subprocess.Popen[str]:
        """Type `failoverctl drill run`, and look on."""
        command = self._lab.command(host, "failoverctl", "drill", "run", scenario, "--yes", *options)
        return subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )

    def states(self, host: str) -> list[dict[str, Any]]:
        """What lies on a host's disk of every drill, newest first."""
        places = sorted(self._lab.path(host, ROOT).glob("[0-9]*/state.json"), reverse=True)
        return [json.loads(place.read_text()) for place in places]

    def report(self, host: str, drill: str) -> dict[str, Any]:
        """The report, as a host keeps it."""
        value = json.loads(self._lab.path(host, f"{ROOT}/{drill}/report.json").read_text())
        assert isinstance(value, dict)
        return value

    def report_page(self, host: str, drill: str) -> bytes:
        """The page of it that a host keeps."""
        return self._lab.path(host, f"{ROOT}/{drill}/report.html").read_bytes()

    def wait_for(self, host: str, before: int, right: Callable[[dict[str, Any]], bool], limit_s: float) -> bool:
        """Wait until the drill after `before` others is as wanted; False where it has ended before that."""
        until = time.monotonic() + limit_s
        while time.monotonic() < until:
            states = self.states(host)
            if len(states) > before:
                if right(states[0]):
                    return True
                if states[0]["outcome"] != "under-way":
                    return False
            time.sleep(LOOK_S)
        raise LabError(f"the drill on {host} is not as wanted within {limit_s:.0f} s: {self.states(host)[:1]}")

    def journal(self, host: str) -> str:
        """What the drill's units on a host have said last."""
        units = [f"--unit=failoverd-{name}.service" for name in ("drill", "drill-recover", "drill-agent", "fault")]
        return str(self._lab.exec(host, "journalctl", "--no-pager", "--lines=60", "-o", "short-precise", *units).stdout)

    def left(self) -> list[str]:
        """Say what of any drill is left on any host; a host without power is the first thing to be told."""
        found = []
        for host in layout.HOSTS:
            try:
                found += self._left_on(host)
            except LabError:  # its power goes or comes at this moment
                found.append(f"{host} has no power")
        return found

    def _left_on(self, host: str) -> Iterator[str]:
        if self._lab.path(host, FAULT).exists():
            yield f"{host} has a fault"
        yield from (f"{host}: {path}" for path in self._lab.path(host, "/run/systemd/system").glob("*.d/*drill*"))
        if self._lab.path(host, f"{ROOT}/current").exists():
            yield f"{host} has a drill that is not clean"
        if self._lab.exec(host, "nft", "list", "table", "inet", "failoverd_drill", check=False).returncode == 0:
            yield f"{host} is cut off"
