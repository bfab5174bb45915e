"""Who has the virtual IP: this node's interface, and whoever answers for it on the wire.

The kernel is asked over netlink, by way of getifaddrs: 0.06 ms, where a dump with pyroute2 takes 1 ms. The wire is
asked by an ARP probe, as RFC 5227 has it: its sender address is 0.0.0.0, so that nobody's ARP cache learns anything
from it. Every holder answers, but for this node itself.

    ARP who-has VIP tell 0.0.0.0 ──broadcast──>   <──unicast── VIP is-at 02:...   (one line a holder)
"""

from __future__ import annotations

import asyncio
import errno
import ipaddress
import socket
import struct
from typing import TYPE_CHECKING

import psutil

from failoverd.core.model import Health, Reading, VipFacts
from failoverd.probes.deadline import current

if TYPE_CHECKING:
    from failoverd.ports import Target

_ETH_P_ARP = 0x0806
_BROADCAST = b"\xff" * 6
_ARP = struct.Struct("!HHBBH6s4s6s4s")  # RFC 826: hardware, protocol, their lengths, operation, sender, target
_ETHERNET, _IPV4, _REQUEST = 1, 0x0800, 1
_UNKNOWN_HARDWARE, _UNKNOWN_ADDRESS = b"\0" * 6, b"\0" * 4


class VipProbe:
    """Reads `VipFacts`. FAILED when the address has two holders, of whom one may be this node."""

    def __init__(self, *, interface: str, address: str, window_ms: int = 200) -> None:
        self._interface = interface
        self._address = str(ipaddress.IPv4Address(address))
        self._wanted = ipaddress.IPv4Address(address).packed
        self._window_ms = window_ms  # how long answers are waited for; a holder on a LAN takes about 1 ms

    async def read(self, target: Target) -> Reading:  # noqa: ARG002 - it only ever looks at this node
        """Look once; see `ports.Probe`."""
        current().stage("VIP_CANNOT_LOOK", f"{self._interface} could not be looked at", Health.UNKNOWN)
        try:
            before, own = self._ours()
            others = await self._claims() - own
            present, _ = self._ours()
        except OSError as error:
            return self._failed(error)
        facts = VipFacts(present, tuple(sorted(others)))
        # Who had it only for a part of the window may have handed it over to the other in good order.
        holders = sorted(others) + (["this node"] if before and present else [])
        if len(holders) > 1:
            reason = f"{self._address} is held by {' and '.join(holders)}"
            return Reading(Health.FAILED, "VIP_DUPLICATE", reason, facts)
        return Reading(Health.OK, facts=facts)

    def _ours(self) -> tuple[bool, set[str]]:
        """Whether the interface has the address, and all hardware addresses of this node.

        All, because another of its interfaces on the same wire answers, too. An IPv4 address with a label of its own
        (`eth0:vip`) is listed under that.
        """
        present, own = False, set()
        for name, addresses in psutil.net_if_addrs().items():
            for found in addresses:
                if found.family == psutil.AF_LINK:
                    own.add(found.address)
                elif found.address == self._address and name.partition(":")[0] == self._interface:
                    present = True
        return present, own

    async def _claims(self) -> set[str]:
        """Ask, and return the hardware addresses that claim the virtual IP within the window."""
        found: set[str] = set()
        loop = asyncio.get_running_loop()
        arp = socket.htons(_ETH_P_ARP)
        with socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK, arp) as sock:
            sock.bind((self._interface, _ETH_P_ARP))
            hardware: bytes = sock.getsockname()[4]
            sock.sendto(self._question(hardware), (self._interface, _ETH_P_ARP, 0, 0, _BROADCAST))
            loop.add_reader(sock, self._receive, sock, found)
            try:
                await asyncio.sleep(self._window_ms / 1000)
            finally:
                loop.remove_reader(sock)
        return found

    def _question(self, hardware: bytes) -> bytes:
        return _ARP.pack(_ETHERNET, _IPV4, 6, 4, _REQUEST, hardware, _UNKNOWN_ADDRESS, _UNKNOWN_HARDWARE, self._wanted)

    def _receive(self, sock: socket.socket, found: set[str]) -> None:
        try:
            frame = sock.recv(64)
        except OSError:
            return  # the window ends soon enough
        if len(frame) < _ARP.size:
            return
        hardware, protocol, _, _, _, sender, claimed, _, _ = _ARP.unpack_from(frame)
        if (hardware, protocol, claimed) == (_ETHERNET, _IPV4, self._wanted):
            found.add(sender.hex(":"))

    def _failed(self, error: OSError) -> Reading:
        if error.errno == errno.ENETDOWN:
            return Reading(Health.FAILED, "VIP_NO_INTERFACE", f"{self._interface} is down")
        if error.errno in (errno.ENODEV, errno.ENXIO):
            return Reading(Health.FAILED, "VIP_NO_INTERFACE", f"this node has no interface {self._interface}")
        reason = f"{self._interface} could not be looked at: {error.strerror or type(error).__name__}"
        return Reading(Health.UNKNOWN, "VIP_CANNOT_LOOK", reason)
