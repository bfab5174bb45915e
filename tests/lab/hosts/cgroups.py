"""A control group a host: what belongs to it can then be found, and its systemd shares nothing with another's.

With `--keep-unit` nspawn stays in the group that it is started in. If all hosts shared one, `systemctl stop` of a unit
that runs on another host as well would hang now and then until its time-out.
"""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from pathlib import Path

from . import layout


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


def make(host: str) -> list[Path]:
    """Make the host's groups; give the files that a process writes its id to in order to join."""
    joins = []
    for hierarchy in hierarchies():
        group = hierarchy / layout.CGROUP / host
        group.mkdir(parents=True, exist_ok=True)
        joins.append(group / "cgroup.procs")
    return joins


def processes(host: str = "") -> set[int]:
    """Give the ids of all processes of a host, nspawn included; without a host, of the whole lab."""
    found: set[int] = set()
    for hierarchy in hierarchies():
        for directory, _, _ in os.walk(hierarchy / layout.CGROUP / host):
            with suppress(OSError):
                found.update(int(word) for word in (Path(directory) / "cgroup.procs").read_text().split())
    return found - {0}


def kill(host: str = "") -> None:
    """SIGKILL everything in the host's groups."""
    for pid in processes(host):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def remove(host: str = "") -> None:
    """Remove the groups; their processes must be gone."""
    for hierarchy in hierarchies():
        for directory, _, _ in os.walk(hierarchy / layout.CGROUP / host, topdown=False):
            with suppress(FileNotFoundError):
                Path(directory).rmdir()
