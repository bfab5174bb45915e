"""Clusters that go on without a replica: nobody acknowledges for long, and then the primary is lost.

A share of the seeds has this policy and this trouble, drawn apart from all else, as in sim_rare: the schedules of the
other seeds stay as they were. What clients are told meanwhile is only on the primary, and the replicas come back before
it does. Some of them apply slowly then, and now and then somebody puts back an old copy of the store, in which nothing
of this is said. The judge's "nothing lost" has no exception for any of this.
"""

from __future__ import annotations

from dataclasses import replace
from random import Random
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sim_node import Node
    from sim_weather import Weather
    from world import World

SHARE = 0.15
ALONE = 0.5  # no other trouble comes in between


class Unproven:
    """Draws whether, after how long, and when; again and again until `until`."""

    def __init__(self, weather: Weather) -> None:
        self._weather = weather
        self._random = random = Random(f"unproven {weather.seed}")  # noqa: S311 - a schedule, no secret
        self._slow = Random(f"unproven slow {weather.seed}")  # noqa: S311 - a schedule, no secret
        self._on = random.random() < SHARE
        self.alone = self._on and random.random() < ALONE
        if self._on:
            after_ms = round(weather.policy.ttl_ms * random.uniform(1.5, 4))
            weather.policy = replace(weather.policy, go_on_after_ms=after_ms)

    def begin(self, world: World, until: int) -> None:
        """From now on it happens."""
        self._world, self._until = world, until
        if self._on:
            self._later(3, 10, self._happen)

    def _later(self, least: float, most: float, action: object, *arguments: object) -> None:
        self._world.at(round(self._weather.policy.ttl_ms * self._random.uniform(least, most)), action, *arguments)  # type: ignore[arg-type] # a method of this class or a node

    def _happen(self) -> None:
        if self._world.now >= self._until:
            return
        primary = self._world.serving()
        if primary is not None:
            others = [node for node in self._world.data_nodes if node is not primary]
            for other in others:
                self._later(0, 0.5, self._lost, other, 6, 10)
            if self._slow.random() < 0.4:
                self._applies_slowly(self._slow.choice(others))
            if self._random.random() < 0.7:
                self._later(5, 9, self._primary_lost, primary)
        self._later(14, 22, self._happen)

    def _primary_lost(self, primary: Node) -> None:
        """And some time before it is back, the store may have forgotten what only the primary can answer for."""
        self._lost(primary, 6, 14)
        if self._random.random() < 0.5:
            self._later(0.1, 1.5, self._old_copy)

    def _lost(self, node: Node, least: float, most: float) -> None:
        """Without power, with a server that is killed, or standing still."""
        if not (self._weather.storm and node.powered):
            return
        how = self._random.random()
        if how < 0.7:
            self._say(f"{node.name} is off for long")
            node.power_off()
            self._later(least, most, node.power_on)
        elif how < 0.95 and not node.frozen:
            self._say(f"{node.name} freezes for long")
            node.freeze()
            self._later(least, most, node.thaw)
        else:
            self._say(f"mariadbd of {node.name} is killed")
            node.kill_database()

    def _applies_slowly(self, replica: Node) -> None:
        """Level by its heartbeats when it comes back, as far as anybody asks, and yet it lacks what was told last."""
        ttl_ms, database = self._weather.policy.ttl_ms, replica.database
        database.apply_ms = round(ttl_ms * self._slow.uniform(0.3, 1.5))
        self._say(f"{replica.name} applies slowly")
        self._world.at(13 * ttl_ms, setattr, database, "apply_ms", 1)

    def _old_copy(self) -> None:
        """Somebody puts back the newest copy of this term from before the store said so."""
        store = self._world.store
        now = store.record
        if not self._weather.storm or store.newest is not None:
            return
        for copy in reversed(store.history):
            if now.unproven and not copy.unproven and copy.term == now.term and not copy.revoked:
                self._say("the store is put back to what it was before it said that commits go unproven")
                store.started_anew(copy)  # for good: nobody sees the mistake
                return

    def _say(self, text: str) -> None:
        self._world.tell("trouble", text)
