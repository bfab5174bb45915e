"""Operators who force a takeover: the primary and one replica are lost, and the one that is left may lack something.

A share of the seeds knows this, drawn apart from all else, as in sim_rare: the schedules of the other seeds stay as
they were. Half of these operators ask whatever the prechecks say, as those do whose look at it was a moment too old;
some forget the flags; and they ask again, before the lease is over and long after. What is asked so must be harmless
where it is not in place: the judge knows exactly what was given up.
"""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING

from failoverd.core import forced
from failoverd.core.machine import Asked
from failoverd.core.model import NodeName, Request

if TYPE_CHECKING:
    from sim_node import Node
    from sim_weather import Weather
    from world import World

SHARE = 0.15
ASKS = 12


class Forced:
    """Draws whether and when, and does it again and again until `until`."""

    def __init__(self, world: World, weather: Weather, until: int) -> None:
        self._world, self._weather, self._until = world, weather, until
        self._random = random = Random(f"forced {weather.seed}")  # noqa: S311 - a schedule, no secret
        self._on = random.random() < SHARE
        self._ttl_ms = weather.policy.ttl_ms

    def begin(self) -> None:
        """From now on it happens."""
        if self._on:
            self._later(3, 10, self._happen)

    def _later(self, least: float, most: float, action: object, *arguments: object) -> None:
        self._world.at(round(self._ttl_ms * self._random.uniform(least, most)), action, *arguments)  # type: ignore[arg-type] # a method of this class

    def _happen(self) -> None:
        if self._world.now >= self._until:
            return
        primary = self._world.serving()
        if primary is not None:
            left = self._random.choice([node for node in self._world.data_nodes if node is not primary])
            other = next(node for node in self._world.data_nodes if node not in (primary, left))
            self._falls_behind(left, primary)
            self._later(0.1, 1, self._lost, primary)
            self._later(0.1, 1, self._lost, other)
            checked, allowed = self._random.random() < 0.5, self._random.random() < 0.6
            for _ in range(ASKS):
                self._later(0.2, 8, self._ask, left.name, checked, allowed)
        self._later(12, 30, self._happen)

    def _falls_behind(self, left: Node, primary: Node) -> None:
        """It hears nothing of the primary for a while, or applies slowly; the other replica acknowledges meanwhile."""
        how = self._random.random()
        if how < 0.3:
            self._say(f"{left.name} applies slowly")
            left.database.apply_ms = 2 * self._ttl_ms
            self._later(8, 12, setattr, left.database, "apply_ms", 1)
        elif how < 0.8:
            self._say(f"{left.name} does not hear {primary.name}")
            self._world.network.cut(primary.name, left.name)
            self._later(8, 12, self._world.network.mend, primary.name, left.name)

    def _lost(self, node: Node) -> None:
        """Without power, or standing still; both come back, some time."""
        if not (self._weather.storm and node.powered):
            return
        if self._random.random() < 0.6:
            self._say(f"{node.name} is lost for long")
            node.power_off()
            self._later(6, 20, node.power_on)
        elif not node.frozen:
            self._say(f"{node.name} freezes for long")
            node.freeze()
            self._later(4, 20, node.thaw)

    def _ask(self, target: str, checked: bool, allowed: bool) -> None:
        able = [n for n in self._world.nodes if n.daemon is not None and not n.frozen and not n.stopped]
        if not (self._weather.storm and able):
            return
        at = self._random.choice(able)
        assert at.daemon is not None
        view = at.daemon.state.view.at(at.clock.now_ms())
        if checked and forced.rejections(view, target):
            return
        name, how = NodeName(target), "forces" if allowed else "asks for"
        self._say(f"anna on {at.name} {how} {target}" + ("" if checked else ", without a look"))
        term = view.highest_term
        at.hear(Asked(Request(f"f{self._world.now}", name, "anna", "gone for good", term, allow_loss=allowed)))

    def _say(self, text: str) -> None:
        self._world.tell("trouble", text)
