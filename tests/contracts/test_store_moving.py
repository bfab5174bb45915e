"""A record that is moved from one store to another: whatever comes in between, there is one line of records.

The chance test steers every request by hand: a node's call is a coroutine that stops where the request leaves, and
where its answer does, and chance says which one goes on, which one is lost, and whose process ends.
"""

from __future__ import annotations

import asyncio
import types
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from failoverd.core.anchor import Anchor, Head
from failoverd.core.model import NodeName, Record
from failoverd.ports import StoreUnavailableError
from failoverd.stores.memory import MemoryCell, MemoryStore
from failoverd.stores.moving import MovingStore

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Generator

PLACE = "0123456789abcdef"
MAIL1 = NodeName("mail1")
FIRST = Record(term=7, holder=MAIL1, counter=1, ttl_ms=3000)


def place(moves: int = 1, name: str = PLACE) -> Record:
    return Record(moves=moves, moved_to=name, sealed=True, reason="a cluster's digest")


def sealed(record: Record, name: str = PLACE) -> Record:
    return replace(record, moves=record.moves + 1, moved_to=name, sealed=True)


def renewed(record: Record) -> Record:
    """As the core makes one of whatever it has read."""
    return replace(record, counter=record.counter + 1, sealed=False)


# ---- by hand --------------------------------------------------------------------------------------------------------


@dataclass
class Stage:
    """Two stores, the old one with a record, and as many nodes' views of them as are wanted."""

    old: MemoryStore = field(default_factory=MemoryStore)
    new: MemoryStore = field(default_factory=MemoryStore)

    def node(self, **memory: Any) -> MovingStore:
        return MovingStore(self.old.client(), self.new.client(), **memory)

    async def begin(self) -> Record:
        return (await self.old.compare_and_swap(0, FIRST))[1]

    async def seal(self, node: MovingStore) -> Record:
        record = await node.read()
        there = await node.reserve(place(record.moves + 1))
        won, seal = await node.compare_and_swap(record.version, sealed(record, there.moved_to))
        assert won
        return seal


def run(story: Callable[[Stage], Awaitable[None]]) -> None:
    async def telling() -> None:
        async with asyncio.timeout(20):
            await story(Stage())

    asyncio.run(telling())


def test_before_the_seal_the_next_store_is_not_asked() -> None:
    async def story(stage: Stage) -> None:
        first = await stage.begin()
        node = stage.node()
        await stage.new.set_reachable(reachable=False)
        assert await node.read() == first
        assert await node.compare_and_swap(first.version, renewed(first)) == (True, replace(renewed(first), version=2))

    run(story)


def test_the_sealed_record_stands_until_it_is_written_at_its_place() -> None:
    async def story(stage: Stage) -> None:
        await stage.begin()
        one, other = stage.node(), stage.node()
        await other.read()
        seal = await stage.seal(one)
        assert await one.read() == await other.read() == seal
        won, stored = await other.compare_and_swap(seal.version, renewed(seal))
        assert won
        assert stored == replace(renewed(seal), version=seal.version + 1)
        assert await one.read() == await stage.new.read() == stored
        assert await stage.old.read() == seal, "nothing was written there"

    run(story)


def test_of_two_that_write_it_there_first_one_wins() -> None:
    async def story(stage: Stage) -> None:
        await stage.begin()
        one, other = stage.node(), stage.node()
        seal = await stage.seal(one)
        assert await other.read() == seal
        won, stored = await one.compare_and_swap(seal.version, renewed(seal))
        assert won
        assert await other.compare_and_swap(seal.version, replace(seal, term=8, sealed=False)) == (False, stored)

    run(story)


def test_what_was_decided_before_the_seal_does_not_fit_after_it() -> None:
    async def story(stage: Stage) -> None:
        first = await stage.begin()
        one, late = stage.node(), stage.node()
        await late.read()
        seal = await stage.seal(one)
        assert await late.compare_and_swap(first.version, renewed(first)) == (False, seal)
        assert await late.compare_and_swap(first.version, renewed(first)) == (False, seal)

    run(story)


def test_a_watch_follows_the_record_to_its_place() -> None:
    async def story(stage: Stage) -> None:
        first = await stage.begin()
        one, other = stage.node(), stage.node()
        watching = aiter(other.watch(first.version))
        waiting = asyncio.ensure_future(anext(watching))
        seal = await stage.seal(one)
        assert await waiting == seal
        waiting = asyncio.ensure_future(anext(watching))
        standing = seal
        for _ in range(3):
            won, standing = await one.compare_and_swap(standing.version, renewed(standing))
            assert won
            assert await waiting == standing
            waiting = asyncio.ensure_future(anext(watching))
        waiting.cancel()

    run(story)


def test_whoever_has_seen_the_seal_never_goes_back() -> None:
    async def story(stage: Stage) -> None:
        first = await stage.begin()
        node = stage.node()
        seal = await stage.seal(node)
        _, stored = await node.compare_and_swap(seal.version, renewed(seal))
        stage.old._cell.begin_run(first, 1000)
        assert await node.read() == stored
        again = stage.node(moves=stored.moves, place=stored.moved_to)
        assert await again.read() == stored, "the node remembers where it is"
        alone = MovingStore(stage.old.client(), None, moves=1, place=PLACE)
        assert (await alone.read()).moves == 0, "which the core refuses: it remembers a move"

    run(story)


def test_without_the_old_store_a_node_goes_on_by_what_it_remembers() -> None:
    async def story(stage: Stage) -> None:
        await stage.begin()
        sealer = stage.node()
        seal = await stage.seal(sealer)
        stranger, knowing = stage.node(), stage.node(moves=1, place=PLACE)
        for node in (stranger, knowing):
            await node._store.set_reachable(reachable=False)  # type: ignore[attr-defined]
            with pytest.raises(StoreUnavailableError):
                await node.read()
        _, stored = await sealer.compare_and_swap(seal.version, renewed(seal))
        assert await knowing.read() == stored
        with pytest.raises(StoreUnavailableError):
            await stranger.read()

    run(story)


def test_a_node_that_looks_into_another_store_reads_and_writes_nothing() -> None:
    async def story(stage: Stage) -> None:
        await stage.begin()
        seal = await stage.seal(stage.node())
        wrong = MemoryStore()
        await wrong.compare_and_swap(0, place(name="feedfeedfeedfeed"))
        for elsewhere in (MemoryStore(), wrong):
            node = MovingStore(stage.old.client(), elsewhere)
            before = await elsewhere.read()
            for call in (node.read, lambda node=node: node.compare_and_swap(seal.version, renewed(seal))):
                with pytest.raises(StoreUnavailableError, match="another store, or an old copy"):
                    await call()
            assert await elsewhere.read() == before
        alone = MovingStore(stage.old.client())
        with pytest.raises(StoreUnavailableError, match="names no next one"):
            await alone.read()

    run(story)


def test_a_next_store_that_has_lost_the_record_is_refused() -> None:
    async def story(stage: Stage) -> None:
        await stage.begin()
        node = stage.node()
        seal = await stage.seal(node)
        there = await stage.new.read()
        await node.compare_and_swap(seal.version, renewed(seal))
        stage.new._cell.begin_run(there, 10_000)
        with pytest.raises(StoreUnavailableError, match="has stood at place"):
            await node.read()

    run(story)


def test_there_and_back_and_there_again() -> None:
    async def story(stage: Stage) -> None:
        standing = await stage.begin()
        there, back = stage.old, stage.new
        for move in range(1, 5):
            node = MovingStore(there.client(), back.client(), moves=standing.moves, place=standing.moved_to)
            assert await node.read() == standing
            reserved = await node.reserve(place(move, f"place{move}"))
            seal = (await node.compare_and_swap(standing.version, sealed(standing, reserved.moved_to)))[1]
            won, standing = await node.compare_and_swap(seal.version, renewed(seal))
            assert won
            assert standing.moves == move
            assert standing.version > seal.version
            alone = MovingStore(back.client())
            assert await alone.read() == standing, "as the store alone, once it is the only one configured"
            there, back = back, there

    run(story)


def test_a_place_is_reserved_once_and_nothing_is_overwritten() -> None:
    async def story(stage: Stage) -> None:
        await stage.begin()
        one, other = stage.node(), stage.node()
        assert await one.reserve(place()) == await other.reserve(place(name="another")), "the first one's"
        with pytest.raises(StoreUnavailableError, match="somebody else"):
            await one.reserve(replace(place(), reason="another cluster's digest"))
        taken = MovingStore(stage.old.client(), MemoryStore())
        await taken._next.compare_and_swap(0, FIRST)  # type: ignore[union-attr]
        with pytest.raises(StoreUnavailableError, match="somebody else"):
            await taken.reserve(place())

    run(story)


def test_anchors_of_both_are_read_and_new_ones_go_where_the_record_is() -> None:
    async def story(stage: Stage) -> None:
        def anchor(term: int) -> Anchor:
            return Anchor(term, MAIL1, "begin", 1, (Head(MAIL1, 5, f"{term:064x}"),))

        await stage.begin()
        node = stage.node()
        await node.put_anchor(anchor(1))
        seal = await stage.seal(node)
        await node.compare_and_swap(seal.version, renewed(seal))
        await node.put_anchor(anchor(2))
        assert await stage.new.anchors() == (anchor(2),)
        assert await node.anchors() == (anchor(1), anchor(2))
        await node._store.set_reachable(reachable=False)  # type: ignore[attr-defined]
        assert await node.anchors() == (anchor(2),)

    run(story)


# ---- by chance ------------------------------------------------------------------------------------------------------


@types.coroutine
def pause() -> Generator[None, None, None]:
    """Where a request, or its answer, is on its way."""
    yield


class Wire:
    """A store of which each request and each answer takes until chance lets it arrive."""

    def __init__(self, cell: MemoryCell, swapped: Callable[[Record, Record], None]) -> None:
        self._cell = cell
        self._swapped = swapped

    async def read(self) -> Record:
        await pause()
        found = self._cell.record
        await pause()
        return found

    async def compare_and_swap(self, expected_version: int, record: Record) -> tuple[bool, Record]:
        await pause()
        before = self._cell.record
        answer = self._cell.swap(expected_version, record)
        if answer[0]:
            self._swapped(before, answer[1])
        await pause()
        return answer


@dataclass
class Process:
    """One run of a node: what it has read last, and what it remembers on its disk."""

    store: MovingStore
    moves: int = 0
    place: str = ""
    seen: Record | None = None

    def told(self, record: Record) -> None:
        """As the core takes what it reads: nothing of fewer moves or a lower version."""
        if record.moves < self.moves or (self.seen is not None and record.version < self.seen.version):
            return
        self.seen, self.moves, self.place = record, record.moves, record.moved_to


class Chance:
    """Three nodes, two stores, and the line of records as they were written."""

    def __init__(self) -> None:
        self.old, self.new = MemoryCell(), MemoryCell()
        self.old.record = replace(FIRST, version=1)
        self.new.record = replace(place(), version=1)
        self.line: list[Record] = [self.old.record]
        self.copies: list[Record] = [self.old.record]
        self.runs = 0
        self.nodes = [self.started(Process) for _ in range(3)]
        self.calls: list[Coroutine[None, None, None]] = []

    def started(self, how: Callable[..., Process], **memory: Any) -> Process:
        store: Any = MovingStore.__new__(MovingStore)
        process = how(store, **memory)
        wires: Any = Wire(self.old, lambda b, r: self._old_swapped(process, b, r)), Wire(self.new, self._new_swapped)
        store.__init__(*wires, moves=process.moves, place=process.place)
        return process

    def _old_swapped(self, process: Process, before: Record, record: Record) -> None:
        assert not before.sealed, "nothing is written over a seal"
        assert process.moves == 0, "nor by one who knows of it, in whatever copy of the old store"
        if self.line[-1].moves == 0:
            self._goes_on(before, record)
        self.copies.append(record)

    def _new_swapped(self, before: Record, record: Record) -> None:
        assert before.moves == record.moves == 1
        self._goes_on(self.line[-1] if before.is_place else before, record)
        assert not record.sealed

    def _goes_on(self, before: Record, record: Record) -> None:
        """One line: each is made of the one before it, and no two of the same."""
        assert record.version > self.line[-1].version
        assert record.counter == self.line[-1].counter + (not record.sealed)
        assert before.moves < record.moves or before.counter == self.line[-1].counter
        self.line.append(record)

    async def read(self, node: Process) -> None:
        node.told(await node.store.read())

    async def swap(self, node: Process) -> None:
        if node.seen is None:
            return
        _, standing = await node.store.compare_and_swap(node.seen.version, renewed(node.seen))
        node.told(standing)

    async def seal(self, node: Process) -> None:
        if node.seen is None or node.seen.moves:
            return
        _, standing = await node.store.compare_and_swap(node.seen.version, sealed(node.seen))
        node.told(standing)

    def ends(self, number: int) -> None:
        """A node's process is started anew, with what it has on its disk. What it has sent may still arrive."""
        was = self.nodes[number]
        self.nodes[number] = self.started(Process, moves=was.moves, place=was.place)

    def restored(self, back: int) -> None:
        """An administrator puts an old copy of the old store in its place: from before the seal, where there is one."""
        if self.line[-1].moves or self.old.record.sealed:
            self.runs += 1
            self.old.begin_run(self.copies[-1 - back % len(self.copies)], self.runs * 1000)

    def act(self, what: int, number: int) -> None:
        node = self.nodes[number % 3]
        match what:
            case 0:
                self.calls.append(self.read(node))
            case 1:
                self.calls.append(self.swap(node))
            case 2:
                self.calls.append(self.seal(node))
            case 3:
                self.ends(number % 3)
            case 4:
                self.restored(number)
            case 5 if self.calls:  # lost: whoever asked learns nothing
                self._went(self.calls.pop(number % len(self.calls)), lost=True)
            case _ if self.calls:
                call = self.calls.pop(number % len(self.calls))
                if self._went(call):
                    self.calls.append(call)

    def _went(self, call: Coroutine[None, None, None], *, lost: bool = False) -> bool:
        """Whether it goes on after this."""
        try:
            call.throw(StoreUnavailableError("lost")) if lost else call.send(None)
        except (StopIteration, StoreUnavailableError):
            return False
        return True


ACTS = st.lists(st.tuples(st.sampled_from([0, 0, 1, 1, 2, 3, 4, 5, *[6] * 12]), st.integers(0, 30)), max_size=120)


@settings(max_examples=400, deadline=None)
@given(ACTS)
def test_whatever_comes_in_between_there_is_one_line_of_records(acts: list[tuple[int, int]]) -> None:
    chance = Chance()
    for what, number in acts:
        chance.act(what, number)
    for call in chance.calls:
        call.close()
    # Whatever had happened: as soon as all goes well, whoever has not been kept away by an old copy goes on.
    node = chance.nodes[0]
    for _ in range(3):
        for whole in (chance.read, chance.swap):
            call = whole(node)
            while chance._went(call):
                pass
    if chance.line[-1].moves and node.moves:
        assert chance.new.record == chance.line[-1] == node.seen


def test_chance_does_move_the_record() -> None:
    """The test above would hold of a record that is never moved."""
    chance = Chance()
    for what in (0, 2, 1, 1, 0):
        chance.act(what, 0)
        while chance.calls:
            chance.act(6, 0)
    assert [(record.moves, record.counter, record.sealed) for record in chance.line] == [
        (0, 1, False),
        (1, 1, True),
        (1, 2, False),
        (1, 3, False),
    ]
