"""Run Prometheus, HAProxy and nginx outside the cluster with the files of config/, and move the role under them.

Boots the lab, starts the three on the client host, lets clients go through HAProxy and nginx all the time, asks for a
switchover, then cuts the primary's power. Every attempt of a client must be answered by the primary of its time
(Dovecot, MariaDB and Postfix's journal tell which host it was); printed are, for each path, how long it was without
service, how many attempts failed, and when a session that was open ended. Prometheus must have every node as a target,
count one primary before and after each change, and fire alerts on the move and on the dead node, which resolve once it
is back.
What the nodes have logged and recorded meanwhile must pass the settings for Filebeat and Logstash, carried out here.
With --zabbix a real Zabbix 6.0 server (built once, about two minutes) is given the template, too.

Exit code 0 only if everything followed; 1 if not; 2 for wrong usage.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from hosts import Lab, LabError, layout, network
from hosts.shell import wait_for
from rich.console import Console
from rich.table import Table
from trials.cluster import Cluster
from trials.sole import sole_use

from outside import monitoring, programs, shipped, zabbix_server
from outside.attempts import trusting
from outside.held import Held
from outside.paths import Clients, Figures

if TYPE_CHECKING:
    import ssl
    from collections.abc import Iterator

ALL_UP = dict.fromkeys(layout.HOSTS, 1.0)
MOVED, DEAD = frozenset({"PrimaryChanged"}), frozenset({"TargetDown", "NodeNotHeard"})


@dataclass(frozen=True)
class Change:
    """What the clients saw of one move of the role."""

    figures: dict[str, Figures]
    ended_s: dict[str, float]  # sessions that were open


class Run:
    """One run, from a lab that stands."""

    def __init__(self, lab: Lab, console: Console) -> None:
        self._lab, self._console = lab, console
        self._cluster = Cluster(lab)
        self._began = time.monotonic()
        self.changes: dict[str, Change] = {}

    def say(self, words: str) -> None:
        """With the time that has passed."""
        passed = time.monotonic() - self._began
        self._console.print(f"{passed:7.1f} s  {words}", markup=False, highlight=False, soft_wrap=True)

    def go(self, directory: Path, zabbix_root: Path | None) -> None:
        """Do all of it; raises LabError for what did not follow."""
        for host in layout.DATA_NODES:
            programs.let_in(self._lab, host)
        self._cluster.wait_until_settled()
        tls = trusting(self._lab.ca)
        with ExitStack() as stack:
            prometheus = stack.enter_context(programs.running(self._lab, directory))
            zabbix = None
            if zabbix_root is not None:
                place = layout.STATE / "zabbix"
                server = zabbix_server.ZabbixServer(zabbix_root, place, network.CLIENT_NS)
                zabbix = monitoring.Monitored(stack.enter_context(server), self.say)
                zabbix.prepare()
            clients = stack.enter_context(Clients(self._lab, tls))
            began = time.monotonic()
            clients.wait_until_served(began)
            first = self._cluster.primary()
            served = clients.served_by(first, began)
            self.say(f"served by {first}: {', '.join(f'{name} {count} times' for name, count in served.items())}")
            prometheus.wait("every node is a target that answers", 'up{job="failoverd"}', ALL_UP)
            self._one_primary(prometheus, first)
            if zabbix is not None:
                zabbix.wait_for_values(first)
            second = next(host for host in layout.DATA_NODES if host != first)
            self._switch(clients, tls, first, second)
            self._one_primary(prometheus, second)
            prometheus.wait_for_alerts(self.say, MOVED)
            self._cluster.wait_until_settled()
            third = self._cut(clients, tls, second)
            self._one_primary(prometheus, third)
            prometheus.wait_for_alerts(self.say, MOVED | DEAD)
            if zabbix is not None:
                zabbix.wait_for_alarm(second, third)
            self._lab.boot(second)
            self.say(f"{second} has its power again")
            prometheus.wait_for_no_alerts(self.say, DEAD)
            lines = shipped.carried(self._lab, layout.HOSTS)
            self.say(f"Filebeat's and Logstash's settings: {lines['journald']} lines, {lines['filestream']} records")
            if zabbix is not None:
                zabbix.wait_for_the_all_clear(second)

    def _one_primary(self, prometheus: programs.Prometheus, name: str) -> None:
        prometheus.wait("one primary", "sum(failoverd_primary)", {"": 1.0})
        prometheus.wait(f"it is {name}", "failoverd_primary == 1", {name: 1.0})
        self.say(f"Prometheus: {len(prometheus.ask('up'))} targets, one primary, {name}")

    def _switch(self, clients: Clients, tls: ssl.SSLContext, old: str, new: str) -> None:
        with Held(tls, old) as held:
            since = time.monotonic()
            self._lab.exec(old, "failoverctl", "promote", "--node", new)
            self.say(f"switchover from {old} to {new}")
            self._changed("switchover", clients, held, (old, new), since)

    def _cut(self, clients: Clients, tls: ssl.SSLContext, old: str) -> str:
        with Held(tls, old) as held:
            self._lab.kill(old)
            since = time.monotonic()
            self.say(f"the power of {old} is cut")
            wait_for("another node is primary", lambda: self._cluster.holders_of_vip() not in ([], [old]), 30)
            new = self._cluster.primary()
            self._changed("power cut", clients, held, (old, new), since)
        return new

    def _changed(self, what: str, clients: Clients, held: Held, names: tuple[str, str], since: float) -> None:
        old, new = names
        clients.wait_until_served(time.monotonic())
        figures = clients.followed(old, new, since)
        self.changes[what] = Change(figures, held.ended(since))
        self.say(f"every path is served by {new}, and by nobody else since it first was")

    def tables(self) -> Iterator[Table]:
        """For each change, what each path saw."""
        for what, change in self.changes.items():
            columns = (
                "without service, s",
                "attempts that failed",
                "by the old",
                "by the new",
                "open session ended, s",
            )
            table = Table(what, *columns)
            for name, seen in change.figures.items():
                ended = change.ended_s.get(name)
                counts = (str(count) for count in (seen.failed, seen.by_old, seen.by_new))
                table.add_row(name, f"{seen.outage_s:.2f}", *counts, "" if ended is None else f"{ended:.1f}")
            yield table


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
    for table in run.tables():
        console.print(table)
    console.print("Good: everything followed." if good else "NOT good.", style="bold")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
