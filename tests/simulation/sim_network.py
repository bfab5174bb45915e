"""The network: what is cut, unplugged or without power lets nothing through; the rest is late, lost or doubled.

A message is lost when the way is closed as it leaves or as it arrives. How long it takes, whether it comes at all and
how often is for `chance` to say, which knows delays longer than every timeout: a message may outlive its sender.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from sim_node import Node
    from world import World


class Network:
    """All ways between hosts."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._cuts: dict[tuple[str, str], int] = {}  # how many faults keep it cut
        self._unplugged: set[str] = set()
        self._slow: dict[tuple[str, str], int] = {}  # how much later everything comes

    def passes(self, sender: Node, receiver: Node) -> bool:
        """Whether the way is open and both hosts have power."""
        if not (sender.powered and receiver.powered):
            return False
        if sender is receiver:
            return True
        if self._unplugged and (sender.name in self._unplugged or receiver.name in self._unplugged):
            return False
        return not self._cuts or (sender.name, receiver.name) not in self._cuts

    def connected(self, one: Node, other: Node) -> bool:
        """Whether both ways are open."""
        return self.passes(one, other) and self.passes(other, one)

    def send(self, sender: Node, receiver: Node, deliver: Callable[..., None], *arguments: Any) -> None:
        """One message."""
        if not self.passes(sender, receiver):
            return
        more_ms = self._slow.get((sender.name, receiver.name), 0) if self._slow else 0
        for delay_ms in self._world.chance.deliveries(local=sender is receiver):
            self._world.at(delay_ms + more_ms, self._arrive, sender, receiver, deliver, arguments)

    def _arrive(self, sender: Node, receiver: Node, deliver: Callable[..., None], arguments: tuple[Any, ...]) -> None:
        if self.passes(sender, receiver):
            deliver(*arguments)

    # ---- faults -----------------------------------------------------------------------------------------------

    def cut(self, sender: str, receiver: str) -> None:
        """`receiver` no longer hears `sender`."""
        way = (sender, receiver)
        self._cuts[way] = self._cuts.get(way, 0) + 1

    def mend(self, sender: str, receiver: str) -> None:
        """One reason less for that."""
        way = (sender, receiver)
        left = self._cuts.get(way, 0) - 1
        if left > 0:
            self._cuts[way] = left
        else:
            self._cuts.pop(way, None)

    def slow_down(self, sender: str, receiver: str, more_ms: int) -> None:
        """Everything on this way comes so much later; 0 ends it."""
        if more_ms:
            self._slow[sender, receiver] = more_ms
        else:
            self._slow.pop((sender, receiver), None)

    def part(self, sides: Iterable[Iterable[str]]) -> list[tuple[str, str]]:
        """Cut all ways between the sides, and return them."""
        listed = [list(side) for side in sides]
        ways = [(a, b) for one in listed for other in listed if one is not other for a in one for b in other]
        for sender, receiver in ways:
            self.cut(sender, receiver)
        return ways

    def unplug(self, name: str) -> None:
        """The cable is out: neither peers nor clients."""
        self._unplugged.add(name)

    def plug(self, name: str) -> None:
        """It is in again."""
        self._unplugged.discard(name)

    def is_plugged(self, name: str) -> bool:
        """Whether its cable is in."""
        return name not in self._unplugged

    def heal(self) -> None:
        """All ways are open again, all cables in."""
        self._cuts.clear()
        self._slow.clear()
        self._unplugged.clear()
