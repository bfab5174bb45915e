"""What runs on this host: its units, addresses, listening ports, programs. Nothing is changed by looking.

What cannot be looked at is left out, and `propose` then has no proposal from it: each is a help, none is a must.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import shutil
import socket
import subprocess
from ipaddress import IPv4Network
from typing import TYPE_CHECKING

import psutil

from failoverd.core.model import NodeName, VipFacts
from failoverd.ports import Target
from failoverd.probes.vip import VipProbe
from failoverd.setup.found import Found, HostAddress

if TYPE_CHECKING:
    from collections.abc import Iterable

    from failoverd.setup.found import DatabaseFound, MailFound

# The units that the configuration may name, and those of other programs that move addresses.
UNITS = (
    "dovecot.service", "postfix@-.service", "postfix.service", "mariadb.service", "mysql.service", "mysqld.service",
    "failoverd.service", "keepalived.service", "pacemaker.service",
)  # fmt: skip
PROGRAMS = ("postsuper", "postcat", "postconf", "doveadm", "mariadb-backup", "nft", "systemctl")
SYSTEM_PATH = "/usr/sbin:/usr/bin:/sbin:/bin"
WITHIN_S = 5.0
WINDOW_MS = 1000  # for answers about the virtual IP: a machine that sleeps may take its time
_LOOPBACK = "lo"


def host(mail: MailFound, database: DatabaseFound | str) -> Found:
    """Everything but mail and database, which were asked by themselves."""
    return Found(
        host=socket.gethostname(),
        addresses=addresses(),
        units=units(UNITS),
        ports=ports(),
        programs=frozenset(name for name in PROGRAMS if shutil.which(name, path=SYSTEM_PATH)),
        mail=mail,
        database=database,
    )


def output(*command: str, within_s: float = WITHIN_S) -> str:
    """What a program prints; "" where there is none, or it fails or hangs. No secret in `command`."""
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        path = shutil.which(command[0], path=SYSTEM_PATH)
        if path is not None:
            done = subprocess.run(  # noqa: S603 - literal names, no shell
                [path, *command[1:]],
                capture_output=True,
                text=True,
                errors="replace",
                timeout=within_s,
                check=False,
                stdin=subprocess.DEVNULL,
            )
            return done.stdout if done.returncode == 0 else ""
    return ""


def addresses() -> tuple[HostAddress, ...]:
    """The IPv4 addresses of this host that others may reach, in the kernel's order."""
    return tuple(
        HostAddress(name.partition(":")[0], each.address, IPv4Network(f"0.0.0.0/{each.netmask}").prefixlen)
        for name, found in psutil.net_if_addrs().items()
        for each in found
        if each.family == socket.AF_INET and not each.address.startswith("127.")
    )


def units(names: Iterable[str]) -> dict[str, str]:
    """The ActiveState of those that systemd knows; empty where no systemd answers."""
    text = output("systemctl", "show", "--property=Id,LoadState,ActiveState", *names)
    blocks = [dict(re.findall(r"^(\w+)=(.*)$", block, re.MULTILINE)) for block in text.split("\n\n")]
    return {block["Id"]: block["ActiveState"] for block in blocks if block.get("LoadState") == "loaded"}


def ports() -> frozenset[int]:
    """The TCP ports that are listened on at more than the loopback."""
    try:
        connections = psutil.net_connections(kind="tcp")
    except (psutil.Error, OSError):
        return frozenset()
    listening = (found.laddr for found in connections if found.status == psutil.CONN_LISTEN and found.laddr)
    return frozenset(address.port for address in listening if not address.ip.startswith("127.") and address.ip != "::1")


def name_of(address: str) -> str:
    """The first label of an address's name, by reverse look-up with an end; "" where there is none."""
    words = output("getent", "hosts", address, within_s=2.0).split()
    return words[1].partition(".")[0].lower() if len(words) > 1 else ""


def file_system(path: str) -> str:
    """The type of the file system that `path` is on, by the kernel's list of mounts; "" where it is not known."""
    best, kind = "", ""
    with contextlib.suppress(OSError), open("/proc/self/mounts", encoding="utf-8", errors="replace") as mounts:  # noqa: PTH123 - the kernel's
        for line in mounts:
            point, type_ = line.split()[1:3]
            inside = path == point or path.startswith(point.rstrip("/") + "/")
            if inside and len(point) >= len(best):
                best, kind = point, type_
    return kind


def holders(interface: str, address: str) -> tuple[str, ...]:
    """The hardware addresses that answer for `address` on the wire and are not this host's; see probes/vip.py.

    Raises OSError where it cannot be asked.
    """
    if interface == _LOOPBACK:  # nobody else is on it
        return ()
    probe = VipProbe(interface=interface, address=address, window_ms=WINDOW_MS)
    reading = asyncio.run(probe.read(Target(NodeName(""), address)))
    if not isinstance(reading.facts, VipFacts):
        raise OSError(0, reading.reason)
    return reading.facts.others
