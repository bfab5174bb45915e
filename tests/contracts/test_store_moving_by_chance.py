"""A record that is moved from one store to another: whatever comes in between, there is one line of records.

Each request is steered by hand. A node's call is a coroutine that stops where its request leaves; chance says which
request arrives, and when; whose answer comes, and who is told that none came while his request is still on its way;
whose process ends, and into which configuration it is started again; when a copy of the old store from before the seal
is put in the place of what stands there.
"""

from __future__ import annotations

import types
from dataclasses import dataclass, replace
from random import Random
from typing import TYPE_CHECKING, Any

import pytest

from failoverd.core.model import NodeName, Record
from failoverd.ports import StoreUnavailableError
from failoverd.stores.memory import MemoryCell
from failoverd.stores.moving import MovingStore

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Generator

SCHEDULES = range(30)
EACH = 40
ACTS = 220
FIRST = Record(version=1, term=7, holder=NodeName("mail1"), ttl_ms=3000, reason="r0")
FOREIGN = Record(term=3, holder=NodeName("other"), ttl_ms=3000, reason="foreign")
DIGEST, OTHERS_DIGEST = "a cluster's digest", "another cluster's digest"
BOTH, OLD, NEW, WRONG = "both", "the old one alone", "the new one alone", "the old one, and a wrong one as the next"


@dataclass(eq=False)
class _Request:
    """What is on its way to a store, and then its answer on its way back."""

    do: Callable[[], Any]
    answer: Any = None
    arrived: bool = False


def newness(record: Record) -> tuple[int, bool, int]:
    return record.moves, not record.sealed, record.version


@types.coroutine
def sent(request: _Request) -> Generator[_Request, Any, Any]:
    return (yield request)


class _Wire:
    """One process's way to a store."""

    def __init__(self, chance: _Chance, cell: MemoryCell, process: _Process) -> None:
        self._chance, self._cell, self._process = chance, cell, process

    async def read(self) -> Record:
        found: Record = await self._send(lambda: self._cell.record)
        return found

    async def compare_and_swap(self, expected_version: int, record: Record) -> tuple[bool, Record]:
        if self._cell is self._chance.old:
            assert not self._process.moves, "who knows of the move writes nothing to the store that was left"
        return await self._written(lambda: self._cell.swap(expected_version, record))

    async def adopt(self, place: Record, record: Record) -> tuple[bool, Record]:
        return await self._written(lambda: self._cell.adopt(place, record))

    async def _written(self, do: Callable[[], tuple[bool, Record]]) -> tuple[bool, Record]:
        def write() -> tuple[bool, Record]:
            before = self._cell.record
            answer = do()
            if answer[0]:
                self._chance.written(self._cell, before, answer[1])
            return answer

        answer: tuple[bool, Record] = await self._send(write)
        return answer

    async def _send(self, do: Callable[[], Any]) -> Any:
        request = _Request(do)
        self._chance.requests.append(request)
        return await sent(request)


class _Process:
    """One run of a node: what it has read last, what it has seen in the next store, and what is on its disk."""

    def __init__(self, chance: _Chance, stores: str, moves: int = 0, place: str = "") -> None:
        self.stores, self.moves, self.place = stores, moves, place
        self.seen: Record | None = None
        self.seen_place = self.reserved = ""
        way: Any = {cell: _Wire(chance, cell, self) for cell in (chance.old, chance.new, chance.wrong)}
        first = chance.new if stores == NEW else chance.old
        second = {BOTH: chance.new, WRONG: chance.wrong}.get(stores)
        self.store = MovingStore(way[first], way[second] if second else None, moves=moves, place=place)

    def told(self, record: Record) -> None:
        """As the core takes what it reads: nothing of fewer moves or a lower term, and then of a lower version."""
        assert not record.is_place, "a place is no record"
        assert self.stores == NEW or record.reason != "foreign", "another cluster's record is none of ours"
        if record.term < FIRST.term:
            return
        if record.moves < self.moves:
            self.seen = self.seen or record  # refused, and shown; a swap of it must come to nothing
            return
        if self.seen is None or newness(record) >= newness(self.seen):
            self.seen, self.moves, self.place = record, record.moves, record.moved_to


class _Chance:
    """Four nodes, two stores and a wrong one, and the line of records as they were written."""

    def __init__(self, seed: int) -> None:
        self.chance = Random(seed)  # noqa: S311 - a schedule, and the same again
        self.old, self.new, self.wrong = MemoryCell(), MemoryCell(), MemoryCell()
        self.old.record = FIRST
        self.line, self.left, self.restored, self.number = [FIRST], False, False, 0
        self.forks = self.term_at_arrival = 0
        self.copies = [FIRST]
        self.requests: list[_Request] = []
        self.calls: list[tuple[_Process, Coroutine[_Request, Any, None], _Request]] = []
        ours = Record(version=3, moves=1, moved_to="left over", sealed=True, reason=DIGEST)  # of an attempt given up
        begins = self.chance.choices([ours, replace(ours, reason=OTHERS_DIGEST), replace(FOREIGN, version=3), Record()],
                                     [60, 3, 3, 34])[0]  # fmt: skip
        self.new.record = begins
        self.wrong.record = self.chance.choice(
            [Record(), replace(FOREIGN, version=9, term=9), replace(ours, moved_to="wrong")]
        )
        self.foreign = self.chance.random() < 0.1  # another cluster has the same name and prefix in the new store
        self.nodes = [_Process(self, BOTH) for _ in range(4)]
        for node in self.nodes:
            if begins is ours:  # right before the seal
                node.seen, node.seen_place, node.reserved = FIRST, ours.moved_to, ours.moved_to

    # ---- what must hold ---------------------------------------------------------------------------------------------

    def written(self, cell: MemoryCell, before: Record, record: Record) -> None:
        if record.reason in ("foreign", OTHERS_DIGEST):
            assert before.version == 0, "another cluster writes nothing over what is ours"
            return
        if record.is_place:
            free = before.version == 0 or (before.sealed and before.moves < record.moves)
            assert free, "a place takes nothing's place"
            return
        assert not before.sealed or before.is_place, "nothing is written over a seal"
        assert before.reason != "foreign", "nothing is written over another cluster's record"
        if cell is self.old:
            self.copies.append(record)
            if self.restored:
                self.forks += 1
                return  # by one who knows of no move yet: a line that nobody else goes by
        else:
            assert cell is self.new, "a store that is not everybody's next one gets no record"
            assert before == self.line[-1] or (before.is_place and before.reason == DIGEST)
            self.term_at_arrival = record.term if before.is_place else self.term_at_arrival
        last = self.line[-1]
        assert self.left == (cell is self.new), "the record counts in one store"
        assert record.moves == last.moves + record.sealed, "the seal is the move"
        assert record.version > last.version, "versions grow"
        assert record.sealed or record.previous == last.reason, "each is made of the one before it"
        self.left = self.left or record.sealed
        self.line.append(record)

    # ---- what may come ----------------------------------------------------------------------------------------------

    def made(self, of: Record, **changes: Any) -> Record:
        self.number += 1
        told = NodeName(of.reason)
        return replace(of, counter=of.counter + 1, sealed=False, reason=f"r{self.number}", previous=told, **changes)

    async def read(self, node: _Process) -> None:
        node.told(await node.store.read())

    async def swap(self, node: _Process) -> None:
        if (seen := node.seen) is not None and seen.version:
            takes = {"term": seen.term + 1} if self.chance.random() < 0.2 else {}
            node.told((await node.store.compare_and_swap(seen.version, self.made(seen, **takes)))[1])

    async def look(self, node: _Process) -> None:
        there = await node.store.look_ahead()
        node.seen_place = (
            there.moved_to if there is not None and there.is_place and there.moves == node.moves + 1 else ""
        )

    async def reserve(self, node: _Process) -> None:
        self.number += 1
        place = Record(moves=node.moves + 1, moved_to=f"place {self.number}", sealed=True, reason=DIGEST)
        if not node.store.moved():
            node.reserved = (await node.store.reserve(place)).moved_to

    async def seal(self, node: _Process) -> None:
        seen, place = node.seen, node.reserved
        if seen is None or node.moves or not place or any(other.seen_place != place for other in self.nodes):
            return
        sealed = replace(seen, moves=seen.moves + 1, moved_to=place, sealed=True)
        node.told((await node.store.compare_and_swap(seen.version, sealed))[1])

    def restart(self, number: int) -> None:
        """What its disk has stays, and what it has sent may still arrive."""
        was = self.nodes[number]
        self.calls = [call for call in self.calls if call[0] is not was]
        stores = self.chance.choices([BOTH, OLD, NEW, WRONG], [12, 1, 2, 1])[0]
        self.nodes[number] = _Process(self, stores, was.moves, was.place)

    def restore(self) -> None:
        """An old copy of the store that was left: under numbers of a new run, or as it was.

        Before anybody has written in the next store the record is the old one's, and a copy there is what an old copy
        of any store is: rule 6 of the lease and the terms are against it, not this.
        """
        if not self.left or self.line[-1].sealed:
            return
        self.restored = True
        copy = self.chance.choice(self.copies)
        if self.chance.random() < 0.5:
            self.old.begin_run(copy, max(record.version for record in self.copies) + 1000)
            self.copies.append(self.old.record)
        else:
            self.old.record = copy

    def other_cluster(self) -> None:
        if self.foreign:
            wanted = self.chance.choice([FOREIGN, Record(moves=1, moved_to="x", sealed=True, reason=OTHERS_DIGEST)])
            if self.new.swap(0, wanted)[0]:
                self.written(self.new, Record(), wanted)

    # ---- how it goes on ---------------------------------------------------------------------------------------------

    def begin(self, node: _Process, how: Callable[[_Process], Coroutine[_Request, Any, None]]) -> None:
        self.goes_on(node, how(node), None)

    def goes_on(self, node: _Process, call: Coroutine[_Request, Any, None], request: _Request | None) -> None:
        try:
            if request is None or request.arrived:
                waits_for = call.send(None if request is None else request.answer)
            else:
                waits_for = call.throw(StoreUnavailableError("no answer came"))
        except (StopIteration, StoreUnavailableError):
            return
        self.calls.append((node, call, waits_for))

    def arrive(self, request: _Request) -> None:
        self.requests.remove(request)
        request.answer, request.arrived = request.do(), True

    def act(self) -> None:
        chance = self.chance
        node = chance.choice(self.nodes)
        what = chance.choices(
            ["arrive", "answer", "give up", "lose", "call", "restart", "restore", "other"],
            [40, 40, 4, 2, 36, 3 if self.left else 0.4, 0.8, 1],
        )[0]
        if what == "arrive" and self.requests:
            self.arrive(chance.choice(self.requests))
        elif what == "answer" and (answered := [call for call in self.calls if call[2].arrived]):
            call = chance.choice(answered)
            self.calls.remove(call)
            self.goes_on(*call)
        elif what == "give up" and self.calls:  # its request, if it has not arrived yet, may do so at any time
            call = self.calls.pop(chance.randrange(len(self.calls)))
            self.goes_on(*call)
        elif what == "lose" and self.requests:
            self.requests.pop(chance.randrange(len(self.requests)))
        elif what == "call":
            calls = [self.read, self.swap, self.look, self.reserve, self.seal]
            self.begin(node, chance.choices(calls, [6, 8, 5, 1, 4])[0])
        elif what == "restart":
            self.restart(chance.randrange(len(self.nodes)))
        elif what == "restore":
            self.restore()
        elif what == "other":
            self.other_cluster()

    def at_once(self, node: _Process, how: Callable[[_Process], Coroutine[_Request, Any, None]]) -> None:
        """The whole call, with nothing in its way."""
        call = how(node)
        try:
            waits_for = call.send(None)
            while True:
                self.arrive(waits_for)
                waits_for = call.send(waits_for.answer)
        except (StopIteration, StoreUnavailableError):
            return

    def end_well(self) -> None:
        """Whoever knows of the move goes on as soon as requests arrive; so does everybody where no copy is."""
        self.calls.clear()
        for number, was in enumerate(self.nodes):
            if was.stores != BOTH:
                self.nodes[number] = _Process(self, BOTH, was.moves, was.place)
        for node in self.nodes:
            if node.moves or not self.restored:
                for how in (self.read, self.swap, self.read):
                    self.at_once(node, how)
                assert node.seen == self.line[-1] == (self.new if self.left else self.old).record


def outcome(seed: int) -> _Chance:
    chance = _Chance(seed)
    for _ in range(ACTS):
        chance.act()
    chance.end_well()
    return chance


@pytest.mark.parametrize("block", SCHEDULES)
def test_whatever_comes_in_between_there_is_one_line_of_records(block: int) -> None:
    for seed in range(block * EACH, (block + 1) * EACH):
        try:
            outcome(seed)
        except AssertionError as error:
            raise AssertionError(f"schedule {seed}: {error}") from error


def test_chance_does_come_upon_what_it_is_meant_for() -> None:
    """All of the above would hold of a record that is never moved."""
    found = [outcome(seed) for seed in range(400)]
    moved = [chance for chance in found if any(record.moves and not record.sealed for record in chance.line)]
    assert len(moved) > 150
    assert sum(chance.restored for chance in moved) > 50
    assert sum(chance.forks > 0 for chance in moved) > 3
    assert sum(chance.term_at_arrival > FIRST.term for chance in moved) > 10, "also a candidate is the first there"
    assert any(chance.new.record.reason == "foreign" for chance in found)
