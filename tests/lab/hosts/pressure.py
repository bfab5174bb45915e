"""A host that runs out of memory: a limit on all that it asks for from now on, set from outside.

The limit is the memory controller's, in a group that the host's processes are moved into; what they have already is
not counted. At the limit the kernel first takes back what it can, which slows everybody down, then kills the largest.
"""

from __future__ import annotations

import time
from contextlib import suppress
from pathlib import Path

from . import cgroups, layout
from .shell import LabError

_CONTROLLER = Path("/sys/fs/cgroup/memory")
_GROUP = f"{layout.CGROUP}-memory"


def _group(host: str) -> Path:
    return _CONTROLLER / f"{_GROUP}-{host}"


def squeeze(host: str, spare_mb: int) -> None:
    """Let the host have only so much more than it has now."""
    group = _group(host)
    try:
        group.mkdir(exist_ok=True)
    except OSError as error:
        raise LabError(f"this kernel limits no memory: {error.strerror}") from error
    for _ in range(3):  # what is born while the others are moved is not there the first time
        for number in cgroups.processes(cgroups.group_of(host)):
            with suppress(OSError):
                (group / "cgroup.procs").write_text(str(number))
    (group / "memory.limit_in_bytes").write_text(str(spare_mb << 20))


def release(host: str) -> None:
    """Lift the limit."""
    group = _group(host)
    if not group.exists():
        return
    with suppress(OSError):
        (group / "memory.limit_in_bytes").write_text("-1")
    for number in (group / "cgroup.procs").read_text().split():
        with suppress(OSError):
            (_CONTROLLER / "cgroup.procs").write_text(number)
    for _ in range(50):
        with suppress(OSError):
            group.rmdir()
            return
        time.sleep(0.02)  # whoever is dying still counts


def remove_all() -> None:
    """Remove the groups that are left; their processes are gone."""
    for host in layout.HOSTS:
        release(host)
