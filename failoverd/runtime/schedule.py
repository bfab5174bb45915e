"""Which probes run on this node, and of whom: its own services always, the primary's from every node.

every node   imap, smtp of the primary (the observers' votes)
data node    imap, smtp, units, database, its settings and its rebuild, VIP, disks, mail queue and host of its own;
             fences' health; a mail store that moves
arbiter      host of its own
             and on each what monitoring watches (watching.py)
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from failoverd.config import ImapService
from failoverd.core.model import NodeKind, NodeName
from failoverd.ports import Target
from failoverd.probes.database import DatabaseProbe
from failoverd.probes.disk import DiskProbe
from failoverd.probes.fence import FenceProbe
from failoverd.probes.host import HostLimits, HostProbe
from failoverd.probes.imap import ImapProbe
from failoverd.probes.queue import QueueProbe
from failoverd.probes.rebuild import RebuildProbe
from failoverd.probes.settings import SettingsProbe
from failoverd.probes.smtp import SmtpProbe
from failoverd.probes.store import StoreProbe
from failoverd.probes.unit import UnitProbe
from failoverd.probes.vip import VipProbe
from failoverd.runtime.prober import Scheduled

if TYPE_CHECKING:
    from collections.abc import Callable

    from failoverd.config import Config, SmtpService
    from failoverd.core.model import Observation, QueueFacts
    from failoverd.ports import Database, Fence, MovedStore, Probe
    from failoverd.probes.disk import Writer
    from failoverd.probes.host import Space
    from failoverd.runtime.watching import Watching

UNIT_INTERVAL_MS = 500
VIP_INTERVAL_MS = 1000
REBUILD_INTERVAL_MS = 1000
HOST_DEADLINE_MS = 1000
SETTINGS_INTERVAL_MS = 10_000  # people change them, and seldom
SETTINGS_DEADLINE_MS = 5000  # nothing waits for it
QUEUE_INTERVAL_MS = 2_000
FENCE_INTERVAL_MS = 60_000  # a management processor is slow, and has other things to do
MOUNT_INTERVAL_MS = 1000
_RHYTHM = {"interval_ms", "deadline_ms", "patience_ms", "failures"}
HOOK_INTERVAL_MS = 60_000  # it is a program of somebody else's, as slow as what it asks


def _service_probe(service: ImapService | SmtpService, ehlo_name: str) -> Probe:
    ca = str(service.ca) if service.ca else None
    name = service.server_name or ""
    if isinstance(service, ImapService):
        return ImapProbe(
            port=service.port,
            tls=service.tls,
            ca=ca,
            server_name=name,
            user=service.user,
            password=service.password.get_secret_value(),
            mailbox=service.mailbox,
        )
    return SmtpProbe(
        port=service.port,
        tls=service.tls,
        ca=ca,
        server_name=name,
        recipient=service.recipient,
        ehlo_name=ehlo_name,
    )


def _made_of(service: ImapService | SmtpService) -> dict[str, object]:
    """What a probe is made of, without how often it looks."""
    return {name: value for name, value in service if name not in _RHYTHM}


def disks_of(config: Config) -> tuple[str, ...]:
    """The file systems whose space is looked at: an arbiter has none of the mail's."""
    return tuple(map(str, config.host.disks)) if config.this.kind is NodeKind.DATA else ("/",)


class WaitingQueue(Protocol):
    """What the probe needs of the mail queue."""

    def waiting(self) -> QueueFacts:
        """Count; blocking. Raises OSError."""
        ...


class Schedule:
    """Builds each probe once and says which of them run when a given node is primary."""

    def __init__(
        self,
        config: Config,
        database: Database | None,
        fence: Fence | None = None,
        locks: Path = Path("/run/failoverd"),  # where nothing else is said, the daemon's own runtime directory
        *,
        queue: WaitingQueue | None = None,
        moved: MovedStore | None = None,
        watching: Watching | None = None,
        write: Callable[[str], Writer] | None = None,
        space: Callable[[str], Space] | None = None,
    ) -> None:
        self._config = config
        self._write, self._space = write, space
        self._locks = locks
        self._made_with = (database, fence, queue, moved)
        self._me = Target(config.this.name, config.this.address)
        self.services = {name: _service_probe(s, config.this.name) for name, s in config.services.items()}
        self._own: list[Scheduled] = [self._host()]
        if config.this.kind is NodeKind.DATA and database is not None:
            self._own += self._data_node(database)
            self._own += self._fences(fence) if fence is not None else []
            if queue is not None:
                looking = QueueProbe(queue.waiting)
                self._own.append(
                    Scheduled("queue", looking, self._me, QUEUE_INTERVAL_MS, QUEUE_INTERVAL_MS, prompt=False)
                )
            self._own += self._mail_store(moved) if moved is not None else []
        self._watching = watching
        self._own += watching.entries if watching is not None else []

    def reloaded(self, config: Config) -> Schedule:
        """The same by another configuration. A probe that would be made alike goes on: it has something open."""
        database, fence, queue, moved = self._made_with
        new = Schedule(
            config, database, fence, self._locks, queue=queue, moved=moved, write=self._write, space=self._space
        )
        for name, probe in self.services.items():
            if _made_of(self._config.services[name]) == _made_of(config.services[name]):
                new.services[name] = probe
        former = {entry.name: entry.probe for entry in self._own if self._goes_on(entry.name, config)}
        former |= new.services
        new._own = [replace(entry, probe=former.get(entry.name, entry.probe)) for entry in new._own]
        return new

    def _goes_on(self, name: str, config: Config) -> bool:
        old = self._config
        if name == "host":
            return old.host == config.host
        return name != "database" or old.database.deadline_ms == config.database.deadline_ms

    def take(self, other: Schedule) -> None:
        """Become `other`, which was made of this."""
        self._config, self.services, self._own = other._config, other.services, other._own

    def _host(self) -> Scheduled:
        host = self._config.host
        limits = HostLimits(
            disks=disks_of(self._config),
            disk_min_free_percent=host.disk_min_free_percent,
            memory_min_free_percent=host.memory_min_free_percent,
            load_max_per_core=host.load_max_per_core,
        )
        return Scheduled("host", HostProbe(limits, self._space), self._me, host.interval_ms, HOST_DEADLINE_MS)

    def _data_node(self, database: Database) -> list[Scheduled]:
        config, me = self._config, self._me
        sql = config.database
        own = self._mail(me)
        units = [service.unit for service in config.services.values()] + [sql.unit]
        own += [Scheduled(f"unit:{unit}", UnitProbe(unit), me, UNIT_INTERVAL_MS, UNIT_INTERVAL_MS) for unit in units]
        probe = DatabaseProbe(database, deadline_ms=sql.deadline_ms)
        own.append(Scheduled("database", probe, me, sql.interval_ms, sql.deadline_ms))
        slow = SettingsProbe(database.beside(), deadline_ms=SETTINGS_DEADLINE_MS)
        own.append(Scheduled("settings", slow, me, SETTINGS_INTERVAL_MS, SETTINGS_DEADLINE_MS, prompt=False))
        own.append(Scheduled("rebuild", RebuildProbe(self._locks), me, REBUILD_INTERVAL_MS, REBUILD_INTERVAL_MS))
        vip = VipProbe(interface=config.vip.interface, address=config.vip.address)
        own.append(Scheduled("vip", vip, me, VIP_INTERVAL_MS, VIP_INTERVAL_MS))
        disks = config.disks
        for path in map(str, disks.write):
            writing = DiskProbe(path, self._locks, self._write)
            own.append(Scheduled(f"disk:{path}", writing, me, disks.interval_ms, disks.deadline_ms))
        return own

    def _fences(self, fence: Fence) -> list[Scheduled]:
        """Of this node: what is wrong is its own, that it could not cut that node's power."""
        deadline_ms = self._config.fencing.timeout_ms
        return [
            Scheduled(f"fence:{name}", FenceProbe(fence, name), self._me, FENCE_INTERVAL_MS, deadline_ms, prompt=False)
            for name in map(NodeName, self._config.fencing.nodes)
        ]

    def _mail_store(self, moved: MovedStore) -> list[Scheduled]:
        store = self._config.mail_store
        seldom = store.kind == "hook"  # a program of somebody else's
        interval_ms = HOOK_INTERVAL_MS if seldom else MOUNT_INTERVAL_MS
        deadline_ms = store.timeout_ms if seldom else MOUNT_INTERVAL_MS
        return [Scheduled("store", StoreProbe(moved), self._me, interval_ms, deadline_ms, prompt=False)]

    def of(self, primary: NodeName | None) -> list[Scheduled]:
        """The entries while `primary` is the node to observe."""
        if primary is None or primary == self._me.node:
            return self._own
        target = Target(primary, self._config.nodes[primary].address)
        return self._own + self._mail(target)

    def noting(self, deliver: Callable[[Observation], None]) -> Callable[[Observation], None]:
        """What the prober is given: monitoring looks at each observation on its way."""

        def told(seen: Observation) -> None:
            if self._watching is not None:
                self._watching.note(seen)
            deliver(seen)

        return told

    def _mail(self, target: Target) -> list[Scheduled]:
        return [
            Scheduled(
                name,
                self.services[name],
                target,
                service.interval_ms,
                service.deadline_ms,
                patience_ms=service.patience_ms,
            )
            for name, service in self._config.services.items()
        ]
