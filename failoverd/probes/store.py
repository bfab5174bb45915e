"""The mail store of this node, where it moves with the role: whether it is here, and whether it could be.

On a replica this is what its mail services are on a primary: a node that could not take the store is not ready.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from failoverd.core.model import Health
from failoverd.probes.deadline import current

if TYPE_CHECKING:
    from failoverd.core.model import Reading
    from failoverd.ports import MovedStore, Target


TIDY_MS = 100  # before the harness's deadline the store itself says what was late


class StoreProbe:
    """Asks the mail store, which ends what it has begun."""

    def __init__(self, store: MovedStore) -> None:
        self._store = store

    async def read(self, target: Target) -> Reading:  # noqa: ARG002 - it only ever looks at this node
        """Look once; see `ports.Probe`."""
        attempt = current()
        attempt.stage("STORE_HUNG", "the mail store could not be looked at in time", Health.FAILED)
        return await self._store.look(deadline_ms=max(1, attempt.deadline_ms - TIDY_MS))
