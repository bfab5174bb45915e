"""The local database's settings: a slow reading beside the quick one, over a connection of its own.

A reading that did not come gives what was found last: a setting that blocks must not go away because the server is
slow. Whether the server answers at all is the database probe's word.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from failoverd.core.model import Health, Reading
from failoverd.probes.aside import Aside, ThreadRefusedError
from failoverd.probes.deadline import current

if TYPE_CHECKING:
    from failoverd.core.model import Facts
    from failoverd.ports import Database, Target


class SettingsProbe:
    """Reads `SettingsFacts`. Needs a Database object of its own: at the deadline it cancels what that one does."""

    def __init__(self, database: Database, *, deadline_ms: int) -> None:
        self._database = database
        self._deadline_ms = deadline_ms * 9 // 10
        self._aside = Aside("probe settings")
        self._last: Facts | None = None

    async def read(self, target: Target) -> Reading:  # noqa: ARG002 - it only ever looks at this node
        """Look once; see `ports.Probe`."""
        if self._aside.busy:
            return self._as_before("DB_HUNG", "an earlier question to the database has not come back")
        attempt = current()
        attempt.settle(self._as_before("DB_HUNG", "the database did not answer"))
        attempt.owns(self._database.cancel)
        try:
            reading = await self._aside.run(lambda: self._database.settings(deadline_ms=self._deadline_ms))
        except ThreadRefusedError as error:
            return self._as_before("PROBE_EXHAUSTED", f"this node: {error}")
        if reading.health is Health.UNKNOWN:
            return self._as_before(reading.code, reading.reason)
        self._last = reading.facts
        return reading

    def _as_before(self, code: str, reason: str) -> Reading:
        return Reading(Health.UNKNOWN, code, reason, self._last)
