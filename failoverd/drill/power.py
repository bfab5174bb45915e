"""`failoverd drill-power off|on|is-on NODE`: a node's power by the fence agents of the configuration.

Run by systemd as a part of failoverd-fault.service, on the coordinator's node. `off` is believed as a fence is, by the
rules of fencing/agent.py. `on` is for every device of every level: which one had cut it is not asked.
"""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING, Literal

from failoverd.core.model import NodeName, Outcome
from failoverd.drill import DrillError
from failoverd.fencing.agent import DONE, ON, AgentFence, Device
from failoverd.runtime.assembly import levels_of

if TYPE_CHECKING:
    from failoverd.config import Config

Action = Literal["off", "on", "is-on"]
AGAIN_S = 2.0
ON_S = 120.0  # agents of machines that boot slowly wait until they are on


async def power(config: Config, action: Action, node: str) -> None:
    """Do it. Raises DrillError."""
    name = NodeName(node)
    levels = levels_of(config).get(name)
    if not levels:
        raise DrillError("DRILL_NO_FENCE", f"no fence agent is configured for {node}")
    fence = AgentFence({name: levels})
    if action == "off":
        result = await fence.power_off(name, deadline_ms=config.fencing.timeout_ms)
        if result.outcome is not Outcome.SUCCEEDED:
            raise DrillError("DRILL_INJECT_FAILED", f"{node} is not known to be off: {result.reason}")
        return
    devices = [device for level in levels for device in level]
    if action == "is-on":
        for device in devices:
            await _one(fence, device, "status", name, ON, config.fencing.timeout_ms)
        return
    until = asyncio.get_running_loop().time() + ON_S
    while True:  # whatever else fails, a machine that is left without power is the worst end of a drill
        try:
            for device in devices:
                await _one(fence, device, "on", name, DONE, config.fencing.timeout_ms)
        except DrillError:
            if asyncio.get_running_loop().time() > until:
                raise
            await asyncio.sleep(AGAIN_S)
        else:
            return


async def _one(
    fence: AgentFence, device: Device, action: Literal["on", "status"], node: NodeName, wanted: int, limit_ms: int
) -> None:
    code, failure = await fence.ask(device, action, node, deadline_ms=limit_ms)
    if code != wanted:
        raise DrillError("DRILL_UNDO_FAILED", failure.reason or f"{device.name} {action} {node}: exit {code}")


def main(config: Config, action: Action, node: str) -> int:
    """Entry point: 0 done, 1 not."""
    try:
        asyncio.run(power(config, action, node))
    except DrillError as error:
        sys.stderr.write(f"drill-power: {error}\n")
        return 1
    return 0
