"""The local database server: its state in one reading, asked from a thread of its own.

`status` keeps its deadline by socket time-outs. The harness does not rely on it: a reading that hangs is DB_HUNG, and
so is every further one until the thread has come back, without a second thread.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from failoverd.core.model import Health, Reading
from failoverd.probes.aside import Aside, ThreadRefusedError
from failoverd.probes.deadline import current

if TYPE_CHECKING:
    from failoverd.ports import Database, Target


class DatabaseProbe:
    """Reads `DatabaseFacts`. Needs a Database object of its own: at the deadline it cancels what that one does."""

    def __init__(self, database: Database, *, deadline_ms: int) -> None:
        self._database = database
        self._deadline_ms = deadline_ms * 9 // 10  # so that its own, better reason comes before the harness's
        self._aside = Aside("probe database")

    async def read(self, target: Target) -> Reading:  # noqa: ARG002 - it only ever looks at this node
        """Look once; see `ports.Probe`."""
        if self._aside.busy:
            return Reading(Health.FAILED, "DB_HUNG", "an earlier question to the database has not come back")
        attempt = current()
        attempt.stage("DB_HUNG", "the database did not answer")
        attempt.owns(self._database.cancel)
        try:
            return await self._aside.run(lambda: self._database.status(deadline_ms=self._deadline_ms))
        except ThreadRefusedError as error:
            return Reading(Health.UNKNOWN, "PROBE_EXHAUSTED", f"this node: {error}")
