"""Run Prometheus, HAProxy and nginx outside the cluster with the files of config/, and move the role under them.

Boots the lab, starts the three on the client host, lets clients go through HAProxy and nginx all the time, asks for a
switchover, then cuts the primary's power, and prints for each path how long it was without service. Prometheus must
have every node as a target, count one primary before and after each change, see that it moved, and fire an alert on the
dead node. With --zabbix a real Zabbix 6.0 server (built once, about two minutes) is given the template, too.

Exit code 0 only if everything followed; 1 if not; 2 for wrong usage.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

from hosts import Lab, LabError, layout, network
from hosts.shell import wait_for
from rich.console import Console
from rich.table import Table
from trials.cluster import Cluster
from trials.sole import sole_use

from outside import monitoring, programs, zabbix_server
from outside.paths import PATHS, Clients

ALERT_S = 60.0
ALL_UP = dict.fromkeys(layout.HOSTS, 1.0)


class Run:
    """One run, from a lab that stands."""

    def __init__(self, lab: Lab, console: Console) -> None:
        self._lab, self._console = lab, console
        self._cluster = Cluster(lab)
        self._began = time.monotonic()
        self.outages: dict[str, dict[str, float]] = {}

    def say(self, words: str) -> None:
        """With the time that has passed."""
        passed = time.monotonic() - self._began
        self._console.print(f"{passed:7.1f} s  {words}", markup=False, highlight=False, soft_wrap=True)

    def go(self, directory: Path, zabbix_root: Path | None) -> None:
        """Do all of it; raises LabError for what did not follow."""
        for host in layout.DATA_NODES:
            programs.let_in(self._lab, host)
        self._cluster.wait_until_settled()
        with ExitStack() as stack:
            prometheus = stack.enter_context(programs.running(self._lab, directory))
            zabbix = None
            if zabbix_root is not None:
                place = layout.STATE / "zabbix"
                server = zabbix_server.ZabbixServer(zabbix_root, place, network.CLIENT_NS)
                zabbix = monitoring.Monitored(stack.enter_context(server), self.say)
                zabbix.prepare()
            clients = stack.enter_context(Clients())
            clients.wait_until_served(time.monotonic())
            self.say(f"served through {', '.join(PATHS)}")
            first = self._cluster.primary()
            prometheus.wait("every node is a target that answers", 'up{job="failoverd"}', ALL_UP)
            self._one_primary(prometheus, first)
            if zabbix is not None:
                zabbix.wait_for_values(first)
            self._switch(clients, first)
            second = self._cluster.primary()
            self._one_primary(prometheus, second)
            self._cluster.wait_until_settled()
            third = self._cut(clients, second)
            self._one_primary(prometheus, third)
            wait_for("Prometheus fires TargetDown", lambda: "TargetDown" in prometheus.firing(), ALERT_S, 0.5)
            self.say(f"Prometheus fires {', '.join(sorted(prometheus.firing()))}")
            if zabbix is not None:
                zabbix.wait_for_alarm(second, third)

    def _one_primary(self, prometheus: programs.Prometheus, name: str) -> None:
        prometheus.wait("one primary", "sum(failoverd_primary)", {"": 1.0})
        prometheus.wait(f"it is {name}", "failoverd_primary == 1", {name: 1.0})
        self.say(f"Prometheus: {len(prometheus.ask('up'))} targets, one primary, {name}")

    def _switch(self, clients: Clients, old: str) -> None:
        new = next(host for host in layout.DATA_NODES if host != old)
        since = time.monotonic()
        self._lab.exec(old, "failoverctl", "promote", "--node", new)
        self.say(f"switchover from {old} to {new}")
        clients.wait_until_served(time.monotonic())
        self.outages["switchover"] = clients.outages(since, time.monotonic())

    def _cut(self, clients: Clients, old: str) -> str:
        since = time.monotonic()
        self._lab.kill(old)
        self.say(f"the power of {old} is cut")
        wait_for("another node is primary", lambda: self._cluster.holders_of_vip() not in ([], [old]), 30)
        clients.wait_until_served(time.monotonic())
        self.outages["power cut"] = clients.outages(since, time.monotonic())
        return self._cluster.primary()

    def table(self) -> Table:
        """What each path saw."""
        table = Table("without service, s", *PATHS)
        for what, seen in self.outages.items():
            table.add_row(what, *(f"{seen[name]:.2f}" for name in PATHS))
        return table


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="integrations", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--zabbix", action="store_true", help="with a real Zabbix 6.0 server as well")
    parser.add_argument("--keep", action="store_true", help="leave the lab up")
    return parser.parse_args()


def main() -> int:
    """Run it and print the table."""
    arguments, console = _arguments(), Console(width=None if sys.stdout.isatty() else 110)
    if os.geteuid() != 0:
        console.print("integrations: the lab needs root", style="red")
        return 1
    lab = Lab(lambda words: console.print(f"           {words}", markup=False, highlight=False))
    run = Run(lab, console)
    good = False
    try:
        programs.install(run.say)
        with tempfile.TemporaryDirectory(prefix="failoverd-outside-") as directory, sole_use("integrations", run.say):
            root = zabbix_server.root(run.say) if arguments.zabbix else None
            try:
                lab.up()
                run.go(Path(directory), root)
                good = True
            finally:
                if not arguments.keep:
                    lab.down()
    except LabError as error:
        console.print(f"integrations: {error}", style="red", markup=False, highlight=False)
    console.print(run.table())
    console.print("Good: everything followed." if good else "NOT good.", style="bold")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
