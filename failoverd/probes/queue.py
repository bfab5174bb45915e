"""What waits in this node's mail queue: a look into a few directories, no program is started.

The reading is OK whatever waits: on a primary, mail in the queue is what a queue is for. What it means is asked of the
node's role (core/plan.py). FAILED is a queue that cannot be read, as where no Postfix is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from failoverd.core.model import Health, Reading
from failoverd.probes.aside import Aside, NoLookError
from failoverd.probes.deadline import current

if TYPE_CHECKING:
    from collections.abc import Callable

    from failoverd.core.model import QueueFacts
    from failoverd.ports import Target


class QueueProbe:
    """Reads `QueueFacts`.

    `count` blocks, and raises OSError where the queue cannot be read, NoLookError where nobody could look into it.
    """

    def __init__(self, count: Callable[[], QueueFacts]) -> None:
        self._count = count
        self._aside = Aside("probe queue")

    async def read(self, target: Target) -> Reading:  # noqa: ARG002 - it only ever looks at this node
        """Look once; see `ports.Probe`."""
        if self._aside.busy:
            return Reading(Health.FAILED, "QUEUE_FAILED", "the mail queue has not answered since an earlier reading")
        current().stage("QUEUE_FAILED", "the mail queue's directories did not answer")
        try:
            return Reading(Health.OK, facts=await self._aside.run(self._count))
        except NoLookError as error:
            return error.reading
        except OSError as error:
            return Reading(Health.FAILED, "QUEUE_FAILED", f"{error.filename}: {error.strerror}")
