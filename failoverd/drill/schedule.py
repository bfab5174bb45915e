"""Is a drill due? Pure: of the newest that passed, the configuration and the time.

The timer asks each day when the window begins. A day on which the cluster is not fit is skipped with its reason and the
next one asks again, so that neither a machine that was off nor a bad night loses a quarter's drill.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from failoverd.config.drill import DrillSchedule


def due(schedule: DrillSchedule | None, node: str, last: datetime | None, now: datetime) -> bool:
    """Whether this node should begin one now; `last`: when the newest that passed ended."""
    if schedule is None or schedule.node != node:
        return False
    # To the nearest day: it is asked once a day, and that one ended later in its night than it is asked in this one.
    return last is None or now - last >= timedelta(days=schedule.days - 0.5)
