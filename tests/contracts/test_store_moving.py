"""A record that is moved from one store to another, by hand; by chance: test_store_moving_by_chance."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import pytest

from failoverd.core.anchor import Anchor, Head
from failoverd.core.model import NodeName, Record
from failoverd.ports import StoreUnavailableError
from failoverd.stores.memory import MemoryStore, renumbered
from failoverd.stores.moving import MovingStore

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

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


@dataclass
class _Stage:
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


def run(story: Callable[[_Stage], Awaitable[None]]) -> None:
    async def telling() -> None:
        async with asyncio.timeout(20):
            await story(_Stage())

    asyncio.run(telling())


def test_before_the_seal_the_next_store_is_not_asked() -> None:
    async def story(stage: _Stage) -> None:
        first = await stage.begin()
        node = stage.node()
        await stage.new.set_reachable(reachable=False)
        assert await node.read() == first
        assert await node.compare_and_swap(first.version, renewed(first)) == (True, replace(renewed(first), version=2))

    run(story)


def test_the_sealed_record_stands_until_it_is_written_at_its_place() -> None:
    async def story(stage: _Stage) -> None:
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
    async def story(stage: _Stage) -> None:
        await stage.begin()
        one, other = stage.node(), stage.node()
        seal = await stage.seal(one)
        assert await other.read() == seal
        won, stored = await one.compare_and_swap(seal.version, renewed(seal))
        assert won
        assert await other.compare_and_swap(seal.version, replace(seal, term=8, sealed=False)) == (False, stored)

    run(story)


def test_what_was_decided_before_the_seal_does_not_fit_after_it() -> None:
    async def story(stage: _Stage) -> None:
        first = await stage.begin()
        one, late = stage.node(), stage.node()
        await late.read()
        seal = await stage.seal(one)
        assert await late.compare_and_swap(first.version, renewed(first)) == (False, seal)
        assert await late.compare_and_swap(first.version, renewed(first)) == (False, seal)

    run(story)


def test_a_watch_follows_the_record_to_its_place() -> None:
    async def story(stage: _Stage) -> None:
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
    async def story(stage: _Stage) -> None:
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
    async def story(stage: _Stage) -> None:
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
    async def story(stage: _Stage) -> None:
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
        with pytest.raises(StoreUnavailableError, match=r"names no store\.next"):
            await alone.read()

    run(story)


def test_a_next_store_that_has_lost_the_record_is_refused() -> None:
    async def story(stage: _Stage) -> None:
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
    async def story(stage: _Stage) -> None:
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
    async def story(stage: _Stage) -> None:
        await stage.begin()
        one, other = stage.node(), stage.node()
        assert await one.reserve(place()) == await other.reserve(place(name="another")), "the first one's"
        with pytest.raises(StoreUnavailableError, match="something else"):
            await one.reserve(replace(place(), reason="another cluster's digest"))
        taken = MovingStore(stage.old.client(), MemoryStore())
        await taken._next.compare_and_swap(0, FIRST)  # type: ignore[union-attr]
        with pytest.raises(StoreUnavailableError, match="something else"):
            await taken.reserve(place())

    run(story)


def test_anchors_of_both_are_read_and_new_ones_go_where_the_record_is() -> None:
    async def story(stage: _Stage) -> None:
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


def test_a_swap_of_another_version_than_the_seal_is_not_brought_there() -> None:
    async def story(stage: _Stage) -> None:
        await stage.begin()
        node = stage.node()
        seal = await stage.seal(node)
        there = await stage.new.read()
        for version in (seal.version - 1, seal.version + 1):
            assert await node.compare_and_swap(version, renewed(seal)) == (False, seal)
        assert await stage.new.read() == there

    run(story)


def test_a_node_that_knows_the_next_store_alone_refuses_its_place() -> None:
    async def story(stage: _Stage) -> None:
        await stage.begin()
        await stage.node().reserve(place())
        early = MovingStore(stage.new.client())
        with pytest.raises(StoreUnavailableError, match="the place of one that is to be moved here"):
            await early.read()
        with pytest.raises(StoreUnavailableError, match="the place of one that is to be moved here"):
            await early.compare_and_swap(0, FIRST)
        assert (await stage.new.read()).is_place

    run(story)


def test_no_place_is_reserved_while_the_record_is_on_its_way() -> None:
    async def story(stage: _Stage) -> None:
        await stage.begin()
        await stage.seal(stage.node())
        there = await stage.new.read()
        with pytest.raises(StoreUnavailableError, match="not there to go from"):
            await stage.node(moves=1, place=PLACE).reserve(place(moves=2, name="another"))
        assert await stage.new.read() == there

    run(story)


def test_a_seal_keeps_its_version_when_its_store_is_started_again() -> None:
    seal = replace(FIRST, version=4, moves=1, moved_to=PLACE, sealed=True)
    assert renumbered(seal, 1000) == seal
    assert renumbered(replace(seal, sealed=False), 1000).version == 1000
