"""Whether the lease noted here runs out, or a daemon that was started again renews it.

Of its own, since it is asked in a process that is started beside a daemon which is coming up, on a host that may be
busy: it loads next to nothing, and sleeps most of the time.
"""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING

from failoverd.runtime.clock import BootClock
from failoverd.runtime.persist import LeaseFile, boot_id

if TYPE_CHECKING:
    from pathlib import Path

LOOK_S = 0.05
LOADING_MS = 1_500  # before the end: the time to read the configuration and load what drops


def is_ending(runtime: Path, before_ms: int = LOADING_MS) -> bool:
    """Wait until the lease has `before_ms` left. False when there is none, or it was renewed or given back."""
    lease, clock = LeaseFile(runtime, boot_id()), BootClock()
    first = lease.noted()
    if first is None:
        sys.stderr.write("drop: no lease is noted: nothing is held here\n")
        return False
    while clock.now_ms() < first.held.deadline_ms - before_ms:
        time.sleep(LOOK_S)
        if lease.noted() != first:
            sys.stderr.write("drop: a daemon has renewed the lease, or given it back\n")
            return False
    return True
