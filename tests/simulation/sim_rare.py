"""Troubles of two or three things in one order, which chance alone brings together too seldom.

A quarter of the seeds knows one of them, drawn apart from all else: another one here leaves the schedules of the other
seeds as they were, and with them what they are known to catch. In half of those no other trouble comes in between.
"""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from sim_node import Node
    from sim_troubles import Troubles
    from sim_weather import Weather
    from world import World

PREFIX = "rare_"
SHARE = 0.25
ALONE = 0.5
NEEDS_AGENTS = {"rare_condemned"}


class Rare:
    """Draws which, and makes it again and again until `until`."""

    def __init__(self, world: World, weather: Weather, troubles: Troubles, until: int) -> None:
        self._world, self._weather, self._troubles, self._until = world, weather, troubles, until
        self._random = random = Random(f"rare {weather.seed}")  # noqa: S311 - a schedule, no secret
        kinds = [name for name in dir(self) if name.startswith(PREFIX)]
        if not weather.policy.fenced:
            kinds = [name for name in kinds if name not in NEEDS_AGENTS]
        kind = random.choice(kinds)
        self._kind: Callable[[], None] | None = getattr(self, kind) if random.random() < SHARE else None
        self.alone = self._kind is not None and random.random() < ALONE

    def begin(self) -> None:
        """From now on it happens."""
        if self._kind is not None:
            self._next()

    def _next(self) -> None:
        self._world.at(round(self._weather.policy.ttl_ms * self._random.uniform(3, 8)), self._happen)

    def _happen(self) -> None:
        if self._kind is not None and self._world.now < self._until:
            self._kind()
            self._next()

    def rare_condemned(self) -> None:
        """A primary that works for nobody stands still as soon as the others agree on that.

        They revoke its term long before its lease is over. Its kernel still lets clients through, and an agent that
        works would soon end that.
        """
        self._weather.agents = ("fails", "hangs")
        primary = self._world.serving()
        if primary is None:
            return
        service = self._random.choice(list(primary.services.values()))
        service.broken_for_clients = True
        self._say(f"{service.unit} of {primary.name} works for nobody, and then the host stands still")
        after_ms = round(self._weather.policy.ttl_ms * self._random.uniform(0.3, 1.2))
        self._world.at(after_ms, self._stands_still, primary)
        self._world.at(4 * after_ms, setattr, service, "broken_for_clients", False)

    def _stands_still(self, node: Node) -> None:
        if self._weather.storm and node.powered and not node.frozen:
            self._say(f"{node.name} freezes")
            node.freeze()
            self._world.at(self._weather.span_ms(), node.thaw)

    def rare_killed_leaving(self) -> None:
        """A primary whose daemon is killed in a switchover, right as the store is told, and then hears nobody."""
        self._weather.given_back = self._killed
        self._troubles.kind_promote()

    def _killed(self, node: Node) -> None:
        self._weather.given_back = lambda _node: None
        self._say(f"failoverd of {node.name} is killed as it gives back, and comes back deaf")
        deaf_ms = self._weather.policy.ttl_ms
        for other in self._world.nodes:
            if other is not node:
                self._world.network.cut(other.name, node.name)
                self._world.at(deaf_ms, self._world.network.mend, other.name, node.name)
        node.kill_daemon()
        node.when_awake(200, node.start_daemon)

    def _say(self, text: str) -> None:
        self._world.tell("trouble", text)
