"""runbooks/monthly-maintenance.md to the letter, on the four hosts, while a client writes.

Boots the lab and types the commands of the page on the hosts that it names, in its order: both replicas, the arbiter,
the switchover, the former primary. The lab's hosts have no network but their own and no machine under them, so three
commands have a stand-in: nothing for apt-get, failoverd's files copied anew from the tree for pip, and for `systemctl
reboot` the host is shut down by its own systemd and switched on. A minute, on a machine that has nothing else to do:
a host that boots takes the processor from its neighbours, and IMAP clients then wait for each other's locks.

Exit code 0 only if no attempt of the client failed but for those of the switchover, nothing that was acknowledged is
lost, at no time two primaries could be reached, the term has grown by one, and no node is left in maintenance.
"""

from __future__ import annotations

import argparse
import re
import shutil
import sys
import tempfile
from collections import Counter
from pathlib import Path
from urllib.request import urlopen

from hosts import Lab, LabError, layout, venv
from hosts.shell import wait_for

from trials import figures
from trials.cluster import Cluster
from trials.lost import Auditor
from trials.sole import sole_use
from trials.watch import Watch, now_ms

PAGE = layout.TREE / "runbooks/monthly-maintenance.md"
SECTION = re.compile(r"^## (\d)\. .+\n((?:(?!## ).*\n)*)", re.MULTILINE)
BLOCK = re.compile(r"^```sh\n# on (.+)\n((?:.+\n)+?)```$", re.MULTILINE)
UPGRADE, INSTALL = "apt-get update && apt-get upgrade", "/opt/failoverd/bin/pip install ."
REBOOT = "systemctl reboot"
BACK_S, SERVED_S = 120.0, 30.0
FIT = {0, 6}  # failoverctl check: nothing that blocks
SWITCHED_MS = 3000.0  # from its command on: what the switchover may cost is in there, and looked at by itself


class Runbook:
    """The page, typed."""

    def __init__(self, lab: Lab, cluster: Cluster) -> None:
        self._lab, self._cluster = lab, cluster
        self._sections = dict(SECTION.findall(PAGE.read_text(encoding="utf-8")))
        if sorted(self._sections) != list("1234"):
            raise LabError(f"{PAGE.name} has other sections than this script knows: {sorted(self._sections)}")
        self.typed = 0

    def follow(self, section: str, replica: str = "") -> None:
        """Type one section's blocks; `replica` is who is meant by REPLICA."""
        for place, commands in BLOCK.findall(self._sections[section]):
            if place not in ("any node", "a data node", "REPLICA", "the arbiter"):
                raise LabError(f"{PAGE.name}: nobody knows where `# on {place}` is")
            for line in commands.splitlines():
                command = line.partition("  #")[0].strip().replace("REPLICA", replica)
                host = {"REPLICA": replica, "the arbiter": layout.ARBITER}.get(place) or self._cluster.primary()
                print(f"  {host:8} $ {command}")
                self.typed += 1
                self._type(host, command)

    def _type(self, host: str, command: str) -> None:
        if command == UPGRADE:
            return
        if command == INSTALL:
            venv.copy_source(self._lab.path(host, "/"))
        elif command == REBOOT:
            self._reboot(host)
        else:
            done = self._lab.exec(host, "sh", "-c", command, check=False, timeout_s=120)
            if done.returncode not in (FIT if command == "failoverctl check" else {0}) or "Not seen" in done.stdout:
                raise LabError(f"`{command}` on {host} ended with {done.returncode}:\n{done.stdout}{done.stderr}")

    def _reboot(self, host: str) -> None:
        self._lab.exec(host, "systemctl", "poweroff", check=False)  # it may be gone before it has answered
        wait_for(f"{host} is off", lambda: self._lab.pid(host) is None, BACK_S)
        self._lab.boot(host)
        if host == layout.ARBITER:
            wait_for("the store is reachable", self._store_answers, BACK_S)
        else:
            wait_for(f"{host} follows", lambda: self._cluster.is_healthy_replica(host), BACK_S)

    def _store_answers(self) -> bool:
        status = self._cluster.status(self._cluster.primary())
        return status is not None and status["store"]["reachable"] and self._cluster.is_heard(layout.ARBITER)

    def is_ready(self, host: str) -> bool:
        """As who scripts it asks."""
        try:
            with (
                self._lab.client_network(),
                urlopen(f"http://{layout.ADDRESSES[host]}:7480/ready", timeout=2) as answer,
            ):
                return answer.status == 200
        except OSError:  # 503
            return False


def _run(lab: Lab, directory: Path) -> list[str]:
    cluster = Cluster(lab)
    cluster.wait_until_settled(60)
    runbook, old, term = Runbook(lab, cluster), cluster.primary(), cluster.term()
    replicas = [host for host in layout.DATA_NODES if host != old]
    with Watch(lab, directory, "maintenance") as watch:
        watch.wait_until_steady()
        began = now_ms()
        runbook.follow("1")
        for replica in replicas:
            runbook.follow("2", replica)
            wait_for(f"{replica} says that it is ready", lambda host=replica: runbook.is_ready(host), SERVED_S)
        runbook.follow("3")
        asked = now_ms()
        runbook.follow("4", replicas[0])
        runbook.follow("2", old)
        watch.wait_until_served(SERVED_S)
        watch.stop_client()
        fates = Auditor(lab).fates(watch.attempts, cluster.primary())
        watch.stop()
        failed = [attempt for attempt in watch.attempts if attempt.start >= began and not attempt.ok]
        elsewhere = [one for one in failed if not asked <= one.start <= asked + SWITCHED_MS]
        outages = watch.outages(asked, asked + SWITCHED_MS)
        two_ms = {what: watch.overlap_ms(what, 0.0, now_ms()) for what in ("reachable", "vip", "writable")}
    print(f"{runbook.typed} commands, {(now_ms() - began) / 1000:.0f} s, {len(watch.attempts)} attempts of the client")
    print(f"the switchover: {', '.join(f'{protocol} {ms:.0f} ms' for protocol, ms in outages.items())} without service")
    wrong = []
    for protocol in figures.PROTOCOLS:
        errors = Counter(one.error for one in elsewhere if one.protocol == protocol)
        wrong += [f"{count} x {protocol} failed beside the switchover: {error}" for error, count in errors.items()]
    late_ms = figures.lateness_ms(watch.attempts, began, now_ms())
    print(f"the client itself was up to {late_ms:.0f} ms late: much of that is a machine that has too much to do")
    wrong += [f"{len(fate.lost)} x {protocol} lost" for protocol, fate in fates.items() if fate.lost]
    wrong += [f"two hosts were {what} at once for {ms:.0f} ms" for what, ms in two_ms.items() if ms]
    if (cluster.primary(), cluster.term()) != (replicas[0], term + 1):
        wrong.append(f"{cluster.primary()} is primary in term {cluster.term()}; {replicas[0]} in {term + 1} was meant")
    status = cluster.status(cluster.primary())
    worked_on = [node["name"] for node in status["nodes"] if node["maintenance"]] if status else ["unknown"]
    return wrong + ([f"still in maintenance: {', '.join(worked_on)}"] if worked_on else [])


def main() -> int:
    """Entry point."""
    argparse.ArgumentParser(
        prog="maintenance", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    ).parse_args()
    lab = Lab(lambda words: print(f"  lab: {words}"))
    directory = Path(tempfile.mkdtemp(prefix="failoverd-maintenance-"))
    with sole_use("maintenance", print):
        try:
            lab.up(failoverd=True)
            wrong = _run(lab, directory)
        except LabError as error:
            wrong = [str(error)]
        finally:
            lab.down()
            shutil.rmtree(directory)
    print("\n".join(wrong) or "every node was upgraded and rebooted, and no client noticed but for the switchover")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
