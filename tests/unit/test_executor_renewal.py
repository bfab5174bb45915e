"""The gate's renewal in the executor: whoever ends can wait until the last one is the kernel's."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Any

from failoverd.core.effects import RenewGate, Step, StepKind
from failoverd.core.model import NodeName, Outcome
from failoverd.ports import Result
from failoverd.runtime.clock import BootClock
from failoverd.runtime.executor import Executor

if TYPE_CHECKING:
    from failoverd.core.events import StepEnded


class SlowGate:
    """Opens when it is let."""

    closings = 0

    def __init__(self) -> None:
        self.let = threading.Event()
        self.let.set()
        self.bounds: list[int] = []

    def open(self, *, until_ms: int, announce: bool, closings: int | None = None) -> Result:  # noqa: ARG002 - the port's
        """See ports.Gate."""
        assert self.let.wait(10)
        self.bounds.append(until_ms)
        return Result(Outcome.SUCCEEDED)


def test_the_last_renewal_can_be_waited_for_until_it_is_the_kernels() -> None:
    async def story() -> None:
        opened: asyncio.Future[StepEnded] = asyncio.get_running_loop().create_future()
        gate, unused = SlowGate(), None
        slow: Any = gate
        anything: Any = unused
        executor = Executor(
            node=NodeName("mail1"),
            clock=BootClock(),
            gate=slow,
            database=anything,
            heart=anything,
            units=anything,
            store=anything,
            prove=anything,
            deliver=opened.set_result,
            broken=opened.set_exception,
        )
        until_ms = BootClock().now_ms() + 60_000
        executor.perform(Step(StepKind.OPEN_GATE, 7, 1, 5000), until_ms=until_ms)
        assert (await asyncio.wait_for(opened, 10)).outcome is Outcome.SUCCEEDED
        await asyncio.wait_for(executor.gate_renewed(), 10)

        gate.let.clear()
        executor.renew_gate(RenewGate(7, until_ms + 1000))
        waiting = asyncio.ensure_future(executor.gate_renewed())
        done, _ = await asyncio.wait({waiting}, timeout=0.1)
        assert not done, "the kernel has not answered yet"
        gate.let.set()
        await asyncio.wait_for(waiting, 10)
        assert gate.bounds[-1] == until_ms + 1000

    asyncio.run(story())
