"""Who does what when: random as people are, and fixed before anybody knows how the server will do. Pure.

Times are seconds of any one clock. The next moment of a person's kind of operation follows from the one before it,
never from when that was dealt with.
"""

from __future__ import annotations

import heapq
from itertools import count
from typing import TYPE_CHECKING, Generic, Literal, TypeVar

if TYPE_CHECKING:
    import random
    from collections.abc import Hashable, Iterator, Mapping

Kind = Literal["fetch", "append", "submit"]
Who = TypeVar("Who", bound="Hashable")


class Pacer(Generic[Who]):
    """A Poisson process for each person and kind. `rates`: a minute."""

    def __init__(self, rates: Mapping[Kind, float], rng: random.Random) -> None:
        self._per_s = {kind: rate / 60 for kind, rate in rates.items() if rate > 0}
        self._rng = rng
        self._heap: list[tuple[float, int, Who, Kind]] = []
        self._serial = count()  # two of the same moment are not compared by who they are
        self._here: set[Who] = set()

    def join(self, who: Who, now_s: float) -> None:
        """From now on."""
        self._here.add(who)
        for kind in self._per_s:
            self._plan(who, kind, now_s)

    def leave(self, who: Who) -> None:
        """No more of them. They do not come back: another person is another `who`."""
        self._here.discard(who)

    def next_s(self) -> float | None:
        """When the next one is meant to be."""
        while self._heap and self._heap[0][2] not in self._here:
            heapq.heappop(self._heap)
        return self._heap[0][0] if self._heap else None

    def due(self, now_s: float) -> Iterator[tuple[Who, Kind, float]]:
        """All that are meant to have begun by now, in their order, each with its moment."""
        while (at_s := self.next_s()) is not None and at_s <= now_s:
            _, _, who, kind = heapq.heappop(self._heap)
            self._plan(who, kind, at_s)
            yield who, kind, at_s

    def _plan(self, who: Who, kind: Kind, after_s: float) -> None:
        at_s = after_s + self._rng.expovariate(self._per_s[kind])
        heapq.heappush(self._heap, (at_s, next(self._serial), who, kind))


class Ramp:
    """How many people there are meant to be: more come one by one, fewer go at once."""

    def __init__(self, per_s: float) -> None:
        self._per_s = per_s
        self._level, self._target = 0.0, 0  # whoever aims each second takes nothing from the next one that comes
        self._since_s = 0.0

    def aim(self, target: int, now_s: float) -> None:
        """Head for another number."""
        self._level = min(self._at(now_s), target)
        self._target, self._since_s = target, now_s

    def at(self, now_s: float) -> int:
        """How many now."""
        return int(self._at(now_s) + 1e-9)

    def _at(self, now_s: float) -> float:
        return min(self._target, self._level + (now_s - self._since_s) * self._per_s)
