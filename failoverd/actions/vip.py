"""The virtual IP as a kernel address with a lifetime: it goes by itself when nobody renews it.

Lifetimes have whole seconds. The rest of the lease is rounded down, so that the address is gone before the deadline;
with less than a second left it may outlast it by a part of one. The gate beside it is exact, also for ARP.
"""

from __future__ import annotations

import errno
import socket
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pyroute2 import IPRoute  # type: ignore[import-untyped] # pyroute2 has no annotations

MOST_PREFIXES = 33  # each prefix length once


class VipError(Exception):
    """The address could not be changed. `code` is one of actions.CODES."""

    def __init__(self, code: str, reason: str) -> None:
        super().__init__(reason)
        self.code = code


# pyroute2 takes as long to load as a third of all the rest. It is loaded where it is first used, in the gate's lane: a
# daemon that is started again has its lease renewed in the store by then. The arbiter never loads it.


def _opened() -> IPRoute:
    import pyroute2  # noqa: PLC0415 - as above

    return pyroute2.IPRoute()


def _refused() -> type[Exception]:
    import pyroute2  # noqa: PLC0415 - likewise

    refused: type[Exception] = pyroute2.NetlinkError
    return refused


class _Socket(threading.local):
    """One netlink socket a thread: pyroute2's belongs to the thread that opened it, which must not run a loop."""

    _route: IPRoute | None = None

    @property
    def route(self) -> IPRoute:
        if self._route is None:
            self._route = _opened()
        return self._route

    def close(self) -> None:
        """Close this thread's."""
        route, self._route = self._route, None
        if route is not None:
            route.close()


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
        try:
            index = socket.if_nametoindex(self._interface)
        except OSError as error:
            raise VipError("VIP_NO_INTERFACE", f"{self._interface}: {error.strerror}") from error
        try:
            self._socket.route.addr(
                "replace", index=index, address=self._address, prefixlen=self._prefix, preferred=seconds, valid=seconds
            )
        except _refused() as error:
            raise self._failed(error) from error

    def remove(self) -> None:
        """Not have the address, with whatever prefix an administrator gave it. Raises VipError."""
        try:
            index = socket.if_nametoindex(self._interface)
        except OSError:
            return  # with the interface the address is gone
        try:
            for _ in range(MOST_PREFIXES):
                # Told only the local address, the kernel does not ask for the prefix.
                self._socket.route.addr("del", index=index, local=self._address, family=socket.AF_INET)
        except _refused() as error:
            if getattr(error, "code", None) != errno.EADDRNOTAVAIL:
                raise self._failed(error) from error

    def release(self) -> None:
        """Close the calling thread's socket."""
        self._socket.close()

    def _failed(self, error: Exception) -> VipError:
        return VipError("VIP_NETLINK", f"{self._address} on {self._interface}: {error}")
