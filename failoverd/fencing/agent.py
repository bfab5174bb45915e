"""ClusterLabs fence agents: the `fence_*` programs that cut a node's power, and how far they are believed.

The interface is that of ClusterLabs' Fence Agent API (fence-agents, doc/FenceAgentAPI.md): options as `key=value` lines
on standard input, never on the command line, where others could read a password; `action`, and `nodename` always. Exit
codes: `off` 0 done; `status` 0 on, 2 off, others not known; `monitor` 0 or 2 the device answers.

    level 1   off A, off B (one may feed the second power supply) ── all 0 ──> status A, status B ── all 2 ──> off
                 │ any other end                                      │ any other end
    level 2   off C ...                                               └──> the next level, in the time that is left

**A time-out is never a success.** "Off" is said in one place, at the end of `_level`, and only when every device of
one level has, in this order, ended its `off` by itself with 0 *and then* ended a `status` of its own by itself with 2:

- an agent that was told to end, whatever code it then ends with, has no code (process.Ended);
- `off` alone is not believed: agents exist that answer 0 once the request was sent, and an integrated one answers for a
  machine that goes on. "Timeout is a failure, not success", says the API, and asks agents to verify; here it is done
  whether they do or not;
- `status` alone is not believed either: 2 is also how a shell, Python or its argparse ends when the program could not
  be read or its options were not understood. A program that fails like that does not end its `off` with 0;
- all devices of a level are asked for their status after all of them were told `off`, since a machine with two power
  supplies is off only when both are.

What it says is as good as the configuration: the wrong plug is off when it says off. So each node asks its *own*
devices whether they are on (`own`): one that says off belongs to somebody else.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

import structlog

from failoverd.core.model import Outcome
from failoverd.hiding import hidden
from failoverd.ports import Result
from failoverd.process import Runs

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from failoverd.core.model import NodeName
    from failoverd.process import Ended

Action = Literal["off", "on", "reboot", "status", "monitor", "metadata"]

AGENTS = "/usr/sbin"  # where an agent that is given by its name alone is
ON, OFF = 0, 2  # exit codes of `status`
DONE = 0
LONGEST_WORDS = 200  # characters of its output in a reason; the log has more

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Device:
    """One agent with its options. `secrets` are options as well, and never shown."""

    agent: str
    options: Mapping[str, str] = field(default_factory=dict)
    secrets: Mapping[str, str] = field(default_factory=dict, repr=False)

    @property
    def path(self) -> str:
        """The program."""
        return self.agent if self.agent.startswith("/") else f"{AGENTS}/{self.agent}"

    @property
    def name(self) -> str:
        """The program's name."""
        return self.agent.rpartition("/")[2]

    def text(self, action: Action, node: str) -> bytes:
        """What it gets on standard input."""
        given = {**self.options, **self.secrets, "nodename": node, "action": action}
        return "".join(f"{key}={value}\n" for key, value in given.items()).encode()

    def words(self, ended: Ended) -> str:
        """What it printed, without the secrets; a beginning that may be the rest of one is left out."""
        text = ended.output.decode(errors="replace")
        text = hidden(text, self.secrets.values())
        if ended.cut:
            text = text[max((len(secret.encode()) for secret in self.secrets.values()), default=1) - 1 :]
        return text.strip()


def last_line(words: str) -> str:
    """The last line of it, for a reason, in characters that a terminal can be shown."""
    line = words.rpartition("\n")[2].strip()
    return "".join(letter if letter.isprintable() else "?" for letter in line)[:LONGEST_WORDS]


class AgentFence:
    """Implements ports.Fence: for each node its levels, tried in order; in one level every device must succeed."""

    def __init__(self, levels: Mapping[NodeName, Sequence[Sequence[Device]]]) -> None:
        self._levels = levels
        self._runs = Runs()

    async def power_off(self, node: NodeName, *, deadline_ms: int) -> Result:
        """Cut the node's power. SUCCEEDED only when it is confirmed to be off; see above.

        A level that hangs leaves the next its share: the time that is left is divided among the levels that are left.
        """
        levels = self._levels.get(node, ())
        until = asyncio.get_running_loop().time() + deadline_ms / 1000
        failed: list[Result] = []
        for index, level in enumerate(levels):
            rest_ms = int((until - asyncio.get_running_loop().time()) * 1000)
            result = await self._level(node, level, deadline_ms=max(1, rest_ms // (len(levels) - index)))
            if result.outcome is Outcome.SUCCEEDED:
                return result
            failed.append(result)
        if not failed:
            return Result(Outcome.FAILED, "FENCE_NO_AGENT", f"no fence agent is configured for {node}")
        # Any of them that was not seen to end may still work: that is not known, and opens nothing.
        outcome = Outcome.UNKNOWN if any(r.outcome is Outcome.UNKNOWN for r in failed) else Outcome.FAILED
        return Result(outcome, failed[-1].code, "; ".join(result.reason for result in failed))

    async def _level(self, node: NodeName, level: Sequence[Device], *, deadline_ms: int) -> Result:
        until = asyncio.get_running_loop().time() + deadline_ms / 1000

        def rest_ms() -> int:
            return max(1, int((until - asyncio.get_running_loop().time()) * 1000))

        for device in level:
            code, failure = await self.ask(device, "off", node, deadline_ms=rest_ms())
            if code != DONE:
                return failure
        for device in level:
            code, failure = await self.ask(device, "status", node, deadline_ms=rest_ms())
            if code == ON:
                reason = f"{device.name} says that {node} is still on, after its off was done"
                return Result(Outcome.FAILED, "FENCE_NOT_OFF", reason)
            if code != OFF:
                return failure
        names = ", ".join(device.name for device in level)
        return Result(Outcome.SUCCEEDED, reason=f"{names}: off was done, and status says off")

    async def status(self, node: NodeName, *, own: bool, deadline_ms: int) -> Result:
        """Whether every device of the node could be used now. Touches nothing.

        `own`: the asking node itself, which is on. It may not reach its own device (an IPMI port shared with the host),
        and need not: all that counts is that none says off.
        """
        until = asyncio.get_running_loop().time() + deadline_ms / 1000
        failed: list[str] = []
        for device in (device for level in self._levels.get(node, ()) for device in level):
            actions: tuple[Action, ...] = ("status",) if own else ("monitor", "status")
            for action in actions:
                rest_ms = max(1, int((until - asyncio.get_running_loop().time()) * 1000))
                code, failure = await self.ask(device, action, node, deadline_ms=rest_ms)
                if own and code == OFF:
                    failed.append(f"{device.name} says that {node} is off, and it is on: is it the device of another?")
                elif not own and code not in {ON, OFF}:
                    failed.append(failure.reason)
                    break
        if failed:
            return Result(Outcome.FAILED, "FENCE_MONITOR_FAILED", "; ".join(failed))
        return Result(Outcome.SUCCEEDED)

    async def ask(self, device: Device, action: Action, node: str, *, deadline_ms: int) -> tuple[int | None, Result]:
        """Run an agent once. Its exit code (None: it has none), and the result if that is not the one wanted."""
        ended = await self._runs.run(device.path, device.text(action, node), deadline_ms=deadline_ms)
        words = device.words(ended)
        _log.info(
            "fence agent", agent=device.name, action=action, node=node, exit=ended.code, error=ended.error, output=words
        )
        what, said = f"{device.name} {action} {node}", last_line(words)
        said = f": {said}" if said else ""
        if ended.error:
            return None, Result(Outcome.FAILED, "FENCE_NO_AGENT", f"{what}: {device.path}: {ended.error}")
        if ended.code is None:
            reason = f"{what}: not ended within {deadline_ms} ms, and killed{said}"
            return None, Result(Outcome.UNKNOWN, "FENCE_TIMEOUT", reason)
        return ended.code, Result(Outcome.FAILED, "FENCE_FAILED", f"{what}: exit {ended.code}{said}")
