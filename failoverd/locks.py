"""The lock of a file or directory that a process has for as long as it lives, and others look at.

Looking is taking the lock, shared, for some microseconds (flock(2) has no question without an answer of that kind). So
an owner that begins at that very moment is not refused: only a lock that stays is another owner's. Blocking, for a
second at most.
"""

from __future__ import annotations

import fcntl
import time

LOOK_S = 1.0  # more than any look takes, whose process may lose the processor in the midst of it
AGAIN_S = 0.005


def own(descriptor: int) -> None:
    """Have the lock until the descriptor is closed, which the end of the process does. Raises BlockingIOError."""
    end = time.monotonic() + LOOK_S
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > end:
                raise
            time.sleep(AGAIN_S)
        else:
            return


def is_owned(descriptor: int) -> bool:
    """Whether a process has it that lives."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    fcntl.flock(descriptor, fcntl.LOCK_UN)
    return False
