"""Guard and helper at a reload: they read the same file, and one that a wrong file has ended is there again.

Each ends with EX_CONFIG at a file that it cannot take when it starts, and systemd does not try again. The reload that
brings a right file is what mends that; otherwise they would stay away until somebody remembers them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import structlog

from failoverd.core.model import Outcome

if TYPE_CHECKING:
    from collections.abc import Callable

    from failoverd.ports import Result
    from failoverd.runtime.helped import Helper
    from failoverd.runtime.host import Refused

GUARD, HELPER = "failoverd-guard.service", "failoverd-helper.service"
LAUNCH_MS = 1000  # systemd takes the job; how it goes on is not waited for
_log = structlog.get_logger(__name__)


class Launches(Protocol):
    """What this needs of systemd."""

    async def launch(self, unit: str, *, deadline_ms: int) -> Result:
        """Have it take the job to start `unit`."""
        ...


class Beside:
    """Those of this node. `guard` says what is wrong with the guard."""

    def __init__(self, units: Launches, helper: Helper, guard: Callable[[], Refused | None]) -> None:
        self._units, self._helper, self._guard = units, helper, guard

    async def reloaded(self) -> None:
        """A right file is there. On the loop; each of them is waited for no longer than it may take to answer."""
        guard, helper = self._guard(), self._helper.missing()
        if guard is not None and guard.code == "GUARD_MISSING":
            await self._launch(GUARD)
        if helper is not None and helper.code == "HELPER_MISSING":
            await self._launch(HELPER)
        else:
            await self._helper.renew()

    async def _launch(self, unit: str) -> None:
        result = await self._units.launch(unit, deadline_ms=LAUNCH_MS)
        if result.outcome is not Outcome.SUCCEEDED:
            _log.warning("a unit beside the daemon is not started", unit=unit, code=result.code, reason=result.reason)
