"""The virtual IP as a kernel address with a lifetime: it goes by itself when nobody renews it.

Lifetimes have whole seconds. The rest of the lease is rounded down, so that the address is gone before the deadline;
with less than a second left it may outlast it by a part of one. The gate beside it is exact, also for ARP.
"""

from __future__ import annotations

import errno
import socket
import threading

from pyroute2 import IPRoute  # type: ignore[import-untyped] # pyroute2 has no annotations
from pyroute2.netlink.exceptions import NetlinkError  # type: ignore[import-untyped] # likewise


class VipError(Exception):
    """The address could not be changed. `code` is one of actions.CODES."""

    def __init__(self, code: str, reason: str) -> None:
        super().__init__(reason)
        self.code = code


class _Socket(threading.local):
    """One netlink socket a thread: pyroute2's belongs to the thread that opened it, which must not run a loop."""

    _opened: IPRoute | None = None

    @property
    def route(self) -> IPRoute:
        if self._opened is None:
            self._opened = IPRoute()
        return self._opened


class Vip:
    """One address on one interface. Each call is one netlink request, well below 1 ms."""

    def __init__(self, interface: str, address: str, prefix: int) -> None:
        self._interface = interface
        self._address = address
        self._prefix = prefix
        self._socket = _Socket()

    def keep(self, rest_ms: int) -> None:
        """Have the address for at most `rest_ms`; a permanent one is given this lifetime in place. Raises VipError."""
        seconds = max(rest_ms // 1000, 1)
        self._ask("replace", preferred=seconds, valid=seconds)

    def remove(self) -> None:
        """Not have the address. Raises VipError."""
        self._ask("del")

    def _ask(self, verb: str, **lifetimes: int) -> None:
        try:
            index = socket.if_nametoindex(self._interface)
        except OSError as error:
            if verb == "del":
                return  # with the interface the address is gone
            raise VipError("VIP_NO_INTERFACE", f"{self._interface}: {error.strerror}") from error
        try:
            self._socket.route.addr(verb, index=index, address=self._address, prefixlen=self._prefix, **lifetimes)
        except NetlinkError as error:
            if verb == "del" and error.code == errno.EADDRNOTAVAIL:
                return
            raise VipError("VIP_NETLINK", f"{self._address} on {self._interface}: {error}") from error
