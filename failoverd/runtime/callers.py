"""Who is at the other end of a connection, by what the kernel or TLS says of it; nothing that the caller says counts.

    Unix socket   SO_PEERCRED, SO_PEERGROUPS: user and groups at the moment of connecting
                  /proc/PID/loginuid: who logged in, which sudo and su leave as it is
    TLS           the CN of a certificate that OpenSSL has verified, where it is an operator's

The login name is the kernel's word about a process number. It is read when the connection is accepted, and only
believed of a process that still has the user of the connection: a number may have been given to another process
meanwhile. What somebody may do never depends on it.
"""

from __future__ import annotations

import ctypes
import errno
import re
import socket
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from failoverd.tls import operator_name

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Hashable

_PEERCRED = struct.Struct("iII")  # socket(7): pid, uid, gid
_SO_PEERGROUPS = 59  # since Linux 4.13; the socket module has no name for it
_USUAL_GROUPS = 256
_NOBODY = 0xFFFFFFFF  # no login: a service, or a kernel that does not keep it
_LIBC = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True, slots=True)
class LocalCaller:
    """A process of this host. `login`: the user who logged in, where that is known."""

    uid: int
    groups: frozenset[int]
    login: int | None = None


@dataclass(frozen=True, slots=True)
class RemoteCaller:
    """Somebody elsewhere. `name`: that of an operator's certificate; "" where it is none."""

    name: str
    address: str


Caller = LocalCaller | RemoteCaller


def local_caller(transport: asyncio.Transport) -> tuple[LocalCaller, Hashable]:
    """Who has connected to a Unix socket, and what connections are counted by."""
    connection: socket.socket = transport.get_extra_info("socket")
    pid, uid, gid = _PEERCRED.unpack(connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEERCRED.size))
    groups = frozenset({gid, *_supplementary(connection.fileno())})
    return LocalCaller(uid, groups, login_of(pid, uid)), uid


def remote_caller(transport: asyncio.Transport) -> tuple[RemoteCaller, Hashable]:
    """Who has connected by TLS, and what connections are counted by."""
    peer = transport.get_extra_info("peername")
    address = str(peer[0]) if peer else "?"  # one that is gone already
    return RemoteCaller(operator_name(transport.get_extra_info("peercert")) or "", address), address


def _supplementary(descriptor: int) -> list[int]:
    """All of them: socket.getsockopt takes no more than 1024 bytes, and a process may have 65536 groups.

    A kernel that cannot tell (before 4.13) tells none: then only users and primary groups let anybody in.
    """
    room = _USUAL_GROUPS
    while True:
        groups = (ctypes.c_uint32 * room)()
        size = ctypes.c_uint32(ctypes.sizeof(groups))
        if _LIBC.getsockopt(descriptor, socket.SOL_SOCKET, _SO_PEERGROUPS, groups, ctypes.byref(size)) == 0:
            return list(groups[: size.value // 4])
        number = ctypes.get_errno()
        if number != errno.ERANGE:
            return []
        room = size.value // 4  # what the kernel asks for


def login_of(pid: int, uid: int, proc: Path = Path("/proc")) -> int | None:
    """The login user of a process that runs as `uid`; None where there is none, or it is gone or hidden."""
    try:
        login = int((proc / str(pid) / "loginuid").read_bytes())
        status = (proc / str(pid) / "status").read_bytes()
    except (OSError, ValueError):
        return None
    effective = re.search(rb"^Uid:\t\d+\t(\d+)", status, re.MULTILINE)
    return login if login != _NOBODY and effective is not None and int(effective[1]) == uid else None
