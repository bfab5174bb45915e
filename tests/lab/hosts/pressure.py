"""A host that runs out of memory: a limit a little above what it uses, set from outside.

The limit is the memory controller's, in a group that the host's processes are moved into with all they use. At the
limit the kernel first takes back what it can, which slows everybody down, then kills the largest: often the database.
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
    """Limit the host to what it uses now and a little more."""
    group = _group(host)
    try:
        group.mkdir(exist_ok=True)
        (group / "memory.move_charge_at_immigrate").write_text("1")
    except OSError as error:
        raise LabError(f"this kernel limits no memory: {error.strerror}") from error
    for _ in range(3):  # what is born while the others are moved is not there the first time
        for number in cgroups.processes(cgroups.group_of(host)):
            with suppress(OSError):
                (group / "cgroup.procs").write_text(str(number))
    limit = int((group / "memory.usage_in_bytes").read_text()) + (spare_mb << 20)
    (group / "memory.limit_in_bytes").write_text(str(limit))


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
