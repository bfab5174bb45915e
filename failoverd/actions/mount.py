"""A mail store that is mounted with the role: mount(8), umount(8), and what the kernel itself says is mounted.

    take      mountinfo ── not there ──> flock LOCK mount -t TYPE SOURCE PATH ──> mountinfo: there, and it is SOURCE
    release   mountinfo ── there ──> flock LOCK umount PATH ──busy: again, until the deadline──> mountinfo: gone

**A mount that is killed may still happen.** What waits in the kernel for a server or a device takes no signal, and is
mounted when that answers. So mount and umount run with a lock that is theirs until they have truly ended, also where
the daemon that started them has ended meanwhile: while it is held, nothing is said to be released, and nothing is
mounted. What appears late all the same is seen by the probe, and released.

**Never lazily, never by force.** `umount -l` hides a file system that is still written to, and it is the next primary's
by then. A busy one stays busy: who uses it is named, and the services' own units are what ends them.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import re
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from failoverd.core.model import Health, Outcome, Reading, StoreFacts
from failoverd.ports import Result
from failoverd.process import Runs

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from failoverd.core.model import NodeName
    from failoverd.process import Ended

FLOCK, MOUNT, UMOUNT = "/usr/bin/flock", "/usr/bin/mount", "/usr/bin/umount"
HELD = 75  # flock's exit code where another has the lock
AGAIN_S = 0.1  # a busy file system is tried again
LEAST_MS = 300  # what is left of a deadline and worth another try
MOST_RUNS = 4  # two that cannot be killed must leave room for another release
LONGEST_WORDS = 200
CAP_SYS_ADMIN = 21
NAMED = 5  # of the processes that keep it busy
MOUNTINFO = Path("/proc/self/mountinfo")
PROC = Path("/proc")
NAMES = {"UUID": "by-uuid", "LABEL": "by-label", "PARTUUID": "by-partuuid", "PARTLABEL": "by-partlabel"}


@dataclass(frozen=True, slots=True)
class Mounted:
    """What stands at a path: the topmost of all that are mounted there."""

    source: str
    type: str


def mounted_at(path: str, text: str) -> Mounted | None:
    """Return what `text`, of /proc/self/mountinfo, has at `path`."""
    found = None
    for line in text.split("\n"):  # not splitlines: a source may hold what that takes for an end
        fields = line.split(" ")
        if len(fields) > 4 and _unescaped(fields[4]) == path:
            rest = fields[fields.index("-") :]
            found = Mounted(_unescaped(rest[2]), rest[1])
    return found


def _unescaped(field: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda octal: chr(int(octal[1], 8)), field)


class MountedStore:
    """The file system `source` at `path`. `lock` is a file in memory, the same for every daemon of this boot."""

    def __init__(self, path: str, *, source: str, type: str, options: Sequence[str], lock: Path) -> None:  # noqa: A002 - mount's own word
        parent, name = os.path.split(os.path.normpath(path))
        self._path = os.path.join(os.path.realpath(parent), name)  # noqa: PTH118 - the kernel's name of it, as text
        self._source = source
        self._type = type
        self._options = ",".join(options)
        self._lock = lock
        self._runs = Runs(MOST_RUNS)

    # ---- the steps --------------------------------------------------------------------------------------------

    async def take(self, *, term: int, previous: NodeName | None, deadline_ms: int) -> Result:  # noqa: ARG002 - a mount knows no term
        """Mount it. Only for the holder of the lease of `term`."""
        there = self._there()
        if there is None:
            ended = await self._program(MOUNT, *self._arguments(), deadline_ms=deadline_ms)
            failed = self._judged("mount", ended, deadline_ms)
            if failed is not None:
                return failed
            there = self._there()
        if there is None:
            return Result(Outcome.FAILED, "STORE_MOUNT_FAILED", f"mount says that it worked, and {self._path} is bare")
        if not self._is_ours(there):
            text = f"{there.source} ({there.type}) is mounted at {self._path}, not {self._source} ({self._type})"
            return Result(Outcome.FAILED, "STORE_FOREIGN", text)
        return Result(Outcome.SUCCEEDED)

    async def release(self, *, term: int, deadline_ms: int) -> Result:  # noqa: ARG002 - likewise
        """Unmount it. Only SUCCEEDED says that it is not here and will not appear."""
        end = time.monotonic() + deadline_ms / 1000
        while self._there() is not None:
            rest_ms = round((end - time.monotonic()) * 1000)
            ended = await self._program(UMOUNT, self._path, deadline_ms=max(rest_ms, LEAST_MS))
            failed = self._judged("umount", ended, deadline_ms)
            if failed is None:
                continue  # another may lie below
            busy = ended.code is not None and b"busy" in ended.output
            if not busy:
                return failed
            if (end - time.monotonic()) * 1000 < LEAST_MS:
                return await self._busy()
            await asyncio.sleep(AGAIN_S)
        if self._is_under_way():
            return self._still_running()
        return Result(Outcome.SUCCEEDED)

    async def look(self, *, deadline_ms: int) -> Reading:  # noqa: ARG002 - it does not wait
        """Whether it is here; where it is not, whether it could be. Touches nothing that may hang."""
        there = self._there()
        facts = StoreFacts(there is not None)
        if there is not None and not self._is_ours(there):
            text = f"{there.source} ({there.type}) is mounted at {self._path}, not {self._source}"
            return Reading(Health.FAILED, "STORE_FOREIGN", text, facts)
        missing = self._missing() if there is None else None
        if missing is not None:
            return Reading(Health.FAILED, *missing, facts)
        return Reading(Health.OK, facts=facts)

    # ---- what there is ----------------------------------------------------------------------------------------

    def _there(self) -> Mounted | None:
        return mounted_at(self._path, MOUNTINFO.read_text(encoding="utf-8", errors="surrogateescape"))

    def _device(self) -> str:
        """The source as the kernel calls it, where it is a device."""
        kind, is_named, name = self._source.partition("=")
        path = f"/dev/disk/{NAMES[kind]}/{name}" if is_named and kind in NAMES else self._source
        return os.path.realpath(path) if path.startswith("/") else path

    def _missing(self) -> tuple[str, str] | None:
        """What keeps it from being mounted, of what can be seen without asking a server or a device."""
        device = self._device()
        if not os.path.isdir(self._path):  # noqa: PTH112 - text, as above
            return "STORE_NO_MOUNTPOINT", f"{self._path} is no directory"
        if device.startswith("/") and not os.path.exists(device):  # noqa: PTH110 - likewise
            return "STORE_NO_DEVICE", f"{device} does not exist"
        if not _may_mount():
            return "STORE_MOUNT_FAILED", "this process may not mount (CAP_SYS_ADMIN): see config/failoverd-mount.conf"
        return None

    def _is_ours(self, there: Mounted) -> bool:
        alike = {self._type, there.type} <= {"nfs", "nfs4"} or self._type == there.type
        source = os.path.realpath(there.source) if there.source.startswith("/") else there.source
        # A server's export may be told with a slash at its end, or without.
        return alike and source.rstrip("/") in {self._source.rstrip("/"), self._device().rstrip("/")}

    def _arguments(self) -> tuple[str, ...]:
        options = ("-o", self._options) if self._options else ()
        return ("-t", self._type, *options, "--", self._source, self._path)

    # ---- running them -----------------------------------------------------------------------------------------

    async def _program(self, program: str, *arguments: str, deadline_ms: int) -> Ended:
        lock = ("--exclusive", "--nonblock", "--no-fork", "--conflict-exit-code", str(HELD), str(self._lock))
        return await self._runs.run(FLOCK, b"", deadline_ms=deadline_ms, arguments=(*lock, program, *arguments))

    def _judged(self, name: str, ended: Ended, deadline_ms: int) -> Result | None:
        """What went wrong, None where nothing did."""
        if ended.error:
            return Result(Outcome.FAILED, "STORE_MOUNT_FAILED", f"{name} cannot be started: {ended.error}")
        if ended.code is None:
            text = f"{name} of {self._path} did not end within {deadline_ms} ms"
            return Result(Outcome.UNKNOWN, "STORE_MOUNT_TIMEOUT", text)
        if ended.code == HELD:
            return self._still_running()
        if ended.code != 0:
            words = " ".join(ended.output.decode(errors="replace").split())[-LONGEST_WORDS:]
            return Result(Outcome.FAILED, "STORE_MOUNT_FAILED", f"{name}: exit {ended.code}: {words}")
        return None

    def _is_under_way(self) -> bool:
        """Whether a mount or umount that was started here, or by an earlier daemon, has not ended."""
        descriptor = os.open(self._lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(descriptor)
        return False

    def _still_running(self) -> Result:
        text = f"an earlier mount or umount of {self._path} has not ended, although it was killed"
        return Result(Outcome.UNKNOWN, "STORE_MOUNT_RUNS", text)

    # ---- who keeps it -----------------------------------------------------------------------------------------

    async def _busy(self) -> Result:
        names = await asyncio.to_thread(users_of, self._path)
        by = ", ".join(names) or "a process that failoverd may not look into, or the kernel"
        return Result(Outcome.FAILED, "STORE_BUSY", f"{self._path} is in use by {by}")


def _may_mount() -> bool:
    """Whether this process has the right: known before the day on which it is needed."""
    for line in Path("/proc/self/status").read_text(encoding="ascii", errors="replace").splitlines():
        name, _, value = line.partition(":")
        if name == "CapEff":
            return bool(int(value, 16) >> CAP_SYS_ADMIN & 1)
    return False


def users_of(path: str) -> list[str]:
    """Return NAME[PID] of some that use what lies below `path`. Reads links of /proc, never what they name."""
    found = []
    for process in PROC.glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if any(link == path or link.startswith(f"{path}/") for link in _links(process)):
                found.append(f"{(process / 'comm').read_text(errors='replace').strip()}[{process.name}]")
        if len(found) > NAMED:
            return [*found[:NAMED], "others"]
    return found


def _links(process: Path) -> Iterator[str]:
    for name in ("cwd", "root", "exe"):
        with contextlib.suppress(OSError):
            yield os.readlink(process / name)  # noqa: PTH115 - as text
    for descriptor in (process / "fd").iterdir():
        with contextlib.suppress(OSError):
            yield os.readlink(descriptor)  # noqa: PTH115 - likewise
    for line in (process / "maps").read_text(errors="replace").splitlines():
        fields = line.split(None, 5)
        if len(fields) > 5:
            yield fields[5]
