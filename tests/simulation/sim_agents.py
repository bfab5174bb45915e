"""What cuts power from outside: fence agents, and what is known of them afterwards.

An agent succeeds, fails without having done anything, hangs until its deadline and cuts the power later all the same,
or fails although it worked. Only a power-off that was seen is a success.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from failoverd.core.model import Outcome

if TYPE_CHECKING:
    from collections.abc import Callable

    from world import World

    Answer = Callable[[Outcome, str, str], None]

TAKES_MS = 400


class Agents:
    """One agent for each host."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._ended = 0
        self.manner: Callable[[], str] = lambda: "works"

    def heal(self) -> None:
        """What still hangs is ended."""
        self._ended = self._world.now
        self.manner = lambda: "works"

    def power_off(self, name: str, deadline_ms: int, answer: Answer) -> None:
        """Cut its power."""
        world, manner = self._world, self.manner()
        takes_ms = world.chance.latency(TAKES_MS)
        self._world.tell("agent", f"asked to cut the power of {name}: {manner}")
        match manner:
            case "works":
                world.at(takes_ms, self._cut, name, answer)
            case "fails":
                world.at(takes_ms, answer, Outcome.FAILED, "FENCE_FAILED", "the agent failed")
            case "fails-though-it-worked":
                world.at(takes_ms, self._off, name)
                world.at(takes_ms + 1, answer, Outcome.FAILED, "FENCE_FAILED", "the agent failed")
            case _:  # it hangs: the executor's deadline answers
                world.at(deadline_ms + world.chance.latency(5 * TAKES_MS), self._late, world.now, name)

    def _late(self, began: int, name: str) -> None:
        if began >= self._ended:
            self._off(name)

    def _cut(self, name: str, answer: Answer) -> None:
        self._off(name)
        answer(Outcome.SUCCEEDED, "", "")

    def _off(self, name: str) -> None:
        node = self._world.node(name)
        if node.powered:
            node.power_off()
            self._world.chance.power_was_cut(node)
