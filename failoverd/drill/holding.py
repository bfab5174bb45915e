"""The coordinator's lock on every node's agent, renewed for as long as it lives: without it the fault goes away.

The node that the fault hits may not hear us for a while, and that is meant. Any other node that is not heard ends the
drill: it could not be told to let go.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

from failoverd.drill import DrillError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from failoverd.drill.calls import Agents

RENEW_S = 5.0
BACK_S = 10.0  # for giving back what was taken in vain
MISSES = 2  # in a row: a third would be as long as the lock


class Holding:
    """All nodes' locks for one drill."""

    def __init__(self, agents: Agents, nodes: Iterable[str], drill: str, by: str, coordinator: str) -> None:
        self._agents, self._nodes = agents, tuple(nodes)
        self._drill, self._by, self._coordinator = drill, by, coordinator
        self._excused: set[str] = set()
        self._misses: dict[str, int] = {}

    async def take(self) -> None:
        """Take all, or none, also where somebody ends it meanwhile. Raises DrillError."""
        tried: list[str] = []
        try:
            for node in self._nodes:
                tried.append(node)  # first: it may have taken it all the same
                await self._agents.lock(node, self._drill, self._by, self._coordinator)
        except (DrillError, asyncio.CancelledError):
            with contextlib.suppress(TimeoutError):  # it lapses by itself
                async with asyncio.timeout(BACK_S):
                    giving = (self._agents.release(node, self._drill) for node in tried)
                    await asyncio.gather(*giving, return_exceptions=True)
            raise

    def excuse(self, node: str) -> None:
        """It may be silent from now on."""
        self._excused.add(node)

    async def expect(self, node: str) -> None:
        """It may not be any more; an agent that was started anew knows of no drill before this. Raises DrillError."""
        await self._agents.lock(node, self._drill, self._by, self._coordinator)
        self._excused.discard(node)
        self._misses.pop(node, None)

    async def keep(self) -> None:
        """Renew for ever. Raises DrillError where a node that is not excused is not heard, or has another drill.

        Each node by itself: one that does not answer must not keep the others' locks from being renewed.
        """
        keeping = [asyncio.ensure_future(self._keep(node)) for node in self._nodes]
        try:
            ended, _ = await asyncio.wait(keeping, return_when=asyncio.FIRST_EXCEPTION)
            for one in ended:
                one.result()
        finally:
            for one in keeping:
                one.cancel()
            await asyncio.gather(*keeping, return_exceptions=True)

    async def _keep(self, node: str) -> None:
        loop = asyncio.get_running_loop()
        next_ = loop.time()
        while True:
            next_ = max(next_ + RENEW_S, loop.time())
            await asyncio.sleep(next_ - loop.time())
            await self._renew(node)

    async def _renew(self, node: str) -> None:
        try:
            await self._agents.lock(node, self._drill, self._by, self._coordinator)
        except DrillError as error:
            if node in self._excused and error.code == "DRILL_NO_AGENT":
                return
            self._misses[node] = self._misses.get(node, 0) + 1
            if self._misses[node] >= MISSES or error.code != "DRILL_NO_AGENT":
                raise
        else:
            self._misses.pop(node, None)

    async def release(self, tell: Callable[[str, str], None], *, within_s: float) -> bool:
        """Give all back: each says that nothing is left there. False where one has not said so in time, which is told.

        A node that comes back later takes the fault away by itself; it is asked here so that the drill can say so.
        """
        until = asyncio.get_running_loop().time() + within_s
        left = set(self._nodes)
        while True:
            answers = await asyncio.gather(
                *(self._agents.release(node, self._drill) for node in left), return_exceptions=True
            )
            failed = {}
            for node, answer in zip(list(left), answers, strict=True):
                if isinstance(answer, DrillError):
                    failed[node] = answer
                elif isinstance(answer, BaseException):
                    raise answer
            left = set(failed)
            if not left or asyncio.get_running_loop().time() > until:
                for node, error in failed.items():
                    tell(
                        error.code if error.code == "DRILL_UNDO_FAILED" else "DRILL_NO_AGENT", f"{node}: {error.reason}"
                    )
                return not left
            await asyncio.sleep(1.0)
