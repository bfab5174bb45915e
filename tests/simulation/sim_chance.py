"""What is left to chance in a world. Without any, every latency is its base value: a story reads the same everywhere.

`sim_weather` has the kind that breaks things.
"""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sim_node import Node

    from failoverd.core.effects import Step, Swap

NETWORK_MS = 2
_ON_TIME = (NETWORK_MS,)
_AT_HOME = (1,)


class Chance:
    """Nothing happens by chance."""

    scale = 1  # how much longer every timing is than by default
    writes_ms = 50  # how often clients write
    pump_ms = 200  # how often a replication stream is looked after
    tells_clock = True  # a daemon looks at the wall clock now and then, and not only when it starts
    sparse = 1  # how many times less often than by default probes look at what seldom changes

    def latency(self, base_ms: int) -> int:
        """How long something on a host takes that usually takes `base_ms`."""
        return base_ms

    def deliveries(self, *, local: bool) -> Sequence[int]:
        """After how long a message arrives, each time that it does."""
        return _AT_HOME if local else _ON_TIME

    def hold_up_ms(self, node: Node) -> int:  # noqa: ARG002 - chance may stop more than the thread
        """How long the kernel keeps a thread of failoverd that calls it; mostly no time at all."""
        return 0

    def store_takes_ms(self) -> int:
        """How long the store thinks about a request."""
        return 0

    def takeover_recorded(self, node: Node, swap: Swap) -> int:  # noqa: ARG002 - chance may strike at both
        """How much longer than usual the record of a takeover takes, which is sent when that is on the disk."""
        return 0

    def power_was_cut(self, node: Node) -> None:
        """An agent has cut the power of a host: somebody may switch it on again."""

    def step_begins(self, node: Node, step: Step) -> None:
        """A step begins: a bad moment for a fault."""

    def swap_happened(self, caller: Node, swap: Swap) -> None:
        """The store took a swap and has not answered yet: another."""


class Latencies(Chance):
    """Latencies are drawn, and nothing is lost."""

    def __init__(self, seed: int) -> None:
        self._random = Random(seed)  # noqa: S311 - a schedule, no secret

    def latency(self, base_ms: int) -> int:
        """See Chance."""
        return max(1, round(base_ms * self._random.choice((0.5, 0.8, 1, 1, 1.2, 1.5, 2, 5))))

    def deliveries(self, *, local: bool) -> Sequence[int]:
        """See Chance."""
        return _AT_HOME if local else (self.latency(NETWORK_MS),)
