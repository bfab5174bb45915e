"""Clusters whose commits wait for no replica: the replicas fall behind for about as long as the bound, then it is lost.

A share of the seeds has this mode and this trouble, drawn apart from all else, as in sim_unproven: the schedules of the
other seeds stay as they were. What is acknowledged meanwhile is on the primary alone, which goes on serving clients
until its lease ends, since only the store does not hear it any more. So the moment is near at which the bound turns a
failover that may be made into one that must not be; the judge knows the true times.
"""

from __future__ import annotations

from dataclasses import replace
from random import Random
from typing import TYPE_CHECKING

from failoverd.core import rejoin
from failoverd.core.machine import RejoinAsked
from failoverd.core.model import Rejoin

if TYPE_CHECKING:
    from sim_node import Node
    from sim_weather import Weather
    from world import World

SHARE = 0.15
ALONE = 0.7  # no other trouble comes in between
LEASES = (2, 2, 2, 3, 5)  # the bound


class Bounded:
    """Draws whether, with which bound, and when; again and again until `until`."""

    def __init__(self, weather: Weather) -> None:
        self._weather = weather
        self._random = random = Random(f"bounded {weather.seed}")  # noqa: S311 - a schedule, no secret
        self._on = random.random() < SHARE and weather.policy.go_on_after_ms is None
        self.alone = self._on and random.random() < ALONE
        self._leases = random.choice(LEASES)
        if self._on:
            weather.policy = replace(weather.policy, bound_ms=self._leases * weather.policy.ttl_ms)

    def begin(self, world: World, until: int) -> None:
        """From now on it happens."""
        self._world, self._until = world, until
        if self._on:
            self._later(2, 6, self._happen)
            self._bring_home()

    def _later(self, least: float, most: float, action: object, *arguments: object) -> None:
        self._world.at(round(self._weather.policy.ttl_ms * self._random.uniform(least, most)), action, *arguments)  # type: ignore[arg-type] # a method of this class or a node

    def _happen(self) -> None:
        random, primary = self._random, self._world.serving()
        if self._world.now >= self._until:
            return
        if primary is not None:
            often = (*4 * (self._cut_off,), *2 * (self._unread,))
            kind = random.choice((*often, self._slow, self._started_anew, self._prolonged, self._torn))
            kind(primary)
        self._later(self._leases + 6, self._leases + 9, self._happen)

    def _bring_home(self) -> None:
        """An operator has nodes made anew that are held back after a takeover by a floor: soon there were no others."""
        if self._world.now >= self._until:
            return
        for node in self._world.data_nodes:
            state = node.daemon.state if node.daemon else None
            if state is None or state.rule is None or state.rule.id != "needs-rejoin":
                continue
            view, name = state.view, node.member.name
            donor = rejoin.donor_for(view, name)
            if donor is not None and not rejoin.rejections(view, name) and node.daemon is not None:
                node.daemon.feed(RejoinAsked(Rejoin(f"r{self._world.now}", name, donor, "anna", view.highest_term)))
        self._later(0.5, 1, self._bring_home)

    # ---- the replicas fall behind -------------------------------------------------------------------------------

    def _cut_off(self, primary: Node) -> None:
        """They hear nothing of it any more; about one bound later the store does not either."""
        self._cut(primary)
        near = 0.9 * self._leases  # so much of it may be used, as far as clocks go
        self._later(near - 1.1, near - 0.1, self._lost, primary)

    def _cut(self, primary: Node) -> None:
        others = [node for node in self._world.data_nodes if node is not primary]
        if self._random.random() < 0.2:
            others = others[:1]
        self._say(f"{', '.join(node.name for node in others)} hear nothing of {primary.name}")
        for other in others:
            self._world.network.cut(primary.name, other.name)
            self._later(self._leases + 4, self._leases + 5, self._world.network.mend, primary.name, other.name)

    def _unread(self, primary: Node) -> None:
        """Beside that its failoverd cannot read its database, so that there are no samples.

        It would step down for that after `writes_stuck`, since it sees no heartbeat; shortly before, it is lost.
        """
        self._say(f"the database of {primary.name} is not read any more")
        primary.unread = True
        self._later(4, 5, setattr, primary, "unread", False)
        self._later(0.02, 0.1, self._cut, primary)
        self._later(1.2, 1.6, self._killed, primary)

    def _started_anew(self, primary: Node) -> None:
        """Beside that its daemon is started again and again, and has young samples only."""
        for number in range(1, 4):
            self._later(number * self._leases / 4, number * self._leases / 3, self._restarted, primary)
        self._cut_off(primary)

    def _slow(self, primary: Node) -> None:
        """Their appliers lag, and it is lost in any way."""
        for other in self._world.data_nodes:
            if other is not primary:
                other.database.apply_ms = round(self._weather.policy.ttl_ms * self._random.uniform(0.2, self._leases))
                self._later(self._leases + 2, self._leases + 4, setattr, other.database, "apply_ms", 1)
        self._later(self._leases - 1, self._leases + 1, self._lost, primary)

    def _prolonged(self, primary: Node) -> None:
        """Their disks hang, so that they receive nothing; their promises keep the primary while the store is down."""
        self._say(f"the store is down, and the disks of all but {primary.name} hang")
        store = self._world.store
        store.down = True
        for other in self._world.data_nodes:
            if other is not primary:
                other.database.disk_hung = True
                self._later(self._leases + 1.5, self._leases + 2, setattr, other.database, "disk_hung", False)
        self._later(self._leases + 0.5, self._leases + 1.2, self._off, primary)
        self._later(self._leases + 1.5, self._leases + 2.5, setattr, store, "down", False)

    def _torn(self, primary: Node) -> None:
        """One replica is left to it and could promise; the other has the arbiter and needs nobody else to take over."""
        others = [node.name for node in self._world.data_nodes if node is not primary]
        left = self._random.choice(others)
        sides = [[primary.name, left], ["arbiter", *(name for name in others if name != left)]]
        self._say(f"{primary.name} and {left} are cut off from the others")
        for way in self._world.network.part(sides):
            self._later(2, 4, self._world.network.mend, *way)

    # ---- and it is lost -----------------------------------------------------------------------------------------

    def _restarted(self, node: Node) -> None:
        if self._weather.storm and node.powered and node.daemon is not None:
            node.kill_daemon()
            node.when_awake(200, node.start_daemon)

    def _lost(self, node: Node) -> None:
        """Its failoverd ends, or the store does not hear it, while clients do until the lease's end; or its power."""
        if not (self._weather.storm and node.powered):
            return
        how = self._random.random()
        if how < 0.7:
            self._killed(node)
        elif how < 0.9:
            self._say(f"the arbiter hears nothing of {node.name}")
            self._world.network.cut(node.name, "arbiter")
            self._later(3, 5, self._world.network.mend, node.name, "arbiter")
            if self._random.random() < 0.6:
                self._later(1, 2, self._off, node)
        else:
            self._off(node)

    def _killed(self, node: Node) -> None:
        if not (self._weather.storm and node.powered):
            return
        self._say(f"failoverd of {node.name} is killed, for long")
        node.kill_daemon()
        self._later(2, 5, node.when_awake, 200, node.start_daemon)
        if self._random.random() < 0.6:
            self._later(1, 2, self._off, node)

    def _off(self, node: Node) -> None:
        if self._weather.storm and node.powered:
            self._say(f"{node.name} is off")
            node.power_off()
            self._later(3, 6, node.power_on)

    def _say(self, text: str) -> None:
        self._world.tell("trouble", text)
