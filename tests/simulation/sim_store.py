"""The store as nodes meet it: production's cell, reached over the network, inside the arbiter's failoverd, durable.

A request may arrive late and still come to pass, and its answer may be lost: whoever asked knows nothing then.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from failoverd.stores.memory import MemoryCell

if TYPE_CHECKING:
    from collections.abc import Callable

    from sim_node import Node
    from world import World

    from failoverd.core.effects import Swap
    from failoverd.core.model import Record

    Swapped = Callable[[Swap, bool | None, Record | None], None]
    Read = Callable[[Record], None]

TIMEOUT_MS = 500
VERSIONS_A_RUN = 1_000_000
KEPT = 500  # copies, for an administrator who restores one


class _Call:
    """One swap on its way: it is answered once, by the store or by the deadline."""

    __slots__ = ("_answered", "_swap", "_waits")

    def __init__(self, swap: Swap, answered: Swapped) -> None:
        self._swap = swap
        self._answered = answered
        self._waits = True

    def answer(self, won: bool | None, record: Record | None) -> None:
        """Pass it on, the first time."""
        if self._waits:
            self._waits = False
            self._answered(self._swap, won, record)


class Store:
    """One record, at one node."""

    def __init__(self, world: World, home: Node) -> None:
        self._world = world
        self._home = home
        self._cell = MemoryCell()
        self._timeout_ms = TIMEOUT_MS * world.chance.scale
        self.down = False
        self._restored = 0  # how often its process was stopped to put another copy in: no connection outlives that
        self.newest: Record | None = None  # the right copy, while an old one is in its place
        self.history: list[Record] = [self.record]

    @property
    def record(self) -> Record:
        """What stands."""
        return self._cell.record

    def swap(self, caller: Node, swap: Swap, answered: Swapped) -> None:
        """Compare and swap; (None, None) is answered when nothing came in time."""
        call = _Call(swap, answered)
        self._world.network.send(caller, self._home, self._arrived, self._restored, caller, swap, call)
        self._world.at(self._timeout_ms, call.answer, None, None)

    def _arrived(self, connection: int, caller: Node, swap: Swap, call: _Call) -> None:
        takes_ms = self._world.chance.store_takes_ms()
        self._home.when_running(takes_ms, self._swap, connection, caller, swap, call)

    def _swap(self, connection: int, caller: Node, swap: Swap, call: _Call) -> None:
        if not self._serves or connection != self._restored:
            self._world.network.send(self._home, caller, call.answer, None, None)  # connection refused
            return
        before = self.record
        if swap.expected_version == before.version:
            self._world.judge.entitled(before, swap.record, caller)
        won, record = self._cell.swap(swap.expected_version, swap.record)
        if won:
            self._changed(before, record, swap)
            self._world.chance.swap_happened(caller, swap)
        self._world.network.send(self._home, caller, call.answer, won, record)

    def read(self, caller: Node, answered: Read) -> None:
        """Read; no answer when it cannot be reached."""
        self._world.network.send(caller, self._home, self._asked, caller, answered)

    def _asked(self, caller: Node, answered: Read) -> None:
        self._home.when_running(self._world.chance.store_takes_ms(), self._read, caller, answered)

    def _read(self, caller: Node, answered: Read) -> None:
        if self._serves:
            self._world.network.send(self._home, caller, answered, self.record)

    @property
    def _serves(self) -> bool:
        return not self.down and self._home.daemon is not None

    def _changed(self, before: Record, record: Record, swap: Swap) -> None:
        self.history.append(record)
        if len(self.history) > 2 * KEPT:
            del self.history[:KEPT]
        self._world.judge.stored(before, record, swap)
        for node in self._world.nodes:
            if node.daemon is not None:
                self._world.network.send(self._home, node, node.daemon.store_seen, record)

    # ---- administrators ---------------------------------------------------------------------------------------

    def restore(self, copies_back: int) -> None:
        """Put an old copy back, as an administrator might after a disk failure."""
        self.replace(self.history[max(-1 - copies_back, -len(self.history))])

    def replace(self, record: Record) -> None:
        """Put this in the place of what stands."""
        self.newest = self.record
        self.started_anew(record)

    def put_back(self) -> None:
        """Put the right copy in its place again."""
        if self.newest is not None:
            newest, self.newest = self.newest, None
            self.started_anew(newest)

    def started_anew(self, copy: Record) -> None:
        """This is what it has from now on. No connection outlives its process, no version of one run is another's."""
        self._restored += 1
        self._cell.begin_run(copy, self._restored * VERSIONS_A_RUN)
        self._world.judge.restored(self.record)

    def heal(self) -> None:
        """It answers, with what it had last."""
        self.down = False
        self.put_back()
