"""The cluster as its administrator asks about it (failoverctl), and as the hosts' own disks and kernels tell it."""

from __future__ import annotations

import http.client
import json
import socket
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hosts import LabError, layout
from hosts.shell import wait_for

from trials.figures import Tail

if TYPE_CHECKING:
    from hosts import Lab

BEHIND_FEW = 100  # transactions on their way: about two seconds of the client's and of failoverd's own
LAG_FEW_MS = 2000
SETTLED = "one primary, two healthy replicas, every service up"
_ANSWER_S = 2.0
_VIP_IN_TRIE = f"|-- {layout.VIP}\n"


class _ControlSocket(http.client.HTTPConnection):
    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=_ANSWER_S)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(_ANSWER_S)
        self.sock.connect(self._path)


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

    def status(self, host: str) -> dict[str, Any] | None:
        """What `failoverctl status -o json` says on a host; none where no daemon answers.

        Asked on the daemon's socket itself: a program started each time would cost the hosts more than its answer.
        """
        pid = self._lab.pid(host)
        if pid is None:
            return None
        connection = _ControlSocket(f"/proc/{pid}/root/run/failoverd/control.sock")
        try:
            connection.request("GET", "/v1/status")
            return json.loads(connection.getresponse().read())
        except (OSError, http.client.HTTPException, ValueError):
            return None
        finally:
            connection.close()

    def shown_status(self) -> str:
        """What `failoverctl status` shows a person."""
        return self._lab.exec(self.primary(), "env", "COLUMNS=110", "failoverctl", "status").stdout

    def is_healthy_replica(self, host: str) -> bool:
        """Tell whether the primary sees it as one: it wants to be, is, is ready, and has received all there is."""
        status = self._status_of_primary()
        return status is not None and _is_healthy_replica(status, host)

    def is_heard(self, host: str) -> bool:
        """Tell whether the primary has had a report from the host lately."""
        status = self._status_of_primary()
        return status is not None and any(node["name"] == host and node["fresh"] for node in status["nodes"])

    def lag_ms(self, host: str) -> int | None:
        """How far the host is behind, as the primary shows it; none where that is not known."""
        status = self._status_of_primary()
        nodes = status["nodes"] if status else []
        replication = [(node["database"] or {}).get("replication") for node in nodes if node["name"] == host]
        return replication[0]["lag_ms"] if replication and replication[0] else None

    def lease_left_ms(self) -> int | None:
        """How much of its lease the primary has left, by its own count; none where nobody holds one."""
        status = self._status_of_primary()
        return status["lease"]["left_ms"] if status and status["lease"]["state"] == "held" else None

    def is_settled(self) -> bool:
        """Tell whether all is well: one primary, two healthy replicas, each service works, a failover is possible."""
        return not self.unsettled()

    def unsettled(self) -> list[str]:
        """Say what is not well yet, in the words of the status."""
        status = self._status_of_primary()
        if status is None:
            return [f"no primary tells a status; the virtual IP is on {self.holders_of_vip() or 'no host'}"]
        found = []
        if not status["failover"]["possible"]:
            found.append(f"no failover is possible: {status['failover']['blockers']}")
        for node in status["nodes"]:
            name = node["name"]
            if name != status["holder"] and name in layout.DATA_NODES and not _is_healthy_replica(status, name):
                kept = {key: node[key] for key in ("fresh", "ready", "desired", "actual", "database")}
                found.append(f"{name} is no healthy replica: {kept}")
            found += [
                f"{name}: {service} is {state}"
                for service, state in node["services"].items()
                if state["verdict"] != "up"
            ]
        return found

    def wait_until_settled(self, deadline_s: float = 40.0) -> None:
        """Wait until all is well."""
        wait_for(SETTLED, self.is_settled, deadline_s, why_not=lambda: "; ".join(self.unsettled()))

    def end_flap_block(self, deadline_s: float = 40.0) -> None:
        """Do what an operator does after too many failovers: move the role by hand, which starts the count anew."""

        def ended() -> bool:
            status = self._status_of_primary()
            if status is None:
                return False
            # Each node counts what it has seen since its host's boot: one that was restarted is the last to object.
            seen = [status, *(self.status(host) for host in layout.DATA_NODES)]
            blockers = [blocker["code"] for each in seen if each for blocker in each["failover"]["blockers"]]
            if "BLK_FLAPPING" not in blockers:
                return True
            other = next(host for host in layout.DATA_NODES if host != status["holder"])
            self._lab.exec(status["holder"], "failoverctl", "promote", "--node", other, check=False)
            return False

        wait_for("the block after too many failovers ends", ended, deadline_s)

    def _status_of_primary(self) -> dict[str, Any] | None:
        """Give the status as the primary tells it; none while it is not certain who that is."""
        holders = self.holders_of_vip()
        status = self.status(holders[0]) if len(holders) == 1 else None
        return status if status is not None and status["holder"] == holders[0] else None


def _is_healthy_replica(status: dict[str, Any], host: str) -> bool:
    node = next(node for node in status["nodes"] if node["name"] == host)
    database = node["database"] or {}
    replication = database.get("replication") or {}
    return (
        node["fresh"]
        and node["ready"] is True
        and node["desired"] == node["actual"] == "replica"
        and replication.get("receiver") == replication.get("applier") == "running"
        and replication["source"] == layout.ADDRESSES[status["holder"]]
        and (database["behind"] or 0) < BEHIND_FEW
        and (replication["lag_ms"] or 0) < LAG_FEW_MS
    )
