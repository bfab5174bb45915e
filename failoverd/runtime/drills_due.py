"""Drills that should have been: DRILL_OVERDUE and DRILL_SKIPPED, found by the node that `drill.schedule` names.

    every minute, in a thread    past drills on disk (drills_past.py) ──> findings ──> check, metrics, alerts

A quarter without a drill looks like a quarter in which all is well: so its absence is told.
"""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING

import structlog

from failoverd.drill_files import DIRECTORY
from failoverd.probes.aside import Aside, ThreadRefusedError
from failoverd.runtime import drills_past
from failoverd.runtime.host import Refused

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from failoverd.config import Config
    from failoverd.config.drill import DrillSchedule

LOOK_S = 60.0
_log = structlog.get_logger(__name__)


def found(schedule: DrillSchedule, past: drills_past.Past, since: datetime, now: datetime) -> tuple[Refused, ...]:
    """What is to be told. `since`: from when drills were wanted, where none ever passed."""
    told = []
    days = (now - (past.passed or since)).days
    if days > schedule.overdue_days:
        told.append(Refused("DRILL_OVERDUE", f"no drill has passed for {days} days; allowed: {schedule.overdue_days}"))
    if past.skipped:
        told.append(Refused("DRILL_SKIPPED", past.skipped))
    return tuple(told)


def _now() -> datetime:
    return datetime.now(UTC)


class DrillsDue:
    """One node's. Called on the loop; whatever waits for a disk does so in a thread that nobody waits for."""

    def __init__(
        self,
        config: Config,
        state: Path,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        look_s: float = LOOK_S,
    ) -> None:
        self._config, self._place, self._now, self._look_s = config, state / DIRECTORY, now, look_s
        self._aside = Aside("drills-due")
        self._found: tuple[Refused, ...] = ()
        self._task: asyncio.Task[None] | None = None

    def refused(self) -> tuple[Refused, ...]:
        """Give what was found at the last look."""
        return self._found

    async def start(self) -> None:
        """Begin to look."""
        self._task = asyncio.get_running_loop().create_task(self._look_on())

    async def stop(self) -> None:
        """Look no more."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def reload(self, config: Config) -> Callable[[], None]:
        """Return what puts another configuration's `drill` in force: at once, and not a minute later."""

        def apply() -> None:
            self._config = config
            if self._task is not None:
                self._task.cancel()
                self._task = asyncio.get_running_loop().create_task(self._look_on())

        return apply

    async def _look_on(self) -> None:
        said = ""
        while True:
            problem = ""
            if not self._aside.busy:  # a disk that hangs is found by the node's own probes
                try:
                    self._found = await self._aside.run(partial(self._look, self._wanted(), self._now()))
                except (OSError, ThreadRefusedError) as error:
                    problem = str(error)
            if problem and problem != said:
                _log.warning("past drills cannot be looked at", directory=str(self._place), reason=problem)
            said = problem
            await asyncio.sleep(self._look_s)

    def _wanted(self) -> DrillSchedule | None:
        """Of this node."""
        drill = self._config.drill
        mine = drill.enabled and drill.schedule is not None and drill.schedule.node == self._config.this.name
        return drill.schedule if mine else None

    def _look(self, schedule: DrillSchedule | None, now: datetime) -> tuple[Refused, ...]:
        """Look at the disk. Blocks."""
        if schedule is None:
            drills_past.not_wanted(self._place)
            return ()
        return found(schedule, drills_past.read(self._place), drills_past.wanted_since(self._place, now), now)
