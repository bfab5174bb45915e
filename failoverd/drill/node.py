"""What a node knows of itself when a drill is to begin, and where it keeps the evidence of one that has ended."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from failoverd import __version__
from failoverd.actions.mount import mounted_at
from failoverd.config import membership_digest
from failoverd.core.model import NodeKind
from failoverd.drill import limits
from failoverd.drill.model import NodeFacts
from failoverd.drill_files import DIRECTORY, PAGE, REPORT, STATE

if TYPE_CHECKING:
    from failoverd.actions.mount import Mounted
    from failoverd.config import Config
    from failoverd.drill.faults import Host

# What must go on while a file system stands still: the system itself, its log, failoverd and its record.
SUBVOLUMES = ("btrfs", "bcachefs")
NEEDED = ("/", "/run", "/tmp", "/var/log", "/var/log/journal", "/usr", "/etc", "/opt/failoverd", "/var/lib/failoverd")  # noqa: S108 - a name


def facts_of(config: Config, host: Host, drill: str) -> NodeFacts:
    """Look at this node. Blocks."""
    data = config.this.kind is NodeKind.DATA
    return NodeFacts(
        node=config.this.name,
        software=__version__,
        digest=membership_digest(config),
        enabled=config.drill.enabled,
        faults=tuple(config.drill.allow),
        drill=drill,
        fault=bool(host.drill()),
        free_bytes=_free(config.drill.backup.directory) if data else None,
        data_bytes=_size(config.rebuild.data) if data else None,
        frozen_ok=unfreezable(config) if data else "",
        limits=limits.read() if data else {},
    )


def unfreezable(config: Config) -> str:
    """Why `drill.disk` must not be frozen here; "" where it may, or where there is none."""
    disk = config.drill.disk
    if disk is None:
        return ""
    if not os.path.ismount(disk):
        return f"{disk} is no mount point: all of the file system that it lies on would stand still"
    mounts = Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="surrogateescape")
    device, volume = disk.stat().st_dev, _volume(disk, mounts)
    for needed in (*NEEDED, str(config.audit.directory)):
        place = Path(needed)
        if not place.exists():
            continue
        if place.stat().st_dev == device or (volume is not None and _volume(place, mounts) == volume):
            return f"{disk} is the file system of {needed} as well"
    return ""


def _volume(place: Path, mounts: str) -> Mounted | None:
    """What a file system with subvolumes is mounted from: a freeze stops all of them, whose devices differ."""
    for directory in (place, *place.parents):
        mounted = mounted_at(str(directory), mounts)
        if mounted is not None:
            return mounted if mounted.type in SUBVOLUMES else None
    return None


def _free(directory: Path) -> int:
    """Of the file system that a directory lies on, or will."""
    while not directory.exists():
        directory = directory.parent
    return shutil.disk_usage(directory).free


def _size(directory: Path) -> int:
    return sum(path.stat().st_size for path in directory.rglob("*") if path.is_file() and not path.is_symlink())


def keep_report(state: Path, drill: str, stand: str, report: str, page: str) -> None:
    """Keep what another node's drill came to. Raises OSError."""
    place = state / DIRECTORY / drill
    place.mkdir(parents=True, exist_ok=True, mode=0o750)
    for name, text in ((REPORT, report), (PAGE, page), (STATE, stand)):
        temporary = place / f".{name}.new"
        temporary.write_text(text)
        temporary.replace(place / name)
