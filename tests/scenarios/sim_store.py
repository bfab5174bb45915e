"""The store as nodes meet it: reached over the network, inside the arbiter's failoverd, durable, and checked.

It holds one invariant of the whole cluster by itself: terms grow by one, and each has one holder for ever.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from failoverd.core.machine import StoreSeen
from failoverd.core.model import Record

if TYPE_CHECKING:
    from world import World

TIMEOUT_MS = 500
Swapped = Callable[[bool | None, Record | None], None]
Read = Callable[[Record | None], None]


class Store:
    """One record, at one node."""

    def __init__(self, world: World, home: str) -> None:
        self._world = world
        self._home = home
        self.record = Record()
        self.down = False
        self.newest: Record | None = None  # the right copy, while an old one is in its place
        self.holders: dict[int, str | None] = {0: None}
        self.history: list[Record] = [self.record]

    def swap(self, caller: str, expected: int, record: Record, answered: Swapped) -> None:
        """Compare and swap; (None, None) is answered when nothing came in time."""
        waiting = True

        def answer(won: bool | None, stands: Record | None) -> None:
            nonlocal waiting
            if waiting:
                waiting = False
                answered(won, stands)

        def arrived() -> None:
            if not self._serves:
                self._world.send(self._home, caller, answer, None, None)  # connection refused
                return
            won = self.record.version == expected
            if won:
                self._set(replace(record, version=expected + 1))
            self._world.send(self._home, caller, answer, won, self.record)

        self._world.send(caller, self._home, arrived)
        self._world.at(TIMEOUT_MS, answer, None, None)

    def read(self, caller: str, answered: Read) -> None:
        """Read; no answer when it cannot be reached."""

        def arrived() -> None:
            if self._serves:
                self._world.send(self._home, caller, answered, self.record)

        self._world.send(caller, self._home, arrived)

    def restore(self, copies_back: int) -> None:
        """Put an old copy back, as an administrator might after a disk failure."""
        self.newest = self.record
        self.record = self.history[-1 - copies_back]

    def put_back(self) -> None:
        """Put the right copy in its place again."""
        if self.newest is not None:
            self.record, self.newest = self.newest, None

    @property
    def _serves(self) -> bool:
        return not self.down and self._world.node(self._home).daemon is not None

    def _set(self, record: Record) -> None:
        before = self.record
        assert record.term in (before.term, before.term + 1), f"the term went from {before.term} to {record.term}"
        if record.term == before.term and before.holder is not None:
            assert record.holder == before.holder, f"term {record.term} went from {before.holder} to {record.holder}"
        if record.term > before.term:
            assert record.term not in self.holders, f"term {record.term} began twice"
            self.holders[record.term] = record.holder
        self.record = record
        self.history.append(record)
        for member in self._world.members:
            self._world.send(self._home, member.name, self._world.node(member.name).hear, StoreSeen(record))
