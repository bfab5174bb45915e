"""A record that is moved from the arbiter's file to a real etcd, and back, by clients that go on swapping."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING

from test_store import EmbeddedPlace, EtcdPlace, authority, embedded, etcd

from failoverd.core.model import NodeName, Record
from failoverd.stores.moving import MovingStore

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

__all__ = ["authority", "embedded", "etcd"]  # fixtures of the contract suite

FIRST = Record(term=7, holder=NodeName("mail1"), ttl_ms=3000)
SOON_S = 20.0


def tell(embedded: EmbeddedPlace, etcd: EtcdPlace, story: Callable[[], Awaitable[None]]) -> None:
    async def telling() -> None:
        await embedded.start()
        await etcd.start()
        async with asyncio.timeout(60):
            await story()

    asyncio.run(telling())


async def moved(node: MovingStore, move: int) -> Record:
    """Reserve the place, seal the record for it, and write it there."""
    seen = await node.read()
    there = await node.reserve(Record(moves=move, moved_to=f"place {move}", sealed=True, reason="digest"))
    wanted = replace(seen, moves=move, moved_to=there.moved_to, sealed=True)
    won, seal = await node.compare_and_swap(seen.version, wanted)
    assert won
    won, stored = await node.compare_and_swap(seal.version, renewed(seal))
    assert won
    assert (stored.moves, stored.counter, stored.version) == (move, seal.counter + 1, seal.version + 1)
    return stored


def renewed(record: Record) -> Record:
    return replace(record, counter=record.counter + 1, sealed=False)


async def holder(node: MovingStore, until: asyncio.Event, counters: list[int]) -> None:
    """Renew on and on, on whatever stands; each renewal that was won is told."""
    standing = await node.read()
    while not until.is_set():
        won, standing = await node.compare_and_swap(standing.version, renewed(standing))
        if won:
            counters.append(standing.counter)
        await asyncio.sleep(0.01)


async def watcher(node: MovingStore, seen: list[Record]) -> None:
    standing = await node.read()
    async for record in node.watch(standing.version):
        seen.append(record)  # noqa: PERF401 - others look at it meanwhile


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(SOON_S):
        while not true():  # noqa: ASYNC110 - of what several tasks have seen
            await asyncio.sleep(0.02)


def test_there_under_renewals_and_back_again(embedded: EmbeddedPlace, etcd: EtcdPlace) -> None:
    async def story() -> None:
        first = embedded.client()
        await first.compare_and_swap(0, FIRST)
        nodes = [MovingStore(embedded.client(), etcd.client()) for _ in range(3)]
        ended, counters, seen = asyncio.Event(), list[int](), list[Record]()
        renewing = asyncio.create_task(holder(nodes[0], ended, counters))
        watching = asyncio.create_task(watcher(nodes[1], seen))
        await until(lambda: len(counters) > 5)
        standing = await nodes[2].read()
        there = await nodes[2].reserve(Record(moves=1, moved_to="place 1", sealed=True, reason="digest"))
        while not standing.sealed:  # the holder's renewals come in between
            won, standing = await nodes[2].compare_and_swap(
                standing.version, replace(standing, moves=1, moved_to=there.moved_to, sealed=True)
            )
            assert won or not standing.sealed
        before = len(counters)
        await until(lambda: len(counters) > before + 5 and bool(seen) and seen[-1].moves == 1 and not seen[-1].sealed)
        ended.set()
        await renewing
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)
        assert counters == list(range(1, len(counters) + 1)), "no renewal was lost, and none won twice"
        assert [r.version for r in seen] == sorted({r.version for r in seen})
        last = await nodes[2].read()
        assert last == await etcd.client().read()
        assert (await first.read()) == standing, "nothing was written over the seal"

        back = MovingStore(etcd.client(), embedded.client(), moves=last.moves, place=last.moved_to)
        stored = await moved(back, 2)
        assert await first.read() == stored
        for store in (first, *nodes, back):
            await store.close()

    tell(embedded, etcd, story)


def test_a_file_that_is_served_anew_between_the_seal_and_what_comes_after_it(
    embedded: EmbeddedPlace, etcd: EtcdPlace
) -> None:
    async def story() -> None:
        one, other = (MovingStore(embedded.client(), etcd.client()) for _ in range(2))
        await embedded.client().compare_and_swap(0, FIRST)
        seen = await other.read()
        there = await one.reserve(Record(moves=1, moved_to="place 1", sealed=True, reason="digest"))
        wanted = replace(seen, moves=1, moved_to=there.moved_to, sealed=True)
        seal = (await one.compare_and_swap(seen.version, wanted))[1]
        await embedded.stop()
        await embedded.start()
        assert await other.read() == seal, "under the same version: both go on from it"
        assert (await other.compare_and_swap(seal.version, renewed(seal)))[0]
        await embedded.stop()
        stored = await one.read()
        again = MovingStore(embedded.client(), etcd.client(), moves=stored.moves, place=stored.moved_to)
        assert await again.read() == stored, "which does without the store that was left"
        for store in (one, other, again):
            await store.close()

    tell(embedded, etcd, story)
