"""What this process asks of its host: real-time scheduling, locked memory, no OOM killer, no core dump.

Each is used where it is allowed, and what was refused is kept, to be shown: a container refuses some of it, and
failoverd goes on without.

- SCHED_RR at the lowest priority, for the threads that keep the lease only: ahead of whatever mail does, behind the
  kernel's own threads, and in turn with others of its kind. Not FIFO: a bug that spins would then never be interrupted
  by its equals. Threads and programs started from one get ordinary scheduling again (RESET_ON_FORK).
- All that is mapped now is brought into memory and stays; what comes later is locked as it is touched (ONFAULT), so
  that a thread's stack of 8 MiB costs what it uses.
- No core dump: it would hold the passwords.
- `OOMScoreAdjust` is systemd's to set. Here it is only looked at.
"""

from __future__ import annotations

import ctypes
import os
import resource
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

PRIORITY = 1
MCL_CURRENT, MCL_FUTURE, MCL_ONFAULT = 1, 2, 4
CAP_IPC_LOCK = 14
PR_SET_DUMPABLE = 4
SPARED = -500  # of oom_score_adj: from here on the kernel looks for others first

# Every code of this module. Each has a page in runbooks/.
CODES: Mapping[str, str] = {
    "HOST_NO_REALTIME": "the host refuses real-time scheduling to failoverd",
    "HOST_NO_MEMLOCK": "the host refuses failoverd to lock its memory",
    "HOST_NO_OOM": "the kernel may end failoverd first when memory runs out",
    "GUARD_MISSING": "failoverd-guard does not run: a daemon that hangs leaves the database writable",
    "HELPER_MISSING": "failoverd-helper does not answer: this node cannot do what the daemon itself has no right to",
    "HELPER_RELEASE": "failoverd-helper is of another release than the daemon: it was not started again by the upgrade",
    "LEASH_REFUSED": "the kernel refuses to tie the database server to the lease",
}


@dataclass(frozen=True, slots=True)
class Refused:
    """What the host did not grant."""

    code: str
    reason: str


def harden(*, realtime: bool) -> tuple[Refused, ...]:
    """Lock this process's memory, and give the calling thread real-time scheduling. Returns what was refused."""
    keep_out_of_cores()
    found = [lock_memory(), spared_by_oom(), schedule_realtime() if realtime else None]
    return tuple(refused for refused in found if refused is not None)


def keep_out_of_cores() -> None:
    """Let the kernel dump nothing of this process, which holds passwords.

    LimitCORE=0 is not enough: where core_pattern is a program, the kernel pipes the core to it whatever the limit.
    """
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)


def schedule_realtime() -> Refused | None:
    """Give the calling thread SCHED_RR."""
    try:
        os.sched_setscheduler(0, os.SCHED_RR | os.SCHED_RESET_ON_FORK, os.sched_param(PRIORITY))
    except OSError as error:
        return Refused("HOST_NO_REALTIME", f"SCHED_RR is refused: {error.strerror}")
    return None


def lock_memory() -> Refused | None:
    """Keep all of this process in memory, now and later.

    Not where there is a limit: beyond it the kernel would refuse memory itself, and a thread could not be started.
    """
    limit, _ = resource.getrlimit(resource.RLIMIT_MEMLOCK)
    if limit != resource.RLIM_INFINITY and not _may_lock():
        return Refused("HOST_NO_MEMLOCK", f"RLIMIT_MEMLOCK is {limit} bytes, without CAP_IPC_LOCK")
    libc = ctypes.CDLL(None, use_errno=True)
    for flags in (MCL_CURRENT, MCL_FUTURE | MCL_ONFAULT):
        if libc.mlockall(flags) != 0:
            return Refused("HOST_NO_MEMLOCK", f"mlockall is refused: {os.strerror(ctypes.get_errno())}")
    return None


def spared_by_oom() -> Refused | None:
    """Look whether the kernel, when memory runs out, ends others before this process."""
    try:
        score = int(Path("/proc/self/oom_score_adj").read_text())
    except (OSError, ValueError) as error:
        return Refused("HOST_NO_OOM", f"oom_score_adj cannot be read: {error}")
    if score > SPARED:
        return Refused("HOST_NO_OOM", f"oom_score_adj is {score}, not {SPARED} or less")
    return None


def _may_lock() -> bool:
    for line in Path("/proc/self/status").read_text().splitlines():
        name, _, value = line.partition(":")
        if name == "CapEff":
            return bool(int(value, 16) >> CAP_IPC_LOCK & 1)
    return False
