"""What the servers counted, asked of each node while the drill goes on, a minute at a time.

A journal keeps so and so many bytes, and people at work for twenty minutes may write more than that: whoever asks at
the end hears of the end only. A node that is away is asked about all of it when it is back. Each node's own clock says
up to when it has counted, so that nothing falls between two questions.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING

from failoverd.drill import DrillError
from failoverd.drill.calls import all_of
from failoverd.drill.model import CountersDone

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from failoverd.drill.calls import Agents

EVERY_S = 60.0
LATE_MS = 2_000  # what is logged has reached the journal by then


class Counting:
    """One drill's, of all data nodes. `since_ms`: CLOCK_REALTIME."""

    def __init__(
        self,
        agents: Agents,
        drill: str,
        *,
        accounts: Sequence[str],
        nodes: Sequence[str],
        since_ms: int,
        tell: Callable[[str], None],
    ) -> None:
        self._agents, self._drill, self._accounts, self._tell = agents, drill, list(accounts), tell
        self._nodes, self._since_ms = tuple(nodes), since_ms
        self._counted: dict[str, CountersDone] = {}

    async def runs(self) -> None:
        """Ask every minute. Ends never; beside the phases."""
        while True:
            await asyncio.sleep(EVERY_S)
            await asyncio.gather(*(self._asked_in_passing(node) for node in self._nodes))

    async def _asked_in_passing(self, node: str) -> None:
        try:
            await self._ask(node, LATE_MS)
        except DrillError:  # it may be what the drill has broken; at the end it has to answer
            return

    async def all(self) -> list[CountersDone]:
        """What each node counted, up to now. Raises DrillError."""
        await all_of(*(self._ask(node, 0) for node in self._nodes))
        return [self._counted[node] for node in self._nodes]

    async def _ask(self, node: str, late_ms: int) -> None:
        before = self._counted.get(node)
        since_ms = before.until_ms if before is not None else self._since_ms
        arguments = {"drill": self._drill, "accounts": self._accounts, "since_ms": since_ms, "late_ms": late_ms}
        job = await self._agents.start(node, self._drill, "counters", arguments)
        found = await job.result(CountersDone, self._tell)
        if found.missing:
            self._tell(f"{node}: {found.missing}: what its servers counted before that is not known")
        self._counted[node] = found if before is None else added(before, found)


def added(before: CountersDone, later: CountersDone) -> CountersDone:
    """Two questions, one after the other, as one. Pure."""
    return replace(
        later,
        logins=before.logins + later.logins,
        submitted=tuple(sorted({*before.submitted, *later.submitted})),
        missing=before.missing or later.missing,
    )
