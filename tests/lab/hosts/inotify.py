"""How many inotify instances one user may have, on this machine: an IMAP session that waits has one of its own."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

INSTANCES = Path("/proc/sys/fs/inotify/max_user_instances")


@contextlib.contextmanager
def instances(sessions: int) -> Iterator[None]:
    """Let one user have enough for so many sessions, and set it back."""
    before = INSTANCES.read_text()
    INSTANCES.write_text(str(max(int(before), 2 * sessions + 128)))
    try:
        yield
    finally:
        INSTANCES.write_text(before)
