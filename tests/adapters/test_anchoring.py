"""A holder's anchors reach the store: once it serves, and once its term has ended; later where the store is away."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from views import TERM, view

from failoverd.core.anchor import Anchor, Head
from failoverd.core.lease import Held
from failoverd.core.model import NodeName
from failoverd.core.view import GateState
from failoverd.runtime import anchoring as module
from failoverd.runtime.anchoring import Anchoring
from failoverd.stores.memory import MemoryStore

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from failoverd.core.view import View

MAIL1 = NodeName("mail1")
HELD = Held(TERM, 40, 102_000)
SERVES = view("mail1", held=HELD, gate=GateState.OPEN)
OVER = view("mail1", held=None, gate=GateState.CLOSED)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("LOOK_S", "AGAIN_S", "AGAIN_MOST_S"):
        monkeypatch.setattr(module, name, 0.005)


class Holder:
    """mail1 as it stands, its head, and a store in memory."""

    def __init__(self) -> None:
        self.view: View = view("mail1", held=HELD, gate=GateState.CLOSED)
        self.seq = 7
        self.store = MemoryStore()
        self.anchoring = Anchoring(MAIL1, self._state, self.store, self._heads, lambda: 1_700_000_000_000)

    def _state(self) -> Any:
        return SimpleNamespace(view=self.view)

    async def _heads(self) -> tuple[Head, ...]:
        return (Head(MAIL1, self.seq, f"{self.seq:064x}"),)

    async def until(self, true: Callable[[], bool]) -> None:
        """Wait for it."""
        while not true():  # noqa: ASYNC110 - nothing tells of it
            await asyncio.sleep(0.002)

    def put(self) -> list[tuple[int, str, int]]:
        """What the store has: term, moment, and the holder's head."""
        return [(each.term, each.moment, each.heads[0].seq) for each in self.store._cell.anchors]


def tell(story: Callable[[Holder], Awaitable[None]]) -> None:
    async def telling() -> None:
        holder = Holder()
        working = asyncio.ensure_future(holder.anchoring.run())
        await story(holder)
        working.cancel()
        await asyncio.gather(working, return_exceptions=True)

    asyncio.run(asyncio.wait_for(telling(), 10))


def test_once_as_it_serves_and_once_as_the_term_has_ended() -> None:
    async def story(holder: Holder) -> None:
        await asyncio.sleep(0)
        assert holder.put() == [], "it is being promoted"
        holder.view = SERVES
        await holder.until(lambda: bool(holder.put()))
        holder.seq = 9
        await holder.until(lambda: holder.anchoring._due() is None)
        holder.view = OVER
        await holder.until(lambda: len(holder.put()) == 2)
        holder.view = replace(SERVES, held=Held(TERM + 2, 60, 200_000))
        await holder.until(lambda: len(holder.put()) == 3)
        assert holder.put() == [(TERM, "begin", 7), (TERM, "end", 9), (TERM + 2, "begin", 9)]
        assert holder.store._cell.anchors[0] == Anchor(
            TERM, MAIL1, "begin", 1_700_000_000_000, (Head(MAIL1, 7, f"{7:064x}"),)
        )

    tell(story)


def test_a_store_that_is_away_gets_it_later_and_that_it_lacks_it_is_told() -> None:
    async def story(holder: Holder) -> None:
        await holder.store.set_reachable(reachable=False)
        holder.view = SERVES
        await holder.until(lambda: holder.anchoring.problem.startswith(f"term {TERM}, begin: the store in memory"))
        holder.seq = 12
        await holder.store.set_reachable(reachable=True)
        await holder.until(lambda: holder.put() == [(TERM, "begin", 12)])
        await holder.until(lambda: not holder.anchoring.problem)

    tell(story)


def test_what_could_not_be_put_in_its_term_is_not_put_in_the_next() -> None:
    async def story(holder: Holder) -> None:
        await holder.store.set_reachable(reachable=False)
        holder.view = SERVES
        await holder.until(lambda: bool(holder.anchoring.problem))
        holder.view = replace(SERVES, held=Held(TERM + 2, 60, 200_000))
        await holder.store.set_reachable(reachable=True)
        await holder.until(lambda: bool(holder.put()))
        assert [term for term, *_ in holder.put()] == [TERM + 2]

    tell(story)
