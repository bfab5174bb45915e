"""How long this node's looks at the mail services take, on average: what a client waits for, at least.

The looks are those that are taken anyway (imap, smtp): from the connection to an open mailbox, or to an accepted
recipient. No look is added, and none is waited for. One that was refused at once says nothing of how long it takes; one
that ran into its time-out counts with the time it had, as the least that it would have taken.

    prober ──each observation──> Latencies ──mean of the window──> LatencyProbe, every node one of its own

Slow is not down: a restart or another primary helps no service that only has too much to do.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from failoverd.core.model import Health, Reading
from failoverd.core.monitoring import LatencyFacts

if TYPE_CHECKING:
    from collections.abc import Collection

    from failoverd.config import Latency
    from failoverd.core.model import Observation
    from failoverd.ports import Clock, Target

LOOKS_MOST = 4096  # of one service of one node
LEAST = 3  # fewer are no average


class Latencies:
    """The looks of the last window. Only the prober's thread touches it."""

    def __init__(self, limit: Latency, services: Collection[str], clock: Clock) -> None:
        self.limit = limit
        self._services = frozenset(services)
        self._clock = clock
        self._looks: dict[tuple[str, str], deque[tuple[int, int]]] = {}

    def note(self, seen: Observation) -> None:
        """One more observation, of whatever."""
        reading = seen.reading
        counts = reading.health is Health.OK or (reading.health is Health.FAILED and "_TIMEOUT_" in reading.code)
        if counts and seen.probe in self._services:
            looks = self._looks.setdefault((seen.probe, seen.target), deque(maxlen=LOOKS_MOST))
            looks.append((seen.ended_ms, seen.took_ms))

    def means(self) -> tuple[tuple[str, str, int], ...]:
        """(service, node, mean in ms) of those that were looked at often enough."""
        since = self._clock.now_ms() - self.limit.window_ms
        found = []
        for (service, node), looks in sorted(self._looks.items()):
            while looks and looks[0][0] < since:
                looks.popleft()
            if len(looks) >= LEAST:
                found.append((service, node, round(sum(took for _, took in looks) / len(looks))))
        return tuple(found)


class LatencyProbe:
    """Reads `LatencyFacts`: MON_LATENCY where one is over its limit."""

    def __init__(self, latencies: Latencies) -> None:
        self._latencies = latencies

    async def read(self, target: Target) -> Reading:
        """Look once; see `ports.Probe`."""
        limit, means = self._latencies.limit, self._latencies.means()
        over = f"over {limit.window_ms // 1000} s > {limit.above_ms} ms"
        found = tuple(
            ("MON_LATENCY", f"{service} of {node}, seen from {target.node}, takes {mean_ms} ms on average {over}")
            for service, node, mean_ms in means
            if mean_ms > limit.above_ms
        )
        facts = LatencyFacts(means, found)
        if not found:
            return Reading(Health.OK, facts=facts)
        return Reading(Health.FAILED, found[0][0], "; ".join(reason for _, reason in found), facts)
