"""What failoverd's probes find on simulated hosts, at their intervals and within their deadlines.

Every node looks at the services of the present primary, a data node at everything of its own as well.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from failoverd.core.machine import Observed
from failoverd.core.model import Health, HostFacts, Observation, QueueFacts, Reading, StoreFacts, UnitFacts, VipFacts

if TYPE_CHECKING:
    from collections.abc import Callable

    from sim_daemon import Daemon
    from sim_node import Node

DEADLINE_MS = 1000
OK = Reading(Health.OK)


class Look:
    """One probe: how often, how long when it goes well, and what it finds (None: nothing came until the deadline)."""

    __slots__ = ("interval_ms", "look", "probe", "takes_ms")

    def __init__(self, probe: str, interval_ms: int, takes_ms: int, look: Callable[[], Reading | None]) -> None:
        self.probe = probe
        self.interval_ms = interval_ms
        self.takes_ms = takes_ms
        self.look = look


class Probes:
    """The prober of one run of the daemon. Intervals and deadlines are as much longer as the lease is."""

    def __init__(self, daemon: Daemon) -> None:
        self._daemon = daemon
        self._node = daemon.node
        self._world = daemon.world
        self._scale = daemon.world.chance.scale
        self._deadline_ms = DEADLINE_MS * self._scale

    def start(self) -> None:
        """Begin all, each at its own moment."""
        node, sparse = self._node, self._world.chance.sparse
        looks = [Look("host", 2000 * sparse, 5, self._host)]
        if node.is_data:
            looks += [
                Look("database", 500 * min(sparse, 2), 5, self._database),
                Look("vip", 1000 * sparse, 5, self._vip),
                Look("disk:/", 2000 * sparse, 5, self._disk),
            ]
            if node.mail is not None:
                looks.append(Look("queue", 2000 * sparse, 5, self._queue))
            if node.policy.store_moves:
                looks.append(Look("store", 1000 * sparse, 5, self._store))
            units = [node.policy.database_unit, *(service.unit for service in node.services.values())]
            looks += [Look(f"unit:{unit}", 500 * sparse, 5, partial(self._unit, unit)) for unit in units]
            looks += [
                Look(name, 1000 * min(sparse, 2), 40, partial(self._service, name, node)) for name in node.services
            ]
        for number, look in enumerate(looks):
            look.interval_ms *= self._scale
            node.when_running(self._world.chance.latency(10 + 7 * number), self._run, look)
        for number, name in enumerate(node.services):
            node.when_running(self._world.chance.latency(100 + 50 * number), self._look_at_primary, name)

    def _run(self, look: Look) -> None:
        """Look once, tell what was found, and come again."""
        if not self._daemon.lives:
            return
        began_ms = self._node.clock.now_ms()
        found = look.look()
        takes_ms = self._world.chance.latency(look.takes_ms) if found else self._deadline_ms
        self._node.when_running(takes_ms, self._tell, look.probe, self._node, found, began_ms)
        self._node.when_running(max(look.interval_ms, takes_ms), self._run, look)

    def _look_at_primary(self, service: str) -> None:
        if not self._daemon.lives:
            return
        holder = self._daemon.state.view.holder
        takes_ms = 40
        if holder is not None and holder != self._node.name:
            target = self._world.node(holder)
            began_ms, found = self._node.clock.now_ms(), self._service(service, target)
            takes_ms = self._world.chance.latency(takes_ms) if found else self._deadline_ms
            takes_ms = target.services[service].slow_ms or takes_ms
            self._node.when_running(takes_ms, self._tell, service, target, found, began_ms)
        self._node.when_running(max(1000 * self._scale, takes_ms), self._look_at_primary, service)

    def _tell(self, probe: str, target: Node, found: Reading | None, began_ms: int) -> None:
        now_ms = self._node.clock.now_ms()
        if found is None:
            found = Reading(Health.FAILED, "TIMEOUT", f"no answer within {self._deadline_ms} ms")
        self._daemon.feed(Observed(Observation(probe, target.member.name, found, now_ms, now_ms - began_ms)))

    # ---- what there is to see ---------------------------------------------------------------------------------

    def _host(self) -> Reading:
        return Reading(Health.OK, facts=HostFacts(0.2, 60.0, 40.0, "/"))

    def _vip(self) -> Reading:
        return Reading(Health.OK, facts=VipFacts(self._node.kernel.has_address))

    def _store(self) -> Reading:
        return Reading(Health.OK, facts=StoreFacts(self._node.mounted))

    def _disk(self) -> Reading:
        database = self._node.database
        if database.disk_hung:
            return Reading(Health.FAILED, "DISK_HUNG", "/: a write did not come back")
        if database.disk_full:
            return Reading(Health.FAILED, "DISK_FULL", "/: no space left")
        return OK

    def _queue(self) -> Reading:
        count = self._node.mail or 0
        held = count if self._node.mail_held else 0
        return Reading(Health.OK, facts=QueueFacts(0, count - held, held, 0))

    def _database(self) -> Reading | None:
        database = self._node.database
        if database.frozen or database.disk_hung:
            return None
        if self._node.unread:
            return Reading(Health.UNKNOWN, "PROBE_EXHAUSTED", "no thread was free to look")
        if not database.up:
            return Reading(Health.FAILED, "DATABASE_DOWN", "the server does not answer")
        return Reading(Health.OK, facts=database.facts())

    def _unit(self, unit: str) -> Reading:
        if self._node.unit_runs(unit):
            return Reading(Health.OK, facts=UnitFacts(unit, "active", "running"))
        return Reading(Health.FAILED, "UNIT_INACTIVE", f"{unit} is inactive", UnitFacts(unit, "inactive", "dead"))

    def _service(self, name: str, target: Node) -> Reading | None:
        if target is not self._node and not self._world.network.connected(self._node, target):
            return None
        if target.frozen:
            return None
        if target.service_works(name):
            return OK
        return Reading(Health.FAILED, f"{name.upper()}_FAILED", f"{name} of {target.name} does not work")
