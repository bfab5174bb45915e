"""The store that the record counts in, of two: the one that it is moved from, and the one that it is moved to.

    the store's record is not sealed  ──> it is the record; the next store is not asked
    sealed for a place                ──> the next store's, which stands there, is the record
                                          only the place is there: the sealed one is, and a swap of it is an adoption

See core/migration.py for what moves a record. What is kept here is where this process has found it: what was once read
sealed, or at its place, is never looked for in the store that was left again. A place that is not there means that this
node looks into another store than the others, or into an old copy: then nothing is read and nothing written.

Every store of a node is behind one of these, also without a next one, so that nobody writes a record that is sealed, or
takes a place for one.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from failoverd.core.entitled import reserves
from failoverd.ports import StoreUnavailableError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from failoverd.core.anchor import Anchor
    from failoverd.core.model import Record
    from failoverd.ports import Store

_NO_NEXT = "the record was moved to another store, and the configuration here names no store.next"


class MovingStore:
    """ports.Store over `store` and the `following` one, if there is one.

    `moves` and `place` are what this node remembers (lease.Memory): with them it finds a record that was moved also
    while the store that was left does not answer any more, or has an old copy.
    """

    def __init__(self, store: Store, following: Store | None = None, *, moves: int = 0, place: str = "") -> None:
        self._store = store
        self._next = following
        self._moves = moves
        self._place = place
        self._seal: Record | None = None  # of the old store: the record, until one stands at its place
        self._arrived = False  # one was seen there

    def moved(self) -> bool:
        """The record counts in the next store, as far as this process has read."""
        return self._arrived or self._seal is not None

    async def look_ahead(self) -> Record | None:
        """What the next store has while the record may be moved there; None where it was. Raises as read."""
        return None if self.moved() else await self._following().read()

    async def reserve(self, place: Record) -> Record:
        """Have a place in the next store: `place`, or the one for the same that is there. Raises StoreUnavailableError.

        It may take the place of one for an earlier move, which nobody can need any more: the record, as it is read here
        before, is on this side of that move, and not on its way. Whoever was quicker has put in either the same, or
        what refuses.
        """
        record = await self._store.read()
        if self.moved() or record.sealed or record.moves + 1 != place.moves:
            raise StoreUnavailableError(f"a place for move {place.moves}, and the record is not there to go from")
        there = await self._following().read()
        if reserves(there, place):
            _, there = await self._following().compare_and_swap(there.version, place)
        if not (there.is_place and (there.moves, there.reason) == (place.moves, place.reason)):
            raise StoreUnavailableError("the next store has something else where the place was to be")
        return there

    async def read(self) -> Record:
        """See ports.Store."""
        if self.moved():
            return (await self._found())[0]
        try:
            record = await self._store.read()
        except StoreUnavailableError:
            if (found := await self._remembered()) is None:
                raise
            return found
        return await self._judged(record)

    async def compare_and_swap(self, expected_version: int, record: Record) -> tuple[bool, Record]:
        """See ports.Store. A record that is sealed is the seal."""
        if not self.moved():
            if record.moves < self._moves:
                raise StoreUnavailableError(f"a record of move {record.moves}, and there was move {self._moves}")
            won, standing = await self._store.compare_and_swap(expected_version, record)
            if not won:
                return False, await self._judged(standing)
            if standing.sealed:
                self._follow(standing)
            return True, standing
        if self._arrived:
            won, there = await self._following().compare_and_swap(expected_version, record)
            return won, self._counting(there)
        standing, there = await self._found()
        adopted = replace(record, version=expected_version + 1)
        if standing.version != expected_version or not there.awaits(adopted):
            return False, standing  # decided before the seal, or another has come there meanwhile
        won, there = await self._following().adopt(there, adopted)
        return won, self._counting(there)

    async def adopt(self, place: Record, record: Record) -> tuple[bool, Record]:
        """See ports.Store. Of the store itself: where the record counts, a swap of the sealed one does it."""
        return await self._store.adopt(place, record)

    async def watch(self, after_version: int) -> AsyncIterator[Record]:
        """See ports.Store. Follows the record where it is moved to."""
        seen = after_version
        if not self.moved():
            async for record in self._store.watch(seen):
                found = await self._judged(record)
                if found.version > seen or self.moved():
                    seen = found.version
                    yield found
                if self.moved():
                    break
        found, there = await self._found()
        if found.version > seen:
            seen = found.version
            yield found
        async for newer in self._following().watch(there.version):
            found = self._counting(newer)
            if found.version > seen:
                seen = found.version
                yield found

    async def put_anchor(self, anchor: Anchor) -> None:
        """See ports.Store."""
        await (self._following() if self.moved() else self._store).put_anchor(anchor)

    async def anchors(self) -> tuple[Anchor, ...]:
        """See ports.Store: those of both, where the record was moved; of the next one alone if the other is gone."""
        if not self.moved():
            return await self._store.anchors()
        newer = await self._following().anchors()
        try:
            older = await self._store.anchors()
        except StoreUnavailableError:
            return newer
        return (*(anchor for anchor in older if anchor not in newer), *newer)

    async def close(self) -> None:
        """See ports.Store."""
        await self._store.close()
        if self._next is not None:
            await self._next.close()

    # ---- where it is ------------------------------------------------------------------------------------------------

    def _following(self) -> Store:
        if self._next is None:
            raise StoreUnavailableError(_NO_NEXT)
        return self._next

    async def _judged(self, record: Record) -> Record:
        """What counts, where the old store has said `record`."""
        if not self.moved():
            if record.moves < self._moves and (found := await self._remembered()) is not None:
                return found  # it was moved since: this is a copy from before
            if not record.sealed:
                if record.moves > self._moves:  # this is the store that it was moved to before
                    self._moves, self._place = record.moves, record.moved_to
                return record
            self._follow(record)
        return (await self._found())[0]

    def _follow(self, seal: Record) -> None:
        if self._arrived:
            return  # another call was quicker
        if seal.is_place:
            raise StoreUnavailableError("here is no record yet, but the place of one that is to be moved here")
        if seal.moves < self._moves:
            raise StoreUnavailableError(f"sealed at move {seal.moves}, and there was move {self._moves}: an old copy?")
        self._seal, self._moves, self._place = seal, seal.moves, seal.moved_to

    async def _remembered(self) -> Record | None:
        """The record at the place that this node remembers; None where that does not say that it was moved there."""
        if self._next is None or not self._place:
            return None
        there = await self._next.read()
        if not self._stands(there):
            return None
        self._arrived, self._seal = True, None
        return there

    async def _found(self) -> tuple[Record, Record]:
        """What counts, and what the next store has: the same object where it stands there."""
        there = await self._following().read()
        return self._counting(there), there

    def _counting(self, there: Record) -> Record:
        """What counts where the next store has `there`. Raises StoreUnavailableError where that cannot be so."""
        if self._stands(there):
            self._arrived, self._seal = True, None
            return there
        if self._seal is not None and there.is_place and there.moved_to == self._place:
            return self._seal
        if there.sealed and there.moves > self._moves:
            raise StoreUnavailableError("the record was moved on, to a store that the configuration here does not name")
        was = "has stood" if self._arrived else "counts"
        raise StoreUnavailableError(
            f"the record {was} at place {self._place} of the next store, and that is not there: another store,"
            " or an old copy?"
        )

    def _stands(self, there: Record) -> bool:
        return not there.sealed and there.moved_to == self._place and there.moves == self._moves
