"""The store in this process's memory, for the simulator and for tests of whatever uses a store.

`MemoryCell` is the store itself, synchronous, so that a simulation in virtual time decides when a request arrives and
when its answer does. `MemoryStore` is the same behind ports.Store, for code that awaits.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING

from failoverd.core.model import Record
from failoverd.ports import ANCHORS_KEPT, StoreUnavailableError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from failoverd.core.anchor import Anchor


def renumbered(record: Record, first_version: int) -> Record:
    """The record as it stands when a run begins: what was decided on any copy that stood before does not fit it.

    A sealed one stays: no swap fits it any more, and its version is what the first one in the store that it counts in
    is decided on. What comes to a place has to name that place.
    """
    return record if record.sealed or not record.version else _beyond(record, max(record.version + 1, first_version))


def swapped(standing: Record, expected_version: int, record: Record) -> Record | None:
    """What stands after a swap; None: it does not fit. See ports.Store.compare_and_swap."""
    return _beyond(record, expected_version + 1) if standing.version == expected_version else None


def adopted(standing: Record, place: Record, record: Record) -> Record | None:
    """What stands after a record of another store has come; None: it does not fit. See ports.Store.adopt."""
    if standing.version != place.version or not standing.awaits(record):
        return None
    return _beyond(record, max(record.version, place.version + 1))


def _beyond(record: Record, version: int) -> Record:
    return replace(record, version=version)


class MemoryCell:
    """One record and the one rule: it changes only for who names its version."""

    def __init__(self) -> None:
        self.record = Record()
        self.anchors: list[Anchor] = []

    def begin_run(self, record: Record, first_version: int) -> None:
        """Its process was started, with this copy in its place: no version of another run stands in this one."""
        self.record = renumbered(record, first_version)

    def swap(self, expected_version: int, record: Record) -> tuple[bool, Record]:
        """See ports.Store.compare_and_swap."""
        return self._put(swapped(self.record, expected_version, record))

    def adopt(self, place: Record, record: Record) -> tuple[bool, Record]:
        """See ports.Store.adopt."""
        return self._put(adopted(self.record, place, record))

    def _put(self, record: Record | None) -> tuple[bool, Record]:
        self.record = record or self.record
        return record is not None, self.record

    def put_anchor(self, anchor: Anchor) -> None:
        """See ports.Store.put_anchor."""
        same = [a for a in self.anchors if (a.term, a.by, a.moment) == (anchor.term, anchor.by, anchor.moment)]
        self.anchors = [*(a for a in self.anchors if a not in same[1:]), anchor][-ANCHORS_KEPT:]


class MemoryStore:
    """A client of a cell; several share one. `reachable = False` cuts this one off, as a dead network would."""

    def __init__(self, cell: MemoryCell | None = None) -> None:
        self._cell = cell or MemoryCell()
        self._reachable = True
        self._changed = asyncio.Condition()

    def client(self) -> MemoryStore:
        """Another client of the same cell."""
        other = MemoryStore(self._cell)
        other._changed = self._changed
        return other

    @property
    def reachable(self) -> bool:
        """Whether calls are answered."""
        return self._reachable

    async def set_reachable(self, reachable: bool) -> None:
        """Cut this client off, or let it back."""
        self._reachable = reachable
        async with self._changed:
            self._changed.notify_all()

    async def read(self) -> Record:
        """See ports.Store."""
        self._require()
        return self._cell.record

    async def compare_and_swap(self, expected_version: int, record: Record) -> tuple[bool, Record]:
        """See ports.Store."""
        self._require()
        return await self._told(self._cell.swap(expected_version, record))

    async def adopt(self, place: Record, record: Record) -> tuple[bool, Record]:
        """See ports.Store."""
        self._require()
        return await self._told(self._cell.adopt(place, record))

    async def watch(self, after_version: int) -> AsyncIterator[Record]:
        """See ports.Store."""
        seen = after_version

        def changed() -> bool:
            return not self._reachable or self._cell.record.version != seen

        while True:
            async with self._changed:
                await self._changed.wait_for(changed)
                self._require()
                record = self._cell.record
            if record.version < seen:
                raise StoreUnavailableError(f"version {record.version} here, {seen} there: an old copy?")
            seen = record.version
            yield record

    async def put_anchor(self, anchor: Anchor) -> None:
        """See ports.Store."""
        self._require()
        self._cell.put_anchor(anchor)

    async def anchors(self) -> tuple[Anchor, ...]:
        """See ports.Store."""
        self._require()
        return tuple(self._cell.anchors)

    async def close(self) -> None:
        """See ports.Store."""

    async def _told(self, answer: tuple[bool, Record]) -> tuple[bool, Record]:
        async with self._changed:
            self._changed.notify_all()
        return answer

    def _require(self) -> None:
        if not self._reachable:
            raise StoreUnavailableError("the store in memory was cut off")
