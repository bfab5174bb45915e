"""`failoverd drill-power off|on|is-on NODE`: a node's power by the fence agents of the configuration.

Run by systemd as a part of failoverd-fault.service, on the coordinator's node. `off` is believed as a fence is, by the
rules of fencing/agent.py. `on` is for every device of every level: which one had cut it is not asked.
"""

from __future__ import annotations

import asyncio
import signal
import sys
from typing import TYPE_CHECKING, Literal

from failoverd.core.model import NodeName, Outcome
from failoverd.drill import DrillError
from failoverd.fencing.agent import DONE, ON, AgentFence
from failoverd.runtime.local import levels_of

if TYPE_CHECKING:
    from failoverd.config import Config

Action = Literal["off", "on", "is-on"]
AGAIN_S = 2.0
ON_S = 90.0  # shorter than what systemd gives the fault to end (faults.STOP_S)


class Power:
    """One node's supply."""

    def __init__(self, config: Config, node: str) -> None:
        self._node = NodeName(node)
        self._limit_ms = config.fencing.timeout_ms
        levels = levels_of(config).get(self._node, [])
        if not levels:
            raise DrillError("DRILL_NO_FENCE", f"no fence agent is configured for {node}")
        self._fence = AgentFence({self._node: levels})
        self._devices = [device for level in levels for device in level]

    async def off(self) -> None:
        """Cut it. Raises DrillError unless it is confirmed to be off."""
        result = await self._fence.power_off(self._node, deadline_ms=self._limit_ms)
        if result.outcome is not Outcome.SUCCEEDED:
            raise DrillError("DRILL_INJECT_FAILED", f"{self._node} is not known to be off: {result.reason}")

    async def on(self) -> None:
        """Give it back, again and again: a machine that is left without power is the worst end of a drill."""
        until = asyncio.get_running_loop().time() + ON_S
        while True:
            try:
                await self._each("on", DONE)
            except DrillError:
                if asyncio.get_running_loop().time() > until:
                    raise
                await asyncio.sleep(AGAIN_S)
            else:
                return

    async def is_on(self) -> None:
        """Raise DrillError unless every device says so."""
        await self._each("status", ON)

    async def _each(self, action: Literal["on", "status"], wanted: int) -> None:
        for device in self._devices:
            code, failure = await self._fence.ask(device, action, self._node, deadline_ms=self._limit_ms)
            if code != wanted:
                reason = f"{device.name} {action} {self._node}: exit {code}"
                raise DrillError("DRILL_UNDO_FAILED", failure.reason or reason)


async def given_back(config: Config, node: str) -> bool:
    """Give a node its power back where its fence agents say that it has none; return whether they said so.

    Raises DrillError. An isolated primary is switched off by the cluster, and stays so: whoever isolated it for a drill
    has to bring it home. Where no agent is configured nobody can have switched it off.
    """
    if not config.fencing.nodes.get(NodeName(node)):
        return False
    supply = Power(config, node)
    try:
        await supply.is_on()
    except DrillError:
        await supply.on()
        return True
    return False


def main(config: Config, action: Action, node: str) -> int:
    """Entry point: 0 done, 1 not."""
    if action == "off":
        # A drill that is aborted now must not give the power back while an agent that nobody waits for still cuts it:
        # what was begun is seen through, within its deadline. No default action, and none that agents inherit.
        signal.signal(signal.SIGTERM, lambda *_: None)
    try:
        supply = Power(config, node)
        asyncio.run({"off": supply.off, "on": supply.on, "is-on": supply.is_on}[action]())
    except DrillError as error:
        sys.stderr.write(f"drill-power: {error}\n")
        return 1
    return 0
