"""Limits of the mail servers for what comes from one address: a drill's whole load does.

What refuses the load's people refuses nobody else, and yet looks like a slow or broken server in the report. So it is
told before (DRILL_LIMITS); a warning and no refusal, since a server may be set up in ways that are not known here.

    each node's agent       read():      doveconf, /proc/sys                      ──> NodeFacts.limits
    the coordinator         too_low():   what so many people by so many accounts need ──> words
"""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

USERIP = "mail_max_userip_connections"
PROCESSES, CLIENTS = "default_process_limit", "default_client_limit"
LOGIN, IMAP = "service/imap-login", "service/imap"
DOVECOT = (
    USERIP,
    PROCESSES,
    CLIENTS,
    *(f"{LOGIN}/{name}" for name in ("process_limit", "client_limit", "service_count")),
    f"{IMAP}/process_limit",
    f"{IMAP}/client_limit",
)
INSTANCES = "fs.inotify.max_user_instances"
_INSTANCES_AT = Path("/proc/sys/fs/inotify/max_user_instances")
ASK_S = 5.0
_NUMBER = re.compile(r"[0-9]{1,18}")


def read(doveconf: tuple[str, ...] = ("doveconf",), instances: Path = _INSTANCES_AT) -> dict[str, int]:
    """Ask this node. What cannot be asked, or is of another Dovecot, is left out: it is not spoken of. Blocks."""
    found: dict[str, int] = {}
    try:
        command = [*doveconf, "-h", *DOVECOT]
        asked = subprocess.run(command, capture_output=True, text=True, check=False, timeout=ASK_S)  # noqa: S603 - its own
        found |= numbers(asked.stdout) if asked.returncode == 0 else {}
        found[INSTANCES] = int(instances.read_text())
    except (OSError, subprocess.TimeoutExpired):
        return found
    return found


def numbers(printed: str) -> dict[str, int]:
    """What doveconf has printed, by name; what is no number of a limit's size is left out."""
    values = printed.split("\n")[:-1]
    if len(values) != len(DOVECOT):  # a name that is not known has no line
        return {}
    return {name: int(value) for name, value in zip(DOVECOT, values, strict=True) if _NUMBER.fullmatch(value)}


def too_low(limits: Mapping[str, int], *, users: int, accounts: int) -> Iterator[str]:
    """What would refuse some of `users` people, who share so many accounts and come from one address."""
    if not users or not accounts:
        return
    each = -(-users // accounts) + 1  # sessions of one account, and its fresh login
    if 0 < limits.get(USERIP, 0) < each:
        yield f"{USERIP} = {limits[USERIP]}: {users} users by {accounts} accounts need {each}"
    for service, words in ((LOGIN, "with TLS a login process stays for the session"), (IMAP, "a process a session")):
        room = _room(limits, service)
        if room is not None and room < users + 1:
            yield f"{service} has room for {room} sessions ({words}): {users} users need {users + 1}"
    if 0 < limits.get(INSTANCES, 0) < users:
        why = "an idle session has one of them, all as one user where mail has one owner"
        yield f"{INSTANCES} = {limits[INSTANCES]} ({why}): {users} users need {users}"


def _room(limits: Mapping[str, int], service: str) -> int | None:
    """How many sessions a service of Dovecot has at most; None: not known. 0 is the default's."""
    processes = limits.get(f"{service}/process_limit") or limits.get(PROCESSES)
    clients = limits.get(f"{service}/client_limit") or limits.get(CLIENTS)
    if not processes or not clients:
        return None
    return processes if limits.get(f"{service}/service_count") == 1 else processes * clients
