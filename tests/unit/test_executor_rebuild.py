"""The step that starts a rebuild: what is asked of it lies where it looks, before systemd is told."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import pytest

from failoverd.core.effects import Step, StepKind
from failoverd.core.model import NodeName, Outcome
from failoverd.ports import Result
from failoverd.rebuild_files import REQUEST
from failoverd.runtime.clock import BootClock
from failoverd.runtime.executor import REBUILD_UNIT, Executor

if TYPE_CHECKING:
    from pathlib import Path

    from failoverd.core.machine import StepEnded

STEP = Step(StepKind.START_REBUILD, 7, 1, 1000, target=NodeName("mail3"), from_primary=True, request="r1")


class Systemd:
    """Takes a unit's start, and looks at what stands in the request then."""

    def __init__(self, runtime: Path, result: Result) -> None:
        self.runtime = runtime
        self.result = result
        self.started: list[tuple[str, object]] = []

    async def launch(self, unit: str, *, deadline_ms: int) -> Result:
        """Start it."""
        assert deadline_ms == STEP.deadline_ms
        self.started.append((unit, json.loads((self.runtime / REQUEST).read_text())))
        return self.result


def performed(runtime: Path, systemd: Systemd) -> StepEnded:
    async def perform() -> StepEnded:
        ended: asyncio.Future[StepEnded] = asyncio.get_running_loop().create_future()
        unused: Any = None
        units: Any = systemd
        executor = Executor(
            node=NodeName("mail1"),
            clock=BootClock(),
            gate=unused,
            database=unused,
            heart=unused,
            units=units,
            store=unused,
            prove=unused,
            deliver=ended.set_result,
            broken=ended.set_exception,
            runtime=runtime,
        )
        executor.perform(STEP, until_ms=0)
        return await asyncio.wait_for(ended, 10)

    return asyncio.run(perform())


@pytest.mark.parametrize(
    "result", [Result(Outcome.SUCCEEDED), Result(Outcome.FAILED, "UNIT_JOB_FAILED", "no such unit")], ids=str
)
def test_the_request_is_there_before_the_unit_starts(tmp_path: Path, result: Result) -> None:
    systemd = Systemd(tmp_path, result)
    ended = performed(tmp_path, systemd)
    assert systemd.started == [(REBUILD_UNIT, {"request": "r1", "donor": "mail3", "from_primary": True})]
    assert (ended.outcome, ended.code) == (result.outcome, result.code)


def test_a_request_that_cannot_be_left_starts_nothing(tmp_path: Path) -> None:
    systemd = Systemd(tmp_path / "absent", Result(Outcome.SUCCEEDED))
    ended = performed(tmp_path / "absent", systemd)
    assert (ended.outcome, ended.code) == (Outcome.FAILED, "REBUILD_UNIT")
    assert systemd.started == []
