"""The cluster as its administrator asks about it (failoverctl), and as the hosts' own disks and kernels tell it."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hosts import LabError, layout
from hosts.shell import wait_for

from trials.figures import Tail

if TYPE_CHECKING:
    from hosts import Lab

_VIP_IN_TRIE = f"|-- {layout.VIP}\n"


class Terms:
    """The highest term that any host's audit tells of, read from the hosts' disks."""

    def __init__(self) -> None:
        self._tails = [audit_of(host) for host in layout.HOSTS]
        self._highest = 0

    def highest(self) -> int:
        """Give it as of now."""
        for tail in self._tails:
            terms = [line.get("term") for line in tail.new()]
            self._highest = max([self._highest, *(term for term in terms if isinstance(term, int))])
        return self._highest


def audit_of(host: str) -> Tail:
    """Give the audit of a host, with or without power."""
    return Tail(layout.STATE / "hosts" / host / "root/var/lib/failoverd/audit/audit.jsonl")


class Cluster:
    """Questions, each answered as of now."""

    def __init__(self, lab: Lab) -> None:
        self._lab = lab
        self._terms = Terms()

    def term(self) -> int:
        """The present term."""
        return self._terms.highest()

    def holders_of_vip(self) -> list[str]:
        """The data hosts whose kernel has the virtual IP."""
        found = []
        for host in layout.DATA_NODES:
            pid = self._lab.pid(host)
            if pid is not None:
                with suppress(OSError):  # it has just lost its power
                    if _VIP_IN_TRIE in Path(f"/proc/{pid}/net/fib_trie").read_text():
                        found.append(host)
        return found

    def primary(self) -> str:
        """The one host with the virtual IP."""
        found = self.holders_of_vip()
        if len(found) != 1:
            raise LabError(f"the virtual IP is on {' and '.join(found) or 'no host'}")
        return found[0]

    def status(self, host: str | None = None) -> dict[str, Any]:
        """What `failoverctl status -o json` says, asked on the primary or on a given host."""
        return json.loads(self._lab.exec(host or self.primary(), "failoverctl", "status", "-o", "json").stdout)

    def shown_status(self) -> str:
        """What `failoverctl status` shows a person."""
        return self._lab.exec(self.primary(), "env", "COLUMNS=110", "failoverctl", "status").stdout

    def is_healthy_replica(self, host: str) -> bool:
        """Tell whether the host is back as one."""
        raise NotImplementedError

    def wait_until_settled(self, deadline_s: float = 40.0) -> None:
        """Wait until there is one primary and all other data nodes are healthy replicas."""

        def settled() -> bool:
            holders = self.holders_of_vip()
            return len(holders) == 1 and all(
                self.is_healthy_replica(host) for host in layout.DATA_NODES if host not in holders
            )

        wait_for("one primary and two healthy replicas", settled, deadline_s)

    def lease_figures(self) -> list[str]:
        """What the primary says of its lease."""
        return []
