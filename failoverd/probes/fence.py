"""Whether one node's power could be cut from here, before it has to be: its agents are asked, nothing is touched.

The codes are those of the fence (fencing.CODES): a fence that does not work is known as FENCE_MONITOR_FAILED.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from failoverd.core.model import Health, Outcome, Reading
from failoverd.probes.deadline import current

if TYPE_CHECKING:
    from failoverd.core.model import NodeName
    from failoverd.ports import Fence, Target

TIDY_MS = 100  # before the harness's deadline the fence itself says which of its agents was late


class FenceProbe:
    """Asks the agents of `node`. The target is the node that looks, whose means of fencing are what is looked at."""

    def __init__(self, fence: Fence, node: NodeName) -> None:
        self._fence = fence
        self._node = node

    async def read(self, target: Target) -> Reading:
        """Look once; see `ports.Probe`."""
        attempt = current()
        attempt.stage("FENCE_MONITOR_FAILED", f"the fence agents of {self._node} did not answer")
        deadline_ms = max(1, attempt.deadline_ms - TIDY_MS)
        result = await self._fence.status(self._node, own=target.node == self._node, deadline_ms=deadline_ms)
        if result.outcome is Outcome.SUCCEEDED:
            return Reading(Health.OK)
        return Reading(Health.FAILED, result.code, result.reason)
