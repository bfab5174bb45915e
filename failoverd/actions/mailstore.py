"""The shared mail store after a failover: locks that the lost primary's Dovecot held are broken.

Dovecot locks a Maildir by a file beside it (`dovecot-uidlist.lock`, content `PID:HOST`). When its host dies in the
middle of a delivery, that file stays in the shared store, and Dovecot on another host, which cannot ask whether that
PID lives, waits 120 s for it: every session of that mailbox hangs, and soon the user's connection limit is reached.
(Measured in the lab: a mailbox unusable for 130 s after a power cut in the middle of an APPEND.)

At this point the lost primary's lease is over and its gate is closed, so nothing that its processes still do under
such a lock is acknowledged to anyone. Only locks of that host are broken, and only those older than a moment, so that
a process which merely lost the network has finished what it was doing.
"""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

from failoverd.core.model import Outcome
from failoverd.ports import Result

if TYPE_CHECKING:
    from collections.abc import Iterator

OLDER_S = 1.0
LONGEST = 64  # bytes of a lock's content; anything longer is no dotlock of Dovecot


class SharedStore:
    """A mail store that every data node has mounted at `path`."""

    def __init__(self, path: str) -> None:
        self._path = path

    def break_locks(self, *, host: str, deadline_ms: int) -> Result:
        """Remove the dotlocks of `host`. Blocks; UNKNOWN when the store was not walked through in time."""
        end = time.monotonic() + deadline_ms / 1000
        broken = 0
        try:
            for lock in self._locks(self._path):
                if time.monotonic() > end:
                    text = f"{self._path} was not walked through within {deadline_ms} ms, {broken} locks broken so far"
                    return Result(Outcome.UNKNOWN, "STORE_WALK_LONG", text)
                broken += _break(lock, host)
        except OSError as error:
            return Result(Outcome.FAILED, "STORE_UNREADABLE", f"{error.filename}: {error.strerror}")
        return Result(Outcome.SUCCEEDED, reason=f"{broken} locks of {host} broken" if broken else "")

    def _locks(self, directory: str) -> Iterator[os.DirEntry[str]]:
        """Every *.lock below `directory`; messages themselves (cur, new, tmp) are not looked at."""
        deeper: list[str] = []
        with os.scandir(directory) as entries:
            for entry in entries:
                if entry.name.endswith(".lock"):
                    yield entry
                elif entry.name not in {"cur", "new", "tmp"} and entry.is_dir(follow_symlinks=False):
                    deeper.append(entry.path)
        for path in deeper:
            yield from self._locks(path)


def _break(lock: os.DirEntry[str], host: str) -> bool:
    try:
        with open(lock.path, "rb") as file:  # noqa: PTH123 - scandir gives a path as text
            pid, _, holder = file.read(LONGEST).partition(b":")
            age_s = time.time() - os.fstat(file.fileno()).st_mtime
        if not pid.isdigit() or holder.strip() != host.encode() or age_s < OLDER_S:
            return False
        os.unlink(lock.path)  # noqa: PTH108 - likewise
    except FileNotFoundError:
        return False  # its owner was quicker
    return True
