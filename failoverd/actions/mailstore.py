"""The shared mail store after a failover: locks that a lost node's Dovecot held are broken.

Dovecot locks a Maildir by a file beside it (`dovecot-uidlist.lock`, content `PID:HOST`). When its host dies in the
middle of a delivery, that file stays in the shared store, and Dovecot on another host, which cannot ask whether that
PID lives, waits 120 s for it: every session of that mailbox hangs, and soon the user's connection limit is reached.
(Measured in the lab: a mailbox unusable for 130 s after a power cut in the middle of an APPEND.)

A lock need not say whose it is: a host that stops between creating the file and writing to it leaves it empty, as does
one whose disk had only the name, and where Dovecot replaces a file (`dovecot.index.log.newlock`), the lock holds what
the file is to hold. A living process's is so for a moment only, so an old one counts as a lost node's. (Measured: a
mailbox unusable while its host was frozen.)

At this point every other node's lease is over and its gate is closed, so nothing that their processes still do under
such a lock is acknowledged to anyone. So the locks of all of them are broken: where a candidate died in the middle of
its promotion, the ones in the way are those of the primary before it. Only those older than a moment, so that a process
which merely lost the network has finished what it was doing; than a longer one where the primary gave the role back,
alive: its processes end what they do, unless they hang, which may be why it gave back.

This node's own as well, where they are older than its boot: it may have been the primary that lost its power. Dovecot
takes such a lock for a living process's where the process id has been given anew, as after a reboot it soon is.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING

from failoverd.core.model import Outcome
from failoverd.ports import Result

if TYPE_CHECKING:
    import threading
    from collections.abc import Iterable, Iterator

FIRST_PROCESS = Path("/proc/1/stat")
STARTED = 19  # of its fields behind the name: clock ticks since boot
OLDER_S = 1.0
OLDER_GIVEN_S = 5.0
ENDINGS = (".lock", ".newlock")
DOVECOTS = ("dovecot", ".dovecot", "subscriptions.")  # how the names of its lock files begin
LONGEST = 64  # bytes of a lock's content; anything longer is no dotlock of Dovecot


def _label(host: str) -> str:
    return host.partition(".")[0]


def _booted() -> float:
    """When this host's first process began, in seconds of the wall clock: in a container not when its kernel did."""
    ticks = int(FIRST_PROCESS.read_text().rpartition(")")[2].split()[STARTED])
    return time.time() - time.clock_gettime(time.CLOCK_BOOTTIME) + ticks / os.sysconf("SC_CLK_TCK")


class SharedStore:
    """A mail store that every data node has mounted at `path`: this one, `me`, and the `others`."""

    def __init__(self, path: str, *, me: str, others: Iterable[str]) -> None:
        self._path = path
        self._me = _label(me)
        self._others = frozenset(map(_label, others))

    def break_locks(self, *, given: bool, deadline_ms: int, stopped: threading.Event | None = None) -> Result:
        """Remove the dotlocks of nodes that are no primary any more. `given`: the last one gave the role back, alive.

        `stopped` ends it early: nothing may be open in a store that is to be left.

        Blocks; UNKNOWN when the store was not walked through in time.
        """
        end = time.monotonic() + deadline_ms / 1000
        booted, lost = _booted(), time.time() - (OLDER_GIVEN_S if given else OLDER_S)
        broken = 0
        try:
            for lock in self._locks(self._path):
                if stopped is not None and stopped.is_set():
                    return Result(Outcome.UNKNOWN, "STORE_CANCELLED", f"ended early, {broken} locks broken so far")
                if time.monotonic() > end:
                    text = f"{self._path} was not walked through within {deadline_ms} ms, {broken} locks broken so far"
                    return Result(Outcome.UNKNOWN, "STORE_WALK_LONG", text)
                broken += self._break(lock, booted=booted, lost=lost)
        except OSError as error:
            return Result(Outcome.FAILED, "STORE_UNREADABLE", f"{error.filename}: {error.strerror}")
        return Result(Outcome.SUCCEEDED, reason=f"{broken} locks broken" if broken else "")

    def _locks(self, directory: str) -> Iterator[os.DirEntry[str]]:
        """Every lock below `directory`; messages themselves (cur, new, tmp) are not looked at."""
        deeper: list[str] = []
        with os.scandir(directory) as entries:
            for entry in entries:
                if entry.name.endswith(ENDINGS):
                    yield entry
                elif entry.name not in {"cur", "new", "tmp"} and entry.is_dir(follow_symlinks=False):
                    deeper.append(entry.path)
        for path in deeper:
            yield from self._locks(path)

    def _break(self, lock: os.DirEntry[str], *, booted: float, lost: float) -> bool:
        try:
            with open(lock.path, "rb") as file:  # noqa: PTH123 - scandir gives a path as text
                pid, _, holder = file.read(LONGEST).decode(errors="replace").partition(":")
                made = os.fstat(file.fileno()).st_mtime
            host = _label(holder.strip())  # Dovecot writes what the host calls itself, with a domain or not
            if not pid.isdigit() or not host:
                broken = made < lost and lock.name.startswith(DOVECOTS)
            else:
                broken = made < lost if host in self._others else host == self._me and made < booted
            if not broken:
                return False
            os.unlink(lock.path)  # noqa: PTH108 - likewise
        except FileNotFoundError:
            return False  # its owner was quicker
        return True
