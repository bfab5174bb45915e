"""Making sure that a lost primary cannot serve. Three ways, each with its own assumption.

kernel    the lease itself (actions/gate.py): always there, needs no device; it is waited for. It holds for whatever a
          running kernel does to its processes, and not for a paused virtual machine, whose kernel stands still as well
agent     a program of ClusterLabs' fence agents cuts the power; confirmed, it opens promotion before the lease ends
confirm   an operator's word that the power is off (`failoverctl confirm-fenced`): the same, on a person's authority.
          No file here: it does nothing to the world, it goes into the store's record as it was said (core)
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from failoverd.fencing.agent import AgentFence

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from failoverd.ports import Fence

FENCES: Mapping[str, Callable[..., Fence]] = {"agent": AgentFence}

# Every code that a fence can give. Each has a page in runbooks/.
CODES: Mapping[str, str] = {
    "FENCE_NO_AGENT": "the node has no fence agent, or its program cannot be started",
    "FENCE_FAILED": "a fence agent says that it did not work",
    "FENCE_TIMEOUT": "a fence agent did not end in time and was killed: whether the power is off is not known",
    "FENCE_NOT_OFF": "a fence agent has switched the power off, and says that it is on",
    "FENCE_CANCELLED": "failoverd itself ended the fencing: it was not needed any more",
    "FENCE_MONITOR_FAILED": "a fence agent could not be used if it were needed now",
}
