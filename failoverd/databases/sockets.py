"""Ends TCP connections of the database server that it would otherwise wait for.

A replica whose source has gone silent (power cut, cable out) waits in the kernel: for data, for the answer to its SYN,
or, in STOP SLAVE, for a connection on which it wants to tell the dead source to end its dump thread. The kernel can end
such a socket at once: SOCK_DESTROY of the sock_diag netlink family, what `ss -K` does (CONFIG_INET_DIAG_DESTROY, in
Debian's and Red Hat's kernels; needs CAP_NET_ADMIN and the server's network namespace).

    dump sockets to SOURCE:PORT of the server's user ──> destroy each: its owner gets ECONNABORTED

Plain netlink, since pyroute2's DiagSocket leaves error answers out.
"""

from __future__ import annotations

import contextlib
import errno
import ipaddress
import os
import socket
import struct
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

NETLINK_SOCK_DIAG = 4
SOCK_DIAG_BY_FAMILY = 20
SOCK_DESTROY = 21
NLMSG_ERROR = 2
NLMSG_DONE = 3
NLM_F_REQUEST = 0x1
NLM_F_ACK = 0x4
NLM_F_DUMP = 0x300
TCP_ESTABLISHED, TCP_SYN_SENT, TCP_FIN_WAIT1, TCP_CLOSE_WAIT, TCP_LAST_ACK = 1, 2, 4, 8, 9
# Those in which an owner may still be waiting.
STATES = sum(1 << state for state in (TCP_ESTABLISHED, TCP_SYN_SENT, TCP_FIN_WAIT1, TCP_CLOSE_WAIT, TCP_LAST_ACK))
TIMEOUT_S = 0.5

_HEADER = struct.Struct("=IHHII")  # struct nlmsghdr
_REQUEST = struct.Struct("=BBBBI")  # struct inet_diag_req_v2, without its inet_diag_sockid
_ID = struct.Struct("!HH16s16s")  # struct inet_diag_sockid: ports and addresses, then =I8s interface and cookie
_ID_BYTES = 48
_MESSAGE_BYTES = 72  # struct inet_diag_msg


def end_connections(address: str, port: int, uid: int) -> int:
    """End the TCP connections, open or being opened, of user `uid` to `address`:`port`. Returns how many.

    Raises OSError where the kernel cannot (EOPNOTSUPP) or may not (EPERM), ValueError when `address` is a name.
    """
    where = ipaddress.ip_address(address)
    family = socket.AF_INET if where.version == 4 else socket.AF_INET6
    packed = where.packed.ljust(16, b"\0")
    ended = 0
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_SOCK_DIAG) as netlink:
        netlink.settimeout(TIMEOUT_S)
        netlink.bind((0, 0))
        for found in _sockets(netlink, family, port):
            _, remote_port, _, remote = _ID.unpack_from(found, 4)
            owner = struct.unpack_from("=I", found, 64)[0]
            if (remote_port, remote, owner) == (port, packed, uid):
                ended += _destroy(netlink, family, found[4 : 4 + _ID_BYTES])
    return ended


def _sockets(netlink: socket.socket, family: int, port: int) -> list[bytes]:
    """All sockets of `family` with that remote port, each as its struct inet_diag_msg."""
    wanted = _ID.pack(0, port, b"", b"").ljust(_ID_BYTES, b"\0")
    request = _REQUEST.pack(family, socket.IPPROTO_TCP, 0, 0, STATES) + wanted
    _send(netlink, SOCK_DIAG_BY_FAMILY, NLM_F_DUMP, request)
    found: list[bytes] = []
    while True:
        for kind, payload in _messages(netlink):
            if kind == NLMSG_DONE:
                return found
            if kind == NLMSG_ERROR:
                _raise(payload)
            else:
                found.append(payload[:_MESSAGE_BYTES])


def _destroy(netlink: socket.socket, family: int, identity: bytes) -> int:
    request = _REQUEST.pack(family, socket.IPPROTO_TCP, 0, 0, STATES) + identity
    _send(netlink, SOCK_DESTROY, NLM_F_ACK, request)
    for kind, payload in _messages(netlink):
        if kind == NLMSG_ERROR:
            with contextlib.suppress(FileNotFoundError):  # it went by itself meanwhile
                _raise(payload)
                return 1
    return 0


def _send(netlink: socket.socket, kind: int, flags: int, payload: bytes) -> None:
    netlink.send(_HEADER.pack(_HEADER.size + len(payload), kind, NLM_F_REQUEST | flags, 0, 0) + payload)


def _messages(netlink: socket.socket) -> Iterator[tuple[int, bytes]]:
    data = netlink.recv(1 << 17)
    while len(data) >= _HEADER.size:
        length, kind, _, _, _ = _HEADER.unpack_from(data)
        if not _HEADER.size <= length <= len(data):
            raise OSError(errno.EBADMSG, f"a netlink message of {length} bytes in {len(data)}")
        yield kind, data[_HEADER.size : length]
        data = data[(length + 3) & ~3 :]


def _raise(payload: bytes) -> None:
    number = -struct.unpack_from("=i", payload)[0]
    if number:
        raise OSError(number, os.strerror(number))
