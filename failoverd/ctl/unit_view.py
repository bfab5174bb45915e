"""What failoverd.service may do with what a configuration names: less than root at a terminal.

A daemon that cannot read one of them does not come back from a restart, and a primary would lose its role by that. So
`failoverctl config check`, which the Debian package asks before it restarts anything, looks with the unit's eyes. What
the unit may is asked of systemd, which knows the administrator's drop-ins as well.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

from failoverd.core.model import NodeKind

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from failoverd.config import Config

UNIT = "failoverd.service"
PROPERTIES = ("LoadState", "CapabilityBoundingSet", "ProtectHome", "PrivateTmp", "ProtectSystem", "ReadWritePaths")
OWN = (Path("/var/lib/failoverd"), Path("/run/failoverd"))  # StateDirectory=, RuntimeDirectory=
HOMES, TEMPORARY = (Path("/home"), Path("/root"), Path("/run/user")), (Path("/tmp"), Path("/var/tmp"))  # noqa: S108 - looked for
PAST_OWNERS = {"cap_dac_override", "cap_dac_read_search"}
PRIVILEGED = 1024  # ports below
ASK_S = 5.0


def of_this_node(config: Config, read: Iterable[Path]) -> Iterator[str]:
    """The same of what a configuration needs, which was read from `read`, and of the unit that is installed here."""
    unit = properties()
    if not unit:
        return
    sockets = [config.database.socket] if config.this.kind is NodeKind.DATA else []
    listeners = ((True, config.peer.port), (config.http.enabled, config.http.port))
    remote = (config.access.remote.enabled, config.access.remote.port)
    yield from unfit(
        unit,
        reads=[*read, *sockets],
        writes=[config.audit.directory, config.alerts.queue.directory],
        ports=[port for enabled, port in (*listeners, remote) if enabled],
    )


def properties() -> dict[str, str]:
    """Those of the unit as systemd would start it; none where no systemd runs, or it does not know the unit."""
    systemctl = shutil.which("systemctl")
    if systemctl is None:
        return {}
    command = [systemctl, "show", f"--property={','.join(PROPERTIES)}", UNIT]
    try:
        shown = subprocess.run(command, capture_output=True, text=True, timeout=ASK_S, check=False).stdout  # noqa: S603 - literal
    except (OSError, subprocess.TimeoutExpired):
        return {}
    found = dict(line.split("=", 1) for line in shown.splitlines() if "=" in line)
    return found if found.get("LoadState") == "loaded" else {}


def unfit(
    unit: Mapping[str, str], *, reads: Iterable[Path] = (), writes: Iterable[Path] = (), ports: Iterable[int] = ()
) -> Iterator[str]:
    """What a unit with these properties cannot read, write to or listen on, and why."""
    for path in dict.fromkeys(reads):
        why = _not_seen(unit, path) or _not_readable(unit, path)
        if why:
            yield f"{path}: {UNIT} cannot read it: {why}"
    for path in dict.fromkeys(writes):
        why = _not_seen(unit, path) or _not_writable(unit, path)
        if why:
            yield f"{path}: {UNIT} cannot write there: {why}"
    for port in ports:
        if port < PRIVILEGED and "cap_net_bind_service" not in unit.get("CapabilityBoundingSet", "").split():
            yield f"port {port}: {UNIT} cannot listen there: it has no CAP_NET_BIND_SERVICE"


def _not_seen(unit: Mapping[str, str], path: Path) -> str:
    for key, hidden, without in (
        ("ProtectHome", HOMES, {"no", "read-only", ""}),
        ("PrivateTmp", TEMPORARY, {"no", ""}),
    ):
        below = next((place for place in hidden if _real(path).is_relative_to(place)), None)
        if below is not None and unit.get(key, "") not in without:
            return f"it does not see {below} ({key}={unit[key]})"
    return ""


def _not_readable(unit: Mapping[str, str], path: Path) -> str:
    """Root's own files and those of everybody: it has no right to pass over other owners."""
    if PAST_OWNERS & set(unit.get("CapabilityBoundingSet", "cap_dac_override").split()):
        return ""
    real = _real(path)
    for place, bit, what in ((real, 4, "read"), *((above, 1, "pass through") for above in real.parents)):
        try:
            found = place.stat()
        except OSError:
            continue  # what is not there has been said before
        shift = 6 if found.st_uid == 0 else 3 if found.st_gid == 0 else 0
        if not found.st_mode >> shift & bit:
            mode = f"mode {found.st_mode & 0o7777:04o}"
            return f"{place} is of user {found.st_uid}, who does not let root {what} it ({mode})"
    return ""


def _not_writable(unit: Mapping[str, str], path: Path) -> str:
    if unit.get("ProtectSystem") != "strict":
        return ""
    places = [*OWN, *(Path(word.lstrip("-+")) for word in unit.get("ReadWritePaths", "").split())]
    if any(_real(path).is_relative_to(_real(place)) for place in places):
        return ""
    return "it is not among its ReadWritePaths="


def _real(path: Path) -> Path:
    return Path(os.path.realpath(path))
