"""Clients that write through the virtual IP, steadily, whatever became of the earlier writes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sim_node import Node
    from world import World


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
        self.every_ms = world.chance.writes_ms
        self.acknowledged: set[int] = set()
        self.told: dict[int, tuple[int, int]] = {}  # by `made`: when it was acknowledged, and in which term
        self.last: dict[int, int] = {}  # by term: when one was last acknowledged
        self.newest: int | None = None
        self.outages: list[Outage] = []

    def start(self) -> None:
        """Begin."""
        self._world.at(self.every_ms, self._write)

    def silent_ms(self) -> int:
        """How long ago a write was last answered."""
        return self._world.now - (self.newest or 0)

    def _write(self) -> None:
        self._world.at(self.every_ms, self._write)
        for node in self._world.data_nodes:
            if node.kernel.reachable and self._passes(node):
                node.database.commit(_Write(self, node, self._world.made + 1).answered)

    def _passes(self, node: Node) -> bool:
        return not node.frozen and self._world.network.is_plugged(node.name)

    def answered(self, node: Node, made: int) -> None:
        """A write is safe, if the answer gets through: none passes a closed gate."""
        if not (node.powered and node.kernel.reachable and self._passes(node)):
            return
        self.acknowledged.add(made)
        now, term = self._world.now, self._world.judge.term
        self.told[made], self.last[term] = (now, term), now
        if self.newest is not None and now - self.newest > 2 * self.every_ms:
            self.outages.append(Outage(self.newest, now))
            self._world.tell("clients", f"no write was answered for {self.outages[-1].lasted / 1000:.2f} s")
        self.newest = now


class _Write:
    """One write on its way."""

    __slots__ = ("_clients", "_made", "_node")

    def __init__(self, clients: Clients, node: Node, made: int) -> None:
        self._clients = clients
        self._node = node
        self._made = made

    def answered(self, done: bool) -> None:
        """The server said whether it is safe."""
        if done:
            self._clients.answered(self._node, self._made)
