"""The node itself: load, memory, disks. All from this kernel, no server is asked.

`statvfs` on a hung file system blocks and cannot be interrupted, so that it runs beside the loop, one thread a disk.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

import psutil

from failoverd.core.model import Health, HostFacts, Reading
from failoverd.probes.aside import Aside, NoLookError
from failoverd.probes.deadline import current

if TYPE_CHECKING:
    from collections.abc import Callable

    from failoverd.ports import Target


@dataclass(frozen=True, slots=True)
class HostLimits:
    """What counts as too much. `disks` are paths on file systems that must be writable."""

    disks: tuple[str, ...]
    disk_min_free_percent: float
    memory_min_free_percent: float
    load_max_per_core: float


@dataclass(frozen=True, slots=True)
class Space:
    """What is left of a file system: of its space, or of its inodes where these are scarcer."""

    free_percent: float
    read_only: bool


@dataclass(frozen=True, slots=True)
class _Disk:
    path: str
    free_percent: float
    read_only: bool
    error: str = ""


class HostProbe:
    """Reads `HostFacts` and compares them with the limits.

    `look` blocks, and raises OSError where a file system cannot be asked, NoLookError where nobody could ask it.
    """

    def __init__(self, limits: HostLimits, look: Callable[[str], Space] | None = None) -> None:
        self._limits = limits
        self._look = space if look is None else look
        self._aside = {path: Aside(f"probe disk {path}") for path in limits.disks}
        self._cores = os.cpu_count() or 1

    async def read(self, target: Target) -> Reading:  # noqa: ARG002 - it only ever looks at this node
        """Look once; see `ports.Probe`."""
        try:
            disks = [await self._disk(path) for path in self._limits.disks]
        except NoLookError as error:
            return error.reading
        memory = psutil.virtual_memory()
        fullest = min(disks, key=lambda disk: disk.free_percent, default=_Disk("", 100.0, read_only=False))
        facts = HostFacts(
            load_per_core=round(psutil.getloadavg()[0] / self._cores, 2),
            memory_free_percent=round(100 * memory.available / memory.total, 1),
            disk_free_percent=round(fullest.free_percent, 1),
            fullest_disk=fullest.path,
        )
        return self._judge(facts, disks)

    async def _disk(self, path: str) -> _Disk:
        aside = self._aside[path]
        if aside.busy:
            return _Disk(path, 0.0, read_only=False, error="hung")
        attempt = current()
        attempt.stage("DISK_HUNG", f"the file system of {path} did not answer")
        try:
            found = await aside.run(lambda: self._look(path))
        except TimeoutError:
            return _Disk(path, 0.0, read_only=False, error="hung")
        except OSError as error:
            return _Disk(path, 0.0, read_only=False, error=error.strerror or "unreadable")
        return _Disk(path, found.free_percent, found.read_only)

    def _judge(self, facts: HostFacts, disks: list[_Disk]) -> Reading:
        limits = self._limits
        found: list[tuple[str, str]] = []
        for disk in disks:
            if disk.error == "hung":
                found.append(("DISK_HUNG", f"the file system of {disk.path} has not answered since an earlier reading"))
            elif disk.error:
                found.append(("DISK_UNREADABLE", f"{disk.path}: {disk.error}"))
            elif disk.read_only:
                found.append(("DISK_READ_ONLY", f"the file system of {disk.path} is read-only"))
            elif disk.free_percent < limits.disk_min_free_percent:
                found.append(
                    (
                        "DISK_FULL",
                        f"{disk.path} has {disk.free_percent:.1f} % free < {limits.disk_min_free_percent:g} %",
                    )
                )
        if facts.memory_free_percent < limits.memory_min_free_percent:
            found.append(
                ("MEMORY_LOW", f"{facts.memory_free_percent} % memory free < {limits.memory_min_free_percent:g} %")
            )
        if facts.load_per_core > limits.load_max_per_core:
            found.append(("LOAD_HIGH", f"load {facts.load_per_core} per core > {limits.load_max_per_core:g}"))
        if not found:
            return Reading(Health.OK, facts=facts)
        return Reading(Health.FAILED, found[0][0], "; ".join(reason for _, reason in found), facts)


def space(path: str) -> Space:
    """Free space as others than root have it, or free inodes if these are scarcer: mail is many small files."""
    stat = os.statvfs(path)
    usable = stat.f_blocks - stat.f_bfree + stat.f_bavail
    free = 100 * stat.f_bavail / usable if usable else 100.0
    inodes = 100 * stat.f_favail / stat.f_files if stat.f_files else 100.0
    return Space(min(free, inodes), read_only=bool(stat.f_flag & os.ST_RDONLY))
