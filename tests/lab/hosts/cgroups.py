"""A control group a host: what belongs to it can then be found, and its systemd shares nothing with another's.

With `--keep-unit` nspawn stays in the group that it is started in. If all hosts shared one, `systemctl stop` of a unit
that runs on another host as well would hang now and then until its time-out.
"""

from __future__ import annotations

import errno
import os
import shlex
import signal
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from . import layout
from .shell import wait_for

if TYPE_CHECKING:
    from collections.abc import Sequence


def hierarchies() -> list[Path]:
    """Where systemd's groups live: the unified hierarchy, and the name=systemd one where there still is one."""
    places = []
    for line in Path("/proc/self/mounts").read_text().splitlines():
        _, place, kind, options, *_ = line.split()
        if not place.startswith("/sys/fs/cgroup"):
            continue
        if kind == "cgroup2" or (kind == "cgroup" and "name=systemd" in options.split(",")):
            places.append(Path(place))
    return places


def group_of(host: str) -> str:
    """Name the group of a host."""
    return f"{layout.CGROUP}/{host}"


def joining(group: str, command: Sequence[str]) -> list[str]:
    """Make the group; give the command line that joins it and then becomes the command."""
    joins = "".join(f"echo $$ >{shlex.quote(str(path))}; " for path in _make(group))
    return ["sh", "-c", f'{joins}exec "$@"', "sh", *command]


def _make(group: str) -> list[Path]:
    """Make the groups; give the files that a process writes its id to in order to join."""
    joins = []
    for hierarchy in hierarchies():
        place = hierarchy / group
        place.mkdir(parents=True, exist_ok=True)
        joins.append(place / "cgroup.procs")
    return joins


def processes(group: str) -> set[int]:
    """Give the ids of all processes of a group and those below it; a host's include its nspawn."""
    found: set[int] = set()
    for hierarchy in hierarchies():
        for directory, _, _ in os.walk(hierarchy / group):
            with suppress(OSError):
                found.update(int(word) for word in (Path(directory) / "cgroup.procs").read_text().split())
    return found - {0}


def kill(group: str) -> None:
    """SIGKILL everything in the group."""
    for pid in processes(group):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def remove(group: str) -> None:
    """Remove the group; its processes must be gone, and are reaped within moments."""
    for hierarchy in hierarchies():
        for directory, _, _ in os.walk(hierarchy / group, topdown=False):
            wait_for(f"{directory} is empty", partial(_removed, Path(directory)), 10, every_s=0.01)


def _removed(place: Path) -> bool:
    try:
        place.rmdir()
    except FileNotFoundError:
        return True
    except OSError as error:
        if error.errno != errno.EBUSY:  # a process that has ended is in its group until its parent has looked
            raise
        return False
    return True
