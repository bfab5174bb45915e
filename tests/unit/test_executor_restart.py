"""The step that restarts a unit: mails that are being delivered are waited for, for a moment."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from failoverd.actions.queue import PostfixQueue
from failoverd.core.effects import Step, StepKind
from failoverd.core.model import NodeName, Outcome
from failoverd.ports import Result
from failoverd.runtime.clock import BootClock
from failoverd.runtime.executor import DRAIN_MS, Executor

if TYPE_CHECKING:
    from pathlib import Path

    from failoverd.core.machine import StepEnded

SMTP = Step(StepKind.RESTART_UNIT, 7, 1, 6000, service="smtp", unit="postfix@-.service")
DATABASE = Step(StepKind.RESTART_UNIT, 7, 1, 6000, service="database", unit="mariadb.service")


class Systemd:
    """Looks at what was being delivered as it was told to restart a unit."""

    def __init__(self, active: Path) -> None:
        self._active = active
        self.found: list[list[str]] = []
        self.deadlines_ms: list[int] = []

    async def restart(self, _unit: str, *, deadline_ms: int) -> Result:
        """Restart it."""
        self.found.append([message.name for message in self._active.iterdir()])
        self.deadlines_ms.append(deadline_ms)
        return Result(Outcome.SUCCEEDED)


@pytest.fixture
def spool(tmp_path: Path) -> Path:
    for queue in ("incoming", "active", "deferred", "hold"):
        (tmp_path / queue).mkdir()
    (tmp_path / "active" / "4A1B").write_text("a mail")
    (tmp_path / "active" / "4A1B").chmod(0o700)
    return tmp_path


async def restarted(spool: Path, systemd: Systemd, step: Step, *, delivered_after_s: float | None) -> StepEnded:
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
        queue=(PostfixQueue(spool, spool / "ours"), unused),
        prove=unused,
        deliver=ended.set_result,
        broken=ended.set_exception,
        runtime=spool,
    )
    executor.perform(step, until_ms=0)
    if delivered_after_s is not None:
        asyncio.get_running_loop().call_later(delivered_after_s, (spool / "active" / "4A1B").unlink)
    return await asyncio.wait_for(ended, 10)


def test_a_mail_that_is_being_delivered_is_waited_for(spool: Path) -> None:
    systemd = Systemd(spool / "active")
    ended = asyncio.run(restarted(spool, systemd, SMTP, delivered_after_s=0.1))
    assert ended.outcome is Outcome.SUCCEEDED
    assert systemd.found == [[]]
    assert systemd.deadlines_ms == [SMTP.deadline_ms - DRAIN_MS]


def test_one_that_is_not_delivered_holds_nothing_up(spool: Path) -> None:
    systemd = Systemd(spool / "active")
    ended = asyncio.run(restarted(spool, systemd, SMTP, delivered_after_s=None))
    assert ended.outcome is Outcome.SUCCEEDED
    assert systemd.found == [["4A1B"]]


def test_a_database_is_restarted_at_once(spool: Path) -> None:
    systemd = Systemd(spool / "active")
    asyncio.run(restarted(spool, systemd, DATABASE, delivered_after_s=0.1))
    assert systemd.found == [["4A1B"]]
    assert systemd.deadlines_ms == [DATABASE.deadline_ms]
