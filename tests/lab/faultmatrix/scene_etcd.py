"""What can befall etcd as the store, in a row's own words; each verb notes at once how it is undone (scene.py)."""

from __future__ import annotations

import json
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from hosts import LabError, containers, disks, etcd, layout
from hosts.shell import wait_for
from trials.cluster import Cluster, audit_of
from trials.watch import now_ms

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from hosts import Lab
    from trials.figures import Tail

SNAPSHOT = "earlier.snapshot"
_LEADER_MS = 20_000.0
_LOOK_S = 0.02
_REFUSED_S = 15.0
_REPAIRED_S = 10.0
_OLD = ("BLK_STORE_OLD", "old copy")  # by its term; by its version


class EtcdFaults:
    """The members of etcd, and what can befall them."""

    members = etcd.MEMBERS

    def __init__(self, lab: Lab, note: Callable[[str], None], undo: list[Callable[[], object]]) -> None:
        self._lab, self._note, self._undo = lab, note, undo
        self._before: dict[str, Any] = {}  # the record, before an earlier one was brought back
        self._tails: dict[str, Tail] = {}  # of each audit, what was written since
        self.election_s = -1.0  # how long there was no leader; -1: nobody looked

    @property
    def _etcd(self) -> etcd.Etcd:
        if self._lab.etcd is None:
            raise LabError("the store of this lab is not etcd")
        return self._lab.etcd

    def others(self, host: str) -> list[str]:
        """Name the members on other hosts."""
        return [member for member in self.members if member != host]

    def replica(self, replicas: list[str]) -> str:
        """Name the first of the replicas that has a member."""
        return next(host for host in replicas if host in self.members)

    # ---- members ---------------------------------------------------------------------------------------------

    def kill(self, host: str) -> None:
        """SIGKILL to the member; it stays down."""
        self._undo.append(lambda: self.start(host))
        self._undo.append(lambda: self._on(host, "systemctl", "unmask", "--runtime", etcd.UNIT))
        self._lab.exec(host, "systemctl", "mask", "--runtime", etcd.UNIT)
        with self.losing_leader(host):
            self._lab.exec(host, "systemctl", "kill", "--signal=KILL", etcd.UNIT)
            self._note(f"kill -9 etcd on {host}")

    def freeze(self, host: str) -> None:
        """SIGSTOP to the member: its kernel accepts connections, and nobody answers."""
        self._undo.append(lambda: self._on(host, "systemctl", "kill", "--signal=CONT", etcd.UNIT))
        with self.losing_leader(host):
            self._lab.exec(host, "systemctl", "kill", "--signal=STOP", etcd.UNIT)
            self._note(f"kill -STOP etcd on {host}")

    def stop(self, *hosts: str) -> None:
        """Stop members in good order."""
        self._undo.append(lambda: self.start(*hosts))
        self._etcd.stop(hosts)
        self._note(f"etcd is stopped on {' and '.join(hosts)}")

    def start(self, *hosts: str) -> None:
        """Start members, where the host is on."""
        self._etcd.start(hosts)
        self._note(f"etcd is started on {' and '.join(hosts)}")

    def restart_in_turn(self) -> None:
        """Restart one after the other, as an upgrade does: the next one when all are well."""
        for host in self.members:
            self._lab.exec(host, "systemctl", "restart", etcd.UNIT)
            self._etcd.wait_until_healthy()
            self._note(f"etcd is restarted on {host}")

    @contextmanager
    def losing_leader(self, host: str) -> Iterator[None]:
        """Where that host's member leads, wait for another leader after the block that ends it, and note the time."""
        if self._etcd.leader() != host:
            yield
            return
        with self._etcd.asking(self.others(host)[-1]) as told:
            old = told()["leader"]
            began = now_ms()
            yield
            end = began + _LEADER_MS
            while (leader := told().get("leader", "0")) in {"0", old}:
                if now_ms() > end:
                    raise LabError(f"etcd has no new leader after {_LEADER_MS / 1000:g} s")
                time.sleep(_LOOK_S)
        self.election_s = round((now_ms() - began) / 1000, 2)
        self._note(f"etcd has another leader after {self.election_s:.2f} s: {int(leader):x}")

    # ---- what they hold --------------------------------------------------------------------------------------

    def compact(self) -> None:
        """Let etcd forget all that was before now."""
        self._etcd.compact()
        self._note("etcd is compacted")

    def restore_snapshot(self) -> None:
        """Bring the earlier snapshot back on all members, as an administrator does."""
        for host in layout.HOSTS:
            self._tails[host] = audit_of(host)
            self._tails[host].new()
        self._before = self._etcd.record()
        self._undo.append(self._newest_back)
        self._note(f"etcd holds term {self._before['term']}, version {self._before['version']}")
        self._etcd.restore(SNAPSHOT)
        self._note("etcd is restored from the earlier snapshot")

    def await_refused(self) -> None:
        """Wait until every node has said that it does not believe the old record, or the primary has put it right."""
        said: set[str] = set()

        def refused() -> bool:
            said.update(host for host in layout.HOSTS if host not in said and self._says_old(host))
            return said == set(layout.HOSTS) or self._is_repaired()

        wait_for(
            "every node says that the store is an old copy, or the primary has put it right",
            refused,
            _REFUSED_S,
            every_s=0.2,
            why_not=lambda: f"only {sorted(said)} say so",
        )
        self._note(f"that the store is an old copy say {', '.join(sorted(said)) or 'none'}")

    def _says_old(self, host: str) -> bool:
        told = [*self._tails[host].new(), Cluster(self._lab).status(host)]
        return any(word in json.dumps(told) for word in _OLD)

    def _is_repaired(self) -> bool:
        record = self._etcd.record()
        return bool(record["term"] >= self._before["term"] and record["version"] > self._before["version"])

    def _newest_back(self) -> None:
        """What the primary has not put right by itself, the administrator does: with what the members had before."""
        try:
            wait_for("the primary has put the store right", self._is_repaired, _REPAIRED_S, every_s=0.5)
        except LabError:
            self._etcd.put_back()
            self._note("the members have again what they had before")
        else:
            self._note("the primary has written its newest record over the old one")

    # ---- their disks -----------------------------------------------------------------------------------------

    def slow_disks(self, writes: int) -> None:
        """Let the disk of each member do only that many writes a second; tell afterwards what that made of etcd."""
        before = {host: self._etcd.log_sync_ms(host) for host in self.members}

        def well() -> None:
            for host in self.members:
                disks.slow(etcd.disk(host), 0)
            for host, (count, total) in before.items():
                syncs, took = self._etcd.log_sync_ms(host)
                mean = (took - total) / max(syncs - count, 1)
                self._note(f"etcd of {host} has synced its log {syncs - count:.0f} times, each in {mean:.0f} ms")

        self._undo.append(well)
        for host in self.members:
            disks.slow(etcd.disk(host), writes)
        self._note(f"the disks of etcd do {writes} writes a second")

    def _on(self, host: str, *command: str) -> None:
        if containers.pid(host) is not None:
            self._lab.exec(host, *command)
