"""Clients that write through the virtual IP, a new write every 50 ms whatever became of the earlier ones."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sim_node import Node
    from world import World

EVERY_MS = 50


@dataclass(frozen=True)
class Outage:
    """No write was answered between two that were."""

    began: int
    ended: int

    @property
    def lasted(self) -> int:
        """How long, in ms."""
        return self.ended - self.began


class Clients:
    """`acknowledged` are the writes that a client was told are safe, by `Transaction.made`."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.acknowledged: set[int] = set()
        self.newest: int | None = None
        self.outages: list[Outage] = []

    def start(self) -> None:
        """Begin."""
        self._world.at(EVERY_MS, self._write)

    def silent_ms(self) -> int:
        """How long ago a write was last answered."""
        return self._world.now - (self.newest or 0)

    def _write(self) -> None:
        self._world.at(EVERY_MS, self._write)
        for node in self._world.reachable():
            if not node.frozen and self._world.is_plugged(node.name):
                self._to(node)

    def _to(self, node: Node) -> None:
        database = node.database
        made = self._world.made + 1

        def answered(done: bool) -> None:
            passes = node.powered and node.gate.is_open and not node.frozen and self._world.is_plugged(node.name)
            if not done or not passes:
                return  # no answer passes a closed gate
            self.acknowledged.add(made)
            now = self._world.now
            if self.newest is not None and now - self.newest > 2 * EVERY_MS:
                self.outages.append(Outage(self.newest, now))
                self._world.tell("clients", f"no write was answered for {self.outages[-1].lasted / 1000:.2f} s")
            self.newest = now

        database.commit(answered)
